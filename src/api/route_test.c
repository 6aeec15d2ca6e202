#include "unit.h"

#include "api/api_priv.h"

static struct api_route parse(struct arena *arena, const char *path) {
    struct api_route route;
    assert_int_equal(api_route_parse(arena, slice_of(path), &route), 0);
    return route;
}

UNIT_TEST(reads_resource_paths) {
    static const struct {
        const char *path;
        enum api_route_type type;
        const char *group, *version, *namespace, *plural, *name, *subresource;
    } cases[] = {
        {"/", ROUTE_ROOT, "", "", "", "", "", ""},
        {"/api", ROUTE_CORE_VERSIONS, "", "", "", "", "", ""},
        {"/api/v1", ROUTE_RESOURCES, "", "v1", "", "", "", ""},
        {"/api/v1/", ROUTE_RESOURCES, "", "v1", "", "", "", ""},
        {"/api/v1/pods", ROUTE_RESOURCE, "", "v1", "", "pods", "", ""},
        {"/api/v1/namespaces", ROUTE_RESOURCE, "", "v1", "", "namespaces", "", ""},
        {"/api/v1/namespaces/x", ROUTE_RESOURCE, "", "v1", "", "namespaces", "x", ""},
        {"/api/v1/namespaces/x/status", ROUTE_RESOURCE, "", "v1", "", "namespaces", "x", "status"},
        {"/api/v1/namespaces/x/finalize", ROUTE_RESOURCE, "", "v1", "", "namespaces", "x", "finalize"},
        {"/api/v1/namespaces/x/pods", ROUTE_RESOURCE, "", "v1", "x", "pods", "", ""},
        {"/api/v1/namespaces/x/pods/p", ROUTE_RESOURCE, "", "v1", "x", "pods", "p", ""},
        {"/api/v1/namespaces/x/pods/p/log", ROUTE_RESOURCE, "", "v1", "x", "pods", "p", "log"},
        {"/api/v1/nodes/n/status", ROUTE_RESOURCE, "", "v1", "", "nodes", "n", "status"},
        {"/apis", ROUTE_GROUPS, "", "", "", "", "", ""},
        {"/apis/apps", ROUTE_GROUP, "apps", "", "", "", "", ""},
        {"/apis/apps/v1", ROUTE_RESOURCES, "apps", "v1", "", "", "", ""},
        {"/apis/apps/v1/namespaces/x/deployments/d/scale", ROUTE_RESOURCE, "apps", "v1", "x", "deployments", "d", "scale"},
        {"/openapi/v3", ROUTE_OPENAPI_INDEX, "", "", "", "", "", ""},
        {"/openapi/v3/api/v1", ROUTE_OPENAPI_V3, "", "v1", "", "", "", ""},
        {"/openapi/v3/apis/apps/v1", ROUTE_OPENAPI_V3, "apps", "v1", "", "", "", ""},
        {"/readyz/ping", ROUTE_HEALTH, "", "", "", "", "", ""},
        {"/nothing", ROUTE_UNKNOWN, "", "", "", "", "", ""},
        {"/api/v1/namespaces/x/pods/p/log/more", ROUTE_UNKNOWN, "", "v1", "x", "", "", ""},
        {"/api/v1/configmaps/a%20b", ROUTE_RESOURCE, "", "v1", "", "configmaps", "a b", ""},
        {"/api/v1/configmaps/a%2Fb", ROUTE_RESOURCE, "", "v1", "", "configmaps", "a/b", ""},
    };
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct api_route route = parse(arena, cases[i].path);
        assert_int_equal(route.type, cases[i].type);
        assert_string_equal(route.group, cases[i].group);
        assert_string_equal(route.version, cases[i].version);
        assert_string_equal(route.namespace, cases[i].namespace);
        assert_string_equal(route.plural, cases[i].plural);
        assert_string_equal(route.name, cases[i].name);
        assert_string_equal(route.subresource, cases[i].subresource);
    }
}

UNIT_TEST(leaves_what_a_proxy_gets_as_it_came) {
    static const struct {
        const char *path, *plural, *name, *rest;
    } cases[] = {
        {"/api/v1/namespaces/x/pods/p:8080/proxy", "pods", "p:8080", ""},
        {"/api/v1/namespaces/x/services/http:s:web/proxy/", "services", "http:s:web", "/"},
        {"/api/v1/namespaces/x/pods/p/proxy/a%2Fb//c/../d/e/f/g/h/i/j/k", "pods", "p", "/a%2Fb//c/../d/e/f/g/h/i/j/k"},
        {"/api/v1/nodes/n/proxy/metrics", "nodes", "n", "/metrics"},
        {"/api/v1/namespaces/proxy/pods/proxy/log", "pods", "proxy", ""},
    };
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct api_route route = parse(arena, cases[i].path);
        assert_int_equal(route.type, ROUTE_RESOURCE);
        assert_string_equal(route.plural, cases[i].plural);
        assert_string_equal(route.name, cases[i].name);
        assert_true(slice_is(route.rest, cases[i].rest));
    }
}

UNIT_TEST(refuses_tricks) {
    static const char *const paths[] = {"/api/v1/../../x", "/api/v1/%2e%2e/pods", "/api/v1/pods/%00", "/api/v1/pods/%zz",
                                        "/a/b/c/d/e/f/g/h/i/j/k/l/m/n"};
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct api_route route;
        assert_int_equal(api_route_parse(arena, slice_of(paths[i]), &route), -EINVAL);
    }
}

UNIT_TEST(negotiates) {
    const char *kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    assert_int_equal(api_accept_table(slice_of(kubectl)), TABLE_V1);
    assert_int_equal(api_accept_table(SLICE("application/json;as=Table;v=v1beta1;g=meta.k8s.io")), TABLE_V1BETA1);
    assert_int_equal(api_accept_table(SLICE("application/json, */*")), TABLE_NONE);
    assert_int_equal(api_accept_table(SLICE("application/vnd.kubernetes.protobuf,application/json")), TABLE_NONE);
    assert_int_equal(api_accept_table((struct slice){NULL, 0}), TABLE_NONE);
    const char *discovery = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    assert_int_equal(api_accept_discovery(slice_of(discovery)), DISCOVERY_V2BETA1);
    assert_int_equal(api_accept_discovery(SLICE("*/*")), DISCOVERY_PLAIN);
    assert_int_equal(api_body_form_of(SLICE("application/json; charset=utf-8")), BODY_JSON);
    assert_int_equal(api_body_form_of(SLICE("application/apply-patch+yaml")), BODY_APPLY);
    assert_int_equal(api_body_form_of(SLICE("text/html")), BODY_UNKNOWN);
}

UNIT_TEST(stamps_versions) {
    CLEANUP(buffer_deinit) struct buffer first = BUFFER_INIT(KIB), second = BUFFER_INIT(KIB), empty = BUFFER_INIT(KIB);
    struct slice value = SLICE("{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a}\\\"{\"},\"spec\":{}}");
    assert_int_equal(api_stored_stamp_value(value, 7, &first), 0);
    assert_string_equal(first.data,
                        "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"7\",\"name\":\"a}\\\"{\"},\"spec\":{}}");
    assert_int_equal(api_stored_stamp_value(buffer_slice(&first), 123, &second), 0);
    assert_string_equal(second.data,
                        "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"123\",\"name\":\"a}\\\"{\"},\"spec\":{}}");
    assert_true(slice_is(api_stored_metadata(buffer_slice(&second)), "{\"resourceVersion\":\"123\",\"name\":\"a}\\\"{\"}"));
    assert_int_equal(api_stored_stamp_value(SLICE("{\"metadata\":{}}"), 1, &empty), 0);
    assert_string_equal(empty.data, "{\"metadata\":{\"resourceVersion\":\"1\"}}");
    assert_int_equal(api_stored_stamp_value(SLICE("{}"), 1, &empty), -EINVAL);
}

UNIT_TEST(hands_out_addresses) {
    struct addresses addresses;
    struct diag diag = DIAG_INIT;
    assert_int_equal(api_addresses_init(&addresses, "10.96.0.0/16", &diag), 0);
    assert_int_equal(addresses.count, 65536);
    api_addresses_deinit(&addresses);
    static const char *const bad[] = {"10.96.0.0", "10.96.0.0/8", "10.96.0.0/29", "x/16", "fd00::/64"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(api_addresses_init(&addresses, bad[i], &diag), -EINVAL);
}

UNIT_MAIN(UNIT(reads_resource_paths), UNIT(leaves_what_a_proxy_gets_as_it_came), UNIT(refuses_tricks), UNIT(negotiates), UNIT(stamps_versions),
          UNIT(hands_out_addresses))
