"""What security contexts say is what the container's first process is."""

import json
import pathlib
import subprocess

import pytest

from conftest import ROOT, wait_for

PROFILE = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod", "fchmod", "fchmodat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
                                                           {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}
STATUS = "grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/self/status | tr -d '\\t' | tr '\\n' ' '; "

GROUPS = "sed -n 's/^Groups:.//p' /proc/self/status"
# Those whose image has another user, and those with users of their own.
IMAGES = {"named": "named", "named-over": "named", "numbered": "numbered", "name": "named", "ghost": "ghost"}
INSIDE = ["escalates-inside", "profile-inside", "beyond"]

# name → (pod's context, container's context, script, what is printed)
CASES = {
    "default": ({}, {}, STATUS, "CapEff:00000000a80425fb CapBnd:00000000a80425fb NoNewPrivs:0 Seccomp:2"),
    "narrow": ({"runAsUser": 1000, "runAsGroup": 3000, "supplementalGroups": [4000]}, {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {
        "drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}, STATUS + "(echo x > /x) 2>&1 | grep -o Read-only; id -G", "CapEff:0000000000000000 CapBnd:0000000000000400 NoNewPrivs:1 Seccomp:2 Read-only 3000 50 4000"),
    "unconfined": ({"seccompProfile": {"type": "Unconfined"}}, {}, STATUS, "CapEff:00000000a80425fb CapBnd:00000000a80425fb NoNewPrivs:0 Seccomp:0"),
    "container-wins": ({"seccompProfile": {"type": "Unconfined"}}, {"seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["all"]}}, STATUS,
                       "CapEff:0000000000000000 CapBnd:0000000000000000 NoNewPrivs:0 Seccomp:2"),
    "profile": ({"seccompProfile": {"type": "Localhost", "localhostProfile": "team/strict.json"}}, {}, "chmod 700 /tmp 2>&1 | grep -o denied; mkdir /x && echo made", "denied made"),
    "profile-caps": ({"seccompProfile": {"type": "Localhost", "localhostProfile": "team/strict.json"}}, {"capabilities": {"add": ["SYS_ADMIN"]}}, "mkdir /x 2>/dev/null || echo no", "no"),
    "groups": ({"runAsUser": 1000}, {}, GROUPS, "0 50"),
    "strict": ({"runAsUser": 1000, "runAsGroup": 70, "supplementalGroupsPolicy": "Strict", "supplementalGroups": [60]}, {}, GROUPS, "60 70"),
    "named": ({}, {}, "id -u; " + GROUPS, "1000 0 50"),
    "numbered": ({"runAsNonRoot": True}, {}, "id -u; " + GROUPS, "1000 70"),
    "named-over": ({"runAsNonRoot": True}, {"runAsUser": 1000}, "id -u; " + GROUPS, "1000 0 50"),
    "escalates": ({"runAsUser": 1000}, {}, "/setuid", "0"),
    "escalates-not": ({"runAsUser": 1000}, {"allowPrivilegeEscalation": False}, "/setuid", "1000"),
    "escalates-inside": ({"runAsUser": 1000}, {"allowPrivilegeEscalation": True}, "/setuid; sed -n 's/ *//;s/ .*//p' /proc/self/uid_map", "0 0"),
    "admin-not": ({}, {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}, STATUS, "CapEff:0000000000200000 CapBnd:0000000000200000 NoNewPrivs:1 Seccomp:2"),
    "profile-inside": ({"seccompProfile": {"type": "Localhost", "localhostProfile": "team/strict.json"}}, {}, "chmod 700 /tmp 2>&1 | grep -o denied; mkdir /x && echo made", "denied made"),
    "profile-not": ({"seccompProfile": {"type": "Localhost", "localhostProfile": "team/strict.json"}}, {"allowPrivilegeEscalation": False, "runAsUser": 1000},
                    "chmod 700 /tmp 2>&1 | grep -o denied; " + STATUS, "denied CapEff:0000000000000000 CapBnd:00000000a80425fb NoNewPrivs:1 Seccomp:2"),
    "kills": ({"seccompProfile": {"type": "Localhost", "localhostProfile": "team/kills.json"}}, {}, "exec 2>/dev/null; mkdir /x; echo $?", "159"),
    "privileged": ({}, {"privileged": True}, "[ -w /proc/sys/kernel/core_pattern ] && grep -q CPU /proc/interrupts && echo all; grep Seccomp: /proc/self/status | tr -d '\\t'", "all Seccomp:0"),
}
# name → (pod's context, container's context, how it waits)
REFUSED = {
    "root": ({"runAsNonRoot": True}, {}, "container has runAsNonRoot and image will run as root (pod: \"root_confined("),
    "zero": ({"runAsNonRoot": True}, {"runAsUser": 0}, "container's runAsUser breaks non-root policy (pod: \"zero_confined("),
    "name": ({"runAsNonRoot": True}, {}, "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root (pod: \"name_confined("),
    "ghost": ({"runAsNonRoot": True}, {}, "container has runAsNonRoot and image has non-numeric user (nobody-knows), cannot verify user is non-root (pod: \"ghost_confined("),
    "beyond": ({"supplementalGroups": [65536]}, {}, "user or group 65536 is not among the 65536 of a pod with hostUsers: false"),
    "listens": ({"seccompProfile": {"type": "Localhost", "localhostProfile": "team/listens.json"}}, {}, '"SCMP_ACT_NOTIFY" is no action that can be enforced'),
    "no-profile": ({"seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}}, {}, "cannot load seccomp profile"),
    "bad-profile": ({"seccompProfile": {"type": "Localhost", "localhostProfile": "team/bad.json"}}, {}, "defaultAction is missing or unknown"),
    "out-profile": ({"seccompProfile": {"type": "Localhost", "localhostProfile": "team/out.json"}}, {}, "cannot load seccomp profile"),
}


SETUID = """#include <stdio.h>
#include <unistd.h>
int main(void) { return printf("%d\\n", geteuid()) < 0; }"""


def make_images(platform, folder):
    import images
    (folder / "setuid.c").write_text(SETUID)
    subprocess.run(["cc", "-static", "-Os", "-o", folder / "setuid", folder / "setuid.c"], check=True)
    made = images.layer(("etc/passwd", "file", (b"root:x:0:0::/root:/bin/sh\napp:x:1000:0::/:/bin/sh\n", 0o644)),
                        ("etc/group", "file", (b"root:x:0:\nstaff:x:50:app\n", 0o644)), ("setuid", "file", ((folder / "setuid").read_bytes(), 0o4755)))
    for name, config in [("grouped", {}), ("named", {"User": "app"}), ("numbered", {"User": "1000:70"}), ("ghost", {"User": "nobody-knows:50"})]:
        images.push(platform, name, made, config=config)


@pytest.fixture(scope="module")
def pods(platform, tiny_image, tmp_path_factory):
    folder = platform.state / "seccomp/team"
    folder.mkdir(parents=True)
    (folder / "strict.json").write_text(json.dumps(PROFILE))
    (folder / "bad.json").write_text("{}")
    (folder / "out.json").symlink_to("/etc/hosts")
    (folder / "kills.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]}))
    (folder / "listens.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}))
    make_images(platform, tmp_path_factory.mktemp("confined"))
    platform.kubectl("create", "namespace", "confined")

    def pod(name, of_pod, of_container, script):
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"restartPolicy": "Never", "securityContext": of_pod, "hostUsers": name not in INSIDE, "containers": [
            {"name": "c", "image": f"{IMAGES.get(name, 'grouped')}:latest", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script], "securityContext": of_container}]}}

    items = [pod(name, *case[:3]) for name, case in CASES.items()] + [pod(name, *case[:2], "true") for name, case in REFUSED.items()]
    platform.kubectl("-n", "confined", "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    yield lambda *args, **options: platform.kubectl("-n", "confined", *args, **options)
    platform.kubectl("delete", "namespace", "confined", "--wait=false")


@pytest.mark.parametrize("name", CASES)
def test_context(pods, name):
    wait_for(lambda: pods("get", "pod", name, "-o", "jsonpath={.status.phase}").stdout in ("Succeeded", "Failed"), f"pod {name} to end")
    assert " ".join(pods("logs", name).stdout.split()) == CASES[name][3]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(pods, name):
    waiting = wait_for(lambda: json.loads(pods("get", "pod", name, "-o", "json").stdout)["status"].get("containerStatuses", [{}])[0].get("state", {}).get("waiting", {}).get("message"), "a reason")
    assert REFUSED[name][2] in waiting
    assert pods("get", "pod", name, "-o", "jsonpath={.status.containerStatuses[0].state.waiting.reason}").stdout == "CreateContainerConfigError"


def test_user_in_the_status_and_apparmor(pods):
    """containerStatuses[].user; a profile that the kernel cannot enforce."""
    spec = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "told"}, "spec": {"securityContext": {"runAsUser": 7, "runAsGroup": 8, "fsGroup": 9}, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "grouped:latest", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "1000"]}]}}
    old = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "armor", "annotations": {"container.apparmor.security.beta.kubernetes.io/c": "localhost/tidemill-no-such-profile"}},
           "spec": spec["spec"]}
    pods("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [spec, old]}))
    pods("wait", "--for=condition=Ready", "--timeout=60s", "pod/told")
    status = json.loads(pods("get", "pod", "told", "-o", "json").stdout)["status"]
    assert status["containerStatuses"][0]["user"] == {"linux": {"uid": 7, "gid": 8, "supplementalGroups": [8, 9]}}
    enabled = pathlib.Path("/sys/module/apparmor/parameters/enabled")
    if enabled.exists() and enabled.read_text().startswith("Y"):  # then somebody may load it yet
        wait_for(lambda: "apparmor profile not found" in pods("get", "pod", "armor", "-o", "jsonpath={.status.containerStatuses[0].state.waiting.message}").stdout, "the container to be refused")
    else:
        wait_for(lambda: pods("get", "pod", "armor", "-o", "jsonpath={.status.phase}").stdout == "Failed", "the pod to be rejected")
        status = json.loads(pods("get", "pod", "armor", "-o", "json").stdout)["status"]
        assert status["reason"] == "AppArmor" and status["message"] == "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host", status
        assert "containerStatuses" not in status
    pods("delete", "pod", "told", "armor", "--wait=false")


def test_the_profile_that_is_shipped_is_one():
    """Its rules are tried where the kernel has AppArmor (tests/vm); that they can be loaded is checked everywhere."""
    result = subprocess.run(["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--skip-read-cache", ROOT / "packaging/apparmor/tidemill-default"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
