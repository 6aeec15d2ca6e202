/* Cells of volumes, claims and classes, in the words of upstream's printers. */
#include "kube/cell_priv.h"

/* "RWO,RWX" */
static struct tree *modes_cell(struct arena *arena, const struct kube_string_list *modes) {
    static const char *const short_names[][2] = {
        {"ReadWriteOnce", "RWO"}, {"ReadOnlyMany", "ROX"}, {"ReadWriteMany", "RWX"}, {"ReadWriteOncePod", "RWOP"}};
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; i < ARRAY_LEN(short_names); i++)
        for (size_t j = 0; j < modes->count; j++)
            if (strcmp(modes->items[j], short_names[i][0]) == 0) {
                cell_join(&text, short_names[i][1]);
                break;
            }
    return cell_take(arena, &text, "");
}

static struct tree *storage_cell(struct arena *arena, const struct kube_quantity_map *map) {
    const struct kube_quantity_pair *storage = kube_pair_find(map, sizeof *storage, "storage");
    return tree_text(arena, storage ? kube_text_or(storage->value.text, "0") : "0");
}

/* The class in the annotation that came before the field counts still. */
static const char *class_of(const struct kube_object *object, const char *name) {
    const char *annotated = kube_map_find(&object->metadata->annotations, "volume.beta.kubernetes.io/storage-class");
    return annotated ? annotated : name;
}

/* A text that was set to nothing is shown as nothing. */
static struct tree *unset_cell(struct arena *arena, const char *text) {
    return tree_text(arena, text ? text : "<unset>");
}

static struct tree *phase_cell(struct arena *arena, const struct kube_object *object, const char *phase) {
    return object->metadata->deletion_timestamp.set ? tree_text(arena, "Terminating") : cell_text(arena, phase, "");
}

CELL(volume_capacity) {
    return storage_cell(arena, &object->persistent_volume->spec.capacity);
}
CELL(volume_modes) {
    return modes_cell(arena, &object->persistent_volume->spec.access_modes);
}
CELL(volume_status) {
    return phase_cell(arena, object, object->persistent_volume->status.phase);
}
CELL(volume_claim) {
    const struct kube_object_reference *claim = object->persistent_volume->spec.claim_ref;
    return claim ? tree_printf(arena, "%s/%s", kube_text_or(claim->namespace, ""), kube_text_or(claim->name, "")) : tree_text(arena, "");
}
CELL(volume_class) {
    return cell_text(arena, class_of(object, object->persistent_volume->spec.storage_class_name), "");
}
CELL(volume_attributes) {
    return unset_cell(arena, object->persistent_volume->spec.volume_attributes_class_name);
}
CELL(volume_mode) {
    return unset_cell(arena, object->persistent_volume->spec.volume_mode);
}

CELL(claim_status) {
    return phase_cell(arena, object, object->persistent_volume_claim->status.phase);
}
CELL(claim_capacity) {
    const struct kube_persistent_volume_claim *claim = object->persistent_volume_claim;
    return claim->spec.volume_name ? storage_cell(arena, &claim->status.capacity) : tree_text(arena, "");
}
CELL(claim_modes) {
    const struct kube_persistent_volume_claim *claim = object->persistent_volume_claim;
    return claim->spec.volume_name ? modes_cell(arena, &claim->status.access_modes) : tree_text(arena, "");
}
CELL(claim_class) {
    return cell_text(arena, class_of(object, object->persistent_volume_claim->spec.storage_class_name), "");
}
CELL(claim_attributes) {
    return unset_cell(arena, object->persistent_volume_claim->spec.volume_attributes_class_name);
}
CELL(claim_mode) {
    return unset_cell(arena, object->persistent_volume_claim->spec.volume_mode);
}

/* ---- classes ---- */

CELL(class_name) {
    static const char *const annotations[] = {"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class",
                                              "volumeattributesclass.alpha.kubernetes.io/is-default-class"};
    bool is_default = false;
    size_t first = object->kind == &kube_kind_storage_class ? 0 : 2, last = object->kind == &kube_kind_storage_class ? 2 : 3;
    for (size_t i = first; i < last; i++)
        is_default |= kube_text_is(kube_map_find(&object->metadata->annotations, annotations[i]), "true");
    return tree_printf(arena, "%s%s", kube_text_or(object->metadata->name, ""), is_default ? " (default)" : "");
}
CELL(class_reclaim) {
    return cell_text(arena, object->storage_class->reclaim_policy, "Delete");
}
CELL(class_binding) {
    return cell_text(arena, object->storage_class->volume_binding_mode, "Immediate");
}
CELL(class_expansion) {
    const bool *expansion = object->storage_class->allow_volume_expansion;
    return tree_bool(arena, expansion && *expansion);
}

/* ---- drivers ---- */

CELL(driver_tokens) {
    const struct kube_csi_driver_spec *spec = &object->csi_driver->spec;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; i < spec->token_requests.count; i++)
        cell_join(&text, spec->token_requests.items[i].audience);
    return cell_take(arena, &text, "<unset>");
}
CELL(driver_modes) {
    const struct kube_csi_driver_spec *spec = &object->csi_driver->spec;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; i < spec->volume_lifecycle_modes.count; i++)
        cell_join(&text, spec->volume_lifecycle_modes.items[i]);
    return cell_take(arena, &text, "<none>");
}
CELL(csi_node_drivers) {
    return tree_int(arena, (int64_t)object->csi_node->spec.drivers.count);
}
