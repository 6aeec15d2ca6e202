/* StatefulSets, DaemonSets and their revisions by example, with settled time and an obedient node. */
#include "control/cluster_testing_priv.h"

static const char db[] =
    "{'metadata':{'name':'db','namespace':'d','annotations':{'note':'a'}},'spec':{'replicas':3,'serviceName':'dbs','selector':{'matchLabels':{'app':"
    "'db'}},"
    "'template':{'metadata':{'labels':{'app':'db'}},'spec':{'containers':[{'name':'c','image':'db:1'}],'volumes':[{'name':'data','emptyDir':{}},"
    "{'name':'tmp','emptyDir':{}}]}},'volumeClaimTemplates':[{'metadata':{'name':'data'},'spec':{'accessModes':['ReadWriteOnce'],'resources':{"
    "'requests':{'storage':'1Gi'}}}}]}}";

static const struct kube_stateful_set *set_now(struct cluster *cluster) {
    const struct kube_object *object = cluster_get(cluster, &kube_kind_stateful_set, "d", "db");
    assert_non_null(object);
    return object->stateful_set;
}

static struct kube_object *edit_set(struct cluster *cluster) {
    return cluster_edit(cluster, &kube_kind_stateful_set, "d", "db");
}

static void start_set(struct cluster *cluster) {
    cluster_init(cluster, 1);
    cluster_add_node(cluster, "8", "110");
    cluster_add_storage_class(cluster);
    cluster_add(cluster, &kube_kind_stateful_set, db);
}

static const struct kube_object *member(struct cluster *cluster, int ordinal) {
    char name[40];
    snprintf(name, sizeof name, "db-%d", ordinal);
    return cluster_get(cluster, &kube_kind_pod, "d", name);
}

static const char *image_of(struct cluster *cluster, int ordinal) {
    const struct kube_object *pod = member(cluster, ordinal);
    return pod ? pod->pod->spec.containers.items[0].image : NULL;
}

static void set_image(struct cluster *cluster, const char *image) {
    struct kube_object *copy = edit_set(cluster);
    copy->stateful_set->spec.template.spec.containers.items[0].image = arena_strdup(copy->arena, image);
    assert_null(cluster_update(cluster, copy, false));
}

static void set_replicas(struct cluster *cluster, int32_t replicas) {
    struct kube_object *copy = edit_set(cluster);
    *copy->stateful_set->spec.replicas = replicas;
    assert_null(cluster_update(cluster, copy, false));
}

static const struct kube_object *claim(struct cluster *cluster, int ordinal) {
    char name[40];
    snprintf(name, sizeof name, "data-db-%d", ordinal);
    return cluster_get(cluster, &kube_kind_persistent_volume_claim, "d", name);
}

UNIT_TEST(pods_of_a_set_come_one_after_the_other_with_an_identity) {
    struct cluster cluster;
    start_set(&cluster);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 1); /* not ready yet */
    cluster_set_pod(&cluster, member(&cluster, 0), "Running", true);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 2);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    const struct kube_object *pod = member(&cluster, 2);
    assert_string_equal(pod->pod->spec.hostname, "db-2");
    assert_string_equal(pod->pod->spec.subdomain, "dbs");
    assert_string_equal(pod->metadata->generate_name, "db-");
    assert_string_equal(kube_map_find(&pod->metadata->labels, "statefulset.kubernetes.io/pod-name"), "db-2");
    assert_string_equal(kube_map_find(&pod->metadata->labels, "apps.kubernetes.io/pod-index"), "2");
    const struct kube_stateful_set_status *status = &set_now(&cluster)->status;
    assert_string_equal(kube_map_find(&pod->metadata->labels, "controller-revision-hash"), status->update_revision);
    assert_string_equal(status->current_revision, status->update_revision);
    assert_int_equal(status->replicas, 3);
    assert_int_equal(status->ready_replicas, 3);
    assert_int_equal(status->available_replicas, 3);
    assert_int_equal(status->current_replicas, 3);
    assert_int_equal(status->updated_replicas, 3);
    assert_int_equal(*status->collision_count, 0);
    assert_int_equal(status->observed_generation, 1);
    assert_int_equal(pod->pod->spec.volumes.count, 2);
    assert_string_equal(pod->pod->spec.volumes.items[0].persistent_volume_claim->claim_name, "data-db-2");
    assert_string_equal(pod->pod->spec.volumes.items[1].name, "tmp");
    assert_string_equal(kube_map_find(&claim(&cluster, 2)->metadata->labels, "app"), "db");
    assert_int_equal(claim(&cluster, 2)->metadata->owner_references.count, 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(pods_that_have_failed_do_not_hold_up_scaling_down) {
    struct cluster cluster;
    start_set(&cluster);
    cluster_run_pods(&cluster);
    set_replicas(&cluster, 0);
    for (int i = 0; i < 3; i++)
        cluster_set_pod(&cluster, member(&cluster, i), "Failed", false);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(claims_stay_and_a_replaced_pod_finds_its_own) {
    struct cluster cluster;
    start_set(&cluster);
    cluster_run_pods(&cluster);
    set_replicas(&cluster, 0);
    cluster_settle(&cluster);
    assert_true(is_deleting(member(&cluster, 2)));
    assert_false(is_deleting(member(&cluster, 1))); /* the highest first, and only when it is gone the next */
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    assert_int_equal(cluster_count(&cluster, &kube_kind_persistent_volume_claim), 3);
    assert_int_equal(set_now(&cluster)->status.replicas, 0);
    set_replicas(&cluster, 2);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 2);
    assert_int_equal(cluster_count(&cluster, &kube_kind_persistent_volume_claim), 3);
    cluster_deinit(&cluster);
}

static void set_policy(struct cluster *cluster, const char *deleted, const char *scaled) {
    struct kube_object *copy = edit_set(cluster);
    struct kube_stateful_set_persistent_volume_claim_retention_policy *policy =
        ARENA_NEW(copy->arena, struct kube_stateful_set_persistent_volume_claim_retention_policy);
    policy->when_deleted = deleted;
    policy->when_scaled = scaled;
    copy->stateful_set->spec.persistent_volume_claim_retention_policy = policy;
    assert_null(cluster_update(cluster, copy, false));
    cluster_run_pods(cluster);
}

UNIT_TEST(claims_go_when_the_policy_says_so) {
    struct cluster cluster;
    start_set(&cluster);
    cluster_run_pods(&cluster);
    set_policy(&cluster, "Retain", "Delete");
    assert_int_equal(claim(&cluster, 1)->metadata->owner_references.count, 0);
    set_replicas(&cluster, 2);
    cluster_run_pods(&cluster);
    assert_null(claim(&cluster, 2));
    assert_non_null(claim(&cluster, 1));
    set_policy(&cluster, "Delete", "Retain");
    assert_true(kube_is_controlled_by(claim(&cluster, 1)->metadata, set_now(&cluster)->metadata.uid));
    set_replicas(&cluster, 1);
    cluster_run_pods(&cluster);
    assert_non_null(claim(&cluster, 1));
    set_policy(&cluster, "Retain", "Retain");
    assert_int_equal(claim(&cluster, 0)->metadata->owner_references.count, 0);
    set_policy(&cluster, "Delete", "Retain");
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_persistent_volume_claim, "d", claim(&cluster, 0)->metadata->name);
    copy->metadata->owner_references.items[0].controller = NULL; /* somebody makes less of it */
    assert_null(cluster_update(&cluster, copy, false));
    set_policy(&cluster, "Delete", "Delete");
    assert_true(kube_is_controlled_by(claim(&cluster, 0)->metadata, set_now(&cluster)->metadata.uid));
    assert_null(cluster_delete(&cluster, &kube_kind_stateful_set, "d", "db", NULL, "Background", -1));
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 0);
    assert_null(claim(&cluster, 0));
    assert_int_equal(cluster_count(&cluster, &kube_kind_controller_revision), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(a_claim_that_goes_with_its_old_pod_is_not_given_to_the_new_one) {
    struct cluster cluster;
    start_set(&cluster);
    cluster_run_pods(&cluster);
    set_policy(&cluster, "Retain", "Delete");
    set_replicas(&cluster, 2);
    cluster_settle(&cluster); /* the pod is going, and its claim belongs to it */
    assert_string_equal(claim(&cluster, 2)->metadata->owner_references.items[0].kind, "Pod");
    char uid[40];
    snprintf(uid, sizeof uid, "%s", claim(&cluster, 2)->metadata->uid);
    set_replicas(&cluster, 3);
    cluster_run_pods(&cluster);
    assert_non_null(member(&cluster, 2));
    assert_string_not_equal(claim(&cluster, 2)->metadata->uid, uid);
    assert_int_equal(claim(&cluster, 2)->metadata->owner_references.count, 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(sets_start_at_an_ordinal_and_in_parallel) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add_node(&cluster, "8", "110");
    cluster_add_storage_class(&cluster);
    struct kube_object *object = object_from(&kube_kind_stateful_set, db);
    struct kube_stateful_set_ordinals ordinals = {.start = 5};
    object->stateful_set->spec.ordinals = &ordinals;
    object->stateful_set->spec.pod_management_policy = "Parallel";
    assert_null(cluster_create(&cluster, object));
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    assert_non_null(member(&cluster, 5));
    assert_non_null(member(&cluster, 7));
    cluster_run_pods(&cluster);
    set_replicas(&cluster, 0);
    cluster_settle(&cluster);
    assert_true(is_deleting(member(&cluster, 5)) && is_deleting(member(&cluster, 6)) && is_deleting(member(&cluster, 7)));
    cluster_deinit(&cluster);
}

UNIT_TEST(sets_roll_from_the_top_down_to_the_partition_and_undo) {
    struct cluster cluster;
    start_set(&cluster);
    cluster_run_pods(&cluster);
    struct kube_object *copy = edit_set(&cluster);
    *copy->stateful_set->spec.update_strategy.rolling_update->partition = 2;
    copy->stateful_set->spec.template.spec.containers.items[0].image = "db:2";
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_string_equal(image_of(&cluster, 2), "db:2");
    assert_string_equal(image_of(&cluster, 1), "db:1");
    const struct kube_stateful_set_status *status = &set_now(&cluster)->status;
    assert_string_not_equal(status->current_revision, status->update_revision);
    assert_int_equal(status->updated_replicas, 1);
    assert_int_equal(status->current_replicas, 2);
    cluster_delete(&cluster, &kube_kind_pod, "d", "db-0", NULL, NULL, 0); /* below the partition: made of the old template again */
    cluster_run_pods(&cluster);
    assert_string_equal(image_of(&cluster, 0), "db:1");
    copy = edit_set(&cluster);
    *copy->stateful_set->spec.update_strategy.rolling_update->partition = 0;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_true(is_deleting(member(&cluster, 1)));
    assert_false(is_deleting(member(&cluster, 0)));
    cluster_run_pods(&cluster);
    assert_string_equal(image_of(&cluster, 0), "db:2");
    assert_string_equal(set_now(&cluster)->status.current_revision, set_now(&cluster)->status.update_revision);
    assert_int_equal(cluster_count(&cluster, &kube_kind_controller_revision), 2);
    set_image(&cluster, "db:1");
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_controller_revision), 2);
    const struct kube_object *revision = cluster_get(&cluster, &kube_kind_controller_revision, "d", set_now(&cluster)->status.update_revision);
    assert_int_equal(revision->controller_revision->revision, 3);
    assert_string_equal(tree_text_or(tree_path(revision->controller_revision->data, "spec.template.$patch"), ""), "replace");
    assert_string_equal(kube_map_find(&revision->metadata->annotations, "note"), "a");
    assert_string_equal(kube_map_find(&revision->metadata->labels, "app"), "db");
    cluster_deinit(&cluster);
}

UNIT_TEST(a_broken_rollout_waits_for_somebody_to_delete_the_pod) {
    struct cluster cluster;
    start_set(&cluster);
    cluster_run_pods(&cluster);
    set_image(&cluster, "db:broken");
    cluster_settle(&cluster);
    cluster_delete(&cluster, &kube_kind_pod, "d", "db-2", NULL, NULL, 0); /* the node ends it; the next never becomes ready */
    cluster_wait(&cluster, 1000);
    assert_string_equal(image_of(&cluster, 2), "db:broken");
    set_image(&cluster, "db:3");
    cluster_wait(&cluster, 1000);
    assert_string_equal(image_of(&cluster, 2), "db:broken");
    assert_string_equal(image_of(&cluster, 1), "db:1");
    size_t actions = cluster.actions;
    cluster_wait(&cluster, 86400);
    assert_int_equal(cluster.actions, actions);
    cluster_delete(&cluster, &kube_kind_pod, "d", "db-2", NULL, NULL, 0);
    cluster_run_pods(&cluster);
    assert_string_equal(image_of(&cluster, 0), "db:3");
    cluster_deinit(&cluster);
}

UNIT_TEST(on_delete_waits_and_max_unavailable_takes_several) {
    struct cluster cluster;
    start_set(&cluster);
    cluster_run_pods(&cluster);
    struct kube_object *copy = edit_set(&cluster);
    copy->stateful_set->spec.update_strategy = (struct kube_stateful_set_update_strategy){.type = "OnDelete"};
    assert_null(cluster_update(&cluster, copy, false));
    set_image(&cluster, "db:2");
    cluster_run_pods(&cluster);
    assert_string_equal(image_of(&cluster, 2), "db:1");
    cluster_delete(&cluster, &kube_kind_pod, "d", "db-1", NULL, NULL, 0);
    cluster_run_pods(&cluster);
    assert_string_equal(image_of(&cluster, 1), "db:2");
    copy = edit_set(&cluster);
    struct kube_int_or_string two = {.number = 2};
    struct kube_rolling_update_stateful_set_strategy rolling = {.max_unavailable = &two};
    copy->stateful_set->spec.update_strategy = (struct kube_stateful_set_update_strategy){.type = "RollingUpdate", .rolling_update = &rolling};
    copy->stateful_set->spec.template.spec.containers.items[0].image = "db:3";
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_true(is_deleting(member(&cluster, 2)) && is_deleting(member(&cluster, 1)));
    assert_false(is_deleting(member(&cluster, 0)));
    cluster_run_pods(&cluster);
    assert_string_equal(image_of(&cluster, 0), "db:3");
    cluster_deinit(&cluster);
}

UNIT_TEST(failed_pods_of_a_set_are_made_again_and_strangers_left_alone) {
    struct cluster cluster;
    start_set(&cluster);
    cluster_run_pods(&cluster);
    cluster_set_pod(&cluster, member(&cluster, 1), "Failed", false);
    cluster_run_pods(&cluster);
    assert_string_equal(member(&cluster, 1)->pod->status.phase, "Running");
    cluster_add(&cluster, &kube_kind_pod,
                "{'metadata':{'name':'other','namespace':'d','labels':{'app':'db'}},'spec':{'containers':[{'name':'c','image':'i'}]}}");
    cluster_add(&cluster, &kube_kind_pod,
                "{'metadata':{'name':'db-7','namespace':'d','labels':{'app':'db'}},'spec':{'containers':[{'name':'c','image':'i'}]}}");
    cluster_run_pods(&cluster);
    assert_non_null(cluster_get(&cluster, &kube_kind_pod, "d", "other"));
    assert_null(member(&cluster, 7)); /* adopted, and beyond the range */
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 4);
    cluster_deinit(&cluster);
}

UNIT_TEST(history_of_a_set_is_limited_and_names_do_not_collide) {
    struct cluster cluster;
    start_set(&cluster);
    cluster_run_pods(&cluster);
    struct kube_object *copy = edit_set(&cluster);
    copy->stateful_set->spec.revision_history_limit = int32_new(copy->arena, 2);
    assert_null(cluster_update(&cluster, copy, false));
    for (int i = 2; i < 7; i++) {
        char image[16];
        snprintf(image, sizeof image, "db:%d", i);
        set_image(&cluster, image);
        cluster_run_pods(&cluster);
    }
    assert_int_equal(cluster_count(&cluster, &kube_kind_controller_revision), 3);
    /* A stranger takes the name that the template would get. */
    char name[80];
    snprintf(name, sizeof name, "%s", set_now(&cluster)->status.update_revision);
    copy = cluster_edit(&cluster, &kube_kind_controller_revision, "d", name);
    copy->metadata->owner_references.items[0].uid = "somebody";
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_string_not_equal(set_now(&cluster)->status.update_revision, name);
    assert_int_equal(*set_now(&cluster)->status.collision_count, 1);
    cluster_deinit(&cluster);
}

/* ---- daemon sets ---- */

static const char agent[] = "{'metadata':{'name':'agent','namespace':'d'},'spec':{'selector':{'matchLabels':{'app':'agent'}},"
                            "'template':{'metadata':{'labels':{'app':'agent'}},'spec':{'containers':[{'name':'c','image':'agent:1'}]}}}}";

static const struct kube_daemon_set_status *daemons(struct cluster *cluster) {
    return &cluster_get(cluster, &kube_kind_daemon_set, "d", "agent")->daemon_set->status;
}

static void start_agents(struct cluster *cluster) {
    cluster_init(cluster, 1);
    cluster_add_named_node(cluster, "n1", "8", "110");
    cluster_add_named_node(cluster, "n2", "8", "110");
    cluster_add_named_node(cluster, "n3", "8", "110");
    cluster_add(cluster, &kube_kind_daemon_set, agent);
    cluster_run_pods(cluster);
}

static struct kube_object *edit_node(struct cluster *cluster, const char *name) {
    return cluster_edit(cluster, &kube_kind_node, NULL, name);
}

static size_t pods_on(const struct cluster *cluster, const char *node, const char *image) {
    size_t count = 0;
    for (size_t i = 0; i < cluster->objects.count; i++) {
        const struct kube_object *pod = cluster->objects.items[i];
        count += pod->kind == &kube_kind_pod && same_text(pod->pod->spec.node_name, node) && !is_deleting(pod) &&
                 (!image || same_text(pod->pod->spec.containers.items[0].image, image));
    }
    return count;
}

UNIT_TEST(every_node_gets_a_daemon) {
    struct cluster cluster;
    start_agents(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    assert_int_equal(pods_on(&cluster, "n2", NULL), 1);
    const struct kube_daemon_set_status *status = daemons(&cluster);
    assert_int_equal(status->desired_number_scheduled, 3);
    assert_int_equal(status->current_number_scheduled, 3);
    assert_int_equal(status->number_ready, 3);
    assert_int_equal(status->number_available, 3);
    assert_int_equal(status->updated_number_scheduled, 3);
    assert_int_equal(status->number_unavailable, 0);
    assert_int_equal(status->observed_generation, 1);
    const struct kube_object *revision = NULL, *pod = NULL;
    for (size_t i = 0; i < cluster.objects.count; i++)
        if (cluster.objects.items[i]->kind == &kube_kind_controller_revision)
            revision = cluster.objects.items[i];
        else if (cluster.objects.items[i]->kind == &kube_kind_pod)
            pod = cluster.objects.items[i];
    assert_string_equal(kube_map_find(&pod->metadata->labels, "controller-revision-hash"),
                        kube_map_find(&revision->metadata->labels, "controller-revision-hash"));
    assert_int_equal(pod->pod->spec.tolerations.count, 6);
    cluster_deinit(&cluster);
}

UNIT_TEST(daemons_follow_taints_labels_and_nodes) {
    struct cluster cluster;
    start_agents(&cluster);
    struct kube_object *node = edit_node(&cluster, "n1");
    struct kube_taint taint = {.key = "dedicated", .effect = "NoSchedule"};
    node->node->spec.taints = (struct kube_taint_array){.items = &taint, .count = 1};
    struct kube_object *tainted = kube_object_copy(node); /* owns the taint */
    kube_object_unref(node);
    assert_null(cluster_update(&cluster, tainted, false));
    cluster_run_pods(&cluster);
    assert_int_equal(pods_on(&cluster, "n1", NULL), 1); /* it stays, and is misscheduled */
    assert_int_equal(daemons(&cluster)->number_misscheduled, 1);
    assert_int_equal(daemons(&cluster)->desired_number_scheduled, 2);
    node = edit_node(&cluster, "n1");
    node->node->spec.taints.items[0].effect = "NoExecute";
    assert_null(cluster_update(&cluster, node, false));
    cluster_run_pods(&cluster);
    assert_int_equal(pods_on(&cluster, "n1", NULL), 0);
    node = edit_node(&cluster, "n2");
    node->node->spec.unschedulable = true;
    assert_null(cluster_update(&cluster, node, false));
    cluster_delete(&cluster, &kube_kind_node, NULL, "n3", NULL, NULL, -1);
    cluster_add_named_node(&cluster, "n4", "8", "110");
    cluster_run_pods(&cluster);
    assert_int_equal(pods_on(&cluster, "n2", NULL), 1);
    assert_int_equal(pods_on(&cluster, "n4", NULL), 1);
    assert_int_equal(daemons(&cluster)->desired_number_scheduled, 2);
    cluster_deinit(&cluster);
}

static void set_agent(struct cluster *cluster, const char *image, int32_t surge, int32_t unavailable) {
    struct kube_object *copy = cluster_edit(cluster, &kube_kind_daemon_set, "d", "agent");
    struct kube_rolling_update_daemon_set *rolling = copy->daemon_set->spec.update_strategy.rolling_update;
    *rolling->max_surge = (struct kube_int_or_string){.number = surge};
    *rolling->max_unavailable = (struct kube_int_or_string){.number = unavailable};
    copy->daemon_set->spec.template.spec.containers.items[0].image = arena_strdup(copy->arena, image);
    assert_null(cluster_update(cluster, copy, false));
}

UNIT_TEST(daemons_roll_within_their_bounds) {
    struct cluster cluster;
    start_agents(&cluster);
    set_agent(&cluster, "agent:2", 0, 2);
    cluster_settle(&cluster);
    size_t going = 0;
    for (size_t i = 0; i < cluster.objects.count; i++)
        going += cluster.objects.items[i]->kind == &kube_kind_pod && is_deleting(cluster.objects.items[i]);
    assert_int_equal(going, 2);
    cluster_run_pods(&cluster);
    assert_int_equal(pods_on(&cluster, "n1", "agent:2") + pods_on(&cluster, "n2", "agent:2") + pods_on(&cluster, "n3", "agent:2"), 3);
    assert_int_equal(daemons(&cluster)->updated_number_scheduled, 3);
    set_agent(&cluster, "agent:3", 1, 0);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 4); /* one beside the old */
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    assert_int_equal(daemons(&cluster)->updated_number_scheduled, 3);
    set_agent(&cluster, "agent:2", 1, 0);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_controller_revision), 3);
    assert_int_equal(pods_on(&cluster, "n1", "agent:2"), 1);
    cluster_deinit(&cluster);
}

UNIT_TEST(failed_daemons_come_back_ever_more_slowly) {
    struct cluster cluster;
    start_agents(&cluster);
    int64_t start_ns = cluster.now_ns, waits_s[4];
    for (int i = 0; i < 4; i++) {
        for (size_t j = 0; j < cluster.objects.count; j++) {
            const struct kube_object *pod = cluster.objects.items[j];
            if (pod->kind == &kube_kind_pod && same_text(pod->pod->spec.node_name, "n1") && !pod_is_finished(pod->pod))
                cluster_set_pod(&cluster, pod, "Failed", false);
        }
        cluster_exhaust(&cluster);
        while (pods_on(&cluster, "n1", NULL) == 0 || cluster.objects.items[cluster.objects.count - 1]->pod->status.phase[0] == 'F') {
            cluster.now_ns = control_deadline(cluster.control);
            cluster_exhaust(&cluster);
        }
        waits_s[i] = (cluster.now_ns - start_ns) / NS_PER_S;
    }
    assert_int_equal(waits_s[0], 0);
    assert_true(waits_s[1] >= 1 && waits_s[2] >= 3 && waits_s[3] >= 7 && waits_s[3] < 12);
    cluster_deinit(&cluster);
}

/* ---- replication controllers and what replica sets have in common with them ---- */

static const char old[] = "{'metadata':{'name':'old','namespace':'d'},'spec':{'replicas':3,'selector':{'app':'old'},"
                          "'template':{'metadata':{'labels':{'app':'old'}},'spec':{'containers':[{'name':'c','image':'i'}]}}}}";

static struct kube_replication_controller *edit_old(struct cluster *cluster, struct kube_object **ret) {
    *ret = cluster_edit(cluster, &kube_kind_replication_controller, "d", "old");
    return (*ret)->replication_controller;
}

UNIT_TEST(replication_controllers_keep_their_number) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add_node(&cluster, "8", "110");
    cluster_add(&cluster, &kube_kind_replication_controller, old);
    cluster_run_pods(&cluster);
    const struct kube_object *object = cluster_get(&cluster, &kube_kind_replication_controller, "d", "old");
    assert_int_equal(object->replication_controller->status.replicas, 3);
    assert_int_equal(object->replication_controller->status.available_replicas, 3);
    assert_int_equal(object->replication_controller->status.fully_labeled_replicas, 3);
    struct kube_object *copy;
    *edit_old(&cluster, &copy)->spec.replicas = 1;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 1);
    assert_null(cluster_delete(&cluster, &kube_kind_replication_controller, "d", "old", NULL, "Orphan", -1));
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 1);
    cluster_add(&cluster, &kube_kind_replication_controller, old); /* adopts the one that is there */
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    cluster_deinit(&cluster);
}

/* Two pods are all there may be. */
static const char *quota(struct cluster *cluster, const struct control_action *action) {
    bool creates = action->verb == CONTROL_CREATE && action->kind == &kube_kind_pod;
    return creates && cluster_count(cluster, &kube_kind_pod) >= 2 ? "Forbidden: pods \"old-x\" is forbidden: exceeded quota" : NULL;
}

UNIT_TEST(a_refused_pod_shows_in_the_status_and_is_tried_ever_more_rarely) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster.keep_events = true;
    cluster.refuse = quota;
    cluster_add_node(&cluster, "8", "110");
    cluster_add(&cluster, &kube_kind_replication_controller, old);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 2);
    const struct kube_replication_controller_condition *condition =
        cluster_get(&cluster, &kube_kind_replication_controller, "d", "old")->replication_controller->status.conditions.items;
    assert_string_equal(condition->type, "ReplicaFailure");
    assert_string_equal(condition->reason, "FailedCreate");
    assert_string_equal(condition->message, "pods \"old-x\" is forbidden: exceeded quota");
    bool told = false;
    for (size_t i = 0; i < cluster.objects.count; i++)
        told |= cluster.objects.items[i]->kind == &kube_kind_event &&
                text_is(cluster.objects.items[i]->event->message, "Error creating: pods \"old-x\" is forbidden: exceeded quota");
    assert_true(told);
    cluster_wait(&cluster, 3000);
    size_t reconciles = cluster.reconciles;
    cluster_wait(&cluster, 86400);
    assert_true(cluster.reconciles - reconciles < 200); /* every 1000 s */
    struct kube_object *copy;
    *edit_old(&cluster, &copy)->spec.replicas = 2; /* no more is wanted: nothing fails */
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_int_equal(cluster_get(&cluster, &kube_kind_replication_controller, "d", "old")->replication_controller->status.conditions.count, 0);
    *edit_old(&cluster, &copy)->spec.replicas = 3;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    cluster.refuse = NULL;
    cluster_wait(&cluster, 1001);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    assert_int_equal(cluster_get(&cluster, &kube_kind_replication_controller, "d", "old")->replication_controller->status.conditions.count, 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(where_there_are_more_pods_one_goes_first) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add_named_node(&cluster, "n1", "8", "2");
    cluster_add_named_node(&cluster, "n2", "7", "110");
    cluster_add(&cluster, &kube_kind_replication_controller, old);
    cluster_run_pods(&cluster);
    assert_int_equal(pods_on(&cluster, "n1", NULL) + pods_on(&cluster, "n2", NULL), 3);
    struct kube_object *copy;
    *edit_old(&cluster, &copy)->spec.replicas = 2;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    assert_int_equal(pods_on(&cluster, "n1", NULL), 1);
    assert_int_equal(pods_on(&cluster, "n2", NULL), 1);
    cluster_deinit(&cluster);
}

/* ---- disruption budgets ---- */

static const struct kube_pod_disruption_budget_status *budget(struct cluster *cluster, const char *spec) {
    if (spec) {
        char text[256];
        snprintf(text, sizeof text, "{'metadata':{'name':'b','namespace':'d'},'spec':{'selector':{'matchLabels':{'app':'old'}},%s}}", spec);
        cluster_delete(cluster, &kube_kind_pod_disruption_budget, "d", "b", NULL, NULL, -1);
        cluster_add(cluster, &kube_kind_pod_disruption_budget, text);
    }
    cluster_settle(cluster);
    return &cluster_get(cluster, &kube_kind_pod_disruption_budget, "d", "b")->pod_disruption_budget->status;
}

static void start_budget(struct cluster *cluster) {
    cluster_init(cluster, 1);
    cluster_add_node(cluster, "8", "110");
    cluster_add(cluster, &kube_kind_replication_controller, old);
    cluster_run_pods(cluster);
}

UNIT_TEST(budgets_count_what_may_go) {
    struct cluster cluster;
    start_budget(&cluster);
    const struct kube_pod_disruption_budget_status *status = budget(&cluster, "'minAvailable':2");
    assert_int_equal(status->expected_pods, 3);
    assert_int_equal(status->desired_healthy, 2);
    assert_int_equal(status->current_healthy, 3);
    assert_int_equal(status->disruptions_allowed, 1);
    assert_string_equal(status->conditions.items[0].type, "DisruptionAllowed");
    assert_string_equal(status->conditions.items[0].reason, "SufficientPods");
    status = budget(&cluster, "'minAvailable':'70%'");
    assert_int_equal(status->desired_healthy, 3); /* rounded up */
    assert_int_equal(status->disruptions_allowed, 0);
    assert_string_equal(status->conditions.items[0].reason, "InsufficientPods");
    status = budget(&cluster, "'maxUnavailable':1");
    assert_int_equal(status->disruptions_allowed, 1);
    struct kube_object *copy;
    *edit_old(&cluster, &copy)->spec.replicas = 4; /* more are wanted than are there: nothing is to spare */
    assert_null(cluster_update(&cluster, copy, false));
    status = budget(&cluster, NULL);
    assert_int_equal(status->expected_pods, 4);
    assert_int_equal(status->current_healthy, 3);
    assert_int_equal(status->disruptions_allowed, 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(budgets_remember_what_was_evicted) {
    struct cluster cluster;
    start_budget(&cluster);
    budget(&cluster, "'maxUnavailable':2");
    const struct kube_object *pod = NULL;
    for (size_t i = 0; i < cluster.objects.count; i++)
        if (cluster.objects.items[i]->kind == &kube_kind_pod)
            pod = cluster.objects.items[i];
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_pod_disruption_budget, "d", "b");
    struct kube_time_pair pair = {.key = pod->metadata->name, .value = {.ns = cluster.now_ns, .set = true}};
    copy->pod_disruption_budget->status.disrupted_pods = (struct kube_time_map){.items = &pair, .count = 1};
    copy->pod_disruption_budget->status.disruptions_allowed = 1;
    assert_null(cluster_update(&cluster, copy, true));
    const struct kube_pod_disruption_budget_status *status = budget(&cluster, NULL);
    assert_int_equal(status->disrupted_pods.count, 1);
    assert_int_equal(status->current_healthy, 2);
    assert_int_equal(status->disruptions_allowed, 1);
    cluster_wait(&cluster, 121);
    status = budget(&cluster, NULL);
    assert_int_equal(status->disrupted_pods.count, 0); /* it never went */
    assert_int_equal(status->disruptions_allowed, 2);
    cluster_deinit(&cluster);
}

UNIT_TEST(budgets_allow_nothing_when_in_doubt) {
    struct cluster cluster;
    start_budget(&cluster);
    struct kube_object *pod =
        object_from(&kube_kind_pod, "{'metadata':{'name':'lost','namespace':'d','labels':{'app':'old'},'ownerReferences':[{'apiVersion':"
                                    "'example.com/v1','kind':'Thing','name':'x','uid':'x','controller':true}]},'spec':{"
                                    "'containers':[{'name':'c','image':'i'}]}}");
    assert_null(cluster_create(&cluster, pod));
    const struct kube_pod_disruption_budget_status *status = budget(&cluster, "'maxUnavailable':1");
    assert_int_equal(status->disruptions_allowed, 0);
    assert_string_equal(status->conditions.items[0].reason, "SyncFailed");
    assert_string_equal(status->conditions.items[0].message, "found no controllers for pod \"lost\"");
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(budgets_count_what_may_go), UNIT(budgets_remember_what_was_evicted), UNIT(budgets_allow_nothing_when_in_doubt),
          UNIT(replication_controllers_keep_their_number), UNIT(a_refused_pod_shows_in_the_status_and_is_tried_ever_more_rarely),
          UNIT(where_there_are_more_pods_one_goes_first), UNIT(pods_of_a_set_come_one_after_the_other_with_an_identity),
          UNIT(claims_stay_and_a_replaced_pod_finds_its_own), UNIT(pods_that_have_failed_do_not_hold_up_scaling_down),
          UNIT(claims_go_when_the_policy_says_so), UNIT(a_claim_that_goes_with_its_old_pod_is_not_given_to_the_new_one),
          UNIT(sets_start_at_an_ordinal_and_in_parallel), UNIT(sets_roll_from_the_top_down_to_the_partition_and_undo),
          UNIT(a_broken_rollout_waits_for_somebody_to_delete_the_pod), UNIT(on_delete_waits_and_max_unavailable_takes_several),
          UNIT(failed_pods_of_a_set_are_made_again_and_strangers_left_alone), UNIT(history_of_a_set_is_limited_and_names_do_not_collide),
          UNIT(every_node_gets_a_daemon), UNIT(daemons_follow_taints_labels_and_nodes), UNIT(daemons_roll_within_their_bounds),
          UNIT(failed_daemons_come_back_ever_more_slowly))
