/* A namespace needs a process to be born in: a child that does nothing but wait until its maps are written and its namespace is held. Our memory is
 * shared with it, not copied, which takes longer than all the rest; it touches nothing of it but a stack of its own. Nobody may trace it meanwhile:
 * every root of the machine's own users counts as the owner of the namespace, also a container's that sees the machine's processes. */
#include "runtime/userns.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/sys.h"

#define STACK_BYTES (16 * KIB)

static int write_map(pid_t pid, const char *name, uid_t base) {
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int len = snprintf(text, sizeof text, "0 %u %d\n", (unsigned)base, USERNS_IDS);
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, (size_t)len) != len ? -errno : 0;
}

static int wait_for_ever(__attribute__((unused)) void *argument) {
    while (syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0) < 0)
        ;
    return 0;
}

static int map_and_open(pid_t pid, uid_t base) {
    char path[64];
    int r = write_map(pid, "uid_map", base);
    if (r == 0)
        r = write_map(pid, "gid_map", base);
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    int fd = r < 0 ? r : open(path, O_RDONLY | O_CLOEXEC);
    return fd == -1 ? -errno : fd;
}

int userns_new(uid_t base) {
    sigset_t all, before;
    char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* no handler of ours runs there */
    int dumpable = prctl(PR_GET_DUMPABLE);
    prctl(PR_SET_DUMPABLE, 0);
    pid_t pid = clone(wait_for_ever, stack + STACK_BYTES, CLONE_VM | CLONE_NEWUSER | SIGCHLD, NULL);
    int r = pid < 0 ? -errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid > 0) {
        r = map_and_open(pid, base);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    prctl(PR_SET_DUMPABLE, dumpable);
    munmap(stack, STACK_BYTES);
    return r;
}

int userns_pin(uid_t base, const char *path) {
    char source[64];
    CLEANUP(fd_closep) int user = userns_new(base);
    if (user < 0)
        return user;
    CLEANUP(fd_closep) int file = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0400);
    snprintf(source, sizeof source, "/proc/self/fd/%d", user);
    int r = sys_point("mount");
    if (r < 0)
        return r;
    return file < 0 || mount(source, path, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}
