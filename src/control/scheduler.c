/* The scheduler (upstream: pkg/scheduler, 1.32, with its default plugins).
 *
 * One key for all pending pods: a run places them one after the other and counts what it has just placed, so two pods never get the same room, and
 * its actions are committed before the next run. Pods are taken by priority, then age.
 *
 *   pending ─┬─(a node fits)──► its claims are settled ──► bound
 *            ├─(pods of less priority are in the way)──► they are deleted; nominated, it waits for them
 *            └─(no node)──► PodScheduled=False says why, until something changes that could help
 *
 * Invariants
 *  1. Nothing polls: a run comes of a change that can make a pod fit (see scheduler_on_change), and of none while no pod is pending. But an event
 *     lives for an hour, and a pod may wait for days: as upstream, it is said again every REMIND_S why.
 *  2. A pod that waits and whose reason stays the same is not written again.
 *  3. Each pod's actions are a group: one that cannot be bound does not hold up the others.
 * Pods of other schedulers are left alone; gated ones are told that they are. */
#include <stdio.h>

#include "control/scheduler_priv.h"

#define REMIND_S 300
#define NEVER_SAID ((void *)1)
#define GATED_MESSAGE "Scheduling is blocked due to non-empty scheduling gates"

static bool is_ours(const struct kube_object *pod) {
    const char *scheduler = pod->pod->spec.scheduler_name;
    return !pod->pod->spec.node_name && !is_deleting(pod) && !pod_is_finished(pod->pod) && (!scheduler || text_is(scheduler, "default-scheduler"));
}

/* ---- what wakes it ---- */

/* Heartbeats do not make room. */
static bool node_matters(const struct kube_object *node, const struct kube_object *old) {
    return !node || !old || is_deleting(node) != is_deleting(old) || !kube_equal(&kube_node_spec_type, &node->node->spec, &old->node->spec) ||
           !kube_equal(&kube_node_status_type, &(struct kube_node_status){.allocatable = node->node->status.allocatable},
                       &(struct kube_node_status){.allocatable = old->node->status.allocatable}) ||
           !kube_equal(&kube_object_meta_type, &(struct kube_object_meta){.labels = node->metadata->labels},
                       &(struct kube_object_meta){.labels = old->metadata->labels});
}

static bool same_labels(const struct kube_object *a, const struct kube_object *b) {
    return kube_equal(&kube_object_meta_type, &(struct kube_object_meta){.labels = a->metadata->labels},
                      &(struct kube_object_meta){.labels = b->metadata->labels});
}

static bool holds_room(const struct kube_object *pod) {
    return pod && pod->pod->spec.node_name && !pod_is_finished(pod->pod);
}

/* Room was given back, or a pod came that another wants to be near to. */
static bool pod_helps(const struct kube_object *pod, const struct kube_object *old) {
    if (holds_room(pod) != holds_room(old))
        return true;
    return holds_room(pod) && (!same_labels(pod, old) || !kube_equal(&kube_pod_spec_type, &pod->pod->spec, &old->pod->spec));
}

static bool claim_helps(const struct kube_object *claim, const struct kube_object *old) {
    return claim && (!old || claim_is_bound(claim) != claim_is_bound(old) || is_deleting(claim) != is_deleting(old) ||
                     !same_text(claim_class(claim), claim_class(old)));
}

static bool volume_helps(const struct kube_object *volume, const struct kube_object *old) {
    return volume && (!old || !same_text(volume->persistent_volume->status.phase, old->persistent_volume->status.phase) ||
                      !kube_equal(&kube_persistent_volume_spec_type, &volume->persistent_volume->spec, &old->persistent_volume->spec));
}

static bool other_helps(const struct kube_object *object, const struct kube_object *old) {
    const struct kube_kind *kind = (object ? object : old)->kind;
    if (kind == &kube_kind_node)
        return node_matters(object, old);
    if (kind == &kube_kind_persistent_volume_claim)
        return claim_helps(object, old);
    if (kind == &kube_kind_persistent_volume)
        return volume_helps(object, old);
    if (kind == &kube_kind_storage_class)
        return object != NULL;
    return kind == &kube_kind_namespace && object && old && !same_labels(object, old);
}

static int wake(struct control *control) {
    return control_enqueue(control, CONTROLLER_SCHEDULER, &kube_kind_pod, NULL, "");
}

#define KEY_BYTES 600
static struct slice key_of(const struct kube_object *pod, char bytes[KEY_BYTES]) {
    int len = snprintf(bytes, KEY_BYTES, "%s/%s", pod->metadata->namespace, pod->metadata->name);
    return slice_make(bytes, (size_t)MIN(len, KEY_BYTES - 1));
}

/* Keeps the set of pending pods. */
static int pod_changed(struct control *control, const struct kube_object *pod, const struct kube_object *old) {
    char bytes[KEY_BYTES];
    struct slice name = key_of(pod ? pod : old, bytes);
    if (pod && is_ours(pod)) {
        bool changed = !old || !is_ours(old) || !kube_equal(&kube_pod_spec_type, &pod->pod->spec, &old->pod->spec) || !same_labels(pod, old);
        int r = map_find(control->pending, name) ? 0 : map_put(control->pending, name, NEVER_SAID, NULL);
        return r < 0 || !changed ? r : wake(control);
    }
    map_remove(control->pending, name);
    return map_count(control->pending) && pod_helps(pod, old) ? wake(control) : 0;
}

int scheduler_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    if ((object ? object : old)->kind == &kube_kind_pod)
        return pod_changed(control, object, old);
    return map_count(control->pending) && other_helps(object, old) ? wake(control) : 0;
}

/* ---- what comes of it ---- */

static void bind(struct snapshot *snapshot, const struct wish *wish, struct host *host) {
    struct context *context = snapshot->context;
    const char *node = host->object->metadata->name;
    host_add(snapshot, host, wish->occupant);
    if (!claims_bind(snapshot, wish, host))
        return; /* the pod follows when its claims are bound */
    struct kube_object *bound = context_copy(context, wish->object);
    if (bound)
        bound->pod->spec.node_name = arena_strdup(bound->arena, node);
    if (!bound || !bound->pod->spec.node_name || pod_put_condition(context, bound, "PodScheduled", "True", NULL, NULL) < 0) {
        kube_object_unref(bound);
        context_fail(context);
        return;
    }
    bound->pod->status.nominated_node_name = NULL;
    context_bind(context, bound); /* in one write: by the condition the node knows that somebody has looked whether it fits */
    context_event(context, wish->object, "Normal", "Scheduled", "Successfully assigned %s/%s to %s", wish->object->metadata->namespace,
                  wish->object->metadata->name, node);
}

static int compare_reasons(const void *left, const void *right) {
    const char *const *a = left, *const *b = right;
    return strcmp(*a, *b);
}

const char *verdict_format(struct context *context, const struct verdict *verdict, size_t hosts) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * KIB);
    const char *lines[ARRAY_LEN(verdict->reasons)];
    for (size_t i = 0; i < verdict->count; i++)
        if (!(lines[i] = arena_printf(context->arena, "%zu %s", verdict->reasons[i].count, verdict->reasons[i].text))) {
            context_fail(context);
            return "";
        }
    qsort(lines, verdict->count, sizeof *lines, compare_reasons);
    buffer_printf(&text, "0/%zu nodes are available:", hosts);
    for (size_t i = 0; i < verdict->count; i++)
        buffer_printf(&text, "%s %s", i ? "," : "", lines[i]);
    buffer_append_byte(&text, '.');
    const char *result = arena_dup(context->arena, buffer_slice(&text));
    if (!result)
        context_fail(context);
    return result ? result : "";
}

/* It was long ago that it was said why the pod waits; from now on it was just now. */
static bool remind(struct context *context, const struct kube_object *pod) {
    char bytes[KEY_BYTES];
    struct slice key = key_of(pod, bytes);
    int64_t now_s = context->wall_ns / NS_PER_S, said_s = (intptr_t)map_find(context->control->pending, key), left_s = said_s + REMIND_S - now_s;
    bool is_due = said_s && (left_s <= 0 || left_s > REMIND_S);
    context_requeue(context, (is_due || !said_s ? REMIND_S : left_s) * 1000);
    if (is_due && map_put(context->control->pending, key, (void *)(intptr_t)now_s, NULL) < 0)
        context_fail(context);
    return is_due;
}

/* Says why it waits, and where it is nominated to (NULL: nowhere); nothing when that is known. */
static void give_up(struct context *context, const struct kube_object *pod, const char *reason, const char *message, const char *nominated) {
    const struct kube_pod_condition *present = pod_condition(pod->pod, "PodScheduled");
    bool is_said = present && text_is(present->status, "False") && same_text(present->reason, reason) && same_text(present->message, message);
    bool is_refused = text_is(reason, "Unschedulable");
    if (is_refused && (remind(context, pod) || !is_said))
        context_event(context, pod, "Warning", "FailedScheduling", "%s", message);
    if (is_said && same_text(pod->pod->status.nominated_node_name, nominated))
        return;
    struct kube_object *copy = context_copy(context, pod);
    if (!copy || pod_put_condition(context, copy, "PodScheduled", "False", reason, message) < 0) {
        kube_object_unref(copy);
        context_fail(context);
        return;
    }
    copy->pod->status.nominated_node_name = nominated ? arena_strdup(copy->arena, nominated) : NULL;
    context_update_status(context, copy);
}

/* Keeps the room of its nominated node against those that come after it. */
static void nominate(struct snapshot *snapshot, const struct wish *wish, struct host *host) {
    wish->occupant->waits = true;
    host_add(snapshot, host, wish->occupant);
}

static void find_no_node(struct snapshot *snapshot, struct wish *wish, const struct verdict *verdict, const enum fit *fits_now) {
    struct context *context = snapshot->context;
    const char *why, *nominated = wish->object->pod->status.nominated_node_name;
    const char *message = wish->refusal ? arena_printf(context->arena, "0/%zu nodes are available: %s.", snapshot->hosts_count, wish->refusal)
                                        : verdict_format(context, verdict, snapshot->hosts_count);
    struct host *host = preempt(snapshot, wish, fits_now, &why);
    if (host)
        nominated = host->object->metadata->name;
    else if (why && strncmp(why, "not eligible", 12) != 0)
        nominated = NULL;
    if (!host && message)
        message = arena_printf(context->arena, "%s preemption: %s", message, why);
    if (!message) {
        context_fail(context);
        return;
    }
    give_up(context, wish->object, "Unschedulable", message, nominated);
    host = host_find(snapshot, nominated);
    if (host)
        nominate(snapshot, wish, host);
}

/* ---- one pod ---- */

static void place(struct snapshot *snapshot, const struct kube_object *pod) {
    struct context *context = snapshot->context;
    struct verdict verdict = {.count = 0};
    struct wish wish = {.object = pod, .spec = &pod->pod->spec, .occupant = occupant_new(snapshot, pod)};
    struct host **fitting = ARENA_ARRAY(context->arena, struct host *, snapshot->hosts_count);
    enum fit *fits_now = ARENA_ARRAY(context->arena, enum fit, snapshot->hosts_count);
    size_t count = 0;
    if (!wish.occupant || !fitting || !fits_now) {
        context_fail(context);
        return;
    }
    if (snapshot->hosts_count == 0) {
        give_up(context, pod, "Unschedulable", "no nodes available to schedule pods", NULL);
        return;
    }
    claims_prepare(snapshot, &wish);
    affinity_prepare(snapshot, &wish);
    for (size_t i = 0; i < snapshot->hosts_count && !context->error; i++) {
        fits_now[i] = wish.refusal ? FITS_NEVER : fits(snapshot, &wish, &snapshot->hosts[i], &verdict);
        if (fits_now[i] == FITS)
            fitting[count++] = &snapshot->hosts[i];
    }
    if (count && !context->error)
        bind(snapshot, &wish, choose(snapshot, &wish, fitting, count));
    else if (!context->error)
        find_no_node(snapshot, &wish, &verdict, fits_now);
}

/* ---- all pods ---- */

static int compare_urgency(const void *left, const void *right) {
    const struct kube_object *a = *(const struct kube_object *const *)left, *b = *(const struct kube_object *const *)right;
    if (pod_priority(a) != pod_priority(b))
        return pod_priority(a) > pod_priority(b) ? -1 : 1;
    int64_t age = a->metadata->creation_timestamp.ns - b->metadata->creation_timestamp.ns;
    return age ? (age > 0) - (age < 0) : strcmp(a->metadata->name, b->metadata->name);
}

static void place_all(struct snapshot *snapshot, const struct objects *pods) {
    struct context *context = snapshot->context;
    const struct kube_object **pending = ARENA_ARRAY(context->arena, const struct kube_object *, pods->list.count);
    size_t count = 0;
    for (size_t i = 0; pending && i < pods->list.count; i++)
        if (is_ours(pods->list.items[i]))
            pending[count++] = pods->list.items[i];
    if (!pending)
        context_fail(context);
    if (count)
        qsort(pending, count, sizeof *pending, compare_urgency);
    for (size_t i = 0; i < count && !context->error; i++) {
        context->group++;
        if (pending[i]->pod->spec.scheduling_gates.count)
            give_up(context, pending[i], "SchedulingGated", GATED_MESSAGE, NULL);
        else
            place(snapshot, pending[i]);
    }
}

void scheduler_reconcile(struct context *context) {
    struct objects pods = {.list = {.items = NULL}}, nodes = {.list = {.items = NULL}};
    struct snapshot snapshot;
    context_list(context, &kube_kind_pod, NULL, &pods);
    context_list(context, &kube_kind_node, NULL, &nodes);
    snapshot_init(&snapshot, context, &pods, &nodes);
    if (!context->error)
        place_all(&snapshot, &pods);
    snapshot_deinit(&snapshot);
    objects_deinit(&nodes);
    objects_deinit(&pods);
}
