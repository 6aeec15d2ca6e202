/* Fault injection, in two ways.
 *
 * Within a process: a countdown that one call at a time reads. Tests set it and walk `after` upwards until nothing fails any more, which makes each
 * call fail in turn. Thread-local, so it is no shared state: what a worker thread does is not disturbed.
 *
 * From outside, for a whole role: TIDEMILL_FAULTS names a file with one line, "ACTION OPERATION COUNT [ERRNO]". "die mount 3" kills the process (as
 * kill -9 does) before its third mount, "die * 17" before its 17th operation of any kind, "fail netlink 5 12" lets the next five fail with errno 12.
 * The count is kept in the file, so that it goes on over restarts; the file is gone when the count is used up. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>

#include "sys/sys_priv.h"

#define PLAN_BYTES_MAX 200

static _Thread_local int calls_left;
static _Thread_local int error_injected;

void sys_fault_set(int after, int error) {
    calls_left = after;
    error_injected = error;
}

int sys_fault_check(void) {
    if (calls_left == 0 || --calls_left > 0)
        return 0;
    return -error_injected;
}

struct plan {
    struct slice action, operation;
    uint64_t count, error;
};

static bool parse(struct slice text, struct plan *ret) {
    struct slice rest = slice_trim(text);
    ret->action = slice_cut(&rest, ' ');
    ret->operation = slice_cut(&rest, ' ');
    ret->error = EIO;
    struct slice count = slice_cut(&rest, ' ');
    return slice_parse_u64(count, UINT32_MAX, &ret->count) == 0 && ret->count > 0 && (!rest.data || slice_parse_u64(rest, 4095, &ret->error) == 0);
}

static int carry_out(const char *path, int fd, const struct plan *plan) {
    char text[PLAN_BYTES_MAX];
    bool dies = slice_is(plan->action, "die");
    if (plan->count == 1)
        unlink(path);
    else {
        int len = snprintf(text, sizeof text, "%.*s %.*s %" PRIu64 " %" PRIu64 "\n", SLICE_ARG(plan->action), SLICE_ARG(plan->operation),
                           plan->count - 1, plan->error);
        if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)len, 0) != len)
            return -errno;
    }
    if (dies && plan->count == 1)
        kill(getpid(), SIGKILL);
    return dies ? 0 : -(int)plan->error;
}

int sys_point(const char *operation) {
    const char *path = getenv("TIDEMILL_FAULTS");
    char bytes[PLAN_BYTES_MAX];
    struct plan plan;
    if (!path)
        return 0;
    CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) < 0)
        return 0;
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n <= 0 || !parse(slice_make(bytes, (size_t)n), &plan) || !(slice_is(plan.operation, "*") || slice_is(plan.operation, operation)))
        return 0;
    return carry_out(path, fd, &plan);
}
