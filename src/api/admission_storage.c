/* Claims and volumes: the default storage class (DefaultStorageClass), the finalizers that keep what is in use (StorageObjectInUseProtection; their
 * controllers take them off again), and whether a claim may grow (PersistentVolumeClaimResize). */
#include "api/admission_priv.h"

#define IS_DEFAULT "storageclass.kubernetes.io/is-default-class"
#define IS_DEFAULT_BETA "storageclass.beta.kubernetes.io/is-default-class"

struct newest {
    const struct kube_object *object; /* borrowed within the turn */
};

static bool says_true(const struct kube_object *object, const char *annotation) {
    const char *value = kube_map_find(&object->metadata->annotations, annotation);
    return value && !strcmp(value, "true");
}

/* Of several defaults the newest counts, and of those that are as new the first by name. */
static bool keep_newest(void *userdata, const struct kube_object *object) {
    struct newest *newest = userdata;
    if (!says_true(object, IS_DEFAULT) && !says_true(object, IS_DEFAULT_BETA))
        return true;
    if (!newest->object || object->metadata->creation_timestamp.ns > newest->object->metadata->creation_timestamp.ns)
        newest->object = object;
    return true;
}

int admit_storage_class(struct admission *admission) {
    struct kube_object *object = admission->object;
    struct kube_persistent_volume_claim_spec *spec = &object->persistent_volume_claim->spec;
    struct newest newest = {NULL};
    if (spec->storage_class_name || kube_map_find(&object->metadata->annotations, "volume.beta.kubernetes.io/storage-class"))
        return 0;
    admission_list(admission, &kube_kind_storage_class, NULL, keep_newest, &newest);
    if (newest.object && !(spec->storage_class_name = arena_strdup(object->arena, newest.object->metadata->name)))
        return admission_no_memory(admission);
    return 0;
}

int admit_storage_finalizer(struct admission *admission) {
    struct kube_object *object = admission->object;
    struct kube_string_list *list = &object->metadata->finalizers;
    const char *finalizer = object->kind == &kube_kind_persistent_volume ? "kubernetes.io/pv-protection" : "kubernetes.io/pvc-protection";
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(list->items[i], finalizer))
            return 0;
    const char **items = ARENA_ARRAY(object->arena, const char *, list->count + 1);
    if (!items)
        return admission_no_memory(admission);
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    items[list->count] = finalizer;
    *list = (struct kube_string_list){items, list->count + 1};
    return 0;
}

int admit_resize(struct admission *admission) {
    const struct kube_persistent_volume_claim *claim = admission->object->persistent_volume_claim, *old = admission->old->persistent_volume_claim;
    int64_t size = kube_quantity_milli(&claim->spec.resources.requests, "storage", 0);
    if (size <= kube_quantity_milli(&old->spec.resources.requests, "storage", 0))
        return 0; /* shrinking is for validation to refuse */
    if (!old->status.phase || strcmp(old->status.phase, "Bound"))
        return admission_forbid(admission, "Only bound persistent volume claims can be expanded");
    const char *name = claim->spec.storage_class_name ? claim->spec.storage_class_name : "";
    CLEANUP(kube_object_unrefp) struct kube_object *class = api_stored_get(admission->api, &kube_kind_storage_class, "", name);
    const bool *allowed = class ? class->storage_class->allow_volume_expansion : NULL;
    return allowed && *allowed
               ? 0
               : admission_forbid(admission, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                                             "support resize");
}
