/* Job: pods until enough have succeeded (upstream: pkg/controller/job, 1.32).
 *
 *   ─► (Suspended ⇄) running ─┬─► SuccessCriteriaMet ─► Complete
 *                              └─► FailureTarget ─► Failed
 *
 * The first condition of each pair says that the job will end so: no pods are made any more, those that run are deleted. The second comes when no pod
 * runs or ends any more and every one is counted (job_count.c). Which pods fail, which of them count and which successes suffice is said by the job's
 * policies (job_policy.c).
 *
 * Pods bear a finalizer until they are counted. Those whose job is gone, or which are no longer its own, are let go here. */
#include <limits.h>

#include "control/job_priv.h"

/* A pod is its job's concern; one without a controller that still has the finalizer is that of the job that its label names, or ("") of none. */
static int look_at_pod(struct control *control, const struct kube_object *pod) {
    if (!pod)
        return 0;
    if (kube_controller_of(pod->metadata) || !job_has_finalizer(pod))
        return control_enqueue_controller_of(control, CONTROLLER_JOB, &kube_kind_job, pod);
    const char *name = kube_map_find(&pod->metadata->labels, "job-name");
    return control_enqueue(control, CONTROLLER_JOB, &kube_kind_job, pod->metadata->namespace, name ? name : "");
}

int job_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_kind *kind = (object ? object : old)->kind;
    if (kind == &kube_kind_job)
        return control_enqueue_object(control, CONTROLLER_JOB, object ? object : old);
    if (kind != &kube_kind_pod)
        return 0;
    int r = look_at_pod(control, object);
    bool moved = old && object &&
                 !kube_equal(&kube_object_meta_type, &(struct kube_object_meta){.owner_references = object->metadata->owner_references},
                             &(struct kube_object_meta){.owner_references = old->metadata->owner_references});
    return r < 0 || (object && !moved) ? r : look_at_pod(control, old);
}

/* ---- conditions ---- */

static const struct kube_job_condition *job_condition(const struct kube_job_status *status, const char *type) {
    for (size_t i = 0; i < status->conditions.count; i++)
        if (text_is(status->conditions.items[i].type, type))
            return &status->conditions.items[i];
    return NULL;
}

static const struct kube_job_condition *true_condition(const struct kube_job_status *status, const char *type) {
    const struct kube_job_condition *condition = job_condition(status, type);
    return condition && text_is(condition->status, "True") ? condition : NULL;
}

static const struct kube_job_condition *finished_condition(const struct kube_job_status *status) {
    const struct kube_job_condition *complete = true_condition(status, "Complete");
    return complete ? complete : true_condition(status, "Failed");
}

/* True when it was changed. */
static bool set_condition(struct job_run *run, const char *type, const char *status, const char *reason, const char *message) {
    struct kube_job_condition_array *list = &run->status->conditions;
    const struct kube_job_condition *present = job_condition(run->status, type);
    if (present ? text_is(present->status, status) : text_is(status, "False"))
        return false;
    size_t at = present ? (size_t)(present - list->items) : list->count;
    struct arena *arena = run->copy->arena;
    struct kube_job_condition *items = ARENA_ARRAY(arena, struct kube_job_condition, list->count + 1);
    const char *reason_copy = arena_strdup(arena, reason), *message_copy = arena_strdup(arena, message);
    if (!items || !reason_copy || !message_copy) {
        context_fail(run->context);
        return false;
    }
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    struct kube_time now = context_now(run->context);
    items[at] = (struct kube_job_condition){
        .type = type, .status = status, .reason = reason_copy, .message = message_copy, .last_probe_time = now, .last_transition_time = now};
    list->items = items;
    list->count = MAX(list->count, at + 1);
    return true;
}

/* ---- how it ends ---- */

/* Of a job that is just being resumed it begins anew. */
static bool is_past_deadline(struct job_run *run) {
    if (!run->job->spec.active_deadline_seconds || !run->status->start_time.set || job_is_suspended(run->job) ||
        true_condition(run->status, "Suspended"))
        return false;
    int64_t left_ns = run->status->start_time.ns + MIN(*run->job->spec.active_deadline_seconds, SECONDS_MAX) * NS_PER_S - run->context->wall_ns;
    if (left_ns > 0)
        context_requeue(run->context, left_ns / NS_PER_MS + 1);
    return left_ns <= 0;
}

static bool is_past_backoff_limit(const struct job_run *run) {
    int32_t limit = int32_or(run->job->spec.backoff_limit, 6);
    return run->failed > limit || (run->restarts > 0 && run->restarts >= limit);
}

/* Why it has failed; NULL: it has not. */
static const char *find_failure(struct job_run *run, const char **ret_message) {
    const int32_t *failed_max = run->job->spec.max_failed_indexes;
    if (run->fail_message)
        return *ret_message = run->fail_message, "PodFailurePolicy";
    if (is_past_backoff_limit(run))
        return *ret_message = "Job has reached the specified backoff limit", "BackoffLimitExceeded";
    if (is_past_deadline(run))
        return *ret_message = "Job was active longer than specified deadline", "DeadlineExceeded";
    if (failed_max && run->latest_failures && run->indexes_failed > *failed_max)
        return *ret_message = "Job has exceeded the specified maximal number of failed indexes", "MaxFailedIndexesExceeded";
    if (run->latest_failures && run->indexes_failed > 0 && run->indexes_failed + run->indexes_succeeded >= run->completions)
        return *ret_message = "Job has failed indexes", "FailedIndexes";
    return NULL;
}

static bool is_complete(const struct job_run *run) {
    return run->completions < 0 ? run->succeeded > 0 && run->active == 0 : run->succeeded >= run->completions && run->active == 0;
}

/* Decides that it will end, and how. */
static void decide(struct job_run *run) {
    const char *message = NULL, *reason = find_failure(run, &message), *success = reason ? NULL : job_success(run);
    if (reason)
        set_condition(run, "FailureTarget", "True", reason, message);
    else if (success)
        set_condition(run, "SuccessCriteriaMet", "True", "SuccessPolicy", success);
    else if (is_complete(run) && !job_is_suspended(run->job))
        set_condition(run, "SuccessCriteriaMet", "True", "CompletionsReached", "Reached expected number of succeeded pods");
    else
        return;
    run->ending = true;
}

static bool is_all_counted(const struct job_run *run) {
    const struct kube_uncounted_terminated_pods *lists = run->status->uncounted_terminated_pods;
    if (lists && lists->succeeded.count + lists->failed.count)
        return false;
    for (size_t i = 0; i < run->pods.list.count; i++)
        if (pod_is_finished(run->pods.list.items[i].object->pod) && job_has_finalizer(run->pods.list.items[i].object))
            return false;
    return true;
}

static void finish(struct job_run *run) {
    const struct kube_job_condition *failure = true_condition(run->status, "FailureTarget");
    const struct kube_job_condition *success = true_condition(run->status, "SuccessCriteriaMet"), *why = failure ? failure : success;
    if (!why || run->active || run->terminating || !is_all_counted(run))
        return;
    const char *reason = arena_strdup(run->context->arena, why->reason), *message = arena_strdup(run->context->arena, why->message);
    if (!reason || !message) {
        context_fail(run->context);
        return;
    }
    set_condition(run, failure ? "Failed" : "Complete", "True", reason, message);
    if (failure) {
        context_event(run->context, run->object, "Warning", reason, "%s", message);
    } else {
        run->status->completion_time = context_now(run->context);
        context_event(run->context, run->object, "Normal", "Completed", "Job completed");
    }
}

/* ---- one run ---- */

static void suspend_or_resume(struct job_run *run) {
    if (job_is_suspended(run->job)) {
        if (set_condition(run, "Suspended", "True", "JobSuspended", "Job suspended"))
            context_event(run->context, run->object, "Normal", "Suspended", "Job suspended");
    } else if (set_condition(run, "Suspended", "False", "JobResumed", "Job resumed")) {
        run->status->start_time = context_now(run->context); /* the deadline begins anew */
        context_event(run->context, run->object, "Normal", "Resumed", "Job resumed");
    }
}

static void step(struct job_run *run) {
    if (!run->status->start_time.set && !job_is_suspended(run->job))
        run->status->start_time = context_now(run->context);
    if (!run->ending || run->fail_message)
        decide(run);
    if (run->ending) {
        job_delete_active(run, INT_MAX, true);
    } else if (!is_deleting(run->object)) {
        suspend_or_resume(run);
        if (job_is_suspended(run->job))
            job_delete_active(run, INT_MAX, false);
        else
            job_adjust(run);
    }
    finish(run);
}

static void set_counts(struct job_run *run) {
    bool finished = finished_condition(run->status) != NULL;
    /* What was created here is counted when it shows. */
    run->status->active = finished ? 0 : MIN(run->active, (int32_t)run->pods.list.count);
    run->status->ready = int32_new(run->copy->arena, finished ? 0 : MIN(run->ready, run->active));
    run->status->terminating = int32_new(run->copy->arena, finished ? 0 : run->terminating);
    if (run->indexed) {
        const char *succeeded = job_format_indexes(run, INDEX_SUCCEEDED);
        run->status->completed_indexes = *succeeded ? succeeded : NULL;
        run->status->failed_indexes = run->latest_failures ? job_format_indexes(run, INDEX_FAILED) : NULL;
    }
    if (!run->status->uncounted_terminated_pods)
        run->status->uncounted_terminated_pods = ARENA_NEW(run->copy->arena, struct kube_uncounted_terminated_pods);
    if (!run->status->ready || !run->status->terminating || !run->status->uncounted_terminated_pods)
        context_fail(run->context);
}

static void reconcile_open(struct context *context, const struct kube_object *object) {
    struct job_run run = {.context = context, .object = object, .job = object->job, .copy = context_copy(context, object)};
    if (!run.copy)
        return;
    run.status = &run.copy->job->status;
    context_claim(context, &kube_kind_pod, object, object->job->spec.selector, NULL, &run.pods);
    run.ending = true_condition(run.status, "FailureTarget") || true_condition(run.status, "SuccessCriteriaMet");
    job_count(&run);
    if (context->error == 0)
        step(&run);
    set_counts(&run);
    if (!kube_equal(&kube_job_status_type, run.status, &object->job->status))
        context_update_status(context, kube_object_ref(run.copy));
    job_release_counted(&run);
    managed_flush(context, &run.pods);
    objects_deinit(&run.released);
    kube_object_unref(run.copy);
}

static void expire(struct context *context, const struct kube_object *object, const struct kube_job_condition *condition) {
    const int32_t *ttl = object->job->spec.ttl_seconds_after_finished;
    if (!ttl)
        return;
    int64_t left_ns = condition->last_transition_time.ns + *ttl * NS_PER_S - context->wall_ns;
    if (left_ns > 0)
        context_requeue(context, left_ns / NS_PER_MS + 1);
    else
        context_delete(context, object, NULL, -1);
}

/* Pods that bear the finalizer and that no open job will count: it is gone, is another by now, has finished, or lets the pod go. */
static void release_orphans(struct context *context, const struct kube_object *job) {
    struct objects pods = {.list = {.items = NULL}};
    context_list(context, &kube_kind_pod, context->namespace, &pods);
    for (size_t i = 0; i < pods.list.count; i++) {
        const struct kube_object *pod = pods.list.items[i];
        const struct kube_owner_reference *owner = kube_controller_of(pod->metadata);
        const char *label = kube_map_find(&pod->metadata->labels, "job-name");
        bool is_its = owner ? text_is(owner->kind, "Job") && text_is(owner->name, context->name) : text_is(label ? label : "", context->name);
        bool is_counted = job && owner && same_text(owner->uid, job->metadata->uid);
        if (!is_its || !job_has_finalizer(pod) || is_counted)
            continue;
        struct kube_object *copy = context_copy(context, pod);
        if (copy)
            kube_strings_drop(&copy->metadata->finalizers, JOB_FINALIZER);
        context_update(context, copy);
    }
    objects_deinit(&pods);
}

void job_reconcile(struct context *context) {
    const struct kube_object *object = context_get(context, context->kind, context->namespace, context->name);
    const char *manager = object ? object->job->spec.managed_by : NULL;
    const struct kube_job_condition *finished = object ? finished_condition(&object->job->status) : NULL;
    if (manager && strcmp(manager, "kubernetes.io/job-controller") != 0)
        return;
    if (object && !finished)
        reconcile_open(context, object);
    else if (object && !is_deleting(object))
        expire(context, object, finished);
    context->group += 2;
    release_orphans(context, finished ? NULL : object);
}
