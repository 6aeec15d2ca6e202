/* HTTP/2 as a server sends it: frames, header compression, settings, trailers. Checked besides memory: what is kept stays within its bounds, and an
 * answer that is whole has either a status or an error. */
#include <stdint.h>

#include "http/http2_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    const struct http2_options options = {.method = "POST", .authority = "pod:80", .target = "/", .body = SLICE("question"), .body_max = 1000};
    struct http2_machine machine;
    struct slice rest = slice_make(bytes + (size > 0), size - (size > 0));
    size_t step = size > 0 ? (size_t)bytes[0] + 1 : 1;
    int r = http2_machine_init(&machine, &options, false);
    for (; r == 0 && rest.len && !machine.is_complete; rest = slice_from(rest, step)) {
        CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(16 * MIB);
        r = http2_machine_take(&machine, &out);
        if (r == 0)
            http2_machine_feed(&machine, slice_head(rest, step));
    }
    ASSERT(machine.body.len <= 1000 && machine.fields_count <= HTTP_HEADERS_MAX);
    ASSERT(!machine.is_complete || machine.error < 0 || machine.status >= 200);
    http2_machine_deinit(&machine);
    return 0;
}
