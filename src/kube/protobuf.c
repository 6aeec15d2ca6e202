/* Kubernetes' protobuf → struct. kubectl from 1.32 on and Helm send the bodies of built-in kinds as protobuf: "k8s\0" and then the message
 * runtime.Unknown {typeMeta = 1 {apiVersion = 1, kind = 2}, raw = 2}. protobuf_encode.c is the way back.
 *
 * The walker goes by the field numbers of the tables. Types that upstream inlines into others are messages of their own on the wire: a field number
 * that some fields carry as inline_number opens them, decoded into the same struct. Special messages: Time {seconds = 1, nanos = 2} (an empty one is
 * no time), Quantity {string = 1}, IntOrString {type = 1, int = 2, string = 3}, RawExtension and FieldsV1 {raw = 1} (JSON), map entries {key = 1,
 * value = 2}, lists in maps {items = 1}.
 *
 * Invariants: unknown fields are skipped (protobuf has no strict mode); nesting is bounded; a value of another wire type than the field's is an
 * error; strings are UTF-8 without NUL; every byte comes through the cursor, which checks bounds. */
#include "kube/decode_priv.h"
#include "kube/helpers_priv.h"

#include <math.h>

#define DEPTH_MAX 100
#define YEAR_0_S INT64_C(-62167219200)
#define YEAR_9999_END_S INT64_C(253402300799)

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct reader {
    struct arena *arena;
    struct diag *diag;
    int depth;
};

struct wire {
    uint32_t number;
    unsigned type;
    uint64_t varint;
    struct slice bytes;
};

static int malformed(struct reader *reader, const char *what) {
    return diag_set(reader->diag, -EINVAL, "protobuf: %s", what);
}

static bool take_varint(struct slice *rest, uint64_t *ret) {
    uint64_t value = 0;
    for (size_t i = 0; i < rest->len && i < 10; i++) {
        uint64_t byte = (unsigned char)rest->data[i];
        value |= (byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *rest = slice_from(*rest, i + 1);
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool take_bytes(struct slice *rest, uint64_t len, struct slice *ret) {
    if (len > rest->len)
        return false;
    *ret = slice_head(*rest, (size_t)len);
    *rest = slice_from(*rest, (size_t)len);
    return true;
}

/* The next field of a message. */
static int take_wire(struct reader *reader, struct slice *rest, struct wire *ret) {
    uint64_t tag = 0, len = 0;
    bool good = take_varint(rest, &tag) && tag >> 3 != 0 && tag >> 3 <= UINT32_MAX;
    *ret = (struct wire){.number = (uint32_t)(tag >> 3), .type = tag & 7};
    if (good && ret->type == WIRE_VARINT)
        good = take_varint(rest, &ret->varint);
    else if (good && ret->type == WIRE_BYTES)
        good = take_varint(rest, &len) && take_bytes(rest, len, &ret->bytes);
    else if (good && (ret->type == WIRE_64 || ret->type == WIRE_32))
        good = take_bytes(rest, ret->type == WIRE_64 ? 8 : 4, &ret->bytes);
    else
        good = false;
    return good ? 0 : malformed(reader, "a field is cut short or malformed");
}

/* The last field `number` of a small message; type WIRE_BYTES with no bytes and varint 0 when absent. */
static int find_wire(struct reader *reader, struct slice message, uint32_t number, struct wire *ret) {
    *ret = (struct wire){.type = WIRE_BYTES};
    while (message.len > 0) {
        struct wire wire;
        int error = take_wire(reader, &message, &wire);
        if (error)
            return error;
        if (wire.number == number)
            *ret = wire;
    }
    return 0;
}

static bool text_is_good(struct slice text) {
    for (size_t i = 0; i < text.len;) {
        unsigned char c = (unsigned char)text.data[i];
        size_t more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 4;
        if (c == 0 || more == 4 || text.len - i <= more)
            return false;
        for (size_t j = 1; j <= more; j++)
            if (((unsigned char)text.data[i + j] & 0xc0) != 0x80)
                return false;
        unsigned char next = more ? (unsigned char)text.data[i + 1] : 0;
        if ((c == 0xe0 && next < 0xa0) || (c == 0xed && next > 0x9f) || (c == 0xf0 && next < 0x90) || (c == 0xf4 && next > 0x8f))
            return false;
        i += 1 + more;
    }
    return true;
}

static int read_text(struct reader *reader, struct slice bytes, const char **ret) {
    if (!text_is_good(bytes))
        return malformed(reader, "a string is not UTF-8 or holds a NUL character");
    *ret = arena_dup(reader->arena, bytes);
    return *ret ? 0 : -ENOMEM;
}

static int read_time(struct reader *reader, struct slice message, bool micro, struct kube_time *ret) {
    struct wire seconds, nanos;
    *ret = (struct kube_time){.set = message.len > 0};
    int error = find_wire(reader, message, 1, &seconds);
    if (error == 0)
        error = find_wire(reader, message, 2, &nanos);
    if (error)
        return error;
    int64_t whole = (int64_t)seconds.varint, part = micro ? (int64_t)nanos.varint / 1000 * 1000 : 0;
    if (whole > YEAR_9999_END_S || whole < YEAR_0_S || part < 0 || part >= 1000000000)
        return malformed(reader, "a time is out of range");
    if (whole > 9000000000 || whole < -9000000000)
        *ret = kube_time_far(whole * 1000000 + part / 1000);
    else
        ret->ns = whole * 1000000000 + part;
    return 0;
}

static int read_duration(struct reader *reader, struct slice message, int64_t *ret) {
    struct wire ns;
    int error = find_wire(reader, message, 1, &ns);
    *ret = (int64_t)ns.varint;
    return error;
}

static int read_quantity(struct reader *reader, struct slice message, struct kube_quantity *ret) {
    struct wire text;
    int error = find_wire(reader, message, 1, &text);
    if (error == 0)
        error = kube_quantity_set(ret, reader->arena, text.bytes.len > 0 ? text.bytes : SLICE("0"));
    return error == -EINVAL ? malformed(reader, "a quantity is malformed") : error;
}

static int read_int_or_string(struct reader *reader, struct slice message, struct kube_int_or_string *ret) {
    struct wire type, number, text;
    int error = find_wire(reader, message, 1, &type);
    if (error == 0)
        error = find_wire(reader, message, 2, &number);
    if (error == 0)
        error = find_wire(reader, message, 3, &text);
    if (error)
        return error;
    ret->is_string = type.varint == 1;
    ret->number = (int32_t)(int64_t)number.varint;
    return ret->is_string ? read_text(reader, text.bytes, &ret->text) : 0;
}

static int read_json(struct reader *reader, struct slice message, struct tree **ret) {
    struct wire raw;
    const struct json_options options = {.allow_duplicates = true};
    int error = find_wire(reader, message, 1, &raw);
    if (error || raw.bytes.len == 0)
        return error;
    return json_parse(reader->arena, raw.bytes, &options, ret, reader->diag);
}

static int read_fields(struct reader *reader, struct slice message, const char **ret) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(OBJECT_ARENA_BYTES_MAX);
    struct tree *tree = NULL;
    int error = read_json(reader, message, &tree);
    if (error || !tree)
        return error;
    *ret = json_format(&json, tree) == 0 ? arena_dup(reader->arena, buffer_slice(&json)) : NULL;
    return *ret ? 0 : -ENOMEM;
}

/* Makes room for one more: lists grow by doubling, their capacity being the next power of two of their count. */
static void *grow(struct reader *reader, struct kube_array *array, size_t size) {
    if ((array->count & (array->count - 1)) == 0) {
        size_t capacity = array->count ? array->count * 2 : 1;
        void *items = arena_array(reader->arena, capacity, size);
        if (!items)
            return NULL;
        if (array->count > 0)
            memcpy(items, array->items, array->count * size);
        array->items = items;
    }
    return (char *)array->items + array->count++ * size;
}

static int read_strings(struct reader *reader, struct slice message, struct kube_string_list *list) {
    struct kube_array array = {.items = NULL};
    int error = 0;
    while (message.len > 0 && error == 0) {
        struct wire wire;
        error = take_wire(reader, &message, &wire);
        if (error || wire.number != 1)
            continue;
        const char **item = grow(reader, &array, sizeof *item);
        error = item ? read_text(reader, wire.bytes, item) : -ENOMEM;
    }
    *list = (struct kube_string_list){array.items, array.count};
    return error;
}

static int read_message(struct reader *reader, const struct kube_type *type, uint16_t inlined, struct slice message, void *data);

static int read_struct(struct reader *reader, const struct kube_type *type, uint16_t inlined, struct slice message, void *data) {
    if (reader->depth == DEPTH_MAX)
        return malformed(reader, "messages are nested too deeply");
    reader->depth++;
    int error = read_message(reader, type, inlined, message, data);
    reader->depth--;
    return error;
}

static int read_number(const struct kube_field *field, uint64_t varint, void *at) {
    if (field->form == KUBE_FORM_BOOL)
        *(bool *)at = varint != 0;
    else if (field->form == KUBE_FORM_INT32)
        *(int32_t *)at = (int32_t)(uint32_t)varint;
    else
        *(int64_t *)at = (int64_t)varint;
    return 0;
}

static int read_value(struct reader *reader, const struct kube_field *field, const struct wire *wire, void *at) {
    bool number = field->form == KUBE_FORM_BOOL || field->form == KUBE_FORM_INT32 || field->form == KUBE_FORM_INT64;
    unsigned expected = number ? WIRE_VARINT : field->form == KUBE_FORM_DOUBLE ? WIRE_64 : WIRE_BYTES;
    if (wire->type != expected) {
        diag_at(reader->diag, NULL, -1, -1);
        return diag_set(reader->diag, -EINVAL, "protobuf: field %s has wire type %u", field->name, wire->type);
    }
    switch ((enum kube_form)field->form) {
    case KUBE_FORM_STRING: return read_text(reader, wire->bytes, at);
    case KUBE_FORM_BOOL:
    case KUBE_FORM_INT32:
    case KUBE_FORM_INT64: return read_number(field, wire->varint, at);
    case KUBE_FORM_DOUBLE:
        memcpy(at, wire->bytes.data, sizeof(double));
        return isfinite(*(const double *)at) ? 0 : malformed(reader, "a number is none that JSON knows");
    case KUBE_FORM_TIME:
    case KUBE_FORM_MICROTIME: return read_time(reader, wire->bytes, field->form == KUBE_FORM_MICROTIME, at);
    case KUBE_FORM_DURATION: return read_duration(reader, wire->bytes, at);
    case KUBE_FORM_QUANTITY: return read_quantity(reader, wire->bytes, at);
    case KUBE_FORM_INT_OR_STRING: return read_int_or_string(reader, wire->bytes, at);
    case KUBE_FORM_BYTES: {
        const char *copy = arena_dup(reader->arena, wire->bytes);
        *(struct slice *)at = slice_make(copy, wire->bytes.len);
        return copy ? 0 : -ENOMEM;
    }
    case KUBE_FORM_FIELDS: return read_fields(reader, wire->bytes, at);
    case KUBE_FORM_RAW: return read_json(reader, wire->bytes, at);
    case KUBE_FORM_JSON: return 0;
    case KUBE_FORM_STRINGS: return read_strings(reader, wire->bytes, at);
    case KUBE_FORM_STRUCT: return read_struct(reader, field->type, 0, wire->bytes, at);
    }
    UNREACHABLE();
}

/* Numbers may come packed, several in one field. */
static int read_list(struct reader *reader, const struct kube_field *field, const struct wire *wire, struct kube_array *list) {
    size_t size = kube_value_size(field);
    bool number = field->form == KUBE_FORM_INT32 || field->form == KUBE_FORM_INT64;
    if (!number || wire->type != WIRE_BYTES) {
        void *item = grow(reader, list, size);
        return item ? read_value(reader, field, wire, item) : -ENOMEM;
    }
    struct slice rest = wire->bytes;
    while (rest.len > 0) {
        uint64_t varint = 0;
        void *item = grow(reader, list, size);
        if (!item)
            return -ENOMEM;
        if (!take_varint(&rest, &varint))
            return malformed(reader, "a packed list is malformed");
        read_number(field, varint, item);
    }
    return 0;
}

static int read_pair(struct reader *reader, const struct kube_field *field, struct slice message, struct kube_array *map) {
    struct wire key, value;
    char *pair = grow(reader, map, kube_pair_size(field));
    if (!pair)
        return -ENOMEM;
    int error = find_wire(reader, message, 1, &key);
    if (error == 0)
        error = find_wire(reader, message, 2, &value);
    if (error == 0)
        error = read_text(reader, key.bytes, (const char **)(void *)pair);
    return error ? error : read_value(reader, field, &value, pair + sizeof(char *));
}

static int read_field(struct reader *reader, const struct kube_field *field, const struct wire *wire, void *at) {
    switch ((enum kube_shape)field->shape) {
    case KUBE_SHAPE_LIST: return read_list(reader, field, wire, at);
    case KUBE_SHAPE_MAP: return wire->type == WIRE_BYTES ? read_pair(reader, field, wire->bytes, at) : malformed(reader, "a map entry is malformed");
    case KUBE_SHAPE_POINTER:
        if (kube_form_is_own_pointer(field))
            return read_value(reader, field, wire, at);
        if (!*(void **)at)
            *(void **)at = arena_alloc(reader->arena, kube_value_size(field));
        return *(void **)at ? read_value(reader, field, wire, *(void **)at) : -ENOMEM;
    case KUBE_SHAPE_VALUE:
        if (field->form == KUBE_FORM_STRING && wire->type == WIRE_BYTES && wire->bytes.len == 0) {
            *(const char **)at = NULL;
            return 0;
        }
        return read_value(reader, field, wire, at);
    }
    UNREACHABLE();
}

/* The message of inlined fields that the wire number opens within `inlined`; 0: none. */
static uint16_t inlined_by(const struct kube_field *field, uint16_t inlined, uint32_t number) {
    unsigned shift = inlined == 0 ? 0 : 8;
    uint32_t outer = number << shift | inlined;
    bool inside = inlined > UINT8_MAX || number > UINT8_MAX ? false : (field->inline_number & (shift ? 0xffff : 0xff)) == outer;
    return inside ? (uint16_t)outer : 0;
}

static int read_message(struct reader *reader, const struct kube_type *type, uint16_t inlined, struct slice message, void *data) {
    int error = 0;
    while (message.len > 0 && error == 0) {
        struct wire wire;
        error = take_wire(reader, &message, &wire);
        for (size_t i = 0; i < type->fields_count && error == 0; i++) {
            const struct kube_field *field = &type->fields[i];
            if (field->number != 0 && field->number == wire.number && field->inline_number == inlined) {
                error = read_field(reader, field, &wire, kube_at(field, data));
                break;
            }
            uint16_t opened = inlined_by(field, inlined, wire.number);
            if (opened) {
                error = wire.type == WIRE_BYTES ? read_struct(reader, type, opened, wire.bytes, data) : malformed(reader, "wrong wire type");
                break;
            }
        }
    }
    return error;
}

/* Maps were filled in the order of the wire. A list that is never absent upstream stays nil when it has no entries. */
static void sort_maps(const struct kube_type *type, void *data) {
    for (size_t i = 0; i < type->fields_count; i++) {
        const struct kube_field *field = &type->fields[i];
        void *at = kube_at(field, data);
        struct kube_array *items = at;
        if (field->shape == KUBE_SHAPE_MAP) {
            kube_map_sort(field, at);
            for (size_t j = 0; field->form == KUBE_FORM_STRUCT && j < items->count; j++)
                sort_maps(field->type, (char *)items->items + j * kube_pair_size(field) + sizeof(char *));
        } else if (field->form != KUBE_FORM_STRUCT)
            continue;
        else if (field->shape == KUBE_SHAPE_VALUE)
            sort_maps(field->type, at);
        else if (field->shape == KUBE_SHAPE_POINTER && *(void **)at)
            sort_maps(field->type, *(void **)at);
        else if (field->shape == KUBE_SHAPE_LIST)
            for (size_t j = 0; j < items->count; j++)
                sort_maps(field->type, (char *)items->items + j * field->type->size);
    }
}

static int decode_raw(struct reader *reader, const struct kube_type *type, struct slice raw, void *data) {
    int error = read_struct(reader, type, 0, raw, data);
    if (error == -ENOMEM)
        diag_set(reader->diag, error, "the object is too large");
    if (error == 0)
        sort_maps(type, data);
    return error;
}

struct envelope {
    struct slice api_version, kind, raw;
};

static int open_envelope(struct reader *reader, struct slice bytes, struct envelope *ret) {
    struct wire meta, raw, api_version, kind;
    if (!slice_starts(bytes, slice_make("k8s\0", 4)))
        return malformed(reader, "the body does not start with the Kubernetes envelope");
    bytes = slice_from(bytes, 4);
    int error = find_wire(reader, bytes, 1, &meta);
    if (error == 0)
        error = find_wire(reader, bytes, 2, &raw);
    if (error == 0)
        error = find_wire(reader, meta.bytes, 1, &api_version);
    if (error == 0)
        error = find_wire(reader, meta.bytes, 2, &kind);
    if (error == 0)
        *ret = (struct envelope){api_version.bytes, kind.bytes, raw.bytes};
    return error;
}

int kube_decode_protobuf(const struct kube_kind *kind, struct slice bytes, struct kube_object **ret, struct diag *diag) {
    struct reader reader = {.diag = diag};
    struct envelope envelope;
    int error = open_envelope(&reader, bytes, &envelope);
    if (error)
        return error;
    if (!kind) {
        struct slice group, version;
        kube_api_version_cut(envelope.api_version, &group, &version);
        kind = kube_kind_find(group, version, envelope.kind);
        if (!kind)
            return diag_set(diag, -EINVAL, "no kind \"%.*s\" is registered for version \"%.*s\"", SLICE_ARG(slice_head(envelope.kind, 100)),
                            SLICE_ARG(slice_head(envelope.api_version, 100)));
    }
    if (envelope.kind.len > 0 && !slice_is(envelope.kind, kind->kind))
        return diag_set(diag, -EINVAL, "the kind in the data (%.*s) does not match the expected kind (%s)", SLICE_ARG(slice_head(envelope.kind, 100)),
                        kind->kind);
    if (envelope.api_version.len > 0 && !slice_is(envelope.api_version, kind->api_version))
        return diag_set(diag, -EINVAL, "the API version in the data (%.*s) does not match the expected API version (%s)",
                        SLICE_ARG(slice_head(envelope.api_version, 100)), kind->api_version);
    CLEANUP(kube_object_unrefp) struct kube_object *object = kube_object_new(kind);
    if (!object)
        return -ENOMEM;
    reader.arena = object->arena;
    error = decode_raw(&reader, kind->type, envelope.raw, object->data);
    if (error)
        return error;
    *ret = TAKE(object);
    return 0;
}

/* Options of requests (DeleteOptions, …) come under the group version of the resource they are sent to. */
const struct kube_message *kube_message_find(struct slice api_version, struct slice kind) {
    struct slice group, version;
    kube_api_version_cut(api_version, &group, &version);
    for (const struct kube_message *message = kube_messages; message->kind; message++)
        if (slice_is(kind, message->kind) &&
            (strcmp(message->group, "meta") == 0 || (slice_is(group, message->group) && slice_is(version, message->version))))
            return message;
    return NULL;
}

int kube_protobuf_to_tree(struct arena *arena, struct slice bytes, struct tree **ret, struct diag *diag) {
    struct reader reader = {.diag = diag, .arena = arena};
    struct envelope envelope;
    int error = open_envelope(&reader, bytes, &envelope);
    if (error)
        return error;
    const struct kube_message *message = kube_message_find(envelope.api_version, envelope.kind);
    if (!message)
        return diag_set(diag, -EINVAL, "no kind \"%.*s\" is registered for version \"%.*s\"", SLICE_ARG(slice_head(envelope.kind, 100)),
                        SLICE_ARG(slice_head(envelope.api_version, 100)));
    void *data = arena_alloc(arena, message->type->size);
    const char *api_version = arena_dup(arena, envelope.api_version);
    if (!data || !api_version)
        return -ENOMEM;
    if (!text_is_good(envelope.api_version))
        return malformed(&reader, "apiVersion is not text");
    error = decode_raw(&reader, message->type, envelope.raw, data);
    if (error)
        return error;
    *ret = kube_tree_of(api_version, message->kind, message->type, data, arena);
    return *ret ? 0 : -ENOMEM;
}
