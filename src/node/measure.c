/* What pods and containers use now, read in one go for whoever formats it: /metrics/cadvisor, /metrics/resource, /stats/summary.
 *
 * Control groups and the pods' interfaces are read when asked, on the loop: some 0.2 ms a pod. Files are counted by walking trees, on a worker
 * thread, and only when what is known is older than the asker wants: he gets what is known, or waits for the next count (one at a time, for all).
 * Those who do not wait ask again and again: for them counting may take half a percent of the time, however much there is to count. Nothing is
 * measured while nobody asks. */
#include "node/measure_priv.h"

#define PASSING_REST 200 /* times as long as the last count took, nothing is counted in passing */

static bool is_measured(const struct unit *unit) {
    return unit->stage == UNIT_RUNNING && unit->started_ns;
}

static int add_unit(struct unit *unit, bool detail, struct measures *ret) {
    struct measure measure = {.pod = unit->pod, .unit = unit};
    char path[QOS_PATH_BYTES];
    qos_container_path(unit, path);
    if (detail)
        cgroup_usage_all(&unit->pod->node->cgroups, path, &measure.usage);
    else
        cgroup_usage(&unit->pod->node->cgroups, path, &measure.usage);
    return VECTOR_PUSH(ret, measure);
}

static int add_pod(struct pod *pod, bool detail, struct measures *ret) {
    struct measure measure = {.pod = pod};
    size_t before = ret->count;
    int r = 0;
    for (size_t i = 0; r == 0 && i < pod->units_count; i++)
        if (is_measured(pod->units[i]))
            r = add_unit(pod->units[i], detail, ret);
    if (r < 0 || ret->count == before)
        return r;
    cgroup_usage(&pod->node->cgroups, pod->group, &measure.usage);
    measure.has_traffic = detail && podnet_traffic(pod->node->podnet, &pod->net, &measure.traffic) == 0;
    return VECTOR_PUSH(ret, measure);
}

int measure_all(struct node *node, bool detail, struct measures *ret) {
    void *value;
    int r = 0;
    for (size_t at = 0; r == 0 && map_next(node->pods, &at, NULL, &value);)
        r = add_pod(value, detail, ret);
    return r;
}

/* --- files --- */

struct disk_count {
    struct storage *storage; /* NULL: nothing is being counted */
    int64_t counted_ms;      /* 0: never */
    int64_t began_ms, took_ms;
    struct list waiting; /* struct disk_waiter */
};

static bool has_files(const struct pod *pod) {
    return pod->stage <= POD_ACTIVE;
}

static void take_item(struct pod *pod, const struct storage_item *item) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    bool is_volume = item->kind == STORAGE_EMPTY_DIR || item->kind == STORAGE_CLAIM;
    pod->is_counted = true;
    struct unit *unit = is_volume ? NULL : pod_unit(pod, item->name);
    if (unit)
        *(item->kind == STORAGE_LOGS ? &unit->disk_logs : &unit->disk_rootfs) = item->usage;
    if (is_volume && !pod->disk_volumes)
        pod->disk_volumes = calloc(volumes->count, sizeof *pod->disk_volumes);
    for (size_t i = 0; is_volume && pod->disk_volumes && i < volumes->count; i++)
        if (strcmp(volumes->items[i].name, item->name) == 0)
            pod->disk_volumes[i] = item->usage;
}

static void on_counted(void *userdata, const struct storage_item *items, size_t count) {
    struct node *node = userdata;
    struct disk_count *disk = node->disk_count;
    for (size_t i = 0; i < count; i++) {
        struct pod *pod = map_find(node->pods, slice_of(items[i].uid));
        if (pod)
            take_item(pod, &items[i]);
    }
    disk->storage = NULL;
    disk->counted_ms = loop_now_ns(node->loop) / 1000000;
    disk->took_ms = disk->counted_ms - disk->began_ms;
    while (!list_empty(&disk->waiting)) {
        struct disk_waiter *waiter = CONTAINER_OF(disk->waiting.next, struct disk_waiter, node);
        list_remove(&waiter->node);
        waiter->on_counted(waiter);
    }
}

/* A pod that came after the last count. */
static bool has_new(const struct node *node) {
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);)
        if (has_files(value) && !((const struct pod *)value)->is_counted)
            return true;
    return false;
}

bool measure_files(struct node *node, int64_t age_max_ms, struct disk_waiter *waiter) {
    struct disk_count *disk = node->disk_count ? node->disk_count : (node->disk_count = calloc(1, sizeof *disk));
    if (!disk)
        return false;
    if (!disk->waiting.next)
        list_init(&disk->waiting);
    int64_t now_ms = loop_now_ns(node->loop) / 1000000;
    if (!waiter)
        age_max_ms = MAX(age_max_ms, disk->took_ms * PASSING_REST);
    bool is_recent = disk->counted_ms && now_ms - disk->counted_ms <= age_max_ms;
    if (is_recent && !(waiter && has_new(node)))
        return false;
    if (!disk->storage)
        disk->began_ms = now_ms;
    if (!disk->storage && storage_measure(node, has_files, true, on_counted, node, &disk->storage) < 0)
        return false;
    if (waiter)
        list_push(&disk->waiting, &waiter->node);
    return true;
}

void measure_stop(struct node *node) {
    if (node->disk_count)
        storage_forget(node->disk_count->storage);
    free(TAKE(node->disk_count));
}
