"""StatefulSets, DaemonSets, ReplicationControllers and disruption budgets with kubectl and real pods."""

import json

import pytest
import yaml

from conftest import wait_for

LOOP = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done"]


@pytest.fixture(scope="module")
def space(platform):
    """A namespace of the module's own, gone afterwards with all that is in it."""
    platform.kubectl("create", "namespace", "workloads")
    yield "workloads"
    platform.kubectl("delete", "namespace", "workloads", "--timeout=60s")


@pytest.fixture
def kubectl(platform, space):
    return lambda *args, **options: platform.kubectl("-n", space, *args, **options)


@pytest.fixture
def get(platform, space):
    return lambda *args: platform.get("-n", space, *args)


def template(name, image, **env):
    return {"metadata": {"labels": {"app": name}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "main", "image": image, "command": LOOP, "env": [{"name": k, "value": v} for k, v in env.items()]}]}}


def workload(kind, name, image, api="apps/v1", **spec):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name, image, VERSION="1"), **spec}}


def apply(kubectl, *objects):
    return kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects)).stdout


def version_of(pod):
    return pod["spec"]["containers"][0]["env"][0]["value"]


def versions(get, name):
    return {pod["metadata"]["name"]: version_of(pod) for pod in get("pods", "-l", f"app={name}")["items"] if "deletionTimestamp" not in pod["metadata"]}


def test_a_stateful_set_from_creation_to_undo(kubectl, get, tiny_image):
    apply(kubectl, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dbs"},
                    "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80}]}},
          workload("StatefulSet", "db", tiny_image, replicas=3, serviceName="dbs"))
    kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    pods = {pod["metadata"]["name"]: pod for pod in get("pods", "-l", "app=db")["items"]}
    assert sorted(pods) == ["db-0", "db-1", "db-2"]

    def ready_at(name):
        return next(c["lastTransitionTime"] for c in pods[name]["status"]["conditions"] if c["type"] == "Ready")

    assert ready_at("db-0") <= pods["db-1"]["metadata"]["creationTimestamp"] and ready_at("db-1") <= pods["db-2"]["metadata"]["creationTimestamp"]
    labels = pods["db-2"]["metadata"]["labels"]
    assert labels["statefulset.kubernetes.io/pod-name"] == "db-2" and labels["apps.kubernetes.io/pod-index"] == "2"
    assert kubectl("exec", "db-1", "--", "busybox", "hostname").stdout == "db-1\n"
    address = pods["db-2"]["status"]["podIP"]
    wait_for(lambda: address in kubectl("exec", "db-0", "--", "busybox", "nslookup", "db-2.dbs.workloads.svc.cluster.local", check=False).stdout,
             "the name of db-2 in the headless service")

    # Partition: only the highest ordinal gets the new template.
    kubectl("patch", "statefulset", "db", "-p", json.dumps({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 2}}}}))
    kubectl("set", "env", "statefulset/db", "VERSION=2")
    assert "partitioned roll out complete: 1 new pods have been updated" in kubectl("rollout", "status", "statefulset/db", "--timeout=60s").stdout
    assert versions(get, "db") == {"db-0": "1", "db-1": "1", "db-2": "2"}
    kubectl("patch", "statefulset", "db", "-p", json.dumps({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}))
    kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    assert set(versions(get, "db").values()) == {"2"}

    # History and the way back.
    history = kubectl("rollout", "history", "statefulset/db").stdout
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2"]
    assert "VERSION:\t1" in kubectl("rollout", "history", "statefulset/db", "--revision=1").stdout
    assert "rolled back" in kubectl("rollout", "undo", "statefulset/db").stdout
    kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    assert set(versions(get, "db").values()) == {"1"}
    assert len(get("controllerrevisions", "-l", "app=db")["items"]) == 2
    assert "skipped rollback" in kubectl("rollout", "undo", "statefulset/db", "--to-revision=3").stdout

    kubectl("scale", "statefulset/db", "--replicas=1")
    wait_for(lambda: list(versions(get, "db")) == ["db-0"] and len(get("pods", "-l", "app=db")["items"]) == 1, "one pod")
    events = kubectl("events", "--for", "statefulset/db").stdout
    assert "create Pod db-0 in StatefulSet db successful" in events and "delete Pod db-2 in StatefulSet db successful" in events
    kubectl("delete", "statefulset", "db", "--cascade=foreground", "--timeout=60s")
    assert get("pods", "-l", "app=db")["items"] == []


def test_a_daemon_set_rolls_and_undoes(kubectl, get, tiny_image):
    apply(kubectl, workload("DaemonSet", "agent", tiny_image))
    assert "successfully rolled out" in kubectl("rollout", "status", "daemonset/agent", "--timeout=60s").stdout
    status = get("daemonset", "agent")["status"]
    assert status["desiredNumberScheduled"] == status["numberAvailable"] == status["updatedNumberScheduled"] == 1
    kubectl("set", "env", "daemonset/agent", "VERSION=2")
    kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    assert list(versions(get, "agent").values()) == ["2"]
    history = kubectl("rollout", "history", "daemonset/agent").stdout
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2"]
    assert "rolled back" in kubectl("rollout", "undo", "daemonset/agent").stdout
    kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    assert list(versions(get, "agent").values()) == ["1"]
    before = list(versions(get, "agent"))
    kubectl("rollout", "restart", "daemonset/agent")
    kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    assert list(versions(get, "agent")) != before
    kubectl("delete", "daemonset", "agent")


def test_a_replication_controller_and_its_budget(kubectl, get, tiny_image):
    apply(kubectl,
          {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "old"},
           "spec": {"replicas": 2, "selector": {"app": "old"}, "template": template("old", tiny_image, VERSION="1")}},
          {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "old"},
           "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "old"}}}})

    def budget(**wanted):
        status = get("pdb", "old").get("status", {})
        return all(status.get(key, 0) == value for key, value in wanted.items())

    wait_for(lambda: budget(expectedPods=2, desiredHealthy=1, currentHealthy=2, disruptionsAllowed=1), "one disruption allowed")
    kubectl("scale", "rc/old", "--replicas=3")
    wait_for(lambda: budget(expectedPods=3, desiredHealthy=2, currentHealthy=3, disruptionsAllowed=1), "the budget of three")
    assert get("rc", "old")["status"]["readyReplicas"] == 3
    kubectl("delete", "rc", "old")
    wait_for(lambda: get("pods", "-l", "app=old")["items"] == [], "no pods")


def test_a_deployment_is_paused_resumed_and_rolled_back(kubectl, get, tiny_image):
    apply(kubectl, workload("Deployment", "web", tiny_image, replicas=2))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("rollout", "pause", "deployment/web")
    kubectl("set", "env", "deployment/web", "VERSION=2")
    wait_for(lambda: get("deployment", "web")["status"]["observedGeneration"] == get("deployment", "web")["metadata"]["generation"], "it is seen")
    assert set(versions(get, "web").values()) == {"1"}
    kubectl("rollout", "resume", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert set(versions(get, "web").values()) == {"2"}
    kubectl("rollout", "undo", "deployment/web", "--to-revision=1")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert set(versions(get, "web").values()) == {"1"}
    history = kubectl("rollout", "history", "deployment/web").stdout
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["2", "3"]
    conditions = {c["type"]: c["reason"] for c in get("deployment", "web")["status"]["conditions"]}
    assert conditions == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}
    kubectl("delete", "deployment", "web")
