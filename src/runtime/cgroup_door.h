/* Processes that begin in a control group, without the wait that moving one costs.
 *
 * The kernel moves a process under a lock for writers that are rare by design: entering it from rest takes an RCU grace period, 10 ms and more,
 * during which no group can be made either, and a container's start pays it. There are two ways around it.
 *
 * A door: what is spawned is born in the group. On v2 the kernel is told so when it makes the process (loop_spawn_options.cgroup_fd). On v1 the
 * thread that spawns goes there itself, which needs no lock ("0" into `tasks`), and comes back.
 *
 * Warming moves this thread to where it is: whoever moves something within the next 10 ms or so (crun) finds the lock at hand. For a worker thread,
 * while the start is busy with other things. */
#ifndef TIDEMILL_RUNTIME_CGROUP_DOOR_H
#define TIDEMILL_RUNTIME_CGROUP_DOOR_H

#include "runtime/cgroup.h"

struct cgroup_door {
    int inside[CGROUP_CONTROLLERS_MAX], outside[CGROUP_CONTROLLERS_MAX]; /* `tasks` of the group, and of where we live */
    size_t count;                                                        /* v1: of these */
    int folder;                                                          /* v2: the group; 0: none */
};
/* The group exists. An empty struct is no door: things have to be attached. */
int cgroup_door_open(const struct cgroups *cgroups, const char *path, struct cgroup_door *ret);
void cgroup_door_close(struct cgroup_door *door);
/* This thread alone; false: it is where it was. Failing to come back closes the door: the thread then stays in the group, which only accounts it
 * elsewhere. */
bool cgroup_door_enter(const struct cgroup_door *door);
void cgroup_door_leave(struct cgroup_door *door);

/* Blocks for the grace period. Best effort. */
void cgroup_warm(const struct cgroups *cgroups);

#endif
