/* What asks to be scraped, by the annotations that everybody uses:
 *   prometheus.io/scrape: "true"    prometheus.io/port: "9090"    prometheus.io/path: "/metrics" (the default)
 * on pods and on services (then every endpoint of the service is scraped). Without a port a pod's first declared port counts, and every port of a
 * service. Labels are those of the usual Prometheus configuration: job, instance, namespace, pod or service, and app when the object has such a
 * label. */
#include "monitor/monitor_priv.h"

static const char *annotation(const struct kube_object *object, const char *key) {
    return kube_map_find(&object->metadata->annotations, key);
}

static bool wants_scrape(const struct kube_object *object) {
    const char *value = annotation(object, "prometheus.io/scrape");
    const char *scheme = annotation(object, "prometheus.io/scheme");
    return value && strcmp(value, "true") == 0 && (!scheme || strcmp(scheme, "http") == 0);
}

/* 0: none, or not a port. */
static uint16_t annotated_port(const struct kube_object *object) {
    const char *text = annotation(object, "prometheus.io/port");
    uint64_t port;
    return text && slice_parse_u64(slice_of(text), 65535, &port) == 0 ? (uint16_t)port : 0;
}

static void add_label(struct target_spec *spec, const char *name, const char *value) {
    if (value && value[0] && spec->labels_count < MONITOR_TARGET_LABELS_MAX)
        spec->labels[spec->labels_count++] = (struct tsdb_label){slice_of(name), slice_of(value)};
}

static const char *app_of(const struct kube_object *object) {
    static const char *const keys[] = {"app.kubernetes.io/name", "app", "k8s-app"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *value = kube_map_find(&object->metadata->labels, keys[i]);
        if (value)
            return value;
    }
    return NULL;
}

/* Endpoint and path; the path must be fit for a request line. */
static int spec_init(struct arena *arena, struct target_spec *spec, const char *address, uint16_t port, const char *path, const char *job) {
    bool v6 = strchr(address, ':') != NULL;
    const char *instance = arena_printf(arena, v6 ? "[%s]:%u" : "%s:%u", address, port);
    spec->endpoint = instance ? arena_printf(arena, "http://%s", instance) : NULL;
    spec->path = arena_strdup(arena, path && path[0] == '/' ? path : "/metrics");
    if (!spec->endpoint || !spec->path)
        return -ENOMEM;
    for (const char *at = spec->path; *at; at++)
        if (*at <= ' ' || *at >= 0x7f)
            return -EINVAL;
    add_label(spec, "job", job);
    add_label(spec, "instance", instance);
    return 0;
}

static int spec_finish(struct arena *arena, struct target_spec *spec, target_specs *out) {
    for (size_t i = 0; i < spec->labels_count; i++) {
        char *copy = arena_dup(arena, spec->labels[i].value);
        if (!copy)
            return -ENOMEM;
        spec->labels[i].value.data = copy;
    }
    return out->count >= MONITOR_TARGETS_MAX ? 0 : VECTOR_PUSH(out, *spec);
}

static uint16_t first_declared_port(const struct kube_pod *pod) {
    for (size_t i = 0; i < pod->spec.containers.count; i++)
        for (size_t j = 0; j < pod->spec.containers.items[i].ports.count; j++)
            return (uint16_t)pod->spec.containers.items[i].ports.items[j].container_port;
    return 0;
}

int discover_pod(struct arena *arena, const struct kube_object *object, target_specs *out) {
    const struct kube_pod *pod = object->pod;
    const char *phase = pod->status.phase ? pod->status.phase : "";
    if (!wants_scrape(object) || !pod->status.pod_ip || strcmp(phase, "Running") != 0)
        return 0;
    uint16_t port = annotated_port(object);
    if (port == 0)
        port = first_declared_port(pod);
    if (port == 0)
        return 0;
    struct target_spec spec = {0};
    int error = spec_init(arena, &spec, pod->status.pod_ip, port, annotation(object, "prometheus.io/path"), "kubernetes-pods");
    if (error < 0)
        return error == -EINVAL ? 0 : error;
    add_label(&spec, "namespace", object->metadata->namespace);
    add_label(&spec, "pod", object->metadata->name);
    add_label(&spec, "app", app_of(object));
    return spec_finish(arena, &spec, out);
}

static int discover_endpoint(struct arena *arena, const struct kube_object *service, const struct kube_endpoint *endpoint, uint16_t port,
                             target_specs *out) {
    struct target_spec spec = {0};
    if (endpoint->addresses.count == 0 || port == 0)
        return 0;
    int error =
        spec_init(arena, &spec, endpoint->addresses.items[0], port, annotation(service, "prometheus.io/path"), "kubernetes-service-endpoints");
    if (error < 0)
        return error == -EINVAL ? 0 : error;
    add_label(&spec, "namespace", service->metadata->namespace);
    add_label(&spec, "service", service->metadata->name);
    if (endpoint->target_ref && endpoint->target_ref->kind && strcmp(endpoint->target_ref->kind, "Pod") == 0)
        add_label(&spec, "pod", endpoint->target_ref->name);
    add_label(&spec, "app", app_of(service));
    return spec_finish(arena, &spec, out);
}

int discover_service(struct arena *arena, const struct kube_object *service, const struct kube_object *slice, target_specs *out) {
    const char *name = kube_map_find(&slice->metadata->labels, "kubernetes.io/service-name");
    if (!wants_scrape(service) || !name || strcmp(name, service->metadata->name) != 0 ||
        strcmp(slice->metadata->namespace, service->metadata->namespace) != 0)
        return 0;
    const struct kube_endpoint_slice *endpoints = slice->endpoint_slice;
    uint16_t annotated = annotated_port(service);
    for (size_t i = 0; i < endpoints->endpoints.count; i++)
        for (size_t j = 0; j < (annotated ? 1 : endpoints->ports.count); j++) {
            uint16_t port = annotated ? annotated : endpoints->ports.items[j].port ? (uint16_t)*endpoints->ports.items[j].port : 0;
            int error = discover_endpoint(arena, service, &endpoints->endpoints.items[i], port, out);
            if (error < 0)
                return error;
        }
    return 0;
}

int discover_static(struct arena *arena, const struct monitor_target *target, target_specs *out) {
    struct target_spec spec = {.endpoint = arena_strdup(arena, target->endpoint),
                               .path = arena_strdup(arena, target->path ? target->path : "/metrics")};
    if (!spec.endpoint || !spec.path)
        return -ENOMEM;
    add_label(&spec, "job", target->job);
    add_label(&spec, "instance", strncmp(target->endpoint, "http://", 7) == 0 ? target->endpoint + 7 : target->job);
    return spec_finish(arena, &spec, out);
}
