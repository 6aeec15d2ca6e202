"""What a person does with kubectl, with five minor versions of it: 1.29 speaks SPDY/3.1 only, 1.30 runs commands over WebSockets, 1.31 forwards ports in them too.

The kubectl that every end-to-end test uses always runs; the others come from scripts/fetch-kubectl-matrix (`make matrix`), and one that is not there is skipped, loudly."""

import concurrent.futures
import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest
import yaml

from conftest import KUBECTL, ROOT, running, wait_for

MINORS = [29, 30, 31, 32, 33]
TOOLS = ROOT / "build/tools"


def find_binaries():
    """Minor version → path: those of the matrix, and the one of all other tests under its own version."""
    found = {minor: TOOLS / f"kubectl-1.{minor}" for minor in MINORS if (TOOLS / f"kubectl-1.{minor}").exists()}
    if KUBECTL.exists():
        version = json.loads(subprocess.run([KUBECTL, "version", "--client", "-o", "json"], capture_output=True, text=True, check=True).stdout)
        found.setdefault(int(version["clientVersion"]["minor"].rstrip("+")), KUBECTL)
    return dict(sorted(found.items()))


BINARIES = find_binaries()


@pytest.mark.parametrize("minor", MINORS)
def test_every_version_is_here(minor):
    if minor not in BINARIES:
        pytest.skip(f"NOT TESTED: kubectl 1.{minor}; `make matrix` (scripts/fetch-kubectl-matrix) builds it from Go modules")


@pytest.fixture(scope="module")
def platform():
    with running("spdy", 161) as instance:
        instance.bootstrap("busybox:latest", "busybox-static")
        yield instance


class Kubectl:
    """One version in a namespace of its own."""

    def __init__(self, platform, minor):
        self.platform, self.minor = platform, minor
        self.path = str(BINARIES[minor])
        self.namespace = f"v29-{minor}"
        self.home = platform.dir / f"home-{minor}"  # discovery is cached here
        self.home.mkdir()
        self("create", "namespace", self.namespace, namespaced=False)

    def environment(self, **more):
        return {**self.platform.environment(), "HOME": str(self.home), **more}

    def command(self, *args, namespaced=True):
        return [self.path, *(["-n", self.namespace] if namespaced else []), *args]

    def __call__(self, *args, code=0, input=None, namespaced=True, **more):
        result = subprocess.run(self.command(*args, namespaced=namespaced), capture_output=True, text=True, input=input, env=self.environment(**more),
                                timeout=120)
        assert result.returncode == code, f"kubectl-1.{self.minor} {' '.join(args)}: exit code {result.returncode}, {result.stdout}{result.stderr}"
        return result

    def get(self, *args):
        return json.loads(self("get", *args, "-o", "json").stdout)


@pytest.fixture(scope="module", params=list(BINARIES), ids=[f"1.{minor}" for minor in BINARIES])
def kubectl(request, platform):
    return Kubectl(platform, request.param)


SHELL = "echo started; trap 'exit 0' TERM; while :; do sleep 1; done"
# Reads lines and says them again: for attach.
ECHO = "while read line; do echo \"heard $line\"; [ \"$line\" != end ] || exit 0; done"


def pod(name, script, **container):
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 1, "restartPolicy": "Never",
        "containers": [{"name": "main", "image": "busybox:latest", "command": ["/bin/sh", "-c", script], **container}]}})


def config_map(name, **data):
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


@pytest.fixture(scope="module")
def shell(kubectl):
    """A running pod."""
    kubectl("apply", "-f", "-", input=pod("shell", SHELL))
    kubectl("wait", "--for=condition=Ready", "pod/shell", "--timeout=60s")
    return "shell"


def test_version(kubectl):
    versions = json.loads(kubectl("version", "-o", "json", namespaced=False).stdout)
    assert versions["clientVersion"]["minor"] .rstrip("+") == str(kubectl.minor) and versions["serverVersion"]["major"] == "1"


# -- objects --

def test_apply(kubectl):
    assert kubectl("apply", "-f", "-", input=config_map("applied", a="1")).stdout == "configmap/applied created\n"
    assert kubectl("apply", "-f", "-", input=config_map("applied", a="1")).stdout == "configmap/applied unchanged\n"
    assert kubectl("apply", "-f", "-", "--dry-run=server", input=config_map("applied", a="2")).stdout == "configmap/applied configured (server dry run)\n"
    assert kubectl("diff", "-f", "-", input=config_map("applied", a="2"), code=1).stdout.count("\n+") >= 1
    assert kubectl("apply", "-f", "-", input=config_map("applied", b="2")).stdout == "configmap/applied configured\n"
    assert kubectl.get("configmap", "applied")["data"] == {"b": "2"}
    assert kubectl("delete", "configmap", "applied").stdout.startswith('configmap "applied" deleted')
    wrong = kubectl("apply", "-f", "-", input=config_map("wrong") + "dota: {}\n", code=1)
    assert 'unknown field "dota"' in wrong.stderr


def test_apply_on_the_server(kubectl):
    first = kubectl("apply", "--server-side", "-f", "-", input=config_map("shared", a="1", b="1"))
    assert first.stdout == "configmap/shared serverside-applied\n"
    conflict = kubectl("apply", "--server-side", "--field-manager=other", "-f", "-", input=config_map("shared", a="2"), code=1)
    assert "conflict" in conflict.stderr and ".data.a" in conflict.stderr
    kubectl("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", input=config_map("shared", a="2"))
    kubectl("apply", "--server-side", "-f", "-", input=config_map("shared"))
    assert kubectl.get("configmap", "shared")["data"] == {"a": "2"}
    kubectl("delete", "configmap", "shared")


def test_create(kubectl):
    assert kubectl("create", "configmap", "made", "--from-literal=k=v").stdout == "configmap/made created\n"
    again = kubectl("create", "configmap", "made", "--from-literal=k=v", code=1)
    assert 'configmaps "made" already exists' in again.stderr
    assert kubectl("create", "secret", "generic", "hidden", "--from-literal=p=w").stdout == "secret/hidden created\n"
    assert kubectl.get("secret", "hidden")["data"] == {"p": "dw=="}
    assert "kind: Deployment" in kubectl("create", "deployment", "dry", "--image=busybox", "--dry-run=client", "-o", "yaml").stdout
    kubectl("delete", "configmap/made", "secret/hidden")


def test_get(kubectl, shell):
    table = [line.split() for line in kubectl("get", "pods").stdout.splitlines()]
    assert table[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"] and table[1][:4] == ["shell", "1/1", "Running", "0"]
    wide = [line.split() for line in kubectl("get", "pods", "-o", "wide").stdout.splitlines()]
    assert wide[0][:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"] and wide[1][6] == "node1"
    assert kubectl("get", "pods", "-o", "name").stdout == "pod/shell\n"
    assert kubectl("get", "pods", "--no-headers").stdout.startswith("shell ")
    assert yaml.safe_load(kubectl("get", "pod", "shell", "-o", "yaml").stdout)["kind"] == "Pod"
    assert kubectl("get", "pod", "shell", "-o", "jsonpath={.status.phase}").stdout == "Running"
    assert kubectl("get", "pod", "shell", "-o", "go-template={{.metadata.name}}").stdout == "shell"
    columns = kubectl("get", "pods", "-o", "custom-columns=N:.metadata.name,P:.status.phase").stdout.splitlines()
    assert [line.split() for line in columns] == [["N", "P"], ["shell", "Running"]]
    assert kubectl("get", "pods", "-A", namespaced=False).stdout.split()[0] == "NAMESPACE"
    assert kubectl("get", "pods", "--field-selector=status.phase=Failed").stderr == f"No resources found in {kubectl.namespace} namespace.\n"
    assert 'pods "nobody" not found' in kubectl("get", "pod", "nobody", code=1).stderr
    assert "the server doesn't have a resource type" in kubectl("get", "nonsense", code=1).stderr
    assert "Name:             shell" in kubectl("describe", "pod", "shell").stdout
    for look in (["api-resources"], ["api-versions"], ["cluster-info"], ["get", "nodes"], ["auth", "can-i", "get", "pods"],
                 ["get", "--raw", "/readyz"], ["events"], ["get", "all"]):
        assert kubectl(*look).stdout, look


def test_patch_label_annotate(kubectl):
    kubectl("create", "configmap", "patched", "--from-literal=a=1")
    assert kubectl("patch", "configmap", "patched", "--type=merge", "-p", '{"data":{"b":"2"}}').stdout == "configmap/patched patched\n"
    kubectl("patch", "configmap", "patched", "-p", '{"data":{"c":"3"}}')
    kubectl("patch", "configmap", "patched", "--type=json", "-p", '[{"op":"remove","path":"/data/a"}]')
    assert kubectl("patch", "configmap", "patched", "--type=merge", "-p", '{"data":{"b":"2"}}').stdout == "configmap/patched patched (no change)\n"
    assert kubectl("label", "configmap", "patched", "tier=front").stdout == "configmap/patched labeled\n"
    assert kubectl("annotate", "configmap", "patched", "note=x").stdout == "configmap/patched annotated\n"
    assert kubectl.get("configmap", "patched")["data"] == {"b": "2", "c": "3"}
    assert kubectl("get", "configmap", "-l", "tier=front", "-o", "name").stdout == "configmap/patched\n"
    assert kubectl("replace", "-f", "-", input=config_map("patched", z="9")).stdout == "configmap/patched replaced\n"
    assert kubectl.get("configmap", "patched")["data"] == {"z": "9"}
    kubectl("edit", "configmap", "patched", KUBE_EDITOR="sed -i 's/z: \"9\"/z: \"8\"/'")
    assert kubectl.get("configmap", "patched")["data"] == {"z": "8"}
    assert kubectl("delete", "configmap", "-l", "tier=front").returncode == 0
    kubectl("delete", "configmap", "patched", "--ignore-not-found")


def test_rollout(kubectl):
    assert kubectl("create", "deployment", "web", "--image=busybox:latest", "--", "/bin/sh", "-c", SHELL).stdout == "deployment.apps/web created\n"
    done = 'deployment "web" successfully rolled out'
    assert done in kubectl("rollout", "status", "deployment/web", "--timeout=60s").stdout
    assert kubectl("scale", "deployment/web", "--replicas=2").stdout == "deployment.apps/web scaled\n"
    assert done in kubectl("rollout", "status", "deployment/web", "--timeout=60s").stdout
    assert kubectl.get("deployment", "web")["status"]["readyReplicas"] == 2
    assert kubectl("set", "env", "deployment/web", "A=1").stdout == "deployment.apps/web env updated\n"
    assert done in kubectl("rollout", "status", "deployment/web", "--timeout=60s").stdout
    assert kubectl("rollout", "restart", "deployment/web").stdout == "deployment.apps/web restarted\n"
    assert done in kubectl("rollout", "status", "deployment/web", "--timeout=60s").stdout
    history = kubectl("rollout", "history", "deployment/web").stdout.split()
    assert {"1", "2", "3"} <= set(history)
    assert kubectl("rollout", "undo", "deployment/web", "--to-revision=1").stdout == "deployment.apps/web rolled back\n"
    assert done in kubectl("rollout", "status", "deployment/web", "--timeout=60s").stdout
    assert "env" not in kubectl.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    assert kubectl("rollout", "pause", "deployment/web").stdout == "deployment.apps/web paused\n"
    assert kubectl("rollout", "resume", "deployment/web").stdout == "deployment.apps/web resumed\n"
    assert kubectl("expose", "deployment", "web", "--port=80").stdout == "service/web exposed\n"
    assert kubectl("delete", "deployment,service", "web").stdout.count("deleted") == 2
    wait_for(lambda: not kubectl.get("pods", "-l", "app=web")["items"], "the pods to go")


# -- streams --

def test_logs(kubectl, shell):
    assert kubectl("logs", shell).stdout == "started\n"
    kubectl("apply", "-f", "-", input=pod("talker", "for i in 1 2 3; do echo line $i; sleep 0.2; done"))
    kubectl("wait", "--for=jsonpath={.status.containerStatuses[0].started}", "pod/talker", "--timeout=30s")
    wait_for(lambda: kubectl.get("pod", "talker")["status"]["phase"] != "Pending", "the pod to start")
    assert kubectl("logs", "-f", "talker").stdout == "line 1\nline 2\nline 3\n"
    assert kubectl("logs", "--tail=1", "talker").stdout == "line 3\n"
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z line 1\n", kubectl("logs", "--timestamps", "talker").stdout)
    kubectl("delete", "pod", "talker")


def test_exec(kubectl, shell):
    both = kubectl("exec", shell, "--", "sh", "-c", "echo out; echo err >&2")
    assert both.stdout == "out\n" and "err\n" in both.stderr
    failed = kubectl("exec", shell, "--", "sh", "-c", "exit 7", code=7)
    assert "command terminated with exit code 7" in failed.stderr
    assert kubectl("exec", "-i", shell, "--", "cat", input="through stdin").stdout == "through stdin"
    assert kubectl("exec", shell, "--", "cat", input="not sent").stdout == ""
    assert kubectl("exec", shell, "--", "/no/such", code=kubectl_code_of_missing(kubectl)).stdout == ""
    assert 'pods "nobody" not found' in kubectl("exec", "nobody", "--", "true", code=1).stderr
    assert "container" in kubectl("exec", shell, "-c", "other", "--", "true", code=1).stderr


def kubectl_code_of_missing(kubectl):
    """What the shell says of a command that is not there depends on no version: but kubectl must not hang."""
    result = subprocess.run(kubectl.command("exec", "shell", "--", "/no/such"), capture_output=True, text=True, env=kubectl.environment(), timeout=60)
    assert result.returncode in (1, 126, 127, 255), result
    return result.returncode


def test_exec_moves_megabytes_both_ways(kubectl, shell):
    data = os.urandom(3 << 20)
    result = subprocess.run(kubectl.command("exec", "-i", shell, "--", "cat"), input=data, capture_output=True, env=kubectl.environment(), timeout=120)
    assert result.returncode == 0 and result.stdout == data
    lines = kubectl("exec", shell, "--", "sh", "-c", "seq 300000 | tee /dev/stderr >/dev/null", code=0)
    assert lines.stderr.endswith("299999\n300000\n")


def test_copy(kubectl, shell, tmp_path):
    data = os.urandom(1 << 20)
    (tmp_path / "sent").write_bytes(data)
    kubectl("cp", str(tmp_path / "sent"), f"{kubectl.namespace}/{shell}:/tmp/copied", namespaced=False)
    kubectl("cp", f"{kubectl.namespace}/{shell}:/tmp/copied", str(tmp_path / "back"), namespaced=False)
    assert (tmp_path / "back").read_bytes() == data


class Terminal:
    """A command whose streams are a terminal of ours."""

    def __init__(self, command, environment, columns=91, rows=33):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            self.set_size(0, columns, rows)
            os.execvpe(command[0], command, {**environment, "TERM": "dumb"})
        self.text = ""

    @staticmethod
    def set_size(fd, columns, rows):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def expect(self, wanted, timeout=60):
        deadline = time.monotonic() + timeout
        while not re.search(wanted, self.text):
            assert time.monotonic() < deadline, f"{wanted!r} did not come: {self.text!r}"
            self.read(0.1)

    def read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            with contextlib.suppress(OSError):  # the end
                self.text += os.read(self.fd, 65536).decode(errors="replace")

    def type(self, text):
        os.write(self.fd, text.encode())

    def resize(self, columns, rows):
        self.set_size(self.fd, columns, rows)
        os.kill(self.pid, signal.SIGWINCH)

    def wait(self, timeout=60):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            self.read(0.05)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"the command did not end: {self.text!r}")


def test_exec_in_a_terminal(kubectl, shell):
    terminal = Terminal(kubectl.command("exec", "-it", shell, "--", "/bin/sh"), kubectl.environment())
    terminal.type("tty; echo size=$(stty size)=\n")
    terminal.expect(r"/dev/(pts/\d+|console)")
    terminal.expect("size=33 91=")
    terminal.resize(120, 40)

    def resized():
        terminal.type("echo size=$(stty size)=\n")
        terminal.read(1)
        return "size=40 120=" in terminal.text

    wait_for(resized, "the new size", interval=0.2)
    terminal.type("exit 5\n")
    assert terminal.wait() == 5


def test_attach(kubectl):
    kubectl("apply", "-f", "-", input=pod("listener", ECHO, stdin=True, stdinOnce=False))
    kubectl("wait", "--for=condition=Ready", "pod/listener", "--timeout=60s")
    assert kubectl("attach", "-i", "listener", input="zero\n").returncode == 0  # who has nothing more to say leaves, the container stays
    attached = subprocess.Popen(kubectl.command("attach", "-i", "listener"), env=kubectl.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
    attached.stdin.write("one\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == "heard one\n"
    attached.stdin.write("end\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == "heard end\n"
    attached.stdin.close()
    assert attached.wait(timeout=60) == 0
    attached.stdout.close()
    attached.stderr.close()
    kubectl("delete", "pod", "listener")


def test_run(kubectl):
    ran = kubectl("run", "once", "--image=busybox:latest", "--restart=Never", "--rm", "-i", "--quiet", "--", "/bin/sh", "-c", "cat; echo done",
                  input="in\n")
    assert "in\n" in ran.stdout and "done\n" in ran.stdout
    kubectl("run", "failing", "--image=busybox:latest", "--restart=Never", "-i", "--quiet", "--", "/bin/sh", "-c", "cat; exit 3", input="", code=3)
    kubectl("delete", "pod", "failing")


def test_a_client_that_leaves_ends_its_command(kubectl, shell):
    process = subprocess.Popen(kubectl.command("exec", "-i", shell, "--", "sh", "-c", "echo here; exec sleep 4321"), env=kubectl.environment(),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    running_commands = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'slee[p] 4321' || true"]
    wait_for(lambda: kubectl("exec", shell, "--", *running_commands).stdout == "0\n", "the command to end")


# -- ports --

SERVER = "mkdir -p /tmp/www && echo hello >/tmp/www/index.html && head -c 3000000 /dev/urandom >/tmp/www/big && exec httpd -f -p 127.0.0.1:8080 -h /tmp/www"


@contextlib.contextmanager
def forwarded(kubectl, pod, port):
    """kubectl port-forward to a port of the pod; yields the local port."""
    process = subprocess.Popen(kubectl.command("port-forward", f"pod/{pod}", f":{port}"), env=kubectl.environment(), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        match = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ->", line)
        assert match, line + process.stderr.read()
        yield int(match.group(1))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="module")
def web(kubectl):
    kubectl("apply", "-f", "-", input=pod("www", SERVER))
    kubectl("wait", "--for=condition=Ready", "pod/www", "--timeout=60s")
    wait_for(lambda: kubectl("exec", "www", "--", "sh", "-c", "wget -q -O - http://127.0.0.1:8080/ || true").stdout == "hello\n", "the web server")
    return "www"


def fetch(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_port_forward(kubectl, web):
    with forwarded(kubectl, web, 8080) as port:
        assert fetch(port, "/") == (200, b"hello\n")
        status, big = fetch(port, "/big")
        assert status == 200 and len(big) == 3000000
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            assert all(result == (200, big) for result in pool.map(lambda _: fetch(port, "/big"), range(12)))


def test_many_connections(kubectl, web):
    with forwarded(kubectl, web, 8080) as port, contextlib.ExitStack() as held:
        for _ in range(250):
            held.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert all(fetch(port, "/") == (200, b"hello\n") for _ in range(300))  # with those that are held, more than may be open at a time


def test_port_forward_to_a_closed_port(kubectl, web):
    process = subprocess.Popen(kubectl.command("port-forward", f"pod/{web}", ":9"), env=kubectl.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    try:
        port = int(re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ->", process.stdout.readline()).group(1))
        with pytest.raises((http.client.HTTPException, OSError)):
            fetch(port, "/")
        line = process.stderr.readline()
        assert "error forwarding port 9 to pod www" in line and "Connection refused" in line
    finally:
        process.kill()
        process.communicate()
