/* HTTP/1.1 messages on the wire (RFC 9112): a strict, incremental, allocation-free parser of heads and of chunked bodies. Server, client and gateway
 * drive the same code. Strict means: what two implementations could read differently (request smuggling) is refused, never guessed.
 *
 * How to use it: gather bytes in a buffer; call http1_parse_request() (or _response) with all bytes so far and the same zeroed struct http1_scan each
 * time;
 *   HTTP1_MORE  wait for more bytes (the scan remembers how far it came, so the total cost is linear),
 *   HTTP1_DONE  `head` is filled, its slices point into the input, and the body starts at head->bytes,
 *   HTTP1_BAD   `error` holds the status to answer with (400, 414, 417, 431, 501, 505) and a sentence; the connection cannot go on.
 * Refused: bare CR or LF, control bytes, obs-fold, blanks before a colon, bad tokens, a missing (1.1), repeated or malformed Host, repeated or
 * malformed Content-Length, Transfer-Encoding together with Content-Length or in HTTP/1.0 or other than exactly "chunked", an Expect other than
 * 100-continue, a fragment or a byte outside visible ASCII in the target, HTTP_HEAD_BYTES_MAX, HTTP_TARGET_BYTES_MAX, HTTP_HEADERS_MAX. One empty
 * line before a request is skipped. */
#ifndef TIDEMILL_CODEC_HTTP1_H
#define TIDEMILL_CODEC_HTTP1_H

#include "base/base.h"

enum http1_result { HTTP1_MORE, HTTP1_DONE, HTTP1_BAD };

/* Where a head stands that is not complete yet; {0} before each message. */
struct http1_scan {
    size_t at;         /* bytes looked at */
    size_t line_start; /* of the line that is being read */
    size_t lines;      /* complete lines, the request line included */
};

struct http1_error {
    int status;         /* what a server answers; 0 in responses: the peer is broken (502 for a gateway) */
    const char *reason; /* static, one sentence without a capital */
};

struct http1_field {
    struct slice name;
    struct slice value; /* without surrounding blanks */
};

enum http1_framing {
    HTTP1_BODY_NONE,
    HTTP1_BODY_LENGTH, /* content_length bytes (may be 0) */
    HTTP1_BODY_CHUNKED,
    HTTP1_BODY_UNTIL_CLOSE, /* responses only */
};

struct http1_head {
    struct slice method, target; /* requests; target as sent */
    /* Requests; raw. "*" and CONNECT's authority are the path. Absolute-form: what follows the authority ("/" when empty) */
    struct slice path, query;
    struct slice host;          /* requests: of an absolute target, otherwise the Host field; may be empty (data NULL: none, HTTP/1.0 only) */
    int status;                 /* responses */
    struct slice reason;        /* responses; may be empty */
    int minor_version;          /* 0 or 1 */
    size_t bytes;               /* length of the head, the empty line (and a skipped one) included */
    struct http1_field *fields; /* the caller's storage, in order of arrival */
    size_t fields_count;
    enum http1_framing framing; /* of the body that follows; for responses see http1_response_framing */
    uint64_t content_length;    /* with HTTP1_BODY_LENGTH; in responses also when there is no body (HEAD, 304) */
    bool has_content_length;
    bool chunked;         /* Transfer-Encoding: chunked */
    bool keep_alive;      /* the sender is willing to use the connection again */
    bool expect_continue; /* requests: waits for "100 Continue" before it sends the body */
    struct slice upgrade; /* the Upgrade field when "Connection: upgrade" names it; data NULL otherwise */
};

/* `fields` has room for HTTP_HEADERS_MAX. Outputs are written on HTTP1_DONE (head) and HTTP1_BAD (error) only. */
enum http1_result http1_parse_request(struct http1_scan *scan, struct slice input, struct http1_field *fields, struct http1_head *head,
                                      struct http1_error *error);
enum http1_result http1_parse_response(struct http1_scan *scan, struct slice input, struct http1_field *fields, struct http1_head *head,
                                       struct http1_error *error);
/* How a response's body is framed, given what was asked (HEAD has none; http1_parse_response assumes a request that was not HEAD). */
enum http1_framing http1_response_framing(const struct http1_head *head, bool request_was_head);

/* The first field of that name without regard to case; data NULL when absent (a present empty value has data). */
struct slice http1_find(const struct http1_head *head, const char *name);
/* True when the comma-separated list holds the token, without regard to case. */
bool http1_list_has(struct slice list, struct slice token);
/* Checks for writing: a token; a field value (no control bytes: no CR LF injection). */
bool http1_is_token(struct slice text);
bool http1_is_field_value(struct slice text);
/* "OK", "Not Found"; "Unknown" for a number without a standard phrase. */
const char *http1_reason(int status);

#define HTTP1_CHUNK_LINE_BYTES_MAX 1024       /* one chunk-size line with its extensions */
#define HTTP1_CHUNK_EXTENSION_BYTES_MAX 16384 /* extensions of one body in all */
#define HTTP1_TRAILER_BYTES_MAX 8192          /* trailer fields of one body in all; they are checked and dropped */

/* The decoder of a chunked body; {0} before each body. */
struct http1_chunked {
    uint8_t state;
    uint8_t digits;
    uint16_t line_bytes;
    uint32_t extension_bytes;
    uint32_t trailer_bytes;
    uint64_t remaining; /* of the current chunk */
};
/* Reads on: consumes *ret_used bytes of the input (the raw extent, for who forwards the bytes as they are) and yields the piece of body among them
 * (*ret_data, a slice of the input, may be empty). HTTP1_MORE: call again with the rest of the input, or with more when the rest is empty.
 * HTTP1_DONE: the body is complete, the next message starts behind *ret_used. HTTP1_BAD: malformed or beyond a limit; outputs are undefined. Any
 * input that is not empty makes progress. */
enum http1_result http1_chunked_step(struct http1_chunked *chunked, struct slice input, size_t *ret_used, struct slice *ret_data);

#endif
