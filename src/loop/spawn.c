/* Starting a program at the cost of vfork: clone(CLONE_VM | CLONE_VFORK) on a stack of its own, so that neither page tables are copied nor the
 * parent's stack is shared. The child writes the errno of the step that failed into shared memory; the parent, suspended until exec or exit, reads
 * it.
 *
 * Rules for the child's part (all of child_main and below): system calls only. No malloc, no locks, no glibc set*id (it would signal all threads of
 * the parent); signals are blocked throughout by the parent, the mask is emptied right before exec.
 *
 * Order in the child: session → descriptors → folder → who goes first out of memory → privileges → parent-death signal (a change of uid clears it) →
 * signals → exec. */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "loop/loop.h"
#include "sys/sys.h"

#define STACK_BYTES (64 * KIB)

extern char **environ;

struct spawn {
    const struct loop_spawn_options *options;
    const char *program; /* resolved */
    char oom_score[16];  /* as text */
    pid_t parent;
    int null_fd;
    volatile int error; /* written by the child */
};

/* The n-th standard descriptor's source; -1: leave what the parent has. */
static int standard_fd(const struct spawn *spawn, int n) {
    const struct loop_spawn_options *options = spawn->options;
    if (n == 0)
        return options->stdin_fd >= 0 ? options->stdin_fd : spawn->null_fd;
    return n == 1 ? options->stdout_fd : options->stderr_fd;
}

/* Sources are moved out of the way (≥ 3) first, since one may sit on another's target; dup2 then clears close-on-exec. */
static int child_descriptors(const struct spawn *spawn) {
    int sources[3];
    if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0 && errno != EINVAL && errno != ENOSYS)
        return -errno;
    for (int n = 0; n < 3; n++) {
        sources[n] = standard_fd(spawn, n);
        if (sources[n] >= 0 && sources[n] < 3 && (sources[n] = fcntl(sources[n], F_DUPFD_CLOEXEC, 3)) < 0)
            return -errno;
    }
    for (int n = 0; n < 3; n++)
        if (sources[n] >= 0 && dup2(sources[n], n) < 0)
            return -errno;
    for (const int *fd = spawn->options->pass_fds; fd && *fd >= 0; fd++) {
        int flags = fcntl(*fd, F_GETFD);
        if (flags < 0 || fcntl(*fd, F_SETFD, flags & ~FD_CLOEXEC) < 0)
            return -errno;
    }
    return 0;
}

/* Raw system calls: see the rules above. The bounding set goes first, while we still may. */
static int child_privileges(const struct loop_spawn_options *options) {
    for (unsigned long capability = 0; capability < 64; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
            break; /* EINVAL: beyond the last; EPERM: we have nothing to drop */
    if (syscall(SYS_setgroups, 0, NULL) < 0 && !(errno == EPERM && geteuid() != 0))
        return -errno;
    if (syscall(SYS_setresgid, options->gid, options->gid, options->gid) < 0 || syscall(SYS_setresuid, options->uid, options->uid, options->uid) < 0)
        return -errno;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (syscall(SYS_capset, &header, none) < 0)
        return -errno;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* What cannot be had is no reason to start nothing: without the right to lower it, it stays. The kernel counts what shares memory by vfork apart. */
static void child_oom_score(const struct spawn *spawn) {
    char before = 0;
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    bool is_protected = pread(fd, &before, 1, 0) == 1 && before == '-';
    if ((spawn->options->oom_score_adj || is_protected) && pwrite(fd, spawn->oom_score, strlen(spawn->oom_score), 0) < 0)
        errno = 0;
    close(fd);
}

#define SIGNAL_INTERNAL_FIRST 32
#define SIGNAL_INTERNAL_LAST 33

static int child_signals(void) {
    static const int ignored_by_us[] = {SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU};
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (size_t i = 0; i < ARRAY_LEN(ignored_by_us); i++)
        if (sigaction(ignored_by_us[i], &action, NULL) < 0)
            return -errno;
    /* glibc's posix_spawn, as make uses it, leaves its two internal signals ignored, and its sigaction refuses to name them. */
    static const char kernel_default[64]; /* all zeros is SIG_DFL in the kernel's own struct sigaction */
    for (int signal = SIGNAL_INTERNAL_FIRST; signal <= SIGNAL_INTERNAL_LAST; signal++)
        syscall(SYS_rt_sigaction, signal, kernel_default, NULL, (size_t)_NSIG / 8);
    sigset_t none;
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

static int child_prepare(const struct spawn *spawn) {
    const struct loop_spawn_options *options = spawn->options;
    if (options->new_session && setsid() < 0)
        return -errno;
    int r = child_descriptors(spawn);
    if (r == 0 && options->cwd && chdir(options->cwd) < 0)
        r = -errno;
    if (r == 0)
        child_oom_score(spawn);
    if (r == 0 && options->drop_privileges)
        r = child_privileges(options);
    if (r == 0 && options->die_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        r = -errno;
    if (r == 0 && options->die_with_parent && syscall(SYS_getppid) != spawn->parent)
        r = -ESRCH; /* the parent died before the signal was set */
    return r < 0 ? r : child_signals();
}

static int child_main(void *argument) {
    struct spawn *spawn = argument;
    int r = child_prepare(spawn);
    if (r == 0) {
        const struct loop_spawn_options *options = spawn->options;
        execve(spawn->program, (char *const *)options->argv, options->envp ? (char *const *)options->envp : environ);
        r = -errno;
    }
    spawn->error = r;
    return 127; /* clone's trampoline exits */
}

/* argv[0] as a path: itself when it has a slash, otherwise the first executable file of PATH. (execvp is not used: it falls back to a shell.) */
static int resolve_program(const char *name, char *path, size_t size) {
    if (strchr(name, '/')) {
        int len = snprintf(path, size, "%s", name);
        return len < 0 || (size_t)len >= size ? -ENAMETOOLONG : 0;
    }
    const char *search = getenv("PATH");
    struct slice rest = slice_of(search && *search ? search : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    int error = -ENOENT;
    while (rest.data && *name) {
        struct slice folder = slice_cut(&rest, ':');
        int len = snprintf(path, size, "%.*s/%s", SLICE_ARG(folder), name);
        if (folder.len == 0 || len < 0 || (size_t)len >= size)
            continue;
        if (access(path, X_OK) == 0)
            return 0;
        if (errno == EACCES)
            error = -EACCES;
    }
    return error;
}

/* clone3(2) with a stack of the child's own, on which it calls fn(argument) and exits: the C library has no function for it, and one written in C
 * would return on the new stack to where nothing is. */
#ifdef __x86_64__
long spawn_clone3(struct clone_args *args, size_t size, int (*fn)(void *argument), void *argument);
__asm__(".pushsection .text\n"
        ".type spawn_clone3, @function\n"
        "spawn_clone3:\n"
        "    mov %rdx, %r8\n"
        "    mov %rcx, %r9\n"
        "    mov $435, %eax\n"
        "    syscall\n"
        "    test %rax, %rax\n"
        "    jnz 1f\n"
        "    xor %ebp, %ebp\n"
        "    mov %r9, %rdi\n"
        "    call *%r8\n"
        "    mov %eax, %edi\n"
        "    mov $60, %eax\n"
        "    syscall\n"
        "1:  ret\n"
        ".size spawn_clone3, . - spawn_clone3\n"
        ".popsection\n");
#else
static long spawn_clone3(__attribute__((unused)) struct clone_args *args, __attribute__((unused)) size_t size,
                         __attribute__((unused)) int (*fn)(void *argument), __attribute__((unused)) void *argument) {
    return -ENOSYS;
}
#endif

static pid_t clone_into(struct spawn *spawn, char *stack) {
    struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_INTO_CGROUP,
                              .exit_signal = SIGCHLD,
                              .stack = (uintptr_t)stack,
                              .stack_size = STACK_BYTES,
                              .cgroup = (uint64_t)spawn->options->cgroup_fd};
    long pid = spawn_clone3(&args, sizeof args, child_main, spawn);
    if (pid < 0)
        errno = (int)-pid;
    return pid < 0 ? -1 : (pid_t)pid;
}

static int clone_child(struct spawn *spawn, pid_t *ret_pid) {
    char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pid_t pid =
        spawn->options->cgroup_fd > 0 ? clone_into(spawn, stack) : clone(child_main, stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, spawn);
    int r = pid < 0 ? -errno : spawn->error;
    if (pid >= 0 && r < 0)
        waitpid(pid, NULL, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK_BYTES);
    if (r == 0)
        *ret_pid = pid;
    return r;
}

int loop_spawn(const struct loop_spawn_options *options, pid_t *ret_pid) {
    char program[4096];
    ASSERT(options->argv && options->argv[0]);
    int r = sys_point("spawn");
    if (r == 0)
        r = resolve_program(options->argv[0], program, sizeof program);
    if (r < 0)
        return r;
    CLEANUP(fd_closep) int null_fd = options->stdin_fd >= 0 ? -1 : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0 && options->stdin_fd < 0)
        return -errno;
    struct spawn spawn = {.options = options, .program = program, .parent = getpid(), .null_fd = null_fd};
    snprintf(spawn.oom_score, sizeof spawn.oom_score, "%d", options->oom_score_adj);
    r = clone_child(&spawn, ret_pid);
    if (r == 0)
        sys_point("spawned");
    return r;
}
