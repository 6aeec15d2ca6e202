/* The distribution server: routes, access, errors. Specification: OCI distribution-spec 1.1 (end-1 … end-14); error codes are its own.
 *
 * 1. Runs on core's loop. Reading small files happens in place (they are in the page cache); what syncs the disk (finishing a blob, storing a
 * manifest) runs on worker threads through registry_operation, whose answer is dropped when the client has gone.
 * 2. A path is taken apart from its end, because a repository's name may itself contain the words of a route ("a/blobs"); names are checked before
 * anything else sees them.
 * 3. Manifests and blobs that were had by credentials from elsewhere are shown to root and ourselves alone: each by its digest, so that the rest of
 * their repository stays open.
 * 4. Every route passes registry_check() once, with its repository and whether it writes. Anonymous reading is usual, so the ping answers 200 and yet
 * names the authentication scheme: containers/image (buildah, skopeo, podman) reads it from there and then sends its credentials with writes. */
#include "registry/registry_priv.h"

#include <fcntl.h>
#include <stdio.h>

#include "sys/sys.h"

#define UPLOAD_TIMEOUT_MS_DEFAULT (15 * 60 * 1000)
#define UPLOADS_MAX_DEFAULT 64
#define CREDENTIALS_BYTES_MAX (16 * KIB)
#define CHALLENGE "Basic realm=\"tidemill\", charset=\"UTF-8\""

/* --- life --- */

int registry_new(struct loop *loop, const struct registry_options *options, struct registry **ret, struct diag *diag) {
    struct registry *registry = calloc(1, sizeof *registry);
    if (!registry)
        return diag_set(diag, -ENOMEM, "out of memory");
    registry->loop = loop;
    registry->options = *options;
    registry->options.path = NULL; /* borrowed for this call only */
    if (!registry->options.upload_timeout_ms)
        registry->options.upload_timeout_ms = UPLOAD_TIMEOUT_MS_DEFAULT;
    if (!registry->options.uploads_max)
        registry->options.uploads_max = UPLOADS_MAX_DEFAULT;
    registry->uploads = map_new();
    int pulls = registry_pulls_init(registry);
    int r = pulls < 0           ? diag_set(diag, pulls, "out of memory")
            : registry->uploads ? content_open(options->path, options->bytes_free_min, &registry->content, diag)
                                : diag_set(diag, -ENOMEM, "out of memory");
    if (r == 0 && (r = pulled_key_open(registry->content, &registry->pulled_key)) < 0)
        diag_set(diag, r, "cannot make the registry's key: %s", strerror(-r));
    if (r < 0) {
        registry_free(registry);
        return r;
    }
    *ret = registry;
    return 0;
}

static void collection_cancel(struct registry *registry);

void registry_free(struct registry *registry) {
    if (!registry)
        return;
    collection_cancel(registry);
    registry_pulls_deinit(registry);
    if (registry->uploads)
        registry_uploads_free(registry);
    map_free(registry->uploads);
    content_close(registry->content);
    free(registry);
}

struct content *registry_content(struct registry *registry) {
    return registry->content;
}

/* --- what the machine's owner says --- */

int registry_read_sites(const struct registry *registry, struct arena *arena, struct sites *ret, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(SITES_BYTES_MAX + 1);
    const char *path = registry->options.sites_path;
    *ret = (struct sites){0};
    int r = path ? sys_read_file(AT_FDCWD, path, SITES_BYTES_MAX, &text) : -ENOENT;
    if (r < 0)
        return r == -ENOENT ? 0 : diag_set(diag, r, "cannot read %s: %s", path, strerror(-r));
    return sites_parse(arena, buffer_slice(&text), path, ret, diag);
}

int registry_read_credentials(const struct registry *registry, struct docker_config *into, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(DOCKER_CONFIG_BYTES_MAX + 1);
    const char *path = registry->options.credentials_path;
    int r = path ? sys_read_file(AT_FDCWD, path, DOCKER_CONFIG_BYTES_MAX, &text) : -ENOENT;
    if (r < 0)
        return r == -ENOENT ? 0 : diag_set(diag, r, "cannot read %s: %s", path, strerror(-r));
    r = docker_config_read(into, buffer_slice(&text), diag);
    explicit_bzero(text.data, text.len);
    return r;
}

/* --- errors --- */

void registry_error(struct http_exchange *exchange, int status, const char *code, const char *format, ...) {
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(8 * KIB);
    buffer_printf(&body, "{\"errors\":[{\"code\":\"%s\",\"message\":", code);
    json_format_string(&body, slice_of(message));
    buffer_append_text(&body, "}]}\n");
    const struct http_field fields[] = {
        {"Docker-Distribution-Api-Version", "registry/2.0"}, {status == 401 ? "WWW-Authenticate" : NULL, CHALLENGE}, {NULL, NULL}};
    http_respond(exchange, status, "application/json", buffer_slice(&body), fields);
}

void registry_storage_error(struct http_exchange *exchange, int error) {
    if (error == -ENOSPC || error == -EDQUOT)
        registry_error(exchange, 507, "UNKNOWN", "the registry's disk is full: free some space, or remove images that are no longer used");
    else if (error == -EFBIG)
        registry_error(exchange, 413, "SIZE_INVALID", "the blob is too large: at most %zu bytes are accepted", CONTENT_BLOB_BYTES_MAX);
    else
        registry_error(exchange, 500, "UNKNOWN", "the registry's storage failed: %s", strerror(-error));
}

/* --- access --- */

static bool is_trusted(const struct http_peer *peer) {
    return peer->is_unix && (peer->uid == 0 || peer->uid == geteuid());
}

static enum registry_verdict authorize_default(const struct registry_access *access) {
    if (!access->write)
        return REGISTRY_ALLOWED;
    return is_trusted(access->peer) ? REGISTRY_ALLOWED : REGISTRY_UNAUTHORIZED;
}

/* "Basic base64(user:password)" or "Bearer token"; anything else counts as anonymous. *text holds what access points to. */
static void read_credentials(struct slice header, struct buffer *text, struct registry_access *access) {
    struct slice rest = header;
    struct slice scheme = slice_cut(&rest, ' ');
    rest = slice_trim(rest);
    if (slice_equal_nocase(scheme, SLICE("Bearer")) && rest.len && buffer_append_slice(text, rest) == 0)
        access->password = text->data;
    if (!slice_equal_nocase(scheme, SLICE("Basic")) || base64_decode(text, rest) < 0 || !text->data)
        return;
    char *colon = memchr(text->data, ':', text->len);
    if (!colon)
        return;
    *colon = 0;
    access->user = text->data;
    access->password = colon + 1;
}

enum registry_verdict registry_check(struct registry_request *request, const char *repository, bool write) {
    const struct registry_options *options = &request->registry->options;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(CREDENTIALS_BYTES_MAX);
    struct registry_access access = {
        .user = "", .password = "", .peer = http_exchange_peer(request->exchange), .repository = repository, .write = write};
    read_credentials(http_header(request->exchange, "Authorization"), &text, &access);
    enum registry_verdict verdict = options->authorize ? options->authorize(options->userdata, &access) : authorize_default(&access);
    if (text.data)
        explicit_bzero(text.data, text.len);
    return verdict;
}

/* What somebody's credentials brought here is for pods, by way of the node, which asks for the same: not for whoever reaches this port. */
bool registry_hides_manifest(struct registry_request *request, const struct oci_digest *digest) {
    return !is_trusted(http_exchange_peer(request->exchange)) && pulled_is_private(request->registry->content, request->name, digest);
}

bool registry_shows_blob(struct registry_request *request, const char *name, const struct oci_digest *digest) {
    struct content *content = request->registry->content;
    return is_trusted(http_exchange_peer(request->exchange)) ? content_find_link(content, name, CONTENT_LINK_BLOB, digest, NULL) == 0
                                                             : content_is_shown(content, name, digest);
}

/* --- operations --- */

static void operation_release(struct registry_operation *operation) {
    if (!operation->working && !operation->exchange)
        operation->release(operation);
}

static void operation_on_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)exchange;
    (void)complete;
    struct registry_operation *operation = userdata;
    operation->exchange = NULL;
    operation_release(operation);
}

static void operation_work(void *userdata) {
    struct registry_operation *operation = userdata;
    operation->run(operation);
}

static void operation_done(void *userdata) {
    struct registry_operation *operation = userdata;
    operation->finish(operation);
    operation->working = false;
    operation_release(operation);
}

void registry_operation_start(struct registry_operation *operation, struct registry_request *request) {
    operation->request = request;
    operation->registry = request->registry;
    operation->exchange = request->exchange;
    operation->working = true;
    http_on_close(request->exchange, operation_on_close, operation);
    int r = loop_work(request->registry->loop, LOOP_BULK, operation_work, operation_done, operation);
    if (r < 0) {
        operation->error = r;
        operation_done(operation);
    }
}

/* --- conditional requests --- */

const char *registry_etag(struct arena *arena, const struct oci_digest *digest) {
    const char *etag = arena_printf(arena, "\"sha256:%s\"", digest->hex);
    return etag ? etag : "";
}

bool registry_not_modified(struct registry_request *request, const struct oci_digest *digest) {
    struct slice wanted = http_header(request->exchange, "If-None-Match");
    const char *etag = registry_etag(http_exchange_arena(request->exchange), digest);
    if (!wanted.data || !*etag || slice_find(wanted, slice_of(etag)) < 0)
        return false;
    const struct http_field fields[] = {{"ETag", etag}, {NULL, NULL}};
    http_respond(request->exchange, 304, NULL, (struct slice){0}, fields);
    return true;
}

/* --- routes --- */

enum route {
    ROUTE_PING,
    ROUTE_CATALOG,
    ROUTE_BLOB,
    ROUTE_UPLOADS,
    ROUTE_UPLOAD,
    ROUTE_MANIFEST,
    ROUTE_TAGS,
    ROUTE_REFERRERS,
    ROUTE_PULL,
    ROUTE_PUSH,
    ROUTE_LOGIN,
    ROUTE_UNKNOWN
};

static const struct handler {
    enum route route;
    const char *method; /* GET serves HEAD too */
    bool write;
    void (*handle)(struct registry_request *request);
} handlers[] = {
    {ROUTE_PING, "GET", false, registry_on_ping},
    {ROUTE_CATALOG, "GET", false, registry_on_catalog},
    {ROUTE_BLOB, "GET", false, registry_on_blob_get},
    {ROUTE_BLOB, "DELETE", true, registry_on_blob_delete},
    {ROUTE_UPLOADS, "POST", true, registry_on_upload_start},
    {ROUTE_UPLOAD, "GET", true, registry_on_upload_status},
    {ROUTE_UPLOAD, "PATCH", true, registry_on_upload_patch},
    {ROUTE_UPLOAD, "PUT", true, registry_on_upload_put},
    {ROUTE_UPLOAD, "DELETE", true, registry_on_upload_cancel},
    {ROUTE_MANIFEST, "GET", false, registry_on_manifest_get},
    {ROUTE_MANIFEST, "PUT", true, registry_on_manifest_put},
    {ROUTE_MANIFEST, "DELETE", true, registry_on_manifest_delete},
    {ROUTE_TAGS, "GET", false, registry_on_tags},
    {ROUTE_REFERRERS, "GET", false, registry_on_referrers},
    {ROUTE_PULL, "POST", true, registry_on_pull},
    {ROUTE_PUSH, "POST", true, registry_on_push},
    {ROUTE_LOGIN, "POST", true, registry_on_login},
    {ROUTE_LOGIN, "DELETE", true, registry_on_logout},
};

/* What may stand before the last component of a path, and what that makes it. */
static const struct ending {
    struct slice before;
    enum route route;
} endings[] = {
    {{"/manifests", 10}, ROUTE_MANIFEST}, {{"/referrers", 10}, ROUTE_REFERRERS}, {{"/blobs/uploads", 14}, ROUTE_UPLOAD}, {{"/blobs", 6}, ROUTE_BLOB},
    {{"/tags", 5}, ROUTE_TAGS},
};

/* path: decoded, behind "/v2/". */
static enum route find_route(struct slice path, struct slice *ret_name, struct slice *ret_rest) {
    if (path.len == 0)
        return ROUTE_PING;
    if (slice_is(path, "_catalog"))
        return ROUTE_CATALOG;
    if (slice_is(path, "_tidemill/pull"))
        return ROUTE_PULL;
    if (slice_is(path, "_tidemill/push"))
        return ROUTE_PUSH;
    if (slice_is(path, "_tidemill/login"))
        return ROUTE_LOGIN;
    const char *slash = memrchr(path.data, '/', path.len);
    if (!slash)
        return ROUTE_UNKNOWN;
    struct slice head = slice_head(path, (size_t)(slash - path.data));
    struct slice last = slice_from(path, head.len + 1);
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        if (!slice_ends(head, endings[i].before))
            continue;
        *ret_name = slice_head(head, head.len - endings[i].before.len);
        *ret_rest = last;
        enum route route = endings[i].route;
        if (route == ROUTE_BLOB && slice_is(last, "uploads"))
            return ROUTE_UPLOADS;
        if (route == ROUTE_UPLOAD && last.len == 0)
            return ROUTE_UPLOADS;
        if (route == ROUTE_TAGS && !slice_is(last, "list"))
            return ROUTE_UNKNOWN;
        return route;
    }
    return ROUTE_UNKNOWN;
}

static void dispatch(struct registry_request *request, enum route route) {
    struct slice method = http_method(request->exchange);
    request->is_head = slice_is(method, "HEAD");
    bool known = false;
    for (size_t i = 0; i < ARRAY_LEN(handlers); i++) {
        const struct handler *handler = &handlers[i];
        if (handler->route != route)
            continue;
        known = true;
        if (!slice_is(method, handler->method) && !(request->is_head && strcmp(handler->method, "GET") == 0))
            continue;
        enum registry_verdict verdict = registry_check(request, request->name, handler->write);
        if (verdict == REGISTRY_ALLOWED)
            handler->handle(request);
        else if (verdict == REGISTRY_DENIED)
            registry_error(request->exchange, 403, "DENIED", "%s %s is not allowed", handler->write ? "writing to" : "reading",
                           request->name ? request->name : "the registry");
        else
            registry_error(request->exchange, 401, "UNAUTHORIZED", "authentication required");
        return;
    }
    if (known)
        registry_error(request->exchange, 405, "UNSUPPORTED", "the method %.*s is not supported here", SLICE_ARG(method));
    else
        registry_error(request->exchange, 404, "UNSUPPORTED", "no such route");
}

void registry_handle(void *userdata, struct http_exchange *exchange) {
    struct arena *arena = http_exchange_arena(exchange);
    struct registry_request *request = ARENA_NEW(arena, struct registry_request);
    CLEANUP(buffer_deinit) struct buffer path = BUFFER_INIT(HTTP_TARGET_BYTES_MAX + 1);
    if (!request)
        return registry_error(exchange, 503, "UNKNOWN", "out of memory");
    if (percent_decode(&path, http_path(exchange), false) < 0 || query_parse(arena, http_query_text(exchange), &request->query) < 0)
        return registry_error(exchange, 400, "UNSUPPORTED", "the request's path cannot be decoded");
    struct slice rest = buffer_slice(&path);
    if (slice_is(rest, "/v2"))
        rest = SLICE("/v2/");
    if (!slice_starts(rest, SLICE("/v2/")))
        return registry_error(exchange, 404, "UNSUPPORTED", "this is a container registry: its paths begin with /v2/");
    struct slice name = {0}, last = {0};
    enum route route = find_route(slice_from(rest, 4), &name, &last);
    request->registry = userdata;
    request->exchange = exchange;
    request->rest = arena_dup(arena, last);
    request->name = name.data ? arena_dup(arena, name) : NULL;
    if (!request->rest || (name.data && !request->name))
        return registry_error(exchange, 503, "UNKNOWN", "out of memory");
    if (name.data && !oci_name_is_valid(name))
        return registry_error(exchange, 400, "NAME_INVALID", "\"%.*s\" is no valid repository name", SLICE_ARG(name));
    dispatch(request, route);
}

/* --- the registry as a whole --- */

void registry_on_ping(struct registry_request *request) {
    const struct http_field fields[] = {{"Docker-Distribution-Api-Version", "registry/2.0"}, {"WWW-Authenticate", CHALLENGE}, {NULL, NULL}};
    http_respond(request->exchange, 200, "application/json", SLICE("{}"), fields);
}

/* --- garbage collection --- */

struct collection {
    struct registry *registry;
    atomic_bool cancel;
    struct content_gc_options options;
    struct content_gc_result result;
    registry_gc_fn *on_done;
    void *userdata;
    int error;
    struct oci_digest roots[];
};

static void collection_work(void *userdata) {
    struct collection *collection = userdata;
    collection->error = content_collect_garbage(collection->registry->content, &collection->options, &collection->result);
}

static void collection_done(void *userdata) {
    struct collection *collection = userdata;
    collection->registry->collection = NULL;
    if (collection->on_done)
        collection->on_done(collection->userdata, collection->error, &collection->result);
    free(collection);
}

/* A worker reads and removes files of ours: it stops at the next one. */
static void collection_cancel(struct registry *registry) {
    while (registry->collection) {
        atomic_store(&registry->collection->cancel, true);
        if (loop_turn(registry->loop, -1) < 0)
            return;
    }
}

size_t registry_uploads(const struct registry *registry) {
    return map_count(registry->uploads);
}

int registry_collect_garbage(struct registry *registry, const struct content_gc_options *options, registry_gc_fn *on_done, void *userdata) {
    if (registry->collection)
        return -EBUSY;
    struct collection *collection = calloc(1, sizeof *collection + options->roots_count * sizeof collection->roots[0]);
    if (!collection)
        return -ENOMEM;
    *collection = (struct collection){.registry = registry, .options = *options, .on_done = on_done, .userdata = userdata};
    if (options->roots_count)
        memcpy(collection->roots, options->roots, options->roots_count * sizeof collection->roots[0]);
    collection->options.roots = collection->roots;
    collection->options.cancel = &collection->cancel;
    int r = loop_work(registry->loop, LOOP_SWEEP, collection_work, collection_done, collection);
    if (r < 0)
        free(collection);
    else
        registry->collection = collection;
    return r;
}
