/* Objects and kinds. An object is one arena: the object itself, its struct and all that hangs on it, freed at once with the last reference. Published
 * objects are never changed; who wants a changed one copies it. */
#include "kube/custom_priv.h"

size_t kube_kinds_count(void) {
    return kube_builtin_kinds_count + custom_kinds_served();
}

const struct kube_kind *kube_kind_at(size_t index) {
    if (index < kube_builtin_kinds_count)
        return kube_builtin_kinds[index];
    const struct kube_kind *custom = custom_kind_served_at(index - kube_builtin_kinds_count);
    ASSERT(custom);
    return custom;
}

const struct kube_kind *kube_kind_find(struct slice group, struct slice version, struct slice kind) {
    for (size_t i = 0; i < kube_builtin_kinds_count; i++) {
        const struct kube_kind *found = kube_builtin_kinds[i];
        if (slice_is(kind, found->kind) && slice_is(group, found->group) && slice_is(version, found->version))
            return found;
    }
    return custom_kind_find(group, version, kind);
}

const struct kube_kind *kube_kind_by_plural(struct slice group, struct slice version, struct slice plural) {
    for (size_t i = 0; i < kube_kinds_count(); i++)
        if (slice_is(plural, kube_kind_at(i)->plural) && slice_is(group, kube_kind_at(i)->group) && slice_is(version, kube_kind_at(i)->version))
            return kube_kind_at(i);
    return NULL;
}

const char *kube_kind_key(const struct kube_kind *kind) {
    return kind->key;
}

const char *kube_kind_api_version(const struct kube_kind *kind) {
    return kind->api_version;
}

struct kube_object *kube_object_new(const struct kube_kind *kind) {
    struct arena *arena = arena_new(OBJECT_ARENA_BYTES_MAX);
    struct kube_object *object = arena ? ARENA_NEW(arena, struct kube_object) : NULL;
    void *data = object ? arena_alloc(arena, kind->type->size) : NULL;
    if (data && kind->custom && !(((struct kube_custom_object *)data)->content = tree_map(arena)))
        data = NULL;
    if (!data) {
        arena_free(arena);
        return NULL;
    }
    object->references = 1;
    object->kind = kube_kind_ref(kind);
    object->arena = arena;
    object->data = data;
    return object;
}

struct kube_object *kube_object_ref(struct kube_object *object) {
    ASSERT(object->references > 0);
    object->references++;
    return object;
}

void kube_object_unref(struct kube_object *object) {
    if (!object)
        return;
    ASSERT(object->references > 0);
    if (--object->references)
        return;
    kube_kind_unref(object->kind);
    arena_free(object->arena);
}

struct kube_object *kube_object_copy(const struct kube_object *object) {
    struct kube_object *copy = kube_object_new(object->kind);
    if (copy && kube_copy(object->kind->type, copy->arena, object->data, copy->data) != 0) {
        kube_object_unref(copy);
        return NULL;
    }
    if (copy && object->kind->custom && !(copy->custom->content = tree_copy(copy->arena, object->custom->content))) {
        kube_object_unref(copy);
        return NULL;
    }
    return copy;
}
