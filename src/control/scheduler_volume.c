/* A pod's claims (upstream: the plugins VolumeBinding and VolumeRestrictions). Bound ones tie the pod to the nodes of their volumes. Those that wait
 * for their first consumer are settled here once a node is chosen: a free volume that fits is reserved, or the claim is told the node, and the volume
 * is made there. The pod is bound in a later run, when its claims are. */
#include "control/scheduler_priv.h"

static const struct objects *all_volumes(struct snapshot *snapshot) {
    if (!snapshot->has_volumes)
        context_list(snapshot->context, &kube_kind_persistent_volume, NULL, &snapshot->volumes);
    snapshot->has_volumes = true;
    return &snapshot->volumes;
}

static const char *claim_name(struct snapshot *snapshot, const struct wish *wish, const struct kube_volume *volume) {
    if (volume->persistent_volume_claim)
        return volume->persistent_volume_claim->claim_name;
    return volume->ephemeral ? arena_printf(snapshot->context->arena, "%s-%s", wish->object->metadata->name, volume->name) : NULL;
}

static void prepare_claim(struct snapshot *snapshot, struct wish *wish, const struct kube_volume *volume, const char *name) {
    struct context *context = snapshot->context;
    struct arena *arena = context->arena;
    const char *namespace = wish->object->metadata->namespace;
    const struct kube_object *claim = context_get(context, &kube_kind_persistent_volume_claim, namespace, name);
    struct claim_wish *entry = &wish->claims[wish->claims_count];
    if (!claim && volume->ephemeral) {
        wish->refusal = arena_printf(arena, "waiting for ephemeral volume controller to create the persistentvolumeclaim \"%s\"", name);
    } else if (!claim) {
        wish->refusal = arena_printf(arena, "persistentvolumeclaim \"%s\" not found", name);
    } else if (volume->ephemeral && !kube_is_controlled_by(claim->metadata, wish->object->metadata->uid)) {
        wish->refusal = arena_printf(arena, "PVC %s/%s was not created for pod %s/%s (pod is not owner)", namespace, name, namespace,
                                     wish->object->metadata->name);
    } else if (is_deleting(claim)) {
        wish->refusal = arena_printf(arena, "persistentvolumeclaim \"%s\" is being deleted", name);
    } else if (text_is(claim->persistent_volume_claim->status.phase, "Lost")) {
        wish->refusal = arena_printf(arena, "persistentvolumeclaim \"%s\" bound to non-existent persistentvolume \"%s\"", name,
                                     claim->persistent_volume_claim->spec.volume_name ? claim->persistent_volume_claim->spec.volume_name : "");
    } else if (claim_is_bound(claim)) {
        entry->volume = context_get(context, &kube_kind_persistent_volume, NULL, claim->persistent_volume_claim->spec.volume_name);
        if (!entry->volume)
            wish->refusal = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
    } else if (!class_waits(context, claim_class(claim)) || claim->persistent_volume_claim->spec.volume_name) {
        wish->refusal = "pod has unbound immediate PersistentVolumeClaims";
    }
    entry->claim = claim;
    wish->claims_count++;
    wish->claims_once |= claim && kube_strings_has(&claim->persistent_volume_claim->spec.access_modes, "ReadWriteOncePod");
}

void claims_prepare(struct snapshot *snapshot, struct wish *wish) {
    wish->claims = ARENA_ARRAY(snapshot->context->arena, struct claim_wish, wish->spec->volumes.count);
    if (!wish->claims) {
        context_fail(snapshot->context);
        return;
    }
    for (size_t i = 0; i < wish->spec->volumes.count && !wish->refusal; i++) {
        const char *name = claim_name(snapshot, wish, &wish->spec->volumes.items[i]);
        if (name)
            prepare_claim(snapshot, wish, &wish->spec->volumes.items[i], name);
    }
}

/* ---- on a node ---- */

static bool names_claim(const struct kube_object *pod, const struct kube_object *claim) {
    if (!same_text(pod->metadata->namespace, claim->metadata->namespace))
        return false;
    for (size_t i = 0; i < pod->pod->spec.volumes.count; i++)
        if (pod->pod->spec.volumes.items[i].persistent_volume_claim &&
            text_is(pod->pod->spec.volumes.items[i].persistent_volume_claim->claim_name, claim->metadata->name))
            return true;
    return false;
}

/* Another pod, anywhere, has a claim that is for one pod alone. */
static bool is_had_by_another(const struct snapshot *snapshot, const struct wish *wish, const struct kube_object *claim) {
    if (!kube_strings_has(&claim->persistent_volume_claim->spec.access_modes, "ReadWriteOncePod"))
        return false;
    for (size_t i = 0; i < snapshot->hosts_count; i++)
        for (size_t k = 0; k < snapshot->hosts[i].pods.count; k++)
            if (snapshot->hosts[i].pods.items[k]->object != wish->object && names_claim(snapshot->hosts[i].pods.items[k]->object, claim))
                return true;
    return false;
}

static const char *selected_node(const struct snapshot *snapshot, const struct kube_object *claim) {
    const char *name = kube_map_find(&claim->metadata->annotations, SELECTED_NODE_ANNOTATION);
    return name && host_find(snapshot, name) ? name : NULL; /* of a node that is gone nothing is to be expected */
}

static bool can_be_made(struct snapshot *snapshot, const struct kube_object *claim, const struct host *host) {
    const struct kube_object *class = context_get(snapshot->context, &kube_kind_storage_class, NULL, claim_class(claim));
    const char *selected = selected_node(snapshot, claim);
    return class && !text_is(class->storage_class->provisioner, NO_PROVISIONER) && (!selected || text_is(host->object->metadata->name, selected));
}

enum fit claims_check(struct snapshot *snapshot, const struct wish *wish, const struct host *host, struct verdict *verdict) {
    for (size_t i = 0; wish->claims_once && i < wish->claims_count; i++)
        if (is_had_by_another(snapshot, wish, wish->claims[i].claim)) {
            verdict_add(verdict, "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode");
            return FITS_NOT;
        }
    for (size_t i = 0; i < wish->claims_count; i++) {
        const struct claim_wish *entry = &wish->claims[i];
        if (entry->volume && !volume_fits_node(entry->volume, host->object)) {
            verdict_add(verdict, "node(s) had volume node affinity conflict");
            return FITS_NEVER;
        }
        if (!entry->volume && !volume_match(all_volumes(snapshot), entry->claim, host->object, true, &snapshot->taken) &&
            !can_be_made(snapshot, entry->claim, host)) {
            verdict_add(verdict, "node(s) didn't find available persistent volumes to bind");
            return FITS_NEVER;
        }
    }
    return FITS;
}

static void reserve(struct snapshot *snapshot, const struct kube_object *claim, const struct kube_object *volume) {
    struct context *context = snapshot->context;
    if (VECTOR_PUSH(&snapshot->taken.list, volume) < 0)
        context_fail(context);
    if (volume_is_for(volume, claim))
        return; /* it is reserved: the claim is about to be bound */
    struct kube_object *copy = context_copy(context, volume);
    if (copy && volume_reserve(copy, claim) < 0)
        context_fail(context);
    context_update(context, copy);
}

static void select_node(struct snapshot *snapshot, const struct kube_object *claim, const struct host *host) {
    struct context *context = snapshot->context;
    const char *node = host->object->metadata->name;
    if (same_text(selected_node(snapshot, claim), node))
        return; /* it is being made */
    struct kube_object *copy = context_copy(context, claim);
    if (copy && kube_map_set(&copy->metadata->annotations, copy->arena, SELECTED_NODE_ANNOTATION, node) < 0)
        context_fail(context);
    context_update(context, copy);
}

bool claims_bind(struct snapshot *snapshot, const struct wish *wish, const struct host *host) {
    bool all_bound = true;
    for (size_t i = 0; i < wish->claims_count; i++) {
        const struct claim_wish *entry = &wish->claims[i];
        if (entry->volume)
            continue;
        all_bound = false;
        const struct kube_object *volume = volume_match(all_volumes(snapshot), entry->claim, host->object, true, &snapshot->taken);
        if (volume)
            reserve(snapshot, entry->claim, volume);
        else
            select_node(snapshot, entry->claim, host);
    }
    return all_bound;
}
