"""A full disk: what was acknowledged stays, what is new is refused in words a person understands, nothing crashes, and space brings everything back."""

import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

import pytest

from conftest import Platform, small_disk, wait_for

MIB = 1 << 20
POD = """
apiVersion: v1
kind: Pod
metadata: {name: steady, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "busybox:latest", command: [sh, -c, "while true; do echo alive; sleep 0.2; done"]}]
"""


@pytest.fixture(scope="module")
def platform():
    """An instance whose state has 200 MB for itself."""
    instance = Platform("full", 173)
    instance.flags += ["--eviction-pressure-transition-period", "1s"]  # the node takes pods again as soon as there is space
    with small_disk(instance, 200):
        try:
            instance.up()
            instance.bootstrap("busybox:latest", "busybox-static")
            instance.kubectl("apply", "-f", "-", input=POD)
            instance.kubectl("wait", "--for=condition=Ready", "pod/steady", "--timeout=30s")
            instance.clone = instance.create_app("before")
            yield instance
        except BaseException:
            print(instance.kubectl("describe", "pods", "-A", check=False).stdout[-4000:], instance.log()[-4000:])
            raise


def fill(platform):
    """Leaves no block free: large pieces first, then small ones."""
    with open(platform.state / "ballast", "ab", buffering=0) as file:
        for size in (MIB, 64 * 1024, 4096, 512):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                pass
        os.fsync(file.fileno())


def create(platform, name, size):
    """Creates a ConfigMap over the unix socket: (HTTP status, the answer)."""
    connection = http.client.HTTPConnection("x", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(str(platform.run_dir / "api.sock"))
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": "y" * size}})
    connection.request("POST", "/api/v1/namespaces/default/configmaps", body, {"Host": "a", "Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def is_told(text):
    return "disk" in text and "full" in text or "No space left" in text


def test_full_disk(platform):
    pids = platform.pids()
    acknowledged = []
    for i in range(5):
        assert create(platform, f"before-{i}", 1000)[0] == 201
        acknowledged.append(f"before-{i}")
    fill(platform)

    # New writes: some may still fit into what SQLite has; then they are refused, and the message names the disk.
    refused = None
    for i in range(400):
        status, answer = create(platform, f"full-{i}", 200_000)
        if status != 201:
            refused = status, answer
            break
        acknowledged.append(f"full-{i}")
        fill(platform)
    assert refused, "a full disk took 80 MB of objects"
    assert refused[0] in (500, 507), refused
    assert refused[1]["kind"] == "Status" and is_told(refused[1]["message"]), refused

    # kubectl shows it too, and reading goes on.
    result = platform.kubectl("create", "configmap", "too-much", f"--from-literal=x={'y' * 100000}", check=False)
    assert result.returncode != 0 and is_told(result.stderr), result.stderr
    names = {item["metadata"]["name"] for item in platform.get("configmaps")["items"]}
    assert set(acknowledged) <= names and "too-much" not in names

    # A new image, a new application.
    result = platform.tidemill("image", "bootstrap", "busybox:other", "--include", "busybox-static", check=False)
    assert result.returncode != 0 and is_told(result.stdout + result.stderr), result.stdout + result.stderr
    result = platform.tidemill("app", "create", "toolate", check=False)
    assert result.returncode != 0 and is_told(result.stderr), result.stderr

    (platform.clone / "noise").write_bytes(os.urandom(MIB))
    platform.commit(platform.clone, "noise")
    result = platform.git(platform.clone, "push", "tidemill", "main", check=False)
    assert result.returncode != 0 and is_told(result.stderr), result.stderr

    # Pods run on, nothing died, nothing restarts in circles.
    assert platform.get("pod", "steady")["status"]["phase"] == "Running"
    assert "alive" in platform.kubectl("exec", "steady", "--", "echo", "alive").stdout
    assert platform.pids() == pids, platform.log()

    # A killed core comes back on the full disk with all that it had acknowledged.
    os.kill(pids["core"], 9)
    wait_for(lambda: platform.kubectl("get", "configmaps", check=False).returncode == 0, "core to answer again on a full disk")
    names = {item["metadata"]["name"] for item in platform.get("configmaps")["items"]}
    assert set(acknowledged) <= names

    # Space again: everything works.
    (platform.state / "ballast").unlink()
    wait_for(lambda: create(platform, "after", 1000)[0] in (201, 409), "writes to work again")
    platform.kubectl("delete", "pod", "steady", "--wait=true", timeout=30)
    platform.kubectl("apply", "-f", "-", input=POD)
    platform.kubectl("wait", "--for=condition=Ready", "pod/steady", "--timeout=30s")
    platform.bootstrap("busybox:other", "busybox-static")
    platform.tidemill("app", "create", "after")
    (platform.clone / ".gitlab-ci.yml").write_text("test:\n  image: busybox:latest\n  script: [ls -l noise]\n")
    platform.commit(platform.clone, "pipeline")
    assert "succeeded" in platform.git(platform.clone, "push", "tidemill", "main").stderr
