/* Controllers and the scheduler: what is wanted against what is, giving the next writes. No I/O, no clock, no thread: see README.md.
 *
 * How the role `core` drives it:
 *   - control_on_change for every object at start, then for every committed change, in order;
 *   - while control_next gives a key: control_reconcile, then submit the actions in their order (a refused one stops its group, see struct
 * control_action). When all have ended: control_done. A key never runs twice at a time: control_next does not give it again before control_done;
 *   - when control_next gives none: sleep until control_deadline, or until a change comes.
 * The view must show committed state only, and an action's end must not be reported before its result shows in the view. */
#ifndef TIDEMILL_CONTROL_H
#define TIDEMILL_CONTROL_H

#include "base/base.h"
#include "kube/kube.h"

/* The cluster as it is committed. Objects are borrowed and stay valid and unchanged until control_reconcile returns. */
struct control_view {
    void *userdata;
    /* NULL when absent. namespace NULL for cluster kinds. */
    const struct kube_object *(*get)(void *userdata, const struct kube_kind *kind, const char *namespace, const char *name);
    /* Objects of a kind (namespace NULL: everywhere) in a stable order; each returns false to stop. */
    void (*list)(void *userdata, const struct kube_kind *kind, const char *namespace,
                 bool (*each)(void *each_userdata, const struct kube_object *object), void *each_userdata);
    /* A time zone by its name, borrowed likewise; *ret NULL is UTC. -ENOENT when there is no such zone. */
    int (*zone)(void *userdata, const char *name, const struct zone **ret);
};

enum control_verb {
    CONTROL_CREATE,        /* the object has its name; also Events */
    CONTROL_UPDATE,        /* metadata and spec; conditional when metadata.resourceVersion is set */
    CONTROL_UPDATE_STATUS, /* status alone; conditional likewise */
    CONTROL_BIND,          /* a pod: object is the pod with spec.nodeName set, which an ordinary update may not do; with its status */
    CONTROL_SIGN,          /* what needs the authority's keys is filled in first: the certificate of an approved CertificateSigningRequest (then as
                            * UPDATE_STATUS), the token of a service account's Secret (then as UPDATE) */
    CONTROL_DELETE,
};
struct control_action {
    enum control_verb verb;
    const struct kube_kind *kind;
    const char *namespace, *name; /* of the object; namespace NULL for cluster kinds */
    struct kube_object *object;   /* a reference that belongs to the action (TAKE it); NULL for CONTROL_DELETE */
    const char *uid;              /* of the object; of a delete the precondition */
    const char *propagation;      /* delete: "Background", "Foreground", "Orphan" */
    int64_t grace_seconds;        /* delete: of a pod; -1: its own */
    unsigned group;               /* when one is refused, the later ones of its group must not be done */
    bool optional;                /* its failure is of no account: events */
};
struct control_actions {
    struct control_action *items;
    size_t count, capacity;
};
void control_actions_deinit(struct control_actions *actions);

/* What a reconcile is about: an object, or (name empty) all there is to do for a controller. */
struct control_key {
    unsigned controller; /* see control_controller_name */
    const struct kube_kind *kind;
    const char *namespace, *name; /* borrowed until control_done; namespace NULL for cluster kinds */
};
const char *control_controller_name(unsigned controller); /* NULL beyond the last */

struct control;
struct control_options {
    struct control_view view;
    uint64_t seed;              /* for the random part of names */
    const char *component;      /* reported as the source of events; NULL: the controller's name */
    const char *root_ca;        /* PEM of the cluster's authority, published in every namespace; borrowed; NULL: not published */
    const char *volumes_folder; /* of the node, where volumes of the default storage class are; copied */
    size_t finished_pods_max;   /* pods that have ended and that nobody owns: the oldest beyond this are deleted; 0: 100 */
};
/* NULL without memory. */
struct control *control_new(const struct control_options *options);
void control_free(struct control *control);

/* A committed change: `old` NULL when added (or first seen), `object` NULL when deleted (then `old` is the last state). now_ns: monotonic. -ENOMEM:
 * call again. */
int control_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old, int64_t now_ns);
/* The next key that is due, now marked as running; false when there is none. */
bool control_next(struct control *control, int64_t now_ns, struct control_key *ret);
/* When the next key falls due (monotonic), INT64_MAX: never. */
int64_t control_deadline(const struct control *control);
/* Appends what is to be done for the key. wall_ns: CLOCK_REALTIME. 0, or -ENOMEM (report it to control_done). The actions' strings live until the
 * next call. */
int control_reconcile(struct control *control, const struct control_key *key, int64_t wall_ns, struct control_actions *ret);
/* Ends the run of a key. failure NULL: all actions were done. Otherwise why one was refused ("Conflict: …"; copied): the key runs again, after 5 ms,
 * doubling up to 1000 s. */
void control_done(struct control *control, const struct control_key *key, const char *failure, int64_t now_ns);

struct control_statistics {
    uint64_t reconciles, actions, failures;
    size_t queued;
};
void control_statistics(const struct control *control, struct control_statistics *ret);

#endif
