#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop/loop.h"

#include "faults.h"
#include "unit.h"

struct seen {
    int expired, ready, worked, deferred, exited, status;
};

static void on_expire(void *userdata) {
    ((struct seen *)userdata)->expired++;
}
static void on_ready(void *userdata, uint32_t events) {
    (void)events;
    ((struct seen *)userdata)->ready++;
}
static void work(void *userdata) {
    ((struct seen *)userdata)->worked++;
}
static void work_done(void *userdata) {
    ((struct seen *)userdata)->worked++;
}

static int turn_until(struct loop *loop, const int *number, int wanted) {
    int r = 0;
    while (r == 0 && *number < wanted)
        r = loop_turn(loop, 1000);
    return r;
}

/* A failure of the loop itself ends its role, so every error may show; what was accepted is carried out or ends with the loop. */
static int sources(__attribute__((unused)) void *context) {
    struct seen seen = {0};
    struct loop *loop = NULL;
    struct loop_timer timer;
    struct loop_io *io = NULL;
    int fds[2] = {-1, -1};
    int r = loop_new(&loop);
    if (r < 0)
        return r;
    loop_timer_init(&timer, loop, on_expire, &seen);
    faults_pause();
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    faults_resume();
    r = loop_timer_set(&timer, 1);
    if (r == 0)
        r = turn_until(loop, &seen.expired, 1);
    if (r == 0)
        r = loop_io_new(loop, fds[0], EPOLLIN, on_ready, &seen, &io);
    if (r == 0)
        r = turn_until(loop, &seen.ready, 1);
    if (r == 0)
        r = loop_io_set(io, 0);
    bool accepted = false;
    if (r == 0) {
        r = loop_work(loop, LOOP_QUICK, work, work_done, &seen);
        accepted = r == 0;
    }
    if (accepted)
        r = turn_until(loop, &seen.worked, 2);
    loop_io_free(io);
    loop_timer_cancel(&timer);
    loop_free(loop);
    if (accepted)
        assert_int_equal(seen.worked, 2);
    close(fds[0]);
    close(fds[1]);
    return r;
}

UNIT_TEST(sources_come_or_say_why_not) {
    TEST_FAULTS(sources, NULL);
}

static void on_command(void *userdata, int status, struct slice out, struct slice err) {
    struct seen *seen = userdata;
    (void)err;
    seen->exited++;
    seen->status = status;
    if (status == 0)
        assert_true(slice_is(out, "hello"));
}

static int command(__attribute__((unused)) void *context) {
    struct seen seen = {0};
    struct loop *loop = NULL;
    faults_pause();
    assert_int_equal(loop_new(&loop), 0);
    faults_resume();
    struct loop_command_options options = {
        .spawn = {.argv = (const char *const[]){"cat", NULL}}, .input = SLICE("hello"), .output_max = KIB, .timeout_ms = 10000};
    int r = loop_command_run(loop, &options, on_command, &seen, NULL);
    if (r == 0) {
        r = turn_until(loop, &seen.exited, 1);
        assert_int_equal(r, 0);
        r = seen.status;
    }
    loop_free(loop);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left behind */
    return r;
}

UNIT_TEST(commands_end_in_one_callback) {
    TEST_FAULTS_ANY(command, NULL);
}

static int signals(__attribute__((unused)) void *context) {
    struct loop *loop = NULL;
    struct loop_signal *source = NULL;
    int r = loop_new(&loop);
    if (r == 0)
        r = loop_signal_new(loop, (const int[]){SIGUSR1, 0}, NULL, NULL, &source);
    loop_signal_free(source);
    loop_free(loop);
    return r;
}

UNIT_TEST(signals_and_children) {
    TEST_FAULTS(signals, NULL);
}

UNIT_MAIN(UNIT(sources_come_or_say_why_not), UNIT(commands_end_in_one_callback), UNIT(signals_and_children))
