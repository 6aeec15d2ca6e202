/* The server's side of RFC 6455 over an http_stream, for exec, attach and the dashboard. */
#ifndef TIDEMILL_HTTP_WEBSOCKET_H
#define TIDEMILL_HTTP_WEBSOCKET_H

#include "http/server.h"

struct websocket;
struct websocket_callbacks {
    /* A whole message (fragments joined, at most message_bytes_max). */
    void (*on_message)(void *userdata, bool binary, struct slice message);
    void (*on_drained)(void *userdata);         /* may be NULL */
    void (*on_close)(void *userdata, int code); /* once, last; 1006 when the connection broke; call websocket_free */
};
/* True when the request asks for a WebSocket upgrade (version 13). */
bool websocket_is_upgrade(const struct http_exchange *exchange);
/* Accepts; `protocols` (ends with NULL) are ours in order of preference: the first that the client offers is chosen and put into *ret_protocol (NULL
 * when none was offered). Offered but none matching: answers 400 and returns -EPROTO. Pings are answered. */
int websocket_accept(struct http_exchange *exchange, const char *const *protocols, size_t message_bytes_max,
                     const struct websocket_callbacks *callbacks, void *userdata, const char **ret_protocol, struct websocket **ret);
int websocket_send(struct websocket *socket, bool binary, struct slice message);
size_t websocket_pending(const struct websocket *socket);
void websocket_pause(struct websocket *socket);
void websocket_resume(struct websocket *socket);
/* Sends a close frame, waits for the peer's (5 s), then on_close. */
void websocket_close(struct websocket *socket, int code, const char *reason);
/* At once; no callback. NULL is fine. */
void websocket_free(struct websocket *socket);

#endif
