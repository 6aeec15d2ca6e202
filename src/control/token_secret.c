/* Secrets of type kubernetes.io/service-account-token, which people and charts make for a token that lasts: filled with the token, the authority's
 * certificate and the namespace; gone with their account (upstream: pkg/controller/serviceaccount/tokens_controller). */
#include "control/control_priv.h"

#define TYPE "kubernetes.io/service-account-token"
#define NAME "kubernetes.io/service-account.name"
#define UID "kubernetes.io/service-account.uid"

static bool is_token(const struct kube_object *secret) {
    return text_is(secret->secret->type, TYPE);
}

struct looking {
    struct control *control;
    const char *account;
    int error;
};

static bool enqueue_of_account(void *userdata, const struct kube_object *secret) {
    struct looking *looking = userdata;
    if (is_token(secret) && text_is(kube_map_find(&secret->metadata->annotations, NAME), looking->account))
        looking->error = control_enqueue_object(looking->control, CONTROLLER_TOKEN_SECRET, secret);
    return looking->error == 0;
}

int token_secret_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (object && some->kind == &kube_kind_secret)
        return is_token(object) ? control_enqueue_object(control, CONTROLLER_TOKEN_SECRET, object) : 0;
    if (some->kind != &kube_kind_service_account || (object && old))
        return 0;
    struct looking looking = {control, some->metadata->name, 0};
    control->view.list(control->view.userdata, &kube_kind_secret, some->metadata->namespace, enqueue_of_account, &looking);
    return looking.error;
}

static bool has_data(const struct kube_bytes_map *data, const char *key) {
    for (size_t i = 0; i < data->count; i++)
        if (text_is(data->items[i].key, key))
            return data->items[i].value.len > 0;
    return false;
}

static bool is_complete(const struct kube_object *secret, const struct kube_object *account) {
    const struct kube_bytes_map *data = &secret->secret->data;
    return text_is(kube_map_find(&secret->metadata->annotations, UID), account->metadata->uid) && has_data(data, "token") &&
           has_data(data, "ca.crt") && has_data(data, "namespace");
}

void token_secret_reconcile(struct context *context) {
    const struct kube_object *secret = context_get(context, &kube_kind_secret, context->namespace, context->name);
    if (!secret || is_deleting(secret) || !is_token(secret))
        return;
    const char *name = kube_map_find(&secret->metadata->annotations, NAME), *uid = kube_map_find(&secret->metadata->annotations, UID);
    const struct kube_object *account = name ? context_get(context, &kube_kind_service_account, context->namespace, name) : NULL;
    if (!account || (uid && *uid && !text_is(uid, account->metadata->uid))) {
        context_delete(context, secret, NULL, -1);
        return;
    }
    struct kube_object *copy = is_complete(secret, account) ? NULL : context_copy(context, secret);
    if (!copy)
        return;
    if (kube_map_set(&copy->metadata->annotations, copy->arena, UID, account->metadata->uid) < 0)
        context_fail(context);
    context_sign(context, copy);
}
