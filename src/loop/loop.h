/* The event loop of every role: epoll, timers, signals, children, worker threads. One loop per process, single-threaded; only work functions run
 * elsewhere. Callbacks never nest: what a callback causes runs in a later step. Freeing a source inside any callback is safe: its own callback will
 * not run again. The loop makes no system call but epoll_wait when nothing happens, and sleeps without a timeout when no timer is set: idle costs
 * nothing. */
#ifndef TIDEMILL_LOOP_H
#define TIDEMILL_LOOP_H

#include <sys/types.h>

#include "base/base.h"

struct loop;

/* 0, or negative errno. */
int loop_new(struct loop **ret);
/* All sources must be freed before. Work that was submitted is finished, its `done` runs in here, then the worker threads are joined. NULL is
 * fine. */
void loop_free(struct loop *loop);
/* Runs until loop_stop(); 0, or negative errno when epoll itself fails. */
int loop_run(struct loop *loop);
/* One turn: waits at most timeout_ms (-1: until something happens). For tests. */
int loop_turn(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop);
/* CLOCK_MONOTONIC and CLOCK_REALTIME in nanoseconds, read once per turn (between turns: now). */
int64_t loop_now_ns(const struct loop *loop);
int64_t loop_wall_ns(const struct loop *loop);

/* File descriptors. Events are EPOLLIN | EPOLLOUT (level-triggered) or with EPOLLET. The descriptor stays the caller's and must outlive the source.
 * EPOLLERR and EPOLLHUP are reported in any case, except with events 0, which hears nothing at all. */
struct loop_io;
typedef void loop_io_fn(void *userdata, uint32_t events);
int loop_io_new(struct loop *loop, int fd, uint32_t events, loop_io_fn *on_ready, void *userdata, struct loop_io **ret);
int loop_io_set(struct loop_io *io, uint32_t events);
void loop_io_free(struct loop_io *io);

/* Timers, embedded in the caller's struct. One-shot; setting again moves it. Precision: a millisecond. */
struct loop_timer {
    struct heap_node node;
    struct loop *loop;
    void (*on_expire)(void *userdata);
    void *userdata;
};
void loop_timer_init(struct loop_timer *timer, struct loop *loop, void (*on_expire)(void *userdata), void *userdata);
/* After `delay_ms` from now; -ENOMEM. */
int loop_timer_set(struct loop_timer *timer, int64_t delay_ms);
/* Cancels; harmless when not set. Call before the storage goes away. */
void loop_timer_cancel(struct loop_timer *timer);
bool loop_timer_is_set(const struct loop_timer *timer);

/* Runs `fn` once, at the end of this turn of the loop (scheduled by another deferred call: of the next turn), embedded in the caller's struct. */
struct loop_defer {
    struct list node;
    struct loop *loop;
    void (*fn)(void *userdata);
    void *userdata;
};
void loop_defer_init(struct loop_defer *defer, struct loop *loop, void (*fn)(void *userdata), void *userdata);
/* Harmless when already scheduled. */
void loop_defer_schedule(struct loop_defer *defer);
void loop_defer_cancel(struct loop_defer *defer);

/* Signals (by signalfd, blocked in all threads): SIGTERM, SIGINT, SIGHUP, … `signals` ends with 0. They stay blocked after the source is
 * freed. SIGPIPE is ignored by loop_new. Create before the first loop_work. */
struct loop_signal;
int loop_signal_new(struct loop *loop, const int *signals, void (*on_signal)(void *userdata, int signal), void *userdata, struct loop_signal **ret);
void loop_signal_free(struct loop_signal *source);

/* A process that ends: own children (reaped; status as of waitpid) or, when it is not a child, any process (status -1). By pidfd.
 * -ESRCH when there is no such process. on_exit runs once; the source is then still to be freed (also inside on_exit). */
struct loop_child;
int loop_child_new(struct loop *loop, pid_t pid, void (*on_exit)(void *userdata, pid_t pid, int status), void *userdata, struct loop_child **ret);
/* Stops watching; does not kill, and does not reap what ends later. NULL is fine. */
void loop_child_free(struct loop_child *child);

/* Starting programs: no shell, argument vectors only; vfork-like cost whatever the size of the heap. */
struct loop_spawn_options {
    const char *const *argv;            /* argv[0] is looked up in PATH when it has no slash; NULL-terminated */
    const char *const *envp;            /* NULL: the parent's */
    const char *cwd;                    /* NULL: the parent's */
    int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null for stdin, the parent's for the others */
    const int *pass_fds;                /* descriptors that keep their numbers in the child, ends with -1; NULL: none */
    uid_t uid;                          /* with drop_privileges: change to uid/gid, no supplementary groups, no capabilities, no_new_privs */
    gid_t gid;
    bool drop_privileges;
    int oom_score_adj; /* -1000 to 1000, as far as we may; 0: not below 0, so that what we start does not inherit that we are protected */
    int cgroup_fd;     /* a group of cgroup v2 that the child is born in; 0: where the parent is. -ENOSYS where the kernel or the processor cannot */
    bool new_session;  /* setsid: survives its parent's terminal */
    bool die_with_parent; /* PR_SET_PDEATHSIG SIGKILL: when the calling thread ends, so call from the main one */
};
/* 0 and the pid; negative errno (of the exec too). Without a loop: for setup code and tests. The caller reaps (loop_child_new). Descriptors not named
 * are closed in the child, its signals are default and unblocked. */
int loop_spawn(const struct loop_spawn_options *options, pid_t *ret_pid);
/* Runs a program to its end and collects at most output_max bytes of its standard output and error, for short commands. on_done gets the wait status,
 * or a negative errno when it could not start, was killed for exceeding timeout_ms (-ETIMEDOUT; with spawn.new_session its whole group), or succeeded
 * while its input or output did not come through whole. on_done runs once, never before loop_command_run returns, and the command is then gone.
 * Descriptors 0 to 2 of `spawn` are ours. `input` is copied. *ret may be NULL. */
struct loop_command_options {
    struct loop_spawn_options spawn;
    struct slice input;
    size_t output_max;  /* of each of the two; the rest is read and dropped */
    int64_t timeout_ms; /* 0: none */
};
struct loop_command;
typedef void loop_command_fn(void *userdata, int status, struct slice out, struct slice err);
int loop_command_run(struct loop *loop, const struct loop_command_options *options, loop_command_fn *on_done, void *userdata,
                     struct loop_command **ret);
/* Kills it; on_done does not run. NULL is fine. */
void loop_command_cancel(struct loop_command *command);

/* Worker threads, started on first use, few in each lane. The lane says how long the work may take, so that what takes long never occupies a thread
 * that something quick waits for. `work` runs on a thread, then `done` on the loop. Nothing else may touch what work touches meanwhile.
 * -ENOBUFS when LOOP_LANE_ITEMS_MAX are under way in the lane. */
enum loop_lane {
    LOOP_QUICK,   /* milliseconds, whatever comes: a commit, a control group, a look whether an image is here */
    LOOP_NAMES,   /* waits for a network that may be gone: looking up a host */
    LOOP_BULK,    /* seconds to minutes, and somebody waits for it: pulling, unpacking, giving a volume to a group, giving memory back */
    LOOP_MEASURE, /* walks that only read: what pods take of the disk, what could be removed */
    LOOP_SWEEP,   /* as long as it takes, and nothing waits: removing trees, collecting garbage */
    LOOP_LANES,
};
#define LOOP_LANE_ITEMS_MAX 4096
int loop_work(struct loop *loop, enum loop_lane lane, void (*work)(void *userdata), void (*done)(void *userdata), void *userdata);

#endif
