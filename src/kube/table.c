/* Tables: what `kubectl get` prints is made here, not there. The columns stand in the IDL; a cell is the value at a path, or made by a function of
 * cells_*.c. */
#include "kube/cell_priv.h"
#include "kube/custom_priv.h"

/* What an empty field shows. */
static struct tree *cell_of_nothing(const struct kube_field *field, struct arena *arena) {
    switch (field->form) {
    case KUBE_FORM_INT32:
    case KUBE_FORM_INT64: return tree_int(arena, 0);
    case KUBE_FORM_BOOL: return tree_bool(arena, false);
    default: return tree_text(arena, "");
    }
}

/* The value at "status.phase" of a struct: of the field's own form; "", 0 or false when it is empty or something on the way is absent. */
static struct tree *cell_at_path(const struct kube_object *object, struct slice path, struct arena *arena) {
    const struct kube_type *type = object->kind->type;
    const void *data = object->data;
    while (type && data) {
        struct slice name = slice_cut(&path, '.');
        const struct kube_field *field = kube_field_find(type, name);
        ASSERT(field); /* the schema names an unknown field */
        const void *at = kube_at(field, data);
        if (path.len == 0) {
            return kube_field_is_empty(field, at) ? cell_of_nothing(field, arena) : kube_field_tree(field, at, arena);
        }
        type = field->type;
        data = field->shape == KUBE_SHAPE_POINTER ? *(void *const *)at : at;
    }
    return tree_text(arena, "");
}

struct tree *kube_table_row(const struct kube_object *object, struct arena *arena, int64_t now_ns) {
    if (object->kind->custom)
        return custom_table_row(object, arena, now_ns);
    struct tree *row = tree_list(arena);
    for (size_t i = 0; i < object->kind->columns_count && row; i++) {
        const struct kube_column *column = &object->kind->columns[i];
        const struct kube_cell *cell = column->source;
        struct tree *value = cell->make ? cell->make(object, arena, now_ns) : cell_at_path(object, slice_of(cell->path), arena);
        if (tree_push(arena, row, value) != 0)
            return NULL;
    }
    return row;
}

const char *cell_since(struct arena *arena, struct kube_time since, int64_t now_ns) {
    char text[TIMESTAMP_BYTES];
    if (!since.set)
        return "<unknown>";
    duration_format_age(now_ns - since.ns, text);
    const char *copy = arena_strdup(arena, text);
    return copy ? copy : "";
}

struct tree *cell_text(struct arena *arena, const char *text, const char *fallback) {
    return tree_text(arena, text && text[0] ? text : fallback);
}

struct tree *cell_take(struct arena *arena, struct buffer *buffer, const char *fallback) {
    struct tree *cell = cell_text(arena, buffer->data, fallback);
    buffer_deinit(buffer);
    return cell;
}

void cell_join(struct buffer *buffer, const char *text) {
    if (buffer->len > 0)
        buffer_append_byte(buffer, ',');
    buffer_append_text(buffer, text ? text : "");
}

void cell_labels(struct buffer *buffer, const struct kube_string_map *labels) {
    for (size_t i = 0; i < labels->count; i++) {
        cell_join(buffer, labels->items[i].key);
        buffer_printf(buffer, "=%s", labels->items[i].value);
    }
}
