/* Reading values of a pipeline file: texts, lists, variables, rules, needs, and the messages when they are something else.
 *
 * Invariants
 * 1. Every refusal names file, line, column and path ("test.needs"), what was found and what was expected; the hint says what to do.
 * 2. Lists are bounded (PIPELINE_…_MAX); nesting is bounded by the YAML reader and by flatten's depth.
 * 3. Texts hold no NUL byte: they become C strings, environment variables and NUL-separated script lines. */
#include "forge/expression.h"
#include "forge/pipeline_priv.h"

#include <ctype.h>
#include <stdio.h>

#define FLATTEN_DEPTH_MAX 10
#define WORD_BYTES_MAX 32

/* --- messages --- */

int reader_refuse(struct reader *reader, const struct tree *at, const char *key, const char *format, ...) {
    struct diag *diag = reader->diag;
    if (!diag)
        return -EINVAL;
    char message[DIAG_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    *diag = DIAG_INIT;
    diag_set(diag, -EINVAL, "%s", message);
    diag_at(diag, reader->file, at ? (int)at->line : 0, at ? (int)at->column : 0);
    snprintf(diag->path, sizeof diag->path, "%s%s%s", reader->job ? reader->job : "", reader->job && key ? "." : "", key ? key : "");
    return -EINVAL;
}

int reader_no_memory(struct reader *reader) {
    diag_at(reader->diag, reader->file, 0, 0);
    return diag_set(reader->diag, -ENOMEM, "the pipeline is too large");
}

int reader_warn(struct reader *reader, const struct tree *at, const char *format, ...) {
    if (reader->pipeline->warnings.count >= PIPELINE_WARNINGS_MAX)
        return 0;
    char message[DIAG_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    const char *text = arena_printf(reader->arena, "%s:%u: %s", reader->file, at ? at->line : 0, message);
    for (size_t i = 0; text && i < reader->pipeline->warnings.count; i++)
        if (strcmp(reader->pipeline->warnings.items[i], text) == 0)
            return 0;
    return text ? pipeline_strings_push(reader->arena, &reader->pipeline->warnings, text) : -ENOMEM;
}

/* Edit distance of two short words; row by row. */
static size_t distance(struct slice a, struct slice b) {
    if (a.len > WORD_BYTES_MAX || b.len > WORD_BYTES_MAX)
        return WORD_BYTES_MAX;
    size_t row[WORD_BYTES_MAX + 1];
    for (size_t j = 0; j <= b.len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t replaced = diagonal + (tolower((unsigned char)a.data[i - 1]) != tolower((unsigned char)b.data[j - 1]));
            diagonal = row[j];
            row[j] = MIN(replaced, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[b.len];
}

const char *reader_nearest(struct slice word, const char *const *candidates, size_t count) {
    const char *nearest = NULL;
    size_t best = MIN(word.len / 3 + 1, 3) + 1;
    for (size_t i = 0; i < count; i++) {
        size_t apart = distance(word, slice_of(candidates[i]));
        if (apart < best) {
            best = apart;
            nearest = candidates[i];
        }
    }
    return nearest;
}

/* --- texts and lists --- */

/* Grows by doubling: the old array stays in the arena, at most as large as the new one. */
static void *array_push(struct arena *arena, void *items, size_t count, size_t size) {
    if (count & (count - 1)) /* room up to the next power of two */
        return items;
    void *grown = arena_array(arena, count ? 2 * count : 1, size);
    if (grown && count)
        memcpy(grown, items, count * size);
    return grown;
}

int pipeline_strings_push(struct arena *arena, struct pipeline_strings *strings, const char *text) {
    const char **items = array_push(arena, strings->items, strings->count, sizeof *items);
    if (!items)
        return -ENOMEM;
    items[strings->count] = text;
    strings->items = items;
    strings->count++;
    return 0;
}

static const char *format_double(struct reader *reader, double value) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64);
    return json_format_double(&text, value) ? NULL : arena_dup(reader->arena, buffer_slice(&text));
}

int reader_scalar(struct reader *reader, const struct tree *node, const char *key, const char **ret) {
    const char *text = NULL;
    switch (node->type) {
    case TREE_NULL: text = ""; break;
    case TREE_BOOL: text = node->boolean ? "true" : "false"; break;
    case TREE_INT: text = arena_printf(reader->arena, "%" PRId64, node->integer); break;
    case TREE_FLOAT: text = format_double(reader, node->real); break;
    case TREE_STRING:
        if (slice_index(node->string, '\0') >= 0)
            return reader_refuse(reader, node, key, "the text holds a NUL byte");
        text = arena_dup(reader->arena, node->string);
        break;
    case TREE_LIST:
    case TREE_MAP:
        reader_refuse(reader, node, key, "a text was expected, found %s", node->type == TREE_MAP ? "a map" : "a list");
        return node->type == TREE_LIST ? -EINVAL
                                       : diag_hint(reader->diag, -EINVAL, "a text that contains \": \" needs quotes around the whole of it");
    }
    if (!text)
        return reader_no_memory(reader);
    *ret = text;
    return 0;
}

static int flatten(struct reader *reader, const struct tree *node, const char *key, int depth, struct pipeline_strings *ret) {
    if (node->type != TREE_LIST) {
        const char *text = NULL;
        int error = reader_scalar(reader, node, key, &text);
        if (error)
            return error;
        if (ret->count >= PIPELINE_SCRIPT_LINES_MAX)
            return reader_refuse(reader, node, key, "more than %d entries", PIPELINE_SCRIPT_LINES_MAX);
        return pipeline_strings_push(reader->arena, ret, text) ? reader_no_memory(reader) : 0;
    }
    if (depth >= FLATTEN_DEPTH_MAX)
        return reader_refuse(reader, node, key, "lists are nested more than %d deep", FLATTEN_DEPTH_MAX);
    int error = 0;
    for (size_t i = 0; !error && i < node->children->count; i++)
        error = flatten(reader, node->children->items[i].value, key, depth + 1, ret);
    return error;
}

int reader_strings(struct reader *reader, const struct tree *node, const char *key, struct pipeline_strings *ret) {
    *ret = (struct pipeline_strings){0};
    return node->type == TREE_NULL ? 0 : flatten(reader, node, key, 0, ret);
}

int reader_bool(struct reader *reader, const struct tree *node, const char *key, bool *ret) {
    if (node->type != TREE_BOOL)
        return reader_refuse(reader, node, key, "true or false was expected, found %s %s", tree_type_name(node), tree_text_or(node, ""));
    *ret = node->boolean;
    return 0;
}

static const char *const when_names[] = {"on_success", "on_failure", "always", "manual", "never"};

int reader_when(struct reader *reader, const struct tree *node, const char *key, unsigned allowed, enum pipeline_when *ret) {
    const char *text = tree_text_or(node, "");
    for (unsigned i = 0; i < ARRAY_LEN(when_names); i++) {
        if (strcmp(text, when_names[i]) == 0 && (allowed & 1U << i)) {
            *ret = (enum pipeline_when)i;
            return 0;
        }
    }
    char expected[100] = "";
    for (unsigned i = 0; i < ARRAY_LEN(when_names); i++)
        if (allowed & 1U << i)
            snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%s", *expected ? ", " : "", when_names[i]);
    return reader_refuse(reader, node, key, "one of %s was expected, found %s", expected, *text ? text : tree_type_name(node));
}

/* --- variables --- */

static bool is_variable_name(struct slice name) {
    for (size_t i = 0; i < name.len; i++)
        if (!isalnum((unsigned char)name.data[i]) && name.data[i] != '_')
            return false;
    return name.len > 0 && name.len <= PIPELINE_NAME_BYTES_MAX;
}

/* A variable is a scalar, or a map {value, description, options, expand}. */
static int read_variable(struct reader *reader, const struct tree *node, const char *key, const char **ret_value, bool *ret_raw) {
    if (node->type != TREE_MAP)
        return reader_scalar(reader, node, key, ret_value);
    static const char *const known[] = {"value", "description", "options", "expand"};
    bool expand = true;
    *ret_value = "";
    for (size_t i = 0; i < node->children->count; i++) {
        const struct tree_entry *entry = &node->children->items[i];
        int error = 0;
        if (slice_is(entry->key, "value"))
            error = reader_scalar(reader, entry->value, key, ret_value);
        else if (slice_is(entry->key, "expand"))
            error = reader_bool(reader, entry->value, key, &expand);
        else if (!slice_is(entry->key, known[1]) && !slice_is(entry->key, known[2]))
            error = reader_refuse(reader, entry->value, key, "unknown key %s of a variable: value, description, options or expand was expected",
                                  entry->key.data);
        if (error)
            return error;
    }
    *ret_raw = !expand;
    return 0;
}

int reader_variables(struct reader *reader, const struct tree *node, const char *key, struct pipeline_variables *ret) {
    *ret = (struct pipeline_variables){0};
    if (node->type == TREE_NULL)
        return 0;
    if (node->type != TREE_MAP)
        return reader_refuse(reader, node, key, "a map of names to values was expected, found %s", tree_type_name(node));
    for (size_t i = 0; i < node->children->count; i++) {
        const struct tree_entry *entry = &node->children->items[i];
        const char *value = NULL;
        bool raw = false;
        if (!is_variable_name(entry->key))
            return reader_refuse(reader, entry->value, key, "\"%s\" is no name of a variable: letters, digits and _ were expected", entry->key.data);
        if (ret->count >= PIPELINE_VARIABLES_MAX)
            return reader_refuse(reader, node, key, "more than %d variables", PIPELINE_VARIABLES_MAX);
        int error = read_variable(reader, entry->value, key, &value, &raw);
        if (error)
            return error;
        if (pipeline_variables_set(reader->arena, ret, entry->key.data, value, raw))
            return reader_no_memory(reader);
    }
    return 0;
}

/* --- rules and needs --- */

static int read_condition(struct reader *reader, const struct tree *node, const char *key, struct pipeline_rule *rule) {
    if (node->type != TREE_STRING)
        return reader_refuse(reader, node, key, "an expression was expected, found %s", tree_type_name(node));
    struct diag problem = DIAG_INIT;
    int error = expression_parse(reader->arena, node->string, &rule->condition, &problem);
    if (error == -ENOMEM)
        return reader_no_memory(reader);
    if (!error)
        return 0;
    reader_refuse(reader, node, key, "%s", problem.message);
    return diag_hint(reader->diag, -EINVAL, "%s", problem.hint);
}

static int read_rule_entry(struct reader *reader, const struct tree_entry *entry, const char *key, struct pipeline_rule *rule) {
    static const char *const known[] = {"if", "when", "allow_failure", "variables", "needs"};
    if (slice_is(entry->key, "if"))
        return read_condition(reader, entry->value, key, rule);
    if (slice_is(entry->key, "when")) {
        rule->has_when = true;
        return reader_when(reader, entry->value, key, 31, &rule->when);
    }
    if (slice_is(entry->key, "allow_failure")) {
        rule->has_allow_failure = true;
        return reader_bool(reader, entry->value, key, &rule->allow_failure);
    }
    if (slice_is(entry->key, "variables"))
        return reader_variables(reader, entry->value, key, &rule->variables);
    if (slice_is(entry->key, "needs")) {
        rule->has_needs = true;
        return reader_needs(reader, entry->value, key, &rule->needs);
    }
    if (slice_is(entry->key, "interruptible") || slice_is(entry->key, "auto_cancel"))
        return reader_warn(reader, entry->value, "`%s` has no effect here", entry->key.data);
    const char *near = reader_nearest(entry->key, known, ARRAY_LEN(known));
    reader_refuse(reader, entry->value, key, "unknown key \"%s\" of a rule: if, when, allow_failure, variables or needs was expected",
                  entry->key.data);
    return near ? diag_hint(reader->diag, -EINVAL, "did you mean \"%s\"?", near) : -EINVAL;
}

static int read_rule(struct reader *reader, const struct tree *node, const char *key, int depth, struct pipeline_rules *ret) {
    int error = 0;
    if (node->type == TREE_LIST && depth < FLATTEN_DEPTH_MAX) {
        for (size_t i = 0; !error && i < node->children->count; i++)
            error = read_rule(reader, node->children->items[i].value, key, depth + 1, ret);
        return error;
    }
    if (node->type != TREE_MAP)
        return reader_refuse(reader, node, key, "a rule like {if: …, when: …} was expected, found %s", tree_type_name(node));
    if (ret->count >= PIPELINE_JOBS_MAX)
        return reader_refuse(reader, node, key, "more than %d rules", PIPELINE_JOBS_MAX);
    struct pipeline_rule rule = {0};
    for (size_t i = 0; i < node->children->count; i++)
        if ((error = read_rule_entry(reader, &node->children->items[i], key, &rule)))
            return error;
    ret->items = array_push(reader->arena, ret->items, ret->count, sizeof rule);
    if (!ret->items)
        return reader_no_memory(reader);
    ret->items[ret->count++] = rule;
    return 0;
}

int reader_rules(struct reader *reader, const struct tree *node, const char *key, struct pipeline_rules *ret) {
    *ret = (struct pipeline_rules){0};
    if (node->type != TREE_LIST)
        return reader_refuse(reader, node, key, "a list of rules was expected, found %s", tree_type_name(node));
    return read_rule(reader, node, key, 0, ret);
}

static int read_need(struct reader *reader, const struct tree *node, const char *key, struct pipeline_need *need) {
    *need = (struct pipeline_need){.artifacts = true, .line = node->line, .column = node->column};
    if (node->type != TREE_MAP)
        return reader_scalar(reader, node, key, &need->job);
    for (size_t i = 0; i < node->children->count; i++) {
        const struct tree_entry *entry = &node->children->items[i];
        int error;
        if (slice_is(entry->key, "job"))
            error = reader_scalar(reader, entry->value, key, &need->job);
        else if (slice_is(entry->key, "optional"))
            error = reader_bool(reader, entry->value, key, &need->optional);
        else if (slice_is(entry->key, "artifacts"))
            error = reader_bool(reader, entry->value, key, &need->artifacts);
        else
            error =
                reader_refuse(reader, entry->value, key, "unknown key \"%s\" of a need: job, optional or artifacts was expected", entry->key.data);
        if (error)
            return error;
    }
    return need->job ? 0 : reader_refuse(reader, node, key, "the need names no job: {job: NAME} was expected");
}

int reader_needs(struct reader *reader, const struct tree *node, const char *key, struct pipeline_needs *ret) {
    *ret = (struct pipeline_needs){0};
    size_t count = node->type == TREE_LIST ? node->children->count : 1;
    if (node->type != TREE_LIST && node->type != TREE_STRING)
        return reader_refuse(reader, node, key, "a list of job names was expected, found %s", tree_type_name(node));
    if (count > PIPELINE_NEEDS_MAX)
        return reader_refuse(reader, node, key, "more than %d needs", PIPELINE_NEEDS_MAX);
    ret->items = ARENA_ARRAY(reader->arena, struct pipeline_need, count);
    if (!ret->items)
        return reader_no_memory(reader);
    for (size_t i = 0; i < count; i++) {
        int error = read_need(reader, node->type == TREE_LIST ? node->children->items[i].value : node, key, &ret->items[i]);
        if (error)
            return error;
    }
    ret->count = count;
    return 0;
}
