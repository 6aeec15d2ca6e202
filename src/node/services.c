/* Services and EndpointSlices brought into podnet's rules: all of them at once, after a turn of the loop in which something changed. Only ready
 * endpoints are used; a service whose endpoints are all on their way out keeps the terminating ones that still serve, so that the last requests of a
 * rollout find somebody. */
#include <fcntl.h>
#include <stdio.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define SERVICES_MAX 4096
#define ENDPOINTS_MAX 65536

#define LISTENERS_BYTES_MAX (4 * MIB)

struct collector {
    struct node *node;
    struct arena *arena;
    struct buffer listeners[2]; /* of TCP and UDP: what the machine itself listens on, as the kernel tells; read when a balancer is there */
    bool listeners_read;
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

/* --- what comes from outside --- */

static void read_listeners(struct collector *collector) {
    static const char *const paths[2][2] = {{"/proc/net/tcp", "/proc/net/tcp6"}, {"/proc/net/udp", "/proc/net/udp6"}};
    if (collector->listeners_read)
        return;
    collector->listeners_read = true;
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 2; k++)
            sys_read_file(AT_FDCWD, paths[i][k], LISTENERS_BYTES_MAX, &collector->listeners[i]);
}

/* "  sl  local_address rem_address st …": the address and port in hexadecimal, the state 0A (listening) or, of UDP, 07. */
static bool machine_listens(struct collector *collector, const struct kube_service_port *port) {
    char local[8];
    read_listeners(collector);
    struct slice text = buffer_slice(&collector->listeners[is_udp(port->protocol)]);
    snprintf(local, sizeof local, ":%04X", (unsigned)port->port);
    while (text.len) {
        struct slice line = slice_cut(&text, '\n'), words[4] = {{NULL, 0}};
        for (size_t i = 0; i < ARRAY_LEN(words); i++) {
            line = slice_trim(line);
            words[i] = slice_cut(&line, ' ');
        }
        if (slice_ends(words[1], slice_of(local)) && (slice_is(words[3], "0A") || slice_is(words[3], "07")))
            return true;
    }
    return false;
}

/* No other than this machine answers there. */
static bool is_the_machines(const struct collector *collector, const char *address) {
    return strcmp(address, collector->node->host_address) == 0 || strcmp(address, podnet_gateway(collector->node->podnet)) == 0 ||
           strncmp(address, "127.", 4) == 0;
}

/* External addresses, and those that the status says the balancer has. A port that the machine itself listens on stays the machine's: nobody is
 * locked out by a service, and no service takes what is meant for the machine. */
static int add_outer(struct collector *collector, const struct kube_service *service, const struct kube_service_port *port,
                     struct podnet_service *entry) {
    const struct kube_load_balancer_ingress_array *ingress = &service->status.load_balancer.ingress;
    const char **extra = ARENA_ARRAY(collector->arena, const char *, service->spec.external_ips.count + ingress->count + 1);
    if (!extra)
        return -ENOMEM;
    for (size_t i = 0; i < service->spec.external_ips.count; i++) {
        const char *address = service->spec.external_ips.items[i];
        if (!is_the_machines(collector, address) || !machine_listens(collector, port))
            extra[entry->extra_count++] = address;
    }
    for (size_t i = 0; i < ingress->count && !machine_listens(collector, port); i++)
        if (ingress->items[i].ip)
            extra[entry->extra_count++] = ingress->items[i].ip;
    entry->extra = extra;
    entry->sources = (const char *const *)service->spec.load_balancer_source_ranges.items;
    entry->sources_count = service->spec.load_balancer_source_ranges.count;
    return 0;
}

/* Somebody else's to serve, or nobody's, says who made it. */
bool services_leave_alone(const struct kube_service *service) {
    static const char *const labels[] = {"service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name"};
    bool found = false;
    for (size_t i = 0; i < ARRAY_LEN(labels); i++)
        found = found || kube_map_find(&service->metadata.labels, labels[i]);
    return found;
}

static int collect_service(struct collector *collector, const struct kube_service *service) {
    const char *address = service->spec.cluster_ip;
    if (!address || !*address || strcmp(address, "None") == 0 || services_leave_alone(service))
        return 0;
    for (size_t i = 0; i < service->spec.ports.count && collector->services.count < SERVICES_MAX; i++) {
        const struct kube_service_port *port = &service->spec.ports.items[i];
        struct podnet_service entry = {
            .address = address, .is_udp = is_udp(port->protocol), .port = (uint16_t)port->port, .node_port = (uint16_t)port->node_port};
        const char *affinity = service->spec.session_affinity;
        entry.affinity = affinity && strcmp(affinity, "ClientIP") == 0;
        if (add_outer(collector, service, port, &entry))
            return -ENOMEM;
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
    struct collector collector = {.node = node, .arena = arena, .listeners = {BUFFER_INIT(LISTENERS_BYTES_MAX), BUFFER_INIT(LISTENERS_BYTES_MAX)}};
    struct diag diag = DIAG_INIT;
    struct kube_object *object;
    int r = arena ? 0 : -ENOMEM;
    if (!informer_synced(node->services_informer) || !informer_synced(node->slices_informer))
        return; /* half a picture would cut services off */
    for (size_t at = 0; r == 0 && (object = informer_next(node->services_informer, &at));)
        r = collect_service(&collector, object->service);
    size_t ports_count = 0;
    const struct podnet_host_port *ports = r == 0 ? pod_network_ports(node, arena, &ports_count) : NULL;
    if (r == 0)
        r = ports ? podnet_set_services(node->podnet, collector.services.items, collector.services.count, ports, ports_count, &diag) : -ENOMEM;
    if (r < 0)
        log_error("cannot set the service addresses: %s", diag.message[0] ? diag.message : strerror(-r));
    VECTOR_DEINIT(&collector.services);
    for (size_t i = 0; i < ARRAY_LEN(collector.listeners); i++)
        buffer_deinit(&collector.listeners[i]);
    loop_timer_set(&node->trim, NODE_TRIM_MS);
}

void services_changed(struct node *node) {
    loop_defer_schedule(&node->services_defer);
}
