#include <stdio.h>

#include "base/base.h"

#include "faults.h"
#include "unit.h"

static int grow_map(__attribute__((unused)) void *context) {
    static int values[40];
    CLEANUP(map_freep) struct map *map = map_new();
    if (!map)
        return -ENOMEM;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        char key[8];
        snprintf(key, sizeof key, "k%zu", i);
        int r = map_put(map, slice_of(key), &values[i], NULL);
        if (r < 0) {
            assert_int_equal(map_count(map), i); /* a put that failed changed nothing */
            assert_null(map_find(map, slice_of(key)));
            return r;
        }
        assert_ptr_equal(map_find(map, slice_of(key)), &values[i]);
        if (i % 3 == 2) {
            map_remove(map, slice_of(key));
            assert_int_equal(map_put(map, SLICE("k0"), &values[0], NULL), 0);
            r = map_put(map, slice_of(key), &values[i], NULL);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

static int grow_buffer(__attribute__((unused)) void *context) {
    CLEANUP(buffer_deinit) struct buffer buffer = BUFFER_INIT(4096);
    for (int i = 0; i < 100; i++)
        buffer_printf(&buffer, "%d,", i);
    if (!buffer_error(&buffer))
        assert_int_equal(buffer.len, 290);
    int r = buffer_error(&buffer);
    CLEANUP(freep) char *bytes = buffer_take(&buffer);
    assert_true(bytes || r == -ENOMEM);
    return r;
}

static int take_empty(__attribute__((unused)) void *context) {
    struct buffer buffer = BUFFER_INIT(16);
    CLEANUP(freep) char *bytes = buffer_take(&buffer);
    return bytes ? 0 : buffer_error(&buffer);
}

static int grow_vector_and_heap(__attribute__((unused)) void *context) {
    VECTOR(int) numbers = {0};
    struct heap heap = {0};
    struct heap_node nodes[20] = {{0}};
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(nodes) && r == 0; i++) {
        r = VECTOR_PUSH(&numbers, (int)i);
        if (r == 0)
            r = heap_push(&heap, &nodes[i], 100 - i);
        if (r < 0)
            assert_false(heap_contains(&nodes[i]));
    }
    for (size_t i = 0; i < numbers.count; i++)
        assert_int_equal(numbers.items[i], i);
    VECTOR_DEINIT(&numbers);
    heap_deinit(&heap);
    return r;
}

static int fill_arena(__attribute__((unused)) void *context) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    if (!arena)
        return -ENOMEM;
    for (size_t size = 1; size < 100000; size *= 3) {
        char *memory = arena_alloc(arena, size);
        if (!memory)
            return -ENOMEM;
        memset(memory, 1, size);
    }
    arena_reset(arena);
    const char *text = arena_printf(arena, "%s %d", "text", 1);
    return text && arena_strdup(arena, text) && arena_dup(arena, slice_of(text)) && ARENA_ARRAY(arena, int, 100) ? 0 : -ENOMEM;
}

static int keep_secret(__attribute__((unused)) void *context) {
    CLEANUP(secret_freep) struct secret *secret = secret_new(SLICE("word"));
    if (!secret)
        return -ENOMEM;
    assert_true(secret_equal(secret_reveal(secret), SLICE("word")));
    return 0;
}

/* Whatever happens, an error has a text. */
static int format_diag(__attribute__((unused)) void *context) {
    struct diag diag = DIAG_INIT;
    char text[256];
    diag_at(&diag, "app.yaml", 3, 7);
    diag_set(&diag, 0, "found a tab");
    diag_format(&diag, text, sizeof text);
    assert_non_null(strstr(text, "found a tab"));
    return 0;
}

UNIT_TEST(containers_keep_what_they_had) {
    TEST_FAULTS(grow_map, NULL);
    TEST_FAULTS(grow_buffer, NULL);
    TEST_FAULTS(take_empty, NULL);
    TEST_FAULTS(grow_vector_and_heap, NULL);
}

UNIT_TEST(arenas_and_secrets_say_no) {
    TEST_FAULTS(fill_arena, NULL);
    TEST_FAULTS(keep_secret, NULL);
}

UNIT_TEST(errors_are_told_without_memory) {
    TEST_FAULTS(format_diag, NULL);
}

UNIT_MAIN(UNIT(containers_keep_what_they_had), UNIT(arenas_and_secrets_say_no), UNIT(errors_are_told_without_memory))
