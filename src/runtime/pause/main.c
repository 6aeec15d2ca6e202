/* The first process of a PID namespace that the containers of a pod share. It does nothing, and must be worth nothing: all of the pod sees it, one
 * with CAP_SYS_PTRACE may take it over, and what it has would be theirs (/proc/1/root, /proc/1/net, /proc/1/exe …).
 *
 *   program, in the host's PID namespace                          pause, process 1 in there, a child of the node (CLONE_PARENT)
 *     waits for a byte: it is in its control group now
 *     namespaces of the pod, an empty read-only root,
 *     no descriptors, user 65535, no capabilities
 *     clone; waits until the pipe is closed ─────────────────►   may only sleep from now on (seccomp); closes the pipe; sleeps
 *     ends: with 0, or with the errno of what failed
 *
 * The node executes it from a sealed memory file, for the reasons of enter/. Its argument names descriptors of namespaces to join, a user namespace
 * last: "5 6 7". What dies in the namespace without a parent is reaped by the kernel, since its children's end is ignored. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "runtime/enter_system_priv.h"

#define NOBODY 65535
#define STACK_BYTES 4096
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#ifdef __x86_64__
#define PROCESSOR AUDIT_ARCH_X86_64
#else
#define PROCESSOR AUDIT_ARCH_AARCH64
#endif

static char stack[STACK_BYTES] __attribute__((aligned(16)));

/* The kernel's own, whose handler is a plain word: of the library's, only the beginning is laid out like it. */
struct kernel_action {
    unsigned long handler, flags, restorer, mask;
};

static _Noreturn void leave(long r) {
    for (;;)
        SYSTEM_1(exit_group, r < 0 ? -r : 0);
}

static void must(long r) {
    if (r < 0)
        leave(r);
}

static void join_namespaces(const char *at) {
    while (*at) {
        int fd = 0;
        while (*at >= '0' && *at <= '9')
            fd = fd * 10 + (*at++ - '0');
        must(SYSTEM_2(setns, fd, 0));
        while (*at == ' ')
            at++;
    }
    must(SYSTEM_3(setresgid, 0, 0, 0)); /* in a user namespace our own are nobody */
    must(SYSTEM_3(setresuid, 0, 0, 0));
    must(SYSTEM_1(unshare, CLONE_NEWPID | CLONE_NEWNS));
}

/* /proc, because it is a folder everywhere. */
static void leave_root(void) {
    const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    must(SYSTEM_5(mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    must(SYSTEM_5(mount, "none", "/proc", "tmpfs", flags, "mode=555,nr_inodes=1"));
    must(SYSTEM_1(chdir, "/proc"));
    must(SYSTEM_2(pivot_root, ".", "."));
    must(SYSTEM_2(umount2, ".", MNT_DETACH));
    must(SYSTEM_1(chdir, "/"));
}

static void drop_privileges(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];
    for (int i = 0; i < 2; i++)
        none[i] = (struct __user_cap_data_struct){.effective = 0};
    for (unsigned capability = 0; capability < 64; capability++)
        if (SYSTEM_5(prctl, PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
            break; /* beyond the last one that there is */
    must(SYSTEM_2(setgroups, 0, NULL));
    must(SYSTEM_3(setresgid, NOBODY, NOBODY, NOBODY));
    must(SYSTEM_3(setresuid, NOBODY, NOBODY, NOBODY));
    must(SYSTEM_2(capset, &header, none));
    must(SYSTEM_5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(SYSTEM_5(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0));
}

static void keep_namespace(void *argument) {
    static const struct sock_filter may_sleep[] = {
        LOAD(arch), UNLESS(PROCESSOR, 7), LOAD(nr), UNLESS(SYS_ppoll, 1), ALLOW, UNLESS(SYS_close, 1), ALLOW, UNLESS(SYS_exit_group, 1), ALLOW,
        REFUSE};
    const struct sock_fprog program = {.len = sizeof may_sleep / sizeof *may_sleep, .filter = (struct sock_filter *)may_sleep};
    const int *pipe = argument;
    must(SYSTEM_3(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
    SYSTEM_1(close, pipe[0]);
    SYSTEM_1(close, pipe[1]);
    for (;;)
        SYSTEM_5(ppoll, NULL, 0, NULL, NULL, 0);
}

/* What ps shows in the pod. */
static void take_name(char *const *argv) {
    static const char name[] = "/pause";
    for (size_t i = 0, len = text_len(argv[0]); i < len; i++)
        argv[0][i] = i < sizeof name ? name[i] : 0;
    for (char *at = argv[1]; *at; at++)
        *at = 0;
}

__attribute__((used)) static _Noreturn void begin(const long *arguments) {
    char *const *argv = (char *const *)(const void *)(arguments + 1);
    const struct kernel_action ignore = {.handler = (unsigned long)SIG_IGN};
    static int pipe[2];
    int32_t pid;
    char byte;
    if (arguments[0] != 2)
        leave(-EINVAL);
    SYSTEM_5(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0); /* on the way it has the machine's files, in a user namespace that others own, too */
    if (SYSTEM_3(read, 0, &byte, 1) != 1)
        leave(-ECANCELED);
    must(SYSTEM_4(rt_sigaction, SIGCHLD, &ignore, NULL, sizeof ignore.mask));
    join_namespaces(argv[1]);
    leave_root();
    must(SYSTEM_3(close_range, 0, ~0U, 0));
    drop_privileges();
    SYSTEM_5(prctl, PR_SET_NAME, "pause", 0, 0, 0);
    take_name(argv);
    must(SYSTEM_2(pipe2, pipe, 0));
    must(system_clone(CLONE_PARENT | SIGCHLD, stack + sizeof stack, keep_namespace, pipe, &pid));
    SYSTEM_1(close, pipe[1]);
    SYSTEM_3(read, pipe[0], &byte, 1);
    leave(0);
}
SYSTEM_START(begin);
