/* What the files about control groups say to each other: where a group's files are. */
#ifndef TIDEMILL_RUNTIME_CGROUP_PRIV_H
#define TIDEMILL_RUNTIME_CGROUP_PRIV_H

#include <limits.h>

#include "runtime/cgroup.h"

#define CGROUP_FILE_BYTES_MAX (256 * KIB)

/* The folder of a group in one of the trees (v2 has one); -ENAMETOOLONG. */
int cgroup_folder(const struct cgroups *cgroups, size_t tree, const char *path, char ret[PATH_MAX]);
/* The v1 hierarchy with this controller, possibly mounted together with others ("cpu,cpuacct"); v2: an index; -1 when there is none. */
int cgroup_tree_of(const struct cgroups *cgroups, const char *controller);
int cgroup_write(const char *folder, const char *name, const char *text);

#endif
