/* What a proxy changes in heads: pure functions from a parsed head to bytes. */
#ifndef TIDEMILL_PROXY_HEAD_PRIV_H
#define TIDEMILL_PROXY_HEAD_PRIV_H

#include "codec/codec.h"

struct head_context {
    struct slice client_address; /* text */
    struct slice request_id;     /* ours, used when the client sent none that is fit */
    bool secure;
    bool trust_forwarded;
    bool upgrade; /* pass the Upgrade on */
};
/* Appends the request head for the upstream: HTTP/1.1, origin form, without hop-by-hop fields and fields that the client may not set, with ours. 0 or
 * the buffer's error. */
int head_write_request(struct buffer *out, const struct http1_head *head, const struct head_context *context);

enum head_connection { HEAD_CONNECTION_NONE, HEAD_CONNECTION_CLOSE, HEAD_CONNECTION_KEEP_ALIVE, HEAD_CONNECTION_UPGRADE };
struct head_response {
    enum head_connection connection;
    bool chunked;        /* say Transfer-Encoding: chunked */
    bool content_length; /* keep Content-Length */
};
int head_write_response(struct buffer *out, const struct http1_head *head, const struct head_response *response);

/* The request id of the client when it is fit to be passed on (1 to 128 visible characters), otherwise data NULL. */
struct slice head_request_id(const struct http1_head *head);

#endif
