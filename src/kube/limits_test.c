/* Memory runs out at every point in turn: with arenas that grow from nothing until the work succeeds, each attempt before must fail with -ENOMEM and
 * nothing else. */
#include "kube/testing_priv.h"

#define STEP_BYTES 48

static const char pod_spec[] =
    "{'volumes':[{'name':'v','configMap':{'name':'c','items':[{'key':'k','path':'p'}]}}],'containers':[{'name':'c','image':'i','command':['a','b'],"
    "'env':[{'name':'E','value':'v'},{'name':'F','valueFrom':{'fieldRef':{'fieldPath':'metadata.name'}}}],'resources':{'limits':{'cpu':'1'}},"
    "'livenessProbe':{'httpGet':{'port':80}}}],'nodeSelector':{'a':'b'},'terminationGracePeriodSeconds':5}";

UNIT_TEST(decoding_and_copying) {
    struct arena *source = arena_new(MIB);
    struct tree *tree = tree_from(source, pod_spec);
    struct kube_pod_spec want = {.host_network = false};
    assert_int_equal(kube_decode_part(&kube_pod_spec_type, tree, source, &want, NULL), 0);
    int error = -ENOMEM, copied = -ENOMEM;
    for (size_t bytes = 0; copied != 0; bytes += STEP_BYTES) {
        struct arena *small = arena_new(bytes);
        struct kube_pod_spec spec = {.host_network = false}, copy = {.host_network = false};
        error = kube_decode_part(&kube_pod_spec_type, tree, small, &spec, NULL);
        assert_true(error == 0 || error == -ENOMEM);
        copied = kube_copy(&kube_pod_spec_type, small, &want, &copy);
        assert_true(copied == 0 || copied == -ENOMEM);
        if (copied == 0)
            assert_true(kube_equal(&kube_pod_spec_type, &want, &copy));
        arena_free(small);
        assert_true(bytes < 64 * KIB);
    }
    arena_free(source);
}

UNIT_TEST(patching) {
    struct arena *source = arena_new(MIB);
    struct tree *target = tree_from(source, "{'spec':{'containers':[{'name':'a','args':['1']},{'name':'b'}]}}"), *result = NULL;
    struct tree *patch = tree_from(
        source, "{'spec':{'$setElementOrder/containers':[{'name':'b'},{'name':'a'}],'containers':[{'name':'a','image':'x'},{'name':'c'}]}}");
    int error = -ENOMEM;
    for (size_t bytes = 0; error != 0; bytes += STEP_BYTES) {
        struct arena *small = arena_new(bytes);
        error = kube_strategic_merge(&kube_kind_pod, small, target, patch, &result, NULL);
        assert_true(error == 0 || error == -ENOMEM);
        arena_free(small);
        assert_true(bytes < 64 * KIB);
    }
    arena_free(source);
}

UNIT_TEST(trees_tables_and_selectors) {
    struct kube_object *object = object_from(&kube_kind_pod, "{'metadata':{'name':'p','labels':{'a':'b'}},'spec':{'containers':[{'name':'c'}]}}");
    bool tree = false, row = false, selector = false;
    for (size_t bytes = 0; !tree || !row || !selector; bytes += STEP_BYTES) {
        struct arena *small = arena_new(bytes);
        struct kube_selector *parsed = NULL;
        tree = kube_encode_tree(object, small) != NULL;
        arena_reset(small);
        row = kube_table_row(object, small, 0) != NULL;
        arena_reset(small);
        int error = kube_selector_parse(small, SLICE("a=b,c in (d,e),!f"), &parsed, NULL);
        assert_true(error == 0 || error == -ENOMEM);
        selector = error == 0;
        arena_free(small);
        assert_true(bytes < 64 * KIB);
    }
    kube_object_unref(object);
}

UNIT_MAIN(UNIT(decoding_and_copying), UNIT(patching), UNIT(trees_tables_and_selectors))
