/* Logs, exec, attach and forwarded ports are the node's (and what proxy.c passes to pods goes the same way): the request goes on to the node's unix
 * socket and what comes back is passed through, byte for byte. A log is a streamed answer or a WebSocket; the others are WebSocket or SPDY/3.1
 * connections. Their upgrade is forwarded, so that the node speaks the protocol with kubectl itself.
 *
 *   log:    GET  → node (stream)  ── head ──► our head ── data ──► chunks … end
 *   exec:   Upgrade → node (upgrade) ── 101 ──► our 101, then bytes both ways until either side closes
 *                                          └─ other ──► its answer as our answer
 *
 * Back-pressure: what the client has not read pauses the node and the other way round; at most WAITING_BYTES_MAX wait in between. */
#include "api/api_priv.h"

#include <stdio.h>

#define WAITING_BYTES_MAX (256 * KIB)
#define HANDSHAKE_FIELDS_MAX 16

struct tunnel {
    struct list node;
    struct request *request;       /* held */
    struct http_request *upstream; /* NULL when it has ended */
    struct http_stream *stream;    /* of the client, after an upgrade */
    struct loop_timer pump;        /* upstream has no "drained": looks again while the client is paused */
    const char *prefix;            /* of a proxy: its own path; NULL: the node's answer, of which only the type counts */
    unsigned *uses;                /* of the server behind a proxy; may be NULL */
    struct html_links *links;      /* of a page that comes through a proxy; NULL: it is none */
    bool begun, client_paused, ended;
};

static void tunnel_free(struct tunnel *tunnel) {
    struct request *request = tunnel->request;
    list_remove(&tunnel->node);
    loop_timer_cancel(&tunnel->pump);
    http_request_cancel(tunnel->upstream);
    http_stream_free(tunnel->stream);
    if (tunnel->links)
        html_links_deinit(tunnel->links);
    request->on_gone = NULL;
    if (tunnel->uses)
        --*tunnel->uses;
    free(tunnel);
    api_request_release(request);
}

struct http_client *api_node_client(struct api *api) {
    if (api->node || !api->options.node_socket)
        return api->node;
    char *endpoint = arena_printf(api->arena, "unix:%s", api->options.node_socket);
    const struct http_client_options options = {.endpoint = endpoint};
    if (!endpoint || http_client_new(api->loop, &options, &api->node))
        api->node = NULL;
    return api->node;
}

/* --- which container --- */

static void put_names(struct buffer *out, const char *lead, const struct kube_container_array *containers) {
    buffer_printf(out, "%s[", lead);
    for (size_t i = 0; i < containers->count; i++)
        buffer_printf(out, "%s%s", i ? " " : "", containers->items[i].name);
    buffer_append_byte(out, ']');
}

static const char *only_container(const struct kube_pod *pod, struct api_failure *failure) {
    const char *preferred = kube_map_find(&pod->metadata.annotations, "kubectl.kubernetes.io/default-container");
    if (preferred && *preferred)
        return preferred;
    if (pod->spec.containers.count == 1)
        return pod->spec.containers.items[0].name;
    CLEANUP(buffer_deinit) struct buffer names = BUFFER_INIT(4 * KIB);
    put_names(&names, "", &pod->spec.containers);
    if (pod->spec.init_containers.count)
        put_names(&names, " or one of the init containers: ", &pod->spec.init_containers);
    api_fail_bad_request(failure, "a container name must be specified for pod %s, choose one of: %s", pod->metadata.name,
                         names.data ? names.data : "[]");
    return NULL;
}

static bool has_container(const struct kube_pod *pod, const char *name) {
    for (size_t i = 0; i < pod->spec.containers.count; i++)
        if (!strcmp(pod->spec.containers.items[i].name, name))
            return true;
    for (size_t i = 0; i < pod->spec.init_containers.count; i++)
        if (!strcmp(pod->spec.init_containers.items[i].name, name))
            return true;
    for (size_t i = 0; i < pod->spec.ephemeral_containers.count; i++)
        if (!strcmp(pod->spec.ephemeral_containers.items[i].name, name))
            return true;
    return false;
}

static const char *choose_container(struct request *request, const struct kube_pod *pod, struct api_failure *failure) {
    const char *name = api_request_query(request, "container");
    if (!name || !*name)
        return only_container(pod, failure);
    if (has_container(pod, name))
        return name;
    api_fail_bad_request(failure, "container %.100s is not valid for pod %s", name, pod->metadata.name);
    return NULL;
}

/* "/containerLogs/ns/pod/container?query", the query as it came but for the container; "" for a whole pod. */
static char *node_target(struct request *request, const char *verb, const char *container) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(HTTP_TARGET_BYTES_MAX);
    const char *parts[] = {verb, request->route.namespace, request->route.name, container};
    for (size_t i = 0; i < ARRAY_LEN(parts) && *parts[i]; i++) {
        buffer_append_byte(&out, '/');
        percent_encode(&out, slice_of(parts[i]));
    }
    bool first = true;
    for (size_t i = 0; i < request->query.count; i++) {
        if (slice_is(request->query.items[i].key, "container"))
            continue;
        buffer_append_byte(&out, first ? '?' : '&');
        first = false;
        percent_encode(&out, request->query.items[i].key);
        buffer_append_byte(&out, '=');
        percent_encode(&out, request->query.items[i].value);
    }
    return buffer_error(&out) ? NULL : arena_dup(request->arena, buffer_slice(&out));
}

/* NULL when the request was answered. */
static char *check(struct request *request, const struct kube_pod *pod, const char *verb) {
    struct api_failure failure;
    const char *container = strcmp(verb, "portforward") ? choose_container(request, pod, &failure) : "";
    char *target = container ? node_target(request, verb, container) : NULL;
    if (container && (!pod->spec.node_name || !*pod->spec.node_name))
        api_fail_bad_request(&failure, "pod %s does not have a host assigned", request->route.name);
    else if (container && !target)
        api_fail_no_memory(&failure);
    else if (container && !api_node_client(request->api))
        api_fail(&failure, 503, "ServiceUnavailable", "this API server has no node to ask");
    else if (container)
        return target;
    api_respond_failure(request, &failure);
    return NULL;
}

static void respond_lost(struct request *request, const char *prefix, int error) {
    struct api_failure failure;
    if (prefix)
        api_fail(&failure, 503, "ServiceUnavailable", "error trying to reach service: %s", strerror(-error));
    else
        api_fail(&failure, 503, "ServiceUnavailable", "the node does not answer: %s; `tidemill status` tells whether it runs", strerror(-error));
    api_respond_failure(request, &failure);
}

void api_respond_node_lost(struct request *request, int error) {
    respond_lost(request, NULL, error);
}

/* --- the node's answer passed on --- */

static void on_client_drained(void *userdata, struct http_exchange *exchange) {
    (void)exchange;
    struct tunnel *tunnel = userdata;
    if (tunnel->upstream)
        http_request_resume(tunnel->upstream);
}

/* A whole page as it is written, whose links can be led back into the proxy. */
static struct html_links *links_of(struct tunnel *tunnel, const struct http_answer *head) {
    bool page = slice_equal_nocase(slice_head(head->header(head, "Content-Type"), 9), SLICE("text/html"));
    if (!tunnel->prefix || !page || head->status == 206 || head->header(head, "Content-Encoding").len)
        return NULL;
    struct html_links *links = ARENA_NEW(tunnel->request->arena, struct html_links);
    if (links)
        html_links_init(links, tunnel->prefix);
    return links;
}

static void on_log_head(void *userdata, const struct http_answer *head) {
    struct tunnel *tunnel = userdata;
    struct slice type = head->header(head, "Content-Type");
    const char *text = type.len ? arena_dup(tunnel->request->arena, type) : NULL;
    tunnel->begun = true;
    if (!tunnel->request->exchange)
        return;
    if (tunnel->prefix)
        api_audit(tunnel->request, head->status, NULL, NULL);
    const struct http_field *fields = tunnel->prefix ? api_proxy_fields(tunnel->request, head, tunnel->prefix) : NULL;
    if (!tunnel->prefix && !text)
        text = "text/plain";
    tunnel->links = links_of(tunnel, head);
    http_respond_begin(tunnel->request->exchange, head->status, text, -1, fields);
}

/* data empty: the page has ended. */
static int write_on(struct tunnel *tunnel, struct slice data) {
    if (!tunnel->links)
        return data.len ? http_write(tunnel->request->exchange, data) : 0;
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(HTTP_OUTPUT_BYTES_MAX);
    int error = data.len ? html_links_write(tunnel->links, data, &out) : html_links_end(tunnel->links, &out);
    return error || !out.len ? error : http_write(tunnel->request->exchange, buffer_slice(&out));
}

static void on_log_data(void *userdata, struct slice data) {
    struct tunnel *tunnel = userdata;
    struct http_exchange *exchange = tunnel->request->exchange;
    if (!exchange)
        return;
    int error = write_on(tunnel, data);
    if (error && tunnel->links) { /* half a page would be taken for a whole one */
        http_abort(exchange);
        return;
    }
    if (error || http_write_pending(exchange) < WAITING_BYTES_MAX)
        return;
    http_request_pause(tunnel->upstream);
    http_on_drained(exchange, on_client_drained, tunnel);
}

static void on_log_end(void *userdata, int error) {
    struct tunnel *tunnel = userdata;
    struct request *request = tunnel->request;
    tunnel->upstream = NULL;
    if (request->exchange && !tunnel->begun)
        respond_lost(request, tunnel->prefix, error ? error : -EPIPE);
    else if (request->exchange && (error || write_on(tunnel, SLICE(""))))
        http_abort(request->exchange);
    else if (request->exchange)
        http_respond_end(request->exchange);
    tunnel_free(tunnel);
}

static void on_gone(struct request *request) {
    struct tunnel *tunnel = request->extra;
    if (tunnel && !tunnel->stream)
        tunnel_free(tunnel);
}

static struct tunnel *tunnel_new(struct request *request) {
    struct tunnel *tunnel = calloc(1, sizeof *tunnel);
    if (!tunnel)
        return NULL;
    tunnel->request = request;
    api_request_hold(request);
    request->extra = tunnel;
    request->on_gone = on_gone;
    loop_timer_init(&tunnel->pump, request->api->loop, NULL, tunnel);
    list_push(&request->api->tunnels, &tunnel->node);
    return tunnel;
}

/* A failed start. */
static void give_up(struct tunnel *tunnel, int error) {
    struct request *request = tunnel->request;
    const char *prefix = tunnel->prefix;
    api_request_hold(request);
    tunnel_free(tunnel);
    respond_lost(request, prefix, error);
    api_request_release(request);
}

/* --- upgrades --- */

#define PUMP_INTERVAL_MS 20

static void on_pump(void *userdata) {
    struct tunnel *tunnel = userdata;
    if (tunnel->upstream && http_request_write_pending(tunnel->upstream) >= WAITING_BYTES_MAX) {
        loop_timer_set(&tunnel->pump, PUMP_INTERVAL_MS);
        return;
    }
    tunnel->client_paused = false;
    if (tunnel->stream)
        http_stream_resume(tunnel->stream);
}

static void on_stream_data(void *userdata, struct slice data) {
    struct tunnel *tunnel = userdata;
    if (!tunnel->upstream || http_request_write(tunnel->upstream, data)) {
        tunnel_free(tunnel);
        return;
    }
    if (http_request_write_pending(tunnel->upstream) < WAITING_BYTES_MAX)
        return;
    tunnel->client_paused = true;
    http_stream_pause(tunnel->stream);
    if (loop_timer_is_set(&tunnel->pump)) /* what was read before the pause took effect */
        return;
    loop_timer_init(&tunnel->pump, tunnel->request->api->loop, on_pump, tunnel);
    loop_timer_set(&tunnel->pump, PUMP_INTERVAL_MS);
}

static void on_stream_drained(void *userdata) {
    struct tunnel *tunnel = userdata;
    if (tunnel->ended)
        return;
    if (tunnel->upstream)
        http_request_resume(tunnel->upstream);
}

static void on_stream_end(void *userdata, int error) {
    (void)error;
    tunnel_free(userdata);
}

static void begin_upgrade(struct tunnel *tunnel, const struct http_answer *head) {
    static const struct http_stream_callbacks callbacks = {.on_data = on_stream_data, .on_drained = on_stream_drained, .on_end = on_stream_end};
    static const char *const names[] = {"Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "X-Stream-Protocol-Version"};
    struct request *request = tunnel->request;
    struct http_field fields[ARRAY_LEN(names) + 1] = {{NULL, NULL}};
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct slice value = head->header(head, names[i]);
        char *text = value.data ? arena_dup(request->arena, value) : NULL;
        if (text)
            fields[count++] = (struct http_field){names[i], text};
    }
    api_audit(request, 101, NULL, NULL); /* but for what was written down before */
    request->on_gone = NULL;             /* the exchange ends here, the tunnel does not */
    if (http_upgrade(request->exchange, fields, &callbacks, tunnel, &tunnel->stream))
        http_abort(request->exchange);
}

static void on_tunnel_head(void *userdata, const struct http_answer *head) {
    struct tunnel *tunnel = userdata;
    tunnel->begun = true;
    if (head->status != 101)
        on_log_head(userdata, head);
    else if (tunnel->request->exchange)
        begin_upgrade(tunnel, head);
}

static void on_tunnel_data(void *userdata, struct slice data) {
    struct tunnel *tunnel = userdata;
    if (!tunnel->stream) {
        on_log_data(userdata, data);
        return;
    }
    if (http_stream_write(tunnel->stream, data)) {
        tunnel_free(tunnel);
        return;
    }
    if (http_stream_pending(tunnel->stream) >= WAITING_BYTES_MAX)
        http_request_pause(tunnel->upstream);
}

static void on_tunnel_end(void *userdata, int error) {
    struct tunnel *tunnel = userdata;
    if (!tunnel->stream) {
        on_log_end(userdata, error);
        return;
    }
    tunnel->upstream = NULL;
    tunnel->ended = true;
    http_stream_shutdown(tunnel->stream); /* what is queued still goes out; on_stream_end frees */
}

static bool is_spdy(const struct http_exchange *exchange) {
    return http1_list_has(http_head(exchange)->upgrade, SLICE("SPDY/3.1"));
}

static bool belongs_to_handshake(struct slice name) {
    static const char *const names[] = {"Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "X-Stream-Protocol-Version"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_equal_nocase(name, slice_of(names[i])))
            return true;
    return false;
}

static int send_upgrade(struct tunnel *tunnel, const char *target) {
    static const struct http_stream_handlers handlers = {.on_head = on_tunnel_head, .on_data = on_tunnel_data, .on_end = on_tunnel_end};
    struct request *request = tunnel->request;
    struct http_field fields[2 + HANDSHAKE_FIELDS_MAX + 1] = {{"Connection", "Upgrade"},
                                                              {"Upgrade", is_spdy(request->exchange) ? "SPDY/3.1" : "websocket"}};
    size_t count = 2;
    for (size_t i = 0; i < http_header_count(request->exchange) && count < ARRAY_LEN(fields) - 1; i++) {
        struct slice name, value;
        http_header_at(request->exchange, i, &name, &value); /* kubectl sends one X-Stream-Protocol-Version for each version it speaks */
        if (!belongs_to_handshake(name))
            continue;
        fields[count] = (struct http_field){arena_dup(request->arena, name), arena_dup(request->arena, value)};
        if (!fields[count].name || !fields[count].value)
            return -ENOMEM;
        count++;
    }
    const char *method = is_spdy(request->exchange) ? "POST" : "GET";
    const struct http_request_options options = {.method = method, .target = target, .fields = fields};
    return http_client_upgrade(request->api->node, &options, &handlers, tunnel, &tunnel->upstream);
}

static void upgrade(struct request *request, const char *target) {
    struct tunnel *tunnel = tunnel_new(request);
    int error = tunnel ? send_upgrade(tunnel, target) : -ENOMEM;
    if (error && tunnel)
        give_up(tunnel, error);
    else if (error)
        respond_lost(request, NULL, error);
}

void api_serve_tunnel(struct request *request, struct kube_object *pod) {
    if (!websocket_is_upgrade(request->exchange) && !is_spdy(request->exchange)) {
        struct api_failure failure;
        api_fail_bad_request(&failure, "Upgrade request required: %s needs a WebSocket or SPDY/3.1 connection, as kubectl makes",
                             request->route.subresource);
        api_respond_failure(request, &failure);
        return;
    }
    char *target = check(request, pod->pod, request->route.subresource);
    if (!target)
        return;
    api_audit(request, 101, NULL, pod);
    upgrade(request, target);
}

/* --- what may be asked of a log --- */

static void fail_option(struct api_failure *failure, const char *pod, const char *reason, const char *field, const char *message) {
    api_fail(failure, 422, "Invalid", "PodLogOptions \"%s\" is invalid: %s: %s", pod, field, message);
    snprintf(failure->resource, sizeof failure->resource, "PodLogOptions");
    snprintf(failure->name, sizeof failure->name, "%s", pod);
    diag_cause(&failure->diag, reason, field, "%s", message);
}

static bool check_log_options(struct request *request, struct api_failure *failure) {
    static const struct {
        const char *name;
        int64_t min;
    } numbers[] = {{"tailLines", 0}, {"limitBytes", 1}, {"sinceSeconds", 1}};
    const char *pod = request->route.name;
    char message[200];
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        const char *text = api_request_query(request, numbers[i].name);
        int64_t number = 0;
        if (!text)
            continue;
        if (slice_parse_i64(slice_of(text), &number)) {
            api_fail_bad_request(failure, "strconv.ParseInt: parsing \"%.40s\": invalid syntax", text);
            return false;
        }
        if (number >= numbers[i].min)
            continue;
        snprintf(message, sizeof message, "Invalid value: %" PRId64 ": must be greater than %s0", number, numbers[i].min ? "" : "or equal to ");
        fail_option(failure, pod, "FieldValueInvalid", numbers[i].name, message);
        return false;
    }
    if (!api_request_query(request, "sinceSeconds") || !api_request_query(request, "sinceTime"))
        return true;
    fail_option(failure, pod, "FieldValueForbidden", "<nil>", "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified");
    return false;
}

void api_serve_log(struct request *request, struct kube_object *pod) {
    static const struct http_stream_handlers handlers = {.on_head = on_log_head, .on_data = on_log_data, .on_end = on_log_end};
    struct api_failure failure;
    if (!check_log_options(request, &failure)) {
        api_respond_failure(request, &failure);
        return;
    }
    char *target = check(request, pod->pod, "containerLogs");
    if (!target)
        return;
    if (websocket_is_upgrade(request->exchange)) {
        upgrade(request, target);
        return;
    }
    struct tunnel *tunnel = tunnel_new(request);
    const struct http_request_options options = {.method = "GET", .target = target};
    int error = tunnel ? http_client_stream(request->api->node, &options, &handlers, tunnel, &tunnel->upstream) : -ENOMEM;
    if (error && tunnel)
        give_up(tunnel, error);
    else if (error)
        respond_lost(request, NULL, error);
}

/* --- proxies: the same for another server than the node --- */

void api_tunnel_to(struct request *request, const struct api_tunnel_to *to, const struct http_request_options *options) {
    static const struct http_stream_handlers stream = {.on_head = on_log_head, .on_data = on_log_data, .on_end = on_log_end};
    static const struct http_stream_handlers upgraded = {.on_head = on_tunnel_head, .on_data = on_tunnel_data, .on_end = on_tunnel_end};
    struct tunnel *tunnel = tunnel_new(request);
    if (!tunnel) {
        respond_lost(request, to->prefix, -ENOMEM);
        return;
    }
    tunnel->prefix = to->prefix;
    tunnel->uses = to->uses;
    if (tunnel->uses)
        ++*tunnel->uses;
    int error = to->upgrade ? http_client_upgrade(to->client, options, &upgraded, tunnel, &tunnel->upstream)
                            : http_client_stream(to->client, options, &stream, tunnel, &tunnel->upstream);
    if (error)
        give_up(tunnel, error);
}

void api_tunnels_end(struct api *api) {
    LIST_FOREACH(node, &api->tunnels) {
        struct tunnel *tunnel = CONTAINER_OF(node, struct tunnel, node);
        if (!tunnel->stream && tunnel->begun && tunnel->request->exchange)
            http_respond_end(tunnel->request->exchange); /* its close frees the tunnel */
        else if (tunnel->stream)
            tunnel_free(tunnel);
    }
}
