/* Volumes, claims and classes. */
#include "kube/validate_priv.h"

/* ---- persistent volumes ---- */

static void check_modes(struct validator *validator, const struct kube_string_list *modes, const char *missing) {
    bool single = false;
    if (modes->count == 0)
        fail_required(validator, "accessModes", missing);
    for (size_t i = 0; i < modes->count; i++)
        single |= strcmp(modes->items[i], "ReadWriteOncePod") == 0;
    if (single && modes->count > 1)
        fail_forbidden(validator, "accessModes", "may not use ReadWriteOncePod with other access modes");
}

static void check_size(struct validator *validator, const char *field, const struct kube_quantity_map *map) {
    const struct kube_quantity_pair *storage = kube_pair_find(map, sizeof *storage, "storage");
    size_t before = kube_path_push_field(&validator->path, field);
    kube_path_push_key(&validator->path, "storage");
    if (!storage)
        fail_required(validator, NULL, "");
    else if (storage->value.milli <= 0)
        fail_text(validator, NULL, storage->value.text, "must be greater than zero");
    kube_path_pop(&validator->path, before);
}

static bool is_volume_source(const struct kube_field *field) {
    return field->inline_number != 0;
}

static void check_volume_source(struct validator *validator, const struct kube_persistent_volume_spec *spec) {
    size_t sources = 0;
    for (size_t i = 0; i < kube_persistent_volume_spec_type.fields_count; i++) {
        const struct kube_field *field = &kube_persistent_volume_spec_type.fields[i];
        if (is_volume_source(field) && !kube_field_is_empty(field, kube_at(field, spec)) && ++sources > 1)
            fail_forbidden(validator, field->name, "may not specify more than 1 volume type");
    }
    if (sources == 0)
        fail_required(validator, NULL, "must specify a volume type");
    if (spec->host_path && spec->host_path->path && strstr(spec->host_path->path, ".."))
        fail_text(validator, "hostPath.path", spec->host_path->path, "must not contain '..'");
    if (spec->host_path && kube_text_is(spec->host_path->path, "/") && kube_text_is(spec->persistent_volume_reclaim_policy, "Recycle"))
        fail_forbidden(validator, "persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'");
    if (spec->local && !spec->node_affinity)
        fail_required(validator, "nodeAffinity", "Local volume requires node affinity");
    if (spec->csi && !spec->csi->driver)
        fail_required(validator, "csi.driver", "");
    if (spec->csi && !spec->csi->volume_handle)
        fail_required(validator, "csi.volumeHandle", "");
}

void validate_persistent_volume_spec(struct validator *validator, const void *data, const void *old) {
    const struct kube_persistent_volume_spec *spec = data, *before = old;
    if (validator->object->kind != &kube_kind_persistent_volume)
        return; /* an attachment's, which is a translation */
    check_modes(validator, &spec->access_modes, "");
    if (spec->capacity.count == 0)
        fail_required(validator, "capacity", "");
    else
        check_size(validator, "capacity", &spec->capacity);
    check_volume_source(validator, spec);
    for (size_t i = 0; before && i < kube_persistent_volume_spec_type.fields_count; i++) {
        const struct kube_field *field = &kube_persistent_volume_spec_type.fields[i];
        if (is_volume_source(field) && !kube_field_equal(field, kube_at(field, spec), kube_at(field, before))) {
            fail_forbidden(validator, "persistentvolumesource", "spec.persistentvolumesource is immutable after creation");
            break;
        }
    }
    if (before && before->node_affinity &&
        (!spec->node_affinity || !kube_equal(&kube_volume_node_affinity_type, spec->node_affinity, before->node_affinity)))
        fail_value(validator, "nodeAffinity", "{…}", "field is immutable, except for updating from beta label to GA");
}

void validate_volume_node_affinity(struct validator *validator, const void *data, const void *old) {
    (void)old;
    if (!((const struct kube_volume_node_affinity *)data)->required)
        fail_required(validator, "required", "must specify required node constraints");
}

/* ---- claims ---- */

static const char immutable_claim[] = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

/* What may change of a claim: the volume that it is bound to, once; its class, once, when it had none; and of a bound one its size and class of
 * attributes. */
static void check_claim_change(struct validator *validator, const struct kube_persistent_volume_claim *claim,
                               const struct kube_persistent_volume_claim *before) {
    const struct kube_persistent_volume_claim_spec *spec = &claim->spec;
    struct kube_persistent_volume_claim_spec allowed = before->spec; /* shallow: compared only */
    bool bound = kube_text_is(before->status.phase, "Bound");
    if (!before->spec.volume_name)
        allowed.volume_name = spec->volume_name;
    if (!before->spec.storage_class_name && !kube_map_find(&before->metadata.annotations, "volume.beta.kubernetes.io/storage-class"))
        allowed.storage_class_name = spec->storage_class_name;
    if (bound) {
        allowed.resources.requests = spec->resources.requests;
        allowed.volume_attributes_class_name = spec->volume_attributes_class_name;
    }
    if (!kube_equal(&kube_persistent_volume_claim_spec_type, &allowed, spec)) {
        fail_forbidden(validator, "spec", "%s", immutable_claim);
        return;
    }
    int64_t wanted = kube_quantity_milli(&spec->resources.requests, "storage", 0),
            had = kube_quantity_milli(&before->spec.resources.requests, "storage", 0);
    if (wanted < had && wanted < kube_quantity_milli(&before->status.capacity, "storage", had))
        fail_forbidden(validator, "spec.resources.requests.storage", "field can not be less than status.capacity");
}

void validate_persistent_volume_claim(struct validator *validator, const void *data, const void *old) {
    if (old && validator->path.len == 0)
        check_claim_change(validator, data, old);
}

void validate_persistent_volume_claim_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_persistent_volume_claim_spec *spec = data;
    if (validator->object->kind == &kube_kind_stateful_set)
        return; /* its templates are judged when claims are made of them */
    check_modes(validator, &spec->access_modes, "at least 1 access mode is required");
    check_size(validator, "resources", &spec->resources.requests);
}

/* ---- classes ---- */

void validate_storage_class(struct validator *validator, const void *data, const void *old) {
    (void)old;
    static const char *const policies[] = {"Delete", "Retain", NULL};
    const struct kube_storage_class *class = data;
    if (kube_text_is(class->reclaim_policy, "Recycle"))
        fail_supported(validator, "reclaimPolicy", class->reclaim_policy, policies);
    validate_format(validator, "provisioner", class->provisioner, "qualified-name");
    for (size_t i = 0; i < class->parameters.count; i++)
        if (!class->parameters.items[i].key[0])
            fail_text(validator, "parameters", "", "field must not be empty.");
}
