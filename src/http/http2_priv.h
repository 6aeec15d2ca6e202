/* A client's half of one HTTP/2 connection that carries one request, without I/O. */
#ifndef TIDEMILL_HTTP_HTTP2_PRIV_H
#define TIDEMILL_HTTP_HTTP2_PRIV_H

#include "http/http2.h"

struct nghttp2_session;

struct http2_machine {
    struct nghttp2_session *session;
    struct buffer request_body, body;
    size_t body_sent;
    struct arena *arena; /* fields */
    struct {
        struct slice name, value;
    } fields[HTTP_HEADERS_MAX];
    size_t fields_count;
    int32_t stream;
    int status, error;
    bool is_complete; /* the answer is whole, or `error` says why it never will be */
};
/* Everything in options but address and TLS. */
int http2_machine_init(struct http2_machine *machine, const struct http2_options *options, bool secure);
void http2_machine_deinit(struct http2_machine *machine);
/* Bytes of the server. */
int http2_machine_feed(struct http2_machine *machine, struct slice bytes);
/* Appends what is to be sent now. */
int http2_machine_take(struct http2_machine *machine, struct buffer *out);

#endif
