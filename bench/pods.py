"""What a pod costs: from its creation to Ready, many at once, its memory, the node's idling.

    python3 bench/pods.py [--pods 60]"""

import argparse
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from conftest import TIDEMILL, Platform, wait_for  # noqa: E402

NAMESPACE = "default"


def row(what, value, target="", note=""):
    print(f"  {what:<58} {value:>22}   target {target:<18} {note}", flush=True)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


class Pods:
    """Creates and deletes pods over the API's socket, and notes by a watch when each was Ready and when it was gone."""

    def __init__(self, platform):
        self.connection = UnixConnection(platform.run_dir / "api.sock")
        self.watching = UnixConnection(platform.run_dir / "api.sock")
        self.ready, self.gone, self.created, self.scheduled = {}, {}, {}, {}
        self.changed = threading.Condition()
        version = self.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/pods")["metadata"]["resourceVersion"]
        self.watching.request("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?watch=1&resourceVersion={version}")
        self.stream = self.watching.getresponse()
        threading.Thread(target=self.watch, daemon=True).start()

    def ask(self, verb, path, body=None):
        self.connection.request(verb, path, json.dumps(body) if body else None, {"Content-Type": "application/json"} if body else {})
        response = self.connection.getresponse()
        text = response.read()
        assert response.status < 300 or (verb == "DELETE" and response.status == 404), text
        return json.loads(text)

    def watch(self):
        while line := self.stream.readline():
            event, now = json.loads(line), time.monotonic()
            name = event["object"]["metadata"]["name"]
            with self.changed:
                if event["type"] == "DELETED":
                    self.gone[name] = now
                elif any(c["type"] == "Ready" and c["status"] == "True" for c in event["object"].get("status", {}).get("conditions", [])):
                    self.ready.setdefault(name, now)
                if event["object"]["spec"].get("nodeName"):
                    self.scheduled.setdefault(name, now)
                self.changed.notify_all()

    def wait(self, table, names, timeout=120):
        with self.changed:
            assert self.changed.wait_for(lambda: all(name in table for name in names), timeout), f"not all of {len(names)} pods in {timeout} s: {[n for n in names if n not in table]}"

    def create(self, name, **spec):
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "busybox:latest", "command": ["/bin/busybox", "sleep", "1000000"], **spec}]}}
        self.created[name] = time.monotonic()
        self.ask("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", manifest)

    def delete(self, names):
        for name in names:
            self.ask("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
        self.wait(self.gone, names)

    def took_ms(self, name, table):
        return (table[name] - self.created[name]) * 1000


def percentiles(times):
    times = sorted(times)
    return f"{times[len(times) // 2]:.1f} / {times[min(len(times) - 1, len(times) * 99 // 100)]:.1f} ms"


def one_by_one(pods, count):
    names = [f"one-{number}" for number in range(count + 3)]
    for name in names:
        pods.create(name)
        pods.wait(pods.ready, [name])
        time.sleep(0.05)  # a person does not create the next one in the same millisecond
        pods.delete([name])
    names = names[3:]
    row(f"pod created → Ready, one by one, {count} times (p50 / p99)", percentiles([pods.took_ms(n, pods.ready) for n in names]), "≤ 60 / 200 ms",
        f"until bound {percentiles([pods.took_ms(n, pods.scheduled) for n in names])}")


def available_kb():
    return next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemAvailable:"))


def pss_kb(pid):
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/smaps_rollup") if line.startswith("Pss:"))


def settled_kb():
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
    time.sleep(1)
    return statistics.median(available_kb() for _ in range(5) if not time.sleep(0.2))


def cpu_ns(pid):
    """Of all its threads."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def conmons(platform):
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"conmon" in command.split(b"\0")[0] and str(platform.run_dir).encode() in command:
                found.append(int(folder.name))
    return found


def many_at_once(pods, platform, count=50, seconds=30):
    names = [f"many-{number}" for number in range(count)]
    node, core = platform.pids()["node"], platform.pids()["core"]
    before, roles = settled_kb(), pss_kb(node) + pss_kb(core)
    for name in names:
        pods.create(name)
    pods.wait(pods.ready, names)
    took = max(pods.ready[name] for name in names) - pods.created[names[0]]
    row(f"{count} pods at once, first created → all Ready", f"{took:.2f} s", "≤ 4 s", f"{os.cpu_count()} cores")
    time.sleep(4)  # until what was touched for the start is given back
    used, grown = before - settled_kb(), pss_kb(node) + pss_kb(core) - roles
    shims = conmons(platform)
    row("memory per idle pod, all of it", f"{used / count / 1000:.2f} MB", "≤ 1 MB", f"conmon {sum(map(pss_kb, shims)) / max(len(shims), 1):.0f} KB, node and core together {grown / count:.0f} KB")
    cpu, started = cpu_ns(node), time.monotonic()
    time.sleep(seconds)
    row(f"node with {count} idle pods: CPU over {seconds} s", f"{(cpu_ns(node) - cpu) / (time.monotonic() - started) / 1e7:.3f} %", "≤ 0.2 %")
    started = time.monotonic()
    pods.delete(names)
    row(f"{count} pods deleted without grace → all gone", f"{time.monotonic() - started:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=60)
    options = parser.parse_args()
    platform = Platform("pods", 149)
    try:
        platform.up()
        platform.bootstrap("busybox:latest", "busybox-static")
        pods = Pods(platform)
        one_by_one(pods, options.pods)
        many_at_once(pods, platform)
    finally:
        platform.destroy()


if __name__ == "__main__":
    main()
