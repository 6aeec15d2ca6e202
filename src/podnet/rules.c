/* The table `tidemill_<instance>`, written anew as one nftables transaction: the kernel switches from the old to the new rules between two packets,
 * and connection tracking keeps the ways of running connections.
 *
 * A packet to a service address is looked up in one verdict map (whatever the number of services), then sent to one of its endpoints at random. Pod
 * to service to pod: both pods are on one bridge, so the answer would go straight back and miss the translation; such connections are masqueraded
 * (they come from the bridge's address). The same holds for what the machine sends to a node port of its own by a loopback address. A service without
 * endpoints refuses at once instead of letting clients wait.
 *
 * Session affinity is arithmetic, not memory: a client's address is hashed into one of AFFINITY_SLOTS, and each slot prefers the endpoints in an
 * order of its own. So clients stay with their endpoint across a new table, and when endpoints come or go only those move that must.
 *
 * A pod's port on the machine is an element beside the node ports, which lead to a chain with one address. An element of a claimed key is the first
 * claimant's.
 *
 * What listens on the bridge's address is for pods and this machine: packets to it that come in by another interface are dropped. */
#include "podnet/rules_priv.h"

#include <arpa/inet.h>
#include <stdio.h>

#define AFFINITY_SLOTS 256

static bool is_address(const char *text) {
    struct in_addr parsed;
    return text && inet_pton(AF_INET, text, &parsed) == 1;
}

static const char *protocol_name(enum podnet_protocol protocol) {
    return protocol == PODNET_UDP ? "udp" : protocol == PODNET_SCTP ? "sctp" : "tcp";
}

bool rules_is_any(const char *address) {
    return !*address || strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0;
}

/* A port that this family's table has: at every address, or at one of this family. */
static bool has_port(const struct podnet_host_port *port) {
    return port->host_port && port->port && is_address(port->address) && (!*port->host_address || is_address(port->host_address));
}

static bool is_usable(const struct podnet_endpoint *endpoint) {
    return is_address(endpoint->address) && endpoint->port;
}

static size_t count_endpoints(const struct podnet_service *service) {
    size_t count = 0;
    for (size_t i = 0; i < service->endpoints_count; i++)
        count += is_usable(&service->endpoints[i]);
    return count;
}

static bool is_valid(const struct podnet_service *service) {
    return is_address(service->address) && service->port;
}

static const char *protocol_of(const struct podnet_service *service) {
    return service->is_udp ? "udp" : "tcp";
}

/* --- chains --- */

/* The endpoint that the slot likes best (rendezvous hashing). */
static const struct podnet_endpoint *preferred(const struct podnet_service *service, unsigned slot) {
    const struct podnet_endpoint *best = NULL;
    uint64_t most = 0;
    for (size_t i = 0; i < service->endpoints_count; i++) {
        const struct podnet_endpoint *endpoint = &service->endpoints[i];
        if (!is_usable(endpoint))
            continue;
        uint64_t weight = slice_hash(slice_of(endpoint->address)) ^ endpoint->port;
        weight = (weight ^ (slot + 1) * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);
        weight = (weight ^ weight >> 29) * UINT64_C(0x94d049bb133111eb);
        if (!best || weight > most) {
            best = endpoint;
            most = weight;
        }
    }
    return best;
}

static void add_slots(const struct podnet_service *service, struct buffer *out) {
    buffer_printf(out, "jhash ip saddr mod %d map {", AFFINITY_SLOTS);
    for (unsigned slot = 0; slot < AFFINITY_SLOTS; slot++) {
        const struct podnet_endpoint *endpoint = preferred(service, slot);
        buffer_printf(out, "%s %u : %s . %u", slot ? "," : "", slot, endpoint->address, endpoint->port);
    }
    buffer_append_text(out, " }");
}

static void add_numbers(const struct podnet_service *service, struct buffer *out) {
    size_t at = 0;
    buffer_printf(out, "numgen random mod %zu map {", count_endpoints(service));
    for (size_t i = 0; i < service->endpoints_count; i++)
        if (is_usable(&service->endpoints[i]))
            buffer_printf(out, "%s %zu : %s . %u", at ? "," : "", at, service->endpoints[i].address, service->endpoints[i].port), at++;
    buffer_append_text(out, " }");
}

/* "10.0.0.0/8" and the like: what a person wrote. */
static bool is_range(const char *text) {
    struct slice rest = slice_of(text), address = slice_cut(&rest, '/');
    char copy[INET_ADDRSTRLEN];
    uint64_t prefix = 0;
    if (!address.len || address.len >= sizeof copy || !rest.data || slice_parse_u64(rest, 32, &prefix))
        return false;
    memcpy(copy, address.data, address.len);
    copy[address.len] = 0;
    return is_address(copy);
}

/* Only clients of these ranges get through by the service's outer addresses. Without a good range: nobody. */
static void add_gate(const struct podnet_service *service, size_t index, struct buffer *out) {
    size_t count = 0;
    buffer_printf(out, "  chain gate%zu {\n", index);
    for (size_t i = 0; i < service->sources_count; i++)
        if (is_range(service->sources[i]))
            buffer_printf(out, "%s%s", count++ ? ", " : "    ip saddr { ", service->sources[i]);
    if (count)
        buffer_printf(out, " } goto service%zu\n", index);
    buffer_append_text(out, "  }\n");
}

static void add_chain(const struct podnet_service *service, size_t index, struct buffer *out) {
    buffer_printf(out, "  chain service%zu {\n    meta l4proto %s dnat ip to ", index, protocol_of(service));
    if (service->affinity)
        add_slots(service, out);
    else
        add_numbers(service, out);
    buffer_append_text(out, "\n  }\n");
    if (service->sources_count)
        add_gate(service, index, out);
}

static void add_port_chain(const struct podnet_host_port *port, size_t index, struct buffer *out) {
    buffer_printf(out, "  chain port%zu {\n    meta l4proto %s dnat ip to %s:%u\n  }\n", index, protocol_name(port->protocol), port->address,
                  port->port);
}

/* --- elements of the maps --- */

enum element { ELEMENT_SERVICE, ELEMENT_NODE_PORT, ELEMENT_REFUSED };

struct elements {
    const struct rules *rules;
    enum element what;
    struct buffer *out;
    struct map *seen; /* an element that stands twice would spoil the whole table */
    bool first;
    int error;
};

/* address NULL: at all of the machine's. chain NULL: the element of a set. */
static void add_element(struct elements *elements, const char *address, const char *protocol, uint16_t port, const char *chain, size_t index) {
    char key[64];
    if (address)
        snprintf(key, sizeof key, "%s . %s . %u", address, protocol, port);
    else
        snprintf(key, sizeof key, "%s . %u", protocol, port);
    if (map_find(elements->seen, slice_of(key)))
        return;
    if (map_put(elements->seen, slice_of(key), elements, NULL))
        elements->error = -ENOMEM;
    buffer_printf(elements->out, "%s%s", elements->first ? "    elements = { " : ", ", key);
    elements->first = false;
    if (chain)
        buffer_printf(elements->out, " : goto %s%zu", chain, index);
}

static void add_service_element(struct elements *elements, size_t index, const char *address, uint16_t port, bool gated) {
    const char *chain = elements->what == ELEMENT_REFUSED ? NULL : gated ? "gate" : "service";
    add_element(elements, address, protocol_of(&elements->rules->services[index]), port, chain, index);
}

static void add_port_elements(struct elements *elements) {
    for (size_t i = 0; i < elements->rules->ports_count; i++) {
        const struct podnet_host_port *port = &elements->rules->ports[i];
        bool any = rules_is_any(port->host_address);
        if (elements->what != ELEMENT_REFUSED && has_port(port) && any == (elements->what == ELEMENT_NODE_PORT))
            add_element(elements, any ? NULL : port->host_address, protocol_name(port->protocol), port->host_port, "port", i);
    }
}

/* The cluster's own addresses go before what services claim besides. */
static int add_elements(const struct rules *rules, enum element what, struct buffer *out) {
    CLEANUP(map_freep) struct map *seen = map_new();
    struct elements elements = {.rules = rules, .what = what, .out = out, .seen = seen, .first = true, .error = seen ? 0 : -ENOMEM};
    for (int outer = 0; outer < 2 && !elements.error; outer++)
        for (size_t i = 0; i < rules->services_count && !elements.error; i++) {
            const struct podnet_service *service = &rules->services[i];
            bool has_endpoints = count_endpoints(service) > 0;
            if (!is_valid(service) || has_endpoints == (what == ELEMENT_REFUSED) || (what == ELEMENT_NODE_PORT && (!service->node_port || outer)))
                continue;
            if (what == ELEMENT_NODE_PORT)
                add_service_element(&elements, i, NULL, service->node_port, service->sources_count > 0);
            else if (!outer)
                add_service_element(&elements, i, service->address, service->port, false);
            for (size_t k = 0; outer && k < service->extra_count; k++)
                if (is_address(service->extra[k]))
                    add_service_element(&elements, i, service->extra[k], service->port, service->sources_count > 0);
        }
    add_port_elements(&elements);
    if (!elements.first)
        buffer_append_text(out, " }\n");
    return elements.error;
}

int rules_format(const struct rules *rules, struct buffer *out) {
    const char *cidr = rules->cidr, *bridge = rules->bridge;
    buffer_printf(out, "table ip tidemill_%s {}\ndelete table ip tidemill_%s\ntable ip tidemill_%s {\n", rules->instance, rules->instance,
                  rules->instance);
    for (size_t i = 0; i < rules->services_count; i++)
        if (is_valid(&rules->services[i]) && count_endpoints(&rules->services[i]))
            add_chain(&rules->services[i], i, out);
    for (size_t i = 0; i < rules->ports_count; i++)
        if (has_port(&rules->ports[i]))
            add_port_chain(&rules->ports[i], i, out);
    buffer_append_text(out, "  map services {\n    type ipv4_addr . inet_proto . inet_service : verdict\n");
    int error = add_elements(rules, ELEMENT_SERVICE, out);
    buffer_append_text(out, "  }\n  map node_ports {\n    type inet_proto . inet_service : verdict\n");
    error = error ? error : add_elements(rules, ELEMENT_NODE_PORT, out);
    buffer_append_text(out, "  }\n  set refused {\n    type ipv4_addr . inet_proto . inet_service\n");
    error = error ? error : add_elements(rules, ELEMENT_REFUSED, out);
    buffer_append_text(out, "  }\n"
                            "  chain translate {\n    ip daddr . meta l4proto . th dport vmap @services\n    fib daddr type local meta l4proto . th "
                            "dport vmap @node_ports\n  }\n"
                            "  chain prerouting {\n    type nat hook prerouting priority -100\n    jump translate\n  }\n"
                            "  chain output {\n    type nat hook output priority -100\n    jump translate\n  }\n");
    buffer_printf(out,
                  "  chain postrouting {\n    type nat hook postrouting priority 100\n    ip saddr %s ip daddr != %s oifname != \"%s\" masquerade\n",
                  cidr, cidr, bridge);
    buffer_printf(out, "    ip saddr { %s, 127.0.0.0/8 } ip daddr %s ct status dnat masquerade\n  }\n", cidr, cidr);
    buffer_append_text(out, "  chain refuse {\n    ip daddr . meta l4proto . th dport @refused meta l4proto tcp reject with tcp reset\n    ip daddr "
                            ". meta l4proto . th dport @refused reject\n  }\n");
    buffer_printf(out,
                  "  chain input {\n    type filter hook input priority 0\n    iifname \"%s\" ip daddr 127.0.0.0/8 ct direction reply accept\n"
                  "    iifname \"%s\" ip daddr 127.0.0.0/8 drop\n"
                  "    iifname != \"%s\" iifname != \"lo\" ip daddr %s ct status != dnat drop\n  }\n",
                  bridge, bridge, bridge, cidr);
    buffer_append_text(out, "  chain forward {\n    type filter hook forward priority 0\n    jump refuse\n  }\n"
                            "  chain refuse_local {\n    type filter hook output priority 0\n    jump refuse\n  }\n}\n");
    return error ? error : buffer_error(out);
}
