/* Control groups, v2 or v1 (also hybrid), behind one interface. The root is a parameter, so that tests face a tree of plain files. */
#ifndef TIDEMILL_RUNTIME_CGROUP_H
#define TIDEMILL_RUNTIME_CGROUP_H

#include <sys/types.h>

#include "base/base.h"

#define CGROUP_CONTROLLERS_MAX 16

enum cgroup_version { CGROUP_V1 = 1, CGROUP_V2 = 2 };
struct cgroups {
    enum cgroup_version version;
    char root[200];                               /* "/sys/fs/cgroup" */
    char controllers[CGROUP_CONTROLLERS_MAX][32]; /* v1: the folders beneath root, each a hierarchy */
    size_t controllers_count;
    bool is_hybrid; /* v1 with "unified" mounted: crun 1.8 refuses it until it is hidden */
};
/* Looks at the tree at `root`; -ENOTSUP with diag when it is neither. */
int cgroups_detect(const char *root, struct cgroups *ret, struct diag *diag);

struct cgroup_limits {
    uint64_t cpu_shares;  /* relative; 0: unset */
    int64_t cpu_quota_us; /* per CGROUP_PERIOD_US; 0: unset */
    int64_t memory_bytes; /* 0: unset */
    int64_t pids;         /* 0: unset */
};
#define CGROUP_PERIOD_US 100000
/* Of Kubernetes: 1000 thousandths of a CPU are 1024 shares, at least 2; v2's weight follows linearly. */
uint64_t cgroup_shares_of_milli(int64_t milli);
int64_t cgroup_quota_of_milli(int64_t milli);
uint64_t cgroup_weight_of_shares(uint64_t shares);

/* `path` is "/tidemill-x/pod-y": in each hierarchy. Existing is fine. On v2 the controllers are enabled for children on the way. */
int cgroup_create(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits);
int cgroup_attach(const struct cgroups *cgroups, const char *path, pid_t pid);
/* SIGKILL to everything in it and beneath (v2: cgroup.kill). */
int cgroup_kill(const struct cgroups *cgroups, const char *path);
/* Removes it and what is beneath; absent is fine; -EBUSY while processes live. */
int cgroup_remove(const struct cgroups *cgroups, const char *path);
/* Calls fn with the group's folder in each hierarchy. */
void cgroup_folders(const struct cgroups *cgroups, const char *path, void (*fn)(void *userdata, const char *folder), void *userdata);
bool cgroup_exists(const struct cgroups *cgroups, const char *path);
/* Calls on_child with each child's name. */
int cgroup_children(const struct cgroups *cgroups, const char *path, void (*on_child)(void *userdata, const char *name), void *userdata);

/* Calls fn with each process in it (not beneath). */
void cgroup_processes(const struct cgroups *cgroups, const char *path, void (*fn)(void *userdata, pid_t pid), void *userdata);

struct cgroup_usage {
    uint64_t cpu_ns, memory_bytes /* working set */, oom_kills, pids;
};
/* What cannot be read is 0. */
void cgroup_usage(const struct cgroups *cgroups, const char *path, struct cgroup_usage *ret);

#endif
