/* StatefulSet: pods with an identity (upstream: pkg/controller/statefulset, 1.32; with MaxUnavailableStatefulSet).
 *
 * A pod is <set>-<ordinal>: its name, host name and claims stay when it is replaced. Since a name is there once in the store, there are never two
 * pods of one identity; a pod that has failed or does not answer is deleted and only made again when it is gone.
 *
 * One run, in upstream's order:
 *   1. pods in range, lowest ordinal first: failed ones are deleted, missing ones made (claims first), identity, volumes and the claims' owners put
 *      right;
 *   2. pods beyond the range, highest first, are deleted;
 *   3. RollingUpdate: pods of another revision, highest ordinal first, down to the partition, are deleted, to be made again by 1.
 * With OrderedReady each run takes one step, and none while a pod before it is not running, ready and available. So a rollout to a template whose
 * pods never become ready waits until somebody deletes the broken pod, even after the template is repaired: upstream's documented behaviour, which
 * operators rely on. With Parallel nobody waits. maxUnavailable (unset: 1) bounds step 3; what is unavailable already counts.
 *
 * A template's revision is a ControllerRevision (history.c). Pods below the partition are made from status.currentRevision, others from
 * status.updateRevision; when all are of the latter it becomes the former. */
#include "control/stateful_set_priv.h"

#define LABEL_POD_NAME "statefulset.kubernetes.io/pod-name"
#define LABEL_POD_INDEX "apps.kubernetes.io/pod-index"
#define REPLICAS_MAX 100000

static const struct history_options history_options = {.hash_label = "controller.kubernetes.io/hash"};

static bool selects(const struct kube_object *set, const struct kube_string_map *labels) {
    return kube_selector_matches(set->stateful_set->spec.selector, labels);
}

static bool has_claim(const struct kube_object *set, const struct kube_string_map *labels) {
    (void)labels;
    return set->stateful_set->spec.volume_claim_templates.count > 0;
}

int stateful_set_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_stateful_set)
        return control_enqueue_object(control, CONTROLLER_STATEFUL_SET, some);
    if (some->kind == &kube_kind_controller_revision)
        return control_enqueue_controller_of(control, CONTROLLER_STATEFUL_SET, &kube_kind_stateful_set, some);
    if (some->kind == &kube_kind_pod)
        return control_enqueue_for_pod(control, CONTROLLER_STATEFUL_SET, &kube_kind_stateful_set, object, old, selects);
    if (some->kind == &kube_kind_persistent_volume_claim && (!object || (old && is_deleting(object) != is_deleting(old))))
        return control_enqueue_adopters(control, CONTROLLER_STATEFUL_SET, &kube_kind_stateful_set, some, has_claim);
    return 0;
}

/* ---- who is who ---- */

/* -1: not a name of the set's pods. */
static int32_t ordinal_of(const struct kube_object *set, const struct kube_object *pod) {
    const char *name = pod->metadata->name;
    size_t len = strlen(set->metadata->name);
    uint64_t ordinal;
    if (strncmp(name, set->metadata->name, len) != 0 || name[len] != '-' || (name[len + 1] == '0' && name[len + 2]) ||
        slice_parse_u64(slice_of(name + len + 1), (uint64_t)INT32_MAX, &ordinal) < 0)
        return -1;
    return (int32_t)ordinal;
}

static bool is_member(const struct kube_object *set, const struct kube_object *pod) {
    return ordinal_of(set, pod) >= 0;
}

const char *member_name(const struct ensemble *ensemble, int32_t ordinal) {
    const char *name = arena_printf(ensemble->context->arena, "%s-%" PRId32, ensemble->object->metadata->name, ordinal);
    if (!name)
        context_fail(ensemble->context);
    return name;
}

static int compare_descending(const void *left, const void *right) {
    const struct kube_object *a = (*(const struct managed *const *)left)->object, *b = (*(const struct managed *const *)right)->object;
    size_t a_len = strlen(a->metadata->name), b_len = strlen(b->metadata->name); /* numbers without leading zeros behind the same prefix */
    return a_len != b_len ? (a_len < b_len) - (a_len > b_len) : strcmp(b->metadata->name, a->metadata->name);
}

static void sort_pods(struct ensemble *ensemble) {
    size_t total = ensemble->pods.list.count;
    ensemble->replicas = ARENA_ARRAY(ensemble->context->arena, struct managed *, (size_t)ensemble->count);
    ensemble->condemned = ARENA_ARRAY(ensemble->context->arena, struct managed *, total);
    if (!ensemble->replicas || !ensemble->condemned) {
        context_fail(ensemble->context);
        return;
    }
    for (size_t i = 0; i < total; i++) {
        struct managed *pod = &ensemble->pods.list.items[i];
        int64_t place = (int64_t)ordinal_of(ensemble->object, pod->object) - ensemble->start;
        if (place >= 0 && place < ensemble->count)
            ensemble->replicas[place] = pod;
        else
            ensemble->condemned[ensemble->condemned_count++] = pod;
    }
    if (ensemble->condemned_count)
        qsort(ensemble->condemned, ensemble->condemned_count, sizeof *ensemble->condemned, compare_descending);
}

/* ---- how a pod does ---- */

static bool runs_ready(const struct kube_object *pod) {
    return text_is(pod->pod->status.phase, "Running") && kube_pod_is_ready(pod->pod);
}

static bool runs_available(const struct ensemble *ensemble, const struct kube_object *pod) {
    int64_t wait_ms = 0;
    bool available = runs_ready(pod) && pod_is_available(pod->pod, ensemble->set->spec.min_ready_seconds, ensemble->context->wall_ns, &wait_ms);
    if (wait_ms)
        context_requeue(ensemble->context, wait_ms);
    return available;
}

static bool is_unhealthy(const struct managed *pod) {
    return !pod || !runs_ready(pod->object) || is_deleting(pod->object);
}

static bool is_of(const struct managed *pod, const struct kube_object *revision) {
    return same_text(kube_map_find(&pod->object->metadata->labels, LABEL_REVISION), revision->metadata->name);
}

static const struct managed *first_unhealthy(const struct ensemble *ensemble) {
    for (int32_t i = 0; i < ensemble->count; i++)
        if (ensemble->replicas[i] && is_unhealthy(ensemble->replicas[i]))
            return ensemble->replicas[i];
    for (size_t i = ensemble->condemned_count; i-- > 0;)
        if (is_unhealthy(ensemble->condemned[i]))
            return ensemble->condemned[i];
    return NULL;
}

/* ---- status ---- */

static void count_pods(const struct ensemble *ensemble, struct kube_stateful_set_status *status) {
    status->replicas = status->ready_replicas = status->available_replicas = status->current_replicas = status->updated_replicas = 0;
    for (size_t i = 0; i < ensemble->pods.list.count; i++) {
        const struct managed *pod = &ensemble->pods.list.items[i];
        status->replicas++;
        status->ready_replicas += runs_ready(pod->object);
        status->available_replicas += runs_available(ensemble, pod->object);
        if (is_deleting(pod->object))
            continue;
        status->current_replicas += is_of(pod, ensemble->current);
        status->updated_replicas += is_of(pod, ensemble->history.update);
    }
}

static bool is_rolling(const struct ensemble *ensemble) {
    return !text_is(ensemble->set->spec.update_strategy.type, "OnDelete");
}

static void write_status(struct ensemble *ensemble) {
    struct kube_stateful_set_status *status = &ensemble->status->stateful_set->status;
    const struct kube_object *update = ensemble->history.update;
    count_pods(ensemble, status);
    status->observed_generation = ensemble->object->metadata->generation;
    status->current_revision = arena_strdup(ensemble->status->arena, ensemble->current->metadata->name);
    status->update_revision = arena_strdup(ensemble->status->arena, update->metadata->name);
    status->collision_count = int32_new(ensemble->status->arena, ensemble->history.collision_count);
    if (!status->current_revision || !status->update_revision || !status->collision_count)
        context_fail(ensemble->context);
    if (is_rolling(ensemble) && status->updated_replicas == ensemble->count && status->ready_replicas == ensemble->count &&
        status->replicas == ensemble->count) {
        status->current_replicas = status->updated_replicas;
        status->current_revision = status->update_revision;
        ensemble->current = update;
    }
    if (!kube_equal(&kube_stateful_set_status_type, status, &ensemble->set->status))
        context_update_status(ensemble->context, TAKE(ensemble->status));
}

/* ---- pods ---- */

static int set_identity(const struct ensemble *ensemble, struct kube_object *pod, int32_t ordinal) {
    const char *index = arena_printf(ensemble->context->arena, "%" PRId32, ordinal);
    if (!index || kube_map_set(&pod->metadata->labels, pod->arena, LABEL_POD_NAME, pod->metadata->name) < 0)
        return -ENOMEM;
    return kube_map_set(&pod->metadata->labels, pod->arena, LABEL_POD_INDEX, index);
}

static bool bears_identity(const struct kube_object *pod) {
    return same_text(kube_map_find(&pod->metadata->labels, LABEL_POD_NAME), pod->metadata->name) &&
           kube_map_find(&pod->metadata->labels, LABEL_POD_INDEX);
}

/* Below the partition the revision that was there before. */
static const struct kube_object *revision_for(const struct ensemble *ensemble, int32_t place) {
    const struct kube_rolling_update_stateful_set_strategy *rolling = ensemble->set->spec.update_strategy.rolling_update;
    bool keeps = is_rolling(ensemble) && place < (rolling ? int32_or(rolling->partition, 0) : ensemble->set->status.current_replicas);
    return keeps ? ensemble->current : ensemble->history.update;
}

static struct kube_object *make_pod(const struct ensemble *ensemble, int32_t ordinal) {
    const struct kube_object *revision = revision_for(ensemble, ordinal - ensemble->start);
    const struct kube_pod_template_spec *template =
        revision == ensemble->history.update ? &ensemble->set->spec.template : history_template(&ensemble->history, revision);
    if (!template) { /* somebody has emptied the revision */
        revision = ensemble->history.update;
        template = &ensemble->set->spec.template;
    }
    const char *name = member_name(ensemble, ordinal);
    struct kube_object *pod = name ? pod_from_template(ensemble->context, template, ensemble->object) : NULL;
    if (!pod)
        return NULL;
    pod->metadata->name = arena_strdup(pod->arena, name);
    pod->pod->spec.hostname = pod->metadata->name;
    const char *service = ensemble->set->spec.service_name;
    pod->pod->spec.subdomain = service ? arena_strdup(pod->arena, service) : NULL;
    if (pod->metadata->name && set_identity(ensemble, pod, ordinal) == 0 && claim_set_volumes(ensemble, pod, ordinal) == 0 &&
        kube_map_set(&pod->metadata->labels, pod->arena, LABEL_REVISION, revision->metadata->name) == 0)
        return pod;
    kube_object_unref(pod);
    context_fail(ensemble->context);
    return NULL;
}

static void create_pod(struct ensemble *ensemble, int32_t ordinal) {
    struct context *context = ensemble->context;
    const char *name = ensemble->object->metadata->name, *failure = ensemble->created == 0 ? context_failure(context) : NULL;
    struct kube_object *pod = make_pod(ensemble, ordinal);
    if (!pod)
        return;
    if (failure)
        context_event(context, ensemble->object, "Warning", "FailedCreate", "create Pod %s in StatefulSet %s failed error: %s", pod->metadata->name,
                      name, failure);
    claim_create_missing(ensemble, ordinal);
    context_create(context, pod);
    context_event(context, ensemble->object, "Normal", "SuccessfulCreate", "create Pod %s in StatefulSet %s successful",
                  member_name(ensemble, ordinal), name);
    ensemble->created++;
}

static void delete_pod(const struct ensemble *ensemble, const struct managed *pod) {
    context_delete(ensemble->context, pod->object, NULL, -1);
    context_event(ensemble->context, ensemble->object, "Normal", "SuccessfulDelete", "delete Pod %s in StatefulSet %s successful",
                  pod->object->metadata->name, ensemble->object->metadata->name);
}

static void put_right(const struct ensemble *ensemble, struct managed *pod, int32_t ordinal) {
    claim_apply_retention(ensemble, ordinal, pod->object);
    bool volumes = claim_volumes_match(ensemble, pod->object->pod, ordinal), identity = bears_identity(pod->object);
    if (!volumes)
        claim_create_missing(ensemble, ordinal);
    if (identity)
        return; /* volumes of a pod cannot be changed: the next one has them */
    struct kube_object *copy = managed_change(ensemble->context, pod);
    if (copy && set_identity(ensemble, copy, ordinal) < 0)
        context_fail(ensemble->context);
}

/* False: whoever goes by the order waits here. */
static bool process_replica(struct ensemble *ensemble, int32_t place) {
    struct managed *pod = ensemble->replicas[place];
    int32_t ordinal = ensemble->start + place;
    if (pod && pod_is_finished(pod->object->pod)) {
        if (!is_deleting(pod->object))
            delete_pod(ensemble, pod);
        return false;
    }
    if (!pod) {
        if (ensemble->created < CREATES_PER_RECONCILE_MAX && !claim_is_stale(ensemble, ordinal))
            create_pod(ensemble, ordinal);
        return false;
    }
    if (text_is(pod->object->pod->status.phase, "Pending"))
        claim_create_missing(ensemble, ordinal);
    bool settled = !is_deleting(pod->object) && runs_available(ensemble, pod->object);
    if (settled || !ensemble->monotonic)
        put_right(ensemble, pod, ordinal);
    return settled;
}

static bool process_replicas(struct ensemble *ensemble) {
    for (int32_t i = 0; i < ensemble->count && !ensemble->context->error; i++)
        if (!process_replica(ensemble, i) && ensemble->monotonic)
            return false;
    return true;
}

/* ---- fewer ---- */

static bool process_condemned(const struct ensemble *ensemble) {
    const struct managed *unhealthy = first_unhealthy(ensemble);
    for (size_t i = 0; i < ensemble->condemned_count; i++)
        claim_apply_retention(ensemble, ordinal_of(ensemble->object, ensemble->condemned[i]->object), ensemble->condemned[i]->object);
    bool ended = false;
    for (size_t i = 0; i < ensemble->condemned_count; i++) {
        const struct managed *pod = ensemble->condemned[i];
        if (!pod_is_finished(pod->object->pod) || is_deleting(pod->object))
            continue;
        delete_pod(ensemble, pod); /* it will never be ready again: whoever waited for that (as upstream does) would wait for ever */
        ended = true;
    }
    for (size_t i = 0; i < ensemble->condemned_count && !ended; i++) {
        const struct managed *pod = ensemble->condemned[i];
        bool waits = !runs_available(ensemble, pod->object) && pod != unhealthy;
        if (ensemble->monotonic && (is_deleting(pod->object) || waits))
            return false;
        if (is_deleting(pod->object))
            continue;
        delete_pod(ensemble, pod);
        if (ensemble->monotonic)
            return false;
    }
    return !ended;
}

/* ---- another template ---- */

/* maxUnavailable of the strategy, at least one. */
static int32_t unavailable_max(const struct ensemble *ensemble) {
    const struct kube_rolling_update_stateful_set_strategy *rolling = ensemble->set->spec.update_strategy.rolling_update;
    int most = 1;
    if (rolling && rolling->max_unavailable)
        kube_int_or_percent(rolling->max_unavailable, ensemble->count, true, &most);
    return MAX(1, most);
}

/* From the highest ordinal down. A pod of another revision that does not serve goes for free; of the others as many as maxUnavailable leaves. (With
 * Parallel upstream's older algorithm may take a second one, when the template changes again while the first is away.) */
static void update_pods(const struct ensemble *ensemble) {
    const struct kube_rolling_update_stateful_set_strategy *rolling = ensemble->set->spec.update_strategy.rolling_update;
    int32_t partition = MAX(0, rolling ? int32_or(rolling->partition, 0) : 0), most = unavailable_max(ensemble), unavailable = 0;
    for (int32_t i = 0; i < ensemble->count; i++)
        unavailable += is_unhealthy(ensemble->replicas[i]) || !runs_available(ensemble, ensemble->replicas[i]->object);
    for (int32_t i = ensemble->count; i-- > partition;) {
        const struct managed *pod = ensemble->replicas[i];
        if (!pod || is_of(pod, ensemble->history.update) || is_deleting(pod->object))
            continue;
        bool costs = !is_unhealthy(pod) && runs_available(ensemble, pod->object);
        if (costs && unavailable >= most)
            continue;
        unavailable += costs;
        delete_pod(ensemble, pod);
    }
}

/* ---- one run ---- */

static void step(struct ensemble *ensemble) {
    const struct kube_stateful_set_status *status = &ensemble->set->status;
    struct history *history = &ensemble->history;
    ensemble->current = history_find(history, status->current_revision);
    if (!ensemble->current)
        ensemble->current = history->update;
    sort_pods(ensemble);
    if (ensemble->context->error)
        return;
    if (!is_deleting(ensemble->object))
        history_write(history);
    write_status(ensemble);
    if (is_deleting(ensemble->object))
        return;
    if (process_replicas(ensemble) && process_condemned(ensemble) && is_rolling(ensemble))
        update_pods(ensemble);
    history_truncate(history, int32_or(ensemble->set->spec.revision_history_limit, 10), ensemble->current, &ensemble->pods);
}

void stateful_set_reconcile(struct context *context) {
    const struct kube_object *object = context_get(context, context->kind, context->namespace, context->name);
    if (!object)
        return;
    const struct kube_stateful_set_spec *spec = &object->stateful_set->spec;
    struct ensemble ensemble = {.context = context, .object = object, .set = object->stateful_set};
    ensemble.status = context_copy(context, object);
    if (!ensemble.status)
        return;
    ensemble.start = spec->ordinals ? spec->ordinals->start : 0;
    ensemble.count = MAX(0, MIN(int32_or(spec->replicas, 1), REPLICAS_MAX));
    ensemble.monotonic = !text_is(spec->pod_management_policy, "Parallel");
    context_claim(context, &kube_kind_pod, object, spec->selector, is_member, &ensemble.pods);
    history_collect(context, object, spec->selector, &spec->template, int32_or(object->stateful_set->status.collision_count, 0), &history_options,
                    &ensemble.history);
    if (!context->error)
        step(&ensemble);
    kube_object_unref(ensemble.status);
    managed_flush(context, &ensemble.pods);
    history_deinit(&ensemble.history);
}
