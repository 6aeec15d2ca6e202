/* One request and its answer: the application's side of the server.
 *
 * Every call here only changes the exchange's state or queues output, and schedules the connection's next step: no callback runs inside a call of the
 * application.
 *
 * The body waits in the connection's input (and so, by TCP, at the sender) until the application has chosen how to read it. An answer given before
 * the body was read throws the rest away when it is small, so that the connection stays usable; otherwise, and when the client waits for "100
 * Continue", the connection closes behind the answer.
 *
 * Invariants
 * 1. The answer's framing is decided once, in begin(): none, length, chunked, or by closing (HTTP/1.0).
 * 2. A declared length is kept: too much or too little breaks the connection instead of confusing the next answer.
 * 3. After `aborted` every call is without effect until on_close has run. */
#include <stdio.h>

#include "http/server_priv.h"

/* --- making it --- */

/* A slice of `from` becomes the same slice of the copy. Others (constants such as "/") stay. */
static struct slice rebase(struct slice slice, struct slice from, const char *to) {
    bool inside = slice.data && slice.data >= from.data && slice.data <= from.data + from.len;
    return inside ? slice_make(to + (slice.data - from.data), slice.len) : slice;
}

static int copy_head(struct arena *arena, const struct http1_head *head, struct slice input, struct http1_head *ret) {
    struct slice from = slice_head(input, head->bytes);
    const char *to = arena_dup(arena, from);
    struct http1_field *fields = arena_array(arena, head->fields_count + 1, sizeof *fields);
    if (!to || !fields)
        return -ENOMEM;
    *ret = *head;
    ret->method = rebase(head->method, from, to);
    ret->target = rebase(head->target, from, to);
    ret->path = rebase(head->path, from, to);
    ret->query = rebase(head->query, from, to);
    ret->host = rebase(head->host, from, to);
    ret->upgrade = rebase(head->upgrade, from, to);
    for (size_t i = 0; i < head->fields_count; i++)
        fields[i] = (struct http1_field){rebase(head->fields[i].name, from, to), rebase(head->fields[i].value, from, to)};
    ret->fields = fields;
    return 0;
}

int exchange_new(struct server_connection *owner, const struct http1_head *head, struct slice input, struct http_exchange **ret) {
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange)
        return -ENOMEM;
    exchange->owner = owner;
    exchange->arena = arena_new(TREE_BYTES_MAX);
    if (!exchange->arena || copy_head(exchange->arena, head, input, &exchange->head) < 0) {
        exchange_free(exchange);
        return -ENOMEM;
    }
    exchange->body_left = head->framing == HTTP1_BODY_LENGTH ? head->content_length : 0;
    exchange->body_received = head->framing == HTTP1_BODY_NONE || (head->framing == HTTP1_BODY_LENGTH && head->content_length == 0);
    exchange->continue_due = head->expect_continue && !exchange->body_received;
    exchange->close_after = !head->keep_alive;
    *ret = exchange;
    return 0;
}

void exchange_free(struct http_exchange *exchange) {
    arena_free(exchange->arena);
    buffer_deinit(&exchange->body);
    free(exchange);
}

/* --- the request --- */

struct slice http_method(const struct http_exchange *exchange) {
    return exchange->head.method;
}

struct slice http_target(const struct http_exchange *exchange) {
    return exchange->head.target;
}

struct slice http_path(const struct http_exchange *exchange) {
    return exchange->head.path;
}

struct slice http_query_text(const struct http_exchange *exchange) {
    return exchange->head.query;
}

struct slice http_header(const struct http_exchange *exchange, const char *name) {
    return http1_find(&exchange->head, name);
}

size_t http_header_count(const struct http_exchange *exchange) {
    return exchange->head.fields_count;
}

void http_header_at(const struct http_exchange *exchange, size_t index, struct slice *ret_name, struct slice *ret_value) {
    ASSERT(index < exchange->head.fields_count);
    *ret_name = exchange->head.fields[index].name;
    *ret_value = exchange->head.fields[index].value;
}

const struct http1_head *http_head(const struct http_exchange *exchange) {
    return &exchange->head;
}

const struct http_peer *http_exchange_peer(const struct http_exchange *exchange) {
    return &exchange->owner->peer;
}

struct loop *http_exchange_loop(const struct http_exchange *exchange) {
    return server_loop(exchange->owner->server);
}

struct arena *http_exchange_arena(const struct http_exchange *exchange) {
    return exchange->arena;
}

void http_on_close(struct http_exchange *exchange, void (*on_close)(void *userdata, struct http_exchange *exchange, bool complete), void *userdata) {
    exchange->on_close = on_close;
    exchange->on_close_userdata = userdata;
}

void http_on_drained(struct http_exchange *exchange, void (*on_drained)(void *userdata, struct http_exchange *exchange), void *userdata) {
    exchange->on_drained = on_drained;
    exchange->on_drained_userdata = userdata;
}

void http_abort(struct http_exchange *exchange) {
    exchange->aborted = true;
    server_connection_schedule(exchange->owner);
}

/* --- reading the body --- */

static void send_continue(struct http_exchange *exchange) {
    if (exchange->continue_due && exchange->response == RESPONSE_NONE)
        connection_write_forced(exchange->owner->connection, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
    exchange->continue_due = false;
}

/* Nobody will read the rest: thrown away, or the connection closes instead. */
static void discard_body(struct http_exchange *exchange) {
    exchange->body_mode = BODY_DISCARD;
    exchange->body_paused = false;
    exchange->body_told = true;
    if (exchange->body_received)
        return;
    if (exchange->continue_due || exchange->body_left > DISCARD_BYTES_MAX) {
        exchange->close_after = true;
        exchange->body_received = true;
    }
}

static void respond_not_collected(struct http_exchange *exchange, int error) {
    size_t bytes_max = exchange->body.bytes_max;
    char body[300];
    snprintf(
        body, sizeof body,
        "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"Request entity too large: limit is %zu\","
        "\"reason\":\"RequestEntityTooLarge\",\"code\":413}\n",
        bytes_max);
    buffer_deinit(&exchange->body);
    if (exchange->response != RESPONSE_NONE)
        http_abort(exchange);
    else if (error == -EMSGSIZE)
        http_respond(exchange, 413, "application/json", slice_of(body), NULL);
    else
        http_respond_text(exchange, 503, "out of memory\n");
}

void http_read_body(struct http_exchange *exchange, size_t bytes_max,
                    void (*on_body)(void *userdata, struct http_exchange *exchange, struct slice body), void *userdata) {
    ASSERT(exchange->body_mode == BODY_WAITING);
    exchange->body_mode = BODY_COLLECT;
    exchange->on_body = on_body;
    exchange->body_userdata = userdata;
    buffer_init(&exchange->body, bytes_max);
    if (exchange->body_left > bytes_max)
        respond_not_collected(exchange, -EMSGSIZE);
    else
        send_continue(exchange);
    server_connection_schedule(exchange->owner);
}

void http_stream_body(struct http_exchange *exchange, void (*on_data)(void *userdata, struct http_exchange *exchange, struct slice data),
                      void *userdata) {
    ASSERT(exchange->body_mode == BODY_WAITING);
    exchange->body_mode = BODY_STREAM;
    exchange->on_data = on_data;
    exchange->body_userdata = userdata;
    send_continue(exchange);
    server_connection_schedule(exchange->owner);
}

void http_pause_body(struct http_exchange *exchange) {
    exchange->body_paused = true;
}

void http_resume_body(struct http_exchange *exchange) {
    exchange->body_paused = false;
    server_connection_schedule(exchange->owner);
}

/* The next piece of the body in the input; false when malformed. */
static bool next_piece(struct http_exchange *exchange, struct slice input, size_t *ret_used, struct slice *ret_piece) {
    if (exchange->head.framing == HTTP1_BODY_CHUNKED) {
        enum http1_result result = http1_chunked_step(&exchange->chunked, input, ret_used, ret_piece);
        exchange->body_received = result == HTTP1_DONE;
        return result != HTTP1_BAD;
    }
    *ret_piece = slice_head(input, (size_t)MIN(exchange->body_left, (uint64_t)input.len));
    *ret_used = ret_piece->len;
    exchange->body_left -= ret_piece->len;
    exchange->body_received = exchange->body_left == 0;
    return true;
}

/* Hands a piece to whoever reads; the callee may do anything, also end the connection (which the caller's guard notices). */
static void hand_over(struct http_exchange *exchange, struct slice piece) {
    if (exchange->body_mode == BODY_STREAM) {
        exchange->on_data(exchange->body_userdata, exchange, piece);
    } else if (exchange->body_mode == BODY_COLLECT) {
        int r = buffer_append_slice(&exchange->body, piece);
        if (r < 0)
            respond_not_collected(exchange, r);
    } else {
        exchange->discarded += piece.len;
        if (exchange->discarded > DISCARD_BYTES_MAX && !exchange->body_received) {
            exchange->close_after = true;
            exchange->body_received = true;
        }
    }
}

/* The end of the body is told once. */
static void tell_end(struct http_exchange *exchange) {
    if (exchange->body_told || !exchange->body_received || exchange->body_paused || exchange->body_mode == BODY_WAITING)
        return;
    exchange->body_told = true;
    if (exchange->body_mode == BODY_COLLECT)
        exchange->on_body(exchange->body_userdata, exchange, buffer_slice(&exchange->body));
    else if (exchange->body_mode == BODY_STREAM)
        exchange->on_data(exchange->body_userdata, exchange, (struct slice){0});
}

bool exchange_pump_body(struct http_exchange *exchange) {
    struct server_connection *owner = exchange->owner;
    bool *gone = owner->gone; /* set by the caller */
    while (!exchange->body_received && !exchange->body_paused && exchange->body_mode != BODY_WAITING && !exchange->aborted && !exchange->upgraded) {
        struct slice input = connection_input(owner->connection), piece;
        size_t used;
        if (input.len == 0)
            return true;
        if (!next_piece(exchange, input, &used, &piece)) {
            http_abort(exchange);
            return true;
        }
        if (piece.len > 0)
            hand_over(exchange, piece);
        if (*gone)
            return false;
        if (exchange->upgraded)
            return true;
        connection_consume(owner->connection, used);
    }
    if (!exchange->aborted && !exchange->upgraded)
        tell_end(exchange);
    return !*gone;
}

/* --- answering --- */

static void append_field(struct buffer *head, const char *name, const char *value) {
    if (http1_is_token(slice_of(name)) && http1_is_field_value(slice_of(value)))
        buffer_printf(head, "%s: %s\r\n", name, value);
}

/* Queues a head. The framing: content_length -1 is "not known yet". */
static void begin(struct http_exchange *exchange, int status, const char *content_type, int64_t content_length, const struct http_field *fields) {
    CLEANUP(buffer_deinit) struct buffer head = BUFFER_INIT(HTTP_HEAD_BYTES_MAX);
    bool old = exchange->head.minor_version == 0, empty = status < 200 || status == 204 || status == 304;
    exchange->response_bodyless = empty || slice_is(exchange->head.method, "HEAD");
    exchange->response_chunked = content_length < 0 && !exchange->response_bodyless && !old;
    exchange->has_length = content_length >= 0 && !exchange->response_bodyless;
    exchange->length_left = content_length;
    if (server_is_draining(exchange->owner->server) || (content_length < 0 && !exchange->response_bodyless && old))
        exchange->close_after = true;
    buffer_printf(&head, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, http1_reason(status), server_date(exchange->owner->server));
    if (content_type)
        append_field(&head, "Content-Type", content_type);
    if (content_length >= 0 && !empty)
        buffer_printf(&head, "Content-Length: %" PRId64 "\r\n", content_length);
    else if (exchange->response_chunked)
        buffer_append_text(&head, "Transfer-Encoding: chunked\r\n");
    if (status != 101 && (exchange->close_after || old))
        buffer_append_text(&head, exchange->close_after ? "Connection: close\r\n" : "Connection: keep-alive\r\n");
    for (; fields && fields->name; fields++)
        append_field(&head, fields->name, fields->value);
    buffer_append_text(&head, "\r\n");
    exchange->response = RESPONSE_STREAMING;
    if (buffer_error(&head) || connection_write_forced(exchange->owner->connection, buffer_slice(&head)) < 0)
        http_abort(exchange);
}

void http_respond_begin(struct http_exchange *exchange, int status, const char *content_type, int64_t content_length,
                        const struct http_field *fields) {
    ASSERT(exchange->response == RESPONSE_NONE);
    if (!exchange->aborted)
        begin(exchange, status, content_type, content_length, fields);
}

void http_respond(struct http_exchange *exchange, int status, const char *content_type, struct slice body, const struct http_field *fields) {
    ASSERT(exchange->response == RESPONSE_NONE);
    if (exchange->aborted)
        return;
    discard_body(exchange);
    begin(exchange, status, content_type, (int64_t)body.len, fields);
    if (!exchange->response_bodyless && connection_write_forced(exchange->owner->connection, body) < 0)
        http_abort(exchange);
    exchange->response = RESPONSE_ENDED;
    server_connection_schedule(exchange->owner);
}

void http_respond_text(struct http_exchange *exchange, int status, const char *format, ...) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB);
    va_list args;
    va_start(args, format);
    buffer_vprintf(&text, format, args);
    va_end(args);
    http_respond(exchange, status, "text/plain; charset=utf-8", buffer_slice(&text), NULL);
}

static int write_chunk(struct http_exchange *exchange, struct slice bytes) {
    struct connection *connection = exchange->owner->connection;
    char size[32];
    int len = snprintf(size, sizeof size, "%zx\r\n", bytes.len);
    if (bytes.len > HTTP_OUTPUT_BYTES_MAX || connection_pending(connection) > HTTP_OUTPUT_BYTES_MAX - bytes.len)
        return -ENOBUFS;
    int r = connection_write_forced(connection, slice_make(size, (size_t)len));
    if (r == 0)
        r = connection_write_forced(connection, bytes);
    if (r == 0)
        r = connection_write_forced(connection, SLICE("\r\n"));
    if (r < 0) /* part of a chunk may be queued */
        http_abort(exchange);
    return r;
}

int http_write(struct http_exchange *exchange, struct slice bytes) {
    if (exchange->aborted || exchange->response != RESPONSE_STREAMING)
        return -EPIPE;
    if (bytes.len == 0 || exchange->response_bodyless)
        return 0;
    if (exchange->has_length && (int64_t)bytes.len > exchange->length_left) {
        http_abort(exchange);
        return -EPIPE;
    }
    int r = exchange->response_chunked ? write_chunk(exchange, bytes) : connection_write(exchange->owner->connection, bytes);
    if (r == 0 && exchange->has_length)
        exchange->length_left -= (int64_t)bytes.len;
    return r;
}

size_t http_write_pending(const struct http_exchange *exchange) {
    return exchange->owner->connection ? connection_pending(exchange->owner->connection) : 0;
}

void http_respond_end(struct http_exchange *exchange) {
    if (exchange->aborted)
        return;
    ASSERT(exchange->response == RESPONSE_STREAMING);
    exchange->response = RESPONSE_ENDED;
    if (exchange->has_length && exchange->length_left > 0)
        http_abort(exchange);
    if (exchange->response_chunked && connection_write_forced(exchange->owner->connection, SLICE("0\r\n\r\n")) < 0)
        http_abort(exchange);
    discard_body(exchange);
    server_connection_schedule(exchange->owner);
}

int http_respond_file(struct http_exchange *exchange, int fd, int64_t offset, int64_t length) {
    if (exchange->aborted || exchange->response_bodyless) {
        close(fd);
        if (!exchange->aborted)
            http_respond_end(exchange);
        return exchange->aborted ? -EPIPE : 0;
    }
    ASSERT(exchange->response == RESPONSE_STREAMING && exchange->has_length && exchange->length_left == length);
    int r = connection_write_file(exchange->owner->connection, fd, offset, length);
    if (r < 0)
        http_abort(exchange);
    exchange->length_left = 0;
    http_respond_end(exchange);
    return r;
}

void exchange_refuse(struct connection *connection, int status, const char *reason) {
    char text[512];
    int len = snprintf(text, sizeof text,
                       "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s\n", status,
                       http1_reason(status), strlen(reason) + 1, reason);
    connection_write_forced(connection, slice_make(text, (size_t)len));
}

/* --- handing the connection over --- */

int http_upgrade(struct http_exchange *exchange, const struct http_field *fields, const struct http_stream_callbacks *callbacks, void *userdata,
                 struct http_stream **ret) {
    ASSERT(exchange->response == RESPONSE_NONE);
    struct server_connection *owner = exchange->owner;
    if (exchange->aborted)
        return -EPIPE;
    begin(exchange, 101, NULL, -1, fields);
    if (exchange->aborted)
        return -EPIPE;
    int r = stream_new(owner->connection, callbacks, userdata, ret);
    if (r < 0) {
        http_abort(exchange);
        return r;
    }
    owner->connection = NULL;
    loop_timer_cancel(&owner->timer);
    exchange->upgraded = true;
    exchange->response = RESPONSE_ENDED;
    server_connection_schedule(owner);
    return 0;
}
