/* The verdicts of probes and the restart back-off: logic without I/O. */
#include "runtime/backoff.h"
#include "runtime/probe.h"
#include "unit.h"

UNIT_TEST(readiness_needs_its_thresholds) {
    struct probe probe;
    const struct probe_timing timing = {.initial_delay_s = 5, .period_s = 2, .success_threshold = 2, .failure_threshold = 3};
    probe_init(&probe, PROBE_READINESS, &timing, 1000);
    assert_false(probe.is_healthy);
    assert_int_equal(probe.due_ms, 6000);
    assert_false(probe_step(&probe, true, 6000));
    assert_int_equal(probe.due_ms, 8000);
    assert_true(probe_step(&probe, true, 8000));
    assert_true(probe.is_healthy);
    assert_false(probe_step(&probe, true, 10000));
    assert_false(probe_step(&probe, false, 12000));
    assert_false(probe_step(&probe, false, 14000));
    assert_false(probe_step(&probe, true, 16000)); /* the streak begins anew */
    assert_false(probe_step(&probe, false, 18000));
    assert_false(probe_step(&probe, false, 20000));
    assert_true(probe_step(&probe, false, 22000));
    assert_false(probe.is_healthy);
    assert_false(probe_step(&probe, false, 24000)); /* told once */
}

UNIT_TEST(liveness_starts_healthy_and_fires_each_time) {
    struct probe probe;
    const struct probe_timing timing = {.failure_threshold = 2, .success_threshold = 7};
    probe_init(&probe, PROBE_LIVENESS, &timing, 0);
    assert_true(probe.is_healthy);
    assert_int_equal(probe.timing.success_threshold, 1);
    assert_int_equal(probe.timing.period_s, 10);
    assert_int_equal(probe_timeout_ms(&probe), 1000);
    assert_false(probe_step(&probe, false, 0));
    assert_true(probe_step(&probe, false, 10000));
    assert_false(probe_step(&probe, false, 20000));
    assert_true(probe_step(&probe, false, 30000));
}

UNIT_TEST(startup_passes_once) {
    struct probe probe;
    const struct probe_timing timing = {.failure_threshold = 30, .period_s = 1};
    probe_init(&probe, PROBE_STARTUP, &timing, 0);
    assert_false(probe.is_healthy);
    for (int i = 0; i < 29; i++)
        assert_false(probe_step(&probe, false, i * 1000));
    assert_true(probe_step(&probe, true, 29000));
    assert_true(probe.is_healthy);
}

UNIT_TEST(the_first_success_comes_quickly) {
    struct probe probe;
    const struct probe_timing timing = {.period_s = 10, .failure_threshold = 1};
    probe_init(&probe, PROBE_STARTUP, &timing, 0);
    probe.timing.failure_threshold = 2;
    assert_false(probe_step(&probe, false, 0));
    assert_true(probe.counted);
    assert_int_equal(probe.due_ms, 50);
    assert_false(probe_step(&probe, false, 50)); /* does not count: the second regular failure would kill */
    assert_false(probe.counted);
    assert_int_equal(probe.due_ms, 150);
    assert_false(probe_step(&probe, false, 150));
    assert_true(probe_step(&probe, true, 350));
    assert_true(probe.is_healthy);
    assert_int_equal(probe.due_ms, 10350);
    probe_init(&probe, PROBE_STARTUP, &timing, 0);
    probe.timing.failure_threshold = 2;
    for (int64_t now = 0; now < 10000; now = probe.due_ms)
        assert_false(probe_step(&probe, false, now));
    assert_int_equal(probe.due_ms, 10000);
    assert_true(probe_step(&probe, false, 10000));
}

UNIT_TEST(a_run_that_could_not_be_made_counts_for_nothing) {
    struct probe probe;
    const struct probe_timing timing = {.period_s = 1, .failure_threshold = 2};
    probe_init(&probe, PROBE_LIVENESS, &timing, 0);
    assert_false(probe_step(&probe, false, 0));
    assert_true(probe_step_error(&probe, 1000));
    assert_int_equal(probe.due_ms, 2000);
    assert_true(probe_step(&probe, false, 2000)); /* the second in a row still */
    probe_init(&probe, PROBE_READINESS, &timing, 0);
    assert_true(probe_step_error(&probe, 0));
    assert_false(probe_step_error(&probe, 50)); /* a quick one: no event */
    assert_int_equal(probe.due_ms, 150);
}

UNIT_TEST(a_late_result_does_not_pile_up_runs) {
    struct probe probe;
    const struct probe_timing timing = {.period_s = 1};
    probe_init(&probe, PROBE_READINESS, &timing, 0);
    probe_step(&probe, true, 10000); /* took ten periods */
    assert_int_equal(probe.due_ms, 11000);
}

UNIT_TEST(the_first_restart_is_immediate_and_then_doubles) {
    static const int64_t expected[] = {0, 10000, 20000, 40000, 80000, 160000, 300000, 300000};
    struct backoff backoff = {0};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_int_equal(backoff_next_ms(&backoff, 1000), expected[i]);
    assert_int_equal(backoff_next_ms(&backoff, BACKOFF_RESET_MS), 0); /* ran ten minutes: forgiven */
    assert_int_equal(backoff_next_ms(&backoff, BACKOFF_RESET_MS - 1), 10000);
}

UNIT_MAIN(UNIT(readiness_needs_its_thresholds), UNIT(liveness_starts_healthy_and_fires_each_time), UNIT(startup_passes_once),
          UNIT(the_first_success_comes_quickly), UNIT(a_run_that_could_not_be_made_counts_for_nothing), UNIT(a_late_result_does_not_pile_up_runs),
          UNIT(the_first_restart_is_immediate_and_then_doubles))
