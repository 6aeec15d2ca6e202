"""What only a machine of its own can show: the package under systemd, beside its slices, with cgroup v2 and AppArmor.

`make vm` installs the package in a virtual machine and runs this in there; test_rebooted.py comes after a restart of that machine."""

import json
import os
import pathlib
import subprocess
import time

import pytest

TREE = pathlib.Path(__file__).resolve().parents[2]
KUBECTL = TREE / "build/tools/kubectl"
RUN = pathlib.Path("/run/tidemill")
CGROUPS = pathlib.Path("/sys/fs/cgroup")
SLEEP = ["/bin/sleep", "1000000"]


def wait_for(condition, what, timeout=600):
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.2)


def call(*command, check=True, input=None):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, input=input)
    assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result


def kubectl(*words, **more):
    return call(KUBECTL, "--kubeconfig", "/var/lib/tidemill/kubeconfig", *words, **more)


def get(*words):
    return json.loads(kubectl("get", *words, "-o", "json").stdout)


def container(command=None, **more):
    return {"name": "main", "image": "busybox:latest", "command": command or SLEEP, **more}


def pod(name, main=None, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [main or container()], **spec}}


def apply(*objects):
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def ready(*names):
    kubectl("wait", "--for=condition=Ready", "--timeout=600s", *(f"pod/{name}" for name in names))


def status(name):
    return get("pod", name)["status"]["containerStatuses"][0]


def pid(name):
    return int((RUN / "node/containers" / status(name)["containerID"].split("//")[1] / "pid").read_text())


def group(name):
    return CGROUPS / pathlib.Path(f"/proc/{pid(name)}/cgroup").read_text().strip().split("::/")[1]


def inside(name, line):
    return kubectl("exec", name, "--", "/bin/sh", "-c", line, check=False)


def unit(key):
    return call("systemctl", "show", "--value", "-p", key, "tidemill").stdout.strip()


LIMITS = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}


@pytest.fixture(scope="module", autouse=True)
def stayed():
    """Pods that are there throughout, and through the restart of the machine."""
    wait_for(lambda: call("tidemill", "status", check=False).returncode == 0, "the platform")
    call("tidemill", "image", "bootstrap", "busybox:latest", "--include", "busybox-static")
    once = pod("once", container(["/bin/true"]), restartPolicy="Never")
    apply(pod("limited", container(resources=LIMITS)), pod("users", hostUsers=False), once)
    ready("limited", "users")


def test_the_unit_runs_and_begins_with_the_machine():
    assert (unit("ActiveState"), unit("UnitFileState"), unit("Delegate"), unit("KillMode")) == ("active", "enabled", "yes", "process")


def test_limits_are_the_kernels():
    one = group("limited")
    assert [(one / file).read_text().strip() for file in ("memory.max", "memory.oom.group", "cpu.max", "pids.max")] == [str(64 << 20), "1", "20000 100000", "4096"]
    whole = one.parent
    assert whole.parent.name == "burstable" and (whole / "memory.max").read_text().strip() == str(64 << 20)
    assert set((CGROUPS / "cgroup.subtree_control").read_text().split()) >= {"cpu", "memory", "pids", "io", "cpuset"}


def test_who_is_out_of_memory_ends_as_a_whole():
    apply(pod("oom", container(["/bin/sh", "-c", "sleep 1000 & busybox tail /dev/zero; sleep 1000"], resources={"limits": {"memory": "24Mi"}}), restartPolicy="Never"))
    end = wait_for(lambda: status("oom")["state"].get("terminated") if get("pod", "oom")["status"].get("containerStatuses") else None, "the kernel to kill")
    assert (end["reason"], end["exitCode"]) == ("OOMKilled", 137)
    kubectl("delete", "pod", "oom")


def test_apparmor_confines():
    """The profile is loaded by the node; a container and what enters it run under it, and it denies what the other fences would not."""
    assert "tidemill-default (enforce)" in pathlib.Path("/sys/kernel/security/apparmor/profiles").read_text()
    assert pathlib.Path(f"/proc/{pid('limited')}/attr/current").read_text().strip("\0\n") == "tidemill-default (enforce)"
    assert inside("limited", "cat /proc/self/attr/current").stdout.strip() == "tidemill-default (enforce)"
    assert pathlib.Path(f"/proc/{pid('users')}/attr/current").read_text().strip("\0\n") == "tidemill-default (enforce)"
    # Root with every capability but this profile; then without it.
    all_of_it = {"capabilities": {"add": ["ALL"]}, "seccompProfile": {"type": "Unconfined"}}
    apply(pod("strong", container(securityContext=all_of_it)), pod("free", container(securityContext={**all_of_it, "appArmorProfile": {"type": "Unconfined"}})))
    ready("strong", "free")
    assert pathlib.Path(f"/proc/{pid('free')}/attr/current").read_text().strip("\0\n") == "unconfined"
    denied = inside("strong", "mkdir -p /mnt && busybox mount -t tmpfs none /mnt")
    assert denied.returncode != 0 and "denied" in denied.stderr.lower(), denied
    assert inside("free", "mkdir -p /mnt && busybox mount -t tmpfs none /mnt").returncode == 0
    assert inside("strong", "echo x > /file && kill -0 1 && cat /proc/1/environ && (sleep 100 & kill $!)").returncode == 0  # and nothing that is everyday
    kubectl("delete", "pod", "strong", "free")


def test_a_profile_of_ones_own(tmp_path):
    """Localhost waits until somebody has loaded it, by the field as by the old annotation."""
    name = "tidemill-test-no-writes"
    field = pod("local", container(securityContext={"appArmorProfile": {"type": "Localhost", "localhostProfile": name}}))
    old = pod("annotated")
    old["metadata"]["annotations"] = {"container.apparmor.security.beta.kubernetes.io/main": f"localhost/{name}"}
    apply(field, old)
    for each in ("local", "annotated"):
        waiting = wait_for(lambda: status(each)["state"].get("waiting", {}).get("message") and status(each)["state"]["waiting"], "a refusal")
        assert waiting == {"reason": "CreateContainerError", "message": f"failed to get container spec opts: failed to generate apparmor spec opts: apparmor profile not found {name}"}
    profile = tmp_path / name
    profile.write_text(f"profile {name} flags=(attach_disconnected) {{\n  file,\n  signal,\n  deny /** w,\n}}\n")
    call("apparmor_parser", "--replace", "--skip-cache", profile)
    try:
        ready("local", "annotated")
        assert "denied" in inside("local", "echo x > /file").stderr.lower()
        assert pathlib.Path(f"/proc/{pid('annotated')}/attr/current").read_text().strip("\0\n") == f"{name} (enforce)"
    finally:
        kubectl("delete", "pod", "local", "annotated")
        call("apparmor_parser", "--remove", profile)


def test_a_pods_own_users():
    """Overlay on mapped layers: kernels before 6.15 want them in the mount tree."""
    assert pathlib.Path(f"/proc/{pid('users')}/uid_map").read_text().split()[1] != "0"
    assert inside("users", "id -u && touch /file && stat -c %u /file /bin/busybox").stdout.split() == ["0", "0", "0"]


def test_systemd_and_the_pods_leave_each_other_alone():
    before, node = pid("limited"), (RUN / "supervisor.state").read_text()
    slices = {path.name for path in CGROUPS.iterdir() if path.is_dir() and not path.name.startswith("tidemill")}
    controllers = (group("limited") / "cgroup.controllers").read_text()
    call("systemctl", "daemon-reload")
    call("systemctl", "daemon-reexec")
    assert call("systemd-run", "--wait", "--quiet", "-p", "MemoryMax=64M", "-p", "CPUQuota=50%", "/bin/true").returncode == 0
    call("systemctl", "restart", "tidemill")
    wait_for(lambda: (RUN / "supervisor.state").exists() and (RUN / "supervisor.state").read_text() != node and call("tidemill", "status", check=False).returncode == 0, "the platform")
    wait_for(lambda: status("limited")["restartCount"] == 0 and inside("limited", "true").returncode == 0, "the pod to be taken over")
    assert pid("limited") == before and os.path.exists(f"/proc/{before}")
    assert (group("limited") / "memory.max").read_text().strip() == str(64 << 20) and (group("limited") / "cgroup.controllers").read_text() == controllers
    assert {path.name for path in CGROUPS.iterdir() if path.is_dir() and not path.name.startswith("tidemill")} == slices
    assert call("systemctl", "is-system-running", check=False).stdout.strip() == "running", call("systemctl", "--failed").stdout
