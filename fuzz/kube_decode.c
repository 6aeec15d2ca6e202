/* JSON of any served kind (the first byte chooses when the document does not say): what was decoded must be encoded and decoded again to an equal
 * object; defaults, validation and the table must not crash on it. */
#include "kube/kube.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct kube_kind *choose(uint8_t byte) {
    return byte == '{' ? NULL : kube_kind_at(byte % kube_kinds_count());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
    CLEANUP(kube_object_unrefp) struct kube_object *again = NULL;
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(64 * MIB);
    struct diag diag = DIAG_INIT;
    const struct kube_kind *kind = choose(data[0]);
    struct slice text = slice_from(slice_make(data, size), kind ? 1 : 0);
    if (kube_decode_json(kind, text, KUBE_WARN, &object, &diag) != 0)
        return 0;
    ASSERT(kube_encode_json(object, &json) == 0);
    ASSERT(kube_decode_json(NULL, buffer_slice(&json), KUBE_STRICT, &again, &diag) == 0);
    ASSERT(kube_equal(object->kind->type, object->data, again->data));
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * MIB);
    ASSERT(arena && kube_default(object) == 0);
    kube_validate(object, again, &diag);
    ASSERT(kube_table_row(object, arena, INT64_C(1700000000000000000)));
    ASSERT(kube_encode_tree(object, arena));
    return 0;
}
