/* The monitor role: scrapes the platform's roles and every pod and service that asks for it (annotations prometheus.io/scrape, port, path), keeps the
 * samples in memory, answers Prometheus' HTTP API for instant vector selectors. See README.md. */
#ifndef TIDEMILL_MONITOR_H
#define TIDEMILL_MONITOR_H

#include <sys/types.h>

#include "base/base.h"

/* A target that does not come from the Kubernetes API: a role of the platform. */
struct monitor_target {
    const char *job;      /* "tidemill-gateway" */
    const char *endpoint; /* "unix:/run/tidemill/gateway.sock" or "http://127.0.0.1:1234" */
    const char *path;     /* NULL: "/metrics" */
};

struct monitor_options {
    int listen_fd;            /* the HTTP API; stays the caller's */
    const char *api_endpoint; /* "unix:/run/tidemill/api.sock"; NULL: only the targets below */
    const struct monitor_target *targets;
    size_t targets_count;
    int64_t scrape_interval_ms; /* 0: 15,000 */
    int64_t retention_ms;       /* 0: 2 hours */
    size_t memory_bytes_max;    /* of samples and series; 0: 8 MiB */
    uid_t uid;                  /* when started as root: become this user and group; 0: stay */
    gid_t gid;
};

/* Runs until SIGTERM or SIGINT. 0, or negative errno with diag when it cannot start. */
int monitor_run(const struct monitor_options *options, struct diag *diag);

#endif
