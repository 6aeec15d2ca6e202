/* Running answers of the node's socket: a log that is read or followed (also as the messages of a WebSocket), a command, an attachment (remote.c
 * carries their streams), forwarded ports (forward.c).
 *
 * Back-pressure both ways: output pauses while the peer's queue is over WAITING_BYTES_MAX, input pauses the connection while the command does not
 * read. */
#include "codec/codec.h"
#include "http/http.h"
#include "node/forward_priv.h"
#include "node/node_priv.h"
#include "node/remote_priv.h"

#define WAITING_BYTES_MAX (256 * KIB)
#define ARGUMENTS_MAX 1024
#define ARGUMENTS_BYTES_MAX (1 * MIB)
#define HEARD_BYTES_MAX (4 * KIB) /* of who reads a log and has nothing to say */

struct session {
    struct list node;
    struct node *owner;
    char pod_uid[64], unit_name[256];
    struct http_exchange *exchange; /* a log, or: */
    struct websocket *socket;
    bool is_base64;
    struct logread *log;
    struct forward *forward; /* ports */
    struct remote *remote;   /* exec and attach */
    struct exec *exec;
    struct arena *arena; /* of args */
    const char **args;
    bool is_attach, input, terminal;
    bool detaching; /* its input has ended, the container's goes on */
    bool finished;  /* the result was sent */
    struct loop_defer end;
};

static void session_free(struct session *session) {
    list_remove(&session->node);
    loop_defer_cancel(&session->end);
    logread_free(session->log);
    websocket_free(session->socket);
    exec_free(session->exec);
    remote_free(session->remote);
    forward_free(session->forward);
    arena_free(session->arena);
    free(session);
}

static void on_end(void *userdata) {
    session_free(userdata);
}

static struct session *session_new(struct node *node, const struct pod *pod, const struct unit *unit) {
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    session->owner = node;
    snprintf(session->pod_uid, sizeof session->pod_uid, "%s", pod->uid);
    snprintf(session->unit_name, sizeof session->unit_name, "%s", unit ? unit->spec->name : "");
    loop_defer_init(&session->end, node->loop, on_end, session);
    list_push(&node->sessions, &session->node);
    return session;
}

void sessions_free(struct node *node) {
    LIST_FOREACH(it, &node->sessions) {
        struct session *session = CONTAINER_OF(it, struct session, node);
        session->exchange = NULL;
        session_free(session);
    }
}

void session_unit_ended(struct node *node, const struct unit *unit) {
    LIST_FOREACH(it, &node->sessions) {
        struct session *session = CONTAINER_OF(it, struct session, node);
        if (session->log && strcmp(session->pod_uid, unit->pod->uid) == 0 && strcmp(session->unit_name, unit->spec->name) == 0)
            logread_finish(session->log);
    }
}

static void respond_error(struct http_exchange *exchange, int code, const char *reason, const char *message) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(16 * KIB);
    buffer_append_text(&out, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":");
    json_format_string(&out, slice_of(message));
    buffer_printf(&out, ",\"reason\":\"%s\",\"code\":%d}\n", reason, code);
    http_respond(exchange, code, "application/json", buffer_slice(&out), NULL);
}

/* --- logs --- */

static void on_log_closed(void *userdata, __attribute__((unused)) struct http_exchange *exchange, __attribute__((unused)) bool complete) {
    struct session *session = userdata;
    session->exchange = NULL;
    loop_defer_schedule(&session->end);
}

static void on_log_drained(void *userdata, __attribute__((unused)) struct http_exchange *exchange) {
    struct session *session = userdata;
    if (session->log)
        logread_pause(session->log, false);
}

static void send_log(struct session *session, struct slice data) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    if (session->is_base64)
        base64_encode(&text, data);
    websocket_send(session->socket, !session->is_base64, session->is_base64 ? buffer_slice(&text) : data);
    if (websocket_pending(session->socket) > WAITING_BYTES_MAX)
        logread_pause(session->log, true);
}

static void on_log_data(void *userdata, struct slice data) {
    struct session *session = userdata;
    if (session->socket)
        return send_log(session, data);
    if (!session->exchange || http_write(session->exchange, data) < 0)
        return;
    if (http_write_pending(session->exchange) > WAITING_BYTES_MAX)
        logread_pause(session->log, true);
}

static void on_log_end(void *userdata, int error) {
    struct session *session = userdata;
    if (session->socket)
        return websocket_close(session->socket, error ? 1011 : 1000, "");
    if (!session->exchange)
        return;
    if (error)
        http_abort(session->exchange);
    else
        http_respond_end(session->exchange);
}

static void on_socket_message(__attribute__((unused)) void *userdata, __attribute__((unused)) bool binary,
                              __attribute__((unused)) struct slice message) {
}

static void on_socket_drained(void *userdata) {
    on_log_drained(userdata, NULL);
}

static void on_socket_closed(void *userdata, __attribute__((unused)) int code) {
    on_log_closed(userdata, NULL, true);
}

static void answer_log_socket(struct session *session, struct http_exchange *exchange) {
    static const char *const protocols[] = {"binary.k8s.io", "base64.binary.k8s.io", NULL};
    static const struct websocket_callbacks callbacks = {
        .on_message = on_socket_message, .on_drained = on_socket_drained, .on_close = on_socket_closed};
    const char *protocol = NULL;
    if (websocket_accept(exchange, protocols, HEARD_BYTES_MAX, &callbacks, session, &protocol, &session->socket) < 0)
        return session_free(session);
    session->is_base64 = protocol && strcmp(protocol, protocols[1]) == 0;
}

/* A number of the query: -1 when absent; -EINVAL. */
static int query_number(const struct query *query, const char *key, int64_t *ret) {
    const char *text = query_find(query, key);
    uint64_t value;
    *ret = -1;
    if (!text)
        return 0;
    int r = slice_parse_u64(slice_of(text), INT64_MAX / 2000000000, &value);
    if (r == 0)
        *ret = (int64_t)value;
    return r;
}

static int log_options(struct node *node, const struct query *query, struct logread_options *ret) {
    int64_t since_s;
    const char *since = query_find(query, "sinceTime"), *stream = query_find(query, "stream");
    *ret = (struct logread_options){.follow = query_flag(query, "follow"), .timestamps = query_flag(query, "timestamps")};
    int r = query_number(query, "tailLines", &ret->tail_lines);
    if (r == 0)
        r = query_number(query, "limitBytes", &ret->limit_bytes);
    if (r == 0)
        r = query_number(query, "sinceSeconds", &since_s);
    if (r == 0 && since_s >= 0)
        ret->since_ns = loop_wall_ns(node->loop) - since_s * 1000000000;
    if (r == 0 && since)
        r = timestamp_parse(slice_of(since), &ret->since_ns);
    ret->stream = stream && strcmp(stream, "Stdout") == 0 ? 1 : stream && strcmp(stream, "Stderr") == 0 ? 2 : 0;
    return r;
}

void session_serve_log(struct node *node, struct http_exchange *exchange, struct unit *unit, const struct query *query) {
    struct logread_options options;
    char path[PATH_MAX], message[400];
    bool previous = query_flag(query, "previous");
    int attempt = unit->restart_count - (previous && (unit->stage != UNIT_WAITING || !unit->last.set));
    if (log_options(node, query, &options) < 0)
        return respond_error(exchange, 400, "BadRequest", "tailLines, sinceSeconds, limitBytes must be numbers, sinceTime an RFC 3339 time");
    if (previous && (attempt < 0 || !unit->last.set)) {
        snprintf(message, sizeof message, "previous terminated container \"%s\" in pod \"%s\" not found", unit->spec->name, unit->pod->name);
        return respond_error(exchange, 400, "BadRequest", message);
    }
    unit_log_path(unit, attempt, path);
    options.path = path;
    options.follow = options.follow && !previous && unit_is_busy(unit);
    struct session *session = session_new(node, unit->pod, unit);
    const struct logread_callbacks callbacks = {.on_data = on_log_data, .on_end = on_log_end, .userdata = session};
    int r = session ? logread_new(node->loop, &options, &callbacks, &session->log) : -ENOMEM;
    if (r < 0) {
        if (session)
            session_free(session);
        snprintf(message, sizeof message, "container \"%s\" in pod \"%s\" is waiting to start: %s", unit->spec->name, unit->pod->name,
                 unit->waiting_reason);
        return respond_error(exchange, r == -ENOENT ? 400 : 500, r == -ENOENT ? "BadRequest" : "InternalError",
                             r == -ENOENT ? message : strerror(-r));
    }
    if (websocket_is_upgrade(exchange))
        return answer_log_socket(session, exchange);
    session->exchange = exchange;
    http_on_close(exchange, on_log_closed, session);
    http_respond_begin(exchange, 200, "text/plain", -1, NULL);
    http_on_drained(exchange, on_log_drained, session);
}

/* --- exec and attach --- */

static void send_result(struct session *session, int code, int error, const char *text) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(16 * KIB);
    char exited[80] = "";
    if (session->finished) /* it had left before */
        return;
    if (!error && code == 0) {
        buffer_append_text(&out, "{\"metadata\":{},\"status\":\"Success\"}");
    } else if (!error) {
        snprintf(exited, sizeof exited, "command terminated with non-zero exit code: exit status %d", code);
        buffer_printf(&out,
                      "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"%s\",\"reason\":\"NonZeroExitCode\","
                      "\"details\":{\"causes\":[{\"reason\":\"ExitCode\",\"message\":\"%d\"}]}}",
                      exited, code);
    } else {
        buffer_append_text(&out, "{\"metadata\":{},\"status\":\"Failure\",\"message\":");
        json_format_string(&out, slice_of(text));
        buffer_append_text(&out, ",\"reason\":\"InternalError\",\"code\":500}");
    }
    session->finished = true;
    remote_finish(session->remote, buffer_slice(&out), slice_of(error ? text : exited));
}

static void on_output(void *userdata, int stream, struct slice data) {
    struct session *session = userdata;
    remote_send(session->remote, stream == 1 ? REMOTE_STDOUT : REMOTE_STDERR, data);
    if (remote_pending(session->remote) > WAITING_BYTES_MAX)
        exec_pause(session->exec, true);
}

static void on_exec_exit(void *userdata, int code, int error, const char *message) {
    struct session *session = userdata;
    if (error) { /* as if the command itself had said so */
        remote_send(session->remote, session->terminal ? REMOTE_STDOUT : REMOTE_STDERR, slice_of(message));
        remote_send(session->remote, session->terminal ? REMOTE_STDOUT : REMOTE_STDERR, session->terminal ? SLICE("\r\n") : SLICE("\n"));
    }
    send_result(session, code, 0, "");
}

static void detach(struct session *session) {
    if (session->detaching && !session->finished && exec_input_pending(session->exec) == 0)
        send_result(session, 0, 0, "");
}

static void on_input_drained(void *userdata) {
    struct session *session = userdata;
    remote_resume(session->remote);
    detach(session);
}

static struct unit *session_unit(const struct session *session) {
    struct pod *pod = map_find(session->owner->pods, slice_of(session->pod_uid));
    return pod ? pod_unit(pod, session->unit_name) : NULL;
}

static void resize(struct session *session, struct slice json) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    struct tree *root = NULL;
    if (!arena || json_parse(arena, json, &(struct json_options){.allow_duplicates = true}, &root, NULL) < 0)
        return;
    int64_t columns = tree_int_or(tree_find(root, "Width"), 0), rows = tree_int_or(tree_find(root, "Height"), 0);
    if (columns <= 0 || rows <= 0 || columns > 10000 || rows > 10000)
        return;
    const struct unit *unit = session_unit(session);
    if (!session->is_attach)
        exec_resize(session->exec, (unsigned)columns, (unsigned)rows);
    else if (unit && unit->container)
        container_resize(unit->container, (unsigned)columns, (unsigned)rows);
}

/* Whose input ends leaves, unless the container's ends with it (stdinOnce) and its last words are still to come; a terminal stays for the next one.
 */
static void end_input(struct session *session) {
    const struct unit *unit = session_unit(session);
    session->detaching = session->is_attach && unit && (!unit->spec->stdin_once || unit->spec->tty);
    if (session->detaching)
        detach(session);
    else
        exec_close_input(session->exec);
}

static void on_remote_data(void *userdata, enum remote_channel channel, struct slice data, bool is_last) {
    struct session *session = userdata;
    if (session->finished || !session->exec)
        return;
    if (channel == REMOTE_RESIZE)
        return resize(session, data);
    if (data.len) {
        exec_write(session->exec, data); /* a command that has closed its input reads no more: dropped */
        if (exec_input_pending(session->exec) > WAITING_BYTES_MAX)
            remote_pause(session->remote);
    }
    if (is_last)
        end_input(session);
}

static void on_remote_drained(void *userdata) {
    struct session *session = userdata;
    if (session->exec && !session->finished)
        exec_pause(session->exec, false);
}

static void on_remote_closed(void *userdata) {
    struct session *session = userdata;
    loop_defer_schedule(&session->end); /* frees the connection; a command still running is killed */
}

/* The query's arguments outlive the exchange. -EINVAL: there are none. */
static int copy_arguments(struct session *session, const struct query *query) {
    size_t count = 0;
    session->arena = arena_new(ARGUMENTS_BYTES_MAX);
    session->args = session->arena ? ARENA_ARRAY(session->arena, const char *, ARGUMENTS_MAX + 1) : NULL;
    if (!session->args)
        return -ENOMEM;
    for (size_t i = 0; i < query->count && count < ARGUMENTS_MAX; i++) {
        if (!slice_is(query->items[i].key, "command"))
            continue;
        session->args[count] = arena_dup(session->arena, query->items[i].value);
        if (!session->args[count++])
            return -ENOMEM;
    }
    return count || session->is_attach ? 0 : -EINVAL;
}

static void on_remote_ready(void *userdata) {
    struct session *session = userdata;
    struct containers *containers = session->owner->containers;
    const struct unit *unit = session_unit(session);
    const struct exec_callbacks callbacks = {
        .on_output = on_output, .on_exit = on_exec_exit, .on_input_drained = on_input_drained, .userdata = session};
    int r = -ESRCH; /* it ended while the streams were opened */
    if (unit && unit->stage == UNIT_RUNNING && session->is_attach) {
        r = exec_attach(containers, unit->id, &callbacks, &session->exec);
    } else if (unit && unit->stage == UNIT_RUNNING) {
        const struct exec_options options = {
            .container_id = unit->id, .args = session->args, .terminal = session->terminal, .open_stdin = session->input};
        r = exec_start(containers, &options, &callbacks, &session->exec);
    }
    if (r < 0)
        send_result(session, 126, r, strerror(-r));
}

void session_serve_exec(struct node *node, struct http_exchange *exchange, struct unit *unit, const struct query *query, bool attach) {
    static const struct remote_callbacks callbacks = {
        .on_ready = on_remote_ready, .on_data = on_remote_data, .on_drained = on_remote_drained, .on_close = on_remote_closed};
    char message[300];
    if (!remote_is_upgrade(exchange))
        return respond_error(exchange, 400, "BadRequest", "Upgrade request required: a WebSocket or SPDY/3.1 connection");
    if (unit->stage != UNIT_RUNNING || !unit->container) {
        snprintf(message, sizeof message, "container not found (\"%s\")", unit->spec->name);
        return respond_error(exchange, 500, "InternalError", message);
    }
    struct session *session = session_new(node, unit->pod, unit);
    if (!session)
        return respond_error(exchange, 500, "InternalError", "out of memory");
    session->is_attach = attach;
    session->input = query_flag(query, "stdin") || query_flag(query, "input");
    session->terminal = query_flag(query, "tty");
    struct remote_options options = {.wants = {[REMOTE_STDIN] = session->input, [REMOTE_RESIZE] = session->terminal}};
    options.wants[REMOTE_STDOUT] = query_flag(query, "stdout") || query_flag(query, "output");
    options.wants[REMOTE_STDERR] = !session->terminal && (query_flag(query, "stderr") || query_flag(query, "error"));
    int r = copy_arguments(session, query);
    if (r < 0) {
        session_free(session);
        return respond_error(exchange, r == -EINVAL ? 400 : 500, r == -EINVAL ? "BadRequest" : "InternalError",
                             r == -EINVAL ? "you must specify at least 1 command for the container" : strerror(-r));
    }
    if (remote_accept(exchange, &options, &callbacks, session, &session->remote) < 0)
        session_free(session);
}

/* --- forwarded ports --- */

static void on_forward_closed(void *userdata) {
    struct session *session = userdata;
    loop_defer_schedule(&session->end);
}

void session_serve_forward(struct node *node, struct http_exchange *exchange, struct pod *pod, const struct query *query) {
    if (!forward_is_upgrade(exchange))
        return respond_error(exchange, 400, "BadRequest", "Upgrade request required: a WebSocket or SPDY/3.1 connection");
    if (!pod->network_ready || pod->stage != POD_ACTIVE)
        return respond_error(exchange, 400, "BadRequest", "the pod is not running");
    struct session *session = session_new(node, pod, NULL);
    if (!session)
        return respond_error(exchange, 500, "InternalError", "out of memory");
    const struct forward_target target = {.podnet = node->podnet, .net = pod->net, .name = pod->name};
    if (forward_accept(exchange, query, &target, on_forward_closed, session, &session->forward) < 0)
        session_free(session);
}
