/* What is in use does not go: the finalizers that admission puts on claims and volumes come off when the object is being deleted and no pod (of a
 * claim) or claim (of a volume) uses it any more (upstream: pkg/controller/volume/pvcprotection, pvprotection). */
#include "control/control_priv.h"

#define CLAIM_FINALIZER "kubernetes.io/pvc-protection"
#define VOLUME_FINALIZER "kubernetes.io/pv-protection"

int claim_protection_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_persistent_volume_claim)
        return object && is_deleting(object) ? control_enqueue_object(control, CONTROLLER_CLAIM_PROTECTION, object) : 0;
    bool ended = some->kind == &kube_kind_pod && (!object || (pod_is_finished(object->pod) && !(old && pod_is_finished(old->pod))));
    for (size_t i = 0; ended && i < some->pod->spec.volumes.count; i++) {
        const struct kube_volume *volume = &some->pod->spec.volumes.items[i];
        const char *generated = volume->ephemeral ? "" : NULL;
        const char *name = volume->persistent_volume_claim ? volume->persistent_volume_claim->claim_name : generated;
        int r = name ? control_enqueue(control, CONTROLLER_CLAIM_PROTECTION, &kube_kind_persistent_volume_claim, some->metadata->namespace, name) : 0;
        if (r)
            return r;
    }
    return 0;
}

/* The claim of an ephemeral volume bears the pod's and the volume's name. */
static bool names_claim(const struct kube_object *pod, const struct kube_volume *volume, const char *claim) {
    size_t len = strlen(pod->metadata->name);
    if (volume->persistent_volume_claim)
        return text_is(volume->persistent_volume_claim->claim_name, claim);
    return volume->ephemeral && !strncmp(claim, pod->metadata->name, len) && claim[len] == '-' && text_is(volume->name, claim + len + 1);
}

static bool uses(const struct kube_object *pod, const char *claim) {
    if (pod_is_finished(pod->pod) || (is_deleting(pod) && !pod->pod->spec.node_name))
        return false;
    for (size_t i = 0; i < pod->pod->spec.volumes.count; i++)
        if (names_claim(pod, &pod->pod->spec.volumes.items[i], claim))
            return true;
    return false;
}

static void release(struct context *context, const struct kube_object *object, const char *finalizer) {
    struct kube_object *copy = context_copy(context, object);
    if (copy && kube_strings_drop(&copy->metadata->finalizers, finalizer))
        context_update(context, copy);
    else
        kube_object_unref(copy);
}

static void release_claim(struct context *context, const struct kube_object *claim) {
    struct objects pods = {.list = {.items = NULL}};
    bool used = false;
    if (!is_deleting(claim) || !kube_strings_has(&claim->metadata->finalizers, CLAIM_FINALIZER))
        return;
    context_list(context, &kube_kind_pod, claim->metadata->namespace, &pods);
    for (size_t i = 0; i < pods.list.count && !used; i++)
        used = uses(pods.list.items[i], claim->metadata->name);
    objects_deinit(&pods);
    if (!used && !context->error)
        release(context, claim, CLAIM_FINALIZER);
}

/* A key without a name: all claims of the namespace. */
void claim_protection_reconcile(struct context *context) {
    struct objects claims = {.list = {.items = NULL}};
    if (*context->name) {
        const struct kube_object *claim = context_get(context, &kube_kind_persistent_volume_claim, context->namespace, context->name);
        if (claim)
            release_claim(context, claim);
        return;
    }
    context_list(context, &kube_kind_persistent_volume_claim, context->namespace, &claims);
    for (size_t i = 0; i < claims.list.count; i++)
        release_claim(context, claims.list.items[i]);
    objects_deinit(&claims);
}

int volume_protection_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    (void)old;
    bool ending = object && object->kind == &kube_kind_persistent_volume && is_deleting(object);
    return ending ? control_enqueue_object(control, CONTROLLER_VOLUME_PROTECTION, object) : 0;
}

void volume_protection_reconcile(struct context *context) {
    const struct kube_object *volume = context_get(context, &kube_kind_persistent_volume, NULL, context->name);
    if (!volume || !is_deleting(volume) || !kube_strings_has(&volume->metadata->finalizers, VOLUME_FINALIZER))
        return;
    if (!text_is(volume->persistent_volume->status.phase, "Bound"))
        release(context, volume, VOLUME_FINALIZER);
}
