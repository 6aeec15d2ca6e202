/* An HTTP/1.1 client over the loop: for the platform's own API, the registry, metrics and probes. Plain, TLS and unix sockets; keep-alive pool per
 * client; streaming answers. (Uploads to and downloads from the internet go through libcurl where they are needed.) */
#ifndef TIDEMILL_HTTP_CLIENT_H
#define TIDEMILL_HTTP_CLIENT_H

#include "http/server.h"

struct http_client;
struct http_request;

struct http_client_options {
    const char *endpoint;    /* "http://127.0.0.1:80", "https://host:6443", "unix:/run/x.sock"; a host name is resolved once, blocking, at creation */
    const char *name;        /* what the server is called in its certificate and in the Host field; NULL: as in the endpoint; copied */
    struct tls_context *tls; /* for https; borrowed */
    const char *authorization;  /* header value sent with every request, or NULL; copied */
    int64_t connect_timeout_ms; /* 0: 5,000 */
    size_t connections_max;     /* kept idle; 0: 8 */
};
int http_client_new(struct loop *loop, const struct http_client_options *options, struct http_client **ret);
/* Cancels what runs (no callbacks). NULL is fine. */
void http_client_free(struct http_client *client);

struct http_request_options {
    const char *method;
    const char *target;              /* path and query, already encoded */
    const char *content_type;        /* NULL: none */
    struct slice body;               /* copied */
    const struct http_field *fields; /* further headers, or Host and User-Agent instead of ours; ends with name NULL; may be NULL; copied */
    int64_t timeout_ms;              /* until the answer is complete (or, streaming, its head arrived); 0: 60,000; -1: none */
    size_t body_max;                 /* collected answers: 0: 64 MiB */
};

/* A complete answer. error: 0, or negative errno (connect, -ECONNRESET, -ETIMEDOUT, -EMSGSIZE, -EBADMSG, -EACCES when the server's certificate was
 * not accepted, -EPROTO for any other TLS failure); then status is 0. Everything is borrowed for the call. */
struct http_answer {
    int error;
    int status;
    struct slice body;
    struct slice (*header)(const struct http_answer *answer, const char *name);
    const void *private_data;
};
/* The header fields in their order; false beyond the last. */
bool http_answer_field(const struct http_answer *answer, size_t index, struct slice *ret_name, struct slice *ret_value);
typedef void http_answer_fn(void *userdata, const struct http_answer *answer);
/* Sends and collects the answer; on_answer runs once, never before this returns. A request on a kept connection that was closed before any answer
 * byte is sent again once (not a POST or JSON patch: it may have been carried out; -ECONNRESET). *ret may be NULL. -EINVAL when target or fields hold
 * bytes that cannot stand in a head. */
int http_client_send(struct http_client *client, const struct http_request_options *options, http_answer_fn *on_answer, void *userdata,
                     struct http_request **ret);

struct http_stream_handlers {
    void (*on_head)(void *userdata, const struct http_answer *head); /* status and headers; body empty */
    void (*on_data)(void *userdata, struct slice data);
    void (*on_end)(void *userdata, int error); /* 0: complete. Last callback. */
    void (*on_drained)(void *userdata);        /* upgraded: all that was written has left; may be NULL */
};
/* Sends and streams the answer (watches, logs, downloads). */
int http_client_stream(struct http_client *client, const struct http_request_options *options, const struct http_stream_handlers *handlers,
                       void *userdata, struct http_request **ret);
void http_request_pause(struct http_request *request);
void http_request_resume(struct http_request *request);
/* No callback follows. NULL is fine. Requests end by themselves after their last callback; do not cancel then. */
void http_request_cancel(struct http_request *request);
/* Sends an upgrade request (fields must hold Upgrade and Connection); on_head with status 101 is followed by on_data of the raw stream in `handlers`;
 * write with http_request_write. Any other status is streamed as by http_client_stream. */
int http_client_upgrade(struct http_client *client, const struct http_request_options *options, const struct http_stream_handlers *handlers,
                        void *userdata, struct http_request **ret);
/* 0; -ENOTCONN before the 101; -ENOBUFS, -EPIPE as http_write. */
int http_request_write(struct http_request *request, struct slice bytes);
/* Upgraded: sends what is queued, then closes our direction. */
void http_request_shutdown(struct http_request *request);
size_t http_request_write_pending(const struct http_request *request);

#endif
