/* Which manifests a pipeline may bring: each row is a pod's specification with one thing in it. */
#include <stdio.h>

#include "forge/manifest_priv.h"
#include "unit.h"

static int read_manifest(const char *text) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * MIB);
    const struct manifest_source source = {.namespace = "app"};
    struct manifests manifests = {0};
    struct diag diag = DIAG_INIT;
    assert_non_null(arena);
    int error = manifests_read_text(arena, &source, "x.yaml", slice_of(text), &manifests, &diag);
    if (error == -EPERM)
        assert_non_null(strstr(diag.message, "is not allowed in a pipeline's manifests"));
    return error;
}

static int read_pod(const char *format, const char *spec) {
    char text[2048];
    snprintf(text, sizeof text, format, spec);
    return read_manifest(text);
}

UNIT_TEST(policy_refuses_what_reaches_the_host) {
    static const char *const specs[] = {
        "{hostNetwork: true, containers: [{name: c, image: i}]}",
        "{hostPID: true, containers: [{name: c, image: i}]}",
        "{hostIPC: true, containers: [{name: c, image: i}]}",
        "{volumes: [{name: v, hostPath: {path: /}}], containers: [{name: c, image: i}]}",
        "{containers: [{name: a, image: i}, {name: c, image: i, securityContext: {privileged: true}}]}",
        "{initContainers: [{name: c, image: i, securityContext: {privileged: true}}], containers: [{name: a, image: i}]}",
        "{containers: [{name: c, image: i, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]}",
        "{containers: [{name: c, image: i, securityContext: {capabilities: {add: [ALL]}}}]}",
        "{containers: [{name: c, image: i, securityContext: {capabilities: {add: [CAP_SYS_PTRACE]}}}]}",
        "{containers: [{name: c, image: i, securityContext: {seccompProfile: {type: Unconfined}}}]}",
        "{containers: [{name: c, image: i, securityContext: {procMount: Unmasked}}]}",
        "{securityContext: {seccompProfile: {type: Unconfined}}, containers: [{name: c, image: i}]}",
        "{securityContext: {appArmorProfile: {type: Unconfined}}, containers: [{name: c, image: i}]}",
        "{containers: [{name: c, image: i, securityContext: {appArmorProfile: {type: Unconfined}}}]}",
        "{securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}]}, containers: [{name: c, image: i}]}",
        "{containers: [{name: c, image: i, ports: [{containerPort: 22, hostPort: 22}]}]}",
        "{priorityClassName: system-node-critical, containers: [{name: c, image: i}]}",
    };
    static const char *const kinds[] = {
        "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: %s}",
        "{apiVersion: v1, kind: List, items: [{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {template: {spec: %s}}}]}",
        "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: x}, spec: {template: {spec: %s}}}",
        "{apiVersion: batch/v1, kind: Job, metadata: {name: x}, spec: {template: {spec: %s}}}",
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: x}, spec: {template: {spec: %s}}}",
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: x}, spec: {template: {spec: %s}}}",
        "{apiVersion: v1, kind: ReplicationController, metadata: {name: x}, spec: {template: {spec: %s}}}",
        "{apiVersion: v1, kind: PodTemplate, metadata: {name: x}, template: {spec: %s}}",
        "{apiVersion: batch/v1, kind: CronJob, metadata: {name: x}, spec: {jobTemplate: {spec: {template: {spec: %s}}}}}",
    };
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (size_t i = 0; i < ARRAY_LEN(specs); i++)
            assert_int_equal(read_pod(kinds[k], specs[i]), -EPERM);
        assert_int_equal(read_pod(kinds[k], "{containers: [{name: c, image: i}]}"), 0);
    }
}

UNIT_TEST(policy_refuses_foreign_addresses) {
    assert_int_equal(read_manifest("{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {externalIPs: [192.0.2.1], ports: [{port: 1}]}}"),
                     -EPERM);
    assert_int_equal(read_manifest("{apiVersion: v1, kind: Endpoints, metadata: {name: x}, subsets: [{addresses: [{ip: 10.0.0.1}]}]}"), -EPERM);
    assert_int_equal(read_manifest("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: x}, addressType: IPv4, endpoints: []}"),
                     -EPERM);
    assert_int_equal(read_manifest("{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: 1}]}}"), 0);
}

UNIT_TEST(policy_refuses_what_is_the_administrators) {
    assert_int_equal(read_manifest("{apiVersion: v1, kind: ResourceQuota, metadata: {name: x}, spec: {hard: {pods: '100'}}}"), -EPERM);
    assert_int_equal(read_manifest("{apiVersion: v1, kind: LimitRange, metadata: {name: x}, spec: {limits: [{type: Pod}]}}"), -EPERM);
    assert_int_equal(read_manifest("{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: x}, revision: 1, data: {spec: {}}}"), -EPERM);
    assert_int_equal(read_manifest("{apiVersion: v1, kind: PersistentVolume, metadata: {name: x}, spec: {hostPath: {path: /}}}"), -EINVAL);
}

UNIT_TEST(policy_allows_what_is_usual) {
    static const char spec[] = "{securityContext: {runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}, volumes: [{name: v, emptyDir: {}}], "
                               "containers: [{name: c, image: i, ports: [{containerPort: 80}], securityContext: {privileged: false, "
                               "capabilities: {add: [NET_BIND_SERVICE], drop: [ALL]}}}]}";
    assert_int_equal(read_pod("{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: %s}", spec), 0);
}

/* A new kind with pods in it must not slip through. */
UNIT_TEST(policy_knows_every_kind) {
    static const char *const known[] = {"StatefulSet",
                                        "DaemonSet",
                                        "CronJob",
                                        "ReplicationController",
                                        "PodTemplate",
                                        "ControllerRevision",
                                        "LimitRange",
                                        "ResourceQuota",
                                        "PersistentVolumeClaim",
                                        "NetworkPolicy",
                                        "PodDisruptionBudget",
                                        "Role",
                                        "RoleBinding",
                                        "CSIStorageCapacity",
                                        "HorizontalPodAutoscaler",
                                        "Pod",
                                        "Deployment",
                                        "ReplicaSet",
                                        "Job",
                                        "Service",
                                        "Endpoints",
                                        "EndpointSlice",
                                        "ConfigMap",
                                        "Secret",
                                        "ServiceAccount",
                                        "Event",
                                        "Ingress",
                                        "Lease",
                                        "PodMetrics"};
    for (size_t i = 0; i < kube_kinds_count(); i++) {
        bool found = !kube_kind_at(i)->namespaced;
        for (size_t k = 0; k < ARRAY_LEN(known); k++)
            found |= strcmp(known[k], kube_kind_at(i)->kind) == 0;
        if (!found)
            fail_msg("%s is new: does it make pods? see kube_pod_spec_of()", kube_kind_at(i)->kind);
    }
}

UNIT_MAIN(UNIT(policy_knows_every_kind), UNIT(policy_refuses_what_reaches_the_host), UNIT(policy_refuses_foreign_addresses),
          UNIT(policy_refuses_what_is_the_administrators), UNIT(policy_allows_what_is_usual))
