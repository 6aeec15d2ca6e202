/* Shorthands of this folder's tests: objects from JSON with single quotes. */
#ifndef TIDEMILL_KUBE_TESTING_PRIV_H
#define TIDEMILL_KUBE_TESTING_PRIV_H

#include "kube/schema_priv.h"
#include "unit.h"

static inline struct tree *tree_from(struct arena *arena, const char *quoted) {
    char *json = arena_strdup(arena, quoted);
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    for (char *c = json; *c; c++)
        if (*c == '\'')
            *c = '"';
    if (json_parse(arena, slice_of(json), NULL, &tree, &diag) != 0)
        fail_msg("%s: %s", diag.message, json);
    return tree;
}

static inline struct kube_object *object_from(const struct kube_kind *kind, const char *quoted) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    if (kube_decode_tree(kind, tree_from(arena, quoted), KUBE_STRICT, &object, &diag) != 0)
        fail_msg("%s", diag.message);
    arena_free(arena);
    return object;
}

/* The object's JSON must be that of the quoted text. */
static inline void assert_json(const struct kube_object *object, const char *quoted) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct buffer got = BUFFER_INIT(API_BODY_BYTES_MAX), want = BUFFER_INIT(API_BODY_BYTES_MAX);
    kube_encode_json(object, &got);
    json_format(&want, tree_from(arena, quoted));
    assert_string_equal(got.data, want.data);
    buffer_deinit(&got);
    buffer_deinit(&want);
    arena_free(arena);
}

#endif
