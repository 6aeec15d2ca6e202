/* A binary min-heap of nodes ordered by an unsigned key; embed `struct heap_node`. For timers and work queues. */
#ifndef TIDEMILL_BASE_HEAP_H
#define TIDEMILL_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    uint64_t key;
    size_t position; /* index + 1 while in a heap, otherwise 0 */
};

struct heap {
    struct heap_node **items;
    size_t count;
    size_t capacity;
};

void heap_deinit(struct heap *heap);
/* 0 or -ENOMEM. The node must not be in a heap. */
int heap_push(struct heap *heap, struct heap_node *node, uint64_t key);
/* A node that is not in the heap is left alone. */
void heap_remove(struct heap *heap, struct heap_node *node);
/* The smallest, or NULL; stays in the heap. */
static inline struct heap_node *heap_first(const struct heap *heap) {
    return heap->count ? heap->items[0] : NULL;
}
static inline bool heap_contains(const struct heap_node *node) {
    return node->position != 0;
}

#endif
