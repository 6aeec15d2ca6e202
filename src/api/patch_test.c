/* Patches, and what is said of bodies that are not as they should be. */
#include "api/api_testing_priv.h"

#define MAPS "/api/v1/namespaces/default/configmaps"
#define WEB "/apis/apps/v1/namespaces/default/deployments/web"
#define DEPLOYMENT                                                                                                                                   \
    "{\"metadata\":{\"name\":\"web\"},\"spec\":{\"replicas\":1,\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{\"metadata\":{"        \
    "\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"nginx:1\"}]}}}}"
#define JSON "application/json-patch+json"
#define MERGE "application/merge-patch+json"
#define STRATEGIC "application/strategic-merge-patch+json"

static void make_web(struct fixture *fixture) {
    assert_int_equal(ask(fixture, "POST", "/apis/apps/v1/namespaces/default/deployments", DEPLOYMENT).status, 201);
}

UNIT_TEST(refusals_are_upstreams) {
    struct fixture *fixture = *state;
    make_web(fixture);
    const struct {
        const char *target, *type, *body;
        int status;
        const char *message;
    } cases[] = {
        {WEB, JSON, "[{\"op\":\"test\",\"path\":\"/spec/replicas\",\"value\":2}]", 422,
         "the server rejected our request due to an error in our request"},
        {WEB, JSON, "[{\"op\":\"remove\",\"path\":\"/spec/none\"}]", 422, "the server rejected our request due to an error in our request"},
        {WEB "x", MERGE, "{}", 404, "deployments.apps \"webx\" not found"},
        {WEB "?fieldValidation=Strict", MERGE, "{\"spec\":{\"foo\":1}}", 422, "strict decoding error: unknown field \"spec.foo\""},
        {WEB "?fieldValidation=Strict", STRATEGIC, "{\"spec\":{\"foo\":{\"b\":[1,null]}}}", 422,
         " \"\" is invalid: patch: Invalid value: \"map[spec:map[foo:map[b:[1 <nil>]]]]\": strict decoding error: unknown field \"spec.foo\""},
        {WEB "?fieldValidation=Strict", MERGE, "{\"spec\":{\"replicas\":1,\"replicas\":2}}", 422,
         "strict decoding error: duplicate field \"spec.replicas\""},
        {WEB, MERGE, "{\"spec\":{\"replicas\":\"x\"}}", 422,
         "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"},
        {WEB, MERGE, "{\"metadata\":{\"resourceVersion\":\"1\"}}", 409,
         "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply your changes to the latest version "
         "and try "
         "again"},
        {WEB "?force=true", MERGE, "{}", 422, "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"},
        {WEB "?dryRun=x", MERGE, "{}", 422,
         "PatchOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: []string{\"x\"}: supported values: \"All\""},
        {WEB "?fieldValidation=x", MERGE, "{}", 422,
         "PatchOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"x\": supported values: \"\", \"Ignore\", \"Strict\", "
         "\"Warn\""},
        {WEB "?fieldManager=k&fieldValidation=Strict", "application/apply-patch+yaml",
         "apiVersion: apps/v1\nkind: Deployment\nspec:\n  paused: true\n  paused: false\n", 400,
         "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 5: key \"paused\" already set in map"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reply reply = ask_as(fixture, "PATCH", cases[i].target, cases[i].type, cases[i].body, NULL);
        if (reply.status != cases[i].status || !strstr(text(&reply, "message"), cases[i].message))
            fail_msg("%s: %d %s", cases[i].body, reply.status, text(&reply, "message"));
    }
}

UNIT_TEST(json_patches_are_bounded) {
    struct fixture *fixture = *state;
    make_web(fixture);
    struct buffer body = BUFFER_INIT(MIB);
    for (int i = 0; i < 10001; i++)
        buffer_printf(&body, "%s{\"op\":\"test\",\"path\":\"/spec/replicas\",\"value\":1}", i ? "," : "[");
    buffer_append_text(&body, "]");
    struct reply reply = ask_as(fixture, "PATCH", WEB, JSON, body.data, NULL);
    assert_int_equal(reply.status, 413);
    assert_string_equal(text(&reply, "message"), "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001");
    buffer_deinit(&body);
}

UNIT_TEST(keys_that_stand_twice_are_told) {
    struct fixture *fixture = *state;
    struct reply reply = ask(fixture, "POST", MAPS "?fieldValidation=Strict",
                             "{\"metadata\":{\"name\":\"a\",\"name\":\"a\"},\"data\":{\"k\":\"1\",\"k\":\"2\"},\"x\":1}");
    assert_int_equal(reply.status, 400);
    assert_string_equal(text(&reply, "message"),
                        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field "
                        "\"metadata.name\", duplicate field \"data.k\", unknown field \"x\"");
    reply = ask(fixture, "POST", MAPS, "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"1\",\"k\":\"2\"}}");
    assert_int_equal(reply.status, 201);
    assert_string_equal(reply.warning, "299 - \"duplicate field \\\"data.k\\\"\"");
    assert_string_equal(text(&reply, "data.k"), "2");
    reply = ask_as(fixture, "POST", MAPS "?fieldValidation=Strict", "application/yaml", "metadata:\n  name: b\ndata:\n  k: '1'\n  k: '2'\n", NULL);
    assert_string_equal(text(&reply, "message"),
                        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal "
                        "errors:\n  line 5: key \"k\" already set in map");
    reply = ask_as(fixture, "POST", MAPS "?fieldValidation=Ignore", "application/yaml", "metadata:\n  name: b\ndata:\n  k: '1'\n  k: '2'\n", NULL);
    assert_int_equal(reply.status, 201);
    assert_string_equal(reply.warning, "");
}

#define WITH_API(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_API(refusals_are_upstreams),
        WITH_API(json_patches_are_bounded),
        WITH_API(keys_that_stand_twice_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
