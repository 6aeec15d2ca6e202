/* IPv6 addresses of pods: the range's prefix, and as the last bits those of the pod's IPv4 address, so that one table of addresses is enough. Pure.
 */
#ifndef TIDEMILL_PODNET_ADDRESS6_PRIV_H
#define TIDEMILL_PODNET_ADDRESS6_PRIV_H

#include <netinet/in.h>

#include "base/base.h"

struct range6 {
    struct in6_addr network;
    unsigned prefix; /* 0: none */
};
/* "fd00:1:2::/64"; -EINVAL unless the prefix is 8 to 112 and host bits are zero. */
int range6_parse(const char *text, struct range6 *ret);
/* A range of one's own for local use (RFC 4193) that follows from the seed. */
void range6_local(struct slice seed, struct range6 *ret);
/* host: the bits of the IPv4 address that are not the network's. */
struct in6_addr range6_at(const struct range6 *range, uint32_t host);
/* The link-local address that a device with this hardware address gives itself (RFC 4291, appendix A). */
struct in6_addr address6_link_local(const unsigned char mac[6]);
void range6_text(const struct range6 *range, char ret[64]);

#endif
