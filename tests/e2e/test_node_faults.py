"""What the node depends on fails: crun, conmon, mounts, netlink, the disk. It says so in kubelet's words, tries again, recovers when the fault goes, and
leaves nothing behind; other pods do not notice."""

import datetime
import json
import os
import re
import shutil
import socket
import textwrap
import threading

import pytest

from conftest import wait_for
from node_alone import PODS, Node
from test_crash import STAY, brief, container, pod, prepare, starts, state

# Stands in for crun and conmon: does as the file "mode" says ("crun create fail"), or what the real one does.
WRAPPER = """\
    #!/bin/sh
    [ ! -e {folder}/mode ] || read -r program verb how < {folder}/mode
    if [ "$program" = {name} ]; then
        for word in "$@"; do
            [ "$word" = "$verb" ] || continue
            case $how in
            fail) echo "{name}: broken on purpose" >&2; exit 1;;
            hang) while :; do sleep 0.2; done;;
            die) {real} "$@" & sleep 0.004; kill -9 $! $$;;
            lie) echo nonsense > /proc/self/fd/$_OCI_SYNCPIPE; exit 1;;
            garbage) {real} "$@"; code=$?; for file in {run}/node/crun/*/status; do echo '{{"pid": "x"' > $file; done; exit $code;;
            esac
        done
    fi
    exec {real} "$@"
    """


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    (folder / "bin").mkdir()
    with Node({"TIDEMILL_FAULTS": str(folder / "plan"), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}, before=lambda node: wrap(node, folder)) as instance:
        instance.plan, instance.mode = folder / "plan", folder / "mode"
        prepare(instance)
        instance.create(PODS, pod(instance, "steady", [container("main", STAY)]))
        instance.wait_pods(lambda pods: "running" in state(pods, "steady")["state"], "a steady pod")
        run(instance, "warm")
        instance.before = instance.traces()
        yield instance


def wrap(node, folder):
    for name in ("crun", "conmon"):
        path = folder / "bin" / name
        path.write_text(textwrap.dedent(WRAPPER).format(folder=folder, name=name, real=shutil.which(name), run=node.run), encoding="ascii")
        path.chmod(0o755)


def run(node, name):
    """A pod from its creation to its end; it must succeed in the end."""
    make(node, name)
    finish(node, name)


def make(node, name, **more):
    spec = {"restartPolicy": "OnFailure", "volumes": [{"name": "memory", "emptyDir": {"medium": "Memory"}}], **more}
    node.create(PODS, pod(node, name, [container("main", "echo done", volumeMounts=[{"name": "memory", "mountPath": "/memory"}])], **spec))


def finish(node, name):
    node.wait_pods(lambda pods: pods[name]["status"].get("phase") == "Succeeded", f"{name} to succeed", 60)
    assert node.log_of(name) == "done\n"
    assert starts(node, name) == 1
    node.delete(f"{PODS}/{name}")
    node.wait_pods(lambda pods: name not in pods, f"{name} to go")


def calm(node):
    """Nothing is left behind, nothing died, the steady pod did not notice."""
    node.check_leaks(node.before)
    assert state(node.pods(), "steady")["restartCount"] == 0 and starts(node, "steady") == 1


def told(node, name, reason, text):
    try:
        wait_for(lambda: node.tend() or any(event[0] == reason and text in event[1] for event in node.events(name)), f"{reason}: {text}", 30)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{node.events(name)}\n{brief(node.pod(name))}\n{node.node_log()[-2000:]}") from None


def fault(node, text):
    node.mode.write_text(text + "\n", encoding="ascii")


@pytest.mark.parametrize("mode,reason,text", [
    ("crun create fail", "Failed", "Error: failed to start container: "),
    ("crun create die", "Failed", "Error: "),
    ("conmon --exit-dir fail", "Failed", "Error: conmon ended without creating the container"),
    ("conmon --exit-dir lie", "Failed", "Error: conmon sent something that is no JSON")])
def test_a_program_that_fails(node, mode, reason, text):
    name = mode.replace(" ", "-").replace("---", "-")
    fault(node, mode)
    make(node, name)
    told(node, name, reason, text)
    node.mode.unlink()
    finish(node, name)
    calm(node)


def test_a_container_that_cannot_be_removed(node):
    for how in ("fail", "garbage"):
        fault(node, f"crun {'delete' if how == 'fail' else 'create'} {how}")
        make(node, f"kept-{how}")
        node.wait_pods(lambda pods: pods[f"kept-{how}"]["status"].get("phase") == "Succeeded", "the pod to succeed")
        node.mode.unlink()
        finish(node, f"kept-{how}")
        calm(node)


@pytest.mark.parametrize("operation,reason,text", [("mount", "FailedMount", "MountVolume.SetUp failed for volume \"memory\" : "), ("spawn", "Failed", "Error: ")])
def test_the_kernel_refuses(node, operation, reason, text):
    node.plan.write_text(f"fail {operation} 1000000 12\n", encoding="ascii")
    make(node, operation)
    told(node, operation, reason, text)
    node.plan.unlink()
    finish(node, operation)
    calm(node)


def test_the_network_refuses(node):
    """More pods than there are networks made in advance."""
    node.plan.write_text("fail netlink 1000000 12\n", encoding="ascii")
    names = [f"net-{number}" for number in range(12)]
    for name in names:
        make(node, name)
    wait_for(lambda: any(event[0] == "FailedCreatePodSandBox" and "Failed to create pod sandbox: " in event[1] for name in names for event in node.events(name)),
             "a sandbox that cannot be made")
    node.plan.unlink()
    for name in names:
        finish(node, name)
    calm(node)


def test_a_full_disk(node):
    """The node's state on a disk of its own that fills up under it."""
    make(node, "late", restartPolicy="Never")
    node.wait_pods(lambda pods: pods["late"]["status"].get("phase") == "Succeeded", "the pod")
    node.plan.write_text("fail write 1000000 28\n", encoding="ascii")
    node.create(PODS, pod(node, "during", [container("main", "echo done")], restartPolicy="Never"))
    wait_for(lambda: "cannot take on pod default/during: No space left on device" in node.node_log(), "the node to say so")
    node.kill_node()  # comes back on a full disk
    node.tend()
    node.wait_pods(lambda pods: node.node_is_ready() and "running" in state(pods, "steady")["state"], "the node")
    node.delete(f"{PODS}/late")
    node.wait_pods(lambda pods: "late" not in pods, "a pod to go although the disk is full")
    node.plan.unlink()
    finish(node, "during")
    calm(node)


def test_a_conmon_that_is_killed(node):
    """Nobody reads what the container says any more, and its exit code is nobody's: it ends, is told as unknown, and runs again."""
    node.create(PODS, pod(node, "watched", [container("main", STAY)]))
    node.wait_pods(lambda pods: "running" in state(pods, "watched")["state"], "the pod")
    own = state(node.pods(), "watched")["containerID"].removeprefix("tidemill://")
    os.kill(int((node.run / "node/containers" / own / "conmon.pid").read_text(encoding="ascii")), 9)
    node.wait_pods(lambda pods: state(pods, "watched")["restartCount"] == 1 and "running" in state(pods, "watched")["state"], "the next run")
    assert state(node.pods(), "watched")["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown" and starts(node, "watched") == 2
    assert not (node.dir / "count/overlap").exists()
    node.delete(f"{PODS}/watched", 0)
    node.wait_pods(lambda pods: "watched" not in pods, "it to go")
    calm(node)


def test_an_end_that_cannot_be_written_down_is_not_lost(node):
    node.create(PODS, pod(node, "code", [container("main", "while [ ! -e /count/go ]; do sleep 0.02; done; echo done; exit 9")], restartPolicy="Never"))
    node.wait_pods(lambda pods: "running" in state(pods, "code")["state"], "the pod")
    node.plan.write_text("fail rename 1000000 28\n", encoding="ascii")
    (node.dir / "count/go").touch()
    wait_for(lambda: "record.json: No space left on device" in node.node_log(), "the node to say so")
    node.kill_node()
    node.plan.unlink()
    node.tend()
    node.wait_pods(lambda pods: pods["code"]["status"].get("phase") == "Failed", "the pod to end")
    assert state(node.pods(), "code")["state"]["terminated"]["exitCode"] == 9 and starts(node, "code") == 1 and node.log_of("code") == "done\n"
    node.delete(f"{PODS}/code")
    node.wait_pods(lambda pods: "code" not in pods, "it to go")
    calm(node)


class Hasty:
    """Stands between the node and the API, and says of every token that it ends in a few seconds."""

    def __init__(self, path, behind, life_s):
        self.behind, self.life, self.sockets = behind, datetime.timedelta(seconds=life_s), []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                front = self.listener.accept()[0]
            except OSError:
                return
            back = socket.socket(socket.AF_UNIX)
            back.connect(self.behind)
            self.sockets += [front, back]
            threading.Thread(target=self.carry, args=(front, back, bytes), daemon=True).start()
            threading.Thread(target=self.carry, args=(back, front, self.shorten), daemon=True).start()

    def shorten(self, data):
        soon = f"{datetime.datetime.now(datetime.timezone.utc) + self.life:%Y-%m-%dT%H:%M:%SZ}"
        return re.sub(rb'(?<="expirationTimestamp":")[0-9TZ:-]{20}(?=")', soon.encode(), data)

    @staticmethod
    def carry(source, to, change):
        try:
            while data := source.recv(1 << 20):
                to.sendall(change(data))
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        for each in [self.listener, *self.sockets]:
            each.close()


def test_a_token_is_replaced_under_a_running_pod(node):
    """Before it ends, at once for whoever reads it; the old one goes on being good."""
    path, behind = node.socket_path, str(node.run / "behind.sock")
    look = ("trap 'exit 0' TERM; while :; do now=$(cat /var/run/secrets/kubernetes.io/serviceaccount/token); "
            "[ \"$now\" = \"$last\" ] || echo \"$now\"; last=$now; done")
    node.kill_node()
    os.rename(path, behind)
    hasty = Hasty(path, behind, 3)
    try:
        node.tend()
        node.create(PODS, pod(node, "reader", [container("main", look)]))
        node.wait_pods(lambda pods: "running" in state(pods, "reader")["state"], "the pod")
        tokens = wait_for(lambda: len(seen := node.log_of("reader").split()) >= 3 and seen, "two more tokens")
    finally:
        node.kill_node()
        hasty.close()
        os.rename(behind, path)
        node.tend()
    assert len(set(tokens)) == len(tokens) and all(re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token) for token in tokens)
    for token in tokens:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        told_status = node.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", json.dumps(review))[1]["status"]
        assert told_status["authenticated"] and told_status["user"]["username"] == "system:serviceaccount:default:default"
    node.wait_pods(lambda pods: "running" in state(pods, "reader")["state"] and state(pods, "reader")["restartCount"] == 0, "the node to be back")
    node.delete(f"{PODS}/reader", 0)
    node.wait_pods(lambda pods: "reader" not in pods, "it to go")
    calm(node)
