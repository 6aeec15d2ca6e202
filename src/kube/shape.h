/* Shapes: what a node of an object's tree is when several managers write to it, as structured merge sees it: what is merged and owned member by
 * member, item by item, or as a whole. One walks a tree from the root of a kind down. Built-in kinds answer from the tables, custom ones from their
 * structural schemas; what neither describes is free-form. */
#ifndef TIDEMILL_KUBE_SHAPE_H
#define TIDEMILL_KUBE_SHAPE_H

#include "codec/codec.h"

enum kube_merge {
    KUBE_MERGE_FREE,   /* free-form (the deduced schema): objects member by member, all else as a whole */
    KUBE_MERGE_ATOMIC, /* as a whole: scalars, and what is declared atomic */
    KUBE_MERGE_STRUCT, /* known members, one by one; others are errors in an applied configuration */
    KUBE_MERGE_MAP,    /* any members, one by one */
    KUBE_MERGE_SET,    /* a list of scalars, item by item */
    KUBE_MERGE_KEYED,  /* a list of objects, item by item, each known by its keys */
};

struct kube_shape_key {
    struct slice name;
    const struct tree *default_; /* NULL: none */
    struct tree storage;         /* default_ may point here */
};

struct kube_shape_node;
/* Who answers for the nodes below a node. */
struct kube_shape_source {
    /* The member `name` of a KUBE_MERGE_STRUCT or KUBE_MERGE_MAP; false: a struct that has none of that name. */
    bool (*member)(const struct kube_shape_node *shape, struct slice name, struct kube_shape_node *ret);
    /* The items of a KUBE_MERGE_SET or KUBE_MERGE_KEYED. */
    void (*item)(const struct kube_shape_node *list, struct kube_shape_node *ret);
    /* Key `index` of a KUBE_MERGE_KEYED, in order of their names; false: there are no more. */
    bool (*key)(const struct kube_shape_node *list, size_t index, struct kube_shape_key *ret);
};
struct kube_shape_node {
    enum kube_merge merge;
    const struct kube_shape_source *source; /* NULL for KUBE_MERGE_FREE and KUBE_MERGE_ATOMIC */
    const void *node, *detail;              /* the source's own */
};

struct kube_kind;
/* The root of a kind: a struct with apiVersion, kind and metadata. */
void kube_shape_of(const struct kube_kind *kind, struct kube_shape_node *ret);
/* The walk; what lies below FREE is FREE. `member` is false for unknown members of structs: *ret is FREE then. */
bool kube_shape_member(const struct kube_shape_node *shape, struct slice name, struct kube_shape_node *ret);
void kube_shape_item(const struct kube_shape_node *list, struct kube_shape_node *ret);
bool kube_shape_key(const struct kube_shape_node *list, size_t index, struct kube_shape_key *ret);
/* metadata of every kind, for sources that describe the rest. */
void kube_shape_of_metadata(struct kube_shape_node *ret);

#endif
