/* Processes that end, by pidfd: no SIGCHLD, no race with reused process ids. Own children are reaped through the same pidfd; of a process that is not
 * our child only the end can be known. */
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "loop/loop_priv.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

struct loop_child {
    int pidfd;
    pid_t pid;
    struct loop_io *io;
    void (*on_exit)(void *userdata, pid_t pid, int status);
    void *userdata;
};

/* The status as waitpid() would have given it. */
static int status_of(const siginfo_t *info) {
    switch (info->si_code) {
    case CLD_EXITED: return (info->si_status & 0xff) << 8;
    case CLD_DUMPED: return (info->si_status & 0x7f) | 0x80;
    default: return info->si_status & 0x7f;
    }
}

static void on_ready(void *userdata, uint32_t events) {
    (void)events;
    struct loop_child *child = userdata;
    siginfo_t info = {0};
    int status = -1;
    if (waitid((idtype_t)P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG) == 0) {
        if (info.si_pid == 0) { /* not yet reapable: a tracer holds it, and we are woken when it lets go, not all the time until then */
            loop_io_set(child->io, EPOLLIN | EPOLLET);
            return;
        }
        status = status_of(&info);
    }
    loop_io_free(TAKE(child->io));
    child->on_exit(child->userdata, child->pid, status);
}

int loop_child_new(struct loop *loop, pid_t pid, void (*on_exit)(void *userdata, pid_t pid, int status), void *userdata, struct loop_child **ret) {
    struct loop_child *child = calloc(1, sizeof *child);
    if (!child)
        return -ENOMEM;
    *child = (struct loop_child){.pid = pid, .on_exit = on_exit, .userdata = userdata};
    child->pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */
    int r = child->pidfd < 0 ? -errno : loop_io_new(loop, child->pidfd, EPOLLIN, on_ready, child, &child->io);
    if (r < 0) {
        loop_child_free(child);
        return r;
    }
    *ret = child;
    return 0;
}

void loop_child_free(struct loop_child *child) {
    if (!child)
        return;
    loop_io_free(child->io);
    fd_closep(&child->pidfd);
    free(child);
}
