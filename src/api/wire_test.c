/* Answers as protobuf. */
#include "api/api_priv.h"

#include "api/api_testing_priv.h"

#define PREFERS "application/vnd.kubernetes.protobuf,application/json"
#define MAPS "/api/v1/namespaces/default/configmaps"
#define MAP "{\"metadata\":{\"name\":\"w\",\"labels\":{\"a\":\"b\"}},\"data\":{\"k\":\"v\"}}"

static const char *unwired(struct fixture *fixture, const struct reply *reply, const char *path) {
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    if (kube_protobuf_to_tree(fixture->arena, reply->bytes, &tree, &diag) != 0)
        fail_msg("%s", diag.message);
    return tree_text_or(tree_path(tree, path), "");
}

UNIT_TEST(objects_and_statuses) {
    struct fixture *fixture = *state;
    struct reply reply = ask_as(fixture, "POST", MAPS, "application/json", MAP, PREFERS);
    assert_int_equal(reply.status, 201);
    assert_string_equal(unwired(fixture, &reply, "data.k"), "v");
    reply = ask_as(fixture, "GET", MAPS "/w", NULL, NULL, PREFERS);
    assert_string_equal(unwired(fixture, &reply, "metadata.labels.a"), "b");
    reply = ask_as(fixture, "GET", MAPS "/absent", NULL, NULL, PREFERS);
    assert_int_equal(reply.status, 404);
    assert_string_equal(unwired(fixture, &reply, "reason"), "NotFound");
    reply = ask_as(fixture, "GET", MAPS "/w", NULL, NULL, "application/json," PREFERS);
    assert_string_equal(text(&reply, "data.k"), "v");
    reply = ask_as(fixture, "GET", "/version", NULL, NULL, PREFERS);
    assert_string_equal(text(&reply, "major"), "1"); /* has no other form than JSON */
}

UNIT_TEST(lists) {
    struct fixture *fixture = *state;
    ask_as(fixture, "POST", MAPS, "application/json", MAP, NULL);
    struct reply reply = ask_as(fixture, "GET", MAPS "?labelSelector=a%3Db", NULL, NULL, PREFERS);
    assert_true(slice_starts(reply.bytes, slice_make("k8s\0\n\023\n\002v1\022\rConfigMapList\022", 26)));
    assert_true(slice_find(reply.bytes, SLICE("\n\001k\022\001v")) > 0);
    reply = ask_as(fixture, "GET", MAPS "?labelSelector=a%3Dnone", NULL, NULL, PREFERS);
    assert_true(slice_starts(reply.bytes, slice_make("k8s\0\n\023\n\002v1\022\rConfigMapList\022", 26)));
    assert_true(slice_find(reply.bytes, SLICE("\n\001k\022\001v")) < 0);
}

UNIT_TEST(watches) {
    struct fixture *fixture = *state;
    ask_as(fixture, "POST", MAPS, "application/json", MAP, NULL);
    struct reply reply = ask_as(fixture, "GET", MAPS "?labelSelector=a%3Db&watch=true&timeoutSeconds=1", NULL, NULL, PREFERS);
    uint64_t length = 0;
    for (int i = 0; i < 4; i++)
        length = length << 8 | (unsigned char)reply.bytes.data[i];
    assert_int_equal(length, reply.bytes.len - 4); /* one event */
    assert_true(slice_starts(slice_from(reply.bytes, 4), SLICE("\n\005ADDED\022")));
    assert_true(slice_find(reply.bytes, slice_make("k8s\0", 4)) > 0);
}

/* The cutter sees strings with brackets, quotes and escapes, and empty lists. */
UNIT_TEST(documents_are_cut) {
    (void)state;
    struct buffer out = BUFFER_INIT(64 * KIB);
    struct slice json =
        SLICE("{\"kind\":\"ConfigMapList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":[{\"data\":{\"a\":\"]},{\\\"\\\\\"}},{\"data\":{}}]}\n");
    assert_int_equal(api_wire_encode(json, &out), 0);
    assert_true(slice_find(buffer_slice(&out), SLICE("\n\001a\022\006]},{\"\\")) > 0);
    buffer_reset(&out);
    assert_int_equal(api_wire_encode(SLICE("{\"kind\":\"WidgetList\",\"apiVersion\":\"x.org/v1\",\"metadata\":{},\"items\":[]}"), &out), -ENOTSUP);
    assert_int_equal(api_wire_encode(SLICE("{\"major\":\"1\"}"), &out), -ENOTSUP);
    buffer_deinit(&out);
}

#define WITH_API(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {WITH_API(objects_and_statuses), WITH_API(lists), WITH_API(watches), UNIT(documents_are_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
