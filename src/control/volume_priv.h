/* What claims, volumes and the scheduler share about storage. */
#ifndef TIDEMILL_CONTROL_VOLUME_PRIV_H
#define TIDEMILL_CONTROL_VOLUME_PRIV_H

#include "control/control_priv.h"

#define NO_PROVISIONER "kubernetes.io/no-provisioner"
#define BOUND_ANNOTATION "pv.kubernetes.io/bind-completed"                    /* of a claim: both sides were written */
#define BOUND_BY_CONTROLLER_ANNOTATION "pv.kubernetes.io/bound-by-controller" /* the controller chose, and may undo it */
#define PROVISIONED_BY_ANNOTATION "pv.kubernetes.io/provisioned-by"
#define SELECTED_NODE_ANNOTATION "volume.kubernetes.io/selected-node" /* of a claim: where its pod will run */

/* The names of their storage class; "" none. */
const char *claim_class(const struct kube_object *claim);
const char *volume_class(const struct kube_object *volume);
/* Claims of this class are bound when a pod needs them. */
bool class_waits(struct context *context, const char *name);
bool claim_is_bound(const struct kube_object *claim);
/* The volume names the claim: somebody reserved it, or it is bound. */
bool volume_is_for(const struct kube_object *volume, const struct kube_object *claim);
/* "" when the volume can hold what the claim asks for, otherwise what is wrong in upstream's words. */
const char *volume_mismatch(const struct kube_object *volume, const struct kube_object *claim);
bool volume_fits_node(const struct kube_object *volume, const struct kube_object *node);
/* The volume that is reserved for the claim, otherwise the smallest free one that suits it; NULL: none. node NULL: anywhere, but (`waits`) reserved
 * ones only. Volumes in `taken` (may be NULL) are passed over. */
const struct kube_object *volume_match(const struct objects *volumes, const struct kube_object *claim, const struct kube_object *node, bool waits,
                                       const struct objects *taken);
/* Writes that the volume is the claim's: what the binder goes on from. */
int volume_reserve(struct kube_object *volume, const struct kube_object *claim);

#endif
