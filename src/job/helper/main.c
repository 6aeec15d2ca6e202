/* The helper program. What it is to do is in its name or its first argument:
 *
 *   tidemill-job run                  a job's container: sources, script, artifacts, result
 *   tidemill-job build|apply …        the same as `tidemill build|apply …` (the program is also called tidemill)
 *   tidemill-job pause                the first process of a PID namespace that the containers of a pod share
 *   pre-receive, post-receive         a hook of the platform's git repositories (a link of that name)
 */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "job/job.h"

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Where the platform listens, from the environment; false when it is not there. */
static bool find_wire(const char *socket_name, const char *token_name, struct wire *ret) {
    ret->socket_path = getenv(socket_name);
    ret->token = getenv(token_name);
    return ret->socket_path && *ret->socket_path && ret->token && *ret->token;
}

static int run_job(const struct wire *wire) {
    char own[4096];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    const char *folder = getenv("CI_PROJECT_DIR");
    own[length > 0 ? length : 0] = 0;
    if (!wire || !folder || !*folder || length <= 0) {
        fputs("tidemill-job: TIDEMILL_JOB_SOCKET, TIDEMILL_JOB_TOKEN and CI_PROJECT_DIR must be set, and /proc mounted\n", stderr);
        return JOB_EXIT_PLATFORM;
    }
    return job_run(wire, folder, own);
}

/* Orphans of the namespace become our children: they are reaped, for ever. It begins with a byte from who started us, once we can be found again in
 * our control group: nobody would ever end us otherwise. */
static _Noreturn void keep_namespace(void) {
    sigset_t child;
    char word;
    if (read(STDIN_FILENO, &word, 1) != 1)
        exit(0);
    close(STDIN_FILENO);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    for (;;) {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        sigwaitinfo(&child, NULL);
    }
}

int main(int argc, char **argv) {
    const char *name = argc > 0 ? base_name(argv[0]) : "";
    struct wire wire;
    if (strcmp(name, "pre-receive") == 0 || strcmp(name, "post-receive") == 0)
        return job_hook(find_wire("TIDEMILL_HOOK_SOCKET", "TIDEMILL_HOOK_TOKEN", &wire) ? &wire : NULL, name);
    if (argc == 2 && strcmp(argv[1], "pause") == 0 && getpid() == 1)
        keep_namespace();
    bool there = find_wire("TIDEMILL_JOB_SOCKET", "TIDEMILL_JOB_TOKEN", &wire);
    if (strcmp(name, "tidemill") != 0 && (argc == 1 || strcmp(argv[1], "run") == 0))
        return run_job(there ? &wire : NULL);
    return job_tool(there ? &wire : NULL, argc - 1, argv + 1);
}
