/* Lists as of an earlier revision. The ring of changes keeps each change with the version before it; so the state at revision R is the state now with
 * all that happened after R undone: for each key that changed since, the version before its first change after R (or none). That reaches back as far
 * as the ring does, and costs memory only while such a list is read. */
#include "store/store_priv.h"

struct undone {
    struct map *versions;                  /* namespace NUL name → the object then, or the map itself: absent then */
    VECTOR(struct store_object *) objects; /* those that were there, sorted; borrowed from the ring */
};

static void undone_deinit(struct undone *undone) {
    map_free(undone->versions);
    VECTOR_DEINIT(&undone->objects);
}

static int compare_objects(const void *a, const void *b) {
    const struct store_object *const *x = a, *const *y = b;
    int order = slice_compare((*x)->namespace, (*y)->namespace);
    return order ? order : slice_compare((*x)->name, (*y)->name);
}

static int key_of(const struct store_object *object, struct buffer *out) {
    buffer_reset(out);
    buffer_append_slice(out, object->namespace);
    buffer_append_byte(out, 0);
    return buffer_append_slice(out, object->name);
}

static int undo(struct undone *undone, const struct ring_entry *entry, struct buffer *key) {
    int error = key_of(entry->object, key);
    if (error || map_find(undone->versions, buffer_slice(key)))
        return error; /* an earlier change tells what was before */
    error = map_put(undone->versions, buffer_slice(key), entry->previous ? (void *)entry->previous : (void *)undone->versions, NULL);
    if (!error && entry->previous)
        error = VECTOR_PUSH(&undone->objects, entry->previous);
    return error;
}

static int undo_since(const struct store *store, uint64_t revision, struct slice kind, struct slice namespace, struct undone *undone) {
    CLEANUP(buffer_deinit) struct buffer key = BUFFER_INIT(2 * STORE_KEY_BYTES_MAX);
    undone->versions = map_new();
    int error = undone->versions ? 0 : -ENOMEM;
    for (uint64_t at = ring_after(&store->ring, revision); at < store->ring.next && !error; at++) {
        const struct ring_entry *entry = ring_at(&store->ring, at);
        if (slice_equal(entry->object->kind, kind) && (!namespace.data || slice_equal(entry->object->namespace, namespace)))
            error = undo(undone, entry, &key);
    }
    if (!error && undone->objects.count)
        qsort(undone->objects.items, undone->objects.count, sizeof *undone->objects.items, compare_objects);
    return error;
}

/* What is listed: the objects now that have not changed since, woven with those of then. */
struct weave {
    struct undone *undone;
    struct buffer key;
    size_t next;
    struct slice after_namespace, after_name;
    store_each_fn *each;
    void *userdata;
    bool stopped;
    int error;
};

static bool is_behind(const struct weave *weave, const struct store_object *object) {
    if (!weave->after_namespace.data && !weave->after_name.data)
        return true;
    int order = slice_compare(object->namespace, weave->after_namespace);
    return order ? order > 0 : slice_compare(object->name, weave->after_name) > 0;
}

/* Those of then up to an object of now; NULL: all that are left. */
static void put_then(struct weave *weave, const struct store_object *before) {
    struct undone *undone = weave->undone;
    while (weave->next < undone->objects.count && !weave->stopped) {
        struct store_object *object = undone->objects.items[weave->next];
        if (before && compare_objects(&object, &before) > 0)
            return;
        weave->next++;
        if (is_behind(weave, object))
            weave->stopped = !weave->each(weave->userdata, object);
    }
}

static bool put_now(void *userdata, struct store_object *object) {
    struct weave *weave = userdata;
    put_then(weave, object);
    weave->error = key_of(object, &weave->key);
    if (!weave->stopped && !weave->error && !map_find(weave->undone->versions, buffer_slice(&weave->key)))
        weave->stopped = !weave->each(weave->userdata, object);
    return !weave->stopped && !weave->error;
}

int store_list_at(struct store *store, uint64_t revision, struct slice kind, struct slice namespace, struct slice after_namespace,
                  struct slice after_name, store_each_fn *each, void *userdata) {
    if (revision >= store->revision_committed) {
        store_list(store, kind, namespace, after_namespace, after_name, each, userdata);
        return 0;
    }
    if (revision < store->ring.base_revision)
        return STORE_E_EXPIRED;
    struct undone undone = {.versions = NULL};
    int error = undo_since(store, revision, kind, namespace, &undone);
    struct weave weave = {.undone = &undone,
                          .key = BUFFER_INIT(2 * STORE_KEY_BYTES_MAX),
                          .after_namespace = after_namespace,
                          .after_name = after_name,
                          .each = each,
                          .userdata = userdata};
    if (!error) {
        store_list(store, kind, namespace, after_namespace, after_name, put_now, &weave);
        error = weave.error;
    }
    if (!error)
        put_then(&weave, NULL);
    buffer_deinit(&weave.key);
    undone_deinit(&undone);
    return error;
}
