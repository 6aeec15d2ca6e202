/* Which images count as used, and which of a repository are the newest. */
#include "unit.h"

#include "core/images_priv.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct oci_digest none = {.hex = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"};
static const struct oci_digest known = {.hex = HEX64};

UNIT_TEST(finds_what_objects_refer_to) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct images_used used;
    assert_int_equal(images_used_init(&used, arena), 0);
    images_used_scan(
        &used,
        SLICE("{\"spec\":{\"containers\":[{\"image\":\"10.88.0.1:5000/hello:abc\"},{\"image\":\"debian\"},{\"image\":\"ghcr.io/a/b:v1\"}]},"
              "\"status\":{\"imageID\":\"tidemill@sha256:" HEX64 "\"}}"),
        "Pod a/b");
    assert_int_equal(used.error, 0);
    assert_string_equal(images_used_by(&used, "hello", "abc", &none), "Pod a/b");
    assert_non_null(images_used_by(&used, "debian", "latest", &none));
    assert_non_null(images_used_by(&used, "ghcr.io/a/b", "v1", &none));
    assert_non_null(images_used_by(&used, "other", "tag", &known));
    assert_null(images_used_by(&used, "hello", "abd", &none));
    assert_null(images_used_by(&used, "debian", "12", &none));
    assert_int_equal(used.digests_list.count, 1);
    images_used_deinit(&used);
}

UNIT_TEST(broken_references_are_passed_over) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct images_used used;
    assert_int_equal(images_used_init(&used, arena), 0);
    images_used_scan(&used, SLICE("{\"image\":\"\",\"x\":{\"image\":\"..:/ /\"},\"y\":\"sha256:12\",\"image\":\"unterminated"), "Pod a/b");
    assert_int_equal(used.error, 0);
    assert_int_equal(map_count(used.names), 0);
    assert_int_equal(used.digests_list.count, 0);
    images_used_deinit(&used);
}

UNIT_TEST(ranks_builds_by_age_within_their_repository) {
    struct image_tag tags[] = {
        {.repository = "b", .tag = "x", .time_ns = 9},      {.repository = "a", .tag = "old", .time_ns = 1},
        {.repository = "a", .tag = "latest", .time_ns = 5}, {.repository = "a", .tag = "new", .time_ns = 4},
        {.repository = "a", .tag = "middle", .time_ns = 3},
    };
    static const char *const order[] = {"latest", "new", "middle", "old", "x"};
    static const size_t ranks[] = {0, 0, 1, 2, 0};
    images_sort(tags, ARRAY_LEN(tags));
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        assert_string_equal(tags[i].tag, order[i]);
        assert_int_equal(images_rank(tags, i), ranks[i]);
    }
}

UNIT_MAIN(UNIT(finds_what_objects_refer_to), UNIT(broken_references_are_passed_over), UNIT(ranks_builds_by_age_within_their_repository))
