/* Signals through a signalfd: they become ordinary events, no handler ever interrupts anything. The signals stay blocked after the source is freed,
 * so that one that came too late does not kill the process while it cleans up. loop_spawn gives children an empty mask. */
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "loop/loop_priv.h"

struct loop_signal {
    int fd;
    struct loop_io *io;
    void (*on_signal)(void *userdata, int signal);
    void *userdata;
};

static void on_ready(void *userdata, uint32_t events) {
    (void)events;
    struct loop_signal *source = userdata;
    struct signalfd_siginfo info;
    /* One per turn, since the callback may free the source; level-triggered, the rest comes next turn. */
    if (read(source->fd, &info, sizeof info) == sizeof info)
        source->on_signal(source->userdata, (int)info.ssi_signo);
}

static int signal_start(struct loop_signal *source, struct loop *loop, const sigset_t *set) {
    int r = pthread_sigmask(SIG_BLOCK, set, NULL);
    if (r != 0)
        return -r;
    source->fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (source->fd < 0)
        return -errno;
    return loop_io_new(loop, source->fd, EPOLLIN, on_ready, source, &source->io);
}

int loop_signal_new(struct loop *loop, const int *signals, void (*on_signal)(void *userdata, int signal), void *userdata, struct loop_signal **ret) {
    struct loop_signal *source = calloc(1, sizeof *source);
    if (!source)
        return -ENOMEM;
    *source = (struct loop_signal){.fd = -1, .on_signal = on_signal, .userdata = userdata};
    sigset_t set;
    sigemptyset(&set);
    for (; *signals; signals++)
        sigaddset(&set, *signals);
    int r = signal_start(source, loop, &set);
    if (r < 0) {
        loop_signal_free(source);
        return r;
    }
    *ret = source;
    return 0;
}

void loop_signal_free(struct loop_signal *source) {
    if (!source)
        return;
    loop_io_free(source->io);
    fd_closep(&source->fd);
    free(source);
}
