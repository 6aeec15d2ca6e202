/* SPDY frames between codec/'s state machine and the connection that carries them.
 *
 * Whatever is written goes into the state machine, and flush() hands its output to the connection; when that fails the connection is lost and
 * on_close comes from the loop. While paused, bytes that were read already wait in `pending`: at most one read or message. */
#include "node/spdylink_priv.h"

#define CLOSE_WAIT_MS 5000
#define MESSAGE_BYTES_MAX (1 * MIB)
#define PENDING_BYTES_MAX (4 * MIB)

struct spdylink {
    struct spdy *spdy;
    struct http_stream *stream; /* one of the two */
    struct websocket *socket;
    struct spdylink_callbacks callbacks;
    void *userdata;
    struct buffer pending;
    bool paused, finish_later, finishing, lost, closed, stepping;
    struct loop_defer defer;
    struct loop_timer timer;
};

static void report_close(struct spdylink *link) {
    if (link->closed)
        return;
    link->closed = link->lost = true;
    loop_timer_cancel(&link->timer);
    loop_defer_cancel(&link->defer);
    link->callbacks.on_close(link->userdata);
}

static void on_timer(void *userdata) {
    report_close(userdata);
}

/* Ends it from the loop: callers may be anywhere. */
static void lose(struct spdylink *link) {
    if (link->lost)
        return;
    link->lost = true;
    loop_timer_set(&link->timer, 0);
}

static void flush(struct spdylink *link) {
    struct slice bytes;
    int r = spdy_output(link->spdy, &bytes);
    if (link->lost || (r == 0 && bytes.len == 0))
        return;
    if (link->finishing) /* our direction is closed */
        return spdy_output_sent(link->spdy);
    if (r == 0 && link->stream)
        r = http_stream_write(link->stream, bytes);
    else if (r == 0)
        r = websocket_send(link->socket, true, bytes);
    spdy_output_sent(link->spdy);
    if (r < 0)
        lose(link);
}

/* --- receiving --- */

static void decode(struct spdylink *link, struct slice bytes) {
    struct spdy_event event = {.type = SPDY_EVENT_GOAWAY};
    link->stepping = true;
    while (event.type != SPDY_EVENT_NONE && !link->paused && !link->lost) {
        size_t used;
        spdy_step(link->spdy, bytes, &used, &event);
        bytes = slice_from(bytes, used);
        if (event.type == SPDY_EVENT_ERROR) {
            flush(link);
            lose(link);
        } else if (event.type != SPDY_EVENT_NONE && event.type != SPDY_EVENT_GOAWAY && !link->finishing) {
            link->callbacks.on_event(link->userdata, &event);
        }
    }
    link->stepping = false;
    flush(link);
    if (link->finish_later && spdy_waiting(link->spdy) == 0)
        spdylink_finish(link);
    if (!link->lost && buffer_append_slice(&link->pending, bytes) < 0)
        lose(link);
}

static void on_data(void *userdata, struct slice data) {
    struct spdylink *link = userdata;
    if (link->pending.len == 0 && !link->paused)
        decode(link, data);
    else if (buffer_append_slice(&link->pending, data) < 0)
        lose(link);
}

static void on_deferred(void *userdata) {
    struct spdylink *link = userdata;
    if (link->paused || link->pending.len == 0)
        return;
    CLEANUP(buffer_deinit) struct buffer bytes = link->pending;
    buffer_init(&link->pending, PENDING_BYTES_MAX);
    decode(link, buffer_slice(&bytes));
}

static void on_message(void *userdata, __attribute__((unused)) bool binary, struct slice message) {
    on_data(userdata, message);
}

static void on_drained(void *userdata) {
    struct spdylink *link = userdata;
    if (!link->finishing && !link->lost && spdylink_pending(link) == 0)
        link->callbacks.on_drained(link->userdata);
}

static void on_end(void *userdata, __attribute__((unused)) int code) {
    report_close(userdata);
}

/* --- accepting --- */

bool spdylink_is_upgrade(const struct http_exchange *exchange) {
    return http1_list_has(http_head(exchange)->upgrade, SLICE("SPDY/3.1"));
}

static const char *choose_protocol(const struct http_exchange *exchange, const char *const *protocols) {
    for (const char *const *protocol = protocols; *protocol; protocol++)
        for (size_t i = 0; i < http_header_count(exchange); i++) {
            struct slice name, value;
            http_header_at(exchange, i, &name, &value);
            if (slice_equal_nocase(name, SLICE("X-Stream-Protocol-Version")) && http1_list_has(value, slice_of(*protocol)))
                return *protocol;
        }
    return NULL;
}

static int link_new(struct loop *loop, size_t streams_max, const struct spdylink_callbacks *callbacks, void *userdata, struct spdylink **ret) {
    struct spdylink *link = calloc(1, sizeof *link);
    if (!link)
        return -ENOMEM;
    *link = (struct spdylink){.callbacks = *callbacks, .userdata = userdata};
    buffer_init(&link->pending, PENDING_BYTES_MAX);
    loop_defer_init(&link->defer, loop, on_deferred, link);
    loop_timer_init(&link->timer, loop, on_timer, link);
    int r = spdy_new(true, streams_max, &link->spdy);
    if (r < 0)
        spdylink_free(link);
    else
        *ret = link;
    return r;
}

int spdylink_accept(struct http_exchange *exchange, const char *const *protocols, size_t streams_max, const struct spdylink_callbacks *callbacks,
                    void *userdata, struct spdylink **ret) {
    static const struct http_stream_callbacks stream_callbacks = {.on_data = on_data, .on_drained = on_drained, .on_end = on_end};
    const char *protocol = choose_protocol(exchange, protocols);
    struct spdylink *link;
    if (!protocol) {
        http_respond_text(exchange, 403, "unable to upgrade: unable to negotiate protocol: the server speaks %s\n", protocols[0]);
        return -EPROTO;
    }
    int r = link_new(http_exchange_loop(exchange), streams_max, callbacks, userdata, &link);
    if (r < 0) {
        http_respond_text(exchange, 500, "out of memory\n");
        return r;
    }
    const struct http_field fields[] = {{"Connection", "Upgrade"}, {"Upgrade", "SPDY/3.1"}, {"X-Stream-Protocol-Version", protocol}, {NULL, NULL}};
    r = http_upgrade(exchange, fields, &stream_callbacks, link, &link->stream);
    if (r < 0)
        spdylink_free(link);
    else
        *ret = link;
    return r;
}

int spdylink_accept_websocket(struct http_exchange *exchange, const char *protocol, size_t streams_max, const struct spdylink_callbacks *callbacks,
                              void *userdata, struct spdylink **ret) {
    static const struct websocket_callbacks socket_callbacks = {.on_message = on_message, .on_drained = on_drained, .on_close = on_end};
    const char *const protocols[] = {protocol, NULL}, *chosen;
    struct spdylink *link;
    int r = link_new(http_exchange_loop(exchange), streams_max, callbacks, userdata, &link);
    if (r < 0) {
        http_respond_text(exchange, 500, "out of memory\n");
        return r;
    }
    r = websocket_accept(exchange, protocols, MESSAGE_BYTES_MAX, &socket_callbacks, link, &chosen, &link->socket);
    if (r < 0)
        spdylink_free(link);
    else
        *ret = link;
    return r;
}

/* --- sending --- */

void spdylink_reply(struct spdylink *link, uint32_t stream) {
    spdy_reply(link->spdy, stream);
    flush(link);
}

int spdylink_send(struct spdylink *link, uint32_t stream, struct slice bytes, bool is_last) {
    int r = link->lost ? -EPIPE : spdy_send(link->spdy, stream, bytes, is_last);
    flush(link);
    return r;
}

void spdylink_reset(struct spdylink *link, uint32_t stream, enum spdy_status status) {
    spdy_reset(link->spdy, stream, status);
    flush(link);
}

size_t spdylink_pending(const struct spdylink *link) {
    size_t queued = link->stream ? http_stream_pending(link->stream) : websocket_pending(link->socket);
    return queued + spdy_waiting(link->spdy);
}

void spdylink_pause(struct spdylink *link) {
    link->paused = true;
    if (link->stream)
        http_stream_pause(link->stream);
    else
        websocket_pause(link->socket);
}

void spdylink_resume(struct spdylink *link) {
    if (!link->paused)
        return;
    link->paused = false;
    loop_defer_schedule(&link->defer); /* before the connection's own: these bytes came first */
    if (link->stream)
        http_stream_resume(link->stream);
    else
        websocket_resume(link->socket);
}

void spdylink_finish(struct spdylink *link) {
    if (link->finishing || link->lost)
        return;
    spdylink_resume(link); /* windows, and in the end the client's end must be heard */
    link->finish_later = spdy_waiting(link->spdy) > 0;
    if (link->finish_later)
        return;
    spdy_goaway(link->spdy);
    flush(link);
    link->finishing = true;
    if (link->stream)
        http_stream_shutdown(link->stream);
    else
        websocket_close(link->socket, 1000, "");
    if (!link->lost)
        loop_timer_set(&link->timer, CLOSE_WAIT_MS);
}

void spdylink_free(struct spdylink *link) {
    if (!link)
        return;
    ASSERT(!link->stepping);
    loop_timer_cancel(&link->timer);
    loop_defer_cancel(&link->defer);
    http_stream_free(link->stream);
    websocket_free(link->socket);
    spdy_free(link->spdy);
    buffer_deinit(&link->pending);
    free(link);
}
