/* Streams of exec and attach.
 *
 * WebSocket, in the dialects of the table below: each binary message starts with its channel's number; v5 adds 255 N: channel N is closed, which is
 * how standard input ends. The server first sends an empty message on the lowest output channel, which tells the client that the streams are open.
 * Consoles in browsers like base64: text messages, the channel as a digit. Before v4 (or when no dialect is named) the result is only a failure's
 * words.
 *
 * SPDY/3.1, "v4.channel.k8s.io" (all that kubectl ≤ 1.29 speaks; v5 is the same there): the client opens one stream per channel, named by its header
 * "streamtype": error, stdin, stdout, stderr, resize. The command starts when all that the request asked for are there, at most STREAMS_WAIT_MS after
 * the upgrade. Standard input ends with its stream. Sizes are JSON documents, one a line, which need not come frame by frame. */
#include "node/remote_priv.h"

#include "codec/codec.h"
#include "node/spdylink_priv.h"

#define MESSAGE_BYTES_MAX (1 * MIB)
#define STREAMS_WAIT_MS 30000
#define RESIZE_BYTES_MAX 1024

static const struct dialect {
    const char *name;
    bool closes, base64, words;
} dialects[] = {{.name = "v5.channel.k8s.io", .closes = true},
                {.name = "v4.channel.k8s.io"},
                {.name = "v4.base64.channel.k8s.io", .base64 = true},
                {.name = "channel.k8s.io", .words = true},
                {.name = "base64.channel.k8s.io", .base64 = true, .words = true},
                {.words = true}};

struct remote {
    struct websocket *socket; /* one of the two */
    struct spdylink *link;
    struct remote_options options;
    struct remote_callbacks callbacks;
    void *userdata;
    const struct dialect *dialect; /* of the WebSocket */
    bool ready;
    uint32_t streams[REMOTE_CHANNELS]; /* 0: not there yet, or gone */
    struct buffer resize;
    struct loop_timer timer;
};

static void be_ready(struct remote *remote) {
    remote->ready = true;
    loop_timer_cancel(&remote->timer);
    remote->callbacks.on_ready(remote->userdata);
}

static void on_drained(void *userdata) {
    struct remote *remote = userdata;
    remote->callbacks.on_drained(remote->userdata);
}

static void on_link_close(void *userdata) {
    struct remote *remote = userdata;
    loop_timer_cancel(&remote->timer);
    remote->callbacks.on_close(remote->userdata);
}

/* --- WebSocket --- */

static void on_socket_close(void *userdata, __attribute__((unused)) int code) {
    on_link_close(userdata);
}

static void on_message(void *userdata, __attribute__((unused)) bool binary, struct slice message) {
    struct remote *remote = userdata;
    CLEANUP(buffer_deinit) struct buffer decoded = BUFFER_INIT(MESSAGE_BYTES_MAX);
    unsigned char channel = message.len ? (unsigned char)message.data[0] : 99;
    struct slice data = slice_from(message, 1);
    if (remote->dialect->base64) {
        channel = (unsigned char)(channel - '0');
        if (base64_decode(&decoded, data) < 0)
            return websocket_close(remote->socket, 1007, "this is not base64");
        data = buffer_slice(&decoded);
    }
    if (channel == REMOTE_STDIN || channel == REMOTE_RESIZE)
        remote->callbacks.on_data(remote->userdata, channel, data, false);
    else if (channel == 255 && remote->dialect->closes && data.len && data.data[0] == REMOTE_STDIN)
        remote->callbacks.on_data(remote->userdata, REMOTE_STDIN, (struct slice){0}, true);
}

static void send_message(struct remote *remote, enum remote_channel channel, struct slice data) {
    bool base64 = remote->dialect->base64;
    CLEANUP(buffer_deinit) struct buffer message = BUFFER_INIT(2 * MESSAGE_BYTES_MAX);
    buffer_append_byte(&message, (char)(base64 ? '0' + channel : channel));
    if (base64)
        base64_encode(&message, data);
    else
        buffer_append_slice(&message, data);
    if (remote->socket && buffer_error(&message) == 0)
        websocket_send(remote->socket, !base64, buffer_slice(&message));
}

static int accept_websocket(struct remote *remote, struct http_exchange *exchange) {
    static const struct websocket_callbacks callbacks = {.on_message = on_message, .on_drained = on_drained, .on_close = on_socket_close};
    const char *protocols[ARRAY_LEN(dialects)] = {NULL}, *protocol = NULL; /* the last one has no name: the end */
    for (size_t i = 0; dialects[i].name; i++)
        protocols[i] = dialects[i].name;
    int r = websocket_accept(exchange, protocols, MESSAGE_BYTES_MAX, &callbacks, remote, &protocol, &remote->socket);
    if (r < 0)
        return r;
    remote->dialect = dialects;
    while (remote->dialect->name && (!protocol || strcmp(remote->dialect->name, protocol) != 0))
        remote->dialect++;
    const bool *wants = remote->options.wants;
    send_message(remote, wants[REMOTE_STDOUT] ? REMOTE_STDOUT : wants[REMOTE_STDERR] ? REMOTE_STDERR : REMOTE_RESULT, (struct slice){0});
    return 0;
}

/* --- SPDY --- */

static void on_timer(void *userdata) {
    struct remote *remote = userdata;
    spdylink_finish(remote->link); /* the client did not open what it asked for */
}

static void open_stream(struct remote *remote, const struct spdy_event *event) {
    static const char *const names[REMOTE_CHANNELS] = {"stdin", "stdout", "stderr", "error", "resize"};
    struct slice type = spdy_event_header(event, "streamtype");
    size_t channel = 0;
    while (channel < REMOTE_CHANNELS && !slice_is(type, names[channel]))
        channel++;
    if (channel == REMOTE_CHANNELS || remote->ready || remote->streams[channel] || !remote->options.wants[channel]) {
        spdylink_reset(remote->link, event->stream, SPDY_REFUSED_STREAM);
        return;
    }
    remote->streams[channel] = event->stream;
    spdylink_reply(remote->link, event->stream);
    for (size_t i = 0; i < REMOTE_CHANNELS; i++)
        if (remote->options.wants[i] && !remote->streams[i])
            return;
    be_ready(remote);
}

static void take_sizes(struct remote *remote, struct slice data) {
    if (buffer_append_slice(&remote->resize, data) < 0) {
        buffer_reset(&remote->resize); /* no such line is a size */
        return;
    }
    ptrdiff_t end;
    while ((end = slice_index(buffer_slice(&remote->resize), '\n')) >= 0) {
        remote->callbacks.on_data(remote->userdata, REMOTE_RESIZE, slice_head(buffer_slice(&remote->resize), (size_t)end), false);
        buffer_consume(&remote->resize, (size_t)end + 1);
    }
}

static void on_event(void *userdata, const struct spdy_event *event) {
    struct remote *remote = userdata;
    if (event->type == SPDY_EVENT_OPEN)
        return open_stream(remote, event);
    bool is_reset = event->type == SPDY_EVENT_RESET;
    for (size_t i = 0; is_reset && i < REMOTE_CHANNELS && remote->ready; i++)
        if (remote->streams[i] == event->stream && i != REMOTE_STDIN)
            remote->streams[i] = 0;
    if (event->stream == remote->streams[REMOTE_STDIN] && (event->payload.len || event->is_last || is_reset))
        remote->callbacks.on_data(remote->userdata, REMOTE_STDIN, event->payload, event->is_last || is_reset);
    else if (event->stream == remote->streams[REMOTE_RESIZE])
        take_sizes(remote, event->payload);
}

static int accept_spdy(struct remote *remote, struct http_exchange *exchange) {
    static const char *const protocols[] = {"v4.channel.k8s.io", "v5.channel.k8s.io", NULL};
    static const struct spdylink_callbacks callbacks = {.on_event = on_event, .on_drained = on_drained, .on_close = on_link_close};
    loop_timer_set(&remote->timer, STREAMS_WAIT_MS);
    return spdylink_accept(exchange, protocols, 2 * REMOTE_CHANNELS, &callbacks, remote, &remote->link);
}

/* --- both --- */

bool remote_is_upgrade(const struct http_exchange *exchange) {
    return websocket_is_upgrade(exchange) || spdylink_is_upgrade(exchange);
}

int remote_accept(struct http_exchange *exchange, const struct remote_options *options, const struct remote_callbacks *callbacks, void *userdata,
                  struct remote **ret) {
    struct remote *remote = calloc(1, sizeof *remote);
    if (!remote) {
        http_respond_text(exchange, 500, "out of memory\n");
        return -ENOMEM;
    }
    *remote = (struct remote){.options = *options, .callbacks = *callbacks, .userdata = userdata};
    remote->options.wants[REMOTE_RESULT] = true;
    buffer_init(&remote->resize, RESIZE_BYTES_MAX);
    loop_timer_init(&remote->timer, http_exchange_loop(exchange), on_timer, remote);
    bool is_websocket = websocket_is_upgrade(exchange);
    int r = is_websocket ? accept_websocket(remote, exchange) : accept_spdy(remote, exchange);
    if (r < 0) {
        remote_free(remote);
        return r;
    }
    *ret = remote;
    if (is_websocket)
        be_ready(remote);
    return 0;
}

void remote_send(struct remote *remote, enum remote_channel channel, struct slice data) {
    if (!remote->options.wants[channel])
        return;
    if (remote->socket)
        send_message(remote, channel, data);
    else if (remote->streams[channel])
        spdylink_send(remote->link, remote->streams[channel], data, false);
}

size_t remote_pending(const struct remote *remote) {
    return remote->socket ? websocket_pending(remote->socket) : spdylink_pending(remote->link);
}

void remote_pause(struct remote *remote) {
    if (remote->socket)
        websocket_pause(remote->socket);
    else
        spdylink_pause(remote->link);
}

void remote_resume(struct remote *remote) {
    if (remote->socket)
        websocket_resume(remote->socket);
    else
        spdylink_resume(remote->link);
}

void remote_finish(struct remote *remote, struct slice status, struct slice words) {
    static const enum remote_channel outputs[] = {REMOTE_STDOUT, REMOTE_STDERR, REMOTE_STDIN, REMOTE_RESIZE};
    bool only_words = remote->socket && remote->dialect->words;
    if (!only_words || words.len)
        remote_send(remote, REMOTE_RESULT, only_words ? words : status);
    if (remote->socket)
        return websocket_close(remote->socket, 1000, "");
    for (size_t i = 0; i < ARRAY_LEN(outputs); i++)
        if (remote->streams[outputs[i]])
            spdylink_send(remote->link, remote->streams[outputs[i]], (struct slice){0}, true);
    if (remote->streams[REMOTE_RESULT])
        spdylink_send(remote->link, remote->streams[REMOTE_RESULT], (struct slice){0}, true);
    spdylink_finish(remote->link);
}

void remote_free(struct remote *remote) {
    if (!remote)
        return;
    loop_timer_cancel(&remote->timer);
    websocket_free(remote->socket);
    spdylink_free(remote->link);
    buffer_deinit(&remote->resize);
    free(remote);
}
