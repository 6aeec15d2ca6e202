/* Nodes: what is wrong with one becomes taints, and pods that do not bear them go (upstream: pkg/controller/nodelifecycle and tainteviction).
 *
 *   condition or spec.unschedulable ──► taint ──(NoSchedule)──► the scheduler keeps away
 *                                             └─(NoExecute)──► pods are deleted: at once, or when their tolerationSeconds are over
 *
 * The time that tolerationSeconds count from is the taint's timeAdded. Who adds a taint by hand does not say it, so it is written here: then it
 * survives a restart, and nothing needs to be remembered. While a node is not ready, its pods are not either.
 * The conditions themselves are the node's word; that a node has fallen silent is seen by core (pulse.c), which then says so in its place.
 *
 * When no node at all is ready, none of them drives its pods out (upstream: "master disruption mode"): there is no better place for them, and most
 * likely they run on. So with one node, pods outlive the silence of its agent, however long. */
#include "control/control_priv.h"

#define EVICTION_MESSAGE "Taint manager: deleting due to NoExecute taint"

static bool has_condition(const struct kube_node *node, const char *type, const char *status) {
    for (size_t i = 0; i < node->status.conditions.count; i++)
        if (text_is(node->status.conditions.items[i].type, type))
            return text_is(node->status.conditions.items[i].status, status);
    return false;
}

static bool is_unready(const struct kube_node *node) {
    return has_condition(node, "Ready", "False") || has_condition(node, "Ready", "Unknown");
}

int node_taint_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *either = object ? object : old;
    if (either->kind == &kube_kind_node && (!object || !old || is_unready(object->node) != is_unready(old->node)))
        return control_enqueue_all(control, CONTROLLER_NODE_TAINT, &kube_kind_node, NULL, NULL, NULL); /* it may be the last one that is ready */
    if (either->kind == &kube_kind_node)
        return control_enqueue_object(control, CONTROLLER_NODE_TAINT, object);
    if (either->kind != &kube_kind_pod || !object || !object->pod->spec.node_name || (old && old->pod->spec.node_name))
        return 0;
    return control_enqueue(control, CONTROLLER_NODE_TAINT, &kube_kind_node, NULL, object->pod->spec.node_name);
}

/* ---- which taints ---- */

/* What a condition of this status stands for. */
static const struct rule {
    const char *condition, *status, *taint;
    bool drives_out;
} rules[] = {
    {"Ready", "False", "node.kubernetes.io/not-ready", true},
    {"Ready", "Unknown", "node.kubernetes.io/unreachable", true},
    {"MemoryPressure", "True", "node.kubernetes.io/memory-pressure", false},
    {"DiskPressure", "True", "node.kubernetes.io/disk-pressure", false},
    {"PIDPressure", "True", "node.kubernetes.io/pid-pressure", false},
    {"NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable", false},
    {NULL, NULL, "node.kubernetes.io/unschedulable", false},
};

static bool applies(const struct kube_node *node, const struct rule *rule) {
    return rule->condition ? has_condition(node, rule->condition, rule->status) : node->spec.unschedulable;
}

static bool any_is_ready(struct context *context) {
    struct objects nodes = {.list = {.items = NULL}};
    bool any = false;
    context_list(context, &kube_kind_node, NULL, &nodes);
    for (size_t i = 0; i < nodes.list.count; i++)
        any = any || !is_unready(nodes.list.items[i]->node);
    objects_deinit(&nodes);
    return any;
}

static const struct rule *rule_of(const struct kube_taint *taint) {
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (text_is(taint->key, rules[i].taint) &&
            (text_is(taint->effect, "NoSchedule") || (rules[i].drives_out && text_is(taint->effect, "NoExecute"))))
            return &rules[i];
    return NULL;
}

static bool has_taint(const struct kube_taint *taints, size_t count, const char *key, const char *effect) {
    for (size_t i = 0; i < count; i++)
        if (text_is(taints[i].key, key) && text_is(taints[i].effect, effect))
            return true;
    return false;
}

/* The node's taints as they should be, in the arena of the copy. */
static struct kube_taint_array wanted_taints(struct context *context, const struct kube_object *copy) {
    static const char *const effects[] = {"NoSchedule", "NoExecute"};
    const struct kube_taint_array *present = &copy->node->spec.taints;
    struct kube_taint *items = ARENA_ARRAY(copy->arena, struct kube_taint, present->count + 2 * ARRAY_LEN(rules));
    size_t count = 0;
    if (!items) {
        context_fail(context);
        return *present;
    }
    bool drives_out = any_is_ready(context);
    for (size_t i = 0; i < present->count; i++) {
        const struct rule *rule = rule_of(&present->items[i]);
        if (rule && (!applies(copy->node, rule) || (!drives_out && text_is(present->items[i].effect, "NoExecute"))))
            continue;
        items[count] = present->items[i];
        if (text_is(items[count].effect, "NoExecute") && !items[count].time_added.set)
            items[count].time_added = context_now(context);
        count++;
    }
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        for (size_t k = 0; k < (rules[i].drives_out && drives_out ? 2 : 1); k++)
            if (applies(copy->node, &rules[i]) && !has_taint(items, count, rules[i].taint, effects[k]))
                items[count++] = (struct kube_taint){.key = rules[i].taint, .effect = effects[k], .time_added = context_now(context)};
    return (struct kube_taint_array){.items = items, .count = count};
}

/* ---- who has to go ---- */

static const struct kube_toleration *find_toleration(const struct kube_pod_spec *spec, const struct kube_taint *taint) {
    for (size_t i = 0; i < spec->tolerations.count; i++) {
        const struct kube_pod_spec one = {.tolerations = {.items = &spec->tolerations.items[i], .count = 1}};
        if (pod_tolerates(&one, taint))
            return &spec->tolerations.items[i];
    }
    return NULL;
}

/* When the pod has to go; INT64_MAX: it may stay. */
static int64_t deadline_ns(const struct kube_pod_spec *spec, const struct kube_taint_array *taints) {
    int64_t deadline = INT64_MAX;
    for (size_t i = 0; i < taints->count; i++) {
        const struct kube_taint *taint = &taints->items[i];
        if (!text_is(taint->effect, "NoExecute"))
            continue;
        const struct kube_toleration *toleration = find_toleration(spec, taint);
        if (!toleration)
            return 0;
        if (toleration->toleration_seconds)
            deadline = MIN(deadline, taint->time_added.ns + MIN(MAX(*toleration->toleration_seconds, 0), INT32_MAX) * NS_PER_S);
    }
    return deadline;
}

static void evict(struct context *context, const struct kube_object *pod) {
    struct kube_object *copy = context_copy(context, pod);
    context->group++; /* one that cannot be deleted does not hold up the others */
    if (copy && pod_put_condition(context, copy, "DisruptionTarget", "True", "DeletionByTaintManager", EVICTION_MESSAGE) < 0)
        context_fail(context);
    context_event(context, pod, "Normal", "TaintManagerEviction", "Marking for deletion Pod %s/%s", pod->metadata->namespace, pod->metadata->name);
    context_update_status(context, copy);
    context_delete(context, pod, NULL, -1);
}

static void tell_unready(struct context *context, const struct kube_object *pod) {
    const struct kube_pod_condition *ready = pod_condition(pod->pod, "Ready");
    if (!ready || !text_is(ready->status, "True"))
        return;
    struct kube_object *copy = context_copy(context, pod);
    context->group++;
    if (copy && pod_put_condition(context, copy, "Ready", "False", NULL, NULL) < 0)
        context_fail(context);
    context_event(context, pod, "Warning", "NodeNotReady", "Node is not ready");
    context_update_status(context, copy);
}

static void look_at_pods(struct context *context, const struct kube_object *node, const struct kube_taint_array *taints) {
    bool drives_out = false, silent = has_condition(node->node, "Ready", "Unknown");
    for (size_t i = 0; i < taints->count; i++)
        drives_out |= text_is(taints->items[i].effect, "NoExecute");
    if (!drives_out && !silent)
        return;
    struct objects pods = {.list = {.items = NULL}};
    context_list(context, &kube_kind_pod, NULL, &pods);
    for (size_t i = 0; i < pods.list.count; i++) {
        const struct kube_object *pod = pods.list.items[i];
        if (!text_is(pod->pod->spec.node_name, node->metadata->name) || !pod_is_active(pod))
            continue;
        int64_t at_ns = deadline_ns(&pod->pod->spec, taints);
        if (at_ns <= context->wall_ns) {
            evict(context, pod);
            continue;
        }
        if (silent)
            tell_unready(context, pod);
        if (at_ns != INT64_MAX)
            context_requeue(context, (at_ns - context->wall_ns) / NS_PER_MS + 1);
    }
    objects_deinit(&pods);
}

void node_taint_reconcile(struct context *context) {
    const struct kube_object *node = context_get(context, &kube_kind_node, NULL, context->name);
    if (!node || is_deleting(node))
        return;
    struct kube_object *copy = context_copy(context, node);
    if (!copy)
        return;
    copy->node->spec.taints = wanted_taints(context, copy);
    if (kube_equal(&kube_node_spec_type, &copy->node->spec, &node->node->spec))
        look_at_pods(context, node, &node->node->spec.taints);
    else
        context_update(context, kube_object_ref(copy)); /* the pods are looked at when it shows */
    kube_object_unref(copy);
}
