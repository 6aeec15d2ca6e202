/* `tidemill logs APP`: the logs of every pod of an application side by side, each line under its pod's name; or of one pod with NAMESPACE/POD.
 * Streams run at once on one loop; a line is printed whole. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/terminal_priv.h"

#include <stdio.h>

#define LOG_STREAMS_MAX 64
#define LOG_LINE_BYTES_MAX (64 * KIB)

struct follower;

struct log_stream {
    struct follower *follower;
    const char *pod;
    const char *container; /* NULL: the pod has only one */
    struct buffer line;
    struct diag error;
    int status;
};

struct follower {
    struct session *session;
    struct log_stream streams[LOG_STREAMS_MAX];
    size_t count, running;
    bool prefix;
    int result;
};

static void print_line(struct log_stream *stream) {
    if (stream->follower->prefix)
        printf("%s%s%s%s%s ", terminal_color(stdout, TERMINAL_DIM), stream->pod, stream->container ? "/" : "",
               stream->container ? stream->container : "", terminal_color(stdout, TERMINAL_PLAIN));
    fwrite(stream->line.data, 1, stream->line.len, stdout);
    fputc('\n', stdout);
    fflush(stdout);
    buffer_reset(&stream->line);
}

static void on_head(void *userdata, const struct http_answer *head) {
    struct log_stream *stream = userdata;
    stream->status = head->status;
}

static void on_data(void *userdata, struct slice data) {
    struct log_stream *stream = userdata;
    struct slice rest = data;
    while (rest.data) {
        bool complete = slice_index(rest, '\n') >= 0;
        struct slice part = slice_cut(&rest, '\n');
        if (buffer_append_slice(&stream->line, part) < 0)
            buffer_reset(&stream->line); /* a line without end: start anew */
        if (complete && stream->status == 200)
            print_line(stream);
    }
}

static void on_end(void *userdata, int error) {
    struct log_stream *stream = userdata;
    struct follower *follower = stream->follower;
    if (stream->line.len && stream->status == 200) {
        print_line(stream);
    } else if (error || stream->status != 200) {
        struct arena *arena = follower->session->arena;
        struct tree *status = NULL;
        if (stream->line.len)
            json_parse(arena, buffer_slice(&stream->line), NULL, &status, NULL);
        follower->result =
            terminal_error_text("%s: %s", stream->pod, tree_text_or(tree_find(status, "message"), error ? strerror(-error) : "no log"));
    }
    buffer_deinit(&stream->line);
    if (--follower->running == 0)
        loop_stop(follower->session->loop);
}

static int start_stream(struct follower *follower, const struct invocation *invocation, const char *namespace, const char *pod,
                        const char *container) {
    static const struct http_stream_handlers handlers = {.on_head = on_head, .on_data = on_data, .on_end = on_end};
    if (follower->count == LOG_STREAMS_MAX)
        return 0;
    struct log_stream *stream = &follower->streams[follower->count];
    *stream = (struct log_stream){.follower = follower, .pod = pod, .container = container, .line = BUFFER_INIT(LOG_LINE_BYTES_MAX)};
    const char *tail = invocation_text(invocation, "tail");
    char *target = arena_printf(follower->session->arena, "/api/v1/namespaces/%s/pods/%s/log?follow=%s&previous=%s%s%s%s%s", namespace, pod,
                                invocation_bool(invocation, "follow") ? "true" : "false", invocation_bool(invocation, "previous") ? "true" : "false",
                                container ? "&container=" : "", container ? container : "", tail ? "&tailLines=" : "", tail ? tail : "");
    struct http_request *request;
    int r = target
                ? http_client_stream(client_http(follower->session->client),
                                     &(struct http_request_options){.method = "GET", .target = target, .timeout_ms = -1}, &handlers, stream, &request)
                : -ENOMEM;
    if (r < 0)
        return r;
    follower->count++;
    follower->running++;
    return 0;
}

static int start_pod(struct follower *follower, const struct invocation *invocation, const struct tree *pod) {
    const struct tree *containers = tree_path(pod, "spec.containers");
    const char *wanted = invocation_text(invocation, "container");
    int r = 0;
    for (size_t i = 0; r == 0 && i < tree_count(containers); i++) {
        const char *name = tree_text_or(tree_find(tree_at(containers, i), "name"), "");
        if (!wanted || strcmp(wanted, name) == 0)
            r = start_stream(follower, invocation, tree_text_or(tree_path(pod, "metadata.namespace"), ""),
                             tree_text_or(tree_path(pod, "metadata.name"), ""), tree_count(containers) > 1 ? name : NULL);
    }
    return r;
}

static int start_all(struct follower *follower, const struct invocation *invocation, struct diag *diag) {
    struct slice rest = slice_of(invocation->arguments[0]), namespace = slice_cut(&rest, '/');
    bool one = rest.data != NULL;
    if (!name_is_dns_label(namespace) || (one && !name_is_dns_subdomain(rest)))
        return diag_set(diag, -EINVAL, "\"%s\" is neither an application's name nor NAMESPACE/POD", invocation->arguments[0]);
    char *path = arena_printf(follower->session->arena, "/api/v1/namespaces/%.*s/pods%s%.*s", SLICE_ARG(namespace), one ? "/" : "", SLICE_ARG(rest));
    struct session_answer answer;
    int r = session_call(follower->session, "GET", path, NULL, (struct slice){NULL, 0}, &answer, diag);
    if (r < 0)
        return r;
    const struct tree *items = tree_find(answer.tree, "items");
    if (!one && tree_count(items) == 0) {
        diag_set(diag, -ENOENT, "no pods in \"%.*s\"", SLICE_ARG(namespace));
        return diag_hint(diag, -ENOENT, "`tidemill app list` shows the applications, `tidemill pipeline logs` what a pipeline printed");
    }
    for (size_t i = 0; r == 0 && i < tree_count(items); i++)
        r = start_pod(follower, invocation, tree_at(items, i));
    if (one)
        r = start_pod(follower, invocation, answer.tree);
    follower->prefix = follower->count > 1;
    return r < 0 ? diag_set(diag, r, "cannot read logs: %s", strerror(-r)) : 0;
}

int run_logs(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    struct follower *follower = calloc(1, sizeof *follower);
    if (!follower) {
        session_close(&session);
        return terminal_error_text("out of memory");
    }
    follower->session = &session;
    int r = start_all(follower, invocation, &diag);
    if (r == 0 && follower->running)
        loop_run(session.loop);
    int result = r < 0 ? terminal_error(&diag) : follower->result;
    session_close(&session);
    free(follower);
    return result;
}
