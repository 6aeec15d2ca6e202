/* Shapes of the built-in kinds, from the flags of the tables. The rules are those by which upstream turns its OpenAPI document into a schema for
 * structured merge:
 *
 *   struct                  member by member, unless its type or the field is atomic
 *   map                     member by member, unless the field is atomic
 *   list                    as a whole, unless list=map or list=set; one that says nothing but patch=merge counts as keyed by its merge key
 *   raw, json, union        free-form
 *
 * A node is a type (of a struct) or a field (of a list or map). */
#include "kube/shape.h"

#include "kube/custom_priv.h"

extern const struct kube_type kube_object_meta_type;

static const struct kube_shape_source builtin;

/* One value of the field: what a list's item, a map's value or a plain field is. */
static void shape_of_value(const struct kube_field *field, struct kube_shape_node *ret) {
    *ret = (struct kube_shape_node){.merge = KUBE_MERGE_ATOMIC};
    if (field->form == KUBE_FORM_RAW || field->form == KUBE_FORM_JSON || field->form == KUBE_FORM_FIELDS)
        ret->merge = KUBE_MERGE_FREE;
    else if (field->form == KUBE_FORM_STRUCT && field->type->either)
        ret->merge = KUBE_MERGE_FREE; /* its schema does not say what it is */
    else if (field->form == KUBE_FORM_STRUCT && (!field->type->atomic || field->flags & KUBE_GRANULAR))
        *ret = (struct kube_shape_node){.merge = KUBE_MERGE_STRUCT, .source = &builtin, .node = field->type};
}

static enum kube_merge merge_of_list(const struct kube_field *field) {
    if (field->flags & KUBE_LIST_MAP)
        return KUBE_MERGE_KEYED;
    if (field->flags & KUBE_LIST_SET)
        return KUBE_MERGE_SET;
    return KUBE_MERGE_ATOMIC;
}

static void shape_of_field(const struct kube_field *field, struct kube_shape_node *ret) {
    *ret = (struct kube_shape_node){.merge = KUBE_MERGE_ATOMIC};
    if (field->flags & KUBE_ATOMIC)
        return;
    if (field->shape == KUBE_SHAPE_LIST)
        ret->merge = merge_of_list(field);
    else if (field->shape == KUBE_SHAPE_MAP)
        ret->merge = KUBE_MERGE_MAP;
    else
        shape_of_value(field, ret);
    if (field->shape == KUBE_SHAPE_LIST || field->shape == KUBE_SHAPE_MAP) {
        ret->source = &builtin;
        ret->detail = field;
    }
}

static bool builtin_member(const struct kube_shape_node *shape, struct slice name, struct kube_shape_node *ret) {
    if (shape->merge == KUBE_MERGE_MAP) {
        shape_of_value(shape->detail, ret);
        return true;
    }
    const struct kube_field *field = kube_field_find(shape->node, name);
    *ret = (struct kube_shape_node){.merge = KUBE_MERGE_FREE};
    if (field)
        shape_of_field(field, ret);
    return field != NULL;
}

static void builtin_item(const struct kube_shape_node *list, struct kube_shape_node *ret) {
    shape_of_value(list->detail, ret);
}

static bool builtin_key(const struct kube_shape_node *list, size_t index, struct kube_shape_key *ret) {
    const struct kube_field *field = list->detail;
    struct slice rest = slice_of(kube_rules_of(field)->keys), name = {NULL, 0};
    for (size_t i = 0; i <= index; i++) {
        if (!rest.len)
            return false;
        name = slice_cut(&rest, ',');
    }
    *ret = (struct kube_shape_key){.name = name};
    const struct kube_field *key = field->type ? kube_field_find(field->type, name) : NULL;
    const char *text = key ? kube_rules_of(key)->default_ : NULL;
    if (text) { /* the only defaults of keys are strings */
        ret->storage = (struct tree){.type = TREE_STRING, .string = slice_of(text)};
        ret->default_ = &ret->storage;
    }
    return true;
}

static const struct kube_shape_source builtin = {builtin_member, builtin_item, builtin_key};

/* The root has two members more than its type. */
static bool root_member(const struct kube_shape_node *shape, struct slice name, struct kube_shape_node *ret) {
    if (!slice_is(name, "apiVersion") && !slice_is(name, "kind"))
        return builtin_member(shape, name, ret);
    *ret = (struct kube_shape_node){.merge = KUBE_MERGE_ATOMIC};
    return true;
}

static const struct kube_shape_source builtin_root = {root_member, builtin_item, builtin_key};

void kube_shape_of(const struct kube_kind *kind, struct kube_shape_node *ret) {
    if (kind->custom) {
        custom_shape_of(kind, ret);
        return;
    }
    *ret = (struct kube_shape_node){.merge = KUBE_MERGE_STRUCT, .source = &builtin_root, .node = kind->type};
}

void kube_shape_of_metadata(struct kube_shape_node *ret) {
    *ret = (struct kube_shape_node){.merge = KUBE_MERGE_STRUCT, .source = &builtin, .node = &kube_object_meta_type};
}

bool kube_shape_member(const struct kube_shape_node *shape, struct slice name, struct kube_shape_node *ret) {
    struct kube_shape_node below = {.merge = KUBE_MERGE_FREE};
    bool known = !shape->source || shape->source->member(shape, name, &below);
    *ret = below;
    return known;
}

void kube_shape_item(const struct kube_shape_node *list, struct kube_shape_node *ret) {
    struct kube_shape_node below = {.merge = KUBE_MERGE_FREE};
    if (list->source)
        list->source->item(list, &below);
    *ret = below;
}

bool kube_shape_key(const struct kube_shape_node *list, size_t index, struct kube_shape_key *ret) {
    return list->source && list->source->key(list, index, ret);
}
