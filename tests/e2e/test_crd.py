"""Custom resource definitions, with the real kubectl: a definition's whole life, and one as large as those of operators."""

import json
import os
import signal
import time

import pytest
import yaml

from conftest import wait_for

GROUP = "e2e.example.com"
NAME = f"backups.{GROUP}"


def spec_schema(more=None):
    return {"type": "object", "required": ["schedule"], "properties": {
        "schedule": {"type": "string", "pattern": r"^(\S+ ){4}\S+$", "description": "When it runs."},
        "policy": {"type": "string", "enum": ["Keep", "Delete"], "default": "Keep"},
        "replicas": {"type": "integer", "minimum": 0, "default": 1},
        "targets": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
            "type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "port": {"x-kubernetes-int-or-string": True}, "protocol": {"type": "string", "default": "TCP"}}}},
        **(more or {})}}


def definition(more=None):
    schema = {"openAPIV3Schema": {"type": "object", "description": "A backup.", "properties": {
        "spec": spec_schema(more),
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}, "phase": {"type": "string"}}}}}}
    columns = [{"name": "Schedule", "type": "string", "jsonPath": ".spec.schedule"}, {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
               {"name": "Policy", "type": "string", "jsonPath": ".spec.policy", "priority": 1},
               {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": NAME}, "spec": {
        "group": GROUP, "scope": "Namespaced",
        "names": {"plural": "backups", "singular": "backup", "kind": "Backup", "shortNames": ["bk"], "categories": ["all"]},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}, "scale": scale},
             "additionalPrinterColumns": columns, "selectableFields": [{"jsonPath": ".spec.policy"}]},
            {"name": "v1beta1", "served": True, "storage": False, "deprecated": True, "schema": schema, "subresources": {"status": {}}}]}}


def backup(name, version="v1", **spec):
    return yaml.safe_dump({"apiVersion": f"{GROUP}/{version}", "kind": "Backup", "metadata": {"name": name},
                           "spec": {"schedule": "0 3 * * *", **spec}})


@pytest.fixture
def crd(platform):
    platform.kubectl("apply", "-f", "-", input=yaml.safe_dump(definition()))
    platform.kubectl("wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=10s")
    yield platform
    platform.kubectl("delete", "crd", NAME, "--ignore-not-found", "--timeout=60s")


def test_life_of_a_definition(crd):
    kubectl = crd.kubectl
    resources = kubectl("api-resources", "--api-group", GROUP).stdout.split("\n")[1].split()
    assert resources == ["backups", "bk", f"{GROUP}/v1", "true", "Backup"]
    columns = kubectl("get", "crd", NAME).stdout.split("\n")[0].split()
    assert columns == ["NAME", "CREATED", "AT"]

    # created, filled in, shown
    assert "backup.e2e.example.com/nightly created" in kubectl("apply", "-f", "-", input=backup("nightly", targets=[{"name": "db"}])).stdout
    nightly = crd.get("backup", "nightly")
    assert nightly["spec"]["policy"] == "Keep" and nightly["spec"]["targets"] == [{"name": "db", "protocol": "TCP"}]
    table = kubectl("get", "bk").stdout.split("\n")
    assert table[0].split() == ["NAME", "SCHEDULE", "PHASE", "AGE"]
    assert kubectl("get", "bk", "-o", "wide").stdout.split("\n")[0].split() == ["NAME", "SCHEDULE", "PHASE", "POLICY", "AGE"]
    assert "nightly" in kubectl("get", "all").stdout
    assert "nightly" in kubectl("get", "bk", "--field-selector", "spec.policy=Keep").stdout
    assert "No resources found" in kubectl("get", "bk", "--field-selector", "spec.policy=Delete").stderr
    assert "Schedule:" in kubectl("describe", "bk", "nightly").stdout

    # refused, in upstream's words
    for wrong, words in [
        (backup("x", policy="Burn"), 'The Backup "x" is invalid: spec.policy: Unsupported value: "Burn": supported values: "Keep", "Delete"'),
        (backup("x", schedule="never"), "spec.schedule: Invalid value: \"never\": spec.schedule in body should match '^(\\S+ ){4}\\S+$'"),
        (backup("x", replicas="two"), 'spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"'),
        (backup("x", targets=[{"name": "a"}, {"name": "a"}]), 'spec.targets[1]: Duplicate value: {"name":"a"}'),
    ]:
        result = kubectl("create", "--validate=false", "-f", "-", input=wrong, check=False)
        assert result.returncode == 1 and words in result.stderr, result.stderr
    result = kubectl("create", "-f", "-", input=backup("x", colour="red"), check=False)
    assert result.returncode == 1 and 'unknown field "spec.colour"' in result.stderr, result.stderr

    # changed
    kubectl("apply", "-f", "-", input=backup("nightly", policy="Delete", targets=[{"name": "db"}]))
    kubectl("patch", "bk", "nightly", "--type=merge", "-p", '{"spec":{"policy":"Keep"}}')
    kubectl("patch", "bk", "nightly", "--type=json", "-p", '[{"op":"replace","path":"/spec/schedule","value":"0 4 * * *"}]')
    result = kubectl("patch", "bk", "nightly", "-p", '{"spec":{"policy":"Keep"}}', check=False)
    assert "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, " \
           "application/merge-patch+json, application/apply-patch+yaml" in result.stderr
    kubectl("label", "bk", "nightly", "a=b")
    kubectl("annotate", "bk", "nightly", "c=d")
    generation = crd.get("backup", "nightly")["metadata"]["generation"]
    kubectl("patch", "bk", "nightly", "--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Done","replicas":1},"spec":{"policy":"Delete"}}')
    nightly = crd.get("backup", "nightly")
    assert (nightly["status"]["phase"], nightly["spec"]["policy"], nightly["metadata"]["generation"]) == ("Done", "Keep", generation)
    assert "scaled" in kubectl("scale", "bk/nightly", "--replicas=4").stdout
    assert crd.get("backup", "nightly")["spec"]["replicas"] == 4
    kubectl("wait", "--for=jsonpath={.status.phase}=Done", "bk/nightly", "--timeout=10s")

    # applied by the server, list items by their keys
    for manager, target in [("one", {"name": "cache"}), ("two", {"name": "queue", "port": 5672})]:
        kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", input=backup("shared", targets=[target]))
    assert [each["name"] for each in crd.get("backup", "shared")["spec"]["targets"]] == ["cache", "queue"]

    # explained by its schema, and tried without being written
    assert "When it runs." in kubectl("explain", "backup.spec.schedule").stdout
    assert "protocol" in kubectl("explain", "backup", "--recursive").stdout
    assert "created (server dry run)" in kubectl("create", "--dry-run=server", "-f", "-", input=backup("dry")).stdout
    assert kubectl("get", "bk", "dry", check=False).returncode == 1
    assert "-  policy: Keep" in kubectl("diff", "-f", "-", input=backup("nightly", policy="Delete"), check=False).stdout

    # the other version
    result = kubectl("get", f"backups.v1beta1.{GROUP}", "nightly", "-o", "jsonpath={.apiVersion}")
    assert result.stdout == f"{GROUP}/v1beta1" and f"Warning: {GROUP}/v1beta1 Backup is deprecated" in result.stderr
    kubectl("apply", "-f", "-", input=backup("old", version="v1beta1"))
    assert crd.get("backup", "old")["apiVersion"] == f"{GROUP}/v1"


def test_restart_and_change_and_deletion(crd):
    kubectl = crd.kubectl
    kubectl("apply", "-f", "-", input=backup("a"))
    before = crd.get("backup", "a")
    core = crd.pids()["core"]
    os.kill(core, signal.SIGKILL)
    wait_for(lambda: crd.pids()["core"] != core and kubectl("get", "--raw", "/readyz", check=False).returncode == 0, "core to come back")
    assert crd.get("backup", "a") == before
    # a schema that gains a default shows it at once, also in what was stored before
    kubectl("apply", "-f", "-", input=yaml.safe_dump(definition({"zone": {"type": "string", "default": "UTC"}})))
    assert crd.get("backup", "a")["spec"]["zone"] == "UTC"
    # a namespace that goes takes its objects along
    kubectl("create", "namespace", "crd-gone")
    kubectl("apply", "-n", "crd-gone", "-f", "-", input=backup("b"))
    kubectl("delete", "namespace", "crd-gone", "--timeout=30s")
    assert kubectl("get", "bk", "-A", "-o", "name").stdout.split() == ["backup.e2e.example.com/a"]
    # owned objects go with their owner
    uid = crd.get("backup", "a")["metadata"]["uid"]
    kubectl("create", "-f", "-", input=yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "crd-owned", "ownerReferences": [
        {"apiVersion": f"{GROUP}/v1", "kind": "Backup", "name": "a", "uid": uid}]}}))
    kubectl("delete", "bk", "a")
    kubectl("wait", "--for=delete", "configmap/crd-owned", "--timeout=30s")
    # the definition goes when its last object has gone
    manifest = yaml.safe_load(backup("held"))
    manifest["metadata"]["finalizers"] = ["e2e.example.com/hold"]
    kubectl("apply", "-f", "-", input=yaml.safe_dump(manifest))
    kubectl("delete", "crd", NAME, "--wait=false")
    wait_for(lambda: "deletionTimestamp" in crd.get("backup", "held")["metadata"], "the object to be deleted")
    assert any(each["type"] == "Terminating" and each["status"] == "True" for each in crd.get("crd", NAME)["status"]["conditions"])
    result = kubectl("create", "-f", "-", input=backup("late"), check=False)
    assert "create not allowed while custom resource definition is terminating" in result.stderr
    kubectl("patch", "bk", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    kubectl("wait", "--for=delete", f"crd/{NAME}", "--timeout=30s")
    result = kubectl("get", f"backups.{GROUP}", check=False)
    assert "the server doesn't have a resource type \"backups\"" in result.stderr


def grow(depth, width):
    """A schema of width**depth leaves."""
    if depth == 0:
        return {"type": "string", "description": "x" * 60, "maxLength": 100}
    return {"type": "object", "properties": {f"field{i}": grow(depth - 1, width) for i in range(width)}}


def test_a_large_definition(platform):
    large = definition({"tree": grow(4, 8)})
    large["metadata"]["name"], large["spec"]["names"] = f"larges.{GROUP}", {"plural": "larges", "kind": "Large"}
    large["spec"]["versions"] = large["spec"]["versions"][:1]
    path = platform.dir / "large.json"
    path.write_text(json.dumps(large))
    assert path.stat().st_size > 500_000
    try:
        started = time.monotonic()
        platform.kubectl("create", "-f", str(path))
        print(f"a definition of {path.stat().st_size} bytes: created in {time.monotonic() - started:.2f} s")
        manifest = yaml.safe_load(backup("l"))
        manifest["kind"], manifest["spec"]["tree"] = "Large", {"field0": {"field1": {"field2": {"field3": "value", "field9": "gone"}}}}
        platform.kubectl("create", "--validate=false", "-f", "-", input=yaml.safe_dump(manifest))
        assert platform.get("large", "l")["spec"]["tree"] == {"field0": {"field1": {"field2": {"field3": "value"}}}}
    finally:
        platform.kubectl("delete", "crd", f"larges.{GROUP}", "--ignore-not-found", "--timeout=60s")


def test_a_schema_that_is_not_structural(platform):
    bad = definition()
    bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["schedule"].pop("type")
    result = platform.kubectl("create", "-f", "-", input=yaml.safe_dump(bad), check=False)
    assert result.returncode == 1
    assert "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[schedule].type: Required value: must not be empty for specified " \
           "object fields" in result.stderr
