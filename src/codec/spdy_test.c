#include "codec/spdy.h"

#include "unit.h"

/* What a Go program with Docker's spdystream (kubectl's library) sends: a ping, three streams named by "streamtype", data, the end of the second,
 * GOAWAY. */
static const char golden[] =
    "\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01\x80\x03\x00\x01\x00\x00\x00\x29\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x78\xf9\xe3"
    "\xc6\xa7\xc2\x62\x60\x60\x60\x04\xa7\xb3\x92\xa2\xd4\xc4\x5c\x68\x51\xc2\x9a\x0a\x0a\x68\x00\x00\x00\x00\xff\xff\x80\x03\x00\x01\x00"
    "\x00\x00\x17\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\xc2\x2e\x55\x5c\x92\x92\x99\x07\x00\x00\x00\xff\xff\x80\x03\x00\x01\x00\x00\x00"
    "\x19\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\xc2\x2a\xc5\x56\x5c\x92\x92\x5f\x5a\x02\x00\x00\x00\xff\xff\x00\x00\x00\x03\x00\x00\x00"
    "\x05\x68\x65\x6c\x6c\x6f\x00\x00\x00\x03\x01\x00\x00\x00\x80\x03\x00\x07\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00";

/* Feeds the bytes in pieces of `size` and writes each event as a line: type, stream, "." at its end, streamtype or payload or status. Pieces of data
 * are joined. */
static void feed(struct spdy *spdy, struct slice input, size_t size, struct buffer *out) {
    uint32_t last = 0;
    for (size_t at = 0; at < input.len; at += size) {
        struct slice piece = slice_head(slice_from(input, at), size);
        char *copy = malloc(piece.len); /* exactly so long: reading beyond shows */
        memcpy(copy, piece.data, piece.len);
        struct slice rest = slice_make(copy, piece.len);
        struct spdy_event event = {.type = SPDY_EVENT_GOAWAY};
        while (event.type != SPDY_EVENT_NONE) {
            size_t used;
            spdy_step(spdy, rest, &used, &event);
            rest = slice_from(rest, used);
            if (event.type == SPDY_EVENT_NONE)
                continue;
            if (event.type != SPDY_EVENT_DATA || last != event.stream)
                buffer_printf(out, "%s%c%u ", out->len ? "\n" : "", " ordxge"[event.type], event.stream);
            last = event.type == SPDY_EVENT_DATA ? event.stream : 0;
            buffer_append_slice(out, event.payload);
            buffer_append_slice(out, spdy_event_header(&event, "streamtype"));
            if (event.status)
                buffer_printf(out, "%u", event.status);
            if (event.is_last)
                buffer_append_byte(out, '.');
        }
        assert_int_equal(rest.len, 0);
        free(copy);
    }
}

static struct spdy *new_server(size_t streams_max) {
    struct spdy *spdy = NULL;
    assert_int_equal(spdy_new(true, streams_max, &spdy), 0);
    return spdy;
}

static struct slice output(const struct spdy *spdy) {
    struct slice bytes;
    assert_int_equal(spdy_output(spdy, &bytes), 0);
    return bytes;
}

/* All that `from` has to say. */
static void pass(struct spdy *from, struct spdy *to, struct buffer *journal) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(SPDY_OUTPUT_BYTES_MAX);
    buffer_append_slice(&bytes, output(from));
    spdy_output_sent(from);
    feed(to, buffer_slice(&bytes), SIZE_MAX / 2, journal);
}

UNIT_TEST(reads_what_kubectl_sends) {
    static const size_t sizes[] = {1, 2, 3, 7, 50, 4096};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        CLEANUP(spdy_freep) struct spdy *spdy = new_server(8);
        CLEANUP(buffer_deinit) struct buffer journal = BUFFER_INIT(10000);
        feed(spdy, slice_make(golden, sizeof golden - 1), sizes[i], &journal);
        assert_string_equal(journal.data, "o1 error\no3 stdin\no5 stdout\nd3 hello.\ng0 ");
        assert_true(slice_equal(output(spdy), SLICE("\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"))); /* the ping's answer */
    }
}

UNIT_TEST(both_sides_understand_each_other) {
    struct spdy *client = NULL;
    CLEANUP(spdy_freep) struct spdy *server = new_server(8);
    CLEANUP(buffer_deinit) struct buffer at_server = BUFFER_INIT(10000);
    CLEANUP(buffer_deinit) struct buffer at_client = BUFFER_INIT(10000);
    const struct spdy_header headers[] = {{SLICE("port"), SLICE("80")}, {SLICE("streamtype"), SLICE("data")}};
    uint32_t first, second;
    assert_int_equal(spdy_new(false, 8, &client), 0);
    assert_int_equal(spdy_open(client, headers, 2, false, &first), 0);
    assert_int_equal(spdy_open(client, headers, 2, true, &second), 0);
    assert_int_equal(spdy_send(client, first, SLICE("question"), true), 0);
    assert_int_equal(spdy_send(client, first, SLICE("more"), false), -EPIPE);
    assert_int_equal(spdy_send(client, second, SLICE("more"), false), -EPIPE);
    pass(client, server, &at_server);
    assert_string_equal(at_server.data, "o1 data\no3 data.\nd1 question.");
    spdy_reply(server, first);
    spdy_reply(server, second);
    assert_int_equal(spdy_send(server, first, SLICE("answer"), false), 0);
    assert_int_equal(spdy_send(server, first, SLICE(""), true), 0);
    spdy_reset(server, second, SPDY_CANCEL);
    assert_int_equal(spdy_send(server, first, SLICE("x"), false), -EPIPE);
    assert_int_equal(spdy_send(server, second, SLICE("x"), false), -EPIPE);
    spdy_goaway(server);
    pass(server, client, &at_client);
    assert_string_equal(at_client.data, "r1 \nr3 \nd1 answer.\nx3 5\ng0 ");
    assert_int_equal(spdy_send(client, first, SLICE("x"), false), -EPIPE);
    assert_int_equal(spdy_send(client, second, SLICE("x"), false), -EPIPE);
    spdy_free(client);
}

UNIT_TEST(streams_beyond_the_maximum_are_refused_and_headers_stay_readable) {
    struct spdy *client = NULL;
    CLEANUP(spdy_freep) struct spdy *server = new_server(1);
    CLEANUP(buffer_deinit) struct buffer at_server = BUFFER_INIT(10000);
    CLEANUP(buffer_deinit) struct buffer at_client = BUFFER_INIT(10000);
    const struct spdy_header header = {SLICE("streamtype"), SLICE("stdin")};
    uint32_t stream;
    assert_int_equal(spdy_new(false, 2, &client), 0);
    assert_int_equal(spdy_open(client, &header, 1, false, &stream), 0);
    assert_int_equal(spdy_open(client, &header, 1, false, &stream), 0);
    assert_int_equal(spdy_open(client, &header, 1, false, &stream), -ENOBUFS);
    pass(client, server, &at_server);
    assert_string_equal(at_server.data, "o1 stdin");
    spdy_reset(server, 1, SPDY_CANCEL);
    pass(server, client, &at_client);
    assert_string_equal(at_client.data, "x3 3\nx1 5");
    assert_int_equal(spdy_open(client, &header, 1, false, &stream), 0);
    pass(client, server, &at_server);
    assert_string_equal(at_server.data, "o1 stdin\no5 stdin");
    spdy_free(client);
}

/* kubectl grants no windows: output must not wait for any. A peer that does is obeyed from its first word about windows on. */
UNIT_TEST(windows_bind_once_the_peer_uses_them) {
    static char bytes[200000];
    CLEANUP(spdy_freep) struct spdy *server = new_server(8);
    CLEANUP(buffer_deinit) struct buffer journal = BUFFER_INIT(10000);
    feed(server, slice_make(golden, 12 + 49), 4096, &journal);
    spdy_output_sent(server);
    assert_int_equal(spdy_send(server, 1, slice_make(bytes, 66000), false), 0); /* over 64 KiB */
    assert_int_equal(spdy_waiting(server), 0);
    assert_int_equal(output(server).len, 66000 + 3 * 8);
    spdy_output_sent(server);
    feed(server, SLICE("\x80\x03\x00\x09\0\0\0\x08\0\0\0\x01\0\0\x04\0"), 4096, &journal); /* 1024 more for stream 1 */
    assert_int_equal(spdy_send(server, 1, slice_make(bytes, 1000), false), 0);
    assert_int_equal(output(server).len, 65536 + 1024 - 66000 + 8);
    assert_int_equal(spdy_waiting(server), 440);
    assert_int_equal(spdy_send(server, 1, (struct slice){0}, true), 0);
    assert_int_equal(spdy_send(server, 1, SLICE("x"), true), -EPIPE);
    spdy_output_sent(server);
    feed(server, SLICE("\x80\x03\x00\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x07\0\x02\0\0"), 4096, &journal); /* SETTINGS: 128 KiB for each stream */
    assert_int_equal(spdy_waiting(server), 0);
    struct slice out = output(server);
    assert_int_equal(out.len, 440 + 8);
    assert_int_equal(out.data[4], 1); /* the end came with the last of it */
    assert_string_equal(journal.data, "o1 error");
    spdy_output_sent(server);
    feed(server, SLICE("\x80\x03\x00\x09\0\0\0\x08\0\0\0\x01\x7f\xff\xff\xff"), 4096, &journal);
    assert_string_equal(journal.data, "o1 error\nx1 7"); /* a window over 2³¹ - 1 */
    assert_int_equal(spdy_send(server, 1, SLICE("x"), false), -EPIPE);
}

UNIT_TEST(a_stream_that_waits_too_long_takes_no_more) {
    static char bytes[SPDY_WAITING_BYTES_MAX];
    CLEANUP(spdy_freep) struct spdy *server = new_server(8);
    CLEANUP(buffer_deinit) struct buffer journal = BUFFER_INIT(10000);
    feed(server, slice_make(golden, 12 + 49), 4096, &journal);
    feed(server, SLICE("\x80\x03\x00\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x07\0\0\0\0"), 4096, &journal);
    assert_int_equal(spdy_send(server, 1, slice_make(bytes, sizeof bytes), false), 0);
    assert_int_equal(spdy_send(server, 1, SLICE("x"), false), -ENOBUFS);
    assert_int_equal(spdy_waiting(server), sizeof bytes);
}

UNIT_TEST(received_bytes_are_granted_again) {
    static char bytes[40000];
    CLEANUP(spdy_freep) struct spdy *server = new_server(8);
    CLEANUP(buffer_deinit) struct buffer journal = BUFFER_INIT(100000);
    feed(server, slice_make(golden, 12 + 49), 4096, &journal);
    spdy_output_sent(server);
    feed(server, SLICE("\0\0\0\x01\0\0\x9c\x40"), 4096, &journal);
    feed(server, slice_make(bytes, sizeof bytes), 8000, &journal); /* granted when half a window has come, each time */
    assert_true(slice_equal(output(server), SLICE("\x80\x03\0\x09\0\0\0\x08\0\0\0\0\0\0\x9c\x40\x80\x03\0\x09\0\0\0\x08\0\0\0\x01\0\0\x9c\x40")));
}

UNIT_TEST(what_the_protocol_forbids_ends_the_connection) {
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
#define CASE(text) {text, sizeof(text) - 1}
        CASE("\x80\x02\0\x06\0\0\0\x04\0\0\0\x01"),                 /* SPDY/2 */
        CASE("\x80\x03\0\x06\0\0\0\x05\0\0\0\x01\0"),               /* a long ping */
        CASE("\x80\x03\0\x01\0\0\0\x04\0\0\0\x01"),                 /* a short SYN_STREAM */
        CASE("\x80\x03\0\x01\0\0\0\x0e\0\0\0\x09\0\0\0\0\0\0what"), /* headers that are no zlib */
        CASE("\x80\x03\0\x01\0\0\x50\0"),                           /* a long control frame */
        CASE("\0\0\0\x01\0\x20\0\0"),                               /* a long data frame */
        CASE("\x80\x03\0\x03\0\0\0\x04\0\0\0\x01"),                 /* a short RST_STREAM */
        CASE("\x80\x03\0\x04\0\0\0\x04\0\0\0\x01"),                 /* settings that are not there */
        CASE("\x80\x03\0\x07\0\0\0\0"),                             /* a short GOAWAY */
        CASE("\x80\x03\0\x09\0\0\0\x08\0\0\0\0\0\0\0\0"),           /* a window of nothing */
        CASE("\x80\x03\0\x09\0\0\0\x08\0\0\0\0\x7f\xff\xff\xff"),   /* the connection's window over 2³¹ - 1 */
#undef CASE
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(spdy_freep) struct spdy *spdy = new_server(8);
        CLEANUP(buffer_deinit) struct buffer journal = BUFFER_INIT(10000);
        feed(spdy, slice_make(cases[i].bytes, cases[i].len), 1, &journal);
        feed(spdy, slice_make(golden, sizeof golden - 1), 100, &journal); /* not heard any more */
        assert_string_equal(journal.data, "e0 ");
        assert_true(slice_starts(output(spdy), SLICE("\x80\x03\0\x07\0\0\0\x08")));
    }
}

UNIT_TEST(streams_are_numbered_upwards_and_oddly) {
    CLEANUP(spdy_freep) struct spdy *spdy = new_server(8);
    CLEANUP(buffer_deinit) struct buffer journal = BUFFER_INIT(10000);
    char again[49];
    feed(spdy, slice_make(golden, 12 + 49 + 31), 4096, &journal);
    memcpy(again, golden + 12 + 49, 31); /* stream 3 once more */
    feed(spdy, slice_make(again, 31), 4096, &journal);
    assert_string_equal(journal.data, "o1 error\no3 stdin\ne0 ");
}

/* A few bytes that unpack to a header of 20,000. */
UNIT_TEST(header_bombs_are_refused) {
    static const char bomb[] =
        "\x80\x03\x00\x01\x00\x00\x00\x46\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x78\xf9\xe3\xc6\xa7\xc2\xec\xd2\x41\x0d\x00\x30\x0c\xc4"
        "\xb0\x2b\x93\x21\x1a\x9e\xc1\xef\xca\xa2\x0f\x5b\x0a\x83\xfc\x8f\x6a\x7a\xc9\x3d\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        "\x00\x00\x00\x00\x00\x00\x00\x60\x85\x06\x00\x00\xff\xff";
    CLEANUP(spdy_freep) struct spdy *spdy = new_server(8);
    CLEANUP(buffer_deinit) struct buffer journal = BUFFER_INIT(10000);
    feed(spdy, slice_make(bomb, sizeof bomb - 1), 4096, &journal);
    assert_string_equal(journal.data, "e0 ");
}

UNIT_MAIN(UNIT(reads_what_kubectl_sends), UNIT(both_sides_understand_each_other),
          UNIT(streams_beyond_the_maximum_are_refused_and_headers_stay_readable), UNIT(windows_bind_once_the_peer_uses_them),
          UNIT(a_stream_that_waits_too_long_takes_no_more), UNIT(received_bytes_are_granted_again),
          UNIT(what_the_protocol_forbids_ends_the_connection), UNIT(streams_are_numbered_upwards_and_oddly), UNIT(header_bombs_are_refused))
