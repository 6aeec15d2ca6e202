/* A job of a run: a pod with the job helper, or, in the default pipeline, work that the forge does itself (build the image, apply the manifests).
 *
 * Invariants
 * 1. A job's token exists exactly while the job runs; only its digest is kept. With it the pod can fetch the sources and artifacts, build and apply;
 * at the end it is worth nothing.
 * 2. job_end is the one place where a running job becomes a finished one: it says so in the run's log, closes the job's log, and posts the event.
 * 3. The job's own log has its output as it came; the run's log, which the push shows, has it line by line behind the job's name. */
#include "forge/forge_priv.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

#include "sys/sys.h"

#define POD_ARENA_BYTES_MAX (4 * MIB)
#define MS_PER_S 1000
#define DEADLINE_EXTRA_S 60
#define GIT_ARCHIVE_TIMEOUT_MS 120000
#define ENV_VALUE_BYTES_MAX (64 * KIB)

char *job_log_path(const struct run_job *job) {
    return forge_path_new(job->run->forge, "logs/%" PRIu64 "/%zu.log", job->run->id, job->index);
}

char *job_artifacts_path(const struct run *run, size_t job) {
    return forge_path_new(run->forge, "artifacts/%" PRIu64 "/%zu.tar", run->id, job);
}

char *run_image(const struct run *run, struct arena *arena) {
    return arena_printf(arena, "%s/%s:%.8s", run->forge->options.registry, run->app, run->sha);
}

struct run_job *job_by_token(const struct forge *forge, struct slice token) {
    char digest[DIGEST_BYTES];
    if (token.len == 0)
        return NULL;
    digest_sha256_hex(token, digest);
    for (size_t i = forge->runs.count; i-- > 0;) {
        struct run *run = forge->runs.items[i];
        for (size_t k = 0; run->pipeline && k < run->jobs_count; k++)
            if (run->jobs[k].token_digest[0] && secret_equal(slice_of(run->jobs[k].token_digest), slice_of(digest)))
                return &run->jobs[k];
    }
    return NULL;
}

/* "site-12-0-x7k2f": short enough for a pod whatever the job's name is, and new for each attempt, since the pod before may still be on its way out.
 */
static void name_pod(struct run_job *job) {
    char random[6];
    sys_random_name(random, sizeof random - 1);
    snprintf(job->pod_name, sizeof job->pod_name, "%.30s-%" PRIu64 "-%zu-%s", job->run->app, job->run->id, job->index, random);
}

/* --- output --- */

static void say_line(struct run_job *job) {
    struct slice line = buffer_slice(&job->line);
    ptrdiff_t overwritten; /* progress bars: what stands behind the last carriage return */
    while (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    while ((overwritten = slice_index(line, '\r')) >= 0)
        line = slice_from(line, (size_t)overwritten + 1);
    run_say(job->run, "%s | %.*s", job->name, SLICE_ARG(line));
    buffer_reset(&job->line);
}

void job_output(struct run_job *job, struct slice bytes) {
    if (job->log)
        joblog_append(job->log, bytes);
    while (bytes.len > 0) {
        ptrdiff_t end = slice_index(bytes, '\n');
        struct slice piece = end < 0 ? bytes : slice_head(bytes, (size_t)end);
        size_t room = job->line.bytes_max - job->line.len;
        buffer_append_slice(&job->line, slice_head(piece, room)); /* of a very long line the first 4 KiB */
        if (end < 0)
            return;
        say_line(job);
        bytes = slice_from(bytes, (size_t)end + 1);
    }
}

/* --- the pod --- */

/* Kubernetes itself would expand $(NAME) in values. */
static const char *escape_value(struct arena *arena, struct slice value) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(2 * ENV_VALUE_BYTES_MAX);
    buffer_append_text(&out, "");
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] == '$' && i + 1 < value.len && value.data[i + 1] == '(')
            buffer_append_byte(&out, '$');
        buffer_append_byte(&out, value.data[i]);
    }
    return buffer_error(&out) ? NULL : arena_dup(arena, buffer_slice(&out));
}

static char *expanded(const struct pipeline_variables *variables, const struct pipeline_variable *variable, struct arena *arena) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(ENV_VALUE_BYTES_MAX);
    if (variable->raw)
        return arena_strdup(arena, variable->value);
    return pipeline_expand(variables, slice_of(variable->value), PIPELINE_UNKNOWN_EMPTY, &out) ? NULL : arena_dup(arena, buffer_slice(&out));
}

static int add_variable(struct arena *arena, struct tree *list, const char *name, const char *value) {
    struct tree *entry = tree_map(arena);
    if (!entry || !value)
        return -ENOMEM;
    int error = tree_set_text(arena, entry, "name", name);
    if (!error)
        error = tree_set_text(arena, entry, "value", value);
    return error ? error : tree_push(arena, list, entry);
}

static struct tree *environment(struct run_job *job, struct arena *arena, const char *token, const char *image) {
    const struct forge_options *options = &job->run->forge->options;
    const struct pipeline_variables *variables = &job->run->state.plan->jobs[job->index].variables;
    const char *socket_name = strrchr(options->job_socket, '/');
    const char *const own[][2] = {
        {"CI_JOB_ID", arena_printf(arena, "%" PRIu64 "%03zu", job->run->id, job->index)},
        {"CI_JOB_IMAGE", image},
        {"CI_JOB_TOKEN", token},
        {"CI_REGISTRY_USER", "job"},
        {"CI_REGISTRY_PASSWORD", token},
        {"TIDEMILL_JOB_TOKEN", token},
        {"TIDEMILL_JOB_SOCKET", arena_printf(arena, "/.tidemill-run%s", socket_name ? socket_name : "/job.sock")},
    };
    struct tree *list = tree_list(arena);
    int error = list ? 0 : -ENOMEM;
    for (size_t i = 0; !error && i < variables->count; i++) {
        char *value = expanded(variables, &variables->items[i], arena);
        error = value ? add_variable(arena, list, variables->items[i].name, escape_value(arena, slice_of(value))) : -ENOMEM;
    }
    for (size_t i = 0; !error && i < ARRAY_LEN(own); i++)
        error = add_variable(arena, list, own[i][0], own[i][1]);
    return error ? NULL : list;
}

/* The parts of the pod that differ from job to job are put into a text that shows what a job's pod is. The socket's folder is read-only: a job that
 * could put a socket of its own there would be told the tokens of all others. */
static const char pod_template[] =
    "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"labels\":{\"app.kubernetes.io/"
    "managed-by\":\"tidemill\"}},\"spec\":{\"restartPolicy\":\"Never\",\"priorityClassName\":\"tidemill-batch\","
    "\"automountServiceAccountToken\":false,\"enableServiceLinks\":false,\"terminationGracePeriodSeconds\":5,"
    "\"containers\":[{\"name\":\"job\",\"command\":[\"/.tidemill/tidemill-job\",\"run\"],"
    "\"volumeMounts\":[{\"name\":\"helper\",\"mountPath\":\"/.tidemill\",\"readOnly\":true},"
    "{\"name\":\"socket\",\"mountPath\":\"/.tidemill-run\",\"readOnly\":true},{\"name\":\"builds\",\"mountPath\":\"/builds\"}]}],"
    "\"volumes\":[{\"name\":\"helper\",\"hostPath\":{\"type\":\"Directory\"}},{\"name\":\"socket\",\"hostPath\":{\"type\":\"Directory\"}},{\"name\":"
    "\"builds\",\"emptyDir\":{}}]}}";

static const char *folder_of(struct arena *arena, const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash != path ? arena_dup(arena, slice_make(path, (size_t)(slash - path))) : "/";
}

static struct tree *resources(struct arena *arena, const struct forge_options *options) {
    struct tree *limits = tree_map(arena), *requests = tree_map(arena), *both = tree_map(arena);
    if (!limits || !requests || !both)
        return NULL;
    tree_set_text(arena, limits, "cpu", options->job_cpu_limit);
    tree_set_text(arena, limits, "memory", options->job_memory_limit);
    tree_set_text(arena, requests, "cpu", "10m");
    tree_set_text(arena, requests, "memory", "16Mi");
    tree_set(arena, both, SLICE("limits"), limits);
    return tree_set(arena, both, SLICE("requests"), requests) ? NULL : both;
}

static char *job_image(struct run_job *job, struct arena *arena) {
    const struct plan_job *plan_job = &job->run->state.plan->jobs[job->index];
    const struct pipeline_variable image = {.name = "image",
                                            .value = plan_job->job->image ? plan_job->job->image : job->run->forge->options.default_image};
    return expanded(&plan_job->variables, &image, arena);
}

static int pod_json(struct run_job *job, const char *token, struct arena *arena, struct buffer *out) {
    const struct forge *forge = job->run->forge;
    const struct pipeline_job *declared = job->run->state.plan->jobs[job->index].job;
    struct tree *pod = NULL;
    if (json_parse(arena, slice_of(pod_template), NULL, &pod, NULL))
        return -ENOMEM;
    struct tree *metadata = tree_find(pod, "metadata"), *spec = tree_find(pod, "spec");
    struct tree *labels = tree_find(metadata, "labels"), *container = tree_at(tree_find(spec, "containers"), 0),
                *volumes = tree_find(spec, "volumes");
    const char *image = job_image(job, arena);
    if (!image)
        return -ENOMEM;
    tree_set_text(arena, metadata, "name", job->pod_name);
    tree_set_text(arena, metadata, "namespace", FORGE_NAMESPACE);
    tree_set_text(arena, labels, "tidemill.dev/app", job->run->app);
    tree_set(arena, labels, SLICE("tidemill.dev/pipeline"), tree_printf(arena, "%" PRIu64, job->run->id));
    tree_set(arena, labels, SLICE("tidemill.dev/job"), tree_printf(arena, "%zu", job->index));
    tree_set(arena, spec, SLICE("activeDeadlineSeconds"), tree_int(arena, declared->timeout_s + DEADLINE_EXTRA_S));
    tree_set_text(arena, container, "image", image);
    tree_set(arena, container, SLICE("env"), environment(job, arena, token, image));
    tree_set(arena, container, SLICE("resources"), resources(arena, &forge->options));
    const char *helper = forge_path(forge, arena, "helper"), *socket_folder = folder_of(arena, forge->options.job_socket);
    if (!helper || !socket_folder)
        return -ENOMEM;
    tree_set_text(arena, tree_find(tree_at(volumes, 0), "hostPath"), "path", helper);
    tree_set_text(arena, tree_find(tree_at(volumes, 1), "hostPath"), "path", socket_folder);
    return tree_find(container, "env") && tree_find(container, "resources") ? json_format(out, pod) : -ENOMEM;
}

static void on_running(void *userdata) {
    struct run_job *job = userdata;
    run_post(job->run, PIPELINE_EVENT_JOB_RUNNING, job->index);
}

static void on_output(void *userdata, struct slice output) {
    job_output(userdata, output);
}

static void on_pod_end(void *userdata, const struct podrun_end *end) {
    struct run_job *job = userdata;
    job->pod = NULL; /* it frees itself */
    job_end(job, end->exit_code, end->reason);
}

static const struct podrun_handlers pod_handlers = {.on_running = on_running, .on_output = on_output, .on_end = on_pod_end};

static int start_pod(struct run_job *job) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(POD_ARENA_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(API_BODY_BYTES_MAX);
    char token[TOKEN_BYTES + 1];
    if (!arena)
        return -ENOMEM;
    token_make(token);
    token_digest(token, job->token_digest);
    name_pod(job);
    int error = pod_json(job, token, arena, &json);
    const struct podrun_options options = {.name = job->pod_name, .json = buffer_slice(&json)};
    return error ? error : podrun_start(job->run->forge, &options, &pod_handlers, job, &job->pod);
}

/* --- what the forge does itself --- */

struct fetch {
    struct operation base;
    struct run_job *job;
    char *folder; /* of the build; NULL: the manifests are in the answer */
};

static void destroy_fetch(struct operation *base) {
    struct fetch *fetch = CONTAINER_OF(base, struct fetch, base);
    fetch->job->fetching = NULL;
    free(fetch->folder);
    free(fetch);
}

static void on_work_done(void *userdata, int exit_code) {
    struct run_job *job = userdata;
    job->build = NULL;
    job->apply = NULL;
    job_end(job, exit_code, NULL);
}

static void on_address(void *userdata, const char *url) {
    struct run_job *job = userdata;
    run_set_address(job->run, url);
}

static const struct work_handlers work_handlers = {.on_output = on_output, .on_address = on_address, .on_done = on_work_done};

static int apply_manifests(struct run_job *job, struct slice tar, struct slice manifest) {
    const struct apply_request request = {.app = job->run->app,
                                          .variables = &job->run->state.plan->jobs[job->index].variables,
                                          .tar = tar,
                                          .manifest = manifest,
                                          .manifest_name = "generated.yaml"};
    return apply_start(job->run->forge, &request, &work_handlers, job, &job->apply);
}

static int start_build(struct run_job *job, const char *folder) {
    char tag[9];
    snprintf(tag, sizeof tag, "%.8s", job->run->sha);
    const struct build_request request = {.app = job->run->app, .tag = tag};
    return build_start(job->run->forge, folder, &request, &work_handlers, job, &job->build);
}

static void on_fetched(void *userdata, int status, struct slice out, struct slice err) {
    struct fetch *fetch = userdata;
    struct run_job *job = fetch->job;
    fetch->base.command = NULL;
    int error = status ? -EIO : fetch->folder ? start_build(job, fetch->folder) : apply_manifests(job, out, (struct slice){0});
    char reason[300];
    snprintf(reason, sizeof reason, status ? "git archive failed: %.*s" : "it could not be started: %.*s",
             SLICE_ARG(status ? slice_head(slice_trim(err), 200) : slice_of(strerror(-error))));
    operation_end(&fetch->base);
    if (error)
        job_end(job, -1, reason);
}

/* `git archive` of the commit: into the build's folder, or only deploy/, to be applied. */
static int fetch_sources(struct run_job *job, struct arena *arena, const char *build_folder) {
    struct forge *forge = job->run->forge;
    struct fetch *fetch = calloc(1, sizeof *fetch);
    if (!fetch)
        return -ENOMEM;
    fetch->job = job;
    operation_init(&fetch->base, forge, NULL, destroy_fetch);
    job->fetching = &fetch->base;
    fetch->folder = build_folder ? slice_dup(slice_of(build_folder)) : NULL;
    const char *output = build_folder ? arena_printf(arena, "--output=%s/context.tar", build_folder) : "--",
               *git_dir = arena_printf(arena, "--git-dir=%s/repos/%s.git", forge->folder, job->run->app);
    const char *build_argv[] = {"git", git_dir, "archive", "--format=tar", output, job->run->sha, NULL};
    const char *deploy_argv[] = {"git", git_dir, "archive", "--format=tar", job->run->sha, "deploy", NULL};
    struct loop_command_options options = {
        .spawn = {.argv = build_folder ? build_argv : deploy_argv}, .output_max = MANIFESTS_BYTES_MAX, .timeout_ms = GIT_ARCHIVE_TIMEOUT_MS};
    int error = git_dir && output && (fetch->folder || !build_folder) ? operation_git(&fetch->base, &options, on_fetched) : -ENOMEM;
    if (error)
        operation_end(&fetch->base);
    return error;
}

static int deploy_generated(struct run_job *job, struct arena *arena) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB);
    const struct manifest_options options = {.app = job->run->app,
                                             .image = run_image(job->run, arena),
                                             .domain = job->run->forge->options.domain,
                                             .port = job->run->port ? job->run->port : 8080};
    if (!options.image || manifest_generate(&options, &text))
        return -ENOMEM;
    return apply_manifests(job, (struct slice){0}, buffer_slice(&text));
}

static int start_builtin(struct run_job *job, enum pipeline_builtin builtin) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    if (!arena)
        return -ENOMEM;
    on_running(job);
    if (builtin == PIPELINE_BUILTIN_BUILD) {
        char *folder = build_folder_new(job->run->forge, arena);
        return folder ? fetch_sources(job, arena, folder) : -EIO;
    }
    return job->run->has_deploy ? fetch_sources(job, arena, NULL) : deploy_generated(job, arena);
}

/* --- start and end --- */

static void on_timeout(void *userdata) {
    struct run_job *job = userdata;
    char reason[100];
    snprintf(reason, sizeof reason, "it ran longer than its timeout of %" PRId64 " s", job->run->state.plan->jobs[job->index].job->timeout_s);
    podrun_kill(TAKE(job->pod));
    build_cancel(TAKE(job->build));
    apply_cancel(TAKE(job->apply));
    if (job->fetching)
        operation_end(job->fetching);
    job_end(job, -1, reason);
}

/* A new attempt begins a new log: job_adopt takes its size for what is known of the pod's. */
static int open_log(struct run_job *job, bool fresh) {
    CLEANUP(freep) char *path = job_log_path(job);
    if (path && fresh)
        unlink(path);
    return path ? joblog_open(path, true, &job->log) : -ENOMEM;
}

void job_start(struct run_job *job) {
    const struct pipeline_job *declared = job->run->state.plan->jobs[job->index].job;
    job->exit_code = job->failed_line = 0;
    job->failed_command = job->reason = NULL;
    job->stopping = false;
    run_say(job->run, "--> %s (stage %s)", job->name, job->stage);
    loop_timer_init(&job->timeout, job->run->forge->loop, on_timeout, job);
    int error = open_log(job, true);
    if (!error)
        error = loop_timer_set(&job->timeout, declared->timeout_s * MS_PER_S);
    if (!error)
        error = declared->builtin == PIPELINE_SCRIPT ? start_pod(job) : start_builtin(job, declared->builtin);
    if (error) {
        char reason[128];
        snprintf(reason, sizeof reason, "it could not be started: %s", strerror(-error));
        job_end(job, -1, reason);
    }
}

static bool is_busy(const struct run_job *job) {
    return job->pod || job->build || job->apply || job->fetching;
}

void job_adopt(struct run_job *job) {
    const struct pipeline_job *declared = job->run->state.plan->jobs[job->index].job;
    const struct job_state *state = &job->run->state.jobs[job->index];
    if (is_busy(job)) /* started since the restart */
        return;
    int64_t spent_ms = state->started_ms ? forge_now_ms(job->run->forge) - state->started_ms : 0;
    loop_timer_init(&job->timeout, job->run->forge->loop, on_timeout, job);
    int error = open_log(job, false);
    if (!error)
        error = loop_timer_set(&job->timeout, MAX(declared->timeout_s * MS_PER_S - spent_ms, 1));
    const struct podrun_options options = {.name = job->pod_name, .log_offset = job->log ? joblog_size(job->log) : 0};
    if (!error && declared->builtin == PIPELINE_SCRIPT)
        error = podrun_start(job->run->forge, &options, &pod_handlers, job, &job->pod);
    else if (!error)
        error = -EINTR;
    if (error)
        job_end(job, -1, "the platform was restarted while it ran");
    else if (job->stopping)
        job_stop(job);
}

static void say_end(struct run_job *job, bool success) {
    const struct job_state *state = &job->run->state.jobs[job->index];
    int64_t started_ms = state->started_ms ? state->started_ms : forge_now_ms(job->run->forge);
    double seconds = (double)(forge_now_ms(job->run->forge) - started_ms) / MS_PER_S;
    if (success)
        run_say(job->run, "--- %s succeeded in %.1f s", job->name, seconds);
    else if (job->reason && *job->reason)
        run_say(job->run, "--- %s FAILED: %s", job->name, job->reason);
    else if (job->failed_line)
        run_say(job->run, "--- %s FAILED with exit code %d in line %d of its script: %s", job->name, job->exit_code, job->failed_line,
                job->failed_command ? job->failed_command : "");
    else
        run_say(job->run, "--- %s FAILED with exit code %d", job->name, job->exit_code);
    if (!success && job->reason && slice_starts(slice_of(job->reason), SLICE("ErrImagePull")))
        run_say(job->run, "    hint: `tidemill image list` shows what there is; `tidemill image bootstrap debian:12`, for one, makes a base image");
    if (!success && job->allow_failure)
        run_say(job->run, "    (it may fail: the pipeline goes on)");
}

static void clear(struct run_job *job) {
    loop_timer_cancel(&job->timeout);
    job->token_digest[0] = '\0';
    if (job->line.len > 0)
        say_line(job);
    buffer_deinit(&job->line);
    job->line = BUFFER_INIT(4 * KIB);
    if (job->log)
        joblog_close(job->log);
    joblog_unref(TAKE(job->log));
}

void job_end(struct run_job *job, int exit_code, const char *reason) {
    bool success = exit_code == 0 && !reason;
    if (job->line.len > 0)
        say_line(job);
    job->exit_code = exit_code > 0 || success ? exit_code : 1;
    if (reason && job->log)
        joblog_printf(job->log, "%s\n", reason);
    if (reason)
        job->reason = arena_strdup(job->run->arena, reason);
    say_end(job, success);
    clear(job);
    run_post(job->run, success ? PIPELINE_EVENT_JOB_SUCCESS : PIPELINE_EVENT_JOB_FAILED, job->index);
}

void job_stop(struct run_job *job) {
    if (!is_busy(job)) { /* after a restart its pod is not known yet: job_adopt will stop it */
        job->stopping = true;
        return;
    }
    podrun_kill(TAKE(job->pod));
    build_cancel(TAKE(job->build));
    apply_cancel(TAKE(job->apply));
    if (job->fetching)
        operation_end(job->fetching);
    if (job->log)
        joblog_printf(job->log, "cancelled\n");
    run_say(job->run, "--- %s cancelled", job->name);
    clear(job);
    run_post(job->run, PIPELINE_EVENT_JOB_CANCELED, job->index);
}

void job_detach(struct run_job *job) {
    podrun_detach(TAKE(job->pod));
    build_cancel(TAKE(job->build));
    apply_cancel(TAKE(job->apply));
    if (job->fetching)
        operation_end(job->fetching);
    if (job->timeout.loop)
        loop_timer_cancel(&job->timeout);
    buffer_deinit(&job->line);
    if (job->log)
        joblog_close(job->log);
    joblog_unref(TAKE(job->log));
}
