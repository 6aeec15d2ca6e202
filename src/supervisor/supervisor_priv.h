/* What supervisor.c and record.c share. */
#ifndef TIDEMILL_SUPERVISOR_PRIV_H
#define TIDEMILL_SUPERVISOR_PRIV_H

#include "loop/loop.h"
#include "supervisor/supervisor.h"

/* A role as it runs. */
struct running {
    struct supervisor *supervisor;
    const struct supervisor_role *role;
    pid_t pid;            /* 0: not running */
    uint64_t start_ticks; /* of /proc/PID/stat: tells a pid from its reuse */
    struct loop_child *child;
    struct loop_timer restart;
    int64_t started_ns;
    int64_t backoff_ms;
    unsigned quick_deaths; /* in a row */
};

struct supervisor {
    struct loop *loop;
    const struct supervisor_options *options;
    int fds[SUPERVISOR_SOCKETS_MAX]; /* parallel to options->sockets; -1: not open */
    struct running running[SUPERVISOR_ROLES_MAX];
    struct loop_timer kill_timer;
    bool stopping;
    bool killed;
};

/* The start time of a process in clock ticks since boot; -ESRCH when it is gone, another error when that cannot be told. */
int process_start_ticks(pid_t pid, uint64_t *ret);
/* Writes which roles run and which descriptors they hold. */
int record_write(const struct supervisor *supervisor);
/* Fills pid and start_ticks of roles that still live, and fds from their descriptors. A missing or odd file adopts nothing; one that cannot be read is
 * an error, for to start a second set of roles would be worse. */
int record_adopt(struct supervisor *supervisor);

#endif
