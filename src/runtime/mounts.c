/* Mounts.
 *
 * Where mounts live: <run>/node is made a shared mount point in the host's mount namespace before anything else. On hybrid hosts the node then enters
 * a mount namespace of its own to hide cgroup2 from crun; since <run>/node stays shared with the host's, overlay, tmpfs and namespace mounts made
 * beneath it are the host's too: they survive the node, the next node sees them, and nothing has to be mounted again. (Rejected: mounts private to
 * the node, held only by the containers: a pod whose last container died meanwhile would lose its network namespace and memory volumes.)
 *
 * Overlay layers are given as /proc/self/fd/N: mount(2) takes one page of options, which long paths exhaust after some 20 layers; "lowerdir+" needs
 * Linux 6.8. "volatile" because a container's writable layer is thrown away with it: without, each unmount syncs the whole file system. */
#include "runtime/mounts.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/stat.h>

#include "loop/loop.h"
#include "sys/sys.h"

#define MOUNTINFO_BYTES_MAX (32 * MIB)
#define LOWER_MAX 200

/* Reads \ooo escapes in place. */
static void unescape(char *text) {
    char *out = text;
    for (char *at = text; *at; at++, out++) {
        if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] && at[3]) {
            *out = (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'));
            at += 3;
        } else
            *out = *at;
    }
    *out = 0;
}

struct mountinfo_line {
    char target[PATH_MAX];
    bool shared;
};

/* Calls fn for each line of /proc/self/mountinfo. */
static int read_mountinfo(void (*fn)(void *userdata, const struct mountinfo_line *line), void *userdata) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MOUNTINFO_BYTES_MAX + 1);
    struct mountinfo_line line;
    int r = sys_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_BYTES_MAX, &text);
    if (r < 0)
        return r;
    for (struct slice rest = buffer_slice(&text); rest.data;) {
        struct slice fields = slice_cut(&rest, '\n'), target = {0};
        for (int i = 0; i < 5; i++)
            target = slice_cut(&fields, ' ');
        if (target.len == 0 || target.len >= PATH_MAX)
            continue;
        snprintf(line.target, sizeof line.target, "%.*s", SLICE_ARG(target));
        unescape(line.target);
        ptrdiff_t dash = slice_find(fields, SLICE(" - "));
        line.shared = slice_find(slice_head(fields, dash < 0 ? 0 : (size_t)dash), SLICE("shared:")) >= 0;
        fn(userdata, &line);
    }
    return 0;
}

struct find {
    const char *target;
    bool found, shared;
};
static void on_find(void *userdata, const struct mountinfo_line *line) {
    struct find *find = userdata;
    if (strcmp(line->target, find->target) == 0) {
        find->found = true;
        find->shared = line->shared;
    }
}

bool mounts_is_mounted(const char *target) {
    struct statx st;
    if (statx(AT_FDCWD, target, AT_NO_AUTOMOUNT, STATX_TYPE, &st) == 0 && st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) /* since Linux 5.8 */
        return st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
    char real[PATH_MAX];
    struct find find = {.target = real};
    return realpath(target, real) && read_mountinfo(on_find, &find) == 0 && find.found;
}

int mounts_share(const char *path) {
    char real[PATH_MAX];
    if (!realpath(path, real))
        return -errno;
    struct find find = {.target = real};
    int r = read_mountinfo(on_find, &find);
    if (r < 0 || find.shared)
        return r;
    if (!find.found && mount(real, real, NULL, MS_BIND, NULL) < 0)
        return -errno;
    if (mount(NULL, real, NULL, MS_PRIVATE, NULL) < 0 || mount(NULL, real, NULL, MS_SHARED, NULL) < 0)
        return -errno;
    return 0;
}

struct beneath {
    const char *path;
    VECTOR(char *) targets;
    int error;
};
static void on_beneath(void *userdata, const struct mountinfo_line *line) {
    struct beneath *beneath = userdata;
    size_t len = strlen(beneath->path);
    if (strncmp(line->target, beneath->path, len) != 0 || line->target[len] != '/')
        return;
    char *copy = strdup(line->target);
    if (!copy || VECTOR_PUSH(&beneath->targets, copy) < 0) {
        free(copy);
        beneath->error = -ENOMEM;
    }
}

int mounts_beneath(const char *path, void (*fn)(void *userdata, const char *target), void *userdata) {
    char real[PATH_MAX];
    if (!realpath(path, real))
        return errno == ENOENT ? 0 : -errno;
    struct beneath beneath = {.path = real};
    int r = read_mountinfo(on_beneath, &beneath);
    for (size_t i = beneath.targets.count; i-- > 0;) {
        fn(userdata, beneath.targets.items[i]);
        free(beneath.targets.items[i]);
    }
    VECTOR_DEINIT(&beneath.targets);
    return r < 0 ? r : beneath.error;
}

int mounts_remove(const char *target) {
    int r = sys_point("unmount");
    if (r < 0)
        return r;
    if (umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
        return -errno;
    return 0;
}

struct closing {
    int fd;
};

static void close_work(void *userdata) {
    fd_closep(&((struct closing *)userdata)->fd);
}

static void close_done(void *userdata) {
    free(userdata);
}

int mounts_remove_later(struct loop *loop, const char *target) {
    struct closing *closing = calloc(1, sizeof *closing);
    CLEANUP(fd_closep) int fd = open(target, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC); /* the last user */
    int r = mounts_remove(target);
    if (closing)
        closing->fd = fd;
    if (r == 0 && closing && fd >= 0 && loop_work(loop, LOOP_BULK, close_work, close_done, closing) == 0)
        fd = -1;
    else
        free(closing);
    return r;
}

static void on_unmount(__attribute__((unused)) void *userdata, const char *target) {
    mounts_remove(target);
}

int mounts_unshare(const char *path) {
    int r = mounts_beneath(path, on_unmount, NULL);
    return r < 0 ? r : mounts_remove(path);
}

int mounts_hide_unified_cgroup(void) {
    if (unshare(CLONE_NEWNS) < 0)
        return -errno;
    if (mount(NULL, "/sys/fs/cgroup", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
        return -errno;
    return umount2("/sys/fs/cgroup/unified", MNT_DETACH) < 0 ? -errno : 0;
}

static bool is_listed(const char *file_system) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB);
    if (sys_read_file(AT_FDCWD, "/proc/filesystems", 64 * KIB - 1, &text) < 0)
        return false;
    for (struct slice rest = buffer_slice(&text); rest.data;) {
        struct slice line = slice_cut(&rest, '\n');
        slice_cut(&line, '\t');
        if (slice_is(slice_trim(line), file_system))
            return true;
    }
    return false;
}

bool mounts_kernel_has(const char *file_system) {
    if (is_listed(file_system))
        return true;
    CLEANUP(fd_closep) int fd = fsopen(file_system, FSOPEN_CLOEXEC); /* makes the kernel load the module */
    return fd >= 0;
}

static int open_folder(const char *path) {
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Folders by descriptors, as one option: "lowerdir=/proc/self/fd/5:/proc/self/fd/6". */
struct folders {
    int fds[LOWER_MAX + 3];
    size_t count;
};
static void close_folders(struct folders *folders) {
    for (size_t i = 0; i < folders->count; i++)
        close(folders->fds[i]);
}

/* A copy of the mount of `fd`, not attached anywhere, in which owners are those of the user namespace. Nothing can be written through it. Takes the
 * descriptor over. */
static int map_folder(int fd, int user_fd) {
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY, .userns_fd = (uint64_t)user_fd};
    int copy = (int)syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    int r = copy < 0 ? -errno : syscall(SYS_mount_setattr, copy, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0 ? -EOPNOTSUPP : copy;
    close(fd);
    if (r < 0 && copy >= 0)
        close(copy);
    return r;
}

bool mounts_can_map(const char *path, int user_fd) {
    int fd = open(path, O_PATH | O_CLOEXEC), copy = fd < 0 ? -1 : map_folder(fd, user_fd);
    if (copy >= 0)
        close(copy);
    return copy >= 0;
}

static int add_folder(struct folders *folders, const char *lead, const char *path, int user_fd, struct buffer *options) {
    ASSERT(folders->count < ARRAY_LEN(folders->fds));
    int fd = open_folder(path);
    if (fd >= 0 && user_fd >= 0)
        fd = map_folder(fd, user_fd);
    if (fd < 0)
        return fd;
    folders->fds[folders->count++] = fd;
    buffer_printf(options, "%s/proc/self/fd/%d", lead, fd);
    return buffer_error(options) ? -ENAMETOOLONG : 0;
}

static void layers_place(const char *target, char ret[PATH_MAX]) {
    snprintf(ret, PATH_MAX, "%s.layers", target);
}

/* Mapped copies stand beside the target for as long as the mounting takes: overlay takes mounts without a place from Linux 6.15 on only. */
static int attach_layers(const struct folders *folders, const char *target) {
    char place[PATH_MAX];
    layers_place(target, place);
    int r = sys_mkdirs(place, 0700);
    for (size_t i = 0; r == 0 && i < folders->count; i++)
        r = syscall(SYS_move_mount, folders->fds[i], "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
    return r;
}

void mounts_detach_layers(const char *target) {
    char place[PATH_MAX];
    layers_place(target, place);
    for (size_t i = 0; i <= LOWER_MAX && umount2(place, MNT_DETACH | UMOUNT_NOFOLLOW) == 0; i++)
        ;
    rmdir(place);
}

static int add_layers(struct folders *folders, const char *const *lower, size_t count, const char *target, int user_fd, struct buffer *options) {
    int r = count > LOWER_MAX + 1 ? -ENAMETOOLONG : 0;
    for (size_t i = 0; r == 0 && i < count; i++)
        r = add_folder(folders, i == 0 ? "lowerdir=" : ":", lower[i], user_fd, options);
    return r == 0 && user_fd >= 0 ? attach_layers(folders, target) : r;
}

int mounts_overlay(const char *const *lower, size_t lower_count, const char *upper, const char *work, const char *target, int user_fd) {
    CLEANUP(buffer_deinit) struct buffer options = BUFFER_INIT((size_t)sysconf(_SC_PAGESIZE) - 1);
    struct folders folders = {.count = 0};
    int r = add_layers(&folders, lower, lower_count, target, user_fd, &options);
    if (r == 0)
        r = add_folder(&folders, lower_count ? ",upperdir=" : "lowerdir=,upperdir=", upper, -1, &options);
    if (r == 0)
        r = add_folder(&folders, ",workdir=", work, -1, &options);
    buffer_append_text(&options, ",index=off,metacopy=off,volatile");
    if (r == 0)
        r = buffer_error(&options) ? -ENAMETOOLONG : mount("overlay", target, "overlay", 0, options.data) < 0 ? -errno : 0;
    if (user_fd >= 0)
        mounts_detach_layers(target);
    close_folders(&folders);
    return r;
}

int mounts_layers(const char *const *lower, size_t lower_count, const char *target, int user_fd) {
    CLEANUP(buffer_deinit) struct buffer options = BUFFER_INIT((size_t)sysconf(_SC_PAGESIZE) - 1);
    struct folders folders = {.count = 0};
    int r = add_layers(&folders, lower, lower_count, target, user_fd, &options);
    if (r == 0 && mount("overlay", target, "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, options.data) < 0)
        r = -errno;
    if (user_fd >= 0)
        mounts_detach_layers(target);
    close_folders(&folders);
    return r;
}

int mounts_of_namespace(const char *type, const char *target, const char *namespace) {
    bool is_net = strcmp(type, "sysfs") == 0;
    int kind = is_net ? CLONE_NEWNET : CLONE_NEWIPC;
    CLEANUP(fd_closep) int own = open(is_net ? "/proc/thread-self/ns/net" : "/proc/thread-self/ns/ipc", O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_closep) int other = open(namespace, O_RDONLY | O_CLOEXEC);
    if (own < 0 || other < 0 || setns(other, kind) < 0)
        return -errno;
    int r = mount(type, target, type, MS_NOSUID | MS_NODEV | MS_NOEXEC | (is_net ? MS_RDONLY : 0), NULL) < 0 ? -errno : 0;
    ASSERT(setns(own, kind) == 0);
    return r;
}

int mounts_huge_pages(const char *target, int64_t page_bytes, int64_t size_bytes, mode_t mode) {
    char options[120];
    int n = snprintf(options, sizeof options, "mode=%o", (unsigned)mode);
    if (page_bytes > 0)
        n += snprintf(options + n, sizeof options - (size_t)n, ",pagesize=%" PRId64, page_bytes);
    if (size_bytes > 0)
        snprintf(options + n, sizeof options - (size_t)n, ",size=%" PRId64, size_bytes);
    return mount("nodev", target, "hugetlbfs", MS_NOSUID | MS_NODEV, options) < 0 ? -errno : 0;
}

int mounts_tmpfs(const char *target, int64_t size_bytes, mode_t mode) {
    char options[80];
    int n = snprintf(options, sizeof options, "mode=%o", (unsigned)mode);
    if (size_bytes > 0)
        snprintf(options + n, sizeof options - (size_t)n, ",size=%" PRId64, size_bytes);
    int r = sys_point("mount");
    return r == 0 && mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0 ? -errno : r;
}

int mounts_bind(const char *source, const char *target) {
    int r = sys_point("mount");
    return r == 0 && mount(source, target, NULL, MS_BIND, NULL) < 0 ? -errno : r;
}
