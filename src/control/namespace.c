/* Namespaces: each has the service account "default"; one that is being deleted is emptied, and when nothing is left its finalizer "kubernetes" goes,
 * and with it the namespace (upstream: pkg/controller/namespace, serviceaccounts). */
#include "control/control_priv.h"

#define FINALIZER "kubernetes"

int namespace_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_namespace)
        return control_enqueue_object(control, CONTROLLER_NAMESPACE, some);
    if (!some->kind->namespaced || !some->metadata->namespace)
        return 0;
    if (object && !is_deleting(object) && old) /* nothing came or went */
        return 0;
    struct context context = {.view = &control->view};
    const struct kube_object *namespace = context_get(&context, &kube_kind_namespace, NULL, some->metadata->namespace);
    bool lost_account = !object && some->kind == &kube_kind_service_account && text_is(some->metadata->name, "default");
    if (!namespace || (!is_deleting(namespace) && !lost_account))
        return 0;
    return control_enqueue_object(control, CONTROLLER_NAMESPACE, namespace);
}

static void create_account(struct context *context, const struct kube_object *namespace) {
    if (context_get(context, &kube_kind_service_account, namespace->metadata->name, "default"))
        return;
    struct kube_object *account = kube_object_new(&kube_kind_service_account);
    if (account) {
        account->metadata->name = arena_strdup(account->arena, "default");
        account->metadata->namespace = arena_strdup(account->arena, namespace->metadata->name);
    }
    context_create(context, account);
}

/* True when something is left, be it on its way out. */
static bool empty(struct context *context, const struct kube_object *namespace, const struct kube_kind *kind) {
    struct objects objects = {.list = {.items = NULL}};
    context_list(context, kind, namespace->metadata->name, &objects);
    for (size_t i = 0; i < objects.list.count; i++) {
        context->group++; /* one that cannot be deleted does not hold up the others */
        if (!is_deleting(objects.list.items[i]))
            context_delete(context, objects.list.items[i], NULL, -1);
    }
    bool left = objects.list.count > 0;
    objects_deinit(&objects);
    return left;
}

void namespace_reconcile(struct context *context) {
    const struct kube_object *namespace = context_get(context, &kube_kind_namespace, NULL, context->name);
    if (!namespace)
        return;
    if (!is_deleting(namespace)) {
        create_account(context, namespace);
        return;
    }
    bool left = false;
    for (size_t i = 0; i < kube_kinds_count(); i++)
        if (kube_kind_at(i)->namespaced && kube_kind_is_stored(kube_kind_at(i)))
            left |= empty(context, namespace, kube_kind_at(i));
    if (left)
        return;
    struct kube_object *copy = context_copy(context, namespace);
    if (copy && list_drop(&copy->namespace_->spec.finalizers, FINALIZER)) {
        context_update(context, copy);
        return;
    }
    kube_object_unref(copy);
    if (namespace->metadata->finalizers.count == 0 && namespace->namespace_->spec.finalizers.count == 0)
        context_delete(context, namespace, NULL, 0);
}
