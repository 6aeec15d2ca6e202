/* One request and its response.
 *
 *   begin ──► dispatch ──► (held ──► dispatch)* ──► connecting ──► request and body up, response down ──► finish
 *                ▲                                      │ broke, may be repeated
 *                └──────────────────────────────────────┘
 *
 * Everything that happens (readiness of either socket, a deadline, an endpoint that appears) sets flags or calls one of the functions here, then
 * exchange_run() moves what can be moved until nothing moves. Only exchange_run's ends (finish, abort) free, so no function below it has to ask
 * whether the exchange is still there.
 *
 * Invariants: (1) `request` holds every byte sent since the head while `replayable`; (2) the client is read only when everything read before was sent
 * on, and the upstream likewise: that is the back-pressure and the bound on memory; (3) an exchange is in its upstream's held list exactly while it
 * has no link and waits for an endpoint.
 *
 * Holding. No ready endpoint: wait for one to appear. All ready endpoints refuse to connect: a container that is up but does not listen yet looks
 * like this when it has no readiness probe, so the request waits as well and tries again a few times a second, for a shorter time. */
#include <stdio.h>
#include <sys/socket.h>

#include "proxy/proxy_priv.h"

#define ROUNDS_MAX 8 /* of 32 KB each way before others get their turn */
#define CONNECT_FAILED_NS 1000000000
#define REFUSED_RETRY_MS 200
#define INPUT_BYTES_MAX (HTTP_HEAD_BYTES_MAX + 2 * PROXY_BUFFER_BYTES)
#define OUTPUT_BYTES_MAX (4 * HTTP_HEAD_BYTES_MAX)

/* --- making and forgetting --- */

struct exchange *relay_exchange_new(struct client *client) {
    struct proxy *proxy = client->proxy;
    struct exchange *exchange = proxy->cache_count > 0 ? proxy->cache[--proxy->cache_count] : calloc(1, sizeof *exchange);
    if (!exchange)
        return NULL;
    exchange->client = client;
    list_init(&exchange->again);
    list_init(&exchange->held);
    exchange->input.bytes_max = exchange->response_input.bytes_max = INPUT_BYTES_MAX;
    exchange->request.bytes_max = exchange->response.bytes_max = OUTPUT_BYTES_MAX;
    client->exchange = exchange;
    return exchange;
}

/* Ends what the exchange holds of others. */
static void exchange_release(struct exchange *exchange) {
    struct proxy *proxy = exchange->client->proxy;
    if (exchange->link)
        link_close(exchange->link);
    if (!list_empty(&exchange->held)) {
        list_remove(&exchange->held);
        proxy->stats.requests_held--;
    }
    list_remove(&exchange->again);
    if (exchange->counted) {
        proxy->stats.requests_in_flight--;
        if (exchange->upstream)
            exchange->upstream->meter.in_flight--;
    }
    proxy_upstream_unref(TAKE(exchange->upstream));
}

static void buffer_empty(struct buffer *buffer) {
    buffer_reset(buffer);
    if (buffer->capacity > BUFFER_KEPT_BYTES)
        buffer_release(buffer);
}

/* Zero but for the memory of its buffers (the input with its bytes) and its lists. */
static void exchange_clear(struct exchange *exchange) {
    struct exchange cleared = {
        .client = exchange->client,
        .input = exchange->input,
        .request = exchange->request,
        .response_input = exchange->response_input,
        .response = exchange->response,
    };
    buffer_empty(&cleared.request);
    buffer_empty(&cleared.response_input);
    buffer_empty(&cleared.response);
    *exchange = cleared;
    list_init(&exchange->again);
    list_init(&exchange->held);
}

void exchange_reset(struct exchange *exchange) {
    exchange_release(exchange);
    exchange_clear(exchange);
}

void relay_exchange_free(struct exchange *exchange) {
    struct proxy *proxy = exchange->client->proxy;
    exchange_release(exchange);
    exchange->client->exchange = NULL;
    buffer_empty(&exchange->input);
    exchange_clear(exchange);
    if (proxy->cache_count < EXCHANGES_CACHED_MAX) {
        proxy->cache[proxy->cache_count++] = exchange;
        return;
    }
    buffer_deinit(&exchange->input);
    buffer_deinit(&exchange->request);
    buffer_deinit(&exchange->response_input);
    buffer_deinit(&exchange->response);
    free(exchange);
}

/* --- pages of our own --- */

static void page_write(struct exchange *exchange, int status, const char *message) {
    struct buffer *out = &exchange->response;
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(4 * KIB);
    buffer_printf(&body, "%d %s: %s\n", status, http1_reason(status), message);
    const char *connection = !exchange->keep_alive ? "Connection: close\r\n" : exchange->old_client ? "Connection: keep-alive\r\n" : "";
    buffer_printf(out, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n", status,
                  http1_reason(status), body.len);
    if (status == 503)
        buffer_append_slice(out, SLICE("Retry-After: 5\r\n"));
    if (status == 405)
        buffer_append_slice(out, SLICE("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"));
    if (exchange->request_id[0])
        buffer_printf(out, "X-Request-Id: %s\r\n", exchange->request_id);
    buffer_printf(out, "%s\r\n", connection);
    if (!exchange->head_request)
        buffer_append_slice(out, buffer_slice(&body));
}

void exchange_fail(struct exchange *exchange, int status, const char *format, ...) {
    if (exchange->response_started) {
        exchange->doomed = true;
        return;
    }
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (exchange->link)
        link_close(exchange->link);
    if (!list_empty(&exchange->held)) {
        list_remove(&exchange->held);
        exchange->client->proxy->stats.requests_held--;
    }
    if (!exchange->request_complete || exchange->client->proxy->draining)
        exchange->keep_alive = false;
    exchange->status = status;
    exchange->response_started = exchange->response_complete = true;
    page_write(exchange, status, message);
    if (buffer_error(&exchange->response) < 0)
        exchange->doomed = true;
}

/* --- beginning --- */

static void request_id_make(struct exchange *exchange) {
    static const char digits[] = "0123456789abcdef";
    uint64_t random[2] = {proxy_random(exchange->client->proxy), proxy_random(exchange->client->proxy)};
    for (int i = 0; i < 32; i++)
        exchange->request_id[i] = digits[random[i / 16] >> (i % 16 * 4) & 15];
}

/* Upgrades are passed on for requests without a body; not those to HTTP/2, which would smuggle requests past us. */
static bool upgrade_allowed(const struct http1_head *head) {
    return head->upgrade.len > 0 && head->framing == HTTP1_BODY_NONE && slice_is(head->method, "GET") &&
           !http1_list_has(head->upgrade, SLICE("h2c")) && !http1_list_has(head->upgrade, SLICE("h2"));
}

static void note_head(struct exchange *exchange, const struct http1_head *head) {
    struct proxy *proxy = exchange->client->proxy;
    proxy->stats.requests++;
    proxy->stats.requests_in_flight++;
    exchange->counted = true;
    if (++proxy->next_id == 0)
        proxy->next_id = 1;
    exchange->id = proxy->next_id;
    exchange->started_ns = loop_now_ns(proxy->loop);
    exchange->old_client = head->minor_version == 0;
    exchange->head_request = slice_is(head->method, "HEAD");
    exchange->idempotent = method_is_idempotent(head->method);
    exchange->keep_alive = head->keep_alive && !proxy->draining;
    exchange->replayable = true;
    exchange->request_framing = (uint8_t)head->framing;
    exchange->request_left = head->content_length;
    exchange->request_complete = head->framing == HTTP1_BODY_NONE || (head->framing == HTTP1_BODY_LENGTH && head->content_length == 0);
    exchange->upgrade = upgrade_allowed(head);
    request_id_make(exchange);
}

/* Finds the route; false when a page was written instead. */
static bool find_route(struct exchange *exchange, const struct http1_head *head) {
    struct proxy *proxy = exchange->client->proxy;
    char host_text[ROUTE_HOST_BYTES];
    struct slice host = {0}, path;
    if (slice_is(head->method, "CONNECT") || slice_is(head->method, "TRACE")) {
        exchange_fail(exchange, 405, "this gateway does not serve %.*s", SLICE_ARG(head->method));
    } else if (head->host.len > 0 && route_host_normalize(head->host, host_text, &host) < 0) {
        exchange->keep_alive = false;
        exchange_fail(exchange, 400, "the Host field is no host name");
    } else if (route_path_normalize(head->path, proxy->path_scratch, &path) < 0) {
        exchange->keep_alive = false;
        exchange_fail(exchange, 400, "the path is malformed");
    } else if (!proxy->routes) {
        exchange_fail(exchange, 503, "the gateway has not learned its routes yet");
    } else {
        const struct route_target *target = route_find(proxy->routes, host, path);
        if (!target)
            exchange_fail(exchange, 404, "no Ingress routes host \"%.*s\" and path \"%.*s\"", SLICE_ARG(host), (int)MIN(path.len, (size_t)200),
                          path.data);
        else if (!target->upstream)
            exchange_fail(exchange, 503, "the Ingress names the backend %s, which does not exist", target->backend);
        else
            exchange->upstream = proxy_upstream_ref(target->upstream);
    }
    return exchange->upstream != NULL;
}

void exchange_begin(struct exchange *exchange, const struct http1_head *head) {
    note_head(exchange, head);
    if (!find_route(exchange, head))
        return;
    exchange->upstream->meter.in_flight++;
    exchange->upstream->meter.bytes_in += head->bytes;
    char address[ADDRESS_TEXT_BYTES];
    const struct head_context context = {
        .client_address = slice_make(address, client_address_format(exchange->client, address)),
        .request_id = slice_make(exchange->request_id, 32),
        .secure = exchange->client->secure,
        .trust_forwarded = exchange->client->proxy->options.trust_forwarded,
        .upgrade = exchange->upgrade,
    };
    if (head_write_request(&exchange->request, head, &context) < 0)
        exchange_fail(exchange, 431, "the head is too large");
}

/* --- dispatching, holding, repeating --- */

/* refused: there are endpoints, but none takes the connection. */
static void exchange_hold(struct exchange *exchange, bool refused) {
    struct proxy *proxy = exchange->client->proxy;
    enum deadline_kind kind = refused ? DEADLINE_REFUSED : DEADLINE_HOLD;
    int64_t now = loop_now_ns(proxy->loop);
    if (exchange->held_since_ns == 0)
        exchange->held_since_ns = now;
    if (now - exchange->held_since_ns >= proxy->deadlines[kind].timeout_ns) {
        exchange_on_deadline(exchange, kind);
        return;
    }
    if (proxy->stats.requests_held >= proxy->options.holds_max) {
        exchange_fail(exchange, 503, "no instance of %s is ready and too many requests wait already", exchange->upstream->name);
        return;
    }
    proxy->stats.requests_held++;
    list_push(&exchange->upstream->held, &exchange->held);
    client_set_deadline(exchange->client, kind);
    if (refused && !loop_timer_is_set(&proxy->refused_timer))
        loop_timer_set(&proxy->refused_timer, REFUSED_RETRY_MS);
}

static void endpoint_failed(struct exchange *exchange, struct endpoint *endpoint) {
    struct proxy *proxy = exchange->client->proxy;
    proxy->stats.connect_failures++;
    endpoint->view.failed_until_ns = loop_now_ns(proxy->loop) + CONNECT_FAILED_NS;
    endpoint->view.tried_by = exchange->id;
}

void exchange_dispatch(struct exchange *exchange) {
    while (exchange->attempts < ATTEMPTS_MAX) {
        struct endpoint *endpoint = upstream_pick(exchange->upstream, exchange->id);
        if (!endpoint)
            break;
        exchange->attempts++;
        struct link *link;
        int error = link_open(endpoint, exchange->fresh_only, !exchange->idempotent, &link);
        if (error == 0) {
            exchange->link = link;
            link->exchange = exchange;
            client_set_deadline(exchange->client, DEADLINE_NONE);
            return;
        }
        if (error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS) {
            exchange_fail(exchange, 503, "the gateway is out of resources");
            return;
        }
        endpoint_failed(exchange, endpoint);
    }
    exchange_hold(exchange, upstream_pick(exchange->upstream, 0) != NULL);
}

void exchange_attempt_broke(struct exchange *exchange, bool timed_out) {
    struct link *link = exchange->link;
    const struct attempt attempt = {
        .connected = link->connected,
        .reused = link->reused,
        .bytes_taken = exchange->request_sent > 0,
        .answered = exchange->answered,
        .replayable = exchange->replayable,
        .timed_out = timed_out,
        .idempotent = exchange->idempotent,
        .attempts = exchange->attempts,
    };
    if (!link->connected)
        endpoint_failed(exchange, link->endpoint);
    else if (!link->reused)
        link->endpoint->view.tried_by = exchange->id;
    exchange->fresh_only |= link->reused;
    link_close(link);
    exchange->request_sent = 0;
    exchange->request_broken = false;
    if (attempt_may_retry(&attempt)) {
        exchange->client->proxy->stats.retries++;
        exchange_dispatch(exchange);
    } else if (!attempt.connected) {
        exchange_hold(exchange, true);
    } else if (timed_out) {
        exchange_fail(exchange, 504, "%s did not answer in time", exchange->upstream->name);
    } else if (attempt.answered) {
        exchange_fail(exchange, 502, "%s broke off in the middle of its answer's head", exchange->upstream->name);
    } else {
        exchange_fail(exchange, 502, "%s closed the connection before it answered", exchange->upstream->name);
    }
}

void upstream_hold_wake(struct proxy_upstream *upstream, bool refused_only) {
    struct proxy *proxy = upstream->proxy;
    struct list woken;
    list_init(&woken);
    while (!list_empty(&upstream->held))
        list_push(&woken, list_pop(&upstream->held));
    proxy_upstream_ref(upstream);
    for (struct list *node; (node = list_pop(&woken));) {
        struct exchange *exchange = CONTAINER_OF(node, struct exchange, held);
        if (refused_only && exchange->client->deadline_kind != DEADLINE_REFUSED) {
            list_push(&upstream->held, node);
            continue;
        }
        proxy->stats.requests_held--;
        exchange->attempts = 0;
        if (++proxy->next_id == 0)
            proxy->next_id = 1;
        exchange->id = proxy->next_id; /* endpoints that refused before may be tried again */
        exchange_dispatch(exchange);
        exchange_run(exchange);
    }
    proxy_upstream_unref(upstream);
}

void exchange_on_deadline(struct exchange *exchange, enum deadline_kind kind) {
    const char *name = exchange->upstream ? exchange->upstream->name : "the backend";
    switch (kind) {
    case DEADLINE_CONNECT:
    case DEADLINE_RESPONSE: exchange_attempt_broke(exchange, kind == DEADLINE_RESPONSE); break;
    case DEADLINE_HOLD: exchange_fail(exchange, 503, "no instance of %s became ready in time", name); break;
    case DEADLINE_REFUSED: exchange_fail(exchange, 502, "no instance of %s accepts connections: does it listen on this port?", name); break;
    case DEADLINE_TRANSFER:
        if (!exchange->request_complete)
            exchange_fail(exchange, 408, "the request's body did not arrive in time");
        else
            exchange_fail(exchange, 504, "%s did not take the request in time", name);
        break;
    default: exchange->doomed = true;
    }
}

/* --- running and ending --- */

static void exchange_meter(struct exchange *exchange) {
    struct proxy *proxy = exchange->client->proxy;
    struct meter *meter = exchange->upstream ? &exchange->upstream->meter : &proxy->unmatched;
    meter_count(meter, exchange->status, loop_now_ns(proxy->loop) - exchange->started_ns);
}

void exchange_abort(struct exchange *exchange) {
    struct client *client = exchange->client;
    exchange_meter(exchange);
    /* A body that ends with the connection must not look complete: reset. */
    if (exchange->response_started && !exchange->response_complete && !exchange->response_chunks && exchange->response_framing != HTTP1_BODY_LENGTH)
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    client_close(client);
}

static bool exchange_is_finished(const struct exchange *exchange) {
    if (exchange->response_sent < exchange->response.len)
        return false;
    return exchange->tunnel ? exchange->request_shut && exchange->response_shut : exchange->response_complete;
}

static void exchange_finish(struct exchange *exchange) {
    struct client *client = exchange->client;
    exchange_meter(exchange);
    struct link *link = exchange->link;
    if (link && exchange->upstream_reusable && exchange->request_complete && exchange->request_sent == exchange->request.len &&
        !exchange->request_broken)
        link_keep(link);
    else if (link)
        link_close(link);
    if (exchange->keep_alive && exchange->request_complete)
        client_next(client);
    else if (exchange->request_complete && !client->readable)
        client_close(client);
    else
        client_linger(client);
}

static enum deadline_kind deadline_of(const struct exchange *exchange) {
    if (exchange->link && !exchange->link->connected)
        return DEADLINE_CONNECT;
    if (exchange->tunnel)
        return exchange->request_complete || exchange->response_complete ? DEADLINE_TRANSFER : DEADLINE_TUNNEL;
    if (exchange->response_started || !exchange->request_complete || exchange->request_sent < exchange->request.len)
        return DEADLINE_TRANSFER;
    return DEADLINE_RESPONSE;
}

/* Nothing more moves for now: set the clock, and let go of big empty buffers. */
static void exchange_wait(struct exchange *exchange, bool moved) {
    if (exchange->response_sent == exchange->response.len) {
        buffer_empty(&exchange->response);
        exchange->response_sent = 0;
    }
    if (!exchange->replayable && exchange->request_sent == exchange->request.len) {
        buffer_empty(&exchange->request);
        exchange->request_sent = 0;
    }
    if (exchange->tunnel) {
        buffer_release(&exchange->response);
        buffer_release(&exchange->request);
    }
    if (!list_empty(&exchange->held))
        return;
    enum deadline_kind kind = deadline_of(exchange);
    if (kind != exchange->client->deadline_kind || (moved && kind != DEADLINE_CONNECT))
        client_set_deadline(exchange->client, kind);
}

void exchange_run(struct exchange *exchange) {
    struct client *client = exchange->client;
    if (client->state != CLIENT_EXCHANGE) {
        client_read_heads(client);
        return;
    }
    bool moved_ever = false;
    for (int rounds = 0;; rounds++) {
        bool left = client->hangup && exchange->request_complete && !exchange->tunnel && !exchange->response_complete;
        if (exchange->doomed || left) {
            exchange_abort(exchange);
            return;
        }
        bool moved = relay_request(exchange);
        moved |= relay_response(exchange);
        if (exchange_is_finished(exchange)) {
            exchange_finish(exchange);
            return;
        }
        if (!moved && !exchange->doomed)
            break;
        moved_ever = true;
        if (rounds >= ROUNDS_MAX) {
            proxy_again(client->proxy, exchange);
            break;
        }
    }
    exchange_wait(exchange, moved_ever);
}
