/* The guard at the bridge's ports as text: the nftables table `tidemill_<instance>` of the family bridge. Pure. */
#ifndef TIDEMILL_PODNET_GUARD_PRIV_H
#define TIDEMILL_PODNET_GUARD_PRIV_H

#include "podnet/podnet_priv.h"

#define GUARD_WINDOW 64
#define GUARD_BYTES_MAX (2 * MIB)
/* One transaction that replaces the whole table: the addresses in use, and those from podnet->guarded_from to before guarded_to. */
int guard_format(const struct podnet *podnet, struct buffer *out);

#endif
