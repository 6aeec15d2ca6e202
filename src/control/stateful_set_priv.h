/* What stateful_set.c (pods in their order) and stateful_claim.c (their volumes) share. */
#ifndef TIDEMILL_CONTROL_STATEFUL_SET_PRIV_H
#define TIDEMILL_CONTROL_STATEFUL_SET_PRIV_H

#include "control/history_priv.h"

/* One run over a set. */
struct ensemble {
    struct context *context;
    const struct kube_object *object;
    const struct kube_stateful_set *set;
    struct kube_object *status; /* a copy whose status is changed */
    struct managed_list pods;   /* all of the set's, those that are going too */
    struct history history;
    const struct kube_object *current; /* revision; the set's present one is history.update */
    struct managed **replicas;         /* by ordinal - start; NULL: there is none */
    struct managed **condemned;        /* beyond the range, highest ordinal first */
    size_t condemned_count, created;
    int32_t start, count;
    bool monotonic; /* one after the other */
};

/* The name of the set's pod, and of its claim for a template; NULL: no memory. */
const char *member_name(const struct ensemble *ensemble, int32_t ordinal);
/* The pod gets the volumes of its claims, in place of the template's of the same name. */
int claim_set_volumes(const struct ensemble *ensemble, struct kube_object *pod, int32_t ordinal);
bool claim_volumes_match(const struct ensemble *ensemble, const struct kube_pod *pod, int32_t ordinal);
/* Creates the claims that are missing. */
void claim_create_missing(const struct ensemble *ensemble, int32_t ordinal);
/* A claim of a pod that is yet to be made belongs to its predecessor and goes with it, or is going: no pod until it is gone. */
bool claim_is_stale(const struct ensemble *ensemble, int32_t ordinal);
/* Owner references as persistentVolumeClaimRetentionPolicy says. pod: that the claims are used by; NULL: none is made yet. */
void claim_apply_retention(const struct ensemble *ensemble, int32_t ordinal, const struct kube_object *pod);
#endif
