/* SPDY/3.1 (the draft of 2013): frames, streams, windows, header blocks packed by one zlib stream per direction.
 *
 * Frames: eight bytes of head, then the payload. Control: 1 | version 3 | type | flags | length; data: 0 | stream | flags | length. Data is handed
 * out in pieces as it comes; a control frame is collected first.
 *
 * Invariants
 *  1. Every header block is unpacked, even of a stream that is refused: the zlib stream goes on through all of them.
 *  2. A stream has a slot until both directions are closed or either side reset it; bytes that wait for a window count as open.
 *  3. After an error nothing is read any more, and the output ends with GOAWAY.
 *
 * Windows. The only client left, the one in kubectl, neither grants windows nor minds ours: it would wait forever for output beyond 64 KiB if we
 * obeyed to the letter. So the peer's windows bind us from its first WINDOW_UPDATE or SETTINGS_INITIAL_WINDOW_SIZE on (all bytes since the start are
 * counted), the connection's from its first update of stream 0. Ours are granted again as bytes are handed out; who cannot take more stops calling
 * spdy_step, and TCP does the rest. */
#include "codec/spdy.h"

#include <zlib.h>

#include "codec/spdy_priv.h"

#define HEAD_BYTES 8
#define CONTROL_BYTES_MAX (SPDY_HEADER_BYTES_MAX + 1 * KIB)
#define DATA_BYTES (32 * KIB) /* of a frame that we send */
#define WINDOW_BYTES (64 * KIB)
#define WINDOW_MAX INT32_MAX
#define GRANT_BYTES (WINDOW_BYTES / 2)
#define SETTING_INITIAL_WINDOW 7
#define FLAG_LAST 1
#define FLAG_UNIDIRECTIONAL 2

enum frame_type { SYN_STREAM = 1, SYN_REPLY = 2, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, HEADERS = 8, WINDOW_UPDATE = 9 };

struct stream {
    uint32_t id; /* 0: a free slot */
    bool in_open, out_open;
    bool end_waits; /* our end comes after what waits */
    int64_t window;
    size_t ungranted;
    struct buffer waiting;
};

struct spdy {
    bool is_server, failed, has_windows, has_connection_window;
    struct stream *streams;
    size_t streams_max;
    uint32_t next_id, last_peer_id;
    int64_t initial_window, window;
    size_t ungranted;
    /* the frame being read */
    uint8_t head[HEAD_BYTES];
    size_t head_len;
    uint32_t left; /* of its payload */
    struct buffer control;
    z_stream inflater, deflater;
    struct buffer plain;
    struct spdy_header headers[SPDY_HEADERS_MAX];
    size_t header_count;
    struct buffer out;
};

static uint32_t read_u32(const void *bytes) {
    const uint8_t *at = bytes;
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void append_u32(struct buffer *out, uint32_t value) {
    const char bytes[4] = {(char)(value >> 24), (char)(value >> 16), (char)(value >> 8), (char)value};
    buffer_append(out, bytes, sizeof bytes);
}

static struct stream *find(const struct spdy *spdy, uint32_t id) {
    for (size_t i = 0; id && i < spdy->streams_max; i++)
        if (spdy->streams[i].id == id)
            return &spdy->streams[i];
    return NULL;
}

static struct stream *stream_add(struct spdy *spdy, uint32_t id) {
    for (size_t i = 0; i < spdy->streams_max; i++) {
        struct stream *stream = &spdy->streams[i];
        if (stream->id)
            continue;
        *stream = (struct stream){.id = id, .in_open = true, .out_open = true, .window = spdy->initial_window};
        buffer_init(&stream->waiting, SPDY_WAITING_BYTES_MAX);
        return stream;
    }
    return NULL;
}

static void stream_remove(struct stream *stream) {
    buffer_deinit(&stream->waiting);
    stream->id = 0;
}

static void remove_if_done(struct stream *stream) {
    if (!stream->in_open && !stream->out_open)
        stream_remove(stream);
}

int spdy_new(bool is_server, size_t streams_max, struct spdy **ret) {
    struct spdy *spdy = calloc(1, sizeof *spdy);
    if (!spdy)
        return -ENOMEM;
    *spdy = (struct spdy){
        .is_server = is_server, .streams_max = streams_max, .next_id = is_server ? 2 : 1, .initial_window = WINDOW_BYTES, .window = WINDOW_BYTES};
    buffer_init(&spdy->control, CONTROL_BYTES_MAX);
    buffer_init(&spdy->plain, SPDY_HEADER_BYTES_MAX);
    buffer_init(&spdy->out, SPDY_OUTPUT_BYTES_MAX);
    spdy->streams = calloc(streams_max, sizeof *spdy->streams);
    bool in = inflateInit(&spdy->inflater) == Z_OK;
    /* A small window and state: our blocks are a few bytes, and the dictionary fits. */
    bool out = deflateInit2(&spdy->deflater, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 11, 1, Z_DEFAULT_STRATEGY) == Z_OK;
    if (!spdy->streams || !in || !out || deflateSetDictionary(&spdy->deflater, (const Bytef *)spdy_dictionary, SPDY_DICTIONARY_BYTES) != Z_OK) {
        spdy_free(spdy);
        return -ENOMEM;
    }
    *ret = spdy;
    return 0;
}

void spdy_free(struct spdy *spdy) {
    if (!spdy)
        return;
    for (size_t i = 0; spdy->streams && i < spdy->streams_max; i++)
        if (spdy->streams[i].id)
            stream_remove(&spdy->streams[i]);
    inflateEnd(&spdy->inflater);
    deflateEnd(&spdy->deflater);
    buffer_deinit(&spdy->control);
    buffer_deinit(&spdy->plain);
    buffer_deinit(&spdy->out);
    free(spdy->streams);
    free(spdy);
}

/* --- writing frames --- */

static void append_head(struct buffer *out, uint32_t first, unsigned flags, size_t length) {
    append_u32(out, first);
    append_u32(out, (uint32_t)(flags << 24 | length));
}

static void append_control(struct spdy *spdy, enum frame_type type, unsigned flags, size_t length) {
    append_head(&spdy->out, 0x80030000u | type, flags, length);
}

static void append_pair(struct spdy *spdy, enum frame_type type, uint32_t first, uint32_t second) {
    append_control(spdy, type, 0, 8);
    append_u32(&spdy->out, first);
    append_u32(&spdy->out, second);
}

/* Packs the headers. */
static int pack(struct spdy *spdy, const struct spdy_header *headers, size_t count, struct buffer *out) {
    CLEANUP(buffer_deinit) struct buffer plain = BUFFER_INIT(SPDY_HEADER_BYTES_MAX);
    append_u32(&plain, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        append_u32(&plain, (uint32_t)headers[i].name.len);
        buffer_append_slice(&plain, headers[i].name);
        append_u32(&plain, (uint32_t)headers[i].value.len);
        buffer_append_slice(&plain, headers[i].value);
    }
    size_t bound = deflateBound(&spdy->deflater, plain.len) + 64; /* and the flush's empty block */
    if (buffer_error(&plain) || buffer_reserve(out, bound) < 0)
        return -ENOMEM;
    spdy->deflater.next_in = (Bytef *)plain.data;
    spdy->deflater.avail_in = (uInt)plain.len;
    spdy->deflater.next_out = (Bytef *)out->data + out->len;
    spdy->deflater.avail_out = (uInt)bound;
    int r = deflate(&spdy->deflater, Z_SYNC_FLUSH);
    ASSERT(r == Z_OK && spdy->deflater.avail_in == 0 && spdy->deflater.avail_out > 0);
    buffer_commit(out, bound - spdy->deflater.avail_out);
    return 0;
}

static int append_headers(struct spdy *spdy, enum frame_type type, uint32_t id, const struct spdy_header *headers, size_t count, bool is_last) {
    CLEANUP(buffer_deinit) struct buffer block = BUFFER_INIT(2 * SPDY_HEADER_BYTES_MAX);
    int r = pack(spdy, headers, count, &block);
    if (r < 0)
        return spdy->out.error = r; /* the zlib stream may have moved on without the peer: no frame may follow */
    append_control(spdy, type, is_last ? FLAG_LAST : 0, block.len + (type == SYN_STREAM ? 10 : 4));
    append_u32(&spdy->out, id);
    if (type == SYN_STREAM)
        buffer_append(&spdy->out, "\0\0\0\0\0\0", 6); /* no associated stream, highest priority */
    return buffer_append_slice(&spdy->out, buffer_slice(&block));
}

int spdy_output(const struct spdy *spdy, struct slice *ret) {
    *ret = buffer_slice(&spdy->out);
    return buffer_error(&spdy->out);
}

void spdy_output_sent(struct spdy *spdy) {
    buffer_reset(&spdy->out);
    buffer_release(&spdy->out);
}

/* --- sending --- */

int spdy_open(struct spdy *spdy, const struct spdy_header *headers, size_t count, bool is_last, uint32_t *ret_stream) {
    struct stream *stream = stream_add(spdy, spdy->next_id);
    if (!stream)
        return -ENOBUFS;
    spdy->next_id += 2;
    stream->out_open = !is_last;
    *ret_stream = stream->id;
    return append_headers(spdy, SYN_STREAM, stream->id, headers, count, is_last);
}

void spdy_reply(struct spdy *spdy, uint32_t id) {
    if (find(spdy, id))
        append_headers(spdy, SYN_REPLY, id, NULL, 0, false);
}

static size_t room(const struct spdy *spdy, const struct stream *stream) {
    int64_t bytes = spdy->has_windows ? stream->window : INT64_MAX;
    if (spdy->has_connection_window)
        bytes = MIN(bytes, spdy->window);
    return bytes > 0 ? (size_t)bytes : 0;
}

static void append_data(struct spdy *spdy, struct stream *stream, struct slice bytes, bool is_last) {
    do {
        struct slice piece = slice_head(bytes, DATA_BYTES);
        bytes = slice_from(bytes, piece.len);
        append_head(&spdy->out, stream->id, is_last && bytes.len == 0 ? FLAG_LAST : 0, piece.len);
        buffer_append_slice(&spdy->out, piece);
        stream->window -= (int64_t)piece.len;
        spdy->window -= (int64_t)piece.len;
    } while (bytes.len > 0);
    if (is_last)
        stream->out_open = false;
}

int spdy_send(struct spdy *spdy, uint32_t id, struct slice bytes, bool is_last) {
    struct stream *stream = find(spdy, id);
    if (!stream || !stream->out_open || stream->end_waits)
        return -EPIPE;
    size_t now = stream->waiting.len ? 0 : MIN(room(spdy, stream), bytes.len);
    if (stream->waiting.len + bytes.len - now > SPDY_WAITING_BYTES_MAX)
        return -ENOBUFS;
    bool all = now == bytes.len && stream->waiting.len == 0;
    if (now > 0 || (all && is_last))
        append_data(spdy, stream, slice_head(bytes, now), all && is_last);
    stream->end_waits = is_last && !all;
    if (!all && buffer_append_slice(&stream->waiting, slice_from(bytes, now)) < 0)
        return spdy->out.error = -ENOMEM;
    remove_if_done(stream);
    return buffer_error(&spdy->out);
}

static void send_waiting(struct spdy *spdy, struct stream *stream) {
    size_t now = MIN(room(spdy, stream), stream->waiting.len);
    if (now == 0)
        return;
    append_data(spdy, stream, slice_head(buffer_slice(&stream->waiting), now), stream->end_waits && now == stream->waiting.len);
    buffer_consume(&stream->waiting, now);
    remove_if_done(stream);
}

static void send_all_waiting(struct spdy *spdy) {
    for (size_t i = 0; i < spdy->streams_max; i++)
        if (spdy->streams[i].id)
            send_waiting(spdy, &spdy->streams[i]);
}

size_t spdy_waiting(const struct spdy *spdy) {
    size_t bytes = 0;
    for (size_t i = 0; i < spdy->streams_max; i++)
        bytes += spdy->streams[i].id ? spdy->streams[i].waiting.len : 0;
    return bytes;
}

void spdy_reset(struct spdy *spdy, uint32_t id, enum spdy_status status) {
    struct stream *stream = find(spdy, id);
    append_pair(spdy, RST_STREAM, id, status);
    if (stream)
        stream_remove(stream);
}

void spdy_goaway(struct spdy *spdy) {
    append_pair(spdy, GOAWAY, spdy->last_peer_id, 0);
}

/* --- header blocks --- */

static int unpack(struct spdy *spdy, struct slice block) {
    char piece[4 * KIB];
    z_stream *zlib = &spdy->inflater;
    zlib->next_in = (Bytef *)(uintptr_t)block.data;
    zlib->avail_in = (uInt)block.len;
    buffer_reset(&spdy->plain);
    for (;;) {
        zlib->next_out = (Bytef *)piece;
        zlib->avail_out = sizeof piece;
        int r = inflate(zlib, Z_SYNC_FLUSH);
        if (r == Z_NEED_DICT)
            r = inflateSetDictionary(zlib, (const Bytef *)spdy_dictionary, SPDY_DICTIONARY_BYTES);
        else if (r == Z_BUF_ERROR)
            return 0; /* nothing left to read and nothing to write */
        if (r != Z_OK)
            return -EBADMSG;
        if (buffer_append(&spdy->plain, piece, sizeof piece - zlib->avail_out) < 0)
            return buffer_error(&spdy->plain);
    }
}

static bool take_text(struct slice *rest, struct slice *ret) {
    if (rest->len < 4 || read_u32(rest->data) > rest->len - 4)
        return false;
    *ret = slice_make(rest->data + 4, read_u32(rest->data));
    *rest = slice_from(*rest, 4 + ret->len);
    return true;
}

/* block → spdy->headers; false when it is none. */
static bool read_headers(struct spdy *spdy, struct slice block) {
    spdy->header_count = 0;
    if (unpack(spdy, block) < 0 || spdy->plain.len < 4)
        return false;
    struct slice rest = buffer_slice(&spdy->plain);
    uint32_t count = read_u32(rest.data);
    rest = slice_from(rest, 4);
    if (count > SPDY_HEADERS_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct spdy_header *header = &spdy->headers[i];
        if (!take_text(&rest, &header->name) || !take_text(&rest, &header->value) || header->name.len == 0)
            return false;
    }
    spdy->header_count = count;
    return rest.len == 0;
}

struct slice spdy_event_header(const struct spdy_event *event, const char *name) {
    for (size_t i = 0; i < event->header_count; i++)
        if (slice_is(event->headers[i].name, name))
            return event->headers[i].value;
    return (struct slice){0};
}

/* --- reading frames: each returns false when the connection must end --- */

static void set_event(const struct spdy *spdy, struct spdy_event *ret, enum spdy_event_type type, uint32_t stream) {
    *ret = (struct spdy_event){.type = type, .stream = stream, .headers = spdy->headers, .header_count = spdy->header_count};
}

static bool read_syn_stream(struct spdy *spdy, unsigned flags, struct slice payload, struct spdy_event *ret) {
    if (payload.len < 10 || !read_headers(spdy, slice_from(payload, 10)))
        return false;
    uint32_t id = read_u32(payload.data) & INT32_MAX;
    if (id <= spdy->last_peer_id || id % 2 != (spdy->is_server ? 1 : 0))
        return false;
    spdy->last_peer_id = id;
    struct stream *stream = stream_add(spdy, id);
    if (!stream) {
        spdy_reset(spdy, id, SPDY_REFUSED_STREAM);
        return true;
    }
    stream->in_open = !(flags & FLAG_LAST);
    stream->out_open = !(flags & FLAG_UNIDIRECTIONAL);
    set_event(spdy, ret, SPDY_EVENT_OPEN, id);
    ret->is_last = !stream->in_open;
    remove_if_done(stream);
    return true;
}

static bool read_syn_reply(struct spdy *spdy, unsigned flags, struct slice payload, struct spdy_event *ret) {
    if (payload.len < 4 || !read_headers(spdy, slice_from(payload, 4)))
        return false;
    struct stream *stream = find(spdy, read_u32(payload.data) & INT32_MAX);
    if (!stream)
        return true;
    set_event(spdy, ret, SPDY_EVENT_REPLY, stream->id);
    ret->is_last = flags & FLAG_LAST;
    stream->in_open = stream->in_open && !ret->is_last;
    remove_if_done(stream);
    return true;
}

static bool read_reset(struct spdy *spdy, __attribute__((unused)) unsigned flags, struct slice payload, struct spdy_event *ret) {
    if (payload.len != 8)
        return false;
    struct stream *stream = find(spdy, read_u32(payload.data) & INT32_MAX);
    if (!stream)
        return true;
    set_event(spdy, ret, SPDY_EVENT_RESET, stream->id);
    ret->status = read_u32(payload.data + 4);
    stream_remove(stream);
    return true;
}

static bool read_settings(struct spdy *spdy, __attribute__((unused)) unsigned flags, struct slice payload,
                          __attribute__((unused)) struct spdy_event *ret) {
    if (payload.len < 4 || (payload.len - 4) % 8 != 0 || read_u32(payload.data) != (payload.len - 4) / 8)
        return false;
    for (struct slice rest = slice_from(payload, 4); rest.len > 0; rest = slice_from(rest, 8)) {
        int64_t value = read_u32(rest.data + 4);
        if ((read_u32(rest.data) & 0xffffff) != SETTING_INITIAL_WINDOW)
            continue;
        if (value > WINDOW_MAX)
            return false;
        spdy->has_windows = true;
        for (size_t i = 0; i < spdy->streams_max; i++)
            spdy->streams[i].window += value - spdy->initial_window;
        spdy->initial_window = value;
        send_all_waiting(spdy);
    }
    return true;
}

static bool read_ping(struct spdy *spdy, __attribute__((unused)) unsigned flags, struct slice payload,
                      __attribute__((unused)) struct spdy_event *ret) {
    if (payload.len != 4)
        return false;
    uint32_t id = read_u32(payload.data);
    if (id % 2 == (spdy->is_server ? 1 : 0)) { /* the peer's, not the answer to one of ours */
        append_control(spdy, PING, 0, 4);
        append_u32(&spdy->out, id);
    }
    return true;
}

static bool read_goaway(struct spdy *spdy, __attribute__((unused)) unsigned flags, struct slice payload, struct spdy_event *ret) {
    if (payload.len != 8)
        return false;
    set_event(spdy, ret, SPDY_EVENT_GOAWAY, 0);
    ret->status = read_u32(payload.data + 4);
    return true;
}

/* Later headers of a stream mean nothing here. */
static bool read_more_headers(struct spdy *spdy, __attribute__((unused)) unsigned flags, struct slice payload,
                              __attribute__((unused)) struct spdy_event *ret) {
    return payload.len >= 4 && read_headers(spdy, slice_from(payload, 4));
}

static bool read_window(struct spdy *spdy, __attribute__((unused)) unsigned flags, struct slice payload, struct spdy_event *ret) {
    if (payload.len != 8)
        return false;
    uint32_t id = read_u32(payload.data) & INT32_MAX, delta = read_u32(payload.data + 4) & INT32_MAX;
    struct stream *stream = find(spdy, id);
    if (delta == 0)
        return false;
    if (id == 0) {
        spdy->has_connection_window = true;
        spdy->window += delta;
        if (spdy->window > WINDOW_MAX)
            return false;
        send_all_waiting(spdy);
    } else if (stream) {
        spdy->has_windows = true;
        stream->window += delta;
        if (stream->window > WINDOW_MAX) {
            set_event(spdy, ret, SPDY_EVENT_RESET, id);
            ret->status = SPDY_FLOW_CONTROL_ERROR;
            spdy_reset(spdy, id, SPDY_FLOW_CONTROL_ERROR);
        } else {
            send_waiting(spdy, stream);
        }
    }
    return true;
}

typedef bool read_fn(struct spdy *spdy, unsigned flags, struct slice payload, struct spdy_event *ret);
static read_fn *const readers[] = {
    [SYN_STREAM] = read_syn_stream, [SYN_REPLY] = read_syn_reply,  [RST_STREAM] = read_reset,    [SETTINGS] = read_settings, [PING] = read_ping,
    [GOAWAY] = read_goaway,         [HEADERS] = read_more_headers, [WINDOW_UPDATE] = read_window};

static void fail(struct spdy *spdy, struct spdy_event *ret) {
    append_pair(spdy, GOAWAY, spdy->last_peer_id, SPDY_PROTOCOL_ERROR);
    spdy->failed = true;
    *ret = (struct spdy_event){.type = SPDY_EVENT_ERROR};
}

static bool is_control(const struct spdy *spdy) {
    return spdy->head[0] & 0x80;
}

/* The whole payload is there. */
static bool read_control(struct spdy *spdy, struct spdy_event *ret) {
    unsigned type = (unsigned)spdy->head[2] << 8 | spdy->head[3];
    read_fn *read = type < ARRAY_LEN(readers) ? readers[type] : NULL; /* others are to be passed over */
    spdy->header_count = 0;
    bool good = !read || read(spdy, spdy->head[4], buffer_slice(&spdy->control), ret);
    buffer_reset(&spdy->control);
    return good;
}

static void grant(struct spdy *spdy, uint32_t id, size_t *ungranted, size_t more) {
    *ungranted += more;
    if (*ungranted < GRANT_BYTES)
        return;
    append_pair(spdy, WINDOW_UPDATE, id, (uint32_t)*ungranted);
    *ungranted = 0;
}

/* A piece of a data frame; the last one may carry the end of the stream. */
static void read_data(struct spdy *spdy, struct slice piece, struct spdy_event *ret) {
    uint32_t id = read_u32(spdy->head) & INT32_MAX;
    struct stream *stream = find(spdy, id);
    spdy->header_count = 0;
    bool is_last = spdy->left == 0 && (spdy->head[4] & FLAG_LAST);
    if (piece.len)
        grant(spdy, 0, &spdy->ungranted, piece.len);
    if (!stream || !stream->in_open) {
        if (spdy->left == 0 && !stream && id > spdy->last_peer_id)
            spdy_reset(spdy, id, SPDY_INVALID_STREAM); /* of a stream that is gone it may have been on its way */
        return;
    }
    if (piece.len == 0 && !is_last)
        return;
    set_event(spdy, ret, SPDY_EVENT_DATA, id);
    ret->payload = piece;
    ret->is_last = is_last;
    if (is_last)
        stream->in_open = false;
    else
        grant(spdy, id, &stream->ungranted, piece.len);
    remove_if_done(stream);
}

/* Takes bytes into the head; true once it is whole and allowed, with `left` set. */
static bool read_head(struct spdy *spdy, struct slice *input, struct spdy_event *ret) {
    size_t n = MIN(HEAD_BYTES - spdy->head_len, input->len);
    memcpy(spdy->head + spdy->head_len, input->data, n);
    spdy->head_len += n;
    *input = slice_from(*input, n);
    if (spdy->head_len < HEAD_BYTES)
        return false;
    spdy->left = read_u32(spdy->head + 4) & 0xffffff;
    bool is_version_3 = spdy->head[0] == 0x80 && spdy->head[1] == 3;
    if (spdy->left > (is_control(spdy) ? CONTROL_BYTES_MAX : SPDY_FRAME_BYTES_MAX) || (is_control(spdy) && !is_version_3)) {
        fail(spdy, ret);
        return false;
    }
    return true;
}

void spdy_step(struct spdy *spdy, struct slice input, size_t *ret_used, struct spdy_event *ret) {
    struct slice rest = input;
    *ret = (struct spdy_event){.type = SPDY_EVENT_NONE};
    while (!spdy->failed && rest.len > 0 && ret->type == SPDY_EVENT_NONE) {
        if (spdy->head_len < HEAD_BYTES && !read_head(spdy, &rest, ret))
            continue;
        struct slice piece = slice_head(rest, spdy->left);
        rest = slice_from(rest, piece.len);
        spdy->left -= (uint32_t)piece.len;
        if (spdy->left == 0)
            spdy->head_len = 0;
        if (!is_control(spdy))
            read_data(spdy, piece, ret);
        else if (buffer_append_slice(&spdy->control, piece) < 0 || (spdy->left == 0 && !read_control(spdy, ret)))
            fail(spdy, ret);
    }
    *ret_used = spdy->failed ? input.len : input.len - rest.len;
}
