/* An image of ours into another registry (distribution-spec, "Push"): each blob unless it is there already, the manifests from the innermost out, the
 * tag last. And what is kept of logging in. Both are work of pull.c's queue. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "codec/codec.h"
#include "registry/pull_priv.h"
#include "sys/sys.h"

#define MANIFESTS_MAX 100

struct pushing {
    struct registry_pull *pull;
    struct hub *hub;
    struct hub_connection *connection;
    struct arena *arena;
    const char *from; /* another repository of the same registry that has the image; NULL: none is known */
};

static int refused(const struct pushing *pushing, const struct hub_call *call, const char *what) {
    if (call->status == 401 || call->status == 403)
        return diag_set(&pushing->pull->diag, -EACCES, "%s does not let us write to %s%s%s%s", hub_host(pushing->hub, 0),
                        pushing->pull->reference.name, *call->words ? " (" : "", call->words, *call->words ? ")" : "");
    return hub_refused(pushing->hub, 0, call, what, &pushing->pull->diag);
}

/* Until it is done or there is no use: the exchange may be made again as it is. */
static int exchange(const struct pushing *pushing, struct hub_call *call) {
    int r, attempt = 0;
    do
        r = hub_exchange(pushing->connection, 0, call, &pushing->pull->diag);
    while (hub_waits(pushing->connection, call, r, &attempt));
    return r;
}

/* --- blobs --- */

/* Where to send it; "" when the registry has taken it from another repository of its own. */
static int begin_upload(const struct pushing *pushing, const char *digest, char ret_location[4096]) {
    CLEANUP(buffer_deinit) struct buffer path = BUFFER_INIT(2 * KIB);
    buffer_append_text(&path, "blobs/uploads/");
    if (pushing->from) {
        buffer_printf(&path, "?mount=%s&from=", digest);
        percent_encode(&path, slice_of(pushing->from));
    }
    if (buffer_error(&path))
        return diag_set(&pushing->pull->diag, -ENAMETOOLONG, "the image's name is too long");
    struct hub_call call = HUB_CALL("POST", path.data);
    int r = exchange(pushing, &call);
    if (r < 0 || (call.status != 201 && call.status != 202) || (call.status == 202 && !*call.location))
        return r ? r : refused(pushing, &call, "an upload");
    snprintf(ret_location, 4096, "%s", call.status == 201 ? "" : call.location);
    return 0;
}

/* The bytes that went over the network, or negative errno. */
static int64_t send_blob(const struct pushing *pushing, const struct oci_descriptor *descriptor, const char *digest, int fd) {
    char location[4096];
    for (int attempt = 0;;) {
        CLEANUP(buffer_deinit) struct buffer url = BUFFER_INIT(8 * KIB);
        int r = begin_upload(pushing, digest, location);
        if (r < 0 || !*location)
            return r;
        buffer_printf(&url, "%s%cdigest=%s", location, strchr(location, '?') ? '&' : '?', digest);
        struct hub_call call = HUB_CALL("PUT", url.data);
        call.content_type = "application/octet-stream";
        call.fd = fd;
        call.length = descriptor->size_bytes;
        r = hub_exchange(pushing->connection, 0, &call, &pushing->pull->diag);
        if (r == 0 && call.status == 201)
            return descriptor->size_bytes;
        if (!hub_waits(pushing->connection, &call, r, &attempt))
            return r ? r : refused(pushing, &call, "a blob");
    }
}

static int push_blob(const struct pushing *pushing, const struct oci_descriptor *descriptor) {
    struct registry_pull *pull = pushing->pull;
    char digest[OCI_DIGEST_TEXT], path[16 + OCI_DIGEST_TEXT];
    int64_t size_bytes = 0;
    oci_digest_format(&descriptor->digest, digest);
    snprintf(path, sizeof path, "blobs/%s", digest);
    CLEANUP(fd_closep) int fd = content_open_blob(pull->registry->content, &descriptor->digest, &size_bytes);
    if (fd < 0 || size_bytes != descriptor->size_bytes)
        return diag_set(&pull->diag, -ENOENT, "the blob %s of %s is not here%s", digest, pull->name,
                        descriptor->foreign ? ": it is kept elsewhere" : "");
    struct hub_call call = HUB_CALL("HEAD", path);
    int64_t r = exchange(pushing, &call);
    if (r == 0 && call.status != 200)
        r = send_blob(pushing, descriptor, digest, fd);
    if (r < 0)
        return (int)r;
    atomic_fetch_add(&pull->bytes_fetched, (uint64_t)r);
    pull_report(pull, (uint64_t)size_bytes);
    return 0;
}

static int push_blobs(const struct pushing *pushing, const struct oci_manifest *manifest) {
    uint64_t total = (uint64_t)manifest->config.size_bytes;
    for (size_t i = 0; i < manifest->count; i++)
        total += (uint64_t)manifest->items[i].size_bytes;
    atomic_fetch_add(&pushing->pull->bytes_total, total);
    int r = manifest->has_config ? push_blob(pushing, &manifest->config) : 0;
    for (size_t i = 0; r == 0 && i < manifest->count; i++)
        r = push_blob(pushing, &manifest->items[i]);
    return r;
}

/* --- manifests --- */

static int send_manifest(const struct pushing *pushing, const struct oci_manifest *manifest, struct slice bytes, const char *what) {
    char path[16 + OCI_TAG_MAX], name[16 + OCI_TAG_MAX];
    snprintf(path, sizeof path, "manifests/%s", what);
    snprintf(name, sizeof name, "image %s", what);
    struct hub_call call = HUB_CALL("PUT", path);
    call.content_type = manifest->media_type;
    call.body = bytes;
    int r = exchange(pushing, &call);
    return r || call.status / 100 == 2 ? r : refused(pushing, &call, name);
}

/* What it names first. Of an index, manifests that are not here (of other platforms, when it was pulled) cannot be sent. */
static int push_manifest(const struct pushing *pushing, const struct oci_digest *digest, const char *what, int depth) {
    struct registry_pull *pull = pushing->pull;
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX + 1);
    struct oci_manifest manifest;
    char text[OCI_DIGEST_TEXT];
    int r = pull_hold(pull, digest);
    r = r ? r : content_read_blob(pull->registry->content, digest, OCI_MANIFEST_BYTES_MAX, &bytes);
    if (r < 0)
        return diag_set(&pull->diag, r, "the manifest %s of %s is not here", oci_digest_format(digest, text), pull->name);
    r = oci_manifest_parse(pushing->arena, buffer_slice(&bytes), (struct slice){0}, &manifest, &pull->diag);
    if (r == 0 && manifest.is_index && (depth >= PULL_INDEX_DEPTH_MAX || manifest.count > MANIFESTS_MAX))
        r = diag_set(&pull->diag, -ENOTSUP, "the index of %s is nested too deep, or too large", pull->name);
    if (r == 0 && !manifest.is_index)
        r = push_blobs(pushing, &manifest);
    for (size_t i = 0; r == 0 && manifest.is_index && i < manifest.count; i++)
        r = push_manifest(pushing, &manifest.items[i].digest, oci_digest_format(&manifest.items[i].digest, text), depth + 1);
    return r ? r : send_manifest(pushing, &manifest, buffer_slice(&bytes), what);
}

int push_image(struct registry_pull *pull, struct hub_connection *connection, struct arena *arena) {
    struct pushing pushing = {.pull = pull, .hub = atomic_load(&pull->hub), .connection = connection, .arena = arena};
    int r = content_get_tag(pull->registry->content, pull->name, pull->source_tag, &pull->digest);
    if (r < 0)
        return diag_set(&pull->diag, r, "there is no image %s:%s here", pull->name, pull->source_tag);
    if (pull->reference.digest.hex[0])
        return diag_set(&pull->diag, -EINVAL, "push to a tag: a digest follows from what is pushed");
    pushing.from = pulled_repository(pull->registry->content, arena, pull->name, &pull->digest, pull->reference.registry);
    return push_manifest(&pushing, &pull->digest, pull->reference.tag, 0);
}

/* --- logging in --- */

/* All forms in which that registry may be written. */
static bool forget(struct tree *auths, const char *host) {
    bool known = false;
    for (size_t i = 0; auths && auths->type == TREE_MAP && i < auths->children->count;) {
        struct slice key = auths->children->items[i].key;
        if (docker_config_key_is(key, host) && tree_unset(auths, key))
            known = true;
        else
            i++;
    }
    return known;
}

/* The document with that registry's entry replaced, or removed when there is no credential. -ENOENT when there was nothing to remove. */
static int rewrite(struct registry *registry, const char *host, const struct docker_credential *credential, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * DOCKER_CONFIG_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(DOCKER_CONFIG_BYTES_MAX + 1), pair = BUFFER_INIT(64 * KIB), auth = BUFFER_INIT(128 * KIB);
    const char *path = registry->options.credentials_path;
    struct tree *root = NULL;
    if (!path || !arena)
        return diag_set(diag, path ? -ENOMEM : -ENOTSUP, path ? "out of memory" : "this registry keeps no credentials");
    int r = sys_read_file(AT_FDCWD, path, DOCKER_CONFIG_BYTES_MAX, &text);
    if (r == 0 && (r = json_parse(arena, buffer_slice(&text), NULL, &root, diag)) < 0)
        return r;
    if (r < 0 && r != -ENOENT)
        return diag_set(diag, r, "cannot read %s: %s", path, strerror(-r));
    root = root ? root : tree_map(arena);
    struct tree *auths = tree_find(root, "auths"), *entry = tree_map(arena);
    bool known = forget(auths, host);
    if (!credential && !known)
        return diag_set(diag, -ENOENT, "there are no credentials for %s", host);
    if (!auths)
        tree_set(arena, root, SLICE("auths"), auths = tree_map(arena));
    if (credential) {
        struct slice password = secret_reveal(credential->password);
        buffer_printf(&pair, "%s:%.*s", credential->user, SLICE_ARG(password));
        base64_encode(&auth, buffer_slice(&pair));
        tree_set_text(arena, entry, "auth", auth.data ? auth.data : "");
        tree_set(arena, auths, slice_of(host), entry);
    }
    buffer_reset(&text);
    json_format_pretty(&text, root);
    r = buffer_error(&text) ? buffer_error(&text) : buffer_error(&auth);
    r = r ? r : sys_write_file(AT_FDCWD, path, buffer_slice(&text), 0600);
    if (pair.data)
        explicit_bzero(pair.data, pair.len);
    return r < 0 ? diag_set(diag, r, "cannot write %s: %s", path, strerror(-r)) : 0;
}

int login(struct registry_pull *pull, struct hub_connection *connection, struct arena *arena) {
    struct pushing pushing = {.pull = pull, .hub = atomic_load(&pull->hub), .connection = connection, .arena = arena};
    struct hub_call call = HUB_CALL("GET", "/");
    int r = exchange(&pushing, &call);
    if (r == 0 && call.status != 200)
        r = hub_refused(pushing.hub, 0, &call, "an account", &pull->diag);
    if (r == 0 && !hub_credential(pushing.hub, 0))
        r = diag_set(&pull->diag, -EINVAL, "%s wants no credentials", pull->reference.registry);
    return r ? r : rewrite(pull->registry, pull->reference.registry, pull->credentials.items.items, &pull->diag);
}

int registry_logout(struct registry *registry, const char *host, struct diag *diag) {
    return rewrite(registry, host, NULL, diag);
}
