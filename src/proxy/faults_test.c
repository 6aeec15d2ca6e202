/* One request through the proxy, between a client and a backend that never fail. */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/proxy_priv.h"

#include "faults.h"
#include "unit.h"

struct fixture {
    struct loop *loop;
    struct proxy *proxy;
    struct proxy_upstream *upstream;
    int listen_fd, backend_fd;
    struct sys_address address, backend_address;
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

static int configure(struct fixture *f) {
    int r = proxy_new(f->loop, NULL, &f->proxy);
    if (r == 0)
        r = proxy_listen(f->proxy, f->listen_fd, false);
    if (r == 0)
        r = proxy_upstream_get(f->proxy, "default", "web", "80", &f->upstream);
    struct proxy_routes *routes = r == 0 ? proxy_routes_new() : NULL;
    if (r == 0 && !routes)
        r = -ENOMEM;
    const struct proxy_route route = {.host = "web.test", .upstream = f->upstream, .backend = "default/web:80"};
    if (r == 0)
        r = proxy_routes_add(routes, &route);
    if (r < 0) {
        proxy_routes_unref(routes);
        return r;
    }
    proxy_set_routes(f->proxy, routes);
    const struct proxy_endpoint_spec spec = {.address = f->backend_address, .ready = true};
    return proxy_upstream_set_endpoints(f->upstream, &spec, 1);
}

/* 0: the backend's answer came through; -EIO: an answer of the proxy's own, or a broken connection. Never half an answer as a whole one. */
static int request(struct fixture *f) {
    static const char ask[] = "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    char got[4096] = "", seen[4096] = "";
    size_t got_len = 0, seen_len = 0;
    bool ended = false, answered = false;
    faults_pause();
    CLEANUP(fd_closep) int client = sys_connect(&f->address), backend = -1;
    assert_true(client >= 0);
    for (int turns = 0, sent = 0; !ended; turns++) {
        assert_true(turns < 20000);
        sent = sent || send(client, ask, sizeof ask - 1, MSG_NOSIGNAL) > 0;
        faults_resume();
        (void)loop_turn(f->loop, 1);
        faults_pause();
        if (backend < 0)
            backend = accept4(f->backend_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        ssize_t n = backend < 0 ? -1 : recv(backend, seen + seen_len, sizeof seen - 1 - seen_len, MSG_DONTWAIT);
        seen_len += n > 0 ? (size_t)n : 0;
        if (n == 0 && !answered) { /* the proxy gave up; it may come again */
            fd_closep(&backend);
            backend = -1;
            seen_len = 0;
        }
        seen[seen_len] = '\0';
        if (!answered && strstr(seen, "\r\n\r\nhi"))
            answered = send(backend, answer, sizeof answer - 1, MSG_NOSIGNAL) > 0;
        n = recv(client, got + got_len, sizeof got - 1 - got_len, MSG_DONTWAIT);
        got_len += n > 0 ? (size_t)n : 0;
        ended = n == 0 || (n < 0 && errno != EAGAIN && errno != ENOTCONN);
    }
    faults_resume();
    got[got_len] = '\0';
    if (strncmp(got, "HTTP/1.1 200", 12) != 0)
        return -EIO;
    return strstr(got, "\r\n\r\nok") ? 0 : -EIO;
}

static int forward(__attribute__((unused)) void *context) {
    struct fixture f = {0};
    faults_pause();
    assert_int_equal(loop_new(&f.loop), 0);
    f.listen_fd = listen_any(&f.address);
    f.backend_fd = listen_any(&f.backend_address);
    faults_resume();
    int r = configure(&f);
    if (r == 0) {
        r = request(&f);
        faults_pause();
        assert_int_equal(request(&f), 0); /* the next one is served, whatever befell this one */
        faults_resume();
    }
    proxy_upstream_unref(f.upstream);
    proxy_free(f.proxy);
    close(f.listen_fd);
    close(f.backend_fd);
    loop_free(f.loop);
    return r;
}

UNIT_TEST(a_request_is_answered_or_ends) {
    TEST_FAULTS_ANY(forward, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(a_request_is_answered_or_ends)};
    faults_skip_time(5);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
