/* SPDY frames: the first byte chooses how the input is cut. Streams that are opened are answered and written to, so that windows and ends are
 * exercised. Checked besides memory: progress, and silence after an error. */
#include <stdint.h>

#include "codec/codec.h"

#define STREAMS_MAX 4

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void act(struct spdy *spdy, const struct spdy_event *event) {
    static const char answer[1000];
    if (event->type == SPDY_EVENT_OPEN && event->stream % 8 == 7)
        spdy_reset(spdy, event->stream, SPDY_REFUSED_STREAM);
    else if (event->type == SPDY_EVENT_OPEN)
        spdy_reply(spdy, event->stream);
    else if (event->type == SPDY_EVENT_DATA)
        spdy_send(spdy, event->stream, slice_make(answer, sizeof answer), event->is_last);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    CLEANUP(spdy_freep) struct spdy *spdy = NULL;
    if (size < 1 || spdy_new(true, STREAMS_MAX, &spdy) < 0)
        return 0;
    struct slice rest = slice_make(bytes + 1, size - 1);
    bool failed = false;
    while (rest.len > 0) {
        struct slice piece = slice_head(rest, (size_t)bytes[0] + 1), out;
        struct spdy_event event = {.type = SPDY_EVENT_GOAWAY};
        rest = slice_from(rest, piece.len);
        while (event.type != SPDY_EVENT_NONE) {
            size_t used = 0;
            spdy_step(spdy, piece, &used, &event);
            ASSERT(used <= piece.len);
            ASSERT(!failed || event.type == SPDY_EVENT_NONE);
            ASSERT(event.header_count <= SPDY_HEADERS_MAX);
            failed = failed || event.type == SPDY_EVENT_ERROR;
            piece = slice_from(piece, used);
            act(spdy, &event);
        }
        ASSERT(piece.len == 0);
        ASSERT(spdy_waiting(spdy) <= STREAMS_MAX * SPDY_WAITING_BYTES_MAX);
        if (spdy_output(spdy, &out) == 0)
            spdy_output_sent(spdy);
    }
    return 0;
}
