/* The API, its store and a client in one loop: wherever something fails, an answer is right or says that it failed, and what was acknowledged is
 * there. */
#include "api/webhook_testing_priv.h"
#include "faults.h"

#define MAPS "/api/v1/namespaces/default/configmaps"
#define DEPLOYMENTS "/apis/apps/v1/namespaces/default/deployments"
#define DEPLOYMENT                                                                                                                                   \
    "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\"},\"spec\":{\"selector\":{\"matchLabels\":{\"app\":"          \
    "\"web\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"nginx:1\"}]}}}}"
#define MAP(name, value) "{\"metadata\":{\"name\":\"" name "\",\"labels\":{\"l\":\"x\"}},\"data\":{\"k\":\"" value "\"}}"

static struct jwt_key *token_keys[2];

struct outcome {
    bool done;
    int error, status;
    char body[16 * KIB];
};

static void on_outcome(void *userdata, const struct http_answer *answer) {
    struct outcome *reply = userdata;
    assert_false(reply->done);
    reply->done = true;
    reply->error = answer->error;
    reply->status = answer->status;
    snprintf(reply->body, sizeof reply->body, "%.*s", SLICE_ARG(answer->body));
}

/* The status; below 0: no answer. An answer that blames the client for our lack of memory would be wrong: 413, 500, 503 and the like only. */
static int attempt(struct fixture *fixture, const char *method, const char *target, const char *type, const char *body, int wanted,
                   struct outcome *reply) {
    static const struct http_field fields[] = {{"Accept", "application/json"}, {NULL, NULL}};
    const struct http_request_options options = {.method = method, .target = target, .content_type = type, .body = slice_of(body), .fields = fields};
    *reply = (struct outcome){.status = 0};
    int r = http_client_send(fixture->client, &options, on_outcome, reply, NULL);
    if (r < 0)
        return r;
    while (!reply->done)
        (void)loop_turn(fixture->loop, 1000);
    if (reply->error < 0)
        return reply->error;
    /* The connection broke under the answer, and the client asked once more. */
    bool repeated =
        faults_struck() && ((reply->status == 200 && strcmp(method, "PATCH") == 0) || (reply->status == 404 && strcmp(method, "DELETE") == 0));
    if (reply->status != wanted && !repeated) {
        if ((reply->status < 500 && reply->status != 413) || !faults_struck())
            fail_msg("%s %s: %d: %s", method, target, reply->status, reply->body);
        return -EIO;
    }
    return 0;
}

static void begin(struct fixture *fixture) {
    const struct http_request_options ready = {.method = "GET", .target = "/readyz"};
    struct outcome reply = {.status = 0};
    *fixture = (struct fixture){.folder = "/dev/shm/tidemill-api-XXXXXX", .token_keys = (const struct jwt_key *const *)token_keys};
    assert_non_null(mkdtemp(fixture->folder));
    open_all(fixture);
    while (reply.status != 200) {
        reply.done = false;
        assert_int_equal(http_client_send(fixture->client, &ready, on_outcome, &reply, NULL), 0);
        while (!reply.done)
            assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    }
}

static void end(struct fixture *fixture) {
    close_all(fixture);
    assert_int_equal(sys_remove_tree(AT_FDCWD, fixture->folder), 0);
}

struct step {
    const char *method, *target, *type, *body;
    int wanted;
    const char *holds; /* in the answer */
};

static int walk(struct fixture *fixture, const struct step *steps, size_t count) {
    struct outcome reply;
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++) {
        r = attempt(fixture, steps[i].method, steps[i].target, steps[i].type, steps[i].body, steps[i].wanted, &reply);
        if (r == 0 && !strstr(reply.body, steps[i].holds)) { /* a watch that was broken off is no lie */
            if (!strstr(steps[i].target, "watch=") || !faults_struck())
                fail_msg("%s %s: %s", steps[i].method, steps[i].target, reply.body);
            r = -EIO;
        }
    }
    return r;
}

static int requests(__attribute__((unused)) void *context) {
    struct fixture fixture;
    struct outcome reply;
    faults_pause();
    begin(&fixture);
    faults_resume();
    const struct step steps[] = {
        {"POST", MAPS, "application/json", MAP("a", "1"), 201, "\"k\":\"1\""},
        {"PUT", MAPS "/a", "application/json", MAP("a", "2"), 200, "\"k\":\"2\""},
        {"PATCH", MAPS "/a", "application/merge-patch+json", "{\"data\":{\"k\":\"3\"}}", 200, "\"k\":\"3\""},
        {"GET", MAPS "?labelSelector=l%3Dx", NULL, NULL, 200, "\"name\":\"a\""},
        {"GET", MAPS "?fieldSelector=metadata.name%3Da&watch=true&timeoutSeconds=1&resourceVersion=0", NULL, NULL, 200, "\"name\":\"a\""},
        {"POST", DEPLOYMENTS, "application/yaml", DEPLOYMENT, 201, "\"name\":\"web\""},
        {"PATCH", DEPLOYMENTS "/web", "application/strategic-merge-patch+json", "{\"spec\":{\"replicas\":2}}", 200, "\"replicas\":2"},
        {"PATCH", MAPS "/b?fieldManager=m", "application/apply-patch+yaml",
         "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"b\"},\"data\":{\"x\":\"y\"}}", 201, "\"x\":\"y\""},
        {"DELETE", MAPS "/a", NULL, NULL, 200, ""},
        {"GET", "/openapi/v3/apis/scheduling.k8s.io/v1", NULL, NULL, 200, "\"openapi\""},
        {"GET", "/apis/scheduling.k8s.io", NULL, NULL, 200, "\"preferredVersion\""},
    };
    int r = walk(&fixture, steps, ARRAY_LEN(steps));
    faults_pause();
    if (r == 0)
        assert_int_equal(attempt(&fixture, "GET", MAPS "/a", NULL, NULL, 404, &reply), 0);
    assert_int_equal(attempt(&fixture, "POST", MAPS, "application/json", MAP("z", "1"), 201, &reply), 0); /* it goes on */
    assert_int_equal(attempt(&fixture, "GET", MAPS "?labelSelector=l%3Dx", NULL, NULL, 200, &reply), 0);
    assert_non_null(strstr(reply.body, "\"name\":\"z\""));
    end(&fixture);
    faults_resume();
    return r;
}

#define RIGHTS "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
#define REVIEWS "/apis/authorization.k8s.io/v1/subjectaccessreviews"
#define QUOTAS "/api/v1/namespaces/default/resourcequotas"
#define ACCOUNTS "/api/v1/namespaces/default/serviceaccounts"
#define REVIEW "{\"spec\":{\"user\":\"u\",\"resourceAttributes\":{\"verb\":\"get\",\"resource\":\"configmaps\",\"namespace\":\"default\"}}}"
#define APPLIED(value) "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c\"},\"data\":{\"x\":\"" value "\"}}"

/* Rights, quotas, tokens and applied objects: nobody is let in or turned away for want of memory, nothing is counted or owned by halves. */
static int rights(__attribute__((unused)) void *context) {
    static const char json[] = "application/json", merge[] = "application/merge-patch+json", apply[] = "application/apply-patch+yaml";
    static const struct step steps[] = {
        {"POST", QUOTAS, json, "{\"metadata\":{\"name\":\"q\"},\"spec\":{\"hard\":{\"count/configmaps\":\"2\"}}}", 201, "\"q\""},
        {"PATCH", QUOTAS "/q/status", merge, "{\"status\":{\"hard\":{\"count/configmaps\":\"2\"},\"used\":{\"count/configmaps\":\"0\"}}}", 200,
         "used"},
        {"POST", MAPS, json, MAP("a", "1"), 201, "\"k\":\"1\""},
        {"PATCH", MAPS "/c?fieldManager=m", apply, APPLIED("1"), 201, "\"m\""},
        {"PATCH", MAPS "/c?fieldManager=n&force=true", apply, APPLIED("2"), 200, "\"n\""},
        {"PATCH", QUOTAS "/q/status", merge, "{\"status\":{\"used\":{\"count/configmaps\":\"2\"}}}", 200, "used"},
        {"POST", MAPS, json, MAP("z", "1"), 403, "exceeded quota: q"},
        {"POST", RIGHTS "/roles", json,
         "{\"metadata\":{\"name\":\"r\"},\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"configmaps\"]}]}", 201, "\"r\""},
        {"POST", RIGHTS "/rolebindings", json,
         "{\"metadata\":{\"name\":\"b\"},\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"r\"},"
         "\"subjects\":[{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"User\",\"name\":\"u\"}]}",
         201, "\"b\""},
        {"POST", REVIEWS, json, REVIEW, 201, "\"allowed\":true"},
        {"POST", ACCOUNTS, json, "{\"metadata\":{\"name\":\"s\"}}", 201, "\"s\""},
        {"POST", ACCOUNTS "/s/token", json, "{\"spec\":{\"expirationSeconds\":3600}}", 201, "\"token\":\"ey"},
        {"DELETE", RIGHTS "/rolebindings/b", NULL, NULL, 200, ""},
        {"POST", REVIEWS, json, REVIEW, 201, "\"allowed\":false"},
    };
    struct fixture fixture;
    faults_pause();
    begin(&fixture);
    faults_resume();
    int r = walk(&fixture, steps, ARRAY_LEN(steps));
    faults_pause();
    end(&fixture);
    faults_resume();
    return r;
}

#define CRDS "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
#define WIDGETS "/apis/example.com/v1/namespaces/default/widgets"
#define CRD                                                                                                                                          \
    "{\"metadata\":{\"name\":\"widgets.example.com\"},\"spec\":{\"group\":\"example.com\",\"scope\":\"Namespaced\",\"names\":{\"plural\":"           \
    "\"widgets\",\"kind\":\"Widget\"},\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,\"schema\":{\"openAPIV3Schema\":{\"type\":"    \
    "\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"default\":7}}}}}]}}"

/* A definition that was acknowledged serves, if not at once for want of memory, then soon; and goes with its object. */
static int definitions(__attribute__((unused)) void *context) {
    struct fixture fixture;
    struct outcome reply;
    faults_pause();
    begin(&fixture);
    faults_resume();
    int r = attempt(&fixture, "POST", CRDS, "application/json", CRD, 201, &reply);
    if (r == 0) {
        faults_pause(); /* the next turn has made up for it, at the latest */
        while (kube_custom_version(SLICE("example.com"), SLICE("v1"), SLICE("widgets")) == NULL)
            assert_int_equal(loop_turn(fixture.loop, 1000), 0);
        faults_resume();
        r = attempt(&fixture, "POST", WIDGETS, "application/json", "{\"metadata\":{\"name\":\"w\"}}", 201, &reply);
        assert_true(r < 0 || strstr(reply.body, "\"a\":7"));
    }
    if (r == 0)
        r = attempt(&fixture, "DELETE", CRDS "/widgets.example.com", NULL, NULL, 200, &reply);
    for (int i = 0; r == 0 && kube_custom_version(SLICE("example.com"), SLICE("v1"), SLICE("widgets")); i++)
        (void)loop_turn(fixture.loop, 1000);
    faults_pause();
    end(&fixture);
    faults_resume();
    return r;
}

/* --- webhooks --- */

#define MUTATING "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
#define VALIDATING "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"

struct hooks {
    struct hook_server server;
    struct buffer mutating, validating; /* configurations */
};

/* Adds a label, and agrees. */
static void on_review(void *userdata, struct http_exchange *exchange, struct slice body) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    const char *uid = strstr(body.data, "\"uid\":\"") + strlen("\"uid\":\"");
    (void)userdata;
    faults_pause();
    buffer_printf(&out,
                  "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\",\"response\":{\"uid\":\"%.36s\",\"allowed\":true,"
                  "\"warnings\":[\"w\"],\"auditAnnotations\":{\"a\":\"b\"}",
                  uid);
    if (slice_is(http_path(exchange), "/label")) {
        buffer_append_text(&out, ",\"patchType\":\"JSONPatch\",\"patch\":\"");
        base64_encode(&out, SLICE("[{\"op\":\"add\",\"path\":\"/metadata/labels/hooked\",\"value\":\"yes\"}]"));
        buffer_append_text(&out, "\"");
    }
    buffer_append_text(&out, "}}");
    faults_resume();
    http_respond(exchange, 200, "application/json", buffer_slice(&out), NULL);
}

static void on_call(void *userdata, struct http_exchange *exchange) {
    http_read_body(exchange, MIB, on_review, userdata);
}

static void put_configuration(const struct hooks *hooks, const char *path, struct buffer *out) {
    *out = BUFFER_INIT(MIB);
    buffer_printf(out,
                  "{\"metadata\":{\"name\":\"c\"},\"webhooks\":[{\"name\":\"h.example.com\",\"clientConfig\":{\"url\":\"https://127.0.0.1:%d%s\","
                  "\"caBundle\":\"",
                  hooks->server.port, path);
    buffer_append_slice(out, buffer_slice(&hooks->server.ca));
    buffer_append_text(out, "\"},\"rules\":[{\"operations\":[\"*\"],\"apiGroups\":[\"\"],\"apiVersions\":[\"v1\"],\"resources\":[\"configmaps\"]}],"
                            "\"admissionReviewVersions\":[\"v1\"],\"sideEffects\":\"None\",\"objectSelector\":{\"matchLabels\":{\"l\":\"x\"}}}]}");
}

static void hooks_open(struct hooks *hooks, struct fixture *fixture) {
    hook_server_open(&hooks->server, fixture->loop, on_call, NULL);
    put_configuration(hooks, "/label", &hooks->mutating);
    put_configuration(hooks, "/allow", &hooks->validating);
}

static void hooks_close(struct hooks *hooks) {
    hook_server_close(&hooks->server);
    buffer_deinit(&hooks->mutating);
    buffer_deinit(&hooks->validating);
}

/* Nothing is ever written past a webhook that is there: with its label, or not at all. */
static int webhooks(__attribute__((unused)) void *context) {
    struct fixture fixture;
    struct hooks hooks = {.server = {.fd = -1}};
    struct outcome reply;
    faults_pause();
    begin(&fixture);
    hooks_open(&hooks, &fixture);
    faults_resume();
    int configured = attempt(&fixture, "POST", MUTATING, "application/json", hooks.mutating.data, 201, &reply);
    int r = configured ? configured : attempt(&fixture, "POST", VALIDATING, "application/json", hooks.validating.data, 201, &reply);
    const struct {
        const char *method, *target, *type, *body;
        int wanted;
    } steps[] = {{"POST", MAPS, "application/json", MAP("a", "1"), 201},
                 {"PATCH", MAPS "/a", "application/merge-patch+json", "{\"metadata\":{\"labels\":{\"hooked\":null}},\"data\":{\"k\":\"2\"}}", 200},
                 {"POST", MAPS, "application/json", MAP("b", "1"), 201}};
    for (size_t i = 0; i < ARRAY_LEN(steps) && r == 0; i++) {
        r = attempt(&fixture, steps[i].method, steps[i].target, steps[i].type, steps[i].body, steps[i].wanted, &reply);
        assert_true(r < 0 || strstr(reply.body, "\"hooked\":\"yes\""));
    }
    faults_pause();
    if (!configured) {
        assert_int_equal(attempt(&fixture, "POST", MAPS, "application/json", MAP("z", "1"), 201, &reply), 0);
        assert_non_null(strstr(reply.body, "\"hooked\":\"yes\""));
    }
    hooks_close(&hooks);
    end(&fixture);
    faults_resume();
    return r;
}

UNIT_TEST(webhooks_are_never_passed_by) {
    TEST_FAULTS_ANY(webhooks, NULL);
}

UNIT_TEST(rights_and_quotas_hold) {
    TEST_FAULTS_ANY(rights, NULL);
}

UNIT_TEST(definitions_take_effect) {
    TEST_FAULTS_ANY(definitions, NULL);
}

UNIT_TEST(answers_are_right_or_say_that_they_failed) {
    TEST_FAULTS_ANY(requests, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(answers_are_right_or_say_that_they_failed), UNIT(definitions_take_effect),
                                       UNIT(webhooks_are_never_passed_by), UNIT(rights_and_quotas_hold)};
    struct secret *pem;
    if (jwt_key_generate(&pem) || jwt_key_parse(secret_reveal(pem), &token_keys[0]))
        return 1;
    secret_free(pem);
    faults_skip_time(50);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    jwt_key_free(token_keys[0]);
    return failed;
}
