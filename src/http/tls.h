/* TLS contexts (OpenSSL 3, TLS 1.2 and up). The records run through memory BIOs: no I/O in here. */
#ifndef TIDEMILL_HTTP_TLS_H
#define TIDEMILL_HTTP_TLS_H

#include "base/base.h"

struct tls_context;
struct tls_options {
    const char *certificate_pem;   /* chain; NULL for clients without one. Text, not a path */
    const char *key_pem;
    const char *ca_pem;            /* who may sign the other end: clients for a server (NULL: not asked), the server for a client (NULL: system's) */
    bool server;
    const char *const *alpn;       /* ends with NULL; NULL: http/1.1 */
};
/* Reference counted; 0 or -EINVAL with diag. */
int tls_context_new(const struct tls_options *options, struct tls_context **ret, struct diag *diag);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context);

#endif
