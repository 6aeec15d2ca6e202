/* Writes kube_tables.c: one descriptor per type with the offset of each field, one per kind with its columns. The structs they fill are in
 * src/kube/schema_priv.h. Rare rules stand in a side table (struct kube_rules), so that a field costs 48 bytes. */
#include "schema_priv.h"

void schema_write_string(struct buffer *out, const char *text) {
    if (!text) {
        buffer_append_text(out, "NULL");
        return;
    }
    buffer_append_text(out, "\"");
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buffer_append_text(out, "\\");
        buffer_append_byte(out, *text);
    }
    buffer_append_text(out, "\"");
}

static bool has_rules(const struct schema_field *field) {
    return field->default_ || field->keys || field->merge_key || field->format || field->has_min || field->has_max;
}

static void write_rules(const struct schema_field *field, struct buffer *out) {
    buffer_append_text(out, "&(const struct kube_rules){.default_ = ");
    schema_write_string(out, field->default_);
    buffer_append_text(out, ", .keys = ");
    schema_write_string(out, field->keys);
    buffer_append_text(out, ", .merge_key = ");
    schema_write_string(out, field->merge_key);
    buffer_append_text(out, ", .format = ");
    schema_write_string(out, field->format);
    if (field->has_min)
        buffer_printf(out, ", .has_min = true, .min = %" PRId64, field->min);
    if (field->has_max)
        buffer_printf(out, ", .has_max = true, .max = %" PRId64, field->max);
    buffer_append_text(out, "}");
}

static void write_flags(const struct schema_field *field, struct buffer *out) {
    const struct {
        bool set;
        const char *name;
    } flags[] = {
        {field->always, "KUBE_ALWAYS"},
        {field->required, "KUBE_REQUIRED"},
        {field->immutable, "KUBE_IMMUTABLE"},
        {field->fixed, "KUBE_FIXED"},
        {field->list && strcmp(field->list, "map") == 0, "KUBE_LIST_MAP"},
        {field->list && strcmp(field->list, "set") == 0, "KUBE_LIST_SET"},
        {field->patch && strstr(field->patch, "merge"), "KUBE_PATCH_MERGE"},
        {field->patch && strstr(field->patch, "retainKeys"), "KUBE_PATCH_RETAIN_KEYS"},
        {field->patch && strstr(field->patch, "replace"), "KUBE_PATCH_REPLACE"},
        {field->atomic, "KUBE_ATOMIC"},
        {field->granular, "KUBE_GRANULAR"},
        {field->publish, "KUBE_PUBLISH"},
    };
    buffer_append_text(out, "0");
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (flags[i].set)
            buffer_printf(out, " | %s", flags[i].name);
}

static void write_type(const struct schema_type *type, struct buffer *out) {
    static const char *const shapes[] = {
        [SHAPE_VALUE] = "KUBE_SHAPE_VALUE", [SHAPE_POINTER] = "KUBE_SHAPE_POINTER", [SHAPE_LIST] = "KUBE_SHAPE_LIST", [SHAPE_MAP] = "KUBE_SHAPE_MAP"};
    if (type->fields.count > 0)
        buffer_printf(out, "static const struct kube_field kube_%s_fields[] = {\n", type->c_name);
    for (size_t i = 0; i < type->fields.count; i++) {
        const struct schema_field *field = type->fields.items[i];
        buffer_append_text(out, "    {");
        schema_write_string(out, field->name);
        if (field->type)
            buffer_printf(out, ", &kube_%s_type", field->type->c_name);
        else
            buffer_append_text(out, ", NULL");
        if (field->values)
            buffer_printf(out, ", &kube_values_%s, ", field->values->name);
        else
            buffer_append_text(out, ", NULL, ");
        if (has_rules(field))
            write_rules(field, out);
        else
            buffer_append_text(out, "NULL");
        buffer_printf(out, ", offsetof(struct kube_%s, %s), %d, %d, ", type->c_name, field->c_name, field->number, field->inline_number);
        write_flags(field, out);
        buffer_printf(out, ", %s, %s},\n", field->form ? field->form->runtime : "KUBE_FORM_STRUCT", shapes[field->shape]);
    }
    if (type->fields.count > 0)
        buffer_append_text(out, "};\n");
    buffer_printf(out, "const struct kube_type kube_%s_type = {", type->c_name);
    schema_write_string(out, type->upstream);
    if (type->fields.count > 0)
        buffer_printf(out, ", kube_%s_fields, %zu, sizeof(struct kube_%s), %d, %d", type->c_name, type->fields.count, type->c_name, type->atomic,
                      type->either);
    else
        buffer_printf(out, ", NULL, 0, sizeof(struct kube_%s), %d, %d", type->c_name, type->atomic, type->either);
    buffer_printf(out, ", \"%s\", ", type->package);
    if (type->described)
        buffer_printf(out, "kube_docs + %zu};\n\n", type->doc_at);
    else
        buffer_append_text(out, "NULL};\n\n");
}

static void write_columns(const struct schema_kind *kind, struct buffer *out) {
    if (kind->columns.count == 0)
        return;
    for (size_t i = 0; i < kind->columns.count; i++)
        if (kind->columns.items[i]->source[0] != '.')
            buffer_printf(out, "extern const struct kube_cell kube_cell_%s;\n", kind->columns.items[i]->source);
    buffer_printf(out, "static const struct kube_column kube_%s_columns[] = {\n", kind->c_name);
    for (size_t i = 0; i < kind->columns.count; i++) {
        const struct schema_column *column = kind->columns.items[i];
        buffer_append_text(out, "    {");
        schema_write_string(out, column->name);
        buffer_append_text(out, ", ");
        schema_write_string(out, column->type);
        buffer_append_text(out, ", ");
        schema_write_string(out, column->format);
        buffer_append_text(out, ", ");
        schema_write_string(out, column->description);
        buffer_printf(out, ", %d, ", column->priority);
        if (column->source[0] != '.')
            buffer_printf(out, "&kube_cell_%s},\n", column->source);
        else
            buffer_printf(out, "&(const struct kube_cell){.path = \"%s\"}},\n", column->source + 1);
    }
    buffer_append_text(out, "};\n");
}

static void write_strings(const char *const *items, size_t count, struct buffer *out) {
    buffer_append_text(out, "(const char *const[]){");
    for (size_t i = 0; i < count; i++) {
        schema_write_string(out, items[i]);
        buffer_append_text(out, ", ");
    }
    buffer_append_text(out, "NULL}");
}

static void write_kind(const struct schema_kind *kind, struct buffer *out) {
    const struct schema_kind *stored = kind->stored ? kind->stored : kind;
    write_columns(kind, out);
    if (kind->stored)
        buffer_printf(out, "extern const struct kube_conversion kube_conversion_%s;\n", kind->conversion);
    buffer_printf(
        out,
        "const struct kube_kind kube_kind_%s = {\n    .group = \"%s\", .version = \"%s\", .kind = \"%s\", .plural = \"%s\", .singular = \"%s\",\n",
        kind->c_name, kind->group, kind->version, kind->name, kind->plural, kind->singular);
    buffer_append_text(out, "    .short_names = ");
    write_strings(kind->short_names.items, kind->short_names.count, out);
    buffer_append_text(out, ", .categories = ");
    write_strings(kind->categories.items, kind->categories.count, out);
    buffer_printf(out, ",\n    .namespaced = %d, .has_status = %d, .has_scale = %d, .has_generation = %d, .type = &kube_%s_type,\n", kind->namespaced,
                  kind->status, kind->scale, kind->generation, kind->type->c_name);
    if (kind->columns.count > 0)
        buffer_printf(out, "    .columns = kube_%s_columns, .columns_count = %zu,\n", kind->c_name, kind->columns.count);
    if (kind->virtual)
        buffer_append_text(out, "    .is_virtual = true,\n");
    if (kind->stored)
        buffer_printf(out, "    .stored_as = &kube_kind_%s, .conversion = &kube_conversion_%s,\n", stored->c_name, kind->conversion);
    buffer_printf(out, "    .key = \"%s%s%s\", .api_version = \"%s%s%s\",\n};\n\n", stored->plural, stored->group[0] ? "." : "", stored->group,
                  kind->group, kind->group[0] ? "/" : "", kind->version);
}

static bool is_of_same_version(const struct schema_kind *a, const struct schema_kind *b) {
    return strcmp(a->group, b->group) == 0 && strcmp(a->version, b->version) == 0;
}

/* The served kinds of one group version by their plurals: the order in which upstream tells and kubectl shows them. */
static void write_version(const struct schema *schema, const struct schema_kind *first, struct buffer *out) {
    const char *last = "";
    for (;;) {
        const struct schema_kind *next = NULL;
        for (size_t i = 0; i < schema->kinds.count; i++) {
            const struct schema_kind *kind = schema->kinds.items[i];
            if (kind->served && is_of_same_version(kind, first) && strcmp(kind->plural, last) > 0 &&
                (!next || strcmp(kind->plural, next->plural) < 0))
                next = kind;
        }
        if (!next)
            return;
        buffer_printf(out, "&kube_kind_%s, ", next->c_name);
        last = next->plural;
    }
}

static void write_lists(const struct schema *schema, struct buffer *out) {
    buffer_append_text(out, "const struct kube_kind *const kube_builtin_kinds[] = {");
    for (size_t i = 0; i < schema->kinds.count; i++) {
        bool first = schema->kinds.items[i]->served;
        for (size_t k = 0; k < i; k++)
            first &= !schema->kinds.items[k]->served || !is_of_same_version(schema->kinds.items[k], schema->kinds.items[i]);
        if (first)
            write_version(schema, schema->kinds.items[i], out);
    }
    buffer_append_text(
        out, "};\nconst size_t kube_builtin_kinds_count = ARRAY_LEN(kube_builtin_kinds);\n\nconst struct kube_message kube_messages[] = {\n");
    for (size_t i = 0; i < schema->kinds.count; i++)
        buffer_printf(out, "    {\"%s\", \"%s\", \"%s\", &kube_%s_type},\n", schema->kinds.items[i]->group, schema->kinds.items[i]->version,
                      schema->kinds.items[i]->name, schema->kinds.items[i]->type->c_name);
    buffer_append_text(out, "    {NULL, NULL, NULL, NULL}};\n");
}

int schema_write_tables(struct schema *schema, struct buffer *out) {
    buffer_append_text(out, "/* Written by the schema compiler from the .idl files of schema/: do not edit. */\n#include \"kube/schema_priv.h\"\n\n");
    for (size_t i = 0; i < schema->values.count; i++) {
        const struct schema_values *values = schema->values.items[i];
        if (!values->used)
            continue;
        buffer_printf(out, "static const struct kube_values kube_values_%s = {\"%s\", %d, ", values->name, values->name, values->closed);
        write_strings(values->items, values->count, out);
        buffer_append_text(out, "};\n");
    }
    buffer_append_text(out, "\n");
    schema_write_docs(schema, out);
    for (size_t i = 0; i < schema->types.count; i++)
        write_type(schema->types.items[i], out);
    for (size_t i = 0; i < schema->kinds.count; i++)
        if (schema->kinds.items[i]->served)
            write_kind(schema->kinds.items[i], out);
    write_lists(schema, out);
    return buffer_error(out);
}
