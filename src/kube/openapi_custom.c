/* The component of a custom kind: its structural schema as the definition gives it, with what every object has put in (apiVersion, kind, metadata).
 *
 * v2 knows less, and the clients that still ask for it check by it, so there what v2 cannot say is left out rather than said wrongly: a value that
 * may be null, be a number or a string, or have unknown fields has no type and no properties; anyOf, oneOf, allOf, not and defaults are dropped. */
#include "kube/openapi_priv.h"

#define CUSTOM_DEPTH_MAX 100 /* levels of a schema; what is deeper is left out */

static void put_node(struct openapi *openapi, const struct tree *node, const struct kube_kind *root, size_t depth);

static bool is_one_of(const char *word, const char *const *words) {
    for (size_t i = 0; words[i]; i++)
        if (!strcmp(word, words[i]))
            return true;
    return false;
}

/* "stable.example.com" → "com.example.stable". */
void openapi_custom_name(const struct kube_kind *kind, struct buffer *out) {
    struct slice group = slice_of(kind->group);
    while (group.len) {
        size_t start = group.len;
        while (start > 0 && group.data[start - 1] != '.')
            start--;
        buffer_append_slice(out, slice_from(group, start));
        buffer_append_byte(out, '.');
        group.len = start ? start - 1 : 0;
    }
    buffer_printf(out, "%s.%s", kind->version, kind->kind);
}

/* A map of names to schemas. The root's apiVersion, kind and metadata are the server's. */
static void put_properties(struct openapi *openapi, const struct tree *properties, const struct kube_kind *root, size_t depth) {
    static const char *const own[] = {"apiVersion", "kind", "metadata", NULL};
    openapi_key(openapi, "properties");
    openapi_open(openapi, '{');
    if (root) {
        openapi_type_meta(openapi);
        openapi_key(openapi, "metadata");
        buffer_append_text(openapi->out, "{\"description\":\"Name, namespace, labels and what else all objects have.\"");
        if (!openapi->v2)
            buffer_append_text(openapi->out, ",\"allOf\":[{");
        openapi_ref_type(openapi, &kube_object_meta_type);
        buffer_append_text(openapi->out, openapi->v2 ? "}" : "}]}");
    }
    for (size_t i = 0; properties && properties->type == TREE_MAP && i < properties->children->count; i++) {
        const struct tree_entry *entry = &properties->children->items[i];
        if (root && is_one_of(entry->key.data, own))
            continue;
        openapi_key(openapi, entry->key.data);
        put_node(openapi, entry->value, NULL, depth + 1);
    }
    openapi_close(openapi, '}');
}

static void put_schemas(struct openapi *openapi, const struct tree *list, size_t depth) {
    openapi_open(openapi, '[');
    for (size_t i = 0; i < tree_count(list); i++)
        put_node(openapi, tree_at(list, i), NULL, depth + 1);
    openapi_close(openapi, ']');
}

static void put_member(struct openapi *openapi, const struct tree_entry *entry, size_t depth) {
    static const char *const schemas[] = {"items", "additionalProperties", "not", NULL}, *const lists[] = {"allOf", "anyOf", "oneOf", NULL};
    const char *key = entry->key.data;
    openapi_key(openapi, key);
    if (is_one_of(key, schemas) && entry->value->type == TREE_MAP)
        put_node(openapi, entry->value, NULL, depth + 1);
    else if (is_one_of(key, lists) && entry->value->type == TREE_LIST)
        put_schemas(openapi, entry->value, depth);
    else
        json_format(openapi->out, entry->value);
}

/* What v2 would say wrongly about this value. */
static bool is_beyond_v2(const struct openapi *openapi, const struct tree *node) {
    static const char *const flags[] = {"nullable", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"};
    for (size_t i = 0; openapi->v2 && i < ARRAY_LEN(flags); i++)
        if (tree_bool_or(tree_find(node, flags[i]), false))
            return true;
    return false;
}

static void put_node(struct openapi *openapi, const struct tree *node, const struct kube_kind *root, size_t depth) {
    static const char *const dropped[] = {"default", "nullable", "allOf", "anyOf", "oneOf", "not", "example", NULL};
    static const char *const untyped[] = {"type", "items", "additionalProperties", "properties", "required", "enum", NULL};
    static const char *const flag[] = {"x-kubernetes-preserve-unknown-fields", NULL};
    bool beyond = is_beyond_v2(openapi, node), has_properties = false;
    openapi_open(openapi, '{');
    for (size_t i = 0; node && node->type == TREE_MAP && depth < CUSTOM_DEPTH_MAX && i < node->children->count; i++) {
        const struct tree_entry *entry = &node->children->items[i];
        if ((openapi->v2 && is_one_of(entry->key.data, dropped)) || (beyond && is_one_of(entry->key.data, untyped)))
            continue;
        if (root && beyond && is_one_of(entry->key.data, flag)) { /* all that clients want to know of it */
            openapi_text(openapi, "type", "object");
            continue;
        }
        bool properties = !strcmp(entry->key.data, "properties");
        has_properties |= properties;
        if (properties)
            put_properties(openapi, entry->value, root, depth);
        else
            put_member(openapi, entry, depth);
    }
    if (root && !has_properties && !beyond)
        put_properties(openapi, NULL, root, depth);
    if (root)
        openapi_gvk(openapi, root->group, root->version, root->kind, true);
    openapi_close(openapi, '}');
}

void openapi_custom_component(struct openapi *openapi, const struct kube_kind *kind, const struct tree *schema) {
    put_node(openapi, schema, kind, 0);
}
