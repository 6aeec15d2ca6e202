/* Two things of the kernel, whichever is there:
 *
 * cgroup v1: a threshold on the usage of the root group, told through an eventfd. A threshold cannot be moved, so each arming makes a new eventfd;
 * the kernel forgets the old one when it is closed. The usage holds the page cache too: once that fills the memory, usage does not grow any more
 *   although available memory shrinks, so this is an alarm but no proof.
 * pressure stall information (/proc/pressure/memory, kernels that have it switched on): processes waited for memory for a tenth of two seconds. The
 *   window is a multiple of two seconds because shorter ones need a privilege that containers of the platform itself may lack.
 *
 * cgroup v2 has no threshold that does not throttle (memory.high does), so there is only the second. */
#include "runtime/memory_watch.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sys/sys.h"

#define LIMIT_NONE ((uint64_t)1 << 62) /* v1 says the largest number of pages */
#define STALL_TRIGGER "some 200000 2000000"

struct memory_watch {
    struct loop *loop;
    const struct cgroups *cgroups;
    void (*on_low)(void *userdata);
    void *userdata;
    int threshold_fd, stall_fd;
    struct loop_io *threshold_io, *stall_io;
};

static void on_threshold(void *userdata, __attribute__((unused)) uint32_t events) {
    struct memory_watch *watch = userdata;
    uint64_t count;
    if (read(watch->threshold_fd, &count, sizeof count) == sizeof count)
        watch->on_low(watch->userdata);
}

static void on_stall(void *userdata, uint32_t events) {
    struct memory_watch *watch = userdata;
    if (events & EPOLLERR) { /* the trigger is gone for good */
        loop_io_free(TAKE(watch->stall_io));
        return;
    }
    watch->on_low(watch->userdata);
}

static void disarm(struct memory_watch *watch) {
    loop_io_free(TAKE(watch->threshold_io));
    if (watch->threshold_fd >= 0)
        close(watch->threshold_fd);
    watch->threshold_fd = -1;
}

/* Of the root group; -1 when this machine has none. */
static int open_usage(const struct memory_watch *watch, char folder[PATH_MAX]) {
    if (watch->cgroups->version != CGROUP_V1 || snprintf(folder, PATH_MAX, "%s/memory", watch->cgroups->root) >= PATH_MAX)
        return -1;
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/memory.usage_in_bytes", folder);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int64_t read_usage(int fd) {
    char text[32];
    ssize_t n = pread(fd, text, sizeof text, 0);
    uint64_t value;
    return n > 0 && slice_parse_u64(slice_trim(slice_make(text, (size_t)n)), INT64_MAX / 2, &value) == 0 ? (int64_t)value : -1;
}

void memory_watch_arm(struct memory_watch *watch, int64_t more_bytes) {
    char folder[PATH_MAX], path[PATH_MAX + 32], text[80];
    disarm(watch);
    CLEANUP(fd_closep) int usage_fd = open_usage(watch, folder);
    int64_t usage = usage_fd < 0 ? -1 : read_usage(usage_fd);
    if (usage < 0 || (watch->threshold_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0)
        return;
    snprintf(path, sizeof path, "%s/cgroup.event_control", folder);
    snprintf(text, sizeof text, "%d %d %" PRId64, watch->threshold_fd, usage_fd, usage + MAX(more_bytes, 0));
    int r = sys_write_existing(AT_FDCWD, path, slice_of(text));
    if (r == 0)
        r = loop_io_new(watch->loop, watch->threshold_fd, EPOLLIN, on_threshold, watch, &watch->threshold_io);
    if (r < 0)
        disarm(watch);
}

static void watch_stalls(struct memory_watch *watch) {
    watch->stall_fd = open("/proc/pressure/memory", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (watch->stall_fd < 0)
        return;
    ssize_t n = write(watch->stall_fd, STALL_TRIGGER, sizeof STALL_TRIGGER); /* with its NUL */
    if (n != sizeof STALL_TRIGGER || loop_io_new(watch->loop, watch->stall_fd, EPOLLPRI, on_stall, watch, &watch->stall_io) < 0) {
        close(watch->stall_fd);
        watch->stall_fd = -1;
    }
}

int memory_watch_new(struct loop *loop, const struct cgroups *cgroups, void (*on_low)(void *userdata), void *userdata, struct memory_watch **ret) {
    struct memory_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return -ENOMEM;
    *watch = (struct memory_watch){.loop = loop, .cgroups = cgroups, .on_low = on_low, .userdata = userdata, .threshold_fd = -1, .stall_fd = -1};
    watch_stalls(watch);
    *ret = watch;
    return 0;
}

uint64_t memory_watch_limit(const struct cgroups *cgroups, const char *path) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64);
    bool is_v1 = cgroups->version == CGROUP_V1;
    char file[PATH_MAX];
    uint64_t limit;
    snprintf(file, sizeof file, "%s%s%s/%s", cgroups->root, is_v1 ? "/memory" : "", path, is_v1 ? "memory.limit_in_bytes" : "memory.max");
    if (sys_read_file(AT_FDCWD, file, 63, &text) < 0 || slice_parse_u64(slice_trim(buffer_slice(&text)), UINT64_MAX, &limit) < 0)
        return 0; /* v2 says "max" */
    return limit < LIMIT_NONE ? limit : 0;
}

bool memory_watch_works(const struct memory_watch *watch) {
    return watch->threshold_io || watch->stall_io;
}

void memory_watch_free(struct memory_watch *watch) {
    if (!watch)
        return;
    disarm(watch);
    loop_io_free(watch->stall_io);
    if (watch->stall_fd >= 0)
        close(watch->stall_fd);
    free(watch);
}
