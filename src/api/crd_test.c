/* Custom resource definitions over HTTP: from the definition to its objects, and back to nothing. */
#include "api/api_testing_priv.h"
#include "api/api_priv.h"

#define CRDS "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
#define TABS "/apis/stable.example.com/v1/namespaces/default/crontabs"
#define OLD_TABS "/apis/stable.example.com/v1beta1/namespaces/default/crontabs"
#define MERGE "application/merge-patch+json"

/* A schema's spec; the definition of crontabs.stable.example.com with it in both versions, of which v1 is stored. */
#define SPEC                                                                                                                                         \
    "{'type':'object','required':['cron'],'properties':{'cron':{'type':'string','pattern':'^[0-9* ]+$'},'replicas':{'type':'integer','minimum':1,"   \
    "'maximum':10,'default':1}}}"
#define SCHEMA                                                                                                                                       \
    "{'openAPIV3Schema':{'type':'object','properties':{'spec':" SPEC ",'status':{'type':'object','properties':{'replicas':{'type':'integer'},"       \
    "'sel':{'type':'string'}}}}}}"
#define SUBRESOURCES                                                                                                                                 \
    "'subresources':{'status':{},'scale':{'specReplicasPath':'.spec.replicas','statusReplicasPath':'.status.replicas','labelSelectorPath':"          \
    "'.status.sel'}}"
#define NAMES(plural, kind, short_) "{'plural':'" plural "','kind':'" kind "','shortNames':['" short_ "']}"
#define CRONTABS                                                                                                                                     \
    "{'apiVersion':'apiextensions.k8s.io/v1','kind':'CustomResourceDefinition','metadata':{'name':'crontabs.stable.example.com'},'spec':{'group':"   \
    "'stable.example.com','scope':'Namespaced','names':" NAMES(                                                                                      \
        "crontabs", "CronTab", "ct") ",'versions':[{'name':'v1','served':true,'storage':true,"                                                       \
                                     "'schema':" SCHEMA "," SUBRESOURCES                                                                             \
                                     ",'additionalPrinterColumns':[{'name':'Cron','type':'string','jsonPath':'.spec.cron'}],"                        \
                                     "'selectableFields':[{'jsonPath':'.spec.cron'}]},"                                                              \
                                     "{'name':'v1beta1','served':true,'storage':false,'deprecated':true,'schema':" SCHEMA "}]}}"

static const char *quoted(struct fixture *fixture, const char *text_) {
    char *copy = arena_strdup(fixture->arena, text_);
    for (char *at = copy; *at; at++)
        *at = *at == '\'' ? '"' : *at;
    return copy;
}

static struct reply send_to(struct fixture *fixture, const char *method, const char *target, const char *body) {
    return ask(fixture, method, target, quoted(fixture, body));
}

static struct reply patch(struct fixture *fixture, const char *target, const char *type, const char *body) {
    return ask_as(fixture, "PATCH", target, type, quoted(fixture, body), NULL);
}

static struct reply create_tab(struct fixture *fixture, const char *name, const char *spec) {
    return send_to(
        fixture, "POST", TABS,
        arena_printf(fixture->arena, "{'apiVersion':'stable.example.com/v1','kind':'CronTab','metadata':{'name':'%s'},'spec':%s}", name, spec));
}

static const char *condition(const struct reply *reply, const char *type, const char *part) {
    const struct tree *list = tree_path(reply->tree, "status.conditions");
    for (size_t i = 0; i < tree_count(list); i++)
        if (!strcmp(tree_text_or(tree_find(tree_at(list, i), "type"), ""), type))
            return tree_text_or(tree_find(tree_at(list, i), part), "");
    return "";
}

/* Asks until the answer is that. */
static struct reply ask_until(struct fixture *fixture, const char *target, int status) {
    struct reply reply = {.status = 0};
    for (int i = 0; i < TURNS_MAX && reply.status != status; i++)
        reply = ask(fixture, "GET", target, NULL);
    assert_int_equal(reply.status, status);
    return reply;
}

UNIT_TEST(a_definition_serves_at_once) {
    struct fixture *fixture = *state;
    assert_int_equal(ask(fixture, "GET", TABS, NULL).status, 404);
    struct reply reply = send_to(fixture, "POST", CRDS, CRONTABS);
    assert_int_equal(reply.status, 201);
    assert_string_equal(condition(&reply, "Established", "status"), "True");
    assert_string_equal(condition(&reply, "NamesAccepted", "reason"), "NoConflicts");
    assert_string_equal(text(&reply, "status.acceptedNames.listKind"), "CronTabList");
    assert_string_equal(text(&reply, "spec.names.singular"), "crontab");
    assert_string_equal(tree_text_or(tree_at(tree_path(reply.tree, "status.storedVersions"), 0), ""), "v1");
    reply = ask(fixture, "GET", TABS, NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "kind"), "CronTabList");
    reply = ask(fixture, "GET", "/apis/stable.example.com", NULL);
    assert_string_equal(text(&reply, "preferredVersion.version"), "v1");
    reply = ask(fixture, "GET", "/apis/stable.example.com/v1beta1", NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(tree_text_or(tree_find(tree_at(tree_find(reply.tree, "resources"), 0), "name"), ""), "crontabs");
}

UNIT_TEST(objects_are_pruned_filled_and_checked) {
    struct fixture *fixture = *state;
    send_to(fixture, "POST", CRDS, CRONTABS);
    struct reply reply = create_tab(fixture, "a", "{'cron':'* * *','more':1}");
    assert_int_equal(reply.status, 201);
    assert_non_null(strstr(reply.warning, "unknown field \\\"spec.more\\\""));
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 1);
    assert_null(tree_path(reply.tree, "spec.more"));
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 1);
    reply = send_to(fixture, "POST", TABS "?fieldValidation=Strict", "{'metadata':{'name':'b'},'spec':{'cron':'*','more':1}}");
    assert_int_equal(reply.status, 400);
    assert_non_null(strstr(text(&reply, "message"), "strict decoding error: unknown field \"spec.more\""));
    reply = create_tab(fixture, "b", "{'cron':'*','replicas':'many'}");
    assert_int_equal(reply.status, 422);
    assert_string_equal(text(&reply, "message"),
                        "CronTab.stable.example.com \"b\" is invalid: spec.replicas: Invalid value: \"string\": spec.replicas in "
                        "body must be of type integer: \"string\"");
    assert_string_equal(text(&reply, "details.kind"), "CronTab");
    reply = create_tab(fixture, "b", "{}");
    assert_string_equal(text(&reply, "message"), "CronTab.stable.example.com \"b\" is invalid: spec.cron: Required value");
    reply = ask_as(fixture, "POST", TABS, "application/vnd.kubernetes.protobuf", "k8s", NULL);
    assert_int_equal(reply.status, 415);
    reply = ask_as(fixture, "PATCH", TABS "/a", "application/strategic-merge-patch+json", "{}", NULL);
    assert_int_equal(reply.status, 415);
    assert_string_equal(text(&reply, "message"), "the body of the request was in an unknown format - accepted media types include: "
                                                 "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml");
}

UNIT_TEST(status_scale_and_generation) {
    struct fixture *fixture = *state;
    send_to(fixture, "POST", CRDS, CRONTABS);
    create_tab(fixture, "a", "{'cron':'*'}");
    struct reply reply = patch(fixture, TABS "/a", MERGE, "{'spec':{'replicas':3},'status':{'replicas':9}}");
    assert_int_equal(reply.status, 200);
    assert_null(tree_path(reply.tree, "status")); /* the other door's */
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 2);
    reply = patch(fixture, TABS "/a/status", MERGE, "{'spec':{'replicas':4},'status':{'replicas':2,'sel':'app=a'}}");
    assert_int_equal(reply.status, 200);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 3);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "status.replicas"), 0), 2);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 2);
    reply = ask(fixture, "GET", TABS "/a/scale", NULL);
    assert_string_equal(text(&reply, "kind"), "Scale");
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 3);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "status.replicas"), 0), 2);
    assert_string_equal(text(&reply, "status.selector"), "app=a");
    reply = patch(fixture, TABS "/a/scale", MERGE, "{'spec':{'replicas':5}}");
    assert_int_equal(reply.status, 200);
    reply = patch(fixture, TABS "/a/scale", MERGE, "{'spec':{'replicas':50}}");
    assert_int_equal(reply.status, 422);
    reply = ask(fixture, "GET", TABS "/a", NULL);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 5);
    assert_int_equal(ask(fixture, "GET", OLD_TABS "/a/scale", NULL).status, 404); /* this version has none */
}

UNIT_TEST(versions_are_views) {
    struct fixture *fixture = *state;
    send_to(fixture, "POST", CRDS, CRONTABS);
    struct reply reply = send_to(fixture, "POST", OLD_TABS,
                                 "{'apiVersion':'stable.example.com/v1beta1','kind':'CronTab','metadata':{'name':'a'},"
                                 "'spec':{'cron':'*'}}");
    assert_int_equal(reply.status, 201);
    assert_string_equal(text(&reply, "apiVersion"), "stable.example.com/v1beta1");
    assert_string_equal(reply.warning, "299 - \"stable.example.com/v1beta1 CronTab is deprecated\"");
    reply = ask(fixture, "GET", TABS "/a", NULL);
    assert_string_equal(text(&reply, "apiVersion"), "stable.example.com/v1");
    assert_string_equal(reply.warning, "");
    reply = patch(fixture, OLD_TABS "/a", MERGE, "{'spec':{'replicas':2}}");
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "apiVersion"), "stable.example.com/v1beta1");
    reply = ask(fixture, "GET", OLD_TABS, NULL);
    assert_string_equal(text(&reply, "apiVersion"), "stable.example.com/v1beta1");
    assert_string_equal(tree_text_or(tree_find(tree_at(tree_find(reply.tree, "items"), 0), "apiVersion"), ""), "stable.example.com/v1beta1");
    reply = ask_as(fixture, "GET", TABS, NULL, NULL, "application/json;as=Table;v=v1;g=meta.k8s.io");
    assert_string_equal(tree_text_or(tree_find(tree_at(tree_find(reply.tree, "columnDefinitions"), 1), "name"), ""), "Cron");
    assert_string_equal(tree_text_or(tree_at(tree_find(tree_at(tree_find(reply.tree, "rows"), 0), "cells"), 1), ""), "*");
    reply = ask_as(fixture, "GET", OLD_TABS, NULL, NULL, "application/json;as=Table;v=v1;g=meta.k8s.io");
    assert_string_equal(tree_text_or(tree_find(tree_at(tree_find(reply.tree, "columnDefinitions"), 1), "name"), ""), "Age");
    reply = ask(fixture, "GET", TABS "?fieldSelector=spec.cron%3D%2A", NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 1);
    reply = ask(fixture, "GET", TABS "?fieldSelector=spec.cron%3D1", NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 0);
}

UNIT_TEST(a_changed_schema_applies_at_once) {
    struct fixture *fixture = *state;
    send_to(fixture, "POST", CRDS, CRONTABS);
    create_tab(fixture, "a", "{'cron':'*'}");
    static const char change[] =
        "[{'op':'add','path':'/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/zone','value':{'type':'string',"
        "'default':'UTC'}},{'op':'remove','path':'/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/replicas'}]";
    struct reply reply = patch(fixture, CRDS "/crontabs.stable.example.com", "application/json-patch+json", change);
    assert_int_equal(reply.status, 200);
    for (int restarted = 0; restarted < 2; restarted++) {
        reply = ask(fixture, "GET", TABS "/a", NULL); /* as today's schema has it, though nobody wrote it */
        assert_string_equal(text(&reply, "spec.zone"), "UTC");
        assert_null(tree_path(reply.tree, "spec.replicas"));
        reply = ask(fixture, "GET", TABS, NULL);
        assert_string_equal(tree_text_or(tree_path(tree_at(tree_find(reply.tree, "items"), 0), "spec.zone"), ""), "UTC");
        close_all(fixture);
        open_all(fixture);
    }
    reply = patch(fixture, TABS "/a", MERGE, "{'metadata':{'labels':{'a':'b'}}}");
    assert_string_equal(text(&reply, "spec.zone"), "UTC");
}

UNIT_TEST(definitions_that_are_refused) {
    struct fixture *fixture = *state;
    static const struct {
        const char *from, *to; /* what is replaced in the definition */
        const char *message;   /* a part of the answer's */
    } wrong[] = {
        {"'metadata':{'name':'crontabs.", "'metadata':{'name':'others.",
         "metadata.name: Invalid value: \"others.stable.example.com\": must be "
         "spec.names.plural+\".\"+spec.group"},
        {"'scope':'Namespaced'", "'scope':'Galaxy'", "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\""},
        {"'storage':true", "'storage':false", "must have exactly one version marked as storage version"},
        {"'default':1}", "'default':'x'}", "properties[replicas].default: Invalid value: \"string\": "},
        {"'.spec.replicas'", "'.status.replicas'",
         "subresources.scale.specReplicasPath: Invalid value: \".status.replicas\": should be a json path under .spec"},
        {"'cron':{'type':'string',", "'cron':{", "properties[cron].type: Required value: must not be empty for specified object fields"},
        {"'jsonPath':'.spec.cron'}]}", "'jsonPath':'.spec.gone'}]}",
         "selectableFields[0].jsonPath: Invalid value: \".spec.gone\": is an invalid path: does not refer to a valid field"},
        {"'group':'stable.example.com'", "'group':'a.k8s.io'", "protected groups must have approval annotation \"api-approved.kubernetes.io\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const char *at = strstr(CRONTABS, wrong[i].from);
        assert_non_null(at);
        char *body = arena_printf(fixture->arena, "%.*s%s%s", (int)(at - CRONTABS), CRONTABS, wrong[i].to, at + strlen(wrong[i].from));
        struct reply reply = send_to(fixture, "POST", CRDS, body);
        assert_int_equal(reply.status, 422);
        if (!strstr(text(&reply, "message"), wrong[i].message))
            assert_string_equal(text(&reply, "message"), wrong[i].message);
    }
}

#define OTHERS                                                                                                                                       \
    "{'metadata':{'name':'others.stable.example.com'},'spec':{'group':'stable.example.com','scope':'Cluster','names':" NAMES(                        \
        "others", "CronTab", "ct") ",'versions':[{'name':'v1','served':true,'storage':true,'schema':{'openAPIV3Schema':{'type':'object','"           \
                                   "properties':{'a':{'type':'integer',"                                                                             \
                                   "'x-kubernetes-validations':[{'rule':'self > 1'}]}}}}}]}}"

UNIT_TEST(names_belong_to_one) {
    struct fixture *fixture = *state;
    send_to(fixture, "POST", CRDS, CRONTABS);
    struct reply reply = send_to(fixture, "POST", CRDS, OTHERS);
    assert_int_equal(reply.status, 201);
    assert_non_null(strstr(reply.warning, "x-kubernetes-validations are kept, but not evaluated"));
    assert_string_equal(condition(&reply, "NamesAccepted", "status"), "False");
    assert_string_equal(condition(&reply, "NamesAccepted", "reason"), "ListKindConflict");
    assert_string_equal(condition(&reply, "NamesAccepted", "message"), "\"CronTabList\" is already in use");
    assert_string_equal(condition(&reply, "Established", "reason"), "NotAccepted");
    assert_int_equal(ask(fixture, "GET", "/apis/stable.example.com/v1/others", NULL).status, 404);
    /* the other goes, and frees them */
    assert_int_equal(ask(fixture, "DELETE", CRDS "/crontabs.stable.example.com", NULL).status, 200);
    ask_until(fixture, CRDS "/crontabs.stable.example.com", 404);
    ask_until(fixture, "/apis/stable.example.com/v1/others", 200);
    reply = ask(fixture, "GET", CRDS "/others.stable.example.com", NULL);
    assert_string_equal(condition(&reply, "Established", "status"), "True");
}

UNIT_TEST(builtin_kinds_keep_their_names) {
    struct fixture *fixture = *state;
    struct reply reply =
        send_to(fixture, "POST", CRDS,
                "{'metadata':{'name':'ingresses.networking.k8s.io','annotations':{'api-approved.kubernetes.io':'x'}},'spec':{'group':"
                "'networking.k8s.io','scope':'Namespaced','names':" NAMES(
                    "ingresses", "Ingress", "in") ",'versions':[{'name':'v9','served':"
                                                  "true,'storage':true,'schema':{'openAPIV3Schema':{'type':'object'}}}]}}");
    assert_int_equal(reply.status, 201);
    assert_string_equal(condition(&reply, "NamesAccepted", "status"), "False");
    assert_int_equal(ask(fixture, "GET", "/apis/networking.k8s.io/v9/ingresses", NULL).status, 404);
    assert_int_equal(ask(fixture, "GET", "/apis/networking.k8s.io/v1/ingresses", NULL).status, 200);
}

/* Nobody is called for conversion: it is said, and what would need it is not served. */
UNIT_TEST(conversion_webhooks_are_not_called) {
    struct fixture *fixture = *state;
    const char *at = strstr(CRONTABS, "'scope'");
    char *body =
        arena_printf(fixture->arena,
                     "%.*s'conversion':{'strategy':'Webhook','webhook':{'conversionReviewVersions':['v1'],'clientConfig':{'url':'https://x/'}}},%s",
                     (int)(at - CRONTABS), CRONTABS, at);
    struct reply reply = send_to(fixture, "POST", CRDS, body);
    assert_int_equal(reply.status, 201);
    assert_non_null(strstr(reply.warning, "conversion webhooks are not called: only the storage version is served"));
    assert_int_equal(ask(fixture, "GET", TABS, NULL).status, 200);
    assert_int_equal(ask(fixture, "GET", OLD_TABS, NULL).status, 404);
}

UNIT_TEST(a_definition_goes_after_its_objects) {
    struct fixture *fixture = *state;
    send_to(fixture, "POST", CRDS, CRONTABS);
    for (int i = 0; i < 450; i++) /* more than two batches */
        assert_int_equal(create_tab(fixture, arena_printf(fixture->arena, "t%d", i), "{'cron':'*'}").status, 201);
    send_to(fixture, "POST", TABS, "{'metadata':{'name':'kept','finalizers':['example.com/wait']},'spec':{'cron':'*'}}");
    struct reply reply = ask(fixture, "DELETE", CRDS "/crontabs.stable.example.com", NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(condition(&reply, "Terminating", "reason"), "InstanceDeletionInProgress");
    reply = create_tab(fixture, "late", "{'cron':'*'}");
    assert_int_equal(reply.status, 405);
    assert_string_equal(text(&reply, "message"), "create not allowed while custom resource definition is terminating");
    for (int i = 0; i < TURNS_MAX && tree_count(tree_find(reply.tree, "items")) != 1; i++)
        reply = ask(fixture, "GET", TABS, NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 1);
    close_all(fixture); /* it goes on after a restart */
    open_all(fixture);
    assert_int_equal(ask(fixture, "GET", TABS "/kept", NULL).status, 200);
    patch(fixture, TABS "/kept", MERGE, "{'metadata':{'finalizers':null}}");
    ask_until(fixture, CRDS "/crontabs.stable.example.com", 404);
    assert_int_equal(ask(fixture, "GET", TABS, NULL).status, 404);
    assert_int_equal(ask(fixture, "GET", "/apis/stable.example.com", NULL).status, 404);
    /* and may come again */
    assert_int_equal(send_to(fixture, "POST", CRDS, CRONTABS).status, 201);
    reply = ask(fixture, "GET", TABS, NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 0);
}

UNIT_TEST(apply_owns_by_the_schema) {
    struct fixture *fixture = *state;
    send_to(fixture, "POST", CRDS, CRONTABS);
    static const char applied[] = "{'apiVersion':'stable.example.com/v1','kind':'CronTab','metadata':{'name':'a'},'spec':{'cron':'%s'}}";
    const char *yaml = "application/apply-patch+yaml";
    struct reply reply = patch(fixture, TABS "/a?fieldManager=one", yaml, arena_printf(fixture->arena, applied, "1"));
    assert_int_equal(reply.status, 201);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 1);
    reply = patch(fixture, TABS "/a?fieldManager=two", yaml, arena_printf(fixture->arena, applied, "2"));
    assert_int_equal(reply.status, 409);
    reply = patch(fixture, TABS "/a?fieldManager=two&force=true", yaml, arena_printf(fixture->arena, applied, "2"));
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "spec.cron"), "2");
}

static void on_stored(void *userdata, int error, struct store_object *object) {
    (void)object;
    assert_int_equal(error, 0);
    *(bool *)userdata = true;
}

/* One of another version of this program, say. It is told once, and not again every second. */
UNIT_TEST(a_definition_that_makes_no_sense_is_left_alone) {
    struct fixture *fixture = *state;
    static const char value[] = "{'kind':'CustomResourceDefinition','apiVersion':'apiextensions.k8s.io/v1','metadata':{'name':'odds.example.com'},"
                                "'spec':{'group':'example.com','scope':'Namespaced','names':{'plural':'odds'},'versions':[{'name':'v1','served':"
                                "true,'storage':true}]},'status':{'conditions':[{'type':'Established','status':'True'}]}}";
    const struct store_write write = {.verb = STORE_CREATE,
                                      .kind = api_kind_slice(&kube_kind_custom_resource_definition),
                                      .namespace = SLICE(""),
                                      .name = SLICE("odds.example.com"),
                                      .value = slice_of(quoted(fixture, value))};
    bool done = false;
    assert_int_equal(store_write(fixture->store, &write, on_stored, &done, NULL), 0);
    for (int i = 0; i < TURNS_MAX && !done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(done);
    close_all(fixture);
    open_all(fixture);
    assert_int_equal(ask(fixture, "GET", CRDS "/odds.example.com", NULL).status, 200);
    assert_false(loop_timer_is_set(&fixture->api->crd_timer));
    send_to(fixture, "POST", CRDS, CRONTABS);
    assert_int_equal(ask(fixture, "GET", TABS, NULL).status, 200);
    assert_int_equal(ask(fixture, "DELETE", CRDS "/odds.example.com", NULL).status, 200);
}

#define API_UNIT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {API_UNIT(a_definition_serves_at_once),
                                       API_UNIT(objects_are_pruned_filled_and_checked),
                                       API_UNIT(status_scale_and_generation),
                                       API_UNIT(versions_are_views),
                                       API_UNIT(a_changed_schema_applies_at_once),
                                       API_UNIT(definitions_that_are_refused),
                                       API_UNIT(names_belong_to_one),
                                       API_UNIT(a_definition_goes_after_its_objects),
                                       API_UNIT(apply_owns_by_the_schema),
                                       API_UNIT(builtin_kinds_keep_their_names),
                                       API_UNIT(conversion_webhooks_are_not_called),
                                       API_UNIT(a_definition_that_makes_no_sense_is_left_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
