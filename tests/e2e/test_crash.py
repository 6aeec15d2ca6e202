"""The node killed with -9 again and again while pods come, run, crash and go: every exit code, every log line and every count of starts is right
afterwards, no container ran twice at once, and nothing is left behind.

TIDEMILL_CRASH_SEED repeats a run as well as it can be, TIDEMILL_CRASH_PODS makes it longer (500 for a thorough one)."""

import collections
import json
import os
import random
import subprocess
import threading
import time

import pytest

from conftest import wait_for
from node_alone import PODS, Node

SEED = int(os.environ.get("TIDEMILL_CRASH_SEED", "0")) or random.randrange(1, 1 << 30)
PODS_COUNT = int(os.environ.get("TIDEMILL_CRASH_PODS", "40"))
ROUND = 60  # so many, then all is looked at: of pods that have ended, the platform keeps a hundred

# Each run of a container is counted by itself, and holds a lock as long as it lives.
BEGIN = "me=$POD.$NAME; echo . >> /count/$me; exec 9>/count/$me.lock; /count/lock || echo $me >> /count/overlap; "
STAY = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def container(name, script, **more):
    mounts = [{"name": "count", "mountPath": "/count"}, *more.pop("volumeMounts", [])]
    return {"name": name, "image": "busybox:latest", "command": ["sh", "-c", BEGIN + script], "volumeMounts": mounts, "env": [
        {"name": "NAME", "value": name}, {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}], **more}


@pytest.fixture(scope="module")
def node():
    with Node() as instance:
        prepare(instance)
        yield instance


def prepare(node):
    """What the pods below refer to."""
    (node.dir / "count").mkdir(mode=0o777)
    source = "#include <sys/file.h>\nint main(void) { return flock(9, LOCK_EX | LOCK_NB) != 0; }\n"  # busybox has no flock
    subprocess.run(["cc", "-static", "-x", "c", "-o", node.dir / "count/lock", "-"], input=source, text=True, check=True)
    node.create("/api/v1/namespaces/default/configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"k": "from the map"}})
    node.create("/api/v1/namespaces/default/secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"k": "from the secret"}})
    node.create("/api/v1/namespaces/default/persistentvolumeclaims", {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
    node.create("/api/v1/namespaces/default/services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}})


def spec(node, containers, **more):
    volumes = [{"name": "count", "hostPath": {"path": str(node.dir / "count")}}, *more.pop("volumes", [])]
    return {"terminationGracePeriodSeconds": 2, "containers": containers, "volumes": volumes, **more}


def pod(node, name, containers, **more):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec(node, containers, **more)}


def rich_spec(node, main=STAY, own_users=False):
    """Volumes of all kinds, an init container, a sidecar, hooks and probes, one PID namespace, which users of its own may own."""
    volumes = [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}, {"name": "map", "configMap": {"name": "map"}},
               {"name": "hidden", "secret": {"secretName": "hidden"}}, {"name": "claim", "persistentVolumeClaim": {"claimName": "claim"}},
               {"name": "downward", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]
    mounts = [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}, {"name": "map", "mountPath": "/map"},
              {"name": "hidden", "mountPath": "/hidden"}, {"name": "claim", "mountPath": "/claim", "subPath": "sub/path"},
              {"name": "map", "mountPath": "/one", "subPath": "k"}, {"name": "downward", "mountPath": "/downward"}]
    test = "grep -q map /map/k && grep -q map /one && grep -q secret /hidden/k && grep -q web /downward/labels && test -f /disk/init && test -f /memory/init && test -f /hooked"  # each run has a root file system of its own
    init = container("init", "touch /disk/init /memory/init", volumeMounts=mounts[:2])
    side = container("side", STAY, restartPolicy="Always", startupProbe={"exec": {"command": ["true"]}, "periodSeconds": 1})
    main = container("main", main, volumeMounts=mounts,
                     lifecycle={"postStart": {"exec": {"command": ["touch", "/hooked"]}}, "preStop": {"exec": {"command": ["sleep", "0.1"]}}},
                     readinessProbe={"exec": {"command": ["sh", "-c", test]}, "periodSeconds": 1}, livenessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1})
    return spec(node, [main], initContainers=[init, side], volumes=volumes, shareProcessNamespace=True, hostUsers=not own_users)


class Killer(threading.Thread):
    """Kills the node at random moments until told to stop; the moments are the seed's."""

    def __init__(self, node, seed):
        super().__init__()
        self.node, self.random, self.over = node, random.Random(seed), threading.Event()
        self.error = None

    def run(self):
        try:
            while not self.over.wait(self.random.choice((0.03, 0.1, 0.3, 1.0)) * self.random.random() + 0.01):
                self.node.kill_node()
                self.node.tend()
        except BaseException as error:  # shown by stop()
            self.error = error

    def stop(self):
        self.over.set()
        self.join()
        if self.error:
            raise self.error


class Churn:
    def __init__(self, node, seed):
        self.node, self.random, self.count = node, random.Random(seed), 0
        self.kept = collections.defaultdict(list)  # kind → names of pods that are looked at in the end
        self.doomed = []

    def lines(self, name):
        return "".join(f"{name} line {i}\n" for i in range(1, 41))

    def job(self, name, number):
        code = number * 7 % 250 + 1
        self.node.create(PODS, pod(self.node, name, [container("main", f"i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $POD line $i; done; sleep 0.{number % 4}; exit {code}")],
                                   restartPolicy="Never", hostNetwork=number % 5 == 0))
        return code

    def step(self):
        number, self.count = self.count, self.count + 1
        kind = self.random.choice(("job", "job", "job", "again", "crash", "rich", "doomed", "doomed", "scale", "scale"))
        name = f"{kind}-{number}"
        if kind == "job":
            self.kept[kind].append((name, self.job(name, number)))
        elif kind == "again":
            script = "echo run $(wc -l < /count/$me); [ $(wc -l < /count/$me) -gt 1 ] || exit 3"
            self.node.create(PODS, pod(self.node, name, [container("main", script)], restartPolicy="OnFailure"))
            self.kept[kind].append(name)
        elif kind == "crash":
            self.node.create(PODS, pod(self.node, name, [container("main", "exit 5"), container("calm", STAY)]))
            self.kept[kind].append(name)
        elif kind == "rich":
            self.node.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}}, "spec": rich_spec(self.node, own_users=number % 2 == 0)})
            self.kept[kind].append(name)
        elif kind == "doomed":
            self.node.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}}, "spec": rich_spec(self.node, own_users=number % 2 == 0)})
            self.doomed.append(name)
        elif kind == "scale":
            self.scale(self.random.randrange(6))
        if len(self.doomed) > 2:
            name = self.doomed.pop(self.random.randrange(len(self.doomed)))
            if self.random.random() < 0.3:
                self.debug(name)
            self.node.delete(f"{PODS}/{name}", self.random.choice((None, 0, 1)))

    def debug(self, name):
        body = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox:latest", "command": ["sleep", "600"], "targetContainerName": "main"}]}}
        self.node.ask("PATCH", f"{PODS}/{name}/ephemeralcontainers", json.dumps(body), "application/strategic-merge-patch+json")

    def scale(self, replicas):
        path = "/apis/apps/v1/namespaces/default/deployments"
        if self.node.ask("GET", f"{path}/web")[0] == 404:
            self.node.create(path, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": rich_spec(self.node)}}})
        self.node.ask("PATCH", f"{path}/web", json.dumps({"spec": {"replicas": replicas}}), "application/merge-patch+json")


def starts(node, name, which="main"):
    path = node.dir / f"count/{name}.{which}"
    return path.read_text(encoding="ascii").count(".") if path.exists() else 0


def state(pods, name, which="main"):
    """The container's status; {} when there is none yet."""
    status = pods.get(name, {}).get("status", {})
    return next((each for each in status.get("containerStatuses", []) + status.get("initContainerStatuses", []) if each["name"] == which), {"state": {}})


def brief(pod):
    return pod["status"]["phase"], [(each["name"], each["restartCount"], each["state"], each["lastState"]) for each in pod["status"].get("containerStatuses", [])]


def is_ready(pod):
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))


def settle(node, churn):
    """Waits until all is as it must be in the end."""
    def settled(pods):
        web = [each for each in pods.values() if each["metadata"].get("labels", {}).get("app") == "web" and each["metadata"]["name"].startswith("web-")]
        return (all(pods[name]["status"].get("phase") in ("Succeeded", "Failed") for name, _ in churn.kept["job"]) and
                all(pods[name]["status"].get("phase") in ("Succeeded", "Failed") for name in churn.kept["again"]) and
                all(state(pods, name)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" for name in churn.kept["crash"]) and
                all(is_ready(pods[name]) for name in churn.kept["rich"]) and len(web) == 3 and all(is_ready(each) for each in web))
    node.wait_pods(settled, "everything to settle", 120)
    return node.pods()


def check(node, churn, pods):
    wrong = []
    for name, code in churn.kept["job"]:
        status, log = state(pods, name), node.log_of(name)
        if (pods[name]["status"]["phase"], status["state"].get("terminated", {}).get("exitCode"), status["restartCount"], starts(node, name)) != ("Failed", code, 0, 1):
            wrong.append((name, f"exit code {code} expected", starts(node, name), brief(pods[name])))
        if log != churn.lines(name):
            wrong.append((name, "log", log))
    for name in churn.kept["again"]:
        status = state(pods, name)
        if (pods[name]["status"]["phase"], status["restartCount"], starts(node, name), status["lastState"].get("terminated", {}).get("exitCode")) != ("Succeeded", 1, 2, 3):
            wrong.append((name, starts(node, name), brief(pods[name])))
        if (node.log_of(name), node.log_of(name, previous=True)) != ("run 2\n", "run 1\n"):
            wrong.append((name, "log", node.log_of(name), node.log_of(name, previous=True)))
    for name, each in pods.items():
        for status in each["status"].get("containerStatuses", []) + each["status"].get("initContainerStatuses", []):
            which = status["name"]
            try:  # a crash loop goes on meanwhile, and its status is a moment behind
                wait_for(lambda: state(node.pods(), name, which)["restartCount"] + 1 == starts(node, name, which), "the counts", 5, 0.1)
            except AssertionError:
                wrong.append((name, which, f"{starts(node, name, which)} starts", state(node.pods(), name, which)))
    overlap = node.dir / "count/overlap"
    assert not overlap.exists(), f"ran twice at once: {overlap.read_text(encoding='ascii')}"
    assert not wrong, f"seed {SEED}, {node.kills} kills: {json.dumps(wrong)[:6000]}\n{node.node_log()[-1500:]}"


def test_a_hook_under_way_is_run_again(node):
    """And holds up the pod's next container until then; one that has ended is not."""
    hook = {"exec": {"command": ["sh", "-c", "echo . >> /count/hook; until test -e /count/go; do sleep 0.05; done"]}}
    begun = lambda: len((node.dir / "count/hook").read_text().split()) if (node.dir / "count/hook").exists() else 0
    waiting = lambda pods: [each["state"].get("waiting", {}).get("reason") for each in pods["hooked"]["status"]["containerStatuses"]]
    node.create(PODS, pod(node, "hooked", [container("main", STAY, lifecycle={"postStart": hook}), container("next", STAY)]))
    for number in (1, 2, 3):
        wait_for(lambda: node.tend() or begun() == number, f"the hook to be run for the {number}. time", 20)
        assert waiting(node.pods()) == ["ContainerCreating"] * 2
        node.kill_node()
    (node.dir / "count/go").touch()
    node.wait_pods(lambda pods: is_ready(pods["hooked"]), "the pod of the hook")
    node.kill_node()
    node.wait_pods(lambda pods: node.node_is_ready() and is_ready(pods["hooked"]), "the pod to stay ready")
    wait_for(lambda: node.log_of("hooked", "main") == "", "the node to answer")
    assert (begun(), starts(node, "hooked"), starts(node, "hooked", "next")) == (4, 1, 1)
    node.delete(f"{PODS}/hooked", 0)
    node.wait_pods(lambda pods: not pods, "it to go")


def test_killed_again_and_again(node):
    print(f"TIDEMILL_CRASH_SEED={SEED} TIDEMILL_CRASH_PODS={PODS_COUNT}")
    node.create(PODS, pod(node, "first", [container("main", "exit 0")], restartPolicy="Never"))
    node.wait_pods(lambda pods: pods["first"]["status"].get("phase") == "Succeeded", "the first pod")
    node.delete(f"{PODS}/first", 0)
    node.wait_pods(lambda pods: not pods, "it to go")
    before = node.traces()
    for start in range(0, PODS_COUNT, ROUND):
        go_round(node, SEED + start, min(ROUND, PODS_COUNT - start), before)
    print(f"{node.kills} kills")


def go_round(node, seed, count, before):
    churn, killer = Churn(node, seed), Killer(node, seed)
    killer.start()
    try:
        while churn.count < count:
            churn.step()
            time.sleep(churn.random.random() * 0.3)
        churn.scale(3)
        for name in churn.doomed:
            node.delete(f"{PODS}/{name}")
    finally:
        killer.stop()
    check(node, churn, settle(node, churn))

    killer = Killer(node, seed + 1)  # and again while all goes away
    killer.start()
    try:
        node.ask("DELETE", "/apis/apps/v1/namespaces/default/deployments/web")
        for name in node.pods():
            node.delete(f"{PODS}/{name}", churn.random.choice((None, 0, 1)))
        time.sleep(2)
    finally:
        killer.stop()
    node.wait_pods(lambda pods: not pods, "all pods to go")
    node.check_leaks(before)
    for path in (node.dir / "count").glob("*.*"):
        path.unlink()
