/* Hosts and paths of strangers against a route table: normal forms are stable, and no dotted path escapes. */
#include "proxy/route_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct proxy_routes *routes;
    static char first[HTTP_TARGET_BYTES_MAX], second[HTTP_TARGET_BYTES_MAX];
    if (!routes) {
        static const struct proxy_route table[] = {
            {.host = "a.b", .path = "/x/y"}, {.host = "*.b", .path = "/x", .path_type = PROXY_PATH_EXACT}, {.path = "/x"}};
        routes = proxy_routes_new();
        for (size_t i = 0; i < ARRAY_LEN(table); i++)
            proxy_routes_add(routes, &table[i]);
    }
    if (size > HTTP_TARGET_BYTES_MAX)
        return 0;
    struct slice rest = slice_make(data, size), authority = slice_cut(&rest, ' '), host = {0}, path, again;
    char text[ROUTE_HOST_BYTES], text_again[ROUTE_HOST_BYTES];
    if (route_host_normalize(authority, text, &host) == 0) {
        ASSERT(route_host_normalize(host, text_again, &again) == 0 || host.data[host.len - 1] == '.');
    }
    if (route_path_normalize(rest, first, &path) < 0)
        return 0;
    ASSERT(path.len > 0 && path.data[0] == '/');
    ASSERT(slice_find(path, SLICE("/../")) < 0 && slice_find(path, SLICE("/./")) < 0);
    if (slice_index(path, '?') < 0 && route_path_normalize(path, second, &again) == 0)
        ASSERT(again.len <= path.len);
    route_find(routes, host, path);
    return 0;
}
