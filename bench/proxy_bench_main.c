/* What bench/gateway.py measures when there is no whole platform: the proxy engine alone, and a backend that costs next to nothing.
 *   proxy_bench_main proxy PORT BACKEND_PORT     serves every host from 127.0.0.1:BACKEND_PORT
 *   proxy_bench_main backend PORT BODY_BYTES     answers every head with a body of that size */
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "proxy/proxy.h"

static int address_of(const char *port, struct sys_address *ret) {
    char text[40];
    snprintf(text, sizeof text, "127.0.0.1:%s", port);
    return sys_address_parse(text, ret);
}

static int listen_on(const char *port) {
    struct sys_address address;
    int error = address_of(port, &address);
    return error < 0 ? error : sys_listen(&address, 1024, 0);
}

/* --- the backend --- */

struct backend {
    struct loop *loop;
    struct loop_io *io;
    int fd;
    struct buffer answer;
};

struct peer {
    struct backend *backend;
    struct loop_io *io;
    int fd;
    size_t pending; /* of the answer */
};

static void peer_close(struct peer *peer) {
    loop_io_free(peer->io);
    close(peer->fd);
    free(peer);
}

static void peer_on_ready(void *userdata, uint32_t events) {
    struct peer *peer = userdata;
    const struct buffer *answer = &peer->backend->answer;
    static char bytes[16384];
    if (events & EPOLLIN) {
        ssize_t len = recv(peer->fd, bytes, sizeof bytes, 0);
        if (len == 0 || (len < 0 && errno != EAGAIN)) {
            peer_close(peer);
            return;
        }
        if (len >= 4 && memcmp(bytes + len - 4, "\r\n\r\n", 4) == 0)
            peer->pending = answer->len;
    }
    if (peer->pending > 0) {
        ssize_t len = send(peer->fd, answer->data + answer->len - peer->pending, peer->pending, MSG_NOSIGNAL);
        if (len > 0)
            peer->pending -= (size_t)len;
    }
}

static void on_accept(void *userdata, uint32_t events) {
    (void)events;
    struct backend *backend = userdata;
    int fd = accept4(backend->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct peer *peer = fd < 0 ? NULL : calloc(1, sizeof *peer);
    if (!peer)
        return;
    *peer = (struct peer){.backend = backend, .fd = fd};
    sys_tune_tcp(fd);
    if (loop_io_new(backend->loop, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, peer_on_ready, peer, &peer->io) < 0) {
        close(fd);
        free(peer);
    }
}

static int backend_run(struct loop *loop, const char *port, const char *size) {
    struct backend backend = {.loop = loop, .fd = listen_on(port), .answer = BUFFER_INIT(16 * MIB)};
    uint64_t body;
    if (backend.fd < 0 || slice_parse_u64(slice_of(size), 8 * MIB, &body) < 0)
        return 1;
    buffer_printf(&backend.answer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %" PRIu64 "\r\n\r\n", body);
    for (uint64_t i = 0; i < body; i++)
        buffer_append_byte(&backend.answer, 'x');
    if (loop_io_new(loop, backend.fd, EPOLLIN, on_accept, &backend, &backend.io) < 0)
        return 1;
    return loop_run(loop) < 0;
}

/* --- the proxy --- */

static int proxy_run(struct loop *loop, const char *port, const char *backend_port) {
    struct proxy *proxy;
    struct proxy_upstream *upstream;
    struct proxy_endpoint_spec endpoint = {.ready = true};
    int fd = listen_on(port);
    if (fd < 0 || address_of(backend_port, &endpoint.address) < 0 || proxy_new(loop, NULL, &proxy) < 0 || proxy_listen(proxy, fd, false) < 0 ||
        proxy_upstream_get(proxy, "bench", "backend", "80", &upstream) < 0 || proxy_upstream_set_endpoints(upstream, &endpoint, 1) < 0)
        return 1;
    struct proxy_routes *routes = proxy_routes_new();
    const struct proxy_route route = {.path = "/", .upstream = upstream, .backend = "bench/backend:80"};
    if (!routes || proxy_routes_add(routes, &route) < 0)
        return 1;
    proxy_set_routes(proxy, routes);
    return loop_run(loop) < 0;
}

int main(int argc, char **argv) {
    struct loop *loop;
    if (argc != 4 || loop_new(&loop) < 0) {
        fprintf(stderr, "usage: proxy_bench_main proxy PORT BACKEND_PORT | backend PORT BODY_BYTES\n");
        return 2;
    }
    return strcmp(argv[1], "proxy") == 0 ? proxy_run(loop, argv[2], argv[3]) : backend_run(loop, argv[2], argv[3]);
}
