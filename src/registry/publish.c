/* Pushing an image from another process, over HTTP: the registry's core is the one writer of the store.
 *
 * The layer is made first (layer.c), so that its digest is known and it need not go up when the registry has it already; then it goes up in chunks,
 * the config and the manifest behind it. Blocking by design: it serves a command line. It runs an event loop of its own for the client of http/. */
#include "registry/publish.h"

#include <stdio.h>
#include <unistd.h>

#include "http/http.h"
#include "loop/loop.h"
#include "registry/image_priv.h"
#include "registry/layer_priv.h"

#define CHUNK_BYTES (2 * MIB)
#define CALL_TIMEOUT_MS 120000
#define ANSWER_BYTES_MAX (4 * MIB)

static void progress(const struct registry_import_options *options, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void progress(const struct registry_import_options *options, const char *format, ...) {
    char line[256];
    if (!options->on_progress)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    options->on_progress(options->userdata, line);
}

/* --- one request after another, blocking --- */

struct session {
    struct loop *loop;
    struct http_client *client;
    const char *address;
    bool done;
    int error;
    int status;
    char location[HTTP_TARGET_BYTES_MAX];
    struct buffer body;
};

static void session_deinit(struct session *session) {
    http_client_free(session->client);
    loop_free(session->loop);
    buffer_deinit(&session->body);
}

static int session_init(struct session *session, const struct registry_endpoint *endpoint, struct diag *diag) {
    *session = (struct session){.address = endpoint->address, .body = BUFFER_INIT(ANSWER_BYTES_MAX + 1)};
    const struct http_client_options options = {.endpoint = endpoint->address, .authorization = endpoint->authorization};
    int r = loop_new(&session->loop);
    r = r ? r : http_client_new(session->loop, &options, &session->client);
    return r < 0 ? diag_set(diag, r, "cannot reach the registry at %s: %s", endpoint->address, strerror(-r)) : 0;
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct session *session = userdata;
    struct slice location = answer->error ? (struct slice){0} : answer->header(answer, "Location");
    session->done = true;
    session->error = answer->error;
    session->status = answer->status;
    session->location[0] = 0;
    if (location.len < sizeof session->location && slice_starts(location, SLICE("/"))) {
        memcpy(session->location, location.data, location.len);
        session->location[location.len] = 0;
    }
    buffer_reset(&session->body);
    if (!answer->error && buffer_append_slice(&session->body, answer->body) < 0)
        session->error = -EMSGSIZE;
}

/* The registry's own words, when it has some. */
static int refused(struct session *session, const char *what, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct tree *root = NULL;
    const char *message = "";
    if (arena && json_parse(arena, buffer_slice(&session->body), NULL, &root, NULL) == 0)
        message = tree_text_or(tree_find(tree_at(tree_find(root, "errors"), 0), "message"), "");
    int error = session->status == 404                             ? -ENOENT
                : session->status == 401 || session->status == 403 ? -EACCES
                : session->status == 507                           ? -ENOSPC
                                                                   : -EIO;
    return diag_set(diag, error, "the registry refused %s: %s (status %d)", what, *message ? message : "no reason given", session->status);
}

/* Sends and waits. 0 with session->status and the rest; negative only when no answer came. */
static int call(struct session *session, const struct http_request_options *options, struct diag *diag) {
    struct http_request *request = NULL;
    session->done = false;
    int r = http_client_send(session->client, options, on_answer, session, &request);
    while (r == 0 && !session->done)
        r = loop_turn(session->loop, -1);
    r = r < 0 ? r : session->error;
    return r < 0 ? diag_set(diag, r, "no answer from the registry at %s: %s", session->address, strerror(-r)) : 0;
}

static int call_expecting(struct session *session, const struct http_request_options *options, int status, const char *what, struct diag *diag) {
    int r = call(session, options, diag);
    if (r < 0)
        return r;
    return session->status == status ? 0 : refused(session, what, diag);
}

/* --- pushing --- */

/* 1: the registry has the blob; 0: it has not. */
static int find_blob(struct session *session, const char *name, const struct oci_digest *digest, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(HTTP_TARGET_BYTES_MAX);
    buffer_printf(&target, "/v2/%s/blobs/sha256:%s", name, digest->hex);
    int r = call(session, &(struct http_request_options){.method = "HEAD", .target = target.data}, diag);
    return r < 0 ? r : session->status == 200;
}

static int push_file(struct session *session, const char *name, const struct layer *layer, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(HTTP_TARGET_BYTES_MAX), chunk = BUFFER_INIT(CHUNK_BYTES + 1);
    buffer_printf(&target, "/v2/%s/blobs/uploads/", name);
    int r = call_expecting(session, &(struct http_request_options){.method = "POST", .target = target.data}, 202, "the upload", diag);
    for (int64_t at = 0; r == 0 && at < layer->size_bytes;) {
        buffer_reset(&chunk);
        if (buffer_reserve(&chunk, CHUNK_BYTES) < 0)
            return diag_set(diag, -ENOMEM, "out of memory");
        ssize_t n = pread(layer->fd, chunk.data, CHUNK_BYTES, at);
        if (n <= 0)
            return diag_set(diag, n < 0 ? -errno : -EIO, "cannot read the compressed layer back: %s", n < 0 ? strerror(errno) : "it became shorter");
        buffer_commit(&chunk, (size_t)n);
        at += n;
        buffer_reset(&target);
        buffer_append_text(&target, session->location);
        const struct http_request_options options = {.method = "PATCH",
                                                     .target = target.data,
                                                     .content_type = "application/octet-stream",
                                                     .body = buffer_slice(&chunk),
                                                     .timeout_ms = CALL_TIMEOUT_MS};
        r = call_expecting(session, &options, 202, "a part of the layer", diag);
    }
    if (r < 0)
        return r;
    buffer_reset(&target);
    buffer_printf(&target, "%s?digest=sha256:%s", session->location, layer->digest.hex);
    return call_expecting(session, &(struct http_request_options){.method = "PUT", .target = target.data, .timeout_ms = CALL_TIMEOUT_MS}, 201,
                          "the layer", diag);
}

static int push_config(struct session *session, const char *name, struct slice config, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(HTTP_TARGET_BYTES_MAX);
    struct oci_digest digest;
    digest_sha256_hex(config, digest.hex);
    buffer_printf(&target, "/v2/%s/blobs/uploads/?digest=sha256:%s", name, digest.hex);
    const struct http_request_options options = {
        .method = "POST", .target = target.data, .content_type = "application/octet-stream", .body = config, .timeout_ms = CALL_TIMEOUT_MS};
    return call_expecting(session, &options, 201, "the image's configuration", diag);
}

static int push_manifest(struct session *session, const char *name, const char *tag, struct slice manifest, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(HTTP_TARGET_BYTES_MAX);
    buffer_printf(&target, "/v2/%s/manifests/%s", name, tag);
    const struct http_request_options options = {
        .method = "PUT", .target = target.data, .content_type = OCI_TYPE_MANIFEST, .body = manifest, .timeout_ms = CALL_TIMEOUT_MS};
    return call_expecting(session, &options, 201, "the image", diag);
}

int registry_image_import_rootfs(const struct registry_import_options *options, int tar_fd, struct oci_digest *ret, struct diag *diag) {
    CLEANUP(layer_deinit) struct layer layer = {.fd = -1};
    CLEANUP(session_deinit) struct session session = {0};
    CLEANUP(buffer_deinit) struct buffer config = BUFFER_INIT(IMAGE_DOCUMENT_BYTES_MAX), manifest = BUFFER_INIT(IMAGE_DOCUMENT_BYTES_MAX);
    struct image_facts facts = {.command = options->command,
                                .environment = options->environment,
                                .annotation = options->annotation,
                                .created_by = "tidemill image import",
                                .created_s = options->created_s};
    if (!oci_name_is_valid(slice_of(options->name)) || !oci_tag_is_valid(slice_of(options->tag)))
        return diag_set(diag, -EINVAL, "\"%s:%s\" is no valid image name", options->name, options->tag);
    int r = layer_make(tar_fd, &layer, diag);
    if (r < 0)
        return r;
    facts.layer = layer.digest;
    facts.layer_diff = layer.diff;
    facts.layer_size_bytes = layer.size_bytes;
    progress(options, "Compressed %.1f MB to %.1f MB", (double)layer.tar_bytes / 1e6, (double)layer.size_bytes / 1e6);
    r = image_format_config(&config, &facts);
    r = r ? r : image_format_manifest(&manifest, &facts, buffer_slice(&config));
    if (r < 0)
        return diag_set(diag, r, "cannot write the image's configuration: %s", strerror(-r));
    r = session_init(&session, &options->endpoint, diag);
    r = r ? r : find_blob(&session, options->name, &facts.layer, diag);
    r = r == 0 ? push_file(&session, options->name, &layer, diag) : r > 0 ? 0 : r;
    r = r ? r : push_config(&session, options->name, buffer_slice(&config), diag);
    r = r ? r : push_manifest(&session, options->name, options->tag, buffer_slice(&manifest), diag);
    if (r < 0)
        return r;
    digest_sha256_hex(buffer_slice(&manifest), ret->hex);
    progress(options, "Pushed %s:%s", options->name, options->tag);
    return 0;
}

/* --- looking --- */

int registry_image_inspect(const struct registry_endpoint *endpoint, const char *name, const char *tag, struct registry_image_facts *ret,
                           struct diag *diag) {
    CLEANUP(session_deinit) struct session session = {0};
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(HTTP_TARGET_BYTES_MAX);
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct oci_manifest manifest;
    int64_t created_ns = 0;
    if (!oci_name_is_valid(slice_of(name)) || !oci_tag_is_valid(slice_of(tag)))
        return diag_set(diag, -EINVAL, "\"%s:%s\" is no valid image name", name, tag);
    buffer_printf(&target, "/v2/%s/manifests/%s", name, tag);
    int r = arena ? session_init(&session, endpoint, diag) : diag_set(diag, -ENOMEM, "out of memory");
    r = r ? r : call_expecting(&session, &(struct http_request_options){.method = "GET", .target = target.data}, 200, "to show the image", diag);
    r = r ? r : oci_manifest_parse(arena, buffer_slice(&session.body), (struct slice){0}, &manifest, diag);
    if (r < 0)
        return r;
    *ret = (struct registry_image_facts){.created_s = 0};
    snprintf(ret->annotation, sizeof ret->annotation, "%s", tree_text_or(tree_find(manifest.annotations, IMAGE_ANNOTATION_SOURCE), ""));
    if (timestamp_parse(slice_of(tree_text_or(tree_find(manifest.annotations, IMAGE_ANNOTATION_CREATED), "")), &created_ns) == 0)
        ret->created_s = created_ns / 1000000000;
    digest_sha256_hex(buffer_slice(&session.body), ret->digest.hex);
    return 0;
}
