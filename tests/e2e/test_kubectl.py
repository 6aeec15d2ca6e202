"""What a person does with kubectl, with the real one."""

import json
import subprocess
import time

import pytest
import yaml

from conftest import KUBECTL, wait_for


def deployment(name, image, replicas=1, **container):
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [
                {"name": "main", "image": image, "command": ["/bin/sh", "-c", "echo started; trap 'exit 0' TERM; while :; do sleep 1; done"], **container}]}},
        },
    }


def test_apply_get_describe_delete(platform):
    manifest = yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}})
    assert "configmap/settings created" in platform.kubectl("apply", "-f", "-", input=manifest).stdout
    assert "unchanged" in platform.kubectl("apply", "-f", "-", input=manifest).stdout
    assert "configured" in platform.kubectl("apply", "-f", "-", input=manifest.replace("'1'", "'2'")).stdout
    assert platform.get("configmap", "settings")["data"] == {"a": "2"}
    table = platform.kubectl("get", "configmaps").stdout.split("\n")
    assert table[0].split() == ["NAME", "DATA", "AGE"]
    assert any(line.split()[:2] == ["settings", "1"] for line in table[1:])
    assert "a: \"2\"" in platform.kubectl("get", "configmap", "settings", "-o", "yaml").stdout
    assert "Name:         settings" in platform.kubectl("describe", "configmap", "settings").stdout
    assert 'configmap "settings" deleted' in platform.kubectl("delete", "configmap", "settings").stdout
    missing = platform.kubectl("get", "configmap", "settings", check=False)
    assert missing.returncode == 1 and 'configmaps "settings" not found' in missing.stderr


def test_create_and_namespaces(platform):
    platform.kubectl("create", "namespace", "scratch")
    platform.kubectl("create", "configmap", "literal", "--from-literal=k=v", "-n", "scratch")
    platform.kubectl("create", "secret", "generic", "hidden", "--from-literal=p=w", "-n", "scratch")
    assert platform.get("secret", "hidden", "-n", "scratch")["data"] == {"p": "dw=="}
    again = platform.kubectl("create", "namespace", "scratch", check=False)
    assert again.returncode == 1 and 'namespaces "scratch" already exists' in again.stderr
    platform.kubectl("delete", "namespace", "scratch")
    assert platform.kubectl("get", "configmap", "literal", "-n", "scratch", check=False).returncode == 1


def test_bad_manifests_change_nothing(platform):
    unknown = yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bad"}, "dota": {}})
    result = platform.kubectl("apply", "-f", "-", input=unknown, check=False)
    assert result.returncode == 1 and 'unknown field "dota"' in result.stderr
    invalid = yaml.safe_dump(deployment("Bad_Name", "x"))
    result = platform.kubectl("apply", "-f", "-", input=invalid, check=False)
    assert result.returncode == 1 and "metadata.name" in result.stderr and "RFC 1123" in result.stderr
    mismatched = deployment("mismatch", "x")
    mismatched["spec"]["selector"]["matchLabels"] = {"app": "other"}
    result = platform.kubectl("apply", "-f", "-", input=yaml.safe_dump(mismatched), check=False)
    assert result.returncode == 1 and "`selector` does not match template `labels`" in result.stderr
    assert platform.kubectl("get", "configmap", "bad", check=False).returncode == 1
    assert platform.kubectl("get", "deployment", "mismatch", check=False).returncode == 1


def test_rollout_scale_logs_exec(platform, tiny_image):
    platform.kubectl("apply", "-f", "-", input=yaml.safe_dump(deployment("web", tiny_image, 2)))
    platform.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    pods = platform.get("pods", "-l", "app=web")["items"]
    assert len(pods) == 2
    name = pods[0]["metadata"]["name"]
    wide = platform.kubectl("get", "pod", name, "-o", "wide").stdout.splitlines()
    assert wide[0].split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"] and wide[1].split()[1:3] == ["1/1", "Running"]
    assert platform.kubectl("logs", name).stdout == "started\n"
    assert platform.kubectl("exec", name, "--", "sh", "-c", "echo out; echo err >&2").stdout == "out\n"
    failed = platform.kubectl("exec", name, "--", "sh", "-c", "exit 7", check=False)
    assert failed.returncode == 7
    assert platform.kubectl("exec", "-i", name, "--", "cat", input="through stdin").stdout == "through stdin"
    platform.kubectl("scale", "deployment/web", "--replicas=3")
    platform.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert platform.get("deployment", "web")["status"]["readyReplicas"] == 3
    described = platform.kubectl("describe", "deployment", "web").stdout
    assert "3 desired | 3 updated | 3 total | 3 available" in described
    platform.kubectl("rollout", "restart", "deployment/web")
    platform.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    revisions = platform.kubectl("rollout", "history", "deployment/web").stdout
    assert "1 " in revisions and "2 " in revisions
    platform.kubectl("rollout", "undo", "deployment/web")
    platform.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    platform.kubectl("delete", "deployment", "web")
    wait_for(lambda: not platform.get("pods", "-l", "app=web")["items"], "the pods to go")


def test_logs_follow_and_watch(platform, tiny_image):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "talker"}, "spec": {"restartPolicy": "Never", "containers": [
        {"name": "main", "image": tiny_image, "command": ["/bin/sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.2; done"]}]}}
    watch = subprocess.Popen([KUBECTL, "get", "pods", "-w", "-o", "name"], env=platform.environment(), stdout=subprocess.PIPE, text=True)
    platform.kubectl("apply", "-f", "-", input=yaml.safe_dump(pod))
    platform.kubectl("wait", "--for=jsonpath={.status.containerStatuses}", "pod/talker", "--timeout=30s")
    assert "line 3" in platform.kubectl("logs", "-f", "talker").stdout
    wait_for(lambda: platform.get("pod", "talker")["status"]["phase"] == "Succeeded", "the pod to succeed")
    watch.terminate()
    assert "pod/talker" in watch.communicate()[0]
    platform.kubectl("delete", "pod", "talker")


def test_job_runs_to_completion(platform, tiny_image):
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [
        {"name": "main", "image": tiny_image, "command": ["/bin/sh", "-c", "echo done"]}]}}}}
    platform.kubectl("apply", "-f", "-", input=yaml.safe_dump(job))
    platform.kubectl("wait", "--for=condition=complete", "job/once", "--timeout=60s")
    assert platform.kubectl("logs", "job/once").stdout == "done\n"
    platform.kubectl("delete", "job", "once")


def test_missing_image_is_told(platform):
    platform.kubectl("apply", "-f", "-", input=yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "noimage"}, "spec": {"containers": [
        {"name": "main", "image": "no-such-image:1"}]}}))

    def waiting():
        statuses = platform.get("pod", "noimage")["status"].get("containerStatuses") or [{}]
        return statuses[0].get("state", {}).get("waiting", {}).get("reason") in ("ErrImagePull", "ImagePullBackOff") and statuses[0]["state"]["waiting"]

    assert "no-such-image" in wait_for(waiting, "ErrImagePull")["message"]
    platform.kubectl("delete", "pod", "noimage", "--grace-period=0", "--force")


def test_server_side_apply_and_patches(platform):
    manifest = yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "patched"}, "data": {"a": "1"}})
    assert "serverside-applied" in platform.kubectl("apply", "--server-side", "-f", "-", input=manifest).stdout
    platform.kubectl("patch", "configmap", "patched", "--type=merge", "-p", '{"data":{"b":"2"}}')
    platform.kubectl("patch", "configmap", "patched", "--type=json", "-p", '[{"op":"remove","path":"/data/a"}]')
    platform.kubectl("label", "configmap", "patched", "tier=front")
    platform.kubectl("annotate", "configmap", "patched", "note=x")
    found = platform.get("configmap", "patched")
    assert found["data"] == {"b": "2"} and found["metadata"]["labels"] == {"tier": "front"}
    assert platform.kubectl("get", "configmap", "-l", "tier=front", "-o", "name").stdout.strip() == "configmap/patched"
    platform.kubectl("delete", "configmap", "patched")


@pytest.mark.parametrize("command", [["api-resources"], ["api-versions"], ["version"], ["cluster-info"], ["get", "nodes", "-o", "wide"], ["get", "all", "-A"],
                                     ["get", "events", "-A"], ["describe", "node", "node1"], ["get", "--raw", "/readyz"]])
def test_looks(platform, command):
    assert platform.kubectl(*command).stdout
