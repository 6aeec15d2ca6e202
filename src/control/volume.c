/* PersistentVolumes: their phase, and what becomes of them when their claim is gone (upstream: pkg/controller/volume/persistentvolume, the half that
 * looks at volumes). `claim.c` binds.
 *
 *   Pending ─► Available ─► Bound ─► Released ─┬─ Retain: stays, with its data and its claimRef, for a person to decide
 *                  ▲          │                ├─ Delete: the object is deleted. Its finalizer keeps it until the node has removed the folder
 *                  └──────────┘ (was chosen    └─ anything we cannot do: Failed, with the reason
 *                                in vain)
 *
 * Nothing is lost through a crash: each arrow is one write that the next run finds done or does again. A volume becomes Released only when its claim
 * is seen to be gone (another uid counts as gone), and a claim goes only when no pod uses it (kubernetes.io/pvc-protection). */
#include "control/volume_priv.h"

static int look_at_volume(struct control *control, const struct kube_object *claim) {
    const char *name = claim ? claim->persistent_volume_claim->spec.volume_name : NULL;
    return name ? control_enqueue(control, CONTROLLER_VOLUME, &kube_kind_persistent_volume, NULL, name) : 0;
}

static bool is_reserved(const void *userdata, const struct kube_object *volume) {
    const struct kube_object *claim = userdata;
    const struct kube_object_reference *reference = volume->persistent_volume->spec.claim_ref;
    return reference && same_text(reference->uid, claim->metadata->uid);
}

/* The claim is gone: also volumes that were meant for it and that it had not named yet. */
static int look_at_reserved(struct control *control, const struct kube_object *claim) {
    return control_enqueue_all(control, CONTROLLER_VOLUME, &kube_kind_persistent_volume, NULL, is_reserved, claim);
}

int volume_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *either = object ? object : old;
    if (either->kind == &kube_kind_persistent_volume)
        return control_enqueue_object(control, CONTROLLER_VOLUME, either);
    if (either->kind != &kube_kind_persistent_volume_claim)
        return 0;
    int r = object ? look_at_volume(control, object) : look_at_reserved(control, old);
    return r < 0 ? r : look_at_volume(control, old);
}

struct run {
    struct context *context;
    const struct kube_object *volume;
    const struct kube_persistent_volume *spec;
};

static void set_phase(struct run *run, const char *phase, const char *message) {
    const struct kube_persistent_volume_status *present = &run->spec->status;
    if (text_is(present->phase, phase) && same_text(present->message, message))
        return;
    struct kube_object *copy = context_copy(run->context, run->volume);
    if (copy) {
        struct kube_persistent_volume_status *status = &copy->persistent_volume->status;
        if (!text_is(present->phase, phase))
            status->last_phase_transition_time = context_now(run->context);
        status->phase = phase;
        status->message = message ? arena_strdup(copy->arena, message) : NULL;
        status->reason = NULL;
    }
    context_update_status(run->context, copy);
}

static void fail(struct run *run, const char *reason, const char *message) {
    if (text_is(run->spec->status.phase, "Failed") && same_text(run->spec->status.message, message))
        return;
    context_event(run->context, run->volume, "Warning", reason, "%s", message);
    set_phase(run, "Failed", message);
}

static void reclaim(struct run *run) {
    const char *policy = run->spec->spec.persistent_volume_reclaim_policy;
    const char *by = kube_map_find(&run->volume->metadata->annotations, PROVISIONED_BY_ANNOTATION);
    if (text_is(policy, "Recycle")) {
        fail(run, "VolumeFailedRecycle", "No recycler plugin found for the volume!");
    } else if (text_is(policy, "Delete") && !by) {
        const char *message =
            arena_printf(run->context->arena, "Error getting deleter volume plugin for volume \"%s\": no deletable volume plugin matched",
                         run->volume->metadata->name);
        if (message)
            fail(run, "VolumeFailedDelete", message);
        else
            context_fail(run->context);
    } else {
        set_phase(run, "Released", NULL);
        if (text_is(policy, "Delete") && text_is(by, TIDEMILL_PROVISIONER) && !is_deleting(run->volume))
            context_delete(run->context, run->volume, NULL, -1);
    }
}

/* The claim went to another volume: what was chosen for it is free again, what a person reserved stays so. */
static void unbind(struct run *run) {
    if (text_is(kube_map_find(&run->volume->metadata->annotations, PROVISIONED_BY_ANNOTATION), TIDEMILL_PROVISIONER) &&
        text_is(run->spec->spec.persistent_volume_reclaim_policy, "Delete")) {
        reclaim(run);
        return;
    }
    struct kube_object *copy = context_copy(run->context, run->volume);
    if (copy && kube_map_find(&copy->metadata->annotations, BOUND_BY_CONTROLLER_ANNOTATION)) {
        kube_map_unset(&copy->metadata->annotations, BOUND_BY_CONTROLLER_ANNOTATION);
        copy->persistent_volume->spec.claim_ref = NULL;
    } else if (copy) {
        copy->persistent_volume->spec.claim_ref->uid = NULL;
        copy->persistent_volume->spec.claim_ref->resource_version = NULL;
    }
    context_update(run->context, copy);
}

void volume_reconcile(struct context *context) {
    const struct kube_object *volume = context_get(context, context->kind, NULL, context->name);
    if (!volume)
        return;
    struct run run = {.context = context, .volume = volume, .spec = volume->persistent_volume};
    const struct kube_object_reference *reference = run.spec->spec.claim_ref;
    if (!reference || !reference->uid) {
        set_phase(&run, "Available", NULL);
        return;
    }
    const struct kube_object *claim = context_get(context, &kube_kind_persistent_volume_claim, reference->namespace, reference->name);
    if (claim && !same_text(claim->metadata->uid, reference->uid))
        claim = NULL;
    const char *name = claim ? claim->persistent_volume_claim->spec.volume_name : NULL;
    if (!claim)
        reclaim(&run);
    else if (same_text(name, volume->metadata->name))
        set_phase(&run, "Bound", NULL);
    else if (name)
        unbind(&run);
    else if (text_is(run.spec->status.phase, "Pending"))
        set_phase(&run, "Available", NULL); /* until the claim, whose turn it is, names it */
}
