/* gzip by zlib, the whole at once: what is compressed here is in memory and kept. */
#include "codec/gzip.h"

#include <zlib.h>

#define GZIP_WINDOW (15 + 16) /* the largest window, in gzip's wrapping */
#define GZIP_MEMORY 8

int gzip_encode(struct slice plain, struct buffer *out) {
    z_stream stream = {.zalloc = Z_NULL};
    if (plain.len > UINT32_MAX || deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    size_t bound = deflateBound(&stream, plain.len);
    int error = buffer_reserve(out, bound);
    if (!error) {
        stream.next_in = (Bytef *)(uintptr_t)plain.data;
        stream.avail_in = (uInt)plain.len;
        stream.next_out = (Bytef *)out->data + out->len;
        stream.avail_out = (uInt)bound;
        int done = deflate(&stream, Z_FINISH);
        ASSERT(done == Z_STREAM_END); /* the bound is zlib's own */
        buffer_commit(out, bound - stream.avail_out);
    }
    deflateEnd(&stream);
    return error;
}
