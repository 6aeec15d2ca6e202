"""What the server itself decides, as kubectl users meet it: quotas, limits, Pod Security, accounts, evictions, node ports, proxies."""

import json
import urllib.request

import pytest

from conftest import wait_for

POD = """
apiVersion: v1
kind: Pod
metadata: {name: %(name)s, namespace: %(namespace)s, labels: {app: %(name)s}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:latest
    imagePullPolicy: IfNotPresent
    command: [%(command)s]
    ports: [{containerPort: 8080}]
"""
SERVER = 'sh, -c, "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www"'


def apply(platform, text, check=True):
    return platform.kubectl("apply", "-f", "-", input=text, check=check)


def make_pod(platform, namespace, name, command='sh, -c, "sleep 1000"', check=True):
    return apply(platform, POD % {"namespace": namespace, "name": name, "command": command}, check)


@pytest.fixture
def namespace(platform, tiny_image, request):
    name = request.node.name.replace("_", "-")[:50]
    platform.kubectl("create", "namespace", name)
    yield name
    platform.kubectl("delete", "namespace", name, "--wait=false")


def test_quota_is_kept_and_shown(platform, namespace):
    platform.kubectl("-n", namespace, "create", "quota", "q", "--hard=pods=2,requests.cpu=1,configmaps=5")
    platform.kubectl("-n", namespace, "create", "-f", "-", input="""
apiVersion: v1
kind: LimitRange
metadata: {name: l}
spec: {limits: [{type: Container, defaultRequest: {cpu: 100m}, default: {cpu: 200m, memory: 64Mi}}]}
""")
    wait_for(lambda: platform.get("-n", namespace, "quota", "q")["status"].get("used"), "the quota's first count")
    for name in "ab":
        make_pod(platform, namespace, name)
    refused = make_pod(platform, namespace, "c", check=False)
    assert refused.returncode == 1
    assert 'pods "c" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2' in refused.stderr
    described = platform.kubectl("-n", namespace, "describe", "quota", "q").stdout
    assert [line.split() for line in described.splitlines() if line.startswith(("pods", "requests.cpu"))] == [
        ["pods", "2", "2"], ["requests.cpu", "200m", "1"]]
    pod = platform.get("-n", namespace, "pod", "a")
    assert pod["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}}
    platform.kubectl("-n", namespace, "delete", "pod", "a", "--now")
    wait_for(lambda: platform.get("-n", namespace, "quota", "q")["status"]["used"]["pods"] == "1", "the recount")
    make_pod(platform, namespace, "c")


def test_refused_pods_of_a_controller_are_told(platform, namespace):
    platform.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    made = platform.kubectl("-n", namespace, "create", "deployment", "web", "--image=busybox:latest")
    assert 'Warning: would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false' in made.stderr
    refused = make_pod(platform, namespace, "p", check=False)
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr

    def condition():
        return {each["type"]: each for each in platform.get("-n", namespace, "deployment", "web").get("status", {}).get("conditions", [])}

    wait_for(lambda: "ReplicaFailure" in condition(), "the deployment's condition")
    assert "is forbidden: violates PodSecurity" in condition()["ReplicaFailure"]["message"]


def test_drain_respects_the_budget(platform, namespace):
    make_pod(platform, namespace, "p")
    platform.kubectl("-n", namespace, "create", "pdb", "b", "--selector=app=p", "--min-available=1")
    platform.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    wait_for(lambda: platform.get("-n", namespace, "pdb", "b").get("status", {}).get("currentHealthy") == 1, "the budget's count")
    drain = ("drain", "node1", "--pod-selector=app=p", "--force", "--ignore-daemonsets", "--delete-emptydir-data")
    try:
        refused = platform.kubectl(*drain, "--timeout=1s", check=False)
        assert refused.returncode == 1
        assert "Cannot evict pod as it would violate the pod's disruption budget." in refused.stderr
        platform.kubectl("-n", namespace, "delete", "pdb", "b")
        drained = platform.kubectl(*drain, "--timeout=60s")
        assert "node/node1 drained" in drained.stdout
        assert platform.kubectl("-n", namespace, "get", "pod", "p", check=False).returncode == 1
    finally:
        platform.kubectl("uncordon", "node1")


def fetch(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def answers(url, text):
    try:
        return fetch(url) == text
    except OSError:
        return False


def test_node_ports_balancers_and_proxies(platform, namespace):
    make_pod(platform, namespace, "web", SERVER)
    platform.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/web", "--timeout=60s")
    platform.kubectl("-n", namespace, "expose", "pod", "web", "--port=80", "--target-port=8080", "--type=NodePort", "--name=web")
    port = platform.get("-n", namespace, "service", "web")["spec"]["ports"][0]["nodePort"]
    wait_for(lambda: answers(f"http://127.0.0.1:{port}/", "hello\n"), "the node port")
    taken = platform.kubectl("-n", namespace, "create", "service", "nodeport", "x", "--tcp=80", f"--node-port={port}", check=False)
    assert f"spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated" in taken.stderr
    for path in ("services/web:80", "services/web", "services/http:web:80", "pods/web:8080", "pods/web"):
        assert platform.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/{path}/proxy/index.html").stdout == "hello\n"
    missing = platform.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/services/web:81/proxy/", check=False)
    assert 'no service port 81 found for service "web"' in missing.stderr
    platform.kubectl("-n", namespace, "patch", "service", "web", "-p", '{"spec":{"type":"LoadBalancer","sessionAffinity":"ClientIP"}}')

    def balancer():
        return platform.get("-n", namespace, "service", "web")["status"]["loadBalancer"].get("ingress")

    assert wait_for(balancer, "the balancer's address")[0]["ip"] == next(
        each["address"] for each in platform.get("node", "node1")["status"]["addresses"] if each["type"] == "InternalIP")
    wait_for(lambda: answers(f"http://127.0.0.1:{port}/", "hello\n"), "the node port with affinity")


def test_pods_know_who_they_are(platform, namespace):
    make_pod(platform, namespace, "p")
    platform.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")

    def read(name):
        return platform.kubectl("-n", namespace, "exec", "p", "--", "cat", f"/var/run/secrets/kubernetes.io/serviceaccount/{name}").stdout

    assert read("namespace") == namespace
    assert "BEGIN CERTIFICATE" in read("ca.crt")
    review = json.loads(platform.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": read("token")}})).stdout)
    assert review["status"]["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    environment = platform.kubectl("-n", namespace, "exec", "p", "--", "env").stdout.splitlines()
    assert f"KUBERNETES_SERVICE_HOST=10.{platform.services}.0.1" in environment
    platform.kubectl("-n", namespace, "exec", "p", "--", "sh", "-c", "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null")


def test_classes_scales_and_ephemeral_containers(platform, namespace):
    platform.kubectl("create", "priorityclass", "high", "--value=1000", "--description=x")
    platform.kubectl("delete", "priorityclass", "high")
    make_pod(platform, namespace, "p")
    listed = platform.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/p/ephemeralcontainers").stdout
    assert json.loads(listed)["kind"] == "Pod"
    platform.kubectl("-n", namespace, "create", "deployment", "web", "--image=busybox:latest", "--replicas=0")
    scale = json.loads(platform.kubectl("get", "--raw", f"/apis/apps/v1/namespaces/{namespace}/deployments/web/scale").stdout)
    assert scale["kind"] == "Scale" and scale["status"] == {"replicas": 0, "selector": "app=web"}
    assert platform.kubectl("-n", namespace, "get", "deployment", "web", "--subresource=scale").returncode == 0
