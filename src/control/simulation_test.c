/* The queue, and jobs in random histories: pods succeed, fail and vanish at random. A failure prints the seed; SIMULATION_SEED replays it. A job
 * never runs more pods than parallelism allows, never forgets what it has counted, ends, and leaves nothing when its time is over. Everything else:
 * simulation_workloads_test.c. */
#include "control/cluster_testing_priv.h"

#define JOB_HISTORIES 100

struct world {
    uint64_t seed;
    int32_t succeeded, failed; /* what the job said last */
};

static void fail_seed(const struct world *world, const char *what) {
    fail_msg("SIMULATION_SEED=%" PRIu64 ": %s", world->seed, what);
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
    if (is_deleting(pod) && !pod_is_finished(pod->pod) && pod->metadata->finalizers.count)
        cluster_set_pod(cluster, pod, dice < 8 ? "Failed" : "Succeeded", false); /* how it ended */
    else if (is_deleting(pod))
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
    if (cluster_random(&cluster, 2)) {
        object->job->spec.completion_mode = "Indexed";
        if (cluster_random(&cluster, 2))
            object->job->spec.backoff_limit_per_index = int32_new(object->arena, (int32_t)cluster_random(&cluster, 3));
    }
    object->job->spec.pod_replacement_policy = cluster_random(&cluster, 2) ? "Failed" : "TerminatingOrFailed";
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
    if (object->job->status.succeeded < wanted && object->job->status.failed <= backoff_limit && !object->job->spec.backoff_limit_per_index)
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

UNIT_MAIN(UNIT(the_queue_backs_off_and_runs_each_key_once), UNIT(jobs_end))
