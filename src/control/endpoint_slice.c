/* EndpointSlices of services with a selector (upstream: pkg/controller/endpointslice).
 *
 * Slices of up to 100 pods, named "<service>-<letters>"; pods that mean different ports by the same named target port get slices of their own, as
 * upstream does it. A pod that is going stays in with ready=false, serving as it is, terminating=true, so that a gateway can finish what it
 * sent there. */
#include "control/endpoint_priv.h"

#define LABEL_HEADLESS "service.kubernetes.io/headless"
#define MANAGER "endpointslice-controller.k8s.io"

int endpoint_slice_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    return endpoint_enqueue(control, CONTROLLER_ENDPOINT_SLICE, &kube_kind_endpoint_slice, object, old);
}

const char *endpoint_slice_name(struct context *context, const struct kube_object *owner, size_t index) {
    char letters[6];
    uint64_t hash = text_hash(TEXT_HASH_INIT, owner->metadata->uid);
    safe_letters((hash ^ (hash >> 29)) + index * UINT64_C(0x9e3779b97f4a7c15), letters, 5);
    return arena_printf(context->arena, "%.57s-%s", owner->metadata->name, letters);
}

static int fill_ports(struct kube_object *slice, const struct kube_service *service, const struct backend *backend) {
    struct arena *arena = slice->arena;
    struct kube_discovery_endpoint_port_array *list = &slice->endpoint_slice->ports;
    *list = (struct kube_discovery_endpoint_port_array){.items = ARENA_ARRAY(arena, struct kube_discovery_endpoint_port, service->spec.ports.count)};
    if (!list->items)
        return -ENOMEM;
    for (size_t i = 0; backend && i < MIN(service->spec.ports.count, SERVICE_PORTS_MAX); i++) {
        const struct kube_service_port *port = &service->spec.ports.items[i];
        if (!backend->ports[i])
            continue;
        list->items[list->count++] = (struct kube_discovery_endpoint_port){
            .name = arena_strdup(arena, port->name ? port->name : ""),
            .protocol = arena_strdup(arena, port->protocol ? port->protocol : "TCP"),
            .port = int32_new(arena, backend->ports[i]),
            .app_protocol = port->app_protocol ? arena_strdup(arena, port->app_protocol) : NULL,
        };
    }
    return 0;
}

static int fill_endpoint(struct kube_object *slice, const struct kube_service *service, const struct backend *backend,
                         struct kube_endpoint *endpoint) {
    struct arena *arena = slice->arena;
    const char **addresses = ARENA_NEW(arena, const char *);
    if (!addresses)
        return -ENOMEM;
    addresses[0] = arena_strdup(arena, backend->ip);
    endpoint->addresses = (struct kube_string_list){.items = addresses, .count = 1};
    bool publish = service->spec.publish_not_ready_addresses;
    endpoint->conditions = (struct kube_endpoint_conditions){
        .ready = bool_new(arena, publish || (backend->ready && !backend->terminating)),
        .serving = bool_new(arena, backend->ready),
        .terminating = bool_new(arena, backend->terminating),
    };
    if (backend->pod->spec.hostname && same_text(backend->pod->spec.subdomain, service->metadata.name))
        endpoint->hostname = arena_strdup(arena, backend->pod->spec.hostname);
    endpoint->zone = backend->zone ? arena_strdup(arena, backend->zone) : NULL;
    endpoint->node_name = backend->pod->spec.node_name ? arena_strdup(arena, backend->pod->spec.node_name) : NULL;
    return endpoint_target(arena, backend->object, &endpoint->target_ref);
}

static int fill_labels(struct kube_object *slice, const struct kube_object *service) {
    struct kube_string_map *labels = &slice->metadata->labels;
    *labels = (struct kube_string_map){.items = NULL};
    const struct kube_string_map *from = &service->metadata->labels;
    int r = 0;
    for (size_t i = 0; i < from->count && r == 0; i++)
        r = kube_map_set(labels, slice->arena, from->items[i].key, from->items[i].value);
    if (r == 0 && text_is(service->service->spec.cluster_ip, "None"))
        r = kube_map_set(labels, slice->arena, LABEL_HEADLESS, "");
    if (r == 0)
        r = kube_map_set(labels, slice->arena, LABEL_SERVICE, service->metadata->name);
    return r == 0 ? kube_map_set(labels, slice->arena, LABEL_SLICE_MANAGER, MANAGER) : r;
}

/* One slice: the group's pods from number `from` on. */
struct portion {
    size_t group, from;
    const char *name;
};

static int fill(struct kube_object *slice, const struct kube_object *service, const struct backends *backends, const struct portion *portion) {
    struct kube_endpoint_slice *to = slice->endpoint_slice;
    const struct backend *first = NULL;
    size_t seen = 0;
    to->endpoints = (struct kube_endpoint_array){.items = ARENA_ARRAY(slice->arena, struct kube_endpoint, SLICE_ENDPOINTS_MAX)};
    if (!to->endpoints.items)
        return -ENOMEM;
    for (size_t i = 0; i < backends->count && to->endpoints.count < SLICE_ENDPOINTS_MAX; i++) {
        const struct backend *backend = &backends->items[i];
        if (backend->group != portion->group || seen++ < portion->from)
            continue;
        first = first ? first : backend;
        int r = fill_endpoint(slice, service->service, backend, &to->endpoints.items[to->endpoints.count++]);
        if (r < 0)
            return r;
    }
    to->address_type = first && strchr(first->ip, ':') ? "IPv6" : "IPv4";
    int r = fill_ports(slice, service->service, first);
    return r == 0 ? fill_labels(slice, service) : r;
}

void endpoint_write_slice(struct context *context, struct kube_object *slice, const struct kube_object *present) {
    if (!present)
        context_create(context, slice);
    else if (!kube_equal(&kube_endpoint_slice_type, slice->endpoint_slice, present->endpoint_slice))
        context_update(context, slice);
    else
        kube_object_unref(slice);
}

static void write_portion(struct context *context, const struct kube_object *service, const struct backends *backends,
                          const struct portion *portion) {
    const struct kube_object *present = context_get(context, &kube_kind_endpoint_slice, service->metadata->namespace, portion->name);
    struct kube_object *slice = present ? context_copy(context, present) : kube_object_new(&kube_kind_endpoint_slice);
    int r = slice ? fill(slice, service, backends, portion) : -ENOMEM;
    if (r == 0 && !present) {
        slice->metadata->name = arena_strdup(slice->arena, portion->name);
        slice->metadata->generate_name = arena_printf(slice->arena, "%s-", service->metadata->name);
        slice->metadata->namespace = arena_strdup(slice->arena, service->metadata->namespace);
        r = add_controller_reference(slice->metadata, slice->arena, service);
    }
    if (r == 0) {
        endpoint_write_slice(context, slice, present);
        return;
    }
    kube_object_unref(slice);
    context_fail(context);
}

void endpoint_delete_others(struct context *context, const char *service, const char *manager, const char *const *names, size_t count) {
    struct objects slices = {.list = {.items = NULL}};
    context_list(context, &kube_kind_endpoint_slice, context->namespace, &slices);
    for (size_t i = 0; i < slices.list.count; i++) {
        const struct kube_object *slice = slices.list.items[i];
        bool ours = same_text(kube_map_find(&slice->metadata->labels, LABEL_SERVICE), service) &&
                    same_text(kube_map_find(&slice->metadata->labels, LABEL_SLICE_MANAGER), manager);
        bool wanted = !ours || is_deleting(slice);
        for (size_t j = 0; j < count && !wanted; j++)
            wanted = same_text(names[j], slice->metadata->name);
        if (!wanted)
            context_delete(context, slice, NULL, -1);
    }
    objects_deinit(&slices);
}

/* How many slices a group takes; the first has one even when there are no pods, so that readers see that the service is known. */
static size_t portions_of(const struct backends *backends, size_t group) {
    size_t count = 0;
    for (size_t i = 0; i < backends->count; i++)
        count += backends->items[i].group == group;
    return MAX((count + SLICE_ENDPOINTS_MAX - 1) / SLICE_ENDPOINTS_MAX, (size_t)1);
}

void endpoint_slice_reconcile(struct context *context) {
    const struct kube_object *service = context_get(context, &kube_kind_service, context->namespace, context->name);
    if (!service || is_deleting(service)) {
        endpoint_delete_others(context, context->name, MANAGER, NULL, 0);
        return;
    }
    if (!endpoint_is_managed(service))
        return;
    struct backends backends;
    endpoint_collect(context, service, &backends);
    size_t groups = MAX(backends.groups, (size_t)1), count = 0;
    const char **names = ARENA_ARRAY(context->arena, const char *, groups + backends.count);
    if (!names || context->error) {
        context_fail(context);
        return;
    }
    for (size_t group = 0; group < groups; group++) {
        for (size_t i = 0; i < portions_of(&backends, group); i++) {
            names[count] = endpoint_slice_name(context, service, count);
            struct portion portion = {.group = group, .from = i * SLICE_ENDPOINTS_MAX, .name = names[count]};
            if (portion.name)
                write_portion(context, service, &backends, &portion);
            else
                context_fail(context);
            count++;
        }
    }
    endpoint_delete_others(context, context->name, MANAGER, names, count);
}
