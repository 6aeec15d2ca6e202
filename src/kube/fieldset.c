/* Sets of paths: see fieldset.h. Nodes are kept sorted, so that looking up is a binary search and two sets are walked side by side. A member that has
 * nodes below is written with a "." beside them; one without is an empty object. */
#include "kube/fieldset.h"

#include "codec/codec.h"

#define PATH_BYTES_MAX (16 * KIB)

static int rank_of(struct slice element) {
    static const char order[] = "fkvi";
    const char *at = element.len ? memchr(order, element.data[0], sizeof order - 1) : NULL;
    return at ? (int)(at - order) : -1;
}

static int compare(struct slice a, struct slice b) {
    int difference = rank_of(a) - rank_of(b);
    return difference ? difference : slice_compare(a, b);
}

/* Where the element is, or would stand. */
static size_t place_of(const struct kube_fieldset *set, struct slice element, bool *ret_found) {
    size_t low = 0, high = set->count;
    *ret_found = false;
    if (high && compare(set->items[high - 1].element, element) < 0)
        return high; /* mostly they come in order */
    while (low < high) {
        size_t middle = (low + high) / 2;
        int difference = compare(set->items[middle].element, element);
        if (difference == 0) {
            *ret_found = true;
            return middle;
        }
        if (difference < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct kube_fieldset *kube_fieldset_find(const struct kube_fieldset *set, struct slice element) {
    bool found;
    size_t at = place_of(set, element, &found);
    return found ? &set->items[at] : NULL;
}

static int make_room(struct arena *arena, struct kube_fieldset *set) {
    if (set->count < set->capacity)
        return 0;
    size_t capacity = set->capacity ? set->capacity * 2 : 4;
    struct kube_fieldset *items = ARENA_ARRAY(arena, struct kube_fieldset, capacity);
    if (!items)
        return -ENOMEM;
    if (set->count)
        memcpy(items, set->items, set->count * sizeof *items);
    set->items = items;
    set->capacity = capacity;
    return 0;
}

struct kube_fieldset *kube_fieldset_below(struct arena *arena, struct kube_fieldset *set, struct slice element) {
    bool found;
    size_t at = place_of(set, element, &found);
    if (found)
        return &set->items[at];
    if (make_room(arena, set))
        return NULL;
    memmove(&set->items[at + 1], &set->items[at], (set->count - at) * sizeof *set->items);
    set->items[at] = (struct kube_fieldset){.element = element};
    set->count++;
    return &set->items[at];
}

bool kube_fieldset_is_empty(const struct kube_fieldset *set) {
    if (set->member)
        return false;
    for (size_t i = 0; i < set->count; i++)
        if (!kube_fieldset_is_empty(&set->items[i]))
            return false;
    return true;
}

bool kube_fieldset_equal(const struct kube_fieldset *a, const struct kube_fieldset *b) {
    if (a->member != b->member || a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!slice_equal(a->items[i].element, b->items[i].element) || !kube_fieldset_equal(&a->items[i], &b->items[i]))
            return false;
    return true;
}

/* --- algebra --- */

int kube_fieldset_add(struct arena *arena, struct kube_fieldset *set, const struct kube_fieldset *other) {
    set->member = set->member || other->member;
    for (size_t i = 0; i < other->count; i++) {
        struct kube_fieldset *below = kube_fieldset_below(arena, set, other->items[i].element);
        int error = below ? kube_fieldset_add(arena, below, &other->items[i]) : -ENOMEM;
        if (error)
            return error;
    }
    return 0;
}

void kube_fieldset_sweep(struct kube_fieldset *set) {
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++)
        if (set->items[i].member || set->items[i].count)
            set->items[kept++] = set->items[i];
    set->count = kept;
}

static void subtract(struct kube_fieldset *set, const struct kube_fieldset *other, bool below) {
    if (other->member)
        set->member = false;
    if (other->member && below)
        set->count = 0;
    for (size_t i = 0; i < set->count; i++) {
        const struct kube_fieldset *same = kube_fieldset_find(other, set->items[i].element);
        if (same)
            subtract(&set->items[i], same, below);
    }
    kube_fieldset_sweep(set);
}

void kube_fieldset_subtract(struct kube_fieldset *set, const struct kube_fieldset *other) {
    subtract(set, other, false);
}

void kube_fieldset_subtract_below(struct kube_fieldset *set, const struct kube_fieldset *other) {
    subtract(set, other, true);
}

int kube_fieldset_intersect(struct arena *arena, const struct kube_fieldset *a, const struct kube_fieldset *b, struct kube_fieldset *ret) {
    ret->member = a->member && b->member;
    for (size_t i = 0; i < a->count; i++) {
        const struct kube_fieldset *same = kube_fieldset_find(b, a->items[i].element);
        struct kube_fieldset *below = same ? kube_fieldset_below(arena, ret, a->items[i].element) : NULL;
        int error = same ? (below ? kube_fieldset_intersect(arena, &a->items[i], same, below) : -ENOMEM) : 0;
        if (error)
            return error;
    }
    kube_fieldset_sweep(ret);
    return 0;
}

/* --- fieldsV1 --- */

static int compare_entries(const void *left, const void *right) {
    return compare((*(const struct tree_entry *const *)left)->key, (*(const struct tree_entry *const *)right)->key);
}

/* The members in order: to put each in front of all that were before it would take very long. */
static const struct tree_entry **in_order(struct arena *arena, const struct tree *map) {
    const struct tree_entry **entries = ARENA_ARRAY(arena, const struct tree_entry *, tree_count(map) + 1);
    for (size_t i = 0; entries && i < tree_count(map); i++)
        entries[i] = &map->children->items[i];
    if (entries)
        qsort(entries, tree_count(map), sizeof *entries, compare_entries);
    return entries;
}

static int from_tree(struct arena *arena, const struct tree *tree, struct kube_fieldset *set) {
    if (tree->type != TREE_MAP)
        return -EINVAL;
    const struct tree_entry **entries = in_order(arena, tree);
    if (!entries)
        return -ENOMEM;
    for (size_t i = 0; i < tree_count(tree); i++) {
        const struct tree_entry *entry = entries[i];
        if (slice_is(entry->key, ".")) {
            set->member = true;
            continue;
        }
        if (entry->key.len < 2 || entry->key.data[1] != ':' || rank_of(entry->key) < 0 || entry->value->type != TREE_MAP)
            return -EINVAL;
        struct kube_fieldset *below = kube_fieldset_below(arena, set, entry->key);
        if (!below)
            return -ENOMEM;
        below->member = below->member || !tree_count(entry->value);
        int error = from_tree(arena, entry->value, below);
        if (error)
            return error;
    }
    return 0;
}

int kube_fieldset_parse(struct arena *arena, struct slice json, struct kube_fieldset *ret) {
    struct tree *tree = NULL;
    *ret = (struct kube_fieldset){.count = 0};
    int error = json_parse(arena, json, NULL, &tree, NULL);
    return error ? error : from_tree(arena, tree, ret);
}

int kube_fieldset_format(const struct kube_fieldset *set, struct buffer *out) {
    buffer_append_text(out, "{");
    if (set->member && set->count)
        buffer_append_text(out, "\".\":{},");
    for (size_t i = 0; i < set->count; i++) {
        buffer_append_text(out, i ? "," : "");
        json_format_string(out, set->items[i].element);
        buffer_append_text(out, ":");
        kube_fieldset_format(&set->items[i], out);
    }
    return buffer_append_text(out, "}");
}

/* --- for people --- */

struct path_walk {
    struct buffer path;
    int (*each)(void *userdata, const char *path);
    void *userdata;
};

/* {"port":80,"protocol":"TCP"} → [port=80,protocol="TCP"] */
static void put_keys(struct buffer *out, struct slice json) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct tree *keys = NULL;
    buffer_append_text(out, "[");
    if (arena && json_parse(arena, json, NULL, &keys, NULL) == 0) {
        for (size_t i = 0; keys->type == TREE_MAP && i < tree_count(keys); i++) {
            buffer_printf(out, "%s%.*s=", i ? "," : "", SLICE_ARG(keys->children->items[i].key));
            json_format(out, keys->children->items[i].value);
        }
    }
    buffer_append_text(out, "]");
}

static void put_element(struct buffer *out, struct slice element) {
    struct slice text = slice_from(element, 2);
    if (element.data[0] == 'f')
        buffer_printf(out, ".%.*s", SLICE_ARG(text));
    else if (element.data[0] == 'k')
        put_keys(out, text);
    else
        buffer_printf(out, element.data[0] == 'v' ? "[=%.*s]" : "[%.*s]", SLICE_ARG(text));
}

static int walk(struct path_walk *walk_, const struct kube_fieldset *set) {
    int stop = 0;
    if (set->member)
        stop = buffer_error(&walk_->path) ? buffer_error(&walk_->path) : walk_->each(walk_->userdata, walk_->path.data ? walk_->path.data : "");
    for (size_t i = 0; i < set->count && !stop; i++) {
        size_t before = walk_->path.len;
        put_element(&walk_->path, set->items[i].element);
        stop = walk(walk_, &set->items[i]);
        if (!buffer_error(&walk_->path))
            buffer_truncate(&walk_->path, before);
    }
    return stop;
}

int kube_fieldset_each(const struct kube_fieldset *set, int (*each)(void *userdata, const char *path), void *userdata) {
    struct path_walk path = {.path = BUFFER_INIT(PATH_BYTES_MAX), .each = each, .userdata = userdata};
    int stop = walk(&path, set);
    buffer_deinit(&path.path);
    return stop;
}
