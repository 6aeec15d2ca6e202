/* What nobody else removes: pods without a node to end them, finished pods beyond a number, and old events. */
#include "control/control_priv.h"

/* ---- pods (upstream: pkg/controller/podgc) ---- */

int pod_garbage_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_kind *kind = (object ? object : old)->kind;
    if (kind == &kube_kind_pod && object && is_deleting(object))
        return control_enqueue_object(control, CONTROLLER_POD_GARBAGE, object);
    bool finished = kind == &kube_kind_pod && object && pod_is_finished(object->pod) && (!old || !pod_is_finished(old->pod));
    bool node_gone = kind == &kube_kind_node && !object;
    return finished || node_gone ? control_enqueue(control, CONTROLLER_POD_GARBAGE, &kube_kind_pod, NULL, "") : 0;
}

/* No node will ever report that it has ended. */
static bool is_stranded(struct context *context, const struct kube_object *pod) {
    return is_deleting(pod) && (!pod->pod->spec.node_name || !context_get(context, &kube_kind_node, NULL, pod->pod->spec.node_name));
}

static int compare_created(const void *left, const void *right) {
    const struct kube_object *const *a = left, *const *b = right;
    int64_t difference = (*a)->metadata->creation_timestamp.ns - (*b)->metadata->creation_timestamp.ns;
    return difference ? (difference > 0) - (difference < 0) : strcmp((*a)->metadata->name, (*b)->metadata->name);
}

static void collect_all(struct context *context) {
    struct objects pods = {.list = {.items = NULL}};
    context_list(context, &kube_kind_pod, NULL, &pods);
    size_t finished = 0;
    for (size_t i = 0; i < pods.list.count; i++) {
        const struct kube_object *pod = pods.list.items[i];
        if (is_stranded(context, pod))
            context_delete(context, pod, NULL, 0);
        else if (pod_is_finished(pod->pod) && !is_deleting(pod) && !kube_controller_of(pod->metadata))
            pods.list.items[finished++] = pod;
    }
    if (finished > context->control->finished_pods_max) {
        qsort(pods.list.items, finished, sizeof *pods.list.items, compare_created);
        for (size_t i = 0; i < finished - context->control->finished_pods_max; i++)
            context_delete(context, pods.list.items[i], NULL, -1);
    }
    objects_deinit(&pods);
}

void pod_garbage_reconcile(struct context *context) {
    if (!*context->name) {
        collect_all(context);
        return;
    }
    const struct kube_object *pod = context_get(context, &kube_kind_pod, context->namespace, context->name);
    if (pod && is_stranded(context, pod) && pod->metadata->finalizers.count == 0)
        context_delete(context, pod, NULL, 0);
}

/* ---- events (upstream leaves this to etcd's leases) ---- */

int event_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    if (!object || object->kind != &kube_kind_event || old)
        return 0;
    return control_enqueue_object(control, CONTROLLER_EVENT, object);
}

static int64_t last_seen_ns(const struct kube_event *event) {
    const struct kube_time *times[] = {&event->last_timestamp, &event->event_time, &event->first_timestamp, &event->metadata.creation_timestamp};
    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        if (times[i]->set)
            return times[i]->ns;
    return 0;
}

void event_reconcile(struct context *context) {
    const struct kube_object *event = context_get(context, &kube_kind_event, context->namespace, context->name);
    if (!event)
        return;
    int64_t left_ns = last_seen_ns(event->event) + context->control->event_ttl_ns - context->wall_ns;
    if (left_ns > 0)
        context_requeue(context, left_ns / NS_PER_MS + 1);
    else
        context_delete(context, event, NULL, -1);
}
