/* Shapes of custom kinds, from their structural schemas: what server-side apply merges and owns in which pieces. An object with properties is a
 * struct, one with additionalProperties a map; lists are what x-kubernetes-list-type says, as a whole when it says nothing; what the schema leaves
 * open is free-form. Nodes point into the compiled schema: they must not be kept across turns of the loop. */
#include "kube/custom_priv.h"

static const struct kube_shape_source custom_source;

static void shape_of(const struct custom_schema *schema, struct kube_shape_node *ret) {
    *ret = (struct kube_shape_node){.merge = KUBE_MERGE_FREE};
    if (!schema)
        return;
    bool list = schema->type == CUSTOM_ARRAY;
    if (schema->type & ~(CUSTOM_OBJECT | CUSTOM_ARRAY) || schema->flags & (CUSTOM_MAP_ATOMIC | CUSTOM_INT_OR_STRING))
        ret->merge = KUBE_MERGE_ATOMIC;
    else if (list)
        ret->merge = schema->flags & CUSTOM_LIST_MAP ? KUBE_MERGE_KEYED : schema->flags & CUSTOM_LIST_SET ? KUBE_MERGE_SET : KUBE_MERGE_ATOMIC;
    else if (schema->properties_count || schema->flags & CUSTOM_EMBEDDED)
        ret->merge = KUBE_MERGE_STRUCT;
    else if (schema->flags & CUSTOM_ADDITIONAL)
        ret->merge = KUBE_MERGE_MAP;
    if (ret->merge == KUBE_MERGE_FREE || ret->merge == KUBE_MERGE_ATOMIC)
        return;
    ret->source = &custom_source;
    ret->node = schema;
}

static bool member(const struct kube_shape_node *shape, struct slice name, struct kube_shape_node *ret) {
    const struct custom_schema *schema = shape->node, *found = custom_property_find(schema, name);
    bool meta = schema->flags & CUSTOM_EMBEDDED && custom_is_meta(name);
    if (meta && slice_is(name, "metadata"))
        kube_shape_of_metadata(ret);
    else
        shape_of(found ? found : schema->additional, ret);
    return found || meta || schema->flags & (CUSTOM_ADDITIONAL | CUSTOM_PRESERVE);
}

static void item(const struct kube_shape_node *list, struct kube_shape_node *ret) {
    shape_of(((const struct custom_schema *)list->node)->items, ret);
}

static const char *key_name(const struct custom_schema *list, size_t index) {
    return tree_text_or(tree_at(list->map_keys, index), "");
}

/* The definition names the keys in any order: the one that `index` others stand before. */
static bool key(const struct kube_shape_node *node, size_t index, struct kube_shape_key *ret) {
    const struct custom_schema *list = node->node;
    size_t count = tree_count(list->map_keys);
    for (size_t i = 0; i < count; i++) {
        size_t before = 0;
        for (size_t j = 0; j < count; j++)
            before += strcmp(key_name(list, j), key_name(list, i)) < 0;
        if (before != index)
            continue;
        const struct custom_schema *property = list->items ? custom_property_find(list->items, slice_of(key_name(list, i))) : NULL;
        *ret = (struct kube_shape_key){.name = slice_of(key_name(list, i)), .default_ = property ? property->default_ : NULL};
        return true;
    }
    return false;
}

static const struct kube_shape_source custom_source = {.member = member, .item = item, .key = key};

static bool root_member(const struct kube_shape_node *shape, struct slice name, struct kube_shape_node *ret) {
    if (slice_is(name, "metadata")) {
        kube_shape_of_metadata(ret);
        return true;
    }
    if (custom_is_meta(name)) {
        *ret = (struct kube_shape_node){.merge = KUBE_MERGE_ATOMIC};
        return true;
    }
    return member(shape, name, ret);
}

static const struct kube_shape_source custom_root = {.member = root_member, .item = item, .key = key};

void custom_shape_of(const struct kube_kind *kind, struct kube_shape_node *ret) {
    *ret = (struct kube_shape_node){.merge = KUBE_MERGE_STRUCT, .source = &custom_root, .node = custom_schema_of(kind)};
}
