/* The proxy as a whole: its making, its listeners, the snapshot in use, draining.
 *
 * Listeners are level triggered and accept a bounded batch per turn. Too many connections: the one idle for longest makes room; when none is idle,
 * accepting pauses until one ends. An error of accept (no descriptors, no memory) pauses it for a moment: the backlog holds the others.
 *
 * Draining: no more accepts; responses say Connection: close; idle connections get a moment to bring a request that may be on its way already, then
 * close. */
#include <sys/epoll.h>
#include <sys/socket.h>

#include "proxy/proxy_priv.h"

#define ACCEPTS_PER_TURN 64
#define ACCEPT_PAUSE_MS 100

uint64_t proxy_random(struct proxy *proxy) {
    uint64_t x = proxy->random_state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    proxy->random_state = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

/* --- more to do in the next turn --- */

static void on_again(void *userdata) {
    struct proxy *proxy = userdata;
    struct list now;
    list_init(&now);
    while (!list_empty(&proxy->again))
        list_push(&now, list_pop(&proxy->again));
    for (struct list *node; (node = list_pop(&now));)
        exchange_run(CONTAINER_OF(node, struct exchange, again));
}

void proxy_again(struct proxy *proxy, struct exchange *exchange) {
    if (list_empty(&exchange->again))
        list_push(&proxy->again, &exchange->again);
    if (!loop_timer_is_set(&proxy->again_timer))
        loop_timer_set(&proxy->again_timer, 0);
}

static void on_refused(void *userdata) {
    struct proxy *proxy = userdata;
    void *value;
    VECTOR(struct proxy_upstream *) waiting = {0};
    for (size_t at = 0; map_next(proxy->upstreams, &at, NULL, &value);) {
        struct proxy_upstream *upstream = value;
        if (!list_empty(&upstream->held) && VECTOR_PUSH(&waiting, upstream) == 0)
            proxy_upstream_ref(upstream);
    }
    for (size_t i = 0; i < waiting.count; i++) {
        upstream_hold_wake(waiting.items[i], true);
        proxy_upstream_unref(waiting.items[i]);
    }
    VECTOR_DEINIT(&waiting);
}

/* --- listeners --- */

static void accept_pause(struct proxy *proxy, bool paused) {
    if (proxy->accept_paused == paused || proxy->draining)
        return;
    for (size_t i = 0; i < proxy->listeners.count; i++)
        loop_io_set(proxy->listeners.items[i]->io, paused ? 0 : EPOLLIN);
    proxy->accept_paused = paused;
}

static void on_accept_timer(void *userdata) {
    accept_pause(userdata, false);
}

/* Closes the longest idle client; false when none is idle. */
static bool evict_idle(struct proxy *proxy) {
    struct list *idle = &proxy->deadlines[DEADLINE_IDLE].head;
    if (list_empty(idle))
        return false;
    client_close(CONTAINER_OF(idle->next, struct client, deadline.node));
    return true;
}

static bool accept_one(struct listener *listener) {
    struct proxy *proxy = listener->proxy;
    bool full = proxy->stats.connections >= proxy->options.connections_max;
    if (full && list_empty(&proxy->deadlines[DEADLINE_IDLE].head)) {
        accept_pause(proxy, true);
        return false;
    }
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    int fd = accept4(listener->fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == ECONNABORTED || errno == EINTR)
            return true;
        if (errno != EAGAIN) {
            accept_pause(proxy, true);
            loop_timer_set(&proxy->accept_timer, ACCEPT_PAUSE_MS);
        }
        return false;
    }
    if (full)
        evict_idle(proxy);
    if (address.ss_family != AF_UNIX)
        sys_tune_tcp(fd);
    if (downstream_new(proxy, fd, listener->secure, &address) < 0)
        close(fd);
    return true;
}

static void on_accept(void *userdata, uint32_t events) {
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && accept_one(userdata); i++)
        ;
}

int proxy_listen(struct proxy *proxy, int fd, bool secure) {
    struct listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return -ENOMEM;
    *listener = (struct listener){.proxy = proxy, .fd = fd, .secure = secure};
    int error = VECTOR_PUSH(&proxy->listeners, listener);
    if (error < 0) {
        free(listener);
        return error;
    }
    error = loop_io_new(proxy->loop, fd, EPOLLIN, on_accept, listener, &listener->io);
    if (error < 0) {
        proxy->listeners.count--;
        free(listener);
    }
    return error;
}

/* --- draining --- */

static void on_drained(void *userdata) {
    struct proxy *proxy = userdata;
    void (*on_done)(void *) = proxy->on_drained;
    proxy->on_drained = NULL;
    if (on_done)
        on_done(proxy->drain_userdata);
}

void proxy_on_client_gone(struct proxy *proxy) {
    if (proxy->draining && list_empty(&proxy->clients))
        loop_defer_schedule(&proxy->drained);
    else
        proxy_on_client_idle(proxy);
}

void proxy_on_client_idle(struct proxy *proxy) {
    if (proxy->accept_paused && !loop_timer_is_set(&proxy->accept_timer))
        accept_pause(proxy, false);
}

static void on_drain_idle(void *userdata) {
    struct proxy *proxy = userdata;
    while (evict_idle(proxy))
        ;
    LIST_FOREACH(node, &proxy->clients) {
        struct client *client = CONTAINER_OF(node, struct client, node);
        if (client->state == CLIENT_IDLE)
            client_close(client); /* those that never said anything */
    }
    if (!list_empty(&proxy->clients))
        loop_timer_set(&proxy->drain_timer, proxy->options.drain_idle_ms);
}

void proxy_drain(struct proxy *proxy, void (*on_done)(void *userdata), void *userdata) {
    proxy->draining = true;
    proxy->on_drained = on_done;
    proxy->drain_userdata = userdata;
    for (size_t i = 0; i < proxy->listeners.count; i++) {
        loop_io_free(proxy->listeners.items[i]->io);
        proxy->listeners.items[i]->io = NULL;
    }
    if (list_empty(&proxy->clients))
        loop_defer_schedule(&proxy->drained);
    else
        loop_timer_set(&proxy->drain_timer, proxy->options.drain_idle_ms);
}

/* --- the whole --- */

static void options_default(struct proxy_options *options) {
    static const struct proxy_options defaults = {
        .head_timeout_ms = 30000,
        .idle_timeout_ms = 75000,
        .connect_timeout_ms = 2000,
        .response_timeout_ms = 60000,
        .transfer_timeout_ms = 120000,
        .tunnel_timeout_ms = 3600000,
        .hold_timeout_ms = 10000,
        .upstream_idle_timeout_ms = 30000,
        .connections_max = 8000,
        .holds_max = 1000,
        .upstream_idle_max = 64,
        .drain_idle_ms = 500,
    };
#define DEFAULT(field) options->field = options->field ? options->field : defaults.field
    DEFAULT(head_timeout_ms);
    DEFAULT(idle_timeout_ms);
    DEFAULT(connect_timeout_ms);
    DEFAULT(response_timeout_ms);
    DEFAULT(transfer_timeout_ms);
    DEFAULT(tunnel_timeout_ms);
    DEFAULT(hold_timeout_ms);
    DEFAULT(upstream_idle_timeout_ms);
    DEFAULT(connections_max);
    DEFAULT(holds_max);
    DEFAULT(upstream_idle_max);
    DEFAULT(drain_idle_ms);
#undef DEFAULT
}

static void deadlines_init(struct proxy *proxy) {
    const struct proxy_options *options = &proxy->options;
    const int64_t timeouts_ms[DEADLINE_KINDS] = {
        [DEADLINE_HEAD] = options->head_timeout_ms,
        [DEADLINE_IDLE] = options->idle_timeout_ms,
        [DEADLINE_CONNECT] = options->connect_timeout_ms,
        [DEADLINE_RESPONSE] = options->response_timeout_ms,
        [DEADLINE_TRANSFER] = options->transfer_timeout_ms,
        [DEADLINE_TUNNEL] = options->tunnel_timeout_ms,
        [DEADLINE_HOLD] = options->hold_timeout_ms,
        [DEADLINE_REFUSED] = MIN(options->hold_timeout_ms, 5000),
        [DEADLINE_LINGER] = 2000,
        [DEADLINE_UPSTREAM_IDLE] = options->upstream_idle_timeout_ms,
    };
    for (int kind = 0; kind < DEADLINE_KINDS; kind++)
        deadline_queue_init(&proxy->deadlines[kind], proxy, (enum deadline_kind)kind, timeouts_ms[kind]);
}

int proxy_new(struct loop *loop, const struct proxy_options *options, struct proxy **ret) {
    struct proxy *proxy = calloc(1, sizeof *proxy);
    if (!proxy)
        return -ENOMEM;
    proxy->upstreams = map_new();
    if (!proxy->upstreams) {
        free(proxy);
        return -ENOMEM;
    }
    proxy->loop = loop;
    if (options)
        proxy->options = *options;
    options_default(&proxy->options);
    list_init(&proxy->clients);
    list_init(&proxy->again);
    deadlines_init(proxy);
    loop_timer_init(&proxy->again_timer, loop, on_again, proxy);
    loop_timer_init(&proxy->refused_timer, loop, on_refused, proxy);
    loop_timer_init(&proxy->accept_timer, loop, on_accept_timer, proxy);
    loop_timer_init(&proxy->drain_timer, loop, on_drain_idle, proxy);
    loop_defer_init(&proxy->drained, loop, on_drained, proxy);
    sys_random(&proxy->random_state, sizeof proxy->random_state);
    proxy->random_state |= 1;
    *ret = proxy;
    return 0;
}

static void cache_free(struct proxy *proxy) {
    for (size_t i = 0; i < proxy->cache_count; i++) {
        struct exchange *exchange = proxy->cache[i];
        buffer_deinit(&exchange->input);
        buffer_deinit(&exchange->request);
        buffer_deinit(&exchange->response_input);
        buffer_deinit(&exchange->response);
        free(exchange);
    }
}

void proxy_free(struct proxy *proxy) {
    if (!proxy)
        return;
    proxy->draining = true;
    proxy->on_drained = NULL;
    for (size_t i = 0; i < proxy->listeners.count; i++) {
        loop_io_free(proxy->listeners.items[i]->io);
        free(proxy->listeners.items[i]);
    }
    VECTOR_DEINIT(&proxy->listeners);
    while (!list_empty(&proxy->clients))
        client_close(CONTAINER_OF(proxy->clients.next, struct client, node));
    proxy_routes_unref(proxy->routes);
    void *value;
    for (size_t at = 0; map_next(proxy->upstreams, &at, NULL, &value);)
        upstream_detach(value);
    map_free(proxy->upstreams);
    for (int kind = 0; kind < DEADLINE_KINDS; kind++)
        deadline_queue_deinit(&proxy->deadlines[kind]);
    loop_timer_cancel(&proxy->again_timer);
    loop_timer_cancel(&proxy->refused_timer);
    loop_timer_cancel(&proxy->accept_timer);
    loop_timer_cancel(&proxy->drain_timer);
    loop_defer_cancel(&proxy->drained);
    cache_free(proxy);
    free(proxy);
}

void proxy_set_routes(struct proxy *proxy, struct proxy_routes *routes) {
    proxy_routes_unref(proxy->routes);
    proxy->routes = routes;
}

void proxy_stats_get(const struct proxy *proxy, struct proxy_stats *ret) {
    *ret = proxy->stats;
}
