#include <stdio.h>

#include "kube/custom_testing_priv.h"

#include "faults.h"

#define NOW (INT64_C(1700000600) * 1000000000)

static const char POD[] =
    "{'metadata':{'name':'p','namespace':'n','labels':{'app':'x','tier':'y'},'annotations':{'a':'b'},'ownerReferences':[{'apiVersion':'apps/"
    "v1','kind':"
    "'ReplicaSet','name':'r','uid':'u','controller':true}]},'spec':{'containers':[{'name':'c','image':'i:1','args':['a','b'],'ports':[{'"
    "containerPort':80}],"
    "'env':[{'name':'E','valueFrom':{'fieldRef':{'fieldPath':'status.podIP'}}}],'resources':{'limits':{'cpu':'500m','memory':'64Mi'}},'volumeMounts':"
    "[{"
    "'name':'v','mountPath':'/"
    "v'}],'livenessProbe':{'httpGet':{'port':'web'}},'securityContext':{'capabilities':{'drop':['ALL']}}}],'volumes':[{'name':'v',"
    "'emptyDir':{}}]},'status':{'phase':'Running','conditions':[{'type':'Ready','status':'True'}],'podIP':'10.0.0.1'}}";
static const char DEPLOYMENT[] = "{'metadata':{'name':'web','namespace':'n'},'spec':{'replicas':3,'selector':{'matchLabels':{'app':'web'}},'strategy'"
                                 ":{'rollingUpdate':{'maxSurge':'50%'}},"
                                 "'template':{'metadata':{'labels':{'app':'web'}},'spec':{'containers':[{'name':'c','image':'i'}]}}}}";
static const char SERVICE[] = "{'metadata':{'name':'s','namespace':'n'},'spec':{'selector':{'app':'x'},'ports':[{'port':80,'targetPort':'web'}]}}";
static const char SECRET[] = "{'metadata':{'name':'s','namespace':'n'},'data':{'a':'YWJj'},'stringData':{'b':'x'}}";

struct sample {
    const struct kube_kind *kind;
    const char *quoted;
};
static struct sample samples[] = {
    {&kube_kind_pod, POD}, {&kube_kind_deployment, DEPLOYMENT}, {&kube_kind_service, SERVICE}, {&kube_kind_secret, SECRET}};

static struct tree *tree_surely(struct arena *arena, const char *quoted) {
    faults_pause();
    struct tree *tree = tree_from(arena, quoted);
    faults_resume();
    return tree;
}

/* From a tree to an object with defaults, checked, copied, and out again as JSON, tree and table row. */
static int life(void *context) {
    const struct sample *sample = context;
    struct diag diag = DIAG_INIT;
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(API_BODY_BYTES_MAX), again = BUFFER_INIT(API_BODY_BYTES_MAX);
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL, *copy = NULL, *reread = NULL;
    if (!arena)
        return -ENOMEM;
    int r = kube_decode_tree(sample->kind, tree_surely(arena, sample->quoted), KUBE_STRICT, &object, &diag);
    if (r < 0 || (r = kube_default(object)) < 0 || (r = kube_validate(object, NULL, &diag)) < 0)
        return r;
    copy = kube_object_copy(object);
    if (!copy)
        return -ENOMEM;
    assert_true(kube_equal(object->kind->type, object->data, copy->data));
    if ((r = kube_validate(copy, object, &diag)) < 0 || (r = kube_encode_json(copy, &json)) < 0)
        return r;
    if ((r = kube_decode_json(NULL, buffer_slice(&json), KUBE_STRICT, &reread, &diag)) < 0 || (r = kube_encode_json(reread, &again)) < 0)
        return r;
    assert_string_equal(json.data, again.data);
    struct tree *tree = kube_encode_tree(object, arena), *row = tree ? kube_table_row(object, arena, NOW) : NULL;
    if (!row)
        return -ENOMEM;
    assert_int_equal(tree_count(row), sample->kind->columns_count);
    assert_string_equal(tree_text_or(tree_path(tree, "metadata.name"), ""), object->metadata->name);
    return 0;
}

UNIT_TEST(objects) {
    for (size_t i = 0; i < ARRAY_LEN(samples); i++)
        TEST_FAULTS(life, &samples[i]);
}

/* An invalid object is refused, and no valid one: never called valid because a message found no memory. */
static int invalid(__attribute__((unused)) void *context) {
    struct diag diag = DIAG_INIT;
    faults_pause();
    CLEANUP(kube_object_unrefp)
    struct kube_object *object =
        object_from(&kube_kind_pod, "{'metadata':{'name':'A','labels':{'/':'b'}},'spec':{'containers':[{'name':'c'},{'name':'c','env':[{}]}]}}");
    faults_resume();
    int r = kube_validate(object, NULL, &diag);
    assert_true(r < 0);
    if (r == -EINVAL)
        assert_true(diag.message[0]);
    return r == -EINVAL ? 0 : r;
}

static int unknown_field(__attribute__((unused)) void *context) {
    struct diag diag = DIAG_INIT;
    struct kube_object *object = NULL;
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    if (!arena)
        return -ENOMEM;
    struct tree *tree = tree_surely(arena, "{'x':1,'spec':{'containers':[{},{'imagee':'a'}]}}");
    int r = kube_decode_tree(&kube_kind_pod, tree, KUBE_STRICT, &object, &diag);
    assert_true(r < 0);
    return r == -EINVAL ? 0 : r;
}

UNIT_TEST(refusals) {
    TEST_FAULTS(invalid, NULL);
    TEST_FAULTS(unknown_field, NULL);
}

static int strategic(__attribute__((unused)) void *context) {
    struct diag diag = DIAG_INIT;
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(MIB);
    struct tree *result = NULL;
    if (!arena)
        return -ENOMEM;
    struct tree *target =
        tree_surely(arena, "{'spec':{'template':{'spec':{'containers':[{'name':'a','env':[{'name':'E','value':'1'}]},{'name':'b'}]}}}}");
    struct tree *patch =
        tree_surely(arena, "{'spec':{'replicas':2,'template':{'spec':{'$setElementOrder/containers':[{'name':'c'},{'name':'a'}],"
                           "'containers':[{'name':'a','env':[{'name':'F','value':'2'}]},{'name':'c'},{'name':'b','$patch':'delete'}]}}}}");
    int r = kube_strategic_merge(&kube_kind_deployment, arena, target, patch, &result, &diag);
    if (r == 0)
        r = json_format(&json, result);
    static char expected[512];
    if (!faults_struck())
        snprintf(expected, sizeof expected, "%s", json.data);
    if (r == 0)
        assert_string_equal(json.data, expected);
    return r;
}

static int selectors(__attribute__((unused)) void *context) {
    struct diag diag = DIAG_INIT;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
    struct kube_selector *labels, *fields;
    faults_pause();
    object = object_from(&kube_kind_pod, POD);
    faults_resume();
    int r = arena ? kube_selector_parse(arena, SLICE("app=x,tier in (y,z),!gone,a!=b"), &labels, &diag) : -ENOMEM;
    if (r < 0)
        return r;
    assert_true(kube_selector_match(labels, &object->metadata->labels));
    r = kube_field_selector_parse(&kube_kind_pod, arena, SLICE("metadata.name=p,status.phase!=Failed"), &fields, &diag);
    if (r < 0)
        return r;
    assert_true(kube_field_selector_match(fields, object));
    struct kube_string_map map = {0};
    if (kube_map_set(&map, arena, "b", "1") < 0 || kube_map_set(&map, arena, "a", "2") < 0 || kube_map_set(&map, arena, "b", "3") < 0)
        return -ENOMEM;
    assert_string_equal(kube_map_find(&map, "b"), "3");
    return 0;
}

static int documents(__attribute__((unused)) void *context) {
    CLEANUP(buffer_deinit) struct buffer openapi = BUFFER_INIT(API_BODY_BYTES_MAX);
    return kube_openapi_v3(SLICE("apps"), SLICE("v1"), &openapi);
}

UNIT_TEST(merges_and_selectors) {
    TEST_FAULTS(strategic, NULL);
    TEST_FAULTS(selectors, NULL);
    TEST_FAULTS(documents, NULL);
}

/* A definition is compiled, installed and lived by, or the table of kinds is as it was. */
#define WIDGET_SCHEMA                                                                                                                                \
    "{'type':'object','properties':{'spec':{'type':'object','required':['a'],'properties':{'a':{'type':'string','pattern':'^x+$'},'l':{'type':'"     \
    "array',"                                                                                                                                        \
    "'x-kubernetes-list-type':'set','items':{'type':'string'}},'d':{'type':'object','default':{'k':[1]},'x-kubernetes-preserve-unknown-fields':"     \
    "true}}}}}"
#define WIDGET_MORE                                                                                                                                  \
    ",'additionalPrinterColumns':[{'name':'A','type':'string','jsonPath':'.spec.a'},{'name':'N','type':'string','jsonPath':'.metadata.name'}],"      \
    "'selectableFields':[{'jsonPath':'.spec.a'}],'subresources':{'status':{},'scale':{'specReplicasPath':'.spec.n','statusReplicasPath':'.status.n'" \
    "}}"

static int live_by_definition(struct arena *arena, const struct tree *given, const struct tree *wrong) {
    struct diag diag = DIAG_INIT;
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(API_BODY_BYTES_MAX);
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL, *copy = NULL, *bad = NULL;
    int r = kube_decode_tree(widget("v1"), given, KUBE_STRICT, &object, &diag);
    if (r < 0 || (r = kube_default(object)) < 0)
        return r;
    if ((r = kube_validate(object, NULL, &diag)) < 0)
        return r;
    if (!(copy = kube_object_copy(object)) || (r = kube_encode_json(copy, &json)) < 0)
        return copy ? r : -ENOMEM;
    assert_non_null(strstr(json.data, "\"d\":{\"k\":[1]}"));
    struct tree *row = kube_table_row(object, arena, NOW);
    if (!row)
        return -ENOMEM;
    assert_int_equal(tree_count(row), 3);
    if ((r = kube_decode_tree(widget("v1"), wrong, KUBE_LENIENT, &bad, &diag)) < 0)
        return r;
    r = kube_validate(bad, NULL, &diag);
    assert_true(r == -EINVAL || r == -ENOMEM);
    return r == -EINVAL ? 0 : r;
}

static int definition(__attribute__((unused)) void *context) {
    struct diag diag = DIAG_INIT;
    struct kube_custom_set *set = NULL;
    faults_pause();
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct tree *tree = tree_from(arena, widgets_from(arena, WIDGET_SCHEMA, WIDGET_MORE));
    struct tree *given = tree_from(arena, "{'metadata':{'name':'w','namespace':'n'},'spec':{'a':'xx','l':['p','q']}}");
    struct tree *wrong = tree_from(arena, "{'metadata':{'name':'w','namespace':'n'},'spec':{'a':'xx','l':['p','p']}}");
    size_t before = kube_kinds_count();
    faults_resume();
    int r = kube_custom_compile(tree, &set, &diag);
    if (r == 0 && (r = kube_custom_install(set)) < 0)
        kube_custom_set_free(set);
    if (r == 0)
        r = live_by_definition(arena, given, wrong);
    widgets_remove();
    assert_int_equal(kube_kinds_count(), before);
    return r;
}

UNIT_TEST(definitions) {
    TEST_FAULTS(definition, NULL);
}

UNIT_MAIN(UNIT(objects), UNIT(refusals), UNIT(merges_and_selectors), UNIT(definitions))
