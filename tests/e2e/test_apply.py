"""Ownership of fields, patches, selections and deletions as kubectl uses them. Nothing here runs a pod: deployments have no replicas."""

import json
import subprocess

import pytest
import yaml

from conftest import KUBECTL, wait_for


def manifest(name, replicas=0, image="nginx:1", **labels):
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels or {"tier": "test"}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": image}]}},
        },
    }


@pytest.fixture
def scratch(platform):
    name = "apply"
    platform.kubectl("create", "namespace", name)
    yield lambda *args, **options: platform.kubectl("-n", name, *args, **options)
    platform.kubectl("delete", "namespace", name)


def get(scratch, *args):
    return json.loads(scratch("get", *args, "-o", "json").stdout)


def managers(scratch, *args):
    entries = json.loads(scratch("get", *args, "-o", "json", "--show-managed-fields").stdout)["metadata"].get("managedFields", [])
    return {(entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in entries}


def test_server_side_apply(scratch):
    web = manifest("web")
    assert "deployment.apps/web serverside-applied" in scratch("apply", "--server-side", "-f", "-", input=yaml.safe_dump(web)).stdout
    scratch("scale", "deployment", "web", "--replicas=0")
    before = get(scratch, "deployment", "web")["metadata"]["resourceVersion"]
    scratch("apply", "--server-side", "-f", "-", input=yaml.safe_dump(web))
    assert get(scratch, "deployment", "web")["metadata"]["resourceVersion"] == before, "applying the same again writes nothing"

    other = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"paused": True, "template": {
        "spec": {"containers": [{"name": "main", "image": "nginx:2"}]}}}}
    apply = ("apply", "--server-side", "--field-manager=other", "-f", "-")
    refused = scratch(*apply, input=yaml.safe_dump(other), check=False)
    assert refused.returncode == 1
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .spec.template.spec.containers[name="main"].image' in refused.stderr
    scratch(*apply, "--force-conflicts", input=yaml.safe_dump(other))
    now = get(scratch, "deployment", "web")["spec"]
    assert now["paused"] and now["template"]["spec"]["containers"][0]["image"] == "nginx:2"
    del other["spec"]["paused"]
    scratch(*apply, input=yaml.safe_dump(other))
    assert "paused" not in get(scratch, "deployment", "web")["spec"], "what is applied no more goes"
    assert "f:image" not in json.dumps(managers(scratch, "deployment", "web")[("kubectl", "Apply")])

    typo = scratch("apply", "--server-side", "--validate=false", "-f", "-", check=False, input=yaml.safe_dump(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replica": 1}}))
    assert "failed to create typed patch object" in typo.stderr and ".spec.replica: field not declared in schema" in typo.stderr


def test_from_client_side_to_server_side_apply(scratch):
    web = manifest("web")
    scratch("apply", "-f", "-", input=yaml.safe_dump(web))
    assert set(managers(scratch, "deployment", "web")) >= {("kubectl-client-side-apply", "Update")}
    web["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:3"
    scratch("apply", "--server-side", "-f", "-", input=yaml.safe_dump(web))
    owners = managers(scratch, "deployment", "web")
    assert ("kubectl", "Apply") in owners and ("kubectl-client-side-apply", "Update") not in owners
    assert get(scratch, "deployment", "web")["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:3"
    last = json.loads(get(scratch, "deployment", "web")["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"])
    assert last["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:3"


def test_patches_of_three_kinds(scratch):
    scratch("create", "-f", "-", input=yaml.safe_dump(manifest("web")))
    containers = '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"busybox"}]}}}}'
    scratch("patch", "deployment", "web", "-p", containers)
    assert [c["name"] for c in get(scratch, "deployment", "web")["spec"]["template"]["spec"]["containers"]] == ["side", "main"]
    scratch("patch", "deployment", "web", "-p", '{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}')
    assert [c["name"] for c in get(scratch, "deployment", "web")["spec"]["template"]["spec"]["containers"]] == ["main"]
    scratch("patch", "deployment", "web", "--type=merge", "-p", '{"metadata":{"labels":{"tier":null,"x":"1"}}}')
    assert get(scratch, "deployment", "web")["metadata"]["labels"] == {"x": "1"}
    scratch("patch", "deployment", "web", "--type=json", "-p", '[{"op":"test","path":"/metadata/labels/x","value":"1"},{"op":"remove","path":"/metadata/labels/x"}]')
    failed = scratch("patch", "deployment", "web", "--type=json", "-p", '[{"op":"test","path":"/spec/paused","value":true}]', check=False)
    assert failed.returncode == 1 and "the server rejected our request due to an error in our request" in failed.stderr
    absent = scratch("patch", "deployment", "none", "-p", "{}", check=False)
    assert 'deployments.apps "none" not found' in absent.stderr
    same = scratch("patch", "deployment", "web", "-p", '{"spec":{"replicas":0}}')
    assert "(no change)" in same.stdout
    scratch("patch", "deployment", "web", "--subresource=status", "--type=merge", "-p", '{"status":{"observedGeneration":1}}')


def test_edit_diff_replace_and_dry_run(scratch, platform, tmp_path):
    scratch("apply", "-f", "-", input=yaml.safe_dump(manifest("web")))
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/image: nginx:1/image: nginx:7/' \"$1\"\n")
    editor.chmod(0o755)
    done = subprocess.run([KUBECTL, "-n", "apply", "edit", "deployment", "web"], env={**platform.environment(), "EDITOR": str(editor)},
                          capture_output=True, text=True, timeout=60)
    assert "deployment.apps/web edited" in done.stdout, done.stderr
    difference = scratch("diff", "-f", "-", input=yaml.safe_dump(manifest("web", image="nginx:8")), check=False)
    assert difference.returncode == 1 and "+      - image: nginx:8" in difference.stdout and "-      - image: nginx:7" in difference.stdout
    assert scratch("diff", "-f", "-", input=yaml.safe_dump(manifest("web", image="nginx:7"))).stdout == ""
    assert "(server dry run)" in scratch("apply", "--dry-run=server", "-f", "-", input=yaml.safe_dump(manifest("web", image="nginx:9"))).stdout
    assert "created (server dry run)" in scratch("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump(manifest("dry"))).stdout
    assert scratch("get", "deployment", "dry", check=False).returncode == 1
    scratch("replace", "-f", "-", input=yaml.safe_dump(manifest("web", image="nginx:10")))
    stale = get(scratch, "deployment", "web")
    scratch("annotate", "deployment", "web", "touched=1")
    conflict = scratch("replace", "-f", "-", input=json.dumps(stale), check=False)
    assert 'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your changes to the latest version' \
        in conflict.stderr


def test_labels_images_and_resources(scratch):
    scratch("create", "-f", "-", input=yaml.safe_dump(manifest("web")))
    refused = scratch("label", "deployment", "web", "tier=other", check=False)
    assert "'tier' already has a value (test), and --overwrite is false" in refused.stderr
    scratch("label", "deployment", "web", "tier=other", "--overwrite")
    scratch("set", "image", "deployment/web", "main=nginx:4")
    scratch("set", "env", "deployment/web", "A=1")
    scratch("set", "resources", "deployment/web", "--limits=cpu=1,memory=64Mi")
    container = get(scratch, "deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "nginx:4" and container["env"] == [{"name": "A", "value": "1"}]
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "64Mi"}
    assert ("kubectl-set", "Update") in managers(scratch, "deployment", "web")
    scratch("wait", "--for=jsonpath={.metadata.labels.tier}=other", "deployment/web", "--timeout=10s")


def test_lists_in_chunks_and_by_selection(scratch, platform):
    for i in range(7):
        scratch("create", "configmap", f"map-{i}", f"--from-literal=k={i}")
    scratch("label", "configmap", "map-1", "map-2", "group=a")
    names = scratch("get", "configmaps", "--chunk-size=2", "-o", "name").stdout.split()
    assert [n for n in names if "map-" in n] == [f"configmap/map-{i}" for i in range(7)]
    assert scratch("get", "configmaps", "-l", "group in (a,b)", "-o", "name").stdout.split() == ["configmap/map-1", "configmap/map-2"]
    assert scratch("get", "configmaps", "--field-selector", "metadata.name=map-3", "-o", "name").stdout.split() == ["configmap/map-3"]
    refused = scratch("get", "configmaps", "--field-selector", "data.k=1", check=False)
    assert '"data.k" is not a known field selector: only "metadata.name", "metadata.namespace"' in refused.stderr
    follower = subprocess.Popen([KUBECTL, "-n", "apply", "get", "configmaps", "-w", "-l", "group=a", "-o", "name"], stdout=subprocess.PIPE, text=True,
                                env=platform.environment())
    try:
        assert [follower.stdout.readline().strip() for _ in range(2)] == ["configmap/map-1", "configmap/map-2"]
        scratch("label", "configmap", "map-4", "group=a")
        assert follower.stdout.readline().strip() == "configmap/map-4"
    finally:
        follower.kill()
        follower.wait()
    scratch("delete", "configmaps", "-l", "group=a")
    assert scratch("get", "configmaps", "-l", "group=a", "-o", "name").stdout == ""


def test_deletions(scratch):
    for name in ("kept", "gone"):
        scratch("create", "-f", "-", input=yaml.safe_dump(manifest(name)))
        wait_for(lambda: scratch("get", "replicasets", "-l", f"app={name}", "-o", "name").stdout, "a replica set")
    scratch("delete", "deployment", "kept", "--cascade=orphan")
    scratch("delete", "deployment", "gone", "--cascade=foreground", "--timeout=30s")
    assert scratch("get", "replicasets", "-l", "app=gone", "-o", "name").stdout == ""
    orphan = json.loads(scratch("get", "replicasets", "-l", "app=kept", "-o", "json").stdout)["items"]
    assert len(orphan) == 1 and "ownerReferences" not in orphan[0]["metadata"]
    assert "deleted (server dry run)" in scratch("delete", "replicasets", "-l", "app=kept", "--dry-run=server").stdout
    assert len(json.loads(scratch("get", "replicasets", "-l", "app=kept", "-o", "json").stdout)["items"]) == 1
