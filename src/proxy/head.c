/* Rewriting heads (RFC 9110 7.6, RFC 9112).
 *
 * Fields that end at a hop (those named hop-by-hop, and those the sender's Connection field nominates) are dropped; framing fields are written anew
 * from what the parser understood, so both sides of the proxy agree by construction. The gateway is the edge: X-Forwarded-*, Forwarded and X-Real-IP
 * of a client are lies until proven otherwise and are replaced (trust_forwarded keeps them and appends to the chain). Field names with '_' are
 * dropped: CGI-like environments (WSGI, PHP) read X_Forwarded_For as X-Forwarded-For. */
#include "proxy/head_priv.h"

enum field_class { FIELD_PASS, FIELD_DROP, FIELD_FORWARDED, FIELD_LENGTH, FIELD_REQUEST_ID, FIELD_HOST, FIELD_EXPECT };

static const struct {
    struct slice name;
    enum field_class class;
} special_fields[] = {
    {{"connection", 10}, FIELD_DROP},
    {{"keep-alive", 10}, FIELD_DROP},
    {{"proxy-connection", 16}, FIELD_DROP},
    {{"te", 2}, FIELD_DROP},
    {{"trailer", 7}, FIELD_DROP},
    {{"transfer-encoding", 17}, FIELD_DROP},
    {{"upgrade", 7}, FIELD_DROP},
    {{"http2-settings", 14}, FIELD_DROP},
    {{"proxy-authorization", 19}, FIELD_DROP},
    {{"content-length", 14}, FIELD_LENGTH},
    {{"host", 4}, FIELD_HOST},
    {{"expect", 6}, FIELD_EXPECT},
    {{"x-request-id", 12}, FIELD_REQUEST_ID},
    {{"x-forwarded-for", 15}, FIELD_FORWARDED},
    {{"x-forwarded-proto", 17}, FIELD_FORWARDED},
    {{"x-forwarded-host", 16}, FIELD_FORWARDED},
    {{"x-forwarded-port", 16}, FIELD_FORWARDED},
    {{"x-forwarded-scheme", 18}, FIELD_FORWARDED},
    {{"x-real-ip", 9}, FIELD_FORWARDED},
    {{"forwarded", 9}, FIELD_FORWARDED},
};

static enum field_class classify(struct slice name) {
    if (name.len > 19)
        return FIELD_PASS;
    char first = (char)(name.data[0] | 0x20);
    for (size_t i = 0; i < ARRAY_LEN(special_fields); i++)
        if (special_fields[i].name.len == name.len && special_fields[i].name.data[0] == first && slice_equal_nocase(special_fields[i].name, name))
            return special_fields[i].class;
    return FIELD_PASS;
}

/* Does some Connection field name a field beyond the usual words? */
static bool nominates(const struct http1_head *head) {
    for (size_t i = 0; i < head->fields_count; i++) {
        if (!slice_equal_nocase(head->fields[i].name, SLICE("connection")))
            continue;
        struct slice value = head->fields[i].value;
        if (!slice_equal_nocase(value, SLICE("keep-alive")) && !slice_equal_nocase(value, SLICE("close")) &&
            !slice_equal_nocase(value, SLICE("upgrade")))
            return true;
    }
    return false;
}

static bool is_nominated(const struct http1_head *head, struct slice name) {
    for (size_t i = 0; i < head->fields_count; i++)
        if (slice_equal_nocase(head->fields[i].name, SLICE("connection")) && http1_list_has(head->fields[i].value, name))
            return true;
    return false;
}

static void write_field(struct buffer *out, struct slice name, struct slice value) {
    if (buffer_reserve(out, name.len + value.len + 4) < 0)
        return;
    char *at = out->data + out->len;
    memcpy(at, name.data, name.len);
    at += name.len;
    *at++ = ':';
    *at++ = ' ';
    if (value.len > 0)
        memcpy(at, value.data, value.len);
    at += value.len;
    *at++ = '\r';
    *at++ = '\n';
    buffer_commit(out, name.len + value.len + 4);
}

struct slice head_request_id(const struct http1_head *head) {
    struct slice id = http1_find(head, "X-Request-Id");
    if (id.len == 0 || id.len > 128)
        return (struct slice){0};
    for (size_t i = 0; i < id.len; i++)
        if (id.data[i] <= ' ' || id.data[i] >= 0x7f)
            return (struct slice){0};
    return id;
}

static void write_request_line(struct buffer *out, const struct http1_head *head) {
    buffer_append_slice(out, head->method);
    buffer_append_byte(out, ' ');
    if (head->target.len > 0 && head->target.data[0] == '/') {
        buffer_append_slice(out, head->target);
    } else {
        buffer_append_slice(out, head->path);
        if (head->query.data) {
            buffer_append_byte(out, '?');
            buffer_append_slice(out, head->query);
        }
    }
    buffer_append_slice(out, SLICE(" HTTP/1.1\r\nHost: "));
    buffer_append_slice(out, head->host);
    buffer_append_slice(out, SLICE("\r\n"));
}

static void write_forwarded(struct buffer *out, const struct http1_head *head, const struct head_context *context) {
    if (!context->trust_forwarded) {
        write_field(out, SLICE("X-Forwarded-For"), context->client_address);
        write_field(out, SLICE("X-Real-IP"), context->client_address);
    } else {
        buffer_append_slice(out, SLICE("X-Forwarded-For: "));
        for (size_t i = 0; i < head->fields_count; i++) {
            if (!slice_equal_nocase(head->fields[i].name, SLICE("X-Forwarded-For")) || head->fields[i].value.len == 0)
                continue;
            buffer_append_slice(out, head->fields[i].value);
            buffer_append_slice(out, SLICE(", "));
        }
        buffer_append_slice(out, context->client_address);
        buffer_append_slice(out, SLICE("\r\n"));
    }
    if (!context->trust_forwarded || !http1_find(head, "X-Forwarded-Proto").data)
        write_field(out, SLICE("X-Forwarded-Proto"), context->secure ? SLICE("https") : SLICE("http"));
    if (!context->trust_forwarded || !http1_find(head, "X-Forwarded-Host").data)
        write_field(out, SLICE("X-Forwarded-Host"), head->host);
}

static bool request_field_passes(const struct http1_head *head, const struct http1_field *field, const struct head_context *context,
                                 bool nominating) {
    switch (classify(field->name)) {
    case FIELD_DROP:
    case FIELD_LENGTH:
    case FIELD_HOST:
    case FIELD_REQUEST_ID:
    case FIELD_EXPECT: return false;
    case FIELD_FORWARDED: return context->trust_forwarded && !slice_equal_nocase(field->name, SLICE("X-Forwarded-For"));
    case FIELD_PASS: break;
    }
    if (memchr(field->name.data, '_', field->name.len))
        return false;
    return !nominating || !is_nominated(head, field->name);
}

int head_write_request(struct buffer *out, const struct http1_head *head, const struct head_context *context) {
    bool nominating = nominates(head);
    write_request_line(out, head);
    for (size_t i = 0; i < head->fields_count; i++)
        if (request_field_passes(head, &head->fields[i], context, nominating))
            write_field(out, head->fields[i].name, head->fields[i].value);
    write_forwarded(out, head, context);
    struct slice id = head_request_id(head);
    write_field(out, SLICE("X-Request-Id"), id.data ? id : context->request_id);
    if (head->framing == HTTP1_BODY_CHUNKED)
        buffer_append_slice(out, SLICE("Transfer-Encoding: chunked\r\n"));
    else if (head->has_content_length)
        buffer_printf(out, "Content-Length: %" PRIu64 "\r\n", head->content_length);
    if (head->expect_continue)
        buffer_append_slice(out, SLICE("Expect: 100-continue\r\n"));
    if (context->upgrade) {
        buffer_append_slice(out, SLICE("Connection: upgrade\r\n"));
        write_field(out, SLICE("Upgrade"), head->upgrade);
    }
    buffer_append_slice(out, SLICE("\r\n"));
    return buffer_error(out);
}

static void write_status_line(struct buffer *out, const struct http1_head *head) {
    char text[14] = {'H',
                     'T',
                     'T',
                     'P',
                     '/',
                     '1',
                     '.',
                     '1',
                     ' ',
                     (char)('0' + head->status / 100 % 10),
                     (char)('0' + head->status / 10 % 10),
                     (char)('0' + head->status % 10),
                     ' '};
    buffer_append(out, text, 13);
    buffer_append_slice(out, head->reason);
    buffer_append_slice(out, SLICE("\r\n"));
}

int head_write_response(struct buffer *out, const struct http1_head *head, const struct head_response *response) {
    bool nominating = nominates(head);
    write_status_line(out, head);
    for (size_t i = 0; i < head->fields_count; i++) {
        enum field_class class = classify(head->fields[i].name);
        if (class == FIELD_DROP || class == FIELD_LENGTH || (nominating && is_nominated(head, head->fields[i].name)))
            continue;
        write_field(out, head->fields[i].name, head->fields[i].value);
    }
    if (response->content_length && head->has_content_length)
        buffer_printf(out, "Content-Length: %" PRIu64 "\r\n", head->content_length);
    if (response->chunked)
        buffer_append_slice(out, SLICE("Transfer-Encoding: chunked\r\n"));
    if (response->connection == HEAD_CONNECTION_UPGRADE) {
        buffer_append_slice(out, SLICE("Connection: upgrade\r\n"));
        write_field(out, SLICE("Upgrade"), head->upgrade.data ? head->upgrade : http1_find(head, "Upgrade"));
    } else if (response->connection == HEAD_CONNECTION_CLOSE) {
        buffer_append_slice(out, SLICE("Connection: close\r\n"));
    } else if (response->connection == HEAD_CONNECTION_KEEP_ALIVE) {
        buffer_append_slice(out, SLICE("Connection: keep-alive\r\n"));
    }
    buffer_append_slice(out, SLICE("\r\n"));
    return buffer_error(out);
}
