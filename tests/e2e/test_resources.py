"""Requests and limits become control groups, weights and scores; who needs more than it may have ends as upstream says."""

import json
import pathlib

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
    kubectl("delete", "pod", "burstable", "half")
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
