/* Small text codecs: base64 (RFC 4648), hexadecimal, percent-encoding and query strings, Kubernetes names. */
#ifndef TIDEMILL_CODEC_TEXT_H
#define TIDEMILL_CODEC_TEXT_H

#include "base/base.h"

int base64_encode(struct buffer *out, struct slice bytes);
/* Standard alphabet, padding required; -EINVAL otherwise. */
int base64_decode(struct buffer *out, struct slice text);
/* URL alphabet without padding (JWT, WebSocket bearer protocol). */
int base64url_encode(struct buffer *out, struct slice bytes);
int base64url_decode(struct buffer *out, struct slice text);

/* Percent-decoding of a path segment or query value ('+' is a blank when `query`); -EINVAL on a bad escape or an encoded NUL. */
int percent_decode(struct buffer *out, struct slice text, bool query);
/* Everything but unreserved characters is escaped. */
int percent_encode(struct buffer *out, struct slice text);

/* A parsed request target or query string, in the arena: keys and values decoded, NUL-terminated, in order. */
struct query {
    struct query_pair {
        struct slice key, value;
    } * items;
    size_t count;
};
int query_parse(struct arena *arena, struct slice text, struct query *ret);
/* The first value of the key, or NULL when absent. */
const char *query_find(const struct query *query, const char *key);
/* A switch as Kubernetes reads it: given, and neither "false" (in any case) nor "0". Python's clients say "True". */
bool query_flag(const struct query *query, const char *key);

/* RFC 1123 names as upstream checks them. Label: ≤ 63 of [a-z0-9-], starts and ends alphanumeric. Subdomain: ≤ 253, labels joined by dots. */
bool name_is_dns_label(struct slice name);
bool name_is_dns_subdomain(struct slice name);
/* RFC 1035 label (services): starts with a letter. */
bool name_is_dns1035_label(struct slice name);
/* [prefix/]name of labels and annotations. */
bool name_is_qualified(struct slice name);
bool name_is_label_value(struct slice value);

#endif
