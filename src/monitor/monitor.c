/* The role: wires informers, scrapes, the store and the HTTP API into one loop.
 *
 * A change of a pod, a service or an endpoint slice schedules one discovery at the end of the turn; when core is away the targets stay as they are.
 * Nothing is written to disk. Expiry runs once a minute, only while there is something to expire (there always is a target: the platform itself). */
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "monitor/monitor_priv.h"

#define EXPIRE_MS 60000
#define DISCOVERY_BYTES_MAX (4 * MIB)
#define INTERVAL_DEFAULT_MS 15000

/* --- discovery --- */

static int discover_services(struct monitor *monitor, struct arena *arena, target_specs *specs) {
    const struct kube_object *service, *slice;
    for (size_t at = 0; (service = informer_next(monitor->services, &at));) {
        if (!kube_map_find(&service->metadata->annotations, "prometheus.io/scrape"))
            continue;
        for (size_t slice_at = 0; (slice = informer_next(monitor->slices, &slice_at));) {
            int error = discover_service(arena, service, slice, specs);
            if (error < 0)
                return error;
        }
    }
    return 0;
}

static int discover_all(struct monitor *monitor, struct arena *arena, target_specs *specs) {
    int error = 0;
    for (size_t i = 0; error == 0 && i < monitor->options->targets_count; i++)
        error = discover_static(arena, &monitor->options->targets[i], specs);
    const struct kube_object *pod;
    for (size_t at = 0; error == 0 && monitor->pods && (pod = informer_next(monitor->pods, &at));)
        error = discover_pod(arena, pod, specs);
    return error == 0 && monitor->services && monitor->slices ? discover_services(monitor, arena, specs) : error;
}

static void on_discovery(void *userdata) {
    struct monitor *monitor = userdata;
    CLEANUP(arena_freep) struct arena *arena = arena_new(DISCOVERY_BYTES_MAX);
    target_specs specs = {0};
    int error = arena ? discover_all(monitor, arena, &specs) : -ENOMEM;
    if (error == 0)
        targets_set(monitor, &specs);
    else
        log_error("targets stay as they were: %s", strerror(-error));
    VECTOR_DEINIT(&specs);
}

static void on_event(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    (void)event, (void)object, (void)old;
    loop_defer_schedule(&((struct monitor *)userdata)->discovery);
}

static void on_expire(void *userdata) {
    struct monitor *monitor = userdata;
    tsdb_expire(monitor->tsdb, loop_wall_ns(monitor->loop) / 1000000);
    loop_timer_set(&monitor->expire_timer, EXPIRE_MS);
}

/* --- the whole --- */

static void on_signal(void *userdata, int signal) {
    (void)signal;
    loop_stop(((struct monitor *)userdata)->loop);
}

static int informers_start(struct monitor *monitor) {
    const struct informer_options options = {.on_event = on_event, .userdata = monitor};
    int error = informer_new(monitor->client, &kube_kind_pod, &options, &monitor->pods);
    if (error == 0)
        error = informer_new(monitor->client, &kube_kind_service, &options, &monitor->services);
    return error < 0 ? error : informer_new(monitor->client, &kube_kind_endpoint_slice, &options, &monitor->slices);
}

static int monitor_start(struct monitor *monitor, struct diag *diag) {
    const struct monitor_options *options = monitor->options;
    static const int signals[] = {SIGTERM, SIGINT, 0};
    int error = loop_new(&monitor->loop);
    if (error < 0)
        return diag_set(diag, error, "the event loop cannot start: %s", strerror(-error));
    loop_defer_init(&monitor->discovery, monitor->loop, on_discovery, monitor);
    loop_timer_init(&monitor->expire_timer, monitor->loop, on_expire, monitor);
    error = loop_signal_new(monitor->loop, signals, on_signal, monitor, &monitor->signals);
    if (error == 0)
        error = tsdb_new(&(struct tsdb_options){.bytes_max = options->memory_bytes_max, .retention_ms = options->retention_ms}, &monitor->tsdb);
    const struct http_server_options server_options = {.handler = query_handle, .userdata = monitor, .connections_max = 200};
    if (error == 0 && options->listen_fd >= 0)
        error = http_server_new(monitor->loop, options->listen_fd, &server_options, &monitor->server);
    if (error == 0)
        error = loop_timer_set(&monitor->expire_timer, EXPIRE_MS);
    if (error < 0)
        return diag_set(diag, error, "the monitor cannot start: %s", strerror(-error));
    loop_defer_schedule(&monitor->discovery);
    if (!options->api_endpoint)
        return 0;
    error = client_new(monitor->loop, &(struct client_options){.endpoint = options->api_endpoint}, &monitor->client, diag);
    return error < 0 ? error : informers_start(monitor);
}

static void monitor_stop(struct monitor *monitor) {
    struct informer *informers[] = {monitor->pods, monitor->services, monitor->slices};
    for (size_t i = 0; i < ARRAY_LEN(informers); i++)
        if (informers[i])
            informer_free(informers[i]);
    if (monitor->client)
        client_free(monitor->client);
    http_server_free(monitor->server);
    targets_free(monitor);
    tsdb_free(monitor->tsdb);
    if (monitor->signals)
        loop_signal_free(monitor->signals);
    loop_defer_cancel(&monitor->discovery);
    loop_timer_cancel(&monitor->expire_timer);
    loop_free(monitor->loop);
}

static int drop_root(const struct monitor_options *options, struct diag *diag) {
    if (geteuid() != 0 || options->uid == 0)
        return 0;
    if (setgroups(0, NULL) < 0 || setresgid(options->gid, options->gid, options->gid) < 0 || setresuid(options->uid, options->uid, options->uid) < 0)
        return diag_set(diag, -errno, "cannot become user %u: %s", (unsigned)options->uid, strerror(errno));
    return 0;
}

int monitor_run(const struct monitor_options *options, struct diag *diag) {
    struct monitor monitor = {.options = options, .interval_ms = options->scrape_interval_ms > 0 ? options->scrape_interval_ms : INTERVAL_DEFAULT_MS};
    int error = drop_root(options, diag);
    if (error == 0)
        error = monitor_start(&monitor, diag);
    if (error == 0)
        error = loop_run(monitor.loop);
    monitor_stop(&monitor);
    return error;
}
