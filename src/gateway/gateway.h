/* The gateway role: every byte from the internet passes here. It learns Ingresses, Services and EndpointSlices from the Kubernetes API, turns them
 * into route snapshots of the proxy engine, and goes on with the last ones when core is away. See README.md. */
#ifndef TIDEMILL_GATEWAY_H
#define TIDEMILL_GATEWAY_H

#include <sys/types.h>

#include "base/base.h"

struct gateway_options {
    const int *http_fds; /* listening sockets for plain HTTP; stay the caller's */
    size_t http_fds_count;
    int metrics_fd;           /* listening socket of /metrics, /healthz and /readyz; -1: none */
    const char *api_endpoint; /* "unix:/run/tidemill/api.sock" */
    uid_t uid;                /* when started as root: become this user and group, without capabilities; 0: stay */
    gid_t gid;
    bool no_sandbox;          /* without the system call filter: for sanitizers and debuggers */
    int64_t hold_timeout_ms;  /* a request without a ready endpoint waits so long; 0: 10,000 */
    int64_t drain_timeout_ms; /* after SIGTERM requests in flight get so long; 0: 10,000 */
};

/* Runs until SIGTERM or SIGINT and until what is in flight is finished. 0, or negative errno with diag when it cannot start. */
int gateway_run(const struct gateway_options *options, struct diag *diag);

#endif
