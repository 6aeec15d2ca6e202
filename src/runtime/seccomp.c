/* The default seccomp profile: an allow list, everything else answers EPERM (clone3: ENOSYS, so that libc falls back to clone, whose flags can be
 * looked at).
 *
 * What is left out is what reaches into the kernel beyond the container: namespaces (clone with CLONE_NEW*, unshare, setns), mounts, modules, kexec,
 * bpf, perf, keyrings, io_uring, userfaultfd, clocks, swap, quota, raw I/O. A capability that a pod asks for brings its calls with it. Only the
 * native architecture is let through. Names that this libseccomp does not know are skipped: the kernel's newer calls then answer EPERM. */
#include "runtime/seccomp.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/personality.h>

#include "codec/codec.h"
#include "runtime/seccomp_priv.h"

#define BPF_BYTES_MAX (64 * KIB)

static const char *const allowed[] = {
    /* files */
    "access",
    "chdir",
    "chmod",
    "chown",
    "close",
    "close_range",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fcntl",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futimesat",
    "getcwd",
    "getdents",
    "getdents64",
    "getxattr",
    "ioctl",
    "lchown",
    "lgetxattr",
    "link",
    "linkat",
    "listxattr",
    "llistxattr",
    "lremovexattr",
    "lseek",
    "lsetxattr",
    "lstat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "name_to_handle_at",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "setxattr",
    "splice",
    "stat",
    "statfs",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "tee",
    "truncate",
    "umask",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimes",
    "vmsplice",
    "write",
    "writev",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "fanotify_mark",
    "cachestat",
    /* waiting */
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_ctl_old",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "epoll_wait_old",
    "eventfd",
    "eventfd2",
    "poll",
    "ppoll",
    "pselect6",
    "select",
    "signalfd",
    "signalfd4",
    "pause",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_setup",
    "io_submit",
    /* memory */
    "brk",
    "madvise",
    "membarrier",
    "memfd_create",
    "memfd_secret",
    "mincore",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mprotect",
    "mremap",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "process_mrelease",
    "remap_file_pages",
    "map_shadow_stack",
    /* processes and threads */
    "arch_prctl",
    "capget",
    "capset",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "fork",
    "vfork",
    "futex",
    "futex_waitv",
    "futex_wake",
    "futex_wait",
    "futex_requeue",
    "get_robust_list",
    "get_thread_area",
    "getcpu",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getsid",
    "gettid",
    "getuid",
    "ioprio_get",
    "ioprio_set",
    "kill",
    "modify_ldt",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl",
    "prlimit64",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "rseq",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "seccomp",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setpgid",
    "setpriority",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setrlimit",
    "setsid",
    "setuid",
    "tgkill",
    "times",
    "tkill",
    "wait4",
    "waitid",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    /* signals */
    "restart_syscall",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_tgsigqueueinfo",
    "sigaltstack",
    /* time */
    "adjtimex",
    "alarm",
    "clock_adjtime",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "getitimer",
    "gettimeofday",
    "nanosleep",
    "setitimer",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_settime",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    /* sockets and pipes */
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "pipe",
    "pipe2",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socketpair",
    /* System V and POSIX IPC */
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedsend",
    "mq_unlink",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    /* what is left */
    "getrandom",
    "sysinfo",
    "uname",
};

struct by_capability {
    int capability;
    const char *const names[24];
};
static const struct by_capability extras[] = {
    {2 /* DAC_READ_SEARCH */, {"open_by_handle_at"}},
    {16 /* SYS_MODULE */, {"delete_module", "finit_module", "init_module"}},
    {17 /* SYS_RAWIO */, {"iopl", "ioperm"}},
    {18 /* SYS_CHROOT */, {"chroot"}},
    {20 /* SYS_PACCT */, {"acct"}},
    {19 /* SYS_PTRACE */, {"kcmp", "process_madvise"}},
    {21 /* SYS_ADMIN */, {"clone3",        "fanotify_init", "fsconfig",   "fsmount",   "fsopen",          "fspick",  "lookup_dcookie",
                          "mount",         "mount_setattr", "move_mount", "open_tree", "perf_event_open", "bpf",     "quotactl",
                          "setdomainname", "sethostname",   "setns",      "umount",    "umount2",         "unshare", "pivot_root"}},
    {22 /* SYS_BOOT */, {"reboot"}},
    {23 /* SYS_NICE */, {"get_mempolicy", "mbind", "set_mempolicy"}},
    {25 /* SYS_TIME */, {"settimeofday", "stime", "clock_settime"}},
    {26 /* SYS_TTY_CONFIG */, {"vhangup"}},
    {34 /* SYSLOG */, {"syslog"}},
    {38 /* PERFMON */, {"perf_event_open"}},
    {39 /* BPF */, {"bpf"}},
};

static int allow(scmp_filter_ctx context, const char *name) {
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR)
        return 0;
    int r = seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 0);
    return r == -EEXIST ? 0 : r;
}

static int add_conditional(scmp_filter_ctx context, uint64_t capabilities) {
    static const unsigned long personalities[] = {PER_LINUX, PER_LINUX32, UNAME26, PER_LINUX32 | UNAME26, 0xffffffff};
    const unsigned long new_namespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
    bool admin = capabilities >> 21 & 1;
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(personalities); i++)
        r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(personality), 1, SCMP_A0(SCMP_CMP_EQ, personalities[i], 0));
    if (r == 0) /* no vsock: it reaches the hypervisor */
        r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_NE, 40, 0));
    if (r == 0 && admin)
        return allow(context, "clone");
    if (r == 0)
        r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, new_namespaces, 0));
    return r < 0 ? r : seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

static int add_rules(scmp_filter_ctx context, uint64_t capabilities) {
    int r = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
        r = allow(context, allowed[i]);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(extras); i++)
        for (size_t k = 0; r == 0 && (capabilities >> extras[i].capability & 1) && k < ARRAY_LEN(extras[i].names) && extras[i].names[k]; k++)
            r = allow(context, extras[i].names[k]);
    return r < 0 ? r : add_conditional(context, capabilities);
}

/* libseccomp exports only into a descriptor. */
int seccomp_export(void *context, struct buffer *out) {
    CLEANUP(fd_closep) int fd = memfd_create("seccomp", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = seccomp_export_bpf(context, fd);
    if (r < 0)
        return r;
    CLEANUP(freep) char *bytes = malloc(BPF_BYTES_MAX);
    ssize_t n = bytes ? pread(fd, bytes, BPF_BYTES_MAX, 0) : -1;
    if (n < 0)
        return bytes ? -errno : -ENOMEM;
    return base64_encode(out, slice_make(bytes, (size_t)n));
}

int seccomp_program(uint64_t capabilities, struct buffer *out) {
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!context)
        return -ENOMEM;
    int r = add_rules(context, capabilities);
    if (r == 0)
        r = seccomp_export(context, out);
    seccomp_release(context);
    return r;
}
