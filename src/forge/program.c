/* Programs with streamed input and output.
 *
 * Invariants
 * 1. on_end comes once, after end of output and after the exit: whichever is last.
 * 2. Output is read only as fast as the consumer takes it; the pipe then holds the program back.
 * 3. A callback may free the program: nothing is touched behind one without asking `freed`. */
#include "forge/program_priv.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/sys.h"

#define INPUT_BYTES_MAX (8 * MIB)
#define CHUNK_BYTES (64 * KIB)

struct program {
    struct loop *loop;
    struct program_handlers handlers;
    void *userdata;
    pid_t pid;
    struct loop_child *child;
    int input_fd, output_fd;
    struct loop_io *input_io, *output_io;
    struct buffer input;
    bool closing_input, paused, output_ended, exited;
    bool *freed; /* set by program_free while a callback runs */
    int status;
    struct loop_defer ended;
};

static void close_input(struct program *program) {
    loop_io_free(program->input_io);
    program->input_io = NULL;
    if (program->input_fd >= 0)
        close(program->input_fd);
    program->input_fd = -1;
    buffer_reset(&program->input);
    buffer_release(&program->input);
}

static void close_output(struct program *program) {
    loop_io_free(program->output_io);
    program->output_io = NULL;
    if (program->output_fd >= 0)
        close(program->output_fd);
    program->output_fd = -1;
}

static void report_end(void *userdata) {
    struct program *program = userdata;
    program->handlers.on_end(program->userdata, program->status);
}

static void check_end(struct program *program) {
    if (program->exited && program->output_ended)
        loop_defer_schedule(&program->ended);
}

static void on_exit_of(void *userdata, pid_t pid, int status) {
    (void)pid;
    struct program *program = userdata;
    program->exited = true;
    program->status = status;
    loop_child_free(program->child);
    program->child = NULL;
    check_end(program);
}

static void on_output_ready(void *userdata, uint32_t events) {
    (void)events;
    struct program *program = userdata;
    char chunk[CHUNK_BYTES];
    bool freed = false;
    ssize_t got = read(program->output_fd, chunk, sizeof chunk);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        program->output_ended = true;
        close_output(program);
        check_end(program);
        return;
    }
    program->freed = &freed;
    bool more = program->handlers.on_output(program->userdata, slice_make(chunk, (size_t)got));
    if (freed)
        return;
    program->freed = NULL;
    if (!more) {
        program->paused = true;
        loop_io_set(program->output_io, 0);
    }
}

static void on_input_ready(void *userdata, uint32_t events) {
    (void)events;
    struct program *program = userdata;
    if (program->input.len > 0) {
        ssize_t put = write(program->input_fd, program->input.data, program->input.len);
        if (put < 0 && errno != EAGAIN && errno != EINTR) {
            close_input(program); /* it does not want more */
        } else if (put > 0) {
            buffer_consume(&program->input, (size_t)put);
        }
    }
    if (program->input.len > 0)
        return;
    if (program->closing_input)
        close_input(program);
    else if (program->input_io)
        loop_io_set(program->input_io, 0);
    if (program->handlers.on_input_taken)
        program->handlers.on_input_taken(program->userdata);
}

/* The child's ends stay blocking; ours do not. */
static int open_pipes(struct program *program, bool has_input, int *ret_stdin, int *ret_stdout) {
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    if (has_input && pipe2(in, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(out, O_CLOEXEC) < 0) {
        int error = -errno;
        if (has_input) {
            close(in[0]);
            close(in[1]);
        }
        return error;
    }
    program->input_fd = in[1];
    program->output_fd = out[0];
    *ret_stdin = in[0];
    *ret_stdout = out[1];
    int error = sys_set_nonblocking(out[0], true);
    return error || !has_input ? error : sys_set_nonblocking(in[1], true);
}

static int start(struct program *program, const struct program_options *options) {
    CLEANUP(fd_closep) int child_in = -1;
    CLEANUP(fd_closep) int child_out = -1;
    int error = open_pipes(program, options->has_input, &child_in, &child_out);
    if (error)
        return error;
    const struct loop_spawn_options spawn = {
        .argv = options->argv, .envp = options->envp, .stdin_fd = child_in, .stdout_fd = child_out, .stderr_fd = -1, .die_with_parent = true};
    if ((error = loop_spawn(&spawn, &program->pid)))
        return error;
    error = loop_child_new(program->loop, program->pid, on_exit_of, program, &program->child);
    if (!error)
        error = loop_io_new(program->loop, program->output_fd, EPOLLIN, on_output_ready, program, &program->output_io);
    if (!error && options->has_input)
        error = loop_io_new(program->loop, program->input_fd, 0, on_input_ready, program, &program->input_io);
    return error;
}

int program_start(struct loop *loop, const struct program_options *options, const struct program_handlers *handlers, void *userdata,
                  struct program **ret) {
    struct program *program = calloc(1, sizeof *program);
    if (!program)
        return -ENOMEM;
    *program = (struct program){
        .loop = loop, .handlers = *handlers, .userdata = userdata, .input_fd = -1, .output_fd = -1, .input = BUFFER_INIT(INPUT_BYTES_MAX)};
    loop_defer_init(&program->ended, loop, report_end, program);
    int error = start(program, options);
    if (error) {
        program_free(program);
        return error;
    }
    *ret = program;
    return 0;
}

int program_write(struct program *program, struct slice bytes) {
    if (program->input_fd < 0 || program->closing_input)
        return 0;
    int error = buffer_append_slice(&program->input, bytes);
    if (!error)
        error = loop_io_set(program->input_io, EPOLLOUT);
    return error;
}

size_t program_input_pending(const struct program *program) {
    return program->input.len;
}

void program_close_input(struct program *program) {
    program->closing_input = true;
    if (program->input_fd >= 0 && program->input.len == 0)
        close_input(program);
}

void program_resume(struct program *program) {
    if (!program->paused)
        return;
    program->paused = false;
    if (program->output_io)
        loop_io_set(program->output_io, EPOLLIN);
}

void program_free(struct program *program) {
    if (!program)
        return;
    if (program->freed)
        *program->freed = true;
    loop_defer_cancel(&program->ended);
    close_input(program);
    close_output(program);
    loop_child_free(program->child);
    if (program->pid > 0 && !program->exited) {
        kill(program->pid, SIGKILL);
        waitpid(program->pid, NULL, 0); /* at once: it was killed */
    }
    free(program);
}
