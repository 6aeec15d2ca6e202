/* Structured merge, as upstream's library of that name does it: the rules by which several managers share one object. All walks go down one or two
 * trees together with the shape of the node at hand.
 *
 *   paths     a leaf is a scalar, whatever is atomic, and what is empty; members of maps and items of lists are named besides what they hold
 *   changes   leaves that came, differ or went; of what came or went the nodes above the leaves too
 *   merge     the configuration wins at its leaves; items that only the object has stay where they are, shared ones take the configuration's order
 *   prune     what the former configuration named, and nobody names now; a field of a struct counts as named when anything below it is
 *
 * 1. null is a value that a configuration may name (it removes), and is absent everywhere else.
 * 2. Where the values do not fit the shape (an object in place of a list, an item without its keys), or there are more than KUBE_OWNED_MEMBERS_MAX of
 * them, the node is a leaf: such objects are refused elsewhere or are owned as a whole, and the walks stay bounded. */
#include "kube/ownership.h"

#include "kube/kube.h"

#include <stdio.h>

#define ERRORS_MAX 10

/* The way from the root to a node. */
struct frame {
    const struct frame *up; /* NULL: the root */
    struct slice element;
};

static const struct tree *present(const struct tree *tree) {
    return tree && tree->type != TREE_NULL ? tree : NULL;
}

static bool is(const struct tree *tree, enum tree_type type) {
    return !tree || (tree->type == type && tree->children->count <= KUBE_OWNED_MEMBERS_MAX);
}

/* How the node is to be treated, given the values there; at least one is not NULL. */
static enum kube_merge merge_of(const struct kube_shape_node *shape, const struct tree *a, const struct tree *b) {
    switch (shape->merge) {
    case KUBE_MERGE_ATOMIC: return KUBE_MERGE_ATOMIC;
    case KUBE_MERGE_STRUCT: return is(a, TREE_MAP) && is(b, TREE_MAP) ? KUBE_MERGE_STRUCT : KUBE_MERGE_ATOMIC;
    case KUBE_MERGE_FREE:
    case KUBE_MERGE_MAP: return is(a, TREE_MAP) && is(b, TREE_MAP) ? KUBE_MERGE_MAP : KUBE_MERGE_ATOMIC;
    case KUBE_MERGE_SET:
    case KUBE_MERGE_KEYED: return is(a, TREE_LIST) && is(b, TREE_LIST) ? shape->merge : KUBE_MERGE_ATOMIC;
    }
    UNREACHABLE();
}

static bool is_map_like(enum kube_merge merge) {
    return merge == KUBE_MERGE_STRUCT || merge == KUBE_MERGE_MAP;
}

/* --- elements --- */

static struct slice field_element(struct arena *arena, struct slice name) {
    char *text = arena_alloc(arena, name.len + 3);
    if (!text)
        return (struct slice){NULL, 0};
    memcpy(text, "f:", 2);
    if (name.len)
        memcpy(text + 2, name.data, name.len);
    return slice_make(text, name.len + 2);
}

/* -EINVAL: the item has no keys, or is none of a set. */
static int put_item(const struct kube_shape_node *list, const struct tree *item, struct buffer *out) {
    if (list->merge == KUBE_MERGE_SET) {
        buffer_append_text(out, "v:");
        return item->type == TREE_MAP || item->type == TREE_LIST || item->type == TREE_NULL ? -EINVAL : json_format(out, item);
    }
    struct kube_shape_key key;
    size_t named = 0;
    buffer_append_text(out, "k:{");
    for (size_t i = 0; item->type == TREE_MAP && kube_shape_key(list, i, &key); i++) {
        const struct tree_entry *entry = tree_find_entry(item, key.name);
        const struct tree *value = entry ? entry->value : key.default_;
        if (!value)
            continue;
        buffer_append_text(out, named++ ? "," : "");
        json_format_string(out, key.name);
        buffer_append_text(out, ":");
        json_format(out, value);
    }
    buffer_append_text(out, "}");
    return named ? buffer_error(out) : -EINVAL;
}

static int item_element(struct arena *arena, const struct kube_shape_node *list, const struct tree *item, struct slice *ret) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(API_BODY_BYTES_MAX);
    int error = put_item(list, item, &text);
    char *copy = error ? NULL : arena_dup(arena, buffer_slice(&text));
    *ret = slice_make(copy, copy ? text.len : 0);
    return error ? error : copy ? 0 : -ENOMEM;
}

/* The elements of a list's items, and whether one stands there twice. */
struct items {
    const struct tree *list;
    struct slice *elements;
    size_t count;
};

/* -EINVAL: an item has no element. */
static int items_of(struct arena *arena, const struct kube_shape_node *shape, const struct tree *list, struct items *ret) {
    *ret = (struct items){.list = list, .count = tree_count(list)};
    ret->elements = ARENA_ARRAY(arena, struct slice, ret->count);
    int error = ret->elements ? 0 : -ENOMEM;
    for (size_t i = 0; i < ret->count && !error; i++)
        error = item_element(arena, shape, tree_at(list, i), &ret->elements[i]);
    return error;
}

/* Index of an element, looked for from `from` on and then from the start; -1: absent. */
static ptrdiff_t items_find(const struct items *items, struct slice element, size_t from) {
    for (size_t i = 0; i < items->count; i++) {
        size_t at = (from + i) % items->count;
        if (slice_equal(items->elements[at], element))
            return (ptrdiff_t)at;
    }
    return -1;
}

static size_t items_repeated(const struct items *items, struct slice element) {
    size_t count = 0;
    for (size_t i = 0; i < items->count; i++)
        count += slice_equal(items->elements[i], element);
    return count;
}

static struct tree *items_at(const struct items *items, ptrdiff_t at) {
    return at < 0 ? NULL : tree_at(items->list, (size_t)at);
}

/* --- paths --- */

static int paths_of_members(struct arena *arena, const struct kube_shape_node *shape, enum kube_merge merge, const struct tree *map,
                            struct kube_fieldset *set) {
    for (size_t i = 0; i < tree_count(map); i++) {
        const struct tree_entry *entry = &map->children->items[i];
        struct kube_shape_node below;
        bool known = kube_shape_member(shape, entry->key, &below);
        struct slice element = field_element(arena, entry->key);
        struct kube_fieldset *child = element.data ? kube_fieldset_below(arena, set, element) : NULL;
        bool empty = entry->value->type == TREE_NULL || (entry->value->type == TREE_MAP && !tree_count(entry->value));
        int error = child ? 0 : -ENOMEM;
        if (!error && (empty || merge == KUBE_MERGE_MAP || !known))
            child->member = true;
        if (!error && !empty)
            error = kube_owned_paths(arena, &below, entry->value, child);
        if (error)
            return error;
    }
    kube_fieldset_sweep(set); /* an empty list names nothing */
    return 0;
}

static int paths_of_items(struct arena *arena, const struct kube_shape_node *shape, const struct tree *list, struct kube_fieldset *set) {
    struct items items;
    struct kube_shape_node below;
    int error = items_of(arena, shape, list, &items);
    if (error == -EINVAL) {
        set->member = true;
        return 0;
    }
    kube_shape_item(shape, &below);
    for (size_t i = 0; i < items.count && !error; i++) {
        struct kube_fieldset *child = kube_fieldset_below(arena, set, items.elements[i]);
        bool again = child && child->member;
        error = child ? 0 : -ENOMEM;
        if (again)
            child->count = 0; /* items of equal keys are owned as one */
        else if (!error)
            error = kube_owned_paths(arena, &below, tree_at(list, i), child);
        if (!error)
            child->member = true;
    }
    return error;
}

int kube_owned_paths(struct arena *arena, const struct kube_shape_node *shape, const struct tree *tree, struct kube_fieldset *set) {
    enum kube_merge merge = merge_of(shape, tree, NULL);
    if (is_map_like(merge))
        return paths_of_members(arena, shape, merge, tree, set);
    if (merge != KUBE_MERGE_ATOMIC)
        return paths_of_items(arena, shape, tree, set);
    set->member = true;
    return 0;
}

/* --- changes --- */

struct comparison {
    struct arena *arena;
    struct kube_fieldset *changed, *removed;
};

static struct kube_fieldset *node_of(struct arena *arena, struct kube_fieldset *root, const struct frame *frame) {
    if (!frame)
        return root;
    struct kube_fieldset *above = node_of(arena, root, frame->up);
    return above ? kube_fieldset_below(arena, above, frame->element) : NULL;
}

static int note(struct comparison *comparison, struct kube_fieldset *root, const struct frame *frame) {
    struct kube_fieldset *node = node_of(comparison->arena, root, frame);
    if (!node)
        return -ENOMEM;
    node->member = true;
    return 0;
}

static int compare(struct comparison *comparison, const struct kube_shape_node *shape, const struct frame *frame, const struct tree *old,
                   const struct tree *new);

static int compare_leaf(struct comparison *comparison, const struct frame *frame, const struct tree *old, const struct tree *new) {
    if (!new)
        return note(comparison, comparison->removed, frame);
    return !old || !tree_equal(old, new) ? note(comparison, comparison->changed, frame) : 0;
}

static struct tree *find_near(const struct tree *map, struct slice key, size_t hint) {
    if (!map)
        return NULL;
    if (hint < map->children->count && slice_equal(map->children->items[hint].key, key))
        return map->children->items[hint].value;
    struct tree_entry *entry = tree_find_entry(map, key);
    return entry ? entry->value : NULL;
}

static int compare_member(struct comparison *comparison, const struct kube_shape_node *shape, const struct frame *frame, struct slice key,
                          const struct tree *old, const struct tree *new) {
    if (!present(old) && !present(new))
        return 0;
    struct kube_shape_node below;
    const struct frame here = {frame, field_element(comparison->arena, key)};
    kube_shape_member(shape, key, &below);
    return here.element.data ? compare(comparison, &below, &here, old, new) : -ENOMEM;
}

static int compare_members(struct comparison *comparison, const struct kube_shape_node *shape, const struct frame *frame, const struct tree *old,
                           const struct tree *new) {
    int error = 0;
    for (size_t i = 0; i < tree_count(new) && !error; i++) {
        const struct tree_entry *entry = &new->children->items[i];
        error = compare_member(comparison, shape, frame, entry->key, find_near(old, entry->key, i), entry->value);
    }
    for (size_t i = 0; i < tree_count(old) && !error; i++) {
        const struct tree_entry *entry = &old->children->items[i];
        if (!find_near(new, entry->key, i))
            error = compare_member(comparison, shape, frame, entry->key, entry->value, NULL);
    }
    return error;
}

static ptrdiff_t items_next(const struct items *items, struct slice element, size_t from) {
    for (size_t i = from; i < items->count; i++)
        if (slice_equal(items->elements[i], element))
            return (ptrdiff_t)i;
    return -1;
}

static bool same_run(const struct items *old, const struct items *new, struct slice element) {
    for (size_t i = 0, j = 0;;) {
        ptrdiff_t at = items_next(old, element, i), there = items_next(new, element, j);
        if (at < 0 || there < 0)
            return at == there;
        if (!tree_equal(items_at(old, at), items_at(new, there)))
            return false;
        i = (size_t)at + 1;
        j = (size_t)there + 1;
    }
}

/* Items of one element, of which either side has several, are one leaf. */
static int compare_repeated(struct comparison *comparison, const struct frame *frame, const struct items *old, const struct items *new) {
    if (same_run(old, new, frame->element))
        return 0;
    return note(comparison, items_next(new, frame->element, 0) < 0 ? comparison->removed : comparison->changed, frame);
}

static int compare_item(struct comparison *comparison, const struct kube_shape_node *shape, const struct frame *frame, const struct items *old,
                        const struct items *new, size_t hint) {
    if (items_repeated(old, frame->element) > 1 || items_repeated(new, frame->element) > 1)
        return compare_repeated(comparison, frame, old, new);
    return compare(comparison, shape, frame, items_at(old, items_find(old, frame->element, hint)),
                   items_at(new, items_find(new, frame->element, hint)));
}

static int compare_items(struct comparison *comparison, const struct kube_shape_node *shape, const struct frame *frame, const struct tree *old,
                         const struct tree *new) {
    struct items before, after;
    struct kube_shape_node below;
    int error = items_of(comparison->arena, shape, old, &before);
    if (!error)
        error = items_of(comparison->arena, shape, new, &after);
    if (error)
        return error == -EINVAL ? compare_leaf(comparison, frame, old, new) : error;
    kube_shape_item(shape, &below);
    for (size_t i = 0; i < after.count && !error; i++) {
        const struct frame here = {frame, after.elements[i]};
        error = compare_item(comparison, &below, &here, &before, &after, i);
    }
    for (size_t i = 0; i < before.count && !error; i++) {
        const struct frame here = {frame, before.elements[i]};
        if (items_find(&after, here.element, i) < 0)
            error = compare_item(comparison, &below, &here, &before, &after, i);
    }
    return error;
}

static int compare(struct comparison *comparison, const struct kube_shape_node *shape, const struct frame *frame, const struct tree *old,
                   const struct tree *new) {
    old = present(old);
    new = present(new);
    if (!old && !new)
        return 0;
    enum kube_merge merge = merge_of(shape, old, new);
    if (merge == KUBE_MERGE_ATOMIC || (!tree_count(old) && !tree_count(new)))
        return compare_leaf(comparison, frame, old, new);
    int error = is_map_like(merge) ? compare_members(comparison, shape, frame, old, new) : compare_items(comparison, shape, frame, old, new);
    if (!error && !old)
        error = note(comparison, comparison->changed, frame);
    else if (!error && !new)
        error = note(comparison, comparison->removed, frame);
    return error;
}

int kube_owned_changes(struct arena *arena, const struct kube_shape_node *shape, const struct tree *old, const struct tree *new,
                       struct kube_fieldset *changed, struct kube_fieldset *removed) {
    struct comparison comparison = {arena, changed, removed};
    return compare(&comparison, shape, NULL, old, new);
}

/* --- merge --- */

static struct tree *shallow_copy(struct arena *arena, const struct tree *from) {
    struct tree *copy = from->type == TREE_MAP ? tree_map(arena) : tree_list(arena);
    struct tree_entry *items = copy ? ARENA_ARRAY(arena, struct tree_entry, from->children->count + 1) : NULL;
    if (!items)
        return NULL;
    if (from->children->count)
        memcpy(items, from->children->items, from->children->count * sizeof *items);
    *copy->children = (struct tree_children){.items = items, .count = from->children->count, .capacity = from->children->count + 1};
    return copy;
}

static struct tree *merge_members(struct arena *arena, const struct kube_shape_node *shape, const struct tree *object, const struct tree *config) {
    struct tree *merged = shallow_copy(arena, object);
    for (size_t i = 0; merged && i < tree_count(config); i++) {
        const struct tree_entry *entry = &config->children->items[i], *old = tree_find_entry(object, entry->key);
        struct kube_shape_node below;
        kube_shape_member(shape, entry->key, &below);
        struct tree *value = old ? kube_owned_merge(arena, &below, old->value, entry->value) : entry->value;
        if (tree_set(arena, merged, entry->key, value))
            return NULL;
    }
    return merged;
}

/* The first item of the configuration from `from` on that the object has too. */
static size_t next_shared(const struct items *object, const struct items *config, size_t from) {
    while (from < config->count && items_find(object, config->elements[from], from) < 0)
        from++;
    return from;
}

static int push_merged(struct arena *arena, const struct kube_shape_node *shape, const struct items *object, const struct items *config, size_t at,
                       struct tree *merged) {
    const struct tree *old = items_at(object, items_find(object, config->elements[at], at));
    struct tree *item = tree_at(config->list, at);
    return tree_push(arena, merged, old ? kube_owned_merge(arena, shape, old, item) : item);
}

/* Lists woven: items that only the object has stay in place, the others come in the order of the configuration. */
static struct tree *merge_items(struct arena *arena, const struct kube_shape_node *shape, const struct tree *object, const struct tree *config) {
    struct items left, right;
    struct kube_shape_node below;
    struct tree *merged = tree_list(arena);
    int error = merged ? items_of(arena, shape, object, &left) : -ENOMEM;
    if (!error)
        error = items_of(arena, shape, config, &right);
    if (error)
        return error == -EINVAL ? shallow_copy(arena, config) : NULL;
    kube_shape_item(shape, &below);
    for (size_t i = 0, j = 0; (i < left.count || j < right.count) && !error;) {
        ptrdiff_t there = i < left.count ? items_find(&right, left.elements[i], j) : -1;
        if (i < left.count && there < 0)
            error = tree_push(arena, merged, tree_at(object, i++));
        else if (i < left.count && (j == right.count || ((size_t)there != j && (size_t)there != next_shared(&left, &right, j))))
            i++; /* has its turn in the configuration's order */
        else {
            error = push_merged(arena, &below, &left, &right, j, merged);
            i += there == (ptrdiff_t)j;
            j++;
        }
    }
    return error ? NULL : merged;
}

static struct tree *shared(const struct tree *tree) {
    return (struct tree *)(uintptr_t)tree;
}

struct tree *kube_owned_merge(struct arena *arena, const struct kube_shape_node *shape, const struct tree *object, const struct tree *config) {
    if (!present(config) || !present(object))
        return shared(config);
    enum kube_merge merge = merge_of(shape, object, config);
    if (is_map_like(merge))
        return merge_members(arena, shape, object, config);
    return merge == KUBE_MERGE_ATOMIC ? shared(config) : merge_items(arena, shape, object, config);
}

/* --- prune --- */

/* A field of a struct is in the set when anything below it is. */
static bool is_named(const struct kube_fieldset *node, bool of_struct) {
    return node && (node->member || (of_struct && node->count));
}

static struct tree *prune_members(struct arena *arena, const struct kube_shape_node *shape, enum kube_merge merge, const struct tree *object,
                                  const struct kube_fieldset *before, const struct kube_fieldset *kept) {
    struct tree *pruned = tree_map(arena);
    for (size_t i = 0; pruned && i < tree_count(object); i++) {
        const struct tree_entry *entry = &object->children->items[i];
        struct slice element = field_element(arena, entry->key);
        if (!element.data)
            return NULL;
        struct kube_shape_node below;
        bool of_struct = kube_shape_member(shape, entry->key, &below) && merge == KUBE_MERGE_STRUCT;
        const struct kube_fieldset *was = kube_fieldset_find(before, element), *still = kept ? kube_fieldset_find(kept, element) : NULL;
        if (is_named(was, of_struct) && !is_named(still, of_struct))
            continue;
        struct tree *value = was && was->count ? kube_owned_prune(arena, &below, entry->value, was, still) : entry->value;
        if (!value)
            return NULL;
        bool emptied = tree_count(entry->value) && !tree_count(value);
        if (!emptied && tree_set(arena, pruned, entry->key, value))
            return NULL;
    }
    return pruned;
}

static struct tree *prune_items(struct arena *arena, const struct kube_shape_node *shape, const struct tree *object,
                                const struct kube_fieldset *before, const struct kube_fieldset *kept) {
    struct items items;
    struct kube_shape_node below;
    struct tree *pruned = tree_list(arena);
    int error = pruned ? items_of(arena, shape, object, &items) : -ENOMEM;
    if (error)
        return error == -EINVAL ? shared(object) : NULL;
    kube_shape_item(shape, &below);
    for (size_t i = 0; i < items.count; i++) {
        const struct kube_fieldset *was = kube_fieldset_find(before, items.elements[i]);
        const struct kube_fieldset *still = kept ? kube_fieldset_find(kept, items.elements[i]) : NULL;
        if (is_named(was, false) && !is_named(still, false))
            continue;
        struct tree *item = tree_at(object, i);
        if (was && was->count && !(item = kube_owned_prune(arena, &below, item, was, still)))
            return NULL;
        if (tree_push(arena, pruned, item))
            return NULL;
    }
    return pruned;
}

struct tree *kube_owned_prune(struct arena *arena, const struct kube_shape_node *shape, const struct tree *object, const struct kube_fieldset *before,
                              const struct kube_fieldset *kept) {
    enum kube_merge merge = merge_of(shape, object, NULL);
    if (is_map_like(merge))
        return prune_members(arena, shape, merge, object, before, kept);
    return merge == KUBE_MERGE_ATOMIC ? shared(object) : prune_items(arena, shape, object, before, kept);
}

/* --- checks --- */

struct check {
    struct arena *arena;
    struct buffer text;
    size_t count;
};

static int put_path(void *userdata, const char *path) {
    return buffer_append_text(userdata, path);
}

static int complain(struct check *check, const struct frame *frame, const char *message) {
    struct kube_fieldset path = {.count = 0};
    struct kube_fieldset *node = node_of(check->arena, &path, frame);
    if (!node)
        return -ENOMEM;
    node->member = true;
    if (check->count++ >= ERRORS_MAX)
        return 0;
    buffer_append_text(&check->text, check->count > 1 ? "\n  " : "");
    kube_fieldset_each(&path, put_path, &check->text);
    return buffer_printf(&check->text, "%s%s", frame ? ": " : "", message);
}

static int check_node(struct check *check, const struct kube_shape_node *shape, const struct frame *frame, const struct tree *node);

static int check_members(struct check *check, const struct kube_shape_node *shape, const struct frame *frame, const struct tree *map) {
    int error = 0;
    for (size_t i = 0; i < tree_count(map) && !error; i++) {
        const struct tree_entry *entry = &map->children->items[i];
        struct kube_shape_node below;
        const struct frame here = {frame, field_element(check->arena, entry->key)};
        if (!here.element.data)
            return -ENOMEM;
        bool known = kube_shape_member(shape, entry->key, &below);
        error = known ? check_node(check, &below, &here, entry->value) : complain(check, &here, "field not declared in schema");
    }
    return error;
}

static int complain_of_item(struct check *check, const struct kube_shape_node *shape, const struct frame *frame, size_t index,
                            const struct tree *item) {
    char keys[200] = "";
    struct kube_shape_key key;
    for (size_t i = 0; kube_shape_key(shape, i, &key) && strlen(keys) + key.name.len + 4 < sizeof keys; i++)
        snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s\"%.*s\"", i ? " " : "", SLICE_ARG(key.name));
    const char *message;
    if (shape->merge == KUBE_MERGE_SET)
        message = arena_printf(check->arena, "element %zu: associative list without keys has an element that's %s", index,
                               item->type == TREE_NULL ? "an explicit null" : "a map type");
    else if (item->type != TREE_MAP)
        message = arena_printf(check->arena, "element %zu: associative list with keys may not have %s", index,
                               item->type == TREE_NULL ? "a null element" : "non-map elements");
    else
        message = arena_printf(check->arena,
                               "element %zu: associative list with keys has an element that omits all key fields [%s] (and doesn't have default "
                               "values for any key fields)",
                               index, keys);
    return message ? complain(check, frame, message) : -ENOMEM;
}

/* [name="web"] */
static const char *text_of_element(struct arena *arena, struct slice element) {
    struct kube_fieldset path = {.count = 0}, *node = kube_fieldset_below(arena, &path, element);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    if (!node)
        return NULL;
    node->member = true;
    kube_fieldset_each(&path, put_path, &text);
    return buffer_error(&text) ? NULL : arena_dup(arena, buffer_slice(&text));
}

static int check_items(struct check *check, const struct kube_shape_node *shape, const struct frame *frame, const struct tree *list) {
    struct kube_shape_node below;
    struct kube_fieldset seen = {.count = 0};
    kube_shape_item(shape, &below);
    int error = 0;
    for (size_t i = 0; i < tree_count(list) && !error; i++) {
        struct frame here = {.up = frame};
        error = item_element(check->arena, shape, tree_at(list, i), &here.element);
        if (error == -EINVAL) {
            error = complain_of_item(check, shape, frame, i, tree_at(list, i));
            continue;
        }
        bool again = !error && kube_fieldset_find(&seen, here.element);
        if (!error && !kube_fieldset_below(check->arena, &seen, here.element))
            error = -ENOMEM;
        if (!error && again) {
            const char *key = text_of_element(check->arena, here.element);
            const char *message = key ? arena_printf(check->arena, "duplicate entries for key %s", key) : NULL;
            error = message ? complain(check, frame, message) : -ENOMEM;
        } else if (!error) {
            error = check_node(check, &below, &here, tree_at(list, i));
        }
    }
    return error;
}

static int check_node(struct check *check, const struct kube_shape_node *shape, const struct frame *frame, const struct tree *node) {
    bool list = shape->merge == KUBE_MERGE_SET || shape->merge == KUBE_MERGE_KEYED;
    if (!present(node) || shape->merge == KUBE_MERGE_ATOMIC || shape->merge == KUBE_MERGE_FREE)
        return 0;
    if (node->type != (list ? TREE_LIST : TREE_MAP)) {
        CLEANUP(buffer_deinit) struct buffer got = BUFFER_INIT(API_BODY_BYTES_MAX);
        json_format(&got, node);
        const char *message = arena_printf(check->arena, "expected %s, got %.200s", list ? "list" : "map", got.data ? got.data : "");
        return message ? complain(check, frame, message) : -ENOMEM;
    }
    if (node->children->count > KUBE_OWNED_MEMBERS_MAX)
        return 0;
    return list ? check_items(check, shape, frame, node) : check_members(check, shape, frame, node);
}

int kube_owned_check(struct arena *arena, const struct kube_shape_node *shape, const struct tree *config, struct diag *diag) {
    struct check check = {.arena = arena, .text = BUFFER_INIT(DIAG_TEXT_MAX * 8)};
    int error = check_node(&check, shape, NULL, config);
    if (!error && check.count)
        error = diag_set(diag, -EINVAL, "%s%s", check.count > 1 ? "errors:\n  " : "", check.text.data ? check.text.data : "");
    buffer_deinit(&check.text);
    return error;
}
