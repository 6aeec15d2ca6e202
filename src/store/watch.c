/* The ring of recent changes, and watches over it.
 *
 * The ring keeps the last committed changes with the versions before and after, bounded in number and bytes: it is what lets a watch resume exactly
 * at a revision. A watch is a position in the ring, so a thousand watches queue nothing. It is always on one of four lists:
 *
 *   idle ──(a commit)──► ready ──(nothing left)──► idle
 *                        ready ──(callback returns false)──► paused ──(store_watch_resume)──► ready
 *   ready, paused ──(the ring moved past it)──► on_lost, lost
 *
 * Delivery runs as a deferred step of the loop. Each turn every ready watch gets at most a batch, so that one long replay does not hold up the
 * others. Callbacks may free any watch, including the one being served, or make new ones. */
#include "store/store_priv.h"

void ring_deinit(struct ring *ring) {
    for (uint64_t number = ring->first; number < ring->next; number++) {
        store_object_unref(ring_at(ring, number)->object);
        store_object_unref(ring_at(ring, number)->previous);
    }
    free(ring->items);
    *ring = (struct ring){.items = NULL};
}

struct ring_entry *ring_at(const struct ring *ring, uint64_t number) {
    ASSERT(number >= ring->first && number < ring->next);
    return &ring->items[number & (ring->capacity - 1)];
}

int ring_reserve(struct ring *ring, size_t extra) {
    size_t needed = (size_t)(ring->next - ring->first) + extra, capacity = ring->capacity ? ring->capacity : 64;
    while (capacity < needed)
        capacity *= 2;
    if (capacity == ring->capacity)
        return 0;
    struct ring_entry *items = calloc(capacity, sizeof *items);
    if (!items)
        return -ENOMEM;
    for (uint64_t number = ring->first; number < ring->next; number++)
        items[number & (capacity - 1)] = *ring_at(ring, number);
    free(ring->items);
    ring->items = items;
    ring->capacity = capacity;
    return 0;
}

static void drop_oldest(struct ring *ring) {
    struct ring_entry *entry = ring_at(ring, ring->first);
    ring->base_revision = entry->revision;
    ring->bytes -= object_bytes(entry->object);
    store_object_unref(entry->object);
    store_object_unref(entry->previous);
    *entry = (struct ring_entry){.object = NULL};
    ring->first++;
}

void ring_push(struct ring *ring, enum store_change change, uint64_t revision, struct store_object *object, struct store_object *previous) {
    ASSERT(ring->next - ring->first < ring->capacity);
    ring->next++;
    *ring_at(ring, ring->next - 1) = (struct ring_entry){
        .change = change, .revision = revision, .object = store_object_ref(object), .previous = previous ? store_object_ref(previous) : NULL};
    ring->bytes += object_bytes(object);
    while (ring->next - ring->first > 1 && (ring->next - ring->first > ring->count_max || ring->bytes > ring->bytes_max))
        drop_oldest(ring);
}

uint64_t ring_after(const struct ring *ring, uint64_t revision) {
    uint64_t low = ring->first, high = ring->next;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (ring_at(ring, middle)->revision <= revision)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct store_watch {
    struct list node;
    struct list *state; /* the list it is on */
    struct store *store;
    struct slice kind, namespace; /* data NULL: any */
    uint64_t position;            /* number of the next entry to look at */
    uint64_t after_revision;      /* nothing up to here is delivered: a watch may start in the future */
    struct store_watch_callbacks callbacks;
    void *userdata;
    bool *freed; /* set while a callback of this watch runs */
    char text[]; /* of kind and namespace */
};

static void move_to(struct store_watch *watch, struct list *list) {
    list_remove(&watch->node);
    list_push(list, &watch->node);
    watch->state = list;
}

static bool wants(const struct store_watch *watch, const struct ring_entry *entry) {
    return entry->revision > watch->after_revision && (!watch->kind.data || slice_equal(watch->kind, entry->object->kind)) &&
           (!watch->namespace.data || slice_equal(watch->namespace, entry->object->namespace));
}

static void tell_lost(struct store_watch *watch) {
    move_to(watch, &watch->store->watches_lost);
    if (watch->callbacks.on_lost)
        watch->callbacks.on_lost(watch->userdata);
}

/* At most a batch. The watch may be gone afterwards. */
static void serve(struct store_watch *watch) {
    struct ring *ring = &watch->store->ring;
    bool freed = false;
    watch->freed = &freed;
    size_t events = 0, scanned = 0;
    while (watch->position < ring->next && events < STORE_WATCH_EVENTS_PER_TURN && scanned < STORE_WATCH_SCANNED_PER_TURN) {
        struct ring_entry *entry = ring_at(ring, watch->position++);
        scanned++;
        if (!wants(watch, entry))
            continue;
        events++;
        bool more = watch->callbacks.on_change(watch->userdata, entry->change, entry->object, entry->previous);
        if (freed)
            return;
        if (!more) {
            move_to(watch, &watch->store->watches_paused);
            break;
        }
    }
    watch->freed = NULL;
    if (watch->state == &watch->store->watches_ready)
        move_to(watch, watch->position < ring->next ? &watch->store->watches_ready : &watch->store->watches_idle);
}

static void lose_paused(struct store *store) {
    struct list behind;
    list_init(&behind);
    LIST_FOREACH(node, &store->watches_paused) {
        struct store_watch *watch = CONTAINER_OF(node, struct store_watch, node);
        if (watch->position < store->ring.first)
            move_to(watch, &behind);
    }
    while (!list_empty(&behind))
        tell_lost(CONTAINER_OF(behind.next, struct store_watch, node));
}

static void deliver(void *userdata) {
    struct store *store = userdata;
    lose_paused(store);
    struct list now;
    list_init(&now);
    while (!list_empty(&store->watches_ready))
        move_to(CONTAINER_OF(store->watches_ready.next, struct store_watch, node), &now);
    while (!list_empty(&now)) {
        struct store_watch *watch = CONTAINER_OF(now.next, struct store_watch, node);
        move_to(watch, &store->watches_ready);
        if (watch->position < store->ring.first)
            tell_lost(watch);
        else
            serve(watch);
    }
    if (!list_empty(&store->watches_ready))
        loop_defer_schedule(&store->deliver_defer);
}

void watches_init(struct store *store) {
    list_init(&store->watches_idle);
    list_init(&store->watches_ready);
    list_init(&store->watches_paused);
    list_init(&store->watches_lost);
    loop_defer_init(&store->deliver_defer, store->loop, deliver, store);
}

void watches_on_change(struct store *store) {
    while (!list_empty(&store->watches_idle))
        move_to(CONTAINER_OF(store->watches_idle.next, struct store_watch, node), &store->watches_ready);
    if (!list_empty(&store->watches_ready) || !list_empty(&store->watches_paused))
        loop_defer_schedule(&store->deliver_defer);
}

int store_watch_new(struct store *store, struct slice kind, struct slice namespace, uint64_t revision, const struct store_watch_callbacks *callbacks,
                    void *userdata, struct store_watch **ret) {
    if (revision < store->ring.base_revision)
        return STORE_E_EXPIRED;
    struct store_watch *watch = calloc(1, sizeof *watch + kind.len + namespace.len + 1);
    if (!watch)
        return -ENOMEM;
    if (kind.data) {
        memcpy(watch->text, kind.data, kind.len);
        watch->kind = slice_make(watch->text, kind.len);
    }
    if (namespace.data) {
        memcpy(watch->text + kind.len, namespace.data, namespace.len);
        watch->namespace = slice_make(watch->text + kind.len, namespace.len);
    }
    watch->store = store;
    watch->callbacks = *callbacks;
    watch->userdata = userdata;
    watch->after_revision = revision;
    watch->position = ring_after(&store->ring, revision);
    list_init(&watch->node);
    bool behind = watch->position < store->ring.next;
    move_to(watch, behind ? &store->watches_ready : &store->watches_idle);
    if (behind)
        loop_defer_schedule(&store->deliver_defer);
    store->statistics.watches++;
    *ret = watch;
    return 0;
}

void store_watch_resume(struct store_watch *watch) {
    if (watch->state != &watch->store->watches_paused)
        return;
    move_to(watch, &watch->store->watches_ready);
    loop_defer_schedule(&watch->store->deliver_defer);
}

void store_watch_free(struct store_watch *watch) {
    if (!watch)
        return;
    if (watch->freed)
        *watch->freed = true;
    list_remove(&watch->node);
    watch->store->statistics.watches--;
    free(watch);
}

uint64_t store_watch_revision(const struct store_watch *watch) {
    const struct ring *ring = &watch->store->ring;
    uint64_t told = watch->store->revision_committed;
    if (watch->position < ring->first)
        told = 0;
    else if (watch->position < ring->next)
        told = ring_at(ring, watch->position)->revision - 1;
    return MAX(told, watch->after_revision);
}
