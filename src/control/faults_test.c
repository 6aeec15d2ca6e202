#include "control/cluster_testing_priv.h"

#include "faults.h"

static void on_engine(bool enter) {
    if (enter)
        faults_resume();
    else
        faults_pause();
}

/* Only the engine meets faults: not the cluster around it. */
static void start(struct cluster *cluster) {
    faults_pause();
    cluster_init(cluster, 1);
    cluster->in_memory = true;
    cluster->on_engine = on_engine;
    cluster_add_node(cluster, "8", "110");
}

static const char web[] = "{'metadata':{'name':'web','namespace':'d'},'spec':{'replicas':2,'selector':{'matchLabels':{'app':'web'}},"
                          "'template':{'metadata':{'labels':{'app':'web'}},'spec':{'containers':[{'name':'c','image':'web:1'}]}}}}";
static const char service[] =
    "{'metadata':{'name':'web','namespace':'d'},'spec':{'clusterIP':'10.96.0.9','selector':{'app':'web'},'ports':[{'port':80}]}}";
static const char job[] =
    "{'metadata':{'name':'once','namespace':'d','uid':'j'},'spec':{'completions':1,'selector':{'matchLabels':{'job-name':'once'}},"
    "'template':{'metadata':{'labels':{'job-name':'once'}},'spec':{'restartPolicy':'Never','containers':[{'name':'c','image':'i'}]}}}}";

/* Wherever memory runs out once, the cluster comes to the same end. */
static int converges(__attribute__((unused)) void *context) {
    struct cluster cluster;
    start(&cluster);
    cluster_add(&cluster, &kube_kind_deployment, web);
    cluster_add(&cluster, &kube_kind_service, service);
    cluster_add(&cluster, &kube_kind_job, job);
    cluster_run_pods(&cluster);
    cluster_wait(&cluster, 2);
    const struct kube_object *deployment = cluster_get(&cluster, &kube_kind_deployment, "d", "web");
    assert_int_equal(deployment->deployment->status.available_replicas, 2);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 3);
    const struct kube_object *endpoints = cluster_get(&cluster, &kube_kind_endpoints, "d", "web");
    assert_non_null(endpoints);
    assert_int_equal(endpoints->endpoints->subsets.count, 1);
    assert_int_equal(endpoints->endpoints->subsets.items[0].addresses.count, 2);
    assert_null(cluster_delete(&cluster, &kube_kind_deployment, "d", "web", NULL, "Background", -1));
    cluster_run_pods(&cluster);
    cluster_wait(&cluster, 2);
    assert_int_equal(cluster_count(&cluster, &kube_kind_replica_set), 0);
    assert_int_equal(cluster_count(&cluster, &kube_kind_pod), 1); /* the job's */
    cluster_deinit(&cluster);
    faults_resume();
    return 0;
}

static const char set[] =
    "{'metadata':{'name':'db','namespace':'d'},'spec':{'replicas':2,'podManagementPolicy':'Parallel','selector':{'matchLabels':{'app':'db'}},"
    "'persistentVolumeClaimRetentionPolicy':{'whenDeleted':'Delete','whenScaled':'Retain'},"
    "'volumeClaimTemplates':[{'metadata':{'name':'data'},'spec':{'accessModes':['ReadWriteOnce'],'resources':{'requests':{'storage':'1Gi'}}}}],"
    "'template':{'metadata':{'labels':{'app':'db'}},'spec':{'containers':[{'name':'c','image':'db:1'}]}}}}";
static const char agent[] = "{'metadata':{'name':'agent','namespace':'d'},'spec':{'selector':{'matchLabels':{'app':'agent'}},"
                            "'template':{'metadata':{'labels':{'app':'agent'}},'spec':{'containers':[{'name':'c','image':'agent:1'}]}}}}";

/* The same for what keeps its history in revisions: make, roll, take away. */
static int revisions_converge(__attribute__((unused)) void *context) {
    struct cluster cluster;
    start(&cluster);
    cluster_add_storage_class(&cluster);
    cluster_add(&cluster, &kube_kind_stateful_set, set);
    cluster_add(&cluster, &kube_kind_daemon_set, agent);
    cluster_run_pods(&cluster);
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_stateful_set, "d", "db");
    copy->stateful_set->spec.template.spec.containers.items[0].image = "db:2";
    assert_null(cluster_update(&cluster, copy, false));
    copy = cluster_edit(&cluster, &kube_kind_daemon_set, "d", "agent");
    copy->daemon_set->spec.template.spec.containers.items[0].image = "agent:2";
    assert_null(cluster_update(&cluster, copy, false));
    cluster_run_pods(&cluster);
    cluster_wait(&cluster, 2);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_get(&cluster, &kube_kind_stateful_set, "d", "db")->stateful_set->status.updated_replicas, 2);
    assert_int_equal(cluster_get(&cluster, &kube_kind_daemon_set, "d", "agent")->daemon_set->status.updated_number_scheduled, 1);
    assert_int_equal(cluster_count(&cluster, &kube_kind_controller_revision), 4);
    assert_null(cluster_delete(&cluster, &kube_kind_stateful_set, "d", "db", NULL, "Background", -1));
    assert_null(cluster_delete(&cluster, &kube_kind_daemon_set, "d", "agent", NULL, "Background", -1));
    cluster_run_pods(&cluster);
    cluster_wait(&cluster, 2);
    cluster_run_pods(&cluster);
    assert_int_equal(cluster.objects.count, 2); /* the node, the storage class */
    cluster_deinit(&cluster);
    faults_resume();
    return 0;
}

UNIT_TEST(revisions_converge_all_the_same) {
    TEST_FAULTS(revisions_converge, NULL);
}

UNIT_TEST(a_cluster_converges_all_the_same) {
    TEST_FAULTS(converges, NULL);
}

UNIT_MAIN(UNIT(a_cluster_converges_all_the_same), UNIT(revisions_converge_all_the_same))
