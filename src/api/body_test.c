/* Bad input over HTTP, as data: what is sent, and how it is refused. What only costs memory and time is measured in tests/e2e/test_bad_input.py. */
#include "api/api_testing_priv.h"

#define MAPS "/api/v1/namespaces/default/configmaps"

static const char yaml[] = "application/yaml", json[] = "application/json", json_patch[] = "application/json-patch+json";

static const struct {
    const char *method, *target, *type, *body;
    int status;
    const char *reason, *message; /* which is in the answer's */
} cases[] = {
    {"POST", MAPS, json, "", 400, "BadRequest", "unexpected end of JSON input"},
    {"POST", MAPS, json, "{} {}", 400, "BadRequest", "expected the end of the document"},
    {"POST", MAPS, json, "[]", 400, "BadRequest", "not a JSON array"},
    {"POST", MAPS, json, "{\"data\":{\"a\":\"\xff\"}}", 400, "BadRequest", "expected valid UTF-8"},
    {"POST", MAPS, json, "{\"data\":{\"a\":\"\\u0000\"}}", 400, "BadRequest", "NUL character"},
    {"POST", MAPS "?fieldValidation=Strict", json, "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"1\",\"k\":\"2\"}}", 400, "BadRequest",
     "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"data.k\""},
    {"POST", "/apis/apps/v1/namespaces/default/deployments", json, "{\"spec\":{\"replicas\":99999999999}}", 400, "BadRequest",
     "json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32"},
    {"POST", MAPS, yaml, "a: *b", 400, "BadRequest", "unknown alias *b"},
    {"POST", MAPS, yaml, "--- a\n--- b\n", 400, "BadRequest", "expected one document"},
    {"POST", MAPS, "text/plain", "{}", 415, "UnsupportedMediaType", "the body of the request was in an unknown format"},
    {"POST", MAPS, "application/vnd.kubernetes.protobuf", "k8s", 400, "BadRequest", ""},
    {"PATCH", MAPS "/kube-root-ca.crt", "text/plain", "{}", 415, "UnsupportedMediaType", "application/json-patch+json"},
    {"PATCH", MAPS "/kube-root-ca.crt", json_patch, "{}", 404, "NotFound", ""},
    {"GET", MAPS "?limit=x", NULL, NULL, 400, "BadRequest", "strconv.ParseInt: parsing \"x\": invalid syntax"},
    {"GET", MAPS "?limit=99999999999999999999", NULL, NULL, 400, "BadRequest", "value out of range"},
    {"GET", MAPS "?continue=forged", NULL, NULL, 400, "BadRequest", "continue key is not valid"},
    {"GET", MAPS "?resourceVersion=x", NULL, NULL, 400, "BadRequest", "invalid resource version: resourceVersion: Invalid value: \"x\""},
    {"GET", MAPS "?watch=1&resourceVersion=x", NULL, NULL, 400, "BadRequest", "invalid resource version"},
    {"GET", MAPS "?watch=1&timeoutSeconds=1e18", NULL, NULL, 400, "BadRequest", "strconv.ParseInt: parsing \"1e18\": invalid syntax"},
    {"GET", MAPS "?resourceVersionMatch=Exact", NULL, NULL, 422, "Invalid",
     "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is "
     "provided"},
    {"GET", MAPS "?resourceVersion=0&resourceVersionMatch=Exact", NULL, NULL, 422, "Invalid", "is forbidden for resourceVersion \"0\""},
    {"GET", MAPS "?resourceVersion=1&resourceVersionMatch=x", NULL, NULL, 422, "Invalid", "Unsupported value: \"x\""},
    {"GET", MAPS "?sendInitialEvents=true", NULL, NULL, 422, "Invalid", "sendInitialEvents is forbidden for list"},
    {"GET", MAPS "?watch=1&sendInitialEvents=true", NULL, NULL, 422, "Invalid", "requires setting resourceVersionMatch to NotOlderThan"},
    {"GET", MAPS "?labelSelector=a%20b%20c", NULL, NULL, 400, "BadRequest", "unable to parse requirement: found 'b c'"},
    {"GET", MAPS "?fieldSelector=spec.x%3D1", NULL, NULL, 400, "BadRequest", "is not a known field selector"},
    {"GET", "/api/v1/namespaces/../configmaps", NULL, NULL, 400, "BadRequest", "malformed"},
    {"GET", "/api/v1/namespaces/a%00b", NULL, NULL, 400, "BadRequest", "malformed"},
};

UNIT_TEST(is_refused_in_kubernetes_words) {
    struct fixture *fixture = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reply reply = ask_as(fixture, cases[i].method, cases[i].target, cases[i].type, cases[i].body ? cases[i].body : "", NULL);
        if (reply.status != cases[i].status || strcmp(text(&reply, "reason"), cases[i].reason) != 0 ||
            !strstr(text(&reply, "message"), cases[i].message))
            fail_msg("case %zu, %s %s: %d %s: %s", i, cases[i].method, cases[i].target, reply.status, text(&reply, "reason"),
                     text(&reply, "message"));
        assert_string_equal(text(&reply, "kind"), "Status");
    }
}

UNIT_TEST(a_negative_limit_is_none) {
    assert_int_equal(ask(*state, "GET", "/api/v1/namespaces?limit=-1", NULL).status, 200);
}

/* --- what is made of small pieces, or nests --- */

static struct reply post(struct fixture *fixture, const char *method, const char *target, const char *type, struct buffer *body) {
    buffer_append_byte(body, '\0');
    assert_int_equal(buffer_error(body), 0);
    return ask_as(fixture, method, target, type, body->data, NULL);
}

static void repeat(struct buffer *out, const char *piece, size_t count) {
    for (size_t i = 0; i < count; i++)
        buffer_append_text(out, piece);
}

UNIT_TEST(bodies_are_bounded) {
    static const struct {
        const char *type, *begin, *piece;
        size_t count;
        int status;
        const char *message;
    } large[] = {
        {"application/json", "", "x", API_BODY_BYTES_MAX + 1, 413, "Request entity too large: limit is 3145728"},
        {"application/json", "", "[", 1000000, 400, "nested deeper than"},
        {"application/yaml", "", "[", 1000000, 400, "nested too deeply"},
        {"application/yaml", "", "- ", 1000000, 400, "nested too deeply"},
        {"application/json", "[1", ",1", 1500000, 413, "more memory"},
        {"application/yaml", "", "--- a\n", 10000, 400, "expected one document"},
        {"application/json-patch+json", "[{}", ",{}", 10000, 413,
         "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"},
    };
    for (size_t i = 0; i < ARRAY_LEN(large); i++) {
        CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(4 * MIB);
        bool patches = large[i].type == large[ARRAY_LEN(large) - 1].type;
        buffer_append_text(&body, large[i].begin);
        repeat(&body, large[i].piece, large[i].count);
        buffer_append_text(&body, patches ? "]" : "");
        struct reply reply = post(*state, patches ? "PATCH" : "POST", patches ? "/api/v1/namespaces/default" : MAPS, large[i].type, &body);
        if (reply.status != large[i].status || !strstr(text(&reply, "message"), large[i].message))
            fail_msg("case %zu: %d %s", i, reply.status, text(&reply, "message"));
    }
}

UNIT_TEST(lists_of_structures_are_bounded) {
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(4 * MIB);
    buffer_append_text(&body, "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"containers\":[{}");
    repeat(&body, ",{}", 100000);
    buffer_append_text(&body, "]}}");
    struct reply reply = post(*state, "POST", "/api/v1/namespaces/default/pods", "application/json", &body);
    assert_int_equal(reply.status, 400);
    assert_non_null(strstr(text(&reply, "message"), "Too many: 100001: must have at most 5000 items"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(is_refused_in_kubernetes_words, setup, teardown),
    cmocka_unit_test_setup_teardown(a_negative_limit_is_none, setup, teardown),
    cmocka_unit_test_setup_teardown(bodies_are_bounded, setup, teardown),
    cmocka_unit_test_setup_teardown(lists_of_structures_are_bounded, setup, teardown),
};

int main(void) {
    return cmocka_run_group_tests(tests, NULL, NULL);
}
