/* What the walkers share about fields: sizes of their values, when they count as empty, and paths for messages. */
#include "kube/path_priv.h"
#include "kube/schema_priv.h"

#include <stdio.h>

size_t kube_value_size(const struct kube_field *field) {
    static const size_t sizes[] = {
        [KUBE_FORM_STRING] = sizeof(char *),
        [KUBE_FORM_BOOL] = sizeof(bool),
        [KUBE_FORM_INT32] = sizeof(int32_t),
        [KUBE_FORM_INT64] = sizeof(int64_t),
        [KUBE_FORM_DOUBLE] = sizeof(double),
        [KUBE_FORM_TIME] = sizeof(struct kube_time),
        [KUBE_FORM_MICROTIME] = sizeof(struct kube_time),
        [KUBE_FORM_DURATION] = sizeof(int64_t),
        [KUBE_FORM_QUANTITY] = sizeof(struct kube_quantity),
        [KUBE_FORM_INT_OR_STRING] = sizeof(struct kube_int_or_string),
        [KUBE_FORM_BYTES] = sizeof(struct slice),
        [KUBE_FORM_RAW] = sizeof(struct tree *),
        [KUBE_FORM_FIELDS] = sizeof(char *),
        [KUBE_FORM_JSON] = sizeof(struct tree *),
        [KUBE_FORM_STRINGS] = sizeof(struct kube_string_list),
        [KUBE_FORM_STRUCT] = 0,
    };
    return field->form == KUBE_FORM_STRUCT ? field->type->size : sizes[field->form];
}

/* The pairs of all maps are {const char *key; VALUE value;} and no value is aligned stricter than a pointer. */
size_t kube_pair_size(const struct kube_field *field) {
    size_t size = sizeof(char *) + kube_value_size(field);
    return (size + sizeof(char *) - 1) / sizeof(char *) * sizeof(char *);
}

bool kube_form_is_own_pointer(const struct kube_field *field) {
    switch (field->form) {
    case KUBE_FORM_STRING:
    case KUBE_FORM_TIME:
    case KUBE_FORM_MICROTIME:
    case KUBE_FORM_RAW:
    case KUBE_FORM_FIELDS:
    case KUBE_FORM_JSON: return true;
    default: return false;
    }
}

const struct kube_field *kube_field_find(const struct kube_type *type, struct slice name) {
    for (size_t i = 0; i < type->fields_count; i++)
        if (slice_is(name, type->fields[i].name))
            return &type->fields[i];
    return NULL;
}

const struct kube_field *kube_either_of(const struct kube_type *type, const void *data) {
    const struct kube_field *scalar = NULL;
    for (size_t i = 0; i < type->fields_count; i++) {
        const struct kube_field *field = &type->fields[i];
        if (field->shape == KUBE_SHAPE_VALUE)
            scalar = field;
        else if (!kube_field_is_empty(field, kube_at(field, data)))
            return field;
    }
    return scalar;
}

const struct kube_field *kube_either_for(const struct kube_type *type, const struct tree *tree) {
    for (size_t i = 0; i < type->fields_count; i++) {
        const struct kube_field *field = &type->fields[i];
        enum tree_type fits = field->shape == KUBE_SHAPE_LIST ? TREE_LIST : field->form == KUBE_FORM_STRUCT ? TREE_MAP : TREE_BOOL;
        if (tree->type == fits)
            return field;
    }
    return NULL;
}

static bool value_is_empty(const struct kube_field *field, const void *at) {
    switch ((enum kube_form)field->form) {
    case KUBE_FORM_STRING: return !*(const char *const *)at || (field->shape == KUBE_SHAPE_VALUE && !**(const char *const *)at);
    case KUBE_FORM_BOOL: return !*(const bool *)at;
    case KUBE_FORM_INT32: return *(const int32_t *)at == 0;
    case KUBE_FORM_INT64: return *(const int64_t *)at == 0;
    case KUBE_FORM_DOUBLE: return !(*(const double *)at < 0 || *(const double *)at > 0);
    case KUBE_FORM_TIME:
    case KUBE_FORM_MICROTIME: return !((const struct kube_time *)at)->set;
    case KUBE_FORM_BYTES: return ((const struct slice *)at)->len == 0;
    case KUBE_FORM_FIELDS: return !*(const char *const *)at;
    case KUBE_FORM_RAW:
    case KUBE_FORM_JSON: return !*(struct tree *const *)at;
    default: return false; /* structs, quantities and IntOrStrings are Go structs: omitempty keeps them */
    }
}

bool kube_field_is_empty(const struct kube_field *field, const void *at) {
    switch ((enum kube_shape)field->shape) {
    case KUBE_SHAPE_LIST:
    case KUBE_SHAPE_MAP: return ((const struct kube_array *)at)->count == 0;
    case KUBE_SHAPE_POINTER: return kube_form_is_own_pointer(field) ? value_is_empty(field, at) : !*(void *const *)at;
    default: return value_is_empty(field, at);
    }
}

size_t kube_path_push(struct kube_path *path, const char *name, size_t len) {
    size_t before = path->len;
    size_t room = sizeof path->text - 1 - path->len;
    if (path->len > 0 && room > 0) {
        path->text[path->len++] = '.';
        room--;
    }
    len = MIN(len, room);
    memcpy(path->text + path->len, name, len);
    path->len += len;
    path->text[path->len] = 0;
    return before;
}

size_t kube_path_push_index(struct kube_path *path, size_t index) {
    size_t before = path->len;
    int wrote = snprintf(path->text + path->len, sizeof path->text - path->len, "[%zu]", index);
    path->len = MIN(path->len + (size_t)wrote, sizeof path->text - 1);
    return before;
}

size_t kube_path_push_key(struct kube_path *path, const char *key) {
    size_t before = path->len;
    int wrote = snprintf(path->text + path->len, sizeof path->text - path->len, "[%s]", key);
    path->len = MIN(path->len + (size_t)wrote, sizeof path->text - 1);
    return before;
}

void kube_path_pop(struct kube_path *path, size_t before) {
    path->len = before;
    path->text[before] = 0;
}
