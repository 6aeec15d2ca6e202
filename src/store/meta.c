/* The side table: a durable map of bytes to bytes. A put is visible at once, since a counter's next value must build on the last; should its commit
 * fail, the last durable value returns. */
#include "store/store_priv.h"

static struct meta_value *value_new(struct slice bytes) {
    struct meta_value *value = malloc(sizeof *value + bytes.len + 1);
    if (!value)
        return NULL;
    value->references = 1;
    value->len = bytes.len;
    if (bytes.len)
        memcpy(value->data, bytes.data, bytes.len);
    value->data[bytes.len] = 0;
    return value;
}

static struct meta_value *value_ref(struct meta_value *value) {
    if (value)
        value->references++;
    return value;
}

void meta_value_unref(struct meta_value *value) {
    if (value && --value->references == 0)
        free(value);
}

/* Takes over the reference `value`. */
static void value_set(struct meta_value **place, struct meta_value *value) {
    meta_value_unref(*place);
    *place = value;
}

/* The entry of the key, made when absent. */
static struct meta_entry *entry_get(struct store *store, struct slice key) {
    struct meta_entry *entry = map_find(store->meta, key);
    if (entry)
        return entry;
    entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->key = slice_dup(key);
    entry->key_len = key.len;
    if (!entry->key || map_put(store->meta, key, entry, NULL) < 0) {
        free(entry->key);
        free(entry);
        return NULL;
    }
    return entry;
}

static void entry_free(struct meta_entry *entry) {
    meta_value_unref(entry->newest);
    meta_value_unref(entry->committed);
    free(entry->key);
    free(entry);
}

static void entry_drop_when_unused(struct store *store, struct meta_entry *entry) {
    if (entry->newest || entry->committed || entry->writes)
        return;
    map_remove(store->meta, slice_make(entry->key, entry->key_len));
    entry_free(entry);
}

int meta_load(struct store *store, struct slice key, struct slice bytes) {
    struct meta_entry *entry = entry_get(store, key);
    struct meta_value *value = entry ? value_new(bytes) : NULL;
    if (!value)
        return -ENOMEM;
    value_set(&entry->committed, value);
    value_set(&entry->newest, value_ref(value));
    return 0;
}

static struct pending *chain_end(struct pending *pending) {
    while (pending->before)
        pending = pending->before;
    return pending;
}

/* A failure takes all later writes of the key along: the last durable value returns at once. */
void meta_on_finished(struct store *store, struct pending *pending) {
    struct meta_entry *entry = pending->meta;
    if (pending->error && entry->last == chain_end(pending)) {
        value_set(&entry->newest, value_ref(entry->committed));
        entry->last = NULL;
    } else if (!pending->error) {
        value_set(&entry->committed, value_ref(pending->meta_value));
        if (entry->last == pending)
            entry->last = NULL;
    }
    entry->writes--;
    entry_drop_when_unused(store, entry);
}

int store_meta_put(struct store *store, struct slice key, struct slice value, void (*on_done)(void *userdata, int error), void *userdata) {
    if (key.len == 0 || key.len > STORE_KEY_BYTES_MAX)
        return -EINVAL;
    if (value.len > STORE_VALUE_BYTES_MAX)
        return -EMSGSIZE;
    if (store->pending_bytes + value.len > STORE_PENDING_BYTES_MAX)
        return -EBUSY;
    struct pending *pending = calloc(1, sizeof *pending);
    struct meta_entry *entry = pending ? entry_get(store, key) : NULL;
    if (entry && value.data)
        pending->meta_value = value_new(value);
    if (!entry || (value.data && !pending->meta_value)) {
        if (entry)
            entry_drop_when_unused(store, entry);
        free(pending);
        return -ENOMEM;
    }
    pending->meta = entry;
    pending->after = entry->last;
    pending->on_meta = on_done;
    pending->userdata = userdata;
    pending->bytes = value.len;
    entry->last = pending;
    entry->writes++;
    value_set(&entry->newest, value_ref(pending->meta_value));
    pending_queue(store, pending);
    return 0;
}

struct slice store_meta_get(struct store *store, struct slice key) {
    const struct meta_entry *entry = map_find(store->meta, key);
    return entry && entry->newest ? slice_make(entry->newest->data, entry->newest->len) : slice_make(NULL, 0);
}

static int compare_entries(const void *a, const void *b) {
    const struct meta_entry *const *x = a, *const *y = b;
    return slice_compare(slice_make((*x)->key, (*x)->key_len), slice_make((*y)->key, (*y)->key_len));
}

void store_meta_list(struct store *store, struct slice prefix, bool (*each)(void *userdata, struct slice key, struct slice value), void *userdata) {
    VECTOR(struct meta_entry *) found = {.items = NULL};
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(store->meta, &at, &key, &value);) {
        struct meta_entry *entry = value;
        if (entry->newest && slice_starts(key, prefix) && VECTOR_PUSH(&found, entry) < 0)
            break;
    }
    if (found.count)
        qsort(found.items, found.count, sizeof *found.items, compare_entries);
    for (size_t i = 0; i < found.count; i++) {
        struct meta_entry *entry = found.items[i];
        if (!each(userdata, slice_make(entry->key, entry->key_len), slice_make(entry->newest->data, entry->newest->len)))
            break;
    }
    VECTOR_DEINIT(&found);
}

void meta_deinit(struct store *store) {
    void *value;
    for (size_t at = 0; store->meta && map_next(store->meta, &at, NULL, &value);)
        entry_free(value);
    map_free(store->meta);
    store->meta = NULL;
}
