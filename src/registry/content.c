/* Blobs: the content-addressed half of the store.
 *
 * 1. A file beneath blobs/ is complete, durable and has the digest that is its name: it is written under uploads/, hashed on the way, synced, then
 * renamed.
 * 2. It never changes afterwards (0644; nobody opens it for writing), so readers in other processes need no lock.
 * 3. Its modification time is when it was last wanted by a push: garbage collection leaves the young alone. Touching and removing exclude each other
 * by `lock`; without it a blob could vanish between a client's "do you have it?" and the manifest that names it.
 * 4. Writing starts the kernel's write-back early (every WRITEBACK_BYTES), so that the fsync at the end of a large layer has little left to do and
 * the disk's queue stays short for the database beside us.
 * 5. What a transfer from elsewhere has brought so far outlives it (content_partial.c).
 * 6. The last bytes_free_min of the disk are refused to blobs: a large push must not be what stops the database.
 *
 * Rejected: one folder per two hex digits (ext4 and xfs index folders; the node opens paths by name only). */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "http/http.h"
#include "registry/content_priv.h"
#include "sys/sys.h"

#define FREE_BYTES_MIN_DEFAULT (64 * MIB)
#define WRITEBACK_BYTES (8 * MIB)
#define CHECK_BYTES (256 * KIB)

struct content_path content_path(const char *format, ...) {
    struct content_path path;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(path.text, sizeof path.text, format, args);
    va_end(args);
    ASSERT(length > 0 && (size_t)length < sizeof path.text);
    return path;
}

/* --- opening --- */

int content_make_parents(struct content *content, const char *path) {
    struct content_path copy = content_path("%s", path);
    for (char *slash = strchr(copy.text, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdirat(content->root_fd, copy.text, 0755) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

int content_write_file(struct content *content, const char *path, struct slice bytes) {
    int r = content_make_parents(content, path);
    return r < 0 ? r : sys_write_file(content->root_fd, path, bytes, 0644);
}

static int open_folders(struct content *content, const char *root, struct diag *diag) {
    int r = sys_mkdirs(root, 0755);
    if (r < 0)
        return diag_set(diag, r, "cannot create the registry's folder %s: %s", root, strerror(-r));
    content->root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (content->root_fd < 0)
        return diag_set(diag, -errno, "cannot open the registry's folder %s: %s", root, strerror(errno));
    struct content_path lock_path = content_path("%s/lock", root);
    content->lock_fd = sys_lock_file(lock_path.text);
    if (content->lock_fd < 0)
        return diag_set(diag, content->lock_fd, "%s: %s", lock_path.text,
                        content->lock_fd == -EBUSY ? "another process writes to this registry" : strerror(-content->lock_fd));
    r = sys_remove_tree(content->root_fd, "uploads");
    if (r == 0)
        r = content_make_parents(content, "uploads/x");
    if (r == 0)
        r = content_make_parents(content, "repositories/x");
    if (r == 0)
        r = content_make_parents(content, "blobs/sha256/x");
    if (r == 0)
        r = content_make_parents(content, "partial/x");
    if (r < 0)
        return diag_set(diag, r, "cannot prepare the registry's folder %s: %s", root, strerror(-r));
    content->blobs_fd = openat(content->root_fd, "blobs/sha256", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (content->blobs_fd < 0)
        return diag_set(diag, -errno, "cannot open %s/blobs/sha256: %s", root, strerror(errno));
    (void)content_sweep_partials(content, (int64_t)time(NULL) - CONTENT_PARTIAL_AGE_S, &(struct content_gc_result){0}, false);
    return 0;
}

int content_open(const char *root, uint64_t bytes_free_min, struct content **ret, struct diag *diag) {
    struct content *content = calloc(1, sizeof *content);
    if (!content)
        return diag_set(diag, -ENOMEM, "out of memory");
    content->root_fd = content->blobs_fd = content->lock_fd = -1;
    content->bytes_free_min = bytes_free_min ? bytes_free_min : FREE_BYTES_MIN_DEFAULT;
    pthread_mutex_init(&content->lock, NULL);
    content->held = map_new();
    content->partials = map_new();
    int r = !content->held || !content->partials  ? diag_set(diag, -ENOMEM, "out of memory")
            : strlen(root) + 8 > CONTENT_PATH_MAX ? diag_set(diag, -ENAMETOOLONG, "the registry's path is too long")
                                                  : open_folders(content, root, diag);
    if (r < 0) {
        content_close(content);
        return r;
    }
    *ret = content;
    return 0;
}

void content_close(struct content *content) {
    if (!content)
        return;
    fd_closep(&content->root_fd);
    fd_closep(&content->blobs_fd);
    fd_closep(&content->lock_fd);
    pthread_mutex_destroy(&content->lock);
    map_free(content->held);
    map_free(content->partials);
    free(content);
}

int content_each_name(struct content *content, const char *path, int (*each)(void *userdata, const char *name), void *userdata) {
    int fd = openat(content->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    DIR *folder = fdopendir(fd);
    if (!folder) {
        close(fd);
        return -ENOMEM;
    }
    int r = 0;
    while (r == 0) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry) {
            r = -errno; /* half a listing would make garbage of the rest */
            break;
        }
        if (entry->d_name[0] != '.')
            r = each(userdata, entry->d_name);
    }
    closedir(folder);
    return r;
}

/* --- reading --- */

int content_open_blob(struct content *content, const struct oci_digest *digest, int64_t *ret_size_bytes) {
    CLEANUP(fd_closep) int fd = openat(content->blobs_fd, digest->hex, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    *ret_size_bytes = status.st_size;
    return TAKE_FD(fd);
}

int content_touch_blob(struct content *content, const struct oci_digest *digest) {
    pthread_mutex_lock(&content->lock);
    int r = utimensat(content->blobs_fd, digest->hex, NULL, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    pthread_mutex_unlock(&content->lock);
    return r;
}

int content_check_blob(struct content *content, const struct oci_digest *digest) {
    CLEANUP(freep) char *bytes = malloc(CHECK_BYTES);
    CLEANUP(digest_freep) struct digest *found = digest_new();
    struct oci_digest result;
    int64_t size;
    CLEANUP(fd_closep) int fd = content_open_blob(content, digest, &size);
    if (fd < 0 || !bytes || !found)
        return fd < 0 ? fd : -ENOMEM;
    ssize_t n;
    while ((n = read(fd, bytes, CHECK_BYTES)) > 0)
        digest_update(found, slice_make(bytes, (size_t)n));
    if (n < 0 && errno != EIO)
        return -errno;
    digest_finish_hex(found, result.hex);
    if (n == 0 && oci_digest_equal(digest, &result))
        return 0;
    unlinkat(content->blobs_fd, digest->hex, 0);
    return -EBADMSG;
}

bool content_is_held(const struct content *content, const char *hex) {
    return map_find(content->held, slice_of(hex)) != NULL;
}

static int count_hold(struct content *content, const struct oci_digest *digest, intptr_t by) {
    struct slice key = slice_make(digest->hex, 64);
    pthread_mutex_lock(&content->lock);
    intptr_t count = (intptr_t)map_find(content->held, key) + by;
    int r = 0;
    if (count > 0)
        r = map_put(content->held, key, (void *)count, NULL);
    else
        map_remove(content->held, key);
    pthread_mutex_unlock(&content->lock);
    return r;
}

int content_hold(struct content *content, const struct oci_digest *digest) {
    return count_hold(content, digest, 1);
}

void content_release(struct content *content, const struct oci_digest *digest) {
    (void)count_hold(content, digest, -1);
}

int content_read_blob(struct content *content, const struct oci_digest *digest, size_t bytes_max, struct buffer *out) {
    return sys_read_file(content->blobs_fd, digest->hex, bytes_max, out);
}

/* --- writing --- */

int content_check_free(struct content *content) {
    struct statvfs space;
    if (fstatvfs(content->blobs_fd, &space) < 0)
        return 0; /* unknown: the write itself will tell */
    return (uint64_t)space.f_bavail * space.f_frsize < content->bytes_free_min ? -ENOSPC : 0;
}

int content_check_space(struct content *content, uint64_t bytes) {
    struct statvfs space;
    if (bytes == 0 || fstatvfs(content->blobs_fd, &space) < 0)
        return 0;
    uint64_t free = (uint64_t)space.f_bavail * space.f_frsize, kept = MAX(content->bytes_free_min, (uint64_t)space.f_blocks * space.f_frsize / 20);
    return free < kept || free - kept < bytes ? -ENOSPC : 0;
}

int content_writer_new(struct content *content, struct content_writer **ret) {
    int r = content_check_free(content);
    if (r < 0)
        return r;
    CLEANUP(content_writer_freep) struct content_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return -ENOMEM;
    char random[25];
    sys_random_name(random, sizeof random - 1);
    *writer = (struct content_writer){.content = content, .fd = -1, .placed = true, .path = content_path("uploads/%s", random)};
    writer->digest = digest_new();
    if (!writer->digest)
        return -ENOMEM;
    writer->fd = openat(content->root_fd, writer->path.text, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (writer->fd < 0)
        return -errno;
    writer->placed = false;
    if (fchmod(writer->fd, 0644) < 0) /* whatever the umask */
        return -errno;
    *ret = TAKE(writer);
    return 0;
}

void content_writer_free(struct content_writer *writer) {
    if (!writer)
        return;
    bool stays = writer->is_partial && !writer->is_wrong && writer->size_bytes >= CONTENT_PARTIAL_BYTES_MIN;
    fd_closep(&writer->fd);
    if (!writer->placed && !stays)
        unlinkat(writer->content->root_fd, writer->path.text, 0);
    if (writer->is_partial)
        content_partial_leave(writer->content, writer->path.text);
    digest_free(writer->digest);
    free(writer);
}

void content_writer_reject(struct content_writer *writer) {
    writer->is_wrong = true;
}

int64_t content_writer_size(const struct content_writer *writer) {
    return writer->size_bytes;
}

int content_writer_append(struct content_writer *writer, struct slice bytes) {
    ASSERT(writer->fd >= 0);
    if (writer->is_wrong)
        return -EIO;
    if (bytes.len > CONTENT_BLOB_BYTES_MAX - (size_t)writer->size_bytes)
        return -EFBIG;
    bool flush = writer->size_bytes - writer->flushed_bytes >= (int64_t)WRITEBACK_BYTES;
    int r = flush ? content_check_free(writer->content) : 0;
    if (r < 0)
        return r;
    if (flush) {
        sync_file_range(writer->fd, writer->flushed_bytes, writer->size_bytes - writer->flushed_bytes, SYNC_FILE_RANGE_WRITE);
        writer->flushed_bytes = writer->size_bytes;
    }
    r = sys_write_all(writer->fd, bytes);
    if (r < 0) {
        /* The file is cut back to what was hashed; the caller may try the piece again. */
        writer->is_wrong = ftruncate(writer->fd, writer->size_bytes) < 0 || lseek(writer->fd, writer->size_bytes, SEEK_SET) < 0;
        return writer->is_wrong ? -EIO : r;
    }
    digest_update(writer->digest, bytes);
    writer->size_bytes += (int64_t)bytes.len;
    return 0;
}

static int place_blob(struct content_writer *writer, const struct oci_digest *digest) {
    struct content *content = writer->content;
    if (fsync(writer->fd) < 0)
        return -errno;
    if (renameat(content->root_fd, writer->path.text, content->blobs_fd, digest->hex) < 0)
        return -errno;
    writer->placed = true;
    return fsync(content->blobs_fd) < 0 ? -errno : 0;
}

int content_writer_commit(struct content_writer *writer, const struct oci_digest *expected, struct oci_digest *ret) {
    struct oci_digest digest;
    if (writer->is_wrong) /* tried before, or its file is not what was hashed */
        return -EIO;
    digest_finish_hex(writer->digest, digest.hex);
    writer->is_wrong = true; /* it takes no more bytes, whatever comes of it */
    if (expected && !oci_digest_equal(expected, &digest))
        return -EBADMSG;
    int r = content_touch_blob(writer->content, &digest) == 0 ? 0 : place_blob(writer, &digest);
    fd_closep(&writer->fd);
    writer->fd = -1;
    if (r == 0)
        *ret = digest;
    return r;
}

int content_write_blob(struct content *content, struct slice bytes, struct oci_digest *ret) {
    CLEANUP(content_writer_freep) struct content_writer *writer = NULL;
    int r = content_writer_new(content, &writer);
    if (r == 0)
        r = content_writer_append(writer, bytes);
    return r < 0 ? r : content_writer_commit(writer, NULL, ret);
}
