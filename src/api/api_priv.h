/* What the files of api/ share. Reading order: README.md. */
#ifndef TIDEMILL_API_PRIV_H
#define TIDEMILL_API_PRIV_H

#include "api/api.h"
#include "api/openapi_priv.h"
#include "api/route.h"

#define API_REQUEST_BYTES_MAX (2 * TREE_BYTES_MAX) /* memory of one request: its body's tree, the patched tree, the answer's pieces */
#define API_ANSWER_BYTES_MAX (256 * MIB)           /* one list */
#define API_LIST_ITEMS_MAX 5000                    /* of one page when the client sets a limit */
#define API_EVENTS_MAX 2000                        /* event objects kept; the oldest go first */
#define API_EVENT_LIFETIME_S 3600
#define API_GROUPS_MAX 250 /* of one user; further ones are not its */

/* Service addresses of the range; bit i is address base + i. */
struct addresses {
    uint32_t base, count, next;
    uint64_t *taken;
};

#define API_PROXIES_MAX 32 /* servers behind proxies that connections are kept to */

/* A server behind a proxy. */
struct api_proxy {
    char endpoint[64];
    struct http_client *client;
    unsigned requests; /* under way */
    uint64_t used;     /* when, in requests of the API */
};

#define NODE_PORT_MIN 30000
#define NODE_PORT_MAX 32767

struct api_statistics {
    uint64_t requests, requests_failed, watches, watches_lost;
};

struct api {
    unsigned references; /* the owner's, and one of each write under way: the store may call back after api_free */
    bool closed;         /* after api_free */
    size_t bodies_bytes; /* what requests with bodies take, see body.c */
    struct loop *loop;
    struct store *store;
    struct arena *arena; /* copies of the options' strings */
    struct api_options options;
    struct addresses addresses;
    uint64_t node_ports[(NODE_PORT_MAX - NODE_PORT_MIN) / 64 + 1]; /* bit i is port NODE_PORT_MIN + i: taken */
    struct rbac *rbac;                                             /* who may what, see authorize.c */
    bool rbac_stale;                                               /* memory was missing while it followed a change */
    struct webhooks *webhooks;                                     /* who is asked about writes, see webhook_priv.h */
    struct audit_log *audit;                                       /* NULL: none is kept */
    struct token_cache *token_cache;                               /* made on first use, see account_token.c */
    struct http_client *node;                                      /* made on first use */
    struct api_proxy proxies[API_PROXIES_MAX];
    struct tls_context *any_server; /* for proxies to https; made on first use */
    struct list watches;            /* struct watch by its node */
    struct list tunnels;            /* log streams and tunnels, by their node */
    struct list deferred;           /* struct pending: answers without a write */
    struct loop_timer bookmark_timer, event_timer;
    struct store_watch *history;        /* sees versions being replaced, see stored.c */
    VECTOR(struct store_object *) cold; /* whose decoded form is to be dropped */
    size_t cold_bytes;                  /* of their values */
    struct loop_defer drop;
    struct list crds; /* struct crd by its node */
    struct loop_defer crd_step;
    struct loop_timer crd_timer;
    bool crd_reload;          /* something about definitions was not done for want of memory */
    unsigned crd_deletes;     /* instances of definitions that go, on their way */
    unsigned bootstrapping;   /* writes of bootstrap under way: not ready before they are durable */
    uint64_t decode_failures; /* for want of memory */
    struct openapi_cache openapi;
    struct api_statistics statistics;
};

/* In which form objects are answered: as they are, as rows of a Table, or their metadata alone. */
enum table_form { TABLE_NONE, TABLE_V1, TABLE_V1BETA1, PARTIAL_V1, PARTIAL_V1BETA1 };

/* One HTTP request. It outlives its exchange while a write is under way, so it has memory of its own. */
struct request {
    struct api *api;
    size_t body_bytes; /* charged for its body and what became of it */
    void (*on_body)(void *userdata, struct http_exchange *exchange, struct slice body);
    struct http_exchange *exchange; /* NULL when the client has gone */
    struct arena *arena;
    struct api_route route;
    struct query query;
    struct api_user user;         /* who the request is treated as */
    struct api_user impersonator; /* who it came from, when impersonated */
    bool impersonated;
    struct {
        bool wanted, allowed; /* to be recorded when it is answered */
        int64_t begin_ns;
        uid_t uid;
        const char *uri, *agent, *from, *reason;
        struct buffer annotations; /* further ones of its event, as JSON: `,"key":"value"` … */
    } audit;
    const struct kube_kind *kind; /* of resource routes */
    const char *verb;
    enum table_form table;
    bool protobuf;  /* the client would rather have it than JSON */
    unsigned holds; /* writes that will call back */
    VECTOR(const char *) warnings;
    VECTOR(const char *) faults;              /* of the body's text: keys that stand there twice; warnings or errors, as fieldValidation says */
    int success_code;                         /* of the write under way: 200 or 201 */
    void (*on_gone)(struct request *request); /* the client has gone; may be NULL */
    void *extra;                              /* of the one who set on_gone */
};
/* Frees the memory with the last reference. */
void api_unref(struct api *api);
/* Answers what is deferred at once. */
void api_writes_end(struct api *api);
void api_request_hold(struct request *request);
/* May free the request. */
void api_request_release(struct request *request);
const char *api_request_query(const struct request *request, const char *key); /* NULL when absent */
bool api_request_flag(const struct request *request, const char *key);         /* given, and neither "false" nor "0", as upstream reads it */

/* --- failure.c: Status answers --- */
/* All return the code. failure may be NULL. */
int api_fail(struct api_failure *failure, int code, const char *reason, const char *format, ...) __attribute__((format(printf, 4, 5)));
int api_fail_bad_request(struct api_failure *failure, const char *format, ...) __attribute__((format(printf, 2, 3)));
int api_fail_not_found(struct api_failure *failure, const struct kube_kind *kind, const char *name);
int api_fail_exists(struct api_failure *failure, const struct kube_kind *kind, const char *name);
int api_fail_conflict(struct api_failure *failure, const struct kube_kind *kind, const char *name, const char *why);
int api_fail_forbidden(struct api_failure *failure, const struct kube_kind *kind, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int api_fail_invalid(struct api_failure *failure, const struct kube_kind *kind, const char *name, const struct diag *diag);
/* One field that is wrong. */
int api_fail_field(struct api_failure *failure, const struct kube_object *object, const char *reason, const char *field, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
int api_fail_no_memory(struct api_failure *failure);
/* A store's answer to a write of this object. */
int api_fail_store(struct api_failure *failure, int error, const struct kube_kind *kind, const char *name);
void api_failure_format(const struct api_failure *failure, struct buffer *out);

void api_respond_failure(struct request *request, const struct api_failure *failure);
/* With the request's warnings as headers. */
void api_respond_json(struct request *request, int code, struct slice body);
void api_respond_tree(struct request *request, int code, const struct tree *body);
void api_respond_unknown_path(struct request *request);
/* A Status "Success" with details about a deleted object. */
void api_respond_deleted(struct request *request, const struct kube_object *object);

/* --- wire.c --- */
#define API_PROTOBUF "application/vnd.kubernetes.protobuf"
/* A JSON answer, or an event of a watch, as protobuf; nothing is appended when that fails: -ENOTSUP when it has no such form, -ENOMEM. */
int api_wire_encode(struct slice json, struct buffer *out);
int api_wire_encode_event(struct slice json, struct buffer *out);

/* --- answer.c --- */
/* The body as it is to be sent: indented or compressed or as it is; in one of the buffers or itself. */
struct slice api_answer_form(const struct request *request, struct slice body, struct buffer *pretty, struct buffer *compressed, bool *ret_gzip);

/* --- auth.c, bearer.c, account_token.c: who is asking --- */
int api_user_set(struct arena *arena, const char *name, const char *const *groups, const char *last, struct api_user *ret);
bool api_user_in_group(const struct api_user *user, const char *group);
/* Who is meant by Impersonate-… headers becomes the request's user, when its user may. */
int api_impersonate(struct request *request, struct api_failure *failure);
/* May the request's user become that user with those groups (ends with NULL)? 0, or 403 with failure. */
int api_check_impersonation(struct request *request, const char *user, const char *const *groups, struct api_failure *failure);
/* Tokens of people and machines: made, listed, revoked. */
void api_serve_tokens(struct request *request);
/* -EACCES: no such token. */
int api_bearer_user(struct api *api, struct slice token, struct arena *arena, struct api_user *ret);
/* Of a service account's token: -EACCES with a message when it is not valid (any more) or for none of the audiences (NULL: this API's; otherwise a
 * list that ends with NULL, and those that fit are in *ret_audiences). */
struct account_answer {
    char message[300];
    const char *const *audiences; /* ends with NULL */
};
extern const char *const api_own_audiences[]; /* of this API; ends with NULL */
int api_account_user(struct api *api, struct slice token, const char *const *audiences, struct arena *arena, struct api_user *ret,
                     struct account_answer *ret_answer);
void api_serve_token(struct request *request);
/* JWKS and the OpenID document by which others check our tokens. */
void api_serve_token_keys(struct request *request);
void api_serve_token_issuer(struct request *request);
void api_token_cache_free(struct api *api);
void api_tokens_purge(struct api *api);

/* --- authorize.c, rbac_bootstrap.c: may they --- */
/* The method in lower case, of what is no resource. */
const char *api_method_verb(const struct request *request);
bool api_access_of_request(const struct request *request, struct api_access *ret);
int api_fail_access(struct api_failure *failure, const struct api_user *user, const struct api_access *access, const char *reason);
void api_rbac_start(struct api *api);
void api_rbac_end(struct api *api);
void api_rbac_bootstrap(struct api *api);
/* The index takes in a role or binding; other kinds are ignored. */
void api_rbac_note(struct api *api, struct kube_object *object, bool removed);
/* NULL without memory. */
const struct rbac *api_rbac_get(struct api *api);

/* --- audit.c --- */
/* Of a request that is identified: notes what its event will need, if it is one to be recorded. */
void api_audit_begin(struct request *request, bool mounted);
/* Records it, once. code 0: it is handed to somebody else. failure and written may be NULL. */
void api_audit(struct request *request, int code, const struct api_failure *failure, const struct kube_object *written);

/* --- negotiate.c --- */
enum discovery_form { DISCOVERY_PLAIN, DISCOVERY_V2, DISCOVERY_V2BETA1 };
enum table_form api_accept_table(struct slice accept);
/* Protobuf comes before any JSON in the client's list. */
bool api_accept_protobuf(struct slice accept);
enum discovery_form api_accept_discovery(struct slice accept);
enum body_form { BODY_JSON, BODY_YAML, BODY_PROTOBUF, BODY_JSON_PATCH, BODY_MERGE_PATCH, BODY_STRATEGIC_PATCH, BODY_APPLY, BODY_UNKNOWN };
enum body_form api_body_form_of(struct slice content_type);

/* --- body.c --- */
/* Reads the body and calls on_body with the request as its userdata; answers itself when it is too large, or when requests take too much together. */
void api_read_body(struct request *request, void (*on_body)(void *userdata, struct http_exchange *exchange, struct slice body));
/* What the request takes by now. */
void api_body_charge(struct request *request, size_t bytes);
/* The body as a tree in the request's arena; fills failure with 400 or 415. */
int api_body_parse(struct request *request, struct slice body, struct tree **ret, struct api_failure *failure);
/* Parses, and acts on what was parsed: act answers, unless it returns a code. Refusals are answered here. optional: an empty body is NULL. */
void api_body_act(struct request *request, struct slice body, bool optional,
                  int (*act)(struct request *request, const struct tree *asked, struct api_failure *failure));

/* --- tagged.c --- */
/* 200 with the body's hash as entity tag, or 304 when the client has it. */
void api_respond_tagged(struct request *request, const char *type, struct slice body);
/* Answers 304 and returns true when the client has what bears this hash. */
bool api_respond_if_known(struct request *request, const char *hash);

/* --- discovery.c, openapi.c --- */
void api_serve_core_versions(struct request *request);
void api_serve_groups(struct request *request);
void api_serve_group(struct request *request);
void api_serve_resources(struct request *request);
void api_serve_openapi_index(struct request *request);
void api_serve_openapi_v3(struct request *request);
void api_serve_openapi_v2(struct request *request);
void api_openapi_start(struct api *api);
void api_openapi_end(struct api *api);

/* --- stored.c: bytes in the store, and their decoded form --- */
struct slice api_kind_slice(const struct kube_kind *kind);
/* Puts metadata.resourceVersion at the front of metadata, in place of one that stands there. */
int api_stored_stamp(void *userdata, const struct store_write *write, uint64_t revision, struct buffer *out);
int api_stored_stamp_value(struct slice value, uint64_t revision, struct buffer *out);
/* The raw bytes of `"metadata":{…}`'s value in a stored object. */
struct slice api_stored_metadata(struct slice value);
/* The newest accepted version; unref. */
struct kube_object *api_stored_get(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name);
/* The same, with a failure that tells "absent" (404) from "no memory". */
int api_stored_find(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name, struct kube_object **ret,
                    struct api_failure *failure);
/* Appends the stored object as the kind shows it: of custom kinds in the version that was asked for, with the defaults of today's schema. */
int api_stored_put(struct api *api, const struct kube_kind *kind, struct store_object *stored, struct buffer *out);
/* The JSON of an object with the kind's apiVersion in place of its own. */
int api_stored_put_version(const struct kube_kind *kind, struct slice value, struct buffer *out);
/* Drops the decoded forms of kinds that are rarely looked at. */
void api_cache_drop(struct api *api);
void api_cache_start(struct api *api);
void api_cache_end(struct api *api);
void api_stored_set_cache(struct api *api, struct kube_object *object);

/* --- read.c, table.c, watch.c --- */
struct selection {
    struct api *api;
    const struct kube_kind *kind;
    const char *namespace;                 /* "" or NULL: all */
    struct kube_selector *labels, *fields; /* NULL: all */
};
int api_selection_of_request(struct request *request, struct selection *ret, struct api_failure *failure);
bool api_selection_matches(const struct selection *selection, struct store_object *stored);
void api_serve_get(struct request *request);
void api_serve_list(struct request *request);
void api_serve_watch(struct request *request);
void api_watch_note_write(struct api *api);
void api_watches_end(struct api *api);
/* Ends those of one kind, named by its key. */
void api_watches_end_kind(struct api *api, const char *key);
static inline bool api_is_table(const struct request *request) {
    return request->table == TABLE_V1 || request->table == TABLE_V1BETA1;
}
static inline const char *api_meta_version(const struct request *request) {
    return request->table == TABLE_V1BETA1 || request->table == PARTIAL_V1BETA1 ? "meta.k8s.io/v1beta1" : "meta.k8s.io/v1";
}
/* 0: none is asked for. */
int api_revision_of_request(const struct request *request, uint64_t *ret, struct api_failure *failure);
/* A list up to its metadata's resourceVersion. */
void api_put_list_head(const struct request *request, uint64_t revision, struct buffer *out);
/* The rest of a list's metadata; token NULL: nothing. */
void api_put_continue(const char *token, uint64_t remaining, struct buffer *out);
enum table_include { INCLUDE_METADATA, INCLUDE_NONE, INCLUDE_OBJECT };
enum table_include api_table_include_of(const struct request *request);
void api_table_begin(const struct request *request, const struct kube_kind *kind, uint64_t revision, const char *continue_token, struct buffer *out);
void api_table_row(const struct request *request, struct store_object *stored, bool first, struct buffer *out);
void api_table_end(struct buffer *out);
/* One object as a Table or as itself, appended. */
int api_object_answer(const struct request *request, struct store_object *stored, struct buffer *out);

/* --- view.c: objects in the form that the request's kind has --- */
/* Appends the stored object as JSON of the request's kind. -ENOMEM, or the buffer's error. */
int api_view_put(const struct request *request, struct store_object *stored, struct buffer *out);
/* heartbeat.c: the stored bytes, with the time of now where heartbeats belong. */
int api_heartbeat_put(const struct request *request, struct store_object *stored, struct buffer *out);
/* Replaces the reference by one of the kind, converted where needed. -ENOMEM: it stays. */
int api_view_of(const struct kube_kind *kind, struct kube_object **object);
/* Answers with a written object, whose stored bytes are `json`. */
void api_view_respond(struct request *request, int code, struct kube_object *object, struct slice json);

/* --- virtual.c --- */
void api_serve_virtual(struct request *request);

/* --- admission_service.c: addresses and node ports of services (the rest of admission: admission_priv.h) --- */
int api_addresses_init(struct addresses *addresses, const char *range, struct diag *diag);
void api_addresses_deinit(struct addresses *addresses);
/* Marks the numbers of all stored services, at start. */
void api_numbers_load(struct api *api);
/* Takes or gives back the address and node ports of a service; numbers outside the ranges are ignored. */
void api_numbers_note(struct api *api, const struct kube_object *service, bool taken);
/* After a write of an object of any kind: gives back what it bore when it was not written, else what the version before bore (NULL: none). */
void api_numbers_settle(struct api *api, const struct kube_object *object, const struct kube_object *old, bool written);

/* --- write.c: the one way into the store --- */
struct write_options {
    const struct api_user *user; /* who writes; NULL: the platform itself */
    const char *manager;         /* the field manager; NULL: the platform's */
    const char *subresource;     /* "", "status", "scale", …; NULL: "" */
    struct request *reader;      /* gets the warnings; NULL: nobody reads them */
    struct managed *managed;     /* of an apply: the entries that the new version gets; NULL: the write is tracked as an update */
    bool dry_run;
    bool unasked;     /* no webhook is asked: it has been asked about the request that this is part of, or the platform cannot wait for it */
    bool status;      /* update: only status changes; otherwise all but status */
    bool whole;       /* update: everything may change */
    bool bind;        /* update: of a pod whose node becomes known: immutability is not checked */
    bool keep_status; /* create: the status that is given stays (in-process) */
};
/* `json` is the new version as stored; `object` its decoded form. */
typedef void write_done_fn(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json);
/* Take over `object`. 0: `done` will be called, never before they return; otherwise the code, with failure filled. */
/* Of a request: who, as which field manager, on which subresource, dry run or not. */
struct write_options api_write_options_of(struct request *request);
int api_write_create(struct api *api, struct kube_object *object, const struct write_options *options, write_done_fn *done, void *userdata,
                     struct api_failure *failure);
int api_write_update(struct api *api, struct kube_object *object, const struct write_options *options, write_done_fn *done, void *userdata,
                     struct api_failure *failure);
int api_write_delete(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name, const struct api_delete_options *options,
                     write_done_fn *done, void *userdata, struct api_failure *failure);

/* --- options.c --- */
/* The query's options for a write; kind: "CreateOptions", "UpdateOptions", "PatchOptions". 0 or 422. */
int api_check_options(const struct request *request, const char *kind, bool apply, struct api_failure *failure);
/* Of a list or watch: resourceVersionMatch and what goes with it. */
int api_check_list_options(const struct request *request, struct api_failure *failure);
/* Texts NULL: not given. */
int api_check_delete_options(const char *propagation, bool orphan_dependents, const char *dry_run, struct api_failure *failure);

/* --- verbs.c: writes over HTTP --- */
void api_serve_create(struct request *request);
void api_serve_update(struct request *request);
void api_serve_delete(struct request *request);
void api_serve_delete_collection(struct request *request);
/* done functions that answer with the object; userdata is the request. */
void api_answer_written(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json);
bool api_request_dry_run(const struct request *request);
/* Tree of a body → object of the request's kind, honouring fieldValidation; namespace and name of the URL are checked and filled in. */
int api_decode_body(struct request *request, struct tree *tree, struct kube_object **ret, struct api_failure *failure);
/* The same of an object that a patch has made; `show` appends what upstream shows of it when the object cannot be decoded. */
typedef void patch_show_fn(const void *userdata, struct buffer *out);
int api_decode_patched(struct request *request, struct tree *tree, patch_show_fn *show, const void *userdata, struct kube_object **ret,
                       struct api_failure *failure);
/* fieldValidation is Strict. */
bool api_is_strict(const struct request *request);

/* --- patch.c, apply.c --- */
void api_serve_patch(struct request *request);
/* The configuration put upon the newest version (NULL: there is none): the new object, and its entries for write_options. */
struct managed;
int api_apply_patch(struct request *request, const struct kube_object *old, const struct tree *config, const char *manager, bool force,
                    struct managed *managed, struct tree **ret, struct api_failure *failure);

/* --- subresource.c, review.c, tunnel.c --- */
void api_serve_subresource(struct request *request);
/* A done function that answers with a Status "Success", 201; userdata is the request. */
void api_answer_status(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json);
void api_on_eviction_body(void *userdata, struct http_exchange *exchange, struct slice body);
/* Makes of the given pod the old one with the given ephemeral containers, checked. */
int api_ephemeral_prepare(struct kube_object *object, const struct kube_object *old, struct api_failure *failure);
/* resize.c: … to what pods/resize may change. */
int api_resize_prepare(struct kube_object *object, const struct kube_object *old, struct api_failure *failure);
bool api_is_scale(const struct request *request);
/* The object's Scale; the Binding that a bound pod is the outcome of. NULL without memory. */
struct tree *api_make_scale(struct arena *arena, const struct kube_object *object);
struct tree *api_make_binding(struct arena *arena, const struct kube_object *pod);
void api_serve_scale_patch(struct request *request, struct tree *patch, enum body_form form);
void api_serve_log(struct request *request, struct kube_object *pod);
void api_serve_tunnel(struct request *request, struct kube_object *pod);
void api_tunnels_end(struct api *api);
struct api_tunnel_to {
    struct http_client *client;
    bool upgrade;
    const char *prefix; /* the path of the proxy, for its own words and redirects */
    unsigned *uses;     /* counted up as long as the tunnel is; may be NULL */
};
/* Sends the request on and passes the answer (or, upgraded, the stream) through. */
void api_tunnel_to(struct request *request, const struct api_tunnel_to *to, const struct http_request_options *options);
struct http_client *api_node_client(struct api *api); /* NULL: there is no node */
/* --- connect.c --- */
/* Serves the connection when the webhooks that are to be asked about it agree; they see its query as an object of `options`. */
void api_connect(struct request *request, const char *options, void (*serve)(struct request *request));
/* --- proxy.c --- */
void api_serve_proxy(struct request *request);
/* The answer's header fields as they go on to our client; the content type apart. */
const struct http_field *api_proxy_fields(struct request *request, const struct http_answer *head, const char *prefix);
void api_proxies_end(struct api *api);
/* "https://address:port" of one of the ready endpoints behind a service's port. */
#define API_ENDPOINT_BYTES 64
int api_service_endpoint(struct api *api, const char *namespace, const char *name, int port, char ret[API_ENDPOINT_BYTES],
                         struct api_failure *failure);

/* --- webhook_*.c: who else is asked about writes (the rest: webhook_priv.h) --- */
int api_webhooks_start(struct api *api);
void api_webhooks_load(struct api *api);
void api_webhooks_end(struct api *api);
/* A configuration was committed: takes effect at once. Other kinds are ignored. */
void api_webhooks_note(struct api *api, struct kube_object *object, bool removed);
void api_webhooks_metrics(const struct api *api, struct buffer *out);
void api_respond_node_lost(struct request *request, int error);

/* --- usage.c: metrics.k8s.io --- */
bool api_is_usage(const struct request *request);
void api_serve_usage(struct request *request);
/* The virtual kinds that are only created: SelfSubjectAccessReview and its like. */
bool api_is_review(const struct request *request);
void api_serve_review(struct request *request);
/* A user as UserInfo in JSON. */
int api_put_user(struct buffer *out, const struct api_user *user);

/* --- crd.c, crd_names.c: custom resource definitions --- */
void api_crd_start(struct api *api);
void api_crd_end(struct api *api);
/* A definition was committed: takes effect at once. */
void api_crd_note(struct api *api, const struct kube_object *object, const struct store_object *stored, bool removed);
void api_crd_note_instance_removed(struct api *api);
int api_crd_mark_deleted(struct api *api, struct kube_object *object);

/* --- events.c --- */
void api_events_start(struct api *api);
void api_events_note_write(struct api *api, const struct kube_kind *kind);

/* --- bootstrap.c --- */
void api_bootstrap(struct api *api);
/* Creates one of the first objects: not ready before it is durable. */
void api_bootstrap_create(struct api *api, struct kube_object *object);
/* What every new namespace gets before its creator hears of it, so that pods can follow at once: the service account "default". */
void api_bootstrap_namespace(struct api *api, const char *name);

#endif
