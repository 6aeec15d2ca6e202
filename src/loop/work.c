/* Worker threads for what blocks: SQLite commits, compression, fsync, walks through millions of files. Finished items come back through one list and
 * an eventfd.
 *
 * Threads stand in lanes, each with its own queue: whoever submits says how long it may take, and what takes minutes never occupies a thread that
 * something quick needs. With one queue for all, four removals of large trees kept every pod's start waiting for as long as they took.
 *
 * A thread starts when more work waits in its lane than threads are idle there, up to the lane's number; they then stay (an idle one sleeps in a
 * condition variable). All signals are blocked in them. The queues, `finished`, `queued`, `idle` and `stopping` are shared, all under the mutex; an
 * item belongs to the thread that runs it, and to the loop before and after. */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "loop/loop_priv.h"
#include "sys/sys.h"

/* Few, since two of them fill a small machine: names wait rather than work, bulk waits for the disk by turns, sweeping must not crowd it. */
static const unsigned threads_max[LOOP_LANES] = {[LOOP_QUICK] = 4, [LOOP_NAMES] = 2, [LOOP_BULK] = 4, [LOOP_MEASURE] = 2, [LOOP_SWEEP] = 2};
#define LANE_THREADS_MAX 4

struct work_item {
    struct list node;
    void (*work)(void *userdata);
    void (*done)(void *userdata);
    void *userdata;
    struct work_lane *lane;
};

struct work_lane {
    struct work_pool *pool;
    pthread_cond_t wake;
    struct list queue;
    unsigned queued, idle;
    /* the loop's thread only */
    pthread_t threads[LANE_THREADS_MAX];
    unsigned threads_count, threads_max;
    size_t items_count; /* submitted and not yet done */
};

struct work_pool {
    pthread_mutex_t mutex;
    struct list finished;
    bool stopping;
    struct work_lane lanes[LOOP_LANES];
    /* the loop's thread only */
    int event_fd;
    struct loop_io *io;
};

static void *worker_main(void *argument) {
    struct work_lane *lane = argument;
    struct work_pool *pool = lane->pool;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        struct list *node = list_pop(&lane->queue);
        if (!node && pool->stopping)
            break;
        if (!node) {
            lane->idle++;
            pthread_cond_wait(&lane->wake, &pool->mutex);
            lane->idle--;
            continue;
        }
        lane->queued--;
        pthread_mutex_unlock(&pool->mutex);
        struct work_item *item = CONTAINER_OF(node, struct work_item, node);
        item->work(item->userdata);
        pthread_mutex_lock(&pool->mutex);
        bool first = list_empty(&pool->finished);
        list_push(&pool->finished, &item->node);
        if (first)
            eventfd_write(pool->event_fd, 1);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* Runs `done` of what is finished. A done may submit new work. */
static void pool_collect(struct work_pool *pool) {
    struct list batch;
    list_init(&batch);
    pthread_mutex_lock(&pool->mutex);
    for (struct list *node; (node = list_pop(&pool->finished));)
        list_push(&batch, node);
    pthread_mutex_unlock(&pool->mutex);
    for (struct list *node; (node = list_pop(&batch));) {
        struct work_item *item = CONTAINER_OF(node, struct work_item, node);
        item->lane->items_count--;
        item->done(item->userdata);
        free(item);
    }
}

static void on_finished(void *userdata, uint32_t events) {
    (void)events;
    struct work_pool *pool = userdata;
    eventfd_t count;
    eventfd_read(pool->event_fd, &count);
    pool_collect(pool);
}

static int pool_new(struct loop *loop, struct work_pool **ret) {
    struct work_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return -ENOMEM;
    pthread_mutex_init(&pool->mutex, NULL);
    list_init(&pool->finished);
    for (unsigned i = 0; i < LOOP_LANES; i++) {
        struct work_lane *lane = &pool->lanes[i];
        ASSERT(threads_max[i] > 0 && threads_max[i] <= LANE_THREADS_MAX);
        lane->pool = pool;
        lane->threads_max = threads_max[i];
        list_init(&lane->queue);
        pthread_cond_init(&lane->wake, NULL);
    }
    pool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = pool->event_fd < 0 ? -errno : loop_io_new(loop, pool->event_fd, EPOLLIN, on_finished, pool, &pool->io);
    if (r < 0) {
        work_pool_free(pool);
        return r;
    }
    *ret = pool;
    return 0;
}

static int lane_add_thread(struct work_lane *lane) {
    int r = sys_thread_start(&lane->threads[lane->threads_count], worker_main, lane);
    lane->threads_count += r == 0;
    return r;
}

void work_pool_free(struct work_pool *pool) {
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    for (unsigned i = 0; i < LOOP_LANES; i++)
        pthread_cond_broadcast(&pool->lanes[i].wake);
    pthread_mutex_unlock(&pool->mutex);
    for (unsigned i = 0; i < LOOP_LANES; i++)
        while (pool->lanes[i].threads_count > 0)
            pthread_join(pool->lanes[i].threads[--pool->lanes[i].threads_count], NULL);
    pool_collect(pool);
    for (unsigned i = 0; i < LOOP_LANES; i++) {
        ASSERT(pool->lanes[i].items_count == 0);
        pthread_cond_destroy(&pool->lanes[i].wake);
    }
    loop_io_free(pool->io);
    fd_closep(&pool->event_fd);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

int loop_work(struct loop *loop, enum loop_lane which, void (*work)(void *userdata), void (*done)(void *userdata), void *userdata) {
    int r = loop->pool ? 0 : pool_new(loop, &loop->pool);
    if (r < 0)
        return r;
    struct work_pool *pool = loop->pool;
    struct work_lane *lane = &pool->lanes[which];
    if (lane->items_count >= LOOP_LANE_ITEMS_MAX || pool->stopping)
        return -ENOBUFS;
    CLEANUP(freep) struct work_item *item = calloc(1, sizeof *item);
    if (!item)
        return -ENOMEM;
    *item = (struct work_item){.work = work, .done = done, .userdata = userdata, .lane = lane};
    pthread_mutex_lock(&pool->mutex);
    bool need_thread = lane->queued >= lane->idle && lane->threads_count < lane->threads_max;
    pthread_mutex_unlock(&pool->mutex);
    if (need_thread) {
        r = lane_add_thread(lane);
        if (r < 0 && lane->threads_count == 0)
            return r;
    }
    pthread_mutex_lock(&pool->mutex);
    list_push(&lane->queue, &item->node);
    lane->queued++;
    lane->items_count++;
    pthread_cond_signal(&lane->wake);
    pthread_mutex_unlock(&pool->mutex);
    TAKE(item);
    return 0;
}
