/* The balancer's choice and the retry decision. */
#include "unit.h"

#include "proxy/balancer_priv.h"

static const struct balancer_view *at(const void *userdata, size_t index) {
    return (const struct balancer_view *)userdata + index;
}

UNIT_TEST(least_loaded_ready_endpoint_wins) {
    struct balancer_view views[] = {
        {.in_flight = 3, .ready = true}, {.in_flight = 0, .ready = false}, {.in_flight = 1, .ready = true}, {.in_flight = 2, .ready = true}};
    for (uint64_t random = 1; random < 100; random++)
        assert_int_equal(balancer_pick(at, views, 4, 7, 0, random), 2);
    views[2].tried_by = 7;
    assert_int_equal(balancer_pick(at, views, 4, 7, 0, 1), 3);
    assert_int_equal(balancer_pick(at, views, 4, 8, 0, 1), 2);
    assert_int_equal(balancer_pick(at, views, 0, 8, 0, 1), -1);
    assert_int_equal(balancer_pick(at, &views[1], 1, 8, 0, 1), -1);
}

UNIT_TEST(failed_endpoints_are_the_last_choice) {
    struct balancer_view views[] = {{.in_flight = 0, .ready = true, .failed_until_ns = 100}, {.in_flight = 50, .ready = true}};
    assert_int_equal(balancer_pick(at, views, 2, 1, 50, 1), 1);
    assert_int_equal(balancer_pick(at, views, 2, 1, 100, 1), 0);
    assert_int_equal(balancer_pick(at, views, 1, 1, 50, 1), 0);
}

UNIT_TEST(ties_are_broken_evenly) {
    struct balancer_view views[4];
    size_t hits[4] = {0};
    for (size_t i = 0; i < 4; i++)
        views[i] = (struct balancer_view){.ready = true};
    uint64_t random = 88172645463325252;
    for (int i = 0; i < 40000; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        hits[balancer_pick(at, views, 4, 1, 0, random * 0x2545f4914f6cdd1d)]++;
    }
    for (size_t i = 0; i < 4; i++)
        assert_in_range(hits[i], 9000, 11000);
}

UNIT_TEST(retries_are_safe) {
    const struct attempt refused = {.replayable = true, .attempts = 1};
    assert_true(attempt_may_retry(&refused));
    struct attempt attempt = refused;
    attempt.attempts = ATTEMPTS_MAX;
    assert_false(attempt_may_retry(&attempt));
    attempt = (struct attempt){.connected = true, .reused = true, .replayable = true, .attempts = 1};
    assert_true(attempt_may_retry(&attempt)); /* nothing was taken: any method */
    attempt.bytes_taken = true;
    assert_false(attempt_may_retry(&attempt)); /* POST that may have been acted on */
    attempt.idempotent = true;
    assert_true(attempt_may_retry(&attempt));
    attempt.answered = true;
    assert_false(attempt_may_retry(&attempt));
    attempt.answered = false;
    attempt.timed_out = true;
    assert_false(attempt_may_retry(&attempt));
    attempt.timed_out = false;
    attempt.replayable = false;
    assert_false(attempt_may_retry(&attempt));
    attempt.replayable = true;
    attempt.reused = false;
    assert_true(attempt_may_retry(&attempt));
    attempt.attempts = 2;
    assert_false(attempt_may_retry(&attempt)); /* a fresh connection that broke is repeated once */
}

UNIT_TEST(idempotent_methods) {
    assert_true(method_is_idempotent(SLICE("GET")));
    assert_true(method_is_idempotent(SLICE("DELETE")));
    assert_false(method_is_idempotent(SLICE("POST")));
    assert_false(method_is_idempotent(SLICE("PATCH")));
    assert_false(method_is_idempotent(SLICE("get")));
}

UNIT_MAIN(UNIT(least_loaded_ready_endpoint_wins), UNIT(failed_endpoints_are_the_last_choice), UNIT(ties_are_broken_evenly), UNIT(retries_are_safe),
          UNIT(idempotent_methods))
