#include "registry/oci.h"

#include "unit.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

UNIT_TEST(digests_have_one_spelling) {
    struct oci_digest digest;
    char text[OCI_DIGEST_TEXT];
    assert_int_equal(oci_digest_parse(SLICE("sha256:" HEX), &digest), 0);
    assert_string_equal(oci_digest_format(&digest, text), "sha256:" HEX);
    static const char *const bad[] = {"",
                                      "sha256:",
                                      HEX,
                                      "sha256:" HEX "0",
                                      "sha256:../../../../etc/passwd",
                                      "SHA256:" HEX,
                                      "sha256:"
                                      "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
                                      "md5:" HEX,
                                      " sha256:" HEX};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(oci_digest_parse(slice_of(bad[i]), &digest), -EINVAL);
    assert_int_equal(oci_digest_parse(SLICE("sha512:" HEX HEX), &digest), -ENOTSUP);
}

UNIT_TEST(names_cannot_climb) {
    static const char *const good[] = {"a", "a/b", "debian", "org/app-1", "a.b/c__d", "a--b", "10.0.0.1_5000/x"};
    static const char *const bad[] = {"",   "/",     "a/",   "/a", "a//b",   "..",     "a/../b", "a/./b",       "A",
                                      "a_", "a___b", "a..b", "-a", "a/tags", "tags/a", "a b",    "a/_manifests"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(oci_name_is_valid(slice_of(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(oci_name_is_valid(slice_of(bad[i])));
    char many[OCI_NAME_MAX + 2];
    memset(many, 'a', sizeof many);
    assert_true(oci_name_is_valid(slice_make(many, OCI_NAME_MAX)));
    assert_false(oci_name_is_valid(slice_make(many, OCI_NAME_MAX + 1)));
    assert_true(oci_tag_is_valid(SLICE("v1.0-rc_2")));
    assert_true(oci_tag_is_valid(SLICE("_x")));
    assert_false(oci_tag_is_valid(SLICE(".hidden")));
    assert_false(oci_tag_is_valid(SLICE("..")));
    assert_false(oci_tag_is_valid(SLICE("-x")));
    assert_false(oci_tag_is_valid(SLICE("a/b")));
    assert_false(oci_tag_is_valid(SLICE("")));
    assert_false(oci_tag_is_valid(slice_make(many, OCI_TAG_MAX + 1)));
}

UNIT_TEST(references_have_dockers_defaults) {
    static const char *const own[] = {"127.0.0.1:5000", "10.1.0.1:5000", NULL};
    static const struct {
        const char *text, *registry, *name, *tag, *local;
    } cases[] = {
        {"debian", "docker.io", "library/debian", "latest", "debian"},
        {"debian:12", "docker.io", "library/debian", "12", "debian"},
        {"org/app:v1", "docker.io", "org/app", "v1", "org/app"},
        {"127.0.0.1:5000/hello:abc", "127.0.0.1:5000", "hello", "abc", "hello"},
        {"ghcr.io/org/app@sha256:" HEX, "ghcr.io", "org/app", "", "ghcr.io/org/app"},
        {"quay.io:8443/a/b:1", "quay.io:8443", "a/b", "1", "quay.io_8443/a/b"},
        {"localhost/x", "localhost", "x", "latest", "localhost/x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct oci_reference reference;
        char local[OCI_NAME_MAX + 1];
        assert_int_equal(oci_reference_parse(slice_of(cases[i].text), &reference, NULL), 0);
        assert_string_equal(reference.registry, cases[i].registry);
        assert_string_equal(reference.name, cases[i].name);
        assert_string_equal(reference.tag, cases[i].tag);
        assert_int_equal(oci_reference_local_name(&reference, own, local), 0);
        assert_string_equal(local, cases[i].local);
    }
    struct oci_reference reference;
    struct diag diag = DIAG_INIT;
    assert_int_equal(oci_reference_parse(SLICE("Debian:12"), &reference, &diag), -EINVAL);
    assert_non_null(strstr(diag.message, "lower case"));
    assert_int_equal(oci_reference_parse(SLICE("debian:"), &reference, NULL), -EINVAL);
    assert_int_equal(oci_reference_parse(SLICE("debian@sha256:12"), &reference, NULL), -EINVAL);
    assert_int_equal(oci_reference_parse(SLICE(""), &reference, NULL), -EINVAL);
    assert_int_equal(oci_reference_parse(SLICE("../etc:1"), &reference, NULL), -EINVAL);
}

static int parse(const char *text, const char *type, struct oci_manifest *manifest, struct diag *diag) {
    static struct arena *arena;
    arena_free(arena);
    arena = text ? arena_new(TREE_BYTES_MAX) : NULL;
    return text ? oci_manifest_parse(arena, slice_of(text), slice_of(type), manifest, diag) : 0;
}

UNIT_TEST(manifests_are_checked_whole) {
    struct oci_manifest manifest;
    struct diag diag = DIAG_INIT;
    const char *good =
        "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":{\"mediaType\":\"x/y\",\"digest\":\"sha256:" HEX "\",\"size\":2},"
        "\"layers\":[{\"mediaType\":\"a\",\"digest\":\"sha256:" HEX "\",\"size\":3,\"urls\":[\"http://x\"]}],"
        "\"subject\":{\"mediaType\":\"a\",\"digest\":\"sha256:" HEX "\",\"size\":1},\"annotations\":{\"k\":\"v\"}}";
    assert_int_equal(parse(good, OCI_TYPE_MANIFEST "; charset=utf-8", &manifest, &diag), 0);
    assert_int_equal(manifest.count, 1);
    assert_true(manifest.items[0].foreign && manifest.has_subject && manifest.has_config && !manifest.is_index);
    assert_string_equal(manifest.artifact_type, "x/y");
    assert_int_equal(parse(good, OCI_TYPE_INDEX, &manifest, &diag), -EINVAL);
    assert_non_null(strstr(diag.message, "Content-Type"));
    assert_int_equal(parse("[]", "", &manifest, NULL), -EINVAL);
    assert_int_equal(parse("{\"schemaVersion\":1}", "", &manifest, NULL), -EINVAL);
    assert_int_equal(parse("{\"schemaVersion\":2,\"layers\":[]}", OCI_TYPE_MANIFEST, &manifest, NULL), -EINVAL);
    assert_int_equal(parse("{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:../x\",\"size\":1}]}", "", &manifest, &diag), -EINVAL);
    assert_non_null(strstr(diag.message, "manifests[0].digest"));
    assert_int_equal(parse("{\"schemaVersion\":2,\"manifests\":[]}", "", &manifest, NULL), 0);
    assert_true(manifest.is_index);
    assert_int_equal(parse("{\"schemaVersion\":2,\"mediaType\":\"text/html\"}", "", &manifest, NULL), -EINVAL);
    parse(NULL, NULL, NULL, NULL);
}

UNIT_MAIN(UNIT(digests_have_one_spelling), UNIT(names_cannot_climb), UNIT(references_have_dockers_defaults), UNIT(manifests_are_checked_whole))
