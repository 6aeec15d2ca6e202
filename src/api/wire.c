/* Answers as Kubernetes protobuf, for clients that ask for it (client-go's typed clients do, and kubectl describe). All answers are made as JSON;
 * this is the last step, which puts the document into its other form:
 *
 *   an object or Status     parsed, and encoded by its kind's table
 *   a list                  cut into its items, each by itself, so that the memory needed is that of the answer and one item
 *   an event of a watch     {type = 1, object = 2 {raw = 1: the object in its envelope}}, behind its length in four bytes
 *
 * What no table describes (custom resources, Tables, /version) stays JSON: whoever prefers protobuf reads that, too. */
#include "api/api_priv.h"

#include <stdio.h>

/* ---- members of JSON that we wrote ourselves, without parsing them ---- */

/* The value at the head of the text; what follows it is left in *rest. */
static struct slice take_value(struct slice *rest) {
    size_t depth = 0, i = 0;
    bool in_string = false;
    for (; i < rest->len; i++) {
        char byte = rest->data[i];
        if (in_string) {
            i += byte == '\\';
            in_string = byte != '"';
        } else if (byte == '"') {
            in_string = true;
        } else if (byte == '{' || byte == '[') {
            depth++;
        } else if (depth > 0 && (byte == '}' || byte == ']')) {
            depth--;
        } else if (depth == 0 && (byte == ',' || byte == '}' || byte == ']' || byte == ':')) {
            break;
        }
    }
    struct slice value = slice_head(*rest, MIN(i, rest->len));
    *rest = slice_from(*rest, value.len);
    return slice_trim(value);
}

static void skip_byte(struct slice *rest) {
    if (rest->len)
        *rest = slice_from(*rest, 1);
}

/* The next member of an object whose opening brace has been skipped; false at its end. */
static bool next_member(struct slice *rest, struct slice *ret_key, struct slice *ret_value) {
    *ret_key = take_value(rest);
    skip_byte(rest);
    *ret_value = take_value(rest);
    skip_byte(rest);
    return ret_key->len > 2;
}

static bool next_item(struct slice *rest, struct slice *ret) {
    *ret = take_value(rest);
    skip_byte(rest);
    return ret->len > 0;
}

static struct slice unquoted(struct slice text) {
    return text.len >= 2 && text.data[0] == '"' ? slice_make(text.data + 1, text.len - 2) : text;
}

struct document {
    struct slice api_version, kind, metadata, items, type, object;
};

static struct document open_document(struct slice json) {
    struct document document = {.kind = {NULL, 0}};
    const struct {
        const char *key;
        struct slice *value;
    } members[] = {{"\"apiVersion\"", &document.api_version},
                   {"\"kind\"", &document.kind},
                   {"\"metadata\"", &document.metadata},
                   {"\"items\"", &document.items},
                   {"\"type\"", &document.type},
                   {"\"object\"", &document.object}};
    struct slice rest = slice_trim(json), key, value;
    skip_byte(&rest);
    while (next_member(&rest, &key, &value))
        for (size_t i = 0; i < ARRAY_LEN(members); i++)
            if (slice_is(key, members[i].key))
                *members[i].value = value;
    document.api_version = unquoted(document.api_version);
    document.kind = unquoted(document.kind);
    document.type = unquoted(document.type);
    return document;
}

/* ---- the three forms ---- */

static int encode_object(struct slice json, struct buffer *out) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct tree *tree = NULL;
    int error = arena ? json_parse(arena, json, NULL, &tree, NULL) : -ENOMEM;
    return error ? error : kube_tree_to_protobuf(tree, out);
}

static int put_metadata(struct slice json, struct buffer *out) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer message = BUFFER_INIT(MIB);
    struct kube_list_meta metadata = {.resource_version = NULL};
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    int error = arena ? json_parse(arena, json, NULL, &tree, NULL) : -ENOMEM;
    if (!error)
        error = kube_decode_part(&kube_list_meta_type, tree, arena, &metadata, &diag);
    if (!error)
        error = kube_encode_protobuf_part(&kube_list_meta_type, &metadata, &message);
    return error ? error : kube_protobuf_put(1, buffer_slice(&message), out);
}

static int put_item(const char *api_version, const char *kind, struct slice json, struct buffer *out) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer message = BUFFER_INIT(OBJECT_ARENA_BYTES_MAX);
    struct tree *tree = NULL;
    int error = arena ? json_parse(arena, json, NULL, &tree, NULL) : -ENOMEM;
    if (!error)
        error = kube_tree_to_protobuf_part(api_version, kind, tree, &message);
    return error ? error : kube_protobuf_put(2, buffer_slice(&message), out);
}

static int encode_list(const struct document *list, struct buffer *out) {
    char api_version[320], kind[128], item_kind[128];
    snprintf(api_version, sizeof api_version, "%.*s", SLICE_ARG(slice_head(list->api_version, sizeof api_version - 1)));
    snprintf(kind, sizeof kind, "%.*s", SLICE_ARG(slice_head(list->kind, sizeof kind - 1)));
    snprintf(item_kind, sizeof item_kind, "%.*s", SLICE_ARG(slice_head(list->kind, list->kind.len - 4)));
    CLEANUP(buffer_deinit) struct buffer raw = BUFFER_INIT(API_ANSWER_BYTES_MAX), empty = BUFFER_INIT(KIB);
    /* Of an empty list no item tells whether the kind is described. */
    struct tree nothing = {.type = TREE_MAP, .children = &(struct tree_children){.items = NULL}};
    int error = kube_tree_to_protobuf_part(api_version, item_kind, &nothing, &empty);
    if (!error)
        error = put_metadata(list->metadata, &raw);
    struct slice rest = list->items, item;
    skip_byte(&rest);
    while (!error && next_item(&rest, &item))
        error = put_item(api_version, item_kind, item, &raw);
    return error ? error : kube_protobuf_wrap(api_version, kind, buffer_slice(&raw), out);
}

int api_wire_encode(struct slice json, struct buffer *out) {
    struct document document = open_document(json);
    bool list = document.items.len > 0 && slice_ends(document.kind, SLICE("List")) && document.kind.len > 4 && document.kind.len < 128;
    return list ? encode_list(&document, out) : encode_object(json, out);
}

int api_wire_encode_event(struct slice json, struct buffer *out) {
    struct document event = open_document(json);
    CLEANUP(buffer_deinit)
    struct buffer object = BUFFER_INIT(out->bytes_max),
                  raw = BUFFER_INIT(out->bytes_max), message = BUFFER_INIT(out->bytes_max);
    int error = encode_object(event.object, &object);
    if (!error)
        error = kube_protobuf_put(1, buffer_slice(&object), &raw);
    if (!error)
        error = kube_protobuf_put(1, event.type, &message);
    if (!error)
        error = kube_protobuf_put(2, buffer_slice(&raw), &message);
    if (error)
        return error;
    for (int shift = 24; shift >= 0; shift -= 8)
        buffer_append_byte(out, (char)(message.len >> shift & 0xff));
    return buffer_append_slice(out, buffer_slice(&message));
}
