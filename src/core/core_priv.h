/* What the files of core/ share. */
#ifndef TIDEMILL_CORE_PRIV_H
#define TIDEMILL_CORE_PRIV_H

#include "api/api.h"
#include "client/client.h"
#include "control/control.h"
#include "core/core.h"
#include "forge/forge.h"
#include "http/http.h"
#include "loop/loop.h"
#include "registry/registry.h"
#include "store/store.h"

#define CORE_SERVERS_MAX 8

/* --- identity.c: the certificate authority, the serving certificate, the administrator's kubeconfig --- */
struct identity;
struct identity_options {
    const char *state; /* <state>/pki */
    const char *instance;
    const char *api_address;                                         /* "127.0.0.1:6443" */
    const char *const *addresses;                                    /* further IP addresses of the serving certificate, ends with NULL */
    void (*on_renewed)(void *userdata, struct tls_context *context); /* the serving certificate was renewed: use this from now on */
    void *userdata;
};
/* Reads the authority or makes it; issues a serving certificate and, when there is none, the kubeconfig. */
int identity_new(struct loop *loop, const struct identity_options *options, struct identity **ret, struct diag *diag);
void identity_free(struct identity *identity);
struct tls_context *identity_tls(const struct identity *identity);
/* The authority itself. */
const struct pki_pair *identity_pair(const struct identity *identity);
/* The authority's certificate, PEM. */
const char *identity_authority(const struct identity *identity);
/* What service account tokens are signed with (the first) and checked; ends with NULL. */
const struct jwt_key *const *identity_token_keys(const struct identity *identity);

/* --- signer.c: what needs the authority's keys --- */
/* Fills in the certificate (or the condition Failed) of an approved CertificateSigningRequest, or the data of a service account's Secret. Negative
 * errno: not now. */
int signer_complete(const struct identity *identity, struct api *api, struct kube_object *object, int64_t now_s);

/* --- executor.c: drives the controllers --- */
struct executor;
struct executor_options {
    const struct identity *identity;
    const char *volumes_folder; /* see control_options */
};
int executor_new(struct loop *loop, struct store *store, struct api *api, const struct executor_options *options, struct executor **ret);
/* No key runs any more; writes that are under way end. */
void executor_stop(struct executor *executor);
void executor_free(struct executor *executor);
void executor_metrics(const struct executor *executor, struct buffer *out);

/* --- pulse.c: sees that the node's process is gone, and says so in the Node --- */
struct pulse;
struct pulse_options {
    struct loop *loop;
    struct store *store;
    struct api *api;
    const char *run, *node_name; /* borrowed */
    int64_t silence_ms;          /* 0: SILENCE_MS */
};
int pulse_new(const struct pulse_options *options, struct pulse **ret);
/* When that node was last heard of, nanoseconds since 1970; 0: never, or it is not ours. pulse may be NULL. */
int64_t pulse_heard_ns(const struct pulse *pulse, const char *node_name);
void pulse_free(struct pulse *pulse); /* before the api and the store; NULL is fine */

/* --- zones.c: the machine's time zones --- */
struct zones;
struct zones *zones_new(void); /* NULL without memory */
void zones_free(struct zones *zones);
/* Borrowed for as long as `zones` lives; *ret NULL is UTC. -ENOENT, and others when its file cannot be read: it is then tried again next time. */
int zones_find(struct zones *zones, const char *name, const struct zone **ret);

/* --- metrics.c --- */
void metrics_append(struct store *store, struct buffer *out);

/* --- platform.c: registry and forge --- */
struct platform;
struct platform_options {
    const struct core_options *core;
    struct store *store;
};
int platform_new(struct loop *loop, const struct platform_options *options, struct platform **ret, struct diag *diag);
void platform_free(struct platform *platform);
/* http_handler_fn's; userdata is the platform. */
void platform_handle_cli(void *platform, struct http_exchange *exchange);
void platform_handle_git(void *platform, struct http_exchange *exchange);
void platform_handle_job(void *platform, struct http_exchange *exchange);
void platform_handle_registry(void *platform, struct http_exchange *exchange);
void platform_metrics(const struct platform *platform, struct buffer *out);

#endif
