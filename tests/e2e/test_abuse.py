"""Hostile neighbours: what a container, a CI job, a Dockerfile and a stranger on the network can reach, and what they cannot."""

import base64
import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading

import pytest

from conftest import running, wait_for

MIB = 1 << 20


@pytest.fixture(scope="module")
def platform():
    with running("abuse", 162) as instance:
        instance.bootstrap("busybox:latest", "busybox-static")
        instance.kubectl("apply", "-f", "-", input=POD)
        instance.kubectl("wait", "--for=condition=Ready", "pod/evil", "--timeout=30s")
        yield instance


POD = """
apiVersion: v1
kind: Pod
metadata: {name: evil, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "busybox:latest", command: [sleep, "3600"]}]
"""


def inside(platform, script):
    """Runs a shell script in the pod and returns what it printed."""
    return platform.kubectl("exec", "evil", "--", "sh", "-c", script, check=False).stdout


def push(platform, folder, files):
    """Commits the files, pushes, and returns what the pipeline printed."""
    for name, text in files.items():
        (folder / name).write_text(text)
    platform.commit(folder, "change")
    result = platform.git(folder, "push", "tidemill", "main", check=False, timeout=60)
    return result.stdout + result.stderr


def reachable(platform, address, port):
    return "open" in inside(platform, f"nc -w1 {address} {port} </dev/null >/dev/null 2>&1 && echo open")


# --- a container ---


def test_container_has_no_way_to_the_kernel(platform):
    out = inside(platform, """
        mknod /tmp/disk b 254 0 && dd if=/tmp/disk of=/dev/null count=1 2>/dev/null && echo REACHED device
        mount -t tmpfs none /mnt 2>/dev/null && echo REACHED mount
        unshare -m true 2>/dev/null && echo REACHED namespace
        (cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern) 2>/dev/null && echo REACHED /proc/sys
        (echo 0 > /sys/kernel/uevent_helper) 2>/dev/null && echo REACHED /sys
        (echo 1 > /sys/fs/cgroup/memory/notify_on_release) 2>/dev/null && echo REACHED cgroups
        [ -s /proc/kcore ] && echo REACHED /proc/kcore
        dmesg >/dev/null 2>&1 && echo REACHED dmesg
        grep -q '^Seccomp:.2$' /proc/self/status && grep -q '^CapEff:.00000000a80425fb$' /proc/self/status && echo confined""")
    assert out.split() == ["confined"], out


def test_container_holds_nothing_of_the_platform(platform):
    out = inside(platform, "ls -l /proc/1/fd /proc/self/fd | sed -n 's/.*-> //p'; tr '\\0' '\\n' < /proc/1/environ; cat /proc/mounts")
    for secret in ("socket:", "api.sock", "node.sock", "job.sock", str(platform.run_dir), "TOKEN", "NOTIFY"):
        assert secret not in out, f"{secret} shows in a container:\n{out}"
    targets = [line for line in out.splitlines() if line.startswith(("/", "pipe:", "anon"))]
    assert all(line.startswith(("/dev/null", "pipe:", "/proc")) or " " in line for line in targets), targets


def test_container_reaches_the_registry_and_the_api_only(platform):
    assert reachable(platform, f"10.{platform.number}.0.1", platform.registry_port)
    assert reachable(platform, f"10.{platform.number}.0.1", platform.api_port)
    for path in ("/api/v1/namespaces/default/secrets", "/tidemill/apps", "/metrics"):
        answer = subprocess.run(["curl", "-sk", f"https://10.{platform.number}.0.1:{platform.api_port}{path}"], capture_output=True, text=True).stdout
        assert '"Forbidden"' in answer, f"nobody in particular reads {path}: {answer[:200]}"
    for port in (platform.git_port, platform.monitor_port, platform.http_port):
        assert not reachable(platform, f"10.{platform.number}.0.1", port), f"a pod reaches port {port} of the host's loopback"
    out = inside(platform, f"wget -S -O - --post-data '' http://10.{platform.number}.0.1:{platform.registry_port}/v2/busybox/blobs/uploads/ 2>&1")
    assert "401 Unauthorized" in out + platform.kubectl("exec", "evil", "--", "sh", "-c", f"wget -S -O - --post-data '' "
                                                        f"http://10.{platform.number}.0.1:{platform.registry_port}/v2/busybox/blobs/uploads/ 2>&1; true").stdout


# --- a job, a build ---

JOB = """
attack:
  image: busybox:latest
  script:
    - (touch /.tidemill-run/x) 2>/dev/null && echo REACHED the folder of the job socket || true
    - (echo x > /.tidemill/tidemill-job) 2>/dev/null && echo REACHED the helper || true
    - |
      write() { wget -S -O /dev/null --header "Authorization: Basic $(printf "job:$2" | base64 | tr -d '\\n')" --post-data '' \\
        "http://$CI_REGISTRY/v2/$1/blobs/uploads/" 2>&1 | sed -n "s,.*HTTP/1.1 \\([0-9]*\\).*,$1 $3 \\1,p"; }
    - write victim $CI_JOB_TOKEN mine
    - write attacker $CI_JOB_TOKEN mine
    - write attacker forged forged
    - TIDEMILL_JOB_TOKEN=forged tidemill apply -f . && echo REACHED apply with a forged token || true
    - mkdir m; printf "$MANIFEST" > m/a.yaml; tidemill apply -f m && echo REACHED the host by hostPath || true
    - printf "$FOREIGN" > m/a.yaml; tidemill apply -f m && echo REACHED another namespace || true
    - ln -s /etc/passwd leak; mkdir -p d; ln -s / d/root; echo kept > ok.txt
  artifacts:
    paths: [leak, d, ok.txt, /etc/passwd, ../../etc]
  variables:
    MANIFEST: '{apiVersion: v1, kind: Pod, metadata: {name: root}, spec: {volumes: [{name: h, hostPath: {path: /}}], containers: [{name: c, image: busybox}]}}'
    FOREIGN: '{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: default}}'
look:
  image: busybox:latest
  needs: [attack]
  script:
    - cat ok.txt
    - "[ -L leak ] && echo leak is a link still"
"""


def test_job_is_confined(platform):
    folder = platform.create_app("attacker")
    platform.tidemill("app", "create", "victim")
    out = push(platform, folder, {".gitlab-ci.yml": JOB})
    ran = "\n".join(line for line in out.splitlines() if "| $ " not in line)
    assert "REACHED" not in ran, out
    assert "victim mine 403" in ran and "attacker mine 202" in ran and "attacker forged 403" in ran, out
    assert "is not allowed in a pipeline's manifests" in ran and "is not the application's own" in ran, out
    assert "kept" in ran and "leak is a link still" in ran and "pipeline 1 succeeded" in ran, out
    assert platform.kubectl("-n", "attacker", "get", "pod", "root", check=False).returncode != 0


DOCKERFILE = """
FROM busybox AS first
RUN ln -s / /everything && ln -s /proc /processes
FROM busybox
COPY escape /escape
RUN /escape || true
RUN --mount=type=bind,from=first,source=/everything,target=/m,rw (touch /m/etc/ld.so.preload) 2>/dev/null && echo REACHED what buildah loads; true
RUN --mount=type=bind,from=first,source=/processes,target=/m,rw (cat /m/sys/kernel/core_pattern > /m/sys/kernel/core_pattern) 2>/dev/null && echo REACHED /proc/sys; true
RUN grep -q '^ *0 *0 ' /proc/self/uid_map && echo REACHED root outside of a user namespace; true
RUN mknod /d b 254 0 2>/dev/null && echo REACHED device; mount -t tmpfs none /tmp 2>/dev/null && echo REACHED mount; true
"""

# A process that may call chroot(2) leaves a chroot.
ESCAPE = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void) {
    int root = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("/jail", 0755);
    if (chroot("/jail") || fchdir(root))
        return 1;
    for (int i = 0; i < 64 && !chdir(".."); i++)
        ;
    if (!chroot(".") && access("/work/context.tar", F_OK) == 0)
        puts("REACHED the pod around the build");
    return 0;
}
"""


def test_dockerfile_is_confined(platform):
    folder = platform.create_app("builder")
    (folder / "escape.c").write_text(ESCAPE)
    subprocess.run(["cc", "-static", "-o", folder / "escape", folder / "escape.c"], check=True)
    out = push(platform, folder, {"Dockerfile": DOCKERFILE, ".gitlab-ci.yml": "build:\n  image: busybox:latest\n  script: [tidemill build]\n"})
    ran = "\n".join(line for line in out.splitlines() if "STEP" not in line)
    assert "REACHED" not in ran, out
    assert "succeeded" in ran, out


# --- who may ask the API what ---


def test_api_asks_who_one_is(platform):
    context = ssl._create_unverified_context()

    def get(path, token=None):
        connection = http.client.HTTPSConnection("127.0.0.1", platform.api_port, context=context, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            response = connection.getresponse()
            return response.status, json.loads(response.read()) if path != "/healthz" else None

    assert get("/healthz")[0] == 200
    status, body = get("/api/v1/namespaces/default/secrets")
    assert status == 403 and 'User "system:anonymous" cannot list resource "secrets"' in body["message"]
    assert get("/api/v1/pods", token="wrong")[0] == 401
    assert get("/healthz", token="wrong")[0] == 401


def test_gateway_and_strangers_on_the_unix_socket(platform):
    """The same request by users of this machine: root, the gateway's, nobody."""
    gateway = os.stat(f"/proc/{platform.pids()['gateway']}").st_uid
    script = """
import http.client, os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
for path in sys.argv[3:]:
    connection = http.client.HTTPConnection("x"); connection.sock = socket.socket(socket.AF_UNIX); connection.sock.connect(sys.argv[1])
    connection.request("GET", path); print(connection.getresponse().status)
"""
    paths = ["/apis/networking.k8s.io/v1/ingresses", "/api/v1/secrets", "/api/v1/configmaps", "/api/v1/namespaces/default/pods/evil/log"]

    def ask(uid):
        out = subprocess.run(["python3", "-c", script, str(platform.run_dir / "api.sock"), str(uid), *paths], capture_output=True, text=True, check=True)
        return [int(line) for line in out.stdout.split()]

    assert ask(0) == [200, 200, 200, 200]
    assert ask(gateway) == [200, 403, 403, 403]
    assert ask(65534) == [403, 403, 403, 403]


def test_files_are_closed_to_others(platform):
    for path in ("core", "forge", "pki", "pki/kubeconfig"):
        assert (platform.state / path).stat().st_mode & 0o077 == 0, f"{path} is open to others"
    for path in ("node.sock", "supervisor.state", "gateway.sock", "tidemill.log"):
        assert (platform.run_dir / path).stat().st_mode & 0o007 == 0, f"{path} is open to others"


# --- a stranger on the network ---

HEAD = b"Host: a\r\n"
GARBAGE = {
    "bytes": (bytes(range(256)) * 40, b"400"),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500, b"400"),
    "10,000 headers": (b"GET / HTTP/1.1\r\n" + HEAD + b"".join(b"X-%d: y\r\n" % i for i in range(10000)) + b"\r\n", b"431"),
    "a long target": (b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n\r\n", b"414"),
    "two framings": (b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n", b"400"),
    "two lengths": (b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", b"400"),
    "a negative length": (b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
    "a space before the colon": (b"POST / HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", b"400"),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: a\n\n", b"400"),
    "a folded header": (b"GET / HTTP/1.1\r\n" + HEAD + b"X: a\r\n b\r\n\r\n", b"400"),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HEAD + b"Host: b\r\n\r\n", b"400"),
    "another version": (b"GET / HTTP/3.0\r\n\r\n", b"505"),
}


def exchange(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while len(answer) < 4096 and (piece := connection.recv(4096)):
                answer += piece
        return answer


def test_garbage_is_refused_everywhere(platform):
    for listener in ("http_port", "registry_port", "git_port", "monitor_port"):
        for what, (data, status) in GARBAGE.items():
            answer = exchange(getattr(platform, listener), data)
            assert answer.startswith(b"HTTP/1.1 " + status), f"{listener}, {what}: {answer[:200]}"
            assert answer.count(b"HTTP/1.1 ") - answer.count(b"only HTTP/1.1 ") == 1, f"{listener}, {what}: what follows was taken for a request: {answer}"


@pytest.mark.parametrize("path", [
    "/v2/%2e%2e/%2e%2e/etc/passwd/manifests/x", "/v2/busybox/manifests/..%2f..%2f..%2fetc%2fpasswd", "/v2/busybox/blobs/sha256:../../../../etc/passwd",
    "/v2/busybox%00x/tags/list", "/v2//busybox/tags/list", "/v2/busybox/blobs/sha256:" + "A" * 64, "/v2/busybox/manifests/" + "a" * 129,
])
def test_registry_paths(platform, path):
    answer = exchange(platform.registry_port, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert answer[9:12] in (b"400", b"404"), answer


def test_git_paths(platform):
    made = platform.tidemill("app", "create", "other", "-o", "json")
    token = json.loads(made.stdout)["remote"].split("@")[0].rsplit(":", 1)[1]
    login = "Authorization: Basic " + base64.b64encode(f"git:{token}".encode()).decode()

    def get(path, *headers):
        lines = "".join(f"{line}\r\n" for line in ("Host: a", "Connection: close", *headers))
        return exchange(platform.git_port, f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())[9:12]

    service = "?service=git-upload-pack"
    assert get("/other.git/info/refs" + service, login) == b"200"
    assert get("/other.git/info/refs" + service) == b"401"
    assert get("/nothing.git/info/refs" + service, login) == b"401"
    for path in ("/other.git/../other.git/info/refs", "/other.git/HEAD", "/other.git/config", "/other.git//info/refs", "/other.git/%2e%2e/x", "/other.git/objects/../config"):
        assert get(path + service, login) in (b"403", b"404"), path


def test_large_bodies_are_refused(platform):
    """As soon as their length is known, or once they pass the limit; nobody keeps 100 MB."""
    body = b"x" * MIB
    for chunked in (False, True):
        connection = http.client.HTTPConnection("x", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        connection.sock.connect(str(platform.run_dir / "api.sock"))
        connection.putrequest("POST", "/api/v1/namespaces/default/configmaps", skip_host=True)
        connection.putheader("Host", "a")
        connection.putheader("Content-Type", "application/json")
        connection.putheader(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(100 * MIB))))
        connection.endheaders()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100):
                connection.send(b"%x\r\n%s\r\n" % (len(body), body) if chunked else body)
        assert connection.getresponse().status == 413, f"chunked: {chunked}"
        connection.close()


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def test_slow_clients_hold_nobody_up_and_memory_is_bounded(platform):
    before = {role: pss(pid) for role, pid in platform.pids().items()}
    pids = platform.pids()
    ports = [platform.http_port, platform.registry_port, platform.git_port, platform.monitor_port, platform.api_port]
    with contextlib.ExitStack() as stack:
        for i in range(500):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", ports[i % len(ports)]), timeout=10))
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"a" * (i * 37 % 9000))
        errors = []

        def flood(port):
            for what in list(GARBAGE) * 5:
                try:
                    if port != platform.api_port:
                        exchange(port, GARBAGE[what][0])
                        continue
                    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                        connection.sendall(GARBAGE[what][0])  # TLS waits for the rest of what could be a record
                except (ConnectionResetError, BrokenPipeError):
                    pass
                except OSError as error:
                    errors.append(error)

        threads = [threading.Thread(target=flood, args=(port,)) for port in ports]
        for thread in threads:
            thread.start()
        for _ in range(5):
            assert platform.kubectl("get", "pods", "evil", timeout=10).returncode == 0
            assert platform.http("nobody.localhost")[0] == 404
        for thread in threads:
            thread.join()
        assert not errors, errors
    assert platform.pids() == pids, "a role died"

    def settled():
        return all(pss(pid) < before[role] + 24 * MIB for role, pid in pids.items())

    wait_for(settled, "the memory of each role to stay within 24 MiB of what it was", timeout=20)
