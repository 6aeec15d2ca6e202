#include <fcntl.h>

#include "http/http_fixture_priv.h"

/* One handler with a few behaviours by path. */
struct site {
    int requests, closed_whole, closed_broken;
    struct http_exchange *held; /* /hold */
    size_t streamed;
    int drained;
    char peer_address[64];
    bool peer_unix;
    uid_t peer_uid;
};

static void on_close(void *userdata, struct http_exchange *exchange, bool complete) {
    struct site *site = userdata;
    if (complete)
        site->closed_whole++;
    else
        site->closed_broken++;
    if (site->held == exchange)
        site->held = NULL;
}

static void on_echo(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)userdata;
    struct slice type = http_header(exchange, "content-type");
    http_respond(exchange, 200, arena_dup(http_exchange_arena(exchange), type), body, (const struct http_field[]){{"X-Echo", "yes"}, {NULL, NULL}});
}

static void on_stream(void *userdata, struct http_exchange *exchange, struct slice data) {
    struct site *site = userdata;
    site->streamed += data.len;
    if (data.len == 0)
        http_respond_text(exchange, 200, "%zu", site->streamed);
}

static void on_count_drained(void *userdata, struct http_exchange *exchange) {
    struct site *site = userdata;
    if (++site->drained == 3) {
        http_respond_end(exchange);
        return;
    }
    http_write(exchange, SLICE("more"));
}

static void on_site(void *userdata, struct http_exchange *exchange) {
    struct site *site = userdata;
    struct slice path = http_path(exchange);
    site->requests++;
    snprintf(site->peer_address, sizeof site->peer_address, "%s", http_exchange_peer(exchange)->address);
    site->peer_unix = http_exchange_peer(exchange)->is_unix;
    site->peer_uid = http_exchange_peer(exchange)->uid;
    http_on_close(exchange, on_close, site);
    if (slice_is(path, "/echo")) {
        http_read_body(exchange, 1000, on_echo, site);
    } else if (slice_is(path, "/stream")) {
        http_stream_body(exchange, on_stream, site);
    } else if (slice_is(path, "/hold")) {
        site->held = exchange;
    } else if (slice_is(path, "/chunks")) {
        http_respond_begin(exchange, 200, "text/plain", -1, NULL);
        http_write(exchange, SLICE("one "));
        http_write(exchange, SLICE(""));
        http_write(exchange, SLICE("two"));
        http_respond_end(exchange);
    } else if (slice_is(path, "/drains")) {
        http_on_drained(exchange, on_count_drained, site);
        http_respond_begin(exchange, 200, "text/plain", -1, NULL);
        http_write(exchange, SLICE("first"));
    } else if (slice_is(path, "/short")) {
        http_respond_begin(exchange, 200, "text/plain", 10, NULL);
        http_write(exchange, SLICE("abc"));
        http_respond_end(exchange);
    } else if (slice_is(path, "/inject")) {
        http_respond(exchange, 200, NULL, SLICE("ok"), (const struct http_field[]){{"X-Bad", "a\r\nX-Evil: 1"}, {"X-Good", "1"}, {NULL, NULL}});
    } else {
        http_respond_text(exchange, 200, "%.*s", SLICE_ARG(http_target(exchange)));
    }
}

static void start(struct fixture *fixture, struct site *site, bool tcp) {
    *site = (struct site){0};
    fixture_serve(fixture, tcp, &(struct http_server_options){.handler = on_site, .userdata = site});
    fixture_connect(fixture, NULL);
}

static void assert_contains(const char *text, const char *part) {
    if (!strstr(text, part))
        fail_msg("no `%s` in `%s`", part, text);
}

UNIT_TEST(requests_are_answered_over_unix_and_tcp) {
    for (int tcp = 0; tcp <= 1; tcp++) {
        struct fixture fixture;
        struct site site;
        start(&fixture, &site, tcp);
        for (int i = 0; i < 3; i++) {
            struct result result = fetch(&fixture, "GET", "/hello?x=1", (struct slice){0});
            assert_int_equal(result.error, 0);
            assert_int_equal(result.status, 200);
            assert_string_equal(result.body.data, "/hello?x=1");
            assert_string_equal(result.type, "text/plain; charset=utf-8");
            buffer_deinit(&result.body);
        }
        assert_int_equal(http_server_connections(fixture.server), 1); /* kept */
        assert_int_equal(site.peer_unix, !tcp);
        if (!tcp)
            assert_int_equal(site.peer_uid, getuid());
        else
            assert_memory_equal(site.peer_address, "127.0.0.1:", 10);
        WAIT_FOR(&fixture, site.closed_whole == 3);
        fixture_end(&fixture);
    }
}

UNIT_TEST(bodies_are_collected_streamed_and_limited) {
    struct fixture fixture;
    struct site site;
    start(&fixture, &site, false);
    struct result result = fetch(&fixture, "POST", "/echo", SLICE("a body"));
    assert_string_equal(result.body.data, "a body");
    buffer_deinit(&result.body);
    char *big = calloc(1, 3000000);
    result = fetch(&fixture, "PUT", "/stream", slice_make(big, 3000000));
    assert_string_equal(result.body.data, "3000000");
    buffer_deinit(&result.body);
    result = fetch(&fixture, "POST", "/echo", slice_make(big, 1001));
    assert_int_equal(result.status, 413);
    assert_contains(result.body.data, "\"reason\":\"RequestEntityTooLarge\"");
    buffer_deinit(&result.body);
    result = fetch(&fixture, "POST", "/echo", slice_make(big, 3000000));
    assert_true(result.status == 413 || result.error == -ECONNRESET || result.error == -EPIPE);
    buffer_deinit(&result.body);
    free(big);
    fixture_end(&fixture);
}

UNIT_TEST(answers_are_framed_for_who_asks) {
    struct fixture fixture;
    struct site site;
    start(&fixture, &site, false);
    static const struct {
        const char *request, *until, *wanted[4], *absent;
    } cases[] = {
        {"GET /chunks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
         NULL,
         {"Transfer-Encoding: chunked\r\n", "\r\n\r\n4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"},
         "Content-Length"},
        {"GET /chunks HTTP/1.0\r\n\r\n", NULL, {"Connection: close\r\n", "\r\n\r\none two"}, "chunked"},
        {"HEAD /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", NULL, {"Content-Length: 2\r\n", "Date: "}, "\r\n\r\n/"},
        {"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "/x", {"Connection: keep-alive\r\n"}, NULL},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nContent-Type: "
         "text/odd\r\n\r\n2;ext=1\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n",
         NULL,
         {"\r\n\r\nabc", "Content-Type: text/odd\r\n", "X-Echo: yes\r\n"},
         NULL},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
         "hi",
         {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"},
         NULL},
        {"POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
         NULL,
         {"HTTP/1.1 200 OK\r\n", "Connection: close\r\n"},
         "100 Continue"},
        {"GET /inject HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", NULL, {"X-Good: 1\r\n"}, "Evil"},
        {"GET /drains HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", NULL, {"5\r\nfirst\r\n4\r\nmore\r\n4\r\nmore\r\n0\r\n\r\n"}, NULL},
        {"GET /short HTTP/1.1\r\nHost: x\r\n\r\n", NULL, {NULL}, "abc\n"},
        {"GET http://other/abs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", NULL, {"http://other/abs"}, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *answer = raw_exchange(&fixture, cases[i].request, cases[i].until);
        for (size_t j = 0; j < 4 && cases[i].wanted[j]; j++)
            assert_contains(answer, cases[i].wanted[j]);
        if (cases[i].absent && strstr(answer, cases[i].absent))
            fail_msg("case %zu has `%s`: %s", i, cases[i].absent, answer);
        free(answer);
    }
    fixture_end(&fixture);
}

UNIT_TEST(garbage_is_refused_and_the_connection_closed) {
    struct fixture fixture;
    struct site site;
    start(&fixture, &site, false);
    static const struct {
        const char *request, *wanted;
    } cases[] = {
        {"\x16\x03\x01\x02", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "HTTP/1.1 505 "},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 "},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\nHost: x\n\n", "HTTP/1.1 400 "},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *answer = raw_exchange(&fixture, cases[i].request, NULL);
        assert_memory_equal(answer, cases[i].wanted, strlen(cases[i].wanted));
        assert_contains(answer, "Connection: close\r\n");
        free(answer);
    }
    assert_int_equal(site.requests, 0);
    /* a body that is no chunks ends the connection */
    char *answer = raw_exchange(&fixture, "POST /stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", NULL);
    assert_string_equal(answer, "");
    free(answer);
    assert_int_equal(site.closed_broken, 1);
    fixture_end(&fixture);
}

UNIT_TEST(heads_beyond_the_limits_are_refused) {
    struct fixture fixture;
    struct site site;
    start(&fixture, &site, true);
    struct buffer request = BUFFER_INIT(MIB);
    buffer_append_text(&request, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    for (size_t i = 0; i < HTTP_HEAD_BYTES_MAX; i++)
        buffer_append_byte(&request, 'a');
    char *answer = raw_exchange(&fixture, request.data, NULL);
    assert_memory_equal(answer, "HTTP/1.1 431 ", 13);
    free(answer);
    buffer_reset(&request);
    buffer_append_text(&request, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < HTTP_HEADERS_MAX; i++)
        buffer_append_text(&request, "a: b\r\n");
    buffer_append_text(&request, "\r\n");
    answer = raw_exchange(&fixture, request.data, NULL);
    assert_memory_equal(answer, "HTTP/1.1 431 ", 13);
    free(answer);
    buffer_reset(&request);
    buffer_append_text(&request, "GET /");
    for (size_t i = 0; i < HTTP_TARGET_BYTES_MAX + 100; i++)
        buffer_append_byte(&request, 'a');
    answer = raw_exchange(&fixture, request.data, NULL);
    assert_memory_equal(answer, "HTTP/1.1 414 ", 13);
    free(answer);
    buffer_deinit(&request);
    fixture_end(&fixture);
}

UNIT_TEST(pipelined_requests_are_answered_in_order_however_they_are_cut) {
    struct fixture fixture;
    struct site site;
    start(&fixture, &site, true);
    static const char pipeline[] = "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
                                   "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nsecond"
                                   "POST /unread HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                                   "GET /4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for (size_t cut = 0; cut < sizeof pipeline - 1; cut += 7) {
        CLEANUP(fd_closep) int fd = raw_connect(&fixture);
        CLEANUP(buffer_deinit) struct buffer answer = BUFFER_INIT(MIB);
        assert_true(raw_send(&fixture, fd, slice_make(pipeline, cut)));
        assert_true(raw_send(&fixture, fd, slice_make(pipeline + cut, sizeof pipeline - 1 - cut)));
        raw_read(&fixture, fd, NULL, &answer);
        const char *at = answer.data;
        static const char *const bodies[] = {"\r\n\r\n/1", "\r\n\r\nsecond", "\r\n\r\n/unread", "\r\n\r\n/4"};
        for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
            at = strstr(at, bodies[i]);
            assert_non_null(at);
        }
    }
    fixture_end(&fixture);
}

UNIT_TEST(a_slow_reader_is_bounded) {
    struct fixture fixture;
    struct site site;
    start(&fixture, &site, false);
    CLEANUP(fd_closep) int fd = raw_connect(&fixture);
    raw_send(&fixture, fd, SLICE("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
    WAIT_FOR(&fixture, site.held);
    http_respond_begin(site.held, 200, NULL, -1, NULL);
    static char piece[100000];
    int r = 0;
    size_t written = 0;
    for (; r == 0 && written < 100 * MIB; written += sizeof piece) {
        r = http_write(site.held, slice_make(piece, sizeof piece));
        loop_turn(fixture.loop, 0);
    }
    assert_int_equal(r, -ENOBUFS);
    assert_true(http_write_pending(site.held) <= HTTP_OUTPUT_BYTES_MAX);
    struct buffer answer = BUFFER_INIT(200 * MIB);
    while (http_write_pending(site.held) > 0) { /* it reads after all */
        char bytes[65536];
        ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0)
            buffer_append(&answer, bytes, (size_t)n);
        loop_turn(fixture.loop, 0);
    }
    assert_int_equal(http_write(site.held, SLICE("tail")), 0);
    http_respond_end(site.held);
    WAIT_FOR(&fixture, site.closed_whole == 1);
    buffer_deinit(&answer);
    fixture_end(&fixture);
}

UNIT_TEST(an_answer_may_be_large) {
    struct fixture fixture;
    struct site site;
    start(&fixture, &site, false);
    CLEANUP(fd_closep) int fd = raw_connect(&fixture);
    raw_send(&fixture, fd, SLICE("GET /hold HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    WAIT_FOR(&fixture, site.held);
    size_t len = 40 * MIB; /* a list of everything, asked for without pages */
    char *body = malloc(len);
    assert_non_null(body);
    memset(body, 'x', len);
    http_respond(site.held, 200, "text/plain", slice_make(body, len), NULL);
    free(body);
    struct buffer answer = BUFFER_INIT(64 * MIB);
    for (ssize_t n = 1; n != 0;) {
        static char bytes[MIB];
        n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0)
            assert_int_equal(buffer_append(&answer, bytes, (size_t)n), 0);
        loop_turn(fixture.loop, 0);
    }
    assert_true(answer.len > len && answer.data[answer.len - 1] == 'x');
    buffer_deinit(&answer);
    fixture_end(&fixture);
}

UNIT_TEST(an_exchange_ends_when_its_client_goes) {
    struct fixture fixture;
    struct site site;
    start(&fixture, &site, true);
    int fd = raw_connect(&fixture);
    raw_send(&fixture, fd, SLICE("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
    WAIT_FOR(&fixture, site.held);
    http_respond_begin(site.held, 200, NULL, -1, NULL);
    http_write(site.held, SLICE("watching"));
    close(fd);
    WAIT_FOR(&fixture, site.closed_broken == 1);
    /* the body never arrives */
    fd = raw_connect(&fixture);
    raw_send(&fixture, fd, SLICE("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"));
    WAIT_FOR(&fixture, site.requests == 2);
    close(fd);
    WAIT_FOR(&fixture, site.closed_broken == 2);
    /* the application breaks off */
    fd = raw_connect(&fixture);
    raw_send(&fixture, fd, SLICE("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
    WAIT_FOR(&fixture, site.held);
    http_abort(site.held);
    WAIT_FOR(&fixture, site.closed_broken == 3);
    close(fd);
    /* the server goes while an exchange is open */
    fd = raw_connect(&fixture);
    raw_send(&fixture, fd, SLICE("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
    WAIT_FOR(&fixture, site.held);
    http_server_free(TAKE(fixture.server));
    assert_int_equal(site.closed_broken, 4);
    close(fd);
    fixture_end(&fixture);
}

UNIT_TEST(draining_finishes_what_runs_and_closes_what_idles) {
    struct fixture fixture;
    struct site site;
    start(&fixture, &site, true);
    CLEANUP(fd_closep) int idle = raw_connect(&fixture);
    assert_true(idle >= 0);
    CLEANUP(fd_closep) int busy = raw_connect(&fixture);
    raw_send(&fixture, busy, SLICE("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
    WAIT_FOR(&fixture, site.held && http_server_connections(fixture.server) == 2);
    http_server_drain(fixture.server);
    WAIT_FOR(&fixture, http_server_connections(fixture.server) == 1);
    http_respond_text(site.held, 200, "bye");
    CLEANUP(buffer_deinit) struct buffer answer = BUFFER_INIT(MIB);
    raw_read(&fixture, busy, NULL, &answer);
    assert_contains(answer.data, "Connection: close\r\n");
    assert_contains(answer.data, "bye");
    close(busy);
    busy = -1;
    WAIT_FOR(&fixture, http_server_connections(fixture.server) == 0);
    fixture_end(&fixture);
}

/* --- files --- */

static void on_file(void *userdata, struct http_exchange *exchange) {
    const char *path = userdata;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    http_respond_begin(exchange, 200, "application/octet-stream", 2999990, NULL);
    http_respond_file(exchange, fd, 10, 2999990);
}

UNIT_TEST(files_are_sent_from_where_they_are) {
    struct fixture fixture;
    char path[64];
    char *bytes = malloc(3000000);
    sys_random(bytes, 3000000);
    snprintf(path, sizeof path, "/tmp/tidemill-file-%d", getpid());
    assert_int_equal(sys_write_file_fast(-100, path, slice_make(bytes, 3000000), 0600), 0);
    fixture_serve(&fixture, true, &(struct http_server_options){.handler = on_file, .userdata = path});
    fixture_connect(&fixture, NULL);
    for (int i = 0; i < 2; i++) {
        struct result result = fetch(&fixture, "GET", "/", (struct slice){0});
        assert_int_equal(result.body.len, 2999990);
        assert_memory_equal(result.body.data, bytes + 10, 2999990);
        buffer_deinit(&result.body);
    }
    struct result result = fetch(&fixture, "HEAD", "/", (struct slice){0});
    assert_int_equal(result.status, 200);
    assert_int_equal(result.body.len, 0);
    buffer_deinit(&result.body);
    unlink(path);
    free(bytes);
    fixture_end(&fixture);
}

/* --- upgrade --- */

struct tunnel {
    struct http_stream *stream;
    bool ended;
    int error;
    size_t received;
};
static void on_tunnel_data(void *userdata, struct slice data) {
    struct tunnel *tunnel = userdata;
    tunnel->received += data.len;
    assert_int_equal(http_stream_write(tunnel->stream, data), 0);
}
static void on_tunnel_end(void *userdata, int error) {
    struct tunnel *tunnel = userdata;
    tunnel->ended = true;
    tunnel->error = error;
    http_stream_free(TAKE(tunnel->stream));
}
static void on_upgrade(void *userdata, struct http_exchange *exchange) {
    static const struct http_stream_callbacks callbacks = {.on_data = on_tunnel_data, .on_end = on_tunnel_end};
    struct tunnel *tunnel = userdata;
    if (http_head(exchange)->upgrade.len == 0) {
        http_respond_text(exchange, 426, "upgrade, please");
        return;
    }
    const struct http_field fields[] = {{"Upgrade", "echo"}, {"Connection", "Upgrade"}, {NULL, NULL}};
    assert_int_equal(http_upgrade(exchange, fields, &callbacks, tunnel, &tunnel->stream), 0);
    assert_int_equal(http_stream_write(tunnel->stream, SLICE("welcome ")), 0);
}

struct raw_client {
    struct http_request *request;
    int status;
    struct buffer received;
    bool ended;
    int error;
};
static void on_client_head(void *userdata, const struct http_answer *head) {
    struct raw_client *client = userdata;
    client->status = head->status;
    if (head->status == 101)
        assert_int_equal(http_request_write(client->request, SLICE("hello")), 0);
}
static void on_client_data(void *userdata, struct slice data) {
    struct raw_client *client = userdata;
    buffer_append_slice(&client->received, data);
}
static void on_client_end(void *userdata, int error) {
    struct raw_client *client = userdata;
    client->ended = true;
    client->error = error;
}

UNIT_TEST(a_connection_can_be_taken_over) {
    static const struct http_stream_handlers handlers = {.on_head = on_client_head, .on_data = on_client_data, .on_end = on_client_end};
    static const struct http_field fields[] = {{"Upgrade", "echo"}, {"Connection", "Upgrade"}, {NULL, NULL}};
    struct fixture fixture;
    struct tunnel tunnel = {0};
    fixture_serve(&fixture, false, &(struct http_server_options){.handler = on_upgrade, .userdata = &tunnel});
    fixture_connect(&fixture, NULL);
    struct raw_client client = {.received = BUFFER_INIT(MIB)};
    struct http_request_options options = {.method = "GET", .target = "/", .fields = fields};
    assert_int_equal(http_client_upgrade(fixture.client, &options, &handlers, &client, &client.request), 0);
    WAIT_FOR(&fixture, client.received.len >= 13);
    assert_int_equal(client.status, 101);
    assert_string_equal(client.received.data, "welcome hello");
    assert_int_equal(http_server_connections(fixture.server), 0);
    http_request_shutdown(client.request);
    WAIT_FOR(&fixture, tunnel.ended && client.ended);
    assert_int_equal(tunnel.error, 0);
    assert_int_equal(client.error, 0);
    buffer_deinit(&client.received);
    /* bytes that come together with the head belong to the stream; a refused upgrade is an ordinary answer */
    char *answer = raw_exchange(&fixture, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly", "early");
    assert_contains(answer, "\r\n\r\nwelcome early");
    free(answer);
    struct result result = fetch(&fixture, "GET", "/", (struct slice){0});
    assert_int_equal(result.status, 426);
    buffer_deinit(&result.body);
    WAIT_FOR(&fixture, !tunnel.stream);
    fixture_end(&fixture);
}

UNIT_TEST(connections_are_bounded_and_late_heads_refused) {
    struct fixture fixture;
    struct site site = {0};
    fixture_serve(
        &fixture, true,
        &(struct http_server_options){.handler = on_site, .userdata = &site, .connections_max = 2, .head_timeout_ms = 50, .idle_timeout_ms = 50});
    CLEANUP(fd_closep) int first = raw_connect(&fixture);
    CLEANUP(fd_closep) int second = raw_connect(&fixture);
    CLEANUP(fd_closep) int third = raw_connect(&fixture);
    WAIT_FOR(&fixture, http_server_connections(fixture.server) == 2);
    assert_int_equal(loop_turn(fixture.loop, 0), 0);
    assert_int_equal(http_server_connections(fixture.server), 2);
    raw_send(&fixture, first, SLICE("GET / HT"));
    CLEANUP(buffer_deinit) struct buffer answer = BUFFER_INIT(MIB);
    raw_read(&fixture, first, NULL, &answer);
    assert_memory_equal(answer.data, "HTTP/1.1 408 ", 13);
    CLEANUP(buffer_deinit) struct buffer nothing = BUFFER_INIT(MIB);
    raw_read(&fixture, second, NULL, &nothing);
    assert_int_equal(nothing.len, 0);
    raw_send(&fixture, third, SLICE("GET /third HTTP/1.1\r\nHost: x\r\n\r\n"));
    raw_read(&fixture, third, NULL, &nothing); /* answered, then closed for idling */
    assert_contains(nothing.data, "/third");
    fixture_end(&fixture);
}

UNIT_MAIN(UNIT(requests_are_answered_over_unix_and_tcp), UNIT(bodies_are_collected_streamed_and_limited), UNIT(answers_are_framed_for_who_asks),
          UNIT(garbage_is_refused_and_the_connection_closed), UNIT(heads_beyond_the_limits_are_refused),
          UNIT(pipelined_requests_are_answered_in_order_however_they_are_cut), UNIT(a_slow_reader_is_bounded), UNIT(an_answer_may_be_large),
          UNIT(an_exchange_ends_when_its_client_goes), UNIT(draining_finishes_what_runs_and_closes_what_idles),
          UNIT(files_are_sent_from_where_they_are), UNIT(a_connection_can_be_taken_over), UNIT(connections_are_bounded_and_late_heads_refused))
