/* Ephemeral volumes: the claim that a pod's volume describes is made, bears the pod's and the volume's name, and goes with the pod that owns it
 * (upstream: pkg/controller/volume/ephemeral). Everything else is a claim like others. */
#include "control/control_priv.h"

static bool has_ephemeral(const struct kube_object *pod) {
    for (size_t i = 0; i < pod->pod->spec.volumes.count; i++)
        if (pod->pod->spec.volumes.items[i].ephemeral)
            return true;
    return false;
}

int ephemeral_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *either = object ? object : old;
    if (either->kind == &kube_kind_pod)
        return object && has_ephemeral(object) ? control_enqueue_object(control, CONTROLLER_EPHEMERAL, object) : 0;
    bool is_gone = either->kind == &kube_kind_persistent_volume_claim && !object;
    return is_gone ? control_enqueue_controller_of(control, CONTROLLER_EPHEMERAL, &kube_kind_pod, old) : 0;
}

static struct kube_object *claim_new(struct context *context, const struct kube_object *pod, const struct kube_volume *volume, const char *name) {
    const struct kube_persistent_volume_claim_template *template = volume->ephemeral->volume_claim_template;
    struct kube_object *claim = kube_object_new(&kube_kind_persistent_volume_claim);
    struct kube_object_meta from = {.labels = template->metadata.labels, .annotations = template->metadata.annotations}, copied = {.name = NULL};
    if (!claim || kube_copy(&kube_object_meta_type, claim->arena, &from, &copied) < 0 ||
        kube_copy(&kube_persistent_volume_claim_spec_type, claim->arena, &template->spec, &claim->persistent_volume_claim->spec) < 0)
        goto fail;
    claim->metadata->labels = copied.labels;
    claim->metadata->annotations = copied.annotations;
    claim->metadata->name = arena_strdup(claim->arena, name);
    claim->metadata->namespace = arena_strdup(claim->arena, pod->metadata->namespace);
    if (claim->metadata->name && claim->metadata->namespace && add_controller_reference(claim->metadata, claim->arena, pod) == 0)
        return claim;
fail:
    kube_object_unref(claim);
    context_fail(context);
    return NULL;
}

void ephemeral_reconcile(struct context *context) {
    const struct kube_object *pod = context_get(context, &kube_kind_pod, context->namespace, context->name);
    if (!pod || is_deleting(pod) || pod_is_finished(pod->pod))
        return;
    const char *failure = context_failure(context);
    if (failure)
        context_event(context, pod, "Warning", "FailedToCreate", "ephemeral volume: %s", failure);
    for (size_t i = 0; i < pod->pod->spec.volumes.count; i++) {
        const struct kube_volume *volume = &pod->pod->spec.volumes.items[i];
        const char *name = volume->ephemeral ? arena_printf(context->arena, "%s-%s", pod->metadata->name, volume->name) : NULL;
        if (name && volume->ephemeral->volume_claim_template && !context_get(context, &kube_kind_persistent_volume_claim, context->namespace, name))
            context_create(context, claim_new(context, pod, volume, name));
    }
}
