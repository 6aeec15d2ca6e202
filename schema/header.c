/* Writes kube_types.h: plain structs. A struct that another holds by value must come first, so each is written after those it embeds (depth first; a
 * type that embedded itself would be an incomplete type to the C compiler). */
#include "schema_priv.h"

static const char *value_type(const struct schema_field *field) {
    const char *const by_shape[] = {
        [SHAPE_VALUE] = field->form->value, [SHAPE_POINTER] = field->form->pointer, [SHAPE_LIST] = field->form->list, [SHAPE_MAP] = field->form->map};
    return by_shape[field->shape];
}

static void write_field(const struct schema_field *field, struct buffer *out) {
    if (!field->type) {
        const char *type = value_type(field);
        buffer_printf(out, "    %s%s%s;", type, type[strlen(type) - 1] == '*' ? "" : " ", field->c_name);
    } else if (field->shape == SHAPE_LIST || field->shape == SHAPE_MAP)
        buffer_printf(out, "    struct kube_%s_%s %s;", field->type->c_name, field->shape == SHAPE_MAP ? "map" : "array", field->c_name);
    else
        buffer_printf(out, "    struct kube_%s %s%s;", field->type->c_name, field->shape == SHAPE_POINTER ? "*" : "", field->c_name);
    if (field->values)
        buffer_printf(out, " /* %s */", field->values->name);
    buffer_append_text(out, "\n");
}

static void write_struct(struct schema_type *type, struct buffer *out) {
    if (type->written)
        return;
    type->written = true;
    for (size_t i = 0; i < type->fields.count; i++) {
        struct schema_field *field = type->fields.items[i];
        if (field->type && field->shape == SHAPE_VALUE)
            write_struct(field->type, out);
    }
    buffer_printf(out, "struct kube_%s {\n", type->c_name);
    for (size_t i = 0; i < type->fields.count; i++)
        write_field(type->fields.items[i], out);
    if (type->fields.count == 0)
        buffer_append_text(out, "    char empty;\n");
    buffer_append_text(out, "};\n\n");
    if (type->mapped)
        buffer_printf(out, "struct kube_%s_pair {\n    const char *key;\n    struct kube_%s value;\n};\n\n", type->c_name, type->c_name);
}

static void write_values(const struct schema_values *values, struct buffer *out) {
    buffer_printf(out, "/* %s:", values->name);
    for (size_t i = 0; i < values->count; i++)
        buffer_printf(out, " \"%s\"", values->items[i]);
    buffer_printf(out, "%s */\n", values->closed ? "" : " …");
}

int schema_write_header(struct schema *schema, struct buffer *out) {
    buffer_append_text(out, "/* Written by the schema compiler from the .idl files of schema/: do not edit. Included by kube/kube.h. */\n"
                            "#ifndef TIDEMILL_KUBE_TYPES_H\n#define TIDEMILL_KUBE_TYPES_H\n\nstruct kube_type;\nstruct kube_kind;\n\n");
    for (size_t i = 0; i < schema->values.count; i++)
        write_values(schema->values.items[i], out);
    buffer_append_text(out, "\n");
    for (size_t i = 0; i < schema->types.count; i++)
        buffer_printf(out, "struct kube_%s;\n", schema->types.items[i]->c_name);
    buffer_append_text(out, "\n");
    for (size_t i = 0; i < schema->types.count; i++)
        if (schema->types.items[i]->listed)
            buffer_printf(out, "struct kube_%s_array {\n    struct kube_%s *items;\n    size_t count;\n};\n", schema->types.items[i]->c_name,
                          schema->types.items[i]->c_name);
    for (size_t i = 0; i < schema->types.count; i++)
        if (schema->types.items[i]->mapped)
            buffer_printf(out, "struct kube_%s_map {\n    struct kube_%s_pair *items;\n    size_t count;\n};\n", schema->types.items[i]->c_name,
                          schema->types.items[i]->c_name);
    buffer_append_text(out, "\n");
    for (size_t i = 0; i < schema->types.count; i++)
        write_struct(schema->types.items[i], out);
    for (size_t i = 0; i < schema->types.count; i++)
        buffer_printf(out, "extern const struct kube_type kube_%s_type;\n", schema->types.items[i]->c_name);
    buffer_append_text(out, "\n");
    for (size_t i = 0; i < schema->kinds.count; i++)
        if (schema->kinds.items[i]->served)
            buffer_printf(out, "extern const struct kube_kind kube_kind_%s;\n", schema->kinds.items[i]->c_name);
    buffer_append_text(out, "\n#endif\n");
    return buffer_error(out);
}
