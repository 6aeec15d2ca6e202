#include "podnet/address6_priv.h"

#include <arpa/inet.h>
#include <stdio.h>

static bool has_host_bits(const struct in6_addr *address, unsigned prefix) {
    for (unsigned bit = prefix; bit < 128; bit++)
        if (address->s6_addr[bit / 8] & 0x80 >> bit % 8)
            return true;
    return false;
}

int range6_parse(const char *text, struct range6 *ret) {
    struct slice rest = slice_of(text), host = slice_cut(&rest, '/');
    struct range6 range;
    char address[INET6_ADDRSTRLEN];
    uint64_t prefix;
    if (host.len >= sizeof address || slice_parse_u64(rest, 112, &prefix) < 0 || prefix < 8)
        return -EINVAL;
    snprintf(address, sizeof address, "%.*s", SLICE_ARG(host));
    if (inet_pton(AF_INET6, address, &range.network) != 1 || has_host_bits(&range.network, (unsigned)prefix))
        return -EINVAL;
    range.prefix = (unsigned)prefix;
    *ret = range;
    return 0;
}

void range6_local(struct slice seed, struct range6 *ret) {
    uint64_t hash = slice_hash(seed);
    *ret = (struct range6){.network = {.s6_addr = {0xfd}}, .prefix = 64};
    for (int i = 0; i < 5; i++)
        ret->network.s6_addr[1 + i] = (unsigned char)(hash >> 8 * i);
}

struct in6_addr range6_at(const struct range6 *range, uint32_t host) {
    struct in6_addr address = range->network;
    for (int i = 0; i < 4; i++)
        address.s6_addr[15 - i] |= (unsigned char)(host >> 8 * i);
    return address;
}

struct in6_addr address6_link_local(const unsigned char mac[6]) {
    return (struct in6_addr){.s6_addr = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}};
}

void range6_text(const struct range6 *range, char ret[64]) {
    char address[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, &range->network, address, sizeof address);
    snprintf(ret, 64, "%s/%u", address, range->prefix);
}
