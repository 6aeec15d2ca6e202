/* The cluster's names as podnet's answers want them, looked up in the informers when they are asked for: nothing is built in advance, nothing can be
 * stale. */
#include <arpa/inet.h>

#include "node/nameserver_priv.h"

static bool parse_address(const char *text, uint32_t *ret) {
    struct in_addr address;
    if (!text || inet_pton(AF_INET, text, &address) != 1)
        return false;
    *ret = ntohl(address.s_addr);
    return true;
}

static bool is_headless(const struct kube_service *service) {
    return service->spec.cluster_ip && strcmp(service->spec.cluster_ip, "None") == 0;
}

static bool is_external(const struct kube_service *service) {
    return service->spec.type && strcmp(service->spec.type, "ExternalName") == 0;
}

static bool belongs(const struct kube_endpoint_slice *slice, const struct kube_object_meta *service) {
    const char *name = kube_map_find(&slice->metadata.labels, "kubernetes.io/service-name");
    return name && strcmp(name, service->name) == 0 && strcmp(slice->metadata.namespace, service->namespace) == 0;
}

static bool is_usable(const struct kube_service *service, const struct kube_endpoint *endpoint, uint32_t *ret) {
    const bool *ready = endpoint->conditions.ready;
    return (!ready || *ready || service->spec.publish_not_ready_addresses) && endpoint->addresses.count &&
           parse_address(endpoint->addresses.items[0], ret);
}

/* The number behind a name may be the pods' own. */
static uint16_t endpoint_port(const struct kube_endpoint_slice *slice, const char *name, uint16_t otherwise) {
    for (size_t i = 0; i < slice->ports.count; i++) {
        const struct kube_discovery_endpoint_port *port = &slice->ports.items[i];
        if (port->port && strcmp(port->name ? port->name : "", name) == 0)
            return (uint16_t)*port->port;
    }
    return otherwise;
}

static void add_endpoints(struct kube_endpoint_slice *slice, const struct kube_service *service, struct podnet_dns_endpoint *endpoints,
                          size_t *count) {
    for (size_t i = 0; i < slice->endpoints.count && *count < PODNET_DNS_RECORDS_MAX; i++) {
        const struct kube_endpoint *endpoint = &slice->endpoints.items[i];
        struct podnet_dns_endpoint entry = {.hostname = endpoint->hostname && *endpoint->hostname ? endpoint->hostname : NULL};
        size_t at = 0;
        if (!is_usable(service, endpoint, &entry.address))
            continue;
        while (at < *count && endpoints[at].address != entry.address)
            at++;
        if (at == *count)
            endpoints[(*count)++] = entry;
    }
}

static size_t count_endpoints(struct node *node, const struct kube_service *service) {
    struct kube_object *object;
    size_t count = 0;
    for (size_t at = 0; (object = informer_next(node->slices_informer, &at));)
        if (belongs(object->endpoint_slice, &service->metadata))
            count += object->endpoint_slice->endpoints.count;
    return MIN(count, (size_t)PODNET_DNS_RECORDS_MAX);
}

static int fill_endpoints(struct node *node, const struct kube_service *service, struct arena *arena, struct podnet_dns_port *ports,
                          struct podnet_dns_service *ret) {
    struct podnet_dns_endpoint *endpoints = ARENA_ARRAY(arena, struct podnet_dns_endpoint, count_endpoints(node, service));
    struct kube_object *object;
    if (!endpoints)
        return -ENOMEM;
    ret->endpoints = endpoints;
    for (size_t at = 0; (object = informer_next(node->slices_informer, &at));) {
        if (!belongs(object->endpoint_slice, &service->metadata))
            continue;
        add_endpoints(object->endpoint_slice, service, endpoints, &ret->endpoints_count);
        for (size_t i = 0; i < ret->ports_count; i++)
            ports[i].port = endpoint_port(object->endpoint_slice, ports[i].name, ports[i].port);
    }
    return 0;
}

static int fill(struct node *node, const struct kube_service *service, struct arena *arena, struct podnet_dns_service *ret) {
    struct podnet_dns_port *ports = ARENA_ARRAY(arena, struct podnet_dns_port, service->spec.ports.count);
    if (!ports)
        return -ENOMEM;
    *ret = (struct podnet_dns_service){.namespace = service->metadata.namespace,
                                       .name = service->metadata.name,
                                       .headless = is_headless(service),
                                       .external_name = is_external(service) ? service->spec.external_name : NULL,
                                       .ports = ports,
                                       .ports_count = service->spec.ports.count};
    for (size_t i = 0; i < ret->ports_count; i++) {
        const struct kube_service_port *port = &service->spec.ports.items[i];
        ports[i] = (struct podnet_dns_port){port->name ? port->name : "", port->protocol ? port->protocol : "TCP", (uint16_t)port->port};
    }
    if (ret->headless)
        return fill_endpoints(node, service, arena, ports, ret);
    return ret->external_name || parse_address(service->spec.cluster_ip, &ret->address) ? 0 : -ENOENT;
}

static int find(void *userdata, const char *namespace, const char *name, struct arena *arena, struct podnet_dns_service *ret) {
    struct node *node = userdata;
    const struct kube_object *object = informer_find(node->services_informer, namespace, name);
    return object ? fill(node, object->service, arena, ret) : -ENOENT;
}

/* The endpoint of a headless service; one with a name of its own is preferred to an a-b-c-d. */
static int find_endpoint(struct node *node, uint32_t address, struct arena *arena, struct podnet_dns_service *ret,
                         const struct podnet_dns_endpoint **ret_endpoint) {
    struct podnet_dns_service service;
    struct kube_object *object;
    *ret_endpoint = NULL;
    for (size_t at = 0; (object = informer_next(node->services_informer, &at));) {
        int r = is_headless(object->service) ? fill(node, object->service, arena, &service) : -ENOENT;
        if (r < 0 && r != -ENOENT)
            return r;
        for (size_t i = 0; r == 0 && i < service.endpoints_count; i++)
            if (service.endpoints[i].address == address && (!*ret_endpoint || service.endpoints[i].hostname)) {
                *ret = service;
                *ret_endpoint = &service.endpoints[i];
            }
    }
    return *ret_endpoint ? 0 : -ENOENT;
}

static int find_address(void *userdata, uint32_t address, struct arena *arena, struct podnet_dns_service *ret,
                        const struct podnet_dns_endpoint **ret_endpoint) {
    struct node *node = userdata;
    struct kube_object *object;
    uint32_t own;
    *ret_endpoint = NULL;
    for (size_t at = 0; (object = informer_next(node->services_informer, &at));)
        if (parse_address(object->service->spec.cluster_ip, &own) && own == address)
            return fill(node, object->service, arena, ret);
    return find_endpoint(node, address, arena, ret, ret_endpoint);
}

static bool has_namespace(void *userdata, const char *namespace) {
    struct node *node = userdata;
    struct kube_object *object;
    for (size_t at = 0; (object = informer_next(node->services_informer, &at));)
        if (strcmp(object->metadata->namespace, namespace) == 0)
            return true;
    return false;
}

static void parse_network(const char *cidr, uint32_t *ret_network, uint32_t *ret_mask) {
    char text[INET_ADDRSTRLEN];
    uint64_t prefix;
    struct slice rest = slice_of(cidr), address = slice_cut(&rest, '/');
    snprintf(text, sizeof text, "%.*s", SLICE_ARG(address));
    if (!parse_address(text, ret_network) || slice_parse_u64(rest, 32, &prefix) < 0 || prefix == 0)
        return;
    *ret_mask = ~(uint32_t)0 << (32 - prefix);
    *ret_network &= *ret_mask;
}

void names_init(struct podnet_dns_source *source, struct node *node) {
    *source = (struct podnet_dns_source){.find = find, .find_address = find_address, .has_namespace = has_namespace, .userdata = node};
    parse_network(node->options->pod_cidr, &source->networks[0], &source->masks[0]);
    if (node->options->service_cidr)
        parse_network(node->options->service_cidr, &source->networks[1], &source->masks[1]);
}
