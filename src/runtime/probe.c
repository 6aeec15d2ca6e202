/* The verdict of a probe, as kubelet's prober worker: a result counts when it has come `threshold` times in a row; the first run is
 * initialDelaySeconds after the container's start, the others a period apart. A startup probe has no success threshold but 1 and ends with its first
 * success.
 *
 * One thing is better than upstream: a program that is not listening yet when its first probe comes need not wait a whole period (10 s by default) to
 * become ready. Between the regular runs of a probe that never succeeded there are quick ones (50 ms, 100 ms, 200 ms …) of which only a success
 * counts. */
#include "runtime/probe.h"

#define QUICK_FIRST_MS 50

static int or_default(int value, int fallback) {
    return value > 0 ? value : fallback;
}

void probe_init(struct probe *probe, enum probe_kind kind, const struct probe_timing *timing, int64_t started_ms) {
    *probe = (struct probe){.kind = kind, .timing = *timing};
    probe->timing.period_s = or_default(timing->period_s, 10);
    probe->timing.timeout_s = or_default(timing->timeout_s, 1);
    probe->timing.success_threshold = kind == PROBE_READINESS ? or_default(timing->success_threshold, 1) : 1;
    probe->timing.failure_threshold = or_default(timing->failure_threshold, 3);
    probe->due_ms = probe->regular_ms = started_ms + (int64_t)MAX(timing->initial_delay_s, 0) * 1000;
    probe->is_healthy = kind == PROBE_LIVENESS;
}

int64_t probe_timeout_ms(const struct probe *probe) {
    return (int64_t)probe->timing.timeout_s * 1000;
}

/* Until the first success, runs come in quick succession between the regular ones; their failures do not count. */
static void schedule(struct probe *probe, bool success, int64_t now_ms) {
    int64_t period_ms = (int64_t)probe->timing.period_s * 1000;
    if (probe->counted)
        probe->regular_ms = MAX(probe->due_ms, now_ms) + period_ms;
    probe->due_ms = probe->regular_ms;
    if (success || probe->was_healthy || probe->kind == PROBE_LIVENESS)
        return;
    probe->quick_ms = probe->quick_ms ? MIN(probe->quick_ms * 2, period_ms) : QUICK_FIRST_MS;
    probe->due_ms = MIN(probe->regular_ms, now_ms + probe->quick_ms);
}

bool probe_step(struct probe *probe, bool success, int64_t now_ms) {
    int threshold = success ? probe->timing.success_threshold : probe->timing.failure_threshold;
    bool was = probe->is_healthy;
    probe->counted = success || now_ms >= probe->regular_ms;
    schedule(probe, success, now_ms);
    if (!probe->counted)
        return false;
    probe->streak = probe->has_run && probe->last_success == success ? MIN(probe->streak + 1, 1000000) : 1;
    probe->has_run = true;
    probe->last_success = success;
    if (probe->streak < threshold)
        return false;
    probe->is_healthy = success;
    probe->was_healthy = probe->was_healthy || success;
    if (!success && probe->kind != PROBE_READINESS) { /* the container is killed now; the next one starts counting anew */
        probe->streak = 0;
        return true;
    }
    return was != success;
}

bool probe_step_error(struct probe *probe, int64_t now_ms) {
    probe->counted = now_ms >= probe->regular_ms;
    schedule(probe, false, now_ms);
    return probe->counted;
}
