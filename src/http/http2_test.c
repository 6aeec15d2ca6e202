/* One call over HTTP/2: the machine against nghttp2's own server in memory, and the call on a real connection against bytes that are no HTTP/2. */
#include <nghttp2/nghttp2.h>

#include "http/http2_priv.h"
#include "http/http_fixture_priv.h"

struct server {
    nghttp2_session *session;
    char seen[512], body[64];
    const char *answer;
    size_t answer_sent;
    bool refuses, floods;
};

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                     size_t value_len, uint8_t flags, void *userdata) {
    struct server *server = userdata;
    (void)session, (void)frame, (void)flags;
    size_t len = strlen(server->seen);
    snprintf(server->seen + len, sizeof server->seen - len, "%.*s=%.*s;", (int)name_len, (const char *)name, (int)value_len, (const char *)value);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t len, void *userdata) {
    struct server *server = userdata;
    (void)session, (void)flags, (void)stream;
    snprintf(server->body + strlen(server->body), sizeof server->body - strlen(server->body), "%.*s", (int)len, (const char *)bytes);
    return 0;
}

#define FIELD(n, v)                                                                                                                                  \
    { .name = (uint8_t *)(uintptr_t)(n), .value = (uint8_t *)(uintptr_t)(v), .namelen = sizeof(n) - 1, .valuelen = sizeof(v) - 1 }

static ssize_t read_answer(nghttp2_session *session, int32_t stream, uint8_t *to, size_t size, uint32_t *flags, nghttp2_data_source *source,
                           void *userdata) {
    struct server *server = userdata;
    (void)source;
    size_t len = MIN(strlen(server->answer) - server->answer_sent, size);
    memcpy(to, server->answer + server->answer_sent, len);
    server->answer_sent += len;
    if (!server->floods && !server->answer[server->answer_sent]) {
        const nghttp2_nv trailer[] = {FIELD("grpc-status", "0"), FIELD("last", "yes")};
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        assert_int_equal(nghttp2_submit_trailer(session, stream, trailer, 2), 0);
    } else if (server->floods) {
        server->answer_sent = 0;
    }
    return (ssize_t)len;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *userdata) {
    const struct server *server = userdata;
    const nghttp2_nv head[] = {FIELD(":status", "200"), FIELD("content-type", "application/grpc"), FIELD("last", "no")};
    const nghttp2_data_provider body = {.read_callback = read_answer};
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    if (server->refuses)
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
    return nghttp2_submit_response(session, frame->hd.stream_id, head, 3, &body);
}

static void server_init(struct server *server) {
    nghttp2_session_callbacks *callbacks;
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    assert_int_equal(nghttp2_session_server_new(&server->session, callbacks, server), 0);
    nghttp2_session_callbacks_del(callbacks);
    assert_int_equal(nghttp2_submit_settings(server->session, NGHTTP2_FLAG_NONE, NULL, 0), 0);
}

static const struct http_field fields[] = {{"User-Agent", "probe"}, {"TE", "trailers"}, {"Connection", "close"}, {NULL, NULL}};

/* Until the answer is whole; what the server sends comes in pieces of `step` bytes. */
static void converse(struct http2_machine *machine, struct server *server, size_t step) {
    while (!machine->is_complete) {
        struct buffer out = BUFFER_INIT(MIB), in = BUFFER_INIT(MIB);
        const uint8_t *bytes;
        ssize_t n;
        assert_int_equal(http2_machine_take(machine, &out), 0);
        if (out.len)
            assert_int_equal(nghttp2_session_mem_recv(server->session, (const uint8_t *)out.data, out.len), out.len);
        while (in.len < 256 * KIB && (n = nghttp2_session_mem_send(server->session, &bytes)) > 0)
            buffer_append(&in, bytes, (size_t)n);
        assert_true(in.len > 0 || out.len > 0);
        for (size_t at = 0; at < in.len && !machine->is_complete; at += step)
            http2_machine_feed(machine, slice_head(slice_from(buffer_slice(&in), at), step));
        buffer_deinit(&out);
        buffer_deinit(&in);
    }
}

static void call(struct server *server, size_t step, size_t body_max, struct http2_machine *machine) {
    const struct http2_options options = {
        .method = "POST", .authority = "pod:80", .target = "/x", .fields = fields, .body = SLICE("question"), .body_max = body_max};
    server_init(server);
    assert_int_equal(http2_machine_init(machine, &options, false), 0);
    converse(machine, server, step);
    nghttp2_session_del(server->session);
}

UNIT_TEST(an_answer_has_status_fields_body_and_trailer) {
    for (size_t step = 1; step < 100; step += 49) {
        struct server server = {.answer = "the answer"};
        struct http2_machine machine;
        call(&server, step, 100, &machine);
        assert_int_equal(machine.error, 0);
        assert_int_equal(machine.status, 200);
        assert_true(slice_is(buffer_slice(&machine.body), "the answer"));
        assert_true(slice_is(machine.fields[machine.fields_count - 1].name, "last"));
        assert_true(slice_is(machine.fields[machine.fields_count - 1].value, "yes"));
        assert_string_equal(server.seen, ":method=POST;:scheme=http;:authority=pod:80;:path=/x;user-agent=probe;te=trailers;");
        assert_string_equal(server.body, "question");
        http2_machine_deinit(&machine);
    }
}

UNIT_TEST(what_is_too_long_or_refused_fails) {
    struct server flooding = {.answer = "again and again ", .floods = true}, refusing = {.refuses = true};
    struct http2_machine machine;
    call(&flooding, 1000, 10 * KIB, &machine);
    assert_int_equal(machine.error, -EMSGSIZE);
    assert_true(machine.body.len <= 10 * KIB);
    http2_machine_deinit(&machine);
    call(&refusing, 1000, 10 * KIB, &machine);
    assert_int_equal(machine.error, -ECONNRESET);
    http2_machine_deinit(&machine);
}

struct told {
    int count, error;
};
static void on_answer(void *userdata, const struct http2_answer *answer) {
    struct told *told = userdata;
    told->count++;
    told->error = answer->error;
}

UNIT_TEST(a_server_of_another_kind_is_an_error) {
    static const struct {
        const char *says;
        int error;
    } cases[] = {{"HTTP/1.1 400 Bad Request\r\n\r\n", -EBADMSG}, {"", -ECONNRESET}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture fixture;
        struct told told = {0};
        struct http2_call *ongoing;
        fixture_listen(&fixture, false);
        const struct http2_options options = {.address = fixture.address, .method = "GET", .authority = "x", .target = "/", .body_max = 100};
        assert_int_equal(http2_call_new(fixture.loop, &options, on_answer, &told, &ongoing), 0);
        assert_int_equal(loop_turn(fixture.loop, 10), 0);
        int fd = accept(fixture.listen_fd, NULL, NULL);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, cases[i].says, strlen(cases[i].says)), strlen(cases[i].says));
        shutdown(fd, SHUT_WR);
        WAIT_FOR(&fixture, told.count);
        assert_int_equal(told.error, cases[i].error);
        close(fd);
        fixture_end(&fixture);
    }
}

UNIT_MAIN(UNIT(an_answer_has_status_fields_body_and_trailer), UNIT(what_is_too_long_or_refused_fails), UNIT(a_server_of_another_kind_is_an_error))
