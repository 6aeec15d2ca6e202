/* A SPDY/3.1 connection with a client: over an upgraded HTTP/1.1 connection, or inside the binary messages of a WebSocket, which kubectl does for
 * forwarded ports since 1.31. */
#ifndef TIDEMILL_NODE_SPDYLINK_PRIV_H
#define TIDEMILL_NODE_SPDYLINK_PRIV_H

#include "codec/codec.h"
#include "http/http.h"

struct spdylink;
struct spdylink_callbacks {
    /* OPEN, DATA and RESET. */
    void (*on_event)(void *userdata, const struct spdy_event *event);
    void (*on_drained)(void *userdata); /* what was sent has left */
    void (*on_close)(void *userdata);   /* once, last; not from within another callback's caller: free later or here */
};
/* True for POST (or GET) with "Upgrade: SPDY/3.1". */
bool spdylink_is_upgrade(const struct http_exchange *exchange);
/* Accepts with the first of `protocols` (ends with NULL) that the client offers in X-Stream-Protocol-Version; none: answers 403 and returns -EPROTO.
 */
int spdylink_accept(struct http_exchange *exchange, const char *const *protocols, size_t streams_max, const struct spdylink_callbacks *callbacks,
                    void *userdata, struct spdylink **ret);
/* Accepts a WebSocket with the subprotocol, and SPDY within. */
int spdylink_accept_websocket(struct http_exchange *exchange, const char *protocol, size_t streams_max, const struct spdylink_callbacks *callbacks,
                              void *userdata, struct spdylink **ret);
void spdylink_reply(struct spdylink *link, uint32_t stream);
/* 0; -EPIPE when the stream or the connection is gone; -ENOBUFS. */
int spdylink_send(struct spdylink *link, uint32_t stream, struct slice bytes, bool is_last);
void spdylink_reset(struct spdylink *link, uint32_t stream, enum spdy_status status);
/* Queued bytes. */
size_t spdylink_pending(const struct spdylink *link);
void spdylink_pause(struct spdylink *link);
void spdylink_resume(struct spdylink *link);
/* Sends GOAWAY and what is queued, drops what comes, waits for the client's end (5 s), then on_close. */
void spdylink_finish(struct spdylink *link);
/* At once; no callback. NULL is fine. Not from within on_event. */
void spdylink_free(struct spdylink *link);

#endif
