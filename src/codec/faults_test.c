#include "codec/codec.h"

#include "faults.h"
#include "unit.h"

/* What a round trip is made of: read, copy, write, and read again. */
struct text {
    const char *source;
    const char *expected; /* JSON */
    int (*parse)(struct arena *arena, struct slice text, struct tree **ret, struct diag *diag);
    int (*format)(struct buffer *out, const struct tree *node);
};

static int parse_json(struct arena *arena, struct slice text, struct tree **ret, struct diag *diag) {
    return json_parse(arena, text, NULL, ret, diag);
}

static int round_trip(void *context) {
    const struct text *text = context;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(MIB), own = BUFFER_INIT(MIB);
    struct diag diag = DIAG_INIT;
    struct tree *tree = NULL, *again = NULL;
    int r = arena ? text->parse(arena, slice_of(text->source), &tree, &diag) : -ENOMEM;
    if (r < 0)
        return r;
    struct tree *copy = tree_copy(arena, tree);
    r = copy ? json_format(&json, copy) : -ENOMEM;
    if (r < 0)
        return r;
    assert_string_equal(json.data, text->expected);
    r = text->format(&own, tree);
    if (r == 0)
        r = text->parse(arena, buffer_slice(&own), &again, &diag);
    if (r == 0)
        assert_true(tree_equal(tree, again));
    return r;
}

UNIT_TEST(documents) {
    static struct text texts[] = {
        {"{\"a\":[1,2.5,\"x\\u00e9\\n\",null,true],\"b\":{\"c\":{}},\"long\":[1,2,3,4,5,6,7,8,9]}",
         "{\"a\":[1,2.5,\"x\xc3\xa9\\n\",null,true],\"b\":{\"c\":{}},\"long\":[1,2,3,4,5,6,7,8,9]}", parse_json, json_format_pretty},
        {"a: &x {k: 1, l: [yes, 0644, ~]}\nb: *x\nc:\n  <<: *x\n  m: |\n    two\n    lines\nd: 'quo''ted'\n",
         "{\"a\":{\"k\":1,\"l\":[true,420,null]},\"b\":{\"k\":1,\"l\":[true,420,null]},\"c\":{\"m\":\"two\\nlines\\n\",\"k\":1,\"l\":[true,420,null]}"
         ","
         "\"d\":\"quo'ted\"}",
         yaml_parse_one, json_format_pretty},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        TEST_FAULTS(round_trip, &texts[i]);
}

static int patch(void *context) {
    bool merge = context != NULL;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(MIB);
    struct diag diag = DIAG_INIT;
    struct tree *target, *change, *result = NULL;
    if (!arena)
        return -ENOMEM;
    faults_pause();
    assert_int_equal(json_parse(arena, SLICE("{\"a\":{\"b\":1,\"c\":[1,2]},\"d\":\"x\"}"), NULL, &target, &diag), 0);
    struct slice text = merge ? SLICE("{\"a\":{\"b\":null,\"e\":{\"f\":1}},\"c\":[3]}")
                              : SLICE("[{\"op\":\"add\",\"path\":\"/a/c/1\",\"value\":{\"z\":1}},{\"op\":\"move\",\"from\":\"/d\",\"path\":\"/a/d\"},"
                                      "{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/e\"},{\"op\":\"test\",\"path\":\"/a/b\",\"value\":1},"
                                      "{\"op\":\"remove\",\"path\":\"/a/b\"},{\"op\":\"replace\",\"path\":\"/a/c/0\",\"value\":9}]");
    assert_int_equal(json_parse(arena, text, NULL, &change, &diag), 0);
    faults_resume();
    int r = 0;
    if (merge)
        r = (result = tree_merge_patch(arena, target, change)) ? 0 : -ENOMEM;
    else
        r = tree_json_patch(arena, target, change, &result, &diag);
    if (r == 0)
        r = json_format(&json, result);
    if (r == 0)
        assert_string_equal(json.data, merge ? "{\"a\":{\"c\":[1,2],\"e\":{\"f\":1}},\"d\":\"x\",\"c\":[3]}"
                                             : "{\"a\":{\"c\":[9,{\"z\":1},2],\"d\":\"x\"},\"e\":{\"b\":1,\"c\":[1,{\"z\":1},2],\"d\":\"x\"}}");
    return r;
}

UNIT_TEST(patches) {
    TEST_FAULTS(patch, NULL);
    TEST_FAULTS(patch, "merge");
}

static int texts(__attribute__((unused)) void *context) {
    CLEANUP(buffer_deinit) struct buffer encoded = BUFFER_INIT(KIB), decoded = BUFFER_INIT(KIB);
    CLEANUP(arena_freep) struct arena *arena = arena_new(KIB);
    struct query query;
    int r = arena ? query_parse(arena, SLICE("a=1&b=%20x&c"), &query) : -ENOMEM;
    if (r < 0)
        return r;
    assert_string_equal(query_find(&query, "b"), " x");
    if ((r = base64_encode(&encoded, SLICE("some bytes"))) < 0 || (r = base64_decode(&decoded, buffer_slice(&encoded))) < 0)
        return r;
    assert_string_equal(decoded.data, "some bytes");
    buffer_deinit(&encoded);
    buffer_deinit(&decoded);
    if ((r = percent_encode(&encoded, SLICE("a/b c"))) < 0 || (r = percent_decode(&decoded, buffer_slice(&encoded), false)) < 0)
        return r;
    assert_string_equal(decoded.data, "a/b c");
    return 0;
}

static int websocket_frames(__attribute__((unused)) void *context) {
    CLEANUP(buffer_deinit) struct buffer wire = BUFFER_INIT(KIB);
    static const uint8_t mask[4] = {1, 2, 3, 4};
    struct websocket_decoder decoder;
    struct websocket_event event;
    size_t used = 0, at = 0;
    websocket_encode(&wire, WEBSOCKET_TEXT, false, mask, SLICE("he"));
    websocket_encode(&wire, WEBSOCKET_CONTINUATION, true, mask, SLICE("llo"));
    if (buffer_error(&wire))
        return buffer_error(&wire);
    websocket_decoder_init(&decoder, true, KIB);
    do {
        websocket_decoder_step(&decoder, slice_from(buffer_slice(&wire), at), &used, &event);
        at += used;
    } while (event.type == WEBSOCKET_EVENT_NONE && at < wire.len);
    int r = event.type == WEBSOCKET_EVENT_MESSAGE ? 0 : -ENOMEM;
    if (r < 0)
        assert_int_equal(event.code, 1011);
    else
        assert_true(slice_is(event.payload, "hello"));
    websocket_decoder_deinit(&decoder);
    return r;
}

UNIT_TEST(text_codecs_and_frames) {
    TEST_FAULTS(texts, NULL);
    TEST_FAULTS(websocket_frames, NULL);
}

UNIT_MAIN(UNIT(documents), UNIT(patches), UNIT(text_codecs_and_frames))
