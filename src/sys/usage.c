/* How much disk a tree of files takes: blocks, not lengths, so that holes count nothing. A file with several links counts once, as long as all its
 * links are inside. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "sys/sys_priv.h"

#define USAGE_DEPTH_MAX 200 /* deeper folders are not counted: one descriptor per level */

struct counting {
    struct sys_usage *usage;
    dev_t device;
    const atomic_bool *stop;
};

static bool goes_on(const struct counting *counting) {
    return !counting->stop || !atomic_load_explicit(counting->stop, memory_order_relaxed);
}

static void add_beneath(const struct counting *counting, int parent_fd, const char *name, int depth) {
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !dir)
        close(fd);
    for (struct dirent *entry; dir && goes_on(counting) && (entry = readdir(dir));) {
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 || status.st_dev != counting->device)
            continue;
        counting->usage->bytes += (uint64_t)status.st_blocks * 512 / (S_ISDIR(status.st_mode) ? 1 : MAX(status.st_nlink, (nlink_t)1));
        counting->usage->entries++;
        if (S_ISDIR(status.st_mode) && depth < USAGE_DEPTH_MAX)
            add_beneath(counting, fd, entry->d_name, depth + 1);
    }
    if (dir)
        closedir(dir);
}

void sys_tree_usage_until(const char *path, const atomic_bool *stop, struct sys_usage *ret) {
    struct stat status;
    *ret = (struct sys_usage){0, 0};
    if (lstat(path, &status) < 0)
        return;
    *ret = (struct sys_usage){.bytes = (uint64_t)status.st_blocks * 512, .entries = 1};
    if (S_ISDIR(status.st_mode))
        add_beneath(&(struct counting){.usage = ret, .device = status.st_dev, .stop = stop}, AT_FDCWD, path, 0);
}

void sys_tree_usage(const char *path, struct sys_usage *ret) {
    sys_tree_usage_until(path, NULL, ret);
}

uint64_t sys_tree_bytes(const char *path) {
    struct sys_usage usage;
    sys_tree_usage(path, &usage);
    return usage.bytes;
}
