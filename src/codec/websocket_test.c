#include <stdio.h>

#include "codec/websocket.h"

#include "unit.h"

static const uint8_t mask[4] = {0xa1, 0x00, 0xff, 0x5c};

static void frame(struct buffer *out, enum websocket_opcode opcode, bool final, struct slice payload) {
    assert_int_equal(websocket_encode(out, opcode, final, mask, payload), 0);
}

/* Decodes in pieces of `size` bytes and writes each event as a line: type (m text, b binary, p, q, c, e), code, payload. */
static void journal(struct slice input, size_t size, size_t message_max, struct buffer *out) {
    struct websocket_decoder decoder;
    websocket_decoder_init(&decoder, true, message_max);
    for (size_t at = 0; at < input.len; at += size) {
        char *copy = malloc(MIN(size, input.len - at)); /* exactly so long: reading beyond shows */
        struct slice piece = slice_make(copy, MIN(size, input.len - at));
        memcpy(copy, input.data + at, piece.len);
        struct websocket_event event = {.type = WEBSOCKET_EVENT_PING};
        while (event.type != WEBSOCKET_EVENT_NONE) {
            size_t used;
            websocket_decoder_step(&decoder, piece, &used, &event);
            piece = slice_from(piece, used);
            if (event.type != WEBSOCKET_EVENT_NONE)
                buffer_printf(out, "%c %d %.*s\n", event.type == WEBSOCKET_EVENT_MESSAGE && event.binary ? 'b' : " mpqce"[event.type], event.code,
                              event.payload.len > 40 ? 0 : (int)event.payload.len, event.payload.len ? event.payload.data : "");
            if (event.type == WEBSOCKET_EVENT_MESSAGE && event.payload.len > 40)
                buffer_printf(out, "%zu bytes\n", event.payload.len);
        }
        free(copy);
    }
    websocket_decoder_deinit(&decoder);
}

static void expect(const struct buffer *input, size_t message_max, const char *wanted) {
    static const size_t sizes[] = {1, 2, 3, 7, 4096, SIZE_MAX / 2};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(100000);
        journal(buffer_slice(input), sizes[i], message_max, &out);
        assert_string_equal(out.data ? out.data : "", wanted);
    }
}

UNIT_TEST(messages_are_joined_and_controls_pass_between) {
    CLEANUP(buffer_deinit) struct buffer input = BUFFER_INIT(1000000);
    static char big[70000];
    memset(big, 'x', sizeof big);
    frame(&input, WEBSOCKET_TEXT, true, SLICE("hello"));
    frame(&input, WEBSOCKET_TEXT, true, SLICE(""));
    frame(&input, WEBSOCKET_BINARY, false, SLICE("a"));
    frame(&input, WEBSOCKET_PING, true, SLICE("ping"));
    frame(&input, WEBSOCKET_CONTINUATION, false, SLICE(""));
    frame(&input, WEBSOCKET_PONG, true, SLICE(""));
    frame(&input, WEBSOCKET_CONTINUATION, true, SLICE("bc"));
    frame(&input, WEBSOCKET_BINARY, true, slice_make(big, 126));
    frame(&input, WEBSOCKET_BINARY, true, slice_make(big, sizeof big));
    frame(&input, WEBSOCKET_TEXT, false, SLICE("\xe2\x82")); /* a character may be cut between fragments */
    frame(&input, WEBSOCKET_CONTINUATION, true, SLICE("\xac"));
    frame(&input, WEBSOCKET_CLOSE, true, SLICE("\x03\xe8why"));
    expect(&input, 70000, "m 0 hello\nm 0 \np 0 ping\nq 0 \nb 0 abc\nb 0 \n126 bytes\nb 0 \n70000 bytes\nm 0 \xe2\x82\xac\nc 1000 why\n");
}

UNIT_TEST(what_the_protocol_forbids_is_an_error_and_the_last_event) {
    static const struct {
        const char *bytes;
        size_t len;
        int code;
    } cases[] = {
#define CASE(text, code) {text, sizeof(text) - 1, code}
        CASE("\x81\x01x", 1002),        /* not masked */
        CASE("\xc1\x80\0\0\0\0", 1002), /* a reserved bit */
        CASE("\x83\x80\0\0\0\0", 1002), /* a reserved opcode */
        CASE("\x8b\x80\0\0\0\0", 1002),
        CASE("\x09\x80\0\0\0\0", 1002),                 /* a fragmented ping */
        CASE("\x89\xfe\0\x7e\0\0\0\0", 1002),           /* a long ping */
        CASE("\x80\x80\0\0\0\0", 1002),                 /* a continuation of nothing */
        CASE("\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 1002), /* a start within a message */
        CASE("\x82\xfe\0\x7d\0\0\0\0", 1002),           /* a length not in its shortest form */
        CASE("\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 1002),
        CASE("\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 1002),               /* beyond 2^63 */
        CASE("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009), /* just endless */
        CASE("\x82\xe5\0\0\0\0", 1009),                                 /* 101 bytes where 100 may be */
        CASE("\x81\x81\0\0\0\0\xff", 1007),                             /* no UTF-8 */
        CASE("\x81\x82\0\0\0\0\xc0\x80", 1007),
        CASE("\x81\x83\0\0\0\0\xed\xa0\x80", 1007),
        CASE("\x81\x84\0\0\0\0\xf4\x90\x80\x80", 1007),
        CASE("\x81\x82\0\0\0\0\xe2\x82", 1007),
        CASE("\x88\x81\0\0\0\0\x03", 1002),     /* half a code */
        CASE("\x88\x82\0\0\0\0\x03\xee", 1002), /* 1006 may not be sent */
        CASE("\x88\x83\0\0\0\0\x03\xe8\xff", 1007),
#undef CASE
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buffer_deinit) struct buffer input = BUFFER_INIT(1000);
        char wanted[20];
        buffer_append(&input, cases[i].bytes, cases[i].len);
        frame(&input, WEBSOCKET_TEXT, true, SLICE("not heard"));
        snprintf(wanted, sizeof wanted, "e %d \n", cases[i].code);
        expect(&input, 100, wanted);
    }
}

UNIT_TEST(fragments_together_have_the_maximum) {
    CLEANUP(buffer_deinit) struct buffer input = BUFFER_INIT(1000);
    frame(&input, WEBSOCKET_BINARY, false, SLICE("12345"));
    frame(&input, WEBSOCKET_CONTINUATION, false, SLICE("12345"));
    frame(&input, WEBSOCKET_CONTINUATION, true, SLICE("1"));
    expect(&input, 10, "e 1009 \n");
    expect(&input, 11, "b 0 12345123451\n");
}

UNIT_TEST(a_server_sends_plain_frames) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(1000);
    assert_int_equal(websocket_encode(&out, WEBSOCKET_TEXT, true, NULL, SLICE("hi")), 0);
    assert_int_equal(websocket_encode_close(&out, NULL, 1005, SLICE("")), 0);
    assert_int_equal(websocket_encode_close(&out, NULL, 1001, SLICE("x")), 0);
    assert_int_equal(out.len, 4 + 2 + 5);
    assert_memory_equal(out.data, "\x81\x02hi\x88\x00\x88\x03\x03\xe9x", out.len);
    struct buffer small = BUFFER_INIT(3);
    assert_int_equal(websocket_encode(&small, WEBSOCKET_TEXT, true, NULL, SLICE("hi")), -EMSGSIZE);
    buffer_deinit(&small);
}

UNIT_MAIN(UNIT(messages_are_joined_and_controls_pass_between), UNIT(what_the_protocol_forbids_is_an_error_and_the_last_event),
          UNIT(fragments_together_have_the_maximum), UNIT(a_server_sends_plain_frames))
