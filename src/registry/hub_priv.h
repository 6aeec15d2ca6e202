/* What the files of talking to other registries share: hub.c (who is asked), hub_auth.c (tokens), hub_transfer.c (one HTTP request). */
#ifndef TIDEMILL_REGISTRY_HUB_PRIV_H
#define TIDEMILL_REGISTRY_HUB_PRIV_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "registry/challenge.h"
#include "registry/hub.h"

#define HUB_URL_BYTES_MAX (8 * KIB)
#define HUB_TOKEN_BYTES_MAX (64 * KIB)
#define HUB_CREDENTIALS_MAX 16

struct endpoint {
    char host[OCI_NAME_MAX + 1]; /* with its port; credentials are looked up by it */
    char path[OCI_NAME_MAX + 2]; /* a mirror's, "hub/"; or "" */
    const char *ca;
    bool trusts_all;    /* its certificate is not checked */
    bool only_loopback; /* both are so for no other reason than its address: that does not hold where it redirects to */
    bool may_be_plain;  /* plain HTTP is allowed; which it is, the first request tells */
    /* beneath the hub's lock */
    bool is_settled, is_plain;
    const struct docker_credential *credentials[HUB_CREDENTIALS_MAX]; /* to be tried in turn */
    size_t credentials_count, credentials_at;
    bool used_credential, proven /* a request has been answered well by these */;
    struct secret *authorization; /* "Authorization: …"; NULL: none */
    int64_t expires_ns;           /* of a token, monotonic */
    unsigned generation;          /* counts the authorizations */
};

struct hub {
    struct hub_options options;
    char name[OCI_NAME_MAX + 1];
    pthread_mutex_t lock;
    pthread_cond_t wake; /* cancelled */
    atomic_bool cancelled;
    struct endpoint endpoints[SITE_MIRRORS_MAX + 1];
    size_t endpoints_count;
};

struct hub_connection {
    struct hub *hub;
    CURL *curl;
    struct challenges challenges; /* of the last answer */
};

/* One HTTP request, no more. */
struct transfer {
    const char *url;
    struct slice authorization; /* a whole header; empty: none */
    struct hub_call *call;      /* method, headers, bodies; filled with the answer */
    bool plain, trusts_all;
    const char *ca;
};
/* 0 when there was an answer; else -ECANCELED, -EHOSTUNREACH (no connection), -EIO (it broke), -ETIMEDOUT (too slow), -EPROTO, what on_body returned;
 * with diag. */
int hub_transfer_run(struct hub_connection *connection, const struct transfer *transfer, struct diag *diag);
/* Where a 3xx leads, absolute; NULL: nowhere. Valid until the next transfer. */
const char *hub_transfer_redirect(const struct hub_connection *connection);
bool hub_transfer_is_on_loopback(const char *url);
/* Same scheme, host and port. */
bool hub_transfer_same_origin(const char *a, const char *b);

/* host: with or without a port. */
bool hub_is_on_loopback(const char *host);
/* Whether what the endpoint is allowed (plain HTTP, any certificate) goes for that URL as well, to which it has led. */
bool hub_is_lenient(const struct endpoint *endpoint, const char *url);

/* A 401 came to a request with that generation of the endpoint's authorization: gets another one. 0: ask again. */
int hub_authenticate(struct hub_connection *connection, struct endpoint *endpoint, unsigned generation, struct diag *diag);
/* Takes the next credential; false: there is none. The lock is held. */
bool hub_next_credential(struct endpoint *endpoint);

#endif
