"""A web service that answers "Hello, world!" on port 8080 and shows Prometheus metrics on port 9090.

It needs Flask and nothing else: Werkzeug's server comes with it, and the few metrics are written by hand. On SIGTERM it answers what it has been asked, then ends.
"""
import signal
import socket
import threading
import time

from flask import Flask, Response, g, request
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)  # seconds


class Metrics:
    """Counts requests and how long they took."""

    def __init__(self):
        self.lock = threading.Lock()
        self.requests = {}  # (method, status) → count
        self.buckets = [0] * len(BUCKETS)
        self.seconds = 0.0

    def observe(self, method, status, seconds):
        with self.lock:
            key = (method, status)
            self.requests[key] = self.requests.get(key, 0) + 1
            self.seconds += seconds
            for i, limit in enumerate(BUCKETS):
                self.buckets[i] += seconds <= limit

    def text(self):
        with self.lock:
            total = sum(self.requests.values())
            lines = ["# HELP http_requests_total Requests answered.", "# TYPE http_requests_total counter"]
            for (method, status), count in sorted(self.requests.items()):
                lines.append(f'http_requests_total{{method="{method}",status="{status}"}} {count}')
            lines += ["# HELP http_request_duration_seconds Time from request to answer.", "# TYPE http_request_duration_seconds histogram"]
            for limit, count in zip(BUCKETS, self.buckets):
                lines.append(f'http_request_duration_seconds_bucket{{le="{limit}"}} {count}')
            lines.append(f'http_request_duration_seconds_bucket{{le="+Inf"}} {total}')
            lines.append(f"http_request_duration_seconds_sum {self.seconds:.6f}")
            lines.append(f"http_request_duration_seconds_count {total}")
        return "\n".join(lines) + "\n"


metrics = Metrics()
app = Flask(__name__)


@app.before_request
def start_clock():
    g.started = time.monotonic()


@app.after_request
def count(response):
    if request.path != "/healthz":
        metrics.observe(request.method, response.status_code, time.monotonic() - g.started)
    return response


@app.get("/")
def hello():
    return Response("Hello, world!", mimetype="text/plain")


@app.get("/healthz")
def healthz():
    return Response("ok", mimetype="text/plain")


def metrics_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")])
    return [metrics.text().encode()]


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept for further requests
    timeout = 75  # seconds that one may rest

    def setup(self):
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self):
        self.server.connections.discard(self.connection)
        super().finish()

    def log_request(self, code="-", size="-"):
        if not self.path.startswith(("/healthz", "/metrics")):
            print(f"{self.address_string()} {self.command} {self.path} {code}", flush=True)


class Server(ThreadedWSGIServer):
    daemon_threads = False  # so that server_close() waits for answers under way

    def __init__(self, port, wsgi_app):
        self.connections = set()
        super().__init__("0.0.0.0", port, wsgi_app, Handler)

    def drain(self):
        """Accepts nothing new, ends connections that rest, waits for the others."""
        self.shutdown()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # it ended by itself
        self.server_close()


def main():
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    servers = [Server(8080, app), Server(9090, metrics_app)]
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}).start()
    print("serving on port 8080, metrics on port 9090", flush=True)
    signal.sigwait(signals)
    for server in servers:
        server.drain()


if __name__ == "__main__":
    main()
