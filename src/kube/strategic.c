/* Strategic merge patch: a JSON merge patch that knows the types. Lists whose field says patch=merge are merged by their merge key (or, of scalars,
 * as sets) instead of being replaced, and directives in the patch say what a plain document cannot:
 *
 *   $patch: replace | delete | merge      in a map: take the patch as it is | empty it; in an element of a list: replace the whole list |
 *                                         remove the element
 *   $retainKeys: [a, b]                   other keys of this map go
 *   $deleteFromPrimitiveList/F: [x]       removes scalars from the list F
 *   $setElementOrder/F: [...]             the order of the list F afterwards
 *
 * Order of a merged list, as upstream: elements that the patch (or $setElementOrder) names keep its order, the others keep theirs, and the two runs
 * are woven by their places in the original. The target is copied first and the copy is changed; the patch is only read. Where the types know nothing
 * (unknown fields, free-form values), maps are merged and lists replaced.
 *
 * Elements are found by looking at one after the other, which for two long lists is their product: COMPARISONS_MAX bounds it for the whole patch. */
#include "kube/schema_priv.h"

#define COMPARISONS_MAX 5000000 /* a fraction of a second */

#define ORDER_PREFIX "$setElementOrder/"
#define DELETE_PREFIX "$deleteFromPrimitiveList/"

struct merge {
    struct arena *arena;
    struct diag *diag;
    size_t comparisons; /* of elements, so far; beyond COMPARISONS_MAX no element is found any more, and the patch fails in the end */
};

static int merge_map(struct merge *merge, const struct kube_type *type, struct tree *original, const struct tree *patch);

static bool is_directive(struct slice key) {
    return slice_is(key, "$patch") || slice_is(key, "$retainKeys") || slice_starts(key, SLICE(ORDER_PREFIX)) ||
           slice_starts(key, SLICE(DELETE_PREFIX));
}

static const char *directive_of(const struct tree *node) {
    return tree_text_or(tree_find(node, "$patch"), "");
}

static bool is_map(const struct tree *node) {
    return node && node->type == TREE_MAP;
}
static bool is_list(const struct tree *node) {
    return node && node->type == TREE_LIST;
}

/* A new value from the patch: a copy without nulls in maps and without directives. */
static struct tree *clean_copy(struct merge *merge, const struct tree *value) {
    if (value->type != TREE_MAP && value->type != TREE_LIST)
        return tree_copy(merge->arena, value);
    struct tree *copy = is_map(value) ? tree_map(merge->arena) : tree_list(merge->arena);
    for (size_t i = 0; i < tree_count(value) && copy; i++) {
        const struct tree_entry *entry = &value->children->items[i];
        int error = 0;
        if (is_map(value)) {
            if (!is_directive(entry->key) && entry->value->type != TREE_NULL)
                error = tree_set(merge->arena, copy, entry->key, clean_copy(merge, entry->value));
        } else if (strcmp(directive_of(entry->value), "delete") != 0 && strcmp(directive_of(entry->value), "replace") != 0)
            error = tree_push(merge->arena, copy, clean_copy(merge, entry->value));
        if (error)
            return NULL;
    }
    return copy;
}

/* The same element: equal merge keys, or without a key equal scalars. */
static bool same_element(const struct tree *a, const struct tree *b, const char *key) {
    if (!key)
        return tree_equal(a, b);
    const struct tree *x = tree_find(a, key), *y = tree_find(b, key);
    return x && y && tree_equal(x, y);
}

static ptrdiff_t find_element(struct merge *merge, const struct tree *list, const struct tree *element, const char *key) {
    for (size_t i = 0; i < tree_count(list) && merge->comparisons <= COMPARISONS_MAX; i++, merge->comparisons++)
        if (same_element(tree_at(list, i), element, key))
            return (ptrdiff_t)i;
    return -1;
}

/* Splits `merged` into what `order` names (in its order) and the rest, and weaves the two by their places in `server`. */
static int put_in_order(struct merge *merge, const struct tree *merged, const struct tree *order, const struct tree *server, const char *key,
                        struct tree **ret) {
    struct tree *named = tree_list(merge->arena), *others = tree_list(merge->arena), *out = tree_list(merge->arena);
    if (!named || !others || !out)
        return -ENOMEM;
    int error = 0;
    for (size_t i = 0; i < tree_count(order) && error == 0; i++) {
        ptrdiff_t at = find_element(merge, merged, tree_at(order, i), key);
        if (at >= 0 && find_element(merge, named, tree_at(order, i), key) < 0)
            error = tree_push(merge->arena, named, tree_at(merged, (size_t)at));
    }
    for (size_t i = 0; i < tree_count(merged) && error == 0; i++)
        if (find_element(merge, named, tree_at(merged, i), key) < 0)
            error = tree_push(merge->arena, others, tree_at(merged, i));
    size_t i = 0, j = 0;
    while (error == 0 && (i < tree_count(others) || j < tree_count(named))) {
        bool other = j >= tree_count(named);
        if (!other && i < tree_count(others)) {
            ptrdiff_t x = find_element(merge, server, tree_at(others, i), key), y = find_element(merge, server, tree_at(named, j), key);
            other = x >= 0 && y >= 0 && x < y;
        }
        error = tree_push(merge->arena, out, other ? tree_at(others, i++) : tree_at(named, j++));
    }
    *ret = out;
    return error;
}

static int check_key(struct merge *merge, const struct tree *element, const char *key) {
    if (!is_map(element))
        return diag_set(merge->diag, -EINVAL, "expected an object with the merge key \"%s\", found %s", key, tree_type_name(element));
    if (!tree_find(element, key))
        return diag_set(merge->diag, -EINVAL, "an element of the list does not contain declared merge key: %s", key);
    return 0;
}

/* Elements that are directives: replacing the whole list, or removing elements. */
static int apply_element_directives(struct merge *merge, struct tree *list, const struct tree *patch, const char *key, bool *ret_replace) {
    *ret_replace = false;
    for (size_t i = 0; i < tree_count(patch); i++) {
        const struct tree *element = tree_at(patch, i);
        const char *directive = directive_of(element);
        if (strcmp(directive, "replace") == 0)
            *ret_replace = true;
        else if (strcmp(directive, "delete") == 0) {
            int error = check_key(merge, element, key);
            if (error)
                return error;
            for (ptrdiff_t at; (at = find_element(merge, list, element, key)) >= 0;)
                tree_list_remove(list, (size_t)at);
        } else if (directive[0] && strcmp(directive, "merge") != 0)
            return diag_set(merge->diag, -EINVAL, "unrecognized patch directive: \"%.60s\"", directive);
    }
    return 0;
}

/* Merges elements by key; *ret is ordered. */
static int merge_objects(struct merge *merge, const struct kube_type *type, const struct tree *original, const struct tree *patch, const char *key,
                         struct tree **ret) {
    struct tree *merged = tree_list(merge->arena);
    bool replace = false;
    int error = merged ? 0 : -ENOMEM;
    for (size_t i = 0; i < tree_count(original) && error == 0; i++)
        error = tree_push(merge->arena, merged, tree_at(original, i));
    if (error == 0)
        error = apply_element_directives(merge, merged, patch, key, &replace);
    if (error)
        return error;
    if (replace) {
        *ret = clean_copy(merge, patch);
        return *ret ? 0 : -ENOMEM;
    }
    for (size_t i = 0; i < tree_count(patch) && error == 0; i++) {
        const struct tree *element = tree_at(patch, i);
        if (strcmp(directive_of(element), "delete") == 0)
            continue;
        error = check_key(merge, element, key);
        ptrdiff_t at = error ? -1 : find_element(merge, merged, element, key);
        if (error == 0 && at >= 0 && is_map(tree_at(merged, (size_t)at)))
            error = merge_map(merge, type, tree_at(merged, (size_t)at), element);
        else if (error == 0)
            error = tree_push(merge->arena, merged, clean_copy(merge, element));
    }
    return error ? error : put_in_order(merge, merged, patch, original, key, ret);
}

static int merge_scalars(struct merge *merge, const struct tree *original, const struct tree *patch, struct tree **ret) {
    struct tree *merged = tree_list(merge->arena);
    int error = merged ? 0 : -ENOMEM;
    const struct tree *const parts[] = {original, patch};
    for (size_t p = 0; p < ARRAY_LEN(parts); p++)
        for (size_t i = 0; i < tree_count(parts[p]) && error == 0; i++)
            if (find_element(merge, merged, tree_at(parts[p], i), NULL) < 0)
                error = tree_push(merge->arena, merged, tree_copy(merge->arena, tree_at(parts[p], i)));
    return error ? error : put_in_order(merge, merged, patch, original, NULL, ret);
}

static int merge_list(struct merge *merge, const struct kube_field *field, const struct tree *original, const struct tree *patch, struct tree **ret) {
    bool merged = field && field->flags & KUBE_PATCH_MERGE;
    if (!merged) {
        *ret = clean_copy(merge, patch);
        return *ret ? 0 : -ENOMEM;
    }
    const char *key = kube_rules_of(field)->merge_key;
    return key ? merge_objects(merge, field->type, original, patch, key, ret) : merge_scalars(merge, original, patch, ret);
}

/* "$setElementOrder/containers": merges the list as well, since its order depends on both. */
static int set_order(struct merge *merge, const struct kube_type *type, struct tree *map, const struct tree *patch,
                     const struct tree_entry *directive) {
    struct slice name = slice_from(directive->key, sizeof ORDER_PREFIX - 1);
    const struct kube_field *field = type ? kube_field_find(type, name) : NULL;
    const struct tree_entry *patched = tree_find_entry(patch, name), *existing = tree_find_entry(map, name);
    const struct tree *original = existing && is_list(existing->value) ? existing->value : NULL;
    const struct tree *change = patched && is_list(patched->value) ? patched->value : NULL;
    const char *key = field ? kube_rules_of(field)->merge_key : NULL;
    struct tree *merged = NULL;
    if (!is_list(directive->value))
        return diag_set(merge->diag, -EINVAL, "\"%.*s\" must be a list", SLICE_ARG(slice_head(directive->key, 100)));
    if (patched && patched->value->type == TREE_NULL) {
        tree_unset(map, name);
        return 0;
    }
    if (!original && !change)
        return 0;
    int error = change && original ? merge_list(merge, field, original, change, &merged) : 0;
    if (!change)
        merged = tree_copy(merge->arena, original);
    else if (!original)
        merged = clean_copy(merge, change);
    if (error == 0 && !merged)
        error = -ENOMEM;
    if (error == 0)
        error = put_in_order(merge, merged, directive->value, original ? original : change, key, &merged);
    return error ? error : tree_set(merge->arena, map, name, merged);
}

static void delete_scalars(struct merge *merge, struct tree *map, const struct tree_entry *directive) {
    struct tree_entry *entry = tree_find_entry(map, slice_from(directive->key, sizeof DELETE_PREFIX - 1));
    for (size_t i = 0; entry && is_list(entry->value) && i < tree_count(directive->value); i++)
        for (ptrdiff_t at; (at = find_element(merge, entry->value, tree_at(directive->value, i), NULL)) >= 0;)
            tree_list_remove(entry->value, (size_t)at);
}

/* Drops the entries without a value. */
static void squeeze(struct tree *map) {
    size_t kept = 0;
    for (size_t i = 0; i < tree_count(map); i++)
        if (map->children->items[i].value)
            map->children->items[kept++] = map->children->items[i];
    tree_truncate(map, kept);
}

static void retain_keys(struct merge *merge, struct tree *map, const struct tree *keys) {
    for (size_t i = 0; is_list(keys) && i < tree_count(map); i++) {
        const struct tree name = {.type = TREE_STRING, .string = map->children->items[i].key};
        if (find_element(merge, keys, &name, NULL) < 0)
            map->children->items[i].value = NULL;
    }
    if (is_list(keys))
        squeeze(map);
}

/* Empties a map or fills it with the patch, as its $patch says. *ret_done: nothing is left to merge. */
static int apply_map_directive(struct merge *merge, struct tree *map, const struct tree *patch, bool *ret_done) {
    const char *directive = directive_of(patch);
    bool replace = strcmp(directive, "replace") == 0;
    *ret_done = replace || strcmp(directive, "delete") == 0;
    if (!*ret_done)
        return directive[0] && strcmp(directive, "merge") != 0 ? diag_set(merge->diag, -EINVAL, "unrecognized patch directive: \"%.60s\"", directive)
                                                               : 0;
    tree_truncate(map, 0);
    int error = 0;
    for (size_t i = 0; replace && i < tree_count(patch) && error == 0; i++) {
        const struct tree_entry *entry = &patch->children->items[i];
        if (!is_directive(entry->key) && entry->value->type != TREE_NULL)
            error = tree_set(merge->arena, map, entry->key, clean_copy(merge, entry->value));
    }
    return error;
}

/* What goes is only marked: its value is NULL until the map is squeezed. */
static int merge_entry(struct merge *merge, const struct kube_type *type, struct tree *map, const struct tree_entry *entry) {
    const struct kube_field *field = type ? kube_field_find(type, entry->key) : NULL;
    struct tree_entry *old = tree_find_entry(map, entry->key);
    bool replace = field && field->flags & KUBE_PATCH_REPLACE;
    if (entry->value->type == TREE_NULL) {
        if (old)
            old->value = NULL;
        return 0;
    }
    if (old && is_map(old->value) && is_map(entry->value) && !replace)
        return merge_map(merge, field ? field->type : NULL, old->value, entry->value);
    struct tree *value = NULL;
    if (old && is_list(old->value) && is_list(entry->value)) {
        int error = merge_list(merge, field, old->value, entry->value, &value);
        if (error)
            return error;
    } else
        value = clean_copy(merge, entry->value);
    return tree_set(merge->arena, map, entry->key, value);
}

/* Lists with a $setElementOrder, which merges them as well. */
static int set_orders(struct merge *merge, const struct kube_type *type, struct tree *original, const struct tree *patch, size_t *ret_count) {
    int error = 0;
    *ret_count = 0;
    for (size_t i = 0; i < tree_count(patch) && error == 0; i++)
        if (slice_starts(patch->children->items[i].key, SLICE(ORDER_PREFIX))) {
            error = set_order(merge, type, original, patch, &patch->children->items[i]);
            ++*ret_count;
        }
    return error;
}

/* Without allocation: out of memory must not look like "no order". Fields have short names, which the map finds by itself. */
static bool has_order(const struct tree *patch, struct slice name) {
    char key[256] = ORDER_PREFIX;
    size_t prefix = sizeof ORDER_PREFIX - 1;
    if (name.len < sizeof key - prefix) {
        memcpy(key + prefix, name.data, name.len);
        return tree_find_entry(patch, slice_make(key, prefix + name.len)) != NULL;
    }
    for (size_t i = 0; i < tree_count(patch); i++) {
        struct slice other = patch->children->items[i].key;
        if (other.len == prefix + name.len && slice_starts(other, SLICE(ORDER_PREFIX)) && slice_equal(slice_from(other, prefix), name))
            return true;
    }
    return false;
}

static int merge_map(struct merge *merge, const struct kube_type *type, struct tree *original, const struct tree *patch) {
    bool done = false;
    int error = apply_map_directive(merge, original, patch, &done);
    size_t orders;
    if (error || done)
        return error;
    retain_keys(merge, original, tree_find(patch, "$retainKeys"));
    error = set_orders(merge, type, original, patch, &orders);
    for (size_t i = 0; i < tree_count(patch) && error == 0; i++) {
        const struct tree_entry *entry = &patch->children->items[i];
        if (slice_starts(entry->key, SLICE(DELETE_PREFIX)))
            delete_scalars(merge, original, entry);
        else if (!is_directive(entry->key) && !(orders && has_order(patch, entry->key)))
            error = merge_entry(merge, type, original, entry);
    }
    squeeze(original);
    return error;
}

int kube_strategic_merge(const struct kube_kind *kind, struct arena *arena, const struct tree *target, const struct tree *patch, struct tree **ret,
                         struct diag *diag) {
    struct merge merge = {.arena = arena, .diag = diag};
    if (!is_map(patch) || !is_map(target))
        return diag_set(diag, -EINVAL, "a patch must be an object, found %s", tree_type_name(is_map(target) ? patch : target));
    struct tree *copy = tree_copy(arena, target);
    if (!copy)
        return -ENOMEM;
    if (kind->custom)
        return diag_set(diag, -EINVAL, "strategic merge patch is not supported for custom resources");
    int error = merge_map(&merge, kind->type, copy, patch);
    if (!error && merge.comparisons > COMPARISONS_MAX)
        error = diag_set(diag, -EINVAL, "the lists of the patch and of the object are too long to be merged");
    if (error)
        return error;
    *ret = copy;
    return 0;
}
