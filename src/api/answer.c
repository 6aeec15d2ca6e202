/* The last steps of a JSON answer: indented when a person reads it, compressed when that pays.
 *
 * 1. ?pretty=true, and without the parameter clients that are people's tools (curl, wget, a browser), get indented JSON, as upstream.
 * 2. Answers above COMPRESS_BYTES_MIN are sent as gzip to whom accepts it, as upstream; but not above COMPRESS_BYTES_MAX, since this is done between
 * two turns of the loop and others wait. */
#include "api/api_priv.h"

#include <zlib.h>

#define PRETTY_BYTES_MAX (4 * MIB)
#define COMPRESS_BYTES_MIN (128 * KIB)
#define COMPRESS_BYTES_MAX (2 * MIB)
#define GZIP_WINDOW (15 + 16) /* zlib's way to ask for gzip's frame */

static bool wants_pretty(const struct request *request) {
    static const char *const readers[] = {"curl", "Wget", "Mozilla/5.0"};
    if (api_request_query(request, "pretty"))
        return api_request_flag(request, "pretty");
    struct slice agent = http_header(request->exchange, "User-Agent");
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        if (slice_starts(agent, slice_of(readers[i])))
            return true;
    return false;
}

static bool accepts_gzip(const struct request *request) {
    struct slice accepted = http_header(request->exchange, "Accept-Encoding");
    while (accepted.len) {
        struct slice part = slice_cut(&accepted, ',');
        if (slice_is(slice_trim(slice_cut(&part, ';')), "gzip"))
            return true;
    }
    return false;
}

static int make_pretty(struct slice body, struct buffer *out) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct tree *tree = NULL;
    int error = arena ? json_parse(arena, body, NULL, &tree, NULL) : -ENOMEM;
    return error ? error : json_format_pretty(out, tree);
}

static int compress_to(struct slice body, struct buffer *out) {
    z_stream stream = {.next_in = (z_const Bytef *)(uintptr_t)body.data, .avail_in = (uInt)body.len};
    if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    size_t bound = deflateBound(&stream, (uLong)body.len);
    int error = buffer_reserve(out, bound);
    if (!error) {
        stream.next_out = (Bytef *)(out->data + out->len);
        stream.avail_out = (uInt)bound;
        error = deflate(&stream, Z_FINISH) == Z_STREAM_END ? 0 : -EIO;
        if (!error)
            buffer_commit(out, bound - stream.avail_out);
    }
    (void)deflateEnd(&stream);
    return error;
}

struct slice api_answer_form(const struct request *request, struct slice body, struct buffer *pretty, struct buffer *compressed, bool *ret_gzip) {
    *ret_gzip = false;
    if (body.len <= PRETTY_BYTES_MAX && wants_pretty(request) && !make_pretty(body, pretty))
        body = buffer_slice(pretty);
    if (body.len < COMPRESS_BYTES_MIN || body.len > COMPRESS_BYTES_MAX || !accepts_gzip(request) || compress_to(body, compressed))
        return body;
    *ret_gzip = true;
    return buffer_slice(compressed);
}
