/* Struct → tree, by the same rules as encode.c. */
#include "kube/custom_priv.h"
#include "kube/helpers_priv.h"

static struct tree *tree_of_struct(const struct kube_type *type, const void *data, struct arena *arena, struct tree *map);

static struct tree *tree_of_bytes(struct slice bytes, struct arena *arena) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(bytes.len * 2 + 8);
    return base64_encode(&text, bytes) == 0 ? tree_string(arena, buffer_slice(&text)) : NULL;
}

static struct tree *tree_of_time(const struct kube_time *time, bool micro, struct arena *arena) {
    char text[TIMESTAMP_BYTES];
    if (!time->set)
        return tree_null(arena);
    kube_time_format(time, micro, text);
    return tree_text(arena, text);
}

static struct tree *tree_of_strings(const struct kube_string_list *list, struct arena *arena) {
    struct tree *out = tree_list(arena);
    for (size_t i = 0; i < list->count && out; i++)
        if (tree_push(arena, out, tree_text(arena, list->items[i])) != 0)
            return NULL;
    return out;
}

static struct tree *tree_of_duration(int64_t ns, struct arena *arena) {
    char text[TIMESTAMP_BYTES];
    duration_format(ns, text);
    return tree_text(arena, text);
}

static struct tree *tree_of_either(const struct kube_type *type, const void *data, struct arena *arena) {
    const struct kube_field *field = kube_either_of(type, data);
    return field ? kube_field_tree(field, kube_at(field, data), arena) : tree_null(arena);
}

static struct tree *tree_of_json(const char *json, struct arena *arena) {
    struct tree *tree = NULL;
    return json_parse(arena, slice_of(json), NULL, &tree, NULL) == 0 ? tree : NULL;
}

static struct tree *tree_of_value(const struct kube_field *field, const void *at, struct arena *arena) {
    const struct kube_int_or_string *either = at;
    const struct tree *tree;
    const char *text;
    switch ((enum kube_form)field->form) {
    case KUBE_FORM_STRING: text = *(const char *const *)at; return tree_text(arena, text ? text : "");
    case KUBE_FORM_BOOL: return tree_bool(arena, *(const bool *)at);
    case KUBE_FORM_INT32: return tree_int(arena, *(const int32_t *)at);
    case KUBE_FORM_INT64: return tree_int(arena, *(const int64_t *)at);
    case KUBE_FORM_DOUBLE: return tree_float(arena, *(const double *)at);
    case KUBE_FORM_TIME:
    case KUBE_FORM_MICROTIME: return tree_of_time(at, field->form == KUBE_FORM_MICROTIME, arena);
    case KUBE_FORM_DURATION: return tree_of_duration(*(const int64_t *)at, arena);
    case KUBE_FORM_QUANTITY: text = ((const struct kube_quantity *)at)->text; return tree_text(arena, text ? text : "0");
    case KUBE_FORM_INT_OR_STRING: return either->is_string ? tree_text(arena, either->text ? either->text : "") : tree_int(arena, either->number);
    case KUBE_FORM_BYTES: return tree_of_bytes(*(const struct slice *)at, arena);
    case KUBE_FORM_FIELDS: return tree_of_json(*(const char *const *)at, arena);
    case KUBE_FORM_RAW:
    case KUBE_FORM_JSON: tree = *(struct tree *const *)at; return tree ? tree_copy(arena, tree) : tree_null(arena);
    case KUBE_FORM_STRINGS: return tree_of_strings(at, arena);
    case KUBE_FORM_STRUCT:
        if (field->type->either)
            return tree_of_either(field->type, at, arena);
        return tree_of_struct(field->type, at, arena, tree_map(arena));
    }
    UNREACHABLE();
}

static struct tree *tree_of_items(const struct kube_field *field, const struct kube_array *items, struct arena *arena) {
    bool map = field->shape == KUBE_SHAPE_MAP;
    size_t size = map ? kube_pair_size(field) : kube_value_size(field);
    if (!items->items)
        return tree_null(arena);
    struct tree *out = map ? tree_map(arena) : tree_list(arena);
    for (size_t i = 0; i < items->count && out; i++) {
        const char *item = (const char *)items->items + i * size;
        int error;
        if (map)
            error = tree_set(arena, out, slice_of(*(const char *const *)(const void *)item), tree_of_value(field, item + sizeof(char *), arena));
        else
            error = tree_push(arena, out, tree_of_value(field, item, arena));
        if (error)
            return NULL;
    }
    return out;
}

struct tree *kube_field_tree(const struct kube_field *field, const void *at, struct arena *arena) {
    if (field->shape == KUBE_SHAPE_LIST || field->shape == KUBE_SHAPE_MAP)
        return tree_of_items(field, at, arena);
    if (field->shape == KUBE_SHAPE_VALUE)
        return tree_of_value(field, at, arena);
    if (kube_field_is_empty(field, at))
        return tree_null(arena);
    return tree_of_value(field, kube_form_is_own_pointer(field) ? at : *(void *const *)at, arena);
}

static struct tree *tree_of_struct(const struct kube_type *type, const void *data, struct arena *arena, struct tree *map) {
    for (size_t i = 0; i < type->fields_count && map; i++) {
        const struct kube_field *field = &type->fields[i];
        const void *at = kube_at(field, data);
        if (!(field->flags & KUBE_ALWAYS) && kube_field_is_empty(field, at))
            continue;
        if (tree_set(arena, map, slice_of(field->name), kube_field_tree(field, at, arena)) != 0)
            return NULL;
    }
    return map;
}

struct tree *kube_tree_of(const char *api_version, const char *kind, const struct kube_type *type, const void *data, struct arena *arena) {
    struct tree *map = tree_map(arena);
    if (!map || tree_set_text(arena, map, "kind", kind) != 0 || tree_set_text(arena, map, "apiVersion", api_version) != 0)
        return NULL;
    return tree_of_struct(type, data, arena, map);
}

struct tree *kube_encode_tree(const struct kube_object *object, struct arena *arena) {
    if (object->kind->custom)
        return custom_tree(object, arena, true);
    return kube_tree_of(object->kind->api_version, object->kind->kind, object->kind->type, object->data, arena);
}
