/* A namespace needs a process to be born in: a child that does nothing but wait until its maps are written and its namespace is held. It shares
 * nothing with us but a copy of our memory, in which it touches nothing. */
#include "runtime/userns.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int write_map(pid_t pid, const char *name, uid_t base) {
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int len = snprintf(text, sizeof text, "0 %u %d\n", (unsigned)base, USERNS_IDS);
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, (size_t)len) != len ? -errno : 0;
}

int userns_new(uid_t base) {
    char path[64];
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0);
    if (pid == 0)
        for (;;)
            syscall(SYS_pause);
    int r = pid < 0 ? -errno : write_map(pid, "uid_map", base);
    if (r == 0)
        r = write_map(pid, "gid_map", base);
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    int fd = r < 0 ? r : open(path, O_RDONLY | O_CLOEXEC);
    r = fd == -1 ? -errno : fd;
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return r;
}

int userns_pin(uid_t base, const char *path) {
    char source[64];
    CLEANUP(fd_closep) int user = userns_new(base);
    if (user < 0)
        return user;
    CLEANUP(fd_closep) int file = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0400);
    snprintf(source, sizeof source, "/proc/self/fd/%d", user);
    return file < 0 || mount(source, path, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}
