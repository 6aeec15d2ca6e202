/* A page from a server in the cluster: every byte of it passes, in order, whatever it is cut into; only links grow. */
#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void pass(struct slice page, size_t piece, struct buffer *out) {
    struct html_links links;
    html_links_init(&links, "/p");
    for (; page.len; page = slice_from(page, piece))
        ASSERT(!html_links_write(&links, slice_head(page, piece), out));
    ASSERT(!html_links_end(&links, out));
    html_links_deinit(&links);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buffer whole = BUFFER_INIT(64 * MIB), pieces = BUFFER_INIT(64 * MIB);
    pass(slice_make(data, size), SIZE_MAX, &whole);
    pass(slice_make(data, size), 3, &pieces);
    ASSERT(slice_equal(buffer_slice(&whole), buffer_slice(&pieces)));
    ASSERT(whole.len >= size);
    buffer_deinit(&whole);
    buffer_deinit(&pieces);
    return 0;
}
