/* The root process: listening sockets, roles, restarts. See README.md. */
#ifndef TIDEMILL_SUPERVISOR_H
#define TIDEMILL_SUPERVISOR_H

#include <sys/types.h>

#include "base/base.h"

#define SUPERVISOR_ROLES_MAX 8
#define SUPERVISOR_SOCKETS_MAX 16

struct supervisor_socket {
    const char *name;    /* [a-z-]+, how the role asks for it */
    const char *address; /* as sys_address_parse */
    mode_t mode;         /* of a unix socket */
    uid_t owner;         /* of a unix socket */
    gid_t group;
};

struct supervisor_role {
    const char *name;                /* "core" */
    const char *const *argv;         /* the whole command line, ends with NULL */
    const char *const *socket_names; /* which sockets it gets, ends with NULL */
    uid_t uid;
    gid_t gid;
    bool drop_privileges; /* otherwise it stays root */
    int oom_score_adj;    /* when the machine has no memory left, who goes first */
    bool overlaps;        /* its successor may start before it ends: it finishes what it has */
};

struct supervisor_options {
    const char *run_dir; /* holds supervisor.state and supervisor.pid */
    const struct supervisor_socket *sockets;
    size_t sockets_count;
    const struct supervisor_role *roles; /* in the order of their start; stopped in reverse */
    size_t roles_count;
    /* The command line that this process becomes again on SIGUSR2, argv[0] the path of the program; one that ends with 0 when that would work; and
     * the folder for both. NULL: no reload. */
    const char *const *reload_argv, *const *check_argv;
    const char *reload_dir;
    int64_t check_timeout_ms; /* 0: a usual one */
    /* Called once, when every role has been started or adopted. May be NULL. */
    void (*on_started)(void *userdata);
    void *userdata;
};

/* Makes this process the one supervisor of a state folder, as long as it or a child that inherits the descriptor lives. The descriptor; -EBUSY with
 * diag when another runs. */
int supervisor_lock(const char *path, struct diag *diag);

/* The file in run_dir that says, in a line, how the last reload went: "ok", or what failed. */
#define SUPERVISOR_RELOADED "supervisor.reloaded"

/* Runs until SIGTERM or SIGINT and until every role has ended (killed after 15 s). The caller holds the lock. 0; negative errno with diag when a
 * socket cannot be opened. */
int supervisor_run(const struct supervisor_options *options, struct diag *diag);

/* This process was a supervisor before it became what it is. */
bool supervisor_is_reloaded(void);

/* In a role: the descriptor of a socket that was handed down in the environment, or -1. */
int supervisor_socket_inherited(const char *name);

#endif
