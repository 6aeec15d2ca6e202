/* The role: wires informers, the proxy and the metrics endpoint into one loop.
 *
 * Start: routes first, then accept. Connections wait in the kernel's backlog until the first lists are there (a restart of the gateway answers nobody
 * with "no routes yet"), but no longer than FIRST_SYNC_MS: then those that come are told so. Running: any change of an Ingress, Service or
 * EndpointSlice schedules one rebuild at the end of the turn. When core is away the informers keep what they know, and so does the proxy. End:
 * SIGTERM drains; a second one, or drain_timeout_ms, ends at once. */
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "client/client.h"
#include "gateway/gateway.h"
#include "gateway/routing_priv.h"
#include "gateway/sandbox_priv.h"
#include "http/http.h"
#include "loop/loop.h"

#define FIRST_SYNC_MS 10000
#define METRICS_BYTES_MAX (8 * MIB)
#define RETRY_MS 1000

struct gateway {
    const struct gateway_options *options;
    struct loop *loop;
    struct loop_signal *signals;
    struct client *client;
    struct informer *ingresses, *services, *slices;
    struct proxy *proxy;
    struct routing routing;
    struct http_server *server;
    struct loop_defer rebuild;
    struct loop_timer listen_timer, drain_timer, retry_timer;
    bool listening, synced, draining;
    uint64_t rebuilds;
    int64_t rebuild_ns; /* what the last one took */
};

/* --- objects to routes --- */

static int objects_collect(const struct informer *informer, routing_objects *objects) {
    struct kube_object *object;
    for (size_t at = 0; (object = informer_next(informer, &at));) {
        int error = VECTOR_PUSH(objects, object);
        if (error < 0)
            return error;
    }
    return 0;
}

static int listen_all(struct gateway *gateway) {
    int error = 0;
    for (size_t i = 0; !gateway->listening && error == 0 && i < gateway->options->http_fds_count; i++)
        error = proxy_listen(gateway->proxy, gateway->options->http_fds[i], false);
    gateway->listening = true;
    loop_timer_cancel(&gateway->listen_timer);
    return error;
}

static void on_rebuild(void *userdata) {
    struct gateway *gateway = userdata;
    if (!informer_synced(gateway->ingresses) || !informer_synced(gateway->services) || !informer_synced(gateway->slices))
        return;
    int64_t started_ns = sys_monotonic_ns();
    struct routing_input input = {0};
    int error = objects_collect(gateway->ingresses, &input.ingresses);
    if (error == 0)
        error = objects_collect(gateway->services, &input.services);
    if (error == 0)
        error = objects_collect(gateway->slices, &input.slices);
    if (error == 0)
        error = routing_apply(&gateway->routing, gateway->proxy, &input);
    VECTOR_DEINIT(&input.ingresses);
    VECTOR_DEINIT(&input.services);
    VECTOR_DEINIT(&input.slices);
    if (error < 0) {
        log_error("routes stay as they were: %s", strerror(-error));
        loop_timer_set(&gateway->retry_timer, RETRY_MS);
        return;
    }
    gateway->rebuild_ns = sys_monotonic_ns() - started_ns;
    gateway->rebuilds++;
    if (!gateway->synced)
        log_info("routes learned ingresses=%zu upstreams=%zu", informer_count(gateway->ingresses), gateway->routing.upstreams.count);
    gateway->synced = true;
    if (!gateway->draining && !gateway->listening && listen_all(gateway) < 0)
        log_error("cannot listen");
}

static void on_retry(void *userdata) {
    on_rebuild(userdata);
}

static void on_event(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    (void)event, (void)object, (void)old;
    loop_defer_schedule(&((struct gateway *)userdata)->rebuild);
}

static void on_synced(void *userdata) {
    loop_defer_schedule(&((struct gateway *)userdata)->rebuild);
}

static void on_listen_timer(void *userdata) {
    struct gateway *gateway = userdata;
    log_warning("no routes learned yet: answering 503 until core is there");
    if (listen_all(gateway) < 0)
        log_error("cannot listen");
}

/* --- metrics and health --- */

static void handle(void *userdata, struct http_exchange *exchange) {
    struct gateway *gateway = userdata;
    struct slice path = http_path(exchange);
    if (slice_is(path, "/healthz") || slice_is(path, "/livez")) {
        http_respond_text(exchange, 200, "ok\n");
    } else if (slice_is(path, "/readyz")) {
        if (gateway->synced && !gateway->draining)
            http_respond_text(exchange, 200, "ok\n");
        else
            http_respond_text(exchange, 503, "%s\n", gateway->draining ? "draining" : "no routes learned yet");
    } else if (slice_is(path, "/metrics")) {
        CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(METRICS_BYTES_MAX);
        proxy_format_metrics(gateway->proxy, &out);
        buffer_printf(&out,
                      "# HELP tidemill_gateway_rebuilds_total Route snapshots built.\n# TYPE tidemill_gateway_rebuilds_total "
                      "counter\ntidemill_gateway_rebuilds_total %" PRIu64 "\n",
                      gateway->rebuilds);
        buffer_printf(&out,
                      "# HELP tidemill_gateway_rebuild_seconds Time of the last one.\n# TYPE tidemill_gateway_rebuild_seconds "
                      "gauge\ntidemill_gateway_rebuild_seconds %.6f\n",
                      (double)gateway->rebuild_ns / 1e9);
        if (buffer_error(&out) < 0)
            http_respond_text(exchange, 500, "too many metrics\n");
        else
            http_respond(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", buffer_slice(&out), NULL);
    } else {
        http_respond_text(exchange, 404, "not here: /metrics, /healthz, /readyz\n");
    }
}

/* --- the end --- */

static void on_drained(void *userdata) {
    log_info("drained");
    loop_stop(((struct gateway *)userdata)->loop);
}

static void on_drain_timer(void *userdata) {
    struct gateway *gateway = userdata;
    struct proxy_stats stats;
    proxy_stats_get(gateway->proxy, &stats);
    log_warning("draining takes too long: closing connections=%zu requests=%zu", stats.connections, stats.requests_in_flight);
    loop_stop(gateway->loop);
}

static void on_signal(void *userdata, int signal) {
    (void)signal;
    struct gateway *gateway = userdata;
    if (gateway->draining) {
        loop_stop(gateway->loop);
        return;
    }
    gateway->draining = true;
    loop_timer_cancel(&gateway->listen_timer);
    loop_timer_set(&gateway->drain_timer, gateway->options->drain_timeout_ms > 0 ? gateway->options->drain_timeout_ms : 10000);
    proxy_drain(gateway->proxy, on_drained, gateway);
}

/* --- the whole --- */

static int informers_start(struct gateway *gateway) {
    const struct informer_options options = {.on_event = on_event, .on_synced = on_synced, .userdata = gateway};
    int error = informer_new(gateway->client, &kube_kind_ingress, &options, &gateway->ingresses);
    if (error == 0)
        error = informer_new(gateway->client, &kube_kind_service, &options, &gateway->services);
    return error < 0 ? error : informer_new(gateway->client, &kube_kind_endpoint_slice, &options, &gateway->slices);
}

static int gateway_start(struct gateway *gateway, struct diag *diag) {
    const struct gateway_options *options = gateway->options;
    static const int signals[] = {SIGTERM, SIGINT, 0};
    int error = loop_new(&gateway->loop);
    if (error < 0)
        return diag_set(diag, error, "the event loop cannot start: %s", strerror(-error));
    loop_defer_init(&gateway->rebuild, gateway->loop, on_rebuild, gateway);
    loop_timer_init(&gateway->listen_timer, gateway->loop, on_listen_timer, gateway);
    loop_timer_init(&gateway->drain_timer, gateway->loop, on_drain_timer, gateway);
    loop_timer_init(&gateway->retry_timer, gateway->loop, on_retry, gateway);
    const struct proxy_options proxy_options = {.hold_timeout_ms = options->hold_timeout_ms};
    error = loop_signal_new(gateway->loop, signals, on_signal, gateway, &gateway->signals);
    if (error == 0)
        error = proxy_new(gateway->loop, &proxy_options, &gateway->proxy);
    const struct http_server_options server_options = {.handler = handle, .userdata = gateway, .connections_max = 64};
    if (error == 0 && options->metrics_fd >= 0)
        error = http_server_new(gateway->loop, options->metrics_fd, &server_options, &gateway->server);
    if (error < 0)
        return diag_set(diag, error, "the gateway cannot start: %s", strerror(-error));
    error = client_new(gateway->loop, &(struct client_options){.endpoint = options->api_endpoint}, &gateway->client, diag);
    if (error == 0)
        error = informers_start(gateway);
    return error < 0 ? error : loop_timer_set(&gateway->listen_timer, FIRST_SYNC_MS);
}

static void gateway_stop(struct gateway *gateway) {
    struct informer *informers[] = {gateway->ingresses, gateway->services, gateway->slices};
    for (size_t i = 0; i < ARRAY_LEN(informers); i++)
        if (informers[i])
            informer_free(informers[i]);
    if (gateway->client)
        client_free(gateway->client);
    http_server_free(gateway->server);
    routing_deinit(&gateway->routing);
    proxy_free(gateway->proxy);
    if (gateway->signals)
        loop_signal_free(gateway->signals);
    loop_defer_cancel(&gateway->rebuild);
    loop_timer_cancel(&gateway->listen_timer);
    loop_timer_cancel(&gateway->drain_timer);
    loop_timer_cancel(&gateway->retry_timer);
    loop_free(gateway->loop);
}

static int confine(const struct gateway_options *options, struct diag *diag) {
    tzset(); /* reads a file: before files are out of reach */
    int error = sandbox_drop_root(options->uid, options->gid);
    if (error < 0)
        return diag_set(diag, error, "cannot become user %u: %s", (unsigned)options->uid, strerror(-error));
    if (options->no_sandbox)
        return 0;
    error = sandbox_enter();
    return error < 0 ? diag_set(diag, error, "the system call filter cannot be loaded: %s", strerror(-error)) : 0;
}

int gateway_run(const struct gateway_options *options, struct diag *diag) {
    struct gateway gateway = {.options = options};
    int error = gateway_start(&gateway, diag);
    if (error == 0)
        error = confine(options, diag);
    if (error == 0)
        error = loop_run(gateway.loop);
    gateway_stop(&gateway);
    return error;
}
