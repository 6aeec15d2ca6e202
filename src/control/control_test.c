/* Each controller by example, with settled time and an obedient node. What random time and a bad node do is in simulation_test.c. */
#include "control/cluster_testing_priv.h"

static const char web[] = "{'metadata':{'name':'web','namespace':'d'},'spec':{'replicas':3,'selector':{'matchLabels':{'app':'web'}},"
                          "'template':{'metadata':{'labels':{'app':'web'}},'spec':{'containers':[{'name':'c','image':'web:1'}]}}}}";

static const struct kube_deployment *deployment(struct cluster *cluster) {
    const struct kube_object *object = cluster_get(cluster, &kube_kind_deployment, "d", "web");
    assert_non_null(object);
    return object->deployment;
}

static const struct kube_deployment_condition *condition(struct cluster *cluster, const char *type) {
    const struct kube_deployment_status *status = &deployment(cluster)->status;
    for (size_t i = 0; i < status->conditions.count; i++)
        if (text_is(status->conditions.items[i].type, type))
            return &status->conditions.items[i];
    return NULL;
}

static void start_web(struct cluster *cluster) {
    cluster_init(cluster, 1);
    cluster_add_node(cluster, "8", "110");
    cluster_add(cluster, &kube_kind_deployment, web);
    cluster_run_pods(cluster);
}

static void set_image(struct cluster *cluster, const char *image) {
    struct kube_object *copy = cluster_edit(cluster, &kube_kind_deployment, "d", "web");
    copy->deployment->spec.template.spec.containers.items[0].image = arena_strdup(copy->arena, image);
    assert_null(cluster_update(cluster, copy, false));
}

static void set_replicas(struct cluster *cluster, int32_t replicas) {
    struct kube_object *copy = cluster_edit(cluster, &kube_kind_deployment, "d", "web");
    *copy->deployment->spec.replicas = replicas;
    assert_null(cluster_update(cluster, copy, false));
}

static const struct kube_object *set_of(struct cluster *cluster, const char *image) {
    for (size_t i = 0; i < cluster->objects.count; i++)
        if (cluster->objects.items[i]->kind == &kube_kind_replica_set &&
            text_is(cluster->objects.items[i]->replica_set->spec.template.spec.containers.items[0].image, image))
            return cluster->objects.items[i];
    return NULL;
}

static const char *revision_of(struct cluster *cluster, const char *image) {
    const struct kube_object *set = set_of(cluster, image);
    return set ? kube_map_find(&set->metadata->annotations, "deployment.kubernetes.io/revision") : NULL;
}

UNIT_TEST(a_deployment_gets_its_pods) {
    struct cluster cluster;
    start_web(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    const struct kube_deployment_status *status = &deployment(&cluster)->status;
    assert_int_equal(status->replicas, 3);
    assert_int_equal(status->updated_replicas, 3);
    assert_int_equal(status->available_replicas, 3);
    assert_int_equal(status->unavailable_replicas, 0);
    assert_int_equal(status->observed_generation, 1);
    assert_string_equal(condition(&cluster, "Available")->reason, "MinimumReplicasAvailable");
    assert_string_equal(condition(&cluster, "Progressing")->reason, "NewReplicaSetAvailable");
    const struct kube_object *set = set_of(&cluster, "web:1");
    char message[200];
    snprintf(message, sizeof message, "ReplicaSet \"%s\" has successfully progressed.", set->metadata->name);
    assert_string_equal(condition(&cluster, "Progressing")->message, message);
    assert_string_equal(revision_of(&cluster, "web:1"), "1");
    assert_string_equal(kube_map_find(&deployment(&cluster)->metadata.annotations, "deployment.kubernetes.io/revision"), "1");
    assert_string_equal(kube_map_find(&set->metadata->annotations, "deployment.kubernetes.io/desired-replicas"), "3");
    assert_string_equal(kube_map_find(&set->metadata->annotations, "deployment.kubernetes.io/max-replicas"), "4");
    const char *hash = kube_map_find(&set->metadata->labels, "pod-template-hash");
    assert_non_null(hash);
    assert_string_equal(kube_map_find(&set->replica_set->spec.selector->match_labels, "pod-template-hash"), hash);
    for (size_t i = 0; i < cluster.objects.count; i++)
        if (cluster.objects.items[i]->kind == &kube_kind_pod) {
            assert_true(kube_is_controlled_by(cluster.objects.items[i]->metadata, set->metadata->uid));
            assert_string_equal(cluster.objects.items[i]->pod->spec.node_name, "n1");
        }
    cluster_deinit(&cluster);
}

UNIT_TEST(a_cluster_at_rest_does_nothing) {
    struct cluster cluster;
    start_web(&cluster);
    cluster_add(&cluster, &kube_kind_service,
                "{'metadata':{'name':'web','namespace':'d'},'spec':{'clusterIP':'None','selector':{'app':'web'},'ports':[{'port':80}]}}");
    cluster_add(
        &cluster, &kube_kind_service,
        "{'metadata':{'name':'none','namespace':'d','labels':{'a':''}},'spec':{'selector':{'app':'none'},'ports':[{'port':80,'targetPort':'x'}]}}");
    cluster_add(&cluster, &kube_kind_job,
                "{'metadata':{'name':'j','namespace':'d'},'spec':{'suspend':true,'template':{'spec':{'restartPolicy':'Never',"
                "'containers':[{'name':'c','image':'i'}]}}}}");
    cluster_run_pods(&cluster);
    for (size_t i = 0; i < cluster.objects.count; i++) /* everybody looks again */
        assert_int_equal(control_on_change(cluster.control, cluster.objects.items[i], NULL, cluster.now_ns), 0);
    size_t reconciles = cluster.reconciles, actions = cluster.actions;
    cluster_wait(&cluster, 86400);
    assert_int_equal(cluster.actions, actions);
    assert_true(cluster.reconciles < reconciles + 40); /* no more than those asked for above */
    cluster_deinit(&cluster);
}

UNIT_TEST(an_update_rolls_and_undo_brings_the_old_one_back) {
    struct cluster cluster;
    start_web(&cluster);
    set_image(&cluster, "web:2");
    cluster_run_pods(&cluster);
    assert_int_equal(*set_of(&cluster, "web:1")->replica_set->spec.replicas, 0);
    assert_int_equal(*set_of(&cluster, "web:2")->replica_set->spec.replicas, 3);
    assert_string_equal(revision_of(&cluster, "web:2"), "2");
    set_image(&cluster, "web:1");
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_replica_set), 2);
    assert_int_equal(*set_of(&cluster, "web:1")->replica_set->spec.replicas, 3);
    assert_string_equal(revision_of(&cluster, "web:1"), "3");
    assert_string_equal(kube_map_find(&set_of(&cluster, "web:1")->metadata->annotations, "deployment.kubernetes.io/revision-history"), "1");
    assert_string_equal(kube_map_find(&deployment(&cluster)->metadata.annotations, "deployment.kubernetes.io/revision"), "3");
    cluster_deinit(&cluster);
}

static const char *refuse_sets(struct cluster *cluster, const struct control_action *action) {
    (void)cluster;
    return action->verb == CONTROL_CREATE && action->kind == &kube_kind_replica_set ? "Forbidden: exceeded quota: q" : NULL;
}

UNIT_TEST(a_refused_replica_set_shows_in_the_deployment) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add_node(&cluster, "8", "110");
    cluster.refuse = refuse_sets;
    cluster_add(&cluster, &kube_kind_deployment, web);
    cluster_settle(&cluster);
    assert_string_equal(condition(&cluster, "Progressing")->reason, "ReplicaSetCreateError");
    assert_string_equal(condition(&cluster, "Progressing")->status, "False");
    assert_non_null(strstr(condition(&cluster, "Progressing")->message, "Failed to create new replica set \"web-"));
    assert_non_null(strstr(condition(&cluster, "Progressing")->message, "\": exceeded quota: q"));
    size_t actions = cluster.actions;
    cluster_wait(&cluster, 3600);
    assert_true(cluster.actions - actions < 40);
    cluster.refuse = NULL;
    cluster_wait(&cluster, 1001);
    cluster_run_pods(&cluster);
    assert_string_equal(condition(&cluster, "Progressing")->reason, "NewReplicaSetAvailable");
    assert_string_equal(revision_of(&cluster, "web:1"), "1");
    cluster_deinit(&cluster);
}

UNIT_TEST(history_is_limited) {
    struct cluster cluster;
    start_web(&cluster);
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_deployment, "d", "web");
    copy->deployment->spec.revision_history_limit = int32_new(copy->arena, 2);
    assert_null(cluster_update(&cluster, copy, false));
    for (int i = 2; i < 8; i++) {
        char image[16];
        snprintf(image, sizeof image, "web:%d", i);
        set_image(&cluster, image);
        cluster_run_pods(&cluster);
    }
    assert_int_equal(cluster_count(&cluster, &kube_kind_replica_set), 3);
    assert_null(set_of(&cluster, "web:4"));
    assert_non_null(set_of(&cluster, "web:5"));
    cluster_deinit(&cluster);
}

UNIT_TEST(a_broken_image_stops_the_rollout_and_times_out) {
    struct cluster cluster;
    start_web(&cluster);
    set_image(&cluster, "web:broken");
    cluster_settle(&cluster);                                                    /* no pod of it ever becomes ready */
    assert_int_equal(*set_of(&cluster, "web:1")->replica_set->spec.replicas, 3); /* 25 % of 3, rounded down */
    assert_int_equal(*set_of(&cluster, "web:broken")->replica_set->spec.replicas, 1);
    assert_string_equal(condition(&cluster, "Progressing")->reason, "ReplicaSetUpdated");
    cluster_wait(&cluster, 700);
    assert_string_equal(condition(&cluster, "Progressing")->reason, "ProgressDeadlineExceeded");
    assert_string_equal(condition(&cluster, "Progressing")->status, "False");
    assert_string_equal(condition(&cluster, "Available")->status, "True");
    size_t actions = cluster.actions;
    cluster_wait(&cluster, 86400);
    assert_int_equal(cluster.actions, actions);
    set_image(&cluster, "web:1");
    cluster_run_pods(&cluster);
    assert_string_equal(condition(&cluster, "Progressing")->reason, "NewReplicaSetAvailable");
    cluster_deinit(&cluster);
}

UNIT_TEST(paused_deployments_scale_and_do_not_roll) {
    struct cluster cluster;
    start_web(&cluster);
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_deployment, "d", "web");
    copy->deployment->spec.paused = true;
    copy->deployment->spec.template.spec.containers.items[0].image = "web:2";
    *copy->deployment->spec.replicas = 5;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_null(set_of(&cluster, "web:2"));
    assert_int_equal(*set_of(&cluster, "web:1")->replica_set->spec.replicas, 5);
    assert_string_equal(condition(&cluster, "Progressing")->reason, "DeploymentPaused");
    copy = cluster_edit(&cluster, &kube_kind_deployment, "d", "web");
    copy->deployment->spec.paused = false;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_int_equal(*set_of(&cluster, "web:2")->replica_set->spec.replicas, 5);
    assert_string_equal(condition(&cluster, "Progressing")->reason, "NewReplicaSetAvailable");
    cluster_deinit(&cluster);
}

UNIT_TEST(scaling_in_the_middle_of_a_rollout_is_proportional) {
    struct cluster cluster;
    start_web(&cluster);
    set_replicas(&cluster, 10);
    cluster_run_pods(&cluster);
    set_image(&cluster, "web:2");
    cluster_settle(&cluster); /* the new pods stay unready: 8 old, 5 new */
    assert_int_equal(*set_of(&cluster, "web:1")->replica_set->spec.replicas, 8);
    assert_int_equal(*set_of(&cluster, "web:2")->replica_set->spec.replicas, 5);
    set_replicas(&cluster, 20); /* at most 25 pods: 12 more, 8:5 */
    cluster_settle(&cluster);
    assert_int_equal(*set_of(&cluster, "web:1")->replica_set->spec.replicas, 15);
    assert_int_equal(*set_of(&cluster, "web:2")->replica_set->spec.replicas, 10);
    cluster_run_pods(&cluster);
    assert_int_equal(*set_of(&cluster, "web:2")->replica_set->spec.replicas, 20);
    set_replicas(&cluster, 0);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(recreate_waits_until_the_old_pods_are_gone) {
    struct cluster cluster;
    start_web(&cluster);
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_deployment, "d", "web");
    copy->deployment->spec.strategy = (struct kube_deployment_strategy){.type = "Recreate"};
    copy->deployment->spec.template.spec.containers.items[0].image = "web:2";
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_int_equal(*set_of(&cluster, "web:1")->replica_set->spec.replicas, 0);
    assert_null(set_of(&cluster, "web:2"));
    cluster_run_pods(&cluster);
    assert_int_equal(*set_of(&cluster, "web:2")->replica_set->spec.replicas, 3);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    cluster_deinit(&cluster);
}

UNIT_TEST(pods_are_replaced_adopted_and_released) {
    struct cluster cluster;
    start_web(&cluster);
    const struct kube_object *pod = NULL;
    for (size_t i = 0; i < cluster.objects.count; i++)
        if (cluster.objects.items[i]->kind == &kube_kind_pod)
            pod = cluster.objects.items[i];
    struct kube_object *copy = kube_object_copy(pod); /* away from its set: kubectl label pod … app=debug */
    char name[100];
    snprintf(name, sizeof name, "%s", pod->metadata->name);
    assert_int_equal(kube_map_set(&copy->metadata->labels, copy->arena, "app", "debug"), 0);
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 4);
    pod = cluster_get(&cluster, &kube_kind_pod, "d", name);
    assert_null(kube_controller_of(pod->metadata));
    copy = kube_object_copy(pod); /* and back: one too many, so one goes */
    assert_int_equal(kube_map_set(&copy->metadata->labels, copy->arena, "app", "web"), 0);
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    cluster_deinit(&cluster);
}

UNIT_TEST(the_pods_that_serve_least_go_first) {
    struct cluster cluster;
    start_web(&cluster);
    const struct kube_object *unready = NULL, *cheap = NULL;
    for (size_t i = 0; i < cluster.objects.count; i++) {
        const struct kube_object *object = cluster.objects.items[i];
        if (object->kind != &kube_kind_pod)
            continue;
        if (!unready)
            unready = object;
        else
            cheap = object;
    }
    char kept[100] = "";
    for (size_t i = 0; i < cluster.objects.count; i++)
        if (cluster.objects.items[i]->kind == &kube_kind_pod && cluster.objects.items[i] != unready && cluster.objects.items[i] != cheap)
            snprintf(kept, sizeof kept, "%s", cluster.objects.items[i]->metadata->name);
    struct kube_object *copy = kube_object_copy(cheap);
    assert_int_equal(kube_map_set(&copy->metadata->annotations, copy->arena, "controller.kubernetes.io/pod-deletion-cost", "-5"), 0);
    assert_null(cluster_update(&cluster, copy, false));
    cluster_set_pod(&cluster, unready, "Running", false);
    set_replicas(&cluster, 1);
    cluster_settle(&cluster);
    for (size_t i = 0; i < cluster.objects.count; i++)
        if (cluster.objects.items[i]->kind == &kube_kind_pod)
            assert_int_equal(is_deleting(cluster.objects.items[i]), !text_is(cluster.objects.items[i]->metadata->name, kept));
    cluster_deinit(&cluster);
}

UNIT_TEST(min_ready_seconds_delays_availability) {
    struct cluster cluster;
    start_web(&cluster);
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_deployment, "d", "web");
    copy->deployment->spec.min_ready_seconds = 30;
    copy->deployment->spec.template.spec.containers.items[0].image = "web:2";
    assert_null(cluster_update(&cluster, copy, false));
    cluster_wait(&cluster, 60);
    cluster_run_pods(&cluster);
    assert_int_equal(deployment(&cluster)->status.updated_replicas, 1);
    for (int i = 0; i < 5; i++) {
        cluster_wait(&cluster, 31);
        cluster_run_pods(&cluster);
    }
    assert_int_equal(deployment(&cluster)->status.updated_replicas, 3);
    assert_int_equal(deployment(&cluster)->status.available_replicas, 3);
    cluster_deinit(&cluster);
}

/* ---- deletion ---- */

UNIT_TEST(deleting_an_owner_deletes_what_it_owns) {
    struct cluster cluster;
    for (int i = 0; i < 3; i++) {
        static const char *const propagations[] = {"Background", "Foreground", "Orphan"};
        start_web(&cluster);
        cluster_delete(&cluster, &kube_kind_deployment, "d", "web", NULL, propagations[i], -1);
        cluster_run_pods(&cluster);
        assert_null(cluster_get(&cluster, &kube_kind_deployment, "d", "web"));
        assert_int_equal(cluster_count(&cluster, &kube_kind_replica_set), i == 2);
        assert_int_equal(cluster_count(&cluster, &kube_kind_pod), i == 2 ? 3 : 0);
        cluster_deinit(&cluster);
    }
}

UNIT_TEST(a_new_deployment_of_the_name_adopts_orphans_and_not_strangers) {
    struct cluster cluster;
    start_web(&cluster);
    cluster_delete(&cluster, &kube_kind_deployment, "d", "web", NULL, "Orphan", -1);
    cluster_run_pods(&cluster);
    cluster_add(&cluster, &kube_kind_deployment, web);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_replica_set), 1);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    assert_true(kube_is_controlled_by(set_of(&cluster, "web:1")->metadata, deployment(&cluster)->metadata.uid));
    cluster_deinit(&cluster);
}

UNIT_TEST(namespaces_are_emptied_before_they_go) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add_node(&cluster, "8", "110");
    cluster_add(&cluster, &kube_kind_namespace, "{'metadata':{'name':'d'}}");
    cluster_add(&cluster, &kube_kind_deployment, web);
    cluster_run_pods(&cluster);
    assert_non_null(cluster_get(&cluster, &kube_kind_service_account, "d", "default"));
    cluster_delete(&cluster, &kube_kind_service_account, "d", "default", NULL, NULL, -1);
    cluster_settle(&cluster);
    assert_non_null(cluster_get(&cluster, &kube_kind_service_account, "d", "default"));
    cluster_delete(&cluster, &kube_kind_namespace, NULL, "d", NULL, NULL, -1);
    cluster_settle(&cluster);
    assert_non_null(cluster_get(&cluster, &kube_kind_namespace, NULL, "d")); /* pods are still ending */
    cluster_run_pods(&cluster);
    assert_null(cluster_get(&cluster, &kube_kind_namespace, NULL, "d"));
    assert_int_equal(cluster.objects.count, 1); /* the node */
    cluster_deinit(&cluster);
}

UNIT_TEST(pods_without_a_node_do_not_hang_and_finished_ones_do_not_pile_up) {
    struct cluster cluster;
    start_web(&cluster);
    cluster_delete(&cluster, &kube_kind_deployment, "d", "web", NULL, NULL, -1);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    cluster_delete(&cluster, &kube_kind_node, NULL, "n1", NULL, NULL, -1);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    for (int i = 0; i < 8; i++) {
        char text[256];
        snprintf(text, sizeof text, "{'metadata':{'name':'p%d','namespace':'d'},'spec':{'nodeName':'n1','containers':[{'name':'c','image':'i'}]}}",
                 i);
        cluster_add(&cluster, &kube_kind_pod, text);
        cluster_set_pod(&cluster, cluster.objects.items[cluster.objects.count - 1], "Succeeded", false);
        cluster.now_ns += 2 * NS_PER_S;
        cluster_settle(&cluster);
    }
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 5);
    assert_null(cluster_get(&cluster, &kube_kind_pod, "d", "p2"));
    cluster_deinit(&cluster);
}

UNIT_TEST(events_count_up_and_expire) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster.keep_events = true;
    cluster_add_node(&cluster, "1", "110");
    cluster_add(&cluster, &kube_kind_pod,
                "{'metadata':{'name':'p','namespace':'d'},'spec':{'containers':[{'name':'c','image':'i','resources':{'requests':{'cpu':'2'}}}]}}");
    cluster_settle(&cluster);
    const struct kube_object *pod = cluster_get(&cluster, &kube_kind_pod, "d", "p");
    assert_null(pod->pod->spec.node_name);
    assert_string_equal(pod_condition(pod->pod, "PodScheduled")->message,
                        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for "
                        "incoming pod.");
    assert_string_equal(pod_condition(pod->pod, "PodScheduled")->reason, "Unschedulable");
    assert_int_equal(cluster_count(&cluster, &kube_kind_event), 1);
    const struct kube_event *event = cluster.objects.items[cluster.objects.count - 1]->event;
    assert_string_equal(event->reason, "FailedScheduling");
    assert_string_equal(event->type, "Warning");
    assert_string_equal(event->involved_object.kind, "Pod");
    assert_int_equal(event->count, 1);
    cluster_wait(&cluster, 299);
    assert_int_equal(cluster.objects.items[cluster.objects.count - 1]->event->count, 1);
    cluster_wait(&cluster, 601); /* told again every five minutes: an event lives for an hour */
    assert_int_equal(cluster_count(&cluster, &kube_kind_event), 1);
    assert_int_equal(cluster.objects.items[cluster.objects.count - 1]->event->count, 4);
    cluster_deinit(&cluster);
}

/* ---- scheduling ---- */

UNIT_TEST(a_waiting_pod_gets_the_room_that_another_leaves) {
    struct cluster cluster;
    start_web(&cluster);
    cluster_delete(&cluster, &kube_kind_node, NULL, "n1", NULL, NULL, -1);
    cluster_add_node(&cluster, "8", "4");
    set_replicas(&cluster, 6);
    cluster_run_pods(&cluster);
    size_t placed = 0;
    for (size_t i = 0; i < cluster.objects.count; i++)
        placed += cluster.objects.items[i]->kind == &kube_kind_pod && cluster.objects.items[i]->pod->spec.node_name;
    assert_int_equal(placed, 4);
    set_replicas(&cluster, 4); /* those without a node go first */
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 4);
    assert_int_equal(deployment(&cluster)->status.available_replicas, 4);
    cluster_deinit(&cluster);
}

/* ---- services ---- */

static const struct kube_object *slice_of_service(struct cluster *cluster) {
    for (size_t i = 0; i < cluster->objects.count; i++)
        if (cluster->objects.items[i]->kind == &kube_kind_endpoint_slice)
            return cluster->objects.items[i];
    return NULL;
}

UNIT_TEST(services_get_endpoints) {
    struct cluster cluster;
    start_web(&cluster);
    cluster_add(
        &cluster, &kube_kind_service,
        "{'metadata':{'name':'web','namespace':'d'},'spec':{'selector':{'app':'web'},'ports':[{'name':'http','port':80,'targetPort':8080}]}}");
    cluster_settle(&cluster);
    const struct kube_object *slice = slice_of_service(&cluster);
    assert_string_equal(kube_map_find(&slice->metadata->labels, "kubernetes.io/service-name"), "web");
    assert_int_equal(slice->endpoint_slice->endpoints.count, 3);
    assert_int_equal(*slice->endpoint_slice->ports.items[0].port, 8080);
    assert_string_equal(slice->endpoint_slice->ports.items[0].name, "http");
    const struct kube_endpoint *endpoint = &slice->endpoint_slice->endpoints.items[0];
    assert_true(*endpoint->conditions.ready && *endpoint->conditions.serving && !*endpoint->conditions.terminating);
    assert_string_equal(endpoint->target_ref->kind, "Pod");
    const struct kube_object *endpoints = cluster_get(&cluster, &kube_kind_endpoints, "d", "web");
    assert_int_equal(endpoints->endpoints->subsets.count, 1);
    assert_int_equal(endpoints->endpoints->subsets.items[0].addresses.count, 3);
    set_replicas(&cluster, 2);
    cluster_settle(&cluster); /* one is going and still serves */
    slice = slice_of_service(&cluster);
    size_t terminating = 0;
    for (size_t i = 0; i < slice->endpoint_slice->endpoints.count; i++) {
        endpoint = &slice->endpoint_slice->endpoints.items[i];
        terminating += *endpoint->conditions.terminating && *endpoint->conditions.serving && !*endpoint->conditions.ready;
    }
    assert_int_equal(terminating, 1);
    cluster_run_pods(&cluster);
    assert_int_equal(slice_of_service(&cluster)->endpoint_slice->endpoints.count, 2);
    cluster_delete(&cluster, &kube_kind_service, "d", "web", NULL, NULL, -1);
    cluster_settle(&cluster);
    assert_null(slice_of_service(&cluster));
    assert_null(cluster_get(&cluster, &kube_kind_endpoints, "d", "web"));
    cluster_deinit(&cluster);
}

UNIT_TEST(named_ports_mean_what_each_pod_says) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add_node(&cluster, "8", "110");
    cluster_add(&cluster, &kube_kind_service,
                "{'metadata':{'name':'s','namespace':'d'},'spec':{'selector':{'app':'x'},'ports':[{'port':80,'targetPort':'http'}]}}");
    cluster_settle(&cluster);
    assert_int_equal(slice_of_service(&cluster)->endpoint_slice->endpoints.count, 0);
    cluster_add(&cluster, &kube_kind_pod,
                "{'metadata':{'name':'a','namespace':'d','labels':{'app':'x'}},'spec':{'containers':[{'name':'c','image':'i','ports':[{'name':'http',"
                "'containerPort':8080}]}]}}");
    cluster_add(&cluster, &kube_kind_pod,
                "{'metadata':{'name':'b','namespace':'d','labels':{'app':'x'}},'spec':{'containers':[{'name':'c','image':'i','ports':[{'name':'http',"
                "'containerPort':9090}]}]}}");
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_endpoint_slice), 2);
    cluster_delete(&cluster, &kube_kind_pod, "d", "a", NULL, NULL, 0);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_endpoint_slice), 1);
    assert_int_equal(*slice_of_service(&cluster)->endpoint_slice->ports.items[0].port, 9090);
    cluster_deinit(&cluster);
}

/* ---- jobs ---- */

static const struct kube_job_status *start_job(struct cluster *cluster, const char *spec) {
    cluster_init(cluster, 1);
    cluster_add_node(cluster, "8", "110");
    char text[512];
    snprintf(
        text, sizeof text,
        "{'metadata':{'name':'j','namespace':'d'},'spec':{%s'template':{'spec':{'restartPolicy':'Never','containers':[{'name':'c','image':'i'}]}}}}",
        spec);
    cluster_add(cluster, &kube_kind_job, text);
    cluster_settle(cluster);
    return &cluster_get(cluster, &kube_kind_job, "d", "j")->job->status;
}

static void end_pods(struct cluster *cluster, const char *phase, size_t most) {
    for (size_t i = 0; i < cluster->objects.count && most; i++) {
        const struct kube_object *pod = cluster->objects.items[i];
        if (pod->kind != &kube_kind_pod || !pod_is_active(pod))
            continue;
        cluster_set_pod(cluster, pod, phase, false);
        most--;
    }
    cluster_settle(cluster);
}

static const struct kube_job_status *job(struct cluster *cluster) {
    const struct kube_object *object = cluster_get(cluster, &kube_kind_job, "d", "j");
    return object ? &object->job->status : NULL;
}

static const char *job_ending(struct cluster *cluster) {
    const struct kube_job_status *status = job(cluster);
    for (size_t i = 0; i < status->conditions.count; i++)
        if (text_is(status->conditions.items[i].type, "Complete") || text_is(status->conditions.items[i].type, "Failed"))
            return status->conditions.items[i].reason;
    return "";
}

UNIT_TEST(jobs_run_to_completion) {
    struct cluster cluster;
    const struct kube_job_status *status = start_job(&cluster, "'completions':5,'parallelism':2,'ttlSecondsAfterFinished':100,");
    assert_int_equal(status->active, 2);
    assert_true(status->start_time.set);
    end_pods(&cluster, "Succeeded", 1);
    assert_int_equal(job(&cluster)->succeeded, 1);
    assert_int_equal(job(&cluster)->active, 2);
    for (int i = 0; i < 4; i++)
        end_pods(&cluster, "Succeeded", 1);
    assert_string_equal(job_ending(&cluster), "CompletionsReached");
    assert_int_equal(job(&cluster)->succeeded, 5);
    assert_int_equal(job(&cluster)->active, 0);
    assert_true(job(&cluster)->completion_time.set);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 5);
    cluster_wait(&cluster, 99);
    assert_non_null(job(&cluster));
    cluster_wait(&cluster, 3);
    assert_null(job(&cluster));
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(jobs_back_off_and_give_up) {
    struct cluster cluster;
    start_job(&cluster, "'backoffLimit':2,");
    end_pods(&cluster, "Failed", 1);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 1); /* waits */
    cluster_wait(&cluster, 11);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 2);
    end_pods(&cluster, "Failed", 1);
    cluster_wait(&cluster, 11);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 2);
    cluster_wait(&cluster, 20);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    end_pods(&cluster, "Failed", 1);
    assert_string_equal(job_ending(&cluster), "BackoffLimitExceeded");
    assert_int_equal(job(&cluster)->failed, 3);
    size_t actions = cluster.actions;
    cluster_wait(&cluster, 86400);
    assert_int_equal(cluster.actions, actions);
    cluster_deinit(&cluster);
}

UNIT_TEST(jobs_have_a_deadline_and_can_be_suspended) {
    struct cluster cluster;
    start_job(&cluster, "'activeDeadlineSeconds':60,");
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_job, "d", "j");
    copy->job->spec.suspend = bool_new(copy->arena, true);
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    cluster_wait(&cluster, 100);
    copy = cluster_edit(&cluster, &kube_kind_job, "d", "j");
    copy->job->spec.suspend = NULL;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_int_equal(job(&cluster)->active, 1);
    cluster_wait(&cluster, 62);
    cluster_run_pods(&cluster);
    assert_string_equal(job_ending(&cluster), "DeadlineExceeded");
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(indexed_jobs_fill_every_index) {
    struct cluster cluster;
    start_job(&cluster, "'completionMode':'Indexed','completions':3,'parallelism':2,");
    assert_int_equal(job(&cluster)->active, 2);
    for (int i = 0; i < 3; i++)
        end_pods(&cluster, "Succeeded", 1);
    assert_string_equal(job(&cluster)->completed_indexes, "0-2");
    assert_string_equal(job_ending(&cluster), "CompletionsReached");
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(a_deployment_gets_its_pods), UNIT(a_cluster_at_rest_does_nothing), UNIT(an_update_rolls_and_undo_brings_the_old_one_back),
          UNIT(history_is_limited), UNIT(a_refused_replica_set_shows_in_the_deployment), UNIT(a_broken_image_stops_the_rollout_and_times_out),
          UNIT(paused_deployments_scale_and_do_not_roll), UNIT(scaling_in_the_middle_of_a_rollout_is_proportional),
          UNIT(recreate_waits_until_the_old_pods_are_gone), UNIT(pods_are_replaced_adopted_and_released), UNIT(the_pods_that_serve_least_go_first),
          UNIT(min_ready_seconds_delays_availability), UNIT(deleting_an_owner_deletes_what_it_owns),
          UNIT(a_new_deployment_of_the_name_adopts_orphans_and_not_strangers), UNIT(namespaces_are_emptied_before_they_go),
          UNIT(pods_without_a_node_do_not_hang_and_finished_ones_do_not_pile_up), UNIT(events_count_up_and_expire),
          UNIT(a_waiting_pod_gets_the_room_that_another_leaves), UNIT(services_get_endpoints), UNIT(named_ports_mean_what_each_pod_says),
          UNIT(jobs_run_to_completion), UNIT(jobs_back_off_and_give_up), UNIT(jobs_have_a_deadline_and_can_be_suspended),
          UNIT(indexed_jobs_fill_every_index))
