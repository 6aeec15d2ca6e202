/* Pruning and defaults, as upstream's structural schemas do them.
 *
 * Pruning copies what the schema specifies: named properties, all keys where additionalProperties is given, everything beneath
 * x-kubernetes-preserve-unknown-fields, though even there what is specified further down is pruned by its own schema. A place without a schema keeps
 * its value but no keys of objects in it. apiVersion, kind and metadata of the root and of embedded resources always stay, of the latter's metadata
 * what metadata can be.
 *
 * Defaults fill absent properties, and null where null is no value; a null without a default then goes. Both are pre-order, so a default may itself
 * have defaults below, and applying them twice changes nothing. */
#include "kube/custom_priv.h"

static struct tree *prune(struct custom_pruner *pruner, const struct custom_schema *schema, const struct tree *value, bool keep);

static void report(struct custom_pruner *pruner, struct slice name) {
    if (!pruner->unknown)
        return;
    size_t before = kube_path_push(pruner->path, name.data, name.len);
    pruner->unknown(pruner->userdata, pruner->path->text);
    kube_path_pop(pruner->path, before);
}

/* The schema for a key; *ret_known false: the key goes. */
static const struct custom_schema *schema_of_key(const struct custom_schema *schema, struct slice name, bool *ret_known) {
    const struct custom_schema *found = schema ? custom_property_find(schema, name) : NULL;
    bool additional = schema && schema->flags & CUSTOM_ADDITIONAL;
    *ret_known = found || additional;
    return found || !additional ? found : schema->additional;
}

/* Copies a key's value by whatever schema holds for it, into the map. */
static int prune_key(struct custom_pruner *pruner, const struct custom_schema *schema, const struct tree_entry *entry, bool keep, struct tree *out) {
    bool known;
    const struct custom_schema *child = schema_of_key(schema, entry->key, &known);
    if (!known && !keep) {
        report(pruner, entry->key);
        return 0;
    }
    size_t before = kube_path_push(pruner->path, entry->key.data, entry->key.len);
    struct tree *value = known ? prune(pruner, child, entry->value, false) : tree_copy(pruner->arena, entry->value);
    kube_path_pop(pruner->path, before);
    return tree_set(pruner->arena, out, entry->key, value);
}

/* By a type of ours instead of a schema. */
static struct tree *prune_typed(struct custom_pruner *pruner, const struct kube_type *type, const struct tree *value) {
    struct tree *out = value->type == TREE_LIST ? tree_list(pruner->arena) : tree_map(pruner->arena);
    for (size_t i = 0; value->type == TREE_LIST && i < tree_count(value) && out; i++) {
        size_t before = kube_path_push_index(pruner->path, i);
        int error = tree_push(pruner->arena, out, prune_typed(pruner, type, tree_at(value, i)));
        kube_path_pop(pruner->path, before);
        out = error ? NULL : out;
    }
    if (value->type != TREE_MAP)
        return value->type == TREE_LIST ? out : tree_copy(pruner->arena, value);
    for (size_t i = 0; i < tree_count(value) && out; i++) {
        const struct tree_entry *entry = &value->children->items[i];
        const struct kube_field *field = kube_field_find(type, entry->key);
        if (!field) {
            report(pruner, entry->key);
            continue;
        }
        size_t before = kube_path_push(pruner->path, entry->key.data, entry->key.len);
        bool is_struct = field->form == KUBE_FORM_STRUCT;
        struct tree *kept = is_struct ? prune_typed(pruner, field->type, entry->value) : tree_copy(pruner->arena, entry->value);
        kube_path_pop(pruner->path, before);
        if (tree_set(pruner->arena, out, entry->key, kept) != 0)
            return NULL;
    }
    return out;
}

static struct tree *prune_embedded(struct custom_pruner *pruner, const struct tree_entry *entry) {
    if (!slice_is(entry->key, "metadata"))
        return tree_copy(pruner->arena, entry->value);
    size_t before = kube_path_push(pruner->path, entry->key.data, entry->key.len);
    struct tree *out = prune_typed(pruner, &kube_object_meta_type, entry->value);
    kube_path_pop(pruner->path, before);
    return out;
}

/* keep: the value stands beneath preserve-unknown-fields. */
static struct tree *prune_map(struct custom_pruner *pruner, const struct custom_schema *schema, const struct tree *value, bool keep) {
    struct tree *out = tree_map(pruner->arena);
    bool embedded = schema && schema->flags & CUSTOM_EMBEDDED;
    for (size_t i = 0; i < tree_count(value) && out; i++) {
        const struct tree_entry *entry = &value->children->items[i];
        int error = embedded && custom_is_meta(entry->key) ? tree_set(pruner->arena, out, entry->key, prune_embedded(pruner, entry))
                                                           : prune_key(pruner, schema, entry, keep, out);
        if (error)
            return NULL;
    }
    return out;
}

static struct tree *prune_list(struct custom_pruner *pruner, const struct custom_schema *schema, const struct tree *value, bool keep) {
    struct tree *out = tree_list(pruner->arena);
    const struct custom_schema *items = schema ? schema->items : NULL;
    for (size_t i = 0; i < tree_count(value) && out; i++) {
        size_t before = kube_path_push_index(pruner->path, i);
        struct tree *item = keep && !items ? tree_copy(pruner->arena, tree_at(value, i)) : prune(pruner, items, tree_at(value, i), keep);
        kube_path_pop(pruner->path, before);
        if (tree_push(pruner->arena, out, item) != 0)
            return NULL;
    }
    return out;
}

static struct tree *prune(struct custom_pruner *pruner, const struct custom_schema *schema, const struct tree *value, bool keep) {
    keep = keep || (schema && schema->flags & CUSTOM_PRESERVE);
    if (value->type == TREE_MAP)
        return prune_map(pruner, schema, value, keep);
    if (value->type == TREE_LIST)
        return prune_list(pruner, schema, value, keep);
    return tree_copy(pruner->arena, value);
}

struct tree *custom_prune(struct custom_pruner *pruner, const struct custom_schema *schema, const struct tree *value) {
    return prune(pruner, schema, value, false);
}

struct tree *custom_prune_root(struct custom_pruner *pruner, const struct custom_schema *schema, const struct tree *tree) {
    struct tree *out = tree_map(pruner->arena);
    for (size_t i = 0; i < tree_count(tree) && out; i++) {
        const struct tree_entry *entry = &tree->children->items[i];
        if (!custom_is_meta(entry->key) && prune_key(pruner, schema, entry, schema->flags & CUSTOM_PRESERVE, out) != 0)
            return NULL;
    }
    return out;
}

/* --- defaults --- */

static bool is_wrong_null(const struct custom_schema *schema, const struct tree *value) {
    return value->type == TREE_NULL && schema && !(schema->flags & CUSTOM_NULLABLE);
}

static int fill_properties(const struct custom_schema *schema, struct arena *arena, struct tree *map) {
    for (size_t i = 0; i < schema->properties_count; i++) {
        const struct custom_property *property = &schema->properties[i];
        if (!property->schema->default_)
            continue;
        struct slice name = slice_make(property->name, property->name_len);
        const struct tree_entry *entry = tree_find_entry(map, name);
        if (entry && !is_wrong_null(property->schema, entry->value))
            continue;
        if (tree_set(arena, map, name, tree_copy(arena, property->schema->default_)) != 0)
            return -ENOMEM;
    }
    return 0;
}

/* The value of a key or item: a null that is none becomes the default. */
static int fill_value(const struct custom_schema *schema, struct arena *arena, struct tree_entry *entry) {
    if (schema && schema->default_ && is_wrong_null(schema, entry->value) && !(entry->value = tree_copy(arena, schema->default_)))
        return -ENOMEM;
    return schema ? custom_default(schema, arena, entry->value) : 0;
}

static int default_map(const struct custom_schema *schema, struct arena *arena, struct tree *map) {
    int error = schema->flags & CUSTOM_DEFAULTS ? fill_properties(schema, arena, map) : 0;
    size_t kept = 0, count = tree_count(map);
    for (size_t i = 0; i < count && error == 0; i++) {
        struct tree_entry entry = map->children->items[i];
        bool known;
        const struct custom_schema *child = schema_of_key(schema, entry.key, &known);
        if (is_wrong_null(child, entry.value) && !child->default_)
            continue;
        error = fill_value(child, arena, &entry);
        map->children->items[kept++] = entry;
    }
    if (kept < count)
        tree_truncate(map, kept);
    return error;
}

int custom_default(const struct custom_schema *schema, struct arena *arena, struct tree *value) {
    int error = 0;
    if (value->type == TREE_MAP)
        return default_map(schema, arena, value);
    for (size_t i = 0; value->type == TREE_LIST && schema->items && i < tree_count(value) && error == 0; i++)
        error = fill_value(schema->items, arena, &value->children->items[i]);
    return error;
}
