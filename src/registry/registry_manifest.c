/* Manifests, tags and referrers over HTTP (end-3, end-7 … end-9, end-12, the catalogue).
 *
 * A manifest is accepted only when everything it names is here and belongs to this repository, so that a tag can always be pulled whole. Exceptions:
 * layers with urls, and the manifests of an index (a mirror may hold one platform of many). The subject need not exist: a signature may arrive before
 * what it signs. */
#include <stdio.h>

#include "registry/registry_priv.h"

#define PAGE_MAX 10000

/* --- answers --- */

static void respond_tree(struct registry_request *request, const char *content_type, const struct tree *root, const struct http_field *fields) {
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(TREE_BYTES_MAX);
    if (!root || json_format(&body, root) < 0)
        return registry_error(request->exchange, 503, "UNKNOWN", "the answer is too large");
    http_respond(request->exchange, 200, content_type, buffer_slice(&body), fields);
}

/* --- reading --- */

/* The digest that the path's last component means, and the manifest's media type. Otherwise answers and returns false. */
static bool find_manifest(struct registry_request *request, struct oci_digest *ret, struct buffer *media_type) {
    struct content *content = request->registry->content;
    struct slice reference = slice_of(request->rest);
    int r = 0;
    if (slice_index(reference, ':') >= 0) {
        if (oci_digest_parse(reference, ret) < 0) {
            registry_error(request->exchange, 400, "DIGEST_INVALID", "expected sha256: and 64 hexadecimal digits");
            return false;
        }
    } else {
        r = oci_tag_is_valid(reference) ? content_get_tag(content, request->name, request->rest, ret) : -ENOENT;
    }
    if (r == 0)
        r = content_find_link(content, request->name, CONTENT_LINK_MANIFEST, ret, media_type);
    if (r < 0)
        registry_error(request->exchange, 404, "MANIFEST_UNKNOWN", "there is no image %s%s%s", request->name,
                       slice_index(reference, ':') >= 0 ? "@" : ":", request->rest);
    return r == 0;
}

void registry_on_manifest_get(struct registry_request *request) {
    CLEANUP(buffer_deinit) struct buffer media_type = BUFFER_INIT(KIB);
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX + 1);
    struct oci_digest digest;
    char digest_text[OCI_DIGEST_TEXT];
    if (!find_manifest(request, &digest, &media_type))
        return;
    if (registry_hides_manifest(request, &digest))
        return registry_error(request->exchange, 401, "UNAUTHORIZED", "authentication required");
    if (registry_not_modified(request, &digest))
        return;
    int r = content_read_blob(request->registry->content, &digest, OCI_MANIFEST_BYTES_MAX, &body);
    if (r == -ENOENT)
        return registry_error(request->exchange, 404, "MANIFEST_UNKNOWN", "the manifest sha256:%s is missing from the store", digest.hex);
    if (r < 0)
        return registry_storage_error(request->exchange, r);
    const struct http_field fields[] = {{"Docker-Content-Digest", oci_digest_format(&digest, digest_text)},
                                        {"ETag", registry_etag(http_exchange_arena(request->exchange), &digest)},
                                        {NULL, NULL}};
    http_respond(request->exchange, 200, media_type.data, buffer_slice(&body), fields);
}

/* --- writing --- */

struct storing {
    struct registry_operation operation;
    struct arena *arena; /* body and manifest */
    struct slice body;
    struct oci_manifest manifest;
    struct oci_digest digest;
    char name[OCI_NAME_MAX + 1];
    char tag[OCI_TAG_MAX + 1];
};

static void storing_run(struct registry_operation *operation) {
    struct storing *storing = CONTAINER_OF(operation, struct storing, operation);
    operation->error =
        content_put_manifest(operation->registry->content, storing->name, storing->tag, storing->body, &storing->manifest, &storing->digest);
    if (operation->error == 0) /* who pushes it has all of it */
        pulled_forget(operation->registry->content, storing->name, &storing->digest);
}

static void storing_finish(struct registry_operation *operation) {
    struct storing *storing = CONTAINER_OF(operation, struct storing, operation);
    const struct registry_options *options = &operation->registry->options;
    if (operation->error == 0 && storing->tag[0] && options->on_tag)
        options->on_tag(options->userdata, storing->name, storing->tag, &storing->digest);
    if (!operation->exchange)
        return;
    if (operation->error < 0)
        return registry_storage_error(operation->exchange, operation->error);
    char digest_text[OCI_DIGEST_TEXT], subject_text[OCI_DIGEST_TEXT];
    const char *location = arena_printf(storing->arena, "/v2/%s/manifests/sha256:%s", storing->name, storing->digest.hex);
    const struct http_field fields[] = {
        {"Location", location ? location : ""},
        {"Docker-Content-Digest", oci_digest_format(&storing->digest, digest_text)},
        {storing->manifest.has_subject ? "OCI-Subject" : NULL, oci_digest_format(&storing->manifest.subject.digest, subject_text)},
        {NULL, NULL},
    };
    http_respond(operation->exchange, 201, NULL, (struct slice){0}, fields);
}

static void storing_release(struct registry_operation *operation) {
    struct storing *storing = CONTAINER_OF(operation, struct storing, operation);
    arena_free(storing->arena);
    free(storing);
}

static bool has_blob(struct registry_request *request, const struct oci_descriptor *descriptor) {
    struct content *content = request->registry->content;
    bool is_here = content_touch_blob(content, &descriptor->digest) == 0;
    if (is_here ? registry_shows_blob(request, request->name, &descriptor->digest) : descriptor->foreign)
        return true;
    registry_error(request->exchange, 404, "MANIFEST_BLOB_UNKNOWN", "the manifest names sha256:%s, which %s does not have", descriptor->digest.hex,
                   request->name);
    return false;
}

static bool has_everything(struct registry_request *request, const struct oci_manifest *manifest) {
    if (manifest->has_config && !has_blob(request, &manifest->config))
        return false;
    for (size_t i = 0; !manifest->is_index && i < manifest->count; i++) {
        if (!has_blob(request, &manifest->items[i]))
            return false;
    }
    return true;
}

/* The tag to set, or that the digest in the path is the body's. Otherwise answers and returns false. */
static bool check_target(struct registry_request *request, struct slice body, char tag[OCI_TAG_MAX + 1]) {
    struct slice reference = slice_of(request->rest);
    struct oci_digest wanted, found;
    if (slice_index(reference, ':') < 0) {
        if (!oci_tag_is_valid(reference)) {
            registry_error(request->exchange, 400, "TAG_INVALID", "\"%s\" is no valid tag", request->rest);
            return false;
        }
        snprintf(tag, OCI_TAG_MAX + 1, "%s", request->rest);
        return true;
    }
    digest_sha256_hex(body, found.hex);
    if (oci_digest_parse(reference, &wanted) < 0 || !oci_digest_equal(&wanted, &found)) {
        registry_error(request->exchange, 400, "DIGEST_INVALID", "the manifest has the digest sha256:%s, not %s", found.hex, request->rest);
        return false;
    }
    return true;
}

static void on_manifest_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct registry_request *request = userdata;
    struct storing *storing = calloc(1, sizeof *storing);
    struct diag diag = DIAG_INIT;
    char text[DIAG_TEXT_MAX * 2];
    if (storing)
        storing->arena = arena_new(TREE_BYTES_MAX);
    if (!storing || !storing->arena) {
        free(storing);
        return registry_error(exchange, 503, "UNKNOWN", "out of memory");
    }
    storing->operation = (struct registry_operation){.run = storing_run, .finish = storing_finish, .release = storing_release};
    storing->body = slice_make(arena_dup(storing->arena, body), body.len);
    int r = storing->body.data ? oci_manifest_parse(storing->arena, storing->body, http_header(exchange, "Content-Type"), &storing->manifest, &diag)
                               : -ENOMEM;
    if (r < 0)
        registry_error(exchange, 400, "MANIFEST_INVALID", "%s", diag_format(&diag, text, sizeof text));
    if (r < 0 || !check_target(request, storing->body, storing->tag) || !has_everything(request, &storing->manifest))
        return storing_release(&storing->operation);
    snprintf(storing->name, sizeof storing->name, "%s", request->name);
    registry_operation_start(&storing->operation, request);
}

void registry_on_manifest_put(struct registry_request *request) {
    http_read_body(request->exchange, OCI_MANIFEST_BYTES_MAX, on_manifest_body, request);
}

void registry_on_manifest_delete(struct registry_request *request) {
    CLEANUP(buffer_deinit) struct buffer media_type = BUFFER_INIT(KIB);
    struct oci_digest digest;
    if (!find_manifest(request, &digest, &media_type))
        return;
    bool by_tag = slice_index(slice_of(request->rest), ':') < 0;
    int r = by_tag ? content_delete_tag(request->registry->content, request->name, request->rest)
                   : content_delete_manifest(request->registry->content, request->name, &digest);
    if (r < 0 && r != -ENOENT)
        return registry_storage_error(request->exchange, r);
    http_respond(request->exchange, 202, NULL, (struct slice){0}, NULL);
}

/* --- lists --- */

/* Cuts a sorted list to the page that ?n= and ?last= ask for, into `list`; *ret_more is the last name shown when there are more. False: answered. */
static bool page(struct registry_request *request, char **names, size_t count, struct tree *list, const char **ret_more) {
    struct arena *arena = http_exchange_arena(request->exchange);
    const char *limit_text = query_find(&request->query, "n");
    const char *last = query_find(&request->query, "last");
    uint64_t limit = PAGE_MAX;
    if (limit_text && slice_parse_u64(slice_of(limit_text), UINT64_MAX, &limit) < 0) {
        registry_error(request->exchange, 400, "PAGINATION_NUMBER_INVALID", "n: expected a number, found \"%s\"", limit_text);
        return false;
    }
    limit = MIN(limit, (uint64_t)PAGE_MAX);
    size_t at = 0;
    while (last && at < count && strcmp(names[at], last) <= 0)
        at++;
    for (; at < count && tree_count(list) < limit; at++) {
        if (tree_push(arena, list, tree_text(arena, names[at])) < 0) {
            registry_error(request->exchange, 503, "UNKNOWN", "the list is too long");
            return false;
        }
    }
    *ret_more = at < count && limit > 0 ? names[at - 1] : NULL;
    return true;
}

static void respond_page(struct registry_request *request, char **names, size_t count, struct tree *root, const char *key, const char *path) {
    struct arena *arena = http_exchange_arena(request->exchange);
    struct tree *list = tree_list(arena);
    const char *more = NULL, *link = NULL;
    if (!root || !list || tree_set(arena, root, slice_of(key), list) < 0)
        return registry_error(request->exchange, 503, "UNKNOWN", "out of memory");
    if (!page(request, names, count, list, &more))
        return;
    if (more) {
        link = arena_printf(arena, "<%s?n=%zu&last=%s>; rel=\"next\"", path, tree_count(list), more);
        if (!link)
            return registry_error(request->exchange, 503, "UNKNOWN", "out of memory");
    }
    const struct http_field fields[] = {{link ? "Link" : NULL, link}, {NULL, NULL}};
    respond_tree(request, "application/json", root, fields);
}

/* Leaves out those of images that are hidden. */
static size_t drop_hidden(struct registry_request *request, char **tags, size_t count) {
    struct content *content = request->registry->content;
    size_t kept = 0;
    if (!pulled_has_any(content, request->name))
        return count;
    for (size_t i = 0; i < count; i++) {
        struct oci_digest digest;
        if (content_get_tag(content, request->name, tags[i], &digest) == 0 && !registry_hides_manifest(request, &digest))
            tags[kept++] = tags[i];
    }
    return kept;
}

void registry_on_tags(struct registry_request *request) {
    struct arena *arena = http_exchange_arena(request->exchange);
    char **tags = NULL;
    size_t count = 0;
    int r = content_list_tags(request->registry->content, arena, request->name, &tags, &count);
    if (r == -ENOENT)
        return registry_error(request->exchange, 404, "NAME_UNKNOWN", "there is no repository %s", request->name);
    if (r < 0)
        return registry_storage_error(request->exchange, r);
    count = drop_hidden(request, tags, count);
    struct tree *root = tree_map(arena);
    const char *path = arena_printf(arena, "/v2/%s/tags/list", request->name);
    if (!root || !path || tree_set_text(arena, root, "name", request->name) < 0)
        return registry_error(request->exchange, 503, "UNKNOWN", "out of memory");
    respond_page(request, tags, count, root, "tags", path);
}

void registry_on_catalog(struct registry_request *request) {
    struct arena *arena = http_exchange_arena(request->exchange);
    char **names = NULL;
    size_t count = 0;
    int r = content_list_repositories(request->registry->content, arena, &names, &count);
    if (r < 0)
        return registry_storage_error(request->exchange, r);
    respond_page(request, names, count, tree_map(arena), "repositories", "/v2/_catalog");
}

void registry_on_referrers(struct registry_request *request) {
    struct arena *arena = http_exchange_arena(request->exchange);
    struct oci_digest subject;
    struct tree *list = NULL;
    const char *type = query_find(&request->query, "artifactType");
    if (oci_digest_parse(slice_of(request->rest), &subject) < 0)
        return registry_error(request->exchange, 400, "DIGEST_INVALID", "expected sha256: and 64 hexadecimal digits");
    if (registry_hides_manifest(request, &subject))
        return registry_error(request->exchange, 401, "UNAUTHORIZED", "authentication required");
    int r = content_list_referrers(request->registry->content, arena, request->name, &subject, &list);
    if (r < 0)
        return registry_storage_error(request->exchange, r);
    for (size_t i = tree_count(list); type && i > 0; i--) {
        if (strcmp(tree_text_or(tree_find(tree_at(list, i - 1), "artifactType"), ""), type) != 0)
            tree_list_remove(list, i - 1);
    }
    struct tree *root = tree_map(arena);
    if (!root || tree_set(arena, root, SLICE("schemaVersion"), tree_int(arena, 2)) < 0 ||
        tree_set_text(arena, root, "mediaType", OCI_TYPE_INDEX) < 0 || tree_set(arena, root, SLICE("manifests"), list) < 0)
        return registry_error(request->exchange, 503, "UNKNOWN", "out of memory");
    const struct http_field fields[] = {{type ? "OCI-Filters-Applied" : NULL, "artifactType"}, {NULL, NULL}};
    respond_tree(request, OCI_TYPE_INDEX, root, fields);
}
