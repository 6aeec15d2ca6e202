/* WebSocket frames (RFC 6455) without I/O: a decoder that joins fragments into messages, and an encoder. Both sides: servers expect masked frames and
 * send plain ones, clients the other way round. No extensions. */
#ifndef TIDEMILL_CODEC_WEBSOCKET_H
#define TIDEMILL_CODEC_WEBSOCKET_H

#include "base/base.h"

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

#define WEBSOCKET_CONTROL_BYTES_MAX 125
#define WEBSOCKET_FRAGMENTS_MAX 65536 /* frames of one message: against endless empty ones */

struct websocket_decoder {
    bool from_client; /* frames must be masked (true) or must not be (false) */
    bool failed;
    bool in_message; /* between a first fragment and the final one */
    bool binary;
    bool delivered; /* the message was handed out by the last step and is dropped by the next */
    uint8_t head[14];
    uint8_t head_len;
    bool head_done;
    bool final;
    uint8_t opcode;
    uint8_t mask[4];
    uint64_t length, position; /* of the current frame's payload */
    uint32_t fragments;
    uint8_t control[WEBSOCKET_CONTROL_BYTES_MAX];
    struct buffer message;
};

enum websocket_event_type {
    WEBSOCKET_EVENT_NONE,    /* all input is consumed, more is needed */
    WEBSOCKET_EVENT_MESSAGE, /* whole, fragments joined, unmasked; text is valid UTF-8 */
    WEBSOCKET_EVENT_PING,    /* answer with a pong of the same payload */
    WEBSOCKET_EVENT_PONG,
    WEBSOCKET_EVENT_CLOSE, /* code (1005: none given) and reason in payload */
    WEBSOCKET_EVENT_ERROR, /* close with this code: 1002 protocol, 1007 no UTF-8, 1009 too big, 1011 no memory. The decoder is done */
};
struct websocket_event {
    enum websocket_event_type type;
    bool binary;
    int code;
    struct slice payload; /* borrowed until the next call */
};

/* A message has at most message_bytes_max bytes; nothing is allocated until one arrives. */
void websocket_decoder_init(struct websocket_decoder *decoder, bool from_client, size_t message_bytes_max);
void websocket_decoder_deinit(struct websocket_decoder *decoder);
/* Reads on: consumes *ret_used bytes of the input and yields at most one event. Call again with the rest until WEBSOCKET_EVENT_NONE. */
void websocket_decoder_step(struct websocket_decoder *decoder, struct slice input, size_t *ret_used, struct websocket_event *ret);

/* Appends one frame. `mask` is four random bytes for a client, NULL for a server. 0, or the buffer's error. */
int websocket_encode(struct buffer *out, enum websocket_opcode opcode, bool final, const uint8_t *mask, struct slice payload);
/* Appends a close frame; a reason is cut to 123 bytes. code 1005: without a code. */
int websocket_encode_close(struct buffer *out, const uint8_t *mask, int code, struct slice reason);

#endif
