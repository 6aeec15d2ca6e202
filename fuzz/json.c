/* JSON in, JSON out: what was read must be written and read back equal. The patches must not crash on any pair of documents. */
#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * MIB);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(16 * MIB);
    struct diag diag = DIAG_INIT;
    struct tree *tree, *again, *patched;
    struct slice rest = slice_make(data, size), first = slice_cut(&rest, '\0');
    if (!arena || json_parse(arena, first, NULL, &tree, &diag) < 0)
        return 0;
    ASSERT(json_format(&out, tree) == 0);
    ASSERT(json_parse(arena, buffer_slice(&out), NULL, &again, &diag) == 0);
    ASSERT(tree_equal(tree, again));
    struct tree *patch;
    if (rest.data && json_parse(arena, rest, &(struct json_options){.allow_duplicates = true}, &patch, &diag) == 0) {
        tree_merge_patch(arena, tree, patch);
        tree_json_patch(arena, tree, patch, &patched, &diag);
    }
    return 0;
}
