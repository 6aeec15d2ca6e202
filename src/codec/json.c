/* A strict recursive-descent JSON reader with a depth limit, and the writer. Positions count bytes for columns. */
#include "codec/json.h"

#include <math.h>
#include <stdio.h>

struct reader {
    struct arena *arena;
    const char *start, *at, *end;
    const char *line_start;
    uint32_t line;
    unsigned depth;
    bool allow_duplicates;
    struct json_duplicates *duplicates;
    struct diag *diag;
};

static int fail(struct reader *reader, const char *expected) {
    diag_at(reader->diag, NULL, (int)reader->line, (int)(reader->at - reader->line_start) + 1);
    if (reader->at >= reader->end)
        return diag_set(reader->diag, -EINVAL, "unexpected end of JSON input, expected %s", expected);
    unsigned char c = (unsigned char)*reader->at;
    if (c >= 0x20 && c < 0x7f)
        return diag_set(reader->diag, -EINVAL, "invalid character '%c', expected %s", c, expected);
    return diag_set(reader->diag, -EINVAL, "invalid byte 0x%02x, expected %s", c, expected);
}

static void skip_blanks(struct reader *reader) {
    for (; reader->at < reader->end; reader->at++) {
        char c = *reader->at;
        if (c == '\n') {
            reader->line++;
            reader->line_start = reader->at + 1;
        } else if (c != ' ' && c != '\t' && c != '\r') {
            return;
        }
    }
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int read_hex4(struct reader *reader, uint32_t *ret) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++, reader->at++) {
        int digit = reader->at < reader->end ? hex_digit(*reader->at) : -1;
        if (digit < 0)
            return fail(reader, "four hexadecimal digits");
        value = value * 16 + (uint32_t)digit;
    }
    *ret = value;
    return 0;
}

static size_t put_utf8(char *out, uint32_t c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* A \uXXXX escape, surrogate pairs joined; a lone surrogate becomes U+FFFD as in Go. */
static int read_unicode_escape(struct reader *reader, uint32_t *ret) {
    uint32_t c = 0, low = 0;
    int r = read_hex4(reader, &c);
    if (r < 0)
        return r;
    if (c >= 0xd800 && c < 0xdc00 && reader->end - reader->at >= 6 && reader->at[0] == '\\' && reader->at[1] == 'u') {
        const char *before = reader->at;
        reader->at += 2;
        r = read_hex4(reader, &low);
        if (r < 0)
            return r;
        if (low >= 0xdc00 && low < 0xe000) {
            *ret = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            return 0;
        }
        reader->at = before;
    }
    *ret = c >= 0xd800 && c < 0xe000 ? 0xfffd : c;
    return 0;
}

/* The length of the well-formed UTF-8 sequence at `at`; 0 when malformed (overlong, surrogate, out of range, cut off). */
static size_t utf8_sequence(const char *at, const char *end) {
    unsigned char a = (unsigned char)at[0];
    size_t len = a < 0x80 ? 1 : a >= 0xc2 && a < 0xe0 ? 2 : (a & 0xf0) == 0xe0 ? 3 : a >= 0xf0 && a < 0xf5 ? 4 : 0;
    if (len == 0 || (size_t)(end - at) < len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if (((unsigned char)at[i] & 0xc0) != 0x80)
            return 0;
    unsigned char b = len > 1 ? (unsigned char)at[1] : 0;
    bool bad = (a == 0xe0 && b < 0xa0) || (a == 0xed && b >= 0xa0) || (a == 0xf0 && b < 0x90) || (a == 0xf4 && b >= 0x90);
    return bad ? 0 : len;
}

static int read_escape(struct reader *reader, char *out, size_t *len) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    reader->at++;
    if (reader->at < reader->end && *reader->at == 'u') {
        reader->at++;
        uint32_t c = 0;
        int r = read_unicode_escape(reader, &c);
        if (r == 0)
            *len += put_utf8(out + *len, c);
        return r;
    }
    const char *found = reader->at < reader->end && *reader->at ? strchr(from, *reader->at) : NULL;
    if (!found)
        return fail(reader, "one of \" \\ / b f n r t u after a backslash");
    out[(*len)++] = to[found - from];
    reader->at++;
    return 0;
}

static int read_string(struct reader *reader, struct slice *ret) {
    const char *close = reader->at + 1;
    while (close < reader->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    if (close >= reader->end) {
        reader->at = reader->end;
        return fail(reader, "a closing '\"'");
    }
    char *out = arena_alloc(reader->arena, (size_t)(close - reader->at));
    if (!out)
        return -ENOMEM;
    size_t len = 0;
    reader->at++;
    while (*reader->at != '"') {
        if (*reader->at == '\\') {
            int r = read_escape(reader, out, &len);
            if (r < 0)
                return r;
            continue;
        }
        if ((unsigned char)*reader->at < 0x20)
            return fail(reader, "no control character in a string (write it as \\u00XX)");
        size_t sequence = utf8_sequence(reader->at, reader->end);
        if (sequence == 0)
            return fail(reader, "valid UTF-8");
        memcpy(out + len, reader->at, sequence);
        len += sequence;
        reader->at += sequence;
    }
    reader->at++;
    out[len] = '\0';
    *ret = (struct slice){out, len};
    return 0;
}

static bool digits(struct reader *reader) {
    const char *before = reader->at;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9')
        reader->at++;
    return reader->at > before;
}

static int read_number(struct reader *reader, struct tree *node) {
    const char *start = reader->at;
    bool integral = true;
    if (*reader->at == '-')
        reader->at++;
    bool zero = reader->at < reader->end && *reader->at == '0';
    if (!digits(reader) || (zero && reader->at - start > 1 + (*start == '-')))
        return fail(reader, "a number without leading zeros");
    if (reader->at < reader->end && *reader->at == '.') {
        integral = false;
        reader->at++;
        if (!digits(reader))
            return fail(reader, "a digit after the decimal point");
    }
    if (reader->at < reader->end && (*reader->at == 'e' || *reader->at == 'E')) {
        integral = false;
        reader->at++;
        if (reader->at < reader->end && (*reader->at == '+' || *reader->at == '-'))
            reader->at++;
        if (!digits(reader))
            return fail(reader, "a digit in the exponent");
    }
    struct slice text = slice_make(start, (size_t)(reader->at - start));
    if (integral && slice_parse_i64(text, &node->integer) == 0) {
        node->type = TREE_INT;
        return 0;
    }
    char *copy = arena_dup(reader->arena, text);
    if (!copy)
        return -ENOMEM;
    node->type = TREE_FLOAT;
    node->real = strtod(copy, NULL);
    if (!isfinite(node->real)) {
        reader->at = start;
        return fail(reader, "a number that fits in 64 bits");
    }
    return 0;
}

static int read_value(struct reader *reader, struct tree **ret);

static int read_list(struct reader *reader, struct tree *list) {
    reader->at++;
    skip_blanks(reader);
    if (reader->at < reader->end && *reader->at == ']') {
        reader->at++;
        return 0;
    }
    for (;;) {
        struct tree *value;
        int r = read_value(reader, &value);
        if (r == 0)
            r = tree_push(reader->arena, list, value);
        if (r < 0)
            return r;
        skip_blanks(reader);
        if (reader->at < reader->end && *reader->at == ']') {
            reader->at++;
            return 0;
        }
        if (reader->at >= reader->end || *reader->at != ',')
            return fail(reader, "',' or ']' after an array element");
        reader->at++;
        skip_blanks(reader);
    }
}

static int add_member(struct reader *reader, struct tree *map, const struct tree_entry *member) {
    struct tree_entry *old = tree_find_entry(map, member->key);
    if (!old)
        return tree_add(reader->arena, map, member);
    if (!reader->allow_duplicates) {
        diag_at(reader->diag, NULL, (int)member->line, (int)member->column);
        return diag_set(reader->diag, -EINVAL, "duplicate key \"%.*s\"", SLICE_ARG(slice_head(member->key, 100)));
    }
    struct json_duplicates *noted = reader->duplicates;
    if (noted && noted->count < JSON_DUPLICATES_MAX) {
        noted->items[noted->count].map = map->children;
        noted->items[noted->count++].key = member->key;
    }
    old->value = member->value;
    return 0;
}

static int read_member(struct reader *reader, struct tree *map) {
    struct tree_entry member = {.line = reader->line, .column = (uint32_t)(reader->at - reader->line_start) + 1};
    if (reader->at >= reader->end || *reader->at != '"')
        return fail(reader, "'\"' to start a key, or '}'");
    int r = read_string(reader, &member.key);
    if (r < 0)
        return r;
    skip_blanks(reader);
    if (reader->at >= reader->end || *reader->at != ':')
        return fail(reader, "':' after a key");
    reader->at++;
    skip_blanks(reader);
    r = read_value(reader, &member.value);
    return r < 0 ? r : add_member(reader, map, &member);
}

static int read_map(struct reader *reader, struct tree *map) {
    reader->at++;
    skip_blanks(reader);
    if (reader->at < reader->end && *reader->at == '}') {
        reader->at++;
        return 0;
    }
    for (;;) {
        int r = read_member(reader, map);
        if (r < 0)
            return r;
        skip_blanks(reader);
        if (reader->at < reader->end && *reader->at == '}') {
            reader->at++;
            return 0;
        }
        if (reader->at >= reader->end || *reader->at != ',')
            return fail(reader, "',' or '}' after an object member");
        reader->at++;
        skip_blanks(reader);
    }
}

static int read_literal(struct reader *reader, struct tree *node) {
    static const struct {
        struct slice word;
        enum tree_type type;
        bool value;
    } literals[] = {{{"true", 4}, TREE_BOOL, true}, {{"false", 5}, TREE_BOOL, false}, {{"null", 4}, TREE_NULL, false}};
    struct slice rest = slice_make(reader->at, (size_t)(reader->end - reader->at));
    for (size_t i = 0; i < ARRAY_LEN(literals); i++) {
        if (!slice_starts(rest, literals[i].word))
            continue;
        node->type = literals[i].type;
        node->boolean = literals[i].value;
        reader->at += literals[i].word.len;
        return 0;
    }
    return fail(reader, "a JSON value");
}

static int read_nested(struct reader *reader, struct tree *node) {
    if (++reader->depth > JSON_DEPTH_MAX) {
        diag_at(reader->diag, NULL, (int)reader->line, -1);
        return diag_set(reader->diag, -EINVAL, "nested deeper than %d levels", JSON_DEPTH_MAX);
    }
    bool is_map = *reader->at == '{';
    node->type = is_map ? TREE_MAP : TREE_LIST;
    node->children = ARENA_NEW(reader->arena, struct tree_children);
    if (!node->children)
        return -ENOMEM;
    int r = is_map ? read_map(reader, node) : read_list(reader, node);
    reader->depth--;
    return r;
}

static int read_value(struct reader *reader, struct tree **ret) {
    if (reader->at >= reader->end)
        return fail(reader, "a JSON value");
    struct tree *node = ARENA_NEW(reader->arena, struct tree);
    if (!node)
        return -ENOMEM;
    node->line = reader->line;
    node->column = (uint32_t)(reader->at - reader->line_start) + 1;
    *ret = node;
    char c = *reader->at;
    if (c == '{' || c == '[')
        return read_nested(reader, node);
    if (c == '"') {
        node->type = TREE_STRING;
        return read_string(reader, &node->string);
    }
    if (c == '-' || (c >= '0' && c <= '9'))
        return read_number(reader, node);
    return read_literal(reader, node);
}

int json_parse(struct arena *arena, struct slice text, const struct json_options *options, struct tree **ret, struct diag *diag) {
    if (text.len == 0)
        text = SLICE("");
    struct reader reader = {.arena = arena,
                            .start = text.data,
                            .at = text.data,
                            .end = text.data + text.len,
                            .line_start = text.data,
                            .line = 1,
                            .allow_duplicates = options && options->allow_duplicates,
                            .duplicates = options ? options->duplicates : NULL,
                            .diag = diag};
    skip_blanks(&reader);
    struct tree *root;
    int r = read_value(&reader, &root);
    if (r < 0)
        return r == -ENOMEM ? diag_set(diag, r, "the document needs more memory than one document may use") : r;
    skip_blanks(&reader);
    if (reader.at < reader.end)
        return fail(&reader, "the end of the document");
    *ret = root;
    return 0;
}

int json_format_string(struct buffer *out, struct slice text) {
    static const char hex[] = "0123456789abcdef";
    buffer_append_byte(out, '"');
    size_t plain = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        buffer_append(out, text.data + plain, i - plain);
        plain = i + 1;
        static const char named[] = "\"\\\n\r\t", letters[] = "\"\\nrt";
        const char *found = c ? strchr(named, c) : NULL;
        char escape[6] = {'\\', found ? letters[found - named] : 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        buffer_append(out, escape, found ? 2 : 6);
    }
    buffer_append(out, text.data ? text.data + plain : "", text.len - plain);
    return buffer_append_byte(out, '"');
}

int json_format_double(struct buffer *out, double value) {
    char text[40];
    if (!isfinite(value))
        return buffer_append_text(out, "null");
    if (value == floor(value) && fabs(value) < 1e15)
        return buffer_printf(out, "%.0f", value);
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return buffer_append_text(out, text);
}

static void line_break(struct buffer *out, int indent) {
    if (indent < 0)
        return;
    buffer_append_byte(out, '\n');
    for (int i = 0; i < indent; i++)
        buffer_append(out, "  ", 2);
}

static int format(struct buffer *out, const struct tree *node, int indent);

static void format_children(struct buffer *out, const struct tree *node, int indent) {
    bool is_map = node->type == TREE_MAP;
    int inner = indent < 0 ? -1 : indent + 1;
    buffer_append_byte(out, is_map ? '{' : '[');
    for (size_t i = 0; i < node->children->count; i++) {
        if (i)
            buffer_append_byte(out, ',');
        line_break(out, inner);
        if (is_map) {
            json_format_string(out, node->children->items[i].key);
            buffer_append(out, ": ", indent < 0 ? 1 : 2);
        }
        format(out, node->children->items[i].value, inner);
    }
    if (node->children->count)
        line_break(out, indent);
    buffer_append_byte(out, is_map ? '}' : ']');
}

static int format(struct buffer *out, const struct tree *node, int indent) {
    switch (node->type) {
    case TREE_NULL: buffer_append_text(out, "null"); break;
    case TREE_BOOL: buffer_append_text(out, node->boolean ? "true" : "false"); break;
    case TREE_INT: buffer_printf(out, "%" PRId64, node->integer); break;
    case TREE_FLOAT: json_format_double(out, node->real); break;
    case TREE_STRING: json_format_string(out, node->string); break;
    case TREE_LIST:
    case TREE_MAP: format_children(out, node, indent); break;
    }
    return buffer_error(out);
}

int json_format(struct buffer *out, const struct tree *node) {
    return format(out, node, -1);
}

int json_format_pretty(struct buffer *out, const struct tree *node) {
    format(out, node, 0);
    return buffer_append_byte(out, '\n');
}

/* --- duplicates --- */

struct duplicates_walk {
    const struct json_duplicates *duplicates;
    struct buffer path;
    void (*each)(void *userdata, const char *path);
    void *userdata;
};

static void tell_duplicates(struct duplicates_walk *walk, const struct tree *node) {
    const struct json_duplicates *duplicates = walk->duplicates;
    size_t before = walk->path.len;
    for (size_t i = 0; i < duplicates->count; i++) {
        if (duplicates->items[i].map != node->children)
            continue;
        buffer_printf(&walk->path, "%s%.*s", before ? "." : "", SLICE_ARG(duplicates->items[i].key));
        if (!buffer_error(&walk->path))
            walk->each(walk->userdata, walk->path.data);
        buffer_truncate(&walk->path, before);
    }
    for (size_t i = 0; i < tree_count(node) && !buffer_error(&walk->path); i++) {
        const struct tree_entry *entry = &node->children->items[i];
        if (entry->value->type != TREE_MAP && entry->value->type != TREE_LIST)
            continue;
        if (node->type == TREE_LIST)
            buffer_printf(&walk->path, "[%zu]", i);
        else
            buffer_printf(&walk->path, "%s%.*s", before ? "." : "", SLICE_ARG(entry->key));
        tell_duplicates(walk, entry->value);
        if (!buffer_error(&walk->path))
            buffer_truncate(&walk->path, before);
    }
}

int json_duplicates_each(const struct tree *root, const struct json_duplicates *duplicates, void (*each)(void *userdata, const char *path),
                         void *userdata) {
    if (!duplicates->count || (root->type != TREE_MAP && root->type != TREE_LIST))
        return 0;
    struct duplicates_walk walk = {.duplicates = duplicates, .path = BUFFER_INIT(64 * KIB), .each = each, .userdata = userdata};
    tell_duplicates(&walk, root);
    int error = buffer_error(&walk.path) == -ENOMEM ? -ENOMEM : 0;
    buffer_deinit(&walk.path);
    return error;
}
