/* What the tests of this folder share: a loop, a server on a unix socket or TCP, raw clients that send bytes as they are, and waiting for conditions
 * (never for time). */
#ifndef TIDEMILL_HTTP_FIXTURE_PRIV_H
#define TIDEMILL_HTTP_FIXTURE_PRIV_H

#include <poll.h>
#include <stdio.h>

#include "http/http.h"
#include "sys/sys.h"

#include "unit.h"

struct fixture {
    struct loop *loop;
    struct http_server *server;
    struct http_client *client;
    int listen_fd;
    struct sys_address address;
    char folder[32];
    char endpoint[128];
};

/* Runs the loop until the condition holds; a test that hangs here is ended by the time limit of ctest. */
#define WAIT_FOR(fixture, condition)                                                                                                                 \
    do {                                                                                                                                             \
        while (!(condition))                                                                                                                         \
            assert_int_equal(loop_turn((fixture)->loop, 1000), 0);                                                                                   \
    } while (0)

static inline void fixture_listen(struct fixture *fixture, bool tcp) {
    char text[160];
    *fixture = (struct fixture){.folder = "/tmp/tidemill-http-XXXXXX"};
    assert_int_equal(loop_new(&fixture->loop), 0);
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(text, sizeof text, "unix:%s/socket", fixture->folder);
    assert_int_equal(sys_address_parse(tcp ? "127.0.0.1:0" : text, &fixture->address), 0);
    fixture->listen_fd = sys_listen(&fixture->address, 64, 0600);
    assert_true(fixture->listen_fd >= 0);
    if (tcp) {
        fixture->address.len = sizeof fixture->address.storage;
        getsockname(fixture->listen_fd, (struct sockaddr *)&fixture->address.storage, &fixture->address.len);
    }
    sys_address_format(&fixture->address, fixture->endpoint, sizeof fixture->endpoint);
}

/* `options->tls` makes it https. */
static inline void fixture_serve(struct fixture *fixture, bool tcp, const struct http_server_options *options) {
    fixture_listen(fixture, tcp);
    assert_int_equal(http_server_new(fixture->loop, fixture->listen_fd, options, &fixture->server), 0);
    char endpoint[160];
    snprintf(endpoint, sizeof endpoint, "%s%s", tcp ? (options->tls ? "https://" : "http://") : "", fixture->endpoint);
    snprintf(fixture->endpoint, sizeof fixture->endpoint, "%.120s", endpoint);
}

static inline void fixture_connect(struct fixture *fixture, struct tls_context *tls) {
    struct http_client_options options = {.endpoint = fixture->endpoint, .tls = tls};
    assert_int_equal(http_client_new(fixture->loop, &options, &fixture->client), 0);
}

static inline void fixture_end(struct fixture *fixture) {
    http_client_free(fixture->client);
    http_server_free(fixture->server);
    close(fixture->listen_fd);
    loop_free(fixture->loop);
    assert_int_equal(sys_remove_tree(-100 /* AT_FDCWD */, fixture->folder), 0);
}

/* A socket of the test's own. */
static inline int raw_connect(struct fixture *fixture) {
    int fd = sys_connect(&fixture->address);
    assert_true(fd >= 0);
    return fd;
}

/* Sends all, letting the loop run while the socket is full; false when the server broke the connection. */
static inline bool raw_send(struct fixture *fixture, int fd, struct slice bytes) {
    while (bytes.len > 0) {
        ssize_t n = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != ENOTCONN)
            return false;
        if (n > 0)
            bytes = slice_from(bytes, (size_t)n);
        assert_int_equal(loop_turn(fixture->loop, 0), 0);
    }
    return true;
}

/* Reads until the server ends the connection or `until` (may be NULL) has come; the text so far, terminated, stays in `text`. */
static inline void raw_read(struct fixture *fixture, int fd, const char *until, struct buffer *text) {
    for (;;) {
        char bytes[16384];
        ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0)
            assert_int_equal(buffer_append(text, bytes, (size_t)n), 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return;
        if (until && text->data && strstr(text->data, until))
            return;
        if (n < 0)
            assert_int_equal(loop_turn(fixture->loop, 10), 0);
    }
}

/* One connection: sends the text, reads until its end (or `until`). Free the result. */
static inline char *raw_exchange(struct fixture *fixture, const char *text, const char *until) {
    CLEANUP(fd_closep) int fd = raw_connect(fixture);
    struct buffer answer = BUFFER_INIT(64 * MIB);
    raw_send(fixture, fd, slice_of(text));
    raw_read(fixture, fd, until, &answer);
    return buffer_take(&answer);
}

/* A collected answer. */
struct result {
    bool done;
    int error, status;
    struct buffer body;
    char type[100];
};
static inline void on_result(void *userdata, const struct http_answer *answer) {
    struct result *result = userdata;
    assert_false(result->done);
    struct slice type = answer->header(answer, "content-type");
    result->done = true;
    result->error = answer->error;
    result->status = answer->status;
    buffer_init(&result->body, GIB);
    buffer_append_slice(&result->body, answer->body);
    buffer_append_text(&result->body, "");
    snprintf(result->type, sizeof result->type, "%.*s", SLICE_ARG(type));
}
static inline struct result fetch(struct fixture *fixture, const char *method, const char *target, struct slice body) {
    struct result result = {0};
    struct http_request_options options = {.method = method, .target = target, .body = body};
    assert_int_equal(http_client_send(fixture->client, &options, on_result, &result, NULL), 0);
    assert_false(result.done);
    WAIT_FOR(fixture, result.done);
    return result;
}

#endif
