/* See backoff.h. kubelet's container back-off lets the first restart pass at once, because most single crashes are not loops. */
#include "runtime/backoff.h"

int64_t backoff_next_ms(struct backoff *backoff, int64_t ran_ms) {
    if (ran_ms >= BACKOFF_RESET_MS)
        backoff->delay_ms = 0;
    int64_t delay_ms = backoff->delay_ms;
    backoff->delay_ms = delay_ms == 0 ? BACKOFF_FIRST_MS : MIN(delay_ms * 2, BACKOFF_MAX_MS);
    return delay_ms;
}
