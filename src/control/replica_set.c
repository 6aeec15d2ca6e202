/* ReplicaSet and ReplicationController: as many active pods as spec.replicas says (upstream: pkg/controller/replicaset, 1.32; the older kind is the
 * same with a plain map as selector).
 *
 * Pods that have ended or are going do not count, so a crashed pod of restartPolicy Always stays one pod and a failed one is replaced. Which pods go
 * first when there are too many is upstream's order (ActivePodsWithRanks), since users rely on "the ones that serve least go first".
 *
 * A quota may refuse pods. Creation stops at the first refusal (upstream reaches that by slow start, batches of 1, 2, 4 …), says so in the condition
 * ReplicaFailure, and is tried again with the queue's growing delay. */
#include "control/control_priv.h"

#define DELETION_COST "controller.kubernetes.io/pod-deletion-cost"

static bool selects_set(const struct kube_object *set, const struct kube_string_map *labels) {
    return kube_selector_matches(set->replica_set->spec.selector, labels);
}

/* An empty selector selects nothing here. */
static bool selects_controller(const struct kube_object *controller, const struct kube_string_map *labels) {
    struct kube_label_selector selector = {.match_labels = controller->replication_controller->spec.selector};
    return selector.match_labels.count > 0 && kube_selector_matches(&selector, labels);
}

int replica_set_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_replica_set)
        return control_enqueue_object(control, CONTROLLER_REPLICA_SET, some);
    return some->kind == &kube_kind_pod ? control_enqueue_for_pod(control, CONTROLLER_REPLICA_SET, &kube_kind_replica_set, object, old, selects_set)
                                        : 0;
}

int replication_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_replication_controller)
        return control_enqueue_object(control, CONTROLLER_REPLICATION, some);
    return some->kind == &kube_kind_pod
               ? control_enqueue_for_pod(control, CONTROLLER_REPLICATION, &kube_kind_replication_controller, object, old, selects_controller)
               : 0;
}

/* ---- one run: what the two kinds have in common ---- */

struct tally {
    int32_t replicas, fully_labeled, ready, available;
};
struct flock {
    struct context *context;
    const struct kube_object *object;
    struct kube_object *copy; /* its status is changed */
    const struct kube_label_selector *selector;
    const struct kube_pod_template_spec *template;
    size_t wanted;
    int32_t min_ready_seconds;
    struct kube_label_selector map_selector; /* holds the older kind's */
    struct managed_list pods;                /* active ones */
};

static bool is_set(const struct flock *flock) {
    return flock->object->kind == &kube_kind_replica_set;
}

static void read_spec(struct flock *flock) {
    if (is_set(flock)) {
        const struct kube_replica_set_spec *spec = &flock->object->replica_set->spec;
        flock->selector = spec->selector;
        flock->template = &spec->template;
        flock->wanted = (size_t)MAX(0, int32_or(spec->replicas, 1));
        flock->min_ready_seconds = spec->min_ready_seconds;
        return;
    }
    const struct kube_replication_controller_spec *spec = &flock->object->replication_controller->spec;
    flock->map_selector = (struct kube_label_selector){.match_labels = spec->selector};
    flock->selector = spec->selector.count ? &flock->map_selector : NULL;
    flock->template = spec->template;
    flock->wanted = spec->template ? (size_t)MAX(0, int32_or(spec->replicas, 1)) : 0;
    flock->min_ready_seconds = spec->min_ready_seconds;
}

/* ---- which pods go first ---- */

struct candidate {
    struct managed managed;
    int64_t wall_ns;
    size_t neighbours; /* pods of the same service on its node */
};

static int phase_rank(const struct kube_pod *pod) {
    return text_is(pod->status.phase, "Running") ? 2 : text_is(pod->status.phase, "Unknown") ? 1 : 0;
}

static int64_t deletion_cost(const struct kube_pod *pod) {
    int64_t cost = 0;
    const char *text = kube_map_find(&pod->metadata.annotations, DELETION_COST);
    return text && slice_parse_i64(slice_of(text), &cost) == 0 && cost >= INT32_MIN && cost <= INT32_MAX ? cost : 0;
}

static int32_t restarts_max(const struct kube_container_status_array *statuses) {
    int32_t most = 0;
    for (size_t i = 0; i < statuses->count; i++)
        most = MAX(most, statuses->items[i].restart_count);
    return most;
}

/* Ages count by their order of magnitude, so that not always the youngest goes: the lower the younger. */
static int magnitude(const struct kube_time *since, int64_t wall_ns) {
    int64_t age_ns = since->set ? wall_ns - since->ns : 0;
    return age_ns > 0 ? 63 - __builtin_clzll((unsigned long long)age_ns) : -1;
}

static int order(int64_t a, int64_t b) {
    return (a > b) - (a < b);
}

static struct kube_time ready_since(const struct kube_pod *pod) {
    const struct kube_pod_condition *ready = pod_condition(pod, "Ready");
    return ready ? ready->last_transition_time : (struct kube_time){.set = false};
}

/* Negative: a goes before b. */
static int compare_for_deletion(const void *left, const void *right) {
    const struct candidate *x = left, *y = right;
    const struct kube_pod *a = x->managed.object->pod, *b = y->managed.object->pod;
    bool a_ready = kube_pod_is_ready(a), b_ready = kube_pod_is_ready(b);
    struct kube_time a_since = ready_since(a), b_since = ready_since(b);
    int orders[] = {
        order(a->spec.node_name != NULL, b->spec.node_name != NULL),                                      /* unassigned first */
        order(phase_rank(a), phase_rank(b)),                                                              /* pending, unknown, running */
        order(a_ready, b_ready),                                                                          /* not ready first */
        order(deletion_cost(a), deletion_cost(b)),                                                        /* cheap first */
        order((int64_t)y->neighbours, (int64_t)x->neighbours),                                            /* where there are more of them first */
        a_ready && b_ready ? order(magnitude(&a_since, x->wall_ns), magnitude(&b_since, y->wall_ns)) : 0, /* ready for a shorter time first */
        order(restarts_max(&b->status.container_statuses), restarts_max(&a->status.container_statuses)),  /* restarted more often first */
        order(magnitude(&a->metadata.creation_timestamp, x->wall_ns), magnitude(&b->metadata.creation_timestamp, y->wall_ns)), /* newer first */
    };
    for (size_t i = 0; i < ARRAY_LEN(orders); i++)
        if (orders[i])
            return orders[i];
    return strcmp(a->metadata.uid ? a->metadata.uid : "", b->metadata.uid ? b->metadata.uid : "");
}

/* Pods of this set, or of another with the same controller: those of a deployment's other revisions serve the same. */
static bool is_related(struct context *context, const struct kube_object *set, const struct kube_object *pod) {
    const struct kube_owner_reference *owner = kube_controller_of(pod->metadata), *above = kube_controller_of(set->metadata);
    if (!owner || same_text(owner->uid, set->metadata->uid))
        return owner != NULL;
    if (!above || !text_is(owner->kind, set->kind->kind))
        return false;
    const struct kube_object *other = context_get(context, set->kind, pod->metadata->namespace, owner->name);
    return other && kube_is_controlled_by(other->metadata, above->uid);
}

static void count_neighbours(const struct flock *flock, struct candidate *candidates, size_t count) {
    struct objects pods = {.list = {.items = NULL}};
    context_list(flock->context, &kube_kind_pod, flock->object->metadata->namespace, &pods);
    for (size_t i = 0; i < pods.list.count; i++) {
        const struct kube_object *pod = pods.list.items[i];
        if (!pod->pod->spec.node_name || !pod_is_active(pod) || !is_related(flock->context, flock->object, pod))
            continue;
        for (size_t j = 0; j < count; j++)
            candidates[j].neighbours += same_text(candidates[j].managed.object->pod->spec.node_name, pod->pod->spec.node_name);
    }
    objects_deinit(&pods);
}

/* Moves the pods to be deleted to the front; returns how many. */
static size_t choose_victims(struct flock *flock) {
    struct context *context = flock->context;
    size_t count = flock->pods.list.count;
    if (is_deleting(flock->object) || count <= flock->wanted)
        return 0;
    if (flock->wanted == 0)
        return count;
    struct candidate *candidates = ARENA_ARRAY(context->arena, struct candidate, count);
    if (!candidates) {
        context_fail(context);
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        candidates[i] = (struct candidate){.managed = flock->pods.list.items[i], .wall_ns = context->wall_ns};
    count_neighbours(flock, candidates, count);
    qsort(candidates, count, sizeof *candidates, compare_for_deletion);
    for (size_t i = 0; i < count; i++)
        flock->pods.list.items[i] = candidates[i].managed;
    return count - flock->wanted;
}

/* ---- more and fewer ---- */

static void create_pods(struct flock *flock, size_t count) {
    struct context *context = flock->context;
    for (size_t i = 0; i < MIN(count, CREATES_PER_RECONCILE_MAX) && !context->error; i++) {
        struct kube_object *pod = pod_from_template(context, flock->template, flock->object);
        if (!pod)
            return;
        const char *name = arena_strdup(context->arena, pod->metadata->name);
        context_create(context, pod);
        context_event(context, flock->object, "Normal", "SuccessfulCreate", "Created pod: %s", name);
    }
}

static void delete_pods(const struct flock *flock, size_t count) {
    for (size_t i = 0; i < MIN(count, CREATES_PER_RECONCILE_MAX); i++) {
        const struct kube_object *pod = flock->pods.list.items[i].object;
        context_delete(flock->context, pod, NULL, -1);
        context_event(flock->context, flock->object, "Normal", "SuccessfulDelete", "Deleted pod: %s", pod->metadata->name);
    }
}

/* ---- status ---- */

static bool bears_template_labels(const struct flock *flock, const struct kube_object *pod) {
    const struct kube_string_map *labels = &flock->template->metadata.labels;
    for (size_t i = 0; i < labels->count; i++)
        if (!same_text(kube_map_find(&pod->metadata->labels, labels->items[i].key), labels->items[i].value))
            return false;
    return true;
}

/* Of the pods that stay: those deleted in this run no longer count when the status is written, so that the deployment never believes in pods that are
 * on their way out. */
static struct tally count_pods(const struct flock *flock, size_t victims) {
    struct tally tally = {.replicas = (int32_t)(flock->pods.list.count - victims)};
    for (size_t i = victims; i < flock->pods.list.count; i++) {
        const struct kube_object *pod = flock->pods.list.items[i].object;
        int64_t wait_ms = 0;
        tally.fully_labeled += flock->template && bears_template_labels(flock, pod);
        tally.ready += kube_pod_is_ready(pod->pod);
        tally.available += pod_is_available(pod->pod, flock->min_ready_seconds, flock->context->wall_ns, &wait_ms);
        if (wait_ms)
            context_requeue(flock->context, wait_ms);
    }
    return tally;
}

/* ReplicaFailure says why pods could not be made or removed; it stays as it was first said, and goes with the first success. */
static void fill_set_status(struct flock *flock, const struct tally *tally, const char *reason, const char *failure) {
    struct kube_replica_set_status *status = &flock->copy->replica_set->status;
    status->replicas = tally->replicas;
    status->fully_labeled_replicas = tally->fully_labeled;
    status->ready_replicas = tally->ready;
    status->available_replicas = tally->available;
    status->observed_generation = flock->object->metadata->generation;
    if (failure && status->conditions.count)
        return;
    struct kube_replica_set_condition *condition = ARENA_NEW(flock->copy->arena, struct kube_replica_set_condition);
    if (!condition) {
        context_fail(flock->context);
        return;
    }
    *condition = (struct kube_replica_set_condition){
        .type = "ReplicaFailure", .status = "True", .reason = reason, .message = failure, .last_transition_time = context_now(flock->context)};
    status->conditions = (struct kube_replica_set_condition_array){.items = condition, .count = failure ? 1 : 0};
}

static void fill_controller_status(struct flock *flock, const struct tally *tally, const char *reason, const char *failure) {
    struct kube_replication_controller_status *status = &flock->copy->replication_controller->status;
    status->replicas = tally->replicas;
    status->fully_labeled_replicas = tally->fully_labeled;
    status->ready_replicas = tally->ready;
    status->available_replicas = tally->available;
    status->observed_generation = flock->object->metadata->generation;
    if (failure && status->conditions.count)
        return;
    struct kube_replication_controller_condition *condition = ARENA_NEW(flock->copy->arena, struct kube_replication_controller_condition);
    if (!condition) {
        context_fail(flock->context);
        return;
    }
    *condition = (struct kube_replication_controller_condition){
        .type = "ReplicaFailure", .status = "True", .reason = reason, .message = failure, .last_transition_time = context_now(flock->context)};
    status->conditions = (struct kube_replication_controller_condition_array){.items = condition, .count = failure ? 1 : 0};
}

static void write_status(struct flock *flock, size_t victims) {
    struct context *context = flock->context;
    flock->copy = context_copy(context, flock->object);
    if (!flock->copy)
        return;
    struct tally tally = count_pods(flock, victims);
    bool unsettled = victims || flock->pods.list.count < flock->wanted; /* otherwise what has failed is no longer wanted */
    const char *failure = unsettled ? context_failure(context) : NULL, *reason = victims ? "FailedDelete" : "FailedCreate";
    if (failure)
        context_event(context, flock->object, "Warning", reason, "Error %s: %s", victims ? "deleting" : "creating", failure);
    const char *message = failure ? arena_strdup(flock->copy->arena, failure) : NULL;
    if (failure && !message)
        context_fail(context);
    bool changed;
    if (is_set(flock)) {
        fill_set_status(flock, &tally, reason, message);
        changed = !kube_equal(&kube_replica_set_status_type, &flock->copy->replica_set->status, &flock->object->replica_set->status);
    } else {
        fill_controller_status(flock, &tally, reason, message);
        changed = !kube_equal(&kube_replication_controller_status_type, &flock->copy->replication_controller->status,
                              &flock->object->replication_controller->status);
    }
    if (changed)
        context_update_status(context, TAKE(flock->copy));
    kube_object_unref(flock->copy);
}

void replica_set_reconcile(struct context *context) {
    const struct kube_object *object = context_get(context, context->kind, context->namespace, context->name);
    if (!object)
        return;
    struct flock flock = {.context = context, .object = object};
    read_spec(&flock);
    context_claim(context, &kube_kind_pod, object, flock.selector, claim_active, &flock.pods);
    size_t victims = choose_victims(&flock);
    write_status(&flock, victims); /* first: when it is refused, nothing else happens */
    if (victims)
        delete_pods(&flock, victims);
    else if (!is_deleting(object) && flock.pods.list.count < flock.wanted)
        create_pods(&flock, flock.wanted - flock.pods.list.count);
    managed_flush(context, &flock.pods);
}
