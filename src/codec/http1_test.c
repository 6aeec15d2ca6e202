#include <stdio.h>

#include "codec/http1.h"

#include "unit.h"

/* Parses as if the bytes came in two pieces cut at `cut`; the outcome must not depend on it. */
static enum http1_result parse_cut(bool request, struct slice text, size_t cut, struct http1_field *fields, struct http1_head *head,
                                   struct http1_error *error) {
    struct http1_scan scan = {0};
    enum http1_result (*parse)(struct http1_scan *, struct slice, struct http1_field *, struct http1_head *, struct http1_error *) =
        request ? http1_parse_request : http1_parse_response;
    enum http1_result result = parse(&scan, slice_head(text, cut), fields, head, error);
    return result == HTTP1_MORE ? parse(&scan, text, fields, head, error) : result;
}

static enum http1_result parse_bytewise(struct slice text, struct http1_field *fields, struct http1_head *head, struct http1_error *error) {
    struct http1_scan scan = {0};
    enum http1_result result = HTTP1_MORE;
    for (size_t len = 0; len <= text.len && result == HTTP1_MORE; len++) {
        char *copy = malloc(len + 1); /* exactly so long: reading beyond shows */
        memcpy(copy, text.data, len);
        result = http1_parse_request(&scan, slice_make(copy, len), fields, head, error);
        if (result == HTTP1_DONE)
            assert_int_equal(head->bytes, len);
        free(copy);
    }
    return result;
}

#define R1 "GET / HTTP/1.1\r\nHost: h\r\n"

UNIT_TEST(good_requests_are_read_wherever_they_are_cut) {
    static const struct {
        const char *text, *method, *path, *query, *host;
        enum http1_framing framing;
        uint64_t length;
        bool keep_alive, expect;
        const char *upgrade;
    } cases[] = {
        {"GET /a/b?x=1&y HTTP/1.1\r\nHost: example.org:80\r\n\r\n", "GET", "/a/b", "x=1&y", "example.org:80", HTTP1_BODY_NONE, 0, true, false, NULL},
        {"\r\nGET / HTTP/1.1\r\nHost:\r\n\r\n", "GET", "/", "", "", HTTP1_BODY_NONE, 0, true, false, NULL},
        {"GET / HTTP/1.0\r\n\r\n", "GET", "/", "", NULL, HTTP1_BODY_NONE, 0, false, false, NULL},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET", "/", "", NULL, HTTP1_BODY_NONE, 0, true, false, NULL},
        {R1 "Connection: foo, CLOSE\r\n\r\n", "GET", "/", "", "h", HTTP1_BODY_NONE, 0, false, false, NULL},
        {"POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: 12\r\nexpect: 100-Continue\r\n\r\n", "POST", "/p", "", "h", HTTP1_BODY_LENGTH, 12, true,
         true, NULL},
        {"PUT /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n", "PUT", "/p", "", "h", HTTP1_BODY_CHUNKED, 0, true, false, NULL},
        {R1 "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET", "/", "", "h", HTTP1_BODY_NONE, 0, true, false, "websocket"},
        {R1 "Upgrade: h2c\r\n\r\n", "GET", "/", "", "h", HTTP1_BODY_NONE, 0, true, false, NULL},
        {"GET http://real.example?q HTTP/1.1\r\nHost: other\r\n\r\n", "GET", "/", "q", "real.example", HTTP1_BODY_NONE, 0, true, false, NULL},
        {"GET HTTPS://real/x HTTP/1.1\r\nHost: other\r\n\r\n", "GET", "/x", "", "real", HTTP1_BODY_NONE, 0, true, false, NULL},
        {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS", "*", "", "h", HTTP1_BODY_NONE, 0, true, false, NULL},
        {"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", "CONNECT", "h:443", "", "h:443", HTTP1_BODY_NONE, 0, true, false, NULL},
        {R1 "X: \t a\tb \xe4 \t\r\nEmpty:\r\n\r\n", "GET", "/", "", "h", HTTP1_BODY_NONE, 0, true, false, NULL},
        {"GET / HTTP/1.7\r\nHost: [::1]:80\r\n\r\n", "GET", "/", "", "[::1]:80", HTTP1_BODY_NONE, 0, true, false, NULL},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9223372036854775807\r\n\r\n", "POST", "/", "", "h", HTTP1_BODY_LENGTH, INT64_MAX, true, false,
         NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice text = slice_of(cases[i].text);
        for (size_t cut = 0; cut <= text.len; cut++) {
            struct http1_field fields[HTTP_HEADERS_MAX];
            struct http1_head head;
            struct http1_error error = {0};
            if (parse_cut(true, text, cut, fields, &head, &error) != HTTP1_DONE)
                fail_msg("case %zu cut at %zu: %s", i, cut, error.reason);
            assert_int_equal(head.bytes, text.len);
            assert_true(slice_is(head.method, cases[i].method));
            assert_true(slice_is(head.path, cases[i].path));
            assert_true(slice_is(head.query, cases[i].query));
            assert_true(cases[i].host ? slice_is(head.host, cases[i].host) : !head.host.data);
            assert_int_equal(head.framing, cases[i].framing);
            assert_true(head.content_length == cases[i].length);
            assert_int_equal(head.keep_alive, cases[i].keep_alive);
            assert_int_equal(head.expect_continue, cases[i].expect);
            assert_true(cases[i].upgrade ? slice_is(head.upgrade, cases[i].upgrade) : !head.upgrade.data);
        }
    }
}

UNIT_TEST(fields_are_found_and_trimmed) {
    struct http1_scan scan = {0};
    struct http1_field fields[HTTP_HEADERS_MAX];
    struct http1_head head;
    struct http1_error error;
    struct slice text = SLICE(R1 "X-One: \t first \t\r\nx-one: second\r\nEmpty:\r\n\r\nbody");
    assert_int_equal(http1_parse_request(&scan, text, fields, &head, &error), HTTP1_DONE);
    assert_int_equal(head.bytes, text.len - 4);
    assert_int_equal(head.fields_count, 4);
    assert_true(slice_is(http1_find(&head, "x-ONE"), "first"));
    assert_true(http1_find(&head, "empty").data && http1_find(&head, "empty").len == 0);
    assert_null(http1_find(&head, "x").data);
}

UNIT_TEST(bad_requests_are_refused_wherever_they_are_cut) {
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"\x16\x03\x01", 400},
        {" GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: h\n\n", 400},
        {"GET / HTTP/1.1\rHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400},
        {"GET / x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / http/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.10\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505},
        {"GET / HTTP/0.9\r\nHost: h\r\n\r\n", 505},
        {"G@T / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET index.html HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /#f HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {R1 "Host: h\r\n\r\n", 400},
        {"GET http://h/ HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400},
        {R1 "X : y\r\n\r\n", 400},
        {R1 " folded\r\n\r\n", 400},
        {R1 "X: a\r\n\tfolded\r\n\r\n", 400},
        {R1 "no colon\r\n\r\n", 400},
        {R1 ": no name\r\n\r\n", 400},
        {R1 "X: \x01\r\n\r\n", 400},
        {R1 "X\x80: y\r\n\r\n", 400},
        {R1 "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
        {R1 "Content-Length: 1, 1\r\n\r\n", 400},
        {R1 "Content-Length: +1\r\n\r\n", 400},
        {R1 "Content-Length: -1\r\n\r\n", 400},
        {R1 "Content-Length: 0x1\r\n\r\n", 400},
        {R1 "Content-Length:\r\n\r\n", 400},
        {R1 "Content-Length: 9223372036854775808\r\n\r\n", 400},
        {R1 "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {R1 "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
        {R1 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {R1 "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {R1 "Transfer-Encoding: chunked, identity\r\n\r\n", 501},
        {R1 "Transfer-Encoding: \x0b"
            "chunked\r\n\r\n",
         400},
        {R1 "Transfer-Encoding: xchunked\r\n\r\n", 501},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {R1 "Expect: 200-maybe\r\n\r\n", 417},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice text = slice_of(cases[i].text);
        struct http1_field fields[HTTP_HEADERS_MAX];
        struct http1_head head;
        for (size_t cut = 0; cut <= text.len; cut++) {
            struct http1_error error = {0};
            if (parse_cut(true, text, cut, fields, &head, &error) != HTTP1_BAD)
                fail_msg("case %zu cut at %zu was accepted: %s", i, cut, cases[i].text);
            assert_int_equal(error.status, cases[i].status);
            assert_non_null(error.reason);
        }
        struct http1_error error = {0};
        assert_int_equal(parse_bytewise(text, fields, &head, &error), HTTP1_BAD);
        assert_int_equal(error.status, cases[i].status);
    }
}

UNIT_TEST(a_nul_is_no_end) {
    struct http1_scan scan = {0};
    struct http1_field fields[HTTP_HEADERS_MAX];
    struct http1_head head;
    struct http1_error error;
    assert_int_equal(http1_parse_request(&scan, SLICE("GET / HTTP/1.1\r\nHost: h\0x\r\n\r\n"), fields, &head, &error), HTTP1_BAD);
}

/* A head of `count` lines "a: b", or with a value of `value` bytes, or a target of `target` bytes. */
static int status_of(size_t target, size_t count, size_t value) {
    struct buffer text = BUFFER_INIT(MIB);
    struct http1_scan scan = {0};
    struct http1_field fields[HTTP_HEADERS_MAX];
    struct http1_head head;
    struct http1_error error = {0};
    buffer_append_text(&text, "GET /");
    for (size_t i = 1; i < target; i++)
        buffer_append_byte(&text, 'x');
    buffer_append_text(&text, " HTTP/1.1\r\nHost: h\r\n");
    for (size_t i = 1; i < count; i++)
        buffer_append_text(&text, "a: b\r\n");
    if (value)
        buffer_append_text(&text, "v: ");
    for (size_t i = 0; i < value; i++)
        buffer_append_byte(&text, 'v');
    buffer_append_text(&text, value ? "\r\n\r\n" : "\r\n");
    enum http1_result result = http1_parse_request(&scan, buffer_slice(&text), fields, &head, &error);
    buffer_deinit(&text);
    return result == HTTP1_DONE ? 200 : error.status;
}

UNIT_TEST(limits_hold_to_the_byte) {
    assert_int_equal(status_of(HTTP_TARGET_BYTES_MAX, 1, 0), 200);
    assert_int_equal(status_of(HTTP_TARGET_BYTES_MAX + 1, 1, 0), 414);
    assert_int_equal(status_of(10 * HTTP_TARGET_BYTES_MAX, 1, 0), 414);
    assert_int_equal(status_of(1, HTTP_HEADERS_MAX, 0), 200);
    assert_int_equal(status_of(1, HTTP_HEADERS_MAX + 1, 0), 431);
    size_t rest = strlen("GET / HTTP/1.1\r\nHost: h\r\nv: \r\n\r\n");
    assert_int_equal(status_of(1, 1, HTTP_HEAD_BYTES_MAX - rest), 200);
    assert_int_equal(status_of(1, 1, HTTP_HEAD_BYTES_MAX - rest + 2), 431);
}

UNIT_TEST(responses_say_how_their_body_ends) {
    static const struct {
        const char *text;
        int status;
        enum http1_framing framing, after_head;
        bool keep_alive;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 200, HTTP1_BODY_LENGTH, HTTP1_BODY_NONE, true},
        {"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", 200, HTTP1_BODY_CHUNKED, HTTP1_BODY_NONE, true},
        {"HTTP/1.1 200\r\n\r\n", 200, HTTP1_BODY_UNTIL_CLOSE, HTTP1_BODY_NONE, false},
        {"HTTP/1.0 200 OK\r\n\r\n", 200, HTTP1_BODY_UNTIL_CLOSE, HTTP1_BODY_NONE, false},
        {"HTTP/1.1 204 No Content\r\n\r\n", 204, HTTP1_BODY_NONE, HTTP1_BODY_NONE, true},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", 304, HTTP1_BODY_NONE, HTTP1_BODY_NONE, true},
        {"HTTP/1.1 100 Continue\r\n\r\n", 100, HTTP1_BODY_NONE, HTTP1_BODY_NONE, true},
        {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 101, HTTP1_BODY_NONE, HTTP1_BODY_NONE, false},
        {"HTTP/1.1 500 It is \xfc"
         "ber\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
         500, HTTP1_BODY_LENGTH, HTTP1_BODY_NONE, false},
    };
    static const char *const bad[] = {"HTTP/1.1 20 OK\r\n\r\n",
                                      "HTTP/1.1 2000 OK\r\n\r\n",
                                      "HTTP/1.1 099 OK\r\n\r\n",
                                      "\r\nHTTP/1.1 200 OK\r\n\r\n",
                                      "ICY 200 OK\r\n\r\n",
                                      "HTTP/1.1  200 OK\r\n\r\n",
                                      "HTTP/1.1 200 OK\n\n",
                                      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                                      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                                      "HTTP/3.0 200 OK\r\n\r\n"};
    struct http1_field fields[HTTP_HEADERS_MAX];
    struct http1_head head;
    struct http1_error error;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t cut = 0; cut <= strlen(cases[i].text); cut++) {
            assert_int_equal(parse_cut(false, slice_of(cases[i].text), cut, fields, &head, &error), HTTP1_DONE);
            assert_int_equal(head.status, cases[i].status);
            assert_int_equal(head.framing, cases[i].framing);
            assert_int_equal(http1_response_framing(&head, true), cases[i].after_head);
            assert_int_equal(head.keep_alive, cases[i].keep_alive);
        }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        for (size_t cut = 0; cut <= strlen(bad[i]); cut++) {
            assert_int_equal(parse_cut(false, slice_of(bad[i]), cut, fields, &head, &error), HTTP1_BAD);
            assert_int_equal(error.status, 0);
        }
}

/* --- chunked bodies --- */

/* Feeds in two pieces; returns the result, the body and how much was used. */
static enum http1_result decode(struct slice text, size_t cut, struct buffer *body, size_t *ret_used) {
    struct http1_chunked chunked = {0};
    enum http1_result result = HTTP1_MORE;
    size_t at = 0;
    const size_t ends[] = {cut, text.len};
    for (size_t piece = 0; piece < 2; piece++)
        while (result == HTTP1_MORE && at < ends[piece]) {
            struct slice data;
            size_t used;
            result = http1_chunked_step(&chunked, slice_make(text.data + at, ends[piece] - at), &used, &data);
            if (result == HTTP1_BAD)
                return result;
            assert_true(used > 0);
            at += used;
            buffer_append_slice(body, data);
        }
    *ret_used = at;
    return result;
}

UNIT_TEST(chunks_are_joined_wherever_they_are_cut) {
    static const struct {
        const char *text, *body;
        size_t rest;
    } cases[] = {
        {"3\r\nabc\r\n0\r\n\r\n", "abc", 0},
        {"1;x=y\r\na\r\nA ; q=\"1\"\r\n0123456789\r\n00\r\n\r\nNEXT", "a0123456789", 4},
        {"0\r\nTrailer: x\r\nOther:\r\n\r\n", "", 0},
        {"000000000000001\r\nz\r\n0;last\r\n\r\n", "z", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice text = slice_of(cases[i].text);
        for (size_t cut = 0; cut <= text.len; cut++) {
            CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(1000);
            size_t used = 0;
            assert_int_equal(decode(text, cut, &body, &used), HTTP1_DONE);
            assert_int_equal(used, text.len - cases[i].rest);
            assert_true(slice_is(buffer_slice(&body), cases[i].body));
        }
    }
}

UNIT_TEST(bad_chunks_are_refused_wherever_they_are_cut) {
    static const char *const cases[] = {"\r\n",
                                        ";x\r\n",
                                        "x\r\n",
                                        "-1\r\n",
                                        "+1\r\n",
                                        "0x1\r\n",
                                        "1\na\n",
                                        "1\r\nab\r\n",
                                        "1\r\na\n",
                                        "1\r\na\r0",
                                        "1 2\r\n",
                                        "1 \r\n",
                                        "10000000000000000\r\n",
                                        "1\r\r\n",
                                        "0\r\n folded: x\r\n",
                                        "0\r\nbad name: x\r\n",
                                        "0\r\nx\r\n",
                                        "0\r\nx: \x02\r\n",
                                        "0\r\nx: y\n\r\n",
                                        "0\r\n\rx",
                                        "1;\x01\r\n",
                                        "0\n\n"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t cut = 0; cut <= strlen(cases[i]); cut++) {
            CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(1000);
            size_t used = 0;
            if (decode(slice_of(cases[i]), cut, &body, &used) != HTTP1_BAD)
                fail_msg("case %zu cut at %zu was accepted", i, cut);
        }
}

/* `prefix`, then `unit` again and again up to `count`; true when it is refused on the way. */
static bool refused(const char *prefix, const char *unit, size_t count) {
    struct http1_chunked chunked = {0};
    struct slice data;
    size_t used;
    if (*prefix && http1_chunked_step(&chunked, slice_of(prefix), &used, &data) == HTTP1_BAD)
        return true;
    for (size_t i = 0; i < count; i++)
        for (struct slice rest = slice_of(unit); rest.len > 0; rest = slice_from(rest, used))
            if (http1_chunked_step(&chunked, rest, &used, &data) == HTTP1_BAD)
                return true;
    return false;
}

UNIT_TEST(extensions_and_trailers_are_bounded) {
    assert_false(refused("1;", "x", 1000));
    assert_true(refused("1;", "x", HTTP1_CHUNK_LINE_BYTES_MAX));
    assert_true(refused("", "1;xxxxxxxxxxxxxxxxxxxxxxxx\r\na\r\n", HTTP1_CHUNK_EXTENSION_BYTES_MAX / 20));
    assert_false(refused("", "1\r\na\r\n", 100000));
    assert_false(refused("0\r\n", "a: b\r\n", 1000));
    assert_true(refused("0\r\n", "a: b\r\n", HTTP1_TRAILER_BYTES_MAX / 4));
}

UNIT_TEST(small_helpers) {
    assert_true(http1_list_has(SLICE("a, B ,c"), SLICE("b")));
    assert_false(http1_list_has(SLICE("ab, c"), SLICE("b")));
    assert_false(http1_list_has(SLICE(""), SLICE("b")));
    assert_true(http1_is_token(SLICE("X-y_1")));
    assert_false(http1_is_token(SLICE("")));
    assert_false(http1_is_token(SLICE("a b")));
    assert_false(http1_is_field_value(SLICE("a\r\nb")));
    assert_string_equal(http1_reason(404), "Not Found");
    assert_string_equal(http1_reason(799), "Unknown");
}

UNIT_MAIN(UNIT(good_requests_are_read_wherever_they_are_cut), UNIT(fields_are_found_and_trimmed),
          UNIT(bad_requests_are_refused_wherever_they_are_cut), UNIT(a_nul_is_no_end), UNIT(limits_hold_to_the_byte),
          UNIT(responses_say_how_their_body_ends), UNIT(chunks_are_joined_wherever_they_are_cut), UNIT(bad_chunks_are_refused_wherever_they_are_cut),
          UNIT(extensions_and_trailers_are_bounded), UNIT(small_helpers))
