/* WebSocket frames (RFC 6455, section 5).
 *
 * The decoder is a small machine over bytes, in any pieces:   HEAD (2 to 14 bytes) → PAYLOAD → HEAD …
 * Invariants
 * 1. The payload length is checked against its limit as soon as the head is complete, before a byte of it is stored.
 * 2. Control frames go into their own array: they may arrive between the fragments of a message and must not disturb it.
 * 3. After an error the decoder consumes everything and yields nothing but that error.
 * Refused with 1002: reserved bits and opcodes, wrong masking, lengths not in their shortest form, fragmented or long control frames, a continuation
 * without a start and a start within a message, a close payload of one byte or with a code that must not be sent. */
#include "codec/websocket.h"

void websocket_decoder_init(struct websocket_decoder *decoder, bool from_client, size_t message_bytes_max) {
    *decoder = (struct websocket_decoder){.from_client = from_client};
    buffer_init(&decoder->message, message_bytes_max);
}

void websocket_decoder_deinit(struct websocket_decoder *decoder) {
    buffer_deinit(&decoder->message);
}

static void fail(struct websocket_decoder *decoder, struct websocket_event *event, int code) {
    decoder->failed = true;
    *event = (struct websocket_event){.type = WEBSOCKET_EVENT_ERROR, .code = code};
}

static bool is_control(uint8_t opcode) {
    return opcode & 8;
}

/* The shortest and strict form of UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool is_utf8(struct slice text) {
    const uint8_t *at = (const uint8_t *)text.data;
    for (const uint8_t *end = text.len ? at + text.len : at; at < end;) {
        uint8_t lead = *at++;
        if (lead < 0x80)
            continue;
        int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || end - at < more)
            return false;
        uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (at[0] < low || at[0] > high)
            return false;
        for (int i = 1; i < more; i++)
            if ((at[i] & 0xc0) != 0x80)
                return false;
        at += more;
    }
    return true;
}

/* --- the head --- */

static uint8_t head_bytes_wanted(const struct websocket_decoder *decoder) {
    if (decoder->head_len < 2)
        return 2;
    uint8_t length = decoder->head[1] & 0x7f;
    return (uint8_t)(2 + (length == 126 ? 2 : length == 127 ? 8 : 0) + (decoder->head[1] & 0x80 ? 4 : 0));
}

/* The payload's length; false when it is not in its shortest form or beyond 2^63. */
static bool read_length(struct websocket_decoder *decoder) {
    uint8_t length = decoder->head[1] & 0x7f;
    int bytes = length == 126 ? 2 : length == 127 ? 8 : 0;
    uint64_t value = bytes ? 0 : length;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | decoder->head[2 + i];
    if ((bytes == 2 && value < 126) || (bytes == 8 && (value < 65536 || value > INT64_MAX)))
        return false;
    if (decoder->head[1] & 0x80)
        memcpy(decoder->mask, decoder->head + 2 + bytes, 4);
    decoder->length = value;
    return true;
}

static bool known_opcode(uint8_t opcode) {
    return opcode <= WEBSOCKET_BINARY || (opcode >= WEBSOCKET_CLOSE && opcode <= WEBSOCKET_PONG);
}

/* 0, or the code to close with. */
static int check_head(struct websocket_decoder *decoder) {
    decoder->final = decoder->head[0] & 0x80;
    decoder->opcode = decoder->head[0] & 0x0f;
    bool masked = decoder->head[1] & 0x80;
    if ((decoder->head[0] & 0x70) || !known_opcode(decoder->opcode) || masked != decoder->from_client || !read_length(decoder))
        return 1002;
    if (is_control(decoder->opcode))
        return decoder->final && decoder->length <= WEBSOCKET_CONTROL_BYTES_MAX ? 0 : 1002;
    if ((decoder->opcode == WEBSOCKET_CONTINUATION) != decoder->in_message)
        return 1002;
    if (!decoder->in_message) {
        decoder->in_message = true;
        decoder->binary = decoder->opcode == WEBSOCKET_BINARY;
        decoder->fragments = 0;
    }
    if (decoder->length > decoder->message.bytes_max - decoder->message.len || ++decoder->fragments > WEBSOCKET_FRAGMENTS_MAX)
        return 1009;
    return 0;
}

/* --- the payload --- */

static void unmask(struct websocket_decoder *decoder, char *bytes, size_t len) {
    if (!decoder->from_client)
        return;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)((uint8_t)bytes[i] ^ decoder->mask[(decoder->position + i) & 3]);
}

/* Takes up to the rest of the frame's payload from the input; returns how much, or -1 without memory. */
static ptrdiff_t take_payload(struct websocket_decoder *decoder, struct slice input) {
    size_t len = (size_t)MIN((uint64_t)input.len, decoder->length - decoder->position);
    char *to;
    if (is_control(decoder->opcode)) {
        to = (char *)decoder->control + decoder->position;
        memcpy(to, input.data, len);
    } else {
        size_t at = decoder->message.len;
        if (buffer_append(&decoder->message, input.data, len) < 0)
            return -1;
        to = decoder->message.data + at;
    }
    unmask(decoder, to, len);
    decoder->position += len;
    return (ptrdiff_t)len;
}

/* Codes that may stand in a close frame (7.4). */
static bool may_be_sent(int code) {
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) || (code >= 3000 && code <= 4999);
}

static void on_close_frame(struct websocket_decoder *decoder, struct websocket_event *event) {
    struct slice payload = slice_make(decoder->control, (size_t)decoder->length);
    if (payload.len == 0) {
        *event = (struct websocket_event){.type = WEBSOCKET_EVENT_CLOSE, .code = 1005};
        return;
    }
    int code = payload.len >= 2 ? decoder->control[0] << 8 | decoder->control[1] : 0;
    struct slice reason = slice_from(payload, 2);
    if (!may_be_sent(code))
        fail(decoder, event, 1002);
    else if (!is_utf8(reason))
        fail(decoder, event, 1007);
    else
        *event = (struct websocket_event){.type = WEBSOCKET_EVENT_CLOSE, .code = code, .payload = reason};
}

static void on_frame_end(struct websocket_decoder *decoder, struct websocket_event *event) {
    decoder->head_len = 0;
    decoder->head_done = false;
    if (decoder->opcode == WEBSOCKET_CLOSE) {
        on_close_frame(decoder, event);
    } else if (is_control(decoder->opcode)) {
        event->type = decoder->opcode == WEBSOCKET_PING ? WEBSOCKET_EVENT_PING : WEBSOCKET_EVENT_PONG;
        event->payload = slice_make(decoder->control, (size_t)decoder->length);
    } else if (decoder->final) {
        decoder->in_message = false;
        decoder->delivered = true;
        if (!decoder->binary && !is_utf8(buffer_slice(&decoder->message)))
            fail(decoder, event, 1007);
        else
            *event = (struct websocket_event){.type = WEBSOCKET_EVENT_MESSAGE, .binary = decoder->binary, .payload = buffer_slice(&decoder->message)};
    }
}

void websocket_decoder_step(struct websocket_decoder *decoder, struct slice input, size_t *ret_used, struct websocket_event *ret) {
    size_t at = 0;
    *ret = (struct websocket_event){.type = WEBSOCKET_EVENT_NONE};
    if (decoder->delivered) {
        buffer_reset(&decoder->message);
        buffer_release(&decoder->message);
        decoder->delivered = false;
    }
    while (!decoder->failed && ret->type == WEBSOCKET_EVENT_NONE) {
        while (!decoder->head_done && at < input.len && decoder->head_len < head_bytes_wanted(decoder))
            decoder->head[decoder->head_len++] = (uint8_t)input.data[at++];
        if (!decoder->head_done) {
            if (decoder->head_len < head_bytes_wanted(decoder))
                break;
            int code = check_head(decoder);
            if (code)
                fail(decoder, ret, code);
            decoder->head_done = true;
            decoder->position = 0;
            continue;
        }
        if (decoder->position < decoder->length) {
            if (at == input.len)
                break;
            ptrdiff_t taken = take_payload(decoder, slice_from(input, at));
            if (taken < 0)
                fail(decoder, ret, 1011);
            else
                at += (size_t)taken;
            continue;
        }
        on_frame_end(decoder, ret);
    }
    *ret_used = decoder->failed ? input.len : at;
}

/* --- encoding --- */

int websocket_encode(struct buffer *out, enum websocket_opcode opcode, bool final, const uint8_t *mask, struct slice payload) {
    uint8_t head[14] = {(uint8_t)((final ? 0x80 : 0) | opcode), mask ? 0x80 : 0};
    size_t len = 2;
    int bytes = payload.len < 126 ? 0 : payload.len < 65536 ? 2 : 8;
    head[1] |= (uint8_t)(bytes == 0 ? payload.len : bytes == 2 ? 126 : 127);
    for (int i = bytes - 1; i >= 0; i--)
        head[len++] = (uint8_t)((uint64_t)payload.len >> (8 * i));
    if (mask) {
        memcpy(head + len, mask, 4);
        len += 4;
    }
    int r = buffer_reserve(out, len + payload.len);
    if (r < 0)
        return r;
    buffer_append(out, head, len);
    size_t at = out->len;
    buffer_append_slice(out, payload);
    for (size_t i = 0; mask && i < payload.len; i++)
        out->data[at + i] = (char)((uint8_t)out->data[at + i] ^ mask[i & 3]);
    return 0;
}

int websocket_encode_close(struct buffer *out, const uint8_t *mask, int code, struct slice reason) {
    char payload[WEBSOCKET_CONTROL_BYTES_MAX];
    if (code == 1005)
        return websocket_encode(out, WEBSOCKET_CLOSE, true, mask, (struct slice){0});
    size_t len = MIN(reason.len, sizeof payload - 2);
    payload[0] = (char)(code >> 8);
    payload[1] = (char)code;
    if (len)
        memcpy(payload + 2, reason.data, len);
    return websocket_encode(out, WEBSOCKET_CLOSE, true, mask, slice_make(payload, 2 + len));
}
