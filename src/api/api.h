/* The Kubernetes API over HTTP, and the same door for parts of this process. See README.md.
 *
 * One struct api stands over one store. Any number of http_servers (TLS listener, unix socket) hand it their exchanges; controllers in the same
 * process write through the functions at the end, which share admission, defaulting and validation with HTTP. Everything runs on the loop's thread.
 */
#ifndef TIDEMILL_API_H
#define TIDEMILL_API_H

#include "base/base.h"
#include "http/http.h"
#include "kube/kube.h"
#include "loop/loop.h"
#include "store/store.h"

struct api;

struct request; /* private */

/* Who a unix socket's peer is, by its uid. */
struct api_unix_user {
    uid_t uid;
    const char *name;  /* NULL ends the list */
    const char *group; /* NULL: none */
};

/* Paths that others serve on our listeners ("/tidemill/", "/v2/"), for who may by its role (non-resource URLs). They own the exchange, on_close
 * included. */
struct api_mount {
    const char *prefix; /* static */
    http_handler_fn *handler;
    void *userdata;
};

struct api_options {
    struct store *store;                    /* its stamp is set by api_new */
    const char *version;                    /* tidemill's own, part of what /version says */
    const char *node_socket;                /* path of the node's socket for logs, exec, attach and forwarded ports; NULL: those answer 503 */
    const struct api_unix_user *unix_users; /* ends with name NULL; a peer that is not listed is anonymous */
    const char *service_range;              /* "10.96.0.0/16" (the default); a prefix of 16 to 28 */
    const char *advertise_address;          /* where pods reach this API; becomes the endpoint of the service default/kubernetes; NULL: none */
    int advertise_port;
    const struct api_mount *mounts; /* ends with prefix NULL; NULL: none */
    /* What service account tokens are signed (the first) and checked with, ends with NULL; they outlive the API. NULL: there are no such tokens. */
    const struct jwt_key *const *token_keys;
    const char *audit_folder; /* where the audit log is kept; NULL: none is */
    /* When a node was last heard of, nanoseconds since 1970, 0: not known; may be NULL. It is told in its lease and its conditions, see heartbeat.c.
     */
    int64_t (*heartbeat)(void *userdata, const char *node);
    void *heartbeat_userdata;
    /* Appends further lines to /metrics; may be NULL. */
    void (*metrics)(void *userdata, struct buffer *out);
    void *metrics_userdata;
};

/* Copies the options; the store must outlive it. Creates the default namespaces and the service `kubernetes` when they are missing (asynchronously).
 * -EINVAL with diag. */
int api_new(struct loop *loop, const struct api_options *options, struct api **ret, struct diag *diag);
/* Ends all watches and the like; the http_servers must be freed before. No callback of the functions below runs afterwards, even when store_close
 * still commits their writes. NULL is fine. */
void api_free(struct api *api);
/* The http_handler_fn of every server; userdata is the struct api. */
void api_handle(void *api, struct http_exchange *exchange);
/* Ends open watches and log streams cleanly, so that servers drain: for shutdown. */
void api_end_watches(struct api *api);

/* --- identities --- */
struct api_user {
    const char *name;          /* "system:anonymous" when not authenticated */
    const char *uid;           /* NULL: none */
    const char *const *groups; /* ends with NULL */
    struct kube_strings_map extra;
};
/* Who the exchange's peer is: bearer token, client certificate, unix uid, else anonymous; -EACCES when a bearer token is wrong (answer 401). In the
 * arena. */
int api_authenticate(struct api *api, struct http_exchange *exchange, struct arena *arena, struct api_user *ret);
struct api_access {
    const char *verb; /* get list watch create update patch delete deletecollection; of a path: the method in lower case */
    const char *group, *version, *resource, *subresource, *namespace, *name; /* NULL: none */
    const char *path;                                                        /* of what is no resource; otherwise NULL */
};
#define API_REASON_BYTES 1024
/* The one authorisation function: may the user do this? The reason, in upstream's words, may be NULL. Microseconds. */
bool api_authorize(struct api *api, const struct api_user *user, const struct api_access *access, char ret_reason[API_REASON_BYTES]);

#define API_TOKEN_BYTES 48
/* Makes a bearer token for a user; only its SHA-256 is stored. expires_s: seconds since 1970, 0: never. on_done runs when it is durable (may be
 * NULL). */
int api_token_new(struct api *api, const char *user, const char *const *groups, int64_t expires_s, char ret[API_TOKEN_BYTES],
                  void (*on_done)(void *userdata, int error), void *userdata);

/* Appends the token of a secret of type kubernetes.io/service-account-token, which does not expire: it ends with the secret. -ENOTSUP without keys.
 */
int api_account_token(struct api *api, const struct kube_object *account, const struct kube_object *secret, struct buffer *out);

/* --- writing and reading from inside --- */
/* Why a request was refused, in Kubernetes' terms. */
struct api_failure {
    int code;           /* HTTP status: 404, 409, 422, … */
    const char *reason; /* "NotFound", "AlreadyExists", "Conflict", "Invalid", …; static */
    char message[4096];
    char resource[128];         /* details.kind: plural, or the kind's name for Invalid; empty: none */
    char group[128];            /* details.group */
    char name[254];             /* details.name */
    int retry_after_s;          /* 0: none */
    bool stale;                 /* a conflict only because the object has changed while webhooks looked at it: the same may be tried again */
    const char *continue_token; /* of an expired list: how to go on regardless; in the request's arena; NULL: none */
    struct diag diag;           /* its causes */
};
/* failure NULL: the write is durable and `object` (borrowed; ref to keep) is the new version, of a delete the last one. */
typedef void api_done_fn(void *userdata, const struct api_failure *failure, struct kube_object *object);

/* The newest accepted version (committed or not): what a read-modify-write starts from. Shared and immutable: unref. NULL when absent. */
struct kube_object *api_get(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name);
/* The decoded form of a stored object, kept in its cache; borrowed until the next turn of the loop (ref to keep). NULL without memory or when the
 * stored bytes are broken. */
struct kube_object *api_decode(struct api *api, struct store_object *stored);
/* Drops the decoded forms that nobody will look at soon now instead of in a later turn: for who walks many objects and has let go of what it
 * borrowed. */
void api_decode_trim(struct api *api);
/* How often api_decode has found no memory: who walks many objects compares it, so as not to take for absent what was only not seen. */
uint64_t api_decode_failures(const struct api *api);

/* Each returns 0 when accepted, and then calls on_done (may be NULL) once, never before it returns; or the HTTP code with *failure (may be NULL)
 * filled and no callback. They take over one reference of `object`, which nobody may change afterwards. Updates are conditional on
 * metadata.resource_version when it is set. */
int api_create(struct api *api, struct kube_object *object, api_done_fn *on_done, void *userdata, struct api_failure *failure);
int api_update(struct api *api, struct kube_object *object, api_done_fn *on_done, void *userdata, struct api_failure *failure); /* all but status */
int api_update_status(struct api *api, struct kube_object *object, api_done_fn *on_done, void *userdata,
                      struct api_failure *failure); /* status alone */
/* Binds a pod: the object is the pod with spec.nodeName set (and what belongs to it), which an ordinary update may not do. */
int api_bind(struct api *api, struct kube_object *object, api_done_fn *on_done, void *userdata, struct api_failure *failure);
struct api_delete_options {
    const char *uid;              /* precondition; NULL: none */
    const char *resource_version; /* precondition; NULL: none */
    int64_t grace_seconds;        /* pods; -1: the pod's own */
    const char *propagation;      /* "Background", "Foreground", "Orphan"; NULL: Background */
    bool dry_run;
    bool unasked;                /* no webhook is asked */
    const struct api_user *user; /* who deletes, until it is done; NULL: the platform itself */
    struct request *reader;      /* gets warnings; NULL: nobody reads them */
};
/* With finalizers or a grace period the object is only marked: the callback gets the marked version. */
int api_delete(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name, const struct api_delete_options *options,
               api_done_fn *on_done, void *userdata, struct api_failure *failure);

/* How many writes had to wait for admission webhooks so far. One that has raised the number was neither accepted nor refused when its function
 * returned; its callback tells. */
uint64_t api_writes_asked(const struct api *api);

#endif
