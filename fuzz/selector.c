/* Selectors over labels and over fields of pods, as text: no crash, and what was parsed answers for an object. */
#include "kube/kube.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct kube_string_pair labels[] = {{"a", "1"}, {"app", "web"}, {"example.com/x", ""}};
    static const struct kube_string_map map = {.items = labels, .count = ARRAY_LEN(labels)};
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * MIB);
    CLEANUP(kube_object_unrefp) struct kube_object *pod = kube_object_new(&kube_kind_pod);
    struct kube_selector *selector;
    struct diag diag = DIAG_INIT;
    struct slice text = slice_make(data, size);
    if (!arena || !pod)
        return 0;
    if (kube_selector_parse(arena, text, &selector, &diag) == 0)
        kube_selector_match(selector, &map);
    if (kube_field_selector_parse(&kube_kind_pod, arena, text, &selector, &diag) == 0)
        kube_field_selector_match(selector, pod);
    return 0;
}
