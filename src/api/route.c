/* The path router. Kubernetes' paths are regular, so a path is cut into decoded segments and read from left to right:
 *
 *     /api/v1[/namespaces/{namespace}]/{plural}[/{name}[/{subresource}]]        group ""
 *     /apis/{group}/{version}[/namespaces/{namespace}]/{plural}[/{name}[/{subresource}]]
 *
 * with one irregularity: `namespaces/{name}` is an object of its own, and `namespaces/{name}/status` and `…/finalize` are its subresources, not
 * collections. What follows a `proxy` subresource belongs to another server and stays as it came. Segments are decoded once, after the cut, so that
 * an encoded slash never makes a segment; segments "." and ".." are refused. */
#include "api/route.h"

#include "codec/codec.h"

#define SEGMENTS_MAX 12

struct segments {
    const char *items[SEGMENTS_MAX];
    size_t count;
    struct slice rest; /* what a proxy gets */
};

static const struct {
    const char *first;
    enum api_route_type type;
} fixed[] = {
    {"healthz", ROUTE_HEALTH}, {"livez", ROUTE_HEALTH}, {"readyz", ROUTE_HEALTH}, {"version", ROUTE_VERSION}, {"metrics", ROUTE_METRICS},
};

static int decode_segment(struct arena *arena, struct slice raw, const char **ret) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(HTTP_TARGET_BYTES_MAX);
    int error = percent_decode(&text, raw, false);
    if (error)
        return error;
    char *copy = arena_dup(arena, buffer_slice(&text));
    if (!copy)
        return -ENOMEM;
    if (strlen(copy) != text.len || !strcmp(copy, ".") || !strcmp(copy, ".."))
        return -EINVAL; /* a NUL inside, or a step up */
    *ret = copy;
    return 0;
}

/* /api/v1/nodes/{name}/proxy, /api/v1/namespaces/{namespace}/{plural}/{name}/proxy: what follows is another server's, and not looked at. */
static bool is_proxy(const struct segments *segments) {
    const char *const *items = segments->items;
    size_t at = segments->count - 1;
    return !strcmp(items[at], "proxy") && !strcmp(items[0], "api") &&
           ((at == 4 && !strcmp(items[2], "nodes")) || (at == 6 && !strcmp(items[2], "namespaces")));
}

static int split(struct arena *arena, struct slice path, struct segments *segments) {
    while (path.len && path.data[0] == '/')
        path = slice_from(path, 1);
    while (path.len) {
        struct slice raw = slice_cut(&path, '/');
        if (!raw.len)
            continue; /* doubled or trailing slashes mean nothing */
        if (segments->count == SEGMENTS_MAX)
            return -EINVAL;
        int error = decode_segment(arena, raw, &segments->items[segments->count]);
        if (error)
            return error;
        segments->count++;
        if (!is_proxy(segments))
            continue;
        segments->rest = path.data ? slice_make(path.data - 1, path.len + 1) : (struct slice){NULL, 0}; /* from its slash */
        return 0;
    }
    return 0;
}

/* What follows the group version. */
static void read_resource(const struct segments *segments, size_t at, struct api_route *route) {
    size_t left = segments->count - at;
    const char *const *rest = segments->items + at;
    if (!left) {
        route->type = ROUTE_RESOURCES;
        return;
    }
    route->type = ROUTE_RESOURCE;
    bool own_subresource = left == 3 && (!strcmp(rest[2], "status") || !strcmp(rest[2], "finalize"));
    if (!strcmp(rest[0], "namespaces") && left >= 3 && !own_subresource) {
        route->namespace = rest[1];
        rest += 2;
        left -= 2;
    }
    if (left > 3) {
        route->type = ROUTE_UNKNOWN;
        return;
    }
    route->plural = rest[0];
    route->name = left > 1 ? rest[1] : "";
    route->subresource = left > 2 ? rest[2] : "";
}

static void read_openapi(const struct segments *segments, struct api_route *route) {
    const char *const *items = segments->items;
    if (segments->count == 2 && !strcmp(items[1], "v2")) {
        route->type = ROUTE_OPENAPI_V2;
    } else if (segments->count == 2 && !strcmp(items[1], "v3")) {
        route->type = ROUTE_OPENAPI_INDEX;
    } else if (segments->count == 4 && !strcmp(items[1], "v3") && !strcmp(items[2], "api")) {
        route->type = ROUTE_OPENAPI_V3;
        route->version = items[3];
    } else if (segments->count == 5 && !strcmp(items[1], "v3") && !strcmp(items[2], "apis")) {
        route->type = ROUTE_OPENAPI_V3;
        route->group = items[3];
        route->version = items[4];
    }
}

static void read_groups(const struct segments *segments, struct api_route *route) {
    if (segments->count == 1) {
        route->type = ROUTE_GROUPS;
        return;
    }
    route->group = segments->items[1];
    if (segments->count == 2) {
        route->type = ROUTE_GROUP;
        return;
    }
    route->version = segments->items[2];
    read_resource(segments, 3, route);
}

static void read_core(const struct segments *segments, struct api_route *route) {
    if (segments->count == 1) {
        route->type = ROUTE_CORE_VERSIONS;
        return;
    }
    route->version = segments->items[1];
    read_resource(segments, 2, route);
}

static void read_tokens(const struct segments *segments, struct api_route *route) {
    if (segments->count < 2 || segments->count > 3 || strcmp(segments->items[1], "tokens"))
        return;
    route->type = ROUTE_TOKENS;
    route->name = segments->count == 3 ? segments->items[2] : "";
}

int api_route_parse(struct arena *arena, struct slice path, struct api_route *ret) {
    *ret = (struct api_route){.group = "", .version = "", .plural = "", .namespace = "", .name = "", .subresource = ""};
    struct segments segments = {.count = 0};
    int error = split(arena, path, &segments);
    if (error)
        return error;
    if (!segments.count) {
        ret->type = ROUTE_ROOT;
        return 0;
    }
    const char *first = segments.items[0];
    ret->rest = segments.rest;
    if (slice_is(path, "/openid/v1/jwks"))
        ret->type = ROUTE_TOKEN_KEYS;
    else if (slice_is(path, "/.well-known/openid-configuration"))
        ret->type = ROUTE_TOKEN_ISSUER;
    else if (!strcmp(first, "tidemill"))
        read_tokens(&segments, ret);
    else if (!strcmp(first, "api"))
        read_core(&segments, ret);
    else if (!strcmp(first, "apis"))
        read_groups(&segments, ret);
    else if (!strcmp(first, "openapi"))
        read_openapi(&segments, ret);
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        if (!strcmp(first, fixed[i].first))
            ret->type = fixed[i].type;
    return 0;
}
