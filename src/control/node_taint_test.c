/* Conditions become taints, and taints drive pods out. */
#include "control/cluster_testing_priv.h"

static void start(struct cluster *cluster) {
    cluster_init(cluster, 1);
    cluster->keep_events = true;
    cluster_add_node(cluster, "8", "110");
    cluster_settle(cluster);
}

static void add_pod(struct cluster *cluster, const char *name, const char *tolerations) {
    char text[512];
    snprintf(text, sizeof text, "{'metadata':{'name':'%s','namespace':'d'},'spec':{'containers':[{'name':'c','image':'i'}],'tolerations':[%s]}}",
             name, tolerations);
    cluster_add(cluster, &kube_kind_pod, text);
}

static void add_ready_node(struct cluster *cluster) {
    cluster_add(cluster, &kube_kind_node, "{'metadata':{'name':'ready'},'spec':{'unschedulable':true}}");
    cluster_settle(cluster);
}

static void set_node_condition(struct cluster *cluster, const char *type, const char *status) {
    struct kube_object *copy = cluster_edit(cluster, &kube_kind_node, NULL, "n1");
    struct kube_node_condition *item = ARENA_NEW(copy->arena, struct kube_node_condition);
    *item = (struct kube_node_condition){.type = type, .status = status};
    copy->node->status.conditions = (struct kube_node_condition_array){.items = item, .count = 1};
    assert_null(cluster_update(cluster, copy, true));
    cluster_settle(cluster);
}

static void set_taint(struct cluster *cluster, const char *key, const char *effect, bool unschedulable) {
    struct kube_object *copy = cluster_edit(cluster, &kube_kind_node, NULL, "n1");
    struct kube_taint *item = ARENA_NEW(copy->arena, struct kube_taint);
    *item = (struct kube_taint){.key = key, .effect = effect};
    copy->node->spec.taints = (struct kube_taint_array){.items = item, .count = key ? 1 : 0};
    copy->node->spec.unschedulable = unschedulable;
    assert_null(cluster_update(cluster, copy, false));
    cluster_settle(cluster);
}

/* "key:effect key:effect" */
static void assert_taints(struct cluster *cluster, const char *wanted) {
    const struct kube_taint_array *taints = &cluster_get(cluster, &kube_kind_node, NULL, "n1")->node->spec.taints;
    char text[512] = "";
    for (size_t i = 0, len = 0; i < taints->count; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s:%s", i ? " " : "", taints->items[i].key, taints->items[i].effect);
    assert_string_equal(text, wanted);
}

static bool is_there(struct cluster *cluster, const char *name) {
    const struct kube_object *pod = cluster_get(cluster, &kube_kind_pod, "d", name);
    return pod && !is_deleting(pod);
}

UNIT_TEST(conditions_become_taints_and_go_with_them) {
    static const struct {
        const char *type, *status, *taints;
    } cases[] = {
        {"Ready", "False", "node.kubernetes.io/not-ready:NoSchedule node.kubernetes.io/not-ready:NoExecute"},
        {"Ready", "Unknown", "node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute"},
        {"Ready", "True", ""},
        {"MemoryPressure", "True", "node.kubernetes.io/memory-pressure:NoSchedule"},
        {"DiskPressure", "True", "node.kubernetes.io/disk-pressure:NoSchedule"},
        {"PIDPressure", "True", "node.kubernetes.io/pid-pressure:NoSchedule"},
        {"NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable:NoSchedule"},
        {"MemoryPressure", "False", ""},
    };
    struct cluster cluster;
    start(&cluster);
    add_ready_node(&cluster);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        set_node_condition(&cluster, cases[i].type, cases[i].status);
        assert_taints(&cluster, cases[i].taints);
    }
    set_taint(&cluster, "mine", "NoSchedule", true);
    assert_taints(&cluster, "mine:NoSchedule node.kubernetes.io/unschedulable:NoSchedule");
    set_taint(&cluster, "mine", "NoSchedule", false);
    assert_taints(&cluster, "mine:NoSchedule");
    size_t actions = cluster.actions;
    cluster_wait(&cluster, 86400);
    assert_int_equal(cluster.actions, actions);
    cluster_deinit(&cluster);
}

UNIT_TEST(pods_go_that_do_not_bear_a_taint) {
    struct cluster cluster;
    start(&cluster);
    add_pod(&cluster, "stays", "{'key':'k','operator':'Exists'}");
    add_pod(&cluster, "lingers", "{'key':'k','operator':'Exists','effect':'NoExecute','tolerationSeconds':60}");
    add_pod(&cluster, "goes", "{'key':'other','operator':'Exists'}");
    cluster_run_pods(&cluster);
    set_taint(&cluster, "k", "NoExecute", false);
    assert_true(cluster_get(&cluster, &kube_kind_node, NULL, "n1")->node->spec.taints.items[0].time_added.set);
    assert_true(is_there(&cluster, "stays") && is_there(&cluster, "lingers") && !is_there(&cluster, "goes"));
    const struct kube_pod_condition *target = pod_condition(cluster_get(&cluster, &kube_kind_pod, "d", "goes")->pod, "DisruptionTarget");
    assert_string_equal(target->reason, "DeletionByTaintManager");
    assert_string_equal(target->message, "Taint manager: deleting due to NoExecute taint");
    bool said = false;
    for (size_t i = 0; i < cluster.objects.count; i++)
        said |= cluster.objects.items[i]->kind == &kube_kind_event &&
                text_is(cluster.objects.items[i]->event->message, "Marking for deletion Pod d/goes");
    assert_true(said);
    cluster_wait(&cluster, 58);
    assert_true(is_there(&cluster, "lingers"));
    cluster_wait(&cluster, 4);
    assert_true(is_there(&cluster, "stays") && !is_there(&cluster, "lingers"));
    cluster_deinit(&cluster);
}

UNIT_TEST(a_taint_that_is_taken_back_in_time_drives_nobody_out) {
    struct cluster cluster;
    start(&cluster);
    add_ready_node(&cluster);
    add_pod(&cluster, "p", "{'key':'node.kubernetes.io/unreachable','operator':'Exists','effect':'NoExecute','tolerationSeconds':300}");
    cluster_run_pods(&cluster);
    set_node_condition(&cluster, "Ready", "Unknown");
    assert_false(kube_pod_is_ready(cluster_get(&cluster, &kube_kind_pod, "d", "p")->pod)); /* nobody knows */
    cluster_wait(&cluster, 200);
    set_node_condition(&cluster, "Ready", "True");
    cluster_wait(&cluster, 1000);
    assert_true(is_there(&cluster, "p"));
    set_node_condition(&cluster, "Ready", "Unknown");
    cluster_wait(&cluster, 290);
    assert_true(is_there(&cluster, "p"));
    cluster_wait(&cluster, 20);
    assert_false(is_there(&cluster, "p"));
    cluster_deinit(&cluster);
}

UNIT_TEST(the_only_node_keeps_its_pods) {
    struct cluster cluster;
    start(&cluster);
    add_pod(&cluster, "p", "");
    cluster_run_pods(&cluster);
    set_node_condition(&cluster, "Ready", "Unknown");
    assert_taints(&cluster, "node.kubernetes.io/unreachable:NoSchedule");
    assert_false(kube_pod_is_ready(cluster_get(&cluster, &kube_kind_pod, "d", "p")->pod));
    cluster_wait(&cluster, 1000);
    assert_true(is_there(&cluster, "p"));
    add_ready_node(&cluster); /* now there is a better place */
    assert_taints(&cluster, "node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute");
    cluster_wait(&cluster, 1);
    assert_false(is_there(&cluster, "p"));
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(conditions_become_taints_and_go_with_them), UNIT(pods_go_that_do_not_bear_a_taint),
          UNIT(a_taint_that_is_taken_back_in_time_drives_nobody_out), UNIT(the_only_node_keeps_its_pods))
