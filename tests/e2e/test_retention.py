"""Disk use stays bounded: of four versions, with --keep-images 2, the oldest two lose tag, blobs and unpacked layers; what runs and what one can roll back
to stays."""

import hashlib
import json
import os
import signal
import subprocess

import pytest

from conftest import Platform, wait_for

DOCKERFILE = "FROM busybox\nCOPY index.html padding /var/www/\nEXPOSE 8080\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/var/www\"]\n"
MANIFESTS = """apiVersion: apps/v1
kind: Deployment
metadata: {name: site}
spec:
  replicas: 1
  revisionHistoryLimit: 1
  selector: {matchLabels: {app: site}}
  template:
    metadata: {labels: {app: site}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: site
          image: ${IMAGE}
          ports: [{containerPort: 8080}]
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: site}
spec:
  selector: {app: site}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: site}
spec:
  rules:
    - host: site.localhost
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: site, port: {number: 80}}}}]}
"""


@pytest.fixture(scope="module")
def small():
    """An instance of its own, since the limit is set at its start."""
    instance = Platform("retain", 164)
    instance.flags += ["--keep-images", "2"]
    try:
        instance.up()
        instance.bootstrap("busybox:latest", "busybox-static")
        yield instance
    except BaseException:
        print(instance.log()[-8000:])
        raise
    finally:
        instance.destroy()


def chains(instance, name, tag):
    """The folders of an image's unpacked layers."""
    registry = instance.state / "registry"
    read = lambda digest: json.loads((registry / "blobs/sha256" / digest.split(":")[1]).read_text())
    manifest = read((registry / "repositories" / name / "tags" / tag).read_text().strip())
    found, chain = [], None
    for diff in read(manifest["config"]["digest"])["rootfs"]["diff_ids"]:
        chain = diff if chain is None else "sha256:" + hashlib.sha256(f"{chain} {diff}".encode()).hexdigest()
        found.append(chain.split(":")[1])
    return found


def tags(instance):
    return {image["tag"] for image in json.loads(instance.tidemill("image", "list", "-o", "json").stdout) if image["name"] == "site"}


def unpacked(instance):
    return {entry.name for entry in (instance.state / "node/layers").iterdir()}


def push(instance, folder, number):
    (folder / "index.html").write_text(f"version {number}\n")
    (folder / "padding").write_bytes(os.urandom(1 << 20))
    instance.commit(folder, f"version {number}")
    instance.git(folder, "push", "tidemill", "main")
    wait_for(lambda: instance.http("site.localhost")[1] == f"version {number}\n", f"version {number}")
    tag = instance.git(folder, "rev-parse", "HEAD").stdout[:8]
    return tag, chains(instance, "site", tag)


def test_old_versions_go_and_the_rollback_stays(small):
    folder = small.create_app("site")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "deploy").mkdir()
    (folder / "deploy/site.yaml").write_text(MANIFESTS)
    versions = [push(small, folder, number) for number in range(1, 5)]
    (one, layers_one), (two, layers_two), (three, layers_three), (four, layers_four) = versions
    assert layers_one[0] == layers_four[0], "the base layer is shared"

    wait_for(lambda: tags(small) == {three, four, "latest"}, "the old tags to go", timeout=30)
    wait_for(lambda: not unpacked(small) & {layers_one[-1], layers_two[-1]}, "the old layers to go", timeout=30)
    assert set(layers_three + layers_four) <= unpacked(small)
    assert any(image["name"] == "busybox" for image in json.loads(small.tidemill("image", "list", "-o", "json").stdout))
    assert "freed" in small.log()

    small.kubectl("rollout", "undo", "deployment/site", "-n", "site")
    small.kubectl("rollout", "status", "deployment/site", "-n", "site", "--timeout=60s")
    assert small.http("site.localhost") == (200, "version 3\n")

    refused = small.tidemill("image", "rm", f"site:{four}", check=False)
    assert refused.returncode != 0 and "in use by ReplicaSet site/site-" in refused.stderr, refused.stderr
    absent = small.tidemill("image", "rm", f"site:{one}", check=False)
    assert absent.returncode != 0 and "there is no image" in absent.stderr


def test_prune_tells_what_it_freed(small):
    small.kubectl("create", "deployment", "other", "--image=busybox:latest", "--", "sleep", "1000")
    refused = small.tidemill("image", "rm", "busybox:latest", check=False)
    assert "busybox:latest is in use by" in refused.stderr
    small.kubectl("delete", "deployment", "other")
    assert small.tidemill("image", "prune").stdout.startswith("freed ")
    assert json.loads(small.tidemill("image", "prune", "-o", "json").stdout)["imagesRemoved"] == 0


def test_a_running_container_keeps_its_layers_when_its_tag_moves_and_the_node_starts_again(small):
    registry = small.state / "registry/repositories/site/tags"
    pod = small.get("pods", "-n", "site")["items"][0]
    tag = pod["spec"]["containers"][0]["image"].split(":")[-1]
    layers = chains(small, "site", tag)
    (registry / tag).write_text((registry / "latest").read_text())  # as if another image had been pushed under that name
    assert chains(small, "site", tag) != layers
    node = small.pids()["node"]
    os.kill(node, signal.SIGKILL)
    wait_for(lambda: small.pids()["node"] != node, "another node")
    wait_for(lambda: "warning" not in json.loads(small.tidemill("image", "prune", "-o", "json").stdout), "a prune that does everything")
    assert set(layers) <= unpacked(small)
    assert small.http("site.localhost") == (200, "version 3\n")
    assert small.kubectl("exec", "-n", "site", pod["metadata"]["name"], "--", "cat", "/var/www/index.html").stdout == "version 3\n"


def test_images_of_a_deleted_application_go(small):
    small.tidemill("app", "delete", "site")
    small.kubectl("wait", "--for=delete", "namespace/site", "--timeout=60s", check=False)  # it may be gone already
    small.tidemill("image", "prune")
    assert tags(small) == set()
    wait_for(lambda: len(unpacked(small)) <= 2, "its layers to go")
    assert small.http("site.localhost")[0] == 404


@pytest.fixture
def narrow():
    """An instance whose disk has less room than the platform wants to keep free."""
    instance = Platform("retain", 164)
    instance.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=250m,mode=0755", "tmpfs", instance.state], check=True)
    try:
        instance.up()
        instance.bootstrap("busybox:latest", "busybox-static")
        yield instance
    except BaseException:
        print(instance.log()[-8000:])
        raise
    finally:
        instance.down("--all")
        subprocess.run(["umount", "-l", instance.state], check=True)
        instance.destroy()


def test_a_full_disk_gives_up_the_build_cache_and_says_so(narrow):
    folder = narrow.create_app("site")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "deploy").mkdir()
    (folder / "deploy/site.yaml").write_text(MANIFESTS)
    push(narrow, folder, 1)
    events = lambda: [event for event in narrow.get("events")["items"] if event["reason"] == "DiskNearlyFull"]
    event = wait_for(events, "the event", timeout=30)[0]
    assert event["involvedObject"]["kind"] == "Node" and "of build cache" in event["message"]
    assert event["message"] in narrow.log()
    wait_for(lambda: not any((narrow.state / "forge/cache").iterdir()), "the cache to go", timeout=30)
    push(narrow, folder, 2)  # builds go on without it
