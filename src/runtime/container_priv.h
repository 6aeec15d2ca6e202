#ifndef TIDEMILL_RUNTIME_CONTAINER_PRIV_H
#define TIDEMILL_RUNTIME_CONTAINER_PRIV_H

#include <limits.h>

#include "runtime/cgroup_door.h"
#include "runtime/container.h"
#include "runtime/program.h"

struct containers {
    struct loop *loop;
    int64_t timeout_ms;
    const struct cgroups *cgroups;
    char *dir, *conmon_cgroup;
    struct list live;     /* of struct container */
    struct list entering; /* of struct enter */
    int enter_fd;         /* enter_load's */
    struct list waiting;  /* of struct container: to be launched when fewer are at it */
    unsigned launching, launches_max;
    struct loop_defer launch_next;
    struct program crun, conmon;
    struct cgroup_door door; /* to conmon_cgroup */
    char crun_root[PATH_MAX];
};
/* The handle of the id; NULL: there is none. */
const struct container *container_find(const struct containers *containers, const char *id);
int container_pid_fd(const struct container *container); /* -1: it is gone */
const char *container_cgroup(const struct container *container);

#endif
