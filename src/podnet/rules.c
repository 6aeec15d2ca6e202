/* The table `tidemill_<instance>`, written anew as one nftables transaction: the kernel switches from the old to the new rules between two packets,
 * and connection tracking keeps the ways of running connections.
 *
 * A packet to a service address is looked up in one verdict map (whatever the number of services), then sent to one of its endpoints at random. Pod
 * to service to pod: both pods are on one bridge, so the answer would go straight back and miss the translation; such connections are masqueraded
 * (they come from the bridge's address). A service without endpoints refuses at once instead of letting clients wait. */
#include "podnet/rules_priv.h"

#include <arpa/inet.h>

static bool is_address(const char *text) {
    struct in_addr parsed;
    return text && inet_pton(AF_INET, text, &parsed) == 1;
}

static size_t count_endpoints(const struct podnet_service *service) {
    size_t count = 0;
    for (size_t i = 0; i < service->endpoints_count; i++)
        count += is_address(service->endpoints[i].address) && service->endpoints[i].port;
    return count;
}

static bool is_valid(const struct podnet_service *service) {
    return is_address(service->address) && service->port;
}

static const char *protocol_of(const struct podnet_service *service) {
    return service->is_udp ? "udp" : "tcp";
}

static void add_chain(const struct podnet_service *service, size_t index, struct buffer *out) {
    size_t count = count_endpoints(service), at = 0;
    buffer_printf(out, "  chain service%zu {\n    meta l4proto %s dnat ip to numgen random mod %zu map {", index, protocol_of(service), count);
    for (size_t i = 0; i < service->endpoints_count; i++)
        if (is_address(service->endpoints[i].address) && service->endpoints[i].port)
            buffer_printf(out, "%s %zu : %s . %u", at ? "," : "", at, service->endpoints[i].address, service->endpoints[i].port), at++;
    buffer_append_text(out, " }\n  }\n");
}

enum element { ELEMENT_SERVICE, ELEMENT_NODE_PORT, ELEMENT_REFUSED };

static void add_elements(const struct rules *rules, enum element what, struct buffer *out) {
    bool first = true;
    for (size_t i = 0; i < rules->services_count; i++) {
        const struct podnet_service *service = &rules->services[i];
        bool has_endpoints = count_endpoints(service) > 0;
        if (!is_valid(service) || has_endpoints == (what == ELEMENT_REFUSED) || (what == ELEMENT_NODE_PORT && !service->node_port))
            continue;
        buffer_append_text(out, first ? "    elements = { " : ", ");
        first = false;
        if (what == ELEMENT_NODE_PORT)
            buffer_printf(out, "%s . %u", protocol_of(service), service->node_port);
        else
            buffer_printf(out, "%s . %s . %u", service->address, protocol_of(service), service->port);
        if (what != ELEMENT_REFUSED)
            buffer_printf(out, " : goto service%zu", i);
    }
    if (!first)
        buffer_append_text(out, " }\n");
}

int rules_format(const struct rules *rules, struct buffer *out) {
    const char *cidr = rules->cidr, *bridge = rules->bridge;
    buffer_printf(out, "table ip tidemill_%s {}\ndelete table ip tidemill_%s\ntable ip tidemill_%s {\n", rules->instance, rules->instance,
                  rules->instance);
    for (size_t i = 0; i < rules->services_count; i++)
        if (is_valid(&rules->services[i]) && count_endpoints(&rules->services[i]))
            add_chain(&rules->services[i], i, out);
    buffer_append_text(out, "  map services {\n    type ipv4_addr . inet_proto . inet_service : verdict\n");
    add_elements(rules, ELEMENT_SERVICE, out);
    buffer_append_text(out, "  }\n  map node_ports {\n    type inet_proto . inet_service : verdict\n");
    add_elements(rules, ELEMENT_NODE_PORT, out);
    buffer_append_text(out, "  }\n  set refused {\n    type ipv4_addr . inet_proto . inet_service\n");
    add_elements(rules, ELEMENT_REFUSED, out);
    buffer_append_text(out, "  }\n"
                            "  chain translate {\n    ip daddr . meta l4proto . th dport vmap @services\n    fib daddr type local meta l4proto . th "
                            "dport vmap @node_ports\n  }\n"
                            "  chain prerouting {\n    type nat hook prerouting priority -100\n    jump translate\n  }\n"
                            "  chain output {\n    type nat hook output priority -100\n    jump translate\n  }\n");
    buffer_printf(out,
                  "  chain postrouting {\n    type nat hook postrouting priority 100\n    ip saddr %s ip daddr != %s oifname != \"%s\" masquerade\n",
                  cidr, cidr, bridge);
    buffer_printf(out, "    ip saddr %s ip daddr %s ct status dnat masquerade\n  }\n", cidr, cidr);
    buffer_append_text(out, "  chain refuse {\n    ip daddr . meta l4proto . th dport @refused meta l4proto tcp reject with tcp reset\n    ip daddr "
                            ". meta l4proto . th dport @refused reject\n  }\n");
    buffer_printf(out, "  chain input {\n    type filter hook input priority 0\n    iifname \"%s\" ip daddr 127.0.0.0/8 drop\n  }\n", bridge);
    buffer_append_text(out, "  chain forward {\n    type filter hook forward priority 0\n    jump refuse\n  }\n"
                            "  chain refuse_local {\n    type filter hook output priority 0\n    jump refuse\n  }\n}\n");
    return buffer_error(out);
}
