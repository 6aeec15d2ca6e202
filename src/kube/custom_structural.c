/* Is a schema structural? The rules by which upstream admits the schema of a definition, in its words:
 *
 *   - every object field, array item and the root says its type outside of allOf, anyOf, oneOf and not;
 *   - within those (a "nested" schema) there are only checks of values: no type, default, title or extension;
 *   - whatever properties nested schemas speak of is also specified outside;
 *   - the root is an object, and of its metadata only the name may be restricted;
 *   - keywords that would make pruning or merging ambiguous are refused ($ref, uniqueItems, additionalProperties beside properties, …);
 *   - defaults fit their schema.
 * The walk is over the tree as it was written; recursion is bounded by the depth of JSON. */
#include "kube/custom_priv.h"

#include <stdio.h>

enum level { LEVEL_ROOT, LEVEL_ITEM, LEVEL_FIELD };

static void check_structure(struct validator *validator, const struct tree *node, enum level level);
static void check_nested(struct validator *validator, const struct tree *node, const struct tree *outer, bool skip_any_of);

static bool flag(const struct tree *node, const char *name) {
    return tree_bool_or(tree_find(node, name), false);
}

static const char *type_of(const struct tree *node) {
    return tree_text_or(tree_find(node, "type"), "");
}

/* Not said, or said to be nothing. */
static bool is_absent(const struct tree *node, const char *name) {
    const struct tree *value = tree_find(node, name);
    if (!value || value->type == TREE_NULL)
        return true;
    return (value->type == TREE_BOOL && !value->boolean) || (value->type == TREE_STRING && value->string.len == 0) ||
           (value->type == TREE_LIST && tree_count(value) == 0);
}

static bool is_schema(struct validator *validator, const struct tree *node) {
    if (node->type != TREE_MAP)
        fail_value(validator, NULL, tree_type_name(node), "must be a schema: an object");
    return node->type == TREE_MAP;
}

/* --- keywords of any schema --- */

static void check_keyword_types(struct validator *validator, const struct tree *node) {
    static const struct {
        const char *names;
        unsigned types; /* bits of enum tree_type */
        const char *what;
    } keywords[] = {
        {" type title description format pattern x-kubernetes-list-type x-kubernetes-map-type ", 1u << TREE_STRING, "a string"},
        {" nullable exclusiveMinimum exclusiveMaximum uniqueItems x-kubernetes-preserve-unknown-fields x-kubernetes-embedded-resource "
         "x-kubernetes-int-or-string ",
         1u << TREE_BOOL, "a boolean"},
        {" minimum maximum multipleOf ", 1u << TREE_INT | 1u << TREE_FLOAT, "a number"},
        {" minLength maxLength minItems maxItems minProperties maxProperties ", 1u << TREE_INT, "an integer"},
        {" enum required allOf anyOf oneOf x-kubernetes-list-map-keys x-kubernetes-validations ", 1u << TREE_LIST, "an array"},
        {" properties not ", 1u << TREE_MAP, "an object"},
        {" items ", 1u << TREE_MAP | 1u << TREE_LIST, "an object"},
        {" additionalProperties ", 1u << TREE_MAP | 1u << TREE_BOOL, "an object or a boolean"},
    };
    for (size_t i = 0; i < tree_count(node); i++) {
        const struct tree_entry *entry = &node->children->items[i];
        char word[80];
        snprintf(word, sizeof word, " %.60s ", entry->key.data);
        for (size_t j = 0; j < ARRAY_LEN(keywords); j++)
            if (strstr(keywords[j].names, word) && entry->value->type != TREE_NULL && !(keywords[j].types & 1u << entry->value->type))
                fail_value(validator, entry->key.data, tree_type_name(entry->value), "must be %s", keywords[j].what);
    }
}

static void check_unsupported(struct validator *validator, const struct tree *node) {
    static const char *const names[] = {"id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!is_absent(node, names[i]))
            fail_forbidden(validator, names[i], "%s is not supported", names[i]);
    if (flag(node, "uniqueItems"))
        fail_forbidden(validator, "uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
    const struct tree *additional = tree_find(node, "additionalProperties"), *items = tree_find(node, "items");
    if (additional && tree_count(tree_find(node, "properties")) && (additional->type == TREE_MAP || !tree_bool_or(additional, true)))
        fail_forbidden(validator, "additionalProperties", "additionalProperties and properties are mutual exclusive");
    if (additional && additional->type == TREE_BOOL && !additional->boolean)
        fail_forbidden(validator, "additionalProperties", "additionalProperties cannot be set to false");
    if (items && items->type == TREE_LIST)
        fail_forbidden(validator, "items", "items must be a schema object and not an array");
    const struct tree *preserve = tree_find(node, "x-kubernetes-preserve-unknown-fields");
    if (preserve && preserve->type == TREE_BOOL && !preserve->boolean)
        fail_value(validator, "x-kubernetes-preserve-unknown-fields", "false", "must be true or undefined");
}

static bool is_one_of(const char *text, const char *const *list) {
    for (size_t i = 0; list[i]; i++)
        if (strcmp(list[i], text) == 0)
            return true;
    return false;
}

static void require_type(struct validator *validator, const struct tree *node, const char *type, const char *detail) {
    if (strcmp(type_of(node), type) == 0)
        return;
    if (!*type_of(node))
        fail_required(validator, "type", detail);
    else
        fail_text(validator, "type", type_of(node), "%s", detail);
}

static void check_map_keys(struct validator *validator, const struct tree *node) {
    const struct tree *keys = tree_find(node, "x-kubernetes-list-map-keys"), *items = tree_find(node, "items");
    const struct tree *properties = tree_find(items, "properties"), *required = tree_find(items, "required");
    if (!tree_count(keys))
        fail_required(validator, "x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map");
    if (!items)
        fail_required(validator, "items", "must have a schema if x-kubernetes-list-type is map");
    else if (strcmp(type_of(items), "object") != 0)
        fail_text(validator, "items.type", type_of(items), "must be object if parent array's x-kubernetes-list-type is map");
    for (size_t i = 0; items && i < tree_count(keys); i++) {
        const char *key = tree_text_or(tree_at(keys, i), "");
        const struct tree *property = tree_find(properties, key);
        bool is_required = false;
        for (size_t j = 0; j < tree_count(required); j++)
            is_required = is_required || strcmp(tree_text_or(tree_at(required, j), ""), key) == 0;
        if (!property) {
            fail_text(validator, "x-kubernetes-list-map-keys", key, "entries must all be names of item properties");
        } else if (!is_required && !tree_find(property, "default")) {
            size_t before = kube_path_push_field(&validator->path, "items.properties");
            kube_path_push_key(&validator->path, key);
            fail_required(validator, "default",
                          "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property");
            kube_path_pop(&validator->path, before);
        }
    }
}

static void check_topology(struct validator *validator, const struct tree *node) {
    static const char *const list_types[] = {"atomic", "map", "set", NULL}, *const map_types[] = {"atomic", "granular", NULL};
    const char *list_type = tree_text_or(tree_find(node, "x-kubernetes-list-type"), "");
    const char *map_type = tree_text_or(tree_find(node, "x-kubernetes-map-type"), "");
    if (*list_type && !is_one_of(list_type, list_types))
        fail_supported(validator, "x-kubernetes-list-type", list_type, list_types);
    if (*list_type)
        require_type(validator, node, "array", "must be array if x-kubernetes-list-type is specified");
    if (*map_type && !is_one_of(map_type, map_types))
        fail_supported(validator, "x-kubernetes-map-type", map_type, map_types);
    if (*map_type)
        require_type(validator, node, "object", "must be object if x-kubernetes-map-type is specified");
    if (strcmp(list_type, "map") == 0)
        check_map_keys(validator, node);
    else if (tree_count(tree_find(node, "x-kubernetes-list-map-keys")))
        fail_required(validator, "x-kubernetes-list-type", "must be map if x-kubernetes-list-map-keys is non-empty");
}

static void check_keywords(struct validator *validator, const struct tree *node) {
    static const char *const types[] = {"array", "boolean", "integer", "number", "object", "string", NULL};
    const char *type = type_of(node), *pattern = tree_text_or(tree_find(node, "pattern"), "");
    check_keyword_types(validator, node);
    check_unsupported(validator, node);
    if (strcmp(type, "null") == 0)
        fail_forbidden(validator, "type", "type cannot be set to null, use nullable as an alternative");
    else if (*type && !is_one_of(type, types))
        fail_supported(validator, "type", type, types);
    CLEANUP(arena_freep) struct arena *arena = *pattern ? arena_new(64 * KIB) : NULL;
    const char *error = arena ? custom_pattern_error(arena, pattern) : NULL;
    validator->no_memory = validator->no_memory || (*pattern && !arena);
    if (error)
        fail_text(validator, "pattern", pattern, "must be a valid regular expression, but isn't: %s", error);
    const struct tree *rules = tree_find(node, "x-kubernetes-validations");
    for (size_t i = 0; i < tree_count(rules); i++) {
        size_t before = kube_path_push_field(&validator->path, "x-kubernetes-validations");
        kube_path_push_index(&validator->path, i);
        if (!*tree_text_or(tree_find(tree_at(rules, i), "rule"), ""))
            fail_required(validator, "rule", "rule is not specified");
        kube_path_pop(&validator->path, before);
    }
}

/* --- nested schemas --- */

static const struct tree *property_of(const struct tree *outer, struct slice name) {
    const struct tree_entry *entry = tree_find_entry(tree_find(outer, "properties"), name);
    return entry ? entry->value : NULL;
}

static void check_nested_children(struct validator *validator, const struct tree *node, const struct tree *outer) {
    const struct tree *properties = tree_find(node, "properties"), *items = tree_find(node, "items");
    for (size_t i = 0; i < tree_count(properties); i++) {
        const struct tree_entry *entry = &properties->children->items[i];
        const struct tree *outside = property_of(outer, entry->key);
        size_t before = kube_path_push_field(&validator->path, "properties");
        kube_path_push_key(&validator->path, entry->key.data);
        if (slice_is(entry->key, "metadata"))
            fail_forbidden(validator, NULL, "must not be specified in a nested context");
        else if (!outside)
            fail_required(validator, NULL, "because it is defined in a nested context, it must be specified in properties of the structural schema");
        check_nested(validator, entry->value, outside, false);
        kube_path_pop(&validator->path, before);
    }
    if (items && items->type == TREE_MAP) {
        size_t before = kube_path_push_field(&validator->path, "items");
        if (outer && !tree_find(outer, "items"))
            fail_required(validator, NULL, "because it is defined in a nested context, it must be specified in the structural schema");
        check_nested(validator, items, tree_find(outer, "items"), false);
        kube_path_pop(&validator->path, before);
    }
}

static void check_forbidden(struct validator *validator, const struct tree *node) {
    static const char *const forbidden[][2] = {{"type", "must be empty to be structural"},
                                               {"additionalProperties", "must be undefined to be structural"},
                                               {"default", "must be undefined to be structural"},
                                               {"title", "must be empty to be structural"},
                                               {"description", "must be empty to be structural"},
                                               {"nullable", "must be false to be structural"},
                                               {"x-kubernetes-preserve-unknown-fields", "must be false to be structural"},
                                               {"x-kubernetes-embedded-resource", "must be false to be structural"},
                                               {"x-kubernetes-int-or-string", "must be false to be structural"},
                                               {"x-kubernetes-list-map-keys", "must be empty to be structural"},
                                               {"x-kubernetes-list-type", "must be undefined to be structural"},
                                               {"x-kubernetes-map-type", "must be undefined to be structural"},
                                               {"x-kubernetes-validations", "must be empty to be structural"}};
    for (size_t i = 0; i < ARRAY_LEN(forbidden); i++)
        if (!is_absent(node, forbidden[i][0]))
            fail_forbidden(validator, forbidden[i][0], "%s", forbidden[i][1]);
}

/* anyOf: [{type: integer}, {type: string}], the one place where nested types are allowed. */
static bool is_int_or_string(const struct tree *node) {
    const struct tree *list = tree_find(node, "anyOf");
    return tree_count(list) == 2 && tree_count(tree_at(list, 0)) == 1 && tree_count(tree_at(list, 1)) == 1 &&
           strcmp(type_of(tree_at(list, 0)), "integer") == 0 && strcmp(type_of(tree_at(list, 1)), "string") == 0;
}

/* The alternatives of a schema, nested or not; outer is the structural schema of the same place. */
static void check_alternatives(struct validator *validator, const struct tree *node, const struct tree *outer, bool skip_any_of, bool skip_first) {
    static const char *const names[] = {"anyOf", "allOf", "oneOf"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct tree *list = tree_find(node, names[i]);
        for (size_t j = 0; j < tree_count(list) && !(i == 0 && skip_any_of); j++) {
            size_t before = kube_path_push_field(&validator->path, names[i]);
            kube_path_push_index(&validator->path, j);
            check_nested(validator, tree_at(list, j), outer, i == 1 && j == 0 && skip_first);
            kube_path_pop(&validator->path, before);
        }
    }
    const struct tree *not_ = tree_find(node, "not");
    if (!not_)
        return;
    size_t before = kube_path_push_field(&validator->path, "not");
    check_nested(validator, not_, outer, false);
    kube_path_pop(&validator->path, before);
}

static void check_nested(struct validator *validator, const struct tree *node, const struct tree *outer, bool skip_any_of) {
    if (!is_schema(validator, node))
        return;
    check_keywords(validator, node);
    check_forbidden(validator, node);
    check_nested_children(validator, node, outer);
    check_alternatives(validator, node, outer, skip_any_of && is_int_or_string(node), false);
}

/* --- structural schemas --- */

static void check_type(struct validator *validator, const struct tree *node, enum level level) {
    static const char *const missing[] = {[LEVEL_ROOT] = "must not be empty at the root",
                                          [LEVEL_ITEM] = "must not be empty for specified array items",
                                          [LEVEL_FIELD] = "must not be empty for specified object fields"};
    const char *type = type_of(node);
    if (flag(node, "x-kubernetes-embedded-resource"))
        require_type(validator, node, "object", "must be object if x-kubernetes-embedded-resource is true");
    else if (!*type && !flag(node, "x-kubernetes-int-or-string") && !flag(node, "x-kubernetes-preserve-unknown-fields"))
        fail_required(validator, "type", missing[level]);
    else if (*type && flag(node, "x-kubernetes-int-or-string"))
        fail_text(validator, "type", type, "must be empty if x-kubernetes-int-or-string is true");
    if (level == LEVEL_ROOT && *type && strcmp(type, "object") != 0)
        fail_text(validator, "type", type, "must be object at the root");
    if (strcmp(type, "array") == 0 && !tree_find(node, "items"))
        fail_required(validator, "items", "must be specified");
}

static void check_root_metadata(struct validator *validator, const struct tree *metadata) {
    bool more = false;
    for (size_t i = 0; i < tree_count(metadata); i++) {
        const struct tree_entry *entry = &metadata->children->items[i];
        bool fine = slice_is(entry->key, "type") || slice_is(entry->key, "properties") || slice_is(entry->key, "default");
        more = more || (!fine && !is_absent(metadata, entry->key.data));
    }
    const struct tree *properties = tree_find(metadata, "properties");
    for (size_t i = 0; i < tree_count(properties); i++) {
        struct slice name = properties->children->items[i].key;
        more = more || (!slice_is(name, "name") && !slice_is(name, "generateName"));
    }
    if (more)
        fail_forbidden(validator, "properties[metadata]",
                       "must not specify anything other than name and generateName, but metadata is implicitly specified");
}

static void check_meta_properties(struct validator *validator, const struct tree *node, enum level level) {
    static const char *const names[][3] = {
        {"kind", "string", "must be string"}, {"apiVersion", "string", "must be string"}, {"metadata", "object", "must be object"}};
    const struct tree *properties = tree_find(node, "properties");
    if (level != LEVEL_ROOT && !flag(node, "x-kubernetes-embedded-resource"))
        return;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct tree *property = tree_find(properties, names[i][0]);
        char name[40];
        snprintf(name, sizeof name, "properties[%s].type", names[i][0]);
        if (property && strcmp(type_of(property), names[i][1]) != 0)
            fail_text(validator, name, type_of(property), "%s", names[i][2]);
    }
    if (level == LEVEL_ROOT && tree_find(properties, "metadata"))
        check_root_metadata(validator, tree_find(properties, "metadata"));
}

static void check_extensions(struct validator *validator, const struct tree *node, enum level level) {
    bool embedded = flag(node, "x-kubernetes-embedded-resource"), preserve = flag(node, "x-kubernetes-preserve-unknown-fields");
    if (flag(node, "x-kubernetes-int-or-string") && preserve)
        fail_value(validator, "x-kubernetes-preserve-unknown-fields", "true", "must be false if x-kubernetes-int-or-string is true");
    if (flag(node, "x-kubernetes-int-or-string") && embedded)
        fail_value(validator, "x-kubernetes-embedded-resource", "true", "must be false if x-kubernetes-int-or-string is true");
    if (level == LEVEL_ROOT && !is_absent(node, "additionalProperties"))
        fail_forbidden(validator, "additionalProperties", "must not be used at the root");
    if (embedded && !is_absent(node, "additionalProperties"))
        fail_forbidden(validator, "additionalProperties", "must not be used if x-kubernetes-embedded-resource is set");
    if (embedded && !preserve && !tree_count(tree_find(node, "properties")))
        fail_required(validator, "properties",
                      "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields");
}

static void report_unknown(void *userdata, const char *path) {
    (void)path;
    *(bool *)userdata = true;
}

/* A default must be what the schema would accept, and keep. */
static void check_default(struct validator *validator, const struct tree *node) {
    const struct tree *value = tree_find(node, "default");
    CLEANUP(arena_freep) struct arena *arena = value ? arena_new(TREE_BYTES_MAX) : NULL;
    validator->no_memory = validator->no_memory || (value && !arena);
    if (!arena)
        return;
    struct custom_compiler compiler = {.arena = arena};
    const struct custom_schema *schema = custom_schema_compile(&compiler, node);
    bool unknown = false;
    struct kube_path place = {.len = 0};
    struct custom_pruner pruner = {.arena = arena, .path = &place, .unknown = report_unknown, .userdata = &unknown};
    struct tree *kept = schema ? custom_prune(&pruner, schema, value) : NULL;
    if (!kept || custom_default(schema, arena, kept) != 0)
        validator->no_memory = true;
    size_t before = kube_path_push_field(&validator->path, "default");
    if (unknown)
        fail_value(validator, NULL, tree_type_name(value), "must not have unknown fields");
    if (kept)
        custom_check_default(validator, schema, kept);
    kube_path_pop(&validator->path, before);
    custom_regexes_free(compiler.regexes);
}

static void check_child(struct validator *validator, const struct tree *node, const char *name, enum level level) {
    const struct tree *child = tree_find(node, name);
    if (!child || child->type != TREE_MAP)
        return;
    size_t before = kube_path_push_field(&validator->path, name);
    check_structure(validator, child, level);
    kube_path_pop(&validator->path, before);
}

static void check_structure(struct validator *validator, const struct tree *node, enum level level) {
    const struct tree *properties = tree_find(node, "properties"), *first = tree_at(tree_find(node, "allOf"), 0);
    if (!is_schema(validator, node))
        return;
    check_keywords(validator, node);
    check_topology(validator, node);
    check_type(validator, node, level);
    check_meta_properties(validator, node, level);
    check_extensions(validator, node, level);
    check_child(validator, node, "items", LEVEL_ITEM);
    check_child(validator, node, "additionalProperties", LEVEL_FIELD);
    for (size_t i = 0; i < tree_count(properties); i++) {
        const struct tree_entry *entry = &properties->children->items[i];
        if (level == LEVEL_ROOT && slice_is(entry->key, "metadata"))
            continue;
        size_t before = kube_path_push_field(&validator->path, "properties");
        kube_path_push_key(&validator->path, entry->key.data);
        check_structure(validator, entry->value, LEVEL_FIELD);
        kube_path_pop(&validator->path, before);
    }
    bool either = flag(node, "x-kubernetes-int-or-string");
    check_alternatives(validator, node, node, either && is_int_or_string(node), either && first && is_int_or_string(first));
    check_default(validator, node);
}

void custom_check_structural(struct validator *validator, const struct tree *schema) {
    check_structure(validator, schema, LEVEL_ROOT);
}
