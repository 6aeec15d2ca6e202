/* Endpoints that people keep for a service without a selector, mirrored to EndpointSlices, which is what is read today (upstream:
 * pkg/controller/endpointslicemirroring). One slice per subset, address family and hundred; at most 1,000 addresses of a subset. */
#include "control/endpoint_priv.h"

#define MANAGER "endpointslicemirroring-controller.k8s.io"
#define LABEL_SKIP "endpointslice.kubernetes.io/skip-mirror"
#define ANNOTATION_LEADER "control-plane.alpha.kubernetes.io/leader"
#define ADDRESSES_MAX 1000
#define SLICES_MAX 256

int endpoint_mirror_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_endpoints)
        return control_enqueue_object(control, CONTROLLER_ENDPOINT_MIRROR, some);
    const char *name = some->kind == &kube_kind_service ? some->metadata->name : NULL;
    if (some->kind == &kube_kind_endpoint_slice && text_is(kube_map_find(&some->metadata->labels, LABEL_SLICE_MANAGER), MANAGER))
        name = kube_map_find(&some->metadata->labels, LABEL_SERVICE);
    return name ? control_enqueue(control, CONTROLLER_ENDPOINT_MIRROR, &kube_kind_endpoints, some->metadata->namespace, name) : 0;
}

static bool is_mirrored(const struct kube_object *endpoints, const struct kube_object *service) {
    return endpoints && !is_deleting(endpoints) && service && !is_deleting(service) && service->service->spec.selector.count == 0 &&
           !text_is(kube_map_find(&endpoints->metadata->labels, LABEL_SKIP), "true") &&
           !kube_map_find(&endpoints->metadata->annotations, ANNOTATION_LEADER);
}

struct mirror {
    struct context *context;
    const struct kube_object *endpoints;
    const char *names[SLICES_MAX];
    size_t count;
};

/* The addresses of one family, ready ones first. */
struct addresses {
    struct {
        const struct kube_endpoint_address *address;
        bool ready;
    } items[ADDRESSES_MAX];
    size_t count;
};

static void add_family(const struct kube_endpoint_address_array *list, bool ready, bool v6, struct addresses *ret) {
    for (size_t i = 0; i < list->count && ret->count < ADDRESSES_MAX; i++) {
        const struct kube_endpoint_address *address = &list->items[i];
        if (!address->ip || (strchr(address->ip, ':') != NULL) != v6)
            continue;
        ret->items[ret->count].address = address;
        ret->items[ret->count++].ready = ready;
    }
}

static int fill_endpoint(struct arena *arena, const struct kube_endpoint_address *address, bool ready, struct kube_endpoint *endpoint) {
    const char **items = ARENA_NEW(arena, const char *);
    if (!items)
        return -ENOMEM;
    items[0] = arena_strdup(arena, address->ip);
    endpoint->addresses = (struct kube_string_list){.items = items, .count = 1};
    endpoint->conditions.ready = bool_new(arena, ready);
    endpoint->hostname = address->hostname ? arena_strdup(arena, address->hostname) : NULL;
    endpoint->node_name = address->node_name ? arena_strdup(arena, address->node_name) : NULL;
    if (!address->target_ref)
        return items[0] && endpoint->conditions.ready ? 0 : -ENOMEM;
    endpoint->target_ref = ARENA_NEW(arena, struct kube_object_reference);
    return endpoint->target_ref ? kube_copy(&kube_object_reference_type, arena, address->target_ref, endpoint->target_ref) : -ENOMEM;
}

static int fill_ports(struct arena *arena, const struct kube_endpoint_port_array *ports, struct kube_discovery_endpoint_port_array *ret) {
    *ret = (struct kube_discovery_endpoint_port_array){.items = ARENA_ARRAY(arena, struct kube_discovery_endpoint_port, ports->count)};
    if (!ret->items)
        return -ENOMEM;
    for (size_t i = 0; i < ports->count; i++) {
        const struct kube_endpoint_port *port = &ports->items[i];
        ret->items[ret->count++] = (struct kube_discovery_endpoint_port){
            .name = arena_strdup(arena, port->name ? port->name : ""),
            .protocol = arena_strdup(arena, port->protocol ? port->protocol : "TCP"),
            .port = int32_new(arena, port->port),
            .app_protocol = port->app_protocol ? arena_strdup(arena, port->app_protocol) : NULL,
        };
    }
    return 0;
}

static int fill_metadata(struct kube_object *slice, const struct kube_object *endpoints) {
    struct kube_object_meta *to = slice->metadata;
    const struct kube_string_map *labels = &endpoints->metadata->labels, *annotations = &endpoints->metadata->annotations;
    to->labels = to->annotations = (struct kube_string_map){.items = NULL};
    int r = 0;
    for (size_t i = 0; i < labels->count && r == 0; i++)
        r = kube_map_set(&to->labels, slice->arena, labels->items[i].key, labels->items[i].value);
    for (size_t i = 0; i < annotations->count && r == 0; i++)
        if (strcmp(annotations->items[i].key, "kubectl.kubernetes.io/last-applied-configuration") != 0 &&
            strcmp(annotations->items[i].key, "endpoints.kubernetes.io/last-change-trigger-time") != 0)
            r = kube_map_set(&to->annotations, slice->arena, annotations->items[i].key, annotations->items[i].value);
    if (r == 0)
        r = kube_map_set(&to->labels, slice->arena, LABEL_SERVICE, endpoints->metadata->name);
    return r == 0 ? kube_map_set(&to->labels, slice->arena, LABEL_SLICE_MANAGER, MANAGER) : r;
}

static int fill(const struct mirror *mirror, struct kube_object *slice, const struct kube_endpoint_subset *subset, const struct addresses *addresses,
                size_t from) {
    struct kube_endpoint_slice *to = slice->endpoint_slice;
    to->endpoints = (struct kube_endpoint_array){.items = ARENA_ARRAY(slice->arena, struct kube_endpoint, SLICE_ENDPOINTS_MAX)};
    if (!to->endpoints.items)
        return -ENOMEM;
    int r = 0;
    for (size_t i = from; i < MIN(addresses->count, from + SLICE_ENDPOINTS_MAX) && r == 0; i++)
        r = fill_endpoint(slice->arena, addresses->items[i].address, addresses->items[i].ready, &to->endpoints.items[to->endpoints.count++]);
    to->address_type = strchr(addresses->items[0].address->ip, ':') ? "IPv6" : "IPv4";
    if (r == 0)
        r = fill_ports(slice->arena, &subset->ports, &to->ports);
    return r == 0 ? fill_metadata(slice, mirror->endpoints) : r;
}

static void write_slice(struct mirror *mirror, const struct kube_endpoint_subset *subset, const struct addresses *addresses, size_t from) {
    struct context *context = mirror->context;
    const char *name = endpoint_slice_name(context, mirror->endpoints, mirror->count);
    const struct kube_object *present = context_get(context, &kube_kind_endpoint_slice, mirror->endpoints->metadata->namespace, name);
    struct kube_object *slice = present ? context_copy(context, present) : kube_object_new(&kube_kind_endpoint_slice);
    int r = slice && name ? fill(mirror, slice, subset, addresses, from) : -ENOMEM;
    if (r == 0 && !present) {
        slice->metadata->name = arena_strdup(slice->arena, name);
        slice->metadata->generate_name = arena_printf(slice->arena, "%s-", mirror->endpoints->metadata->name);
        slice->metadata->namespace = arena_strdup(slice->arena, mirror->endpoints->metadata->namespace);
        r = add_controller_reference(slice->metadata, slice->arena, mirror->endpoints);
    }
    if (r < 0) {
        kube_object_unref(slice);
        context_fail(context);
        return;
    }
    endpoint_write_slice(context, slice, present);
    mirror->names[mirror->count++] = name;
}

static void mirror_subset(struct mirror *mirror, const struct kube_endpoint_subset *subset, struct addresses *addresses) {
    for (int v6 = 0; v6 < 2; v6++) {
        addresses->count = 0;
        add_family(&subset->addresses, true, v6, addresses);
        add_family(&subset->not_ready_addresses, false, v6, addresses);
        for (size_t from = 0; from < addresses->count && mirror->count < SLICES_MAX; from += SLICE_ENDPOINTS_MAX)
            write_slice(mirror, subset, addresses, from);
    }
}

void endpoint_mirror_reconcile(struct context *context) {
    const struct kube_object *endpoints = context_get(context, &kube_kind_endpoints, context->namespace, context->name);
    const struct kube_object *service = context_get(context, &kube_kind_service, context->namespace, context->name);
    struct mirror *mirror = ARENA_NEW(context->arena, struct mirror);
    struct addresses *addresses = ARENA_NEW(context->arena, struct addresses);
    if (!mirror || !addresses) {
        context_fail(context);
        return;
    }
    *mirror = (struct mirror){.context = context, .endpoints = endpoints};
    if (is_mirrored(endpoints, service))
        for (size_t i = 0; i < endpoints->endpoints->subsets.count; i++)
            mirror_subset(mirror, &endpoints->endpoints->subsets.items[i], addresses);
    endpoint_delete_others(context, context->name, MANAGER, mirror->names, mirror->count);
}
