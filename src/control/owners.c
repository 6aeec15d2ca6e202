/* Who depends on whom: for each owner's uid the objects that name it in ownerReferences, kept up with every change. So that garbage collection does
 * not search. */
#include "control/control_priv.h"

const struct dependents *owners_find(const struct map *owners, const char *uid) {
    return uid ? map_find(owners, slice_of(uid)) : NULL;
}

static struct dependent *dependent_new(const struct kube_object *object) {
    const char *namespace = object->metadata->namespace, *name = object->metadata->name;
    size_t namespace_len = namespace ? strlen(namespace) + 1 : 0, name_len = strlen(name) + 1;
    struct dependent *dependent = malloc(sizeof *dependent + namespace_len + name_len);
    if (!dependent)
        return NULL;
    dependent->kind = kube_kind_ref(object->kind);
    if (namespace)
        memcpy(dependent->text, namespace, namespace_len);
    memcpy(dependent->text + namespace_len, name, name_len);
    dependent->namespace = namespace ? dependent->text : NULL;
    dependent->name = dependent->text + namespace_len;
    return dependent;
}

static void dependent_free(struct dependent *dependent) {
    if (dependent)
        kube_kind_unref(dependent->kind);
    free(dependent);
}

static int add(struct map *owners, const char *uid, const struct kube_object *object) {
    struct dependents *dependents = map_find(owners, slice_of(uid));
    if (!dependents) {
        dependents = calloc(1, sizeof *dependents);
        if (!dependents || map_put(owners, slice_of(uid), dependents, NULL) < 0) {
            free(dependents);
            return -ENOMEM;
        }
    }
    struct dependent *dependent = dependent_new(object);
    if (!dependent || VECTOR_PUSH(&dependents->items, dependent) < 0) {
        dependent_free(dependent);
        return -ENOMEM;
    }
    return 0;
}

static void drop(struct map *owners, const char *uid, const struct kube_object *object) {
    struct dependents *dependents = map_find(owners, slice_of(uid));
    for (size_t i = 0; dependents && i < dependents->items.count; i++) {
        struct dependent *dependent = dependents->items.items[i];
        if (strcmp(kube_kind_key(dependent->kind), kube_kind_key(object->kind)) != 0 ||
            !same_text(dependent->namespace, object->metadata->namespace) || strcmp(dependent->name, object->metadata->name) != 0)
            continue;
        dependent_free(dependent);
        dependents->items.items[i] = dependents->items.items[--dependents->items.count];
        if (dependents->items.count == 0) {
            VECTOR_DEINIT(&dependents->items);
            map_remove(owners, slice_of(uid));
            free(dependents);
        }
        return;
    }
}

static bool names_owner(const struct kube_object *object, const char *uid) {
    for (size_t i = 0; object && i < object->metadata->owner_references.count; i++)
        if (same_text(object->metadata->owner_references.items[i].uid, uid))
            return true;
    return false;
}

int owners_on_change(struct map *owners, const struct kube_object *object, const struct kube_object *old) {
    for (size_t i = 0; old && i < old->metadata->owner_references.count; i++) {
        const char *uid = old->metadata->owner_references.items[i].uid;
        if (uid && !names_owner(object, uid))
            drop(owners, uid, old);
    }
    for (size_t i = 0; object && i < object->metadata->owner_references.count; i++) {
        const char *uid = object->metadata->owner_references.items[i].uid;
        if (!uid || names_owner(old, uid))
            continue;
        drop(owners, uid, object); /* seen before, e.g. when a listing is repeated */
        int r = add(owners, uid, object);
        if (r < 0)
            return r;
    }
    return 0;
}

void owners_free(struct map *owners) {
    void *value;
    for (size_t at = 0; owners && map_next(owners, &at, NULL, &value);) {
        struct dependents *dependents = value;
        for (size_t i = 0; i < dependents->items.count; i++)
            dependent_free(dependents->items.items[i]);
        VECTOR_DEINIT(&dependents->items);
        free(dependents);
    }
    map_free(owners);
}
