"""The life of a container as kubelet's: commands inside, probes, hooks, restarts, status and logs, with kubelet's words."""

import base64
import json
import re
import socket
import ssl
import struct
import subprocess
import threading

import pytest
import yaml

from conftest import ROOT, wait_for

STAY = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
HTTPD = ["sh", "-c", "mkdir -p /www && echo fine > /www/ok && exec httpd -f -p 8080 -h /www"]


def pod(name, *containers, **spec):
    containers = [{"name": "main", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "command": STAY, **each} for each in containers or [{}]]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 2, "containers": containers, **spec}}


@pytest.fixture(scope="module")
def kubectl(platform, tiny_image):
    """kubectl in a namespace of the file's own."""
    platform.kubectl("create", "namespace", "life")

    def run(*args, **options):
        return platform.kubectl("-n", "life", *args, **options)

    run.apply = lambda *objects: run("apply", "-f", "-", input=yaml.safe_dump_all(objects))
    run.get = lambda *args: json.loads(run("get", *args, "-o", "json").stdout)
    run.ready = lambda *names: run("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in names))
    run.read = lambda name, *command, **options: run("exec", name, "-c", "main", "--", *command, **options)
    run.platform = platform
    yield run
    platform.kubectl("delete", "namespace", "life", "--wait=false")


def status(kubectl, name, container="main"):
    pod = kubectl.get("pod", name)["status"]
    for key in ("containerStatuses", "initContainerStatuses"):
        for each in pod.get(key, []):
            if each["name"] == container:
                return each
    return {"state": {}, "lastState": {}, "restartCount": 0}


def events(kubectl, name):
    return [(each["type"], each["reason"], each["message"]) for each in kubectl.get("events")["items"] if each["involvedObject"]["name"] == name]


def has_event(kubectl, name, reason, text):
    return [each for each in events(kubectl, name) if each[1] == reason and text in each[2]]


def wait_event(kubectl, name, reason, text):
    try:
        return wait_for(lambda: has_event(kubectl, name, reason, text), f"{reason}: {text}", timeout=30)
    except AssertionError as error:
        raise AssertionError(f"{error}: {events(kubectl, name)}") from error


# --- commands inside ---

STARTED = "OCI runtime exec failed: exec failed: unable to start container process: "


def test_commands_that_cannot_run_say_why(kubectl):
    kubectl.apply(pod("exec"))
    kubectl.ready("exec")
    for command, code, message in [
        ("nothing", 127, 'exec: "nothing": executable file not found in $PATH: unknown'),
        ("/nothing", 127, 'exec: "/nothing": stat /nothing: no such file or directory: unknown'),
        ("/etc/hosts", 126, 'exec: "/etc/hosts": permission denied: unknown'),
    ]:
        failed = kubectl.read("exec", command, check=False)
        assert failed.returncode == code and STARTED + message in failed.stderr, failed
        assert f"command terminated with exit code {code}" in failed.stderr
    assert kubectl.read("exec", "sh", "-c", "exit 7", check=False).returncode == 7
    assert kubectl.read("exec", "sh", "-c", "kill -9 $$", check=False).returncode == 137
    assert kubectl.read("exec", "cat", input="unheard").stdout == ""
    assert kubectl("exec", "-i", "exec", "--", "cat", input="through and back").stdout == "through and back"


def test_streams_belong_to_the_user(kubectl):
    """Who a command runs as may open its streams anew, whoever that is on the host."""
    kubectl.apply(pod("user", securityContext={"runAsUser": 1234}), pod("mapped", hostUsers=False),
                  pod("both", hostUsers=False, securityContext={"runAsUser": 1234}))
    kubectl.ready("user", "mapped", "both")
    for name, uid in [("user", 1234), ("mapped", 0), ("both", 1234)]:
        assert kubectl.read(name, "sh", "-c", "id -u > /dev/stdout; echo beside > /dev/stderr").stdout == f"{uid}\n"
        assert kubectl("exec", "-i", name, "--", "cat", "/dev/stdin", input="in").stdout == "in"
    kubectl("delete", "pod", "user", "mapped", "both", "--wait=false", "--grace-period=1")


TRACER = r"""
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* Takes over whoever comes into its PID namespace, as early as it can, and prints what there is of it to be seen. */
static void show(int pid, const char *name) {
    char path[300], to[512];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    ssize_t n = readlink(path, to, sizeof to - 1);
    if (n > 0)
        printf("%s %.*s\n", name, (int)n, to);
}
static int newest(void) {
    int pid = 0;
    FILE *file = fopen("/proc/loadavg", "r");
    if (file && fscanf(file, "%*f %*f %*f %*s %d", &pid) != 1)
        pid = 0;
    if (file)
        fclose(file);
    return pid;
}
int main(void) {
    int seen = 0, last = getpid();
    setbuf(stdout, NULL);
    printf("watching\n");
    while (seen < 6) {
        int pid = last + 1, misses = 0;
        long seized;
        while ((seized = ptrace(PTRACE_SEIZE, pid, 0, 0)) < 0 && errno == ESRCH)
            if (++misses % 1000 == 0 && newest() >= pid)
                break; /* it came and went */
        last = pid;
        if (seized < 0)
            continue;
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        waitpid(pid, NULL, __WALL);
        char path[64];
        static const char *const names[] = {"exe", "root", "cwd", "ns/mnt", "ns/pid"};
        char exe[8];
        snprintf(path, sizeof path, "/proc/%d/exe", pid);
        int alive = readlink(path, exe, sizeof exe) > 0;
        for (int i = 0; i < 5; i++)
            show(pid, names[i]);
        snprintf(path, sizeof path, "/proc/%d/root/HOSTMARK", pid);
        printf("mark %d\n", access(path, F_OK));
        snprintf(path, sizeof path, "/proc/%d/fd", pid);
        DIR *dir = opendir(path);
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
            char name[300];
            snprintf(name, sizeof name, "fd/%s", entry->d_name);
            show(pid, name);
        }
        if (dir)
            closedir(dir);
        snprintf(path, sizeof path, "/proc/%d/status", pid);
        FILE *file = fopen(path, "r");
        for (char line[200]; file && fgets(line, sizeof line, file);)
            if (!strncmp(line, "CapEff", 6))
                printf("%s", line);
        if (file)
            fclose(file);
        seen += alive;
        ptrace(PTRACE_DETACH, pid, 0, 0);
    }
    return 0;
}
"""


def test_newcomers_are_worth_nothing_to_an_attacker(kubectl, tmp_path):
    """A shell that is a link to /proc/self/exe; a writer to whatever is executed; one that may trace."""
    source, program = tmp_path / "tracer.c", tmp_path / "tracer"
    source.write_text(TRACER)
    subprocess.run(["cc", "-static", "-O1", "-o", program, source], check=True)
    probe = {"readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}
    kubectl.apply(pod("attacker", {"command": ["sleep", "100000"], "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}, **probe}))
    kubectl.ready("attacker")
    kubectl.read("attacker", "sh", "-c", r"printf '#!/proc/self/exe\n' > /evil; chmod 755 /evil")
    failed = kubectl.read("attacker", "/evil", check=False)
    assert failed.returncode == 126 and failed.stdout == ""
    kubectl("cp", str(program), "attacker:/tracer")
    writer = "while :; do for p in /proc/[0-9]*/exe; do (echo x > $p) 2>/dev/null && echo WROTE $(readlink $p); done; done"
    kubectl.read("attacker", "sh", "-c", "chmod 755 /tracer; (/tracer > /traced 2>&1; touch /done) > /dev/null 2>&1 &")
    tries = iter(range(200))

    def traced():
        kubectl.read("attacker", "sleep", "0.2", check=False)
        assert next(tries, None) is not None
        return kubectl.read("attacker", "test", "-e", "/done", check=False).returncode == 0

    wait_for(traced, "newcomers to be traced")
    seen = [line.split(" ", 1) for line in kubectl.read("attacker", "cat", "/traced").stdout.splitlines() if " " in line]
    own = kubectl.read("attacker", "sh", "-c", "readlink /proc/1/ns/mnt").stdout.strip()
    allowed = {key: kubectl.read("attacker", "sh", "-c", "grep CapEff /proc/1/status").stdout.split()[1] for key in ("CapEff:",)}
    assert sum(key == "exe" for key, _ in seen) == 6, seen
    for key, value in seen:
        if key == "ns/mnt":
            assert value == own
        if key.startswith("fd/"):
            assert value.startswith(("pipe:", "/dev/pts", "/dev/null", "/traced", "/written")), (key, value)
        if key == "exe":
            assert "tidemill-enter" in value or value.startswith(("/bin/", "/tracer")), value
        if key.startswith("CapEff"):
            assert int(value, 16) & ~int(allowed["CapEff:"], 16) == 0, value
        assert key not in ("root", "cwd") or value == "/", (key, value)
        assert key != "mark" or value == "-1"
    kubectl.read("attacker", "sh", "-c", f"({writer}) > /written 2>&1 &")
    for _ in range(10):
        assert kubectl.read("attacker", "echo", "unharmed").stdout == "unharmed\n"
    assert kubectl.read("attacker", "cat", "/written").stdout == ""
    assert status(kubectl, "attacker")["ready"]
    kubectl("delete", "pod", "attacker", "--wait=false", "--grace-period=1")


# --- probes ---

class Answers(threading.Thread):
    """A server on the machine's own network, for pods that are on it too: gives each connection to `handle`."""

    def __init__(self, handle, context=None):
        super().__init__(daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port, self.handle, self.context = self.listening.getsockname()[1], handle, context
        self.seen = []
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        try:
            connection.settimeout(10)
            with self.context.wrap_socket(connection, server_side=True) if self.context else connection as stream:
                self.handle(self, stream)
        except OSError:
            pass

    def close(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()


def http_answers(server, stream):
    head = b""
    while b"\r\n\r\n" not in head:
        part = stream.recv(4096)
        if not part:
            return
        head += part
        if head[0] == 0x16:  # TLS
            return stream.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nthis is plain HTTP")
    server.seen.append(head.decode())
    path = head.split()[1].decode()
    bodies = {"/away": ("302 Found\r\nLocation: http://example.invalid/", "gone away"), "/near": ("302 Found\r\nLocation: /ok", ""),
              "/round": ("302 Found\r\nLocation: /round", ""), "/ok": ("200 OK", "x" * 100000)}
    line, body = bodies.get(path, ("503 Service Unavailable", "secret"))
    stream.sendall(f"HTTP/1.1 {line}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def field(name, value):
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def grpc_answers(server, stream):
    """gRPC's health service: the service "down" does not serve, any other but "" and "up" is not found."""
    data = b""
    while b"\0\0\0\0" not in data[24:] or len(data) < 24 + 9 or not server.ended(data):
        part = stream.recv(4096)
        if not part:
            return
        data += part
    service = "down" if b"down" in data else "other" if b"other" in data else ""
    server.seen.append(service)
    out = frame(4, 0, 0, b"") + frame(4, 1, 0, b"")
    if service == "other":
        out += frame(1, 5, 1, b"\x88" + field(b"grpc-status", b"5") + field(b"grpc-message", b"unknown%20service"))
    else:
        health = b"\x08" + (b"\x02" if service == "down" else b"\x01")
        out += frame(1, 4, 1, b"\x88" + field(b"content-type", b"application/grpc"))
        out += frame(0, 0, 1, b"\0" + struct.pack(">I", len(health)) + health) + frame(1, 5, 1, field(b"grpc-status", b"0"))
    stream.sendall(out)
    stream.recv(4096)


def request_ended(data):
    """Whether a DATA frame that ends the stream is in what the client sent after its preface."""
    at = 24
    while at + 9 <= len(data):
        length, kind, flags = int.from_bytes(data[at:at + 3], "big"), data[at + 3], data[at + 4]
        if at + 9 + length > len(data):
            return False
        if kind == 0 and flags & 1:
            return True
        at += 9 + length
    return False


Answers.ended = staticmethod(request_ended)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", folder / "key", "-out",
                    folder / "cert", "-subj", "/CN=nobody", "-days", "2"], check=True, capture_output=True)
    context, h2 = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for each in (context, h2):
        each.load_cert_chain(folder / "cert", folder / "key")
    h2.set_alpn_protocols(["h2"])
    made = {"http": Answers(http_answers), "https": Answers(http_answers, context), "grpc": Answers(grpc_answers), "grpcs": Answers(grpc_answers, h2)}
    yield made
    for server in made.values():
        server.close()


def test_probes_of_every_kind(kubectl, servers):
    http, https, grpc, grpcs = (servers[name].port for name in ("http", "https", "grpc", "grpcs"))

    def get(path, port=http, **more):
        return {"httpGet": {"path": path, "port": port, "host": "127.0.0.1", **more}}

    good = {
        "http": get("/ok", httpHeaders=[{"name": "Host", "value": "my.host"}, {"name": "X-Test", "value": "1"}]),
        "https": get("/ok", https, scheme="HTTPS"), "near": get("/near"), "away": get("/away"), "name": get("/ok", host="localhost"),
        "tcp": {"tcpSocket": {"port": http, "host": "127.0.0.1"}}, "exec": {"exec": {"command": ["sh", "-c", "test $HOME = /root"]}},
        "grpc": {"grpc": {"port": grpc}}, "service": {"grpc": {"port": grpc, "service": "up"}}, "grpcs": {"grpc": {"port": grpcs, "mode": "TLS"}},
    }
    closed = socket.create_server(("127.0.0.1", 0))
    nobody = closed.getsockname()[1]
    closed.close()
    bad = {
        "status": (get("/bad"), "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        "round": (get("/round"), f'Get "http://127.0.0.1:{http}/round": stopped after 10 redirects'),
        "refused": (get("/ok", nobody), f'Get "http://127.0.0.1:{nobody}/ok": dial tcp 127.0.0.1:{nobody}: connect: connection refused'),
        "plain": (get("/ok", http, scheme="HTTPS"), f'Get "https://127.0.0.1:{http}/ok": http: server gave HTTP response to HTTPS client'),
        "lost": (get("/ok", host="no.such.host.invalid"), "dial tcp: lookup no.such.host.invalid: "),
        "port": ({"tcpSocket": {"port": nobody, "host": "127.0.0.1"}}, f"dial tcp 127.0.0.1:{nobody}: connect: connection refused"),
        "named": (get("/ok", "web"), 'Readiness probe errored and resulted in unknown state: strconv.Atoi: parsing "web": invalid syntax'),
        "code": ({"exec": {"command": ["sh", "-c", "echo not yet; exit 1"]}}, "Readiness probe failed: not yet\n"),
        "missing": ({"exec": {"command": ["nothing"]}}, f'Readiness probe errored and resulted in unknown state: {STARTED}exec: "nothing": executable'),
        "slow": ({"exec": {"command": ["sh", "-c", "sleep 7654"]}}, 'Readiness probe failed: command timed out: "sh -c sleep 7654" timed out after 1s'),
        "down": ({"grpc": {"port": grpc, "service": "down"}}, 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")'),
        "other": ({"grpc": {"port": grpc, "service": "other"}}, "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"),
        "nogrpc": ({"grpc": {"port": nobody}}, f'timeout: failed to connect service "127.0.0.1:{nobody}" within 1s: context deadline exceeded'),
    }
    containers = [{"name": name, "readinessProbe": {**probe, "periodSeconds": 1, "timeoutSeconds": 20}} for name, probe in good.items()]
    kubectl.apply(pod("good", *containers, hostNetwork=True),
                  pod("bad", *({"name": name, "readinessProbe": {**probe, "periodSeconds": 1}} for name, (probe, _) in bad.items()), hostNetwork=True))
    kubectl.ready("good")
    wait_event(kubectl, "good", "ProbeWarning", "Readiness probe warning: Probe terminated redirects, Response body: gone away")
    assert not has_event(kubectl, "good", "Unhealthy", "")
    asked = next(each for each in servers["http"].seen if "X-Test" in each)
    assert "Host: my.host\r\n" in asked and asked.count("Host:") == 1 and asked.count("User-Agent: kube-probe/") == 1 and "Accept: */*\r\n" in asked
    for name, (_, message) in bad.items():
        wait_event(kubectl, "bad", "Unhealthy", message)
    assert not any("secret" in each[2] for each in events(kubectl, "bad"))
    assert not any(each["ready"] for each in kubectl.get("pod", "bad")["status"]["containerStatuses"])
    # A command that took too long has been ended with all that it started.
    wait_for(lambda: "7654" not in kubectl("exec", "bad", "-c", "slow", "--", "sh", "-c", "sleep 0.3; ps | grep -v grep").stdout, "the slow command's end")
    ready = {each["type"]: each for each in kubectl.get("pod", "bad")["status"]["conditions"]}["Ready"]
    assert ready["reason"] == "ContainersNotReady" and ready["message"] == f"containers with unready status: [{' '.join(bad)}]"
    kubectl("delete", "pod", "good", "bad", "--wait=false", "--grace-period=1")


def test_probes_decide(kubectl):
    """Startup holds the others back; liveness kills, with a time of its own; readiness comes and goes; gates have a say."""
    file = lambda name: {"exec": {"command": ["test", "-e", name]}, "periodSeconds": 1, "failureThreshold": 1}
    stubborn = ["sh", "-c", "trap '' TERM; touch /alive; while :; do sleep 0.1; done"]
    kubectl.apply(
        pod("startup", {"startupProbe": {**file("/started"), "failureThreshold": 60}, "livenessProbe": file("/never"), "readinessProbe": file("/never")}),
        pod("live", {"command": stubborn, "livenessProbe": {**file("/alive"), "initialDelaySeconds": 1, "terminationGracePeriodSeconds": 1}},
            terminationGracePeriodSeconds=300),
        pod("gated", {"readinessProbe": {**file("/ready"), "successThreshold": 2}}, readinessGates=[{"conditionType": "example.com/lb"}]))
    wait_for(lambda: status(kubectl, "startup")["state"].get("running"), "startup to run")
    one = status(kubectl, "startup")
    assert (one["started"], one["ready"], one["restartCount"]) == (False, False, 0)
    assert not has_event(kubectl, "startup", "Unhealthy", "Liveness")
    kubectl.read("startup", "touch", "/started")
    wait_event(kubectl, "startup", "Unhealthy", "Liveness probe failed: ")
    wait_event(kubectl, "startup", "Killing", "Container main failed liveness probe, will be restarted")
    kubectl.ready("live")
    kubectl.read("live", "rm", "/alive")
    killed = wait_for(lambda: status(kubectl, "live")["lastState"].get("terminated"), "live to be killed")  # long before 300 s
    assert (killed["exitCode"], killed["reason"]) == (137, "Error")
    wait_for(lambda: status(kubectl, "gated")["state"].get("running"), "gated to run")
    kubectl.read("gated", "touch", "/ready")
    conditions = lambda: {each["type"]: each for each in kubectl.get("pod", "gated")["status"]["conditions"]}
    wait_for(lambda: conditions()["ContainersReady"]["status"] == "True", "the containers to be ready")
    ready = conditions()["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "ReadinessGatesNotReady")
    assert ready["message"] == 'corresponding condition of pod readiness gate "example.com/lb" does not exist.'
    patch = {"status": {"conditions": [{"type": "example.com/lb", "status": "True"}]}}
    kubectl("patch", "pod", "gated", "--subresource=status", "--type=strategic", "-p", json.dumps(patch))
    kubectl.ready("gated")
    kubectl.read("gated", "rm", "/ready")
    wait_for(lambda: conditions()["Ready"]["status"] == "False" and conditions()["Ready"]["reason"] == "ContainersNotReady", "gated to be unready again")
    kubectl("delete", "pod", "startup", "live", "gated", "--wait=false", "--grace-period=1")


# --- hooks ---

def test_hooks(kubectl):
    write = lambda text: {"exec": {"command": ["sh", "-c", f"echo {text} >> /shared/log"]}}
    slow = {"exec": {"command": ["sh", "-c", "while ! test -e /shared/go; do sleep 0.05; done; echo post >> /shared/log"]}}
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    trap = ["sh", "-c", "trap 'echo term >> /shared/log; exit 0' TERM; while :; do sleep 0.05; done"]
    kubectl.apply(
        pod("hooked", {"command": trap, "lifecycle": {"postStart": slow, "preStop": write("pre")}, **shared},
            {"name": "after", "command": ["sh", "-c", "echo after >> /shared/log; exec sleep 1000"], **shared},
            volumes=[{"name": "shared", "hostPath": {"path": str(kubectl.platform.dir / "hooked"), "type": "DirectoryOrCreate"}}], terminationGracePeriodSeconds=10),
        pod("failing", {"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo secret; exit 3"]}}}}),
        pod("sleeping", {"lifecycle": {"postStart": {"sleep": {"seconds": 0}}, "preStop": {"sleep": {"seconds": 1}}}}, terminationGracePeriodSeconds=10),
        pod("stuck", {"lifecycle": {"preStop": {"exec": {"command": ["sleep", "1000"]}}}}, terminationGracePeriodSeconds=1),
        pod("refused", {"lifecycle": {"preStop": {"exec": {"command": ["false"]}}}}))
    wait_event(kubectl, "hooked", "Started", "Started container main")
    held = kubectl.get("pod", "hooked")["status"]
    assert held["phase"] == "Pending"
    assert [each["state"]["waiting"]["reason"] for each in held["containerStatuses"]] == ["ContainerCreating", "ContainerCreating"]
    kubectl.read("hooked", "touch", "/shared/go")
    kubectl.ready("hooked", "sleeping", "stuck", "refused")
    assert kubectl.read("hooked", "cat", "/shared/log").stdout == "post\nafter\n"
    kubectl("delete", "pod", "hooked", "sleeping", "stuck", "refused", "--wait=false")
    kubectl("wait", "--for=delete", "--timeout=60s", "pod/hooked", "pod/stuck", "pod/sleeping", "pod/refused")
    assert (kubectl.platform.dir / "hooked/log").read_text() == "post\nafter\npre\nterm\n"
    wait_event(kubectl, "refused", "FailedPreStopHook", "PreStopHook failed")
    assert not has_event(kubectl, "stuck", "FailedPreStopHook", "") and not has_event(kubectl, "sleeping", "FailedPreStopHook", "")
    wait_event(kubectl, "failing", "FailedPostStartHook", "PostStartHook failed")
    wait_event(kubectl, "failing", "Killing", "FailedPostStartHook")
    wait_for(lambda: status(kubectl, "failing")["restartCount"] > 0, "the container of a failed hook to be restarted")
    assert not any("secret" in each[2] for each in events(kubectl, "failing"))
    kubectl("delete", "pod", "failing", "--wait=false", "--grace-period=1")


def test_stopping(kubectl):
    """Sidecars go last and in reverse order, each by its stop signal; a second wish is more urgent than the first; what ignores all is killed."""
    folder = kubectl.platform.dir / "stopped"
    def teller(name, signal="TERM"):
        return {"name": name, "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
                "command": ["sh", "-c", f"trap 'echo {name} >> /shared/log; exit 0' {signal}; while :; do sleep 0.05; done"]}

    sidecar = {"restartPolicy": "Always"}
    stubborn = ["sh", "-c", "trap '' TERM INT; while :; do sleep 0.1; done"]
    kubectl.apply(
        pod("ordered", {**teller("main", "USR1"), "lifecycle": {"stopSignal": "SIGUSR1"}}, os={"name": "linux"}, terminationGracePeriodSeconds=60,
            initContainers=[{**teller("one"), **sidecar}, {**teller("two"), **sidecar}],
            volumes=[{"name": "shared", "hostPath": {"path": str(folder), "type": "DirectoryOrCreate"}}]),
        pod("hurried", {"command": stubborn}, terminationGracePeriodSeconds=3000))
    kubectl.ready("ordered", "hurried")
    kubectl("delete", "pod", "ordered", "hurried", "--wait=false")
    wait_for(lambda: kubectl.get("pod", "hurried")["metadata"].get("deletionGracePeriodSeconds") == 3000, "the first wish")
    kubectl("delete", "pod", "hurried", "--grace-period=1", "--wait=false")
    kubectl("wait", "--for=delete", "--timeout=60s", "pod/ordered", "pod/hurried")
    assert (folder / "log").read_text() == "main\ntwo\none\n"


# --- ends, restarts, status ---

def ended(kubectl, name, container="main"):
    return wait_for(lambda: status(kubectl, name, container)["state"].get("terminated"), f"the end of {name}")


def test_ends_and_last_words(kubectl):
    def once(name, script, **more):
        return pod(name, {"command": ["sh", "-c", script], **more}, restartPolicy="Never")

    kubectl.apply(
        once("done", "echo bye"), once("failed", "printf 'last words' > /dev/termination-log; exit 3"),
        once("talkative", "for i in $(seq 1000); do echo line $i; done; exit 1", terminationMessagePolicy="FallbackToLogsOnError"),
        once("lengthy", "head -c 10000 /dev/zero | tr '\\0' x > /dev/termination-log; printf end >> /dev/termination-log; exit 1"),
        pod("missing", {"command": ["nothing"]}, restartPolicy="Never"),
        pod("uninitialized", restartPolicy="Never", initContainers=[{"name": "init", "image": "busybox:latest", "command": ["false"]}]),
        pod("ruled", {"command": ["sh", "-c", "test -e /v/ran && exit 0; touch /v/ran; exit 42"], "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                      "restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]},
            restartPolicy="Never", volumes=[{"name": "v", "emptyDir": {}}]),
        pod("mixed", {"name": "main"}, {"name": "once", "command": ["sh", "-c", "printf gone; exit 1"], "restartPolicy": "Never",
                                        "terminationMessagePolicy": "FallbackToLogsOnError"}),
        pod("looping", {"command": ["sh", "-c", "exit 5"]}))
    for name, code, reason, message in [("done", 0, "Completed", None), ("failed", 3, "Error", "last words")]:
        end = ended(kubectl, name)
        assert (end["exitCode"], end["reason"], end.get("message")) == (code, reason, message)
    lines = ended(kubectl, "talkative")["message"]
    assert lines.endswith("line 999\nline 1000\n") and len(lines) <= 2048 and lines.count("\n") == 80
    assert ended(kubectl, "lengthy")["message"] == "x" * 4093 + "end"
    missing = ended(kubectl, "missing")
    assert (missing["exitCode"], missing["reason"]) == (128, "StartError")
    assert 'unable to start container process: exec: "nothing": executable file not found in $PATH' in missing["message"], missing
    wait_event(kubectl, "missing", "Failed", 'Error: failed to start container: OCI runtime create failed: ')
    phase = lambda name: kubectl.get("pod", name)["status"]["phase"]
    for name, expected in [("done", "Succeeded"), ("failed", "Failed"), ("missing", "Failed"), ("uninitialized", "Failed"), ("ruled", "Succeeded")]:
        wait_for(lambda: phase(name) == expected, f"{name} to be {expected}")
    conditions = lambda name: {each["type"]: each for each in kubectl.get("pod", name)["status"]["conditions"]}
    assert [conditions("done")[key].get("reason") for key in ("Ready", "ContainersReady", "Initialized")] == ["PodCompleted"] * 3
    assert conditions("failed")["Ready"]["reason"] == "PodFailed"
    assert conditions("uninitialized")["Initialized"]["message"] == "containers with incomplete status: [init]"
    assert status(kubectl, "ruled")["restartCount"] == 1 and status(kubectl, "ruled")["lastState"]["terminated"]["exitCode"] == 42
    once_ended = ended(kubectl, "mixed", "once")
    assert status(kubectl, "mixed", "once")["restartCount"] == 0 and (once_ended["exitCode"], once_ended["message"]) == (1, "gone")
    assert status(kubectl, "mixed")["state"].get("running") and phase("mixed") == "Running"
    looping = wait_for(lambda: status(kubectl, "looping")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" and kubectl.get("pod", "looping"),
                       "the back-off")
    waiting = looping["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert re.sub("back-off [0-9ms]+ ", "", waiting) == f"restarting failed container=main pod=looping_life({looping['metadata']['uid']})"
    assert looping["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 5
    kubectl("delete", "pod", "--all", "--wait=false", "--grace-period=1")


def messages(platform, target, protocol):
    """What comes through a WebSocket until the platform closes it."""
    received = b""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(30)
        link.connect(str(platform.run_dir / "api.sock"))
        link.sendall((f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                      f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n").encode())
        while not received.endswith(b"\x88\x02\x03\xe8"):  # closed: 1000
            received += link.recv(4096) or pytest.fail(f"cut off after {received}")
    head, _, frames = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ") and f"Sec-WebSocket-Protocol: {protocol}".encode() in head, head
    found = []
    while frames[0] != 0x88:
        found, frames = [*found, (frames[0] & 15, frames[2:2 + frames[1]].decode())], frames[2 + frames[1]:]
    return found


def test_logs(kubectl):
    script = "echo first; sleep 0.3; echo second >&2; sleep 0.3; printf partial; sleep 0.2; echo ' line'; while ! test -e /go; do sleep 0.05; done; echo third; exit 1"
    kubectl.apply(pod("told", {"command": ["sh", "-c", script]}, {"name": "other", "command": ["sh", "-c", "echo beside; exec sleep 1000"]}))
    logs = lambda *args, **options: kubectl("logs", "told", *args, **options).stdout
    wait_for(lambda: "line\n" in logs("-c", "main", check=False), "the lines")
    assert logs("-c", "main") == "first\nsecond\npartial line\n"
    assert logs("-c", "main", "--tail=2") == "partial line\n" and logs("-c", "main", "--tail=0") == ""
    assert logs("-c", "main", "--limit-bytes=8") == "first\nse"
    stamped = logs("-c", "main", "--timestamps").splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == ["first", "second", "partial line"]
    assert logs("-c", "main", f"--since-time={stamped[0].split()[0]}") == "first\nsecond\npartial line\n"
    target = f"/api/v1/namespaces/life/pods/told/log?container=main"
    assert "".join(text for _, text in messages(kubectl.platform, target, "binary.k8s.io")) == "first\nsecond\npartial line\n"
    assert "".join(base64.b64decode(text).decode() for kind, text in messages(kubectl.platform, target, "base64.binary.k8s.io") if kind == 1).endswith("line\n")
    executed = f"/api/v1/namespaces/life/pods/told/exec?container=main&stdout=1&command=echo&command=hello"
    assert messages(kubectl.platform, executed, "channel.k8s.io") == [(2, "\x01"), (2, "\x01hello\n")]
    assert logs("-c", "main", "--since=1h").startswith("first") and logs("-c", "main", "--since-time=2100-01-01T00:00:00Z") == ""
    together = logs("--all-containers", "--prefix").splitlines()
    assert "[pod/told/main] first" in together and "[pod/told/other] beside" in together
    following = subprocess.Popen([ROOT / "build/tools/kubectl", "-n", "life", "logs", "-f", "told", "-c", "main"], stdout=subprocess.PIPE, text=True,
                                 env=kubectl.platform.environment())
    assert following.stdout.readline() == "first\n"
    kubectl.read("told", "touch", "/go")
    assert following.stdout.read() == "second\npartial line\nthird\n" and following.wait() == 0  # it ends with the container
    wait_for(lambda: status(kubectl, "told")["restartCount"] == 1, "the restart")
    assert wait_for(lambda: logs("-c", "main", "--previous", check=False), "the log before") == "first\nsecond\npartial line\nthird\n"
    missing = kubectl("logs", "told", "-c", "other", "--previous", check=False)
    assert 'previous terminated container "other" in pod "told" not found' in missing.stderr
    kubectl("delete", "pod", "told", "--wait=false", "--grace-period=1")


def test_a_log_that_is_cut_while_it_is_followed(kubectl):
    """Each line once and in order, for who keeps up, and for who does not read until all is over and the container runs again."""
    say = f"n=1; while [ $n -le 3 ]; do seq ${{n}}00001 ${{n}}90000 | sed s/$/{'a' * 80}/; sleep 1.2; n=$((n + 1)); done; echo last; exit 3"
    kubectl.apply(pod("cut", {"command": ["sh", "-c", f"test ! -e /v/again || exec sleep 1000; while ! test -e /v/go; do sleep 0.05; done; touch /v/again; {say}"],
                              "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v", "emptyDir": {}}]))
    kubectl.ready("cut")
    follow = lambda *more: subprocess.Popen([ROOT / "build/tools/kubectl", "-n", "life", "logs", "-f", "cut", *more], stdout=subprocess.PIPE, text=True,
                                            env=kubectl.platform.environment())
    with follow() as prompt, follow("--timestamps", "--since=1h") as late:
        kubectl.read("cut", "touch", "/v/go")
        lines = prompt.stdout.read().split("\n")
        wait_for(lambda: status(kubectl, "cut")["restartCount"] == 1, "the restart")
        stamped = late.stdout.read().split("\n")
    expected = [f"{n * 100000 + i}{'a' * 80}" for n in (1, 2, 3) for i in range(1, 90001)] + ["last", ""]
    assert lines == expected and [line[line.find(" ") + 1:] for line in stamped] == expected
    assert kubectl("logs", "cut", "--previous", "--tail=1").stdout == "last\n"
    folder = kubectl.platform.state / f"node/logs/life_cut_{kubectl.get('pod', 'cut')['metadata']['uid']}/main"
    assert len(list(folder.glob("0.log.*"))) >= 2  # or nothing was shown by this
    kubectl("delete", "pod", "cut", "--wait=false", "--grace-period=1")


def test_status_never_flaps(kubectl, tmp_path):
    """Through a rollout each condition changes as often as it must and no more, and its time only with it."""
    def deployment(version):
        main = {"name": "main", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "env": [{"name": "V", "value": version}],
                "command": ["sh", "-c", "sleep 0.5; touch /ready; trap 'exit 0' TERM; while :; do sleep 0.1; done"],
                "readinessProbe": {"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1, "timeoutSeconds": 20},
                "lifecycle": {"postStart": {"exec": {"command": ["true"]}}}}
        init = {"name": "init", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "command": ["true"]}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "rolling"}, "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "rolling"}}, "strategy": {"rollingUpdate": {"maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"app": "rolling"}},
                         "spec": {"terminationGracePeriodSeconds": 5, "initContainers": [init], "containers": [main]}}}}

    with open(tmp_path / "watch", "w", encoding="utf-8") as output:
        watching = subprocess.Popen([ROOT / "build/tools/kubectl", "-n", "life", "get", "pods", "-l", "app=rolling", "-w", "-o", "json"], stdout=output,
                                    env=kubectl.platform.environment())
    try:
        for version in ("1", "2"):
            kubectl.apply(deployment(version))
            kubectl("rollout", "status", "deployment/rolling", "--timeout=90s", timeout=120)
        wait_for(lambda: len(kubectl.get("pods", "-l", "app=rolling")["items"]) == 2, "the old pods to be gone")
    finally:
        watching.terminate()
        watching.wait()
    text, seen, decoder = (tmp_path / "watch").read_text().lstrip(), {}, json.JSONDecoder()
    while text:
        try:
            each, end = decoder.raw_decode(text)
        except json.JSONDecodeError:
            break  # cut off where the watch was ended
        text = text[end:].lstrip()
        for item in each["items"] if each["kind"] == "List" else [each]:
            seen.setdefault(item["metadata"]["name"], []).append(item["status"])
    kubectl("delete", "deployment", "rolling", "--wait=false")
    expected = {"PodScheduled": ["True"], "PodReadyToStartContainers": ["False", "True", "False"], "Initialized": ["False", "True"],
                "ContainersReady": ["False", "True", "False"], "Ready": ["False", "True", "False"]}
    phases = ["Pending", "Running", "Succeeded"]
    assert len(seen) == 4
    for name, versions in seen.items():
        for kind, order in expected.items():
            history = [next((each for each in version.get("conditions", []) if each["type"] == kind), None) for version in versions]
            changes = [(each["status"], each["lastTransitionTime"]) for each in history if each]
            changes = [change for i, change in enumerate(changes) if i == 0 or changes[i - 1] != change]
            values = [value for value, _ in changes]
            rest = iter(order)
            assert all(value in rest for value in values), (name, kind, changes)
            assert len(values) == len([value for i, value in enumerate(values) if i == 0 or values[i - 1] != value]), (name, kind, changes)
        told = [version["phase"] for version in versions]
        changes = [phase for i, phase in enumerate(told) if i == 0 or told[i - 1] != phase]
        assert changes == phases[phases.index(changes[0]):][:len(changes)], (name, told)
        assert all(each["restartCount"] == 0 for version in versions for each in version.get("containerStatuses", []))
