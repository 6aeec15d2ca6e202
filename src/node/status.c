/* What the API is told about a pod: computed anew from the units on every sync, sent only when it differs from what was sent last, one request at a
 * time.
 *
 * The patch is a merge patch of the whole status that is ours; conditions of other writers (PodScheduled, readiness gates) are carried over.
 * lastTransitionTime changes only with the condition's status. What was last accepted is kept on disk, so that a restart of the node sends nothing
 * when nothing changed. */
#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define STATUS_ARENA_BYTES_MAX (8 * MIB)
#define RETRY_MS 2000

#define DISRUPTION_TARGET "DisruptionTarget"

enum pod_condition { CONDITION_INITIALIZED, CONDITION_READY, CONDITION_CONTAINERS_READY, CONDITION_TO_START, CONDITIONS };
static const char *const condition_names[] = {"Initialized", "Ready", "ContainersReady", "PodReadyToStartContainers"};

static const char resize_pending[] = "PodResizePending", resize_in_progress[] = "PodResizeInProgress";

/* --- a small builder --- */

struct builder {
    struct arena *arena;
    int error;
};
static void set(struct builder *b, struct tree *map, const char *key, struct tree *value) {
    if (!map || tree_set(b->arena, map, slice_of(key), value) < 0)
        b->error = -ENOMEM;
}
static struct tree *set_map(struct builder *b, struct tree *map, const char *key) {
    struct tree *value = tree_map(b->arena);
    set(b, map, key, value);
    return value;
}
static struct tree *set_list(struct builder *b, struct tree *map, const char *key) {
    struct tree *value = tree_list(b->arena);
    set(b, map, key, value);
    return value;
}
static struct tree *push_map(struct builder *b, struct tree *list) {
    struct tree *value = tree_map(b->arena);
    if (!list || tree_push(b->arena, list, value) < 0)
        b->error = -ENOMEM;
    return value;
}
/* text: NULL when there was no memory for it. */
static void set_text(struct builder *b, struct tree *map, const char *key, const char *text) {
    set(b, map, key, text ? tree_text(b->arena, text) : NULL);
}
static void set_time(struct builder *b, struct tree *map, const char *key, int64_t ns) {
    char text[TIMESTAMP_BYTES];
    timestamp_format(ns, text);
    set(b, map, key, tree_text(b->arena, text));
}

/* --- containers --- */

static void add_container_id(struct builder *b, struct tree *map, const char *id) {
    set_text(b, map, "containerID", arena_printf(b->arena, "tidemill://%s", id));
}

static void add_termination(struct builder *b, struct tree *state, const struct termination *end) {
    struct tree *terminated = set_map(b, state, "terminated");
    set(b, terminated, "exitCode", tree_int(b->arena, end->code));
    set_text(b, terminated, "reason", end->reason);
    if (end->message[0])
        set_text(b, terminated, "message", end->message);
    set_time(b, terminated, "startedAt", end->started_ns);
    set_time(b, terminated, "finishedAt", end->finished_ns);
    if (end->id[0])
        add_container_id(b, terminated, end->id);
}

static void add_state(struct builder *b, struct tree *status, const struct unit *unit) {
    struct tree *state = set_map(b, status, "state");
    if (unit_is_shown_running(unit)) {
        set_time(b, set_map(b, state, "running"), "startedAt", unit->started_ns);
    } else if (unit->stage == UNIT_EXITED && unit->current.set) {
        add_termination(b, state, &unit->current);
    } else {
        struct tree *waiting = set_map(b, state, "waiting");
        bool under_way = unit->stage != UNIT_WAITING;
        const char *reason = unit->waiting_reason;
        if (under_way && strcmp(reason, "CrashLoopBackOff") == 0)
            reason = "ContainerCreating";
        set_text(b, waiting, "reason", reason);
        if (unit->waiting_message[0] && !under_way)
            set_text(b, waiting, "message", unit->waiting_message);
    }
}

static void add_mounts(struct builder *b, struct tree *status, const struct unit *unit) {
    const struct kube_volume_mount_array *mounts = &unit->spec->volume_mounts;
    struct tree *list = mounts->count ? set_list(b, status, "volumeMounts") : NULL;
    for (size_t i = 0; i < mounts->count; i++) {
        struct tree *mount = push_map(b, list);
        set_text(b, mount, "name", mounts->items[i].name);
        set_text(b, mount, "mountPath", mounts->items[i].mount_path);
        if (!mounts->items[i].read_only)
            continue;
        set(b, mount, "readOnly", tree_bool(b->arena, true));
        set_text(b, mount, "recursiveReadOnly", mounting_is_recursive(unit, &mounts->items[i]) ? "Enabled" : "Disabled");
    }
}

static void add_quantities(struct builder *b, struct tree *to, const char *name, const struct kube_quantity_map *from) {
    struct tree *map = from->count ? set_map(b, to, name) : NULL;
    for (size_t i = 0; i < from->count; i++)
        set_text(b, map, from->items[i].key, from->items[i].value.text);
}

/* What the running container was granted, and what it has. */
static void add_resources(struct builder *b, struct tree *status, const struct unit *unit) {
    const struct kube_resource_requirements *resources = resize_actuated(unit);
    struct tree *to = set_map(b, status, "resources");
    add_quantities(b, status, "allocatedResources", &resize_allocated(unit)->requests);
    add_quantities(b, to, "limits", &resources->limits);
    add_quantities(b, to, "requests", &resources->requests);
}

/* As its first process has it, whatever it became since. */
static void add_user(struct builder *b, struct tree *status, const struct unit_user *user) {
    struct tree *linux_ = set_map(b, set_map(b, status, "user"), "linux");
    set(b, linux_, "uid", tree_int(b->arena, user->uid));
    set(b, linux_, "gid", tree_int(b->arena, user->gid));
    struct tree *groups = set_list(b, linux_, "supplementalGroups");
    for (size_t i = 0; i < user->groups_count; i++)
        if (!groups || tree_push(b->arena, groups, tree_int(b->arena, user->groups[i])) < 0)
            b->error = -ENOMEM;
}

static void add_unit(struct builder *b, struct tree *list, const struct unit *unit) {
    struct tree *status = push_map(b, list);
    set_text(b, status, "name", unit->spec->name);
    add_state(b, status, unit);
    struct tree *last = set_map(b, status, "lastState");
    if (unit->last.set)
        add_termination(b, last, &unit->last);
    bool running = unit_is_shown_running(unit);
    bool completed_init = unit->is_init && !unit->is_sidecar && unit->stage == UNIT_EXITED && !unit_failed(unit);
    set(b, status, "ready", tree_bool(b->arena, (running && unit->ready && !unit->is_ephemeral) || completed_init));
    set(b, status, "restartCount", tree_int(b->arena, unit->restart_count));
    set_text(b, status, "image", unit->spec->image ? unit->spec->image : "");
    set_text(b, status, "imageID", unit->image_id);
    if (unit->id[0] && (running || unit->stage == UNIT_EXITED))
        add_container_id(b, status, unit->id);
    else if (unit->last.set && unit->last.id[0])
        add_container_id(b, status, unit->last.id);
    if (!unit->is_ephemeral)
        set(b, status, "started", tree_bool(b->arena, running && unit->started));
    if (running && !unit->is_ephemeral)
        add_resources(b, status, unit);
    if (running && unit->user.known)
        add_user(b, status, &unit->user);
    add_mounts(b, status, unit);
}

static bool is_of_list(const struct unit *unit, bool init, bool ephemeral) {
    return unit->is_init == init && unit->is_ephemeral == ephemeral;
}

static void add_units(struct builder *b, struct tree *status, const struct pod *pod) {
    static const struct {
        const char *name;
        bool init, ephemeral;
    } lists[] = {{"initContainerStatuses", true, false}, {"containerStatuses", false, false}, {"ephemeralContainerStatuses", false, true}};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        struct tree *list = NULL;
        for (size_t i = 0; i < pod->units_count; i++) {
            if (!is_of_list(pod->units[i], lists[l].init, lists[l].ephemeral))
                continue;
            if (!list)
                list = set_list(b, status, lists[l].name);
            add_unit(b, list, pod->units[i]);
        }
    }
}

/* Refused before anything of it was begun: there is nothing to tell of containers. */
static bool is_rejected(const struct pod *pod) {
    bool begun = false;
    for (size_t i = 0; i < pod->units_count; i++)
        begun = begun || pod->units[i]->has_run || pod->units[i]->stage != UNIT_WAITING;
    return pod->failed_reason[0] && !begun;
}

/* --- phase and conditions --- */

/* To the outside. */
static bool has_begun(const struct unit *unit) {
    return unit_is_shown_running(unit) || unit->stage == UNIT_EXITED;
}

/* Once a regular container has run, the init containers are done with: a sidecar that is restarted takes nothing back. */
static bool is_initialized(const struct pod *pod) {
    for (size_t i = 0; i < pod->units_count; i++)
        if (is_of_list(pod->units[i], false, false) && (has_begun(pod->units[i]) || pod->units[i]->last.set))
            return true;
    for (size_t i = 0; i < pod->units_count && pod->units[i]->is_init; i++) {
        const struct unit *unit = pod->units[i];
        if (unit->is_sidecar ? !unit->started : unit->stage != UNIT_EXITED || unit_failed(unit))
            return false;
    }
    return true;
}

static bool is_final(const struct pod *pod) {
    return strcmp(pod->phase, "Succeeded") == 0 || strcmp(pod->phase, "Failed") == 0;
}

void status_compute_phase(struct pod *pod) {
    bool ran = false;
    if (is_final(pod))
        return;
    if (!is_initialized(pod)) {
        pod->phase = "Pending";
        return;
    }
    for (size_t i = 0; i < pod->units_count; i++)
        ran = ran || (is_of_list(pod->units[i], false, false) && (has_begun(pod->units[i]) || pod->units[i]->last.set));
    bool waiting_first = false;
    for (size_t i = 0; i < pod->units_count; i++)
        waiting_first = waiting_first || (is_of_list(pod->units[i], false, false) && !has_begun(pod->units[i]) && !pod->units[i]->last.set);
    pod->phase = ran && !waiting_first ? "Running" : "Pending";
}

static const struct kube_pod_status *api_status(const struct pod *pod) {
    return &(pod->object ? pod->object : pod->spec_object)->pod->status;
}

/* What keeps the gates shut, in the arena; "" when nothing does. */
static const char *shut_gates(struct arena *arena, const struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * KIB);
    const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
    const struct kube_pod_status *status = api_status(pod);
    for (size_t i = 0; i < spec->readiness_gates.count; i++) {
        const char *type = spec->readiness_gates.items[i].condition_type, *value = NULL;
        for (size_t k = 0; k < status->conditions.count; k++)
            if (strcmp(status->conditions.items[k].type, type) == 0)
                value = status->conditions.items[k].status;
        if (!value)
            buffer_printf(&out, "%scorresponding condition of pod readiness gate \"%s\" does not exist.", out.len ? ", " : "", type);
        else if (strcmp(value, "True") != 0)
            buffer_printf(&out, "%sthe status of pod readiness gate \"%s\" is not \"True\", but %s", out.len ? ", " : "", type, value);
    }
    return buffer_error(&out) ? NULL : arena_dup(arena, buffer_slice(&out));
}

/* Sidecars count among those that serve. */
static bool must_be_ready(const struct unit *unit) {
    return !unit->is_ephemeral && (!unit->is_init || unit->is_sidecar);
}

static bool is_ready(const struct unit *unit) {
    return unit_is_shown_running(unit) && unit->ready;
}

static bool units_ready(const struct pod *pod) {
    if (pod->stage == POD_ENDED || pod->stage == POD_CLEANING)
        return false;
    for (size_t i = 0; i < pod->units_count; i++)
        if (must_be_ready(pod->units[i]) && !is_ready(pod->units[i]))
            return false;
    return true;
}

static bool is_complete(const struct unit *unit) {
    return unit->is_sidecar ? unit->started : unit->stage == UNIT_EXITED && !unit_failed(unit);
}

/* Of the init containers that are not complete, or of the others that are not ready. */
static char *names_of(struct arena *arena, const struct pod *pod, bool init) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * KIB);
    for (size_t i = 0; i < pod->units_count; i++) {
        const struct unit *unit = pod->units[i];
        if (init ? unit->is_init && !is_complete(unit) : must_be_ready(unit) && !is_ready(unit))
            buffer_printf(&out, "%s%s", out.len ? " " : "", unit->spec->name);
    }
    return buffer_error(&out) ? NULL : arena_dup(arena, buffer_slice(&out));
}

void status_take_conditions(struct pod *pod) {
    const struct kube_pod_status *status = api_status(pod);
    for (size_t i = 0; i < status->conditions.count; i++)
        for (size_t k = 0; k < CONDITIONS; k++) {
            const struct kube_pod_condition *condition = &status->conditions.items[i];
            bool value = strcmp(condition->status, "True") == 0;
            if (strcmp(condition->type, condition_names[k]) != 0)
                continue;
            if (pod->conditions.known[k] && pod->conditions.value[k] != value)
                buffer_reset(&pod->status_json); /* core said otherwise while we were not there: it is told again */
            if (pod->conditions.known[k] || !condition->last_transition_time.set)
                continue;
            pod->conditions.known[k] = true;
            pod->conditions.value[k] = value;
            pod->conditions.since_ns[k] = condition->last_transition_time.ns;
        }
}

/* What was told before a restart of the node, and since when each condition holds. */
void status_load(struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB + 1);
    CLEANUP(arena_freep) struct arena *arena = arena_new(STATUS_ARENA_BYTES_MAX);
    struct tree *root = NULL;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/status.json", pod->dir);
    if (!arena || sys_read_file(AT_FDCWD, path, MIB, &text) < 0 ||
        json_parse(arena, buffer_slice(&text), &(struct json_options){.allow_duplicates = true}, &root, NULL) < 0)
        return;
    buffer_append_slice(&pod->status_json, buffer_slice(&text));
    const struct tree *conditions = tree_path(root, "status.conditions");
    for (size_t i = 0; i < tree_count(conditions); i++) {
        const struct tree *from = tree_at(conditions, i);
        int64_t since_ns;
        for (size_t k = 0; k < CONDITIONS; k++) {
            if (strcmp(tree_text_or(tree_find(from, "type"), ""), condition_names[k]) != 0 ||
                timestamp_parse(slice_of(tree_text_or(tree_find(from, "lastTransitionTime"), "")), &since_ns) < 0)
                continue;
            pod->conditions.known[k] = true;
            pod->conditions.value[k] = strcmp(tree_text_or(tree_find(from, "status"), ""), "True") == 0;
            pod->conditions.since_ns[k] = since_ns;
        }
    }
}

static int64_t generation_of(const struct pod *pod) {
    return (pod->object ? pod->object : pod->spec_object)->metadata->generation;
}

/* Which specification something is said about; 0: it was never counted. */
static void set_generation(struct builder *b, struct tree *map, int64_t generation) {
    if (generation)
        set(b, map, "observedGeneration", tree_int(b->arena, generation));
}

static void add_condition(struct builder *b, struct tree *list, struct pod *pod, enum pod_condition which, bool value, const char *reason,
                          const char *message) {
    struct tree *condition = push_map(b, list);
    if (!pod->conditions.known[which] || pod->conditions.value[which] != value) {
        pod->conditions.known[which] = true;
        pod->conditions.value[which] = value;
        pod->conditions.since_ns[which] = loop_wall_ns(pod->node->loop);
    }
    set_text(b, condition, "type", condition_names[which]);
    set_generation(b, condition, generation_of(pod));
    set_text(b, condition, "status", value ? "True" : "False");
    set(b, condition, "lastProbeTime", tree_null(b->arena));
    set_time(b, condition, "lastTransitionTime", pod->conditions.since_ns[which]);
    if (reason)
        set_text(b, condition, "reason", reason);
    if (message)
        set_text(b, condition, "message", message);
}

/* A resize of the pod that is not done: there only as long as it is so. */
static struct tree *add_resize_condition(struct builder *b, struct tree *list, const char *type, int64_t since_ns, const char *reason,
                                         const char *message) {
    struct tree *condition = push_map(b, list);
    set_text(b, condition, "type", type);
    set_text(b, condition, "status", "True");
    set(b, condition, "lastProbeTime", tree_null(b->arena));
    set_time(b, condition, "lastTransitionTime", since_ns);
    if (*reason)
        set_text(b, condition, "reason", reason);
    if (*message)
        set_text(b, condition, "message", message);
    return condition;
}

/* What waits is the newest wish; what is under way was granted to the version that asked for it. */
static void add_resize_conditions(struct builder *b, struct tree *list, const struct pod *pod) {
    const struct pod_resize *resize = &pod->resize;
    if (resize->pending[0])
        set_generation(b, add_resize_condition(b, list, resize_pending, resize->pending_since_ns, resize->pending, resize->pending_message),
                       generation_of(pod));
    if (resize->in_progress)
        set_generation(b, add_resize_condition(b, list, resize_in_progress, resize->progress_since_ns, *resize->error ? "Error" : "", resize->error),
                       resize->allocated->metadata->generation);
}

static void add_foreign_conditions(struct builder *b, struct tree *list, const struct pod *pod) {
    const struct kube_pod_status *status = api_status(pod);
    bool scheduled = false;
    for (size_t i = 0; i < status->conditions.count; i++) {
        const struct kube_pod_condition *from = &status->conditions.items[i];
        bool ours = strcmp(from->type, resize_pending) == 0 || strcmp(from->type, resize_in_progress) == 0;
        for (size_t k = 0; k < CONDITIONS; k++)
            ours = ours || strcmp(from->type, condition_names[k]) == 0;
        if (ours || (pod->is_disrupted && strcmp(from->type, DISRUPTION_TARGET) == 0))
            continue;
        bool is_scheduled = strcmp(from->type, "PodScheduled") == 0;
        scheduled = scheduled || is_scheduled;
        struct tree *condition = push_map(b, list);
        set_text(b, condition, "type", from->type);
        set_generation(b, condition, is_scheduled ? generation_of(pod) : from->observed_generation);
        set_text(b, condition, "status", from->status);
        set(b, condition, "lastProbeTime", tree_null(b->arena));
        if (from->last_transition_time.set)
            set_time(b, condition, "lastTransitionTime", from->last_transition_time.ns);
        if (from->reason)
            set_text(b, condition, "reason", from->reason);
        if (from->message)
            set_text(b, condition, "message", from->message);
    }
    if (scheduled)
        return;
    struct tree *condition = push_map(b, list);
    set_text(b, condition, "type", "PodScheduled");
    set_generation(b, condition, generation_of(pod));
    set_text(b, condition, "status", "True");
    set(b, condition, "lastProbeTime", tree_null(b->arena));
    set_time(b, condition, "lastTransitionTime", pod->start_time_ns);
}

/* It was not the pod's own fault: who counts failures can leave this one out. */
static void add_disruption(struct builder *b, struct tree *list, const struct pod *pod) {
    if (!pod->is_disrupted)
        return;
    struct tree *condition = push_map(b, list);
    set_text(b, condition, "type", DISRUPTION_TARGET);
    set_generation(b, condition, generation_of(pod));
    set_text(b, condition, "status", "True");
    set(b, condition, "lastProbeTime", tree_null(b->arena));
    set_time(b, condition, "lastTransitionTime", pod->disrupted_ns);
    set_text(b, condition, "reason", "TerminationByKubelet");
    set_text(b, condition, "message", pod->failed_message);
}

static void add_conditions(struct builder *b, struct tree *status, struct pod *pod) {
    struct tree *list = set_list(b, status, "conditions");
    bool initialized = is_initialized(pod) || strcmp(pod->phase, "Succeeded") == 0, ready = units_ready(pod),
         completed = strcmp(pod->phase, "Succeeded") == 0;
    const char *names = names_of(b->arena, pod, false), *inits = names_of(b->arena, pod, true), *shut = shut_gates(b->arena, pod);
    const char *unready = names ? arena_printf(b->arena, "containers with unready status: [%s]", names) : NULL;
    const char *incomplete = inits ? arena_printf(b->arena, "containers with incomplete status: [%s]", inits) : NULL;
    if (!unready || !incomplete || !shut) {
        b->error = -ENOMEM;
        return;
    }
    unready = is_final(pod) ? NULL : unready;
    const char *unready_reason = completed ? "PodCompleted" : strcmp(pod->phase, "Failed") == 0 ? "PodFailed" : "ContainersNotReady";
    bool has_sandbox = pod->network_ready && pod->stage != POD_ENDED && pod->stage != POD_CLEANING;
    add_condition(b, list, pod, CONDITION_TO_START, has_sandbox, NULL, NULL);
    add_condition(b, list, pod, CONDITION_INITIALIZED, initialized, initialized ? (completed ? "PodCompleted" : NULL) : "ContainersNotInitialized",
                  initialized ? NULL : incomplete);
    if (ready)
        add_condition(b, list, pod, CONDITION_READY, !*shut, *shut ? "ReadinessGatesNotReady" : NULL, *shut ? shut : NULL);
    else
        add_condition(b, list, pod, CONDITION_READY, false, unready_reason, unready);
    add_condition(b, list, pod, CONDITION_CONTAINERS_READY, ready, ready ? NULL : unready_reason, ready ? NULL : unready);
    add_disruption(b, list, pod);
    add_resize_conditions(b, list, pod);
    add_foreign_conditions(b, list, pod);
}

/* --- the whole --- */

static void add_addresses(struct builder *b, struct tree *status, const struct pod *pod) {
    const char *addresses[2];
    set_text(b, status, "hostIP", pod->node->host_address);
    struct tree *list = set_list(b, status, "hostIPs");
    for (size_t i = 0, count = node_addresses(pod->node, addresses); i < count; i++)
        set_text(b, push_map(b, list), "ip", addresses[i]);
    if (!*pod->net.address && !pod->network_ready)
        return;
    size_t count = pod_addresses(pod, addresses);
    set_text(b, status, "podIP", addresses[0]);
    list = set_list(b, status, "podIPs");
    for (size_t i = 0; i < count; i++)
        set_text(b, push_map(b, list), "ip", addresses[i]);
}

int status_format(struct pod *pod, struct buffer *out) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(STATUS_ARENA_BYTES_MAX);
    struct builder b = {.arena = arena};
    struct tree *root = arena ? tree_map(arena) : NULL;
    if (!root)
        return -ENOMEM;
    status_compute_phase(pod);
    set_text(&b, set_map(&b, root, "metadata"), "uid", pod->uid);
    struct tree *status = set_map(&b, root, "status");
    set_generation(&b, status, generation_of(pod));
    set_text(&b, status, "phase", pod->phase);
    if (pod->failed_reason[0]) {
        set_text(&b, status, "reason", pod->failed_reason);
        set_text(&b, status, "message", pod->failed_message);
    }
    add_conditions(&b, status, pod);
    add_addresses(&b, status, pod);
    set_time(&b, status, "startTime", pod->start_time_ns);
    if (!is_rejected(pod))
        add_units(&b, status, pod);
    return b.error < 0 ? b.error : json_format(out, root);
}

/* --- sending --- */

struct status_request {
    struct node *node;
    char uid[64];
};

static void accepted(struct pod *pod) {
    char path[PATH_MAX];
    buffer_reset(&pod->status_json);
    buffer_append_slice(&pod->status_json, buffer_slice(&pod->status_sending));
    snprintf(path, sizeof path, "%s/status.json", pod->dir);
    if (access(pod->dir, F_OK) == 0)
        sys_write_file_fast(AT_FDCWD, path, buffer_slice(&pod->status_json), 0600);
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct status_request *request = userdata;
    struct pod *pod = map_find(request->node->pods, slice_of(request->uid));
    struct diag diag = DIAG_INIT;
    free(request);
    if (!pod)
        return;
    int r = client_check(answer, &diag);
    pod->status_in_flight = false;
    if (r == 0) {
        pod->status_failed = false;
        accepted(pod);
    } else if (r != -ENOENT && r != -EAGAIN) { /* gone, or another pod of the same name: nothing to tell */
        if (!pod->status_failed)               /* once per outage */
            log_warning("cannot tell the status of pod %s/%s: %s", pod->namespace, pod->name, diag.message);
        pod->status_failed = true;
        loop_timer_set(&pod->status_retry, RETRY_MS);
        return;
    }
    if (pod->status_dirty)
        status_update(pod);
    if (pod->stage >= POD_STOPPING)
        pod_sync_later(pod);
}

static int send_status(struct pod *pod) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    struct status_request *request = calloc(1, sizeof *request);
    const char *path = arena ? client_path(arena, &kube_kind_pod, pod->namespace, pod->name, "status") : NULL;
    int r = path && request ? 0 : -ENOMEM;
    if (r == 0) {
        request->node = pod->node;
        snprintf(request->uid, sizeof request->uid, "%s", pod->uid);
        r = client_request(pod->node->client, "PATCH", path, "application/merge-patch+json", buffer_slice(&pod->status_sending), on_answer, request);
    }
    if (r < 0)
        free(request);
    return r;
}

void status_update(struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(MIB);
    if (pod->orphan || pod->ended_before || pod->stage == POD_CLEANING)
        return;
    if (pod->status_in_flight) {
        pod->status_dirty = true;
        return;
    }
    pod->status_dirty = false;
    int r = status_format(pod, &json);
    if (r == 0 && slice_equal(buffer_slice(&json), buffer_slice(&pod->status_json)))
        return;
    buffer_reset(&pod->status_sending);
    if (r == 0)
        r = buffer_append_slice(&pod->status_sending, buffer_slice(&json));
    if (r == 0)
        r = send_status(pod);
    pod->status_in_flight = r == 0;
    if (r < 0)
        loop_timer_set(&pod->status_retry, RETRY_MS);
}

void status_free(struct pod *pod) {
    loop_timer_cancel(&pod->status_retry);
    buffer_deinit(&pod->status_json);
    buffer_deinit(&pod->status_sending);
}
