/* Client connections: from accept to close, and the heads on them.
 *
 *   IDLE ──first byte──► HEAD ──head complete──► EXCHANGE ──response sent──► IDLE (or HEAD when more was pipelined)
 *     │                   │ bad, too large, too slow: a page           │ Connection: close
 *     └──deadline──► closed ◄────────── LINGER ◄──────────────────────┘
 *
 * LINGER: we have sent our last byte and closed our direction; what the peer still sends is read and dropped for a while, since closing with unread
 * bytes makes the kernel send a reset that may destroy the answer before the peer has read it.
 *
 * Invariants: (1) an IDLE client has no exchange and no buffer; (2) a client has exactly one deadline, of the kind of its state; (3) bytes are read
 * into the proxy's scratch and copied to the exchange only when they are not used up at once. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "proxy/proxy_priv.h"

#define LINGER_BYTES_MAX (1 * MIB)

int downstream_new(struct proxy *proxy, int fd, bool secure, const struct sockaddr_storage *address) {
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        return -ENOMEM;
    client->proxy = proxy;
    client->fd = fd;
    client->secure = secure;
    client->writable = true;
    client->family = (uint8_t)address->ss_family;
    if (address->ss_family == AF_INET)
        memcpy(client->address, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
    else if (address->ss_family == AF_INET6)
        memcpy(client->address, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
    int error = loop_io_new(proxy->loop, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, client_on_ready, client, &client->io);
    if (error < 0) {
        free(client);
        return error;
    }
    list_init(&client->deadline.node);
    list_push(&proxy->clients, &client->node);
    proxy->stats.connections++;
    proxy->stats.connections_idle++;
    proxy->stats.accepted++;
    client_set_deadline(client, DEADLINE_HEAD); /* who connects and says nothing gets no more time than a head */
    return 0;
}

size_t client_address_format(const struct client *client, char text[ADDRESS_TEXT_BYTES]) {
    const uint8_t *bytes = client->address;
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (client->family == AF_INET6 && memcmp(bytes, mapped, 12) == 0)
        bytes += 12;
    else if (client->family == AF_INET6) {
        inet_ntop(AF_INET6, bytes, text, ADDRESS_TEXT_BYTES);
        return strlen(text);
    } else if (client->family != AF_INET) {
        memcpy(text, "unknown", 8);
        return 7;
    }
    char *at = text;
    for (int i = 0; i < 4; i++) {
        unsigned byte = bytes[i];
        if (byte >= 100)
            *at++ = (char)('0' + byte / 100);
        if (byte >= 10)
            *at++ = (char)('0' + byte / 10 % 10);
        *at++ = (char)('0' + byte % 10);
        *at++ = '.';
    }
    *--at = 0;
    return (size_t)(at - text);
}

static void client_set_state(struct client *client, enum client_state state) {
    if (client->state == CLIENT_IDLE)
        client->proxy->stats.connections_idle--;
    client->state = (uint8_t)state;
    if (state == CLIENT_IDLE)
        client->proxy->stats.connections_idle++;
}

void client_set_deadline(struct client *client, enum deadline_kind kind) {
    client->deadline_kind = (uint8_t)kind;
    if (kind == DEADLINE_NONE)
        list_remove(&client->deadline.node);
    else
        deadline_arm(&client->proxy->deadlines[kind], &client->deadline);
}

void client_close(struct client *client) {
    struct proxy *proxy = client->proxy;
    if (client->exchange)
        relay_exchange_free(client->exchange);
    client_set_state(client, CLIENT_LINGER);
    list_remove(&client->node);
    list_remove(&client->deadline.node);
    loop_io_free(client->io);
    close(client->fd);
    free(client);
    proxy->stats.connections--;
    proxy_on_client_gone(proxy);
}

/* --- lingering --- */

static void linger_read(struct client *client) {
    for (size_t total = 0; total < LINGER_BYTES_MAX;) {
        ssize_t len = recv(client->fd, client->proxy->scratch, sizeof client->proxy->scratch, 0);
        if (len < 0 && errno == EAGAIN)
            return;
        if (len <= 0)
            break;
        total += (size_t)len;
    }
    client_close(client);
}

void client_linger(struct client *client) {
    if (client->exchange)
        relay_exchange_free(client->exchange);
    client_set_state(client, CLIENT_LINGER);
    client_set_deadline(client, DEADLINE_LINGER);
    shutdown(client->fd, SHUT_WR);
    linger_read(client);
}

/* --- heads --- */

static void head_refused(struct client *client, const struct http1_error *error) {
    struct exchange *exchange = client->exchange;
    client_set_state(client, CLIENT_EXCHANGE);
    client->proxy->stats.malformed++;
    exchange->keep_alive = false;
    exchange_fail(exchange, error->status, "%s", error->reason);
    exchange_run(exchange);
}

/* Takes a head off the bytes, which are the scratch or the exchange's input. False: more bytes are needed. */
static bool head_take(struct client *client, struct slice bytes, bool from_input) {
    struct exchange *exchange = client->exchange;
    struct http1_field fields[HTTP_HEADERS_MAX];
    struct http1_head head;
    struct http1_error error;
    enum http1_result result = http1_parse_request(&exchange->scan, bytes, fields, &head, &error);
    if (result == HTTP1_BAD) {
        head_refused(client, &error);
        return true;
    }
    if (result == HTTP1_MORE) {
        if (!from_input && buffer_append_slice(&exchange->input, bytes) < 0) {
            client_close(client);
            return true;
        }
        if (client->deadline_kind != DEADLINE_HEAD)
            client_set_deadline(client, DEADLINE_HEAD);
        return false;
    }
    client_set_state(client, CLIENT_EXCHANGE);
    exchange_begin(exchange, &head);
    ptrdiff_t used = exchange->response_started ? 0 : relay_take_body(exchange, slice_from(bytes, head.bytes));
    if (used < 0) {
        head_refused(client, &(struct http1_error){400, "the chunked body is malformed"});
        return true;
    }
    used += (ptrdiff_t)head.bytes;
    if (from_input)
        buffer_consume(&exchange->input, (size_t)used);
    else if ((size_t)used < bytes.len && buffer_append_slice(&exchange->input, slice_from(bytes, (size_t)used)) < 0)
        exchange_fail(exchange, 500, "out of memory");
    if (!exchange->response_started)
        exchange_dispatch(exchange);
    exchange_run(exchange);
    return true;
}

enum head_read { HEAD_READ_GONE, HEAD_READ_NOTHING, HEAD_READ_BYTES };

static enum head_read head_read(struct client *client, struct slice *ret) {
    struct proxy *proxy = client->proxy;
    if (!client->readable)
        return HEAD_READ_NOTHING;
    ssize_t len = recv(client->fd, proxy->scratch, sizeof proxy->scratch, 0);
    if (len < 0 && errno == EAGAIN) {
        client->readable = false;
        return HEAD_READ_NOTHING;
    }
    if (len <= 0) {
        client_close(client);
        return HEAD_READ_GONE;
    }
    if ((size_t)len < sizeof proxy->scratch && !client->hangup)
        client->readable = false; /* a short read emptied the socket; what comes later is a new edge */
    *ret = slice_make(proxy->scratch, (size_t)len);
    return HEAD_READ_BYTES;
}

/* Nothing more to read: a connection that waits with an empty hand is idle. */
static void head_wait(struct client *client) {
    if (!client->exchange || client->exchange->input.len > 0)
        return;
    relay_exchange_free(client->exchange);
    client_set_state(client, CLIENT_IDLE);
    client_set_deadline(client, DEADLINE_IDLE);
    proxy_on_client_idle(client->proxy);
}

void client_read_heads(struct client *client) {
    struct exchange *exchange = client->exchange;
    if (exchange && exchange->input.len > 0 && head_take(client, buffer_slice(&exchange->input), true))
        return;
    struct slice bytes;
    enum head_read read;
    while ((read = head_read(client, &bytes)) == HEAD_READ_BYTES) {
        if (!client->exchange && !relay_exchange_new(client)) {
            client_close(client);
            return;
        }
        exchange = client->exchange;
        client_set_state(client, CLIENT_HEAD);
        bool from_input = exchange->input.len > 0;
        if (from_input) {
            if (buffer_append_slice(&exchange->input, bytes) < 0) {
                client_close(client);
                return;
            }
            bytes = buffer_slice(&exchange->input);
        }
        if (head_take(client, bytes, from_input))
            return;
    }
    if (read == HEAD_READ_NOTHING)
        head_wait(client);
}

void client_next(struct client *client) {
    struct exchange *exchange = client->exchange;
    if (exchange->input.len == 0 && !client->readable) {
        relay_exchange_free(exchange);
        client_set_state(client, CLIENT_IDLE);
        client_set_deadline(client, DEADLINE_IDLE);
        proxy_on_client_idle(client->proxy);
        return;
    }
    exchange_reset(exchange);
    client_set_state(client, CLIENT_HEAD);
    client_set_deadline(client, DEADLINE_HEAD);
    proxy_again(client->proxy, exchange); /* not now: a thousand pipelined requests must not nest */
}

void client_on_ready(void *userdata, uint32_t events) {
    struct client *client = userdata;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        client->readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        client->hangup = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        client->writable = true;
    switch ((enum client_state)client->state) {
    case CLIENT_IDLE:
    case CLIENT_HEAD:
        if (client->readable)
            client_read_heads(client);
        break;
    case CLIENT_EXCHANGE: exchange_run(client->exchange); break;
    case CLIENT_LINGER:
        if (client->readable)
            linger_read(client);
        break;
    }
}

void client_on_deadline(struct client *client) {
    if (client->state == CLIENT_EXCHANGE) {
        exchange_on_deadline(client->exchange, (enum deadline_kind)client->deadline_kind);
        exchange_run(client->exchange);
    } else if (client->state == CLIENT_HEAD) {
        client->exchange->keep_alive = false;
        client_set_state(client, CLIENT_EXCHANGE);
        exchange_fail(client->exchange, 408, "the request's head did not arrive in time");
        exchange_run(client->exchange);
    } else {
        client_close(client);
    }
}
