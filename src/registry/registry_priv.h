/* What the files of the distribution server share. */
#ifndef TIDEMILL_REGISTRY_REGISTRY_PRIV_H
#define TIDEMILL_REGISTRY_REGISTRY_PRIV_H

#include <pthread.h>

#include "registry/pulled.h"
#include "registry/registry.h"
#include "registry/sites.h"

struct upload;

struct registry {
    struct loop *loop;
    struct content *content;
    struct registry_options options;
    struct map *uploads;           /* id → struct upload */
    struct collection *collection; /* garbage collection under way */
    struct pulled_key pulled_key;
    struct list pulls, pulls_queued;                        /* of struct registry_pull */
    int pulls_count, pulls_aside_count, pulls_queued_count; /* pulls_count: those that have a place */
    struct loop_defer pulls_start;
    struct loop_timer pulls_look; /* set while all places are taken and others wait */
    /* from worker threads */
    pthread_mutex_t arriving_lock;
    pthread_cond_t arrived;
    struct map *arriving; /* hex → the pull that fetches that blob */
};

/* A request after routing: in the exchange's arena. */
struct registry_request {
    struct registry *registry;
    struct http_exchange *exchange;
    struct query query;
    char *name;       /* repository, checked; NULL for the registry as a whole */
    const char *rest; /* digest, tag, upload id: unchecked; "" when absent */
    bool is_head;
};

/* {"errors":[{"code":…,"message":…}]} of the specification. */
void registry_error(struct http_exchange *exchange, int status, const char *code, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The same for a failure of the disk: 507 when it is full, 413 when something is too large, 500 otherwise. */
void registry_storage_error(struct http_exchange *exchange, int error);

/* Disk work of a request on a worker thread. The exchange may end meanwhile: then there is no answer, but `run` has happened. Embed as the first
 * member. */
struct registry_operation {
    struct registry_request *request; /* valid only while exchange is not NULL */
    struct http_exchange *exchange;   /* NULL once it has ended */
    struct registry *registry;
    void (*run)(struct registry_operation *operation);     /* on the worker thread */
    void (*finish)(struct registry_operation *operation);  /* on the loop; answers when exchange is not NULL */
    void (*release)(struct registry_operation *operation); /* frees what the operation holds, and itself */
    bool working;
    int error;
};
/* Takes the operation over. */
void registry_operation_start(struct registry_operation *operation, struct registry_request *request);

int registry_pulls_init(struct registry *registry);
void registry_pulls_deinit(struct registry *registry);
/* What the machine's owner says about other registries; from any thread, read anew each time. A file that is not there says nothing. */
int registry_read_sites(const struct registry *registry, struct arena *arena, struct sites *ret, struct diag *diag);
int registry_read_credentials(const struct registry *registry, struct docker_config *into, struct diag *diag);

/* Handlers: one per route. */
void registry_on_ping(struct registry_request *request);
void registry_on_catalog(struct registry_request *request);
void registry_on_blob_get(struct registry_request *request);
void registry_on_blob_delete(struct registry_request *request);
void registry_on_upload_start(struct registry_request *request);
void registry_on_upload_status(struct registry_request *request);
void registry_on_upload_patch(struct registry_request *request);
void registry_on_upload_put(struct registry_request *request);
void registry_on_upload_cancel(struct registry_request *request);
void registry_on_manifest_get(struct registry_request *request);
void registry_on_manifest_put(struct registry_request *request);
void registry_on_manifest_delete(struct registry_request *request);
void registry_on_tags(struct registry_request *request);
void registry_on_referrers(struct registry_request *request);
void registry_on_pull(struct registry_request *request);
void registry_on_push(struct registry_request *request);
void registry_on_login(struct registry_request *request);
void registry_on_logout(struct registry_request *request);

enum registry_verdict registry_check(struct registry_request *request, const char *repository, bool write);
/* Is the manifest, of the request's repository, kept from whoever asks? */
bool registry_hides_manifest(struct registry_request *request, const struct oci_digest *digest);
/* Has that repository the blob, for whoever asks? */
bool registry_shows_blob(struct registry_request *request, const char *name, const struct oci_digest *digest);
void registry_uploads_free(struct registry *registry);

/* A strong entity tag and the digest's headers, in the arena: {Docker-Content-Digest, ETag, …}. */
const char *registry_etag(struct arena *arena, const struct oci_digest *digest);
/* True (and answered with 304) when the client has it already. */
bool registry_not_modified(struct registry_request *request, const struct oci_digest *digest);

#endif
