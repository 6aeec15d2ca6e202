/* TLS contexts and sessions (OpenSSL 3, TLS 1.2 and up). The records run through memory BIOs: no I/O in here. */
#ifndef TIDEMILL_HTTP_TLS_H
#define TIDEMILL_HTTP_TLS_H

#include <sys/types.h>

#include "base/base.h"

struct tls_context;
struct tls_options {
    const char *certificate_pem; /* chain; NULL for clients without one. Text, not a path */
    const char *key_pem;
    const char *ca_pem; /* who may sign the other end: clients for a server (NULL: not asked), the server for a client (NULL: system's) */
    bool server;
    bool any_peer;           /* clients: the server's certificate is not looked at */
    const char *const *alpn; /* ends with NULL; NULL: http/1.1 */
};
/* Reference counted; 0 or -EINVAL with diag. A server with a CA asks for a client certificate and goes on without one; one that does not verify ends
 * the handshake. */
int tls_context_new(const struct tls_options *options, struct tls_context **ret, struct diag *diag);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context); /* NULL is fine */
DEFINE_CLEANUP(struct tls_context, tls_context_unref)

/* One connection's records. The caller moves bytes: from the network with tls_session_feed, to the network with tls_session_take after every other
 * call. */
struct tls_session;
/* `peer_name`: for clients, the host name or address the certificate must be for (and SNI); NULL for servers. Keeps a reference to the context. */
int tls_session_new(struct tls_context *context, const char *peer_name, struct tls_session **ret);
void tls_session_free(struct tls_session *session); /* NULL is fine */
/* Takes all; -ENOMEM. Feed only when tls_session_read wants more, so that what is held here stays small. */
int tls_session_feed(struct tls_session *session, struct slice records);
/* The handshake goes on: 0 when it is complete, -EAGAIN when records are missing, -EPROTO, -EACCES (the peer's certificate was not accepted). */
int tls_session_handshake(struct tls_session *session);
/* Plain bytes: their count; 0 when the peer closed properly; -EAGAIN when records are missing; -EPROTO. Continues the handshake by itself. */
ssize_t tls_session_read(struct tls_session *session, char *bytes, size_t len);
/* The count taken; -EAGAIN while the handshake is incomplete; -EPROTO. */
ssize_t tls_session_write(struct tls_session *session, struct slice bytes);
/* Appends the records to be sent. */
int tls_session_take(struct tls_session *session, struct buffer *records);
/* Queues close_notify. */
void tls_session_shutdown(struct tls_session *session);
/* Of the verified peer certificate, in the arena: NULL without one. Organisations end with NULL. */
int tls_session_peer(struct tls_session *session, struct arena *arena, const char **ret_common_name, const char *const **ret_organizations);

#endif
