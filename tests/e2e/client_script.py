"""What test_client_library.py runs with the distribution's python3, which has the package python3-kubernetes. Arguments: the namespace, an image. Every step asserts."""

import json
import sys
import threading
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

NAMESPACE, IMAGE = sys.argv[1:]
config.load_kube_config()
core, apps, batch = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api()


def refused(status, function, *args, **more):
    try:
        function(*args, **more)
    except ApiException as error:
        assert error.status == status, error
        return error.body
    raise AssertionError(f"{function.__name__} was not refused")


def wait_for(condition, what):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def pod_manifest(name, command):
    return client.V1Pod(metadata=client.V1ObjectMeta(name=name, labels={"app": name}), spec=client.V1PodSpec(
        termination_grace_period_seconds=0, containers=[client.V1Container(name="main", image=IMAGE, command=["/bin/busybox", "sh", "-c", command])]))


def config_maps():
    seen = []
    done = threading.Event()

    def follow(version):
        for event in watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, resource_version=version, label_selector="by=client", timeout_seconds=30):
            seen.append((event["type"], event["object"].data.get("n")))
            if event["type"] == "DELETED":
                break
        done.set()

    version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    thread = threading.Thread(target=follow, args=(version,))
    thread.start()
    made = core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="cm-", labels={"by": "client"}), data={"n": "1"}))
    name = made.metadata.name
    assert name.startswith("cm-") and len(name) == 8 and made.metadata.uid
    core.patch_namespaced_config_map(name, NAMESPACE, {"data": {"n": "2"}})
    made.data = {"n": "late"}
    assert "the object has been modified" in refused(409, core.replace_namespaced_config_map, name, NAMESPACE, made)
    fresh = core.read_namespaced_config_map(name, NAMESPACE)
    fresh.data["n"] = "3"
    core.replace_namespaced_config_map(name, NAMESPACE, fresh)
    core.delete_namespaced_config_map(name, NAMESPACE)
    assert done.wait(30), seen
    thread.join()
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("MODIFIED", "3"), ("DELETED", "3")], seen
    refused(404, core.read_namespaced_config_map, name, NAMESPACE)


def pages():
    for number in range(25):
        core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"page-{number:02}", labels={"set": "pages"})))
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="set=pages", limit=10, _continue=token)
        names += [each.metadata.name for each in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"page-{number:02}" for number in range(25)], names
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="set=pages")
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="set=pages").items


def pods():
    core.create_namespaced_pod(NAMESPACE, pod_manifest("talker", "echo one; echo two; mkdir /www; echo hello > /www/index.html; exec busybox httpd -f -p 8080 -h /www"))
    wait_for(lambda: core.read_namespaced_pod("talker", NAMESPACE).status.phase == "Running", "the pod runs")
    wait_for(lambda: core.read_namespaced_pod_log("talker", NAMESPACE) == "one\ntwo\n", "its log")
    assert core.read_namespaced_pod_log("talker", NAMESPACE, tail_lines=1) == "two\n"
    out = stream(core.connect_get_namespaced_pod_exec, "talker", NAMESPACE, command=["/bin/busybox", "echo", "from", "within"], stdout=True, stderr=True)
    assert out == "from within\n", out
    session = stream(core.connect_get_namespaced_pod_exec, "talker", NAMESPACE, command=["/bin/busybox", "sh", "-c", "read line; echo got $line; exit 3"], stdin=True,
                     stdout=True, stderr=True, _preload_content=False)
    session.write_stdin("words\n")
    session.run_forever(timeout=20)
    assert session.read_stdout() == "got words\n" and session.returncode == 3
    forward = portforward(core.connect_get_namespaced_pod_portforward, "talker", NAMESPACE, ports="8080")
    socket = forward.socket(8080)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while True:
        piece = socket.recv(4096)
        if not piece:
            break
        answer += piece
    assert b"200 OK" in answer and answer.endswith(b"hello\n"), answer
    core.delete_namespaced_pod("talker", NAMESPACE)
    wait_for(lambda: not core.list_namespaced_pod(NAMESPACE, label_selector="app=talker").items, "the pod is gone")


def workloads():
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
        "metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": IMAGE, "command": ["/bin/busybox", "sleep", "100000"]}]}}}}
    utils.create_from_dict(client.ApiClient(), manifest, namespace=NAMESPACE)
    wait_for(lambda: apps.read_namespaced_deployment_status("web", NAMESPACE).status.ready_replicas == 2, "two replicas")
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 1}})
    wait_for(lambda: apps.read_namespaced_deployment_scale("web", NAMESPACE).status.replicas == 1, "one replica")
    assert "spec.replicas" in refused(422, apps.patch_namespaced_deployment, "web", NAMESPACE, {"spec": {"replicas": -1}})
    apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Foreground")
    wait_for(lambda: not core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items, "its pods are gone")
    job = client.V1Job(metadata=client.V1ObjectMeta(name="sum"), spec=client.V1JobSpec(backoff_limit=0, template=client.V1PodTemplateSpec(
        spec=client.V1PodSpec(restart_policy="Never", containers=[client.V1Container(name="main", image=IMAGE, command=["/bin/busybox", "true"])]))))
    batch.create_namespaced_job(NAMESPACE, job)
    wait_for(lambda: batch.read_namespaced_job("sum", NAMESPACE).status.succeeded == 1, "the job succeeds")


def dynamically():
    """The dynamic client reads discovery; server-side apply goes through it."""
    everything = dynamic.DynamicClient(client.ApiClient())
    secrets = everything.resources.get(api_version="v1", kind="Secret")
    body = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "applied"}, "stringData": {"k": "v"}})
    applied = everything.patch(secrets, body=body, name="applied", namespace=NAMESPACE, content_type="application/apply-patch+yaml", field_manager="script")
    assert applied.data["k"] == "dg=="
    assert [each.metadata.name for each in secrets.get(namespace=NAMESPACE).items] == ["applied"]
    assert {"deployments", "statefulsets"} <= {each.name for each in everything.resources.search(api_version="apps/v1")}


for step in (config_maps, pages, pods, workloads, dynamically):
    step()
    print(step.__name__, "ok", flush=True)
