/* Which route a request takes: pure, no I/O. */
#ifndef TIDEMILL_PROXY_ROUTE_PRIV_H
#define TIDEMILL_PROXY_ROUTE_PRIV_H

#include "proxy/proxy.h"

/* Where a request goes; borrowed from the snapshot. upstream NULL: the backend that the route names does not exist. */
struct route_target {
    struct proxy_upstream *upstream;
    char *backend;
};

/* The host of a Host field or an absolute target, lower case, without port and final dot, into text (ROUTE_HOST_BYTES). -EINVAL: not a host. The
 * slice points into text. */
#define ROUTE_HOST_BYTES 256
int route_host_normalize(struct slice authority, char text[ROUTE_HOST_BYTES], struct slice *ret);

/* The path of an origin-form target as it is compared: without query, percent-escapes of ordinary characters decoded, dot segments removed. Most
 * paths are returned as they are; others are written into scratch (as long as the target). -EINVAL: bad escape, an encoded NUL or control character,
 * or ".." above the root. */
int route_path_normalize(struct slice target, char *scratch, struct slice *ret);

/* host and path normalized. NULL: no route and no default. */
const struct route_target *route_find(const struct proxy_routes *routes, struct slice host, struct slice path);

#endif
