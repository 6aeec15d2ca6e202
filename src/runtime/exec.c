/* `crun exec` with pipes or a terminal, and conmon's attach socket.
 *
 * Pipes: crun's own standard streams are inherited by the command. Terminal: crun makes it inside the container and sends its master through a
 * console socket (SCM_RIGHTS), so the host's terminals are not involved. crun waits for the command and exits with its code; its end is the end of
 * the session, after what is left in the pipes was read (a background child that keeps them open does not delay it). Killing: the command's pid comes
 * from crun's pid file; killing crun alone would leave the command behind.
 *
 * Attach: SOCK_SEQPACKET, each packet starts with the stream's number (2: stdout, 3: stderr); what is written is the container's input. */
#include "runtime/exec.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#include "codec/codec.h"
#include "runtime/container_priv.h"
#include "sys/sys.h"

#define READ_BYTES (32 * KIB)
#define PROCESS_BYTES_MAX (4 * MIB)

struct pipe_end {
    struct exec *exec;
    int fd;
    struct loop_io *io;
    int stream;
};

struct exec {
    struct containers *containers;
    struct exec_callbacks callbacks;
    struct pipe_end input, output, errors; /* a terminal or attach socket is `output`, and input goes there too */
    bool is_terminal, is_attach, paused, close_input, has_exited;
    int status;
    struct buffer pending;
    pid_t pid;
    struct loop_child *child;
    int console_fd;
    struct loop_io *console_io;
    char *process_path, *console_path, *pid_path;
    unsigned columns, rows;
    struct loop_defer finish;
};

static void close_end(struct pipe_end *end) {
    loop_io_free(end->io);
    end->io = NULL;
    if (end->fd >= 0)
        close(end->fd);
    end->fd = -1;
}

static void remove_path(char **path) {
    if (*path)
        unlink(*path);
    free(*path);
    *path = NULL;
}

static void close_console(struct exec *exec) {
    loop_io_free(exec->console_io);
    exec->console_io = NULL;
    if (exec->console_fd >= 0)
        close(exec->console_fd);
    exec->console_fd = -1;
}

static void kill_command(const struct exec *exec) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(256);
    uint64_t pid;
    if (exec->pid_path && sys_read_file(AT_FDCWD, exec->pid_path, 255, &text) == 0 &&
        slice_parse_u64(slice_trim(buffer_slice(&text)), INT32_MAX, &pid) == 0 && pid > 1)
        kill((pid_t)pid, SIGKILL);
    if (exec->pid > 0)
        kill(exec->pid, SIGKILL);
}

void exec_free(struct exec *exec) {
    if (!exec)
        return;
    if (exec->child && !exec->has_exited)
        kill_command(exec);
    loop_child_free(exec->child);
    loop_defer_cancel(&exec->finish);
    close_end(&exec->input);
    close_end(&exec->output);
    close_end(&exec->errors);
    close_console(exec);
    remove_path(&exec->process_path);
    remove_path(&exec->console_path);
    remove_path(&exec->pid_path);
    buffer_deinit(&exec->pending);
    free(exec);
}
DEFINE_CLEANUP(struct exec, exec_free)

/* --- output --- */

/* Reads once; false at the end of the stream or when nothing is there. */
static bool read_output(struct pipe_end *end) {
    struct exec *exec = end->exec;
    char bytes[READ_BYTES];
    ssize_t n = read(end->fd, bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) { /* a terminal whose last user is gone reads EIO */
        close_end(end);
        if (exec->is_attach)
            loop_defer_schedule(&exec->finish);
        return false;
    }
    struct slice data = slice_make(bytes, (size_t)n);
    int stream = end->stream;
    if (exec->is_attach) {
        stream = bytes[0] == 3 ? 2 : 1;
        data = slice_from(data, 1);
    }
    exec->callbacks.on_output(exec->callbacks.userdata, stream, data);
    return true;
}

static void flush_input(struct exec *exec);

static void on_output(void *userdata, uint32_t events) {
    struct pipe_end *end = userdata;
    if (events & EPOLLOUT)
        flush_input(end->exec);
    if (end->fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !end->exec->paused)
        read_output(end);
}

static void update_events(struct exec *exec) {
    bool shared = exec->is_terminal || exec->is_attach;
    uint32_t in = exec->paused ? 0 : EPOLLIN;
    if (exec->output.io)
        loop_io_set(exec->output.io, in | (shared && exec->pending.len ? EPOLLOUT : 0));
    if (exec->errors.io)
        loop_io_set(exec->errors.io, in);
    if (exec->input.io)
        loop_io_set(exec->input.io, exec->pending.len ? EPOLLOUT : 0);
}

void exec_pause(struct exec *exec, bool paused) {
    exec->paused = paused;
    update_events(exec);
    if (!paused && exec->has_exited)
        loop_defer_schedule(&exec->finish);
}

/* --- input --- */

static int input_fd(const struct exec *exec) {
    return exec->is_terminal || exec->is_attach ? exec->output.fd : exec->input.fd;
}

static void finish_input(struct exec *exec) {
    static const char end_of_transmission = 4;
    if (exec->is_attach)
        shutdown(exec->output.fd, SHUT_WR);
    else if (exec->is_terminal) /* a terminal has no end of input but the character for it */
        (void)!write(exec->output.fd, &end_of_transmission, 1);
    else
        close_end(&exec->input);
}

static void flush_input(struct exec *exec) {
    int fd = input_fd(exec);
    bool had = exec->pending.len > 0;
    while (fd >= 0 && exec->pending.len) {
        ssize_t n = write(fd, exec->pending.data, MIN(exec->pending.len, exec->is_attach ? 8 * KIB : exec->pending.len));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n < 0) { /* nobody reads: drop it, as a shell's pipe would */
            buffer_reset(&exec->pending);
            break;
        }
        buffer_consume(&exec->pending, (size_t)n);
    }
    if (exec->pending.len == 0 && fd >= 0) {
        buffer_release(&exec->pending);
        if (exec->close_input) {
            exec->close_input = false;
            finish_input(exec);
        }
        if (had && exec->callbacks.on_input_drained)
            exec->callbacks.on_input_drained(exec->callbacks.userdata);
    }
    update_events(exec);
}

static void on_input_ready(void *userdata, uint32_t events) {
    struct pipe_end *end = userdata;
    struct exec *exec = end->exec;
    if (events & (EPOLLERR | EPOLLHUP)) {
        close_end(end);
        buffer_reset(&exec->pending);
        return;
    }
    flush_input(exec);
}

int exec_write(struct exec *exec, struct slice bytes) {
    if (exec->close_input)
        return -EPIPE;
    if (input_fd(exec) < 0 && !exec->console_path)
        return -EPIPE;
    if (exec->pending.len + bytes.len > EXEC_INPUT_BYTES_MAX)
        return -ENOBUFS;
    int r = buffer_append_slice(&exec->pending, bytes);
    if (r == 0)
        flush_input(exec);
    return r;
}

size_t exec_input_pending(const struct exec *exec) {
    return exec->pending.len;
}

void exec_close_input(struct exec *exec) {
    exec->close_input = true;
    flush_input(exec);
}

/* --- terminal --- */

static void apply_size(const struct exec *exec) {
    struct winsize size = {.ws_row = (unsigned short)exec->rows, .ws_col = (unsigned short)exec->columns};
    if (exec->output.fd >= 0 && exec->rows && exec->columns)
        ioctl(exec->output.fd, TIOCSWINSZ, &size);
}

void exec_resize(struct exec *exec, unsigned columns, unsigned rows) {
    exec->columns = MIN(columns, 10000u);
    exec->rows = MIN(rows, 10000u);
    if (exec->is_terminal)
        apply_size(exec);
}

/* The one descriptor that crun sends. */
static int receive_fd(int socket_fd) {
    char byte[256], control[CMSG_SPACE(sizeof(int))];
    struct iovec vector = {.iov_base = byte, .iov_len = sizeof byte};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC) < 0)
        return -errno;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int)))
        return -EPROTO;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

static void on_console(void *userdata, __attribute__((unused)) uint32_t events) {
    struct exec *exec = userdata;
    CLEANUP(fd_closep) int connection = accept4(exec->console_fd, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0)
        return;
    int fd = receive_fd(connection);
    close_console(exec);
    remove_path(&exec->console_path);
    if (fd < 0)
        return;
    exec->output.fd = fd;
    sys_set_nonblocking(fd, true);
    if (loop_io_new(exec->containers->loop, fd, EPOLLIN, on_output, &exec->output, &exec->output.io) < 0)
        return close_end(&exec->output);
    apply_size(exec);
    flush_input(exec);
}

static int listen_console(struct exec *exec, const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (asprintf(&exec->console_path, "%s/%s", exec->containers->dir, name) < 0)
        return exec->console_path = NULL, -ENOMEM;
    if (strlen(exec->console_path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, exec->console_path, strlen(exec->console_path) + 1);
    exec->console_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (exec->console_fd < 0 || bind(exec->console_fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(exec->console_fd, 1) < 0)
        return -errno;
    return loop_io_new(exec->containers->loop, exec->console_fd, EPOLLIN, on_console, exec, &exec->console_io);
}

/* --- the end --- */

static void on_finish(void *userdata) {
    struct exec *exec = userdata;
    struct pipe_end *const ends[] = {&exec->output, &exec->errors};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        while (ends[i]->fd >= 0 && !exec->paused && !exec->is_attach && read_output(ends[i]))
            ;
    if (exec->paused)
        return; /* exec_pause(false) comes back */
    int code = exec->is_attach ? 0 : WIFEXITED(exec->status) ? WEXITSTATUS(exec->status) : 128 + WTERMSIG(exec->status);
    exec->callbacks.on_exit(exec->callbacks.userdata, code, 0, "");
}

static void on_child_exit(void *userdata, __attribute__((unused)) pid_t pid, int status) {
    struct exec *exec = userdata;
    loop_child_free(exec->child);
    exec->child = NULL;
    exec->pid = -1;
    exec->has_exited = true;
    exec->status = status;
    loop_defer_schedule(&exec->finish);
}

/* --- starting --- */

static struct exec *exec_new(struct containers *containers, const struct exec_callbacks *callbacks) {
    struct exec *exec = calloc(1, sizeof *exec);
    if (!exec)
        return NULL;
    exec->containers = containers;
    exec->callbacks = *callbacks;
    exec->pending = BUFFER_INIT(EXEC_INPUT_BYTES_MAX + 1);
    exec->console_fd = exec->pid = -1;
    exec->input = (struct pipe_end){.exec = exec, .fd = -1};
    exec->output = (struct pipe_end){.exec = exec, .fd = -1, .stream = 1};
    exec->errors = (struct pipe_end){.exec = exec, .fd = -1, .stream = 2};
    loop_defer_init(&exec->finish, containers->loop, on_finish, exec);
    return exec;
}

/* Our end into `end`, the child's into *ret_theirs. */
static int open_pipe(struct pipe_end *end, bool we_read, int *ret_theirs) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    end->fd = fds[we_read ? 0 : 1];
    *ret_theirs = fds[we_read ? 1 : 0];
    int r = sys_set_nonblocking(end->fd, true);
    return r < 0 ? r : loop_io_new(end->exec->containers->loop, end->fd, we_read ? EPOLLIN : 0, we_read ? on_output : on_input_ready, end, &end->io);
}

static int spawn(struct exec *exec, const struct exec_options *options) {
    struct containers *containers = exec->containers;
    CLEANUP(fd_closep) int in = -1;
    CLEANUP(fd_closep) int out = -1;
    CLEANUP(fd_closep) int err = -1;
    int r = 0;
    if (!exec->is_terminal) {
        r = options->open_stdin ? open_pipe(&exec->input, false, &in) : 0;
        if (r == 0)
            r = open_pipe(&exec->output, true, &out);
        if (r == 0)
            r = open_pipe(&exec->errors, true, &err);
    } else {
        out = open("/dev/null", O_WRONLY | O_CLOEXEC);
        err = open("/dev/null", O_WRONLY | O_CLOEXEC);
    }
    if (r < 0)
        return r;
    const char *argv[] = {containers->crun,
                          "--cgroup-manager=cgroupfs",
                          "--root",
                          containers->crun_root,
                          "exec",
                          "--process",
                          exec->process_path,
                          "--pid-file",
                          exec->pid_path,
                          NULL,
                          NULL,
                          NULL,
                          NULL};
    size_t count = 9;
    if (exec->is_terminal) {
        argv[count++] = "--console-socket";
        argv[count++] = exec->console_path;
    }
    argv[count] = options->container_id;
    const struct loop_spawn_options spawn_options = {
        .argv = argv, .cwd = "/", .stdin_fd = in, .stdout_fd = out, .stderr_fd = err, .new_session = true};
    r = loop_spawn(&spawn_options, &exec->pid);
    return r < 0 ? r : loop_child_new(containers->loop, exec->pid, on_child_exit, exec, &exec->child);
}

/* The container's own process with other arguments. */
static int format_process(const struct containers *containers, const struct exec_options *options, struct buffer *out) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(4 * PROCESS_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(PROCESS_BYTES_MAX + 1);
    struct tree *root = NULL;
    char path[PATH_MAX + 16] = "";
    containers_bundle_path(containers, options->container_id, path);
    snprintf(path + strlen(path), 16, "/config.json");
    int r = arena ? sys_read_file(AT_FDCWD, path, PROCESS_BYTES_MAX, &json) : -ENOMEM;
    if (r == 0)
        r = json_parse(arena, buffer_slice(&json), &(struct json_options){.allow_duplicates = false}, &root, NULL);
    struct tree *process = tree_find(root, "process"), *args = arena ? tree_list(arena) : NULL;
    if (r == 0 && (!process || !args))
        r = -EBADMSG;
    for (size_t i = 0; r == 0 && options->args[i]; i++)
        r = tree_push(arena, args, tree_text(arena, options->args[i]));
    if (r == 0)
        r = tree_set(arena, process, SLICE("args"), args);
    if (r == 0)
        r = tree_set(arena, process, SLICE("terminal"), tree_bool(arena, options->terminal));
    return r < 0 ? r : json_format(out, process);
}

int exec_start(struct containers *containers, const struct exec_options *options, const struct exec_callbacks *callbacks, struct exec **ret) {
    CLEANUP(exec_freep) struct exec *exec = exec_new(containers, callbacks);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(PROCESS_BYTES_MAX);
    char name[24] = "e-";
    if (!exec)
        return -ENOMEM;
    sys_random_name(name + 2, 12);
    exec->is_terminal = options->terminal;
    if (asprintf(&exec->process_path, "%s/%s.json", containers->dir, name) < 0)
        return exec->process_path = NULL, -ENOMEM;
    if (asprintf(&exec->pid_path, "%s/%s.pid", containers->dir, name) < 0)
        return exec->pid_path = NULL, -ENOMEM;
    int r = format_process(containers, options, &json);
    if (r == 0)
        r = sys_write_file_fast(AT_FDCWD, exec->process_path, buffer_slice(&json), 0600);
    if (r == 0 && exec->is_terminal)
        r = listen_console(exec, name);
    if (r == 0)
        r = spawn(exec, options);
    if (r < 0)
        return r;
    *ret = TAKE(exec);
    return 0;
}

int exec_attach(struct containers *containers, const char *container_id, const struct exec_callbacks *callbacks, struct exec **ret) {
    CLEANUP(exec_freep) struct exec *exec = exec_new(containers, callbacks);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char bundle[PATH_MAX];
    if (!exec)
        return -ENOMEM;
    containers_bundle_path(containers, container_id, bundle);
    CLEANUP(fd_closep) int folder = open(bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -errno;
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/attach", folder); /* however long the path is */
    exec->is_attach = true;
    exec->output.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (exec->output.fd < 0 || connect(exec->output.fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    int r = loop_io_new(containers->loop, exec->output.fd, EPOLLIN, on_output, &exec->output, &exec->output.io);
    if (r < 0)
        return r;
    *ret = TAKE(exec);
    return 0;
}
