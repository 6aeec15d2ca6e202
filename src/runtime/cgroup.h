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
    char controllers[CGROUP_CONTROLLERS_MAX][32]; /* v1: the folders beneath root, each a hierarchy; v2: names */
    size_t controllers_count;
    bool is_hybrid; /* v1 with "unified" mounted: crun 1.8 refuses it until it is hidden */
};
/* Looks at the tree at `root`; -ENOTSUP with diag when it is neither, or nothing can be limited beneath it. */
int cgroups_detect(const char *root, struct cgroups *ret, struct diag *diag);
/* "cpu", "memory", "pids", "hugetlb", … */
bool cgroups_has(const struct cgroups *cgroups, const char *controller);

#define CGROUP_UNLIMITED (-1)
#define CGROUP_HUGEPAGES_MAX 4
struct cgroup_hugepages {
    char size[16]; /* "2MB" */
    int64_t bytes;
};
struct cgroup_limits {
    uint64_t cpu_shares;  /* relative; 0: as it is */
    int64_t cpu_quota_us; /* per CGROUP_PERIOD_US; 0: as it is; CGROUP_UNLIMITED */
    int64_t memory_bytes; /* and no swap; 0: as it is; CGROUP_UNLIMITED */
    int64_t pids;         /* 0: as it is; CGROUP_UNLIMITED */
    bool idle;            /* runs when nobody else beneath its parent wants to */
    bool kill_all;        /* v2: out of memory, all its processes go together */
    struct cgroup_hugepages hugepages[CGROUP_HUGEPAGES_MAX];
    size_t hugepages_count;
};
#define CGROUP_PERIOD_US 100000
#define CGROUP_SHARES_MIN 2
#define CGROUP_SHARES_MAX 262144
/* Of Kubernetes: 1000 thousandths of a CPU are 1024 shares, at least 2; v2's weight follows linearly. */
uint64_t cgroup_shares_of_milli(int64_t milli);
int64_t cgroup_quota_of_milli(int64_t milli);
uint64_t cgroup_weight_of_shares(uint64_t shares);

/* `path` is "/tidemill-x/pod-y": in each hierarchy. Existing is fine. On v2 the controllers are enabled for children on the way. */
int cgroup_create(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits);
/* Of one that exists. -ENOTSUP: the kernel has no such limit; -EBUSY (v1): more memory than that is in use and cannot be taken back. */
int cgroup_limit(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits);
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

/* Whether the text of /proc/<pid>/cgroup names the group or one beneath it. */
bool cgroup_text_names(struct slice text, const char *path);
/* Whether it is that of a process which is ending, or has ended, on v1: there it has left its groups. On v2 it stays. */
bool cgroup_text_is_of_ending(struct slice text);
/* Calls fn with each process in it (not beneath). */
void cgroup_processes(const struct cgroups *cgroups, const char *path, void (*fn)(void *userdata, pid_t pid), void *userdata);

/* Since the group was made, or now; bytes and nanoseconds. */
struct cgroup_usage {
    uint64_t cpu_ns, cpu_user_ns, cpu_system_ns;
    uint64_t periods, throttled_periods, throttled_ns; /* of the quota */
    uint64_t memory_bytes /* working set */, memory_usage, inactive_file, memory_rss, memory_cache, memory_mapped, memory_swap;
    uint64_t memory_peak, memory_failures /* times at the limit */, page_faults, major_faults;
    uint64_t oom_kills, pids /* processes and threads */;
};
/* What cannot be read is 0. Times by user and system, throttling, peak and swap only by the second, where they cost another file. */
void cgroup_usage(const struct cgroups *cgroups, const char *path, struct cgroup_usage *ret);
void cgroup_usage_all(const struct cgroups *cgroups, const char *path, struct cgroup_usage *ret);
uint64_t cgroup_oom_kills(const struct cgroups *cgroups, const char *path);

#endif
