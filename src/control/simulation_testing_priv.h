/* Random histories of a whole cluster: changes are told late, writes are done late and in another order, some are refused, the controllers die and
 * start over, watches are lost, the wall clock jumps, nodes come and go, pods start, crash and vanish, people change their minds. Whatever the order,
 * what a scenario says must hold. Then peace comes: all must come to rest in the state that was asked for last, and when it is taken away nothing may
 * be left. The seed chooses everything; a failure prints it, SIMULATION_SEED replays it, and with
 * SIMULATION_DUMP the cluster's objects are shown.
 *
 * To have another controller simulated: a `struct scenario` with what people do to its objects and what must hold, in a table for
 * simulation_run. Scenarios run in one cluster, several at a time, in namespace "d". */
#ifndef TIDEMILL_CONTROL_SIMULATION_TESTING_PRIV_H
#define TIDEMILL_CONTROL_SIMULATION_TESTING_PRIV_H

#include "control/cluster_testing_priv.h"

#define SCENARIOS_MAX 16
#define STEPS_PER_HISTORY 500
#define NODES 3
#define BASELINE_MAX 64
#define CALM_EVERY 3
#define ROUNDS_MAX 40

struct world;
struct scenario {
    const char *name;
    size_t state_size;                   /* of what it remembers in a history; zeroed at its start */
    void (*start)(struct world *world);  /* creates its objects */
    void (*edit)(struct world *world);   /* a person changes something; when calm only what must cost no availability */
    void (*meddle)(struct world *world); /* a person does harm; never when calm. May be NULL */
    void (*check)(struct world *world);  /* after every write */
    void (*settle)(struct world *world); /* ends whatever keeps it from its goal */
    void (*end)(struct world *world);    /* when all has come to rest */
    void (*remove)(struct world *world); /* deletes what `start` made, with world->propagation */
    bool (*may_stay)(struct world *world, const struct kube_object *object); /* after the removal. May be NULL */
};

struct world {
    struct cluster cluster;
    uint64_t seed;
    const struct scenario *scenarios[SCENARIOS_MAX], *current;
    void *states[SCENARIOS_MAX];
    size_t count;
    bool calm;  /* no pod fails, no node goes, nobody scales: availability must hold through everything else */
    bool is_up; /* all was well before anybody changed anything */
    bool peace; /* nothing is refused any more, nothing crashes */
    bool removing;
    bool quota; /* more pods are refused */
    const char *propagation;
    const struct kube_kind *baseline[BASELINE_MAX];
    size_t baseline_count;
    bool hunted;       /* something is broken on purpose: what is found is noted, no failure */
    const char *found; /* what is wrong */
};

static inline void world_dump(const struct world *world) {
    for (size_t i = 0; i < world->cluster.objects.count; i++) {
        CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(API_BODY_BYTES_MAX);
        assert_int_equal(kube_encode_json(world->cluster.objects.items[i], &json), 0);
        printf("%.*s\n", (int)json.len, json.data);
    }
}

static inline void world_fail(struct world *world, const char *what) {
    if (!world->hunted && getenv("SIMULATION_DUMP"))
        world_dump(world);
    if (!world->hunted)
        fail_msg("SIMULATION_SEED=%" PRIu64 ": %s: %s", world->seed, world->current ? world->current->name : "cluster", what);
    if (!world->found)
        world->found = what;
}

static inline struct world *world_of(struct cluster *cluster) {
    return cluster->userdata;
}
static inline uint64_t world_random(struct world *world, uint64_t below) {
    return cluster_random(&world->cluster, below);
}
/* What the scenario remembers. */
static inline void *world_state(struct world *world) {
    for (size_t i = 0; i < world->count; i++)
        if (world->scenarios[i] == world->current)
            return world->states[i];
    return NULL;
}

/* ---- shorthands for scenarios ---- */

/* A changed copy was made: writes it, as a person does, who looks again when somebody was faster. */
static inline void world_put(struct world *world, struct kube_object *copy) {
    assert_null(cluster_update(&world->cluster, copy, false));
}

static inline bool pod_bears(const struct kube_object *object, const char *app) {
    return object->kind == &kube_kind_pod && text_is(kube_map_find(&object->metadata->labels, "app"), app);
}

/* Any pod; app NULL: of whomever. NULL: there is none. */
static inline const struct kube_object *world_any_pod(struct world *world, const char *app) {
    struct cluster *cluster = &world->cluster;
    size_t count = 0;
    for (size_t i = 0; i < cluster->objects.count; i++)
        count += cluster->objects.items[i]->kind == &kube_kind_pod && (!app || pod_bears(cluster->objects.items[i], app));
    size_t at = count ? (size_t)world_random(world, count) : 0;
    for (size_t i = 0; count && i < cluster->objects.count; i++)
        if (cluster->objects.items[i]->kind == &kube_kind_pod && (!app || pod_bears(cluster->objects.items[i], app)) && at-- == 0)
            return cluster->objects.items[i];
    return NULL;
}

static inline bool pod_serves(const struct kube_object *pod) {
    return pod_is_active(pod) && kube_pod_is_ready(pod->pod);
}

/* kubectl delete pod, or kubectl label pod to take it out of its set or back. */
static inline void world_meddle_with_pod(struct world *world, const char *app) {
    const struct kube_object *pod = world_any_pod(world, app);
    if (!pod)
        return;
    if (world_random(world, 4)) {
        cluster_delete(&world->cluster, pod->kind, "d", pod->metadata->name, NULL, NULL, -1);
        return;
    }
    struct kube_object *copy = kube_object_copy(pod);
    const char *label = text_is(kube_map_find(&pod->metadata->labels, "role"), "debug") ? "main" : "debug";
    assert_int_equal(kube_map_set(&copy->metadata->labels, copy->arena, "role", label), 0);
    world_put(world, copy);
}

static inline void world_delete(struct world *world, const struct kube_kind *kind, const char *name) {
    cluster_delete(&world->cluster, kind, "d", name, NULL, world->propagation, -1);
}

/* ---- nodes and pods ---- */

static inline const struct kube_object *world_node(struct world *world, const char *name) {
    return cluster_get(&world->cluster, &kube_kind_node, NULL, name);
}

static inline bool node_acts(struct world *world) {
    struct cluster *cluster = &world->cluster;
    const struct kube_object *pod = world_any_pod(world, NULL);
    if (!pod || !pod->pod->spec.node_name || !world_node(world, pod->pod->spec.node_name))
        return false;
    bool ready = kube_pod_is_ready(pod->pod);
    if (is_deleting(pod))
        cluster_delete(cluster, pod->kind, "d", pod->metadata->name, NULL, NULL, 0);
    else if (pod_is_finished(pod->pod))
        return false;
    else if (!ready && cluster_has_claims(cluster, pod))
        cluster_set_pod(cluster, pod, "Running", true);
    else if (ready && !world->calm && world_random(world, 20) == 0)
        cluster_set_pod(cluster, pod, world_random(world, 3) ? "Running" : "Failed", false); /* a crash, an eviction */
    else
        return false;
    return true;
}

/* Removes the folders of volumes whose claims are gone. */
static inline void node_reclaims(struct world *world) {
    struct cluster *cluster = &world->cluster;
    for (size_t i = 0; i < cluster->objects.count; i++)
        if (cluster->objects.items[i]->kind == &kube_kind_persistent_volume && cluster_reclaim(cluster, cluster->objects.items[i]))
            return;
}

static inline void world_set_node(struct world *world, const char *name, bool tainted, bool cordoned) {
    struct kube_object *copy = cluster_edit(&world->cluster, &kube_kind_node, NULL, name);
    struct kube_taint *taint = ARENA_NEW(copy->arena, struct kube_taint);
    *taint = (struct kube_taint){.key = "broken", .effect = world_random(world, 2) ? "NoSchedule" : "NoExecute"};
    copy->node->spec.taints = (struct kube_taint_array){.items = taint, .count = tainted};
    copy->node->spec.unschedulable = cordoned;
    world_put(world, copy);
}

static inline void nodes_change(struct world *world) {
    char name[4];
    snprintf(name, sizeof name, "n%u", (unsigned)world_random(world, NODES) + 1);
    if (!world_node(world, name))
        cluster_add_named_node(&world->cluster, name, "8", "110");
    else if (world_random(world, 3) == 0)
        cluster_delete(&world->cluster, &kube_kind_node, NULL, name, NULL, NULL, -1);
    else
        world_set_node(world, name, world_random(world, 3) == 0, world_random(world, 3) == 0);
}

static inline void nodes_heal(struct world *world) {
    for (unsigned i = 1; i <= NODES; i++) {
        char name[4];
        snprintf(name, sizeof name, "n%u", i);
        if (!world_node(world, name))
            cluster_add_named_node(&world->cluster, name, "8", "110");
        else
            world_set_node(world, name, false, false);
    }
}

/* ---- the API ---- */

static inline const char *world_refuse(struct cluster *cluster, const struct control_action *action) {
    struct world *world = world_of(cluster);
    if (world->peace)
        return NULL;
    if (world->quota && action->verb == CONTROL_CREATE && action->kind == &kube_kind_pod)
        return "Forbidden: exceeded quota: q";
    uint64_t dice = world_random(world, 100);
    return dice == 0 ? "Conflict: somebody was faster" : dice == 1 ? "InternalError: the disk is full" : NULL;
}

/* No object has two controllers. */
static inline void check_controllers(struct world *world) {
    for (size_t i = 0; i < world->cluster.objects.count; i++) {
        const struct kube_owner_reference_array *list = &world->cluster.objects.items[i]->metadata->owner_references;
        size_t count = 0;
        for (size_t j = 0; j < list->count; j++)
            count += list->items[j].controller && *list->items[j].controller;
        if (count > 1)
            world_fail(world, "an object has two controllers");
    }
}

static inline void world_each(struct world *world, void (*const *function)(struct world *), size_t which) {
    world->current = world->scenarios[which];
    if (*function)
        (*function)(world);
    world->current = NULL;
}

static inline void world_on_commit(struct cluster *cluster) {
    struct world *world = world_of(cluster);
    const struct scenario *before = world->current;
    check_controllers(world);
    for (size_t i = 0; i < world->count && !world->removing; i++)
        world_each(world, &world->scenarios[i]->check, i);
    world->current = before;
}

static inline void world_on_hot(struct cluster *cluster) {
    world_fail(world_of(cluster), "it never comes to rest");
}

/* ---- a history ---- */

static inline void disturb(struct world *world) {
    struct cluster *cluster = &world->cluster;
    switch (world_random(world, 8)) {
    case 0: cluster_crash(cluster); break;
    case 1: cluster_start_over(cluster); break;
    case 2:
        if (!world->calm) /* half an hour either way */
            cluster->wall_offset_ns = ((int64_t)world_random(world, 3600) - 1800) * NS_PER_S;
        break;
    case 3: world->quota = !world->calm && world_random(world, 3) == 0; break;
    case 4:
        if (!world->calm)
            nodes_change(world);
        break;
    default: node_reclaims(world);
    }
}

static inline void live(struct world *world) {
    struct cluster *cluster = &world->cluster;
    for (size_t i = 0; i < STEPS_PER_HISTORY * (1 + world->count) / 2 && !world->found; i++) {
        uint64_t dice = world_random(world, 200);
        size_t which = (size_t)world_random(world, world->count);
        if (dice < 130)
            cluster_step(cluster);
        else if (dice < 180)
            node_acts(world);
        else if (dice < 186)
            cluster->now_ns += (int64_t)world_random(world, 2 * NS_PER_S);
        else if (dice < 190)
            world_each(world, &world->scenarios[which]->edit, which);
        else if (dice < 194 && !world->calm)
            world_each(world, &world->scenarios[which]->meddle, which);
        else
            disturb(world);
    }
}

static inline void come_to_rest(struct world *world) {
    struct cluster *cluster = &world->cluster;
    world->peace = true;
    world->calm = false;
    nodes_heal(world);
    for (size_t i = 0; i < world->count; i++)
        world_each(world, &world->scenarios[i]->settle, i);
    uint64_t revision = 0;
    for (int round = 0; (round < 4 || cluster->revision != revision) && !world->found; round++) {
        if (round > ROUNDS_MAX)
            world_fail(world, "it never comes to rest");
        revision = cluster->revision;
        cluster_run_pods(cluster);
        cluster_wait(cluster, 1500); /* through every back-off, and what the clock has jumped */
    }
    size_t actions = cluster->actions, reconciles = cluster->reconciles;
    cluster_wait(cluster, 86400);
    if (cluster->actions != actions || cluster->reconciles > reconciles + 10)
        world_fail(world, "it does not come to rest");
}

/* Of the kinds that were there before the scenarios began, objects may be there afterwards. */
static inline void note_baseline(struct world *world) {
    cluster_settle(&world->cluster);
    for (size_t i = 0; i < world->cluster.objects.count && world->baseline_count < BASELINE_MAX; i++)
        world->baseline[world->baseline_count++] = world->cluster.objects.items[i]->kind;
}

static inline bool is_baseline(const struct world *world, const struct kube_kind *kind) {
    for (size_t i = 0; i < world->baseline_count; i++)
        if (world->baseline[i] == kind)
            return true;
    return false;
}

static inline void check_leftovers(struct world *world, bool namespace_went) {
    for (size_t i = 0; i < world->cluster.objects.count && !world->found; i++) {
        const struct kube_object *object = world->cluster.objects.items[i];
        bool stays = is_baseline(world, object->kind) && !(namespace_went && object->kind->namespaced);
        for (size_t j = 0; j < world->count && !stays && !namespace_went; j++) {
            world->current = world->scenarios[j];
            stays = world->scenarios[j]->may_stay && world->scenarios[j]->may_stay(world, object);
            world->current = NULL;
        }
        if (!stays)
            world_fail(world, "something is left");
    }
}

/* Everything goes: object by object, or with the namespace. */
static inline void remove_all(struct world *world) {
    static const char *const propagations[] = {"Background", "Foreground", "Orphan"};
    struct cluster *cluster = &world->cluster;
    size_t pods = cluster_count(cluster, &kube_kind_pod);
    bool whole = world_random(world, 4) == 0;
    world->removing = true;
    world->propagation = propagations[world_random(world, 3)];
    if (whole)
        cluster_delete(cluster, &kube_kind_namespace, NULL, "d", NULL, NULL, -1);
    for (size_t i = 0; i < world->count && !whole; i++)
        world_each(world, &world->scenarios[i]->remove, i);
    for (int round = 0; round < 3 && !world->found; round++) {
        cluster_run_pods(cluster);
        cluster_wait(cluster, 100);
    }
    bool orphans = !whole && text_is(world->propagation, "Orphan");
    if (orphans && cluster_count(cluster, &kube_kind_pod) != pods)
        world_fail(world, "orphans were not left alone");
    else if (!orphans)
        check_leftovers(world, whole);
}

/* What is broken on purpose; NULL: nothing. */
struct mutation {
    const char *name;
    void (*mutate)(struct cluster *cluster, struct cluster_run *run);
    struct kube_object *(*falsify)(struct cluster *cluster, const struct kube_object *object);
    bool calm; /* only calm histories can show it */
};

static inline void choose_scenarios(struct world *world, const struct scenario *const *table, size_t count) {
    size_t must = (size_t)world_random(world, count);
    for (size_t i = 0; i < count; i++)
        if (i == must || world_random(world, 3) == 0)
            world->scenarios[world->count++] = table[i];
    for (size_t i = 0; i < world->count; i++) {
        world->states[i] = calloc(1, world->scenarios[i]->state_size + 1);
        assert_non_null(world->states[i]);
    }
}

/* What was found, or NULL. */
static inline const char *world_history(uint64_t seed, const struct scenario *const *table, size_t count, const struct mutation *mutation) {
    struct world world = {.seed = seed, .calm = seed % CALM_EVERY == 0, .hunted = mutation != NULL};
    struct cluster *cluster = &world.cluster;
    cluster_init(cluster, seed);
    cluster->userdata = &world;
    cluster->in_memory = seed % 10 != 0; /* ten times faster */
    cluster->refuse = world_refuse;
    cluster->on_hot = world_on_hot;
    cluster->mutate = mutation ? mutation->mutate : NULL;
    cluster->falsify = mutation ? mutation->falsify : NULL;
    choose_scenarios(&world, table, count);
    for (unsigned i = 0; i < NODES; i++)
        cluster_add_named_node(cluster, (const char *[]){"n1", "n2", "n3"}[i], "8", "110");
    cluster_add(cluster, &kube_kind_namespace, "{'metadata':{'name':'d'}}");
    cluster_add_storage_class(cluster);
    note_baseline(&world);
    cluster->on_commit = world_on_commit;
    for (size_t i = 0; i < world.count; i++)
        world_each(&world, &world.scenarios[i]->start, i);
    if (world.calm) {
        cluster_run_pods(cluster);
        world.is_up = true;
    }
    live(&world);
    if (!world.found)
        come_to_rest(&world);
    for (size_t i = 0; i < world.count && !world.found; i++)
        world_each(&world, &world.scenarios[i]->end, i);
    if (!world.found)
        remove_all(&world);
    cluster_deinit(cluster);
    for (size_t i = 0; i < world.count; i++)
        free(world.states[i]);
    return world.found;
}

static inline uint64_t number_from(const char *variable, uint64_t fallback) {
    uint64_t number;
    const char *text = getenv(variable);
    return text && slice_parse_u64(slice_of(text), UINT64_MAX, &number) == 0 ? number : fallback;
}

/* SIMULATION_SEED: that one alone. SIMULATION_COUNT and SIMULATION_FIRST: so many, from there. */
static inline void simulation_run(const struct scenario *const *table, size_t count, uint64_t histories) {
    bool one = getenv("SIMULATION_SEED") != NULL;
    uint64_t first = one ? number_from("SIMULATION_SEED", 1) : number_from("SIMULATION_FIRST", 1);
    uint64_t wanted = one ? 1 : number_from("SIMULATION_COUNT", histories);
    for (uint64_t seed = first; seed < first + wanted; seed++)
        world_history(seed, table, count, NULL);
}

/* Each mutation must be found within so many histories. */
static inline void simulation_hunt(const struct scenario *const *table, size_t count, const struct mutation *mutations, size_t mutations_count,
                                   uint64_t histories) {
    for (size_t i = 0; i < mutations_count; i++) {
        const char *found = NULL;
        uint64_t seed = 0;
        while (!found && seed < histories * CALM_EVERY) {
            seed += mutations[i].calm ? CALM_EVERY : 1;
            found = world_history(seed, table, count, &mutations[i]);
        }
        if (!found)
            fail_msg("nobody notices: %s", mutations[i].name);
        print_message("%s: \"%s\" in history %" PRIu64 "\n", mutations[i].name, found, seed);
    }
}

#endif
