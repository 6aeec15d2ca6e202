/* Limits of local storage: of an empty folder, of a container's writable layer with its logs, of all of a pod's containers together. They are kept as
 * kubelet keeps them: what a pod takes is measured now and then, and who took too much has to go.
 *
 * Measuring walks trees, so it is done only for pods with limits, on a worker thread, and only when the pod's processes have used any CPU since the
 * last time: who did not run wrote nothing. While they write it is repeated every LOOK_MIN_MS or, when a walk takes long, after WALK_PART times that;
 * while they do not, a look costs a small read and comes at most every LOOK_MAX_MS. */
#include "node/node_priv.h"

#define LOOK_MIN_MS 10000
#define LOOK_MAX_MS 60000
#define WALK_PART 20
#define GRACE_S 1

struct storage_limits {
    struct node *node;
    struct loop_timer timer;
    struct storage *storage; /* being measured */
    int64_t began_ns, pause_ms;
};

static bool is_limited_volume(const struct kube_volume *volume) {
    const struct kube_quantity *limit = volume->empty_dir ? volume->empty_dir->size_limit : NULL;
    return storage_is_empty_dir_on_disk(volume) && limit && limit->milli > 0;
}

static bool has_limits(const struct kube_pod_spec *spec) {
    const struct kube_container_array *lists[] = {&spec->containers, &spec->init_containers};
    for (size_t i = 0; i < spec->volumes.count; i++)
        if (is_limited_volume(&spec->volumes.items[i]))
            return true;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->count; i++)
            if (kube_quantity_milli(&lists[l]->items[i].resources.limits, "ephemeral-storage", 0) > 0)
                return true;
    return false;
}

/* --- judging --- */

static uint64_t volume_bytes(const struct storage_item *items, size_t count, const char *uid, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (items[i].kind == STORAGE_EMPTY_DIR && strcmp(items[i].uid, uid) == 0 && strcmp(items[i].name, name) == 0)
            return items[i].usage.bytes;
    return 0;
}

static const char *text_of(const struct kube_quantity_map *map) {
    for (size_t i = 0; i < map->count; i++)
        if (strcmp(map->items[i].key, "ephemeral-storage") == 0)
            return map->items[i].value.text;
    return NULL;
}

static bool exceeds(uint64_t bytes, int64_t limit_milli) {
    return limit_milli > 0 && bytes > (uint64_t)limit_milli / 1000;
}

static bool volume_exceeds(const struct kube_pod_spec *spec, const char *uid, const struct storage_item *items, size_t count, char *ret,
                           size_t size) {
    for (size_t i = 0; i < spec->volumes.count; i++) {
        const struct kube_volume *volume = &spec->volumes.items[i];
        if (!is_limited_volume(volume) || !exceeds(volume_bytes(items, count, uid, volume->name), volume->empty_dir->size_limit->milli))
            continue;
        snprintf(ret, size, "Usage of EmptyDir volume \"%s\" exceeds the limit \"%s\". ", volume->name, volume->empty_dir->size_limit->text);
        return true;
    }
    return false;
}

static bool pod_exceeds(const struct kube_pod_spec *spec, const char *uid, const struct storage_item *items, size_t count, char *ret, size_t size) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    struct kube_quantity_map requests = {0}, limits = {0};
    struct sys_usage usage;
    if (!arena || kube_pod_resources(spec, arena, &requests, &limits) < 0)
        return false;
    storage_sum(items, count, uid, NULL, &usage);
    if (!exceeds(usage.bytes, kube_quantity_milli(&limits, "ephemeral-storage", 0)))
        return false;
    snprintf(ret, size, "Pod ephemeral local storage usage exceeds the total limit of containers %s. ", text_of(&limits));
    return true;
}

static bool container_exceeds(const struct kube_pod_spec *spec, const char *uid, const struct storage_item *items, size_t count, char *ret,
                              size_t size) {
    for (size_t i = 0; i < spec->containers.count; i++) {
        const struct kube_container *container = &spec->containers.items[i];
        struct sys_usage usage;
        storage_sum(items, count, uid, container->name, &usage);
        if (!exceeds(usage.bytes, kube_quantity_milli(&container->resources.limits, "ephemeral-storage", 0)))
            continue;
        snprintf(ret, size, "Container %s exceeded its local ephemeral storage limit \"%s\". ", container->name,
                 text_of(&container->resources.limits));
        return true;
    }
    return false;
}

bool storage_exceeds(const struct kube_pod_spec *spec, const char *uid, const struct storage_item *items, size_t count, char *ret, size_t size) {
    return volume_exceeds(spec, uid, items, count, ret, size) || pod_exceeds(spec, uid, items, count, ret, size) ||
           container_exceeds(spec, uid, items, count, ret, size);
}

/* --- measuring --- */

static bool is_watched(const struct pod *pod) {
    return pod->stage == POD_ACTIVE && !pod->failed_reason[0] && has_limits(&pod->spec_object->pod->spec);
}

/* Whether its processes ran since it was measured last. */
static bool has_run(struct pod *pod) {
    struct cgroup_usage usage = {0};
    cgroup_usage(&pod->node->cgroups, pod->group, &usage);
    bool ran = usage.cpu_ns != pod->measured_cpu_ns;
    pod->measured_cpu_ns = usage.cpu_ns; /* before it is measured: what it writes meanwhile is for the next time */
    return ran;
}

static bool is_marked(const struct pod *pod) {
    return pod->is_measured;
}

static void on_measured(void *userdata, const struct storage_item *items, size_t count) {
    struct storage_limits *limits = userdata;
    struct slice key;
    void *value;
    limits->storage = NULL;
    limits->pause_ms = MAX(LOOK_MIN_MS, (loop_now_ns(limits->node->loop) - limits->began_ns) / 1000000 * WALK_PART);
    loop_timer_set(&limits->timer, limits->pause_ms);
    for (size_t at = 0; map_next(limits->node->pods, &at, &key, &value);) {
        struct pod *pod = value;
        char message[512];
        if (is_watched(pod) && storage_exceeds(&pod->spec_object->pod->spec, pod->uid, items, count, message, sizeof message))
            eviction_evict(pod, GRACE_S, false, message);
    }
}

static void look(void *userdata) {
    struct storage_limits *limits = userdata;
    struct node *node = limits->node;
    size_t watched = 0, marked = 0;
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);) {
        struct pod *pod = value;
        bool is = is_watched(pod);
        pod->is_measured = is && has_run(pod);
        watched += is;
        marked += pod->is_measured;
    }
    limits->began_ns = loop_now_ns(node->loop);
    if (marked && storage_measure(node, is_marked, false, on_measured, limits, &limits->storage) == 0)
        return;
    limits->pause_ms = MIN(limits->pause_ms * 2, LOOK_MAX_MS);
    if (watched) /* otherwise until one comes */
        loop_timer_set(&limits->timer, MAX(limits->pause_ms, LOOK_MIN_MS));
}

void storage_limits_watch(struct pod *pod) {
    struct storage_limits *limits = pod->node->storage_limits;
    if (is_watched(pod) && !limits->storage && (!loop_timer_is_set(&limits->timer) || limits->pause_ms > LOOK_MIN_MS)) {
        limits->pause_ms = LOOK_MIN_MS;
        loop_timer_set(&limits->timer, LOOK_MIN_MS);
    }
}

/* --- life --- */

int storage_limits_new(struct node *node) {
    struct storage_limits *limits = calloc(1, sizeof *limits);
    if (!limits)
        return -ENOMEM;
    limits->node = node;
    loop_timer_init(&limits->timer, node->loop, look, limits);
    node->storage_limits = limits;
    return 0;
}

void storage_limits_free(struct storage_limits *limits) {
    if (!limits)
        return;
    storage_forget(limits->storage);
    loop_timer_cancel(&limits->timer);
    free(limits);
}
