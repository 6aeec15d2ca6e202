#include <sys/epoll.h>

#include "http/http_fixture_priv.h"

/* A server that does what it is told: each accepted connection is the test's own descriptor. */
static int accept_one(struct fixture *fixture) {
    int fd;
    while ((fd = accept4(fixture->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) < 0) {
        assert_int_equal(errno, EAGAIN);
        assert_int_equal(loop_turn(fixture->loop, 10), 0);
    }
    return fd;
}

/* Takes the next request (head and body) off the connection. */
static void take_request(struct fixture *fixture, int fd, const char *end, struct buffer *text) {
    buffer_reset(text);
    raw_read(fixture, fd, end, text);
    assert_true(text->len > 0);
}

struct stream {
    struct http_request *request;
    int heads, status, ends, error;
    struct buffer data;
    bool cancel_on_head, cancel_on_data, pause_on_data;
    struct http_client **free_client;
};
static void on_head(void *userdata, const struct http_answer *head) {
    struct stream *stream = userdata;
    stream->heads++;
    stream->status = head->status;
    if (stream->cancel_on_head)
        http_request_cancel(TAKE(stream->request));
}
static void on_data(void *userdata, struct slice data) {
    struct stream *stream = userdata;
    assert_int_equal(buffer_append_slice(&stream->data, data), 0);
    if (stream->pause_on_data)
        http_request_pause(stream->request);
    if (stream->cancel_on_data)
        http_request_cancel(TAKE(stream->request));
    if (stream->free_client)
        http_client_free(TAKE(*stream->free_client));
}
static void on_end(void *userdata, int error) {
    struct stream *stream = userdata;
    stream->ends++;
    stream->error = error;
    stream->request = NULL;
}
static const struct http_stream_handlers handlers = {.on_head = on_head, .on_data = on_data, .on_end = on_end};

static void open_stream(struct fixture *fixture, struct stream *stream) {
    struct http_request_options options = {.method = "GET", .target = "/watch"};
    stream->data = BUFFER_INIT(100 * MIB);
    assert_int_equal(http_client_stream(fixture->client, &options, &handlers, stream, &stream->request), 0);
}

static void start(struct fixture *fixture) {
    fixture_listen(fixture, false);
    fixture_connect(fixture, NULL);
}

static void reply(struct fixture *fixture, int fd, const char *text) {
    assert_true(raw_send(fixture, fd, slice_of(text)));
}

static struct result *ask(struct fixture *fixture, const struct http_request_options *options) {
    struct result *result = calloc(1, sizeof *result);
    assert_int_equal(http_client_send(fixture->client, options, on_result, result, NULL), 0);
    return result;
}

static void result_free(struct result *result) {
    buffer_deinit(&result->body);
    free(result);
}

UNIT_TEST(requests_look_as_they_should) {
    struct fixture fixture;
    start(&fixture);
    static const struct http_field fields[] = {{"X-A", "1"}, {NULL, NULL}};
    struct result *result =
        ask(&fixture,
            &(struct http_request_options){.method = "PUT", .target = "/a?b", .content_type = "text/x", .body = SLICE("body"), .fields = fields});
    CLEANUP(fd_closep) int fd = accept_one(&fixture);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    take_request(&fixture, fd, "body", &text);
    assert_string_equal(text.data, "PUT /a?b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: tidemill/" TIDEMILL_VERSION
                                   "\r\nContent-Type: text/x\r\nX-A: 1\r\nContent-Length: 4\r\n\r\nbody");
    reply(&fixture, fd, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Type: none/at-all\r\n\r\n");
    WAIT_FOR(&fixture, result->done);
    assert_int_equal(result->status, 204);
    assert_string_equal(result->type, "none/at-all");
    result_free(result);
    struct http_request *request = NULL;
    static const struct http_field evil[] = {{"X-A", "1\r\nX-B: 2"}, {NULL, NULL}};
    assert_int_equal(
        http_client_send(fixture.client, &(struct http_request_options){.method = "GET", .target = "/", .fields = evil}, on_result, NULL, &request),
        -EINVAL);
    assert_int_equal(http_client_send(fixture.client, &(struct http_request_options){.method = "GET", .target = "/a b"}, on_result, NULL, &request),
                     -EINVAL);
    assert_int_equal(http_client_send(fixture.client, &(struct http_request_options){.method = "G T", .target = "/"}, on_result, NULL, &request),
                     -EINVAL);
    fixture_end(&fixture);
}

UNIT_TEST(a_kept_connection_that_broke_is_replaced_once_but_not_for_a_post) {
    static const struct {
        const char *method;
        bool answered; /* the broken connection had begun an answer */
        int error;
    } cases[] = {{"GET", false, 0}, {"PUT", false, 0}, {"POST", false, -ECONNRESET}, {"GET", true, -ECONNRESET}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture fixture;
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
        start(&fixture);
        struct result *first = ask(&fixture, &(struct http_request_options){.method = "GET", .target = "/1"});
        CLEANUP(fd_closep) int kept = accept_one(&fixture);
        take_request(&fixture, kept, "\r\n\r\n", &text);
        reply(&fixture, kept, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        WAIT_FOR(&fixture, first->done);
        result_free(first);
        struct result *second = ask(&fixture, &(struct http_request_options){.method = cases[i].method, .target = "/2"});
        take_request(&fixture, kept, "\r\n\r\n", &text);
        if (cases[i].answered)
            reply(&fixture, kept, "HTTP/1.1 2");
        close(TAKE_FD(kept));
        if (cases[i].error == 0) {
            CLEANUP(fd_closep) int next = accept_one(&fixture);
            take_request(&fixture, next, "\r\n\r\n", &text);
            assert_non_null(strstr(text.data, " /2 "));
            reply(&fixture, next, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            WAIT_FOR(&fixture, second->done);
            assert_string_equal(second->body.data, "ok");
        }
        WAIT_FOR(&fixture, second->done);
        assert_int_equal(second->error, cases[i].error);
        result_free(second);
        fixture_end(&fixture);
    }
}

UNIT_TEST(an_idle_connection_the_server_closes_is_forgotten) {
    struct fixture fixture;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    start(&fixture);
    for (int i = 0; i < 3; i++) { /* POST: a stale connection would fail it */
        struct result *result = ask(&fixture, &(struct http_request_options){.method = "POST", .target = "/"});
        CLEANUP(fd_closep) int fd = accept_one(&fixture);
        take_request(&fixture, fd, "\r\n\r\n", &text);
        reply(&fixture, fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        WAIT_FOR(&fixture, result->done);
        assert_int_equal(result->error, 0);
        result_free(result);
        close(TAKE_FD(fd));
        assert_int_equal(loop_turn(fixture.loop, 1000), 0);
    }
    fixture_end(&fixture);
}

UNIT_TEST(answers_that_are_none_are_errors) {
    static const struct {
        const char *answer;
        int error;
        const char *body;
    } cases[] = {
        {"garbage\r\n\r\n", -EBADMSG, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", -ECONNRESET, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", -ECONNRESET, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", -EBADMSG, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", -EMSGSIZE, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: "
         "chunked\r\n\r\nff\r\n0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789x",
         -EMSGSIZE, NULL},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", -EBADMSG, NULL},
        {"HTTP/1.1 200 OK\r\n\r\nuntil the end", 0, "until the end"},
        {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nabc", 0, "ab"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n", 0, "abc"},
        {"", -ECONNRESET, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture fixture;
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
        start(&fixture);
        struct result *result = ask(&fixture, &(struct http_request_options){.method = "GET", .target = "/", .body_max = 100});
        CLEANUP(fd_closep) int fd = accept_one(&fixture);
        take_request(&fixture, fd, "\r\n\r\n", &text);
        raw_send(&fixture, fd, slice_of(cases[i].answer));
        close(TAKE_FD(fd));
        WAIT_FOR(&fixture, result->done);
        if (result->error != cases[i].error)
            fail_msg("case %zu: %d", i, result->error);
        assert_string_equal(result->body.data, cases[i].body ? cases[i].body : "");
        result_free(result);
        fixture_end(&fixture);
    }
}

UNIT_TEST(what_cannot_be_reached_or_takes_too_long_is_told_later) {
    struct fixture fixture;
    start(&fixture);
    struct result *late = ask(&fixture, &(struct http_request_options){.method = "GET", .target = "/", .timeout_ms = 20});
    WAIT_FOR(&fixture, late->done);
    assert_int_equal(late->error, -ETIMEDOUT);
    result_free(late);
    close(TAKE_FD(fixture.listen_fd));
    struct result *refused = ask(&fixture, &(struct http_request_options){.method = "GET", .target = "/"});
    assert_false(refused->done);
    WAIT_FOR(&fixture, refused->done);
    assert_int_equal(refused->error, -ECONNREFUSED);
    result_free(refused);
    struct stream stream = {0};
    open_stream(&fixture, &stream);
    WAIT_FOR(&fixture, stream.ends);
    assert_int_equal(stream.error, -ECONNREFUSED);
    assert_int_equal(stream.heads, 0);
    fixture_end(&fixture);
}

UNIT_TEST(each_system_call_of_a_connect_may_fail) {
    struct fixture fixture;
    start(&fixture);
    for (int after = 1; after <= 2; after++) {
        sys_fault_set(after, EMFILE);
        struct result *result = ask(&fixture, &(struct http_request_options){.method = "GET", .target = "/"});
        sys_fault_set(0, 0);
        assert_false(result->done);
        WAIT_FOR(&fixture, result->done);
        assert_int_equal(result->error, -EMFILE);
        result_free(result);
    }
    fixture_end(&fixture);
}

UNIT_TEST(streams_deliver_pause_and_end) {
    struct fixture fixture;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    struct stream stream = {.pause_on_data = true};
    start(&fixture);
    open_stream(&fixture, &stream);
    CLEANUP(fd_closep) int fd = accept_one(&fixture);
    take_request(&fixture, fd, "\r\n\r\n", &text);
    reply(&fixture, fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    WAIT_FOR(&fixture, stream.data.len == 3);
    reply(&fixture, fd, "3\r\ntwo\r\n0\r\n\r\n");
    for (int i = 0; i < 3; i++)
        assert_int_equal(loop_turn(fixture.loop, 0), 0);
    assert_int_equal(stream.data.len, 3);
    stream.pause_on_data = false;
    http_request_resume(stream.request);
    WAIT_FOR(&fixture, stream.ends);
    assert_int_equal(stream.error, 0);
    assert_string_equal(stream.data.data, "onetwo");
    buffer_deinit(&stream.data);
    fixture_end(&fixture);
}

UNIT_TEST(a_paused_stream_holds_its_sender_back) {
    struct fixture fixture;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    struct stream stream = {.pause_on_data = true};
    start(&fixture);
    open_stream(&fixture, &stream);
    CLEANUP(fd_closep) int fd = accept_one(&fixture);
    take_request(&fixture, fd, "\r\n\r\n", &text);
    reply(&fixture, fd, "HTTP/1.1 200 OK\r\n\r\nx");
    WAIT_FOR(&fixture, stream.data.len > 0);
    static char piece[65536];
    size_t sent = 0;
    for (int refusals = 0; refusals < 10;) { /* until nothing more goes in, however often the loop turns */
        ssize_t n = send(fd, piece, sizeof piece, MSG_NOSIGNAL | MSG_DONTWAIT);
        refusals = n < 0 ? refusals + 1 : 0;
        sent += n > 0 ? (size_t)n : 0;
        assert_true(sent < 16 * MIB);
        assert_int_equal(loop_turn(fixture.loop, 0), 0);
    }
    stream.pause_on_data = false;
    http_request_resume(stream.request);
    WAIT_FOR(&fixture, stream.data.len == 1 + sent);
    close(TAKE_FD(fd));
    WAIT_FOR(&fixture, stream.ends);
    assert_int_equal(stream.error, 0);
    buffer_deinit(&stream.data);
    fixture_end(&fixture);
}

UNIT_TEST(requests_may_be_cancelled_anywhere) {
    for (int where = 0; where < 5; where++) {
        struct fixture fixture;
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
        struct stream stream = {.cancel_on_head = where == 2, .cancel_on_data = where == 3};
        start(&fixture);
        stream.free_client = where == 4 ? &fixture.client : NULL;
        open_stream(&fixture, &stream);
        if (where == 0)
            http_request_cancel(TAKE(stream.request));
        CLEANUP(fd_closep) int fd = where == 0 ? -1 : accept_one(&fixture);
        if (where == 1)
            http_request_cancel(TAKE(stream.request));
        if (where > 1) {
            take_request(&fixture, fd, "\r\n\r\n", &text);
            reply(&fixture, fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
            WAIT_FOR(&fixture, where == 2 ? stream.heads > 0 : stream.data.len > 0);
        }
        for (int i = 0; i < 3; i++)
            assert_int_equal(loop_turn(fixture.loop, 0), 0);
        assert_int_equal(stream.ends, 0);
        assert_int_equal(stream.data.len, where > 2 ? 3 : 0);
        buffer_deinit(&stream.data);
        fixture_end(&fixture);
    }
}

UNIT_TEST(endpoints_are_checked) {
    struct loop *loop;
    assert_int_equal(loop_new(&loop), 0);
    static const struct {
        const char *endpoint;
        int error;
    } cases[] = {{"127.0.0.1:80", -EINVAL},
                 {"http://", -EINVAL},
                 {"http://:80", -EINVAL},
                 {"http://127.0.0.1:", -EINVAL},
                 {"https://127.0.0.1", -EINVAL /* no TLS given */},
                 {"http://[::1]:80/", 0},
                 {"http://127.0.0.1:8080/x", 0},
                 {"unix:", -EINVAL},
                 {"http://[::1:80", -EHOSTUNREACH}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_client *client = NULL;
        int r = http_client_new(loop, &(struct http_client_options){.endpoint = cases[i].endpoint}, &client);
        if (r != cases[i].error)
            fail_msg("%s: %d", cases[i].endpoint, r);
        http_client_free(client);
    }
    loop_free(loop);
}

UNIT_MAIN(UNIT(requests_look_as_they_should), UNIT(a_kept_connection_that_broke_is_replaced_once_but_not_for_a_post),
          UNIT(an_idle_connection_the_server_closes_is_forgotten), UNIT(answers_that_are_none_are_errors),
          UNIT(what_cannot_be_reached_or_takes_too_long_is_told_later), UNIT(each_system_call_of_a_connect_may_fail),
          UNIT(streams_deliver_pause_and_end), UNIT(a_paused_stream_holds_its_sender_back), UNIT(requests_may_be_cancelled_anywhere),
          UNIT(endpoints_are_checked))
