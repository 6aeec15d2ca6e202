/* Trees to block-style YAML, as kubectl prints it. A string is printed plain only when reading it back plain gives the same string; several lines use
 * a literal block. */
#include "codec/json.h"
#include "codec/yaml.h"

static void indent_by(struct buffer *out, int depth) {
    for (int i = 0; i < depth; i++)
        buffer_append(out, "  ", 2);
}

/* Reads as something else than this string when plain: the reader itself decides. */
static bool resolves_to_other(struct slice text) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    struct tree *node;
    if (!arena || yaml_parse_one(arena, text, &node, NULL) < 0)
        return true;
    return node->type != TREE_STRING || !slice_equal(node->string, text);
}

static bool needs_quotes(struct slice text) {
    static const char risky_first[] = "-?:,[]{}#&*!|>'\"%@` ";
    if (text.len == 0 || text.len > 4096 || strchr(risky_first, text.data[0]) || text.data[text.len - 1] == ' ')
        return true;
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return true;
    if (slice_find(text, SLICE(": ")) >= 0 || slice_find(text, SLICE(" #")) >= 0 || text.data[text.len - 1] == ':')
        return true;
    return resolves_to_other(text);
}

static bool fits_literal_block(struct slice text) {
    if (slice_index(text, '\n') < 0 || text.data[0] == ' ' || text.data[0] == '\n')
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (((unsigned char)text.data[i] < 0x20 && text.data[i] != '\n' && text.data[i] != '\t') || text.data[i] == 0x7f)
            return false;
    return true;
}

static void format_block(struct buffer *out, struct slice text, int depth) {
    bool ends = slice_ends(text, SLICE("\n"));
    bool more = slice_ends(text, SLICE("\n\n"));
    buffer_append_text(out, !ends ? "|-\n" : more ? "|+\n" : "|\n");
    struct slice rest = ends ? slice_head(text, text.len - 1) : text;
    while (rest.data) {
        struct slice line = slice_cut(&rest, '\n');
        if (line.len)
            indent_by(out, depth);
        buffer_append_slice(out, line);
        buffer_append_byte(out, '\n');
    }
}

static void format_scalar(struct buffer *out, const struct tree *node, int depth) {
    if (node->type == TREE_STRING && fits_literal_block(node->string)) {
        format_block(out, node->string, depth);
        return;
    }
    if (node->type == TREE_STRING && !needs_quotes(node->string))
        buffer_append_slice(out, node->string);
    else if (tree_count(node) == 0 && (node->type == TREE_LIST || node->type == TREE_MAP))
        buffer_append_text(out, node->type == TREE_LIST ? "[]" : "{}");
    else
        json_format(out, node);
    buffer_append_byte(out, '\n');
}

static void format_map(struct buffer *out, const struct tree *map, int depth, bool first_inline);

static void format_list(struct buffer *out, const struct tree *list, int depth) {
    for (size_t i = 0; i < list->children->count; i++) {
        const struct tree *item = list->children->items[i].value;
        indent_by(out, depth);
        buffer_append_text(out, "- ");
        if (item->type == TREE_MAP && tree_count(item)) {
            format_map(out, item, depth + 1, true);
        } else if (item->type == TREE_LIST && tree_count(item)) {
            buffer_append_byte(out, '\n');
            format_list(out, item, depth + 1);
        } else {
            format_scalar(out, item, depth + 1);
        }
    }
}

static void format_map(struct buffer *out, const struct tree *map, int depth, bool first_inline) {
    for (size_t i = 0; i < map->children->count; i++) {
        const struct tree_entry *entry = &map->children->items[i];
        if (i || !first_inline)
            indent_by(out, depth);
        if (needs_quotes(entry->key))
            json_format_string(out, entry->key);
        else
            buffer_append_slice(out, entry->key);
        buffer_append_byte(out, ':');
        bool nested = tree_count(entry->value) > 0;
        buffer_append_byte(out, nested ? '\n' : ' ');
        if (nested && entry->value->type == TREE_MAP)
            format_map(out, entry->value, depth + 1, false);
        else if (nested)
            format_list(out, entry->value, depth);
        else
            format_scalar(out, entry->value, depth + 1);
    }
}

int yaml_format(struct buffer *out, const struct tree *node) {
    if (node->type == TREE_MAP && tree_count(node))
        format_map(out, node, 0, false);
    else if (node->type == TREE_LIST && tree_count(node))
        format_list(out, node, 0);
    else
        format_scalar(out, node, 0);
    return buffer_error(out);
}
