"""End-to-end tests run a real platform: `tidemill up` in folders, ports, bridges and control groups of its own, driven by kubectl, git and curl.

Two runs at a time on one machine need TIDEMILL_TEST_SUFFIX (of instances' names) and TIDEMILL_TEST_OFFSET (of their address ranges, -140 to 50); `--lanes` (lanes.py) runs
files side by side in one run and gives each lane its own.

They need root. A missing tool is a failure, not a skip."""

import contextlib
import http.client
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

import images
from lanes import pytest_addoption, pytest_configure, pytest_runtestloop  # noqa: F401: hooks

ROOT = pathlib.Path(__file__).resolve().parents[2]
TIDEMILL = pathlib.Path(os.environ.get("TIDEMILL", ROOT / "build/release/tidemill"))
KUBECTL = ROOT / "build/tools/kubectl"


def wait_for(condition, what, timeout=60, interval=0.02):
    """Waits until condition() gives something true and returns it."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {timeout} s waiting for {what}")
        time.sleep(interval)


def free_ports(count):
    """Below the ports that the kernel gives to connections and that node ports have: nobody takes them before they are used."""
    ports = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports += [port] if port not in ports else []
    return ports


class Platform:
    """One running instance. Its number, 147 to 175 and no other file's, is its pods' range: 10.number.0.0/16; its services' is 29 further on. A lane has both for itself."""

    program = TIDEMILL

    def __init__(self, name="e2e", number=147):
        self.unshifted = number
        name, number = name + os.environ.get("TIDEMILL_TEST_SUFFIX", ""), number + int(os.environ.get("TIDEMILL_TEST_OFFSET", "0"))
        self.name = name
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"tidemill-{name}-"))
        self.dir.chmod(0o755)
        self.state, self.run_dir = self.dir / "state", self.dir / "run"
        self.api_port, self.http_port, self.registry_port, self.git_port, self.monitor_port = free_ports(5)
        self.number, self.services = number, number + 29
        self.flags = [
            "--instance", name, "--state", str(self.state), "--run", str(self.run_dir),
            "--api-listen", f"127.0.0.1:{self.api_port}", "--http-listen", f"127.0.0.1:{self.http_port}",
            "--registry-listen", f"127.0.0.1:{self.registry_port}", "--git-listen", f"127.0.0.1:{self.git_port}",
            "--monitor-listen", f"127.0.0.1:{self.monitor_port}",
            "--pod-cidr", f"10.{number}.0.0/16", "--service-cidr", f"10.{number + 29}.0.0/16", "--node-name", "node1",
        ]

    # -- life --
    def up(self):
        result = subprocess.run([self.program, "up", "--detach", *self.flags], capture_output=True, text=True)
        assert result.returncode == 0, f"up failed: {result.stdout}{result.stderr}\n{self.log()[-4000:]}"
        return result.stdout

    def down(self, *more):
        return subprocess.run([self.program, "down", *self.flags, *more], capture_output=True, text=True)

    def destroy(self):
        result = self.down("--all")
        assert result.returncode == 0, result.stderr
        shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        path = self.run_dir / "tidemill.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def pids(self):
        """Role name → pid, the supervisor's included."""
        pids = {}
        for line in (self.run_dir / "supervisor.state").read_text().splitlines():
            words = line.split()
            if words[0] == "role":
                pids[words[1]] = int(words[2])
        pids["supervisor"] = int((self.run_dir / "supervisor.pid").read_text())
        return pids

    # -- clients --
    def tidemill(self, *args, check=True, input=None):
        result = subprocess.run([self.program, *args, "--run", str(self.run_dir)], capture_output=True, text=True, input=input)
        if check:
            assert result.returncode == 0, f"tidemill {' '.join(args)}: {result.stdout}{result.stderr}"
        return result

    def environment(self):
        return {**os.environ, "KUBECONFIG": str(self.state / "kubeconfig"), "HOME": str(self.dir), "GIT_TERMINAL_PROMPT": "0",
                "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.com", "GIT_COMMITTER_NAME": "t",
                "GIT_COMMITTER_EMAIL": "t@example.com"}

    def kubectl(self, *args, check=True, input=None, timeout=120):
        result = subprocess.run([KUBECTL, *args], capture_output=True, text=True, input=input, env=self.environment(), timeout=timeout)
        if check:
            assert result.returncode == 0, f"kubectl {' '.join(args)}: {result.stdout}{result.stderr}"
        return result

    def get(self, *args):
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def http(self, host, path="/", timeout=15):
        """GET through the gateway: (status, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Host": host})
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()

    def git(self, folder, *args, check=True, timeout=300):
        result = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, env=self.environment(), timeout=timeout)
        if check:
            assert result.returncode == 0, f"git {' '.join(args)}: {result.stdout}{result.stderr}"
        return result

    def bootstrap(self, name, *packages):
        args = ["image", "bootstrap", name]
        if packages:
            args += ["--include", ",".join(packages)]
        images.made_once(self, name, packages, lambda: self.tidemill(*args))

    def create_app(self, name, source=None):
        """Creates an application and a local clone with `source`'s files committed; returns the folder."""
        made = json.loads(self.tidemill("app", "create", name, "-o", "json").stdout)
        folder = self.dir / f"clone-{name}"
        folder.mkdir()
        if source:
            shutil.copytree(source, folder, dirs_exist_ok=True)
        self.git(folder, "init", "-q", "-b", "main")
        self.git(folder, "remote", "add", "tidemill", made["remote"])
        self.commit(folder, "first")
        return folder

    def commit(self, folder, message):
        self.git(folder, "add", "-A")
        self.git(folder, "commit", "-q", "--allow-empty", "-m", message)


@contextlib.contextmanager
def small_disk(instance, megabytes):
    """The instance's state has so much space for itself; everything of it is gone afterwards."""
    assert os.geteuid() == 0, "mounting needs root"
    with tempfile.TemporaryDirectory(prefix="tidemill-disk-") as folder:
        image = pathlib.Path(folder) / "disk.img"
        with open(image, "wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        instance.state.mkdir()
        mounted = subprocess.run(["mount", "-o", "loop", image, instance.state], capture_output=True, check=False).returncode == 0
        if not mounted:  # no loop devices here: a small tmpfs is full in the same way
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "none", instance.state], check=True)
        try:
            yield
        finally:
            instance.down("--all")
            subprocess.run(["umount", "-l", instance.state], check=False)
            shutil.rmtree(instance.dir, ignore_errors=True)


@contextlib.contextmanager
def running(name, number):
    assert os.geteuid() == 0, "end-to-end tests need root: containers, networks and control groups are real"
    assert TIDEMILL.exists(), f"{TIDEMILL} is missing: run `make` first"
    assert KUBECTL.exists(), "build/tools/kubectl is missing: run scripts/fetch-kubectl"
    platform = Platform(name, number)
    try:
        platform.up()
        yield platform
    except BaseException:
        print(platform.log()[-8000:])
        raise
    finally:
        platform.destroy()


@pytest.fixture(scope="session")
def platform():
    with running("e2e", 147) as instance:
        yield instance


@pytest.fixture(scope="session")
def tiny_image(platform):
    """An image of busybox alone, enough for pods that only need a shell and a web server."""
    platform.bootstrap("busybox:latest", "busybox-static")
    return "busybox:latest"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the platform's log."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed and "platform" in item.funcargs:
        report.sections.append(("platform log", item.funcargs["platform"].log()[-6000:]))
