/* pods|services|nodes /proxy: a request to a server in the cluster, through the API. What follows `proxy` in the path is that server's; its answer
 * comes back as it is, but for redirects to itself and links in pages, which are led back through the proxy. Upgrades (WebSocket) go through as well.
 *
 *   …/pods/[scheme:]name[:port]/proxy/path        the pod's address; without a port the first that a container names, or 80
 *   …/services/[scheme:]name[:port]/proxy/path    a ready endpoint; the port is a name or a number of the service's, or its only unnamed one
 *   …/nodes/[scheme:]name[:10250]/proxy/path      the node's own server, kubelet's elsewhere
 *
 * Request bodies are collected (API_BODY_BYTES_MAX), answers are streamed. Connections are kept to the last API_PROXIES_MAX servers; one that is in
 * use is never dropped. Authorization is for us and goes no further. */
#include "api/api_priv.h"

#include "sys/sys.h"

#include <arpa/inet.h>
#include <stdio.h>

#define PATH_BYTES_MAX 1024
#define NODE_PORT "10250" /* where kubelet would listen */

struct target {
    const char *scheme, *name, *port; /* port "": none given */
};

static bool text_is(const char *text, const char *expected) {
    return !strcmp(text ? text : "", expected);
}

/* "[scheme:]name[:port]"; false when there is more to it. */
static bool parse_target(struct request *request, struct target *ret) {
    struct slice rest = slice_of(request->route.name), parts[3] = {{NULL, 0}};
    size_t count = 0;
    while (rest.data && count < ARRAY_LEN(parts))
        parts[count++] = slice_cut(&rest, ':');
    bool scheme = count == 3;
    *ret = (struct target){
        .scheme = scheme && parts[0].len ? arena_dup(request->arena, parts[0]) : "http",
        .name = arena_dup(request->arena, parts[scheme]),
        .port = count > 1 ? arena_dup(request->arena, parts[count - 1]) : "",
    };
    bool known = ret->scheme && (text_is(ret->scheme, "http") || text_is(ret->scheme, "https"));
    return !rest.data && known && ret->name && *ret->name && ret->port;
}

/* --- where to --- */

/* No address of this machine's own services and no link-local one. */
static bool is_proxyable(const char *text) {
    struct in_addr address;
    if (!text || inet_pton(AF_INET, text, &address) != 1)
        return false;
    uint32_t number = ntohl(address.s_addr);
    return number >> 24 != 127 && number >> 24 != 0 && number >> 16 != 0xa9fe && number >> 28 < 0xe;
}

static int format_endpoint(const struct target *target, const char *address, int64_t port, char ret[64], struct api_failure *failure) {
    if (!is_proxyable(address))
        return api_fail_bad_request(failure, "address not allowed");
    if (port < 1 || port > 65535)
        return api_fail_bad_request(failure, "invalid port \"%s\": must be a number from 1 to 65535", target->port);
    snprintf(ret, 64, "%s://%s:%d", target->scheme, address, (int)port);
    return 0;
}

static int find_pod(struct request *request, const struct target *target, char ret[64], struct api_failure *failure) {
    CLEANUP(kube_object_unrefp) struct kube_object *pod = NULL;
    int code = api_stored_find(request->api, &kube_kind_pod, request->route.namespace, target->name, &pod, failure);
    int64_t port = 0;
    if (code)
        return code;
    for (size_t i = 0; i < pod->pod->spec.containers.count && !*target->port && !port; i++)
        if (pod->pod->spec.containers.items[i].ports.count)
            port = pod->pod->spec.containers.items[i].ports.items[0].container_port;
    if (*target->port && slice_parse_i64(slice_of(target->port), &port))
        port = 0;
    else if (!port && !*target->port)
        port = text_is(target->scheme, "https") ? 443 : 80;
    return format_endpoint(target, pod->pod->status.pod_ip, port, ret, failure);
}

/* The name of the service's port that is meant; NULL with failure. */
static const char *port_name(const struct kube_service_spec *spec, const struct target *target, struct api_failure *failure) {
    int64_t number = 0;
    if (!*target->port || slice_parse_i64(slice_of(target->port), &number))
        return target->port;
    for (size_t i = 0; i < spec->ports.count; i++)
        if (spec->ports.items[i].port == number)
            return spec->ports.items[i].name ? spec->ports.items[i].name : "";
    api_fail(failure, 503, "ServiceUnavailable", "no service port %" PRId64 " found for service \"%s\"", number, target->name);
    return NULL;
}

/* One of the ready addresses behind the port, at random. */
static int choose_endpoint(const struct kube_endpoints *endpoints, const char *port, const struct target *target, char ret[64],
                           struct api_failure *failure) {
    for (size_t s = 0; s < endpoints->subsets.count; s++) {
        const struct kube_endpoint_subset *subset = &endpoints->subsets.items[s];
        for (size_t p = 0; p < subset->ports.count && subset->addresses.count; p++) {
            uint32_t draw;
            sys_random(&draw, sizeof draw);
            if (text_is(subset->ports.items[p].name, port))
                return format_endpoint(target, subset->addresses.items[draw % subset->addresses.count].ip, subset->ports.items[p].port, ret, failure);
        }
    }
    return api_fail(failure, 503, "ServiceUnavailable", "no endpoints available for service \"%s\"", target->name);
}

static int find_service(struct api *api, const char *namespace, const struct target *target, char ret[64], struct api_failure *failure) {
    CLEANUP(kube_object_unrefp) struct kube_object *service = NULL;
    int code = api_stored_find(api, &kube_kind_service, namespace, target->name, &service, failure);
    const char *port = code ? NULL : port_name(&service->service->spec, target, failure);
    if (!port)
        return code ? code : failure->code;
    CLEANUP(kube_object_unrefp) struct kube_object *endpoints = api_stored_get(api, &kube_kind_endpoints, namespace, target->name);
    if (!endpoints)
        return api_fail(failure, 503, "ServiceUnavailable", "no endpoints available for service \"%s\"", target->name);
    return choose_endpoint(endpoints->endpoints, port, target, ret, failure);
}

/* Nothing else of the machine is reached through a node's name. */
static int find_node(struct api *api, const struct target *target, struct api_failure *failure) {
    CLEANUP(kube_object_unrefp) struct kube_object *node = NULL;
    int code = api_stored_find(api, &kube_kind_node, "", target->name, &node, failure);
    if (!code && *target->port && !text_is(target->port, NODE_PORT))
        code = api_fail_bad_request(failure, "address not allowed");
    return code;
}

int api_service_endpoint(struct api *api, const char *namespace, const char *name, int port, char ret[API_ENDPOINT_BYTES],
                         struct api_failure *failure) {
    char number[16];
    snprintf(number, sizeof number, "%d", port);
    const struct target target = {"https", name, number};
    return find_service(api, namespace, &target, ret, failure);
}

/* --- clients --- */

static struct tls_context *any_server(struct api *api) {
    const struct tls_options options = {.any_peer = true};
    struct diag diag = DIAG_INIT;
    if (!api->any_server && tls_context_new(&options, &api->any_server, &diag))
        api->any_server = NULL;
    return api->any_server;
}

static void proxy_deinit(struct api_proxy *proxy) {
    http_client_free(proxy->client);
    *proxy = (struct api_proxy){.client = NULL};
}

/* The one to the endpoint, or the place of the one that was not used for longest; NULL: all are in use. */
static struct api_proxy *find_proxy(struct api *api, const char *endpoint) {
    struct api_proxy *oldest = NULL;
    for (size_t i = 0; i < API_PROXIES_MAX; i++) {
        struct api_proxy *proxy = &api->proxies[i];
        if (proxy->client && !strcmp(proxy->endpoint, endpoint))
            return proxy;
        if (!proxy->requests && (!oldest || proxy->used < oldest->used))
            oldest = proxy;
    }
    return oldest;
}

static struct http_client *client_to(struct api *api, const char *endpoint, struct api_proxy **ret) {
    struct api_proxy *proxy = find_proxy(api, endpoint);
    bool https = slice_starts(slice_of(endpoint), SLICE("https:"));
    const struct http_client_options options = {.endpoint = endpoint, .tls = https ? any_server(api) : NULL};
    if (!proxy || (https && !options.tls))
        return NULL;
    if (!proxy->client || strcmp(proxy->endpoint, endpoint)) {
        proxy_deinit(proxy);
        if (http_client_new(api->loop, &options, &proxy->client))
            return NULL;
        snprintf(proxy->endpoint, sizeof proxy->endpoint, "%s", endpoint);
    }
    proxy->used = api->statistics.requests;
    *ret = proxy;
    return proxy->client;
}

void api_proxies_end(struct api *api) {
    for (size_t i = 0; i < API_PROXIES_MAX; i++)
        proxy_deinit(&api->proxies[i]);
    tls_context_unref(api->any_server);
    api->any_server = NULL;
}

/* --- header fields --- */

static bool is_listed(struct slice name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (slice_equal_nocase(name, slice_of(names[i])))
            return true;
    return false;
}

/* Of a connection, not of a message. */
static bool is_hop_by_hop(struct slice name) {
    static const char *const names[] = {"Connection",  "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
                                        "TE",          "Trailer",    "Transfer-Encoding",  "Content-Length",      "Upgrade",
                                        "Content-Type"};
    return is_listed(name, names, ARRAY_LEN(names));
}

static bool is_ours(struct slice name) {
    static const char *const names[] = {"Authorization", "Host", "Expect"};
    return is_listed(name, names, ARRAY_LEN(names)) || slice_equal_nocase(slice_head(name, 12), SLICE("Impersonate-"));
}

/* Whoever wants a page gets it as it is written, since its links are to be found. */
static bool is_hindrance(struct request *request, struct slice name) {
    struct slice accept = http_header(request->exchange, "Accept");
    return slice_equal_nocase(name, SLICE("Accept-Encoding")) && (!accept.len || slice_find(accept, SLICE("text/html")) >= 0);
}

static const struct http_field *request_fields(struct request *request, bool upgrade) {
    struct http_exchange *exchange = request->exchange;
    size_t max = http_header_count(exchange) + 3, count = 0;
    struct http_field *fields = ARENA_ARRAY(request->arena, struct http_field, max + 1);
    if (!fields)
        return NULL;
    for (size_t i = 0; i < http_header_count(exchange); i++) {
        struct slice name, value;
        http_header_at(exchange, i, &name, &value);
        if (is_hop_by_hop(name) || is_ours(name) || is_hindrance(request, name))
            continue;
        fields[count] = (struct http_field){arena_dup(request->arena, name), arena_dup(request->arena, value)};
        if (!fields[count].name || !fields[count].value)
            return NULL;
        count++;
    }
    if (!upgrade)
        return fields;
    fields[count++] = (struct http_field){"Connection", "Upgrade"};
    fields[count] = (struct http_field){"Upgrade", arena_dup(request->arena, http_head(exchange)->upgrade)};
    return fields[count].value ? fields : NULL;
}

/* A path on the server behind, as a path through the proxy. */
static const char *led_back(struct request *request, struct slice value, const char *prefix) {
    bool path = slice_starts(value, SLICE("/")) && !slice_starts(value, SLICE("//"));
    return path ? arena_printf(request->arena, "%s%.*s", prefix, SLICE_ARG(value)) : arena_dup(request->arena, value);
}

const struct http_field *api_proxy_fields(struct request *request, const struct http_answer *head, const char *prefix) {
    size_t count = 0, max = 0;
    struct slice name, value;
    while (http_answer_field(head, max, &name, &value))
        max++;
    struct http_field *fields = ARENA_ARRAY(request->arena, struct http_field, max + 1);
    for (size_t i = 0; fields && http_answer_field(head, i, &name, &value); i++) {
        if (is_hop_by_hop(name))
            continue;
        bool redirect = slice_equal_nocase(name, SLICE("Location"));
        fields[count] =
            (struct http_field){arena_dup(request->arena, name), redirect ? led_back(request, value, prefix) : arena_dup(request->arena, value)};
        count += fields[count].name && fields[count].value;
    }
    if (fields)
        fields[count] = (struct http_field){NULL, NULL};
    return fields;
}

/* --- passing on --- */

struct passing {
    const char *endpoint; /* NULL: the node */
    const char *prefix, *path;
    bool upgrade;
};

static struct passing *passing_of(struct request *request) {
    return request->extra;
}

static void pass(struct request *request, const struct passing *passing, struct slice body) {
    struct api *api = request->api;
    struct api_proxy *proxy = NULL;
    struct api_failure failure;
    struct slice type = http_header(request->exchange, "Content-Type");
    const struct http_request_options options = {
        .method = arena_dup(request->arena, http_method(request->exchange)),
        .target = passing->path,
        .content_type = type.len ? arena_dup(request->arena, type) : NULL,
        .body = body,
        .fields = request_fields(request, passing->upgrade),
        .timeout_ms = -1,
    };
    struct http_client *client = passing->endpoint ? client_to(api, passing->endpoint, &proxy) : api_node_client(api);
    if (client && options.method && options.fields) {
        const struct api_tunnel_to to = {client, passing->upgrade, passing->prefix, proxy ? &proxy->requests : NULL};
        api_tunnel_to(request, &to, &options);
        return;
    }
    api_fail(&failure, 503, "ServiceUnavailable", client ? "out of memory" : "too many proxied connections, or no node to ask: try again");
    api_respond_failure(request, &failure);
}

static void on_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct request *request = userdata;
    struct passing *passing = passing_of(request);
    (void)exchange;
    request->extra = NULL;
    pass(request, passing, body);
}

static int find_server(struct request *request, struct passing *passing, struct api_failure *failure) {
    char endpoint[64];
    struct target target;
    if (!parse_target(request, &target))
        return api_fail_bad_request(failure, "invalid %s request \"%s\"", request->kind->singular, request->route.name);
    if (request->kind == &kube_kind_node)
        return find_node(request->api, &target, failure);
    int code = request->kind == &kube_kind_pod ? find_pod(request, &target, endpoint, failure)
                                               : find_service(request->api, request->route.namespace, &target, endpoint, failure);
    if (!code && !(passing->endpoint = arena_strdup(request->arena, endpoint)))
        code = api_fail_no_memory(failure);
    return code;
}

/* "…/proxy" as the client wrote it, and what the server behind is asked for. */
static bool split_path(struct request *request, struct passing *passing) {
    struct slice path = http_path(request->exchange), query = http_query_text(request->exchange), rest = request->route.rest;
    passing->prefix = arena_dup(request->arena, slice_head(path, path.len - rest.len));
    passing->path = arena_printf(request->arena, "%.*s%s%.*s", SLICE_ARG(rest.len ? rest : SLICE("/")), query.len ? "?" : "", SLICE_ARG(query));
    return passing->prefix && passing->path;
}

/* Relative links of the page must lead into the proxy. */
static void add_slash(struct request *request, const struct passing *passing) {
    const struct http_field fields[] = {{"Location", arena_printf(request->arena, "%s/%s", passing->prefix, passing->path + 1)}, {NULL, NULL}};
    http_respond(request->exchange, 301, "text/plain", SLICE(""), fields[0].value ? fields : NULL);
}

void api_serve_proxy(struct request *request) {
    struct api_failure failure;
    struct passing *passing = ARENA_NEW(request->arena, struct passing);
    int code = passing && split_path(request, passing) ? find_server(request, passing, &failure) : api_fail_no_memory(&failure);
    if (code) {
        api_respond_failure(request, &failure);
        return;
    }
    struct slice method = http_method(request->exchange);
    passing->upgrade = http_head(request->exchange)->upgrade.data != NULL;
    request->extra = passing;
    if (passing->upgrade)
        on_body(request, request->exchange, (struct slice){NULL, 0});
    else if (!request->route.rest.len && (slice_is(method, "GET") || slice_is(method, "HEAD")))
        add_slash(request, passing);
    else
        api_read_body(request, on_body);
}
