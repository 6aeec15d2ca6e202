/* Which pods stand behind a service, and on which ports. */
#include "control/endpoint_priv.h"

bool endpoint_is_managed(const struct kube_object *service) {
    return service->service->spec.selector.count > 0 && !text_is(service->service->spec.type, "ExternalName");
}

static bool selects(const struct kube_object *service, const struct kube_object *pod) {
    struct kube_label_selector selector = {.match_labels = service->service->spec.selector};
    return endpoint_is_managed(service) && kube_selector_matches(&selector, &pod->metadata->labels);
}

/* Does anything differ that endpoints are made of? Heartbeats and restarts do not count. */
static bool matters(const struct kube_object *object, const struct kube_object *old) {
    if (!object || !old)
        return true;
    const struct kube_pod *a = object->pod, *b = old->pod;
    return is_deleting(object) != is_deleting(old) || !same_text(a->status.pod_ip, b->status.pod_ip) ||
           kube_pod_is_ready(a) != kube_pod_is_ready(b) || pod_is_finished(a) != pod_is_finished(b) ||
           !same_text(a->spec.node_name, b->spec.node_name) || a->metadata.labels.count != b->metadata.labels.count ||
           !kube_equal(&kube_object_meta_type, &(struct kube_object_meta){.labels = a->metadata.labels},
                       &(struct kube_object_meta){.labels = b->metadata.labels});
}

struct pod_change {
    const struct kube_object *object, *old; /* either may be NULL */
};

static bool is_concerned(const void *userdata, const struct kube_object *service) {
    const struct pod_change *change = userdata;
    return (change->object && selects(service, change->object)) || (change->old && selects(service, change->old));
}

static int enqueue_for_pod(struct control *control, enum controller_id controller, const struct kube_object *object, const struct kube_object *old) {
    const struct pod_change change = {object, old};
    const char *namespace = (object ? object : old)->metadata->namespace;
    return matters(object, old) ? control_enqueue_all(control, controller, &kube_kind_service, namespace, is_concerned, &change) : 0;
}

static bool moved(const struct kube_object *node, const struct kube_object *old) {
    static const char zone[] = "topology.kubernetes.io/zone";
    return node && old && !same_text(kube_map_find(&node->metadata->labels, zone), kube_map_find(&old->metadata->labels, zone));
}

int endpoint_enqueue(struct control *control, enum controller_id controller, const struct kube_kind *made, const struct kube_object *object,
                     const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_service)
        return control_enqueue_object(control, controller, some);
    if (some->kind == &kube_kind_pod)
        return enqueue_for_pod(control, controller, object, old);
    if (some->kind == &kube_kind_node)
        return moved(object, old) ? control_enqueue_all(control, controller, &kube_kind_service, NULL, NULL, NULL) : 0;
    if (some->kind != made)
        return 0;
    /* Somebody changed what we made. */
    const char *service =
        made == &kube_kind_endpoint_slice ? kube_map_find(&some->metadata->labels, "kubernetes.io/service-name") : some->metadata->name;
    return service ? control_enqueue(control, controller, &kube_kind_service, some->metadata->namespace, service) : 0;
}

/* The pod's port that the service's port means: a number, or the name of a container's port with the same protocol. */
static int32_t resolve_port(const struct kube_pod *pod, const struct kube_service_port *port) {
    if (!port->target_port.is_string)
        return port->target_port.number ? port->target_port.number : port->port;
    const char *protocol = port->protocol ? port->protocol : "TCP";
    for (size_t i = 0; i < pod->spec.containers.count; i++) {
        const struct kube_container_port_array *ports = &pod->spec.containers.items[i].ports;
        for (size_t j = 0; j < ports->count; j++)
            if (same_text(ports->items[j].name, port->target_port.text) &&
                same_text(ports->items[j].protocol ? ports->items[j].protocol : "TCP", protocol))
                return ports->items[j].container_port;
    }
    return 0;
}

static void add(struct context *context, const struct kube_service *service, const struct kube_object *object, struct backends *ret) {
    const struct kube_pod *pod = object->pod;
    struct backend *backend = &ret->items[ret->count];
    *backend = (struct backend){.object = object, .pod = pod, .terminating = is_deleting(object)};
    backend->ip = pod->status.pod_ip ? pod->status.pod_ip : pod->status.pod_ips.count ? pod->status.pod_ips.items[0].ip : NULL;
    if (!backend->ip || pod_is_finished(pod))
        return;
    backend->ready = kube_pod_is_ready(pod);
    const struct kube_object *node = context_get(context, &kube_kind_node, NULL, pod->spec.node_name);
    backend->zone = node ? kube_map_find(&node->metadata->labels, "topology.kubernetes.io/zone") : NULL;
    for (size_t i = 0; i < MIN(service->spec.ports.count, SERVICE_PORTS_MAX); i++)
        backend->ports[i] = resolve_port(pod, &service->spec.ports.items[i]);
    backend->group = ret->groups;
    for (size_t i = 0; i < ret->count && backend->group == ret->groups; i++)
        if (memcmp(ret->items[i].ports, backend->ports, sizeof backend->ports) == 0)
            backend->group = ret->items[i].group;
    ret->groups = MAX(ret->groups, backend->group + 1);
    ret->count++;
}

void endpoint_collect(struct context *context, const struct kube_object *service, struct backends *ret) {
    struct objects pods = {.list = {.items = NULL}};
    context_list(context, &kube_kind_pod, service->metadata->namespace, &pods);
    *ret = (struct backends){.items = ARENA_ARRAY(context->arena, struct backend, pods.list.count + 1)};
    if (!ret->items)
        context_fail(context);
    for (size_t i = 0; ret->items && i < pods.list.count; i++)
        if (selects(service, pods.list.items[i]))
            add(context, service->service, pods.list.items[i], ret);
    objects_deinit(&pods);
}

int endpoint_target(struct arena *arena, const struct kube_object *pod, struct kube_object_reference **ret) {
    struct kube_object_reference *reference = ARENA_NEW(arena, struct kube_object_reference);
    if (!reference)
        return -ENOMEM;
    *reference = (struct kube_object_reference){.kind = "Pod",
                                                .namespace = arena_strdup(arena, pod->metadata->namespace),
                                                .name = arena_strdup(arena, pod->metadata->name),
                                                .uid = pod->metadata->uid ? arena_strdup(arena, pod->metadata->uid) : NULL};
    *ret = reference;
    return reference->namespace && reference->name ? 0 : -ENOMEM;
}
