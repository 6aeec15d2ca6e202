/* The hooks of a container's life.
 *
 * postStart begins when the program has been started. Until it is over the container counts as being created: its status says so, no probe runs, and
 * the pod's next containers wait, as with kubelet, whose worker does one thing after the other. One that fails ends the container.
 *
 * Both are run at least once: what a node had not seen end when it died begins anew with the next one, as Kubernetes' documentation says of hooks
 * (its kubelet forgets a postStart hook then; a container that was never registered, warmed up or unlocked, and serves all the same, is worse than
 * one that was twice). The first one's command may go on beside it: hooks have to bear that anyway.
 *
 * preStop runs before the program is told to stop, within the time that the pod was given; when that is over, it goes on without waiting any longer.
 *
 * What a hook printed is in no event: it may hold secrets. A TCP connection is no hook, though the API lets it be written: it fails, as upstream. */
#include "node/node_priv.h"

#define HOOK_MAX_MS (24 * 3600 * INT64_C(1000))

static void end_of(struct unit *unit, bool success) {
    if (unit->stopping) {
        if (!success)
            event_pod(unit->pod, unit, "Warning", "FailedPreStopHook", "PreStopHook failed");
        return unit_terminate(unit);
    }
    unit->post_starting = false;
    if (success)
        return unit_is_up(unit);
    event_pod(unit->pod, unit, "Warning", "FailedPostStartHook", "PostStartHook failed");
    unit_stop(unit, unit->pod->grace_s, "FailedPostStartHook");
}

static void on_done(void *userdata, enum probe_outcome outcome, __attribute__((unused)) const char *message) {
    struct unit *unit = userdata;
    unit->hook = NULL;
    end_of(unit, outcome == PROBE_SUCCESS);
}

static void on_slept(void *userdata) {
    end_of(userdata, true);
}

void hooks_cancel(struct unit *unit) {
    probe_run_cancel(TAKE(unit->hook));
    loop_timer_cancel(&unit->hook_timer);
}

/* What cannot even begin has failed, and is told in a later turn like any other. */
static void on_not_begun(void *userdata) {
    end_of(userdata, false);
}

static bool run(struct unit *unit, const struct kube_lifecycle_handler *hook) {
    hooks_cancel(unit);
    if (!hook)
        return false;
    int r = -EINVAL;
    loop_timer_init(&unit->hook_timer, unit->pod->node->loop, hook->sleep ? on_slept : on_not_begun, unit);
    if (hook->sleep)
        r = loop_timer_set(&unit->hook_timer, MIN(MAX(hook->sleep->seconds, 0), INT32_MAX) * 1000);
    else if (hook->exec || hook->http_get)
        r = probing_run_handler(unit, hook, HOOK_MAX_MS, on_done);
    if (r < 0)
        loop_timer_set(&unit->hook_timer, 0);
    return true;
}

bool hooks_post_start(struct unit *unit) {
    unit->post_starting = run(unit, unit->spec->lifecycle ? unit->spec->lifecycle->post_start : NULL);
    return unit->post_starting;
}

bool hooks_pre_stop(struct unit *unit) {
    unit->post_starting = false;
    return run(unit, unit->spec->lifecycle ? unit->spec->lifecycle->pre_stop : NULL);
}

/* The program ended while its hook ran: the hook has failed with it. */
void hooks_unit_ended(struct unit *unit) {
    if (unit->post_starting && !unit->stopping)
        event_pod(unit->pod, unit, "Warning", "FailedPostStartHook", "PostStartHook failed");
    unit->post_starting = false;
    hooks_cancel(unit);
}

bool hooks_hold_others(const struct unit *unit) {
    bool is_under_way = unit->stage == UNIT_PULLING || unit->stage == UNIT_CREATING || unit->stage == UNIT_STARTING;
    bool is_running = unit->stage == UNIT_RUNNING; /* nobody waits for the hook of one that has ended */
    return (is_running && unit->post_starting) || (is_under_way && unit->spec->lifecycle && unit->spec->lifecycle->post_start);
}
