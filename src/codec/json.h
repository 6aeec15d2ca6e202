/* JSON (RFC 8259). The reader is strict: UTF-8 only, one value, no trailing bytes, nesting up to JSON_DEPTH_MAX. */
#ifndef TIDEMILL_CODEC_JSON_H
#define TIDEMILL_CODEC_JSON_H

#include "codec/tree.h"

#define JSON_DUPLICATES_MAX 16

/* Keys that stand in one object twice; those beyond the maximum are not kept. */
struct json_duplicates {
    struct {
        const struct tree_children *map;
        struct slice key;
    } items[JSON_DUPLICATES_MAX];
    size_t count;
};

struct json_options {
    bool allow_duplicates;              /* the last of equal keys wins, as Go's decoder does; otherwise -EINVAL naming the key */
    struct json_duplicates *duplicates; /* where they are noted when they are allowed; NULL: nowhere */
};

/* Calls `each` with the path ("spec.containers[0].name") of every noted duplicate, in the order of the document. 0 or -ENOMEM. */
int json_duplicates_each(const struct tree *root, const struct json_duplicates *duplicates, void (*each)(void *userdata, const char *path),
                         void *userdata);

/* 0 and *ret in the arena; -EINVAL with diag (line, column, what was found and expected); -ENOMEM at the arena's limit. options may be NULL. */
int json_parse(struct arena *arena, struct slice text, const struct json_options *options, struct tree **ret, struct diag *diag);

/* Appends compact JSON; integral floats print without fraction, control characters are escaped. */
int json_format(struct buffer *out, const struct tree *node);
/* With two blanks of indentation and a final newline. */
int json_format_pretty(struct buffer *out, const struct tree *node);
/* One JSON string, quotes included. */
int json_format_string(struct buffer *out, struct slice text);
int json_format_double(struct buffer *out, double value);

#endif
