/* Images between the platform's store and other registries (docker.io, ghcr.io, a company's own). Pulls, pushes and logins queue together. */
#ifndef TIDEMILL_REGISTRY_PULL_H
#define TIDEMILL_REGISTRY_PULL_H

#include "registry/docker_config.h"
#include "registry/oci.h"

struct registry;
struct registry_pull;

/* Borrowed for the call. */
struct registry_pull_result {
    int error; /* 0, or negative errno with `diag` */
    const struct diag *diag;
    const char *name, *tag;   /* under which the image is kept here (oci_reference_local_name); tag empty for a pull by digest */
    struct oci_digest digest; /* of the manifest for the platform */
    uint64_t bytes;           /* that came over the network */
};
enum registry_pull_policy {
    REGISTRY_PULL_ALWAYS,         /* the registry is asked what the tag means now; only what is new is fetched */
    REGISTRY_PULL_IF_NOT_PRESENT, /* what is here is enough, when its credentials are shown */
    REGISTRY_PULL_NEVER,          /* nothing is fetched: only whether it is here and may be had */
};
struct registry_pull_options {
    const char *reference; /* "nginx:1.25", "ghcr.io/org/app@sha256:…" */
    enum registry_pull_policy policy;
    struct docker_config *credentials; /* taken over, also when it fails; NULL: only the machine's own */
    const char *platform;              /* "linux/arm64"; NULL: this machine's */
    bool checks;                       /* what is here is read again: a blob that is not what its digest says is fetched anew */
    bool keeps_ours;                   /* an image of our own that is not all here is not replaced by a stranger of that name: -ENOENT */
    bool insecure;                     /* plain HTTP or unchecked certificates are fine */
    void (*on_begin)(void *userdata);  /* its turn has come; may be NULL */
    /* So much of it has to come that unpacking may begin meanwhile: the manifest is a blob now, others grow in partial/<hex>-<place>. May be NULL. */
    void (*on_arriving)(void *userdata, const struct oci_digest *manifest, const char *place);
    void (*on_progress)(void *userdata, uint64_t bytes_done, uint64_t bytes_total); /* of blobs; may be NULL */
    void (*on_done)(void *userdata, const struct registry_pull_result *result);     /* once, last, never before registry_pull has returned */
    void *userdata;
};
/* Starts, or queues it behind those under way. What is here already is not fetched again, every byte is checked against its digest before it counts,
 * and of what several pulls want at a time each blob is fetched once. -EINVAL with diag for a bad reference, -EBUSY when the queue is full. */
#define REGISTRY_PULLS_MAX 2 /* at a time */
/* When all places are taken and others wait, a pull that brings less than that in a second loses its place; it goes on beside them. When there are
 * more of these than REGISTRY_PULLS_SLOW_MAX, the one that has been slow for longest fails with -ETIMEDOUT; the next pull goes on where it was. */
#define REGISTRY_PULL_BYTES_PER_S_MIN (64 * KIB)
#define REGISTRY_PULLS_SLOW_MAX 4
#define REGISTRY_PULLS_QUEUED_MAX 500
#define REGISTRY_PULL_ARRIVING_BYTES_MIN (8 * MIB) /* for on_arriving */
int registry_pull(struct registry *registry, const struct registry_pull_options *options, struct registry_pull **ret, struct diag *diag);
/* An image of ours, with all that it names, into another registry; what that has already is not sent. options: reference is the target, a tag's;
 * policy and platform do not matter; result: name is the source's, digest the manifest's, bytes those that were sent. -ENOENT comes by on_done. */
int registry_push(struct registry *registry, const char *name, const char *tag, const struct registry_pull_options *options,
                  struct registry_pull **ret, struct diag *diag);
/* Asks the registry ("ghcr.io") whether it takes the credentials. options: reference "REGISTRY/any"; credentials with one entry for it. When it does,
 * they are kept in the file of the machine's credentials, in place of others for it. */
int registry_login(struct registry *registry, const struct registry_pull_options *options, struct registry_pull **ret, struct diag *diag);
/* Forgets the machine's credentials for a registry: -ENOENT when there are none. Blocks on a small file. */
int registry_logout(struct registry *registry, const char *host, struct diag *diag);
/* How many are under way or wait, also those that were cancelled and have not ended. */
size_t registry_pulls(const struct registry *registry);
/* on_done does not run; the transfer ends soon. */
void registry_pull_cancel(struct registry_pull *pull);

#endif
