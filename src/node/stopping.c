/* Ending a container, in this order, as kubelet does: preStop, its stop signal, SIGKILL to all that is in its control group. The grace period spans
 * the first two; after a hook there are two seconds at least, so that a program can end in order even when the hook took all of it. A second wish to
 * stop only ever shortens the time. */
#include <signal.h>

#include "node/node_priv.h"

#define KILL_AGAIN_MS 2000
#define SIGNALS 65
#define GRACE_MIN_MS 2000

static int64_t now_ms(const struct unit *unit) {
    return loop_now_ns(unit->pod->node->loop) / 1000000;
}

/* "SIGTERM", "TERM", "15", "SIGRTMIN+3", "RTMAX-1"; 0 when it is none. */
static int signal_number(const char *text) {
    uint64_t number;
    if (slice_parse_u64(slice_of(text), SIGNALS - 1, &number) == 0)
        return (int)number;
    if (strncmp(text, "SIG", 3) == 0)
        text += 3;
    if (strncmp(text, "RTMIN+", 6) == 0 && slice_parse_u64(slice_of(text + 6), 30, &number) == 0)
        return SIGRTMIN + (int)number;
    if (strncmp(text, "RTMAX-", 6) == 0 && slice_parse_u64(slice_of(text + 6), 30, &number) == 0)
        return SIGRTMAX - (int)number;
    if (strcmp(text, "RTMIN") == 0 || strcmp(text, "RTMAX") == 0)
        return strcmp(text, "RTMIN") == 0 ? SIGRTMIN : SIGRTMAX;
    for (int i = 1; i < SIGNALS; i++) {
        const char *name = sigabbrev_np(i);
        if (name && strcmp(name, text) == 0)
            return i;
    }
    return 0;
}

/* The container's own word comes before the image's. */
static int stop_signal(const struct unit *unit) {
    const char *own = unit->spec->lifecycle ? unit->spec->lifecycle->stop_signal : NULL;
    const char *text = own && *own ? own : unit->image && unit->image->stop_signal ? unit->image->stop_signal : "";
    int number = signal_number(text);
    return number ? number : SIGTERM;
}

void unit_terminate(struct unit *unit) {
    hooks_cancel(unit);
    unit->term_sent = true;
    if (unit->container)
        container_signal(unit->container, stop_signal(unit));
    int64_t left_ms = unit->stop_began_ms + unit->grace_ms - now_ms(unit);
    loop_timer_set(&unit->kill_timer, MAX(unit->grace_ms > 0 ? GRACE_MIN_MS : 1, left_ms));
}

static void on_kill_timer(void *userdata) {
    struct unit *unit = userdata;
    if (!unit->term_sent && unit->grace_ms > 0)
        return unit_terminate(unit); /* its hook has taken all the time there was */
    hooks_cancel(unit);
    if (unit->container)
        container_kill(unit->container);
    loop_timer_set(&unit->kill_timer, KILL_AGAIN_MS); /* until it is gone */
}

static void begin(struct unit *unit) {
    unit->stop_began_ms = now_ms(unit);
    if (unit->grace_ms <= 0)
        on_kill_timer(unit);
    else if (hooks_pre_stop(unit))
        loop_timer_set(&unit->kill_timer, unit->grace_ms);
    else
        unit_terminate(unit);
}

static void hurry(struct unit *unit, int64_t grace_ms) {
    if (grace_ms >= unit->grace_ms)
        return;
    unit->grace_ms = grace_ms;
    if (unit->stage == UNIT_RUNNING && grace_ms == 0)
        on_kill_timer(unit);
    else if (unit->stage == UNIT_RUNNING)
        loop_timer_set(&unit->kill_timer, MAX(1, unit->stop_began_ms + unit->grace_ms - now_ms(unit)));
}

void stopping_init(struct unit *unit) {
    loop_timer_init(&unit->kill_timer, unit->pod->node->loop, on_kill_timer, unit);
}

void unit_stop(struct unit *unit, int64_t grace_s, const char *why) {
    int64_t grace_ms = MIN(MAX(grace_s, 0), INT32_MAX) * 1000;
    if (unit->stage == UNIT_PULLING) {
        unit_pull_cancel(unit);
        unit_wait_with(unit, "ContainerCreating", "%s", "");
        return;
    }
    if (!unit_is_busy(unit))
        return;
    if (unit->stopping)
        return hurry(unit, grace_ms);
    unit->stopping = true;
    unit->term_sent = false;
    unit->grace_ms = grace_ms;
    if (why)
        event_pod(unit->pod, unit, "Normal", "Killing", "%s", why);
    if (unit->stage != UNIT_RUNNING)
        return; /* its creation or start is under way: what comes back looks at unit->stopping */
    probing_stopping(unit);
    begin(unit);
}
