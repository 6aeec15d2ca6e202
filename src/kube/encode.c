/* Struct → JSON, in the order of upstream's fields, kind and apiVersion first. What Go's omitempty leaves out is left out: absent pointers, "" 0
 * false, empty lists and maps; structs held by value stay even when empty ("status": {}), except times, which newer upstream omits too. */
#include "kube/custom_priv.h"
#include "kube/helpers_priv.h"

static void encode_struct(const struct kube_type *type, const void *data, bool comma, struct buffer *out);

static void encode_bytes(struct slice bytes, struct buffer *out) {
    buffer_append_byte(out, '"');
    base64_encode(out, bytes);
    buffer_append_byte(out, '"');
}

static void encode_time(const struct kube_time *time, bool micro, struct buffer *out) {
    char text[TIMESTAMP_BYTES];
    if (!time->set) {
        buffer_append_text(out, "null");
        return;
    }
    kube_time_format(time, micro, text);
    buffer_printf(out, "\"%s\"", text);
}

static void encode_duration(int64_t ns, struct buffer *out) {
    char text[TIMESTAMP_BYTES];
    duration_format(ns, text);
    buffer_printf(out, "\"%s\"", text);
}

static void encode_text(const char *text, struct buffer *out) {
    json_format_string(out, slice_of(text ? text : ""));
}

static void encode_strings(const struct kube_string_list *list, struct buffer *out) {
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            buffer_append_byte(out, ',');
        encode_text(list->items[i], out);
    }
    buffer_append_byte(out, ']');
}

static void encode_field(const struct kube_field *field, const void *at, struct buffer *out);

static void encode_either(const struct kube_type *type, const void *data, struct buffer *out) {
    const struct kube_field *field = kube_either_of(type, data);
    if (field)
        encode_field(field, kube_at(field, data), out);
    else
        buffer_append_text(out, "null");
}

static void encode_value(const struct kube_field *field, const void *at, struct buffer *out) {
    const struct kube_int_or_string *either = at;
    const struct tree *tree;
    switch ((enum kube_form)field->form) {
    case KUBE_FORM_STRING: encode_text(*(const char *const *)at, out); return;
    case KUBE_FORM_BOOL: buffer_append_text(out, *(const bool *)at ? "true" : "false"); return;
    case KUBE_FORM_INT32: buffer_printf(out, "%" PRId32, *(const int32_t *)at); return;
    case KUBE_FORM_INT64: buffer_printf(out, "%" PRId64, *(const int64_t *)at); return;
    case KUBE_FORM_DOUBLE: json_format_double(out, *(const double *)at); return;
    case KUBE_FORM_TIME:
    case KUBE_FORM_MICROTIME: encode_time(at, field->form == KUBE_FORM_MICROTIME, out); return;
    case KUBE_FORM_DURATION: encode_duration(*(const int64_t *)at, out); return;
    case KUBE_FORM_QUANTITY:
        buffer_printf(out, "\"%s\"", ((const struct kube_quantity *)at)->text ? ((const struct kube_quantity *)at)->text : "0");
        return;
    case KUBE_FORM_INT_OR_STRING:
        if (either->is_string)
            encode_text(either->text, out);
        else
            buffer_printf(out, "%" PRId32, either->number);
        return;
    case KUBE_FORM_BYTES: encode_bytes(*(const struct slice *)at, out); return;
    case KUBE_FORM_FIELDS: buffer_append_text(out, *(const char *const *)at); return;
    case KUBE_FORM_RAW:
    case KUBE_FORM_JSON:
        tree = *(struct tree *const *)at;
        if (tree)
            json_format(out, tree);
        else
            buffer_append_text(out, "null");
        return;
    case KUBE_FORM_STRINGS: encode_strings(at, out); return;
    case KUBE_FORM_STRUCT:
        if (field->type->either) {
            encode_either(field->type, at, out);
            return;
        }
        buffer_append_byte(out, '{');
        encode_struct(field->type, at, false, out);
        buffer_append_byte(out, '}');
        return;
    }
    UNREACHABLE();
}

static void encode_list(const struct kube_field *field, const struct kube_array *list, struct buffer *out) {
    size_t size = kube_value_size(field);
    if (!list->items) {
        buffer_append_text(out, "null");
        return;
    }
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            buffer_append_byte(out, ',');
        encode_value(field, (const char *)list->items + i * size, out);
    }
    buffer_append_byte(out, ']');
}

static void encode_map(const struct kube_field *field, const struct kube_array *map, struct buffer *out) {
    size_t size = kube_pair_size(field);
    if (!map->items) {
        buffer_append_text(out, "null");
        return;
    }
    buffer_append_byte(out, '{');
    for (size_t i = 0; i < map->count; i++) {
        const char *pair = (const char *)map->items + i * size;
        if (i > 0)
            buffer_append_byte(out, ',');
        encode_text(*(const char *const *)(const void *)pair, out);
        buffer_append_byte(out, ':');
        encode_value(field, pair + sizeof(char *), out);
    }
    buffer_append_byte(out, '}');
}

static void encode_field(const struct kube_field *field, const void *at, struct buffer *out) {
    switch ((enum kube_shape)field->shape) {
    case KUBE_SHAPE_LIST: encode_list(field, at, out); return;
    case KUBE_SHAPE_MAP: encode_map(field, at, out); return;
    case KUBE_SHAPE_POINTER:
        if (kube_field_is_empty(field, at))
            buffer_append_text(out, "null");
        else
            encode_value(field, kube_form_is_own_pointer(field) ? at : *(void *const *)at, out);
        return;
    case KUBE_SHAPE_VALUE: encode_value(field, at, out); return;
    }
}

static void encode_struct(const struct kube_type *type, const void *data, bool comma, struct buffer *out) {
    for (size_t i = 0; i < type->fields_count; i++) {
        const struct kube_field *field = &type->fields[i];
        const void *at = kube_at(field, data);
        if (!(field->flags & KUBE_ALWAYS) && kube_field_is_empty(field, at))
            continue;
        buffer_append_text(out, comma ? ",\"" : "\"");
        buffer_append_text(out, field->name);
        buffer_append_text(out, "\":");
        encode_field(field, at, out);
        comma = true;
    }
}

/* What is a tree in an object of a custom kind, after its metadata. */
static void encode_content(const struct tree *content, struct buffer *out) {
    for (size_t i = 0; i < tree_count(content); i++) {
        const struct tree_entry *entry = &content->children->items[i];
        buffer_append_byte(out, ',');
        json_format_string(out, entry->key);
        buffer_append_byte(out, ':');
        json_format(out, entry->value);
    }
}

int kube_encode_json(const struct kube_object *object, struct buffer *out) {
    buffer_printf(out, "{\"kind\":\"%s\",\"apiVersion\":\"%s\"", object->kind->kind, object->kind->api_version);
    encode_struct(object->kind->type, object->data, true, out);
    if (object->kind->custom)
        encode_content(object->custom->content, out);
    buffer_append_byte(out, '}');
    return buffer_error(out);
}

int kube_encode_part(const struct kube_type *type, const void *data, struct buffer *out) {
    buffer_append_byte(out, '{');
    encode_struct(type, data, false, out);
    buffer_append_byte(out, '}');
    return buffer_error(out);
}
