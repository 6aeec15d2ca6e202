/* What goes when its owner, its node or its namespace goes, by example. */
#include "control/cluster_testing_priv.h"

static const struct kube_namespace_condition *namespace_condition(struct cluster *cluster, const char *type) {
    const struct kube_object *object = cluster_get(cluster, &kube_kind_namespace, NULL, "d");
    assert_non_null(object);
    const struct kube_namespace_condition_array *list = &object->namespace_->status.conditions;
    for (size_t i = 0; i < list->count; i++)
        if (text_is(list->items[i].type, type))
            return &list->items[i];
    fail_msg("no condition %s", type);
    return NULL;
}

UNIT_TEST(a_namespace_says_what_keeps_it) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(&cluster, &kube_kind_namespace, "{'metadata':{'name':'d'}}");
    cluster_add(&cluster, &kube_kind_config_map, "{'metadata':{'name':'a','namespace':'d','finalizers':['example.com/hold']}}");
    cluster_add(&cluster, &kube_kind_config_map, "{'metadata':{'name':'b','namespace':'d','finalizers':['example.com/hold']}}");
    cluster_add(&cluster, &kube_kind_config_map, "{'metadata':{'name':'c','namespace':'d'}}");
    cluster_settle(&cluster);
    cluster_delete(&cluster, &kube_kind_namespace, NULL, "d", NULL, NULL, -1);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_config_map), 2);
    assert_string_equal(namespace_condition(&cluster, "NamespaceContentRemaining")->message,
                        "Some resources are remaining: configmaps. has 2 resource instances");
    assert_string_equal(namespace_condition(&cluster, "NamespaceContentRemaining")->reason, "SomeResourcesRemain");
    assert_string_equal(namespace_condition(&cluster, "NamespaceFinalizersRemaining")->message,
                        "Some content in the namespace has finalizers remaining: example.com/hold in 2 resource instances");
    assert_string_equal(namespace_condition(&cluster, "NamespaceDeletionContentFailure")->status, "False");
    size_t actions = cluster.actions;
    cluster_wait(&cluster, 3600);
    assert_int_equal(cluster.actions, actions);
    static const char *const names[] = {"a", "b"};
    for (size_t i = 0; i < 2; i++) {
        struct kube_object *copy = cluster_edit(&cluster, &kube_kind_config_map, "d", names[i]);
        copy->metadata->finalizers.count = 0;
        assert_null(cluster_update(&cluster, copy, false));
    }
    cluster_settle(&cluster);
    assert_int_equal(cluster.objects.count, 0);
    cluster_deinit(&cluster);
}

static const char *refuse_deletes(struct cluster *cluster, const struct control_action *action) {
    (void)cluster;
    return action->verb == CONTROL_DELETE ? "Forbidden: admission webhook said no" : NULL;
}

UNIT_TEST(a_namespace_says_why_it_cannot_be_emptied) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(&cluster, &kube_kind_namespace, "{'metadata':{'name':'d'}}");
    cluster_add(&cluster, &kube_kind_config_map, "{'metadata':{'name':'a','namespace':'d'}}");
    cluster_settle(&cluster);
    cluster.refuse = refuse_deletes;
    cluster_delete(&cluster, &kube_kind_namespace, NULL, "d", NULL, NULL, -1);
    cluster_settle(&cluster);
    assert_string_equal(namespace_condition(&cluster, "NamespaceDeletionContentFailure")->reason, "ContentDeletionFailed");
    assert_string_equal(namespace_condition(&cluster, "NamespaceDeletionContentFailure")->message,
                        "Failed to delete all resource types, 1 remaining: admission webhook said no");
    cluster.refuse = NULL;
    cluster_wait(&cluster, 1001);
    assert_int_equal(cluster.objects.count, 0);
    cluster_deinit(&cluster);
}

/* ---- owners ---- */

static void add_owned(struct cluster *cluster, const struct kube_kind *kind, const char *namespace, const char *owner_uid) {
    char text[400];
    snprintf(text, sizeof text,
             "{'metadata':{'name':'dependent'%s%s%s,'ownerReferences':[{'apiVersion':'v1','kind':'ConfigMap','name':'owner','uid':'%s'}]}}",
             namespace ? ",'namespace':'" : "", namespace ? namespace : "", namespace ? "'" : "", owner_uid);
    cluster_add(cluster, kind, text);
    cluster_settle(cluster);
}

static const char *event_message(const struct cluster *cluster, const char *reason) {
    for (size_t i = 0; i < cluster->objects.count; i++)
        if (cluster->objects.items[i]->kind == &kube_kind_event && text_is(cluster->objects.items[i]->event->reason, reason))
            return cluster->objects.items[i]->event->message;
    return NULL;
}

UNIT_TEST(an_owner_in_another_namespace_is_none_and_somebody_is_told) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster.keep_events = true;
    cluster_add(&cluster, &kube_kind_config_map, "{'metadata':{'name':'owner','namespace':'a'}}");
    char uid[40];
    snprintf(uid, sizeof uid, "%s", cluster_get(&cluster, &kube_kind_config_map, "a", "owner")->metadata->uid);
    add_owned(&cluster, &kube_kind_secret, "b", uid);
    assert_int_equal(cluster_count(&cluster, &kube_kind_secret), 0);
    char message[200];
    snprintf(message, sizeof message, "ownerRef [v1/ConfigMap, namespace: b, name: owner, uid: %s] does not exist in namespace \"b\"", uid);
    assert_string_equal(event_message(&cluster, "OwnerRefInvalidNamespace"), message);
    add_owned(&cluster, &kube_kind_secret, "a", uid);
    assert_int_equal(cluster_count(&cluster, &kube_kind_secret), 1);
    cluster_deinit(&cluster);
}

static void add_ring_member(struct cluster *cluster, const char *name, const char *owner) {
    char text[400];
    snprintf(text, sizeof text,
             "{'metadata':{'name':'%s','namespace':'a','ownerReferences':[{'apiVersion':'v1','kind':'ConfigMap','name':'%s','uid':'%s',"
             "'blockOwnerDeletion':true}]}}",
             name, owner, cluster_get(cluster, &kube_kind_config_map, "a", owner)->metadata->uid);
    cluster_add(cluster, &kube_kind_config_map, text);
}

UNIT_TEST(objects_that_own_each_other_all_round_go_together) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(&cluster, &kube_kind_config_map, "{'metadata':{'name':'x','namespace':'a'}}");
    add_ring_member(&cluster, "y", "x");
    add_ring_member(&cluster, "z", "y");
    static bool yes = true;
    static char uid[40];
    snprintf(uid, sizeof uid, "%s", cluster_get(&cluster, &kube_kind_config_map, "a", "z")->metadata->uid);
    static struct kube_owner_reference last = {.api_version = "v1", .kind = "ConfigMap", .name = "z", .uid = uid, .block_owner_deletion = &yes};
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_config_map, "a", "x");
    copy->metadata->owner_references = (struct kube_owner_reference_array){&last, 1};
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    cluster_delete(&cluster, &kube_kind_config_map, "a", "x", NULL, "Foreground", -1);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_config_map), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(an_object_of_no_namespace_is_not_collected_for_an_owner_of_one) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster.keep_events = true;
    add_owned(&cluster, &kube_kind_persistent_volume, NULL, "gone");
    assert_int_equal(cluster_count(&cluster, &kube_kind_persistent_volume), 1);
    assert_string_equal(event_message(&cluster, "OwnerRefInvalidNamespace"),
                        "ownerRef [v1/ConfigMap, namespace: , name: owner, uid: gone] does not exist in namespace \"\"");
    cluster_deinit(&cluster);
}

UNIT_TEST(an_owner_of_an_unknown_kind_is_taken_to_be_there) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(
        &cluster, &kube_kind_config_map,
        "{'metadata':{'name':'kept','namespace':'d','ownerReferences':[{'apiVersion':'example.com/v1','kind':'Thing','name':'x','uid':'x'}]}}");
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_config_map), 1);
    cluster_deinit(&cluster);
}

/* ---- nodes ---- */

UNIT_TEST(pods_of_a_node_that_is_gone_fail_after_a_while) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add_node(&cluster, "8", "110");
    cluster_add(
        &cluster, &kube_kind_replica_set,
        "{'metadata':{'name':'r','namespace':'d'},'spec':{'replicas':1,'selector':{'matchLabels':{'app':'r'}},'template':{'metadata':{'labels':{"
        "'app':'r'}},'spec':{'containers':[{'name':'c','image':'i'}]}}}}");
    cluster_run_pods(&cluster);
    char uid[40] = "";
    for (size_t i = 0; i < cluster.objects.count; i++)
        if (cluster.objects.items[i]->kind == &kube_kind_pod)
            snprintf(uid, sizeof uid, "%s", cluster.objects.items[i]->metadata->uid);
    cluster_delete(&cluster, &kube_kind_node, NULL, "n1", NULL, NULL, -1);
    cluster_wait(&cluster, 30);
    cluster_add_node(&cluster, "8", "110"); /* it comes back in time */
    cluster_wait(&cluster, 3600);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 1);
    cluster_delete(&cluster, &kube_kind_node, NULL, "n1", NULL, NULL, -1);
    cluster_wait(&cluster, 39);
    bool same = false;
    for (size_t i = 0; i < cluster.objects.count; i++)
        same |= cluster.objects.items[i]->kind == &kube_kind_pod && text_is(cluster.objects.items[i]->metadata->uid, uid);
    assert_true(same);
    cluster_wait(&cluster, 3);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 1);
    for (size_t i = 0; i < cluster.objects.count; i++)
        if (cluster.objects.items[i]->kind == &kube_kind_pod)
            assert_string_not_equal(cluster.objects.items[i]->metadata->uid, uid); /* its successor, without a node */
    cluster_deinit(&cluster);
}

/* ---- volumes whose node or claim went at the wrong moment ---- */

UNIT_TEST(a_volume_is_made_when_its_node_is_back) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add_storage_class(&cluster);
    cluster_add(&cluster, &kube_kind_persistent_volume_claim,
                "{'metadata':{'name':'c','namespace':'d','annotations':{'volume.kubernetes.io/selected-node':'n1'}},'spec':{'storageClassName':"
                "'local-path','accessModes':['ReadWriteOnce'],'resources':{'requests':{'storage':'1Gi'}}}}");
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_persistent_volume), 0);
    cluster_add_node(&cluster, "8", "110");
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_persistent_volume), 1);
    cluster_deinit(&cluster);
}

UNIT_TEST(a_claim_that_goes_is_told_to_a_volume_that_it_had_not_named_yet) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(&cluster, &kube_kind_persistent_volume_claim, "{'metadata':{'name':'c','namespace':'d'},'spec':{'volumeName':''}}");
    char text[300];
    snprintf(text, sizeof text, "{'metadata':{'name':'v'},'spec':{'claimRef':{'namespace':'d','name':'c','uid':'%s'}}}",
             cluster_get(&cluster, &kube_kind_persistent_volume_claim, "d", "c")->metadata->uid);
    cluster_add(&cluster, &kube_kind_persistent_volume, text);
    while (cluster_tell(&cluster))
        ;
    struct control_key key;
    while (control_next(cluster.control, cluster.now_ns, &key))
        control_done(cluster.control, &key, NULL, cluster.now_ns);
    cluster_delete(&cluster, &kube_kind_persistent_volume_claim, "d", "c", NULL, NULL, -1);
    while (cluster_tell(&cluster))
        ;
    bool told = false;
    while (control_next(cluster.control, cluster.now_ns, &key)) {
        told |= key.kind == &kube_kind_persistent_volume && text_is(key.name, "v");
        control_done(cluster.control, &key, NULL, cluster.now_ns);
    }
    assert_true(told);
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(a_volume_is_made_when_its_node_is_back), UNIT(a_claim_that_goes_is_told_to_a_volume_that_it_had_not_named_yet),
          UNIT(a_namespace_says_what_keeps_it), UNIT(a_namespace_says_why_it_cannot_be_emptied),
          UNIT(an_owner_in_another_namespace_is_none_and_somebody_is_told), UNIT(objects_that_own_each_other_all_round_go_together),
          UNIT(an_object_of_no_namespace_is_not_collected_for_an_owner_of_one), UNIT(an_owner_of_an_unknown_kind_is_taken_to_be_there),
          UNIT(pods_of_a_node_that_is_gone_fail_after_a_while))
