/* CronJob: a Job whenever its schedule falls due (upstream: pkg/controller/cronjob, 1.32, to the words of its events).
 *
 * A run looks at what fell due last: the most recent time of the schedule since the last one that was acted upon (or since creation), but not before
 * now minus startingDeadlineSeconds. That one time is acted upon; earlier ones are missed for good. The job is named after the minute, so that a run
 * that comes again finds the job instead of making a second one. Then it asks to be run again at the next time: nothing polls.
 *
 * `status.active` is the controller's own list: jobs that it made and has not seen finish. Jobs made by hand (kubectl create job --from) are owned,
 * cleaned up with the others, and never in that list. */
#include <stdio.h>

#include "control/control_priv.h"

#define SCHEDULED_ANNOTATION "batch.kubernetes.io/cronjob-scheduled-timestamp"
#define MISSED_MANY 100
#define WAKE_AFTER_NS (100 * NS_PER_MS) /* upstream's nextScheduleDelta: clocks differ a little */

int cron_job_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_kind *kind = (object ? object : old)->kind;
    if (kind == &kube_kind_cron_job)
        return control_enqueue_object(control, CONTROLLER_CRON_JOB, object ? object : old);
    if (kind != &kube_kind_job)
        return 0;
    int r = control_enqueue_controller_of(control, CONTROLLER_CRON_JOB, &kube_kind_cron_job, object);
    return r < 0 || object ? r : control_enqueue_controller_of(control, CONTROLLER_CRON_JOB, &kube_kind_cron_job, old);
}

struct run {
    struct context *context;
    const struct kube_object *object;
    const struct kube_cron_job *cron_job;
    struct objects jobs;      /* those it controls */
    struct kube_object *copy; /* its status is changed */
    struct kube_cron_job_status *status;
};

/* ---- what became of its jobs ---- */

static const char *finished_as(const struct kube_object *job) {
    const struct kube_job_condition_array *conditions = &job->job->status.conditions;
    for (size_t i = 0; i < conditions->count; i++)
        if ((text_is(conditions->items[i].type, "Complete") || text_is(conditions->items[i].type, "Failed")) &&
            text_is(conditions->items[i].status, "True"))
            return conditions->items[i].type;
    return NULL;
}

static size_t active_find(const struct run *run, const char *uid) {
    for (size_t i = 0; i < run->status->active.count; i++)
        if (same_text(run->status->active.items[i].uid, uid))
            return i;
    return SIZE_MAX;
}

static void active_drop(struct run *run, size_t at) {
    struct kube_object_reference_array *active = &run->status->active;
    if (at < active->count)
        memmove(&active->items[at], &active->items[at + 1], (--active->count - at) * sizeof *active->items);
}

static void active_add(struct run *run, const struct kube_object *job, const char *name, const char *uid) {
    struct kube_object_reference_array *active = &run->status->active;
    struct arena *arena = run->copy->arena;
    struct kube_object_reference *items = ARENA_ARRAY(arena, struct kube_object_reference, active->count + 1);
    if (!items) {
        context_fail(run->context);
        return;
    }
    if (active->count)
        memcpy(items, active->items, active->count * sizeof *items);
    items[active->count] = (struct kube_object_reference){
        .kind = "Job",
        .api_version = "batch/v1",
        .namespace = run->copy->metadata->namespace,
        .name = arena_strdup(arena, name),
        .uid = uid ? arena_strdup(arena, uid) : NULL,
        .resource_version = job && job->metadata->resource_version ? arena_strdup(arena, job->metadata->resource_version) : NULL,
    };
    active->items = items;
    active->count++;
}

static bool controls(const struct run *run, const struct kube_object *job) {
    return kube_is_controlled_by(job->metadata, run->object->metadata->uid);
}

static void find_jobs(struct run *run) {
    context_list(run->context, &kube_kind_job, run->object->metadata->namespace, &run->jobs);
    size_t kept = 0;
    for (size_t i = 0; i < run->jobs.list.count; i++)
        if (controls(run, run->jobs.list.items[i]))
            run->jobs.list.items[kept++] = run->jobs.list.items[i];
    run->jobs.list.count = kept;
}

static void look_at_job(struct run *run, const struct kube_object *job) {
    const char *condition = finished_as(job);
    size_t at = active_find(run, job->metadata->uid);
    if (at == SIZE_MAX && !condition) {
        context_event(run->context, run->object, "Warning", "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s",
                      job->metadata->name);
    } else if (condition && at != SIZE_MAX) {
        active_drop(run, at);
        context_event(run->context, run->object, "Normal", "SawCompletedJob", "Saw completed job: %s, condition: %s", job->metadata->name, condition);
    }
    const struct kube_time *completed = &job->job->status.completion_time;
    if (text_is(condition, "Complete") && completed->set &&
        (!run->status->last_successful_time.set || completed->ns > run->status->last_successful_time.ns))
        run->status->last_successful_time = *completed;
}

/* The list knows a job by its uid. One that was put on it when the job was asked for has none yet: it gets it here. */
static void look_at_active(struct run *run) {
    for (size_t i = 0; i < run->status->active.count;) {
        struct kube_object_reference *reference = &run->status->active.items[i];
        const struct kube_object *job = context_get(run->context, &kube_kind_job, run->object->metadata->namespace, reference->name);
        bool is_it = job && controls(run, job) && (!reference->uid || same_text(reference->uid, job->metadata->uid));
        if (is_it && !reference->uid)
            reference->uid = arena_strdup(run->copy->arena, job->metadata->uid);
        if (is_it) {
            i++;
            continue;
        }
        context_event(run->context, run->object, "Normal", "MissingJob", "Active job went missing: %s", reference->name);
        active_drop(run, i);
    }
}

static void delete_job(struct run *run, const struct kube_object *job) {
    context_delete(run->context, job, "Background", -1);
    active_drop(run, active_find(run, job->metadata->uid));
    context_event(run->context, run->object, "Normal", "SuccessfulDelete", "Deleted job %s", job->metadata->name);
}

static int64_t started_ns(const struct kube_object *job) {
    return job->job->status.start_time.set ? job->job->status.start_time.ns : INT64_MAX;
}

static int compare_started(const void *left, const void *right) {
    const struct kube_object *a = *(const struct kube_object *const *)left, *b = *(const struct kube_object *const *)right;
    if (started_ns(a) != started_ns(b))
        return started_ns(a) < started_ns(b) ? -1 : 1;
    return strcmp(a->metadata->name, b->metadata->name);
}

/* The oldest that ended thus, beyond the limit. The list is sorted. */
static void trim_history(struct run *run, const char *condition, const int32_t *limit) {
    size_t ended = 0;
    for (size_t i = 0; i < run->jobs.list.count; i++)
        ended += text_is(finished_as(run->jobs.list.items[i]), condition);
    for (size_t i = 0; limit && i < run->jobs.list.count && ended > (size_t)MAX(*limit, 0); i++) {
        const struct kube_object *job = run->jobs.list.items[i];
        if (!text_is(finished_as(job), condition))
            continue;
        ended--;
        if (!is_deleting(job))
            delete_job(run, job);
    }
}

static void look_at_jobs(struct run *run) {
    find_jobs(run);
    look_at_active(run);
    for (size_t i = 0; i < run->jobs.list.count; i++)
        look_at_job(run, run->jobs.list.items[i]);
    if (run->jobs.list.count)
        qsort(run->jobs.list.items, run->jobs.list.count, sizeof *run->jobs.list.items, compare_started);
    trim_history(run, "Complete", run->cron_job->spec.successful_jobs_history_limit);
    trim_history(run, "Failed", run->cron_job->spec.failed_jobs_history_limit);
}

/* ---- when ---- */

struct due {
    struct cron cron;
    const struct zone *zone;
    int64_t earliest_s; /* what is due is later than this */
    int64_t at_s;       /* the most recent time that is due; CRON_NEVER: none */
    bool missed_many;
};

/* Looks ever further back from now, so that a cron job that slept for a year costs no more than one that slept for a day. */
static int64_t most_recent(const struct due *due, int64_t first_s, int64_t between_s, int64_t now_s) {
    int64_t found_s = first_s, from_s = first_s;
    for (int64_t back_s = between_s; now_s - back_s > first_s; back_s *= 2) {
        int64_t next_s = cron_next(&due->cron, due->zone, now_s - back_s);
        if (next_s <= now_s) {
            found_s = from_s = next_s;
            break;
        }
    }
    while ((from_s = cron_next(&due->cron, due->zone, from_s)) <= now_s)
        found_s = from_s;
    return found_s;
}

/* What is wrong with the schedule, or NULL. */
static const char *find_due(const struct run *run, struct due *due, bool within_deadline) {
    int64_t now_s = run->context->wall_ns / NS_PER_S;
    const struct kube_time *last = &run->cron_job->status.last_schedule_time, *created = &run->object->metadata->creation_timestamp;
    due->earliest_s = (last->set ? last->ns : created->ns) / NS_PER_S;
    const int64_t *deadline_s = run->cron_job->spec.starting_deadline_seconds;
    if (within_deadline && deadline_s && now_s - *deadline_s > due->earliest_s)
        due->earliest_s = now_s - *deadline_s;
    int64_t first_s = cron_next(&due->cron, due->zone, due->earliest_s);
    int64_t second_s = first_s == CRON_NEVER ? CRON_NEVER : cron_next(&due->cron, due->zone, first_s);
    due->at_s = CRON_NEVER;
    due->missed_many = false;
    if (first_s == CRON_NEVER)
        return "time difference between two schedules is less than 1 second"; /* upstream's words: both are its zero time */
    if (now_s < first_s)
        return NULL;
    due->at_s = first_s;
    if (now_s < second_s)
        return NULL;
    int64_t between_s = second_s - first_s;
    due->missed_many = (now_s - first_s) / between_s + 1 > MISSED_MANY;
    due->at_s = most_recent(due, first_s, between_s, now_s);
    return NULL;
}

static void wake_at_next(struct run *run, struct due *due) {
    find_due(run, due, false);
    int64_t next_s = cron_next(&due->cron, due->zone, due->at_s == CRON_NEVER ? due->earliest_s : due->at_s);
    if (next_s != CRON_NEVER)
        context_requeue(run->context, (next_s * NS_PER_S + WAKE_AFTER_NS - run->context->wall_ns) / NS_PER_MS);
}

/* ---- making jobs ---- */

static const char *format_local(struct run *run, const struct due *due) {
    int32_t offset = zone_offset(due->zone, due->at_s), minutes = (offset < 0 ? -offset : offset) / 60;
    char text[TIMESTAMP_BYTES];
    timestamp_format((due->at_s + offset) * NS_PER_S, text);
    if (offset == 0)
        return arena_strdup(run->context->arena, text);
    return arena_printf(run->context->arena, "%.19s%c%02d:%02d", text, offset < 0 ? '-' : '+', minutes / 60, minutes % 60);
}

static struct kube_object *job_new(struct run *run, const struct due *due, const char *name) {
    struct kube_object *object = kube_object_new(&kube_kind_job);
    const struct kube_job_template_spec *template = &run->cron_job->spec.job_template;
    const char *scheduled = format_local(run, due);
    struct kube_object_meta from = {.labels = template->metadata.labels, .annotations = template->metadata.annotations}, copied = {.name = NULL};
    if (!object || !scheduled || kube_copy(&kube_object_meta_type, object->arena, &from, &copied) < 0 ||
        kube_copy(&kube_job_spec_type, object->arena, &template->spec, &object->job->spec) < 0)
        goto fail;
    object->metadata->labels = copied.labels;
    object->metadata->annotations = copied.annotations;
    object->metadata->name = arena_strdup(object->arena, name);
    object->metadata->namespace = arena_strdup(object->arena, run->object->metadata->namespace);
    if (!object->metadata->name || !object->metadata->namespace ||
        kube_map_set(&object->metadata->annotations, object->arena, SCHEDULED_ANNOTATION, scheduled) < 0 ||
        add_controller_reference(object->metadata, object->arena, run->object) < 0)
        goto fail;
    return object;
fail:
    kube_object_unref(object);
    context_fail(run->context);
    return NULL;
}

static void delete_active(struct run *run) {
    while (run->status->active.count && !run->context->error) {
        const struct kube_object *job =
            context_get(run->context, &kube_kind_job, run->object->metadata->namespace, run->status->active.items[0].name);
        if (job)
            delete_job(run, job);
        else
            active_drop(run, 0);
    }
}

static void start(struct run *run, const struct due *due, const char *name) {
    const struct kube_object *present = context_get(run->context, &kube_kind_job, run->object->metadata->namespace, name);
    if (present && !controls(run, present)) {
        context_event(run->context, run->object, "Warning", "FailedCreate", "Error creating job: jobs.batch \"%s\" already exists", name);
        return;
    }
    if (!present) {
        context_create(run->context, job_new(run, due, name));
        context_event(run->context, run->object, "Normal", "SuccessfulCreate", "Created job %s", name);
    }
    if (!present || !finished_as(present))
        active_add(run, present, name, present ? present->metadata->uid : NULL);
    run->status->last_schedule_time = (struct kube_time){.ns = due->at_s * NS_PER_S, .set = true};
}

static void report_missed(struct run *run, const struct due *due) {
    static const char *const weekdays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct civil civil;
    zone_civil(NULL, due->at_s, &civil);
    context_event(run->context, run->object, "Warning", "MissSchedule", "Missed scheduled time to start a job: %s, %02d %s %04d %02d:%02d:%02d +0000",
                  weekdays[civil.weekday], civil.day, months[civil.month - 1], (int)civil.year, civil.hour, civil.minute, civil.second);
}

/* Acts upon the time that is due. */
static void act(struct run *run, const struct due *due) {
    const int64_t *deadline_s = run->cron_job->spec.starting_deadline_seconds;
    const struct kube_time *last = &run->cron_job->status.last_schedule_time;
    const char *name = arena_printf(run->context->arena, "%s-%" PRId64, run->object->metadata->name, due->at_s / 60);
    if (!name) {
        context_fail(run->context);
        return;
    }
    if (due->missed_many)
        context_event(run->context, run->object, "Warning", "TooManyMissedTimes",
                      "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew");
    if (deadline_s && due->at_s * NS_PER_S + MIN(*deadline_s, SECONDS_MAX) * NS_PER_S < run->context->wall_ns) {
        report_missed(run, due);
        return;
    }
    for (size_t i = 0; i < run->status->active.count; i++)
        if (same_text(run->status->active.items[i].name, name))
            return;
    if (last->set && last->ns == due->at_s * NS_PER_S)
        return;
    if (text_is(run->cron_job->spec.concurrency_policy, "Forbid") && run->status->active.count) {
        context_event(run->context, run->object, "Normal", "JobAlreadyActive",
                      "Not starting job because prior execution is running and concurrency policy is Forbid");
        return;
    }
    if (text_is(run->cron_job->spec.concurrency_policy, "Replace"))
        delete_active(run);
    start(run, due, name);
}

static void schedule(struct run *run) {
    struct context *context = run->context;
    const struct kube_cron_job_spec *spec = &run->cron_job->spec;
    struct due due = {.at_s = CRON_NEVER};
    struct diag diag = DIAG_INIT;
    if (spec->time_zone && context->view->zone(context->view->userdata, spec->time_zone, &due.zone) < 0) {
        context_event(context, run->object, "Warning", "UnknownTimeZone", "invalid timeZone: \"%s\": unknown time zone %s", spec->time_zone,
                      spec->time_zone);
        return;
    }
    if (spec->suspend && *spec->suspend)
        return;
    if (cron_parse(slice_of(spec->schedule), &due.cron, &diag) < 0) {
        context_event(context, run->object, "Warning", "UnparseableSchedule", "unparseable schedule: \"%s\" : %s", spec->schedule, diag.message);
        return;
    }
    const char *wrong = find_due(run, &due, true);
    if (wrong) {
        context_event(context, run->object, "Warning", "InvalidSchedule", "invalid schedule: %s : %s", spec->schedule, wrong);
        return;
    }
    if (context_failure(context))
        context_event(context, run->object, "Warning", "FailedCreate", "Error creating job: %s", context_failure(context));
    if (due.at_s != CRON_NEVER)
        act(run, &due);
    wake_at_next(run, &due);
}

void cron_job_reconcile(struct context *context) {
    const struct kube_object *object = context_get(context, context->kind, context->namespace, context->name);
    struct run run = {.context = context, .object = object, .copy = object ? context_copy(context, object) : NULL};
    if (!run.copy)
        return;
    run.cron_job = object->cron_job;
    run.status = &run.copy->cron_job->status;
    look_at_jobs(&run);
    if (!is_deleting(object))
        schedule(&run);
    if (!kube_equal(&kube_cron_job_status_type, run.status, &object->cron_job->status))
        context_update_status(context, TAKE(run.copy));
    kube_object_unref(run.copy);
    objects_deinit(&run.jobs);
}
