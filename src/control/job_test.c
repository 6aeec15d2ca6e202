/* Jobs by example: what is counted, which failures end them, which successes suffice. */
#include "control/cluster_testing_priv.h"
#include "control/job_priv.h"

static void start(struct cluster *cluster, const char *spec) {
    char text[1024];
    cluster_init(cluster, 1);
    cluster->keep_events = true;
    cluster_add_node(cluster, "8", "110");
    snprintf(
        text, sizeof text,
        "{'metadata':{'name':'j','namespace':'d'},'spec':{%s'template':{'spec':{'restartPolicy':'Never','containers':[{'name':'c','image':'i'}]}}}}",
        spec);
    cluster_add(cluster, &kube_kind_job, text);
    cluster_settle(cluster);
}

static const struct kube_job_status *status_of(struct cluster *cluster) {
    return &cluster_get(cluster, &kube_kind_job, "d", "j")->job->status;
}

static const struct kube_job_condition *condition(struct cluster *cluster, const char *type) {
    const struct kube_job_status *status = status_of(cluster);
    for (size_t i = 0; i < status->conditions.count; i++)
        if (text_is(status->conditions.items[i].type, type) && text_is(status->conditions.items[i].status, "True"))
            return &status->conditions.items[i];
    return NULL;
}

static void assert_condition(struct cluster *cluster, const char *type, const char *reason, const char *message) {
    const struct kube_job_condition *found = condition(cluster, type);
    if (!found)
        fail_msg("no condition %s", type);
    assert_string_equal(found->reason, reason);
    assert_string_equal(found->message, message);
}

/* An active pod of this index (-1: any); NULL: none. */
static const struct kube_object *active_pod(struct cluster *cluster, int index) {
    for (size_t i = 0; i < cluster->objects.count; i++) {
        const struct kube_object *pod = cluster->objects.items[i];
        if (pod->kind == &kube_kind_pod && pod_is_active(pod) && (index < 0 || job_annotation_number(pod, JOB_INDEX_KEY) == index))
            return pod;
    }
    return NULL;
}

static void end_pod(struct cluster *cluster, int index, const char *phase, int code) {
    const struct kube_object *pod = active_pod(cluster, index);
    assert_non_null(pod);
    struct kube_object *copy = kube_object_copy(pod);
    struct kube_container_status *container = ARENA_NEW(copy->arena, struct kube_container_status);
    struct kube_container_state_terminated *end = ARENA_NEW(copy->arena, struct kube_container_state_terminated);
    *end = (struct kube_container_state_terminated){.exit_code = code, .reason = "Error", .finished_at = {.ns = cluster->now_ns, .set = true}};
    *container = (struct kube_container_status){.name = "c", .image = "i", .image_id = "i", .state = {.terminated = end}};
    copy->pod->status.container_statuses = (struct kube_container_status_array){.items = container, .count = 1};
    copy->pod->status.phase = phase;
    assert_null(cluster_update(cluster, copy, true));
    cluster_settle(cluster);
}

static void fail_pod(struct cluster *cluster, int index, int code) {
    end_pod(cluster, index, "Failed", code);
}

static size_t held_pods(const struct cluster *cluster) {
    size_t held = 0;
    for (size_t i = 0; i < cluster->objects.count; i++)
        held += cluster->objects.items[i]->kind == &kube_kind_pod && job_has_finalizer(cluster->objects.items[i]);
    return held;
}

UNIT_TEST(pods_are_counted_though_they_are_deleted) {
    struct cluster cluster;
    start(&cluster, "'completions':2,'parallelism':1,");
    const struct kube_object *pod = active_pod(&cluster, -1);
    assert_true(job_has_finalizer(pod));
    /* It succeeds and somebody deletes it before the controller looks. */
    struct kube_object *copy = kube_object_copy(pod);
    copy->pod->status.phase = "Succeeded";
    const char *name = arena_strdup(copy->arena, pod->metadata->name);
    kube_object_ref(copy);
    assert_null(cluster_update(&cluster, copy, true));
    cluster_delete(&cluster, &kube_kind_pod, "d", name, NULL, NULL, 0);
    cluster_settle(&cluster);
    assert_null(cluster_get(&cluster, &kube_kind_pod, "d", name)); /* counted, it may go */
    kube_object_unref(copy);
    assert_int_equal(status_of(&cluster)->succeeded, 1);
    assert_int_equal(status_of(&cluster)->uncounted_terminated_pods->succeeded.count, 0);
    assert_int_equal(status_of(&cluster)->active, 1);
    end_pod(&cluster, -1, "Succeeded", 0);
    assert_condition(&cluster, "SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods");
    assert_condition(&cluster, "Complete", "CompletionsReached", "Reached expected number of succeeded pods");
    assert_int_equal(held_pods(&cluster), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(a_pod_whose_labels_go_is_let_go) {
    struct cluster cluster;
    start(&cluster, "'parallelism':0,");
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_job, "d", "j");
    static struct kube_string_pair label = {"a", "b"};
    static struct kube_label_selector selector = {.match_labels = {&label, 1}};
    static int32_t one = 1;
    copy->job->spec.selector = &selector;
    copy->job->spec.template.metadata.labels = (struct kube_string_map){&label, 1};
    copy->job->spec.parallelism = &one;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    copy = kube_object_copy(active_pod(&cluster, -1));
    copy->metadata->labels.count = 0;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 2); /* with the one in its place */
    assert_int_equal(held_pods(&cluster), 1);
    cluster_deinit(&cluster);
}

UNIT_TEST(pods_of_a_deleted_job_are_let_go) {
    struct cluster cluster;
    start(&cluster, "'parallelism':3,");
    assert_int_equal(held_pods(&cluster), 3);
    cluster_delete(&cluster, &kube_kind_job, "d", "j", NULL, "Background", -1);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    cluster_deinit(&cluster);
    start(&cluster, "'parallelism':2,");
    cluster_delete(&cluster, &kube_kind_job, "d", "j", NULL, "Orphan", -1);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 2);
    assert_int_equal(held_pods(&cluster), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(indexes_are_told_to_pods) {
    struct cluster cluster;
    start(&cluster, "'completionMode':'Indexed','completions':5,'parallelism':5,");
    const struct kube_object *pod = active_pod(&cluster, 3);
    assert_string_equal(kube_map_find(&pod->metadata->labels, JOB_INDEX_KEY), "3");
    assert_memory_equal(pod->metadata->name, "j-3-", 4);
    assert_string_equal(pod->pod->spec.hostname, "j-3");
    const struct kube_env_var *variable = &pod->pod->spec.containers.items[0].env.items[0];
    assert_string_equal(variable->name, "JOB_COMPLETION_INDEX");
    assert_string_equal(variable->value_from->field_ref->field_path, "metadata.labels['batch.kubernetes.io/job-completion-index']");
    end_pod(&cluster, 0, "Succeeded", 0);
    end_pod(&cluster, 1, "Succeeded", 0);
    end_pod(&cluster, 4, "Succeeded", 0);
    assert_string_equal(status_of(&cluster)->completed_indexes, "0,1,4");
    end_pod(&cluster, 2, "Succeeded", 0);
    assert_string_equal(status_of(&cluster)->completed_indexes, "0-2,4");
    end_pod(&cluster, 3, "Succeeded", 0);
    assert_string_equal(status_of(&cluster)->completed_indexes, "0-4");
    assert_non_null(condition(&cluster, "Complete"));
    cluster_deinit(&cluster);
}

UNIT_TEST(each_index_has_failures_of_its_own) {
    struct cluster cluster;
    start(&cluster, "'completionMode':'Indexed','completions':3,'parallelism':3,'backoffLimitPerIndex':1,'backoffLimit':100,");
    fail_pod(&cluster, 1, 1);
    assert_null(active_pod(&cluster, 1)); /* it waits */
    assert_int_equal(status_of(&cluster)->active, 2);
    cluster_wait(&cluster, 11);
    assert_int_equal(job_annotation_number(active_pod(&cluster, 1), JOB_FAILURES_ANNOTATION), 1);
    assert_string_equal(status_of(&cluster)->failed_indexes ? status_of(&cluster)->failed_indexes : "", "");
    assert_int_equal(status_of(&cluster)->failed, 1);
    fail_pod(&cluster, 1, 1);
    cluster_wait(&cluster, 100);
    assert_null(active_pod(&cluster, 1));
    assert_string_equal(status_of(&cluster)->failed_indexes, "1");
    end_pod(&cluster, 0, "Succeeded", 0);
    assert_null(condition(&cluster, "FailureTarget"));
    end_pod(&cluster, 2, "Succeeded", 0);
    assert_condition(&cluster, "Failed", "FailedIndexes", "Job has failed indexes");
    assert_string_equal(status_of(&cluster)->completed_indexes, "0,2");
    assert_int_equal(held_pods(&cluster), 0);
    cluster_deinit(&cluster);
    start(&cluster, "'completionMode':'Indexed','completions':3,'parallelism':3,'backoffLimitPerIndex':0,'maxFailedIndexes':1,'backoffLimit':100,");
    fail_pod(&cluster, 0, 1);
    assert_null(condition(&cluster, "FailureTarget"));
    fail_pod(&cluster, 2, 1);
    cluster_run_pods(&cluster);
    assert_condition(&cluster, "Failed", "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
    assert_string_equal(status_of(&cluster)->failed_indexes, "0-2"); /* taken away is failed */
    cluster_deinit(&cluster);
}

#define POLICY(rules) "'podFailurePolicy':{'rules':[" rules "]},'podReplacementPolicy':'Failed',"

UNIT_TEST(the_failure_policy_says_what_a_failure_means) {
    struct cluster cluster;
    start(&cluster,
          "'parallelism':2,'backoffLimit':3," POLICY("{'action':'FailJob','onExitCodes':{'containerName':'c','operator':'In','values':[42]}},"
                                                     "{'action':'Ignore','onPodConditions':[{'type':'DisruptionTarget','status':'True'}]},"
                                                     "{'action':'Count','onExitCodes':{'operator':'NotIn','values':[1]}}"));
    fail_pod(&cluster, -1, 1);
    assert_int_equal(status_of(&cluster)->failed, 1);
    cluster_wait(&cluster, 11);
    struct kube_object *copy = kube_object_copy(active_pod(&cluster, -1));
    cluster_set_condition(copy, "DisruptionTarget", true, cluster.now_ns);
    copy->pod->status.phase = "Failed";
    assert_null(cluster_update(&cluster, copy, true));
    cluster_wait(&cluster, 11);
    assert_int_equal(status_of(&cluster)->failed, 1); /* ignored */
    assert_int_equal(status_of(&cluster)->active, 2);
    char message[200];
    snprintf(message, sizeof message, "Container c for pod d/%s failed with exit code 42 matching FailJob rule at index 0",
             active_pod(&cluster, -1)->metadata->name);
    fail_pod(&cluster, -1, 42);
    assert_condition(&cluster, "FailureTarget", "PodFailurePolicy", message);
    assert_null(condition(&cluster, "Failed")); /* until the other pod has ended */
    assert_int_equal(*status_of(&cluster)->terminating, 1);
    cluster_run_pods(&cluster);
    assert_condition(&cluster, "Failed", "PodFailurePolicy", message);
    assert_int_equal(*status_of(&cluster)->terminating, 0);
    cluster_deinit(&cluster);
    start(&cluster, "'completionMode':'Indexed','completions':2,'parallelism':2,'backoffLimitPerIndex':5,'backoffLimit':100," POLICY(
                        "{'action':'FailIndex','onExitCodes':{'operator':'In','values':[7]}}"));
    fail_pod(&cluster, 1, 7);
    assert_string_equal(status_of(&cluster)->failed_indexes, "1");
    cluster_deinit(&cluster);
}

UNIT_TEST(the_success_policy_says_what_suffices) {
    struct cluster cluster;
    start(&cluster, "'completionMode':'Indexed','completions':4,'parallelism':4,'successPolicy':{'rules':[{'succeededIndexes':'0,2-3',"
                    "'succeededCount':2},{'succeededIndexes':'1'}]},");
    end_pod(&cluster, 2, "Succeeded", 0);
    assert_null(condition(&cluster, "SuccessCriteriaMet"));
    end_pod(&cluster, 0, "Succeeded", 0);
    assert_condition(&cluster, "SuccessCriteriaMet", "SuccessPolicy", "Matched rules at index 0");
    cluster_run_pods(&cluster); /* the others are taken away */
    assert_condition(&cluster, "Complete", "SuccessPolicy", "Matched rules at index 0");
    assert_string_equal(status_of(&cluster)->completed_indexes, "0,2");
    assert_true(status_of(&cluster)->completion_time.set);
    assert_int_equal(held_pods(&cluster), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(pods_that_end_are_replaced_as_the_policy_says) {
    for (int failed_only = 0; failed_only < 2; failed_only++) {
        struct cluster cluster;
        start(&cluster,
              failed_only ? "'backoffLimit':5,'podReplacementPolicy':'Failed'," : "'backoffLimit':5,'podReplacementPolicy':'TerminatingOrFailed',");
        const struct kube_object *pod = active_pod(&cluster, -1);
        cluster_delete(&cluster, pod->kind, "d", pod->metadata->name, NULL, NULL, -1);
        cluster_wait(&cluster, 15);
        assert_int_equal(status_of(&cluster)->failed, failed_only ? 0 : 1);
        assert_int_equal(status_of(&cluster)->active, failed_only ? 0 : 1);
        assert_int_equal(*status_of(&cluster)->terminating, 1);
        cluster_run_pods(&cluster);
        cluster_wait(&cluster, 15);
        assert_int_equal(status_of(&cluster)->failed, 1);
        assert_int_equal(status_of(&cluster)->active, 1);
        cluster_deinit(&cluster);
    }
}

UNIT_TEST(suspended_jobs_take_their_pods_away_without_counting_them) {
    struct cluster cluster;
    start(&cluster, "'parallelism':2,'backoffLimit':0,");
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_job, "d", "j");
    copy->job->spec.suspend = bool_new(copy->arena, true);
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_condition(&cluster, "Suspended", "JobSuspended", "Job suspended");
    assert_int_equal(status_of(&cluster)->failed, 0);
    assert_int_equal(status_of(&cluster)->active, 0);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    copy = cluster_edit(&cluster, &kube_kind_job, "d", "j");
    copy->job->spec.suspend = bool_new(copy->arena, false);
    copy->job->spec.parallelism = int32_new(copy->arena, 1);
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_null(condition(&cluster, "Suspended"));
    assert_int_equal(status_of(&cluster)->active, 1);
    cluster_deinit(&cluster);
}

UNIT_TEST(a_deadline_beyond_all_time_never_comes) {
    struct cluster cluster;
    start(&cluster, "'activeDeadlineSeconds':9223372036854775807,");
    assert_non_null(active_pod(&cluster, -1));
    assert_null(condition(&cluster, "Failed"));
    cluster_deinit(&cluster);
}

UNIT_TEST(jobs_managed_by_others_are_left_alone) {
    struct cluster cluster;
    start(&cluster, "'managedBy':'example.com/mine',");
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    assert_int_equal(status_of(&cluster)->conditions.count, 0);
    cluster_deinit(&cluster);
}

static const char *refuse_pods(struct cluster *cluster, const struct control_action *action) {
    (void)cluster;
    return action->verb == CONTROL_CREATE && action->kind == &kube_kind_pod ? "Forbidden: exceeded quota" : NULL;
}

UNIT_TEST(refused_pods_are_said_and_the_status_is_told) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster.keep_events = true;
    cluster.refuse = refuse_pods;
    cluster_add(&cluster, &kube_kind_job,
                "{'metadata':{'name':'j','namespace':'d'},'spec':{'template':{'spec':{'restartPolicy':'Never','containers':"
                "[{'name':'c','image':'i'}]}}}}");
    cluster_settle(&cluster);
    assert_true(status_of(&cluster)->start_time.set);
    bool said = false;
    for (size_t i = 0; i < cluster.objects.count; i++)
        said |= cluster.objects.items[i]->kind == &kube_kind_event && text_is(cluster.objects.items[i]->event->reason, "FailedCreate") &&
                text_is(cluster.objects.items[i]->event->message, "Error creating: exceeded quota");
    assert_true(said);
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(pods_are_counted_though_they_are_deleted), UNIT(a_pod_whose_labels_go_is_let_go), UNIT(pods_of_a_deleted_job_are_let_go),
          UNIT(indexes_are_told_to_pods), UNIT(each_index_has_failures_of_its_own), UNIT(the_failure_policy_says_what_a_failure_means),
          UNIT(the_success_policy_says_what_suffices), UNIT(pods_that_end_are_replaced_as_the_policy_says),
          UNIT(suspended_jobs_take_their_pods_away_without_counting_them), UNIT(a_deadline_beyond_all_time_never_comes),
          UNIT(jobs_managed_by_others_are_left_alone), UNIT(refused_pods_are_said_and_the_status_is_told))
