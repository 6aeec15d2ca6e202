/* EndpointSlices and Endpoints by example; how pods become ready and go is in control_test.c. */
#include "control/cluster_testing_priv.h"

static void add_pod(struct cluster *cluster, const char *name, const char *more) {
    char text[400];
    snprintf(text, sizeof text,
             "{'metadata':{'name':'%s','namespace':'d','labels':{'app':'x'}},'spec':{'containers':[{'name':'c','image':'i'}],'hostname':'%s',"
             "'subdomain':'s'%s}}",
             name, name, more);
    cluster_add(cluster, &kube_kind_pod, text);
}

static const struct kube_endpoint_slice *slice_at(const struct cluster *cluster, size_t index) {
    for (size_t i = 0; i < cluster->objects.count; i++)
        if (cluster->objects.items[i]->kind == &kube_kind_endpoint_slice && index-- == 0)
            return cluster->objects.items[i]->endpoint_slice;
    fail_msg("no such slice");
    return NULL;
}

UNIT_TEST(a_slice_holds_a_hundred) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add_node(&cluster, "80", "500");
    cluster_add(&cluster, &kube_kind_service,
                "{'metadata':{'name':'s','namespace':'d'},'spec':{'clusterIP':'None','selector':{'app':'x'},'ports':[{'port':80}]}}");
    for (int i = 0; i < 205; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%03d", i);
        add_pod(&cluster, name, "");
    }
    cluster_run_pods(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_endpoint_slice), 3);
    size_t total = 0;
    for (size_t i = 0; i < 3; i++) {
        assert_true(slice_at(&cluster, i)->endpoints.count <= 100);
        total += slice_at(&cluster, i)->endpoints.count;
    }
    assert_int_equal(total, 205);
    assert_string_equal(slice_at(&cluster, 0)->endpoints.items[0].hostname, "p000"); /* a name of its own in the headless service */
    for (int i = 3; i < 205; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%03d", i);
        cluster_delete(&cluster, &kube_kind_pod, "d", name, NULL, NULL, 0);
    }
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_endpoint_slice), 1);
    cluster_deinit(&cluster);
}

UNIT_TEST(what_is_not_ready_is_published_when_asked_for) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(
        &cluster, &kube_kind_node,
        "{'metadata':{'name':'n1','labels':{'topology.kubernetes.io/zone':'z1'}},'status':{'allocatable':{'cpu':'8','memory':'8Gi','pods':'9'}}}");
    cluster_add(&cluster, &kube_kind_service,
                "{'metadata':{'name':'s','namespace':'d'},'spec':{'publishNotReadyAddresses':true,'selector':{'app':'x'},'ports':[{'port':80}]}}");
    add_pod(&cluster, "p", "");
    cluster_settle(&cluster);
    cluster_set_pod(&cluster, cluster_get(&cluster, &kube_kind_pod, "d", "p"), "Running", false);
    cluster_settle(&cluster);
    const struct kube_endpoint *endpoint = &slice_at(&cluster, 0)->endpoints.items[0];
    assert_true(*endpoint->conditions.ready);
    assert_false(*endpoint->conditions.serving);
    assert_false(*endpoint->conditions.terminating);
    assert_string_equal(endpoint->zone, "z1");
    cluster_set_pod(&cluster, cluster_get(&cluster, &kube_kind_pod, "d", "p"), "Running", true);
    cluster_delete(&cluster, &kube_kind_pod, "d", "p", NULL, NULL, -1);
    cluster_settle(&cluster);
    endpoint = &slice_at(&cluster, 0)->endpoints.items[0];
    assert_true(*endpoint->conditions.ready && *endpoint->conditions.serving && *endpoint->conditions.terminating);
    assert_int_equal(cluster_get(&cluster, &kube_kind_endpoints, "d", "s")->endpoints->subsets.items[0].addresses.count, 1);
    cluster_deinit(&cluster);
}

UNIT_TEST(endpoints_that_people_keep_are_mirrored) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(&cluster, &kube_kind_endpoints,
                "{'metadata':{'name':'db','namespace':'d','labels':{'team':'a'}},'subsets':[{'addresses':[{'ip':'192.0.2.1'},{'ip':'2001:db8::1'}],"
                "'notReadyAddresses':[{'ip':'192.0.2.2','hostname':'spare'}],'ports':[{'name':'sql','port':5432}]}]}");
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_endpoint_slice), 0); /* no service yet */
    cluster_add(&cluster, &kube_kind_service, "{'metadata':{'name':'db','namespace':'d'},'spec':{'ports':[{'name':'sql','port':5432}]}}");
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_endpoint_slice), 2);
    const struct kube_endpoint_slice *slice = slice_at(&cluster, 0), *v6 = slice_at(&cluster, 1);
    assert_string_equal(slice->address_type, "IPv4");
    assert_string_equal(v6->address_type, "IPv6");
    assert_int_equal(slice->endpoints.count, 2);
    assert_true(*slice->endpoints.items[0].conditions.ready);
    assert_false(*slice->endpoints.items[1].conditions.ready);
    assert_string_equal(slice->endpoints.items[1].hostname, "spare");
    assert_int_equal(*slice->ports.items[0].port, 5432);
    assert_string_equal(kube_map_find(&slice->metadata.labels, "kubernetes.io/service-name"), "db");
    assert_string_equal(kube_map_find(&slice->metadata.labels, "team"), "a");
    assert_string_equal(kube_map_find(&slice->metadata.labels, "endpointslice.kubernetes.io/managed-by"), "endpointslicemirroring-controller.k8s.io");
    assert_string_equal(slice->metadata.owner_references.items[0].kind, "Endpoints");
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_endpoints, "d", "db");
    assert_int_equal(kube_map_set(&copy->metadata->labels, copy->arena, "endpointslice.kubernetes.io/skip-mirror", "true"), 0);
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_int_equal(cluster_count(&cluster, &kube_kind_endpoint_slice), 0);
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(a_slice_holds_a_hundred), UNIT(what_is_not_ready_is_published_when_asked_for), UNIT(endpoints_that_people_keep_are_mirrored))
