#include "codec/text.h"

static int encode_64(struct buffer *out, struct slice bytes, const char *alphabet, bool pad) {
    const unsigned char *in = (const unsigned char *)bytes.data;
    int r = buffer_reserve(out, (bytes.len + 2) / 3 * 4);
    for (size_t i = 0; r == 0 && i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t word = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0);
        char quad[4] = {alphabet[word >> 18], alphabet[word >> 12 & 63], left > 1 ? alphabet[word >> 6 & 63] : '=',
                        left > 2 ? alphabet[word & 63] : '='};
        r = buffer_append(out, quad, pad || left > 2 ? 4 : left + 1);
    }
    return r;
}

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char for_urls[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

int base64_encode(struct buffer *out, struct slice bytes) {
    return encode_64(out, bytes, standard, true);
}

int base64url_encode(struct buffer *out, struct slice bytes) {
    return encode_64(out, bytes, for_urls, false);
}

static int decode_64(struct buffer *out, struct slice text, const char *alphabet) {
    int r = buffer_reserve(out, text.len / 4 * 3 + 3);
    uint32_t word = 0;
    for (size_t i = 0; r == 0 && i < text.len; i++) {
        const char *found = text.data[i] ? strchr(alphabet, text.data[i]) : NULL;
        if (!found)
            return -EINVAL;
        word = word << 6 | (uint32_t)(found - alphabet);
        if (i % 4 == 3) {
            char bytes[3] = {(char)(word >> 16), (char)(word >> 8), (char)word};
            r = buffer_append(out, bytes, 3);
            word = 0;
        }
    }
    size_t rest = text.len % 4;
    if (r < 0 || rest == 0)
        return r;
    if (rest == 1 || (word & (rest == 2 ? 15u : 3u)))
        return -EINVAL;
    char bytes[2] = {(char)(rest == 2 ? word >> 4 : word >> 10), (char)(word >> 2)};
    return buffer_append(out, bytes, rest - 1);
}

int base64_decode(struct buffer *out, struct slice text) {
    if (text.len % 4 != 0)
        return -EINVAL;
    for (int i = 0; i < 2 && text.len && text.data[text.len - 1] == '='; i++)
        text.len--;
    return decode_64(out, text, standard);
}

int base64url_decode(struct buffer *out, struct slice text) {
    return decode_64(out, text, for_urls);
}

static const char hex_digits[] = "0123456789abcdef";

static int hex_value(char c) {
    if (c >= 'A' && c <= 'F')
        c = (char)(c + 32);
    const char *found = c ? strchr(hex_digits, c) : NULL;
    return found ? (int)(found - hex_digits) : -1;
}

int percent_decode(struct buffer *out, struct slice text, bool query) {
    int r = buffer_reserve(out, text.len);
    for (size_t i = 0; r == 0 && i < text.len; i++) {
        char c = text.data[i];
        if (c == '+' && query) {
            c = ' ';
        } else if (c == '%') {
            int high = i + 2 < text.len ? hex_value(text.data[i + 1]) : -1, low = high < 0 ? -1 : hex_value(text.data[i + 2]);
            if (low < 0 || (high == 0 && low == 0))
                return -EINVAL;
            c = (char)(high << 4 | low);
            i += 2;
        }
        r = buffer_append_byte(out, c);
    }
    return r;
}

static bool is_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

int percent_encode(struct buffer *out, struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (is_alnum(c) || (c && strchr("-._~", c)))
            buffer_append_byte(out, c);
        else
            buffer_printf(out, "%%%02X", (unsigned char)c);
    }
    return buffer_error(out);
}

static int decode_into(struct arena *arena, struct slice text, struct slice *ret) {
    struct buffer decoded = BUFFER_INIT(HTTP_HEAD_BYTES_MAX);
    int r = percent_decode(&decoded, text, true);
    char *copy = r == 0 ? arena_dup(arena, buffer_slice(&decoded)) : NULL;
    *ret = (struct slice){copy, decoded.len};
    buffer_deinit(&decoded);
    return r == 0 && !copy ? -ENOMEM : r;
}

int query_parse(struct arena *arena, struct slice text, struct query *ret) {
    size_t count = 1;
    for (size_t i = 0; i < text.len; i++)
        count += text.data[i] == '&';
    *ret = (struct query){.items = ARENA_ARRAY(arena, struct query_pair, count)};
    if (!ret->items)
        return -ENOMEM;
    struct slice rest = text;
    while (rest.data) {
        struct slice value = slice_cut(&rest, '&');
        if (value.len == 0)
            continue;
        struct slice key = slice_cut(&value, '=');
        struct query_pair *pair = &ret->items[ret->count];
        int r = decode_into(arena, key, &pair->key);
        if (r == 0)
            r = decode_into(arena, value, &pair->value);
        if (r < 0)
            return r;
        ret->count++;
    }
    return 0;
}

const char *query_find(const struct query *query, const char *key) {
    for (size_t i = 0; i < query->count; i++)
        if (slice_is(query->items[i].key, key))
            return query->items[i].value.data;
    return NULL;
}

bool query_flag(const struct query *query, const char *key) {
    const char *value = query_find(query, key);
    return value && !slice_equal_nocase(slice_of(value), SLICE("false")) && strcmp(value, "0") != 0;
}

static bool is_lower_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool name_is_dns_label(struct slice name) {
    if (name.len == 0 || name.len > 63 || !is_lower_alnum(name.data[0]) || !is_lower_alnum(name.data[name.len - 1]))
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (!is_lower_alnum(name.data[i]) && name.data[i] != '-')
            return false;
    return true;
}

bool name_is_dns1035_label(struct slice name) {
    return name_is_dns_label(name) && name.data[0] > '9';
}

bool name_is_dns_subdomain(struct slice name) {
    if (name.len == 0 || name.len > 253)
        return false;
    size_t start = 0;
    for (size_t i = 0; i <= name.len; i++) {
        if (i < name.len && name.data[i] != '.') {
            if (!is_lower_alnum(name.data[i]) && name.data[i] != '-')
                return false;
            continue;
        }
        if (i == start || !is_lower_alnum(name.data[start]) || !is_lower_alnum(name.data[i - 1]))
            return false;
        start = i + 1;
    }
    return true;
}

static bool is_qualified_part(struct slice part) {
    if (part.len == 0 || part.len > 63 || !is_alnum(part.data[0]) || !is_alnum(part.data[part.len - 1]))
        return false;
    for (size_t i = 0; i < part.len; i++)
        if (!is_alnum(part.data[i]) && (!part.data[i] || !strchr("-_.", part.data[i])))
            return false;
    return true;
}

bool name_is_qualified(struct slice name) {
    ptrdiff_t slash = slice_index(name, '/');
    if (slash < 0)
        return is_qualified_part(name);
    return name_is_dns_subdomain(slice_head(name, (size_t)slash)) && is_qualified_part(slice_from(name, (size_t)slash + 1));
}

bool name_is_label_value(struct slice value) {
    return value.len == 0 || is_qualified_part(value);
}
