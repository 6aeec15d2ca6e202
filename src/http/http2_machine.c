/* HTTP/2 by nghttp2 over memory. What a server may make us keep is bounded: fields by HTTP_HEADERS_MAX and the arena, the body by its maximum and by
 * the window of 64 KiB that is opened again only as it is taken; nghttp2 bounds the rest (frames, settings, header tables). Pushes are refused. */
#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "codec/codec.h"
#include "http/http2_priv.h"

#define REQUEST_FIELDS_MAX 64

static void fail(struct http2_machine *machine, int error) {
    if (machine->is_complete)
        return;
    machine->error = error;
    machine->is_complete = true;
}

static int on_header(__attribute__((unused)) nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, __attribute__((unused)) uint8_t flags, void *userdata) {
    struct http2_machine *machine = userdata;
    struct slice key = slice_make(name, name_len), text = slice_make(value, value_len);
    uint64_t status;
    if (frame->hd.stream_id != machine->stream)
        return 0;
    if (slice_is(key, ":status")) {
        machine->status = slice_parse_u64(text, 999, &status) == 0 ? (int)status : 0;
        return 0;
    }
    char *own_key = arena_dup(machine->arena, key), *own_text = arena_dup(machine->arena, text);
    if (!own_key || !own_text || machine->fields_count == ARRAY_LEN(machine->fields)) {
        fail(machine, -EMSGSIZE);
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    machine->fields[machine->fields_count].name = slice_make(own_key, name_len);
    machine->fields[machine->fields_count++].value = slice_make(own_text, value_len);
    return 0;
}

static int on_data(__attribute__((unused)) nghttp2_session *session, __attribute__((unused)) uint8_t flags, int32_t stream, const uint8_t *bytes,
                   size_t len, void *userdata) {
    struct http2_machine *machine = userdata;
    if (stream != machine->stream || buffer_append(&machine->body, bytes, len) == 0)
        return 0;
    fail(machine, -EMSGSIZE);
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_stream_close(__attribute__((unused)) nghttp2_session *session, int32_t stream, uint32_t error_code, void *userdata) {
    struct http2_machine *machine = userdata;
    if (stream != machine->stream)
        return 0;
    if (error_code != NGHTTP2_NO_ERROR || machine->status < 200)
        fail(machine, -ECONNRESET);
    machine->is_complete = true;
    return 0;
}

static ssize_t read_body(__attribute__((unused)) nghttp2_session *session, __attribute__((unused)) int32_t stream, uint8_t *to, size_t size,
                         uint32_t *flags, nghttp2_data_source *source, __attribute__((unused)) void *userdata) {
    struct http2_machine *machine = source->ptr;
    struct slice rest = slice_from(buffer_slice(&machine->request_body), machine->body_sent);
    size_t len = MIN(rest.len, size);
    if (len)
        memcpy(to, rest.data, len);
    machine->body_sent += len;
    if (len == rest.len)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)len;
}

static nghttp2_nv make_field(struct http2_machine *machine, const char *name, const char *value) {
    char *lower = arena_strdup(machine->arena, name);
    for (char *at = lower; at && *at; at++)
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at - 'A' + 'a');
    if (!lower) {
        machine->error = -ENOMEM;
        lower = arena_strdup(machine->arena, "");
    }
    return (nghttp2_nv){
        .name = (uint8_t *)lower, .value = (uint8_t *)(uintptr_t)value, .namelen = lower ? strlen(lower) : 0, .valuelen = strlen(value)};
}

/* What belongs to a connection of HTTP/1.1 has no place here. */
static bool is_of_connection(const char *name) {
    static const char *const names[] = {"connection", "host", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_equal_nocase(slice_of(name), slice_of(names[i])))
            return true;
    return false;
}

static int submit(struct http2_machine *machine, const struct http2_options *options, bool secure) {
    nghttp2_nv fields[REQUEST_FIELDS_MAX];
    size_t count = 0;
    fields[count++] = make_field(machine, ":method", options->method);
    fields[count++] = make_field(machine, ":scheme", secure ? "https" : "http");
    fields[count++] = make_field(machine, ":authority", options->authority);
    fields[count++] = make_field(machine, ":path", options->target);
    for (const struct http_field *field = options->fields; field && field->name; field++) {
        if (is_of_connection(field->name))
            continue;
        if (count == REQUEST_FIELDS_MAX || !http1_is_token(slice_of(field->name)) || !http1_is_field_value(slice_of(field->value)))
            return -EINVAL;
        fields[count++] = make_field(machine, field->name, field->value);
    }
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    const nghttp2_data_provider body = {.source.ptr = machine, .read_callback = read_body};
    if (machine->error || nghttp2_submit_settings(machine->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) != 0)
        return -ENOMEM;
    machine->stream = nghttp2_submit_request(machine->session, NULL, fields, count, options->body.len ? &body : NULL, NULL);
    return machine->stream > 0 ? 0 : -ENOMEM;
}

int http2_machine_init(struct http2_machine *machine, const struct http2_options *options, bool secure) {
    nghttp2_session_callbacks *callbacks;
    *machine = (struct http2_machine){.body = BUFFER_INIT(options->body_max), .request_body = BUFFER_INIT(MIB)};
    machine->arena = arena_new(2 * HTTP_HEAD_BYTES_MAX);
    int r = machine->arena ? buffer_append_slice(&machine->request_body, options->body) : -ENOMEM;
    if (r < 0)
        return r;
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return -ENOMEM;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    r = nghttp2_session_client_new(&machine->session, callbacks, machine) == 0 ? 0 : -ENOMEM;
    nghttp2_session_callbacks_del(callbacks);
    return r < 0 ? r : submit(machine, options, secure);
}

void http2_machine_deinit(struct http2_machine *machine) {
    nghttp2_session_del(machine->session);
    buffer_deinit(&machine->request_body);
    buffer_deinit(&machine->body);
    arena_free(machine->arena);
}

int http2_machine_feed(struct http2_machine *machine, struct slice bytes) {
    if (bytes.len == 0)
        return 0;
    ssize_t n = nghttp2_session_mem_recv(machine->session, (const uint8_t *)bytes.data, bytes.len);
    if (n < 0)
        fail(machine, n == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EBADMSG);
    return machine->error;
}

int http2_machine_take(struct http2_machine *machine, struct buffer *out) {
    const uint8_t *bytes;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(machine->session, &bytes)) > 0)
        if (buffer_append(out, bytes, (size_t)n) < 0)
            return buffer_error(out);
    if (!nghttp2_session_want_read(machine->session))
        fail(machine, -EBADMSG); /* the server, or nghttp2 after what it was sent, gave the connection up */
    return n < 0 ? -ENOMEM : 0;
}
