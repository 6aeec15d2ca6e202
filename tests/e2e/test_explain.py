"""What kubectl learns from discovery and OpenAPI: which resources there are, what their fields mean, and how to compute the patches of `apply`.

Each kubectl of the matrix that is here does the same; when only one is here, the output says so."""

import base64
import gzip
import http.client
import json
import ssl
import subprocess

import pytest
import yaml

from conftest import KUBECTL, ROOT, running



def minor_of(path):
    version = json.loads(subprocess.run([path, "version", "--client", "-o", "json"], capture_output=True, text=True, check=True).stdout)
    return int(version["clientVersion"]["minor"].rstrip("+"))


def find_binaries():
    """One kubectl of each minor version that is here: those of the matrix, and the one of all other tests."""
    found = {}
    for path in sorted((ROOT / "build/tools").glob("kubectl-1.*")) + ([KUBECTL] if KUBECTL.exists() else []):
        found.setdefault(minor_of(path), path)
    return dict(sorted(found.items()))


BINARIES = find_binaries()

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shape}
spec:
  replicas: 0
  selector: {matchLabels: {app: shape}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 2}}
  template:
    metadata: {labels: {app: shape}}
    spec:
      containers:
      - name: one
        image: busybox
        env: [{name: A, value: "1"}, {name: B, value: "2"}]
        ports: [{containerPort: 80, name: http}, {containerPort: 81, name: more}]
      - {name: two, image: busybox}
      volumes: [{name: v, emptyDir: {}}]
"""


@pytest.fixture(scope="module")
def platform():
    if len(BINARIES) == 1:
        print("ONLY ONE KUBECTL TESTED: `make matrix` (scripts/fetch-kubectl-matrix) builds the others")
    with running("say", 155) as instance:
        yield instance


@pytest.fixture(params=BINARIES, ids=lambda minor: f"1.{minor}")
def kubectl(platform, request):
    """One kubectl with a cache and a namespace of its own."""
    name = f"v1-{request.param}"
    home = platform.dir / name
    first = not home.exists()
    home.mkdir(exist_ok=True)

    def run(*args, code=0, input=None):
        result = subprocess.run([BINARIES[request.param], "-n", name, *args], capture_output=True, text=True, input=input,
                                env={**platform.environment(), "HOME": str(home)}, timeout=60)
        assert result.returncode == code, f"kubectl 1.{request.param} {' '.join(args)}: exit code {result.returncode}, {result.stdout}{result.stderr}"
        return result

    run.minor = request.param
    if first:
        run("create", "namespace", name)
    return run


def raw(platform, path, **headers):
    """GET as the administrator, with headers of one's own: (status, headers, body)."""
    config = yaml.safe_load((platform.state / "kubeconfig").read_text())
    user = config["users"][0]["user"]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    token = user.get("token")
    if not token:
        for key in ("client-certificate", "client-key"):
            if f"{key}-data" in user:
                (platform.dir / key).write_bytes(base64.b64decode(user[f"{key}-data"]))
                user[key] = str(platform.dir / key)
        context.load_cert_chain(user["client-certificate"], user["client-key"])
    connection = http.client.HTTPSConnection("127.0.0.1", platform.api_port, timeout=30, context=context)
    try:
        connection.request("GET", path, headers={**({"Authorization": f"Bearer {token}"} if token else {}), **headers})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_explain(kubectl):
    recursive = kubectl("explain", "pods", "--recursive").stdout
    for field in ("topologySpreadConstraints", "preferredDuringSchedulingIgnoredDuringExecution", "valueFrom", "terminationGracePeriodSeconds", "creationTimestamp"):
        assert field in recursive
    text = kubectl("explain", "deploy.spec.strategy.rollingUpdate").stdout
    assert "GROUP:      apps" in text and "KIND:       Deployment" in text and "FIELD: rollingUpdate <RollingUpdateDeployment>" in text
    assert "maxSurge\t<IntOrString>" in text and "<no description>" not in text and "<empty>" not in text
    text = kubectl("explain", "statefulset.spec", "--api-version=apps/v1").stdout
    assert "serviceName\t<string>" in text and "selector\t<LabelSelector> -required-" in text
    if kubectl.minor >= 30:  # older ones do not show them
        assert "enum: Always, IfNotPresent, Never" in kubectl("explain", "pod.spec.containers").stdout
    assert "does not exist" in kubectl("explain", "pod.spec.nothing", code=1).stderr


def test_explain_by_version_2(kubectl):
    text = kubectl("explain", "deploy.spec.template.spec.containers", "--output", "plaintext-openapiv2").stdout
    assert "RESOURCE: containers <[]Object>" in text and "imagePullPolicy\t<string>" in text and "<none>" not in text


def test_resources(kubectl):
    wide = kubectl("api-resources", "-o", "wide").stdout
    rows = {line.split()[0]: " ".join(line.split()) for line in wide.splitlines()}
    assert rows["deployments"] == "deployments deploy apps/v1 true Deployment create,delete,deletecollection,get,list,patch,update,watch all"
    assert rows["namespaces"] == "namespaces ns v1 false Namespace create,delete,get,list,patch,update,watch"
    assert rows["selfsubjectaccessreviews"].endswith("authorization.k8s.io/v1 false SelfSubjectAccessReview create")
    assert "horizontalpodautoscalers" in rows and "autoscaling/v2" in rows["horizontalpodautoscalers"]
    assert {"v1", "apps/v1", "autoscaling/v1", "autoscaling/v2", "rbac.authorization.k8s.io/v1"} <= set(kubectl("api-versions").stdout.split())
    assert "Server Version: v1.32" in kubectl("version").stdout
    assert "is running at" in kubectl("cluster-info").stdout


def test_validation_names_the_field(kubectl):
    wrong = DEPLOYMENT.replace("replicas: 0", "replcas: 0").replace("name: shape}", "name: wrong}")
    assert 'unknown field "spec.replcas"' in kubectl("apply", "--validate=strict", "-f", "-", input=wrong, code=1).stderr


def test_apply_computes_patches_from_the_schemas(kubectl):
    kubectl("apply", "-f", "-", input=DEPLOYMENT)
    changed = DEPLOYMENT.replace('value: "1"', 'value: "one"').replace(", {containerPort: 81, name: more}", "")
    changed = changed.replace("{type: RollingUpdate, rollingUpdate: {maxSurge: 2}}", "{type: Recreate}").replace("emptyDir: {}", "configMap: {name: c}")
    kubectl("apply", "-f", "-", input=changed)
    spec = json.loads(kubectl("get", "deploy", "shape", "-o", "json").stdout)["spec"]
    pod = spec["template"]["spec"]
    assert spec["strategy"] == {"type": "Recreate"}
    assert pod["containers"][0]["env"] == [{"name": "A", "value": "one"}, {"name": "B", "value": "2"}]
    assert [port["containerPort"] for port in pod["containers"][0]["ports"]] == [80]
    assert [container["name"] for container in pod["containers"]] == ["one", "two"]
    assert "emptyDir" not in pod["volumes"][0] and pod["volumes"][0]["configMap"]["name"] == "c"
    assert "unchanged" in kubectl("apply", "-f", "-", input=changed).stdout
    kubectl("delete", "deploy", "shape")


def test_documents_are_kept_by_their_hash(platform):
    status, headers, body = raw(platform, "/openapi/v3")
    index = json.loads(body)["paths"]
    assert status == 200 and {"api/v1", "apis/apps/v1", "apis/autoscaling/v2"} <= index.keys()
    assert raw(platform, "/openapi/v3", **{"If-None-Match": headers["ETag"]})[0] == 304
    url = index["apis/apps/v1"]["serverRelativeURL"]
    status, headers, body = raw(platform, url)
    assert status == 200 and headers["Cache-Control"] == "public, immutable" and headers["Expires"].endswith("GMT") and "Content-Encoding" not in headers
    assert json.loads(body)["openapi"] == "3.0.0" and headers["ETag"].strip('"') in url
    for _ in range(2):  # made, then kept
        status, packed, bytes_ = raw(platform, url, **{"Accept-Encoding": "gzip"})
        assert status == 200 and packed["Content-Encoding"] == "gzip" and packed["Vary"] == "Accept, Accept-Encoding" and gzip.decompress(bytes_) == body
    assert raw(platform, url, **{"If-None-Match": headers["ETag"]})[0] == 304
    status, headers, _ = raw(platform, "/openapi/v3/apis/apps/v1?hash=old")
    assert status == 301 and headers["Location"] == url
    assert raw(platform, url, Accept="text/html")[0] == 406
    assert raw(platform, "/openapi/v3/apis/nothing/v1")[0] == 404


def test_version_2_comes_as_json_and_protobuf(platform):
    status, headers, body = raw(platform, "/openapi/v2", Accept="application/json")
    document = json.loads(body)
    assert status == 200 and document["swagger"] == "2.0" and "io.k8s.api.core.v1.Pod" in document["definitions"]
    protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    status, headers, body = raw(platform, "/openapi/v2", Accept=protobuf, **{"Accept-Encoding": "gzip"})
    assert status == 200 and headers["Content-Type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert gzip.decompress(body).startswith(b"\x0a\x032.0")


def test_discovery_has_an_entity_tag(platform):
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    status, headers, body = raw(platform, "/apis", Accept=accept)
    groups = [group["metadata"]["name"] for group in json.loads(body)["items"]]
    assert status == 200 and headers["Content-Type"] == accept and groups[:2] == ["apiregistration.k8s.io", "apps"] and groups.index("batch") < groups.index("policy")
    assert raw(platform, "/apis", Accept=accept, **{"If-None-Match": headers["ETag"]})[0] == 304
    core = json.loads(raw(platform, "/api", Accept=accept)[2])["items"][0]["versions"][0]["resources"]
    pods = next(resource for resource in core if resource["resource"] == "pods")
    assert {"log", "exec", "eviction", "status"} <= {each["subresource"] for each in pods["subresources"]}
    plain = {each["name"]: each for each in json.loads(raw(platform, "/api/v1")[2])["resources"]}
    assert plain["pods"]["storageVersionHash"] == "xPOwRZ+Yhw8=" and plain["pods/eviction"]["group"] == "policy"
