#include "base/base.h"

#include <stdio.h>

#include "unit.h"

UNIT_TEST(arena_honours_its_limit) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(4096);
    assert_non_null(arena_alloc(arena, 4000));
    assert_null(arena_alloc(arena, 4000));
    assert_non_null(arena_alloc(arena, 16));
    assert_null(arena_array(arena, SIZE_MAX / 2, 8));
    arena_reset(arena);
    char *again = arena_alloc(arena, 64);
    assert_non_null(again);
    for (int i = 0; i < 64; i++)
        assert_int_equal(again[i], 0);
}

UNIT_TEST(arena_prints) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(1 << 20);
    assert_string_equal(arena_printf(arena, "%d-%s", 7, "x"), "7-x");
}

UNIT_TEST(buffer_stays_failed_at_its_maximum) {
    CLEANUP(buffer_deinit) struct buffer buffer = BUFFER_INIT(10);
    assert_int_equal(buffer_append_text(&buffer, "0123456789"), 0);
    assert_int_equal(buffer_append_byte(&buffer, 'x'), -EMSGSIZE);
    assert_int_equal(buffer_append_text(&buffer, ""), -EMSGSIZE);
    assert_int_equal(buffer_error(&buffer), -EMSGSIZE);
    buffer_reset(&buffer);
    assert_int_equal(buffer_printf(&buffer, "%s", "abc"), 0);
    assert_string_equal(buffer.data, "abc");
    buffer_consume(&buffer, 1);
    assert_string_equal(buffer.data, "bc");
}

UNIT_TEST(map_keeps_order_through_removals_and_growth) {
    CLEANUP(map_freep) struct map *map = map_new();
    int values[1000];
    char key[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        assert_int_equal(map_put(map, slice_of(key), &values[i], NULL), 0);
    }
    for (int i = 0; i < 1000; i += 2) {
        snprintf(key, sizeof key, "key%d", i);
        assert_ptr_equal(map_remove(map, slice_of(key)), &values[i]);
        assert_null(map_find(map, slice_of(key)));
    }
    assert_int_equal(map_count(map), 500);
    for (int round = 0; round < 5000; round++) {
        assert_int_equal(map_put(map, SLICE("churn"), &values[0], NULL), 0);
        assert_non_null(map_remove(map, SLICE("churn")));
    }
    size_t at = 0, seen = 0;
    void *value;
    while (map_next(map, &at, NULL, &value))
        assert_ptr_equal(value, &values[1 + 2 * seen++]);
    assert_int_equal(seen, 500);
}

UNIT_TEST(heap_orders_and_removes) {
    struct heap heap = {0};
    struct heap_node nodes[200] = {0};
    uint64_t seed = 42;
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        assert_int_equal(heap_push(&heap, &nodes[i], seed >> 33), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(nodes); i += 3)
        heap_remove(&heap, &nodes[i]);
    uint64_t last = 0;
    struct heap_node *first;
    size_t count = 0;
    for (; (first = heap_first(&heap)); count++) {
        assert_true(first->key >= last);
        last = first->key;
        heap_remove(&heap, first);
    }
    assert_int_equal(count, 133);
    heap_deinit(&heap);
}

UNIT_TEST(slices_parse_numbers_strictly) {
    uint64_t u = 0;
    int64_t i = 0;
    assert_int_equal(slice_parse_u64(SLICE("18446744073709551615"), UINT64_MAX, &u), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(slice_parse_u64(SLICE("18446744073709551616"), UINT64_MAX, &u), -ERANGE);
    assert_int_equal(slice_parse_u64(SLICE(""), UINT64_MAX, &u), -EINVAL);
    assert_int_equal(slice_parse_u64(SLICE("1x"), UINT64_MAX, &u), -EINVAL);
    assert_int_equal(slice_parse_i64(SLICE("-9223372036854775808"), &i), 0);
    assert_true(i == INT64_MIN);
    struct slice rest = SLICE("a,b");
    assert_true(slice_is(slice_cut(&rest, ','), "a"));
    assert_true(slice_is(slice_cut(&rest, ','), "b"));
    assert_null(rest.data);
}

UNIT_TEST(diag_reads_like_a_sentence) {
    struct diag diag = DIAG_INIT;
    char text[1024];
    diag_at(&diag, "app.yaml", 3, 7);
    assert_int_equal(diag_set(&diag, -EINVAL, "found %s", "a tab"), -EINVAL);
    diag_hint(&diag, 0, "indent with spaces");
    assert_string_equal(diag_format(&diag, text, sizeof text), "app.yaml:3:7: found a tab (indent with spaces)");
}

UNIT_MAIN(UNIT(arena_honours_its_limit), UNIT(arena_prints), UNIT(buffer_stays_failed_at_its_maximum),
          UNIT(map_keeps_order_through_removals_and_growth), UNIT(heap_orders_and_removes), UNIT(slices_parse_numbers_strictly),
          UNIT(diag_reads_like_a_sentence))
