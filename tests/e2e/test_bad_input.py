"""What no client would send, to the core role alone: refused by a Status in Kubernetes' words, in bounded time and memory, and without filling the log.
How each kind of bad input is worded is tested in src/api/body_test.c."""

import json
import socket
import ssl
import threading

import pytest

from conftest import wait_for
from core_alone import MIB, Core

NAMESPACE = "/api/v1/namespaces/default"
MAPS, BAGS = NAMESPACE + "/configmaps", "/apis/example.com/v1/namespaces/default/bags"
JSON, YAML, JSON_PATCH, STRATEGIC = "application/json", "application/yaml", "application/json-patch+json", "application/strategic-merge-patch+json"

DEFINITION = {
    "metadata": {"name": "bags.example.com"},
    "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "bags", "singular": "bag", "kind": "Bag"}, "versions": [{
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "text": {"type": "string", "pattern": "^(a+)+$"}}}}}]}}


@pytest.fixture(scope="module")
def core():
    with Core() as instance:
        assert instance.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json.dumps(DEFINITION))[0] == 201
        wait_for(lambda: instance.ask("GET", BAGS)[0] == 200, "the definition")
        assert instance.ask("POST", BAGS, json.dumps({"metadata": {"name": "bag"}, "spec": {"a": {}, "list": []}, "apiVersion": "example.com/v1", "kind": "Bag"}))[0] == 201
        yield instance


def many(count, form, begin="{", end="}"):
    return begin + ",".join(form.replace("%", str(i)) for i in range(count)) + end


def laughs(depth):
    return "a0: &a0 [" + "x," * 9 + "x]\n" + "".join(f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 9) + "]\n" for i in range(1, depth))


# what: method, path, Content-Type, body, status
HOSTILE = {
    "many keys": ("POST", MAPS + "?dryRun=All", YAML, lambda: "metadata: {name: a}\ndata:\n" + "".join(f"  k{i}: v\n" for i in range(200000)), 201),
    "billion laughs": ("POST", MAPS, YAML, lambda: laughs(20), 400),
    "many anchors": ("POST", MAPS, YAML, lambda: "".join(f"- &a{i} x\n" for i in range(100000)) + "- *a1\n" * 9000, 400),
    "many directives": ("POST", MAPS, YAML, lambda: "".join(f"%TAG !t{i}! tag:x,2000:\n" for i in range(80000)) + "--- a", 400),
    "a long tag": ("POST", MAPS, YAML, lambda: "a: !" + "t" * 3000000 + " x", 422),
    "many documents": ("POST", MAPS, YAML, lambda: "--- a\n" * 400000, 400),
    "many labels": ("POST", MAPS + "?dryRun=All", JSON, lambda: '{"metadata":{"name":"a","labels":' + many(100000, '"k%":"v"') + "}}", 201),
    "many values": ("POST", BAGS + "?dryRun=All", JSON, lambda: '{"metadata":{"name":"a"},"spec":{"a":[1' + ",1" * 1400000 + "]}}", 413),
    "many volumes": ("POST", NAMESPACE + "/pods", JSON, lambda: '{"metadata":{"name":"a"},"spec":{"volumes":' + many(40000, '{"name":"v%"}', "[", "]") + "}}", 400),
    "as many as are allowed": ("POST", NAMESPACE + "/pods?dryRun=All", JSON, lambda: '{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i","volumeMounts":' +
                               many(5000, '{"name":"v%","mountPath":"/m%"}', "[", "]") + '}],"volumes":' + many(5000, '{"name":"v%"}', "[", "]") + "}}", 201),
    "a pattern that runs away": ("POST", BAGS, JSON, lambda: '{"metadata":{"name":"a"},"text":"' + "a" * 100000 + 'b"}', 422),
    "owned by a million": ("POST", BAGS + "?dryRun=All", JSON, lambda: '{"metadata":{"name":"a","managedFields":[{"manager":"x","operation":"Update","apiVersion":"example.com/v1",'
                           '"fieldsType":"FieldsV1","fieldsV1":' + many(150000, '"f:k%":{}') + "}]}}", 201),
    "moves about a list": ("PATCH", BAGS + "/bag", JSON_PATCH, lambda: "[" + ",".join(['{"op":"add","path":"/spec/list/0","value":1}'] * 9999) + "]", 422),
    "copies that double": ("PATCH", BAGS + "/bag", JSON_PATCH, lambda: "[" + ",".join('{"op":"copy","from":"/spec/a","path":"/spec/a/%d"}' % i for i in range(60)) + "]", 422),
    "merges long lists": ("PATCH", NAMESPACE + "/services/kubernetes", STRATEGIC, lambda: '{"spec":{"ports":' + many(50000, '{"port":%}', "[", "]") + "}}", 400),
    "removes many keys": ("PATCH", NAMESPACE + "?dryRun=All", STRATEGIC, lambda: '{"metadata":{"labels":' + many(150000, '"k%":null') + "}}", 200),
    "an address block": ("POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies?dryRun=All", JSON,
                         lambda: '{"metadata":{"name":"a"},"spec":{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}]}]}}', 201),
    "too large": ("POST", MAPS, JSON, lambda: " " * (3 * MIB + 1), 413),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_bodies(core, what):
    method, path, content_type, body, status = HOSTILE[what]
    before, body = core.resident(), body().encode()
    answer = core.ask(method, path, body, content_type)  # has a time limit of its own: what this is to catch takes minutes
    assert answer[0] == status, str(answer)[:400]
    assert status < 400 or (answer[1]["kind"], answer[1]["code"]) == ("Status", status)
    wait_for(lambda: core.resident() < before + 24 * MIB, f"memory to go back to {before >> 20} MiB", timeout=5)


def test_large_bodies_at_once_wait_their_turn(core):
    body = ('{"apiVersion":"example.com/v1","kind":"Bag","metadata":{"generateName":"a-"},"spec":{"a":[1' + ",1" * 400000 + "]}}").encode()
    before, highest, answers = core.resident(), 0, []
    threads = [threading.Thread(target=lambda: answers.append(core.ask("POST", BAGS, body)[0])) for _ in range(40)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        highest = max(highest, core.resident())
    assert len(answers) == 40 and set(answers) <= {201, 429} and 201 in answers, answers
    assert highest < before + 400 * MIB, f"{before >> 20} MiB before, {highest >> 20} MiB meanwhile"
    wait_for(lambda: core.resident() < before + 48 * MIB, f"memory to go back to {before >> 20} MiB", timeout=5)


# --- beneath the API ---

HEAD = b"Host: a\r\n"
RAW = {
    "10,000 headers": (b"GET /api HTTP/1.1\r\n" + HEAD + b"".join(b"X-%d: y\r\n" % i for i in range(10000)) + b"\r\n", b"431"),
    "a megabyte of header": (b"GET /api HTTP/1.1\r\n" + HEAD + b"X: " + b"y" * MIB + b"\r\n\r\n", b"431"),
    "a long query": (b"GET /api?a=" + b"b" * 100000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", b"414"),
    "an absurd length": (b"POST " + MAPS.encode() + b" HTTP/1.1\r\n" + HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", b"400"),
    "an honest, large length": (b"POST " + MAPS.encode() + b" HTTP/1.1\r\n" + HEAD + b"Content-Length: 99999999999\r\n\r\n", b"413"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
    "another encoding": (b"POST " + MAPS.encode() + b" HTTP/1.1\r\n" + HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00", b"4"),
    "a half WebSocket": (b"GET " + NAMESPACE.encode() + b"/pods/a/exec?command=sh HTTP/1.1\r\n" + HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"4"),
}


@pytest.mark.parametrize("what", RAW)
def test_raw_bytes(core, what):
    data, status = RAW[what]
    with core.connect(timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 " + status), answer


def test_a_chunked_body_without_end(core):
    with core.connect(timeout=10) as connection:
        connection.sendall(b"POST " + MAPS.encode() + b" HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(4):
            connection.sendall(b"100000\r\n" + b" " * MIB + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_thousand_requests_in_one_go(core):
    with core.connect(timeout=30) as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        for _ in range(1000):
            assert core.answer(connection)[0].startswith(b"HTTP/1.1 200 ")


def test_garbage_and_half_handshakes_hold_nobody_up(core):
    before = core.resident()
    context = ssl._create_unverified_context()
    connections = []
    for i in range(300):
        connection = socket.create_connection(("127.0.0.1", core.api_port), timeout=10)
        connection.sendall([b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x40\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\n", bytes(range(256))][i % 4])
        connections.append(connection)
    for _ in range(50):
        connection = context.wrap_socket(socket.create_connection(("127.0.0.1", core.api_port), timeout=10))
        connection.sendall(b"POST " + MAPS.encode() + b" HTTP/1.1\r\nHost: a\r\nX-Slow: ")  # and no more
        connections.append(connection)
    assert core.ask("GET", "/readyz") == (200, "ok")
    assert core.resident() < before + 32 * MIB
    for connection in connections:
        connection.close()


def test_it_runs_still_and_said_little(core):
    """Last: the same process, and not a line of log for each of these."""
    assert core.process.poll() is None and core.ask("GET", BAGS + "/bag")[0] == 200
    assert len(core.log().splitlines()) < 40, core.log()[-3000:]
