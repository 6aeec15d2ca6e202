"""The closed loop: push, pipeline, image, rollout, requests; healing; a new version under load; failures that change nothing."""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest

from conftest import ROOT, wait_for

pytestmark = pytest.mark.first


@pytest.fixture(scope="module")
def base(platform):
    platform.bootstrap("debian:12", "python3-flask", "python3-waitress")


@pytest.fixture(scope="module")
def hello(platform, base):
    folder = platform.create_app("hello", ROOT / "examples/hello-flask")
    pushed = platform.git(folder, "push", "tidemill", "main")
    assert "remote:" in pushed.stderr
    wait_for(lambda: platform.http("hello.localhost") == (200, "Hello, world!"), "the application to serve")
    return folder


class Load:
    """Requests without pause from several threads; counts what failed."""

    def __init__(self, platform, host, threads=4):
        self.platform, self.host = platform, host
        self.good, self.failed, self.stop = 0, [], threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def run(self):
        while not self.stop.is_set():
            try:
                status, body = self.platform.http(self.host)
                if status == 200:
                    self.good += 1
                else:
                    self.failed.append((status, body))
            except OSError as error:
                self.failed.append(repr(error))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def replica_pids(platform, namespace):
    """Host pids of the processes in the namespace's pods."""
    uids = [pod["metadata"]["uid"] for pod in platform.get("pods", "-n", namespace)["items"]]
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cgroup").read_text()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if any(uid in text or uid.replace("-", "_") in text for uid in uids) and b"conmon" not in command:
                found.append(int(entry.name))
    return found


def test_metrics_of_the_application_are_scraped(platform, hello):
    def up():
        answer = subprocess.run(["curl", "-sS", f"http://127.0.0.1:{platform.monitor_port}/api/v1/query", "--data-urlencode", 'query=up{namespace="hello"}', "-G"],
                                capture_output=True, text=True).stdout
        return answer and [r for r in json.loads(answer)["data"]["result"] if r["value"][1] == "1"]

    wait_for(up, "a scraped application", timeout=90)


def test_pipeline_is_readable_afterwards(platform, hello):
    listed = json.loads(platform.tidemill("pipeline", "list", "hello", "-o", "json").stdout)["items"]
    assert listed[0]["status"] == "success"
    shown = json.loads(platform.tidemill("pipeline", "show", "hello", "-o", "json").stdout)
    assert {job["stage"] for job in shown["jobs"]} >= {"build", "test", "deploy"}
    assert platform.tidemill("pipeline", "logs", "hello").stdout


def test_a_killed_replica_comes_back(platform, hello):
    def ready():
        return platform.get("deployment", "-n", "hello")["items"][0]["status"].get("readyReplicas", 0)

    wait_for(lambda: ready() == 3, "three replicas")
    pids = replica_pids(platform, "hello")
    assert pids
    os.kill(pids[0], signal.SIGKILL)
    restarts = lambda: sum(s["restartCount"] for p in platform.get("pods", "-n", "hello")["items"] for s in p["status"].get("containerStatuses", []))
    wait_for(lambda: restarts() > 0, "a restart")
    wait_for(lambda: ready() == 3, "three replicas again")
    assert platform.http("hello.localhost")[0] == 200


def test_a_new_version_rolls_out_under_load_without_a_failed_request(platform, hello):
    for path in hello.rglob("*.py"):
        path.write_text(path.read_text().replace("Hello, world!", "Hello, second version!"))
    platform.commit(hello, "second version")
    with Load(platform, "hello.localhost") as load:
        platform.git(hello, "push", "tidemill", "main")
        wait_for(lambda: platform.http("hello.localhost")[1] == "Hello, second version!", "the second version")
        platform.kubectl("rollout", "status", "deployment", "-n", "hello", "--timeout=60s")
    assert load.good > 20
    assert not load.failed, f"{len(load.failed)} of {load.good} failed: {load.failed[:5]}"


def test_a_failing_test_stops_the_deploy_and_names_the_line(platform, hello):
    before = platform.http("hello.localhost")
    path = hello / ".gitlab-ci.yml"
    text = path.read_text()
    broken = text.replace("- python3 -m unittest -v", "- echo before\n    - ls /does-not-exist")
    assert broken != text
    path.write_text(broken)
    platform.commit(hello, "broken")
    pushed = platform.git(hello, "push", "tidemill", "main", check=False)
    assert "ls /does-not-exist" in pushed.stderr and "build succeeded" in pushed.stderr and "test failed" in pushed.stderr, pushed.stderr
    assert "deploy |" not in pushed.stderr, "the deploy ran"
    assert platform.http("hello.localhost") == before
    path.write_text(text)
    platform.commit(hello, "repaired")


@pytest.mark.parametrize("text, expected", [
    ("stages: [build\njob:\n  script: true\n", ".gitlab-ci.yml:"),
    ("job:\n  stage: nowhere\n  script: [\"true\"]\n", "nowhere"),
    ("a:\n  needs: [b]\n  script: [\"true\"]\nb:\n  needs: [a]\n  script: [\"true\"]\n", "a"),
    ("a:\n  skript: [\"true\"]\n", "skript"),
])
def test_a_broken_pipeline_file_refuses_the_push(platform, hello, text, expected):
    path = hello / ".gitlab-ci.yml"
    good = path.read_text()
    head = platform.git(hello, "rev-parse", "HEAD").stdout
    path.write_text(text)
    platform.commit(hello, "bad pipeline")
    pushed = platform.git(hello, "push", "tidemill", "main", check=False)
    assert pushed.returncode != 0 and expected in pushed.stderr, pushed.stderr
    platform.git(hello, "reset", "-q", "--hard", head.strip())
    assert path.read_text() == good


def test_a_dockerfile_alone_is_enough(platform, tiny_image):
    folder = platform.create_app("site", ROOT / "examples/static-site")
    platform.git(folder, "push", "tidemill", "main")
    status, body = wait_for(lambda: (lambda answer: answer[0] == 200 and answer)(platform.http("site.localhost")), "the static site")
    assert "<html" in body.lower()


def test_a_dockerfile_that_fails_is_told(platform, tiny_image):
    folder = platform.create_app("broken", None)
    (folder / "Dockerfile").write_text("FROM busybox:latest\nRUN exit 3\n")
    platform.commit(folder, "broken")
    pushed = platform.git(folder, "push", "tidemill", "main", check=False)
    assert "exit 3" in pushed.stderr and "failed" in pushed.stderr
    assert platform.get("deployments", "-n", "broken")["items"] == []


def test_names_are_checked(platform):
    refused = platform.tidemill("app", "create", "No_Name", check=False)
    assert refused.returncode != 0 and "No_Name" in refused.stderr
