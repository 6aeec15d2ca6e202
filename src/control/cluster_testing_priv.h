/* A cluster for tests: objects in a list, a clock that the test moves, a node that is a few lines, and the loop that drives the controllers as core
 * does, but in an order that the seed chooses. */
#ifndef TIDEMILL_CONTROL_CLUSTER_TESTING_PRIV_H
#define TIDEMILL_CONTROL_CLUSTER_TESTING_PRIV_H

#include <stdio.h>

#include "control/control_priv.h"
#include "unit.h"

#define CLUSTER_START_NS (INT64_C(1800000000) * NS_PER_S)
#define RUNS_IN_FLIGHT_MAX 8
#define HOT_STEPS 30000 /* nothing takes so many */

struct cluster_change {
    struct kube_object *object, *old;
};
/* A reconcile whose actions are not done yet. */
struct cluster_run {
    struct control_key key;
    struct control_actions actions;
    int error;
};
struct cluster {
    struct control *control;
    VECTOR(struct kube_object *) objects;
    VECTOR(struct cluster_change) changes; /* committed, not yet told */
    struct cluster_run runs[RUNS_IN_FLIGHT_MAX];
    size_t runs_count;
    uint64_t revision, random;
    int64_t now_ns;
    bool keep_events;
    bool in_memory; /* objects are kept as they are; otherwise they go through JSON as in the store */
    size_t actions, reconciles;
    void (*on_commit)(struct cluster *cluster); /* checks after every write; may be NULL */
    /* Why the API refuses what a controller wants, or NULL; may be NULL */
    const char *(*refuse)(struct cluster *cluster, const struct control_action *action);
    void (*on_engine)(bool enter); /* around the code under test; may be NULL. It may then find no memory, and is asked again */
    void (*mutate)(struct cluster *cluster, struct cluster_run *run); /* breaks a controller on purpose; may be NULL */
    /* What the controllers see of an object (owned by the cluster until its run has begun); NULL: itself. May be NULL. */
    struct kube_object *(*falsify)(struct cluster *cluster, const struct kube_object *object);
    VECTOR(struct kube_object *) falsified;
    void (*on_hot)(struct cluster *cluster); /* it never comes to an end; NULL: a failure */
    bool hot;                                /* it did not */
    int64_t wall_offset_ns;                  /* of the wall clock, that jumps, to now_ns, that does not */
    void *userdata;
    struct zone *zone;
};

static inline int64_t cluster_wall_ns(const struct cluster *cluster) {
    return cluster->now_ns + cluster->wall_offset_ns;
}

static inline uint64_t cluster_random(struct cluster *cluster, uint64_t below) {
    cluster->random = cluster->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (cluster->random >> 33) % below;
}

/* ---- objects ---- */

static inline size_t cluster_index(const struct cluster *cluster, const struct kube_kind *kind, const char *namespace, const char *name) {
    for (size_t i = 0; i < cluster->objects.count; i++) {
        const struct kube_object *object = cluster->objects.items[i];
        if (object->kind == kind && strcmp(object->metadata->name, name) == 0 && same_text(object->metadata->namespace, namespace))
            return i;
    }
    return SIZE_MAX;
}

/* As the controllers see it. */
static inline const struct kube_object *cluster_shown(struct cluster *cluster, const struct kube_object *object) {
    struct kube_object *false_one = cluster->falsify ? cluster->falsify(cluster, object) : NULL;
    if (!false_one)
        return object;
    assert_int_equal(VECTOR_PUSH(&cluster->falsified, false_one), 0);
    return false_one;
}

static inline void cluster_forget_falsified(struct cluster *cluster) {
    for (size_t i = 0; i < cluster->falsified.count; i++)
        kube_object_unref(cluster->falsified.items[i]);
    VECTOR_DEINIT(&cluster->falsified);
}

static inline const struct kube_object *cluster_get(void *userdata, const struct kube_kind *kind, const char *namespace, const char *name) {
    struct cluster *cluster = userdata;
    size_t at = cluster_index(cluster, kind, namespace, name);
    return at == SIZE_MAX ? NULL : cluster->objects.items[at];
}

static inline const struct kube_object *cluster_view_get(void *userdata, const struct kube_kind *kind, const char *namespace, const char *name) {
    const struct kube_object *object = cluster_get(userdata, kind, namespace, name);
    return object ? cluster_shown(userdata, object) : NULL;
}

static inline void cluster_view_list(void *userdata, const struct kube_kind *kind, const char *namespace,
                                     bool (*each)(void *, const struct kube_object *), void *each_userdata) {
    struct cluster *cluster = userdata;
    for (size_t i = 0; i < cluster->objects.count; i++) {
        const struct kube_object *object = cluster->objects.items[i];
        if (object->kind == kind && (!namespace || same_text(object->metadata->namespace, namespace)) &&
            !each(each_userdata, cluster_shown(cluster, object)))
            return;
    }
}

/* Tests know one zone: 90 minutes east. */
static inline int cluster_zone(void *userdata, const char *name, const struct zone **ret) {
    struct cluster *cluster = userdata;
    *ret = cluster->zone;
    return text_is(name, "Test/East") ? 0 : -ENOENT;
}

static inline struct kube_object *cluster_through_json(struct kube_object *object) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(API_BODY_BYTES_MAX);
    struct kube_object *stored = NULL;
    struct diag diag = DIAG_INIT;
    assert_int_equal(kube_encode_json(object, &json), 0);
    if (kube_decode_json(object->kind, buffer_slice(&json), KUBE_STRICT, &stored, &diag) != 0)
        fail_msg("%s", diag.message);
    kube_object_unref(object);
    return stored;
}

/* Takes over `object` (NULL: deleted). */
static inline void cluster_commit(struct cluster *cluster, size_t at, struct kube_object *object) {
    struct kube_object *old = at == SIZE_MAX ? NULL : cluster->objects.items[at];
    cluster->revision++;
    if (object)
        object->metadata->resource_version = arena_printf(object->arena, "%" PRIu64, cluster->revision);
    if (object && !cluster->in_memory)
        object = cluster_through_json(object);
    struct cluster_change change = {.object = object ? kube_object_ref(object) : NULL, .old = old};
    if (!object)
        VECTOR_REMOVE(&cluster->objects, at);
    else if (old)
        cluster->objects.items[at] = object;
    else
        assert_int_equal(VECTOR_PUSH(&cluster->objects, object), 0);
    assert_int_equal(VECTOR_PUSH(&cluster->changes, change), 0); /* owns old */
    if (cluster->on_commit)
        cluster->on_commit(cluster);
}

/* ---- what the API does with a write; NULL or why it is refused ---- */

static inline const char *cluster_create(struct cluster *cluster, struct kube_object *object) {
    if (cluster_index(cluster, object->kind, object->metadata->namespace, object->metadata->name) != SIZE_MAX) {
        kube_object_unref(object);
        return "AlreadyExists";
    }
    object->metadata->uid = arena_printf(object->arena, "uid-%" PRIu64, cluster->revision + 1);
    object->metadata->creation_timestamp = (struct kube_time){.ns = cluster_wall_ns(cluster) - cluster_wall_ns(cluster) % NS_PER_S, .set = true};
    object->metadata->generation = 1;
    if (object->kind == &kube_kind_pod)
        object->pod->status.phase = "Pending";
    if (object->kind == &kube_kind_persistent_volume_claim)
        object->persistent_volume_claim->status.phase = "Pending";
    if (object->kind == &kube_kind_namespace) {
        static const char *finalizer = "kubernetes";
        object->namespace_->spec.finalizers = (struct kube_string_list){.items = &finalizer, .count = 1};
    }
    cluster_commit(cluster, SIZE_MAX, object);
    return NULL;
}

/* Which part of a kind is its spec (a change counts a generation) and which its status (written by itself). */
#define CLUSTER_PARTS(name)                                                                                                                          \
    {                                                                                                                                                \
        &kube_kind_##name, offsetof(struct kube_##name, spec), &kube_##name##_spec_type, offsetof(struct kube_##name, status),                       \
            &kube_##name##_status_type                                                                                                               \
    }
static const struct cluster_parts {
    const struct kube_kind *kind;
    size_t spec;
    const struct kube_type *spec_type;
    size_t status;
    const struct kube_type *status_type;
} cluster_parts[] = {
    CLUSTER_PARTS(deployment),
    CLUSTER_PARTS(replica_set),
    CLUSTER_PARTS(replication_controller),
    CLUSTER_PARTS(stateful_set),
    CLUSTER_PARTS(daemon_set),
    CLUSTER_PARTS(job),
    CLUSTER_PARTS(cron_job),
    CLUSTER_PARTS(pod),
    CLUSTER_PARTS(node),
    CLUSTER_PARTS(namespace),
    CLUSTER_PARTS(service),
    CLUSTER_PARTS(persistent_volume),
    CLUSTER_PARTS(persistent_volume_claim),
    CLUSTER_PARTS(resource_quota),
    CLUSTER_PARTS(pod_disruption_budget),
    CLUSTER_PARTS(certificate_signing_request),
};

static inline const struct cluster_parts *cluster_parts_of(const struct kube_kind *kind) {
    for (size_t i = 0; i < ARRAY_LEN(cluster_parts); i++)
        if (cluster_parts[i].kind == kind)
            return &cluster_parts[i];
    return NULL;
}

static inline bool cluster_same_spec(const struct kube_object *a, const struct kube_object *b) {
    const struct cluster_parts *parts = cluster_parts_of(a->kind);
    return !parts || kube_equal(parts->spec_type, (const char *)a->data + parts->spec, (const char *)b->data + parts->spec);
}

/* The status comes from one, all else from the other. */
static inline struct kube_object *cluster_join(const struct kube_object *base, const struct kube_object *status) {
    const struct cluster_parts *parts = cluster_parts_of(base->kind);
    struct kube_object *joined = kube_object_copy(base);
    if (parts)
        assert_int_equal(
            kube_copy(parts->status_type, joined->arena, (const char *)status->data + parts->status, (char *)joined->data + parts->status), 0);
    return joined;
}

static inline const char *cluster_update(struct cluster *cluster, struct kube_object *object, bool status_only) {
    size_t at = cluster_index(cluster, object->kind, object->metadata->namespace, object->metadata->name);
    const struct kube_object *old = at == SIZE_MAX ? NULL : cluster->objects.items[at];
    const char *refused = !old ? "NotFound"
                          : object->metadata->resource_version && !same_text(object->metadata->resource_version, old->metadata->resource_version)
                              ? "Conflict: changed"
                              : NULL;
    if (refused) {
        kube_object_unref(object);
        return refused;
    }
    struct kube_object *joined = status_only ? cluster_join(old, object) : cluster_join(object, old);
    joined->metadata->generation = old->metadata->generation + !cluster_same_spec(joined, old);
    kube_object_unref(object);
    bool gone = is_deleting(joined) && joined->metadata->finalizers.count == 0 &&
                (joined->kind != &kube_kind_pod ||
                 (joined->metadata->deletion_grace_period_seconds && *joined->metadata->deletion_grace_period_seconds == 0)) &&
                (joined->kind != &kube_kind_namespace || joined->namespace_->spec.finalizers.count == 0);
    if (gone)
        kube_object_unref(joined);
    cluster_commit(cluster, at, gone ? NULL : joined);
    return NULL;
}

static inline const char *cluster_delete(struct cluster *cluster, const struct kube_kind *kind, const char *namespace, const char *name,
                                         const char *uid, const char *propagation, int64_t grace_seconds) {
    size_t at = cluster_index(cluster, kind, namespace, name);
    if (at == SIZE_MAX)
        return "NotFound";
    const struct kube_object *old = cluster->objects.items[at];
    if (uid && !same_text(uid, old->metadata->uid))
        return "Conflict: another uid";
    const char *finalizer = text_is(propagation, "Foreground") ? "foregroundDeletion" : text_is(propagation, "Orphan") ? "orphan" : NULL;
    bool graceful = kind == &kube_kind_pod && old->pod->spec.node_name && grace_seconds != 0 && !pod_is_finished(old->pod);
    bool held = old->metadata->finalizers.count > 0 || finalizer || (kind == &kube_kind_namespace && old->namespace_->spec.finalizers.count > 0);
    if (!graceful && !held) {
        cluster_commit(cluster, at, NULL);
        return NULL;
    }
    if (is_deleting(old) && (graceful || *old->metadata->deletion_grace_period_seconds == 0))
        return NULL;
    struct kube_object *marked = kube_object_copy(old);
    marked->metadata->deletion_timestamp = (struct kube_time){.ns = cluster_wall_ns(cluster), .set = true};
    marked->metadata->deletion_grace_period_seconds = int64_new(marked->arena, graceful ? 30 : 0);
    if (finalizer) {
        const char **items = ARENA_ARRAY(marked->arena, const char *, marked->metadata->finalizers.count + 1);
        for (size_t i = 0; i < marked->metadata->finalizers.count; i++)
            items[i] = marked->metadata->finalizers.items[i];
        items[marked->metadata->finalizers.count++] = finalizer;
        marked->metadata->finalizers.items = items;
    }
    cluster_commit(cluster, at, marked);
    return NULL;
}

/* Stands in for the authority: what is signed says so. */
static inline const char *cluster_sign(struct cluster *cluster, struct kube_object *object) {
    if (object->kind == &kube_kind_certificate_signing_request) {
        object->certificate_signing_request->status.certificate = SLICE("signed");
        return cluster_update(cluster, object, true);
    }
    static struct kube_bytes_pair data[] = {{"ca.crt", {"ca", 2}}, {"namespace", {"n", 1}}, {"token", {"t", 1}}};
    object->secret->data = (struct kube_bytes_map){data, ARRAY_LEN(data)};
    return cluster_update(cluster, object, false);
}

/* Spec and status. */
static inline const char *cluster_bind(struct cluster *cluster, struct kube_object *object) {
    struct kube_object *status = kube_object_copy(object);
    const char *refused = cluster_update(cluster, object, false);
    status->metadata->resource_version = NULL;
    if (!refused)
        return cluster_update(cluster, status, true);
    kube_object_unref(status);
    return refused;
}

static inline const char *cluster_apply(struct cluster *cluster, struct control_action *action) {
    cluster->actions += !action->optional;
    if (action->optional && !cluster->keep_events)
        return NULL;
    switch (action->verb) {
    case CONTROL_CREATE: return cluster_create(cluster, TAKE(action->object));
    case CONTROL_UPDATE: return cluster_update(cluster, TAKE(action->object), false);
    case CONTROL_BIND: return cluster_bind(cluster, TAKE(action->object));
    case CONTROL_UPDATE_STATUS: return cluster_update(cluster, TAKE(action->object), true);
    case CONTROL_SIGN: return cluster_sign(cluster, TAKE(action->object));
    case CONTROL_DELETE:
        return cluster_delete(cluster, action->kind, action->namespace, action->name, action->uid, action->propagation, action->grace_seconds);
    }
    return "impossible";
}

/* ---- driving ---- */

static inline void cluster_start_control(struct cluster *cluster, uint64_t seed) {
    struct control_options options = {.view = {.userdata = cluster, .get = cluster_view_get, .list = cluster_view_list, .zone = cluster_zone},
                                      .seed = seed,
                                      .finished_pods_max = 5};
    cluster->control = control_new(&options);
    assert_non_null(cluster->control);
}

static inline void cluster_init(struct cluster *cluster, uint64_t seed) {
    *cluster = (struct cluster){.random = seed * 2 + 1, .now_ns = CLUSTER_START_NS};
    cluster_start_control(cluster, seed);
}

static inline void cluster_drop_run(struct cluster_run *run) {
    for (size_t i = 0; i < run->actions.count; i++) {
        free((void *)(uintptr_t)run->actions.items[i].namespace);
        free((void *)(uintptr_t)run->actions.items[i].name);
        free((void *)(uintptr_t)run->actions.items[i].uid);
    }
    control_actions_deinit(&run->actions);
}

static inline void cluster_drop_changes(struct cluster *cluster) {
    for (size_t i = 0; i < cluster->changes.count; i++) {
        kube_object_unref(cluster->changes.items[i].object);
        kube_object_unref(cluster->changes.items[i].old);
    }
    VECTOR_DEINIT(&cluster->changes);
}

static inline void cluster_deinit(struct cluster *cluster) {
    control_free(cluster->control);
    for (size_t i = 0; i < cluster->runs_count; i++)
        cluster_drop_run(&cluster->runs[i]);
    cluster_drop_changes(cluster);
    cluster_forget_falsified(cluster);
    for (size_t i = 0; i < cluster->objects.count; i++)
        kube_object_unref(cluster->objects.items[i]);
    VECTOR_DEINIT(&cluster->objects);
    zone_free(cluster->zone);
}

static inline void cluster_engine(const struct cluster *cluster, bool enter) {
    if (cluster->on_engine)
        cluster->on_engine(enter);
}

static inline bool cluster_tell(struct cluster *cluster) {
    if (cluster->changes.count == 0)
        return false;
    struct cluster_change change = cluster->changes.items[0];
    VECTOR_REMOVE(&cluster->changes, 0);
    int r;
    do {
        cluster_engine(cluster, true);
        r = control_on_change(cluster->control, change.object, change.old, cluster->now_ns);
        cluster_engine(cluster, false);
    } while (r == -ENOMEM && cluster->on_engine);
    assert_int_equal(r, 0);
    kube_object_unref(change.object);
    kube_object_unref(change.old);
    return true;
}

static inline bool cluster_start_run(struct cluster *cluster) {
    struct control_key key;
    cluster_engine(cluster, true);
    bool found = cluster->runs_count < RUNS_IN_FLIGHT_MAX && control_next(cluster->control, cluster->now_ns, &key);
    cluster_engine(cluster, false);
    if (!found)
        return false;
    struct cluster_run *run = &cluster->runs[cluster->runs_count];
    *run = (struct cluster_run){.key = key};
    cluster_engine(cluster, true);
    run->error = control_reconcile(cluster->control, &run->key, cluster_wall_ns(cluster), &run->actions);
    cluster_engine(cluster, false);
    if (run->error == -ENOMEM && cluster->on_engine)
        control_actions_deinit(&run->actions);
    else
        assert_int_equal(run->error, 0);
    /* Names are good until the next reconcile only. */
    for (size_t i = 0; i < run->actions.count; i++) {
        struct control_action *action = &run->actions.items[i];
        action->namespace = action->namespace ? strdup(action->namespace) : NULL;
        action->name = strdup(action->name);
        action->uid = action->uid ? strdup(action->uid) : NULL;
    }
    cluster_forget_falsified(cluster);
    if (cluster->mutate)
        cluster->mutate(cluster, run);
    cluster->runs_count++;
    cluster->reconciles++;
    return true;
}

static inline bool cluster_end_run(struct cluster *cluster) {
    if (cluster->runs_count == 0)
        return false;
    size_t at = cluster_random(cluster, cluster->runs_count);
    struct cluster_run run = cluster->runs[at];
    cluster->runs[at] = cluster->runs[--cluster->runs_count];
    const char *failure = run.error ? "no memory" : NULL;
    unsigned stopped = UINT32_MAX;
    for (size_t i = 0; i < run.actions.count; i++) {
        struct control_action *action = &run.actions.items[i];
        const char *refused = NULL;
        if (action->group != stopped) {
            refused = cluster->refuse && !action->optional ? cluster->refuse(cluster, action) : NULL;
            refused = refused ? refused : cluster_apply(cluster, action);
        }
        bool moot = action->verb == CONTROL_DELETE && text_is(refused, "NotFound");
        if (refused && !action->optional && !moot) {
            failure = refused;
            stopped = action->group;
        }
    }
    cluster_drop_run(&run);
    cluster_engine(cluster, true);
    control_done(cluster->control, &run.key, failure, cluster->now_ns);
    cluster_engine(cluster, false);
    return true;
}

/* One step of the platform, chosen at random; false when there is nothing to do now. */
static inline bool cluster_step(struct cluster *cluster) {
    for (uint64_t i = 0, first = cluster_random(cluster, 3); i < 3; i++) {
        uint64_t which = (first + i) % 3;
        if (which == 0 ? cluster_tell(cluster) : which == 1 ? cluster_start_run(cluster) : cluster_end_run(cluster))
            return true;
    }
    return false;
}

/* The watch is lost: what was not told yet is never told; everything that is there is told again. */
static inline void cluster_start_over(struct cluster *cluster) {
    cluster_drop_changes(cluster);
    for (size_t i = 0; i < cluster->objects.count; i++)
        assert_int_equal(control_on_change(cluster->control, cluster->objects.items[i], NULL, cluster->now_ns), 0);
}

/* The controllers die in the middle of their work: of what they were about to write, a part is written. Others begin from what is there. */
static inline void cluster_crash(struct cluster *cluster) {
    while (cluster->runs_count) {
        struct cluster_run run = cluster->runs[--cluster->runs_count];
        size_t written = cluster_random(cluster, run.actions.count + 1);
        for (size_t i = 0; i < written; i++)
            if (cluster_apply(cluster, &run.actions.items[i]))
                break;
        cluster_drop_run(&run);
    }
    control_free(cluster->control);
    cluster_start_control(cluster, cluster_random(cluster, UINT32_MAX));
    cluster_start_over(cluster);
}

static inline void cluster_exhaust(struct cluster *cluster) {
    for (size_t steps = 0; cluster_step(cluster); steps++) {
        if (steps < HOT_STEPS)
            continue;
        if (!cluster->on_hot)
            fail_msg("a hot loop");
        cluster->hot = true;
        cluster->on_hot(cluster);
        return;
    }
}

/* Until nothing more happens within a second: lost races are tried again. */
static inline void cluster_settle(struct cluster *cluster) {
    cluster_exhaust(cluster);
    while (!cluster->hot && control_deadline(cluster->control) <= cluster->now_ns + NS_PER_S) {
        cluster->now_ns = MAX(cluster->now_ns, control_deadline(cluster->control));
        cluster_exhaust(cluster);
    }
}

/* Lets time pass, through every deadline on the way. */
static inline void cluster_wait(struct cluster *cluster, int64_t seconds) {
    int64_t end_ns = cluster->now_ns + seconds * NS_PER_S;
    cluster_settle(cluster);
    while (!cluster->hot && control_deadline(cluster->control) <= end_ns) {
        cluster->now_ns = MAX(cluster->now_ns, control_deadline(cluster->control));
        cluster_exhaust(cluster);
    }
    cluster->now_ns = MAX(cluster->now_ns, end_ns);
}

/* ---- shorthands ---- */

static inline struct kube_object *object_from(const struct kube_kind *kind, const char *quoted) {
    char *json = strdup(quoted);
    for (char *c = json; *c; c++)
        if (*c == '\'')
            *c = '"';
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    if (kube_decode_json(kind, slice_of(json), KUBE_STRICT, &object, &diag) != 0)
        fail_msg("%s: %s", diag.message, json);
    free(json);
    assert_int_equal(kube_default(object), 0);
    return object;
}

static inline void cluster_add(struct cluster *cluster, const struct kube_kind *kind, const char *quoted) {
    const char *refused = cluster_create(cluster, object_from(kind, quoted));
    assert_null(refused);
}

static inline struct kube_object *cluster_edit(struct cluster *cluster, const struct kube_kind *kind, const char *namespace, const char *name) {
    const struct kube_object *object = cluster_get(cluster, kind, namespace, name);
    assert_non_null(object);
    return kube_object_copy(object);
}

static inline void cluster_set_condition(struct kube_object *pod, const char *type, bool value, int64_t now_ns) {
    struct kube_pod_condition_array *list = &pod->pod->status.conditions;
    struct kube_pod_condition *items = ARENA_ARRAY(pod->arena, struct kube_pod_condition, list->count + 1);
    size_t at = list->count;
    for (size_t i = 0; i < list->count; i++) {
        items[i] = list->items[i];
        if (text_is(items[i].type, type))
            at = i;
    }
    items[at] = (struct kube_pod_condition){
        .type = type, .status = value ? "True" : "False", .last_transition_time = {.ns = now_ns - now_ns % NS_PER_S, .set = true}};
    list->items = items;
    list->count = MAX(list->count, at + 1);
}

/* The node's part: a pod gets a phase and an address. */
static inline void cluster_set_pod(struct cluster *cluster, const struct kube_object *pod, const char *phase, bool ready) {
    struct kube_object *copy = kube_object_copy(pod);
    copy->pod->status.phase = phase;
    copy->pod->status.pod_ip = arena_printf(copy->arena, "10.1.0.%u", (unsigned)(slice_hash(slice_of(pod->metadata->name)) % 250 + 1));
    cluster_set_condition(copy, "Ready", ready, cluster_wall_ns(cluster));
    const char *refused = cluster_update(cluster, copy, true);
    assert_null(refused);
}

static inline void cluster_add_named_node(struct cluster *cluster, const char *name, const char *cpu, const char *pods) {
    char text[512];
    snprintf(text, sizeof text,
             "{'metadata':{'name':'%s','labels':{'kubernetes.io/hostname':'%s'}},'status':{'allocatable':{'cpu':'%s','memory':'8Gi','pods':'%s'}}}",
             name, name, cpu, pods);
    cluster_add(cluster, &kube_kind_node, text);
}

static inline void cluster_add_node(struct cluster *cluster, const char *cpu, const char *pods) {
    cluster_add_named_node(cluster, "n1", cpu, pods);
}

/* The default storage class, as the API makes it at its first start. */
static inline void cluster_add_storage_class(struct cluster *cluster) {
    cluster_add(cluster, &kube_kind_storage_class,
                "{'metadata':{'name':'local-path','annotations':{'storageclass.kubernetes.io/is-default-class':'true'}},"
                "'provisioner':'" TIDEMILL_PROVISIONER
                "','reclaimPolicy':'Delete','volumeBindingMode':'WaitForFirstConsumer','allowVolumeExpansion':true}");
}

/* The node removes the folder of a deleted volume, and its finalizer. */
static inline bool cluster_reclaim(struct cluster *cluster, const struct kube_object *volume) {
    if (!is_deleting(volume) || text_is(volume->persistent_volume->status.phase, "Bound") ||
        !kube_strings_has(&volume->metadata->finalizers, TIDEMILL_VOLUME_FINALIZER))
        return false;
    struct kube_object *copy = kube_object_copy(volume);
    kube_strings_drop(&copy->metadata->finalizers, TIDEMILL_VOLUME_FINALIZER);
    assert_null(cluster_update(cluster, copy, false));
    return true;
}

/* All claims that the pod mounts are bound. */
static inline bool cluster_has_claims(struct cluster *cluster, const struct kube_object *pod) {
    for (size_t i = 0; i < pod->pod->spec.volumes.count; i++) {
        const struct kube_persistent_volume_claim_volume_source *source = pod->pod->spec.volumes.items[i].persistent_volume_claim;
        const struct kube_object *claim =
            source ? cluster_get(cluster, &kube_kind_persistent_volume_claim, pod->metadata->namespace, source->claim_name) : NULL;
        if (source && (!claim || !text_is(claim->persistent_volume_claim->status.phase, "Bound")))
            return false;
    }
    return true;
}

/* Starts, readies and removes pods until the platform is content. */
static inline void cluster_run_pods(struct cluster *cluster) {
    bool busy = true;
    for (size_t rounds = 0; busy; rounds++) {
        if (cluster->hot)
            return;
        assert_true(rounds < 10000);
        cluster_settle(cluster);
        busy = false;
        for (size_t i = 0; i < cluster->objects.count && !busy; i++) {
            const struct kube_object *pod = cluster->objects.items[i];
            if (pod->kind == &kube_kind_persistent_volume)
                busy = cluster_reclaim(cluster, pod);
            if (pod->kind != &kube_kind_pod || !pod->pod->spec.node_name)
                continue;
            bool finished = pod_is_finished(pod->pod), held = pod->metadata->finalizers.count > 0;
            busy = is_deleting(pod) ? !held || !finished : !finished && !kube_pod_is_ready(pod->pod);
            if (busy && is_deleting(pod) && held) /* it says how it ended; somebody waits for that */
                cluster_set_pod(cluster, pod, "Failed", false);
            else if (busy && is_deleting(pod))
                cluster_delete(cluster, pod->kind, pod->metadata->namespace, pod->metadata->name, NULL, NULL, 0);
            else if (busy)
                cluster_set_pod(cluster, pod, "Running", true);
        }
    }
}

static inline size_t cluster_count(const struct cluster *cluster, const struct kube_kind *kind) {
    size_t count = 0;
    for (size_t i = 0; i < cluster->objects.count; i++)
        count += cluster->objects.items[i]->kind == kind;
    return count;
}

#endif
