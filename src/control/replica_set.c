/* ReplicaSet: as many active pods as spec.replicas says (upstream: pkg/controller/replicaset, 1.31).
 *
 * Pods that have ended or are going do not count, so a crashed pod of restartPolicy Always stays one pod and a failed one is replaced. Which pods go
 * first when there are too many is upstream's order (ActivePodsWithRanks), since users rely on "the ones that serve least go first". */
#include "control/control_priv.h"

#define DELETION_COST "controller.kubernetes.io/pod-deletion-cost"

int replica_set_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_kind *kind = (object ? object : old)->kind;
    if (kind == &kube_kind_replica_set)
        return control_enqueue_object(control, CONTROLLER_REPLICA_SET, object ? object : old);
    if (kind != &kube_kind_pod)
        return 0;
    int r = control_enqueue_controller_of(control, CONTROLLER_REPLICA_SET, &kube_kind_replica_set, object);
    if (r == 0 && (!object || !kube_controller_of(object->metadata)))
        r = control_enqueue_controller_of(control, CONTROLLER_REPLICA_SET, &kube_kind_replica_set, old);
    if (r < 0 || !object || kube_controller_of(object->metadata) || is_deleting(object))
        return r;
    /* An orphan: whoever selects it may adopt it. Rare, so all of the namespace's look. */
    struct context context = {.view = &control->view};
    struct objects sets = {.list = {.items = NULL}};
    context_list(&context, &kube_kind_replica_set, object->metadata->namespace, &sets);
    for (size_t i = 0; i < sets.list.count && r == 0; i++)
        if (kube_selector_matches(sets.list.items[i]->replica_set->spec.selector, &object->metadata->labels))
            r = control_enqueue_object(control, CONTROLLER_REPLICA_SET, sets.list.items[i]);
    objects_deinit(&sets);
    return r < 0 ? r : context.error;
}

/* ---- which pods go first ---- */

static int phase_rank(const struct kube_pod *pod) {
    return text_is(pod->status.phase, "Running") ? 2 : text_is(pod->status.phase, "Unknown") ? 1 : 0;
}

static int64_t deletion_cost(const struct kube_pod *pod) {
    int64_t cost = 0;
    const char *text = kube_map_find(&pod->metadata.annotations, DELETION_COST);
    return text && slice_parse_i64(slice_of(text), &cost) == 0 ? cost : 0;
}

static int32_t restarts_max(const struct kube_pod *pod) {
    int32_t most = 0;
    for (size_t i = 0; i < pod->status.container_statuses.count; i++)
        most = MAX(most, pod->status.container_statuses.items[i].restart_count);
    return most;
}

static int64_t ready_since(const struct kube_pod *pod) {
    const struct kube_pod_condition *ready = pod_condition(pod, "Ready");
    return ready && ready->last_transition_time.set ? ready->last_transition_time.ns : INT64_MAX;
}

static int order(int64_t a, int64_t b) {
    return (a > b) - (a < b);
}

/* Negative: a goes before b. */
static int compare_for_deletion(const void *left, const void *right) {
    const struct kube_pod *a = ((const struct managed *)left)->object->pod, *b = ((const struct managed *)right)->object->pod;
    bool a_ready = kube_pod_is_ready(a), b_ready = kube_pod_is_ready(b);
    int orders[] = {
        order(a->spec.node_name != NULL, b->spec.node_name != NULL),                 /* unassigned first */
        order(phase_rank(a), phase_rank(b)),                                         /* pending, unknown, running */
        order(a_ready, b_ready),                                                     /* not ready first */
        order(deletion_cost(a), deletion_cost(b)),                                   /* cheap first */
        a_ready && b_ready ? order(ready_since(b), ready_since(a)) : 0,              /* ready for a shorter time first */
        order(restarts_max(b), restarts_max(a)),                                     /* restarted more often first */
        order(b->metadata.creation_timestamp.ns, a->metadata.creation_timestamp.ns), /* newer first */
    };
    for (size_t i = 0; i < ARRAY_LEN(orders); i++)
        if (orders[i])
            return orders[i];
    return strcmp(a->metadata.name, b->metadata.name);
}

/* ---- more and fewer ---- */

static size_t wanted_pods(const struct kube_object *set) {
    return (size_t)MAX(0, int32_or(set->replica_set->spec.replicas, 1));
}

static void create_pods(struct context *context, const struct kube_object *set, size_t count) {
    for (size_t i = 0; i < MIN(count, CREATES_PER_RECONCILE_MAX) && !context->error; i++) {
        struct kube_object *pod = pod_from_template(context, &set->replica_set->spec.template, set);
        if (!pod)
            return;
        const char *name = arena_strdup(context->arena, pod->metadata->name);
        context_create(context, pod);
        context_event(context, set, "Normal", "SuccessfulCreate", "Created pod: %s", name);
    }
}

/* Moves the pods to be deleted to the front; returns how many. */
static size_t choose_victims(const struct kube_object *set, struct managed_list *pods) {
    size_t wanted = wanted_pods(set), present = pods->list.count;
    if (is_deleting(set) || present <= wanted)
        return 0;
    if (wanted)
        qsort(pods->list.items, present, sizeof *pods->list.items, compare_for_deletion);
    return present - wanted;
}

static void delete_pods(struct context *context, const struct kube_object *set, const struct managed_list *pods, size_t count) {
    for (size_t i = 0; i < count; i++) {
        context_delete(context, pods->list.items[i].object, NULL, -1);
        context_event(context, set, "Normal", "SuccessfulDelete", "Deleted pod: %s", pods->list.items[i].object->metadata->name);
    }
}

/* ---- status ---- */

static bool bears_template_labels(const struct kube_replica_set *set, const struct kube_object *pod) {
    const struct kube_string_map *labels = &set->spec.template.metadata.labels;
    for (size_t i = 0; i < labels->count; i++)
        if (!same_text(kube_map_find(&pod->metadata->labels, labels->items[i].key), labels->items[i].value))
            return false;
    return true;
}

/* Of the pods that stay: those deleted in this run no longer count when the status is written, so that the deployment never believes in pods that are
 * on their way out. */
static void count_pods(struct context *context, const struct kube_replica_set *set, const struct managed_list *pods, size_t victims,
                       struct kube_replica_set_status *status) {
    status->replicas = (int32_t)(pods->list.count - victims);
    status->fully_labeled_replicas = status->ready_replicas = status->available_replicas = 0;
    for (size_t i = victims; i < pods->list.count; i++) {
        const struct kube_object *pod = pods->list.items[i].object;
        int64_t wait_ms = 0;
        status->fully_labeled_replicas += bears_template_labels(set, pod);
        status->ready_replicas += kube_pod_is_ready(pod->pod);
        status->available_replicas += pod_is_available(pod->pod, set->spec.min_ready_seconds, context->wall_ns, &wait_ms);
        if (wait_ms)
            context_requeue(context, wait_ms);
    }
}

/* ReplicaFailure says why pods could not be made or removed; it goes with the first success. */
static void set_failure(struct context *context, struct kube_object *copy, const char *reason) {
    struct kube_replica_set_status *status = &copy->replica_set->status;
    if (!context->failure) {
        status->conditions = (struct kube_replica_set_condition_array){.items = NULL};
        return;
    }
    struct kube_replica_set_condition *condition = ARENA_NEW(copy->arena, struct kube_replica_set_condition);
    if (!condition) {
        context_fail(context);
        return;
    }
    if (status->conditions.count == 1 && text_is(status->conditions.items[0].reason, reason))
        return;
    *condition = (struct kube_replica_set_condition){.type = "ReplicaFailure",
                                                     .status = "True",
                                                     .reason = reason,
                                                     .message = arena_strdup(copy->arena, context->failure),
                                                     .last_transition_time = context_now(context)};
    status->conditions = (struct kube_replica_set_condition_array){.items = condition, .count = 1};
}

static void write_status(struct context *context, const struct kube_object *set, const struct managed_list *pods, size_t victims) {
    CLEANUP(kube_object_unrefp) struct kube_object *copy = context_copy(context, set);
    if (!copy)
        return;
    struct kube_replica_set_status *status = &copy->replica_set->status;
    count_pods(context, set->replica_set, pods, victims, status);
    status->observed_generation = set->metadata->generation;
    /* Losing a race is no failure. */
    bool failing = context->failure && strncmp(context->failure, "Conflict", 8) != 0;
    const char *reason = victims ? "FailedDelete" : "FailedCreate";
    if (failing)
        context_event(context, set, "Warning", reason, "Error %s: %s", victims ? "deleting" : "creating", context->failure);
    if (failing || !context->failure)
        set_failure(context, copy, reason);
    if (!kube_equal(&kube_replica_set_status_type, status, &set->replica_set->status))
        context_update_status(context, TAKE(copy));
}

void replica_set_reconcile(struct context *context) {
    const struct kube_object *set = context_get(context, context->kind, context->namespace, context->name);
    if (!set)
        return;
    struct managed_list pods = {.list = {.items = NULL}};
    context_claim(context, &kube_kind_pod, set, set->replica_set->spec.selector, claim_active, &pods);
    size_t victims = choose_victims(set, &pods);
    write_status(context, set, &pods, victims); /* first: when it is refused, nothing else happens */
    if (victims)
        delete_pods(context, set, &pods, victims);
    else if (!is_deleting(set) && pods.list.count < wanted_pods(set))
        create_pods(context, set, wanted_pods(set) - pods.list.count);
    managed_flush(context, &pods);
}
