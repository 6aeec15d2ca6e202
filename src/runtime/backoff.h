/* The restart back-off of containers and image pulls, as kubelet's: the first restart at once, then 10 s doubling to 300 s, forgotten after 10
 * minutes of running. Pure. */
#ifndef TIDEMILL_RUNTIME_BACKOFF_H
#define TIDEMILL_RUNTIME_BACKOFF_H

#include "base/base.h"

#define BACKOFF_FIRST_MS 10000
#define BACKOFF_MAX_MS 300000
#define BACKOFF_RESET_MS 600000

struct backoff {
    int64_t delay_ms; /* of the next failure; 0: none yet */
};
/* A failure after having run for ran_ms: how long to wait before the next try. */
int64_t backoff_next_ms(struct backoff *backoff, int64_t ran_ms);
static inline void backoff_reset(struct backoff *backoff) {
    backoff->delay_ms = 0;
}

#endif
