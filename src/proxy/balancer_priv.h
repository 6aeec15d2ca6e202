/* Decisions about where a request goes and whether it may go again: pure, no I/O, no clock, no random source of their own. */
#ifndef TIDEMILL_PROXY_BALANCER_PRIV_H
#define TIDEMILL_PROXY_BALANCER_PRIV_H

#include "base/base.h"

/* What the balancer sees of an endpoint. */
struct balancer_view {
    uint32_t in_flight;
    bool ready;
    int64_t failed_until_ns; /* a connect failed lately: the last choice until then */
    uint32_t tried_by;       /* id of the last request that failed here; see balancer_pick */
};

/* The index of the ready endpoint with the fewest requests in flight; ties are broken by `random`. Endpoints that this request (request_id, not 0)
 * already tried are left out, those that failed lately are taken only when no other is left. views[i] is reached through at(userdata, i). -1: none.
 */
typedef const struct balancer_view *balancer_at_fn(const void *userdata, size_t index);
ptrdiff_t balancer_pick(balancer_at_fn *at, const void *userdata, size_t count, uint32_t request_id, int64_t now_ns, uint64_t random);

/* How an attempt broke. */
struct attempt {
    bool connected;    /* the connection had been made */
    bool reused;       /* it had served a request before */
    bool bytes_taken;  /* the kernel accepted some byte of the request */
    bool answered;     /* a byte of a response had come */
    bool replayable;   /* everything that was sent is still in memory */
    bool timed_out;    /* no answer in time, as opposed to a closed connection */
    bool idempotent;   /* the method, RFC 9110 9.2.2 */
    unsigned attempts; /* made so far, this one included */
};
#define ATTEMPTS_MAX 4
/* May the request be sent again, on another connection? */
bool attempt_may_retry(const struct attempt *attempt);

/* GET, HEAD, OPTIONS, TRACE, PUT, DELETE. */
bool method_is_idempotent(struct slice method);

#endif
