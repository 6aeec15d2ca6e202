/* See pidns.h; what is started says in pause/ how it becomes the first process. */
#include "runtime/pidns.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop/loop.h"
#include "runtime/pidns_priv.h"

#define START_WAIT_MS 10000
#define STOP_WAIT_MS 1000
#define PAUSE_OOM_SCORE (-998) /* as kubelet: it is small, and takes all containers along */

struct joined {
    int fds[PIDNS_JOIN_MAX + 2]; /* the program's, the namespaces', -1 */
    char argument[PIDNS_JOIN_MAX * 12 + 1];
};

static void close_joined(struct joined *joined) {
    for (size_t i = 0; joined->fds[i] >= 0; i++)
        close(joined->fds[i]);
}

static int open_joined(const char *const *join, struct joined *ret) {
    size_t len = 0, i = 0;
    ret->fds[0] = pause_load();
    for (; ret->fds[i] >= 0 && join[i]; i++) {
        ASSERT(i < PIDNS_JOIN_MAX);
        ret->fds[i + 1] = open(join[i], O_RDONLY | O_CLOEXEC);
        len += (size_t)snprintf(ret->argument + len, sizeof ret->argument - len, "%s%d", i ? " " : "", ret->fds[i + 1]);
    }
    if (ret->fds[i] < 0)
        return i == 0 ? ret->fds[0] : -errno;
    ret->fds[i + 1] = -1;
    return 0;
}

/* The program that prepares all has ended; 0, or what it says went wrong. */
static int await(pid_t pid) {
    CLEANUP(fd_closep) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int status = 0;
    if (fd < 0 || poll(&poll_fd, 1, START_WAIT_MS) != 1)
        kill(pid, SIGKILL);
    if (waitpid(pid, &status, 0) != pid)
        return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -ETIMEDOUT;
}

static int launch(const struct joined *joined, const struct cgroups *cgroups, const char *cgroup_path) {
    char program[40];
    int words[2];
    pid_t pid;
    if (pipe2(words, O_CLOEXEC) < 0)
        return -errno;
    CLEANUP(fd_closep) int listener = words[0];
    CLEANUP(fd_closep) int speaker = words[1];
    snprintf(program, sizeof program, "/proc/self/fd/%d", joined->fds[0]);
    const char *const argv[] = {program, joined->argument, NULL}, *const env[] = {NULL};
    const struct loop_spawn_options spawn = {.argv = argv,
                                             .envp = env,
                                             .cwd = "/",
                                             .stdin_fd = listener,
                                             .stdout_fd = -1,
                                             .stderr_fd = -1,
                                             .pass_fds = joined->fds + 1,
                                             .oom_score_adj = PAUSE_OOM_SCORE,
                                             .new_session = true};
    int r = loop_spawn(&spawn, &pid);
    if (r < 0)
        return r;
    r = cgroup_attach(cgroups, cgroup_path, pid);
    if (r == 0 && write(speaker, "", 1) != 1)
        r = -EPIPE;
    fd_closep(&speaker); /* without the byte it ends: it could not be found again */
    speaker = -1;
    int ended = await(pid);
    return r < 0 ? r : ended;
}

int pidns_start(const struct cgroups *cgroups, const char *cgroup_path, const char *const *join, pid_t *ret) {
    struct joined joined = {.fds = {-1}};
    int r = open_joined(join, &joined);
    if (r == 0)
        r = cgroup_create(cgroups, cgroup_path, NULL);
    if (r == 0)
        r = launch(&joined, cgroups, cgroup_path);
    close_joined(&joined);
    pid_t pid = r == 0 ? pidns_find(cgroups, cgroup_path) : 0;
    if (r == 0 && pid == 0)
        r = -ECHILD;
    if (r == 0)
        *ret = pid;
    return r;
}

/* Of the machine's own namespace is only what prepares one: a node that was killed meanwhile may find it still at it. */
static bool is_in_another(pid_t pid) {
    struct stat own, there;
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    return stat("/proc/self/ns/pid", &own) == 0 && stat(path, &there) == 0 && own.st_ino != there.st_ino;
}

static void on_process(void *userdata, pid_t pid) {
    if (is_in_another(pid))
        *(pid_t *)userdata = pid;
}

pid_t pidns_find(const struct cgroups *cgroups, const char *cgroup_path) {
    pid_t pid = 0;
    if (cgroup_exists(cgroups, cgroup_path))
        cgroup_processes(cgroups, cgroup_path, on_process, &pid);
    return pid;
}

static void on_unfinished(__attribute__((unused)) void *userdata, pid_t pid) {
    kill(pid, SIGKILL);
}

void pidns_stop(const struct cgroups *cgroups, const char *cgroup_path) {
    pid_t pid = pidns_find(cgroups, cgroup_path);
    CLEANUP(fd_closep) int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (fd >= 0 && syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        poll(&poll_fd, 1, STOP_WAIT_MS);
        waitpid(pid, NULL, WNOHANG); /* when it is our child */
    }
    if (cgroup_exists(cgroups, cgroup_path))
        cgroup_processes(cgroups, cgroup_path, on_unfinished, NULL);
    cgroup_remove(cgroups, cgroup_path);
}
