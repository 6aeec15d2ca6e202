"""The Node object and its lease, as a kubelet keeps them."""

import datetime
import json
import os
import pathlib
import platform as machine

from conftest import wait_for

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def age(text):
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(text)).total_seconds()


def test_the_node_says_what_it_is(platform):
    node = platform.get("node", "node1")
    status, info = node["status"], node["status"]["nodeInfo"]
    assert info["architecture"] == ARCHITECTURES[machine.machine()] == node["metadata"]["labels"]["kubernetes.io/arch"]
    assert info["kernelVersion"] == os.uname().release and info["bootID"]
    assert info["systemUUID"] or not any(pathlib.Path(path).exists() for path in ("/etc/machine-id", "/sys/class/dmi/id/product_uuid"))
    for kind in ("capacity", "allocatable"):
        assert {"cpu", "memory", "ephemeral-storage", "pods"} <= set(status[kind]), status[kind]
    assert int(status["allocatable"]["ephemeral-storage"]) < int(status["capacity"]["ephemeral-storage"].removesuffix("Ki")) * 1024
    assert [each["type"] for each in status["conditions"]] == ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]


def test_its_heartbeat_is_told_and_not_written(platform):
    described = platform.kubectl("describe", "node", "node1").stdout
    assert "Failed to get lease" not in described and "HolderIdentity:  node1" in described, described
    lease = platform.get("lease", "-n", "kube-node-lease", "node1")
    assert lease["spec"]["holderIdentity"] == "node1" and lease["spec"]["leaseDurationSeconds"] == 40
    assert lease["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert age(lease["spec"]["renewTime"]) < 40
    for condition in platform.get("node", "node1")["status"]["conditions"]:
        assert age(condition["lastHeartbeatTime"]) < 40


def test_what_it_cannot_run_is_refused(platform, tiny_image):
    def pod(name, container={}, **spec):
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "nodeName": "node1", "terminationGracePeriodSeconds": 0, "restartPolicy": "Never", **spec, "containers": [
                {"name": "c", "image": "busybox:latest", "command": ["env"], "envFrom": [{"prefix": "1-", "configMapRef": {"name": "any"}}], **container}]}}

    def runtime_class(name):
        return {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name}

    platform.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "any"}, "data": {"2.3": "x"}},
        runtime_class("runc"), runtime_class("kata"), pod("foreign", os={"name": "windows"}), pod("huge", {"resources": {"requests": {"cpu": "1M"}}}),
        pod("plain", runtimeClassName="runc"), pod("sandboxed", runtimeClassName="kata")]}))
    status = lambda name: platform.get("pod", name)["status"]
    for name, reason in [("foreign", "PodOSNotSupported"), ("huge", "OutOfcpu")]:
        refused = wait_for(lambda: (found := status(name))["phase"] == "Failed" and found, f"{name} to be refused")
        assert refused["reason"] == reason and "containerStatuses" not in refused, refused
    assert "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000000, used: " in refused["message"]
    wait_for(lambda: status("plain")["phase"] == "Succeeded", "the pod of the runtime that is here")
    assert "\n1-2.3=x\n" in platform.kubectl("logs", "plain").stdout  # any key may be a variable's name
    wait_for(lambda: 'Failed to create pod sandbox: no runtime for "kata" is configured' in platform.kubectl("describe", "pod", "sandboxed").stdout, "the event")
    assert status("sandboxed")["phase"] == "Pending"
    listed = lambda path: [each["metadata"]["name"] for each in json.loads(platform.kubectl("get", "--raw", f"/api/v1/nodes/node1:10250/proxy/{path}/").stdout)["items"]]
    assert {"foreign", "huge", "sandboxed"} <= set(listed("pods")) and not {"plain", "sandboxed"} & set(listed("runningpods"))
    platform.kubectl("delete", "pod/foreign", "pod/huge", "pod/plain", "pod/sandboxed", "runtimeclass/runc", "runtimeclass/kata", "configmap/any")


def test_its_images_are_listed(platform, tiny_image):
    os.kill(platform.pids()["node"], 15)  # they are read when the node registers
    images = lambda: {name: image["sizeBytes"] for image in platform.get("node", "node1")["status"].get("images", []) for name in image["names"]}
    told = wait_for(lambda: (found := images()) and tiny_image in found and found, "the image to be listed")
    assert told[tiny_image] > 100_000
    assert any(name.startswith("busybox@sha256:") for name in told)


def test_what_a_claim_holds_is_told(platform, tiny_image):
    platform.kubectl("apply", "-f", "-", input="""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: held}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: holder}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "busybox:latest", command: [sh, -c, "dd if=/dev/zero of=/data/x bs=1M count=3; touch /full; sleep 1000"], volumeMounts: [{name: v, mountPath: /data}],
     readinessProbe: {exec: {command: [test, -e, /full]}, periodSeconds: 1}}
  volumes: [{name: v, persistentVolumeClaim: {claimName: held}}]
""")
    platform.kubectl("wait", "--for=condition=Ready", "pod/holder", "--timeout=60s")
    summary = json.loads(platform.kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary").stdout)
    holder = next(each for each in summary["pods"] if each["podRef"]["name"] == "holder")
    (volume,) = [each for each in holder["volume"] if "pvcRef" in each]
    assert volume["pvcRef"] == {"name": "held", "namespace": "default"} and volume["name"] == "v"
    assert 3 << 20 <= volume["usedBytes"] < 4 << 20 and volume["capacityBytes"] > volume["availableBytes"] > 0
    assert holder["ephemeral-storage"]["usedBytes"] < 1 << 20  # it is no part of what the pod takes for itself
    platform.kubectl("delete", "pod/holder", "pvc/held")
