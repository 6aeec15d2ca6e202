/* A run's durable form: JSON under "forge/run/<id>", and what the command line shows, which is nearly the same.
 *
 * At most one write per run is on its way; changes meanwhile make one more. A run may go away before its write is done: the write is an object of its
 * own. */
#include "forge/forge_priv.h"

#include <fcntl.h>
#include <stdio.h>

#include "sys/sys.h"

#define KEY_PREFIX "forge/run/"
#define KEY_BYTES 40
#define NS_PER_MS 1000000

struct run_write {
    struct run *run; /* NULL: it went away */
};

static void key_of(uint64_t id, char ret[KEY_BYTES]) {
    snprintf(ret, KEY_BYTES, KEY_PREFIX "%012" PRIu64, id);
}

/* --- as a tree --- */

static void set_time(struct arena *arena, struct tree *tree, const char *key, int64_t ms) {
    char text[TIMESTAMP_BYTES];
    if (!ms)
        return;
    timestamp_format_micro(ms * NS_PER_MS, text);
    tree_set_text(arena, tree, key, text);
}

static void set_text(struct arena *arena, struct tree *tree, const char *key, const char *value) {
    if (value && *value)
        tree_set_text(arena, tree, key, value);
}

static const char *script_failure(const struct run_job *job, struct arena *arena) {
    if (!job->failed_line)
        return arena_printf(arena, "exit code %d", job->exit_code);
    return arena_printf(arena, "exit code %d in line %d: %s", job->exit_code, job->failed_line, job->failed_command ? job->failed_command : "");
}

static struct tree *job_tree(const struct run *run, size_t index, struct arena *arena, bool record) {
    const struct run_job *job = &run->jobs[index];
    const struct job_state *state = &run->state.jobs[index];
    struct tree *tree = tree_map(arena);
    if (!tree)
        return NULL;
    tree_set_text(arena, tree, "name", job->name);
    tree_set_text(arena, tree, "stage", job->stage);
    tree_set_text(arena, tree, "status", job_status_name(state->status));
    set_time(arena, tree, "started", state->started_ms);
    set_time(arena, tree, "finished", state->finished_ms);
    if (job->allow_failure)
        tree_set(arena, tree, SLICE("allowFailure"), tree_bool(arena, true));
    if (state->status == JOB_FAILED) {
        tree_set(arena, tree, SLICE("exitCode"), tree_int(arena, job->exit_code));
        if (job->failed_line)
            tree_set(arena, tree, SLICE("failedLine"), tree_int(arena, job->failed_line));
        set_text(arena, tree, "failedCommand", job->failed_command);
        set_text(arena, tree, "reason", job->reason);
        if (!record && !tree_find(tree, "reason"))
            tree_set(arena, tree, SLICE("reason"), tree_text(arena, script_failure(job, arena)));
    }
    set_text(arena, tree, "pod", job->pod_name);
    if (record)
        set_text(arena, tree, "tokenDigest", job->token_digest);
    return tree;
}

static struct tree *tree_of(const struct run *run, struct arena *arena, bool with_jobs, bool record) {
    struct tree *tree = tree_map(arena), *jobs = tree_list(arena);
    if (!tree || !jobs)
        return NULL;
    tree_set(arena, tree, SLICE("id"), tree_int(arena, (int64_t)run->id));
    tree_set_text(arena, tree, "app", run->app);
    tree_set_text(arena, tree, "status", job_status_name(run->state.status));
    tree_set_text(arena, tree, "ref", record ? run->update.ref : ref_short(run->update.ref));
    tree_set_text(arena, tree, "sha", run->sha);
    set_text(arena, tree, "title", run->title);
    set_text(arena, tree, "author", run->author);
    set_time(arena, tree, "created", run->created_ms);
    set_time(arena, tree, "finished", run->finished_ms);
    set_text(arena, tree, "address", run->address);
    for (size_t i = 0; with_jobs && i < run->jobs_count; i++)
        tree_push(arena, jobs, job_tree(run, i, arena, record));
    if (with_jobs)
        tree_set(arena, tree, SLICE("jobs"), jobs);
    if (!record)
        return tree;
    tree_set_text(arena, tree, "oldSha", run->update.old_sha);
    tree_set_text(arena, tree, "newSha", run->update.new_sha);
    set_text(arena, tree, "message", run->message);
    set_text(arena, tree, "timestamp", run->timestamp);
    set_text(arena, tree, "defaultBranch", run->default_branch);
    tree_set(arena, tree, SLICE("port"), tree_int(arena, run->port));
    tree_set(arena, tree, SLICE("hasDeploy"), tree_bool(arena, run->has_deploy));
    tree_set(arena, tree, SLICE("canceling"), tree_bool(arena, run->state.canceling));
    return tree;
}

struct tree *run_tree(const struct run *run, struct arena *arena, bool with_jobs) {
    return tree_of(run, arena, with_jobs, false);
}

struct tree *run_last_tree(const struct forge_app *app, struct arena *arena) {
    const struct forge *forge = app->forge;
    for (size_t i = forge->runs.count; i-- > 0;)
        if (strcmp(forge->runs.items[i]->app, app->name) == 0)
            return run_tree(forge->runs.items[i], arena, false);
    return NULL;
}

/* --- writing --- */

static void ignore(void *userdata, int error) {
    (void)userdata;
    (void)error;
}

static void on_written(void *userdata, int error) {
    (void)error; /* the store's failure is the store's to tell; the next change tries again */
    struct run_write *write = userdata;
    struct run *run = write->run;
    free(write);
    if (!run)
        return;
    run->write = NULL;
    if (run->dirty)
        run_save(run);
}

int run_save(struct run *run) {
    const struct forge_storage *storage = &run->forge->options.storage;
    CLEANUP(arena_freep) struct arena *arena = arena_new(RECORD_BYTES_MAX * 4);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(RECORD_BYTES_MAX);
    char key[KEY_BYTES];
    run->dirty = run->write != NULL;
    if (run->dirty)
        return 0;
    struct tree *tree = arena ? tree_of(run, arena, true, true) : NULL;
    struct run_write *write = calloc(1, sizeof *write);
    int error = tree && write ? json_format(&text, tree) : -ENOMEM;
    if (!error) {
        key_of(run->id, key);
        write->run = run;
        run->write = write;
        error = storage->put(storage->userdata, slice_of(key), buffer_slice(&text), on_written, write);
    }
    if (error) {
        run->write = NULL;
        free(write);
    }
    return error;
}

void run_write_orphan(struct run *run) {
    if (run->write)
        run->write->run = NULL;
    run->write = NULL;
}

void run_forget(struct run *run) {
    const struct forge_storage *storage = &run->forge->options.storage;
    static const char *const folders[] = {"logs", "artifacts"};
    char key[KEY_BYTES];
    key_of(run->id, key);
    storage->put(storage->userdata, slice_of(key), (struct slice){0}, ignore, NULL);
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        CLEANUP(freep) char *path = forge_path_new(run->forge, "%s/%" PRIu64, folders[i], run->id);
        if (path)
            sys_remove_tree(AT_FDCWD, path);
    }
}

/* --- reading --- */

static int64_t time_of(const struct tree *tree, const char *key) {
    int64_t ns = 0;
    const char *text = tree_text_or(tree_find(tree, key), NULL);
    return text && timestamp_parse(slice_of(text), &ns) == 0 ? ns / NS_PER_MS : 0;
}

static const char *text_of(struct run *run, const struct tree *tree, const char *key) {
    const char *copy = arena_strdup(run->arena, tree_text_or(tree_find(tree, key), ""));
    return copy ? copy : "";
}

static void read_job(struct run *run, size_t index, const struct tree *tree) {
    struct run_job *job = &run->jobs[index];
    struct job_state *state = &run->state.jobs[index];
    *job = (struct run_job){
        .run = run, .index = index, .name = text_of(run, tree, "name"), .stage = text_of(run, tree, "stage"), .line = BUFFER_INIT(4 * KIB)};
    job_status_parse(slice_of(tree_text_or(tree_find(tree, "status"), "")), &state->status);
    state->started_ms = time_of(tree, "started");
    state->finished_ms = time_of(tree, "finished");
    job->allow_failure = tree_bool_or(tree_find(tree, "allowFailure"), false);
    job->exit_code = (int)tree_int_or(tree_find(tree, "exitCode"), 0);
    job->failed_line = (int)tree_int_or(tree_find(tree, "failedLine"), 0);
    job->failed_command = text_of(run, tree, "failedCommand");
    job->reason = text_of(run, tree, "reason");
    snprintf(job->pod_name, sizeof job->pod_name, "%s", tree_text_or(tree_find(tree, "pod"), ""));
    snprintf(job->token_digest, sizeof job->token_digest, "%s", tree_text_or(tree_find(tree, "tokenDigest"), ""));
}

static int read_run(struct run *run, const struct tree *tree) {
    const struct tree *jobs = tree_find(tree, "jobs");
    snprintf(run->app, sizeof run->app, "%s", tree_text_or(tree_find(tree, "app"), ""));
    snprintf(run->sha, sizeof run->sha, "%s", tree_text_or(tree_find(tree, "sha"), ""));
    snprintf(run->update.ref, sizeof run->update.ref, "%s", tree_text_or(tree_find(tree, "ref"), ""));
    snprintf(run->update.old_sha, sizeof run->update.old_sha, "%s", tree_text_or(tree_find(tree, "oldSha"), ""));
    snprintf(run->update.new_sha, sizeof run->update.new_sha, "%s", tree_text_or(tree_find(tree, "newSha"), ""));
    run->title = text_of(run, tree, "title");
    run->author = text_of(run, tree, "author");
    run->message = text_of(run, tree, "message");
    run->timestamp = text_of(run, tree, "timestamp");
    run->default_branch = text_of(run, tree, "defaultBranch");
    run->address = text_of(run, tree, "address");
    run->port = (int)tree_int_or(tree_find(tree, "port"), 0);
    run->has_deploy = tree_bool_or(tree_find(tree, "hasDeploy"), false);
    run->created_ms = time_of(tree, "created");
    run->finished_ms = time_of(tree, "finished");
    run->state.canceling = tree_bool_or(tree_find(tree, "canceling"), false);
    job_status_parse(slice_of(tree_text_or(tree_find(tree, "status"), "")), &run->state.status);
    run->jobs_count = MIN(tree_count(jobs), (size_t)PIPELINE_JOBS_MAX);
    run->jobs = ARENA_ARRAY(run->arena, struct run_job, run->jobs_count);
    run->state.jobs = ARENA_ARRAY(run->arena, struct job_state, run->jobs_count);
    if (!run->jobs || !run->state.jobs) {
        run->jobs_count = 0;
        return -ENOMEM;
    }
    for (size_t i = 0; i < run->jobs_count; i++)
        read_job(run, i, tree_at(jobs, i));
    return 0;
}

void run_shrink(struct run *run) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(RECORD_BYTES_MAX * 4);
    struct arena *fresh = arena_new(RUN_ARENA_BYTES_MAX), *old = run->arena;
    struct tree *tree = arena ? tree_of(run, arena, true, true) : NULL;
    if (!tree || !fresh) {
        arena_free(fresh);
        return;
    }
    for (size_t i = 0; i < run->jobs_count; i++)
        job_detach(&run->jobs[i]);
    run->arena = fresh;
    run->pipeline = NULL;
    run->state = (struct pipeline_state){0};
    run->predefined = (struct pipeline_variables){0};
    read_run(run, tree);
    arena_free(old);
}

struct loading {
    struct forge *forge;
    int error;
};

static bool load_one(void *userdata, struct slice key, struct slice value) {
    struct loading *loading = userdata;
    struct forge *forge = loading->forge;
    CLEANUP(arena_freep) struct arena *arena = arena_new(RECORD_BYTES_MAX * 4);
    struct tree *tree = NULL;
    uint64_t id = 0;
    if (!arena || slice_parse_u64(slice_from(key, sizeof KEY_PREFIX - 1), UINT64_MAX / 2, &id) || json_parse(arena, value, NULL, &tree, NULL))
        return true;
    struct run *run = run_new(forge, id);
    if (!run || read_run(run, tree) || VECTOR_PUSH(&forge->runs, run)) {
        run_free(run);
        loading->error = -ENOMEM;
        return false;
    }
    forge->next_run = MAX(forge->next_run, id + 1);
    return true;
}

/* Whatever the order of the storage. */
static int by_id(const void *a, const void *b) {
    const struct run *left = *(struct run *const *)a, *right = *(struct run *const *)b;
    return (left->id > right->id) - (left->id < right->id);
}

int records_load(struct forge *forge, struct diag *diag) {
    struct loading loading = {.forge = forge};
    forge->options.storage.list(forge->options.storage.userdata, SLICE(KEY_PREFIX), load_one, &loading);
    if (forge->runs.count > 1)
        qsort(forge->runs.items, forge->runs.count, sizeof(struct run *), by_id);
    return loading.error ? diag_set(diag, loading.error, "no memory for the pipelines") : 0;
}
