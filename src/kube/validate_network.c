/* Services, ingresses and endpoints. */
#include "kube/validate_priv.h"

#include <arpa/inet.h>
#include <stdio.h>

/* ---- addresses ---- */

/* Why nobody may be sent there: such an address means another machine to each who asks, and on this one its own parts, which trust who comes from it.
 */
static const char *special_address(const char *text) {
    struct in6_addr six;
    struct in_addr four = {0};
    bool mapped = inet_pton(AF_INET6, text, &six) == 1 && IN6_IS_ADDR_V4MAPPED(&six);
    bool is_four = mapped || inet_pton(AF_INET, text, &four) == 1;
    if (mapped)
        memcpy(&four, six.s6_addr + 12, sizeof four);
    uint32_t number = ntohl(four.s_addr);
    if (!is_four && inet_pton(AF_INET6, text, &six) != 1)
        return NULL;
    if (is_four ? number == 0 : IN6_IS_ADDR_UNSPECIFIED(&six))
        return "may not be unspecified (0.0.0.0 or ::)";
    if (is_four ? number >> 24 == 127 : IN6_IS_ADDR_LOOPBACK(&six))
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)";
    if (is_four ? number >> 16 == 0xa9fe : IN6_IS_ADDR_LINKLOCAL(&six))
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
    if (is_four ? number >> 8 == 0xe00000 : IN6_IS_ADDR_MC_LINKLOCAL(&six))
        return "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
    return NULL;
}

/* ---- services ---- */

static void check_service_ports(struct validator *validator, const struct kube_service_spec *spec) {
    for (size_t i = 0; i < spec->ports.count; i++) {
        const struct kube_service_port *port = &spec->ports.items[i];
        size_t before = kube_path_push_field(&validator->path, "ports");
        kube_path_push_index(&validator->path, i);
        const char *wrong = port->name ? format_check("dns-label", slice_of(port->name)) : NULL;
        if (!port->name && spec->ports.count > 1)
            fail_required(validator, "name", "");
        if (wrong)
            fail_text(validator, "name", port->name, "%s", wrong);
        if (port->node_port != 0 && kube_text_is(spec->type, "ClusterIP"))
            fail_forbidden(validator, "nodePort", "may not be used when `type` is 'ClusterIP'");
        for (size_t j = 0; j < i; j++) {
            const struct kube_service_port *other = &spec->ports.items[j];
            if (port->name && kube_text_is(other->name, port->name))
                fail_duplicate(validator, "name", port->name);
            if (port->port == other->port && strcmp(kube_text_or(port->protocol, ""), kube_text_or(other->protocol, "")) == 0) {
                fail_duplicate(validator, NULL, port->protocol);
                break;
            }
        }
        kube_path_pop(&validator->path, before);
    }
}

static void check_cluster_ip(struct validator *validator, const struct kube_service_spec *spec, const struct kube_service_spec *before) {
    bool none = kube_text_is(spec->cluster_ip, "None"), external = kube_text_is(spec->type, "ExternalName");
    if (spec->cluster_ip && !none && !text_is_ip(spec->cluster_ip))
        fail_text(validator, "clusterIPs[0]", spec->cluster_ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    if (external && spec->cluster_ip)
        fail_forbidden(validator, "clusterIPs", "may not be set when `type` is 'ExternalName'");
    if (none && (kube_text_is(spec->type, "NodePort") || kube_text_is(spec->type, "LoadBalancer")))
        fail_text(validator, "clusterIPs[0]", "None", "may not be set to 'None' for %s services", spec->type);
    if (!before || !before->cluster_ip || external || kube_text_is(before->type, "ExternalName"))
        return;
    if (!spec->cluster_ip)
        fail_value(validator, "clusterIPs[0]", "[]", "primary clusterIP can not be unset");
    else if (!kube_text_is(spec->cluster_ip, before->cluster_ip)) {
        char shown[80];
        snprintf(shown, sizeof shown, "[\"%.60s\"]", spec->cluster_ip);
        fail_value(validator, "clusterIPs[0]", shown, "may not change once set");
    }
}

void validate_service_spec(struct validator *validator, const void *data, const void *old) {
    const struct kube_service_spec *spec = data;
    bool external = kube_text_is(spec->type, "ExternalName");
    if (spec->ports.count == 0 && !external && !kube_text_is(spec->cluster_ip, "None"))
        fail_required(validator, "ports", "");
    check_service_ports(validator, spec);
    check_cluster_ip(validator, spec, old);
    if (external) {
        const char *wrong = spec->external_name ? format_check("dns-subdomain", slice_of(spec->external_name)) : NULL;
        if (!spec->external_name)
            fail_required(validator, "externalName", "");
        if (wrong)
            fail_text(validator, "externalName", spec->external_name, "%s", wrong);
    }
    for (size_t i = 0; i < spec->external_ips.count; i++) {
        const char *address = spec->external_ips.items[i], *wrong = special_address(address);
        if (!text_is_ip(address))
            wrong = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        if (!wrong)
            continue;
        size_t before = kube_path_push_field(&validator->path, "externalIPs");
        kube_path_push_index(&validator->path, i);
        fail_text(validator, NULL, address, "%s", wrong);
        kube_path_pop(&validator->path, before);
    }
}

void validate_service_port(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_service_port *port = data;
    if (port->target_port.is_string || port->target_port.number != 0)
        validate_port(validator, "targetPort", &port->target_port);
}

/* ---- ingresses ---- */

void validate_ingress_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_ingress_spec *spec = data;
    if (spec->rules.count == 0 && !spec->default_backend)
        fail_value(validator, NULL, "[]", "either `defaultBackend` or `rules` must be specified");
    if (spec->ingress_class_name) {
        const char *wrong = format_check("dns-subdomain", slice_of(spec->ingress_class_name));
        if (wrong)
            fail_text(validator, "ingressClassName", spec->ingress_class_name, "%s", wrong);
    }
}

static const char *check_host(struct slice host) {
    if (slice_starts(host, SLICE("*."))) {
        return name_is_dns_subdomain(slice_from(host, 2))
                   ? NULL
                   : "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case "
                     "alphanumeric "
                     "characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is "
                     "'\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    }
    return format_check("dns-subdomain", host);
}

void validate_ingress_rule(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_ingress_rule *rule = data;
    if (!rule->host)
        return;
    const char *wrong = text_is_ip(rule->host) ? "must be a DNS name, not an IP address" : check_host(slice_of(rule->host));
    if (wrong)
        fail_text(validator, "host", rule->host, "%s", wrong);
}

void validate_http_rule(struct validator *validator, const void *data, const void *old) {
    (void)old;
    if (((const struct kube_http_ingress_rule_value *)data)->paths.count == 0)
        fail_required(validator, "paths", "");
}

void validate_ingress_path(struct validator *validator, const void *data, const void *old) {
    (void)old;
    static const char *const inside[] = {"//", "/./", "/../", "%2f", "%2F"};
    static const char *const ends[] = {"/..", "/."};
    const struct kube_http_ingress_path *path = data;
    bool own = kube_text_is(path->path_type, "ImplementationSpecific");
    struct slice text = slice_of(path->path);
    if (own ? text.len > 0 && text.data[0] != '/' : !slice_starts(text, SLICE("/"))) {
        fail_text(validator, "path", path->path, "must be an absolute path");
        return;
    }
    for (size_t i = 0; !own && i < ARRAY_LEN(inside); i++)
        if (slice_find(text, slice_of(inside[i])) >= 0)
            fail_text(validator, "path", path->path, "must not contain '%s'", inside[i]);
    for (size_t i = 0; !own && i < ARRAY_LEN(ends); i++)
        if (slice_ends(text, slice_of(ends[i])))
            fail_text(validator, "path", path->path, "cannot end with '%s'", ends[i]);
}

static void check_backend_service(struct validator *validator, const struct kube_ingress_service_backend *service) {
    const char *wrong = service->name ? format_check("dns1035-label", slice_of(service->name)) : NULL;
    if (!service->name)
        fail_required(validator, "service.name", "");
    if (wrong)
        fail_text(validator, "service.name", service->name, "%s", wrong);
    if (service->port.name && service->port.number != 0)
        fail_text(validator, "service.port", "", "cannot set both port name & port number");
    else if (service->port.name) {
        wrong = format_check("port-name", slice_of(service->port.name));
        if (wrong)
            fail_text(validator, "service.port.name", service->port.name, "%s", wrong);
    } else if (service->port.number == 0)
        fail_required(validator, "service.port", "port name or number is required");
    else if (service->port.number < 1 || service->port.number > 65535)
        fail_number(validator, "service.port.number", service->port.number, "must be between 1 and 65535, inclusive");
}

void validate_ingress_backend(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_ingress_backend *backend = data;
    if (backend->resource && backend->service)
        fail_text(validator, NULL, "", "cannot set both resource and service backends");
    else if (backend->service)
        check_backend_service(validator, backend->service);
    else if (!backend->resource)
        fail_required(validator, NULL, "resource or service backend is required");
}

/* ---- endpoints ---- */

void validate_endpoint_subset(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_endpoint_subset *subset = data;
    if (subset->addresses.count + subset->not_ready_addresses.count == 0)
        fail_required(validator, NULL, "must specify `addresses` or `notReadyAddresses`");
}

void validate_endpoint_address(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const char *address = ((const struct kube_endpoint_address *)data)->ip, *wrong = address ? special_address(address) : NULL;
    if (wrong)
        fail_text(validator, "ip", address, "%s", wrong);
}

/* NULL: it is fine. */
static const char *wrong_address(const char *family, const char *address) {
    bool four = kube_text_is(family, "IPv4"), six = kube_text_is(family, "IPv6");
    if (four && (!text_is_ip(address) || text_is_ip6(address)))
        return "must be a valid IPv4 address";
    if (six && !text_is_ip6(address))
        return "must be a valid IPv6 address";
    return four || six ? special_address(address) : NULL;
}

void validate_endpoint_slice(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_endpoint_slice *slice = data;
    if (slice->endpoints.count > 1000)
        fail_value(validator, "endpoints", "[…]", "must have at most 1000 items");
    for (size_t i = 0; i < slice->endpoints.count; i++) {
        const struct kube_endpoint *endpoint = &slice->endpoints.items[i];
        for (size_t j = 0; j < endpoint->addresses.count; j++) {
            const char *wrong = wrong_address(slice->address_type, endpoint->addresses.items[j]);
            if (!wrong)
                continue;
            size_t before = kube_path_push_field(&validator->path, "endpoints");
            kube_path_push_index(&validator->path, i);
            kube_path_push_field(&validator->path, "addresses");
            kube_path_push_index(&validator->path, j);
            fail_text(validator, NULL, endpoint->addresses.items[j], "%s", wrong);
            kube_path_pop(&validator->path, before);
        }
    }
    for (size_t i = 0; i < slice->ports.count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(kube_text_or(slice->ports.items[i].name, ""), kube_text_or(slice->ports.items[j].name, "")) == 0) {
                size_t before = kube_path_push_field(&validator->path, "ports");
                kube_path_push_index(&validator->path, i);
                fail_duplicate(validator, "name", slice->ports.items[i].name);
                kube_path_pop(&validator->path, before);
                break;
            }
}

/* ---- classes ---- */

void validate_ingress_class_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    static const char *const scopes[] = {"Cluster", "Namespace", NULL};
    const struct kube_ingress_class_parameters_reference *parameters = ((const struct kube_ingress_class_spec *)data)->parameters;
    if (!parameters)
        return;
    bool cluster = kube_text_is(parameters->scope, "Cluster"), inside = kube_text_is(parameters->scope, "Namespace");
    if (!parameters->kind)
        fail_required(validator, "parameters.kind", "kind is required");
    if (!parameters->name)
        fail_required(validator, "parameters.name", "name is required");
    if (!cluster && !inside)
        fail_supported(validator, "parameters.scope", parameters->scope, scopes);
    if (inside && !parameters->namespace)
        fail_required(validator, "parameters.namespace", "`parameters.scope` is set to 'Namespace'");
    if (cluster && parameters->namespace)
        fail_forbidden(validator, "parameters.namespace", "`parameters.scope` is set to 'Cluster'");
}
