/* What is done when the machine runs short of memory, disk, inodes or process ids, as kubelet's eviction manager does it.
 *
 *   look ──► conditions told ──► nothing met: the next look when something could be (pressure.c), or when the kernel wakes us (memory_watch)
 *     ▲  └─► met ──► unused images and caches go (disk) ──► look again: enough? ──► otherwise pods are ranked, and the first one goes
 *     └──────────────────────────────(it is gone)──────────────────────────────────────────┘
 *
 * Invariants
 *  1. One pod at a time: the next one is chosen from what is seen after the last one is gone (or after VICTIM_MS).
 *  2. Critical pods never go, nor pods whose end would not help (eviction_rank.c).
 *  3. While no pod is here and nothing is short, nobody looks: no timer.
 *  4. An alarm of the kernel (half of what was left is in use, processes wait for memory) is followed by two looks a tenth of a second apart. While
 *     they show that memory goes, looks go on at that pace without the kernel's help, whose alarms cost a grace period each to set.
 *  5. Who was chosen at a hard threshold has a second; when it takes memory all the same until half of the threshold is left, it is killed.
 * What is available of memory is the kernel's own estimate (MemAvailable), not capacity minus working set as upstream's: caches that can be dropped
 * are not what a small machine runs short of. */
#include <sys/statvfs.h>

#include "node/node_priv.h"
#include "node/pressure_priv.h"
#include "sys/sys.h"

#define EVICTED "Evicted"
#define GRACE_HARD_S 1
#define SETTLE_MS 1000                   /* between two alarms of the kernel, and after an end */
#define TOLD_AGAIN_MS 10000              /* that something is to be reclaimed */
#define ALARM_BYTES_MIN (16 << 20)       /* of use that the kernel wakes us for */
#define VICTIM_MS 30000                  /* a pod that takes longer to go does not hold up the next */
#define RECLAIM_AGAIN_MS (5 * 60 * 1000) /* until unused images are worth another search */
#define RECLAIM_TIMEOUT_MS (15 * 60 * 1000)

struct eviction {
    struct node *node;
    struct pressure_config config;
    struct pressure_state state;
    struct pressure_observation seen[SIGNALS];
    struct pressure_verdict verdict;
    struct memory_watch *watch;
    struct loop_timer timer;
    int64_t looked_ms, measured_ms, reclaimed_ms; /* 0: never */
    int64_t armed_ms, due_ms /* the next look */, told_ms;
    bool is_alarmed;              /* by the kernel, since the last look */
    struct http_request *request; /* core frees disk space */
    struct storage *storage;      /* being measured */
    char victim[64];              /* uid; "": none */
    int64_t victim_ms;
    bool is_helpless; /* told already */
};

static void look(void *userdata);

static int64_t now_ms(const struct eviction *eviction) {
    return loop_now_ns(eviction->node->loop) / 1000000;
}

/* --- what there is --- */

static void see(struct eviction *eviction, enum pressure_signal signal, int64_t available, int64_t capacity) {
    eviction->seen[signal] = (struct pressure_observation){.known = capacity > 0, .available = available, .capacity = capacity};
}

static void see_disk(struct eviction *eviction, const char *path, enum pressure_signal bytes, enum pressure_signal inodes) {
    struct statvfs disk;
    if (statvfs(path, &disk) < 0)
        return;
    see(eviction, bytes, (int64_t)(disk.f_bavail * disk.f_frsize), (int64_t)(disk.f_blocks * disk.f_frsize));
    see(eviction, inodes, (int64_t)disk.f_favail, (int64_t)disk.f_files); /* none at all: this file system does not count them */
}

static void see_memory(struct eviction *eviction) {
    struct node *node = eviction->node;
    struct cgroup_usage usage = {0};
    char pods[QOS_PATH_BYTES];
    qos_pods_path(node, pods);
    uint64_t total, available, limit = memory_watch_limit(&node->cgroups, pods);
    if (stats_memory(&total, &available) == 0)
        see(eviction, SIGNAL_MEMORY_AVAILABLE, (int64_t)available, (int64_t)total);
    if (limit)
        cgroup_usage(&node->cgroups, pods, &usage);
    if (limit)
        see(eviction, SIGNAL_ALLOCATABLE_MEMORY_AVAILABLE, (int64_t)limit - (int64_t)usage.memory_bytes, (int64_t)limit);
}

static void see_processes(struct eviction *eviction) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(128);
    int64_t most = allocatable_machine_pids();
    uint64_t tasks;
    if (sys_read_file(AT_FDCWD, "/proc/loadavg", 127, &text) < 0) /* "0.20 0.18 0.12 1/80 11206": running and all */
        return;
    struct slice rest = buffer_slice(&text);
    slice_cut(&rest, '/');
    if (most && slice_parse_u64(slice_cut(&rest, ' '), INT32_MAX, &tasks) == 0)
        see(eviction, SIGNAL_PID_AVAILABLE, most - (int64_t)tasks, most);
}

static void observe(struct eviction *eviction) {
    memset(eviction->seen, 0, sizeof eviction->seen);
    see_memory(eviction);
    see_disk(eviction, eviction->node->state_dir, SIGNAL_NODEFS_AVAILABLE, SIGNAL_NODEFS_INODES_FREE);
    see_disk(eviction, eviction->node->layers_dir, SIGNAL_IMAGEFS_AVAILABLE, SIGNAL_IMAGEFS_INODES_FREE);
    see_processes(eviction);
}

/* What the hard threshold keeps of so much. */
static int64_t reserved(const struct node *node, enum pressure_signal signal, int64_t capacity) {
    const struct pressure_config *config = node->eviction ? &node->eviction->config : NULL;
    for (size_t i = 0; config && i < config->count; i++)
        if (config->thresholds[i].signal == signal && !config->thresholds[i].grace_ms)
            return MIN(pressure_quantity(&config->thresholds[i].value, capacity), capacity);
    return 0;
}

uint64_t eviction_reserved_disk(const struct node *node, uint64_t bytes) {
    return (uint64_t)reserved(node, SIGNAL_NODEFS_AVAILABLE, (int64_t)bytes);
}

int64_t eviction_reserved_memory(const struct node *node) {
    return reserved(node, SIGNAL_MEMORY_AVAILABLE, allocatable_machine_memory());
}

/* --- conditions --- */

bool eviction_has(const struct node *node, size_t condition) {
    return node->eviction && node->eviction->verdict.conditions & (1u << condition);
}

static void tell_conditions(struct eviction *eviction, unsigned before) {
    for (size_t i = 0; i < PRESSURE_CONDITIONS; i++) {
        unsigned bit = 1u << i;
        if ((eviction->verdict.conditions & bit) == (before & bit))
            continue;
        const char *name = eviction->node->options->node_name;
        const char *what = eviction->verdict.conditions & bit ? pressure_words[i].bad.event : pressure_words[i].good.event;
        log_warning("node %s status is now: %s", name, what);
        event_node(eviction->node, "Normal", what, "Node %s status is now: %s", name, what);
    }
    register_node(eviction->node);
}

/* --- who may go --- */

static bool may_go(const struct pod *pod) {
    const int32_t *priority = pod->spec_object->pod->spec.priority;
    return pod->stage <= POD_ACTIVE && !pod->failed_reason[0] && !pod_is_deleted(pod) && !(priority && *priority >= PRIORITY_SYSTEM_CRITICAL);
}

/* What the pod asked for, in whole units. */
static int64_t request_of(const struct pod *pod, const char *resource) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    struct kube_quantity_map requests = {0}, limits = {0};
    if (!arena || kube_pod_resources(&pod->spec_object->pod->spec, arena, &requests, &limits) < 0)
        return 0;
    return kube_quantity_milli(&requests, resource, 0) / 1000;
}

static void read_group(const struct pod *pod, const char *container, struct cgroup_usage *ret) {
    char path[QOS_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s%s%s", pod->group, container ? "/" : "", container ? container : "");
    *ret = (struct cgroup_usage){0};
    cgroup_usage(&pod->node->cgroups, path, ret);
}

struct measured {
    const struct storage_item *items;
    size_t count;
};

static bool images_are_elsewhere(const struct node *node) {
    struct statvfs state, layers;
    return statvfs(node->state_dir, &state) == 0 && statvfs(node->layers_dir, &layers) == 0 && state.f_fsid != layers.f_fsid;
}

static int64_t usage_of(const struct pod *pod, enum pressure_signal signal, const struct measured *measured) {
    struct cgroup_usage group;
    struct sys_usage disk;
    switch (signal) {
    case SIGNAL_MEMORY_AVAILABLE:
    case SIGNAL_ALLOCATABLE_MEMORY_AVAILABLE: read_group(pod, NULL, &group); return (int64_t)group.memory_bytes;
    case SIGNAL_PID_AVAILABLE: read_group(pod, NULL, &group); return (int64_t)group.pids;
    case SIGNAL_IMAGEFS_AVAILABLE:
    case SIGNAL_IMAGEFS_INODES_FREE:
        if (images_are_elsewhere(pod->node))
            return 0; /* nothing that a pod writes is there */
        break;
    default: break;
    }
    storage_sum(measured->items, measured->count, pod->uid, NULL, &disk);
    return strcmp(pressure_resource(signal), "inodes") == 0 ? (int64_t)disk.entries : (int64_t)disk.bytes;
}

static int64_t usage_of_unit(const struct unit *unit, enum pressure_signal signal, const struct measured *measured) {
    struct cgroup_usage group;
    struct sys_usage disk;
    if (pressure_condition_of(signal) != PRESSURE_DISK) {
        read_group(unit->pod, unit->id, &group);
        return (int64_t)(pressure_condition_of(signal) == PRESSURE_MEMORY ? group.memory_bytes : group.pids);
    }
    storage_sum(measured->items, measured->count, unit->pod->uid, unit->spec->name, &disk);
    return (int64_t)disk.bytes;
}

/* --- letting it go --- */

void eviction_evict(struct pod *pod, int64_t grace_s, bool disruption, const char *message) {
    struct eviction *eviction = pod->node->eviction;
    snprintf(pod->failed_reason, sizeof pod->failed_reason, EVICTED);
    snprintf(pod->failed_message, sizeof pod->failed_message, "%s", message);
    pod->failed_grace_s = grace_s;
    pod->is_disrupted = disruption;
    pod->disrupted_ns = loop_wall_ns(pod->node->loop);
    log_warning("evicting pod %s/%s: %s", pod->namespace, pod->name, message);
    event_pod(pod, NULL, "Warning", EVICTED, "%s", message);
    record_save(pod);
    snprintf(eviction->victim, sizeof eviction->victim, "%s", pod->uid);
    eviction->victim_ms = now_ms(eviction);
    pod_sync_later(pod);
}

static void evict(struct eviction *eviction, struct pod *pod, const struct pressure_threshold *threshold, const struct measured *measured) {
    struct eviction_usage usages[EVICTION_USAGES_MAX];
    const char *resource = pressure_resource(threshold->signal);
    char message[sizeof pod->failed_message];
    size_t count = 0;
    for (size_t i = 0; i < pod->units_count && count < ARRAY_LEN(usages); i++)
        if (!pod->units[i]->is_ephemeral && pod->units[i]->id[0])
            usages[count++] = (struct eviction_usage){.container = pod->units[i]->spec->name,
                                                      .usage = usage_of_unit(pod->units[i], threshold->signal, measured),
                                                      .request = kube_quantity_milli(&pod->units[i]->spec->resources.requests, resource, 0) / 1000};
    eviction_message(threshold, &eviction->seen[threshold->signal], usages, count, message, sizeof message);
    int64_t grace_s = threshold->grace_ms ? MIN(pod->grace_s, eviction->config.pod_grace_s_max) : GRACE_HARD_S;
    eviction_evict(pod, grace_s, true, message);
}

static void choose(struct eviction *eviction, const struct measured *measured) {
    const struct pressure_threshold *threshold = eviction->verdict.reclaim < 0 ? NULL : &eviction->config.thresholds[eviction->verdict.reclaim];
    if (!threshold)
        return;
    const char *resource = strcmp(pressure_resource(threshold->signal), "inodes") == 0 ? "" : pressure_resource(threshold->signal);
    struct eviction_candidate *candidates = calloc(map_count(eviction->node->pods) + 1, sizeof *candidates);
    size_t count = 0;
    void *value;
    for (size_t at = 0; candidates && map_next(eviction->node->pods, &at, NULL, &value);) {
        struct pod *pod = value;
        const int32_t *priority = pod->spec_object->pod->spec.priority;
        if (may_go(pod))
            candidates[count++] = (struct eviction_candidate){.userdata = pod,
                                                              .uid = pod->uid,
                                                              .priority = priority ? *priority : 0,
                                                              .is_known = true,
                                                              .usage = usage_of(pod, threshold->signal, measured),
                                                              .request = request_of(pod, resource)};
    }
    eviction_rank(threshold->signal, candidates, count);
    int64_t lacking = pressure_lacking(threshold, &eviction->seen[threshold->signal]);
    size_t at = 0;
    while (at < count && !eviction_helps(&candidates[at], lacking))
        at++;
    if (at < count)
        evict(eviction, candidates[at].userdata, threshold, measured);
    else if (!eviction->is_helpless)
        log_warning("%s is low, and no pod would give enough of it back", pressure_signal_name(threshold->signal));
    eviction->is_helpless = at == count;
    free(candidates);
}

/* Of a large tree the disk space comes back later. */
static bool waits_for_victim(struct eviction *eviction, bool is_disk) {
    const struct pod *pod = eviction->victim[0] ? map_find(eviction->node->pods, slice_of(eviction->victim)) : NULL;
    bool ends = (pod && pod->stage != POD_ENDED && pod->stage != POD_CLEANING) || (is_disk && eviction->victim[0] && trash_is_busy(eviction->node));
    if (ends && now_ms(eviction) - eviction->victim_ms < VICTIM_MS)
        return true;
    eviction->victim[0] = 0;
    return false;
}

/* The second that it has may be too much. */
static void hurry_victim(struct eviction *eviction) {
    struct pod *pod = map_find(eviction->node->pods, slice_of(eviction->victim));
    if (!pod || pod->failed_grace_s <= 0 || !pressure_is_pressing(&eviction->config, eviction->seen))
        return;
    pod->failed_grace_s = 0;
    record_save(pod);
    pod_sync_later(pod);
}

/* --- freeing without pods --- */

static void on_measured(void *userdata, const struct storage_item *items, size_t count) {
    struct eviction *eviction = userdata;
    eviction->storage = NULL;
    eviction->measured_ms = now_ms(eviction);
    if (!waits_for_victim(eviction, true) && !atomic_load(&eviction->node->is_ending)) /* then it was not counted to the end */
        choose(eviction, &(struct measured){items, count});
}

/* When no pod was worth it a moment ago, all that they have is not counted again at each look. */
static void choose_with_disk(struct eviction *eviction) {
    if (eviction->storage || (eviction->is_helpless && now_ms(eviction) - eviction->measured_ms < RECLAIM_AGAIN_MS))
        return;
    if (storage_measure(eviction->node, may_go, false, on_measured, eviction, &eviction->storage) < 0)
        log_warning("what pods take of the disk cannot be measured");
}

static void on_reclaimed(void *userdata, __attribute__((unused)) const struct http_answer *answer) {
    struct eviction *eviction = userdata; /* when core does not answer, nothing was freed: what is there now decides */
    eviction->request = NULL;
    eviction->reclaimed_ms = now_ms(eviction);
    observe(eviction);
    if (pressure_is_relieved(&eviction->config, eviction->seen))
        look(eviction);
    else
        choose_with_disk(eviction);
}

/* core knows which images nobody needs; it asks us for the layers in turn. */
static void reclaim_disk(struct eviction *eviction) {
    const struct http_request_options options = {
        .method = "POST", .target = "/tidemill/v1/images/prune?total=true", .timeout_ms = RECLAIM_TIMEOUT_MS, .body_max = MIB};
    bool again = !eviction->reclaimed_ms || now_ms(eviction) - eviction->reclaimed_ms >= RECLAIM_AGAIN_MS;
    if (!again || http_client_send(client_http(eviction->node->client), &options, on_reclaimed, eviction, &eviction->request) < 0)
        choose_with_disk(eviction);
}

static void relieve(struct eviction *eviction) {
    const struct pressure_threshold *threshold = &eviction->config.thresholds[eviction->verdict.reclaim];
    bool is_disk = pressure_condition_of(threshold->signal) == PRESSURE_DISK;
    if (waits_for_victim(eviction, is_disk))
        return hurry_victim(eviction);
    if (is_disk && (eviction->request || eviction->storage))
        return; /* memory does not wait until the disk is cleaned up */
    if (!eviction->told_ms || now_ms(eviction) - eviction->told_ms >= TOLD_AGAIN_MS) {
        event_node(eviction->node, "Warning", "EvictionThresholdMet", "Attempting to reclaim %s", pressure_resource(threshold->signal));
        eviction->told_ms = now_ms(eviction);
    }
    if (is_disk)
        reclaim_disk(eviction);
    else
        choose(eviction, NULL);
}

/* --- looking --- */

static bool any_active(const struct node *node) {
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);)
        if (((struct pod *)value)->stage <= POD_ACTIVE)
            return true;
    return false;
}

/* How much more of it may be used before the nearest threshold is met; INT64_MAX: there is none, or it is met. */
static int64_t left_of(const struct eviction *eviction, enum pressure_signal signal) {
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < eviction->config.count; i++) {
        const struct pressure_threshold *threshold = &eviction->config.thresholds[i];
        int64_t left = eviction->seen[signal].available - pressure_quantity(&threshold->value, eviction->seen[signal].capacity);
        if (threshold->signal == signal && eviction->seen[signal].known && left > 0)
            least = MIN(least, left);
    }
    return least;
}

/* Half of it, so that there is time to see how fast it goes. */
static int64_t alarm_of(const struct eviction *eviction, enum pressure_signal signal) {
    int64_t left = left_of(eviction, signal);
    return left == INT64_MAX ? left : MAX(left / 2, MIN(left, (int64_t)ALARM_BYTES_MIN));
}

static void watch_memory(struct eviction *eviction, bool hurries) {
    memory_watch_arm(eviction->watch, hurries ? INT64_MAX : alarm_of(eviction, SIGNAL_MEMORY_AVAILABLE),
                     hurries ? INT64_MAX : alarm_of(eviction, SIGNAL_ALLOCATABLE_MEMORY_AVAILABLE));
    eviction->config.is_memory_watched = memory_watch_works(eviction->watch);
    eviction->armed_ms = hurries ? eviction->armed_ms : eviction->looked_ms;
}

static void look_in(struct eviction *eviction, int64_t delay_ms) {
    eviction->due_ms = now_ms(eviction) + MAX(delay_ms, 1);
    loop_timer_set(&eviction->timer, MAX(delay_ms, 1));
}

static void look(void *userdata) {
    struct eviction *eviction = userdata;
    unsigned before = eviction->verdict.conditions;
    bool is_alarmed = eviction->is_alarmed;
    eviction->is_alarmed = false;
    eviction->looked_ms = now_ms(eviction);
    observe(eviction);
    watch_memory(eviction, is_alarmed || pressure_is_falling(&eviction->config, &eviction->state, eviction->seen, eviction->looked_ms));
    pressure_step(&eviction->config, &eviction->state, eviction->seen, eviction->looked_ms, &eviction->verdict);
    if (is_alarmed)
        eviction->verdict.next_look_ms = MIN(eviction->verdict.next_look_ms, PRESSURE_HURRY_MS);
    if (eviction->verdict.conditions != before)
        tell_conditions(eviction, before);
    if (eviction->verdict.reclaim >= 0)
        relieve(eviction);
    else
        eviction->is_helpless = false;
    if (eviction->verdict.conditions || any_active(eviction->node))
        look_in(eviction, eviction->verdict.next_look_ms);
    else
        loop_timer_cancel(&eviction->timer);
}

void eviction_start(struct node *node) {
    look(node->eviction);
}

static void look_soon(struct eviction *eviction) {
    look_in(eviction, eviction->looked_ms + SETTLE_MS - now_ms(eviction));
}

static void on_low(void *userdata) {
    struct eviction *eviction = userdata;
    int64_t due_ms = MAX(eviction->armed_ms + SETTLE_MS, eviction->looked_ms + PRESSURE_HURRY_MS);
    eviction->is_alarmed = true;
    if (!loop_timer_is_set(&eviction->timer) || eviction->due_ms > due_ms)
        look_in(eviction, due_ms - now_ms(eviction));
}

void eviction_pod_ended(struct node *node) {
    if (node->eviction && node->eviction->verdict.reclaim >= 0)
        look_soon(node->eviction);
}

/* --- who may come --- */

static bool is_best_effort(const struct pod *pod) {
    const char *class = pod->spec_object->pod->status.qos_class;
    return class && strcmp(class, "BestEffort") == 0;
}

static bool tolerates_memory_pressure(const struct pod *pod) {
    const struct kube_toleration_array *tolerations = &pod->spec_object->pod->spec.tolerations;
    for (size_t i = 0; i < tolerations->count; i++) {
        const struct kube_toleration *toleration = &tolerations->items[i];
        bool any_key = !toleration->key || !*toleration->key, any_effect = !toleration->effect || !*toleration->effect;
        if ((any_key || strcmp(toleration->key, "node.kubernetes.io/memory-pressure") == 0) &&
            (any_effect || strcmp(toleration->effect, "NoSchedule") == 0))
            return true;
    }
    return false;
}

bool eviction_admits(struct pod *pod) {
    struct eviction *eviction = pod->node->eviction;
    const int32_t *priority = pod->spec_object->pod->spec.priority;
    char names[128] = "";
    if (!loop_timer_is_set(&eviction->timer))
        look(eviction);
    unsigned conditions = eviction->verdict.conditions;
    if (!loop_timer_is_set(&eviction->timer))
        look_in(eviction, eviction->verdict.next_look_ms);
    if (!conditions || (priority && *priority >= PRIORITY_SYSTEM_CRITICAL))
        return true;
    if (conditions == 1u << PRESSURE_MEMORY && (!is_best_effort(pod) || tolerates_memory_pressure(pod)))
        return true;
    for (size_t i = 0; i < PRESSURE_CONDITIONS; i++)
        if (conditions & (1u << i))
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", *names ? " " : "", pressure_words[i].type);
    snprintf(pod->failed_reason, sizeof pod->failed_reason, EVICTED);
    snprintf(pod->failed_message, sizeof pod->failed_message, "The node had condition: [%s]. ", names);
    event_pod(pod, NULL, "Warning", EVICTED, "%s", pod->failed_message);
    return false;
}

/* --- life --- */

static struct pressure_texts texts_of(const struct node_options *options) {
    return (struct pressure_texts){.hard = options->eviction_hard,
                                   .soft = options->eviction_soft,
                                   .soft_grace_period = options->eviction_soft_grace_period,
                                   .minimum_reclaim = options->eviction_minimum_reclaim,
                                   .transition_period = options->eviction_pressure_transition_period,
                                   .max_pod_grace_period = options->eviction_max_pod_grace_period};
}

int node_options_check(const struct node_options *options, struct diag *diag) {
    struct pressure_texts texts = texts_of(options);
    struct pressure_config config;
    return pressure_config_parse(&texts, &config, diag);
}

int eviction_new(struct node *node, struct diag *diag) {
    struct pressure_texts texts = texts_of(node->options);
    struct eviction *eviction = calloc(1, sizeof *eviction);
    if (!eviction)
        return -ENOMEM;
    eviction->node = node;
    eviction->verdict.reclaim = -1;
    loop_timer_init(&eviction->timer, node->loop, look, eviction);
    node->eviction = eviction;
    int r = pressure_config_parse(&texts, &eviction->config, diag);
    char pods[QOS_PATH_BYTES];
    qos_pods_path(node, pods);
    return r < 0 ? r : memory_watch_new(node->loop, &node->cgroups, pods, on_low, eviction, &eviction->watch);
}

void eviction_free(struct eviction *eviction) {
    if (!eviction)
        return;
    http_request_cancel(eviction->request);
    storage_forget(eviction->storage);
    memory_watch_free(eviction->watch);
    loop_timer_cancel(&eviction->timer);
    free(eviction);
}
