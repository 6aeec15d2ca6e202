/* Manifests, configurations, and the way from a reference to an image. (Its layers: unpack.c.)
 *
 * Invariants
 *  1. Nothing is used before its digest was compared: index and manifest against the name they were asked by, the configuration against the manifest,
 * each layer's blob and its uncompressed stream (diff_id) against manifest and configuration. A digest's syntax is checked before it becomes a file
 * name (CVE-2024-3727).
 *  2. Whatever is wrong with an image is a diag for the pod's event, never a crash. */
#include "runtime/image.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "codec/codec.h"
#include "http/http.h"
#include "sys/sys.h"

#define IMAGE_ARENA_BYTES_MAX (16 * MIB)
#define INDEX_DEPTH_MAX 3
#define PULLED_BYTES_MAX (64 * KIB)

struct image *image_new(void) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(IMAGE_ARENA_BYTES_MAX);
    struct image *image = arena ? ARENA_NEW(arena, struct image) : NULL;
    if (!image)
        return NULL;
    image->references = 1;
    image->arena = TAKE(arena);
    image->working_dir = image->user = image->stop_signal = "";
    return image;
}

struct image *image_ref(struct image *image) {
    image->references++;
    return image;
}

void image_unref(struct image *image) {
    if (!image)
        return;
    ASSERT(image->references > 0);
    if (--image->references == 0)
        arena_free(image->arena); /* the image itself lives in it */
}

/* --- parsing --- */

static const char *valid_digest(const struct tree *node) {
    const char *text = tree_text_or(node, "");
    return image_digest_is_valid(slice_of(text)) ? text : NULL;
}

static int parse_index(const struct tree *manifests, const char **ret_next, struct diag *diag) {
    struct image_platform mine = {.os = "linux"};
    mine.architecture = sys_architecture(&mine.variant);
    const char *found = NULL;
    int best = 0;
    for (size_t i = 0; i < tree_count(manifests); i++) {
        const struct tree *entry = tree_at(manifests, i);
        const struct image_platform offered = {.os = tree_text_or(tree_path(entry, "platform.os"), ""),
                                               .architecture = tree_text_or(tree_path(entry, "platform.architecture"), ""),
                                               .variant = tree_text_or(tree_path(entry, "platform.variant"), "")};
        int rank = image_platform_rank(&mine, &offered);
        if (rank > best && valid_digest(tree_find(entry, "digest"))) {
            best = rank;
            found = valid_digest(tree_find(entry, "digest"));
        }
    }
    if (!found)
        return diag_set(diag, -ENOENT, "no match for platform linux/%s in the image index", mine.architecture);
    *ret_next = found;
    return 0;
}

static int parse_layers(struct image *image, const struct tree *layers, struct diag *diag) {
    image->layers_count = tree_count(layers);
    if (image->layers_count > IMAGE_LAYERS_MAX)
        return diag_set(diag, -EINVAL, "the image has %zu layers, more than %d", image->layers_count, IMAGE_LAYERS_MAX);
    image->layers = ARENA_ARRAY(image->arena, struct image_layer, image->layers_count);
    if (!image->layers)
        return -ENOMEM;
    for (size_t i = 0; i < image->layers_count; i++) {
        const struct tree *layer = tree_at(layers, i);
        image->layers[i].digest = valid_digest(tree_find(layer, "digest"));
        image->layers[i].size = tree_int_or(tree_find(layer, "size"), -1);
        image->size_bytes += MAX(image->layers[i].size, (int64_t)0);
        if (!image->layers[i].digest)
            return diag_set(diag, -EINVAL, "layer %zu of the image manifest has no valid sha256 digest", i);
    }
    return 0;
}

int image_parse_manifest(struct image *image, struct slice json, const char **ret_next, struct diag *diag) {
    struct tree *root = NULL;
    *ret_next = NULL;
    int r = json_parse(image->arena, json, &(struct json_options){.allow_duplicates = false}, &root, diag);
    if (r < 0)
        return r;
    if (tree_find(root, "manifests"))
        return parse_index(tree_find(root, "manifests"), ret_next, diag);
    if (tree_int_or(tree_find(root, "schemaVersion"), 0) != 2)
        return diag_set(diag, -EINVAL, "unsupported image manifest: schemaVersion is not 2");
    image->config_digest = valid_digest(tree_path(root, "config.digest"));
    if (!image->config_digest)
        return diag_set(diag, -EINVAL, "the image manifest names no configuration with a valid sha256 digest");
    image->size_bytes = (int64_t)json.len + MAX(tree_int_or(tree_path(root, "config.size"), 0), (int64_t)0);
    return parse_layers(image, tree_find(root, "layers"), diag);
}

static int copy_strings(struct arena *arena, const struct tree *list, struct image_strings *ret) {
    ret->count = 0;
    ret->items = ARENA_ARRAY(arena, const char *, tree_count(list) + 1);
    if (!ret->items)
        return -ENOMEM;
    for (size_t i = 0; i < tree_count(list); i++) {
        const struct tree *item = tree_at(list, i);
        const char *text = tree_text_or(item, NULL);
        if (text && strlen(text) == item->string.len) /* a NUL inside can be no argument */
            ret->items[ret->count++] = text;
    }
    return 0;
}

/* chain(0) = diff(0); chain(n) = sha256(chain(n-1) " " diff(n)). */
static int set_chain_ids(struct image *image, const struct tree *diff_ids, struct diag *diag) {
    if (tree_count(diff_ids) != image->layers_count)
        return diag_set(diag, -EINVAL, "the image configuration lists %zu layers, its manifest %zu", tree_count(diff_ids), image->layers_count);
    for (size_t i = 0; i < image->layers_count; i++) {
        struct image_layer *layer = &image->layers[i];
        layer->diff_id = valid_digest(tree_at(diff_ids, i));
        if (!layer->diff_id)
            return diag_set(diag, -EINVAL, "diff_id %zu of the image configuration is no valid sha256 digest", i);
        if (i == 0) {
            layer->chain_id = layer->diff_id;
            continue;
        }
        char hex[65], text[160];
        snprintf(text, sizeof text, "%s %s", image->layers[i - 1].chain_id, layer->diff_id);
        digest_sha256_hex(slice_of(text), hex);
        layer->chain_id = arena_printf(image->arena, "sha256:%s", hex);
        if (!layer->chain_id)
            return -ENOMEM;
    }
    return 0;
}

int image_parse_config(struct image *image, struct slice json, struct diag *diag) {
    struct tree *root = NULL;
    int r = json_parse(image->arena, json, &(struct json_options){.allow_duplicates = true}, &root, diag);
    if (r < 0)
        return r;
    const struct tree *config = tree_find(root, "config");
    image->working_dir = tree_text_or(tree_find(config, "WorkingDir"), "");
    image->user = tree_text_or(tree_find(config, "User"), "");
    image->stop_signal = tree_text_or(tree_find(config, "StopSignal"), "");
    r = copy_strings(image->arena, tree_find(config, "Env"), &image->env);
    if (r == 0)
        r = copy_strings(image->arena, tree_find(config, "Entrypoint"), &image->entrypoint);
    if (r == 0)
        r = copy_strings(image->arena, tree_find(config, "Cmd"), &image->command);
    return r < 0 ? r : set_chain_ids(image, tree_path(root, "rootfs.diff_ids"), diag);
}

/* --- the store --- */

static int read_blob(const char *store, const char *digest, struct buffer *out, struct diag *diag) {
    CLEANUP(freep) char *path = NULL;
    char hex[65];
    if (asprintf(&path, "%s/blobs/sha256/%s", store, digest + 7) < 0)
        return -ENOMEM;
    int r = sys_read_file(AT_FDCWD, path, IMAGE_MANIFEST_BYTES_MAX, out);
    if (r == -ENOENT)
        return diag_set(diag, r, "blob %s is not in the content store", digest);
    if (r < 0)
        return diag_set(diag, r, "cannot read blob %s: %s", digest, strerror(-r));
    digest_sha256_hex(buffer_slice(out), hex);
    if (strcmp(hex, digest + 7) != 0)
        return diag_set(diag, -EBADMSG, "blob %s is damaged: its content has the digest sha256:%s", digest, hex);
    return 0;
}

static int read_tag(const char *store, const struct image_reference *reference, char ret_digest[72], struct diag *diag) {
    CLEANUP(freep) char *path = NULL;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(256);
    if (asprintf(&path, "%s/repositories/%s/tags/%s", store, reference->repository, reference->tag) < 0)
        return -ENOMEM;
    int r = sys_read_file(AT_FDCWD, path, 255, &text);
    if (r == -ENOENT || r == -ENOTDIR || r == -ENAMETOOLONG)
        return diag_set(diag, -ENOENT, "image \"%s:%s\" not found: the registry has no such tag", reference->repository, reference->tag);
    if (r < 0)
        return diag_set(diag, r, "cannot read tag %s:%s: %s", reference->repository, reference->tag, strerror(-r));
    struct slice digest = slice_trim(buffer_slice(&text));
    if (!image_digest_is_valid(digest))
        return diag_set(diag, -EBADMSG, "tag %s:%s does not hold a digest", reference->repository, reference->tag);
    memcpy(ret_digest, digest.data, digest.len);
    ret_digest[digest.len] = 0;
    return 0;
}

static int resolve_manifest(const char *store, const char *digest, struct image *image, struct diag *diag) {
    for (int depth = 0; depth < INDEX_DEPTH_MAX; depth++) {
        CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(IMAGE_MANIFEST_BYTES_MAX + 1);
        const char *next = NULL;
        int r = read_blob(store, digest, &json, diag);
        if (r == 0)
            r = image_parse_manifest(image, buffer_slice(&json), &next, diag);
        if (r < 0)
            return r;
        if (!next) {
            image->digest = arena_strdup(image->arena, digest);
            return image->digest ? 0 : -ENOMEM;
        }
        digest = next;
    }
    return diag_set(diag, -EINVAL, "image indexes are nested deeper than %d", INDEX_DEPTH_MAX);
}

/* A digest counts in the repositories that have it: what another one keeps under credentials is not shown by guessing. */
static int find_link(const char *store, const struct image_reference *reference, struct diag *diag) {
    CLEANUP(freep) char *path = NULL;
    if (asprintf(&path, "%s/repositories/%s/_manifests/%s", store, reference->repository, reference->digest + 7) < 0)
        return -ENOMEM;
    return access(path, F_OK) == 0
               ? 0
               : diag_set(diag, -ENOENT, "image \"%s@%s\" not found: the registry has no such manifest", reference->repository, reference->digest);
}

/* Where the manifest with that digest came from. Without a record it is our own; who may have what a damaged one is about, nobody knows. */
static int read_origin(const char *store, const char *repository, const char *digest, struct image *image) {
    CLEANUP(freep) char *path = NULL;
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(PULLED_BYTES_MAX + 1);
    struct tree *root = NULL;
    if (asprintf(&path, "%s/repositories/%s/_pulled/%s", store, repository, digest + 7) < 0)
        return -ENOMEM;
    int r = sys_read_file(AT_FDCWD, path, PULLED_BYTES_MAX, &json);
    if (r < 0 && r != -EFBIG)
        return r == -ENOMEM ? r : 0;
    if (r < 0 || json_parse(image->arena, buffer_slice(&json), NULL, &root, NULL) < 0) {
        image->is_pulled = image->is_private = true;
        return 0;
    }
    image->repo_digest = tree_text_or(tree_find(root, "repoDigest"), NULL);
    image->is_pulled = image->repo_digest != NULL;
    image->is_private = image->is_pulled && tree_count(tree_find(root, "credentials")) > 0;
    return 0;
}

/* An index of ours may name a manifest that is not: it counts in this repository too, and what is private is so by whatever way. */
static int check_inner(const char *store, const char *repository, struct image *image, struct diag *diag) {
    const struct image_reference inner = {.repository = repository, .digest = image->digest};
    CLEANUP(image_unrefp) struct image *origin = image_new();
    int r = origin ? find_link(store, &inner, diag) : -ENOMEM;
    r = r ? r : read_origin(store, repository, image->digest, origin);
    if (r == 0)
        image->is_private = origin->is_private;
    image->is_pulled = image->is_pulled || (r == 0 && origin->is_private);
    return r;
}

int image_resolve(const char *store, const struct image_reference *reference, struct image **ret, struct diag *diag) {
    CLEANUP(image_unrefp) struct image *image = image_new();
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(IMAGE_MANIFEST_BYTES_MAX + 1);
    char digest[72];
    if (!image)
        return -ENOMEM;
    if (reference->digest)
        snprintf(digest, sizeof digest, "%s", reference->digest);
    int r = reference->digest ? find_link(store, reference, diag) : read_tag(store, reference, digest, diag);
    if (r == 0)
        r = read_origin(store, reference->repository, digest, image);
    if (r == 0)
        r = resolve_manifest(store, digest, image, diag);
    if (r == 0 && !image->is_private && strcmp(digest, image->digest) != 0)
        r = check_inner(store, reference->repository, image, diag);
    if (r == 0)
        r = read_blob(store, image->config_digest, &json, diag);
    if (r == 0)
        r = image_parse_config(image, buffer_slice(&json), diag);
    if (r < 0)
        return r;
    *ret = TAKE(image);
    return 0;
}

int image_read(const char *store, const char *digest, struct image **ret, struct diag *diag) {
    CLEANUP(image_unrefp) struct image *image = image_new();
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(IMAGE_MANIFEST_BYTES_MAX + 1);
    int r = image ? resolve_manifest(store, digest, image, diag) : -ENOMEM;
    r = r ? r : read_blob(store, image->config_digest, &json, diag);
    r = r ? r : image_parse_config(image, buffer_slice(&json), diag);
    if (r == 0)
        *ret = TAKE(image);
    return r;
}

/* --- without blocking --- */

struct image_request {
    struct loop *loop;
    char *store, *layers;
    struct arena *arena;
    struct image_reference reference;
    image_wanted_fn *wanted;
    bool checks;
    image_ready_fn *on_done;
    void *userdata;
    struct image *image;
    struct diag diag;
    int error;
    bool unpacks; /* layers are missing, or to be looked over */
};

static void request_free(struct image_request *request) {
    if (!request)
        return;
    free(request->store);
    free(request->layers);
    arena_free(request->arena);
    image_unref(request->image);
    free(request);
}
DEFINE_CLEANUP(struct image_request, request_free)

static void request_work(void *userdata) {
    struct image_request *request = userdata;
    request->error = image_resolve(request->store, &request->reference, &request->image, &request->diag);
    bool wants = request->error == 0 && (!request->wanted || request->wanted(request->image));
    request->unpacks = wants && (request->checks || !image_is_unpacked(request->image, request->layers));
}

static void unpack_work(void *userdata) {
    struct image_request *request = userdata;
    if (request->checks)
        (void)image_check(request->image, request->layers);
    request->error = image_unpack(request->image, request->store, request->layers, &request->diag);
}

static void request_done(void *userdata) {
    struct image_request *request = userdata;
    bool unpacks = request->unpacks && request->on_done;
    request->unpacks = false;
    if (unpacks && (request->error = loop_work(request->loop, LOOP_BULK, unpack_work, request_done, request)) == 0)
        return;
    if (request->error < 0 && !request->diag.message[0])
        diag_set(&request->diag, request->error, "%s", strerror(-request->error));
    if (request->on_done)
        request->on_done(request->userdata, request->error == 0 ? request->image : NULL, request->error, &request->diag);
    request_free(request);
}

int image_ensure(struct loop *loop, const struct image_request_options *options, struct image_request **ret) {
    const struct image_reference *reference = options->reference;
    CLEANUP(request_freep) struct image_request *request = calloc(1, sizeof *request);
    if (!request)
        return -ENOMEM;
    request->loop = loop;
    request->store = strdup(options->store);
    request->layers = strdup(options->layers);
    request->arena = arena_new(4 * KIB);
    request->wanted = options->wanted;
    request->checks = options->checks;
    request->on_done = options->on_done;
    request->userdata = options->userdata;
    if (!request->store || !request->layers || !request->arena)
        return -ENOMEM;
    request->reference.repository = arena_strdup(request->arena, reference->repository);
    request->reference.tag = reference->tag ? arena_strdup(request->arena, reference->tag) : NULL;
    request->reference.digest = reference->digest ? arena_strdup(request->arena, reference->digest) : NULL;
    if (!request->reference.repository || (reference->tag && !request->reference.tag) || (reference->digest && !request->reference.digest))
        return -ENOMEM;
    int r = loop_work(loop, LOOP_QUICK, request_work, request_done, request);
    if (r < 0)
        return r;
    *ret = TAKE(request);
    return 0;
}

void image_request_cancel(struct image_request *request) {
    if (request)
        request->on_done = NULL;
}
