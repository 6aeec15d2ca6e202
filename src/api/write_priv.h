/* What the files of the one way into the store share: write.c (create, update), delete.c, judged.c (writes that wait for webhooks). */
#ifndef TIDEMILL_API_WRITE_PRIV_H
#define TIDEMILL_API_WRITE_PRIV_H

#include "api/webhook_priv.h"

/* What a write was asked for with. */
struct attempt {
    struct api *api;
    const struct kube_kind *kind; /* as the request names it */
    const struct write_options *options;
    write_done_fn *done;
    void *userdata;
    unsigned tries; /* before this one */
};

/* A write that waits for webhooks. */
struct judged {
    struct api *api; /* a reference, as are all below */
    struct arena *arena;
    const struct kube_kind *kind;
    struct write_options options;
    struct kube_object *given; /* as the writer gave it, to begin anew; NULL: cannot */
    struct kube_object *object, *old;
    uint64_t revision; /* of `old` */
    const char *namespace, *name;
    struct api_delete_options deleting;
    unsigned tries;
    write_done_fn *done;
    void *userdata;
};

struct question_to {
    enum admission_operation operation;
    int (*settle)(void *userdata, struct kube_object *object, struct api_failure *failure);
    int (*check)(void *userdata, struct kube_object *object, struct api_failure *failure);
    void (*done)(void *userdata, const struct api_failure *failure, struct kube_object *object);
};

/* --- write.c --- */
/* Writes the prepared version upon `stored`, or finds that there is nothing to write; removes it when nothing keeps it any more. */
int api_commit_update(struct api *api, struct kube_object *object, struct store_object *stored, struct kube_object *old, bool dry_run,
                      write_done_fn *done, void *userdata, struct api_failure *failure);

/* --- judged.c --- */
static inline bool needs_asking(const struct attempt *attempt) {
    return webhooks_any(attempt->api) && !attempt->options->unasked;
}
/* NULL without memory. */
struct judged *judged_new(const struct attempt *attempt, struct kube_object *object, struct kube_object *old);
void judged_free(struct judged *judged);
DEFINE_CLEANUP(struct judged, judged_free)
struct attempt judged_attempt(const struct judged *judged);
void judged_refuse(struct judged *judged, const struct api_failure *failure);
/* The object as the webhooks left it. */
void judged_take(struct judged *judged, struct kube_object *object);
/* Takes `judged` over (NULL: no memory). WEBHOOKS_ASKED: the question's `done` gets it. 0: nobody is to be asked. */
int judge(const struct attempt *attempt, const struct question_to *question, struct judged *judged, struct api_failure *failure);
/* A conflict only because the object has changed meanwhile. */
int judged_fail_stale(struct api_failure *failure, const struct kube_object *object);

#endif
