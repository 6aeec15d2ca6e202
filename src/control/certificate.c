/* Signing requests: one that is approved and of a signer of ours is signed; old ones go (upstream: pkg/controller/certificates/signer, cleaner).
 *
 *   pending    24 hours          approved and signed, denied, or failed    1 hour after that
 *
 * Whether the request is fit for its signer is looked at where it is signed, since that takes reading it: what is not gets the condition Failed. */
#include "control/control_priv.h"

#define PENDING_NS (24 * 3600 * NS_PER_S)
#define SETTLED_NS (3600 * NS_PER_S)

int certificate_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    (void)old;
    if (!object || object->kind != &kube_kind_certificate_signing_request)
        return 0;
    return control_enqueue_object(control, CONTROLLER_CERTIFICATE, object);
}

static const struct kube_certificate_signing_request_condition *find(const struct kube_certificate_signing_request *request, const char *type) {
    for (size_t i = 0; i < request->status.conditions.count; i++)
        if (text_is(request->status.conditions.items[i].type, type))
            return &request->status.conditions.items[i];
    return NULL;
}

/* When it is of no use any more. */
static int64_t ends_ns(const struct kube_certificate_signing_request *request) {
    const struct kube_certificate_signing_request_condition *settled = find(request, "Denied");
    settled = settled ? settled : find(request, "Failed");
    settled = settled || !request->status.certificate.len ? settled : find(request, "Approved");
    if (settled && settled->last_update_time.set)
        return settled->last_update_time.ns + SETTLED_NS;
    return request->metadata.creation_timestamp.ns + PENDING_NS;
}

static bool is_to_be_signed(const struct kube_certificate_signing_request *request) {
    static const char *const signers[] = {"kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet",
                                          "kubernetes.io/kubelet-serving"};
    bool ours = false;
    for (size_t i = 0; i < ARRAY_LEN(signers); i++)
        ours = ours || text_is(request->spec.signer_name, signers[i]);
    return ours && find(request, "Approved") && !find(request, "Denied") && !find(request, "Failed") && !request->status.certificate.len;
}

void certificate_reconcile(struct context *context) {
    const struct kube_object *object = context_get(context, &kube_kind_certificate_signing_request, NULL, context->name);
    if (!object || is_deleting(object))
        return;
    int64_t left_ns = ends_ns(object->certificate_signing_request) - context->wall_ns;
    if (left_ns <= 0) {
        context_delete(context, object, NULL, -1);
        return;
    }
    context_requeue(context, left_ns / NS_PER_MS + 1);
    struct kube_object *copy = is_to_be_signed(object->certificate_signing_request) ? context_copy(context, object) : NULL;
    if (copy)
        context_sign(context, copy);
}
