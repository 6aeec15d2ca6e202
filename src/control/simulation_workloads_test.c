/* Deployments, stateful sets, daemon sets, replication controllers, with services, claims and disruption budgets, in random histories
 * (simulation_testing_priv.h), and the proof that the simulation finds controllers that are broken. */
#include "control/simulation_testing_priv.h"

#define HISTORIES 70
#define HUNT_MAX 50

static const char *const percentages[] = {"0%", "25%", "50%", "100%"};

static void any_bound(struct world *world, struct kube_int_or_string *bound) {
    if (world_random(world, 2))
        *bound = (struct kube_int_or_string){.is_string = true, .text = percentages[world_random(world, ARRAY_LEN(percentages))]};
    else
        *bound = (struct kube_int_or_string){.number = (int32_t)world_random(world, 4)};
}

/* Now and then an image that was there before. */
static const char *any_image(struct world *world, struct kube_object *object, const char *name) {
    return arena_printf(object->arena, "%s:%u", name, (unsigned)world_random(world, 6));
}

static int32_t count_serving(struct world *world, const char *app) {
    int32_t count = 0;
    for (size_t i = 0; i < world->cluster.objects.count; i++)
        count += pod_bears(world->cluster.objects.items[i], app) && pod_serves(world->cluster.objects.items[i]);
    return count;
}

static size_t count_revisions(struct world *world, const char *owner_kind) {
    size_t count = 0;
    for (size_t i = 0; i < world->cluster.objects.count; i++) {
        const struct kube_object *object = world->cluster.objects.items[i];
        const struct kube_owner_reference *owner = object->kind == &kube_kind_controller_revision ? kube_controller_of(object->metadata) : NULL;
        count += owner && text_is(owner->kind, owner_kind);
    }
    return count;
}

/* At the end: so many pods, of the newest image, all well. */
static void check_pods(struct world *world, const char *app, const char *image, int32_t wanted) {
    int32_t pods = 0;
    for (size_t i = 0; i < world->cluster.objects.count; i++) {
        const struct kube_object *object = world->cluster.objects.items[i];
        if (!pod_bears(object, app) || !kube_controller_of(object->metadata) || pod_is_finished(object->pod))
            continue;
        pods++;
        if (strcmp(object->pod->spec.containers.items[0].image, image) != 0)
            world_fail(world, "a pod of an old template is left");
        if (!kube_pod_is_ready(object->pod))
            world_fail(world, "a pod is not ready");
    }
    if (pods != wanted)
        world_fail(world, "not as many pods as wanted");
}

/* ---- a deployment with a service ---- */

struct web_state {
    int32_t replicas_bound; /* the most that replicas + maxSurge has been */
};

static const struct kube_deployment *web(struct world *world) {
    const struct kube_object *object = cluster_get(&world->cluster, &kube_kind_deployment, "d", "web");
    return object ? object->deployment : NULL;
}

static struct kube_object *web_edit_begin(struct world *world) {
    return cluster_edit(&world->cluster, &kube_kind_deployment, "d", "web");
}

static void web_bounds(struct world *world, struct kube_object *object) {
    struct kube_rolling_update_deployment *rolling = ARENA_NEW(object->arena, struct kube_rolling_update_deployment);
    rolling->max_surge = ARENA_NEW(object->arena, struct kube_int_or_string);
    rolling->max_unavailable = ARENA_NEW(object->arena, struct kube_int_or_string);
    any_bound(world, rolling->max_surge);
    any_bound(world, rolling->max_unavailable);
    object->deployment->spec.strategy = (struct kube_deployment_strategy){.type = "RollingUpdate", .rolling_update = rolling};
}

static void web_start(struct world *world) {
    cluster_add(&world->cluster, &kube_kind_service,
                "{'metadata':{'name':'web','namespace':'d'},'spec':{'selector':{'app':'web'},'ports':[{'port':80}]}}");
    struct kube_object *object = object_from(
        &kube_kind_deployment,
        "{'metadata':{'name':'web','namespace':'d'},'spec':{'replicas':3,'revisionHistoryLimit':2,'selector':{'matchLabels':{'app':'web',"
        "'role':'main'}},'template':{'metadata':{'labels':{'app':'web','role':'main'}},'spec':{'containers':[{'name':'c','image':'web:0'}]}}}}");
    *object->deployment->spec.replicas = 1 + (int32_t)world_random(world, 8);
    web_bounds(world, object);
    assert_null(cluster_create(&world->cluster, object));
}

static void web_edit(struct world *world) {
    struct kube_object *copy = web_edit_begin(world);
    struct kube_deployment_spec *spec = &copy->deployment->spec;
    switch (world->calm ? 0 : world_random(world, 7)) {
    case 0: spec->template.spec.containers.items[0].image = any_image(world, copy, "web"); break;
    case 1: *spec->replicas = (int32_t)world_random(world, 9); break;
    case 2: web_bounds(world, copy); break;
    case 3: spec->paused = world_random(world, 3) == 0; break;
    case 4: spec->min_ready_seconds = world_random(world, 2) ? 0 : 10; break;
    case 5:
        if (world_random(world, 4) == 0)
            spec->strategy = (struct kube_deployment_strategy){.type = "Recreate"};
        break;
    default: assert_int_equal(kube_map_set(&copy->metadata->annotations, copy->arena, "note", world_random(world, 2) ? "a" : "b"), 0);
    }
    world_put(world, copy);
}

static void web_meddle(struct world *world) {
    world_meddle_with_pod(world, "web");
}

static void web_check(struct world *world) {
    struct web_state *state = world_state(world);
    const struct kube_deployment *deployment = web(world);
    if (!deployment)
        return;
    const struct kube_rolling_update_deployment *rolling = deployment->spec.strategy.rolling_update;
    int32_t replicas = *deployment->spec.replicas, wanted = 0;
    int surge = 0, unavailable = replicas;
    if (rolling) {
        assert_int_equal(kube_int_or_percent(rolling->max_surge, replicas, true, &surge), 0);
        assert_int_equal(kube_int_or_percent(rolling->max_unavailable, replicas, false, &unavailable), 0);
        unavailable += surge == 0 && unavailable == 0;
    }
    state->replicas_bound = MAX(state->replicas_bound, replicas + surge);
    for (size_t i = 0; i < world->cluster.objects.count; i++)
        if (world->cluster.objects.items[i]->kind == &kube_kind_replica_set)
            wanted += *world->cluster.objects.items[i]->replica_set->spec.replicas;
    if (wanted > state->replicas_bound)
        world_fail(world, "more pods are wanted than maxSurge allows");
    if (world->calm && world->is_up && count_serving(world, "web") < replicas - unavailable)
        world_fail(world, "fewer pods are available than maxUnavailable allows");
}

static void web_settle(struct world *world) {
    struct kube_object *copy = web_edit_begin(world);
    copy->deployment->spec.paused = false;
    world_put(world, copy);
}

/* Exactly the pods that serve are behind the service. */
static void check_endpoints(struct world *world, const char *app) {
    int32_t ready = 0;
    for (size_t i = 0; i < world->cluster.objects.count; i++) {
        const struct kube_object *object = world->cluster.objects.items[i];
        if (object->kind != &kube_kind_endpoint_slice)
            continue;
        for (size_t j = 0; j < object->endpoint_slice->endpoints.count; j++)
            ready += *object->endpoint_slice->endpoints.items[j].conditions.ready;
    }
    if (ready != count_serving(world, app))
        world_fail(world, "the endpoints are not those that serve");
}

static void web_end(struct world *world) {
    const struct kube_deployment *deployment = web(world);
    const struct kube_deployment_status *status = &deployment->status;
    int32_t replicas = *deployment->spec.replicas;
    check_pods(world, "web", deployment->spec.template.spec.containers.items[0].image, replicas);
    if (status->replicas != replicas || status->updated_replicas != replicas || status->available_replicas != replicas ||
        status->unavailable_replicas != 0 || status->observed_generation != deployment->metadata.generation)
        world_fail(world, "the status is not the truth");
    if (cluster_count(&world->cluster, &kube_kind_replica_set) > 3)
        world_fail(world, "more history than revisionHistoryLimit");
    check_endpoints(world, "web");
}

static void web_remove(struct world *world) {
    world_delete(world, &kube_kind_deployment, "web");
    cluster_delete(&world->cluster, &kube_kind_service, "d", "web", NULL, NULL, -1);
}

/* Pods that somebody has taken out of their set belong to nobody; nor do those that have ended there. */
static bool is_taken_out(struct world *world, const struct kube_object *object) {
    (void)world;
    return object->kind == &kube_kind_pod && !kube_controller_of(object->metadata) &&
           (pod_is_finished(object->pod) || text_is(kube_map_find(&object->metadata->labels, "role"), "debug"));
}

static const struct scenario web_scenario = {
    "deployment", sizeof(struct web_state), web_start, web_edit, web_meddle, web_check, web_settle, web_end, web_remove, is_taken_out};

/* ---- a stateful set with claims ---- */

#define ORDINALS_MAX 16

struct db_state {
    bool may_lose_scaled, may_lose_deleted; /* the policy */
    int32_t least;                          /* replicas that there ever were to be */
    char uids[ORDINALS_MAX][24];            /* of the claims */
};

static const struct kube_stateful_set *db(struct world *world) {
    const struct kube_object *object = cluster_get(&world->cluster, &kube_kind_stateful_set, "d", "db");
    return object ? object->stateful_set : NULL;
}

static int32_t db_start_ordinal(const struct kube_stateful_set *set) {
    return set->spec.ordinals ? set->spec.ordinals->start : 0;
}

static void db_start(struct world *world) {
    struct db_state *state = world_state(world);
    struct kube_object *object = object_from(
        &kube_kind_stateful_set,
        "{'metadata':{'name':'db','namespace':'d'},'spec':{'replicas':3,'revisionHistoryLimit':2,'serviceName':'db','selector':{'matchLabels':{'app':"
        "'db','role':'main'}},'ordinals':{'start':0},'updateStrategy':{'rollingUpdate':{'partition':0}},"
        "'persistentVolumeClaimRetentionPolicy':{'whenDeleted':'Retain','whenScaled':'Retain'},"
        "'template':{'metadata':{'labels':{'app':'db','role':'main'}},'spec':{'containers':[{'name':'c','image':'db:0'}]}},"
        "'volumeClaimTemplates':[{'metadata':{'name':'data'},'spec':{'accessModes':['ReadWriteOnce'],'resources':{'requests':{'storage':'1Gi'}}}}]}"
        "}");
    struct kube_stateful_set_spec *spec = &object->stateful_set->spec;
    *spec->replicas = state->least = 1 + (int32_t)world_random(world, 5);
    spec->ordinals->start = world_random(world, 3) ? 0 : 4;
    spec->pod_management_policy = world_random(world, 2) ? "OrderedReady" : "Parallel";
    state->may_lose_deleted = world_random(world, 2);
    state->may_lose_scaled = world_random(world, 2);
    spec->persistent_volume_claim_retention_policy->when_deleted = state->may_lose_deleted ? "Delete" : "Retain";
    spec->persistent_volume_claim_retention_policy->when_scaled = state->may_lose_scaled ? "Delete" : "Retain";
    assert_null(cluster_create(&world->cluster, object));
}

static struct kube_object *db_edit_begin(struct world *world) {
    return cluster_edit(&world->cluster, &kube_kind_stateful_set, "d", "db");
}

static void db_strategy(struct world *world, struct kube_object *object) {
    struct kube_rolling_update_stateful_set_strategy *rolling = ARENA_NEW(object->arena, struct kube_rolling_update_stateful_set_strategy);
    rolling->partition = int32_new(object->arena, (int32_t)world_random(world, 4));
    if (world_random(world, 2)) {
        rolling->max_unavailable = ARENA_NEW(object->arena, struct kube_int_or_string);
        any_bound(world, rolling->max_unavailable);
    }
    object->stateful_set->spec.update_strategy = (struct kube_stateful_set_update_strategy){.type = "RollingUpdate", .rolling_update = rolling};
    if (world_random(world, 4) == 0)
        object->stateful_set->spec.update_strategy = (struct kube_stateful_set_update_strategy){.type = "OnDelete"};
}

static void db_edit(struct world *world) {
    struct db_state *state = world_state(world);
    struct kube_object *copy = db_edit_begin(world);
    struct kube_stateful_set_spec *spec = &copy->stateful_set->spec;
    switch (world->calm ? 0 : world_random(world, 4)) {
    case 0: spec->template.spec.containers.items[0].image = any_image(world, copy, "db"); break;
    case 1: *spec->replicas = (int32_t)world_random(world, 7); break;
    case 2: db_strategy(world, copy); break;
    default: spec->min_ready_seconds = world_random(world, 2) ? 0 : 10;
    }
    state->least = MIN(state->least, *spec->replicas);
    world_put(world, copy);
}

static void db_meddle(struct world *world) {
    const struct kube_object *pod = world_any_pod(world, "db");
    if (pod)
        cluster_delete(&world->cluster, pod->kind, "d", pod->metadata->name, NULL, NULL, world_random(world, 2) ? 0 : -1);
}

static void db_check_pod(struct world *world, const struct kube_object *pod) {
    const struct kube_volume_array *volumes = &pod->pod->spec.volumes;
    char claim[40];
    snprintf(claim, sizeof claim, "data-%s", pod->metadata->name);
    if (!same_text(pod->pod->spec.hostname, pod->metadata->name) ||
        !same_text(kube_map_find(&pod->metadata->labels, "statefulset.kubernetes.io/pod-name"), pod->metadata->name) || volumes->count != 1 ||
        !volumes->items[0].persistent_volume_claim || !text_is(volumes->items[0].persistent_volume_claim->claim_name, claim))
        world_fail(world, "a pod has another identity than its name");
    if (!cluster_get(&world->cluster, &kube_kind_persistent_volume_claim, "d", claim) && !is_deleting(pod) && world->calm)
        world_fail(world, "a pod is there before its claim");
}

/* Nobody's data goes, unless the policy says so. */
static void db_check_claims(struct world *world, const struct kube_stateful_set *set) {
    struct db_state *state = world_state(world);
    int32_t start = db_start_ordinal(set);
    for (int32_t i = 0; i < ORDINALS_MAX; i++) {
        char name[40];
        snprintf(name, sizeof name, "data-db-%d", i);
        const struct kube_object *claim = cluster_get(&world->cluster, &kube_kind_persistent_volume_claim, "d", name);
        bool safe = !state->may_lose_scaled || i - start < state->least;
        if (state->uids[i][0] && safe && (!claim || !text_is(claim->metadata->uid, state->uids[i])))
            world_fail(world, "a claim is lost");
        snprintf(state->uids[i], sizeof state->uids[i], "%s", claim ? claim->metadata->uid : "");
    }
}

static void db_check(struct world *world) {
    const struct kube_stateful_set *set = db(world);
    if (!set)
        return;
    for (size_t i = 0; i < world->cluster.objects.count; i++)
        if (pod_bears(world->cluster.objects.items[i], "db"))
            db_check_pod(world, world->cluster.objects.items[i]);
    db_check_claims(world, set);
    if (world->calm && world->is_up && count_serving(world, "db") < *set->spec.replicas - 1)
        world_fail(world, "more than one pod of a set is away");
}

static void db_settle(struct world *world) {
    struct kube_object *copy = db_edit_begin(world);
    struct kube_rolling_update_stateful_set_strategy *rolling = ARENA_NEW(copy->arena, struct kube_rolling_update_stateful_set_strategy);
    rolling->partition = int32_new(copy->arena, 0);
    copy->stateful_set->spec.update_strategy = (struct kube_stateful_set_update_strategy){.type = "RollingUpdate", .rolling_update = rolling};
    world_put(world, copy);
}

static void db_end(struct world *world) {
    const struct kube_stateful_set *set = db(world);
    const struct kube_stateful_set_status *status = &set->status;
    int32_t replicas = *set->spec.replicas, start = db_start_ordinal(set);
    check_pods(world, "db", set->spec.template.spec.containers.items[0].image, replicas);
    for (int32_t i = 0; i < ORDINALS_MAX; i++) {
        char name[40];
        snprintf(name, sizeof name, "db-%d", i);
        bool wanted = i >= start && i - start < replicas;
        if (wanted != (cluster_get(&world->cluster, &kube_kind_pod, "d", name) != NULL))
            world_fail(world, "the ordinals are not those that are wanted");
        snprintf(name, sizeof name, "data-db-%d", i);
        bool claimed = cluster_get(&world->cluster, &kube_kind_persistent_volume_claim, "d", name) != NULL;
        if (wanted && !claimed)
            world_fail(world, "a pod has no claim");
    }
    if (status->replicas != replicas || status->ready_replicas != replicas || status->available_replicas != replicas ||
        status->updated_replicas != replicas || status->current_replicas != replicas ||
        !same_text(status->current_revision, status->update_revision) || status->observed_generation != set->metadata.generation)
        world_fail(world, "the status is not the truth");
    if (count_revisions(world, "StatefulSet") > 3)
        world_fail(world, "more history than revisionHistoryLimit");
}

static void db_remove(struct world *world) {
    world_delete(world, &kube_kind_stateful_set, "db");
}

static bool db_may_stay(struct world *world, const struct kube_object *object) {
    const struct db_state *state = world_state(world);
    bool storage = object->kind == &kube_kind_persistent_volume_claim || object->kind == &kube_kind_persistent_volume;
    return storage && !state->may_lose_deleted;
}

static const struct scenario db_scenario = {
    "stateful set", sizeof(struct db_state), db_start, db_edit, db_meddle, db_check, db_settle, db_end, db_remove, db_may_stay};

/* ---- a daemon set ---- */

static const struct kube_daemon_set *agent(struct world *world) {
    const struct kube_object *object = cluster_get(&world->cluster, &kube_kind_daemon_set, "d", "agent");
    return object ? object->daemon_set : NULL;
}

static void agent_bounds(struct world *world, struct kube_object *object) {
    struct kube_rolling_update_daemon_set *rolling = ARENA_NEW(object->arena, struct kube_rolling_update_daemon_set);
    rolling->max_surge = ARENA_NEW(object->arena, struct kube_int_or_string);
    rolling->max_unavailable = ARENA_NEW(object->arena, struct kube_int_or_string);
    any_bound(world, world_random(world, 2) ? rolling->max_surge : rolling->max_unavailable);
    object->daemon_set->spec.update_strategy = (struct kube_daemon_set_update_strategy){.type = "RollingUpdate", .rolling_update = rolling};
}

static void agent_start(struct world *world) {
    struct kube_object *object = object_from(
        &kube_kind_daemon_set,
        "{'metadata':{'name':'agent','namespace':'d'},'spec':{'revisionHistoryLimit':2,'selector':{'matchLabels':{'app':'agent','role':'main'}},"
        "'template':{'metadata':{'labels':{'app':'agent','role':'main'}},'spec':{'containers':[{'name':'c','image':'agent:0'}]}}}}");
    agent_bounds(world, object);
    assert_null(cluster_create(&world->cluster, object));
}

static void agent_edit(struct world *world) {
    struct kube_object *copy = cluster_edit(&world->cluster, &kube_kind_daemon_set, "d", "agent");
    struct kube_daemon_set_spec *spec = &copy->daemon_set->spec;
    switch (world->calm ? 0 : world_random(world, 4)) {
    case 0: spec->template.spec.containers.items[0].image = any_image(world, copy, "agent"); break;
    case 1: agent_bounds(world, copy); break;
    case 2: spec->min_ready_seconds = world_random(world, 2) ? 0 : 10; break;
    default:
        if (world_random(world, 4) == 0)
            spec->update_strategy = (struct kube_daemon_set_update_strategy){.type = "OnDelete"};
    }
    world_put(world, copy);
}

static void agent_meddle(struct world *world) {
    world_meddle_with_pod(world, "agent");
}

static void agent_check(struct world *world) {
    const struct kube_daemon_set *set = agent(world);
    const struct kube_rolling_update_daemon_set *rolling = set ? set->spec.update_strategy.rolling_update : NULL;
    if (!rolling || !world->calm || !world->is_up)
        return;
    int surge, unavailable;
    assert_int_equal(kube_int_or_percent(rolling->max_surge, NODES, true, &surge), 0);
    assert_int_equal(kube_int_or_percent(rolling->max_unavailable, NODES, true, &unavailable), 0);
    unavailable += surge == 0 && unavailable == 0;
    if (count_serving(world, "agent") < NODES - unavailable)
        world_fail(world, "fewer daemons are available than maxUnavailable allows");
    size_t pods = 0;
    for (size_t i = 0; i < world->cluster.objects.count; i++)
        pods += pod_bears(world->cluster.objects.items[i], "agent") && pod_is_active(world->cluster.objects.items[i]);
    if (pods > NODES + (size_t)surge)
        world_fail(world, "more daemons than nodes and maxSurge");
}

static void agent_settle(struct world *world) {
    struct kube_object *copy = cluster_edit(&world->cluster, &kube_kind_daemon_set, "d", "agent");
    agent_bounds(world, copy);
    world_put(world, copy);
}

static void agent_end(struct world *world) {
    const struct kube_daemon_set *set = agent(world);
    const struct kube_daemon_set_status *status = &set->status;
    check_pods(world, "agent", set->spec.template.spec.containers.items[0].image, NODES);
    if (status->desired_number_scheduled != NODES || status->current_number_scheduled != NODES || status->number_available != NODES ||
        status->updated_number_scheduled != NODES || status->number_ready != NODES || status->number_unavailable != 0 ||
        status->number_misscheduled != 0 || status->observed_generation != set->metadata.generation)
        world_fail(world, "the status is not the truth");
    if (count_revisions(world, "DaemonSet") > 3)
        world_fail(world, "more history than revisionHistoryLimit");
}

static void agent_remove(struct world *world) {
    world_delete(world, &kube_kind_daemon_set, "agent");
}

static const struct scenario agent_scenario = {"daemon set", 0,         agent_start,  agent_edit,  agent_meddle, agent_check,
                                               agent_settle, agent_end, agent_remove, is_taken_out};

/* ---- a replication controller with a disruption budget ---- */

static void old_start(struct world *world) {
    cluster_add(&world->cluster, &kube_kind_replication_controller,
                "{'metadata':{'name':'old','namespace':'d'},'spec':{'replicas':3,'selector':{'app':'old','role':'main'},"
                "'template':{'metadata':{'labels':{'app':'old','role':'main'}},'spec':{'containers':[{'name':'c','image':'old:0'}]}}}}");
    cluster_add(&world->cluster, &kube_kind_pod_disruption_budget,
                "{'metadata':{'name':'old','namespace':'d'},'spec':{'minAvailable':'50%','selector':{'matchLabels':{'app':'old','role':'main'}}}}");
}

static void old_edit(struct world *world) {
    if (world->calm)
        return;
    struct kube_object *copy = cluster_edit(&world->cluster, &kube_kind_replication_controller, "d", "old");
    *copy->replication_controller->spec.replicas = (int32_t)world_random(world, 7);
    world_put(world, copy);
}

static void old_meddle(struct world *world) {
    world_meddle_with_pod(world, "old");
}

static void old_check(struct world *world) {
    if (world->calm && world->is_up && count_serving(world, "old") < 3)
        world_fail(world, "a pod goes that nobody has asked to go");
}

static void old_end(struct world *world) {
    const struct kube_replication_controller *controller =
        cluster_get(&world->cluster, &kube_kind_replication_controller, "d", "old")->replication_controller;
    const struct kube_pod_disruption_budget_status *budget =
        &cluster_get(&world->cluster, &kube_kind_pod_disruption_budget, "d", "old")->pod_disruption_budget->status;
    int32_t replicas = *controller->spec.replicas;
    check_pods(world, "old", "old:0", replicas);
    if (controller->status.replicas != replicas || controller->status.available_replicas != replicas || controller->status.conditions.count)
        world_fail(world, "the status is not the truth");
    if (budget->current_healthy != replicas || budget->disruptions_allowed != replicas / 2)
        world_fail(world, "the budget is not the truth");
}

static void old_remove(struct world *world) {
    world_delete(world, &kube_kind_replication_controller, "old");
    cluster_delete(&world->cluster, &kube_kind_pod_disruption_budget, "d", "old", NULL, NULL, -1);
}

static const struct scenario old_scenario = {
    "replication controller", 0, old_start, old_edit, old_meddle, old_check, NULL, old_end, old_remove, is_taken_out};

static const struct scenario *const scenarios[] = {&web_scenario, &db_scenario, &agent_scenario, &old_scenario};

UNIT_TEST(histories_end_well) {
    simulation_run(scenarios, ARRAY_LEN(scenarios), HISTORIES);
}

/* ---- controllers that are broken on purpose ---- */

static struct kube_object *all_pods_look_ready(struct cluster *cluster, const struct kube_object *object) {
    (void)cluster;
    if (object->kind != &kube_kind_pod || kube_pod_is_ready(object->pod) || is_deleting(object))
        return NULL;
    struct kube_object *copy = kube_object_copy(object);
    copy->pod->status.phase = "Running";
    cluster_set_condition(copy, "Ready", true, CLUSTER_START_NS - NS_PER_S * 86400);
    return copy;
}

static struct kube_object *going_pods_look_well(struct cluster *cluster, const struct kube_object *object) {
    (void)cluster;
    if (object->kind != &kube_kind_pod || !is_deleting(object))
        return NULL;
    struct kube_object *copy = kube_object_copy(object);
    copy->metadata->deletion_timestamp = (struct kube_time){.set = false};
    return copy;
}

static void sets_get_one_more(struct cluster *cluster, struct cluster_run *run) {
    (void)cluster;
    for (size_t i = 0; i < run->actions.count; i++) {
        const struct control_action *action = &run->actions.items[i];
        if (action->kind == &kube_kind_replica_set && action->object && action->verb != CONTROL_UPDATE_STATUS)
            (*action->object->replica_set->spec.replicas)++;
    }
}

static void deletes_orphan(struct cluster *cluster, struct cluster_run *run) {
    (void)cluster;
    for (size_t i = 0; i < run->actions.count; i++)
        if (run->actions.items[i].verb == CONTROL_DELETE)
            run->actions.items[i].propagation = "Orphan";
}

static void drop_action(struct cluster_run *run, size_t at) {
    struct control_action *action = &run->actions.items[at];
    kube_object_unref(action->object);
    action->object = NULL;
    action->verb = CONTROL_DELETE; /* of something that is not there: of no account */
    free((void *)(uintptr_t)action->name);
    action->name = strdup("nothing");
}

static void statuses_are_lost(struct cluster *cluster, struct cluster_run *run) {
    for (size_t i = 0; i < run->actions.count; i++)
        if (run->actions.items[i].verb == CONTROL_UPDATE_STATUS && cluster_random(cluster, 4) == 0)
            drop_action(run, i);
}

/* The pod's claim goes with it. */
static void claims_go_too(struct cluster *cluster, struct cluster_run *run) {
    for (size_t i = 0; i < run->actions.count; i++) {
        const struct control_action *action = &run->actions.items[i];
        char claim[80];
        snprintf(claim, sizeof claim, "data-%s", action->name);
        if (action->verb == CONTROL_DELETE && action->kind == &kube_kind_pod)
            cluster_delete(cluster, &kube_kind_persistent_volume_claim, "d", claim, NULL, NULL, -1);
    }
}

static void owners_are_not_checked(struct cluster *cluster, struct cluster_run *run) {
    (void)cluster;
    for (size_t i = 0; i < run->actions.count; i++) {
        struct kube_object *object = run->actions.items[i].object;
        if (object && object->kind == &kube_kind_pod && run->actions.items[i].verb == CONTROL_CREATE) {
            struct kube_object other = {.kind = &kube_kind_node, .metadata = &(struct kube_object_meta){.name = "n1", .uid = "n1"}};
            assert_int_equal(add_controller_reference(object->metadata, object->arena, &other), 0);
        }
    }
}

static const struct mutation mutations[] = {
    {"a pod that is not ready counts as ready", NULL, all_pods_look_ready, false},
    {"a pod that is going counts as there", NULL, going_pods_look_well, true},
    {"a replica set gets one more than it should", sets_get_one_more, NULL, false},
    {"what is deleted leaves its dependents behind", deletes_orphan, NULL, false},
    {"one in four statuses is not written", statuses_are_lost, NULL, false},
    {"a pod's claim is deleted with it", claims_go_too, NULL, false},
    {"a pod is given a second controller", owners_are_not_checked, NULL, false},
};

UNIT_TEST(broken_controllers_are_found) {
    simulation_hunt(scenarios, ARRAY_LEN(scenarios), mutations, ARRAY_LEN(mutations), HUNT_MAX);
}

UNIT_MAIN(UNIT(histories_end_well), UNIT(broken_controllers_are_found))
