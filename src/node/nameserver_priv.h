/* Names for pods: the server on the bridge's address (nameserver.c), what it asks the host's name servers (upstream.c), the cluster's names out of
 * the informers (names.c), and the pods' resolv.conf (resolv.c). */
#ifndef TIDEMILL_NODE_NAMESERVER_PRIV_H
#define TIDEMILL_NODE_NAMESERVER_PRIV_H

#include "node/node_priv.h"
#include "sys/sys.h"

#define UPSTREAM_REQUESTS_MAX 256
#define UPSTREAM_SERVERS_MAX 3

struct upstream;
struct upstream_request;
/* answer: one to what was asked, with its id; empty: none came in time. Once, unless cancelled before; the request is dead then. */
typedef void upstream_fn(void *userdata, struct slice answer);
/* resolv_path: "/etc/resolv.conf" (borrowed); own: the bridge's address, which is never asked. */
int upstream_new(struct loop *loop, const char *resolv_path, const char *own, struct upstream **ret);
/* Cancels what is under way. NULL is fine. */
void upstream_free(struct upstream *upstream);
/* -EBUSY: too many at once; -EHOSTUNREACH: no server. on_done never runs in here. */
int upstream_ask(struct upstream *upstream, struct slice message, bool tcp, upstream_fn *on_done, void *userdata, struct upstream_request **ret);
void upstream_cancel(struct upstream_request *request); /* NULL is fine */

/* node, the options' pod_cidr and service_cidr */
void names_init(struct podnet_dns_source *source, struct node *node);

#define RESOLV_NAMESERVERS_MAX 3
#define RESOLV_SEARCHES_MAX 32
#define RESOLV_OPTIONS_MAX 32

struct resolv {
    const char *nameservers[RESOLV_NAMESERVERS_MAX], *searches[RESOLV_SEARCHES_MAX], *options[RESOLV_OPTIONS_MAX];
    size_t nameservers_count, searches_count, options_count;
};
/* Of a resolv.conf's text, into the arena; what does not fit or is unknown is left out. */
int resolv_parse(struct slice text, bool keep_loopback, struct arena *arena, struct resolv *ret);
/* What a pod of `spec` is given: `host` is the host's, nameserver ours (NULL: pods have the host's instead). */
int resolv_plan(const struct kube_pod_spec *spec, const char *namespace, const struct resolv *host, const char *nameserver, struct arena *arena,
                struct resolv *ret);
int resolv_format(const struct resolv *resolv, struct buffer *out);

#endif
