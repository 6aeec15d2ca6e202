/* Claims and volumes by example. */
#include "control/cluster_testing_priv.h"
#include "control/volume_priv.h"

static void start(struct cluster *cluster) {
    cluster_init(cluster, 1);
    cluster->keep_events = true;
    cluster_add_node(cluster, "8", "110");
    cluster_add_storage_class(cluster);
}

static void add_claim(struct cluster *cluster, const char *name, const char *more) {
    char text[1024];
    snprintf(text, sizeof text,
             "{'metadata':{'name':'%s','namespace':'d'},'spec':{'accessModes':['ReadWriteOnce'],'resources':{'requests':{'storage':'1Gi'}}%s}}", name,
             more);
    cluster_add(cluster, &kube_kind_persistent_volume_claim, text);
    cluster_settle(cluster);
}

static void add_volume(struct cluster *cluster, const char *name, const char *size, const char *more) {
    char text[1024];
    snprintf(text, sizeof text,
             "{'metadata':{'name':'%s','labels':{'disk':'%s'}},'spec':{'accessModes':['ReadWriteOnce','ReadOnlyMany'],'capacity':{'storage':'%s'},"
             "'hostPath':{'path':'/srv/%s'}%s}}",
             name, name, size, name, more);
    cluster_add(cluster, &kube_kind_persistent_volume, text);
    cluster_settle(cluster);
}

static void add_pod(struct cluster *cluster, const char *name, const char *claim) {
    char text[1024];
    snprintf(text, sizeof text,
             "{'metadata':{'name':'%s','namespace':'d'},'spec':{'containers':[{'name':'c','image':'i'}],'volumes':[{'name':'v',"
             "'persistentVolumeClaim':{'claimName':'%s'}}]}}",
             name, claim);
    cluster_add(cluster, &kube_kind_pod, text);
    cluster_settle(cluster);
}

static const struct kube_persistent_volume_claim *claim(struct cluster *cluster, const char *name) {
    return cluster_get(cluster, &kube_kind_persistent_volume_claim, "d", name)->persistent_volume_claim;
}

static const struct kube_persistent_volume *volume(struct cluster *cluster, const char *name) {
    const struct kube_object *object = name ? cluster_get(cluster, &kube_kind_persistent_volume, NULL, name) : NULL;
    return object ? object->persistent_volume : NULL;
}

static const struct kube_pod *pod(struct cluster *cluster, const char *name) {
    return cluster_get(cluster, &kube_kind_pod, "d", name)->pod;
}

static void assert_event(const struct cluster *cluster, const char *name, const char *reason, const char *message) {
    for (size_t i = 0; i < cluster->objects.count; i++)
        if (cluster->objects.items[i]->kind == &kube_kind_event && text_is(cluster->objects.items[i]->event->reason, reason) &&
            text_is(cluster->objects.items[i]->event->involved_object.name, name)) {
            assert_string_equal(cluster->objects.items[i]->event->message, message);
            return;
        }
    fail_msg("no event %s", reason);
}

static void assert_bound(struct cluster *cluster, const char *name, const char *to) {
    assert_string_equal(claim(cluster, name)->status.phase, "Bound");
    assert_string_equal(claim(cluster, name)->spec.volume_name, to);
    assert_string_equal(volume(cluster, to)->status.phase, "Bound");
    assert_string_equal(volume(cluster, to)->spec.claim_ref->uid, claim(cluster, name)->metadata.uid);
    assert_non_null(kube_map_find(&claim(cluster, name)->metadata.annotations, BOUND_ANNOTATION));
}

static void delete_claim(struct cluster *cluster, const char *name) {
    cluster_delete(cluster, &kube_kind_persistent_volume_claim, "d", name, NULL, NULL, -1);
    cluster_settle(cluster);
}

UNIT_TEST(a_volume_is_made_where_the_first_pod_runs) {
    struct cluster cluster;
    start(&cluster);
    add_claim(&cluster, "data", "");
    assert_string_equal(claim(&cluster, "data")->spec.storage_class_name, "local-path"); /* the default one */
    assert_string_equal(claim(&cluster, "data")->status.phase, "Pending");
    assert_event(&cluster, "data", "WaitForFirstConsumer", "waiting for first consumer to be created before binding");
    assert_int_equal(cluster_count(&cluster, &kube_kind_persistent_volume), 0);
    add_pod(&cluster, "p", "data");
    const char *name = claim(&cluster, "data")->spec.volume_name;
    assert_non_null(name);
    char wanted[100];
    snprintf(wanted, sizeof wanted, "pvc-%s", claim(&cluster, "data")->metadata.uid);
    assert_string_equal(name, wanted);
    assert_bound(&cluster, "data", name);
    assert_string_equal(pod(&cluster, "p")->spec.node_name, "n1");
    const struct kube_persistent_volume *made = volume(&cluster, name);
    snprintf(wanted, sizeof wanted, "/var/lib/tidemill/volumes/%s", name);
    assert_string_equal(made->spec.local->path, wanted);
    assert_string_equal(made->spec.persistent_volume_reclaim_policy, "Delete");
    assert_string_equal(made->spec.storage_class_name, "local-path");
    assert_int_equal(kube_quantity_milli(&made->spec.capacity, "storage", 0), INT64_C(1000) << 30);
    assert_int_equal(kube_quantity_milli(&claim(&cluster, "data")->status.capacity, "storage", 0), INT64_C(1000) << 30);
    assert_string_equal(made->spec.node_affinity->required->node_selector_terms.items[0].match_expressions.items[0].values.items[0], "n1");
    assert_true(kube_strings_has(&made->metadata.finalizers, TIDEMILL_VOLUME_FINALIZER));
    add_pod(&cluster, "q", "data"); /* a second pod gets the same */
    assert_string_equal(pod(&cluster, "q")->spec.node_name, "n1");
    cluster_deinit(&cluster);
}

UNIT_TEST(a_deleted_claim_takes_its_volume_along_when_the_node_has_removed_it) {
    struct cluster cluster;
    start(&cluster);
    add_claim(&cluster, "data", "");
    add_pod(&cluster, "p", "data");
    const char *name = strdup(claim(&cluster, "data")->spec.volume_name);
    cluster_delete(&cluster, &kube_kind_pod, "d", "p", NULL, NULL, 0);
    delete_claim(&cluster, "data");
    assert_string_equal(volume(&cluster, name)->status.phase, "Released");
    assert_true(volume(&cluster, name)->metadata.deletion_timestamp.set);
    assert_true(cluster_reclaim(&cluster, cluster_get(&cluster, &kube_kind_persistent_volume, NULL, name)));
    cluster_settle(&cluster);
    assert_null(volume(&cluster, name));
    free((void *)(uintptr_t)name);
    cluster_deinit(&cluster);
}

UNIT_TEST(retained_volumes_stay_for_a_person_to_decide) {
    struct cluster cluster;
    start(&cluster);
    add_volume(&cluster, "disk", "2Gi", ",'storageClassName':'manual'");
    assert_string_equal(volume(&cluster, "disk")->status.phase, "Available");
    add_claim(&cluster, "data", ",'storageClassName':'manual'");
    assert_bound(&cluster, "data", "disk");
    delete_claim(&cluster, "data");
    assert_string_equal(volume(&cluster, "disk")->status.phase, "Released");
    add_claim(&cluster, "data", ",'storageClassName':'manual'"); /* of the same name, but another */
    assert_string_equal(claim(&cluster, "data")->status.phase, "Pending");
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_persistent_volume, NULL, "disk");
    copy->persistent_volume->spec.claim_ref = NULL;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_bound(&cluster, "data", "disk");
    cluster_deinit(&cluster);
}

UNIT_TEST(what_nobody_can_do_is_said) {
    struct cluster cluster;
    start(&cluster);
    static const char *const policies[] = {"Delete", "Recycle"};
    static const char *const messages[] = {"Error getting deleter volume plugin for volume \"Delete\": no deletable volume plugin matched",
                                           "No recycler plugin found for the volume!"};
    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        char more[200];
        snprintf(more, sizeof more, ",'persistentVolumeReclaimPolicy':'%s','storageClassName':'manual'", policies[i]);
        add_volume(&cluster, policies[i], "1Gi", more);
        add_claim(&cluster, "data", ",'storageClassName':'manual'");
        assert_bound(&cluster, "data", policies[i]);
        delete_claim(&cluster, "data");
        assert_string_equal(volume(&cluster, policies[i])->status.phase, "Failed");
        assert_string_equal(volume(&cluster, policies[i])->status.message, messages[i]);
    }
    add_claim(&cluster, "none", ",'storageClassName':''");
    assert_event(&cluster, "none", "FailedBinding", "no persistent volumes available for this claim and no storage class is set");
    add_claim(&cluster, "lost", ",'storageClassName':'nowhere'");
    assert_event(&cluster, "lost", "ProvisioningFailed", "storageclass.storage.k8s.io \"nowhere\" not found");
    cluster_add(&cluster, &kube_kind_storage_class, "{'metadata':{'name':'csi'},'provisioner':'csi.example.com'}");
    add_claim(&cluster, "theirs", ",'storageClassName':'csi'");
    assert_string_equal(kube_map_find(&claim(&cluster, "theirs")->metadata.annotations, "volume.kubernetes.io/storage-provisioner"),
                        "csi.example.com");
    cluster_add(&cluster, &kube_kind_storage_class,
                "{'metadata':{'name':'now'},'provisioner':'" TIDEMILL_PROVISIONER "','volumeBindingMode':'Immediate','reclaimPolicy':'Retain'}");
    add_claim(&cluster, "block", ",'storageClassName':'now','volumeMode':'Block'");
    assert_event(&cluster, "block", "ProvisioningFailed",
                 "failed to provision volume with StorageClass \"now\": volumes of mode Block are not supported");
    add_claim(&cluster, "now", ",'storageClassName':'now'"); /* without a pod */
    assert_string_equal(claim(&cluster, "now")->status.phase, "Bound");
    assert_string_equal(volume(&cluster, claim(&cluster, "now")->spec.volume_name)->spec.persistent_volume_reclaim_policy, "Retain");
    cluster_deinit(&cluster);
}

UNIT_TEST(the_smallest_volume_that_suits_is_taken) {
    struct cluster cluster;
    start(&cluster);
    add_volume(&cluster, "small", "500Mi", ",'storageClassName':''");
    add_volume(&cluster, "large", "5Gi", ",'storageClassName':''");
    add_volume(&cluster, "medium", "2Gi", ",'storageClassName':''");
    add_volume(&cluster, "classy", "1Gi", ",'storageClassName':'x'");
    add_volume(&cluster, "block", "1Gi", ",'storageClassName':'','volumeMode':'Block'");
    add_claim(&cluster, "many", ",'storageClassName':'','selector':{'matchLabels':{'disk':'large'}}");
    assert_bound(&cluster, "many", "large");
    add_claim(&cluster, "any", ",'storageClassName':''");
    assert_bound(&cluster, "any", "medium");
    add_claim(&cluster, "late", ",'storageClassName':''");
    assert_string_equal(claim(&cluster, "late")->status.phase, "Pending");
    add_volume(&cluster, "new", "1Gi", ",'storageClassName':''");
    assert_bound(&cluster, "late", "new");
    cluster_deinit(&cluster);
}

UNIT_TEST(either_side_may_name_the_other) {
    struct cluster cluster;
    start(&cluster);
    add_volume(&cluster, "reserved", "1Gi", ",'claimRef':{'namespace':'d','name':'mine'},'storageClassName':''");
    assert_string_equal(volume(&cluster, "reserved")->status.phase, "Available");
    add_claim(&cluster, "other", ",'storageClassName':''");
    assert_string_equal(claim(&cluster, "other")->status.phase, "Pending");
    add_claim(&cluster, "mine", ",'storageClassName':''");
    assert_bound(&cluster, "mine", "reserved");
    add_claim(&cluster, "wants", ",'storageClassName':'','volumeName':'chosen'");
    assert_string_equal(claim(&cluster, "wants")->status.phase, "Pending");
    add_volume(&cluster, "chosen", "9Gi", ",'storageClassName':''");
    add_claim(&cluster, "greedy", ",'storageClassName':'','volumeName':'reserved'");
    assert_event(&cluster, "greedy", "FailedBinding", "volume \"reserved\" already bound to a different claim.");
    add_volume(&cluster, "tiny", "1Mi", ",'storageClassName':''");
    add_claim(&cluster, "picky", ",'storageClassName':'','volumeName':'tiny'");
    assert_event(&cluster, "picky", "VolumeMismatch", "Cannot bind to requested volume \"tiny\": requested PV is too small");
    cluster_deinit(&cluster);
}

UNIT_TEST(a_claim_whose_volume_is_gone_is_lost) {
    struct cluster cluster;
    start(&cluster);
    add_volume(&cluster, "disk", "1Gi", ",'storageClassName':''");
    add_claim(&cluster, "data", ",'storageClassName':''");
    assert_bound(&cluster, "data", "disk");
    cluster_delete(&cluster, &kube_kind_persistent_volume, NULL, "disk", NULL, NULL, -1);
    cluster_settle(&cluster);
    assert_string_equal(claim(&cluster, "data")->status.phase, "Lost");
    assert_event(&cluster, "data", "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    add_pod(&cluster, "p", "data");
    assert_string_equal(pod_condition(pod(&cluster, "p"), "PodScheduled")->message,
                        "0/1 nodes are available: persistentvolumeclaim \"data\" bound to non-existent persistentvolume \"disk\". preemption: 0/1 "
                        "nodes are available: 1 Preemption is not helpful for scheduling.");
    cluster_deinit(&cluster);
}

UNIT_TEST(pods_wait_for_their_claims) {
    struct cluster cluster;
    start(&cluster);
#define NO_HELP " preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    add_pod(&cluster, "p", "data");
    assert_string_equal(pod_condition(pod(&cluster, "p"), "PodScheduled")->message,
                        "0/1 nodes are available: persistentvolumeclaim \"data\" not found." NO_HELP);
    add_claim(&cluster, "data", ",'storageClassName':''");
    assert_string_equal(pod_condition(pod(&cluster, "p"), "PodScheduled")->message,
                        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims." NO_HELP);
    add_volume(&cluster, "disk", "1Gi", ",'storageClassName':''");
    assert_string_equal(pod(&cluster, "p")->spec.node_name, "n1");
    cluster_add(&cluster, &kube_kind_storage_class,
                "{'metadata':{'name':'by-hand'},'provisioner':'" NO_PROVISIONER "','volumeBindingMode':'WaitForFirstConsumer'}");
    add_claim(&cluster, "hand", ",'storageClassName':'by-hand'");
    add_pod(&cluster, "q", "hand");
    assert_string_equal(pod_condition(pod(&cluster, "q"), "PodScheduled")->message,
                        "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind." NO_HELP);
    add_volume(
        &cluster, "elsewhere", "1Gi",
        ",'storageClassName':'by-hand','nodeAffinity':{'required':{'nodeSelectorTerms':[{'matchFields':[{'key':'metadata.name','operator':'In',"
        "'values':['n2']}]}]}}");
    assert_null(pod(&cluster, "q")->spec.node_name);
    add_volume(
        &cluster, "here", "1Gi",
        ",'storageClassName':'by-hand','nodeAffinity':{'required':{'nodeSelectorTerms':[{'matchFields':[{'key':'metadata.name','operator':'In',"
        "'values':['n1']}]}]}}");
    assert_bound(&cluster, "hand", "here");
    assert_string_equal(pod(&cluster, "q")->spec.node_name, "n1");
    cluster_deinit(&cluster);
}

UNIT_TEST(a_claim_for_one_pod_is_had_by_one) {
    struct cluster cluster;
    start(&cluster);
    cluster_add(
        &cluster, &kube_kind_persistent_volume_claim,
        "{'metadata':{'name':'data','namespace':'d'},'spec':{'accessModes':['ReadWriteOncePod'],'resources':{'requests':{'storage':'1Gi'}}}}");
    add_pod(&cluster, "p", "data");
    assert_string_equal(pod(&cluster, "p")->spec.node_name, "n1");
    add_pod(&cluster, "q", "data");
    assert_string_equal(pod_condition(pod(&cluster, "q"), "PodScheduled")->message,
                        "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode. "
                        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.");
    cluster_deinit(&cluster);
}

UNIT_TEST(an_ephemeral_volume_comes_and_goes_with_its_pod) {
    struct cluster cluster;
    start(&cluster);
    cluster_add(&cluster, &kube_kind_pod,
                "{'metadata':{'name':'p','namespace':'d'},'spec':{'containers':[{'name':'c','image':'i'}],'volumes':[{'name':'v','ephemeral':"
                "{'volumeClaimTemplate':{'metadata':{'labels':{'a':'b'}},'spec':{'accessModes':['ReadWriteOnce'],'resources':{'requests':{'storage':"
                "'1Gi'}}}}}}]}}");
    cluster_run_pods(&cluster);
    assert_string_equal(pod(&cluster, "p")->spec.node_name, "n1");
    assert_string_equal(claim(&cluster, "p-v")->status.phase, "Bound");
    assert_string_equal(kube_map_find(&claim(&cluster, "p-v")->metadata.labels, "a"), "b");
    cluster_delete(&cluster, &kube_kind_pod, "d", "p", NULL, NULL, 0);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_persistent_volume_claim), 0);
    assert_int_equal(cluster_count(&cluster, &kube_kind_persistent_volume), 0);
    cluster_deinit(&cluster);
}

UNIT_TEST(a_claim_grows) {
    struct cluster cluster;
    start(&cluster);
    add_claim(&cluster, "data", "");
    add_pod(&cluster, "p", "data");
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_persistent_volume_claim, "d", "data");
    copy->persistent_volume_claim->spec.resources.requests.items[0].value = (struct kube_quantity){"3Gi", (INT64_C(3000) << 30)};
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_int_equal(kube_quantity_milli(&claim(&cluster, "data")->status.capacity, "storage", 0), INT64_C(3000) << 30);
    assert_int_equal(kube_quantity_milli(&volume(&cluster, claim(&cluster, "data")->spec.volume_name)->spec.capacity, "storage", 0), INT64_C(3000)
                                                                                                                                         << 30);
    size_t actions = cluster.actions;
    cluster_wait(&cluster, 86400);
    assert_true(cluster.actions - actions <= cluster_count(&cluster, &kube_kind_event) + 20); /* events expire, no more */
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(a_volume_is_made_where_the_first_pod_runs), UNIT(a_deleted_claim_takes_its_volume_along_when_the_node_has_removed_it),
          UNIT(retained_volumes_stay_for_a_person_to_decide), UNIT(what_nobody_can_do_is_said), UNIT(the_smallest_volume_that_suits_is_taken),
          UNIT(either_side_may_name_the_other), UNIT(a_claim_whose_volume_is_gone_is_lost), UNIT(pods_wait_for_their_claims),
          UNIT(a_claim_for_one_pod_is_had_by_one), UNIT(an_ephemeral_volume_comes_and_goes_with_its_pod), UNIT(a_claim_grows))
