/* Containers: crun creates and starts them, one conmon per container watches it, writes its log in CRI format and its exit code into a file. Both
 * outlive this process.
 *
 * <dir>/containers/<id>/   the bundle: config.json, rootfs (an overlay mount), pid, conmon.pid, <id> (the exit code), ctl, attach
 * <dir>/crun/              crun's state
 * All verbs that run a program are asynchronous: their callback comes in a later step of the loop, exactly once, unless the container is freed
 * before. */
#ifndef TIDEMILL_RUNTIME_CONTAINER_H
#define TIDEMILL_RUNTIME_CONTAINER_H

#include <sys/types.h>

#include "base/base.h"
#include "loop/loop.h"
#include "runtime/cgroup.h"

#define CONTAINER_ID_LEN 32
#define CONTAINER_MESSAGE_MAX 1024

struct containers;
struct container;

struct containers_options {
    const char *dir;               /* "/run/tidemill/node": should be a mount point made by mounts_share */
    const struct cgroups *cgroups; /* borrowed */
    int64_t timeout_ms;            /* of a crun that hangs; twice that when it creates; 0: a generous default */
    const char *conmon_cgroup;     /* "/tidemill-x/conmon": where the conmons live; NULL: with this process */
};
/* -ENOENT with diag and hint when crun or conmon are not installed. */
int containers_new(struct loop *loop, const struct containers_options *options, struct containers **ret, struct diag *diag);
/* All containers must have been freed (which does not stop them). NULL is fine. */
void containers_free(struct containers *containers);
DEFINE_CLEANUP(struct containers, containers_free)
/* "<dir>/containers/<id>" into ret. */
void containers_bundle_path(const struct containers *containers, const char *id, char ret[4096]);
/* Calls fn with the id of each bundle folder, and of each state of crun's that has none: what ran before a restart. */
int containers_list(const struct containers *containers, void (*fn)(void *userdata, const char *id), void *userdata);
/* A new random id: lower-case hexadecimal. */
void container_new_id(char ret[CONTAINER_ID_LEN + 1]);

struct container_exit {
    bool is_known; /* false: conmon died before it could tell */
    int code;      /* 128 + n when signal n ended it */
    bool oom_killed;
    int64_t finished_ns; /* wall clock */
};
typedef void container_done_fn(void *userdata, int error, const char *message);
typedef void container_exit_fn(void *userdata, const struct container_exit *exit);

struct container_options {
    const char *id;
    const char *name;
    struct slice config_json; /* bundle_format's; its root.path must be "rootfs" */
    const char *const *lower; /* the image's layer folders, highest first */
    size_t lower_count;
    const char *upper, *work;   /* existing folders on one file system */
    const char *user_namespace; /* its file; NULL: none; with it: */
    uid_t id_base;              /* whom its 0 is outside */
    const char *log_path;
    const char *cgroup_path; /* as in config_json: for out-of-memory detection and kill */
    bool terminal, open_stdin, stdin_once;
    container_done_fn *on_created;
    container_exit_fn *on_exit; /* once, after a successful creation or adoption */
    void *userdata;
};
/* Mounts the root file system and creates the container, stopped before its first instruction. On failure on_created tells, and container_delete
 * cleans up; -EIO is crun's refusal, in its words, anything else no fault of the container. -EPERM with diag when the image would lead mounts astray
 * (rootfs.h). */
int container_create(struct containers *containers, const struct container_options *options, struct container **ret, struct diag *diag);
/* Takes over a container that an earlier process created. -ENOENT when there is no bundle, or it was never started. on_exit comes also when it
 * ended meanwhile. */
int container_adopt(struct containers *containers, const struct container_options *options, struct container **ret);
/* Runs its program; -EPERM with diag when what crun made is not what was asked for (rootfs.h). on_started comes in a later step: -ESRCH when its
 * first process is gone already. */
int container_start(struct container *container, container_done_fn *on_started, struct diag *diag);
/* An adopted one: was container_start done? */
bool container_is_started(const struct container *container);
/* When it was let go, by the wall clock; now when nobody knows. */
int64_t container_started_ns(const struct container *container);
pid_t container_pid(const struct container *container);
const char *container_id(const struct container *container);
/* To its first process; -ESRCH when it is gone. */
int container_signal(const struct container *container, int signal);
/* SIGKILL to all of it. */
int container_kill(const struct container *container);
/* conmon opens its log anew, after a rename. */
int container_reopen_log(const struct container *container);
/* The terminal's size. */
int container_resize(const struct container *container, unsigned columns, unsigned rows);
/* Kills it if need be, removes crun's state, mount and bundle. on_exit comes no more; on_deleted is the last; the handle dies with it. */
int container_delete(struct container *container, container_done_fn *on_deleted, void *userdata);
/* As above for a bundle nobody holds a handle of: what a crash left. */
int container_delete_id(struct containers *containers, const char *id, container_done_fn *on_deleted, void *userdata);
/* Forgets the handle; the container goes on. NULL is fine. */
void container_free(struct container *container);

#endif
