/* Pod networks of one instance: a bridge, a network (and UTS and IPC) namespace with an address per pod, service addresses in nftables. Needs root.
 * Everything survives the process and is found again by the next one. Blocks only for netlink (a millisecond per pod). */
#ifndef TIDEMILL_PODNET_H
#define TIDEMILL_PODNET_H

#include <netinet/in.h>

#include "base/base.h"
#include "podnet/dns.h"

#define PODNET_ADDRESS_BYTES INET_ADDRSTRLEN
#define PODNET_PODS_MAX 1000
#define PODNET_POOL_MAX 32

struct podnet;
struct podnet_options {
    const char *instance;      /* [a-z0-9]{1,10}: names the bridge and the nftables table */
    const char *cidr;          /* "10.88.0.0/16": prefix 8 to 28; .1 is the bridge's */
    const char *service_cidr;  /* "10.96.0.0/16": routed to the bridge, so that the host too reaches services; NULL: none */
    const char *cidr6;         /* "fd00:88::/64": the pods' second addresses; "auto": a local range of this instance's own; NULL or "none": none */
    size_t pool;               /* how many namespaces are kept ready, at most PODNET_POOL_MAX; each takes some 250 KB of kernel memory */
    const char *state_dir;     /* the address table lives here */
    const char *namespace_dir; /* namespaces are bound to files here: beneath a mounts_share'd folder */
};
/* Makes or completes bridge, forwarding and table. -EPERM, -EADDRINUSE (the range is in use by another interface) … with diag. */
int podnet_new(const struct podnet_options *options, struct podnet **ret, struct diag *diag);
/* Leaves everything up. NULL is fine. */
void podnet_free(struct podnet *podnet);
DEFINE_CLEANUP(struct podnet, podnet_free)
/* Removes bridge and table (pods must be gone): when an instance is taken down for good. */
int podnet_remove_all(struct podnet *podnet);
/* What this machine cannot do, in words for its owner: from 0 on, until NULL. */
const char *podnet_note(const struct podnet *podnet, size_t index);
/* The range of IPv6 addresses that pods have, "" when they have none. Returns ret. */
const char *podnet_cidr6(const struct podnet *podnet, char ret[64]);
/* Makes one of the namespaces that are kept ready, some 3 ms: when there is nothing else to do. 1: there are more to make; negative errno. */
int podnet_pool_fill(struct podnet *podnet);
bool podnet_pool_wants(const struct podnet *podnet);
/* "10.88.0.1" */
const char *podnet_gateway(const struct podnet *podnet);

struct podnet_pod {
    char address[PODNET_ADDRESS_BYTES];    /* "" with host_network */
    char address6[INET6_ADDRSTRLEN];       /* "": it has none */
    char network[256], uts[256], ipc[256]; /* namespace files; network is "" with host_network */
};
/* Whether the pod's namespaces are there, all of them. */
bool podnet_has(const struct podnet *podnet, const char *uid, bool host_network);
struct podnet_sandbox {
    const char *uid, *hostname;
    bool host_network;
    const char *user_namespace; /* the file of the user namespace whose root its namespaces obey; NULL: the machine's */
};
/* Idempotent: a pod that is whole is only described, a half-made one is made anew under the same address. ret->address names the address that it has
 * had, "" when it has had none: it is its again when the table was lost. */
int podnet_add(struct podnet *podnet, const struct podnet_sandbox *sandbox, struct podnet_pod *ret, struct diag *diag);
/* Unbinds the namespaces; the kernel frees them with the last process inside. The address becomes free (and is used again last). Absent is fine. */
int podnet_remove(struct podnet *podnet, const char *uid);
/* What went through the pod's interface, as the pod sees it; counted at the machine's end of the veth, so nobody enters the pod. */
struct podnet_traffic {
    uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped;
};
/* -ENODEV: it has none (of its own). */
int podnet_traffic(struct podnet *podnet, const struct podnet_pod *pod, struct podnet_traffic *ret);
/* Calls fn with the uid of each pod that has namespaces or an address. */
int podnet_list(struct podnet *podnet, void (*fn)(void *userdata, const char *uid), void *userdata);

/* "net.…" in the pod's network, anything else in its IPC namespace; numbers of users and groups are those of the user namespace that owns them. What
 * may be set is the caller's to decide. */
int podnet_set_sysctl(struct podnet *podnet, const struct podnet_pod *pod, const char *name, const char *value);

/* A connection under way to 127.0.0.1:port as seen from inside the pod: a non-blocking descriptor (-EINPROGRESS is no error). */
int podnet_connect(struct podnet *podnet, const struct podnet_pod *pod, uint16_t port);

struct podnet_endpoint {
    const char *address;
    uint16_t port;
};
struct podnet_service {
    const char *address; /* the cluster IP */
    bool is_udp;
    uint16_t port, node_port; /* node_port 0: none */
    bool affinity;            /* a client stays with its endpoint */
    const char *const *extra; /* further addresses (a balancer's, external ones); one that another service has already is left out */
    size_t extra_count;
    const char *const *sources; /* ranges that may come by node_port and extra; none: all */
    size_t sources_count;
    const struct podnet_endpoint *endpoints;
    size_t endpoints_count; /* none: connections are refused */
};
/* A port of the machine that leads to a pod. */
enum podnet_protocol { PODNET_TCP, PODNET_UDP, PODNET_SCTP };
struct podnet_host_port {
    enum podnet_protocol protocol;
    const char *host_address; /* at this address of the machine only; "": at all of them */
    uint16_t host_port, port;
    const char *address, *address6; /* the pod's; address6 "": none */
};
/* Replaces all services and ports at once, atomically; running connections keep their way. What two claim goes to the first; services come before. */
int podnet_set_services(struct podnet *podnet, const struct podnet_service *services, size_t count, const struct podnet_host_port *ports,
                        size_t ports_count, struct diag *diag);

#endif
