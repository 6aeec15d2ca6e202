/* Forwarded ports (kubectl port-forward): connections of the client to 127.0.0.1:PORT inside a pod. */
#ifndef TIDEMILL_NODE_FORWARD_PRIV_H
#define TIDEMILL_NODE_FORWARD_PRIV_H

#include "http/http.h"
#include "podnet/podnet.h"

struct forward;
struct forward_target {
    struct podnet *podnet;
    struct podnet_pod net; /* copied */
    const char *name;      /* for messages; copied */
};
bool forward_is_upgrade(const struct http_exchange *exchange);
/* The query names the ports when the client speaks channels. 0, or negative errno when it answered the request itself. on_close runs once, last: free
 * it later from the loop. */
int forward_accept(struct http_exchange *exchange, const struct query *query, const struct forward_target *target, void (*on_close)(void *userdata),
                   void *userdata, struct forward **ret);
/* At once; no callback. NULL is fine. */
void forward_free(struct forward *forward);

#endif
