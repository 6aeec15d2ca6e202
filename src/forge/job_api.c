/* What the helper in a job's pod asks for, over the job socket and with the job's token (the protocol is src/job/job.h's):
 *
 *   GET source, artifacts, script, artifact-paths    POST artifacts, result, build, apply
 *
 * Invariants
 * 1. A call never outlives its exchange: when the helper goes away, its build or deployment is cancelled and what it uploaded is dropped.
 * 2. A call holds no pointer to the job, only the run's id and the job's index: the job may end meanwhile.
 * 3. The answers of build and apply are text, and end with "TIDEMILL-EXIT <code>": nothing else can be told once a response has begun. */
#include "forge/forge_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "forge/program_priv.h"
#include "sys/sys.h"

#define OUTPUT_PENDING_MAX (1 * MIB)
#define CHUNK_BYTES (64 * KIB)
#define TAR_BLOCK 512
#define RESULT_BYTES_MAX (64 * KIB)
#define COMMAND_SHOWN_MAX 200

struct call {
    struct operation base;
    uint64_t run;
    size_t job;
    struct program *program; /* git archive */
    int fd;                  /* being uploaded, or being sent */
    char *path;              /* of the upload; NULL: none */
    char *folder;            /* of a build that is not started yet */
    int64_t written, limit;
    VECTOR(char *) files;         /* artifacts still to be sent */
    int64_t sent, content_length; /* of the file that is being sent */
    struct build *build;
    struct apply *apply;
    void (*on_uploaded)(struct call *call);
};

static void destroy(struct operation *base) {
    struct call *call = CONTAINER_OF(base, struct call, base);
    program_free(call->program);
    build_cancel(call->build);
    apply_cancel(call->apply);
    if (call->fd >= 0)
        close(call->fd);
    if (call->path)
        unlink(call->path);
    if (call->folder)
        sys_remove_tree(AT_FDCWD, call->folder);
    for (size_t i = 0; i < call->files.count; i++)
        free(call->files.items[i]);
    VECTOR_DEINIT(&call->files);
    free(call->path);
    free(call->folder);
    free(call);
}

static void on_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)exchange;
    (void)complete;
    struct call *call = userdata;
    call->base.exchange = NULL;
    operation_end(&call->base);
}

static struct call *call_new(struct run_job *job, struct http_exchange *exchange) {
    struct call *call = calloc(1, sizeof *call);
    if (!call) {
        http_respond_text(exchange, 503, "no memory\n");
        return NULL;
    }
    call->run = job->run->id;
    call->job = job->index;
    call->fd = -1;
    operation_init(&call->base, job->run->forge, exchange, destroy);
    http_on_close(exchange, on_close, call);
    return call;
}

static struct run_job *job_of(const struct call *call) {
    struct run *run = run_find(call->base.forge, call->run);
    return run && run->pipeline && call->job < run->jobs_count && run->jobs[call->job].token_digest[0] ? &run->jobs[call->job] : NULL;
}

/* Ends the call, then the response. */
static void finish(struct call *call) {
    struct http_exchange *exchange = call->base.exchange;
    operation_end(&call->base);
    http_respond_end(exchange);
}

static void fail(struct call *call, int status, const char *what, int error) {
    struct http_exchange *exchange = call->base.exchange;
    operation_end(&call->base);
    http_respond_text(exchange, status, "%s: %s\n", what, strerror(-error));
}

static void finish_with_code(struct call *call, int code) {
    char line[40];
    snprintf(line, sizeof line, "TIDEMILL-EXIT %d\n", code);
    http_write(call->base.exchange, slice_of(line));
    finish(call);
}

/* --- the sources --- */

static void on_source_drained(void *userdata, struct http_exchange *exchange) {
    (void)exchange;
    program_resume(((struct call *)userdata)->program);
}

static bool on_source(void *userdata, struct slice output) {
    struct call *call = userdata;
    http_write(call->base.exchange, output);
    if (http_write_pending(call->base.exchange) < OUTPUT_PENDING_MAX)
        return true;
    http_on_drained(call->base.exchange, on_source_drained, call);
    return false;
}

static void on_source_end(void *userdata, int status) {
    struct call *call = userdata;
    struct http_exchange *exchange = call->base.exchange;
    program_free(TAKE(call->program));
    if (status == 0) {
        finish(call);
        return;
    }
    operation_end(&call->base);
    http_abort(exchange); /* what was sent is no whole archive */
}

static void send_source(struct run_job *job, struct http_exchange *exchange) {
    static const struct program_handlers handlers = {.on_output = on_source, .on_end = on_source_end};
    struct forge *forge = job->run->forge;
    struct arena *arena = http_exchange_arena(exchange);
    struct call *call = call_new(job, exchange);
    if (!call)
        return;
    const char *const argv[] = {
        "git", arena_printf(arena, "--git-dir=%s/repos/%s.git", forge->folder, job->run->app), "archive", "--format=tar", job->run->sha, NULL};
    const struct program_options options = {.argv = argv, .envp = git_environment(forge, arena, NULL)};
    int error = argv[1] && options.envp ? program_start(forge->loop, &options, &handlers, call, &call->program) : -ENOMEM;
    if (error)
        fail(call, 500, "git could not be started", error);
    else
        http_respond_begin(exchange, 200, "application/x-tar", -1, NULL);
}

/* --- artifacts of other jobs --- */

/* Up to the two empty blocks at the end, so that archives can follow each other. */
static int64_t tar_content_length(int fd) {
    char block[TAR_BLOCK];
    int64_t at = 0;
    while (pread(fd, block, sizeof block, at) == (ssize_t)sizeof block && block[0]) {
        int64_t size = 0;
        for (int i = 124; i < 135 && block[i] >= '0' && block[i] <= '7'; i++)
            size = size * 8 + (block[i] - '0');
        at += TAR_BLOCK + (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    }
    return at;
}

static void pump_artifacts(struct call *call);

static void on_artifacts_drained(void *userdata, struct http_exchange *exchange) {
    (void)exchange;
    pump_artifacts(userdata);
}

/* The next file; false when there is none left. */
static bool open_next(struct call *call) {
    while (call->files.count > 0) {
        char *path = call->files.items[0];
        VECTOR_REMOVE(&call->files, 0);
        call->fd = open(path, O_RDONLY | O_CLOEXEC);
        free(path);
        if (call->fd < 0)
            continue;
        call->sent = 0;
        call->content_length = tar_content_length(call->fd);
        return true;
    }
    return false;
}

static void pump_artifacts(struct call *call) {
    static const char end_of_archive[2 * TAR_BLOCK];
    char chunk[CHUNK_BYTES];
    while (call->fd >= 0 || open_next(call)) {
        if (http_write_pending(call->base.exchange) > OUTPUT_PENDING_MAX) {
            http_on_drained(call->base.exchange, on_artifacts_drained, call);
            return;
        }
        size_t wanted = MIN(sizeof chunk, (size_t)(call->content_length - call->sent));
        ssize_t got = wanted ? pread(call->fd, chunk, wanted, call->sent) : 0;
        if (got > 0 && http_write(call->base.exchange, slice_make(chunk, (size_t)got)) == 0) {
            call->sent += got;
            continue;
        }
        close(call->fd);
        call->fd = -1;
    }
    http_write(call->base.exchange, slice_make(end_of_archive, sizeof end_of_archive));
    finish(call);
}

static void send_artifacts(struct run_job *job, struct http_exchange *exchange) {
    const struct plan_job *plan_job = &job->run->state.plan->jobs[job->index];
    struct call *call = call_new(job, exchange);
    for (size_t i = 0; call && i < plan_job->artifact_sources_count; i++) {
        struct stat status;
        char *path = job_artifacts_path(job->run, plan_job->artifact_sources[i]);
        if (!path || stat(path, &status) < 0 || VECTOR_PUSH(&call->files, path))
            free(path);
    }
    if (call && call->files.count == 0) {
        operation_end(&call->base);
        http_respond(exchange, 204, NULL, (struct slice){0}, NULL);
    } else if (call) {
        http_respond_begin(exchange, 200, "application/x-tar", -1, NULL);
        pump_artifacts(call);
    }
}

/* --- script and patterns --- */

static void append_entries(struct buffer *out, const struct pipeline_strings *strings) {
    for (size_t i = 0; i < strings->count; i++)
        buffer_append(out, strings->items[i], strlen(strings->items[i]) + 1);
}

static void respond_entries(struct http_exchange *exchange, const struct buffer *out) {
    if (buffer_error(out))
        http_respond_text(exchange, 500, "the script is too large\n");
    else
        http_respond(exchange, 200, "application/octet-stream", buffer_slice(out), NULL);
}

static void send_script(struct run_job *job, struct http_exchange *exchange) {
    const struct pipeline_job *declared = job->run->state.plan->jobs[job->index].job;
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(2 * PIPELINE_FILE_BYTES_MAX);
    append_entries(&out, &declared->before_script);
    append_entries(&out, &declared->script);
    respond_entries(exchange, &out);
}

static const char *query_value(struct http_exchange *exchange, const char *key) {
    struct query query = {0};
    return query_parse(http_exchange_arena(exchange), http_query_text(exchange), &query) ? NULL : query_find(&query, key);
}

static void send_artifact_paths(struct run_job *job, struct http_exchange *exchange) {
    const struct plan_job *plan_job = &job->run->state.plan->jobs[job->index];
    const char *exit_code = query_value(exchange, "exit_code");
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(PIPELINE_FILE_BYTES_MAX), text = BUFFER_INIT(KIB * 4);
    bool success = !exit_code || strcmp(exit_code, "0") == 0;
    enum pipeline_when when = plan_job->job->artifacts_when;
    for (size_t i = 0; i < plan_job->job->artifact_paths.count && when != (success ? PIPELINE_ON_FAILURE : PIPELINE_ON_SUCCESS); i++) {
        buffer_reset(&text);
        buffer_append_text(&text, "");
        if (pipeline_expand(&plan_job->variables, slice_of(plan_job->job->artifact_paths.items[i]), PIPELINE_UNKNOWN_EMPTY, &text) == 0)
            buffer_append(&out, text.data, text.len + 1);
    }
    respond_entries(exchange, &out);
}

/* --- uploads --- */

static void on_upload(void *userdata, struct http_exchange *exchange, struct slice data) {
    (void)exchange;
    struct call *call = userdata;
    call->written += (int64_t)data.len;
    int error = call->written > call->limit ? -EFBIG : data.len ? sys_write_all(call->fd, data) : 0;
    if (error) {
        fail(call, error == -EFBIG ? 413 : status_of_error(error), error == -EFBIG ? "more than 1 GiB" : "it could not be stored", error);
        return;
    }
    if (data.len > 0)
        return;
    close(call->fd);
    call->fd = -1;
    call->on_uploaded(call);
}

/* Streams the body into a new file. Takes over `path`. */
static void receive(struct call *call, char *path, int64_t limit, void (*on_uploaded)(struct call *call)) {
    call->path = path;
    call->limit = limit;
    call->on_uploaded = on_uploaded;
    call->fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640) : -1;
    if (call->fd < 0)
        fail(call, 507, "it could not be stored", path ? -errno : -ENOMEM);
    else
        http_stream_body(call->base.exchange, on_upload, call);
}

static void on_artifacts_received(struct call *call) {
    struct http_exchange *exchange = call->base.exchange;
    struct run_job *job = job_of(call);
    CLEANUP(freep) char *final = job ? job_artifacts_path(job->run, job->index) : NULL;
    int error = !final ? -ENOENT : rename(call->path, final) < 0 ? -errno : 0;
    if (error) {
        fail(call, 500, "the artifacts could not be stored", error);
        return;
    }
    free(TAKE(call->path));
    operation_end(&call->base);
    http_respond(exchange, 204, NULL, (struct slice){0}, NULL);
}

static void receive_artifacts(struct run_job *job, struct http_exchange *exchange) {
    struct forge *forge = job->run->forge;
    struct call *call = call_new(job, exchange);
    if (!call)
        return;
    CLEANUP(freep) char *folder = forge_path_new(forge, "artifacts/%" PRIu64, job->run->id);
    int error = folder ? sys_mkdirs(folder, 0750) : -ENOMEM;
    if (error)
        fail(call, status_of_error(error), "the artifacts could not be stored", error);
    else
        receive(call, forge_path_new(forge, "artifacts/%" PRIu64 "/%zu.part", job->run->id, job->index), (int64_t)ARTIFACTS_BYTES_MAX,
                on_artifacts_received);
}

/* --- the result --- */

static void on_result(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct forge *forge = userdata;
    struct run_job *job = job_by_token(forge, bearer_of(exchange));
    struct tree *tree = NULL;
    if (!job || json_parse(http_exchange_arena(exchange), body, NULL, &tree, NULL)) {
        http_respond_text(exchange, job ? 400 : 401, job ? "no valid result\n" : "the job is over\n");
        return;
    }
    const char *command = tree_text_or(tree_find(tree, "failed_command"), "");
    struct slice first = slice_of(command);
    first = slice_head(slice_cut(&first, '\n'), COMMAND_SHOWN_MAX);
    job->exit_code = (int)tree_int_or(tree_find(tree, "exit_code"), 0);
    job->failed_line = (int)tree_int_or(tree_find(tree, "failed_line"), 0);
    job->failed_command = first.len ? arena_dup(job->run->arena, first) : NULL;
    http_respond(exchange, 204, NULL, (struct slice){0}, NULL);
}

/* --- build and apply --- */

static void on_work_output(void *userdata, struct slice output) {
    struct call *call = userdata;
    if (call->base.exchange)
        http_write(call->base.exchange, output); /* a helper that does not read loses lines, not the build */
}

static void on_work_done(void *userdata, int exit_code) {
    struct call *call = userdata;
    call->build = NULL;
    call->apply = NULL;
    finish_with_code(call, exit_code);
}

static void on_address(void *userdata, const char *url) {
    struct run_job *job = job_of(userdata);
    if (job)
        run_set_address(job->run, url);
}

static const struct work_handlers work_handlers = {.on_output = on_work_output, .on_address = on_address, .on_done = on_work_done};

/* "[registry/]app[:tag]": the application's own repository, the commit's short id when there is no tag. */
static int read_tag(const struct run_job *job, const char *text, struct arena *arena, const char **ret, struct diag *diag) {
    const char *registry = job->run->forge->options.registry;
    struct slice name = slice_of(text ? text : "");
    if (slice_starts(name, slice_of(registry)) && slice_starts(slice_from(name, strlen(registry)), SLICE("/")))
        name = slice_from(name, strlen(registry) + 1);
    struct slice repository = slice_cut(&name, ':');
    if (repository.len > 0 && !slice_is(repository, job->run->app))
        return diag_set(diag, -EINVAL, "the image \"%s\" does not belong to this application: %s:TAG or %s/%s:TAG was expected", text, job->run->app,
                        registry, job->run->app);
    *ret = name.len ? arena_dup(arena, name) : arena_dup(arena, slice_head(slice_of(job->run->sha), 8));
    return *ret ? 0 : -ENOMEM;
}

static const char *const *build_arguments(struct arena *arena, const struct query *query) {
    const char **arguments = ARENA_ARRAY(arena, const char *, query->count + 1);
    size_t count = 0;
    for (size_t i = 0; arguments && i < query->count; i++)
        if (slice_is(query->items[i].key, "build_arg"))
            arguments[count++] = query->items[i].value.data;
    return arguments;
}

static void on_context_received(struct call *call) {
    struct http_exchange *exchange = call->base.exchange;
    struct arena *arena = http_exchange_arena(exchange);
    struct run_job *job = job_of(call);
    struct query query = {0};
    struct build_request request = {0};
    struct diag diag = DIAG_INIT;
    int error = job ? query_parse(arena, http_query_text(exchange), &query) : -ENOENT;
    if (!error)
        error = read_tag(job, query_find(&query, "tag"), arena, &request.tag, &diag);
    if (!error) {
        request.app = job->run->app;
        request.dockerfile = query_find(&query, "dockerfile");
        request.target = query_find(&query, "target");
        request.build_arguments = build_arguments(arena, &query);
        http_respond_begin(exchange, 200, "text/plain; charset=utf-8", -1, NULL);
        error = build_start(job->run->forge, call->folder, &request, &work_handlers, call, &call->build);
        if (error) {
            diag_set(&diag, error, "\"%s\" cannot be built: %s\n", request.tag, strerror(-error));
            on_work_output(call, slice_of(diag.message));
            finish_with_code(call, 1);
            return;
        }
        free(TAKE(call->path)); /* now the build's */
        free(TAKE(call->folder));
        return;
    }
    operation_end(&call->base);
    http_respond_text(exchange, 400, "%s\n", diag.message[0] ? diag.message : strerror(-error));
}

static void build(struct run_job *job, struct http_exchange *exchange) {
    struct call *call = call_new(job, exchange);
    if (!call)
        return;
    const char *folder = build_folder_new(job->run->forge, http_exchange_arena(exchange));
    call->folder = folder ? slice_dup(slice_of(folder)) : NULL;
    const char *path = call->folder ? arena_printf(http_exchange_arena(exchange), "%s/context.tar", folder) : NULL;
    if (path)
        receive(call, slice_dup(slice_of(path)), (int64_t)CONTEXT_BYTES_MAX, on_context_received);
    else
        fail(call, 507, "the build's folder could not be made", -ENOSPC);
}

static void on_manifests(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct forge *forge = userdata;
    struct run_job *job = job_by_token(forge, bearer_of(exchange));
    struct call *call = job ? call_new(job, exchange) : NULL;
    if (!job)
        http_respond_text(exchange, 401, "the job is over\n");
    if (!call)
        return;
    const struct apply_request request = {.app = job->run->app,
                                          .variables = &job->run->state.plan->jobs[job->index].variables,
                                          .tar = slice_make(body.data ? body.data : "", body.len)};
    http_respond_begin(exchange, 200, "text/plain; charset=utf-8", -1, NULL);
    if (apply_start(forge, &request, &work_handlers, call, &call->apply))
        finish_with_code(call, 1);
}

/* --- routes --- */

static void receive_result(struct run_job *job, struct http_exchange *exchange) {
    http_read_body(exchange, RESULT_BYTES_MAX, on_result, job->run->forge);
}

static void apply(struct run_job *job, struct http_exchange *exchange) {
    http_read_body(exchange, MANIFESTS_BYTES_MAX, on_manifests, job->run->forge);
}

void job_handle(struct forge *forge, struct http_exchange *exchange) {
    static const struct {
        const char *method, *path;
        void (*serve)(struct run_job *job, struct http_exchange *exchange);
    } routes[] = {
        {"GET", "/job/v1/source", send_source},
        {"GET", "/job/v1/artifacts", send_artifacts},
        {"GET", "/job/v1/script", send_script},
        {"GET", "/job/v1/artifact-paths", send_artifact_paths},
        {"POST", "/job/v1/artifacts", receive_artifacts},
        {"POST", "/job/v1/result", receive_result},
        {"POST", "/job/v1/build", build},
        {"POST", "/job/v1/apply", apply},
    };
    struct run_job *job = job_by_token(forge, bearer_of(exchange));
    if (!job) {
        http_respond_text(exchange, 401, "this needs the token of a running job\n");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (slice_is(http_method(exchange), routes[i].method) && slice_is(http_path(exchange), routes[i].path)) {
            routes[i].serve(job, exchange);
            return;
        }
    }
    http_respond_text(exchange, 404, "there is nothing at this path\n");
}

bool forge_registry_allows(struct forge *forge, const char *password, const char *repository, bool write) {
    struct slice token = slice_of(password);
    const struct run_job *job = job_by_token(forge, token);
    if (job)
        return !write || !repository || strcmp(repository, job->run->app) == 0;
    return build_token_allows(forge, token, write ? repository : NULL);
}
