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

UNIT_TEST(controllers) {
    row(&kube_kind_stateful_set,
        "{'metadata':{'name':'s'," BORN "},'spec':{'replicas':3,'template':{'spec':{'containers':[{'name':'c','image':'i'}]}}},"
        "'status':{'replicas':3,'readyReplicas':2,'availableReplicas':2}}",
        "['s','2/3','10m','c','i']");
    row(&kube_kind_daemon_set,
        "{'metadata':{'name':'d'," BORN "},'spec':{'selector':{'matchLabels':{'a':'b'}},'template':{'spec':{'nodeSelector':{'x':'y'},"
        "'containers':[]}}},'status':{'currentNumberScheduled':1,'numberMisscheduled':0,'desiredNumberScheduled':2,'numberReady':1}}",
        "['d',2,1,1,0,0,'x=y','10m','','','a=b']");
    row(&kube_kind_replication_controller, "{'metadata':{'name':'r'," BORN "},'spec':{'replicas':0,'selector':{'a':'b'}}}",
        "['r',0,0,0,'10m','','','a=b']");
    row(&kube_kind_cron_job,
        "{'metadata':{'name':'c'," BORN "},'spec':{'schedule':'* * * * *','suspend':false,'jobTemplate':{'spec':{'template':{'spec':"
        "{'containers':[]}}}}},'status':{'active':[{}],'lastScheduleTime':'2023-11-14T22:23:15Z'}}",
        "['c','* * * * *','<none>','False',1,'5s','10m','','','<none>']");
    row(&kube_kind_controller_revision,
        "{'metadata':{'name':'r'," BORN ",'ownerReferences':[{'apiVersion':'apps/v1','kind':'DaemonSet','name':'d','uid':'u',"
        "'controller':true}]},'revision':3,'data':null}",
        "['r','daemonset.apps/d',3,'10m']");
    row(&kube_kind_pod_template,
        "{'metadata':{'name':'t'},'template':{'metadata':{'labels':{'a':'b'}},'spec':{'containers':[{'name':'c','image':'i'}]}}}",
        "['t','c','i','a=b']");
}

UNIT_TEST(storage) {
    row(&kube_kind_persistent_volume,
        "{'metadata':{'name':'v'," BORN "},'spec':{'capacity':{'storage':'1Gi'},'accessModes':['ReadWriteMany','ReadWriteOnce'],"
        "'persistentVolumeReclaimPolicy':'Retain','claimRef':{'namespace':'n','name':'c'},'storageClassName':'s','volumeMode':'Filesystem'},"
        "'status':{'phase':'Bound'}}",
        "['v','1Gi','RWO,RWX','Retain','Bound','n/c','s','<unset>','','10m','Filesystem']");
    row(&kube_kind_persistent_volume_claim,
        "{'metadata':{'name':'c'," BORN "},'spec':{'volumeName':'v','resources':{}},'status':{'phase':'Bound','accessModes':"
        "['ReadWriteOnce'],'capacity':{'storage':'2Gi'}}}",
        "['c','Bound','v','2Gi','RWO','','<unset>','10m','<unset>']");
    row(&kube_kind_persistent_volume_claim, "{'metadata':{'name':'c'," BORN "},'spec':{'resources':{}},'status':{'phase':'Pending'}}",
        "['c','Pending','','','','','<unset>','10m','<unset>']");
    row(&kube_kind_storage_class,
        "{'metadata':{'name':'s','annotations':{'storageclass.kubernetes.io/is-default-class':'true'}," BORN "},'provisioner':'p',"
        "'allowVolumeExpansion':true,'volumeBindingMode':'WaitForFirstConsumer'}",
        "['s (default)','p','Delete','WaitForFirstConsumer',true,'10m']");
    row(&kube_kind_volume_attachment,
        "{'metadata':{'name':'a'," BORN "},'spec':{'attacher':'x','source':{'persistentVolumeName':'v'},'nodeName':'n'},"
        "'status':{'attached':false}}",
        "['a','x','v','n',false,'10m']");
    row(&kube_kind_csi_driver, "{'metadata':{'name':'d'," BORN "},'spec':{'attachRequired':true,'volumeLifecycleModes':['Persistent','Ephemeral']}}",
        "['d',true,false,false,'<unset>',false,'Persistent,Ephemeral','10m']");
}

UNIT_TEST(policies_and_rights) {
    row(&kube_kind_pod_disruption_budget,
        "{'metadata':{'name':'b'," BORN "},'spec':{'minAvailable':'50%'},'status':{'disruptionsAllowed':1,'currentHealthy':0,"
        "'desiredHealthy':0,'expectedPods':0}}",
        "['b','50%','N/A',1,'10m']");
    row(&kube_kind_resource_quota,
        "{'metadata':{'name':'q'," BORN "},'status':{'hard':{'pods':'4','limits.cpu':'2','requests.cpu':'1'},'used':{'pods':'1'}}}",
        "['q','pods: 1/4, requests.cpu: 0/1','limits.cpu: 0/2','10m']");
    row(&kube_kind_role_binding,
        "{'metadata':{'name':'r'," BORN "},'roleRef':{'kind':'Role','name':'x'},'subjects':[{'kind':'User','name':'u'},{'kind':'Group',"
        "'name':'g'},{'kind':'ServiceAccount','namespace':'n','name':'s'},{'kind':'User','name':'v'}]}",
        "['r','Role/x','10m','u, v','g','n/s']");
    row(&kube_kind_role, "{'metadata':{'name':'r'," BORN "}}", "['r','2023-11-14T22:13:20Z']");
    row(&kube_kind_certificate_signing_request,
        "{'metadata':{'name':'c'," BORN "},'spec':{'request':'','signerName':'s','username':'u','expirationSeconds':3600},"
        "'status':{'conditions':[{'type':'Approved','status':'True'}],'certificate':'eA=='}}",
        "['c','10m','s','u','60m','Approved,Issued']");
    row(&kube_kind_priority_class, "{'metadata':{'name':'p'," BORN "},'value':5,'preemptionPolicy':'Never'}", "['p',5,false,'10m','Never']");
    row(&kube_kind_network_policy,
        "{'metadata':{'name':'n'," BORN "},'spec':{'podSelector':{'matchLabels':{'a':'b'},'matchExpressions':[{'key':'k','operator':"
        "'In','values':['x','y']}]}}}",
        "['n','a=b,k in (x,y)','10m']");
    row(&kube_kind_ingress_class, "{'metadata':{'name':'i'," BORN "},'spec':{'controller':'c','parameters':{'apiGroup':'g','kind':'K','name':'n'}}}",
        "['i','c','K.g/n','10m']");
}

#define AUTOSCALER(metrics, current)                                                                                                                 \
    "{'metadata':{'name':'h'," BORN                                                                                                                  \
    "},'spec':{'scaleTargetRef':{'kind':'Deployment','name':'d'},'maxReplicas':3,'minReplicas':1,'metrics':[" metrics "]},"                          \
    "'status':{'desiredReplicas':0,'currentMetrics':[" current "]}}"
#define PERCENT "{'type':'Resource','resource':{'name':'cpu','target':{'type':'Utilization','averageUtilization':50}}}"
#define HITS "{'type':'Pods','pods':{'metric':{'name':'m'},'target':{'type':'AverageValue','averageValue':'10'}}}"
#define QUEUE "{'type':'External','external':{'metric':{'name':'q'},'target':{'type':'AverageValue','averageValue':'30'}}}"

UNIT_TEST(autoscalers) {
    const struct kube_kind *kind = &kube_kind_v2_horizontal_pod_autoscaler;
    row(kind, AUTOSCALER(PERCENT, ""), "['h','Deployment/d','cpu: <unknown>/50%','1',3,0,'10m']");
    row(kind, AUTOSCALER(PERCENT "," HITS "," QUEUE, "{'type':'Resource','resource':{'name':'cpu','current':{'averageUtilization':7}}}"),
        "['h','Deployment/d','cpu: 7%/50%, <unknown>/10 + 1 more...','1',3,0,'10m']");
    row(kind, AUTOSCALER(QUEUE, ""), "['h','Deployment/d','<unknown>/30 (avg)','1',3,0,'10m']");
}

UNIT_MAIN(UNIT(pods), UNIT(workloads), UNIT(networks_and_data), UNIT(controllers), UNIT(storage), UNIT(policies_and_rights), UNIT(autoscalers))
