/* Ownership of fields: who gets what by which write, what conflicts, and what goes. */
#include "api/api_testing_priv.h"

#define MAPS "/api/v1/namespaces/default/configmaps"
#define DEPLOYMENTS "/apis/apps/v1/namespaces/default/deployments"
#define DEPLOYMENT                                                                                                                                   \
    "{\"metadata\":{\"name\":\"web\"},\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":"   \
    "\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"nginx:1\"}]}}}}"

#define APPLY "application/apply-patch+yaml"
#define MERGE "application/merge-patch+json"
#define WEB DEPLOYMENTS "/web"
#define WEB_YAML                                                                                                                                     \
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: web}}\n  template:\n"       \
    "    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, image: 'nginx:1'}]}\n"

/* fieldsV1 of an entry; "" when there is none. */
static const char *owned(struct fixture *fixture, const struct reply *reply, const char *manager, const char *operation, const char *subresource) {
    const struct tree *entries = tree_path(reply->tree, "metadata.managedFields");
    for (size_t i = 0; i < tree_count(entries); i++) {
        const struct tree *entry = tree_at(entries, i);
        if (strcmp(tree_text_or(tree_find(entry, "manager"), ""), manager) || strcmp(tree_text_or(tree_find(entry, "operation"), ""), operation) ||
            strcmp(tree_text_or(tree_find(entry, "subresource"), ""), subresource))
            continue;
        struct buffer out = BUFFER_INIT(MIB);
        json_format(&out, tree_find(entry, "fieldsV1"));
        for (size_t at = 0; at < out.len; at++)
            if (out.data[at] == '"')
                out.data[at] = '\'';
        const char *copy = arena_dup(fixture->arena, buffer_slice(&out));
        buffer_deinit(&out);
        return copy;
    }
    return "";
}

static struct reply apply(struct fixture *fixture, const char *target, const char *yaml) {
    return ask_as(fixture, "PATCH", target, APPLY, yaml, NULL);
}

UNIT_TEST(every_write_owns_what_it_changed) {
    struct fixture *fixture = *state;
    struct reply reply =
        ask(fixture, "POST", MAPS "?fieldManager=maker", "{\"metadata\":{\"name\":\"a\",\"labels\":{\"l\":\"1\"}},\"data\":{\"x\":\"1\"}}");
    assert_string_equal(owned(fixture, &reply, "maker", "Update", ""), "{'f:data':{'.':{},'f:x':{}},'f:metadata':{'f:labels':{'.':{},'f:l':{}}}}");
    reply = ask_as(fixture, "PATCH", MAPS "/a?fieldManager=other", MERGE, "{\"data\":{\"x\":\"2\",\"y\":\"1\"}}", NULL);
    assert_string_equal(owned(fixture, &reply, "maker", "Update", ""), "{'f:data':{},'f:metadata':{'f:labels':{'.':{},'f:l':{}}}}");
    assert_string_equal(owned(fixture, &reply, "other", "Update", ""), "{'f:data':{'f:x':{},'f:y':{}}}");
    /* what goes belongs to nobody */
    reply = ask_as(fixture, "PATCH", MAPS "/a?fieldManager=other", MERGE, "{\"data\":{\"x\":null,\"y\":null},\"metadata\":{\"labels\":null}}", NULL);
    assert_string_equal(owned(fixture, &reply, "other", "Update", ""), "");
    assert_int_equal(tree_count(tree_path(reply.tree, "metadata.managedFields")), 0);
}

UNIT_TEST(a_write_without_effect_changes_no_entry) {
    struct fixture *fixture = *state;
    struct reply first = ask(fixture, "POST", DEPLOYMENTS "?fieldManager=a", DEPLOYMENT);
    struct reply second = ask_as(fixture, "PATCH", WEB "?fieldManager=b", MERGE, "{\"spec\":{\"replicas\":1}}", NULL);
    assert_string_equal(text(&first, "metadata.resourceVersion"), text(&second, "metadata.resourceVersion"));
    assert_true(tree_equal(tree_path(first.tree, "metadata.managedFields"), tree_path(second.tree, "metadata.managedFields")));
}

UNIT_TEST(status_is_owned_through_its_own_door) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", DEPLOYMENTS "?fieldManager=a", DEPLOYMENT);
    struct reply reply = ask_as(fixture, "PATCH", WEB "/status?fieldManager=s", MERGE,
                                "{\"spec\":{\"replicas\":7},\"status\":{\"replicas\":3},\"metadata\":{\"annotations\":{\"k\":\"v\"}}}", NULL);
    assert_string_equal(owned(fixture, &reply, "s", "Update", "status"),
                        "{'f:metadata':{'f:annotations':{'.':{},'f:k':{}}},'f:status':{'f:replicas':{}}}");
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 1);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 1);
}

UNIT_TEST(conflicts_name_manager_and_path) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", DEPLOYMENTS "?fieldManager=kubectl-client-side-apply", DEPLOYMENT);
    struct reply reply = apply(fixture, WEB "?fieldManager=kubectl", WEB_YAML);
    assert_int_equal(reply.status, 409);
    assert_string_equal(text(&reply, "message"),
                        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas");
    const struct tree *cause = tree_at(tree_path(reply.tree, "details.causes"), 0);
    assert_string_equal(tree_text_or(tree_find(cause, "reason"), ""), "FieldManagerConflict");
    assert_string_equal(tree_text_or(tree_find(cause, "field"), ""), ".spec.replicas");
    assert_string_equal(tree_text_or(tree_find(cause, "message"), ""), "conflict with \"kubectl-client-side-apply\" using apps/v1");
    reply = apply(fixture, WEB "?fieldManager=x&force=true", WEB_YAML);
    assert_int_equal(reply.status, 200);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 2);
    assert_null(strstr(owned(fixture, &reply, "kubectl-client-side-apply", "Update", ""), "f:replicas"));
    reply = apply(fixture, WEB "?fieldManager=y",
                  "apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 3, template: {spec: {containers: [{name: c, image: 'nginx:2'}]}}}\n");
    assert_string_equal(text(&reply, "message"), "Apply failed with 3 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- "
                                                 ".spec.template.spec.containers[name=\"c\"].image\nconflicts with \"x\":\n- .spec.replicas\n- "
                                                 ".spec.template.spec.containers[name=\"c\"].image");
}

UNIT_TEST(applied_fields_that_are_dropped_go_or_stay_with_others) {
    struct fixture *fixture = *state;
    apply(fixture, MAPS "/a?fieldManager=one", "apiVersion: v1\nkind: ConfigMap\ndata: {x: '1', y: '1', z: '1'}\n");
    struct reply reply = apply(fixture, MAPS "/a?fieldManager=two", "apiVersion: v1\nkind: ConfigMap\ndata: {x: '1'}\n");
    assert_int_equal(reply.status, 200); /* the same value: both own it */
    assert_string_equal(owned(fixture, &reply, "two", "Apply", ""), "{'f:data':{'f:x':{}}}");
    reply = apply(fixture, MAPS "/a?fieldManager=one", "apiVersion: v1\nkind: ConfigMap\ndata: {z: '1'}\n");
    assert_string_equal(text(&reply, "data.x"), "1");
    assert_null(tree_path(reply.tree, "data.y"));
    assert_string_equal(owned(fixture, &reply, "one", "Apply", ""), "{'f:data':{'f:z':{}}}");
    reply = apply(fixture, MAPS "/a?fieldManager=one", "apiVersion: v1\nkind: ConfigMap\n");
    assert_null(tree_path(reply.tree, "data.z"));
    assert_string_equal(owned(fixture, &reply, "one", "Apply", ""), "");
}

UNIT_TEST(applying_again_changes_nothing) {
    struct fixture *fixture = *state;
    struct reply first = apply(fixture, WEB "?fieldManager=k", WEB_YAML);
    assert_int_equal(first.status, 201);
    struct reply second = apply(fixture, WEB "?fieldManager=k", WEB_YAML);
    assert_int_equal(second.status, 200);
    assert_string_equal(text(&first, "metadata.resourceVersion"), text(&second, "metadata.resourceVersion"));
    assert_string_equal(owned(fixture, &first, "k", "Apply", ""),
                        "{'f:spec':{'f:replicas':{},'f:selector':{},'f:template':{'f:metadata':{'f:labels':{'f:app':{}}},'f:spec':{'f:containers':{"
                        "'k:{\\'name\\':\\'c\\'}':{'.':{},'f:image':{},'f:name':{}}}}}}}");
}

UNIT_TEST(refuses_configurations_that_cannot_be_owned) {
    struct fixture *fixture = *state;
    const struct {
        const char *target, *yaml, *message;
        int status;
    } cases[] = {
        {WEB, WEB_YAML, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch", 422},
        {WEB "?fieldManager=k", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replica: 1}\n",
         "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema", 500},
        {WEB "?fieldManager=k", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, managedFields: []}\n",
         "metadata.managedFields must be nil", 400},
        {WEB "?fieldManager=k", "apiVersion: v1\nkind: Deployment\n",
         "Incorrect version specified in apply patch. Specified patch version: v1, expected: apps/v1", 400},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reply reply = apply(fixture, cases[i].target, cases[i].yaml);
        assert_string_equal(text(&reply, "message"), cases[i].message);
        assert_int_equal(reply.status, cases[i].status);
    }
}

UNIT_TEST(versions_in_the_configuration_are_preconditions) {
    struct fixture *fixture = *state;
    struct reply reply = apply(fixture, MAPS "/a?fieldManager=k", "apiVersion: v1\nkind: ConfigMap\nmetadata: {uid: other}\n");
    assert_int_equal(reply.status, 409);
    apply(fixture, MAPS "/a?fieldManager=k", "apiVersion: v1\nkind: ConfigMap\ndata: {x: '1'}\n");
    reply = apply(fixture, MAPS "/a?fieldManager=k", "apiVersion: v1\nkind: ConfigMap\nmetadata: {resourceVersion: '1'}\ndata: {x: '2'}\n");
    assert_int_equal(reply.status, 409);
    reply = apply(fixture, MAPS "/a?fieldManager=k", "apiVersion: v1\nkind: ConfigMap\nmetadata: {uid: other}\ndata: {x: '2'}\n");
    assert_int_equal(reply.status, 409);
}

UNIT_TEST(entries_can_be_reset_and_migrated) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", MAPS "?fieldManager=a", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"x\":\"1\"}}");
    struct reply reply = ask_as(fixture, "PATCH", MAPS "/a?fieldManager=b", "application/json-patch+json",
                                "[{\"op\":\"replace\",\"path\":\"/metadata/managedFields\",\"value\":[{\"manager\":\"c\",\"operation\":\"Apply\","
                                "\"apiVersion\":\"v1\",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{\"f:data\":{\"f:x\":{}}}}]}]",
                                NULL);
    assert_string_equal(owned(fixture, &reply, "c", "Apply", ""), "{'f:data':{'f:x':{}}}");
    assert_string_equal(owned(fixture, &reply, "a", "Update", ""), "");
    reply = ask_as(fixture, "PATCH", MAPS "/a?fieldManager=b", MERGE, "{\"metadata\":{\"managedFields\":[{\"manager\":\"c\"}]}}", NULL);
    assert_string_equal(owned(fixture, &reply, "c", "Apply", ""), "{'f:data':{'f:x':{}}}"); /* makes no sense: the stored ones stay */
    reply = ask_as(fixture, "PATCH", MAPS "/a?fieldManager=b", MERGE, "{\"metadata\":{\"managedFields\":[{}]}}", NULL);
    assert_null(tree_path(reply.tree, "metadata.managedFields"));
    /* untracked: what is there counts as written before */
    reply = apply(fixture, MAPS "/a?fieldManager=k", "apiVersion: v1\nkind: ConfigMap\ndata: {x: '2'}\n");
    assert_string_equal(text(&reply, "message"), "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.x");
}

UNIT_TEST(kubectl_takes_over_what_it_applied_itself) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", MAPS "?fieldManager=kubectl-client-side-apply",
        "{\"metadata\":{\"name\":\"a\",\"annotations\":{\"kubectl.kubernetes.io/last-applied-configuration\":"
        "\"{\\\"apiVersion\\\":\\\"v1\\\",\\\"kind\\\":\\\"ConfigMap\\\",\\\"data\\\":{\\\"x\\\":\\\"1\\\"}}\"}},\"data\":{\"x\":\"1\",\"y\":\"1\"}"
        "}");
    struct reply reply = apply(fixture, MAPS "/a?fieldManager=kubectl", "apiVersion: v1\nkind: ConfigMap\ndata: {x: '2', y: '2'}\n");
    assert_string_equal(text(&reply, "message"), "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.y");
    reply = apply(fixture, MAPS "/a?fieldManager=kubectl", "apiVersion: v1\nkind: ConfigMap\ndata: {x: '2'}\n");
    assert_int_equal(reply.status, 200);
    const struct tree *annotations = tree_path(reply.tree, "metadata.annotations");
    assert_string_equal(tree_text_or(tree_find(annotations, "kubectl.kubernetes.io/last-applied-configuration"), ""),
                        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"data\":{\"x\":\"2\"}}\n");
}

UNIT_TEST(scales_are_owned_and_applied) {
    struct fixture *fixture = *state;
    apply(fixture, WEB "?fieldManager=k", WEB_YAML);
    struct reply reply = apply(fixture, WEB "/scale?fieldManager=s", "apiVersion: autoscaling/v1\nkind: Scale\nspec: {replicas: 5}\n");
    assert_string_equal(text(&reply, "message"), "Apply failed with 1 conflict: conflict with \"k\": .spec.replicas");
    reply = apply(fixture, WEB "/scale?fieldManager=s&force=true", "apiVersion: autoscaling/v1\nkind: Scale\nspec: {replicas: 5}\n");
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "kind"), "Scale");
    reply = ask(fixture, "GET", WEB, NULL);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 5);
    assert_string_equal(owned(fixture, &reply, "s", "Apply", "scale"), "{'f:spec':{'f:replicas':{}}}");
    assert_null(strstr(owned(fixture, &reply, "k", "Apply", ""), "f:replicas"));
    ask_as(fixture, "PATCH", WEB "/scale?fieldManager=t", MERGE, "{\"spec\":{\"replicas\":4}}", NULL);
    reply = ask(fixture, "GET", WEB, NULL);
    assert_string_equal(owned(fixture, &reply, "t", "Update", "scale"), "{'f:spec':{'f:replicas':{}}}");
    assert_string_equal(owned(fixture, &reply, "s", "Apply", "scale"), "");
}

UNIT_TEST(old_updaters_are_merged) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", MAPS "?fieldManager=m0", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k0\":\"1\"}}");
    struct reply reply = {.status = 0};
    for (int i = 1; i < 13; i++) {
        char target[128], body[64];
        snprintf(target, sizeof target, MAPS "/a?fieldManager=m%02d", i);
        snprintf(body, sizeof body, "{\"data\":{\"k%d\":\"1\"}}", i);
        reply = ask_as(fixture, "PATCH", target, MERGE, body, NULL);
    }
    assert_int_equal(tree_count(tree_path(reply.tree, "metadata.managedFields")), 10);
    assert_non_null(strstr(owned(fixture, &reply, "ancient-changes", "Update", ""), "f:k0"));
}

#define WITH_API(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_API(every_write_owns_what_it_changed),
        WITH_API(a_write_without_effect_changes_no_entry),
        WITH_API(status_is_owned_through_its_own_door),
        WITH_API(conflicts_name_manager_and_path),
        WITH_API(applied_fields_that_are_dropped_go_or_stay_with_others),
        WITH_API(applying_again_changes_nothing),
        WITH_API(refuses_configurations_that_cannot_be_owned),
        WITH_API(versions_in_the_configuration_are_preconditions),
        WITH_API(entries_can_be_reset_and_migrated),
        WITH_API(kubectl_takes_over_what_it_applied_itself),
        WITH_API(scales_are_owned_and_applied),
        WITH_API(old_updaters_are_merged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
