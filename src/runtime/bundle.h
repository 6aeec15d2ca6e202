/* An OCI bundle's config.json (runtime-spec 1.0.2) from a plain description: pure. */
#ifndef TIDEMILL_RUNTIME_BUNDLE_H
#define TIDEMILL_RUNTIME_BUNDLE_H

#include <sys/types.h>

#include "base/base.h"
#include "runtime/cgroup.h"

#define BUNDLE_BYTES_MAX (4 * MIB)

struct bundle_mount {
    const char *source, *destination;
    const char *type; /* NULL: a bind mount */
    bool read_only;
    const char *const *options; /* instead of the defaults of a bind mount; ends with NULL; NULL: rbind, rprivate, rw or ro */
};
struct bundle_device {
    const char *path;
    char type; /* 'c' or 'b' */
    unsigned major, minor;
    mode_t mode;
    uid_t uid;
    gid_t gid;
};
struct bundle_rlimit {
    const char *type; /* "RLIMIT_NOFILE" */
    uint64_t soft, hard;
};

struct bundle_process {
    const char *const *args; /* ends with NULL */
    const char *const *env;  /* "A=b"; ends with NULL */
    const char *cwd;         /* NULL: "/" */
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t groups_count;
    uint64_t capabilities; /* bit n: capability n */
    bool terminal, no_new_privileges;
    const char *apparmor_profile; /* NULL: none */
    const struct bundle_rlimit *rlimits;
    size_t rlimits_count;
    bool has_oom_score_adj;
    int oom_score_adj;
};
struct bundle {
    struct bundle_process process;
    const char *rootfs;
    bool read_only_rootfs, privileged, unmasked /* all of /proc and /sys is seen */;
    const char *hostname;                                          /* NULL: that of the UTS namespace that is joined */
    const char *network_namespace, *ipc_namespace, *uts_namespace; /* paths; NULL: the host's */
    const char *pid_namespace;                                     /* a path; NULL: a new one */
    const char *user_namespace;                                    /* a path; NULL: the host's; with it: */
    uid_t id_base;                                                 /* whom its 0 is outside */
    const char *sysfs, *mqueue;                                    /* mounts to show, since it may make none of these itself */
    bool host_pid;
    const char *cgroup_path;
    struct cgroup_limits limits;
    const struct bundle_mount *mounts; /* besides /proc, /dev, /sys … */
    size_t mounts_count;
    const struct bundle_device *devices;
    size_t devices_count;
    const char *propagation;     /* of the root: "rslave", "rshared"; NULL: private */
    const char *seccomp_program; /* base64; NULL: unconfined */
    int64_t shm_bytes;           /* 0: 64 MiB */
};
/* Appends the JSON. -ENOMEM. */
int bundle_format(const struct bundle *bundle, struct buffer *out);

/* The default set (docker's 14) and all that this kernel has. */
extern const uint64_t BUNDLE_CAPABILITIES_DEFAULT;
extern const uint64_t BUNDLE_CAPABILITIES_ALL;
/* The bit of "NET_ADMIN" or "CAP_NET_ADMIN" in any case; "ALL" gives all; 0 when unknown. */
uint64_t bundle_capability(struct slice name);

#endif
