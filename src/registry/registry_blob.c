/* Blobs over HTTP: reading, ranges, deleting (end-2, end-10). The bytes go from the file to the socket without passing our memory. */
#include <unistd.h>

#include "registry/registry_priv.h"

struct range {
    int64_t first, length;
    bool partial, unsatisfiable;
};

/* One range of RFC 9110 (bytes=a-b, a-, -n). Several, or nonsense, count as no range at all, as the RFC allows. */
static struct range read_range(struct slice header, int64_t size) {
    struct range whole = {.length = size};
    if (!slice_starts(header, SLICE("bytes=")) || slice_index(header, ',') >= 0)
        return whole;
    struct slice last_text = slice_trim(slice_from(header, 6));
    if (slice_index(last_text, '-') < 0)
        return whole;
    struct slice first_text = slice_cut(&last_text, '-');
    uint64_t first = 0, last = (uint64_t)size - 1;
    if (first_text.len && slice_parse_u64(first_text, INT64_MAX, &first) < 0)
        return whole;
    if (last_text.len && slice_parse_u64(last_text, INT64_MAX, &last) < 0)
        return whole;
    if (first_text.len == 0) { /* the last n bytes */
        if (last_text.len == 0)
            return whole;
        first = last >= (uint64_t)size ? 0 : (uint64_t)size - last;
        if (last == 0)
            return (struct range){.unsatisfiable = true};
        last = (uint64_t)size - 1;
    } else if (last_text.len && last < first) {
        return whole;
    }
    if (size == 0 || first >= (uint64_t)size)
        return (struct range){.unsatisfiable = true};
    last = MIN(last, (uint64_t)size - 1);
    return (struct range){.first = (int64_t)first, .length = (int64_t)(last - first) + 1, .partial = true};
}

static void send_blob(struct registry_request *request, const struct oci_digest *digest, int blob_fd, int64_t size) {
    struct http_exchange *exchange = request->exchange;
    struct arena *arena = http_exchange_arena(exchange);
    CLEANUP(fd_closep) int fd = blob_fd;
    struct slice header = request->is_head ? (struct slice){0} : http_header(exchange, "Range");
    struct range range = read_range(header, size);
    char digest_text[OCI_DIGEST_TEXT];
    const char *content_range =
        range.unsatisfiable ? arena_printf(arena, "bytes */%" PRId64, size)
                            : arena_printf(arena, "bytes %" PRId64 "-%" PRId64 "/%" PRId64, range.first, range.first + range.length - 1, size);
    const struct http_field fields[] = {{"Docker-Content-Digest", oci_digest_format(digest, digest_text)},
                                        {"ETag", registry_etag(arena, digest)},
                                        {"Accept-Ranges", "bytes"},
                                        {"Cache-Control", "max-age=31536000, immutable"},
                                        {range.partial || range.unsatisfiable ? "Content-Range" : NULL, content_range},
                                        {NULL, NULL}};
    if (!content_range)
        return registry_error(exchange, 503, "UNKNOWN", "out of memory");
    if (range.unsatisfiable)
        return http_respond(exchange, 416, "application/octet-stream", (struct slice){0}, fields);
    http_respond_begin(exchange, range.partial ? 206 : 200, "application/octet-stream", range.length, fields);
    if (request->is_head || range.length == 0)
        http_respond_end(exchange);
    else
        (void)http_respond_file(exchange, TAKE_FD(fd), range.first, range.length); /* a broken connection ends the exchange by itself */
}

/* The digest in the path, when this repository has the blob. Otherwise answers and returns false. */
static bool find_blob(struct registry_request *request, struct oci_digest *ret) {
    if (oci_digest_parse(slice_of(request->rest), ret) < 0) {
        registry_error(request->exchange, 400, "DIGEST_INVALID", "expected sha256: and 64 hexadecimal digits");
        return false;
    }
    /* A manifest is a blob as well: whoever may read it as one may read it as the other. What is hidden is absent: a push then brings it. */
    if (!registry_shows_blob(request, request->name, ret) &&
        (content_find_link(request->registry->content, request->name, CONTENT_LINK_MANIFEST, ret, NULL) < 0 ||
         registry_hides_manifest(request, ret))) {
        registry_error(request->exchange, 404, "BLOB_UNKNOWN", "%s has no blob %s", request->name, request->rest);
        return false;
    }
    return true;
}

void registry_on_blob_get(struct registry_request *request) {
    struct oci_digest digest;
    int64_t size = 0;
    if (!find_blob(request, &digest))
        return;
    int fd = content_open_blob(request->registry->content, &digest, &size);
    if (fd == -ENOENT)
        return registry_error(request->exchange, 404, "BLOB_UNKNOWN", "%s has no blob %s", request->name, request->rest);
    if (fd < 0)
        return registry_storage_error(request->exchange, fd);
    if (request->is_head) /* "do you have it?": the push that follows counts on it */
        content_touch_blob(request->registry->content, &digest);
    if (registry_not_modified(request, &digest))
        close(fd);
    else
        send_blob(request, &digest, fd, size);
}

void registry_on_blob_delete(struct registry_request *request) {
    struct oci_digest digest;
    if (!find_blob(request, &digest))
        return;
    int r = content_unlink(request->registry->content, request->name, CONTENT_LINK_BLOB, &digest);
    if (r == -ENOENT)
        return registry_error(request->exchange, 405, "UNSUPPORTED", "%s is a manifest: delete it as one", request->rest);
    if (r < 0)
        return registry_storage_error(request->exchange, r);
    http_respond(request->exchange, 202, NULL, (struct slice){0}, NULL);
}
