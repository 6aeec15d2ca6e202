/* The probes of a running container, and its hooks, which run the same way.
 *
 * The startup probe runs first and alone; the others begin when it has passed. A container is started when its startup probe passed (or it has none),
 * and ready when it is started and its readiness probe says so (or it has none). A container that is taken over after a restart of the node keeps the
 * verdicts it had, so that nothing flaps. */
#include "http/http.h"
#include "node/node_priv.h"

static const struct {
    enum probe_kind kind;
    const char *name, *verb;
} kinds[] = {{PROBE_STARTUP, "Startup", "startup"}, {PROBE_LIVENESS, "Liveness", "liveness"}, {PROBE_READINESS, "Readiness", "readiness"}};

static void on_due(void *userdata);

static struct unit_probe *probe_of(struct unit *unit, enum probe_kind kind) {
    return unit->probes[kind].spec ? &unit->probes[kind] : NULL;
}

static int64_t now_ms(const struct unit *unit) {
    return loop_now_ns(unit->pod->node->loop) / 1000000;
}

static void schedule(struct unit_probe *it) {
    loop_timer_set(&it->timer, MAX(0, it->probe.due_ms - now_ms(it->unit)));
}

static void stop_probe(struct unit_probe *it) {
    if (!it->spec)
        return;
    loop_timer_cancel(&it->timer);
    probe_run_cancel(it->run);
    it->run = NULL;
}

/* Those that wait for the startup probe. */
static void begin_rest(struct unit *unit) {
    struct unit_probe *readiness = probe_of(unit, PROBE_READINESS), *liveness = probe_of(unit, PROBE_LIVENESS);
    unit->started = true;
    if (!readiness)
        unit->ready = true;
    if (readiness)
        schedule(readiness);
    if (liveness)
        schedule(liveness);
}

static const struct kube_probe *spec_of(const struct unit *unit, enum probe_kind kind) {
    const struct kube_probe *const specs[] = {unit->spec->startup_probe, unit->spec->liveness_probe, unit->spec->readiness_probe};
    return specs[kind];
}

/* Probes cannot change, only be somewhere else in memory. */
void probing_respecify(struct unit *unit) {
    for (size_t i = 0; i < ARRAY_LEN(unit->probes); i++)
        if (unit->probes[i].spec)
            unit->probes[i].spec = spec_of(unit, (enum probe_kind)i);
}

void probing_begin(struct unit *unit) {
    bool was_started = unit->started, was_ready = unit->ready;
    for (size_t i = 0; i < ARRAY_LEN(unit->probes); i++) {
        struct unit_probe *it = &unit->probes[i];
        const struct kube_probe *spec = spec_of(unit, (enum probe_kind)i);
        *it = (struct unit_probe){.unit = unit, .spec = spec};
        if (!spec)
            continue;
        const struct probe_timing timing = {spec->initial_delay_seconds, spec->period_seconds, spec->timeout_seconds, spec->success_threshold,
                                            spec->failure_threshold};
        loop_timer_init(&it->timer, unit->pod->node->loop, on_due, it);
        probe_init(&it->probe, (enum probe_kind)i, &timing, unit->started_ms);
    }
    if (probe_of(unit, PROBE_READINESS) && was_ready)
        unit->probes[PROBE_READINESS].probe.is_healthy = unit->probes[PROBE_READINESS].probe.was_healthy = true;
    struct unit_probe *startup = probe_of(unit, PROBE_STARTUP);
    if (startup && !was_started)
        schedule(startup);
    else
        begin_rest(unit);
}

void probing_end(struct unit *unit) {
    for (size_t i = 0; i < ARRAY_LEN(unit->probes); i++)
        stop_probe(&unit->probes[i]);
}

void probing_deinit(struct unit *unit) {
    probing_end(unit);
}

/* --- targets --- */

static uint16_t port_of(const struct unit *unit, const struct kube_int_or_string *port) {
    uint64_t number;
    if (!port->is_string)
        return (uint16_t)port->number;
    for (size_t i = 0; i < unit->spec->ports.count; i++)
        if (unit->spec->ports.items[i].name && strcmp(unit->spec->ports.items[i].name, port->text) == 0)
            return (uint16_t)unit->spec->ports.items[i].container_port;
    return slice_parse_u64(slice_of(port->text), 65535, &number) == 0 ? (uint16_t)number : 0;
}

static const char *host_of(const struct unit *unit, const char *host) {
    if (host && *host)
        return host;
    return *unit->pod->net.address ? unit->pod->net.address : "127.0.0.1";
}

static int target_http(const struct unit *unit, const struct kube_http_get_action *action, struct arena *arena, struct probe_target *ret) {
    struct http_field *fields = NULL;
    ret->method = action->scheme && strcmp(action->scheme, "HTTPS") == 0
                      ? PROBE_TCP
                      : PROBE_HTTP; /* certificates are not checked anyway: reachable is what counts */
    ret->host = host_of(unit, action->host);
    ret->port = port_of(unit, &action->port);
    ret->path = !action->path || !*action->path ? "/" : *action->path == '/' ? action->path : arena_printf(arena, "/%s", action->path);
    if (action->http_headers.count) {
        fields = ARENA_ARRAY(arena, struct http_field, action->http_headers.count + 1);
        for (size_t i = 0; fields && i < action->http_headers.count; i++)
            fields[i] = (struct http_field){action->http_headers.items[i].name,
                                            action->http_headers.items[i].value ? action->http_headers.items[i].value : ""};
    }
    ret->fields = fields;
    return ret->path && (fields || !action->http_headers.count) ? 0 : -ENOMEM;
}

static int target_command(const struct unit *unit, const struct kube_exec_action *action, struct arena *arena, struct probe_target *ret) {
    const char **args = ARENA_ARRAY(arena, const char *, action->command.count + 1);
    if (!args)
        return -ENOMEM;
    for (size_t i = 0; i < action->command.count; i++)
        args[i] = action->command.items[i];
    *ret = (struct probe_target){.method = PROBE_COMMAND, .containers = unit->pod->node->containers, .container_id = unit->id, .args = args};
    return 0;
}

static int target_of(const struct unit *unit, const struct kube_exec_action *exec, const struct kube_http_get_action *http,
                     const struct kube_tcp_socket_action *tcp, const struct kube_grpc_action *grpc, struct arena *arena, struct probe_target *ret) {
    *ret = (struct probe_target){.method = PROBE_TCP};
    if (exec)
        return target_command(unit, exec, arena, ret);
    if (http)
        return target_http(unit, http, arena, ret);
    if (tcp) {
        ret->host = host_of(unit, tcp->host);
        ret->port = port_of(unit, &tcp->port);
        return 0;
    }
    if (!grpc)
        return -EINVAL;
    ret->host = host_of(unit, NULL); /* without gRPC's health protocol yet: the port answers */
    ret->port = (uint16_t)grpc->port;
    return 0;
}

/* --- results --- */

static void container_failed(struct unit_probe *it) {
    struct unit *unit = it->unit;
    char why[300];
    int64_t grace_s = it->spec->termination_grace_period_seconds ? *it->spec->termination_grace_period_seconds : unit->pod->grace_s;
    snprintf(why, sizeof why, "Container %s failed %s probe, will be restarted", unit->spec->name, kinds[it->probe.kind].verb);
    unit->killed_by_liveness = true;
    unit_stop(unit, grace_s, why);
}

static void on_result(void *userdata, bool success, const char *message) {
    struct unit_probe *it = userdata;
    struct unit *unit = it->unit;
    it->run = NULL;
    bool changed = probe_step(&it->probe, success, now_ms(unit));
    if (!success && it->probe.counted)
        event_pod(unit->pod, unit, "Warning", "Unhealthy", "%s probe failed: %s", kinds[it->probe.kind].name, message);
    if (it->probe.kind == PROBE_STARTUP && changed && success) {
        stop_probe(it);
        begin_rest(unit);
    } else if (changed && !success && it->probe.kind != PROBE_READINESS) {
        container_failed(it);
        return;
    } else {
        schedule(it);
    }
    if (it->probe.kind == PROBE_READINESS && changed)
        unit->ready = it->probe.is_healthy;
    if (changed) {
        record_save(unit->pod);
        pod_sync_later(unit->pod);
    }
}

static void on_due(void *userdata) {
    struct unit_probe *it = userdata;
    struct probe_target target;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    const struct kube_probe *spec = it->spec;
    int r = arena ? target_of(it->unit, spec->exec, spec->http_get, spec->tcp_socket, spec->grpc, arena, &target) : -ENOMEM;
    if (r == 0)
        r = probe_run(it->unit->pod->node->loop, &target, probe_timeout_ms(&it->probe), on_result, it, &it->run);
    if (r < 0)
        on_result(it, false, strerror(-r));
}

bool probing_run_hook(struct unit *unit, const struct kube_lifecycle_handler *handler, int64_t timeout_ms, probe_done_fn *done) {
    struct probe_target target;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    int r = arena ? target_of(unit, handler->exec, handler->http_get, handler->tcp_socket, NULL, arena, &target) : -ENOMEM;
    if (r == 0)
        r = probe_run(unit->pod->node->loop, &target, timeout_ms ? timeout_ms : 24 * 3600 * INT64_C(1000), done, unit, &unit->hook);
    return r == 0;
}
