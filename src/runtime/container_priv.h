#ifndef TIDEMILL_RUNTIME_CONTAINER_PRIV_H
#define TIDEMILL_RUNTIME_CONTAINER_PRIV_H

#include <limits.h>

#include "runtime/container.h"

struct containers {
    struct loop *loop;
    const struct cgroups *cgroups;
    char *dir, *conmon_cgroup;
    char crun[PATH_MAX], conmon[PATH_MAX], crun_root[PATH_MAX];
};

#endif
