/* The streams of a command over SPDY/3.1 and WebSockets, with clients made of the same state machines: a server and a client in one loop. */
#include "node/remote_priv.h"

#include <stdio.h>
#include <unistd.h>

#include "codec/codec.h"
#include "sys/sys.h"
#include "unit.h"

#define TURNS_MAX 2000

struct fixture {
    char path[64];
    struct loop *loop;
    int listen_fd;
    struct http_server *server;
    struct http_client *client;
    struct http_request *request;
    struct remote *remote;
    struct remote_options options;
    struct buffer heard; /* what the server's side heard */
    bool closed;
    struct spdy *spdy; /* the client's side, or: */
    struct websocket_decoder decoder;
    bool is_websocket;
    struct buffer seen; /* what it saw */
    int status;
    bool ended;
};

/* --- the server's side --- */

static void on_remote_ready(void *userdata) {
    struct fixture *fixture = userdata;
    buffer_append_text(&fixture->heard, "ready ");
}

static void on_remote_data(void *userdata, enum remote_channel channel, struct slice data, bool is_last) {
    struct fixture *fixture = userdata;
    buffer_printf(&fixture->heard, "%d:%.*s%s ", channel, SLICE_ARG(data), is_last ? "." : "");
}

static void on_remote_drained(void *userdata) {
    (void)userdata;
}

static void on_remote_close(void *userdata) {
    ((struct fixture *)userdata)->closed = true;
}

static void serve(void *userdata, struct http_exchange *exchange) {
    static const struct remote_callbacks callbacks = {
        .on_ready = on_remote_ready, .on_data = on_remote_data, .on_drained = on_remote_drained, .on_close = on_remote_close};
    struct fixture *fixture = userdata;
    assert_true(remote_is_upgrade(exchange));
    remote_accept(exchange, &fixture->options, &callbacks, fixture, &fixture->remote);
}

/* --- the client's side --- */

static void on_head(void *userdata, const struct http_answer *head) {
    ((struct fixture *)userdata)->status = head->status;
}

static void on_frames(struct fixture *fixture, struct slice data) {
    struct websocket_event event;
    do {
        size_t used;
        websocket_decoder_step(&fixture->decoder, data, &used, &event);
        data = slice_from(data, used);
        if (event.type == WEBSOCKET_EVENT_MESSAGE)
            buffer_printf(&fixture->seen, "%s%.*s ", event.binary ? "b" : "t", SLICE_ARG(event.payload));
    } while (event.type != WEBSOCKET_EVENT_NONE);
}

static void on_data(void *userdata, struct slice data) {
    struct fixture *fixture = userdata;
    if (fixture->is_websocket)
        return on_frames(fixture, data);
    struct spdy_event event = {.type = SPDY_EVENT_GOAWAY};
    while (event.type != SPDY_EVENT_NONE) {
        size_t used;
        spdy_step(fixture->spdy, data, &used, &event);
        data = slice_from(data, used);
        if (event.type != SPDY_EVENT_NONE)
            buffer_printf(&fixture->seen, "%c%u%.*s%s ", " ordxge"[event.type], event.stream, SLICE_ARG(event.payload), event.is_last ? "." : "");
    }
}

static void on_end(void *userdata, int error) {
    struct fixture *fixture = userdata;
    (void)error;
    fixture->ended = true;
    fixture->request = NULL;
}

static void flush(struct fixture *fixture) {
    struct slice bytes;
    assert_int_equal(spdy_output(fixture->spdy, &bytes), 0);
    assert_int_equal(http_request_write(fixture->request, bytes), 0);
    spdy_output_sent(fixture->spdy);
}

static uint32_t open_stream(struct fixture *fixture, const char *type) {
    const struct spdy_header header = {SLICE("streamtype"), slice_of(type)};
    uint32_t stream;
    assert_int_equal(spdy_open(fixture->spdy, &header, 1, false, &stream), 0);
    flush(fixture);
    return stream;
}

/* Until the text is there, whole. */
static void wait_text(struct fixture *fixture, const struct buffer *buffer, const char *wanted) {
    for (int i = 0; i < TURNS_MAX && buffer->len < strlen(wanted); i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_string_equal(buffer->data, wanted);
}

static void wait_true(struct fixture *fixture, const bool *what) {
    for (int i = 0; i < TURNS_MAX && !*what; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(*what);
}

static void connect_client(struct fixture *fixture, const char *protocol) {
    static const struct http_stream_handlers handlers = {.on_head = on_head, .on_data = on_data, .on_end = on_end};
    const struct http_field fields[] = {{"Upgrade", "SPDY/3.1"},
                                        {"Connection", "Upgrade"},
                                        {"X-Stream-Protocol-Version", "v9.channel.k8s.io"},
                                        {"X-Stream-Protocol-Version", protocol},
                                        {NULL, NULL}};
    const struct http_request_options options = {.method = "POST", .target = "/exec", .fields = fields};
    assert_int_equal(http_client_upgrade(fixture->client, &options, &handlers, fixture, &fixture->request), 0);
    for (int i = 0; i < TURNS_MAX && !fixture->status; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
}

static void connect_websocket(struct fixture *fixture, const char *protocol) {
    static const struct http_stream_handlers handlers = {.on_head = on_head, .on_data = on_data, .on_end = on_end};
    const struct http_field fields[] = {{"Upgrade", "websocket"},
                                        {"Connection", "Upgrade"},
                                        {"Sec-WebSocket-Version", "13"},
                                        {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
                                        {protocol ? "Sec-WebSocket-Protocol" : NULL, protocol},
                                        {NULL, NULL}};
    const struct http_request_options options = {.method = "GET", .target = "/exec", .fields = fields};
    fixture->is_websocket = true;
    websocket_decoder_init(&fixture->decoder, false, 1000);
    assert_int_equal(http_client_upgrade(fixture->client, &options, &handlers, fixture, &fixture->request), 0);
    for (int i = 0; i < TURNS_MAX && !fixture->status; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_int_equal(fixture->status, 101);
}

/* --- set-up --- */

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    char endpoint[80];
    struct sys_address address;
    snprintf(fixture->path, sizeof fixture->path, "/tmp/tidemill-remote-%d.sock", (int)getpid());
    snprintf(endpoint, sizeof endpoint, "unix:%s", fixture->path);
    assert_int_equal(sys_address_parse(endpoint, &address), 0);
    fixture->listen_fd = sys_listen(&address, 4, 0600);
    assert_true(fixture->listen_fd >= 0);
    assert_int_equal(loop_new(&fixture->loop), 0);
    const struct http_server_options server = {.handler = serve, .userdata = fixture};
    const struct http_client_options client = {.endpoint = endpoint};
    assert_int_equal(http_server_new(fixture->loop, fixture->listen_fd, &server, &fixture->server), 0);
    assert_int_equal(http_client_new(fixture->loop, &client, &fixture->client), 0);
    assert_int_equal(spdy_new(false, 10, &fixture->spdy), 0);
    buffer_init(&fixture->heard, 10000);
    buffer_init(&fixture->seen, 10000);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    http_client_free(fixture->client);
    remote_free(fixture->remote);
    http_server_free(fixture->server);
    close(fixture->listen_fd);
    unlink(fixture->path);
    loop_free(fixture->loop);
    spdy_free(fixture->spdy);
    if (fixture->is_websocket)
        websocket_decoder_deinit(&fixture->decoder);
    buffer_deinit(&fixture->heard);
    buffer_deinit(&fixture->seen);
    free(fixture);
    return 0;
}

UNIT_TEST(a_command_has_its_streams) {
    struct fixture *fixture = *state;
    fixture->options = (struct remote_options){.wants = {[REMOTE_STDIN] = true, [REMOTE_STDOUT] = true, [REMOTE_RESIZE] = true}};
    connect_client(fixture, "v4.channel.k8s.io");
    assert_int_equal(fixture->status, 101);
    uint32_t in = open_stream(fixture, "stdin"), error = open_stream(fixture, "error"), size = open_stream(fixture, "resize");
    open_stream(fixture, "stderr"); /* not asked for */
    open_stream(fixture, "stdin");  /* once is enough */
    open_stream(fixture, "what");
    wait_text(fixture, &fixture->seen, "r1 r3 r5 x7 x9 x11 ");
    assert_int_equal(fixture->heard.len, 0); /* standard output is missing */
    uint32_t out = open_stream(fixture, "stdout");
    wait_text(fixture, &fixture->heard, "ready ");
    /* Sizes are lines, however they are cut. */
    spdy_send(fixture->spdy, size, SLICE("{\"Width\":80}\n{\"Wid"), false);
    spdy_send(fixture->spdy, size, SLICE("th\":90}\n"), false);
    spdy_send(fixture->spdy, in, SLICE("hello"), false);
    spdy_send(fixture->spdy, in, SLICE(""), true);
    flush(fixture);
    wait_text(fixture, &fixture->heard, "ready 4:{\"Width\":80} 4:{\"Width\":90} 0:hello 0:. ");
    buffer_reset(&fixture->seen);
    remote_send(fixture->remote, REMOTE_STDOUT, SLICE("output"));
    remote_send(fixture->remote, REMOTE_STDERR, SLICE("nobody asked"));
    remote_finish(fixture->remote, SLICE("{}"), SLICE(""));
    char wanted[100];
    snprintf(wanted, sizeof wanted, "r%u d%uoutput d%u{} d%u. d%u. d%u. d%u. g0 ", out, out, error, out, in, size, error);
    wait_true(fixture, &fixture->ended);
    assert_string_equal(strchr(fixture->seen.data, 'd'), strchr(wanted, 'd'));
    wait_true(fixture, &fixture->closed);
}

UNIT_TEST(a_client_that_leaves_is_noticed) {
    struct fixture *fixture = *state;
    connect_client(fixture, "v4.channel.k8s.io");
    open_stream(fixture, "error");
    wait_text(fixture, &fixture->heard, "ready "); /* nothing else was asked for */
    http_request_cancel(fixture->request);
    wait_true(fixture, &fixture->closed);
}

UNIT_TEST(a_client_that_breaks_the_protocol_is_dropped) {
    struct fixture *fixture = *state;
    connect_client(fixture, "v4.channel.k8s.io");
    assert_int_equal(http_request_write(fixture->request, SLICE("\x80\x02\0\x06\0\0\0\x04")), 0);
    wait_true(fixture, &fixture->closed);
    assert_string_equal(fixture->seen.data, "g0 ");
}

UNIT_TEST(unknown_versions_of_the_streams_are_refused) {
    struct fixture *fixture = *state;
    connect_client(fixture, "v3.channel.k8s.io");
    assert_int_equal(fixture->status, 403);
    assert_null(fixture->remote);
    wait_true(fixture, &fixture->ended);
}

static void speak(struct fixture *fixture, const char *protocol, struct slice input, const char *words, const char *wanted) {
    static const uint8_t mask[4] = {1, 2, 3, 4};
    CLEANUP(buffer_deinit) struct buffer frame = BUFFER_INIT(1000);
    fixture->options = (struct remote_options){.wants = {[REMOTE_STDIN] = true, [REMOTE_STDOUT] = true}};
    connect_websocket(fixture, protocol);
    assert_int_equal(websocket_encode(&frame, WEBSOCKET_BINARY, true, mask, input), 0);
    assert_int_equal(http_request_write(fixture->request, buffer_slice(&frame)), 0);
    wait_text(fixture, &fixture->heard, "ready 0:in ");
    remote_send(fixture->remote, REMOTE_STDOUT, SLICE("out"));
    remote_finish(fixture->remote, SLICE("{}"), slice_of(words));
    wait_text(fixture, &fixture->seen, wanted);
    http_request_cancel(TAKE(fixture->request));
    wait_true(fixture, &fixture->closed);
}

UNIT_TEST(the_result_is_a_document_since_v4) {
    speak(*state, "v4.channel.k8s.io", SLICE("\0in"), "it failed", "b\1 b\1out b\3{} ");
}

UNIT_TEST(before_v4_only_failures_have_a_result_and_it_is_words) {
    speak(*state, "channel.k8s.io", SLICE("\0in"), "it failed", "b\1 b\1out b\3it failed ");
}

UNIT_TEST(who_names_no_dialect_speaks_the_oldest) {
    speak(*state, NULL, SLICE("\0in"), "", "b\1 b\1out ");
}

UNIT_TEST(consoles_in_browsers_speak_base64) {
    speak(*state, "base64.channel.k8s.io", SLICE("0aW4="), "it failed", "t1 t1b3V0 t3aXQgZmFpbGVk ");
}

#define IN_LOOP(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

UNIT_MAIN(IN_LOOP(a_command_has_its_streams), IN_LOOP(a_client_that_leaves_is_noticed), IN_LOOP(a_client_that_breaks_the_protocol_is_dropped),
          IN_LOOP(unknown_versions_of_the_streams_are_refused), IN_LOOP(the_result_is_a_document_since_v4),
          IN_LOOP(before_v4_only_failures_have_a_result_and_it_is_words), IN_LOOP(who_names_no_dialect_speaks_the_oldest),
          IN_LOOP(consoles_in_browsers_speak_base64))
