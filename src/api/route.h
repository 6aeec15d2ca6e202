/* What a request path means. Pure. */
#ifndef TIDEMILL_API_ROUTE_H
#define TIDEMILL_API_ROUTE_H

#include "base/base.h"

enum api_route_type {
    ROUTE_UNKNOWN,
    ROUTE_ROOT,          /* / */
    ROUTE_HEALTH,        /* /healthz /livez /readyz and below */
    ROUTE_VERSION,       /* /version */
    ROUTE_METRICS,       /* /metrics */
    ROUTE_CORE_VERSIONS, /* /api */
    ROUTE_GROUPS,        /* /apis */
    ROUTE_GROUP,         /* /apis/{group} */
    ROUTE_RESOURCES,     /* /api/v1, /apis/{group}/{version} */
    ROUTE_RESOURCE,      /* a collection, an object or its subresource */
    ROUTE_OPENAPI_V2,    /* /openapi/v2 */
    ROUTE_OPENAPI_INDEX, /* /openapi/v3 */
    ROUTE_OPENAPI_V3,    /* /openapi/v3/api/v1, /openapi/v3/apis/{group}/{version} */
    ROUTE_TOKEN_KEYS,    /* /openid/v1/jwks */
    ROUTE_TOKEN_ISSUER,  /* /.well-known/openid-configuration */
    ROUTE_TOKENS,        /* /tidemill/tokens[/{name}] */
};

/* Decoded and NUL-terminated, in the arena; "" when absent. */
struct api_route {
    enum api_route_type type;
    const char *group, *version, *plural, *namespace, *name, *subresource;
    struct slice rest; /* of a proxy: what follows, as it came, with its slash; empty: nothing */
};

/* 0; -EINVAL for a path with broken escapes, too many segments, or "." and ".." in it; -ENOMEM. Unknown paths give 0 and ROUTE_UNKNOWN. */
int api_route_parse(struct arena *arena, struct slice path, struct api_route *ret);

#endif
