/* Which images count as used, and which of a repository are the newest. */
#include "unit.h"

#include "core/disk_budget_priv.h"
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

static size_t choose(const struct image_tag *tags, size_t count, uint64_t bytes, char *ret) {
    size_t chosen[8], n = images_choose(tags, count, bytes, 1000, chosen);
    for (size_t i = 0; i < n; i++)
        ret[i] = tags[chosen[i]].repository[0];
    ret[n] = 0;
    return n;
}

UNIT_TEST(who_was_of_use_the_longest_ago_goes_first) {
    const struct image_tag tags[] = {
        {.repository = "a", .tag = "1", .is_pulled = true, .time_ns = 10, .used_ns = 500, .bytes = 100},
        {.repository = "b", .tag = "1", .is_pulled = true, .time_ns = 20, .used_ns = 0, .bytes = 100},
        {.repository = "c", .tag = "1", .is_pulled = true, .time_ns = 15, .used_ns = 0, .bytes = 100},
        {.repository = "d", .tag = "1", .is_pulled = true, .is_needed = true, .time_ns = 1, .bytes = 100},
        {.repository = "e", .tag = "1", .is_pulled = false, .time_ns = 1, .bytes = 100},
        {.repository = "f", .tag = "1", .is_pulled = true, .time_ns = 1001, .bytes = 100}, /* too young */
    };
    char order[8];
    assert_int_equal(choose(tags, ARRAY_LEN(tags), UINT64_MAX, order), 3);
    assert_string_equal(order, "cba");
    assert_int_equal(choose(tags, ARRAY_LEN(tags), 1, order), 1);
    assert_string_equal(order, "c");
    assert_int_equal(choose(tags, ARRAY_LEN(tags), 301, order), 2);
    assert_int_equal(choose(tags, ARRAY_LEN(tags), 0, order), 0);
    assert_int_equal(choose(tags, 0, UINT64_MAX, order), 0);
}

UNIT_TEST(images_go_from_the_high_threshold_to_the_low_one) {
    const struct disk_budget budget = {.high_percent = 85, .low_percent = 80}, never = {.high_percent = 100, .low_percent = 80};
    const uint64_t total = 1000 * GIB;
    assert_int_equal(disk_budget_excess(&budget, &(struct disk_space){.free = 150 * GIB, .total = total}), 0);
    assert_int_equal(disk_budget_excess(&budget, &(struct disk_space){.free = 149 * GIB, .total = total}), 51 * GIB);
    assert_int_equal(disk_budget_excess(&never, &(struct disk_space){.free = 0, .total = total}), 0);
    assert_int_equal(disk_budget_rest(&budget, &(struct disk_space){.free = 199 * GIB, .total = total}), GIB);
    assert_int_equal(disk_budget_rest(&budget, &(struct disk_space){.free = 200 * GIB, .total = total}), 0);
    assert_true(disk_space_is_scarce(&(struct disk_space){.free = 49 * GIB, .total = total}));
    assert_false(disk_space_is_scarce(&(struct disk_space){.free = 50 * GIB, .total = total}));
}

UNIT_MAIN(UNIT(finds_what_objects_refer_to), UNIT(broken_references_are_passed_over), UNIT(ranks_builds_by_age_within_their_repository),
          UNIT(who_was_of_use_the_longest_ago_goes_first), UNIT(images_go_from_the_high_threshold_to_the_low_one))
