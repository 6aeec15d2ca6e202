/* What follows from objects that come and go: quotas recounted, what is in use kept, balancers told their address. */
#include "control/cluster_testing_priv.h"

static const char *used(struct cluster *cluster, const char *resource) {
    const struct kube_object *quota = cluster_get(cluster, &kube_kind_resource_quota, "d", "q");
    for (size_t i = 0; i < quota->resource_quota->status.used.count; i++)
        if (text_is(quota->resource_quota->status.used.items[i].key, resource))
            return quota->resource_quota->status.used.items[i].value.text;
    return "";
}

static void delete_now(struct cluster *cluster, const struct kube_kind *kind, const char *name) {
    assert_null(cluster_delete(cluster, kind, kind->namespaced ? "d" : NULL, name, NULL, NULL, 0));
}

UNIT_TEST(quotas_are_recounted) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(&cluster, &kube_kind_config_map, "{'metadata':{'name':'m','namespace':'d'}}");
    cluster_add(
        &cluster, &kube_kind_pod,
        "{'metadata':{'name':'p','namespace':'d'},'spec':{'containers':[{'name':'c','image':'x','resources':{'requests':{'memory':'1536Mi'}}}],"
        "'initContainers':[{'name':'i','image':'x','resources':{'requests':{'memory':'2Gi'}}}]}}");
    cluster_add(&cluster, &kube_kind_resource_quota,
                "{'metadata':{'name':'q','namespace':'d'},'spec':{'hard':{'pods':'5','requests.memory':'4Gi','count/pods':'9','configmaps':'2',"
                "'services.nodeports':'1'}}}");
    cluster_settle(&cluster);
    assert_string_equal(used(&cluster, "pods"), "1");
    assert_string_equal(used(&cluster, "requests.memory"), "2Gi");
    assert_string_equal(used(&cluster, "configmaps"), "1");
    assert_string_equal(used(&cluster, "services.nodeports"), "0");
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_pod, "d", "p");
    copy->pod->status.phase = "Succeeded";
    assert_null(cluster_update(&cluster, copy, true));
    delete_now(&cluster, &kube_kind_config_map, "m");
    cluster_settle(&cluster);
    assert_string_equal(used(&cluster, "pods"), "0");
    assert_string_equal(used(&cluster, "requests.memory"), "0");
    assert_string_equal(used(&cluster, "count/pods"), "1");
    assert_string_equal(used(&cluster, "configmaps"), "0");
    size_t actions = cluster.actions;
    cluster_wait(&cluster, 3600);
    assert_int_equal(cluster.actions, actions);
    cluster_deinit(&cluster);
}

UNIT_TEST(claims_in_use_stay) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(&cluster, &kube_kind_persistent_volume_claim,
                "{'metadata':{'name':'c','namespace':'d','finalizers':['kubernetes.io/pvc-protection']}}");
    cluster_add(&cluster, &kube_kind_pod,
                "{'metadata':{'name':'p','namespace':'d'},'spec':{'containers':[{'name':'c','image':'x'}],"
                "'volumes':[{'name':'v','persistentVolumeClaim':{'claimName':'c'}}]}}");
    cluster_settle(&cluster);
    delete_now(&cluster, &kube_kind_persistent_volume_claim, "c");
    cluster_settle(&cluster);
    assert_non_null(cluster_get(&cluster, &kube_kind_persistent_volume_claim, "d", "c"));
    delete_now(&cluster, &kube_kind_pod, "p");
    cluster_settle(&cluster);
    assert_null(cluster_get(&cluster, &kube_kind_persistent_volume_claim, "d", "c"));
    cluster_deinit(&cluster);
}

UNIT_TEST(volumes_that_are_bound_stay) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(&cluster, &kube_kind_persistent_volume,
                "{'metadata':{'name':'v','finalizers':['kubernetes.io/pv-protection']},'spec':{'capacity':{'storage':'1Gi'},"
                "'accessModes':['ReadWriteOnce'],'hostPath':{'path':'/srv'}}}");
    cluster_add(&cluster, &kube_kind_persistent_volume_claim,
                "{'metadata':{'name':'c','namespace':'d'},'spec':{'storageClassName':'','accessModes':['ReadWriteOnce'],'resources':{'requests':"
                "{'storage':'1Gi'}}}}");
    cluster_settle(&cluster);
    assert_string_equal(cluster_get(&cluster, &kube_kind_persistent_volume, NULL, "v")->persistent_volume->status.phase, "Bound");
    delete_now(&cluster, &kube_kind_persistent_volume, "v");
    cluster_settle(&cluster);
    assert_non_null(cluster_get(&cluster, &kube_kind_persistent_volume, NULL, "v"));
    delete_now(&cluster, &kube_kind_persistent_volume_claim, "c");
    cluster_settle(&cluster);
    assert_null(cluster_get(&cluster, &kube_kind_persistent_volume, NULL, "v"));
    cluster_deinit(&cluster);
}

static const char *ingress(struct cluster *cluster) {
    const struct kube_object *object = cluster_get(cluster, &kube_kind_service, "d", "s");
    const struct kube_load_balancer_ingress_array *list = &object->service->status.load_balancer.ingress;
    return list->count == 1 ? list->items[0].ip : "";
}

UNIT_TEST(balancers_are_the_nodes) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(&cluster, &kube_kind_service, "{'metadata':{'name':'s','namespace':'d'},'spec':{'type':'LoadBalancer','ports':[{'port':80}]}}");
    cluster_add(&cluster, &kube_kind_node, "{'metadata':{'name':'n'},'status':{'addresses':[{'type':'InternalIP','address':'10.0.0.5'}]}}");
    cluster_settle(&cluster);
    assert_string_equal(ingress(&cluster), "10.0.0.5");
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_service, "d", "s");
    copy->service->spec.type = "ClusterIP";
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_string_equal(ingress(&cluster), "");
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(quotas_are_recounted), UNIT(claims_in_use_stay), UNIT(volumes_that_are_bound_stay), UNIT(balancers_are_the_nodes))
