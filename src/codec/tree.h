/* A document as a tree: what JSON and YAML have in common, and what patches work on. Nodes live in the arena they were made in and remember where in
 * the source they stood, so that an error can name line and column. Typed objects (kube/) decode from trees and encode to them. */
#ifndef TIDEMILL_CODEC_TREE_H
#define TIDEMILL_CODEC_TREE_H

#include "base/base.h"

enum tree_type { TREE_NULL, TREE_BOOL, TREE_INT, TREE_FLOAT, TREE_STRING, TREE_LIST, TREE_MAP };

struct tree {
    enum tree_type type;
    uint32_t line, column; /* from 1; 0: made by code */
    union {
        bool boolean;
        int64_t integer;                /* numbers without fraction or exponent that fit */
        double real;                    /* all other numbers */
        struct slice string;            /* NUL-terminated behind its end; may hold NULs inside */
        struct tree_children *children; /* TREE_LIST and TREE_MAP; never NULL */
    };
};

/* An entry of a list (key empty, data NULL) or a map. */
struct tree_entry {
    struct slice key;      /* NUL-terminated behind its end */
    uint32_t line, column; /* of the key */
    struct tree *value;    /* never NULL */
};

/* In source order. Maps hold each key once: the parsers refuse or report duplicates. */
struct tree_children {
    struct tree_entry *items;
    size_t count;
    size_t capacity;
    struct tree_index *index; /* over the keys of a large map */
};

/* Constructors; NULL when the arena is at its limit. Strings are copied into the arena. The text NULL gives
 * TREE_NULL: what was formatted for the purpose, and may not be there for want of memory, comes from tree_printf. */
struct tree *tree_null(struct arena *arena);
struct tree *tree_bool(struct arena *arena, bool value);
struct tree *tree_int(struct arena *arena, int64_t value);
struct tree *tree_float(struct arena *arena, double value);
struct tree *tree_string(struct arena *arena, struct slice value);
struct tree *tree_text(struct arena *arena, const char *value);
struct tree *tree_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct tree *tree_list(struct arena *arena);
struct tree *tree_map(struct arena *arena);

/* Appends to a list. 0 or -ENOMEM (also when value is NULL, so that constructors nest). */
int tree_push(struct arena *arena, struct tree *list, struct tree *value);
/* Sets a key of a map, in place when it is there. 0 or -ENOMEM (also when value is NULL). */
int tree_set(struct arena *arena, struct tree *map, struct slice key, struct tree *value);
int tree_set_text(struct arena *arena, struct tree *map, const char *key, const char *value);
/* Appends a key that the caller knows to be new, as it is: nothing is copied. 0 or -ENOMEM (also when its value is NULL). */
int tree_add(struct arena *arena, struct tree *map, const struct tree_entry *entry);
/* Removes a key; false when it was absent. */
bool tree_unset(struct tree *map, struct slice key);
void tree_list_remove(struct tree *list, size_t index);
/* Keeps the first `count` entries of a list or map; who moves the entries of a map calls it afterwards. */
void tree_truncate(struct tree *node, size_t count);

/* NULL when absent, or when `map` is NULL or no map: lookups chain. */
struct tree *tree_find(const struct tree *map, const char *key);
struct tree_entry *tree_find_entry(const struct tree *map, struct slice key);
/* Dotted path of map keys: tree_path(root, "spec.template.metadata"). */
struct tree *tree_path(const struct tree *root, const char *path);
/* The string, or `fallback` when node is NULL or no string. NUL-terminated. */
const char *tree_text_or(const struct tree *node, const char *fallback);
int64_t tree_int_or(const struct tree *node, int64_t fallback);
bool tree_bool_or(const struct tree *node, bool fallback);
/* Number of entries of a list or map; 0 for anything else. */
size_t tree_count(const struct tree *node);
/* Entry `index` of a list; NULL when out of range. */
struct tree *tree_at(const struct tree *list, size_t index);

/* Whether lists and maps nest in more than `levels` levels. Looks no deeper than that. */
bool tree_is_deeper(const struct tree *node, size_t levels);
/* Deep. Maps are equal whatever the order of their keys; 1 and 1.0 are equal. */
bool tree_equal(const struct tree *a, const struct tree *b);
/* A deep copy into another (or the same) arena; NULL at its limit. */
struct tree *tree_copy(struct arena *arena, const struct tree *node);
/* "null", "boolean", "number", "string", "array", "object": for messages. */
const char *tree_type_name(const struct tree *node);

/* RFC 7386 merge patch: the result shares nodes with both. NULL at the arena's limit. */
struct tree *tree_merge_patch(struct arena *arena, const struct tree *target, const struct tree *patch);
/* RFC 6902 JSON patch. 0 and *ret; -EINVAL with diag when the patch is malformed; -ENOENT with diag when a path is missing or a test fails; -E2BIG
 * with diag when its operations copy or move too much; -ENOMEM. */
int tree_json_patch(struct arena *arena, const struct tree *target, const struct tree *patch, struct tree **ret, struct diag *diag);

#endif
