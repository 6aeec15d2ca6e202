/* Server-side apply's merge on any object and any configuration of a pod: no crash; the inputs stay as they are; applying the result again changes
 * nothing; what the configuration names is what pruning it takes away; and sets of paths survive their text. */
#include "kube/kube.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tree *parse(struct arena *arena, struct slice text) {
    const struct json_options options = {.allow_duplicates = true};
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    return json_parse(arena, text, &options, &tree, &diag) == 0 && tree->type == TREE_MAP ? tree : NULL;
}

static void round_trip(struct arena *arena, const struct kube_fieldset *set) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * MIB), again = BUFFER_INIT(16 * MIB);
    struct kube_fieldset read;
    if (kube_fieldset_format(set, &text) || kube_fieldset_parse(arena, buffer_slice(&text), &read))
        return; /* too large, or names that are no text */
    ASSERT(kube_fieldset_format(&read, &again) == 0);
    ASSERT(slice_equal(buffer_slice(&text), buffer_slice(&again)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * MIB);
    struct slice rest = slice_make(data, size), first = slice_cut(&rest, '\0');
    struct tree *object = arena && rest.data ? parse(arena, first) : NULL, *config = object ? parse(arena, rest) : NULL;
    if (!config)
        return 0;
    struct kube_shape_node shape;
    kube_shape_of(&kube_kind_pod, &shape);
    struct diag diag = DIAG_INIT;
    struct tree *copies[] = {tree_copy(arena, object), tree_copy(arena, config)};
    struct kube_fieldset named = {.count = 0}, changed = {.count = 0}, removed = {.count = 0}, nothing = {.count = 0};
    bool sound = kube_owned_check(arena, &shape, config, &diag) == 0;
    struct tree *merged = kube_owned_merge(arena, &shape, object, config), *again = merged ? kube_owned_merge(arena, &shape, merged, config) : NULL;
    if (!again || kube_owned_paths(arena, &shape, config, &named))
        return 0;
    ASSERT(!sound || tree_equal(merged, again));
    ASSERT(kube_owned_changes(arena, &shape, object, merged, &changed, &removed) <= 0);
    ASSERT(kube_owned_prune(arena, &shape, merged, &named, &nothing) || arena_used(arena) > 32 * MIB);
    ASSERT(tree_equal(object, copies[0]) && tree_equal(config, copies[1]));
    round_trip(arena, &named);
    round_trip(arena, &changed);
    return 0;
}
