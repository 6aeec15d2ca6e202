/* The nftables table of an instance as text. Pure. */
#ifndef TIDEMILL_PODNET_RULES_PRIV_H
#define TIDEMILL_PODNET_RULES_PRIV_H

#include "podnet/podnet.h"

#define RULES_BYTES_MAX (8 * MIB)

struct rules {
    const char *instance, *bridge, *cidr;
    const struct podnet_service *services;
    size_t services_count;
};
/* One transaction that replaces the whole table. Services with malformed addresses or port 0 are left out. */
int rules_format(const struct rules *rules, struct buffer *out);

#endif
