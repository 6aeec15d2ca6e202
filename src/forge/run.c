/* A pipeline's life: prepared from a commit, stepped by events, recorded at every change, forgotten when enough newer ones exist.
 *
 *   run_create ─► events (queued) ─► pipeline_step ─► actions: jobs start, stop, are skipped ─► … ─► the end: log and plan go
 *
 * Invariants
 * 1. Events are queued and processed from a deferred call: an action may fail at once and post another event without nesting.
 * 2. After each step the record is written; jobs' own details (exit code, failed line) are set before their event is posted.
 * 3. A finished run keeps only its record's data; playing or retrying a job reads the pipeline file again from logs/<id>/pipeline.yml, so it runs
 * what was pushed then.
 * 4. run->log is open exactly while something may still happen without a person; followers end when it closes. */
#include "forge/forge_priv.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>

#include "sys/sys.h"

#define SLUG_BYTES_MAX 63
#define SHORT_SHA 8
#define MESSAGE_BYTES_MAX 4096
#define NEXT_RUN_KEY "forge/next-run"

bool ref_starts_pipeline(const struct ref_update *update) {
    return strncmp(update->ref, "refs/heads/", 11) == 0 || strncmp(update->ref, "refs/tags/", 10) == 0;
}

const char *ref_short(const char *ref) {
    const char *name = strncmp(ref, "refs/", 5) == 0 ? strchr(ref + 5, '/') : NULL;
    return name ? name + 1 : ref;
}

struct run *run_find(const struct forge *forge, uint64_t id) {
    for (size_t i = forge->runs.count; i-- > 0;)
        if (forge->runs.items[i]->id == id)
            return forge->runs.items[i];
    return NULL;
}

enum job_status run_job_status(const struct run *run, size_t job) {
    return run->state.jobs[job].status;
}

/* --- preparing --- */

/* Lower case, [0-9a-z-], at most 63 bytes, no "-" at the ends. */
static char *slug_of(struct arena *arena, const char *ref) {
    char *slug = arena_dup(arena, slice_head(slice_of(ref), SLUG_BYTES_MAX));
    for (char *at = slug; at && *at; at++)
        *at = isalnum((unsigned char)*at) ? (char)tolower((unsigned char)*at) : '-';
    size_t len = slug ? strlen(slug) : 0;
    while (len > 0 && slug[len - 1] == '-')
        slug[--len] = '\0';
    while (slug && *slug == '-')
        slug++;
    return slug;
}

static int predefine(const struct forge *forge, const struct run_source *source, struct arena *arena, struct pipeline_variables *ret) {
    const struct commit *commit = source->commit;
    const char *ref = source->update->ref, *name = ref_short(ref), *app = source->app;
    bool tag = strncmp(ref, "refs/tags/", 10) == 0;
    const char *image = arena_printf(arena, "%s/%s", forge->options.registry, app);
    const char *short_sha = arena_dup(arena, slice_head(slice_of(commit->sha), SHORT_SHA));
    const char *const values[][2] = {
        {"CI", "true"},
        {"GITLAB_CI", "true"},
        {"CI_SERVER", "yes"},
        {"CI_SERVER_NAME", "tidemill"},
        {"CI_SERVER_VERSION", TIDEMILL_VERSION},
        {"CI_CONFIG_PATH", PIPELINE_FILE},
        {"CI_PIPELINE_SOURCE", "push"},
        {"CI_PIPELINE_ID", arena_printf(arena, "%" PRIu64, source->id)},
        {"CI_PIPELINE_IID", arena_printf(arena, "%" PRIu64, source->id)},
        {"CI_COMMIT_SHA", commit->sha},
        {"CI_COMMIT_SHORT_SHA", short_sha},
        {"CI_COMMIT_BEFORE_SHA", source->update->old_sha},
        {"CI_COMMIT_REF_NAME", name},
        {"CI_COMMIT_REF_SLUG", slug_of(arena, name)},
        {tag ? "CI_COMMIT_TAG" : "CI_COMMIT_BRANCH", name},
        {"CI_COMMIT_TITLE", commit->title},
        {"CI_COMMIT_MESSAGE", commit->message},
        {"CI_COMMIT_AUTHOR", commit->author},
        {"CI_COMMIT_TIMESTAMP", commit->timestamp},
        {"CI_DEFAULT_BRANCH", source->default_branch},
        {"CI_PROJECT_NAME", app},
        {"CI_PROJECT_TITLE", app},
        {"CI_PROJECT_PATH", app},
        {"CI_PROJECT_PATH_SLUG", app},
        {"CI_PROJECT_NAMESPACE", app},
        {"CI_PROJECT_DIR", arena_printf(arena, "/builds/%s", app)},
        {"CI_BUILDS_DIR", "/builds"},
        {"CI_REGISTRY", forge->options.registry},
        {"CI_REGISTRY_IMAGE", image},
        {"IMAGE", arena_printf(arena, "%s:%s", image ? image : "", short_sha ? short_sha : "")},
        {"KUBE_NAMESPACE", app},
        {"TIDEMILL_APP", app},
        {"TIDEMILL_DOMAIN", forge->options.domain},
    };
    int error = 0;
    for (size_t i = 0; !error && i < ARRAY_LEN(values); i++)
        error = values[i][1] ? pipeline_variables_set(arena, ret, values[i][0], values[i][1], true) : -ENOMEM;
    return error;
}

int run_prepare(const struct forge *forge, const struct run_source *source, struct arena *arena, struct prepared *ret, struct diag *diag) {
    const struct commit *commit = source->commit;
    int error = 0;
    *ret = (struct prepared){0};
    if (predefine(forge, source, arena, &ret->predefined))
        return diag_set(diag, -ENOMEM, "no memory for the pipeline's variables");
    if (commit->pipeline_file.data)
        error = pipeline_parse(arena, PIPELINE_FILE, commit->pipeline_file, &ret->pipeline, diag);
    else if (commit->dockerfile.data)
        error = pipeline_default(arena, &ret->pipeline) ? diag_set(diag, -ENOMEM, "no memory") : 0;
    else
        return diag_hint(diag, diag_set(diag, 0, "the commit has neither a %s nor a Dockerfile: there is nothing to run", PIPELINE_FILE),
                         "add a Dockerfile, and the next push builds and deploys it");
    if (!error)
        error = pipeline_plan(arena, ret->pipeline, &ret->predefined, &ret->plan, diag);
    if (!error && ret->plan->jobs_count == 0)
        diag_set(diag, 0, "by its rules, this push runs no job");
    return error;
}

/* --- making a run --- */

static void step_all(void *userdata);

struct run *run_new(struct forge *forge, uint64_t id) {
    struct run *run = calloc(1, sizeof *run);
    if (!run || !(run->arena = arena_new(RUN_ARENA_BYTES_MAX))) {
        free(run);
        return NULL;
    }
    run->forge = forge;
    run->id = id;
    loop_defer_init(&run->stepping, forge->loop, step_all, run);
    return run;
}

static void job_init(struct run *run, size_t index) {
    const struct plan_job *plan_job = &run->state.plan->jobs[index];
    struct run_job *job = &run->jobs[index];
    *job = (struct run_job){.run = run,
                            .index = index,
                            .name = plan_job->job->name,
                            .stage = plan_job->job->stage,
                            .allow_failure = plan_job->allow_failure,
                            .line = BUFFER_INIT(4 * KIB)};
}

static int take_plan(struct run *run, const struct prepared *prepared) {
    run->pipeline = prepared->pipeline;
    run->predefined = prepared->predefined;
    run->jobs_count = prepared->plan->jobs_count;
    run->jobs = ARENA_ARRAY(run->arena, struct run_job, run->jobs_count);
    if (!run->jobs || pipeline_state_init(run->arena, prepared->plan, &run->state))
        return -ENOMEM;
    for (size_t i = 0; i < run->jobs_count; i++)
        job_init(run, i);
    return 0;
}

static int take_source(struct run *run, const struct run_source *source) {
    const struct commit *commit = source->commit;
    run->update = *source->update;
    snprintf(run->app, sizeof run->app, "%s", source->app);
    memcpy(run->sha, commit->sha, sizeof run->sha);
    run->title = arena_strdup(run->arena, commit->title);
    run->author = arena_strdup(run->arena, commit->author);
    run->message = arena_dup(run->arena, slice_head(slice_of(commit->message), MESSAGE_BYTES_MAX));
    run->timestamp = arena_strdup(run->arena, commit->timestamp);
    run->default_branch = arena_strdup(run->arena, source->default_branch);
    run->port = dockerfile_exposed_port(commit->dockerfile);
    run->has_deploy = commit->has_deploy;
    return run->title && run->author && run->message && run->timestamp && run->default_branch ? 0 : -ENOMEM;
}

static int make_files(struct run *run, struct slice pipeline_file) {
    CLEANUP(freep) char *folder = forge_path_new(run->forge, "logs/%" PRIu64, run->id);
    CLEANUP(freep) char *file = forge_path_new(run->forge, "logs/%" PRIu64 "/pipeline.yml", run->id);
    if (!folder || !file)
        return -ENOMEM;
    int error = sys_mkdirs(folder, 0750);
    if (!error && pipeline_file.data)
        error = sys_write_file(AT_FDCWD, file, pipeline_file, 0640);
    return error;
}

static int open_log(struct run *run) {
    CLEANUP(freep) char *path = forge_path_new(run->forge, "logs/%" PRIu64 "/run.log", run->id);
    if (run->log)
        return 0;
    return path ? joblog_open(path, true, &run->log) : -ENOMEM;
}

void run_say(struct run *run, const char *format, ...) {
    char line[2048];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    len = MIN(MAX(len, 0), (int)sizeof line - 2);
    line[len] = '\n';
    if (run->log)
        joblog_append(run->log, slice_make(line, (size_t)len + 1));
}

static void introduce(struct run *run) {
    CLEANUP(buffer_deinit) struct buffer names = BUFFER_INIT(4 * KIB);
    for (size_t i = 0; i < run->jobs_count; i++)
        buffer_printf(&names, "%s%s", i ? ", " : "", run->jobs[i].name);
    run_say(run, "pipeline %" PRIu64 " of %s, %s %.8s \"%s\"", run->id, run->app, ref_short(run->update.ref), run->sha, run->title);
    if (run->pipeline->jobs[0].builtin != PIPELINE_SCRIPT)
        run_say(run, "there is no " PIPELINE_FILE ": the Dockerfile is built and deployed");
    for (size_t i = 0; i < run->pipeline->warnings.count; i++)
        run_say(run, "note: %s", run->pipeline->warnings.items[i]);
    run_say(run, "jobs: %s", names.data ? names.data : "");
}

static void remove_artifacts(struct run *run) {
    CLEANUP(freep) char *path = forge_path_new(run->forge, "artifacts/%" PRIu64, run->id);
    if (path)
        sys_remove_tree(AT_FDCWD, path);
}

/* Older finished runs of the app go: after ARTIFACTS_KEPT_PER_APP their artifacts, after RUNS_KEPT_PER_APP everything. */
static void prune(struct forge *forge, const char *app) {
    size_t count = 0;
    for (size_t i = forge->runs.count; i-- > 0;) {
        struct run *run = forge->runs.items[i];
        if (strcmp(run->app, app) != 0 || ++count <= ARTIFACTS_KEPT_PER_APP || run->log || run->write)
            continue;
        remove_artifacts(run);
        if (count <= RUNS_KEPT_PER_APP)
            continue;
        VECTOR_REMOVE(&forge->runs, i);
        run_forget(run);
        run_free(run);
    }
}

static void ignore(void *userdata, int error) {
    (void)userdata;
    (void)error;
}

static void save_next_id(struct forge *forge) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, forge->next_run);
    forge->options.storage.put(forge->options.storage.userdata, SLICE(NEXT_RUN_KEY), slice_of(text), ignore, NULL);
}

/* A newer push of the same branch or tag ends what is still running for the older one: two deployments at once could leave the older one's version.
 */
static void supersede(struct forge *forge, struct run *newer) {
    for (size_t i = 0; i < forge->runs.count; i++) {
        struct run *run = forge->runs.items[i];
        bool same = run != newer && strcmp(run->app, newer->app) == 0 && strcmp(run->update.ref, newer->update.ref) == 0;
        if (!same || job_status_is_final(run->state.status) || run->state.status == JOB_MANUAL)
            continue;
        run_say(run, "a newer push of %s starts pipeline %" PRIu64 ": this one is cancelled", ref_short(run->update.ref), newer->id);
        run_say(newer, "pipeline %" PRIu64 " of the push before is cancelled", run->id);
        run_post(run, PIPELINE_EVENT_CANCEL, 0);
    }
}

int run_create(struct forge *forge, struct run_source *source, struct run **ret, struct diag *diag) {
    source->id = forge->next_run;
    struct run *run = run_new(forge, source->id);
    struct prepared prepared;
    if (!run)
        return diag_set(diag, -ENOMEM, "no memory for a pipeline");
    int error = run_prepare(forge, source, run->arena, &prepared, diag);
    if (error || !prepared.plan || prepared.plan->jobs_count == 0) {
        run_free(run);
        *ret = NULL;
        return error;
    }
    error = take_plan(run, &prepared);
    if (!error)
        error = take_source(run, source);
    if (!error)
        error = make_files(run, source->commit->pipeline_file);
    if (!error)
        error = open_log(run);
    if (!error)
        error = VECTOR_PUSH(&forge->runs, run);
    if (error) {
        run_free(run);
        return diag_set(diag, error, "the pipeline could not be set up: %s", strerror(-error));
    }
    run->created_ms = forge_now_ms(forge);
    forge->next_run++;
    save_next_id(forge);
    introduce(run);
    supersede(forge, run);
    run_post(run, PIPELINE_EVENT_START, 0);
    prune(forge, run->app);
    *ret = run;
    return 0;
}

/* --- a recorded run comes back to life --- */

struct old_job {
    const char *name;
    struct job_state state;
};

/* The plan is made again from the stored file and, by the names of the jobs, gets the states they had. */
static int restore(struct run *run, const struct prepared *prepared) {
    struct old_job *old = ARENA_ARRAY(run->arena, struct old_job, run->jobs_count);
    struct run_job *old_jobs = run->jobs;
    size_t old_count = run->jobs_count;
    enum job_status status = run->state.status;
    bool canceling = run->state.canceling;
    if (!old)
        return -ENOMEM;
    for (size_t i = 0; i < old_count; i++)
        old[i] = (struct old_job){.name = run->jobs[i].name, .state = run->state.jobs[i]};
    if (take_plan(run, prepared))
        return -ENOMEM;
    run->state.status = status;
    run->state.canceling = canceling;
    for (size_t i = 0; i < run->jobs_count; i++) {
        for (size_t k = 0; k < old_count; k++) {
            if (strcmp(old[k].name, run->jobs[i].name) != 0)
                continue;
            run->state.jobs[i] = old[k].state;
            memcpy(run->jobs[i].token_digest, old_jobs[k].token_digest, sizeof run->jobs[i].token_digest);
            memcpy(run->jobs[i].pod_name, old_jobs[k].pod_name, sizeof run->jobs[i].pod_name);
            run->jobs[i].exit_code = old_jobs[k].exit_code;
            run->jobs[i].failed_line = old_jobs[k].failed_line;
            run->jobs[i].failed_command = old_jobs[k].failed_command;
            run->jobs[i].reason = old_jobs[k].reason;
        }
    }
    return 0;
}

int run_activate(struct run *run, struct diag *diag) {
    if (run->pipeline)
        return open_log(run);
    CLEANUP(freep) char *path = forge_path_new(run->forge, "logs/%" PRIu64 "/pipeline.yml", run->id);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(PIPELINE_FILE_BYTES_MAX);
    struct commit commit = {.author = run->author,
                            .title = run->title,
                            .message = run->message,
                            .timestamp = run->timestamp,
                            .dockerfile = SLICE("FROM"),
                            .has_deploy = run->has_deploy};
    memcpy(commit.sha, run->sha, sizeof commit.sha);
    int error = path ? sys_read_file(AT_FDCWD, path, PIPELINE_FILE_BYTES_MAX, &text) : -ENOMEM;
    if (error && error != -ENOENT)
        return diag_set(diag, error, "the pipeline file of this run cannot be read: %s", strerror(-error));
    if (!error)
        commit.pipeline_file = slice_make(text.data ? text.data : "", text.len);
    const struct run_source source = {
        .app = run->app, .update = &run->update, .commit = &commit, .default_branch = run->default_branch, .id = run->id};
    struct prepared prepared;
    error = run_prepare(run->forge, &source, run->arena, &prepared, diag);
    if (!error && (!prepared.plan || prepared.plan->jobs_count == 0))
        error = diag_set(diag, -EINVAL, "the pipeline has no jobs any more");
    if (!error)
        error = restore(run, &prepared);
    if (!error)
        error = open_log(run);
    return error;
}

/* --- stepping --- */

void run_post(struct run *run, enum pipeline_event_type type, size_t job) {
    const struct pipeline_event event = {.type = type, .job = job};
    if (VECTOR_PUSH(&run->events, event) == 0)
        loop_defer_schedule(&run->stepping);
}

static void say_result(struct run *run) {
    struct forge *forge = run->forge;
    enum job_status status = run->state.status;
    double seconds = (double)(forge_now_ms(forge) - run->created_ms) / 1000;
    if (status == JOB_MANUAL) {
        run_say(run, "pipeline %" PRIu64 " waits for a person", run->id);
        return;
    }
    run_say(run, "pipeline %" PRIu64 " %s after %.1f s", run->id,
            status == JOB_SUCCESS  ? "succeeded"
            : status == JOB_FAILED ? "FAILED"
                                   : job_status_name(status),
            seconds);
    for (size_t i = 0; status == JOB_FAILED && i < run->jobs_count; i++) {
        const struct run_job *job = &run->jobs[i];
        if (run_job_status(run, i) == JOB_FAILED && !job->allow_failure)
            run_say(run, "  %s failed: see `tidemill pipeline logs %" PRIu64 " --job %s`; what was running before keeps running", job->name, run->id,
                    job->name);
    }
    if (status == JOB_SUCCESS && run->address && *run->address)
        run_say(run, "  %s", run->address);
}

void run_set_address(struct run *run, const char *url) {
    if (!run->address || !*run->address)
        run->address = arena_strdup(run->arena, url);
}

static void settle(struct run *run) {
    enum job_status status = run->state.status;
    run->finished_ms = job_status_is_final(status) ? forge_now_ms(run->forge) : 0;
    if (!job_status_is_final(status) && status != JOB_MANUAL)
        return;
    say_result(run);
    joblog_close(run->log);
    joblog_unref(TAKE(run->log));
    if (run->forge->options.on_pipeline_end && run->finished_ms)
        run->forge->options.on_pipeline_end(run->forge->options.userdata);
}

static void perform(struct run *run, const struct pipeline_actions *actions) {
    for (size_t i = 0; i < actions->count; i++) {
        const struct pipeline_action *action = &actions->items[i];
        struct run_job *job = &run->jobs[action->job];
        switch (action->type) {
        case PIPELINE_ACTION_START_JOB: job_start(job); break;
        case PIPELINE_ACTION_STOP_JOB: job_stop(job); break;
        case PIPELINE_ACTION_SKIPPED: run_say(run, "%s: skipped", job->name); break;
        case PIPELINE_ACTION_MANUAL:
            run_say(run, "%s: waits; start it with `tidemill pipeline play %" PRIu64 " %s`", job->name, run->id, job->name);
            break;
        case PIPELINE_ACTION_STATUS: settle(run); break;
        }
    }
}

static void step_all(void *userdata) {
    struct run *run = userdata;
    struct pipeline_actions *actions = malloc(sizeof *actions);
    for (size_t i = 0; actions && run->pipeline && i < run->events.count; i++) { /* performing may append */
        struct pipeline_event event = run->events.items[i];
        if (open_log(run) == 0 && pipeline_step(&run->state, &event, forge_now_ms(run->forge), actions))
            perform(run, actions);
    }
    if (run->log && (job_status_is_final(run->state.status) || run->state.status == JOB_MANUAL)) { /* opened for an event that changed nothing */
        joblog_close(run->log);
        joblog_unref(TAKE(run->log));
    }
    run->events.count = 0;
    free(actions);
    run_save(run);
    if (run->pipeline && job_status_is_final(run->state.status))
        run_shrink(run);
}

/* --- end --- */

void run_free(struct run *run) {
    if (!run)
        return;
    loop_defer_cancel(&run->stepping);
    for (size_t i = 0; i < run->jobs_count; i++)
        job_detach(&run->jobs[i]);
    if (run->log)
        joblog_close(run->log);
    joblog_unref(run->log);
    run_write_orphan(run);
    VECTOR_DEINIT(&run->events);
    arena_free(run->arena);
    free(run);
}

void runs_free(struct forge *forge) {
    for (size_t i = 0; i < forge->runs.count; i++)
        run_free(forge->runs.items[i]);
    VECTOR_DEINIT(&forge->runs);
}

void runs_forget_app(struct forge_app *app) {
    struct forge *forge = app->forge;
    for (size_t i = forge->runs.count; i-- > 0;) {
        struct run *run = forge->runs.items[i];
        if (strcmp(run->app, app->name) != 0)
            continue;
        VECTOR_REMOVE(&forge->runs, i);
        for (size_t k = 0; k < run->jobs_count; k++)
            job_stop(&run->jobs[k]);
        run_forget(run);
        run_free(run);
    }
}

/* Pods are known: every job that was running finds its own again, or fails with a reason. */
static void resume_all(struct forge *forge) {
    for (size_t i = 0; i < forge->runs.count; i++) {
        struct run *run = forge->runs.items[i];
        if (job_status_is_final(run->state.status) || !run->pipeline)
            continue;
        for (size_t k = 0; k < run->jobs_count; k++)
            if (run_job_status(run, k) == JOB_PENDING || run_job_status(run, k) == JOB_RUNNING)
                job_adopt(&run->jobs[k]);
        run_post(run, PIPELINE_EVENT_START, 0);
    }
}

/* At once, before the API answers: helpers in running pods may ask any moment, and their tokens are looked up in what is active. */
static void activate_all(struct forge *forge) {
    for (size_t i = 0; i < forge->runs.count; i++) {
        struct run *run = forge->runs.items[i];
        struct diag diag = DIAG_INIT;
        if (!job_status_is_final(run->state.status) && run_activate(run, &diag)) {
            run->state.status = JOB_FAILED;
            run_save(run);
        }
    }
}

int runs_load(struct forge *forge, struct diag *diag) {
    const struct forge_storage *storage = &forge->options.storage;
    struct slice next = storage->get(storage->userdata, SLICE(NEXT_RUN_KEY));
    forge->next_run = 1;
    slice_parse_u64(next, UINT64_MAX / 2, &forge->next_run);
    forge->next_build = (uint64_t)forge_now_ms(forge);
    int error = records_load(forge, diag);
    if (!error)
        activate_all(forge);
    if (!error && forge->options.client)
        error = podruns_watch(forge, resume_all);
    return error;
}
