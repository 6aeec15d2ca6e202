/* Claims and volumes: the default storage class (DefaultStorageClass), the finalizers that keep what is in use (StorageObjectInUseProtection; their
 * controllers take them off again), and whether a claim may grow (PersistentVolumeClaimResize). */
#include "api/admission_priv.h"

int admit_storage_class(struct admission *admission) {
    struct kube_object *object = admission->object;
    struct kube_persistent_volume_claim_spec *spec = &object->persistent_volume_claim->spec;
    static const char *const marks[] = {"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class", NULL};
    if (spec->storage_class_name || kube_map_find(&object->metadata->annotations, "volume.beta.kubernetes.io/storage-class"))
        return 0;
    return admission_default_class(admission, &kube_kind_storage_class, marks, &spec->storage_class_name);
}

int admit_storage_finalizer(struct admission *admission) {
    struct kube_object *object = admission->object;
    const char *finalizer = object->kind == &kube_kind_persistent_volume ? "kubernetes.io/pv-protection" : "kubernetes.io/pvc-protection";
    return kube_strings_add(&object->metadata->finalizers, object->arena, finalizer) ? admission_no_memory(admission) : 0;
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
