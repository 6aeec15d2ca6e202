"""A large store and many watchers, on the core role alone."""

import json
import selectors
import time

import pytest

from conftest import wait_for
from core_alone import MIB, Core

pytestmark = pytest.mark.alone  # memory is measured

OBJECTS, WATCHERS, STORM, PODS, NODES = 20000, 1000, 200, 2000, 10
MAPS = "/api/v1/namespaces/{}/configmaps"


def config_map(name, size=100):
    return json.dumps({"metadata": {"name": name, "labels": {"even": str(int(name[-1]) % 2 == 0)}}, "data": {"k": "v" * size}}).encode()


@pytest.fixture(scope="module")
def core():
    with Core() as instance:
        for namespace in ("many", "storm", "big", "doomed"):
            assert instance.ask("POST", "/api/v1/namespaces", json.dumps({"metadata": {"name": namespace}}))[0] == 201
        instance.create_all(MAPS.format("many"), [config_map(f"m{i:05}") for i in range(OBJECTS)])
        yield instance


def pages(core, path, limit):
    """Names and the resourceVersions of all pages."""
    names, versions, token = [], set(), ""
    while True:
        status, page = core.ask("GET", f"{path}?limit={limit}" + (f"&continue={token}" if token else ""))
        assert status == 200, page
        names += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue")
        if not token:
            return names, versions


def test_pages_are_whole_and_of_one_version(core):
    names, versions = pages(core, MAPS.format("many"), 3000)
    assert [name for name in names if name[0] == "m"] == [f"m{i:05}" for i in range(OBJECTS)] and len(versions) == 1


def test_selecting_among_many_keeps_nothing_decoded(core):
    before = core.resident()
    status, listed = core.ask("GET", MAPS.format("many") + "?labelSelector=even%3DTrue&limit=10")
    assert status == 200 and len(listed["items"]) == 10
    status, listed = core.ask("GET", MAPS.format("many") + "?labelSelector=even%3DNever")
    assert status == 200 and not listed["items"]
    wait_for(lambda: core.resident() < before + 24 * MIB, f"memory to go back to {before >> 20} MiB", timeout=10)


def test_a_watch_from_long_ago_is_told_so(core):
    with core.connect() as connection:
        connection.sendall(f"GET {MAPS.format('many')}?watch=1&resourceVersion=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    assert b'"type":"ERROR"' in answer and b'"code":410' in answer and b"too old resource version: 1 (" in answer, answer


def test_all_is_there_after_a_crash(core):
    core.crash()
    core.start()
    names, _ = pages(core, MAPS.format("many"), 5000)
    assert len([name for name in names if name[0] == "m"]) == OBJECTS


def test_pods_are_found_by_their_node(core):
    core.create_all("/api/v1/nodes", [json.dumps({"metadata": {"name": f"n{i}"}}).encode() for i in range(NODES)])
    wait_for(lambda: core.ask("GET", "/api/v1/namespaces/many/serviceaccounts/default")[0] == 200, "the service account")
    core.create_all("/api/v1/namespaces/many/pods", [
        json.dumps({"metadata": {"name": f"p{i}"}, "spec": {"nodeName": f"n{i % NODES}", "containers": [{"name": "c", "image": "i"}]}}).encode()
        for i in range(PODS)])
    status, listed = core.ask("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn3")
    assert status == 200
    assert sorted(item["metadata"]["name"] for item in listed["items"]) == sorted(f"p{i}" for i in range(3, PODS, NODES))


def test_a_namespace_of_thousands_goes(core):
    core.create_all(MAPS.format("doomed"), [config_map(f"d{i}") for i in range(5000)])
    assert core.ask("DELETE", "/api/v1/namespaces/doomed")[0] == 200
    wait_for(lambda: core.ask("GET", "/api/v1/namespaces/doomed")[0] == 404, "the namespace to go", timeout=60, interval=0.1)


# --- a storm of writes ---


class Watcher:
    """Reads a watch in pieces and knows the names of what was added."""

    def __init__(self, core, path, version):
        self.connection = core.connect()
        self.connection.sendall(f"GET {path}?watch=1&resourceVersion={version} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        self.rest, self.names, self.lines = b"", [], []

    def read(self):
        """False at the end."""
        piece = self.connection.recv(1 << 18)
        *lines, self.rest = (self.rest + piece).split(b"\n")
        for line in lines:
            at = line.find(b'"name":"')
            if line.startswith(b'{"type":"ADDED"') and at > 0:
                self.names.append(line[at + 8:line.index(b'"', at + 8)])
            elif line.startswith(b'{"type":"ERROR"'):
                self.lines.append(line)
        return bool(piece) and not self.rest.endswith(b"0\r\n\r\n") and b"0\r" not in lines


def test_a_watcher_that_never_reads_holds_up_nobody(core):
    version = core.ask("GET", MAPS.format("storm"))[1]["metadata"]["resourceVersion"]
    lost, memory = core.metric("tidemill_api_watches_lost_total"), core.resident()
    slow = Watcher(core, "/api/v1/configmaps", version)
    watchers = [Watcher(core, MAPS.format("storm"), version) for _ in range(WATCHERS - 1)]
    wait_for(lambda: core.metric("tidemill_api_watches") >= WATCHERS, "the watches")
    with selectors.DefaultSelector() as selector:
        for watcher in watchers:
            selector.register(watcher.connection, selectors.EVENT_READ, watcher)
        highest, deadline = 0, time.monotonic() + 60
        for start in range(0, STORM, 20):
            core.create_all(MAPS.format("storm"), [config_map(f"s{i:04}") for i in range(start, start + 20)], connections=1)
            core.create_all(MAPS.format("big"), [config_map(f"b{i:04}", 60000) for i in range(start, start + 20)], connections=1, together=1)
            while any(len(watcher.names) < start + 20 for watcher in watchers):
                assert time.monotonic() < deadline, "the watchers did not get their events"
                for key, _ in selector.select(1):
                    assert key.data.read()
            highest = max(highest, core.resident())
    expected = [b"s%04d" % i for i in range(STORM)]
    assert all(watcher.names == expected for watcher in watchers), "events are missing or out of order"
    assert highest < memory + 96 * MIB, f"{memory >> 20} MiB before, {highest >> 20} MiB with the watchers"
    assert core.metric("tidemill_api_watches_lost_total") == lost + 1
    while slow.read():
        pass
    assert len(slow.names) < 2 * STORM and len(slow.lines) == 1 and b'"code":410' in slow.lines[0], (len(slow.names), slow.lines)
    for watcher in [slow, *watchers]:
        watcher.connection.close()
    wait_for(lambda: core.metric("tidemill_api_watches") < WATCHERS, "the watches to end")
