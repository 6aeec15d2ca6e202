/* Endpoints, the older form of EndpointSlices, for those who still read it (upstream: pkg/controller/endpoint). Ready pods are addresses, others
 * notReadyAddresses; pods that are going are left out, unless the service publishes what is not ready. One subset per set of ports. */
#include "control/endpoint_priv.h"

#define LABEL_MANAGER "endpoints.kubernetes.io/managed-by"
#define MANAGER "endpoint-controller"
#define LABEL_HEADLESS "service.kubernetes.io/headless"

int endpoints_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    return endpoint_enqueue(control, CONTROLLER_ENDPOINTS, &kube_kind_endpoints, object, old);
}

static int fill_ports(struct arena *arena, const struct kube_service *service, const struct backend *backend, struct kube_endpoint_port_array *ret) {
    ret->items = ARENA_ARRAY(arena, struct kube_endpoint_port, service->spec.ports.count);
    if (!ret->items)
        return -ENOMEM;
    for (size_t i = 0; i < MIN(service->spec.ports.count, SERVICE_PORTS_MAX); i++) {
        const struct kube_service_port *port = &service->spec.ports.items[i];
        if (!backend->ports[i])
            continue;
        ret->items[ret->count++] = (struct kube_endpoint_port){
            .name = port->name ? arena_strdup(arena, port->name) : NULL,
            .port = backend->ports[i],
            .protocol = arena_strdup(arena, port->protocol ? port->protocol : "TCP"),
            .app_protocol = port->app_protocol ? arena_strdup(arena, port->app_protocol) : NULL,
        };
    }
    return 0;
}

static int add_address(struct arena *arena, const struct kube_service *service, const struct backend *backend, struct kube_endpoint_subset *subset) {
    bool ready = backend->ready || service->spec.publish_not_ready_addresses;
    struct kube_endpoint_address_array *list = ready ? &subset->addresses : &subset->not_ready_addresses;
    struct kube_endpoint_address *address = &list->items[list->count++];
    address->ip = arena_strdup(arena, backend->ip);
    address->node_name = backend->pod->spec.node_name ? arena_strdup(arena, backend->pod->spec.node_name) : NULL;
    if (backend->pod->spec.hostname && same_text(backend->pod->spec.subdomain, service->metadata.name))
        address->hostname = arena_strdup(arena, backend->pod->spec.hostname);
    return endpoint_target(arena, backend->object, &address->target_ref);
}

/* False: the group has no pod that counts. */
static int fill_subset(struct arena *arena, const struct kube_service *service, const struct backends *backends, size_t group,
                       struct kube_endpoint_subset *subset) {
    const struct backend *first = NULL;
    subset->addresses.items = ARENA_ARRAY(arena, struct kube_endpoint_address, backends->count);
    subset->not_ready_addresses.items = ARENA_ARRAY(arena, struct kube_endpoint_address, backends->count);
    if (!subset->addresses.items || !subset->not_ready_addresses.items)
        return -ENOMEM;
    for (size_t i = 0; i < backends->count; i++) {
        const struct backend *backend = &backends->items[i];
        if (backend->group != group || (backend->terminating && !service->spec.publish_not_ready_addresses))
            continue;
        first = first ? first : backend;
        int r = add_address(arena, service, backend, subset);
        if (r < 0)
            return r;
    }
    return first ? fill_ports(arena, service, first, &subset->ports) : 0;
}

static int fill(struct kube_object *object, const struct kube_object *service, const struct backends *backends) {
    struct kube_endpoint_subset_array *subsets = &object->endpoints->subsets;
    *subsets = (struct kube_endpoint_subset_array){.items = ARENA_ARRAY(object->arena, struct kube_endpoint_subset, backends->groups)};
    if (!subsets->items)
        return -ENOMEM;
    for (size_t group = 0; group < backends->groups; group++) {
        struct kube_endpoint_subset *subset = &subsets->items[subsets->count];
        int r = fill_subset(object->arena, service->service, backends, group, subset);
        if (r < 0)
            return r;
        subsets->count += subset->addresses.count + subset->not_ready_addresses.count > 0;
    }
    struct kube_string_map *labels = &object->metadata->labels;
    const struct kube_string_map *from = &service->metadata->labels;
    *labels = (struct kube_string_map){.items = NULL};
    int r = kube_map_set(labels, object->arena, LABEL_MANAGER, MANAGER);
    for (size_t i = 0; i < from->count && r == 0; i++)
        r = kube_map_set(labels, object->arena, from->items[i].key, from->items[i].value);
    if (r == 0 && text_is(service->service->spec.cluster_ip, "None"))
        r = kube_map_set(labels, object->arena, LABEL_HEADLESS, "");
    return r;
}

void endpoints_reconcile(struct context *context) {
    const struct kube_object *service = context_get(context, &kube_kind_service, context->namespace, context->name);
    const struct kube_object *present = context_get(context, &kube_kind_endpoints, context->namespace, context->name);
    if (!service || is_deleting(service)) {
        /* Only what was made here: people may keep endpoints without a service. */
        if (present && !is_deleting(present) && text_is(kube_map_find(&present->metadata->labels, LABEL_MANAGER), MANAGER))
            context_delete(context, present, NULL, -1);
        return;
    }
    if (!endpoint_is_managed(service))
        return;
    struct backends backends;
    endpoint_collect(context, service, &backends);
    struct kube_object *object = present ? context_copy(context, present) : kube_object_new(&kube_kind_endpoints);
    int r = object && !context->error ? fill(object, service, &backends) : -ENOMEM;
    if (r == 0 && !present) {
        object->metadata->name = arena_strdup(object->arena, service->metadata->name);
        object->metadata->namespace = arena_strdup(object->arena, service->metadata->namespace);
    }
    if (r < 0)
        context_fail(context);
    else if (!present)
        context_create(context, TAKE(object));
    else if (!kube_equal(&kube_endpoints_type, object->endpoints, present->endpoints))
        context_update(context, TAKE(object));
    kube_object_unref(object);
}
