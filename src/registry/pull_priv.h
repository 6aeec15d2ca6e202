/* What pull_queue.c (life, threads), pull.c (manifests), pull_blobs.c and push.c share. */
#ifndef TIDEMILL_REGISTRY_PULL_PRIV_H
#define TIDEMILL_REGISTRY_PULL_PRIV_H

#include "registry/pulled.h"
#include "registry/registry_priv.h"
#include "registry/hub.h"

#define PULL_INDEX_DEPTH_MAX 3

enum pull_kind { PULL_IMAGE, PUSH_IMAGE, LOGIN };

struct registry_pull {
    enum pull_kind kind;
    struct registry *registry;
    struct list node;                     /* among those under way, or queued */
    struct registry_pull_options options; /* callbacks; its texts are copied below */
    struct oci_reference reference;
    char name[OCI_NAME_MAX + 1];      /* ours: of a push, the source */
    char source_tag[OCI_TAG_MAX + 1]; /* of a push */
    char platform_text[IMAGE_PLATFORM_TEXT];
    struct image_platform platform;
    struct docker_config credentials; /* whoever asks brought these */
    struct loop_io *wake;
    int wake_fd;
    bool begun, cancelled /* on_done does not run */, gave_way /* it was slow, and others wait */;
    bool is_slow, is_aside;            /* others have its place */
    int64_t looked_ms, aside_since_ms; /* since when its bytes are counted; monotonic */
    uint64_t looked_bytes;             /* what was done then */
    pthread_t thread;
    atomic_bool stopping, is_arriving, is_done;
    _Atomic uint64_t bytes_done, bytes_total, bytes_reported, bytes_fetched;
    /* the worker's own, until it is done */
    struct docker_config machine; /* the machine's credentials */
    _Atomic(struct hub *) hub;
    const struct sites *sites;
    size_t endpoint;                            /* where the manifest came from: the blobs come from there too */
    const struct docker_credential *credential; /* without which it is not to be had; NULL: anybody gets it */
    VECTOR(struct oci_digest) held;
    int error;
    struct diag diag;
    struct oci_digest digest;
    struct oci_digest arriving; /* before is_arriving */
};

/* All of its work, on a thread of its own: 0, or negative errno with pull->diag. */
int pull_work(struct registry_pull *pull);

/* Bytes of blobs that are here; tells the loop now and then. From any thread. */
void pull_report(struct registry_pull *pull, uint64_t bytes);
/* Tells the loop that the blobs of that manifest have begun to come. */
void pull_tell_arriving(struct registry_pull *pull, const struct oci_digest *manifest);
/* Keeps garbage collection off it until the pull ends. */
int pull_hold(struct registry_pull *pull, const struct oci_digest *digest);
/* Brings the configuration and all layers, several at once, and links them. Blocks. 0, or negative errno with pull->diag. */
int pull_blobs(struct registry_pull *pull, const struct oci_digest *digest, const struct oci_manifest *manifest);

/* The work of a push and of a login, with pull->hub connected. 0, or negative errno with pull->diag. */
int push_image(struct registry_pull *pull, struct hub_connection *connection, struct arena *arena);
int login(struct registry_pull *pull, struct hub_connection *connection, struct arena *arena);

#endif
