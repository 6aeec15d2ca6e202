/* Image manifests, indexes, configurations and references: parsed or refused; digests that come out are safe file names. The first byte chooses. */
#include "runtime/runtime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_reference(struct slice text) {
    static const char *const own[] = {"127.0.0.1:5000", NULL};
    struct arena *arena = arena_new(64 * KIB);
    struct image_reference reference;
    if (arena && image_reference_parse(arena, text, own, &reference, NULL) == 0) {
        ASSERT(*reference.repository && *reference.repository != '/' && !strstr(reference.repository, "..") && !strstr(reference.repository, "//"));
        ASSERT(!reference.tag || (!strchr(reference.tag, '/') && *reference.tag != '.'));
        ASSERT(!reference.digest || image_digest_is_valid(slice_of(reference.digest)));
    }
    arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *next = NULL;
    if (size == 0)
        return 0;
    struct slice text = slice_make(data + 1, size - 1);
    struct image *image = image_new();
    if (!image)
        return 0;
    struct diag diag = DIAG_INIT;
    switch (data[0] % 3) {
    case 0: check_reference(text); break;
    case 1:
        if (image_parse_manifest(image, text, &next, &diag) == 0) {
            ASSERT(!next || image_digest_is_valid(slice_of(next)));
            for (size_t i = 0; !next && i < image->layers_count; i++)
                ASSERT(image_digest_is_valid(slice_of(image->layers[i].digest)));
        }
        break;
    default:
        if (image_parse_config(image, text, &diag) == 0)
            for (size_t i = 0; i < image->env.count; i++)
                ASSERT(image->env.items[i]);
    }
    image_unref(image);
    return 0;
}
