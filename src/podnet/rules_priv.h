/* The nftables table of an instance as text. Pure. */
#ifndef TIDEMILL_PODNET_RULES_PRIV_H
#define TIDEMILL_PODNET_RULES_PRIV_H

#include "podnet/podnet.h"

#define RULES_BYTES_MAX (8 * MIB)

struct rules {
    const char *instance, *bridge, *cidr, *cidr6; /* cidr6 "": no table for IPv6 */
    const struct podnet_service *services;
    size_t services_count;
    const struct podnet_host_port *ports;
    size_t ports_count;
};
/* One transaction that replaces the whole table. Services with malformed addresses or port 0 are left out. */
int rules_format(const struct rules *rules, struct buffer *out);
/* As above, of IPv6 (rules6.c): pods' way out, and the machine's ports that lead to pods. */
int rules6_format(const struct rules *rules, struct buffer *out);
bool rules_is_any(const char *address); /* "", "0.0.0.0", "::" */

#endif
