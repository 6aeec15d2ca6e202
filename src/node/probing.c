/* The probes of a running container; the requests of its hooks run the same way.
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

void probing_stopping(struct unit *unit) {
    stop_probe(&unit->probes[PROBE_STARTUP]);
    stop_probe(&unit->probes[PROBE_LIVENESS]);
}

/* --- targets --- */

/* A number, or the name of a port of the container; kubelet's words when it is neither. */
static int port_of(const struct unit *unit, const struct kube_int_or_string *port, uint16_t *ret, struct diag *diag) {
    uint64_t number = (uint64_t)port->number;
    bool found = !port->is_string;
    for (size_t i = 0; !found && i < unit->spec->ports.count; i++) {
        const struct kube_container_port *each = &unit->spec->ports.items[i];
        found = each->name && strcmp(each->name, port->text) == 0;
        number = (uint64_t)each->container_port;
    }
    if (!found && slice_parse_u64(slice_of(port->text), UINT32_MAX, &number) < 0)
        return diag_set(diag, -EINVAL, "strconv.Atoi: parsing \"%s\": invalid syntax", port->text);
    if (number == 0 || number > UINT16_MAX)
        return diag_set(diag, -EINVAL, "invalid port number: %" PRId64, (int64_t)number);
    *ret = (uint16_t)number;
    return 0;
}

static const char *host_of(const struct unit *unit, const char *host) {
    if (host && *host)
        return host;
    return *unit->pod->net.address ? unit->pod->net.address : "127.0.0.1";
}

/* Made when the first one needs it. */
static int tls_of(struct node *node, bool http2, struct tls_context **ret, struct diag *diag) {
    static const char *const h2[] = {"h2", NULL};
    const struct tls_options options = {.any_peer = true, .alpn = http2 ? h2 : NULL};
    int r = node->probe_tls[http2] ? 0 : tls_context_new(&options, &node->probe_tls[http2], diag);
    *ret = node->probe_tls[http2];
    return r;
}

static bool is(const char *text, const char *expected) {
    return text && strcmp(text, expected) == 0;
}

static int target_http(const struct unit *unit, const struct kube_http_get_action *action, struct arena *arena, struct probe_target *ret,
                       struct diag *diag) {
    struct http_field *fields = ARENA_ARRAY(arena, struct http_field, action->http_headers.count + 1);
    *ret = (struct probe_target){.method = PROBE_HTTP,
                                 .host = host_of(unit, action->host),
                                 .tls = is(action->scheme, "HTTPS"),
                                 .http2 = is(action->protocol, "HTTP2"),
                                 .path = action->path,
                                 .fields = fields};
    for (size_t i = 0; fields && i < action->http_headers.count; i++)
        fields[i] =
            (struct http_field){action->http_headers.items[i].name, action->http_headers.items[i].value ? action->http_headers.items[i].value : ""};
    int r = fields ? port_of(unit, &action->port, &ret->port, diag) : -ENOMEM;
    if (r == 0 && ret->tls)
        r = tls_of(unit->pod->node, ret->http2, ret->http2 ? &ret->tls_2 : &ret->tls_1, diag);
    return r;
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

static int target_of(const struct unit *unit, const struct kube_probe *spec, struct arena *arena, struct probe_target *ret, struct diag *diag) {
    if (spec->exec)
        return target_command(unit, spec->exec, arena, ret);
    if (spec->http_get)
        return target_http(unit, spec->http_get, arena, ret, diag);
    if (spec->tcp_socket) {
        *ret = (struct probe_target){.method = PROBE_TCP, .host = host_of(unit, spec->tcp_socket->host)};
        return port_of(unit, &spec->tcp_socket->port, &ret->port, diag);
    }
    if (!spec->grpc)
        return diag_set(diag, -EINVAL, "missing probe handler for %s:%s", unit->pod->name, unit->spec->name);
    *ret = (struct probe_target){.method = PROBE_GRPC,
                                 .host = host_of(unit, NULL),
                                 .port = (uint16_t)spec->grpc->port,
                                 .service = spec->grpc->service,
                                 .tls = is(spec->grpc->mode, "TLS")};
    return ret->tls ? tls_of(unit->pod->node, true, &ret->tls_2, diag) : 0;
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

static void tell(const struct unit_probe *it, enum probe_outcome outcome, const char *message) {
    static const char *const formats[] = {[PROBE_WARNING] = "%s probe warning: %s",
                                          [PROBE_FAILURE] = "%s probe failed: %s",
                                          [PROBE_ERROR] = "%s probe errored and resulted in unknown state: %s"};
    char text[1024];
    if (outcome == PROBE_SUCCESS || !it->probe.counted)
        return;
    snprintf(text, sizeof text, formats[outcome], kinds[it->probe.kind].name, message);
    event_pod(it->unit->pod, it->unit, "Warning", outcome == PROBE_WARNING ? "ProbeWarning" : "Unhealthy", "%s", text);
}

static void on_result(void *userdata, enum probe_outcome outcome, const char *message) {
    struct unit_probe *it = userdata;
    struct unit *unit = it->unit;
    bool success = outcome <= PROBE_WARNING, changed = false;
    it->run = NULL;
    unit->probe_results[it->probe.kind][outcome]++;
    if (outcome == PROBE_ERROR)
        probe_step_error(&it->probe, now_ms(unit));
    else
        changed = probe_step(&it->probe, success, now_ms(unit));
    tell(it, outcome, message);
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
    struct diag diag = DIAG_INIT;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    int r = arena ? target_of(it->unit, it->spec, arena, &target, &diag) : -ENOMEM;
    if (r == 0)
        r = probe_run(it->unit->pod->node->loop, &target, probe_timeout_ms(&it->probe), on_result, it, &it->run);
    if (r < 0)
        on_result(it, PROBE_ERROR, diag.message[0] ? diag.message : strerror(-r));
}

int probing_run_handler(struct unit *unit, const struct kube_lifecycle_handler *handler, int64_t timeout_ms, probe_done_fn *done) {
    struct probe_target target;
    struct diag diag = DIAG_INIT;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    int r = !arena          ? -ENOMEM
            : handler->exec ? target_command(unit, handler->exec, arena, &target)
                            : target_http(unit, handler->http_get, arena, &target, &diag);
    target.any_answer = true;
    return r < 0 ? r : probe_run(unit->pod->node->loop, &target, timeout_ms, done, unit, &unit->hook);
}
