/* Moving bytes between the two sockets of an exchange. What is read is framed anew: bodies with a length are counted, chunked ones are decoded and
 * chunked again, so what leaves is what the parser understood. Bodies with a length and tunnels are read straight into the buffer they are sent from.
 *
 * Edge-triggered reading: a read that returns less than asked has emptied the socket, so the readable flag is dropped without another recv, unless
 * the peer has hung up (then the end of the stream is still to be read). Nothing here frees the exchange; a broken client is noted in `doomed`. */
#include <sys/socket.h>

#include "proxy/proxy_priv.h"

/* --- framing --- */

static int chunk_append(struct buffer *out, struct slice data) {
    char line[20];
    size_t at = sizeof line;
    line[--at] = '\n';
    line[--at] = '\r';
    size_t len = data.len;
    do
        line[--at] = "0123456789abcdef"[len & 15];
    while (len >>= 4);
    buffer_append(out, line + at, sizeof line - at);
    buffer_append_slice(out, data);
    return buffer_append_slice(out, SLICE("\r\n"));
}

/* Decodes chunks and, when `chunks`, writes them again. Returns the bytes used, or a negative error; *ret_done when the body ended (the last chunk is
 * written too). */
static ptrdiff_t chunked_take(struct http1_chunked *state, struct slice bytes, bool chunks, struct buffer *out, bool *ret_done) {
    size_t total = 0;
    *ret_done = false;
    while (total < bytes.len && !*ret_done) {
        size_t used;
        struct slice data;
        enum http1_result result = http1_chunked_step(state, slice_from(bytes, total), &used, &data);
        if (result == HTTP1_BAD)
            return -EBADMSG;
        if (data.len > 0 && chunks)
            chunk_append(out, data);
        else if (data.len > 0)
            buffer_append_slice(out, data);
        total += used;
        *ret_done = result == HTTP1_DONE;
    }
    if (*ret_done && chunks)
        buffer_append_slice(out, SLICE("0\r\n\r\n"));
    return buffer_error(out) < 0 ? buffer_error(out) : (ptrdiff_t)total;
}

ptrdiff_t relay_take_body(struct exchange *exchange, struct slice bytes) {
    if (exchange->request_complete || bytes.len == 0)
        return 0;
    struct buffer *out = &exchange->request;
    ptrdiff_t used = 0;
    switch ((enum http1_framing)exchange->request_framing) {
    case HTTP1_BODY_NONE: return 0;
    case HTTP1_BODY_LENGTH:
        used = (ptrdiff_t)MIN(bytes.len, exchange->request_left);
        buffer_append_slice(out, slice_head(bytes, (size_t)used));
        exchange->request_left -= (uint64_t)used;
        exchange->request_complete = exchange->request_left == 0;
        break;
    case HTTP1_BODY_CHUNKED: used = chunked_take(&exchange->request_chunked, bytes, true, out, &exchange->request_complete); break;
    case HTTP1_BODY_UNTIL_CLOSE:
        used = (ptrdiff_t)bytes.len;
        buffer_append_slice(out, bytes);
        break;
    }
    if (used >= 0 && exchange->upstream)
        exchange->upstream->meter.bytes_in += (uint64_t)used;
    return buffer_error(out) < 0 ? buffer_error(out) : used;
}

/* --- client → upstream --- */

static bool body_refused(struct exchange *exchange, ptrdiff_t error) {
    exchange->keep_alive = false;
    if (error == -EBADMSG) {
        exchange->client->proxy->stats.malformed++;
        exchange_fail(exchange, 400, "the chunked body is malformed");
    } else {
        exchange->doomed = true;
    }
    return true;
}

static bool request_take_input(struct exchange *exchange) {
    ptrdiff_t used = relay_take_body(exchange, slice_head(buffer_slice(&exchange->input), PROXY_BUFFER_BYTES));
    if (used < 0)
        return body_refused(exchange, used);
    buffer_consume(&exchange->input, (size_t)used);
    if (exchange->input.len == 0 && exchange->input.capacity > BUFFER_KEPT_BYTES)
        buffer_release(&exchange->input);
    return used > 0;
}

/* The end of the client's stream, in order or not. */
static bool request_end(struct exchange *exchange, bool in_order) {
    if (exchange->tunnel && in_order)
        exchange->request_complete = true;
    else
        exchange->doomed = true;
    return true;
}

/* Reads more of the body; everything read before has been sent. */
static bool request_fill(struct exchange *exchange) {
    struct client *client = exchange->client;
    if (exchange->input.len > 0)
        return request_take_input(exchange);
    if (!client->readable)
        return false;
    if (exchange->tunnel || exchange->request.len >= PROXY_BUFFER_BYTES) {
        exchange->replayable = false;
        exchange->request_sent = 0;
        buffer_reset(&exchange->request);
    }
    char *scratch = client->proxy->scratch;
    ssize_t len = recv(client->fd, scratch, PROXY_BUFFER_BYTES, 0);
    if (len < 0 && errno == EAGAIN) {
        client->readable = false;
        return false;
    }
    if (len <= 0)
        return request_end(exchange, len == 0);
    if ((size_t)len < PROXY_BUFFER_BYTES && !client->hangup)
        client->readable = false;
    ptrdiff_t used = relay_take_body(exchange, slice_make(scratch, (size_t)len));
    if (used < 0)
        return body_refused(exchange, used);
    if (used < len && buffer_append_slice(&exchange->input, slice_make(scratch + used, (size_t)(len - used))) < 0)
        exchange->doomed = true;
    return true;
}

static bool request_flush(struct exchange *exchange) {
    struct link *link = exchange->link;
    ssize_t len = send(link->fd, exchange->request.data + exchange->request_sent, exchange->request.len - exchange->request_sent, MSG_NOSIGNAL);
    if (len >= 0) {
        link->connected = true;
        exchange->request_sent += (size_t)len;
        if (exchange->request_sent < exchange->request.len)
            link->writable = false;
        return true;
    }
    if (errno == EAGAIN) {
        link->writable = false;
        return false;
    }
    if (!link->connected || (exchange->replayable && exchange->request_sent == 0)) {
        exchange_attempt_broke(exchange, false);
    } else {
        exchange->request_broken = true; /* it wants no more of the request; an answer may still be there to read */
        link->readable = true;
    }
    return true;
}

bool relay_request(struct exchange *exchange) {
    bool moved = false;
    if (exchange->link && exchange->link->connected && exchange->request_sent == exchange->request.len && !exchange->request_complete &&
        !exchange->request_broken && (exchange->tunnel || !exchange->response_complete))
        moved = request_fill(exchange);
    if (exchange->link && exchange->link->writable && exchange->request_sent < exchange->request.len && !exchange->request_broken)
        moved |= request_flush(exchange);
    if (exchange->tunnel && exchange->link && !exchange->request_shut &&
        ((exchange->request_complete && exchange->request_sent == exchange->request.len) || exchange->request_broken)) {
        shutdown(exchange->link->fd, SHUT_WR);
        exchange->request_shut = true;
        moved = true;
    }
    return moved;
}

/* --- upstream → client --- */

/* Reads from the upstream into `to`. 0: nothing now, or the end (*ret_end) in order (0) or not (-errno). */
static size_t link_read(struct link *link, char *to, size_t size, bool *ret_end, int *ret_error) {
    *ret_end = false;
    *ret_error = 0;
    ssize_t len = recv(link->fd, to, size, 0);
    if (len > 0) {
        link->connected = true;
        if ((size_t)len < size && !link->hangup)
            link->readable = false;
        return (size_t)len;
    }
    if (len < 0 && errno == EAGAIN) {
        link->readable = false;
        return 0;
    }
    *ret_end = true;
    *ret_error = len < 0 ? -errno : 0;
    return 0;
}

static void response_done(struct exchange *exchange) {
    exchange->response_complete = true;
}

/* Body bytes behind the head, or read into the scratch. */
static void response_take_body(struct exchange *exchange, struct slice bytes) {
    struct buffer *out = &exchange->response;
    if (bytes.len == 0)
        return;
    switch ((enum http1_framing)exchange->response_framing) {
    case HTTP1_BODY_NONE:
        exchange->upstream_reusable = false; /* it sent what nobody asked for */
        break;
    case HTTP1_BODY_LENGTH:
        if (bytes.len > exchange->response_left)
            exchange->upstream_reusable = false;
        bytes = slice_head(bytes, MIN(bytes.len, exchange->response_left));
        exchange->response_left -= bytes.len;
        buffer_append_slice(out, bytes);
        if (exchange->response_left == 0)
            response_done(exchange);
        break;
    case HTTP1_BODY_CHUNKED: {
        bool done;
        ptrdiff_t used = chunked_take(&exchange->response_chunked, bytes, exchange->response_chunks, out, &done);
        if (used < 0)
            exchange->doomed = true;
        else if (done) {
            exchange->upstream_reusable &= (size_t)used == bytes.len;
            response_done(exchange);
        }
        break;
    }
    case HTTP1_BODY_UNTIL_CLOSE:
        if (exchange->response_chunks)
            chunk_append(out, bytes);
        else
            buffer_append_slice(out, bytes);
        break;
    }
    if (buffer_error(out) < 0)
        exchange->doomed = true;
}

static void tunnel_begin(struct exchange *exchange) {
    exchange->tunnel = true;
    exchange->keep_alive = false;
    exchange->request_framing = exchange->response_framing = HTTP1_BODY_UNTIL_CLOSE;
    exchange->request_complete = false;
    exchange->replayable = false;
    exchange->upstream_reusable = false;
}

/* 1xx: passed on to clients that know them; 101 makes a tunnel. */
static void response_interim(struct exchange *exchange, const struct http1_head *head) {
    struct head_response response = {.connection = HEAD_CONNECTION_NONE};
    if (head->status == 101) {
        if (!exchange->upgrade) {
            exchange_fail(exchange, 502, "%s switched protocols unasked", exchange->upstream->name);
            return;
        }
        response.connection = HEAD_CONNECTION_UPGRADE;
        exchange->status = 101;
        exchange->response_started = true;
        tunnel_begin(exchange);
    }
    if (!exchange->old_client)
        head_write_response(&exchange->response, head, &response);
}

static void response_head(struct exchange *exchange, const struct http1_head *head) {
    enum http1_framing framing = http1_response_framing(head, exchange->head_request);
    bool endless = framing == HTTP1_BODY_CHUNKED || framing == HTTP1_BODY_UNTIL_CLOSE;
    exchange->status = head->status;
    exchange->response_started = true;
    exchange->response_framing = (uint8_t)framing;
    exchange->response_left = framing == HTTP1_BODY_LENGTH ? head->content_length : 0;
    exchange->response_chunks = endless && !exchange->old_client;
    exchange->upstream_reusable = head->keep_alive && framing != HTTP1_BODY_UNTIL_CLOSE;
    if (!exchange->request_complete || exchange->client->proxy->draining || (endless && exchange->old_client))
        exchange->keep_alive = false;
    const struct head_response response = {
        .connection = !exchange->keep_alive  ? HEAD_CONNECTION_CLOSE
                      : exchange->old_client ? HEAD_CONNECTION_KEEP_ALIVE
                                             : HEAD_CONNECTION_NONE,
        .chunked = exchange->response_chunks,
        .content_length = !endless,
    };
    if (head_write_response(&exchange->response, head, &response) < 0)
        exchange->doomed = true;
    if (framing == HTTP1_BODY_NONE || (framing == HTTP1_BODY_LENGTH && exchange->response_left == 0))
        response_done(exchange);
}

/* Takes heads off the bytes; what follows the final one is body. Returns false when more bytes are needed: then *rest is what is left of a partial
 * head. */
static bool response_take_heads(struct exchange *exchange, struct slice *rest) {
    struct http1_field fields[HTTP_HEADERS_MAX];
    while (!exchange->response_started && rest->len > 0) {
        struct http1_head head;
        struct http1_error error;
        enum http1_result result = http1_parse_response(&exchange->response_scan, *rest, fields, &head, &error);
        if (result == HTTP1_MORE)
            return false;
        if (result == HTTP1_BAD) {
            exchange_fail(exchange, 502, "%s answered with something that is no HTTP/1.1: %s", exchange->upstream->name, error.reason);
            return true;
        }
        exchange->response_scan = (struct http1_scan){0};
        if (head.status < 200)
            response_interim(exchange, &head);
        else
            response_head(exchange, &head);
        *rest = slice_from(*rest, head.bytes);
    }
    return true;
}

static bool response_fill_head(struct exchange *exchange) {
    struct link *link = exchange->link;
    struct proxy *proxy = exchange->client->proxy;
    bool end;
    int error;
    size_t len = link_read(link, proxy->scratch, sizeof proxy->scratch, &end, &error);
    if (len == 0) {
        if (end)
            exchange_attempt_broke(exchange, false);
        return end;
    }
    exchange->answered = true;
    struct slice bytes = slice_make(proxy->scratch, len);
    bool buffered = exchange->response_input.len > 0;
    if (buffered) {
        if (buffer_append_slice(&exchange->response_input, bytes) < 0) {
            exchange->doomed = true;
            return true;
        }
        bytes = buffer_slice(&exchange->response_input);
    }
    struct slice rest = bytes;
    bool complete = response_take_heads(exchange, &rest);
    if (exchange->doomed || !exchange->link)
        return true; /* a page was written instead */
    if (complete && exchange->response_started)
        response_take_body(exchange, rest);
    if (buffered)
        buffer_consume(&exchange->response_input, complete ? bytes.len : bytes.len - rest.len);
    else if (!complete && buffer_append_slice(&exchange->response_input, rest) < 0)
        exchange->doomed = true;
    return true;
}

/* The upstream's stream ended while a body was expected. */
static void response_end(struct exchange *exchange, int error) {
    if (exchange->tunnel) {
        response_done(exchange);
        exchange->request_broken |= error < 0;
    } else if (exchange->response_framing == HTTP1_BODY_UNTIL_CLOSE && error == 0) {
        if (exchange->response_chunks)
            buffer_append_slice(&exchange->response, SLICE("0\r\n\r\n"));
        response_done(exchange);
    } else {
        exchange->doomed = true; /* cut short: the client must see that too */
    }
}

/* A body with a length or without any framing: straight into the buffer. One byte more than is left is asked for, so that a full read still tells an
 * emptied socket. */
static bool response_fill_plain(struct exchange *exchange) {
    struct buffer *out = &exchange->response;
    bool counted = exchange->response_framing == HTTP1_BODY_LENGTH;
    size_t size = counted ? (size_t)MIN((uint64_t)PROXY_BUFFER_BYTES, exchange->response_left + 1) : PROXY_BUFFER_BYTES;
    if (buffer_reserve(out, size) < 0) {
        exchange->doomed = true;
        return true;
    }
    bool end;
    int error;
    size_t len = link_read(exchange->link, out->data + out->len, size, &end, &error);
    if (end)
        response_end(exchange, error);
    if (len == 0)
        return end;
    if (counted && len > exchange->response_left) {
        len = (size_t)exchange->response_left;
        exchange->upstream_reusable = false;
    }
    buffer_commit(out, len);
    exchange->response_left -= counted ? len : 0;
    if (counted && exchange->response_left == 0)
        response_done(exchange);
    return true;
}

static bool response_fill_framed(struct exchange *exchange) {
    char *scratch = exchange->client->proxy->scratch;
    bool end;
    int error;
    size_t len = link_read(exchange->link, scratch, PROXY_BUFFER_BYTES, &end, &error);
    if (end)
        response_end(exchange, error);
    else
        response_take_body(exchange, slice_make(scratch, len));
    return end || len > 0;
}

static bool response_fill(struct exchange *exchange) {
    exchange->response_sent = 0;
    buffer_reset(&exchange->response);
    if (!exchange->response_started)
        return response_fill_head(exchange);
    if (exchange->response_framing == HTTP1_BODY_LENGTH || (exchange->response_framing == HTTP1_BODY_UNTIL_CLOSE && !exchange->response_chunks))
        return response_fill_plain(exchange);
    return response_fill_framed(exchange);
}

static bool response_flush(struct exchange *exchange) {
    struct client *client = exchange->client;
    ssize_t len = send(client->fd, exchange->response.data + exchange->response_sent, exchange->response.len - exchange->response_sent, MSG_NOSIGNAL);
    if (len < 0 && errno == EAGAIN) {
        client->writable = false;
        return false;
    }
    if (len < 0) {
        exchange->doomed = true;
        return true;
    }
    exchange->response_sent += (size_t)len;
    if (exchange->upstream)
        exchange->upstream->meter.bytes_out += (uint64_t)len;
    if (exchange->response_sent < exchange->response.len)
        client->writable = false;
    return true;
}

bool relay_response(struct exchange *exchange) {
    bool moved = false;
    if (exchange->link && exchange->link->readable && exchange->link->connected && !exchange->response_complete &&
        exchange->response_sent == exchange->response.len)
        moved = response_fill(exchange);
    if (exchange->client->writable && exchange->response_sent < exchange->response.len && !exchange->doomed)
        moved |= response_flush(exchange);
    if (exchange->tunnel && exchange->response_complete && !exchange->response_shut && exchange->response_sent == exchange->response.len) {
        shutdown(exchange->client->fd, SHUT_WR);
        exchange->response_shut = true;
        moved = true;
    }
    return moved;
}
