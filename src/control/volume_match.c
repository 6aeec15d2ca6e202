/* Which volume suits which claim (upstream: pkg/volume/util FindMatchingVolume and pkg/controller/volume/persistentvolume). */
#include "control/volume_priv.h"

const char *claim_class(const struct kube_object *claim) {
    const char *beta = kube_map_find(&claim->metadata->annotations, "volume.beta.kubernetes.io/storage-class");
    const char *name = beta ? beta : claim->persistent_volume_claim->spec.storage_class_name;
    return name ? name : "";
}

const char *volume_class(const struct kube_object *volume) {
    const char *beta = kube_map_find(&volume->metadata->annotations, "volume.beta.kubernetes.io/storage-class");
    const char *name = beta ? beta : volume->persistent_volume->spec.storage_class_name;
    return name ? name : "";
}

bool class_waits(struct context *context, const char *name) {
    const struct kube_object *class = *name ? context_get(context, &kube_kind_storage_class, NULL, name) : NULL;
    return class && text_is(class->storage_class->volume_binding_mode, "WaitForFirstConsumer");
}

bool claim_is_bound(const struct kube_object *claim) {
    return kube_map_find(&claim->metadata->annotations, BOUND_ANNOTATION) != NULL;
}

bool volume_is_for(const struct kube_object *volume, const struct kube_object *claim) {
    const struct kube_object_reference *reference = volume->persistent_volume->spec.claim_ref;
    return reference && same_text(reference->name, claim->metadata->name) && same_text(reference->namespace, claim->metadata->namespace) &&
           (!reference->uid || same_text(reference->uid, claim->metadata->uid));
}

static const char *mode_of(const char *mode) {
    return mode ? mode : "Filesystem";
}

static bool has_modes(const struct kube_object *volume, const struct kube_object *claim) {
    const struct kube_string_list *wanted = &claim->persistent_volume_claim->spec.access_modes;
    for (size_t i = 0; i < wanted->count; i++)
        if (!kube_strings_has(&volume->persistent_volume->spec.access_modes, wanted->items[i]))
            return false;
    return true;
}

static int64_t capacity(const struct kube_object *volume) {
    return kube_quantity_milli(&volume->persistent_volume->spec.capacity, "storage", 0);
}

const char *volume_mismatch(const struct kube_object *volume, const struct kube_object *claim) {
    const struct kube_persistent_volume_claim_spec *spec = &claim->persistent_volume_claim->spec;
    if (capacity(volume) < kube_quantity_milli(&spec->resources.requests, "storage", 0))
        return "requested PV is too small";
    if (strcmp(volume_class(volume), claim_class(claim)) != 0)
        return "storageClassName does not match";
    if (strcmp(mode_of(volume->persistent_volume->spec.volume_mode), mode_of(spec->volume_mode)) != 0)
        return "incompatible volumeMode";
    if (!has_modes(volume, claim))
        return "incompatible accessMode";
    return "";
}

bool volume_fits_node(const struct kube_object *volume, const struct kube_object *node) {
    const struct kube_volume_node_affinity *affinity = volume->persistent_volume->spec.node_affinity;
    return !affinity || !affinity->required || node_selector_matches(affinity->required, node);
}

static bool is_taken(const struct kube_object *volume, const struct objects *taken) {
    for (size_t i = 0; taken && i < taken->list.count; i++)
        if (taken->list.items[i] == volume)
            return true;
    return false;
}

static bool is_free(const struct kube_object *volume) {
    return !volume->persistent_volume->spec.claim_ref && text_is(volume->persistent_volume->status.phase, "Available");
}

const struct kube_object *volume_match(const struct objects *volumes, const struct kube_object *claim, const struct kube_object *node, bool waits,
                                       const struct objects *taken) {
    const struct kube_label_selector *selector = claim->persistent_volume_claim->spec.selector;
    const struct kube_object *best = NULL;
    for (size_t i = 0; i < volumes->list.count; i++) {
        const struct kube_object *volume = volumes->list.items[i];
        if (is_deleting(volume) || *volume_mismatch(volume, claim) || (node && !volume_fits_node(volume, node)))
            continue;
        if (volume_is_for(volume, claim))
            return volume;
        if (!is_free(volume) || (waits && !node) || (selector && !kube_selector_matches(selector, &volume->metadata->labels)) ||
            is_taken(volume, taken))
            continue;
        if (!best || capacity(volume) < capacity(best))
            best = volume;
    }
    return best;
}

int volume_reserve(struct kube_object *volume, const struct kube_object *claim) {
    struct arena *arena = volume->arena;
    struct kube_object_reference *reference = ARENA_NEW(arena, struct kube_object_reference);
    if (!reference || (!volume->persistent_volume->spec.claim_ref &&
                       kube_map_set(&volume->metadata->annotations, arena, BOUND_BY_CONTROLLER_ANNOTATION, "yes") < 0))
        return -ENOMEM;
    *reference = (struct kube_object_reference){
        .kind = "PersistentVolumeClaim",
        .api_version = "v1",
        .namespace = arena_strdup(arena, claim->metadata->namespace),
        .name = arena_strdup(arena, claim->metadata->name),
        .uid = arena_strdup(arena, claim->metadata->uid),
        .resource_version = claim->metadata->resource_version ? arena_strdup(arena, claim->metadata->resource_version) : NULL,
    };
    volume->persistent_volume->spec.claim_ref = reference;
    return reference->namespace && reference->name && reference->uid ? 0 : -ENOMEM;
}
