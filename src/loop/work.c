/* Worker threads for what blocks: SQLite commits, compression, fsync. A queue under one mutex; finished items come back through a second list and an
 * eventfd.
 *
 * A thread starts when more work waits than threads are idle, up to LOOP_THREADS; they then stay (an idle one sleeps in a condition variable). All
 * signals are blocked in them. Only `queue`, `finished`, `queued`, `idle` and `stopping` are shared, all under the mutex; an item belongs to the
 * thread that runs it, and to the loop before and after. */
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "loop/loop_priv.h"

#define WORK_QUEUE_MAX 4096 /* items submitted and not yet done */

struct work_item {
    struct list node;
    void (*work)(void *userdata);
    void (*done)(void *userdata);
    void *userdata;
};

struct work_pool {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct list queue, finished;
    unsigned queued, idle;
    bool stopping;
    /* the loop's thread only */
    pthread_t threads[LOOP_THREADS];
    unsigned threads_count;
    size_t items_count;
    int event_fd;
    struct loop_io *io;
};

static void *worker_main(void *argument) {
    struct work_pool *pool = argument;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        struct list *node = list_pop(&pool->queue);
        if (!node && pool->stopping)
            break;
        if (!node) {
            pool->idle++;
            pthread_cond_wait(&pool->wake, &pool->mutex);
            pool->idle--;
            continue;
        }
        pool->queued--;
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
        pool->items_count--;
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
    pthread_cond_init(&pool->wake, NULL);
    list_init(&pool->queue);
    list_init(&pool->finished);
    pool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = pool->event_fd < 0 ? -errno : loop_io_new(loop, pool->event_fd, EPOLLIN, on_finished, pool, &pool->io);
    if (r < 0) {
        work_pool_free(pool);
        return r;
    }
    *ret = pool;
    return 0;
}

static int pool_add_thread(struct work_pool *pool) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int r = pthread_create(&pool->threads[pool->threads_count], NULL, worker_main, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0)
        pool->threads_count++;
    return -r;
}

void work_pool_free(struct work_pool *pool) {
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (unsigned i = 0; i < pool->threads_count; i++)
        pthread_join(pool->threads[i], NULL);
    pool->threads_count = 0;
    pool_collect(pool);
    ASSERT(pool->items_count == 0);
    loop_io_free(pool->io);
    fd_closep(&pool->event_fd);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

int loop_work(struct loop *loop, void (*work)(void *userdata), void (*done)(void *userdata), void *userdata) {
    int r = loop->pool ? 0 : pool_new(loop, &loop->pool);
    if (r < 0)
        return r;
    struct work_pool *pool = loop->pool;
    if (pool->items_count >= WORK_QUEUE_MAX || pool->stopping)
        return -ENOBUFS;
    CLEANUP(freep) struct work_item *item = calloc(1, sizeof *item);
    if (!item)
        return -ENOMEM;
    *item = (struct work_item){.work = work, .done = done, .userdata = userdata};
    pthread_mutex_lock(&pool->mutex);
    bool need_thread = pool->queued >= pool->idle && pool->threads_count < LOOP_THREADS;
    pthread_mutex_unlock(&pool->mutex);
    if (need_thread) {
        r = pool_add_thread(pool);
        if (r < 0 && pool->threads_count == 0)
            return r;
    }
    pthread_mutex_lock(&pool->mutex);
    list_push(&pool->queue, &item->node);
    pool->queued++;
    pool->items_count++;
    pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    TAKE(item);
    return 0;
}
