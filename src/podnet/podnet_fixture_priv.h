/* What the tests of real pods share: doing things inside them. */
#ifndef TIDEMILL_PODNET_FIXTURE_PRIV_H
#define TIDEMILL_PODNET_FIXTURE_PRIV_H

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "podnet/podnet.h"
#include "sys/sys.h"
#include "unit.h"

static inline void enter(const struct podnet_pod *pod) {
    int net = open(pod->network, O_RDONLY | O_CLOEXEC), uts = open(pod->uts, O_RDONLY | O_CLOEXEC), ipc = open(pod->ipc, O_RDONLY | O_CLOEXEC);
    if (net < 0 || setns(net, CLONE_NEWNET) < 0 || setns(uts, CLONE_NEWUTS) < 0 || setns(ipc, CLONE_NEWIPC) < 0)
        _exit(99);
}

/* Runs fn in the pod, in a child; its exit code. pod NULL: on the machine. */
static inline int in_pod(const struct podnet_pod *pod, int (*fn)(const char *argument), const char *argument) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (pod)
            enter(pod);
        _exit(fn(argument));
    }
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

static inline int dial(const char *target) {
    struct sys_address address;
    struct timeval patience = {.tv_sec = 5};
    if (sys_address_parse(target, &address) < 0)
        return 98;
    int fd = socket(address.storage.ss_family, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return connect(fd, (struct sockaddr *)&address.storage, address.len) == 0 ? 0 : errno;
}

/* Serves one connection after the other on port 8080 until killed: of all of the pod's addresses (AF_INET6), or of that of IPv4 (AF_INET). */
static inline pid_t serve(const struct podnet_pod *pod, int family) {
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct sys_address address;
        enter(pod);
        if (sys_address_parse(family == AF_INET6 ? "[::]:8080" : "0.0.0.0:8080", &address) < 0)
            _exit(1);
        int fd = socket(family, SOCK_STREAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (bind(fd, (struct sockaddr *)&address.storage, address.len) < 0 || listen(fd, 16) < 0)
            _exit(1);
        (void)!write(ready[1], "x", 1);
        for (;;)
            close(accept(fd, NULL, NULL));
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

#endif
