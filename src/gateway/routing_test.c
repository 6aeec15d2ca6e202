/* From Kubernetes objects to routes and endpoints, seen through the proxy's metrics and its own answers. */
#include "unit.h"

#include <stdio.h>

#include "gateway/routing_priv.h"

#define INGRESS_OLD                                                                                                                                  \
    "{\"apiVersion\":\"networking.k8s.io/"                                                                                                           \
    "v1\",\"kind\":\"Ingress\",\"metadata\":{\"name\":\"old\",\"namespace\":\"shop\",\"creationTimestamp\":\"2026-01-01T00:00:00Z\"},"               \
    "\"spec\":{\"rules\":[{\"host\":\"shop.test\",\"http\":{\"paths\":["                                                                             \
    "{\"path\":\"/\",\"pathType\":\"Prefix\",\"backend\":{\"service\":{\"name\":\"web\",\"port\":{\"number\":80}}}},"                                \
    "{\"path\":\"/api\",\"pathType\":\"Prefix\",\"backend\":{\"service\":{\"name\":\"api\",\"port\":{\"name\":\"http\"}}}},"                         \
    "{\"path\":\"/gone\",\"pathType\":\"Prefix\",\"backend\":{\"service\":{\"name\":\"gone\",\"port\":{\"number\":1}}}}]}}]}}"
#define INGRESS_NEW                                                                                                                                  \
    "{\"apiVersion\":\"networking.k8s.io/"                                                                                                           \
    "v1\",\"kind\":\"Ingress\",\"metadata\":{\"name\":\"new\",\"namespace\":\"shop\",\"creationTimestamp\":\"2026-02-01T00:00:00Z\"},"               \
    "\"spec\":{\"defaultBackend\":{\"service\":{\"name\":\"web\",\"port\":{\"number\":80}}},\"rules\":[{\"host\":\"shop.test\",\"http\":{\"paths\":" \
    "["                                                                                                                                              \
    "{\"path\":\"/\",\"pathType\":\"Prefix\",\"backend\":{\"service\":{\"name\":\"api\",\"port\":{\"number\":8080}}}}]}}]}}"
#define SERVICE_WEB                                                                                                                                  \
    "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\"},\"spec\":{\"ports\":[{\"port\":80,"          \
    "\"targetPort\":\"http\"}]}}"
#define SERVICE_API                                                                                                                                  \
    "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"api\",\"namespace\":\"shop\"},\"spec\":{\"ports\":["                       \
    "{\"name\":\"http\",\"port\":8080,\"targetPort\":80},{\"name\":\"metrics\",\"port\":9090}]}}"
#define SLICE_WEB                                                                                                                                    \
    "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"web-1\",\"namespace\":\"shop\",\"labels\":{"        \
    "\"kubernetes.io/service-name\":\"web\"}},\"addressType\":\"IPv4\",\"ports\":[{\"port\":8000}],\"endpoints\":["                                  \
    "{\"addresses\":[\"10.1.0.1\"]},{\"addresses\":[\"10.1.0.2\"],\"conditions\":{\"ready\":false}},"                                                \
    "{\"addresses\":[\"10.1.0.3\"],\"conditions\":{\"ready\":true,\"terminating\":true}},{\"addresses\":[\"10.1.0.4\"],\"conditions\":{\"ready\":"   \
    "true}}]}"
#define SLICE_OTHER                                                                                                                                  \
    "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"web-1\",\"namespace\":\"other\",\"labels\":{"       \
    "\"kubernetes.io/service-name\":\"web\"}},\"addressType\":\"IPv4\",\"ports\":[{\"port\":8000}],\"endpoints\":[{\"addresses\":[\"10.2.0.1\"]}]}"

static struct kube_object *object(const char *json) {
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    if (kube_decode_json(NULL, slice_of(json), KUBE_STRICT, &object, &diag) < 0)
        fail_msg("%s: %s", diag.message, json);
    return object;
}

struct fixture {
    struct loop *loop;
    struct proxy *proxy;
    struct routing routing;
    struct routing_input input;
};

static void add(routing_objects *objects, const char *json) {
    assert_int_equal(VECTOR_PUSH(objects, object(json)), 0);
}

static void setup(struct fixture *f) {
    *f = (struct fixture){.loop = NULL};
    assert_int_equal(loop_new(&f->loop), 0);
    assert_int_equal(proxy_new(f->loop, NULL, &f->proxy), 0);
}

static void drop(routing_objects *objects) {
    for (size_t i = 0; i < objects->count; i++)
        kube_object_unref(objects->items[i]);
    VECTOR_DEINIT(objects);
}

static void teardown(struct fixture *f) {
    drop(&f->input.ingresses);
    drop(&f->input.services);
    drop(&f->input.slices);
    routing_deinit(&f->routing);
    proxy_free(f->proxy);
    loop_free(f->loop);
}

static void assert_metric(struct fixture *f, const char *line, bool present) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    assert_int_equal(proxy_format_metrics(f->proxy, &text), 0);
    if ((slice_find(buffer_slice(&text), slice_of(line)) >= 0) != present)
        fail_msg("%s \"%s\" in:\n%s", present ? "not" : "unwanted", line, text.data);
}
#define READY(service, port, count)                                                                                                                  \
    "tidemill_gateway_service_endpoints_ready{namespace=\"shop\",service=\"" service "\",port=\"" port "\"} " count "\n"

UNIT_TEST(backends_resolve_to_ready_endpoints) {
    struct fixture f;
    setup(&f);
    add(&f.input.ingresses, INGRESS_NEW);
    add(&f.input.ingresses, INGRESS_OLD);
    add(&f.input.services, SERVICE_WEB);
    add(&f.input.services, SERVICE_API);
    add(&f.input.slices, SLICE_WEB);
    add(&f.input.slices, SLICE_OTHER);
    assert_int_equal(routing_apply(&f.routing, f.proxy, &f.input), 0);
    assert_metric(&f, READY("web", "80", "2"), true);
    assert_metric(&f, READY("api", "8080", "0"), true);
    assert_metric(&f, "service=\"gone\"", false);
    assert_metric(&f, "port=\"9090\"", false);
    assert_metric(&f, "tidemill_gateway_routes 3\n", true);
    assert_int_equal(f.routing.upstreams.count, 2);
    teardown(&f);
}

UNIT_TEST(upstreams_outlive_snapshots_as_long_as_they_are_routed) {
    struct fixture f;
    setup(&f);
    add(&f.input.ingresses, INGRESS_OLD);
    add(&f.input.services, SERVICE_WEB);
    add(&f.input.services, SERVICE_API);
    add(&f.input.slices, SLICE_WEB);
    assert_int_equal(routing_apply(&f.routing, f.proxy, &f.input), 0);
    const struct proxy_upstream *web = f.routing.upstreams.items[0];
    assert_int_equal(routing_apply(&f.routing, f.proxy, &f.input), 0);
    assert_ptr_equal(f.routing.upstreams.items[0], web);
    drop(&f.input.ingresses);
    assert_int_equal(routing_apply(&f.routing, f.proxy, &f.input), 0);
    assert_int_equal(f.routing.upstreams.count, 0);
    assert_metric(&f, "service=\"web\"", false);
    assert_metric(&f, "tidemill_gateway_routes 0\n", true);
    teardown(&f);
}

UNIT_MAIN(UNIT(backends_resolve_to_ready_endpoints), UNIT(upstreams_outlive_snapshots_as_long_as_they_are_routed))
