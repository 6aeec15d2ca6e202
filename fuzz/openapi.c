/* Any text as an OpenAPI document to be put into protobuf: no crash. And as the schema of a custom kind: the component is JSON, in both dialects, and
 * can be put into protobuf. */
#include "kube/openapi_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DEPTH_MAX 200 /* far from the parser's own bound, which the component's wrapping would pass */

static size_t depth_of(const struct tree *tree) {
    size_t deepest = 0;
    for (size_t i = 0; (tree->type == TREE_MAP || tree->type == TREE_LIST) && i < tree->children->count; i++)
        deepest = MAX(deepest, depth_of(tree->children->items[i].value));
    return deepest + 1;
}

/* The schema as a definition that was decoded has it: fields of other types are refused, unknown ones are gone. NULL: refused. */
static const struct tree *decoded(struct arena *arena, struct tree *schema) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
    struct tree *root = tree_map(arena), *spec = tree_map(arena), *versions = tree_list(arena), *version = tree_map(arena), *holder = tree_map(arena);
    int error = tree_set(arena, holder, SLICE("openAPIV3Schema"), schema) || tree_set(arena, version, SLICE("schema"), holder) ||
                tree_push(arena, versions, version) || tree_set(arena, spec, SLICE("versions"), versions) ||
                tree_set(arena, root, SLICE("spec"), spec);
    if (error || kube_decode_tree(&kube_kind_custom_resource_definition, root, KUBE_LENIENT, &object, NULL) != 0)
        return NULL;
    const struct tree *definition = kube_encode_tree(object, arena);
    return tree_path(tree_at(tree_path(definition, "spec.versions"), 0), "schema.openAPIV3Schema");
}

static void try_component(struct arena *arena, const struct tree *schema, bool v2) {
    static const struct kube_type type = {.name = "Widget", .package = "x"};
    const struct kube_kind kind = {.group = "example.com", .version = "v1", .kind = "Widget", .type = &type};
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * MIB), wire = BUFFER_INIT(64 * MIB);
    struct openapi openapi = {.out = &out, .v2 = v2};
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    const struct json_options options = {.allow_duplicates = true};
    buffer_append_text(&out, v2 ? "{\"swagger\":\"2.0\",\"definitions\":{\"a\":" : "{\"openapi\":\"3.0.0\",\"components\":{\"schemas\":{\"a\":");
    openapi_custom_component(&openapi, &kind, schema);
    buffer_append_text(&out, v2 ? "}}" : "}}}");
    if (!buffer_error(&out)) {
        ASSERT(json_parse(arena, buffer_slice(&out), &options, &tree, &diag) == 0);
        ASSERT(kube_openapi_to_protobuf(buffer_slice(&out), &wire) == 0);
    }
    VECTOR_DEINIT(&openapi.types);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(256 * MIB);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * MIB);
    struct slice text = slice_make(data, size);
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    const struct json_options options = {.allow_duplicates = true};
    if (size)
        kube_openapi_to_protobuf(text, &out);
    if (!arena || size > 64 * KIB || json_parse(arena, text, &options, &tree, &diag) != 0 || depth_of(tree) > DEPTH_MAX)
        return 0;
    const struct tree *schema = decoded(arena, tree);
    if (schema) {
        try_component(arena, schema, false);
        try_component(arena, schema, true);
    }
    return 0;
}
