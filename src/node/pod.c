/* A pod from the moment it is bound to this node to the moment nothing is left of it.
 *
 *   PREPARING ─► ACTIVE ─► ENDED ─► (deleted) ─► STOPPING ─► CLEANING ─► freed
 *        └───────────┴────────(deleted)────────────┘
 *
 * Everything that happens (the object changed, a container ended, a timer, an answer) schedules one pod_sync at the end of the loop's turn; it looks
 * at what is and does the next step.
 *
 * Invariants
 *  1. pod_sync is idempotent: run at any time, any number of times, it converges.
 *  2. Nothing of a pod is removed from disk before all its containers are gone; the API object is deleted after that; a crash in between repeats the
 * rest.
 *  3. A pod that the API does not know any more is stopped and removed, but only after the first complete list: while core is down pods keep running
 * and being restarted. */
#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define ORPHAN_GRACE_S 2
#define RETRY_FIRST_MS 500
#define RETRY_MAX_MS 30000
#define STOP_GRACE_MIN_S 2
#define LAST_WORD_TRIES 10

static void sync_pod(void *userdata);
static void on_retry(void *userdata);
static void on_deadline(void *userdata);

/* --- looking --- */

bool pod_is_deleted(const struct pod *pod) {
    return pod->orphan || (pod->object && pod->object->metadata->deletion_timestamp.set);
}

const char *pod_restart_policy(const struct pod *pod) {
    const char *policy = pod->spec_object->pod->spec.restart_policy;
    return policy ? policy : "Always";
}

struct unit *pod_unit(const struct pod *pod, const char *name) {
    for (size_t i = 0; i < pod->units_count; i++)
        if (strcmp(pod->units[i]->spec->name, name) == 0)
            return pod->units[i];
    return NULL;
}

struct pod *pod_find(const struct node *node, const char *namespace, const char *name) {
    struct slice key;
    void *value;
    struct pod *found = NULL;
    for (size_t at = 0; map_next(node->pods, &at, &key, &value);) {
        struct pod *pod = value;
        if (strcmp(pod->name, name) == 0 && strcmp(pod->namespace, namespace) == 0 && (!found || found->stage >= POD_STOPPING))
            found = pod;
    }
    return found;
}

static bool any_busy(const struct pod *pod) {
    for (size_t i = 0; i < pod->units_count; i++)
        if (unit_is_busy(pod->units[i]) || pod->units[i]->stage == UNIT_PULLING || pod->units[i]->container)
            return true;
    return false;
}

static int64_t grace_of(const struct pod *pod) {
    const struct kube_object_meta *meta = pod->object ? pod->object->metadata : pod->spec_object->metadata;
    const int64_t *spec = pod->spec_object->pod->spec.termination_grace_period_seconds;
    int64_t grace_s = spec ? *spec : POD_GRACE_DEFAULT_S;
    if (meta->deletion_timestamp.set && meta->deletion_grace_period_seconds)
        grace_s = *meta->deletion_grace_period_seconds;
    return pod->orphan ? MIN(grace_s, ORPHAN_GRACE_S) : MAX(grace_s, 0);
}

/* --- the struct --- */

void pod_sync_later(struct pod *pod) {
    loop_defer_schedule(&pod->sync);
}

static int add_unit(struct pod *pod, struct unit *unit) {
    struct unit **units = unit ? realloc(pod->units, (pod->units_count + 1) * sizeof *units) : NULL;
    if (!units) {
        unit_free(unit);
        return -ENOMEM;
    }
    pod->units = units;
    pod->units[pod->units_count++] = unit;
    return 0;
}

/* Ephemeral containers are added while the pod runs, and never leave it. */
static int add_ephemeral(struct pod *pod) {
    const struct kube_ephemeral_container_array *list = &pod->spec_object->pod->spec.ephemeral_containers;
    int r = 0;
    for (size_t i = 0; r == 0 && i < list->count; i++)
        if (!pod_unit(pod, list->items[i].name))
            r = add_unit(pod, unit_new_ephemeral(pod, &list->items[i]));
    return r;
}

static int make_units(struct pod *pod) {
    const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
    int r = 0;
    for (size_t i = 0; r == 0 && i < spec->init_containers.count; i++)
        r = add_unit(pod, unit_new(pod, &spec->init_containers.items[i], true));
    for (size_t i = 0; r == 0 && i < spec->containers.count; i++)
        r = add_unit(pod, unit_new(pod, &spec->containers.items[i], false));
    return r == 0 ? add_ephemeral(pod) : r;
}

static void take_object(struct pod *pod, struct kube_object *object) {
    pod->spec_object = kube_object_ref(object);
    pod->uid = object->metadata->uid;
    pod->namespace = object->metadata->namespace;
    pod->name = object->metadata->name;
}

void pod_free(struct pod *pod) {
    if (!pod)
        return;
    ASSERT(pod->deletions == 0);
    map_remove(pod->node->pods, slice_of(pod->uid));
    loop_defer_schedule(&pod->node->reclaim_defer);
    status_free(pod);
    references_free(pod);
    tokens_free(pod);
    image_volumes_free(pod);
    for (size_t i = 0; i < pod->units_count; i++)
        unit_free(pod->units[i]);
    free(pod->units);
    loop_defer_cancel(&pod->sync);
    loop_timer_cancel(&pod->retry);
    loop_timer_cancel(&pod->deadline);
    loop_child_free(pod->pause);
    kube_object_unref(pod->spec_object);
    kube_object_unref(pod->resize.allocated);
    free(pod->disk_volumes);
    kube_object_unref(pod->object);
    free(pod);
}

static void on_status_retry(void *userdata) {
    struct pod *pod = userdata;
    status_update(pod);
    if (pod->stage == POD_STOPPING)
        pod_sync_later(pod);
}

static struct pod *pod_new(struct node *node, struct kube_object *object) {
    struct pod *pod = calloc(1, sizeof *pod);
    if (!pod)
        return NULL;
    pod->node = node;
    take_object(pod, object);
    pod->resize.allocated = kube_object_ref(object);
    pod->phase = "Pending";
    pod->failed_grace_s = -1;
    pod->status_json = pod->status_sending = BUFFER_INIT(MIB);
    snprintf(pod->dir, sizeof pod->dir, "%s/pods/%s", node->state_dir, pod->uid);
    loop_defer_init(&pod->sync, node->loop, sync_pod, pod);
    loop_timer_init(&pod->retry, node->loop, on_retry, pod);
    loop_timer_init(&pod->deadline, node->loop, on_deadline, pod);
    loop_timer_init(&pod->status_retry, node->loop, on_status_retry, pod);
    return pod;
}

void pod_reference_changed(struct pod *pod) {
    pod->volumes_stale = true;
    if (pod->stage == POD_PREPARING)
        loop_timer_cancel(&pod->retry);
    for (size_t i = 0; i < pod->units_count; i++)
        unit_reconsider(pod->units[i]);
    pod_sync_later(pod);
}

void pod_retry(struct pod *pod) {
    pod->retry_ms = pod->retry_ms ? MIN(pod->retry_ms * 2, RETRY_MAX_MS) : RETRY_FIRST_MS;
    loop_timer_set(&pod->retry, pod->retry_ms);
}
static void on_retry(void *userdata) {
    pod_sync_later(userdata);
}

static void set_deadline(struct pod *pod) {
    const int64_t *seconds = pod->spec_object->pod->spec.active_deadline_seconds;
    if (seconds && pod->start_time_ns)
        loop_timer_set(&pod->deadline, MAX(0, pod->start_time_ns / 1000000 + *seconds * 1000 - loop_wall_ns(pod->node->loop) / 1000000));
}

static bool has_ended_before(const struct kube_object *object) {
    const char *phase = object->pod->status.phase;
    return phase && (strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0);
}

/* --- preparing --- */

static bool prepare_volumes(struct pod *pod) {
    struct diag diag = DIAG_INIT;
    if (pod->volumes_ready)
        return true;
    pod->volumes_stale = false;
    if (userns_prepare(pod, &diag) < 0) {
        event_pod(pod, NULL, "Warning", "FailedCreatePodSandBox", "Failed to create pod sandbox: %s", diag.message);
        return false;
    }
    if (volumes_prepare(pod, &diag) < 0) {
        event_pod(pod, NULL, "Warning", "FailedMount", "%s", diag.message);
        return false;
    }
    pod->volumes_ready = true;
    return true;
}

static void prepare(struct pod *pod) {
    if (loop_timer_is_set(&pod->retry) || !apparmor_admits(pod) || !pod_network_admits(pod))
        return;
    bool has_references = references_ready(pod), has_tokens = tokens_ready(pod); /* asked for first: the answers come while the rest is made */
    bool has_cgroup = pod_cgroup_ready(pod), has_images = image_volumes_ready(pod);
    if (!pod_network_ready(pod))
        return pod_retry(pod);
    if (!has_references && references_pause_ms(pod))
        loop_timer_set(&pod->retry, references_pause_ms(pod));                            /* a change of theirs is not waited for */
    if (!has_references || !has_tokens || !informer_synced(pod->node->services_informer)) /* services are part of every environment */
        return;
    if (!has_images || !runtime_class_ready(pod))
        return;
    if (!prepare_volumes(pod))
        return pod_retry(pod);
    if (!persistent_ready(pod) || !has_cgroup)
        return;
    pod->retry_ms = 0;
    pod->stage = POD_ACTIVE;
    storage_limits_watch(pod);
    record_save(pod);
}

/* What changed can be shown: all of it is known. */
static void refresh(struct pod *pod) {
    bool has_references = references_ready(pod), has_tokens = tokens_ready(pod);
    if (!pod->volumes_stale || !has_references || !has_tokens)
        return;
    pod->volumes_stale = false;
    volumes_refresh(pod);
}

/* --- taking on --- */

static const char *final_phase(const struct pod *pod);

/* The machine was restarted. */
static void lose_sandbox(struct pod *pod) {
    event_pod(pod, NULL, "Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    for (size_t i = 0; i < pod->units_count; i++)
        unit_lose_sandbox(pod->units[i]);
}

static int take_over(struct pod *pod) {
    int r = record_load(pod);
    if (r < 0)
        return r;
    r = resize_load(pod);
    if (r < 0)
        return r;
    bool was_active = pod->stage == POD_ACTIVE; /* then it needs nobody's answer to go on, unless the machine was restarted meanwhile */
    bool had_sandbox = podnet_has(pod->node->podnet, pod->uid, pod->spec_object->pod->spec.host_network);
    if (was_active)
        pod->stage = POD_PREPARING;
    if (pod->stage != POD_ENDED && pod_network_ready(pod) && was_active && pod_cgroup_make(pod) && volumes_are_there(pod) &&
        volumes_write_hosts(pod) == 0) {
        pod->stage = POD_ACTIVE;
        pod->volumes_ready = pod->given = pod->volumes_stale = true;
        storage_limits_watch(pod);
        image_volumes_adopt(pod);
    }
    status_load(pod);
    for (size_t i = 0; i < pod->units_count; i++)
        unit_adopt(pod->units[i]);
    if (was_active && !had_sandbox && !final_phase(pod))
        lose_sandbox(pod);
    record_save(pod);
    return 0;
}

/* A pod that ran here before our state was lost: its restarts go on counting. */
static void take_counts(struct pod *pod, const struct kube_container_status_array *statuses) {
    for (size_t i = 0; i < statuses->count; i++) {
        struct unit *unit = pod_unit(pod, statuses->items[i].name);
        if (!unit)
            continue;
        unit->restart_count = statuses->items[i].restart_count;
        unit->has_run = statuses->items[i].container_id != NULL || unit->restart_count > 0;
    }
}

static int take_on(struct pod *pod) {
    const struct kube_pod_status *status = &pod->spec_object->pod->status;
    pod->start_time_ns = status->start_time.set ? status->start_time.ns : loop_wall_ns(pod->node->loop);
    if (has_ended_before(pod->spec_object)) {
        pod->stage = POD_ENDED;
        pod->phase = status->phase;
        pod->ended_before = true;
        return 0;
    }
    pod->is_fresh = true;
    if (!status->start_time.set && !pod_is_deleted(pod) && !admitting_admits(pod))
        log_warning("pod %s/%s is not admitted: %s", pod->namespace, pod->name, pod->failed_message);
    take_counts(pod, &status->init_container_statuses);
    take_counts(pod, &status->container_statuses);
    if (pod_is_deleted(pod))
        return 0; /* nothing of it was ever here */
    int r = record_save_spec(pod);
    if (r == 0)
        record_save(pod);
    return r;
}

int pod_add(struct node *node, struct kube_object *object, bool adopted) {
    struct pod *pod = pod_new(node, object);
    if (!pod)
        return -ENOMEM;
    int r = map_put(node->pods, slice_of(pod->uid), pod, NULL);
    if (!adopted)
        pod->object = kube_object_ref(object);
    if (r == 0)
        r = qos_place(pod);
    if (r == 0)
        r = make_units(pod);
    if (r == 0)
        r = references_collect(pod);
    if (r == 0)
        r = tokens_collect(pod);
    if (r == 0)
        r = image_volumes_collect(pod);
    if (r == 0)
        r = adopted ? take_over(pod) : take_on(pod);
    if (r < 0) {
        pod_free(pod);
        return r;
    }
    pod->grace_s = grace_of(pod);
    status_take_conditions(pod);
    set_deadline(pod);
    pod_sync_later(pod);
    return 0;
}

/* An image, a deadline or the list of ephemeral containers was changed: nothing else of a spec can be. All that points into the old object is led to
 * the new one. */
static int respecify(struct pod *pod, struct kube_object *object) {
    CLEANUP(kube_object_unrefp) struct kube_object *old = pod->spec_object;
    const struct kube_pod_spec *spec = &object->pod->spec;
    take_object(pod, object);
    for (size_t i = 0; i < spec->init_containers.count + spec->containers.count; i++) {
        bool is_init = i < spec->init_containers.count;
        const struct kube_container *container = is_init ? &spec->init_containers.items[i] : &spec->containers.items[i - spec->init_containers.count];
        unit_respecify(pod->units[i], container);
    }
    for (size_t i = 0, first = spec->init_containers.count + spec->containers.count; first + i < pod->units_count; i++)
        unit_respecify_ephemeral(pod->units[first + i], &spec->ephemeral_containers.items[i]);
    size_t before = pod->units_count;
    int r = add_ephemeral(pod);
    for (size_t i = before; r == 0 && i < pod->units_count; i++)
        r = references_collect_container(pod, pod->units[i]->spec);
    if (r == 0)
        r = resize_keep(pod);
    if (r == 0)
        r = record_save_spec(pod);
    if (r == 0)
        record_save(pod);
    set_deadline(pod);
    return r;
}

/* The lists are those that we know, ephemeral containers may be more: anything else would not be this pod. */
static bool is_respecified(const struct pod *pod, const struct kube_object *object) {
    const struct kube_pod_spec *old = &pod->spec_object->pod->spec, *new = &object->pod->spec;
    return !pod->ended_before && pod->stage <= POD_ACTIVE && !pod_is_deleted(pod) && old->containers.count == new->containers.count &&
           old->init_containers.count == new->init_containers.count && old->ephemeral_containers.count <= new->ephemeral_containers.count &&
           !kube_equal(&kube_pod_spec_type, old, new);
}

static bool same_map(const struct kube_string_map *a, const struct kube_string_map *b) {
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        const char *value = kube_map_find(b, a->items[i].key);
        same = value && a->items[i].value && strcmp(a->items[i].value, value) == 0;
    }
    return same;
}

/* In what the downward API's files show. */
static bool shows_differently(const struct kube_object *old, const struct kube_object *new) {
    return !same_map(&old->metadata->labels, &new->metadata->labels) || !same_map(&old->metadata->annotations, &new->metadata->annotations);
}

void pod_update(struct pod *pod, struct kube_object *object) {
    bool first = !pod->object;
    pod->volumes_stale = pod->volumes_stale || first || shows_differently(pod->object, object);
    kube_object_ref(object);
    kube_object_unref(pod->object);
    pod->object = object;
    pod->grace_s = grace_of(pod);
    status_take_conditions(pod); /* somebody may have said otherwise in our place, while we were silent */
    int r = is_respecified(pod, object) ? respecify(pod, object) : 0;
    if (r < 0)
        log_error("cannot take on the change of pod %s/%s: %s", pod->namespace, pod->name, strerror(-r));
    pod_sync_later(pod);
}

void pod_orphaned(struct pod *pod) {
    pod->orphan = true;
    pod->delete_done = true;
    pod->grace_s = grace_of(pod);
    pod_sync_later(pod);
}

/* --- running --- */

/* True when this init container lets the next ones begin. */
static bool run_init(struct unit *unit) {
    if (unit->stage == UNIT_EXITED && !unit->is_sidecar) {
        if (!unit_failed(unit))
            return true;
        if (!unit_wants_restart(unit))
            return false; /* the pod has failed: see finish_when_ended */
        unit_restart(unit);
    } else if (unit->stage == UNIT_EXITED)
        unit_restart(unit);
    unit_start(unit);
    return unit->is_sidecar && unit->started;
}

static void run_unit(struct unit *unit) {
    if (unit->stage == UNIT_EXITED) {
        if (!unit_wants_restart(unit))
            return;
        unit_restart(unit);
    }
    if (unit->stage == UNIT_WAITING && strcmp(unit->waiting_reason, "PodInitializing") == 0)
        snprintf(unit->waiting_reason, sizeof unit->waiting_reason, "ContainerCreating");
    unit_start(unit);
}

static void run_units(struct pod *pod) {
    size_t i = 0;
    for (size_t k = 0; k < pod->units_count; k++)
        if (pod->units[k]->is_ephemeral)
            unit_start(pod->units[k]); /* once, whatever becomes of it; not even init containers come before */
    for (; i < pod->units_count && pod->units[i]->is_init; i++)
        if (!run_init(pod->units[i]))
            return;
    for (; i < pod->units_count; i++) {
        if (!pod->units[i]->is_ephemeral)
            run_unit(pod->units[i]);
        if (hooks_hold_others(pod->units[i]))
            return;
    }
}

/* Succeeded, Failed, or NULL while something may still run. */
static const char *final_phase(const struct pod *pod) {
    bool failed = false;
    if (pod->failed_reason[0])
        return "Failed";
    for (size_t i = 0; i < pod->units_count; i++) {
        const struct unit *unit = pod->units[i];
        if (unit->is_init && !unit->is_sidecar && unit->stage == UNIT_EXITED && unit_failed(unit) && !unit_wants_restart(unit))
            return "Failed";
        if (unit->is_init || unit->is_ephemeral)
            continue;
        if (unit->stage != UNIT_EXITED || unit_wants_restart(unit))
            return NULL;
        failed = failed || unit_failed(unit);
    }
    return failed ? "Failed" : "Succeeded";
}

static void stop_units(struct pod *pod, int64_t grace_s);

static void stop_shared_processes(struct pod *pod) {
    const bool *shared = pod->spec_object->pod->spec.share_process_namespace;
    char path[QOS_PATH_BYTES];
    if (!shared || !*shared)
        return;
    qos_pause_path(pod, path);
    pidns_stop(&pod->node->cgroups, path);
    loop_child_free(TAKE(pod->pause));
}

static void release(struct pod *pod) {
    pod_network_release(pod);
    volumes_remove(pod);
    stop_shared_processes(pod);
    pod_cgroup_remove(pod);
}

static void finish(struct pod *pod, const char *phase) {
    stop_units(pod, pod->failed_grace_s >= 0 ? pod->failed_grace_s : pod->grace_s); /* what is left: sidecars, or all when it has to end */
    if (any_busy(pod) || pod->deletions)
        return;
    pod->phase = phase;
    pod->stage = POD_ENDED;
    loop_timer_cancel(&pod->deadline);
    release(pod);
    trash_pod_files(pod);
    record_save(pod);
    eviction_pod_ended(pod->node);
}

static void on_deadline(void *userdata) {
    struct pod *pod = userdata;
    if (pod->stage > POD_ACTIVE)
        return;
    snprintf(pod->failed_reason, sizeof pod->failed_reason, "DeadlineExceeded");
    snprintf(pod->failed_message, sizeof pod->failed_message, "%s", POD_DEADLINE_MESSAGE);
    event_pod(pod, NULL, "Normal", "DeadlineExceeded", "%s", pod->failed_message);
    pod_sync_later(pod);
}

/* --- stopping --- */

/* What is left of the time that the pod was given, two seconds at least; without haste none is granted to who was told already. */
static int64_t grace_left_s(const struct pod *pod, const struct unit *unit, int64_t grace_s) {
    if (unit->stopping || grace_s <= 0)
        return grace_s;
    int64_t gone_s = (loop_now_ns(pod->node->loop) / 1000000 - pod->stop_began_ms) / 1000;
    return MIN(grace_s, MAX(STOP_GRACE_MIN_S, grace_s - gone_s));
}

/* True while it may still run. */
static bool stop_unit(struct pod *pod, struct unit *unit, int64_t grace_s) {
    char why[300];
    snprintf(why, sizeof why, "Stopping container %s", unit->spec->name);
    unit_stop(unit, grace_left_s(pod, unit, grace_s), why);
    return unit_is_busy(unit);
}

/* Sidecars go last and one after the other, the one that came first at the end: they serve the others. */
static void stop_units(struct pod *pod, int64_t grace_s) {
    bool runs = false;
    if (!pod->stop_began_ms)
        pod->stop_began_ms = loop_now_ns(pod->node->loop) / 1000000;
    for (size_t i = 0; i < pod->units_count; i++)
        if (!pod->units[i]->is_sidecar)
            runs = stop_unit(pod, pod->units[i], grace_s) || runs;
    for (size_t i = pod->units_count; !runs && i-- > 0;)
        if (pod->units[i]->is_sidecar)
            runs = stop_unit(pod, pod->units[i], grace_s);
}

struct delete_request {
    struct node *node;
    char uid[64];
};

static void on_deleted(void *userdata, const struct http_answer *answer) {
    struct delete_request *request = userdata;
    struct pod *pod = map_find(request->node->pods, slice_of(request->uid));
    struct diag diag = DIAG_INIT;
    free(request);
    if (!pod)
        return;
    int r = client_check(answer, &diag);
    pod->delete_in_flight = false;
    pod->delete_done = r == 0 || r == -ENOENT || r == -EAGAIN; /* a conflict: another pod has the name now */
    if (!pod->delete_done)
        pod_retry(pod);
    pod_sync_later(pod);
}

static void send_delete(struct pod *pod) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    struct delete_request *request = calloc(1, sizeof *request);
    char body[256];
    const char *path = arena ? client_path(arena, &kube_kind_pod, pod->namespace, pod->name, NULL) : NULL;
    if (!request || !path)
        return free(request), pod_retry(pod);
    request->node = pod->node;
    snprintf(request->uid, sizeof request->uid, "%s", pod->uid);
    snprintf(body, sizeof body, "{\"apiVersion\":\"v1\",\"kind\":\"DeleteOptions\",\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"%s\"}}",
             pod->uid);
    pod->delete_in_flight = true;
    if (client_request(pod->node->client, "DELETE", path, NULL, slice_of(body), on_deleted, request) < 0) {
        pod->delete_in_flight = false;
        free(request);
        pod_retry(pod);
    }
}

static void clean(struct pod *pod) {
    if (!pod->delete_done) {
        if (!pod->delete_in_flight && !pod->status_in_flight && !loop_timer_is_set(&pod->retry))
            send_delete(pod);
        return;
    }
    pod->gone = true;
    if (pod->deletions == 0)
        pod_free(pod);
}

/* Also a pod that was made to end has succeeded or failed: those who count its kind wait to hear it. */
static void set_last_phase(struct pod *pod) {
    bool failed = false;
    if (pod->phase && (strcmp(pod->phase, "Succeeded") == 0 || strcmp(pod->phase, "Failed") == 0))
        return;
    for (size_t i = 0; i < pod->units_count; i++) {
        const struct unit *unit = pod->units[i];
        failed = failed || (!unit->is_init && !unit->is_ephemeral && (unit->stage != UNIT_EXITED || unit_failed(unit)));
    }
    pod->phase = failed ? "Failed" : "Succeeded";
}

/* Somebody keeps it by a finalizer, and the API does not know yet that it has ended. */
static bool is_awaited(const struct pod *pod) {
    return pod->object && pod->object->metadata->finalizers.count && !has_ended_before(pod->object);
}

static void stop(struct pod *pod) {
    if (pod->stage != POD_STOPPING) {
        pod->stage = POD_STOPPING;
        loop_timer_cancel(&pod->retry);
        pod->retry_ms = 0;
    }
    stop_units(pod, pod->grace_s);
    if (any_busy(pod) || pod->deletions) {
        if (!pod->orphan)
            status_update(pod);
        return;
    }
    set_last_phase(pod);
    if (!pod->orphan && !pod->last_word && (access(pod->dir, F_OK) == 0 || is_awaited(pod))) {
        pod->last_word = true;
        status_update(pod); /* with exit codes; what it is told from stays until the API knows it */
    }
    if (!pod->orphan && (pod->status_in_flight || (pod->status_failed && pod->last_word_tries++ < LAST_WORD_TRIES)))
        return;
    release(pod);
    trash_pod_files(pod); /* what it wrote may be much */
    record_remove(pod);
    pod->stage = POD_CLEANING;
}

static void sync_pod(void *userdata) {
    struct pod *pod = userdata;
    loop_timer_set(&pod->node->trim, NODE_TRIM_MS);
    for (size_t i = 0; i < pod->units_count; i++)
        unit_settle(pod->units[i]);
    if (pod_is_deleted(pod) && pod->stage != POD_CLEANING) {
        stop(pod);
    } else if (pod->stage <= POD_ACTIVE) {
        if (pod->stage == POD_PREPARING && !pod->failed_reason[0])
            prepare(pod);
        if (pod->stage == POD_ACTIVE) {
            refresh(pod);
            resize_step(pod);
        }
        const char *phase = final_phase(pod);
        if (phase)
            finish(pod, phase);
        else if (pod->stage == POD_ACTIVE)
            run_units(pod);
        status_update(pod);
    } else if (pod->stage == POD_ENDED)
        status_update(pod);
    if (pod->stage == POD_CLEANING)
        clean(pod); /* may free the pod */
}
