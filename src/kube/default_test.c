#include "kube/testing_priv.h"

UNIT_TEST(deployment) {
    struct kube_object *object =
        object_from(&kube_kind_deployment, "{'spec':{'template':{'spec':{'hostNetwork':true,'volumes':[{'name':'v'},{'name':'s','secret':"
                                           "{'secretName':'s'}}],'containers':[{'name':'a','image':'nginx','ports':[{'containerPort':80}],"
                                           "'readinessProbe':{'httpGet':{'port':80}}},{'name':'b','image':'r:5000/x/y:1.2'}]}}}}");
    assert_int_equal(kube_default(object), 0);
    const struct kube_deployment_spec *spec = &object->deployment->spec;
    assert_int_equal(*spec->replicas, 1);
    assert_int_equal(*spec->revision_history_limit, 10);
    assert_int_equal(*spec->progress_deadline_seconds, 600);
    assert_string_equal(spec->strategy.type, "RollingUpdate");
    assert_string_equal(spec->strategy.rolling_update->max_surge->text, "25%");
    const struct kube_pod_spec *pod = &spec->template.spec;
    assert_string_equal(pod->restart_policy, "Always");
    assert_string_equal(pod->dns_policy, "ClusterFirst");
    assert_int_equal(*pod->termination_grace_period_seconds, 30);
    assert_non_null(pod->security_context);
    assert_null(pod->enable_service_links); /* only pods themselves get it */
    assert_non_null(pod->volumes.items[0].empty_dir);
    assert_int_equal(*pod->volumes.items[1].secret->default_mode, 0644);
    assert_null(pod->volumes.items[1].empty_dir);
    assert_string_equal(pod->containers.items[0].image_pull_policy, "Always");
    assert_string_equal(pod->containers.items[1].image_pull_policy, "IfNotPresent");
    assert_string_equal(pod->containers.items[0].ports.items[0].protocol, "TCP");
    assert_int_equal(pod->containers.items[0].ports.items[0].host_port, 0); /* as the host's ports */
    const struct kube_probe *probe = pod->containers.items[0].readiness_probe;
    assert_int_equal(probe->period_seconds, 10);
    assert_int_equal(probe->failure_threshold, 3);
    assert_string_equal(probe->http_get->path, "/");
    struct kube_object *copy = kube_object_copy(object);
    assert_int_equal(kube_default(copy), 0); /* twice changes nothing */
    assert_true(kube_equal(object->kind->type, object->data, copy->data));
    kube_object_unref(copy);
    kube_object_unref(object);
}

UNIT_TEST(a_pod_s_negative_grace_period_is_a_second) {
    struct kube_object *pod = object_from(&kube_kind_pod, "{'spec':{'terminationGracePeriodSeconds':-1,'containers':[{'name':'c'}]}}");
    struct kube_object *template = object_from(&kube_kind_pod_template, "{'template':{'spec':{'terminationGracePeriodSeconds':-1}}}");
    assert_int_equal(kube_default(pod), 0);
    assert_int_equal(kube_default(template), 0);
    assert_int_equal(*pod->pod->spec.termination_grace_period_seconds, 1);
    assert_int_equal(*template->pod_template->template.spec.termination_grace_period_seconds, -1);
    kube_object_unref(pod);
    kube_object_unref(template);
}

UNIT_TEST(services) {
    struct kube_object *object = object_from(&kube_kind_service, "{'spec':{'type':'NodePort','sessionAffinity':'ClientIP','ports':[{'port':80}]}}");
    assert_int_equal(kube_default(object), 0);
    const struct kube_service_spec *spec = &object->service->spec;
    assert_int_equal(spec->ports.items[0].target_port.number, 80);
    assert_string_equal(spec->ports.items[0].protocol, "TCP");
    assert_string_equal(spec->external_traffic_policy, "Cluster");
    assert_string_equal(spec->internal_traffic_policy, "Cluster");
    assert_int_equal(*spec->session_affinity_config->client_ip->timeout_seconds, 10800);
    kube_object_unref(object);
}

UNIT_TEST(jobs) {
    struct kube_object *object =
        object_from(&kube_kind_job, "{'metadata':{'name':'j','uid':'u'},'spec':{'template':{'metadata':{'labels':{'a':'b','c':'d'}}}}}");
    assert_int_equal(kube_default(object), 0);
    const struct kube_job *job = object->job;
    assert_int_equal(*job->spec.completions, 1);
    assert_int_equal(*job->spec.parallelism, 1);
    assert_int_equal(*job->spec.backoff_limit, 6);
    assert_false(*job->spec.suspend);
    assert_string_equal(job->spec.completion_mode, "NonIndexed");
    assert_int_equal(job->metadata.labels.count, 2);
    kube_object_unref(object);
}

UNIT_TEST(secrets_namespaces_pods) {
    struct kube_object *object = object_from(&kube_kind_secret, "{'metadata':{'name':'s'},'data':{'a':'YQ=='},'stringData':{'a':'new','b':'x'}}");
    assert_int_equal(kube_default(object), 0);
    assert_json(object, "{'kind':'Secret','apiVersion':'v1','metadata':{'name':'s'},'data':{'a':'bmV3','b':'eA=='},'type':'Opaque'}");
    kube_object_unref(object);
    object = object_from(&kube_kind_namespace, "{'metadata':{'name':'n'}}");
    assert_int_equal(kube_default(object), 0);
    assert_json(object, "{'kind':'Namespace','apiVersion':'v1','metadata':{'name':'n','labels':{'kubernetes.io/metadata.name':'n'}},'spec':{},"
                        "'status':{'phase':'Active'}}");
    kube_object_unref(object);
    object = object_from(&kube_kind_pod, "{'spec':{'containers':[{'name':'c','image':'i:1','resources':{'limits':{'memory':'1Gi','cpu':'1'},"
                                         "'requests':{'cpu':'100m'}}}]}}");
    assert_int_equal(kube_default(object), 0);
    const struct kube_quantity_map *requests = &object->pod->spec.containers.items[0].resources.requests;
    assert_int_equal(kube_quantity_milli(requests, "cpu", 0), 100);
    assert_int_equal(kube_quantity_milli(requests, "memory", 0), INT64_C(1073741824000));
    assert_true(*object->pod->spec.enable_service_links);
    kube_object_unref(object);
}

static void defaults(const struct kube_kind *kind, const char *given, const char *expected) {
    struct kube_object *object = object_from(kind, given);
    assert_int_equal(kube_default(object), 0);
    assert_json(object, expected);
    struct kube_object *copy = kube_object_copy(object);
    assert_int_equal(kube_default(copy), 0);
    assert_true(kube_equal(kind->type, object->data, copy->data));
    kube_object_unref(copy);
    kube_object_unref(object);
}

#define META(kind, version) "'kind':'" kind "','apiVersion':'" version "','metadata':{'name':'a'}"

UNIT_TEST(other_kinds) {
    defaults(&kube_kind_stateful_set, "{'metadata':{'name':'a'},'spec':{'updateStrategy':{'type':'RollingUpdate'}}}",
             "{" META("StatefulSet",
                      "apps/v1") ",'spec':{'replicas':1,'selector':null,'template':{'metadata':{},'spec':{'containers':null,'restartPolicy':"
                                 "'Always','terminationGracePeriodSeconds':30,'dnsPolicy':'ClusterFirst','securityContext':{},'schedulerName':'"
                                 "default-scheduler'}},"
                                 "'podManagementPolicy':'OrderedReady','updateStrategy':{'type':'RollingUpdate'},'revisionHistoryLimit':10,"
                                 "'persistentVolumeClaimRetentionPolicy':{'whenDeleted':'Retain','whenScaled':'Retain'}},'status':{'replicas':0}}");
    struct kube_object *object = object_from(&kube_kind_stateful_set, "{'metadata':{'name':'a'}}");
    assert_int_equal(kube_default(object), 0);
    assert_int_equal(*object->stateful_set->spec.update_strategy.rolling_update->partition, 0);
    kube_object_unref(object);
    defaults(
        &kube_kind_cron_job, "{'metadata':{'name':'a'},'spec':{'schedule':'x'}}",
        "{" META("CronJob",
                 "batch/v1") ",'spec':{'schedule':'x','concurrencyPolicy':'Allow','suspend':false,'jobTemplate':{'metadata':{},'spec':{'template':"
                             "{'metadata':{},'spec':{'containers':null,'restartPolicy':'Always','terminationGracePeriodSeconds':30,'dnsPolicy':'"
                             "ClusterFirst',"
                             "'securityContext':{},'schedulerName':'default-scheduler'}}}},'successfulJobsHistoryLimit':3,'failedJobsHistoryLimit':1}"
                             ",'status':{}}");
    defaults(
        &kube_kind_v2_horizontal_pod_autoscaler,
        "{'metadata':{'name':'a'},'spec':{'scaleTargetRef':{'kind':'D','name':'d'},'maxReplicas':2,'behavior':{'scaleDown':{'policies':[{'type':'"
        "Pods',"
        "'value':1,'periodSeconds':60}]}}}}",
        "{" META(
            "HorizontalPodAutoscaler",
            "autoscaling/v2") ",'spec':{'scaleTargetRef':{'kind':'D','name':'d'},'minReplicas':1,'maxReplicas':2,'metrics':"
                              "[{'type':'Resource','resource':{'name':'cpu','target':{'type':'Utilization','averageUtilization':80}}}],'behavior':{'"
                              "scaleUp':"
                              "{'stabilizationWindowSeconds':0,'selectPolicy':'Max','policies':[{'type':'Pods','value':4,'periodSeconds':15},{'type':"
                              "'Percent','value':100,"
                              "'periodSeconds':15}]},'scaleDown':{'selectPolicy':'Max','policies':[{'type':'Pods','value':1,'periodSeconds':60}]}}},"
                              "'status':{'desiredReplicas':0}}");
    defaults(&kube_kind_role_binding,
             "{'metadata':{'name':'a'},'roleRef':{'kind':'Role','name':'r'},'subjects':[{'kind':'User','name':'u'},{'kind':"
             "'ServiceAccount','name':'s'}]}",
             "{" META("RoleBinding", "rbac.authorization.k8s.io/v1") ",'subjects':[{'kind':'User','apiGroup':"
                                                                     "'rbac.authorization.k8s.io','name':'u'},{'kind':'ServiceAccount','name':'s'}],'"
                                                                     "roleRef':{'apiGroup':'rbac.authorization.k8s.io','kind':'Role',"
                                                                     "'name':'r'}}");
    defaults(&kube_kind_network_policy, "{'metadata':{'name':'a'},'spec':{'egress':[{'ports':[{'port':53}]}]}}",
             "{" META("NetworkPolicy", "networking.k8s.io/v1") ",'spec':{'podSelector':{},'egress':[{'ports':[{'protocol':'TCP','port':53}]}],'"
                                                               "policyTypes':['Ingress','Egress']}}");
    defaults(&kube_kind_storage_class, "{'metadata':{'name':'a'},'provisioner':'p'}",
             "{" META("StorageClass", "storage.k8s.io/v1") ",'provisioner':'p',"
                                                           "'reclaimPolicy':'Delete','volumeBindingMode':'Immediate'}");
    defaults(&kube_kind_priority_class, "{'metadata':{'name':'a'},'value':1}",
             "{" META("PriorityClass", "scheduling.k8s.io/v1") ",'value':1,"
                                                               "'preemptionPolicy':'PreemptLowerPriority'}");
    defaults(&kube_kind_validating_webhook_configuration,
             "{'metadata':{'name':'a'},'webhooks':[{'name':'w','clientConfig':{'service':{'namespace':'n','name':"
             "'s'}},'rules':[{'operations':['*']}],'sideEffects':'None','admissionReviewVersions':['v1']}]}",
             "{" META("ValidatingWebhookConfiguration",
                      "admissionregistration.k8s.io/v1") ",'webhooks':[{'name':'w','clientConfig':{'service':{'namespace':'n','name':'s','port':443}}"
                                                         ",'rules':[{"
                                                         "'operations':['*'],'scope':'*'}],'failurePolicy':'Fail','matchPolicy':'Equivalent','"
                                                         "namespaceSelector':{},'objectSelector':{},'sideEffects':"
                                                         "'None','timeoutSeconds':10,'admissionReviewVersions':['v1']}]}");
}

UNIT_MAIN(UNIT(a_pod_s_negative_grace_period_is_a_second), UNIT(deployment), UNIT(services), UNIT(jobs), UNIT(secrets_namespaces_pods),
          UNIT(other_kinds))
