/* What a pod asks for and may use with all its containers (upstream: component-helpers/resource), and the class that follows from it. Pure.
 *
 * A running container may hold more than its spec asks for: while a resize has not been carried out, or the node has refused it. So who reckons with
 * the room that is left takes the larger of what is asked for, what the node has allocated, and what it has applied; a resize that can never be
 * (Infeasible) does not count. */
#include "kube/helpers_priv.h"

static int add_all(struct kube_quantity_map *to, struct arena *arena, const struct kube_quantity_map *from) {
    int error = 0;
    for (size_t i = 0; i < from->count && !error; i++)
        error = kube_quantities_add(to, arena, from->items[i].key, from->items[i].value, 1);
    return error;
}

static int raise_to(struct kube_quantity_map *to, struct arena *arena, const struct kube_quantity_map *from) {
    int error = 0;
    for (size_t i = 0; i < from->count && !error; i++)
        if (kube_quantity_milli(to, from->items[i].key, INT64_MIN) < from->items[i].value.milli)
            error = kube_quantities_set(to, arena, from->items[i].key, from->items[i].value);
    return error;
}

/* --- what a container holds --- */

static const struct kube_container_status *status_of(const struct kube_pod_status *status, const char *name) {
    const struct kube_container_status_array *const lists[] = {&status->container_statuses, &status->init_container_statuses};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->count; i++)
            if (kube_text_is(lists[l]->items[i].name, name))
                return &lists[l]->items[i];
    return NULL;
}

static bool is_infeasible(const struct kube_pod_status *status) {
    for (size_t i = 0; i < status->conditions.count; i++)
        if (kube_text_is(status->conditions.items[i].type, "PodResizePending") && kube_text_is(status->conditions.items[i].reason, "Infeasible"))
            return true;
    return false;
}

int64_t kube_request_held(const struct kube_pod_status *status, const struct kube_container *container, const char *resource) {
    int64_t asked = kube_quantity_milli(&container->resources.requests, resource, 0);
    const struct kube_container_status *now = status ? status_of(status, container->name) : NULL;
    if (!now || !now->resources)
        return asked;
    int64_t held = MAX(kube_quantity_milli(&now->resources->requests, resource, 0), kube_quantity_milli(&now->allocated_resources, resource, 0));
    return held && is_infeasible(status) ? held : MAX(asked, held);
}

/* The requests with what is held instead; status NULL: as they are. */
static int add_held(struct kube_quantity_map *to, struct arena *arena, const struct kube_container *container, const struct kube_pod_status *status) {
    const struct kube_quantity_map *from = &container->resources.requests;
    int error = 0;
    for (size_t i = 0; i < from->count && !error; i++) {
        struct kube_quantity value = from->items[i].value;
        value.milli = kube_request_held(status, container, from->items[i].key);
        error = kube_quantities_add(to, arena, from->items[i].key, value, 1);
    }
    return error;
}

static int add_container(struct kube_quantity_map *to, struct arena *arena, const struct kube_container *container,
                         const struct kube_pod_status *status, bool limits) {
    return limits ? add_all(to, arena, &container->resources.limits) : add_held(to, arena, container, status);
}

/* --- the pod as a whole (KEP-2837): where it says something, that counts instead of what its containers say --- */

bool kube_pod_level_supports(const char *resource) {
    return !strcmp(resource, "cpu") || !strcmp(resource, "memory") || !strncmp(resource, "hugepages-", 10);
}

static bool has_supported(const struct kube_quantity_map *map) {
    for (size_t i = 0; i < map->count; i++)
        if (kube_pod_level_supports(map->items[i].key))
            return true;
    return false;
}

const struct kube_resource_requirements *kube_pod_level(const struct kube_pod_spec *spec) {
    const struct kube_resource_requirements *level = spec->resources;
    return level && (has_supported(&level->requests) || has_supported(&level->limits)) ? level : NULL;
}

static int replace_with(struct kube_quantity_map *to, struct arena *arena, const struct kube_quantity_map *level) {
    int error = 0;
    for (size_t i = 0; i < level->count && !error; i++)
        if (kube_pod_level_supports(level->items[i].key))
            error = kube_quantities_set(to, arena, level->items[i].key, level->items[i].value);
    return error;
}

/* --- the pod --- */

/* A sidecar: an init container that runs on. */
static bool is_sidecar(const struct kube_container *container) {
    return kube_text_is(container->restart_policy, "Always");
}

/* Requests or limits of its containers together: the larger of all containers with the sidecars, and of each init container with the sidecars started
 * before it. */
static int sum_containers(const struct kube_pod_spec *spec, const struct kube_pod_status *status, struct arena *arena, bool limits,
                          struct kube_quantity_map *ret) {
    struct kube_quantity_map total = {.count = 0}, sidecars = {.count = 0}, starting = {.count = 0};
    int error = 0;
    for (size_t i = 0; i < spec->containers.count && !error; i++)
        error = add_container(&total, arena, &spec->containers.items[i], status, limits);
    for (size_t i = 0; i < spec->init_containers.count && !error; i++) {
        const struct kube_container *container = &spec->init_containers.items[i];
        struct kube_quantity_map now = {.count = 0};
        if (is_sidecar(container)) {
            error = add_container(&sidecars, arena, container, status, limits);
            error = error ? error : add_container(&total, arena, container, status, limits);
        } else {
            error = add_container(&now, arena, container, status, limits);
        }
        error = error ? error : add_all(&now, arena, &sidecars);
        error = error ? error : raise_to(&starting, arena, &now);
    }
    error = error ? error : raise_to(&total, arena, &starting);
    *ret = total;
    return error;
}

int kube_pod_container_requests(const struct kube_pod_spec *spec, struct arena *arena, struct kube_quantity_map *ret) {
    return sum_containers(spec, NULL, arena, false, ret);
}

static int sum_pod(const struct kube_pod_spec *spec, const struct kube_pod_status *status, struct arena *arena, bool limits,
                   struct kube_quantity_map *ret) {
    const struct kube_resource_requirements *level = kube_pod_level(spec);
    struct kube_quantity_map total;
    int error = sum_containers(spec, status, arena, limits, &total);
    if (!error && level)
        error = replace_with(&total, arena, limits ? &level->limits : &level->requests);
    for (size_t i = 0; i < spec->overhead.count && !error; i++)
        if (!limits || kube_pair_find(&total, sizeof *total.items, spec->overhead.items[i].key))
            error = kube_quantities_add(&total, arena, spec->overhead.items[i].key, spec->overhead.items[i].value, 1);
    *ret = total;
    return error;
}

int kube_pod_resources(const struct kube_pod_spec *spec, struct arena *arena, struct kube_quantity_map *ret_requests,
                       struct kube_quantity_map *ret_limits) {
    int error = sum_pod(spec, NULL, arena, false, ret_requests);
    return error ? error : sum_pod(spec, NULL, arena, true, ret_limits);
}

int kube_pod_resources_held(const struct kube_pod *pod, struct arena *arena, struct kube_quantity_map *ret_requests,
                            struct kube_quantity_map *ret_limits) {
    int error = sum_pod(&pod->spec, &pod->status, arena, false, ret_requests);
    return error ? error : sum_pod(&pod->spec, NULL, arena, true, ret_limits);
}

/* --- ports of the machine --- */

static bool is_any_address(const char *address) {
    return !address || !*address || strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0;
}

static bool ports_clash(const struct kube_container_port *a, const struct kube_container_port *b) {
    return a->host_port && a->host_port == b->host_port && strcmp(a->protocol ? a->protocol : "TCP", b->protocol ? b->protocol : "TCP") == 0 &&
           (is_any_address(a->host_ip) || is_any_address(b->host_ip) || strcmp(a->host_ip, b->host_ip) == 0);
}

static bool takes_port(const struct kube_pod_spec *spec, const struct kube_container_port *wanted) {
    for (size_t i = 0; i < spec->containers.count; i++)
        for (size_t j = 0; j < spec->containers.items[i].ports.count; j++)
            if (ports_clash(&spec->containers.items[i].ports.items[j], wanted))
                return true;
    return false;
}

bool kube_host_ports_clash(const struct kube_pod_spec *a, const struct kube_pod_spec *b) {
    for (size_t i = 0; i < a->containers.count; i++)
        for (size_t j = 0; j < a->containers.items[i].ports.count; j++)
            if (takes_port(b, &a->containers.items[i].ports.items[j]))
                return true;
    return false;
}

/* --- quality of service --- */

static bool is_compute(const char *resource) {
    return !strcmp(resource, "cpu") || !strcmp(resource, "memory");
}

/* What one container says: sets *any when it names cpu or memory at all; returns whether its limits equal its requests for both. */
static bool is_guaranteed(const struct kube_resource_requirements *resources, bool *any) {
    size_t limits = 0;
    bool equal = true;
    for (size_t i = 0; i < resources->requests.count; i++) {
        const char *key = resources->requests.items[i].key;
        if (!is_compute(key) || resources->requests.items[i].value.milli == 0)
            continue;
        *any = true;
        equal = equal && kube_quantity_milli(&resources->limits, key, -1) == resources->requests.items[i].value.milli;
    }
    for (size_t i = 0; i < resources->limits.count; i++) {
        if (!is_compute(resources->limits.items[i].key) || resources->limits.items[i].value.milli == 0)
            continue;
        *any = true;
        limits++;
    }
    return equal && limits == 2;
}

const char *kube_pod_qos_class(const struct kube_pod_spec *spec) {
    const struct kube_resource_requirements *level = kube_pod_level(spec);
    bool any = false, guaranteed = !level || is_guaranteed(level, &any);
    for (size_t i = 0; !level && i < spec->containers.count; i++)
        guaranteed = is_guaranteed(&spec->containers.items[i].resources, &any) && guaranteed;
    for (size_t i = 0; !level && i < spec->init_containers.count; i++)
        guaranteed = is_guaranteed(&spec->init_containers.items[i].resources, &any) && guaranteed;
    if (!any)
        return "BestEffort";
    return guaranteed ? "Guaranteed" : "Burstable";
}
