/* The role `core`: the object store, the Kubernetes API, the controllers, the registry and the forge in one process and one event loop. See
 * README.md. */
#ifndef TIDEMILL_CORE_H
#define TIDEMILL_CORE_H

#include "base/base.h"

struct core_options {
    const char *instance;    /* "tidemill" */
    const char *state, *run; /* folders; <state>/core, pki, registry and forge are ours to write */
    const char *version;     /* of tidemill */
    const char *node_name;
    /* Listening sockets, handed down; -1: not served. They stay the caller's. */
    int api_fd;                 /* TCP, TLS */
    int api_pods_fd;            /* TCP on the bridge's address, for pods; -1: api_fd listens there too */
    int api_unix_fd;            /* <run>/api.sock */
    int registry_fd;            /* TCP on the host's loopback */
    int registry_pods_fd;       /* TCP on the bridge's address */
    int git_fd;                 /* TCP */
    int job_fd;                 /* <run>/job/job.sock */
    const char *api_address;    /* what api_fd listens on, "127.0.0.1:6443": for the kubeconfig */
    const char *bridge_address; /* "10.88.0.1": a name of the serving certificate; NULL: none */
    const char *service_range;  /* "10.96.0.0/16" */
    const char *registry;       /* "10.88.0.1:5000", as pods reach it */
    const char *git_url;        /* "http://127.0.0.1:3000" */
    const char *domain;         /* of applications */
    int gateway_port;           /* that applications are reached at */
    uid_t gateway_uid;          /* who is system:gateway on the unix socket */
    /* Kubelet's thresholds: with more of the disk used than the first, pulled images go until it is no more than the second; 100: never. */
    unsigned image_gc_high_percent, image_gc_low_percent;
    int64_t image_age_ns_min; /* of an image that goes so */
    size_t keep_images;       /* newest images per application that stay, beside those in use; 0: IMAGES_KEPT_DEFAULT */
    int64_t node_silence_ms;  /* after which a node that says nothing counts as lost; 0: as usual */
    const char *registries;   /* file about other registries (registry/sites.h), and credentials for them as a docker config.json; NULL: none */
    const char *registry_auth;
    const char *helper_path; /* the tidemill-job program; NULL: beside this executable */
};

/* Runs until SIGTERM or SIGINT; what was acknowledged is durable then. Logs. 0; negative errno with diag when it cannot start: -EBUSY another core on
 * the same state. */
int core_run(const struct core_options *options, struct diag *diag);

#endif
