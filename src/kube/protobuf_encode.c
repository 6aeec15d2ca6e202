/* Struct → Kubernetes' protobuf, so that the bytes are those of upstream's generated encoders:
 *
 *   fields by rising number, those of inlined types as messages of their own; a value that is no pointer is written even when it is zero, a pointer
 *   when it is there, a list entry by entry, never packed; maps by key; Time as {seconds, nanos}, an empty message when not set; Quantity {string};
 *   IntOrString {type, int, string}, all three; free-form values as their JSON in {raw}.
 *
 * A message stands behind its length, which is known only when it has been written: so everything is written backwards, last field first, from the
 * end of a growing block towards its start. Nesting is bounded by the objects', which were decoded with a bound. */
#include "kube/decode_priv.h"
#include "kube/schema_priv.h"

#define FIELDS_MAX 128 /* of one type */
#define FIRST_BYTES 4096

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2 };

struct writer {
    char *data;
    size_t capacity, at; /* the written bytes are data[at..capacity) */
    size_t bytes_max;
    int error;
};

/* ---- backwards ---- */

static bool make_room(struct writer *writer, size_t len) {
    if (writer->error || len <= writer->at)
        return !writer->error;
    size_t used = writer->capacity - writer->at, capacity = writer->capacity ? writer->capacity : FIRST_BYTES;
    while (capacity - used < len && capacity < writer->bytes_max)
        capacity *= 2;
    char *data = capacity - used < len ? NULL : malloc(capacity);
    if (!data) {
        writer->error = -ENOMEM;
        return false;
    }
    if (used > 0)
        memcpy(data + capacity - used, writer->data + writer->at, used);
    free(writer->data);
    *writer = (struct writer){.data = data, .capacity = capacity, .at = capacity - used, .bytes_max = writer->bytes_max};
    return true;
}

static void put(struct writer *writer, const void *bytes, size_t len) {
    if (len == 0 || !make_room(writer, len))
        return;
    writer->at -= len;
    memcpy(writer->data + writer->at, bytes, len);
}

static void put_varint(struct writer *writer, uint64_t value) {
    unsigned char bytes[10];
    size_t len = 0;
    do {
        bytes[len] = (unsigned char)((value & 0x7f) | 0x80);
        value >>= 7;
        len++;
    } while (value);
    bytes[len - 1] &= 0x7f;
    put(writer, bytes, len);
}

static void put_tag(struct writer *writer, uint32_t number, unsigned wire) {
    put_varint(writer, (uint64_t)number << 3 | wire);
}

static size_t written(const struct writer *writer) {
    return writer->capacity - writer->at;
}

/* Closes the message that was begun when `before` bytes were written: its length and tag go in front. */
static void close_message(struct writer *writer, uint32_t number, size_t before) {
    put_varint(writer, written(writer) - before);
    put_tag(writer, number, WIRE_BYTES);
}

static void put_bytes(struct writer *writer, uint32_t number, struct slice bytes) {
    size_t before = written(writer);
    put(writer, bytes.data, bytes.len);
    close_message(writer, number, before);
}

static void put_number(struct writer *writer, uint32_t number, uint64_t value) {
    put_varint(writer, value);
    put_tag(writer, number, WIRE_VARINT);
}

/* ---- values ---- */

static void put_time(struct writer *writer, const struct kube_time *time, bool micro) {
    if (!time->set)
        return;
    int64_t nanos = time->ns % 1000000000, seconds = time->ns / 1000000000;
    if (time->far_us) {
        nanos = time->far_us % 1000000 * 1000;
        seconds = time->far_us / 1000000;
    }
    if (nanos < 0) {
        nanos += 1000000000;
        seconds--;
    }
    put_number(writer, 2, micro ? (uint64_t)nanos : 0);
    put_number(writer, 1, (uint64_t)seconds);
}

static void put_int_or_string(struct writer *writer, const struct kube_int_or_string *either) {
    put_bytes(writer, 3, slice_of(either->is_string ? either->text : ""));
    put_number(writer, 2, either->is_string ? 0 : (uint64_t)(int64_t)either->number);
    put_number(writer, 1, either->is_string);
}

static void put_json(struct writer *writer, const struct tree *tree) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(writer->bytes_max);
    if (!tree)
        return;
    if (json_format(&text, tree) != 0)
        writer->error = -ENOMEM;
    put_bytes(writer, 1, buffer_slice(&text));
}

static void put_strings(struct writer *writer, uint32_t number, const struct kube_string_list *list) {
    for (size_t i = list->count; i-- > 0;)
        put_bytes(writer, number, slice_of(list->items[i]));
}

static void put_message(struct writer *writer, const struct kube_type *type, uint16_t inlined, const void *data);

/* The inside of a value that is a message; other forms have none. */
static void put_inside(struct writer *writer, const struct kube_field *field, const void *at) {
    const struct kube_quantity *quantity = at;
    switch ((enum kube_form)field->form) {
    case KUBE_FORM_TIME:
    case KUBE_FORM_MICROTIME: put_time(writer, at, field->form == KUBE_FORM_MICROTIME); return;
    case KUBE_FORM_DURATION: put_number(writer, 1, (uint64_t) * (const int64_t *)at); return;
    case KUBE_FORM_QUANTITY: put_bytes(writer, 1, slice_of(quantity->text ? quantity->text : "0")); return;
    case KUBE_FORM_INT_OR_STRING: put_int_or_string(writer, at); return;
    case KUBE_FORM_RAW: put_json(writer, *(struct tree *const *)at); return;
    case KUBE_FORM_FIELDS: put_bytes(writer, 1, slice_of(*(const char *const *)at)); return;
    case KUBE_FORM_STRINGS: put_strings(writer, 1, at); return;
    case KUBE_FORM_STRUCT: put_message(writer, field->type, 0, at); return;
    default: UNREACHABLE();
    }
}

static void put_value(struct writer *writer, const struct kube_field *field, uint32_t number, const void *at) {
    switch ((enum kube_form)field->form) {
    case KUBE_FORM_STRING: put_bytes(writer, number, slice_of(*(const char *const *)at)); return;
    case KUBE_FORM_BYTES: put_bytes(writer, number, *(const struct slice *)at); return;
    case KUBE_FORM_BOOL: put_number(writer, number, *(const bool *)at); return;
    case KUBE_FORM_INT32: put_number(writer, number, (uint64_t)(int64_t) * (const int32_t *)at); return;
    case KUBE_FORM_INT64: put_number(writer, number, (uint64_t) * (const int64_t *)at); return;
    case KUBE_FORM_DOUBLE:
        put(writer, at, sizeof(double)); /* little-endian, as this machine is; see the assertion below */
        put_tag(writer, number, WIRE_64);
        return;
    case KUBE_FORM_JSON: return; /* has no wire form */
    default: {
        size_t before = written(writer);
        put_inside(writer, field, at);
        close_message(writer, number, before);
    }
    }
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "doubles are copied as they are");

static void put_pair(struct writer *writer, const struct kube_field *field, const char *pair) {
    const char *key = *(const char *const *)(const void *)pair;
    size_t before = written(writer);
    put_value(writer, field, 2, pair + sizeof(char *));
    put_bytes(writer, 1, slice_of(key));
    close_message(writer, field->number, before);
}

static void put_field(struct writer *writer, const struct kube_field *field, const void *at) {
    const struct kube_array *items = at;
    bool bytes = field->form == KUBE_FORM_BYTES && field->shape == KUBE_SHAPE_VALUE;
    switch ((enum kube_shape)field->shape) {
    case KUBE_SHAPE_LIST:
        for (size_t i = items->count; i-- > 0;)
            put_value(writer, field, field->number, (const char *)items->items + i * kube_value_size(field));
        return;
    case KUBE_SHAPE_MAP:
        for (size_t i = items->count; i-- > 0;)
            put_pair(writer, field, (const char *)items->items + i * kube_pair_size(field));
        return;
    case KUBE_SHAPE_POINTER:
        if (!kube_field_is_empty(field, at))
            put_value(writer, field, field->number, kube_form_is_own_pointer(field) ? at : *(void *const *)at);
        return;
    case KUBE_SHAPE_VALUE:
        if (!bytes || ((const struct slice *)at)->data)
            put_value(writer, field, field->number, at);
        return;
    }
}

/* ---- messages ---- */

struct place {
    uint32_t number;
    const struct kube_field *field;
    uint16_t opens; /* the inlined message that stands here; 0: the field itself */
};

/* What stands in the message `inlined` of a type, by rising number; inlined messages once. */
static size_t places_of(const struct kube_type *type, uint16_t inlined, struct place places[FIELDS_MAX]) {
    size_t count = 0;
    for (size_t i = 0; i < type->fields_count; i++) {
        const struct kube_field *field = &type->fields[i];
        struct place place = {.number = field->number, .field = field};
        if (field->inline_number != inlined) {
            place.opens = inlined == 0 ? field->inline_number & 0xff : field->inline_number;
            place.number = inlined == 0 ? place.opens : field->inline_number >> 8;
            if (inlined != 0 && ((field->inline_number & 0xff) != inlined || field->inline_number <= UINT8_MAX))
                continue;
        }
        if (place.number == 0)
            continue; /* only in JSON */
        ASSERT(count < FIELDS_MAX);
        size_t at = count;
        while (at > 0 && places[at - 1].number > place.number)
            at--;
        if (at > 0 && places[at - 1].number == place.number)
            continue;
        memmove(&places[at + 1], &places[at], (count - at) * sizeof *places);
        places[at] = place;
        count++;
    }
    return count;
}

static void put_message(struct writer *writer, const struct kube_type *type, uint16_t inlined, const void *data) {
    struct place places[FIELDS_MAX + 1];
    for (size_t i = places_of(type, inlined, places); i-- > 0 && !writer->error;) {
        if (!places[i].opens) {
            put_field(writer, places[i].field, kube_at(places[i].field, data));
            continue;
        }
        size_t before = written(writer);
        put_message(writer, type, places[i].opens, data);
        close_message(writer, places[i].number, before);
    }
}

/* The envelope around what has been written: {typeMeta = 1 {apiVersion = 1, kind = 2}, raw = 2, contentEncoding = 3, contentType = 4}. */
static void put_envelope(struct writer *writer, const char *api_version, const char *kind) {
    close_message(writer, 2, 0);
    size_t before = written(writer);
    put_bytes(writer, 2, slice_of(kind));
    put_bytes(writer, 1, slice_of(api_version));
    close_message(writer, 1, before);
    put(writer, "k8s", 4);
}

static int finish(struct writer *writer, struct buffer *out) {
    int error = writer->error ? writer->error : buffer_append(out, writer->data + writer->at, written(writer));
    free(writer->data);
    return error;
}

int kube_encode_protobuf_part(const struct kube_type *type, const void *data, struct buffer *out) {
    struct writer writer = {.bytes_max = out->bytes_max};
    put_message(&writer, type, 0, data);
    return finish(&writer, out);
}

int kube_protobuf_wrap(const char *api_version, const char *kind, struct slice raw, struct buffer *out) {
    static const char no_encoding[] = {0x1a, 0, 0x22, 0};
    struct writer writer = {.bytes_max = out->bytes_max};
    put(&writer, raw.data, raw.len);
    put_envelope(&writer, api_version, kind);
    int error = finish(&writer, out);
    return error ? error : buffer_append(out, no_encoding, sizeof no_encoding);
}

int kube_protobuf_put(uint32_t number, struct slice message, struct buffer *out) {
    struct writer writer = {.bytes_max = out->bytes_max};
    put_bytes(&writer, number, message);
    return finish(&writer, out);
}

int kube_encode_protobuf(const struct kube_object *object, struct buffer *out) {
    CLEANUP(buffer_deinit) struct buffer raw = BUFFER_INIT(out->bytes_max);
    if (object->kind->custom)
        return -ENOTSUP;
    int error = kube_encode_protobuf_part(object->kind->type, object->data, &raw);
    return error ? error : kube_protobuf_wrap(object->kind->api_version, object->kind->kind, buffer_slice(&raw), out);
}

/* ---- from trees ---- */

int kube_tree_to_protobuf_part(const char *api_version, const char *kind, const struct tree *tree, struct buffer *out) {
    const struct kube_message *message = kube_message_find(slice_of(api_version), slice_of(kind));
    struct diag diag = DIAG_INIT;
    if (!message)
        return -ENOTSUP;
    CLEANUP(arena_freep) struct arena *arena = arena_new(OBJECT_ARENA_BYTES_MAX);
    void *data = arena ? arena_alloc(arena, message->type->size) : NULL;
    int error = data ? kube_decode_part(message->type, tree, arena, data, &diag) : -ENOMEM;
    return error ? error : kube_encode_protobuf_part(message->type, data, out);
}

int kube_tree_to_protobuf(const struct tree *tree, struct buffer *out) {
    const char *api_version = tree_text_or(tree_find(tree, "apiVersion"), ""), *kind = tree_text_or(tree_find(tree, "kind"), "");
    CLEANUP(buffer_deinit) struct buffer raw = BUFFER_INIT(out->bytes_max);
    int error = kube_tree_to_protobuf_part(api_version, kind, tree, &raw);
    return error ? error : kube_protobuf_wrap(api_version, kind, buffer_slice(&raw), out);
}
