/* OpenAPI documents in protobuf: gnostic's messages, which kubectl of all ages asks for in v2
 * (application/com.github.proto-openapi.spec.v2@v1.0+protobuf) and some clients in v3. Made from the finished JSON text by one walk with tables of
 * the messages' fields: no tree is made of a document of megabytes.
 *
 * A message's value is a JSON object, and one of four shapes:
 *   record   its members are fields by name; members that begin with x- are extensions; others mean nothing here
 *   map      each member is a {name = 1, value = 2} of its own, under one number; x- members are extensions where the message has them
 *   choice   one member message or another, by what the JSON looks like
 *   list     a single value where the message has a repeated field
 * A message's length stands before it and is known after it, so the bytes are moved up by the few bytes of the length: each byte at most once per
 * level of nesting. */
#include "kube/schema_priv.h"

#define WIRE_DEPTH_MAX 256

enum wire_type { WIRE_STRING, WIRE_BOOL, WIRE_INT, WIRE_DOUBLE, WIRE_ANY, WIRE_MESSAGE };

struct wire_message;
struct wire_field {
    const char *name;
    uint8_t number;
    uint8_t type;
    const struct wire_message *message;
};
/* Which alternative a value is. */
enum wire_test { WIRE_ELSE, WIRE_REFERENCE, WIRE_IS_BOOL, WIRE_IS_STRING, WIRE_IS_NUMBER, WIRE_IN_BODY, WIRE_IN_PATH, WIRE_NEVER };
struct wire_choice {
    enum wire_test test;
    struct wire_field field;
};
struct wire_message {
    const struct wire_field *fields; /* record; ends with name NULL */
    const struct wire_choice *choices;
    struct wire_field map; /* number 0: no map */
    const struct wire_field *list;
    uint8_t extensions; /* number of the extensions; 0: none */
};

#define FIELDS(...)                                                                                                                                  \
    (const struct wire_field[]) {                                                                                                                    \
        __VA_ARGS__, {                                                                                                                               \
            NULL, 0, 0, NULL                                                                                                                         \
        }                                                                                                                                            \
    }
#define CHOICES(...)                                                                                                                                 \
    (const struct wire_choice[]) {                                                                                                                   \
        __VA_ARGS__                                                                                                                                  \
    }
#define MAP_OF(number, message)                                                                                                                      \
    { NULL, number, WIRE_MESSAGE, message }

static const struct wire_message string_array = {.list = FIELDS({NULL, 1, WIRE_STRING, NULL})};
static const struct wire_message security = {.map = MAP_OF(1, &string_array)};
static const struct wire_message info = {.fields = FIELDS({"title", 1, WIRE_STRING, NULL}, {"version", 6, WIRE_STRING, NULL})};
static const struct wire_message info_v2 = {.fields = FIELDS({"title", 1, WIRE_STRING, NULL}, {"version", 2, WIRE_STRING, NULL})};

/* --- v2 --- */

static const struct wire_message v2_schema;
static const struct wire_message v2_additional = {
    .choices = CHOICES({WIRE_IS_BOOL, {NULL, 2, WIRE_BOOL, NULL}}, {WIRE_ELSE, {NULL, 1, WIRE_MESSAGE, &v2_schema}})};
static const struct wire_message v2_items = {.list = FIELDS({NULL, 1, WIRE_MESSAGE, &v2_schema})};
static const struct wire_message v2_schemas = {.map = MAP_OF(1, &v2_schema)};
static const struct wire_message v2_schema = {
    .fields = FIELDS(
        {"$ref", 1, WIRE_STRING, NULL}, {"format", 2, WIRE_STRING, NULL}, {"title", 3, WIRE_STRING, NULL}, {"description", 4, WIRE_STRING, NULL},
        {"multipleOf", 6, WIRE_DOUBLE, NULL}, {"maximum", 7, WIRE_DOUBLE, NULL}, {"exclusiveMaximum", 8, WIRE_BOOL, NULL},
        {"minimum", 9, WIRE_DOUBLE, NULL}, {"exclusiveMinimum", 10, WIRE_BOOL, NULL}, {"maxLength", 11, WIRE_INT, NULL},
        {"minLength", 12, WIRE_INT, NULL}, {"pattern", 13, WIRE_STRING, NULL}, {"maxItems", 14, WIRE_INT, NULL}, {"minItems", 15, WIRE_INT, NULL},
        {"uniqueItems", 16, WIRE_BOOL, NULL}, {"maxProperties", 17, WIRE_INT, NULL}, {"minProperties", 18, WIRE_INT, NULL},
        {"required", 19, WIRE_STRING, NULL}, {"enum", 20, WIRE_ANY, NULL}, {"additionalProperties", 21, WIRE_MESSAGE, &v2_additional},
        {"type", 22, WIRE_MESSAGE, &string_array}, {"items", 23, WIRE_MESSAGE, &v2_items}, {"properties", 25, WIRE_MESSAGE, &v2_schemas}),
    .extensions = 31};
static const struct wire_message v2_schema_item = {.choices = CHOICES({WIRE_ELSE, {NULL, 1, WIRE_MESSAGE, &v2_schema}})};
static const struct wire_message v2_response = {.fields = FIELDS({"description", 1, WIRE_STRING, NULL}, {"schema", 2, WIRE_MESSAGE, &v2_schema_item}),
                                                .extensions = 5};
static const struct wire_message v2_response_value = {.choices = CHOICES({WIRE_ELSE, {NULL, 1, WIRE_MESSAGE, &v2_response}})};
static const struct wire_message v2_responses = {.map = MAP_OF(1, &v2_response_value), .extensions = 2};
static const struct wire_message v2_body = {.fields = FIELDS({"description", 1, WIRE_STRING, NULL}, {"name", 2, WIRE_STRING, NULL},
                                                             {"in", 3, WIRE_STRING, NULL}, {"required", 4, WIRE_BOOL, NULL},
                                                             {"schema", 5, WIRE_MESSAGE, &v2_schema}),
                                            .extensions = 6};
static const struct wire_message v2_query = {.fields = FIELDS({"required", 1, WIRE_BOOL, NULL}, {"in", 2, WIRE_STRING, NULL},
                                                              {"description", 3, WIRE_STRING, NULL}, {"name", 4, WIRE_STRING, NULL},
                                                              {"type", 6, WIRE_STRING, NULL}, {"uniqueItems", 20, WIRE_BOOL, NULL}),
                                             .extensions = 23};
static const struct wire_message v2_path_parameter = {.fields = FIELDS({"required", 1, WIRE_BOOL, NULL}, {"in", 2, WIRE_STRING, NULL},
                                                                       {"description", 3, WIRE_STRING, NULL}, {"name", 4, WIRE_STRING, NULL},
                                                                       {"type", 5, WIRE_STRING, NULL}, {"uniqueItems", 19, WIRE_BOOL, NULL}),
                                                      .extensions = 22};
static const struct wire_message v2_non_body = {
    .choices = CHOICES({WIRE_IN_PATH, {NULL, 4, WIRE_MESSAGE, &v2_path_parameter}}, {WIRE_ELSE, {NULL, 3, WIRE_MESSAGE, &v2_query}})};
static const struct wire_message v2_parameter = {
    .choices = CHOICES({WIRE_IN_BODY, {NULL, 1, WIRE_MESSAGE, &v2_body}}, {WIRE_ELSE, {NULL, 2, WIRE_MESSAGE, &v2_non_body}})};
static const struct wire_message v2_parameters_item = {.choices = CHOICES({WIRE_ELSE, {NULL, 1, WIRE_MESSAGE, &v2_parameter}})};
static const struct wire_message v2_operation = {
    .fields = FIELDS({"tags", 1, WIRE_STRING, NULL}, {"description", 3, WIRE_STRING, NULL}, {"operationId", 5, WIRE_STRING, NULL},
                     {"produces", 6, WIRE_STRING, NULL}, {"consumes", 7, WIRE_STRING, NULL}, {"parameters", 8, WIRE_MESSAGE, &v2_parameters_item},
                     {"responses", 9, WIRE_MESSAGE, &v2_responses}, {"schemes", 10, WIRE_STRING, NULL}, {"deprecated", 11, WIRE_BOOL, NULL}),
    .extensions = 13};
static const struct wire_message v2_path = {.fields = FIELDS({"get", 2, WIRE_MESSAGE, &v2_operation}, {"put", 3, WIRE_MESSAGE, &v2_operation},
                                                             {"post", 4, WIRE_MESSAGE, &v2_operation}, {"delete", 5, WIRE_MESSAGE, &v2_operation},
                                                             {"patch", 8, WIRE_MESSAGE, &v2_operation},
                                                             {"parameters", 9, WIRE_MESSAGE, &v2_parameters_item}),
                                            .extensions = 10};
static const struct wire_message v2_paths = {.map = MAP_OF(2, &v2_path), .extensions = 1};
static const struct wire_message v2_api_key = {.fields = FIELDS({"type", 1, WIRE_STRING, NULL}, {"name", 2, WIRE_STRING, NULL},
                                                                {"in", 3, WIRE_STRING, NULL}, {"description", 4, WIRE_STRING, NULL}),
                                               .extensions = 5};
static const struct wire_message v2_security_item = {.choices = CHOICES({WIRE_ELSE, {NULL, 2, WIRE_MESSAGE, &v2_api_key}})};
static const struct wire_message v2_security_definitions = {.map = MAP_OF(1, &v2_security_item)};
static const struct wire_message v2_document = {.fields = FIELDS({"swagger", 1, WIRE_STRING, NULL}, {"info", 2, WIRE_MESSAGE, &info_v2},
                                                                 {"paths", 8, WIRE_MESSAGE, &v2_paths}, {"definitions", 9, WIRE_MESSAGE, &v2_schemas},
                                                                 {"security", 12, WIRE_MESSAGE, &security},
                                                                 {"securityDefinitions", 13, WIRE_MESSAGE, &v2_security_definitions}),
                                                .extensions = 16};

/* --- v3 --- */

static const struct wire_message v3_schema, v3_schema_or;
static const struct wire_message v3_reference = {.fields = FIELDS({"$ref", 1, WIRE_STRING, NULL}, {"description", 3, WIRE_STRING, NULL})};
static const struct wire_message v3_additional = {
    .choices = CHOICES({WIRE_IS_BOOL, {NULL, 2, WIRE_BOOL, NULL}}, {WIRE_ELSE, {NULL, 1, WIRE_MESSAGE, &v3_schema_or}})};
static const struct wire_message v3_items = {.list = FIELDS({NULL, 1, WIRE_MESSAGE, &v3_schema_or})};
static const struct wire_message v3_schemas = {.map = MAP_OF(1, &v3_schema_or)};
/* A default that is an object or a list has no form. */
static const struct wire_message v3_default = {.choices =
                                                   CHOICES({WIRE_IS_NUMBER, {NULL, 1, WIRE_DOUBLE, NULL}}, {WIRE_IS_BOOL, {NULL, 2, WIRE_BOOL, NULL}},
                                                           {WIRE_IS_STRING, {NULL, 3, WIRE_STRING, NULL}}, {WIRE_NEVER, {NULL, 0, 0, NULL}})};
static const struct wire_message v3_schema = {
    .fields = FIELDS({"nullable", 1, WIRE_BOOL, NULL}, {"title", 9, WIRE_STRING, NULL}, {"multipleOf", 10, WIRE_DOUBLE, NULL},
                     {"maximum", 11, WIRE_DOUBLE, NULL}, {"exclusiveMaximum", 12, WIRE_BOOL, NULL}, {"minimum", 13, WIRE_DOUBLE, NULL},
                     {"exclusiveMinimum", 14, WIRE_BOOL, NULL}, {"maxLength", 15, WIRE_INT, NULL}, {"minLength", 16, WIRE_INT, NULL},
                     {"pattern", 17, WIRE_STRING, NULL}, {"maxItems", 18, WIRE_INT, NULL}, {"minItems", 19, WIRE_INT, NULL},
                     {"uniqueItems", 20, WIRE_BOOL, NULL}, {"maxProperties", 21, WIRE_INT, NULL}, {"minProperties", 22, WIRE_INT, NULL},
                     {"required", 23, WIRE_STRING, NULL}, {"enum", 24, WIRE_ANY, NULL}, {"type", 25, WIRE_STRING, NULL},
                     {"allOf", 26, WIRE_MESSAGE, &v3_schema_or}, {"oneOf", 27, WIRE_MESSAGE, &v3_schema_or},
                     {"anyOf", 28, WIRE_MESSAGE, &v3_schema_or}, {"not", 29, WIRE_MESSAGE, &v3_schema}, {"items", 30, WIRE_MESSAGE, &v3_items},
                     {"properties", 31, WIRE_MESSAGE, &v3_schemas}, {"additionalProperties", 32, WIRE_MESSAGE, &v3_additional},
                     {"default", 33, WIRE_MESSAGE, &v3_default}, {"description", 34, WIRE_STRING, NULL}, {"format", 35, WIRE_STRING, NULL}),
    .extensions = 36};
static const struct wire_message v3_schema_or = {
    .choices = CHOICES({WIRE_REFERENCE, {NULL, 2, WIRE_MESSAGE, &v3_reference}}, {WIRE_ELSE, {NULL, 1, WIRE_MESSAGE, &v3_schema}})};
static const struct wire_message v3_media = {.fields = FIELDS({"schema", 1, WIRE_MESSAGE, &v3_schema_or}), .extensions = 5};
static const struct wire_message v3_content = {.map = MAP_OF(1, &v3_media)};
static const struct wire_message v3_response = {.fields = FIELDS({"description", 1, WIRE_STRING, NULL}, {"content", 3, WIRE_MESSAGE, &v3_content}),
                                                .extensions = 5};
static const struct wire_message v3_response_or = {.choices = CHOICES({WIRE_ELSE, {NULL, 1, WIRE_MESSAGE, &v3_response}})};
static const struct wire_message v3_responses = {.map = MAP_OF(2, &v3_response_or), .extensions = 3};
static const struct wire_message v3_parameter = {.fields = FIELDS({"name", 1, WIRE_STRING, NULL}, {"in", 2, WIRE_STRING, NULL},
                                                                  {"description", 3, WIRE_STRING, NULL}, {"required", 4, WIRE_BOOL, NULL},
                                                                  {"schema", 10, WIRE_MESSAGE, &v3_schema_or}),
                                                 .extensions = 14};
static const struct wire_message v3_parameter_or = {.choices = CHOICES({WIRE_ELSE, {NULL, 1, WIRE_MESSAGE, &v3_parameter}})};
static const struct wire_message v3_body = {
    .fields = FIELDS({"description", 1, WIRE_STRING, NULL}, {"content", 2, WIRE_MESSAGE, &v3_content}, {"required", 3, WIRE_BOOL, NULL}),
    .extensions = 4};
static const struct wire_message v3_body_or = {.choices = CHOICES({WIRE_ELSE, {NULL, 1, WIRE_MESSAGE, &v3_body}})};
static const struct wire_message v3_operation = {
    .fields = FIELDS({"tags", 1, WIRE_STRING, NULL}, {"description", 3, WIRE_STRING, NULL}, {"operationId", 5, WIRE_STRING, NULL},
                     {"parameters", 6, WIRE_MESSAGE, &v3_parameter_or}, {"requestBody", 7, WIRE_MESSAGE, &v3_body_or},
                     {"responses", 8, WIRE_MESSAGE, &v3_responses}, {"deprecated", 10, WIRE_BOOL, NULL}),
    .extensions = 13};
static const struct wire_message v3_path = {.fields = FIELDS({"get", 4, WIRE_MESSAGE, &v3_operation}, {"put", 5, WIRE_MESSAGE, &v3_operation},
                                                             {"post", 6, WIRE_MESSAGE, &v3_operation}, {"delete", 7, WIRE_MESSAGE, &v3_operation},
                                                             {"patch", 10, WIRE_MESSAGE, &v3_operation},
                                                             {"parameters", 13, WIRE_MESSAGE, &v3_parameter_or}),
                                            .extensions = 14};
static const struct wire_message v3_paths = {.map = MAP_OF(1, &v3_path), .extensions = 2};
static const struct wire_message v3_scheme = {.fields = FIELDS({"type", 1, WIRE_STRING, NULL}, {"description", 2, WIRE_STRING, NULL},
                                                               {"name", 3, WIRE_STRING, NULL}, {"in", 4, WIRE_STRING, NULL}),
                                              .extensions = 9};
static const struct wire_message v3_scheme_or = {.choices = CHOICES({WIRE_ELSE, {NULL, 1, WIRE_MESSAGE, &v3_scheme}})};
static const struct wire_message v3_schemes = {.map = MAP_OF(1, &v3_scheme_or)};
static const struct wire_message v3_components = {
    .fields = FIELDS({"schemas", 1, WIRE_MESSAGE, &v3_schemas}, {"securitySchemes", 7, WIRE_MESSAGE, &v3_schemes}), .extensions = 10};
static const struct wire_message v3_document = {
    .fields = FIELDS({"openapi", 1, WIRE_STRING, NULL}, {"info", 2, WIRE_MESSAGE, &info}, {"paths", 4, WIRE_MESSAGE, &v3_paths},
                     {"components", 5, WIRE_MESSAGE, &v3_components}, {"security", 6, WIRE_MESSAGE, &security}),
    .extensions = 9};

/* --- reading JSON: the text is our own, so that its form is only checked as far as memory safety needs it --- */

struct reader {
    const char *at, *end;
};

static void skip_space(struct reader *reader) {
    while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) && *reader->at)
        reader->at++;
}

static char peek(struct reader *reader) {
    skip_space(reader);
    return reader->at < reader->end ? *reader->at : 0;
}

static bool accept(struct reader *reader, char c) {
    if (peek(reader) != c || !c)
        return false;
    reader->at++;
    return true;
}

/* A string's raw text between its quotes. */
static int read_string(struct reader *reader, struct slice *ret) {
    if (!accept(reader, '"'))
        return -EINVAL;
    const char *start = reader->at;
    while (reader->at < reader->end && *reader->at != '"')
        reader->at += *reader->at == '\\' ? 2 : 1;
    if (reader->at >= reader->end)
        return -EINVAL;
    *ret = slice_make(start, (size_t)(reader->at - start));
    reader->at++;
    return 0;
}

/* The raw text of the value that begins here; nothing in it is interpreted. */
static int read_value(struct reader *reader, struct slice *ret) {
    peek(reader);
    const char *start = reader->at;
    size_t depth = 0;
    do {
        char c = peek(reader);
        struct slice text;
        if (!c)
            return -EINVAL;
        if (c == '"') {
            if (read_string(reader, &text))
                return -EINVAL;
            continue;
        }
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']') {
            if (depth == 0)
                return -EINVAL;
            depth--;
        } else if (c != ',' && c != ':') {
            while (reader->at < reader->end && !strchr(",:]} \t\r\n", *reader->at))
                reader->at++;
            continue;
        }
        reader->at++;
    } while (depth > 0);
    *ret = slice_make(start, (size_t)(reader->at - start));
    return ret->len ? 0 : -EINVAL;
}

/* The next member of an object: -ENOENT at its end. */
static int read_member(struct reader *reader, bool *first, struct slice *ret_key) {
    if (accept(reader, '}'))
        return -ENOENT;
    if (!*first && !accept(reader, ','))
        return -EINVAL;
    *first = false;
    int error = read_string(reader, ret_key);
    return error || accept(reader, ':') ? error : -EINVAL;
}

/* --- writing --- */

static void put_varint(struct buffer *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        buffer_append_byte(out, (char)(value | 0x80));
    buffer_append_byte(out, (char)value);
}

static void put_tag(struct buffer *out, unsigned number, unsigned type) {
    put_varint(out, number << 3 | type);
}

/* Puts the length of what stands behind `start` before it. */
static void close_length(struct buffer *out, size_t start) {
    if (out->error)
        return;
    struct buffer length = BUFFER_INIT(16);
    put_varint(&length, out->len - start);
    size_t more = length.len;
    if (length.error || buffer_reserve(out, more)) {
        if (length.error)
            out->error = length.error;
    } else {
        memmove(out->data + start + more, out->data + start, out->len - start);
        memcpy(out->data + start, length.data, more);
        buffer_commit(out, more);
    }
    buffer_deinit(&length);
}

static void put_bytes(struct buffer *out, unsigned number, struct slice bytes) {
    put_tag(out, number, 2);
    put_varint(out, bytes.len);
    buffer_append_slice(out, bytes);
}

/* The characters that a JSON string stands for. */
static int put_text(struct buffer *out, unsigned number, struct slice raw) {
    put_tag(out, number, 2);
    if (!memchr(raw.data, '\\', raw.len)) {
        put_varint(out, raw.len);
        return buffer_append_slice(out, raw);
    }
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * raw.len + 64 * KIB);
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    const struct json_options options = {.allow_duplicates = true};
    int error = arena ? json_parse(arena, slice_make(raw.data - 1, raw.len + 2), &options, &tree, &diag) : -ENOMEM;
    if (error)
        return error;
    put_varint(out, tree->string.len);
    return buffer_append_slice(out, tree->string);
}

static int put_value(struct reader *reader, const struct wire_field *field, size_t depth, struct buffer *out);

static bool is_reference(struct slice raw) {
    return slice_starts(raw, SLICE("{\"$ref\":"));
}

static bool test(enum wire_test test_, struct slice raw) {
    char c = raw.data[0];
    switch (test_) {
    case WIRE_ELSE: return true;
    case WIRE_REFERENCE: return is_reference(raw);
    case WIRE_IS_BOOL: return c == 't' || c == 'f';
    case WIRE_IS_STRING: return c == '"';
    case WIRE_IS_NUMBER: return c == '-' || (c >= '0' && c <= '9');
    case WIRE_IN_BODY: return slice_starts(raw, SLICE("{\"name\":\"body\",\"in\":\"body\""));
    case WIRE_IN_PATH: {
        struct reader reader = {raw.data + 1, raw.data + raw.len};
        bool first = true;
        struct slice key, value;
        while (read_member(&reader, &first, &key) == 0 && read_value(&reader, &value) == 0)
            if (slice_is(key, "in"))
                return slice_is(value, "\"path\"");
        return false;
    }
    case WIRE_NEVER: break;
    }
    return false;
}

static int put_choice(struct reader *reader, const struct wire_message *message, size_t depth, struct buffer *out) {
    struct reader ahead = *reader;
    struct slice raw;
    int error = read_value(&ahead, &raw);
    if (error)
        return error;
    for (const struct wire_choice *choice = message->choices;; choice++) {
        if (test(choice->test, raw))
            return put_value(reader, &choice->field, depth, out);
        if (choice->test == WIRE_ELSE || choice->test == WIRE_NEVER)
            break;
    }
    *reader = ahead;
    return 0;
}

/* {name = 1, value = 2} */
static int put_named(struct reader *reader, struct slice key, unsigned number, const struct wire_field *value, size_t depth, struct buffer *out) {
    put_tag(out, number, 2);
    size_t start = out->len;
    int error = put_text(out, 1, key);
    if (!error)
        error = put_value(reader, value, depth, out);
    close_length(out, start);
    return error;
}

static int put_members(struct reader *reader, const struct wire_message *message, size_t depth, struct buffer *out) {
    static const struct wire_field any = {NULL, 2, WIRE_ANY, NULL};
    bool first = true;
    struct slice key, skipped;
    if (!accept(reader, '{'))
        return -EINVAL;
    for (;;) {
        int error = read_member(reader, &first, &key);
        if (error)
            return error == -ENOENT ? 0 : error;
        const struct wire_field *field = message->fields;
        while (field && field->name && !slice_is(key, field->name))
            field++;
        if (message->extensions && slice_starts(key, SLICE("x-")))
            error = put_named(reader, key, message->extensions, &any, depth, out);
        else if (field && field->name)
            error = put_value(reader, field, depth, out);
        else if (message->map.number) {
            struct wire_field value = message->map;
            value.number = 2;
            error = put_named(reader, key, message->map.number, &value, depth, out);
        } else
            error = read_value(reader, &skipped);
        if (error)
            return error;
    }
}

static int put_message(struct reader *reader, const struct wire_message *message, size_t depth, struct buffer *out) {
    if (message->choices)
        return put_choice(reader, message, depth, out);
    if (message->list)
        return put_value(reader, message->list, depth, out);
    return put_members(reader, message, depth, out);
}

static int put_double(struct buffer *out, unsigned number, struct slice raw) {
    char text[64], *end = NULL;
    if (raw.len >= sizeof text)
        return -EINVAL;
    memcpy(text, raw.data, raw.len);
    text[raw.len] = 0;
    double value = strtod(text, &end);
    put_tag(out, number, 1);
    return buffer_append(out, &value, sizeof value); /* little-endian, as on the wire */
}

static int put_int(struct buffer *out, unsigned number, struct slice raw) {
    int64_t value = 0;
    if (slice_parse_i64(raw, &value) != 0)
        return 0; /* 1e3: no schema of ours says it so; without it the schema is wider, not wrong */
    put_tag(out, number, 0);
    put_varint(out, (uint64_t)value);
    return out->error;
}

static int put_scalar(struct reader *reader, const struct wire_field *field, struct buffer *out) {
    struct slice raw;
    int error = read_value(reader, &raw);
    if (error)
        return error;
    switch (field->type) {
    case WIRE_STRING: return raw.len >= 2 && raw.data[0] == '"' ? put_text(out, field->number, slice_make(raw.data + 1, raw.len - 2)) : 0;
    case WIRE_BOOL: put_tag(out, field->number, 0); return buffer_append_byte(out, slice_is(raw, "true"));
    case WIRE_INT: return put_int(out, field->number, raw);
    case WIRE_DOUBLE: return put_double(out, field->number, raw);
    default: break;
    }
    /* Any {yaml = 2}: JSON is YAML. */
    put_tag(out, field->number, 2);
    size_t start = out->len;
    put_bytes(out, 2, raw);
    close_length(out, start);
    return out->error;
}

/* One value under the field's number; of a list, each item. */
static int put_value(struct reader *reader, const struct wire_field *field, size_t depth, struct buffer *out) {
    if (depth == WIRE_DEPTH_MAX)
        return -EINVAL;
    /* Its value is one, even when it is a list: an extension's, and that of a message with a list inside. */
    bool one = (field->type == WIRE_ANY && !field->name) || (field->type == WIRE_MESSAGE && field->message->list);
    if (!one && accept(reader, '[')) {
        if (accept(reader, ']'))
            return 0;
        do {
            int error = put_value(reader, field, depth + 1, out);
            if (error)
                return error;
        } while (accept(reader, ','));
        return accept(reader, ']') ? 0 : -EINVAL;
    }
    if (field->type != WIRE_MESSAGE)
        return put_scalar(reader, field, out);
    put_tag(out, field->number, 2);
    size_t start = out->len;
    int error = put_message(reader, field->message, depth + 1, out);
    close_length(out, start);
    return error ? error : out->error;
}

int kube_openapi_to_protobuf(struct slice json, struct buffer *out) {
    struct reader reader = {json.data, json.data + json.len};
    bool v2 = slice_starts(json, SLICE("{\"swagger\":"));
    if (!v2 && !slice_starts(json, SLICE("{\"openapi\":")))
        return -EINVAL;
    int error = put_message(&reader, v2 ? &v2_document : &v3_document, 0, out);
    return error ? error : buffer_error(out);
}
