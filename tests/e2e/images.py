"""Images made by a test, byte by byte, upon busybox:latest, and pushed to the platform's registry: what no builder would write."""

import contextlib
import hashlib
import http.client
import io
import json
import os
import pathlib
import socket
import tarfile
import tempfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
KEPT = tempfile.TemporaryDirectory(prefix="tidemill-images-")  # for this run of tests: lanes are forks of it and share the folder


def layer(*entries):
    """A tar of (name, kind, value): "file" (bytes or (bytes, mode)), "dir" (mode), "link" and "hard" (target), "char" and "block" (major, minor)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, value in entries:
            info, data = tarfile.TarInfo(name), None
            if kind == "file":
                data, info.mode = value if isinstance(value, tuple) else (value, 0o755)
                info.size = len(data)
            elif kind == "dir":
                info.type, info.mode = tarfile.DIRTYPE, value
            elif kind in ("char", "block"):
                info.type, info.mode = tarfile.CHRTYPE if kind == "char" else tarfile.BLKTYPE, 0o666
                info.devmajor, info.devminor = value
            else:
                info.type, info.linkname = tarfile.SYMTYPE if kind == "link" else tarfile.LNKTYPE, value
            tar.addfile(info, io.BytesIO(data) if data is not None else None)
    return out.getvalue()


def request(platform, method, path, data=None, **headers):
    """By the socket on which root may push."""
    connection = http.client.HTTPConnection("registry", timeout=30)
    with contextlib.closing(connection):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(platform.run_dir / "api.sock"))
        connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status < 300, f"{method} {path}: {answer.status} {body}"
        return answer.headers, body


def upload(platform, name, data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    place = request(platform, "POST", f"/v2/{name}/blobs/uploads/", b"")[0]["Location"].removeprefix("http://registry")
    request(platform, "PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", data, Content_Type="application/octet-stream")
    return {"digest": digest, "size": len(data)}


def push(platform, name, *layers, config=None, base="busybox"):
    """name:latest, or another tag: the base's layers (None: no base), then these; config joins the base's. Returns the image's name."""
    name, _, tag = name.partition(":")
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": []}
    old = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    if base:
        manifest = json.loads(request(platform, "GET", f"/v2/{base}/manifests/latest", Accept=MANIFEST)[1])
        old = json.loads(request(platform, "GET", f"/v2/{base}/blobs/{manifest['config']['digest']}")[1])
    for each in manifest["layers"]:
        request(platform, "POST", f"/v2/{name}/blobs/uploads/?mount={each['digest']}&from={base}", b"")
    for each in layers:
        described = upload(platform, name, each)
        manifest["layers"].append({"mediaType": "application/vnd.oci.image.layer.v1.tar", **described})
        old["rootfs"]["diff_ids"].append(described["digest"])
    old.pop("history", None)
    old["config"] = {**old.get("config", {}), **(config or {})}
    manifest["config"] = {"mediaType": "application/vnd.oci.image.config.v1+json", **upload(platform, name, json.dumps(old).encode())}
    request(platform, "PUT", f"/v2/{name}/manifests/{tag or 'latest'}", json.dumps(manifest).encode(), Content_Type=manifest.get("mediaType", MANIFEST))
    return f"{name}:{tag or 'latest'}"


def made_once(platform, image, packages, make):
    """What make() puts into the platform's registry under that name. In a run of tests it is made for the first instance only; the others are given the same bytes."""
    name, _, tag = image.partition(":")
    folder = pathlib.Path(KEPT.name) / hashlib.sha256(json.dumps([image, packages]).encode()).hexdigest()
    if folder.exists():
        text = (folder / "manifest").read_bytes()
        for digest in digests(text):
            assert upload(platform, name, (folder / digest).read_bytes())["digest"] == digest
        request(platform, "PUT", f"/v2/{name}/manifests/{tag}", text, Content_Type=json.loads(text).get("mediaType", MANIFEST))
        return
    make()
    text = request(platform, "GET", f"/v2/{name}/manifests/{tag}", Accept=MANIFEST)[1]
    new = pathlib.Path(tempfile.mkdtemp(dir=KEPT.name))
    (new / "manifest").write_bytes(text)
    for digest in digests(text):
        (new / digest).write_bytes(request(platform, "GET", f"/v2/{name}/blobs/{digest}")[1])
    with contextlib.suppress(OSError):  # another lane was quicker
        os.rename(new, folder)


def digests(manifest):
    manifest = json.loads(manifest)
    return [each["digest"] for each in [manifest["config"], *manifest["layers"]]]
