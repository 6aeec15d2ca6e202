/* The node's side of entering a container.
 *
 *   ENTERING ─► (the program ended) ─► RUNNING ─► (the command ended) ─► told, freed
 *       └─────────────► it failed before there was a command: told, freed
 *
 * The command is our own child (CLONE_PARENT): its status is waitpid's, and it must be reaped by us, whatever becomes of the one who asked, or the
 * container's PID namespace could not end. So the handle outlives its release.
 *
 * The command is a session of its own, by which all that it started is found when it is to be killed: the container's processes whose session is the
 * command. What made itself a daemon, on purpose, stays.
 *
 * What the program leaves in the request is checked, since a container with CAP_SYS_PTRACE may have written to it through the command's process,
 * which shares the request until it executes: a process id counts only when it is a child of ours, unknown, and of this container. If none is, the
 * command is looked for in the container's group.
 */
#include "runtime/enter.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "runtime/bundle.h"
#include "runtime/enter_request.h"
#include "sys/sys.h"

#define PROC_BYTES_MAX (16 * KIB)
#define CHILDREN_BYTES_MAX (64 * KIB)
#define REAP_TRIES 100
#define REAP_LOOK_NS 5000000
#define PTMX_DEVICE makedev(5, 2)

struct enter {
    struct list node; /* containers->entering */
    struct containers *containers;
    struct enter_callbacks callbacks;
    char *cgroup_path, *name, *folder;
    pid_t program_pid, command_pid; /* command_pid 0: not known yet */
    ino_t pid_namespace;            /* the container's */
    struct loop_child *program, *command;
    int request_fd, socket_fd;
    bool released;
    struct enter_result result;
};

static void enter_free(struct enter *enter) {
    if (!enter)
        return;
    list_remove(&enter->node);
    loop_child_free(enter->program);
    loop_child_free(enter->command);
    fd_closep(&enter->request_fd);
    fd_closep(&enter->socket_fd);
    free(enter->cgroup_path);
    free(enter->name);
    free(enter->folder);
    free(enter);
}
DEFINE_CLEANUP(struct enter, enter_free)

void enter_forget(struct containers *containers) {
    LIST_FOREACH(it, &containers->entering) enter_free(CONTAINER_OF(it, struct enter, node));
}

/* --- who is the command --- */

static bool is_our_child(pid_t pid) {
    siginfo_t info;
    return pid > 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* 0: unknown. What has ended still has it, until it is reaped. */
static ino_t pid_namespace_of(pid_t pid) {
    char path[40];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* By its control group; on v1 one that ends has left it. By its PID namespace only then, since all of a pod may share that. */
static bool is_of_container(const struct enter *enter, pid_t pid) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(PROC_BYTES_MAX + 1);
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
    if (sys_read_file(AT_FDCWD, path, PROC_BYTES_MAX, &text) < 0)
        return false;
    if (cgroup_text_names(buffer_slice(&text), enter->cgroup_path))
        return true;
    return cgroup_text_is_of_ending(buffer_slice(&text)) && enter->pid_namespace && pid_namespace_of(pid) == enter->pid_namespace;
}

static bool is_known(const struct enter *enter, pid_t pid) {
    LIST_FOREACH(it, &enter->containers->entering) {
        const struct enter *other = CONTAINER_OF(it, struct enter, node);
        if (pid == other->program_pid || pid == other->command_pid)
            return true;
    }
    return false;
}

static void on_candidate(void *userdata, pid_t pid) {
    struct enter *enter = userdata;
    if (!enter->command_pid && !is_known(enter, pid) && is_our_child(pid))
        enter->command_pid = pid;
}

/* What was killed with all of its pod is in no control group any more, and stays a zombie for ever unless it is recognized. */
static void look_among_children(struct enter *enter) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(CHILDREN_BYTES_MAX + 1);
    if (sys_read_file(AT_FDCWD, "/proc/thread-self/children", CHILDREN_BYTES_MAX, &text) < 0)
        return;
    for (struct slice rest = buffer_slice(&text); rest.data && !enter->command_pid;) {
        uint64_t pid;
        if (slice_parse_u64(slice_cut(&rest, ' '), INT_MAX, &pid) == 0 && is_of_container(enter, (pid_t)pid))
            on_candidate(enter, (pid_t)pid);
    }
}

/* is_last: the program has ended, what it has not said it never will. */
static void read_result(struct enter *enter, bool is_last) {
    if (pread(enter->request_fd, &enter->result, sizeof enter->result, offsetof(struct enter_request, result)) != sizeof enter->result)
        enter->result = (struct enter_result){.pid = 0};
    pid_t pid = enter->result.pid;
    if (!enter->command_pid && is_our_child(pid) && !is_known(enter, pid) && is_of_container(enter, pid))
        enter->command_pid = pid;
    if (!is_last || enter->command_pid || (enter->result.step && !enter->result.pid))
        return;
    cgroup_processes(enter->containers->cgroups, enter->cgroup_path, on_candidate, enter);
    look_among_children(enter);
}

/* --- killing --- */

static void on_process(void *userdata, pid_t pid) {
    const struct enter *enter = userdata;
    if (getsid(pid) == enter->command_pid)
        kill(pid, SIGKILL);
}

static void kill_session(struct enter *enter) {
    kill(enter->command_pid, SIGKILL);   /* our child and not reaped: the pid is its */
    for (int pass = 0; pass < 2; pass++) /* the second for what was forked meanwhile */
        cgroup_processes(enter->containers->cgroups, enter->cgroup_path, on_process, enter);
}

void enter_release(struct enter *enter) {
    if (!enter)
        return;
    enter->released = true;
    if (!enter->command_pid)
        read_result(enter, false);
    if (enter->command_pid)
        kill_session(enter);
    else
        kill(enter->program_pid, SIGKILL); /* its end is heard of, and the command's id is then known for sure */
}

/* Of one that was killed and cannot be watched: a moment's wait is the lesser evil, but whoever traces it could make it one without end. */
static void reap(pid_t pid) {
    for (int tries = 0; tries < REAP_TRIES && waitpid(pid, NULL, WNOHANG) == 0; tries++)
        nanosleep(&(struct timespec){.tv_nsec = REAP_LOOK_NS}, NULL);
}

/* --- the terminal --- */

/* Whatever else it is, reading it might block. */
static bool is_terminal_master(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == PTMX_DEVICE;
}

/* -1: none came. */
static int receive_terminal(const struct enter *enter) {
    char byte, control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec vector = {.iov_base = &byte, .iov_len = 1};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CLEANUP(fd_closep) int fd = -1;
    if (enter->socket_fd < 0 || recvmsg(enter->socket_fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0)
        return -1;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    if (!rights || rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS || rights->cmsg_len != CMSG_LEN(sizeof fd))
        return -1;
    memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    return is_terminal_master(fd) ? TAKE_FD(fd) : -1;
}

/* --- the end --- */

static void tell(struct enter *enter, bool ran, int status) {
    CLEANUP(enter_freep) __attribute__((unused)) struct enter *gone = enter; /* clang does not count the cleanup */
    char message[1024] = "";
    int code = 0;
    if (!ran)
        code = enter_explain((enum enter_step)enter->result.step, enter->result.error, enter->folder, enter->name, message, sizeof message);
    if (!enter->released)
        enter->callbacks.on_end(enter->callbacks.userdata, ran, status, code, message);
}

static void on_command_exit(void *userdata, __attribute__((unused)) pid_t pid, int status) {
    struct enter *enter = userdata;
    tell(enter, !enter->result.step, status);
}

static void on_program_exit(void *userdata, __attribute__((unused)) pid_t pid, __attribute__((unused)) int status) {
    struct enter *enter = userdata;
    loop_child_free(TAKE(enter->program));
    read_result(enter, true);
    fd_closep(&enter->request_fd);
    enter->request_fd = -1;
    if (enter->command_pid && loop_child_new(enter->containers->loop, enter->command_pid, on_command_exit, enter, &enter->command) < 0) {
        kill_session(enter);
        reap(enter->command_pid); /* there is no memory, or no descriptor */
        enter->command_pid = 0;
    }
    if (!enter->command_pid)
        return tell(enter, false, 0);
    if (enter->released)
        return kill_session(enter);
    int terminal_fd = receive_terminal(enter);
    fd_closep(&enter->socket_fd);
    enter->socket_fd = -1;
    if (terminal_fd >= 0)
        enter->callbacks.on_terminal(enter->callbacks.userdata, terminal_fd);
}

/* --- starting --- */

static int make_request(struct enter *enter, const struct container *container, const struct enter_options *options) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(BUNDLE_BYTES_MAX + 1);
    CLEANUP(buffer_deinit) struct buffer request = BUFFER_INIT(2 * BUNDLE_BYTES_MAX);
    char path[PATH_MAX + 16];
    containers_bundle_path(enter->containers, options->container_id, path);
    snprintf(path + strlen(path), 16, "/config.json");
    const struct enter_source source = {.pid = container_pid(container),
                                        .cgroups = enter->containers->cgroups,
                                        .cgroup_path = enter->cgroup_path,
                                        .args = options->args,
                                        .terminal = options->terminal};
    int r = sys_read_file(AT_FDCWD, path, BUNDLE_BYTES_MAX, &json);
    if (r == 0)
        r = enter_request_format(&source, buffer_slice(&json), &request);
    if (r < 0)
        return r;
    enter->folder = strdup(enter_request_folder(buffer_slice(&request)));
    enter->request_fd = memfd_create("tidemill-enter-request", MFD_CLOEXEC);
    if (enter->request_fd < 0 || !enter->folder)
        return enter->request_fd < 0 ? -errno : -ENOMEM;
    return sys_write_all(enter->request_fd, buffer_slice(&request));
}

/* It was started, but cannot be watched: nothing of it may stay. */
static void undo_launch(struct enter *enter) {
    kill(enter->program_pid, SIGKILL);
    reap(enter->program_pid);
    read_result(enter, true);
    if (!enter->command_pid)
        return;
    kill_session(enter);
    reap(enter->command_pid);
}

static int launch(struct enter *enter, const struct container *container, const struct enter_options *options) {
    char program[40], argument[60];
    int sockets[2] = {-1, -1};
    if (options->terminal && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    enter->socket_fd = sockets[0];
    CLEANUP(fd_closep) int theirs = sockets[1];
    CLEANUP(fd_closep) int null_fd = options->terminal ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    if (options->terminal && null_fd < 0)
        return -errno;
    snprintf(program, sizeof program, "/proc/self/fd/%d", enter->containers->enter_fd);
    snprintf(argument, sizeof argument, "%d %d %d", enter->request_fd, container_pid_fd(container), MAX(theirs, 0));
    const char *const argv[] = {program, argument, NULL}, *const env[] = {NULL};
    const int pass[] = {enter->request_fd, container_pid_fd(container), theirs, -1}; /* ends at `theirs` when there is none */
    const struct loop_spawn_options spawn = {.argv = argv,
                                             .envp = env,
                                             .cwd = "/",
                                             .stdin_fd = options->terminal ? null_fd : options->stdin_fd,
                                             .stdout_fd = options->terminal ? null_fd : options->stdout_fd,
                                             .stderr_fd = options->terminal ? null_fd : options->stderr_fd,
                                             .pass_fds = pass};
    int r = loop_spawn(&spawn, &enter->program_pid);
    if (r < 0)
        return r;
    r = loop_child_new(enter->containers->loop, enter->program_pid, on_program_exit, enter, &enter->program);
    if (r < 0)
        undo_launch(enter);
    return r;
}

static struct enter *enter_new(struct containers *containers, const struct enter_callbacks *callbacks) {
    struct enter *enter = calloc(1, sizeof *enter);
    if (!enter)
        return NULL;
    *enter = (struct enter){.containers = containers, .callbacks = *callbacks, .request_fd = -1, .socket_fd = -1};
    list_push(&containers->entering, &enter->node);
    return enter;
}

/* Whoever traces a command inside can keep it from being reaped for as long as the container lives. */
static bool is_crowded(const struct containers *containers, const char *cgroup_path) {
    size_t count = 0;
    LIST_FOREACH(it, &containers->entering) {
        const struct enter *enter = CONTAINER_OF(it, struct enter, node);
        count += enter->cgroup_path && strcmp(enter->cgroup_path, cgroup_path) == 0;
    }
    return count >= ENTER_COMMANDS_MAX;
}

int enter_start(struct containers *containers, const struct enter_options *options, const struct enter_callbacks *callbacks, struct enter **ret) {
    const struct container *container = container_find(containers, options->container_id);
    if (!container || container_pid_fd(container) < 0)
        return -ESRCH;
    if (is_crowded(containers, container_cgroup(container)))
        return -EBUSY;
    CLEANUP(enter_freep) struct enter *enter = enter_new(containers, callbacks);
    if (!enter)
        return -ENOMEM;
    enter->cgroup_path = strdup(container_cgroup(container));
    enter->name = strdup(options->args[0] ? options->args[0] : "");
    enter->pid_namespace = pid_namespace_of(container_pid(container));
    if (!enter->cgroup_path || !enter->name)
        return -ENOMEM;
    int r = make_request(enter, container, options);
    if (r == 0)
        r = launch(enter, container, options);
    if (r < 0)
        return r;
    *ret = TAKE(enter);
    return 0;
}
