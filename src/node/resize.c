/* Resources of a pod that are changed while it runs (upstream: pkg/kubelet/allocation, kuberuntime's doPodResizeAction).
 *
 *   desired    what the spec says
 *   allocated  what the node has granted: desired, as soon as there is room (pod->resize.allocated)
 *   actuated   what the running container was given: allocated, as soon as its group says so (unit->actuated)
 *
 *   desired ≠ allocated ──(room)──► allocated ──► its groups, or a restart where the container's policy wants one ──► actuated
 *            ├─(more than the node has)──► PodResizePending, Infeasible
 *            └─(others have it)──────────► PodResizePending, Deferred: looked at again whenever a pod goes or shrinks
 *
 * Invariants
 *  1. No group's limit is ever above its parent's: a pod's group grows before its containers', and shrinks after them.
 *  2. A limit of memory is not set below what is in use: the kernel would kill (v2). That resize is tried again while the condition says why.
 *  3. allocated.json is there before pod.json holds a spec that was not granted, and "resizing" in the record before it goes: whichever instruction
 *     the node dies at, the next one knows what was granted, and applies it once more. */
#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define ALLOCATED_BYTES_MAX (4 * MIB)
#define EVENT_BYTES_MAX (16 * KIB)

static const struct kube_container *find(const struct kube_container_array *list, const char *name) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0)
            return &list->items[i];
    return NULL;
}

/* The unit's in a version of its pod. */
static const struct kube_resource_requirements *resources_in(const struct kube_object *object, const struct unit *unit) {
    const struct kube_pod_spec *spec = &object->pod->spec;
    const struct kube_container *container =
        unit->is_ephemeral ? NULL : find(unit->is_init ? &spec->init_containers : &spec->containers, unit->spec->name);
    return container ? &container->resources : &unit->spec->resources;
}

const struct kube_resource_requirements *resize_allocated(const struct unit *unit) {
    return resources_in(unit->pod->resize.allocated, unit);
}

const struct kube_resource_requirements *resize_actuated(const struct unit *unit) {
    return unit->actuated ? resources_in(unit->actuated, unit) : resize_allocated(unit);
}

static bool is_same(const struct kube_resource_requirements *a, const struct kube_resource_requirements *b) {
    return a == b || kube_equal(&kube_resource_requirements_type, a, b);
}

static bool is_granted(const struct pod *pod) {
    for (size_t i = 0; i < pod->units_count; i++)
        if (!is_same(resize_allocated(pod->units[i]), &pod->units[i]->spec->resources))
            return false;
    return true;
}

static void set_object(struct kube_object **at, struct kube_object *object) {
    struct kube_object *before = *at;
    *at = object ? kube_object_ref(object) : NULL;
    kube_object_unref(before);
}

void resize_begin(struct unit *unit) {
    set_object(&unit->actuated, unit->pod->resize.allocated);
}

/* --- on disk --- */

static void allocated_path(const struct pod *pod, char ret[PATH_MAX]) {
    snprintf(ret, PATH_MAX, "%s/allocated.json", pod->dir);
}

int resize_keep(const struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(ALLOCATED_BYTES_MAX);
    char path[PATH_MAX];
    if (is_granted(pod))
        return 0;
    allocated_path(pod, path);
    int r = kube_encode_json(pod->resize.allocated, &out);
    return r < 0 ? r : sys_write_file(AT_FDCWD, path, buffer_slice(&out), 0600);
}

int resize_load(struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(ALLOCATED_BYTES_MAX + 1);
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
    char path[PATH_MAX];
    allocated_path(pod, path);
    int r = sys_read_file(AT_FDCWD, path, ALLOCATED_BYTES_MAX, &text);
    if (r == 0)
        r = kube_decode_json(&kube_kind_pod, buffer_slice(&text), KUBE_LENIENT, &object, NULL);
    if (r == 0)
        set_object(&pod->resize.allocated, object);
    else if (r != -ENOENT)
        log_warning("cannot read %s: %s", path, strerror(-r)); /* then what the spec says counts as granted */
    for (size_t i = 0; i < pod->units_count; i++)
        set_object(&pod->units[i]->actuated, pod->resize.in_progress ? NULL : pod->resize.allocated);
    r = qos_pod_resources(&pod->resize.allocated->pod->spec, &pod->resources);
    pod->resize.applied = pod->resources;
    return r;
}

/* --- events --- */

static void put_map(struct buffer *out, const char *lead, const struct kube_quantity_map *map) {
    for (size_t i = 0; i < map->count; i++)
        buffer_printf(out, "%s\"%s\":\"%s\"", i ? "," : lead, map->items[i].key, map->items[i].value.text);
    buffer_append_text(out, map->count ? "}" : "");
}

static void put_containers(struct buffer *out, const char *name, const struct kube_container_array *list) {
    for (size_t i = 0; i < list->count; i++) {
        const struct kube_resource_requirements *resources = &list->items[i].resources;
        if (i == 0)
            buffer_printf(out, "%s\"%s\":[", out->len > 1 ? "," : "", name);
        buffer_printf(out, "%s{\"name\":\"%s\",\"resources\":{", i ? "," : "", list->items[i].name);
        put_map(out, "\"limits\":{", &resources->limits);
        put_map(out, resources->limits.count ? ",\"requests\":{" : "\"requests\":{", &resources->requests);
        buffer_append_text(out, "}}");
    }
    buffer_append_text(out, list->count ? "]" : "");
}

static void tell(struct pod *pod, const char *type, const char *reason, const char *what, const struct kube_pod_spec *spec, const char *error) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(EVENT_BYTES_MAX);
    buffer_append_byte(&out, '{');
    put_containers(&out, "initContainers", &spec->init_containers);
    put_containers(&out, "containers", &spec->containers);
    if (error) {
        buffer_append_text(&out, ",\"error\":");
        json_format_string(&out, slice_of(error));
    }
    buffer_append_byte(&out, '}');
    event_pod(pod, NULL, type, reason, "Pod resize %s: %s", what, buffer_error(&out) ? "" : out.data);
}

/* --- is there room? --- */

struct room {
    const char *resource;
    int64_t wanted, held, used, capacity; /* used: by others */
};

static bool takes_room(const struct pod *pod) {
    return pod->stage <= POD_ACTIVE || pod->cgroup == POD_CGROUP_READY;
}

static void measure(const struct pod *pod, const struct pod_resources *wanted, struct room cpu_and_memory[2]) {
    const struct node *node = pod->node;
    struct room cpu = {"cpu", wanted->cpu_request_milli, pod->resources.cpu_request_milli, 0, allocatable_cpu_milli()};
    struct room memory = {"memory", wanted->memory_request, pod->resources.memory_request, 0, allocatable_memory(node)};
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);) {
        const struct pod *other = value;
        if (other == pod || !takes_room(other))
            continue;
        cpu.used += other->resources.cpu_request_milli;
        memory.used += other->resources.memory_request;
    }
    cpu_and_memory[0] = cpu;
    cpu_and_memory[1] = memory;
}

static void set_pending(struct pod *pod, const char *reason, const char *message) {
    struct pod_resize *resize = &pod->resize;
    if (strcmp(resize->pending, reason) == 0 && strcmp(resize->pending_message, message) == 0)
        return;
    if (!resize->pending[0])
        resize->pending_since_ns = loop_wall_ns(pod->node->loop);
    snprintf(resize->pending, sizeof resize->pending, "%s", reason);
    snprintf(resize->pending_message, sizeof resize->pending_message, "%s", message);
    tell(pod, "Warning", strcmp(reason, "Deferred") == 0 ? "ResizeDeferred" : "ResizeInfeasible", reason, &pod->spec_object->pod->spec, message);
}

/* True when it was granted. In upstream's words, memory before cpu. */
static bool has_room(struct pod *pod, const struct pod_resources *wanted) {
    struct room rooms[2];
    char message[RESIZE_MESSAGE_BYTES];
    measure(pod, wanted, rooms);
    for (size_t i = 2; i-- > 0;)
        if (rooms[i].wanted > rooms[i].capacity) {
            snprintf(message, sizeof message, "Node didn't have enough capacity: %s, requested: %" PRId64 ", capacity: %" PRId64, rooms[i].resource,
                     rooms[i].wanted, rooms[i].capacity);
            set_pending(pod, "Infeasible", message);
            return false;
        }
    for (size_t i = 0; i < 2; i++)
        if (rooms[i].wanted > rooms[i].held && rooms[i].wanted > rooms[i].capacity - rooms[i].used) {
            snprintf(message, sizeof message, "Node didn't have enough resource: %s, requested: %" PRId64 ", used: %" PRId64 ", capacity: %" PRId64,
                     rooms[i].resource, rooms[i].wanted, rooms[i].used, rooms[i].capacity);
            set_pending(pod, "Deferred", message);
            return false;
        }
    return true;
}

static void grant(struct pod *pod) {
    struct pod_resize *resize = &pod->resize;
    struct pod_resources wanted;
    char path[PATH_MAX];
    if (qos_pod_resources(&pod->spec_object->pod->spec, &wanted) < 0)
        return pod_retry(pod);
    if (!has_room(pod, &wanted))
        return;
    set_object(&resize->allocated, pod->spec_object);
    pod->resources = wanted;
    resize->pending[0] = resize->pending_message[0] = resize->error[0] = 0;
    resize->in_progress = true;
    resize->progress_since_ns = loop_wall_ns(pod->node->loop);
    record_save(pod);
    allocated_path(pod, path);
    unlink(path);
    tell(pod, "Normal", "ResizeStarted", "started", &pod->spec_object->pod->spec, NULL);
}

/* --- carrying out --- */

static int64_t milli_of(const struct kube_quantity_map *map, const char *resource) {
    return kube_quantity_milli(map, resource, 0);
}

static bool differs(const struct kube_resource_requirements *a, const struct kube_resource_requirements *b, const char *resource) {
    return milli_of(&a->requests, resource) != milli_of(&b->requests, resource) || milli_of(&a->limits, resource) != milli_of(&b->limits, resource);
}

/* A resource changes whose policy is to restart the container. */
static bool wants_restart(const struct unit *unit) {
    const struct kube_container_resize_policy_array *policies = &unit->spec->resize_policy;
    for (size_t i = 0; unit->actuated && i < policies->count; i++)
        if (strcmp(policies->items[i].restart_policy, "RestartContainer") == 0 &&
            differs(resize_actuated(unit), resize_allocated(unit), policies->items[i].resource_name))
            return true;
    return false;
}

static bool is_behind(const struct unit *unit) {
    return unit_is_busy(unit) && !unit->is_ephemeral && (!unit->actuated || !is_same(resize_actuated(unit), resize_allocated(unit)));
}

static bool fail(struct pod *pod, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct pod *pod, const char *format, ...) {
    char message[RESIZE_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (strcmp(pod->resize.error, message) != 0)
        tell(pod, "Warning", "ResizeError", "error", &pod->resize.allocated->pod->spec, message);
    snprintf(pod->resize.error, sizeof pod->resize.error, "%s", message);
    pod_retry(pod);
    return false;
}

/* Memory that is in use is not taken away. */
static bool may_shrink(struct unit *unit, int64_t limit) {
    char path[QOS_PATH_BYTES];
    struct cgroup_usage usage;
    int64_t before = milli_of(&resize_actuated(unit)->limits, "memory") / 1000;
    if (limit <= 0 || (unit->actuated && before && limit >= before))
        return true;
    qos_container_path(unit, path);
    cgroup_usage(&unit->pod->node->cgroups, path, &usage);
    return (int64_t)usage.memory_usage <= limit ||
           fail(unit->pod,
                "cannot decrease memory limits: attempting to set container \"%s\" memory limit (%" PRId64 ") below current usage (%" PRIu64 ")",
                unit->spec->name, limit, usage.memory_usage);
}

static bool apply_unit(struct unit *unit) {
    struct cgroup_limits limits;
    char path[QOS_PATH_BYTES];
    if (wants_restart(unit)) {
        char why[300];
        snprintf(why, sizeof why, "Container %s resize requires restart", unit->spec->name);
        unit->respecified = true;
        unit_stop(unit, unit->pod->grace_s, why);
        return true;
    }
    if (unit->stage != UNIT_RUNNING || unit->stopping)
        return true; /* looked at again when it runs, or made anew with what is allocated */
    qos_container_limits(unit, resize_allocated(unit), &limits);
    limits = (struct cgroup_limits){.cpu_shares = limits.cpu_shares, .cpu_quota_us = limits.cpu_quota_us, .memory_bytes = limits.memory_bytes};
    if (!may_shrink(unit, limits.memory_bytes))
        return false;
    qos_container_path(unit, path);
    int r = cgroup_limit(&unit->pod->node->cgroups, path, &limits);
    if (r < 0)
        return fail(unit->pod, "failed to update resources for container \"%s\": %s", unit->spec->name, strerror(-r));
    resize_begin(unit);
    return true;
}

static int64_t larger(int64_t a, int64_t b) {
    return a == CGROUP_UNLIMITED || b == CGROUP_UNLIMITED ? CGROUP_UNLIMITED : MAX(a, b);
}

/* The pod's group: growing first, exact afterwards. */
static bool apply_pod(struct pod *pod, bool only_grow) {
    struct cgroup_limits limits, before;
    struct pod_resources wanted = pod->resources;
    qos_pod_limits(pod, &limits);
    pod->resources = pod->resize.applied;
    qos_pod_limits(pod, &before);
    pod->resources = wanted;
    if (only_grow) {
        limits.cpu_quota_us = larger(limits.cpu_quota_us, before.cpu_quota_us);
        limits.memory_bytes = larger(limits.memory_bytes, before.memory_bytes);
    }
    int r = cgroup_limit(&pod->node->cgroups, pod->group, &limits);
    if (r == 0 && !only_grow)
        pod->resize.applied = wanted;
    return r == 0 || fail(pod, "failed to update the resources of the pod's control group: %s", strerror(-r));
}

static void carry_out(struct pod *pod) {
    bool behind = false, fine = apply_pod(pod, true);
    for (size_t i = 0; fine && i < pod->units_count; i++)
        fine = !is_behind(pod->units[i]) || apply_unit(pod->units[i]);
    for (size_t i = 0; i < pod->units_count; i++)
        behind = behind || is_behind(pod->units[i]);
    if (!fine || behind || !apply_pod(pod, false))
        return;
    pod->resize.in_progress = false;
    pod->resize.error[0] = 0;
    pod->retry_ms = 0;
    record_save(pod);
    qos_changed(pod->node);
    tell(pod, "Normal", "ResizeCompleted", "completed", &pod->resize.allocated->pod->spec, NULL);
}

void resize_step(struct pod *pod) {
    if (!is_granted(pod))
        grant(pod);
    else
        pod->resize.pending[0] = pod->resize.pending_message[0] = 0; /* the wish was taken back */
    if (pod->resize.in_progress)
        carry_out(pod);
}

void resize_room_changed(struct node *node) {
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);) {
        struct pod *pod = value;
        if (strcmp(pod->resize.pending, "Deferred") == 0)
            pod_sync_later(pod);
    }
}
