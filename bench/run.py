"""`make bench`: what the platform takes, printed with the machine's facts and the targets. Nothing here passes or fails."""

import json
import os
import pathlib
import platform as machine
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))

import yaml  # noqa: E402

from conftest import TIDEMILL, Platform, wait_for  # noqa: E402

ROWS = []


def row(what, value, target, note=""):
    ROWS.append((what, value, target, note))
    print(f"  {what:<58} {value:>14}   target {target:<10} {note}", flush=True)


def facts():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next(int(line.split()[1]) // 1024 for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    print(f"{model}, {os.cpu_count()} cores, {memory} MiB, Linux {machine.release()}, "
          f"cgroup {'v2' if os.path.exists('/sys/fs/cgroup/cgroup.controllers') else 'v1'}\n")


def milliseconds(function):
    started = time.monotonic()
    function()
    return (time.monotonic() - started) * 1000


def start_to_ready(platform, rounds=5):
    times = []
    for _ in range(rounds):
        process = None

        def up():
            nonlocal process
            process = subprocess.Popen([TIDEMILL, "up", "--detach", *platform.flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            process.wait()

        times.append(milliseconds(up))
        if _ < rounds - 1:
            platform.down()
    row("up → API ready (median of 5, first start included)", f"{statistics.median(times):.0f} ms", "≤ 200 ms", f"first {times[0]:.0f} ms")


def apply_to_ready(platform):
    manifest = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "three"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "three"}}, "template": {
            "metadata": {"labels": {"app": "three"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "main", "image": "busybox:latest", "command": ["/bin/busybox", "sleep", "1000000"]}]}}}}
    path = platform.dir / "three.yaml"
    path.write_text(yaml.safe_dump(manifest))
    times = []
    for _ in range(5):
        def apply():
            platform.tidemill("apply", "-f", str(path))
            wait_for(lambda: status(platform).get("readyReplicas") == 3, "three pods", interval=0.005)

        times.append(milliseconds(apply))
        platform.kubectl("delete", "deployment", "three")
        wait_for(lambda: not platform.get("pods", "-n", "default")["items"], "the pods to go")
    row("apply → 3 pods Ready, image cached (median of 5)", f"{statistics.median(times):.0f} ms", "≤ 1 s")


def status(platform):
    answer = subprocess.run(["curl", "-sS", "--unix-socket", str(platform.run_dir / "api.sock"), "http://localhost/apis/apps/v1/namespaces/default/deployments/three"],
                            capture_output=True, text=True).stdout
    return json.loads(answer).get("status", {}) if answer else {}


def push_to_serving(platform):
    platform.bootstrap("debian:12", "python3-flask", "python3-waitress")
    folder = platform.create_app("hello", ROOT / "examples/hello-flask")
    platform.git(folder, "push", "tidemill", "main")
    wait_for(lambda: platform.http("hello.localhost")[0] == 200, "the application")
    times, before = [], "Hello, world!"
    for number in range(3):
        after = f"Hello, number {number}!"
        for path in folder.rglob("*.py"):
            path.write_text(path.read_text().replace(before, after))
        platform.commit(folder, after)

        def push():
            pushing = subprocess.Popen(["git", "-C", str(folder), "push", "tidemill", "main"], env=platform.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda: platform.http("hello.localhost")[1] == after, after)
            return pushing

        started = time.monotonic()
        pushing = push()
        times.append(time.monotonic() - started)
        pushing.wait()
        before = after
    row("git push of a one-line change → new version serving", f"{statistics.median(times):.1f} s", "≤ 5 s", "build, test and deploy jobs included")


def memory(pids):
    total = 0
    for pid in pids:
        for line in open(f"/proc/{pid}/smaps_rollup"):
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1000


def cpu_ns(pids):
    return sum(int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)


def written(pids):
    total = 0
    for pid in pids:
        for line in open(f"/proc/{pid}/io"):
            if line.startswith("write_bytes"):
                total += int(line.split()[1])
    return total


def idle(platform, seconds=60):
    wait_for(lambda: json.loads(platform.tidemill("status", "-o", "json").stdout)["ready"], "ready")
    time.sleep(5)
    pids = list(platform.pids().values())
    cpu, disk, started = cpu_ns(pids), written(pids), time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - started
    row("idle with 3 replicas: memory, sum of PSS of all roles", f"{memory(pids):.1f} MB", "≤ 30 MB")
    row(f"idle: CPU over {seconds} s", f"{(cpu_ns(pids) - cpu) / elapsed / 1e7:.3f} %", "≤ 0.2 %")
    row(f"idle: bytes written to disk in {seconds} s", f"{written(pids) - disk}", "0")


def main():
    facts()
    stripped = pathlib.Path("/tmp/tidemill-stripped")
    subprocess.run(["strip", "-o", stripped, TIDEMILL], check=True)
    row("binary, stripped", f"{stripped.stat().st_size / 1e6:.2f} MB", "≤ 6 MB")
    stripped.unlink()
    platform = Platform("bench", 149)
    try:
        start_to_ready(platform)
        platform.bootstrap("busybox:latest", "busybox-static")
        apply_to_ready(platform)
        push_to_serving(platform)
        idle(platform)
    finally:
        platform.destroy()
    print("\nlayers", flush=True)
    subprocess.run([sys.executable, ROOT / "bench/unpack.py"], check=True)
    print("\npods", flush=True)
    subprocess.run([sys.executable, ROOT / "bench/pods.py"], check=True)
    print("\nKubernetes API over TLS, beside etcd", flush=True)
    subprocess.run([sys.executable, ROOT / "bench/api.py"], check=True)
    gateway = ROOT / "bench/gateway.py"
    if gateway.exists():
        print("\ngateway beside nginx", flush=True)
        subprocess.run([sys.executable, gateway, TIDEMILL], check=True)


if __name__ == "__main__":
    main()
