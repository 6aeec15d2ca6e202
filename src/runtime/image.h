/* Images: references, manifests and configurations (OCI image spec 1.1, docker schema 2), and their layers unpacked once per chain ID.
 *
 * The content store is the registry's: <store>/blobs/sha256/<hex> (immutable), <store>/repositories/<name>/tags/<tag> holding "sha256:<hex>", and for
 * what came from another registry <store>/repositories/<name>/_pulled/<hex> (see registry/pulled.h).
 * Unpacked layers: <layers>/<chain id hex>/ is an overlayfs lower folder; a folder that exists is complete (made aside, synced, renamed). */
#ifndef TIDEMILL_RUNTIME_IMAGE_H
#define TIDEMILL_RUNTIME_IMAGE_H

#include "base/base.h"
#include "loop/loop.h"

#define IMAGE_MANIFEST_BYTES_MAX (4 * MIB)
#define IMAGE_LAYERS_MAX 200

struct image_reference {
    const char *repository; /* "debian", "team/app", "quay.io/x/y": own and docker.io prefixes are gone */
    const char *tag;        /* NULL when only a digest was given; "latest" when neither */
    const char *digest;     /* "sha256:…" or NULL */
};
/* own_hosts: "127.0.0.1:5000", "10.88.0.1:5000", … ends with NULL; may be NULL. -EINVAL with diag ("invalid reference format"). */
int image_reference_parse(struct arena *arena, struct slice text, const char *const *own_hosts, struct image_reference *ret, struct diag *diag);
/* "sha256:" and 64 lower-case hex digits. */
bool image_digest_is_valid(struct slice digest);

struct image_strings {
    const char **items;
    size_t count;
};
struct image_layer {
    const char *digest; /* of the blob as stored */
    int64_t size;
    const char *diff_id;  /* of the uncompressed tar */
    const char *chain_id; /* of this layer on all those below it */
};
/* Reference counted and immutable, so that a pod may keep it. */
struct image {
    unsigned references;
    struct arena *arena;
    const char *digest;         /* of the manifest */
    int64_t size_bytes;         /* of its blobs, as stored */
    bool is_pulled;             /* it came from another registry */
    bool is_private;            /* and that wanted credentials: who may use it, the registry says */
    const char *repo_digest;    /* "docker.io/library/nginx@sha256:…" of what was pulled; NULL for the platform's own */
    const char *config_digest;  /* the image ID */
    struct image_layer *layers; /* lowest first */
    size_t layers_count;
    struct image_strings env, entrypoint, command;
    const char *working_dir; /* "" when unset, as the next */
    const char *user;
    const char *stop_signal;
};
struct image *image_ref(struct image *image);
void image_unref(struct image *image);
DEFINE_CLEANUP(struct image, image_unref)

/* Pure parsers, for the fuzzer too. A manifest either names config and layers, or is an index: then *ret_next is the digest of this machine's
 * manifest. */
int image_parse_manifest(struct image *image, struct slice json, const char **ret_next, struct diag *diag);
int image_parse_config(struct image *image, struct slice json, struct diag *diag);
struct image *image_new(void);

/* Reads and verifies manifest and configuration. -ENOENT with diag when the reference is unknown or a blob is missing; -EBADMSG when a digest does
 * not fit. Blocks on small reads. */
int image_resolve(const char *store, const struct image_reference *reference, struct image **ret, struct diag *diag);
/* By the manifest's digest alone: who may have it is not asked. */
int image_read(const char *store, const char *digest, struct image **ret, struct diag *diag);
bool image_is_unpacked(const struct image *image, const char *layers);
/* Unpacks what layers are missing. Blocks for long: for a worker thread. Two at once do no harm. An interrupted one leaves folders "tmp-…",
 * which the next start of the node removes. */
int image_unpack(const struct image *image, const char *store, const char *layers, struct diag *diag);
/* Looks over the unpacked layers, and sets aside those that have not what was unpacked (layer_seal.c), as <layers>/damaged-…: image_unpack makes them
 * anew. Returns how many. Walks all of them: for a worker thread. */
#define IMAGE_DAMAGED_LEAD "damaged-"
size_t image_check(const struct image *image, const char *layers);
/* Is that name in <layers> what an interrupted unpack left, or was set aside before the machine started? Asked at the node's start, before the first
 * unpack. */
bool image_is_left_over(const char *name);

/* Resolve and unpack without blocking the loop; what is here already waits for nobody's unpacking. */
typedef bool image_wanted_fn(const struct image *image);
typedef void image_ready_fn(void *userdata, struct image *image, int error, const struct diag *diag);
struct image_request;
struct image_request_options {
    const char *store, *layers;
    const struct image_reference *reference;
    image_wanted_fn *wanted; /* called on a worker thread: what it does not want is not unpacked, on_done asks again; NULL wants all */
    bool checks;             /* image_check before */
    image_ready_fn *on_done; /* later, once: image (borrowed; take a reference), or NULL with a negative errno (-ENOENT: something is not in the
                                store) and the diag */
    void *userdata;
};
int image_ensure(struct loop *loop, const struct image_request_options *options, struct image_request **ret);
/* on_done does not run; the work may go on to its end. NULL is fine. */
void image_request_cancel(struct image_request *request);

/* Unpacks an image while its blobs arrive, on threads of its own (arrival.c): what is done by the time all are here need not be done then. Nothing
 * is told of a failure: image_ensure tries anew. */
struct image_arrival;
struct image_arrival_options {
    const char *store, *layers;
    const char *manifest; /* its digest; the manifest is a blob already */
    const char *place;    /* blobs grow in <store>/partial/<hex>-<place> */
    void (*on_done)(void *userdata);
    void *userdata;
};
/* It joins `arrivals`, a list. -EINVAL when manifest or place are none, -EBUSY when IMAGE_ARRIVALS_MAX are under way. */
#define IMAGE_ARRIVALS_MAX 2
int image_arrival_start(struct loop *loop, struct list *arrivals, const struct image_arrival_options *options, struct image_arrival **ret);
/* on_done does not run; it ends soon. NULL is fine. */
void image_arrival_cancel(struct image_arrival *arrival);
/* Ends all of them, and waits for that. */
void image_arrivals_end(struct list *arrivals);

#endif
