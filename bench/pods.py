"""What a pod costs: from its creation to Ready, many at once, its memory, an idle node, a probe; beside them a bare `crun run` and `podman run` on the same root file system.

    python3 bench/pods.py [--pods 60]"""

import argparse
import http.client
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from conftest import TIDEMILL, Platform, wait_for  # noqa: E402

NAMESPACE = "default"
PAUSE_S = 0.3  # between two pods that are made one by one: no person is faster


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
        time.sleep(PAUSE_S)
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
    between, grown = settled_kb(), pss_kb(node) + pss_kb(core) - roles
    shims = conmons(platform)
    cpu, started = cpu_ns(node), time.monotonic()
    time.sleep(seconds)
    row(f"node with {count} idle pods: CPU over {seconds} s", f"{(cpu_ns(node) - cpu) / (time.monotonic() - started) / 1e7:.3f} %", "≤ 0.2 %")
    shim = sum(map(pss_kb, shims)) / max(len(shims), 1)
    pods.delete(names)
    wait_for(lambda: not conmons(platform), "the containers to go")
    used = (before - between + settled_kb() - between) / 2  # what went with them, and what came back: others on the machine disturb one or the other
    row("memory per idle pod, all of it", f"{used / count / 1000:.2f} MB", "≤ 1 MB", f"of MemAvailable; conmon {shim:.0f} KB, node and core together {grown / count:.0f} KB")


def probe_cpu(pods, platform, count=10, seconds=20):
    """What the node and its children take for readiness probes that run a command every second."""
    def used():
        fields = pathlib.Path(f"/proc/{node}/stat").read_text().rsplit(")", 1)[1].split()
        return cpu_ns(node) / 1e9 + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    node, names = platform.pids()["node"], [f"probed-{number}" for number in range(count)]
    for name in names:
        pods.create(name, readinessProbe={"exec": {"command": ["/bin/busybox", "true"]}, "periodSeconds": 1, "timeoutSeconds": 5})
    pods.wait(pods.ready, names)
    time.sleep(2)
    before, started = used(), time.monotonic()
    time.sleep(seconds)
    probes = count * (time.monotonic() - started)
    row("exec probe: CPU of node and its children", f"{(used() - before) / probes * 1000:.2f} ms", "≤ 3 ms", f"{probes:.0f} probes of busybox true")
    pods.delete(names)


# --- beside others ---

def times_of(command, count):
    times = []
    for _ in range(count + 1):
        started = time.monotonic()
        result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        times.append((time.monotonic() - started) * 1000)
        if result.returncode:
            return result.stderr.strip().splitlines()[-1:] or ["failed"]
    return times[1:]


def peer(what, command, count):
    times = times_of(command, count)
    row(f"  {what}: until `true` has ended (p50 / p99)", percentiles(times) if isinstance(times[0], float) else "failed", "", "" if isinstance(times[0], float) else times[0][:120])


def peers(rootfs):
    """In a mount namespace without the cgroup2 of a hybrid host, which crun refuses, and in a network namespace, where podman leaves its rules."""
    if os.path.ismount("/sys/fs/cgroup/unified"):
        subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)
    with tempfile.TemporaryDirectory(prefix="tidemill-peer-") as name:
        bundle = pathlib.Path(name)
        subprocess.run(["crun", "spec"], cwd=bundle, check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["process"].update(terminal=False, args=["/bin/busybox", "true"])
        config["root"]["path"] = str(rootfs)
        (bundle / "config.json").write_text(json.dumps(config))
        peer("crun run, no seccomp", ["crun", "--cgroup-manager=cgroupfs", "run", "--bundle", bundle, f"tidemill-bench-{os.getpid()}"], 30)
        if not shutil.which("podman"):
            print("  podman is not installed (scripts/install-dependencies --bench): not measured", flush=True)
            return
        podman = ["podman", "--cgroup-manager=cgroupfs", "--root", bundle / "podman", "--runroot", bundle / "podman-run", "--network-config-dir", bundle]
        for network in ("none", "bridge"):
            peer(f"podman run, network {network}", [*podman, "run", "--rm", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", network, "--rootfs", rootfs, "/bin/busybox", "true"], 10)
        subprocess.run([*podman, "system", "reset", "--force"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def beside_others(platform):
    layer = max((platform.state / "node/layers").iterdir(), key=lambda path: path.stat().st_mtime)
    with tempfile.TemporaryDirectory(prefix="tidemill-rootfs-") as name:
        rootfs = pathlib.Path(name) / "rootfs"
        shutil.copytree(layer, rootfs, symlinks=True)
        for folder in ("proc", "sys", "dev", "etc", "run", "tmp"):
            (rootfs / folder).mkdir(exist_ok=True)
        subprocess.run(["unshare", "--mount", "--net", sys.executable, __file__, "--peers", rootfs], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=60)
    parser.add_argument("--peers", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peers:
        peers(options.peers)
        return
    platform = Platform("pods", 149)
    try:
        platform.up()
        platform.bootstrap("busybox:latest", "busybox-static")
        pods = Pods(platform)
        one_by_one(pods, options.pods)
        many_at_once(pods, platform)
        probe_cpu(pods, platform)
        beside_others(platform)
    finally:
        platform.destroy()


if __name__ == "__main__":
    main()
