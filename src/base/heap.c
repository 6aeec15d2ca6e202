#include "base/base.h"

void heap_deinit(struct heap *heap) {
    free(heap->items);
    *heap = (struct heap){0};
}

static void place(struct heap *heap, size_t at, struct heap_node *node) {
    heap->items[at] = node;
    node->position = at + 1;
}

static void sift_up(struct heap *heap, size_t at, struct heap_node *node) {
    while (at > 0 && node->key < heap->items[(at - 1) / 2]->key) {
        place(heap, at, heap->items[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(heap, at, node);
}

static void sift_down(struct heap *heap, size_t at, struct heap_node *node) {
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->items[child + 1]->key < heap->items[child]->key)
            child++;
        if (node->key <= heap->items[child]->key)
            break;
        place(heap, at, heap->items[child]);
        at = child;
    }
    place(heap, at, node);
}

int heap_push(struct heap *heap, struct heap_node *node, uint64_t key) {
    ASSERT(node->position == 0);
    int r = vector_grow(&heap->items, heap->count, &heap->capacity, sizeof *heap->items);
    if (r < 0)
        return r;
    node->key = key;
    sift_up(heap, heap->count++, node);
    return 0;
}

void heap_remove(struct heap *heap, struct heap_node *node) {
    if (node->position == 0)
        return;
    size_t at = node->position - 1;
    ASSERT(at < heap->count && heap->items[at] == node);
    node->position = 0;
    struct heap_node *last = heap->items[--heap->count];
    if (last == node)
        return;
    if (at > 0 && last->key < heap->items[(at - 1) / 2]->key)
        sift_up(heap, at, last);
    else
        sift_down(heap, at, last);
}
