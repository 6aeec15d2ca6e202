/* Mounts that the node makes: root file systems, memory volumes, pinned namespaces. */
#ifndef TIDEMILL_RUNTIME_MOUNTS_H
#define TIDEMILL_RUNTIME_MOUNTS_H

#include "base/base.h"

struct loop;

/* Makes `path` a mount point of its own with shared propagation, so that what is mounted beneath outlives this process' mount namespace and is seen
 * by the next one. Idempotent. */
int mounts_share(const char *path);
/* Undoes it: unmounts everything beneath `path` and the path itself. */
int mounts_unshare(const char *path);
/* A mount namespace of our own in which /sys/fs/cgroup/unified is hidden: crun refuses hybrid hosts otherwise. Before any thread starts. */
int mounts_hide_unified_cgroup(void);
/* The kernel knows the file system ("overlay"), now or after loading its module, as Debian's first has to be. */
bool mounts_kernel_has(const char *file_system);

/* lower: folders, highest first; their number is limited by what fits into a page (200). -ENAMETOOLONG beyond. user_fd: a user namespace as whose the
 * owners in the lower folders are seen (the upper one belongs to it already), -1: none; -EOPNOTSUPP when the kernel or the folders' file system
 * cannot do that. */
int mounts_overlay(const char *const *lower, size_t lower_count, const char *upper, const char *work, const char *target, int user_fd);
int mounts_tmpfs(const char *target, int64_t size_bytes /* 0: half of the memory */, mode_t mode);
/* The layers of an image, highest first, two at least: read-only, and nothing of them runs. */
int mounts_layers(const char *const *lower, size_t lower_count, const char *target, int user_fd);
/* What a process that died in one of the two above left beside the target; nothing is fine. */
void mounts_detach_layers(const char *target);
/* Whether what is at `path` can be shown with the owners of another user namespace. */
bool mounts_can_map(const char *path, int user_fd);
/* "sysfs" as a network namespace has it, "mqueue" as an IPC namespace has it: `namespace` is its file. */
int mounts_of_namespace(const char *type, const char *target, const char *namespace);
int mounts_huge_pages(const char *target, int64_t page_bytes /* 0: the machine's default */, int64_t size_bytes /* 0: no limit */, mode_t mode);
int mounts_bind(const char *source, const char *target);
/* Detached at once, freed when its last user is gone; absent or no mount point is fine. */
int mounts_remove(const char *target);
/* The same for what may hold very many files: the kernel forgets them one by one when the last user goes, which is a thread of the loop's then. */
int mounts_remove_later(struct loop *loop, const char *target);
bool mounts_is_mounted(const char *target);
/* Calls fn for each mount point strictly beneath `path`, the latest first. */
int mounts_beneath(const char *path, void (*fn)(void *userdata, const char *target), void *userdata);

#endif
