#include "kube/testing_priv.h"

#define NOW (INT64_C(1700000600) * 1000000000)
#define BORN "'creationTimestamp':'2023-11-14T22:13:20Z'" /* ten minutes before NOW */

static void row(const struct kube_kind *kind, const char *json, const char *expected) {
    struct arena *arena = arena_new(MIB);
    struct kube_object *object = object_from(kind, json);
    struct buffer got = BUFFER_INIT(64 * KIB), want = BUFFER_INIT(64 * KIB);
    struct tree *cells = kube_table_row(object, arena, NOW);
    assert_int_equal(tree_count(cells), kind->columns_count);
    json_format(&got, cells);
    json_format(&want, tree_from(arena, expected));
    assert_string_equal(got.data, want.data);
    buffer_deinit(&got);
    buffer_deinit(&want);
    kube_object_unref(object);
    arena_free(arena);
}

#define POD(status)                                                                                                                                  \
    "{'metadata':{'name':'p'," BORN "},'spec':{'containers':[{'name':'a'},{'name':'b'}],'initContainers':[{'name':'i'}]},'status':{" status "}}"
#define ROW(ready, status, restarts) "['p','" ready "','" status "','" restarts "','10m','<none>','<none>','<none>','<none>']"
#define RUNNING(name) "{'name':'" name "','ready':true,'restartCount':0,'image':'','imageID':'','state':{'running':{}}}"

UNIT_TEST(pods) {
    row(&kube_kind_pod, POD("'phase':'Pending'"), ROW("0/2", "Pending", "0"));
    row(&kube_kind_pod, POD("'phase':'Running','containerStatuses':[" RUNNING("a") "," RUNNING("b") "]"), ROW("2/2", "Running", "0"));
    row(&kube_kind_pod, POD("'phase':'Pending','initContainerStatuses':[{'name':'i','state':{'running':{}}}]"), ROW("0/2", "Init:0/1", "0"));
    row(&kube_kind_pod,
        POD("'phase':'Pending','initContainerStatuses':[{'name':'i','restartCount':2,'state':{'terminated':{'exitCode':1,'reason':'Error'}}}]"),
        ROW("0/2", "Init:Error", "2"));
    row(&kube_kind_pod,
        POD("'phase':'Running','containerStatuses':[" RUNNING("a") ",{'name':'b','restartCount':3,'state':{'waiting':{'reason':'CrashLoopBackOff'}},"
                                                                   "'lastState':{'terminated':{'exitCode':1,'finishedAt':'2023-11-14T22:22:20Z'}}}]"),
        ROW("1/2", "CrashLoopBackOff", "3 (60s ago)"));
    row(&kube_kind_pod, POD("'phase':'Succeeded','containerStatuses':[{'name':'a','state':{'terminated':{'exitCode':0,'reason':'Completed'}}}]"),
        ROW("0/2", "Completed", "0"));
    row(&kube_kind_pod,
        POD("'phase':'Running','conditions':[{'type':'Ready','status':'True'}],'containerStatuses':[{'name':'a','state':{'terminated':{'exitCode':0,'"
            "reason':"
            "'Completed'}}}," RUNNING("b") "]"),
        ROW("1/2", "Running", "0"));
    row(&kube_kind_pod, POD("'phase':'Failed','containerStatuses':[{'name':'a','state':{'terminated':{'exitCode':3}}}]"),
        ROW("0/2", "ExitCode:3", "0"));
    row(&kube_kind_pod, POD("'phase':'Failed','reason':'Evicted'"), ROW("0/2", "Evicted", "0"));
    row(&kube_kind_pod,
        "{'metadata':{'name':'p'," BORN ",'deletionTimestamp':'2023-11-14T22:13:30Z'},'spec':{'containers':[{'name':'a'}],'nodeName':'n'},'status':"
        "{'phase':'Running','podIP':'10.0.0.3'}}",
        "['p','0/1','Terminating','0','10m','10.0.0.3','n','<none>','<none>']");
}

UNIT_TEST(workloads) {
    row(&kube_kind_deployment,
        "{'metadata':{'name':'d'," BORN
        "},'spec':{'replicas':3,'selector':{'matchLabels':{'a':'b'}},'template':{'spec':{'containers':[{'name':'x','image':'i:1'},"
        "{'name':'y','image':'j'}]}}},'status':{'readyReplicas':2,'updatedReplicas':1,'availableReplicas':2}}",
        "['d','2/3',1,2,'10m','x,y','i:1,j','a=b']");
    row(&kube_kind_replica_set, "{'metadata':{'name':'r'," BORN "},'spec':{'replicas':3}}", "['r',3,0,0,'10m','','','<none>']");
    row(&kube_kind_job,
        "{'metadata':{'name':'j'," BORN "},'spec':{'completions':2},'status':{'succeeded':2,'startTime':'2023-11-14T22:13:20Z','completionTime':"
        "'2023-11-14T22:13:35Z','conditions':[{'type':'Complete','status':'True'}]}}",
        "['j','Complete','2/2','15s','10m','','','<none>']");
}

UNIT_TEST(networks_and_data) {
    row(&kube_kind_service,
        "{'metadata':{'name':'s'," BORN
        "},'spec':{'type':'NodePort','clusterIP':'10.0.0.1','ports':[{'port':80,'protocol':'TCP','nodePort':30080},{'port':53,"
        "'protocol':'UDP'}],'selector':{'a':'b','c':'d'}}}",
        "['s','NodePort','10.0.0.1','<none>','80:30080/TCP,53/UDP','10m','a=b,c=d']");
    row(&kube_kind_ingress, "{'metadata':{'name':'i'," BORN "},'spec':{'tls':[{}],'rules':[{'host':'a.org'},{'host':'b.org'}]}}",
        "['i','<none>','a.org,b.org','','80, 443','10m']");
    row(&kube_kind_endpoint_slice,
        "{'metadata':{'name':'e'," BORN "},'addressType':'IPv4','ports':[{'port':80}],'endpoints':[{'addresses':['1.1.1.1']},"
        "{'addresses':['1.1.1.2','1.1.1.3','1.1.1.4']}]}",
        "['e','IPv4','80','1.1.1.1,1.1.1.2,1.1.1.3 + 1 more...','10m']");
    row(&kube_kind_config_map, "{'metadata':{'name':'c'," BORN "},'data':{'a':'b'},'binaryData':{'c':''}}", "['c',2,'10m']");
    row(&kube_kind_node,
        "{'metadata':{'name':'n','labels':{'node-role.kubernetes.io/control-plane':''}," BORN
        "},'spec':{'unschedulable':true},'status':{'conditions':[{'type':"
        "'Ready','status':'True'}],'addresses':[{'type':'InternalIP','address':'10.1.1.1'}],'nodeInfo':{'kubeletVersion':'v1.32.0'}}}",
        "['n','Ready,SchedulingDisabled','control-plane','10m','v1.32.0','10.1.1.1','<none>','<unknown>','<unknown>','<unknown>']");
    row(&kube_kind_event,
        "{'metadata':{'name':'e'},'involvedObject':{'kind':'Pod','name':'p'},'type':'Normal','reason':'Started','message':' up "
        "','source':{'component':'node'},"
        "'firstTimestamp':'2023-11-14T22:13:20Z','lastTimestamp':'2023-11-14T22:23:15Z','count':4}",
        "['5s','Normal','Started','pod/p','','node','up','10m',4,'e']");
}

UNIT_TEST(openapi_lists_kinds) {
    struct arena *arena = arena_new(MIB);
    struct buffer out = BUFFER_INIT(MIB);
    struct tree *tree = NULL;
    assert_int_equal(kube_openapi_v3(SLICE("apps"), SLICE("v1"), &out), 0);
    assert_int_equal(json_parse(arena, buffer_slice(&out), NULL, &tree, NULL), 0);
    struct tree *path = tree_find(tree_find(tree, "paths"), "/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
    assert_string_equal(tree_text_or(tree_path(path, "patch.x-kubernetes-group-version-kind.kind"), ""), "Deployment");
    assert_int_equal(tree_count(tree_find(tree, "paths")), 5);
    buffer_deinit(&out);
    arena_free(arena);
}

UNIT_MAIN(UNIT(pods), UNIT(workloads), UNIT(networks_and_data), UNIT(openapi_lists_kinds))
