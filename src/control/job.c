/* Job: pods until enough have succeeded (upstream: pkg/controller/job, 1.31; completionMode NonIndexed and Indexed).
 *
 * A finished pod is counted once, and stays counted when somebody deletes it: an annotation of the job names the pods that are counted and still
 * there; a finished pod that it does not name is new. It is written together with the status, so the two agree. (Upstream puts a finalizer on every
 * pod instead, which would keep pods from going while no controller runs; here a pod that ends and vanishes before it is seen is simply replaced.) A
 * failed pod is replaced after 10 s, doubling up to 6 min, until backoffLimit. */
#include <limits.h>
#include <stdio.h>

#include "control/control_priv.h"

#define BACKOFF_FIRST_NS (10 * NS_PER_S)
#define BACKOFF_MAX_NS (360 * NS_PER_S)
#define INDEX_ANNOTATION "batch.kubernetes.io/job-completion-index"
#define COUNTED_ANNOTATION "tidemill.dev/counted-pods"
#define COUNTED_LETTERS 8
#define COMPLETIONS_INDEXED_MAX 100000

int job_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_kind *kind = (object ? object : old)->kind;
    if (kind == &kube_kind_job)
        return control_enqueue_object(control, CONTROLLER_JOB, object ? object : old);
    if (kind != &kube_kind_pod)
        return 0;
    int r = control_enqueue_controller_of(control, CONTROLLER_JOB, &kube_kind_job, object);
    return r < 0 || object ? r : control_enqueue_controller_of(control, CONTROLLER_JOB, &kube_kind_job, old);
}

/* ---- one run ---- */

struct run {
    struct context *context;
    const struct kube_object *object;
    const struct kube_job *job;
    struct kube_object *copy; /* its status is changed */
    struct kube_job_status *status;
    struct managed_list pods; /* all of the job's */
    int32_t active, ready, succeeded, failed, terminating, restarts;
    bool indexed;
    uint8_t *indexes;    /* of an indexed job: what is known of each completion index */
    int32_t completions; /* -1: any success ends it */
    int64_t last_failure_ns;
    struct buffer counted; /* the annotation's next value */
};
enum { INDEX_OPEN, INDEX_ACTIVE, INDEX_DONE };

static const struct kube_job_condition *job_condition(const struct kube_job_status *status, const char *type) {
    for (size_t i = 0; i < status->conditions.count; i++)
        if (text_is(status->conditions.items[i].type, type))
            return &status->conditions.items[i];
    return NULL;
}

static const struct kube_job_condition *finished_condition(const struct kube_job_status *status) {
    for (size_t i = 0; i < status->conditions.count; i++) {
        const struct kube_job_condition *condition = &status->conditions.items[i];
        if ((text_is(condition->type, "Complete") || text_is(condition->type, "Failed")) && text_is(condition->status, "True"))
            return condition;
    }
    return NULL;
}

static void set_condition(struct run *run, const char *type, const char *status, const char *reason, const char *message) {
    struct kube_job_condition_array *list = &run->status->conditions;
    const struct kube_job_condition *present = job_condition(run->status, type);
    if (present ? text_is(present->status, status) : text_is(status, "False"))
        return;
    size_t at = present ? (size_t)(present - list->items) : list->count;
    struct kube_job_condition *items = ARENA_ARRAY(run->copy->arena, struct kube_job_condition, list->count + 1);
    if (!items) {
        context_fail(run->context);
        return;
    }
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    struct kube_time now = context_now(run->context);
    items[at] = (struct kube_job_condition){
        .type = type, .status = status, .reason = reason, .message = message, .last_probe_time = now, .last_transition_time = now};
    list->items = items;
    list->count = MAX(list->count, at + 1);
}

/* ---- counting ---- */

static int32_t pod_index(const struct run *run, const struct kube_pod *pod) {
    int64_t index;
    const char *text = kube_map_find(&pod->metadata.annotations, INDEX_ANNOTATION);
    if (!run->indexed || !text || slice_parse_i64(slice_of(text), &index) < 0 || index < 0 || index >= run->completions)
        return -1;
    return (int32_t)index;
}

/* Notes that the finished pod is counted; true when it was not before. */
static bool count_once(struct run *run, const struct kube_object *pod) {
    char letters[COUNTED_LETTERS + 1];
    safe_letters(text_hash(TEXT_HASH_INIT, pod->metadata->uid), letters, COUNTED_LETTERS);
    const char *before = kube_map_find(&run->job->metadata.annotations, COUNTED_ANNOTATION);
    if (buffer_printf(&run->counted, "%s%s", run->counted.len ? "," : "", letters) < 0)
        context_fail(run->context);
    return slice_find(slice_of(before), slice_of(letters)) < 0;
}

static bool is_counted(const struct run *run, const struct kube_object *pod) {
    char letters[COUNTED_LETTERS + 1];
    safe_letters(text_hash(TEXT_HASH_INIT, pod->metadata->uid), letters, COUNTED_LETTERS);
    return slice_find(slice_of(kube_map_find(&run->job->metadata.annotations, COUNTED_ANNOTATION)), slice_of(letters)) >= 0;
}

static int64_t finished_at(const struct kube_pod *pod) {
    int64_t latest = pod->metadata.creation_timestamp.ns;
    for (size_t i = 0; i < pod->status.container_statuses.count; i++) {
        const struct kube_container_state_terminated *terminated = pod->status.container_statuses.items[i].state.terminated;
        if (terminated && terminated->finished_at.set)
            latest = MAX(latest, terminated->finished_at.ns);
    }
    return latest;
}

static void count_restarts(struct run *run, const struct kube_container_status_array *statuses) {
    for (size_t i = 0; i < statuses->count; i++)
        run->restarts += statuses->items[i].restart_count;
}

static void count_pod(struct run *run, const struct kube_object *object) {
    const struct kube_pod *pod = object->pod;
    int32_t index = pod_index(run, pod);
    if (text_is(pod->status.phase, "Succeeded")) {
        if (index >= 0)
            run->indexes[index] = INDEX_DONE;
        run->succeeded += count_once(run, object);
    } else if (is_deleting(object) && !is_counted(run, object)) { /* one that is made to end may well fail: no fault of its own */
        run->terminating++;
    } else if (text_is(pod->status.phase, "Failed")) {
        run->failed += count_once(run, object);
        run->last_failure_ns = MAX(run->last_failure_ns, finished_at(pod));
    } else {
        run->active++;
        run->ready += kube_pod_is_ready(pod);
        if (index >= 0 && run->indexes[index] == INDEX_OPEN)
            run->indexes[index] = INDEX_ACTIVE;
        if (text_is(pod->spec.restart_policy, "OnFailure")) {
            count_restarts(run, &pod->status.container_statuses);
            count_restarts(run, &pod->status.init_container_statuses);
        }
    }
}

/* "0-3,7" marks the indexes that the status already knows as done. */
static void read_completed_indexes(struct run *run) {
    struct slice rest = slice_of(run->job->status.completed_indexes);
    while (rest.len) {
        struct slice part = slice_cut(&rest, ','), last = part;
        struct slice first = slice_cut(&last, '-');
        uint64_t from, to;
        if (slice_parse_u64(first, (uint64_t)INT32_MAX, &from) < 0)
            continue;
        if (!last.data || slice_parse_u64(last, (uint64_t)INT32_MAX, &to) < 0)
            to = from;
        for (uint64_t i = from; i <= to && i < (uint64_t)run->completions; i++)
            run->indexes[i] = INDEX_DONE;
    }
}

static void write_completed_indexes(struct run *run) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(256 * KIB);
    run->succeeded = 0;
    for (int32_t i = 0; i < run->completions; i++) {
        if (run->indexes[i] != INDEX_DONE)
            continue;
        int32_t last = i;
        while (last + 1 < run->completions && run->indexes[last + 1] == INDEX_DONE)
            last++;
        buffer_printf(&text, last > i + 1 ? "%s%d-%d" : last > i ? "%s%d,%d" : "%s%d", text.len ? "," : "", i, last);
        run->succeeded += last - i + 1;
        i = last;
    }
    run->status->completed_indexes = text.len ? arena_dup(run->copy->arena, buffer_slice(&text)) : NULL;
}

static void count(struct run *run) {
    run->indexed = text_is(run->job->spec.completion_mode, "Indexed") && run->job->spec.completions;
    run->completions = run->job->spec.completions ? *run->job->spec.completions : -1;
    if (run->indexed) {
        run->completions = MIN(run->completions, COMPLETIONS_INDEXED_MAX);
        run->indexes = arena_alloc(run->context->arena, (size_t)run->completions + 1);
        if (!run->indexes) {
            context_fail(run->context);
            run->indexed = false;
        } else {
            read_completed_indexes(run);
        }
    }
    run->failed = run->job->status.failed;
    run->succeeded = run->job->status.succeeded;
    for (size_t i = 0; i < run->pods.list.count; i++)
        count_pod(run, run->pods.list.items[i].object);
    if (run->indexed)
        write_completed_indexes(run);
}

/* ---- pods ---- */

static void delete_active(struct run *run, int32_t most) {
    /* Those that do least first: not ready before ready, in a stable order. */
    for (int ready = 0; ready < 2; ready++) {
        for (size_t i = 0; i < run->pods.list.count && most > 0; i++) {
            const struct kube_object *pod = run->pods.list.items[i].object;
            if (!pod_is_active(pod) || kube_pod_is_ready(pod->pod) != (ready == 1))
                continue;
            context_delete(run->context, pod, NULL, -1);
            context_event(run->context, run->object, "Normal", "SuccessfulDelete", "Deleted pod: %s", pod->metadata->name);
            run->active--;
            most--;
        }
    }
}

static int set_labels(struct run *run, struct kube_object *pod) {
    static const char *const keys[] = {"batch.kubernetes.io/controller-uid", "controller-uid", "batch.kubernetes.io/job-name", "job-name"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *value = i < 2 ? run->object->metadata->uid : run->object->metadata->name;
        if (kube_map_set(&pod->metadata->labels, pod->arena, keys[i], value) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int add_index_variable(struct kube_object *pod, const char *index) {
    struct kube_container_array *lists[] = {&pod->pod->spec.init_containers, &pod->pod->spec.containers};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        for (size_t j = 0; j < lists[i]->count; j++) {
            struct kube_env_var_array *env = &lists[i]->items[j].env;
            struct kube_env_var *items = ARENA_ARRAY(pod->arena, struct kube_env_var, env->count + 1);
            if (!items)
                return -ENOMEM;
            if (env->count)
                memcpy(items, env->items, env->count * sizeof *items);
            items[env->count] = (struct kube_env_var){.name = "JOB_COMPLETION_INDEX", .value = index};
            env->items = items;
            env->count++;
        }
    }
    return 0;
}

static int set_index(struct run *run, struct kube_object *pod) {
    int32_t index = 0;
    while (index < run->completions && run->indexes[index] != INDEX_OPEN)
        index++;
    if (index == run->completions)
        return -ENOENT;
    run->indexes[index] = INDEX_ACTIVE;
    const char *text = arena_printf(pod->arena, "%d", index);
    if (!text || kube_map_set(&pod->metadata->annotations, pod->arena, INDEX_ANNOTATION, text) < 0 ||
        kube_map_set(&pod->metadata->labels, pod->arena, INDEX_ANNOTATION, text) < 0 || add_index_variable(pod, text) < 0)
        return -ENOMEM;
    if (!pod->pod->spec.hostname)
        pod->pod->spec.hostname = arena_printf(pod->arena, "%.50s-%s", run->object->metadata->name, text);
    return 0;
}

static void create(struct run *run, int32_t wanted) {
    for (int32_t i = 0; i < MIN(wanted, CREATES_PER_RECONCILE_MAX) && !run->context->error; i++) {
        struct kube_object *pod = pod_from_template(run->context, &run->job->spec.template, run->object);
        if (!pod)
            return;
        int r = set_labels(run, pod);
        if (r == 0 && run->indexed)
            r = set_index(run, pod);
        if (r < 0) {
            kube_object_unref(pod);
            if (r == -ENOMEM)
                context_fail(run->context);
            return;
        }
        const char *name = arena_strdup(run->context->arena, pod->metadata->name);
        context_create(run->context, pod);
        context_event(run->context, run->object, "Normal", "SuccessfulCreate", "Created pod: %s", name);
        run->active++;
    }
}

/* How long to wait since the last failure before the next pod. */
static int64_t backoff_left_ns(const struct run *run) {
    if (run->failed == 0 || run->last_failure_ns == 0)
        return 0;
    int64_t backoff_ns = run->failed > 6 ? BACKOFF_MAX_NS : MIN(BACKOFF_FIRST_NS << (run->failed - 1), BACKOFF_MAX_NS);
    return run->last_failure_ns + backoff_ns - run->context->wall_ns;
}

static void adjust(struct run *run) {
    int32_t parallelism = MAX(0, int32_or(run->job->spec.parallelism, 1)), wanted = parallelism;
    if (run->completions < 0)
        wanted = run->succeeded > 0 ? MIN(run->active, parallelism) : parallelism;
    else
        wanted = MIN(run->completions - run->succeeded, parallelism);
    wanted = MAX(0, wanted);
    if (run->active > wanted) {
        delete_active(run, run->active - wanted);
        return;
    }
    if (run->active == wanted)
        return;
    int64_t left_ns = backoff_left_ns(run);
    if (left_ns > 0)
        context_requeue(run->context, left_ns / NS_PER_MS + 1);
    else
        create(run, wanted - run->active);
}

/* ---- ends ---- */

static void fail(struct run *run, const char *reason, const char *message) {
    int32_t active = run->active;
    delete_active(run, INT_MAX);
    run->failed += active - run->active;
    set_condition(run, "FailureTarget", "True", reason, message);
    set_condition(run, "Failed", "True", reason, message);
    context_event(run->context, run->object, "Warning", reason, "%s", message);
}

static void complete(struct run *run) {
    delete_active(run, INT_MAX);
    set_condition(run, "SuccessCriteriaMet", "True", "CompletionsReached", "Reached expected number of succeeded pods");
    set_condition(run, "Complete", "True", "CompletionsReached", "Reached expected number of succeeded pods");
    run->status->completion_time = context_now(run->context);
    context_event(run->context, run->object, "Normal", "Completed", "Job completed");
}

static bool is_complete(const struct run *run) {
    return run->completions < 0 ? run->succeeded > 0 && run->active == 0 : run->succeeded >= run->completions;
}

static bool is_past_deadline(struct run *run) {
    if (!run->job->spec.active_deadline_seconds || !run->status->start_time.set)
        return false;
    int64_t left_ns = run->status->start_time.ns + *run->job->spec.active_deadline_seconds * NS_PER_S - run->context->wall_ns;
    if (left_ns > 0)
        context_requeue(run->context, left_ns / NS_PER_MS + 1);
    return left_ns <= 0;
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

static void suspend(struct run *run) {
    delete_active(run, INT_MAX);
    run->status->start_time = (struct kube_time){.set = false};
    set_condition(run, "Suspended", "True", "JobSuspended", "Job suspended");
}

static void step(struct run *run) {
    int32_t backoff_limit = int32_or(run->job->spec.backoff_limit, 6);
    if (run->job->spec.suspend && *run->job->spec.suspend) {
        suspend(run);
        return;
    }
    if (job_condition(run->status, "Suspended"))
        set_condition(run, "Suspended", "False", "JobResumed", "Job resumed");
    if (!run->status->start_time.set)
        run->status->start_time = context_now(run->context);
    if (run->failed > backoff_limit || (run->restarts > 0 && run->restarts >= backoff_limit))
        fail(run, "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    else if (is_past_deadline(run))
        fail(run, "DeadlineExceeded", "Job was active longer than specified deadline");
    else if (is_complete(run))
        complete(run);
    else
        adjust(run);
}

/* Before the status: one commit holds both. */
static void write_counted(struct run *run) {
    const char *before = kube_map_find(&run->job->metadata.annotations, COUNTED_ANNOTATION);
    if (slice_equal(buffer_slice(&run->counted), slice_of(before)))
        return;
    struct kube_object *copy = context_copy(run->context, run->object);
    const char *text = arena_dup(run->context->arena, buffer_slice(&run->counted));
    if (!copy || !text || kube_map_set(&copy->metadata->annotations, copy->arena, COUNTED_ANNOTATION, text) < 0) {
        kube_object_unref(copy);
        context_fail(run->context);
        return;
    }
    if (!*text)
        kube_map_unset(&copy->metadata->annotations, COUNTED_ANNOTATION);
    context_update(run->context, copy);
}

static void reconcile_open(struct context *context, const struct kube_object *object) {
    struct run run = {.context = context, .object = object, .job = object->job};
    run.copy = context_copy(context, object);
    if (!run.copy)
        return;
    run.status = &run.copy->job->status;
    run.counted = BUFFER_INIT(200 * KIB);
    context_claim(context, &kube_kind_pod, object, object->job->spec.selector, NULL, &run.pods);
    count(&run);
    write_counted(&run);
    buffer_deinit(&run.counted);
    if (context->error == 0 && !is_deleting(object))
        step(&run);
    /* What was created and deleted here is counted when it shows. */
    run.status->succeeded = run.succeeded;
    run.status->failed = run.failed;
    run.status->active = finished_condition(run.status) ? 0 : MIN(run.active, (int32_t)run.pods.list.count);
    run.status->ready = int32_new(run.copy->arena, finished_condition(run.status) ? 0 : MIN(run.ready, run.active));
    run.status->terminating = int32_new(run.copy->arena, run.terminating);
    if (!kube_equal(&kube_job_status_type, run.status, &object->job->status))
        context_update_status(context, TAKE(run.copy));
    kube_object_unref(run.copy);
    managed_flush(context, &run.pods);
}

void job_reconcile(struct context *context) {
    const struct kube_object *object = context_get(context, context->kind, context->namespace, context->name);
    if (!object)
        return;
    const struct kube_job_condition *finished = finished_condition(&object->job->status);
    if (!finished)
        reconcile_open(context, object);
    else if (!is_deleting(object))
        expire(context, object, finished);
}
