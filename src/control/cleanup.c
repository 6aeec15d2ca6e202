/* What nobody else removes: pods without a node to end them, and finished pods beyond a number. */
#include "control/control_priv.h"

/* ---- pods (upstream: pkg/controller/podgc, but finished pods are fewer on one machine) ---- */

#define QUARANTINE_MS (40 * 1000) /* a node that comes back within it keeps its pods */
#define OWNED_FACTOR 10           /* so many more finished pods may there be that have an owner */

int pod_garbage_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_kind *kind = (object ? object : old)->kind;
    if (kind == &kube_kind_pod && object && (is_deleting(object) || (object->pod->spec.node_name && !old)))
        return control_enqueue_object(control, CONTROLLER_POD_GARBAGE, object);
    bool finished = kind == &kube_kind_pod && object && pod_is_finished(object->pod) && (!old || !pod_is_finished(old->pod));
    bool node_gone = kind == &kube_kind_node && !object;
    return finished || node_gone ? control_enqueue(control, CONTROLLER_POD_GARBAGE, &kube_kind_pod, NULL, "") : 0;
}

static bool lacks_node(struct context *context, const struct kube_object *pod) {
    return pod->pod->spec.node_name && !context_get(context, &kube_kind_node, NULL, pod->pod->spec.node_name);
}

/* No node will ever report that it has ended. */
static bool is_stranded(struct context *context, const struct kube_object *pod) {
    return is_deleting(pod) && (!pod->pod->spec.node_name || lacks_node(context, pod));
}

static void mark_failed(struct context *context, const struct kube_object *pod) {
    struct kube_object *copy = context_copy(context, pod);
    if (copy)
        copy->pod->status.phase = "Failed";
    context_update_status(context, copy);
}

/* The pod says why it failed, for those who count failures, and goes. */
static void collect_orphan(struct context *context, const struct kube_object *pod) {
    context->group++;
    struct kube_object *copy = pod_is_finished(pod->pod) ? NULL : context_copy(context, pod);
    if (copy) {
        if (pod_put_condition(context, copy, "DisruptionTarget", "True", "DeletionByPodGC", "PodGC: node no longer exists") < 0)
            context_fail(context);
        copy->pod->status.phase = "Failed";
        context_update_status(context, copy);
    }
    context_delete(context, pod, NULL, 0);
}

static int compare_created(const void *left, const void *right) {
    const struct kube_object *const *a = left, *const *b = right;
    int64_t difference = (*a)->metadata->creation_timestamp.ns - (*b)->metadata->creation_timestamp.ns;
    return difference ? (difference > 0) - (difference < 0) : strcmp((*a)->metadata->name, (*b)->metadata->name);
}

/* The oldest beyond the number. */
static void collect_finished(struct context *context, const struct objects *pods, bool owned, size_t most) {
    const struct kube_object **finished = ARENA_ARRAY(context->arena, const struct kube_object *, pods->list.count);
    size_t count = 0;
    if (!finished) {
        context_fail(context);
        return;
    }
    for (size_t i = 0; i < pods->list.count; i++) {
        const struct kube_object *pod = pods->list.items[i];
        if (pod_is_finished(pod->pod) && !is_deleting(pod) && (kube_controller_of(pod->metadata) != NULL) == owned)
            finished[count++] = pod;
    }
    if (count <= most)
        return;
    qsort(finished, count, sizeof *finished, compare_created);
    for (size_t i = 0; i < count - most; i++)
        context_delete(context, finished[i], NULL, -1);
}

static void collect_all(struct context *context) {
    struct objects pods = {.list = {.items = NULL}};
    context_list(context, &kube_kind_pod, NULL, &pods);
    for (size_t i = 0; i < pods.list.count; i++) {
        const struct kube_object *pod = pods.list.items[i];
        if (is_stranded(context, pod))
            context_delete(context, pod, NULL, 0);
        else if (lacks_node(context, pod) && control_enqueue_object(context->control, CONTROLLER_POD_GARBAGE, pod) < 0)
            context_fail(context); /* its own key waits out the quarantine */
    }
    collect_finished(context, &pods, false, context->control->finished_pods_max);
    collect_finished(context, &pods, true, context->control->finished_pods_max * OWNED_FACTOR);
    objects_deinit(&pods);
}

static void collect_one(struct context *context, const struct kube_object *pod) {
    if (is_stranded(context, pod)) {
        if (pod->metadata->finalizers.count == 0)
            context_delete(context, pod, NULL, 0);
        else if (!pod_is_finished(pod->pod))
            mark_failed(context, pod); /* whoever holds it may wait for that */
    } else if (lacks_node(context, pod)) {
        if (context->after_wait)
            collect_orphan(context, pod);
        else
            context_requeue(context, QUARANTINE_MS);
    }
}

void pod_garbage_reconcile(struct context *context) {
    if (!*context->name) {
        collect_all(context);
        return;
    }
    const struct kube_object *pod = context_get(context, &kube_kind_pod, context->namespace, context->name);
    if (pod)
        collect_one(context, pod);
}
