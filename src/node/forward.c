/* Forwarded ports. SPDY/3.1 streams, over the connection itself or within a WebSocket ("SPDY/3.1+portforward.k8s.io", kubectl ≥ 1.31). For each
 * connection the client opens two streams with the headers port and requestid: the first, streamtype error, is for our complaint, if any; the second,
 * streamtype data, is the connection. Client libraries speak a simpler form ("v4.channel.k8s.io"): the query names the ports, the n-th has channel 2n
 * for data and 2n+1 for our complaint, each begins with the port in two bytes, and the connection ends with the last port's.
 *
 *   OPEN error ─► a pipe ─── OPEN data ─► dial ─► bytes both ways ─┬─ the pod's end or an error ─► our ends of both streams; the pipe is gone
 *                                                                 └─ the client's end ─► our half of the connection is shut once all is written
 *
 * Back-pressure: a pod that does not read pauses the whole link (the client knows no windows), a client that does not read pauses reading from all
 * pods. A descriptor about which nothing is to be learned is taken out of the loop: epoll tells of hang-ups whether one asks or not. */
#include "node/forward_priv.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "node/spdylink_priv.h"
#include "sys/sys.h"

#define PIPES_MAX 500 /* a browser or a load test behind one `kubectl port-forward` */
#define PORTS_MAX 100 /* in the simpler form, which numbers channels by one byte */
#define STREAMS_MAX (2 * PIPES_MAX + 16)
#define READ_BYTES (32 * KIB)
#define WAITING_BYTES_MAX (256 * KIB)
#define INPUT_BYTES_MAX (4 * MIB) /* what may come after the link was paused */

struct pipe {
    struct list node;
    struct forward *forward;
    uint64_t request;
    uint32_t error_stream, data_stream; /* 0: not opened yet */
    uint16_t port;
    int fd;
    struct loop_io *io;
    bool connecting, input_ended;
    struct buffer input; /* for the pod */
};

struct forward {
    struct loop *loop;
    struct spdylink *link;    /* this, */
    struct websocket *socket; /* or channels: then a stream's number is its channel's plus one */
    struct podnet *podnet;
    struct podnet_pod net;
    char name[300];
    struct list pipes;
    size_t count;
    bool client_full;
    void (*on_close)(void *userdata);
    void *userdata;
};

static void pipe_free(struct pipe *pipe) {
    list_remove(&pipe->node);
    pipe->forward->count--;
    loop_io_free(pipe->io);
    if (pipe->fd >= 0)
        close(pipe->fd);
    buffer_deinit(&pipe->input);
    free(pipe);
}

/* --- the client's streams, in either form --- */

static int client_send(struct forward *forward, uint32_t stream, struct slice bytes, bool is_last) {
    if (forward->link)
        return spdylink_send(forward->link, stream, bytes, is_last);
    if (!bytes.len)
        return 0; /* a channel has no end of its own */
    char message[READ_BYTES + 1] = {(char)(stream - 1)};
    ASSERT(bytes.len <= READ_BYTES);
    memcpy(message + 1, bytes.data, bytes.len);
    return websocket_send(forward->socket, true, slice_make(message, bytes.len + 1));
}

static size_t client_pending(const struct forward *forward) {
    return forward->link ? spdylink_pending(forward->link) : websocket_pending(forward->socket);
}

static void client_pause(struct forward *forward, bool pause) {
    if (forward->link)
        (pause ? spdylink_pause : spdylink_resume)(forward->link);
    else if (forward->socket)
        (pause ? websocket_pause : websocket_resume)(forward->socket);
}

/* Resumes the client when no pod has too much to read. */
static void resume_client(struct forward *forward) {
    LIST_FOREACH(it, &forward->pipes)
    if (CONTAINER_OF(it, struct pipe, node)->input.len > WAITING_BYTES_MAX)
        return;
    client_pause(forward, false);
}

/* Both streams end, the first with an explanation when there is one; the pipe is gone. */
static void pipe_end(struct pipe *pipe, const char *complaint) {
    struct forward *forward = pipe->forward;
    if (pipe->data_stream)
        client_send(forward, pipe->data_stream, (struct slice){0}, true);
    client_send(forward, pipe->error_stream, slice_of(complaint), true);
    pipe_free(pipe);
    if (forward->socket && !forward->count)
        websocket_close(forward->socket, 1000, "");
    else
        resume_client(forward);
}

static void pipe_fail(struct pipe *pipe, int error) {
    char text[500];
    snprintf(text, sizeof text, "error forwarding port %u to pod %s: failed to connect to 127.0.0.1:%u inside the pod: %s", pipe->port,
             pipe->forward->name, pipe->port, strerror(-error));
    pipe_end(pipe, text);
}

/* --- the pod's side --- */

static void on_ready(void *userdata, uint32_t events);

static void watch(struct pipe *pipe) {
    uint32_t events = pipe->connecting || pipe->input.len ? EPOLLOUT : 0;
    if (!pipe->connecting && !pipe->forward->client_full)
        events |= EPOLLIN;
    if (events && pipe->io) {
        loop_io_set(pipe->io, events);
    } else if (events) {
        if (loop_io_new(pipe->forward->loop, pipe->fd, events, on_ready, pipe, &pipe->io) < 0)
            pipe_end(pipe, "out of memory");
    } else {
        loop_io_free(pipe->io);
        pipe->io = NULL;
    }
}

/* False when the pipe is gone. */
static bool write_input(struct pipe *pipe) {
    while (pipe->input.len) {
        ssize_t n = send(pipe->fd, pipe->input.data, pipe->input.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n < 0) {
            pipe_end(pipe, "");
            return false;
        }
        buffer_consume(&pipe->input, (size_t)n);
    }
    buffer_release(&pipe->input);
    if (pipe->input_ended)
        shutdown(pipe->fd, SHUT_WR);
    resume_client(pipe->forward);
    return true;
}

static bool read_output(struct pipe *pipe) {
    struct forward *forward = pipe->forward;
    char bytes[READ_BYTES];
    ssize_t n = recv(pipe->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0 || client_send(forward, pipe->data_stream, slice_make(bytes, (size_t)n), false) < 0) {
        pipe_end(pipe, "");
        return false;
    }
    forward->client_full = client_pending(forward) > WAITING_BYTES_MAX;
    return true;
}

static void on_ready(void *userdata, uint32_t events) {
    struct pipe *pipe = userdata;
    if (pipe->connecting) {
        int error = 0;
        socklen_t len = sizeof error;
        if (getsockopt(pipe->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error)
            return pipe_fail(pipe, error ? -error : -errno);
        pipe->connecting = false;
    }
    if ((events & EPOLLOUT) && !write_input(pipe))
        return;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !pipe->forward->client_full && !read_output(pipe))
        return;
    watch(pipe);
}

/* --- the client's side --- */

static struct pipe *find(struct forward *forward, uint64_t request) {
    LIST_FOREACH(it, &forward->pipes)
    if (CONTAINER_OF(it, struct pipe, node)->request == request)
        return CONTAINER_OF(it, struct pipe, node);
    return NULL;
}

static struct pipe *find_stream(struct forward *forward, uint32_t stream) {
    LIST_FOREACH(it, &forward->pipes)
    if (CONTAINER_OF(it, struct pipe, node)->data_stream == stream)
        return CONTAINER_OF(it, struct pipe, node);
    return NULL;
}

static struct pipe *pipe_new(struct forward *forward, uint64_t request, uint16_t port, uint32_t stream) {
    struct pipe *pipe = forward->count < PIPES_MAX ? calloc(1, sizeof *pipe) : NULL;
    if (!pipe)
        return NULL;
    *pipe = (struct pipe){.forward = forward, .request = request, .port = port, .error_stream = stream, .fd = -1};
    buffer_init(&pipe->input, INPUT_BYTES_MAX);
    list_push(&forward->pipes, &pipe->node);
    forward->count++;
    return pipe;
}

static void dial(struct pipe *pipe, uint32_t stream) {
    pipe->data_stream = stream;
    pipe->connecting = true;
    pipe->fd = podnet_connect(pipe->forward->podnet, &pipe->forward->net, pipe->port);
    if (pipe->fd < 0)
        pipe_fail(pipe, pipe->fd);
    else
        watch(pipe);
}

static void open_stream(struct forward *forward, const struct spdy_event *event) {
    uint64_t request, port;
    struct slice type = spdy_event_header(event, "streamtype");
    bool good = slice_parse_u64(spdy_event_header(event, "requestid"), UINT64_MAX, &request) == 0 &&
                slice_parse_u64(spdy_event_header(event, "port"), UINT16_MAX, &port) == 0 && port > 0;
    struct pipe *pipe = good ? find(forward, request) : NULL;
    bool is_error = slice_is(type, "error") && !pipe, is_data = slice_is(type, "data") && pipe && !pipe->data_stream && pipe->port == port;
    if (good && is_error)
        pipe = pipe_new(forward, request, (uint16_t)port, event->stream);
    if (!good || !pipe || (!is_error && !is_data))
        return spdylink_reset(forward->link, event->stream, SPDY_REFUSED_STREAM);
    spdylink_reply(forward->link, event->stream);
    if (is_data)
        dial(pipe, event->stream);
}

static void take_input(struct pipe *pipe, struct slice bytes, bool is_last) {
    if (buffer_append_slice(&pipe->input, bytes) < 0)
        return pipe_end(pipe, "too much waits for the pod");
    pipe->input_ended = is_last;
    if (!pipe->connecting && !write_input(pipe))
        return;
    if (pipe->input.len > WAITING_BYTES_MAX)
        client_pause(pipe->forward, true);
    watch(pipe);
}

static void on_event(void *userdata, const struct spdy_event *event) {
    struct forward *forward = userdata;
    if (event->type == SPDY_EVENT_OPEN)
        return open_stream(forward, event);
    struct pipe *pipe = find_stream(forward, event->stream);
    if (pipe && event->type == SPDY_EVENT_DATA)
        take_input(pipe, event->payload, event->is_last);
    else if (pipe && event->type == SPDY_EVENT_RESET)
        pipe_end(pipe, "");
}

static void on_drained(void *userdata) {
    struct forward *forward = userdata;
    forward->client_full = false;
    LIST_FOREACH(it, &forward->pipes) {
        struct pipe *pipe = CONTAINER_OF(it, struct pipe, node);
        if (pipe->fd >= 0)
            watch(pipe);
    }
}

static void on_link_close(void *userdata) {
    struct forward *forward = userdata;
    forward->on_close(forward->userdata);
}

/* --- channels --- */

static void on_socket_message(void *userdata, __attribute__((unused)) bool binary, struct slice message) {
    struct forward *forward = userdata;
    struct pipe *pipe = message.len ? find_stream(forward, (uint8_t)message.data[0] + 1u) : NULL;
    if (pipe) /* what comes after the pod's end is dropped */
        take_input(pipe, slice_from(message, 1), false);
}

static void on_socket_close(void *userdata, __attribute__((unused)) int code) {
    on_link_close(userdata);
}

/* Names the port on both channels, and dials. */
static void open_channels(struct forward *forward, uint16_t port) {
    uint32_t data = 2 * (uint32_t)forward->count + 1;
    const char bytes[] = {(char)(port & 0xff), (char)(port >> 8)};
    struct pipe *pipe = pipe_new(forward, data, port, data + 1);
    if (!pipe)
        return websocket_close(forward->socket, 1011, "out of memory");
    client_send(forward, data, slice_make(bytes, sizeof bytes), false);
    client_send(forward, data + 1, slice_make(bytes, sizeof bytes), false);
    pipe->data_stream = data;
}

/* The ports that a query names, once each or parted by commas. -EINVAL: not a port, or none, or too many. */
static int read_ports(const struct query *query, uint16_t *ret, size_t *ret_count) {
    size_t count = 0;
    for (size_t i = 0; i < query->count; i++) {
        struct slice rest = query->items[i].value;
        while (slice_is(query->items[i].key, "ports") && rest.len) {
            uint64_t port;
            if (count == PORTS_MAX || slice_parse_u64(slice_cut(&rest, ','), UINT16_MAX, &port) || !port)
                return -EINVAL;
            ret[count++] = (uint16_t)port;
        }
    }
    *ret_count = count;
    return count ? 0 : -EINVAL;
}

static void dial_all(struct forward *forward) {
    LIST_FOREACH(it, &forward->pipes) {
        struct pipe *pipe = CONTAINER_OF(it, struct pipe, node);
        dial(pipe, pipe->data_stream);
    }
}

static int accept_channels(struct http_exchange *exchange, const struct query *query, struct forward *forward) {
    static const char *const protocols[] = {"v4.channel.k8s.io", NULL};
    static const struct websocket_callbacks callbacks = {.on_message = on_socket_message, .on_drained = on_drained, .on_close = on_socket_close};
    uint16_t ports[PORTS_MAX];
    size_t count;
    const char *protocol;
    if (read_ports(query, ports, &count) < 0) {
        http_respond_text(exchange, 400, "the query must name the ports: ?ports=8080, each from 1 to 65535\n");
        return -EINVAL;
    }
    int r = websocket_accept(exchange, protocols, INPUT_BYTES_MAX, &callbacks, forward, &protocol, &forward->socket);
    for (size_t i = 0; r == 0 && i < count; i++)
        open_channels(forward, ports[i]);
    if (r == 0)
        dial_all(forward);
    return r;
}

/* --- accepting --- */

#define TUNNEL_PROTOCOL "SPDY/3.1+portforward.k8s.io"

static int accept_any(struct http_exchange *exchange, const struct query *query, struct forward *forward) {
    static const char *const protocols[] = {"portforward.k8s.io", NULL};
    static const struct spdylink_callbacks callbacks = {.on_event = on_event, .on_drained = on_drained, .on_close = on_link_close};
    if (!websocket_is_upgrade(exchange))
        return spdylink_accept(exchange, protocols, STREAMS_MAX, &callbacks, forward, &forward->link);
    if (http1_list_has(http_header(exchange, "Sec-WebSocket-Protocol"), SLICE(TUNNEL_PROTOCOL)))
        return spdylink_accept_websocket(exchange, TUNNEL_PROTOCOL, STREAMS_MAX, &callbacks, forward, &forward->link);
    return accept_channels(exchange, query, forward);
}

bool forward_is_upgrade(const struct http_exchange *exchange) {
    return websocket_is_upgrade(exchange) || spdylink_is_upgrade(exchange);
}

int forward_accept(struct http_exchange *exchange, const struct query *query, const struct forward_target *target, void (*on_close)(void *userdata),
                   void *userdata, struct forward **ret) {
    struct forward *forward = calloc(1, sizeof *forward);
    if (!forward) {
        http_respond_text(exchange, 500, "out of memory\n");
        return -ENOMEM;
    }
    *forward = (struct forward){
        .loop = http_exchange_loop(exchange), .podnet = target->podnet, .net = target->net, .on_close = on_close, .userdata = userdata};
    snprintf(forward->name, sizeof forward->name, "%s", target->name);
    list_init(&forward->pipes);
    int r = accept_any(exchange, query, forward);
    if (r < 0)
        forward_free(forward);
    else
        *ret = forward;
    return r;
}

void forward_free(struct forward *forward) {
    if (!forward)
        return;
    LIST_FOREACH(it, &forward->pipes)
    pipe_free(CONTAINER_OF(it, struct pipe, node));
    spdylink_free(forward->link);
    websocket_free(forward->socket);
    free(forward);
}
