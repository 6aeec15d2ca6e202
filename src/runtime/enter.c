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
 * Of the two processes the program is not in the container's PID namespace, and ends last of the two until the command executes: what it says counts
 * before what the command's process says, which a container with CAP_SYS_PTRACE can put words in the mouth of. */
#include "runtime/enter.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "runtime/bundle.h"
#include "runtime/enter_request.h"
#include "sys/sys.h"

#define AGAIN_MS 50
#define PTMX_DEVICE makedev(5, 2)

struct enter {
    struct list node; /* containers->entering */
    struct containers *containers;
    struct enter_callbacks callbacks;
    char *cgroup_path, *name, *folder;
    pid_t program_pid, command_pid; /* command_pid 0: not known yet */
    struct loop_child *program, *command;
    int status_fd;
    struct loop_io *status_io;
    bool released, is_done /* the program has said its last */, is_eof;
    struct enter_message done;
    int terminal_fd;
    struct loop_timer again;
};

static void enter_free(struct enter *enter) {
    if (!enter)
        return;
    list_remove(&enter->node);
    loop_timer_cancel(&enter->again);
    loop_child_free(enter->program);
    loop_child_free(enter->command);
    loop_io_free(enter->status_io);
    fd_closep(&enter->status_fd);
    fd_closep(&enter->terminal_fd);
    free(enter->cgroup_path);
    free(enter->name);
    free(enter->folder);
    free(enter);
}
DEFINE_CLEANUP(struct enter, enter_free)

void enter_forget(struct containers *containers) {
    LIST_FOREACH(it, &containers->entering) enter_free(CONTAINER_OF(it, struct enter, node));
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

static void read_status(struct enter *enter);

static void kill_now(struct enter *enter) {
    read_status(enter);
    if (enter->command_pid)
        return kill_session(enter);
    if (enter->program)
        kill(enter->program_pid, SIGKILL);
    loop_timer_set(&enter->again, AGAIN_MS); /* the command's process may be about to say who it is */
}

static void on_again(void *userdata) {
    kill_now(userdata);
}

void enter_release(struct enter *enter) {
    if (!enter)
        return;
    enter->released = true;
    kill_now(enter);
}

/* --- what is said --- */

static bool is_our_child(pid_t pid) {
    siginfo_t info;
    return pid > 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* Whatever else it is, reading it might block. */
static bool is_terminal_master(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == PTMX_DEVICE;
}

static void on_message(struct enter *enter, const struct enter_message *message, pid_t sender, int fd) {
    if (sender == enter->program_pid && message->kind == ENTER_DONE) {
        enter->done = *message;
        enter->is_done = true;
        if (is_our_child(message->pid))
            enter->command_pid = message->pid;
    } else if (message->kind == ENTER_HELLO && !enter->command_pid && is_our_child(sender)) {
        enter->command_pid = sender;
    } else if (message->kind == ENTER_TERMINAL && fd >= 0 && enter->terminal_fd < 0 && is_terminal_master(fd)) {
        enter->terminal_fd = fd;
        return;
    }
    if (fd >= 0)
        close(fd);
}

/* One message; false when there is none now. */
static bool receive(struct enter *enter) {
    struct enter_message message;
    char control[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec vector = {.iov_base = &message, .iov_len = sizeof message};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(enter->status_fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    pid_t sender = 0;
    int fd = -1;
    if (n <= 0) {
        enter->is_eof = n == 0;
        return false;
    }
    for (struct cmsghdr *each = CMSG_FIRSTHDR(&header); each; each = CMSG_NXTHDR(&header, each)) {
        struct ucred credentials;
        if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_CREDENTIALS && each->cmsg_len == CMSG_LEN(sizeof credentials)) {
            memcpy(&credentials, CMSG_DATA(each), sizeof credentials);
            sender = credentials.pid;
        } else if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_RIGHTS && each->cmsg_len == CMSG_LEN(sizeof fd)) {
            memcpy(&fd, CMSG_DATA(each), sizeof fd);
        }
    }
    if (n != sizeof message)
        message.kind = 0;
    on_message(enter, &message, sender, fd);
    return true;
}

static void read_status(struct enter *enter) {
    while (receive(enter))
        ;
}

/* --- the end --- */

static void tell(struct enter *enter, bool ran, int status) {
    CLEANUP(enter_freep) struct enter *gone = enter;
    char message[1024] = "";
    int code = 0;
    if (!ran)
        code = enter_explain((enum enter_step)enter->done.step, enter->done.error, enter->folder, enter->name, message, sizeof message);
    if (!enter->released)
        enter->callbacks.on_end(enter->callbacks.userdata, ran, status, code, message);
}

static void on_command_exit(void *userdata, __attribute__((unused)) pid_t pid, int status) {
    struct enter *enter = userdata;
    tell(enter, !enter->done.step, status);
}

static void run(struct enter *enter) {
    loop_io_free(enter->status_io);
    enter->status_io = NULL;
    loop_timer_cancel(&enter->again);
    if (enter->command_pid && loop_child_new(enter->containers->loop, enter->command_pid, on_command_exit, enter, &enter->command) < 0) {
        kill_session(enter);
        waitpid(enter->command_pid, NULL, 0); /* without memory or descriptors: a moment's wait is the lesser evil */
        enter->command_pid = 0;
    }
    if (!enter->command_pid)
        return tell(enter, false, 0);
    if (enter->released)
        return kill_session(enter);
    if (enter->terminal_fd >= 0)
        enter->callbacks.on_terminal(enter->callbacks.userdata, TAKE_FD(enter->terminal_fd));
}

static void on_status(void *userdata, __attribute__((unused)) uint32_t events) {
    struct enter *enter = userdata;
    read_status(enter);
    if (enter->command_pid || enter->is_eof)
        run(enter);
}

static void on_program_exit(void *userdata, __attribute__((unused)) pid_t pid, __attribute__((unused)) int status) {
    struct enter *enter = userdata;
    loop_child_free(enter->program);
    enter->program = NULL;
    read_status(enter);
    if (enter->is_done || enter->command_pid || enter->is_eof)
        return run(enter);
    /* killed, and the command's process, which holds the socket, has not spoken yet */
    if (loop_io_new(enter->containers->loop, enter->status_fd, EPOLLIN, on_status, enter, &enter->status_io) < 0)
        tell(enter, false, 0);
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
    CLEANUP(fd_closep) int fd = memfd_create("tidemill-enter-request", MFD_CLOEXEC);
    if (fd < 0 || !enter->folder)
        return fd < 0 ? -errno : -ENOMEM;
    r = sys_write_all(fd, buffer_slice(&request));
    return r < 0 ? r : TAKE_FD(fd);
}

/* It was started, but cannot be watched: nothing of it may stay. */
static void undo_launch(struct enter *enter) {
    kill(enter->program_pid, SIGKILL);
    waitpid(enter->program_pid, NULL, 0);
    while (receive(enter) || (!enter->command_pid && !enter->is_eof))
        ;
    if (!enter->command_pid)
        return;
    kill_session(enter);
    waitpid(enter->command_pid, NULL, 0);
}

static int launch(struct enter *enter, const struct container *container, const struct enter_options *options, int request_fd) {
    char program[40], argument[40];
    int sockets[2], on = 1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    enter->status_fd = sockets[0];
    CLEANUP(fd_closep) int theirs = sockets[1];
    CLEANUP(fd_closep) int null_fd = options->terminal ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    if (setsockopt(enter->status_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 || (options->terminal && null_fd < 0))
        return -errno;
    snprintf(program, sizeof program, "/proc/self/fd/%d", enter->containers->enter_fd);
    snprintf(argument, sizeof argument, "%d %d %d", request_fd, container_pid_fd(container), theirs);
    const char *const argv[] = {program, argument, NULL}, *const env[] = {NULL};
    const int pass[] = {request_fd, container_pid_fd(container), theirs, -1};
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
    *enter = (struct enter){.containers = containers, .callbacks = *callbacks, .status_fd = -1, .terminal_fd = -1};
    list_push(&containers->entering, &enter->node);
    loop_timer_init(&enter->again, containers->loop, on_again, enter);
    return enter;
}

int enter_start(struct containers *containers, const struct enter_options *options, const struct enter_callbacks *callbacks, struct enter **ret) {
    const struct container *container = container_find(containers, options->container_id);
    if (!container || container_pid_fd(container) < 0)
        return -ESRCH;
    CLEANUP(enter_freep) struct enter *enter = enter_new(containers, callbacks);
    if (!enter)
        return -ENOMEM;
    enter->cgroup_path = strdup(container_cgroup(container));
    enter->name = strdup(options->args[0] ? options->args[0] : "");
    if (!enter->cgroup_path || !enter->name)
        return -ENOMEM;
    CLEANUP(fd_closep) int request_fd = make_request(enter, container, options);
    int r = request_fd < 0 ? request_fd : launch(enter, container, options, request_fd);
    if (r < 0)
        return r;
    *ret = TAKE(enter);
    return 0;
}
