/* PodDisruptionBudget: how many of the pods it selects may be taken away now (upstream: pkg/controller/disruption, 1.32). The eviction subresource
 * reads status.disruptionsAllowed, lowers it and notes the pod in status.disruptedPods; here both are brought back in line with what is there.
 *
 * 1. A pod that eviction has noted no longer counts as healthy, until it is seen to go; one that is still there two minutes later counts again.
 * 2. A percentage is of what the pods' owners want, not of what is there, so a budget does not shrink with the pods. Pods without an owner cannot be
 * counted in that; an owner without a scale makes the budget allow nothing.
 * 3. When in doubt nothing may be disrupted. */
#include "control/control_priv.h"

#define DELETION_TIMEOUT_NS (120 * NS_PER_S)
#define OWNERS_MAX 256 /* of one budget's pods */

static const struct kube_kind *const scaled[] = {&kube_kind_deployment, &kube_kind_replica_set, &kube_kind_replication_controller,
                                                 &kube_kind_stateful_set};

static int32_t replicas_of(const struct kube_object *owner) {
    const int32_t *replicas = owner->kind == &kube_kind_deployment               ? owner->deployment->spec.replicas
                              : owner->kind == &kube_kind_replica_set            ? owner->replica_set->spec.replicas
                              : owner->kind == &kube_kind_replication_controller ? owner->replication_controller->spec.replicas
                                                                                 : owner->stateful_set->spec.replicas;
    return int32_or(replicas, 1);
}

static bool is_scaled(const struct kube_kind *kind) {
    for (size_t i = 0; i < ARRAY_LEN(scaled); i++)
        if (scaled[i] == kind)
            return true;
    return false;
}

/* ---- who looks ---- */

static bool matters(const struct kube_object *pod, const struct kube_object *old) {
    return !pod || !old || is_deleting(pod) != is_deleting(old) || kube_pod_is_ready(pod->pod) != kube_pod_is_ready(old->pod) ||
           !same_text(pod->pod->status.phase, old->pod->status.phase) ||
           !kube_equal(&kube_object_meta_type,
                       &(struct kube_object_meta){.labels = pod->metadata->labels, .owner_references = pod->metadata->owner_references},
                       &(struct kube_object_meta){.labels = old->metadata->labels, .owner_references = old->metadata->owner_references});
}

struct label_change {
    const struct kube_string_map *labels, *before; /* either may be NULL */
};

static bool is_concerned(const void *userdata, const struct kube_object *budget) {
    const struct label_change *change = userdata;
    const struct kube_label_selector *selector = budget->pod_disruption_budget->spec.selector;
    return (change->labels && kube_selector_matches(selector, change->labels)) || (change->before && kube_selector_matches(selector, change->before));
}

/* All budgets of the namespace that select either; both NULL: all. */
static int enqueue_budgets(struct control *control, const char *namespace, const struct kube_string_map *labels,
                           const struct kube_string_map *before) {
    const struct label_change change = {labels, before};
    return control_enqueue_all(control, CONTROLLER_DISRUPTION, &kube_kind_pod_disruption_budget, namespace, labels || before ? is_concerned : NULL,
                               &change);
}

static bool is_marked(const struct kube_object *pod) {
    const struct kube_pod_condition *condition = pod_condition(pod->pod, "DisruptionTarget");
    return !is_deleting(pod) && !pod_is_finished(pod->pod) && condition && text_is(condition->status, "True") &&
           !text_is(condition->reason, "TerminationByKubelet");
}

int disruption_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_pod_disruption_budget)
        return control_enqueue_object(control, CONTROLLER_DISRUPTION, some);
    if (is_scaled(some->kind) && object && old && replicas_of(object) != replicas_of(old))
        return enqueue_budgets(control, some->metadata->namespace, NULL, NULL);
    if (some->kind != &kube_kind_pod || !(matters(object, old) || (object && is_marked(object))))
        return 0;
    int r = enqueue_budgets(control, some->metadata->namespace, object ? &object->metadata->labels : &old->metadata->labels,
                            old ? &old->metadata->labels : NULL);
    return r == 0 && object && is_marked(object) ? control_enqueue_object(control, CONTROLLER_DISRUPTION, object) : r;
}

/* ---- one run ---- */

struct assessment {
    struct context *context;
    const struct kube_object *object;
    const struct kube_pod_disruption_budget *budget;
    struct objects pods; /* that it selects */
    int32_t expected, desired, healthy;
    const char *failure; /* why nothing can be said */
    const char *owners[OWNERS_MAX];
    size_t owners_count;
};

static bool is_counted(struct assessment *assessment, const char *uid) {
    for (size_t i = 0; i < assessment->owners_count; i++)
        if (same_text(assessment->owners[i], uid))
            return true;
    if (assessment->owners_count < OWNERS_MAX)
        assessment->owners[assessment->owners_count++] = uid;
    return false;
}

/* The scale behind the pod; a ReplicaSet of a deployment stands for the deployment. NULL: there is none. */
static const struct kube_object *find_scaled(struct context *context, const char *namespace, const struct kube_owner_reference *reference) {
    for (size_t i = 0; i < ARRAY_LEN(scaled); i++) {
        const struct kube_kind *kind = scaled[i];
        if (!text_is(reference->kind, kind->kind) || !text_is(reference->api_version, kube_kind_api_version(kind)))
            continue;
        const struct kube_object *owner = context_get(context, kind, namespace, reference->name);
        if (!owner || !same_text(owner->metadata->uid, reference->uid))
            return NULL;
        const struct kube_owner_reference *above = kind == &kube_kind_replica_set ? kube_controller_of(owner->metadata) : NULL;
        const struct kube_object *deployment = above && text_is(above->kind, "Deployment") ? find_scaled(context, namespace, above) : NULL;
        return deployment ? deployment : owner;
    }
    return NULL;
}

static void sum_scales(struct assessment *assessment) {
    struct context *context = assessment->context;
    size_t unmanaged = 0;
    for (size_t i = 0; i < assessment->pods.list.count && !assessment->failure; i++) {
        const struct kube_object *pod = assessment->pods.list.items[i];
        const struct kube_owner_reference *reference = kube_controller_of(pod->metadata);
        const struct kube_object *owner = reference ? find_scaled(context, pod->metadata->namespace, reference) : NULL;
        if (!reference) {
            unmanaged++;
        } else if (!owner) {
            assessment->failure = arena_printf(context->arena, "found no controllers for pod \"%s\"", pod->metadata->name);
            if (!assessment->failure)
                context_fail(context);
        } else if (!is_counted(assessment, owner->metadata->uid)) {
            assessment->expected += replicas_of(owner);
        }
    }
    if (unmanaged)
        context_event(context, assessment->object, "Warning", "UnmanagedPods",
                      "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB cannot be calculated "
                      "correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the "
                      "PDB to an integer value.");
}

static void count_expected(struct assessment *assessment) {
    const struct kube_pod_disruption_budget_spec *spec = &assessment->budget->spec;
    const struct kube_int_or_string *bound = spec->max_unavailable ? spec->max_unavailable : spec->min_available;
    int number = 0;
    if (!bound)
        return;
    if (!spec->max_unavailable && !bound->is_string) {
        assessment->expected = (int32_t)assessment->pods.list.count;
        assessment->desired = bound->number;
        return;
    }
    sum_scales(assessment);
    if (assessment->failure)
        return;
    if (kube_int_or_percent(bound, assessment->expected, true, &number) < 0)
        assessment->failure = "invalid value for IntOrString: invalid type: string is not a percentage";
    assessment->desired = spec->max_unavailable ? MAX(0, assessment->expected - number) : number;
}

static const struct kube_time *disrupted_at(const struct kube_pod_disruption_budget_status *status, const char *pod) {
    for (size_t i = 0; i < status->disrupted_pods.count; i++)
        if (text_is(status->disrupted_pods.items[i].key, pod))
            return &status->disrupted_pods.items[i].value;
    return NULL;
}

/* Keeps what eviction has noted of pods that are there and not yet going, for as long as it may take; false: no memory. */
static bool keep_disrupted(struct assessment *assessment, struct kube_object *copy) {
    struct context *context = assessment->context;
    const struct kube_pod_disruption_budget_status *before = &assessment->budget->status;
    struct kube_time_map *kept = &copy->pod_disruption_budget->status.disrupted_pods;
    *kept = (struct kube_time_map){.items = ARENA_ARRAY(copy->arena, struct kube_time_pair, before->disrupted_pods.count)};
    if (!kept->items)
        return false;
    for (size_t i = 0; i < before->disrupted_pods.count; i++) {
        const struct kube_time_pair *pair = &before->disrupted_pods.items[i];
        const struct kube_object *pod = context_get(context, &kube_kind_pod, assessment->object->metadata->namespace, pair->key);
        if (!pod || is_deleting(pod))
            continue;
        int64_t left_ns = pair->value.ns + DELETION_TIMEOUT_NS - context->wall_ns;
        if (left_ns <= 0) {
            context_event(context, pod, "Warning", "NotDeleted", "Pod was expected by PDB %s/%s to be deleted but it wasn't",
                          assessment->object->metadata->namespace, assessment->object->metadata->name);
            continue;
        }
        kept->items[kept->count++] = (struct kube_time_pair){.key = arena_strdup(copy->arena, pair->key), .value = pair->value};
        context_requeue(context, left_ns / NS_PER_MS + 1);
    }
    return true;
}

static void count_healthy(struct assessment *assessment, const struct kube_pod_disruption_budget_status *status) {
    for (size_t i = 0; i < assessment->pods.list.count; i++) {
        const struct kube_object *pod = assessment->pods.list.items[i];
        assessment->healthy += !is_deleting(pod) && !disrupted_at(status, pod->metadata->name) && kube_pod_is_ready(pod->pod);
    }
}

/* ---- what it says ---- */

static void set_condition(struct assessment *assessment, struct kube_object *copy, const char *reason, const char *message) {
    struct kube_pod_disruption_budget_status *status = &copy->pod_disruption_budget->status;
    struct kube_condition_array *list = &status->conditions;
    struct kube_condition *items = ARENA_ARRAY(copy->arena, struct kube_condition, list->count + 1);
    size_t at = list->count;
    if (!items) {
        context_fail(assessment->context);
        return;
    }
    for (size_t i = 0; i < list->count; i++) {
        items[i] = list->items[i];
        if (text_is(items[i].type, "DisruptionAllowed"))
            at = i;
    }
    const char *value = status->disruptions_allowed > 0 ? "True" : "False";
    struct kube_time since = at < list->count && text_is(items[at].status, value) ? items[at].last_transition_time : context_now(assessment->context);
    items[at] = (struct kube_condition){.type = "DisruptionAllowed",
                                        .status = value,
                                        .observed_generation = status->observed_generation,
                                        .last_transition_time = since,
                                        .reason = reason,
                                        .message = message};
    *list = (struct kube_condition_array){.items = items, .count = MAX(list->count, at + 1)};
}

static void fill_status(struct assessment *assessment, struct kube_object *copy) {
    struct kube_pod_disruption_budget_status *status = &copy->pod_disruption_budget->status;
    if (!keep_disrupted(assessment, copy)) {
        context_fail(assessment->context);
        return;
    }
    count_healthy(assessment, status);
    status->current_healthy = assessment->healthy;
    status->desired_healthy = assessment->desired;
    status->expected_pods = assessment->expected;
    status->observed_generation = assessment->object->metadata->generation;
    status->disruptions_allowed = assessment->expected > 0 ? MAX(0, assessment->healthy - assessment->desired) : 0;
    set_condition(assessment, copy, status->disruptions_allowed > 0 ? "SufficientPods" : "InsufficientPods", NULL);
}

static void reconcile_budget(struct context *context, const struct kube_object *object) {
    struct assessment assessment = {.context = context, .object = object, .budget = object->pod_disruption_budget};
    struct objects all = {.list = {.items = NULL}};
    context_list(context, &kube_kind_pod, object->metadata->namespace, &all);
    for (size_t i = 0; i < all.list.count; i++)
        if (kube_selector_matches(assessment.budget->spec.selector, &all.list.items[i]->metadata->labels) &&
            VECTOR_PUSH(&assessment.pods.list, all.list.items[i]) < 0)
            context_fail(context);
    objects_deinit(&all);
    if (assessment.pods.list.count == 0)
        context_event(context, object, "Normal", "NoPods", "No matching pods found");
    count_expected(&assessment);
    struct kube_object *copy = context_copy(context, object);
    if (copy && !assessment.failure) {
        fill_status(&assessment, copy);
    } else if (copy) {
        context_event(context, object, "Warning", "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %s",
                      assessment.failure);
        copy->pod_disruption_budget->status.disruptions_allowed = 0;
        copy->pod_disruption_budget->status.observed_generation = object->metadata->generation;
        set_condition(&assessment, copy, "SyncFailed", arena_strdup(copy->arena, assessment.failure));
    }
    if (copy && !kube_equal(&kube_pod_disruption_budget_status_type, &copy->pod_disruption_budget->status, &assessment.budget->status))
        context_update_status(context, TAKE(copy));
    kube_object_unref(copy);
    objects_deinit(&assessment.pods);
}

/* A pod that was to be disrupted and still is there: it is no longer. */
static void reconcile_pod(struct context *context, const struct kube_object *pod) {
    if (!is_marked(pod))
        return;
    int64_t left_ns = pod_condition(pod->pod, "DisruptionTarget")->last_transition_time.ns + DELETION_TIMEOUT_NS - context->wall_ns;
    if (left_ns > 0) {
        context_requeue(context, left_ns / NS_PER_MS + 1);
        return;
    }
    struct kube_object *copy = context_copy(context, pod);
    if (!copy)
        return;
    for (size_t i = 0; i < copy->pod->status.conditions.count; i++) {
        struct kube_pod_condition *condition = &copy->pod->status.conditions.items[i];
        if (text_is(condition->type, "DisruptionTarget"))
            *condition = (struct kube_pod_condition){.type = "DisruptionTarget",
                                                     .observed_generation = copy->metadata->generation,
                                                     .status = "False",
                                                     .last_transition_time = context_now(context)};
    }
    context_update_status(context, copy);
}

void disruption_reconcile(struct context *context) {
    const struct kube_object *object = context_get(context, context->kind, context->namespace, context->name);
    if (!object)
        return;
    if (object->kind == &kube_kind_pod)
        reconcile_pod(context, object);
    else if (!is_deleting(object))
        reconcile_budget(context, object);
}
