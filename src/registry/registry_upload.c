/* Uploads (end-4 … end-6, end-11, end-13, end-14): monolithic, streamed, in chunks, mounted from another repository.
 *
 * An upload lives in memory (its hash state) and in one temporary file; it outlives connections, but not the process: a client whose upload is
 * unknown starts over, as the specification foresees.
 *
 * 1. At most one request feeds an upload at a time (`transfer`); a second gets 409.
 * 2. An upload that rests for upload_timeout_ms is dropped; there are at most uploads_max. While a request feeds it, the server's own timeouts apply.
 * 3. Finishing takes the writer out of the upload and syncs it on a worker thread; the upload is gone from then on, whatever the outcome.
 * 4. What was received before a connection broke stays, so a client may ask for the status and go on. */
#include <stdio.h>

#include "registry/registry_priv.h"
#include "sys/sys.h"

#define UPLOAD_ID_LENGTH 32

struct transfer;

struct upload {
    struct registry *registry;
    struct content_writer *writer;
    struct transfer *transfer; /* the request that feeds it now, or NULL */
    struct loop_timer timer;
    char id[UPLOAD_ID_LENGTH + 1];
    char name[OCI_NAME_MAX + 1];
};

/* A request's body on its way into an upload; in the exchange's arena. */
struct transfer {
    struct registry_request *request;
    struct upload *upload; /* NULL once the upload is gone */
    bool finish;           /* PUT: the blob is complete behind this body */
    bool answered;
    struct oci_digest expected;
};

/* --- life --- */

static void upload_free(struct upload *upload) {
    if (!upload)
        return;
    loop_timer_cancel(&upload->timer);
    map_remove(upload->registry->uploads, slice_of(upload->id));
    if (upload->transfer)
        upload->transfer->upload = NULL;
    content_writer_free(upload->writer);
    free(upload);
}

static void upload_on_expire(void *userdata) {
    upload_free(userdata);
}

static int upload_new(struct registry *registry, const char *name, struct upload **ret) {
    if (map_count(registry->uploads) >= registry->options.uploads_max)
        return -EBUSY;
    struct upload *upload = calloc(1, sizeof *upload);
    if (!upload)
        return -ENOMEM;
    upload->registry = registry;
    sys_random_name(upload->id, UPLOAD_ID_LENGTH);
    snprintf(upload->name, sizeof upload->name, "%s", name);
    loop_timer_init(&upload->timer, registry->loop, upload_on_expire, upload);
    int r = content_writer_new(registry->content, &upload->writer);
    r = r ? r : map_put(registry->uploads, slice_of(upload->id), upload, NULL);
    r = r ? r : loop_timer_set(&upload->timer, registry->options.upload_timeout_ms);
    if (r < 0)
        upload_free(upload);
    else
        *ret = upload;
    return r;
}

void registry_uploads_free(struct registry *registry) {
    void *value;
    for (size_t at = 0; map_next(registry->uploads, &at, NULL, &value);)
        upload_free(value);
}

/* The upload of the path, if it belongs to this repository and nobody feeds it. Otherwise answers and returns NULL. */
static struct upload *find_upload(struct registry_request *request) {
    struct upload *upload = map_find(request->registry->uploads, slice_of(request->rest));
    if (!upload || strcmp(upload->name, request->name) != 0) {
        registry_error(request->exchange, 404, "BLOB_UPLOAD_UNKNOWN", "no such upload: it was finished, cancelled, or rested too long");
        return NULL;
    }
    if (upload->transfer) {
        registry_error(request->exchange, 409, "BLOB_UPLOAD_INVALID", "another request is sending to this upload");
        return NULL;
    }
    return upload;
}

static const char *blob_location(struct registry_request *request, const struct oci_digest *digest) {
    const char *location = arena_printf(http_exchange_arena(request->exchange), "/v2/%s/blobs/sha256:%s", request->name, digest->hex);
    return location ? location : "";
}

/* The answer that says where the upload is and how far it has come. */
static void respond_progress(struct registry_request *request, const struct upload *upload, int status) {
    struct arena *arena = http_exchange_arena(request->exchange);
    int64_t size = content_writer_size(upload->writer);
    const char *location = arena_printf(arena, "/v2/%s/blobs/uploads/%s", upload->name, upload->id);
    const char *range = arena_printf(arena, "0-%" PRId64, size > 0 ? size - 1 : 0);
    const struct http_field fields[] = {
        {"Location", location}, {"Range", range}, {"Docker-Upload-UUID", upload->id}, {"OCI-Chunk-Min-Length", "1"}, {NULL, NULL}};
    if (!location || !range)
        return registry_error(request->exchange, 503, "UNKNOWN", "out of memory");
    http_respond(request->exchange, status, NULL, (struct slice){0}, fields);
}

/* --- finishing --- */

struct finishing {
    struct registry_operation operation;
    struct content_writer *writer;
    struct oci_digest expected;
    char name[OCI_NAME_MAX + 1];
};

static void finishing_run(struct registry_operation *operation) {
    struct finishing *finishing = CONTAINER_OF(operation, struct finishing, operation);
    struct oci_digest digest;
    operation->error = content_writer_commit(finishing->writer, &finishing->expected, &digest);
    if (operation->error == 0)
        operation->error = content_link(operation->registry->content, finishing->name, CONTENT_LINK_BLOB, &digest, (struct slice){0});
}

static void respond_created(struct registry_request *request, const struct oci_digest *digest) {
    char text[OCI_DIGEST_TEXT];
    const struct http_field fields[] = {
        {"Location", blob_location(request, digest)}, {"Docker-Content-Digest", oci_digest_format(digest, text)}, {NULL, NULL}};
    http_respond(request->exchange, 201, NULL, (struct slice){0}, fields);
}

static void finishing_finish(struct registry_operation *operation) {
    struct finishing *finishing = CONTAINER_OF(operation, struct finishing, operation);
    if (!operation->exchange)
        return;
    if (operation->error == -EBADMSG)
        registry_error(operation->exchange, 400, "DIGEST_INVALID", "what was uploaded does not have the digest sha256:%s", finishing->expected.hex);
    else if (operation->error < 0)
        registry_storage_error(operation->exchange, operation->error);
    else
        respond_created(operation->request, &finishing->expected);
}

static void finishing_release(struct registry_operation *operation) {
    struct finishing *finishing = CONTAINER_OF(operation, struct finishing, operation);
    content_writer_free(finishing->writer);
    free(finishing);
}

static void finish_upload(struct transfer *transfer) {
    struct upload *upload = transfer->upload;
    struct finishing *finishing = calloc(1, sizeof *finishing);
    transfer->answered = true;
    if (!finishing)
        return registry_error(transfer->request->exchange, 503, "UNKNOWN", "out of memory");
    finishing->operation = (struct registry_operation){.run = finishing_run, .finish = finishing_finish, .release = finishing_release};
    finishing->writer = TAKE(upload->writer);
    finishing->expected = transfer->expected;
    snprintf(finishing->name, sizeof finishing->name, "%s", upload->name);
    upload_free(upload);
    registry_operation_start(&finishing->operation, transfer->request);
}

/* --- receiving --- */

static void transfer_on_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)exchange;
    (void)complete;
    struct transfer *transfer = userdata;
    struct upload *upload = transfer->upload;
    if (!upload)
        return;
    upload->transfer = NULL;
    if (loop_timer_set(&upload->timer, upload->registry->options.upload_timeout_ms) < 0)
        upload_free(upload);
}

static void transfer_on_data(void *userdata, struct http_exchange *exchange, struct slice data) {
    struct transfer *transfer = userdata;
    struct upload *upload = transfer->upload;
    if (transfer->answered)
        return;
    if (!upload) {
        transfer->answered = true;
        return registry_error(exchange, 404, "BLOB_UPLOAD_UNKNOWN", "the upload was cancelled");
    }
    int r = data.len ? content_writer_append(upload->writer, data) : 0;
    if (r < 0) {
        transfer->answered = true;
        upload_free(upload);
        return registry_storage_error(exchange, r);
    }
    if (data.len)
        return;
    if (transfer->finish)
        return finish_upload(transfer);
    transfer->answered = true;
    respond_progress(transfer->request, upload, 202);
}

static void receive(struct registry_request *request, struct upload *upload, const struct oci_digest *finish_as) {
    struct transfer *transfer = ARENA_NEW(http_exchange_arena(request->exchange), struct transfer);
    if (!transfer)
        return registry_error(request->exchange, 503, "UNKNOWN", "out of memory");
    *transfer = (struct transfer){.request = request, .upload = upload, .finish = finish_as != NULL};
    if (finish_as)
        transfer->expected = *finish_as;
    upload->transfer = transfer;
    loop_timer_cancel(&upload->timer);
    http_on_close(request->exchange, transfer_on_close, transfer);
    http_stream_body(request->exchange, transfer_on_data, transfer);
}

/* True when a chunk begins where the upload ends. Otherwise answers 416, or 400 when the header is nonsense. */
static bool chunk_fits(struct registry_request *request, const struct upload *upload) {
    struct slice rest = http_header(request->exchange, "Content-Range");
    if (!rest.data)
        return true; /* streamed: it goes on where it is */
    if (slice_starts(rest, SLICE("bytes ")))
        rest = slice_from(rest, 6);
    struct slice last_text = rest;
    struct slice first_text = slice_trim(slice_cut(&last_text, '-'));
    last_text = slice_trim(slice_cut(&last_text, '/'));
    struct slice length_text = http_header(request->exchange, "Content-Length");
    uint64_t first = 0, last = 0, length = 0;
    bool readable = slice_parse_u64(first_text, INT64_MAX, &first) == 0 && slice_parse_u64(last_text, INT64_MAX, &last) == 0 && last >= first;
    if (!readable) {
        registry_error(request->exchange, 400, "BLOB_UPLOAD_INVALID", "Content-Range: expected FIRST-LAST");
        return false;
    }
    if (first != (uint64_t)content_writer_size(upload->writer)) {
        respond_progress(request, upload, 416);
        return false;
    }
    if (length_text.data && (slice_parse_u64(length_text, INT64_MAX, &length) < 0 || length != last - first + 1)) {
        registry_error(request->exchange, 400, "SIZE_INVALID", "Content-Range and Content-Length disagree");
        return false;
    }
    return true;
}

/* The query's digest; otherwise answers and returns false. */
static bool read_digest(struct registry_request *request, const char *text, struct oci_digest *ret) {
    int r = text ? oci_digest_parse(slice_of(text), ret) : -EINVAL;
    if (r == -ENOTSUP)
        registry_error(request->exchange, 400, "DIGEST_INVALID", "only sha256 digests are supported");
    else if (r < 0)
        registry_error(request->exchange, 400, "DIGEST_INVALID", "expected ?digest=sha256: and 64 hexadecimal digits");
    return r == 0;
}

/* --- handlers --- */

/* Gives this repository a blob that another one has. False when it must be uploaded after all. */
static bool mount_blob(struct registry_request *request, const char *digest_text) {
    struct content *content = request->registry->content;
    const char *from = query_find(&request->query, "from");
    struct oci_digest digest;
    if (oci_digest_parse(slice_of(digest_text), &digest) < 0 || !from || !oci_name_is_valid(slice_of(from)))
        return false;
    if (registry_check(request, from, false) != REGISTRY_ALLOWED || !registry_shows_blob(request, from, &digest))
        return false;
    if (content_touch_blob(content, &digest) < 0 || content_link(content, request->name, CONTENT_LINK_BLOB, &digest, (struct slice){0}) < 0)
        return false;
    respond_created(request, &digest);
    return true;
}

void registry_on_upload_start(struct registry_request *request) {
    const char *digest_text = query_find(&request->query, "digest");
    const char *mount = query_find(&request->query, "mount");
    struct oci_digest digest;
    struct upload *upload = NULL;
    if (mount && mount_blob(request, mount))
        return;
    if (digest_text && !mount && !read_digest(request, digest_text, &digest))
        return;
    int r = upload_new(request->registry, request->name, &upload);
    if (r == -EBUSY)
        return registry_error(request->exchange, 429, "TOOMANYREQUESTS", "%zu uploads are open; try again later",
                              request->registry->options.uploads_max);
    if (r < 0)
        return registry_storage_error(request->exchange, r);
    if (digest_text && !mount)
        receive(request, upload, &digest);
    else
        respond_progress(request, upload, 202);
}

void registry_on_upload_status(struct registry_request *request) {
    struct upload *upload = find_upload(request);
    if (upload)
        respond_progress(request, upload, 204);
}

void registry_on_upload_patch(struct registry_request *request) {
    struct upload *upload = find_upload(request);
    if (upload && chunk_fits(request, upload))
        receive(request, upload, NULL);
}

void registry_on_upload_put(struct registry_request *request) {
    struct oci_digest digest;
    struct upload *upload = find_upload(request);
    if (upload && read_digest(request, query_find(&request->query, "digest"), &digest) && chunk_fits(request, upload))
        receive(request, upload, &digest);
}

void registry_on_upload_cancel(struct registry_request *request) {
    struct upload *upload = find_upload(request);
    if (!upload)
        return;
    upload_free(upload);
    http_respond(request->exchange, 204, NULL, (struct slice){0}, NULL);
}
