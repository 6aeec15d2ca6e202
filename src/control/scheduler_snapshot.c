/* What the scheduler reckons with: for each node what it has and what is taken of it, in thousandths. Resources are numbered as they are met. */
#include "control/scheduler_priv.h"

static const char *const basic[RESOURCES_BASIC] = {"cpu", "memory", "ephemeral-storage"};

static bool holds_room(const struct kube_object *pod) {
    return pod->pod->spec.node_name && !pod_is_finished(pod->pod);
}

/* Its number; SIZE_MAX when there are too many kinds. */
static size_t resource_number(struct snapshot *snapshot, const char *name) {
    size_t i = 0;
    while (i < snapshot->resources_count && strcmp(snapshot->resources[i], name) != 0)
        i++;
    if (i == SCHEDULER_RESOURCES_MAX)
        return SIZE_MAX;
    if (i == snapshot->resources_count)
        snapshot->resources[snapshot->resources_count++] = name;
    return i;
}

/* ---- requests: the containers' sum, or what the largest init container wants if that is more; sidecars (init containers that restart) count with
 * the containers, and with the init containers that start after them ---- */

static void add(struct snapshot *snapshot, const struct kube_quantity_map *from, int64_t *to) {
    for (size_t i = 0; i < from->count; i++) {
        size_t number = resource_number(snapshot, from->items[i].key);
        if (number != SIZE_MAX)
            to[number] += from->items[i].value.milli;
    }
}

/* What the pod says as a whole (NULL: nothing) counts instead of what its containers say. */
static void replace(struct snapshot *snapshot, const struct kube_resource_requirements *level, int64_t *to) {
    for (size_t i = 0; level && i < level->requests.count; i++) {
        const struct kube_quantity_pair *request = &level->requests.items[i];
        size_t number = kube_pod_level_supports(request->key) ? resource_number(snapshot, request->key) : SIZE_MAX;
        if (number != SIZE_MAX)
            to[number] = request->value.milli;
    }
}

/* What a container asks for; of a running one what it holds, when that is more. */
static void add_container(struct snapshot *snapshot, const struct kube_pod_status *status, const struct kube_container *container, int64_t *to) {
    const struct kube_quantity_map *requests = &container->resources.requests;
    for (size_t i = 0; i < requests->count; i++) {
        size_t number = resource_number(snapshot, requests->items[i].key);
        if (number != SIZE_MAX)
            to[number] += kube_request_held(status, container, requests->items[i].key);
    }
}

static void count_requests(struct snapshot *snapshot, const struct kube_pod *pod, int64_t *ret) {
    const struct kube_pod_spec *spec = &pod->spec;
    int64_t sidecars[SCHEDULER_RESOURCES_MAX] = {0}, most[SCHEDULER_RESOURCES_MAX] = {0};
    for (size_t i = 0; i < spec->init_containers.count; i++) {
        const struct kube_container *container = &spec->init_containers.items[i];
        int64_t needs[SCHEDULER_RESOURCES_MAX] = {0};
        bool is_sidecar = text_is(container->restart_policy, "Always");
        add_container(snapshot, &pod->status, container, is_sidecar ? sidecars : needs);
        for (size_t k = 0; k < snapshot->resources_count; k++)
            most[k] = MAX(most[k], needs[k] + sidecars[k]);
    }
    for (size_t i = 0; i < spec->containers.count; i++)
        add_container(snapshot, &pod->status, &spec->containers.items[i], ret);
    for (size_t k = 0; k < snapshot->resources_count; k++)
        ret[k] = MAX(ret[k] + sidecars[k], most[k]);
    replace(snapshot, kube_pod_level(spec), ret);
    add(snapshot, &spec->overhead, ret);
}

struct occupant *occupant_new(struct snapshot *snapshot, const struct kube_object *pod) {
    struct occupant *occupant = ARENA_NEW(snapshot->context->arena, struct occupant);
    if (!occupant) {
        context_fail(snapshot->context);
        return NULL;
    }
    occupant->object = pod;
    count_requests(snapshot, pod->pod, occupant->requests_milli);
    return occupant;
}

/* ---- nodes ---- */

static bool has_pod_affinity(const struct kube_object *pod) {
    const struct kube_affinity *affinity = pod->pod->spec.affinity;
    return affinity && (affinity->pod_affinity || affinity->pod_anti_affinity);
}

void host_add(struct snapshot *snapshot, struct host *host, struct occupant *occupant) {
    for (size_t i = 0; i < SCHEDULER_RESOURCES_MAX; i++)
        host->used_milli[i] += occupant->requests_milli[i];
    snapshot->with_affinity += has_pod_affinity(occupant->object);
    if (VECTOR_PUSH(&host->pods, occupant) < 0)
        context_fail(snapshot->context);
}

void host_remove(struct snapshot *snapshot, struct host *host, struct occupant *occupant) {
    for (size_t i = 0; i < host->pods.count; i++) {
        if (host->pods.items[i] != occupant)
            continue;
        host->pods.items[i] = host->pods.items[--host->pods.count];
        for (size_t k = 0; k < SCHEDULER_RESOURCES_MAX; k++)
            host->used_milli[k] -= occupant->requests_milli[k];
        snapshot->with_affinity -= has_pod_affinity(occupant->object);
        return;
    }
}

struct host *host_find(const struct snapshot *snapshot, const char *name) {
    for (size_t i = 0; name && i < snapshot->hosts_count; i++)
        if (text_is(snapshot->hosts[i].object->metadata->name, name))
            return &snapshot->hosts[i];
    return NULL;
}

const char *host_label(const struct host *host, const char *key) {
    return kube_map_find(&host->object->metadata->labels, key);
}

/* A node that says nothing of a basic resource has enough of it; of others it has none. */
static void measure(struct snapshot *snapshot, const struct kube_object *node, struct host *host) {
    const struct kube_quantity_map *allocatable = &node->node->status.allocatable;
    if (allocatable->count == 0)
        allocatable = &node->node->status.capacity;
    *host = (struct host){.object = node, .pods_max = kube_quantity_milli(allocatable, "pods", 110000) / 1000};
    for (size_t i = 0; i < allocatable->count; i++) {
        size_t number = resource_number(snapshot, allocatable->items[i].key);
        if (number != SIZE_MAX)
            host->allocatable_milli[number] = allocatable->items[i].value.milli;
    }
    host->allocatable_milli[RESOURCE_STORAGE] = kube_quantity_milli(allocatable, basic[RESOURCE_STORAGE], INT64_MAX / 2);
}

void snapshot_init(struct snapshot *snapshot, struct context *context, const struct objects *pods, const struct objects *nodes) {
    *snapshot = (struct snapshot){.context = context, .resources_count = RESOURCES_BASIC};
    memcpy(snapshot->resources, basic, sizeof basic);
    snapshot->hosts = ARENA_ARRAY(context->arena, struct host, nodes->list.count);
    CLEANUP(map_freep) struct map *by_name = map_new();
    if (!snapshot->hosts || !by_name) {
        context_fail(context);
        return;
    }
    for (size_t i = 0; i < nodes->list.count; i++) {
        struct host *host = &snapshot->hosts[snapshot->hosts_count];
        if (is_deleting(nodes->list.items[i]))
            continue;
        measure(snapshot, nodes->list.items[i], host);
        snapshot->hosts_count++;
        if (map_put(by_name, slice_of(host->object->metadata->name), host, NULL) < 0)
            context_fail(context);
    }
    for (size_t i = 0; i < pods->list.count && !context->error; i++) {
        const struct kube_object *pod = pods->list.items[i];
        struct host *host = holds_room(pod) ? map_find(by_name, slice_of(pod->pod->spec.node_name)) : NULL;
        struct occupant *occupant = host ? occupant_new(snapshot, pod) : NULL;
        if (occupant)
            host_add(snapshot, host, occupant);
    }
}

void snapshot_deinit(struct snapshot *snapshot) {
    for (size_t i = 0; i < snapshot->hosts_count; i++)
        VECTOR_DEINIT(&snapshot->hosts[i].pods);
    objects_deinit(&snapshot->volumes);
    objects_deinit(&snapshot->taken);
}
