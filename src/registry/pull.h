/* An image from another registry (docker.io, ghcr.io, a company's own) into the platform's store. */
#ifndef TIDEMILL_REGISTRY_PULL_H
#define TIDEMILL_REGISTRY_PULL_H

#include "registry/oci.h"

struct registry;
struct registry_pull;

/* Borrowed for the call. */
struct registry_pull_result {
    int error; /* 0, or negative errno with `diag` */
    const struct diag *diag;
    const char *name, *tag;   /* under which the image is kept here (oci_reference_local_name); tag empty for a pull by digest */
    struct oci_digest digest; /* of the manifest for this machine's architecture */
};
struct registry_pull_options {
    const char *reference;                                                          /* "nginx:1.25", "ghcr.io/org/app@sha256:…" */
    const char *user, *password;                                                    /* for that registry; NULL: anonymous */
    bool insecure;                                                                  /* plain HTTP: for registries on this machine, and tests */
    void (*on_progress)(void *userdata, uint64_t bytes_done, uint64_t bytes_total); /* of blobs; may be NULL */
    void (*on_done)(void *userdata, const struct registry_pull_result *result);     /* once, last, never before registry_pull has returned */
    void *userdata;
};
/* Starts; what is here already is not fetched again, every byte is checked against its digest before it counts. -EINVAL with diag for a bad
 * reference, -EBUSY when PULLS_MAX are under way. Two pulls of the same image do the work twice and are harmless. */
#define REGISTRY_PULLS_MAX 2
int registry_pull(struct registry *registry, const struct registry_pull_options *options, struct registry_pull **ret, struct diag *diag);
/* on_done does not run; the transfer ends soon. */
void registry_pull_cancel(struct registry_pull *pull);

#endif
