/* YAML events (libyaml) to trees. Plain scalars are resolved as sigs.k8s.io/yaml does for Kubernetes and as Ruby's Psych does for pipelines, where
 * both agree: null, booleans (true/false/yes/no/on/off in three spellings), decimal, octal (0o and 0), hexadecimal numbers, floats; everything else,
 * and everything quoted, is a string. Aliases copy the anchored node, charged against YAML_ALIASES_EXPANDED_MAX nodes and the arena: billion laughs
 * ends early; anchors are few (YAML_ANCHORS_MAX), since each alias looks through them. Merge keys (<<) are resolved when their map is complete: keys
 * of the map itself win, then earlier merged maps. Rejected: the document API of libyaml, which keeps no key positions and expands nothing. */
#include "codec/yaml.h"

#include <math.h>
#include <stdio.h>
#include <yaml.h>

struct anchor {
    const char *name;
    struct tree *node; /* NULL while it is being read: an alias inside itself is an error */
};

struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool have_event;
    struct arena *arena;
    struct diag *diag;
    VECTOR(struct anchor) anchors;
    struct buffer *duplicates; /* notes of equal keys, of which the last wins; NULL: they are errors */
    size_t copied;
    unsigned depth;
};

static int next_event(struct reader *reader) {
    if (reader->have_event)
        yaml_event_delete(&reader->event);
    reader->have_event = false;
    if (!yaml_parser_parse(&reader->parser, &reader->event)) {
        const yaml_parser_t *parser = &reader->parser;
        if (parser->error == YAML_MEMORY_ERROR)
            return -ENOMEM;
        diag_at(reader->diag, NULL, (int)parser->problem_mark.line + 1, (int)parser->problem_mark.column + 1);
        const char *problem = parser->problem ? parser->problem : "cannot be read";
        if (parser->context && parser->context_mark.line != parser->problem_mark.line)
            return diag_set(reader->diag, -EINVAL, "%s %s that started on line %zu", problem, parser->context, parser->context_mark.line + 1);
        return diag_set(reader->diag, -EINVAL, "%s%s%s", problem, parser->context ? " " : "", parser->context ? parser->context : "");
    }
    reader->have_event = true;
    return 0;
}

static int fail_at(struct reader *reader, uint32_t line, uint32_t column, const char *format, const char *detail) {
    diag_at(reader->diag, NULL, (int)line, (int)column);
    return diag_set(reader->diag, -EINVAL, format, detail);
}

static bool is_one_of(struct slice text, const char *const *words) {
    for (; *words; words++)
        if (slice_is(text, *words))
            return true;
    return false;
}

static bool resolve_integer(struct slice text, int64_t *ret) {
    struct slice digits = text;
    bool negative = digits.len && digits.data[0] == '-';
    if (digits.len && (digits.data[0] == '-' || digits.data[0] == '+'))
        digits = slice_from(digits, 1);
    int base = 10;
    if (slice_starts(digits, SLICE("0x")))
        base = 16, digits = slice_from(digits, 2);
    else if (slice_starts(digits, SLICE("0o")))
        base = 8, digits = slice_from(digits, 2);
    else if (slice_starts(digits, SLICE("0b")))
        base = 2, digits = slice_from(digits, 2);
    else if (digits.len > 1 && digits.data[0] == '0')
        base = 8, digits = slice_from(digits, 1);
    if (digits.len == 0)
        return false;
    int64_t value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        char c = digits.data[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
        if (digit >= base || __builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *ret = negative ? -value : value;
    return true;
}

static bool resolve_float(struct slice text, double *ret) {
    char copy[64];
    bool digit = false;
    if (text.len == 0 || text.len >= sizeof copy)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        digit = digit || (c >= '0' && c <= '9');
        if (!((c >= '0' && c <= '9') || c == '.' || ((c == 'e' || c == 'E') && digit) || c == '+' || c == '-'))
            return false;
    }
    if (!digit)
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    char *end;
    *ret = strtod(copy, &end);
    return *end == '\0' && isfinite(*ret); /* Go's parser takes what does not fit for a string, too */
}

static void resolve_plain(struct tree *node, struct slice text) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL};
    int64_t integer;
    double real;
    if (is_one_of(text, nulls))
        node->type = TREE_NULL;
    else if (is_one_of(text, trues) || is_one_of(text, falses))
        node->type = TREE_BOOL, node->boolean = is_one_of(text, trues);
    else if (resolve_integer(text, &integer))
        node->type = TREE_INT, node->integer = integer;
    else if (resolve_float(text, &real))
        node->type = TREE_FLOAT, node->real = real;
}

static struct tree *new_node(struct reader *reader, enum tree_type type) {
    struct tree *node = type == TREE_MAP ? tree_map(reader->arena) : type == TREE_LIST ? tree_list(reader->arena) : tree_null(reader->arena);
    if (!node)
        return NULL;
    node->line = (uint32_t)reader->event.start_mark.line + 1;
    node->column = (uint32_t)reader->event.start_mark.column + 1;
    return node;
}

static int remember_anchor(struct reader *reader, const yaml_char_t *name, size_t *ret_index) {
    *ret_index = SIZE_MAX;
    if (!name)
        return 0;
    if (reader->anchors.count == YAML_ANCHORS_MAX)
        return fail_at(reader, (uint32_t)reader->event.start_mark.line + 1, (uint32_t)reader->event.start_mark.column + 1,
                       "too many anchors (at &%s)", (const char *)name);
    char *copy = arena_strdup(reader->arena, (const char *)name);
    if (!copy || VECTOR_PUSH(&reader->anchors, ((struct anchor){copy, NULL})) < 0)
        return -ENOMEM;
    *ret_index = reader->anchors.count - 1;
    return 0;
}

static size_t count_nodes(const struct tree *node) {
    size_t count = 1;
    for (size_t i = 0; i < tree_count(node); i++)
        count += count_nodes(node->children->items[i].value);
    return count;
}

static int read_alias(struct reader *reader, struct tree **ret) {
    const char *name = (const char *)reader->event.data.alias.anchor;
    uint32_t line = (uint32_t)reader->event.start_mark.line + 1, column = (uint32_t)reader->event.start_mark.column + 1;
    for (size_t i = reader->anchors.count; i > 0; i--) {
        const struct anchor *anchor = &reader->anchors.items[i - 1];
        if (strcmp(anchor->name, name) != 0)
            continue;
        if (!anchor->node)
            return fail_at(reader, line, column, "the alias *%s stands inside what it names", name);
        reader->copied += count_nodes(anchor->node);
        if (reader->copied > YAML_ALIASES_EXPANDED_MAX)
            return fail_at(reader, line, column, "aliases expand to too many nodes (at *%s)", name);
        *ret = tree_copy(reader->arena, anchor->node);
        return *ret ? 0 : -ENOMEM;
    }
    return fail_at(reader, line, column, "unknown alias *%s: no anchor of that name stands before it", name);
}

static int read_scalar(struct reader *reader, struct tree **ret) {
    struct tree *node = new_node(reader, TREE_NULL);
    if (!node)
        return -ENOMEM;
    struct slice text = slice_make(reader->event.data.scalar.value, reader->event.data.scalar.length);
    const char *tag = (const char *)reader->event.data.scalar.tag;
    char *copy = arena_dup(reader->arena, text);
    if (!copy)
        return -ENOMEM;
    node->type = TREE_STRING;
    node->string = (struct slice){copy, text.len};
    if (!tag && reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        resolve_plain(node, text);
    *ret = node;
    return 0;
}

static int read_node(struct reader *reader, struct tree **ret);

static int read_list(struct reader *reader, struct tree *list) {
    for (;;) {
        int r = next_event(reader);
        if (r < 0)
            return r;
        if (reader->event.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        struct tree *value;
        r = read_node(reader, &value);
        if (r == 0)
            r = tree_push(reader->arena, list, value);
        if (r < 0)
            return r;
    }
}

static int key_text(struct reader *reader, const struct tree *key, struct slice *ret) {
    struct buffer text = BUFFER_INIT(64);
    switch (key->type) {
    case TREE_STRING: *ret = key->string; return 0;
    case TREE_LIST:
    case TREE_MAP: return fail_at(reader, key->line, key->column, "a key must be a plain value, found an %s", tree_type_name(key));
    default: break;
    }
    if (key->type == TREE_NULL)
        buffer_append_text(&text, "null");
    else if (key->type == TREE_BOOL)
        buffer_append_text(&text, key->boolean ? "true" : "false");
    else if (key->type == TREE_INT)
        buffer_printf(&text, "%" PRId64, key->integer);
    else
        buffer_printf(&text, "%g", key->real);
    char *copy = buffer_error(&text) ? NULL : arena_dup(reader->arena, buffer_slice(&text));
    *ret = (struct slice){copy, text.len};
    buffer_deinit(&text);
    return copy ? 0 : -ENOMEM;
}

/* Adds what a merge key brings: a map or a list of maps; keys that are there stay. */
static int merge_into(struct reader *reader, struct tree *map, const struct tree *source) {
    if (source->type == TREE_LIST) {
        for (size_t i = 0; i < source->children->count; i++) {
            int r = merge_into(reader, map, source->children->items[i].value);
            if (r < 0)
                return r;
        }
        return 0;
    }
    if (source->type != TREE_MAP)
        return fail_at(reader, source->line, source->column, "a merge key (<<) needs a mapping or a list of mappings, found %s",
                       tree_type_name(source));
    for (size_t i = 0; i < source->children->count; i++) {
        const struct tree_entry *entry = &source->children->items[i];
        if (!tree_find_entry(map, entry->key) && tree_set(reader->arena, map, entry->key, entry->value) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int read_pair(struct reader *reader, struct tree *map, struct tree **merge) {
    struct tree *key, *value;
    struct slice text;
    bool plain = reader->event.type == YAML_SCALAR_EVENT && reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    int r = read_node(reader, &key);
    if (r == 0)
        r = key_text(reader, key, &text);
    if (r == 0)
        r = next_event(reader);
    if (r == 0)
        r = read_node(reader, &value);
    if (r < 0)
        return r;
    if (plain && slice_is(text, "<<")) {
        if (!*merge)
            *merge = tree_list(reader->arena);
        return tree_push(reader->arena, *merge, value);
    }
    bool again = tree_find_entry(map, text) != NULL;
    if (again && reader->duplicates)
        buffer_printf(reader->duplicates, "\n  line %" PRIu32 ": key \"%.100s\" already set in map", key->line, text.data);
    else if (again)
        return fail_at(reader, key->line, key->column, "duplicate key \"%s\"", text.data);
    if (again)
        return tree_set(reader->arena, map, text, value);
    return tree_add(reader->arena, map, &(struct tree_entry){text, key->line, key->column, value});
}

static int read_map(struct reader *reader, struct tree *map) {
    struct tree *merge = NULL;
    for (;;) {
        int r = next_event(reader);
        if (r < 0)
            return r;
        if (reader->event.type == YAML_MAPPING_END_EVENT)
            return merge ? merge_into(reader, map, merge) : 0;
        r = read_pair(reader, map, &merge);
        if (r < 0)
            return r;
    }
}

/* A custom tag wraps its value: !reference [a, b] becomes {"!reference": [a, b]}. */
static int wrap_tag(struct reader *reader, const char *tag, struct tree **node) {
    struct tree *map = tree_map(reader->arena);
    if (!map || tree_set(reader->arena, map, slice_of(tag), *node) < 0)
        return -ENOMEM;
    map->line = (*node)->line;
    map->column = (*node)->column;
    *node = map;
    return 0;
}

static int read_collection(struct reader *reader, bool is_map, const yaml_char_t *anchor, const yaml_char_t *tag_text, struct tree **ret) {
    size_t index;
    char *tag = tag_text && tag_text[0] == '!' && tag_text[1] ? arena_strdup(reader->arena, (const char *)tag_text) : NULL;
    struct tree *node = new_node(reader, is_map ? TREE_MAP : TREE_LIST);
    int r = node ? remember_anchor(reader, anchor, &index) : -ENOMEM;
    if (r < 0)
        return r;
    if (++reader->depth > JSON_DEPTH_MAX)
        return fail_at(reader, node->line, node->column, "nested too deeply%s", "");
    r = is_map ? read_map(reader, node) : read_list(reader, node);
    reader->depth--;
    if (r == 0 && tag)
        r = wrap_tag(reader, tag, &node);
    if (r == 0 && index != SIZE_MAX)
        reader->anchors.items[index].node = node;
    *ret = node;
    return r;
}

/* Reads the node whose first event is the current one. */
static int read_node(struct reader *reader, struct tree **ret) {
    yaml_event_t *event = &reader->event;
    switch (event->type) {
    case YAML_ALIAS_EVENT: return read_alias(reader, ret);
    case YAML_SEQUENCE_START_EVENT: return read_collection(reader, false, event->data.sequence_start.anchor, event->data.sequence_start.tag, ret);
    case YAML_MAPPING_START_EVENT: return read_collection(reader, true, event->data.mapping_start.anchor, event->data.mapping_start.tag, ret);
    case YAML_SCALAR_EVENT: {
        size_t index;
        int r = remember_anchor(reader, event->data.scalar.anchor, &index);
        if (r == 0)
            r = read_scalar(reader, ret);
        if (r == 0 && index != SIZE_MAX)
            reader->anchors.items[index].node = *ret;
        return r;
    }
    default: return fail_at(reader, (uint32_t)event->start_mark.line + 1, (uint32_t)event->start_mark.column + 1, "expected a value%s", "");
    }
}

static int check_directives(struct slice text, struct diag *diag) {
    size_t count = 0;
    for (struct slice rest = text; rest.len;) {
        struct slice line = slice_cut(&rest, '\n');
        count += line.len && line.data[0] == '%';
    }
    return count <= YAML_DIRECTIVES_MAX ? 0 : diag_set(diag, -EINVAL, "too many directives: at most %d are read", YAML_DIRECTIVES_MAX);
}

static int read_documents(struct reader *reader, struct tree *documents) {
    for (;;) {
        int r = next_event(reader);
        if (r < 0)
            return r;
        if (reader->event.type == YAML_STREAM_END_EVENT)
            return 0;
        if (reader->event.type != YAML_DOCUMENT_START_EVENT)
            continue;
        reader->anchors.count = 0;
        struct tree *root;
        r = next_event(reader);
        if (r == 0)
            r = read_node(reader, &root);
        if (r == 0 && root->type != TREE_NULL)
            r = tree_push(reader->arena, documents, root);
        if (r < 0)
            return r;
    }
}

static int parse(struct arena *arena, struct slice text, struct buffer *duplicates, struct tree ***ret, size_t *ret_count, struct diag *diag) {
    struct reader reader = {.arena = arena, .diag = diag, .duplicates = duplicates};
    struct tree *documents = tree_list(arena);
    int r = check_directives(text, diag);
    if (r < 0)
        return r;
    if (!documents || !yaml_parser_initialize(&reader.parser))
        return -ENOMEM;
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)(text.data ? text.data : ""), text.len);
    r = read_documents(&reader, documents);
    if (reader.have_event)
        yaml_event_delete(&reader.event);
    yaml_parser_delete(&reader.parser);
    VECTOR_DEINIT(&reader.anchors);
    if (r < 0)
        return r == -ENOMEM ? diag_set(diag, r, "the document needs more memory than one document may use") : r;
    struct tree **roots = ARENA_ARRAY(arena, struct tree *, documents->children->count);
    if (!roots)
        return -ENOMEM;
    for (size_t i = 0; i < documents->children->count; i++)
        roots[i] = documents->children->items[i].value;
    *ret = roots;
    *ret_count = documents->children->count;
    return 0;
}

int yaml_parse(struct arena *arena, struct slice text, struct tree ***ret, size_t *ret_count, struct diag *diag) {
    return parse(arena, text, NULL, ret, ret_count, diag);
}

int yaml_parse_lenient(struct arena *arena, struct slice text, struct buffer *duplicates, struct tree **ret, struct diag *diag) {
    struct tree **documents;
    size_t count;
    int r = parse(arena, text, duplicates, &documents, &count, diag);
    if (r < 0)
        return r;
    if (count > 1) {
        diag_at(diag, NULL, (int)documents[1]->line, (int)documents[1]->column);
        return diag_set(diag, -EINVAL, "expected one document, found %zu", count);
    }
    *ret = count ? documents[0] : tree_null(arena);
    return *ret ? 0 : -ENOMEM;
}

int yaml_parse_one(struct arena *arena, struct slice text, struct tree **ret, struct diag *diag) {
    return yaml_parse_lenient(arena, text, NULL, ret, diag);
}
