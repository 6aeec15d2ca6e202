/* Pulling from another registry: distribution-spec "Pulling manifests" and "Pulling blobs", and the token protocol of
 * distribution.github.io/distribution/spec/auth/token.
 *
 * The transfer runs on a worker thread with blocking libcurl calls; it touches only its own `struct registry_pull` and the content store, which any
 * thread may use. Progress goes through two atomic counters and an eventfd that wakes the loop.
 *
 * 1. Nothing counts before it was checked: a manifest's digest (when the reference had one), the size and digest of every blob. The tag is set last.
 * 2. Of an index, the manifest for this machine's architecture is taken and tagged.
 * 3. Credentials go to the registry named in the reference and to the token server that this registry names, never along a redirect to another host
 * (libcurl drops them there).
 * 4. Everything has a limit: manifests, tokens, blobs (their announced size), time without progress, redirects. */
#include "registry/pull.h"

#include <curl/curl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "registry/registry_priv.h"
#include "sys/sys.h"

#define TOKEN_BYTES_MAX (64 * KIB)
#define REDIRECTS_MAX 5L
#define CONNECT_TIMEOUT_S 10L
#define STALL_TIMEOUT_S 60L
#define STALL_BYTES_PER_S 500L
#define URL_BYTES_MAX (4 * KIB)
#define PROGRESS_BYTES (512 * KIB)
#define ACCEPT "Accept: " OCI_TYPE_MANIFEST ", " OCI_TYPE_INDEX ", " OCI_TYPE_DOCKER_MANIFEST ", " OCI_TYPE_DOCKER_LIST

struct registry_pull {
    struct registry *registry;
    struct registry_pull_options options; /* callbacks; its texts are copied below */
    struct oci_reference reference;
    char name[OCI_NAME_MAX + 1];
    char *user, *password;
    struct loop_io *wake;
    int wake_fd;
    atomic_bool cancelled;
    _Atomic uint64_t bytes_done, bytes_total;
    /* the worker's own, until it is done */
    CURL *curl;
    char *authorization;     /* "Authorization: …", NULL: none */
    char challenge[2 * KIB]; /* of the last 401 */
    uint64_t reported;
    int error;
    struct diag diag;
    struct oci_digest digest;
};

static void pull_free(struct registry_pull *pull) {
    if (!pull)
        return;
    loop_io_free(pull->wake);
    fd_closep(&pull->wake_fd);
    if (pull->password)
        explicit_bzero(pull->password, strlen(pull->password));
    if (pull->authorization)
        explicit_bzero(pull->authorization, strlen(pull->authorization));
    free(pull->user);
    free(pull->password);
    free(pull->authorization);
    free(pull);
}

/* --- one transfer --- */

struct transfer_target {
    struct registry_pull *pull;
    struct buffer *buffer;         /* small answers */
    struct content_writer *writer; /* or a blob */
    uint64_t bytes_max;
    uint64_t bytes;
    int error;
};

static void report(struct registry_pull *pull, uint64_t bytes) {
    uint64_t done = atomic_fetch_add(&pull->bytes_done, bytes) + bytes, one = 1;
    if (done - pull->reported < PROGRESS_BYTES)
        return;
    pull->reported = done;
    (void)!write(pull->wake_fd, &one, sizeof one); /* full: the loop is awake already */
}

static size_t on_body(char *bytes, size_t size, size_t count, void *userdata) {
    struct transfer_target *target = userdata;
    size_t length = size * count;
    long status = 0;
    curl_easy_getinfo(target->pull->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) /* an error's text: not wanted */
        return length;
    target->bytes += length;
    if (target->bytes > target->bytes_max)
        target->error = -EFBIG;
    else if (target->writer)
        target->error = content_writer_append(target->writer, slice_make(bytes, length));
    else
        target->error = buffer_append(target->buffer, bytes, length);
    if (target->error == 0 && target->writer)
        report(target->pull, length);
    return target->error ? 0 : length;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *userdata) {
    struct registry_pull *pull = userdata;
    struct slice value = slice_make(bytes, size * count);
    struct slice name = slice_cut(&value, ':');
    value = slice_trim(value);
    if (slice_equal_nocase(name, SLICE("WWW-Authenticate")) && value.len < sizeof pull->challenge)
        snprintf(pull->challenge, sizeof pull->challenge, "%.*s", SLICE_ARG(value));
    return size * count;
}

static int on_transfer(void *userdata, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    struct registry_pull *pull = userdata;
    return atomic_load(&pull->cancelled) ? 1 : 0;
}

/* GET. The HTTP status; negative with diag when there was no answer. */
static int get(struct registry_pull *pull, const char *url, const char *userpwd, bool authorize, struct transfer_target *target) {
    CURL *curl = pull->curl;
    struct curl_slist *headers = curl_slist_append(NULL, ACCEPT);
    if (authorize && pull->authorization && headers)
        headers = curl_slist_append(headers, pull->authorization);
    if (!headers)
        return diag_set(&pull->diag, -ENOMEM, "out of memory");
    pull->challenge[0] = 0;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, pull->options.insecure ? "http,https" : "https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, pull->options.insecure ? "http,https" : "https");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALL_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_PER_S);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "tidemill/" TIDEMILL_VERSION);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, target);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, pull);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_transfer);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, pull);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (userpwd)
        curl_easy_setopt(curl, CURLOPT_USERPWD, userpwd);
    CURLcode code = curl_easy_perform(curl);
    curl_slist_free_all(headers);
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK)
        return (int)status;
    if (target->error)
        return diag_set(&pull->diag, target->error, "%s: %s", pull->reference.registry,
                        target->error == -ENOSPC ? "the registry's disk is full" : strerror(-target->error));
    return diag_set(&pull->diag, atomic_load(&pull->cancelled) ? -ECANCELED : -EHOSTUNREACH, "cannot pull from %s: %s", pull->reference.registry,
                    curl_easy_strerror(code));
}

/* --- authentication --- */

/* The value of `key` in `Bearer realm="…",service="…"`; empty when absent. */
static struct slice challenge_value(struct slice challenge, const char *key) {
    CLEANUP(buffer_deinit) struct buffer needle = BUFFER_INIT(64);
    buffer_printf(&needle, "%s=\"", key);
    ptrdiff_t at = slice_find(challenge, buffer_slice(&needle));
    if (at < 0)
        return (struct slice){0};
    struct slice rest = slice_from(challenge, (size_t)at + needle.len);
    ptrdiff_t end = slice_index(rest, '"');
    return end < 0 ? (struct slice){0} : slice_head(rest, (size_t)end);
}

static int set_authorization(struct registry_pull *pull, const char *scheme, struct slice value) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(TOKEN_BYTES_MAX + KIB);
    buffer_printf(&text, "Authorization: %s %.*s", scheme, SLICE_ARG(value));
    free(pull->authorization);
    pull->authorization = buffer_take(&text);
    return pull->authorization ? 0 : diag_set(&pull->diag, -ENOMEM, "out of memory");
}

static int use_basic(struct registry_pull *pull) {
    CLEANUP(buffer_deinit) struct buffer pair = BUFFER_INIT(8 * KIB), encoded = BUFFER_INIT(16 * KIB);
    buffer_printf(&pair, "%s:%s", pull->user, pull->password);
    if (buffer_error(&pair) || base64_encode(&encoded, buffer_slice(&pair)) < 0)
        return diag_set(&pull->diag, -EINVAL, "the credentials for %s are too long", pull->reference.registry);
    return set_authorization(pull, "Basic", buffer_slice(&encoded));
}

static int fetch_token(struct registry_pull *pull, struct slice challenge) {
    CLEANUP(buffer_deinit) struct buffer url = BUFFER_INIT(URL_BYTES_MAX), body = BUFFER_INIT(TOKEN_BYTES_MAX), pair = BUFFER_INIT(8 * KIB);
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct slice realm = challenge_value(challenge, "realm"), service = challenge_value(challenge, "service");
    struct tree *root = NULL;
    buffer_append_slice(&url, realm);
    buffer_append_text(&url, slice_index(realm, '?') < 0 ? "?service=" : "&service=");
    percent_encode(&url, service);
    buffer_printf(&url, "&scope=repository%%3A%s%%3Apull", pull->reference.name);
    if (pull->user)
        buffer_printf(&pair, "%s:%s", pull->user, pull->password ? pull->password : "");
    if (!arena || realm.len == 0 || buffer_error(&url) || buffer_error(&pair))
        return diag_set(&pull->diag, -EPROTO, "%s asks for a token in a way that is not understood", pull->reference.registry);
    struct transfer_target target = {.pull = pull, .buffer = &body, .bytes_max = TOKEN_BYTES_MAX};
    int status = get(pull, url.data, pull->user ? pair.data : NULL, false, &target);
    if (status < 0)
        return status;
    const char *token = "";
    if (status == 200 && json_parse(arena, buffer_slice(&body), NULL, &root, NULL) == 0)
        token = tree_text_or(tree_find(root, "token"), tree_text_or(tree_find(root, "access_token"), ""));
    if (!*token)
        return diag_set(&pull->diag, -EACCES, "%s refused a token for %s (status %d)", pull->reference.registry, pull->reference.name, status);
    return set_authorization(pull, "Bearer", slice_of(token));
}

static int authenticate(struct registry_pull *pull) {
    char copy[sizeof pull->challenge];
    memcpy(copy, pull->challenge, sizeof copy);
    struct slice challenge = slice_of(copy);
    if (slice_equal_nocase(slice_head(challenge, 7), SLICE("Bearer ")))
        return fetch_token(pull, challenge);
    if (slice_equal_nocase(slice_head(challenge, 6), SLICE("Basic ")) && pull->user)
        return use_basic(pull);
    diag_set(&pull->diag, -EACCES, "%s wants credentials for %s", pull->reference.registry, pull->reference.name);
    return -EACCES;
}

/* GET <registry>/v2/<name>/<kind>/<reference>; asks for a token when told to, once. 0 when the status is 200. */
static int fetch(struct registry_pull *pull, const char *kind, const char *what, struct transfer_target *target) {
    CLEANUP(buffer_deinit) struct buffer url = BUFFER_INIT(URL_BYTES_MAX);
    const char *host = strcmp(pull->reference.registry, "docker.io") == 0 ? "registry-1.docker.io" : pull->reference.registry;
    buffer_printf(&url, "%s://%s/v2/%s/%s/%s", pull->options.insecure ? "http" : "https", host, pull->reference.name, kind, what);
    if (buffer_error(&url))
        return diag_set(&pull->diag, -ENAMETOOLONG, "the image's name is too long");
    int status = get(pull, url.data, NULL, true, target);
    if (status == 401) {
        int r = authenticate(pull);
        if (r < 0)
            return r;
        status = get(pull, url.data, NULL, true, target);
    }
    if (status == 200 || status < 0)
        return status < 0 ? status : 0;
    if (status == 404)
        return diag_set(&pull->diag, -ENOENT, "%s has no %s %s of %s", pull->reference.registry, strcmp(kind, "blobs") == 0 ? "blob" : "image", what,
                        pull->reference.name);
    if (status == 401 || status == 403)
        return diag_set(&pull->diag, -EACCES, "%s refuses to show %s: it does not exist, or needs credentials", pull->reference.registry,
                        pull->reference.name);
    return diag_set(&pull->diag, status == 429 ? -EBUSY : -EIO, "%s answered %s with status %d", pull->reference.registry, pull->reference.name,
                    status);
}

/* --- the image --- */

/* bytes must have the digest when one is wanted (hex[0]). */
static int fetch_manifest(struct registry_pull *pull, struct arena *arena, const char *reference, const struct oci_digest *wanted,
                          struct buffer *bytes, struct oci_manifest *ret) {
    struct transfer_target target = {.pull = pull, .buffer = bytes, .bytes_max = OCI_MANIFEST_BYTES_MAX};
    struct oci_digest found;
    int r = fetch(pull, "manifests", reference, &target);
    if (r < 0)
        return r;
    digest_sha256_hex(buffer_slice(bytes), found.hex);
    if (wanted && wanted->hex[0] && !oci_digest_equal(wanted, &found))
        return diag_set(&pull->diag, -EBADMSG, "%s sent a manifest with the digest sha256:%s instead of sha256:%s", pull->reference.registry,
                        found.hex, wanted->hex);
    return oci_manifest_parse(arena, buffer_slice(bytes), (struct slice){0}, ret, &pull->diag);
}

static const struct oci_descriptor *pick_platform(const struct oci_manifest *index) {
    for (size_t i = 0; i < index->count; i++) {
        if (strcmp(index->items[i].os, "linux") == 0 && strcmp(index->items[i].architecture, sys_architecture(NULL)) == 0)
            return &index->items[i];
    }
    return NULL;
}

static int fetch_blob(struct registry_pull *pull, const struct oci_descriptor *descriptor) {
    struct content *content = pull->registry->content;
    CLEANUP(content_writer_freep) struct content_writer *writer = NULL;
    struct oci_digest digest;
    char text[OCI_DIGEST_TEXT];
    if (descriptor->foreign)
        return diag_set(&pull->diag, -ENOTSUP, "the image has layers that must be fetched from elsewhere, which is not supported");
    if (content_touch_blob(content, &descriptor->digest) == 0) {
        report(pull, (uint64_t)descriptor->size_bytes);
        return content_link(content, pull->name, CONTENT_LINK_BLOB, &descriptor->digest, (struct slice){0});
    }
    int r = content_writer_new(content, &writer);
    if (r < 0)
        return diag_set(&pull->diag, r, "cannot store a blob: %s", strerror(-r));
    struct transfer_target target = {.pull = pull, .writer = writer, .bytes_max = (uint64_t)descriptor->size_bytes};
    r = fetch(pull, "blobs", oci_digest_format(&descriptor->digest, text), &target);
    if (r < 0)
        return r;
    r = content_writer_commit(writer, &descriptor->digest, &digest);
    if (r == -EBADMSG)
        return diag_set(&pull->diag, r, "%s sent a blob that does not have its digest sha256:%s", pull->reference.registry, descriptor->digest.hex);
    r = r ? r : content_link(content, pull->name, CONTENT_LINK_BLOB, &digest, (struct slice){0});
    return r < 0 ? diag_set(&pull->diag, r, "cannot store a blob: %s", strerror(-r)) : 0;
}

static int fetch_blobs(struct registry_pull *pull, const struct oci_manifest *manifest) {
    uint64_t total = (uint64_t)manifest->config.size_bytes;
    for (size_t i = 0; i < manifest->count; i++)
        total += (uint64_t)MIN(manifest->items[i].size_bytes, (int64_t)CONTENT_BLOB_BYTES_MAX);
    atomic_store(&pull->bytes_total, total);
    int r = fetch_blob(pull, &manifest->config);
    for (size_t i = 0; r == 0 && i < manifest->count; i++)
        r = fetch_blob(pull, &manifest->items[i]);
    return r;
}

static int pull_image(struct registry_pull *pull, struct arena *arena) {
    CLEANUP(buffer_deinit) struct buffer index_bytes = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX + 1), bytes = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX + 1);
    struct buffer *chosen = &index_bytes;
    struct oci_manifest index, manifest;
    char text[OCI_DIGEST_TEXT];
    const struct oci_digest *wanted = &pull->reference.digest;
    int r = fetch_manifest(pull, arena, wanted->hex[0] ? oci_digest_format(wanted, text) : pull->reference.tag, wanted, &index_bytes, &index);
    if (r < 0)
        return r;
    manifest = index;
    if (index.is_index) {
        const struct oci_descriptor *mine = pick_platform(&index);
        if (!mine)
            return diag_set(&pull->diag, -ENOENT, "%s has no image for linux/%s", pull->reference.name, sys_architecture(NULL));
        r = fetch_manifest(pull, arena, oci_digest_format(&mine->digest, text), &mine->digest, &bytes, &manifest);
        chosen = &bytes;
    }
    if (r == 0 && manifest.is_index)
        r = diag_set(&pull->diag, -ENOTSUP, "%s is an index of indexes", pull->reference.name);
    r = r ? r : fetch_blobs(pull, &manifest);
    if (r < 0)
        return r;
    struct content *content = pull->registry->content;
    struct oci_digest index_digest;
    /* A pull by an index's digest must be found by that digest again. */
    if (index.is_index && wanted->hex[0])
        r = content_put_manifest(content, pull->name, "", buffer_slice(&index_bytes), &index, &index_digest);
    r = r ? r : content_put_manifest(content, pull->name, pull->reference.tag, buffer_slice(chosen), &manifest, &pull->digest);
    return r < 0 ? diag_set(&pull->diag, r, "cannot store the image: %s", strerror(-r)) : 0;
}

/* --- threads --- */

static void pull_work(void *userdata) {
    struct registry_pull *pull = userdata;
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    pull->curl = curl_easy_init();
    pull->error = arena && pull->curl ? pull_image(pull, arena) : diag_set(&pull->diag, -ENOMEM, "out of memory");
    curl_easy_cleanup(pull->curl);
    arena_free(arena);
}

static void pull_done(void *userdata) {
    struct registry_pull *pull = userdata;
    const struct registry_pull_options *options = &pull->options;
    struct registry_pull_result result = {
        .error = pull->error, .diag = &pull->diag, .name = pull->name, .tag = pull->reference.tag, .digest = pull->digest};
    pull->registry->pulls--;
    if (!atomic_load(&pull->cancelled))
        options->on_done(options->userdata, &result);
    pull_free(pull);
}

static void pull_on_wake(void *userdata, uint32_t events) {
    struct registry_pull *pull = userdata;
    uint64_t count;
    (void)events;
    if (read(pull->wake_fd, &count, sizeof count) == sizeof count && pull->options.on_progress && !atomic_load(&pull->cancelled))
        pull->options.on_progress(pull->options.userdata, atomic_load(&pull->bytes_done), atomic_load(&pull->bytes_total));
}

static int prepare(struct registry_pull *pull, struct diag *diag) {
    const struct registry_pull_options *options = &pull->options;
    int r = oci_reference_parse(slice_of(options->reference), &pull->reference, diag);
    if (r < 0)
        return r;
    if (oci_reference_local_name(&pull->reference, NULL, pull->name) < 0)
        return diag_set(diag, -EINVAL, "\"%s\" cannot be kept under a name of its own", options->reference);
    pull->user = options->user ? strdup(options->user) : NULL;
    pull->password = options->user ? strdup(options->password ? options->password : "") : NULL;
    pull->options.reference = pull->options.user = pull->options.password = NULL;
    pull->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pull->wake_fd < 0 || (options->user && (!pull->user || !pull->password)))
        return diag_set(diag, -ENOMEM, "out of memory");
    r = loop_io_new(pull->registry->loop, pull->wake_fd, EPOLLIN, pull_on_wake, pull, &pull->wake);
    return r < 0 ? diag_set(diag, r, "cannot start the pull: %s", strerror(-r)) : 0;
}

int registry_pull(struct registry *registry, const struct registry_pull_options *options, struct registry_pull **ret, struct diag *diag) {
    if (registry->pulls >= REGISTRY_PULLS_MAX)
        return diag_set(diag, -EBUSY, "%d images are being pulled already", REGISTRY_PULLS_MAX);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) /* counted by libcurl; only the first does something */
        return diag_set(diag, -ENOMEM, "libcurl cannot be started");
    struct registry_pull *pull = calloc(1, sizeof *pull);
    if (!pull)
        return diag_set(diag, -ENOMEM, "out of memory");
    pull->registry = registry;
    pull->options = *options;
    pull->wake_fd = -1;
    int r = prepare(pull, diag);
    r = r ? r : loop_work(registry->loop, pull_work, pull_done, pull);
    if (r < 0) {
        pull_free(pull);
        return r;
    }
    registry->pulls++;
    if (ret)
        *ret = pull;
    return 0;
}

void registry_pull_cancel(struct registry_pull *pull) {
    atomic_store(&pull->cancelled, true);
}
