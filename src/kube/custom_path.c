/* JSONPath as printer columns and selectable fields use it, and the Tables made of it.
 *
 *     .spec.replicas   .metadata.labels.app\.kubernetes\.io/name   .spec['a.b']   .items[0]   .items[-1]   .items[*].name
 *     .status.conditions[?(@.type=="Ready")].status
 *
 * A path is a list of steps; the first value that all steps lead to is the result. A column whose path finds nothing shows nothing (null). */
#include "kube/cell_priv.h"
#include "kube/custom_priv.h"

#include <math.h>
#include <stdio.h>

#define STEPS_MAX 32

enum step_type { STEP_NAME, STEP_INDEX, STEP_ALL, STEP_FILTER };
enum step_operator { OPERATOR_EXISTS, OPERATOR_EQUAL, OPERATOR_NOT_EQUAL };

struct step {
    enum step_type type;
    struct slice name;
    int64_t index;
    enum step_operator operator_;
    const struct custom_path *left; /* of a filter: from the item */
    const struct tree *right;
};

struct custom_path {
    size_t count;
    struct step steps[];
};

/* --- parsing --- */

/* ".name": backslashes escape. */
static int parse_name(struct arena *arena, struct slice *rest, struct step *step) {
    char *name = arena_alloc(arena, rest->len + 1);
    size_t len = 0, at = 0;
    if (!name)
        return -ENOMEM;
    for (; at < rest->len && rest->data[at] != '.' && rest->data[at] != '['; at++) {
        if (rest->data[at] == '\\' && at + 1 < rest->len)
            at++;
        name[len++] = rest->data[at];
    }
    *rest = slice_from(*rest, at);
    *step = (struct step){.type = STEP_NAME, .name = {name, len}};
    if (len == 1 && name[0] == '*')
        step->type = STEP_ALL;
    return len ? 0 : -EINVAL;
}

static struct tree *parse_literal(struct arena *arena, struct slice text) {
    struct tree *value = NULL;
    if (text.len >= 2 && text.data[0] == '\'' && text.data[text.len - 1] == '\'')
        return tree_string(arena, slice_make(text.data + 1, text.len - 2));
    return json_parse(arena, text, NULL, &value, NULL) == 0 ? value : NULL;
}

/* The inside of "[?( … )]". */
static int parse_filter(struct arena *arena, struct slice text, struct step *step) {
    static const struct {
        const char *sign;
        enum step_operator operator_;
    } operators[] = {{"==", OPERATOR_EQUAL}, {"!=", OPERATOR_NOT_EQUAL}};
    struct slice left = text;
    *step = (struct step){.type = STEP_FILTER, .operator_ = OPERATOR_EXISTS};
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        ptrdiff_t at = slice_find(text, slice_of(operators[i].sign));
        if (at < 0)
            continue;
        left = slice_head(text, (size_t)at);
        step->operator_ = operators[i].operator_;
        step->right = parse_literal(arena, slice_trim(slice_from(text, (size_t)at + 2)));
        if (!step->right)
            return -EINVAL;
        break;
    }
    left = slice_trim(left);
    struct custom_path *path = NULL;
    if (!slice_starts(left, SLICE("@")))
        return -EINVAL;
    int error = custom_path_parse(arena, slice_from(left, 1), &path);
    step->left = path;
    return error;
}

/* Where the bracket that was opened closes: not within quotes. */
static ptrdiff_t find_close(struct slice text) {
    char quote = 0;
    int depth = 0;
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.data[i];
        if (quote) {
            quote = byte == quote ? 0 : quote;
        } else if (byte == '\'' || byte == '"') {
            quote = byte;
        } else if (byte == '[') {
            depth++;
        } else if (byte == ']' && depth-- == 0) {
            return (ptrdiff_t)i;
        }
    }
    return -1;
}

static int parse_bracket(struct arena *arena, struct slice *rest, struct step *step) {
    ptrdiff_t close = find_close(*rest);
    if (close < 0)
        return -EINVAL;
    struct slice inside = slice_trim(slice_head(*rest, (size_t)close));
    *rest = slice_from(*rest, (size_t)close + 1);
    if (slice_is(inside, "*")) {
        *step = (struct step){.type = STEP_ALL};
        return 0;
    }
    if (slice_starts(inside, SLICE("?(")) && slice_ends(inside, SLICE(")")))
        return parse_filter(arena, slice_make(inside.data + 2, inside.len - 3), step);
    if (inside.len >= 2 && (inside.data[0] == '\'' || inside.data[0] == '"') && inside.data[inside.len - 1] == inside.data[0]) {
        char *name = arena_dup(arena, slice_make(inside.data + 1, inside.len - 2));
        *step = (struct step){.type = STEP_NAME, .name = {name, inside.len - 2}};
        return name ? 0 : -ENOMEM;
    }
    *step = (struct step){.type = STEP_INDEX};
    return slice_parse_i64(inside, &step->index) == 0 ? 0 : -EINVAL;
}

int custom_path_parse(struct arena *arena, struct slice text, struct custom_path **ret) {
    struct step steps[STEPS_MAX];
    size_t count = 0;
    struct slice rest = slice_trim(text);
    if (rest.len >= 2 && rest.data[0] == '{' && rest.data[rest.len - 1] == '}')
        rest = slice_make(rest.data + 1, rest.len - 2);
    while (rest.len) {
        char first = rest.data[0];
        if (count == STEPS_MAX || (first != '.' && first != '['))
            return -EINVAL;
        rest = slice_from(rest, 1);
        if (first == '.' && rest.len && rest.data[0] == '[')
            continue; /* ".[0]" */
        int error = first == '.' ? parse_name(arena, &rest, &steps[count]) : parse_bracket(arena, &rest, &steps[count]);
        if (error)
            return error;
        count++;
    }
    struct custom_path *path = arena_alloc(arena, sizeof *path + count * sizeof *steps);
    if (!path)
        return -ENOMEM;
    path->count = count;
    if (count)
        memcpy(path->steps, steps, count * sizeof *steps);
    *ret = path;
    return 0;
}

/* --- finding --- */

static const struct tree *find(const struct custom_path *path, size_t at, const struct tree *node);

static bool filter_holds(const struct step *step, const struct tree *item) {
    const struct tree *left = custom_path_find(step->left, item);
    if (!left || step->operator_ == OPERATOR_EXISTS)
        return left != NULL;
    return tree_equal(left, step->right) == (step->operator_ == OPERATOR_EQUAL);
}

static const struct tree *find_in_all(const struct custom_path *path, size_t at, const struct tree *node) {
    const struct step *step = &path->steps[at];
    for (size_t i = 0; i < tree_count(node); i++) {
        const struct tree *item = node->children->items[i].value;
        const struct tree *found = step->type == STEP_ALL || filter_holds(step, item) ? find(path, at + 1, item) : NULL;
        if (found)
            return found;
    }
    return NULL;
}

static const struct tree *find(const struct custom_path *path, size_t at, const struct tree *node) {
    if (!node || at == path->count)
        return node;
    const struct step *step = &path->steps[at];
    const struct tree_entry *entry;
    switch (step->type) {
    case STEP_NAME: entry = tree_find_entry(node, step->name); return entry ? find(path, at + 1, entry->value) : NULL;
    case STEP_INDEX:
        if (node->type != TREE_LIST)
            return NULL;
        int64_t index = step->index < 0 ? step->index + (int64_t)tree_count(node) : step->index;
        return index < 0 ? NULL : find(path, at + 1, tree_at(node, (size_t)index));
    default: return find_in_all(path, at, node);
    }
}

const struct tree *custom_path_find(const struct custom_path *path, const struct tree *root) {
    return find(path, 0, root);
}

/* --- columns --- */

struct source {
    const struct custom_path *path; /* NULL: the object's name */
    bool metadata;                  /* the path begins there */
};

static const struct source name_source;
static const struct kube_column name_column = {
    .name = "Name", .type = "string", .format = "name", .description = "Name of the object, unique within a namespace.", .source = &name_source};

static int copy_text(struct arena *arena, const struct tree *from, const char **ret) {
    *ret = arena_strdup(arena, tree_text_or(from, ""));
    return *ret ? 0 : -ENOMEM;
}

/* -EINVAL: the path is not understood; such a column shows nothing. */
static int make_source(struct arena *arena, struct slice text, const void **ret) {
    struct source *source = ARENA_NEW(arena, struct source);
    struct custom_path *path = NULL;
    int error = source ? custom_path_parse(arena, text, &path) : -ENOMEM;
    if (error == -ENOMEM)
        return error;
    if (error || path->count == 0) {
        *ret = NULL;
        return 0;
    }
    source->path = path;
    source->metadata = path->steps[0].type != STEP_NAME || custom_is_meta(path->steps[0].name);
    *ret = source;
    return 0;
}

static int make_column(struct arena *arena, const struct tree *from, struct kube_column *column) {
    int error = copy_text(arena, tree_find(from, "name"), &column->name);
    error = error ? error : copy_text(arena, tree_find(from, "type"), &column->type);
    error = error ? error : copy_text(arena, tree_find(from, "format"), &column->format);
    error = error ? error : copy_text(arena, tree_find(from, "description"), &column->description);
    column->priority = (int)tree_int_or(tree_find(from, "priority"), 0);
    return error ? error : make_source(arena, slice_of(tree_text_or(tree_find(from, "jsonPath"), "")), &column->source);
}

int custom_columns_compile(struct arena *arena, const struct tree *from, const struct kube_column **ret, size_t *ret_count) {
    size_t count = tree_count(from);
    struct kube_column *columns = ARENA_ARRAY(arena, struct kube_column, count + 2);
    int error = columns ? 0 : -ENOMEM;
    if (columns)
        columns[0] = name_column;
    for (size_t i = 0; i < count && error == 0; i++)
        error = make_column(arena, tree_at(from, i), &columns[i + 1]);
    if (error == 0 && count == 0) {
        columns[1] = (struct kube_column){.name = "Age", .type = "date", .format = "", .description = "When the object was made."};
        error = make_source(arena, SLICE(".metadata.creationTimestamp"), &columns[1].source);
        count = 1;
    }
    *ret = columns;
    *ret_count = count + 1;
    return error;
}

static struct tree *date_cell(struct arena *arena, const struct tree *value, int64_t now_ns) {
    struct kube_time time = {.set = true};
    if (value->type != TREE_STRING)
        return tree_null(arena);
    if (timestamp_parse(value->string, &time.ns) != 0)
        return tree_text(arena, "<invalid>");
    return tree_text(arena, cell_since(arena, time, now_ns));
}

/* What a column of type string shows: texts as they are, all else as JSON. */
static struct tree *text_cell(struct arena *arena, const struct tree *value) {
    if (value->type == TREE_STRING)
        return tree_string(arena, value->string);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(API_BODY_BYTES_MAX);
    return json_format(&text, value) == 0 ? tree_string(arena, buffer_slice(&text)) : NULL;
}

static struct tree *make_cell(struct arena *arena, const char *type, const struct tree *value, int64_t now_ns) {
    bool number = value && (value->type == TREE_INT || value->type == TREE_FLOAT);
    if (!value || value->type == TREE_NULL)
        return tree_null(arena);
    if (strcmp(type, "string") == 0)
        return text_cell(arena, value);
    if (strcmp(type, "date") == 0)
        return date_cell(arena, value, now_ns);
    if (strcmp(type, "integer") == 0 && value->type == TREE_FLOAT && fabs(value->real) < 9e15)
        return tree_int(arena, (int64_t)value->real);
    if ((number && (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0)) || (strcmp(type, "boolean") == 0 && value->type == TREE_BOOL))
        return tree_copy(arena, value);
    return tree_null(arena);
}

struct tree *custom_table_row(const struct kube_object *object, struct arena *arena, int64_t now_ns) {
    struct tree *row = tree_list(arena), *whole = NULL;
    for (size_t i = 0; i < object->kind->columns_count && row; i++) {
        const struct kube_column *column = &object->kind->columns[i];
        const struct source *source = column->source;
        const struct tree *value = NULL;
        if (source && source->metadata && !whole && !(whole = custom_tree(object, arena, true)))
            return NULL;
        if (source && source->path)
            value = custom_path_find(source->path, source->metadata ? whole : object->custom->content);
        struct tree *cell = source == &name_source ? tree_text(arena, object->metadata->name ? object->metadata->name : "")
                                                   : make_cell(arena, column->type, value, now_ns);
        if (tree_push(arena, row, cell) != 0)
            return NULL;
    }
    return row;
}

/* --- field selectors --- */

static const struct custom_path *find_selectable(const struct kube_kind *kind, const char *label) {
    const struct custom_content *content = &kind->custom->content;
    for (size_t i = 0; i < content->selectable_count; i++)
        if (strcmp(content->selectable[i].label, label) == 0)
            return content->selectable[i].path;
    return NULL;
}

bool custom_is_selectable(const struct kube_kind *kind, const char *label) {
    return find_selectable(kind, label) != NULL;
}

const char *custom_selected(const struct kube_object *object, const char *label, char *number, size_t size) {
    const struct custom_path *path = find_selectable(object->kind, label);
    const struct tree *value = path ? custom_path_find(path, object->custom->content) : NULL;
    if (!value)
        return "";
    if (value->type == TREE_STRING)
        return value->string.data;
    if (value->type == TREE_BOOL)
        return value->boolean ? "true" : "false";
    if (value->type == TREE_INT) {
        snprintf(number, size, "%" PRId64, value->integer);
        return number;
    }
    return "";
}
