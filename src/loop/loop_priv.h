/* Private to loop/: the loop itself. */
#ifndef TIDEMILL_LOOP_PRIV_H
#define TIDEMILL_LOOP_PRIV_H

#include "loop/loop.h"

struct work_pool;

struct loop {
    int epoll_fd;
    bool stopping;
    bool in_turn;
    int64_t now_ns;
    int64_t wall_ns;
    struct heap timers;
    struct list deferred;  /* loop_defer: run at the end of this turn */
    struct list graveyard; /* sources freed during a turn: events already fetched may still point to them */
    size_t sources_count;
    struct work_pool *pool; /* NULL until the first loop_work */
};

/* work.c: finishes what is queued, joins the threads, frees the pool. NULL is fine. */
void work_pool_free(struct work_pool *pool);

#endif
