#include "http/http_fixture_priv.h"

struct room {
    struct websocket *socket;
    const char *protocol;
    int accepted;
    int messages, closed, code;
    bool pause_next;
};

static void on_message(void *userdata, bool binary, struct slice message) {
    struct room *room = userdata;
    room->messages++;
    if (room->pause_next) {
        room->pause_next = false;
        websocket_pause(room->socket);
    }
    if (slice_is(message, "close"))
        websocket_close(room->socket, 1000, "as you wish");
    else
        assert_int_equal(websocket_send(room->socket, binary, message), 0);
}

static void on_close(void *userdata, int code) {
    struct room *room = userdata;
    room->closed++;
    room->code = code;
    websocket_free(TAKE(room->socket));
}

static void on_request(void *userdata, struct http_exchange *exchange) {
    static const char *const protocols[] = {"v5.channel.k8s.io", "v4.channel.k8s.io", NULL};
    static const struct websocket_callbacks callbacks = {.on_message = on_message, .on_close = on_close};
    struct room *room = userdata;
    room->accepted = websocket_accept(exchange, protocols, 100000, &callbacks, room, &room->protocol, &room->socket);
}

#define HANDSHAKE(more)                                                                                                                              \
    "GET /exec HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                        \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" more "\r\n"

static void frame(struct buffer *out, enum websocket_opcode opcode, bool final, struct slice payload) {
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    assert_int_equal(websocket_encode(out, opcode, final, mask, payload), 0);
}

/* Reads the server's frames until an event of the type comes; other events fail the test. */
static void expect(struct fixture *fixture, int fd, struct websocket_decoder *decoder, struct buffer *input, enum websocket_event_type type,
                   const char *payload, int code) {
    for (;;) {
        struct websocket_event event;
        size_t used;
        websocket_decoder_step(decoder, buffer_slice(input), &used, &event);
        if (event.type == type) {
            if (payload && !slice_is(event.payload, payload))
                fail_msg("got `%.*s`", SLICE_ARG(event.payload));
            assert_int_equal(event.code, code);
            buffer_consume(input, used);
            return;
        }
        assert_int_equal(event.type, WEBSOCKET_EVENT_NONE);
        buffer_consume(input, used);
        char bytes[4096];
        ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        assert_true(n != 0);
        if (n > 0)
            buffer_append(input, bytes, (size_t)n);
        else
            assert_int_equal(loop_turn(fixture->loop, 100), 0);
    }
}

struct peer {
    struct fixture fixture;
    struct room room;
    int fd;
    struct websocket_decoder decoder;
    struct buffer input, output;
};

static void start(struct peer *peer, const char *handshake) {
    *peer = (struct peer){.input = BUFFER_INIT(MIB), .output = BUFFER_INIT(MIB)};
    fixture_serve(&peer->fixture, false, &(struct http_server_options){.handler = on_request, .userdata = &peer->room});
    websocket_decoder_init(&peer->decoder, false, MIB);
    peer->fd = raw_connect(&peer->fixture);
    raw_send(&peer->fixture, peer->fd, slice_of(handshake));
    raw_read(&peer->fixture, peer->fd, "\r\n\r\n", &peer->input);
    ptrdiff_t end = slice_find(buffer_slice(&peer->input), SLICE("\r\n\r\n"));
    assert_true(end > 0);
    if (peer->room.accepted == 0) {
        assert_non_null(strstr(peer->input.data, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        buffer_consume(&peer->input, (size_t)end + 4);
    }
}

static void send_output(struct peer *peer) {
    raw_send(&peer->fixture, peer->fd, buffer_slice(&peer->output));
    buffer_reset(&peer->output);
}

static void end(struct peer *peer) {
    if (peer->fd >= 0)
        close(peer->fd);
    WAIT_FOR(&peer->fixture, !peer->room.socket);
    websocket_decoder_deinit(&peer->decoder);
    buffer_deinit(&peer->input);
    buffer_deinit(&peer->output);
    fixture_end(&peer->fixture);
}

UNIT_TEST(messages_go_both_ways_and_the_close_is_orderly) {
    struct peer peer;
    start(&peer, HANDSHAKE("Sec-WebSocket-Protocol: v4.channel.k8s.io, v5.channel.k8s.io\r\n"));
    assert_string_equal(peer.room.protocol, "v5.channel.k8s.io");
    frame(&peer.output, WEBSOCKET_TEXT, false, SLICE("hel"));
    frame(&peer.output, WEBSOCKET_PING, true, SLICE("?"));
    frame(&peer.output, WEBSOCKET_CONTINUATION, true, SLICE("lo"));
    frame(&peer.output, WEBSOCKET_BINARY, true, SLICE(""));
    send_output(&peer);
    expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_PONG, "?", 0);
    expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_MESSAGE, "hello", 0);
    expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_MESSAGE, "", 0);
    frame(&peer.output, WEBSOCKET_CLOSE, true, SLICE("\x03\xe8"));
    send_output(&peer);
    expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_CLOSE, "", 1000);
    close(TAKE_FD(peer.fd));
    WAIT_FOR(&peer.fixture, peer.room.closed == 1);
    assert_int_equal(peer.room.code, 1000);
    end(&peer);
}

UNIT_TEST(the_server_closes_too) {
    struct peer peer;
    start(&peer, HANDSHAKE(""));
    assert_null(peer.room.protocol);
    frame(&peer.output, WEBSOCKET_TEXT, true, SLICE("close"));
    frame(&peer.output, WEBSOCKET_TEXT, true, SLICE("never heard"));
    send_output(&peer);
    expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_CLOSE, "as you wish", 1000);
    assert_int_equal(websocket_send(peer.room.socket, false, SLICE("x")), -EPIPE);
    frame(&peer.output, WEBSOCKET_CLOSE, true, SLICE("\x03\xe8"));
    send_output(&peer);
    CLEANUP(buffer_deinit) struct buffer rest = BUFFER_INIT(MIB);
    raw_read(&peer.fixture, peer.fd, NULL, &rest); /* until the server ends its direction */
    end(&peer);
    assert_int_equal(peer.room.messages, 1);
    assert_int_equal(peer.room.code, 1000);
}

UNIT_TEST(a_slow_reader_gets_what_was_said_before_the_close) {
    struct peer peer;
    start(&peer, HANDSHAKE(""));
    static char big[64 * KIB];
    memset(big, 'x', sizeof big);
    size_t said = 0;
    while (websocket_pending(peer.room.socket) < 256 * KIB) { /* more than the kernel takes */
        assert_int_equal(websocket_send(peer.room.socket, true, (struct slice){big, sizeof big}), 0);
        said++;
        assert_int_equal(loop_turn(peer.fixture.loop, 0), 0);
    }
    websocket_close(peer.room.socket, 1000, "the end");
    for (int64_t until = sys_monotonic_ns() + INT64_C(6000000000); sys_monotonic_ns() < until;) /* longer than a peer is given that lacks nothing */
        assert_int_equal(loop_turn(peer.fixture.loop, 100), 0);
    for (; said > 0; said--)
        expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_MESSAGE, NULL, 0);
    expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_CLOSE, "the end", 1000);
    end(&peer);
}

UNIT_TEST(a_broken_connection_is_1006_and_a_bad_frame_1002) {
    struct peer peer;
    start(&peer, HANDSHAKE(""));
    end(&peer); /* just closes */
    assert_int_equal(peer.room.code, 1006);
    start(&peer, HANDSHAKE(""));
    websocket_encode(&peer.output, WEBSOCKET_TEXT, true, NULL, SLICE("not masked"));
    send_output(&peer);
    expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_CLOSE, "", 1002);
    end(&peer);
    assert_int_equal(peer.room.code, 1002);
    start(&peer, HANDSHAKE(""));
    static char big[100001];
    frame(&peer.output, WEBSOCKET_BINARY, true, slice_make(big, sizeof big));
    send_output(&peer);
    expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_CLOSE, "", 1009);
    end(&peer);
}

UNIT_TEST(a_paused_socket_delivers_nothing_until_resumed) {
    struct peer peer;
    start(&peer, HANDSHAKE(""));
    peer.room.pause_next = true;
    for (int i = 0; i < 3; i++)
        frame(&peer.output, WEBSOCKET_TEXT, true, SLICE("m"));
    send_output(&peer);
    WAIT_FOR(&peer.fixture, peer.room.messages > 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(loop_turn(peer.fixture.loop, 0), 0);
    assert_int_equal(peer.room.messages, 1);
    frame(&peer.output, WEBSOCKET_TEXT, true, SLICE("last"));
    send_output(&peer);
    assert_int_equal(peer.room.messages, 1);
    websocket_resume(peer.room.socket);
    for (int i = 0; i < 3; i++)
        expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_MESSAGE, "m", 0);
    expect(&peer.fixture, peer.fd, &peer.decoder, &peer.input, WEBSOCKET_EVENT_MESSAGE, "last", 0);
    end(&peer);
}

UNIT_TEST(what_is_no_upgrade_is_refused) {
    static const char *const handshakes[] = {
        "GET /exec HTTP/1.1\r\nHost: x\r\n\r\n",
        HANDSHAKE("Sec-WebSocket-Protocol: v9.channel\r\n"),
        ("GET /exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: "
         "dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
        "GET /exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(handshakes); i++) {
        struct peer peer;
        start(&peer, handshakes[i]);
        assert_int_equal(peer.room.accepted, -EPROTO);
        assert_memory_equal(peer.input.data, "HTTP/1.1 400 ", 13);
        end(&peer);
    }
}

UNIT_MAIN(UNIT(messages_go_both_ways_and_the_close_is_orderly), UNIT(the_server_closes_too), UNIT(a_slow_reader_gets_what_was_said_before_the_close),
          UNIT(a_broken_connection_is_1006_and_a_bad_frame_1002), UNIT(a_paused_socket_delivers_nothing_until_resumed),
          UNIT(what_is_no_upgrade_is_refused))
