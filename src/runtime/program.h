/* The program crun, ready to run. At each start crun copies itself, or mounts a read-only view of itself, and executes that, so that a container that
 * takes over its own first process cannot write to the host's program (CVE-2019-5736): two loads of a dozen libraries, a third of its time. From a
 * sealed copy in memory it sees that nothing can be written, and goes on at once. */
#ifndef TIDEMILL_RUNTIME_PROGRAM_H
#define TIDEMILL_RUNTIME_PROGRAM_H

#include <sys/types.h>

#include "base/base.h"

struct program {
    char path[4096]; /* as installed */
    char copy[64];   /* /proc/<pid>/fd/<n>; "" without a copy */
    int fd;
    dev_t device; /* of what was copied: an upgrade is noticed */
    ino_t inode;
    int64_t changed_ns;
};
/* Looks for it in PATH and then in the usual folders; -ENOENT with diag. */
int program_find(struct program *program, const char *name, struct diag *diag);
void program_deinit(struct program *program);
/* What to execute now: the sealed copy, made anew when the installed file has changed, or the installed file where that is not possible. Good as long
 * as this process lives. */
const char *program_sealed(struct program *program);
/* An empty memory file that can be sealed and executed. */
int program_open_memory(const char *name);
/* One of these bytes, sealed. */
int program_seal(const char *name, struct slice bytes);

#endif
