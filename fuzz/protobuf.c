/* Protobuf bodies: what decodes must also be JSON that can be read, and encode to protobuf that decodes; unions with several members or none, and
 * fields in odd order, may lose something on the first way, and nothing from then on. */
#include "kube/kube.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Free-form values may nest to the parser's limit, and stand deeper in the object than they stood alone. */
static bool nests_deeply(const uint8_t *data, size_t size) {
    size_t open = 0;
    for (size_t i = 0; i < size; i++)
        open += data[i] == '{' || data[i] == '[';
    return open > 400;
}

/* The first encoding may differ from what came in (fields in another order, twice, or left out); from then on nothing changes. */
static void check_wire(const struct kube_object *object) {
    CLEANUP(kube_object_unrefp) struct kube_object *again = NULL;
    CLEANUP(buffer_deinit) struct buffer first = BUFFER_INIT(64 * MIB), second = BUFFER_INIT(64 * MIB);
    struct diag diag = DIAG_INIT;
    ASSERT(kube_encode_protobuf(object, &first) == 0);
    ASSERT(kube_decode_protobuf(NULL, buffer_slice(&first), &again, &diag) == 0);
    ASSERT(kube_encode_protobuf(again, &second) == 0);
    ASSERT(slice_equal(buffer_slice(&first), buffer_slice(&second)));
}

static struct kube_object *through_json(const struct kube_object *object, struct buffer *json) {
    struct kube_object *again = NULL;
    struct diag diag = DIAG_INIT;
    ASSERT(kube_encode_json(object, json) == 0);
    ASSERT(kube_decode_json(NULL, buffer_slice(json), KUBE_STRICT, &again, &diag) == 0);
    return again;
}

static void check_json(const struct kube_object *object) {
    CLEANUP(buffer_deinit) struct buffer first = BUFFER_INIT(64 * MIB), second = BUFFER_INIT(64 * MIB);
    CLEANUP(kube_object_unrefp) struct kube_object *plain = through_json(object, &first);
    CLEANUP(kube_object_unrefp) struct kube_object *again = through_json(plain, &second);
    ASSERT(kube_equal(plain->kind->type, plain->data, again->data));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * MIB);
    struct diag diag = DIAG_INIT;
    struct tree *tree = NULL;
    struct slice bytes = slice_make(data, size);
    if (!arena || nests_deeply(data, size))
        return 0;
    kube_protobuf_to_tree(arena, bytes, &tree, &diag);
    if (kube_decode_protobuf(NULL, bytes, &object, &diag) != 0)
        return 0;
    check_wire(object);
    check_json(object);
    return 0;
}
