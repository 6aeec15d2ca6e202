/* The loop: epoll, timers in a binary heap, deferred calls.
 *
 * One turn:  wait → read the clocks → callbacks of ready descriptors → expired timers → deferred calls → bury the sources that were freed.
 *
 * Invariants
 * 1. A source freed in a turn stays allocated until the turn's end (graveyard), because epoll_wait's array may still point to it; `dead` keeps it
 *    silent.
 * 2. A callback runs from the loop only, never from inside an API call: callbacks do not nest.
 * 3. Each turn ends: a timer or deferred call that is set by a timer or deferred call runs in the next turn (a delay is at least a nanosecond from
 *    the turn's time;
 *    the deferred list is detached before it is run).
 * 4. Without timer, deferred call and ready descriptor the thread sleeps in epoll_wait without timeout.
 * A source with an empty event mask leaves the epoll set, as epoll would otherwise report a hang-up for ever. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>

#include "loop/loop_priv.h"
#include "sys/sys.h"

#define EVENTS_PER_TURN 128

struct loop_io {
    struct loop *loop;
    struct list node; /* of the graveyard */
    int fd;
    bool dead;
    uint32_t events; /* 0: not in the epoll set */
    loop_io_fn *on_ready;
    void *userdata;
};

int loop_new(struct loop **ret) {
    CLEANUP(freep) struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return -ENOMEM;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        return -errno;
    signal(SIGPIPE, SIG_IGN);
    list_init(&loop->deferred);
    list_init(&loop->graveyard);
    loop->now_ns = sys_monotonic_ns();
    loop->wall_ns = sys_wall_ns();
    *ret = TAKE(loop);
    return 0;
}

void loop_free(struct loop *loop) {
    if (!loop)
        return;
    ASSERT(!loop->in_turn);
    work_pool_free(loop->pool);
    ASSERT(loop->sources_count == 0);
    ASSERT(list_empty(&loop->deferred));
    heap_deinit(&loop->timers);
    close(loop->epoll_fd);
    free(loop);
}

int64_t loop_now_ns(const struct loop *loop) {
    return loop->in_turn ? loop->now_ns : sys_monotonic_ns();
}

int64_t loop_wall_ns(const struct loop *loop) {
    return loop->in_turn ? loop->wall_ns : sys_wall_ns();
}

void loop_stop(struct loop *loop) {
    loop->stopping = true;
}

/* --- descriptors --- */

int loop_io_new(struct loop *loop, int fd, uint32_t events, loop_io_fn *on_ready, void *userdata, struct loop_io **ret) {
    CLEANUP(freep) struct loop_io *io = calloc(1, sizeof *io);
    if (!io)
        return -ENOMEM;
    *io = (struct loop_io){.loop = loop, .fd = fd, .on_ready = on_ready, .userdata = userdata};
    list_init(&io->node);
    int r = loop_io_set(io, events);
    if (r < 0)
        return r;
    loop->sources_count++;
    *ret = TAKE(io);
    return 0;
}

int loop_io_set(struct loop_io *io, uint32_t events) {
    ASSERT(!io->dead);
    if (events == io->events)
        return 0;
    int operation = events == 0 ? EPOLL_CTL_DEL : io->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    struct epoll_event event = {.events = events, .data.ptr = io};
    if (epoll_ctl(io->loop->epoll_fd, operation, io->fd, &event) < 0)
        return -errno;
    io->events = events;
    return 0;
}

void loop_io_free(struct loop_io *io) {
    if (!io)
        return;
    struct loop *loop = io->loop;
    ASSERT(!io->dead);
    if (io->events)
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
    loop->sources_count--;
    io->dead = true;
    if (loop->in_turn)
        list_push(&loop->graveyard, &io->node);
    else
        free(io);
}

static void bury(struct loop *loop) {
    for (struct list *node; (node = list_pop(&loop->graveyard));)
        free(CONTAINER_OF(node, struct loop_io, node));
}

/* --- timers --- */

void loop_timer_init(struct loop_timer *timer, struct loop *loop, void (*on_expire)(void *userdata), void *userdata) {
    *timer = (struct loop_timer){.loop = loop, .on_expire = on_expire, .userdata = userdata};
}

int loop_timer_set(struct loop_timer *timer, int64_t delay_ms) {
    loop_timer_cancel(timer);
    int64_t delay_ns = delay_ms <= 0 ? 1 : delay_ms > INT64_MAX / 4000000 ? INT64_MAX / 4 : delay_ms * 1000000;
    return heap_push(&timer->loop->timers, &timer->node, (uint64_t)(loop_now_ns(timer->loop) + delay_ns));
}

void loop_timer_cancel(struct loop_timer *timer) {
    if (timer->loop)
        heap_remove(&timer->loop->timers, &timer->node);
}

bool loop_timer_is_set(const struct loop_timer *timer) {
    return heap_contains(&timer->node);
}

static void run_timers(struct loop *loop) {
    for (struct heap_node *first; (first = heap_first(&loop->timers)) && first->key <= (uint64_t)loop->now_ns;) {
        struct loop_timer *timer = CONTAINER_OF(first, struct loop_timer, node);
        heap_remove(&loop->timers, first);
        timer->on_expire(timer->userdata);
    }
}

/* --- deferred calls --- */

void loop_defer_init(struct loop_defer *defer, struct loop *loop, void (*fn)(void *userdata), void *userdata) {
    *defer = (struct loop_defer){.loop = loop, .fn = fn, .userdata = userdata};
    list_init(&defer->node);
}

void loop_defer_schedule(struct loop_defer *defer) {
    if (list_empty(&defer->node))
        list_push(&defer->loop->deferred, &defer->node);
}

void loop_defer_cancel(struct loop_defer *defer) {
    if (defer->loop)
        list_remove(&defer->node);
}

static void run_deferred(struct loop *loop) {
    struct list batch;
    if (list_empty(&loop->deferred))
        return;
    list_push(&loop->deferred, &batch); /* batch takes the place of the head, the head becomes empty */
    list_remove(&loop->deferred);
    for (struct list *node; (node = list_pop(&batch));) {
        struct loop_defer *defer = CONTAINER_OF(node, struct loop_defer, node);
        defer->fn(defer->userdata);
    }
}

/* --- the turn --- */

/* Milliseconds to sleep: until the next timer, rounded up (waking early would only mean another turn). */
static int wait_ms(const struct loop *loop, int timeout_ms) {
    if (!list_empty(&loop->deferred) || loop->stopping)
        return 0;
    const struct heap_node *first = heap_first(&loop->timers);
    if (!first)
        return timeout_ms;
    int64_t left_ns = (int64_t)first->key - sys_monotonic_ns();
    int64_t left_ms = left_ns <= 0 ? 0 : MIN((left_ns + 999999) / 1000000, (int64_t)INT_MAX);
    return timeout_ms < 0 ? (int)left_ms : MIN(timeout_ms, (int)left_ms);
}

int loop_turn(struct loop *loop, int timeout_ms) {
    ASSERT(!loop->in_turn);
    struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, wait_ms(loop, timeout_ms));
    if (count < 0 && errno != EINTR)
        return -errno;
    loop->now_ns = sys_monotonic_ns();
    loop->wall_ns = sys_wall_ns();
    loop->in_turn = true;
    for (int i = 0; i < count; i++) {
        struct loop_io *io = events[i].data.ptr;
        if (!io->dead)
            io->on_ready(io->userdata, events[i].events);
    }
    run_timers(loop);
    run_deferred(loop);
    bury(loop);
    loop->in_turn = false;
    return 0;
}

int loop_run(struct loop *loop) {
    int r = 0;
    while (!loop->stopping && r == 0)
        r = loop_turn(loop, -1);
    loop->stopping = false;
    return r;
}
