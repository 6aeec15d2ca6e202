"""Looking into pods and nodes with kubectl debug and attach; what pods read from the API while they run."""

import json
import os
import pty
import select
import signal
import subprocess

import pytest
import yaml

from conftest import KUBECTL, wait_for

STAY = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


def pod(name, containers=None, **spec):
    containers = containers or [{"name": "main", "command": STAY}]
    containers = [{"image": "busybox:latest", "imagePullPolicy": "IfNotPresent", **each} for each in containers]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 5, "containers": containers, **spec}}


@pytest.fixture
def kubectl(platform, tiny_image, request):
    """kubectl in a namespace of the test's own; `apply` takes objects."""
    namespace = request.node.name.replace("_", "-")[:50]
    platform.kubectl("create", "namespace", namespace)

    def run(*args, **options):
        return platform.kubectl("-n", namespace, *args, **options)

    run.namespace = namespace
    run.apply = lambda *objects: run("apply", "-f", "-", input=yaml.safe_dump_all(objects))
    run.get = lambda *args: json.loads(run("get", *args, "-o", "json").stdout)
    run.ready = lambda *names: run("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in names))
    run.read = lambda name, *command: run("exec", name, "-c", "main", "--", *command).stdout
    yield run
    platform.kubectl("delete", "namespace", namespace, "--wait=false")


def at_terminal(platform, arguments, typed, expected, timeout=60):
    """Runs kubectl at a terminal, types a line when a prompt is there, and returns (exit code, output)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(KUBECTL, ["kubectl", *arguments], platform.environment())
    output, waiting = "", [("# ", typed), (expected, "exit")]

    def ended():
        nonlocal output
        if select.select([terminal], [], [], 0)[0]:
            try:
                output += os.read(terminal, 65536).decode(errors="replace")
            except OSError:
                return True
        if waiting and waiting[0][0] in output:
            os.write(terminal, waiting.pop(0)[1].encode() + b"\n")
        return False

    try:
        wait_for(ended, f"the end of {arguments}", timeout)
    except AssertionError as error:
        os.kill(pid, signal.SIGKILL)
        raise AssertionError(output) from error
    finally:
        os.close(terminal)
        status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), output


def ephemeral(kubectl, name):
    return {each["name"]: each for each in kubectl.get("pod", name)["status"].get("ephemeralContainerStatuses", [])}


def test_a_running_pod_is_looked_into(platform, kubectl):
    kubectl.apply(pod("p"))
    kubectl.ready("p")
    made = kubectl("debug", "p", "--image=busybox:latest", "--target=main", "--container=look", "--profile=general", "--",
                   "sh", "-c", "ps; trap 'exit 3' TERM; while :; do sleep 0.1; done")
    assert 'Targeting container "main"' in made.stderr + made.stdout
    wait_for(lambda: "running" in ephemeral(kubectl, "p").get("look", {}).get("state", {}), "the debugger")
    assert "trap 'exit 0' TERM" in wait_for(lambda: kubectl("logs", "p", "-c", "look").stdout, "what it sees")
    addresses = [kubectl("exec", "p", "-c", name, "--", "hostname", "-i").stdout for name in ("main", "look")]
    assert addresses[0] == addresses[1] != ""
    before = ephemeral(kubectl, "p")["look"]
    old = platform.pids()["node"]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: platform.pids().get("node") not in (None, old), "a new node process")
    wait_for(lambda: kubectl("exec", "p", "-c", "look", "--", "true", check=False).returncode == 0, "the debugger to be reached again")
    assert ephemeral(kubectl, "p")["look"] == before
    kubectl("exec", "p", "-c", "look", "--", "sh", "-c", "kill -TERM $(ps | grep 'exit 3' | grep -v grep | awk '{print $1}')")
    ended = wait_for(lambda: ephemeral(kubectl, "p")["look"]["state"].get("terminated"), "its end")
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    assert ephemeral(kubectl, "p")["look"]["restartCount"] == 0
    described = kubectl("describe", "pod", "p").stdout
    assert "Ephemeral Containers:\n  look:" in described and "Created container: look" in described
    assert kubectl.get("pod", "p")["status"]["phase"] == "Running"


def test_at_a_terminal(platform, kubectl):
    kubectl.apply(pod("p", [{"name": "main", "command": ["sh"], "stdin": True, "tty": True}]))
    kubectl.ready("p")
    code, output = at_terminal(platform, ["-n", kubectl.namespace, "debug", "-it", "p", "--image=busybox:latest", "--profile=general"],
                               "echo seen-$((40 + 2))", "seen-42")
    assert code == 0, output
    code, output = at_terminal(platform, ["debug", "-it", "node/node1", "--image=busybox:latest", "--profile=general", "-n", kubectl.namespace],
                               "ls -d /host/etc; ps | grep -c conmon; echo seen-$((40 + 2))", "seen-42")
    assert code == 0 and "/host/etc" in output, output
    assert int(output.split("/host/etc\r\n")[-1].split()[0]) > 0  # it sees the machine's processes
    subprocess.run([KUBECTL, "-n", kubectl.namespace, "attach", "-i", "p"], input="echo typed-$((1 + 1)); exit 5\n", text=True, timeout=60,
                   env=platform.environment(), capture_output=True, check=False)
    wait_for(lambda: "typed-2" in kubectl("logs", "p", "--previous", check=False).stdout, "what was typed")


def test_a_copy_shares_its_processes(kubectl):
    kubectl.apply(pod("p"))
    kubectl.ready("p")
    kubectl("debug", "p", "--copy-to=copy", "--image=busybox:latest", "--container=look", "--profile=general", "--", *STAY)
    kubectl.ready("copy")
    assert kubectl.read("copy", "ps").count("trap 'exit 0' TERM") == 2
    kubectl("delete", "pod", "copy", "--wait=true", "--timeout=60s")


def test_what_a_pod_reads_stays_true(kubectl):
    kubectl("create", "configmap", "c", "--from-literal=a=1", "--from-literal=b=2")
    volumes = [{"name": "c", "configMap": {"name": "c"}}, {"name": "late", "secret": {"secretName": "late", "optional": True}},
               {"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]
    mounts = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]
    late = {"name": "TOLD", "valueFrom": {"configMapKeyRef": {"name": "other", "key": "x"}}}
    kubectl.apply(pod("p", [{"name": "main", "command": STAY, "volumeMounts": mounts}, {"name": "second", "command": STAY, "env": [late]}], volumes=volumes))

    def states():
        return {each["name"]: each["state"] for each in kubectl.get("pod", "p")["status"].get("containerStatuses", [])}

    assert wait_for(lambda: states().get("second", {}).get("waiting", {}).get("message"), "the missing map") == 'configmap "other" not found'
    assert states()["second"]["waiting"]["reason"] == "CreateContainerConfigError"
    wait_for(lambda: "running" in states()["main"], "the other container")  # which needs nothing of it
    kubectl("create", "configmap", "other", "--from-literal=x=told")
    kubectl.ready("p")
    assert kubectl("exec", "p", "-c", "second", "--", "sh", "-c", "echo $TOLD").stdout == "told\n"
    assert kubectl.read("p", "ls", "/c", "/late").split() == ["/c:", "a", "b", "/late:"]
    kubectl("patch", "configmap", "c", "-p", '{"data":{"a":"new","b":null,"d":"4"}}')
    kubectl("create", "secret", "generic", "late", "--from-literal=s=secret")
    kubectl("label", "pod", "p", "tier=web")
    wait_for(lambda: kubectl.read("p", "sh", "-c", "cat /c/*; ls /c; cat /late/s 2>/dev/null; cat /d/labels") == 'new4a\nd\nsecrettier="web"', "the changes")
    kubectl("set", "image", "pod/p", "main=busybox:other")
    wait_for(lambda: "ImagePull" in states()["main"].get("waiting", {}).get("reason", ""), "the other image to be wanted")
    kubectl("set", "image", "pod/p", "main=busybox")
    kubectl.ready("p")
    assert 'Container main definition changed, will be restarted' in kubectl("describe", "pod", "p").stdout


def test_a_pod_calls_the_api(platform, kubectl):
    kubectl.apply(pod("p"))
    kubectl.ready("p")
    folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
    (platform.dir / "ca.crt").write_text(kubectl.read("p", "cat", folder + "ca.crt"))
    uid = kubectl.get("pod", "p")["metadata"]["uid"]
    address = kubectl.read("p", "sh", "-c", "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT").strip()
    called = subprocess.run(
        ["nsenter", f"--net={platform.run_dir}/node/ns/{uid}/net", "curl", "-sS", "--max-time", "20", "--cacert", platform.dir / "ca.crt", "--resolve",
         f"kubernetes.default.svc:443:{address.split(':')[0]}", "-H", "Authorization: Bearer " + kubectl.read("p", "cat", folder + "token"),
         f"https://kubernetes.default.svc:{address.split(':')[1]}/api/v1/namespaces/{kubectl.namespace}/pods"], capture_output=True, text=True, check=False)
    assert f'User \\"system:serviceaccount:{kubectl.namespace}:default\\" cannot list resource \\"pods\\"' in called.stdout, called.stdout + called.stderr


def test_sidecars_begin_in_order_and_end_in_reverse(platform, kubectl):
    order = platform.dir / "order"
    order.mkdir()

    def side(name):
        script = f"echo +{name} >> /order/log; trap 'sleep 0.3; echo -{name} >> /order/log; exit 0' TERM; while :; do sleep 0.1; done"
        return {"name": name, "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "restartPolicy": "Always", "command": ["sh", "-c", script],
                "volumeMounts": [{"name": "order", "mountPath": "/order"}], "startupProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}

    main = {"name": "main", "command": ["sh", "-c", "echo +main >> /order/log; sleep 0.5; echo -main >> /order/log"],
            "volumeMounts": [{"name": "order", "mountPath": "/order"}]}
    kubectl.apply(pod("p", [main], initContainers=[side("a"), side("b")], restartPolicy="Never", volumes=[{"name": "order", "hostPath": {"path": str(order)}}]))
    wait_for(lambda: kubectl.get("pod", "p")["status"].get("phase") == "Succeeded", "the end")
    assert (order / "log").read_text().split() == ["+a", "+b", "+main", "-main", "-b", "-a"]
    assert kubectl("get", "pod", "p", "--no-headers").stdout.split()[2] == "Completed"
