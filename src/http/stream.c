/* A connection taken over: bytes both ways with back-pressure, nothing else. on_end runs when the peer has ended its direction (all its bytes
 * delivered before) or the connection broke. */
#include "http/server_priv.h"

struct http_stream {
    struct connection *connection;
    struct http_stream_callbacks callbacks;
    void *userdata;
    bool ended;
    bool *gone;
};

/* Delivers what is there, then the end. The callee may free the stream in each call. */
static void on_input(void *userdata) {
    struct http_stream *stream = userdata;
    struct slice input = connection_input(stream->connection);
    if (input.len > 0) {
        bool gone = false;
        stream->gone = &gone;
        stream->callbacks.on_data(stream->userdata, input);
        if (gone)
            return;
        stream->gone = NULL;
        connection_consume(stream->connection, input.len);
    }
    if (connection_eof(stream->connection) && !stream->ended) {
        stream->ended = true;
        stream->callbacks.on_end(stream->userdata, connection_eof_clean(stream->connection) ? 0 : -ECONNRESET);
    }
}

static void on_drained(void *userdata) {
    struct http_stream *stream = userdata;
    if (stream->callbacks.on_drained && !stream->ended)
        stream->callbacks.on_drained(stream->userdata);
}

static void on_closed(void *userdata, int error) {
    struct http_stream *stream = userdata;
    if (stream->ended)
        return;
    stream->ended = true;
    stream->callbacks.on_end(stream->userdata, error);
}

int stream_new(struct connection *connection, const struct http_stream_callbacks *callbacks, void *userdata, struct http_stream **ret) {
    static const struct connection_events events = {.on_input = on_input, .on_drained = on_drained, .on_closed = on_closed};
    struct http_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return -ENOMEM;
    *stream = (struct http_stream){.connection = connection, .callbacks = *callbacks, .userdata = userdata};
    connection_rebind(connection, &events, stream);
    *ret = stream;
    return 0;
}

int http_stream_write(struct http_stream *stream, struct slice bytes) {
    return connection_write(stream->connection, bytes);
}

size_t http_stream_pending(const struct http_stream *stream) {
    return connection_pending(stream->connection);
}

void http_stream_pause(struct http_stream *stream) {
    connection_pause(stream->connection);
}

void http_stream_resume(struct http_stream *stream) {
    connection_resume(stream->connection);
}

void http_stream_shutdown(struct http_stream *stream) {
    connection_shutdown(stream->connection);
}

void http_stream_free(struct http_stream *stream) {
    if (!stream)
        return;
    if (stream->gone)
        *stream->gone = true;
    connection_free(stream->connection);
    free(stream);
}
