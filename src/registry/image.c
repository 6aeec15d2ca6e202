/* The config and manifest of a one-layer image (OCI image-spec 1.1). Equal facts give equal bytes, so importing the same root filesystem twice stores
 * nothing new. */
#include "registry/image_priv.h"

#include "http/http.h"
#include "sys/sys.h"

static const char *const default_environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};

/* Nodes that could not be made are NULL, which tree_set and tree_push report; a document is built first and checked once. */
struct maker {
    struct arena *arena;
    int error;
};

static void set(struct maker *maker, struct tree *map, const char *key, struct tree *value) {
    int r = map ? tree_set(maker->arena, map, slice_of(key), value) : -ENOMEM;
    maker->error = maker->error ? maker->error : r;
}

static void set_text(struct maker *maker, struct tree *map, const char *key, const char *value) {
    set(maker, map, key, tree_text(maker->arena, value));
}

static void push(struct maker *maker, struct tree *list, struct tree *value) {
    int r = list ? tree_push(maker->arena, list, value) : -ENOMEM;
    maker->error = maker->error ? maker->error : r;
}

static struct tree *texts(struct maker *maker, const char *const *items) {
    struct tree *list = tree_list(maker->arena);
    for (size_t i = 0; items[i]; i++)
        push(maker, list, tree_text(maker->arena, items[i]));
    return list;
}

static struct tree *digest_node(struct maker *maker, const struct oci_digest *digest) {
    char text[OCI_DIGEST_TEXT];
    return tree_text(maker->arena, oci_digest_format(digest, text));
}

static struct tree *descriptor(struct maker *maker, const char *media_type, const struct oci_digest *digest, int64_t size_bytes) {
    struct tree *node = tree_map(maker->arena);
    set_text(maker, node, "mediaType", media_type);
    set(maker, node, "digest", digest_node(maker, digest));
    set(maker, node, "size", tree_int(maker->arena, size_bytes));
    return node;
}

static int write_out(struct maker *maker, struct buffer *out, const struct tree *root) {
    return maker->error ? maker->error : json_format(out, root);
}

int image_format_config(struct buffer *out, const struct image_facts *facts) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(IMAGE_DOCUMENT_BYTES_MAX);
    struct maker maker = {.arena = arena};
    char created[TIMESTAMP_BYTES];
    if (!arena)
        return -ENOMEM;
    timestamp_format(facts->created_s * 1000000000, created);
    struct tree *root = tree_map(arena), *run = tree_map(arena), *rootfs = tree_map(arena), *diffs = tree_list(arena), *history = tree_list(arena),
                *step = tree_map(arena);
    set_text(&maker, root, "created", created);
    set_text(&maker, root, "architecture", sys_architecture(NULL));
    set_text(&maker, root, "os", "linux");
    set(&maker, run, "Env", texts(&maker, facts->environment ? facts->environment : default_environment));
    if (facts->command)
        set(&maker, run, "Cmd", texts(&maker, facts->command));
    set(&maker, root, "config", run);
    set_text(&maker, rootfs, "type", "layers");
    push(&maker, diffs, digest_node(&maker, &facts->layer_diff));
    set(&maker, rootfs, "diff_ids", diffs);
    set(&maker, root, "rootfs", rootfs);
    set_text(&maker, step, "created", created);
    set_text(&maker, step, "created_by", facts->created_by);
    push(&maker, history, step);
    set(&maker, root, "history", history);
    return write_out(&maker, out, root);
}

int image_format_manifest(struct buffer *out, const struct image_facts *facts, struct slice config) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(IMAGE_DOCUMENT_BYTES_MAX);
    struct maker maker = {.arena = arena};
    struct oci_digest config_digest;
    char created[TIMESTAMP_BYTES];
    if (!arena)
        return -ENOMEM;
    digest_sha256_hex(config, config_digest.hex);
    timestamp_format(facts->created_s * 1000000000, created);
    struct tree *root = tree_map(arena), *layers = tree_list(arena), *annotations = tree_map(arena);
    set(&maker, root, "schemaVersion", tree_int(arena, 2));
    set_text(&maker, root, "mediaType", OCI_TYPE_MANIFEST);
    set(&maker, root, "config", descriptor(&maker, OCI_TYPE_CONFIG, &config_digest, (int64_t)config.len));
    push(&maker, layers, descriptor(&maker, OCI_TYPE_LAYER_GZIP, &facts->layer, facts->layer_size_bytes));
    set(&maker, root, "layers", layers);
    set_text(&maker, annotations, IMAGE_ANNOTATION_CREATED, created);
    if (facts->annotation)
        set_text(&maker, annotations, IMAGE_ANNOTATION_SOURCE, facts->annotation);
    set(&maker, root, "annotations", annotations);
    return write_out(&maker, out, root);
}
