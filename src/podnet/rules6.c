/* The table of IPv6. Services have IPv4 addresses only; what remains is the pods' way out, by the machine's address, since theirs are local ones, and
 * the machine's ports that lead to pods. Not from ::1: a packet from there cannot leave the machine, whatever its destination has become. */
#include <arpa/inet.h>

#include "podnet/rules_priv.h"

static bool is_address6(const char *text) {
    struct in6_addr parsed;
    return text && inet_pton(AF_INET6, text, &parsed) == 1;
}

static const char *const names[] = {[PODNET_TCP] = "tcp", [PODNET_UDP] = "udp", [PODNET_SCTP] = "sctp"};

static bool has_port(const struct podnet_host_port *port) {
    return port->host_port && port->port && is_address6(port->address6) && (!*port->host_address || is_address6(port->host_address));
}

static bool claims_same(const struct podnet_host_port *a, const struct podnet_host_port *b) {
    struct in6_addr one = {0}, two = {0};
    inet_pton(AF_INET6, a->host_address, &one);
    inet_pton(AF_INET6, b->host_address, &two);
    return a->protocol == b->protocol && a->host_port == b->host_port && memcmp(&one, &two, sizeof one) == 0;
}

static bool is_first(const struct rules *rules, size_t index) {
    for (size_t i = 0; i < index; i++)
        if (has_port(&rules->ports[i]) && claims_same(&rules->ports[i], &rules->ports[index]))
            return false;
    return true;
}

static void add_chains(const struct rules *rules, struct buffer *out) {
    for (size_t i = 0; i < rules->ports_count; i++)
        if (has_port(&rules->ports[i]))
            buffer_printf(out, "  chain port%zu {\n    meta l4proto %s dnat ip6 to [%s]:%u\n  }\n", i, names[rules->ports[i].protocol],
                          rules->ports[i].address6, rules->ports[i].port);
}

static void add_elements(const struct rules *rules, bool any, struct buffer *out) {
    bool first = true;
    for (size_t i = 0; i < rules->ports_count; i++) {
        const struct podnet_host_port *port = &rules->ports[i];
        if (!has_port(port) || rules_is_any(port->host_address) != any || !is_first(rules, i))
            continue;
        buffer_append_text(out, first ? "    elements = { " : ", ");
        if (!any)
            buffer_printf(out, "%s . ", port->host_address);
        buffer_printf(out, "%s . %u : goto port%zu", names[port->protocol], port->host_port, i);
        first = false;
    }
    if (!first)
        buffer_append_text(out, " }\n");
}

int rules6_format(const struct rules *rules, struct buffer *out) {
    const char *cidr = rules->cidr6, *bridge = rules->bridge;
    buffer_printf(out, "table ip6 tidemill_%s {}\ndelete table ip6 tidemill_%s\ntable ip6 tidemill_%s {\n", rules->instance, rules->instance,
                  rules->instance);
    add_chains(rules, out);
    buffer_append_text(out, "  map ports {\n    type inet_proto . inet_service : verdict\n");
    add_elements(rules, true, out);
    buffer_append_text(out, "  }\n  map ports_at {\n    type ipv6_addr . inet_proto . inet_service : verdict\n");
    add_elements(rules, false, out);
    buffer_append_text(out, "  }\n  chain translate {\n    ip6 daddr ::1 return\n    ip6 daddr . meta l4proto . th dport vmap @ports_at\n"
                            "    fib daddr type local meta l4proto . th dport vmap @ports\n  }\n"
                            "  chain prerouting {\n    type nat hook prerouting priority -100\n    jump translate\n  }\n"
                            "  chain output {\n    type nat hook output priority -100\n    jump translate\n  }\n");
    buffer_printf(out,
                  "  chain postrouting {\n    type nat hook postrouting priority 100\n    ip6 saddr %s ip6 daddr != %s oifname != \"%s\" masquerade\n"
                  "    ip6 saddr %s ip6 daddr %s ct status dnat masquerade\n  }\n",
                  cidr, cidr, bridge, cidr, cidr);
    buffer_printf(
        out,
        "  chain input {\n    type filter hook input priority 0\n    iifname != \"%s\" iifname != \"lo\" ip6 daddr %s ct status != dnat drop\n"
        "  }\n}\n",
        bridge, cidr);
    return buffer_error(out);
}
