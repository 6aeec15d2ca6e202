/* The work queue: upstream's workqueue as data. A key is in it once; what is added while it runs makes it run again afterwards; a failed run is
 * repeated after 5 ms, doubling up to 1000 s (workqueue.DefaultControllerRateLimiter), and a new change ends that wait. An item exists while it is
 * due some time or runs. */
#include "control/control_priv.h"

#include <stdio.h>

#define BACKOFF_FIRST_NS (5 * NS_PER_MS)
#define BACKOFF_MAX_NS (1000 * NS_PER_S)

int queue_init(struct queue *queue) {
    *queue = (struct queue){.items = map_new()};
    return queue->items ? 0 : -ENOMEM;
}

static void item_free(struct queue_item *item) {
    kube_kind_unref(item->key.kind);
    free(item->failure);
    free(item->map_key);
    free(item);
}

void queue_deinit(struct queue *queue) {
    void *value;
    for (size_t at = 0; queue->items && map_next(queue->items, &at, NULL, &value);)
        item_free(value);
    map_free(queue->items);
    heap_deinit(&queue->due);
}

#define KEY_BYTES_MAX 2048 /* kind, namespace and name have at most 253 bytes each */

/* controller NUL kind NUL namespace NUL name NUL, on the stack: what is in the queue is found also when memory is short. Empty: too long. */
static struct slice format_key(const struct control_key *key, char text[KEY_BYTES_MAX]) {
    int len = snprintf(text, KEY_BYTES_MAX, "%u%c%s%c%s%c%s%c", key->controller, 0, key->kind ? kube_kind_key(key->kind) : "", 0,
                       key->namespace ? key->namespace : "", 0, key->name ? key->name : "", 0);
    return slice_make(text, len < 0 || len >= KEY_BYTES_MAX ? 0 : (size_t)len);
}

struct queue_item *queue_find(const struct queue *queue, const struct control_key *key) {
    char text[KEY_BYTES_MAX];
    return map_find(queue->items, format_key(key, text));
}

static struct queue_item *item_new(struct queue *queue, const struct control_key *key) {
    struct queue_item *item = calloc(1, sizeof *item);
    if (!item)
        return NULL;
    item->requeue_after_ms = -1;
    char text[KEY_BYTES_MAX];
    struct slice map_key = format_key(key, text);
    item->map_key = map_key.len ? slice_dup(map_key) : NULL;
    item->map_key_len = map_key.len;
    /* Room in the heap for every item, so that queue_done always finds some. */
    if (!item->map_key || vector_grow(&queue->due.items, map_count(queue->items), &queue->due.capacity, sizeof *queue->due.items) < 0 ||
        map_put(queue->items, slice_make(item->map_key, item->map_key_len), item, NULL) < 0) {
        item_free(item);
        return NULL;
    }
    /* The key's texts are those inside map_key. */
    const char *at = item->map_key + strlen(item->map_key) + 1;
    at += strlen(at) + 1;
    item->key = *key;
    kube_kind_ref(key->kind);
    item->key.namespace = key->namespace ? at : NULL;
    item->key.name = at + strlen(at) + 1;
    return item;
}

static void item_drop(struct queue *queue, struct queue_item *item) {
    map_remove(queue->items, slice_make(item->map_key, item->map_key_len));
    item_free(item);
}

int queue_add(struct queue *queue, const struct control_key *key, int64_t now_ns) {
    struct queue_item *item = queue_find(queue, key);
    bool is_new = !item;
    if (is_new && !(item = item_new(queue, key)))
        return -ENOMEM;
    if (item->running) {
        item->dirty = true;
        return 0;
    }
    item->waited = false;
    if (heap_contains(&item->node)) {
        if (item->node.key <= (uint64_t)now_ns)
            return 0;
        heap_remove(&queue->due, &item->node);
    }
    int r = heap_push(&queue->due, &item->node, (uint64_t)now_ns);
    if (r < 0)
        item_drop(queue, item);
    return r;
}

struct queue_item *queue_next(struct queue *queue, int64_t now_ns) {
    struct heap_node *first = heap_first(&queue->due);
    if (!first || first->key > (uint64_t)now_ns)
        return NULL;
    heap_remove(&queue->due, first);
    struct queue_item *item = CONTAINER_OF(first, struct queue_item, node);
    item->running = true;
    item->dirty = false;
    item->requeue_after_ms = -1;
    return item;
}

int64_t queue_deadline(const struct queue *queue) {
    const struct heap_node *first = heap_first(&queue->due);
    return first ? (int64_t)first->key : INT64_MAX;
}

static int64_t backoff_ns(unsigned failures) {
    return failures > 18 ? BACKOFF_MAX_NS : MIN(BACKOFF_FIRST_NS << (failures - 1), BACKOFF_MAX_NS);
}

void queue_done(struct queue *queue, struct queue_item *item, const char *failure, int64_t now_ns) {
    ASSERT(item->running);
    item->running = false;
    free(item->failure);
    item->failure = failure ? slice_dup(slice_of(failure)) : NULL;
    item->failures = failure ? item->failures + 1 : 0;
    int64_t wait_ns = -1;
    item->waited = !failure && !item->dirty && item->requeue_after_ms >= 0;
    if (failure)
        wait_ns = backoff_ns(item->failures);
    else if (item->dirty)
        wait_ns = 0;
    else if (item->requeue_after_ms >= 0)
        wait_ns = item->requeue_after_ms * NS_PER_MS;
    if (wait_ns < 0) {
        item_drop(queue, item);
        return;
    }
    int r = heap_push(&queue->due, &item->node, (uint64_t)(now_ns + wait_ns));
    ASSERT(r == 0); /* item_new made room */
}
