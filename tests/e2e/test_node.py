"""The Node object and its lease, as a kubelet keeps them."""

import datetime
import os
import platform as machine

from conftest import wait_for

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def age(text):
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(text)).total_seconds()


def test_the_node_says_what_it_is(platform):
    node = platform.get("node", "node1")
    status, info = node["status"], node["status"]["nodeInfo"]
    assert info["architecture"] == ARCHITECTURES[machine.machine()] == node["metadata"]["labels"]["kubernetes.io/arch"]
    assert info["kernelVersion"] == os.uname().release and info["systemUUID"] and info["bootID"]
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


def test_its_images_are_listed(platform, tiny_image):
    os.kill(platform.pids()["node"], 15)  # they are read when the node registers
    images = lambda: {name: image["sizeBytes"] for image in platform.get("node", "node1")["status"].get("images", []) for name in image["names"]}
    told = wait_for(lambda: (found := images()) and tiny_image in found and found, "the image to be listed")
    assert told[tiny_image] > 100_000
    assert any(name.startswith("busybox@sha256:") for name in told)
