/* JSON (RFC 8259). The reader is strict: UTF-8 only, one value, no trailing bytes, nesting up to JSON_DEPTH_MAX. */
#ifndef TIDEMILL_CODEC_JSON_H
#define TIDEMILL_CODEC_JSON_H

#include "codec/tree.h"

struct json_options {
    bool allow_duplicates; /* the last of equal keys wins, as Go's decoder does; otherwise -EINVAL naming the key */
};

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
