/* The server: accepting, and the life of each connection.
 *
 *   ┌─► IDLE ──bytes──► HEAD ──complete──► EXCHANGE (handler, body, answer) ──answer sent, body read──┐
 *   └──────────────────────────────────────── keep-alive ◄─────────────────────────────────────────────┤
 *        HEAD ──malformed or late──► refusal ──► LINGER ──peer closes, or 2 s──► freed  ◄── close ─────┘
 *
 * Invariants
 * 1. One exchange at a time per connection: a pipelined request waits in the input.
 * 2. advance() alone moves a connection on. It is run by input, by drained output, and by a deferred call after the application did something; never
 *    inside a call of the application.
 * 3. Each exchange's on_close runs exactly once: from end_exchange().
 * 4. Lingering: after a refusal our direction is closed and the rest of the input is thrown away for a moment, because closing at once would reset
 *    the connection and destroy the answer
 *    on its way.
 * 5. One timer per connection, moved lazily: it is only set again when it fires too early or a nearer end is needed, so that a busy connection costs
 *    no heap work. While the
 *    application thinks there is no timer. */
#include <stdio.h>
#include <sys/epoll.h>
#include <time.h>

#include "http/server_priv.h"
#include "sys/sys.h"

#define ACCEPTS_PER_TURN 64
#define ACCEPT_PAUSE_MS 100
#define LINGER_MS 2000
#define LINGER_BYTES_MAX (4 * MIB) /* who sends a whole API body still reads why it was not wanted */

struct http_server {
    struct loop *loop;
    int listen_fd;
    struct loop_io *io;
    struct http_server_options options;
    struct tls_context *tls;
    struct list connections;
    size_t connections_count;
    struct loop_timer accept_timer; /* out of descriptors: try again */
    bool draining;
    int64_t date_second;
    char date[HTTP_DATE_BYTES];
};

static void advance(struct server_connection *owner);

struct loop *server_loop(const struct http_server *server) {
    return server->loop;
}

bool server_is_draining(const struct http_server *server) {
    return server->draining;
}

void http_date_format(int64_t ns, char ret[HTTP_DATE_BYTES]) {
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t time = (time_t)(ns / 1000000000);
    struct tm tm;
    gmtime_r(&time, &tm);
    snprintf(ret, HTTP_DATE_BYTES, "%.3s, %02d %.3s %d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday, tm.tm_mday % 100, months + 3 * tm.tm_mon,
             (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
}

const char *server_date(struct http_server *server) {
    int64_t now = loop_wall_ns(server->loop), second = now / 1000000000;
    if (second != server->date_second) {
        http_date_format(now, server->date);
        server->date_second = second;
    }
    return server->date;
}

/* --- the end of things --- */

static void update_accepting(struct http_server *server) {
    bool accepting = !server->draining && server->connections_count < server->options.connections_max && !loop_timer_is_set(&server->accept_timer);
    if (server->io && loop_io_set(server->io, accepting ? EPOLLIN : 0) < 0)
        loop_timer_set(&server->accept_timer, ACCEPT_PAUSE_MS);
}

/* The exchange is over; false when its on_close freed the server. */
static bool end_exchange(struct server_connection *owner, bool complete) {
    struct http_exchange *exchange = TAKE(owner->exchange);
    bool gone = false, *outer = owner->gone;
    owner->gone = &gone;
    if (exchange->on_close)
        exchange->on_close(exchange->on_close_userdata, exchange, complete);
    exchange_free(exchange);
    if (gone) {
        if (outer)
            *outer = true;
        return false;
    }
    owner->gone = outer;
    return true;
}

/* Ends the exchange, if there is one, and frees all. */
static void server_connection_free(struct server_connection *owner) {
    if (owner->exchange && !end_exchange(owner, false))
        return;
    struct http_server *server = owner->server;
    if (owner->gone)
        *owner->gone = true;
    loop_defer_cancel(&owner->defer);
    loop_timer_cancel(&owner->timer);
    list_remove(&owner->node);
    connection_free(owner->connection);
    arena_free(owner->identity);
    free(owner);
    server->connections_count--;
    update_accepting(server);
}

static void linger(struct server_connection *owner) {
    if (connection_eof(owner->connection)) {
        connection_shutdown(owner->connection);
        if (connection_is_drained(owner->connection)) {
            server_connection_free(owner);
            return;
        }
    }
    owner->lingering = true;
    owner->linger_start_ns = loop_now_ns(owner->server->loop);
    connection_shutdown(owner->connection);
    server_connection_schedule(owner);
}

/* --- timeouts --- */

/* When the peer must have done something by; 0: we do not wait for it. */
static int64_t due_ns(const struct server_connection *owner) {
    const struct http_server_options *options = &owner->server->options;
    const struct http_exchange *exchange = owner->exchange;
    int64_t progress = connection_progress_ns(owner->connection);
    if (owner->lingering)
        return MAX(owner->linger_start_ns + LINGER_MS * INT64_C(1000000),
                   connection_pending(owner->connection) ? progress + options->idle_timeout_ms * 1000000 : 0);
    if (!exchange && owner->requests_count > 0 && connection_input(owner->connection).len == 0)
        return progress + options->idle_timeout_ms * 1000000;
    if (!exchange)
        return owner->head_start_ns + options->head_timeout_ms * 1000000;
    bool waits_for_body = !exchange->body_received && exchange->body_mode != BODY_WAITING && !exchange->body_paused;
    if (waits_for_body || !connection_is_drained(owner->connection))
        return progress + options->idle_timeout_ms * 1000000;
    return 0;
}

static void update_timer(struct server_connection *owner) {
    int64_t due = due_ns(owner);
    if (due == 0) {
        loop_timer_cancel(&owner->timer);
        return;
    }
    if (loop_timer_is_set(&owner->timer) && owner->timer_due_ns <= due)
        return;
    owner->timer_due_ns = due;
    int64_t left_ms = (due - loop_now_ns(owner->server->loop) + 999999) / 1000000;
    if (loop_timer_set(&owner->timer, left_ms) < 0) /* without memory no timer: rather end than hang */
        server_connection_free(owner);
}

static void on_timer(void *userdata) {
    struct server_connection *owner = userdata;
    int64_t due = due_ns(owner);
    if (due == 0 || due > loop_now_ns(owner->server->loop)) {
        update_timer(owner);
    } else if (!owner->exchange && !owner->lingering && connection_input(owner->connection).len > 0) {
        exchange_refuse(owner->connection, 408, "the request did not arrive in time");
        linger(owner);
    } else {
        server_connection_free(owner);
    }
}

/* --- advancing --- */

static void identify(struct server_connection *owner) {
    owner->identified = true;
    struct tls_session *tls = connection_tls(owner->connection);
    if (!tls || !(owner->identity = arena_new(16 * KIB)))
        return;
    if (tls_session_peer(tls, owner->identity, &owner->peer.certificate_common_name, &owner->peer.certificate_organizations) < 0)
        owner->peer.certificate_common_name = NULL;
}

enum step { STEP_AGAIN, STEP_WAIT, STEP_GONE };

/* Reads the next head; on success the handler has been called. */
static enum step next_request(struct server_connection *owner) {
    struct http1_field fields[HTTP_HEADERS_MAX];
    struct http1_head head;
    struct http1_error error;
    struct slice input = connection_input(owner->connection);
    if (owner->scan.at == 0 && input.len > 0)
        owner->head_start_ns = owner->requests_count == 0 ? owner->head_start_ns : loop_now_ns(owner->server->loop);
    enum http1_result result = http1_parse_request(&owner->scan, input, fields, &head, &error);
    if (result == HTTP1_BAD) {
        exchange_refuse(owner->connection, error.status, error.reason);
        linger(owner);
        return STEP_GONE;
    }
    if (result == HTTP1_MORE) {
        if (!connection_eof(owner->connection) && !(owner->server->draining && input.len == 0))
            return STEP_WAIT;
        server_connection_free(owner);
        return STEP_GONE;
    }
    if (exchange_new(owner, &head, input, &owner->exchange) < 0) {
        exchange_refuse(owner->connection, 503, "out of memory");
        linger(owner);
        return STEP_GONE;
    }
    if (!owner->identified)
        identify(owner);
    connection_consume(owner->connection, head.bytes);
    owner->scan = (struct http1_scan){0};
    owner->requests_count++;
    bool gone = false;
    owner->gone = &gone;
    owner->server->options.handler(owner->server->options.userdata, owner->exchange);
    if (gone)
        return STEP_GONE;
    owner->gone = NULL;
    return STEP_AGAIN;
}

static enum step finish_exchange(struct server_connection *owner) {
    bool close_after = owner->exchange->close_after;
    if (!end_exchange(owner, true))
        return STEP_GONE;
    if (close_after || owner->server->draining) {
        linger(owner);
        return STEP_GONE;
    }
    return STEP_AGAIN;
}

static enum step move_exchange(struct server_connection *owner) {
    struct http_exchange *exchange = owner->exchange;
    if (exchange->upgraded) {
        if (end_exchange(owner, true))
            server_connection_free(owner);
        return STEP_GONE;
    }
    bool gone = false;
    owner->gone = &gone;
    bool alive = exchange->aborted || exchange_pump_body(exchange);
    if (gone || !alive)
        return STEP_GONE;
    owner->gone = NULL;
    bool cut_off = connection_eof(owner->connection) && connection_input(owner->connection).len == 0 &&
                   ((!exchange->body_received && exchange->body_mode != BODY_WAITING) || exchange->response == RESPONSE_STREAMING);
    if (exchange->aborted || cut_off) {
        server_connection_free(owner);
        return STEP_GONE;
    }
    if (exchange->upgraded)
        return STEP_AGAIN;
    if (exchange->response == RESPONSE_ENDED && connection_is_drained(owner->connection) && exchange->body_received)
        return finish_exchange(owner);
    return STEP_WAIT;
}

static enum step discard_lingering(struct server_connection *owner) {
    struct slice input = connection_input(owner->connection);
    owner->lingered += input.len;
    connection_consume(owner->connection, input.len);
    if (owner->lingered > LINGER_BYTES_MAX || (connection_eof(owner->connection) && connection_is_drained(owner->connection))) {
        server_connection_free(owner);
        return STEP_GONE;
    }
    return STEP_WAIT;
}

static void advance(struct server_connection *owner) {
    enum step step = STEP_AGAIN;
    while (step == STEP_AGAIN) {
        if (owner->lingering)
            step = discard_lingering(owner);
        else
            step = owner->exchange ? move_exchange(owner) : next_request(owner);
    }
    if (step == STEP_WAIT)
        update_timer(owner);
}

void server_connection_schedule(struct server_connection *owner) {
    loop_defer_schedule(&owner->defer);
}

static void on_advance(void *userdata) {
    advance(userdata);
}

static void on_drained(void *userdata) {
    struct server_connection *owner = userdata;
    struct http_exchange *exchange = owner->exchange;
    if (exchange && exchange->response == RESPONSE_STREAMING && exchange->on_drained && !exchange->aborted) {
        bool gone = false;
        owner->gone = &gone;
        exchange->on_drained(exchange->on_drained_userdata, exchange);
        if (gone)
            return;
        owner->gone = NULL;
    }
    advance(owner);
}

static void on_closed(void *userdata, int error) {
    (void)error;
    server_connection_free(userdata);
}

/* --- accepting --- */

static const struct connection_events connection_events = {.on_input = on_advance, .on_drained = on_drained, .on_closed = on_closed};

static void describe_peer(struct server_connection *owner, int fd, const struct sys_address *address) {
    gid_t gid;
    owner->peer.address = owner->address;
    owner->peer.uid = (uid_t)-1;
    owner->peer.is_unix = address->storage.ss_family == AF_UNIX;
    if (!owner->peer.is_unix)
        sys_address_format(address, owner->address, sizeof owner->address);
    else
        snprintf(owner->address, sizeof owner->address, "unix");
    if (owner->peer.is_unix && sys_peer_credentials(fd, &owner->peer.uid, &gid, &owner->peer.pid) < 0)
        owner->peer.uid = (uid_t)-1;
}

/* Takes the descriptor. */
static int add_connection(struct http_server *server, int fd, const struct sys_address *address) {
    CLEANUP(freep) struct server_connection *owner = calloc(1, sizeof *owner);
    struct tls_session *tls = NULL;
    int r = owner ? 0 : -ENOMEM;
    if (r == 0 && server->tls)
        r = tls_session_new(server->tls, NULL, &tls);
    if (r < 0) {
        close(fd);
        return r;
    }
    describe_peer(owner, fd, address);
    sys_tune_tcp(fd);
    r = connection_new(server->loop, fd, tls, false, &connection_events, owner, &owner->connection);
    if (r < 0)
        return r;
    owner->server = server;
    owner->head_start_ns = loop_now_ns(server->loop);
    loop_defer_init(&owner->defer, server->loop, on_advance, owner);
    loop_timer_init(&owner->timer, server->loop, on_timer, owner);
    list_push(&server->connections, &owner->node);
    server->connections_count++;
    update_timer(TAKE(owner));
    return 0;
}

static void on_acceptable(void *userdata, uint32_t events) {
    (void)events;
    struct http_server *server = userdata;
    for (int i = 0; i < ACCEPTS_PER_TURN && server->connections_count < server->options.connections_max; i++) {
        struct sys_address address = {.len = sizeof address.storage};
        int fd = accept4(server->listen_fd, (struct sockaddr *)&address.storage, &address.len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
            loop_timer_set(&server->accept_timer, ACCEPT_PAUSE_MS); /* waiting in the backlog beats spinning */
        if (fd < 0)
            break;
        add_connection(server, fd, &address); /* on failure the connection is closed: all we can do */
    }
    update_accepting(server);
}

static void on_accept_timer(void *userdata) {
    update_accepting(userdata);
}

int http_server_new(struct loop *loop, int listen_fd, const struct http_server_options *options, struct http_server **ret) {
    struct http_server *server = calloc(1, sizeof *server);
    if (!server)
        return -ENOMEM;
    *server = (struct http_server){.loop = loop, .listen_fd = listen_fd, .options = *options, .date_second = -1};
    if (server->options.head_timeout_ms == 0)
        server->options.head_timeout_ms = 30000;
    if (server->options.idle_timeout_ms == 0)
        server->options.idle_timeout_ms = 120000;
    if (server->options.connections_max == 0)
        server->options.connections_max = 10000;
    list_init(&server->connections);
    loop_timer_init(&server->accept_timer, loop, on_accept_timer, server);
    if (options->tls)
        server->tls = tls_context_ref(options->tls);
    int r = sys_set_nonblocking(listen_fd, true);
    if (r == 0)
        r = loop_io_new(loop, listen_fd, EPOLLIN, on_acceptable, server, &server->io);
    if (r < 0) {
        http_server_free(server);
        return r;
    }
    *ret = server;
    return 0;
}

void http_server_drain(struct http_server *server) {
    server->draining = true;
    update_accepting(server);
    LIST_FOREACH(node, &server->connections) {
        struct server_connection *owner = CONTAINER_OF(node, struct server_connection, node);
        if (!owner->exchange && !owner->lingering)
            server_connection_schedule(owner);
    }
}

size_t http_server_connections(const struct http_server *server) {
    return server->connections_count;
}

void http_server_set_tls(struct http_server *server, struct tls_context *tls) {
    struct tls_context *old = server->tls;
    server->tls = tls ? tls_context_ref(tls) : NULL;
    tls_context_unref(old);
}

void http_server_free(struct http_server *server) {
    if (!server)
        return;
    server->draining = true;
    while (!list_empty(&server->connections))
        server_connection_free(CONTAINER_OF(server->connections.next, struct server_connection, node));
    loop_timer_cancel(&server->accept_timer);
    loop_io_free(server->io);
    tls_context_unref(server->tls);
    free(server);
}
