/* HTTP/1.1: the first byte chooses request, response or chunked body, the second how the rest is cut. Checked besides memory: the outcome does not
 * depend on the cut, slices stay inside the head, what is accepted stays within the limits, and the raw extent of a chunked body adds up. */
#include <stdint.h>

#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_inside(struct slice part, const char *from, size_t len) {
    if (part.data && part.len > 0 && !slice_is(part, "/"))
        ASSERT(part.data >= from && part.data + part.len <= from + len);
}

typedef enum http1_result parse_fn(struct http1_scan *, struct slice, struct http1_field *, struct http1_head *, struct http1_error *);

static void fuzz_head(parse_fn *parse, struct slice text, size_t cut) {
    struct http1_field fields[HTTP_HEADERS_MAX], fields_cut[HTTP_HEADERS_MAX];
    struct http1_head head = {0}, head_cut = {0};
    struct http1_error error = {0}, error_cut = {0};
    struct http1_scan scan = {0}, scan_cut = {0};
    enum http1_result whole = parse(&scan, text, fields, &head, &error);
    enum http1_result result = parse(&scan_cut, slice_head(text, cut), fields_cut, &head_cut, &error_cut);
    if (result == HTTP1_MORE)
        result = parse(&scan_cut, text, fields_cut, &head_cut, &error_cut);
    ASSERT(result == whole);
    ASSERT(whole != HTTP1_BAD || (error.status == error_cut.status && error.reason));
    if (whole != HTTP1_DONE)
        return;
    ASSERT(head.bytes == head_cut.bytes && head.bytes <= text.len && head.bytes <= HTTP_HEAD_BYTES_MAX + 1);
    ASSERT(head.fields_count == head_cut.fields_count && head.fields_count <= HTTP_HEADERS_MAX);
    ASSERT(!(head.chunked && head.has_content_length));
    for (size_t i = 0; i < head.fields_count; i++) {
        check_inside(fields[i].name, text.data, head.bytes);
        check_inside(fields[i].value, text.data, head.bytes);
        ASSERT(http1_is_token(fields[i].name) && http1_is_field_value(fields[i].value));
    }
    check_inside(head.path, text.data, head.bytes);
    check_inside(head.query, text.data, head.bytes);
    check_inside(head.host, text.data, head.bytes);
}

static void fuzz_chunks(struct slice text, size_t step) {
    struct http1_chunked chunked = {0};
    enum http1_result result = HTTP1_MORE;
    size_t at = 0, body = 0;
    while (result == HTTP1_MORE && at < text.len) {
        struct slice data, piece = slice_head(slice_from(text, at), step + 1);
        size_t used = 0;
        result = http1_chunked_step(&chunked, piece, &used, &data);
        if (result == HTTP1_BAD)
            return;
        ASSERT(used > 0 && used <= piece.len);
        check_inside(data, piece.data, used);
        at += used;
        body += data.len;
    }
    ASSERT(body <= at);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 2)
        return 0;
    struct slice text = slice_make(bytes + 2, size - 2);
    if (bytes[0] % 3 == 0)
        fuzz_head(http1_parse_request, text, bytes[1]);
    else if (bytes[0] % 3 == 1)
        fuzz_head(http1_parse_response, text, bytes[1]);
    else
        fuzz_chunks(text, bytes[1]);
    return 0;
}
