/* Deep equality and copy of any described struct. */
#include "kube/schema_priv.h"

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool equal_strings(const struct kube_string_list *a, const struct kube_string_list *b) {
    bool same = a->count == b->count;
    for (size_t i = 0; i < a->count && same; i++)
        same = same_text(a->items[i], b->items[i]);
    return same;
}

static bool equal_value(const struct kube_field *field, const void *a, const void *b) {
    switch ((enum kube_form)field->form) {
    case KUBE_FORM_STRING: return same_text(*(const char *const *)a, *(const char *const *)b);
    case KUBE_FORM_BOOL: return *(const bool *)a == *(const bool *)b;
    case KUBE_FORM_INT32: return *(const int32_t *)a == *(const int32_t *)b;
    case KUBE_FORM_INT64: return *(const int64_t *)a == *(const int64_t *)b;
    case KUBE_FORM_DOUBLE: return memcmp(a, b, sizeof(double)) == 0;
    case KUBE_FORM_TIME:
    case KUBE_FORM_MICROTIME: {
        const struct kube_time *x = a, *y = b;
        return x->set == y->set && (!x->set || (x->ns == y->ns && x->far_us == y->far_us));
    }
    case KUBE_FORM_DURATION: return *(const int64_t *)a == *(const int64_t *)b;
    case KUBE_FORM_QUANTITY: return same_text(((const struct kube_quantity *)a)->text, ((const struct kube_quantity *)b)->text);
    case KUBE_FORM_INT_OR_STRING: {
        const struct kube_int_or_string *x = a, *y = b;
        return x->is_string == y->is_string && (x->is_string ? same_text(x->text, y->text) : x->number == y->number);
    }
    case KUBE_FORM_BYTES: return slice_equal(*(const struct slice *)a, *(const struct slice *)b);
    case KUBE_FORM_FIELDS: return same_text(*(const char *const *)a, *(const char *const *)b);
    case KUBE_FORM_RAW:
    case KUBE_FORM_JSON: {
        const struct tree *x = *(struct tree *const *)a, *y = *(struct tree *const *)b;
        return x == y || (x && y && tree_equal(x, y));
    }
    case KUBE_FORM_STRINGS: return equal_strings(a, b);
    case KUBE_FORM_STRUCT: return kube_equal(field->type, a, b);
    }
    UNREACHABLE();
}

static bool equal_items(const struct kube_field *field, const struct kube_array *a, const struct kube_array *b, bool pairs) {
    size_t size = pairs ? kube_pair_size(field) : kube_value_size(field);
    bool same = a->count == b->count;
    for (size_t i = 0; i < a->count && same; i++) {
        const char *x = (const char *)a->items + i * size, *y = (const char *)b->items + i * size;
        if (pairs)
            same = strcmp(*(const char *const *)(const void *)x, *(const char *const *)(const void *)y) == 0 &&
                   equal_value(field, x + sizeof(char *), y + sizeof(char *));
        else
            same = equal_value(field, x, y);
    }
    return same;
}

bool kube_field_equal(const struct kube_field *field, const void *a, const void *b) {
    if (field->shape == KUBE_SHAPE_LIST || field->shape == KUBE_SHAPE_MAP)
        return equal_items(field, a, b, field->shape == KUBE_SHAPE_MAP);
    if (field->shape == KUBE_SHAPE_VALUE || kube_form_is_own_pointer(field))
        return equal_value(field, a, b);
    const void *x = *(void *const *)a, *y = *(void *const *)b;
    return x == y || (x && y && equal_value(field, x, y));
}

bool kube_equal(const struct kube_type *type, const void *a, const void *b) {
    for (size_t i = 0; i < type->fields_count; i++)
        if (!kube_field_equal(&type->fields[i], kube_at(&type->fields[i], a), kube_at(&type->fields[i], b)))
            return false;
    return true;
}

static int copy_text(struct arena *arena, const char *from, const char **to) {
    *to = from ? arena_strdup(arena, from) : NULL;
    return from && !*to ? -ENOMEM : 0;
}

static int copy_strings(struct arena *arena, const struct kube_string_list *from, struct kube_string_list *to) {
    *to = (struct kube_string_list){.count = from->count};
    if (!from->items)
        return 0;
    to->items = ARENA_ARRAY(arena, const char *, from->count);
    int error = to->items ? 0 : -ENOMEM;
    for (size_t i = 0; i < from->count && error == 0; i++)
        error = copy_text(arena, from->items[i], &to->items[i]);
    return error;
}

static int copy_value(const struct kube_field *field, struct arena *arena, const void *from, void *to) {
    switch ((enum kube_form)field->form) {
    case KUBE_FORM_STRING: return copy_text(arena, *(const char *const *)from, to);
    case KUBE_FORM_QUANTITY:
        ((struct kube_quantity *)to)->milli = ((const struct kube_quantity *)from)->milli;
        return copy_text(arena, ((const struct kube_quantity *)from)->text, &((struct kube_quantity *)to)->text);
    case KUBE_FORM_INT_OR_STRING:
        *(struct kube_int_or_string *)to = *(const struct kube_int_or_string *)from;
        return copy_text(arena, ((const struct kube_int_or_string *)from)->text, &((struct kube_int_or_string *)to)->text);
    case KUBE_FORM_BYTES: {
        const struct slice *bytes = from;
        const char *copy = bytes->data ? arena_dup(arena, *bytes) : NULL;
        *(struct slice *)to = slice_make(copy, bytes->len);
        return bytes->data && !copy ? -ENOMEM : 0;
    }
    case KUBE_FORM_FIELDS: return copy_text(arena, *(const char *const *)from, to);
    case KUBE_FORM_RAW:
    case KUBE_FORM_JSON: {
        const struct tree *tree = *(struct tree *const *)from;
        *(struct tree **)to = tree ? tree_copy(arena, tree) : NULL;
        return tree && !*(struct tree **)to ? -ENOMEM : 0;
    }
    case KUBE_FORM_STRINGS: return copy_strings(arena, from, to);
    case KUBE_FORM_STRUCT: return kube_copy(field->type, arena, from, to);
    default: memcpy(to, from, kube_value_size(field)); return 0;
    }
}

static int copy_items(const struct kube_field *field, struct arena *arena, const struct kube_array *from, struct kube_array *to, bool pairs) {
    size_t size = pairs ? kube_pair_size(field) : kube_value_size(field);
    size_t skip = pairs ? sizeof(char *) : 0;
    *to = (struct kube_array){.count = from->count};
    if (!from->items)
        return 0;
    to->items = arena_array(arena, from->count, size);
    int error = to->items ? 0 : -ENOMEM;
    for (size_t i = 0; i < from->count && error == 0; i++) {
        const char *x = (const char *)from->items + i * size;
        char *y = (char *)to->items + i * size;
        if (pairs)
            error = copy_text(arena, *(const char *const *)(const void *)x, (const char **)(void *)y);
        if (error == 0)
            error = copy_value(field, arena, x + skip, y + skip);
    }
    return error;
}

int kube_field_copy(const struct kube_field *field, struct arena *arena, const void *from, void *to) {
    if (field->shape == KUBE_SHAPE_LIST || field->shape == KUBE_SHAPE_MAP)
        return copy_items(field, arena, from, to, field->shape == KUBE_SHAPE_MAP);
    if (field->shape == KUBE_SHAPE_VALUE || kube_form_is_own_pointer(field))
        return copy_value(field, arena, from, to);
    const void *x = *(void *const *)from;
    *(void **)to = x ? arena_alloc(arena, kube_value_size(field)) : NULL;
    if (!x)
        return 0;
    return *(void **)to ? copy_value(field, arena, x, *(void **)to) : -ENOMEM;
}

int kube_copy(const struct kube_type *type, struct arena *arena, const void *from, void *to) {
    int error = 0;
    for (size_t i = 0; i < type->fields_count && error == 0; i++)
        error = kube_field_copy(&type->fields[i], arena, kube_at(&type->fields[i], from), kube_at(&type->fields[i], to));
    return error;
}
