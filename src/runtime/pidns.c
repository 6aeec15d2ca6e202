/* See pidns.h. unshare says where the next child is born; nothing else may be started before it is taken back, so there is no way out in between. */
#include "runtime/pidns.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop/loop.h"

#define STOP_WAIT_MS 1000
#define PAUSE_OOM_SCORE (-998) /* as kubelet: it is small, and takes all containers along */

int pidns_start(const struct cgroups *cgroups, const char *cgroup_path, const char *program, pid_t *ret) {
    CLEANUP(fd_closep) int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    const char *const argv[] = {program, "pause", NULL}, *const env[] = {NULL};
    int words[2];
    pid_t pid;
    int r = own < 0 ? -errno : cgroup_create(cgroups, cgroup_path, NULL);
    if (r == 0 && pipe2(words, O_CLOEXEC) < 0)
        r = -errno;
    if (r < 0)
        return r;
    CLEANUP(fd_closep) int listener = words[0];
    CLEANUP(fd_closep) int speaker = words[1];
    const struct loop_spawn_options spawn = {.argv = argv,
                                             .envp = env,
                                             .cwd = "/",
                                             .stdin_fd = listener,
                                             .stdout_fd = -1,
                                             .stderr_fd = -1,
                                             .oom_score_adj = PAUSE_OOM_SCORE,
                                             .new_session = true};
    if (unshare(CLONE_NEWPID) < 0)
        return -errno;
    r = loop_spawn(&spawn, &pid);
    ASSERT(setns(own, CLONE_NEWPID) == 0);
    if (r < 0)
        return r;
    r = cgroup_attach(cgroups, cgroup_path, pid);
    if (r == 0 && write(speaker, "", 1) != 1)
        r = -EPIPE;
    if (r < 0) { /* it could not be found again */
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return r;
    }
    *ret = pid;
    return 0;
}

static void on_process(void *userdata, pid_t pid) {
    *(pid_t *)userdata = pid;
}

pid_t pidns_find(const struct cgroups *cgroups, const char *cgroup_path) {
    pid_t pid = 0;
    if (cgroup_exists(cgroups, cgroup_path))
        cgroup_processes(cgroups, cgroup_path, on_process, &pid);
    return pid;
}

void pidns_stop(const struct cgroups *cgroups, const char *cgroup_path) {
    pid_t pid = pidns_find(cgroups, cgroup_path);
    CLEANUP(fd_closep) int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (fd >= 0 && syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        poll(&poll_fd, 1, STOP_WAIT_MS);
        waitpid(pid, NULL, WNOHANG); /* when it is our child */
    }
    cgroup_remove(cgroups, cgroup_path);
}
