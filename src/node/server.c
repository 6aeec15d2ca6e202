/* The node's socket, as kubelet's: /containerLogs, /exec, /attach and /portforward for core, /pods, /runningpods, /metrics and /healthz for who
 * looks. Only core and root can open the socket; who may see which log was decided there. */
#include "http/http.h"
#include "node/measure_priv.h"
#include "sys/sys.h"

#define METRICS_BYTES_MAX (16 * MIB)
#define PODS_BYTES_MAX (32 * MIB)
#define STATS_FILES_AGE_MS 10000
#define BEAT_MS 15000 /* core gives up on a silent node after more than two of them */

static void respond_status(struct http_exchange *exchange, int code, const char *reason, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void respond_status(struct http_exchange *exchange, int code, const char *reason, const char *format, ...) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(16 * KIB);
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    buffer_append_text(&out, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":");
    json_format_string(&out, slice_of(message));
    buffer_printf(&out, ",\"reason\":\"%s\",\"code\":%d}\n", reason, code);
    http_respond(exchange, code, "application/json", buffer_slice(&out), NULL);
}

/* The next path segment, decoded, in the exchange's arena; NULL when it is missing or bad. */
static const char *segment(struct http_exchange *exchange, struct slice *rest) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(1024);
    struct slice part = rest->data ? slice_cut(rest, '/') : (struct slice){0};
    if (part.len == 0 || percent_decode(&text, part, false) < 0)
        return NULL;
    return arena_dup(http_exchange_arena(exchange), buffer_slice(&text));
}

static void respond_metrics(struct http_exchange *exchange, int error, const struct buffer *out) {
    if (error < 0)
        http_respond_text(exchange, 500, "too many containers to measure\n");
    else
        http_respond(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", buffer_slice(out), NULL);
}

static bool serve_metrics(struct node *node, struct http_exchange *exchange) {
    static const struct {
        const char *path;
        int (*format)(struct node *node, struct buffer *out);
    } pages[] = {{"/metrics", metrics_format}, {"/metrics/resource", resource_metrics_format}, {"/metrics/probes", probe_metrics_format}};
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(METRICS_BYTES_MAX);
    struct query only;
    if (slice_is(http_path(exchange), "/metrics/cadvisor")) {
        int r = query_parse(http_exchange_arena(exchange), http_query_text(exchange), &only);
        return respond_metrics(exchange, r < 0 ? r : cadvisor_format(node, &only, &out), &out), true;
    }
    for (size_t i = 0; i < ARRAY_LEN(pages); i++)
        if (slice_is(http_path(exchange), pages[i].path))
            return respond_metrics(exchange, pages[i].format(node, &out), &out), true;
    return false;
}

static void respond_stats(struct node *node, struct http_exchange *exchange, bool brief) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(METRICS_BYTES_MAX);
    int r = stats_format(node, brief, &out);
    if (r < 0)
        respond_status(exchange, 500, "InternalError", "what is used cannot be told: %s", strerror(-r));
    else
        http_respond(exchange, 200, "application/json", buffer_slice(&out), NULL);
}

/* An answer that waits until files have been counted. */
struct stats_waiter {
    struct disk_waiter waiter;
    struct node *node;
    struct http_exchange *exchange;
};

static void on_files_counted(struct disk_waiter *waiter) {
    struct stats_waiter *stats = CONTAINER_OF(waiter, struct stats_waiter, waiter);
    list_init(&waiter->node); /* on no list any more */
    respond_stats(stats->node, stats->exchange, false);
}

static void on_stats_closed(void *userdata, __attribute__((unused)) struct http_exchange *exchange, __attribute__((unused)) bool complete) {
    struct stats_waiter *stats = userdata;
    list_remove(&stats->waiter.node);
    free(stats);
}

static void serve_stats(struct node *node, struct http_exchange *exchange) {
    struct query query;
    bool brief = query_parse(http_exchange_arena(exchange), http_query_text(exchange), &query) == 0 && query_flag(&query, "only_cpu_and_memory");
    struct stats_waiter *stats = brief ? NULL : calloc(1, sizeof *stats);
    if (!stats)
        return respond_stats(node, exchange, brief);
    *stats = (struct stats_waiter){.waiter.on_counted = on_files_counted, .node = node, .exchange = exchange};
    list_init(&stats->waiter.node);
    http_on_close(exchange, on_stats_closed, stats);
    if (!measure_files(node, STATS_FILES_AGE_MS, &stats->waiter))
        respond_stats(node, exchange, false);
}

/* In kubelet's form: who it is, and which of its containers run. */
static void put_running_pod(const struct pod *pod, struct buffer *out) {
    const char *lead = "";
    buffer_printf(out, "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\",\"uid\":\"%s\"},\"spec\":{\"containers\":[", pod->name, pod->namespace,
                  pod->uid);
    for (size_t i = 0; i < pod->units_count; i++) {
        if (pod->units[i]->stage != UNIT_RUNNING)
            continue;
        buffer_printf(out, "%s{\"name\":\"%s\",\"image\":", lead, pod->units[i]->spec->name);
        json_format_string(out, slice_of(pod->units[i]->spec->image));
        buffer_append_text(out, ",\"resources\":{}}");
        lead = ",";
    }
    buffer_append_text(out, "]},\"status\":{}}");
}

static bool is_running(const struct pod *pod) {
    for (size_t i = 0; i < pod->units_count; i++)
        if (pod->units[i]->stage == UNIT_RUNNING)
            return true;
    return false;
}

/* The pods that the node has, as it knows them; or what runs of them. */
static void serve_pods(struct node *node, struct http_exchange *exchange, bool running) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(PODS_BYTES_MAX);
    const char *lead = "";
    void *value;
    buffer_append_text(&out, "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":[");
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);) {
        const struct pod *pod = value;
        if (running && !is_running(pod))
            continue;
        buffer_append_text(&out, lead);
        lead = ",";
        if (running)
            put_running_pod(pod, &out);
        else
            kube_encode_json(pod->object ? pod->object : pod->spec_object, &out);
    }
    buffer_append_text(&out, "]}\n");
    if (buffer_error(&out) < 0)
        respond_status(exchange, 500, "InternalError", "the pods take more than %zu bytes", (size_t)PODS_BYTES_MAX);
    else
        http_respond(exchange, 200, "application/json", buffer_slice(&out), NULL);
}

static void serve_container(struct node *node, struct http_exchange *exchange, struct slice verb, struct slice rest) {
    const char *namespace = segment(exchange, &rest), *name = segment(exchange, &rest), *container = segment(exchange, &rest);
    struct query query;
    if (!container)
        return respond_status(exchange, 400, "BadRequest", "expected /%.*s/NAMESPACE/POD/CONTAINER", SLICE_ARG(verb));
    struct pod *pod = pod_find(node, namespace, name);
    struct unit *unit = pod ? pod_unit(pod, container) : NULL;
    if (!pod)
        return respond_status(exchange, 404, "NotFound", "pod \"%s\" does not exist on node \"%s\"", name, node->options->node_name);
    if (!unit)
        return respond_status(exchange, 404, "NotFound", "container \"%s\" in pod \"%s\" is not available", container, name);
    if (query_parse(http_exchange_arena(exchange), http_query_text(exchange), &query) < 0)
        return respond_status(exchange, 400, "BadRequest", "the query cannot be read");
    if (slice_is(verb, "containerLogs"))
        session_serve_log(node, exchange, unit, &query);
    else
        session_serve_exec(node, exchange, unit, &query, slice_is(verb, "attach"));
}

static void serve_forward(struct node *node, struct http_exchange *exchange, struct slice rest) {
    const char *namespace = segment(exchange, &rest), *name = segment(exchange, &rest);
    struct pod *pod = namespace && name ? pod_find(node, namespace, name) : NULL;
    struct query query;
    if (!pod)
        return respond_status(exchange, 404, "NotFound", "pod \"%s\" does not exist on node \"%s\"", name ? name : "", node->options->node_name);
    if (query_parse(http_exchange_arena(exchange), http_query_text(exchange), &query) < 0)
        return respond_status(exchange, 400, "BadRequest", "the query cannot be read");
    session_serve_forward(node, exchange, pod, &query);
}

static void on_metrics_request(void *userdata, struct http_exchange *exchange) {
    if (serve_metrics(userdata, exchange))
        return;
    if (slice_is(http_path(exchange), "/healthz"))
        http_respond_text(exchange, 200, "ok");
    else
        http_respond_text(exchange, 404, "404 page not found\n");
}

static void serve_prune(struct node *node, struct http_exchange *exchange) {
    struct query query;
    if (!slice_is(http_method(exchange), "POST"))
        respond_status(exchange, 405, "MethodNotAllowed", "POST is expected");
    else if (query_parse(http_exchange_arena(exchange), http_query_text(exchange), &query) < 0)
        respond_status(exchange, 400, "BadRequest", "the query cannot be read");
    else
        prune_serve(node, exchange, &query);
}

/* An answer that ends with this process, with a word now and then: by it core sees that the node is there and does not hang. */
struct alive {
    struct http_exchange *exchange;
    struct loop_timer timer;
};

static void on_beat(void *userdata) {
    struct alive *alive = userdata;
    loop_timer_set(&alive->timer, BEAT_MS);
    http_write(alive->exchange, SLICE("alive\n"));
}

static void on_alive_close(void *userdata, struct http_exchange *exchange, bool complete) {
    struct alive *alive = userdata;
    (void)exchange;
    (void)complete;
    loop_timer_cancel(&alive->timer);
    free(alive);
}

/* What core believed meanwhile is put right. */
static void serve_alive(struct node *node, struct http_exchange *exchange) {
    struct alive *alive = calloc(1, sizeof *alive);
    if (!alive)
        return http_respond_text(exchange, 503, "no memory\n");
    alive->exchange = exchange;
    loop_timer_init(&alive->timer, node->loop, on_beat, alive);
    http_on_close(exchange, on_alive_close, alive);
    http_respond_begin(exchange, 200, "text/plain; charset=utf-8", -1, NULL);
    on_beat(alive);
    register_node(node);
}

static void on_request(void *userdata, struct http_exchange *exchange) {
    struct slice rest = slice_from(http_path(exchange), 1);
    struct slice verb = slice_cut(&rest, '/');
    if (slice_is(verb, "containerLogs") || slice_is(verb, "exec") || slice_is(verb, "attach"))
        serve_container(userdata, exchange, verb, rest);
    else if (slice_is(verb, "portforward"))
        serve_forward(userdata, exchange, rest);
    else if (slice_is(verb, "pods") || slice_is(verb, "runningpods"))
        serve_pods(userdata, exchange, slice_is(verb, "runningpods"));
    else if (slice_is(http_path(exchange), "/stats/summary"))
        serve_stats(userdata, exchange);
    else if (slice_is(http_path(exchange), "/alive"))
        serve_alive(userdata, exchange);
    else if (slice_is(http_path(exchange), "/prune"))
        serve_prune(userdata, exchange);
    else
        on_metrics_request(userdata, exchange);
}

int server_start(struct node *node, struct diag *diag) {
    const struct http_server_options options = {.handler = on_request, .userdata = node, .connections_max = 1000};
    const struct http_server_options metrics = {.handler = on_metrics_request, .userdata = node, .connections_max = 100};
    int r = http_server_new(node->loop, node->socket_fd, &options, &node->socket_server);
    if (r == 0 && node->options->metrics_fd >= 0)
        r = http_server_new(node->loop, node->options->metrics_fd, &metrics, &node->metrics_server);
    return r < 0 ? diag_set(diag, r, "cannot serve the node's socket: %s", strerror(-r)) : 0;
}

void server_stop(struct node *node) {
    http_server_free(node->socket_server);
    http_server_free(node->metrics_server);
    node->socket_server = node->metrics_server = NULL;
}
