/* Removing a tree of files that someone else may have filled (a container's layers, a job's working folder): no link is followed and no mount is
 * entered.
 *
 * Every folder is opened relative to its parent's descriptor with O_NOFOLLOW, so nobody can swap a link in between; a folder on another device or
 * marked as a mount root is left (-EBUSY). Depth does not cost descriptors without bound: the walk keeps one per level, to REMOVE_DEPTH_MAX levels;
 * below that the subtree is moved up next to the top and taken from there. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "sys/sys_priv.h"

#define REMOVE_DEPTH_MAX 64

struct remover {
    int top_fd;     /* the folder into which too deep subtrees move */
    unsigned moved; /* how many did: their names */
    const atomic_bool *stop;
    struct {
        DIR *dir;
        char *name; /* its name in the level above */
    } levels[REMOVE_DEPTH_MAX];
    int depth;
};

static bool is_mount_point(int fd) {
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_TYPE, &status) < 0)
        return false;
    return (status.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) && (status.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static int remover_enter(struct remover *remover, int parent_fd, const char *name) {
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(parent_fd, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
        fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (is_mount_point(fd)) {
        close(fd);
        return -EBUSY;
    }
    DIR *dir = fdopendir(fd);
    char *copy = strdup(name);
    if (!dir || !copy) {
        if (dir)
            closedir(dir);
        else
            close(fd);
        free(copy);
        return -ENOMEM;
    }
    remover->levels[remover->depth].dir = dir;
    remover->levels[remover->depth++].name = copy;
    return 0;
}

static void remover_leave(struct remover *remover) {
    remover->depth--;
    closedir(remover->levels[remover->depth].dir);
    free(remover->levels[remover->depth].name);
}

/* A folder too deep below: it moves into the top folder, where the walk will find it later (readdir sees new entries at the latest after
 * rewinddir). */
static int remover_move_up(struct remover *remover, int parent_fd, const char *name) {
    char moved[32];
    for (;;) {
        snprintf(moved, sizeof moved, ".deep-%u", remover->moved++);
        struct stat status;
        if (fstatat(remover->top_fd, moved, &status, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        return renameat(parent_fd, name, remover->top_fd, moved) < 0 ? -errno : 0;
    }
}

/* One entry of the current level: removed, or entered. */
static int remover_entry(struct remover *remover, const char *name) {
    int fd = dirfd(remover->levels[remover->depth - 1].dir);
    int r = sys_point("remove");
    if (r < 0)
        return r;
    if (unlinkat(fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    if (unlinkat(fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return -errno;
    return remover->depth == REMOVE_DEPTH_MAX ? remover_move_up(remover, fd, name) : remover_enter(remover, fd, name);
}

/* The current level has been read to its end. */
static int remover_level_end(struct remover *remover, int dir_fd) {
    int parent = remover->depth > 1 ? dirfd(remover->levels[remover->depth - 2].dir) : dir_fd;
    if (unlinkat(parent, remover->levels[remover->depth - 1].name, AT_REMOVEDIR) < 0) {
        if (errno == ENOTEMPTY || errno == EEXIST) { /* entries came meanwhile, of ours or of others */
            rewinddir(remover->levels[remover->depth - 1].dir);
            return -EAGAIN;
        }
        if (errno != ENOENT)
            return -errno;
    }
    remover_leave(remover);
    return 0;
}

static int remover_run(struct remover *remover, int dir_fd) {
    int rewinds = 0, r = 0;
    while (remover->depth > 0 && r == 0) {
        errno = 0;
        struct dirent *entry = readdir(remover->levels[remover->depth - 1].dir);
        if (!entry && errno)
            r = -errno;
        else if (!entry)
            r = remover_level_end(remover, dir_fd);
        else if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            r = remover_entry(remover, entry->d_name);
        if (r == -EAGAIN)
            r = ++rewinds < 100000 ? 0 : -EBUSY;
        if (r == 0 && remover->stop && atomic_load_explicit(remover->stop, memory_order_relaxed))
            r = -ECANCELED;
    }
    while (remover->depth > 0)
        remover_leave(remover);
    return r;
}

int sys_remove_tree_until(int dir_fd, const char *path, const atomic_bool *stop) {
    int r = sys_fault_check();
    if (r == 0)
        r = sys_point("remove");
    if (r < 0)
        return r;
    if (unlinkat(dir_fd, path, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    struct remover remover = {.stop = stop};
    r = remover_enter(&remover, dir_fd, path);
    if (r < 0)
        return r;
    remover.top_fd = dirfd(remover.levels[0].dir);
    return remover_run(&remover, dir_fd);
}

int sys_remove_tree(int dir_fd, const char *path) {
    return sys_remove_tree_until(dir_fd, path, NULL);
}
