/* Services and EndpointSlices brought into podnet's rules: all of them at once, after a turn of the loop in which something changed. Only ready
 * endpoints are used; a service whose endpoints are all on their way out keeps the terminating ones that still serve, so that the last requests of a
 * rollout find somebody. */
#include "node/node_priv.h"

#define SERVICES_MAX 4096
#define ENDPOINTS_MAX 65536

struct collector {
    struct node *node;
    struct arena *arena;
    VECTOR(struct podnet_service) services;
};

static bool is_udp(const char *protocol) {
    return protocol && strcmp(protocol, "UDP") == 0;
}

static bool belongs(const struct kube_endpoint_slice *slice, const struct kube_service *service) {
    const char *name = kube_map_find(&slice->metadata.labels, "kubernetes.io/service-name");
    return name && strcmp(name, service->metadata.name) == 0 && strcmp(slice->metadata.namespace, service->metadata.namespace) == 0;
}

static const struct kube_discovery_endpoint_port *find_port(const struct kube_endpoint_slice *slice, const struct kube_service_port *port) {
    const char *wanted = port->name ? port->name : "";
    for (size_t i = 0; i < slice->ports.count; i++) {
        const struct kube_discovery_endpoint_port *at = &slice->ports.items[i];
        if (at->port && strcmp(at->name ? at->name : "", wanted) == 0 && is_udp(at->protocol) == is_udp(port->protocol))
            return at;
    }
    return NULL;
}

static bool is_usable(const struct kube_endpoint *endpoint, bool terminating) {
    const struct kube_endpoint_conditions *conditions = &endpoint->conditions;
    if (terminating)
        return conditions->serving && *conditions->serving && conditions->terminating && *conditions->terminating;
    return !conditions->ready || *conditions->ready;
}

static size_t collect_endpoints(const struct collector *collector, const struct kube_service *service, const struct kube_service_port *port,
                                bool terminating, struct podnet_endpoint *endpoints, size_t max) {
    struct kube_object *object;
    size_t count = 0;
    for (size_t at = 0; (object = informer_next(collector->node->slices_informer, &at));) {
        const struct kube_endpoint_slice *slice = object->endpoint_slice;
        const struct kube_discovery_endpoint_port *target = belongs(slice, service) ? find_port(slice, port) : NULL;
        for (size_t i = 0; target && i < slice->endpoints.count; i++) {
            const struct kube_endpoint *endpoint = &slice->endpoints.items[i];
            if (!is_usable(endpoint, terminating) || endpoint->addresses.count == 0)
                continue;
            if (endpoints && count < max)
                endpoints[count] = (struct podnet_endpoint){endpoint->addresses.items[0], (uint16_t)*target->port};
            count++;
        }
    }
    return count;
}

static int collect_service(struct collector *collector, const struct kube_service *service) {
    const char *address = service->spec.cluster_ip;
    if (!address || !*address || strcmp(address, "None") == 0)
        return 0;
    for (size_t i = 0; i < service->spec.ports.count && collector->services.count < SERVICES_MAX; i++) {
        const struct kube_service_port *port = &service->spec.ports.items[i];
        struct podnet_service entry = {
            .address = address, .is_udp = is_udp(port->protocol), .port = (uint16_t)port->port, .node_port = (uint16_t)port->node_port};
        bool terminating = false;
        size_t count = collect_endpoints(collector, service, port, false, NULL, 0);
        if (count == 0) {
            terminating = true;
            count = collect_endpoints(collector, service, port, true, NULL, 0);
        }
        count = MIN(count, (size_t)ENDPOINTS_MAX);
        struct podnet_endpoint *endpoints = ARENA_ARRAY(collector->arena, struct podnet_endpoint, count);
        if (!endpoints)
            return -ENOMEM;
        collect_endpoints(collector, service, port, terminating, endpoints, count);
        entry.endpoints = endpoints;
        entry.endpoints_count = count;
        if (VECTOR_PUSH(&collector->services, entry) < 0)
            return -ENOMEM;
    }
    return 0;
}

void services_apply(struct node *node) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * MIB);
    struct collector collector = {.node = node, .arena = arena};
    struct diag diag = DIAG_INIT;
    struct kube_object *object;
    int r = arena ? 0 : -ENOMEM;
    if (!informer_synced(node->services_informer) || !informer_synced(node->slices_informer))
        return; /* half a picture would cut services off */
    for (size_t at = 0; r == 0 && (object = informer_next(node->services_informer, &at));)
        r = collect_service(&collector, object->service);
    if (r == 0)
        r = podnet_set_services(node->podnet, collector.services.items, collector.services.count, &diag);
    if (r < 0)
        log_error("cannot set the service addresses: %s", diag.message[0] ? diag.message : strerror(-r));
    VECTOR_DEINIT(&collector.services);
    loop_timer_set(&node->trim, NODE_TRIM_MS);
}

void services_changed(struct node *node) {
    loop_defer_schedule(&node->services_defer);
}
