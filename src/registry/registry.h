/* The platform's container registry: OCI distribution 1.1 over one content store, and what makes images without another registry. One include for
 * all. See README.md. */
#ifndef TIDEMILL_REGISTRY_H
#define TIDEMILL_REGISTRY_H

#include "http/http.h"
#include "loop/loop.h"
#include "registry/bootstrap.h"
#include "registry/build_pod.h"
#include "registry/content.h"
#include "registry/docker_config.h"
#include "registry/oci.h"
#include "registry/publish.h"
#include "registry/pull.h"
#include "registry/pulled.h"

struct registry;

/* --- who may do what --- */
enum registry_verdict {
    REGISTRY_ALLOWED,
    REGISTRY_UNAUTHORIZED, /* unknown: 401, the client may try again with (other) credentials */
    REGISTRY_DENIED,       /* known, and not allowed: 403 */
};
struct registry_access {
    const char *user;     /* of basic authentication; empty for a bearer token and for anonymous requests */
    const char *password; /* or the bearer token; empty when anonymous */
    const struct http_peer *peer;
    const char *repository; /* NULL: the registry as a whole (ping, list of repositories) */
    bool write;
};
typedef enum registry_verdict registry_authorize_fn(void *userdata, const struct registry_access *access);

struct registry_options {
    const char *path;                 /* <state>/registry */
    uint64_t bytes_free_min;          /* disk space that pushes leave to others; 0: 64 MiB */
    registry_authorize_fn *authorize; /* NULL: everybody may read; writing needs a unix peer with uid 0 or our own */
    void (*on_tag)(void *userdata, const char *name, const char *tag, const struct oci_digest *digest); /* a tag was pushed; may be NULL */
    void *userdata;
    const char *sites_path, *credentials_path; /* for other registries, see sites.h and docker_config.h; NULL: none. Kept by the caller */
    int64_t retry_ms;                          /* first pause when another registry fails; 0: 500 */
    int64_t slow_ms;                           /* how long a pull may be slow before others pass it; 0: 20 seconds */
    /* Adds the credentials that those secrets of that namespace hold; the names of those that do not into `missing` ("a, b"). May be NULL. */
    int (*pull_secrets)(void *userdata, const char *namespace, const char *const *names, size_t count, struct docker_config *into,
                        struct buffer *missing);
    int64_t upload_timeout_ms; /* an upload that rests this long is dropped; 0: 15 minutes */
    size_t uploads_max;        /* 0: 64 */
};
/* Opens the store; -EBUSY with diag when another process has it. */
int registry_new(struct loop *loop, const struct registry_options *options, struct registry **ret, struct diag *diag);
/* After the servers that feed it were freed. NULL is fine. */
void registry_free(struct registry *registry);
DEFINE_CLEANUP(struct registry, registry_free)
struct content *registry_content(struct registry *registry);

/* Answers one request for /v2/…; an http_handler_fn whose userdata is the registry, for a server of its own or behind another handler.
 * Beside the specification's routes there are /v2/_tidemill/pull, push and login, for those who may write to the registry as a whole: see
 * registry_remote.c. */
void registry_handle(void *registry, struct http_exchange *exchange);

/* Uploads that were begun and are not complete. */
size_t registry_uploads(const struct registry *registry);

/* Runs content_collect_garbage on a worker thread; -EBUSY while one runs. on_done may be NULL; error is 0 or negative. registry_free ends it:
 * on_done gets -ECANCELED. */
typedef void registry_gc_fn(void *userdata, int error, const struct content_gc_result *result);
int registry_collect_garbage(struct registry *registry, const struct content_gc_options *options, registry_gc_fn *on_done, void *userdata);

/* Makes the image that build pods run in (see build_pod.h) when it is absent or of an older version. Blocks a few milliseconds; call at start. */
int registry_ensure_builder_image(struct registry *registry);

#endif
