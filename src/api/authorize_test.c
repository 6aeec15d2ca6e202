/* What a request is taken to ask for, with rights by name: nobody reads more than the name he may. */
#include "api/api_testing_priv.h"

#define SECRETS "/api/v1/namespaces/default/secrets"

static void allow(struct fixture *fixture, const char *role) {
    struct reply reply = ask(fixture, "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", role);
    assert_int_equal(reply.status, 201);
    reply = ask(fixture, "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
                "{\"metadata\":{\"name\":\"ann\"},\"subjects\":[{\"kind\":\"User\",\"name\":\"ann\"}],"
                "\"roleRef\":{\"kind\":\"Role\",\"name\":\"one\"}}");
    assert_int_equal(reply.status, 201);
}

static int ask_as_ann(struct fixture *fixture, const char *method, const char *target, const char *body) {
    struct reply reply = {.fixture = fixture};
    const struct http_field fields[] = {{"Impersonate-User", "ann"}, {NULL, NULL}};
    const struct http_request_options options = {
        .method = method, .target = target, .content_type = body ? "application/json" : NULL, .body = slice_of(body), .fields = fields};
    struct http_request *request = NULL;
    assert_int_equal(http_client_send(fixture->client, &options, on_answer, &reply, &request), 0);
    for (int i = 0; i < TURNS_MAX && !reply.done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(reply.done);
    return reply.status;
}

UNIT_TEST(a_name_is_all_one_gets) {
    struct fixture *fixture = *state;
    allow(fixture, "{\"metadata\":{\"name\":\"one\"},\"rules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"\"],\"resources\":[\"secrets\"],"
                   "\"resourceNames\":[\"a\"]}]}");
    const struct {
        const char *method, *target, *body;
        int status;
    } cases[] = {
        {"GET", SECRETS "?fieldSelector=metadata.name%3Da", NULL, 200},
        {"GET", SECRETS "?fieldSelector=type%3DOpaque,metadata.name%3D%3Da", NULL, 200},
        {"DELETE", SECRETS "?fieldSelector=metadata.name%3Da", NULL, 200},
        {"GET", SECRETS, NULL, 403},
        {"GET", SECRETS "?fieldSelector=metadata.name%3Db", NULL, 403},
        {"GET", SECRETS "?fieldSelector=type!%3Dx%5C,metadata.name%3Da", NULL, 403}, /* one requirement, of the type */
        {"GET", SECRETS "/b?fieldSelector=metadata.name%3Da", NULL, 403},
        {"DELETE", SECRETS "?fieldSelector=type!%3Dx%5C,metadata.name%3Da", NULL, 403},
        {"POST", SECRETS "?fieldSelector=metadata.name%3Da", "{\"metadata\":{\"name\":\"b\"}}", 403},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (ask_as_ann(fixture, cases[i].method, cases[i].target, cases[i].body) != cases[i].status)
            fail_msg("%s %s is not %d", cases[i].method, cases[i].target, cases[i].status);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(a_name_is_all_one_gets, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
