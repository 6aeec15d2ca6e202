"""What a restart of the machine leaves: state on disk, and nothing that ran, was mounted or connected. Pods begin again as a kubelet lets them."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from conftest import wait_for
from node_alone import PODS, Node
from test_crash import STAY, container, is_ready, pod, prepare, rich_spec, starts, state


@pytest.fixture(scope="module")
def node():
    with Node() as instance:
        prepare(instance)
        yield instance


def groups(node):
    return [pathlib.Path(folder) for root in pathlib.Path("/sys/fs/cgroup").glob("*/tidemill-" + node.instance) for folder, _, _ in os.walk(root, topdown=False)]


def processes(node):
    return {int(pid) for group in groups(node) for pid in (group / "cgroup.procs").read_text(encoding="ascii").split()} - {node.node.pid, node.process.pid}


def reboot(node):
    """All but the disk goes, and the API server, which is not what is tested here."""
    node.kill_node()
    for pid in processes(node):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes(node), "all processes to end")
    for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()):
        if str(node.run / "node") in line:
            subprocess.run(["umount", "-l", line.split()[4]], check=False)
    shutil.rmtree(node.run / "node")
    for group in groups(node):
        group.rmdir()
    subprocess.run(["ip", "link", "delete", "tm-" + node.instance], check=True)
    for family in ("ip", "ip6", "bridge", "inet"):
        subprocess.run(["nft", "delete", "table", family, "tidemill_" + node.instance], check=False, capture_output=True)
    node.start_node()


def test_the_machine_is_restarted(node):
    lines = "for i in 1 2 3; do echo line $i; done; "
    node.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rich", "labels": {"app": "web"}}, "spec": rich_spec(node, main=lines + STAY)},
                pod(node, "done", [container("main", lines + "exit 0")], restartPolicy="Never"),
                pod(node, "failed", [container("main", lines + "exit 7")], restartPolicy="Never"),
                pod(node, "once", [container("main", STAY)], restartPolicy="Never"),
                pod(node, "partly", [container("main", STAY), container("ended", "exit 0")], restartPolicy="OnFailure"))
    node.wait_pods(lambda pods: is_ready(pods["rich"]) and "running" in state(pods, "once")["state"] and "terminated" in state(pods, "partly", "ended")["state"] and
                   pods["done"]["status"]["phase"] == "Succeeded" and pods["failed"]["status"]["phase"] == "Failed", "the pods")
    before = node.pods()
    reboot(node)
    node.wait_pods(lambda pods: is_ready(pods["rich"]) and state(pods, "rich")["restartCount"] == 1 and state(pods, "partly")["restartCount"] == 1 and
                   "running" in state(pods, "partly")["state"] and pods["once"]["status"]["phase"] == "Failed", "the pods to run again")
    after = node.pods()

    for name in ("done", "failed"):
        assert after[name]["status"]["phase"] == before[name]["status"]["phase"] and starts(node, name) == 1
        assert after[name]["status"]["containerStatuses"] == before[name]["status"]["containerStatuses"]
        assert node.log_of(name) == "line 1\nline 2\nline 3\n"
    for which in ("main", "side"):
        last = state(after, "rich", which)["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (255, "Unknown")
    for which, count in (("main", 2), ("side", 2), ("init", 2)):  # what init had put in memory is gone: it runs again
        assert (starts(node, "rich", which), state(after, "rich", which)["restartCount"]) == (count, count - 1), which
    assert node.log_of("rich", "main", previous=True).startswith("line 1\nline 2\nline 3\n")  # the shell may have the time to say that its child was killed
    assert ("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.") in node.events("rich")
    ended = state(after, "once")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], starts(node, "once")) == (255, "Unknown", 1)
    assert starts(node, "partly", "ended") == 1 and state(after, "partly", "ended")["restartCount"] == 0
    assert not (node.dir / "count/overlap").exists() and not node.deaths

    for name in after:
        node.delete(f"{PODS}/{name}", 0)
    node.wait_pods(lambda pods: not pods, "the pods to go")
