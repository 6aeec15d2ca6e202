/* Somebody set the wall clock, or the machine slept: what is due at a time of day is due sooner or later than the timers think, which count the time
 * that it ran. The kernel tells of both by cancelling a timer that never ends otherwise (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). */
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "node/node_priv.h"

/* Its end must not come: that far ahead is further than clocks go. */
static int arm(int fd) {
    const struct itimerspec never = {.it_value.tv_sec = INT32_MAX * INT64_C(2)};
    return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0 && errno != ECANCELED ? -errno : 0;
}

static void on_set(void *userdata, __attribute__((unused)) uint32_t events) {
    struct node *node = userdata;
    uint64_t count;
    void *value;
    if (read(node->clock_fd, &count, sizeof count) >= 0 || errno != ECANCELED)
        return;
    arm(node->clock_fd);
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);)
        tokens_clock_set(value);
}

int clock_start(struct node *node) {
    node->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    int r = node->clock_fd < 0 ? -errno : arm(node->clock_fd);
    return r < 0 ? r : loop_io_new(node->loop, node->clock_fd, EPOLLIN, on_set, node, &node->clock_io);
}

void clock_stop(struct node *node) {
    loop_io_free(TAKE(node->clock_io));
    if (node->clock_fd >= 0)
        close(node->clock_fd);
    node->clock_fd = -1;
}
