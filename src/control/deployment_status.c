/* What a deployment says about itself: counts and conditions, worded as upstream (pkg/controller/deployment/{sync,progress}.go, util), because
 * `kubectl rollout status` and everybody's scripts read them. */
#include "control/deployment_priv.h"

bool rollout_has_deadline(const struct rollout *rollout) {
    const int32_t *deadline = rollout->deployment->spec.progress_deadline_seconds;
    return deadline && *deadline != INT32_MAX;
}

const struct kube_deployment_condition *deployment_condition(const struct kube_deployment_status *status, const char *type) {
    for (size_t i = 0; i < status->conditions.count; i++)
        if (text_is(status->conditions.items[i].type, type))
            return &status->conditions.items[i];
    return NULL;
}

static void remove_condition(struct kube_deployment_status *status, const char *type) {
    struct kube_deployment_condition_array *list = &status->conditions;
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (!text_is(list->items[i].type, type))
            list->items[kept++] = list->items[i];
    list->count = kept;
}

/* As upstream's SetDeploymentCondition: an old one of the type goes, the new one is appended. */
static void put_condition(struct rollout *rollout, struct kube_deployment_condition condition) {
    struct kube_deployment_condition_array *list = &rollout->status->deployment->status.conditions;
    remove_condition(&rollout->status->deployment->status, condition.type);
    struct kube_deployment_condition *items = ARENA_ARRAY(rollout->status->arena, struct kube_deployment_condition, list->count + 1);
    condition.message = condition.message ? arena_strdup(rollout->status->arena, condition.message) : NULL;
    if (!items || !condition.message) {
        context_fail(rollout->context);
        return;
    }
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    items[list->count] = condition;
    list->items = items;
    list->count++;
}

static struct kube_deployment_condition make_condition(const struct rollout *rollout, const char *type, const char *status, const char *reason,
                                                       const char *message) {
    struct kube_time now = context_now(rollout->context);
    return (struct kube_deployment_condition){
        .type = type, .status = status, .reason = reason, .message = message, .last_update_time = now, .last_transition_time = now};
}

void rollout_set_condition(struct rollout *rollout, const char *type, const char *status, const char *reason, const char *message) {
    const struct kube_deployment_condition *present = deployment_condition(&rollout->status->deployment->status, type);
    if (present && text_is(present->status, status) && text_is(present->reason, reason))
        return;
    struct kube_deployment_condition condition = make_condition(rollout, type, status, reason, message);
    if (present && text_is(present->status, status))
        condition.last_transition_time = present->last_transition_time;
    put_condition(rollout, condition);
}

void rollout_check_paused(struct rollout *rollout) {
    const struct kube_deployment_condition *present = deployment_condition(&rollout->status->deployment->status, "Progressing");
    if (!rollout_has_deadline(rollout) || (present && text_is(present->reason, "ProgressDeadlineExceeded")))
        return;
    bool says_paused = present && text_is(present->reason, "DeploymentPaused");
    if (rollout->deployment->spec.paused && !says_paused)
        rollout_set_condition(rollout, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused");
    else if (!rollout->deployment->spec.paused && says_paused)
        rollout_set_condition(rollout, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed");
}

bool rollout_is_complete(const struct rollout *rollout, const struct kube_deployment_status *status) {
    return status->updated_replicas == rollout->replicas && status->replicas == rollout->replicas &&
           status->available_replicas == rollout->replicas && status->observed_generation >= rollout->object->metadata->generation;
}

static bool has_progressed(const struct kube_deployment_status *before, const struct kube_deployment_status *after) {
    return after->updated_replicas > before->updated_replicas ||
           after->replicas - after->updated_replicas < before->replicas - before->updated_replicas ||
           after->ready_replicas > before->ready_replicas || after->available_replicas > before->available_replicas;
}

static bool has_timed_out(struct rollout *rollout, const struct kube_deployment_condition *progressing) {
    if (!progressing || text_is(progressing->reason, "NewReplicaSetAvailable"))
        return false;
    if (text_is(progressing->reason, "ProgressDeadlineExceeded"))
        return true;
    int64_t deadline_ns = progressing->last_update_time.ns + *rollout->deployment->spec.progress_deadline_seconds * NS_PER_S;
    return deadline_ns < rollout->context->wall_ns;
}

static void set_counts(struct rollout *rollout) {
    struct kube_deployment_status *status = &rollout->status->deployment->status;
    status->observed_generation = rollout->object->metadata->generation;
    status->replicas = status->ready_replicas = status->updated_replicas = status->available_replicas = 0;
    for (size_t i = 0; i < rollout->count; i++) {
        const struct kube_replica_set_status *set = &revision_set(&rollout->revisions[i])->status;
        status->replicas += set->replicas;
        status->ready_replicas += set->ready_replicas;
        status->available_replicas += set->available_replicas;
        status->updated_replicas += rollout->revisions[i].is_new ? set->replicas : 0;
    }
    status->unavailable_replicas = MAX(0, rollout_sum_replicas(rollout, false) - status->available_replicas);
    if (status->available_replicas >= rollout->replicas - rollout->max_unavailable)
        rollout_set_condition(rollout, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.");
    else
        rollout_set_condition(rollout, "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.");
}

static const char *say(struct rollout *rollout, const char *what) {
    const char *text = rollout->newest
                           ? arena_printf(rollout->context->arena, "ReplicaSet \"%s\" %s", rollout->newest->managed.object->metadata->name, what)
                           : arena_printf(rollout->context->arena, "Deployment \"%s\" %s", rollout->object->metadata->name, what);
    return text ? text : what;
}

static void set_progress(struct rollout *rollout) {
    struct kube_deployment_status *status = &rollout->status->deployment->status;
    if (!rollout_has_deadline(rollout)) {
        remove_condition(status, "Progressing");
        return;
    }
    const struct kube_deployment_condition *present = deployment_condition(status, "Progressing");
    bool was_complete = status->replicas == status->updated_replicas && present && text_is(present->reason, "NewReplicaSetAvailable");
    if (was_complete)
        return;
    if (rollout_is_complete(rollout, status)) {
        rollout_set_condition(rollout, "Progressing", "True", "NewReplicaSetAvailable", say(rollout, "has successfully progressed."));
    } else if (has_progressed(&rollout->deployment->status, status)) {
        struct kube_deployment_condition condition =
            make_condition(rollout, "Progressing", "True", "ReplicaSetUpdated", say(rollout, "is progressing."));
        if (present && text_is(present->status, "True"))
            condition.last_transition_time = present->last_transition_time;
        put_condition(rollout, condition);
    } else if (has_timed_out(rollout, present)) {
        rollout_set_condition(rollout, "Progressing", "False", "ProgressDeadlineExceeded", say(rollout, "has timed out progressing."));
    }
}

/* A ReplicaSet that cannot make its pods shows in the deployment; the new one's failure before the others'. */
static void set_failures(struct rollout *rollout) {
    const struct kube_replica_set_condition *failure = NULL;
    for (size_t i = 0; i < rollout->count; i++) {
        const struct kube_replica_set_condition_array *conditions = &revision_set(&rollout->revisions[i])->status.conditions;
        for (size_t j = 0; j < conditions->count; j++)
            if (text_is(conditions->items[j].type, "ReplicaFailure") && (!failure || rollout->revisions[i].is_new))
                failure = &conditions->items[j];
    }
    if (failure) {
        const char *reason = arena_strdup(rollout->status->arena, failure->reason ? failure->reason : "FailedCreate");
        rollout_set_condition(rollout, "ReplicaFailure", "True", reason, failure->message ? failure->message : "");
    } else {
        remove_condition(&rollout->status->deployment->status, "ReplicaFailure");
    }
}

/* A rollout that stands still must be found late: come back when the deadline has passed. */
static void requeue_for_deadline(struct rollout *rollout) {
    const struct kube_deployment_status *status = &rollout->status->deployment->status;
    const struct kube_deployment_condition *present = deployment_condition(status, "Progressing");
    if (!rollout_has_deadline(rollout) || !present || rollout_is_complete(rollout, status) || text_is(present->reason, "ProgressDeadlineExceeded") ||
        text_is(present->reason, "NewReplicaSetAvailable"))
        return;
    int64_t left_ns = present->last_update_time.ns + *rollout->deployment->spec.progress_deadline_seconds * NS_PER_S - rollout->context->wall_ns;
    context_requeue(rollout->context, MAX(0, left_ns / NS_PER_MS) + 1000);
}

void rollout_set_status(struct rollout *rollout, bool progressing) {
    set_counts(rollout);
    if (!progressing)
        return;
    set_progress(rollout);
    set_failures(rollout);
    requeue_for_deadline(rollout);
}
