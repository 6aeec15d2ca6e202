/* Services of type LoadBalancer: the machine itself is the balancer, so their status names its addresses; the node's rules let the ports in. A
 * service that asks for a balancer of another class (spec.loadBalancerClass) is left to that one. (Upstream: the service controller of a cloud
 * provider.) */
#include "control/control_priv.h"

#define ADDRESSES_MAX 8

static bool wants_balancer(const struct kube_object *object) {
    return object && object->kind == &kube_kind_service && text_is(object->service->spec.type, "LoadBalancer");
}

int service_load_balancer_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (object && (wants_balancer(object) || wants_balancer(old)))
        return control_enqueue_object(control, CONTROLLER_SERVICE_LOAD_BALANCER, object);
    bool moved = some->kind == &kube_kind_node && !(object && old && kube_equal(&kube_node_status_type, &object->node->status, &old->node->status));
    return moved ? control_enqueue(control, CONTROLLER_SERVICE_LOAD_BALANCER, &kube_kind_service, NULL, "") : 0;
}

/* A node's ExternalIP, or where it has none its InternalIP. */
static const char *address_of(const struct kube_object *node) {
    const char *internal = NULL;
    for (size_t i = 0; i < node->node->status.addresses.count; i++) {
        const struct kube_node_address *it = &node->node->status.addresses.items[i];
        if (text_is(it->type, "ExternalIP"))
            return it->address;
        if (text_is(it->type, "InternalIP") && !internal)
            internal = it->address;
    }
    return internal;
}

static int set_ingress(struct context *context, struct kube_object *copy) {
    struct kube_load_balancer_ingress_array *list = &copy->service->status.load_balancer.ingress;
    struct objects nodes = {.list = {.items = NULL}};
    context_list(context, &kube_kind_node, NULL, &nodes);
    list->items = ARENA_ARRAY(copy->arena, struct kube_load_balancer_ingress, ADDRESSES_MAX);
    list->count = 0;
    for (size_t i = 0; i < nodes.list.count && list->items && list->count < ADDRESSES_MAX; i++) {
        const char *address = address_of(nodes.list.items[i]);
        if (address)
            list->items[list->count++] = (struct kube_load_balancer_ingress){.ip = arena_strdup(copy->arena, address), .ip_mode = "VIP"};
    }
    objects_deinit(&nodes);
    return list->items ? 0 : -ENOMEM;
}

static void reconcile_one(struct context *context, const struct kube_object *service) {
    bool wanted = text_is(service->service->spec.type, "LoadBalancer"), foreign = service->service->spec.load_balancer_class != NULL;
    if (is_deleting(service) || (wanted && foreign) || (!wanted && !service->service->status.load_balancer.ingress.count))
        return;
    struct kube_object *copy = context_copy(context, service);
    if (!copy)
        return;
    copy->service->status.load_balancer = (struct kube_load_balancer_status){.ingress = {.items = NULL}};
    if (wanted && set_ingress(context, copy))
        context_fail(context);
    context_update_changed_status(context, service, copy);
}

void service_load_balancer_reconcile(struct context *context) {
    context_each(context, &kube_kind_service, NULL, reconcile_one);
}
