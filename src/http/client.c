/* The client: endpoints, the pool of kept connections, and the life of a request.
 *
 *   request_new ──► CONNECTING ──► SENT ──► HEAD ──► BODY ──► end: pool the connection if both sides are willing, call the last callback, free
 *                      └── next address ──┘   └── 101: raw stream
 *
 * Invariants
 * 1. No callback runs before the sending call has returned: failures at the start are told by a deferred call.
 * 2. Exactly one last callback (on_answer, on_end) unless cancelled; the request is freed right after it. A callback may cancel its own or any
 *    request, and free the client.
 * 3. A request is repeated once, on a new connection, when it went out on a kept connection that broke before any byte of an answer: the server had
 *    closed it while it was idle. Not POST: it may have been carried out.
 * 4. A kept connection has no unread input; bytes or an end that arrive while it is idle close it.
 * 5. Sizes: the head as http1.h, a collected body at most body_max, a streamed body only what the connection buffers. */
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

#include "http/client.h"
#include "http/connection_priv.h"
#include "http/tls.h"
#include "sys/sys.h"

#define ADDRESSES_MAX 4
#define IDLE_MAX_MS 60000 /* kept connections older than this are closed: below the server's own time-out */

struct http_client {
    struct loop *loop;
    char *host; /* for the Host field */
    char *name; /* for the certificate; NULL: plain */
    char *authorization;
    struct tls_context *tls;
    struct sys_address addresses[ADDRESSES_MAX];
    unsigned addresses_count;
    int64_t connect_timeout_ms;
    size_t idle_max;
    struct list idle; /* oldest first */
    size_t idle_count;
    struct list requests;
    struct loop_timer idle_timer;
};

struct idle_connection {
    struct list node;
    struct http_client *client;
    struct connection *connection;
    int64_t since_ns;
};

enum phase { PHASE_START, PHASE_CONNECTING, PHASE_HEAD, PHASE_BODY, PHASE_RAW };

struct http_request {
    struct list node;
    struct http_client *client;
    struct connection *connection;
    enum phase phase;
    bool streaming, upgrading, was_head, repeatable;
    bool kept; /* the connection came from the pool */
    bool paused;
    int error_due; /* for the deferred call */
    unsigned address;
    int64_t timeout_ms;
    int64_t deadline_ns; /* 0: none */
    size_t body_max;
    struct buffer message; /* what is sent, kept for another attempt */
    struct loop_defer defer;
    struct loop_timer timer;
    http_answer_fn *on_answer;
    struct http_stream_handlers handlers;
    void *userdata;
    /* the answer */
    struct http1_scan scan;
    struct arena *arena;
    struct http1_head head;
    enum http1_framing framing;
    uint64_t body_left;
    struct http1_chunked chunked;
    bool body_complete;
    struct buffer body;
    bool *gone; /* set while a callback runs */
};

static void start(struct http_request *request);

/* --- the pool --- */

static void idle_free(struct idle_connection *idle) {
    idle->client->idle_count--;
    list_remove(&idle->node);
    connection_free(idle->connection);
    free(idle);
}

static void on_idle_input(void *userdata) {
    idle_free(userdata);
}

static void on_idle_closed(void *userdata, int error) {
    (void)error;
    idle_free(userdata);
}

static void on_idle_timer(void *userdata) {
    struct http_client *client = userdata;
    int64_t now = loop_now_ns(client->loop);
    LIST_FOREACH(node, &client->idle) {
        struct idle_connection *idle = CONTAINER_OF(node, struct idle_connection, node);
        if (idle->since_ns + IDLE_MAX_MS * INT64_C(1000000) <= now)
            idle_free(idle);
    }
    if (!list_empty(&client->idle))
        loop_timer_set(&client->idle_timer, IDLE_MAX_MS);
}

/* Takes the connection: kept or freed. */
static void pool_put(struct http_client *client, struct connection *connection) {
    static const struct connection_events events = {.on_input = on_idle_input, .on_closed = on_idle_closed};
    struct idle_connection *idle = client->idle_max > 0 ? calloc(1, sizeof *idle) : NULL;
    if (!idle) {
        connection_free(connection);
        return;
    }
    if (client->idle_count >= client->idle_max)
        idle_free(CONTAINER_OF(client->idle.next, struct idle_connection, node));
    *idle = (struct idle_connection){.client = client, .connection = connection, .since_ns = loop_now_ns(client->loop)};
    list_push(&client->idle, &idle->node);
    client->idle_count++;
    connection_rebind(connection, &events, idle);
    if (!loop_timer_is_set(&client->idle_timer))
        loop_timer_set(&client->idle_timer, IDLE_MAX_MS);
}

/* The most recently used one, or NULL. */
static struct connection *pool_take(struct http_client *client) {
    if (list_empty(&client->idle))
        return NULL;
    struct idle_connection *idle = CONTAINER_OF(client->idle.prev, struct idle_connection, node);
    struct connection *connection = TAKE(idle->connection);
    idle_free(idle);
    return connection;
}

/* --- answers --- */

static struct slice answer_header(const struct http_answer *answer, const char *name) {
    const struct http_request *request = answer->private_data;
    return request && answer->status ? http1_find(&request->head, name) : (struct slice){0};
}

bool http_answer_field(const struct http_answer *answer, size_t index, struct slice *ret_name, struct slice *ret_value) {
    const struct http_request *request = answer->private_data;
    if (!request || !answer->status || index >= request->head.fields_count)
        return false;
    *ret_name = request->head.fields[index].name;
    *ret_value = request->head.fields[index].value;
    return true;
}

static struct http_answer make_answer(const struct http_request *request, int error) {
    return (struct http_answer){.error = error,
                                .status = error ? 0 : request->head.status,
                                .body = error ? (struct slice){0} : buffer_slice(&request->body),
                                .header = answer_header,
                                .private_data = request};
}

static void request_free(struct http_request *request) {
    if (request->gone)
        *request->gone = true;
    list_remove(&request->node);
    loop_defer_cancel(&request->defer);
    loop_timer_cancel(&request->timer);
    connection_free(request->connection);
    arena_free(request->arena);
    buffer_deinit(&request->message);
    buffer_deinit(&request->body);
    free(request);
}

/* The last callback. The connection has gone or goes. */
static void finish(struct http_request *request, int error) {
    struct http_answer answer = make_answer(request, error);
    bool gone = false;
    request->gone = &gone;
    connection_free(TAKE(request->connection));
    loop_timer_cancel(&request->timer);
    loop_defer_cancel(&request->defer);
    if (request->streaming)
        request->handlers.on_end(request->userdata, error);
    else
        request->on_answer(request->userdata, &answer);
    if (gone)
        return;
    request->gone = NULL;
    request_free(request);
}

/* Calls a handler of a stream; false when it cancelled the request. */
static bool tell_head(struct http_request *request) {
    struct http_answer answer = make_answer(request, 0);
    bool gone = false;
    request->gone = &gone;
    if (request->handlers.on_head)
        request->handlers.on_head(request->userdata, &answer);
    if (!gone)
        request->gone = NULL;
    return !gone;
}

static bool tell_data(struct http_request *request, struct slice data) {
    bool gone = false;
    request->gone = &gone;
    if (request->handlers.on_data)
        request->handlers.on_data(request->userdata, data);
    if (!gone)
        request->gone = NULL;
    return !gone;
}

static void complete(struct http_request *request) {
    struct connection *connection = request->connection;
    bool keep = request->head.keep_alive && !connection_eof(connection) && connection_input(connection).len == 0 && connection_is_drained(connection);
    if (keep) {
        request->connection = NULL;
        pool_put(request->client, connection);
    }
    finish(request, 0);
}

/* The connection broke, with or without an end of the answer in it. */
static void broke(struct http_request *request, int error) {
    bool untouched = request->phase == PHASE_HEAD && request->scan.at == 0 && connection_input(request->connection).len == 0;
    bool connecting = request->phase == PHASE_CONNECTING && !connection_is_open(request->connection);
    if (connecting && error != -EPROTO && error != -EACCES && request->address + 1 < request->client->addresses_count) {
        request->address++;
        connection_free(TAKE(request->connection));
        start(request);
        return;
    }
    if (untouched && request->kept && request->repeatable) {
        request->kept = false;
        request->repeatable = false;
        connection_free(TAKE(request->connection));
        start(request);
        return;
    }
    finish(request, error);
}

/* --- reading --- */

/* The head's texts move into the request's arena, since the input will be consumed. */
static int keep_head(struct http_request *request, const struct http1_head *head, struct slice input) {
    arena_free(request->arena);
    request->arena = arena_new(2 * HTTP_HEAD_BYTES_MAX + 16 * KIB);
    const char *copy = request->arena ? arena_dup(request->arena, slice_head(input, head->bytes)) : NULL;
    struct http1_field *fields = copy ? arena_array(request->arena, head->fields_count + 1, sizeof *fields) : NULL;
    if (!fields)
        return -ENOMEM;
    for (size_t i = 0; i < head->fields_count; i++) {
        const struct http1_field *field = &head->fields[i];
        fields[i].name = slice_make(copy + (field->name.data - input.data), field->name.len);
        fields[i].value = slice_make(copy + (field->value.data - input.data), field->value.len);
    }
    request->head = *head;
    request->head.fields = fields;
    request->head.upgrade = (struct slice){0};
    request->head.reason = slice_make(copy + (head->reason.data ? head->reason.data - input.data : 0), head->reason.len);
    return 0;
}

enum step { STEP_AGAIN, STEP_WAIT, STEP_GONE };

static enum step begin_body(struct http_request *request) {
    request->framing = http1_response_framing(&request->head, request->was_head);
    request->body_left = request->head.content_length;
    request->body_complete = request->framing == HTTP1_BODY_NONE || (request->framing == HTTP1_BODY_LENGTH && request->body_left == 0);
    request->phase = request->upgrading && request->head.status == 101 ? PHASE_RAW : PHASE_BODY;
    if (!request->streaming && request->framing == HTTP1_BODY_LENGTH && request->body_left > request->body_max) {
        finish(request, -EMSGSIZE);
        return STEP_GONE;
    }
    if (!request->streaming)
        return STEP_AGAIN;
    request->deadline_ns = 0; /* a stream lasts as long as it lasts */
    loop_timer_cancel(&request->timer);
    return tell_head(request) ? STEP_AGAIN : STEP_GONE;
}

static enum step read_head(struct http_request *request) {
    struct http1_field fields[HTTP_HEADERS_MAX];
    struct http1_head head;
    struct http1_error error;
    struct slice input = connection_input(request->connection);
    enum http1_result result = http1_parse_response(&request->scan, input, fields, &head, &error);
    if (result == HTTP1_MORE && connection_eof(request->connection)) {
        broke(request, -ECONNRESET);
        return STEP_GONE;
    }
    if (result == HTTP1_MORE)
        return STEP_WAIT;
    int r = result == HTTP1_BAD ? -EBADMSG : keep_head(request, &head, input);
    if (r == 0 && head.status == 101 && !request->upgrading)
        r = -EBADMSG;
    if (r < 0) {
        finish(request, r);
        return STEP_GONE;
    }
    connection_consume(request->connection, head.bytes);
    request->scan = (struct http1_scan){0};
    request->kept = false; /* an answer has begun: no repeating */
    if (head.status < 200 && head.status != 101)
        return STEP_AGAIN;
    return begin_body(request);
}

/* The next piece of the body; -EBADMSG when malformed. */
static int next_piece(struct http_request *request, struct slice input, size_t *ret_used, struct slice *ret_piece) {
    if (request->framing == HTTP1_BODY_CHUNKED) {
        enum http1_result result = http1_chunked_step(&request->chunked, input, ret_used, ret_piece);
        request->body_complete = result == HTTP1_DONE;
        return result == HTTP1_BAD ? -EBADMSG : 0;
    }
    size_t len = request->framing == HTTP1_BODY_LENGTH ? (size_t)MIN(request->body_left, (uint64_t)input.len) : input.len;
    *ret_piece = slice_head(input, len);
    *ret_used = len;
    request->body_left -= request->framing == HTTP1_BODY_LENGTH ? len : 0;
    request->body_complete = request->framing == HTTP1_BODY_LENGTH && request->body_left == 0;
    return 0;
}

static enum step end_of_input(struct http_request *request) {
    if (!connection_eof(request->connection))
        return STEP_WAIT;
    bool whole = request->framing == HTTP1_BODY_UNTIL_CLOSE && connection_eof_clean(request->connection);
    finish(request, whole ? 0 : -ECONNRESET);
    return STEP_GONE;
}

static enum step read_body(struct http_request *request) {
    if (request->body_complete) {
        complete(request);
        return STEP_GONE;
    }
    if (request->paused)
        return STEP_WAIT;
    struct slice input = connection_input(request->connection), piece;
    size_t used;
    if (input.len == 0)
        return end_of_input(request);
    int r = next_piece(request, input, &used, &piece);
    if (r == 0 && piece.len > 0 && !request->streaming)
        r = buffer_append_slice(&request->body, piece);
    if (r < 0) {
        finish(request, r);
        return STEP_GONE;
    }
    if (piece.len > 0 && request->streaming && !tell_data(request, piece))
        return STEP_GONE;
    connection_consume(request->connection, used);
    return STEP_AGAIN;
}

static enum step read_raw(struct http_request *request) {
    struct slice input = connection_input(request->connection);
    if (request->paused)
        return STEP_WAIT;
    if (input.len > 0) {
        if (!tell_data(request, input))
            return STEP_GONE;
        connection_consume(request->connection, input.len);
    }
    if (!connection_eof(request->connection))
        return STEP_WAIT;
    finish(request, connection_eof_clean(request->connection) ? 0 : -ECONNRESET);
    return STEP_GONE;
}

static void advance(struct http_request *request) {
    enum step step = STEP_AGAIN;
    while (step == STEP_AGAIN) {
        switch (request->phase) {
        case PHASE_CONNECTING: request->phase = PHASE_HEAD; break;
        case PHASE_HEAD: step = read_head(request); break;
        case PHASE_BODY: step = read_body(request); break;
        case PHASE_RAW: step = read_raw(request); break;
        case PHASE_START: UNREACHABLE();
        }
    }
}

static void on_input(void *userdata) {
    advance(userdata);
}

/* The request is out: what follows is an answer. */
static void on_drained(void *userdata) {
    struct http_request *request = userdata;
    if (request->phase == PHASE_CONNECTING)
        request->phase = PHASE_HEAD;
    if (request->phase == PHASE_RAW && request->handlers.on_drained) {
        request->handlers.on_drained(request->userdata);
    }
}

static void on_closed(void *userdata, int error) {
    broke(userdata, error);
}

/* --- starting --- */

static void fail_later(struct http_request *request, int error) {
    request->error_due = error;
    loop_timer_cancel(&request->timer);
    loop_defer_schedule(&request->defer);
}

static void arm_timer(struct http_request *request) {
    int64_t now = loop_now_ns(request->client->loop), due = request->deadline_ns;
    if (request->phase == PHASE_CONNECTING) {
        int64_t connect_due = now + request->client->connect_timeout_ms * 1000000;
        due = due == 0 ? connect_due : MIN(due, connect_due);
    }
    if (due == 0)
        loop_timer_cancel(&request->timer);
    else if (loop_timer_set(&request->timer, (due - now + 999999) / 1000000) < 0)
        fail_later(request, -ENOMEM);
}

static int open_connection(struct http_request *request) {
    static const struct connection_events events = {.on_input = on_input, .on_drained = on_drained, .on_closed = on_closed};
    struct http_client *client = request->client;
    struct connection *kept = request->repeatable || request->kept ? pool_take(client) : NULL;
    if (kept) {
        request->kept = true;
        request->connection = kept;
        connection_rebind(kept, &events, request);
        return 0;
    }
    request->kept = false;
    int fd;
    while ((fd = sys_connect(&client->addresses[request->address])) < 0 && request->address + 1 < client->addresses_count)
        request->address++;
    if (fd < 0)
        return fd;
    sys_tune_tcp(fd);
    struct tls_session *tls = NULL;
    int r = client->tls ? tls_session_new(client->tls, client->name, &tls) : 0;
    if (r < 0) {
        close(fd);
        return r;
    }
    return connection_new(client->loop, fd, tls, true, &events, request, &request->connection);
}

static void start(struct http_request *request) {
    int r = open_connection(request);
    request->phase = request->kept ? PHASE_HEAD : PHASE_CONNECTING;
    request->scan = (struct http1_scan){0};
    if (r == 0)
        r = connection_write_forced(request->connection, buffer_slice(&request->message));
    if (r < 0)
        fail_later(request, r);
    else
        arm_timer(request);
}

static void on_timer(void *userdata) {
    struct http_request *request = userdata;
    int64_t now = loop_now_ns(request->client->loop);
    bool unopened = request->phase == PHASE_CONNECTING && !connection_is_open(request->connection);
    if (request->deadline_ns && now >= request->deadline_ns)
        finish(request, -ETIMEDOUT);
    else if (unopened)
        broke(request, -ETIMEDOUT);
    else {
        if (request->phase == PHASE_CONNECTING)
            request->phase = PHASE_HEAD;
        arm_timer(request);
    }
}

static void on_deferred(void *userdata) {
    struct http_request *request = userdata;
    if (request->error_due)
        finish(request, request->error_due);
    else if (!request->paused && request->connection && request->phase >= PHASE_HEAD)
        advance(request);
}

/* --- building --- */

static int append_field(struct buffer *message, const char *name, const char *value) {
    if (!http1_is_token(slice_of(name)) || !http1_is_field_value(slice_of(value)))
        return -EINVAL;
    return buffer_printf(message, "%s: %s\r\n", name, value);
}

/* Head and body. -EINVAL when a field or the target could not stand in a head. */
static bool has_field(const struct http_field *fields, const char *name) {
    for (; fields && fields->name; fields++)
        if (slice_equal_nocase(slice_of(fields->name), slice_of(name)))
            return true;
    return false;
}

static int build_message(struct http_request *request, const struct http_request_options *options) {
    struct buffer *message = &request->message;
    const struct http_client *client = request->client;
    bool may_have_body = strcmp(options->method, "GET") != 0 && strcmp(options->method, "HEAD") != 0;
    struct slice target = slice_of(options->target);
    for (size_t i = 0; i < target.len; i++)
        if (target.data[i] <= ' ' || target.data[i] > '~' || target.data[i] == '#')
            return -EINVAL;
    if (!http1_is_token(slice_of(options->method)) || target.len == 0)
        return -EINVAL;
    buffer_printf(message, "%s %s HTTP/1.1\r\n", options->method, options->target);
    if (!has_field(options->fields, "Host"))
        buffer_printf(message, "Host: %s\r\n", client->host);
    if (!has_field(options->fields, "User-Agent"))
        buffer_append_text(message, "User-Agent: tidemill/" TIDEMILL_VERSION "\r\n");
    int r = client->authorization ? append_field(message, "Authorization", client->authorization) : 0;
    if (r == 0 && options->content_type)
        r = append_field(message, "Content-Type", options->content_type);
    for (const struct http_field *field = options->fields; r == 0 && field && field->name; field++)
        r = append_field(message, field->name, field->value);
    if (options->body.len > 0 || (may_have_body && !request->upgrading))
        buffer_printf(message, "Content-Length: %zu\r\n", options->body.len);
    buffer_append_text(message, "\r\n");
    buffer_append_slice(message, options->body);
    return r < 0 ? r : buffer_error(message);
}

static int request_new(struct http_client *client, const struct http_request_options *options, struct http_request **ret) {
    struct http_request *request = calloc(1, sizeof *request);
    if (!request)
        return -ENOMEM;
    request->client = client;
    request->was_head = strcmp(options->method, "HEAD") == 0;
    bool is_json_patch = options->content_type && strncmp(options->content_type, "application/json-patch+json", 27) == 0; /* "add" adds twice */
    request->repeatable = strcmp(options->method, "POST") != 0 && !is_json_patch;
    request->timeout_ms = options->timeout_ms == 0 ? 60000 : options->timeout_ms;
    request->deadline_ns = request->timeout_ms < 0 ? 0 : loop_now_ns(client->loop) + request->timeout_ms * 1000000;
    request->body_max = options->body_max ? options->body_max : 64 * MIB;
    buffer_init(&request->message, GIB);
    buffer_init(&request->body, request->body_max);
    loop_defer_init(&request->defer, client->loop, on_deferred, request);
    loop_timer_init(&request->timer, client->loop, on_timer, request);
    list_push(&client->requests, &request->node);
    *ret = request;
    return 0;
}

static int launch(struct http_request *request, const struct http_request_options *options, struct http_request **ret) {
    int r = build_message(request, options);
    if (r < 0) {
        request_free(request);
        return r;
    }
    request->kept = true; /* a kept connection may be used, also for POST */
    start(request);
    if (ret)
        *ret = request;
    return 0;
}

int http_client_send(struct http_client *client, const struct http_request_options *options, http_answer_fn *on_answer, void *userdata,
                     struct http_request **ret) {
    struct http_request *request;
    int r = request_new(client, options, &request);
    if (r < 0)
        return r;
    request->on_answer = on_answer;
    request->userdata = userdata;
    return launch(request, options, ret);
}

int http_client_stream(struct http_client *client, const struct http_request_options *options, const struct http_stream_handlers *handlers,
                       void *userdata, struct http_request **ret) {
    struct http_request *request;
    int r = request_new(client, options, &request);
    if (r < 0)
        return r;
    request->streaming = true;
    request->handlers = *handlers;
    request->userdata = userdata;
    return launch(request, options, ret);
}

int http_client_upgrade(struct http_client *client, const struct http_request_options *options, const struct http_stream_handlers *handlers,
                        void *userdata, struct http_request **ret) {
    struct http_request *request;
    int r = request_new(client, options, &request);
    if (r < 0)
        return r;
    request->streaming = request->upgrading = true;
    request->handlers = *handlers;
    request->userdata = userdata;
    return launch(request, options, ret);
}

void http_request_pause(struct http_request *request) {
    request->paused = true;
}

void http_request_resume(struct http_request *request) {
    request->paused = false;
    loop_defer_schedule(&request->defer);
}

void http_request_cancel(struct http_request *request) {
    if (request)
        request_free(request);
}

int http_request_write(struct http_request *request, struct slice bytes) {
    return request->phase == PHASE_RAW ? connection_write(request->connection, bytes) : -ENOTCONN;
}

size_t http_request_write_pending(const struct http_request *request) {
    return request->connection ? connection_pending(request->connection) : 0;
}

void http_request_shutdown(struct http_request *request) {
    if (request->phase == PHASE_RAW)
        connection_shutdown(request->connection);
}

/* --- the client --- */

/* "host:port", "[v6]:port", "host" into both parts; the brackets are stripped. */
static int split_authority(struct slice authority, const char *default_port, char *host, size_t host_size, char *port, size_t port_size) {
    struct slice name = authority, number = slice_of(default_port);
    ptrdiff_t bracket = slice_index(authority, ']'), colon = -1;
    for (size_t i = authority.len; i > 0 && colon < 0 && (ptrdiff_t)(i - 1) > bracket; i--)
        if (authority.data[i - 1] == ':')
            colon = (ptrdiff_t)(i - 1);
    if (colon >= 0) {
        name = slice_head(authority, (size_t)colon);
        number = slice_from(authority, (size_t)colon + 1);
    }
    if (bracket >= 0 && (name.len < 3 || name.data[0] != '['))
        return -EINVAL;
    if (bracket >= 0)
        name = slice_make(name.data + 1, name.len - 2);
    if (name.len == 0 || name.len >= host_size || number.len == 0 || number.len >= port_size)
        return -EINVAL;
    snprintf(host, host_size, "%.*s", SLICE_ARG(name));
    snprintf(port, port_size, "%.*s", SLICE_ARG(number));
    return 0;
}

static int resolve(struct http_client *client, const char *host, const char *port) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found = NULL;
    int r = getaddrinfo(host, port, &hints, &found);
    if (r != 0)
        return r == EAI_MEMORY ? -ENOMEM : r == EAI_SYSTEM ? -errno : r == EAI_NONAME && !*port ? -EINVAL : -EHOSTUNREACH;
    for (struct addrinfo *info = found; info && client->addresses_count < ADDRESSES_MAX; info = info->ai_next) {
        struct sys_address *address = &client->addresses[client->addresses_count++];
        memcpy(&address->storage, info->ai_addr, info->ai_addrlen);
        address->len = info->ai_addrlen;
    }
    freeaddrinfo(found);
    return client->addresses_count ? 0 : -EHOSTUNREACH;
}

static int set_endpoint(struct http_client *client, const char *endpoint) {
    struct slice text = slice_of(endpoint);
    char host[256], port[8];
    if (slice_starts(text, SLICE("unix:"))) {
        client->addresses_count = 1;
        client->host = strdup("localhost");
        return client->host ? sys_address_parse(endpoint, &client->addresses[0]) : -ENOMEM;
    }
    bool tls = slice_starts(text, SLICE("https://"));
    if (!tls && !slice_starts(text, SLICE("http://")))
        return -EINVAL;
    struct slice rest = slice_from(text, tls ? 8 : 7);
    struct slice authority = slice_cut(&rest, '/');
    int r = split_authority(authority, tls ? "443" : "80", host, sizeof host, port, sizeof port);
    if (r < 0)
        return r;
    client->host = slice_dup(authority);
    client->name = tls ? strdup(host) : NULL;
    if (!client->host || (tls && !client->name))
        return -ENOMEM;
    return resolve(client, host, port);
}

static int set_name(struct http_client *client, const char *name) {
    free(client->host);
    client->host = strdup(name);
    if (!client->host || !client->name)
        return client->host ? 0 : -ENOMEM;
    free(client->name);
    client->name = strdup(name);
    return client->name ? 0 : -ENOMEM;
}

int http_client_new(struct loop *loop, const struct http_client_options *options, struct http_client **ret) {
    struct http_client *client = calloc(1, sizeof *client);
    if (!client)
        return -ENOMEM;
    client->loop = loop;
    client->connect_timeout_ms = options->connect_timeout_ms ? options->connect_timeout_ms : 5000;
    client->idle_max = options->connections_max ? options->connections_max : 8;
    list_init(&client->idle);
    list_init(&client->requests);
    loop_timer_init(&client->idle_timer, loop, on_idle_timer, client);
    int r = set_endpoint(client, options->endpoint);
    if (r == 0 && options->name)
        r = set_name(client, options->name);
    if (r == 0 && client->name && !options->tls)
        r = -EINVAL;
    if (r == 0 && client->name)
        client->tls = tls_context_ref(options->tls);
    if (r == 0 && options->authorization && !(client->authorization = strdup(options->authorization)))
        r = -ENOMEM;
    if (r < 0) {
        http_client_free(client);
        return r;
    }
    *ret = client;
    return 0;
}

void http_client_free(struct http_client *client) {
    if (!client)
        return;
    while (!list_empty(&client->requests))
        request_free(CONTAINER_OF(client->requests.next, struct http_request, node));
    while (!list_empty(&client->idle))
        idle_free(CONTAINER_OF(client->idle.next, struct idle_connection, node));
    loop_timer_cancel(&client->idle_timer);
    tls_context_unref(client->tls);
    free(client->host);
    free(client->name);
    if (client->authorization)
        explicit_bzero(client->authorization, strlen(client->authorization));
    free(client->authorization);
    free(client);
}
