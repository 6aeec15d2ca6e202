/* Reads: pages of one snapshot, revisions, forms of answers, selections. */
#include "api/api_testing_priv.h"

#include <zlib.h>

#define MAPS "/api/v1/namespaces/default/configmaps"
#define APP "?labelSelector=app=x"

static void make_map(struct fixture *fixture, const char *name, const char *value) {
    char body[4 * KIB];
    snprintf(body, sizeof body, "{\"metadata\":{\"name\":\"%s\",\"labels\":{\"app\":\"x\"}},\"data\":{\"k\":\"%s\"}}", name, value);
    assert_int_equal(ask(fixture, "POST", MAPS, body).status, 201);
}

static const char *name_at(const struct reply *reply, size_t index) {
    return tree_text_or(tree_path(tree_at(tree_find(reply->tree, "items"), index), "metadata.name"), "");
}

/* The page behind `token`. */
static struct reply page(struct fixture *fixture, const char *token) {
    char target[1024];
    snprintf(target, sizeof target, MAPS "?limit=2&continue=%s", token);
    return ask(fixture, "GET", target, NULL);
}

UNIT_TEST(pages_are_of_one_snapshot) {
    struct fixture *fixture = *state;
    for (const char *name = "abcde"; *name; name++)
        make_map(fixture, (const char[]){*name, 0}, "1");
    struct reply first = ask(fixture, "GET", MAPS "?limit=2", NULL);
    assert_string_equal(name_at(&first, 1), "b");
    assert_int_equal(tree_int_or(tree_path(first.tree, "metadata.remainingItemCount"), 0), 3);
    ask(fixture, "DELETE", MAPS "/c", NULL);
    make_map(fixture, "cc", "1");
    struct reply second = page(fixture, text(&first, "metadata.continue"));
    assert_string_equal(name_at(&second, 0), "c");
    assert_string_equal(name_at(&second, 1), "d");
    assert_string_equal(text(&second, "metadata.resourceVersion"), text(&first, "metadata.resourceVersion"));
    struct reply third = page(fixture, text(&second, "metadata.continue"));
    assert_int_equal(tree_count(tree_find(third.tree, "items")), 1);
    assert_null(tree_path(third.tree, "metadata.continue"));
    /* so much happens that the first page's state is forgotten: the token in the answer goes on with the newest */
    for (int i = 0; i < 20; i++) {
        char name[8];
        snprintf(name, sizeof name, "z%d", i);
        make_map(fixture, name, "1");
    }
    struct reply late = page(fixture, text(&first, "metadata.continue"));
    assert_int_equal(late.status, 410);
    assert_string_equal(text(&late, "reason"), "Expired");
    assert_non_null(strstr(text(&late, "message"), "The provided continue parameter is too old to display a consistent list result."));
    struct reply rest = page(fixture, text(&late, "metadata.continue"));
    assert_int_equal(rest.status, 200);
    assert_string_equal(name_at(&rest, 0), "cc");
}

UNIT_TEST(revisions_are_exact_or_refused) {
    struct fixture *fixture = *state;
    make_map(fixture, "a", "1");
    struct reply then = ask(fixture, "GET", MAPS, NULL);
    make_map(fixture, "b", "1");
    char target[256];
    snprintf(target, sizeof target, MAPS "?resourceVersion=%s&resourceVersionMatch=Exact", text(&then, "metadata.resourceVersion"));
    struct reply exact = ask(fixture, "GET", target, NULL);
    assert_int_equal(tree_count(tree_find(exact.tree, "items")), 1);
    assert_string_equal(text(&exact, "metadata.resourceVersion"), text(&then, "metadata.resourceVersion"));
    snprintf(target, sizeof target, MAPS "?resourceVersion=%s&resourceVersionMatch=NotOlderThan", text(&then, "metadata.resourceVersion"));
    assert_int_equal(tree_count(tree_find(ask(fixture, "GET", target, NULL).tree, "items")), 2);
    const struct {
        const char *target, *message;
        int status;
    } cases[] = {
        {MAPS "?resourceVersionMatch=Exact",
         "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is "
         "provided",
         422},
        {MAPS "?resourceVersion=0&resourceVersionMatch=Exact",
         "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion "
         "\"0\"",
         422},
        {MAPS "?resourceVersion=1&resourceVersionMatch=x",
         "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \"x\": supported values: \"Exact\", \"NotOlderThan\", "
         "\"\"",
         422},
        {MAPS "?continue=x", "invalid continue token: continue key is not valid", 400},
        {MAPS "?sendInitialEvents=true&watch=true",
         "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to "
         "NotOlderThan",
         422},
        {MAPS "?fieldSelector=data.k%3D1", "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", 400},
        {"/api/v1/pods?fieldSelector=spec.foo%3D1", "field label not supported: spec.foo", 400},
        {"/apis/batch/v1/jobs?fieldSelector=spec.foo%3D1", "field label \"spec.foo\" not supported for batchv1.Job", 400},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reply reply = ask(fixture, "GET", cases[i].target, NULL);
        assert_string_equal(text(&reply, "message"), cases[i].message);
        assert_int_equal(reply.status, cases[i].status);
    }
    struct reply far = ask(fixture, "GET", MAPS "?resourceVersion=1000000", NULL);
    assert_int_equal(far.status, 504);
    assert_non_null(strstr(text(&far, "message"), "Timeout: Too large resource version: 1000000, current: "));
    assert_string_equal(tree_text_or(tree_find(tree_at(tree_path(far.tree, "details.causes"), 0), "reason"), ""), "ResourceVersionTooLarge");
    assert_int_equal(ask(fixture, "GET", MAPS "/a?resourceVersion=1000000", NULL).status, 504);
}

UNIT_TEST(metadata_alone_on_request) {
    struct fixture *fixture = *state;
    make_map(fixture, "a", "1");
    struct reply one = ask_as(fixture, "GET", MAPS "/a", NULL, NULL, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    assert_string_equal(text(&one, "kind"), "PartialObjectMetadata");
    assert_string_equal(text(&one, "apiVersion"), "meta.k8s.io/v1");
    assert_string_equal(text(&one, "metadata.labels.app"), "x");
    assert_null(tree_find(one.tree, "data"));
    struct reply all = ask_as(fixture, "GET", MAPS, NULL, NULL, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json");
    assert_string_equal(text(&all, "kind"), "PartialObjectMetadataList");
    assert_string_equal(text(&all, "apiVersion"), "meta.k8s.io/v1");
    assert_string_equal(tree_text_or(tree_find(tree_at(tree_find(all.tree, "items"), 0), "kind"), ""), "PartialObjectMetadata");
}

struct raw {
    struct fixture *fixture;
    bool done;
    char encoding[16];
    struct slice body;
};

static void on_raw(void *userdata, const struct http_answer *answer) {
    struct raw *raw = userdata;
    assert_int_equal(answer->error, 0);
    snprintf(raw->encoding, sizeof raw->encoding, "%.*s", SLICE_ARG(answer->header(answer, "Content-Encoding")));
    raw->body = slice_make(arena_dup(raw->fixture->arena, answer->body), answer->body.len);
    raw->done = true;
}

static struct raw ask_raw(struct fixture *fixture, const char *target, const char *name, const char *value) {
    struct raw raw = {.fixture = fixture};
    const struct http_field fields[] = {{name, value}, {NULL, NULL}};
    const struct http_request_options options = {.method = "GET", .target = target, .fields = fields};
    struct http_request *request = NULL;
    assert_int_equal(http_client_send(fixture->client, &options, on_raw, &raw, &request), 0);
    for (int i = 0; i < TURNS_MAX && !raw.done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    return raw;
}

UNIT_TEST(large_answers_are_compressed_for_whom_accepts_it) {
    struct fixture *fixture = *state;
    char value[3000], name[8];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "m%02d", i);
        make_map(fixture, name, value);
    }
    struct raw plain = ask_raw(fixture, MAPS, "Accept", "application/json"), packed = ask_raw(fixture, MAPS, "Accept-Encoding", "deflate, gzip");
    struct raw small = ask_raw(fixture, MAPS "/m00", "Accept-Encoding", "gzip");
    assert_string_equal(plain.encoding, "");
    assert_string_equal(small.encoding, "");
    assert_string_equal(packed.encoding, "gzip");
    assert_true(plain.body.len > 128 * KIB && packed.body.len < plain.body.len / 4);
    char *out = arena_alloc(fixture->arena, plain.body.len + 1);
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)packed.body.data,
                       .avail_in = (uInt)packed.body.len,
                       .next_out = (Bytef *)out,
                       .avail_out = (uInt)plain.body.len + 1};
    assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
    assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
    assert_true(slice_equal(slice_make(out, stream.total_out), plain.body));
    inflateEnd(&stream);
}

UNIT_TEST(answers_are_indented_on_request) {
    struct fixture *fixture = *state;
    make_map(fixture, "a", "1");
    struct raw asked = ask_raw(fixture, MAPS "/a?pretty=true", NULL, NULL), plain = ask_raw(fixture, MAPS "/a?pretty=false", NULL, NULL);
    assert_true(slice_starts(asked.body, SLICE("{\n  \"kind\": \"ConfigMap\",\n")));
    assert_true(slice_starts(plain.body, SLICE("{\"kind\":\"ConfigMap\",")));
}

UNIT_TEST(who_leaves_a_selection_is_shown_as_it_was) {
    struct fixture *fixture = *state;
    make_map(fixture, "a", "1");
    struct reply list = ask(fixture, "GET", MAPS, NULL);
    struct reply change = ask_as(fixture, "PATCH", MAPS "/a", "application/merge-patch+json",
                                 "{\"metadata\":{\"labels\":{\"app\":\"y\"}},\"data\":{\"k\":\"2\"}}", NULL);
    char target[256];
    snprintf(target, sizeof target, MAPS APP "&watch=true&timeoutSeconds=1&resourceVersion=%s", text(&list, "metadata.resourceVersion"));
    struct raw raw = ask_raw(fixture, target, NULL, NULL);
    struct diag diag = DIAG_INIT;
    struct tree *event = NULL;
    struct slice rest = raw.body, line = slice_cut(&rest, '\n');
    assert_int_equal(json_parse(fixture->arena, line, NULL, &event, &diag), 0);
    assert_string_equal(tree_text_or(tree_find(event, "type"), ""), "DELETED");
    assert_string_equal(tree_text_or(tree_path(event, "object.data.k"), ""), "1");
    assert_string_equal(tree_text_or(tree_path(event, "object.metadata.resourceVersion"), ""), text(&change, "metadata.resourceVersion"));
}

/* --- decoded forms that are dropped --- */

static bool decode_one(void *userdata, struct store_object *stored) {
    assert_non_null(api_decode(userdata, stored));
    return true;
}

struct flood {
    struct fixture *fixture;
    size_t left;
};

/* Schedules the dropping while a watch that is about to be lost waits for its turn. */
static void on_flooded(void *userdata, int error, struct store_object *object) {
    struct flood *flood = userdata;
    struct slice none = {NULL, 0};
    (void)object;
    assert_int_equal(error, 0);
    flood->left--;
    store_list(flood->fixture->store, SLICE("configmaps"), none, none, none, decode_one, flood->fixture->api);
}

UNIT_TEST(a_flood_of_changes_passes) {
    struct fixture *fixture = *state;
    struct flood flood = {.fixture = fixture, .left = 100};
    for (size_t i = 0; i < flood.left; i++) {
        char name[16], value[200];
        snprintf(name, sizeof name, "c%zu", i);
        snprintf(value, sizeof value, "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\"}}",
                 name);
        const struct store_write write = {
            .verb = STORE_CREATE, .kind = SLICE("configmaps"), .namespace = SLICE("default"), .name = slice_of(name), .value = slice_of(value)};
        assert_int_equal(store_write(fixture->store, &write, on_flooded, &flood, NULL), 0);
    }
    for (int i = 0; i < TURNS_MAX && flood.left; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_int_equal(flood.left, 0);
    assert_int_equal(ask(fixture, "GET", "/api/v1/namespaces/default/configmaps/c99", NULL).status, 200);
}

#define LEASES "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
#define OTHER_LEASES "/apis/coordination.k8s.io/v1/namespaces/default/leases"

UNIT_TEST(heartbeats_are_told_and_not_stored) {
    struct fixture *fixture = *state;
    const char *node = "{\"metadata\":{\"name\":\"n1\"},\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\",\"lastHeartbeatTime\":"
                       "\"2026-01-01T00:00:00Z\",\"lastTransitionTime\":\"2026-01-01T00:00:00Z\"}]}}";
    const char *lease = "{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"renewTime\":\"2026-01-01T00:00:00.000000Z\"}}";
    assert_int_equal(ask(fixture, "POST", "/api/v1/nodes", node).status, 201);
    assert_int_equal(ask(fixture, "POST", LEASES, lease).status, 201);
    assert_int_equal(ask(fixture, "POST", OTHER_LEASES, lease).status, 201);
    fixture->heard_ns = INT64_C(1790000000123456789);
    struct reply got = ask(fixture, "GET", LEASES "/n1", NULL), listed = ask(fixture, "GET", "/api/v1/nodes", NULL);
    assert_string_equal(text(&got, "spec.renewTime"), "2026-09-21T14:13:20.123456Z");
    const struct tree *condition = tree_at(tree_path(tree_at(tree_find(listed.tree, "items"), 0), "status.conditions"), 0);
    assert_string_equal(tree_text_or(tree_find(condition, "lastHeartbeatTime"), ""), "2026-09-21T14:13:20Z");
    assert_string_equal(tree_text_or(tree_find(condition, "lastTransitionTime"), ""), "2026-01-01T00:00:00Z");
    struct reply other = ask(fixture, "GET", OTHER_LEASES "/n1", NULL);
    assert_string_equal(text(&other, "spec.renewTime"), "2026-01-01T00:00:00.000000Z");
    fixture->heard_ns = 1; /* never before what was stored */
    got = ask(fixture, "GET", LEASES "/n1", NULL);
    assert_string_equal(text(&got, "spec.renewTime"), "2026-01-01T00:00:00.000000Z");
}

#define WITH_API(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_API(pages_are_of_one_snapshot),       WITH_API(revisions_are_exact_or_refused),
        WITH_API(metadata_alone_on_request),       WITH_API(large_answers_are_compressed_for_whom_accepts_it),
        WITH_API(answers_are_indented_on_request), WITH_API(who_leaves_a_selection_is_shown_as_it_was),
        WITH_API(a_flood_of_changes_passes),       WITH_API(heartbeats_are_told_and_not_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
