/* A slice borrows bytes: not NUL-terminated, never owned, valid as long as what it points into. The empty slice may have data NULL. */
#ifndef TIDEMILL_BASE_SLICE_H
#define TIDEMILL_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *data;
    size_t len;
};

/* A slice of a string literal. */
#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
/* For printf's "%.*s". */
#define SLICE_ARG(s) (int)(s).len, (s).data ? (s).data : ""

static inline struct slice slice_of(const char *text) {
    return (struct slice){text, text ? strlen(text) : 0};
}
static inline struct slice slice_make(const void *data, size_t len) {
    return (struct slice){(const char *)data, len};
}
static inline bool slice_equal(struct slice a, struct slice b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
/* Equal to a NUL-terminated string. */
static inline bool slice_is(struct slice a, const char *text) {
    return slice_equal(a, slice_of(text));
}
/* ASCII letters without regard to case. */
bool slice_equal_nocase(struct slice a, struct slice b);
int slice_compare(struct slice a, struct slice b);
bool slice_starts(struct slice s, struct slice prefix);
bool slice_ends(struct slice s, struct slice suffix);
/* The index of the first `byte`, or -1. */
ptrdiff_t slice_index(struct slice s, char byte);
/* The index of the first `needle`, or -1. */
ptrdiff_t slice_find(struct slice s, struct slice needle);
/* From `from` (clamped) to the end; the first `len` bytes (clamped). */
struct slice slice_from(struct slice s, size_t from);
struct slice slice_head(struct slice s, size_t len);
/* Without blanks, tabs, CR and LF at both ends. */
struct slice slice_trim(struct slice s);
/* Cuts *rest at the first `separator`: returns the part before it and leaves the part after it in *rest (empty with data NULL when there was none).
 */
struct slice slice_cut(struct slice *rest, char separator);
/* Decimal digits only, the whole slice; -EINVAL when it is no number, -ERANGE when it does not fit or exceeds `max`. */
int slice_parse_u64(struct slice s, uint64_t max, uint64_t *ret);
/* As above with an optional leading '-'. */
int slice_parse_i64(struct slice s, int64_t *ret);
/* A NUL-terminated heap copy, owned by the caller; NULL without memory. */
char *slice_dup(struct slice s);
/* FNV-1a, for tables of trusted size. */
uint64_t slice_hash(struct slice s);

#endif
