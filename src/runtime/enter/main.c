/* The program that runs a command in a container: `kubectl exec`, probes, hooks. The node executes it from a sealed memory file; see enter_priv.h for
 * what they say to each other, and ../enter.c for the node's side.
 *
 *   program, in the host's PID namespace                  command, a child of the node (CLONE_PARENT)
 *     control groups, limits, namespaces,
 *     terminal, folder, user, capabilities
 *     clone, suspended until the command runs ─────────►   session, executes
 *     writes down what failed, if anything; ends
 *
 * Invariants
 *  1. The command's process is born with the container's privileges, root folder and streams, and nothing else: only from then on is it in the
 *     container's PID namespace, where one with CAP_SYS_PTRACE could take it over. Its memory is a copy, so that what is written to it is not run
 *     by the program, which stays in the host's PID namespace until the command executes. The program is seen by nobody in there. It was executed,
 *     not forked, so there is no memory of the node in it; and the file that it is executed from is sealed (CVE-2019-5736). The request alone is
 *     shared, and believed by nobody: the program reads nothing of it any more, the node checks what it says.
 *  2. The control group comes first: all that we do, from then on, is on the container's account.
 *  3. Nothing is opened by a path of the container's but its terminal, which is checked to be one.
 *  4. The working folder must be beneath the container's root, whatever links led there (CVE-2024-21626): all descriptors are closed before.
 *  5. Privileges go in the order: bounding set, groups, group, user, capabilities, no_new_privs, seccomp. Without no_new_privs a filter needs
 *     CAP_SYS_ADMIN, so it comes before them: the profile must allow these calls, and clone. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "runtime/enter_system_priv.h"
#include "runtime/enter_priv.h"

#define STACK_BYTES (64 * 1024)
#define PATH_BYTES 4096
#define TTY_MAJOR_ALTERNATE 5
#define PTMX_MINOR 2
#define KEYCTL_JOIN_SESSION_KEYRING 1
#define UMASK_DEFAULT 022

struct entry {
    struct enter_request *request;
    const struct enter_rlimit *rlimits;
    const uint32_t *groups;
    const struct sock_filter *seccomp;
    const char *folder, *apparmor, *cgroups;
    const char **args, **env; /* NULL-terminated */
    int request_fd, pid_fd, socket_fd;
    bool has_user_namespace, folder_is_set;
};

static char stack[STACK_BYTES] __attribute__((aligned(16)));

/* The compiler calls these by itself. */
void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memset(void *to, int byte, size_t len);
void *memcpy(void *restrict to, const void *restrict from, size_t len) {
    for (size_t i = 0; i < len; i++)
        ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}
void *memset(void *to, int byte, size_t len) {
    for (size_t i = 0; i < len; i++)
        ((volatile char *)to)[i] = (char)byte;
    return to;
}

static _Noreturn void leave(int code) {
    for (;;)
        SYSTEM_1(exit_group, code);
}

/* In the program and in the command's process: the request is a shared mapping in both. */
static _Noreturn void fail(const struct entry *entry, enum enter_step step, long error) {
    entry->request->result.step = step;
    entry->request->result.error = (int32_t)-error;
    leave(127);
}

static void send_terminal(int socket_fd, int fd) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec vector = {.iov_base = &byte, .iov_len = 1};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    *(int *)(void *)CMSG_DATA(rights) = fd;
    SYSTEM_3(sendmsg, socket_fd, &header, MSG_NOSIGNAL);
}

/* --- small files --- */

static long write_text(const char *path, const char *text, size_t len) {
    long fd = SYSTEM_4(openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    long written = SYSTEM_3(write, fd, text, len);
    SYSTEM_1(close, fd);
    return written < 0 ? written : 0;
}

/* Decimal digits of `value` into text, which has room; the length. */
static size_t format_number(char *text, long value) {
    char digits[24];
    size_t count = 0, len = 0;
    unsigned long rest = value < 0 ? 0UL - (unsigned long)value : (unsigned long)value;
    do
        digits[count++] = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (value < 0)
        text[len++] = '-';
    while (count > 0)
        text[len++] = digits[--count];
    text[len] = 0;
    return len;
}

static size_t append(char *to, size_t at, const char *text) {
    for (size_t i = 0; text[i] && at + 1 < PATH_BYTES; i++)
        to[at++] = text[i];
    to[at] = 0;
    return at;
}

/* "/proc/<pid>/<name>" */
static void format_proc(char *path, long pid, const char *name) {
    char number[24];
    format_number(number, pid);
    size_t len = append(path, append(path, append(path, 0, "/proc/"), number), "/");
    append(path, len, name);
}

/* --- the program --- */

/* A v2 group that has groups of its own inside takes no processes: then where the container's first process is now. procs:
 * "<root>/<group>/cgroup.procs", whose root is told from the group's own path, as /proc names it: what they have in common at the end. */
static long join_where_first_is(const struct entry *entry, const char *procs) {
    static char text[PATH_BYTES], path[PATH_BYTES];
    format_proc(path, entry->request->pid, "cgroup");
    long fd = SYSTEM_4(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    long len = fd < 0 ? fd : SYSTEM_3(read, fd, text, sizeof text - 1);
    if (len < 4)
        return len < 0 ? len : -EBUSY;
    SYSTEM_1(close, fd);
    if (text[0] != '0' || text[1] != ':' || text[2] != ':')
        return -EBUSY; /* v1: there is no such rule */
    for (long i = 0; i <= len; i++)
        if (i == len || text[i] == '\n')
            text[i] = 0;
    size_t folder_len = text_len(procs) - (sizeof "/cgroup.procs" - 1);
    for (size_t root = 0; root < folder_len; root++) { /* the longest beginning of the group's name that ends the folder's */
        size_t k = 0;
        while (root + k < folder_len && text[3 + k] == procs[root + k])
            k++;
        if (root + k != folder_len || k < 2 || (text[3 + k] != '/' && text[3 + k] != 0))
            continue;
        size_t at = 0;
        for (; at < root && at + 1 < sizeof path; at++)
            path[at] = procs[at];
        append(path, append(path, at, text + 3), "/cgroup.procs");
        return write_text(path, "0", 1);
    }
    return -EBUSY;
}

static void join_cgroups(const struct entry *entry) {
    const char *procs = entry->cgroups;
    for (uint32_t i = 0; i < entry->request->cgroups_count; i++, procs += text_len(procs) + 1) {
        long r = write_text(procs, "0", 1);
        if (r == -EBUSY)
            r = join_where_first_is(entry, procs);
        if (r < 0)
            fail(entry, ENTER_STEP_CGROUP, r);
    }
}

static void set_oom_score(const struct entry *entry) {
    char text[24];
    size_t len = format_number(text, entry->request->oom_score);
    long r = write_text("/proc/self/oom_score_adj", text, len);
    if (r < 0 && r != -EACCES) /* lower than we may set it, inside a container: it keeps ours */
        fail(entry, ENTER_STEP_OOM_SCORE, r);
}

static bool is_other_user_namespace(const struct entry *entry) {
    char path[64];
    struct stat own, theirs;
    format_proc(path, entry->request->pid, "ns/user");
    return SYSTEM_4(newfstatat, AT_FDCWD, "/proc/self/ns/user", &own, 0) == 0 && SYSTEM_4(newfstatat, AT_FDCWD, path, &theirs, 0) == 0 &&
           own.st_ino != theirs.st_ino;
}

static const char **read_texts(const char **at, uint32_t count, const char **list) {
    for (uint32_t i = 0; i < count; i++, *at += text_len(*at) + 1)
        list[i] = *at;
    list[count] = NULL;
    return list;
}

static void *map(size_t len, int fd) {
    long address = SYSTEM_6(mmap, NULL, len, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
    return address < 0 && address > -PATH_BYTES ? NULL : (void *)address;
}

static void read_request(struct entry *entry) {
    struct stat st;
    long r = SYSTEM_2(fstat, entry->request_fd, &st);
    struct enter_request *request = r < 0 ? NULL : map((size_t)st.st_size, entry->request_fd);
    if (!request || st.st_size < (long)sizeof *request || request->magic != ENTER_MAGIC)
        leave(126);
    const char **texts = map((request->args_count + request->env_count + 2) * sizeof *texts, -1);
    if (!texts)
        fail(entry, ENTER_STEP_FORK, -ENOMEM);
    entry->request = request;
    entry->rlimits = (const struct enter_rlimit *)(request + 1);
    entry->groups = (const uint32_t *)(entry->rlimits + request->rlimits_count);
    entry->seccomp = (const struct sock_filter *)(entry->groups + request->groups_count);
    entry->folder = (const char *)(entry->seccomp + request->seccomp_count);
    entry->apparmor = entry->folder + text_len(entry->folder) + 1;
    entry->cgroups = entry->apparmor + text_len(entry->apparmor) + 1;
    const char *at = entry->cgroups;
    for (uint32_t i = 0; i < request->cgroups_count; i++)
        at += text_len(at) + 1;
    entry->args = read_texts(&at, request->args_count, texts);
    entry->env = read_texts(&at, request->env_count, texts + request->args_count + 1);
    SYSTEM_1(close, entry->request_fd);
}

/* --- the command: terminal, folder --- */

static long open_terminal(long *ret_master) {
    struct stat st;
    struct statfs fs;
    int unlocked = 0;
    long master = SYSTEM_4(openat, AT_FDCWD, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    if (master < 0)
        return master;
    if (SYSTEM_2(fstat, master, &st) < 0 || SYSTEM_2(fstatfs, master, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC || !S_ISCHR(st.st_mode) ||
        st.st_rdev != makedev(TTY_MAJOR_ALTERNATE, PTMX_MINOR))
        return -ENOTTY; /* something was put over it */
    long r = SYSTEM_3(ioctl, master, TIOCSPTLCK, &unlocked);
    *ret_master = master;
    return r < 0 ? r : SYSTEM_3(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

static void make_terminal(const struct entry *entry) {
    const struct enter_request *request = entry->request;
    const struct winsize size = {.ws_row = request->rows, .ws_col = request->columns};
    long master = -1, slave = open_terminal(&master);
    if (slave < 0)
        fail(entry, ENTER_STEP_TERMINAL, slave);
    if (size.ws_row && size.ws_col)
        SYSTEM_3(ioctl, slave, TIOCSWINSZ, &size);
    long r = 0;
    for (int fd = 0; r >= 0 && fd < 3; fd++)
        r = SYSTEM_3(dup3, slave, fd, 0);
    if (r < 0)
        fail(entry, ENTER_STEP_TERMINAL, r);
    send_terminal(entry->socket_fd, (int)master);
}

/* A command that opens /dev/stdout anew must be allowed to. */
static void own_streams(uint32_t user) {
    for (int fd = 0; user != 0 && fd < 3; fd++)
        SYSTEM_3(fchown, fd, user, -1);
}

static unsigned long read_count(const char **at) {
    unsigned long value = 0;
    while (**at == ' ' || **at == '\n')
        ++*at;
    for (; **at >= '0' && **at <= '9'; ++*at)
        value = value * 10 + (unsigned long)(**at - '0');
    return value;
}

/* Who the command's user is on the host: the map's lines are "inside outside count". */
static uint32_t host_user(const struct entry *entry) {
    static char text[PATH_BYTES];
    char path[64];
    unsigned long user = entry->request->user;
    if (!entry->has_user_namespace)
        return (uint32_t)user;
    format_proc(path, entry->request->pid, "uid_map");
    long fd = SYSTEM_4(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    long len = fd < 0 ? fd : SYSTEM_3(read, fd, text, sizeof text - 1);
    if (fd >= 0)
        SYSTEM_1(close, fd);
    for (const char *at = text; len > 0 && at < text + len && *at;) {
        unsigned long inside = read_count(&at), outside = read_count(&at), count = read_count(&at);
        if (user >= inside && user - inside < count)
            return (uint32_t)(outside + (user - inside));
        while (*at && *at != '\n')
            at++;
        at += *at == '\n';
    }
    return 0;
}

/* A folder that only its owner may enter is tried again as the user. */
static void go_to_folder(struct entry *entry, bool is_last) {
    char path[PATH_BYTES];
    long r = SYSTEM_1(chdir, entry->folder);
    if ((r == -EACCES || r == -EPERM) && !is_last)
        return;
    if (r < 0)
        fail(entry, ENTER_STEP_FOLDER, r);
    r = SYSTEM_2(getcwd, path, sizeof path);
    if (r < 0 || path[0] != '/') /* "(unreachable)/…": it is not beneath our root */
        fail(entry, ENTER_STEP_FOLDER_OUTSIDE, r < 0 ? r : -EXDEV);
    entry->folder_is_set = true;
}

/* --- the command: privileges --- */

static void set_rlimits(const struct entry *entry) {
    for (uint32_t i = 0; i < entry->request->rlimits_count; i++) {
        const struct rlimit64 limit = {.rlim_cur = entry->rlimits[i].soft, .rlim_max = entry->rlimits[i].hard};
        long r = SYSTEM_4(prlimit64, 0, entry->rlimits[i].resource, &limit, NULL);
        if (r < 0)
            fail(entry, ENTER_STEP_RLIMITS, r);
    }
}

static void drop_bounding(const struct entry *entry) {
    for (unsigned capability = 0; capability < 64; capability++) {
        if (entry->request->bounding & (UINT64_C(1) << capability))
            continue;
        long r = SYSTEM_5(prctl, PR_CAPBSET_DROP, capability, 0, 0, 0);
        if (r == -EINVAL)
            break; /* beyond the last one that there is */
        if (r < 0)
            fail(entry, ENTER_STEP_CAPABILITIES, r);
    }
}

static void become_user(const struct entry *entry) {
    const struct enter_request *request = entry->request;
    long r = SYSTEM_5(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (r >= 0)
        r = SYSTEM_2(setgroups, request->groups_count, entry->groups);
    if (r >= 0)
        r = SYSTEM_3(setresgid, request->group, request->group, request->group);
    if (r >= 0)
        r = SYSTEM_3(setresuid, request->user, request->user, request->user);
    if (r < 0)
        fail(entry, ENTER_STEP_USER, r);
}

static void set_capabilities(const struct entry *entry) {
    const struct enter_request *request = entry->request;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++)
        data[i] = (struct __user_cap_data_struct){.effective = (uint32_t)(request->effective >> (32 * i)),
                                                  .permitted = (uint32_t)(request->permitted >> (32 * i)),
                                                  .inheritable = (uint32_t)(request->inheritable >> (32 * i))};
    long r = SYSTEM_2(capset, &header, data);
    if (r >= 0)
        r = SYSTEM_5(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned capability = 0; r >= 0 && capability < 64; capability++)
        if (request->ambient & (UINT64_C(1) << capability))
            r = SYSTEM_5(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
    if (r < 0)
        fail(entry, ENTER_STEP_CAPABILITIES, r);
}

static void confine(const struct entry *entry) {
    const struct sock_fprog program = {.len = (unsigned short)entry->request->seccomp_count, .filter = (struct sock_filter *)entry->seccomp};
    if (!entry->request->seccomp_count)
        return;
    long r = SYSTEM_3(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    if (r < 0)
        fail(entry, ENTER_STEP_SECCOMP, r);
}

/* Where the kernel is told of the profile that begins with the next execution; opened while /proc is still the host's. */
static long open_profile(const struct entry *entry) {
    long fd = -1;
    if (entry->apparmor[0])
        fd = SYSTEM_4(openat, AT_FDCWD, "/proc/thread-self/attr/apparmor/exec", O_WRONLY | O_CLOEXEC, 0);
    if (fd == -ENOENT)
        fd = SYSTEM_4(openat, AT_FDCWD, "/proc/thread-self/attr/exec", O_WRONLY | O_CLOEXEC, 0);
    if (entry->apparmor[0] && fd < 0)
        fail(entry, ENTER_STEP_APPARMOR, fd);
    return fd;
}

static void set_profile(struct entry *entry, long fd) {
    char text[PATH_BYTES];
    if (fd < 0)
        return;
    size_t len = append(text, append(text, 0, "exec "), entry->apparmor);
    long r = SYSTEM_3(write, fd, text, len);
    if (r < 0)
        fail(entry, ENTER_STEP_APPARMOR, r);
}

/* --- the command: executing --- */

static long look(const char *path) {
    struct stat st;
    long r = SYSTEM_4(newfstatat, AT_FDCWD, path, &st, 0);
    if (r < 0)
        return r;
    return S_ISDIR(st.st_mode) ? -EISDIR : st.st_mode & 0111 ? 0 : -EACCES;
}

static bool has_slash(const char *text) {
    while (*text && *text != '/')
        text++;
    return *text != 0;
}

static const char *search_path(const struct entry *entry) {
    for (const char *const *each = (const char *const *)entry->env; *each; each++)
        if ((*each)[0] == 'P' && (*each)[1] == 'A' && (*each)[2] == 'T' && (*each)[3] == 'H' && (*each)[4] == '=')
            return *each + 5;
    return "";
}

static _Noreturn void execute(const struct entry *entry) {
    char path[PATH_BYTES];
    const char *name = entry->args[0];
    if (has_slash(name)) {
        long r = look(name);
        if (r < 0)
            fail(entry, ENTER_STEP_LOOK, r);
        r = SYSTEM_3(execve, name, entry->args, entry->env);
        fail(entry, r == -EACCES ? ENTER_STEP_LOOK : ENTER_STEP_EXEC, r);
    }
    for (const char *from = search_path(entry); *from && *name;) {
        size_t len = 0;
        while (*from && *from != ':' && len + 1 < sizeof path)
            path[len++] = *from++;
        if (len == 0)
            path[len++] = '.';
        while (*from && *from != ':')
            from++;
        from += *from == ':';
        path[len] = 0;
        append(path, append(path, len, "/"), name);
        if (look(path) < 0)
            continue;
        long r = SYSTEM_3(execve, path, entry->args, entry->env);
        if (r != -EACCES)
            fail(entry, ENTER_STEP_EXEC, r);
    }
    fail(entry, ENTER_STEP_SEARCH, -ENOENT);
}

/* --- the order of it all --- */

static void join_namespaces(const struct entry *entry) {
    const unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;
    long r = SYSTEM_2(setns, entry->pid_fd, entry->has_user_namespace ? flags | CLONE_NEWUSER : flags);
    if (r < 0)
        fail(entry, ENTER_STEP_NAMESPACES, r);
    SYSTEM_2(keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL); /* not the node's; a kernel without keys has none */
    if (!entry->has_user_namespace)
        return;
    r = SYSTEM_3(setresgid, 0, 0, 0); /* our own are nobody in there */
    if (r >= 0)
        r = SYSTEM_3(setresuid, 0, 0, 0);
    if (r < 0)
        fail(entry, ENTER_STEP_USER, r);
}

/* What needs the host's view of things. */
static long prepare(struct entry *entry) {
    join_cgroups(entry);
    if (entry->request->flags & ENTER_HAS_OOM_SCORE)
        set_oom_score(entry);
    set_rlimits(entry);
    entry->has_user_namespace = is_other_user_namespace(entry);
    if (!(entry->request->flags & ENTER_NEEDS_TERMINAL))
        own_streams(host_user(entry));
    return open_profile(entry);
}

static void become_contained(struct entry *entry, long profile_fd) {
    const struct enter_request *request = entry->request;
    join_namespaces(entry);
    SYSTEM_1(umask, UMASK_DEFAULT);
    if (request->flags & ENTER_NEEDS_TERMINAL)
        make_terminal(entry);
    if (request->flags & ENTER_NEEDS_TERMINAL)
        own_streams(request->user);
    set_profile(entry, profile_fd);
    long r = SYSTEM_3(close_range, 3, ~0U, 0);
    if (r < 0)
        fail(entry, ENTER_STEP_FORK, r);
    go_to_folder(entry, false);
    if (!(request->flags & ENTER_NO_NEW_PRIVILEGES))
        confine(entry);
    drop_bounding(entry);
    become_user(entry);
    set_capabilities(entry);
    if (!entry->folder_is_set)
        go_to_folder(entry, true);
    if (request->flags & ENTER_NO_NEW_PRIVILEGES)
        r = SYSTEM_5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (r < 0)
        fail(entry, ENTER_STEP_SECCOMP, r);
}

static void run_command(void *argument) {
    const struct entry *entry = argument;
    SYSTEM_0(setsid);
    if (entry->request->flags & ENTER_NEEDS_TERMINAL)
        SYSTEM_3(ioctl, 0, TIOCSCTTY, 0);
    if (entry->request->flags & ENTER_NO_NEW_PRIVILEGES)
        confine(entry);
    execute(entry);
}

/* --- the beginning --- */

static int read_number(const char **at) {
    int value = 0;
    while (**at == ' ')
        ++*at;
    for (; **at >= '0' && **at <= '9'; ++*at)
        value = value * 10 + (**at - '0');
    return value;
}

__attribute__((used)) static _Noreturn void begin(const long *arguments) {
    static struct entry entry;
    const char *const *argv = (const char *const *)(const void *)(arguments + 1);
    if (arguments[0] != 2)
        leave(2);
    SYSTEM_5(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    SYSTEM_5(prctl, PR_SET_NAME, "tidemill-enter", 0, 0, 0);
    const char *at = argv[1];
    entry.request_fd = read_number(&at);
    entry.pid_fd = read_number(&at);
    entry.socket_fd = read_number(&at);
    read_request(&entry);
    become_contained(&entry, prepare(&entry));
    struct enter_result *result = &entry.request->result;
    const unsigned long flags = CLONE_VFORK | CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD;
    long r = system_clone(flags, stack + sizeof stack, run_command, &entry, &result->pid);
    if (r < 0)
        fail(&entry, ENTER_STEP_FORK, r);
    result->pid = (int32_t)r;
    result->done = 1;
    leave(0);
}
SYSTEM_START(begin);
