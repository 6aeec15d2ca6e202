/* Any JSON patch and any merge patch on any document: no crash, the target untouched; and a merge patch of the document itself changes nothing but
 * its nulls. */
#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * MIB);
    struct diag diag = DIAG_INIT;
    struct json_duplicates duplicates = {.count = 0};
    const struct json_options options = {.allow_duplicates = true, .duplicates = &duplicates};
    struct tree *target = NULL, *patch = NULL, *result = NULL;
    struct slice rest = slice_make(data, size), first = slice_cut(&rest, '\0');
    if (!arena || !rest.data || json_parse(arena, first, NULL, &target, &diag) != 0 || json_parse(arena, rest, &options, &patch, &diag) != 0)
        return 0;
    struct tree *untouched = tree_copy(arena, target);
    int error = tree_json_patch(arena, target, patch, &result, &diag);
    ASSERT(error == 0 || error == -EINVAL || error == -ENOENT || error == -ENOMEM);
    struct tree *merged = tree_merge_patch(arena, target, patch), *again = merged ? tree_merge_patch(arena, merged, patch) : NULL;
    ASSERT(!again || tree_equal(merged, again));
    ASSERT(untouched && tree_equal(target, untouched));
    return 0;
}
