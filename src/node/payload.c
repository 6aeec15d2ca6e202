/* The files of a volume that come from the API, replaced all at once, as kubelet does it: a reader sees the old ones or the new ones, never a
 * mixture.
 *
 *   ..<time>/path/of/file     what was written last
 *   ..data -> ..<time>        switched by rename: the one moment of change
 *   path -> ..data/path       what people open: one link for each first part of a path
 *
 * Nothing is written when nothing differs, so this may be called at any time; a crash in between leaves folders that the next call removes. Paths are
 * the pod author's words: their parts are checked, and opened beneath the volume only. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define DATA "..data"
#define TEMPORARY "..data_tmp"
#define DEPTH_MAX 32

bool payload_path_is_safe(const char *path) {
    struct slice rest = slice_of(path);
    size_t depth = 0;
    if (!*path || *path == '/' || strlen(path) >= PATH_MAX)
        return false;
    while (rest.data) {
        struct slice part = slice_cut(&rest, '/');
        if (part.len == 0 || part.len > NAME_MAX || slice_is(part, ".") || slice_starts(part, SLICE("..")) || ++depth > DEPTH_MAX)
            return false;
    }
    return true;
}

int payload_put(struct payload *payload, const char *path, struct slice bytes, mode_t mode) {
    for (size_t i = 0; i < payload->count; i++)
        if (strcmp(payload->items[i].path, path) == 0) {
            payload->items[i].bytes = bytes;
            payload->items[i].mode = mode;
            return 0;
        }
    return VECTOR_PUSH(payload, ((struct payload_file){path, bytes, mode}));
}

/* --- is it there already? --- */

static bool same_file(int data, const struct payload_file *file) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(PAYLOAD_BYTES_MAX + 1);
    CLEANUP(fd_closep) int fd = sys_open_beneath(data, file->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
    struct stat st;
    char path[64];
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (st.st_mode & 0777) != file->mode || (size_t)st.st_size != file->bytes.len)
        return false;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return sys_read_file(AT_FDCWD, path, PAYLOAD_BYTES_MAX, &bytes) == 0 && slice_equal(buffer_slice(&bytes), file->bytes);
}

static size_t count_files(int folder, size_t depth) {
    size_t count = 0;
    int copy = fcntl(folder, F_DUPFD_CLOEXEC, 3);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        CLEANUP(fd_closep) int inner = openat(folder, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        count += inner >= 0 && depth < DEPTH_MAX ? count_files(inner, depth + 1) : 1;
    }
    if (dir)
        closedir(dir);
    else if (copy >= 0)
        close(copy);
    return count;
}

static bool is_current(int root, const struct payload *payload) {
    CLEANUP(fd_closep) int data = sys_open_beneath(root, DATA, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (data < 0)
        return false;
    for (size_t i = 0; i < payload->count; i++)
        if (!same_file(data, &payload->items[i]))
            return false;
    return count_files(data, 0) == payload->count;
}

/* --- writing --- */

static int open_folder_of(int root, const char *path, const char **ret_leaf) {
    int at = fcntl(root, F_DUPFD_CLOEXEC, 3);
    const char *slash;
    for (; at >= 0 && (slash = strchr(path, '/')); path = slash + 1) {
        char name[NAME_MAX + 1];
        snprintf(name, sizeof name, "%.*s", (int)(slash - path), path);
        if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
            return close(at), -errno;
        int next = sys_open_beneath(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
        close(at);
        at = next;
    }
    *ret_leaf = path;
    return at == -1 ? -errno : at;
}

static int write_file(int folder, const struct payload_file *file, const struct payload *payload) {
    const char *leaf = file->path;
    CLEANUP(fd_closep) int at = open_folder_of(folder, file->path, &leaf);
    if (at < 0)
        return at;
    int r = sys_write_file_fast(at, leaf, file->bytes, 0600);
    if (r == 0 && fchmodat(at, leaf, file->mode, 0) < 0)
        r = -errno;
    if (r == 0 && (payload->user != (uid_t)-1 || payload->group != (gid_t)-1) &&
        fchownat(at, leaf, payload->user, payload->group, AT_SYMLINK_NOFOLLOW) < 0)
        r = -errno;
    return r;
}

static int switch_link(int root, const char *target, const char *name) {
    if (unlinkat(root, TEMPORARY, 0) < 0 && errno != ENOENT)
        return -errno;
    if (symlinkat(target, root, TEMPORARY) < 0)
        return -errno;
    return renameat(root, TEMPORARY, root, name) < 0 ? -errno : 0;
}

/* "a" of "a/b". */
static void first_part(const char *path, char ret[NAME_MAX + 1]) {
    snprintf(ret, NAME_MAX + 1, "%.*s", (int)strcspn(path, "/"), path);
}

static int show(int root, const struct payload *payload) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < payload->count; i++) {
        char name[NAME_MAX + 1], target[NAME_MAX + 16], seen[NAME_MAX + 16] = "";
        first_part(payload->items[i].path, name);
        snprintf(target, sizeof target, DATA "/%s", name);
        ssize_t len = readlinkat(root, name, seen, sizeof seen - 1);
        seen[MAX(len, 0)] = 0;
        if (strcmp(seen, target) != 0)
            r = switch_link(root, target, name);
    }
    return r;
}

static bool is_shown(const struct payload *payload, const char *name) {
    char part[NAME_MAX + 1];
    for (size_t i = 0; i < payload->count; i++) {
        first_part(payload->items[i].path, part);
        if (strcmp(part, name) == 0)
            return true;
    }
    return false;
}

static int remove_stale(int root, const struct payload *payload, const char *current) {
    int copy = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir)
        return copy < 0 ? -errno : (close(copy), -ENOMEM);
    for (struct dirent *entry; r == 0 && (entry = readdir(dir));) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, DATA) == 0 || strcmp(name, current) == 0 || is_shown(payload, name))
            continue;
        r = sys_remove_tree(root, name);
    }
    closedir(dir);
    return r;
}

/* "..2026_01_31_23_59_59.000000001": as kubelet names them. */
static void name_folder(char ret[64]) {
    struct tm parts;
    int64_t now_ns = sys_wall_ns();
    time_t seconds = (time_t)(now_ns / 1000000000);
    gmtime_r(&seconds, &parts);
    snprintf(ret, 64, "..%04d_%02d_%02d_%02d_%02d_%02d.%09" PRId64, parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
             parts.tm_min, parts.tm_sec, now_ns % 1000000000);
}

int payload_write(const char *path, const struct payload *payload, bool *ret_changed) {
    char name[64];
    CLEANUP(fd_closep) int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *ret_changed = false;
    if (root < 0)
        return -errno;
    if (is_current(root, payload))
        return show(root, payload);
    name_folder(name);
    if (mkdirat(root, name, 0755) < 0)
        return -errno;
    CLEANUP(fd_closep) int folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = folder < 0 ? -errno : 0;
    for (size_t i = 0; r == 0 && i < payload->count; i++)
        r = write_file(folder, &payload->items[i], payload);
    if (r == 0)
        r = switch_link(root, name, DATA);
    if (r == 0)
        r = show(root, payload);
    if (r < 0)
        return r;
    *ret_changed = true;
    return remove_stale(root, payload, name);
}
