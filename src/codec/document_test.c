#include "codec/json.h"
#include "codec/yaml.h"

#include "unit.h"

#include <stdio.h>

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

/* With and without an index over its keys, a map is the same. */
UNIT_TEST(maps_of_many_keys_keep_their_order) {
    struct tree *map = tree_map(arena);
    char key[20];
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(tree_set(arena, map, slice_of(key), tree_int(arena, i)), 0);
    }
    for (int i = 0; i < 500; i += 2) {
        snprintf(key, sizeof key, "k%d", i);
        assert_true(tree_unset(map, slice_of(key)));
        assert_false(tree_unset(map, slice_of(key)));
    }
    tree_truncate(map, 200);
    struct tree *copy = tree_copy(arena, map);
    assert_int_equal(tree_set(arena, copy, SLICE("k0"), tree_int(arena, -1)), 0);
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "k%d", i);
        bool there = i % 2 && i < 400;
        assert_int_equal(tree_int_or(tree_find(map, key), -2), there ? i : -2);
        assert_int_equal(tree_int_or(tree_find(copy, key), -2), there ? i : i ? -2 : -1);
    }
    assert_string_equal(map->children->items[199].key.data, "k399");
    assert_false(tree_equal(map, copy));
    assert_true(tree_unset(copy, SLICE("k0")) && tree_equal(map, copy));
}

UNIT_TEST(depth_is_looked_at_no_further_than_asked) {
    const struct tree *node = json("{\"a\":[{\"b\":[]}]}");
    assert_true(tree_is_deeper(node, 3));
    assert_false(tree_is_deeper(node, 4));
    assert_false(tree_is_deeper(json("1"), 0));
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

static void patch_is_too_much(const char *target, const struct buffer *patch, const char *why) {
    CLEANUP(arena_freep) struct arena *large = arena_new(64 * MIB);
    struct tree *operations, *result;
    struct diag diag = DIAG_INIT;
    assert_int_equal(json_parse(large, buffer_slice(patch), NULL, &operations, &diag), 0);
    assert_int_equal(tree_json_patch(large, json(target), operations, &result, &diag), -E2BIG);
    assert_non_null(strstr(diag.message, why));
}

UNIT_TEST(json_patches_cannot_explode) {
    CLEANUP(buffer_deinit) struct buffer copies = BUFFER_INIT(MIB), moves = BUFFER_INIT(MIB), chain = BUFFER_INIT(MIB), path = BUFFER_INIT(MIB);
    buffer_append_text(&copies, "[{\"op\":\"test\",\"path\":\"/a\",\"value\":{}}");
    for (int i = 0; i < 40; i++)
        buffer_printf(&copies, ",{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/a/%d\"}", i);
    buffer_append_text(&copies, "]");
    patch_is_too_much("{\"a\":{}}", &copies, "the accumulated size increase of copy is");
    buffer_append_text(&moves, "[{\"op\":\"add\",\"path\":\"/a\",\"value\":[]}");
    for (int i = 0; i < 9000; i++)
        buffer_append_text(&moves, ",{\"op\":\"add\",\"path\":\"/a/0\",\"value\":1}");
    buffer_append_text(&moves, "]");
    patch_is_too_much("{}", &moves, "move too much about");
    buffer_append_text(&chain, "[{\"op\":\"test\",\"path\":\"/a\",\"value\":{}}");
    for (size_t len = 2; len <= 4096; len *= 2) { /* each copy doubles the depth */
        buffer_append_text(&path, "/a");
        for (size_t i = 2; i < len; i += 2)
            buffer_append_text(&path, "/a");
        buffer_printf(&chain, ",{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"%.*s/a\"}", SLICE_ARG(slice_head(buffer_slice(&path), len)));
        buffer_truncate(&path, 0);
    }
    buffer_append_text(&chain, "]");
    patch_is_too_much("{\"a\":{}}", &chain, "nested deeper than");
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

UNIT_TEST(yaml_bounds_anchors_and_directives) {
    static const struct {
        const char *line;
        int count;
        const char *why;
    } cases[] = {{"- &a%d x\n", YAML_ANCHORS_MAX, "too many anchors"}, {"%%TAG !t%d! tag:x,2000:\n", YAML_DIRECTIVES_MAX, "too many directives"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
        struct tree *node;
        struct diag diag = DIAG_INIT;
        for (int j = 0; j <= cases[i].count; j++)
            buffer_printf(&text, cases[i].line, j);
        assert_int_equal(yaml_parse_one(arena, buffer_slice(&text), &node, &diag), -EINVAL);
        assert_non_null(strstr(diag.message, cases[i].why));
    }
    json_equals(yaml("[1e999, -1e999]"), "[\"1e999\",\"-1e999\"]"); /* nothing that JSON cannot say */
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
          CASE(maps_of_many_keys_keep_their_order), CASE(depth_is_looked_at_no_further_than_asked), CASE(merge_patch_follows_rfc_7386),
          CASE(json_patch_follows_rfc_6902), CASE(json_patches_cannot_explode), CASE(yaml_resolves_scalars), CASE(yaml_anchors_merge_keys_and_tags),
          CASE(yaml_refuses_with_a_position), CASE(yaml_stops_billion_laughs), CASE(yaml_bounds_anchors_and_directives), CASE(yaml_streams))
