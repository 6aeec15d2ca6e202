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
    try_component(arena, tree, false);
    try_component(arena, tree, true);
    return 0;
}
