/* Bump allocation in a chain of blocks. The first block is small, since most units of work are (a ConfigMap, a GET); each further one doubles up to
 * 64 KiB, and an allocation larger than that gets a block of its own. */
#include "base/base.h"

#include <stdalign.h>
#include <stdio.h>

#define BLOCK_BYTES_FIRST 1024u
#define BLOCK_BYTES_MAX 65536u

struct block {
    struct block *next;
    size_t size;
    size_t used;
    alignas(max_align_t) char data[];
};

struct arena {
    struct block *head; /* the newest: allocations come from it */
    size_t bytes_max;
    size_t bytes_used;
    size_t block_bytes_next;
};

struct arena *arena_new(size_t bytes_max) {
    struct arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        return NULL;
    arena->bytes_max = bytes_max;
    arena->block_bytes_next = BLOCK_BYTES_FIRST;
    return arena;
}

static void free_blocks(struct block *block) {
    while (block) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
}

void arena_free(struct arena *arena) {
    if (!arena)
        return;
    free_blocks(arena->head);
    free(arena);
}

void arena_reset(struct arena *arena) {
    struct block *kept = arena->head;
    if (kept) {
        free_blocks(kept->next);
        kept->next = NULL;
        memset(kept->data, 0, kept->used);
        kept->used = 0;
    }
    arena->bytes_used = 0;
}

size_t arena_used(const struct arena *arena) {
    return arena->bytes_used;
}

static struct block *add_block(struct arena *arena, size_t size) {
    size_t block_bytes = MAX(arena->block_bytes_next, size);
    struct block *block = calloc(1, sizeof *block + block_bytes);
    if (!block)
        return NULL;
    block->size = block_bytes;
    block->next = arena->head;
    arena->head = block;
    arena->block_bytes_next = MIN(arena->block_bytes_next * 2, (size_t)BLOCK_BYTES_MAX);
    return block;
}

void *arena_alloc(struct arena *arena, size_t size) {
    size_t align = alignof(max_align_t);
    if (size > arena->bytes_max)
        return NULL;
    size = size ? (size + align - 1) & ~(align - 1) : align;
    if (size > arena->bytes_max - MIN(arena->bytes_used, arena->bytes_max))
        return NULL;
    struct block *block = arena->head;
    if (!block || block->size - block->used < size) {
        block = add_block(arena, size);
        if (!block)
            return NULL;
    }
    void *memory = block->data + block->used;
    block->used += size;
    arena->bytes_used += size;
    return memory;
}

void *arena_array(struct arena *arena, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return arena_alloc(arena, total);
}

char *arena_dup(struct arena *arena, struct slice bytes) {
    char *copy = arena_alloc(arena, bytes.len + 1);
    if (copy && bytes.len)
        memcpy(copy, bytes.data, bytes.len);
    return copy;
}

char *arena_strdup(struct arena *arena, const char *text) {
    return text ? arena_dup(arena, slice_of(text)) : NULL;
}

char *arena_vprintf(struct arena *arena, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    char *text = len < 0 ? NULL : arena_alloc(arena, (size_t)len + 1);
    if (text)
        vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}

char *arena_printf(struct arena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = arena_vprintf(arena, format, args);
    va_end(args);
    return text;
}
