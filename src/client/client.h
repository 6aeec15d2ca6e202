/* A client of the Kubernetes API for the platform's own parts: requests, and informers (list + watch kept in step, typed objects in memory). node,
 * gateway, monitor, forge and the command line reach core only through this, so that each can face a real cluster as well. */
#ifndef TIDEMILL_CLIENT_H
#define TIDEMILL_CLIENT_H

#include "base/base.h"
#include "http/http.h"
#include "kube/kube.h"
#include "loop/loop.h"

struct client;
struct client_options {
    const char *endpoint; /* "unix:/run/tidemill/api.sock" (who one is follows from the uid) or "https://host:6443" */
    const char *ca_pem, *certificate_pem, *key_pem, *token; /* for https; NULL: none */
};
/* -EINVAL or -EHOSTUNREACH with diag. Nothing is sent yet; a host name is resolved, blocking. */
int client_new(struct loop *loop, const struct client_options *options, struct client **ret, struct diag *diag);
/* From a kubeconfig file's current context: certificates as data or files (relative to the kubeconfig), client certificates, token, tokenFile. Not:
 * exec plugins, proxies, skipping the verification: these are named in the diag. */
int client_new_kubeconfig(struct loop *loop, const char *path, struct client **ret, struct diag *diag);
/* Cancels requests (no callbacks). Informers must be freed before. NULL is fine. */
void client_free(struct client *client);
struct http_client *client_http(struct client *client);

/* One request; on_answer as http_client_send. `body` is JSON unless content_type says otherwise (NULL: application/json). The answer is asked for as
 * JSON, at most 256 MiB, within 60 s. */
int client_request(struct client *client, const char *method, const char *target, const char *content_type, struct slice body,
                   http_answer_fn *on_answer, void *userdata);
/* The request path of an object ("/apis/apps/v1/namespaces/x/deployments/y"); name NULL: the collection; subresource NULL: none. In the arena. */
char *client_path(struct arena *arena, const struct kube_kind *kind, const char *namespace, const char *name, const char *subresource);
/* Turns an answer into a diag: the Status' message, or what went wrong on the way. Returns 0 for 2xx, otherwise negative errno (-ENOENT 404,
 * -EEXIST 409 AlreadyExists, -EAGAIN 409 Conflict, -EPERM 403, -EACCES 401, -EINVAL 400/422, -EBUSY 429 and 503, -ESTALE 410, -EIO other), or the
 * answer's own errno when there was none. diag may be NULL. */
int client_check(const struct http_answer *answer, struct diag *diag);

/* An informer: the objects of a kind, always as the server last told. Survives disconnects: watches on from the last
 * resourceVersion, or lists again when the server no longer has it (410), with back-off (100 ms doubling to 10 s). Callbacks come from the loop, and
 * may free the informer. The store of an informer holds the object already (or no longer, when deleted) while on_event runs. */
struct informer;
enum informer_event { INFORMER_ADDED, INFORMER_UPDATED, INFORMER_DELETED };
struct informer_options {
    const char *namespace;      /* NULL: all */
    const char *field_selector; /* "spec.nodeName=x"; NULL: none */
    const char *label_selector;
    /* old is NULL when added; after a relist, only what differs is reported. Objects are shared and immutable: kube_object_ref to keep. */
    void (*on_event)(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old);
    void (*on_synced)(void *userdata); /* after the first list is complete; may be NULL */
    void *userdata;
};
int informer_new(struct client *client, const struct kube_kind *kind, const struct informer_options *options, struct informer **ret);
/* Drops its objects; no callback. NULL is fine. */
void informer_free(struct informer *informer);
bool informer_synced(const struct informer *informer);
/* Borrowed, or NULL. */
struct kube_object *informer_find(const struct informer *informer, const char *namespace, const char *name);
/* `for (size_t at = 0; (object = informer_next(informer, &at));)` */
struct kube_object *informer_next(const struct informer *informer, size_t *at);
size_t informer_count(const struct informer *informer);

#endif
