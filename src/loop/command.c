/* A short program run to its end: input through a pipe, output collected with a maximum (the rest is read and dropped, so that the program does not
 * block), a time limit.
 *
 * It is over when the process itself has ended: what is in the pipes then is read, and a grandchild that keeps them open is not waited for. on_done
 * runs from a deferred call in all cases, also when the program could not be started, so that there is one path for the caller. */
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "loop/loop_priv.h"
#include "sys/sys.h"

struct collector {
    struct loop_io *io;
    int fd;
    int error; /* what came is not whole */
    struct buffer bytes;
};

struct loop_command {
    struct loop *loop;
    loop_command_fn *on_done;
    void *userdata;
    pid_t pid; /* 0: not running */
    int status;
    bool finishing;
    bool new_session;
    struct loop_child *child;
    struct loop_timer timer;
    struct loop_defer defer;
    struct collector out, err;
    struct buffer input;
    int input_fd;
    int input_error;
    struct loop_io *input_io;
};

static void collector_close(struct collector *collector) {
    loop_io_free(TAKE(collector->io));
    fd_closep(&collector->fd);
    collector->fd = -1;
}

static void input_close(struct loop_command *command) {
    loop_io_free(TAKE(command->input_io));
    fd_closep(&command->input_fd);
    command->input_fd = -1;
    buffer_deinit(&command->input);
}

static void command_free(struct loop_command *command) {
    loop_timer_cancel(&command->timer);
    loop_defer_cancel(&command->defer);
    loop_child_free(command->child);
    input_close(command);
    collector_close(&command->out);
    collector_close(&command->err);
    buffer_deinit(&command->out.bytes);
    buffer_deinit(&command->err.bytes);
    free(command);
}

/* Reads what is there. */
static void collector_read(struct collector *collector) {
    char bytes[16384];
    while (collector->fd >= 0) {
        ssize_t n = read(collector->fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            collector->error = n < 0 ? -errno : collector->error;
            collector_close(collector);
            return;
        }
        struct buffer *buffer = &collector->bytes;
        if (!buffer_error(buffer) && buffer_append(buffer, bytes, MIN((size_t)n, buffer->bytes_max - buffer->len)) < 0)
            collector->error = buffer_error(buffer);
    }
}

static void on_output(void *userdata, uint32_t events) {
    (void)events;
    collector_read(userdata);
}

static void on_input_ready(void *userdata, uint32_t events) {
    struct loop_command *command = userdata;
    ssize_t n = write(command->input_fd, command->input.data, command->input.len);
    if (n > 0)
        buffer_consume(&command->input, (size_t)n);
    bool broken = n < 0 && errno != EAGAIN && errno != EINTR;
    if (broken && errno != EPIPE) /* a program may leave its input unread */
        command->input_error = -errno;
    if (broken || command->input.len == 0 || (events & EPOLLERR))
        input_close(command);
}

static void kill_program(struct loop_command *command) {
    if (command->pid > 0)
        kill(command->new_session ? -command->pid : command->pid, SIGKILL);
}

static void on_timeout(void *userdata) {
    struct loop_command *command = userdata;
    command->status = -ETIMEDOUT;
    kill_program(command); /* its end is reported as usual */
}

static void on_finished(void *userdata) {
    struct loop_command *command = userdata;
    command->finishing = true;
    const int errors[] = {command->input_error, command->out.error, command->err.error};
    for (size_t i = 0; i < ARRAY_LEN(errors) && command->status == 0; i++)
        command->status = errors[i];
    command->on_done(command->userdata, command->status, buffer_slice(&command->out.bytes), buffer_slice(&command->err.bytes));
    command_free(command);
}

static void on_program_exit(void *userdata, pid_t pid, int status) {
    (void)pid;
    struct loop_command *command = userdata;
    command->pid = 0;
    if (command->status != -ETIMEDOUT)
        command->status = status;
    collector_read(&command->out);
    collector_read(&command->err);
    loop_timer_cancel(&command->timer);
    loop_defer_schedule(&command->defer);
}

struct pipes {
    int in[2], out[2], err[2];
};

static void pipes_close(struct pipes *pipes) {
    int *fds[] = {pipes->in, pipes->out, pipes->err};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fd_closep(&fds[i][0]);
        fd_closep(&fds[i][1]);
    }
}

/* The parent's ends are taken by the command and do not block. */
static int pipes_open(struct loop_command *command, bool input, struct pipes *pipes) {
    *pipes = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}};
    if ((input && pipe2(pipes->in, O_CLOEXEC) < 0) || pipe2(pipes->out, O_CLOEXEC) < 0 || pipe2(pipes->err, O_CLOEXEC) < 0)
        return -errno;
    command->input_fd = TAKE_FD(pipes->in[1]);
    command->out.fd = TAKE_FD(pipes->out[0]);
    command->err.fd = TAKE_FD(pipes->err[0]);
    int r = input ? sys_set_nonblocking(command->input_fd, true) : 0;
    if (r == 0)
        r = sys_set_nonblocking(command->out.fd, true);
    return r < 0 ? r : sys_set_nonblocking(command->err.fd, true);
}

static int command_watch(struct loop_command *command, int64_t timeout_ms) {
    int r = loop_io_new(command->loop, command->out.fd, EPOLLIN, on_output, &command->out, &command->out.io);
    if (r == 0)
        r = loop_io_new(command->loop, command->err.fd, EPOLLIN, on_output, &command->err, &command->err.io);
    if (r == 0 && command->input_fd >= 0)
        r = loop_io_new(command->loop, command->input_fd, EPOLLOUT, on_input_ready, command, &command->input_io);
    if (r == 0 && timeout_ms > 0)
        r = loop_timer_set(&command->timer, timeout_ms);
    return r;
}

/* Starts the program. That it could not be started is no failure here, but told to on_done. */
static int command_start(struct loop_command *command, const struct loop_command_options *options) {
    struct pipes pipes;
    int r = pipes_open(command, options->input.len > 0, &pipes);
    if (r == 0)
        r = command_watch(command, options->timeout_ms);
    if (r == 0) {
        struct loop_spawn_options spawn = options->spawn;
        spawn.stdin_fd = pipes.in[0];
        spawn.stdout_fd = pipes.out[1];
        spawn.stderr_fd = pipes.err[1];
        command->new_session = spawn.new_session;
        command->status = loop_spawn(&spawn, &command->pid);
        if (command->status < 0)
            loop_defer_schedule(&command->defer);
    }
    pipes_close(&pipes);
    if (r == 0 && command->pid > 0)
        r = loop_child_new(command->loop, command->pid, on_program_exit, command, &command->child);
    return r;
}

int loop_command_run(struct loop *loop, const struct loop_command_options *options, loop_command_fn *on_done, void *userdata,
                     struct loop_command **ret) {
    struct loop_command *command = calloc(1, sizeof *command);
    if (!command)
        return -ENOMEM;
    *command = (struct loop_command){.loop = loop, .on_done = on_done, .userdata = userdata, .input_fd = -1, .out.fd = -1, .err.fd = -1};
    loop_timer_init(&command->timer, loop, on_timeout, command);
    loop_defer_init(&command->defer, loop, on_finished, command);
    buffer_init(&command->out.bytes, options->output_max);
    buffer_init(&command->err.bytes, options->output_max);
    buffer_init(&command->input, options->input.len);
    int r = buffer_append_slice(&command->input, options->input);
    if (r == 0)
        r = command_start(command, options);
    if (r < 0) {
        loop_command_cancel(command);
        return r;
    }
    if (ret)
        *ret = command;
    return 0;
}

void loop_command_cancel(struct loop_command *command) {
    if (!command || command->finishing)
        return;
    kill_program(command);
    if (command->pid > 0)
        waitpid(command->pid, NULL, 0); /* SIGKILL: it is gone in a moment, and no zombie stays */
    command_free(command);
}
