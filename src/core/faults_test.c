/* Memory that is refused while it is found out which images are in use: one that was overlooked would be removed. */
#include "core/images_priv.h"

#include "faults.h"
#include "unit.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct oci_digest none = {.hex = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"};
static const struct oci_digest known = {.hex = HEX64};

static int scan(__attribute__((unused)) void *context) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct images_used used;
    if (!arena)
        return -ENOMEM;
    int r = images_used_init(&used, arena);
    if (r == 0) {
        images_used_scan(&used,
                         SLICE("{\"containers\":[{\"image\":\"10.88.0.1:5000/hello:abc\"},{\"image\":\"debian\"}],\"reference\":\"ghcr.io/a/b:v1\","
                               "\"imageID\":\"tidemill@sha256:" HEX64 "\"}"),
                         "Pod a/b");
        r = used.error;
    }
    if (r == 0) {
        assert_non_null(images_used_by(&used, "hello", "abc", &none));
        assert_non_null(images_used_by(&used, "debian", "latest", &none));
        assert_non_null(images_used_by(&used, "ghcr.io/a/b", "v1", &none));
        assert_non_null(images_used_by(&used, "other", "tag", &known));
        assert_int_equal(used.digests_list.count, 1);
    }
    images_used_deinit(&used);
    return r;
}

UNIT_TEST(no_image_in_use_is_overlooked) {
    TEST_FAULTS(scan, NULL);
}

/* Of ten that may go, six are enough; or none goes. */
static int choose(__attribute__((unused)) void *context) {
    struct image_tag tags[10];
    size_t chosen[ARRAY_LEN(tags)];
    for (size_t i = 0; i < ARRAY_LEN(tags); i++)
        tags[i] = (struct image_tag){.repository = "a", .tag = "t", .is_pulled = true, .bytes = 100, .used_ns = (int64_t)(10 - i)};
    size_t count = images_choose(tags, ARRAY_LEN(tags), 1600, 1, chosen);
    if (count == 0)
        return -ENOMEM;
    assert_int_equal(count, 6);
    assert_int_equal(chosen[0], 9);
    return 0;
}

UNIT_TEST(images_that_go_are_chosen_or_none_does) {
    TEST_FAULTS(choose, NULL);
}

UNIT_MAIN(UNIT(no_image_in_use_is_overlooked), UNIT(images_that_go_are_chosen_or_none_does))
