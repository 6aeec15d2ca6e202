/* Which route a request takes; what is no host or path. */
#include "unit.h"

#include "proxy/proxy_priv.h"

static struct proxy_routes *table(void) {
    static const struct proxy_route routes[] = {
        {.host = "example.org", .path = "/", .backend = "root"},
        {.host = "example.org", .path = "/shop", .backend = "shop"},
        {.host = "example.org", .path = "/shop/cart/", .backend = "cart"},
        {.host = "example.org", .path = "/shop", .path_type = PROXY_PATH_EXACT, .backend = "shop-exact"},
        {.host = "Example.ORG", .path = "/shop", .backend = "second, ignored"},
        {.host = "only.example.org", .path = "/api", .backend = "only-api"},
        {.host = "*.example.org", .path = "/", .backend = "wild"},
        {.path = "/healthz", .path_type = PROXY_PATH_EXACT, .backend = "any-health"},
    };
    struct proxy_routes *table = proxy_routes_new();
    for (size_t i = 0; i < ARRAY_LEN(routes); i++)
        assert_int_equal(proxy_routes_add(table, &routes[i]), 0);
    assert_int_equal(proxy_routes_set_default(table, NULL, "default"), 0);
    assert_int_equal(proxy_routes_count(table), 7);
    return table;
}

static const char *find(const struct proxy_routes *table, const char *host, const char *path) {
    const struct route_target *target = route_find(table, slice_of(host), slice_of(path));
    return target ? target->backend : "(none)";
}

UNIT_TEST(hosts_and_paths_by_the_ingress_order) {
    struct proxy_routes *routes = table();
    static const struct {
        const char *host, *path, *backend;
    } cases[] = {
        {"example.org", "/", "root"},
        {"example.org", "/other", "root"},
        {"example.org", "/shop", "shop-exact"},
        {"example.org", "/shop/", "shop"},
        {"example.org", "/shop/x", "shop"},
        {"example.org", "/shopping", "root"},
        {"example.org", "/shop/cart", "cart"},
        {"example.org", "/shop/cart/a/b/c/d", "cart"},
        {"example.org", "/shop/cartoon", "shop"},
        {"only.example.org", "/api/v1", "only-api"},
        {"only.example.org", "/", "wild"},
        {"x.example.org", "/api", "wild"},
        {"a.b.example.org", "/", "default"},
        {".example.org", "/", "default"},
        {"other.net", "/healthz", "any-health"},
        {"other.net", "/healthz/", "default"},
        {"", "/healthz", "any-health"},
        {"", "/", "default"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(find(routes, cases[i].host, cases[i].path), cases[i].backend);
    proxy_routes_unref(routes);
}

UNIT_TEST(nothing_matches_without_default) {
    struct proxy_routes *routes = proxy_routes_new();
    assert_string_equal(find(routes, "a", "/"), "(none)");
    const struct proxy_route everything = {.backend = "all"};
    assert_int_equal(proxy_routes_add(routes, &everything), 0);
    assert_string_equal(find(routes, "a", "/"), "all");
    assert_string_equal(find(routes, "", "/x/y"), "all");
    proxy_routes_unref(routes);
}

UNIT_TEST(bad_routes_are_refused) {
    struct proxy_routes *routes = proxy_routes_new();
    static const struct proxy_route bad[] = {{.host = "a b"}, {.host = "*."}, {.host = "a:80"}, {.path = "x"}, {.host = "a/b"}, {.host = "*"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(proxy_routes_add(routes, &bad[i]), -EINVAL);
    proxy_routes_unref(routes);
}

UNIT_TEST(hosts_are_normalized) {
    static const struct {
        const char *text, *normal; /* NULL: refused */
    } cases[] = {
        {"Example.org", "example.org"},
        {"example.org:8080", "example.org"},
        {"example.org.", "example.org"},
        {"example.org.:80", "example.org"},
        {"[::1]:80", "[::1]"},
        {"[::1]", "[::1]"},
        {"a:", "a"},
        {"a:x", NULL},
        {"a:99999", NULL},
        {"a b", NULL},
        {"[::1", NULL},
        {"[::1]x", NULL},
        {"a%41", NULL},
        {"a/../b", NULL},
        {"[]", NULL},
        {"10.0.0.1:80", "10.0.0.1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[ROUTE_HOST_BYTES];
        struct slice host;
        int error = route_host_normalize(slice_of(cases[i].text), text, &host);
        assert_int_equal(error, cases[i].normal ? 0 : -EINVAL);
        if (cases[i].normal)
            assert_true(slice_is(host, cases[i].normal));
    }
}

UNIT_TEST(paths_are_normalized) {
    static const struct {
        const char *target, *normal;
    } cases[] = {
        {"/", "/"},
        {"/a/b?x=/../y", "/a/b"},
        {"/%61dmin", "/admin"},
        {"/a/./b", "/a/b"},
        {"/a/../b", "/b"},
        {"/a/b/..", "/a/"},
        {"/a/%2e%2e/b", "/b"},
        {"/a%2Fb", "/a%2Fb"},
        {"/a%252fb", "/a%252fb"},
        {"/..a/.b", "/..a/.b"},
        {"/.", "/"},
        {"*", "/"},
        {"/..", NULL},
        {"/a/../../b", NULL},
        {"/%00", NULL},
        {"/%zz", NULL},
        {"/%4", NULL},
        {"", NULL},
        {"x", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char scratch[64];
        struct slice path;
        int error = route_path_normalize(slice_of(cases[i].target), scratch, &path);
        assert_int_equal(error, cases[i].normal ? 0 : -EINVAL);
        if (cases[i].normal && !slice_is(path, cases[i].normal))
            fail_msg("%s became %.*s", cases[i].target, SLICE_ARG(path));
    }
}

UNIT_MAIN(UNIT(hosts_and_paths_by_the_ingress_order), UNIT(nothing_matches_without_default), UNIT(bad_routes_are_refused), UNIT(hosts_are_normalized),
          UNIT(paths_are_normalized))
