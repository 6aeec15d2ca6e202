/* The image that build pods run in: folders, the links of a merged /usr, and a dozen small files. Its programs are the host's: the pod mounts the
 * host's /usr read-only. So building images needs no image to be fetched or bootstrapped first, and the builder is as up to date as the host.
 *
 * The bytes are made anew at every start and compared with what is tagged; equal input gives an equal digest, so nothing is written when nothing
 * changed. */
#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <zlib.h>

#include "registry/build_pod_priv.h"
#include "registry/image_priv.h"
#include "registry/registry_priv.h"

#define TAR_BYTES_MAX (256 * KIB)
#define IMAGE_TIME_S 1700000000 /* fixed: the image is a constant */

static const struct item {
    const char *path;
    unsigned mode;    /* of folders and files */
    const char *link; /* target of a symbolic link */
    const char *text; /* contents of a file; NULL with link NULL: a folder */
} items[] = {
    {"usr", 0755, NULL, NULL},
    {"bin", 0777, "usr/bin", NULL},
    {"sbin", 0777, "usr/sbin", NULL},
    {"lib", 0777, "usr/lib", NULL},
    {"lib32", 0777, "usr/lib32", NULL},
    {"lib64", 0777, "usr/lib64", NULL},
    {"libx32", 0777, "usr/libx32", NULL},
    {"dev", 0755, NULL, NULL},
    {"proc", 0555, NULL, NULL},
    {"sys", 0555, NULL, NULL},
    {"run", 0755, NULL, NULL},
    {"tmp", 01777, NULL, NULL},
    {"root", 0700, NULL, NULL},
    {"context", 0755, NULL, NULL},
    {"work", 0755, NULL, NULL},
    {"var", 0755, NULL, NULL},
    {"var/tmp", 01777, NULL, NULL},
    {"var/lib", 0755, NULL, NULL},
    {"var/lib/containers", 0755, NULL, NULL},
    {"etc", 0755, NULL, NULL},
    {"etc/ssl", 0755, NULL, NULL},
    {"etc/passwd", 0644, NULL, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
    {"etc/group", 0644, NULL, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"},
    {"etc/nsswitch.conf", 0644, NULL, "passwd: files\ngroup: files\nhosts: files dns\n"},
    {"etc/subuid", 0644, NULL, "root:100000:65536\n"},
    {"etc/subgid", 0644, NULL, "root:100000:65536\n"},
    {"etc/containers", 0755, NULL, NULL},
    {"etc/containers/policy.json", 0644, NULL, "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n"},
    /* Replaced by the pod's script, which knows the registry's address. */
    {"etc/containers/registries.conf", 0644, NULL, "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"permissive\"\n"},
    {"etc/containers/storage.conf", 0644, NULL,
     "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/var/lib/containers/storage\"\n"},
};

static bool write_item(struct archive *tar, const struct item *item) {
    struct archive_entry *entry = archive_entry_new();
    if (!entry)
        return false;
    archive_entry_set_pathname(entry, item->path);
    archive_entry_set_mode(entry, (item->link ? AE_IFLNK : item->text ? AE_IFREG : AE_IFDIR) | item->mode);
    archive_entry_set_size(entry, item->text ? (int64_t)strlen(item->text) : 0);
    archive_entry_set_mtime(entry, IMAGE_TIME_S, 0);
    if (item->link)
        archive_entry_set_symlink(entry, item->link);
    bool good = archive_write_header(tar, entry) == ARCHIVE_OK;
    if (good && item->text && *item->text)
        good = archive_write_data(tar, item->text, strlen(item->text)) == (la_ssize_t)strlen(item->text);
    archive_entry_free(entry);
    return good;
}

/* The layer as an uncompressed tar of *ret_len bytes in `bytes` (TAR_BYTES_MAX). */
static bool make_tar(char *bytes, size_t *ret_len) {
    struct archive *tar = archive_write_new();
    if (!tar)
        return false;
    bool good = archive_write_set_format_ustar(tar) == ARCHIVE_OK && archive_write_open_memory(tar, bytes, TAR_BYTES_MAX, ret_len) == ARCHIVE_OK;
    for (size_t i = 0; good && i < ARRAY_LEN(items); i++)
        good = write_item(tar, &items[i]);
    good = archive_write_close(tar) == ARCHIVE_OK && good;
    archive_write_free(tar);
    return good;
}

/* gzip with an empty header: no name, no time. */
static bool compress_gzip(struct slice in, struct buffer *out) {
    z_stream stream = {0};
    if (deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    size_t bound = deflateBound(&stream, in.len);
    bool good = buffer_reserve(out, bound) == 0;
    if (good) {
        stream.next_in = (unsigned char *)(uintptr_t)in.data;
        stream.avail_in = (unsigned)in.len;
        stream.next_out = (unsigned char *)out->data + out->len;
        stream.avail_out = (unsigned)bound;
        good = deflate(&stream, Z_FINISH) == Z_STREAM_END;
        buffer_commit(out, bound - stream.avail_out);
    }
    deflateEnd(&stream);
    return good;
}

static int make_layer(struct buffer *layer, struct image_facts *facts) {
    CLEANUP(freep) char *tar = malloc(TAR_BYTES_MAX);
    size_t length = 0;
    if (!tar || !make_tar(tar, &length) || !compress_gzip(slice_make(tar, length), layer))
        return -ENOMEM;
    digest_sha256_hex(slice_make(tar, length), facts->layer_diff.hex);
    digest_sha256_hex(buffer_slice(layer), facts->layer.hex);
    facts->layer_size_bytes = (int64_t)layer->len;
    return 0;
}

int registry_ensure_builder_image(struct registry *registry) {
    struct content *content = registry->content;
    CLEANUP(buffer_deinit)
    struct buffer layer = BUFFER_INIT(TAR_BYTES_MAX), config = BUFFER_INIT(IMAGE_DOCUMENT_BYTES_MAX),
                  manifest = BUFFER_INIT(IMAGE_DOCUMENT_BYTES_MAX);
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    static const char *const command[] = {"/bin/sh", NULL};
    struct image_facts facts = {.command = command, .created_by = "tidemill: builder image", .created_s = IMAGE_TIME_S};
    struct oci_manifest parsed;
    struct oci_digest wanted, found, digest;
    int r = arena ? make_layer(&layer, &facts) : -ENOMEM;
    r = r ? r : image_format_config(&config, &facts);
    r = r ? r : image_format_manifest(&manifest, &facts, buffer_slice(&config));
    if (r < 0)
        return r;
    digest_sha256_hex(buffer_slice(&manifest), wanted.hex);
    if (content_get_tag(content, BUILDER_IMAGE_NAME, BUILDER_IMAGE_VERSION, &found) == 0 && oci_digest_equal(&wanted, &found) &&
        content_touch_blob(content, &wanted) == 0 && content_touch_blob(content, &facts.layer) == 0)
        return 0;
    r = content_write_blob(content, buffer_slice(&layer), &digest);
    r = r ? r : content_link(content, BUILDER_IMAGE_NAME, CONTENT_LINK_BLOB, &digest, (struct slice){0});
    r = r ? r : content_write_blob(content, buffer_slice(&config), &digest);
    r = r ? r : content_link(content, BUILDER_IMAGE_NAME, CONTENT_LINK_BLOB, &digest, (struct slice){0});
    r = r ? r : oci_manifest_parse(arena, buffer_slice(&manifest), (struct slice){0}, &parsed, NULL);
    return r ? r : content_put_manifest(content, BUILDER_IMAGE_NAME, BUILDER_IMAGE_VERSION, buffer_slice(&manifest), &parsed, &digest);
}
