/* Namespaces that a user namespace other than ours owns: what its root may do there (CAP_NET_ADMIN, raw sockets, settings) counts.
 *
 * The owner of a namespace is the user namespace that its maker was in, and whoever goes into one does not come back. So somebody else goes: a child
 * that shares memory and descriptors with us, which waits until it is gone (vfork). It makes the namespaces and opens them, which leaves the
 * descriptors here; it makes system calls only, and keeps its user, so that nobody in there could reach it, nor this process become undumpable by
 * it for good. Meanwhile it is: the owner of a user namespace may trace who is in there, and every root of the machine's own users counts as that
 * one, also a container's that sees the machine's processes. Some settings count who writes them, and in whose numbers: for those a child with a
 * memory of its own becomes the root of the namespace.
 *
 * Rejected: members of the pool with a user namespace each. It would be the pool that chooses the pods' users, and what is saved is 2 ms. */
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "podnet/podnet_priv.h"
#include "sys/sys.h"

#define STACK_BYTES (32 * KIB)

struct making {
    int user_fd;
    bool host_network;
    struct owned made;
    volatile int error; /* written by the child */
};

static int open_made(const char *path) {
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int make_inside(void *argument) {
    struct making *making = argument;
    struct owned *made = &making->made;
    if (setns(making->user_fd, CLONE_NEWUSER) < 0 || unshare(CLONE_NEWUTS | CLONE_NEWIPC | (making->host_network ? 0 : CLONE_NEWNET)) < 0) {
        making->error = -errno;
        return 1;
    }
    made->uts = open_made("/proc/self/ns/uts");
    made->ipc = open_made("/proc/self/ns/ipc");
    made->net = making->host_network ? -1 : open_made("/proc/self/ns/net");
    if (made->uts < 0 || made->ipc < 0 || (!making->host_network && made->net < 0))
        making->error = -errno;
    return 0;
}

void owned_deinit(struct owned *owned) {
    fd_closep(&owned->net);
    fd_closep(&owned->uts);
    fd_closep(&owned->ipc);
    *owned = OWNED_INIT;
}

int owned_make(const char *user_namespace, bool host_network, struct owned *ret) {
    int r = sys_point("spawn");
    CLEANUP(fd_closep) int user_fd = r < 0 ? -1 : open(user_namespace, O_RDONLY | O_CLOEXEC);
    if (r < 0)
        return r;
    char *stack = user_fd < 0 ? MAP_FAILED : mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    struct making making = {.user_fd = user_fd, .host_network = host_network, .made = OWNED_INIT};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* a handler of ours must not run there */
    int dumpable = prctl(PR_GET_DUMPABLE);
    prctl(PR_SET_DUMPABLE, 0);
    pid_t pid = clone(make_inside, stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &making);
    r = pid < 0 ? -errno : making.error;
    if (pid > 0)
        waitpid(pid, NULL, 0);
    prctl(PR_SET_DUMPABLE, dumpable);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK_BYTES);
    if (r < 0)
        owned_deinit(&making.made);
    else
        *ret = making.made;
    return r;
}

int owned_by(int namespace_fd) {
    struct stat owner, own;
    CLEANUP(fd_closep) int fd = ioctl(namespace_fd, NS_GET_USERNS);
    if (fd < 0 || fstat(fd, &owner) < 0 || stat("/proc/self/ns/user", &own) < 0)
        return -errno;
    return owner.st_ino == own.st_ino ? -ENOENT : TAKE_FD(fd);
}

static int run(int user_fd, int namespace_fd, int (*fn)(const void *argument), const void *argument) {
    if (prctl(PR_SET_DUMPABLE, 0) < 0)
        return -errno;
    if (setns(user_fd, CLONE_NEWUSER) < 0 || setns(namespace_fd, 0) < 0)
        return -errno;
    if (syscall(SYS_setresgid, 0, 0, 0) < 0 || syscall(SYS_setresuid, 0, 0, 0) < 0) /* not the library's: it would tell threads that are not here */
        return -errno;
    return fn(argument);
}

int owned_run(int user_fd, int namespace_fd, int (*fn)(const void *argument), const void *argument) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(-run(user_fd, namespace_fd, fn, argument));
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}
