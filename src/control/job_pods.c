/* A job's pods: as many as are wanted, each with its index where there are indexes, and after a pause that grows with failures (10 s, doubling up to
 * 10 min; upstream: manageJob, backoff_utils.go). */
#include <limits.h>
#include <stdio.h>

#include "control/job_priv.h"

#define BACKOFF_FIRST_NS (10 * NS_PER_S)
#define BACKOFF_MAX_NS (600 * NS_PER_S)

/* ---- taking away ---- */

struct ranked {
    struct managed *pod;
    bool duplicate; /* another pod does its index */
};

static int compare_ranked(const void *left, const void *right) {
    const struct ranked *a = left, *b = right;
    if (a->duplicate != b->duplicate)
        return a->duplicate ? -1 : 1;
    const struct kube_object *one = a->pod->object, *two = b->pod->object;
    bool placed_a = one->pod->spec.node_name, placed_b = two->pod->spec.node_name;
    if (placed_a != placed_b)
        return placed_a ? 1 : -1;
    bool ready_a = kube_pod_is_ready(one->pod), ready_b = kube_pod_is_ready(two->pod);
    if (ready_a != ready_b)
        return ready_a ? 1 : -1;
    if (one->metadata->creation_timestamp.ns != two->metadata->creation_timestamp.ns)
        return one->metadata->creation_timestamp.ns > two->metadata->creation_timestamp.ns ? -1 : 1;
    return strcmp(one->metadata->name, two->metadata->name);
}

/* counts: as failures. Otherwise they lose their finalizer before. Those that do least go first. */
void job_delete_active(struct job_run *run, int32_t most, bool counts) {
    struct ranked *ranked = ARENA_ARRAY(run->context->arena, struct ranked, run->pods.list.count);
    uint8_t *seen = run->indexed ? ARENA_ARRAY(run->context->arena, uint8_t, (size_t)run->completions + 1) : NULL;
    size_t count = 0;
    if (!ranked || (run->indexed && !seen)) {
        context_fail(run->context);
        return;
    }
    for (size_t i = 0; i < run->pods.list.count; i++) {
        struct managed *pod = &run->pods.list.items[i];
        int32_t index = job_pod_index(run, pod->object);
        if (!pod_is_active(pod->object))
            continue;
        ranked[count++] = (struct ranked){pod, run->indexed && (index < 0 || seen[index])};
        if (index >= 0)
            seen[index] = true;
    }
    if (count)
        qsort(ranked, count, sizeof *ranked, compare_ranked);
    for (size_t i = 0; i < count && most > 0; i++, most--) {
        struct managed *pod = ranked[i].pod;
        if (!counts && job_has_finalizer(pod->object) && managed_change(run->context, pod)) {
            job_release(run, pod);
            context_update(run->context, TAKE(pod->changed)); /* which pod->object still is */
        }
        context_delete(run->context, pod->object, NULL, -1);
        context_event(run->context, run->object, "Normal", "SuccessfulDelete", "Deleted pod: %s", pod->object->metadata->name);
        run->active--;
        run->ready -= kube_pod_is_ready(pod->object->pod);
        run->terminating++;
    }
}

/* ---- making ---- */

static int set_labels(struct job_run *run, struct kube_object *pod) {
    static const char *const keys[] = {"batch.kubernetes.io/controller-uid", "controller-uid", "batch.kubernetes.io/job-name", "job-name"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (kube_map_set(&pod->metadata->labels, pod->arena, keys[i], i < 2 ? run->object->metadata->uid : run->object->metadata->name) < 0)
            return -ENOMEM;
    return 0;
}

static bool has_variable(const struct kube_env_var_array *env, const char *name) {
    for (size_t i = 0; i < env->count; i++)
        if (text_is(env->items[i].name, name))
            return true;
    return false;
}

/* The variable is read from the label, so that the template's containers stay the same for all pods. */
static int add_index_variable(struct kube_object *pod, struct kube_container *container) {
    struct kube_env_var_array *env = &container->env;
    struct kube_env_var *items = ARENA_ARRAY(pod->arena, struct kube_env_var, env->count + 1);
    struct kube_env_var_source *source = ARENA_NEW(pod->arena, struct kube_env_var_source);
    struct kube_object_field_selector *field = ARENA_NEW(pod->arena, struct kube_object_field_selector);
    if (!items || !source || !field)
        return -ENOMEM;
    if (has_variable(env, "JOB_COMPLETION_INDEX"))
        return 0;
    if (env->count)
        memcpy(items, env->items, env->count * sizeof *items);
    field->field_path = "metadata.labels['" JOB_INDEX_KEY "']";
    source->field_ref = field;
    items[env->count] = (struct kube_env_var){.name = "JOB_COMPLETION_INDEX", .value_from = source};
    *env = (struct kube_env_var_array){.items = items, .count = env->count + 1};
    return 0;
}

static int add_index_variables(struct kube_object *pod) {
    struct kube_container_array *lists[] = {&pod->pod->spec.init_containers, &pod->pod->spec.containers};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        for (size_t k = 0; k < lists[i]->count; k++)
            if (add_index_variable(pod, &lists[i]->items[k]) < 0)
                return -ENOMEM;
    return 0;
}

/* How often the index has failed, which the pod takes over from the one that it replaces. */
static int set_failures(struct job_run *run, struct kube_object *pod, int32_t index) {
    const struct kube_object *before = run->latest_failures[index];
    int32_t failures = before ? MAX(job_annotation_number(before, JOB_FAILURES_ANNOTATION), 0) : 0;
    int32_t ignored = before ? MAX(job_annotation_number(before, JOB_IGNORED_ANNOTATION), 0) : 0;
    if (before && job_judge(run, before, NULL) == FAILURE_IGNORED)
        ignored++;
    else if (before)
        failures++;
    const char *text = arena_printf(pod->arena, "%d", failures), *ignored_text = arena_printf(pod->arena, "%d", ignored);
    if (!text || !ignored_text || kube_map_set(&pod->metadata->annotations, pod->arena, JOB_FAILURES_ANNOTATION, text) < 0)
        return -ENOMEM;
    return ignored ? kube_map_set(&pod->metadata->annotations, pod->arena, JOB_IGNORED_ANNOTATION, ignored_text) : 0;
}

static int set_index(struct job_run *run, struct kube_object *pod, int32_t index) {
    const char *text = arena_printf(pod->arena, "%d", index), *job = run->object->metadata->name;
    const char *prefix = arena_printf(run->context->arena, "%s-%d-", job, index);
    const char *name = prefix ? context_random_name(run->context, prefix) : NULL;
    if (!text || !name || kube_map_set(&pod->metadata->annotations, pod->arena, JOB_INDEX_KEY, text) < 0 ||
        kube_map_set(&pod->metadata->labels, pod->arena, JOB_INDEX_KEY, text) < 0 || add_index_variables(pod) < 0 ||
        (run->latest_failures && set_failures(run, pod, index) < 0))
        return -ENOMEM;
    pod->metadata->name = arena_strdup(pod->arena, name);
    pod->metadata->generate_name = arena_strdup(pod->arena, prefix);
    if (!pod->pod->spec.hostname)
        pod->pod->spec.hostname = arena_printf(pod->arena, "%.50s-%d", job, index);
    return pod->metadata->name && pod->metadata->generate_name && pod->pod->spec.hostname ? 0 : -ENOMEM;
}

static void create(struct job_run *run, int32_t index) {
    struct kube_object *pod = pod_from_template(run->context, &run->job->spec.template, run->object);
    if (!pod)
        return;
    if (set_labels(run, pod) < 0 || kube_strings_add(&pod->metadata->finalizers, pod->arena, JOB_FINALIZER) < 0 ||
        (index >= 0 && set_index(run, pod, index) < 0)) {
        kube_object_unref(pod);
        context_fail(run->context);
        return;
    }
    const char *name = arena_strdup(run->context->arena, pod->metadata->name);
    context_create(run->context, pod);
    context_event(run->context, run->object, "Normal", "SuccessfulCreate", "Created pod: %s", name ? name : "");
    run->active++;
}

/* ---- when ---- */

static int64_t pause_ns(int32_t failures) {
    return failures <= 0 ? 0 : failures > 7 ? BACKOFF_MAX_NS : MIN(BACKOFF_FIRST_NS << (failures - 1), BACKOFF_MAX_NS);
}

static int64_t ended_ns(const struct kube_object *pod) {
    const struct kube_container_status_array *containers = &pod->pod->status.container_statuses;
    int64_t latest = pod->metadata->creation_timestamp.ns;
    for (size_t i = 0; i < containers->count; i++)
        if (containers->items[i].state.terminated)
            latest = MAX(latest, containers->items[i].state.terminated->finished_at.ns);
    return latest;
}

/* Of indexes that fail each by itself, each waits for itself. */
static int64_t index_wait_ns(const struct job_run *run, int32_t index) {
    const struct kube_object *before = run->latest_failures ? run->latest_failures[index] : NULL;
    if (!before)
        return 0;
    int32_t failures =
        MAX(job_annotation_number(before, JOB_FAILURES_ANNOTATION), 0) + MAX(job_annotation_number(before, JOB_IGNORED_ANNOTATION), 0) + 1;
    return ended_ns(before) + pause_ns(failures) - run->context->wall_ns;
}

static void create_indexed(struct job_run *run, int32_t missing) {
    for (int32_t i = 0; i < run->completions && missing > 0 && !run->context->error; i++) {
        if (run->indexes[i] != INDEX_OPEN)
            continue;
        int64_t wait_ns = index_wait_ns(run, i);
        if (wait_ns > 0) {
            context_requeue(run->context, wait_ns / NS_PER_MS + 1);
            continue;
        }
        create(run, i);
        run->indexes[i] = INDEX_ACTIVE;
        missing--;
    }
}

static int32_t wanted(const struct job_run *run) {
    int32_t parallelism = MAX(0, int32_or(run->job->spec.parallelism, 1));
    if (run->completions < 0)
        return run->succeeded > 0 ? MIN(run->active, parallelism) : parallelism;
    return MAX(0, MIN(run->completions - run->succeeded - run->indexes_failed, parallelism));
}

/* A pod that is refused must not keep the status from being told. */
static void create_missing(struct job_run *run, int32_t missing) {
    const char *failure = context_failure(run->context);
    unsigned group = run->context->group;
    if (failure)
        context_event(run->context, run->object, "Warning", "FailedCreate", "Error creating: %s", failure);
    run->context->group = group + 1;
    if (run->indexed)
        create_indexed(run, missing);
    for (int32_t i = 0; !run->indexed && i < missing && !run->context->error; i++)
        create(run, -1);
    run->context->group = group;
}

void job_adjust(struct job_run *run) {
    int32_t most = wanted(run);
    if (run->active > most) {
        job_delete_active(run, run->active - most, false);
        return;
    }
    int32_t missing = most - run->active - (job_waits_for_failure(run->job) ? run->terminating : 0);
    int64_t wait_ns =
        run->latest_failures || run->failures_in_a_row == 0 ? 0 : run->last_failure_ns + pause_ns(run->failures_in_a_row) - run->context->wall_ns;
    if (missing <= 0)
        return;
    if (wait_ns > 0) {
        context_requeue(run->context, wait_ns / NS_PER_MS + 1);
        return;
    }
    create_missing(run, MIN(missing, CREATES_PER_RECONCILE_MAX));
}
