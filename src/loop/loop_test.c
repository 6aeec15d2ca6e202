#include <pthread.h>
#include <stdatomic.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "loop/loop.h"
#include "sys/sys.h"

#include "unit.h"

static struct loop *new_loop(void) {
    struct loop *loop = NULL;
    assert_int_equal(loop_new(&loop), 0);
    return loop;
}

/* --- timers --- */

struct tick {
    struct loop_timer timer;
    struct order *order;
    int number;
};
struct order {
    struct loop *loop;
    int seen[16];
    int count, stop_at;
};

static void on_tick(void *userdata) {
    struct tick *tick = userdata;
    tick->order->seen[tick->order->count++] = tick->number;
    if (tick->order->count == tick->order->stop_at)
        loop_stop(tick->order->loop);
}

UNIT_TEST(timers_run_in_order_of_time) {
    struct loop *loop = new_loop();
    struct order order = {.loop = loop, .stop_at = 4};
    static const int delays[] = {30, 10, 20, 5, 15};
    struct tick ticks[5];
    for (int i = 0; i < 5; i++) {
        ticks[i] = (struct tick){.order = &order, .number = delays[i]};
        loop_timer_init(&ticks[i].timer, loop, on_tick, &ticks[i]);
        assert_int_equal(loop_timer_set(&ticks[i].timer, 1000), 0);
        assert_int_equal(loop_timer_set(&ticks[i].timer, delays[i]), 0);
    }
    loop_timer_cancel(&ticks[4].timer);
    loop_timer_cancel(&ticks[4].timer);
    assert_false(loop_timer_is_set(&ticks[4].timer));
    int64_t before = loop_now_ns(loop);
    assert_int_equal(loop_run(loop), 0);
    assert_true(loop_now_ns(loop) - before >= 30 * 1000000LL - 1000000);
    static const int wanted[] = {5, 10, 20, 30};
    assert_memory_equal(order.seen, wanted, sizeof wanted);
    loop_free(loop);
}

struct again {
    struct loop_timer timer;
    int count;
};
static void on_again(void *userdata) {
    struct again *again = userdata;
    again->count++;
    assert_int_equal(loop_timer_set(&again->timer, 0), 0);
}

UNIT_TEST(a_timer_that_sets_itself_lets_the_turn_end) {
    struct loop *loop = new_loop();
    struct again again = {.count = 0};
    loop_timer_init(&again.timer, loop, on_again, &again);
    assert_int_equal(loop_timer_set(&again.timer, 0), 0);
    while (again.count < 3) {
        int before = again.count;
        assert_int_equal(loop_turn(loop, -1), 0);
        assert_true(again.count <= before + 1);
    }
    loop_timer_cancel(&again.timer);
    loop_free(loop);
}

/* --- deferred calls --- */

struct deferred {
    struct loop_defer defer;
    int *log, *at, number;
    bool reschedule;
    struct deferred *cancels;
};
static void on_deferred(void *userdata) {
    struct deferred *deferred = userdata;
    deferred->log[(*deferred->at)++] = deferred->number;
    if (deferred->cancels)
        loop_defer_cancel(&deferred->cancels->defer);
    if (deferred->reschedule)
        loop_defer_schedule(&deferred->defer);
}

UNIT_TEST(deferred_calls_run_once_at_the_end_of_the_turn) {
    struct loop *loop = new_loop();
    int log[8] = {0}, at = 0;
    struct deferred calls[3];
    for (int i = 0; i < 3; i++) {
        calls[i] = (struct deferred){.log = log, .at = &at, .number = i + 1};
        loop_defer_init(&calls[i].defer, loop, on_deferred, &calls[i]);
    }
    calls[0].reschedule = true;
    calls[0].cancels = &calls[1];
    for (int i = 0; i < 3; i++) {
        loop_defer_schedule(&calls[i].defer);
        loop_defer_schedule(&calls[i].defer);
    }
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal(at, 2);
    assert_int_equal(log[0], 1);
    assert_int_equal(log[1], 3);
    calls[0].reschedule = false;
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal(at, 3);
    loop_free(loop);
}

/* --- descriptors --- */

struct pair {
    struct loop_io *io, *other;
    struct pair *peer;
    int calls;
};
static void on_free_both(void *userdata, uint32_t events) {
    (void)events;
    struct pair *pair = userdata;
    pair->calls++;
    loop_io_free(TAKE(pair->peer->io));
    loop_io_free(TAKE(pair->io));
}

UNIT_TEST(a_source_freed_in_a_callback_stays_silent) {
    struct loop *loop = new_loop();
    struct pair pairs[2] = {{0}};
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = eventfd(1, EFD_CLOEXEC);
        pairs[i].peer = &pairs[1 - i];
        assert_int_equal(loop_io_new(loop, fds[i], EPOLLIN, on_free_both, &pairs[i], &pairs[i].io), 0);
    }
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal(pairs[0].calls + pairs[1].calls, 1);
    assert_int_equal(loop_turn(loop, 0), 0);
    close(fds[0]);
    close(fds[1]);
    loop_free(loop);
}

static void on_count(void *userdata, uint32_t events) {
    (void)events;
    ++*(int *)userdata;
}

UNIT_TEST(a_source_without_interest_is_deaf) {
    struct loop *loop = new_loop();
    int count = 0, fds[2];
    struct loop_io *io;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(loop_io_new(loop, fds[0], EPOLLIN, on_count, &count, &io), 0);
    close(fds[1]);
    assert_int_equal(loop_io_set(io, 0), 0);
    assert_int_equal(loop_turn(loop, 0), 0);
    assert_int_equal(count, 0);
    assert_int_equal(loop_io_set(io, EPOLLIN), 0);
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal(count, 1);
    loop_io_free(io);
    struct loop_io *bad = NULL;
    assert_int_equal(loop_io_new(loop, -1, EPOLLIN, on_count, &count, &bad), -EBADF);
    close(fds[0]);
    loop_free(loop);
}

/* --- signals --- */

struct heard {
    struct loop *loop;
    struct loop_signal *source;
    int signal;
};
static void on_signal(void *userdata, int signal) {
    struct heard *heard = userdata;
    heard->signal = signal;
    loop_signal_free(TAKE(heard->source));
    loop_stop(heard->loop);
}

UNIT_TEST(signals_become_events) {
    struct loop *loop = new_loop();
    struct heard heard = {.loop = loop};
    assert_int_equal(loop_signal_new(loop, (const int[]){SIGUSR1, SIGUSR2, 0}, on_signal, &heard, &heard.source), 0);
    kill(getpid(), SIGUSR2);
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(heard.signal, SIGUSR2);
    loop_free(loop);
}

/* --- worker threads --- */

struct job {
    struct loop *loop;
    pthread_t worker;
    int *left;
    int result;
};
static void job_work(void *userdata) {
    struct job *job = userdata;
    job->worker = pthread_self();
    job->result++;
}
static void job_done(void *userdata) {
    struct job *job = userdata;
    assert_false(pthread_equal(job->worker, pthread_self()));
    job->result += 10;
    if (--*job->left == 0)
        loop_stop(job->loop);
}

UNIT_TEST(work_runs_elsewhere_and_is_done_here) {
    struct loop *loop = new_loop();
    struct job jobs[100];
    int left = ARRAY_LEN(jobs);
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        jobs[i] = (struct job){.loop = loop, .left = &left};
        assert_int_equal(loop_work(loop, LOOP_QUICK, job_work, job_done, &jobs[i]), 0);
    }
    assert_int_equal(loop_run(loop), 0);
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++)
        assert_int_equal(jobs[i].result, 11);
    loop_free(loop);
}

/* Jobs that take as long as the test wants. */
struct long_job {
    atomic_bool *may_end;
    atomic_int *running;
    int *left;
};
static void long_work(void *userdata) {
    struct long_job *job = userdata;
    atomic_fetch_add(job->running, 1);
    while (!atomic_load(job->may_end))
        usleep(1000);
}
static void long_done(void *userdata) {
    --*((struct long_job *)userdata)->left;
}
static void on_too_late(void *userdata) {
    loop_stop(userdata);
}

UNIT_TEST(long_work_leaves_the_threads_of_other_lanes_alone) {
    static const enum loop_lane lanes[] = {LOOP_NAMES, LOOP_BULK, LOOP_MEASURE, LOOP_SWEEP};
    struct loop *loop = new_loop();
    struct long_job long_jobs[ARRAY_LEN(lanes)][10];
    atomic_bool may_end = false;
    atomic_int running = 0;
    int long_left = (int)ARRAY_LEN(lanes) * 10, left = 1;
    struct loop_timer deadline;
    for (size_t i = 0; i < ARRAY_LEN(lanes); i++) /* more than any lane has threads */
        for (size_t k = 0; k < ARRAY_LEN(long_jobs[i]); k++) {
            long_jobs[i][k] = (struct long_job){.may_end = &may_end, .running = &running, .left = &long_left};
            assert_int_equal(loop_work(loop, lanes[i], long_work, long_done, &long_jobs[i][k]), 0);
        }
    struct job job = {.loop = loop, .left = &left};
    loop_timer_init(&deadline, loop, on_too_late, loop);
    assert_int_equal(loop_timer_set(&deadline, 30000), 0);
    assert_int_equal(loop_work(loop, LOOP_QUICK, job_work, job_done, &job), 0);
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(job.result, 11);
    assert_int_equal(long_left, (int)ARRAY_LEN(lanes) * 10);
    assert_true(atomic_load(&running) <= 12); /* no thread per job */
    atomic_store(&may_end, true);
    loop_timer_cancel(&deadline);
    loop_free(loop);
    assert_int_equal(long_left, 0);
}

UNIT_TEST(a_full_lane_refuses_and_others_take) {
    struct loop *loop = new_loop();
    struct long_job long_job;
    atomic_bool may_end = false;
    atomic_int running = 0;
    int long_left = LOOP_LANE_ITEMS_MAX, left = 1;
    long_job = (struct long_job){.may_end = &may_end, .running = &running, .left = &long_left};
    for (int i = 0; i < LOOP_LANE_ITEMS_MAX; i++)
        assert_int_equal(loop_work(loop, LOOP_SWEEP, long_work, long_done, &long_job), 0);
    assert_int_equal(loop_work(loop, LOOP_SWEEP, long_work, long_done, &long_job), -ENOBUFS);
    struct job job = {.loop = loop, .left = &left};
    assert_int_equal(loop_work(loop, LOOP_QUICK, job_work, job_done, &job), 0);
    assert_int_equal(loop_run(loop), 0);
    atomic_store(&may_end, true);
    loop_free(loop);
    assert_int_equal(long_left, 0);
}

UNIT_TEST(freeing_the_loop_finishes_the_work) {
    struct loop *loop = new_loop();
    struct job jobs[20];
    int left = ARRAY_LEN(jobs) + 1;
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        jobs[i] = (struct job){.loop = loop, .left = &left};
        assert_int_equal(loop_work(loop, LOOP_QUICK, job_work, job_done, &jobs[i]), 0);
    }
    loop_free(loop);
    assert_int_equal(left, 1);
}

UNIT_MAIN(UNIT(timers_run_in_order_of_time), UNIT(a_timer_that_sets_itself_lets_the_turn_end), UNIT(deferred_calls_run_once_at_the_end_of_the_turn),
          UNIT(a_source_freed_in_a_callback_stays_silent), UNIT(a_source_without_interest_is_deaf), UNIT(signals_become_events),
          UNIT(work_runs_elsewhere_and_is_done_here), UNIT(long_work_leaves_the_threads_of_other_lanes_alone),
          UNIT(a_full_lane_refuses_and_others_take), UNIT(freeing_the_loop_finishes_the_work))
