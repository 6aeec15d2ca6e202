"""Volumes of every kind as containers see them; persistent ones are in test_storage.py."""

import json
import os
import signal
import socket
import textwrap

import pytest
import yaml

import images
from conftest import wait_for

STAY = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


@pytest.fixture(scope="module")
def cluster(platform, tiny_image):
    """kubectl in a namespace; `run` makes a pod of one container and returns what it prints."""
    platform.kubectl("create", "namespace", "volumes")

    def kubectl(*args, **options):
        return platform.kubectl("-n", "volumes", *args, **options)

    def pod(name, command, mounts, volumes, spec=None, container=None):
        volumes = [{"name": key, **value} for key, value in volumes.items()]
        mounts = [{"name": key, **({"mountPath": value} if isinstance(value, str) else value)} for key, value in mounts]
        command = ["sh", "-c", command] if isinstance(command, str) else command
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "volumes": volumes, **(spec or {}),
            "containers": [{"name": "c", "image": tiny_image, "imagePullPolicy": "IfNotPresent", "command": command, "volumeMounts": mounts, **(container or {})}]}}

    def make(*args, **options):
        make_all(pod(*args, **options))

    def make_all(*pods):
        kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))

    def run(*args, **options):
        make(*args, **options)
        return ended(args[0])

    def ended(name):
        wait_for(lambda: kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}").stdout in ("Succeeded", "Failed"), f"pod {name} to end")
        return kubectl("logs", name).stdout.split()

    events = []

    def told(name, what):
        def find():
            found = [event for event in events if event["involvedObject"]["name"] == name and what in event["message"]]
            if not found:
                events[:] = json.loads(kubectl("get", "events", "-o", "json").stdout)["items"]
            return found

        return wait_for(find, f"an event on {name} that says {what}")[0]

    kubectl.make, kubectl.make_all, kubectl.pod, kubectl.run, kubectl.told, kubectl.platform = make, make_all, pod, run, told, platform
    kubectl.ready = lambda *names: kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in names))
    kubectl.read = lambda name, script: kubectl("exec", name, "--", "sh", "-c", script).stdout
    kubectl.apply = lambda text: kubectl("apply", "-f", "-", input=textwrap.dedent(text))
    yield kubectl
    platform.kubectl("delete", "namespace", "volumes", "--wait=false")


# --- hostPath ---

HOST = [("Directory", "file", "is not a directory"), ("Directory", "missing", "is not a directory"), ("File", "folder", "is not a file"),
        ("FileOrCreate", "folder", "is not a file"), ("DirectoryOrCreate", "file", "is not a directory"), ("Socket", "file", "is not a socket file"),
        ("CharDevice", "file", "is not a character device"), ("BlockDevice", "/dev/null", "is not a block device")]


@pytest.fixture(scope="module")
def host(cluster):
    folder = cluster.platform.dir / "host"
    (folder / "folder").mkdir(parents=True)
    (folder / "file").write_text("of the host")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    yield folder
    listener.close()


def test_host_paths_that_are_something_else(cluster, host):
    cluster.make_all(*(cluster.pod(f"wrong-{i}", "true", [("v", "/v")], {"v": {"hostPath": {"path": str(host / name), "type": kind}}})
                       for i, (kind, name, _) in enumerate(HOST)))
    for i, (_, name, words) in enumerate(HOST):
        event = cluster.told(f"wrong-{i}", "MountVolume")
        assert event["reason"] == "FailedMount"
        assert event["message"] == f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {host / name} {words}'
    assert not (host / "missing").exists()
    cluster("delete", "pod", *(f"wrong-{i}" for i in range(len(HOST))), "--wait=false")


def test_host_paths_that_fit(cluster, host):
    kinds = {"folder": "Directory", "file": "File", "socket": "Socket", "new": "DirectoryOrCreate", "fresh": "FileOrCreate", "any": ""}
    volumes = {name: {"hostPath": {"path": str(host / name), "type": kind}} for name, kind in kinds.items()}
    volumes["null"] = {"hostPath": {"path": "/dev/null", "type": "CharDevice"}}
    said = cluster.run("fits", "cat /m/file; echo; for each in folder file socket new fresh any null; do stat -c %F /m/$each | tr ' ' -; done; echo x > /m/fresh",
                       [(name, f"/m/{name}") for name in volumes], volumes)
    assert said == ["of", "the", "host", "directory", "regular-file", "socket", "directory", "regular-empty-file", "directory", "character-special-file"]
    assert (host / "fresh").read_text() == "x\n" and (host / "new").stat().st_mode & 0o777 == 0o755


# --- what comes from the API ---


def test_files_from_the_api(cluster):
    """Modes, items, optional and missing ones, binary data, projection of several sources, the downward API; updates arrive as a whole."""
    cluster.apply("""
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: map}
        data: {a: one, b: two}
        binaryData: {raw: AAECAw==}
        ---
        apiVersion: v1
        kind: Secret
        metadata: {name: secret}
        stringData: {key: hidden}
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: frozen}
        immutable: true
        data: {x: forever}
        """)
    cluster.make("filled", STAY, [("map", "/map"), ("items", "/items"), ("secret", "/secret"), ("all", "/all"), ("none", "/none")], {
        "map": {"configMap": {"name": "map", "defaultMode": 0o640}},
        "items": {"configMap": {"name": "map", "items": [{"key": "a", "path": "deep/er/a", "mode": 0o400}]}},
        "secret": {"secret": {"secretName": "secret", "defaultMode": 0o400}},
        "none": {"secret": {"secretName": "absent", "optional": True}},
        "all": {"projected": {"sources": [
            {"configMap": {"name": "frozen"}}, {"secret": {"name": "secret", "items": [{"key": "key", "path": "s"}]}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}, {"path": "cpu", "resourceFieldRef": {
                "containerName": "c", "resource": "requests.cpu", "divisor": "1m"}}]}},
            {"configMap": {"name": "absent", "optional": True}}, {"serviceAccountToken": {"path": "token", "audience": "a", "expirationSeconds": 600}}]}},
    }, container={"resources": {"requests": {"cpu": "25m"}}})
    cluster("label", "pod", "filled", "colour=blue")
    cluster.ready("filled")
    said = cluster.read("filled", "cat /map/a /map/b /all/x /all/s /all/cpu; echo; wc -c < /map/raw; stat -Lc %a /map/a /items/deep/er/a /secret/key; ls /none | wc -l; "
                                  "readlink /map/a; readlink /map/..data | cut -c1-4; cut -d. -f1 /all/token | wc -l; stat -fc %T /secret; echo x > /map/a; true")
    assert said.split() == ["onetwoforeverhidden25", "4", "640", "400", "400", "0", "..data/a", "..20", "1", "tmpfs"], said
    old = cluster.read("filled", "readlink /map/..data")
    cluster("patch", "configmap", "map", "--type=merge", "-p", '{"data":{"a":"1","b":null,"c":"3"}}')
    cluster("patch", "pod", "filled", "--type=merge", "-p", '{"metadata":{"labels":{"colour":"red"}}}')
    wait_for(lambda: cluster.read("filled", "ls /map; cat /map/a /map/c /items/deep/er/a").split() == ["a", "c", "raw", "131"], "the new files")
    wait_for(lambda: 'colour="red"' in cluster.read("filled", "cat /all/labels"), "the new label")
    assert cluster.read("filled", "readlink /map/..data") != old
    assert cluster("patch", "configmap", "frozen", "--type=merge", "-p", '{"data":{"x":"y"}}', check=False).returncode != 0


def test_what_is_missing_is_told(cluster):
    cases = {"map": ({"configMap": {"name": "absent"}}, 'configmap "absent" not found'), "secret": ({"secret": {"secretName": "absent"}}, 'secret "absent" not found'),
             "key": ({"configMap": {"name": "map", "items": [{"key": "nokey", "path": "x"}]}}, "references non-existent config key: nokey"),
             "nfs": ({"nfs": {"server": "s", "path": "/"}}, "this platform has no driver for volumes of type nfs"),
             "csi": ({"csi": {"driver": "d"}}, "this platform has no driver for volumes of type csi"),
             "iscsi": ({"iscsi": {"targetPortal": "t", "iqn": "iqn.2000-01.x:y", "lun": 0}}, "this platform has no driver for volumes of type iscsi"),
             "trust": ({"projected": {"sources": [{"clusterTrustBundle": {"name": "b", "path": "p"}}]}}, "nothing to project for sources of type clusterTrustBundle")}
    cluster("create", "configmap", "map", "--from-literal=a=1", check=False)
    cluster.make_all(*(cluster.pod(f"lacks-{name}", "true", [("v", "/v")], {"v": volume}) for name, (volume, _) in cases.items()))
    for name, (_, words) in cases.items():
        event = cluster.told(f"lacks-{name}", words)
        assert event["reason"] == "FailedMount" and 'MountVolume.SetUp failed for volume "v" : ' in event["message"], event
    counts = lambda: cluster("get", "events", "--field-selector=involvedObject.name=lacks-map,reason=FailedMount", "-o", "jsonpath={.items[*].count}").stdout
    wait_for(lambda: int(counts()) >= 2, "it to be told again")
    cluster("create", "configmap", "absent", "--from-literal=a=1")
    wait_for(lambda: cluster("get", "pod", "lacks-map", "-o", "jsonpath={.status.phase}").stdout == "Succeeded", "the pod to run once its map is there")
    cluster("delete", "pod", *(f"lacks-{name}" for name in cases), "--wait=false")


# --- empty folders, groups, sub paths, ways of mounting ---


def test_empty_folders_and_groups(cluster):
    said = cluster.run("empty", "id -G; for each in disk memory; do stat -c '%a:%g' /$each; touch /$each/f; stat -c %g /$each/f; stat -fc %T /$each; done; "
                                "df -k /memory | tail -1 | tr -s ' ' | cut -d' ' -f2; ls -ln /map/ | tail -1 | tr -s ' ' | cut -d' ' -f4",
                       [("disk", "/disk"), ("memory", "/memory"), ("map", "/map")],
                       {"disk": {"emptyDir": {}}, "memory": {"emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}}, "map": {"configMap": {"name": "kube-root-ca.crt", "optional": True}}},
                       spec={"securityContext": {"runAsUser": 1234, "runAsGroup": 1234, "fsGroup": 4321, "supplementalGroups": [77]}})
    assert set(said[:3]) == {"1234", "77", "4321"}
    assert said[3:6:2] == ["2777:4321", said[5]] and said[4] == "4321" and said[6:9] == ["3777:4321", "4321", "tmpfs"] and said[9] == "2048", said


def test_a_claim_of_the_pods_own(cluster):
    """A generic ephemeral volume: a claim made for the pod, which goes with it."""
    template = {"spec": {"accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": "1Mi"}}}}
    cluster.make("owner", STAY, [("scratch", "/scratch")], {"scratch": {"ephemeral": {"volumeClaimTemplate": template}}})
    cluster.ready("owner")
    claim = json.loads(cluster("get", "pvc", "owner-scratch", "-o", "json").stdout)
    assert claim["status"]["phase"] == "Bound" and claim["metadata"]["ownerReferences"][0]["name"] == "owner"
    cluster.read("owner", "echo x > /scratch/f")
    folder = cluster.platform.state / "volumes" / claim["spec"]["volumeName"]
    assert (folder / "f").read_text() == "x\n"
    cluster("delete", "pod", "owner")
    wait_for(lambda: not folder.exists(), "the volume to go with the pod")


def test_sub_paths(cluster):
    cluster("create", "configmap", "sub", "--from-literal=one.conf=first", "--from-literal=two.conf=second")
    said = cluster.run("subs", "cat /etc/one.conf; echo; ls /etc/two.conf 2>/dev/null; ls /data; pwd; cat /data/f; (echo x > /etc/one.conf) 2>/dev/null && echo written; true",
                       [("map", {"mountPath": "/etc/one.conf", "subPath": "one.conf"}), ("v", {"mountPath": "/data", "subPathExpr": "pods/$(NAME)"})],
                       {"map": {"configMap": {"name": "sub"}}, "v": {"emptyDir": {}}}, container={"env": [{"name": "NAME", "valueFrom": {
                           "fieldRef": {"fieldPath": "metadata.name"}}}], "workingDir": "/data"},
                       spec={"initContainers": [{"name": "i", "image": "busybox:latest", "command": ["sh", "-c", "mkdir -p /v/pods/subs && echo there > /v/pods/subs/f"],
                                                 "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]})
    assert said == ["first", "f", "/data", "there"], said
    cluster.make("unset", "true", [("v", {"mountPath": "/v", "subPathExpr": "a/$(NOTHING)"})], {"v": {"emptyDir": {}}})
    assert cluster.told("unset", "missing value for")["message"] == 'Error: missing value for "NOTHING"'
    cluster.make("dots", "true", [("v", {"mountPath": "/v", "subPathExpr": "$(UP)/x"})], {"v": {"emptyDir": {}}}, container={"env": [{"name": "UP", "value": ".."}]})
    assert 'failed to prepare subPath for volumeMount "v" of container "c"' in cluster.told("dots", "subPath")["message"]
    cluster("delete", "pod", "unset", "dots", "--wait=false")
    cluster.make("again", "exit 1", [("v", {"mountPath": "/v", "subPath": "s"})], {"v": {"emptyDir": {}}}, spec={"restartPolicy": "Always"})
    wait_for(lambda: cluster("get", "pod", "again", "-o", "jsonpath={.status.containerStatuses[0].restartCount}").stdout in ("1", "2"), "a second run")
    uid = cluster("get", "pod", "again", "-o", "jsonpath={.metadata.uid}").stdout
    folder = cluster.platform.run_dir / "node/volumes" / uid
    assert len([name for name in os.listdir(folder) if name.startswith(".sub-")]) == 1
    cluster("delete", "pod", "again", "--wait=false")


def test_propagation_and_read_only(cluster):
    """A mount that one container makes shows in another as far as mountPropagation says; a recursive read-only mount covers what is mounted within."""
    mount = {"name": "v", "mountPath": "/v"}
    look = ["sh", "-c", "touch /v/$0-waits 2>/dev/null; until [ -e /v/done ]; do sleep 0.05; done; ls /v/early /v/late; "
                        "(echo x > /v/early/new) 2>/dev/null && echo written-in; (echo x > /v/new) 2>/dev/null && echo written; true"]

    def container(name, command, security=None, **more):
        return {"name": name, "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "command": command, "volumeMounts": [{**mount, **more}], "securityContext": security or {}}

    mounts = "mkdir /v/early /v/late; mount -t tmpfs none /v/early && touch /v/early/e /v/begun; until [ -e /v/sees-waits ] && [ -e /v/none-waits ]; do sleep 0.05; done; " \
        "mount -t tmpfs none /v/late && touch /v/late/l /v/done; sleep 1000"
    maker = container("maker", ["sh", "-c", mounts], {"privileged": True}, mountPropagation="Bidirectional")
    cluster("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "spread"}, "spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}],
        "initContainers": [{**maker, "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["test", "-e", "/v/begun"]}, "periodSeconds": 1}}],
        "containers": [container("sees", [*look, "sees"], mountPropagation="HostToContainer"), container("none", [*look, "none"]),
                       container("read", [*look, "read"], readOnly=True), container("all", [*look, "all"], readOnly=True, recursiveReadOnly="Enabled")]}}))
    for name in ("sees", "none", "read", "all"):
        wait_for(lambda: cluster("get", "pod", "spread", "-o", f"jsonpath={{.status.containerStatuses[?(@.name=='{name}')].state.terminated.exitCode}}").stdout == "0", f"{name} to end")
    said = {name: cluster("logs", "spread", "-c", name).stdout.split() for name in ("sees", "none", "read", "all")}
    assert all("e" in each for each in said.values()), said
    assert ["l" in said[name] for name in ("sees", "none")] == [True, False], said  # the others may have started after it
    assert [[word in said[name] for word in ("written-in", "written")] for name in said] == [[True, True], [True, True], [True, False], [False, False]], said
    status = json.loads(cluster("get", "pod", "spread", "-o", "json").stdout)["status"]["containerStatuses"]
    assert {each["name"]: each["volumeMounts"][0].get("recursiveReadOnly") for each in status} == {"sees": None, "none": None, "read": "Disabled", "all": "Enabled"}
    cluster("delete", "pod", "spread", "--grace-period=0", "--force")
    refused = cluster("apply", "-f", "-", check=False, input=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": {
        "volumes": [{"name": "v", "emptyDir": {}}], "containers": [container("c", look, recursiveReadOnly="Enabled"), container("d", look, mountPropagation="Bidirectional")]}}))
    assert "recursiveReadOnly: Forbidden: may only be specified when readOnly is true" in refused.stderr
    assert "Bidirectional mount propagation is available only to privileged containers" in refused.stderr


# --- images ---


def test_images_as_volumes(cluster):
    """Read-only, nothing runs, sub paths, layers joined; kept by a killed node, and by pruning."""
    platform = cluster.platform
    name = images.push(platform, "data", images.layer(("data", "dir", 0o755), ("data/one", "file", (b"1", 0o644)), ("data/gone", "file", b"x"), ("tool", "file", b"#!/bin/sh\necho ran\n")),
                       images.layer(("data/.wh.gone", "file", b""), ("data/two", "file", (b"2", 0o644))))
    volumes = {"v": {"image": {"reference": name, "pullPolicy": "IfNotPresent"}}}
    cluster.make("image", STAY, [("v", "/v"), ("v", {"mountPath": "/sub", "subPath": "data"})], volumes)
    cluster.ready("image")
    assert cluster.read("image", "ls /v/data /sub; cat /v/data/one /sub/two; echo; (echo x > /v/x) 2>&1 | grep -o Read-only; /v/tool 2>&1 | grep -o denied; sh /v/tool").split() == \
        ["/sub:", "one", "two", "/v/data:", "one", "two", "12", "Read-only", "denied", "ran"]
    before = platform.pids()["node"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: platform.pids()["node"] != before, "another node process")
    platform.tidemill("image", "prune")
    assert cluster.read("image", "cat /v/data/one /sub/two").strip() == "12"
    cluster.make("no-image", "true", [("v", "/v")], {"v": {"image": {"reference": "127.0.0.1:%d/nothing:1" % platform.registry_port}}})
    event = cluster.told("no-image", "Failed to pull image")
    assert event["reason"] == "Failed"
    wait_for(lambda: cluster("get", "pod", "no-image", "-o", "jsonpath={.status.containerStatuses[0].state.waiting.reason}").stdout == "ErrImagePull", "the reason")
    cluster("delete", "pod", "image", "no-image", "--wait=false")
