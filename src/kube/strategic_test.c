#include "kube/testing_priv.h"

static void merged(const char *target, const char *patch, const char *expected) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct tree *result = NULL, *original = tree_from(arena, target), *untouched = tree_copy(arena, original);
    struct diag diag = DIAG_INIT;
    struct buffer got = BUFFER_INIT(API_BODY_BYTES_MAX), want = BUFFER_INIT(API_BODY_BYTES_MAX);
    if (kube_strategic_merge(&kube_kind_deployment, arena, original, tree_from(arena, patch), &result, &diag) != 0)
        fail_msg("%s", diag.message);
    json_format(&got, result);
    json_format(&want, tree_from(arena, expected));
    assert_string_equal(got.data, want.data);
    assert_true(tree_equal(original, untouched));
    buffer_deinit(&got);
    buffer_deinit(&want);
    arena_free(arena);
}

static void refused(const char *target, const char *patch, const char *message) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct tree *result = NULL;
    struct diag diag = DIAG_INIT;
    assert_int_equal(kube_strategic_merge(&kube_kind_deployment, arena, tree_from(arena, target), tree_from(arena, patch), &result, &diag), -EINVAL);
    assert_string_equal(diag.message, message);
    arena_free(arena);
}

#define IN_POD(x) "{'spec':{'template':{'spec':{" x "}}}}"

UNIT_TEST(maps_merge_and_nulls_delete) {
    merged("{'metadata':{'labels':{'a':'1','b':'2'}},'spec':{'replicas':1}}",
           "{'metadata':{'labels':{'a':null,'c':'3','d':null}},'spec':{'paused':true}}",
           "{'metadata':{'labels':{'b':'2','c':'3'}},'spec':{'replicas':1,'paused':true}}");
}

UNIT_TEST(lists_merge_by_key) {
    merged(IN_POD("'containers':[{'name':'a','image':'x','env':[{'name':'E','value':'1'},{'name':'F','value':'2'}]},{'name':'b'}]"),
           IN_POD("'containers':[{'name':'a','image':'y','env':[{'name':'F','value':'3'}]},{'name':'c'}]"),
           IN_POD("'containers':[{'name':'a','image':'y','env':[{'name':'E','value':'1'},{'name':'F','value':'3'}]},{'name':'c'},{'name':'b'}]"));
}

UNIT_TEST(other_lists_are_replaced) {
    merged(IN_POD("'containers':[{'name':'a','args':['1','2']}]"), IN_POD("'containers':[{'name':'a','args':['3']}]"),
           IN_POD("'containers':[{'name':'a','args':['3']}]"));
}

UNIT_TEST(elements_are_deleted_and_replaced) {
    merged(IN_POD("'containers':[{'name':'a'},{'name':'b'}]"), IN_POD("'containers':[{'name':'a','$patch':'delete'}]"),
           IN_POD("'containers':[{'name':'b'}]"));
    merged(IN_POD("'containers':[{'name':'a'},{'name':'b'}]"), IN_POD("'containers':[{'name':'z'},{'$patch':'replace'}]"),
           IN_POD("'containers':[{'name':'z'}]"));
    merged("{'spec':{'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxSurge':1}}}}",
           "{'spec':{'strategy':{'$patch':'replace','type':'Recreate'}}}", "{'spec':{'strategy':{'type':'Recreate'}}}");
}

UNIT_TEST(retain_keys) {
    merged("{'spec':{'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxSurge':1}}}}",
           "{'spec':{'strategy':{'$retainKeys':['type'],'type':'Recreate'}}}", "{'spec':{'strategy':{'type':'Recreate'}}}");
    merged(IN_POD("'volumes':[{'name':'v','emptyDir':{}}]"),
           IN_POD("'volumes':[{'$retainKeys':['hostPath','name'],'name':'v','hostPath':{'path':'/x'}}]"),
           IN_POD("'volumes':[{'name':'v','hostPath':{'path':'/x'}}]"));
}

UNIT_TEST(element_order) {
    merged(IN_POD("'containers':[{'name':'server'},{'name':'a'},{'name':'b'}]"),
           IN_POD("'$setElementOrder/containers':[{'name':'b'},{'name':'a'}],'containers':[{'name':'a','image':'x'}]"),
           IN_POD("'containers':[{'name':'server'},{'name':'b'},{'name':'a','image':'x'}]"));
    merged(IN_POD("'containers':[{'name':'a'}]"),
           IN_POD("'$setElementOrder/containers':[{'name':'n'},{'name':'a'}],'containers':[{'name':'n','image':'x'}]"),
           IN_POD("'containers':[{'name':'n','image':'x'},{'name':'a'}]"));
    merged("{'metadata':{'finalizers':['a','b','c']}}",
           "{'metadata':{'$setElementOrder/finalizers':['c','a'],'$deleteFromPrimitiveList/finalizers':['b']}}",
           "{'metadata':{'finalizers':['c','a']}}");
}

UNIT_TEST(scalars_are_sets) {
    merged("{'metadata':{'finalizers':['a','b']}}", "{'metadata':{'finalizers':['c','a']}}", "{'metadata':{'finalizers':['c','a','b']}}");
}

UNIT_TEST(new_values_lose_directives) {
    merged("{'spec':{}}", "{'spec':{'template':{'spec':{'$setElementOrder/containers':[{'name':'a'}],'containers':[{'name':'a','x':null}]}}}}",
           "{'spec':{'template':{'spec':{'containers':[{'name':'a'}]}}}}");
}

UNIT_TEST(errors) {
    refused(IN_POD("'containers':[{'name':'a'}]"), IN_POD("'containers':[{'image':'x'}]"),
            "an element of the list does not contain declared merge key: name");
    refused("{'spec':{}}", "{'spec':{'$patch':'explode'}}", "unrecognized patch directive: \"explode\"");
    refused("{}", "[]", "a patch must be an object, found array");
}

UNIT_MAIN(UNIT(maps_merge_and_nulls_delete), UNIT(lists_merge_by_key), UNIT(other_lists_are_replaced), UNIT(elements_are_deleted_and_replaced),
          UNIT(retain_keys), UNIT(element_order), UNIT(scalars_are_sets), UNIT(new_values_lose_directives), UNIT(errors))
