/* One connection per request ("Connection: close"): a job makes a dozen requests in its life, and a connection that is never reused can never be
 * found dead.
 *
 * A server may answer before it has read the whole body (a refused build) and close; our write then fails, and the answer is still read, since it
 * says why. The answer's body is chunked, has a length, or ends with the connection (RFC 9112, 6.3). */
#include "job/wire.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PIECE_BYTES (32 * KIB)
#define CHUNK_LINE_MAX 256

struct wire_body {
    int fd;
};

static int send_all(int fd, const char *bytes, size_t length) {
    while (length) {
        ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes += n;
        length -= (size_t)n;
    }
    return 0;
}

int wire_body_write(struct wire_body *body, struct slice bytes) {
    char head[24];
    if (bytes.len == 0)
        return 0; /* an empty chunk would end the body */
    int length = snprintf(head, sizeof head, "%zx\r\n", bytes.len);
    int r = send_all(body->fd, head, (size_t)length);
    r = r ? r : send_all(body->fd, bytes.data, bytes.len);
    return r ? r : send_all(body->fd, "\r\n", 2);
}

static int open_socket(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return TAKE_FD(fd);
}

static int send_request(int fd, const struct wire *wire, const struct wire_request *request) {
    CLEANUP(buffer_deinit) struct buffer head = BUFFER_INIT(WIRE_HEAD_BYTES_MAX);
    buffer_printf(&head, "%s %s HTTP/1.1\r\nHost: tidemill\r\nConnection: close\r\nAuthorization: Bearer %s\r\n", request->method, request->target,
                  wire->token);
    if (request->content_type)
        buffer_printf(&head, "Content-Type: %s\r\nTransfer-Encoding: chunked\r\n", request->content_type);
    buffer_append_text(&head, "\r\n");
    if (buffer_error(&head))
        return buffer_error(&head);
    int r = send_all(fd, head.data, head.len);
    if (r < 0 || !request->content_type)
        return r;
    struct wire_body body = {.fd = fd};
    r = request->write_body(request->userdata, &body);
    return r ? r : send_all(fd, "0\r\n\r\n", 5);
}

/* --- the answer --- */

struct answer {
    int fd;
    int status;
    bool chunked;
    bool has_length;
    uint64_t left;       /* of the body, or of the current chunk */
    struct buffer input; /* received, not yet used */
    const struct wire_request *request;
    struct buffer *error;
};

/* Receives more; 0 at the end of the connection. */
static ssize_t fill(struct answer *answer) {
    int r = buffer_reserve(&answer->input, PIECE_BYTES);
    if (r < 0)
        return r;
    for (;;) {
        ssize_t n = recv(answer->fd, answer->input.data + answer->input.len, PIECE_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        buffer_commit(&answer->input, (size_t)n);
        return n;
    }
}

/* The next line without its CRLF, as a copy in `line`. */
static int read_line(struct answer *answer, struct buffer *line) {
    for (;;) {
        struct slice input = buffer_slice(&answer->input);
        ptrdiff_t end = slice_index(input, '\n');
        if (end >= 0) {
            buffer_reset(line);
            int r = buffer_append_slice(line, slice_trim(slice_head(input, (size_t)end)));
            buffer_consume(&answer->input, (size_t)end + 1);
            return r;
        }
        if (input.len > WIRE_HEAD_BYTES_MAX)
            return -EPROTO;
        ssize_t n = fill(answer);
        if (n <= 0)
            return n < 0 ? (int)n : -ECONNRESET;
    }
}

static int read_status(struct answer *answer, struct buffer *line) {
    int r = read_line(answer, line);
    uint64_t status = 0;
    if (r < 0)
        return r;
    struct slice text = buffer_slice(line);
    if (!slice_starts(text, SLICE("HTTP/1.1 ")) || text.len < 12 || slice_parse_u64(slice_make(text.data + 9, 3), 599, &status) < 0 || status < 100)
        return -EPROTO;
    answer->status = (int)status;
    return 0;
}

static int read_head(struct answer *answer) {
    CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(WIRE_HEAD_BYTES_MAX);
    int r;
    do { /* 100 Continue and the like come before the answer */
        r = read_status(answer, &line);
        for (size_t total = 0; r == 0 && (r = read_line(answer, &line)) == 0 && line.len;) {
            struct slice value = buffer_slice(&line);
            struct slice name = slice_trim(slice_cut(&value, ':'));
            total += line.len;
            value = slice_trim(value);
            if (slice_equal_nocase(name, SLICE("Transfer-Encoding")))
                answer->chunked = slice_equal_nocase(value, SLICE("chunked"));
            else if (slice_equal_nocase(name, SLICE("Content-Length")))
                r = slice_parse_u64(value, INT64_MAX, &answer->left) < 0 ? -EPROTO : 0, answer->has_length = true;
            if (total > WIRE_HEAD_BYTES_MAX)
                r = -EPROTO;
        }
    } while (r == 0 && answer->status < 200);
    return r;
}

static int deliver(struct answer *answer, struct slice data) {
    if (answer->status >= 200 && answer->status < 300)
        return answer->request->on_data ? answer->request->on_data(answer->request->userdata, data) : 0;
    if (answer->error && answer->error->len + data.len < answer->error->bytes_max)
        buffer_append_slice(answer->error, data);
    return 0;
}

/* Delivers `left` bytes, or everything until the connection ends. */
static int read_plain(struct answer *answer, bool until_end) {
    while (until_end || answer->left > 0) {
        if (answer->input.len == 0) {
            ssize_t n = fill(answer);
            if (n < 0)
                return (int)n;
            if (n == 0)
                return until_end ? 0 : -ECONNRESET;
        }
        size_t length = until_end ? answer->input.len : (size_t)MIN(answer->left, (uint64_t)answer->input.len);
        int r = deliver(answer, slice_make(answer->input.data, length));
        if (r < 0)
            return r;
        buffer_consume(&answer->input, length);
        answer->left -= until_end ? 0 : length;
    }
    return 0;
}

static int parse_hex(struct slice text, uint64_t *ret) {
    uint64_t value = 0;
    if (text.len == 0 || text.len > 15)
        return -EPROTO;
    for (size_t i = 0; i < text.len; i++) {
        const char *digits = "0123456789abcdef";
        char c = text.data[i];
        const char *found = strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c);
        if (!found || !c)
            return -EPROTO;
        value = value << 4 | (uint64_t)(found - digits);
    }
    *ret = value;
    return 0;
}

static int read_chunks(struct answer *answer) {
    CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(WIRE_HEAD_BYTES_MAX);
    for (;;) {
        int r = read_line(answer, &line);
        if (r < 0)
            return r;
        struct slice rest = buffer_slice(&line);
        r = parse_hex(slice_trim(slice_cut(&rest, ';')), &answer->left);
        if (r < 0 || answer->left == 0)
            return r; /* trailers go with the connection */
        r = read_plain(answer, false);
        r = r ? r : read_line(answer, &line);
        if (r < 0)
            return r;
    }
}

static int read_answer(struct answer *answer) {
    int r = read_head(answer);
    if (r < 0)
        return r;
    if (answer->status == 204 || answer->status == 304)
        return 0;
    return answer->chunked ? read_chunks(answer) : read_plain(answer, !answer->has_length);
}

int wire_call(const struct wire *wire, const struct wire_request *request, struct buffer *error) {
    CLEANUP(fd_closep) int fd = open_socket(wire->socket_path);
    if (fd < 0)
        return fd;
    int sent = send_request(fd, wire, request);
    if (sent < 0 && sent != -EPIPE && sent != -ECONNRESET)
        return sent;
    struct answer answer = {.fd = fd, .request = request, .error = error, .input = BUFFER_INIT(2 * WIRE_HEAD_BYTES_MAX + PIECE_BYTES)};
    int r = read_answer(&answer);
    buffer_deinit(&answer.input);
    if (r < 0)
        return sent < 0 ? sent : r;
    return answer.status;
}
