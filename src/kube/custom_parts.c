/* Parts of custom objects: their status, and all else but metadata. Without a status subresource a status is a member like any other. */
#include "kube/custom_priv.h"

static bool is_spec(const struct kube_kind *kind, struct slice member) {
    return !kind->has_status || !slice_is(member, "status");
}

static int copy_entry(struct kube_object *to, struct tree *map, const struct tree_entry *entry) {
    return tree_set(to->arena, map, entry->key, tree_copy(to->arena, entry->value));
}

int custom_copy_member(struct kube_object *to, const struct kube_object *from, const char *member) {
    const struct tree_entry *entry = tree_find_entry(from->custom->content, slice_of(member));
    if (entry)
        return copy_entry(to, to->custom->content, entry);
    tree_unset(to->custom->content, slice_of(member));
    return 0;
}

int custom_copy_spec(struct kube_object *to, const struct kube_object *from) {
    struct tree *content = tree_map(to->arena);
    const struct tree *const sides[] = {from->custom->content, to->custom->content};
    if (!content)
        return -ENOMEM;
    for (size_t side = 0; side < 2; side++)
        for (size_t i = 0; i < tree_count(sides[side]); i++) {
            const struct tree_entry *entry = &sides[side]->children->items[i];
            if (is_spec(to->kind, entry->key) == (side == 0) && copy_entry(to, content, entry))
                return -ENOMEM;
        }
    to->custom->content = content;
    return 0;
}

/* Every member that counts of the one is in the other. */
static bool is_within(const struct kube_object *a, const struct kube_object *b) {
    const struct tree *content = a->custom->content;
    for (size_t i = 0; i < tree_count(content); i++) {
        const struct tree_entry *entry = &content->children->items[i], *other = tree_find_entry(b->custom->content, entry->key);
        if (is_spec(a->kind, entry->key) && (!other || !tree_equal(entry->value, other->value)))
            return false;
    }
    return true;
}

bool custom_spec_equal(const struct kube_object *a, const struct kube_object *b) {
    return is_within(a, b) && is_within(b, a);
}

int custom_put_differences(const struct kube_object *old, const struct kube_object *new, struct arena *arena, struct tree *trees[2]) {
    const struct tree *const sides[] = {old->custom->content, new->custom->content};
    for (size_t side = 0; side < 2; side++)
        for (size_t i = 0; i < tree_count(sides[side]); i++) {
            const struct tree_entry *entry = &sides[side]->children->items[i], *other = tree_find_entry(sides[1 - side], entry->key);
            if (other && tree_equal(entry->value, other->value))
                continue;
            if (tree_set(arena, trees[side], entry->key, tree_copy(arena, entry->value)))
                return -ENOMEM;
        }
    return 0;
}
