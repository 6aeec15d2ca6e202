"""Pods find services by name: the node's name server on the bridge's address."""

import os
import signal
import socket
import struct
import time

import pytest
import yaml

from conftest import running, wait_for


@pytest.fixture(scope="module")
def named():
    with running("dns", 165) as instance:
        instance.bootstrap("busybox:latest", "busybox-static")
        yield instance


def pod(name, command, **spec):
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "busybox:latest", "command": ["/bin/sh", "-c", command]}], **spec},
    }


def service(name, app, **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}], **spec}}


SERVE = "mkdir /tmp/www; echo hello from $(hostname) > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www"
SLEEP = "trap 'exit 0' TERM; while :; do sleep 1; done"


@pytest.fixture(scope="module")
def cluster(named):
    documents = [pod("web", SERVE), pod("api", SERVE), pod("client", SLEEP), pod("host", SLEEP, hostNetwork=True),
                 pod("none", SLEEP, dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.1"], "searches": ["example.com"], "options": [{"name": "ndots", "value": "2"}]}),
                 service("web", "web"), service("headless", "api", clusterIP="None")]
    named.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))
    named.kubectl("wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s")
    wait_for(lambda: any(each.get("endpoints") for each in named.get("endpointslices", "-l", "kubernetes.io/service-name=headless")["items"]),
             "the headless service's endpoints")
    return named


def server_of(cluster):
    return f"10.{cluster.number}.0.1"


def run(cluster, *command, pod="client", check=True):
    result = cluster.kubectl("exec", pod, "--", *command, check=check)
    return result.stdout + result.stderr


@pytest.mark.parametrize("name", ["web.default.svc.cluster.local", "web.default.svc", "web.default", "web"])
def test_a_service_is_reached_by_its_name(cluster, name):
    assert run(cluster, "busybox", "wget", "-qO-", f"http://{name}/") == "hello from web\n"


def test_nslookup(cluster):
    address = cluster.get("service", "web")["spec"]["clusterIP"]
    assert address in run(cluster, "busybox", "nslookup", "-type=a", "web.default.svc.cluster.local")
    api = cluster.get("pod", "api")["status"]["podIP"]
    assert api in run(cluster, "busybox", "nslookup", "-type=a", "headless.default.svc.cluster.local")
    assert "web.default.svc.cluster.local" in run(cluster, "busybox", "nslookup", "-type=ptr", ".".join(reversed(address.split("."))) + ".in-addr.arpa")
    begin = time.monotonic()
    assert "NXDOMAIN" in run(cluster, "busybox", "nslookup", "-type=a", "nobody.default.svc.cluster.local", check=False)
    assert time.monotonic() - begin < 5


def test_resolv_conf_follows_the_policy(cluster):
    lines = run(cluster, "cat", "/etc/resolv.conf").splitlines()
    assert lines[0] == f"nameserver {server_of(cluster)}"
    assert lines[1].startswith("search default.svc.cluster.local svc.cluster.local cluster.local")
    assert lines[2] == "options ndots:5"
    assert server_of(cluster) not in run(cluster, "cat", "/etc/resolv.conf", pod="host")
    assert run(cluster, "cat", "/etc/resolv.conf", pod="none") == "nameserver 192.0.2.1\nsearch example.com\noptions ndots:2\n"


def question(name, kind, number=0x4D49):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)


def ask_udp(cluster, message):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.sendto(message, (server_of(cluster), 53))
        return client.recv(4096)


def read_whole(client, count):
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        assert piece, "the connection ended early"
        data += piece
    return data


def test_srv_over_udp_and_tcp(cluster):
    message = question("_http._tcp.web.default.svc.cluster.local", 33)
    address = socket.inet_aton(cluster.get("service", "web")["spec"]["clusterIP"])
    over_udp = ask_udp(cluster, message)
    assert over_udp[:4] == b"\x4d\x49\x85\x80" and over_udp[6:8] == b"\0\1" and over_udp[10:12] == b"\0\1"
    assert over_udp.endswith(address)
    with socket.create_connection((server_of(cluster), 53), timeout=20) as client:
        framed = struct.pack(">H", len(message)) + message
        client.sendall(framed[:7])
        client.sendall(framed[7:] + framed)  # cut anywhere, two at once
        for _ in range(2):
            assert read_whole(client, struct.unpack(">H", read_whole(client, 2))[0]) == over_udp


def test_other_names_go_to_the_hosts_servers(cluster):
    """Whatever they say, or SERVFAIL when they say nothing: the asker gets an answer to its own question."""
    message = question("Example.com", 1)
    answer = ask_udp(cluster, message)
    assert answer[:2] == message[:2] and answer[12:len(message)] == message[12:] and answer[3] & 15 in (0, 2, 3, 5)
    with socket.create_connection((server_of(cluster), 53), timeout=20) as client:
        client.sendall(struct.pack(">H", len(message)) + message)
        answer = read_whole(client, struct.unpack(">H", read_whole(client, 2))[0])
        assert answer[:2] == message[:2] and answer[12:len(message)] == message[12:]


def test_what_is_no_question(cluster):
    assert ask_udp(cluster, struct.pack(">6H", 7, 0x0100, 0, 0, 0, 0))[3] & 15 == 1  # FORMERR
    assert ask_udp(cluster, struct.pack(">6H", 7, 0x1000, 1, 0, 0, 0))[3] & 15 == 4  # NOTIMP
    assert ask_udp(cluster, question("web.default.svc.cluster.local", 252))[3] & 15 == 5  # a zone transfer


def test_names_survive_the_node(cluster):
    pid = cluster.pids()["node"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: cluster.pids()["node"] != pid, "another node")
    wait_for(lambda: "hello from web" in run(cluster, "busybox", "wget", "-qO-", "http://web/", check=False), "names again")


def test_a_taken_port_is_told_and_pods_get_the_hosts_servers():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_FREEBIND", 15), 1)  # before the bridge exists
        address = f"10.{166 + int(os.environ.get('TIDEMILL_TEST_OFFSET', '0'))}.0.1"
        other.bind((address, 53))
        with running("taken", 166) as instance:
            assert f"cannot serve names to pods on {address}:53" in wait_for(lambda: instance.log() if "cannot serve names" in instance.log() else "", "the warning")
            instance.bootstrap("busybox:latest", "busybox-static")
            instance.kubectl("apply", "-f", "-", input=yaml.safe_dump(pod("client", SLEEP)))
            instance.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
            text = instance.kubectl("exec", "client", "--", "cat", "/etc/resolv.conf").stdout
            assert address not in text and "cluster.local" not in text
