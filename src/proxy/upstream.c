/* Upstreams, their endpoints and the kept connections to them.
 *
 * An upstream lives as long as someone refers to it: route snapshots, the role, requests in flight. An endpoint lives as long as the upstream lists
 * it or a connection to it is open: one that leaves the set is detached (upstream NULL), so requests in flight finish on their connections, which
 * then close instead of returning to the pool.
 *
 * Invariants: (1) a link is either in its endpoint's idle list (exchange NULL, deadline armed) or serves exactly one exchange; (2) view.in_flight
 * counts the links that serve; (3) only ready endpoints have idle links.
 *
 * Sockets are registered once, edge triggered, and readiness is remembered in flags: a keep-alive request costs no epoll_ctl. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include "proxy/proxy_priv.h"

#define FRESH_ENOUGH_NS 1000000000 /* a kept connection used within a second is very unlikely to be on its way to be closed */

/* --- links --- */

static void endpoint_unref(struct endpoint *endpoint) {
    if (--endpoint->references == 0)
        free(endpoint);
}

static void link_on_ready(void *userdata, uint32_t events) {
    struct link *link = userdata;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        link->readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        link->hangup = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        link->writable = true;
    if (link->exchange)
        exchange_run(link->exchange);
    else if (link->readable)
        link_close(link); /* closed while idle, or talks unasked: of no use */
}

void link_close(struct link *link) {
    struct endpoint *endpoint = link->endpoint;
    if (link->exchange) {
        link->exchange->link = NULL;
        endpoint->view.in_flight--;
    } else if (!list_empty(&link->node)) {
        list_remove(&link->node);
        endpoint->idle_count--;
    }
    list_remove(&link->deadline.node);
    loop_io_free(link->io);
    close(link->fd);
    endpoint_unref(endpoint);
    free(link);
}

void link_keep(struct link *link) {
    struct endpoint *endpoint = link->endpoint;
    struct proxy *proxy = link->proxy;
    /* The last read was as long as asked: whether the socket is empty is not known yet. */
    if (link->readable && !link->hangup && recv(link->fd, &(char){0}, 1, MSG_PEEK) < 0 && errno == EAGAIN)
        link->readable = false;
    if (!endpoint->upstream || !endpoint->view.ready || link->readable || endpoint->idle_count >= proxy->options.upstream_idle_max) {
        link_close(link);
        return;
    }
    link->exchange->link = NULL;
    link->exchange = NULL;
    endpoint->view.in_flight--;
    link->reused = true;
    link->idle_since_ns = loop_now_ns(proxy->loop);
    list_push_front(&endpoint->idle, &link->node);
    endpoint->idle_count++;
    deadline_arm(&proxy->deadlines[DEADLINE_UPSTREAM_IDLE], &link->deadline);
}

static int link_connect(struct proxy *proxy, struct endpoint *endpoint, struct link **ret) {
    struct link *link = calloc(1, sizeof *link);
    if (!link)
        return -ENOMEM;
    link->fd = sys_connect(&endpoint->address);
    if (link->fd < 0) {
        int error = link->fd;
        free(link);
        return error;
    }
    if (endpoint->address.storage.ss_family != AF_UNIX)
        setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    int error = loop_io_new(proxy->loop, link->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, link_on_ready, link, &link->io);
    if (error < 0) {
        close(link->fd);
        free(link);
        return error;
    }
    link->proxy = proxy;
    link->writable = true; /* the first send tells */
    list_init(&link->node);
    list_init(&link->deadline.node);
    link->endpoint = endpoint;
    endpoint->references++;
    proxy->stats.upstream_connections++;
    *ret = link;
    return 0;
}

int link_open(struct endpoint *endpoint, bool fresh, bool recent, struct link **ret) {
    struct proxy *proxy = endpoint->upstream->proxy;
    struct link *link = NULL;
    if (!fresh && !list_empty(&endpoint->idle)) {
        link = CONTAINER_OF(endpoint->idle.next, struct link, node);
        if (recent && loop_now_ns(proxy->loop) - link->idle_since_ns > FRESH_ENOUGH_NS)
            link = NULL;
    }
    if (link) {
        list_remove(&link->node);
        endpoint->idle_count--;
        list_remove(&link->deadline.node);
        proxy->stats.upstream_reused++;
    } else {
        int error = link_connect(proxy, endpoint, &link);
        if (error < 0)
            return error;
    }
    endpoint->view.in_flight++;
    *ret = link;
    return 0;
}

/* The caller holds a reference beside those of the links. */
static void endpoint_close_idle(struct endpoint *endpoint) {
    while (!list_empty(&endpoint->idle))
        link_close(CONTAINER_OF(endpoint->idle.next, struct link, node));
}

/* --- endpoints --- */

static struct endpoint *endpoint_new(struct proxy_upstream *upstream, const struct proxy_endpoint_spec *spec) {
    struct endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint)
        return NULL;
    endpoint->references = 1;
    endpoint->address = spec->address;
    endpoint->view.ready = spec->ready;
    endpoint->upstream = upstream;
    list_init(&endpoint->idle);
    return endpoint;
}

/* It leaves the set: what is in flight finishes. */
static void endpoint_detach(struct endpoint *endpoint) {
    endpoint->view.ready = false;
    endpoint_close_idle(endpoint);
    endpoint->upstream = NULL;
    endpoint_unref(endpoint);
}

static bool address_equal(const struct sys_address *a, const struct sys_address *b) {
    return a->len == b->len && memcmp(&a->storage, &b->storage, a->len) == 0;
}

static struct endpoint *endpoint_find(struct endpoint *const *items, size_t count, const struct sys_address *address) {
    for (size_t i = 0; i < count; i++)
        if (address_equal(&items[i]->address, address))
            return items[i];
    return NULL;
}

static const struct balancer_view *view_at(const void *userdata, size_t index) {
    const struct proxy_upstream *upstream = userdata;
    return &upstream->endpoints.items[index]->view;
}

struct endpoint *upstream_pick(struct proxy_upstream *upstream, uint32_t request_id) {
    struct proxy *proxy = upstream->proxy;
    ptrdiff_t index = balancer_pick(view_at, upstream, upstream->endpoints.count, request_id, loop_now_ns(proxy->loop), proxy_random(proxy));
    return index < 0 ? NULL : upstream->endpoints.items[index];
}

/* The new set from old and new endpoints, in `items`; nothing is changed yet. `made` gets the new ones. Returns the count, or -ENOMEM. */
static ptrdiff_t endpoints_collect(struct proxy_upstream *upstream, const struct proxy_endpoint_spec *specs, size_t count, struct endpoint **items,
                                   struct endpoint **made) {
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (endpoint_find(items, used, &specs[i].address))
            continue;
        struct endpoint *endpoint = endpoint_find(upstream->endpoints.items, upstream->endpoints.count, &specs[i].address);
        if (!endpoint)
            endpoint = made[i] = endpoint_new(upstream, &specs[i]);
        if (!endpoint)
            return -ENOMEM;
        items[used++] = endpoint;
    }
    return (ptrdiff_t)used;
}

static void endpoints_apply(struct proxy_upstream *upstream, const struct proxy_endpoint_spec *specs, size_t count) {
    bool any_ready = false;
    for (size_t i = 0; i < count; i++) {
        struct endpoint *endpoint = endpoint_find(upstream->endpoints.items, upstream->endpoints.count, &specs[i].address);
        if (specs[i].ready && !endpoint->view.ready)
            endpoint->view.failed_until_ns = 0;
        endpoint->view.ready = specs[i].ready;
        any_ready |= specs[i].ready;
        if (!specs[i].ready)
            endpoint_close_idle(endpoint);
    }
    if (any_ready && upstream->proxy)
        upstream_hold_wake(upstream, false);
}

int proxy_upstream_set_endpoints(struct proxy_upstream *upstream, const struct proxy_endpoint_spec *specs, size_t count) {
    struct endpoint **items = calloc(count + 1, sizeof *items);
    struct endpoint **made = calloc(count + 1, sizeof *made);
    ptrdiff_t used = items && made ? endpoints_collect(upstream, specs, count, items, made) : -ENOMEM;
    if (used < 0) {
        for (size_t i = 0; made && i < count; i++)
            free(made[i]);
        free(made);
        free(items);
        return (int)used;
    }
    free(made);
    struct endpoint **old = upstream->endpoints.items;
    size_t old_count = upstream->endpoints.count;
    upstream->endpoints.items = items;
    upstream->endpoints.count = (size_t)used;
    upstream->endpoints.capacity = count + 1;
    for (size_t i = 0; i < old_count; i++)
        if (!endpoint_find(items, (size_t)used, &old[i]->address))
            endpoint_detach(old[i]);
    free(old);
    endpoints_apply(upstream, specs, count);
    return 0;
}

/* --- upstreams --- */

static struct proxy_upstream *upstream_new(struct proxy *proxy, const char *namespace, const char *service, const char *port, const char *name) {
    struct proxy_upstream *upstream = calloc(1, sizeof *upstream);
    if (!upstream)
        return NULL;
    upstream->references = 1;
    upstream->name = slice_dup(slice_of(name));
    upstream->namespace = slice_dup(slice_of(namespace));
    upstream->service = slice_dup(slice_of(service));
    upstream->port = slice_dup(slice_of(port));
    list_init(&upstream->held);
    if (!upstream->name || !upstream->namespace || !upstream->service || !upstream->port ||
        map_put(proxy->upstreams, slice_of(name), upstream, NULL) < 0) {
        proxy_upstream_unref(upstream);
        return NULL;
    }
    upstream->proxy = proxy;
    return upstream;
}

int proxy_upstream_get(struct proxy *proxy, const char *namespace, const char *service, const char *port, struct proxy_upstream **ret) {
    CLEANUP(buffer_deinit) struct buffer name = BUFFER_INIT(KIB);
    int error = buffer_printf(&name, "%s/%s:%s", namespace, service, port);
    if (error < 0)
        return error;
    struct proxy_upstream *upstream = map_find(proxy->upstreams, buffer_slice(&name));
    upstream = upstream ? proxy_upstream_ref(upstream) : upstream_new(proxy, namespace, service, port, name.data);
    if (!upstream)
        return -ENOMEM;
    *ret = upstream;
    return 0;
}

struct proxy_upstream *proxy_upstream_ref(struct proxy_upstream *upstream) {
    upstream->references++;
    return upstream;
}

void proxy_upstream_unref(struct proxy_upstream *upstream) {
    if (!upstream || --upstream->references > 0)
        return;
    for (size_t i = 0; i < upstream->endpoints.count; i++)
        endpoint_detach(upstream->endpoints.items[i]);
    VECTOR_DEINIT(&upstream->endpoints);
    if (upstream->proxy)
        map_remove(upstream->proxy->upstreams, slice_of(upstream->name));
    free(upstream->name);
    free(upstream->namespace);
    free(upstream->service);
    free(upstream->port);
    free(upstream);
}

void upstream_detach(struct proxy_upstream *upstream) {
    for (size_t i = 0; i < upstream->endpoints.count; i++)
        endpoint_close_idle(upstream->endpoints.items[i]);
    upstream->proxy = NULL;
}
