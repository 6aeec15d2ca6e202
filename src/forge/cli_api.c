/* What the command line asks, as JSON: applications and pipelines. The caller was authorised as administrator before. One table of routes; "*" stands
 * for one path segment. */
#include "forge/forge_priv.h"

#include <fcntl.h>
#include <stdio.h>

#define SEGMENTS_MAX 6
#define PREFIX "/tidemill/v1/"

struct request {
    struct forge *forge;
    struct http_exchange *exchange;
    const char *parts[SEGMENTS_MAX]; /* what the "*"s matched, decoded */
    struct forge_app *app;
    struct run *run;
};

/* --- applications --- */

static void list_apps(struct request *request) {
    struct arena *arena = http_exchange_arena(request->exchange);
    struct tree *answer = tree_map(arena), *items = tree_list(arena);
    struct slice key;
    void *app;
    if (!answer || !items)
        return respond_tree(request->exchange, 500, NULL);
    for (size_t at = 0; map_next(request->forge->apps, &at, &key, &app);)
        tree_push(arena, items, app_tree(app, arena));
    tree_set(arena, answer, SLICE("items"), items);
    respond_tree(request->exchange, 200, answer);
}

static void on_create(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    if (json_parse(http_exchange_arena(exchange), body, NULL, &tree, &diag))
        respond_diag(exchange, 400, &diag);
    else
        app_create(userdata, exchange, tree_text_or(tree_find(tree, "name"), ""));
}

static void create_app(struct request *request) {
    http_read_body(request->exchange, REQUEST_BODY_MAX, on_create, request->forge);
}

static void show_app(struct request *request) {
    respond_tree(request->exchange, 200, app_tree(request->app, http_exchange_arena(request->exchange)));
}

static void delete_app(struct request *request) {
    app_delete(request->app, request->exchange);
}

static void new_token(struct request *request) {
    app_new_token(request->app, request->exchange);
}

/* --- pipelines --- */

static void respond_pipelines(struct request *request, const char *app) {
    struct arena *arena = http_exchange_arena(request->exchange);
    struct tree *answer = tree_map(arena), *items = tree_list(arena);
    if (!answer || !items)
        return respond_tree(request->exchange, 500, NULL);
    for (size_t i = request->forge->runs.count; i-- > 0;)
        if (!app || strcmp(request->forge->runs.items[i]->app, app) == 0)
            tree_push(arena, items, run_tree(request->forge->runs.items[i], arena, false));
    tree_set(arena, answer, SLICE("items"), items);
    respond_tree(request->exchange, 200, answer);
}

static void list_app_pipelines(struct request *request) {
    respond_pipelines(request, request->app->name);
}

static const char *query_value(struct request *request, const char *key) {
    struct query query = {0};
    return query_parse(http_exchange_arena(request->exchange), http_query_text(request->exchange), &query) ? NULL : query_find(&query, key);
}

static void list_pipelines(struct request *request) {
    respond_pipelines(request, query_value(request, "app"));
}

static void show_pipeline(struct request *request) {
    respond_tree(request->exchange, 200, run_tree(request->run, http_exchange_arena(request->exchange), true));
}

static struct run_job *find_job(struct run *run, const char *name) {
    for (size_t i = 0; name && i < run->jobs_count; i++)
        if (strcmp(run->jobs[i].name, name) == 0)
            return &run->jobs[i];
    return NULL;
}

static void refuse_job(struct request *request, const char *name) {
    struct diag diag = DIAG_INIT;
    CLEANUP(buffer_deinit) struct buffer names = BUFFER_INIT(DIAG_TEXT_MAX);
    for (size_t i = 0; i < request->run->jobs_count; i++)
        buffer_printf(&names, "%s%s", i ? ", " : "", request->run->jobs[i].name);
    diag_set(&diag, -ENOENT, "pipeline %" PRIu64 " has no job \"%s\"", request->run->id, name);
    diag_hint(&diag, 0, "its jobs are: %s", names.data ? names.data : "none");
    respond_diag(request->exchange, 404, &diag);
}

static void send_logs(struct request *request) {
    struct run *run = request->run;
    const char *name = query_value(request, "job"), *follow = query_value(request, "follow");
    struct run_job *job = find_job(run, name);
    if (name && !job) {
        refuse_job(request, name);
        return;
    }
    struct joblog *live = job ? job->log : run->log, *log = live;
    CLEANUP(freep) char *path = job ? job_log_path(job) : forge_path_new(request->forge, "logs/%" PRIu64 "/run.log", run->id);
    if (!live && path)
        joblog_open(path, false, &log);
    if (!log) {
        http_respond(request->exchange, 200, "text/plain; charset=utf-8", SLICE(""), NULL); /* it has not started */
        return;
    }
    const struct joblog_follow_options options = {.live = follow && strcmp(follow, "0") != 0 && strcmp(follow, "false") != 0};
    http_respond_begin(request->exchange, 200, "text/plain; charset=utf-8", -1, NULL);
    if (joblog_follow(log, request->exchange, &options))
        http_respond_end(request->exchange);
    if (!live)
        joblog_unref(log);
}

static void cancel_pipeline(struct request *request) {
    if (job_status_is_final(request->run->state.status)) {
        respond_message(request->exchange, 409, "pipeline %" PRIu64 " has ended: %s", request->run->id, job_status_name(request->run->state.status));
        return;
    }
    run_post(request->run, PIPELINE_EVENT_CANCEL, 0);
    respond_message(request->exchange, 202, "pipeline %" PRIu64 " is being cancelled", request->run->id);
}

static bool activate(struct request *request) {
    struct diag diag = DIAG_INIT;
    int error = run_activate(request->run, &diag);
    if (error && !diag.message[0])
        diag_set(&diag, error, "the pipeline cannot be loaded: %s", strerror(-error));
    if (error)
        respond_diag(request->exchange, 409, &diag);
    return error == 0;
}

/* Every failed or cancelled job once more. */
static void retry_pipeline(struct request *request) {
    struct run *run = request->run;
    size_t count = 0;
    if (!job_status_is_final(run->state.status) || run->state.status == JOB_SUCCESS) {
        respond_message(request->exchange, 409, "pipeline %" PRIu64 " has the status \"%s\": only a failed or canceled one can be retried", run->id,
                        job_status_name(run->state.status));
        return;
    }
    if (!activate(request))
        return;
    for (size_t i = 0; i < run->jobs_count; i++) {
        enum job_status status = run_job_status(run, i);
        if (status != JOB_FAILED && (status != JOB_CANCELED || !run->state.jobs[i].started_ms))
            continue;
        run_post(run, PIPELINE_EVENT_JOB_RETRY, i);
        count++;
    }
    respond_message(request->exchange, 202, "pipeline %" PRIu64 ": %zu jobs start again", run->id, count);
}

static void start_job(struct request *request, enum pipeline_event_type type, const char *what) {
    struct run_job *job = find_job(request->run, request->parts[1]);
    if (!job) {
        refuse_job(request, request->parts[1]);
        return;
    }
    size_t index = job->index;
    enum job_status status = run_job_status(request->run, index);
    bool fits = type == PIPELINE_EVENT_JOB_PLAY ? status == JOB_MANUAL : job_status_is_final(status) && status != JOB_SKIPPED;
    if (!fits) {
        respond_message(request->exchange, 409, "the job \"%s\" has the status \"%s\": it cannot be %s", job->name, job_status_name(status), what);
        return;
    }
    if (!activate(request))
        return;
    run_post(request->run, type, index);
    respond_message(request->exchange, 202, "the job \"%s\" starts", request->parts[1]);
}

static void play_job(struct request *request) {
    start_job(request, PIPELINE_EVENT_JOB_PLAY, "played");
}
static void retry_job(struct request *request) {
    start_job(request, PIPELINE_EVENT_JOB_RETRY, "retried");
}

/* --- routes --- */

enum subject { NOTHING, APP, RUN }; /* what the first "*" names */
static const struct route {
    const char *method, *path;
    enum subject subject;
    void (*serve)(struct request *request);
} routes[] = {
    {"GET", "apps", NOTHING, list_apps},
    {"POST", "apps", NOTHING, create_app},
    {"GET", "apps/*", APP, show_app},
    {"DELETE", "apps/*", APP, delete_app},
    {"POST", "apps/*/token", APP, new_token},
    {"GET", "apps/*/pipelines", APP, list_app_pipelines},
    {"GET", "pipelines", NOTHING, list_pipelines},
    {"GET", "pipelines/*", RUN, show_pipeline},
    {"GET", "pipelines/*/logs", RUN, send_logs},
    {"POST", "pipelines/*/cancel", RUN, cancel_pipeline},
    {"POST", "pipelines/*/retry", RUN, retry_pipeline},
    {"POST", "pipelines/*/jobs/*/play", RUN, play_job},
    {"POST", "pipelines/*/jobs/*/retry", RUN, retry_job},
};

static bool matches(const char *pattern, struct slice path, struct request *request) {
    struct slice rest = slice_of(pattern);
    size_t count = 0;
    while (rest.len > 0 && path.len > 0) {
        struct slice wanted = slice_cut(&rest, '/'), got = slice_cut(&path, '/');
        if (!slice_is(wanted, "*")) {
            if (!slice_equal(wanted, got))
                return false;
            continue;
        }
        CLEANUP(buffer_deinit) struct buffer decoded = BUFFER_INIT(KIB);
        if (percent_decode(&decoded, got, false) ||
            !(request->parts[count++] = arena_dup(http_exchange_arena(request->exchange), buffer_slice(&decoded))))
            return false;
    }
    return rest.len == 0 && path.len == 0;
}

static void refuse_unknown(struct request *request, const char *what, const char *hint) {
    struct diag diag = DIAG_INIT;
    diag_set(&diag, -ENOENT, "there is no %s \"%s\"", what, request->parts[0]);
    diag_hint(&diag, 0, "%s", hint);
    respond_diag(request->exchange, 404, &diag);
}

static bool find_subject(struct request *request, enum subject subject) {
    uint64_t id = 0;
    if (subject == APP) {
        request->app = app_find(request->forge, slice_of(request->parts[0]));
        if (!request->app)
            refuse_unknown(request, "application", "`tidemill app list` shows them all; `tidemill app create NAME` makes one");
        return request->app != NULL;
    }
    if (subject == RUN) {
        request->run = slice_parse_u64(slice_of(request->parts[0]), UINT64_MAX, &id) ? NULL : run_find(request->forge, id);
        if (!request->run)
            refuse_unknown(request, "pipeline", "`tidemill pipeline list` shows them all");
        return request->run != NULL;
    }
    return true;
}

void forge_handle_cli(void *userdata, struct http_exchange *exchange) {
    struct slice path = http_path(exchange);
    bool known = false;
    path = slice_starts(path, SLICE(PREFIX)) ? slice_from(path, sizeof PREFIX - 1) : (struct slice){0};
    for (size_t i = 0; path.len > 0 && i < ARRAY_LEN(routes); i++) {
        struct request request = {.forge = userdata, .exchange = exchange};
        if (!matches(routes[i].path, path, &request))
            continue;
        known = true;
        if (!slice_is(http_method(exchange), routes[i].method))
            continue;
        if (find_subject(&request, routes[i].subject))
            routes[i].serve(&request);
        return;
    }
    respond_message(exchange, known ? 405 : 404, known ? "this method is not allowed here" : "there is nothing at this path");
}

void forge_statistics(const struct forge *forge, struct forge_statistics *ret) {
    *ret = (struct forge_statistics){.apps = map_count(forge->apps), .pipelines = forge->next_run - 1};
    for (size_t i = 0; i < forge->runs.count; i++)
        for (size_t k = 0; k < forge->runs.items[i]->jobs_count; k++)
            ret->jobs_running += run_job_status(forge->runs.items[i], k) == JOB_RUNNING;
    LIST_FOREACH(it, &forge->builds) {
        ret->builds_running++;
    }
}
