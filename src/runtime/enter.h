/* A process in a running container, by a small program of ours (enter/) that joins the container's control groups and namespaces and becomes the
 * command: its user, environment, folder, capabilities, seccomp program … are those of the container's config.json. What `crun exec` does, at a third
 * of the cost. Private to runtime/: exec.h is what others use. */
#ifndef TIDEMILL_RUNTIME_ENTER_H
#define TIDEMILL_RUNTIME_ENTER_H

#include "base/base.h"
#include "runtime/container_priv.h"

#define ENTER_COMMANDS_MAX 100 /* at a time in one container */

struct enter;
struct enter_options {
    const char *container_id;
    const char *const *args; /* ends with NULL */
    bool terminal;           /* instead of the three descriptors, which are then not looked at */
    int stdin_fd, stdout_fd, stderr_fd;
};
struct enter_callbacks {
    void (*on_terminal)(void *userdata, int fd); /* its other side, now the receiver's; at most once, before on_end */
    /* The last. ran: `status` is waitpid's. Otherwise it could not be run, and why is in `message`, as runc words it; code is a shell's, 126 or 127.
     */
    void (*on_end)(void *userdata, bool ran, int status, int code, const char *message);
    void *userdata;
};
/* -ESRCH: there is no such container, or it does not run; -EBUSY: ENTER_COMMANDS_MAX are in it. The descriptors stay the caller's. */
int enter_start(struct containers *containers, const struct enter_options *options, const struct enter_callbacks *callbacks, struct enter **ret);
/* SIGKILL to the command and all processes of its session, if it still runs. No callback follows; the handle frees itself when all is reaped. NULL is
 * fine. */
void enter_release(struct enter *enter);

/* The program's memory file, for containers_new. A descriptor. */
int enter_load(void);
/* Forgets what is under way: for containers_free. */
void enter_forget(struct containers *containers);

#endif
