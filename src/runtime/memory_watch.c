/* What the kernel tells of memory, whichever is there:
 *
 * cgroup v1: a threshold on the usage of a group, told through an eventfd. A threshold cannot be moved, so each arming makes a new eventfd, for the
 *   root group and ours together; the kernel forgets the old one when it is closed. The usage holds the page cache too: once that fills the memory,
 *   usage does not grow any more although available memory shrinks, so this is an alarm but no proof.
 * cgroup v2: a group that comes to its limit changes its memory.events ("max"): the kernel takes caches back then, and kills only when there are none
 *   left. There is no threshold below the limit that would not throttle (memory.high does).
 * pressure stall information (/proc/pressure/memory, kernels that have it switched on): processes waited for memory for a tenth of half a second; or
 *   of two seconds, because shorter windows need a privilege that containers of the platform itself may lack. */
#include "runtime/memory_watch.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "sys/sys.h"

#define LIMIT_NONE ((uint64_t)1 << 62) /* v1 says the largest number of pages */
static const char *const stall_triggers[] = {"some 50000 500000", "some 200000 2000000"};

struct memory_watch {
    struct loop *loop;
    const struct cgroups *cgroups;
    char group[200];
    void (*on_low)(void *userdata);
    void *userdata;
    int threshold_fd, stall_fd, events_fd;
    struct loop_io *threshold_io, *stall_io, *events_io;
};

/* A file of the group's in the hierarchy of memory. */
static void file_of(const struct cgroups *cgroups, const char *group, const char *name, char ret[PATH_MAX]) {
    snprintf(ret, PATH_MAX, "%s%s%s/%s", cgroups->root, cgroups->version == CGROUP_V1 ? "/memory" : "", group, name);
}

static int read_number(const char *path, uint64_t *ret) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64);
    int r = sys_read_file(AT_FDCWD, path, 63, &text);
    return r < 0 ? r : slice_parse_u64(slice_trim(buffer_slice(&text)), UINT64_MAX, ret);
}

uint64_t memory_watch_limit(const struct cgroups *cgroups, const char *path) {
    char file[PATH_MAX];
    uint64_t limit;
    file_of(cgroups, path, cgroups->version == CGROUP_V1 ? "memory.limit_in_bytes" : "memory.max", file);
    return read_number(file, &limit) == 0 && limit < LIMIT_NONE ? limit : 0; /* v2 says "max" */
}

/* --- thresholds of v1 --- */

static void on_threshold(void *userdata, __attribute__((unused)) uint32_t events) {
    struct memory_watch *watch = userdata;
    uint64_t count;
    if (read(watch->threshold_fd, &count, sizeof count) == sizeof count)
        watch->on_low(watch->userdata);
}

static void disarm(struct memory_watch *watch) {
    loop_io_free(TAKE(watch->threshold_io));
    if (watch->threshold_fd >= 0)
        close(watch->threshold_fd);
    watch->threshold_fd = -1;
}

static int set_threshold(const struct memory_watch *watch, const char *group, int64_t more_bytes) {
    char path[PATH_MAX], text[80];
    uint64_t usage;
    file_of(watch->cgroups, group, "memory.usage_in_bytes", path);
    CLEANUP(fd_closep) int usage_fd = open(path, O_RDONLY | O_CLOEXEC);
    int r = usage_fd < 0 ? -errno : read_number(path, &usage);
    if (r < 0)
        return r;
    snprintf(text, sizeof text, "%d %d %" PRIu64, watch->threshold_fd, usage_fd, MIN(usage, INT64_MAX / 2) + (uint64_t)more_bytes);
    file_of(watch->cgroups, group, "cgroup.event_control", path);
    return sys_write_existing(AT_FDCWD, path, slice_of(text));
}

void memory_watch_arm(struct memory_watch *watch, int64_t more_bytes, int64_t group_more_bytes) {
    const struct {
        const char *group;
        int64_t more_bytes;
    } groups[] = {{"", more_bytes}, {watch->group, group_more_bytes}};
    int error = 0, set = 0;
    disarm(watch);
    if (watch->cgroups->version != CGROUP_V1 || (watch->threshold_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(groups) && !error; i++)
        if (groups[i].more_bytes < INT64_MAX / 2) {
            error = set_threshold(watch, groups[i].group, MAX(groups[i].more_bytes, 0));
            set++;
        }
    if (!error && set)
        error = loop_io_new(watch->loop, watch->threshold_fd, EPOLLIN, on_threshold, watch, &watch->threshold_io);
    if (error || !set)
        disarm(watch);
}

/* --- stalls, and the limit of v2 --- */

static void on_stall(void *userdata, uint32_t events) {
    struct memory_watch *watch = userdata;
    if (events & EPOLLERR) { /* the trigger is gone for good */
        loop_io_free(TAKE(watch->stall_io));
        return;
    }
    watch->on_low(watch->userdata);
}

static void watch_stalls(struct memory_watch *watch) {
    for (size_t i = 0; i < ARRAY_LEN(stall_triggers) && !watch->stall_io; i++) {
        ssize_t len = (ssize_t)strlen(stall_triggers[i]) + 1;
        watch->stall_fd = open("/proc/pressure/memory", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (watch->stall_fd < 0)
            return;
        if (write(watch->stall_fd, stall_triggers[i], (size_t)len) != len ||
            loop_io_new(watch->loop, watch->stall_fd, EPOLLPRI, on_stall, watch, &watch->stall_io) < 0) {
            close(watch->stall_fd);
            watch->stall_fd = -1;
        }
    }
}

static void on_events(void *userdata, __attribute__((unused)) uint32_t events) {
    struct memory_watch *watch = userdata;
    char bytes[4 * KIB];
    while (read(watch->events_fd, bytes, sizeof bytes) > 0)
        ;
    watch->on_low(watch->userdata);
}

static void watch_limit(struct memory_watch *watch) {
    char path[PATH_MAX];
    if (watch->cgroups->version != CGROUP_V2)
        return;
    file_of(watch->cgroups, watch->group, "memory.events.local", path); /* the other counts what containers meet at their own limits too */
    if (access(path, F_OK) < 0)                                         /* before Linux 5.2 */
        file_of(watch->cgroups, watch->group, "memory.events", path);
    watch->events_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->events_fd >= 0 && inotify_add_watch(watch->events_fd, path, IN_MODIFY) >= 0)
        (void)loop_io_new(watch->loop, watch->events_fd, EPOLLIN, on_events, watch, &watch->events_io);
}

/* --- life --- */

int memory_watch_new(struct loop *loop, const struct cgroups *cgroups, const char *group, void (*on_low)(void *userdata), void *userdata,
                     struct memory_watch **ret) {
    struct memory_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return -ENOMEM;
    *watch = (struct memory_watch){
        .loop = loop, .cgroups = cgroups, .on_low = on_low, .userdata = userdata, .threshold_fd = -1, .stall_fd = -1, .events_fd = -1};
    snprintf(watch->group, sizeof watch->group, "%s", group);
    watch_stalls(watch);
    watch_limit(watch);
    *ret = watch;
    return 0;
}

bool memory_watch_works(const struct memory_watch *watch) {
    return watch->threshold_io;
}

void memory_watch_free(struct memory_watch *watch) {
    const struct {
        struct loop_io *io;
        int fd;
    } sources[] = {{watch ? watch->stall_io : NULL, watch ? watch->stall_fd : -1}, {watch ? watch->events_io : NULL, watch ? watch->events_fd : -1}};
    if (!watch)
        return;
    disarm(watch);
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        loop_io_free(sources[i].io);
        if (sources[i].fd >= 0)
            close(sources[i].fd);
    }
    free(watch);
}
