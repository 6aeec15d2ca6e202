/* Admission webhooks: servers of other people that are asked about writes. Reading order: this, webhook_index.c (who is to be asked),
 * webhook_review.c (what is sent and answered), webhook_call.c (one call), webhook_ask.c (all calls about one write). */
#ifndef TIDEMILL_API_WEBHOOK_PRIV_H
#define TIDEMILL_API_WEBHOOK_PRIV_H

#include "api/admission_priv.h"

#define WEBHOOK_ANSWER_BYTES_MAX (4 * MIB) /* a patch in base64 may be a whole object */
#define WEBHOOK_CALLS_MAX 128              /* on their way at once, to all webhooks */
#define WEBHOOK_CALLS_EACH_MAX 32          /* … to one: a slow one leaves room for others */
#define WEBHOOK_ASKINGS_MAX 1024           /* writes that wait for answers; further ones are refused */
#define WEBHOOK_WARNINGS_MAX 16            /* of one answer */
#define WEBHOOK_TRIES 5                    /* of a write whose object changes while webhooks look at it */
#define WEBHOOK_ERROR_BYTES 1024

/* A server's connections. Kept as long as calls use them, also when the webhook is asked elsewhere by now. */
struct webhook_link {
    unsigned references;
    struct http_client *client;
    char endpoint[320];
};

struct webhook_config;
/* One webhook of a committed configuration; the texts are the configuration's. */
struct webhook {
    struct webhook_config *config;
    const char *name;
    const struct kube_webhook_client_config *at;
    const struct kube_rule_with_operations_array *rules;
    const struct kube_label_selector *namespace_selector, *object_selector;
    bool mutating;
    bool ignore;      /* failures are of no account */
    bool exact;       /* rules name the very resource, not others that show the same objects */
    bool reinvocable; /* asked again when a later one has changed the object */
    bool quiet;       /* may be asked about a dry run */
    int timeout_ms;
    const char *version; /* of AdmissionReview: "v1" or "v1beta1" */
    /* the server */
    struct tls_context *tls;
    struct webhook_link *link;
    unsigned calls;      /* on their way */
    bool resolving;      /* a worker thread asks for the host's address */
    int64_t resolved_ns; /* when it was answered; 0: never */
    char address[64];    /* the answer; empty: there is none */
    struct {
        uint64_t calls, failures, denials, changes;
        int64_t ns;
    } seen;
};

struct webhook_config {
    unsigned references; /* the index's, and of each asking and look-up */
    struct kube_object *object;
    struct webhook *items;
    size_t count;
};
void webhook_config_unref(struct webhook_config *config);

/* Of one API. */
struct webhooks {
    struct api *api;
    struct {
        struct webhook_config **items; /* by name */
        size_t count, capacity;
    } configs[2]; /* validating, mutating */
    bool stale;   /* memory was missing while the index followed a change */
    bool closed;
    unsigned references;
    uint64_t asked;      /* writes that had to wait, so far */
    struct list askings; /* struct asking */
    size_t askings_count;
    struct list waiting, sent; /* struct webhook_call */
    size_t sent_count;
    struct loop_defer pump;
};

/* --- webhook_index.c --- */
/* In *ret the kind as which the webhook is to see objects of `kind`; false: no rule names them. */
bool webhook_concerns(const struct webhook *webhook, enum admission_operation operation, const struct kube_kind *kind, const char *subresource,
                      const struct kube_kind **ret);
/* After want of memory: reads the configurations again. 0 or -ENOMEM. */
int webhooks_refresh(struct webhooks *webhooks);

/* --- webhook_call.c --- */
struct webhook_call;
/* error: why there is no answer, in upstream's words; NULL: the body (borrowed) of an answer 200. Never before webhook_call_new has returned. */
typedef void webhook_answer_fn(void *userdata, const char *error, struct slice body);
/* Takes the bytes over. NULL without memory. */
struct webhook_call *webhook_call_new(struct webhooks *webhooks, struct webhook *webhook, struct buffer *body, webhook_answer_fn *on_answer,
                                      void *userdata);
/* No callback follows. NULL is fine. */
void webhook_call_cancel(struct webhook_call *call);
void webhook_link_unref(struct webhook_link *link);
void webhooks_calls_start(struct webhooks *webhooks);
void webhooks_calls_end(struct webhooks *webhooks);

/* --- webhook_review.c: pure --- */
struct webhook_text_pair {
    const char *key, *value;
};
struct webhook_response {
    bool allowed;
    int code;                     /* 0: none */
    const char *reason, *message; /* "" when there is none */
    const struct tree *details;   /* may be NULL */
    const char *warnings[WEBHOOK_WARNINGS_MAX];
    size_t warnings_count;
    const struct tree *annotations; /* for the audit log; may be NULL */
    struct tree *patch;             /* a list of operations; NULL: none */
};
/* What a webhook has answered, in the arena. 0; -ENOMEM; -EINVAL with the reason in upstream's words. */
int webhook_response_parse(struct arena *arena, struct slice body, const struct webhook *webhook, const char *uid, struct webhook_response *ret,
                           char error[WEBHOOK_ERROR_BYTES]);
/* Why the write was denied. */
int webhook_fail_denied(struct api_failure *failure, const char *name, const struct webhook_response *response);

/* What is written, without its answer: see webhook_ask.c. */
struct webhook_matter;
struct webhook_documents {
    struct slice object, old; /* JSON; empty: null */
};
/* The AdmissionReview, appended; `as`: the kind as which the webhook sees the resource. */
int webhook_review_format(struct buffer *out, const struct webhook *webhook, const struct webhook_matter *matter, const struct kube_kind *as,
                          const char *uid, const struct webhook_documents *documents);

/* --- webhook_ask.c --- */
/* Something that webhooks are asked about: the write of an object, or a request in the form of one (a Scale, a Binding). Everything is borrowed:
 * until the asking has ended `user`, `reader`, the objects' references and what `userdata` stands for; the rest until webhooks_ask has returned. */
struct webhook_matter {
    enum admission_operation operation;
    const struct kube_kind *kind; /* as the request names the resource */
    const char *subresource, *namespace, *name;
    const struct api_user *user; /* NULL: the platform itself */
    struct request *reader;      /* gets warnings and what is to be audited; may be NULL */
    const char *options;         /* JSON of the request's options; NULL: none */
    bool dry_run;
    struct kube_object *object, *old; /* NULL: none; not with documents */
    /* What is shown in place of objects, complete with apiVersion and kind; nobody can change it. */
    const char *document_version, *document_kind; /* NULL: none */
    struct tree *document, *old_document;
    /* Makes a changed object whole again; checks one that nobody will change any more. 0 or the code with failure. May be NULL. */
    int (*settle)(void *userdata, struct kube_object *object, struct api_failure *failure);
    int (*check)(void *userdata, struct kube_object *object, struct api_failure *failure);
    /* failure NULL: all agree; the object (borrowed) as they want it to be. */
    void (*done)(void *userdata, const struct api_failure *failure, struct kube_object *object);
    void *userdata;
};
#define WEBHOOKS_ASKED 1
/* 0: nobody needs to be asked. WEBHOOKS_ASKED: `done` will be called, never before this returns. Otherwise the code, with failure. */
int webhooks_ask(struct api *api, const struct webhook_matter *matter, struct api_failure *failure);
static inline bool webhooks_any(const struct api *api) {
    const struct webhooks *webhooks = api->webhooks;
    return webhooks->stale || webhooks->configs[0].count || webhooks->configs[1].count;
}
/* Ends all with a failure. */
void webhooks_askings_end(struct webhooks *webhooks);

#endif
