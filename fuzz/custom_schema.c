/* A schema, an object and a column's JSONPath, each ended by a NUL: whatever a definition says, compiling it, checking it, and pruning, filling in,
 * checking and showing an object by it must not crash; and what came out once must come out the same when it goes in again, as long as the definition
 * is one that would have been stored. */
#include "kube/kube.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tree *parse(struct arena *arena, struct slice text) {
    const struct json_options options = {.allow_duplicates = true};
    struct tree *tree = NULL;
    return json_parse(arena, text, &options, &tree, NULL) == 0 ? tree : NULL;
}

static struct tree *define(struct arena *arena, struct tree *schema, struct slice path) {
    static const char text[] =
        "{\"metadata\":{\"name\":\"widgets.example.com\"},\"spec\":{\"group\":\"example.com\",\"scope\":\"Namespaced\",\"names\":{\"plural\":"
        "\"widgets\","
        "\"singular\":\"widget\",\"kind\":\"Widget\",\"listKind\":\"WidgetList\"},\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,"
        "\"schema\":{},\"additionalPrinterColumns\":[{\"name\":\"C\",\"type\":\"string\"}]}]}}";
    struct tree *tree = parse(arena, slice_make(text, sizeof text - 1)), *version = tree_at(tree_path(tree, "spec.versions"), 0);
    ASSERT(tree_set(arena, tree_find(version, "schema"), SLICE("openAPIV3Schema"), schema) == 0);
    ASSERT(tree_set(arena, tree_at(tree_find(version, "additionalPrinterColumns"), 0), SLICE("jsonPath"), tree_string(arena, path)) == 0);
    return tree;
}

/* Would this definition have been stored? */
static bool is_valid(const struct tree *definition) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    if (kube_decode_tree(&kube_kind_custom_resource_definition, definition, KUBE_LENIENT, &object, &diag) != 0 || kube_default(object) != 0)
        return false;
    return kube_validate(object, NULL, &diag) == 0;
}

static void check_object(struct arena *arena, const struct tree *given, bool valid) {
    const struct kube_kind *kind = kube_custom_version(SLICE("example.com"), SLICE("v1"), SLICE("widgets"));
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL, *again = NULL;
    struct diag diag = DIAG_INIT;
    ASSERT(kind);
    if (kube_decode_tree(kind, given, KUBE_WARN, &object, &diag) != 0 || kube_default(object) != 0)
        return;
    kube_validate(object, NULL, &diag);
    ASSERT(kube_table_row(object, arena, INT64_C(1700000000000000000)));
    struct tree *tree = kube_encode_tree(object, arena);
    ASSERT(tree && kube_decode_tree(kind, tree, KUBE_LENIENT, &again, &diag) == 0 && kube_default(again) == 0);
    ASSERT(!valid || kube_object_equal(object, again));
    kube_validate(again, object, &diag);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * MIB);
    struct slice rest = slice_make(data, size), schema_text = slice_cut(&rest, '\0'), object_text = slice_cut(&rest, '\0');
    struct tree *schema = arena ? parse(arena, schema_text) : NULL, *given = schema ? parse(arena, object_text) : NULL;
    struct kube_custom_set *set = NULL;
    struct diag diag = DIAG_INIT;
    if (!given)
        return 0;
    struct tree *definition = define(arena, schema, slice_cut(&rest, '\0'));
    bool valid = is_valid(definition);
    if (kube_custom_compile(definition, &set, &diag) != 0)
        return 0;
    ASSERT(kube_custom_install(set) == 0);
    check_object(arena, given, valid);
    kube_custom_remove(SLICE("example.com"), SLICE("widgets"));
    return 0;
}
