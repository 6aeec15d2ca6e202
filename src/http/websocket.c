/* WebSocket, the server's side (RFC 6455): the handshake, and the decoder of codec/ between an http_stream and the application.
 *
 *   OPEN ──peer's close or error──► we answer with a close frame and end our direction ──► CLOSING ──peer's end, or 5 s──► on_close
 *     └──websocket_close──► close frame sent ──► CLOSING (peer's close ends our direction too)
 *
 * Invariants: after the first close frame no message is delivered and none is sent; on_close runs once, from the loop. While paused, bytes that came
 * together with the last message wait in `pending` (at most what one read delivers). */
#include <openssl/evp.h>

#include "http/server.h"
#include "http/websocket.h"

#define CLOSE_WAIT_MS 5000
#define STALLED_WAITS_MAX 12 /* a minute in which a peer that has not got all of it takes nothing */
#define PENDING_BYTES_MAX (1 * MIB)

struct websocket {
    struct http_stream *stream;
    struct websocket_decoder decoder;
    struct websocket_callbacks callbacks;
    void *userdata;
    struct loop_timer timer;
    struct loop_defer defer; /* goes on with pending after a resume */
    struct buffer pending;
    bool paused, closing, ended;
    size_t unsent;   /* when the timer last ran out */
    unsigned stalls; /* waits in which that did not become less */
    int code;
    bool *gone;
};

/* --- handshake --- */

bool websocket_is_upgrade(const struct http_exchange *exchange) {
    return slice_is(http_method(exchange), "GET") && http1_list_has(http_head(exchange)->upgrade, SLICE("websocket")) &&
           slice_is(http_header(exchange, "Sec-WebSocket-Version"), "13") && http_header(exchange, "Sec-WebSocket-Key").len == 24;
}

/* base64(SHA-1(key + the GUID of RFC 6455)) */
static void accept_key(struct slice key, char ret[29]) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char text[24 + sizeof guid], sum[EVP_MAX_MD_SIZE];
    ASSERT(key.len == 24);
    memcpy(text, key.data, 24);
    memcpy(text + 24, guid, sizeof guid - 1);
    int r = EVP_Digest(text, 24 + sizeof guid - 1, sum, NULL, EVP_sha1(), NULL);
    ASSERT(r == 1);
    EVP_EncodeBlock((unsigned char *)ret, sum, 20);
}

/* Ours in order of preference; the first that the client offers (in any of its fields). -EPROTO: it offers, but none of ours. */
static int choose_protocol(const struct http_exchange *exchange, const char *const *protocols, const char **ret) {
    bool offered = false;
    for (const char *const *protocol = protocols; protocol && *protocol; protocol++)
        for (size_t i = 0; i < http_header_count(exchange); i++) {
            struct slice name, value;
            http_header_at(exchange, i, &name, &value);
            if (!slice_equal_nocase(name, SLICE("Sec-WebSocket-Protocol")))
                continue;
            offered = true;
            if (http1_list_has(value, slice_of(*protocol))) {
                *ret = *protocol;
                return 0;
            }
        }
    *ret = NULL;
    return offered ? -EPROTO : 0;
}

/* --- closing --- */

/* Sends a close frame (once) and waits for the end of the connection. */
static void start_closing(struct websocket *socket, int code, struct slice reason) {
    if (socket->closing)
        return;
    CLEANUP(buffer_deinit) struct buffer frame = BUFFER_INIT(256);
    socket->closing = true;
    socket->code = code;
    if (websocket_encode_close(&frame, NULL, code == 1006 ? 1005 : code, reason) == 0)
        http_stream_write(socket->stream, buffer_slice(&frame));
    loop_timer_set(&socket->timer, CLOSE_WAIT_MS);
}

static void report_close(struct websocket *socket) {
    if (socket->ended)
        return;
    socket->ended = true;
    loop_timer_cancel(&socket->timer);
    loop_defer_cancel(&socket->defer);
    socket->callbacks.on_close(socket->userdata, socket->closing ? socket->code : 1006);
}

/* A slow peer still gets what was said before the end, as long as it takes some of it. */
static void on_timer(void *userdata) {
    struct websocket *socket = userdata;
    size_t unsent = http_stream_pending(socket->stream);
    socket->stalls = unsent < socket->unsent ? 0 : socket->stalls + 1;
    socket->unsent = unsent;
    if (unsent > 0 && socket->stalls < STALLED_WAITS_MAX)
        loop_timer_set(&socket->timer, CLOSE_WAIT_MS);
    else
        report_close(socket);
}

/* --- receiving --- */

static void send_pong(struct websocket *socket, struct slice payload) {
    CLEANUP(buffer_deinit) struct buffer frame = BUFFER_INIT(256);
    if (!socket->closing && websocket_encode(&frame, WEBSOCKET_PONG, true, NULL, payload) == 0)
        http_stream_write(socket->stream, buffer_slice(&frame)); /* a full queue drops it: the peer will ping again */
}

/* False when the callee freed the socket. */
static bool on_event(struct websocket *socket, const struct websocket_event *event) {
    bool gone = false;
    switch (event->type) {
    case WEBSOCKET_EVENT_MESSAGE:
        if (socket->closing)
            break;
        socket->gone = &gone;
        socket->callbacks.on_message(socket->userdata, event->binary, event->payload);
        if (gone)
            return false;
        socket->gone = NULL;
        break;
    case WEBSOCKET_EVENT_PING: send_pong(socket, event->payload); break;
    case WEBSOCKET_EVENT_CLOSE:
        start_closing(socket, event->code, (struct slice){0});
        socket->code = event->code;
        http_stream_shutdown(socket->stream);
        break;
    case WEBSOCKET_EVENT_ERROR:
        start_closing(socket, event->code, (struct slice){0});
        http_stream_shutdown(socket->stream);
        break;
    case WEBSOCKET_EVENT_PONG:
    case WEBSOCKET_EVENT_NONE: break;
    }
    return true;
}

/* Decodes until the bytes are used up or the application pauses; the rest is kept. */
static void decode(struct websocket *socket, struct slice bytes) {
    struct websocket_event event = {.type = WEBSOCKET_EVENT_PONG};
    while (event.type != WEBSOCKET_EVENT_NONE && !socket->paused) {
        size_t used;
        websocket_decoder_step(&socket->decoder, bytes, &used, &event);
        bytes = slice_from(bytes, used);
        if (!on_event(socket, &event))
            return;
        if (event.type == WEBSOCKET_EVENT_ERROR)
            return;
    }
    if (buffer_append_slice(&socket->pending, bytes) < 0)
        start_closing(socket, 1011, (struct slice){0});
}

static void on_data(void *userdata, struct slice data) {
    struct websocket *socket = userdata;
    if (socket->pending.len > 0 || socket->paused) {
        if (buffer_append_slice(&socket->pending, data) < 0)
            start_closing(socket, 1009, (struct slice){0});
        return;
    }
    decode(socket, data);
}

static void on_deferred(void *userdata) {
    struct websocket *socket = userdata;
    if (socket->paused || socket->pending.len == 0)
        return;
    CLEANUP(buffer_deinit) struct buffer bytes = socket->pending;
    buffer_init(&socket->pending, PENDING_BYTES_MAX);
    decode(socket, buffer_slice(&bytes));
}

static void on_drained(void *userdata) {
    struct websocket *socket = userdata;
    if (socket->callbacks.on_drained && !socket->closing)
        socket->callbacks.on_drained(socket->userdata);
}

static void on_end(void *userdata, int error) {
    (void)error;
    report_close(userdata);
}

/* --- the application's calls --- */

int websocket_accept(struct http_exchange *exchange, const char *const *protocols, size_t message_bytes_max,
                     const struct websocket_callbacks *callbacks, void *userdata, const char **ret_protocol, struct websocket **ret) {
    static const struct http_stream_callbacks stream_callbacks = {.on_data = on_data, .on_drained = on_drained, .on_end = on_end};
    const char *protocol;
    int r = websocket_is_upgrade(exchange) ? choose_protocol(exchange, protocols, &protocol) : -EPROTO;
    if (r < 0) {
        http_respond_text(exchange, 400, "%s\n", "this needs a WebSocket (version 13) and one of the subprotocols spoken here");
        return r;
    }
    struct websocket *socket = calloc(1, sizeof *socket);
    if (!socket)
        return -ENOMEM;
    *socket = (struct websocket){.callbacks = *callbacks, .userdata = userdata};
    websocket_decoder_init(&socket->decoder, true, message_bytes_max);
    buffer_init(&socket->pending, PENDING_BYTES_MAX);
    loop_timer_init(&socket->timer, http_exchange_loop(exchange), on_timer, socket);
    loop_defer_init(&socket->defer, http_exchange_loop(exchange), on_deferred, socket);
    char accept[29];
    accept_key(http_header(exchange, "Sec-WebSocket-Key"), accept);
    const struct http_field fields[] = {{"Upgrade", "websocket"},
                                        {"Connection", "Upgrade"},
                                        {"Sec-WebSocket-Accept", accept},
                                        {protocol ? "Sec-WebSocket-Protocol" : NULL, protocol},
                                        {NULL, NULL}};
    r = http_upgrade(exchange, fields, &stream_callbacks, socket, &socket->stream);
    if (r < 0) {
        websocket_free(socket);
        return r;
    }
    *ret_protocol = protocol;
    *ret = socket;
    return 0;
}

int websocket_send(struct websocket *socket, bool binary, struct slice message) {
    if (socket->closing || socket->ended)
        return -EPIPE;
    if (message.len > HTTP_OUTPUT_BYTES_MAX - 16)
        return -ENOBUFS;
    CLEANUP(buffer_deinit) struct buffer frame = BUFFER_INIT(HTTP_OUTPUT_BYTES_MAX);
    int r = websocket_encode(&frame, binary ? WEBSOCKET_BINARY : WEBSOCKET_TEXT, true, NULL, message);
    return r < 0 ? r : http_stream_write(socket->stream, buffer_slice(&frame));
}

size_t websocket_pending(const struct websocket *socket) {
    return http_stream_pending(socket->stream);
}

void websocket_pause(struct websocket *socket) {
    socket->paused = true;
    http_stream_pause(socket->stream);
}

void websocket_resume(struct websocket *socket) {
    socket->paused = false;
    loop_defer_schedule(&socket->defer); /* before the stream's: pending bytes come first */
    http_stream_resume(socket->stream);
}

void websocket_close(struct websocket *socket, int code, const char *reason) {
    start_closing(socket, code, slice_of(reason));
    if (socket->paused)
        websocket_resume(socket); /* the peer's close frame must be heard */
}

void websocket_free(struct websocket *socket) {
    if (!socket)
        return;
    if (socket->gone)
        *socket->gone = true;
    loop_timer_cancel(&socket->timer);
    loop_defer_cancel(&socket->defer);
    http_stream_free(socket->stream);
    websocket_decoder_deinit(&socket->decoder);
    buffer_deinit(&socket->pending);
    free(socket);
}
