/* Open addressing over an array of indices; entries live in an array in order of insertion, holes are squeezed out when the table grows.
 * Rejected: chaining (a malloc per entry and no order). */
#include "base/base.h"

struct entry {
    char *key; /* NULL: a hole left by map_remove */
    size_t key_len;
    uint64_t hash;
    void *value;
};

struct map {
    struct entry *entries;
    size_t used; /* entries in the array, holes included */
    size_t count;
    size_t capacity; /* of entries; the index has twice as many slots */
    uint32_t *index; /* 0: free, otherwise entry + 1 */
};

struct map *map_new(void) {
    return calloc(1, sizeof(struct map));
}

void map_free(struct map *map) {
    if (!map)
        return;
    for (size_t i = 0; i < map->used; i++)
        free(map->entries[i].key);
    free(map->entries);
    free(map->index);
    free(map);
}

size_t map_count(const struct map *map) {
    return map->count;
}

static void index_put(uint32_t *index, size_t slots, uint64_t hash, size_t entry) {
    size_t slot = hash & (slots - 1);
    while (index[slot])
        slot = (slot + 1) & (slots - 1);
    index[slot] = (uint32_t)entry + 1;
}

static int rebuild(struct map *map, size_t capacity) {
    struct entry *entries = calloc(capacity, sizeof *entries);
    uint32_t *index = calloc(capacity * 2, sizeof *index);
    if (!entries || !index) {
        free(entries);
        free(index);
        return -ENOMEM;
    }
    size_t used = 0;
    for (size_t i = 0; i < map->used; i++) {
        if (!map->entries[i].key)
            continue;
        entries[used] = map->entries[i];
        index_put(index, capacity * 2, entries[used].hash, used);
        used++;
    }
    free(map->entries);
    free(map->index);
    map->entries = entries;
    map->index = index;
    map->used = used;
    map->capacity = capacity;
    return 0;
}

static struct entry *lookup(const struct map *map, struct slice key, uint64_t hash) {
    if (map->capacity == 0)
        return NULL;
    size_t slots = map->capacity * 2;
    for (size_t slot = hash & (slots - 1); map->index[slot]; slot = (slot + 1) & (slots - 1)) {
        struct entry *entry = &map->entries[map->index[slot] - 1];
        if (entry->key && entry->hash == hash && slice_equal((struct slice){entry->key, entry->key_len}, key))
            return entry;
    }
    return NULL;
}

int map_put(struct map *map, struct slice key, void *value, void **ret_old) {
    ASSERT(value);
    uint64_t hash = slice_hash(key);
    struct entry *entry = lookup(map, key, hash);
    if (ret_old)
        *ret_old = entry ? entry->value : NULL;
    if (entry) {
        entry->value = value;
        return 0;
    }
    if (map->used == map->capacity) {
        int r = rebuild(map, MAX((size_t)8, map->count * 2 > map->capacity ? map->capacity * 2 : map->capacity));
        if (r < 0)
            return r;
    }
    char *copy = slice_dup(key);
    if (!copy)
        return -ENOMEM;
    map->entries[map->used] = (struct entry){copy, key.len, hash, value};
    index_put(map->index, map->capacity * 2, hash, map->used);
    map->used++;
    map->count++;
    return 0;
}

void *map_find(const struct map *map, struct slice key) {
    struct entry *entry = lookup(map, key, slice_hash(key));
    return entry ? entry->value : NULL;
}

void *map_remove(struct map *map, struct slice key) {
    struct entry *entry = lookup(map, key, slice_hash(key));
    if (!entry)
        return NULL;
    free(entry->key);
    entry->key = NULL;
    map->count--;
    return entry->value;
}

bool map_next(const struct map *map, size_t *at, struct slice *ret_key, void **ret_value) {
    while (*at < map->used) {
        const struct entry *entry = &map->entries[(*at)++];
        if (!entry->key)
            continue;
        if (ret_key)
            *ret_key = (struct slice){entry->key, entry->key_len};
        if (ret_value)
            *ret_value = entry->value;
        return true;
    }
    return false;
}
