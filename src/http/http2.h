/* One request over HTTP/2, on a connection of its own: what probes ask services that speak nothing else (gRPC). Framing is nghttp2's. */
#ifndef TIDEMILL_HTTP_HTTP2_H
#define TIDEMILL_HTTP_HTTP2_H

#include "http/server.h"
#include "sys/sys.h"

struct tls_context;
struct http2_call;
struct http2_options {
    struct sys_address address;
    struct tls_context *tls; /* NULL: plain, HTTP/2 from the first byte ("prior knowledge"); its ALPN must be h2; borrowed */
    const char *peer_name;   /* with tls: whose certificate is expected */
    const char *method, *authority, *target;
    const struct http_field *fields; /* ends with name NULL; may be NULL; names are sent in lower case */
    struct slice body;               /* empty: none; copied, as all of the above */
    size_t body_max;                 /* of the answer: what is beyond fails with -EMSGSIZE */
};
/* error: 0, or negative errno (-EPROTO for TLS, -EBADMSG for what is no HTTP/2, -ECONNRESET when the connection or the stream was broken off). */
struct http2_answer {
    int error;
    int status;
    struct slice body;
    const struct http2_call *call; /* for http2_field */
};
/* Borrowed for the call. The call is freed after it. */
typedef void http2_answer_fn(void *userdata, const struct http2_answer *answer);
/* Connects and sends; on_answer comes once, never before this returns. There is no time limit: free it. */
int http2_call_new(struct loop *loop, const struct http2_options *options, http2_answer_fn *on_answer, void *userdata, struct http2_call **ret);
/* No callback follows. NULL is fine. */
void http2_call_free(struct http2_call *call);
/* Connected, and through TLS. */
bool http2_call_is_open(const struct http2_call *call);
/* A field of the answer's head or its trailer, the last of the name; data NULL when absent. name in lower case. */
struct slice http2_field(const struct http2_call *call, const char *name);

#endif
