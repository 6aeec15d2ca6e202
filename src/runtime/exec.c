/* A command's streams upon enter.h, and conmon's attach socket.
 *
 * Pipes: what the node made is inherited by the command; one without input reads from a pipe that has ended, never from a file of the host. Terminal:
 * it is made inside the container and its master sent to us, so the host's terminals are not involved. The command's end is the end of the session,
 * after what is left in the pipes was read (a background child that keeps them open does not delay it).
 *
 * Attach: SOCK_SEQPACKET, each packet starts with the stream's number (2: stdout, 3: stderr); what is written is the container's input. */
#include "runtime/exec.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#include "runtime/enter.h"
#include "sys/sys.h"

#define READ_BYTES (32 * KIB)
#define FINAL_READS_MAX 64 /* of a stream after the command's end: a pipe holds 64 KiB, and a background child may write for ever */

struct pipe_end {
    struct exec *exec;
    int fd;
    struct loop_io *io;
    int stream, final_reads;
};

struct exec {
    struct containers *containers;
    struct exec_callbacks callbacks;
    struct pipe_end input, output, errors; /* a terminal or attach socket is `output`, and input goes there too */
    bool is_terminal, is_attach, paused, close_input, has_exited;
    struct enter *enter; /* NULL: it has ended */
    int code, error;
    char *message;
    struct buffer pending;
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

void exec_free(struct exec *exec) {
    if (!exec)
        return;
    enter_release(exec->enter);
    loop_defer_cancel(&exec->finish);
    close_end(&exec->input);
    close_end(&exec->output);
    close_end(&exec->errors);
    buffer_deinit(&exec->pending);
    free(exec->message);
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
    if (input_fd(exec) < 0 && !(exec->is_terminal && exec->enter)) /* its terminal is still to come */
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

static void on_terminal(void *userdata, int fd) {
    struct exec *exec = userdata;
    exec->output.fd = fd;
    sys_set_nonblocking(fd, true);
    if (loop_io_new(exec->containers->loop, fd, EPOLLIN, on_output, &exec->output, &exec->output.io) < 0)
        return close_end(&exec->output);
    apply_size(exec);
    flush_input(exec);
}

/* --- the end --- */

static void on_finish(void *userdata) {
    struct exec *exec = userdata;
    struct pipe_end *const ends[] = {&exec->output, &exec->errors};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        while (ends[i]->fd >= 0 && !exec->paused && !exec->is_attach && ends[i]->final_reads++ < FINAL_READS_MAX && read_output(ends[i]))
            ;
    if (exec->paused)
        return; /* exec_pause(false) comes back */
    exec->callbacks.on_exit(exec->callbacks.userdata, exec->code, exec->error, exec->message ? exec->message : "");
}

static void on_end(void *userdata, bool ran, int status, int code, const char *message) {
    struct exec *exec = userdata;
    exec->enter = NULL;
    exec->has_exited = true;
    exec->code = !ran ? code : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    exec->error = ran ? 0 : code == 127 ? -ENOENT : -ENOEXEC;
    exec->message = strdup(message);
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

static int start(struct exec *exec, const struct exec_options *options) {
    CLEANUP(fd_closep) int in = -1;
    CLEANUP(fd_closep) int out = -1;
    CLEANUP(fd_closep) int err = -1;
    int r = 0;
    if (!exec->is_terminal) {
        r = open_pipe(&exec->input, false, &in);
        if (r == 0)
            r = open_pipe(&exec->output, true, &out);
        if (r == 0)
            r = open_pipe(&exec->errors, true, &err);
        if (r == 0 && !options->open_stdin)
            close_end(&exec->input);
    }
    const struct enter_options enter_options = {.container_id = options->container_id,
                                                .args = options->args,
                                                .terminal = options->terminal,
                                                .stdin_fd = in,
                                                .stdout_fd = out,
                                                .stderr_fd = err};
    const struct enter_callbacks callbacks = {.on_terminal = on_terminal, .on_end = on_end, .userdata = exec};
    return r < 0 ? r : enter_start(exec->containers, &enter_options, &callbacks, &exec->enter);
}

int exec_start(struct containers *containers, const struct exec_options *options, const struct exec_callbacks *callbacks, struct exec **ret) {
    CLEANUP(exec_freep) struct exec *exec = exec_new(containers, callbacks);
    if (!exec)
        return -ENOMEM;
    exec->is_terminal = options->terminal;
    int r = start(exec, options);
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
