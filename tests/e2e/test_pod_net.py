"""A pod's network: two addresses, ports of the machine, names, kernel settings, namespaces made in advance; and a machine without IPv6."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess

import pytest
import yaml

from conftest import KUBECTL, TIDEMILL, Platform, running, wait_for

SLEEP = "trap 'exit 0' TERM; while :; do sleep 1; done"
SERVE = "mkdir /tmp/www; echo hello from $(hostname) > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www"


def pod(name, command=SLEEP, ports=(), env=(), **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
        {"name": "main", "image": "busybox:latest", "command": ["/bin/sh", "-c", command], "ports": list(ports), "env": list(env)}], **spec}}


def field(name, path):
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


PODS = [
    pod("web", SERVE, [{"containerPort": 8080, "hostPort": 31080}, {"containerPort": 8080, "hostPort": 31081, "hostIP": "127.0.0.1"}]),
    pod("client", env=[field("IPS", "status.podIPs"), field("IP", "status.podIP"), field("HOST_IPS", "status.hostIPs")],
        hostAliases=[{"ip": "192.0.2.9", "hostnames": ["nine.example", "neuf.example"]}]),
    pod("named", hostname="first", subdomain="sub", setHostnameAsFQDN=True),
    pod("hostnet", hostNetwork=True, hostAliases=[{"ip": "192.0.2.9", "hostnames": ["nine.example"]}]),
    pod("hostnet-cluster", hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"),
    pod("default", dnsPolicy="Default", dnsConfig={"options": [{"name": "ndots", "value": "3"}]}),
    pod("tuned", securityContext={"sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "4000 4999"}, {"name": "kernel.shm_rmid_forced", "value": "1"}]}),
]


@pytest.fixture(scope="module")
def net():
    with running("pnet", 163) as instance:
        instance.bootstrap("busybox:latest", "busybox-static")
        instance.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(PODS))
        instance.kubectl("wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s")
        yield instance


def run(net, name, command):
    return net.kubectl("exec", name, "--", "/bin/sh", "-c", command).stdout


def addresses(net, name):
    return [each["ip"] for each in net.get("pod", name)["status"]["podIPs"]]


def test_pods_have_an_address_of_each_family(net):
    v4, v6 = addresses(net, "web")
    assert v4.startswith(f"10.{net.number}.0.") and v6.startswith("fd")
    for host in (v4, f"[{v6}]"):
        assert run(net, "client", f"busybox wget -qO- http://{host}:8080/") == "hello from web\n"
    own = addresses(net, "client")
    status = net.get("pod", "client")["status"]
    assert run(net, "client", "echo $IP $IPS $HOST_IPS") == f"{own[0]} {','.join(own)} {','.join(each['ip'] for each in status['hostIPs'])}\n"
    hosts = run(net, "client", "cat /etc/hosts")
    assert all(f"{address}\tclient\n" in hosts for address in own) and hosts.endswith("\n# Entries added by HostAliases.\n192.0.2.9\tnine.example\tneuf.example\n")
    ranges = net.get("node", "node1")["spec"]["podCIDRs"]
    assert ranges[0] == f"10.{net.number}.0.0/16" and ranges[1].endswith("/64")


def answers(host, port, timeout=5):
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"hello from web" in connection.makefile("rb").read()
    except ConnectionRefusedError:
        return False


def test_a_port_of_the_machine_leads_to_the_pod(net):
    gateway = f"10.{net.number}.0.1"
    assert answers("127.0.0.1", 31080) and answers(gateway, 31080)
    assert answers("127.0.0.1", 31081) and not answers(gateway, 31081)
    for name in ("client", "web"):  # from a pod, and from itself
        assert run(net, name, f"busybox wget -qO- http://{gateway}:31080/") == "hello from web\n"


ECHO = """
import http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.client_address[0].removeprefix("::ffff:").encode())
    def log_message(self, *args):
        pass
Server(("::", 8000), Handler).serve_forever()
"""


@pytest.fixture()
def outside(net):
    """Another machine: a network namespace behind an interface of this one, with a server that tells who asks. The addresses of this machine on that link."""
    name = f"tmo{net.number}"
    own, other = (f"198.18.{net.number}.1", f"2001:db8:{net.number}::1"), (f"198.18.{net.number}.2", f"2001:db8:{net.number}::2")
    script = f"""ip netns add {name}
        ip link add {name} type veth peer name eth0 netns {name}
        ip addr add {own[0]}/24 dev {name}; ip addr add {own[1]}/64 dev {name} nodad; ip link set {name} up
        ip netns exec {name} sh -ec 'ip link set lo up; ip addr add {other[0]}/24 dev eth0; ip addr add {other[1]}/64 dev eth0 nodad; ip link set eth0 up'"""
    subprocess.run(["sh", "-ec", script], check=True)
    server = subprocess.Popen(["ip", "netns", "exec", name, "python3", "-c", ECHO])
    try:
        wait_for(lambda: subprocess.run(["curl", "-s", f"http://{other[0]}:8000/"], capture_output=True).returncode == 0, "the server outside")
        yield name, own, other
    finally:
        server.kill()
        server.wait()
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_in_and_out(net, outside):
    name, own, other = outside
    for mine, theirs in zip(own, other):
        mine_url, theirs_url = (f"[{mine}]", f"[{theirs}]") if ":" in mine else (mine, theirs)
        assert run(net, "client", f"busybox wget -qO- http://{theirs_url}:8000/") == mine  # as the machine itself, not as an address that nobody can answer
        asked = subprocess.run(["ip", "netns", "exec", name, "curl", "-sS", f"http://{mine_url}:31080/"], capture_output=True, text=True)
        assert asked.stdout == "hello from web\n", asked.stderr
        assert subprocess.run(["ip", "netns", "exec", name, "curl", "-sS", f"http://{mine_url}:31081/"], capture_output=True).returncode == 7  # of 127.0.0.1 only


def test_two_pods_cannot_have_one_port_of_the_machine(net):
    net.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([pod("port-1", ports=[{"containerPort": 1, "hostPort": 31090}])]))
    net.kubectl("wait", "--for=condition=Ready", "pod/port-1", "--timeout=60s")
    net.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([pod("port-2", ports=[{"containerPort": 2, "hostPort": 31090}])]))

    def refused():
        return [c["message"] for c in net.get("pod", "port-2")["status"].get("conditions", []) if c["type"] == "PodScheduled" and c["status"] == "False"]

    assert "1 node(s) didn't have free ports for the requested pod ports" in wait_for(refused, "the scheduler's word")[0]
    net.kubectl("delete", "pod", "port-1")
    net.kubectl("wait", "--for=condition=Ready", "pod/port-2", "--timeout=60s")
    net.kubectl("delete", "pod", "port-2")


def test_a_pod_on_the_machines_network(net):
    status = net.get("pod", "hostnet")["status"]
    assert status["podIP"] == status["hostIP"] and status["podIPs"] == status["hostIPs"]
    hosts = run(net, "hostnet", "cat /etc/hosts")
    assert hosts.startswith("# Kubernetes-managed hosts file (host network).\n") and "192.0.2.9\tnine.example\n" in hosts
    assert pathlib.Path("/etc/hosts").read_text().strip() in hosts
    assert run(net, "hostnet", "hostname").strip() == socket.gethostname()


def test_names_are_asked_for_where_the_policy_says(net):
    own, host = f"nameserver 10.{net.number}.0.1\n", pathlib.Path("/etc/resolv.conf").read_text()
    assert own in run(net, "client", "cat /etc/resolv.conf") and own in run(net, "hostnet-cluster", "cat /etc/resolv.conf")
    assert own not in run(net, "hostnet", "cat /etc/resolv.conf")
    text = run(net, "default", "cat /etc/resolv.conf")
    assert own not in text and "ndots:3" in text
    assert all(line in text for line in host.splitlines() if line.startswith("nameserver ") and not line.startswith("nameserver 127."))


def test_a_pod_knows_its_name(net):
    whole = "first.sub.default.svc.cluster.local"
    assert run(net, "named", "hostname").strip() == whole
    assert all(f"{address}\t{whole}\tfirst\n" in run(net, "named", "cat /etc/hosts") for address in addresses(net, "named"))
    net.kubectl("apply", "-f", "-", input=yaml.safe_dump(pod("long", hostname="h" * 40, subdomain="s" * 40, setHostnameAsFQDN=True)))
    wait_for(lambda: "is too long (64 characters is the max" in net.kubectl("describe", "pod", "long").stdout, "the event")
    net.kubectl("delete", "pod", "long")


def test_kernel_settings_of_a_pod(net):
    assert run(net, "tuned", "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shm_rmid_forced").split() == ["4000", "4999", "1"]
    assert run(net, "client", "cat /proc/sys/kernel/shm_rmid_forced").strip() == "0"
    for name, reason, spec in [("forbidden", "not allowlisted", {}), ("forbidden-host", "not allowed with host net enabled", {"hostNetwork": True})]:
        setting = "net.core.somaxconn" if not spec else "net.ipv4.tcp_syncookies"
        net.kubectl("apply", "-f", "-", input=yaml.safe_dump(pod(name, securityContext={"sysctls": [{"name": setting, "value": "1"}]}, **spec)), check=not spec)
        if spec and net.kubectl("get", "pod", name, check=False).returncode:
            continue  # refused by validation already
        status = wait_for(lambda: (s := net.get("pod", name)["status"]).get("phase") == "Failed" and s, "the refusal")
        assert status["reason"] == "SysctlForbidden" and status["message"] == f'Pod was rejected: forbidden sysctl: "{setting}" {reason}'
        net.kubectl("delete", "pod", name)


def ready_namespaces(net):
    return sorted(path.name for path in (net.run_dir / "node/ns").iterdir() if path.name.startswith(".pool-"))


def test_namespaces_are_made_in_advance_and_found_again(net):
    def full():
        return len(found := ready_namespaces(net)) >= 3 and found == [name for name in ready_namespaces(net)] and found

    before = wait_for(full, "the pool")
    count = wait_for(lambda: len(ready_namespaces(net)) in (3, 8) and len(ready_namespaces(net)), "a full pool")
    before = ready_namespaces(net)
    node = net.pids()["node"]
    os.kill(node, signal.SIGKILL)
    wait_for(lambda: net.pids()["node"] != node and net.tidemill("status", check=False).returncode == 0, "the node to come back")
    assert ready_namespaces(net) == before
    net.kubectl("apply", "-f", "-", input=yaml.safe_dump(pod("pooled", SERVE)))
    net.kubectl("wait", "--for=condition=Ready", "pod/pooled", "--timeout=60s")
    assert run(net, "pooled", "hostname") == "pooled\n"
    address = addresses(net, "pooled")[0]
    assert any(name.endswith("-%08x" % int.from_bytes(socket.inet_aton(address), "big")) for name in before)
    wait_for(lambda: len(ready_namespaces(net)) == count, "the pool to be filled again")
    net.kubectl("delete", "pod", "pooled")


class WithoutIpv6(Platform):
    """In a network namespace where IPv6 is switched off."""

    def up(self):
        script = "ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; exec \"$@\""
        result = subprocess.run(["unshare", "--net", "sh", "-ec", script, "sh", TIDEMILL, "up", "--detach", *self.flags], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr

    def inside(self, *command):
        return subprocess.run(["nsenter", f"--net=/proc/{self.pids()['node']}/ns/net", *map(str, command)], capture_output=True, text=True, env=self.environment())


def test_a_machine_without_ipv6(net):
    other = WithoutIpv6("no6", 162)
    try:
        shutil.copytree(net.state / "registry", other.state / "registry")
        subprocess.run(["chown", "-R", "--reference", net.state / "registry", other.state / "registry"], check=True)
        other.up()
        assert "pods have IPv4 addresses only: IPv6 is switched off (net.ipv6.conf.all.disable_ipv6)" in other.log()
        (other.dir / "pod.yaml").write_text(yaml.safe_dump(pod("web", SERVE)))
        assert other.inside(KUBECTL, "apply", "-f", other.dir / "pod.yaml").returncode == 0
        assert other.inside(KUBECTL, "wait", "--for=condition=Ready", "pod/web", "--timeout=60s").returncode == 0
        status = json.loads(other.inside(KUBECTL, "get", "pod", "web", "-o", "json").stdout)["status"]
        assert [each["ip"] for each in status["podIPs"]] == [status["podIP"]]
        assert other.inside("curl", "-sS", f"http://{status['podIP']}:8080/").stdout == "hello from web\n"
    finally:
        down = other.inside(TIDEMILL, "down", "--all", *other.flags)
        shutil.rmtree(other.dir, ignore_errors=True)
        assert down.returncode == 0, down.stderr
