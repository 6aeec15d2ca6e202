/* Giving a volume to the pod's fsGroup, as kubelet does: the folder and all in it belong to the group, which may read and write them, and new files
 * inherit it. A container that runs already may change the tree meanwhile, so nothing is reached by a path: every step is relative to a descriptor
 * and follows no link. Runs on a worker thread. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define DEPTH_MAX 128 /* each level holds a descriptor */

static int change_mode(int fd, mode_t mode) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* the descriptor may be one that is only a place (O_PATH) */
    return chmod(path, mode) < 0 ? -errno : 0;
}

static int give(int fd, const struct stat *st, gid_t group) {
    mode_t mode = st->st_mode & 07777, wanted = mode | 0660;
    if (S_ISDIR(st->st_mode))
        wanted |= 02110;
    if (st->st_gid != group && fchownat(fd, "", (uid_t)-1, group, AT_EMPTY_PATH) < 0)
        return -errno;
    return mode != wanted || st->st_gid != group ? change_mode(fd, wanted) : 0;
}

struct walk {
    const struct ownership *how;
    size_t left;
};

static int give_tree(int fd, struct walk *walk, unsigned depth);

static int give_entry(int folder, const char *name, struct walk *walk, unsigned depth) {
    const struct ownership *how = walk->how;
    struct stat st;
    CLEANUP(fd_closep) int fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (walk->left-- == 0)
        return -EAGAIN;
    if (how->stop && atomic_load_explicit(how->stop, memory_order_relaxed))
        return -ECANCELED;
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno; /* it has just gone */
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISLNK(st.st_mode))
        return fchownat(fd, "", (uid_t)-1, how->group, AT_EMPTY_PATH) < 0 ? -errno : 0;
    int r = give(fd, &st, how->group);
    return r < 0 || !S_ISDIR(st.st_mode) ? r : give_tree(fd, walk, depth + 1);
}

static int give_tree(int fd, struct walk *walk, unsigned depth) {
    if (depth > DEPTH_MAX)
        return -ELOOP;
    CLEANUP(fd_closep) int opened = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = opened < 0 ? NULL : fdopendir(opened);
    if (!folder)
        return -errno;
    opened = -1; /* the stream's */
    int r = 0;
    const struct dirent *entry;
    while (r == 0 && (entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = give_entry(dirfd(folder), entry->d_name, walk, depth);
    closedir(folder);
    return r;
}

int ownership_give(const char *path, const struct ownership *how) {
    struct stat st;
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (how->only_on_mismatch && st.st_gid == how->group && (st.st_mode & 02770) == 02770)
        return 0;
    struct walk walk = {.how = how, .left = how->entries_max};
    int r = give_tree(fd, &walk, 0);
    return r < 0 ? r : give(fd, &st, how->group); /* last: it says that all is done */
}
