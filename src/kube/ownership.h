/* Structured merge: which paths a configuration names, which paths two versions differ in, how a configuration is put upon an object, and what of an
 * object goes when its owner names it no more. Trees in, trees and sets out; all in the caller's arena. See ownership.c. */
#ifndef TIDEMILL_KUBE_OWNERSHIP_H
#define TIDEMILL_KUBE_OWNERSHIP_H

#include "kube/fieldset.h"
#include "kube/shape.h"

#define KUBE_OWNED_MEMBERS_MAX 4096 /* a map or list with more is owned as a whole */

/* Adds the paths that the tree names. 0 or -ENOMEM. */
int kube_owned_paths(struct arena *arena, const struct kube_shape_node *shape, const struct tree *tree, struct kube_fieldset *set);
/* Adds the paths whose values came or changed, and those that went. Either tree may be NULL; null counts as absent. 0 or -ENOMEM. */
int kube_owned_changes(struct arena *arena, const struct kube_shape_node *shape, const struct tree *old, const struct tree *new,
                       struct kube_fieldset *changed, struct kube_fieldset *removed);
/* The configuration put upon the object: what it names wins, all else stays. The result shares nodes with both. NULL at the arena's limit. */
struct tree *kube_owned_merge(struct arena *arena, const struct kube_shape_node *shape, const struct tree *object, const struct tree *config);
/* The object without the paths that are in `before` and in none that `kept` names. Shares nodes. NULL at the arena's limit. */
struct tree *kube_owned_prune(struct arena *arena, const struct kube_shape_node *shape, const struct tree *object, const struct kube_fieldset *before,
                              const struct kube_fieldset *kept);
/* What is wrong with an applied configuration, in upstream's words: unknown fields, items without keys or with the same ones, wrong types. -EINVAL
 * with diag->message. */
int kube_owned_check(struct arena *arena, const struct kube_shape_node *shape, const struct tree *config, struct diag *diag);

#endif
