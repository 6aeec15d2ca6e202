/* Where a pod stands among the others: its group in the tree, its weight, its limits, and who goes first when memory is short.
 *
 *   /tidemill-x                        weight: the machine's CPUs, as kubelet gives it
 *     conmon                           who watches the containers: outside all limits
 *     pods                             memory and processes: all but the reserve (allocatable.c)
 *       pod<uid>                       Guaranteed: the weight it asked for
 *       burstable/pod<uid>             the group has the weight that its pods asked for together
 *       besteffort/pod<uid>            the group has the least weight there is; its pods are equal
 *         batch/pod<uid>               the least of that, and idle: builds and CI jobs, what has the priority class QOS_BATCH_CLASS
 *
 * A pod's group holds one per container, named by the container's id. This is kubelet's tree (pkg/kubelet/cm) but for the batch group, which bounds
 * builds and jobs by what services did not ask for: the memory of all pods less the requests of everybody else, but never less than a quarter of it,
 * and never less than they use already (the kernel would kill them on v2, and refuse on v1; the next change comes back to it).
 *
 * Pods that an earlier version started stay in the groups they are in, /tidemill-x/pod<uid>: they are found there. */
#include <linux/capability.h>
#include <sys/prctl.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define BESTEFFORT_SHARES 1024 /* of a pod among its equals: so that batch, which has the least, is far below */
#define OOM_GUARANTEED (-997)
#define OOM_BESTEFFORT 1000
#define OOM_LOWEST (-1000)
#define BATCH_PART_MIN 4

enum tier { TIER_GUARANTEED, TIER_BURSTABLE, TIER_BESTEFFORT, TIER_BATCH, TIERS };
static const char *const tier_paths[TIERS] = {"/pods", "/pods/burstable", "/pods/besteffort", "/pods/besteffort/batch"};

static bool is_class(const struct pod *pod, const char *class) {
    const char *own = pod->spec_object->pod->status.qos_class;
    return own && strcmp(own, class) == 0;
}

static bool is_batch(const struct pod *pod) {
    const char *class = pod->spec_object->pod->spec.priority_class_name;
    return class && strcmp(class, QOS_BATCH_CLASS) == 0;
}

static enum tier tier_of(const struct pod *pod) {
    if (is_batch(pod))
        return TIER_BATCH;
    return is_class(pod, "Guaranteed") ? TIER_GUARANTEED : is_class(pod, "Burstable") ? TIER_BURSTABLE : TIER_BESTEFFORT;
}

static void tier_path(const struct node *node, enum tier tier, char ret[QOS_PATH_BYTES]) {
    snprintf(ret, QOS_PATH_BYTES, "%s%s", node->cgroup_root, tier_paths[tier]);
}

void qos_pods_path(const struct node *node, char ret[QOS_PATH_BYTES]) {
    tier_path(node, TIER_GUARANTEED, ret);
}

void qos_container_path(const struct unit *unit, char ret[QOS_PATH_BYTES]) {
    snprintf(ret, QOS_PATH_BYTES, "%s/%s", unit->pod->group, unit->id);
}

void qos_pause_path(const struct pod *pod, char ret[QOS_PATH_BYTES]) {
    snprintf(ret, QOS_PATH_BYTES, "%s/pause", pod->group);
}

/* --- what is asked for --- */

/* Upstream's resource helper: kube_pod_resources. A limit holds for the pod when it says so itself, or every container has one. */
static bool has_limit(const struct kube_container_array *list, const char *resource) {
    for (size_t i = 0; i < list->count; i++)
        if (kube_quantity_milli(&list->items[i].resources.limits, resource, 0) <= 0)
            return false;
    return true;
}

/* Of the pod as a whole; 0: it says nothing. */
static int64_t level_milli(const struct kube_pod_spec *spec, bool limits, const char *resource) {
    const struct kube_resource_requirements *level = kube_pod_level(spec);
    return level ? kube_quantity_milli(limits ? &level->limits : &level->requests, resource, 0) : 0;
}

static bool has_whole_limit(const struct kube_pod_spec *spec, const char *resource) {
    return level_milli(spec, true, resource) > 0 || (has_limit(&spec->containers, resource) && has_limit(&spec->init_containers, resource));
}

int qos_pod_resources(const struct kube_pod_spec *spec, struct pod_resources *ret) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct kube_quantity_map requests, limits;
    int r = arena ? kube_pod_resources(spec, arena, &requests, &limits) : -ENOMEM;
    if (r < 0)
        return r;
    *ret = (struct pod_resources){
        .cpu_request_milli = kube_quantity_milli(&requests, "cpu", 0),
        .memory_request = kube_quantity_milli(&requests, "memory", 0) / 1000,
    };
    if (has_whole_limit(spec, "cpu"))
        ret->cpu_limit_milli = kube_quantity_milli(&limits, "cpu", 0);
    if (has_whole_limit(spec, "memory"))
        ret->memory_limit = kube_quantity_milli(&limits, "memory", 0) / 1000;
    return 0;
}

/* --- limits --- */

/* The cgroup's word for a size: "2MB" for hugepages-2Mi. */
static void add_hugepages(const struct kube_quantity_map *map, struct cgroup_limits *ret) {
    static const struct {
        const char *resource, *size;
    } sizes[] = {{"hugepages-2Mi", "2MB"}, {"hugepages-1Gi", "1GB"}, {"hugepages-64Ki", "64KB"}, {"hugepages-32Mi", "32MB"}};
    _Static_assert(ARRAY_LEN(sizes) <= CGROUP_HUGEPAGES_MAX, "each has room");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        int64_t bytes = kube_quantity_milli(map, sizes[i].resource, 0) / 1000;
        if (bytes <= 0)
            continue;
        struct cgroup_hugepages *pages = &ret->hugepages[ret->hugepages_count++];
        pages->bytes = bytes;
        snprintf(pages->size, sizeof pages->size, "%s", sizes[i].size);
    }
}

/* Where a container has no limit of its own, its pod's is shown to it: programs size their heaps and threads by what they find. */
void qos_container_limits(const struct unit *unit, const struct kube_resource_requirements *resources, struct cgroup_limits *ret) {
    const struct node *node = unit->pod->node;
    const struct kube_pod_spec *spec = &unit->pod->spec_object->pod->spec;
    int64_t cpu_limit = kube_quantity_milli(&resources->limits, "cpu", level_milli(spec, true, "cpu")),
            cpu_request = kube_quantity_milli(&resources->requests, "cpu", cpu_limit);
    *ret = (struct cgroup_limits){.kill_all = node->cgroups.version == CGROUP_V2 && cgroups_has(&node->cgroups, "memory")};
    if (cgroups_has(&node->cgroups, "cpu")) /* crun fails on a weight that cannot be; a limit is to fail */
        ret->cpu_shares = cgroup_shares_of_milli(cpu_request);
    ret->pids = cgroups_has(&node->cgroups, "pids") ? POD_PIDS_MAX : 0;
    ret->cpu_quota_us = cpu_limit > 0 ? cgroup_quota_of_milli(cpu_limit) : CGROUP_UNLIMITED;
    int64_t memory = kube_quantity_milli(&resources->limits, "memory", level_milli(spec, true, "memory")) / 1000;
    ret->memory_bytes = memory > 0 ? memory : CGROUP_UNLIMITED;
    add_hugepages(&resources->limits, ret);
}

void qos_pod_limits(const struct pod *pod, struct cgroup_limits *ret) {
    const struct pod_resources *resources = &pod->resources;
    const struct kube_resource_requirements *level = kube_pod_level(&pod->spec_object->pod->spec);
    bool equal = is_class(pod, "BestEffort") && !is_batch(pod);
    *ret = (struct cgroup_limits){.cpu_shares = equal ? BESTEFFORT_SHARES : cgroup_shares_of_milli(resources->cpu_request_milli),
                                  .cpu_quota_us = CGROUP_UNLIMITED,
                                  .memory_bytes = CGROUP_UNLIMITED,
                                  .pids = POD_PIDS_MAX};
    if (resources->cpu_limit_milli > 0)
        ret->cpu_quota_us = cgroup_quota_of_milli(resources->cpu_limit_milli);
    if (resources->memory_limit > 0)
        ret->memory_bytes = resources->memory_limit;
    if (level) /* its containers have groups of their own for theirs */
        add_hugepages(&level->limits, ret);
}

/* --- who goes first: kubelet's qos/policy.go --- */

static int64_t memory_request(const struct kube_container *container) {
    return kube_quantity_milli(&container->resources.requests, "memory", 0) / 1000;
}

/* What the pod requests as a whole and none of its containers, for each of them. */
static int64_t share_of_rest(const struct kube_pod_spec *spec) {
    int64_t rest = level_milli(spec, false, "memory") / 1000;
    for (size_t i = 0; i < spec->containers.count; i++)
        rest -= memory_request(&spec->containers.items[i]);
    for (size_t i = 0; i < spec->init_containers.count; i++)
        rest -= memory_request(&spec->init_containers.items[i]);
    return rest > 0 ? rest / (int64_t)MAX(spec->containers.count + spec->init_containers.count, 1) : 0;
}

/* The lowest score that we may give: without CAP_SYS_RESOURCE (in a container, on some rented machines) our own. */
static int lowest_score(void) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(32);
    int64_t own = 0;
    if (prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE, 0, 0, 0) == 1)
        return OOM_LOWEST;
    if (sys_read_file(AT_FDCWD, "/proc/self/oom_score_adj", 31, &text) == 0)
        (void)slice_parse_i64(slice_trim(buffer_slice(&text)), &own);
    return (int)own;
}

static int score_of(const struct unit *unit) {
    const struct kube_pod_spec *spec = &unit->pod->spec_object->pod->spec;
    if (spec->priority_class_name && strcmp(spec->priority_class_name, "system-node-critical") == 0)
        return OOM_GUARANTEED;
    if (is_batch(unit->pod))
        return OOM_BESTEFFORT;
    if (is_class(unit->pod, "Guaranteed"))
        return OOM_GUARANTEED;
    if (!is_class(unit->pod, "Burstable"))
        return OOM_BESTEFFORT;
    int64_t request = memory_request(unit->spec) + share_of_rest(spec), least = INT64_MAX;
    for (size_t i = 0; i < spec->containers.count; i++)
        least = MIN(least, memory_request(&spec->containers.items[i]));
    if (unit->is_sidecar && spec->containers.count) /* it serves the others, and goes after them */
        request = MAX(request, least);
    int64_t score = 1000 - 1000 * request / MAX(allocatable_machine_memory(), 1);
    return (int)MIN(MAX(score, 1000 + OOM_GUARANTEED), OOM_BESTEFFORT - 1);
}

int qos_oom_score(const struct unit *unit) {
    int score = score_of(unit);
    return score < 0 ? MAX(score, lowest_score()) : score;
}

/* --- the tree --- */

int qos_start(struct node *node, struct diag *diag) {
    const struct cgroup_limits whole = {.cpu_shares = cgroup_shares_of_milli(allocatable_cpu_milli())};
    const struct cgroup_limits limits[TIERS] = {
        {.memory_bytes = allocatable_pods_memory(), .pids = allocatable_pids()},
        {.cpu_shares = CGROUP_SHARES_MIN},
        {.cpu_shares = CGROUP_SHARES_MIN},
        {.cpu_shares = CGROUP_SHARES_MIN, .idle = true},
    };
    int r = cgroup_create(&node->cgroups, node->cgroup_root, &whole);
    for (enum tier tier = 0; r == 0 && tier < TIERS; tier++) {
        char path[QOS_PATH_BYTES];
        tier_path(node, tier, path);
        r = cgroup_create(&node->cgroups, path, NULL);
        int limited = r == 0 ? cgroup_limit(&node->cgroups, path, &limits[tier]) : 0;
        if (limited < 0)
            log_warning("cannot limit control group %s: %s", path, strerror(-limited));
    }
    static const char *const wanted[] = {"cpu", "memory", "pids"};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        if (!cgroups_has(&node->cgroups, wanted[i]))
            log_warning("the kernel has no control group controller %s: such limits of pods cannot be kept", wanted[i]);
    return r < 0 ? diag_set(diag, r, "cannot make the control groups of pods: %s", strerror(-r)) : 0;
}

int qos_place(struct pod *pod) {
    char parent[QOS_PATH_BYTES];
    int r = qos_pod_resources(&pod->resize.allocated->pod->spec, &pod->resources);
    pod->resize.applied = pod->resources;
    snprintf(pod->group, sizeof pod->group, "%s/pod%s", pod->node->cgroup_root, pod->uid);
    if (r < 0 || cgroup_exists(&pod->node->cgroups, pod->group))
        return r;
    tier_path(pod->node, tier_of(pod), parent);
    snprintf(pod->group, sizeof pod->group, "%s/pod%s", parent, pod->uid);
    return 0;
}

struct sums {
    int64_t burstable_milli, services_memory;
};

static struct sums sum_up(const struct node *node) {
    struct sums sums = {0, 0};
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);) {
        const struct pod *pod = value;
        enum tier tier = tier_of(pod);
        if (pod->cgroup != POD_CGROUP_READY)
            continue;
        sums.burstable_milli += tier == TIER_BURSTABLE ? pod->resources.cpu_request_milli : 0;
        sums.services_memory += tier == TIER_BATCH ? 0 : pod->resources.memory_request;
    }
    return sums;
}

static void bound_batch(struct node *node, int64_t services_memory) {
    int64_t all = allocatable_pods_memory(), bytes = MAX(all - services_memory, all / BATCH_PART_MIN);
    char path[QOS_PATH_BYTES];
    struct cgroup_usage usage;
    if (bytes == node->qos.batch_bytes)
        return;
    tier_path(node, TIER_BATCH, path);
    cgroup_usage(&node->cgroups, path, &usage);
    struct cgroup_limits limits = {.memory_bytes = MAX(bytes, (int64_t)usage.memory_usage)};
    if (cgroup_limit(&node->cgroups, path, &limits) == 0)
        node->qos.batch_bytes = limits.memory_bytes;
}

/* A pod came, went or was resized: the weights of groups follow, and the bound of batch. */
void qos_changed(struct node *node) {
    struct sums sums = sum_up(node);
    const struct cgroup_limits limits = {.cpu_shares = cgroup_shares_of_milli(sums.burstable_milli)};
    char path[QOS_PATH_BYTES];
    tier_path(node, TIER_BURSTABLE, path);
    if (limits.cpu_shares != node->qos.burstable_shares && cgroup_limit(&node->cgroups, path, &limits) == 0)
        node->qos.burstable_shares = limits.cpu_shares;
    bound_batch(node, sums.services_memory);
    resize_room_changed(node);
}

/* --- the groups that there are --- */

struct visit {
    struct node *node;
    const char *parent;
    void (*fn)(struct node *node, const char *path, const char *uid);
};

static void on_child(void *userdata, const char *name) {
    const struct visit *visit = userdata;
    char path[QOS_PATH_BYTES];
    if (strncmp(name, "pod", 3) == 0 && strcmp(name, "pods") != 0 && snprintf(path, sizeof path, "%s/%s", visit->parent, name) < (int)sizeof path)
        visit->fn(visit->node, path, name + 3);
}

void qos_each_group(struct node *node, void (*fn)(struct node *node, const char *path, const char *uid)) {
    struct visit visit = {node, node->cgroup_root, fn};
    cgroup_children(&node->cgroups, visit.parent, on_child, &visit);
    for (enum tier tier = 0; tier < TIERS; tier++) {
        char path[QOS_PATH_BYTES];
        tier_path(node, tier, path);
        visit.parent = path;
        cgroup_children(&node->cgroups, path, on_child, &visit);
    }
}
