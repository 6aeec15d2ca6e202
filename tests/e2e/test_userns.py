"""Pods with users of their own (hostUsers: false): root inside is nobody outside."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess

import pytest

import images
from conftest import KUBECTL, wait_for

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
                               "stat -c %g:%a /empty /memory; touch /empty/f /memory/f /host/f /root/f; stat -c %u /empty/f /memory/f /host/f /root/f; cat /image/data").split()
    assert said == ["0", *["0"] * 9, "4321:2777", "4321:3777", *["0"] * 4, "shown"], said
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


# What root of the machine may; each only puts back what is there.
TRIES = """exec 2>/dev/null
put_back() { cat $1 > /tmp/was && cat /tmp/was > $1 && echo REACHED $1; }
put_back /proc/sys/kernel/core_pattern; put_back /proc/sys/vm/panic_on_oom; put_back /sys/kernel/mm/transparent_hugepage/enabled
for each in /proc/sysrq-trigger /sys/power/state /sys/kernel/uevent_helper; do (: >> $each) && echo REACHED $each; done
for each in $(grep ' cgroup' /proc/mounts | cut -d' ' -f2); do mkdir $each/reached && echo REACHED $each; done
mkdir -p /c /t /s; mount -t cgroup -o memory none /c && put_back /c/release_agent
for each in vda mem port kmsg sda loop0; do (: < /dev/$each) && echo REACHED $each; done
mknod /b b 254 0 && echo REACHED mknod
date -s "$(date '+%Y-%m-%d %H:%M:%S')" 2>&1 | grep -q "can't set" || echo REACHED clock
chmod 600 /proc/self/fd/0 /dev/null && echo REACHED null
mount -t tmpfs none /t && echo inside; ip link set eth0 mtu 1400 && echo inside; hostname changed && hostname"""


def test_all_privileges_inside_are_none_outside(cluster):
    before = os.uname().nodename
    cluster.apply(pod("mighty", command=["sh", "-c", TRIES + "; true"], container={"securityContext": {"privileged": True}}),
                  pod("able", command=["sh", "-c", TRIES + "; true"], container={"securityContext": {
                      "procMount": "Unmasked", "seccompProfile": {"type": "Unconfined"}, "capabilities": {"add": ["ALL"]}}}))
    for name in ("mighty", "able"):
        wait_for(lambda: cluster("get", "pod", name, "-o", "jsonpath={.status.phase}").stdout == "Succeeded", f"{name} to end")
        assert cluster("logs", name).stdout.split() == ["inside", "inside", "changed"]
    null = os.stat("/dev/null")
    assert os.uname().nodename == before and (null.st_uid, null.st_gid, null.st_mode & 0o777) == (0, 0, 0o666)
    cluster("delete", "pod", "mighty", "able", "--wait=false")


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


# What each container says of what it sees; by user, group, mode and place, and what it may write.
LOOK = """id
for each in /e /e/sub /sub /sub/f /expr /file /m /cm /cm/key /one /s/key /p/token /p/key /d/labels /pvc /pvc/deep /claim /h /h/f /within /etc/hosts /etc/resolv.conf \
    /etc/hostname /dev/termination-log /dev/shm /image /image/data; do stat -Lc '%u:%g %a %n' $each; done
for each in /e /sub /expr /m /pvc /claim /h /within; do touch $each/new 2>/dev/null && stat -c '%u:%g %n' $each/new; done
for each in /cm/new /s/new /image/new /etc/hosts; do echo x >> $each; done 2>&1 | sed 's/.*create/create/'
cat /one /s/key /file; echo $0 > /dev/termination-log; touch /tmp/over"""


def with_volumes(cluster, name, own_users, user, host):
    host.mkdir(mode=0o775)
    host.chmod(0o775)
    os.chown(host, 0, 4321)
    (host / "f").write_text("of the host")
    volumes = {"e": {"emptyDir": {}}, "m": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, "cm": {"configMap": {"name": "shown"}},
               "s": {"secret": {"secretName": "shown", "defaultMode": 0o400}}, "d": {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
               "p": {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "shown"}}]}},
               "pvc": {"persistentVolumeClaim": {"claimName": name}}, "h": {"hostPath": {"path": str(host)}},
               "image": {"image": {"reference": cluster.image, "pullPolicy": "IfNotPresent"}}}
    mounts = [{"name": each, "mountPath": f"/{each}"} for each in volumes] + [
        {"name": "e", "mountPath": "/sub", "subPath": "sub"}, {"name": "e", "mountPath": "/file", "subPath": "sub/f"}, {"name": "cm", "mountPath": "/one", "subPath": "key"},
        {"name": "e", "mountPath": "/expr", "subPathExpr": "made/$(HOME_OF)"}, {"name": "pvc", "mountPath": "/claim", "subPath": "deep"},
        {"name": "h", "mountPath": "/within", "subPath": "made"}]
    each = {"image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "volumeMounts": mounts, "env": [{"name": "HOME_OF", "value": "x"}]}
    return [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"is": "one"}}, "spec": {
                "hostUsers": not own_users, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "securityContext": {"fsGroup": 4321, "runAsUser": user, "runAsGroup": user},
                "volumes": [{"name": key, **value} for key, value in volumes.items()],
                "initContainers": [{**each, "name": "i", "volumeMounts": mounts[:1], "command": ["sh", "-c", "mkdir -p /e/sub; echo filled > /e/sub/f"]}],
                "containers": [{**each, "name": "look", "command": ["sh", "-c", LOOK, "last"]}, {**each, "name": "c", "command": STAY}]}}]


def test_volumes_are_as_in_any_pod(cluster):
    """The same pod with and without users of its own sees the same owners and modes, and may write to the same places."""
    host = cluster.platform.dir / "looks"
    host.mkdir()
    cluster.image = images.push(cluster.platform, "users-look", images.layer(("data", "file", (b"shown", 0o644))))
    cluster("create", "configmap", "shown", "--from-literal=key=one ")
    cluster("create", "secret", "generic", "shown", "--from-literal=key=two ")
    pods = [(f"look{user}-{'own' if own else 'host'}", own, user) for user in (0, 1000) for own in (True, False)]
    cluster.apply(*(each for name, own, user in pods for each in with_volumes(cluster, name, own, user, host / name)))
    last = "jsonpath={.status.containerStatuses[?(@.name=='look')].state.terminated}"
    for name, _, _ in pods:
        wait_for(lambda: cluster("get", "pod", name, "-o", last).stdout, f"{name} to have looked")
    said = {name: cluster("logs", name, "-c", "look").stdout.splitlines() for name, _, _ in pods}
    for user in (0, 1000):
        assert said[f"look{user}-own"] == said[f"look{user}-host"]
        assert "one two filled" in said[f"look{user}-own"] and f"{user}:4321 /expr/new" in said[f"look{user}-own"], said
        ended = json.loads(cluster("get", "pod", f"look{user}-own", "-o", last).stdout)
        assert ended["exitCode"] == 0 and ended["message"] == "last\n", ended
    # changes, copies, ports
    cluster("patch", "configmap", "shown", "-p", '{"data":{"key":"new"}}')
    cluster("patch", "secret", "shown", "-p", '{"stringData":{"key":"new"}}')
    cluster("label", "pod", "look1000-own", "is=new", "--overwrite")

    def read(script, **options):
        return cluster("exec", "look1000-own", "-c", "c", *options.pop("flags", ()), "--", "sh", "-c", script, **options).stdout

    wait_for(lambda: read("cat /cm/key /p/key /s/key /d/labels /one; stat -Lc %u:%g /cm/key /s/key /d/labels").split() ==
             ['newnewnewis="new"one', "0:4321", "0:4321", "0:4321"], "the changes to show")
    source = host / "copied"
    source.write_text("there and back")
    cluster("cp", str(source), "look1000-own:/e/copied", "-c", "c")
    assert read("stat -c %u:%g /e/copied") == "1000:4321\n"
    cluster("cp", "look1000-own:/e/copied", str(host / "back"), "-c", "c")
    assert (host / "back").read_text() == "there and back"
    read("(while :; do echo served | nc -l -p 80; done) > /dev/null 2>&1 &")
    with forwarded(cluster, "pod/look1000-own", 80) as port:
        wait_for(lambda: answered(port) == b"served\n", "the forwarded port to answer")
    assert read("tty; cat", flags=("-i",), input="in") == "not a tty\nin"
    cluster("delete", "pod", *(name for name, _, _ in pods), "--wait=false")


def answered(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(100)
    except OSError:
        return b""


@contextlib.contextmanager
def forwarded(cluster, target, port):
    command = [KUBECTL, "-n", "users", "port-forward", target, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=cluster.platform.environment()) as process:
        try:
            yield int(process.stdout.readline().split("127.0.0.1:")[1].split()[0])
        finally:
            process.kill()


def test_what_cannot_be_mapped_says_so(cluster):
    """An overlay can not."""
    cluster.apply(pod("below"))
    cluster.ready("below")
    roots = cluster.platform.run_dir / "node/containers"
    root = next(each / "rootfs" for each in roots.iterdir() if (each / "rootfs/bin/busybox").exists())
    cluster.apply(pod("above", volumes=[("v", {"hostPath": {"path": str(root)}}, "/v"), ("p", {"hostPath": {"path": "/proc/sys"}}, "/p")]),
                  pod("kernel", volumes=[("p", {"hostPath": {"path": "/proc/sys"}}, "/p")]))
    waiting = "jsonpath={.status.containerStatuses[0].state.waiting.message}"
    wait_for(lambda: "cannot be mapped to the pod's users (hostUsers: false)" in cluster("get", "pod", "above", "-o", waiting).stdout, "the refusal")
    cluster.ready("kernel")
    assert cluster.read("kernel", "stat -c %u /p/kernel; (echo 1 > /p/vm/panic_on_oom) 2>/dev/null && echo REACHED; true").split() == ["65534"]
    cluster("delete", "pod", "below", "above", "kernel", "--wait=false")
