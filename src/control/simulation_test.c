/* Random histories: changes are told late, writes are done late and in another order, pods start, crash and vanish at random, people change their
 * minds. Whatever the order, what follows must hold. A failure prints the seed; SIMULATION_SEED replays it.
 *
 * Always: the ReplicaSets of a deployment together never want more than replicas + maxSurge (while nobody scales down); no pod has two controllers;
 * no name twice. While only the template changes and no pod fails: never fewer available pods than replicas - maxUnavailable. In the end: exactly the
 * pods that are wanted, all of the last template and ready; the status says so; history within its limit; and then nothing more is done. */
#include "control/cluster_testing_priv.h"

#define HISTORIES 250
#define JOB_HISTORIES 100

struct world {
    uint64_t seed;
    bool calm;              /* no pod fails, nobody scales: availability must hold */
    bool is_up;             /* all pods were available before anybody changed anything */
    int32_t replicas_bound; /* the most that replicas + maxSurge has been */
    int image;
    size_t rollouts;
    int32_t succeeded, failed; /* what the job said last */
};

static void fail_seed(const struct world *world, const char *what) {
    fail_msg("SIMULATION_SEED=%" PRIu64 ": %s", world->seed, what);
}

static const struct kube_deployment *find_deployment(struct cluster *cluster) {
    const struct kube_object *object = cluster_get(cluster, &kube_kind_deployment, "d", "web");
    return object ? object->deployment : NULL;
}

static void bounds(const struct kube_deployment *deployment, int *ret_surge, int *ret_unavailable) {
    const struct kube_rolling_update_deployment *rolling = deployment->spec.strategy.rolling_update;
    int32_t replicas = *deployment->spec.replicas;
    assert_int_equal(kube_int_or_percent(rolling->max_surge, replicas, true, ret_surge), 0);
    assert_int_equal(kube_int_or_percent(rolling->max_unavailable, replicas, false, ret_unavailable), 0);
    if (*ret_surge == 0 && *ret_unavailable == 0)
        *ret_unavailable = 1;
}

/* ---- what must always hold ---- */

static void check_always(struct cluster *cluster) {
    struct world *world = cluster->userdata;
    const struct kube_deployment *deployment = find_deployment(cluster);
    if (!deployment)
        return;
    int surge, unavailable;
    bounds(deployment, &surge, &unavailable);
    int32_t wanted = 0, available = 0;
    world->replicas_bound = MAX(world->replicas_bound, *deployment->spec.replicas + surge);
    for (size_t i = 0; i < cluster->objects.count; i++) {
        const struct kube_object *object = cluster->objects.items[i];
        if (object->kind == &kube_kind_replica_set)
            wanted += *object->replica_set->spec.replicas;
        if (object->kind != &kube_kind_pod)
            continue;
        available += pod_is_active(object) && kube_pod_is_ready(object->pod);
        size_t controllers_count = 0;
        for (size_t j = 0; j < object->metadata->owner_references.count; j++)
            controllers_count += object->metadata->owner_references.items[j].controller && *object->metadata->owner_references.items[j].controller;
        if (controllers_count > 1)
            fail_seed(world, "a pod has two controllers");
    }
    if (wanted > world->replicas_bound)
        fail_seed(world, "more pods are wanted than maxSurge allows");
    if (world->calm && world->is_up && available < *deployment->spec.replicas - unavailable)
        fail_seed(world, "fewer pods are available than maxUnavailable allows");
}

/* ---- what the node and people do ---- */

static const struct kube_object *any_pod(struct cluster *cluster) {
    size_t count = cluster_count(cluster, &kube_kind_pod);
    size_t at = count ? (size_t)cluster_random(cluster, count) : 0;
    for (size_t i = 0; count && i < cluster->objects.count; i++)
        if (cluster->objects.items[i]->kind == &kube_kind_pod && at-- == 0)
            return cluster->objects.items[i];
    return NULL;
}

static bool node_acts(struct cluster *cluster) {
    const struct world *world = cluster->userdata;
    const struct kube_object *pod = any_pod(cluster);
    if (!pod || !pod->pod->spec.node_name)
        return false;
    bool ready = kube_pod_is_ready(pod->pod);
    if (is_deleting(pod))
        cluster_delete(cluster, pod->kind, "d", pod->metadata->name, NULL, NULL, 0);
    else if (pod_is_finished(pod->pod))
        return false;
    else if (!ready)
        cluster_set_pod(cluster, pod, "Running", true);
    else if (!world->calm && cluster_random(cluster, 20) == 0)
        cluster_set_pod(cluster, pod, cluster_random(cluster, 3) ? "Running" : "Failed", false); /* a crash, an eviction */
    else
        return false;
    return true;
}

static void set_bounds(struct cluster *cluster, struct kube_object *object) {
    static const char *const percentages[] = {"0%", "25%", "50%", "100%"};
    struct kube_rolling_update_deployment *rolling = ARENA_NEW(object->arena, struct kube_rolling_update_deployment);
    rolling->max_surge = ARENA_NEW(object->arena, struct kube_int_or_string);
    rolling->max_unavailable = ARENA_NEW(object->arena, struct kube_int_or_string);
    struct kube_int_or_string *both[] = {rolling->max_surge, rolling->max_unavailable};
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        if (cluster_random(cluster, 2))
            *both[i] = (struct kube_int_or_string){.is_string = true, .text = percentages[cluster_random(cluster, ARRAY_LEN(percentages))]};
        else
            *both[i] = (struct kube_int_or_string){.number = (int32_t)cluster_random(cluster, 4)};
    }
    object->deployment->spec.strategy.type = "RollingUpdate";
    object->deployment->spec.strategy.rolling_update = rolling;
}

static void set_image(struct cluster *cluster, struct kube_object *object) {
    struct world *world = cluster->userdata;
    world->image = (int)cluster_random(cluster, 6); /* now and then one that was there before */
    object->deployment->spec.template.spec.containers.items[0].image = arena_printf(object->arena, "web:%d", world->image);
    world->rollouts++;
}

static void person_edits(struct cluster *cluster) {
    const struct world *world = cluster->userdata;
    struct kube_object *copy = cluster_edit(cluster, &kube_kind_deployment, "d", "web");
    switch (world->calm ? 0 : cluster_random(cluster, 5)) {
    case 0: set_image(cluster, copy); break;
    case 1: *copy->deployment->spec.replicas = (int32_t)cluster_random(cluster, 9); break;
    case 2: set_bounds(cluster, copy); break;
    case 3: copy->deployment->spec.paused = cluster_random(cluster, 3) == 0; break;
    default: assert_int_equal(kube_map_set(&copy->metadata->annotations, copy->arena, "note", cluster_random(cluster, 2) ? "a" : "b"), 0);
    }
    assert_null(cluster_update(cluster, copy, false));
}

static void person_meddles(struct cluster *cluster) {
    const struct kube_object *pod = any_pod(cluster);
    if (!pod)
        return;
    if (cluster_random(cluster, 4)) {
        cluster_delete(cluster, pod->kind, "d", pod->metadata->name, NULL, NULL, -1);
        return;
    }
    struct kube_object *copy = kube_object_copy(pod); /* out of its set, or back in */
    const char *app = text_is(kube_map_find(&pod->metadata->labels, "app"), "web") ? "debug" : "web";
    assert_int_equal(kube_map_set(&copy->metadata->labels, copy->arena, "app", app), 0);
    assert_null(cluster_update(cluster, copy, false));
}

/* ---- a history ---- */

static void live(struct cluster *cluster) {
    const struct world *world = cluster->userdata;
    for (int i = 0; i < 600; i++) {
        uint64_t dice = cluster_random(cluster, 100);
        if (dice < 65)
            cluster_step(cluster);
        else if (dice < 90)
            node_acts(cluster);
        else if (dice < 93)
            cluster->now_ns += (int64_t)cluster_random(cluster, 2 * NS_PER_S);
        else if (dice < 95)
            person_edits(cluster);
        else if (dice < 97 && !world->calm)
            person_meddles(cluster);
    }
}

/* People stop, pods become well: everything must come to rest. */
static void come_to_rest(struct cluster *cluster, struct world *world) {
    world->calm = false;
    struct kube_object *copy = cluster_edit(cluster, &kube_kind_deployment, "d", "web");
    copy->deployment->spec.paused = false;
    assert_null(cluster_update(cluster, copy, false));
    for (int round = 0; round < 3; round++) {
        cluster_run_pods(cluster);
        cluster_wait(cluster, 1500); /* through every back-off */
    }
    size_t actions = cluster->actions, reconciles = cluster->reconciles;
    cluster_wait(cluster, 86400);
    if (cluster->actions != actions || cluster->reconciles > reconciles + 2)
        fail_seed(world, "it does not come to rest");
}

static void check_end(struct cluster *cluster, const struct world *world) {
    const struct kube_deployment *deployment = find_deployment(cluster);
    const struct kube_deployment_status *status = &deployment->status;
    int32_t replicas = *deployment->spec.replicas, pods = 0;
    for (size_t i = 0; i < cluster->objects.count; i++) {
        const struct kube_object *object = cluster->objects.items[i];
        if (object->kind != &kube_kind_pod || !kube_controller_of(object->metadata) || pod_is_finished(object->pod))
            continue;
        pods++;
        if (strcmp(object->pod->spec.containers.items[0].image, deployment->spec.template.spec.containers.items[0].image) != 0)
            fail_seed(world, "a pod of an old template is left");
        if (!kube_pod_is_ready(object->pod))
            fail_seed(world, "a pod is not ready");
    }
    if (pods != replicas)
        fail_seed(world, "not as many pods as wanted");
    if (status->replicas != replicas || status->updated_replicas != replicas || status->available_replicas != replicas ||
        status->unavailable_replicas != 0 || status->observed_generation != deployment->metadata.generation)
        fail_seed(world, "the status is not the truth");
    if (cluster_count(cluster, &kube_kind_replica_set) > 3)
        fail_seed(world, "more history than revisionHistoryLimit");
}

static void run_history(uint64_t seed) {
    struct world world = {.seed = seed, .calm = seed % 3 == 0};
    struct cluster cluster;
    cluster_init(&cluster, seed);
    cluster.userdata = &world;
    cluster.in_memory = seed % 10 != 0; /* ten times faster */
    cluster_add_node(&cluster, "8", "110");
    struct kube_object *object = object_from(
        &kube_kind_deployment,
        "{'metadata':{'name':'web','namespace':'d'},'spec':{'replicas':3,'revisionHistoryLimit':2,'selector':{'matchLabels':{'app':'web'}},"
        "'template':{'metadata':{'labels':{'app':'web'}},'spec':{'containers':[{'name':'c','image':'web:0'}]}}}}");
    *object->deployment->spec.replicas = 1 + (int32_t)cluster_random(&cluster, 8);
    set_bounds(&cluster, object);
    cluster.on_commit = check_always;
    assert_null(cluster_create(&cluster, object));
    if (world.calm) {
        cluster_run_pods(&cluster);
        world.is_up = true;
    }
    live(&cluster);
    come_to_rest(&cluster, &world);
    check_end(&cluster, &world);
    cluster_deinit(&cluster);
}

/* ---- jobs: pods succeed, fail and vanish at random ---- */

static void check_job(struct cluster *cluster) {
    struct world *world = cluster->userdata;
    const struct kube_object *object = cluster_get(cluster, &kube_kind_job, "d", "j");
    int32_t active = 0;
    for (size_t i = 0; i < cluster->objects.count; i++)
        active += cluster->objects.items[i]->kind == &kube_kind_pod && pod_is_active(cluster->objects.items[i]);
    if (object && active > *object->job->spec.parallelism)
        fail_seed(world, "more pods run than parallelism allows");
    if (object && (object->job->status.succeeded < world->succeeded || object->job->status.failed < world->failed))
        fail_seed(world, "a job forgets what it has counted");
    world->succeeded = object ? object->job->status.succeeded : 0;
    world->failed = object ? object->job->status.failed : 0;
}

static void job_node_acts(struct cluster *cluster) {
    const struct kube_object *pod = any_pod(cluster);
    uint64_t dice = cluster_random(cluster, 10);
    bool finished = pod && !is_deleting(pod) && pod_is_finished(pod->pod);
    if (!pod || !pod->pod->spec.node_name || (finished && dice > 0))
        return;
    if (is_deleting(pod))
        cluster_delete(cluster, pod->kind, "d", pod->metadata->name, NULL, NULL, 0);
    else if (dice == 0)
        cluster_delete(cluster, pod->kind, "d", pod->metadata->name, NULL, NULL, -1);
    else
        cluster_set_pod(cluster, pod, dice < 3 ? "Failed" : dice < 8 ? "Succeeded" : "Running", dice >= 8);
}

static bool job_has_ended(struct cluster *cluster) {
    const struct kube_job_status *status = &cluster_get(cluster, &kube_kind_job, "d", "j")->job->status;
    for (size_t i = 0; i < status->conditions.count; i++)
        if (text_is(status->conditions.items[i].type, "Complete") || text_is(status->conditions.items[i].type, "Failed"))
            return true;
    return false;
}

static void run_job_history(uint64_t seed) {
    struct world world = {.seed = seed};
    struct cluster cluster;
    cluster_init(&cluster, seed);
    cluster.userdata = &world;
    cluster_add_node(&cluster, "8", "110");
    struct kube_object *object =
        object_from(&kube_kind_job, "{'metadata':{'name':'j','namespace':'d'},'spec':{'completions':1,'parallelism':1,'ttlSecondsAfterFinished':60,"
                                    "'template':{'spec':{'restartPolicy':'Never','containers':[{'name':'c','image':'i'}]}}}}");
    *object->job->spec.completions = 1 + (int32_t)cluster_random(&cluster, 8);
    *object->job->spec.parallelism = 1 + (int32_t)cluster_random(&cluster, 4);
    if (cluster_random(&cluster, 2))
        object->job->spec.completion_mode = "Indexed";
    assert_null(cluster_create(&cluster, object));
    cluster.on_commit = check_job;
    for (size_t turn = 0; !job_has_ended(&cluster); turn++) {
        if (turn > 100000)
            fail_seed(&world, "a job does not end");
        if (cluster_random(&cluster, 3) == 0)
            job_node_acts(&cluster);
        else if (!cluster_step(&cluster))
            cluster.now_ns += NS_PER_S;
    }
    object = cluster_edit(&cluster, &kube_kind_job, "d", "j");
    int32_t wanted = *object->job->spec.completions, backoff_limit = *object->job->spec.backoff_limit;
    if (object->job->status.succeeded < wanted && object->job->status.failed <= backoff_limit)
        fail_seed(&world, "a job ended early");
    kube_object_unref(object);
    cluster_run_pods(&cluster);
    cluster_wait(&cluster, 100);
    cluster_run_pods(&cluster);
    if (cluster.objects.count != 1)
        fail_seed(&world, "something is left of a job whose time is over");
    cluster_deinit(&cluster);
}

static uint64_t number_from(const char *variable, uint64_t fallback) {
    uint64_t number;
    const char *text = getenv(variable);
    return text && slice_parse_u64(slice_of(text), UINT64_MAX, &number) == 0 ? number : fallback;
}

UNIT_TEST(histories_end_well) {
    if (getenv("SIMULATION_SEED")) {
        run_history(number_from("SIMULATION_SEED", 1));
        return;
    }
    uint64_t count = number_from("SIMULATION_COUNT", HISTORIES), first = number_from("SIMULATION_FIRST", 1);
    for (uint64_t seed = first; seed < first + count; seed++)
        run_history(seed);
}

UNIT_TEST(jobs_end) {
    uint64_t count = number_from("SIMULATION_COUNT", JOB_HISTORIES), first = number_from("SIMULATION_FIRST", 1);
    if (getenv("SIMULATION_SEED")) {
        first = number_from("SIMULATION_SEED", 1);
        count = 1;
    }
    for (uint64_t seed = first; seed < first + count; seed++)
        run_job_history(seed);
}

/* ---- the queue ---- */

UNIT_TEST(the_queue_backs_off_and_runs_each_key_once) {
    struct queue queue;
    assert_int_equal(queue_init(&queue), 0);
    struct control_key key = {.controller = 1, .kind = &kube_kind_pod, .namespace = "d", .name = "p"};
    assert_int_equal(queue_deadline(&queue), INT64_MAX);
    assert_int_equal(queue_add(&queue, &key, 100), 0);
    assert_int_equal(queue_add(&queue, &key, 200), 0);
    assert_null(queue_next(&queue, 99));
    struct queue_item *item = queue_next(&queue, 100);
    assert_string_equal(item->key.name, "p");
    assert_null(queue_next(&queue, 1000));
    int64_t now_ns = 100, total_ns = 0;
    for (int i = 0; i < 30; i++) {
        queue_done(&queue, item, "Conflict", now_ns);
        int64_t wait_ns = queue_deadline(&queue) - now_ns;
        assert_int_equal(wait_ns, i < 18 ? MIN((5 * NS_PER_MS) << i, 1000 * NS_PER_S) : 1000 * NS_PER_S);
        total_ns += wait_ns;
        now_ns += wait_ns;
        item = queue_next(&queue, now_ns);
        assert_non_null(item);
    }
    assert_true(total_ns > 0);
    assert_int_equal(queue_add(&queue, &key, now_ns), 0); /* a change while it runs */
    queue_done(&queue, item, NULL, now_ns);
    assert_int_equal(queue_deadline(&queue), now_ns);
    item = queue_next(&queue, now_ns);
    item->requeue_after_ms = 50;
    queue_done(&queue, item, NULL, now_ns);
    assert_int_equal(queue_deadline(&queue), now_ns + 50 * NS_PER_MS);
    assert_int_equal(queue_add(&queue, &key, now_ns), 0); /* a change is not made to wait */
    item = queue_next(&queue, now_ns);
    queue_done(&queue, item, NULL, now_ns);
    assert_int_equal(queue_deadline(&queue), INT64_MAX);
    assert_int_equal(map_count(queue.items), 0);
    queue_deinit(&queue);
}

UNIT_MAIN(UNIT(the_queue_backs_off_and_runs_each_key_once), UNIT(histories_end_well), UNIT(jobs_end))
