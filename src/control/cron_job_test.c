/* CronJobs on the test's clock. It starts at 2027-01-15T08:00:00Z, a Friday. */
#include "control/cluster_testing_priv.h"

#define MINUTE INT64_C(60)
#define HOUR (60 * MINUTE)

static void start(struct cluster *cluster, const char *spec) {
    char text[1024];
    cluster_init(cluster, 1);
    cluster->keep_events = true;
    cluster_add_node(cluster, "8", "110");
    snprintf(text, sizeof text,
             "{'metadata':{'name':'c','namespace':'d'},'spec':{%s,'jobTemplate':{'metadata':{'labels':{'l':'x'}},'spec':{'template':{'spec':"
             "{'restartPolicy':'Never','containers':[{'name':'c','image':'i'}]}}}}}}",
             spec);
    cluster_add(cluster, &kube_kind_cron_job, text);
    cluster_settle(cluster);
}

static const struct kube_cron_job_status *status_of(struct cluster *cluster) {
    return &cluster_get(cluster, &kube_kind_cron_job, "d", "c")->cron_job->status;
}

static const struct kube_object *event_find(const struct cluster *cluster, const char *reason) {
    for (size_t i = 0; i < cluster->objects.count; i++)
        if (cluster->objects.items[i]->kind == &kube_kind_event && text_is(cluster->objects.items[i]->event->reason, reason))
            return cluster->objects.items[i];
    return NULL;
}

static void assert_event(const struct cluster *cluster, const char *type, const char *reason, const char *message) {
    const struct kube_object *event = event_find(cluster, reason);
    if (!event)
        fail_msg("no event %s", reason);
    assert_string_equal(event->event->type, type);
    assert_string_equal(event->event->message, message);
}

/* The node's part: every pod ends so. */
static void end_pods(struct cluster *cluster, const char *phase) {
    cluster_settle(cluster);
    for (size_t i = 0; i < cluster->objects.count; i++) {
        const struct kube_object *pod = cluster->objects.items[i];
        if (pod->kind == &kube_kind_pod && pod->pod->spec.node_name && pod_is_active(pod))
            cluster_set_pod(cluster, pod, phase, false);
    }
    cluster_settle(cluster);
}

static void edit_spec(struct cluster *cluster, void (*edit)(struct kube_object *object)) {
    struct kube_object *copy = cluster_edit(cluster, &kube_kind_cron_job, "d", "c");
    edit(copy);
    assert_null(cluster_update(cluster, copy, false));
}

UNIT_TEST(a_job_is_made_when_it_falls_due) {
    struct cluster cluster;
    start(&cluster, "'schedule':'*/10 * * * *'");
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 0);
    cluster_wait(&cluster, 9 * MINUTE + 59);
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 0);
    cluster_wait(&cluster, 2);
    const struct kube_object *job = cluster_get(&cluster, &kube_kind_job, "d", "c-30000010");
    assert_non_null(job);
    assert_string_equal(kube_map_find(&job->metadata->labels, "l"), "x");
    assert_string_equal(kube_map_find(&job->metadata->annotations, "batch.kubernetes.io/cronjob-scheduled-timestamp"), "2027-01-15T08:10:00Z");
    assert_true(kube_is_controlled_by(job->metadata, cluster_get(&cluster, &kube_kind_cron_job, "d", "c")->metadata->uid));
    assert_int_equal(status_of(&cluster)->active.count, 1);
    assert_string_equal(status_of(&cluster)->active.items[0].uid, job->metadata->uid);
    assert_int_equal(status_of(&cluster)->last_schedule_time.ns, CLUSTER_START_NS + 10 * MINUTE * NS_PER_S);
    assert_event(&cluster, "Normal", "SuccessfulCreate", "Created job c-30000010");
    end_pods(&cluster, "Succeeded");
    assert_int_equal(status_of(&cluster)->active.count, 0);
    assert_int_equal(status_of(&cluster)->last_successful_time.ns,
                     cluster_get(&cluster, &kube_kind_job, "d", "c-30000010")->job->status.completion_time.ns);
    assert_event(&cluster, "Normal", "SawCompletedJob", "Saw completed job: c-30000010, condition: Complete");
    for (int i = 0; i < 5; i++) { /* the last three are kept */
        cluster_wait(&cluster, 10 * MINUTE);
        end_pods(&cluster, "Succeeded");
    }
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 3);
    assert_non_null(cluster_get(&cluster, &kube_kind_job, "d", "c-30000060"));
    cluster_deinit(&cluster);
}

UNIT_TEST(what_was_missed_is_made_up_for_once) {
    struct cluster cluster;
    start(&cluster, "'schedule':'@hourly'");
    cluster.now_ns += (200 * HOUR + 5 * MINUTE) * NS_PER_S; /* the platform was down */
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 1);
    assert_int_equal(status_of(&cluster)->last_schedule_time.ns, CLUSTER_START_NS + 200 * HOUR * NS_PER_S);
    assert_event(&cluster, "Warning", "TooManyMissedTimes",
                 "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew");
    cluster_deinit(&cluster);
    start(&cluster, "'schedule':'@hourly','startingDeadlineSeconds':200"); /* too late for the last one: it waits for the next */
    cluster.now_ns += (3 * HOUR + 5 * MINUTE) * NS_PER_S;
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 0);
    cluster_wait(&cluster, HOUR);
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 1);
    cluster_deinit(&cluster);
    start(&cluster, "'schedule':'@hourly','startingDeadlineSeconds':9223372036854775807"); /* never too late */
    cluster.now_ns += (3 * HOUR + 5 * MINUTE) * NS_PER_S;
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 1);
    cluster_deinit(&cluster);
    start(&cluster, "'schedule':'0 9 * * *'"); /* irregular: yesterday's is found */
    cluster.now_ns += (72 * HOUR - 30 * MINUTE) * NS_PER_S;
    cluster_settle(&cluster);
    assert_int_equal(status_of(&cluster)->last_schedule_time.ns, CLUSTER_START_NS + 49 * HOUR * NS_PER_S);
    assert_null(event_find(&cluster, "TooManyMissedTimes"));
    cluster_deinit(&cluster);
}

UNIT_TEST(jobs_that_still_run_are_let_be_awaited_or_replaced) {
    static const struct {
        const char *policy;
        size_t jobs, active;
    } cases[] = {{"Allow", 3, 3}, {"Forbid", 1, 1}, {"Replace", 1, 1}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cluster cluster;
        char spec[200];
        snprintf(spec, sizeof spec, "'schedule':'* * * * *','concurrencyPolicy':'%s'", cases[i].policy);
        start(&cluster, spec);
        cluster_wait(&cluster, 3 * MINUTE + 10);
        cluster_run_pods(&cluster);
        assert_int_equal(cluster_count(&cluster, &kube_kind_job), cases[i].jobs);
        assert_int_equal(status_of(&cluster)->active.count, cases[i].active);
        if (i == 1)
            assert_event(&cluster, "Normal", "JobAlreadyActive",
                         "Not starting job because prior execution is running and concurrency policy is Forbid");
        if (i == 1) { /* when it has ended, the last one that was due follows at once */
            end_pods(&cluster, "Succeeded");
            assert_non_null(cluster_get(&cluster, &kube_kind_job, "d", "c-30000003"));
        }
        if (i == 2)
            assert_event(&cluster, "Normal", "SuccessfulDelete", "Deleted job c-30000001");
        cluster_deinit(&cluster);
    }
}

static void suspend(struct kube_object *object) {
    object->cron_job->spec.suspend = bool_new(object->arena, true);
}
static void resume(struct kube_object *object) {
    object->cron_job->spec.suspend = bool_new(object->arena, false);
}

UNIT_TEST(suspended_it_makes_none) {
    struct cluster cluster;
    start(&cluster, "'schedule':'@hourly'");
    edit_spec(&cluster, suspend);
    cluster_wait(&cluster, 2 * HOUR + 10);
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 0);
    assert_int_equal(control_deadline(cluster.control) > cluster.now_ns + HOUR * NS_PER_S, 1); /* and sleeps */
    edit_spec(&cluster, resume);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 1); /* without a deadline what was due meanwhile is made up for */
    cluster_deinit(&cluster);
}

UNIT_TEST(zones_count) {
    struct cluster cluster;
    char file[128] = "TZif2", footer[] = "\n<+0130>-1:30\n"; /* two headers, one kind of local time, the rule */
    memcpy(file + 44, "TZif2", 5);
    file[44 + 39] = 1;
    memcpy(file + 94, footer, sizeof footer);
    start(&cluster, "'schedule':'0 10 * * *','timeZone':'Test/East'");
    assert_int_equal(zone_parse(slice_make(file, 94 + sizeof footer - 1), &cluster.zone), 0);
    struct kube_object *touched = cluster_edit(&cluster, &kube_kind_cron_job, "d", "c");
    assert_int_equal(kube_map_set(&touched->metadata->annotations, touched->arena, "a", "b"), 0);
    assert_null(cluster_update(&cluster, touched, false));
    cluster_wait(&cluster, 29 * MINUTE);
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 0);
    cluster_wait(&cluster, 2 * MINUTE);
    const struct kube_object *job = cluster_get(&cluster, &kube_kind_job, "d", "c-30000030");
    assert_non_null(job);
    assert_string_equal(kube_map_find(&job->metadata->annotations, "batch.kubernetes.io/cronjob-scheduled-timestamp"), "2027-01-15T10:00:00+01:30");
    cluster_deinit(&cluster);
    start(&cluster, "'schedule':'@hourly','timeZone':'Nowhere/Land'");
    assert_event(&cluster, "Warning", "UnknownTimeZone", "invalid timeZone: \"Nowhere/Land\": unknown time zone Nowhere/Land");
    cluster_wait(&cluster, 2 * HOUR);
    assert_int_equal(cluster_count(&cluster, &kube_kind_job), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(jobs_of_others_are_told_apart) {
    struct cluster cluster;
    start(&cluster, "'schedule':'* * * * *'");
    struct kube_object *manual = object_from(&kube_kind_job, "{'metadata':{'name':'m','namespace':'d'},'spec':{'suspend':true,'template':{'spec':"
                                                             "{'restartPolicy':'Never','containers':[{'name':'c','image':'i'}]}}}}");
    assert_int_equal(add_controller_reference(manual->metadata, manual->arena, cluster_get(&cluster, &kube_kind_cron_job, "d", "c")), 0);
    assert_null(cluster_create(&cluster, manual));
    cluster_settle(&cluster);
    assert_event(&cluster, "Warning", "UnexpectedJob", "Saw a job that the controller did not create or forgot: m");
    assert_int_equal(status_of(&cluster)->active.count, 0);
    cluster_wait(&cluster, 70);
    cluster_delete(&cluster, &kube_kind_job, "d", "c-30000001", NULL, NULL, 0);
    cluster_settle(&cluster);
    assert_event(&cluster, "Normal", "MissingJob", "Active job went missing: c-30000001");
    cluster_add(&cluster, &kube_kind_job,
                "{'metadata':{'name':'c-30000002','namespace':'d'},'spec':{'suspend':true,'template':{'spec':"
                "{'restartPolicy':'Never','containers':[{'name':'c','image':'i'}]}}}}");
    cluster_wait(&cluster, 60);
    assert_event(&cluster, "Warning", "FailedCreate", "Error creating job: jobs.batch \"c-30000002\" already exists");
    cluster_wait(&cluster, 60);
    assert_int_equal(status_of(&cluster)->active.count, 1);
    cluster_deinit(&cluster);
}

UNIT_TEST(a_time_that_never_comes_is_said) {
    struct cluster cluster;
    start(&cluster, "'schedule':'0 0 30 2 *'");
    assert_event(&cluster, "Warning", "InvalidSchedule",
                 "invalid schedule: 0 0 30 2 * : time difference between two schedules is less than 1 second");
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(a_job_is_made_when_it_falls_due), UNIT(what_was_missed_is_made_up_for_once), UNIT(jobs_that_still_run_are_let_be_awaited_or_replaced),
          UNIT(suspended_it_makes_none), UNIT(zones_count), UNIT(jobs_of_others_are_told_apart), UNIT(a_time_that_never_comes_is_said))
