/* The revisions of a pod template that StatefulSets and DaemonSets keep: what `kubectl rollout history` shows and `kubectl rollout undo` goes back
 * to. See history.c. */
#ifndef TIDEMILL_CONTROL_HISTORY_PRIV_H
#define TIDEMILL_CONTROL_HISTORY_PRIV_H

#include "control/control_priv.h"

#define LABEL_REVISION "controller-revision-hash" /* of pods */

struct history_options {
    const char *hash_label; /* of revisions: holds their hash */
    bool pods_bear_hash;    /* pods are labelled with a revision's hash; otherwise with its name */
};
struct history {
    struct context *context;
    const struct kube_object *owner;
    const struct history_options *options;
    struct managed_list revisions;    /* oldest first; without one made in this run */
    const struct kube_object *update; /* of the present template; NULL only with context->error */
    struct kube_object *created;      /* `update`, when it is made in this run */
    int32_t collision_count;
};

/* Claims the owner's ControllerRevisions, and finds the one that its template (spec.template) has or makes it. collision_count: of the owner's
 * status. Always history_flush afterwards. */
void history_collect(struct context *context, const struct kube_object *owner, const struct kube_label_selector *selector,
                     const struct kube_pod_template_spec *template, int32_t collision_count, const struct history_options *options,
                     struct history *ret);
/* By name; NULL when there is none. */
const struct kube_object *history_find(const struct history *history, const char *name);
/* The template that the revision keeps, in the arena; NULL: it holds none. */
const struct kube_pod_template_spec *history_template(const struct history *history, const struct kube_object *revision);
/* What the revision's pods bear as LABEL_REVISION; NULL: a revision that somebody has tampered with. */
const char *history_pod_label(const struct history *history, const struct kube_object *revision);
/* Writes what was changed or made. First of all: pods that name a revision come later. */
void history_write(struct history *history);
/* Deletes the oldest beyond the limit, not counting `current`, the present one and those that pods still bear. */
void history_truncate(struct history *history, int32_t limit, const struct kube_object *current, const struct managed_list *pods);
void history_deinit(struct history *history);

#endif
