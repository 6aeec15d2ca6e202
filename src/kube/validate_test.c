#include "kube/validate_testing_priv.h"

#include <stdio.h>

#define POD_HEAD "{'metadata':{'name':'p','namespace':'n'},'spec':{'containers':["
#define GOOD_TEMPLATE "'template':{'metadata':{'labels':{'a':'b'}},'spec':{'containers':[{'name':'c','image':'i'}]}}"

UNIT_TEST(the_message_is_upstreams) {
    struct kube_object *object = object_from(&kube_kind_deployment, "{'metadata':{'name':'web','namespace':'n'},'spec':{" GOOD_TEMPLATE "}}");
    struct diag diag = DIAG_INIT;
    assert_int_equal(kube_default(object), 0);
    assert_int_equal(kube_validate(object, NULL, &diag), -EINVAL);
    assert_string_equal(diag.message, "Deployment.apps \"web\" is invalid: spec.selector: Required value");
    assert_string_equal(diag.causes[0].reason, "FieldValueRequired");
    kube_object_unref(object);
}

UNIT_TEST(metadata) {
    check(&kube_kind_config_map, "{'metadata':{'name':'a','namespace':'n'}}", NULL, "");
    check(&kube_kind_config_map, "{'metadata':{'namespace':'n'}}", NULL, "metadata.name: Required value: name or generateName is required");
    check(&kube_kind_config_map, "{'metadata':{'generateName':'a-','namespace':'n'}}", NULL, "");
    check(&kube_kind_namespace, "{'metadata':{'name':'a.b'}}", NULL,
          "metadata.name: Invalid value: \"a.b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
          "start and end with "
          "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')");
    check(&kube_kind_config_map, "{'metadata':{'name':'a','namespace':'n','labels':{'k':'a b'}}}", NULL,
          "metadata.labels: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
          "and must start "
          "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
          "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')");
    check(&kube_kind_config_map, "{'metadata':{'name':'b','namespace':'n'}}", "{'metadata':{'name':'a','namespace':'n'}}",
          "metadata.name: Invalid value: \"b\": field is immutable");
    check(&kube_kind_node, "{'metadata':{'name':'a','namespace':'n'}}", NULL, "metadata.namespace: Forbidden: not allowed on this type");
}

UNIT_TEST(keys_of_data) {
    static const char wrong[] = "data[]: Invalid value: \"\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
                                "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    check(&kube_kind_secret, "{'metadata':{'name':'a','namespace':'n'},'type':'Opaque','data':{'':'YQ=='}}", NULL, wrong);
    check(&kube_kind_config_map, "{'metadata':{'name':'a','namespace':'n'},'data':{'':'a'}}", NULL, wrong);
    check(&kube_kind_config_map, "{'metadata':{'name':'a','namespace':'n'},'data':{'-._a':''}}", NULL, "");
}

UNIT_TEST(pods) {
    check(&kube_kind_pod, POD_HEAD "{'name':'c','image':'i'}]}}", NULL, "");
    check(&kube_kind_pod, POD_HEAD "]}}", NULL, "spec.containers: Required value");
    check(&kube_kind_pod, POD_HEAD "{'name':'c'},{'name':'c','image':'i','imagePullPolicy':'Sometimes'}]}}", NULL,
          "spec.containers[0].image: Required value\n"
          "spec.containers[1].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"\n"
          "spec.containers[1].name: Duplicate value: \"c\"");
    check(&kube_kind_pod, POD_HEAD "{'name':'c','image':'i','ports':[{'containerPort':70000}],'volumeMounts':[{'name':'v','mountPath':'/x'}]}]}}",
          NULL,
          "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive\n"
          "spec.containers[0].volumeMounts[0].name: Not found: \"v\"");
    check(&kube_kind_pod,
          POD_HEAD "{'name':'c','image':'i','livenessProbe':{},'env':[{'name':'','value':'x'},{'name':'A','value':'1','valueFrom':{}}]}]}}", NULL,
          "spec.containers[0].env[0].name: Required value\n"
          "spec.containers[0].env[1].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or "
          "`secretKeyRef`\n"
          "spec.containers[0].livenessProbe: Required value: must specify a handler type");
    check(&kube_kind_pod,
          POD_HEAD "{'name':'c','image':'i','resources':{'requests':{'cpu':'2','foo':'1'},'limits':{'cpu':'1'}}}],'restartPolicy':'Maybe'}}", NULL,
          "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource for containers\n"
          "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1\n"
          "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"Never\", \"OnFailure\"");
    check(&kube_kind_pod,
          POD_HEAD "{'name':'c','image':'i','restartPolicy':'OnFailure','restartPolicyRules':[{'action':'Restart','exitCodes':{'operator':'In',"
                   "'values':[1]}}]},{'name':'d','image':'i','restartPolicy':'Sometimes'},{'name':'e','image':'i','restartPolicyRules':[{'action':"
                   "'RestartAllContainers'}]}]}}",
          NULL,
          "spec.containers[1].restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"\n"
          "spec.containers[2].restartPolicy: Required value: must specify restartPolicy when restart rules are used\n"
          "spec.containers[2].restartPolicyRules[0].action: Unsupported value: \"RestartAllContainers\": supported values: \"Restart\"\n"
          "spec.containers[2].restartPolicyRules[0].exitCodes: Required value: must be specified");
    check(&kube_kind_pod, POD_HEAD "{'name':'c','image':'i'}],'volumes':[{'name':'a','emptyDir':{},'secret':{'secretName':'s'}},{'name':'a'}]}}",
          NULL,
          "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type\n"
          "spec.volumes[1].name: Duplicate value: \"a\"");
    check(&kube_kind_pod,
          POD_HEAD "{'name':'c','image':'i'}],'volumes':[{'name':'a','projected':{'sources':[{'serviceAccountToken':{'path':'t'}},{"
                   "'serviceAccountToken':{'path':'u','expirationSeconds':599}},{'serviceAccountToken':{'path':'v','expirationSeconds':4294967297}}"
                   "]}}]}}",
          NULL,
          "spec.volumes[0].projected.sources[1].serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 "
          "minutes\n"
          "spec.volumes[0].projected.sources[2].serviceAccountToken.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger "
          "than 2^32 seconds");
}

UNIT_TEST(resources_of_a_pod_as_a_whole) {
    check(&kube_kind_pod,
          POD_HEAD "{'name':'c','image':'i','resources':{'requests':{'cpu':'2'},'limits':{'memory':'3Mi','cpu':'9'}}},{'name':'d','image':'i',"
                   "'resources':{'requests':{'cpu':'1500m'}}}],'resources':{'requests':{'cpu':'3','ephemeral-storage':'1'},'limits':{'memory':"
                   "'2Mi'}}}}",
          NULL,
          "spec.resources.requests: Invalid value: \"3Mi\": must be less than or equal to memory limit of 2Mi\n"
          "spec.resources.requests[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", "
          "\"memory\"\n"
          "spec.resources.requests[cpu]: Invalid value: \"3\": must be greater than or equal to aggregate container requests of 3500m\n"
          "spec.resources.containers[0][memory]: Invalid value: \"3Mi\": must be less than or equal to pod limits of 2Mi");
    check(&kube_kind_pod,
          POD_HEAD "{'name':'c','image':'i','resources':{'requests':{'cpu':'1'}}}],'resources':{'requests':{'cpu':'3'},'limits':{'cpu':'4'}}}}", NULL,
          "");
}

#define CONTEXT(context) POD_HEAD "{'name':'c','image':'i','securityContext':{" context "}}]"

UNIT_TEST(what_a_container_asks_to_be_allowed) {
    check(&kube_kind_pod, CONTEXT("'seccompProfile':{'type':'Localhost'},'appArmorProfile':{'type':'Localhost'}") "}}", NULL,
          "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost\n"
          "spec.containers[0].securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost");
    check(&kube_kind_pod, CONTEXT("'seccompProfile':{}") "}}", NULL,
          "spec.containers[0].securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set");
    check(&kube_kind_pod, CONTEXT("'seccompProfile':{'type':'Localhost','localhostProfile':'a/../b'}") "}}", NULL,
          "spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: \"a/../b\": must not contain '..'");
    check(&kube_kind_pod, CONTEXT("'allowPrivilegeEscalation':false,'capabilities':{'add':['SYS_ADMIN']}") "}}", NULL, "");
    check(&kube_kind_pod, CONTEXT("'allowPrivilegeEscalation':false,'capabilities':{'add':['CAP_SYS_ADMIN']}") "}}", NULL,
          "spec.containers[0].securityContext: Invalid value: {…}: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` "
          "CAP_SYS_ADMIN");
    check(&kube_kind_pod, CONTEXT("'procMount':'Unmasked'") "}}", NULL,
          "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`");
    check(&kube_kind_pod, CONTEXT("'procMount':'Unmasked'") ",'hostUsers':false}}", NULL, "");
    check(&kube_kind_pod, CONTEXT("") ",'hostUsers':false,'hostNetwork':true,'hostPID':true}}", NULL,
          "spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false\nspec.HostPID: Forbidden: when `pod.Spec.HostUsers` is false");
}

#define SYSCTLS(sysctls) CONTEXT("") ",'securityContext':{'sysctls':[" sysctls "]}"

UNIT_TEST(what_a_pod_asks_of_the_kernel) {
    check(&kube_kind_pod, SYSCTLS("{'name':'net.ipv4.tcp_rmem','value':'1'},{'name':'net/ipv4/a-b_c.d','value':'1'}") "}}", NULL, "");
    check(&kube_kind_pod, SYSCTLS("{'name':'kernel.sem','value':'1'},{'name':'kernel.sem','value':'2'},{'value':'1'}") "}}", NULL,
          "spec.securityContext.sysctls[1].name: Duplicate value: \"kernel.sem\"\nspec.securityContext.sysctls[2].name: Required value");
    /* Of what was there before, only what changes is looked at. */
    check(&kube_kind_pod, SYSCTLS("{'name':'a','value':'1'},{'name':'a','value':'1'}") "}}",
          SYSCTLS("{'name':'a','value':'1'},{'name':'a','value':'1'}") "}}", "");
    check(&kube_kind_pod, SYSCTLS("{'name':'a','value':'1'},{'name':'a','value':'1'}") ",'activeDeadlineSeconds':5}}",
          SYSCTLS("{'name':'a','value':'1'},{'name':'a','value':'1'}") "}}", "spec.securityContext.sysctls[1].name: Duplicate value: \"a\"");
    static const char *const bad[] = {"net..a", ".a", "a.", "a-.b", "a._b", "A", "../a", "a b", "a/"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char json[512], expected[512];
        snprintf(json, sizeof json, SYSCTLS("{'name':'%s','value':'1'}") "}}", bad[i]);
        snprintf(expected, sizeof expected,
                 "spec.securityContext.sysctls[0].name: Invalid value: \"%s\": must have at most 253 characters and match regex "
                 "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?",
                 bad[i]);
        check(&kube_kind_pod, json, NULL, expected);
    }
    check(&kube_kind_pod,
          SYSCTLS("{'name':'net.ipv4.tcp_rmem','value':'1'},{'name':'kernel.shm_rmid_forced','value':'1'}") ",'hostNetwork':true,'hostIPC':true}}",
          NULL,
          "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.tcp_rmem\": may not be specified when 'hostNetwork' is true\n"
          "spec.securityContext.sysctls[1].name: Invalid value: \"kernel.shm_rmid_forced\": may not be specified when 'hostIPC' is true");
}

UNIT_TEST(how_a_container_mounts) {
    const char *volumes = "],'volumes':[{'name':'v','emptyDir':{}}]}}";
    char text[600];
    snprintf(text, sizeof text,
             POD_HEAD "{'name':'c','image':'i','volumeMounts':[{'name':'v','mountPath':'/v','mountPropagation':'Bidirectional'}]}%s", volumes);
    check(&kube_kind_pod, text, NULL,
          "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged "
          "containers");
    snprintf(text, sizeof text, POD_HEAD "{'name':'c','image':'i','volumeMounts':[{'name':'v','mountPath':'/v','recursiveReadOnly':'Enabled'}]}%s",
             volumes);
    check(&kube_kind_pod, text, NULL, "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true");
}

UNIT_TEST(what_may_change_of_a_pod) {
    const char *old = POD_HEAD "{'name':'c','image':'i:1'}]}}";
    check(&kube_kind_pod, POD_HEAD "{'name':'c','image':'i:2'}],'nodeName':'n1'}}", old, "");
    check(&kube_kind_pod, POD_HEAD "{'name':'c','image':'i:1','args':['x']}]}}", old,
          "spec: Forbidden: pod updates may not change fields other than "
          "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
          "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
          "previously negative)");
}

UNIT_TEST(workloads) {
    const char *good = "{'metadata':{'name':'d','namespace':'n'},'spec':{'selector':{'matchLabels':{'a':'b'}}," GOOD_TEMPLATE "}}";
    check(&kube_kind_deployment, good, good, "");
    check(&kube_kind_deployment,
          "{'metadata':{'name':'d','namespace':'n'},'spec':{'replicas':-1,'selector':{'matchLabels':{'a':'c'}},"
          "'strategy':{'rollingUpdate':{'maxSurge':0,'maxUnavailable':0}}," GOOD_TEMPLATE "}}",
          good,
          "spec.replicas: Invalid value: -1: must be greater than or equal to 0\n"
          "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"c\"}}: field is immutable\n"
          "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0\n"
          "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`");
    check(&kube_kind_job, "{'metadata':{'name':'j','namespace':'n'},'spec':{" GOOD_TEMPLATE "}}", NULL,
          "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"");
}

UNIT_TEST(networks) {
    check(&kube_kind_service, "{'metadata':{'name':'s','namespace':'n'},'spec':{'ports':[{'port':80}]}}", NULL, "");
    check(&kube_kind_service, "{'metadata':{'name':'1s','namespace':'n'},'spec':{'type':'Nope'}}", NULL,
          "metadata.name: Invalid value: \"1s\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
          "alphabetic character, "
          "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')\n"
          "spec.type: Unsupported value: \"Nope\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"\n"
          "spec.ports: Required value");
    check(&kube_kind_service, "{'metadata':{'name':'s','namespace':'n'},'spec':{'ports':[{'port':0},{'name':'a','port':80,'targetPort':'-x'}]}}",
          NULL,
          "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive\n"
          "spec.ports[1].targetPort: Invalid value: \"-x\": must not begin or end with a hyphen\n"
          "spec.ports[0].name: Required value");
    check(&kube_kind_service, "{'metadata':{'name':'s','namespace':'n'},'spec':{'clusterIP':'10.0.0.2','ports':[{'port':80}]}}",
          "{'metadata':{'name':'s','namespace':'n'},'spec':{'clusterIP':'10.0.0.1','ports':[{'port':80}]}}",
          "spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set");
    check(&kube_kind_ingress,
          "{'metadata':{'name':'i','namespace':'n'},'spec':{'rules':[{'host':'*.example.org','http':{'paths':[{'path':'/"
          "','pathType':'Prefix','backend':"
          "{'service':{'name':'s','port':{'number':80}}}}]}}]}}",
          NULL, "");
    check(&kube_kind_ingress,
          "{'metadata':{'name':'i','namespace':'n'},'spec':{'rules':[{'host':'10.0.0.1','http':{'paths':[{'path':'x','backend':{'service':{'name':'s'"
          "}}}]}}]}}",
          NULL,
          "spec.rules[0].http.paths[0].pathType: Required value\n"
          "spec.rules[0].http.paths[0].backend.service.port: Required value: port name or number is required\n"
          "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path\n"
          "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address");
    check(&kube_kind_ingress, "{'metadata':{'name':'i','namespace':'n'}}", NULL,
          "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified");
}

UNIT_TEST(data) {
    check(&kube_kind_config_map, "{'metadata':{'name':'a','namespace':'n'},'data':{'x':'2'},'immutable':true}",
          "{'metadata':{'name':'a','namespace':'n'},'data':{'x':'1'},'immutable':true}",
          "data: Forbidden: field is immutable when `immutable` is set");
    check(&kube_kind_secret, "{'metadata':{'name':'a','namespace':'n'},'type':'kubernetes.io/tls','data':{'tls.crt':'YQ=='}}", NULL,
          "data[tls.key]: Required value");
    check(&kube_kind_secret, "{'metadata':{'name':'a','namespace':'n'},'type':'x'}", "{'metadata':{'name':'a','namespace':'n'},'type':'y'}",
          "type: Invalid value: \"x\": field is immutable");
}

UNIT_MAIN(UNIT(the_message_is_upstreams), UNIT(metadata), UNIT(keys_of_data), UNIT(pods), UNIT(resources_of_a_pod_as_a_whole),
          UNIT(what_a_container_asks_to_be_allowed), UNIT(what_a_pod_asks_of_the_kernel), UNIT(how_a_container_mounts),
          UNIT(what_may_change_of_a_pod), UNIT(workloads), UNIT(networks), UNIT(data))
