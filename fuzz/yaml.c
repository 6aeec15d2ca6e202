/* YAML in, JSON out: what was read must be written and, JSON being YAML, read back equal. */
#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_odd_text(const struct tree *node) {
    if (node->type == TREE_FLOAT)
        return true;
    if (node->type == TREE_STRING)
        for (size_t i = 0; i < node->string.len; i++)
            if ((unsigned char)node->string.data[i] < 0x20 || (unsigned char)node->string.data[i] >= 0x7f)
                return true;
    for (size_t i = 0; i < tree_count(node); i++) {
        struct tree key = {.type = TREE_STRING, .string = node->children->items[i].key};
        if (has_odd_text(node->children->items[i].value) || (node->type == TREE_MAP && has_odd_text(&key)))
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(32 * MIB);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(32 * MIB);
    struct diag diag = DIAG_INIT;
    struct tree **documents, *again;
    size_t count;
    if (!arena || size > 20000 || yaml_parse(arena, slice_make(data, size), &documents, &count, &diag) < 0)
        return 0;
    for (size_t i = 0; i < count; i++) {
        buffer_reset(&out);
        ASSERT(json_format_pretty(&out, documents[i]) == 0);
        if (has_odd_text(documents[i]))
            continue;
        ASSERT(yaml_parse_one(arena, buffer_slice(&out), &again, &diag) == 0);
        ASSERT(tree_equal(documents[i], again));
    }
    return 0;
}
