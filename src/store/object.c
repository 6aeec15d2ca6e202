/* Object versions and the sorted index of committed ones.
 *
 * An object is one allocation of about a hundred bytes above its value, so that the store costs little more than the JSON it holds. Each kind has a
 * sorted array of pointers: lists are a walk in order, a lookup is a binary search, and an insertion moves at most eight bytes per object of the
 * kind, which for the tens of thousands of objects one machine has is microseconds. Rejected: a balanced tree (three more words per object and slower
 * walks). */
#include "store/store_priv.h"

struct store_object *object_new(struct slice kind, struct slice namespace, struct slice name, uint64_t revision, uint64_t created_revision,
                                struct slice value) {
    size_t total = sizeof(struct store_object) + kind.len + namespace.len + name.len + value.len + 1;
    struct store_object *object = malloc(total);
    if (!object)
        return NULL;
    *object = (struct store_object){.references = 1, .revision = revision, .created_revision = created_revision};
    char *at = (char *)(object + 1);
    struct {
        struct slice from, *to;
    } parts[] = {{value, &object->value}, {kind, &object->kind}, {namespace, &object->namespace}, {name, &object->name}};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (parts[i].from.len)
            memcpy(at, parts[i].from.data, parts[i].from.len);
        *parts[i].to = slice_make(at, parts[i].from.len);
        at += parts[i].from.len;
    }
    *at = 0;
    return object;
}

struct store_object *store_object_ref(struct store_object *object) {
    ASSERT(object->references > 0);
    object->references++;
    return object;
}

void store_object_unref(struct store_object *object) {
    if (!object)
        return;
    ASSERT(object->references > 0);
    if (--object->references)
        return;
    if (object->cache && object->cache_free)
        object->cache_free(object->cache);
    free(object);
}

static uint64_t mix(uint64_t hash, uint64_t value) {
    return (hash ^ value) * 1099511628211u;
}

uint64_t object_checksum(const struct store_object *object) {
    uint64_t hash = slice_hash(object->value);
    hash = mix(hash, slice_hash(object->kind));
    hash = mix(hash, slice_hash(object->namespace));
    hash = mix(hash, slice_hash(object->name));
    return mix(mix(hash, object->revision), object->created_revision);
}

int index_init(struct index *index) {
    index->kinds = map_new();
    return index->kinds ? 0 : -ENOMEM;
}

void index_deinit(struct index *index) {
    void *value;
    for (size_t at = 0; index->kinds && map_next(index->kinds, &at, NULL, &value);) {
        struct kind_index *kind = value;
        for (size_t i = 0; i < kind->objects.count; i++)
            store_object_unref(kind->objects.items[i]);
        VECTOR_DEINIT(&kind->objects);
        free(kind);
    }
    map_free(index->kinds);
    index->kinds = NULL;
}

struct kind_index *index_kind(const struct index *index, struct slice kind) {
    return map_find(index->kinds, kind);
}

static int compare_key(const struct store_object *object, struct slice namespace, struct slice name) {
    int order = slice_compare(object->namespace, namespace);
    return order ? order : slice_compare(object->name, name);
}

size_t index_position(const struct kind_index *kind, struct slice namespace, struct slice name, bool after) {
    size_t low = 0, high = kind->objects.count;
    /* Loading, and names that carry a time, append: look there first. */
    if (high && compare_key(kind->objects.items[high - 1], namespace, name) < 0)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_key(kind->objects.items[middle], namespace, name);
        if (order < 0 || (after && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const struct kind_index *kind, size_t position, struct slice namespace, struct slice name) {
    return position < kind->objects.count && compare_key(kind->objects.items[position], namespace, name) == 0;
}

struct store_object *index_find(const struct index *index, struct slice kind_name, struct slice namespace, struct slice name) {
    const struct kind_index *kind = index_kind(index, kind_name);
    if (!kind)
        return NULL;
    size_t position = index_position(kind, namespace, name, false);
    return is_at(kind, position, namespace, name) ? kind->objects.items[position] : NULL;
}

int index_reserve(struct index *index, struct slice kind_name, size_t extra) {
    struct kind_index *kind = index_kind(index, kind_name);
    if (!kind) {
        kind = calloc(1, sizeof *kind);
        int r = kind ? map_put(index->kinds, kind_name, kind, NULL) : -ENOMEM;
        if (r < 0) {
            free(kind);
            return r;
        }
    }
    while (kind->objects.capacity < kind->objects.count + extra) {
        int r = vector_grow(&kind->objects.items, kind->objects.capacity, &kind->objects.capacity, sizeof *kind->objects.items);
        if (r < 0)
            return r;
    }
    return 0;
}

void index_put(struct index *index, struct store_object *object) {
    struct kind_index *kind = index_kind(index, object->kind);
    ASSERT(kind);
    size_t position = index_position(kind, object->namespace, object->name, false);
    if (is_at(kind, position, object->namespace, object->name)) {
        store_object_unref(kind->objects.items[position]);
    } else {
        ASSERT(kind->objects.count < kind->objects.capacity);
        memmove(&kind->objects.items[position + 1], &kind->objects.items[position], (kind->objects.count - position) * sizeof *kind->objects.items);
        kind->objects.count++;
    }
    kind->objects.items[position] = store_object_ref(object);
}

void index_remove(struct index *index, const struct store_object *object) {
    struct kind_index *kind = index_kind(index, object->kind);
    ASSERT(kind);
    size_t position = index_position(kind, object->namespace, object->name, false);
    ASSERT(is_at(kind, position, object->namespace, object->name));
    struct store_object *removed = kind->objects.items[position];
    VECTOR_REMOVE(&kind->objects, position);
    store_object_unref(removed);
}
