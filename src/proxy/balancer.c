/* Least request with random tie-break over a full scan: with one balancer that sees every request and at most a few dozen endpoints a scan costs tens
 * of nanoseconds and beats "power of two choices" at the tail, which exists for many balancers with stale views.
 *
 * Retry (RFC 9110 9.2.2, RFC 9112 9.3.1). A proxy must not repeat a request that may have been acted on unless the method is idempotent. So:
 *   nothing of it left this machine (connect failed, or the kernel took no byte)    any method, another endpoint
 *   a *kept* connection closed before any byte of the answer                       idempotent methods only: the server may have closed it before it
 * read, or died after it acted a *fresh* connection closed before any byte of the answer                      idempotent methods only, once: the pod
 * may just be stopping a byte of the answer came, or we ran into the response timeout                  never and only while every byte sent is still
 * in memory. */
#include "proxy/balancer_priv.h"

ptrdiff_t balancer_pick(balancer_at_fn *at, const void *userdata, size_t count, uint32_t request_id, int64_t now_ns, uint64_t random) {
    ptrdiff_t best = -1;
    uint64_t best_cost = UINT64_MAX, ties = 0;
    for (size_t i = 0; i < count; i++) {
        const struct balancer_view *view = at(userdata, i);
        if (!view->ready || (request_id != 0 && view->tried_by == request_id))
            continue;
        uint64_t cost = view->in_flight + (view->failed_until_ns > now_ns ? (uint64_t)1 << 32 : 0);
        if (cost > best_cost)
            continue;
        ties = cost < best_cost ? 1 : ties + 1;
        /* Reservoir sampling: the n-th equal one replaces the choice with probability 1/n. */
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        if (ties == 1 || random % ties == 0)
            best = (ptrdiff_t)i;
        best_cost = cost;
    }
    return best;
}

bool attempt_may_retry(const struct attempt *attempt) {
    if (attempt->answered || attempt->timed_out || !attempt->replayable || attempt->attempts >= ATTEMPTS_MAX)
        return false;
    if (!attempt->connected || !attempt->bytes_taken)
        return true;
    return attempt->idempotent && (attempt->reused || attempt->attempts < 2);
}

bool method_is_idempotent(struct slice method) {
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (slice_is(method, methods[i]))
            return true;
    return false;
}
