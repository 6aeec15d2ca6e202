/* JSON schema → what is walked. A schema is compiled once, when its definition is installed: keywords become numbers and bits, properties are sorted,
 * patterns compiled. What is nonsense is taken as not said, since a definition that was stored must always load; custom_structural.c refuses nonsense
 * before it is stored.
 *
 * Patterns are Go's regular expressions upstream; PCRE2 reads all of that syntax that people use. Unlike Go's, its matcher may backtrack, so each
 * match has a limit of steps and memory, and what exceeds it does not match. */
#include "kube/custom_priv.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static const struct custom_schema *compile(struct custom_compiler *compiler, const struct tree *node);

bool custom_is_meta(struct slice name) {
    return slice_is(name, "apiVersion") || slice_is(name, "kind") || slice_is(name, "metadata");
}

static uint8_t read_type(const struct tree *node) {
    static const struct {
        const char *name;
        uint8_t bits;
    } types[] = {{"object", CUSTOM_OBJECT},   {"array", CUSTOM_ARRAY},   {"string", CUSTOM_STRING},
                 {"integer", CUSTOM_INTEGER}, {"number", CUSTOM_NUMBER}, {"boolean", CUSTOM_BOOLEAN}};
    const char *name = tree_text_or(tree_find(node, "type"), "");
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (strcmp(types[i].name, name) == 0)
            return types[i].bits;
    return 0;
}

static uint16_t read_flags(const struct tree *node) {
    static const struct {
        const char *name;
        uint16_t bit;
    } flags[] = {{"nullable", CUSTOM_NULLABLE},
                 {"x-kubernetes-preserve-unknown-fields", CUSTOM_PRESERVE},
                 {"x-kubernetes-embedded-resource", CUSTOM_EMBEDDED},
                 {"x-kubernetes-int-or-string", CUSTOM_INT_OR_STRING},
                 {"exclusiveMinimum", CUSTOM_MIN_EXCLUSIVE},
                 {"exclusiveMaximum", CUSTOM_MAX_EXCLUSIVE}};
    static const struct {
        const char *name, *value;
        uint16_t bit;
    } words[] = {{"x-kubernetes-list-type", "set", CUSTOM_LIST_SET},
                 {"x-kubernetes-list-type", "map", CUSTOM_LIST_MAP},
                 {"x-kubernetes-map-type", "atomic", CUSTOM_MAP_ATOMIC}};
    uint16_t all = 0;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (tree_bool_or(tree_find(node, flags[i].name), false))
            all |= flags[i].bit;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(tree_text_or(tree_find(node, words[i].name), ""), words[i].value) == 0)
            all |= words[i].bit;
    if (tree_count(tree_find(node, "x-kubernetes-validations")))
        all |= CUSTOM_RULES;
    return all;
}

/* --- patterns --- */

static pcre2_code *compile_pattern(const char *pattern, int *ret_error, PCRE2_SIZE *ret_offset) {
    return pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C, ret_error,
                         ret_offset, NULL);
}

const char *custom_pattern_error(struct arena *arena, const char *pattern) {
    int code = 0;
    PCRE2_SIZE offset = 0;
    PCRE2_UCHAR text[160] = "";
    pcre2_code *regex = compile_pattern(pattern, &code, &offset);
    if (regex) {
        pcre2_code_free(regex);
        return NULL;
    }
    pcre2_get_error_message(code, text, sizeof text);
    const char *message = arena_printf(arena, "error parsing regexp: %s at character %zu: `%s`", (const char *)text, (size_t)offset, pattern);
    return message ? message : "error parsing regexp";
}

bool custom_pattern_matches(const struct custom_checks *checks, struct slice text) {
    if (!checks->regex)
        return true;
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    pcre2_match_data *data = context ? pcre2_match_data_create(1, NULL) : NULL;
    int found = PCRE2_ERROR_NOMEMORY;
    if (data) {
        pcre2_set_match_limit(context, CUSTOM_PATTERN_STEPS_MAX);
        pcre2_set_heap_limit(context, CUSTOM_PATTERN_HEAP_KIB_MAX);
        found = pcre2_match(checks->regex, (PCRE2_SPTR)(text.data ? text.data : ""), text.len, 0, 0, data, context);
    }
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    return found >= 0;
}

void custom_regexes_free(struct custom_checks *first) {
    for (; first; first = first->next_regex)
        pcre2_code_free(first->regex);
}

/* --- checks --- */

static int64_t read_bound(const struct tree *node, const char *name) {
    const struct tree *value = tree_find(node, name);
    if (value && value->type == TREE_FLOAT && value->real >= 0 && value->real < 9e15)
        return (int64_t)value->real;
    return MAX(tree_int_or(value, -1), -1);
}

static const struct tree *read_number(struct arena *arena, const struct tree *node, const char *name, bool *complete) {
    const struct tree *value = tree_find(node, name);
    if (!value || (value->type != TREE_INT && value->type != TREE_FLOAT))
        return NULL;
    const struct tree *copy = tree_copy(arena, value);
    *complete = *complete && copy;
    return copy;
}

static const struct tree *read_list(struct arena *arena, const struct tree *node, const char *name, bool *complete) {
    const struct tree *value = tree_find(node, name);
    if (!value || value->type != TREE_LIST)
        return NULL;
    const struct tree *copy = tree_copy(arena, value);
    *complete = *complete && copy;
    return copy;
}

static const char *read_text(struct arena *arena, const struct tree *node, const char *name, bool *complete) {
    const char *value = tree_text_or(tree_find(node, name), "");
    const char *copy = *value ? arena_strdup(arena, value) : NULL;
    *complete = *complete && (copy || !*value);
    return copy;
}

static bool read_alternatives(struct custom_compiler *compiler, const struct tree *node, const char *name, struct custom_alternatives *ret) {
    const struct tree *list = tree_find(node, name);
    size_t count = list && list->type == TREE_LIST ? tree_count(list) : 0;
    ret->items = count ? ARENA_ARRAY(compiler->arena, const struct custom_schema *, count) : NULL;
    if (count && !ret->items)
        return false;
    for (; ret->count < count; ret->count++)
        if (!(ret->items[ret->count] = compile(compiler, tree_at(list, ret->count))))
            return false;
    return true;
}

static bool has_checks(const struct tree *node) {
    static const char *const words[] = {"enum",     "minimum",  "maximum",       "multipleOf",    "pattern", "format", "minLength", "maxLength",
                                        "minItems", "maxItems", "minProperties", "maxProperties", "allOf",   "anyOf",  "oneOf",     "not"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (tree_find(node, words[i]))
            return true;
    return false;
}

static bool read_checks(struct custom_compiler *compiler, const struct tree *node, struct custom_schema *schema) {
    struct arena *arena = compiler->arena;
    if (!has_checks(node))
        return true;
    struct custom_checks *checks = ARENA_NEW(arena, struct custom_checks);
    if (!checks)
        return false;
    schema->checks = checks;
    bool complete = true;
    checks->enum_ = read_list(arena, node, "enum", &complete);
    checks->minimum = read_number(arena, node, "minimum", &complete);
    checks->maximum = read_number(arena, node, "maximum", &complete);
    checks->multiple_of = read_number(arena, node, "multipleOf", &complete);
    checks->pattern = read_text(arena, node, "pattern", &complete);
    checks->format = read_text(arena, node, "format", &complete);
    checks->min_length = read_bound(node, "minLength");
    checks->max_length = read_bound(node, "maxLength");
    checks->min_items = read_bound(node, "minItems");
    checks->max_items = read_bound(node, "maxItems");
    checks->min_properties = read_bound(node, "minProperties");
    checks->max_properties = read_bound(node, "maxProperties");
    if (checks->pattern) {
        int code;
        PCRE2_SIZE offset;
        checks->regex = compile_pattern(checks->pattern, &code, &offset);
    }
    if (checks->regex) {
        checks->next_regex = compiler->regexes;
        compiler->regexes = checks;
    }
    complete = complete && read_alternatives(compiler, node, "allOf", &checks->all_of) &&
               read_alternatives(compiler, node, "anyOf", &checks->any_of) && read_alternatives(compiler, node, "oneOf", &checks->one_of);
    const struct tree *not_ = tree_find(node, "not");
    if (complete && not_)
        complete = (checks->not_ = compile(compiler, not_)) != NULL;
    return complete;
}

/* --- structure --- */

static int compare_properties(const void *a, const void *b) {
    const struct custom_property *x = a, *y = b;
    return slice_compare(slice_make(x->name, x->name_len), slice_make(y->name, y->name_len));
}

static bool read_properties(struct custom_compiler *compiler, const struct tree *node, struct custom_schema *schema) {
    const struct tree *map = tree_find(node, "properties");
    size_t count = map && map->type == TREE_MAP ? tree_count(map) : 0;
    if (count == 0)
        return true;
    struct custom_property *properties = ARENA_ARRAY(compiler->arena, struct custom_property, count);
    if (!properties)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct tree_entry *entry = &map->children->items[i];
        const struct custom_schema *child = compile(compiler, entry->value);
        properties[i] = (struct custom_property){arena_dup(compiler->arena, entry->key), entry->key.len, child};
        if (!properties[i].name || !child)
            return false;
        if (child->default_ || child->flags & CUSTOM_DEFAULTS)
            schema->flags |= CUSTOM_DEFAULTS;
    }
    qsort(properties, count, sizeof *properties, compare_properties);
    schema->properties = properties;
    schema->properties_count = (uint32_t)count;
    return true;
}

static bool read_children(struct custom_compiler *compiler, const struct tree *node, struct custom_schema *schema) {
    const struct tree *items = tree_find(node, "items"), *additional = tree_find(node, "additionalProperties");
    if (items && !(schema->items = compile(compiler, items)))
        return false;
    if (additional && additional->type == TREE_MAP && !(schema->additional = compile(compiler, additional)))
        return false;
    if (additional && (additional->type == TREE_MAP || tree_bool_or(additional, false)))
        schema->flags |= CUSTOM_ADDITIONAL;
    const struct custom_schema *const below[] = {schema->items, schema->additional};
    for (size_t i = 0; i < ARRAY_LEN(below); i++)
        if (below[i] && (below[i]->default_ || below[i]->flags & CUSTOM_DEFAULTS))
            schema->flags |= CUSTOM_DEFAULTS;
    return read_properties(compiler, node, schema);
}

static const struct custom_schema *compile(struct custom_compiler *compiler, const struct tree *node) {
    struct custom_schema *schema = ++compiler->nodes <= CUSTOM_SCHEMA_NODES_MAX ? ARENA_NEW(compiler->arena, struct custom_schema) : NULL;
    if (!schema)
        return NULL;
    if (!node || node->type != TREE_MAP)
        return schema;
    bool complete = true;
    const struct tree *default_ = tree_find(node, "default");
    schema->type = read_type(node);
    schema->flags = read_flags(node);
    schema->required = read_list(compiler->arena, node, "required", &complete);
    schema->map_keys = read_list(compiler->arena, node, "x-kubernetes-list-map-keys", &complete);
    if (default_)
        complete = (schema->default_ = tree_copy(compiler->arena, default_)) && complete;
    complete = complete && read_checks(compiler, node, schema) && read_children(compiler, node, schema);
    return complete ? schema : NULL;
}

const struct custom_schema *custom_schema_compile(struct custom_compiler *compiler, const struct tree *node) {
    return compile(compiler, node);
}

const struct custom_schema *custom_property_find(const struct custom_schema *schema, struct slice name) {
    size_t low = 0, high = schema->properties_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct custom_property *property = &schema->properties[middle];
        int order = slice_compare(name, slice_make(property->name, property->name_len));
        if (order == 0)
            return property->schema;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
