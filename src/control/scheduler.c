/* The scheduler (upstream: pkg/scheduler; here the filters that one machine needs).
 *
 * One key for all pending pods: a run places them one after the other and counts what it has just placed, so two pods never get the same room, and
 * its actions are committed before the next run. Pods are taken by priority, then age. A pod fits a node that is schedulable, whose taints it
 * tolerates, whose labels it asks for, whose ports are free, and whose allocatable resources hold its requests. Of several nodes the one with the
 * most free CPU gets it. */
#include "control/control_priv.h"

#include <stdio.h>

#define REASONS_MAX 8
#define REASON_BYTES 192

static bool is_pending(const struct kube_object *pod) {
    const char *scheduler = pod->pod->spec.scheduler_name;
    return !pod->pod->spec.node_name && !is_deleting(pod) && !pod_is_finished(pod->pod) && pod->pod->spec.scheduling_gates.count == 0 &&
           (!scheduler || text_is(scheduler, "default-scheduler"));
}

/* Does it hold room on its node? */
static bool holds_room(const struct kube_object *pod) {
    return pod->pod->spec.node_name && !pod_is_finished(pod->pod);
}

/* Heartbeats do not make room. */
static bool node_matters(const struct kube_object *node, const struct kube_object *old) {
    return !node || !old || !kube_equal(&kube_node_spec_type, &node->node->spec, &old->node->spec) ||
           !kube_equal(&kube_node_status_type, &(struct kube_node_status){.allocatable = node->node->status.allocatable},
                       &(struct kube_node_status){.allocatable = old->node->status.allocatable}) ||
           !kube_equal(&kube_object_meta_type, &(struct kube_object_meta){.labels = node->metadata->labels},
                       &(struct kube_object_meta){.labels = old->metadata->labels});
}

int scheduler_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_kind *kind = (object ? object : old)->kind;
    bool wake = false;
    if (kind == &kube_kind_pod)
        wake =
            (object && is_pending(object) && (!old || !is_pending(old) || !kube_equal(&kube_pod_spec_type, &object->pod->spec, &old->pod->spec))) ||
            (old && holds_room(old) && (!object || !holds_room(object)));
    else if (kind == &kube_kind_node)
        wake = node_matters(object, old);
    return wake ? control_enqueue(control, CONTROLLER_SCHEDULER, &kube_kind_pod, NULL, "") : 0;
}

/* ---- room ---- */

static const char *const resources[] = {"cpu", "memory", "ephemeral-storage"};
#define RESOURCES ARRAY_LEN(resources)

struct host {
    const struct kube_object *object;
    int64_t free_milli[RESOURCES];
    int64_t free_pods;
    VECTOR(const struct kube_object *) pods;
};

static int64_t request_milli(const struct kube_resource_requirements *resource, const char *name) {
    return kube_quantity_milli(&resource->requests, name, 0);
}

/* The containers' sum, or what the largest init container wants if that is more; sidecars (init containers that restart) count with the containers.
 */
static int64_t pod_request_milli(const struct kube_pod *pod, const char *name) {
    int64_t sum = 0, most = 0, sidecars = 0;
    for (size_t i = 0; i < pod->spec.init_containers.count; i++) {
        const struct kube_container *container = &pod->spec.init_containers.items[i];
        int64_t request = request_milli(&container->resources, name);
        if (text_is(container->restart_policy, "Always"))
            sidecars += request;
        else
            most = MAX(most, request + sidecars);
    }
    for (size_t i = 0; i < pod->spec.containers.count; i++)
        sum += request_milli(&pod->spec.containers.items[i].resources, name);
    return MAX(sum + sidecars, most) + kube_quantity_milli(&pod->spec.overhead, name, 0);
}

static void occupy(struct context *context, struct host *host, const struct kube_object *pod) {
    for (size_t i = 0; i < RESOURCES; i++)
        host->free_milli[i] -= pod_request_milli(pod->pod, resources[i]);
    host->free_pods--;
    if (VECTOR_PUSH(&host->pods, pod) < 0)
        context_fail(context);
}

static void measure(struct context *context, const struct kube_object *node, const struct objects *pods, struct host *host) {
    *host = (struct host){.object = node};
    const struct kube_quantity_map *allocatable = &node->node->status.allocatable;
    if (allocatable->count == 0)
        allocatable = &node->node->status.capacity;
    for (size_t i = 0; i < RESOURCES; i++)
        host->free_milli[i] = kube_quantity_milli(allocatable, resources[i], i < 2 ? 0 : INT64_MAX / 2);
    host->free_pods = kube_quantity_milli(allocatable, "pods", 110000) / 1000;
    for (size_t i = 0; i < pods->list.count; i++)
        if (holds_room(pods->list.items[i]) && same_text(pods->list.items[i]->pod->spec.node_name, node->metadata->name))
            occupy(context, host, pods->list.items[i]);
}

/* ---- filters: each appends at most a few reasons ---- */

struct verdict {
    char reasons[REASONS_MAX][REASON_BYTES];
    size_t count;
};

static void refuse(struct verdict *verdict, const char *format, const char *argument) {
    if (verdict->count < REASONS_MAX)
        snprintf(verdict->reasons[verdict->count++], REASON_BYTES, format, argument);
}

static bool is_tainted(const struct kube_pod *pod, const struct kube_node *node, struct verdict *verdict) {
    static const struct kube_taint unschedulable = {.key = "node.kubernetes.io/unschedulable", .effect = "NoSchedule"};
    if (node->spec.unschedulable && !pod_tolerates(&pod->spec, &unschedulable)) {
        refuse(verdict, "node(s) were unschedulable%s", "");
        return true;
    }
    for (size_t i = 0; i < node->spec.taints.count; i++) {
        const struct kube_taint *taint = &node->spec.taints.items[i];
        if ((!text_is(taint->effect, "NoSchedule") && !text_is(taint->effect, "NoExecute")) || pod_tolerates(&pod->spec, taint))
            continue;
        char text[112];
        snprintf(text, sizeof text, "%.63s: %.40s", taint->key ? taint->key : "", taint->value ? taint->value : "");
        refuse(verdict, "node(s) had untolerated taint {%s}", text);
        return true;
    }
    return false;
}

static bool uses_port(const struct kube_pod *pod, const struct kube_container_port *wanted) {
    for (size_t i = 0; i < pod->spec.containers.count; i++) {
        const struct kube_container_port_array *ports = &pod->spec.containers.items[i].ports;
        for (size_t j = 0; j < ports->count; j++)
            if (ports->items[j].host_port == wanted->host_port &&
                same_text(ports->items[j].protocol ? ports->items[j].protocol : "TCP", wanted->protocol ? wanted->protocol : "TCP"))
                return true;
    }
    return false;
}

static bool has_port_conflict(const struct kube_pod *pod, const struct host *host) {
    for (size_t i = 0; i < pod->spec.containers.count; i++) {
        const struct kube_container_port_array *ports = &pod->spec.containers.items[i].ports;
        for (size_t j = 0; j < ports->count; j++)
            for (size_t k = 0; ports->items[j].host_port && k < host->pods.count; k++)
                if (uses_port(host->pods.items[k]->pod, &ports->items[j]))
                    return true;
    }
    return false;
}

static bool fits(const struct kube_object *object, const struct host *host, struct verdict *verdict) {
    const struct kube_pod *pod = object->pod;
    size_t before = verdict->count;
    if (is_tainted(pod, host->object->node, verdict))
        return false;
    if (!pod_selects_node(&pod->spec, host->object)) {
        refuse(verdict, "node(s) didn't match Pod's node affinity/selector%s", "");
        return false;
    }
    if (has_port_conflict(pod, host)) {
        refuse(verdict, "node(s) didn't have free ports for the requested pod ports%s", "");
        return false;
    }
    if (host->free_pods <= 0)
        refuse(verdict, "Too many pods%s", "");
    for (size_t i = 0; i < RESOURCES; i++) {
        int64_t request = pod_request_milli(pod, resources[i]);
        if (request > 0 && request > host->free_milli[i])
            refuse(verdict, "Insufficient %s", resources[i]);
    }
    return verdict->count == before;
}

/* ---- what comes of it ---- */

static int put_condition(struct kube_object *copy, struct context *context, bool scheduled, const char *message) {
    struct kube_pod_condition_array *list = &copy->pod->status.conditions;
    struct kube_pod_condition *items = ARENA_ARRAY(copy->arena, struct kube_pod_condition, list->count + 1);
    if (!items)
        return -ENOMEM;
    size_t at = list->count;
    for (size_t i = 0; i < list->count; i++) {
        items[i] = list->items[i];
        if (text_is(items[i].type, "PodScheduled"))
            at = i;
    }
    const char *status = scheduled ? "True" : "False";
    struct kube_time since = at < list->count && text_is(items[at].status, status) ? items[at].last_transition_time : context_now(context);
    items[at] = (struct kube_pod_condition){.type = "PodScheduled",
                                            .status = status,
                                            .reason = scheduled ? NULL : "Unschedulable",
                                            .message = message ? arena_strdup(copy->arena, message) : NULL,
                                            .last_transition_time = since};
    list->items = items;
    list->count = MAX(list->count, at + 1);
    return 0;
}

static void bind(struct context *context, const struct kube_object *pod, struct host *host) {
    struct kube_object *bound = context_copy(context, pod), *status = context_copy(context, pod);
    const char *node = host->object->metadata->name;
    if (bound)
        bound->pod->spec.node_name = arena_strdup(bound->arena, node);
    if (!bound || !status || !bound->pod->spec.node_name || put_condition(status, context, true, NULL) < 0) {
        kube_object_unref(bound);
        kube_object_unref(status);
        context_fail(context);
        return;
    }
    context_bind(context, bound);
    context_update_status(context, status);
    context_event(context, pod, "Normal", "Scheduled", "Successfully assigned %s/%s to %s", pod->metadata->namespace, pod->metadata->name, node);
    occupy(context, host, pod);
}

static const char *explain(struct context *context, const struct verdict *verdict, size_t hosts) {
    if (hosts == 0)
        return "no nodes available to schedule pods";
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4 * KIB);
    buffer_printf(&text, "0/%zu nodes are available: ", hosts);
    bool first = true;
    for (size_t i = 0; i < verdict->count; i++) {
        size_t same = 0;
        bool said = false;
        for (size_t j = 0; j < verdict->count; j++) {
            bool equal = strcmp(verdict->reasons[i], verdict->reasons[j]) == 0;
            same += equal;
            said |= equal && j < i;
        }
        if (!said)
            buffer_printf(&text, "%s%zu %s", first ? "" : ", ", same, verdict->reasons[i]);
        first = false;
    }
    buffer_append_byte(&text, '.');
    return arena_dup(context->arena, buffer_slice(&text));
}

static void give_up(struct context *context, const struct kube_object *pod, const char *message) {
    const struct kube_pod_condition *present = pod_condition(pod->pod, "PodScheduled");
    if (!message || (present && text_is(present->status, "False") && same_text(present->message, message)))
        return;
    struct kube_object *copy = context_copy(context, pod);
    if (!copy || put_condition(copy, context, false, message) < 0) {
        kube_object_unref(copy);
        context_fail(context);
        return;
    }
    context_update_status(context, copy);
    context_event(context, pod, "Warning", "FailedScheduling", "%s", message);
}

static void place(struct context *context, const struct kube_object *pod, struct host *hosts, size_t count) {
    struct verdict verdict = {.count = 0};
    struct host *best = NULL;
    for (size_t i = 0; i < count; i++)
        if (fits(pod, &hosts[i], &verdict) && (!best || hosts[i].free_milli[0] > best->free_milli[0]))
            best = &hosts[i];
    if (best)
        bind(context, pod, best);
    else
        give_up(context, pod, explain(context, &verdict, count));
}

static int compare_urgency(const void *left, const void *right) {
    const struct kube_object *a = *(const struct kube_object *const *)left, *b = *(const struct kube_object *const *)right;
    int32_t difference = int32_or(b->pod->spec.priority, 0) - int32_or(a->pod->spec.priority, 0);
    if (difference)
        return difference;
    int64_t age = a->metadata->creation_timestamp.ns - b->metadata->creation_timestamp.ns;
    return age ? (age > 0) - (age < 0) : strcmp(a->metadata->name, b->metadata->name);
}

static void place_all(struct context *context, struct objects *pods, struct host *hosts, size_t count) {
    const struct kube_object **pending = ARENA_ARRAY(context->arena, const struct kube_object *, pods->list.count);
    size_t pending_count = 0;
    for (size_t i = 0; pending && i < pods->list.count; i++)
        if (is_pending(pods->list.items[i]))
            pending[pending_count++] = pods->list.items[i];
    if (!pending)
        context_fail(context);
    if (pending_count)
        qsort(pending, pending_count, sizeof *pending, compare_urgency);
    for (size_t i = 0; i < pending_count && !context->error; i++) {
        context->group++; /* a pod that cannot be bound does not hold up the others */
        place(context, pending[i], hosts, count);
    }
}

void scheduler_reconcile(struct context *context) {
    struct objects pods = {.list = {.items = NULL}}, nodes = {.list = {.items = NULL}};
    context_list(context, &kube_kind_pod, NULL, &pods);
    context_list(context, &kube_kind_node, NULL, &nodes);
    struct host *hosts = ARENA_ARRAY(context->arena, struct host, nodes.list.count);
    size_t count = 0;
    if (!hosts)
        context_fail(context);
    for (size_t i = 0; hosts && i < nodes.list.count; i++)
        if (!is_deleting(nodes.list.items[i]))
            measure(context, nodes.list.items[i], &pods, &hosts[count++]);
    if (hosts)
        place_all(context, &pods, hosts, count);
    for (size_t i = 0; i < count; i++)
        VECTOR_DEINIT(&hosts[i].pods);
    objects_deinit(&nodes);
    objects_deinit(&pods);
}
