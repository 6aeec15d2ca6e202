/* What the registry holds, for people. What uses an image is read from the store on the loop; manifests and configurations are read from disk on a
 * worker thread. How much would be free after a cleaning is found by a cleaning that removes nothing. */
#include "core/image_api_priv.h"

#include <stdio.h>

#include "core/images_priv.h"

#define PREFIX "/tidemill/v1/images"
#define IMAGES_MAX 100000
#define CONFIG_BYTES_MAX (4 * MIB)
#define GRACE_S 60 /* as a cleaning that somebody asks for in a quiet moment */

struct listing {
    struct http_exchange *exchange; /* NULL: it has gone */
    struct content *content;
    struct arena *arena;
    struct images_used used;
    struct tree *list;
    size_t *listings; /* with a worker */
    bool working;
    int error;
};

static void listing_free(struct listing *listing) {
    if (listing->working || listing->exchange)
        return;
    images_used_deinit(&listing->used);
    arena_free(listing->arena);
    free(listing);
}

static void on_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)exchange;
    (void)complete;
    struct listing *listing = userdata;
    listing->exchange = NULL;
    listing_free(listing);
}

static void respond_tree(struct http_exchange *exchange, const struct tree *tree) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * MIB);
    if (!tree || json_format(&out, tree) || buffer_append_byte(&out, '\n'))
        http_respond_text(exchange, 500, "no memory\n");
    else
        http_respond(exchange, 200, "application/json", buffer_slice(&out), NULL);
}

/* --- the list --- */

/* size: what its blobs take, though others may share them. */
static void describe(struct listing *listing, const struct oci_digest *digest, struct tree *image) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX + 1), config = BUFFER_INIT(CONFIG_BYTES_MAX + 1);
    struct oci_manifest manifest;
    struct tree *root = NULL;
    if (!arena || content_read_blob(listing->content, digest, OCI_MANIFEST_BYTES_MAX, &bytes) < 0 ||
        oci_manifest_parse(arena, buffer_slice(&bytes), (struct slice){0}, &manifest, NULL) < 0 || manifest.is_index)
        return;
    int64_t size = (int64_t)bytes.len + manifest.config.size_bytes;
    for (size_t i = 0; i < manifest.count; i++)
        size += manifest.items[i].size_bytes;
    tree_set(listing->arena, image, SLICE("sizeBytes"), tree_int(listing->arena, size));
    if (content_read_blob(listing->content, &manifest.config.digest, CONFIG_BYTES_MAX, &config) == 0 &&
        json_parse(arena, buffer_slice(&config), &(struct json_options){.allow_duplicates = true}, &root, NULL) == 0)
        tree_set_text(listing->arena, image, "createdAt", tree_text_or(tree_find(root, "created"), ""));
}

static int add_tag(struct listing *listing, const char *name, const char *tag) {
    struct arena *arena = listing->arena;
    struct oci_digest digest;
    char text[OCI_DIGEST_TEXT], time[TIMESTAMP_BYTES];
    int64_t time_ns;
    if (content_get_tag(listing->content, name, tag, &digest) < 0)
        return 0; /* removed meanwhile */
    struct tree *image = tree_map(arena);
    const char *user = images_used_by(&listing->used, name, tag, &digest);
    const char *origin = pulled_origin(listing->content, arena, name, &digest);
    tree_set_text(arena, image, "name", name);
    tree_set_text(arena, image, "tag", tag);
    tree_set_text(arena, image, "digest", oci_digest_format(&digest, text));
    if (content_get_tag_time(listing->content, name, tag, &time_ns) == 0) {
        timestamp_format(time_ns, time);
        tree_set_text(arena, image, "taggedAt", time);
    }
    describe(listing, &digest, image);
    if (origin)
        tree_set_text(arena, image, "pulledFrom", origin);
    if (user)
        tree_set_text(arena, image, "usedBy", user);
    return tree_push(arena, listing->list, image);
}

static int add_repository(struct listing *listing, const char *name) {
    char **tags = NULL;
    size_t count = 0;
    int r = content_list_tags(listing->content, listing->arena, name, &tags, &count);
    for (size_t i = 0; r == 0 && i < count && tree_count(listing->list) < IMAGES_MAX; i++)
        r = add_tag(listing, name, tags[i]);
    return r == -ENOENT ? 0 : r;
}

static void list_work(void *userdata) {
    struct listing *listing = userdata;
    char **names = NULL;
    size_t count = 0;
    int r = content_list_repositories(listing->content, listing->arena, &names, &count);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = add_repository(listing, names[i]);
    listing->error = r;
}

static void list_done(void *userdata) {
    struct listing *listing = userdata;
    listing->working = false;
    --*listing->listings;
    if (listing->exchange && listing->error)
        http_respond_text(listing->exchange, 500, "the registry cannot be read\n");
    else if (listing->exchange)
        respond_tree(listing->exchange, listing->list);
    else
        listing_free(listing);
}

static struct listing *listing_new(struct store *store, struct registry *registry, struct http_exchange *exchange) {
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing)
        return NULL;
    listing->content = registry_content(registry);
    listing->arena = arena_new(TREE_BYTES_MAX);
    listing->list = listing->arena ? tree_list(listing->arena) : NULL;
    int r = listing->list ? images_used_init(&listing->used, listing->arena) : -ENOMEM;
    r = r ? r : images_used_collect(&listing->used, store);
    if (r < 0) {
        listing_free(listing);
        return NULL;
    }
    listing->exchange = exchange;
    http_on_close(exchange, on_close, listing);
    return listing;
}

static void serve_list(struct loop *loop, struct listing *listing, size_t *listings) {
    listing->working = true;
    listing->listings = listings;
    ++*listings;
    if (loop_work(loop, LOOP_BULK, list_work, list_done, listing) == 0)
        return;
    listing->error = -ENOMEM;
    list_done(listing);
}

/* --- what could be freed --- */

static void on_counted(void *userdata, int error, const struct content_gc_result *result) {
    struct listing *listing = userdata;
    struct arena *arena = listing->arena;
    struct tree *tree = tree_map(arena);
    listing->working = false;
    if (!listing->exchange)
        return listing_free(listing);
    if (error)
        return http_respond_text(listing->exchange, 500, "the registry cannot be read\n");
    tree_set(arena, tree, SLICE("blobs"), tree_int(arena, (int64_t)(result->blobs_kept + result->blobs_removed)));
    tree_set(arena, tree, SLICE("bytes"), tree_int(arena, (int64_t)(result->bytes_kept + result->bytes_removed)));
    tree_set(arena, tree, SLICE("reclaimableBytes"), tree_int(arena, (int64_t)result->bytes_removed));
    respond_tree(listing->exchange, tree);
}

static void serve_df(struct registry *registry, struct listing *listing) {
    const struct content_gc_options options = {
        .roots = listing->used.digests_list.items, .roots_count = listing->used.digests_list.count, .grace_s = GRACE_S, .only_counts = true};
    listing->working = true;
    int r = registry_collect_garbage(registry, &options, on_counted, listing);
    if (r == 0)
        return;
    listing->working = false;
    http_respond_text(listing->exchange, r == -EBUSY ? 409 : 500,
                      r == -EBUSY ? "the registry is being cleaned: ask again in a moment\n" : "no memory\n");
}

bool image_api_handle(struct loop *loop, struct store *store, struct registry *registry, size_t *listings, struct http_exchange *exchange) {
    struct slice path = http_path(exchange);
    bool is_df = slice_is(path, PREFIX "/df");
    if (!slice_is(http_method(exchange), "GET") || (!is_df && !slice_is(path, PREFIX)))
        return false;
    struct listing *listing = listing_new(store, registry, exchange);
    if (!listing)
        http_respond_text(exchange, 503, "no memory\n");
    else if (is_df)
        serve_df(registry, listing);
    else
        serve_list(loop, listing, listings);
    return true;
}
