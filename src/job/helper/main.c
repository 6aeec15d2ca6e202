/* The helper program. What it is to do is in its name or its first argument:
 *
 *   tidemill-job run                  a job's container: sources, script, artifacts, result
 *   tidemill-job build|apply …        the same as `tidemill build|apply …` (the program is also called tidemill)
 *   pre-receive, post-receive         a hook of the platform's git repositories (a link of that name)
 */
#include <stdio.h>
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

int main(int argc, char **argv) {
    const char *name = argc > 0 ? base_name(argv[0]) : "";
    struct wire wire;
    if (strcmp(name, "pre-receive") == 0 || strcmp(name, "post-receive") == 0)
        return job_hook(find_wire("TIDEMILL_HOOK_SOCKET", "TIDEMILL_HOOK_TOKEN", &wire) ? &wire : NULL, name);
    bool there = find_wire("TIDEMILL_JOB_SOCKET", "TIDEMILL_JOB_TOKEN", &wire);
    if (strcmp(name, "tidemill") != 0 && (argc == 1 || strcmp(argv[1], "run") == 0))
        return run_job(there ? &wire : NULL);
    return job_tool(there ? &wire : NULL, argc - 1, argv + 1);
}
