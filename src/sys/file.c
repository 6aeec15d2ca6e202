/* Files. Durable replacement (write beside, fsync, rename, fsync the folder: the only order that survives power loss on every file system), reading
 * with a maximum, and opening beneath a folder without any path ever leaving it (openat2(2)).
 *
 * Invariants: no descriptor leaks on any path; a failed sys_write_file leaves the old file as it was and no temporary file behind. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "sys/sys_priv.h"

static int open_retry(int dir_fd, const char *path, int flags, mode_t mode) {
    int r = sys_fault_check();
    if (r < 0)
        return r;
    int fd;
    do
        fd = openat(dir_fd, path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

static int open_how(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve) {
    int r = sys_fault_check();
    if (r < 0)
        return r;
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = resolve};
    if (flags & (O_CREAT | O_TMPFILE))
        how.mode = mode & 07777;
    long fd;
    do /* -EAGAIN: something was renamed while ".." was resolved */
        fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd < 0 ? -errno : (int)fd;
}

int sys_open_beneath(int dir_fd, const char *path, int flags, mode_t mode) {
    return open_how(dir_fd, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
}

int sys_open_in_root(int dir_fd, const char *path, int flags, mode_t mode) {
    return open_how(dir_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* Reads to the end; a byte more than allowed is asked for, so that excess shows. */
static int read_all(int fd, size_t bytes_max, struct buffer *out) {
    size_t total = 0;
    for (;;) {
        int r = sys_fault_check();
        size_t want = MIN((size_t)65536, bytes_max - total + 1);
        if (r == 0)
            r = buffer_reserve(out, want);
        if (r < 0)
            return r;
        ssize_t n = read(fd, out->data + out->len, want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        total += (size_t)n;
        if (total > bytes_max)
            return -EFBIG;
        buffer_commit(out, (size_t)n);
    }
}

int sys_read_file(int dir_fd, const char *path, size_t bytes_max, struct buffer *out) {
    CLEANUP(fd_closep) int fd = open_retry(dir_fd, path, O_RDONLY | O_NOCTTY, 0);
    if (fd < 0)
        return fd;
    /* Its size is not asked for: the kernel's own files all claim to have 4,096 bytes. Into a buffer of its own first: the caller's may have just
     * enough room for the file, not for the byte that proves excess. */
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(SIZE_MAX / 2);
    int r = read_all(fd, MIN(bytes_max, SIZE_MAX / 4), &bytes);
    return r < 0 ? r : buffer_append_slice(out, buffer_slice(&bytes));
}

int sys_write_all(int fd, struct slice bytes) {
    while (bytes.len > 0) {
        int r = sys_fault_check();
        if (r < 0)
            return r;
        ssize_t n = write(fd, bytes.data, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes = slice_from(bytes, (size_t)n);
    }
    return 0;
}

static int sync_fd(int fd) {
    int r = sys_fault_check();
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    return r;
}

/* fsync of the folder that holds `path`, so that the rename itself is durable. */
static int sync_folder_of(int dir_fd, const char *path) {
    const char *slash = strrchr(path, '/');
    CLEANUP(freep) char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!folder)
        return -ENOMEM;
    CLEANUP(fd_closep) int fd = open_retry(dir_fd, folder, O_RDONLY | O_DIRECTORY, 0);
    return fd < 0 ? fd : sync_fd(fd);
}

static int fill_and_rename(int dir_fd, int fd, const char *temporary, const char *path, struct slice bytes, mode_t mode, bool durable) {
    int r = sys_point("write");
    if (r == 0)
        r = sys_write_all(fd, bytes);
    if (r == 0 && fchmod(fd, mode) < 0)
        r = -errno;
    if (r == 0 && durable)
        r = sync_fd(fd);
    if (r == 0)
        r = sys_fault_check();
    if (r == 0)
        r = sys_point("rename");
    if (r == 0 && renameat(dir_fd, temporary, dir_fd, path) < 0)
        r = -errno;
    return r;
}

static int write_file(int dir_fd, const char *path, struct slice bytes, mode_t mode, bool durable) {
    char random[9];
    sys_random_name(random, 8);
    CLEANUP(freep) char *temporary = NULL;
    if (asprintf(&temporary, "%s.tmp-%s", path, random) < 0) {
        temporary = NULL;
        return -ENOMEM;
    }
    CLEANUP(fd_closep) int fd = open_retry(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fd;
    int r = fill_and_rename(dir_fd, fd, temporary, path, bytes, mode, durable);
    if (r < 0) {
        unlinkat(dir_fd, temporary, 0);
        return r;
    }
    return durable ? sync_folder_of(dir_fd, path) : 0;
}

int sys_write_file(int dir_fd, const char *path, struct slice bytes, mode_t mode) {
    return write_file(dir_fd, path, bytes, mode, true);
}

int sys_write_file_fast(int dir_fd, const char *path, struct slice bytes, mode_t mode) {
    return write_file(dir_fd, path, bytes, mode, false);
}

/* One write(2): the files of cgroups and /proc take a value only whole. */
int sys_write_existing(int dir_fd, const char *path, struct slice bytes) {
    CLEANUP(fd_closep) int fd = open_retry(dir_fd, path, O_WRONLY | O_NOCTTY, 0);
    if (fd < 0)
        return fd;
    ssize_t n;
    int r = sys_point("write");
    if (r < 0)
        return r;
    do
        n = write(fd, bytes.data, bytes.len);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return (size_t)n == bytes.len ? 0 : -EIO;
}

static int make_folder(const char *path, mode_t mode) {
    int r = sys_fault_check();
    if (r < 0)
        return r;
    struct stat status;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return 0;
    r = sys_point("mkdir");
    if (r < 0 || mkdir(path, mode) == 0)
        return r;
    int error = errno;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode) ? 0 : -error;
}

int sys_mkdirs(const char *path, mode_t mode) {
    CLEANUP(freep) char *partial = strdup(path);
    if (!partial)
        return -ENOMEM;
    for (char *slash = partial; (slash = strchr(slash + (slash == partial), '/')); *slash++ = '/') {
        if (slash == partial)
            continue;
        *slash = '\0';
        int r = make_folder(partial, mode | S_IWUSR | S_IXUSR);
        if (r < 0)
            return r;
    }
    return make_folder(partial, mode);
}

int sys_lock_file(const char *path) {
    CLEANUP(fd_closep) int fd = open_retry(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fd;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    return TAKE_FD(fd);
}

int sys_set_nonblocking(int fd, bool on) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    return fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}
