"""Requests and limits become control groups, weights and scores; who needs more than it may have ends as upstream says."""

import json
import os
import pathlib
import signal
import urllib.parse
import urllib.request

import pytest

from conftest import wait_for

ROOT = pathlib.Path("/sys/fs/cgroup")
V2 = (ROOT / "cgroup.controllers").exists()
SLEEP = ["/bin/sleep", "1000000"]


class Group:
    """A control group, in whichever version this machine has."""

    def __init__(self, path):
        self.path = path

    def read(self, controller, file):
        return (ROOT / ("." if V2 else controller) / self.path / file).read_text().strip()

    def exists(self):
        return (ROOT / ("." if V2 else "memory") / self.path).exists()

    def shares(self):
        return int(self.read("cpu", "cpu.weight" if V2 else "cpu.shares"))

    def quota(self):
        return self.read("cpu", "cpu.max").split()[0].replace("max", "-1") if V2 else self.read("cpu", "cpu.cfs_quota_us")

    def memory(self):
        text = self.read("memory", "memory.max" if V2 else "memory.limit_in_bytes")
        return None if text == "max" or int(text) > 2**60 else int(text)

    def pids(self):
        return self.read("pids", "pids.max")


def shares(milli):
    value = min(max(milli * 1024 // 1000, 2), 262144)
    return 1 + (value - 2) * 9999 // 262142 if V2 else value


@pytest.fixture(scope="module")
def kubectl(platform, tiny_image):
    platform.kubectl("create", "namespace", "res")
    yield lambda *args, **more: platform.kubectl("-n", "res", *args, **more)
    platform.kubectl("delete", "namespace", "res", "--wait=false")


def container(name="main", command=SLEEP, **more):
    return {"name": name, "image": "busybox:latest", "command": command, **more}


def resources(requests=None, limits=None):
    return {"resources": {key: value for key, value in (("requests", requests), ("limits", limits)) if value}}


def run(kubectl, name, *containers, ready=True, **spec):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
           "spec": {"terminationGracePeriodSeconds": 0, "containers": list(containers) or [container()], **spec}}
    kubectl("apply", "-f", "-", input=json.dumps(pod))
    if ready:
        kubectl("wait", "--for=condition=ready", f"pod/{name}", "--timeout=60s")
    return get(kubectl, name)


def get(kubectl, name):
    return json.loads(kubectl("get", "pod", name, "-o", "json").stdout)


def pid_of(platform, pod, name="main"):
    identity = next(s for s in pod["status"]["containerStatuses"] + pod["status"].get("initContainerStatuses", []) if s["name"] == name)["containerID"].split("//")[1]
    return int((platform.run_dir / "node" / "containers" / identity / "pid").read_text())


def group_of(platform, pod, name="main"):
    """The container's group and its pod's, as the kernel tells it."""
    for line in pathlib.Path(f"/proc/{pid_of(platform, pod, name)}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if (V2 and not controllers) or "memory" in controllers.split(","):
            return Group(path.lstrip("/")), Group(path.lstrip("/").rsplit("/", 1)[0])
    raise AssertionError("no group")


def score(platform, pod, name="main"):
    return int(pathlib.Path(f"/proc/{pid_of(platform, pod, name)}/oom_score_adj").read_text())


def may_protect():
    """Whether root may give anybody a score below zero: not on every rented machine."""
    bounding = next(int(line.split()[1], 16) for line in open("/proc/self/status") if line.startswith("CapBnd"))
    return bool(bounding >> 24 & 1)


def tier(platform, name):
    return Group(f"tidemill-{platform.name}/pods{name}")


def test_requests_and_limits_are_kept_by_the_kernel(platform, kubectl):
    pod = run(kubectl, "burstable", container(**resources({"cpu": "250m", "memory": "32Mi"}, {"cpu": "500m", "memory": "64Mi"})),
              container("second", **resources({"cpu": "100m"}, {"cpu": "200m", "memory": "16Mi"})),
              initContainers=[container("large", ["/bin/true"], **resources({"cpu": "10m"}, {"cpu": "900m", "memory": "8Mi"}))])
    one, whole = group_of(platform, pod)
    assert (one.shares(), one.quota(), one.memory(), one.pids()) == (shares(250), "50000", 64 << 20, "4096")
    assert (whole.shares(), whole.quota(), whole.memory()) == (shares(350), "90000", 80 << 20)  # the init container's CPU is more than both of the others'
    if not V2:
        assert one.read("memory", "memory.memsw.limit_in_bytes") == str(64 << 20)
    assert pod["status"]["qosClass"] == "Burstable" and "/burstable/" in whole.path
    total = next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    assert score(platform, pod) == min(999, 1000 - 1000 * (32 << 20) // total)
    # A limit of the pod needs a limit of each container.
    pod = run(kubectl, "half", container(**resources({"cpu": "100m"}, {"cpu": "200m", "memory": "64Mi"})), container("second"))
    one, whole = group_of(platform, pod)
    assert (one.memory(), whole.memory(), whole.quota()) == (64 << 20, None, "-1")
    assert tier(platform, "/burstable").shares() >= shares(450)
    # Unless the pod says it as a whole; then that counts, and a container without a limit sees it.
    pod = run(kubectl, "whole", container(), container("second", **resources({"cpu": "100m"}, {"memory": "16Mi"})), **resources({"cpu": "300m"}, {"cpu": "400m", "memory": "48Mi"}))
    (one, whole), second = group_of(platform, pod), group_of(platform, pod, "second")[0]
    assert (whole.shares(), whole.quota(), whole.memory()) == (shares(300), "40000", 48 << 20) and (one.memory(), second.memory()) == (48 << 20, 16 << 20)
    assert pod["spec"]["resources"]["requests"] == {"cpu": "300m", "memory": "16Mi"}
    kubectl("delete", "pod", "burstable", "half", "whole")
    wait_for(lambda: not whole.exists(), "the groups to go")


def test_classes_differ_in_weight_and_score(platform, kubectl):
    sidecar = container("side", restartPolicy="Always", **resources({"memory": "1Mi"}))
    total = next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    large = total // 4
    pods = {
        "guaranteed": run(kubectl, "guaranteed", container(**resources({"cpu": "100m", "memory": "16Mi"}, {"cpu": "100m", "memory": "16Mi"}))),
        "besteffort": run(kubectl, "besteffort"),
        "sidecar": run(kubectl, "sidecar", container(**resources({"memory": str(large)})), initContainers=[sidecar]),
        "batch": run(kubectl, "batch", container(**resources({"cpu": "10m"}, {"cpu": "1"})), priorityClassName="tidemill-batch"),
    }
    assert {name: score(platform, pod) for name, pod in pods.items()} == {"guaranteed": -997 if may_protect() else 0, "besteffort": 1000, "sidecar": 1000 - 1000 * large // total, "batch": 1000}
    assert score(platform, pods["sidecar"], "side") == 1000 - 1000 * large // total  # as the least of those it serves
    paths = {name: group_of(platform, pod)[1].path.split("/pods")[1].rsplit("/", 1)[0] for name, pod in pods.items()}
    assert paths == {"guaranteed": "", "besteffort": "/besteffort", "sidecar": "/burstable", "batch": "/besteffort/batch"}
    kubectl("delete", "pod", *pods)


def test_builds_and_jobs_never_starve_services(platform, kubectl):
    """Two CI-like pods that take both CPUs beside a service: the service's weight is hundreds of theirs together, and so is that of one without requests."""
    for name in ("ci-1", "ci-2"):
        run(kubectl, name, container(**resources({"cpu": "10m", "memory": "16Mi"}, {"cpu": "1", "memory": "512Mi"})), priorityClassName="tidemill-batch")
    service = run(kubectl, "service", container(**resources({"cpu": "500m", "memory": "256Mi"})))
    modest = run(kubectl, "modest")
    batch = tier(platform, "/besteffort/batch")
    assert tier(platform, "/burstable").shares() >= group_of(platform, service)[1].shares() >= 15 * tier(platform, "/besteffort").shares()
    # v1 shows the weight of an idle group as 3, v2 as 0
    assert group_of(platform, modest)[1].shares() >= 30 * batch.shares() and batch.read("cpu", "cpu.idle") == "1"
    # Their memory is what services did not ask for.
    assert tier(platform, "").memory() - batch.memory() >= 256 << 20
    assert pathlib.Path(f"/proc/{pid_of(platform, service)}/oom_score_adj").read_text().strip() != "1000"
    kubectl("delete", "pod", "ci-1", "ci-2", "service", "modest")


def test_the_platform_itself_always_has_enough(platform, kubectl):
    node = json.loads(platform.kubectl("get", "node", "node1", "-o", "json").stdout)
    capacity, allocatable = (int(node["status"][key]["memory"][:-2]) * 1024 for key in ("capacity", "allocatable"))
    assert allocatable < tier(platform, "").memory() < capacity
    assert int(tier(platform, "").pids()) < int(pathlib.Path("/proc/sys/kernel/pid_max").read_text())
    if may_protect():
        assert_protected(platform, kubectl)


def assert_protected(platform, kubectl):
    scores = {role: int(pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text()) for role, pid in platform.pids().items()}
    assert all(value <= -500 for value in scores.values()), scores
    pod = run(kubectl, "small")
    conmon = (platform.run_dir / "node" / "containers" / pod["status"]["containerStatuses"][0]["containerID"].split("//")[1] / "conmon.pid").read_text()
    assert int(pathlib.Path(f"/proc/{conmon.strip()}/oom_score_adj").read_text()) <= -900
    kubectl("delete", "pod", "small")


# --- out of memory ---

def test_who_runs_out_of_memory_says_so(kubectl):
    limits = resources({"memory": "20Mi"}, {"memory": "20Mi"})
    run(kubectl, "oom", container("child", ["/bin/sh", "-c", "busybox tail /dev/zero; exit $?"], **limits),
        container("itself", ["/bin/busybox", "tail", "/dev/zero"], **limits),  # tail keeps what it reads until a line ends
        container("fine", ["/bin/sh", "-c", "exit 3"], **limits), ready=False, restartPolicy="Never")
    kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/oom", "--timeout=60s")
    ends = {s["name"]: s["state"]["terminated"] for s in get(kubectl, "oom")["status"]["containerStatuses"]}
    assert {name: (end["reason"], end["exitCode"]) for name, end in ends.items()} == {"child": ("OOMKilled", 137), "itself": ("OOMKilled", 137), "fine": ("Error", 3)}
    assert "OOMKilled" in kubectl("get", "pod", "oom").stdout
    kubectl("delete", "pod", "oom")


# --- resize ---

def resize(kubectl, name, container="main", check=True, **maps):
    patch = {"spec": {"containers": [{"name": container, "resources": maps}]}}
    return kubectl("patch", "pod", name, "--subresource=resize", "-p", json.dumps(patch), check=check)


def conditions(kubectl, name):
    return {c["type"]: (c.get("reason"), c.get("message")) for c in get(kubectl, name)["status"]["conditions"] if c["type"].startswith("PodResize")}


def events(kubectl, name):
    found = json.loads(kubectl("get", "events", "-o", "json", "--field-selector", f"involvedObject.name={name}").stdout)["items"]
    return {e["reason"]: e["message"] for e in found}


def resized(kubectl, name, requests, limits):
    def look():
        pod = get(kubectl, name)
        status = pod["status"]["containerStatuses"][0]
        return pod if status.get("resources") == {"limits": limits, "requests": requests} and status["allocatedResources"] == requests and not conditions(kubectl, name) else None
    return wait_for(look, f"{name} to be resized")


def test_a_running_container_is_resized(platform, kubectl):
    before = run(kubectl, "grow", container(**resources({"cpu": "100m", "memory": "32Mi"}, {"cpu": "200m", "memory": "64Mi"})))
    assert before["status"]["containerStatuses"][0]["allocatedResources"] == {"cpu": "100m", "memory": "32Mi"}
    resize(kubectl, "grow", requests={"cpu": "300m", "memory": "48Mi"}, limits={"cpu": "400m", "memory": "128Mi"})
    pod = resized(kubectl, "grow", {"cpu": "300m", "memory": "48Mi"}, {"cpu": "400m", "memory": "128Mi"})
    one, whole = group_of(platform, pod)
    for group in (one, whole):
        assert (group.shares(), group.quota(), group.memory()) == (shares(300), "40000", 128 << 20)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0 and pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "400m"
    told = wait_for(lambda: "ResizeCompleted" in events(kubectl, "grow") and events(kubectl, "grow"), "the events")
    assert told["ResizeStarted"] == 'Pod resize started: {"containers":[{"name":"main","resources":{"limits":{"cpu":"400m","memory":"128Mi"},"requests":{"cpu":"300m","memory":"48Mi"}}}]}'
    assert told["ResizeCompleted"].startswith("Pod resize completed: {")
    # And back, while the node is not there: it is done when it is.
    resize(kubectl, "grow", requests={"cpu": "50m", "memory": "16Mi"}, limits={"cpu": "100m", "memory": "32Mi"})
    resized(kubectl, "grow", {"cpu": "50m", "memory": "16Mi"}, {"cpu": "100m", "memory": "32Mi"})
    for group in (one, whole):
        assert (group.shares(), group.quota(), group.memory()) == (shares(50), "10000", 32 << 20)
    kubectl("delete", "pod", "grow")


def test_a_policy_restarts_the_container(kubectl):
    run(kubectl, "restart", container(resizePolicy=[{"resourceName": "memory", "restartPolicy": "RestartContainer"}, {"resourceName": "cpu", "restartPolicy": "NotRequired"}],
                                      **resources({"cpu": "10m", "memory": "16Mi"}, {"cpu": "20m", "memory": "32Mi"})), restartPolicy="OnFailure")
    resize(kubectl, "restart", requests={"cpu": "20m"}, limits={"cpu": "40m"})
    pod = resized(kubectl, "restart", {"cpu": "20m", "memory": "16Mi"}, {"cpu": "40m", "memory": "32Mi"})
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    resize(kubectl, "restart", limits={"memory": "48Mi"})
    pod = resized(kubectl, "restart", {"cpu": "20m", "memory": "16Mi"}, {"cpu": "40m", "memory": "48Mi"})
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1
    assert events(kubectl, "restart")["Killing"] == "Container main resize requires restart"
    kubectl("delete", "pod", "restart")


def test_what_cannot_be_granted_says_why(platform, kubectl):
    cpus = int(platform.get("node", "node1")["status"]["allocatable"]["cpu"])
    run(kubectl, "wish", container(**resources({"cpu": "100m", "memory": "16Mi"})))
    resize(kubectl, "wish", requests={"cpu": str(cpus + 1)})
    wait_for(lambda: conditions(kubectl, "wish"), "the refusal")
    assert conditions(kubectl, "wish")["PodResizePending"] == ("Infeasible", f"Node didn't have enough capacity: cpu, requested: {cpus + 1}000, capacity: {cpus}000")
    pod = get(kubectl, "wish")
    assert {c["observedGeneration"] for c in pod["status"]["conditions"]} == {pod["metadata"]["generation"], pod["status"]["observedGeneration"]} == {2}
    run(kubectl, "room", container(**resources({"cpu": f"{cpus * 1000 - 600}m"})))  # an infeasible wish takes no room
    resize(kubectl, "wish", requests={"cpu": "1"})
    wait_for(lambda: conditions(kubectl, "wish").get("PodResizePending", [""])[0] == "Deferred", "the delay")
    message = conditions(kubectl, "wish")["PodResizePending"][1]
    assert message.startswith("Node didn't have enough resource: cpu, requested: 1000, used: ") and message.endswith(f"capacity: {cpus}000")
    status = get(kubectl, "wish")["status"]["containerStatuses"][0]
    assert status["allocatedResources"]["cpu"] == status["resources"]["requests"]["cpu"] == "100m"
    # A restart of the node forgets nothing, and room that comes is used.
    before = platform.pids()["node"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: platform.pids()["node"] != before, "another node process")
    assert get(kubectl, "wish")["status"]["containerStatuses"][0]["allocatedResources"]["cpu"] == "100m"
    kubectl("delete", "pod", "room", "--wait=false")
    pod = wait_for(lambda: not conditions(kubectl, "wish") and get(kubectl, "wish"), "the room to be used")
    assert pod["status"]["containerStatuses"][0]["resources"] == {"requests": {"cpu": "1", "memory": "16Mi"}}
    assert group_of(platform, pod)[0].shares() == shares(1000)
    kubectl("delete", "pod", "wish")


def test_memory_in_use_is_not_taken_away(platform, kubectl):
    run(kubectl, "full", container(command=["/bin/sh", "-c", "(head -c 24m /dev/zero; sleep 1000000) | tail"], **resources({"memory": "16Mi"}, {"memory": "64Mi"})))
    pod = get(kubectl, "full")
    one, _ = group_of(platform, pod)
    usage = "memory.current" if V2 else "memory.usage_in_bytes"
    wait_for(lambda: int(one.read("memory", usage)) > 24 << 20, "memory to be used")
    resize(kubectl, "full", limits={"memory": "20Mi"})
    wait_for(lambda: conditions(kubectl, "full").get("PodResizeInProgress", ("",))[0] == "Error", "the refusal")
    message = conditions(kubectl, "full")["PodResizeInProgress"][1]
    assert message.startswith(f'cannot decrease memory limits: attempting to set container "main" memory limit ({20 << 20}) below current usage (')
    assert one.memory() == 64 << 20 and get(kubectl, "full")["status"]["containerStatuses"][0]["restartCount"] == 0
    resize(kubectl, "full", limits={"memory": "48Mi"})
    resized(kubectl, "full", {"memory": "16Mi"}, {"memory": "48Mi"})
    kubectl("delete", "pod", "full")


def test_what_a_resize_may_not_change(kubectl):
    run(kubectl, "strict", container(**resources({"cpu": "10m", "memory": "16Mi"}, {"cpu": "20m", "memory": "32Mi"})))
    run(kubectl, "open", container(**resources({"cpu": "10m", "memory": "16Mi"})))

    def refused(words, name="strict", **maps):
        error = resize(kubectl, name, check=False, **maps).stderr
        assert words in error, error

    refused("spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing", requests={"cpu": "20m", "memory": "32Mi"})
    refused("spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed", "open", requests={"cpu": None})
    refused("spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed", limits={"memory": None})
    refused("spec: Forbidden: only cpu and memory resources are mutable", limits={"ephemeral-storage": "1Gi"})
    refused("spec.containers[0].resources.requests: Invalid value: \"50m\": must be less than or equal to cpu limit of 20m", requests={"cpu": "50m"})
    error = kubectl("patch", "pod", "strict", "-p", '{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"15m"}}}]}}', check=False).stderr
    assert "spec: Forbidden: pod updates may not change fields other than" in error
    kubectl("patch", "pod", "strict", "--subresource=resize", "-p", '{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"main","image":"other","resources":{"requests":{"cpu":"15m"}}}]}}')
    pod = get(kubectl, "strict")  # the rest was dropped in silence
    assert pod["spec"]["containers"][0]["image"] == "busybox:latest" and "labels" not in pod["metadata"]
    assert pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "15m"
    kubectl("delete", "pod", "strict", "open")


def test_a_quota_bounds_what_grows(kubectl):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "cap"}, "spec": {"hard": {"requests.cpu": "100m"}}}
    kubectl("apply", "-f", "-", input=json.dumps(quota))
    wait_for(lambda: json.loads(kubectl("get", "quota", "cap", "-o", "json").stdout).get("status", {}).get("used"), "the quota to be counted")
    run(kubectl, "bounded", container(**resources({"cpu": "60m"})))
    assert "exceeded quota: cap, requested: requests.cpu=60m, used: requests.cpu=60m, limited: requests.cpu=100m" in resize(kubectl, "bounded", check=False, requests={"cpu": "120m"}).stderr
    resize(kubectl, "bounded", requests={"cpu": "90m"})
    wait_for(lambda: json.loads(kubectl("get", "quota", "cap", "-o", "json").stdout)["status"]["used"]["requests.cpu"] == "90m", "the quota to follow")
    kubectl("delete", "pod", "bounded")
    kubectl("delete", "quota", "cap")


# --- what is used ---

def page(platform, path):
    return platform.kubectl("get", "--raw", f"/api/v1/nodes/node1/proxy{path}").stdout


def series(text, name, **labels):
    """{labels as text: value} of a family."""
    found = {}
    for line in text.splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            found[line[len(name):line.rindex("}") + 1]] = float(line[line.rindex("}") + 1:].split()[0])
    return found


@pytest.fixture
def busy(kubectl):
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}
    kubectl("apply", "-f", "-", input=json.dumps(claim))
    yield run(kubectl, "busy", container(command=["/bin/sh", "-c", "dd if=/dev/zero of=/data/file bs=1M count=3 2>/dev/null; dd if=/dev/zero of=/layer bs=1M count=2 2>/dev/null; "
                                                  "echo said; busybox httpd -p 7000 -h /data; while :; do :; done"],
                                         volumeMounts=[{"name": "data", "mountPath": "/data"}], readinessProbe={"exec": {"command": ["/bin/busybox", "test", "-e", "/layer"]}, "periodSeconds": 1},
                                         **resources({"cpu": "50m", "memory": "16Mi"}, {"cpu": "100m", "memory": "64Mi"})), volumes=[{"name": "data", "emptyDir": {}}, {"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}])
    kubectl("delete", "pod", "busy")
    kubectl("delete", "pvc", "kept")


def test_what_is_used_is_told_in_kubelets_names(platform, kubectl, busy):
    mine = {"namespace": "res", "pod": "busy"}

    def value(text, name, **labels):
        found = series(text, name, **mine, **labels)
        assert len(found) == 1, (name, found)
        return next(iter(found.values()))

    def throttled():
        text = page(platform, "/metrics/cadvisor")
        return value(text, "container_cpu_cfs_throttled_periods_total", container="main") > 0 and text

    text = wait_for(throttled, "the quota to bite")
    uid, identity = busy["metadata"]["uid"], busy["status"]["containerStatuses"][0]["containerID"].split("//")[1]
    labels, used = next(iter(series(text, "container_cpu_usage_seconds_total", container="main", **mine).items()))
    assert used > 0 and f'id="/tidemill-{platform.name}/pods/burstable/pod{uid}/{identity}"' in labels
    assert f'image="busybox:latest",name="{identity}"' in labels and 'cpu="total"' in labels
    assert value(text, "container_cpu_usage_seconds_total", container="") >= used * 0.9
    working, usage = (value(text, f"container_memory_{name}_bytes", container="main") for name in ("working_set", "usage"))
    assert 0 < working <= usage <= 64 << 20
    assert value(text, "container_spec_memory_limit_bytes") == 64 << 20 and value(text, "container_spec_cpu_quota") == 10000
    assert value(text, "container_processes") >= 2 and value(text, "container_oom_events_total") == 0
    assert value(text, "container_start_time_seconds") > 1.7e9
    kubectl("run", "caller", "--image=busybox:latest", "--restart=Never", "--command", "--", "/bin/busybox", "wget", "-qO", "/dev/null", f"http://{busy['status']['podIP']}:7000/file")

    def traffic(way):
        return value(page(platform, "/metrics/cadvisor"), f"container_network_{way}_bytes_total", interface="eth0")

    wait_for(lambda: traffic("transmit") > 3 << 20, "what was sent to be counted")
    assert 0 < traffic("receive") < traffic("transmit") // 4
    text = page(platform, "/metrics/resource")
    assert value(text, "container_cpu_usage_seconds_total", container="main") > 0 and value(text, "pod_memory_working_set_bytes") > 0
    assert "resource_scrape_error 0" in text and "\nnode_cpu_usage_seconds_total " in text
    assert value(page(platform, "/metrics/probes"), "prober_probe_total", probe_type="Readiness", result="successful") >= 1
    text = page(platform, "/metrics")
    room = series(text, "kubelet_volume_stats_available_bytes", namespace="res", persistentvolumeclaim="kept")
    assert "kubelet_running_pods " in text and list(room.values())[0] > 0
    kubectl("delete", "pod", "caller")


def test_the_summary_is_whole(platform, kubectl, busy):
    summary = json.loads(page(platform, "/stats/summary"))
    pod = next(p for p in summary["pods"] if p["podRef"]["name"] == "busy")
    main = pod["containers"][0]
    assert main["rootfs"]["usedBytes"] >= 2 << 20 and main["logs"]["usedBytes"] > 0 and main["memory"]["availableBytes"] > 0
    volumes = {v["name"]: v for v in pod["volume"]}
    assert volumes["data"]["usedBytes"] >= 3 << 20 and volumes["kept"]["pvcRef"] == {"name": "kept", "namespace": "res"}
    assert pod["ephemeral-storage"]["usedBytes"] >= 5 << 20 and pod["process_stats"]["process_count"] >= 2
    assert pod["network"]["name"] == "eth0" and pod["network"]["rxBytes"] > 0
    assert summary["node"]["fs"]["capacityBytes"] > summary["node"]["fs"]["usedBytes"] > 0 and summary["node"]["runtime"]["imageFs"]
    brief = json.loads(page(platform, "/stats/summary?only_cpu_and_memory=true"))
    assert "network" not in next(p for p in brief["pods"] if p["podRef"]["name"] == "busy")
    rows = kubectl("top", "pod", "busy", "--containers", "--no-headers").stdout.split()
    assert rows[:2] == ["busy", "main"] and int(rows[2].rstrip("m")) >= 50 and rows[3].endswith("Mi")
    assert platform.kubectl("top", "node", "--no-headers").stdout.startswith("node1 ")

    def kept(name):
        query = urllib.parse.urlencode({"query": name + '{namespace="res",pod="busy",job="cadvisor"}'})
        with urllib.request.urlopen(f"http://127.0.0.1:{platform.monitor_port}/api/v1/query?{query}", timeout=30) as answer:
            return {each["metric"].get("container", ""): float(each["value"][1]) for each in json.load(answer)["data"]["result"]}

    wait_for(lambda: kept("container_network_transmit_bytes_total").get("", 0) > 0, "what is used to be kept", interval=0.2)
    assert kept("container_memory_working_set_bytes").keys() == {"", "main"} and not kept("container_memory_rss")


def test_pods_of_an_earlier_version_stay_where_they_are(platform, kubectl):
    """Its tree had no classes: /tidemill-x/pod<uid>/<container>."""
    before = run(kubectl, "old", container(**resources({"cpu": "100m"})))
    (one, whole), uid = group_of(platform, before), before["metadata"]["uid"]
    assert platform.down().returncode == 0
    trees = [ROOT] if V2 else [tree for tree in ROOT.iterdir() if (tree / one.path).exists()]
    for tree in trees:
        folder = tree / f"tidemill-{platform.name}" / f"pod{uid}"
        for made in (folder, folder / pathlib.Path(one.path).name):
            made.mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):
                if not V2 and (made / file).exists():
                    (made / file).write_text((made.parent / file).read_text())
            if V2 and made == folder:
                (made / "cgroup.subtree_control").write_text("+cpu +memory +pids")
        for pid in (tree / one.path / "cgroup.procs").read_text().split():
            (made / "cgroup.procs").write_text(pid)
        (tree / one.path).rmdir()
        (tree / whole.path).rmdir()
    platform.up()
    wait_for(lambda: kubectl("get", "pod", "old", check=False).returncode == 0, "the API")
    pod = get(kubectl, "old")
    assert pod["status"]["containerStatuses"][0]["containerID"] == before["status"]["containerStatuses"][0]["containerID"]
    moved, parent = group_of(platform, pod)
    assert parent.path == f"tidemill-{platform.name}/pod{uid}"
    resize(kubectl, "old", requests={"cpu": "200m"})
    wait_for(lambda: moved.shares() == shares(200) and parent.shares() == shares(200), "the resize")
    kubectl("delete", "pod", "old")
    wait_for(lambda: not parent.exists(), "the old group to go")
