/* Everything of an image that comes from outside and may become a path: names, tags, digests, references, manifests. The first byte chooses. */
#include "registry/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted must be harmless as a path. */
static void check_name(struct slice name) {
    ASSERT(name.len <= OCI_NAME_MAX && slice_find(name, SLICE("..")) < 0 && name.data[0] != '/' && slice_find(name, SLICE("//")) < 0);
    for (size_t i = 0; i < name.len; i++)
        ASSERT(name.data[i] > ' ' && name.data[i] < 127);
}

static void check_reference(struct slice text) {
    struct oci_reference reference;
    char local[OCI_NAME_MAX + 1];
    struct diag diag = DIAG_INIT;
    if (oci_reference_parse(text, &reference, &diag) < 0) {
        ASSERT(diag.message[0]);
        return;
    }
    check_name(slice_of(reference.name));
    ASSERT(reference.tag[0] || reference.digest.hex[0]);
    ASSERT(!reference.tag[0] || oci_tag_is_valid(slice_of(reference.tag)));
    if (oci_reference_local_name(&reference, NULL, local) == 0)
        check_name(slice_of(local));
}

static void check_manifest(struct slice text) {
    struct arena *arena = arena_new(16 * MIB);
    struct oci_manifest manifest;
    struct diag diag = DIAG_INIT;
    if (arena && oci_manifest_parse(arena, text, (struct slice){0}, &manifest, &diag) == 0) {
        ASSERT(manifest.count <= OCI_DESCRIPTORS_MAX && manifest.media_type && manifest.artifact_type);
        for (size_t i = 0; i < manifest.count; i++)
            ASSERT(strlen(manifest.items[i].digest.hex) == 64 && manifest.items[i].size_bytes >= 0);
    }
    arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    struct slice text = slice_make(data + 1, size - 1);
    struct oci_digest digest;
    if (data[0] % 4 == 0 && oci_name_is_valid(text))
        check_name(text);
    else if (data[0] % 4 == 1)
        check_reference(text);
    else if (data[0] % 4 == 2)
        check_manifest(text);
    else if (oci_digest_parse(text, &digest) == 0)
        ASSERT(strspn(digest.hex, "0123456789abcdef") == 64);
    return 0;
}
