/* Sets of paths into objects, as metadata.managedFields keeps them in fieldsV1: {"f:spec":{"f:replicas":{},"f:ports":{"k:{\"port\":80}":{".":{}}}}}.
 *
 * A set is a tree of elements; a node that is a member stands for the path that ends there. Elements are texts: "f:" and a name, "k:" and the keys of
 * an item, "v:" and its value, "i:" and its index. Everything lives in the arena; sets are changed in place and must not share nodes. */
#ifndef TIDEMILL_KUBE_FIELDSET_H
#define TIDEMILL_KUBE_FIELDSET_H

#include "base/base.h"

struct kube_fieldset {
    struct slice element; /* of the root: empty */
    bool member;
    struct kube_fieldset *items; /* in order of their elements: f: k: v: i:, then by bytes */
    size_t count, capacity;
};

/* fieldsV1 as JSON. 0, -EINVAL, -ENOMEM. */
int kube_fieldset_parse(struct arena *arena, struct slice json, struct kube_fieldset *ret);
/* Appends fieldsV1. */
int kube_fieldset_format(const struct kube_fieldset *set, struct buffer *out);

/* NULL when absent. */
struct kube_fieldset *kube_fieldset_find(const struct kube_fieldset *set, struct slice element);
/* The node below, made when it is missing; valid until the next one is made. NULL at the arena's limit. The element is borrowed. */
struct kube_fieldset *kube_fieldset_below(struct arena *arena, struct kube_fieldset *set, struct slice element);
/* Drops nodes right below that hold nothing. */
void kube_fieldset_sweep(struct kube_fieldset *set);
bool kube_fieldset_is_empty(const struct kube_fieldset *set);
bool kube_fieldset_equal(const struct kube_fieldset *a, const struct kube_fieldset *b);

/* set ∪ other, set − other; *ret = a ∩ b. 0 or -ENOMEM. */
int kube_fieldset_add(struct arena *arena, struct kube_fieldset *set, const struct kube_fieldset *other);
void kube_fieldset_subtract(struct kube_fieldset *set, const struct kube_fieldset *other);
int kube_fieldset_intersect(struct arena *arena, const struct kube_fieldset *a, const struct kube_fieldset *b, struct kube_fieldset *ret);
/* All that lies at or below the members of `other` goes. */
void kube_fieldset_subtract_below(struct kube_fieldset *set, const struct kube_fieldset *other);

/* Calls `each` with the text of every member's path (".spec.containers[name=\"c\"].image"), in order; `each` returns 0 to go on. */
int kube_fieldset_each(const struct kube_fieldset *set, int (*each)(void *userdata, const char *path), void *userdata);

#endif
