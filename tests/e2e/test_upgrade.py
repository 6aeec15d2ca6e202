"""Another version of the program takes over while all goes on, and gives back to the one before: `tidemill reload`."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
import yaml

from conftest import TIDEMILL, Platform, wait_for
from test_loop import Load

# A web server, and one that counts aloud from 0: a line that is missing, or a 0 that comes again, would tell.
OBJECTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: busybox:latest
        command: [sh, -c, "mkdir /www; echo hi > /www/index.html; exec busybox httpd -f -p 8080 -h /www"]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        livenessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {rules: [{host: web.localhost, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: counter}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "busybox:latest", command: [sh, -c, "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"]}]
"""


def version_of(instance):
    return subprocess.run([instance.program, "version"], capture_output=True, text=True, check=True).stdout.split()[1]


class Versions:
    """The program under test, installed where the instance runs it from, and a second version of it."""

    def __init__(self, instance):
        self.folder = instance.dir / "bin"
        self.folder.mkdir()
        for name in ("tidemill", "tidemill-job"):
            if (TIDEMILL.parent / name).exists():
                shutil.copy(TIDEMILL.parent / name, self.folder)
        instance.program = self.folder / "tidemill"
        self.old = version_of(instance)
        self.new = self.old[:-1] + chr(ord(self.old[-1]) + 1)
        (self.folder / "0").write_bytes(TIDEMILL.read_bytes())
        (self.folder / "1").write_bytes(TIDEMILL.read_bytes().replace(f"{self.old}\0".encode(), f"{self.new}\0".encode()))

    def install(self, number):
        """As a package manager does: another file under the name."""
        shutil.copy(self.folder / str(number), self.folder / "next")
        os.chmod(self.folder / "next", 0o755)
        os.replace(self.folder / "next", self.folder / "tidemill")


@pytest.fixture(scope="module")
def instance():
    instance = Platform("upgr", 152)
    instance.versions = Versions(instance)
    try:
        instance.up()
        instance.bootstrap("busybox:latest", "busybox-static")
        instance.kubectl("apply", "-f", "-", input=OBJECTS)
        instance.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        instance.kubectl("wait", "--for=condition=Ready", "pod/counter", "--timeout=60s")
        wait_for(lambda: instance.http("web.localhost")[0] == 200, "the web")
        yield instance
    finally:
        instance.destroy()


def containers(instance):
    """Of each: its id, when it began, how often it began again."""
    return sorted((status["containerID"], status["state"]["running"]["startedAt"], status["restartCount"])
                  for pod in instance.get("pods")["items"] for status in pod["status"]["containerStatuses"])


def programs(instance):
    return {role: os.stat(f"/proc/{pid}/exe").st_ino for role, pid in instance.pids().items()}


def push_slowly(instance):
    """A pipeline that goes on until the file /go is in its job's pod, which is returned when it runs."""
    folder = instance.create_app("slow")
    (folder / ".gitlab-ci.yml").write_text("work:\n  image: busybox:latest\n  script: ['echo begun; while ! test -e /go; do sleep 0.1; done; echo ended']\n")
    instance.commit(folder, "slow")
    with open(instance.dir / "push.log", "w", encoding="utf-8") as log:
        push = subprocess.Popen(["git", "-C", folder, "push", "tidemill", "main"], env=instance.environment(), stdout=log, stderr=log)
    running = lambda: next((pod["metadata"]["name"] for pod in instance.get("pods", "-n", "tidemill-ci")["items"] if pod["status"].get("phase") == "Running"), None)
    return push, wait_for(running, "the job's pod")


def pipeline(instance):
    return json.loads(instance.tidemill("pipeline", "list", "slow", "-o", "json").stdout)["items"][0]


def test_another_version_takes_over_and_back_unnoticed(instance):
    before, pids, inodes = containers(instance), instance.pids(), programs(instance)
    push, pod = push_slowly(instance)
    with Load(instance, "web.localhost") as load:
        for number, version in (1, instance.versions.new), (0, instance.versions.old):
            instance.versions.install(number)
            assert f"tidemill {version} is up" in instance.tidemill("reload").stdout
            now, others = instance.pids(), programs(instance)
            assert now["supervisor"] == pids["supervisor"] and not {role for role in now if role != "supervisor" and now[role] == pids[role]}
            assert set(others.values()) == {os.stat(instance.program).st_ino} and not set(others.values()) & set(inodes.values())
            assert containers(instance) == before
            pids, inodes = now, others
            instance.kubectl("exec", "counter", "--", "true")
    assert load.good > 20 and not load.failed, f"{len(load.failed)} of {load.good} failed: {load.failed[:5]}"
    lines = instance.kubectl("logs", "counter").stdout.split()
    assert lines == [str(number) for number in range(len(lines))] and len(lines) > 100
    instance.kubectl("exec", "-n", "tidemill-ci", pod, "--", "touch", "/go")
    wait_for(lambda: pipeline(instance)["status"] not in ("running", "pending", "created"), "the pipeline to end")
    assert pipeline(instance)["status"] == "success", instance.tidemill("pipeline", "logs", "slow", check=False).stdout
    assert "ended" in instance.tidemill("pipeline", "logs", "slow").stdout
    push.wait(timeout=60)


def test_a_program_that_does_not_start_changes_nothing(instance):
    pids = instance.pids()
    os.rename(instance.program, instance.versions.folder / "kept")
    (instance.versions.folder / "tidemill").write_text("#!/bin/sh\nexit 1\n")
    (instance.versions.folder / "tidemill").chmod(0o755)
    result = subprocess.run([instance.versions.folder / "kept", "reload", "--run", instance.run_dir], capture_output=True, text=True)
    os.rename(instance.versions.folder / "kept", instance.program)
    assert result.returncode != 0 and "would not start" in result.stderr, result.stderr
    assert instance.pids() == pids and instance.http("web.localhost")[0] == 200


def test_a_reload_that_comes_before_all_is_up(instance):
    """Whoever waits for the start to end holds nothing that the next program wants."""
    assert instance.down().returncode == 0
    told = instance.run_dir / "supervisor.reloaded"
    with open(instance.dir / "up.log", "w", encoding="utf-8") as log, subprocess.Popen([instance.program, "up", *instance.flags], stdout=log, stderr=log) as up:
        wait_for(lambda: told.exists() and told.read_text() == "ok\n", "the supervisor", interval=0.001)
        waiter = int(pathlib.Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split()[0])
        os.kill(waiter, signal.SIGSTOP)  # it goes on waiting
        assert waiter not in instance.pids().values()
        instance.tidemill("reload")
        os.kill(waiter, signal.SIGCONT)
        assert instance.pids()["supervisor"] == up.pid and up.poll() is None
        assert instance.down().returncode == 0
