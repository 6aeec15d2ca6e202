"""Every kind as the real kubectl shows and checks it: columns, views of one object, words of refusals, what a second apply says."""

import yaml


def apply(platform, *documents, check=True, verb="apply"):
    return platform.kubectl(verb, "-f", "-", input=yaml.safe_dump_all(documents), check=check)


def head(platform, *arguments):
    return platform.kubectl("get", *arguments).stdout.splitlines()[0]


def document(api_version, kind, name, **rest):
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}


POD = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "none.invalid/i:1"}]}}
KINDS = [
    (document("apps/v1", "StatefulSet", "k-set", spec={"replicas": 0, "serviceName": "k", "selector": {"matchLabels": {"a": "b"}}, "template": POD}),
     "NAME READY AGE", "NAME READY AGE CONTAINERS IMAGES"),
    (document("batch/v1", "CronJob", "k-cron", spec={"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": POD["spec"]["containers"]}}}}}),
     "NAME SCHEDULE TIMEZONE SUSPEND ACTIVE LAST SCHEDULE AGE", "NAME SCHEDULE TIMEZONE SUSPEND ACTIVE LAST SCHEDULE AGE CONTAINERS IMAGES SELECTOR"),
    (document("autoscaling/v2", "HorizontalPodAutoscaler", "k-scaler", spec={"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "k-set"},
                                                                             "maxReplicas": 3}),
     "NAME REFERENCE TARGETS MINPODS MAXPODS REPLICAS AGE", None),
    (document("policy/v1", "PodDisruptionBudget", "k-budget", spec={"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}),
     "NAME MIN AVAILABLE MAX UNAVAILABLE ALLOWED DISRUPTIONS AGE", None),
    (document("networking.k8s.io/v1", "NetworkPolicy", "k-policy", spec={"podSelector": {"matchLabels": {"a": "b"}}}), "NAME POD-SELECTOR AGE", None),
    (document("rbac.authorization.k8s.io/v1", "RoleBinding", "k-binding", roleRef={"kind": "ClusterRole", "name": "view", "apiGroup": "rbac.authorization.k8s.io"},
              subjects=[{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}]),
     "NAME ROLE AGE", "NAME ROLE AGE USERS GROUPS SERVICEACCOUNTS"),
    (document("storage.k8s.io/v1", "StorageClass", "k-class", provisioner="x.org/p"),
     "NAME PROVISIONER RECLAIMPOLICY VOLUMEBINDINGMODE ALLOWVOLUMEEXPANSION AGE", None),
    (document("scheduling.k8s.io/v1", "PriorityClass", "k-priority", value=7), "NAME VALUE GLOBAL-DEFAULT AGE PREEMPTIONPOLICY", None),
    (document("networking.k8s.io/v1", "IngressClass", "k-ingress", spec={"controller": "x.org/c"}), "NAME CONTROLLER PARAMETERS AGE", None),
    (document("node.k8s.io/v1", "RuntimeClass", "k-runtime", handler="k"), "NAME HANDLER AGE", None),
    (document("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "k-bound", spec={"policyName": "p", "validationActions": ["Warn"]}),
     "NAME POLICYNAME PARAMREF AGE", None),
    (document("v1", "PersistentVolume", "k-volume", spec={"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"},
                                                         "storageClassName": "k-none"}),
     "NAME CAPACITY ACCESS MODES RECLAIM POLICY STATUS CLAIM STORAGECLASS VOLUMEATTRIBUTESCLASS REASON AGE", None),
]


def test_every_kind_is_applied_shown_and_unchanged(platform):
    documents = [entry[0] for entry in KINDS]
    assert apply(platform, *documents).stdout.count("created") == len(documents)
    again = apply(platform, *documents).stdout
    # A budget's selector is always replaced, so kubectl says "configured" of it every time.
    assert again.count("unchanged") == len(documents) - 1 and "poddisruptionbudget.policy/k-budget configured" in again, again
    assert platform.kubectl("diff", "-f", "-", input=yaml.safe_dump_all(documents)).stdout == ""  # defaults are no difference
    for entry, columns, wide in KINDS:
        kind = entry["kind"].lower()
        assert " ".join(head(platform, kind, entry["metadata"]["name"]).split()) == columns
        if wide:
            assert " ".join(head(platform, kind, entry["metadata"]["name"], "-o", "wide").split()) == wide
        assert entry["metadata"]["name"] in platform.kubectl("describe", kind, entry["metadata"]["name"]).stdout  # asks for protobuf
    platform.kubectl("delete", "-f", "-", "--wait=false", input=yaml.safe_dump_all(documents))


def test_one_object_in_two_versions(platform):
    scaler = document("autoscaling/v1", "HorizontalPodAutoscaler", "two", spec={
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 4, "targetCPUUtilizationPercentage": 60})
    apply(platform, scaler)
    assert "unchanged" in apply(platform, scaler).stdout
    newer = platform.get("horizontalpodautoscalers.v2.autoscaling", "two")
    assert newer["spec"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 60}
    platform.kubectl("patch", "horizontalpodautoscalers.v2.autoscaling", "two", "--type=merge", "-p", '{"spec":{"behavior":{"scaleDown":{"selectPolicy":"Disabled"}}}}')
    older = platform.get("horizontalpodautoscalers.v1.autoscaling", "two")
    assert '"SelectPolicy":"Disabled"' in older["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"]
    assert "cpu: <unknown>/60%" in platform.kubectl("get", "hpa", "two").stdout
    platform.kubectl("delete", "hpa", "two")
    events = document("events.k8s.io/v1", "Event", "seen", regarding={"namespace": "default", "kind": "Pod", "name": "p"}, reason="R", note="told", type="Normal",
                      action="A", reportingController="x.org/c", reportingInstance="i", eventTime="2024-01-01T00:00:00.000000Z")
    apply(platform, events, verb="create")
    assert "told" in platform.kubectl("get", "events", "--field-selector", "involvedObject.name=p").stdout
    assert "Healthy" in platform.kubectl("get", "componentstatuses").stdout


def test_refusals_in_upstreams_words(platform):
    apply(platform, document("apps/v1", "StatefulSet", "fixed", spec={"replicas": 0, "serviceName": "s", "selector": {"matchLabels": {"a": "b"}}, "template": POD}))
    changed = apply(platform, document("apps/v1", "StatefulSet", "fixed", spec={"replicas": 0, "serviceName": "t", "selector": {"matchLabels": {"a": "b"}},
                                                                               "template": POD}), check=False)
    assert "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template'" in changed.stderr
    platform.kubectl("delete", "statefulset", "fixed")
    schedule = apply(platform, document("batch/v1", "CronJob", "bad", spec={"schedule": "often", "jobTemplate": {"spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": POD["spec"]["containers"]}}}}}), check=False)
    assert 'The CronJob "bad" is invalid: spec.schedule: Invalid value: "often"' in schedule.stderr
    claim = apply(platform, document("v1", "PersistentVolumeClaim", "bad", spec={}), check=False)
    assert "* spec.accessModes: Required value: at least 1 access mode is required" in claim.stderr
    assert "* spec.resources[storage]: Required value" in claim.stderr
