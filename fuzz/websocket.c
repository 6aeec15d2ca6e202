/* WebSocket frames: the first byte chooses the side and how the input is cut. Checked besides memory: progress, the maximum of a message, and silence
 * after an error. */
#include <stdint.h>

#include "codec/codec.h"

#define MESSAGE_BYTES_MAX 1000

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 1)
        return 0;
    struct websocket_decoder decoder;
    struct slice rest = slice_make(bytes + 1, size - 1);
    size_t step = bytes[0] / 2 + 1;
    bool failed = false;
    websocket_decoder_init(&decoder, bytes[0] & 1, MESSAGE_BYTES_MAX);
    while (rest.len > 0) {
        struct slice piece = slice_head(rest, step);
        struct websocket_event event = {.type = WEBSOCKET_EVENT_PING};
        rest = slice_from(rest, piece.len);
        while (event.type != WEBSOCKET_EVENT_NONE) {
            size_t used = 0;
            websocket_decoder_step(&decoder, piece, &used, &event);
            ASSERT(used <= piece.len);
            ASSERT(!failed || event.type == WEBSOCKET_EVENT_NONE);
            ASSERT(event.payload.len <= MESSAGE_BYTES_MAX);
            failed = failed || event.type == WEBSOCKET_EVENT_ERROR;
            piece = slice_from(piece, used);
        }
        ASSERT(piece.len == 0);
    }
    websocket_decoder_deinit(&decoder);
    return 0;
}
