"""Images from other registries: who may have them, what is done when a registry behaves badly, and that nothing wrong ever runs."""

import os
import pathlib
import shutil
import ssl
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
import yaml
from conftest import Platform, wait_for
from fake_registry import ARCHITECTURE, Registry, digest_of

BUSYBOX = pathlib.Path("/bin/busybox").read_bytes()
BASE = {"bin/busybox": BUSYBOX}


@pytest.fixture(scope="module")
def instance():
    made = Platform("pull", 149)
    made.sites = made.dir / "registries.yaml"
    made.flags += ["--registries", str(made.sites)]
    try:
        made.up()
        yield made
    except BaseException:
        print(made.log()[-8000:])
        raise
    finally:
        made.destroy()


@pytest.fixture
def registry(request):
    made = Registry(**getattr(request, "param", {}))
    yield made
    made.close()


def run(instance, name, image, command="echo done", namespace="default", wait=True, **spec):
    container = {"name": "main", "image": image, "command": ["/bin/busybox", "sh", "-c", command]}
    container.update({key: spec.pop(key) for key in ("imagePullPolicy",) if key in spec})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
           "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container], **spec}}
    instance.kubectl("apply", "-f", "-", input=yaml.safe_dump(pod))
    if wait:
        wait_for(lambda: instance.get("pod", name, "-n", namespace)["status"]["phase"] == "Succeeded", f"{name} to succeed")


def status(instance, name, namespace="default"):
    return (instance.get("pod", name, "-n", namespace)["status"].get("containerStatuses") or [{}])[0]


def waits(instance, name, reason, namespace="default"):
    """The message of the container that waits for that reason."""
    def find():
        waiting = status(instance, name, namespace).get("state", {}).get("waiting", {})
        return waiting if waiting.get("reason") == reason else None
    return wait_for(find, f"{name} to wait with {reason}").get("message", "")


def events(instance, name, namespace="default"):
    items = instance.get("events", "-n", namespace, "--field-selector", f"involvedObject.name={name}")["items"]
    return {item["reason"]: item["message"] for item in sorted(items, key=lambda item: item["lastTimestamp"] or "")}


def pull_secret(instance, name, registry, password="secret", namespace="default"):
    instance.kubectl("create", "secret", "docker-registry", name, "-n", namespace, f"--docker-server={registry.host}", "--docker-username=ann",
                     f"--docker-password={password}")


@pytest.mark.parametrize("registry", [{"auth": "token"}], indirect=True)
def test_a_private_image_by_token_through_a_content_server(instance, registry):
    """Everything a large registry does: an index of platforms, a token, zstd, a redirect, which gets no credentials."""
    content = Registry()
    mine = registry.add_image("team/app", None, [BASE, {"hello": b"from afar\n"}], how="zstd")
    other = {**mine, "digest": digest_of(b"other"), "platform": {"os": "linux", "architecture": "vax"}}
    index = registry.add_index("team/app", "v1", other, {**mine, "platform": {"os": "linux", "architecture": ARCHITECTURE}})
    content.blobs, registry.elsewhere = registry.blobs, content.url
    image = f"{registry.host}/team/app:v1"
    pull_secret(instance, "wrong", registry, "guessed")
    pull_secret(instance, "right", registry)
    run(instance, "private", image, "/bin/busybox cat /hello", imagePullSecrets=[{"name": "nowhere"}, {"name": "wrong"}, {"name": "right"}])
    assert instance.kubectl("logs", "private").stdout == "from afar\n"
    assert status(instance, "private")["imageID"] == f"{registry.host}/team/app@{index['digest']}"
    told = events(instance, "private")
    assert told["Pulling"] == f'Pulling image "{image}"'
    assert told["Pulled"].startswith(f'Successfully pulled image "{image}" in ') and "including waiting). Image size: " in told["Pulled"]
    assert told["FailedToRetrieveImagePullSecret"] == \
        "Unable to retrieve some image pull secrets (nowhere); attempting to pull the image may not succeed."
    assert len(content.seen("/blobs/")) == 3 and not [request for request in content.seen() if request.authorization]

    # Nor is our own registry a way to it, by its port or in a pod's words.
    kept = registry.host.replace(":", "_") + "/team/app"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{instance.registry_port}/v2/{kept}/manifests/v1")
    run(instance, "sideways", f"127.0.0.1:{instance.registry_port}/{kept}:v1", wait=False)
    assert "name it as that registry does" in waits(instance, "sideways", "ErrImagePull")
    instance.kubectl("delete", "pod", "sideways")

    # Who shows no credentials, or wrong ones, does not get what others brought; who shows the same asks nobody.
    registry.forget()
    instance.kubectl("create", "namespace", "others")
    run(instance, "without", image, namespace="others", wait=False)
    message = waits(instance, "without", "ErrImagePull", "others")
    assert "incorrect username or password" in message, message
    assert "Back-off pulling image" in waits(instance, "without", "ImagePullBackOff", "others")
    registry.forget()
    wait_for(lambda: instance.kubectl("get", "serviceaccount", "default", check=False).returncode == 0, "the service account")
    instance.kubectl("patch", "serviceaccount", "default", "-p", '{"imagePullSecrets":[{"name":"right"}]}')
    run(instance, "account", image, imagePullPolicy="IfNotPresent")
    assert events(instance, "account")["Pulled"] == f'Container image "{image}" already present on machine'
    assert [request for request in registry.seen() if "/manifests/" in request.path and request.status == 200] == []
    instance.kubectl("patch", "serviceaccount", "default", "-p", '{"imagePullSecrets":null}')
    instance.kubectl("delete", "pod", "without", "-n", "others")
    content.close()


def test_broken_connections_go_on_where_they_broke(instance, registry):
    registry.add_image("app", "v1", [{"noise": os.urandom(3_000_000)}, BASE], how="")
    noise, base = [layer for layer in sorted(registry.blobs, key=lambda digest: len(registry.blobs[digest]))][-2:][::-1]
    registry.cut = {noise: [1_000_000, 500_000, 0], base: [10]}
    registry.busy = 2
    run(instance, "broken", f"{registry.host}/app:v1")
    ranges = [request.range for request in registry.seen(noise)]
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-", "bytes=1500000-"], ranges


def test_wrong_content_never_runs(instance, registry):
    registry.add_image("app", "v1", [BASE, {"a": b"a"}])
    layer = registry.add_blob(b"x")
    blobs = sorted(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
    largest = blobs[-1]
    registry.spoiled = {largest: registry.blobs[largest][:-1] + b"!"}
    run(instance, "spoiled", f"{registry.host}/app:v1", wait=False)
    assert f"sent a blob that does not have its digest {largest}" in waits(instance, "spoiled", "ErrImagePull")
    registry.spoiled = {largest: registry.blobs[largest] + b"more"}
    run(instance, "larger", f"{registry.host}/app:v1", wait=False)
    assert "not as large as its manifest says" in waits(instance, "larger", "ErrImagePull")
    registry.manifests["app", registry.tags["app", "v1"]] = b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"
    run(instance, "old", f"{registry.host}/app:v1", wait=False)
    assert "schema 1 manifest, which is obsolete" in waits(instance, "old", "ErrImagePull")
    run(instance, "digest", f"{registry.host}/app@{registry.tags['app', 'v1']}", wait=False)
    assert "instead of sha256:" in waits(instance, "digest", "ErrImagePull")
    run(instance, "absent", f"{registry.host}/app:none", wait=False)
    assert "MANIFEST_UNKNOWN: manifest unknown" in waits(instance, "absent", "ErrImagePull")
    # All is well again: the pods come up by themselves.
    registry.spoiled = {}
    registry.add_image("app", "v1", [BASE, {"a": b"a"}])
    wait_for(lambda: instance.get("pod", "spoiled")["status"]["phase"] == "Succeeded", "the spoiled one to recover")
    instance.kubectl("delete", "pod", "larger", "old", "digest", "absent")
    assert layer["digest"] in registry.blobs


def test_policies_and_mirrors(instance, registry):
    """docker.io's images come from its mirror; Always notices that a tag was moved, and fetches nothing otherwise."""
    instance.sites.write_text(f"docker.io:\n  mirrors: ['http://127.0.0.1:1', '{registry.url}/hub']\n")
    registry.add_image("hub/library/tool", "1", [BASE, {"version": b"one\n"}])
    run(instance, "never", "tool:1", imagePullPolicy="Never", wait=False)
    assert waits(instance, "never", "ErrImageNeverPull") == 'Container image "tool:1" is not present with pull policy of Never'
    run(instance, "first", "tool:1", "/bin/busybox cat /version")
    assert status(instance, "first")["imageID"].startswith("docker.io/library/tool@sha256:")
    registry.forget()
    run(instance, "same", "docker.io/library/tool:1", imagePullPolicy="Always")
    assert [(request.method, request.status) for request in registry.seen("/hub/")] == [("HEAD", 200)]
    registry.add_image("hub/library/tool", "1", [BASE, {"version": b"two\n"}])
    run(instance, "present", "tool:1", "/bin/busybox cat /version", imagePullPolicy="IfNotPresent")
    run(instance, "always", "tool:1", "/bin/busybox cat /version", imagePullPolicy="Always")
    assert urllib.request.urlopen(f"http://127.0.0.1:{instance.registry_port}/v2/tool/manifests/1").status == 200  # anybody's
    assert instance.kubectl("logs", "present").stdout == "one\n" and instance.kubectl("logs", "always").stdout == "two\n"
    assert len([request for request in registry.seen("/blobs/") if request.status == 200]) == 2  # the new layer and the configuration
    instance.kubectl("delete", "pod", "never")
    instance.sites.unlink()


def test_many_pods_of_one_new_image_fetch_it_once(instance, registry):
    registry.add_image("crowd", "v1", [BASE, {"a": b"crowd"}])
    registry.gate = threading.Event()
    names = [f"crowd{number}" for number in range(8)]
    for name in names:
        run(instance, name, f"{registry.host}/crowd:v1", wait=False)
    wait_for(lambda: registry.seen("/crowd/manifests/"), "the manifest to be asked for")
    registry.gate.set()
    for name in names:
        wait_for(lambda: instance.get("pod", name)["status"]["phase"] == "Succeeded", name)
    asked = [request.path for request in registry.seen("/blobs/")]
    assert len(asked) == len(set(asked)) >= 2, asked  # what lies below may be here from another test


def test_an_image_is_unpacked_while_it_comes(instance, registry):
    """What has come of a layer is there already, aside; the layer is only when all has come."""
    registry.add_image("large", "v1", [BASE, {"first": b"of the layer", "second": os.urandom(10_000_000)}], how="gzip -1")
    layer = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
    event = threading.Event()
    registry.held[layer] = 5_000_000, event
    run(instance, "large", f"{registry.host}/large:v1", "/bin/busybox cat /first", wait=False)
    layers = instance.state / "node/layers"
    wait_for(lambda: [path for path in layers.glob("tmp-*/second") if path.stat().st_size > 3_000_000], "the beginning to be unpacked")
    assert (instance.state / "registry/partial").iterdir() and not list(layers.glob("[!t]*/second"))
    event.set()
    wait_for(lambda: instance.get("pod", "large")["status"]["phase"] == "Succeeded", "the pod")
    assert instance.kubectl("logs", "large").stdout == "of the layer" and len(registry.seen(layer)) == 1
    assert not list(layers.glob("tmp-*")) and not list((instance.state / "registry/partial").iterdir())

    # A blob that the disk has spoiled since is noticed when it is unpacked again, and fetched anew.
    instance.kubectl("delete", "pod", "large")
    for path in layers.glob("[!t]*/second"):
        shutil.rmtree(path.parent)
    blob = instance.state / "registry/blobs/sha256" / layer.removeprefix("sha256:")
    os.truncate(blob, 1_000_000)
    run(instance, "large", f"{registry.host}/large:v1", imagePullPolicy="IfNotPresent")
    assert blob.read_bytes() == registry.blobs[layer] and len(registry.seen(layer)) == 2


def test_tls_is_a_must_and_own_authorities_are_named(instance, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=own",
                    "-addext", "subjectAltName=DNS:own.test", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "ca.pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    secure = Registry(tls=context)
    secure.add_image("app", "v1", [BASE])
    port = secure.host.rpartition(":")[2]
    hosts = pathlib.Path("/etc/hosts")
    before = hosts.read_text()
    ca = instance.dir / "ca.pem"
    ca.write_bytes((tmp_path / "ca.pem").read_bytes())
    try:
        hosts.write_text(before + "127.0.0.1 own.test\n")
        run(instance, "untrusted", f"own.test:{port}/app:v1", wait=False)
        assert "certificate" in waits(instance, "untrusted", "ErrImagePull")
        instance.sites.write_text(f"own.test:{port}:\n  ca: {ca}\n")
        run(instance, "trusted", f"own.test:{port}/app:v1")
        instance.kubectl("delete", "pod", "untrusted")
    finally:
        hosts.write_text(before)
        instance.sites.unlink(missing_ok=True)
        secure.close()


@pytest.mark.parametrize("registry", [{"auth": "basic"}], indirect=True)
def test_commands(instance, registry):
    """login, pull, list, push, df, rm, logout: what a person does by hand."""
    tidemill = instance.tidemill
    image = registry.add_image("tool", "1", [BASE, {"a": os.urandom(200_000)}])
    refused = tidemill("image", "login", registry.host, "-u", "ann", input="guessed\n", check=False)
    assert refused.returncode == 1 and "refuses the credentials" in refused.stderr
    assert "wants credentials" in tidemill("image", "pull", f"{registry.host}/tool:1", check=False).stderr
    assert "good" in tidemill("image", "login", registry.host, "-u", "ann", input="secret\n").stdout
    assert "secret" not in (instance.state / "registry/auth.json").read_text() and (instance.state / "registry/auth.json").stat().st_mode & 0o77 == 0
    pulled = tidemill("image", "pull", f"{registry.host}/tool:1").stdout
    name = registry.host.replace(":", "_") + "/tool"
    assert pulled.startswith(f"{name}:1 is {image['digest']}"), pulled
    run(instance, "by-login", f"{registry.host}/tool:1", imagePullPolicy="IfNotPresent")  # the machine's credentials are every pod's

    listed = {item["name"]: item for item in yaml.safe_load(tidemill("image", "list", "-o", "json").stdout)}[name]
    assert listed["digest"] == image["digest"] and listed["pulledFrom"] == f"{registry.host}/tool@{image['digest']}" and listed["usedBy"] == "Pod default/by-login"
    assert listed["sizeBytes"] == sum(len(data) for data in registry.blobs.values()) + image["size"]
    row = next(line for line in tidemill("image", "list").stdout.splitlines() if line.startswith(name))
    assert image["digest"][:19] in row and " MB " in row and "Pod default/by-login" in row

    target = Registry()
    assert "is pushed" in tidemill("image", "push", f"{name}:1", f"{target.host}/copies/tool:2").stdout
    assert target.tags == {("copies/tool", "2"): image["digest"]} and target.blobs == registry.blobs
    target.forget()
    tidemill("image", "push", f"{name}:1", f"{target.host}/copies/tool:3")
    assert not target.seen("uploads")  # all was there
    assert "there is no image nothing:1 here" in tidemill("image", "push", "nothing:1", f"{target.host}/x:1", check=False).stderr
    target.close()

    def df():
        return {part["what"]: part for part in yaml.safe_load(tidemill("image", "df", "-o", "json").stdout)}
    used = df()
    assert used["blobs"]["bytes"] > listed["sizeBytes"] and used["layers"]["count"] >= 2 and used["layers"]["bytes"] > len(BUSYBOX)
    instance.kubectl("delete", "pod", "by-login")
    tidemill("image", "rm", f"{name}:1")
    assert df()["layers"]["reclaimableBytes"] >= 200_000 + used["layers"]["reclaimableBytes"]
    assert "RECLAIMABLE" in tidemill("image", "df").stdout
    assert "are gone" in tidemill("image", "logout", registry.host).stdout
    assert "wants credentials" in tidemill("image", "pull", f"{registry.host}/tool:1", check=False).stderr


def test_a_pod_that_goes_ends_its_pull(instance, registry):
    """Its connections are closed, others are not held up, and what was fetched by halves is nobody's image."""
    for number in range(4):  # more than are fetched at a time
        registry.add_image(f"slow{number}", "v1", [{"a": os.urandom(100_000)}])
    registry.gate = threading.Event()
    for number in range(4):
        run(instance, f"goes{number}", f"{registry.host}/slow{number}:v1", wait=False)
    other = Registry()
    other.add_image("quick", "v1", [BASE])
    wait_for(lambda: len(registry.seen("/manifests/")) == 2, "two pulls to begin")
    instance.kubectl("delete", "pod", *[f"goes{number}" for number in range(4)])
    run(instance, "quick", f"{other.host}/quick:v1")
    registry.gate.set()
    assert "slow" not in instance.tidemill("image", "list").stdout
    other.close()
