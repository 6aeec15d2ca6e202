/* Scenarios as data: sets, comparisons, merges and prunes on deployments, services and free-form objects. */
#include "kube/ownership.h"

#include "kube/testing_priv.h"

static struct arena *arena;

static int setup(void **state) {
    (void)state;
    arena = arena_new(TREE_BYTES_MAX);
    return arena ? 0 : -1;
}
static int teardown(void **state) {
    (void)state;
    arena_free(arena);
    return 0;
}

static const char *json_of(const struct tree *tree) {
    struct buffer out = BUFFER_INIT(MIB);
    assert_int_equal(json_format(&out, tree), 0);
    for (size_t i = 0; i < out.len; i++)
        if (out.data[i] == '"')
            out.data[i] = '\'';
    const char *text = arena_dup(arena, buffer_slice(&out));
    buffer_deinit(&out);
    return text;
}

static int append(void *userdata, const char *path) {
    struct buffer *out = userdata;
    return buffer_printf(out, "%s%s", out->len ? " " : "", path);
}
/* The paths with blanks between. */
static const char *paths_of(const struct kube_fieldset *set) {
    struct buffer out = BUFFER_INIT(MIB);
    assert_int_equal(kube_fieldset_each(set, append, &out), 0);
    for (size_t i = 0; i < out.len; i++)
        if (out.data[i] == '"')
            out.data[i] = '\'';
    const char *text = arena_dup(arena, buffer_slice(&out));
    buffer_deinit(&out);
    return text;
}

static struct kube_shape_node shape_of(const struct kube_kind *kind) {
    struct kube_shape_node shape;
    kube_shape_of(kind, &shape);
    return shape;
}

static struct kube_fieldset set_of(const struct kube_kind *kind, const char *quoted) {
    struct kube_shape_node shape = shape_of(kind);
    struct kube_fieldset set = {.count = 0};
    assert_int_equal(kube_owned_paths(arena, &shape, tree_from(arena, quoted), &set), 0);
    return set;
}

static void a_configuration_names_its_leaves(void **state) {
    (void)state;
    const struct {
        const struct kube_kind *kind;
        const char *config, *paths;
    } cases[] = {
        {&kube_kind_deployment, "{'spec':{'replicas':1,'paused':null}}", ".spec.paused .spec.replicas"},
        {&kube_kind_deployment, "{'spec':{'selector':{'matchLabels':{'a':'b'}}}}", ".spec.selector"},
        {&kube_kind_deployment, "{'metadata':{'labels':{'a':'b'},'annotations':{},'finalizers':['x','y']}}",
         ".metadata.annotations .metadata.finalizers[='x'] .metadata.finalizers[='y'] .metadata.labels.a"},
        {&kube_kind_pod, "{'spec':{'containers':[{'name':'c','args':['x'],'env':[{'name':'A','value':'1'}]}],'volumes':[]}}",
         ".spec.containers[name='c'] .spec.containers[name='c'].args .spec.containers[name='c'].env[name='A'] "
         ".spec.containers[name='c'].env[name='A'].name .spec.containers[name='c'].env[name='A'].value .spec.containers[name='c'].name"},
        {&kube_kind_service, "{'spec':{'ports':[{'port':80},{'port':80,'protocol':'UDP'}]}}",
         ".spec.ports[port=80,protocol='TCP'] .spec.ports[port=80,protocol='TCP'].port .spec.ports[port=80,protocol='UDP'] "
         ".spec.ports[port=80,protocol='UDP'].port .spec.ports[port=80,protocol='UDP'].protocol"},
        {&kube_kind_controller_revision, "{'data':{'a':{'b':1,'c':[1,2]}}}", ".data.a .data.a.b .data.a.c"},
        {&kube_kind_config_map, "{'data':{'a':'','b':'x'}}", ".data.a .data.b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kube_fieldset set = set_of(cases[i].kind, cases[i].config);
        assert_string_equal(paths_of(&set), cases[i].paths);
    }
}

static void two_versions_differ_in_leaves_and_what_holds_them(void **state) {
    (void)state;
    const struct {
        const struct kube_kind *kind;
        const char *old, *new, *changed, *removed;
    } cases[] = {
        {&kube_kind_deployment, "{'spec':{'replicas':1,'paused':null}}", "{'spec':{'replicas':2}}", ".spec.replicas", ""},
        {&kube_kind_deployment, "{'spec':{}}", "{'spec':{'strategy':{'rollingUpdate':{'maxSurge':1}}}}",
         ".spec.strategy .spec.strategy.rollingUpdate .spec.strategy.rollingUpdate.maxSurge", ""},
        {&kube_kind_deployment, "{'metadata':{'labels':{'a':'1','b':'2'}}}", "{'metadata':{'labels':{'a':'1'}}}", "", ".metadata.labels.b"},
        {&kube_kind_deployment, "{'metadata':{'labels':{'a':'1'}}}", "{'metadata':{}}", "", ".metadata.labels .metadata.labels.a"},
        {&kube_kind_pod, "{'spec':{'containers':[{'name':'a'},{'name':'b','image':'x'}]}}",
         "{'spec':{'containers':[{'name':'b','image':'y'},{'name':'a'}]}}", ".spec.containers[name='b'].image", ""},
        {&kube_kind_pod, "{'spec':{'containers':[{'name':'a','resources':{}}]}}", "{'spec':{'containers':[]}}", "",
         ".spec.containers[name='a'] .spec.containers[name='a'].name .spec.containers[name='a'].resources"},
        {&kube_kind_pod, "{'spec':{'containers':[{'name':'a','args':['1']}]}}", "{'spec':{'containers':[{'name':'a','args':['1','2']}]}}",
         ".spec.containers[name='a'].args", ""},
        {&kube_kind_pod, "{'metadata':{'finalizers':['a','a','b']}}", "{'metadata':{'finalizers':['a','b','c']}}",
         ".metadata.finalizers[='a'] .metadata.finalizers[='c']", ""},
        {&kube_kind_pod, "{'metadata':{'finalizers':['a','a']}}", "{'metadata':{'finalizers':['b']}}", ".metadata.finalizers[='b']",
         ".metadata.finalizers[='a']"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kube_shape_node shape = shape_of(cases[i].kind);
        struct kube_fieldset changed = {.count = 0}, removed = {.count = 0};
        assert_int_equal(kube_owned_changes(arena, &shape, tree_from(arena, cases[i].old), tree_from(arena, cases[i].new), &changed, &removed), 0);
        assert_string_equal(paths_of(&changed), cases[i].changed);
        assert_string_equal(paths_of(&removed), cases[i].removed);
    }
}

static void a_configuration_wins_and_the_rest_stays(void **state) {
    (void)state;
    const struct {
        const struct kube_kind *kind;
        const char *object, *config, *merged;
    } cases[] = {
        {&kube_kind_deployment, "{'spec':{'replicas':1,'paused':true}}", "{'spec':{'replicas':2}}", "{'spec':{'replicas':2,'paused':true}}"},
        {&kube_kind_deployment, "{'spec':{'selector':{'matchLabels':{'a':'1'}}}}", "{'spec':{'selector':{'matchLabels':{'b':'1'}}}}",
         "{'spec':{'selector':{'matchLabels':{'b':'1'}}}}"},
        {&kube_kind_pod, "{'metadata':{'finalizers':['a','b','c']}}", "{'metadata':{'finalizers':['c','x','a']}}",
         "{'metadata':{'finalizers':['b','c','x','a']}}"},
        {&kube_kind_pod, "{'metadata':{'finalizers':['a','b']}}", "{'metadata':{'finalizers':['n','a']}}",
         "{'metadata':{'finalizers':['n','a','b']}}"},
        {&kube_kind_pod, "{'spec':{'containers':[{'name':'inject','image':'i'},{'name':'a','image':'x','tty':true}]}}",
         "{'spec':{'containers':[{'name':'a','image':'y'},{'name':'b'}]}}",
         "{'spec':{'containers':[{'name':'inject','image':'i'},{'name':'a','image':'y','tty':true},{'name':'b'}]}}"},
        {&kube_kind_controller_revision, "{'data':{'a':{'x':1},'l':[1,2]}}", "{'data':{'a':{'y':2},'l':[3]}}",
         "{'data':{'a':{'x':1,'y':2},'l':[3]}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kube_shape_node shape = shape_of(cases[i].kind);
        struct tree *merged = kube_owned_merge(arena, &shape, tree_from(arena, cases[i].object), tree_from(arena, cases[i].config));
        assert_string_equal(json_of(merged), cases[i].merged);
    }
}

static void what_nobody_names_any_more_goes(void **state) {
    (void)state;
    const struct {
        const struct kube_kind *kind;
        const char *object, *before, *kept, *pruned;
    } cases[] = {
        {&kube_kind_config_map, "{'data':{'a':'1','b':'2','c':'3'}}", "{'data':{'a':'1','b':'2'}}", "{'data':{'b':'2'}}",
         "{'data':{'b':'2','c':'3'}}"},
        {&kube_kind_config_map, "{'data':{'a':'1'}}", "{'data':{'a':'1'}}", "{}", "{}"},
        /* a defaulted field in a struct that was named goes with it; in one that another names, it stays */
        {&kube_kind_deployment, "{'spec':{'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxSurge':1}}}}", "{'spec':{'strategy':{'type':'x'}}}",
         "{'spec':{'replicas':1}}", "{}"},
        {&kube_kind_deployment, "{'spec':{'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxSurge':1}}}}", "{'spec':{'strategy':{'type':'x'}}}",
         "{'spec':{'strategy':{'rollingUpdate':{'maxSurge':1}}}}", "{'spec':{'strategy':{'rollingUpdate':{'maxSurge':1}}}}"},
        {&kube_kind_pod, "{'spec':{'containers':[{'name':'a','image':'x','tty':true},{'name':'b'}]}}",
         "{'spec':{'containers':[{'name':'a','image':'x'},{'name':'b'}]}}", "{'spec':{'containers':[{'name':'b'}]}}",
         "{'spec':{'containers':[{'name':'b'}]}}"},
        {&kube_kind_pod, "{'spec':{'containers':[{'name':'a','image':'x','tty':true}]}}", "{'spec':{'containers':[{'name':'a','image':'x'}]}}",
         "{'spec':{'containers':[{'name':'a'}]}}", "{'spec':{'containers':[{'name':'a','tty':true}]}}"},
        {&kube_kind_pod, "{'metadata':{'finalizers':['a','b']}}", "{'metadata':{'finalizers':['a']}}", "{'metadata':{'finalizers':['b']}}",
         "{'metadata':{'finalizers':['b']}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kube_shape_node shape = shape_of(cases[i].kind);
        struct kube_fieldset before = set_of(cases[i].kind, cases[i].before), kept = set_of(cases[i].kind, cases[i].kept);
        struct tree *pruned = kube_owned_prune(arena, &shape, tree_from(arena, cases[i].object), &before, &kept);
        assert_string_equal(json_of(pruned), cases[i].pruned);
    }
}

static void faults_are_told_in_upstreams_words(void **state) {
    (void)state;
    const struct {
        const struct kube_kind *kind;
        const char *config, *message;
    } cases[] = {
        {&kube_kind_deployment, "{'kind':'Deployment','spec':{'replica':1}}", ".spec.replica: field not declared in schema"},
        {&kube_kind_deployment, "{'spec':{'replica':1,'foo':{}}}",
         "errors:\n  .spec.replica: field not declared in schema\n  .spec.foo: field not declared in schema"},
        {&kube_kind_pod, "{'spec':{'containers':[{'name':'a','imagee':'x'}]}}", ".spec.containers[name=\"a\"].imagee: field not declared in schema"},
        {&kube_kind_pod, "{'spec':{'containers':[{'name':'a'},{'name':'a'}]}}", ".spec.containers: duplicate entries for key [name=\"a\"]"},
        {&kube_kind_pod, "{'spec':{'containers':[{'image':'a'}]}}",
         ".spec.containers: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default "
         "values for any key fields)"},
        {&kube_kind_pod, "{'spec':{'containers':{}}}", ".spec.containers: expected list, got {}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kube_shape_node shape = shape_of(cases[i].kind);
        struct diag diag = DIAG_INIT;
        assert_int_equal(kube_owned_check(arena, &shape, tree_from(arena, cases[i].config), &diag), -EINVAL);
        assert_string_equal(diag.message, cases[i].message);
    }
}

static void sets_survive_their_text(void **state) {
    (void)state;
    const char *text =
        "{\"f:metadata\":{\"f:labels\":{\".\":{},\"f:a\":{}}},\"f:spec\":{\"f:ports\":{\"k:{\\\"port\\\":80}\":{\".\":{},\"f:port\":{}}}}}";
    struct kube_fieldset set, other;
    struct buffer out = BUFFER_INIT(MIB);
    assert_int_equal(kube_fieldset_parse(arena, slice_of(text), &set), 0);
    assert_int_equal(kube_fieldset_format(&set, &out), 0);
    assert_string_equal(out.data, text);
    buffer_deinit(&out);
    assert_int_equal(kube_fieldset_parse(arena, SLICE("{\"f:metadata\":{\"f:labels\":{\".\":{}}},\"f:spec\":{}}"), &other), 0);
    kube_fieldset_subtract(&set, &other);
    assert_string_equal(paths_of(&set), ".metadata.labels.a .spec.ports[port=80] .spec.ports[port=80].port");
    assert_int_equal(kube_fieldset_parse(arena, SLICE("{\"f:spec\":{}}"), &other), 0);
    kube_fieldset_subtract_below(&set, &other);
    assert_string_equal(paths_of(&set), ".metadata.labels.a");
    assert_int_equal(kube_fieldset_parse(arena, SLICE("{\"x:a\":{}}"), &other), -EINVAL);
    assert_int_equal(kube_fieldset_parse(arena, SLICE("{\"f:a\":1}"), &other), -EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_configuration_names_its_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(two_versions_differ_in_leaves_and_what_holds_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_configuration_wins_and_the_rest_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(what_nobody_names_any_more_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(faults_are_told_in_upstreams_words, setup, teardown),
        cmocka_unit_test_setup_teardown(sets_survive_their_text, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
