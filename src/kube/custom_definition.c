/* Custom resource definitions themselves: their defaults, and what upstream checks of them beyond the rules in the IDL. The checks read the object as
 * a tree, since most of it is a schema. */
#include "kube/custom_priv.h"

#include <ctype.h>
#include <stdio.h>

#define SELECTABLE_MAX 8
#define APPROVAL "api-approved.kubernetes.io"

/* --- defaults --- */

static const char *lower(struct arena *arena, const char *text) {
    char *copy = arena_strdup(arena, text);
    for (char *at = copy; at && *at; at++)
        *at = (char)tolower((unsigned char)*at);
    return copy;
}

int custom_default_definition(struct arena *arena, void *data) {
    struct kube_custom_resource_definition *definition = data;
    struct kube_custom_resource_definition_names *names = &definition->spec.names;
    const char *kind = names->kind;
    if (kind && !names->singular && !(names->singular = lower(arena, kind)))
        return -ENOMEM;
    if (kind && !names->list_kind && !(names->list_kind = arena_printf(arena, "%sList", kind)))
        return -ENOMEM;
    return 0;
}

/* --- names --- */

static void check_label(struct validator *validator, const char *name, const char *value) {
    const char *wrong = *value ? format_check("dns1035-label", slice_of(value)) : NULL;
    if (wrong)
        fail_text(validator, name, value, "%s", wrong);
}

static void check_kind_name(struct validator *validator, const char *name, const char *value) {
    char small[256];
    size_t len = MIN(strlen(value), sizeof small - 1);
    for (size_t i = 0; i < len; i++)
        small[i] = (char)tolower((unsigned char)value[i]);
    small[len] = 0;
    const char *wrong = *value ? format_check("dns1035-label", slice_of(small)) : NULL;
    if (wrong)
        fail_text(validator, name, value, "may have mixed case, but should otherwise match: %s", wrong);
}

static void check_label_list(struct validator *validator, const char *name, const struct tree *list) {
    for (size_t i = 0; i < tree_count(list); i++) {
        size_t before = kube_path_push_field(&validator->path, name);
        kube_path_push_index(&validator->path, i);
        check_label(validator, NULL, tree_text_or(tree_at(list, i), ""));
        kube_path_pop(&validator->path, before);
    }
}

static void check_names(struct validator *validator, const struct tree *names) {
    static const char *const required[] = {"plural", "singular", "kind", "listKind"};
    const char *kind = tree_text_or(tree_find(names, "kind"), ""), *list_kind = tree_text_or(tree_find(names, "listKind"), "");
    size_t before = kube_path_push_field(&validator->path, "names");
    for (size_t i = 0; i < ARRAY_LEN(required); i++)
        if (!*tree_text_or(tree_find(names, required[i]), ""))
            fail_required(validator, required[i], "");
    check_label(validator, "plural", tree_text_or(tree_find(names, "plural"), ""));
    check_label(validator, "singular", tree_text_or(tree_find(names, "singular"), ""));
    check_kind_name(validator, "kind", kind);
    check_kind_name(validator, "listKind", list_kind);
    if (*kind && strcmp(kind, list_kind) == 0)
        fail_text(validator, "listKind", list_kind, "kind and listKind may not be the same");
    check_label_list(validator, "shortNames", tree_find(names, "shortNames"));
    check_label_list(validator, "categories", tree_find(names, "categories"));
    kube_path_pop(&validator->path, before);
}

static void check_identity(struct validator *validator, const struct tree *spec) {
    const struct kube_object_meta *metadata = validator->object->metadata;
    const char *group = tree_text_or(tree_find(spec, "group"), ""), *plural = tree_text_or(tree_path(spec, "names.plural"), "");
    char wanted[600];
    snprintf(wanted, sizeof wanted, "%s.%s", plural, group);
    if (metadata->name && strcmp(metadata->name, wanted) != 0)
        fail_text(validator, "metadata.name", metadata->name, "must be spec.names.plural+\".\"+spec.group");
    struct slice rest = slice_of(group);
    bool protected_ = slice_is(rest, "k8s.io") || slice_is(rest, "kubernetes.io") || slice_ends(rest, SLICE(".k8s.io")) ||
                      slice_ends(rest, SLICE(".kubernetes.io"));
    const char *approval = kube_map_find(&metadata->annotations, APPROVAL);
    if (protected_ && (!approval || !*approval))
        fail_required(validator, "metadata.annotations[" APPROVAL "]",
                      "protected groups must have approval annotation \"" APPROVAL "\", see https://github.com/kubernetes/enhancements/pull/1111");
    if (*group && slice_index(rest, '.') < 0)
        fail_text(validator, "spec.group", group, "should be a domain with at least one dot");
}

/* --- versions --- */

static void check_path(struct validator *validator, const char *name, const char *path, const char *root) {
    char prefix[20];
    snprintf(prefix, sizeof prefix, "%s.", root);
    if (*path != '.')
        fail_text(validator, name, path, "must be a simple json path starting with .");
    else if (!slice_starts(slice_of(path), slice_of(prefix)))
        fail_text(validator, name, path, "should be a json path under %s", root);
    else if (strpbrk(path, "[]{}'\"*\\"))
        fail_text(validator, name, path, "must be a json path in the dot notation");
}

static void check_scale(struct validator *validator, const struct tree *scale) {
    static const char *const paths[][2] = {{"specReplicasPath", ".spec"}, {"statusReplicasPath", ".status"}};
    if (!scale)
        return;
    size_t before = kube_path_push_field(&validator->path, "subresources.scale");
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        const char *path = tree_text_or(tree_find(scale, paths[i][0]), "");
        if (!*path)
            fail_required(validator, paths[i][0], "");
        else
            check_path(validator, paths[i][0], path, paths[i][1]);
    }
    const char *selector = tree_text_or(tree_find(scale, "labelSelectorPath"), "");
    if (*selector && !slice_starts(slice_of(selector), SLICE(".spec.")))
        check_path(validator, "labelSelectorPath", selector, ".status");
    kube_path_pop(&validator->path, before);
}

static bool is_json_path(struct validator *validator, const char *text) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    struct custom_path *path = NULL;
    int error = arena ? custom_path_parse(arena, slice_of(text), &path) : -ENOMEM;
    validator->no_memory = validator->no_memory || error == -ENOMEM;
    return *text == '.' && error != -EINVAL;
}

static void check_column(struct validator *validator, const struct tree *column) {
    static const char *const types[] = {"integer", "number", "string", "boolean", "date", NULL};
    static const char *const formats[] = {"int32", "int64", "float", "double", "byte", "date", "date-time", "password", NULL};
    const char *type = tree_text_or(tree_find(column, "type"), ""), *path = tree_text_or(tree_find(column, "jsonPath"), "");
    const char *format = tree_text_or(tree_find(column, "format"), "");
    char shown[120] = "must be one of integer,number,string,boolean,date";
    bool known = false, known_format = !*format;
    for (size_t i = 0; types[i]; i++)
        known = known || strcmp(types[i], type) == 0;
    for (size_t i = 0; formats[i]; i++)
        known_format = known_format || strcmp(formats[i], format) == 0;
    if (!*tree_text_or(tree_find(column, "name"), ""))
        fail_required(validator, "name", "");
    if (!*type)
        fail_required(validator, "type", shown);
    else if (!known)
        fail_text(validator, "type", type, "%s", shown);
    if (!known_format)
        fail_text(validator, "format", format, "must be one of int32,int64,float,double,byte,date,date-time,password");
    if (!*path)
        fail_required(validator, "jsonPath", "");
    else if (!is_json_path(validator, path))
        fail_text(validator, "jsonPath", path, "must be a json path that begins with .");
}

/* The schema at "spec.color", or NULL. */
static const struct tree *schema_at(const struct tree *schema, struct slice path) {
    while (schema && path.len) {
        const struct tree_entry *entry = tree_find_entry(tree_find(schema, "properties"), slice_cut(&path, '.'));
        schema = entry ? entry->value : NULL;
    }
    return schema;
}

static void check_selectable(struct validator *validator, const struct tree *fields, const struct tree *schema) {
    size_t before = kube_path_push_field(&validator->path, "selectableFields");
    if (tree_count(fields) > SELECTABLE_MAX)
        fail_reason(validator, "FieldValueTooMany", NULL, "Too many: %zu: must have at most %d items", tree_count(fields), SELECTABLE_MAX);
    for (size_t i = 0; i < tree_count(fields); i++) {
        const char *path = tree_text_or(tree_find(tree_at(fields, i), "jsonPath"), "");
        const struct tree *found = *path == '.' ? schema_at(schema, slice_of(path + 1)) : NULL;
        const char *type = tree_text_or(tree_find(found, "type"), "");
        size_t inner = kube_path_push_index(&validator->path, i);
        if (!*path)
            fail_required(validator, "jsonPath", "");
        else if (slice_starts(slice_of(path), SLICE(".metadata")))
            fail_text(validator, "jsonPath", path, "must not point to fields in metadata");
        else if (!found)
            fail_text(validator, "jsonPath", path, "is an invalid path: does not refer to a valid field");
        else if (strcmp(type, "string") != 0 && strcmp(type, "boolean") != 0 && strcmp(type, "integer") != 0)
            fail_text(validator, "jsonPath", path,
                      "must point to a field of type string, boolean or integer. Enum string fields and strings with "
                      "formats are allowed.");
        kube_path_pop(&validator->path, inner);
    }
    kube_path_pop(&validator->path, before);
}

static void check_version(struct validator *validator, const struct tree *version) {
    const struct tree *schema = tree_path(version, "schema.openAPIV3Schema"), *columns = tree_find(version, "additionalPrinterColumns");
    if (!schema || schema->type != TREE_MAP) {
        fail_required(validator, "schema.openAPIV3Schema", "schemas are required");
    } else {
        size_t before = kube_path_push_field(&validator->path, "schema.openAPIV3Schema");
        custom_check_structural(validator, schema);
        kube_path_pop(&validator->path, before);
    }
    check_scale(validator, tree_path(version, "subresources.scale"));
    for (size_t i = 0; i < tree_count(columns); i++) {
        size_t before = kube_path_push_field(&validator->path, "additionalPrinterColumns");
        kube_path_push_index(&validator->path, i);
        check_column(validator, tree_at(columns, i));
        kube_path_pop(&validator->path, before);
    }
    check_selectable(validator, tree_find(version, "selectableFields"), schema);
    if (!tree_bool_or(tree_find(version, "deprecated"), false) && tree_find(version, "deprecationWarning"))
        fail_text(validator, "deprecationWarning", tree_text_or(tree_find(version, "deprecationWarning"), ""),
                  "can only be set for deprecated versions");
}

static void fail_versions(struct validator *validator, const struct tree *versions, const char *message) {
    CLEANUP(buffer_deinit) struct buffer names = BUFFER_INIT(4 * KIB);
    buffer_append_byte(&names, '[');
    for (size_t i = 0; i < tree_count(versions); i++)
        buffer_printf(&names, "%s\"%s\"", i ? "," : "", tree_text_or(tree_find(tree_at(versions, i), "name"), ""));
    buffer_append_byte(&names, ']');
    fail_value(validator, "versions", names.data ? names.data : "[]", "%s", message);
}

static void check_versions(struct validator *validator, const struct tree *versions) {
    CLEANUP(map_freep) struct map *names = map_new();
    size_t storage = 0;
    if (tree_count(versions) > CUSTOM_VERSIONS_MAX)
        fail_reason(validator, "FieldValueTooMany", "versions", "Too many: %zu: must have at most %d items", tree_count(versions),
                    CUSTOM_VERSIONS_MAX);
    bool unique = true;
    for (size_t i = 0; i < tree_count(versions); i++) {
        const struct tree *version = tree_at(versions, i);
        storage += tree_bool_or(tree_find(version, "storage"), false);
        void *same = NULL;
        if (!names || map_put(names, slice_of(tree_text_or(tree_find(version, "name"), "")), validator, &same)) {
            fail_value(validator, "versions", "[…]", "takes too much memory to validate");
            return;
        }
        unique = unique && !same;
        size_t before = kube_path_push_field(&validator->path, "versions");
        kube_path_push_index(&validator->path, i);
        check_version(validator, version);
        kube_path_pop(&validator->path, before);
    }
    if (!unique)
        fail_versions(validator, versions, "must contain unique version names");
    if (storage != 1)
        fail_versions(validator, versions, "must have exactly one version marked as storage version");
}

/* --- the whole --- */

static void check_conversion(struct validator *validator, const struct tree *conversion) {
    bool webhook = strcmp(tree_text_or(tree_find(conversion, "strategy"), ""), "Webhook") == 0;
    if (webhook && !tree_path(conversion, "webhook.clientConfig"))
        fail_required(validator, "conversion.webhook.clientConfig", "required when strategy is set to Webhook");
    if (webhook && !tree_count(tree_path(conversion, "webhook.conversionReviewVersions")))
        fail_required(validator, "conversion.webhook.conversionReviewVersions", "");
    if (!webhook && tree_find(conversion, "webhook"))
        fail_forbidden(validator, "conversion.webhook", "should not be set when strategy is not set to Webhook");
}

static bool is_established(const struct tree *definition) {
    const struct tree *conditions = tree_path(definition, "status.conditions");
    for (size_t i = 0; i < tree_count(conditions); i++)
        if (strcmp(tree_text_or(tree_find(tree_at(conditions, i), "type"), ""), "Established") == 0)
            return strcmp(tree_text_or(tree_find(tree_at(conditions, i), "status"), ""), "True") == 0;
    return false;
}

static void check_same(struct validator *validator, const struct tree *spec, const struct tree *old_spec, const char *path) {
    const char *now = tree_text_or(tree_path(spec, path), ""), *before = tree_text_or(tree_path(old_spec, path), "");
    if (strcmp(now, before) != 0)
        fail_text(validator, path, now, "field is immutable");
}

static void check_update(struct validator *validator, const struct tree *definition, const struct tree *old) {
    const struct tree *spec = tree_find(definition, "spec"), *old_spec = tree_find(old, "spec");
    size_t before = kube_path_push_field(&validator->path, "spec");
    if (is_established(old)) {
        check_same(validator, spec, old_spec, "scope");
        check_same(validator, spec, old_spec, "names.kind");
    }
    check_same(validator, spec, old_spec, "names.plural");
    kube_path_pop(&validator->path, before);
    const struct tree *stored = tree_path(definition, "status.storedVersions"), *versions = tree_find(spec, "versions");
    for (size_t i = 0; i < tree_count(stored); i++) {
        const char *name = tree_text_or(tree_at(stored, i), "");
        bool found = false;
        for (size_t j = 0; j < tree_count(versions); j++)
            found = found || strcmp(tree_text_or(tree_find(tree_at(versions, j), "name"), ""), name) == 0;
        char field[40];
        snprintf(field, sizeof field, "status.storedVersions[%zu]", i);
        if (!found)
            fail_text(validator, field, name, "must appear in spec.versions");
    }
}

/* What is stored can be installed: nothing here is larger than the limits. */
static void check_size(struct validator *validator, const struct tree *definition) {
    struct kube_custom_set *set = NULL;
    int error = kube_custom_compile(definition, &set, NULL);
    if (error == -E2BIG)
        fail_value(validator, "spec.versions", "[]", "the schemas are too large: all versions together may have %d nodes", CUSTOM_SCHEMA_NODES_MAX);
    validator->no_memory = validator->no_memory || error == -ENOMEM;
    kube_custom_set_free(set);
}

void validate_custom_resource_definition(struct validator *validator, const void *data, const void *old_data) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(2 * TREE_BYTES_MAX);
    const struct tree *definition = arena ? kube_encode_tree(validator->object, arena) : NULL, *spec = tree_find(definition, "spec");
    const struct tree *old = definition && old_data && validator->old ? kube_encode_tree(validator->old, arena) : NULL;
    (void)data;
    if (!definition || (validator->old && old_data && !old)) {
        validator->no_memory = true;
        return;
    }
    if (old && tree_equal(spec, tree_find(old, "spec"))) { /* as good as it was: a change of status does not check a large schema again */
        check_update(validator, definition, old);
        return;
    }
    check_identity(validator, spec);
    size_t before = kube_path_push_field(&validator->path, "spec");
    if (tree_bool_or(tree_find(spec, "preserveUnknownFields"), false))
        fail_value(validator, "preserveUnknownFields", "true",
                   "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead");
    check_names(validator, tree_find(spec, "names"));
    check_versions(validator, tree_find(spec, "versions"));
    check_conversion(validator, tree_find(spec, "conversion"));
    kube_path_pop(&validator->path, before);
    if (old)
        check_update(validator, definition, old);
    if (validator->errors == 0)
        check_size(validator, definition);
}
