/* The content store: blobs by digest, and which repository knows which. Files only, readable by other processes:
 *
 *   <root>/blobs/sha256/<hex>                         immutable, 0644; appears whole or not at all
 *   <root>/repositories/<name>/tags/<tag>             "sha256:<hex>\n" of a manifest
 *   <root>/repositories/<name>/_manifests/<hex>       the manifest's media type: this repository has it
 *   <root>/repositories/<name>/_blobs/<hex>           this repository has that blob; empty: and shows it; "private HOST": it came by credentials
 * only, from there <root>/repositories/<name>/_pulled/<hex>          where a manifest came from, see pulled.h
 *   <root>/repositories/<name>/_referrers/<hex>/<hex> descriptor (JSON) of a manifest whose subject is the first digest
 *   <root>/uploads/<random>                           being written; emptied when the store is opened
 *   <root>/partial/<hex>-<name's hash>                the beginning of a blob, of a pull of that name; it only grows, until it is renamed into blobs/
 *
 * No state in memory but the folder's descriptor and a lock, so every function may be called from any thread. All of them block on the disk. */
#ifndef TIDEMILL_REGISTRY_CONTENT_H
#define TIDEMILL_REGISTRY_CONTENT_H

#include <stdatomic.h>

#include "registry/oci.h"

#define CONTENT_BLOB_BYTES_MAX (16 * GIB) /* one blob */

struct content;

/* Creates the folders. One process may write (lock file; -EBUSY names it); `bytes_free_min` of disk space are left to others (0: 64 MiB). */
int content_open(const char *root, uint64_t bytes_free_min, struct content **ret, struct diag *diag);
/* NULL is fine. */
void content_close(struct content *content);
DEFINE_CLEANUP(struct content, content_close)

/* --- blobs --- */
/* A descriptor for reading and the size; -ENOENT. */
int content_open_blob(struct content *content, const struct oci_digest *digest, int64_t *ret_size_bytes);
/* 0 when the blob is there, and its grace period starts anew; -ENOENT. */
int content_touch_blob(struct content *content, const struct oci_digest *digest);
/* Reads all of it. 0 when it is what its name says; -EBADMSG when not: then it is gone. -ENOENT. */
int content_check_blob(struct content *content, const struct oci_digest *digest);
/* While it is held, a digest (a blob's, or a manifest's with its links) is garbage to nobody: what a long transfer has brought so far. Counted. 0 or
 * -ENOMEM. */
int content_hold(struct content *content, const struct oci_digest *digest);
void content_release(struct content *content, const struct oci_digest *digest);
/* Before blobs of so many bytes come: 0, or -ENOSPC when they would leave less of the disk free than a twentieth (or bytes_free_min). */
int content_check_space(struct content *content, uint64_t bytes);
/* The whole blob, at most bytes_max. */
int content_read_blob(struct content *content, const struct oci_digest *digest, size_t bytes_max, struct buffer *out);

/* A blob on its way in: hashed while it is written, and renamed into place only when it is complete and on the disk. */
struct content_writer;
int content_writer_new(struct content *content, struct content_writer **ret);
/* Gives up what was not committed. NULL is fine. */
void content_writer_free(struct content_writer *writer);
DEFINE_CLEANUP(struct content_writer, content_writer_free)
/* The same for a blob with that digest that comes from elsewhere for the repository `name`, and what an earlier one has brought of it is in already:
 * what is not committed stays for the next, unless it is small, for CONTENT_PARTIAL_AGE_S, until there is too much of it (CONTENT_PARTIALS_MAX files;
 * a quarter of the free space, at most CONTENT_PARTIALS_BYTES_MAX). For that repository alone, whose registry is asked for the rest: by guessing the
 * end of what another one has begun nobody gets it. While one is open a second begins from nothing. Blocks on reading what there is. */
#define CONTENT_PARTIAL_BYTES_MIN (int64_t)(64 * KIB)
#define CONTENT_PARTIAL_AGE_S (24 * 3600)
#define CONTENT_PARTIALS_MAX 32
#define CONTENT_PARTIALS_BYTES_MAX (16 * GIB)
int content_writer_resume(struct content *content, const char *name, const struct oci_digest *digest, struct content_writer **ret);
/* What the name of such a file ends in, behind its digest and a '-'. */
#define CONTENT_PLACE_BYTES 17
void content_partial_place(const char *name, char ret[CONTENT_PLACE_BYTES]);
/* How much of it is here; 0: nothing. */
int64_t content_partial_size(struct content *content, const char *name, const struct oci_digest *digest);
/* What it has is wrong: nothing of it stays. */
void content_writer_reject(struct content_writer *writer);
/* 0; -EFBIG beyond CONTENT_BLOB_BYTES_MAX; -ENOSPC when the disk is (nearly) full; others. Nothing of a failed piece is kept. */
int content_writer_append(struct content_writer *writer, struct slice bytes);
int64_t content_writer_size(const struct content_writer *writer);
/* fsync, then rename. -EBADMSG when `expected` (may be NULL) is not what was written. The writer takes no more bytes afterwards, whatever comes of
 * it; free it. */
int content_writer_commit(struct content_writer *writer, const struct oci_digest *expected, struct oci_digest *ret);
/* Both in one, for small blobs. */
int content_write_blob(struct content *content, struct slice bytes, struct oci_digest *ret);

/* --- repositories: names and tags must have been checked with oci_name_is_valid and oci_tag_is_valid --- */
enum content_link { CONTENT_LINK_MANIFEST, CONTENT_LINK_BLOB };
/* 0 when the repository exists; -ENOENT. */
int content_find_repository(struct content *content, const char *name);
int content_link(struct content *content, const char *name, enum content_link kind, const struct oci_digest *digest, struct slice text);
/* 0 when the link is there; its text (a manifest's media type) is appended to `out`, which may be NULL; -ENOENT. */
int content_find_link(struct content *content, const char *name, enum content_link kind, const struct oci_digest *digest, struct buffer *out);
/* A blob's link that shows it to nobody, with the registry that gave it. One that is there stays what it is; content_link makes one that shows. */
int content_link_private(struct content *content, const char *name, const struct oci_digest *digest, const char *registry);
/* Is there such a link of that registry, in whatever repository? Looks into all. */
bool content_came_from(struct content *content, const struct oci_digest *digest, const char *registry);
/* Has the repository that blob, and shows it? */
bool content_is_shown(struct content *content, const char *name, const struct oci_digest *digest);
/* Does any repository? Looks into all. */
bool content_is_shown_anywhere(struct content *content, const struct oci_digest *digest);
int content_unlink(struct content *content, const char *name, enum content_link kind, const struct oci_digest *digest);
/* Stores manifest bytes that were parsed before: blob, link, referrers' entry, and the tag last (empty: none). */
int content_put_manifest(struct content *content, const char *name, const char *tag, struct slice bytes, const struct oci_manifest *manifest,
                         struct oci_digest *ret);
/* Removes the link, every tag that points to the manifest and its referrers' entry. -ENOENT. */
int content_delete_manifest(struct content *content, const char *name, const struct oci_digest *digest);

int content_set_tag(struct content *content, const char *name, const char *tag, const struct oci_digest *digest);
/* -ENOENT; -EBADMSG when the file is damaged. */
int content_get_tag(struct content *content, const char *name, const char *tag, struct oci_digest *ret);
/* When the tag was last set, in nanoseconds since 1970; -ENOENT. */
int content_get_tag_time(struct content *content, const char *name, const char *tag, int64_t *ret_ns);
int content_delete_tag(struct content *content, const char *name, const char *tag);
/* Sorted, in the arena; -ENOENT when there is no such repository. */
int content_list_tags(struct content *content, struct arena *arena, const char *name, char ***ret, size_t *ret_count);
/* Sorted names of all repositories, in the arena. */
int content_list_repositories(struct content *content, struct arena *arena, char ***ret, size_t *ret_count);
/* Descriptors (JSON trees) of the manifests whose subject is `subject`; none is no error. */
int content_list_referrers(struct content *content, struct arena *arena, const char *name, const struct oci_digest *subject, struct tree **ret);

/* --- cleaning --- */
struct content_gc_options {
    const struct oci_digest *roots; /* manifests that are in use though no tag points to them */
    size_t roots_count;
    const atomic_bool *cancel; /* becomes true: give up with -ECANCELED; NULL: never */
    bool only_counts;          /* removes nothing, and says what would go */
    bool urgent;               /* space is needed: what was only begun goes as well */
    int64_t grace_s;           /* blobs and links younger than this stay: an image that is just being pushed has no tag yet */
};
struct content_gc_result {
    uint64_t blobs_kept, blobs_removed, bytes_kept, bytes_removed, manifests_removed;
};
/* Keeps what tags, roots and young manifests reach (and manifests whose subject is kept), removes the rest. Safe beside pushes and reads. */
int content_collect_garbage(struct content *content, const struct content_gc_options *options, struct content_gc_result *ret);

#endif
