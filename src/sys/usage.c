/* How much disk a tree of files takes: blocks, not lengths, so that holes count nothing. A file with several links counts once, as long as all its
 * links are inside. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "sys/sys_priv.h"

#define USAGE_DEPTH_MAX 200 /* deeper folders are not counted: one descriptor per level */

static void add_beneath(struct sys_usage *usage, int parent_fd, const char *name, dev_t device, int depth) {
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !dir)
        close(fd);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 || status.st_dev != device)
            continue;
        usage->bytes += (uint64_t)status.st_blocks * 512 / (S_ISDIR(status.st_mode) ? 1 : MAX(status.st_nlink, (nlink_t)1));
        usage->entries++;
        if (S_ISDIR(status.st_mode) && depth < USAGE_DEPTH_MAX)
            add_beneath(usage, fd, entry->d_name, device, depth + 1);
    }
    if (dir)
        closedir(dir);
}

void sys_tree_usage(const char *path, struct sys_usage *ret) {
    struct stat status;
    *ret = (struct sys_usage){0, 0};
    if (lstat(path, &status) < 0)
        return;
    *ret = (struct sys_usage){.bytes = (uint64_t)status.st_blocks * 512, .entries = 1};
    if (S_ISDIR(status.st_mode))
        add_beneath(ret, AT_FDCWD, path, status.st_dev, 0);
}

uint64_t sys_tree_bytes(const char *path) {
    struct sys_usage usage;
    sys_tree_usage(path, &usage);
    return usage.bytes;
}
