/* What supervisor.c and record.c share. */
#ifndef TIDEMILL_SUPERVISOR_PRIV_H
#define TIDEMILL_SUPERVISOR_PRIV_H

#include "loop/loop.h"
#include "supervisor/supervisor.h"

#define STOP_MS 15000
#define SUPERVISOR_SOCKETS "TIDEMILL_SOCKETS" /* in the environment: "name=fd,name=fd" */

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
    unsigned quick_deaths;               /* in a row */
    int numbers[SUPERVISOR_SOCKETS_MAX]; /* of its sockets' descriptors, in that process; parallel to supervisor's fds; -1: it has not got it */
    bool outdated;                       /* adopted, and not what we would start: to be replaced */
    pid_t retiring;                      /* the one before, which finishes what it has; 0: none */
    uint64_t retiring_ticks;
    struct loop_child *retiring_child;
    struct loop_timer patience; /* with the one that is to end: told first, killed then */
    bool told;
};

struct supervisor {
    struct loop *loop;
    const struct supervisor_options *options;
    int fds[SUPERVISOR_SOCKETS_MAX]; /* parallel to options->sockets; -1: not open */
    struct running running[SUPERVISOR_ROLES_MAX];
    struct loop_timer kill_timer;
    struct loop_child *check; /* of the program that is to take our place */
    pid_t check_pid;
    struct loop_timer check_timer;
    bool reload_again;                              /* asked for while roles were being replaced: when they are */
    bool replacing;                                 /* some role is outdated or retiring */
    char left_ports[2 * SUPERVISOR_SOCKETS_MAX][8]; /* ":80", of sockets that are closed because the settings have changed */
    size_t left_ports_count;
    bool stopping;
    bool killed;
};

/* A role's next process. */
void role_start(struct running *running);
bool all_down(const struct supervisor *supervisor);

/* replace.c: roles that run another program or command line than ours give way to ours. */
enum same { SAME_ROLE, OTHER_ROLE, UNKNOWN_ROLE };
/* Whether the process runs the program and the command line that we would start for this role. */
enum same replace_compare(pid_t pid, const struct supervisor_role *role);
void replace_find(struct supervisor *supervisor);
void replace_next(struct supervisor *supervisor);
/* Tells all that are outdated to end, now rather than in turn. False: nobody is. */
bool replace_all_at_once(struct supervisor *supervisor);
/* A role ended that had been told to, for a successor. */
void replace_ended(struct running *running);
void replace_on_patience(void *userdata);

/* reload.c: the supervisor becomes the program that now has its name. */
void reload_begin(struct supervisor *supervisor);
void reload_on_check_timeout(void *userdata);
/* Descriptors that the program before left to this one. */
void reload_inherit(struct supervisor *supervisor);
/* Into SUPERVISOR_RELOADED. */
void reload_tell(const struct supervisor *supervisor, const char *text);

/* The start time of a process in clock ticks since boot; -ESRCH when it is gone, another error when that cannot be told. */
int process_start_ticks(pid_t pid, uint64_t *ret);
/* Writes which roles run and which descriptors they hold. */
int record_write(const struct supervisor *supervisor);
/* Fills pid and start_ticks of roles that still live, and fds from their descriptors. A missing or odd file adopts nothing; one that cannot be read
 * is an error, for to start a second set of roles would be worse. */
int record_adopt(struct supervisor *supervisor);
/* The socket of that name from the process, which is a role's, where it has that number. */
void record_adopt_socket(struct supervisor *supervisor, struct slice name, pid_t pid, int fd);
/* Sockets that we have and that are not where the settings want them are closed: the settings have changed. */
void record_drop_moved_sockets(struct supervisor *supervisor);

/* Closes it; its port may still be held by a role. */
void record_leave_socket(struct supervisor *supervisor, int fd);

/* stray.c: adopts roles that run and that no record names. */
void stray_find(struct supervisor *supervisor);

#endif
