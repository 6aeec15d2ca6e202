/* Deadlines. Ten thousand connections have ten thousand deadlines, but of ten kinds; within a kind the timeout is the same, so the queue in order of
 * arming is the order of expiry.
 *
 * Invariants: (1) a deadline is in at most one queue; (2) a queue's timer is set whenever the queue is not empty, at or before its first deadline.
 * The timer is not moved when the first one moves on: it fires early at most once per timeout and looks again. */
#include "proxy/proxy_priv.h"

static void expire(struct deadline_queue *queue, struct deadline *deadline) {
    if (queue->kind == DEADLINE_UPSTREAM_IDLE)
        link_close(CONTAINER_OF(deadline, struct link, deadline));
    else
        client_on_deadline(CONTAINER_OF(deadline, struct client, deadline));
}

static void on_timer(void *userdata) {
    struct deadline_queue *queue = userdata;
    int64_t now = loop_now_ns(queue->proxy->loop);
    while (!list_empty(&queue->head)) {
        struct deadline *first = CONTAINER_OF(queue->head.next, struct deadline, node);
        if (first->at_ns > now) {
            loop_timer_set(&queue->timer, (first->at_ns - now) / 1000000 + 1);
            return;
        }
        list_remove(&first->node);
        expire(queue, first);
    }
}

void deadline_queue_init(struct deadline_queue *queue, struct proxy *proxy, enum deadline_kind kind, int64_t timeout_ms) {
    queue->proxy = proxy;
    queue->kind = kind;
    queue->timeout_ns = timeout_ms * 1000000;
    list_init(&queue->head);
    loop_timer_init(&queue->timer, proxy->loop, on_timer, queue);
}

void deadline_queue_deinit(struct deadline_queue *queue) {
    loop_timer_cancel(&queue->timer);
}

void deadline_arm(struct deadline_queue *queue, struct deadline *deadline) {
    list_remove(&deadline->node);
    deadline->at_ns = loop_now_ns(queue->proxy->loop) + queue->timeout_ns;
    list_push(&queue->head, &deadline->node);
    if (!loop_timer_is_set(&queue->timer))
        loop_timer_set(&queue->timer, queue->timeout_ns / 1000000 + 1);
}
