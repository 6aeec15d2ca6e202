"""What the Kubernetes API of the core role takes, over TLS as kubectl speaks it; durable writes beside etcd's, from Debian, in the same run.
    python3 bench/api.py [--big 100000]        --big: how many objects the large store has (0: skip it)"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from conftest import TIDEMILL, free_ports, wait_for  # noqa: E402

BENCH = TIDEMILL.parent / "bench/api_bench_main"
# kube-apiserver 1.20 with etcd 3.4 on a machine like this: what to be better than.
UPSTREAM = {"create": "1.6 / 9.0 ms", "get": "0.8 / 3.1 ms", "list": "12 ms", "memory": "501 MiB"}


def row(what, value, target, note=""):
    print(f"  {what:<58} {value:>22}   target {target:<18} {note}", flush=True)


class Core:
    """The core role alone, with a state of its own."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tidemill-api-bench-"))
        self.dir.chmod(0o755)
        (self.dir / "run/job").mkdir(parents=True)
        self.process = None
        self.ports = free_ports(5)

    def start(self):
        api, http, registry, git, monitor = self.ports
        started = time.monotonic()
        self.process = subprocess.Popen(
            [TIDEMILL, "core", "--instance", "apibench", "--state", str(self.dir / "state"), "--run", str(self.dir / "run"), "--api-listen", f"127.0.0.1:{api}",
             "--registry-listen", f"127.0.0.1:{registry}", "--git-listen", f"127.0.0.1:{git}", "--pod-cidr", "10.179.0.0/16", "--service-cidr", "10.229.0.0/16"],
            stdout=open(self.dir / "core.log", "a"), stderr=subprocess.STDOUT)

        def ready():
            assert self.process.poll() is None, (self.dir / "core.log").read_text()[-3000:]
            result = subprocess.run(["curl", "-sk", f"https://127.0.0.1:{api}/readyz"], capture_output=True, text=True)
            return result.stdout == "ok"

        wait_for(ready, "the API", timeout=120, interval=0.005)
        return time.monotonic() - started

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def destroy(self):
        if self.process and self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.dir)

    def memory_kb(self):
        rollup = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))

    def load(self, verb, connections, count, prefix):
        result = subprocess.run([BENCH, self.dir / "state/kubeconfig", verb, str(connections), str(count), prefix], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def cpu_s(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9


def etcd_puts(connections, count):
    """Durable puts of the same size into etcd over its own command's bench is not packaged: its HTTP gateway, one keep-alive connection."""
    if not shutil.which("etcd"):
        return None
    import base64
    import http.client
    folder = tempfile.mkdtemp(prefix="tidemill-etcd-")
    client, peer = free_ports(2)
    process = subprocess.Popen(["etcd", "--data-dir", folder, "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls",
                                f"http://127.0.0.1:{client}", "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls",
                                f"http://127.0.0.1:{peer}", "--initial-cluster", f"default=http://127.0.0.1:{peer}", "--log-level", "error"])
    try:
        def up():
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{client}/health", timeout=1).status == 200
            except OSError:
                return False
        wait_for(up, "etcd")
        connection = http.client.HTTPConnection("127.0.0.1", client)
        value = base64.b64encode(b"x" * 500).decode()
        times = []
        for number in range(count):
            body = json.dumps({"key": base64.b64encode(f"/registry/configmaps/default/{number}".encode()).decode(), "value": value})
            started = time.monotonic()
            connection.request("POST", "/v3/kv/put", body)
            connection.getresponse().read()
            times.append(time.monotonic() - started)
        times.sort()
        return {"p50_ms": times[len(times) // 2] * 1000, "p99_ms": times[len(times) * 99 // 100] * 1000}
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def fsync_ms():
    """What one append of 4 KiB with fdatasync takes on the same disk: the floor of a durable write."""
    with tempfile.NamedTemporaryFile(dir=tempfile.gettempdir()) as file:
        times = []
        for _ in range(300):
            started = time.monotonic()
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - started) * 1000)
        times.sort()
        return times[150], times[297]


def small(core):
    floor = fsync_ms()
    one = core.load("create", 1, 3000, "one")
    row("create, durable, one connection (p50 / p99)", f"{one['p50_ms']:.2f} / {one['p99_ms']:.2f} ms", "≤ 0.6 / 2 ms",
        f"fdatasync alone {floor[0]:.2f} / {floor[1]:.2f} ms; upstream {UPSTREAM['create']}")
    etcd = etcd_puts(1, 1000)
    if etcd:
        row("  etcd put, one connection (p50 / p99)", f"{etcd['p50_ms']:.2f} / {etcd['p99_ms']:.2f} ms", "", f"ratio of p50 {one['p50_ms'] / etcd['p50_ms']:.2f}")
    many = core.load("create", 64, 20000, "many")
    row("create, durable, 64 connections", f"{many['per_second']:.0f} /s", "≥ 5,000 /s", f"p99 {many['p99_ms']:.1f} ms")
    get = core.load("get", 1, 10000, "one")
    row("get, one connection (p50 / p99)", f"{get['p50_ms']:.3f} / {get['p99_ms']:.3f} ms", "p99 ≤ 0.5 ms", f"upstream {UPSTREAM['get']}")
    before = core.cpu_s()
    rate = core.load("get", 32, 60000, "one")
    row("get, 32 connections", f"{rate['per_second']:.0f} /s", "≥ 20,000 /s", f"{(core.cpu_s() - before) / rate['count'] * 1e6:.1f} us CPU each: {1 / ((core.cpu_s() - before) / rate['count']):.0f} /s a core")
    listed = core.load("list", 1, 200, "")
    row("list of 1,000 config maps (p50 / p99)", f"{listed['p50_ms']:.2f} / {listed['p99_ms']:.2f} ms", "≤ 2 ms", f"{listed['bytes'] // listed['count'] // 1000} KB; upstream {UPSTREAM['list']}")
    watched = core.load("watch", 100, 300, "watched")
    row("write → event at the last of 100 watchers (p50 / p99)", f"{watched['p50_ms']:.2f} / {watched['p99_ms']:.2f} ms", "p99 ≤ 3 ms")
    storm = core.load("watch", 1000, 50, "storm")
    row("write → event at the last of 1,000 watchers (p50 / p99)", f"{storm['p50_ms']:.2f} / {storm['p99_ms']:.2f} ms", "")


def big(core, count):
    before = core.memory_kb()
    made = core.load("create", 64, count, "big")
    time.sleep(1)
    used = (core.memory_kb() - before) * 1024
    size = 0
    listed = core.load("list", 1, 20, "")
    size = listed["bytes"] / listed["count"] / 1000
    row(f"{count} objects: made at", f"{made['per_second']:.0f} /s", "", f"p99 {made['p99_ms']:.1f} ms")
    row(f"{count} objects: memory per object, of its JSON", f"{used / count / size:.2f}", "≤ 1.5", f"{used / count:.0f} bytes for {size:.0f}")
    core.stop()
    times = sorted(core.start() if not index else (core.stop(), core.start())[1] for index in range(3))
    row(f"start with {count} objects", f"{times[1]:.2f} s", "≤ 1.5 s", f"memory then {core.memory_kb() / 1024:.0f} MiB")
    listed = core.load("list", 1, 100, "")
    row(f"list of 1,000 of {count} (p50)", f"{listed['p50_ms']:.2f} ms", "≤ 2 ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--big", type=int, default=100000)
    options = parser.parse_args()
    subprocess.run(["ninja", "-C", TIDEMILL.parent, "api_bench_main"], check=True, stdout=subprocess.DEVNULL)
    core = Core()
    try:
        started = core.start()
        row("core: start with an empty store", f"{started * 1000:.0f} ms", "", f"memory {core.memory_kb() / 1024:.1f} MiB; upstream {UPSTREAM['memory']}")
        small(core)
    finally:
        core.destroy()
    if options.big:
        core = Core()
        try:
            core.start()
            big(core, options.big)
        finally:
            core.destroy()


if __name__ == "__main__":
    main()
