/* Resource quotas recounted (upstream: pkg/controller/resourcequota). Admission adds what is created, this takes off what has gone: a deleted object,
 * a pod that has ended, a claim or service that became smaller; and it begins the count of a new or changed quota.
 *
 * A recount sees committed state. What admission has accepted meanwhile has given the quota a newer version, so the status written here is refused
 * then, and the recount runs again. */
#include "control/control_priv.h"

static bool shrinks(const struct kube_object *object, const struct kube_object *old) {
    if (!object)
        return true;
    if (object->kind == &kube_kind_pod)
        return old && pod_is_finished(object->pod) && !pod_is_finished(old->pod);
    return old && (object->kind == &kube_kind_service || object->kind == &kube_kind_persistent_volume_claim);
}

static bool status_is_current(const struct kube_resource_quota *quota) {
    const struct kube_quantity_map *hard = &quota->spec.hard;
    bool same = hard->count == quota->status.hard.count && quota->status.used.count == hard->count;
    for (size_t i = 0; i < hard->count && same; i++)
        same = text_is(quota->status.hard.items[i].key, hard->items[i].key) && quota->status.hard.items[i].value.milli == hard->items[i].value.milli;
    return same;
}

int resource_quota_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_resource_quota && object && (!old || !status_is_current(object->resource_quota)))
        return control_enqueue_object(control, CONTROLLER_RESOURCE_QUOTA, object);
    if (!some->kind->namespaced || !some->metadata->namespace || some->kind == &kube_kind_event || !shrinks(object, old))
        return 0;
    return control_enqueue(control, CONTROLLER_RESOURCE_QUOTA, &kube_kind_resource_quota, some->metadata->namespace, "");
}

/* Adds what the quota limits of what the object uses. */
static void count(struct context *context, const struct kube_resource_quota *quota, const struct kube_object *object, struct kube_object *into) {
    struct kube_quantity_map usage;
    struct kube_quantity_map *used = &into->resource_quota->status.used;
    if (!kube_quota_covers(quota, object))
        return;
    if (kube_quota_usage(object, context->arena, &usage)) {
        context_fail(context);
        return;
    }
    for (size_t i = 0; i < usage.count; i++)
        if (kube_quantity_milli(&quota->spec.hard, usage.items[i].key, -1) >= 0 &&
            kube_quantities_add(used, into->arena, usage.items[i].key, usage.items[i].value, 1))
            context_fail(context);
}

static void count_kind(struct context *context, const struct kube_resource_quota *quota, const struct kube_kind *kind, struct kube_object *into) {
    bool concerned = false;
    for (size_t i = 0; i < quota->spec.hard.count && !concerned; i++)
        concerned = kube_quota_concerns(kind, quota->spec.hard.items[i].key);
    if (!concerned)
        return;
    struct objects objects = {.list = {.items = NULL}};
    context_list(context, kind, quota->metadata.namespace, &objects);
    for (size_t i = 0; i < objects.list.count && !context->error; i++)
        count(context, quota, objects.list.items[i], into);
    objects_deinit(&objects);
}

static int start_count(struct kube_object *copy) {
    struct kube_resource_quota *quota = copy->resource_quota;
    quota->status.hard = (struct kube_quantity_map){NULL, 0};
    quota->status.used = (struct kube_quantity_map){NULL, 0};
    int error = 0;
    for (size_t i = 0; i < quota->spec.hard.count && !error; i++) {
        const struct kube_quantity_pair *pair = &quota->spec.hard.items[i];
        error = kube_quantities_set(&quota->status.hard, copy->arena, pair->key, pair->value);
        error = error ? error : kube_quantities_set(&quota->status.used, copy->arena, pair->key, (struct kube_quantity){"0", 0});
    }
    return error;
}

static void recount(struct context *context, const struct kube_object *object) {
    struct kube_object *copy = is_deleting(object) ? NULL : context_copy(context, object);
    if (!copy)
        return;
    if (start_count(copy))
        context_fail(context);
    for (size_t i = 0; i < kube_kinds_count() && !context->error; i++)
        if (kube_kind_at(i)->namespaced)
            count_kind(context, object->resource_quota, kube_kind_at(i), copy);
    context_update_changed_status(context, object, copy);
}

void resource_quota_reconcile(struct context *context) {
    context_each(context, &kube_kind_resource_quota, context->namespace, recount);
}
