#include "runtime/cgroup_door.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "sys/sys.h"

#define OWN_BYTES_MAX (64 * KIB)

/* The path of this thread's group in the hierarchy that is mounted as `folder` ("cpu,cpuacct", "systemd"; "" on v2). /proc names a hierarchy by its
 * controllers, one without any by "name=systemd". */
static bool find_own(struct slice text, const char *folder, char ret[PATH_MAX]) {
    for (struct slice rest = text; rest.data;) {
        struct slice line = slice_cut(&rest, '\n');
        slice_cut(&line, ':');
        struct slice names = slice_cut(&line, ':');
        if (slice_starts(names, SLICE("name=")))
            slice_cut(&names, '=');
        if (!slice_is(names, folder) || line.len == 0 || line.len >= PATH_MAX)
            continue;
        snprintf(ret, PATH_MAX, "%.*s", SLICE_ARG(line));
        return true;
    }
    return false;
}

/* The file `name` of this thread's own group in the n-th hierarchy, for writing. */
static int open_own(const struct cgroups *cgroups, struct slice own, size_t tree, const char *name) {
    bool is_v2 = cgroups->version == CGROUP_V2;
    const char *folder = is_v2 ? "" : cgroups->controllers[tree];
    char path[PATH_MAX], group[PATH_MAX];
    if (!find_own(own, folder, group))
        return -ENOENT;
    if (snprintf(path, sizeof path, "%s%s%s%s/%s", cgroups->root, is_v2 ? "" : "/", folder, strcmp(group, "/") == 0 ? "" : group, name) >= PATH_MAX)
        return -ENAMETOOLONG;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int open_inside(const struct cgroups *cgroups, const char *path, size_t tree) {
    char file[PATH_MAX];
    if (snprintf(file, sizeof file, "%s/%s%s/tasks", cgroups->root, cgroups->controllers[tree], path) >= PATH_MAX)
        return -ENAMETOOLONG;
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int open_folder(const struct cgroups *cgroups, const char *path, struct cgroup_door *ret) {
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s%s", cgroups->root, path) >= PATH_MAX)
        return -ENAMETOOLONG;
    int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    *ret = (struct cgroup_door){.folder = fd};
    return 0;
}

int cgroup_door_open(const struct cgroups *cgroups, const char *path, struct cgroup_door *ret) {
    CLEANUP(buffer_deinit) struct buffer own = BUFFER_INIT(OWN_BYTES_MAX + 1);
    struct cgroup_door door = {.count = 0};
    if (cgroups->version == CGROUP_V2)
        return open_folder(cgroups, path, ret);
    int r = sys_read_file(AT_FDCWD, "/proc/thread-self/cgroup", OWN_BYTES_MAX, &own);
    for (size_t tree = 0; r >= 0 && tree < cgroups->controllers_count; tree++) {
        int outside = open_own(cgroups, buffer_slice(&own), tree, "tasks"), inside = open_inside(cgroups, path, tree);
        r = outside < 0 ? outside : inside < 0 ? inside : 0;
        door.outside[door.count] = outside;
        door.inside[door.count++] = inside;
    }
    if (r < 0) {
        cgroup_door_close(&door);
        return r;
    }
    *ret = door;
    return 0;
}

void cgroup_door_close(struct cgroup_door *door) {
    for (size_t i = 0; i < door->count; i++) {
        if (door->inside[i] >= 0)
            close(door->inside[i]);
        if (door->outside[i] >= 0)
            close(door->outside[i]);
    }
    if (door->folder > 0)
        close(door->folder);
    door->count = 0;
    door->folder = 0;
}

static bool move_thread(const int *fds, size_t count) {
    bool moved = true;
    for (size_t i = 0; i < count; i++)
        moved = write(fds[i], "0", 1) == 1 && moved;
    return moved;
}

bool cgroup_door_enter(const struct cgroup_door *door) {
    if (door->count == 0)
        return false;
    bool inside = move_thread(door->inside, door->count);
    if (!inside)
        move_thread(door->outside, door->count);
    return inside;
}

void cgroup_door_leave(struct cgroup_door *door) {
    if (!move_thread(door->outside, door->count))
        cgroup_door_close(door);
}

void cgroup_warm(const struct cgroups *cgroups) {
    CLEANUP(buffer_deinit) struct buffer own = BUFFER_INIT(OWN_BYTES_MAX + 1);
    bool is_v2 = cgroups->version == CGROUP_V2;
    char text[24];
    if (sys_read_file(AT_FDCWD, "/proc/thread-self/cgroup", OWN_BYTES_MAX, &own) < 0)
        return;
    CLEANUP(fd_closep) int fd = open_own(cgroups, buffer_slice(&own), 0, is_v2 ? "cgroup.procs" : "tasks");
    snprintf(text, sizeof text, "%d", is_v2 ? (int)getpid() : (int)syscall(SYS_gettid)); /* "0" would need no lock, and warm nothing */
    if (fd >= 0 && write(fd, text, strlen(text)) < 0)
        return; /* the lock was taken before anything was refused */
}
