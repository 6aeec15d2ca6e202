/* Counting finished pods exactly once, whatever is deleted meanwhile (upstream: "job tracking with finalizers").
 *
 *   pod with finalizer ──(finished)──► status.uncountedTerminatedPods names it ──► its finalizer comes off ──► status.succeeded or failed counts it
 *
 * Each arrow is a write of its own, in this order, so a crash in between neither forgets nor repeats: a pod that is named and has its finalizer still
 * loses it again; one that is named and has none (or is gone) is counted and the name dropped in one write. */
#include <stdio.h>

#include "control/job_priv.h"

bool job_has_finalizer(const struct kube_object *pod) {
    return kube_strings_has(&pod->metadata->finalizers, JOB_FINALIZER);
}

/* Pods that are taken away count as failed, since some never get to say so; unless the job waits for that. */
bool job_pod_has_failed(const struct kube_job *job, const struct kube_object *pod) {
    if (text_is(pod->pod->status.phase, "Failed"))
        return true;
    return !job_waits_for_failure(job) && is_deleting(pod) && !text_is(pod->pod->status.phase, "Succeeded");
}

int32_t job_annotation_number(const struct kube_object *pod, const char *key) {
    uint64_t number;
    const char *text = kube_map_find(&pod->metadata->annotations, key);
    return text && slice_parse_u64(slice_of(text), INT32_MAX, &number) == 0 ? (int32_t)number : -1;
}

int32_t job_pod_index(const struct job_run *run, const struct kube_object *pod) {
    int32_t index = run->indexed ? job_annotation_number(pod, JOB_INDEX_KEY) : -1;
    return index < run->completions ? index : -1;
}

/* ---- indexes as text ---- */

void job_each_index(const struct job_run *run, const char *text, void (*each)(void *userdata, int32_t index), void *userdata) {
    for (struct slice rest = slice_of(text); rest.data && rest.len;) {
        struct slice part = slice_cut(&rest, ','), last = part, first = slice_cut(&last, '-');
        uint64_t from, to;
        if (slice_parse_u64(first, INT32_MAX, &from) < 0)
            continue;
        if (!last.data || slice_parse_u64(last, INT32_MAX, &to) < 0)
            to = from;
        for (uint64_t i = from; i <= to && i < (uint64_t)run->completions; i++)
            each(userdata, (int32_t)i);
    }
}

const char *job_format_indexes(struct job_run *run, enum index_state state) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    for (int32_t i = 0; i < run->completions; i++) {
        int32_t last = i;
        if (run->indexes[i] != state)
            continue;
        while (last + 1 < run->completions && run->indexes[last + 1] == state)
            last++;
        buffer_printf(&text, last > i + 1 ? "%s%d-%d" : last > i ? "%s%d,%d" : "%s%d", text.len ? "," : "", i, last);
        i = last;
    }
    const char *result = arena_dup(run->copy->arena, buffer_slice(&text));
    if (!result)
        context_fail(run->context);
    return result ? result : "";
}

static void set_succeeded(void *userdata, int32_t index) {
    ((struct job_run *)userdata)->indexes[index] = INDEX_SUCCEEDED;
}
static void set_failed(void *userdata, int32_t index) {
    ((struct job_run *)userdata)->indexes[index] = INDEX_FAILED;
}

/* ---- the list of the uncounted ---- */

static struct kube_uncounted_terminated_pods *uncounted(struct job_run *run) {
    if (!run->status->uncounted_terminated_pods)
        run->status->uncounted_terminated_pods = ARENA_NEW(run->copy->arena, struct kube_uncounted_terminated_pods);
    if (!run->status->uncounted_terminated_pods)
        context_fail(run->context);
    return run->status->uncounted_terminated_pods;
}

static bool is_uncounted(const struct job_run *run, const struct kube_object *pod) {
    const struct kube_uncounted_terminated_pods *list = run->status->uncounted_terminated_pods;
    return list && (kube_strings_has(&list->succeeded, pod->metadata->uid) || kube_strings_has(&list->failed, pod->metadata->uid));
}

static void add_uncounted(struct job_run *run, const struct kube_object *pod, bool failed) {
    struct kube_uncounted_terminated_pods *lists = uncounted(run);
    struct kube_string_list *list = lists ? failed ? &lists->failed : &lists->succeeded : NULL;
    const char *uid = arena_strdup(run->copy->arena, pod->metadata->uid);
    if (!list || !uid || kube_strings_add(list, run->copy->arena, uid))
        context_fail(run->context);
}

/* Still has its finalizer. */
static bool is_held(const struct job_run *run, const char *uid) {
    for (size_t i = 0; i < run->pods.list.count; i++)
        if (same_text(run->pods.list.items[i].object->metadata->uid, uid))
            return job_has_finalizer(run->pods.list.items[i].object);
    return false;
}

/* How many leave the list. */
static int32_t settle(const struct job_run *run, struct kube_string_list *list) {
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (is_held(run, list->items[i]))
            list->items[kept++] = list->items[i];
    int32_t settled = (int32_t)(list->count - kept);
    list->count = kept;
    return settled;
}

/* ---- looking at pods ---- */

static int64_t finished_ns(const struct kube_object *pod) {
    const struct kube_container_status_array *containers = &pod->pod->status.container_statuses;
    int64_t latest = 0;
    for (size_t i = 0; i < containers->count; i++)
        if (containers->items[i].state.terminated && containers->items[i].state.terminated->finished_at.set)
            latest = MAX(latest, containers->items[i].state.terminated->finished_at.ns);
    if (latest == 0 && is_deleting(pod))
        latest = pod->metadata->deletion_timestamp.ns;
    return latest ? latest : pod->metadata->creation_timestamp.ns;
}

static void count_restarts(struct job_run *run, const struct kube_container_status_array *statuses) {
    for (size_t i = 0; i < statuses->count; i++)
        run->restarts += statuses->items[i].restart_count;
}

/* A failed pod of an index whose failures are limited keeps its finalizer, as it knows how often the index has failed, until the index has ended or
 * the next pod has taken the number over. True: it is to be kept. */
static bool keep_failures(struct job_run *run, const struct kube_object *pod, int32_t index) {
    if (!run->latest_failures || index < 0)
        return false;
    enum failure_action action = job_judge(run, pod, NULL);
    int32_t before = MAX(job_annotation_number(pod, JOB_FAILURES_ANNOTATION), 0);
    if (run->indexes[index] == INDEX_SUCCEEDED || run->indexes[index] == INDEX_FAILED)
        return false;
    if (action == FAILURE_FAILS_INDEX || (action != FAILURE_IGNORED && before >= *run->job->spec.backoff_limit_per_index)) {
        run->indexes[index] = INDEX_FAILED;
        return false;
    }
    const struct kube_object *other = run->latest_failures[index];
    if (!other || job_annotation_number(other, JOB_FAILURES_ANNOTATION) <= before)
        run->latest_failures[index] = pod;
    return true;
}

static bool is_latest(const struct job_run *run, const struct kube_object *pod, int32_t index) {
    return index >= 0 && run->latest_failures && run->latest_failures[index] == pod && run->indexes[index] == INDEX_OPEN;
}

static void look_at_active(struct job_run *run, const struct kube_object *pod, int32_t index) {
    run->active++;
    run->ready += kube_pod_is_ready(pod->pod);
    if (index >= 0 && run->indexes[index] == INDEX_OPEN)
        run->indexes[index] = INDEX_ACTIVE;
    if (text_is(pod->pod->spec.restart_policy, "OnFailure")) {
        count_restarts(run, &pod->pod->status.container_statuses);
        count_restarts(run, &pod->pod->status.init_container_statuses);
    }
}

static void look_at(struct job_run *run, const struct kube_object *pod) {
    int32_t index = job_pod_index(run, pod);
    if (text_is(pod->pod->status.phase, "Succeeded")) {
        if (index >= 0)
            run->indexes[index] = INDEX_SUCCEEDED;
    } else if (pod_is_active(pod)) {
        look_at_active(run, pod, index);
    }
    run->terminating += is_deleting(pod) && !pod_is_finished(pod->pod);
    if (job_pod_has_failed(run->job, pod) && job_has_finalizer(pod) && !run->fail_message && !is_uncounted(run, pod))
        job_judge(run, pod, &run->fail_message);
}

/* Finished pods that are not counted yet get on the list. */
static void note_finished(struct job_run *run, const struct kube_object *pod, size_t *noted) {
    int32_t index = job_pod_index(run, pod);
    bool succeeded = text_is(pod->pod->status.phase, "Succeeded"), failed = job_pod_has_failed(run->job, pod);
    if ((!succeeded && !failed) || !job_has_finalizer(pod) || is_uncounted(run, pod) || *noted >= JOB_UNCOUNTED_MAX)
        return;
    if (failed && is_latest(run, pod, index) && !run->ending)
        return;
    bool counts = !run->indexed || index >= 0; /* a pod of no index is nobody's success or failure: it is only let go */
    if (failed && job_judge(run, pod, NULL) == FAILURE_IGNORED)
        counts = false;
    if (counts) {
        add_uncounted(run, pod, failed);
        ++*noted;
    } else if (VECTOR_PUSH(&run->released.list, pod) < 0) {
        context_fail(run->context);
    }
}

/* How often pods have failed since the last success, and when they did last: for the pauses between them. */
static void look_back(struct job_run *run) {
    int64_t succeeded_ns = 0;
    for (size_t i = 0; i < run->pods.list.count; i++)
        if (text_is(run->pods.list.items[i].object->pod->status.phase, "Succeeded"))
            succeeded_ns = MAX(succeeded_ns, finished_ns(run->pods.list.items[i].object));
    for (size_t i = 0; i < run->pods.list.count; i++) {
        const struct kube_object *pod = run->pods.list.items[i].object;
        if (!job_pod_has_failed(run->job, pod) || finished_ns(pod) <= succeeded_ns || job_judge(run, pod, NULL) == FAILURE_IGNORED)
            continue;
        run->failures_in_a_row++;
        run->last_failure_ns = MAX(run->last_failure_ns, finished_ns(pod));
    }
}

static void prepare_indexes(struct job_run *run) {
    run->indexed = text_is(run->job->spec.completion_mode, "Indexed") && run->job->spec.completions;
    run->completions = run->job->spec.completions ? *run->job->spec.completions : -1;
    if (!run->indexed)
        return;
    run->completions = MIN(run->completions, JOB_COMPLETIONS_MAX);
    run->indexes = ARENA_ARRAY(run->context->arena, uint8_t, (size_t)run->completions + 1);
    if (run->job->spec.backoff_limit_per_index)
        run->latest_failures = ARENA_ARRAY(run->context->arena, const struct kube_object *, (size_t)run->completions + 1);
    if (!run->indexes || (run->job->spec.backoff_limit_per_index && !run->latest_failures)) {
        context_fail(run->context);
        run->indexed = false;
        return;
    }
    job_each_index(run, run->job->status.completed_indexes, set_succeeded, run);
    job_each_index(run, run->job->status.failed_indexes, set_failed, run);
}

void job_count(struct job_run *run) {
    struct kube_uncounted_terminated_pods *lists = run->status->uncounted_terminated_pods;
    size_t noted = 0;
    prepare_indexes(run);
    if (lists) {
        run->status->succeeded += settle(run, &lists->succeeded);
        run->status->failed += settle(run, &lists->failed);
    }
    for (size_t i = 0; i < run->pods.list.count; i++)
        look_at(run, run->pods.list.items[i].object);
    for (size_t i = 0; run->latest_failures && i < run->pods.list.count; i++) {
        const struct kube_object *pod = run->pods.list.items[i].object;
        if (job_pod_has_failed(run->job, pod) && job_has_finalizer(pod) && !is_uncounted(run, pod))
            keep_failures(run, pod, job_pod_index(run, pod));
    }
    run->ending = run->ending || run->fail_message;
    for (size_t i = 0; i < run->pods.list.count && !run->context->error; i++)
        note_finished(run, run->pods.list.items[i].object, &noted);
    look_back(run);
    lists = run->status->uncounted_terminated_pods;
    run->succeeded = run->status->succeeded + (int32_t)(lists ? lists->succeeded.count : 0);
    run->failed = run->status->failed + (int32_t)(lists ? lists->failed.count : 0);
    for (int32_t i = 0; run->indexed && i < run->completions; i++) {
        run->indexes_succeeded += run->indexes[i] == INDEX_SUCCEEDED;
        run->indexes_failed += run->indexes[i] == INDEX_FAILED;
    }
    if (run->indexed)
        run->succeeded = run->status->succeeded = run->indexes_succeeded;
}

/* ---- letting go ---- */

void job_release(struct job_run *run, struct managed *pod) {
    if (!job_has_finalizer(pod->object) || !managed_change(run->context, pod))
        return;
    kube_strings_drop(&pod->changed->metadata->finalizers, JOB_FINALIZER);
}

void job_release_counted(struct job_run *run) {
    for (size_t i = 0; i < run->pods.list.count; i++) {
        struct managed *pod = &run->pods.list.items[i];
        bool released = is_uncounted(run, pod->object);
        for (size_t k = 0; k < run->released.list.count && !released; k++)
            released = run->released.list.items[k] == pod->object;
        if (released)
            job_release(run, pod);
    }
}
