#include "codec/json.h"
#include "codec/yaml.h"

#include "unit.h"

static struct arena *arena;

static int setup(__attribute__((unused)) void **state) {
    arena = arena_new(MIB);
    return arena ? 0 : -1;
}

static int teardown(__attribute__((unused)) void **state) {
    arena_free(arena);
    return 0;
}

static struct tree *json(const char *text) {
    struct tree *node = NULL;
    struct diag diag = DIAG_INIT;
    if (json_parse(arena, slice_of(text), NULL, &node, &diag) < 0)
        fail_msg("%s: %s", text, diag.message);
    return node;
}

static void json_equals(const struct tree *node, const char *expected) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    assert_int_equal(json_format(&out, node), 0);
    assert_string_equal(out.data, expected);
}

UNIT_TEST(json_round_trips) {
    static const char *const texts[] = {
        "null", "true", "-12", "1.5", "\"a\\\"b\\\\\\n\\u0001é\"", "[1,[],{}]", "{\"a\":{\"b\":[null,false]},\"c\":\"\"}", "1e+300"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        json_equals(json(texts[i]), texts[i]);
    json_equals(json("\"\\ud83d\\ude00\\ud800\\/\""), "\"😀\xef\xbf\xbd/\"");
    json_equals(json("9223372036854775808"), "9.223372036854776e+18");
    json_equals(json(" {\n} "), "{}");
}

UNIT_TEST(json_refuses_with_a_position) {
    static const struct {
        const char *text;
        int line, column;
    } cases[] = {{"", 1, 1},
                 {"{\"a\":1,}", 1, 8},
                 {"[1\n 2]", 2, 2},
                 {"01", 1, 3},
                 {"{\"a\":1,\"a\":2}", 1, 8},
                 {"\"\x01\"", 1, 2},
                 {"\"\xff\"", 1, 2},
                 {"1 1", 1, 3},
                 {"\"abc", 1, 5},
                 {"nul", 1, 1},
                 {"{1:2}", 1, 2},
                 {"\"\\x\"", 1, 3},
                 {"\"\\u12", 1, 6},
                 {"\"\xed\xa0\x80\"", 1, 2},
                 {"-", 1, 2},
                 {"1.", 1, 3},
                 {"1e999", 1, 1},
                 {"\"\\", 1, 3}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tree *node;
        struct diag diag = DIAG_INIT;
        int r = json_parse(arena, slice_of(cases[i].text), NULL, &node, &diag);
        if (r != -EINVAL || diag.line != cases[i].line || diag.column != cases[i].column)
            fail_msg("%s: %d at %d:%d: %s", cases[i].text, r, diag.line, diag.column, diag.message);
        assert_true(diag.message[0]);
    }
}

UNIT_TEST(json_limits_depth_and_memory) {
    char deep[JSON_DEPTH_MAX + 2];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    struct tree *node;
    struct diag diag = DIAG_INIT;
    assert_int_equal(json_parse(arena, slice_of(deep), NULL, &node, &diag), -EINVAL);
    CLEANUP(arena_freep) struct arena *small = arena_new(300);
    assert_int_equal(json_parse(small, SLICE("[1,2,3,4,5,6,7,8,9]"), NULL, &node, &diag), -ENOMEM);
}

UNIT_TEST(json_finds_duplicates_among_many_keys) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    buffer_append_byte(&text, '{');
    for (int i = 0; i < 200; i++)
        buffer_printf(&text, "\"k%d\":%d,", i, i);
    buffer_append_text(&text, "\"k77\":0}");
    struct tree *node;
    assert_int_equal(json_parse(arena, buffer_slice(&text), NULL, &node, NULL), -EINVAL);
    assert_int_equal(json_parse(arena, buffer_slice(&text), &(struct json_options){.allow_duplicates = true}, &node, NULL), 0);
    assert_int_equal(tree_count(node), 200);
    assert_int_equal(tree_int_or(tree_find(node, "k77"), -1), 0);
}

UNIT_TEST(merge_patch_follows_rfc_7386) {
    static const char *const cases[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"[1]", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {"{\"a\":1}", "[2]", "[2]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        json_equals(tree_merge_patch(arena, json(cases[i][0]), json(cases[i][1])), cases[i][2]);
}

UNIT_TEST(json_patch_follows_rfc_6902) {
    static const struct {
        const char *target, *patch, *result; /* NULL: does not apply */
    } cases[] = {
        {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/b\",\"value\":2}]", "{\"a\":1,\"b\":2}"},
        {"{\"a\":[1,2]}", "[{\"op\":\"add\",\"path\":\"/a/1\",\"value\":9},{\"op\":\"add\",\"path\":\"/a/-\",\"value\":8}]", "{\"a\":[1,9,2,8]}"},
        {"{\"a\":[1,2]}", "[{\"op\":\"remove\",\"path\":\"/a/0\"}]", "{\"a\":[2]}"},
        {"{\"a/b\":1,\"m~n\":2}", "[{\"op\":\"replace\",\"path\":\"/a~1b\",\"value\":3},{\"op\":\"test\",\"path\":\"/m~0n\",\"value\":2}]",
         "{\"a/b\":3,\"m~n\":2}"},
        {"{\"a\":{\"x\":1}}", "[{\"op\":\"move\",\"from\":\"/a/x\",\"path\":\"/y\"},{\"op\":\"copy\",\"from\":\"/y\",\"path\":\"/a/z\"}]",
         "{\"a\":{\"z\":1},\"y\":1}"},
        {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"\",\"value\":[]}]", "[]"},
        {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"/b\",\"value\":1}]", NULL},
        {"{\"a\":1}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":2}]", NULL},
        {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/2\",\"value\":2}]", NULL},
        {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/01\",\"value\":2}]", NULL},
        {"{\"a\":{}}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a/b\"}]", NULL},
        {"{}", "[{\"op\":\"jump\",\"path\":\"/a\"}]", NULL},
        {"{}", "[{\"op\":\"remove\",\"path\":\"\"}]", NULL},
        {"{}", "[{\"op\":\"add\",\"path\":\"a\",\"value\":1}]", NULL},
        {"{}", "{}", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tree *result;
        struct diag diag = DIAG_INIT;
        int r = tree_json_patch(arena, json(cases[i].target), json(cases[i].patch), &result, &diag);
        if ((r == 0) != (cases[i].result != NULL))
            fail_msg("case %zu: %d %s", i, r, diag.message);
        if (r == 0)
            json_equals(result, cases[i].result);
        else
            assert_true(diag.message[0]);
    }
}

static struct tree *yaml(const char *text) {
    struct tree *node = NULL;
    struct diag diag = DIAG_INIT;
    if (yaml_parse_one(arena, slice_of(text), &node, &diag) < 0)
        fail_msg("%s: %d:%d %s", text, diag.line, diag.column, diag.message);
    return node;
}

UNIT_TEST(yaml_resolves_scalars) {
    json_equals(yaml("[a, 1, 0x1f, 0644, 1.5, true, off, ~, 'yes', \"1\", 1_0, 2026-01-01, 1e3, -, .5, !!str 5]"),
                "[\"a\",1,31,420,1.5,true,false,null,\"yes\",\"1\",\"1_0\",\"2026-01-01\",1000,\"-\",0.5,\"5\"]");
    json_equals(yaml("a: |\n  x\n  y\nb: >-\n  p\n  q\n1: z\n"), "{\"a\":\"x\\ny\\n\",\"b\":\"p q\",\"1\":\"z\"}");
}

UNIT_TEST(yaml_anchors_merge_keys_and_tags) {
    json_equals(yaml("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nlist: *b\n"),
                "{\"base\":{\"x\":1,\"y\":2},\"use\":{\"y\":3,\"x\":1},\"list\":{\"x\":1,\"y\":2}}");
    json_equals(yaml("s: !reference [a, b]"), "{\"s\":{\"!reference\":[\"a\",\"b\"]}}");
}

UNIT_TEST(yaml_refuses_with_a_position) {
    static const struct {
        const char *text;
        int line;
    } cases[] = {{"a: 1\nb: [1\n", 3}, {"a: 1\n\tb: 2\n", 2}, {"a: 1\na: 2\n", 2}, {"a: *x\n", 1},
                 {"a: &a [*a]\n", 1},  {"a: b: c\n", 1},      {"<<: 3\n", 1},      {"? [a]\n: b\n", 1}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tree *node;
        struct diag diag = DIAG_INIT;
        int r = yaml_parse_one(arena, slice_of(cases[i].text), &node, &diag);
        if (r != -EINVAL || diag.line != cases[i].line || !diag.message[0])
            fail_msg("%s: %d at %d: %s", cases[i].text, r, diag.line, diag.message);
    }
}

UNIT_TEST(yaml_stops_billion_laughs) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    buffer_append_text(&text, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 10; i++)
        buffer_printf(&text, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1,
                      i - 1, i - 1);
    struct tree *node;
    assert_true(yaml_parse_one(arena, buffer_slice(&text), &node, NULL) < 0);
}

UNIT_TEST(yaml_format_reads_back) {
    static const char *const texts[] = {"{\"a\":{\"b\":[1,\"two\",null,{\"c\":true,\"d\":[[1]]}]},\"e\":\"\",\"f\":[],\"g\":{}}",
                                        ("{\"s\":\"yes\",\"n\":\"1\",\"m\":\"x: y\",\"l\":\"a\\nb\\n\",\"l2\":\"a\\n\\nb\",\"q\":\"- a\",\"t\":\"a "
                                        "\",\"u\":\"é\",\"h\":\"#\",\"c\":\"a\\u0001\"}"),
                                        "[{\"a\":1},{\"b\":{\"c\":\"x\\ny\"}}]"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
        assert_int_equal(yaml_format(&out, json(texts[i])), 0);
        json_equals(yaml(out.data), texts[i]);
    }
}

UNIT_TEST(yaml_streams) {
    struct tree **documents;
    size_t count;
    assert_int_equal(yaml_parse(arena, SLICE("---\na: 1\n---\n---\nb: 2\n...\n"), &documents, &count, NULL), 0);
    assert_int_equal(count, 2);
    json_equals(documents[1], "{\"b\":2}");
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
UNIT_MAIN(CASE(json_round_trips), CASE(json_refuses_with_a_position), CASE(json_limits_depth_and_memory), CASE(json_finds_duplicates_among_many_keys),
          CASE(merge_patch_follows_rfc_7386), CASE(json_patch_follows_rfc_6902), CASE(yaml_resolves_scalars), CASE(yaml_anchors_merge_keys_and_tags),
          CASE(yaml_refuses_with_a_position), CASE(yaml_stops_billion_laughs), CASE(yaml_format_reads_back), CASE(yaml_streams))
