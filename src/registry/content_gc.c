/* Garbage collection: mark from what is wanted, sweep the rest.
 *
 * Wanted are: what tags point to, the caller's roots, manifests and blobs younger than the grace period, whatever those manifests name (config,
 * layers, an index's manifests), and manifests whose subject is wanted (signatures, attestations). A manifest that cannot be read or parsed is kept
 * and reaches nothing.
 *
 * Safe beside pushes: a blob's age counts from when it was last written, mounted, asked for with HEAD, or named by an arriving manifest
 * (content_touch_blob), and age check and removal happen under the same lock as the touch. A tag set after marking points to a manifest whose link is
 * young: age is asked for again when the link is swept. What a pull has brought so far is held (content_hold), however long it takes. Runs on a
 * worker thread. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "registry/content_priv.h"
#include "sys/sys.h"

#define RECORD_BYTES_MAX (64 * KIB)

struct collector {
    struct content *content;
    struct arena *arena; /* lists of names */
    struct map *marked;  /* hex → anything */
    VECTOR(struct oci_digest) pending;
    char **repositories;
    size_t repositories_count;
    const char *repository; /* the one being walked */
    const atomic_bool *cancel;
    int64_t oldest_s, partial_oldest_s; /* younger than this is kept */
    bool grown, only_counts;
    struct content_gc_result result;
};

static bool is_held(const struct collector *collector, const char *hex) {
    pthread_mutex_lock(&collector->content->lock);
    bool held = content_is_held(collector->content, hex);
    pthread_mutex_unlock(&collector->content->lock);
    return held;
}

/* Asked before every file that is read or removed. */
static bool is_cancelled(const struct collector *collector) {
    return collector->cancel && atomic_load_explicit(collector->cancel, memory_order_relaxed);
}

static int mark(struct collector *collector, const struct oci_digest *digest, bool is_manifest) {
    struct slice key = slice_make(digest->hex, 64);
    if (map_find(collector->marked, key))
        return 0;
    int r = map_put(collector->marked, key, collector, NULL);
    if (r == 0 && is_manifest)
        r = VECTOR_PUSH(&collector->pending, *digest);
    return r;
}

static bool digest_from_file(const char *file, struct oci_digest *ret) {
    char text[OCI_DIGEST_TEXT + 1]; /* a longer name is cut, and still no digest */
    snprintf(text, sizeof text, "sha256:%s", file);
    return oci_digest_parse(slice_of(text), ret) == 0;
}

/* What is not there is not young; what cannot be told may be. */
static bool is_young(const struct collector *collector, const char *path) {
    struct stat status;
    if (fstatat(collector->content->root_fd, path, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno != ENOENT;
    return status.st_mtim.tv_sec >= collector->oldest_s;
}

/* --- marking --- */

static int mark_reached(struct collector *collector, const struct oci_digest *digest) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX);
    struct oci_manifest manifest;
    if (!arena || is_cancelled(collector))
        return arena ? -ECANCELED : -ENOMEM;
    int r = content_read_blob(collector->content, digest, OCI_MANIFEST_BYTES_MAX, &text);
    if (r == 0)
        r = oci_manifest_parse(arena, buffer_slice(&text), (struct slice){0}, &manifest, NULL);
    if (r < 0) /* what is absent or no manifest reaches nothing; what cannot be read may reach anything */
        return r == -ENOENT || r == -EFBIG || r == -EINVAL || r == -ENOTSUP ? 0 : r;
    r = manifest.has_config ? mark(collector, &manifest.config.digest, false) : 0;
    for (size_t i = 0; r == 0 && i < manifest.count; i++)
        r = mark(collector, &manifest.items[i].digest, manifest.is_index);
    return r;
}

static int mark_pending(struct collector *collector) {
    int r = 0;
    while (r == 0 && collector->pending.count) {
        struct oci_digest digest = collector->pending.items[--collector->pending.count];
        r = mark_reached(collector, &digest);
    }
    return r;
}

static int mark_young_manifest(void *userdata, const char *file) {
    struct collector *collector = userdata;
    struct oci_digest digest;
    if (!digest_from_file(file, &digest))
        return 0;
    bool young = is_young(collector, content_path("repositories/%s/_manifests/%s", collector->repository, file).text);
    return young ? mark(collector, &digest, true) : 0;
}

/* The index by whose digest a pulled image is known (status.imageID): it stays with the image. */
static int mark_origin(struct collector *collector, const struct oci_digest *manifest) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(RECORD_BYTES_MAX + 1);
    struct oci_digest index;
    struct content_path path = content_path("repositories/%s/_pulled/%s", collector->repository, manifest->hex);
    int r = sys_read_file(collector->content->root_fd, path.text, RECORD_BYTES_MAX, &json);
    ptrdiff_t at = r == 0 ? slice_find(buffer_slice(&json), SLICE("@sha256:")) : -1;
    if (at < 0 || oci_digest_parse(slice_head(slice_from(buffer_slice(&json), (size_t)at + 1), OCI_DIGEST_TEXT - 1), &index) < 0)
        return 0;
    return mark(collector, &index, true);
}

static int mark_repository(struct collector *collector) {
    char **tags = NULL;
    size_t count = 0;
    int r = content_list_tags(collector->content, collector->arena, collector->repository, &tags, &count);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    for (size_t i = 0; r == 0 && i < count; i++) {
        struct oci_digest digest;
        r = content_get_tag(collector->content, collector->repository, tags[i], &digest);
        if (r == 0)
            r = mark(collector, &digest, true) ? -ENOMEM : mark_origin(collector, &digest);
        else if (r == -ENOENT || r == -EBADMSG) /* removed meanwhile, or damaged: it keeps nothing */
            r = 0;
    }
    if (r == 0)
        r = content_each_name(collector->content, content_path("repositories/%s/_manifests", collector->repository).text, mark_young_manifest,
                              collector);
    return r;
}

static int mark_referrer(void *userdata, const char *file) {
    struct collector *collector = userdata;
    struct oci_digest digest;
    if (!digest_from_file(file, &digest) || map_find(collector->marked, slice_make(digest.hex, 64)))
        return 0;
    collector->grown = true;
    return mark(collector, &digest, true);
}

static int visit_subject(void *userdata, const char *file) {
    struct collector *collector = userdata;
    if (!map_find(collector->marked, slice_of(file)))
        return 0;
    return content_each_name(collector->content, content_path("repositories/%s/_referrers/%s", collector->repository, file).text, mark_referrer,
                             collector);
}

/* A referrer may have referrers: until nothing is added. */
static int mark_referrers(struct collector *collector) {
    int r = 0;
    do {
        collector->grown = false;
        for (size_t i = 0; r == 0 && i < collector->repositories_count; i++) {
            collector->repository = collector->repositories[i];
            r = content_each_name(collector->content, content_path("repositories/%s/_referrers", collector->repository).text, visit_subject,
                                  collector);
        }
        r = r ? r : mark_pending(collector);
    } while (r == 0 && collector->grown);
    return r;
}

/* --- sweeping --- */

static int sweep_manifest(void *userdata, const char *file) {
    struct collector *collector = userdata;
    struct oci_digest digest;
    if (is_cancelled(collector))
        return -ECANCELED;
    if (!digest_from_file(file, &digest) || map_find(collector->marked, slice_make(digest.hex, 64)) || is_held(collector, digest.hex) ||
        is_young(collector, content_path("repositories/%s/_manifests/%s", collector->repository, file).text))
        return 0;
    int r = content_delete_manifest(collector->content, collector->repository, &digest);
    collector->result.manifests_removed += r == 0;
    return r == -ENOENT ? 0 : r;
}

static int sweep_blob_link(void *userdata, const char *file) {
    struct collector *collector = userdata;
    struct oci_digest digest;
    struct content_path path = content_path("repositories/%s/_blobs/%s", collector->repository, file);
    if (!digest_from_file(file, &digest) || map_find(collector->marked, slice_make(digest.hex, 64)) || is_young(collector, path.text) ||
        is_young(collector, content_path("blobs/sha256/%s", file).text) || is_held(collector, digest.hex))
        return 0;
    return unlinkat(collector->content->root_fd, path.text, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* 1: it stays. The time of its last use is compared under the lock that a use takes. */
static int remove_unless_young(struct collector *collector, const char *file, struct stat *ret_status) {
    struct content *content = collector->content;
    bool marked = map_find(collector->marked, slice_of(file)) != NULL;
    pthread_mutex_lock(&content->lock);
    int r = fstatat(content->blobs_fd, file, ret_status, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    bool stays = r == 0 && (marked || ret_status->st_mtim.tv_sec >= collector->oldest_s || content_is_held(content, file));
    if (r == 0 && !stays && !collector->only_counts && unlinkat(content->blobs_fd, file, 0) < 0)
        r = -errno;
    pthread_mutex_unlock(&content->lock);
    return r ? r : stays;
}

static int sweep_blob(void *userdata, const char *file) {
    struct collector *collector = userdata;
    struct stat status;
    if (is_cancelled(collector))
        return -ECANCELED;
    int r = remove_unless_young(collector, file, &status);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    *(r ? &collector->result.blobs_kept : &collector->result.blobs_removed) += 1;
    *(r ? &collector->result.bytes_kept : &collector->result.bytes_removed) += (uint64_t)status.st_size;
    return 0;
}

static int mark_all(struct collector *collector, const struct content_gc_options *options) {
    int r = content_list_repositories(collector->content, collector->arena, &collector->repositories, &collector->repositories_count);
    for (size_t i = 0; r == 0 && i < options->roots_count; i++)
        r = mark(collector, &options->roots[i], true);
    for (size_t i = 0; r == 0 && i < collector->repositories_count; i++) {
        collector->repository = collector->repositories[i];
        r = mark_repository(collector);
    }
    r = r ? r : mark_pending(collector);
    return r ? r : mark_referrers(collector);
}

static int sweep_all(struct collector *collector) {
    int r = 0;
    for (size_t i = 0; r == 0 && !collector->only_counts && i < collector->repositories_count; i++) {
        collector->repository = collector->repositories[i];
        r = content_each_name(collector->content, content_path("repositories/%s/_manifests", collector->repository).text, sweep_manifest, collector);
        if (r == 0)
            r = content_each_name(collector->content, content_path("repositories/%s/_blobs", collector->repository).text, sweep_blob_link, collector);
    }
    r = r ? r : content_each_name(collector->content, "blobs/sha256", sweep_blob, collector);
    return r ? r : content_sweep_partials(collector->content, collector->partial_oldest_s, &collector->result, collector->only_counts);
}

int content_collect_garbage(struct content *content, const struct content_gc_options *options, struct content_gc_result *ret) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(map_freep) struct map *marked = map_new();
    if (!arena || !marked)
        return -ENOMEM;
    struct collector collector = {.content = content,
                                  .arena = arena,
                                  .marked = marked,
                                  .only_counts = options->only_counts,
                                  .cancel = options->cancel,
                                  .oldest_s = (int64_t)time(NULL) - options->grace_s};
    collector.partial_oldest_s = options->urgent ? collector.oldest_s : (int64_t)time(NULL) - CONTENT_PARTIAL_AGE_S;
    int r = mark_all(&collector, options);
    if (r == 0)
        r = sweep_all(&collector);
    VECTOR_DEINIT(&collector.pending);
    if (r == 0)
        *ret = collector.result;
    return r;
}
