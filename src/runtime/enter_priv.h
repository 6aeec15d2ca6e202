/* What the node and the program that enters containers (enter/) say to each other. Both come out of one build: there are no versions.
 *
 * The program is started with the command's standard streams on 0 to 2 and one argument, "REQUEST PIDFD SOCKET": three descriptors. REQUEST is a
 * memory file that holds a struct enter_request and, after it, in this order: rlimits, groups, seccomp (a struct sock_filter each), and the texts,
 * each with its NUL: folder, AppArmor profile ("": none), cgroups (the cgroup.procs files to write to), args, env. PIDFD is the container's first
 * process. SOCKET, with ENTER_NEEDS_TERMINAL, takes one byte with the terminal's other side.
 *
 * What became of it stands in the request's `result` when the program has ended: it needs no system call to say so, whatever the container's seccomp
 * program thinks of that. The command's process id is there as soon as there is one. */
#ifndef TIDEMILL_RUNTIME_ENTER_PRIV_H
#define TIDEMILL_RUNTIME_ENTER_PRIV_H

#include <stdint.h>

enum enter_flags {
    ENTER_NEEDS_TERMINAL = 1,
    ENTER_NO_NEW_PRIVILEGES = 2,
    ENTER_HAS_OOM_SCORE = 4,
};

struct enter_rlimit {
    uint64_t soft, hard;
    uint32_t resource, unused;
};

/* Steps in their order. */
enum enter_step {
    ENTER_STEP_NONE,
    ENTER_STEP_CGROUP,
    ENTER_STEP_OOM_SCORE,
    ENTER_STEP_NAMESPACES,
    ENTER_STEP_FORK,
    ENTER_STEP_RLIMITS,
    ENTER_STEP_TERMINAL,
    ENTER_STEP_APPARMOR,
    ENTER_STEP_FOLDER,         /* error ENOENT … */
    ENTER_STEP_FOLDER_OUTSIDE, /* it is there, but not beneath the container's root */
    ENTER_STEP_USER,
    ENTER_STEP_CAPABILITIES,
    ENTER_STEP_SECCOMP,
    ENTER_STEP_SEARCH, /* in no folder of $PATH */
    ENTER_STEP_LOOK,   /* there is no program at the path */
    ENTER_STEP_EXEC,
};

struct enter_result {
    int32_t pid;   /* of the command; 0: there is none yet */
    uint32_t step; /* enum enter_step: which failed; ENTER_STEP_NONE: none did */
    int32_t error; /* a positive errno */
    uint32_t done; /* the program came to its end */
};

#define ENTER_MAGIC 0x746d656eu /* whoever executes the program by another way, within a container, gets nowhere */
struct enter_request {
    uint32_t magic;
    struct enter_result result;
    uint32_t flags; /* enum enter_flags */
    int32_t pid;    /* the container's first process */
    uint32_t user, group;
    int32_t oom_score;
    uint16_t rows, columns; /* of the terminal; 0: unknown */
    uint64_t bounding, effective, permitted, inheritable, ambient;
    uint32_t rlimits_count, groups_count, seccomp_count, cgroups_count, args_count, env_count;
};

#endif
