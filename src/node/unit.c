/* One container of a pod through all its runs.
 *
 *   WAITING ─► PULLING ─► CREATING ─► STARTING ─► RUNNING ─► EXITED
 *      ▲          │ (pull failed: back off)                     │
 *      └──────────┴──────────── unit_restart: back off ◄────────┘
 *
 * Invariants
 *  1. Each run has an id of its own, recorded on disk before the container is created: what a crash leaves is either known by its id or has no
 * bundle.
 *  2. An exit is recorded (unit->current) and saved before its container is deleted, so no exit code is lost.
 *  3. Every asynchronous thing a unit has under way is cancelled in unit_free; deletions alone outlive it, and hold the pod. */
#include <signal.h>

#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define KILL_LOOK_MS 50
#define CREATE_AGAIN_FIRST_MS 1000
#define CREATE_AGAIN_MAX_MS 60000
#define SAVE_AGAIN_MS 2000

static void on_created(void *userdata, int error, const char *message);
static void on_started(void *userdata, int error, const char *message);
static void on_exit_code(void *userdata, const struct container_exit *exit);

static int64_t now_ms(const struct unit *unit) {
    return loop_now_ns(unit->pod->node->loop) / 1000000;
}

static void on_wake(void *userdata) {
    struct unit *unit = userdata;
    pod_sync_later(unit->pod);
}

static struct unit *make(struct pod *pod) {
    struct unit *unit = calloc(1, sizeof *unit);
    struct loop *loop = pod->node->loop;
    if (!unit)
        return NULL;
    *unit = (struct unit){.pod = pod, .waiting_reason = "ContainerCreating", .log_watch = -1};
    if (pod->spec_object->pod->spec.init_containers.count)
        snprintf(unit->waiting_reason, sizeof unit->waiting_reason, "PodInitializing");
    loop_timer_init(&unit->timer, loop, on_wake, unit);
    loop_timer_init(&unit->hook_timer, loop, on_wake, unit); /* replaced by hooks.c */
    stopping_init(unit);
    loop_timer_init(&unit->log_timer, loop, on_wake, unit); /* replaced by rotation_watch */
    return unit;
}

struct unit *unit_new(struct pod *pod, const struct kube_container *spec, bool is_init) {
    struct unit *unit = make(pod);
    if (!unit)
        return NULL;
    unit->spec = spec;
    unit->is_init = is_init;
    unit->is_sidecar = is_init && spec->restart_policy && strcmp(spec->restart_policy, "Always") == 0;
    return unit;
}

/* The fields that an ephemeral container may have; the others stay empty. */
void unit_respecify_ephemeral(struct unit *unit, const struct kube_ephemeral_container *spec) {
    unit->ephemeral = (struct kube_container){.name = spec->name,
                                              .image = spec->image,
                                              .command = spec->command,
                                              .args = spec->args,
                                              .working_dir = spec->working_dir,
                                              .env_from = spec->env_from,
                                              .env = spec->env,
                                              .volume_mounts = spec->volume_mounts,
                                              .termination_message_path = spec->termination_message_path,
                                              .termination_message_policy = spec->termination_message_policy,
                                              .image_pull_policy = spec->image_pull_policy,
                                              .security_context = spec->security_context,
                                              .stdin = spec->stdin,
                                              .stdin_once = spec->stdin_once,
                                              .tty = spec->tty};
    unit->spec = &unit->ephemeral;
    unit->target = spec->target_container_name && *spec->target_container_name ? spec->target_container_name : NULL;
}

struct unit *unit_new_ephemeral(struct pod *pod, const struct kube_ephemeral_container *spec) {
    struct unit *unit = make(pod);
    if (!unit)
        return NULL;
    unit->is_ephemeral = true;
    unit_respecify_ephemeral(unit, spec);
    return unit;
}

void unit_respecify(struct unit *unit, const struct kube_container *spec) {
    bool same = strcmp(unit->spec->image ? unit->spec->image : "", spec->image ? spec->image : "") == 0;
    unit->spec = spec;
    probing_respecify(unit);
    if (same)
        return;
    char why[300];
    snprintf(why, sizeof why, "Container %s definition changed, will be restarted", spec->name);
    unit->respecified = unit_is_busy(unit) || unit->stage == UNIT_EXITED;
    unit->start_at_ms = 0;
    backoff_reset(&unit->backoff);
    backoff_reset(&unit->pull_backoff);
    unit_stop(unit, unit->pod->grace_s, why);
}

void unit_reconsider(struct unit *unit) {
    if (unit->stage == UNIT_WAITING && strcmp(unit->waiting_reason, "CreateContainerConfigError") == 0)
        unit->start_at_ms = 0;
}

void unit_free(struct unit *unit) {
    if (!unit)
        return;
    probing_end(unit);
    hooks_cancel(unit);
    loop_timer_cancel(&unit->timer);
    loop_timer_cancel(&unit->kill_timer);
    rotation_forget(unit);
    unit_pull_cancel(unit);
    container_free(unit->container);
    image_unref(unit->image);
    kube_object_unref(unit->actuated);
    free(unit);
}

bool unit_is_shown_running(const struct unit *unit) {
    return unit->stage == UNIT_RUNNING && !unit->post_starting;
}

bool unit_is_busy(const struct unit *unit) {
    return unit->stage == UNIT_CREATING || unit->stage == UNIT_STARTING || unit->stage == UNIT_RUNNING;
}

bool unit_failed(const struct unit *unit) {
    return unit->current.set && unit->current.code != 0;
}

void unit_wait_with(struct unit *unit, const char *reason, const char *format, ...) {
    va_list args;
    unit->stage = UNIT_WAITING;
    snprintf(unit->waiting_reason, sizeof unit->waiting_reason, "%s", reason);
    va_start(args, format);
    vsnprintf(unit->waiting_message, sizeof unit->waiting_message, format, args);
    va_end(args);
}

void unit_wake_in(struct unit *unit, int64_t delay_ms) {
    unit->start_at_ms = now_ms(unit) + delay_ms;
    loop_timer_set(&unit->timer, delay_ms);
}

/* --- deleting what ran --- */

static void on_deleted(void *userdata, int error, const char *message) {
    struct pod *pod = userdata;
    if (error) {
        log_warning("cannot remove a container of pod %s/%s: %s", pod->namespace, pod->name, message);
        event_pod(pod, NULL, "Warning", "FailedKillPod", "error killing pod: failed to \"KillContainer\": %s", message);
        strays_retry(pod->node);
    }
    ASSERT(pod->deletions > 0);
    pod->deletions--;
    if (pod->gone && pod->deletions == 0)
        pod_free(pod);
    else
        pod_sync_later(pod);
}

void unit_remove_container(struct unit *unit) {
    if (!unit->container)
        return;
    if (container_delete(unit->container, on_deleted, unit->pod) == 0) {
        unit->pod->deletions++;
    } else {
        container_free(unit->container);
        strays_retry(unit->pod->node);
    }
    unit->container = NULL;
}

/* What is left of the run before, if anything, must be gone: a container never runs twice at a time. */
static bool kill_group(const struct unit *unit) {
    const struct cgroups *cgroups = &unit->pod->node->cgroups;
    char group[QOS_PATH_BYTES];
    qos_container_path(unit, group);
    if (!unit->id[0] || !cgroup_exists(cgroups, group) || cgroup_remove(cgroups, group) == 0)
        return true;
    cgroup_kill(cgroups, group);
    return cgroup_remove(cgroups, group) == 0;
}

void unit_start(struct unit *unit) {
    if (unit->stage != UNIT_WAITING)
        return;
    int64_t wait_ms = unit->start_at_ms - now_ms(unit);
    if (wait_ms > 0) {
        if (loop_timer_is_set(&unit->timer))
            return;
        unit_pull_tell_waiting(unit);
        loop_timer_set(&unit->timer, wait_ms);
        return;
    }
    loop_timer_cancel(&unit->timer);
    if (!kill_group(unit)) { /* asked before an image is fetched for nothing */
        unit->kill_delay_ms = unit->kill_delay_ms ? MIN(2 * unit->kill_delay_ms, CREATE_AGAIN_MAX_MS) : KILL_LOOK_MS;
        return unit_wake_in(unit, unit->kill_delay_ms);
    }
    unit->kill_delay_ms = 0;
    unit_pull(unit);
}

/* --- creating --- */

static void run_path(const struct unit *unit, const char *name, char ret[PATH_MAX]) {
    snprintf(ret, PATH_MAX, "%s/containers/%s/%d/%s", unit->pod->dir, unit->spec->name, unit->restart_count, name);
}

void unit_log_path(const struct unit *unit, int attempt, char ret[PATH_MAX]) {
    snprintf(ret, PATH_MAX, "%s/logs/%s_%s_%s/%s/%d.log", unit->pod->node->state_dir, unit->pod->namespace, unit->pod->name, unit->pod->uid,
             unit->spec->name, attempt);
}

/* Always fresh: a creation that was cut short leaves a writable layer that the kernel refuses to mount again. */
static int make_folders(const struct unit *unit) {
    char path[PATH_MAX];
    run_path(unit, "", path);
    int r = trash_put(unit->pod->node, path);
    run_path(unit, "upper", path);
    if (r == 0)
        r = sys_mkdirs(path, 0755);
    run_path(unit, "work", path);
    if (r == 0)
        r = sys_mkdirs(path, 0755);
    unit_log_path(unit, unit->restart_count, path);
    *strrchr(path, '/') = 0;
    return r < 0 ? r : sys_mkdirs(path, 0755);
}

/* The files of the run before the last one are of no use any more; the last one's log stays for `kubectl logs --previous`. */
static void remove_old_run(const struct unit *unit) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/containers/%s/%d", unit->pod->dir, unit->spec->name, unit->restart_count - 1);
    if (unit->restart_count > 0)
        trash_put(unit->pod->node, path);
    for (int i = 0; unit->restart_count > 1 && i < LOG_ROTATE_FILES; i++) {
        unit_log_path(unit, unit->restart_count - 2, path);
        if (i)
            snprintf(path + strlen(path), sizeof path - strlen(path), ".%d", i);
        unlink(path);
    }
}

static int create_with(struct unit *unit, struct slice config, struct diag *diag) {
    struct node *node = unit->pod->node;
    CLEANUP(arena_freep) struct arena *arena = arena_new(4 * MIB);
    char upper[PATH_MAX], work[PATH_MAX], log[PATH_MAX], group[QOS_PATH_BYTES], user[PATH_MAX];
    userns_path(unit->pod, USERNS_USER, user);
    const char **lower = arena ? ARENA_ARRAY(arena, const char *, unit->image->layers_count + 1) : NULL;
    if (!lower)
        return -ENOMEM;
    for (size_t i = 0; i < unit->image->layers_count; i++)
        lower[i] = arena_printf(arena, "%s/%s", node->layers_dir, unit->image->layers[unit->image->layers_count - 1 - i].chain_id + 7);
    run_path(unit, "upper", upper);
    run_path(unit, "work", work);
    unit_log_path(unit, unit->restart_count, log);
    qos_container_path(unit, group);
    const struct container_options options = {.id = unit->id,
                                              .name = unit->spec->name,
                                              .config_json = config,
                                              .lower = lower,
                                              .lower_count = unit->image->layers_count,
                                              .upper = upper,
                                              .work = work,
                                              .user_namespace = unit->pod->id_base ? user : NULL,
                                              .id_base = unit->pod->id_base,
                                              .log_path = log,
                                              .cgroup_path = group,
                                              .terminal = unit->spec->tty,
                                              .open_stdin = unit->spec->stdin,
                                              .stdin_once = unit->spec->stdin_once,
                                              .on_created = on_created,
                                              .on_exit = on_exit_code,
                                              .userdata = unit};
    return container_create(node->containers, &options, &unit->container, diag);
}

static void start_failed(struct unit *unit, const char *message);

/* There was no run: it is tried again, under the same number. */
static void forget_run(struct unit *unit) {
    if (unit->container)
        unit_remove_container(unit);
    else if (container_delete_id(unit->pod->node->containers, unit->id, on_deleted, unit->pod) == 0)
        unit->pod->deletions++;
    unit->has_run = unit->restart_count > 0;
    unit->restart_count -= unit->restart_count > 0;
}

static void create_failed(struct unit *unit, const char *reason, const char *message) {
    event_pod(unit->pod, unit, "Warning", "Failed", "Error: %s", message);
    unit_wait_with(unit, reason, "%s", message);
    forget_run(unit);
    unit->stopping = false;
    unit->create_delay_ms = unit->create_delay_ms ? MIN(2 * unit->create_delay_ms, CREATE_AGAIN_MAX_MS) : CREATE_AGAIN_FIRST_MS;
    unit_wake_in(unit, unit->create_delay_ms);
    record_save(unit->pod);
    pod_sync_later(unit->pod);
}

void unit_create(struct unit *unit) {
    CLEANUP(buffer_deinit) struct buffer config = BUFFER_INIT(BUNDLE_BYTES_MAX);
    struct diag diag = DIAG_INIT;
    const char *profile;
    if (!kill_group(unit)) {
        unit->stage = UNIT_WAITING;
        return unit_wake_in(unit, KILL_LOOK_MS);
    }
    if (unit->has_run)
        unit->restart_count++;
    unit->has_run = true;
    unit->respecified = unit->killed_by_liveness = false;
    container_new_id(unit->id);
    int r = apparmor_profile(unit, &profile, &diag);
    if (r < 0) /* somebody may load it yet */
        return create_failed(unit, "CreateContainerError", diag.message);
    r = make_folders(unit);
    if (r == 0)
        r = spec_format(unit, &config, &diag);
    if (r < 0)
        return create_failed(unit, "CreateContainerConfigError", diag.message[0] ? diag.message : strerror(-r));
    unit->stage = UNIT_CREATING;
    record_save(unit->pod);
    r = create_with(unit, buffer_slice(&config), &diag);
    if (r < 0 && diag.message[0]) /* the image's fault: no use to try again at once */
        start_failed(unit, diag.message);
    else if (r < 0)
        create_failed(unit, "CreateContainerError", strerror(-r));
}

/* A container that could not be created or started counts as a run that failed at once. */
static void start_failed(struct unit *unit, const char *text) {
    char message[CONTAINER_MESSAGE_MAX], why[CONTAINER_MESSAGE_MAX + 200];
    snprintf(message, sizeof message, "%.*s", SLICE_ARG(slice_trim(slice_of(text))));
    int64_t now = loop_wall_ns(unit->pod->node->loop);
    termination_explain_start(message, why, sizeof why);
    event_pod(unit->pod, unit, "Warning", "Failed", "Error: %s", why);
    unit->current = (struct termination){.set = true, .code = 128, .reason = "StartError", .started_ns = now, .finished_ns = now};
    snprintf(unit->current.message, sizeof unit->current.message, "%s", why);
    snprintf(unit->current.id, sizeof unit->current.id, "%s", unit->id);
    unit->stage = UNIT_EXITED;
    unit->stopping = false;
    if (unit->container)
        unit_remove_container(unit);
    else if (container_delete_id(unit->pod->node->containers, unit->id, on_deleted, unit->pod) == 0)
        unit->pod->deletions++;
    record_save(unit->pod);
    pod_sync_later(unit->pod);
}

static void begin_start(struct unit *unit) {
    struct diag diag = DIAG_INIT;
    unit->stage = UNIT_STARTING;
    int r = container_start(unit->container, on_started, &diag);
    if (r < 0)
        start_failed(unit, diag.message[0] ? diag.message : strerror(-r));
}

static void on_created(void *userdata, int error, const char *message) {
    struct unit *unit = userdata;
    if (error && error != -EIO)
        return create_failed(unit, "CreateContainerError", message);
    if (error)
        return start_failed(unit, message);
    event_pod(unit->pod, unit, "Normal", "Created", "Created container: %s", unit->spec->name);
    if (unit->stopping) { /* it never ran */
        unit->stopping = false;
        unit_remove_container(unit);
        unit_wait_with(unit, "ContainerCreating", "%s", "");
        pod_sync_later(unit->pod);
        return;
    }
    begin_start(unit);
}

/* --- running --- */

static void mark_running(struct unit *unit, bool adopted) {
    unit->create_delay_ms = 0;
    unit->stage = UNIT_RUNNING;
    if (!adopted)
        unit->started_ns = loop_wall_ns(unit->pod->node->loop);
    unit->started_ms = now_ms(unit) - MAX(0, loop_wall_ns(unit->pod->node->loop) - unit->started_ns) / 1000000;
    rotation_watch(unit);
}

static void on_started(void *userdata, int error, const char *message) {
    struct unit *unit = userdata;
    if (error)
        return start_failed(unit, message);
    mark_running(unit, false);
    event_pod(unit->pod, unit, "Normal", "Started", "Started container %s", unit->spec->name);
    remove_old_run(unit);
    if (unit->stopping) {
        unit->stopping = false;
        unit_stop(unit, unit->grace_ms / 1000, NULL);
    } else if (!hooks_post_start(unit)) {
        probing_begin(unit);
    }
    record_save(unit->pod); /* with the hook: should we die, it is owed */
    pod_sync_later(unit->pod);
}

void unit_is_up(struct unit *unit) {
    probing_begin(unit);
    record_save(unit->pod);
    pod_sync_later(unit->pod);
}

/* --- the end of a run --- */

static void on_exit_code(void *userdata, const struct container_exit *exit) {
    struct unit *unit = userdata;
    struct termination *end = &unit->current;
    char path[PATH_MAX];
    probing_end(unit);
    hooks_unit_ended(unit);
    loop_timer_cancel(&unit->kill_timer);
    rotation_forget(unit);
    if (unit->stage == UNIT_STARTING) /* so short that its end was seen first */
        unit->started_ns = exit->finished_ns;
    *end = (struct termination){.set = true, .code = exit->code, .started_ns = unit->started_ns, .finished_ns = exit->finished_ns};
    snprintf(end->reason, sizeof end->reason, "%s",
             !exit->is_known                  ? "ContainerStatusUnknown"
             : exit->oom_killed && exit->code ? "OOMKilled"
             : exit->code                     ? "Error"
                                              : "Completed");
    snprintf(end->id, sizeof end->id, "%s", unit->id);
    run_path(unit, "termination-log", path);
    if (!exit->is_known)
        snprintf(end->message, sizeof end->message, "The container could not be located when the pod was terminated");
    else
        termination_read_message(unit, path, end->message, sizeof end->message);
    unit->stage = UNIT_EXITED;
    unit->ready = unit->started = false;
    unit->stopping = unit->term_sent = false;
    session_unit_ended(unit->pod->node, unit);
    unit_settle(unit);
    pod_sync_later(unit->pod);
}

/* A container whose end could not be written down is all that tells it. One whose pod is deleted or
 * evicted is in the way of the space that may be lacking. */
void unit_settle(struct unit *unit) {
    if (unit->stage != UNIT_EXITED || !unit->container)
        return;
    if (record_save(unit->pod) < 0 && !pod_is_deleted(unit->pod) && !unit->pod->failed_reason[0])
        loop_timer_set(&unit->timer, SAVE_AGAIN_MS);
    else
        unit_remove_container(unit);
}

/* --- after a restart of the node --- */

/* A node that was killed meanwhile is no reason to try again sooner. */
static void go_on_waiting(struct unit *unit) {
    int64_t delay_ms = unit->backoff.delay_ms;
    int64_t left_ms = unit->last.finished_ns / 1000000 + delay_ms - loop_wall_ns(unit->pod->node->loop) / 1000000;
    if (unit->last.set && left_ms > 0)
        unit_back_off(unit, delay_ms, MIN(left_ms, delay_ms)); /* at most: the clock may have been set */
}

/* What ran in a sandbox that is gone has ended with it, and what was initialised in there is not any more: as kubelet, init containers run again,
 * and nothing does in a pod that never restarts. */
void unit_lose_sandbox(struct unit *unit) {
    backoff_reset(&unit->backoff);
    unit->start_at_ms = 0;
    if (unit->stage == UNIT_WAITING)
        unit_wait_with(unit, unit->pod->units[0]->is_init ? "PodInitializing" : "ContainerCreating", "%s", "");
    else if (unit_is_busy(unit))
        unit_stop(unit, 0, NULL);
    else if (unit->is_init && !unit->is_sidecar && !unit_failed(unit) && strcmp(pod_restart_policy(unit->pod), "Never") != 0) {
        unit->last = unit->current;
        unit->current = (struct termination){.set = false};
        unit_wait_with(unit, "PodInitializing", "%s", "");
    }
}

void unit_adopt(struct unit *unit) {
    char log[PATH_MAX], group[QOS_PATH_BYTES];
    if (unit->stage == UNIT_WAITING)
        go_on_waiting(unit);
    if (unit->stage == UNIT_WAITING || unit->stage == UNIT_EXITED)
        return;
    unit_log_path(unit, unit->restart_count, log);
    qos_container_path(unit, group);
    const struct container_options options = {
        .id = unit->id, .name = unit->spec->name, .log_path = log, .cgroup_path = group, .on_exit = on_exit_code, .userdata = unit};
    int r = container_adopt(unit->pod->node->containers, &options, &unit->container);
    if (r == 0) {
        bool started = container_is_started(unit->container);
        bool was_running = unit->stage == UNIT_RUNNING, owes_hook = !was_running || unit->post_starting;
        if (!started)
            return begin_start(unit);
        if (!was_running)
            unit->started_ns = container_started_ns(unit->container);
        mark_running(unit, true);
        security_adopt_user(unit);
        if (!owes_hook || !hooks_post_start(unit))
            probing_begin(unit);
        unit_find_image(unit);
        return;
    }
    kill_group(unit);
    if (unit->stage == UNIT_RUNNING) { /* its bundle is gone: the machine was restarted */
        unit->current = (struct termination){
            .set = true, .code = 255, .reason = "Unknown", .started_ns = unit->started_ns, .finished_ns = loop_wall_ns(unit->pod->node->loop)};
        snprintf(unit->current.id, sizeof unit->current.id, "%s", unit->id);
        unit->ready = unit->started = unit->post_starting = false;
        unit->stage = UNIT_EXITED;
        backoff_reset(&unit->backoff); /* not its fault */
        return;
    }
    forget_run(unit);
    unit_wait_with(unit, "ContainerCreating", "%s", "");
}
