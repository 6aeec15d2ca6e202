"""What the node has on disk, damaged one file at a time while it is down: it starts, that pod restarts at most, all others do not notice.

By default a seeded choice of files and damages; TIDEMILL_CORRUPT=all takes all, =record.json:garbage just that one."""

import json
import os
import pathlib
import random
import shutil
import signal

import pytest

from conftest import wait_for
from node_alone import PODS, Node
from test_crash import STAY, container, is_ready, pod, prepare, rich_spec, starts, state

SEED = int(os.environ.get("TIDEMILL_CRASH_SEED", "0")) or random.randrange(1, 1 << 30)
WANTED = os.environ.get("TIDEMILL_CORRUPT", "")
CHOSEN_DEFAULT = 8
UNNOTICED_AT_FIRST = [("pod/etc/hostname", "link"), ("containers/conmon.pid", "gone")]  # the first matters when the second has ended the container
LOG = "".join(f"line {i}\n" for i in range(1, 21))


@pytest.fixture(scope="module")
def node():
    with Node() as instance:
        prepare(instance)
        instance.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "victim", "labels": {"app": "web"}}, "spec": rich_spec(instance)},
                        pod(instance, "other", [container("main", STAY, readinessProbe={"exec": {"command": ["true"]}})]),
                        pod(instance, "ended", [container("main", "for i in $(seq 20); do echo line $i; done; exit 7")], restartPolicy="Never"))
        settle(instance)
        yield instance


def settle(node):
    """Both run, the third has ended. Their statuses."""
    node.wait_pods(lambda pods: is_ready(pods["victim"]) and is_ready(pods["other"]) and pods["ended"]["status"]["phase"] == "Failed", "the pods", 60)
    return node.pods()


def uid(node, name):
    return node.pod(name)["metadata"]["uid"]


def damageable(node):
    """Kind of file → path: all that the node, conmon and crun keep of the victim, and what they keep of all."""
    found, folder = {}, node.state / "node/pods" / uid(node, "victim")
    for path in (folder, *(path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in ("volumes", "containers"))):
        found["pod/" + str(path.relative_to(folder))] = path
    container = state(node.pods(), "victim")["containerID"].removeprefix("tidemill://")
    for place in ("containers", "crun"):
        folder = node.run / "node" / place / container
        for path in (folder, *(path for path in folder.rglob("*") if "rootfs" not in path.parts)):
            found[f"{place}/{str(path.relative_to(folder)).replace(container, 'ID')}"] = path
    for path in (node.state / "node/podnet").rglob("*"):
        found["podnet/" + path.name] = path
    return found


def empty(path):
    path.write_bytes(b"")


def halved(path):
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def garbage(path):
    path.write_bytes(bytes(random.Random(SEED).randrange(256) for _ in range(777)))


def folder(path):
    gone(path)
    path.mkdir()


def link(path):
    gone(path)
    path.symlink_to(path.name)


def gone(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)  # what is mounted in there stays
    else:
        path.unlink(missing_ok=True)


def file(path):
    gone(path)
    if not path.exists():
        path.write_text("not a folder\n", encoding="ascii")


DAMAGES = {"empty": empty, "halved": halved, "garbage": garbage, "folder": folder, "link": link, "gone": gone}
OF_FOLDERS = {"gone": gone, "file": file}


def cases(node):
    """Pairs of a kind of file and a damage."""
    every = [(kind, damage) for kind, path in sorted(damageable(node).items()) if path.is_dir() or path.is_file()
             for damage in (OF_FOLDERS if path.is_dir() else DAMAGES)]
    if WANTED == "all":
        return every
    if WANTED:
        return [tuple(each.split(":")) for each in WANTED.split(",")]
    return random.Random(SEED).sample(every, CHOSEN_DEFAULT) + UNNOTICED_AT_FIRST


def restarts(pods):
    return {name: [(each["name"], each["restartCount"]) for each in pods[name]["status"]["containerStatuses"]] for name in ("victim", "other", "ended")}


def test_a_damaged_file_costs_one_pod_a_restart(node):
    chosen = cases(node)
    print(f"TIDEMILL_CRASH_SEED={SEED} TIDEMILL_CORRUPT={','.join(f'{kind}:{damage}' for kind, damage in chosen)}")
    for kind, damage in chosen:
        before, paths, lines = settle(node), damageable(node), len(node.node_log())
        if kind not in paths or damage not in (OF_FOLDERS if paths[kind].is_dir() else DAMAGES):
            continue  # by an earlier damage it is not there, or not a file any more
        node.kill_node()
        {**DAMAGES, **OF_FOLDERS}[damage](paths[kind])
        node.start_node()
        what = f"TIDEMILL_CORRUPT={kind}:{damage}"
        try:
            node.wait_pods(lambda pods: node.node_is_ready() and "registered" in node.node_log()[lines:], "the node")
            node.create(PODS, pod(node, "new", [container("main", "exit 0")], restartPolicy="Never"))
            node.wait_pods(lambda pods: pods["new"]["status"].get("phase") == "Succeeded", "a new pod")
            node.delete(f"{PODS}/new", 0)
            after = settle(node)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from None
        told = node.node_log()[lines:]
        assert not node.deaths, f"{what}: the node died: {node.deaths}\n{told}"
        for name in ("other", "ended"):
            assert state(after, name) == state(before, name), f"{what}: {name}\n{state(before, name)}\n{state(after, name)}\n{told}"
            assert after[name]["status"]["podIP"] == before[name]["status"]["podIP"], f"{what}: {name}"
        assert node.log_of("ended") == LOG, what
        restarted = state(after, "victim")["restartCount"] - state(before, "victim")["restartCount"]
        assert restarted in (0, 1), f"{what}: {restarted} restarts\n{told}"
        assert state(after, "victim")["restartCount"] + 1 == starts(node, "victim"), f"{what}: {starts(node, 'victim')} starts\n{json.dumps(state(after, 'victim'))}\n{told}"
        assert not (node.dir / "count/overlap").exists(), f"{what}: ran twice at once"
        print(what, "restarts" if restarted else "untouched")
    traces = node.traces()
    assert len(list(pathlib.Path(node.run / "node/containers").iterdir())) == 3, sorted(traces["files"])
    for name in ("victim", "other", "ended"):
        node.delete(f"{PODS}/{name}", 0)
    node.wait_pods(lambda pods: not pods, "the pods to go")


def the_layer(node):
    return next(path for path in (node.state / "node/layers").iterdir() if len(path.name) == 64)


def test_a_damaged_layer_is_unpacked_again(node):
    """While nobody uses it: gone, no folder any more, and half there under the name that an unpacking in progress has."""
    for damage in (gone, file):
        layer = the_layer(node)
        damage(layer)
        half = node.state / "node/layers/tmp-half"
        half.mkdir()
        (half / "bin").touch()
        node.kill_node()
        node.start_node()
        node.create(PODS, pod(node, "again", [container("main", "echo done")], restartPolicy="Never"))
        node.wait_pods(lambda pods: pods["again"]["status"].get("phase") == "Succeeded", "a pod")
        assert layer.is_dir() and not half.exists()
        node.delete(f"{PODS}/again", 0)
        node.wait_pods(lambda pods: "again" not in pods, "it to go")
        (node.dir / "count/again.main").unlink()


def emptied(layer):
    for path in layer.iterdir():
        gone(path)


def test_a_layer_removed_beneath_its_container_costs_that_a_restart(node):
    """What is missing of an image is noticed when a container has failed, and unpacked anew before the next."""
    for damage in (emptied, gone):
        node.create(PODS, pod(node, "beneath", [container("main", STAY, readinessProbe={"exec": {"command": ["true"]}})]))
        node.wait_pods(lambda pods: is_ready(pods["beneath"]), "the pod")
        layer = the_layer(node)
        damage(layer)
        if damage is gone:  # and at its start the node looks for the image of what runs, while it clears away what was half unpacked
            (layer.parent / "tmp-half/bin").mkdir(parents=True)
            node.kill_node()
            node.start_node()
        name = state(node.pods(), "beneath")["containerID"].removeprefix("tidemill://")
        os.kill(json.loads((node.run / "node/crun" / name / "status").read_text())["pid"], signal.SIGKILL)
        node.wait_pods(lambda pods: state(pods, "beneath")["restartCount"] and is_ready(pods["beneath"]), "it to run again")
        assert state(node.pods(), "beneath")["restartCount"] == 1
        node.delete(f"{PODS}/beneath", 0)
        node.wait_pods(lambda pods: "beneath" not in pods, "it to go")
        (node.dir / "count/beneath.main").unlink()


def test_an_image_whose_configuration_is_garbage_is_told(node):
    """The blob is what its digest says, or it is not used: the pod says so, and runs when the image is whole again."""
    configurations = [path for path in (node.state / "registry").rglob("*") if path.is_file() and path.read_bytes()[:300].find(b'"rootfs"') >= 0]
    assert configurations
    kept = {path: path.read_bytes() for path in configurations}
    for path in configurations:
        garbage(path)
    node.kill_node()
    node.start_node()
    node.create(PODS, pod(node, "broken", [container("main", "echo done", imagePullPolicy="IfNotPresent")], restartPolicy="Never"))
    wait_for(lambda: node.tend() or any(reason == "Failed" and "busybox" in message for reason, message in node.events("broken")), "the node to say so")
    for path, data in kept.items():
        path.write_bytes(data)
    node.wait_pods(lambda pods: pods["broken"]["status"].get("phase") == "Succeeded", "the pod to run", 60)
    assert not node.deaths
