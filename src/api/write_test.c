/* What may be written, and what is said when it may not. */
#include "api/api_testing_priv.h"

#define MAPS "/api/v1/namespaces/default/configmaps"
#define LEASES "/apis/coordination.k8s.io/v1/namespaces/default/leases"
#define MERGE "application/merge-patch+json"

static void make_map(struct fixture *fixture, const char *name, const char *more) {
    char body[512];
    snprintf(body, sizeof body, "{\"metadata\":{\"name\":\"%s\",\"labels\":{\"app\":\"x\"}%s}}", name, more);
    assert_int_equal(ask(fixture, "POST", MAPS, body).status, 201);
}

UNIT_TEST(refusals_are_upstreams) {
    struct fixture *fixture = *state;
    make_map(fixture, "a", "");
    make_map(fixture, "held", ",\"finalizers\":[\"x/y\"]");
    assert_int_equal(ask(fixture, "DELETE", MAPS "/held", NULL).status, 200);
    const struct {
        const char *method, *target, *body;
        int status;
        const char *message;
    } cases[] = {
        {"POST", MAPS, "{\"metadata\":{\"name\":\"b\",\"resourceVersion\":\"7\"}}", 500,
         "resourceVersion should not be set on objects to be created"},
        {"POST", MAPS, "{\"metadata\":{\"name\":\"b\",\"namespace\":\"other\"}}", 400,
         "the namespace of the provided object does not match the namespace sent on the request"},
        {"POST", MAPS "?fieldManager=a%00", "{\"metadata\":{\"name\":\"b\"}}", 400, "the request's path or query is malformed"},
        {"POST", MAPS "?fieldManager=a%09b", "{\"metadata\":{\"name\":\"b\"}}", 422,
         "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\tb\": invalid character U+0009 (at position 1)"},
        {"PUT", MAPS "/a", "{\"metadata\":{\"name\":\"b\"}}", 400, "the name of the object (b) does not match the name on the URL (a)"},
        {"PUT", MAPS "/a", "{\"metadata\":{}}", 400, "the name of the object (a based on URL) was undeterminable: name must be provided"},
        {"PUT", MAPS "/none", "{\"metadata\":{\"name\":\"none\"}}", 404, "configmaps \"none\" not found"},
        {"PUT", MAPS "/held", "{\"metadata\":{\"name\":\"held\",\"finalizers\":[\"x/y\",\"n/w\"]}}", 422,
         "ConfigMap \"held\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new "
         "finalizers []string{\"n/w\"}"},
        {"DELETE", MAPS "/a?propagationPolicy=x", NULL, 422,
         "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"x\": supported values: \"Foreground\", \"Background\", "
         "\"Orphan\", \"nil\""},
        {"DELETE", MAPS "/a", "{\"orphanDependents\":true,\"propagationPolicy\":\"Orphan\"}", 422,
         "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot "
         "be "
         "both set"},
        {"DELETE", MAPS "/a", "{\"dryRun\":[\"x\"]}", 422,
         "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: []string{\"x\"}: supported values: \"All\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reply reply = ask(fixture, cases[i].method, cases[i].target, cases[i].body);
        if (reply.status != cases[i].status || strcmp(text(&reply, "message"), cases[i].message))
            fail_msg("%s %s: %d %s", cases[i].method, cases[i].target, reply.status, text(&reply, "message"));
    }
    /* the last finalizer may go, and the object with it */
    assert_int_equal(ask_as(fixture, "PATCH", MAPS "/held", MERGE, "{\"metadata\":{\"finalizers\":null}}", NULL).status, 200);
    assert_int_equal(ask(fixture, "GET", MAPS "/held", NULL).status, 404);
}

UNIT_TEST(some_kinds_are_created_by_an_update) {
    struct fixture *fixture = *state;
    struct reply reply = ask(fixture, "PUT", LEASES "/l", "{\"metadata\":{\"name\":\"l\"},\"spec\":{\"holderIdentity\":\"a\"}}");
    assert_int_equal(reply.status, 201);
    assert_true(*text(&reply, "metadata.uid"));
    reply = ask(fixture, "PUT", LEASES "/l", "{\"metadata\":{\"name\":\"l\"},\"spec\":{\"holderIdentity\":\"b\"}}");
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "spec.holderIdentity"), "b");
}

UNIT_TEST(a_collection_is_answered_with_what_it_was) {
    struct fixture *fixture = *state;
    for (const char *name = "abc"; *name; name++)
        make_map(fixture, (const char[]){*name, 0}, "");
    struct reply reply = ask(fixture, "DELETE", MAPS "?labelSelector=app%3Dx&limit=2", NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "kind"), "ConfigMapList");
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 2);
    reply = ask(fixture, "GET", MAPS "?labelSelector=app%3Dx", NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 1);
    reply = ask(fixture, "DELETE", MAPS "?labelSelector=app%3Dx&dryRun=All", NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 1);
    assert_int_equal(ask(fixture, "GET", MAPS "/c", NULL).status, 200);
}

/* metadata.generation counts changes of the specification, of the kinds that have one. */
UNIT_TEST(generations_count_as_upstream) {
    struct fixture *fixture = *state;
    struct reply reply = ask(fixture, "POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
                             "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"podSelector\":{}}}");
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 1);
    reply = ask_as(fixture, "PATCH", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/p", MERGE,
                   "{\"spec\":{\"policyTypes\":[\"Ingress\",\"Egress\"]}}", NULL);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 2);
    reply = ask(fixture, "POST", "/api/v1/namespaces/default/services", "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"ports\":[{\"port\":80}]}}");
    assert_int_equal(reply.status, 201);
    assert_null(tree_path(reply.tree, "metadata.generation"));
}

/* A review's answer is no object that a table could show; who takes a document as well gets that. */
UNIT_TEST(reviews_are_no_tables) {
    struct fixture *fixture = *state;
    static const char path[] = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json[] = "application/json",
                      table[] = "application/json;as=Table;v=v1;g=meta.k8s.io";
    static const char body[] = "{\"spec\":{\"resourceAttributes\":{\"verb\":\"get\",\"resource\":\"pods\"}}}";
    assert_int_equal(ask_as(fixture, "POST", path, json, body, table).status, 406);
    assert_int_equal(ask_as(fixture, "POST", path, json, body, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").status, 201);
}

static void on_stored(void *userdata, int error, struct store_object *object) {
    (void)object;
    assert_int_equal(error, 0);
    *(bool *)userdata = true;
}

static void store_raw(struct fixture *fixture, const char *kind, const char *name, const char *value) {
    const struct store_write write = {
        .verb = STORE_CREATE, .kind = slice_of(kind), .namespace = SLICE("default"), .name = slice_of(name), .value = slice_of(value)};
    bool done = false;
    assert_int_equal(store_write(fixture->store, &write, on_stored, &done, NULL), 0);
    for (int i = 0; i < TURNS_MAX && !done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(done);
}

/* Rules that a release brings along hold up nothing of what is there already, whichever door it changes by. */
UNIT_TEST(a_pod_from_before_a_rule_goes_on) {
    struct fixture *fixture = *state;
    static const char pod[] = "/api/v1/namespaces/default/pods/p";
    static const char *const steps[][3] = {
        {"POST", "/binding", "{\"target\":{\"name\":\"node1\"}}"},
        {"PATCH", "/resize", "{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"resources\":{\"requests\":{\"cpu\":\"2m\"}}}]}}"},
        {"PATCH", "/ephemeralcontainers", "{\"spec\":{\"ephemeralContainers\":[{\"name\":\"e\",\"image\":\"i\"}]}}"},
    };
    store_raw(fixture, "pods", "p",
              "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"p\",\"namespace\":\"default\",\"uid\":\"u\"},\"spec\":{"
              "\"hostNetwork\":true,"
              "\"securityContext\":{\"sysctls\":[{\"name\":\"net.ipv4.tcp_rmem\",\"value\":\"1\"}]},\"containers\":[{\"name\":\"c\",\"image\":\"i\","
              "\"resources\":{"
              "\"requests\":{\"cpu\":\"1m\"}}}]}}");
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        char path[200];
        snprintf(path, sizeof path, "%s%s", pod, steps[i][1]);
        struct reply reply = ask_as(fixture, steps[i][0], path, strcmp(steps[i][0], "PATCH") == 0 ? MERGE : NULL, steps[i][2], NULL);
        assert_in_range(reply.status, 200, 202);
    }
}

/* A pod's too, whichever door its specification changes by: but not by its binding, whose version is the first that runs. */
UNIT_TEST(a_pods_generation_counts_what_may_change) {
    struct fixture *fixture = *state;
    static const char pod[] = "/api/v1/namespaces/default/pods/p";
    static const struct {
        const char *method, *suffix, *body;
        int64_t generation; /* then */
    } steps[] = {
        {"POST", "/binding", "{\"target\":{\"name\":\"node1\"}}", 1},
        {"PATCH", "", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}", 1},
        {"PATCH", "/status", "{\"status\":{\"phase\":\"Running\"}}", 1},
        {"PATCH", "", "{\"spec\":{\"activeDeadlineSeconds\":600}}", 2},
        {"PATCH", "", "{\"spec\":{\"activeDeadlineSeconds\":600}}", 2},
        {"PATCH", "/resize", "{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"resources\":{\"requests\":{\"cpu\":\"2m\"}}}]}}", 3},
        {"PATCH", "/ephemeralcontainers", "{\"spec\":{\"ephemeralContainers\":[{\"name\":\"e\",\"image\":\"i\"}]}}", 4},
        {"DELETE", "", NULL, 5},
        {"DELETE", "", "{\"gracePeriodSeconds\":3}", 5},
    };
    struct reply reply = ask(fixture, "POST", "/api/v1/namespaces/default/pods",
                             "{\"metadata\":{\"name\":\"p\",\"generation\":100},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\","
                             "\"resources\":{\"requests\":{\"cpu\":\"1m\"}}}]}}");
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 1);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        char path[200];
        snprintf(path, sizeof path, "%s%s", pod, steps[i].suffix);
        reply = ask_as(fixture, steps[i].method, path, strcmp(steps[i].method, "PATCH") == 0 ? MERGE : NULL, steps[i].body, NULL);
        assert_in_range(reply.status, 200, 202);
        reply = ask(fixture, "GET", pod, NULL);
        assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), steps[i].generation);
    }
}

#define WITH_API(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_API(refusals_are_upstreams),
        WITH_API(some_kinds_are_created_by_an_update),
        WITH_API(a_collection_is_answered_with_what_it_was),
        WITH_API(generations_count_as_upstream),
        WITH_API(a_pods_generation_counts_what_may_change),
        WITH_API(reviews_are_no_tables),
        WITH_API(a_pod_from_before_a_rule_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
