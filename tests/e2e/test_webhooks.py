"""Admission webhooks with the real kubectl: a server of Python's own over TLS on this host, called by URL and by a service."""

import base64
import http.server
import json
import ssl
import subprocess
import threading

import pytest

from conftest import wait_for

MUTATING, VALIDATING = "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"
SERVICE = "hook"


def certify(folder, names):
    """A self-signed certificate: (file of the certificate, file of the key)."""
    certificate, key = folder / "hook.crt", folder / "hook.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hook", "-keyout", key, "-out", certificate,
                    "-addext", "subjectAltName=" + ",".join(names)], check=True, capture_output=True)
    return certificate, key


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request, path = review["request"], self.path.split("?")[0]
        self.server.seen.append((path, request))
        response = {"uid": request["uid"], "allowed": True}
        if path == "/deny" and "forbidden" in request["object"]["metadata"].get("labels", {}):
            response |= {"allowed": False, "status": {"code": 403, "reason": "Forbidden", "message": "labels may not say forbidden"}}
        elif path == "/label":
            patch = [{"op": "add", "path": "/metadata/labels/injected", "value": "yes"},
                     {"op": "add", "path": "/spec/containers/0/env", "value": [{"name": "INJECTED", "value": "1"}]}]
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode(), "warnings": ["a label was added"]}
        body = json.dumps({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def hook(platform, tmp_path_factory):
    """A server with .url, .ca, .bridge and .seen (what it was asked)."""
    bridge = f"10.{platform.number}.0.1"
    certificate, key = certify(tmp_path_factory.mktemp("hook"), ["IP:127.0.0.1", f"DNS:{SERVICE}.default.svc"])
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.seen, server.bridge, server.port = [], bridge, server.server_address[1]
    server.ca = base64.b64encode(certificate.read_bytes()).decode()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def configure(platform, hook):
    """Makes configurations of one webhook, which go with the test."""
    made = []

    def make(kind, name, client, operations, resources, **more):
        webhook = {"name": f"{name}.example.com", "clientConfig": {"caBundle": hook.ca, **client}, "sideEffects": "None", "timeoutSeconds": 2,
                   "admissionReviewVersions": ["v1"], "objectSelector": {"matchExpressions": [{"key": "asked", "operator": "Exists"}]},
                   "rules": [{"operations": operations, "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources}], **more}
        platform.kubectl("apply", "-f", "-", input=json.dumps({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": [webhook]}))
        made.append((kind, name))

    yield make
    for kind, name in made:
        platform.kubectl("delete", kind, name)


def config_map(name, **labels):
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"asked": "yes", **labels}}})


def deployment(name):
    template = {"metadata": {"labels": {"app": name, "asked": "yes"}}, "spec": {"containers": [{"name": "c", "image": "none:1"}]}}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                       "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template}})


def test_a_denial_by_url(platform, hook, configure):
    configure(VALIDATING, "words", {"url": f"https://127.0.0.1:{hook.port}/deny"}, ["CREATE", "UPDATE"], ["configmaps"])
    refused = platform.kubectl("create", "-f", "-", input=config_map("webhooks-a", forbidden="1"), check=False)
    assert refused.returncode == 1
    assert refused.stderr.strip() == ('Error from server (Forbidden): error when creating "STDIN": admission webhook "words.example.com" denied the '
                                      'request: labels may not say forbidden')
    platform.kubectl("create", "-f", "-", input=config_map("webhooks-a"))
    refused = platform.kubectl("label", "configmap", "webhooks-a", "forbidden=1", check=False)
    assert 'admission webhook "words.example.com" denied the request' in refused.stderr
    platform.kubectl("delete", "configmap", "webhooks-a")
    request = hook.seen[-1][1]
    assert request["operation"] == "UPDATE" and request["oldObject"]["metadata"]["name"] == "webhooks-a"


def test_a_service_injects_into_the_pods_of_a_deployment(platform, hook, configure):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE}, "spec": {"ports": [{"port": 443, "targetPort": hook.port}]}}
    endpoints = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": SERVICE},
                 "subsets": [{"addresses": [{"ip": hook.bridge}], "ports": [{"port": hook.port}]}]}
    for each in (service, endpoints):
        platform.kubectl("apply", "-f", "-", input=json.dumps(each))
    configure(MUTATING, "inject", {"service": {"name": SERVICE, "namespace": "default", "path": "/label"}}, ["CREATE"], ["pods"])
    platform.kubectl("apply", "-f", "-", input=deployment("injected"))
    pods = wait_for(lambda: [pod for pod in platform.get("pods", "-l", "app=injected")["items"]][1:] and
                    platform.get("pods", "-l", "app=injected")["items"], "the pods of the deployment")
    assert len(pods) == 2
    for pod in pods:
        assert pod["metadata"]["labels"]["injected"] == "yes"
        assert pod["spec"]["containers"][0]["env"] == [{"name": "INJECTED", "value": "1"}]
    path, request = [each for each in hook.seen if each[0] == "/label"][-1]
    assert request["userInfo"]["username"] == "system:kube-controller-manager" and request["kind"] == {"group": "", "version": "v1", "kind": "Pod"}
    warned = platform.kubectl("run", "injected-alone", "--image=none:1", "-l", "asked=yes")
    assert "Warning: a label was added" in warned.stderr
    platform.kubectl("delete", "deployment/injected", "pod/injected-alone", f"service/{SERVICE}", "--now")
    metrics = platform.kubectl("get", "--raw", "/metrics").stdout
    assert 'tidemill_webhook_changes_total{type="admit",configuration="inject",name="inject.example.com"} 3' in metrics


def test_a_dead_webhook_is_an_event_and_holds_up_nobody_else(platform, configure):
    configure(VALIDATING, "dead", {"url": "https://127.0.0.1:1/"}, ["CREATE"], ["pods"])
    platform.kubectl("apply", "-f", "-", input=deployment("held"))
    words = ('Error creating: Internal error occurred: failed calling webhook "dead.example.com": failed to call webhook: Post '
             '"https://127.0.0.1:1/?timeout=2s": dial tcp 127.0.0.1:1: connect: connection refused')

    def events():
        return [event["message"] for event in platform.get("events", "--field-selector=reason=FailedCreate")["items"]]

    wait_for(lambda: words in events(), "the event")
    platform.kubectl("create", "-f", "-", input=deployment("free").replace('"asked": "yes"', '"asked-not": "yes"'))
    wait_for(lambda: len(platform.get("pods", "-l", "app=free")["items"]) == 2, "pods that nobody is asked about")
    assert not platform.get("pods", "-l", "app=held")["items"]
    platform.kubectl("delete", "deployment", "held", "free", "--now")
