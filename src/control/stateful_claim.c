/* The claims of a StatefulSet's pods: <template>-<set>-<ordinal>, made before the pod, kept when it goes.
 *
 * Whether they go in the end is said by owner references, so that garbage collection does it: of the set, for whenDeleted: Delete; of the pod, once
 * the pod is beyond the range, for whenScaled: Delete. The default, Retain and Retain, puts none: nobody's data goes because of a number. A claim
 * that somebody else controls is left alone. */
#include "control/stateful_set_priv.h"

static const char *claim_name(const struct ensemble *ensemble, const struct kube_persistent_volume_claim *template, int32_t ordinal) {
    const char *name = arena_printf(ensemble->context->arena, "%s-%s-%" PRId32, template->metadata.name, ensemble->object->metadata->name, ordinal);
    if (!name)
        context_fail(ensemble->context);
    return name;
}

static const struct kube_object *find_claim(const struct ensemble *ensemble, size_t template, int32_t ordinal) {
    const char *name = claim_name(ensemble, &ensemble->set->spec.volume_claim_templates.items[template], ordinal);
    return context_get(ensemble->context, &kube_kind_persistent_volume_claim, ensemble->object->metadata->namespace, name);
}

/* ---- the pod's volumes ---- */

static bool is_template_name(const struct ensemble *ensemble, const char *volume) {
    const struct kube_persistent_volume_claim_array *templates = &ensemble->set->spec.volume_claim_templates;
    for (size_t i = 0; i < templates->count; i++)
        if (same_text(templates->items[i].metadata.name, volume))
            return true;
    return false;
}

int claim_set_volumes(const struct ensemble *ensemble, struct kube_object *pod, int32_t ordinal) {
    const struct kube_persistent_volume_claim_array *templates = &ensemble->set->spec.volume_claim_templates;
    struct kube_volume_array *volumes = &pod->pod->spec.volumes;
    struct kube_volume *items = ARENA_ARRAY(pod->arena, struct kube_volume, templates->count + volumes->count);
    size_t count = 0;
    if (!items)
        return -ENOMEM;
    for (size_t i = 0; i < templates->count; i++) {
        struct kube_persistent_volume_claim_volume_source *source = ARENA_NEW(pod->arena, struct kube_persistent_volume_claim_volume_source);
        const char *name = claim_name(ensemble, &templates->items[i], ordinal);
        if (!source || !name)
            return -ENOMEM;
        source->claim_name = arena_strdup(pod->arena, name);
        items[count++] = (struct kube_volume){.name = arena_strdup(pod->arena, templates->items[i].metadata.name), .persistent_volume_claim = source};
    }
    for (size_t i = 0; i < volumes->count; i++)
        if (!is_template_name(ensemble, volumes->items[i].name))
            items[count++] = volumes->items[i];
    *volumes = (struct kube_volume_array){.items = items, .count = count};
    return 0;
}

bool claim_volumes_match(const struct ensemble *ensemble, const struct kube_pod *pod, int32_t ordinal) {
    const struct kube_persistent_volume_claim_array *templates = &ensemble->set->spec.volume_claim_templates;
    for (size_t i = 0; i < templates->count; i++) {
        const char *name = claim_name(ensemble, &templates->items[i], ordinal);
        bool found = false;
        for (size_t j = 0; j < pod->spec.volumes.count && !found; j++) {
            const struct kube_volume *volume = &pod->spec.volumes.items[j];
            found = same_text(volume->name, templates->items[i].metadata.name) && volume->persistent_volume_claim &&
                    same_text(volume->persistent_volume_claim->claim_name, name);
        }
        if (!found)
            return false;
    }
    return true;
}

/* ---- who owns them ---- */

static const struct kube_owner_reference *reference_to(const struct kube_object *claim, const char *uid) {
    for (size_t i = 0; i < claim->metadata->owner_references.count; i++)
        if (same_text(claim->metadata->owner_references.items[i].uid, uid))
            return &claim->metadata->owner_references.items[i];
    return NULL;
}

/* A pod of this set, whichever of those that have borne its name. */
static bool is_member_reference(const struct ensemble *ensemble, const struct kube_owner_reference *reference, int32_t ordinal) {
    return text_is(reference->kind, "Pod") && text_is(reference->api_version, "v1") && same_text(reference->name, member_name(ensemble, ordinal));
}

static bool is_policy_delete(const char *policy) {
    return text_is(policy, "Delete");
}

/* As we put it; one that controls nothing is put anew. */
static bool is_ours(const struct kube_owner_reference *reference, const char *uid) {
    return same_text(reference->uid, uid) && reference->controller && *reference->controller;
}

struct ownership {
    bool set, pod; /* who should own */
};

static struct ownership wanted_ownership(const struct ensemble *ensemble, int32_t ordinal) {
    const struct kube_stateful_set_persistent_volume_claim_retention_policy *policy = ensemble->set->spec.persistent_volume_claim_retention_policy;
    bool condemned = ordinal < ensemble->start || ordinal - ensemble->start >= ensemble->count;
    bool deleted = policy && is_policy_delete(policy->when_deleted), scaled = policy && is_policy_delete(policy->when_scaled);
    return (struct ownership){.set = deleted && !(scaled && condemned), .pod = scaled && condemned};
}

static bool has_foreign_controller(const struct ensemble *ensemble, const struct kube_object *claim, int32_t ordinal) {
    const struct kube_owner_reference *controller = kube_controller_of(claim->metadata);
    return controller && !same_text(controller->uid, ensemble->object->metadata->uid) && !is_member_reference(ensemble, controller, ordinal);
}

/* Drops the set's reference and those to pods of this name, but for `keep_uid`. */
static void drop_references(const struct ensemble *ensemble, struct kube_object *claim, int32_t ordinal, const char *keep_uid) {
    struct kube_owner_reference_array *list = &claim->metadata->owner_references;
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct kube_owner_reference *reference = &list->items[i];
        bool ours = same_text(reference->uid, ensemble->object->metadata->uid) || is_member_reference(ensemble, reference, ordinal);
        if (!ours || is_ours(reference, keep_uid))
            list->items[kept++] = *reference;
    }
    list->count = kept;
}

static void retain_one(const struct ensemble *ensemble, const struct kube_object *claim, int32_t ordinal, const struct kube_object *pod) {
    struct context *context = ensemble->context;
    struct ownership wanted = wanted_ownership(ensemble, ordinal);
    if (has_foreign_controller(ensemble, claim, ordinal)) {
        if (wanted.set || wanted.pod)
            context_event(context, ensemble->object, "Warning", "ConflictingController",
                          "PersistentVolumeClaim %s has a conflicting OwnerReference that acts as a managing controller, the retention policy is "
                          "ignored for this claim",
                          claim->metadata->name);
        return;
    }
    const struct kube_object *owner = wanted.set ? ensemble->object : wanted.pod ? pod : NULL;
    const char *uid = owner ? owner->metadata->uid : NULL;
    bool stray = false;
    for (size_t i = 0; i < claim->metadata->owner_references.count; i++) {
        const struct kube_owner_reference *reference = &claim->metadata->owner_references.items[i];
        bool ours = same_text(reference->uid, ensemble->object->metadata->uid) || is_member_reference(ensemble, reference, ordinal);
        stray |= ours && !is_ours(reference, uid);
    }
    if (!stray && (!owner || reference_to(claim, uid)))
        return;
    struct kube_object *copy = context_copy(context, claim);
    if (!copy)
        return;
    drop_references(ensemble, copy, ordinal, uid);
    if (owner && !reference_to(copy, uid) && add_controller_reference(copy->metadata, copy->arena, owner) < 0)
        context_fail(context);
    context_update(context, copy);
}

void claim_apply_retention(const struct ensemble *ensemble, int32_t ordinal, const struct kube_object *pod) {
    for (size_t i = 0; i < ensemble->set->spec.volume_claim_templates.count; i++) {
        const struct kube_object *claim = find_claim(ensemble, i, ordinal);
        if (claim && !is_deleting(claim))
            retain_one(ensemble, claim, ordinal, pod);
    }
}

bool claim_is_stale(const struct ensemble *ensemble, int32_t ordinal) {
    for (size_t i = 0; i < ensemble->set->spec.volume_claim_templates.count; i++) {
        const struct kube_object *claim = find_claim(ensemble, i, ordinal);
        if (claim && is_deleting(claim))
            return true;
        for (size_t j = 0; claim && j < claim->metadata->owner_references.count; j++)
            if (is_member_reference(ensemble, &claim->metadata->owner_references.items[j], ordinal))
                return true;
    }
    return false;
}

/* ---- making them ---- */

static int fill_claim(const struct ensemble *ensemble, const struct kube_persistent_volume_claim *template, int32_t ordinal,
                      struct kube_object *claim) {
    const char *name = claim_name(ensemble, template, ordinal);
    if (!name || kube_copy(&kube_persistent_volume_claim_type, claim->arena, template, claim->data) < 0)
        return -ENOMEM;
    claim->persistent_volume_claim->status = (struct kube_persistent_volume_claim_status){.phase = NULL};
    claim->metadata->name = arena_strdup(claim->arena, name);
    claim->metadata->namespace = arena_strdup(claim->arena, ensemble->object->metadata->namespace);
    claim->metadata->creation_timestamp = (struct kube_time){.set = false};
    claim->metadata->generate_name = claim->metadata->uid = claim->metadata->resource_version = NULL;
    const struct kube_string_map *labels = &ensemble->set->spec.selector->match_labels;
    for (size_t i = 0; i < labels->count; i++)
        if (kube_map_set(&claim->metadata->labels, claim->arena, labels->items[i].key, labels->items[i].value) < 0)
            return -ENOMEM;
    if (wanted_ownership(ensemble, ordinal).set && add_controller_reference(claim->metadata, claim->arena, ensemble->object) < 0)
        return -ENOMEM;
    return claim->metadata->name && claim->metadata->namespace ? 0 : -ENOMEM;
}

void claim_create_missing(const struct ensemble *ensemble, int32_t ordinal) {
    struct context *context = ensemble->context;
    const struct kube_persistent_volume_claim_array *templates = &ensemble->set->spec.volume_claim_templates;
    for (size_t i = 0; i < templates->count; i++) {
        if (find_claim(ensemble, i, ordinal))
            continue;
        struct kube_object *claim = kube_object_new(&kube_kind_persistent_volume_claim);
        if (!claim || fill_claim(ensemble, &templates->items[i], ordinal, claim) < 0) {
            kube_object_unref(claim);
            context_fail(context);
            return;
        }
        context_create(context, claim);
        context_event(context, ensemble->object, "Normal", "SuccessfulCreate", "create Claim %s Pod %s in StatefulSet %s success",
                      claim_name(ensemble, &templates->items[i], ordinal), member_name(ensemble, ordinal), ensemble->object->metadata->name);
    }
}
