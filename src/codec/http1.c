/* HTTP/1.1 heads and chunked bodies (RFC 9112, RFC 9110).
 *
 * Why strict: the gateway forwards what the application behind it parses again. Whatever could be read in two ways is a way to smuggle a request, so
 * it is refused.
 *
 * A head is read in two passes. The scan runs over each byte once, as it arrives, however small the pieces: it knows only lines and allowed bytes, so
 * that garbage (a TLS hello on a plain port) and excess are refused at once and not when the head is complete. Once the empty line is there, the
 * second pass takes the lines apart; it can rely on what the scan proved.
 *
 * Invariants
 * 1. scan->at never passes a byte that is not allowed in a head.
 * 2. Every CR is followed by LF and every LF preceded by CR.
 * 3. No line but the last is empty, and no line starts with a blank (obs-fold).
 * 4. Slices of the head lie within input[0, head->bytes). */
#include "codec/http1.h"

enum {
    CLASS_TOKEN = 1,  /* tchar */
    CLASS_VALUE = 2,  /* VCHAR, obs-text, SP, HTAB: in a line */
    CLASS_TARGET = 4, /* visible ASCII but '#' */
    CLASS_HOST = 8,   /* unreserved, sub-delims, and "%:[]" */
    CLASS_DIGIT = 16,
};

#define WORD (CLASS_TOKEN | CLASS_VALUE | CLASS_TARGET | CLASS_HOST)
static const uint8_t classes[256] = {
    ['\t'] = CLASS_VALUE,
    [' '] = CLASS_VALUE,
    ['!'] = WORD,
    ['"'] = CLASS_VALUE | CLASS_TARGET,
    ['#'] = CLASS_TOKEN | CLASS_VALUE,
    ['$'] = WORD,
    ['%'] = WORD,
    ['&'] = WORD,
    ['\''] = WORD,
    ['('] = CLASS_VALUE | CLASS_TARGET | CLASS_HOST,
    [')'] = CLASS_VALUE | CLASS_TARGET | CLASS_HOST,
    ['*'] = WORD,
    ['+'] = WORD,
    [','] = CLASS_VALUE | CLASS_TARGET | CLASS_HOST,
    ['-'] = WORD,
    ['.'] = WORD,
    ['/'] = CLASS_VALUE | CLASS_TARGET,
    ['0' ... '9'] = WORD | CLASS_DIGIT,
    [':'] = CLASS_VALUE | CLASS_TARGET | CLASS_HOST,
    [';'] = CLASS_VALUE | CLASS_TARGET | CLASS_HOST,
    ['<'] = CLASS_VALUE | CLASS_TARGET,
    ['='] = CLASS_VALUE | CLASS_TARGET | CLASS_HOST,
    ['>' ... '@'] = CLASS_VALUE | CLASS_TARGET,
    ['A' ... 'Z'] = WORD,
    ['['] = CLASS_VALUE | CLASS_TARGET | CLASS_HOST,
    ['\\'] = CLASS_VALUE | CLASS_TARGET,
    [']'] = CLASS_VALUE | CLASS_TARGET | CLASS_HOST,
    ['^'] = CLASS_TOKEN | CLASS_VALUE | CLASS_TARGET,
    ['_'] = WORD,
    ['`'] = CLASS_TOKEN | CLASS_VALUE | CLASS_TARGET,
    ['a' ... 'z'] = WORD,
    ['{'] = CLASS_VALUE | CLASS_TARGET,
    ['|'] = CLASS_TOKEN | CLASS_VALUE | CLASS_TARGET,
    ['}'] = CLASS_VALUE | CLASS_TARGET,
    ['~'] = WORD,
    [0x80 ... 0xff] = CLASS_VALUE,
};

static bool is_class(char byte, int class) {
    return (classes[(uint8_t)byte] & class) != 0;
}

static bool all_class(struct slice text, int class) {
    for (size_t i = 0; i < text.len; i++)
        if (!is_class(text.data[i], class))
            return false;
    return true;
}

bool http1_is_token(struct slice text) {
    return text.len > 0 && all_class(text, CLASS_TOKEN);
}

bool http1_is_field_value(struct slice text) {
    return all_class(text, CLASS_VALUE);
}

static enum http1_result bad(struct http1_error *error, int status, const char *reason) {
    *error = (struct http1_error){status, reason};
    return HTTP1_BAD;
}

/* --- the scan: lines and allowed bytes --- */

static enum http1_result line_too_long(const struct http1_scan *scan, bool request, struct http1_error *error) {
    if (request && scan->lines == 0)
        return bad(error, 414, "the request target is too long");
    return bad(error, 431, "the head is too large");
}

/* A line ended with the CR at scan->at. HTTP1_DONE: it was the empty one. */
static enum http1_result scan_line_end(struct http1_scan *scan, bool request, struct http1_error *error) {
    size_t len = scan->at - scan->line_start;
    scan->at += 2;
    scan->line_start = scan->at;
    if (len == 0 && scan->lines > 0)
        return HTTP1_DONE;
    if (len == 0 && (!request || scan->at > 2))
        return bad(error, 400, "an empty line instead of a first line");
    if (len > 0 && ++scan->lines > HTTP_HEADERS_MAX + 1)
        return bad(error, 431, "too many header fields");
    return HTTP1_MORE;
}

/* The first byte of a line decides early: the method (or "HTTP/") and field names start with a token byte, a blank would be obs-fold. */
static enum http1_result scan_line_start(const struct http1_scan *scan, char byte, struct http1_error *error) {
    if (is_class(byte, CLASS_TOKEN))
        return HTTP1_MORE;
    if (byte == ' ' || byte == '\t')
        return bad(error, 400, scan->lines ? "a folded header line" : "a blank before the first line");
    return bad(error, 400, scan->lines ? "a header line without a name" : "the first line is not HTTP");
}

static enum http1_result scan_head(struct http1_scan *scan, struct slice input, bool request, struct http1_error *error) {
    size_t first_line_max = HTTP_TARGET_BYTES_MAX + 64;
    while (scan->at < input.len) {
        char byte = input.data[scan->at];
        if (scan->at >= HTTP_HEAD_BYTES_MAX || (scan->lines == 0 && scan->at >= first_line_max))
            return line_too_long(scan, request, error);
        enum http1_result result = HTTP1_MORE;
        if (byte == '\r') {
            if (scan->at + 1 == input.len)
                return HTTP1_MORE;
            if (input.data[scan->at + 1] != '\n')
                return bad(error, 400, "a carriage return without a line feed");
            result = scan_line_end(scan, request, error);
        } else if (!is_class(byte, CLASS_VALUE)) {
            return bad(error, 400, byte == '\n' ? "a line feed without a carriage return" : "a control byte in the head");
        } else {
            if (scan->at == scan->line_start)
                result = scan_line_start(scan, byte, error);
            scan->at++;
        }
        if (result != HTTP1_MORE)
            return result;
    }
    return HTTP1_MORE;
}

/* --- the second pass: a complete head is taken apart --- */

/* Cuts the next line (without CR LF) off the front of *rest. */
static struct slice next_line(struct slice *rest) {
    ptrdiff_t end = slice_index(*rest, '\r');
    ASSERT(end >= 0 && (size_t)end + 1 < rest->len);
    struct slice line = slice_head(*rest, (size_t)end);
    *rest = slice_from(*rest, (size_t)end + 2);
    return line;
}

/* "HTTP/1.0" and "HTTP/1.1"; a higher minor version is spoken to as 1.1. */
static enum http1_result parse_version(struct slice text, int *ret_minor, struct http1_error *error) {
    if (text.len != 8 || !slice_starts(text, SLICE("HTTP/")) || !is_class(text.data[5], CLASS_DIGIT) || text.data[6] != '.' ||
        !is_class(text.data[7], CLASS_DIGIT))
        return bad(error, 400, "the version is not HTTP/1.1");
    if (text.data[5] != '1')
        return bad(error, 505, "only HTTP/1.1 is spoken here");
    *ret_minor = text.data[7] >= '1';
    return HTTP1_DONE;
}

/* The four forms of a target (RFC 9112 3.2). */
static enum http1_result parse_target(struct http1_head *head, struct http1_error *error) {
    struct slice target = head->target;
    if (target.len == 0 || !all_class(target, CLASS_TARGET))
        return bad(error, 400, "the request target has bytes that do not belong there");
    if (target.len > HTTP_TARGET_BYTES_MAX)
        return bad(error, 414, "the request target is too long");
    if (slice_is(head->method, "CONNECT") || (slice_is(head->method, "OPTIONS") && slice_is(target, "*"))) {
        head->path = target;
        return HTTP1_DONE;
    }
    if (target.data[0] != '/') {
        ptrdiff_t scheme = slice_find(target, SLICE("://"));
        if (scheme < 0 || !(slice_equal_nocase(slice_head(target, (size_t)scheme), SLICE("http")) ||
                            slice_equal_nocase(slice_head(target, (size_t)scheme), SLICE("https"))))
            return bad(error, 400, "the request target is neither a path nor a URL");
        target = slice_from(target, (size_t)scheme + 3);
        size_t authority = 0;
        while (authority < target.len && target.data[authority] != '/' && target.data[authority] != '?')
            authority++;
        head->host = slice_head(target, authority);
        if (authority == 0 || !all_class(head->host, CLASS_HOST))
            return bad(error, 400, "the request target has a malformed authority");
        target = slice_from(target, authority);
    }
    ptrdiff_t question = slice_index(target, '?');
    head->path = question < 0 ? target : slice_head(target, (size_t)question);
    head->query = question < 0 ? (struct slice){0} : slice_from(target, (size_t)question + 1);
    if (head->path.len == 0)
        head->path = SLICE("/");
    return HTTP1_DONE;
}

static enum http1_result parse_request_line(struct slice line, struct http1_head *head, struct http1_error *error) {
    struct slice rest = line;
    head->method = slice_cut(&rest, ' ');
    head->target = slice_cut(&rest, ' ');
    if (!http1_is_token(head->method) || head->method.len > 32)
        return bad(error, 400, "the method is not a token");
    if (!rest.data)
        return bad(error, 400, "the request line is not `method target version`");
    enum http1_result result = parse_version(rest, &head->minor_version, error);
    return result == HTTP1_DONE ? parse_target(head, error) : result;
}

static enum http1_result parse_status_line(struct slice line, struct http1_head *head, struct http1_error *error) {
    struct slice rest = line;
    struct slice version = slice_cut(&rest, ' ');
    struct slice status = slice_cut(&rest, ' ');
    uint64_t number = 0;
    if (parse_version(version, &head->minor_version, error) != HTTP1_DONE)
        return HTTP1_BAD;
    if (status.len != 3 || slice_parse_u64(status, 999, &number) < 0 || number < 100)
        return bad(error, 0, "the status is not a number of three digits");
    head->status = (int)number;
    head->reason = rest;
    return HTTP1_DONE;
}

bool http1_list_has(struct slice list, struct slice token) {
    while (list.data) {
        struct slice item = slice_trim(slice_cut(&list, ','));
        if (slice_equal_nocase(item, token))
            return true;
    }
    return false;
}

static enum http1_result on_content_length(struct http1_head *head, struct slice value, struct http1_error *error) {
    if (head->has_content_length)
        return bad(error, 400, "more than one Content-Length");
    if (slice_parse_u64(value, INT64_MAX, &head->content_length) < 0)
        return bad(error, 400, "a Content-Length that is no number");
    head->has_content_length = true;
    return HTTP1_DONE;
}

static enum http1_result on_transfer_encoding(struct http1_head *head, struct slice value, struct http1_error *error) {
    if (head->chunked)
        return bad(error, 400, "more than one Transfer-Encoding");
    if (head->minor_version == 0)
        return bad(error, 400, "a Transfer-Encoding in HTTP/1.0");
    if (!slice_equal_nocase(value, SLICE("chunked")))
        return bad(error, 501, "a Transfer-Encoding other than chunked");
    head->chunked = true;
    return HTTP1_DONE;
}

static enum http1_result on_host(struct http1_head *head, struct slice value, bool *seen, struct http1_error *error) {
    if (*seen)
        return bad(error, 400, "more than one Host");
    *seen = true;
    if (!all_class(value, CLASS_HOST))
        return bad(error, 400, "a malformed Host");
    if (!head->host.data)
        head->host = value;
    return HTTP1_DONE;
}

/* What the fields say about the connection, gathered over all of them. */
struct gathered {
    bool host, close, keep_alive, connection_upgrade;
    struct slice upgrade;
};

static enum http1_result on_field(struct http1_head *head, const struct http1_field *field, bool request, struct gathered *gathered,
                                  struct http1_error *error) {
    struct slice name = field->name, value = field->value;
    switch (name.len) { /* the length alone dismisses nearly all others */
    case 4: return request && slice_equal_nocase(name, SLICE("host")) ? on_host(head, value, &gathered->host, error) : HTTP1_DONE;
    case 6:
        if (!request || !slice_equal_nocase(name, SLICE("expect")))
            return HTTP1_DONE;
        if (!slice_equal_nocase(value, SLICE("100-continue")))
            return bad(error, 417, "an Expect other than 100-continue");
        head->expect_continue = head->minor_version >= 1;
        return HTTP1_DONE;
    case 7:
        if (slice_equal_nocase(name, SLICE("upgrade")))
            gathered->upgrade = value;
        return HTTP1_DONE;
    case 10:
        if (slice_equal_nocase(name, SLICE("connection"))) {
            gathered->close |= http1_list_has(value, SLICE("close"));
            gathered->keep_alive |= http1_list_has(value, SLICE("keep-alive"));
            gathered->connection_upgrade |= http1_list_has(value, SLICE("upgrade"));
        }
        return HTTP1_DONE;
    case 14: return slice_equal_nocase(name, SLICE("content-length")) ? on_content_length(head, value, error) : HTTP1_DONE;
    case 17: return slice_equal_nocase(name, SLICE("transfer-encoding")) ? on_transfer_encoding(head, value, error) : HTTP1_DONE;
    default: return HTTP1_DONE;
    }
}

static enum http1_result parse_field(struct slice line, struct http1_field *ret, struct http1_error *error) {
    ptrdiff_t colon = slice_index(line, ':');
    if (colon < 0)
        return bad(error, 400, "a header line without a colon");
    ret->name = slice_head(line, (size_t)colon);
    if (!http1_is_token(ret->name))
        return bad(error, 400, "a header name that is not a token");
    ret->value = slice_trim(slice_from(line, (size_t)colon + 1));
    return HTTP1_DONE;
}

static enum http1_result parse_fields(struct slice rest, bool request, struct http1_field *fields, struct http1_head *head,
                                      struct http1_error *error) {
    struct gathered gathered = {0};
    head->fields = fields;
    for (struct slice line = next_line(&rest); line.len > 0; line = next_line(&rest)) {
        ASSERT(head->fields_count < HTTP_HEADERS_MAX);
        struct http1_field *field = &fields[head->fields_count++];
        enum http1_result result = parse_field(line, field, error);
        if (result == HTTP1_DONE)
            result = on_field(head, field, request, &gathered, error);
        if (result != HTTP1_DONE)
            return result;
    }
    if (head->chunked && head->has_content_length)
        return bad(error, 400, "both Transfer-Encoding and Content-Length");
    if (request && head->minor_version >= 1 && !gathered.host)
        return bad(error, 400, "no Host");
    head->keep_alive = !gathered.close && (head->minor_version >= 1 || gathered.keep_alive);
    if (gathered.connection_upgrade && head->minor_version >= 1)
        head->upgrade = gathered.upgrade;
    return HTTP1_DONE;
}

enum http1_result http1_parse_request(struct http1_scan *scan, struct slice input, struct http1_field *fields, struct http1_head *head,
                                      struct http1_error *error) {
    enum http1_result result = scan_head(scan, input, true, error);
    if (result != HTTP1_DONE)
        return result;
    struct http1_head parsed = {.bytes = scan->at};
    struct slice rest = slice_head(input, scan->at);
    if (rest.data[0] == '\r')
        rest = slice_from(rest, 2);
    result = parse_request_line(next_line(&rest), &parsed, error);
    if (result == HTTP1_DONE)
        result = parse_fields(rest, true, fields, &parsed, error);
    if (result != HTTP1_DONE)
        return result;
    parsed.framing = parsed.chunked ? HTTP1_BODY_CHUNKED : parsed.has_content_length ? HTTP1_BODY_LENGTH : HTTP1_BODY_NONE;
    *head = parsed;
    return HTTP1_DONE;
}

enum http1_framing http1_response_framing(const struct http1_head *head, bool request_was_head) {
    if (request_was_head || head->status < 200 || head->status == 204 || head->status == 304)
        return HTTP1_BODY_NONE;
    if (head->chunked)
        return HTTP1_BODY_CHUNKED;
    return head->has_content_length ? HTTP1_BODY_LENGTH : HTTP1_BODY_UNTIL_CLOSE;
}

enum http1_result http1_parse_response(struct http1_scan *scan, struct slice input, struct http1_field *fields, struct http1_head *head,
                                       struct http1_error *error) {
    struct http1_head parsed = {0};
    enum http1_result result = scan_head(scan, input, false, error);
    if (result == HTTP1_MORE)
        return HTTP1_MORE;
    if (result == HTTP1_DONE) {
        struct slice rest = slice_head(input, scan->at);
        parsed.bytes = scan->at;
        result = parse_status_line(next_line(&rest), &parsed, error);
        if (result == HTTP1_DONE)
            result = parse_fields(rest, false, fields, &parsed, error);
    }
    if (result != HTTP1_DONE) {
        error->status = 0;
        return result;
    }
    parsed.framing = http1_response_framing(&parsed, false);
    if (parsed.framing == HTTP1_BODY_UNTIL_CLOSE || parsed.status == 101)
        parsed.keep_alive = false;
    *head = parsed;
    return HTTP1_DONE;
}

struct slice http1_find(const struct http1_head *head, const char *name) {
    struct slice wanted = slice_of(name);
    for (size_t i = 0; i < head->fields_count; i++)
        if (slice_equal_nocase(head->fields[i].name, wanted))
            return head->fields[i].value;
    return (struct slice){0};
}

const char *http1_reason(int status) {
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {425, "Too Early"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Unknown";
}

/* --- chunked bodies ---
 *
 *   SIZE → SIZE_BLANK → EXTENSION → SIZE_LF → DATA → DATA_CR → DATA_LF → SIZE …     (a blank leads to ';' and nothing else: "1 2" is no size)
 *                        └ size 0 → TRAILER_START → TRAILER_NAME → TRAILER_VALUE → TRAILER_LF → TRAILER_START
 *                                        └ CR → END_LF → (complete) */
enum chunk_state {
    SIZE,
    SIZE_BLANK,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
    COMPLETE
};

static int hex_digit(char byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* A byte of the chunk-size line; false when malformed. */
static bool step_size(struct http1_chunked *chunked, char byte) {
    if (++chunked->line_bytes > HTTP1_CHUNK_LINE_BYTES_MAX)
        return false;
    int digit = hex_digit(byte);
    if (chunked->state == SIZE && digit >= 0) {
        chunked->remaining = chunked->remaining << 4 | (uint64_t)digit;
        return ++chunked->digits <= 15; /* below 2^60 */
    }
    if (chunked->digits == 0)
        return false;
    if (byte == '\r' && chunked->state != SIZE_BLANK) {
        chunked->state = SIZE_LF;
        return true;
    }
    bool blank = byte == ' ' || byte == '\t';
    if (chunked->state != EXTENSION && byte != ';' && !blank)
        return false;
    if (chunked->state != EXTENSION)
        chunked->state = blank ? SIZE_BLANK : EXTENSION;
    return is_class(byte, CLASS_VALUE) && ++chunked->extension_bytes <= HTTP1_CHUNK_EXTENSION_BYTES_MAX;
}

static bool step_trailer(struct http1_chunked *chunked, char byte) {
    if (++chunked->trailer_bytes > HTTP1_TRAILER_BYTES_MAX)
        return false;
    switch (chunked->state) {
    case TRAILER_START: chunked->state = byte == '\r' ? END_LF : TRAILER_NAME; return byte == '\r' || is_class(byte, CLASS_TOKEN);
    case TRAILER_NAME:
        if (byte == ':')
            chunked->state = TRAILER_VALUE;
        return byte == ':' || is_class(byte, CLASS_TOKEN);
    default:
        if (byte == '\r')
            chunked->state = TRAILER_LF;
        return byte == '\r' || is_class(byte, CLASS_VALUE);
    }
}

/* One byte that is no body; false when malformed. */
static bool step_byte(struct http1_chunked *chunked, char byte) {
    switch ((enum chunk_state)chunked->state) {
    case SIZE:
    case SIZE_BLANK:
    case EXTENSION: return step_size(chunked, byte);
    case SIZE_LF: chunked->state = chunked->remaining ? DATA : TRAILER_START; return byte == '\n';
    case DATA_CR: chunked->state = DATA_LF; return byte == '\r';
    case DATA_LF:
        chunked->state = SIZE;
        chunked->digits = 0;
        chunked->line_bytes = 0;
        return byte == '\n';
    case TRAILER_START:
    case TRAILER_NAME:
    case TRAILER_VALUE: return step_trailer(chunked, byte);
    case TRAILER_LF: chunked->state = TRAILER_START; return byte == '\n';
    case END_LF: chunked->state = COMPLETE; return byte == '\n';
    case DATA:
    case COMPLETE: break;
    }
    UNREACHABLE();
}

enum http1_result http1_chunked_step(struct http1_chunked *chunked, struct slice input, size_t *ret_used, struct slice *ret_data) {
    size_t at = 0;
    *ret_data = (struct slice){0};
    while (chunked->state != COMPLETE && chunked->state != DATA && at < input.len)
        if (!step_byte(chunked, input.data[at++]))
            return HTTP1_BAD;
    if (chunked->state == DATA && at < input.len) {
        size_t len = (size_t)MIN((uint64_t)(input.len - at), chunked->remaining);
        *ret_data = slice_make(input.data + at, len);
        at += len;
        chunked->remaining -= len;
        if (chunked->remaining == 0)
            chunked->state = DATA_CR;
    }
    *ret_used = at;
    return chunked->state == COMPLETE ? HTTP1_DONE : HTTP1_MORE;
}
