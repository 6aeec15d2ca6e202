/* The proxy with real sockets: the test plays clients and backends on the same loop, one step at a time. */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "proxy/proxy_priv.h"

#define BACKENDS_MAX 4
#define TURNS_MAX 20000 /* a bound against hanging, not a timing: each turn waits a millisecond at most */

struct fixture {
    struct loop *loop;
    struct proxy *proxy;
    struct proxy_upstream *upstream;
    int listen_fd;
    struct sys_address address;
    int backends[BACKENDS_MAX];
    struct sys_address backend_addresses[BACKENDS_MAX];
    size_t backends_count;
    bool drained;
};

static int listen_any(struct sys_address *ret) {
    struct sys_address address;
    assert_int_equal(sys_address_parse("127.0.0.1:0", &address), 0);
    int fd = sys_listen(&address, 128, 0);
    assert_true(fd >= 0);
    socklen_t len = sizeof address.storage;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address.storage, &len), 0);
    *ret = address;
    return fd;
}

static void set_ready(struct fixture *f, unsigned mask) {
    struct proxy_endpoint_spec specs[BACKENDS_MAX];
    for (size_t i = 0; i < f->backends_count; i++)
        specs[i] = (struct proxy_endpoint_spec){.address = f->backend_addresses[i], .ready = mask >> i & 1};
    assert_int_equal(proxy_upstream_set_endpoints(f->upstream, specs, f->backends_count), 0);
}

static void setup(struct fixture *f, size_t backends, const struct proxy_options *options) {
    *f = (struct fixture){.backends_count = backends};
    assert_int_equal(loop_new(&f->loop), 0);
    assert_int_equal(proxy_new(f->loop, options, &f->proxy), 0);
    f->listen_fd = listen_any(&f->address);
    assert_int_equal(proxy_listen(f->proxy, f->listen_fd, false), 0);
    for (size_t i = 0; i < backends; i++)
        f->backends[i] = listen_any(&f->backend_addresses[i]);
    assert_int_equal(proxy_upstream_get(f->proxy, "default", "web", "80", &f->upstream), 0);
    struct proxy_routes *routes = proxy_routes_new();
    const struct proxy_route route = {.host = "web.test", .upstream = f->upstream, .backend = "default/web:80"};
    const struct proxy_route missing = {.host = "missing.test", .backend = "default/nothing:80"};
    assert_int_equal(proxy_routes_add(routes, &route), 0);
    assert_int_equal(proxy_routes_add(routes, &missing), 0);
    proxy_set_routes(f->proxy, routes);
    set_ready(f, (1u << backends) - 1);
}

static void teardown(struct fixture *f) {
    proxy_upstream_unref(f->upstream);
    proxy_free(f->proxy);
    close(f->listen_fd);
    for (size_t i = 0; i < f->backends_count; i++)
        if (f->backends[i] >= 0)
            close(f->backends[i]);
    loop_free(f->loop);
}

static void turn(struct fixture *f) {
    assert_int_equal(loop_turn(f->loop, 1), 0);
}

static int connect_client(struct fixture *f) {
    int fd = sys_connect(&f->address);
    assert_true(fd >= 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    assert_int_equal(poll(&poll_fd, 1, 10000), 1);
    return fd;
}

/* Writes all, turning the loop while the socket is full. */
static void put_bytes(struct fixture *f, int fd, const char *data, size_t len) {
    for (size_t at = 0; at < len;) {
        ssize_t sent = send(fd, data + at, len - at, MSG_NOSIGNAL);
        if (sent < 0)
            assert_int_equal(errno, EAGAIN);
        else
            at += (size_t)sent;
        turn(f);
    }
}

static void put(struct fixture *f, int fd, const char *text) {
    put_bytes(f, fd, text, strlen(text));
}

/* Reads until the text so far ends with, or holds, `until`; NULL: until the end of the stream. */
static void get(struct fixture *f, int fd, struct buffer *text, const char *until) {
    for (int turns = 0; turns < TURNS_MAX; turns++) {
        char bytes[16384];
        ssize_t len = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (len > 0)
            assert_int_equal(buffer_append(text, bytes, (size_t)len), 0);
        if (until && text->len > 0 && slice_find(buffer_slice(text), slice_of(until)) >= 0)
            return;
        if (len == 0 || (len < 0 && errno == ECONNRESET)) {
            if (until)
                fail_msg("the stream ended before \"%s\" in: %s", until, text->data);
            return;
        }
        if (len < 0)
            turn(f);
    }
    fail_msg("never came: %s; got: %s", until ? until : "(end)", text->data ? text->data : "");
}

/* The next connection to a backend. */
static int take(struct fixture *f, size_t backend) {
    for (int turns = 0; turns < TURNS_MAX; turns++) {
        int fd = accept4(f->backends[backend], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            return fd;
        turn(f);
    }
    fail_msg("no connection to backend %zu", backend);
    return -1;
}

static void expect(struct fixture *f, int fd, const char *until, const char *const *contains) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4 * MIB);
    get(f, fd, &text, until);
    for (; contains && *contains; contains++)
        if (slice_find(buffer_slice(&text), slice_of(*contains)) < 0)
            fail_msg("\"%s\" is not in: %s", *contains, text.data);
}
#define EXPECT(f, fd, until, ...) expect(f, fd, until, (const char *const[]){__VA_ARGS__, NULL})

#define GET "GET / HTTP/1.1\r\nHost: web.test\r\n\r\n"
#define POST "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 2\r\n\r\nhi"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

UNIT_TEST(requests_share_kept_connections) {
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    put(&f, client,
        "GET /x?y=1 HTTP/1.1\r\nHost: web.test\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\nX_Sneaky: "
        "1\r\nAccept: a\r\n\r\n");
    int backend = take(&f, 0);
    CLEANUP(buffer_deinit) struct buffer request = BUFFER_INIT(MIB);
    get(&f, backend, &request, "\r\n\r\n");
    assert_true(slice_starts(buffer_slice(&request), SLICE("GET /x?y=1 HTTP/1.1\r\nHost: web.test\r\nAccept: a\r\nX-Forwarded-For: 127.0.0.1\r\n")));
    assert_true(slice_find(buffer_slice(&request), SLICE("X-Forwarded-Proto: http\r\nX-Forwarded-Host: web.test\r\nX-Request-Id: ")) > 0);
    assert_true(slice_find(buffer_slice(&request), SLICE("6.6.6.6")) < 0);
    assert_true(slice_find(buffer_slice(&request), SLICE("rivate")) < 0);
    assert_true(slice_find(buffer_slice(&request), SLICE("neaky")) < 0);
    put(&f, backend, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\nX-A: b\r\n\r\nok");
    CLEANUP(buffer_deinit) struct buffer answer = BUFFER_INIT(MIB);
    get(&f, client, &answer, "\r\n\r\nok");
    assert_string_equal(answer.data, "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok");
    int second = connect_client(&f);
    put(&f, second, GET);
    EXPECT(&f, backend, "\r\n\r\n", "GET / HTTP/1.1");
    put(&f, backend, OK);
    EXPECT(&f, second, "ok", "200 OK");
    struct proxy_stats stats;
    proxy_stats_get(f.proxy, &stats);
    assert_int_equal(stats.upstream_connections, 1);
    assert_int_equal(stats.upstream_reused, 1);
    assert_int_equal(stats.requests_in_flight, 0);
    assert_int_equal(stats.connections_idle, 2);
    CLEANUP(buffer_deinit) struct buffer metrics = BUFFER_INIT(MIB);
    assert_int_equal(proxy_format_metrics(f.proxy, &metrics), 0);
    assert_true(slice_find(buffer_slice(&metrics),
                           SLICE("tidemill_gateway_requests_total{namespace=\"default\",service=\"web\",port=\"80\",code=\"2xx\"} 2\n")) > 0);
    close(client);
    close(second);
    close(backend);
    teardown(&f);
}

UNIT_TEST(pipelined_requests_are_answered_in_order) {
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    put(&f, client, "GET /1 HTTP/1.1\r\nHost: web.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: web.test\r\n\r\nGET /none HTTP/1.1\r\nHost: no.test\r\n\r\n");
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "GET /1");
    put(&f, backend, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
    EXPECT(&f, backend, "\r\n\r\n", "GET /2");
    put(&f, backend, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo");
    EXPECT(&f, client, "no Ingress routes host \"no.test\"", "one", "two", "404");
    close(client);
    close(backend);
    teardown(&f);
}

UNIT_TEST(pages_tell_what_is_wrong) {
    struct fixture f;
    setup(&f, 1, &(struct proxy_options){.hold_timeout_ms = 1});
    int client = connect_client(&f);
    put(&f, client, "GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n");
    EXPECT(&f, client, "path \"/\"\n", "404 Not Found", "unknown.test");
    put(&f, client, "GET / HTTP/1.1\r\nHost: missing.test\r\n\r\n");
    EXPECT(&f, client, "exist\n", "503", "default/nothing:80");
    set_ready(&f, 0);
    put(&f, client, GET);
    EXPECT(&f, client, "in time\n", "503", "no instance of default/web:80", "Retry-After");
    put(&f, client, "CONNECT web.test:80 HTTP/1.1\r\nHost: web.test:80\r\n\r\n");
    EXPECT(&f, client, "CONNECT\n", "405");
    close(client);
    teardown(&f);
}

UNIT_TEST(malformed_requests_are_refused) {
    static const struct {
        const char *request, *status;
    } cases[] = {
        {"\x16\x03\x01garbage", "400"},
        {"GET / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "400"},
        {"GET / HTTP/1.1\nHost: web.test\n\n", "400"},
        {"GET / HTTP/1.1\r\nHost: web.test\r\nX: a\r\n b\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: web.test\r\nContent-Length : 3\r\n\r\nabc", "400"},
        {"GET / HTTP/1.1\r\nHost: web.test\r\nHost: other\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n\r\n", "400"},
        {"GET / HTTP/3.0\r\nHost: web.test\r\n\r\n", "505"},
        {"GET / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
        {"GET /../etc HTTP/1.1\r\nHost: web.test\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", "400"},
        {"POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX", "400"},
    };
    struct fixture f;
    setup(&f, 1, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int client = connect_client(&f);
        put(&f, client, cases[i].request);
        CLEANUP(buffer_deinit) struct buffer answer = BUFFER_INIT(MIB);
        get(&f, client, &answer, NULL);
        char start[32];
        snprintf(start, sizeof start, "HTTP/1.1 %s ", cases[i].status);
        if (!slice_starts(buffer_slice(&answer), slice_of(start)))
            fail_msg("case %zu: %s", i, answer.data ? answer.data : "(nothing)");
        assert_true(slice_find(buffer_slice(&answer), SLICE("Connection: close")) > 0);
        close(client);
    }
    struct proxy_stats stats;
    proxy_stats_get(f.proxy, &stats);
    assert_int_equal(stats.requests_in_flight, 0);
    teardown(&f);
}

UNIT_TEST(too_large_heads_are_refused) {
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    put(&f, client, "GET / HTTP/1.1\r\nHost: web.test\r\n");
    char line[8192];
    memset(line, 'a', sizeof line);
    memcpy(line, "X: ", 3);
    memcpy(line + sizeof line - 2, "\r\n", 2);
    CLEANUP(buffer_deinit) struct buffer answer = BUFFER_INIT(MIB);
    for (int i = 0; i < 12 && send(client, line, sizeof line, MSG_NOSIGNAL) > 0; i++)
        turn(&f);
    get(&f, client, &answer, NULL);
    assert_true(slice_starts(buffer_slice(&answer), SLICE("HTTP/1.1 431 ")));
    close(client);
    teardown(&f);
}

/* A head a byte at a time is still a head. */
UNIT_TEST(slow_heads_are_gathered) {
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    for (const char *at = GET; *at; at++)
        put_bytes(&f, client, at, 1);
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "GET / HTTP/1.1");
    for (const char *at = OK; *at; at++)
        put_bytes(&f, backend, at, 1);
    EXPECT(&f, client, "ok", "200 OK");
    close(client);
    close(backend);
    teardown(&f);
}

UNIT_TEST(slow_heads_end_with_408) {
    struct fixture f;
    setup(&f, 1, &(struct proxy_options){.head_timeout_ms = 20});
    int client = connect_client(&f);
    put(&f, client, "GET / HTTP/1.1\r\nHo");
    CLEANUP(buffer_deinit) struct buffer answer = BUFFER_INIT(MIB);
    get(&f, client, &answer, NULL);
    assert_true(slice_starts(buffer_slice(&answer), SLICE("HTTP/1.1 408 ")));
    int silent = connect_client(&f);
    buffer_reset(&answer);
    get(&f, silent, &answer, NULL);
    assert_int_equal(answer.len, 0);
    close(client);
    close(silent);
    teardown(&f);
}

UNIT_TEST(bodies_are_framed_anew) {
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    put(&f, client, "POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n");
    int backend = take(&f, 0);
    EXPECT(&f, backend, "5\r\nhello\r\n", "Transfer-Encoding: chunked");
    put(&f, client, "1\r\n!\r\n0\r\nTrailer: x\r\n\r\n");
    CLEANUP(buffer_deinit) struct buffer rest = BUFFER_INIT(MIB);
    get(&f, backend, &rest, "0\r\n\r\n");
    assert_string_equal(rest.data, "1\r\n!\r\n0\r\n\r\n");
    put(&f, backend, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n");
    EXPECT(&f, client, "3\r\nabc\r\n", "Transfer-Encoding: chunked");
    put(&f, backend, "2\r\nde\r\n0\r\n\r\n");
    EXPECT(&f, client, "2\r\nde\r\n0\r\n\r\n", "");
    /* A body that ends with the upstream's connection is chunked for the client, whose connection lives on. */
    put(&f, client, GET);
    EXPECT(&f, backend, "\r\n\r\n", "GET");
    put(&f, backend, "HTTP/1.0 200 OK\r\n\r\nuntil the end");
    close(backend);
    EXPECT(&f, client, "0\r\n\r\n", "d\r\nuntil the end\r\n");
    put(&f, client, GET);
    backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "GET");
    put(&f, backend, OK);
    EXPECT(&f, client, "ok", "200");
    close(client);
    close(backend);
    teardown(&f);
}

UNIT_TEST(old_clients_are_served) {
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    put(&f, client, "GET / HTTP/1.0\r\nHost: web.test\r\nConnection: keep-alive\r\n\r\n");
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "GET / HTTP/1.1");
    put(&f, backend, OK);
    EXPECT(&f, client, "ok", "Connection: keep-alive");
    put(&f, client, "GET / HTTP/1.0\r\nHost: web.test\r\n\r\n");
    EXPECT(&f, backend, "\r\n\r\n", "GET / HTTP/1.1");
    put(&f, backend, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    CLEANUP(buffer_deinit) struct buffer answer = BUFFER_INIT(MIB);
    get(&f, client, &answer, NULL);
    assert_string_equal(answer.data, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
    close(client);
    close(backend);
    teardown(&f);
}

UNIT_TEST(responses_without_body) {
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    put(&f, client, "HEAD / HTTP/1.1\r\nHost: web.test\r\n\r\n");
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "HEAD");
    put(&f, backend, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    EXPECT(&f, client, "\r\n\r\n", "Content-Length: 1000");
    static const char *const answers[] = {"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
                                          "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        put(&f, client, GET);
        EXPECT(&f, backend, "\r\n\r\n", "GET");
        put(&f, backend, answers[i]);
        EXPECT(&f, client, "\r\n\r\n", slice_starts(slice_of(answers[i]), SLICE("HTTP/1.1 2")) ? "HTTP/1.1 2" : "HTTP/1.1 304");
    }
    struct proxy_stats stats;
    proxy_stats_get(f.proxy, &stats);
    assert_int_equal(stats.upstream_connections, 1);
    close(client);
    close(backend);
    teardown(&f);
}

UNIT_TEST(expect_continue_goes_through) {
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    put(&f, client, "PUT / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "Expect: 100-continue", "Content-Length: 4");
    put(&f, backend, "HTTP/1.1 100 Continue\r\n\r\n");
    EXPECT(&f, client, "\r\n\r\n", "HTTP/1.1 100 Continue");
    put(&f, client, "body");
    EXPECT(&f, backend, "body", "");
    put(&f, backend, OK);
    EXPECT(&f, client, "ok", "200");
    /* Refused before the body came: the answer arrives, the connection closes. */
    put(&f, client, "PUT / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    EXPECT(&f, backend, "\r\n\r\n", "Expect: 100-continue");
    put(&f, backend, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
    EXPECT(&f, client, NULL, "413", "Connection: close");
    close(client);
    close(backend);
    teardown(&f);
}

UNIT_TEST(upgrades_become_tunnels) {
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    put(&f, client, "GET /ws HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\nearly");
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "Connection: upgrade\r\nUpgrade: websocket\r\n", "Sec-WebSocket-Key: x");
    put(&f, backend, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst");
    EXPECT(&f, client, "\r\n\r\nfirst", "101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket");
    EXPECT(&f, backend, "early", "");
    put(&f, client, "ping");
    EXPECT(&f, backend, "ping", "");
    put(&f, backend, "pong");
    EXPECT(&f, client, "pong", "");
    shutdown(client, SHUT_WR);
    CLEANUP(buffer_deinit) struct buffer rest = BUFFER_INIT(MIB);
    get(&f, backend, &rest, NULL);
    put(&f, backend, "bye");
    close(backend);
    get(&f, client, &rest, NULL);
    assert_string_equal(rest.data, "bye");
    close(client);
    /* Not to HTTP/2: the request is an ordinary one. */
    client = connect_client(&f);
    put(&f, client, "GET / HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n");
    backend = take(&f, 0);
    CLEANUP(buffer_deinit) struct buffer request = BUFFER_INIT(MIB);
    get(&f, backend, &request, "\r\n\r\n");
    assert_true(slice_find(buffer_slice(&request), SLICE("pgrade")) < 0);
    assert_true(slice_find(buffer_slice(&request), SLICE("HTTP2")) < 0);
    close(backend);
    close(client);
    teardown(&f);
}

UNIT_TEST(connect_failure_goes_elsewhere) {
    struct fixture f;
    setup(&f, 3, NULL);
    close(f.backends[0]);
    close(f.backends[1]);
    f.backends[0] = f.backends[1] = -1;
    for (int i = 0; i < 6; i++) {
        int client = connect_client(&f);
        put(&f, client, POST);
        int backend = take(&f, 2);
        EXPECT(&f, backend, "\r\n\r\nhi", "POST");
        put(&f, backend, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        close(backend);
        EXPECT(&f, client, "ok", "200 OK");
        close(client);
    }
    teardown(&f);
}

UNIT_TEST(refused_everywhere_waits_for_a_listener) {
    struct fixture f;
    setup(&f, 1, NULL);
    close(f.backends[0]);
    f.backends[0] = -1;
    int client = connect_client(&f);
    put(&f, client, GET);
    struct proxy_stats stats;
    do {
        turn(&f);
        proxy_stats_get(f.proxy, &stats);
    } while (stats.requests_held == 0);
    f.backends[0] = sys_listen(&f.backend_addresses[0], 16, 0);
    assert_true(f.backends[0] >= 0);
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "GET");
    put(&f, backend, OK);
    EXPECT(&f, client, "ok", "200 OK");
    close(client);
    close(backend);
    teardown(&f);
}

/* A kept connection that the backend closes when the request is already on it: repeated for GET, refused for POST. */
UNIT_TEST(kept_connection_closed_under_a_request) {
    for (int post = 0; post < 2; post++) {
        struct fixture f;
        setup(&f, 1, NULL);
        int client = connect_client(&f);
        put(&f, client, GET);
        int backend = take(&f, 0);
        EXPECT(&f, backend, "\r\n\r\n", "GET");
        put(&f, backend, OK);
        EXPECT(&f, client, "ok", "200");
        put(&f, client, post ? POST : GET);
        EXPECT(&f, backend, post ? "hi" : "\r\n\r\n", post ? "POST" : "GET");
        close(backend);
        if (post) {
            EXPECT(&f, client, "before it answered\n", "502");
        } else {
            backend = take(&f, 0);
            EXPECT(&f, backend, "\r\n\r\n", "GET");
            put(&f, backend, OK);
            EXPECT(&f, client, "ok", "200");
            close(backend);
        }
        close(client);
        teardown(&f);
    }
}

UNIT_TEST(held_until_an_endpoint_appears) {
    struct fixture f;
    setup(&f, 1, NULL);
    set_ready(&f, 0);
    int clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = connect_client(&f);
        put(&f, clients[i], POST);
    }
    struct proxy_stats stats;
    do {
        turn(&f);
        proxy_stats_get(f.proxy, &stats);
    } while (stats.requests_held < 3);
    close(clients[1]); /* who leaves is forgotten */
    do {
        turn(&f);
        proxy_stats_get(f.proxy, &stats);
    } while (stats.requests_held > 2);
    set_ready(&f, 1);
    for (int i = 0; i < 3; i += 2) {
        int backend = take(&f, 0);
        EXPECT(&f, backend, "\r\n\r\nhi", "POST");
        put(&f, backend, OK);
        EXPECT(&f, clients[i], "ok", "200");
        close(clients[i]);
        close(backend);
    }
    teardown(&f);
}

UNIT_TEST(too_many_holds_are_refused) {
    struct fixture f;
    setup(&f, 1, &(struct proxy_options){.holds_max = 1});
    set_ready(&f, 0);
    int first = connect_client(&f), second = connect_client(&f);
    put(&f, first, GET);
    struct proxy_stats stats;
    do {
        turn(&f);
        proxy_stats_get(f.proxy, &stats);
    } while (stats.requests_held == 0);
    put(&f, second, GET);
    EXPECT(&f, second, "wait already\n", "503");
    close(first);
    close(second);
    teardown(&f);
}

/* An endpoint that leaves finishes what it has; its connection is not used again. */
UNIT_TEST(leaving_endpoints_finish_what_they_have) {
    struct fixture f;
    setup(&f, 2, NULL);
    set_ready(&f, 1);
    int client = connect_client(&f);
    put(&f, client, GET);
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "GET");
    put(&f, backend, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
    EXPECT(&f, client, "ha", "200");
    set_ready(&f, 2);
    put(&f, backend, "lf");
    EXPECT(&f, client, "lf", "");
    CLEANUP(buffer_deinit) struct buffer rest = BUFFER_INIT(MIB);
    get(&f, backend, &rest, NULL); /* closed by the proxy */
    put(&f, client, GET);
    int other = take(&f, 1);
    EXPECT(&f, other, "\r\n\r\n", "GET");
    put(&f, other, OK);
    EXPECT(&f, client, "ok", "200");
    close(client);
    close(backend);
    close(other);
    teardown(&f);
}

/* 8 MB each way through bounded buffers, the reader slower than the writer. */
UNIT_TEST(large_bodies_both_ways) {
    enum { SIZE = 8 * 1024 * 1024 };
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    put(&f, client, "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 8388608\r\n\r\n");
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "Content-Length: 8388608");
    static char block[65536];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 31 >> 3);
    struct {
        int from, to;
    } ways[] = {{client, backend}, {backend, client}};
    for (int way = 0; way < 2; way++) {
        size_t sent = 0, received = 0, buffered_max = 0;
        while (received < SIZE) {
            if (sent < SIZE) {
                ssize_t len = send(ways[way].from, block + sent % sizeof block, MIN(sizeof block - sent % sizeof block, SIZE - sent),
                                   MSG_NOSIGNAL | MSG_DONTWAIT);
                sent += len > 0 ? (size_t)len : 0;
            }
            turn(&f);
            const struct client *inside = CONTAINER_OF(f.proxy->clients.next, struct client, node);
            buffered_max = MAX(buffered_max, inside->exchange ? inside->exchange->request.capacity + inside->exchange->response.capacity +
                                                                    inside->exchange->input.capacity
                                                              : 0);
            char bytes[40000];
            ssize_t len = recv(ways[way].to, bytes, sizeof bytes, MSG_DONTWAIT);
            for (ssize_t i = 0; i < len; i++)
                if (bytes[i] != block[(received + (size_t)i) % sizeof block])
                    fail_msg("wrong byte at %zu", received + (size_t)i);
            received += len > 0 ? (size_t)len : 0;
        }
        assert_in_range(buffered_max, 0, 160 * KIB);
        if (way == 0) {
            put(&f, backend, "HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n");
            CLEANUP(buffer_deinit) struct buffer head = BUFFER_INIT(MIB);
            while (slice_find(buffer_slice(&head), SLICE("\r\n\r\n")) < 0) {
                char byte;
                turn(&f);
                if (recv(client, &byte, 1, MSG_DONTWAIT) == 1)
                    buffer_append_byte(&head, byte);
            }
        }
    }
    /* The connections are as good as new. */
    put(&f, client, GET);
    EXPECT(&f, backend, "\r\n\r\n", "GET");
    put(&f, backend, OK);
    EXPECT(&f, client, "ok", "200");
    close(client);
    close(backend);
    teardown(&f);
}

UNIT_TEST(cut_short_answers_are_seen_as_such) {
    static const char *const heads[] = {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
                                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct fixture f;
        setup(&f, 1, NULL);
        int client = connect_client(&f);
        put(&f, client, GET);
        int backend = take(&f, 0);
        EXPECT(&f, backend, "\r\n\r\n", "GET");
        put(&f, backend, heads[i]);
        EXPECT(&f, client, "half", "200");
        close(backend);
        CLEANUP(buffer_deinit) struct buffer rest = BUFFER_INIT(MIB);
        get(&f, client, &rest, NULL);
        assert_true(slice_find(buffer_slice(&rest), SLICE("0\r\n\r\n")) < 0);
        close(client);
        teardown(&f);
    }
}

UNIT_TEST(broken_backends_get_502) {
    static const char *const answers[] = {"garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                                          "HTTP/1.1 101 Switching Protocols\r\n\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct fixture f;
        setup(&f, 1, NULL);
        int client = connect_client(&f);
        put(&f, client, GET);
        int backend = take(&f, 0);
        EXPECT(&f, backend, "\r\n\r\n", "GET");
        put(&f, backend, answers[i]);
        EXPECT(&f, client, "\n\r\n", "502");
        close(client);
        close(backend);
        teardown(&f);
    }
}

UNIT_TEST(silent_backends_get_504) {
    struct fixture f;
    setup(&f, 1, &(struct proxy_options){.response_timeout_ms = 20});
    int client = connect_client(&f);
    put(&f, client, GET);
    int backend = take(&f, 0);
    EXPECT(&f, client, "in time\n", "504");
    close(client);
    close(backend);
    teardown(&f);
}

/* A client that goes away takes its upstream request with it. */
UNIT_TEST(clients_that_leave_free_the_backend) {
    struct fixture f;
    setup(&f, 1, NULL);
    int client = connect_client(&f);
    put(&f, client, GET);
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "GET");
    close(client);
    CLEANUP(buffer_deinit) struct buffer rest = BUFFER_INIT(MIB);
    get(&f, backend, &rest, NULL);
    struct proxy_stats stats;
    proxy_stats_get(f.proxy, &stats);
    assert_int_equal(stats.connections, 0);
    assert_int_equal(stats.requests_in_flight, 0);
    close(backend);
    teardown(&f);
}

/* --- an application on the loop, for load --- */

struct app {
    struct fixture *fixture;
    struct loop_io *io;
    size_t index;
    size_t served;
    VECTOR(struct app_peer *) peers;
};

struct app_peer {
    struct app *app;
    struct loop_io *io;
    int fd;
    size_t served;
    char head[512];
    size_t len;
};

static void peer_close(struct app_peer *peer) {
    if (peer->io)
        loop_io_free(peer->io);
    if (peer->fd >= 0)
        close(peer->fd);
    peer->io = NULL;
    peer->fd = -1;
}

/* Answers seven requests on a connection and closes it when the eighth is already there, as servers that end keep-alive do. */
static void peer_on_ready(void *userdata, uint32_t events) {
    struct app_peer *peer = userdata;
    (void)events;
    ssize_t len = recv(peer->fd, peer->head + peer->len, sizeof peer->head - peer->len, 0);
    if (len <= 0) {
        if (len == 0 || errno != EAGAIN)
            peer_close(peer);
        return;
    }
    peer->len += (size_t)len;
    if (slice_find(slice_make(peer->head, peer->len), SLICE("\r\n\r\n")) < 0)
        return;
    peer->len = 0;
    if (peer->served == 7) {
        peer_close(peer);
        return;
    }
    peer->served++;
    peer->app->served++;
    assert_int_equal(send(peer->fd, OK, strlen(OK), MSG_NOSIGNAL), strlen(OK));
}

static void app_on_ready(void *userdata, uint32_t events) {
    struct app *app = userdata;
    (void)events;
    int fd = accept4(app->fixture->backends[app->index], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct app_peer *peer = calloc(1, sizeof *peer);
    assert_non_null(peer);
    *peer = (struct app_peer){.app = app, .fd = fd};
    assert_int_equal(VECTOR_PUSH(&app->peers, peer), 0);
    assert_int_equal(loop_io_new(app->fixture->loop, fd, EPOLLIN, peer_on_ready, peer, &peer->io), 0);
}

static void app_start(struct app *app, struct fixture *f, size_t index) {
    *app = (struct app){.fixture = f, .index = index};
    assert_int_equal(loop_io_new(f->loop, f->backends[index], EPOLLIN, app_on_ready, app, &app->io), 0);
}

static void app_stop(struct app *app) {
    loop_io_free(app->io);
    for (size_t i = 0; i < app->peers.count; i++) {
        peer_close(app->peers.items[i]);
        free(app->peers.items[i]);
    }
    VECTOR_DEINIT(&app->peers);
}

/* Eight clients ask without a pause while endpoints come and go, all of them at times: each of 4,000 requests gets its 200. */
UNIT_TEST(rollouts_under_load_lose_nothing) {
    enum { CLIENTS = 8, REQUESTS = 500 };
    static const unsigned masks[] = {1, 3, 2, 0, 2, 6, 4, 5, 0, 1, 7};
    struct fixture f;
    setup(&f, 3, NULL);
    struct app apps[3];
    for (size_t i = 0; i < 3; i++)
        app_start(&apps[i], &f, i);
    struct {
        int fd;
        size_t done, len;
        char answer[512];
    } clients[CLIENTS] = {0};
    for (int i = 0; i < CLIENTS; i++) {
        clients[i].fd = connect_client(&f);
        assert_int_equal(send(clients[i].fd, GET, strlen(GET), MSG_NOSIGNAL), strlen(GET));
    }
    size_t finished = 0;
    for (size_t turns = 0; finished < CLIENTS; turns++) {
        if (turns % 40 == 0)
            set_ready(&f, masks[turns / 40 % ARRAY_LEN(masks)]);
        if (turns > (size_t)TURNS_MAX * 10)
            fail_msg("requests hang");
        turn(&f);
        for (int i = 0; i < CLIENTS; i++) {
            ssize_t len = recv(clients[i].fd, clients[i].answer + clients[i].len, sizeof clients[i].answer - clients[i].len, MSG_DONTWAIT);
            assert_true(len != 0);
            clients[i].len += len > 0 ? (size_t)len : 0;
            if (slice_find(slice_make(clients[i].answer, clients[i].len), SLICE("\r\n\r\nok")) < 0)
                continue;
            if (!slice_starts(slice_make(clients[i].answer, clients[i].len), SLICE("HTTP/1.1 200 ")))
                fail_msg("%.*s", (int)clients[i].len, clients[i].answer);
            clients[i].len = 0;
            if (++clients[i].done < REQUESTS)
                assert_int_equal(send(clients[i].fd, GET, strlen(GET), MSG_NOSIGNAL), strlen(GET));
            else
                finished++;
        }
    }
    struct proxy_stats stats;
    proxy_stats_get(f.proxy, &stats);
    assert_int_equal(stats.requests, CLIENTS * REQUESTS);
    for (size_t i = 0; i < 3; i++) {
        assert_true(apps[i].served > 0);
        app_stop(&apps[i]);
    }
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i].fd);
    teardown(&f);
}

static void on_drained(void *userdata) {
    ((struct fixture *)userdata)->drained = true;
}

UNIT_TEST(draining_loses_nothing) {
    struct fixture f;
    setup(&f, 1, &(struct proxy_options){.drain_idle_ms = 50});
    int busy = connect_client(&f), idle = connect_client(&f), late = connect_client(&f);
    put(&f, busy, GET);
    int backend = take(&f, 0);
    EXPECT(&f, backend, "\r\n\r\n", "GET");
    put(&f, idle, "GET / HTTP/1.1\r\nHost: no.test\r\n\r\n");
    EXPECT(&f, idle, "path \"/\"\n", "404");
    put(&f, late, "GET / HTTP/1.1\r\nHost: no.test\r\n\r\n");
    EXPECT(&f, late, "path \"/\"\n", "404");
    proxy_drain(f.proxy, on_drained, &f);
    assert_false(f.drained);
    put(&f, late, "GET / HTTP/1.1\r\nHost: no.test\r\n\r\n"); /* was on its way */
    EXPECT(&f, late, NULL, "404", "Connection: close");
    CLEANUP(buffer_deinit) struct buffer rest = BUFFER_INIT(MIB);
    get(&f, idle, &rest, NULL);
    assert_int_equal(rest.len, 0);
    assert_false(f.drained);
    put(&f, backend, OK);
    EXPECT(&f, busy, NULL, "200 OK", "Connection: close", "ok");
    for (int turns = 0; !f.drained && turns < TURNS_MAX; turns++)
        turn(&f);
    assert_true(f.drained);
    close(busy);
    close(idle);
    close(late);
    close(backend);
    teardown(&f);
}

UNIT_TEST(idle_clients_make_room) {
    struct fixture f;
    setup(&f, 1, &(struct proxy_options){.connections_max = 2});
    int clients[4];
    for (int i = 0; i < 4; i++) {
        clients[i] = connect_client(&f);
        put(&f, clients[i], "GET / HTTP/1.1\r\nHost: no.test\r\n\r\n");
        EXPECT(&f, clients[i], "path \"/\"\n", "404");
    }
    struct proxy_stats stats;
    proxy_stats_get(f.proxy, &stats);
    assert_int_equal(stats.connections, 2);
    CLEANUP(buffer_deinit) struct buffer rest = BUFFER_INIT(MIB);
    get(&f, clients[0], &rest, NULL);
    for (int i = 0; i < 4; i++)
        close(clients[i]);
    teardown(&f);
}

UNIT_MAIN(UNIT(requests_share_kept_connections), UNIT(pipelined_requests_are_answered_in_order), UNIT(pages_tell_what_is_wrong),
          UNIT(malformed_requests_are_refused), UNIT(too_large_heads_are_refused), UNIT(slow_heads_are_gathered), UNIT(slow_heads_end_with_408),
          UNIT(bodies_are_framed_anew), UNIT(old_clients_are_served), UNIT(responses_without_body), UNIT(expect_continue_goes_through),
          UNIT(upgrades_become_tunnels), UNIT(connect_failure_goes_elsewhere), UNIT(refused_everywhere_waits_for_a_listener),
          UNIT(kept_connection_closed_under_a_request), UNIT(held_until_an_endpoint_appears), UNIT(too_many_holds_are_refused),
          UNIT(leaving_endpoints_finish_what_they_have), UNIT(large_bodies_both_ways), UNIT(cut_short_answers_are_seen_as_such),
          UNIT(broken_backends_get_502), UNIT(silent_backends_get_504), UNIT(clients_that_leave_free_the_backend),
          UNIT(rollouts_under_load_lose_nothing), UNIT(draining_loses_nothing), UNIT(idle_clients_make_room))
