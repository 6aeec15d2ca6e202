/* The cells of pods. STATUS is one word for a dozen situations; the order of the questions is upstream's (printPod), and people know its answers by
 * heart: Pending, ContainerCreating, Init:0/1, Init:Error, PodInitializing, Running, NotReady, Completed, Error, CrashLoopBackOff, ImagePullBackOff,
 * Terminating, … */
#include "kube/cell_priv.h"

struct summary {
    char reason[256];
    size_t total, ready;
    int64_t restarts;
    struct kube_time last_restart;
};

__attribute__((format(printf, 2, 3))) static void say(struct summary *summary, const char *format, ...) {
    va_list args;
    struct buffer text = BUFFER_INIT(sizeof summary->reason - 1);
    va_start(args, format);
    buffer_vprintf(&text, format, args);
    va_end(args);
    if (text.data && buffer_error(&text) == 0)
        memcpy(summary->reason, text.data, text.len + 1);
    buffer_deinit(&text);
}

static void count_restarts(struct summary *summary, const struct kube_container_status *status) {
    const struct kube_container_state_terminated *ended = status->last_state.terminated;
    summary->restarts += status->restart_count;
    if (ended && ended->finished_at.set && (!summary->last_restart.set || summary->last_restart.ns < ended->finished_at.ns))
        summary->last_restart = ended->finished_at;
}

static bool is_sidecar(const struct kube_pod *pod, const char *name) {
    for (size_t i = 0; i < pod->spec.init_containers.count; i++)
        if (name && kube_text_is(pod->spec.init_containers.items[i].name, name))
            return kube_text_is(pod->spec.init_containers.items[i].restart_policy, "Always");
    return false;
}

static void say_ended(struct summary *summary, const char *prefix, const struct kube_container_state_terminated *ended) {
    if (ended->reason)
        say(summary, "%s%s", prefix, ended->reason);
    else if (ended->signal != 0)
        say(summary, "%sSignal:%" PRId32, prefix, ended->signal);
    else
        say(summary, "%sExitCode:%" PRId32, prefix, ended->exit_code);
}

/* Whether an init container still holds the pod back. */
static bool summarize_init(struct summary *summary, struct summary *sidecars, const struct kube_pod *pod) {
    for (size_t i = 0; i < pod->status.init_container_statuses.count; i++) {
        const struct kube_container_status *status = &pod->status.init_container_statuses.items[i];
        const struct kube_container_state_waiting *waiting = status->state.waiting;
        bool sidecar = is_sidecar(pod, status->name);
        count_restarts(summary, status);
        if (sidecar)
            count_restarts(sidecars, status);
        if (status->state.terminated && status->state.terminated->exit_code == 0)
            continue;
        if (sidecar && status->started && *status->started) {
            summary->ready += status->ready;
            continue;
        }
        if (status->state.terminated)
            say_ended(summary, "Init:", status->state.terminated);
        else if (waiting && waiting->reason && strcmp(waiting->reason, "PodInitializing") != 0)
            say(summary, "Init:%s", waiting->reason);
        else
            say(summary, "Init:%zu/%zu", i, pod->spec.init_containers.count);
        return true;
    }
    return false;
}

static bool condition_is(const struct kube_pod *pod, const char *type) {
    for (size_t i = 0; i < pod->status.conditions.count; i++)
        if (kube_text_is(pod->status.conditions.items[i].type, type))
            return kube_text_is(pod->status.conditions.items[i].status, "True");
    return false;
}

static void summarize_containers(struct summary *summary, const struct kube_pod *pod) {
    bool running = false;
    for (size_t i = pod->status.container_statuses.count; i-- > 0;) {
        const struct kube_container_status *status = &pod->status.container_statuses.items[i];
        count_restarts(summary, status);
        if (status->state.waiting && status->state.waiting->reason)
            say(summary, "%s", status->state.waiting->reason);
        else if (status->state.terminated)
            say_ended(summary, "", status->state.terminated);
        else if (status->ready && status->state.running) {
            running = true;
            summary->ready++;
        }
    }
    if (strcmp(summary->reason, "Completed") == 0 && running)
        say(summary, "%s", condition_is(pod, "Ready") ? "Running" : "NotReady");
}

static bool scheduling_gated(const struct kube_pod *pod) {
    for (size_t i = 0; i < pod->status.conditions.count; i++)
        if (kube_text_is(pod->status.conditions.items[i].type, "PodScheduled") &&
            kube_text_is(pod->status.conditions.items[i].reason, "SchedulingGated"))
            return true;
    return false;
}

static struct summary summarize(const struct kube_pod *pod) {
    struct summary summary = {.total = pod->spec.containers.count}, sidecars = {.total = 0};
    const char *phase = kube_text_or(pod->status.phase, "");
    bool over = strcmp(phase, "Failed") == 0 || strcmp(phase, "Succeeded") == 0;
    say(&summary, "%s", pod->status.reason ? pod->status.reason : scheduling_gated(pod) ? "SchedulingGated" : phase);
    for (size_t i = 0; i < pod->spec.init_containers.count; i++)
        summary.total += kube_text_is(pod->spec.init_containers.items[i].restart_policy, "Always");
    bool initializing = summarize_init(&summary, &sidecars, pod);
    if (!initializing || condition_is(pod, "Initialized")) {
        summary.restarts = sidecars.restarts;
        summary.last_restart = sidecars.last_restart;
        summarize_containers(&summary, pod);
    }
    if (pod->metadata.deletion_timestamp.set && kube_text_is(pod->status.reason, "NodeLost"))
        say(&summary, "Unknown");
    else if (pod->metadata.deletion_timestamp.set && !over)
        say(&summary, "Terminating");
    return summary;
}

CELL(pod_ready) {
    struct summary summary = summarize(object->pod);
    return tree_printf(arena, "%zu/%zu", summary.ready, summary.total);
}

CELL(pod_status) {
    struct summary summary = summarize(object->pod);
    return tree_text(arena, summary.reason);
}

CELL(pod_restarts) {
    struct summary summary = summarize(object->pod);
    if (summary.restarts == 0 || !summary.last_restart.set)
        return tree_printf(arena, "%" PRId64, summary.restarts);
    return tree_printf(arena, "%" PRId64 " (%s ago)", summary.restarts, cell_since(arena, summary.last_restart, now_ns));
}

CELL(pod_ip) {
    const struct kube_pod_status *status = &object->pod->status;
    return cell_text(arena, status->pod_ips.count > 0 ? status->pod_ips.items[0].ip : status->pod_ip, "<none>");
}
CELL(node_name) {
    return cell_text(arena, object->pod->spec.node_name, "<none>");
}
CELL(nominated_node) {
    return cell_text(arena, object->pod->status.nominated_node_name, "<none>");
}

CELL(readiness_gates) {
    const struct kube_pod *pod = object->pod;
    size_t good = 0;
    if (pod->spec.readiness_gates.count == 0)
        return tree_text(arena, "<none>");
    for (size_t i = 0; i < pod->spec.readiness_gates.count; i++)
        good += condition_is(pod, kube_text_or(pod->spec.readiness_gates.items[i].condition_type, ""));
    return tree_printf(arena, "%zu/%zu", good, pod->spec.readiness_gates.count);
}
