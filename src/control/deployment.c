/* Deployment: ReplicaSets per revision of the template, and moving replicas from the old to the new (upstream: pkg/controller/deployment, 1.31,
 * function by function).
 *
 * A rolling update keeps two bounds: never more than replicas + maxSurge pods, never fewer than replicas - maxUnavailable available ones. Each run
 * takes at most one kind of step (grow the new, or else shrink the old) from what is committed and available now; the next change in a pod's
 * readiness starts the next run. kubectl's rollout commands read what is kept here: the revision annotations on the ReplicaSets and the deployment
 * (history, undo), the conditions and observedGeneration (status). ReplicaSets are changed in copies, flushed once at the end of a run. */
#include "control/deployment_priv.h"

#define HISTORY_TEXT_MAX 2000 /* of the annotation that lists a revision's former numbers */

int deployment_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_kind *kind = (object ? object : old)->kind;
    if (kind == &kube_kind_deployment)
        return control_enqueue_object(control, CONTROLLER_DEPLOYMENT, object ? object : old);
    if (kind == &kube_kind_replica_set) {
        int r = control_enqueue_controller_of(control, CONTROLLER_DEPLOYMENT, &kube_kind_deployment, object);
        return r < 0 ? r : control_enqueue_controller_of(control, CONTROLLER_DEPLOYMENT, &kube_kind_deployment, old);
    }
    if (kind != &kube_kind_pod || (object && !pod_is_finished(object->pod)))
        return 0;
    /* Recreate waits until the old pods are gone: their ReplicaSet does not change any more. */
    const struct kube_owner_reference *owner = kube_controller_of((old ? old : object)->metadata);
    if (!owner || !text_is(owner->kind, "ReplicaSet"))
        return 0;
    struct context context = {.view = &control->view};
    const struct kube_object *set = context_get(&context, &kube_kind_replica_set, (old ? old : object)->metadata->namespace, owner->name);
    return control_enqueue_controller_of(control, CONTROLLER_DEPLOYMENT, &kube_kind_deployment, set);
}

/* ---- numbers ---- */

int32_t rollout_sum_replicas(const struct rollout *rollout, bool old_only) {
    int32_t sum = 0;
    for (size_t i = 0; i < rollout->count; i++)
        sum += old_only && rollout->revisions[i].is_new ? 0 : rollout->revisions[i].replicas;
    return sum;
}

int32_t rollout_sum_status(const struct rollout *rollout, bool old_only) {
    int32_t sum = 0;
    for (size_t i = 0; i < rollout->count; i++)
        sum += old_only && rollout->revisions[i].is_new ? 0 : revision_set(&rollout->revisions[i])->status.replicas;
    return sum;
}

/* A ReplicaSet that has been shrunk and has not yet acted still reports its former number: what it may keep counts, no more. (Upstream takes the
 * report as it is, and can go below the bound when the report is late.) */
static int32_t available(const struct revision *revision) {
    return MIN(revision_set(revision)->status.available_replicas, revision->replicas);
}

static int32_t sum_available(const struct rollout *rollout) {
    int32_t sum = 0;
    for (size_t i = 0; i < rollout->count; i++)
        sum += available(&rollout->revisions[i]);
    return sum;
}

static bool is_rolling(const struct kube_deployment *deployment) {
    return !text_is(deployment->spec.strategy.type, "Recreate");
}

/* maxSurge rounds up, maxUnavailable down; both zero would never move, so the latter is then one (deployment util.ResolveFenceposts). */
static void resolve_bounds(struct rollout *rollout) {
    static const struct kube_int_or_string quarter = {.is_string = true, .text = "25%"};
    const struct kube_rolling_update_deployment *rolling = rollout->deployment->spec.strategy.rolling_update;
    if (!is_rolling(rollout->deployment))
        return;
    int surge = 0, unavailable = 0;
    kube_int_or_percent(rolling && rolling->max_surge ? rolling->max_surge : &quarter, rollout->replicas, true, &surge);
    kube_int_or_percent(rolling && rolling->max_unavailable ? rolling->max_unavailable : &quarter, rollout->replicas, false, &unavailable);
    if (surge == 0 && unavailable == 0)
        unavailable = 1;
    rollout->max_surge = surge;
    rollout->max_unavailable = MIN(unavailable, rollout->replicas);
}

/* ---- revisions ---- */

static int64_t revision_number(const struct kube_object *object) {
    int64_t number = 0;
    const char *text = kube_map_find(&object->metadata->annotations, ANNOTATION_REVISION);
    return text && slice_parse_i64(slice_of(text), &number) == 0 ? number : 0;
}

static int64_t number_annotation(const struct kube_object *object, const char *key) {
    int64_t number;
    const char *text = kube_map_find(&object->metadata->annotations, key);
    return text && slice_parse_i64(slice_of(text), &number) == 0 ? number : -1;
}

static void set_annotation(struct context *context, struct kube_object *object, const char *key, const char *value) {
    if (!value || (object && kube_map_set(&object->metadata->annotations, object->arena, key, value) < 0))
        context_fail(context);
}

static void set_number_annotation(struct context *context, struct kube_object *object, const char *key, int64_t number) {
    set_annotation(context, object, key, arena_printf(context->arena, "%" PRId64, number));
}

/* Templates are equal but for the hash label. */
static bool has_template(const struct kube_replica_set *set, const struct kube_deployment *deployment, struct context *context) {
    struct kube_pod_template_spec template = set->spec.template;
    struct kube_string_map *labels = &template.metadata.labels;
    struct kube_string_pair *items = ARENA_ARRAY(context->arena, struct kube_string_pair, labels->count);
    if (!items) {
        context_fail(context);
        return false;
    }
    size_t count = 0;
    for (size_t i = 0; i < labels->count; i++)
        if (strcmp(labels->items[i].key, LABEL_HASH) != 0)
            items[count++] = labels->items[i];
    *labels = (struct kube_string_map){.items = items, .count = count};
    return kube_equal(&kube_pod_template_spec_type, &template, &deployment->spec.template);
}

static int compare_created(const void *left, const void *right) {
    const struct kube_object_meta *a = ((const struct revision *)left)->managed.object->metadata,
                                  *b = ((const struct revision *)right)->managed.object->metadata;
    int64_t difference = a->creation_timestamp.ns - b->creation_timestamp.ns;
    return difference ? (difference > 0) - (difference < 0) : strcmp(a->name, b->name);
}

static void collect_revisions(struct rollout *rollout) {
    struct context *context = rollout->context;
    struct managed_list sets = {.list = {.items = NULL}};
    context_claim(context, &kube_kind_replica_set, rollout->object, rollout->deployment->spec.selector, NULL, &sets);
    rollout->revisions = ARENA_ARRAY(context->arena, struct revision, sets.list.count + 1); /* one may be created */
    if (!rollout->revisions)
        context_fail(context);
    for (size_t i = 0; rollout->revisions && i < sets.list.count; i++) {
        struct revision *revision = &rollout->revisions[rollout->count++];
        revision->managed = sets.list.items[i];
        revision->replicas = int32_or(revision_set(revision)->spec.replicas, 1);
    }
    if (!rollout->revisions)
        for (size_t i = 0; i < sets.list.count; i++)
            kube_object_unref(sets.list.items[i].changed);
    VECTOR_DEINIT(&sets.list);
    if (rollout->count)
        qsort(rollout->revisions, rollout->count, sizeof *rollout->revisions, compare_created);
    for (size_t i = 0; i < rollout->count && !rollout->newest; i++)
        if (has_template(revision_set(&rollout->revisions[i]), rollout->deployment, context))
            rollout->newest = &rollout->revisions[i];
    if (rollout->newest)
        rollout->newest->is_new = true;
}

static int64_t old_revision_max(const struct rollout *rollout) {
    int64_t most = 0;
    for (size_t i = 0; i < rollout->count; i++)
        if (!rollout->revisions[i].is_new)
            most = MAX(most, revision_number(rollout->revisions[i].managed.object));
    return most;
}

static bool is_copied_annotation(const char *key) {
    static const char *const skipped[] = {"kubectl.kubernetes.io/last-applied-configuration",
                                          ANNOTATION_REVISION,
                                          ANNOTATION_REVISION_HISTORY,
                                          ANNOTATION_DESIRED,
                                          ANNOTATION_MAX,
                                          "deprecated.deployment.rollback.to"};
    for (size_t i = 0; i < ARRAY_LEN(skipped); i++)
        if (strcmp(key, skipped[i]) == 0)
            return false;
    return true;
}

static bool lacks_annotations(const struct rollout *rollout, const struct kube_object *set) {
    const struct kube_string_map *annotations = &rollout->object->metadata->annotations;
    for (size_t i = 0; i < annotations->count; i++)
        if (is_copied_annotation(annotations->items[i].key) &&
            !same_text(kube_map_find(&set->metadata->annotations, annotations->items[i].key), annotations->items[i].value))
            return true;
    return false;
}

static void copy_annotations(struct rollout *rollout, struct kube_object *set) {
    const struct kube_string_map *annotations = &rollout->object->metadata->annotations;
    for (size_t i = 0; i < annotations->count; i++)
        if (is_copied_annotation(annotations->items[i].key))
            set_annotation(rollout->context, set, annotations->items[i].key, annotations->items[i].value);
}

/* "1,4,7" without its first numbers, so that one more fits. */
static const char *shorten_history(const char *history, size_t more) {
    while (history && strlen(history) + 1 + more > HISTORY_TEXT_MAX) {
        const char *comma = strchr(history, ',');
        history = comma ? comma + 1 : NULL;
    }
    return history;
}

static void raise_revision(struct rollout *rollout, struct kube_object *set, int64_t number) {
    const char *old = kube_map_find(&set->metadata->annotations, ANNOTATION_REVISION);
    if (old) {
        const char *history = shorten_history(kube_map_find(&set->metadata->annotations, ANNOTATION_REVISION_HISTORY), strlen(old));
        set_annotation(rollout->context, set, ANNOTATION_REVISION_HISTORY,
                       history ? arena_printf(rollout->context->arena, "%s,%s", history, old) : old);
    }
    set_number_annotation(rollout->context, set, ANNOTATION_REVISION, number);
}

static void set_deployment_revision(struct rollout *rollout, const char *revision) {
    if (!revision || same_text(kube_map_find(&rollout->object->metadata->annotations, ANNOTATION_REVISION), revision))
        return;
    if (!rollout->changed)
        rollout->changed = context_copy(rollout->context, rollout->object);
    set_annotation(rollout->context, rollout->changed, ANNOTATION_REVISION, revision);
}

/* The ReplicaSet of the present template exists: its annotations follow the deployment's, and when it comes back (undo) it becomes the latest
 * revision. */
static void refresh_newest(struct rollout *rollout) {
    struct revision *newest = rollout->newest;
    int64_t number = old_revision_max(rollout) + 1;
    int32_t min_ready_seconds = rollout->deployment->spec.min_ready_seconds;
    bool raise = revision_number(newest->managed.object) < number, annotate = lacks_annotations(rollout, newest->managed.object);
    if (raise || annotate || revision_set(newest)->spec.min_ready_seconds != min_ready_seconds) {
        struct kube_object *set = managed_change(rollout->context, &newest->managed);
        if (!set)
            return;
        copy_annotations(rollout, set);
        if (raise)
            raise_revision(rollout, set, number);
        set->replica_set->spec.min_ready_seconds = min_ready_seconds;
    }
    set_deployment_revision(rollout, kube_map_find(&newest->managed.object->metadata->annotations, ANNOTATION_REVISION));
    if (rollout_has_deadline(rollout) && !deployment_condition(&rollout->status->deployment->status, "Progressing"))
        rollout_set_condition(rollout, "Progressing", "True", "FoundNewReplicaSet",
                              arena_printf(rollout->context->arena, "Found new replica set \"%s\"", newest->managed.object->metadata->name));
}

/* How many replicas the new one may have now (util.NewRSNewReplicas). */
static int32_t newest_replicas(const struct rollout *rollout, int32_t present) {
    if (!is_rolling(rollout->deployment))
        return rollout->replicas;
    int32_t room = rollout->replicas + rollout->max_surge - rollout_sum_replicas(rollout, false);
    return room <= 0 ? present : present + MIN(room, rollout->replicas - present);
}

static int fill_set(struct rollout *rollout, struct kube_object *object, const char *hash) {
    struct arena *arena = object->arena;
    struct kube_replica_set *set = object->replica_set;
    const struct kube_deployment *deployment = rollout->deployment;
    if (kube_copy(&kube_pod_template_spec_type, arena, &deployment->spec.template, &set->spec.template) < 0 ||
        kube_map_set(&set->spec.template.metadata.labels, arena, LABEL_HASH, hash) < 0)
        return -ENOMEM;
    set->spec.selector = ARENA_NEW(arena, struct kube_label_selector);
    if (!set->spec.selector ||
        (deployment->spec.selector && kube_copy(&kube_label_selector_type, arena, deployment->spec.selector, set->spec.selector) < 0) ||
        kube_map_set(&set->spec.selector->match_labels, arena, LABEL_HASH, hash) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < set->spec.template.metadata.labels.count; i++) {
        const struct kube_string_pair *label = &set->spec.template.metadata.labels.items[i];
        if (kube_map_set(&set->metadata.labels, arena, label->key, label->value) < 0)
            return -ENOMEM;
    }
    set->spec.min_ready_seconds = deployment->spec.min_ready_seconds;
    set->metadata.namespace = arena_strdup(arena, deployment->metadata.namespace);
    set->metadata.name = arena_printf(arena, "%.240s-%s", deployment->metadata.name, hash);
    return set->metadata.namespace && set->metadata.name ? add_controller_reference(&set->metadata, arena, rollout->object) : -ENOMEM;
}

/* The name is taken by a ReplicaSet that is not ours or has another template: the next hash. */
static bool collides(struct rollout *rollout, const char *name) {
    if (!context_get(rollout->context, &kube_kind_replica_set, rollout->object->metadata->namespace, name))
        return false;
    struct kube_deployment_status *status = &rollout->status->deployment->status;
    status->collision_count = int32_new(rollout->status->arena, int32_or(status->collision_count, 0) + 1);
    if (!status->collision_count)
        context_fail(rollout->context);
    return true;
}

static void create_newest(struct rollout *rollout) {
    struct context *context = rollout->context;
    struct kube_object *object = kube_object_new(&kube_kind_replica_set);
    char hash[12];
    kube_template_hash(&rollout->deployment->spec.template, int32_or(rollout->deployment->status.collision_count, 0), hash);
    if (!object || fill_set(rollout, object, hash) < 0) {
        kube_object_unref(object);
        context_fail(context);
        return;
    }
    if (collides(rollout, object->metadata->name)) {
        kube_object_unref(object);
        return;
    }
    int64_t number = old_revision_max(rollout) + 1;
    struct revision *revision = &rollout->revisions[rollout->count];
    *revision = (struct revision){.is_new = true, .is_created = true, .managed = {.object = object, .changed = object}};
    revision->replicas = newest_replicas(rollout, 0);
    rollout->count++;
    rollout->newest = revision;
    copy_annotations(rollout, object);
    set_number_annotation(context, object, ANNOTATION_REVISION, number);
    set_number_annotation(context, object, ANNOTATION_DESIRED, rollout->replicas);
    set_number_annotation(context, object, ANNOTATION_MAX, (int64_t)rollout->replicas + rollout->max_surge);
    object->replica_set->spec.replicas = int32_new(object->arena, revision->replicas);
    if (revision->replicas > 0)
        context_event(context, rollout->object, "Normal", "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", object->metadata->name,
                      revision->replicas);
    set_deployment_revision(rollout, arena_printf(context->arena, "%" PRId64, number));
    const char *failure = context_failure(context);
    if (failure) {
        rollout->creation_failure = arena_printf(context->arena, "Failed to create new replica set \"%s\": %s", object->metadata->name, failure);
        context_event(context, rollout->object, "Warning", "ReplicaSetCreateError", "%s", rollout->creation_failure);
    }
    if (rollout_has_deadline(rollout))
        rollout_set_condition(rollout, "Progressing", "True", "NewReplicaSetCreated",
                              arena_printf(context->arena, "Created new replica set \"%s\"", object->metadata->name));
}

/* ---- scaling ---- */

static void write_replicas(struct rollout *rollout, struct revision *revision, int32_t replicas) {
    struct kube_object *set = managed_change(rollout->context, &revision->managed);
    if (!set)
        return;
    set->replica_set->spec.replicas = int32_new(set->arena, replicas);
    set_number_annotation(rollout->context, set, ANNOTATION_DESIRED, rollout->replicas);
    set_number_annotation(rollout->context, set, ANNOTATION_MAX, (int64_t)rollout->replicas + rollout->max_surge);
    revision->replicas = replicas;
}

static bool scale(struct rollout *rollout, struct revision *revision, int32_t replicas) {
    if (revision->replicas == replicas)
        return false;
    context_event(rollout->context, rollout->object, "Normal", "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d",
                  replicas > revision->replicas ? "up" : "down", revision->managed.object->metadata->name, revision->replicas, replicas);
    write_replicas(rollout, revision, replicas);
    return true;
}

static bool annotations_need_update(const struct rollout *rollout, const struct revision *revision) {
    return number_annotation(revision->managed.object, ANNOTATION_DESIRED) != rollout->replicas ||
           number_annotation(revision->managed.object, ANNOTATION_MAX) != (int64_t)rollout->replicas + rollout->max_surge;
}

static struct revision *active_or_latest(struct rollout *rollout) {
    struct revision *active = NULL;
    size_t count = 0;
    for (size_t i = 0; i < rollout->count; i++)
        if (rollout->revisions[i].replicas > 0) {
            active = &rollout->revisions[i];
            count++;
        }
    if (count == 0)
        return rollout->newest ? rollout->newest : rollout->count ? &rollout->revisions[rollout->count - 1] : NULL;
    return count == 1 ? active : NULL;
}

/* Several active ReplicaSets are scaled in proportion when rolling. Under Recreate (changed to in mid-rollout) nobody would scale them, and upstream
 * waits for ever: there, going on with the recreation does it. */
static bool is_scaling(struct rollout *rollout) {
    if (!is_rolling(rollout->deployment) && !active_or_latest(rollout))
        return false;
    for (size_t i = 0; i < rollout->count; i++) {
        int64_t desired = number_annotation(rollout->revisions[i].managed.object, ANNOTATION_DESIRED);
        if (rollout->revisions[i].replicas > 0 && desired >= 0 && desired != rollout->replicas)
            return true;
    }
    return false;
}

static bool is_saturated(const struct rollout *rollout) {
    const struct revision *newest = rollout->newest;
    return newest && number_annotation(newest->managed.object, ANNOTATION_DESIRED) == rollout->replicas && newest->replicas == rollout->replicas &&
           revision_set(newest)->status.available_replicas == rollout->replicas;
}

/* How much of a change falls to one ReplicaSet: in proportion to its size (util.GetReplicaSetProportion). Never the other way: an annotation that is
 * out of date, because the bounds have changed since, would otherwise make one grow while all shrink. */
static int32_t proportion(const struct rollout *rollout, const struct revision *revision, int32_t to_add, int32_t added) {
    if (revision->replicas == 0 || to_add == added)
        return 0;
    int32_t fraction = -revision->replicas;
    if (rollout->replicas > 0) {
        int64_t max_before = number_annotation(revision->managed.object, ANNOTATION_MAX);
        if (max_before <= 0)
            max_before = rollout->deployment->status.replicas;
        if (max_before <= 0)
            return 0;
        int64_t doubled = 2 * (int64_t)revision->replicas * (rollout->replicas + rollout->max_surge);
        fraction = (int32_t)((doubled + max_before) / (2 * max_before)) - revision->replicas; /* rounded */
    }
    int32_t allowed = to_add - added;
    return to_add > 0 ? MAX(0, MIN(fraction, allowed)) : MIN(0, MAX(fraction, allowed));
}

/* Larger first; equal ones newer first when growing (`later_first`), older first when shrinking. */
static size_t sort_by_size(struct rollout *rollout, struct revision **sorted, bool later_first) {
    size_t count = 0;
    for (size_t i = 0; i < rollout->count; i++) {
        struct revision *revision = &rollout->revisions[later_first ? rollout->count - 1 - i : i];
        if (revision->replicas == 0)
            continue;
        size_t at = count++;
        for (; at > 0 && sorted[at - 1]->replicas < revision->replicas; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = revision;
    }
    return count;
}

static void scale_proportionally(struct rollout *rollout) {
    int32_t allowed = rollout->replicas > 0 ? rollout->replicas + rollout->max_surge : 0;
    int32_t to_add = allowed - rollout_sum_replicas(rollout, false), added = 0;
    struct revision **sorted = ARENA_ARRAY(rollout->context->arena, struct revision *, rollout->count);
    int32_t *sizes = ARENA_ARRAY(rollout->context->arena, int32_t, rollout->count);
    if (!sorted || !sizes) {
        context_fail(rollout->context);
        return;
    }
    size_t count = sort_by_size(rollout, sorted, to_add > 0);
    for (size_t i = 0; i < count; i++) {
        int32_t share = to_add ? proportion(rollout, sorted[i], to_add, added) : 0;
        sizes[i] = sorted[i]->replicas + share;
        added += share;
    }
    if (count && to_add)
        sizes[0] = MAX(0, sizes[0] + to_add - added);
    for (size_t i = 0; i < count; i++)
        if (!scale(rollout, sorted[i], sizes[i]) && annotations_need_update(rollout, sorted[i]))
            write_replicas(rollout, sorted[i], sizes[i]);
}

/* spec.replicas changed, or the deployment is paused: no rollout, only sizes (upstream's sync). */
static void scale_all(struct rollout *rollout) {
    struct revision *only = active_or_latest(rollout);
    if (only) {
        if (!scale(rollout, only, rollout->replicas) && only->replicas > 0 && annotations_need_update(rollout, only))
            write_replicas(rollout, only, only->replicas);
    } else if (is_saturated(rollout)) {
        for (size_t i = 0; i < rollout->count; i++)
            if (!rollout->revisions[i].is_new)
                scale(rollout, &rollout->revisions[i], 0);
    } else if (is_rolling(rollout->deployment)) {
        scale_proportionally(rollout);
    }
}

/* ---- the strategies ---- */

static bool grow_newest(struct rollout *rollout) {
    struct revision *newest = rollout->newest;
    if (!newest || newest->is_created || newest->replicas == rollout->replicas)
        return false;
    int32_t replicas = newest->replicas > rollout->replicas ? rollout->replicas : newest_replicas(rollout, newest->replicas);
    return scale(rollout, newest, replicas);
}

/* Those of the old that do not serve go first: they cost no availability. */
static int32_t remove_unhealthy(struct rollout *rollout, int32_t most) {
    int32_t removed = 0;
    for (size_t i = 0; i < rollout->count && removed < most; i++) {
        struct revision *old = &rollout->revisions[i];
        int32_t unhealthy = old->replicas - available(old);
        if (old->is_new || old->replicas == 0 || unhealthy <= 0)
            continue;
        int32_t count = MIN(most - removed, unhealthy);
        scale(rollout, old, old->replicas - count);
        removed += count;
    }
    return removed;
}

static int32_t shrink_available(struct rollout *rollout) {
    int32_t most = sum_available(rollout) - (rollout->replicas - rollout->max_unavailable), removed = 0;
    for (size_t i = 0; i < rollout->count && removed < most; i++) {
        struct revision *old = &rollout->revisions[i];
        if (old->is_new || old->replicas == 0)
            continue;
        int32_t count = MIN(old->replicas, most - removed);
        scale(rollout, old, old->replicas - count);
        removed += count;
    }
    return removed;
}

static bool shrink_old(struct rollout *rollout) {
    const struct revision *newest = rollout->newest;
    if (rollout_sum_replicas(rollout, true) == 0)
        return false;
    int32_t newest_unavailable = newest ? newest->replicas - available(newest) : 0;
    int32_t most = rollout_sum_replicas(rollout, false) - (rollout->replicas - rollout->max_unavailable) - newest_unavailable;
    if (most <= 0)
        return false;
    int32_t removed = remove_unhealthy(rollout, most);
    return removed + shrink_available(rollout) > 0;
}

static int compare_revision(const void *left, const void *right) {
    const struct revision *a = *(struct revision *const *)left, *b = *(struct revision *const *)right;
    int64_t difference = revision_number(a->managed.object) - revision_number(b->managed.object);
    return difference ? (difference > 0) - (difference < 0) : compare_created(a, b);
}

/* revisionHistoryLimit: the lowest revisions beyond it go, when they are empty. */
static void drop_history(struct rollout *rollout) {
    int32_t limit = int32_or(rollout->deployment->spec.revision_history_limit, 10);
    struct revision **old = ARENA_ARRAY(rollout->context->arena, struct revision *, rollout->count);
    size_t count = 0;
    for (size_t i = 0; old && i < rollout->count; i++)
        if (!rollout->revisions[i].is_new && !is_deleting(rollout->revisions[i].managed.object))
            old[count++] = &rollout->revisions[i];
    if (count <= (size_t)MAX(0, limit))
        return;
    qsort(old, count, sizeof *old, compare_revision);
    for (size_t i = 0; i < count - (size_t)MAX(0, limit); i++) {
        const struct kube_replica_set *set = revision_set(old[i]);
        if (old[i]->replicas || set->status.replicas || set->metadata.generation > set->status.observed_generation || old[i]->managed.changed)
            continue;
        context_delete(rollout->context, old[i]->managed.object, NULL, -1);
    }
}

static void roll(struct rollout *rollout) {
    if (rollout->newest)
        refresh_newest(rollout);
    else
        create_newest(rollout);
    if (!grow_newest(rollout) && !shrink_old(rollout) && rollout_is_complete(rollout, &rollout->deployment->status))
        drop_history(rollout);
}

/* Pods of an old ReplicaSet that have not ended yet, going ones too. */
static bool old_pods_run(struct rollout *rollout) {
    if (rollout_sum_status(rollout, true) > 0)
        return true;
    struct objects pods = {.list = {.items = NULL}};
    context_list(rollout->context, &kube_kind_pod, rollout->object->metadata->namespace, &pods);
    bool found = false;
    for (size_t i = 0; i < pods.list.count && !found; i++)
        for (size_t j = 0; j < rollout->count && !found; j++)
            found = !rollout->revisions[j].is_new && !pod_is_finished(pods.list.items[i]->pod) &&
                    kube_is_controlled_by(pods.list.items[i]->metadata, rollout->revisions[j].managed.object->metadata->uid);
    objects_deinit(&pods);
    return found;
}

static void recreate(struct rollout *rollout) {
    bool shrunk = false;
    if (rollout->newest)
        refresh_newest(rollout);
    for (size_t i = 0; i < rollout->count; i++)
        if (!rollout->revisions[i].is_new)
            shrunk |= scale(rollout, &rollout->revisions[i], 0);
    if (shrunk || old_pods_run(rollout))
        return;
    if (!rollout->newest)
        create_newest(rollout);
    else
        scale(rollout, rollout->newest, rollout->replicas);
    if (rollout_is_complete(rollout, &rollout->deployment->status))
        drop_history(rollout);
}

/* ---- one run ---- */

static bool selects_everything(const struct kube_label_selector *selector) {
    return selector && selector->match_labels.count == 0 && selector->match_expressions.count == 0;
}

/* The ReplicaSet was refused the last time: that is said before it is tried again, since what follows a refusal is not done. */
static void say_failure(struct rollout *rollout) {
    struct kube_object *copy = context_copy(rollout->context, rollout->object);
    if (!copy)
        return;
    struct kube_object *meant = rollout->status;
    rollout->status = copy;
    if (rollout_has_deadline(rollout))
        rollout_set_condition(rollout, "Progressing", "False", "ReplicaSetCreateError", rollout->creation_failure);
    copy->deployment->status.observed_generation = rollout->object->metadata->generation;
    if (!kube_equal(&kube_deployment_status_type, &copy->deployment->status, &rollout->deployment->status)) {
        context_update_status(rollout->context, kube_object_ref(copy));
        meant->metadata->resource_version = NULL; /* what comes after is of a later version */
        if (rollout->changed)
            rollout->changed->metadata->resource_version = NULL;
    }
    kube_object_unref(copy);
    rollout->status = meant;
}

static void flush(struct rollout *rollout) {
    struct context *context = rollout->context;
    if (rollout->creation_failure)
        say_failure(rollout);
    for (size_t i = 0; i < rollout->count; i++) {
        struct revision *revision = &rollout->revisions[i];
        if (revision->is_created)
            context_create(context, revision->managed.changed);
        else if (revision->managed.changed)
            context_update(context, revision->managed.changed);
    }
    if (rollout->changed)
        context_update(context, TAKE(rollout->changed));
    if (!kube_equal(&kube_deployment_status_type, &rollout->status->deployment->status, &rollout->deployment->status))
        context_update_status(context, TAKE(rollout->status));
}

static void step(struct rollout *rollout) {
    if (is_deleting(rollout->object)) {
        rollout_set_status(rollout, false);
        return;
    }
    rollout_check_paused(rollout);
    if (rollout->deployment->spec.paused || is_scaling(rollout)) {
        if (rollout->newest)
            refresh_newest(rollout);
        scale_all(rollout);
        if (rollout->deployment->spec.paused)
            drop_history(rollout);
        rollout_set_status(rollout, false);
        return;
    }
    if (is_rolling(rollout->deployment))
        roll(rollout);
    else
        recreate(rollout);
    rollout_set_status(rollout, true);
}

void deployment_reconcile(struct context *context) {
    const struct kube_object *object = context_get(context, context->kind, context->namespace, context->name);
    if (!object)
        return;
    struct rollout rollout = {.context = context, .object = object, .deployment = object->deployment};
    rollout.replicas = MAX(0, int32_or(object->deployment->spec.replicas, 1));
    rollout.status = context_copy(context, object);
    if (!rollout.status)
        return;
    if (selects_everything(object->deployment->spec.selector)) {
        context_event(context, object, "Warning", "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.");
        rollout.status->deployment->status.observed_generation = object->metadata->generation;
    } else {
        resolve_bounds(&rollout);
        collect_revisions(&rollout);
        if (!context->error)
            step(&rollout);
    }
    flush(&rollout);
    kube_object_unref(rollout.status);
    kube_object_unref(rollout.changed);
}
