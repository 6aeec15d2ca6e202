/* The route table. Problem: the Ingress specification orders matches by host (exact, then wildcard of one label, then any), then by the longest path,
 * Exact before Prefix at the same length; prefixes compare path elements, not characters. A table may hold thousands of paths and is asked once per
 * request.
 *
 * Each host has two maps, exact paths and prefixes (kept without their final '/'). A lookup tries the whole path as exact, then each prefix of whole
 * elements, longest first. Only as many elements are tried as the deepest prefix of the host has, so a long path costs no more than the table is
 * deep.
 *
 * Invariants: (1) a snapshot never changes after proxy_set_routes; (2) it holds one reference to each upstream it names; (3) of two equal routes the
 * first added stays: the role adds the oldest Ingress first. A path that matches nothing under its exact host is looked up under the wildcard host
 * and the hostless rules, then goes to the default backend: a rule matches when host *and* path match (networking.k8s.io/v1, IngressRule).
 *
 * The path is compared in normal form but forwarded as sent: "%61dmin" or "/x/../admin" must not slip past a rule for /admin that the application
 * would see. */
#include "proxy/route_priv.h"

struct route_host {
    struct map *exact;
    struct map *prefixes;
    size_t depth_max; /* elements of the deepest prefix */
};

struct proxy_routes {
    unsigned references;
    size_t count;
    struct map *hosts; /* "example.org", ".example.org" for the wildcard, "" for any */
    struct route_target *fallback;
};

struct proxy_routes *proxy_routes_new(void) {
    struct proxy_routes *routes = calloc(1, sizeof *routes);
    if (!routes)
        return NULL;
    routes->references = 1;
    routes->hosts = map_new();
    if (!routes->hosts) {
        free(routes);
        return NULL;
    }
    return routes;
}

static void target_free(struct route_target *target) {
    if (!target)
        return;
    proxy_upstream_unref(target->upstream);
    free(target->backend);
    free(target);
}

static struct route_target *target_new(struct proxy_upstream *upstream, const char *backend) {
    struct route_target *target = calloc(1, sizeof *target);
    if (!target)
        return NULL;
    target->backend = slice_dup(slice_of(backend ? backend : ""));
    if (!target->backend) {
        free(target);
        return NULL;
    }
    if (upstream)
        target->upstream = proxy_upstream_ref(upstream);
    return target;
}

static void targets_free(struct map *map) {
    void *value;
    for (size_t at = 0; map && map_next(map, &at, NULL, &value);)
        target_free(value);
    map_free(map);
}

static void host_free(struct route_host *host) {
    if (!host)
        return;
    targets_free(host->exact);
    targets_free(host->prefixes);
    free(host);
}

void proxy_routes_unref(struct proxy_routes *routes) {
    if (!routes || --routes->references > 0)
        return;
    void *value;
    for (size_t at = 0; map_next(routes->hosts, &at, NULL, &value);)
        host_free(value);
    map_free(routes->hosts);
    target_free(routes->fallback);
    free(routes);
}

size_t proxy_routes_count(const struct proxy_routes *routes) {
    return routes->count;
}

/* --- normal forms --- */

static bool host_byte_ok(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/* "[::1]:80" keeps its brackets. */
static int host_normalize_v6(struct slice authority, char text[ROUTE_HOST_BYTES], struct slice *ret) {
    ptrdiff_t end = slice_index(authority, ']');
    if (end < 2 || (size_t)end + 1 >= ROUTE_HOST_BYTES)
        return -EINVAL;
    for (ptrdiff_t i = 1; i < end; i++)
        if (!strchr("0123456789abcdefABCDEF:.", authority.data[i]) || !authority.data[i])
            return -EINVAL;
    struct slice port = slice_from(authority, (size_t)end + 1);
    uint64_t number;
    if (port.len > 0 && (port.data[0] != ':' || (port.len > 1 && slice_parse_u64(slice_from(port, 1), 65535, &number) < 0)))
        return -EINVAL;
    memcpy(text, authority.data, (size_t)end + 1);
    *ret = slice_make(text, (size_t)end + 1);
    return 0;
}

int route_host_normalize(struct slice authority, char text[ROUTE_HOST_BYTES], struct slice *ret) {
    if (authority.len > 0 && authority.data[0] == '[')
        return host_normalize_v6(authority, text, ret);
    size_t len = 0;
    for (; len < authority.len && authority.data[len] != ':'; len++) {
        char c = authority.data[len];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + 'a' - 'A');
        if (len + 1 >= ROUTE_HOST_BYTES || !host_byte_ok(c))
            return -EINVAL;
        text[len] = c;
    }
    uint64_t port;
    if (len + 1 < authority.len && slice_parse_u64(slice_from(authority, len + 1), 65535, &port) < 0)
        return -EINVAL;
    if (len > 0 && text[len - 1] == '.')
        len--;
    *ret = slice_make(text, len);
    return 0;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes all escapes but "%2F" and "%25", which would change what the elements are. Returns the length, or -EINVAL. */
static ptrdiff_t path_decode(struct slice path, char *out) {
    size_t len = 0;
    for (size_t i = 0; i < path.len; i++) {
        char c = path.data[i];
        if (c == '%') {
            int high = i + 2 < path.len ? hex_value(path.data[i + 1]) : -1, low = i + 2 < path.len ? hex_value(path.data[i + 2]) : -1;
            if (high < 0 || low < 0)
                return -EINVAL;
            char decoded = (char)(high * 16 + low);
            if ((unsigned char)decoded < 0x20 || decoded == 0x7f)
                return -EINVAL;
            if (decoded != '/' && decoded != '%') {
                c = decoded;
                i += 2;
            }
        }
        out[len++] = c;
    }
    return (ptrdiff_t)len;
}

/* RFC 3986 5.2.4 in place; -EINVAL above the root. */
static ptrdiff_t dots_remove(char *path, size_t len) {
    size_t out = 0;
    for (size_t at = 0; at < len;) {
        size_t end = at + 1; /* path[at] is '/' */
        while (end < len && path[end] != '/')
            end++;
        struct slice element = slice_make(path + at + 1, end - at - 1);
        bool last = end == len;
        if (slice_is(element, ".")) {
            if (last)
                path[out++] = '/';
        } else if (slice_is(element, "..")) {
            if (out == 0)
                return -EINVAL;
            do
                out--;
            while (out > 0 && path[out] != '/');
            if (last)
                path[out++] = '/';
        } else {
            memmove(path + out, path + at, end - at);
            out += end - at;
        }
        at = end;
    }
    return (ptrdiff_t)out;
}

int route_path_normalize(struct slice target, char *scratch, struct slice *ret) {
    size_t len = 0;
    bool plain = true;
    for (; len < target.len && target.data[len] != '?'; len++)
        if (target.data[len] == '%' || (target.data[len] == '.' && len > 0 && target.data[len - 1] == '/'))
            plain = false;
    struct slice path = slice_head(target, len);
    if (slice_is(path, "*")) {
        *ret = SLICE("/");
        return 0;
    }
    if (len == 0 || path.data[0] != '/')
        return -EINVAL;
    if (plain) {
        *ret = path;
        return 0;
    }
    ptrdiff_t written = path_decode(path, scratch);
    if (written >= 0)
        written = dots_remove(scratch, (size_t)written);
    if (written < 0)
        return (int)written;
    *ret = slice_make(scratch, (size_t)written);
    return 0;
}

/* --- building --- */

/* The key of a route's host: the wildcard's without '*'. */
static int host_key(const char *host, char text[ROUTE_HOST_BYTES], struct slice *ret) {
    struct slice name = slice_of(host ? host : "");
    bool wildcard = slice_starts(name, SLICE("*."));
    if (name.len > 0 && slice_index(name, ':') >= 0)
        return -EINVAL;
    int error = route_host_normalize(slice_from(name, wildcard ? 1 : 0), text, ret);
    if (error == 0 && wildcard && ret->len < 2)
        return -EINVAL;
    return error;
}

static int host_find_or_add(struct proxy_routes *routes, struct slice key, struct route_host **ret) {
    *ret = map_find(routes->hosts, key);
    if (*ret)
        return 0;
    struct route_host *host = calloc(1, sizeof *host);
    if (!host)
        return -ENOMEM;
    host->exact = map_new();
    host->prefixes = map_new();
    if (!host->exact || !host->prefixes || map_put(routes->hosts, key, host, NULL) < 0) {
        host_free(host);
        return -ENOMEM;
    }
    *ret = host;
    return 0;
}

static size_t path_depth(struct slice path) {
    size_t depth = 0;
    for (size_t i = 0; i < path.len; i++)
        depth += path.data[i] == '/';
    return depth;
}

int proxy_routes_add(struct proxy_routes *routes, const struct proxy_route *route) {
    struct slice path = slice_of(route->path && route->path[0] ? route->path : "/");
    if (path.data[0] != '/' || path.len > HTTP_TARGET_BYTES_MAX)
        return -EINVAL;
    char text[ROUTE_HOST_BYTES];
    struct slice key;
    if (host_key(route->host, text, &key) < 0)
        return -EINVAL;
    struct route_host *host;
    int error = host_find_or_add(routes, key, &host);
    if (error < 0)
        return error;
    bool exact = route->path_type == PROXY_PATH_EXACT;
    while (!exact && path.len > 0 && path.data[path.len - 1] == '/')
        path.len--;
    struct map *map = exact ? host->exact : host->prefixes;
    if (map_find(map, path))
        return 0;
    struct route_target *target = target_new(route->upstream, route->backend);
    if (!target || map_put(map, path, target, NULL) < 0) {
        target_free(target);
        return -ENOMEM;
    }
    if (!exact)
        host->depth_max = MAX(host->depth_max, path_depth(path));
    routes->count++;
    return 0;
}

int proxy_routes_set_default(struct proxy_routes *routes, struct proxy_upstream *upstream, const char *backend) {
    if (routes->fallback)
        return 0;
    routes->fallback = target_new(upstream, backend);
    return routes->fallback ? 0 : -ENOMEM;
}

/* --- looking up --- */

/* The end of the first `depth` elements. */
static size_t elements_end(struct slice path, size_t depth) {
    size_t seen = 0;
    for (size_t i = 0; i < path.len; i++)
        if (path.data[i] == '/' && ++seen > depth)
            return i;
    return path.len;
}

static const struct route_target *host_find_path(const struct route_host *host, struct slice path) {
    const struct route_target *target = map_count(host->exact) > 0 ? map_find(host->exact, path) : NULL;
    if (target || map_count(host->prefixes) == 0)
        return target;
    size_t len = elements_end(path, host->depth_max);
    for (;;) {
        target = map_find(host->prefixes, slice_head(path, len));
        if (target || len == 0)
            return target;
        do
            len--;
        while (path.data[len] != '/');
    }
}

static const struct route_target *host_key_find(const struct proxy_routes *routes, struct slice key, struct slice path) {
    const struct route_host *host = map_find(routes->hosts, key);
    return host ? host_find_path(host, path) : NULL;
}

const struct route_target *route_find(const struct proxy_routes *routes, struct slice host, struct slice path) {
    const struct route_target *target = host.len > 0 && host.data[0] != '.' ? host_key_find(routes, host, path) : NULL;
    ptrdiff_t dot = slice_index(host, '.');
    if (!target && dot > 0)
        target = host_key_find(routes, slice_from(host, (size_t)dot), path);
    if (!target)
        target = host_key_find(routes, slice_make("", 0), path);
    return target ? target : routes->fallback;
}
