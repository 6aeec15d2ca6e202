/* The scheduler by example: which node a pod gets, why it gets none, who has to go for it. */
#include "control/cluster_testing_priv.h"

#define NO_VICTIMS " preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
#define NO_HELP " preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."

static void add_node(struct cluster *cluster, const char *name, const char *zone, const char *cpu) {
    char text[512];
    snprintf(text, sizeof text,
             "{'metadata':{'name':'%s','labels':{'kubernetes.io/hostname':'%s','zone':'%s'}},"
             "'status':{'allocatable':{'cpu':'%s','memory':'8Gi','pods':'110','example.com/gpu':'1'}}}",
             name, name, zone, cpu);
    cluster_add(cluster, &kube_kind_node, text);
}

/* `rest` follows the container's name and image: ",'resources':…}],'nodeSelector':…" */
static void add_pod(struct cluster *cluster, const char *name, const char *labels, const char *rest) {
    char text[2048];
    snprintf(text, sizeof text, "{'metadata':{'name':'%s','namespace':'d','labels':{%s}},'spec':{'containers':[{'name':'c','image':'i'%s}}", name,
             labels, rest);
    cluster_add(cluster, &kube_kind_pod, text);
    cluster_settle(cluster);
}

static const struct kube_pod *pod(struct cluster *cluster, const char *name) {
    const struct kube_object *object = cluster_get(cluster, &kube_kind_pod, "d", name);
    assert_non_null(object);
    return object->pod;
}

static void assert_on(struct cluster *cluster, const char *name, const char *node) {
    const struct kube_pod *found = pod(cluster, name);
    if (!found->spec.node_name)
        fail_msg("%s: %s", name, pod_condition(found, "PodScheduled") ? pod_condition(found, "PodScheduled")->message : "nothing is said");
    assert_string_equal(found->spec.node_name, node);
    assert_string_equal(pod_condition(found, "PodScheduled")->status, "True");
}

static void assert_waits(struct cluster *cluster, const char *name, const char *message) {
    const struct kube_pod *found = pod(cluster, name);
    assert_null(found->spec.node_name);
    const struct kube_pod_condition *condition = pod_condition(found, "PodScheduled");
    assert_non_null(condition);
    assert_string_equal(condition->message, message);
}

static void remove_pod(struct cluster *cluster, const char *name) {
    cluster_delete(cluster, &kube_kind_pod, "d", name, NULL, NULL, 0);
    cluster_settle(cluster);
}

/* ---- one node: the words ---- */

static void assert_one(struct cluster *cluster, const char *rest, const char *message) {
    add_pod(cluster, "p", "", rest);
    if (message)
        assert_waits(cluster, "p", message);
    else
        assert_on(cluster, "p", "n1");
    remove_pod(cluster, "p");
}

static void edit_node(struct cluster *cluster, bool unschedulable, const char *taint, const char *effect) {
    struct kube_object *copy = cluster_edit(cluster, &kube_kind_node, NULL, "n1");
    struct kube_taint *item = ARENA_NEW(copy->arena, struct kube_taint);
    *item = (struct kube_taint){.key = taint, .value = "ci", .effect = effect};
    copy->node->spec.taints = (struct kube_taint_array){.items = item, .count = taint ? 1 : 0};
    copy->node->spec.unschedulable = unschedulable;
    assert_null(cluster_update(cluster, copy, false));
    cluster_settle(cluster);
}

UNIT_TEST(the_scheduler_explains_itself) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    assert_one(&cluster, "}]", "no nodes available to schedule pods");
    add_node(&cluster, "n1", "a", "1");
    assert_one(&cluster, "}]", NULL);
    assert_one(&cluster, ",'resources':{'requests':{'cpu':'1','memory':'9Gi'}}}]", "0/1 nodes are available: 1 Insufficient memory." NO_VICTIMS);
    assert_one(&cluster, ",'resources':{'requests':{'cpu':'2','memory':'9Gi'}}}]",
               "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory." NO_VICTIMS);
    assert_one(&cluster, ",'resources':{'requests':{'example.com/gpu':'1'}}}]", NULL);
    assert_one(&cluster, ",'resources':{'requests':{'example.com/gpu':'2'}}}]",
               "0/1 nodes are available: 1 Insufficient example.com/gpu." NO_VICTIMS);
    assert_one(&cluster, ",'resources':{'requests':{'example.com/tpu':'1'}}}]",
               "0/1 nodes are available: 1 Insufficient example.com/tpu." NO_VICTIMS);
    assert_one(
        &cluster, "}],'preemptionPolicy':'Never','nodeSelector':{'disk':'ssd'}",
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: not eligible due to preemptionPolicy=Never.");
    assert_one(&cluster, "}],'nodeSelector':{'disk':'ssd'}", "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector." NO_HELP);
    edit_node(&cluster, false, "dedicated", "NoSchedule");
    assert_one(&cluster, "}]", "0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: ci}." NO_HELP);
    assert_one(&cluster, "}],'tolerations':[{'key':'dedicated','operator':'Exists'}]", NULL);
    assert_one(&cluster, "}],'tolerations':[{'key':'dedicated','value':'ci'}]", NULL);
    edit_node(&cluster, false, "dedicated", "PreferNoSchedule");
    assert_one(&cluster, "}]", NULL);
    edit_node(&cluster, true, NULL, NULL);
    assert_one(&cluster, "}]", "0/1 nodes are available: 1 node(s) were unschedulable." NO_HELP);
    cluster_deinit(&cluster);
}

UNIT_TEST(what_init_containers_and_overhead_need_counts) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    add_node(&cluster, "n1", "a", "1");
#define WANTS(cpu) "'resources':{'requests':{'cpu':'" cpu "'}}"
    static const struct {
        const char *rest;
        bool fits;
    } cases[] = {
        {"," WANTS("600m") "}],'initContainers':[{'name':'i','image':'i'," WANTS("1") "}]", true}, /* one after the other */
        {"," WANTS("600m") "}],'initContainers':[{'name':'i','image':'i'," WANTS("1100m") "}]", false},
        {"," WANTS("600m") "}],'initContainers':[{'name':'i','image':'i','restartPolicy':'Always'," WANTS("500m") "}]", false}, /* beside it */
        {"," WANTS("100m") "}],'initContainers':[{'name':'s','image':'i','restartPolicy':'Always'," WANTS("500m") "},{'name':'i','image':'i'," WANTS(
             "600m") "}]",
         false}, /* the sidecar runs when the next one does */
        {"," WANTS("600m") "}],'overhead':{'cpu':'500m'}", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_one(&cluster, cases[i].rest, cases[i].fits ? NULL : "0/1 nodes are available: 1 Insufficient cpu." NO_VICTIMS);
    cluster_deinit(&cluster);
}

UNIT_TEST(node_affinity_knows_all_operators) {
    static const struct {
        const char *requirement;
        bool fits;
    } cases[] = {
        {"{'key':'zone','operator':'In','values':['a','b']}", true},
        {"{'key':'zone','operator':'NotIn','values':['a']}", false},
        {"{'key':'disk','operator':'NotIn','values':['a']}", true},
        {"{'key':'zone','operator':'Exists'}", true},
        {"{'key':'disk','operator':'Exists'}", false},
        {"{'key':'disk','operator':'DoesNotExist'}", true},
        {"{'key':'cores','operator':'Gt','values':['3']}", true},
        {"{'key':'cores','operator':'Gt','values':['4']}", false},
        {"{'key':'cores','operator':'Lt','values':['5']}", true},
        {"{'key':'zone','operator':'Lt','values':['5']}", false},
    };
    struct cluster cluster;
    cluster_init(&cluster, 1);
    add_node(&cluster, "n1", "a", "1");
    struct kube_object *node = cluster_edit(&cluster, &kube_kind_node, NULL, "n1");
    assert_int_equal(kube_map_set(&node->metadata->labels, node->arena, "cores", "4"), 0);
    assert_null(cluster_update(&cluster, node, false));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char rest[512];
        snprintf(
            rest, sizeof rest,
            "}],'affinity':{'nodeAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':{'nodeSelectorTerms':[{'matchExpressions':[%s]}]}}}",
            cases[i].requirement);
        assert_one(&cluster, rest, cases[i].fits ? NULL : "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector." NO_HELP);
    }
    cluster_deinit(&cluster);
}

UNIT_TEST(ports_of_the_host_are_used_once) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    add_node(&cluster, "n1", "a", "1");
    add_pod(&cluster, "first", "", ",'ports':[{'containerPort':80,'hostPort':80,'hostIP':'10.0.0.1'}]}]");
    assert_one(&cluster, ",'ports':[{'containerPort':80,'hostPort':80}]}]",
               "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports." NO_VICTIMS);
    assert_one(&cluster, ",'ports':[{'containerPort':80,'hostPort':80,'hostIP':'10.0.0.2'}]}]", NULL);
    assert_one(&cluster, ",'ports':[{'containerPort':80,'hostPort':80,'protocol':'UDP'}]}]", NULL);
    cluster_deinit(&cluster);
}

UNIT_TEST(gated_pods_and_those_of_other_schedulers_are_left_alone) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    add_node(&cluster, "n1", "a", "1");
    add_pod(&cluster, "other", "", "}],'schedulerName':'mine'");
    assert_null(pod(&cluster, "other")->spec.node_name);
    assert_null(pod_condition(pod(&cluster, "other"), "PodScheduled"));
    add_pod(&cluster, "gated", "", "}],'schedulingGates':[{'name':'wait'}]");
    assert_waits(&cluster, "gated", "Scheduling is blocked due to non-empty scheduling gates");
    assert_string_equal(pod_condition(pod(&cluster, "gated"), "PodScheduled")->reason, "SchedulingGated");
    struct kube_object *copy = cluster_edit(&cluster, &kube_kind_pod, "d", "gated");
    copy->pod->spec.scheduling_gates.count = 0;
    assert_null(cluster_update(&cluster, copy, false));
    cluster_settle(&cluster);
    assert_on(&cluster, "gated", "n1");
    cluster_deinit(&cluster);
}

/* ---- several nodes ---- */

#define NEAR(labels, key)                                                                                                                            \
    "}],'affinity':{'podAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':[{'labelSelector':{'matchLabels':{" labels                       \
    "}},'topologyKey':'" key "'}]}}"
#define FAR(labels, key)                                                                                                                             \
    "}],'affinity':{'podAntiAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':[{'labelSelector':{'matchLabels':{" labels                   \
    "}},'topologyKey':'" key "'}]}}"

static void start_three(struct cluster *cluster) {
    cluster_init(cluster, 1);
    add_node(cluster, "n1", "a", "2");
    add_node(cluster, "n2", "b", "4");
    add_node(cluster, "n3", "b", "2");
}

UNIT_TEST(pods_are_put_near_each_other) {
    struct cluster cluster;
    start_three(&cluster);
    add_pod(&cluster, "alone", "", NEAR("'app':'db'", "zone"));
    assert_waits(
        &cluster, "alone",
        "0/3 nodes are available: 3 node(s) didn't match pod affinity rules. preemption: 0/3 nodes are available: 3 Preemption is not helpful "
        "for scheduling.");
    add_pod(&cluster, "db", "'app':'db'", "}],'nodeSelector':{'kubernetes.io/hostname':'n1'}");
    assert_on(&cluster, "db", "n1");
    assert_on(&cluster, "alone", "n1");                                     /* it was woken */
    add_pod(&cluster, "first", "'app':'web'", NEAR("'app':'web'", "zone")); /* the first of its kind has nobody to be near to */
    assert_non_null(pod(&cluster, "first")->spec.node_name);
    cluster_deinit(&cluster);
}

UNIT_TEST(pods_are_kept_apart) {
    struct cluster cluster;
    start_three(&cluster);
    add_pod(&cluster, "a", "'app':'db'", FAR("'app':'db'", "zone"));
    assert_on(&cluster, "a", "n2"); /* the emptiest */
    add_pod(&cluster, "b", "'app':'db'", FAR("'app':'db'", "zone"));
    assert_on(&cluster, "b", "n1");
    add_pod(&cluster, "c", "'app':'db'", FAR("'app':'db'", "zone"));
    assert_waits(
        &cluster, "c",
        "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules. preemption: 0/3 nodes are available: 3 No preemption victims "
        "found for incoming pod.");
    remove_pod(&cluster, "c");
    add_pod(&cluster, "plain", "'app':'db'", "}]"); /* says nothing itself, but they do */
    assert_waits(&cluster, "plain",
                 "0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules. preemption: 0/3 nodes are available: 3 No "
                 "preemption victims found for incoming pod.");
    remove_pod(&cluster, "a");
    assert_non_null(pod(&cluster, "plain")->spec.node_name);
    cluster_deinit(&cluster);
}

UNIT_TEST(namespaces_and_label_keys_of_terms_count) {
    struct cluster cluster;
    start_three(&cluster);
    cluster_add(&cluster, &kube_kind_namespace, "{'metadata':{'name':'e','labels':{'team':'x'}}}");
    cluster_add(&cluster, &kube_kind_pod,
                "{'metadata':{'name':'db','namespace':'e','labels':{'app':'db','v':'1'}},'spec':{'nodeSelector':{'kubernetes.io/hostname':'n1'},"
                "'containers':[{'name':'c','image':'i'}]}}");
    cluster_settle(&cluster);
#define TERM(more)                                                                                                                                   \
    "}],'affinity':{'podAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':[{'labelSelector':{'matchLabels':{'app':'db'}},'topologyKey':'"  \
    "zone'" more "}]}}"
    add_pod(&cluster, "own", "", TERM(""));
    assert_null(pod(&cluster, "own")->spec.node_name);
    add_pod(&cluster, "named", "", TERM(",'namespaces':['e']"));
    assert_on(&cluster, "named", "n1");
    add_pod(&cluster, "selected", "", TERM(",'namespaceSelector':{'matchLabels':{'team':'x'}}"));
    assert_on(&cluster, "selected", "n1");
    add_pod(&cluster, "same", "'v':'1'", TERM(",'namespaceSelector':{},'matchLabelKeys':['v']"));
    assert_on(&cluster, "same", "n1");
    add_pod(&cluster, "other", "'v':'2'", TERM(",'namespaceSelector':{},'matchLabelKeys':['v']"));
    assert_null(pod(&cluster, "other")->spec.node_name);
    add_pod(&cluster, "differs", "'v':'2'", TERM(",'namespaceSelector':{},'mismatchLabelKeys':['v']"));
    assert_on(&cluster, "differs", "n1");
    cluster_deinit(&cluster);
}

UNIT_TEST(preferences_decide_among_nodes_that_fit) {
    struct cluster cluster;
    start_three(&cluster);
    add_pod(&cluster, "zone-a", "'app':'db'",
            "}],'affinity':{'nodeAffinity':{'preferredDuringSchedulingIgnoredDuringExecution':[{'weight':100,'preference':{'matchExpressions':["
            "{'key':'zone','operator':'In','values':['a']}]}}]}}");
    assert_on(&cluster, "zone-a", "n1");
#define DRAWN(kind)                                                                                                                                  \
    "}],'affinity':{'" kind "':{'preferredDuringSchedulingIgnoredDuringExecution':[{'weight':100,'podAffinityTerm':{'labelSelector':{'matchLabels':" \
    "{'app':'db'}},'topologyKey':'kubernetes.io/hostname'}}]}}"
    add_pod(&cluster, "near", "", DRAWN("podAffinity"));
    assert_on(&cluster, "near", "n1");
    add_pod(&cluster, "far", "", DRAWN("podAntiAffinity"));
    assert_on(&cluster, "far", "n2");
    cluster_deinit(&cluster);
}

#define SPREAD(when, more)                                                                                                                           \
    "}],'topologySpreadConstraints':[{'maxSkew':1,'topologyKey':'zone','whenUnsatisfiable':'" when                                                   \
    "','labelSelector':{'matchLabels':{'app':'web'}}" more "}]"

UNIT_TEST(pods_are_spread_over_domains) {
    struct cluster cluster;
    start_three(&cluster);
    size_t in_a = 0;
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", i);
        add_pod(&cluster, name, "'app':'web'", SPREAD("DoNotSchedule", ""));
        assert_non_null(pod(&cluster, name)->spec.node_name);
        in_a += text_is(pod(&cluster, name)->spec.node_name, "n1");
    }
    assert_int_equal(in_a, 2);
    add_pod(&cluster, "many", "'app':'web'", SPREAD("DoNotSchedule", ",'minDomains':3")); /* as if an empty domain were missing */
    assert_waits(&cluster, "many",
                 "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints. preemption: 0/3 nodes are available: 3 No "
                 "preemption victims found for incoming pod.");
    add_pod(&cluster, "rack", "'app':'web'",
            "}],'topologySpreadConstraints':[{'maxSkew':1,'topologyKey':'rack','whenUnsatisfiable':'DoNotSchedule','labelSelector':{}}]");
    assert_waits(
        &cluster, "rack",
        "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints (missing required label). preemption: 0/3 nodes are "
        "available: 3 Preemption is not helpful for scheduling.");
    struct kube_object *node = cluster_edit(&cluster, &kube_kind_node, NULL, "n1");
    node->node->spec.unschedulable = true;
    assert_null(cluster_update(&cluster, node, false));
    cluster_settle(&cluster);
    for (int i = 0; i < 2; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        add_pod(&cluster, name, "'app':'web'", i ? SPREAD("ScheduleAnyway", "") : SPREAD("DoNotSchedule", ""));
        assert_non_null(pod(&cluster, name)->spec.node_name); /* even; uneven but no must */
    }
    add_pod(&cluster, "y", "'app':'web'", SPREAD("DoNotSchedule", ""));
    assert_null(pod(&cluster, "y")->spec.node_name);
    cluster_deinit(&cluster);
}

UNIT_TEST(siblings_keep_away_from_each_other) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    add_node(&cluster, "n1", "a", "8");
    add_node(&cluster, "n2", "a", "8");
    cluster_add(&cluster, &kube_kind_replica_set,
                "{'metadata':{'name':'web','namespace':'d'},'spec':{'replicas':4,'selector':{'matchLabels':{'app':'web'}},"
                "'template':{'metadata':{'labels':{'app':'web'}},'spec':{'containers':[{'name':'c','image':'i'}]}}}}");
    cluster_run_pods(&cluster);
    size_t on_first = 0;
    for (size_t i = 0; i < cluster.objects.count; i++)
        on_first += cluster.objects.items[i]->kind == &kube_kind_pod && text_is(cluster.objects.items[i]->pod->spec.node_name, "n1");
    assert_int_equal(on_first, 2);
    cluster_deinit(&cluster);
}

/* ---- preemption ---- */

#define CPU(cpu, priority) ",'resources':{'requests':{'cpu':'" cpu "'}}}],'priority':" priority

static void run_node(struct cluster *cluster) {
    cluster_run_pods(cluster);
    cluster_settle(cluster);
}

UNIT_TEST(pods_of_less_priority_have_to_go) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster.keep_events = true;
    add_node(&cluster, "n1", "a", "2");
    add_pod(&cluster, "low", "", CPU("1", "1"));
    add_pod(&cluster, "middle", "", CPU("1", "5"));
    run_node(&cluster);
    add_pod(&cluster, "high", "", CPU("1", "10"));
    assert_string_equal(pod(&cluster, "high")->status.nominated_node_name, "n1");
    assert_waits(&cluster, "high", "0/1 nodes are available: 1 Insufficient cpu.");
    assert_true(pod(&cluster, "low")->metadata.deletion_timestamp.set);
    assert_false(pod(&cluster, "middle")->metadata.deletion_timestamp.set);
    const struct kube_pod_condition *target = pod_condition(pod(&cluster, "low"), "DisruptionTarget");
    assert_string_equal(target->reason, "PreemptionByScheduler");
    assert_string_equal(target->message, "default-scheduler: preempting to accommodate a higher priority pod");
    add_pod(&cluster, "late", "", CPU("1", "3")); /* cannot take the room that is made */
    run_node(&cluster);
    assert_on(&cluster, "high", "n1");
    assert_null(pod(&cluster, "high")->status.nominated_node_name);
    assert_null(pod(&cluster, "late")->spec.node_name);
    assert_null(cluster_get(&cluster, &kube_kind_pod, "d", "low"));
    bool said = false;
    for (size_t i = 0; i < cluster.objects.count; i++)
        said |= cluster.objects.items[i]->kind == &kube_kind_event && text_is(cluster.objects.items[i]->event->reason, "Preempted") &&
                text_is(cluster.objects.items[i]->event->involved_object.name, "low");
    assert_true(said);
    cluster_deinit(&cluster);
}

UNIT_TEST(nobody_goes_in_vain_or_for_equals) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    add_node(&cluster, "n1", "a", "2");
    add_pod(&cluster, "low", "", CPU("1", "1"));
    run_node(&cluster);
    add_pod(&cluster, "huge", "", CPU("3", "10"));
    assert_waits(&cluster, "huge", "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Insufficient cpu.");
    add_pod(&cluster, "equal", "", CPU("2", "1"));
    assert_waits(&cluster, "equal", "0/1 nodes are available: 1 Insufficient cpu." NO_VICTIMS);
    add_pod(&cluster, "polite", "", ",'resources':{'requests':{'cpu':'2'}}}],'priority':10,'preemptionPolicy':'Never'");
    assert_waits(&cluster, "polite", "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.");
    assert_false(pod(&cluster, "low")->metadata.deletion_timestamp.set);
    cluster_deinit(&cluster);
}

UNIT_TEST(disruption_budgets_are_spared_where_that_is_possible) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    add_node(&cluster, "n1", "a", "2");
    cluster_add(&cluster, &kube_kind_pod_disruption_budget,
                "{'metadata':{'name':'b','namespace':'d'},'spec':{'minAvailable':1,'selector':{'matchLabels':{'app':'db'}}}}");
    add_pod(&cluster, "covered", "'app':'db'", CPU("1", "1"));
    add_pod(&cluster, "free", "", CPU("1", "2"));
    run_node(&cluster);
    add_pod(&cluster, "high", "", CPU("1", "10"));
    assert_true(pod(&cluster, "free")->metadata.deletion_timestamp.set); /* though it matters more */
    assert_false(pod(&cluster, "covered")->metadata.deletion_timestamp.set);
    run_node(&cluster);
    add_pod(&cluster, "second", "", CPU("1", "10")); /* now there is no other way */
    assert_true(pod(&cluster, "covered")->metadata.deletion_timestamp.set);
    cluster_deinit(&cluster);
}

UNIT_TEST(the_node_where_least_is_lost_is_taken) {
    struct cluster cluster;
    start_three(&cluster);
    add_pod(&cluster, "a", "", CPU("2", "5") ",'nodeSelector':{'kubernetes.io/hostname':'n1'}");
    add_pod(&cluster, "b", "", CPU("4", "3") ",'nodeSelector':{'kubernetes.io/hostname':'n2'}");
    add_pod(&cluster, "c", "", CPU("2", "4") ",'nodeSelector':{'kubernetes.io/hostname':'n3'}");
    run_node(&cluster);
    add_pod(&cluster, "high", "", CPU("2", "10"));
    assert_string_equal(pod(&cluster, "high")->status.nominated_node_name, "n2");
    run_node(&cluster);
    assert_on(&cluster, "high", "n2");
    cluster_deinit(&cluster);
}

/* ---- at rest, and in masses ---- */

UNIT_TEST(only_what_could_help_wakes_it) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    add_node(&cluster, "n1", "a", "1");
    add_pod(&cluster, "runs", "", CPU("1", "0"));
    add_pod(&cluster, "waits", "", CPU("1", "0"));
    size_t reconciles = cluster.reconciles, actions = cluster.actions;
    cluster_set_pod(&cluster, cluster_get(&cluster, &kube_kind_pod, "d", "runs"), "Running", true); /* readiness gives no room */
    struct kube_object *node = cluster_edit(&cluster, &kube_kind_node, NULL, "n1");
    cluster_commit(&cluster, cluster_index(&cluster, &kube_kind_node, NULL, "n1"), node); /* a heartbeat */
    cluster_wait(&cluster, 86400);
    for (size_t i = 0; i < cluster.objects.count; i++)
        assert_true(cluster.objects.items[i]->kind != &kube_kind_event);
    assert_int_equal(cluster.actions, actions);
    assert_true(cluster.reconciles <= reconciles + 2 + 86400 / 300); /* other controllers looked; it said again why the pod waits */
    cluster_set_pod(&cluster, cluster_get(&cluster, &kube_kind_pod, "d", "runs"), "Succeeded", false);
    cluster_settle(&cluster);
    assert_on(&cluster, "waits", "n1");
    cluster_deinit(&cluster);
}

UNIT_TEST(a_thousand_pods_are_placed_in_one_go) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster.in_memory = true;
    for (int i = 0; i < 10; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%d", i);
        add_node(&cluster, name, i % 2 ? "a" : "b", "100");
    }
    for (int i = 0; i < 1000; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "{'metadata':{'name':'p%d','namespace':'d','labels':{'app':'web'}},'spec':{'containers':[{'name':'c','image':'i','resources':"
                 "{'requests':{'cpu':'500m'}}}],'topologySpreadConstraints':[{'maxSkew':5,'topologyKey':'kubernetes.io/hostname',"
                 "'whenUnsatisfiable':'DoNotSchedule','labelSelector':{'matchLabels':{'app':'web'}}}]}}",
                 i);
        cluster_add(&cluster, &kube_kind_pod, text);
    }
    cluster_settle(&cluster);
    for (size_t i = 0; i < cluster.objects.count; i++)
        if (cluster.objects.items[i]->kind == &kube_kind_pod)
            assert_non_null(cluster.objects.items[i]->pod->spec.node_name);
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(the_scheduler_explains_itself), UNIT(what_init_containers_and_overhead_need_counts), UNIT(node_affinity_knows_all_operators),
          UNIT(ports_of_the_host_are_used_once), UNIT(gated_pods_and_those_of_other_schedulers_are_left_alone), UNIT(pods_are_put_near_each_other),
          UNIT(pods_are_kept_apart), UNIT(namespaces_and_label_keys_of_terms_count), UNIT(preferences_decide_among_nodes_that_fit),
          UNIT(pods_are_spread_over_domains), UNIT(siblings_keep_away_from_each_other), UNIT(pods_of_less_priority_have_to_go),
          UNIT(nobody_goes_in_vain_or_for_equals), UNIT(disruption_budgets_are_spared_where_that_is_possible),
          UNIT(the_node_where_least_is_lost_is_taken), UNIT(only_what_could_help_wakes_it), UNIT(a_thousand_pods_are_placed_in_one_go))
