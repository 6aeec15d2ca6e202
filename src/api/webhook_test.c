/* Admission webhooks, with a webhook server over TLS in the same loop. What it answers follows from the path it is called at. */
#include "api/webhook_priv.h"
#include "api/webhook_testing_priv.h"

#define MAPS "/api/v1/namespaces/default/configmaps"
#define MAP(name) "{\"metadata\":{\"name\":\"" name "\",\"labels\":{\"l\":\"x\"}},\"data\":{\"k\":\"v\"}}"
#define HOOKS "/apis/admissionregistration.k8s.io/v1/"

struct hooks {
    struct fixture *fixture;
    struct hook_server server;
    unsigned calls;
    struct buffer last;         /* the last request that was sent to us */
    struct http_exchange *held; /* a call of /hang */
};

/* --- the webhooks --- */

static const struct answer {
    const char *path;
    const char *response; /* between uid and the end */
    const char *patch;    /* JSON; NULL: none */
} answers[] = {
    {"/allow", "\"allowed\":true,\"warnings\":[\"mind the gap\"],\"auditAnnotations\":{\"k\":\"v\"}", NULL},
    {"/deny", "\"allowed\":false,\"status\":{\"code\":422,\"reason\":\"Invalid\",\"message\":\"not today\"}", NULL},
    {"/deny-quietly", "\"allowed\":false", NULL},
    {"/label", "\"allowed\":true", "[{\"op\":\"add\",\"path\":\"/metadata/labels/hooked\",\"value\":\"yes\"}]"},
    {"/note", "\"allowed\":true", "[{\"op\":\"add\",\"path\":\"/metadata/labels/noted\",\"value\":\"yes\"}]"},
    {"/identity", "\"allowed\":true",
     "[{\"op\":\"replace\",\"path\":\"/metadata/uid\",\"value\":\"me\"},{\"op\":\"replace\",\"path\":\"/metadata/name\",\"value\":\"other\"}]"},
    {"/bad-path", "\"allowed\":true", "[{\"op\":\"remove\",\"path\":\"/no/where\"}]"},
    {"/bad-type", "\"allowed\":true", "[{\"op\":\"add\",\"path\":\"/data\",\"value\":3}]"},
    {"/no-list", "\"allowed\":true", "{}"},
};

static void on_review(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct hooks *hooks = userdata;
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * MIB);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(16 * MIB);
    struct tree *review = NULL;
    struct diag diag = DIAG_INIT;
    struct slice path = http_path(exchange);
    hooks->calls++;
    buffer_reset(&hooks->last);
    buffer_append_slice(&hooks->last, body);
    assert_int_equal(json_parse(arena, body, NULL, &review, &diag), 0);
    if (slice_is(path, "/hang")) {
        hooks->held = exchange;
        return;
    }
    if (slice_is(path, "/broken")) {
        http_respond_text(exchange, 500, "no coffee");
        return;
    }
    if (slice_is(path, "/huge")) {
        for (size_t i = 0; i < 5 * MIB; i++)
            buffer_append_byte(&out, ' ');
        http_respond(exchange, 200, "application/json", buffer_slice(&out), NULL);
        return;
    }
    const struct answer *answer = NULL;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        answer = slice_is(path, answers[i].path) ? &answers[i] : answer;
    buffer_printf(&out, "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\",\"response\":{\"uid\":\"%s\",%s",
                  slice_is(path, "/stranger") ? "another" : tree_text_or(tree_path(review, "request.uid"), ""),
                  answer ? answer->response : "\"allowed\":true");
    if (answer && answer->patch) {
        buffer_append_text(&out, ",\"patchType\":\"JSONPatch\",\"patch\":\"");
        base64_encode(&out, slice_of(answer->patch));
        buffer_append_text(&out, "\"");
    }
    buffer_append_text(&out, "}}");
    http_respond(exchange, 200, "application/json", buffer_slice(&out), NULL);
}

static void on_call(void *userdata, struct http_exchange *exchange) {
    http_read_body(exchange, 16 * MIB, on_review, userdata);
}

static int setup_hooks(void **state) {
    struct hooks *hooks = calloc(1, sizeof *hooks);
    setup((void **)&hooks->fixture);
    hook_server_open(&hooks->server, hooks->fixture->loop, on_call, hooks);
    hooks->last = BUFFER_INIT(16 * MIB);
    *state = hooks;
    return 0;
}

static int teardown_hooks(void **state) {
    struct hooks *hooks = *state;
    void *fixture = hooks->fixture;
    hook_server_close(&hooks->server);
    buffer_deinit(&hooks->last);
    free(hooks);
    return teardown(&fixture);
}

/* Makes a configuration with one webhook per path (at most four; the list ends with NULL). */
static struct reply configure(struct hooks *hooks, const char *kind, const char *name, const char *operations, const char *resources,
                              const char *more, const char *const *paths) {
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(64 * KIB);
    char target[100];
    buffer_printf(&body, "{\"metadata\":{\"name\":\"%s\"},\"webhooks\":[", name);
    for (size_t i = 0; paths[i]; i++)
        buffer_printf(&body,
                      "%s{\"name\":\"h%zu.example.com\",\"clientConfig\":{\"url\":\"https://127.0.0.1:%d%s\",\"caBundle\":\"%s\"},"
                      "\"rules\":[{\"operations\":[%s],\"apiGroups\":[\"*\"],\"apiVersions\":[\"v1\"],\"resources\":[%s]}],"
                      "\"admissionReviewVersions\":[\"v1\"]%s}",
                      i ? "," : "", i, hooks->server.port, paths[i], hooks->server.ca.data, operations, resources, more);
    buffer_append_text(&body, "]}");
    snprintf(target, sizeof target, HOOKS "%s", kind);
    struct reply reply = ask(hooks->fixture, "POST", target, body.data);
    if (reply.status != 201)
        fail_msg("%s", text(&reply, "message"));
    return reply;
}

#define ONE(path) ((const char *const[]){path, NULL})
#define QUIET ",\"sideEffects\":\"None\",\"timeoutSeconds\":1"
#define MUTATING "mutatingwebhookconfigurations"
#define VALIDATING "validatingwebhookconfigurations"

static const char *asked(const struct hooks *hooks, const char *path) {
    struct tree *review = NULL;
    struct diag diag = DIAG_INIT;
    assert_int_equal(json_parse(hooks->fixture->arena, buffer_slice(&hooks->last), NULL, &review, &diag), 0);
    return tree_text_or(tree_path(review, path), "");
}

/* --- what they can do --- */

UNIT_TEST(a_webhook_changes_what_is_created) {
    struct hooks *hooks = *state;
    configure(hooks, MUTATING, "m", "\"CREATE\"", "\"configmaps\"", QUIET, ONE("/label"));
    struct reply reply = ask(hooks->fixture, "POST", MAPS "?fieldManager=me", MAP("a"));
    assert_int_equal(reply.status, 201);
    assert_string_equal(text(&reply, "metadata.labels.hooked"), "yes");
    assert_string_equal(asked(hooks, "request.operation"), "CREATE");
    assert_string_equal(asked(hooks, "request.kind.kind"), "ConfigMap");
    assert_string_equal(asked(hooks, "request.resource.resource"), "configmaps");
    assert_string_equal(asked(hooks, "request.namespace"), "default");
    assert_string_equal(asked(hooks, "request.name"), "a");
    assert_string_equal(asked(hooks, "request.userInfo.username"), "admin");
    assert_string_equal(asked(hooks, "request.object.data.k"), "v");
    assert_string_equal(asked(hooks, "request.options.fieldManager"), "me");
    reply = ask(hooks->fixture, "GET", MAPS "/a", NULL);
    assert_string_equal(text(&reply, "metadata.labels.hooked"), "yes");
    reply = ask(hooks->fixture, "PUT", MAPS "/a", MAP("a")); /* only creations are asked about */
    assert_string_equal(text(&reply, "metadata.labels.hooked"), "");
    assert_int_equal(hooks->calls, 1);
}

UNIT_TEST(a_webhook_denies_in_its_own_words) {
    struct hooks *hooks = *state;
    assert_int_equal(ask(hooks->fixture, "POST", MAPS, MAP("b")).status, 201);
    configure(hooks, VALIDATING, "v", "\"CREATE\",\"DELETE\"", "\"configmaps\"", QUIET, ONE("/deny"));
    struct reply reply = ask(hooks->fixture, "POST", MAPS, MAP("a"));
    assert_int_equal(reply.status, 422);
    assert_string_equal(text(&reply, "message"), "admission webhook \"h0.example.com\" denied the request: not today");
    assert_string_equal(text(&reply, "reason"), "Invalid");
    assert_int_equal(ask(hooks->fixture, "GET", MAPS "/a", NULL).status, 404);
    reply = ask(hooks->fixture, "DELETE", MAPS "/b", NULL);
    assert_int_equal(reply.status, 422);
    assert_string_equal(asked(hooks, "request.operation"), "DELETE");
    assert_string_equal(asked(hooks, "request.oldObject.data.k"), "v");
    assert_int_equal(ask(hooks->fixture, "GET", MAPS "/b", NULL).status, 200);
    assert_int_equal(ask(hooks->fixture, "DELETE", MAPS, NULL).status, 422);
    configure(hooks, VALIDATING, "w", "\"UPDATE\"", "\"configmaps\"", QUIET, ONE("/deny-quietly"));
    reply = ask_as(hooks->fixture, "PATCH", MAPS "/b", "application/merge-patch+json", "{\"data\":{\"k\":\"w\"}}", NULL);
    assert_int_equal(reply.status, 400);
    assert_string_equal(text(&reply, "message"), "admission webhook \"h0.example.com\" denied the request without explanation");
    assert_string_equal(asked(hooks, "request.object.data.k"), "w");
    assert_string_equal(asked(hooks, "request.oldObject.data.k"), "v");
    assert_int_equal(ask(hooks->fixture, "DELETE", HOOKS VALIDATING "/v", NULL).status, 200);
    assert_int_equal(ask(hooks->fixture, "DELETE", MAPS "/b", NULL).status, 200);
}

UNIT_TEST(warnings_are_passed_on) {
    struct hooks *hooks = *state;
    struct reply reply =
        configure(hooks, VALIDATING, "v", "\"*\"", "\"*\"", QUIET ",\"matchConditions\":[{\"name\":\"n\",\"expression\":\"true\"}]", ONE("/allow"));
    assert_non_null(strstr(reply.warning, "conditions are not evaluated"));
    reply = ask(hooks->fixture, "POST", MAPS, MAP("a"));
    assert_int_equal(reply.status, 201);
    assert_string_equal(reply.warning, "299 - \"mind the gap\"");
}

UNIT_TEST(what_fails_is_told_or_ignored) {
    static const struct {
        const char *kind, *path, *words;
        bool always; /* failurePolicy does not matter */
    } cases[] = {
        {MUTATING, "/hang", "failed to call webhook: Post \"https://127.0.0.1:%d/hang?timeout=1s\": context deadline exceeded", false},
        {VALIDATING, "/hang", "failed to call webhook: Post \"https://127.0.0.1:%d/hang?timeout=1s\": context deadline exceeded", false},
        {MUTATING, "/broken", "failed to call webhook: an error on the server (\"no coffee\") has prevented the request from succeeding", false},
        {VALIDATING, "/huge", "failed to call webhook: Post \"https://127.0.0.1:%d/huge?timeout=1s\": the answer is larger than 4194304 bytes",
         false},
        {VALIDATING, "/label", "received invalid webhook response: validating webhook may not return response.patch", false},
        {MUTATING, "/no-list", "received undecodable patch in webhook response: a list of operations in base64 is expected", false},
        {MUTATING, "/bad-path", "", true},
        {MUTATING, "/bad-type", "", true},
    };
    struct hooks *hooks = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char words[500], target[200];
        configure(hooks, cases[i].kind, "x", "\"*\"", "\"configmaps\"", QUIET, ONE(cases[i].path));
        int len = snprintf(words, sizeof words, "Internal error occurred: failed calling webhook \"h0.example.com\": ");
        snprintf(words + len, sizeof words - (size_t)len, cases[i].words, hooks->server.port); /* NOLINT */
        struct reply reply = ask(hooks->fixture, "POST", MAPS, MAP("a"));
        assert_int_equal(reply.status, 500);
        if (!cases[i].always)
            assert_string_equal(text(&reply, "message"), words);
        snprintf(target, sizeof target, HOOKS "%s/x", cases[i].kind);
        assert_int_equal(ask(hooks->fixture, "DELETE", target, NULL).status, 200);
        configure(hooks, cases[i].kind, "x", "\"*\"", "\"configmaps\"", QUIET ",\"failurePolicy\":\"Ignore\"", ONE(cases[i].path));
        assert_int_equal(ask(hooks->fixture, "POST", MAPS "?dryRun=All", MAP("a")).status, cases[i].always ? 500 : 201);
        assert_int_equal(ask(hooks->fixture, "DELETE", target, NULL).status, 200);
    }
}

UNIT_TEST(nobody_is_taken_for_the_webhook) {
    struct hooks *hooks = *state;
    configure(hooks, VALIDATING, "v", "\"*\"", "\"configmaps\"", QUIET, ONE("/stranger"));
    struct reply reply = ask(hooks->fixture, "POST", MAPS, MAP("a"));
    assert_non_null(strstr(text(&reply, "message"), "expected response.uid="));
    assert_int_equal(ask(hooks->fixture, "DELETE", HOOKS VALIDATING "/v", NULL).status, 200);
    buffer_reset(&hooks->server.ca);
    struct pki_pair other;
    assert_int_equal(pki_authority_new("another", sys_wall_ns() / 1000000000, 10, &other), 0);
    base64_encode(&hooks->server.ca, slice_of(other.certificate_pem));
    pki_pair_deinit(&other);
    configure(hooks, VALIDATING, "v", "\"*\"", "\"configmaps\"", QUIET, ONE("/allow"));
    reply = ask(hooks->fixture, "POST", MAPS, MAP("a"));
    assert_int_equal(reply.status, 500);
    assert_non_null(strstr(text(&reply, "message"), "x509: certificate signed by unknown authority"));
}

UNIT_TEST(dry_runs_ask_and_write_nothing) {
    struct hooks *hooks = *state;
    configure(hooks, VALIDATING, "v", "\"*\"", "\"configmaps\"", QUIET, ONE("/allow"));
    assert_int_equal(ask(hooks->fixture, "POST", MAPS "?dryRun=All", MAP("a")).status, 201);
    assert_int_equal(hooks->calls, 1);
    assert_non_null(strstr(hooks->last.data, "\"dryRun\":true"));
    assert_int_equal(ask(hooks->fixture, "GET", MAPS "/a", NULL).status, 404);
}

UNIT_TEST(a_webhook_sees_what_later_ones_change) {
    struct hooks *hooks = *state;
    const char *const paths[] = {"/allow", "/label", "/note", NULL};
    configure(hooks, MUTATING, "m", "\"CREATE\"", "\"configmaps\"", QUIET ",\"reinvocationPolicy\":\"IfNeeded\"", paths);
    struct reply reply = ask(hooks->fixture, "POST", MAPS, MAP("a"));
    assert_int_equal(reply.status, 201);
    assert_string_equal(text(&reply, "metadata.labels.hooked"), "yes");
    assert_string_equal(text(&reply, "metadata.labels.noted"), "yes");
    assert_int_equal(hooks->calls, 5); /* the last one has seen all: once; the others again */
}

UNIT_TEST(a_webhook_changes_no_identity) {
    struct hooks *hooks = *state;
    configure(hooks, MUTATING, "m", "\"CREATE\"", "\"configmaps\"", QUIET, ONE("/identity"));
    struct reply reply = ask(hooks->fixture, "POST", MAPS, MAP("a"));
    assert_int_equal(reply.status, 201);
    assert_int_equal(strlen(text(&reply, "metadata.uid")), 36);
    assert_string_equal(text(&reply, "metadata.name"), "a");
}

UNIT_TEST(selectors_leave_objects_and_namespaces_out) {
    struct hooks *hooks = *state;
    configure(hooks, VALIDATING, "a", "\"*\"", "\"configmaps\"", QUIET ",\"objectSelector\":{\"matchLabels\":{\"l\":\"y\"}}", ONE("/deny"));
    configure(hooks, VALIDATING, "b", "\"*\"", "\"configmaps\"",
              QUIET ",\"namespaceSelector\":{\"matchExpressions\":[{\"key\":\"kubernetes.io/metadata.name\",\"operator\":\"NotIn\",\"values\":["
                    "\"default\"]}]}",
              ONE("/deny"));
    assert_int_equal(ask(hooks->fixture, "POST", MAPS, MAP("a")).status, 201);
    assert_int_equal(hooks->calls, 0);
    assert_int_equal(ask(hooks->fixture, "POST", "/api/v1/namespaces/kube-public/configmaps", MAP("a")).status, 422);
    assert_int_equal(
        ask_as(hooks->fixture, "PATCH", MAPS "/a", "application/merge-patch+json", "{\"metadata\":{\"labels\":{\"l\":\"y\"}}}", NULL).status, 422);
    assert_int_equal(hooks->calls, 2);
}

UNIT_TEST(configurations_are_never_asked_about) {
    struct hooks *hooks = *state;
    configure(hooks, VALIDATING, "all", "\"*\"", "\"*/*\"", QUIET, ONE("/deny"));
    assert_int_equal(ask(hooks->fixture, "POST", MAPS, MAP("a")).status, 422);
    assert_int_equal(ask(hooks->fixture, "DELETE", HOOKS VALIDATING "/all", NULL).status, 200);
    assert_int_equal(ask(hooks->fixture, "POST", MAPS, MAP("a")).status, 201);
}

/* --- meanwhile --- */

/* Begins a request whose webhook waits, changes the object past all webhooks, lets the webhook answer, and returns the first one's answer. */
static struct reply overtaken(struct hooks *hooks, const char *method, const char *type, const char *body) {
    struct fixture *fixture = hooks->fixture;
    struct reply reply = {.fixture = fixture};
    const struct http_request_options options = {.method = method, .target = MAPS "/a", .content_type = type, .body = slice_of(body)};
    assert_int_equal(http_client_send(fixture->client, &options, on_answer, &reply, NULL), 0);
    while (!hooks->held)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    CLEANUP(kube_object_unrefp) struct kube_object *old = api_get(fixture->api, &kube_kind_config_map, "default", "a");
    struct kube_object *copy = kube_object_copy(old);
    static const struct write_options unasked = {.unasked = true};
    assert_int_equal(kube_map_set(&copy->config_map->data, copy->arena, "other", "1"), 0);
    struct api_failure failure;
    assert_int_equal(api_write_update(fixture->api, copy, &unasked, NULL, NULL, &failure), 0);
    while (!reply.done) {
        if (hooks->held) {
            struct tree *review = NULL;
            struct diag diag = DIAG_INIT;
            char answer[300];
            assert_int_equal(json_parse(fixture->arena, buffer_slice(&hooks->last), NULL, &review, &diag), 0);
            snprintf(answer, sizeof answer,
                     "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\",\"response\":{\"uid\":\"%s\",\"allowed\":true}}",
                     tree_text_or(tree_path(review, "request.uid"), ""));
            struct http_exchange *held = hooks->held;
            hooks->held = NULL;
            http_respond(held, 200, "application/json", slice_of(answer), NULL);
        }
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    }
    return reply;
}

UNIT_TEST(a_write_that_is_overtaken_begins_anew) {
    static const struct {
        const char *method, *type, *body, *kept;
        int status;
    } cases[] = {
        {"PATCH", "application/merge-patch+json", "{\"data\":{\"mine\":\"1\"}}", "1", 200},
        {"PUT", "application/json", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"mine\":\"1\"}}", "", 200},
        {"PUT", "application/json", "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"%s\"},\"data\":{\"mine\":\"1\"}}", "", 409},
        {"DELETE", NULL, "", "", 200},
    };
    struct hooks *hooks = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char body[300];
        struct reply reply = ask(hooks->fixture, "POST", MAPS, MAP("a"));
        snprintf(body, sizeof body, cases[i].body, text(&reply, "metadata.resourceVersion")); /* NOLINT */
        configure(hooks, VALIDATING, "v", "\"*\"", "\"configmaps\"", ",\"sideEffects\":\"None\",\"timeoutSeconds\":30", ONE("/hang"));
        unsigned before = hooks->calls;
        reply = overtaken(hooks, cases[i].method, cases[i].type, body);
        assert_int_equal(reply.status, cases[i].status);
        assert_int_equal(hooks->calls - before, cases[i].status == 200 ? 2 : 1);
        if (cases[i].type && cases[i].status == 200) {
            assert_string_equal(text(&reply, "data.mine"), "1");
            assert_string_equal(text(&reply, "data.other"), cases[i].kept);
        }
        assert_int_equal(ask(hooks->fixture, "DELETE", HOOKS VALIDATING "/v", NULL).status, 200);
        (void)ask(hooks->fixture, "DELETE", MAPS "/a", NULL);
    }
}

static void note_code(void *userdata, const struct api_failure *failure, struct kube_object *object) {
    (void)object;
    *(int *)userdata = failure ? failure->code : 200;
}

UNIT_TEST(what_waits_ends_with_the_api) {
    struct hooks *hooks = *state;
    struct fixture *fixture = hooks->fixture;
    configure(hooks, VALIDATING, "v", "\"*\"", "\"configmaps\"", QUIET, ONE("/hang"));
    struct kube_object *object = kube_object_new(&kube_kind_config_map);
    object->metadata->name = "a";
    object->metadata->namespace = "default";
    int code = 0;
    assert_int_equal(api_create(fixture->api, object, note_code, &code, NULL), 0);
    while (!hooks->held)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_int_equal(code, 0); /* and teardown finds nothing left */
}

/* --- the platform's own writes, other forms than objects --- */

UNIT_TEST(controllers_are_told_later) {
    struct hooks *hooks = *state;
    struct fixture *fixture = hooks->fixture;
    configure(hooks, VALIDATING, "v", "\"*\"", "\"configmaps\"", QUIET, ONE("/deny"));
    struct kube_object *object = kube_object_new(&kube_kind_config_map);
    object->metadata->name = "a";
    object->metadata->namespace = "default";
    int code = 0;
    uint64_t before = api_writes_asked(fixture->api);
    assert_int_equal(api_create(fixture->api, object, note_code, &code, NULL), 0);
    assert_int_equal(api_writes_asked(fixture->api), before + 1);
    while (!code)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_int_equal(code, 422);
    assert_string_equal(asked(hooks, "request.userInfo.username"), "system:kube-controller-manager");
}

UNIT_TEST(scales_and_views_are_shown_as_what_they_are) {
    struct hooks *hooks = *state;
    struct reply reply = ask(hooks->fixture, "POST", "/apis/apps/v1/namespaces/default/deployments",
                             "{\"metadata\":{\"name\":\"web\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{"
                             "\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"x:1\"}]}}}}");
    assert_int_equal(reply.status, 201);
    configure(hooks, VALIDATING, "v", "\"*\"", "\"deployments/scale\",\"horizontalpodautoscalers\"", QUIET, ONE("/allow"));
    reply = ask_as(hooks->fixture, "PATCH", "/apis/apps/v1/namespaces/default/deployments/web/scale", "application/merge-patch+json",
                   "{\"spec\":{\"replicas\":3}}", NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(asked(hooks, "request.kind.kind"), "Scale");
    assert_string_equal(asked(hooks, "request.resource.resource"), "deployments");
    assert_string_equal(asked(hooks, "request.subResource"), "scale");
    assert_string_equal(asked(hooks, "request.object.apiVersion"), "autoscaling/v1");
    reply =
        ask(hooks->fixture, "POST", "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            "{\"metadata\":{\"name\":\"h\"},\"spec\":{\"maxReplicas\":3,\"scaleTargetRef\":{\"kind\":\"Deployment\",\"name\":\"web\",\"apiVersion\":"
            "\"apps/v1\"}}}");
    assert_int_equal(reply.status, 201);
    assert_string_equal(asked(hooks, "request.requestKind.version"), "v2"); /* the rule names v1: an equivalent */
    assert_string_equal(asked(hooks, "request.kind.version"), "v1");
    assert_string_equal(asked(hooks, "request.object.apiVersion"), "autoscaling/v1");
    assert_int_equal(hooks->calls, 2);
}

UNIT_TEST(connections_and_evictions_are_asked_about_as_such) {
    struct hooks *hooks = *state;
    struct fixture *fixture = hooks->fixture;
    assert_int_equal(ask(fixture, "POST", "/api/v1/namespaces/default/pods",
                         "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"x:1\"}]}}")
                         .status,
                     201);
    configure(hooks, VALIDATING, "v", "\"*\"", "\"pods/*\"", QUIET, ONE("/deny"));
    struct reply reply = ask(fixture, "POST", "/api/v1/namespaces/default/pods/p/exec?command=sh&command=-c&stdin=true", NULL);
    assert_int_equal(reply.status, 422);
    assert_string_equal(asked(hooks, "request.operation"), "CONNECT");
    assert_string_equal(asked(hooks, "request.kind.kind"), "PodExecOptions");
    assert_string_equal(asked(hooks, "request.subResource"), "exec");
    assert_non_null(strstr(hooks->last.data, "\"command\":[\"sh\",\"-c\"]"));
    reply = ask(fixture, "POST", "/api/v1/namespaces/default/pods/p/eviction",
                "{\"kind\":\"Eviction\",\"apiVersion\":\"policy/v1\",\"metadata\":{\"name\":\"p\"}}");
    assert_int_equal(reply.status, 422);
    assert_string_equal(asked(hooks, "request.kind.kind"), "Eviction");
    assert_string_equal(asked(hooks, "request.kind.group"), "policy");
    reply = ask(fixture, "POST", "/api/v1/namespaces/default/pods/p/binding", "{\"metadata\":{\"name\":\"p\"},\"target\":{\"name\":\"n\"}}");
    assert_int_equal(reply.status, 422);
    assert_string_equal(asked(hooks, "request.kind.kind"), "Binding");
    assert_string_equal(asked(hooks, "request.operation"), "CREATE");
    assert_string_equal(asked(hooks, "request.object.target.name"), "n");
    assert_int_equal(hooks->calls, 3);
    assert_int_equal(ask(fixture, "GET", "/api/v1/namespaces/default/pods/p", NULL).status, 200);
}

#define WITH_HOOKS(name) cmocka_unit_test_setup_teardown(name, setup_hooks, teardown_hooks)

UNIT_MAIN(WITH_HOOKS(a_webhook_changes_what_is_created), WITH_HOOKS(a_webhook_denies_in_its_own_words), WITH_HOOKS(warnings_are_passed_on),
          WITH_HOOKS(what_fails_is_told_or_ignored), WITH_HOOKS(nobody_is_taken_for_the_webhook), WITH_HOOKS(dry_runs_ask_and_write_nothing),
          WITH_HOOKS(a_webhook_sees_what_later_ones_change), WITH_HOOKS(a_webhook_changes_no_identity),
          WITH_HOOKS(selectors_leave_objects_and_namespaces_out), WITH_HOOKS(configurations_are_never_asked_about),
          WITH_HOOKS(a_write_that_is_overtaken_begins_anew), WITH_HOOKS(what_waits_ends_with_the_api), WITH_HOOKS(controllers_are_told_later),
          WITH_HOOKS(scales_and_views_are_shown_as_what_they_are), WITH_HOOKS(connections_and_evictions_are_asked_about_as_such))
