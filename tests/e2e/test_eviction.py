"""When the machine runs short: conditions and taints are told, unused things go first, then the pod that takes most; who would not be missed stays."""

import contextlib
import json
import os
import pathlib
import shutil

import pytest

from conftest import Platform, small_disk, wait_for

pytestmark = pytest.mark.alone  # memory runs short

MIB = 1 << 20


def pod(name, script, volumes="", resources="{}", more=""):
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {more}
  containers:
  - name: c
    image: busybox:latest
    imagePullPolicy: Never
    command: [sh, -c, {script!r}]
    resources: {resources}
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, emptyDir: {{{volumes}}}}}]
---
"""


STEADY = pod("steady", "while true; do sleep 1; done")


def condition(platform, name):
    return next(c for c in platform.get("node", "node1")["status"]["conditions"] if c["type"] == name)


def taints(platform):
    return {taint["key"] for taint in platform.get("node", "node1")["spec"].get("taints", [])}


def status(platform, name):
    return platform.get("pod", name)["status"]


def check_evicted(platform, name, resource):
    told = wait_for(lambda: (s := status(platform, name))["phase"] == "Failed" and s, f"{name} to be evicted", timeout=40)
    assert told["reason"] == "Evicted"
    assert told["message"].startswith(f"The node was low on resource: {resource}. Threshold quantity: "), told
    assert f", request is 0, has larger consumption of {resource}. " in told["message"], told
    disruption = next(c for c in told["conditions"] if c["type"] == "DisruptionTarget")
    assert (disruption["status"], disruption["reason"]) == ("True", "TerminationByKubelet")
    assert disruption["message"] == told["message"]
    return told


@contextlib.contextmanager
def with_busybox(instance):
    try:
        instance.up()
        instance.bootstrap("busybox:latest", "busybox-static")
        yield instance
    except BaseException:
        print(instance.log()[-6000:])
        raise


@pytest.fixture(scope="module")
def small():
    """An instance whose state has 300 MB for itself."""
    instance = Platform("evd", 174)
    instance.flags += ["--eviction-hard", "nodefs.available<100Mi", "--eviction-pressure-transition-period", "3s",
                       "--image-gc-high-threshold", "2", "--image-gc-low-threshold", "1", "--minimum-image-ttl-duration", "0s"]
    with small_disk(instance, 300), with_busybox(instance):
        yield instance


def test_disk_pressure(small):
    small.kubectl("apply", "-f", "-", input=STEADY)
    small.kubectl("wait", "--for=condition=Ready", "pod/steady", "--timeout=30s")
    before = condition(small, "DiskPressure")
    assert (before["status"], before["reason"], before["message"]) == ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
    small.kubectl("apply", "-f", "-", input=pod("writer", "dd if=/dev/zero of=/data/x bs=1M; exec sleep 1000"))
    check_evicted(small, "writer", "ephemeral-storage")

    # The node says so for a while, and new pods are kept away; then its space is back and all is well by itself.
    told = condition(small, "DiskPressure")
    assert (told["status"], told["reason"], told["message"]) == ("True", "KubeletHasDiskPressure", "kubelet has disk pressure")
    wait_for(lambda: condition(small, "DiskPressure")["status"] == "False", "the pressure to be over")
    wait_for(lambda: "node.kubernetes.io/disk-pressure" not in taints(small), "the taint to go")
    assert status(small, "steady")["phase"] == "Running"
    assert shutil.disk_usage(small.state).free > 150 * MIB
    events = small.kubectl("describe", "node", "node1").stdout
    for text in ("EvictionThresholdMet", "Attempting to reclaim ephemeral-storage", "NodeHasDiskPressure", "NodeHasNoDiskPressure"):
        assert text in events, events
    assert "Evicted" in small.kubectl("describe", "pod", "writer").stdout
    small.kubectl("delete", "pod", "steady", "writer")


def test_pulled_images_go_when_the_disk_is_fuller_than_the_budget(small):
    registry = small.state / "registry/repositories"
    small.bootstrap("busybox:unused", "busybox-static")
    (registry / "busybox/_pulled").mkdir(exist_ok=True)
    for tag in ("latest", "unused"):
        digest = (registry / "busybox/tags" / tag).read_text().strip().split(":")[1]
        (registry / "busybox/_pulled" / digest).write_text(json.dumps({"repoDigest": f"example.com/busybox@sha256:{digest}"}))
    names = lambda: {f"{image['name']}:{image['tag']}" for image in json.loads(small.tidemill("image", "list", "-o", "json").stdout)}
    small.kubectl("apply", "-f", "-", input=pod("user", "exec sleep 1000"))
    small.kubectl("wait", "--for=condition=Ready", "pod/user", "--timeout=30s")
    assert {"busybox:latest", "busybox:unused"} <= names()

    freed = json.loads(small.tidemill("image", "prune", "-o", "json").stdout)
    assert freed["images"] == ["busybox:unused"], freed
    assert "busybox:latest" in names()
    # One percent of this disk cannot be reached: that is told, in kubelet's words.
    events = lambda: small.kubectl("get", "events", "--field-selector", "reason=FreeDiskSpaceFailed", "-o", "jsonpath={.items[*].message}").stdout
    told = wait_for(events, "the event")
    assert "Failed to garbage collect required amount of images. Attempted to free " in told, told
    assert status(small, "user")["phase"] == "Running"


@pytest.fixture(scope="module")
def low():
    assert os.geteuid() == 0, "end-to-end tests need root"
    instance = Platform("evm", 175)
    try:
        with with_busybox(instance):
            yield instance
    finally:
        instance.destroy()


def test_memory_pressure(low):
    hog = pod("hog", "dd if=/dev/zero of=/data/x bs=1M count=200; touch /tmp/full; exec sleep 1000", volumes="medium: Memory")
    kept = pod("kept", "dd if=/dev/zero of=/data/x bs=1M count=200; touch /tmp/full; exec sleep 1000", volumes="medium: Memory",
               resources="{requests: {memory: 300Mi}}")
    low.kubectl("apply", "-f", "-", input=STEADY + hog + kept)
    low.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=30s")
    for name in ("hog", "kept"):
        wait_for(lambda name=name: low.kubectl("exec", name, "--", "test", "-e", "/tmp/full", check=False).returncode == 0, f"{name} to be full")

    # The same machine, but from now on nearly everything has to stay available.
    total = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) * 1024
    low.down()
    low.flags += ["--eviction-hard", f"memory.available<{total}", "--eviction-pressure-transition-period", "1h"]
    low.up()
    told = check_evicted(low, "hog", "memory")
    assert "Container c was using 2" in told["message"], told
    pressed = condition(low, "MemoryPressure")
    assert (pressed["status"], pressed["reason"], pressed["message"]) == (
        "True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available")
    assert status(low, "steady")["phase"] == "Running"  # it takes next to nothing
    wait_for(lambda: "node.kubernetes.io/memory-pressure" in taints(low), "the taint")

    # What is bound to the node all the same is not admitted unless it asked for something.
    low.kubectl("apply", "-f", "-", input=pod("refused", "exec sleep 1000", more="nodeName: node1"))
    refused = wait_for(lambda: (s := status(low, "refused"))["phase"] == "Failed" and s, "the pod to be refused")
    assert (refused["reason"], refused["message"]) == ("Evicted", "The node had condition: [MemoryPressure]. ")
    low.kubectl("apply", "-f", "-", input=pod("taken", "exec sleep 1000", resources="{requests: {memory: 1Mi}}", more="nodeName: node1"))
    low.kubectl("wait", "--for=condition=Ready", "pod/taken", "--timeout=30s")


def evicted(platform, name, message):
    told = wait_for(lambda: (s := status(platform, name))["phase"] == "Failed" and s, f"{name} to be evicted", timeout=40)
    assert (told["reason"], told["message"]) == ("Evicted", message)


def test_storage_limits(platform, tiny_image):
    write = "dd if=/dev/zero of={} bs=1M count=4; exec sleep 1000"
    platform.kubectl(
        "apply", "-f", "-", input=pod("folder", write.format("/data/x"), volumes="sizeLimit: 1Mi")
        + pod("layer", write.format("/x"), resources="{limits: {ephemeral-storage: 2Mi}}")
        + pod("fits", write.format("/x"), resources="{limits: {ephemeral-storage: 100Mi}}", volumes="sizeLimit: 100Mi")
        + pod("memory", "dd if=/dev/zero of=/data/x bs=1M count=4; df -k /data; exec sleep 1000", volumes="medium: Memory, sizeLimit: 2Mi"))
    evicted(platform, "folder", 'Usage of EmptyDir volume "data" exceeds the limit "1Mi". ')
    evicted(platform, "layer", "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ")
    assert status(platform, "fits")["phase"] == "Running"
    # In memory it cannot be more than was given.
    wait_for(lambda: " 2048 " in platform.kubectl("logs", "memory").stdout, "the size of the folder in memory")
    assert "No space left on device" in platform.kubectl("logs", "memory").stdout
    platform.kubectl("delete", "pod", "folder", "layer", "fits", "memory")


def test_pid_pressure(low):
    def start_anew(threshold):
        low.down()
        low.flags[low.flags.index("--eviction-hard") + 1] = threshold
        low.up()

    start_anew("pid.available<1")
    low.kubectl("delete", "pod", "--all", "--wait=false")
    low.kubectl("apply", "-f", "-", input=pod("crowd", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; touch /tmp/full; wait"))
    low.kubectl("wait", "--for=condition=Ready", "pod/crowd", "--timeout=30s")
    wait_for(lambda: low.kubectl("exec", "crowd", "--", "test", "-e", "/tmp/full", check=False).returncode == 0, "the crowd")
    read = lambda path: int(pathlib.Path(path).read_text())
    most = min(read("/proc/sys/kernel/pid_max"), read("/proc/sys/kernel/threads-max"))
    running = int(pathlib.Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    start_anew(f"pid.available<{most - running + 200}")
    told = wait_for(lambda: (s := status(low, "crowd"))["phase"] == "Failed" and s, "the crowd to be evicted", timeout=40)
    assert told["reason"] == "Evicted" and told["message"].startswith("The node was low on resource: pids. Threshold quantity: "), told
    pressed = condition(low, "PIDPressure")
    assert (pressed["status"], pressed["reason"], pressed["message"]) == ("True", "KubeletHasInsufficientPID", "kubelet has insufficient PID available")
