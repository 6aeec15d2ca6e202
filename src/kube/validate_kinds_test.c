/* Validation of the kinds that are not pods and services: each rule by the smallest object that breaks it. */
#include "kube/validate_testing_priv.h"

#define IN "'metadata':{'name':'a','namespace':'n'}"
#define OUT "'metadata':{'name':'a'}"
#define TEMPLATE "'template':{'metadata':{'labels':{'a':'b'}},'spec':{'containers':[{'name':'c','image':'i'}]}}"
#define SET(rest) "{" IN ",'spec':{'selector':{'matchLabels':{'a':'b'}}," TEMPLATE rest "}}"

UNIT_TEST(stateful_sets) {
    const struct kube_kind *kind = &kube_kind_stateful_set;
    const char *forbidden =
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
        "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    check(kind, SET(""), NULL, "");
    check(kind, SET(",'replicas':3,'minReadySeconds':2,'updateStrategy':{'type':'OnDelete'}"), SET(""), "");
    check(kind, SET(",'serviceName':'other'"), SET(""), forbidden);
    check(kind, SET(",'volumeClaimTemplates':[{}]"), SET(""), forbidden);
    check(kind, SET(",'podManagementPolicy':'Random','updateStrategy':{'type':'Never'}"), NULL,
          "spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'\n"
          "spec.updateStrategy: Invalid value: \"Never\": must be 'RollingUpdate' or 'OnDelete'");
    check(kind, SET(",'persistentVolumeClaimRetentionPolicy':{'whenDeleted':'Keep'}"), NULL,
          "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\"");
    static const char mounting[] = "{" IN ",'spec':{'selector':{'matchLabels':{'a':'b'}},'volumeClaimTemplates':[{'metadata':{'name':'data'}}],"
                                   "'template':{'metadata':{'labels':{'a':'b'}},'spec':{'containers':[{'name':'c','image':'i',"
                                   "'volumeMounts':[{'name':'%s','mountPath':'/data'}]}]}}}}";
    char text[600];
    snprintf(text, sizeof text, mounting, "data");
    check(kind, text, NULL, "");
    snprintf(text, sizeof text, mounting, "other");
    check(kind, text, NULL, "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\"");
}

UNIT_TEST(addresses_that_nobody_may_be_sent_to) {
    static const char *const wrong[][2] = {
        {"0.0.0.0", "unspecified (0.0.0.0 or ::)"},
        {"127.0.0.53", "in the loopback range (127.0.0.0/8, ::1/128)"},
        {"169.254.169.254", "in the link-local range (169.254.0.0/16, fe80::/10)"},
        {"224.0.0.1", "in the link-local multicast range (224.0.0.0/24, ff02::/10)"},
        {"::", "unspecified (0.0.0.0 or ::)"},
        {"::1", "in the loopback range (127.0.0.0/8, ::1/128)"},
        {"::ffff:127.0.0.1", "in the loopback range (127.0.0.0/8, ::1/128)"},
        {"fe80::1", "in the link-local range (169.254.0.0/16, fe80::/10)"},
        {"ff02::1", "in the link-local multicast range (224.0.0.0/24, ff02::/10)"},
    };
    char text[400], causes[300];
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const char *address = wrong[i][0];
        snprintf(text, sizeof text, "{" IN ",'subsets':[{'addresses':[{'ip':'%s'}]}]}", address);
        snprintf(causes, sizeof causes, "subsets[0].addresses[0].ip: Invalid value: \"%s\": may not be %s", address, wrong[i][1]);
        check(&kube_kind_endpoints, text, NULL, causes);
        snprintf(text, sizeof text, "{" IN ",'addressType':'%s','endpoints':[{'addresses':['%s']}]}", strchr(address, ':') ? "IPv6" : "IPv4",
                 address);
        snprintf(causes, sizeof causes, "endpoints[0].addresses[0]: Invalid value: \"%s\": may not be %s", address, wrong[i][1]);
        check(&kube_kind_endpoint_slice, text, NULL, causes);
        snprintf(text, sizeof text, "{" IN ",'spec':{'externalIPs':['%s'],'ports':[{'port':80}]}}", address);
        snprintf(causes, sizeof causes, "spec.externalIPs[0]: Invalid value: \"%s\": may not be %s", address, wrong[i][1]);
        check(&kube_kind_service, text, NULL, causes);
    }
    check(&kube_kind_endpoints, "{" IN ",'subsets':[{'addresses':[{'ip':'10.0.0.1'},{'ip':'2001:db8::1'}]}]}", NULL, "");
    check(&kube_kind_endpoint_slice, "{" IN ",'addressType':'FQDN','endpoints':[{'addresses':['a.example']}]}", NULL, "");
}

UNIT_TEST(daemon_sets_and_controllers) {
    check(&kube_kind_daemon_set, SET(",'updateStrategy':{'rollingUpdate':{'maxUnavailable':0}}"), NULL,
          "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0");
    check(&kube_kind_daemon_set, SET(",'updateStrategy':{'rollingUpdate':{'maxSurge':1}}"), NULL,
          "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero");
    check(&kube_kind_replication_controller, "{" IN ",'spec':{'selector':{'x':'y'}," TEMPLATE "}}", NULL,
          "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`");
    check(&kube_kind_replication_controller, "{" IN "}", NULL, "spec.template: Required value\nspec.selector: Required value");
    check(&kube_kind_controller_revision, "{" IN ",'data':{'a':1},'revision':1}", "{" IN ",'data':{'a':2},'revision':1}",
          "data: Invalid value: {\"a\":1}: field is immutable");
}

#define CRON(rest)                                                                                                                                   \
    "{" IN ",'spec':{" rest ",'jobTemplate':{'spec':{'template':{'spec':{'restartPolicy':'Never','containers':[{'name':'c','image':'i'}]}}}}}}"

UNIT_TEST(cron_jobs) {
    check(&kube_kind_cron_job, CRON("'schedule':'*/5 * * * *','timeZone':'Europe/Berlin'"), NULL, "");
    check(&kube_kind_cron_job, CRON("'schedule':'x'"), NULL, "spec.schedule: Invalid value: \"x\": expected exactly 5 fields, found 1: [x]");
    check(&kube_kind_cron_job, CRON("'schedule':'* * * * *','timeZone':'Local','concurrencyPolicy':'Maybe'"), NULL,
          "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"\n"
          "spec.timeZone: Invalid value: \"Local\": unknown time zone Local");
    check(&kube_kind_cron_job,
          "{'metadata':{'name':'a2345678901234567890123456789012345678901234567890123','namespace':'n'},'spec':{'schedule':'* * * * *','jobTemplate':"
          "{'spec':{'template':{'spec':{'containers':[{'name':'c','image':'i'}]}}}}}}",
          NULL,
          "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"\n"
          "metadata.name: Invalid value: \"a2345678901234567890123456789012345678901234567890123\": must be no more than 52 characters");
}

#define CLAIM(rest, status) "{" IN ",'spec':{'accessModes':['ReadWriteOnce']" rest "},'status':{'phase':'" status "'}}"
#define SIZE(size) ",'resources':{'requests':{'storage':'" size "'}}"

UNIT_TEST(claims) {
    const struct kube_kind *kind = &kube_kind_persistent_volume_claim;
    check(kind, CLAIM(SIZE("1Gi"), "Pending"), NULL, "");
    check(kind, "{" IN ",'spec':{'resources':{}}}", NULL,
          "spec.accessModes: Required value: at least 1 access mode is required\nspec.resources[storage]: Required value");
    check(kind, CLAIM(SIZE("0"), "Pending"), NULL, "spec.resources[storage]: Invalid value: \"0\": must be greater than zero");
    check(kind, CLAIM(SIZE("1Gi") ",'volumeName':'v'", "Pending"), CLAIM(SIZE("1Gi"), "Pending"), "");
    check(kind, CLAIM(SIZE("2Gi"), "Bound"), CLAIM(SIZE("1Gi"), "Bound"), "");
    check(kind, CLAIM(SIZE("2Gi"), "Pending"), CLAIM(SIZE("1Gi"), "Pending"),
          "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims");
    check(kind, CLAIM(SIZE("1Gi"), "Bound"), CLAIM(SIZE("2Gi"), "Bound"),
          "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity");
}

#define VOLUME(rest) "{" OUT ",'spec':{'capacity':{'storage':'1Gi'},'accessModes':['ReadWriteOnce']" rest "}}"

UNIT_TEST(volumes_and_classes) {
    check(&kube_kind_persistent_volume, VOLUME(",'hostPath':{'path':'/x'}"), NULL, "");
    check(&kube_kind_persistent_volume, "{" OUT "}", NULL,
          "spec.accessModes: Required value\nspec.capacity: Required value\nspec: Required value: must specify a volume type");
    check(&kube_kind_persistent_volume, VOLUME(",'hostPath':{'path':'/x'},'nfs':{'server':'s','path':'/'}"), NULL,
          "spec.nfs: Forbidden: may not specify more than 1 volume type");
    check(&kube_kind_persistent_volume, VOLUME(",'hostPath':{'path':'/y'}"), VOLUME(",'hostPath':{'path':'/x'}"),
          "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation");
    check(&kube_kind_persistent_volume, VOLUME(",'local':{'path':'/x'}"), NULL,
          "spec.nodeAffinity: Required value: Local volume requires node affinity");
    check(&kube_kind_storage_class, "{" OUT ",'provisioner':'p','parameters':{'a':'b'}}", "{" OUT ",'provisioner':'q'}",
          "provisioner: Forbidden: updates to provisioner are forbidden.\nparameters: Forbidden: updates to parameters are forbidden.");
    check(&kube_kind_storage_class, "{" OUT ",'provisioner':'p','reclaimPolicy':'Recycle','volumeBindingMode':'Never'}", NULL,
          "volumeBindingMode: Unsupported value: \"Never\": supported values: \"Immediate\", \"WaitForFirstConsumer\"\n"
          "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"");
    check(&kube_kind_priority_class, "{" OUT ",'value':2000000000}", NULL,
          "value: Forbidden: maximum allowed value of a user defined priority is 1000000000");
    check(&kube_kind_priority_class, "{" OUT ",'value':2}", "{" OUT ",'value':1}", "value: Forbidden: may not be changed in an update.");
    check(&kube_kind_priority_class, "{'metadata':{'name':'system-x'},'value':2}", NULL,
          "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only");
}

#define POLICY(rule) "{" IN ",'spec':{'podSelector':{},'ingress':[" rule "]}}"

UNIT_TEST(network_policies) {
    const struct kube_kind *kind = &kube_kind_network_policy;
    check(kind, POLICY("{'ports':[{'port':80,'endPort':90}],'from':[{'ipBlock':{'cidr':'10.0.0.0/8','except':['10.1.0.0/16']}}]}"), NULL, "");
    check(kind, POLICY("{'ports':[{'port':'x','endPort':90},{'port':80,'endPort':70},{'protocol':'ICMP'}]}"), NULL,
          "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric\n"
          "spec.ingress[0].ports[1].endPort: Invalid value: 80: must be greater than or equal to `port`\n"
          "spec.ingress[0].ports[2].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"");
    check(kind,
          POLICY("{'from':[{},{'podSelector':{},'ipBlock':{'cidr':'10.0.0.0/8'}},{'ipBlock':{'cidr':'10.0.0.0/8','except':['11.0.0.0/16']}},"
                 "{'ipBlock':{'cidr':'10.0.0.0'}}]}"),
          NULL,
          "spec.ingress[0].from[0]: Required value: must specify a peer\n"
          "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer\n"
          "spec.ingress[0].from[2].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`\n"
          "spec.ingress[0].from[3].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
}

UNIT_TEST(limits_and_budgets) {
    check(&kube_kind_pod_disruption_budget, "{" IN ",'spec':{'minAvailable':1,'maxUnavailable':1}}", NULL,
          "spec: Invalid value: {…}: minAvailable and maxUnavailable cannot be both set");
    check(&kube_kind_pod_disruption_budget, "{" IN ",'spec':{'minAvailable':'101%'}}", NULL,
          "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%");
    check(&kube_kind_resource_quota,
          "{" IN ",'spec':{'hard':{'pods':'1500m','bananas':'1','count/jobs.batch':'2'},'scopes':['BestEffort','NotBestEffort']}}", NULL,
          "spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource for quotas\n"
          "spec.hard[pods]: Invalid value: \"1500m\": must be an integer\nspec.scopes: Invalid value: […]: conflicting scopes");
    check(&kube_kind_limit_range, "{" IN ",'spec':{'limits':[{'type':'Container','max':{'cpu':'1'},'min':{'cpu':'2'},'default':{'cpu':'1'}}]}}", NULL,
          "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1\n"
          "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1\n"
          "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1");
    check(&kube_kind_limit_range, "{" IN ",'spec':{'limits':[{'type':'Pod','default':{'cpu':'1'}},{'type':'Pod'}]}}", NULL,
          "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'\nspec.limits[1].type: Duplicate value: \"Pod\"");
}

#define SCALER(rest) "{" IN ",'spec':{'scaleTargetRef':{'kind':'Deployment','name':'d'}," rest "}}"

UNIT_TEST(autoscalers) {
    const struct kube_kind *kind = &kube_kind_v2_horizontal_pod_autoscaler;
    check(kind, SCALER("'maxReplicas':3"), NULL, "");
    check(kind, SCALER("'minReplicas':5,'maxReplicas':3,'behavior':{'scaleUp':{'policies':[{'type':'Pods','value':0,'periodSeconds':9999}]}}"), NULL,
          "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero\n"
          "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 9999: must be less than or equal to 1800\n"
          "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`");
    check(
        kind,
        SCALER("'maxReplicas':3,'metrics':[{'type':'Resource'},{'type':'X'},{'type':'Resource','resource':{'name':'cpu','target':{'type':'"
               "Utilization'}}}]"),
        NULL,
        "spec.metrics[0].resource: Required value: must populate information for the given metric source\n"
        "spec.metrics[1].type: Unsupported value: \"X\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"\n"
        "spec.metrics[2].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization");
}

#define HOOK(rest) "{" OUT ",'webhooks':[{" rest "}]}"

UNIT_TEST(webhooks) {
    const struct kube_kind *kind = &kube_kind_validating_webhook_configuration;
    check(
        kind,
        HOOK("'name':'a.b.c','clientConfig':{'url':'https://x/y'},'sideEffects':'None','admissionReviewVersions':['v1'],'rules':[{'operations':['*'],"
             "'apiGroups':[''],'apiVersions':['v1'],'resources':['pods']}]"),
        NULL, "");
    check(kind, HOOK("'name':'a','clientConfig':{},'admissionReviewVersions':['v2'],'timeoutSeconds':31,'rules':[{'operations':['*','CREATE']}]"),
          NULL,
          "webhooks[0].clientConfig: Required value: exactly one of url or service is required\n"
          "webhooks[0].rules[0].apiGroups: Required value\nwebhooks[0].rules[0].apiVersions: Required value\n"
          "webhooks[0].rules[0].resources: Required value\n"
          "webhooks[0].rules[0].operations: Invalid value: […]: if '*' is present, must not specify other operations\n"
          "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots\n"
          "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun\n"
          "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds\n"
          "webhooks[0].admissionReviewVersions: Invalid value: […]: must include at least one of v1, v1beta1");
    check(kind, HOOK("'name':'a.b.c','clientConfig':{'url':'http://x?y'},'sideEffects':'Some','admissionReviewVersions':['v1']"), NULL,
          "webhooks[0].clientConfig.url: Invalid value: \"http://x?y\": 'https' is the only allowed URL scheme; desired format: https://host[/path]\n"
          "webhooks[0].clientConfig.url: Invalid value: \"y\": query parameters are not permitted in the URL\n"
          "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"");
}

UNIT_TEST(paths_of_webhooks) {
    const struct kube_kind *kind = &kube_kind_validating_webhook_configuration;
    check(
        kind,
        HOOK(
            "'name':'a.b.c','clientConfig':{'service':{'namespace':'n','name':'s','path':''}},'sideEffects':'None','admissionReviewVersions':['v1']"),
        NULL, "");
    check(kind,
          HOOK("'name':'a.b.c','clientConfig':{'service':{'namespace':'n','name':'s','path':'x'}},'sideEffects':'None','admissionReviewVersions':['"
               "v1']"),
          NULL, "webhooks[0].clientConfig.service.path: Invalid value: \"x\": must start with a '/'");
}

#define POD(rest) "{" IN ",'spec':{'containers':[{'name':'c','image':'i'}]," rest "}}"

UNIT_TEST(scheduling_of_pods) {
    check(&kube_kind_pod,
          POD("'topologySpreadConstraints':[{'maxSkew':1,'topologyKey':'z','whenUnsatisfiable':'ScheduleAnyway','minDomains':2},{'maxSkew':1,'"
              "topologyKey':'z',"
              "'whenUnsatisfiable':'ScheduleAnyway'}]"),
          NULL,
          "spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not "
          "ScheduleAnyway\n"
          "spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{z, ScheduleAnyway}\"");
    check(&kube_kind_pod,
          POD("'affinity':{'nodeAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':{'nodeSelectorTerms':[{'matchExpressions':[{'key':'k','"
              "operator':'In'},"
              "{'key':'k','operator':'Exists','values':['x']},{'key':'k','operator':'Gt'}]}]}}}"),
          NULL,
          "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required "
          "value: must be "
          "specified when `operator` is 'In' or 'NotIn'\n"
          "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].values: Forbidden: may "
          "not be "
          "specified when `operator` is 'Exists' or 'DoesNotExist'\n"
          "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[2].values: Required "
          "value: must be "
          "specified single value when `operator` is 'Lt' or 'Gt'");
}

UNIT_TEST(certificates_and_classes) {
    check(&kube_kind_certificate_signing_request,
          "{" OUT ",'spec':{'request':'LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K','signerName':'kubernetes.io/"
          "kube-apiserver-client','usages':['client auth'],"
          "'expirationSeconds':600}}",
          NULL, "");
    check(&kube_kind_certificate_signing_request, "{" OUT ",'spec':{'request':'eA==','signerName':'x','usages':['fly'],'expirationSeconds':5}}", NULL,
          "spec.usages[0]: Unsupported value: \"fly\": supported values: \"any\", \"cert sign\", \"client auth\", \"code signing\", \"content "
          "commitment\", "
          "\"crl sign\", \"data encipherment\", \"decipher only\", \"digital signature\", \"email protection\", \"encipher only\", \"ipsec end "
          "system\", \"ipsec "
          "tunnel\", \"ipsec user\", \"key agreement\", \"key encipherment\", \"microsoft sgc\", \"netscape sgc\", \"ocsp signing\", \"s/mime\", "
          "\"server auth\", "
          "\"signing\", \"timestamping\"\n"
          "spec.request: Invalid value: […]: PEM block type must be CERTIFICATE REQUEST\n"
          "spec.signerName: Invalid value: \"x\": must be a fully qualified domain and path of the form 'example.com/signer-name'\n"
          "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)");
    check(&kube_kind_ingress_class, "{" OUT ",'spec':{'controller':'b/d'}}", "{" OUT ",'spec':{'controller':'b/c'}}",
          "spec.controller: Invalid value: \"b/d\": field is immutable");
    check(&kube_kind_runtime_class, "{" OUT ",'handler':''}", NULL, "handler: Required value");
}

UNIT_MAIN(UNIT(addresses_that_nobody_may_be_sent_to), UNIT(stateful_sets), UNIT(daemon_sets_and_controllers), UNIT(cron_jobs), UNIT(claims),
          UNIT(volumes_and_classes), UNIT(network_policies), UNIT(limits_and_budgets), UNIT(autoscalers), UNIT(webhooks), UNIT(paths_of_webhooks),
          UNIT(scheduling_of_pods), UNIT(certificates_and_classes))
