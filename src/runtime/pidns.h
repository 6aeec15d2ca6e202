/* A PID namespace that the containers of a pod share. It lives as long as its first process, which does nothing: a program of ours (pause/) in a
 * control group of its own, by which the next node finds it again. Linux ends all that is inside with it. */
#ifndef TIDEMILL_RUNTIME_PIDNS_H
#define TIDEMILL_RUNTIME_PIDNS_H

#include <sys/types.h>

#include "base/base.h"
#include "runtime/cgroup.h"

#define PIDNS_JOIN_MAX 4

/* Starts the first process of a new namespace. It joins the namespaces of the files in `join` before, up to PIDNS_JOIN_MAX and then NULL; the last
 * may be a user namespace, which then owns the new one. The caller reaps it. Takes a few milliseconds. Call from the main thread. */
int pidns_start(const struct cgroups *cgroups, const char *cgroup_path, const char *const *join, pid_t *ret);
/* The process that is there; 0: none. */
pid_t pidns_find(const struct cgroups *cgroups, const char *cgroup_path);
/* Ends it and removes the group; waits until it is gone, a moment. Absent is fine. */
void pidns_stop(const struct cgroups *cgroups, const char *cgroup_path);

#endif
