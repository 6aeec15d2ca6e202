/* A byte connection with bounded buffers on the loop, plain or TLS: what server, client and streams have in common. Private to http/. */
#ifndef TIDEMILL_HTTP_CONNECTION_PRIV_H
#define TIDEMILL_HTTP_CONNECTION_PRIV_H

#include "http/tls.h"
#include "loop/loop.h"

struct connection;

/* Called from the loop only. The callee may free the connection in any of them. */
struct connection_events {
    void (*on_input)(void *userdata);             /* there are new bytes, or connection_eof() became true */
    void (*on_drained)(void *userdata);           /* all that was written has been taken by the socket; may be NULL */
    void (*on_closed)(void *userdata, int error); /* it broke: negative errno; last callback, the callee frees */
};

/* Takes the descriptor and the session (NULL: plain), also on failure. `connecting`: a connect is under way. */
int connection_new(struct loop *loop, int fd, struct tls_session *tls, bool connecting, const struct connection_events *events, void *userdata,
                   struct connection **ret);
void connection_free(struct connection *connection); /* NULL is fine */
/* Another owner takes over. What is unread is announced again. */
void connection_rebind(struct connection *connection, const struct connection_events *events, void *userdata);

/* Bytes received and not consumed; valid until the next call. */
struct slice connection_input(const struct connection *connection);
void connection_consume(struct connection *connection, size_t len);
/* The peer has ended its direction (and all its bytes are in the input). */
bool connection_eof(const struct connection *connection);
/* … and, with TLS, it said so: no truncation. */
bool connection_eof_clean(const struct connection *connection);
/* No reading and no on_input until resumed, which announces what is unread. */
void connection_pause(struct connection *connection);
void connection_resume(struct connection *connection);

/* Queued, sent at the end of the turn. -ENOBUFS beyond HTTP_OUTPUT_BYTES_MAX (nothing is taken), -EPIPE when it broke or was shut down, -ENOMEM. */
int connection_write(struct connection *connection, struct slice bytes);
/* As connection_write without the maximum of the queue: for heads and short answers; the caller bounds them. */
int connection_write_forced(struct connection *connection, struct slice bytes);
/* Part of a file after what is queued; takes the descriptor. One at a time, nothing may be written until drained. */
int connection_write_file(struct connection *connection, int fd, int64_t offset, int64_t len);
size_t connection_pending(const struct connection *connection);
bool connection_is_drained(const struct connection *connection);
/* Ends our direction once all is sent. */
void connection_shutdown(struct connection *connection);

/* Connected and, with TLS, through the handshake. */
bool connection_is_open(const struct connection *connection);
/* When bytes last went either way (loop time). */
int64_t connection_progress_ns(const struct connection *connection);
struct tls_session *connection_tls(const struct connection *connection);

#endif
