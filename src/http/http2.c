/* The connection beneath a http2_machine: bytes from the one to the other until the answer is whole. */
#include "http/http2.h"

#include "http/connection_priv.h"
#include "http/http2_priv.h"
#include "http/tls.h"

struct http2_call {
    struct http2_machine machine;
    struct connection *connection;
    http2_answer_fn *on_answer;
    void *userdata;
    struct loop_defer end;
    int error; /* of the connection */
};

void http2_call_free(struct http2_call *call) {
    if (!call)
        return;
    loop_defer_cancel(&call->end);
    connection_free(call->connection);
    http2_machine_deinit(&call->machine);
    free(call);
}
DEFINE_CLEANUP(struct http2_call, http2_call_free)

bool http2_call_is_open(const struct http2_call *call) {
    return call->connection && connection_is_open(call->connection);
}

struct slice http2_field(const struct http2_call *call, const char *name) {
    for (size_t i = call->machine.fields_count; i-- > 0;)
        if (slice_is(call->machine.fields[i].name, name))
            return call->machine.fields[i].value;
    return (struct slice){0};
}

static void on_end(void *userdata) {
    CLEANUP(http2_call_freep) struct http2_call *call = userdata;
    int error = call->machine.is_complete ? call->machine.error : call->error;
    const struct http2_answer answer = {
        .error = error, .status = error ? 0 : call->machine.status, .body = buffer_slice(&call->machine.body), .call = call};
    call->on_answer(call->userdata, &answer);
}

static void finish(struct http2_call *call, int error) {
    call->error = error;
    loop_defer_schedule(&call->end);
}

static int send_what_is_due(struct http2_call *call) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(HTTP_OUTPUT_BYTES_MAX);
    int r = http2_machine_take(&call->machine, &out);
    return r < 0 || out.len == 0 ? r : connection_write(call->connection, buffer_slice(&out));
}

static void on_input(void *userdata) {
    struct http2_call *call = userdata;
    struct slice input = connection_input(call->connection);
    int r = http2_machine_feed(&call->machine, input);
    connection_consume(call->connection, input.len);
    if (r == 0 && !call->machine.is_complete)
        r = send_what_is_due(call);
    if (r == 0 && connection_eof(call->connection))
        r = -ECONNRESET;
    if (r < 0 || call->machine.is_complete) {
        connection_pause(call->connection);
        finish(call, r);
    }
}

static void on_closed(void *userdata, int error) {
    finish(userdata, error);
}

static int open_connection(struct http2_call *call, struct loop *loop, const struct http2_options *options) {
    static const struct connection_events events = {.on_input = on_input, .on_closed = on_closed};
    struct tls_session *tls = NULL;
    int fd = sys_connect(&options->address);
    if (fd < 0)
        return fd;
    sys_tune_tcp(fd);
    int r = options->tls ? tls_session_new(options->tls, options->peer_name, &tls) : 0;
    if (r < 0) {
        close(fd);
        return r;
    }
    r = connection_new(loop, fd, tls, true, &events, call, &call->connection);
    return r < 0 ? r : send_what_is_due(call);
}

int http2_call_new(struct loop *loop, const struct http2_options *options, http2_answer_fn *on_answer, void *userdata, struct http2_call **ret) {
    struct http2_call *call = calloc(1, sizeof *call);
    if (!call)
        return -ENOMEM;
    call->on_answer = on_answer;
    call->userdata = userdata;
    loop_defer_init(&call->end, loop, on_end, call);
    int r = http2_machine_init(&call->machine, options, options->tls != NULL);
    if (r < 0) {
        http2_call_free(call);
        return r;
    }
    r = open_connection(call, loop, options);
    if (r < 0)
        finish(call, r);
    *ret = call;
    return 0;
}
