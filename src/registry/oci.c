/* Names, digests, references, manifests: strict readers.
 *
 * 1. A digest is accepted in exactly one spelling, so that it is its own file name and equal digests are equal strings.
 * 2. A name that is accepted has no empty, dotted-only or upper-case component: `a/../b` cannot be said (CVE-2024-3727 was a path made of an
 * unchecked digest).
 * 3. A manifest's descriptors are checked one by one before anything is stored; numbers are bounded by OCI_DESCRIPTORS_MAX.
 *
 * Grammar: OCI distribution-spec 1.1 ("Pulling manifests"), image-spec 1.1 (descriptor, manifest, index), distribution/reference for the defaults. */
#include "registry/oci.h"

/* --- digests --- */

static bool is_lower_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool is_lower_alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
}

static bool is_word(char c) {
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z') || c == '_';
}

int oci_digest_parse(struct slice text, struct oci_digest *ret) {
    struct slice prefix = SLICE("sha256:");
    if (!slice_starts(text, prefix))
        return slice_starts(text, SLICE("sha512:")) && text.len == 7 + 128 ? -ENOTSUP : -EINVAL;
    struct slice hex = slice_from(text, prefix.len);
    if (hex.len != 64)
        return -EINVAL;
    for (size_t i = 0; i < hex.len; i++) {
        if (!is_lower_hex(hex.data[i]))
            return -EINVAL;
    }
    memcpy(ret->hex, hex.data, 64);
    ret->hex[64] = 0;
    return 0;
}

const char *oci_digest_format(const struct oci_digest *digest, char text[OCI_DIGEST_TEXT]) {
    memcpy(text, "sha256:", 7);
    memcpy(text + 7, digest->hex, 65);
    return text;
}

bool oci_digest_equal(const struct oci_digest *a, const struct oci_digest *b) {
    return memcmp(a->hex, b->hex, sizeof a->hex) == 0;
}

/* --- names and tags --- */

/* [a-z0-9]+ joined by '.', '_', '__' or any number of '-'. */
static bool component_is_valid(struct slice component) {
    size_t at = 0;
    while (at < component.len) {
        size_t start = at;
        while (at < component.len && is_lower_alnum(component.data[at]))
            at++;
        if (at == start)
            return false;
        if (at == component.len)
            return !slice_is(component, "tags");
        char separator = component.data[at];
        size_t run = 0;
        while (at < component.len && component.data[at] == separator)
            at++, run++;
        bool fits = separator == '-' || (separator == '.' && run == 1) || (separator == '_' && run <= 2);
        if (!fits)
            return false;
    }
    return false;
}

bool oci_name_is_valid(struct slice name) {
    if (name.len == 0 || name.len > OCI_NAME_MAX || name.data[name.len - 1] == '/')
        return false;
    for (struct slice rest = name; rest.data;) {
        if (!component_is_valid(slice_cut(&rest, '/')))
            return false;
    }
    return true;
}

bool oci_tag_is_valid(struct slice tag) {
    if (tag.len == 0 || tag.len > OCI_TAG_MAX || !is_word(tag.data[0]))
        return false;
    for (size_t i = 1; i < tag.len; i++) {
        if (!is_word(tag.data[i]) && tag.data[i] != '.' && tag.data[i] != '-')
            return false;
    }
    return true;
}

/* --- references --- */

static bool registry_is_valid(struct slice host) {
    if (host.len == 0 || host.len > OCI_NAME_MAX)
        return false;
    for (size_t i = 0; i < host.len; i++) {
        char c = host.data[i];
        if (!is_word(c) && c != '.' && c != '-' && c != ':' && c != '[' && c != ']')
            return false;
    }
    return host.data[0] != '.' && host.data[0] != '-' && host.data[0] != ':';
}

/* The part before the first '/' is a registry when it could be no repository of docker.io: it has a dot or a port, or is "localhost". */
static struct slice cut_registry(struct slice *rest) {
    ptrdiff_t slash = slice_index(*rest, '/');
    if (slash < 0)
        return SLICE("docker.io");
    struct slice first = slice_head(*rest, (size_t)slash);
    if (slice_index(first, '.') < 0 && slice_index(first, ':') < 0 && !slice_is(first, "localhost"))
        return SLICE("docker.io");
    *rest = slice_from(*rest, (size_t)slash + 1);
    return slice_is(first, "index.docker.io") ? SLICE("docker.io") : first;
}

static void copy_text(char *to, struct slice from) {
    memcpy(to, from.data, from.len);
    to[from.len] = 0;
}

int oci_reference_parse(struct slice text, struct oci_reference *ret, struct diag *diag) {
    struct oci_reference reference = {.tag = "latest"};
    struct slice rest = text;
    ptrdiff_t at = slice_index(rest, '@');
    if (at >= 0) {
        if (oci_digest_parse(slice_from(rest, (size_t)at + 1), &reference.digest) < 0)
            return diag_set(diag, -EINVAL, "\"%.*s\" has no valid digest behind the @: expected sha256: and 64 hexadecimal digits", SLICE_ARG(text));
        rest = slice_head(rest, (size_t)at);
        reference.tag[0] = 0;
    }
    struct slice registry = cut_registry(&rest);
    if (!registry_is_valid(registry))
        return diag_set(diag, -EINVAL, "\"%.*s\" names no valid registry", SLICE_ARG(text));
    copy_text(reference.registry, registry);
    ptrdiff_t colon = slice_index(rest, ':');
    if (colon >= 0) {
        struct slice tag = slice_from(rest, (size_t)colon + 1);
        if (!oci_tag_is_valid(tag))
            return diag_set(diag, -EINVAL, "\"%.*s\" has no valid tag behind the colon", SLICE_ARG(text));
        copy_text(reference.tag, tag);
        rest = slice_head(rest, (size_t)colon);
    }
    if (!oci_name_is_valid(rest))
        return diag_set(diag, -EINVAL, "\"%.*s\" is no valid image name: expected [registry/]name[:tag], names in lower case", SLICE_ARG(text));
    bool library = slice_is(registry, "docker.io") && slice_index(rest, '/') < 0;
    if (library && rest.len + 8 > OCI_NAME_MAX)
        return diag_set(diag, -EINVAL, "\"%.*s\" is too long for an image name", SLICE_ARG(text));
    copy_text(reference.name, SLICE("library/"));
    copy_text(reference.name + (library ? 8 : 0), rest);
    *ret = reference;
    return 0;
}

int oci_reference_local_name(const struct oci_reference *reference, const char *const *own, char ret[OCI_NAME_MAX + 1]) {
    struct slice name = slice_of(reference->name);
    bool plain = false;
    for (size_t i = 0; own && own[i]; i++)
        plain = plain || slice_is(slice_of(reference->registry), own[i]);
    if (strcmp(reference->registry, "docker.io") == 0) {
        plain = true;
        if (slice_starts(name, SLICE("library/")))
            name = slice_from(name, 8);
    }
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(OCI_NAME_MAX + 1);
    if (!plain) {
        buffer_append_text(&text, reference->registry);
        for (size_t i = 0; i < text.len; i++) {
            char c = text.data[i];
            text.data[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c == ':' ? '_' : c;
        }
        buffer_append_byte(&text, '/');
    }
    buffer_append_slice(&text, name);
    if (buffer_error(&text) || !oci_name_is_valid(buffer_slice(&text)))
        return -EINVAL;
    copy_text(ret, buffer_slice(&text));
    return 0;
}

/* --- manifests --- */

static bool media_type_is_index(const char *type) {
    return strcmp(type, OCI_TYPE_INDEX) == 0 || strcmp(type, OCI_TYPE_DOCKER_LIST) == 0;
}

static bool media_type_is_known(const char *type) {
    return media_type_is_index(type) || strcmp(type, OCI_TYPE_MANIFEST) == 0 || strcmp(type, OCI_TYPE_DOCKER_MANIFEST) == 0;
}

static int parse_descriptor(const struct tree *node, const char *where, size_t index, struct oci_descriptor *ret, struct diag *diag) {
    if (!node || node->type != TREE_MAP)
        return diag_set(diag, -EINVAL, "%s[%zu]: expected a descriptor, found %s", where, index, node ? tree_type_name(node) : "nothing");
    struct tree *size = tree_find(node, "size");
    struct tree *platform = tree_find(node, "platform");
    *ret = (struct oci_descriptor){
        .media_type = tree_text_or(tree_find(node, "mediaType"), ""),
        .size_bytes = tree_int_or(size, -1),
        .foreign = tree_count(tree_find(node, "urls")) > 0,
        .architecture = tree_text_or(tree_find(platform, "architecture"), ""),
        .os = tree_text_or(tree_find(platform, "os"), ""),
        .variant = tree_text_or(tree_find(platform, "variant"), ""),
    };
    if (oci_digest_parse(slice_of(tree_text_or(tree_find(node, "digest"), "")), &ret->digest) < 0)
        return diag_set(diag, -EINVAL, "%s[%zu].digest: expected sha256: and 64 hexadecimal digits", where, index);
    if (ret->size_bytes < 0)
        return diag_set(diag, -EINVAL, "%s[%zu].size: expected a number of bytes", where, index);
    return 0;
}

static int parse_list(struct arena *arena, const struct tree *list, const char *where, struct oci_manifest *manifest, struct diag *diag) {
    if (!list || list->type == TREE_NULL)
        return 0;
    if (list->type != TREE_LIST)
        return diag_set(diag, -EINVAL, "%s: expected an array, found %s", where, tree_type_name(list));
    manifest->count = tree_count(list);
    if (manifest->count > OCI_DESCRIPTORS_MAX)
        return diag_set(diag, -EINVAL, "%s: %zu entries; at most %d are accepted", where, manifest->count, OCI_DESCRIPTORS_MAX);
    manifest->items = ARENA_ARRAY(arena, struct oci_descriptor, manifest->count + 1);
    if (!manifest->items)
        return diag_set(diag, -ENOMEM, "%s: out of memory", where);
    for (size_t i = 0; i < manifest->count; i++) {
        int r = parse_descriptor(tree_at(list, i), where, i, &manifest->items[i], diag);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The media type is the sender's word; the document's own, when it has one, must agree with it. */
static int settle_media_type(struct arena *arena, const struct tree *root, struct slice content_type, struct oci_manifest *manifest,
                             struct diag *diag) {
    struct slice rest = content_type;
    struct slice declared = slice_trim(slice_cut(&rest, ';'));
    const char *inside = tree_text_or(tree_find(root, "mediaType"), "");
    if (declared.len == 0 && *inside)
        declared = slice_of(inside);
    if (declared.len == 0)
        declared = tree_find(root, "manifests") ? SLICE(OCI_TYPE_INDEX) : SLICE(OCI_TYPE_MANIFEST);
    manifest->media_type = arena_dup(arena, declared);
    if (!manifest->media_type)
        return diag_set(diag, -ENOMEM, "out of memory");
    if (*inside && strcmp(inside, manifest->media_type) != 0)
        return diag_set(diag, -EINVAL, "the manifest says it is %s, its Content-Type says %s", inside, manifest->media_type);
    if (!media_type_is_known(manifest->media_type))
        return diag_set(diag, -EINVAL, "unknown manifest type %s", manifest->media_type);
    manifest->is_index = media_type_is_index(manifest->media_type);
    return 0;
}

static int parse_body(struct arena *arena, const struct tree *root, struct oci_manifest *manifest, struct diag *diag) {
    if (tree_int_or(tree_find(root, "schemaVersion"), 0) != 2)
        return diag_set(diag, -EINVAL, "schemaVersion: expected 2");
    int r = manifest->is_index ? parse_list(arena, tree_find(root, "manifests"), "manifests", manifest, diag)
                               : parse_list(arena, tree_find(root, "layers"), "layers", manifest, diag);
    if (r < 0)
        return r;
    struct tree *config = tree_find(root, "config");
    struct tree *subject = tree_find(root, "subject");
    if (!manifest->is_index) {
        r = parse_descriptor(config, "config", 0, &manifest->config, diag);
        if (r < 0)
            return r;
        manifest->has_config = true;
    }
    if (subject && subject->type != TREE_NULL) {
        r = parse_descriptor(subject, "subject", 0, &manifest->subject, diag);
        if (r < 0)
            return r;
        manifest->has_subject = true;
    }
    manifest->artifact_type = tree_text_or(tree_find(root, "artifactType"), "");
    if (!*manifest->artifact_type && manifest->has_config)
        manifest->artifact_type = manifest->config.media_type;
    struct tree *annotations = tree_find(root, "annotations");
    manifest->annotations = annotations && annotations->type == TREE_MAP ? annotations : NULL;
    return 0;
}

int oci_manifest_parse(struct arena *arena, struct slice bytes, struct slice content_type, struct oci_manifest *ret, struct diag *diag) {
    struct oci_manifest manifest = {.artifact_type = ""};
    struct tree *root = NULL;
    if (bytes.len > OCI_MANIFEST_BYTES_MAX)
        return diag_set(diag, -EINVAL, "the manifest has %zu bytes; at most %zu are accepted", bytes.len, OCI_MANIFEST_BYTES_MAX);
    int r = json_parse(arena, bytes, &(struct json_options){.allow_duplicates = false}, &root, diag);
    if (r < 0)
        return r;
    if (root->type != TREE_MAP)
        return diag_set(diag, -EINVAL, "expected a JSON object, found %s", tree_type_name(root));
    r = settle_media_type(arena, root, content_type, &manifest, diag);
    if (r == 0)
        r = parse_body(arena, root, &manifest, diag);
    if (r < 0)
        return r;
    *ret = manifest;
    return 0;
}
