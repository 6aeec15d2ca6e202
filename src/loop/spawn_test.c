#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "loop/loop.h"
#include "sys/sys.h"

#include "unit.h"

static struct loop *new_loop(void) {
    struct loop *loop = NULL;
    assert_int_equal(loop_new(&loop), 0);
    return loop;
}

static struct loop_spawn_options plain(const char *const *argv) {
    return (struct loop_spawn_options){.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
}

struct ended {
    struct loop *loop;
    struct loop_child *child;
    pid_t pid;
    int status;
};
static void on_end(void *userdata, pid_t pid, int status) {
    struct ended *ended = userdata;
    ended->pid = pid;
    ended->status = status;
    loop_child_free(TAKE(ended->child));
    loop_stop(ended->loop);
}

static int spawn_and_wait(const struct loop_spawn_options *options) {
    struct ended ended = {.loop = new_loop()};
    pid_t pid;
    assert_int_equal(loop_spawn(options, &pid), 0);
    assert_int_equal(loop_child_new(ended.loop, pid, on_end, &ended, &ended.child), 0);
    assert_int_equal(loop_run(ended.loop), 0);
    assert_int_equal(ended.pid, pid);
    assert_int_equal(kill(pid, 0), -1); /* reaped */
    loop_free(ended.loop);
    return ended.status;
}

UNIT_TEST(a_child_reports_how_it_ended) {
    struct loop_spawn_options options = plain((const char *const[]){"sh", "-c", "exit 7", NULL});
    int status = spawn_and_wait(&options);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    options.argv = (const char *const[]){"/bin/sh", "-c", "kill -TERM $$", NULL};
    status = spawn_and_wait(&options);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
}

/* Whoever traces it is told of its end first, and may keep it for long: we hear when it is let go. */
UNIT_TEST(a_child_that_is_traced_ends_when_the_tracer_lets_go) {
    struct ended ended = {.loop = new_loop()};
    int ready[2], go[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    pid_t tracer = fork();
    if (tracer == 0) {
        bool seized = ptrace(PTRACE_SEIZE, child, NULL, NULL) == 0 && kill(child, SIGKILL) == 0;
        _exit(seized && write(ready[1], &byte, 1) == 1 && read(go[0], &byte, 1) == 1 ? 0 : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(loop_child_new(ended.loop, child, on_end, &ended, &ended.child), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(loop_turn(ended.loop, 20), 0);
    assert_int_equal(ended.pid, 0);
    assert_int_equal(write(go[1], &byte, 1), 1);
    assert_int_equal(loop_run(ended.loop), 0);
    assert_int_equal(ended.pid, child);
    assert_int_equal(WTERMSIG(ended.status), SIGKILL);
    int status;
    assert_int_equal(waitpid(tracer, &status, 0), tracer);
    assert_int_equal(status, 0);
    loop_free(ended.loop);
    for (int i = 0; i < 2; i++)
        close(ready[i]), close(go[i]);
}

UNIT_TEST(what_cannot_start_is_an_errno) {
    pid_t pid;
    struct loop_spawn_options options = plain((const char *const[]){"no-such-program-anywhere", NULL});
    assert_int_equal(loop_spawn(&options, &pid), -ENOENT);
    options.argv = (const char *const[]){"/no/such/program", NULL};
    assert_int_equal(loop_spawn(&options, &pid), -ENOENT);
    options.argv = (const char *const[]){"/etc/passwd", NULL};
    assert_int_equal(loop_spawn(&options, &pid), -EACCES);
    options.argv = (const char *const[]){"true", NULL};
    options.cwd = "/no/such/folder";
    assert_int_equal(loop_spawn(&options, &pid), -ENOENT);
    options.cwd = NULL;
    options.pass_fds = (const int[]){987, -1};
    assert_int_equal(loop_spawn(&options, &pid), -EBADF);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static int64_t score_of_child(int oom_score_adj) {
    char path[] = "/tmp/spawn-score-XXXXXX";
    struct buffer text = BUFFER_INIT(64);
    int64_t score = INT64_MIN;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    struct loop_spawn_options options = plain((const char *const[]){"cat", "/proc/self/oom_score_adj", NULL});
    options.stdout_fd = fd;
    options.oom_score_adj = oom_score_adj;
    assert_int_equal(spawn_and_wait(&options), 0);
    close(fd);
    assert_int_equal(sys_read_file(AT_FDCWD, path, 63, &text), 0);
    assert_int_equal(slice_parse_i64(slice_trim(buffer_slice(&text)), &score), 0);
    buffer_deinit(&text);
    unlink(path);
    return score;
}

UNIT_TEST(protection_from_the_kernel_is_not_inherited) {
    assert_int_equal(score_of_child(700), 700); /* to give oneself up needs no rights */
    if (sys_write_existing(AT_FDCWD, "/proc/self/oom_score_adj", SLICE("-500")) < 0)
        return; /* without rights nobody is protected, and nothing inherited */
    assert_int_equal(score_of_child(0), 0);
    assert_int_equal(score_of_child(-400), -400);
    assert_int_equal(sys_write_existing(AT_FDCWD, "/proc/self/oom_score_adj", SLICE("0")), 0);
}

/* --- commands --- */

struct result {
    struct loop *loop;
    int status;
    char out[4096], err[4096];
};
static void on_done(void *userdata, int status, struct slice out, struct slice err) {
    struct result *result = userdata;
    result->status = status;
    snprintf(result->out, sizeof result->out, "%.*s", SLICE_ARG(out));
    snprintf(result->err, sizeof result->err, "%.*s", SLICE_ARG(err));
    loop_stop(result->loop);
}

static struct result run(const struct loop_command_options *options) {
    struct result result = {.loop = new_loop()};
    assert_int_equal(loop_command_run(result.loop, options, on_done, &result, NULL), 0);
    assert_int_equal(loop_run(result.loop), 0);
    loop_free(result.loop);
    return result;
}

UNIT_TEST(a_command_gets_input_and_gives_output) {
    char big[200000];
    memset(big, 'x', sizeof big);
    struct loop_command_options options = {.spawn = plain((const char *const[]){"sh", "-c", "wc -c; echo oops >&2; exit 3", NULL}),
                                           .input = slice_make(big, sizeof big),
                                           .output_max = 1000};
    struct result result = run(&options);
    assert_int_equal(WEXITSTATUS(result.status), 3);
    assert_string_equal(result.out, "200000\n");
    assert_string_equal(result.err, "oops\n");
}

UNIT_TEST(output_beyond_the_maximum_is_dropped_and_unread_input_is_no_error) {
    char big[300000];
    memset(big, 'x', sizeof big);
    struct loop_command_options options = {.spawn = plain((const char *const[]){"sh", "-c", "head -c 500000 /dev/zero | tr '\\0' y", NULL}),
                                           .input = slice_make(big, sizeof big),
                                           .output_max = 10};
    struct result result = run(&options);
    assert_int_equal(result.status, 0);
    assert_string_equal(result.out, "yyyyyyyyyy");
}

UNIT_TEST(a_command_that_takes_too_long_is_killed) {
    struct loop_command_options options = {.spawn = plain((const char *const[]){"sleep", "1000", NULL}), .output_max = 10, .timeout_ms = 10};
    assert_int_equal(run(&options).status, -ETIMEDOUT);
    options.spawn.argv = (const char *const[]){"sh", "-c", "sleep 1000; true", NULL};
    options.spawn.new_session = true;
    assert_int_equal(run(&options).status, -ETIMEDOUT);
}

UNIT_TEST(a_command_that_cannot_start_says_so_later) {
    struct loop_command_options options = {.spawn = plain((const char *const[]){"/no/such", NULL}), .output_max = 10};
    assert_int_equal(run(&options).status, -ENOENT);
}

UNIT_TEST(a_cancelled_command_is_gone) {
    struct loop *loop = new_loop();
    struct result result = {.loop = loop, .status = 99};
    struct loop_command *command = NULL;
    struct loop_command_options options = {.spawn = plain((const char *const[]){"sleep", "1000", NULL}), .output_max = 10};
    assert_int_equal(loop_command_run(loop, &options, on_done, &result, &command), 0);
    loop_command_cancel(command);
    assert_int_equal(loop_turn(loop, 0), 0);
    assert_int_equal(result.status, 99);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    loop_free(loop);
}

UNIT_TEST(only_named_descriptors_reach_the_child) {
    CLEANUP(fd_closep) int secret = dup2(0, 50); /* not even close-on-exec */
    CLEANUP(fd_closep) int passed = fcntl(0, F_DUPFD_CLOEXEC, 60);
    struct loop_command_options options = {.spawn = plain((const char *const[]){"ls", "/proc/self/fd", NULL}), .output_max = 1000};
    options.spawn.pass_fds = (const int[]){passed, -1};
    struct result result = run(&options);
    char line[16];
    snprintf(line, sizeof line, "\n%d\n", passed);
    assert_non_null(strstr(result.out, line));
    snprintf(line, sizeof line, "\n%d\n", secret);
    assert_null(strstr(result.out, line));
}

UNIT_TEST(dropped_privileges_are_gone) {
    if (getuid() != 0)
        skip();
    struct loop_command_options options = {
        .spawn = plain((const char *const[]){
            "sh", "-c", "id -u; id -g; id -G; grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|SigIgn|SigBlk)' /proc/self/status; pwd", NULL}),
        .output_max = 2000};
    options.spawn.drop_privileges = true;
    options.spawn.die_with_parent = true;
    options.spawn.uid = 65534;
    options.spawn.gid = 65533;
    options.spawn.cwd = "/";
    options.spawn.envp = (const char *const[]){"PATH=/usr/bin:/bin", NULL};
    struct result result = run(&options);
    assert_string_equal(
        result.out,
        "65534\n65533\n65533\n"
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
        "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n"
        "NoNewPrivs:\t1\n/\n");
}

UNIT_MAIN(UNIT(a_child_reports_how_it_ended), UNIT(a_child_that_is_traced_ends_when_the_tracer_lets_go), UNIT(what_cannot_start_is_an_errno),
          UNIT(protection_from_the_kernel_is_not_inherited), UNIT(a_command_gets_input_and_gives_output),
          UNIT(output_beyond_the_maximum_is_dropped_and_unread_input_is_no_error), UNIT(a_command_that_takes_too_long_is_killed),
          UNIT(a_command_that_cannot_start_says_so_later), UNIT(a_cancelled_command_is_gone), UNIT(only_named_descriptors_reach_the_child),
          UNIT(dropped_privileges_are_gone))
