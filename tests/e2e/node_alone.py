"""A core and a node without a supervisor: the node is started, killed and looked into at will, and asked for what it left behind."""

import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import images
from conftest import TIDEMILL, wait_for
from core_alone import Core

PODS = "/api/v1/namespaces/default/pods"


class Node(Core):
    """`with Node() as node`: both roles run, busybox:latest is there."""

    def __init__(self, node_environment=None, before=None):
        super().__init__()
        self.before_start = before
        self.run, self.state = self.dir / "run", self.dir / "state"
        self.run_dir = self.run
        self.instance = self.args[self.args.index("--instance") + 1]
        self.node_args = [TIDEMILL, "node", *self.args[2:], "--node-name", "node1"]
        self.node_environment = {**os.environ, **(node_environment or {})}
        self.node, self.kills, self.deaths = None, 0, []

    def __enter__(self):
        super().__enter__()
        try:
            bootstrap = [TIDEMILL, "image", "bootstrap", "busybox:latest", "--include", "busybox-static", "--run", str(self.run)]
            images.made_once(self, "busybox:latest", ("busybox-static",), lambda: subprocess.run(bootstrap, check=True, capture_output=True))
            if self.before_start:
                self.before_start(self)
            self.start_node()
            wait_for(lambda: self.node_is_ready(), "the node to register")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.node:
            self.node.kill()
            self.node.wait()
        subprocess.run([TIDEMILL, "down", "--all", *self.flags()], capture_output=True, check=False)
        super().__exit__()

    def flags(self):
        return ["--instance", self.instance, "--state", str(self.state), "--run", str(self.run), *self.args[self.args.index("--pod-cidr"):]]

    # -- the process --
    def start_node(self):
        with open(self.dir / "node.log", "ab") as log:
            self.node = subprocess.Popen(self.node_args, stdout=log, stderr=log, env=self.node_environment)

    def kill_node(self, number=signal.SIGKILL):
        self.node.send_signal(number)
        self.node.wait()
        self.kills += 1

    def tend(self):
        """The supervisor's part: who died is started again. What it died of is kept, when it was not killed."""
        if self.node.poll() is None:
            return
        if self.node.returncode not in (-signal.SIGKILL, 1):  # 1: it says why, for instance that its forerunner's child still holds the socket
            self.deaths.append(self.node.returncode)
        self.start_node()

    def node_is_ready(self):
        status, found = self.ask("GET", "/api/v1/nodes/node1")
        return status == 200 and any(each["type"] == "Ready" and each["status"] == "True" for each in found["status"].get("conditions", []))

    def node_log(self):
        return (self.dir / "node.log").read_text(errors="replace")

    # -- the API --
    def create(self, path, *bodies):
        for body in bodies:
            status, answer = self.ask("POST", path, json.dumps(body))
            assert status == 201, answer

    def pods(self, namespace="default"):
        return {pod["metadata"]["name"]: pod for pod in self.ask("GET", f"/api/v1/namespaces/{namespace}/pods")[1]["items"]}

    def pod(self, name):
        status, pod = self.ask("GET", f"{PODS}/{name}")
        return pod if status == 200 else None

    def delete(self, path, grace=None):
        query = "" if grace is None else f"?gracePeriodSeconds={grace}"
        status, answer = self.ask("DELETE", path + query)
        assert status in (200, 202, 404), answer

    def wait_pods(self, condition, what, timeout=60):
        """Until condition(pods by name) is true; the node is tended meanwhile."""
        try:
            return wait_for(lambda: self.tend() or condition(self.pods()), what, timeout, interval=0.03)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps({name: pod['status'] for name, pod in self.pods().items()})[:3000]}\n{self.node_log()[-3000:]}") from None

    def log_of(self, name, container=None, previous=False):
        query = "?" + "&".join(([f"container={container}"] if container else []) + (["previous=true"] if previous else []))
        deadline = time.monotonic() + 20
        while True:
            self.tend()
            status, text = self.ask("GET", f"{PODS}/{name}/log{query}")
            if status == 200 or time.monotonic() > deadline:
                return text
            time.sleep(0.05)

    def events(self, name):
        found = self.ask("GET", f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name={name}")[1]["items"]
        return [(event["reason"], event["message"]) for event in found]

    # -- what is there --
    def traces(self):
        """Everything on this machine that bears the instance's mark: kind → names. Two looks at an idle node are the same."""
        found = collections.defaultdict(set)
        for pid in ("self", str(self.node.pid)):
            for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8").splitlines():
                if str(self.dir) in line:
                    found["mounts"].add(line.split()[4])
        for root in pathlib.Path("/sys/fs/cgroup").glob("*/tidemill-" + self.instance):
            found["cgroups"] |= {str(path) for path, _, _ in os.walk(root)}
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                ours = str(self.dir) in command or f"/tidemill-{self.instance}/" in (process / "cgroup").read_text(encoding="ascii")
            except OSError:
                continue
            if ours and int(process.name) not in (self.node.pid, self.process.pid):
                found["processes"].add(f"{process.name}: {command}")
        links = json.loads(subprocess.run(["ip", "-j", "link", "show", "master", "tm-" + self.instance], capture_output=True, text=True, check=True).stdout or "[]")
        found["interfaces"] |= {link["ifname"] for link in links if "ifname" in link}
        for top in (self.state / "node", self.run / "node"):
            for folder, folders, files in os.walk(top):
                if pathlib.Path(folder) == self.state / "node/layers":
                    found["layers"] |= set(folders)
                    folders.clear()
                    continue
                found["files"] |= {re.sub(r"/\.\.20[0-9_.]+", "/..payload", os.path.join(folder, name)) for name in files + folders}
        nft = subprocess.run(["nft", "list", "table", "ip", "tidemill_" + self.instance], capture_output=True, text=True).stdout
        found["addresses in nftables"] |= set(re.findall(rf"\b10\.{self.number()}\.[0-9]+\.[0-9]+\b", nft))
        table = self.state / "node/podnet/addresses"
        found["addresses"] |= {line for line in table.read_text(encoding="ascii").splitlines() if not line.endswith(" last")} if table.exists() else set()
        self.leave_out_pool(found)
        found["descriptors"] = {os.readlink(path).split(":")[0] + f" {path.name}" for path in pathlib.Path(f"/proc/{self.node.pid}/fd").iterdir() if path.is_symlink()}
        return found

    def leave_out_pool(self, found):
        """Namespaces made in advance come and go; a whole one (folder, mounts, interface, address) is no trace, a part of one is."""
        members = [path.name for path in (self.run / "node/ns").glob(".pool-*")]
        for name in members[:8]:
            address = name.rsplit("-", 1)[1]
            port = {each for each in found["interfaces"] if each.startswith("tmp") and each.endswith(address)}
            entry = {each for each in found["addresses"] if each.endswith(" " + name)}
            mounts = {each for each in found["mounts"] if f"/ns/{name}/" in each}
            if len(port) == len(entry) == 1 and len(mounts) == 3:
                found["interfaces"] -= port
                found["addresses"] -= entry
                found["mounts"] -= mounts
                found["files"] = {each for each in found["files"] if f"/ns/{name}" not in each}

    def number(self):
        return self.args[self.args.index("--pod-cidr") + 1].split(".")[1]

    def leaks(self, before):
        """What is there and was not before: kind → names."""
        try:
            now = self.traces()
        except OSError:  # the node that was looked at has just been killed
            return {"node": ["another one"]}
        more = {kind: sorted(now[kind] - before[kind]) for kind in now if kind != "descriptors" and now[kind] - before[kind]}
        if len(now["descriptors"]) > 64:  # connections to the API are kept for a while
            more["descriptors"] = sorted(now["descriptors"])
        return more

    def check_leaks(self, before):
        """Nothing more than before: at once, but for what the kernel and the node finish by themselves."""
        try:
            wait_for(lambda: self.tend() or not self.leaks(before), "everything to be gone", timeout=15, interval=0.2)
        except AssertionError:
            raise AssertionError(f"left behind: {json.dumps(self.leaks(before), indent=1)[:6000]}\n{self.node_log()[-3000:]}") from None
        assert not self.deaths, f"the node died by itself: {self.deaths}\n{self.node_log()[-5000:]}"
        with open(f"/proc/{self.node.pid}/status", encoding="ascii") as file:
            resident = next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))
        assert resident < 24 << 10, f"the node uses {resident} KiB"
