/* Whether a container that ended runs again, and when: its own rules by exit code come first, then its own policy, then the pod's; a sidecar always
 * does. Between two runs there is a back-off, in kubelet's words. */
#include "node/node_priv.h"

static bool applies(const struct kube_container_restart_rule *rule, int code) {
    const struct kube_container_restart_rule_on_exit_codes *codes = rule->exit_codes;
    bool listed = false;
    if (!codes || !rule->action || strcmp(rule->action, "Restart") != 0)
        return false;
    for (size_t i = 0; i < codes->values.count; i++)
        listed = listed || codes->values.items[i] == code;
    return codes->operator&& strcmp(codes->operator, "NotIn") == 0 ? !listed : listed;
}

bool unit_wants_restart(const struct unit *unit) {
    const char *own = unit->spec->restart_policy, *policy = own && *own ? own : pod_restart_policy(unit->pod);
    if (unit->is_sidecar || unit->respecified)
        return true;
    for (size_t i = 0; i < unit->spec->restart_policy_rules.count; i++)
        if (applies(&unit->spec->restart_policy_rules.items[i], unit->current.code))
            return true;
    if (unit->killed_by_liveness) /* whatever it said at its end */
        return strcmp(policy, "Never") != 0;
    if (unit->is_init) /* once it has done its work, that is it */
        return unit_failed(unit) && strcmp(policy, "Never") != 0;
    return strcmp(policy, "Always") == 0 || (strcmp(policy, "OnFailure") == 0 && unit_failed(unit));
}

void unit_back_off(struct unit *unit, int64_t delay_ms, int64_t left_ms) {
    char duration[40];
    probe_format_duration(delay_ms, duration, sizeof duration);
    unit_wait_with(unit, "CrashLoopBackOff", "back-off %s restarting failed container=%s pod=%s_%s(%s)", duration, unit->spec->name, unit->pod->name,
                   unit->pod->namespace, unit->pod->uid);
    unit_wake_in(unit, left_ms);
}

void unit_restart(struct unit *unit) {
    if (unit->stage != UNIT_EXITED || unit->container)
        return;
    int64_t ran_ms = (unit->current.finished_ns - unit->current.started_ns) / 1000000;
    int64_t since_ms = MAX(0, loop_wall_ns(unit->pod->node->loop) - unit->current.finished_ns) / 1000000;
    int64_t delay_ms = unit->respecified ? 0 : backoff_next_ms(&unit->backoff, ran_ms);
    unit->last = unit->current;
    unit->current = (struct termination){.set = false};
    if (delay_ms > 0) {
        unit_back_off(unit, delay_ms, MIN(delay_ms, MAX(1, delay_ms - since_ms)));
        event_pod(unit->pod, unit, "Warning", "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)", unit->spec->name,
                  unit->pod->name, unit->pod->namespace, unit->pod->uid);
    } else {
        unit_wait_with(unit, "ContainerCreating", "%s", "");
        unit->start_at_ms = 0;
    }
}
