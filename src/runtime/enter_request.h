/* What the program of enter/ is told, and what its failures mean. Pure but for the paths of control groups. */
#ifndef TIDEMILL_RUNTIME_ENTER_REQUEST_H
#define TIDEMILL_RUNTIME_ENTER_REQUEST_H

#include <sys/types.h>

#include "base/base.h"
#include "runtime/cgroup.h"
#include "runtime/enter_priv.h"

struct enter_source {
    pid_t pid; /* the container's first process */
    const struct cgroups *cgroups;
    const char *cgroup_path;
    const char *const *args; /* ends with NULL */
    bool terminal;
};
/* A struct enter_request and what follows it. -EBADMSG when the configuration is none; -EINVAL without arguments. */
int enter_request_format(const struct enter_source *source, struct slice config_json, struct buffer *out);
/* The command's working folder, of what the above made. */
const char *enter_request_folder(struct slice request);
/* In runc's words; returns the code that a shell would give: 127 when there is no such program, else 126. */
int enter_explain(enum enter_step step, int error, const char *folder, const char *program, char *ret, size_t size);

#endif
