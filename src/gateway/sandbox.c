/* The gateway parses what strangers send, so it is the process that must be worth the least when it falls: a user of its own, no capabilities, no way
 * to gain privileges, and a list of system calls that suffice to move bytes between sockets. No files (open), no programs (execve), no processes or
 * threads (clone), no memory that becomes executable, sockets of the unix and internet families only.
 *
 * What is not listed returns EPERM instead of killing: libc probes, and a denied call of tomorrow's libc must not take every site down. */
#include <errno.h>
#include <grp.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "gateway/sandbox_priv.h"

static const int allowed[] = {
    /* bytes and sockets */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(shutdown),
    SCMP_SYS(close),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(fcntl),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    /* waiting */
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(signalfd4),
    SCMP_SYS(eventfd2),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(sched_yield),
    SCMP_SYS(futex),
    /* memory; mmap and mprotect without PROT_EXEC, below */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(getrandom),
    /* oneself: signals and the end */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(tgkill),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
};

static int allow_listed(scmp_filter_ctx filter) {
    int error = 0;
    for (size_t i = 0; error == 0 && i < ARRAY_LEN(allowed); i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
    for (size_t i = 0; error == 0 && i < ARRAY_LEN(families); i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0));
    if (error == 0)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (error == 0)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    return error;
}

int sandbox_enter(void) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return -ENOMEM;
    int error = allow_listed(filter);
    if (error == 0)
        error = seccomp_load(filter);
    seccomp_release(filter);
    return error;
}

static int drop_capabilities(void) {
    for (cap_value_t cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (cap_get_bound(cap) > 0 && cap_drop_bound(cap) < 0)
            return -errno;
    return 0;
}

static int clear_capabilities(void) {
    cap_t none = cap_init();
    if (!none)
        return -ENOMEM;
    int error = cap_set_proc(none) < 0 ? -errno : 0;
    cap_free(none);
    return error;
}

int sandbox_drop_root(uid_t uid, gid_t gid) {
    if (geteuid() != 0 || uid == 0)
        return 0;
    int error = drop_capabilities();
    if (error < 0)
        return error;
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    return clear_capabilities();
}
