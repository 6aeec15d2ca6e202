/* An HTTP/1.1 server (RFC 9112) over plain or TLS connections and unix sockets.
 *
 * The handler is called when a request's head is complete; the body follows through the exchange. Limits: HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX
 * (431/400), a head must arrive within options.head_timeout_ms. Keep-alive, pipelining (one at a time), Expect: 100-continue, chunked both ways,
 * HEAD. Malformed requests get 400 and a close. */
#ifndef TIDEMILL_HTTP_SERVER_H
#define TIDEMILL_HTTP_SERVER_H

#include "base/base.h"
#include "codec/codec.h"
#include "loop/loop.h"

struct tls_context;
struct http_server;
struct http_exchange; /* one request and its response; owned by the server, valid until its on_close has run */

/* Who is at the other end, as far as the transport knows. */
struct http_peer {
    const char *address; /* "10.0.0.1:4711" or "unix" */
    bool is_unix;
    uid_t uid; /* of a unix peer */
    pid_t pid;
    const char *certificate_common_name;          /* of a verified client certificate; NULL: none */
    const char *const *certificate_organizations; /* NULL-terminated; NULL: none */
};

typedef void http_handler_fn(void *userdata, struct http_exchange *exchange);

struct http_server_options {
    struct tls_context *tls; /* NULL: plain. Borrowed; may be replaced with http_server_set_tls */
    http_handler_fn *handler;
    void *userdata;
    int64_t head_timeout_ms; /* 0: 30,000 */
    int64_t idle_timeout_ms; /* keep-alive; 0: 120,000 */
    size_t connections_max;  /* 0: 10,000; beyond it accept pauses */
};
/* Serves a listening socket, which stays the caller's. */
int http_server_new(struct loop *loop, int listen_fd, const struct http_server_options *options, struct http_server **ret);
/* Stops accepting; running exchanges finish; idle connections close. */
void http_server_drain(struct http_server *server);
size_t http_server_connections(const struct http_server *server);
/* Closes everything at once; each open exchange gets its on_close. NULL is fine. */
void http_server_free(struct http_server *server);
void http_server_set_tls(struct http_server *server, struct tls_context *tls);

/* --- the request: borrowed, valid as long as the exchange --- */
struct slice http_method(const struct http_exchange *exchange);
struct slice http_target(const struct http_exchange *exchange); /* as sent: path and query */
struct slice http_path(const struct http_exchange *exchange);   /* raw, not percent-decoded */
struct slice http_query_text(const struct http_exchange *exchange);
/* The whole parsed head. */
const struct http1_head *http_head(const struct http_exchange *exchange);
/* Case-insensitive; data NULL when absent; the first of several. */
struct slice http_header(const struct http_exchange *exchange, const char *name);
size_t http_header_count(const struct http_exchange *exchange);
void http_header_at(const struct http_exchange *exchange, size_t index, struct slice *ret_name, struct slice *ret_value);
const struct http_peer *http_exchange_peer(const struct http_exchange *exchange);
struct loop *http_exchange_loop(const struct http_exchange *exchange);
/* The exchange's arena (TREE_BYTES_MAX), freed with it. */
struct arena *http_exchange_arena(const struct http_exchange *exchange);

/* --- reading the body: choose one of the two, in the handler or later; until then the body waits in the socket --- */
/* Collects at most bytes_max, then calls on_body once (also for an empty body). Beyond it the server answers 413 itself, as a Kubernetes Status, and
 * on_body does not run. */
void http_read_body(struct http_exchange *exchange, size_t bytes_max,
                    void (*on_body)(void *userdata, struct http_exchange *exchange, struct slice body), void *userdata);
/* Streams: on_data for each piece (the callee may pause with http_pause_body and later http_resume_body), then on_data with len 0 at the end. */
void http_stream_body(struct http_exchange *exchange, void (*on_data)(void *userdata, struct http_exchange *exchange, struct slice data),
                      void *userdata);
void http_pause_body(struct http_exchange *exchange);
void http_resume_body(struct http_exchange *exchange);

/* --- answering --- */
struct http_field {
    const char *name;
    const char *value;
};
/* A complete answer; `fields` may be NULL and ends with a name of NULL. The body is copied. Answering before the body was read drains or closes. */
void http_respond(struct http_exchange *exchange, int status, const char *content_type, struct slice body, const struct http_field *fields);
void http_respond_text(struct http_exchange *exchange, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A streamed answer: chunked, or with a length when content_length >= 0. Each write is sent as soon as the socket takes it. */
void http_respond_begin(struct http_exchange *exchange, int status, const char *content_type, int64_t content_length,
                        const struct http_field *fields);
/* 0; -ENOBUFS when more than HTTP_OUTPUT_BYTES_MAX would be queued (nothing is taken); -EPIPE when the peer is gone. */
int http_write(struct http_exchange *exchange, struct slice bytes);
/* Bytes queued and not yet taken by the socket. */
size_t http_write_pending(const struct http_exchange *exchange);
/* Called once whenever the queue has become empty again. */
void http_on_drained(struct http_exchange *exchange, void (*on_drained)(void *userdata, struct http_exchange *exchange), void *userdata);
void http_respond_end(struct http_exchange *exchange);
/* Sends `length` bytes of a file from `offset` after http_respond_begin (sendfile where plain); the descriptor is taken and closed. Ends the
 * response. */
int http_respond_file(struct http_exchange *exchange, int fd, int64_t offset, int64_t length);
/* Breaks the connection: for an error in mid-stream. */
void http_abort(struct http_exchange *exchange);
/* "Sun, 06 Nov 1994 08:49:37 GMT", for Date and Expires. */
#define HTTP_DATE_BYTES 40
void http_date_format(int64_t ns, char ret[HTTP_DATE_BYTES]);
/* Called exactly once when the exchange ends for whatever reason; `complete` tells whether the response was sent whole. Afterwards the pointer is
 * dead. */
void http_on_close(struct http_exchange *exchange, void (*on_close)(void *userdata, struct http_exchange *exchange, bool complete), void *userdata);

/* --- taking the connection over (WebSocket, SPDY, tunnels) --- */
/* A byte stream of what was a connection of the server or client. */
struct http_stream;
struct http_stream_callbacks {
    void (*on_data)(void *userdata, struct slice data); /* pieces as they come */
    void (*on_drained)(void *userdata);                 /* the output queue became empty; may be NULL */
    void (*on_end)(void *userdata, int error);          /* the peer closed (0) or the connection broke; last callback; call http_stream_free */
};
/* Sends "101 Switching Protocols" with the fields and hands the connection over; the exchange ends (its on_close runs, complete). */
int http_upgrade(struct http_exchange *exchange, const struct http_field *fields, const struct http_stream_callbacks *callbacks, void *userdata,
                 struct http_stream **ret);
/* As http_write. */
int http_stream_write(struct http_stream *stream, struct slice bytes);
size_t http_stream_pending(const struct http_stream *stream);
void http_stream_pause(struct http_stream *stream); /* no more on_data: back-pressure */
void http_stream_resume(struct http_stream *stream);
/* Sends what is queued, then closes our direction. */
void http_stream_shutdown(struct http_stream *stream);
/* Closes at once; no callback follows. NULL is fine. */
void http_stream_free(struct http_stream *stream);

#endif
