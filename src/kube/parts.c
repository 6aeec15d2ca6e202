/* The parts of an object that are written through different doors: metadata, status, and all else ("spec"). Compared and copied member by member by
 * the tables, without trees, since every write goes through here. */
#include "kube/custom_priv.h"

extern const struct kube_type kube_object_meta_type;

static bool is_metadata(const struct kube_field *field) {
    return field->type == &kube_object_meta_type && strcmp(field->name, "metadata") == 0;
}

int kube_copy_member(struct kube_object *to, const struct kube_object *from, const char *member) {
    ASSERT(to->kind->type == from->kind->type);
    const struct kube_field *field = kube_field_find(to->kind->type, slice_of(member));
    if (!field && to->kind->custom)
        return custom_copy_member(to, from, member);
    return field ? kube_field_copy(field, to->arena, kube_at(field, from->data), kube_at(field, to->data)) : 0;
}

int kube_copy_metadata_member(struct kube_object *to, const struct kube_object *from, const char *member) {
    const struct kube_field *field = kube_field_find(&kube_object_meta_type, slice_of(member));
    ASSERT(field);
    return kube_field_copy(field, to->arena, kube_at(field, from->metadata), kube_at(field, to->metadata));
}

int kube_copy_spec(struct kube_object *to, const struct kube_object *from) {
    ASSERT(to->kind->type == from->kind->type);
    const struct kube_type *type = to->kind->type;
    int error = to->kind->custom ? custom_copy_spec(to, from) : 0;
    for (size_t i = 0; i < type->fields_count && !error; i++) {
        const struct kube_field *field = &type->fields[i];
        if (!is_metadata(field) && strcmp(field->name, "status") != 0)
            error = kube_field_copy(field, to->arena, kube_at(field, from->data), kube_at(field, to->data));
    }
    return error;
}

bool kube_spec_equal(const struct kube_object *a, const struct kube_object *b) {
    const struct kube_type *type = a->kind->type;
    bool equal = !a->kind->custom || custom_spec_equal(a, b);
    for (size_t i = 0; i < type->fields_count && equal; i++) {
        const struct kube_field *field = &type->fields[i];
        if (!is_metadata(field) && strcmp(field->name, "status") != 0)
            equal = kube_field_equal(field, kube_at(field, a->data), kube_at(field, b->data));
    }
    return equal;
}

/* What nobody owns in metadata, since the server sets it. */
static bool is_servers(const char *name) {
    static const char *const names[] = {"name",       "namespace",       "selfLink",     "uid", "creationTimestamp",
                                        "generation", "resourceVersion", "managedFields"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static int put_differences(struct arena *arena, const struct kube_type *type, const void *old, const void *new, bool metadata,
                           struct tree *trees[2]) {
    const void *const sides[] = {old, new};
    for (size_t i = 0; i < type->fields_count; i++) {
        const struct kube_field *field = &type->fields[i];
        if ((metadata && is_servers(field->name)) || kube_field_equal(field, kube_at(field, old), kube_at(field, new)))
            continue;
        if (!metadata && is_metadata(field)) {
            struct tree *below[2] = {tree_map(arena), tree_map(arena)};
            int error = below[0] && below[1] ? put_differences(arena, field->type, kube_at(field, old), kube_at(field, new), true, below) : -ENOMEM;
            for (size_t side = 0; side < 2 && !error; side++)
                error = tree_set(arena, trees[side], slice_of(field->name), below[side]);
            if (error)
                return error;
            continue;
        }
        for (size_t side = 0; side < 2; side++) {
            const void *at = kube_at(field, sides[side]);
            if (!(field->flags & KUBE_ALWAYS) && kube_field_is_empty(field, at))
                continue;
            if (tree_set(arena, trees[side], slice_of(field->name), kube_field_tree(field, at, arena)))
                return -ENOMEM;
        }
    }
    return 0;
}

int kube_encode_differences(const struct kube_object *old, const struct kube_object *new, struct arena *arena, struct tree **ret_old,
                            struct tree **ret_new) {
    ASSERT(old->kind->type == new->kind->type);
    struct tree *trees[2] = {tree_map(arena), tree_map(arena)};
    int error = trees[0] && trees[1] ? put_differences(arena, new->kind->type, old->data, new->data, false, trees) : -ENOMEM;
    if (!error && new->kind->custom)
        error = custom_put_differences(old, new, arena, trees);
    *ret_old = trees[0];
    *ret_new = trees[1];
    return error;
}
