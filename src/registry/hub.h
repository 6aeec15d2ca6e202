/* A hub is another registry, as one repository of it is used over HTTP: who is asked (mirrors, then the registry itself), by which credentials, and
 * what to do when it does not go well. Blocking, for worker threads. */
#ifndef TIDEMILL_REGISTRY_HUB_H
#define TIDEMILL_REGISTRY_HUB_H

#include "registry/docker_config.h"
#include "registry/oci.h"
#include "registry/sites.h"

#define HUB_CONFIGS 2

struct hub;
struct hub_options {
    const struct oci_reference *reference;
    const struct sites *sites;
    const struct docker_config *credentials[HUB_CONFIGS]; /* those of the first are tried first; NULL: none */
    bool pushes;                                          /* wants to write: mirrors are not asked */
    bool insecure;                                        /* as if sites said so of that registry */
    int64_t retry_ms;                                     /* the first pause before a second try; 0: 500 */
};
/* Borrows what options point to. */
int hub_new(const struct hub_options *options, struct hub **ret, struct diag *diag);
/* After its connections. NULL is fine. */
void hub_free(struct hub *hub);
DEFINE_CLEANUP(struct hub, hub_free)
/* From any thread: what is under way fails with -ECANCELED. */
void hub_cancel(struct hub *hub);
bool hub_is_cancelled(const struct hub *hub);

size_t hub_endpoints(const struct hub *hub);
/* For messages: the host of that endpoint. */
const char *hub_host(const struct hub *hub, size_t endpoint);
/* The credential that the endpoint wanted and took; NULL: it asked for none. */
const struct docker_credential *hub_credential(struct hub *hub, size_t endpoint);

/* For one thread. The connections of a hub share what they learned: tokens, which credentials are right. */
struct hub_connection;
int hub_connect(struct hub *hub, struct hub_connection **ret);
void hub_connection_free(struct hub_connection *connection);
DEFINE_CLEANUP(struct hub_connection, hub_connection_free)

#define HUB_WORDS_MAX 512
struct hub_call {
    const char *method; /* "GET", "HEAD", "POST", "PATCH", "PUT" */
    const char *path;   /* behind /v2/<name>/: "manifests/latest"; "/": /v2/ itself; or an absolute URL that the registry gave (of an upload) */
    const char *accept, *content_type;
    int64_t offset;   /* only what follows it is wanted (Range) */
    int64_t began_ns; /* of several tries: when the first began, monotonic, and at what offset; 0: this is the only one */
    int64_t began_offset;
    /* what is sent: body, or `length` bytes of `fd` from `fd_offset` on */
    struct slice body;
    int fd; /* -1: none */
    int64_t fd_offset, length;
    /* What comes, of a status 200 or 206 only; negative ends the transfer with that. */
    int (*on_body)(void *userdata, struct slice bytes);
    void *userdata;
    /* what came of it */
    int status;
    bool partial;                                            /* 206, and it begins at `offset` */
    char type[256], location[4096], digest[OCI_DIGEST_TEXT]; /* headers; location is absolute; "" when absent */
    char words[HUB_WORDS_MAX];                               /* of an error: what the registry says; "" when it says nothing */
    int64_t retry_after_s;                                   /* -1: not said */
};
#define HUB_CALL(m, p) ((struct hub_call){.method = (m), .path = (p), .fd = -1})
/* One exchange, with what it needs: a token, other credentials, redirects (to which no credentials go). 0 when there was an answer, whatever its
 * status; otherwise negative errno with diag. */
int hub_exchange(struct hub_connection *connection, size_t endpoint, struct hub_call *call, struct diag *diag);
/* After an exchange with that result: is it worth another try? Then it waits (Retry-After, or twice as long each time) and returns true. *attempt
 * counts, from 0. */
bool hub_waits(struct hub_connection *connection, const struct hub_call *call, int result, int *attempt);
/* An error status in words for a person; returns a negative errno: -ENOENT, -EACCES, -EBUSY, -EIO. what: "image nginx:1". */
int hub_refused(const struct hub *hub, size_t endpoint, const struct hub_call *call, const char *what, struct diag *diag);

#endif
