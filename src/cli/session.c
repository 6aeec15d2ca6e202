#include "cli/session_priv.h"

#include <stdio.h>
#include <unistd.h>

#define SESSION_ARENA_BYTES_MAX (256 * MIB)
#define NODE_TIMEOUT_MS 2000

const struct flag session_flags[] = {
    {"run", 0, FLAG_TEXT, "DIR", "/run/tidemill", "run-time folder of the instance to talk to; also $TIDEMILL_RUN"},
    {.name = NULL},
};
const struct flag session_output_flags[] = {
    {"run", 0, FLAG_TEXT, "DIR", "/run/tidemill", "run-time folder of the instance to talk to; also $TIDEMILL_RUN"},
    {"output", 'o', FLAG_FORMAT, "FORMAT", "text", "text, or json for scripts"},
    {.name = NULL},
};

bool session_wants_json(const struct invocation *invocation) {
    return strcmp(invocation_text(invocation, "output"), "json") == 0;
}

/* Root talks to the socket; others are nobody there, so $KUBECONFIG goes first. `named`: the person said which instance, another will not do. */
static bool wants_kubeconfig(const char *socket_path, bool named) {
    const char *kubeconfig = getenv("KUBECONFIG");
    if (!kubeconfig || !kubeconfig[0])
        return false;
    return geteuid() != 0 || (!named && access(socket_path, W_OK) < 0);
}

static int connect_session(struct session *session, bool named, struct diag *diag) {
    char socket_path[200], endpoint[220];
    snprintf(socket_path, sizeof socket_path, "%s/api.sock", session->run);
    snprintf(endpoint, sizeof endpoint, "unix:%s", socket_path);
    if (wants_kubeconfig(socket_path, named))
        return client_new_kubeconfig(session->loop, getenv("KUBECONFIG"), &session->client, diag);
    if (access(socket_path, W_OK) == 0)
        return client_new(session->loop, &(struct client_options){.endpoint = endpoint}, &session->client, diag);
    int r = diag_set(diag, -errno, "no platform answers at %s: %s", socket_path, strerror(errno));
    return diag_hint(diag, r,
                     geteuid() == 0 ? "start it with `tidemill up`, or name another instance with --run DIR" : "run this as root, or set KUBECONFIG");
}

static int open_named(const char *run, bool named, struct session *ret, struct diag *diag) {
    struct session session = {.run = run, .arena = arena_new(SESSION_ARENA_BYTES_MAX)};
    int r = session.arena ? loop_new(&session.loop) : -ENOMEM;
    if (r < 0) {
        arena_free(session.arena);
        return diag_set(diag, r, "cannot start: %s", strerror(-r));
    }
    r = connect_session(&session, named, diag);
    if (r < 0) {
        loop_free(session.loop);
        arena_free(session.arena);
        return r;
    }
    *ret = session;
    return 0;
}

int session_open_run(const char *run, struct session *ret, struct diag *diag) {
    return open_named(run, true, ret, diag);
}

int session_open(const struct invocation *invocation, struct session *ret, struct diag *diag) {
    const char *environment = getenv("TIDEMILL_RUN");
    if (invocation_given(invocation, "run"))
        return open_named(invocation_text(invocation, "run"), true, ret, diag);
    if (environment && environment[0])
        return open_named(environment, true, ret, diag);
    return open_named(invocation_text(invocation, "run"), false, ret, diag);
}

void session_close(struct session *session) {
    client_free(session->client);
    loop_free(session->loop);
    arena_free(session->arena);
    *session = (struct session){0};
}

/* One call under way. */
struct call {
    struct session *session;
    struct session_answer answer;
    struct diag *diag;
    void (*on_data)(void *userdata, struct slice data);
    void *userdata;
    struct buffer error_body;
    int result;
    bool done;
};

/* What to do about an error whose cause is how one connected. */
static int hint_connection(struct diag *diag, int error, int status) {
    if (error < 0 && diag && !diag->hint[0] && !status)
        diag_hint(diag, error, "does the platform run? `tidemill up` starts it; its log tells why it would not");
    if (error < 0 && diag && !diag->hint[0] && (status == 401 || status == 403) && geteuid() != 0 && !getenv("KUBECONFIG"))
        diag_hint(diag, error, "run this as root, or set KUBECONFIG");
    return error;
}

static int take_answer(struct call *call, const struct http_answer *answer) {
    call->answer.status = answer->status;
    char *copy = arena_dup(call->session->arena, answer->body);
    if (!copy)
        return diag_set(call->diag, -ENOMEM, "the answer is too large");
    call->answer.body = slice_make(copy, answer->body.len);
    if (answer->body.len && (copy[0] == '{' || copy[0] == '['))
        json_parse(call->session->arena, call->answer.body, NULL, &call->answer.tree, NULL);
    int r = client_check(answer, call->diag);
    const char *hint = r < 0 ? tree_text_or(tree_find(call->answer.tree, "hint"), "") : "";
    return hint[0] ? diag_hint(call->diag, r, "%s", hint) : hint_connection(call->diag, r, answer->status);
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct call *call = userdata;
    call->result = take_answer(call, answer);
    call->done = true;
    loop_stop(call->session->loop);
}

static int wait_for(struct call *call) {
    while (!call->done) {
        int r = loop_run(call->session->loop);
        if (r < 0)
            return diag_set(call->diag, r, "the event loop failed: %s", strerror(-r));
    }
    return call->result;
}

int session_call(struct session *session, const char *method, const char *path, const char *content_type, struct slice body,
                 struct session_answer *ret, struct diag *diag) {
    struct call call = {.session = session, .diag = diag};
    struct http_request *request;
    const struct http_request_options options = {
        .method = method, .target = path, .content_type = content_type, .body = body, .timeout_ms = session->timeout_ms ? session->timeout_ms : -1};
    int r = http_client_send(client_http(session->client), &options, on_answer, &call, &request);
    if (r < 0)
        return diag_set(diag, r, "cannot send a request: %s", strerror(-r));
    r = wait_for(&call);
    if (ret)
        *ret = call.answer;
    return r;
}

bool session_node_answers(const char *run) {
    struct session session = {.run = run, .arena = arena_new(SESSION_ARENA_BYTES_MAX), .timeout_ms = NODE_TIMEOUT_MS};
    struct session_answer answer = {0};
    struct diag diag = DIAG_INIT;
    char endpoint[220];
    snprintf(endpoint, sizeof endpoint, "unix:%s/node.sock", run);
    int r = session.arena ? loop_new(&session.loop) : -ENOMEM;
    if (r == 0)
        r = client_new(session.loop, &(struct client_options){.endpoint = endpoint}, &session.client, &diag);
    if (r == 0)
        session_call(&session, "GET", "/healthz", NULL, (struct slice){NULL, 0}, &answer, &diag);
    session_close(&session);
    return answer.status > 0; /* whatever it says: it is there */
}

static void on_stream_head(void *userdata, const struct http_answer *head) {
    struct call *call = userdata;
    call->answer.status = head->status;
}

static void on_stream_data(void *userdata, struct slice data) {
    struct call *call = userdata;
    if (call->answer.status / 100 == 2)
        call->on_data(call->userdata, data);
    else
        buffer_append_slice(&call->error_body, data);
}

static struct slice no_header(__attribute__((unused)) const struct http_answer *answer, __attribute__((unused)) const char *name) {
    return (struct slice){NULL, 0};
}

static void on_stream_end(void *userdata, int error) {
    struct call *call = userdata;
    const struct http_answer whole = {
        .error = error, .status = error ? 0 : call->answer.status, .body = buffer_slice(&call->error_body), .header = no_header};
    call->result = hint_connection(call->diag, client_check(&whole, call->diag), whole.status);
    call->done = true;
    loop_stop(call->session->loop);
}

int session_stream(struct session *session, const char *method, const char *path, const char *content_type, struct slice body,
                   void (*on_data)(void *userdata, struct slice data), void *userdata, struct diag *diag) {
    static const struct http_stream_handlers handlers = {.on_head = on_stream_head, .on_data = on_stream_data, .on_end = on_stream_end};
    struct call call = {.session = session, .diag = diag, .on_data = on_data, .userdata = userdata, .error_body = BUFFER_INIT(MIB)};
    struct http_request *request;
    const struct http_request_options options = {.method = method, .target = path, .content_type = content_type, .body = body, .timeout_ms = -1};
    int r = http_client_stream(client_http(session->client), &options, &handlers, &call, &request);
    if (r < 0)
        return diag_set(diag, r, "cannot send a request: %s", strerror(-r));
    r = wait_for(&call);
    buffer_deinit(&call.error_body);
    return r;
}

void session_print(__attribute__((unused)) void *userdata, struct slice data) {
    fwrite(data.data, 1, data.len, stdout);
    fflush(stdout);
}
