#include "base/base.h"

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool slice_equal_nocase(struct slice a, struct slice b) {
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.data[i]) != lower(b.data[i]))
            return false;
    return true;
}

int slice_compare(struct slice a, struct slice b) {
    size_t shared = MIN(a.len, b.len);
    int order = shared ? memcmp(a.data, b.data, shared) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

bool slice_starts(struct slice s, struct slice prefix) {
    return s.len >= prefix.len && slice_equal(slice_head(s, prefix.len), prefix);
}

bool slice_ends(struct slice s, struct slice suffix) {
    return s.len >= suffix.len && slice_equal(slice_from(s, s.len - suffix.len), suffix);
}

ptrdiff_t slice_index(struct slice s, char byte) {
    const char *found = s.len ? memchr(s.data, byte, s.len) : NULL;
    return found ? found - s.data : -1;
}

ptrdiff_t slice_find(struct slice s, struct slice needle) {
    if (needle.len == 0)
        return 0;
    const char *found = s.len ? memmem(s.data, s.len, needle.data, needle.len) : NULL;
    return found ? found - s.data : -1;
}

struct slice slice_from(struct slice s, size_t from) {
    from = MIN(from, s.len);
    return (struct slice){s.data ? s.data + from : NULL, s.len - from};
}

struct slice slice_head(struct slice s, size_t len) {
    return (struct slice){s.data, MIN(len, s.len)};
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice s) {
    while (s.len && is_blank(s.data[0]))
        s = slice_from(s, 1);
    while (s.len && is_blank(s.data[s.len - 1]))
        s.len--;
    return s;
}

struct slice slice_cut(struct slice *rest, char separator) {
    struct slice whole = *rest;
    ptrdiff_t at = slice_index(whole, separator);
    if (at < 0) {
        *rest = (struct slice){NULL, 0};
        return whole;
    }
    *rest = slice_from(whole, (size_t)at + 1);
    return slice_head(whole, (size_t)at);
}

int slice_parse_u64(struct slice s, uint64_t max, uint64_t *ret) {
    if (s.len == 0)
        return -EINVAL;
    uint64_t value = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (uint64_t)(s.data[i] - '0'), &value))
            return -ERANGE;
    }
    if (value > max)
        return -ERANGE;
    *ret = value;
    return 0;
}

int slice_parse_i64(struct slice s, int64_t *ret) {
    bool negative = s.len && s.data[0] == '-';
    uint64_t magnitude;
    int r = slice_parse_u64(slice_from(s, negative), (uint64_t)INT64_MAX + negative, &magnitude);
    if (r < 0)
        return r;
    *ret = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return 0;
}

char *slice_dup(struct slice s) {
    char *copy = malloc(s.len + 1);
    if (!copy)
        return NULL;
    if (s.len)
        memcpy(copy, s.data, s.len);
    copy[s.len] = '\0';
    return copy;
}

uint64_t slice_hash(struct slice s) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < s.len; i++)
        hash = (hash ^ (uint8_t)s.data[i]) * 0x100000001b3u;
    return hash;
}
