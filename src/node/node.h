/* The node role: runs the pods that are bound to it. Root. Comes back after a kill at any instruction and takes over what runs; containers never
 * notice. */
#ifndef TIDEMILL_NODE_H
#define TIDEMILL_NODE_H

#include "base/base.h"

struct node_options {
    const char *instance;     /* [a-z0-9]{1,10}: names bridge, nftables table and cgroups */
    const char *state_dir;    /* <state>/registry is read; <state>/node is ours */
    const char *run_dir;      /* <run>/node is ours */
    const char *api_endpoint; /* "unix:/run/tidemill/api.sock" */
    const char *node_name;
    const char *pod_cidr;              /* "10.88.0.0/16" */
    const char *pod_cidr6;             /* "fd00:88::/64", "auto": a local range of the instance's own; NULL or "none": pods have no IPv6 */
    const char *service_cidr;          /* "10.96.0.0/16"; NULL: none */
    const char *const *registry_hosts; /* prefixes of image names that mean our own registry, beside <bridge address>:5000 and 127.0.0.1:5000; ends
                                          with NULL; may be NULL */
    const char *host_address;          /* the node's InternalIP; NULL: the address of the default route, else the bridge's */
    int socket_fd;                     /* listening: logs, exec, attach, metrics; -1: <run>/node.sock is made */
    int metrics_fd;                    /* listening: /metrics and /healthz only; -1: none */
    /* Kubelet's flags of the same names; NULL or "": what is usual, see pressure.c. */
    const char *eviction_hard, *eviction_soft, *eviction_soft_grace_period, *eviction_minimum_reclaim, *eviction_pressure_transition_period,
        *eviction_max_pod_grace_period;
};
/* Whether the texts in there can be read; -EINVAL with diag. */
int node_options_check(const struct node_options *options, struct diag *diag);
/* Runs until SIGTERM or SIGINT; the pods go on. 0, or negative errno with diag (missing privileges, a kernel without overlayfs, another node on the
 * same state, …). */
int node_run(const struct node_options *options, struct diag *diag);
/* Ends every pod of the instance at once and removes networks, mounts, cgroups: for taking it down for good. No node may run meanwhile. */
int node_purge(const struct node_options *options, struct diag *diag);

#endif
