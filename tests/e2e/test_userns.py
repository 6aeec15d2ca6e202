"""Pods with users of their own (hostUsers: false): root inside is nobody outside."""

import json
import os
import pathlib
import signal
import subprocess

import pytest

import images
from conftest import wait_for

STAY = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


def pod(name, command=None, volumes=(), **spec):
    """Volumes: (name, volume, path)."""
    container = {"name": "c", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "command": command or STAY,
                 "volumeMounts": [{"name": key, "mountPath": path} for key, _, path in volumes]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "hostUsers": False, "volumes": [{"name": key, **volume} for key, volume, _ in volumes],
        "containers": [{**container, **spec.pop("container", {})}], **spec}}


@pytest.fixture(scope="module")
def cluster(platform, tiny_image):
    platform.kubectl("create", "namespace", "users")

    def kubectl(*args, **options):
        return platform.kubectl("-n", "users", *args, **options)

    kubectl.platform = platform
    kubectl.apply = lambda *pods, **options: kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}), **options)
    kubectl.ready = lambda *names: kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in names))
    kubectl.read = lambda name, script: kubectl("exec", name, "--", "sh", "-c", script).stdout
    yield kubectl
    platform.kubectl("delete", "namespace", "users", "--wait=false")


def map_of(cluster, name):
    inside, outside, size = (int(word) for word in cluster.read(name, "cat /proc/self/uid_map").split())
    assert inside == 0 and size == 65536 and outside % 65536 == 0 and outside >= 1 << 20
    return outside


def test_root_inside_is_nobody_outside(cluster):
    platform = cluster.platform
    host = platform.dir / "users"
    host.mkdir()
    host.chmod(0o777)
    (host / "there").write_text("of the host")
    image = images.push(platform, "users-data", images.layer(("data", "file", (b"shown", 0o644))))
    volumes = [("empty", {"emptyDir": {}}, "/empty"), ("memory", {"emptyDir": {"medium": "Memory"}}, "/memory"), ("host", {"hostPath": {"path": str(host)}}, "/host"),
               ("map", {"configMap": {"name": "kube-root-ca.crt"}}, "/map"), ("image", {"image": {"reference": image, "pullPolicy": "IfNotPresent"}}, "/image")]
    one = pod("one", volumes=volumes, securityContext={"fsGroup": 4321})
    one["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "50m", "memory": "32Mi"}}  # Guaranteed: a score that its root may not set
    cluster.apply(one, pod("two"))
    cluster.ready("one", "two")
    base, other = map_of(cluster, "one"), map_of(cluster, "two")
    assert base != other
    uid = platform.get("-n", "users", "pod", "one")["metadata"]["uid"]
    said = cluster.read("one", "id -u; for each in /bin /etc/passwd /empty /memory /map/ca.crt /host/there /image/data /proc/self /etc/hosts; do stat -Lc %u $each; done; "
                               "stat -c %g /empty /memory; touch /empty/f /memory/f /host/f /root/f; stat -c %u /empty/f /memory/f /host/f /root/f; cat /image/data").split()
    assert said == ["0", *["0"] * 9, "4321", "4321", *["0"] * 4, "shown"], said
    folder = platform.state / "node/pods" / uid
    assert (folder / "volumes/empty/f").stat().st_uid == base and (folder / "volumes/empty").stat().st_gid == base + 4321
    assert (folder / "containers/c/0/upper/root/f").stat().st_uid == base
    assert (host / "f").stat().st_uid == 0  # mapped: what pods share looks the same to pods with and without users of their own
    assert any(_is_of(each, base) for each in os.listdir("/proc") if each.isdigit())
    assert cluster.read("one", "mount -t tmpfs n /mnt 2>/dev/null && echo REACHED; mknod /d b 254 0 2>/dev/null && echo REACHED; ls /sys/class/net").split() == ["eth0", "lo"]
    assert cluster.read("one", "nc -l -p 80 -e true & sleep 0.1; nc -w1 127.0.0.1 80 </dev/null && echo bound").strip() == "bound"
    cluster("debug", "one", "--image=busybox:latest", "--image-pull-policy=IfNotPresent", "--target=c", "-c", "looker", "--attach=false", "--", "cat", "/proc/1/cmdline")
    wait_for(lambda: "trap" in cluster("logs", "one", "-c", "looker", check=False).stdout, "an ephemeral container to see the other's processes")
    # kept by another node process
    before = platform.pids()["node"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: platform.pids()["node"] != before, "another node process")
    assert map_of(cluster, "one") == base and cluster.read("one", "ls -n /root/f | cut -c1-10").startswith("-rw-r--r--")
    cluster.apply(pod("three"))
    cluster.ready("three")
    assert map_of(cluster, "three") not in (base, other)
    run = platform.run_dir / "node/volumes" / uid
    assert run.exists()
    cluster("delete", "pod", "one", "two", "three")
    wait_for(lambda: not run.exists(), "nothing of the namespace to be left")


def _is_of(pid, base):
    try:
        return os.stat(f"/proc/{pid}").st_uid == base
    except FileNotFoundError:
        return False


def test_what_does_not_go_together(cluster):
    refused = cluster.apply(pod("bad", hostNetwork=True, hostPID=True, hostIPC=True), check=False).stderr
    for field in ("hostNetwork", "HostPID", "HostIPC"):
        assert f"spec.{field}: Forbidden: when `pod.Spec.HostUsers` is false" in refused, refused
    cluster.apply(pod("unmasked", container={"securityContext": {"procMount": "Unmasked"}, "command": [
        "sh", "-c", "grep -c ' /proc/' /proc/mounts; (echo 1 > /proc/sys/vm/panic_on_oom) 2>/dev/null && echo REACHED; true"]}))
    wait_for(lambda: cluster("get", "pod", "unmasked", "-o", "jsonpath={.status.phase}").stdout == "Succeeded", "the pod to end")
    assert cluster("logs", "unmasked").stdout.split() == ["0"]
    cluster("delete", "pod", "unmasked", "--wait=false")


def of_host(name):
    return pathlib.Path("/proc/sys", name).read_text().split()


def test_its_network_is_its_own(cluster):
    """Root inside may in the pod's network what its capabilities say, and nothing outside."""
    settings = {"net.ipv4.ip_unprivileged_port_start": "1000", "net.ipv4.ping_group_range": "5 65535", "kernel.shm_rmid_forced": "1"}
    before = [of_host(name.replace(".", "/")) for name in settings], subprocess.run(["ip", "-o", "addr"], capture_output=True, check=True).stdout
    admin = {"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}
    cluster.apply(pod("admin", container=admin, securityContext={"sysctls": [{"name": name, "value": value} for name, value in settings.items()]}), pod("plain"))
    cluster.ready("admin", "plain")
    gateway = cluster.read("admin", "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'").strip()
    said = cluster.read("admin", f"ping -c1 -W5 {gateway} | grep -c ttl=; ip addr add 10.99.0.1/32 dev lo && ping -c1 -W5 10.99.0.1 | grep -c ttl=; cd /proc/sys; "
                                 "cat net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range kernel/shm_rmid_forced; stat -c %u net/ipv4/ip_forward /dev/mqueue")
    assert said.split() == ["1", "1", "1000", "5", "65535", "1", "0", "0"], said
    assert cluster.read("plain", f"ping -c1 -W5 {gateway} | grep -c ttl=; ip addr add 10.99.0.1/32 dev lo 2>/dev/null && echo REACHED; "
                                 "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").split() == ["1", "0"]
    after = [of_host(name.replace(".", "/")) for name in settings], subprocess.run(["ip", "-o", "addr"], capture_output=True, check=True).stdout
    assert after[0] == before[0] and b"10.99.0.1" not in after[1]
    cluster("delete", "pod", "admin", "plain", "--wait=false")


@pytest.mark.parametrize("users", ["own", "host"])
def test_containers_share_their_processes(cluster, users):
    """And what keeps them together is worth nothing to one that may trace."""
    shares = pod(f"shares-{users}", container={"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}}, shareProcessNamespace=True, hostUsers=users == "host")
    shares["spec"]["containers"].append({**shares["spec"]["containers"][0], "name": "d", "command": ["sleep", "123456"]})
    cluster.apply(shares)
    cluster.ready(f"shares-{users}")
    said = cluster.read(f"shares-{users}", "cat /proc/1/cmdline; echo; cat /proc/*/cmdline | grep -c 123456; ls -A /proc/1/root/ /proc/1/fd 2>/dev/null | grep -v :$; "
                                           "grep -c eth0 /proc/1/net/dev; wc -l < /proc/1/net/dev; sed -n 's/^CapEff.//p; s/^Seccomp:.//p' /proc/1/status")
    assert said.replace("\0", "").split() == ["/pause", "1", "1", "4", "0" * 16, "2"], said
    cluster("delete", "pod", f"shares-{users}", "--wait=false")
