/* A pod sends from its own addresses only: by IP, by ARP, by neighbour discovery; it announces no routers. So one that may write raw packets can
 * neither answer for another pod nor make itself the gateway.
 *
 * A pod's port, hardware address and IPv6 address all follow from its IPv4 address. That is why the table can be written ahead of the pods: it knows
 * the addresses in use and the next GUARD_WINDOW ones, and starting a pod changes nothing in it. Ports with other names (of pods that an older
 * release started) are not looked at. */
#include "podnet/guard_priv.h"

#include <arpa/inet.h>
#include <stdio.h>

enum set { SET_PODS, SET_PODS6, SET_TARGETS6, SETS };

static void add_raw6(const struct in6_addr *address, struct buffer *out) {
    buffer_append_text(out, "0x");
    for (int i = 0; i < 16; i++)
        buffer_printf(out, "%02x", address->s6_addr[i]);
}

static void add_element(const struct podnet *podnet, enum set set, uint32_t address, bool first, struct buffer *out) {
    char name[IFNAMSIZ], text[INET6_ADDRSTRLEN], hardware[24];
    unsigned char mac[6];
    podnet_port_name(podnet, address, name);
    podnet_mac(address, mac);
    snprintf(hardware, sizeof hardware, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    const struct in6_addr own[] = {range6_at(&podnet->range6, address & ~podnet->addresses.mask), address6_link_local(mac)};
    buffer_append_text(out, first ? "    elements = { " : ", ");
    if (set == SET_PODS) {
        address_text(address, text);
        buffer_printf(out, "\"%s\" . %s . %s", name, hardware, text);
    }
    for (size_t i = 0; set != SET_PODS && i < ARRAY_LEN(own); i++) {
        inet_ntop(AF_INET6, &own[i], text, sizeof text);
        buffer_printf(out, "%s\"%s\" . ", i ? ", " : "", name);
        if (set == SET_PODS6)
            buffer_printf(out, "%s . %s", hardware, text);
        else
            add_raw6(&own[i], out);
    }
}

static bool is_ahead(const struct podnet *podnet, uint32_t address) {
    return address >= podnet->guarded_from && address < podnet->guarded_to;
}

static void add_elements(const struct podnet *podnet, enum set set, struct buffer *out) {
    bool first = true;
    for (size_t i = 0; i < podnet->addresses.entries.count; i++) {
        uint32_t address = podnet->addresses.entries.items[i].address;
        if (is_ahead(podnet, address))
            continue;
        add_element(podnet, set, address, first, out);
        first = false;
    }
    for (uint32_t address = podnet->guarded_from; address < podnet->guarded_to; address++, first = false)
        add_element(podnet, set, address, first, out);
    if (!first)
        buffer_append_text(out, " }\n");
}

int guard_format(const struct podnet *podnet, struct buffer *out) {
    static const char *const types[SETS] = {"type ifname . ether_addr . ipv4_addr", "type ifname . ether_addr . ipv6_addr",
                                            "typeof iifname . @th,64,128"};
    static const char *const names[SETS] = {"pods", "pods6", "targets6"};
    size_t sets = podnet->range6.prefix ? SETS : SET_PODS6;
    buffer_printf(out, "table bridge tidemill_%s {}\ndelete table bridge tidemill_%s\ntable bridge tidemill_%s {\n", podnet->instance,
                  podnet->instance, podnet->instance);
    for (size_t set = 0; set < sets; set++) {
        buffer_printf(out, "  set %s {\n    %s\n", names[set], types[set]);
        add_elements(podnet, set, out);
        buffer_append_text(out, "  }\n");
    }
    buffer_append_text(out, "  chain from_pod {\n    ether type ip iifname . ether saddr . ip saddr @pods accept\n    ether type arp iifname . ether "
                            "saddr . arp saddr ip @pods iifname . arp saddr ether . arp saddr ip @pods accept\n");
    if (podnet->range6.prefix)
        buffer_append_text(out, "    icmpv6 type { nd-router-advert, nd-redirect } drop\n"
                                "    icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets6 drop\n"
                                "    ether type ip6 iifname . ether saddr . ip6 saddr @pods6 accept\n"
                                "    ip6 saddr :: icmpv6 type { nd-neighbor-solicit, mld2-listener-report } accept\n");
    buffer_printf(out,
                  "    counter drop\n  }\n  chain prerouting {\n    type filter hook prerouting priority -300\n    iifname \"%s*\" jump from_pod\n"
                  "  }\n}\n",
                  podnet->port_prefix);
    return buffer_error(out);
}
