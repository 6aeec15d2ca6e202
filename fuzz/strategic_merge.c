/* Any patch on any document of a pod: no crash, the target untouched; and an empty patch changes nothing. */
#include "kube/kube.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * MIB);
    struct diag diag = DIAG_INIT;
    const struct json_options options = {.allow_duplicates = true};
    struct tree *target = NULL, *patch = NULL, *result = NULL;
    struct slice rest = slice_make(data, size), first = slice_cut(&rest, '\0');
    if (!arena || !rest.data || json_parse(arena, first, &options, &target, &diag) != 0 || json_parse(arena, rest, &options, &patch, &diag) != 0)
        return 0;
    struct tree *untouched = tree_copy(arena, target);
    kube_strategic_merge(&kube_kind_pod, arena, target, patch, &result, &diag);
    ASSERT(untouched && tree_equal(target, untouched));
    if (target->type == TREE_MAP && kube_strategic_merge(&kube_kind_pod, arena, target, tree_map(arena), &result, &diag) == 0)
        ASSERT(tree_equal(target, result));
    return 0;
}
