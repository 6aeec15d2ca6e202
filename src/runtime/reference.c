/* Image references as people write them, brought to the names of the content store.
 *
 * Grammar: [host[:port]/]path[:tag][@sha256:hex] (distribution spec). The first component is a host when it holds '.' or ':' or is "localhost". Hosts
 * of our own registry and docker.io fall away, and so does docker.io's "library/", because a store has one name for each image; other hosts stay part
 * of the path. Every component is checked before it can become part of a file name: [a-z0-9]+ joined by one of . _ - (or __), so "..", "/" and NUL
 * cannot get through. */
#include "runtime/image.h"

#define REPOSITORY_BYTES_MAX 255
#define TAG_BYTES_MAX 128

static bool is_alphanumeric(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool image_digest_is_valid(struct slice digest) {
    if (!slice_starts(digest, SLICE("sha256:")) || digest.len != 71)
        return false;
    for (size_t i = 7; i < digest.len; i++)
        if (!((digest.data[i] >= '0' && digest.data[i] <= '9') || (digest.data[i] >= 'a' && digest.data[i] <= 'f')))
            return false;
    return true;
}

static bool component_is_valid(struct slice component) {
    if (component.len == 0 || !is_alphanumeric(component.data[0]) || !is_alphanumeric(component.data[component.len - 1]))
        return false;
    for (size_t i = 0; i < component.len; i++) {
        char c = component.data[i];
        if (!is_alphanumeric(c) && c != '.' && c != '_' && c != '-')
            return false;
        if (c == '.' && component.data[i + 1] == '.')
            return false;
    }
    return true;
}

static bool host_is_valid(struct slice host) {
    for (size_t i = 0; i < host.len; i++) {
        char c = host.data[i];
        if (!is_alphanumeric(c) && !(c >= 'A' && c <= 'Z') && c != '.' && c != '-' && c != ':')
            return false;
    }
    return host.len > 0 && host.data[0] != '.' && slice_find(host, SLICE("..")) < 0;
}

static bool tag_is_valid(struct slice tag) {
    if (tag.len == 0 || tag.len > TAG_BYTES_MAX || tag.data[0] == '.' || tag.data[0] == '-')
        return false;
    for (size_t i = 0; i < tag.len; i++) {
        char c = tag.data[i];
        if (!is_alphanumeric(c) && !(c >= 'A' && c <= 'Z') && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

static bool is_own_host(struct slice host, const char *const *own_hosts) {
    for (size_t i = 0; own_hosts && own_hosts[i]; i++)
        if (slice_is(host, own_hosts[i]))
            return true;
    return false;
}

/* Cuts the host off *path; returns true when it was one, with *ret_keep telling whether it stays part of the repository's name. */
static bool cut_host(struct slice *path, const char *const *own_hosts, struct slice *ret_host, bool *ret_keep) {
    ptrdiff_t slash = slice_index(*path, '/');
    if (slash < 0)
        return false;
    struct slice host = slice_head(*path, (size_t)slash);
    bool own = is_own_host(host, own_hosts);
    if (!own && slice_index(host, '.') < 0 && slice_index(host, ':') < 0 && !slice_is(host, "localhost"))
        return false;
    bool docker = slice_is(host, "docker.io") || slice_is(host, "index.docker.io");
    *path = slice_from(*path, (size_t)slash + 1);
    if (docker && slice_starts(*path, SLICE("library/")))
        *path = slice_from(*path, 8);
    *ret_host = host;
    *ret_keep = !own && !docker;
    return true;
}

static int invalid(struct diag *diag, struct slice text) {
    return diag_set(diag, -EINVAL, "couldn't parse image name \"%.*s\": invalid reference format", SLICE_ARG(slice_head(text, 300)));
}

int image_reference_parse(struct arena *arena, struct slice text, const char *const *own_hosts, struct image_reference *ret, struct diag *diag) {
    struct image_reference reference = {0};
    struct slice rest = text, host = {0}, digest = {0}, tag = {0};
    bool keep_host = false;
    ptrdiff_t at = slice_index(rest, '@');
    if (at >= 0) {
        digest = slice_from(rest, (size_t)at + 1);
        rest = slice_head(rest, (size_t)at);
        if (!image_digest_is_valid(digest))
            return invalid(diag, text);
    }
    bool has_host = cut_host(&rest, own_hosts, &host, &keep_host);
    ptrdiff_t colon = slice_index(rest, ':');
    if (colon >= 0) {
        tag = slice_from(rest, (size_t)colon + 1);
        rest = slice_head(rest, (size_t)colon);
        if (!tag_is_valid(tag))
            return invalid(diag, text);
    }
    if (!has_host && slice_starts(rest, SLICE("library/")))
        rest = slice_from(rest, 8);
    if (rest.len == 0 || rest.len + host.len > REPOSITORY_BYTES_MAX || (keep_host && !host_is_valid(host)))
        return invalid(diag, text);
    for (struct slice parts = rest; parts.data;)
        if (!component_is_valid(slice_cut(&parts, '/')))
            return invalid(diag, text);
    char *repository = keep_host ? arena_printf(arena, "%.*s/%.*s", SLICE_ARG(host), SLICE_ARG(rest)) : arena_dup(arena, rest);
    for (size_t i = 0; repository && keep_host && i < host.len; i++) /* as the registry names what it fetched from there */
        repository[i] = repository[i] == ':' ? '_' : repository[i] >= 'A' && repository[i] <= 'Z' ? (char)(repository[i] + 32) : repository[i];
    reference.repository = repository;
    reference.digest = digest.len ? arena_dup(arena, digest) : NULL;
    if (tag.len || !digest.len)
        reference.tag = tag.len ? arena_dup(arena, tag) : "latest";
    if (!reference.repository || (digest.len && !reference.digest) || (tag.len && !reference.tag))
        return -ENOMEM;
    *ret = reference;
    return 0;
}
