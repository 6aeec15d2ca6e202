/* Blobs that came by halves. A transfer writes its bytes to partial/<hex>-<name's hash> from the first one on, so that a pull that breaks off, by
 * whatever (the process killed, the machine started anew, tries used up), leaves them for the next one.
 *
 * 1. Nothing of it counts: what is there is hashed anew, and the digest of the whole decides. What proves wrong is not kept.
 * 2. One writer for each file (content->partials); it appends only.
 * 3. What nobody writes is bounded in number, bytes and age, and is the first to go when space is needed. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "http/http.h"
#include "registry/content_priv.h"
#include "sys/sys.h"

#define FOLDER "partial"
#define READ_BYTES (256 * KIB)
#define LISTED_MAX 4096

void content_partial_place(const char *name, char ret[CONTENT_PLACE_BYTES]) {
    char hash[65];
    digest_sha256_hex(slice_of(name), hash);
    snprintf(ret, CONTENT_PLACE_BYTES, "%.16s", hash);
}

static struct content_path partial_path(const char *name, const struct oci_digest *digest) {
    char place[CONTENT_PLACE_BYTES];
    content_partial_place(name, place);
    return content_path(FOLDER "/%s-%s", digest->hex, place);
}

/* --- writing --- */

static bool take(struct content *content, const char *path) {
    pthread_mutex_lock(&content->lock);
    bool taken = !map_find(content->partials, slice_of(path)) && map_put(content->partials, slice_of(path), content, NULL) == 0;
    pthread_mutex_unlock(&content->lock);
    return taken;
}

/* What is there, into the digest. */
static int read_again(struct content_writer *writer) {
    CLEANUP(freep) char *bytes = malloc(READ_BYTES);
    if (!bytes)
        return -ENOMEM;
    for (;;) {
        ssize_t n = pread(writer->fd, bytes, READ_BYTES, writer->size_bytes);
        if (n <= 0)
            return n < 0 ? -errno : 0;
        digest_update(writer->digest, slice_make(bytes, (size_t)n));
        writer->size_bytes += n;
    }
}

static int open_partial(struct content_writer *writer) {
    struct stat status;
    writer->digest = digest_new();
    if (!writer->digest)
        return -ENOMEM;
    writer->fd = openat(writer->content->root_fd, writer->path.text, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (writer->fd < 0 || fstat(writer->fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode) || status.st_nlink != 1 || (uint64_t)status.st_size > CONTENT_BLOB_BYTES_MAX)
        return -EBADMSG;
    if (fchmod(writer->fd, 0644) < 0)
        return -errno;
    int r = read_again(writer);
    writer->flushed_bytes = writer->size_bytes;
    if (r == 0 && lseek(writer->fd, writer->size_bytes, SEEK_SET) < 0)
        r = -errno;
    return r;
}

int content_writer_resume(struct content *content, const char *name, const struct oci_digest *digest, struct content_writer **ret) {
    struct content_path path = partial_path(name, digest);
    int r = content_check_free(content);
    if (r < 0)
        return r;
    if (!take(content, path.text))
        return content_writer_new(content, ret);
    CLEANUP(content_writer_freep) struct content_writer *writer = calloc(1, sizeof *writer);
    if (!writer) {
        content_partial_leave(content, path.text);
        return -ENOMEM;
    }
    *writer = (struct content_writer){.content = content, .fd = -1, .is_partial = true, .path = path};
    r = open_partial(writer);
    if (r == 0) {
        *ret = TAKE(writer);
        return 0;
    }
    writer->is_wrong = true;
    content_writer_free(TAKE(writer)); /* with its file, whatever that is */
    return r == -ENOMEM ? r : content_writer_new(content, ret);
}

int64_t content_partial_size(struct content *content, const char *name, const struct oci_digest *digest) {
    struct stat status;
    return fstatat(content->root_fd, partial_path(name, digest).text, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_size : 0;
}

void content_partial_leave(struct content *content, const char *path) {
    struct content_gc_result ignored = {0};
    pthread_mutex_lock(&content->lock);
    map_remove(content->partials, slice_of(path));
    pthread_mutex_unlock(&content->lock);
    (void)content_sweep_partials(content, (int64_t)time(NULL) - CONTENT_PARTIAL_AGE_S, &ignored, false);
}

/* --- sweeping --- */

struct partial {
    struct content_path path;
    struct timespec time;
    uint64_t bytes;
};

struct partials {
    struct content *content;
    VECTOR(struct partial) list;
};

static int add(void *userdata, const char *name) {
    struct partials *partials = userdata;
    struct stat status;
    if (partials->list.count == LISTED_MAX)
        return 0;
    struct partial partial = {.path = content_path(FOLDER "/%s", name)};
    if (fstatat(partials->content->root_fd, partial.path.text, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    partial.time = status.st_mtim;
    partial.bytes = (uint64_t)status.st_size;
    return VECTOR_PUSH(&partials->list, partial);
}

/* The youngest first. */
static int compare(const void *a, const void *b) {
    const struct timespec *left = &((const struct partial *)a)->time, *right = &((const struct partial *)b)->time;
    int order = (left->tv_sec < right->tv_sec) - (left->tv_sec > right->tv_sec);
    return order ? order : (left->tv_nsec < right->tv_nsec) - (left->tv_nsec > right->tv_nsec);
}

static uint64_t bytes_max(struct content *content) {
    struct statvfs space;
    if (fstatvfs(content->blobs_fd, &space) < 0)
        return CONTENT_PARTIALS_BYTES_MAX;
    return MIN(CONTENT_PARTIALS_BYTES_MAX, (uint64_t)space.f_bavail * space.f_frsize / 4);
}

/* False: somebody writes it. Nobody begins to between the look and the removal. */
static bool remove_unless_written(struct content *content, const struct partial *partial, bool only_counts) {
    pthread_mutex_lock(&content->lock);
    bool is_free = !map_find(content->partials, slice_of(partial->path.text));
    if (is_free && !only_counts)
        unlinkat(content->root_fd, partial->path.text, 0);
    pthread_mutex_unlock(&content->lock);
    return is_free;
}

int content_sweep_partials(struct content *content, int64_t oldest_s, struct content_gc_result *into, bool only_counts) {
    struct partials partials = {.content = content};
    uint64_t bytes = 0, count = 0, limit = bytes_max(content);
    int r = content_each_name(content, FOLDER, add, &partials);
    if (partials.list.count)
        qsort(partials.list.items, partials.list.count, sizeof *partials.list.items, compare);
    for (size_t i = 0; r == 0 && i < partials.list.count; i++) {
        const struct partial *partial = &partials.list.items[i];
        bool goes = partial->time.tv_sec < oldest_s || count + 1 > CONTENT_PARTIALS_MAX || bytes + partial->bytes > limit;
        goes = goes && remove_unless_written(content, partial, only_counts);
        count += !goes;
        bytes += goes ? 0 : partial->bytes;
        *(goes ? &into->bytes_removed : &into->bytes_kept) += partial->bytes;
    }
    VECTOR_DEINIT(&partials.list);
    return r;
}
