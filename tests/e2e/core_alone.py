"""The core role alone: store, API and controllers, asked over its unix socket as root. Starts in a fraction of a second."""

import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from conftest import TIDEMILL, free_ports, wait_for

MIB = 1 << 20


class Core:
    def __init__(self):
        suffix, number = os.environ.get("TIDEMILL_TEST_SUFFIX", ""), 172 + int(os.environ.get("TIDEMILL_TEST_OFFSET", "0"))
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tidemill-core-"))
        self.dir.chmod(0o755)
        (self.dir / "run/job").mkdir(parents=True)
        self.api_port, registry, git = free_ports(3)
        self.socket_path = str(self.dir / "run/api.sock")
        self.args = [TIDEMILL, "core", "--instance", "core" + suffix, "--state", str(self.dir / "state"), "--run", str(self.dir / "run"), "--api-listen",
                     f"127.0.0.1:{self.api_port}", "--registry-listen", f"127.0.0.1:{registry}", "--git-listen", f"127.0.0.1:{git}",
                     "--pod-cidr", f"10.{number}.0.0/16", "--service-cidr", f"10.{number + 29}.0.0/16"]
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self):
        with open(self.dir / "core.log", "ab") as log:
            self.process = subprocess.Popen(self.args, stdout=log, stderr=log)

        def ready():
            assert self.process.poll() is None, self.log()[-3000:]
            try:
                return self.ask("GET", "/readyz")[0] == 200
            except OSError:
                return False

        wait_for(ready, "the API", interval=0.01)

    def crash(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log(self):
        return (self.dir / "core.log").read_text(errors="replace")

    def resident(self):
        """Bytes of memory that are core's own."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))

    def connect(self, timeout=60):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(self.socket_path)
        return connection

    def ask(self, method, path, body=None, content_type="application/json"):
        """(status, what the JSON says or the text)."""
        connection = http.client.HTTPConnection("core")
        connection.sock = self.connect()
        try:
            try:
                connection.request(method, path, body=body, headers={"Content-Type": content_type} if body is not None else {})
            except (BrokenPipeError, ConnectionResetError):
                connection._HTTPConnection__state = "Request-sent"  # refused before all was sent: the answer is there
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            return response.status, json.loads(text) if text.startswith("{") else text
        finally:
            connection.close()

    def metric(self, name):
        text = self.ask("GET", "/metrics")[1]
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))

    @staticmethod
    def answer(connection):
        """The next answer of a keep-alive connection: head and body. Reads byte-exactly by peeking, so that answers may follow one another."""
        while (end := (seen := connection.recv(1 << 16, socket.MSG_PEEK)).find(b"\r\n\r\n")) < 0:
            assert seen, "the connection ended"
        head = connection.recv(end + 4, socket.MSG_WAITALL)
        length = int(next(line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")))
        return head, connection.recv(length, socket.MSG_WAITALL)

    def create_all(self, path, bodies, connections=8, together=32):
        """Creates many objects, requests pipelined on several connections; `together` of them must fit into a socket's buffer, both ways."""
        failures = []

        def send(share):
            with self.connect() as connection:
                for start in range(0, len(share), together):
                    piece = share[start:start + together]
                    connection.sendall(b"".join(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" %
                                                (path.encode(), len(body), body) for body in piece))
                    for _ in piece:
                        head, answer = self.answer(connection)
                        if not head.startswith(b"HTTP/1.1 201 "):
                            failures.append(answer[:400])
                            return

        threads = [threading.Thread(target=send, args=(bodies[i::connections],)) for i in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
