/* How Ingress, Service and EndpointSlice become routes (networking.k8s.io/v1, discovery.k8s.io/v1).
 *
 *   Ingress rule ──► backend: service, port name or number ──► Service port (its name) ──► slices of the service ──► slice port of that name
 *
 * The slices hold the target port already resolved, so targetPort by name works even when pods differ. An upstream is named after the service port's
 * number.
 *
 * Order: of two Ingresses that claim the same host and path the older one wins, then the lesser namespace and name. The first defaultBackend in that
 * order serves what nothing else matches. All ingress classes are served: there is no other controller on this machine. A backend that does not exist
 * keeps its route: 503 that names it is better than a 404.
 *
 * Everything is built anew at each change (changes of one turn of the loop count as one); upstreams are found again by name, so connections and
 * counters stay. */
#include <stdio.h>

#include "gateway/routing_priv.h"

struct build {
    struct proxy *proxy;
    const struct routing_input *input;
    struct map *services; /* namespace/name → object */
    struct proxy_routes *routes;
    struct routing next;
};

static int key_of(struct buffer *out, const char *namespace, const char *name) {
    buffer_reset(out);
    return buffer_printf(out, "%s/%s", namespace ? namespace : "", name ? name : "");
}

static int services_index(struct build *build) {
    CLEANUP(buffer_deinit) struct buffer key = BUFFER_INIT(KIB);
    for (size_t i = 0; i < build->input->services.count; i++) {
        struct kube_object *service = build->input->services.items[i];
        int error = key_of(&key, service->metadata->namespace, service->metadata->name);
        if (error == 0)
            error = map_put(build->services, buffer_slice(&key), service, NULL);
        if (error < 0)
            return error;
    }
    return 0;
}

static bool text_equal(const char *a, const char *b) {
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* --- endpoints --- */

static bool slice_is_of(const struct kube_object *object, const struct kube_object *service) {
    const char *name = kube_map_find(&object->metadata->labels, "kubernetes.io/service-name");
    return name && strcmp(name, service->metadata->name) == 0 && text_equal(object->metadata->namespace, service->metadata->namespace);
}

static bool endpoint_is_ready(const struct kube_endpoint *endpoint) {
    const struct kube_endpoint_conditions *conditions = &endpoint->conditions;
    return (!conditions->ready || *conditions->ready) && !(conditions->terminating && *conditions->terminating);
}

struct endpoint_list {
    VECTOR(struct proxy_endpoint_spec) specs;
};

/* The first address only: the others are the same pod (discovery.k8s.io/v1). */
static int endpoint_add(struct endpoint_list *list, const struct kube_endpoint *endpoint, bool v6, int port) {
    char text[80];
    struct proxy_endpoint_spec spec = {.ready = endpoint_is_ready(endpoint)};
    if (endpoint->addresses.count == 0 || list->specs.count >= ROUTING_ENDPOINTS_MAX)
        return 0;
    struct buffer out = BUFFER_INIT(sizeof text);
    buffer_printf(&out, v6 ? "[%s]:%d" : "%s:%d", endpoint->addresses.items[0], port);
    int error = out.data ? sys_address_parse(out.data, &spec.address) : -EINVAL;
    buffer_deinit(&out);
    return error < 0 ? 0 : VECTOR_PUSH(&list->specs, spec); /* what is no address cannot be served */
}

static int slice_collect(struct endpoint_list *list, const struct kube_endpoint_slice *slice, const char *port_name) {
    for (size_t i = 0; i < slice->ports.count; i++) {
        const struct kube_discovery_endpoint_port *port = &slice->ports.items[i];
        if (!text_equal(port->name, port_name) || !port->port || (port->protocol && strcmp(port->protocol, "TCP") != 0))
            continue;
        for (size_t j = 0; j < slice->endpoints.count; j++) {
            int error = endpoint_add(list, &slice->endpoints.items[j], text_equal(slice->address_type, "IPv6"), *port->port);
            if (error < 0)
                return error;
        }
        return 0;
    }
    return 0;
}

static int endpoints_apply(struct build *build, struct proxy_upstream *upstream, const struct kube_object *service, const char *port_name) {
    struct endpoint_list list = {0};
    int error = 0;
    for (size_t i = 0; error == 0 && i < build->input->slices.count; i++)
        if (slice_is_of(build->input->slices.items[i], service))
            error = slice_collect(&list, build->input->slices.items[i]->endpoint_slice, port_name);
    if (error == 0)
        error = proxy_upstream_set_endpoints(upstream, list.specs.items, list.specs.count);
    VECTOR_DEINIT(&list.specs);
    return error;
}

/* --- backends --- */

static const struct kube_service_port *service_port_find(const struct kube_service *service, const struct kube_service_backend_port *wanted) {
    for (size_t i = 0; i < service->spec.ports.count; i++) {
        const struct kube_service_port *port = &service->spec.ports.items[i];
        if (wanted->name ? text_equal(port->name, wanted->name) : port->port == wanted->number)
            return port;
    }
    return NULL;
}

/* *ret is borrowed from build->next; NULL: there is no such service port. */
static int upstream_find(struct build *build, const char *namespace, const struct kube_ingress_service_backend *backend,
                         struct proxy_upstream **ret) {
    CLEANUP(buffer_deinit) struct buffer key = BUFFER_INIT(KIB);
    *ret = NULL;
    int error = key_of(&key, namespace, backend->name);
    if (error < 0)
        return error;
    const struct kube_object *service = map_find(build->services, buffer_slice(&key));
    const struct kube_service_port *port = service ? service_port_find(service->service, &backend->port) : NULL;
    if (!port)
        return 0;
    char number[16];
    snprintf(number, sizeof number, "%d", port->port);
    struct proxy_upstream *upstream;
    error = proxy_upstream_get(build->proxy, namespace, backend->name, number, &upstream);
    if (error < 0)
        return error;
    for (size_t i = 0; i < build->next.upstreams.count; i++)
        if (build->next.upstreams.items[i] == upstream) {
            proxy_upstream_unref(upstream);
            *ret = upstream;
            return 0;
        }
    error = VECTOR_PUSH(&build->next.upstreams, upstream);
    if (error < 0) {
        proxy_upstream_unref(upstream);
        return error;
    }
    *ret = upstream;
    return endpoints_apply(build, upstream, service, port->name);
}

/* Finds the upstream and writes the backend's name, as the page that misses it shall say. */
static int backend_find(struct build *build, const char *namespace, const struct kube_ingress_backend *backend, struct buffer *name,
                        struct proxy_upstream **ret) {
    *ret = NULL;
    buffer_reset(name);
    if (!backend->service)
        return buffer_printf(name, "%s: a resource, which this gateway does not serve", namespace);
    const struct kube_service_backend_port *port = &backend->service->port;
    buffer_printf(name, "%s/%s:", namespace, backend->service->name ? backend->service->name : "");
    if (port->name)
        buffer_append_text(name, port->name);
    else
        buffer_printf(name, "%d", port->number);
    return buffer_error(name) < 0 ? buffer_error(name) : upstream_find(build, namespace, backend->service, ret);
}

/* --- ingresses --- */

static int ingress_compare(const void *a, const void *b) {
    const struct kube_object_meta *left = (*(struct kube_object *const *)a)->metadata, *right = (*(struct kube_object *const *)b)->metadata;
    if (left->creation_timestamp.ns != right->creation_timestamp.ns)
        return left->creation_timestamp.ns < right->creation_timestamp.ns ? -1 : 1;
    int order = strcmp(left->namespace ? left->namespace : "", right->namespace ? right->namespace : "");
    return order ? order : strcmp(left->name, right->name);
}

static int path_add(struct build *build, const char *namespace, const char *host, const struct kube_http_ingress_path *path) {
    CLEANUP(buffer_deinit) struct buffer backend = BUFFER_INIT(KIB);
    struct proxy_route route = {
        .host = host, .path = path->path, .path_type = text_equal(path->path_type, "Exact") ? PROXY_PATH_EXACT : PROXY_PATH_PREFIX};
    int error = backend_find(build, namespace, &path->backend, &backend, &route.upstream);
    if (error < 0)
        return error;
    route.backend = backend.data;
    error = proxy_routes_add(build->routes, &route);
    return error == -EINVAL ? 0 : error; /* a host or path that cannot be in a request: the API server has refused it already */
}

static int ingress_add(struct build *build, const struct kube_object *object) {
    const struct kube_ingress_spec *spec = &object->ingress->spec;
    const char *namespace = object->metadata->namespace ? object->metadata->namespace : "";
    for (size_t i = 0; i < spec->rules.count; i++) {
        const struct kube_ingress_rule *rule = &spec->rules.items[i];
        for (size_t j = 0; rule->http && j < rule->http->paths.count; j++) {
            int error = path_add(build, namespace, rule->host, &rule->http->paths.items[j]);
            if (error < 0)
                return error;
        }
    }
    if (!spec->default_backend)
        return 0;
    CLEANUP(buffer_deinit) struct buffer backend = BUFFER_INIT(KIB);
    struct proxy_upstream *upstream;
    int error = backend_find(build, namespace, spec->default_backend, &backend, &upstream);
    return error < 0 ? error : proxy_routes_set_default(build->routes, upstream, backend.data);
}

static int routes_build(struct build *build) {
    size_t count = build->input->ingresses.count;
    CLEANUP(freep) struct kube_object **sorted = calloc(count + 1, sizeof *sorted);
    if (!build->services || !build->routes || !sorted)
        return -ENOMEM;
    int error = services_index(build);
    for (size_t i = 0; i < count; i++)
        sorted[i] = build->input->ingresses.items[i];
    qsort(sorted, count, sizeof *sorted, ingress_compare);
    for (size_t i = 0; error == 0 && i < count; i++)
        error = ingress_add(build, sorted[i]);
    return error;
}

int routing_apply(struct routing *routing, struct proxy *proxy, const struct routing_input *input) {
    struct build build = {.proxy = proxy, .input = input, .services = map_new(), .routes = proxy_routes_new()};
    int error = routes_build(&build);
    map_free(build.services);
    if (error < 0) {
        proxy_routes_unref(build.routes);
        routing_deinit(&build.next);
        return error;
    }
    proxy_set_routes(proxy, build.routes);
    routing_deinit(routing);
    *routing = build.next;
    return 0;
}

void routing_deinit(struct routing *routing) {
    for (size_t i = 0; i < routing->upstreams.count; i++)
        proxy_upstream_unref(routing->upstreams.items[i]);
    VECTOR_DEINIT(&routing->upstreams);
}
