/* `tidemill app …` and `tidemill pipeline …`: the forge's interface beneath /tidemill/v1 as commands. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/summary_priv.h"
#include "cli/terminal_priv.h"

#include <stdio.h>

static const struct slice no_body = {NULL, 0};

/* Opens the session, calls, and prints with `print` (or as JSON when asked for). */
static int call_and_print(const struct invocation *invocation, const char *method, const char *path, struct slice body,
                          void (*print)(const struct tree *answer)) {
    struct diag diag = DIAG_INIT;
    struct session session;
    struct session_answer answer;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int r = session_call(&session, method, path, body.data ? "application/json" : NULL, body, &answer, &diag);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * MIB);
    if (r == 0 && answer.tree && session_wants_json(invocation)) {
        json_format_pretty(&out, answer.tree);
        session_print(NULL, buffer_slice(&out));
    } else if (r == 0 && print) {
        print(answer.tree);
    }
    session_close(&session);
    return r < 0 ? terminal_error(&diag) : 0;
}

static const char *text_of(const struct tree *node, const char *key) {
    return tree_text_or(tree_find(node, key), "");
}

static void print_created(const struct tree *app) {
    printf("Application %s is ready for its first push:\n\n  git remote add tidemill %s\n  git push tidemill main\n\n", text_of(app, "name"),
           text_of(app, "remote"));
    printf("The URL holds the application's token: treat it as a password.\n");
}

static bool check_name(const char *name) {
    if (name_is_dns1035_label(slice_of(name)))
        return true;
    terminal_error_text("\"%s\" is no name for an application: at most 63 of a-z, 0-9 and \"-\", starting with a letter", name);
    return false;
}

int run_app_create(const struct invocation *invocation) {
    char body[128];
    if (!check_name(invocation->arguments[0]))
        return 1;
    snprintf(body, sizeof body, "{\"name\":\"%s\"}", invocation->arguments[0]);
    return call_and_print(invocation, "POST", "/tidemill/v1/apps", slice_of(body), print_created);
}

static int print_json(const struct tree *tree) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * MIB);
    int r = json_format_pretty(&out, tree);
    if (r == 0)
        session_print(NULL, buffer_slice(&out));
    return r;
}

int run_app_list(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    struct tree *apps, *answer;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int r = summary_read(&session, &apps, &diag);
    if (r == 0 && session_wants_json(invocation)) {
        answer = tree_map(session.arena);
        tree_set(session.arena, answer, SLICE("items"), apps);
        print_json(answer);
    } else if (r == 0) {
        summary_print(apps);
        if (tree_count(apps) == 0)
            fprintf(stderr, "There are none yet: `tidemill app create NAME` makes one.\n");
    }
    session_close(&session);
    return r < 0 ? terminal_error(&diag) : 0;
}

static int call_app(const struct invocation *invocation, const char *method, void (*print)(const struct tree *answer)) {
    char path[128];
    if (!check_name(invocation->arguments[0]))
        return 1;
    snprintf(path, sizeof path, "/tidemill/v1/apps/%s", invocation->arguments[0]);
    return call_and_print(invocation, method, path, no_body, print);
}

static void print_remote(const struct tree *app) {
    printf("%s\n", text_of(app, "remote"));
}

int run_app_token(const struct invocation *invocation) {
    char path[128];
    if (!check_name(invocation->arguments[0]))
        return 1;
    snprintf(path, sizeof path, "/tidemill/v1/apps/%s/token", invocation->arguments[0]);
    return call_and_print(invocation, "POST", path, no_body, print_remote);
}

static void print_deleted(__attribute__((unused)) const struct tree *answer) {
    printf("Deleted: the repository and the namespace with all that ran in it.\n");
}

int run_app_delete(const struct invocation *invocation) {
    return call_app(invocation, "DELETE", print_deleted);
}

static void print_pipelines_max(const struct tree *answer, size_t max) {
    const struct tree *items = tree_find(answer, "items");
    struct terminal_table table = {.columns = 6};
    terminal_table_row(&table, (const char *const[]){"ID", "APP", "STATUS", "REF", "COMMIT", "AGE"});
    for (size_t i = 0; i < tree_count(items) && i < max; i++) {
        const struct tree *item = tree_at(items, i);
        char id[24], age[TIMESTAMP_BYTES], commit[12];
        snprintf(id, sizeof id, "%" PRId64, tree_int_or(tree_find(item, "id"), 0));
        snprintf(commit, sizeof commit, "%.8s", text_of(item, "sha"));
        summary_age(item, "created", age);
        terminal_table_row(&table, (const char *const[]){id, text_of(item, "app"), text_of(item, "status"), text_of(item, "ref"), commit, age});
    }
    terminal_table_print(&table);
}

static void print_pipelines(const struct tree *answer) {
    print_pipelines_max(answer, SIZE_MAX);
}

#define SHOW_PIPELINES_MAX 5

static void print_app(const struct tree *app, const struct tree *pipelines) {
    char pods[32];
    summary_format_pods(app, pods);
    printf("Name:         %s\nURL:          %s\nRepository:   %s\nNamespace:    %s\nPods ready:   %s\n\n", text_of(app, "name"), text_of(app, "url"),
           text_of(app, "repository"), text_of(app, "namespace"), pods);
    if (tree_count(tree_find(pipelines, "items")))
        print_pipelines_max(pipelines, SHOW_PIPELINES_MAX);
    else
        printf("No pipeline yet: `git push` starts one; `tidemill app token %s` gives a remote to push to.\n", text_of(app, "name"));
}

static int show_app(struct session *session, const struct invocation *invocation, struct diag *diag) {
    struct session_answer app, pipelines;
    const char *path = arena_printf(session->arena, "/tidemill/v1/apps/%s", invocation->arguments[0]);
    int r = session_call(session, "GET", path, NULL, no_body, &app, diag);
    if (r == 0)
        r = session_call(session, "GET", arena_printf(session->arena, "%s/pipelines", path), NULL, no_body, &pipelines, diag);
    if (r == 0)
        r = summary_add_pods(session, app.tree, diag);
    if (r == 0 && session_wants_json(invocation))
        r = print_json(app.tree);
    else if (r == 0)
        print_app(app.tree, pipelines.tree);
    return r;
}

int run_app_show(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    if (!check_name(invocation->arguments[0]))
        return 1;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int r = show_app(&session, invocation, &diag);
    session_close(&session);
    return r < 0 ? terminal_error(&diag) : 0;
}

int run_pipeline_list(const struct invocation *invocation) {
    char path[128] = "/tidemill/v1/pipelines";
    if (invocation->arguments_count) {
        if (!check_name(invocation->arguments[0]))
            return 1;
        snprintf(path, sizeof path, "/tidemill/v1/apps/%s/pipelines", invocation->arguments[0]);
    }
    return call_and_print(invocation, "GET", path, no_body, print_pipelines);
}

static void print_pipeline(const struct tree *pipeline) {
    char age[TIMESTAMP_BYTES];
    summary_age(pipeline, "created", age);
    printf("Pipeline %" PRId64 " of %s: %s (%s, %.8s, %s ago)\n", tree_int_or(tree_find(pipeline, "id"), 0), text_of(pipeline, "app"),
           text_of(pipeline, "status"), text_of(pipeline, "ref"), text_of(pipeline, "sha"), age);
    const struct tree *jobs = tree_find(pipeline, "jobs");
    struct terminal_table table = {.columns = 4};
    terminal_table_row(&table, (const char *const[]){"STAGE", "JOB", "STATUS", "REASON"});
    for (size_t i = 0; i < tree_count(jobs); i++) {
        const struct tree *job = tree_at(jobs, i);
        terminal_table_row(&table,
                           (const char *const[]){text_of(job, "stage"), text_of(job, "name"), text_of(job, "status"), text_of(job, "reason")});
    }
    terminal_table_print(&table);
}

/* The pipeline's id: a number as it is, an application's name means its last pipeline. */
static int find_pipeline(struct session *session, const char *argument, int64_t *ret, struct diag *diag) {
    if (slice_parse_i64(slice_of(argument), ret) == 0)
        return 0;
    if (!name_is_dns_label(slice_of(argument)))
        return diag_set(diag, -EINVAL, "\"%s\" is neither a pipeline's number nor an application's name", argument);
    struct session_answer answer;
    int r = session_call(session, "GET", arena_printf(session->arena, "/tidemill/v1/apps/%s/pipelines", argument), NULL, no_body, &answer, diag);
    if (r < 0)
        return r;
    const struct tree *first = tree_at(tree_find(answer.tree, "items"), 0);
    if (!first) {
        diag_set(diag, -ENOENT, "%s has had no pipeline yet", argument);
        return diag_hint(diag, -ENOENT, "`git push` starts one");
    }
    *ret = tree_int_or(tree_find(first, "id"), 0);
    return 0;
}

/* Finds the pipeline that the first argument names, then calls `use`. */
static int with_pipeline(const struct invocation *invocation,
                         int (*use)(struct session *session, const struct invocation *invocation, int64_t id, struct diag *diag)) {
    struct diag diag = DIAG_INIT;
    struct session session;
    int64_t id;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int r = find_pipeline(&session, invocation->arguments[0], &id, &diag);
    if (r == 0)
        r = use(&session, invocation, id, &diag);
    session_close(&session);
    return r < 0 ? terminal_error(&diag) : r;
}

static int show(struct session *session, const struct invocation *invocation, int64_t id, struct diag *diag) {
    struct session_answer answer;
    int r = session_call(session, "GET", arena_printf(session->arena, "/tidemill/v1/pipelines/%" PRId64, id), NULL, no_body, &answer, diag);
    if (r == 0 && session_wants_json(invocation))
        r = print_json(answer.tree);
    else if (r == 0)
        print_pipeline(answer.tree);
    return r;
}

int run_pipeline_show(const struct invocation *invocation) {
    return with_pipeline(invocation, show);
}

static int logs(struct session *session, const struct invocation *invocation, int64_t id, struct diag *diag) {
    const char *job = invocation_text(invocation, "job");
    CLEANUP(buffer_deinit) struct buffer path = BUFFER_INIT(2048);
    buffer_printf(&path, "/tidemill/v1/pipelines/%" PRId64 "/logs?follow=%d", id, invocation_bool(invocation, "follow"));
    if (job) {
        buffer_append_text(&path, "&job=");
        percent_encode(&path, slice_of(job));
    }
    if (buffer_error(&path))
        return diag_set(diag, -EINVAL, "that job's name is too long");
    return session_stream(session, "GET", path.data, NULL, no_body, session_print, NULL, diag);
}

int run_pipeline_logs(const struct invocation *invocation) {
    return with_pipeline(invocation, logs);
}

static int act(struct session *session, const struct invocation *invocation, int64_t id, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer path = BUFFER_INIT(2048);
    const char *last_word = strrchr(invocation->command->name, ' ') + 1; /* play, cancel, retry */
    buffer_printf(&path, "/tidemill/v1/pipelines/%" PRId64, id);
    if (invocation->arguments_count > 1) {
        buffer_append_text(&path, "/jobs/");
        percent_encode(&path, slice_of(invocation->arguments[1]));
    }
    buffer_printf(&path, "/%s", last_word);
    if (buffer_error(&path))
        return diag_set(diag, -EINVAL, "that job's name is too long");
    struct session_answer answer;
    int r = session_call(session, "POST", path.data, NULL, no_body, &answer, diag);
    if (r == 0)
        printf("%s\n", text_of(answer.tree, "message"));
    return r;
}

int run_pipeline_act(const struct invocation *invocation) {
    return with_pipeline(invocation, act);
}
