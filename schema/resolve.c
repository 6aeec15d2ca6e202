/* Completes the model: each field's type text becomes a shape (value, pointer, list, map) of a form or a struct; inlined types are flattened into the
 * types that hold them (their protobuf number is kept, since on the wire they are messages of their own); kinds find their types. */
#include "schema_priv.h"

static const struct schema_form forms[] = {
    {"string", "KUBE_FORM_STRING", "const char *", "const char *", "struct kube_string_list", "struct kube_string_map"},
    {"bool", "KUBE_FORM_BOOL", "bool", "bool *", NULL, NULL},
    {"int32", "KUBE_FORM_INT32", "int32_t", "int32_t *", "struct kube_int32_list", NULL},
    {"int64", "KUBE_FORM_INT64", "int64_t", "int64_t *", "struct kube_int64_list", NULL},
    {"float64", "KUBE_FORM_DOUBLE", "double", "double *", NULL, NULL},
    {"time", "KUBE_FORM_TIME", "struct kube_time", "struct kube_time", NULL, "struct kube_time_map"},
    {"duration", "KUBE_FORM_DURATION", "int64_t", NULL, NULL, NULL},
    {"microtime", "KUBE_FORM_MICROTIME", "struct kube_time", "struct kube_time", NULL, NULL},
    {"quantity", "KUBE_FORM_QUANTITY", "struct kube_quantity", "struct kube_quantity *", NULL, "struct kube_quantity_map"},
    {"intorstring", "KUBE_FORM_INT_OR_STRING", "struct kube_int_or_string", "struct kube_int_or_string *", NULL, NULL},
    {"bytes", "KUBE_FORM_BYTES", "struct slice", NULL, NULL, "struct kube_bytes_map"},
    {"raw", "KUBE_FORM_RAW", "struct tree *", "struct tree *", "struct kube_tree_list", NULL},
    {"fields", "KUBE_FORM_FIELDS", "const char *", "const char *", NULL, NULL},
    {"json", "KUBE_FORM_JSON", "struct tree *", "struct tree *", "struct kube_tree_list", NULL},
    {"strings", "KUBE_FORM_STRINGS", NULL, NULL, NULL, "struct kube_strings_map"},
};

const struct schema_form *schema_form_find(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(forms); i++)
        if (strcmp(forms[i].name, name) == 0)
            return &forms[i];
    return NULL;
}

static const char *const keywords[] = {"auto",   "break",    "case",     "char",     "const", "continue", "default", "do",     "double",
                                       "else",   "enum",     "extern",   "float",    "for",   "goto",     "if",      "inline", "int",
                                       "long",   "register", "restrict", "return",   "short", "signed",   "sizeof",  "static", "struct",
                                       "switch", "typedef",  "union",    "unsigned", "void",  "volatile", "while"};

static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}
static bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}

/* A word starts at a capital behind a small letter or digit, and at the last capital of a run (HTTPGet → http_get) unless it only ends a plural
 * (IPs). */
static bool word_starts(const char *name, size_t i) {
    if (i == 0 || !is_upper(name[i]))
        return false;
    if (!is_upper(name[i - 1]))
        return true;
    bool plural = name[i + 1] == 's' && !is_lower(name[i + 2]);
    return is_lower(name[i + 1]) && !plural;
}

const char *schema_c_name(struct arena *arena, const char *name) {
    size_t len = strlen(name), at = 0;
    char *out = arena_alloc(arena, 2 * len + 2);
    if (!out)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '$') /* "$ref" */
            continue;
        if (word_starts(name, i))
            out[at++] = '_';
        out[at++] = is_upper(name[i]) ? (char)(name[i] - 'A' + 'a') : name[i] == '-' ? '_' : name[i];
    }
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++)
        if (strcmp(out, keywords[i]) == 0)
            out[at] = '_';
    return out;
}

static int field_error(const struct schema_field *field, struct diag *diag, const char *format, const char *what) {
    diag_at(diag, field->file, field->line, 0);
    return diag_set(diag, -EINVAL, format, what);
}

static const char *field_c_type(const struct schema_field *field) {
    const char *const by_shape[] = {
        [SHAPE_VALUE] = field->form->value, [SHAPE_POINTER] = field->form->pointer, [SHAPE_LIST] = field->form->list, [SHAPE_MAP] = field->form->map};
    return by_shape[field->shape];
}

static int resolve_field(struct schema *schema, struct schema_field *field, struct diag *diag) {
    const struct {
        const char *prefix;
        enum schema_shape shape;
    } shapes[] = {{"*", SHAPE_POINTER}, {"[]", SHAPE_LIST}, {"map[string]", SHAPE_MAP}};
    const char *base = field->text;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        if (strncmp(base, shapes[i].prefix, strlen(shapes[i].prefix)) == 0) {
            field->shape = shapes[i].shape;
            base += strlen(shapes[i].prefix);
            break;
        }
    field->values = map_find(schema->values_by_name, slice_of(base));
    field->form = schema_form_find(field->values ? "string" : base);
    field->type = map_find(schema->types_by_name, slice_of(base));
    if (!field->form && !field->type)
        return field_error(field, diag, "unknown type \"%s\"", base);
    if (field->form && !field_c_type(field))
        return field_error(field, diag, "no field can have the type \"%s\"", field->text);
    if (field->type && field->shape == SHAPE_LIST)
        field->type->listed = true;
    if (field->type && field->shape == SHAPE_MAP)
        field->type->mapped = true;
    if (field->values)
        field->values->used = true;
    return 0;
}

static int flatten(struct schema *schema, struct schema_type *type, struct diag *diag) {
    if (type->flat)
        return 0;
    type->flat = true;
    __typeof__(type->fields) flat = {0};
    int error = 0;
    for (size_t i = 0; i < type->fields.count && error == 0; i++) {
        struct schema_field *field = type->fields.items[i];
        if (field->name) {
            error = VECTOR_PUSH(&flat, field);
            continue;
        }
        struct schema_type *inner = map_find(schema->types_by_name, slice_of(field->text));
        if (!inner) {
            error = field_error(field, diag, "unknown type \"%s\"", field->text);
            break;
        }
        error = flatten(schema, inner, diag);
        for (size_t j = 0; j < inner->fields.count && error == 0; j++) {
            struct schema_field *copy = ARENA_NEW(schema->arena, struct schema_field);
            if (!copy) {
                error = -ENOMEM;
                break;
            }
            *copy = *inner->fields.items[j];
            if (!copy->origin)
                copy->origin = inner->name;
            if (field->number > UINT8_MAX || copy->inline_number > UINT8_MAX)
                error = field_error(field, diag, "\"%s\" inlines more than twice or by a large number: not supported", field->text);
            copy->inline_number = copy->inline_number << 8 | field->number;
            if (error == 0)
                error = VECTOR_PUSH(&flat, copy);
        }
    }
    VECTOR_DEINIT(&type->fields);
    type->fields.items = flat.items;
    type->fields.count = flat.count;
    type->fields.capacity = flat.capacity;
    return error;
}

static int check_names(struct schema_type *type, struct diag *diag) {
    for (size_t i = 0; i < type->fields.count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(type->fields.items[i]->name, type->fields.items[j]->name) == 0)
                return field_error(type->fields.items[i], diag, "field \"%s\" is described twice", type->fields.items[i]->name);
    return 0;
}

static int resolve_type(struct schema *schema, struct schema_type *type, struct diag *diag) {
    int error = check_names(type, diag);
    type->c_name = schema_c_name(schema->arena, type->name);
    for (size_t i = 0; i < type->fields.count && error == 0; i++) {
        struct schema_field *field = type->fields.items[i];
        field->c_name = schema_c_name(schema->arena, field->name);
        error = field->c_name ? resolve_field(schema, field, diag) : -ENOMEM;
    }
    return type->c_name ? error : -ENOMEM;
}

static int resolve_kind(struct schema *schema, struct schema_kind *kind, struct diag *diag) {
    kind->type = map_find(schema->types_by_name, slice_of(kind->type_name));
    kind->c_name = schema_c_name(schema->arena, kind->type_name);
    diag_at(diag, kind->file, kind->line, 0);
    if (!kind->c_name)
        return -ENOMEM;
    if (!kind->type)
        return diag_set(diag, -EINVAL, "kind \"%s\" has no type \"%s\"", kind->name, kind->type_name);
    if (!kind->served)
        return kind->virtual || kind->stored_type ? diag_set(diag, -EINVAL, "kind \"%s\" is not served", kind->name) : 0;
    if (!kind->plural || !kind->singular)
        return diag_set(diag, -EINVAL, "served kind \"%s\" needs plural and singular", kind->name);
    if (kind->type->fields.count == 0 || strcmp(kind->type->fields.items[0]->text, "ObjectMeta") != 0)
        return diag_set(diag, -EINVAL, "served kind \"%s\" must start with its metadata", kind->name);
    for (size_t i = 0; kind->stored_type && i < schema->kinds.count && !kind->stored; i++)
        if (schema->kinds.items[i]->served && strcmp(schema->kinds.items[i]->type_name, kind->stored_type) == 0)
            kind->stored = schema->kinds.items[i];
    if (kind->stored_type && !kind->stored)
        return diag_set(diag, -EINVAL, "kind \"%s\" is stored as no served kind", kind->name);
    return 0;
}

int schema_resolve(struct schema *schema, struct diag *diag) {
    int error = 0;
    for (size_t i = 0; i < schema->types.count && error == 0; i++)
        error = flatten(schema, schema->types.items[i], diag);
    for (size_t i = 0; i < schema->types.count && error == 0; i++)
        error = resolve_type(schema, schema->types.items[i], diag);
    for (size_t i = 0; i < schema->kinds.count && error == 0; i++)
        error = resolve_kind(schema, schema->kinds.items[i], diag);
    return error;
}
