/* Trees live in arenas: nothing is freed alone, removing a key only unlinks it. Children arrays grow by doubling inside the arena, which wastes at
 * most as much again.
 *
 * From INDEX_KEYS_MIN keys on a map has an index over them, so that reading, merging and comparing documents of a hundred thousand keys stays linear:
 * foreign documents may be made to hurt. It grows whenever a key is added, and is made anew
 * when entries go. The hash starts from the index's own address, so that nobody can prepare keys that collide. */
#include "codec/tree.h"

#define INDEX_KEYS_MIN 32

static struct tree *make(struct arena *arena, enum tree_type type) {
    struct tree *node = ARENA_NEW(arena, struct tree);
    if (node)
        node->type = type;
    return node;
}

struct tree *tree_null(struct arena *arena) {
    return make(arena, TREE_NULL);
}

struct tree *tree_bool(struct arena *arena, bool value) {
    struct tree *node = make(arena, TREE_BOOL);
    if (node)
        node->boolean = value;
    return node;
}

struct tree *tree_int(struct arena *arena, int64_t value) {
    struct tree *node = make(arena, TREE_INT);
    if (node)
        node->integer = value;
    return node;
}

struct tree *tree_float(struct arena *arena, double value) {
    struct tree *node = make(arena, TREE_FLOAT);
    if (node)
        node->real = value;
    return node;
}

struct tree *tree_string(struct arena *arena, struct slice value) {
    struct tree *node = make(arena, TREE_STRING);
    char *copy = node ? arena_dup(arena, value) : NULL;
    if (!copy)
        return NULL;
    node->string = (struct slice){copy, value.len};
    return node;
}

struct tree *tree_text(struct arena *arena, const char *value) {
    return value ? tree_string(arena, slice_of(value)) : tree_null(arena);
}

struct tree *tree_printf(struct arena *arena, const char *format, ...) {
    struct tree *node = make(arena, TREE_STRING);
    va_list args;
    va_start(args, format);
    char *text = node ? arena_vprintf(arena, format, args) : NULL;
    va_end(args);
    if (!text)
        return NULL;
    node->string = slice_of(text);
    return node;
}

static struct tree *make_parent(struct arena *arena, enum tree_type type) {
    struct tree *node = make(arena, type);
    if (!node)
        return NULL;
    node->children = ARENA_NEW(arena, struct tree_children);
    return node->children ? node : NULL;
}

struct tree *tree_list(struct arena *arena) {
    return make_parent(arena, TREE_LIST);
}

struct tree *tree_map(struct arena *arena) {
    return make_parent(arena, TREE_MAP);
}

/* --- the index over the keys of a large map --- */

struct tree_index {
    size_t known;    /* entries before it are in the slots */
    size_t slots;    /* a power of two, more than twice as many as `known` */
    uint32_t *items; /* 0: free, otherwise an entry's position + 1 */
};

static size_t first_slot(const struct tree_index *index, struct slice key) {
    uint64_t hash = (uintptr_t)index->items;
    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (uint8_t)key.data[i]) * UINT64_C(0x100000001b3);
    return (hash ^ hash >> 32) & (index->slots - 1);
}

static struct tree_entry *index_find(const struct tree_children *children, struct slice key) {
    const struct tree_index *index = children->index;
    for (size_t slot = first_slot(index, key); index->items[slot]; slot = (slot + 1) & (index->slots - 1))
        if (slice_equal(children->items[index->items[slot] - 1].key, key))
            return &children->items[index->items[slot] - 1];
    return NULL;
}

/* Takes in what was appended. */
static void index_fill(struct tree_children *children) {
    struct tree_index *index = children->index;
    for (; index->known < children->count; index->known++) {
        size_t slot = first_slot(index, children->items[index->known].key);
        while (index->items[slot])
            slot = (slot + 1) & (index->slots - 1);
        index->items[slot] = (uint32_t)index->known + 1;
    }
}

/* After a key was added. */
static int index_update(struct arena *arena, struct tree_children *children) {
    if (children->count < INDEX_KEYS_MIN)
        return 0;
    if (!children->index && !(children->index = ARENA_NEW(arena, struct tree_index)))
        return -ENOMEM;
    struct tree_index *index = children->index;
    if (index->slots <= 2 * children->count) {
        size_t slots = 4 * INDEX_KEYS_MIN;
        while (slots <= 2 * children->count)
            slots *= 2;
        uint32_t *items = ARENA_ARRAY(arena, uint32_t, slots);
        if (!items)
            return -ENOMEM;
        *index = (struct tree_index){.slots = slots, .items = items};
    }
    index_fill(children);
    return 0;
}

/* After entries were removed or moved. */
static void index_renew(struct tree_children *children) {
    if (!children->index || !children->index->slots)
        return;
    memset(children->index->items, 0, children->index->slots * sizeof *children->index->items);
    children->index->known = 0;
    index_fill(children);
}

/* --- entries --- */

static struct tree_entry *append(struct arena *arena, struct tree_children *children) {
    if (children->count == children->capacity) {
        size_t capacity = children->capacity ? children->capacity * 2 : 4;
        struct tree_entry *items = ARENA_ARRAY(arena, struct tree_entry, capacity);
        if (!items)
            return NULL;
        if (children->count)
            memcpy(items, children->items, children->count * sizeof *items);
        children->items = items;
        children->capacity = capacity;
    }
    return &children->items[children->count++];
}

int tree_push(struct arena *arena, struct tree *list, struct tree *value) {
    if (!list || !value)
        return -ENOMEM;
    ASSERT(list->type == TREE_LIST);
    struct tree_entry *entry = append(arena, list->children);
    if (!entry)
        return -ENOMEM;
    *entry = (struct tree_entry){.value = value};
    return 0;
}

struct tree_entry *tree_find_entry(const struct tree *map, struct slice key) {
    if (!map || map->type != TREE_MAP)
        return NULL;
    struct tree_children *children = map->children;
    size_t known = children->index ? children->index->known : 0;
    struct tree_entry *found = known ? index_find(children, key) : NULL;
    for (size_t i = known; i < children->count && !found; i++)
        if (slice_equal(children->items[i].key, key))
            found = &children->items[i];
    return found;
}

int tree_add(struct arena *arena, struct tree *map, const struct tree_entry *entry) {
    if (!entry->value)
        return -ENOMEM;
    ASSERT(map->type == TREE_MAP);
    struct tree_entry *added = append(arena, map->children);
    if (!added)
        return -ENOMEM;
    *added = *entry;
    return index_update(arena, map->children);
}

int tree_set(struct arena *arena, struct tree *map, struct slice key, struct tree *value) {
    if (!map || !value)
        return -ENOMEM;
    ASSERT(map->type == TREE_MAP);
    struct tree_entry *entry = tree_find_entry(map, key);
    if (entry) {
        entry->value = value;
        return 0;
    }
    char *copy = arena_dup(arena, key);
    return copy ? tree_add(arena, map, &(struct tree_entry){.key = {copy, key.len}, .value = value}) : -ENOMEM;
}

int tree_set_text(struct arena *arena, struct tree *map, const char *key, const char *value) {
    return tree_set(arena, map, slice_of(key), tree_text(arena, value));
}

void tree_list_remove(struct tree *list, size_t index) {
    struct tree_children *children = list->children;
    ASSERT(index < children->count);
    memmove(&children->items[index], &children->items[index + 1], (children->count - index - 1) * sizeof *children->items);
    children->count--;
    index_renew(children);
}

void tree_truncate(struct tree *node, size_t count) {
    ASSERT(count <= node->children->count);
    node->children->count = count;
    index_renew(node->children);
}

bool tree_unset(struct tree *map, struct slice key) {
    struct tree_entry *entry = tree_find_entry(map, key);
    if (entry)
        tree_list_remove(map, (size_t)(entry - map->children->items));
    return entry != NULL;
}

struct tree *tree_find(const struct tree *map, const char *key) {
    struct tree_entry *entry = tree_find_entry(map, slice_of(key));
    return entry ? entry->value : NULL;
}

struct tree *tree_path(const struct tree *root, const char *path) {
    struct slice rest = slice_of(path);
    struct tree *node = NULL;
    while (rest.data) {
        struct tree_entry *entry = tree_find_entry(node ? node : root, slice_cut(&rest, '.'));
        if (!entry)
            return NULL;
        node = entry->value;
    }
    return node;
}

const char *tree_text_or(const struct tree *node, const char *fallback) {
    return node && node->type == TREE_STRING ? node->string.data : fallback;
}

int64_t tree_int_or(const struct tree *node, int64_t fallback) {
    return node && node->type == TREE_INT ? node->integer : fallback;
}

bool tree_bool_or(const struct tree *node, bool fallback) {
    return node && node->type == TREE_BOOL ? node->boolean : fallback;
}

size_t tree_count(const struct tree *node) {
    return node && (node->type == TREE_LIST || node->type == TREE_MAP) ? node->children->count : 0;
}

struct tree *tree_at(const struct tree *list, size_t index) {
    return list && list->type == TREE_LIST && index < list->children->count ? list->children->items[index].value : NULL;
}

static bool children_equal(const struct tree *a, const struct tree *b) {
    if (a->children->count != b->children->count)
        return false;
    for (size_t i = 0; i < a->children->count; i++) {
        const struct tree_entry *entry = &a->children->items[i];
        const struct tree *other;
        if (a->type == TREE_LIST) {
            other = b->children->items[i].value;
        } else {
            const struct tree_entry *found = tree_find_entry(b, entry->key);
            other = found ? found->value : NULL;
        }
        if (!other || !tree_equal(entry->value, other))
            return false;
    }
    return true;
}

static bool is_number(const struct tree *node) {
    return node->type == TREE_INT || node->type == TREE_FLOAT;
}

bool tree_equal(const struct tree *a, const struct tree *b) {
    if (is_number(a) && is_number(b) && a->type != b->type)
        return (a->type == TREE_INT ? (double)a->integer : a->real) == (b->type == TREE_INT ? (double)b->integer : b->real);
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case TREE_NULL: return true;
    case TREE_BOOL: return a->boolean == b->boolean;
    case TREE_INT: return a->integer == b->integer;
    case TREE_FLOAT: return a->real == b->real;
    case TREE_STRING: return slice_equal(a->string, b->string);
    case TREE_LIST:
    case TREE_MAP: return children_equal(a, b);
    }
    UNREACHABLE();
}

struct tree *tree_copy(struct arena *arena, const struct tree *node) {
    if (node->type == TREE_STRING) {
        struct tree *copy = tree_string(arena, node->string);
        if (copy)
            copy->line = node->line, copy->column = node->column;
        return copy;
    }
    struct tree *copy = ARENA_NEW(arena, struct tree);
    if (!copy)
        return NULL;
    *copy = *node;
    if (node->type != TREE_LIST && node->type != TREE_MAP)
        return copy;
    copy->children = ARENA_NEW(arena, struct tree_children);
    for (size_t i = 0; copy->children && i < node->children->count; i++) {
        const struct tree_entry *from = &node->children->items[i];
        struct tree_entry *to = append(arena, copy->children);
        char *key = to && from->key.data ? arena_dup(arena, from->key) : NULL;
        if (!to || (from->key.data && !key))
            return NULL;
        *to = *from;
        to->key.data = key;
        to->value = tree_copy(arena, from->value);
        if (!to->value)
            return NULL;
    }
    return copy->children && (copy->type == TREE_LIST || index_update(arena, copy->children) == 0) ? copy : NULL;
}

bool tree_is_deeper(const struct tree *node, size_t levels) {
    size_t count = tree_count(node);
    if (levels == 0 && (node->type == TREE_LIST || node->type == TREE_MAP))
        return true;
    for (size_t i = 0; i < count; i++)
        if (tree_is_deeper(node->children->items[i].value, levels - 1))
            return true;
    return false;
}

const char *tree_type_name(const struct tree *node) {
    static const char *const names[] = {[TREE_NULL] = "null",     [TREE_BOOL] = "boolean", [TREE_INT] = "number", [TREE_FLOAT] = "number",
                                        [TREE_STRING] = "string", [TREE_LIST] = "array",   [TREE_MAP] = "object"};
    return names[node->type];
}
