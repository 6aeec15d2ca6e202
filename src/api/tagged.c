/* Answers with an entity tag (RFC 9110 §8.8.3): who has the same answer already is told so (304) instead of sent it again. */
#include "api/api_priv.h"

#include <stdio.h>

#define TAG_BYTES (64 + sizeof "\"\"")

static bool is_known(const struct request *request, const char *tag) {
    struct slice known = http_header(request->exchange, "If-None-Match");
    while (known.len) {
        struct slice part = slice_trim(slice_cut(&known, ','));
        if (slice_starts(part, SLICE("W/")))
            part = slice_from(part, 2);
        if (slice_is(part, tag) || slice_is(part, "*"))
            return true;
    }
    return false;
}

bool api_respond_if_known(struct request *request, const char *hash) {
    char tag[TAG_BYTES];
    snprintf(tag, sizeof tag, "\"%s\"", hash);
    if (!is_known(request, tag))
        return false;
    const struct http_field fields[] = {{"ETag", tag}, {"Vary", "Accept"}, {NULL, NULL}};
    http_respond(request->exchange, 304, NULL, SLICE(""), fields);
    return true;
}

void api_respond_tagged(struct request *request, const char *type, struct slice body) {
    char hash[65], tag[TAG_BYTES];
    digest_sha256_hex(body, hash);
    if (api_respond_if_known(request, hash))
        return;
    snprintf(tag, sizeof tag, "\"%s\"", hash);
    const struct http_field fields[] = {{"ETag", tag}, {"Vary", "Accept"}, {"Cache-Control", "public"}, {NULL, NULL}};
    http_respond(request->exchange, 200, type, body, fields);
}
