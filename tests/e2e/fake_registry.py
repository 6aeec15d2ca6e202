"""A container registry of our own that behaves as badly as real ones do: tokens, redirects to a content server, limits on requests, broken
connections, wrong content. It records what it is asked."""

import base64
import collections
import hashlib
import http.server
import io
import json
import platform
import subprocess
import tarfile
import threading
import time

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_of(files):
    """A tar of {path: bytes}; all may be executed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def compress(data, how):
    return subprocess.run([*how.split(), "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout if how else data


Request = collections.namedtuple("Request", "method path authorization range status")


class Registry:
    """At http://127.0.0.1:<port>, or over TLS with `tls`, an ssl.SSLContext. auth: None, "basic" or "token"."""

    def __init__(self, tls=None, auth=None, users=None):
        self.blobs, self.manifests, self.tags = {}, {}, {}
        self.auth, self.users = auth, users or {"ann": "secret"}
        self.requests, self.lock = [], threading.Lock()
        self.tokens = set()
        self.elsewhere = None  # base URL of a content server: blobs are redirected there
        self.busy = 0          # so many requests are told to come again
        self.cut = {}          # digest → after how many bytes the connection breaks, one after the other
        self.spoiled = {}      # digest → what is sent instead
        self.gate = None       # a threading.Event that blobs wait for
        self.held = {}         # digest → so many bytes come, and the rest when that threading.Event is set
        self.rate = 0          # bytes in a second that each blob comes at; 0: as fast as it goes
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                registry.answer(self)

            do_HEAD = do_POST = do_PUT = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    # -- content --
    def add_blob(self, data):
        self.blobs[digest_of(data)] = data
        return {"digest": digest_of(data), "size": len(data)}

    def add_manifest(self, repository, document, tag=None):
        data = json.dumps(document).encode()
        self.manifests[repository, digest_of(data)] = data, document["mediaType"]
        if tag:
            self.tags[repository, tag] = digest_of(data)
        return {"mediaType": document["mediaType"], "digest": digest_of(data), "size": len(data)}

    def add_image(self, repository, tag, layers, how="gzip", **config):
        """layers: dicts of {path: bytes}, the lowest first; how: the program that compresses, "" for none. Returns the manifest's descriptor."""
        tars = [tar_of(files) for files in layers]
        suffix = {"gzip": "+gzip", "zstd": "+zstd", "": ""}[how.split()[0] if how else ""]
        blobs = [{"mediaType": LAYER + suffix, **self.add_blob(compress(tar, how))} for tar in tars]
        document = {"architecture": ARCHITECTURE, "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]}}
        config = self.add_blob(json.dumps(document).encode())
        return self.add_manifest(repository, {"schemaVersion": 2, "mediaType": MANIFEST,
                                              "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config}, "layers": blobs}, tag)

    def add_index(self, repository, tag, *manifests):
        return self.add_manifest(repository, {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}, tag)

    # -- what was asked --
    def seen(self, part="", method=None):
        with self.lock:
            return [request for request in self.requests if part in request.path and method in (None, request.method)]

    def forget(self):
        with self.lock:
            self.requests.clear()

    # -- answering --
    def answer(self, handler):
        path, _, query = handler.path.partition("?")
        sent = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        authorization, wanted = handler.headers.get("Authorization"), handler.headers.get("Range")
        if path == "/token":
            status, headers, body = self.token(authorization, query)
        else:
            status, headers, body = self.resource(path, authorization, wanted)
            if status != 401 and handler.command in ("POST", "PUT"):
                status, headers, body = self.store(handler, path, query, sent)
        with self.lock:
            self.requests.append(Request(handler.command, handler.path, authorization, wanted, status))
        cut = None
        with self.lock:
            left = self.cut.get(path.rpartition("/")[2])
            if left and handler.command == "GET" and status in (200, 206):
                cut = left.pop(0)
        if self.gate and "/blobs/" in path:
            self.gate.wait(60)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        self.send(handler, path, body if cut is None else body[:cut])
        if cut is not None:
            handler.wfile.flush()
            handler.close_connection = True

    def send(self, handler, path, body):
        first, event = self.held.get(path.rpartition("/")[2], (len(body), None))
        step = self.rate // 20 if self.rate and "/blobs/" in path else len(body) or 1
        for part in (body[:first], body[first:]):
            for at in range(0, len(part), step):
                handler.wfile.write(part[at:at + step])
                if self.rate:
                    time.sleep(0.05)
            if event:
                handler.wfile.flush()
                event.wait(60)

    def is_user(self, authorization):
        scheme, _, pair = (authorization or "").partition(" ")
        user, _, password = base64.b64decode(pair).decode().partition(":") if scheme == "Basic" else ("", "", "")
        return user in self.users and self.users[user] == password

    def token(self, authorization, query):
        if not self.is_user(authorization):
            return self.error(401, "UNAUTHORIZED", "incorrect username or password")
        token = f"token{len(self.tokens)}"
        self.tokens.add(token)
        return 200, {"Content-Type": "application/json"}, json.dumps({"token": token, "expires_in": 300}).encode()

    def error(self, status, code, message, **headers):
        return status, {"Content-Type": "application/json", **headers}, json.dumps({"errors": [{"code": code, "message": message}]}).encode()

    def is_allowed(self, authorization):
        if self.auth == "basic":
            return self.is_user(authorization)
        return self.auth is None or (authorization or "").removeprefix("Bearer ") in self.tokens

    def store(self, handler, path, query, sent):
        repository, kind, name = path.removeprefix("/v2/").rsplit("/", 2)
        if kind == "uploads" and handler.command == "POST":
            return 202, {"Location": f"/v2/{repository}/uploads/{len(self.requests)}?state=x"}, b""
        digest = digest_of(sent)
        if kind == "uploads":
            assert f"digest={digest}" in query.replace("%3A", ":")
            self.blobs[digest] = sent
        else:
            document = json.loads(sent)
            assert all(item["digest"] in self.blobs for item in [document["config"], *document["layers"]])
            self.manifests[repository, digest] = sent, handler.headers["Content-Type"]
            self.tags[repository, name] = digest
        return 201, {}, b""

    def resource(self, path, authorization, wanted):
        if not self.is_allowed(authorization):
            challenge = 'Basic realm="fake"' if self.auth == "basic" else f'Bearer realm="{self.url}/token",service="fake"'
            return self.error(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge})
        if path == "/v2/":
            return 200, {}, b"{}"
        repository, kind, name = path.removeprefix("/v2/").rsplit("/", 2)
        with self.lock:
            self.busy -= 1
            if self.busy >= 0:
                return self.error(429, "TOOMANYREQUESTS", "slow down", **{"Retry-After": "1"})
        if kind == "manifests":
            digest = self.tags.get((repository, name), name)
            if (repository, digest) not in self.manifests:
                return self.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            data, media_type = self.manifests[repository, digest]
            return 200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, data
        if name not in self.blobs:
            return self.error(404, "BLOB_UNKNOWN", "blob unknown")
        if self.elsewhere:
            return 307, {"Location": f"{self.elsewhere}/v2/x/blobs/{name}?signature=abc"}, b""
        data = self.spoiled.get(name, self.blobs[name])
        if wanted:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            return 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]
        return 200, {}, data
