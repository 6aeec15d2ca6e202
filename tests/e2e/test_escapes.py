"""The escapes that container runtimes were broken by, tried: each row names the CVE whose mistake it would repeat.

Exec's (CVE-2019-5736) are in test_pod_life.py, a Dockerfile's (CVE-2024-1753 and its kin) and the registry's (CVE-2024-3727) in test_abuse.py."""

import json
import os
import subprocess
import uuid

import pytest

import images
from conftest import wait_for

MARK = f"tidemill-escape-{uuid.uuid4().hex}"

# What a program can ask of the kernel by system calls alone; prints REACHED and what it got.
PROBE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
static void got(const char *what, long r) { if (r >= 0) printf("REACHED %s\n", what); }
int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "user") == 0)
        return printf("%d\n", geteuid()) < 0;
    struct { unsigned bytes; int type; unsigned char id[128]; } handle = {128, 1, {2}}; /* inode 2: the root of an ext4 */
    struct clone_args args = {.flags = CLONE_NEWUSER};
    char page[4096] = {0};
    int root = open("/etc/hosts", O_RDONLY);
    got("keyring by add_key (CVE-2014-9529)", syscall(SYS_add_key, "user", "a", "b", 1, -4));
    got("keyring by keyctl", syscall(SYS_keyctl, 0, -4, 0, 0, 0));
    got("file by handle (shocker)", syscall(SYS_open_by_handle_at, root, &handle, O_RDONLY));
    got("user namespace by unshare (CVE-2022-0185)", syscall(SYS_unshare, CLONE_NEWUSER));
    got("user namespace by clone", syscall(SYS_clone, CLONE_NEWUSER, 0, 0, 0, 0));
    got("user namespace by clone3", syscall(SYS_clone3, &args, sizeof args));
    got("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    got("cgroup mount (CVE-2022-0492)", mount("none", "/tmp", "cgroup", 0, "rdma"));
    got("cgroup2 mount", mount("none", "/tmp", "cgroup2", 0, NULL));
    got("new mount by fsopen", syscall(SYS_fsopen, "proc", 0));
    got("tree of mounts", syscall(SYS_open_tree, -100, "/", 1));
    got("another's namespace", syscall(SYS_setns, root, 0));
    got("pivot_root", syscall(SYS_pivot_root, "/", "/tmp"));
    got("bpf (CVE-2020-8835)", syscall(SYS_bpf, 0, page, sizeof page));
    got("perf_event_open", syscall(SYS_perf_event_open, page, 0, -1, -1, 0));
    got("userfaultfd", syscall(SYS_userfaultfd, 0));
    got("io_uring (CVE-2022-29582)", syscall(SYS_io_uring_setup, 1, page));
    got("kexec", syscall(SYS_kexec_load, 0, 0, 0, 0));
    got("module", syscall(SYS_init_module, page, sizeof page, ""));
    got("swap", syscall(SYS_swapoff, "/dev/vda"));
    got("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0, 0));
    got("clock", syscall(SYS_settimeofday, NULL, page));
    got("kernel log", syscall(SYS_syslog, 3, page, sizeof page));
    got("ports", syscall(SYS_iopl, 3));
    got("hypervisor's sockets", socket(40, SOCK_STREAM, 0));
    got("terminal", open("/dev/tty", O_RDWR)); /* TIOCSTI needs one that somebody else reads */
    got("console", ioctl(0, TIOCSTI, "x"));
    for (int fd = 3; fd < 1024; fd++)
        if (fd != root)
            got("descriptor", fcntl(fd, F_GETFD));
    puts("done");
    return 0;
}
"""


def shell(script):
    return {"command": ["sh", "-c", script]}


def pod(name, image, container, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, **spec,
        "containers": [{"name": "c", "image": image, "imagePullPolicy": "IfNotPresent", **container}]}}


@pytest.fixture(scope="module")
def arena(platform, tiny_image):
    """A namespace; `apply` takes pods, `end` waits for one and returns what it printed and what was said about it."""
    platform.kubectl("create", "namespace", "escapes")

    def end(name):
        def ended():
            status = platform.get("-n", "escapes", "pod", name)["status"]
            waiting = [each["state"]["waiting"].get("message", "") for each in status.get("containerStatuses", []) if "waiting" in each["state"]]
            return status if status.get("phase") in ("Succeeded", "Failed") or any(waiting) else None

        status = wait_for(ended, f"pod {name} to end or be refused")
        state = status["containerStatuses"][0]["state"]
        told = state.get("terminated", state.get("waiting", {})).get("message", "")
        printed = "" if told and "exitCode" not in state else platform.kubectl("-n", "escapes", "logs", name, check=False).stdout
        return printed, told

    end.platform = platform
    end.apply = lambda *pods: platform.kubectl("-n", "escapes", "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    yield end
    platform.kubectl("delete", "namespace", "escapes", "--wait=false")


# name → (layers, image configuration, container, what is said when it is refused; None: it runs and prints "inside" only)
HOSTILE = {
    "dev-link": ([("dev", "link", "/tmp")], {}, {}, "the image's /dev is a link"),  # CVE-2025-52565, 2026-47766
    "proc-link": ([("proc", "link", "/tmp")], {}, {}, "the image's /proc is a link"),  # CVE-2019-19921, 2023-27561
    "sys-link": ([("sys", "link", "/proc")], {}, {}, "the image's /sys is a link"),
    "proc-file": ([("proc", "file", b"")], {}, {}, "the image's /proc is no folder"),
    "etc-loop": ([("etc", "link", "../../etc")], {}, {}, "links lead nowhere"),
    "etc-proc": ([("etc", "link", "/proc/sys")], {}, {}, "because it is inside /proc"),  # CVE-2025-52881: our writes to a file of procfs
    "cwd-fd": ([], {"WorkingDir": "/proc/self/fd/7"}, {}, "is inside /proc"),  # CVE-2024-21626
    "cwd-link": ([("wd", "link", "/proc/self/fd/8")], {"WorkingDir": "/wd/../../.."}, {}, "is inside /proc"),
    "cwd-pod": ([], {}, {"workingDir": "/proc/1/cwd"}, "is inside /proc"),
    "proc-volume": ([], {}, {"volumeMounts": [{"name": "v", "mountPath": "/proc/self/attr"}]}, "cannot be mounted because it is inside /proc"),
    "proc-through": ([("data", "link", "/proc/sys/kernel")], {}, {"volumeMounts": [{"name": "v", "mountPath": "/data"}]}, "because it is inside /proc"),
    "root-volume": ([("data", "link", "/tmp/../..")], {}, {"volumeMounts": [{"name": "v", "mountPath": "/data"}]}, "it is the container's root"),
    "user-odd": ([], {"User": "root:root:root"}, {}, "unable to find group"),  # CVE-2022-29162's and 2026-30892's parsing
    "user-large": ([], {"User": "4294967296"}, {}, "unable to find user"),
    "passwd-link": ([("etc/passwd", "link", "../../../../../../etc/passwd")], {"User": "daemon"}, {}, "unable to find user daemon"),
    "null-link": ([("dev/null", "link", "/etc/hosts"), ("dev/console", "link", "/proc/sysrq-trigger"), ("dev/pts", "link", "/etc")], {}, shell(
        "[ $(stat -c %t:%T /dev/null) = 1:3 ] && [ -d /dev/pts ] && cat /proc/keys && echo inside"), None),  # CVE-2025-31133
    "etc-out": ([("etc/hosts", "link", f"../../../../../../../tmp/{MARK}-hosts"), ("etc/resolv.conf", "link", f"/tmp/{MARK}-resolv")], {}, shell(
        f"echo x >> /etc/hosts; [ -s /tmp/{MARK}-hosts ] && [ -s /tmp/{MARK}-resolv ] && echo inside"), None),
    "volume-out": ([("out", "link", f"../../../../../../../tmp/{MARK}-volume")], {}, {"volumeMounts": [{"name": "v", "mountPath": "/out"}], **shell(
        f"touch /out/x && [ -f /tmp/{MARK}-volume/x ] && echo inside")}, None),
    "cwd-out": ([("up", "link", f"../../../../../../../../tmp/{MARK}-cwd")], {"WorkingDir": "/up/deep"}, shell("[ $(pwd) = /tmp/%s-cwd/deep ] && echo inside" % MARK), None),
    "tar-out": ([("../../../../../../../../tmp/" + MARK + "-tar", "file", b"x"), ("/tmp/" + MARK + "-absolute", "file", b"x"), ("a", "link", "/tmp"),
                 ("a/" + MARK + "-through", "file", b"x"), (".wh...", "file", b""), ("..", "link", "/tmp")], {}, {}, None),
    "hard-out": ([("shadow", "hard", "../../../../../../../../../../etc/shadow")], {}, shell("cat /shadow 2>/dev/null || echo inside"), None),
    "devices": ([("disk", "block", (254, 0)), ("memory", "char", (1, 1)), ("kernel", "char", (1, 2))], {}, shell(
        "for each in disk memory kernel; do dd if=/$each of=/dev/null count=1 2>/dev/null && echo REACHED $each; done; echo inside"), None),
}


@pytest.fixture(scope="module")
def hostile(arena):
    pods = []
    for name, (entries, config, container, _) in HOSTILE.items():
        image = images.push(arena.platform, f"hostile-{name}", *([images.layer(*entries)] if entries else []), config=config)
        volumes = [{"name": "v", "emptyDir": {}}] if "volumeMounts" in container else []
        pods.append(pod(name, image, {**shell("echo inside"), **container}, volumes=volumes))
    arena.apply(*pods)
    yield
    left = [each for folder in ("/tmp", "/") for each in os.listdir(folder) if each.startswith(MARK)]
    assert not left, f"an image or a pod wrote outside: {left}"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_image(arena, hostile, name):
    printed, told = arena(name)
    expected = HOSTILE[name][3]
    if expected:
        assert expected in told and "inside" not in printed, (printed, told)
    elif not (name in ("tar-out", "hard-out") and "pull" in told):  # such a layer may also be refused
        assert printed.split() == ["inside"], (printed, told)
    assert not [each for each in os.listdir("/tmp") if each.startswith(MARK)]


@pytest.fixture(scope="module")
def probe(arena):
    (arena.platform.dir / "probe.c").write_text(PROBE)
    subprocess.run(["cc", "-static", "-o", arena.platform.dir / "probe", arena.platform.dir / "probe.c"], check=True)
    return images.push(arena.platform, "probe", images.layer(("probe", "file", (arena.platform.dir / "probe").read_bytes()),
                                                             ("suid", "file", ((arena.platform.dir / "probe").read_bytes(), 0o4755))))


def test_a_program_alone_reaches_nothing(arena, probe):
    arena.apply(pod("calls", probe, {"command": ["/probe"]}))
    printed, told = arena("calls")
    assert printed.split() == ["done"], (printed, told)


FILES = """
for path in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/notify_on_release /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs \
    /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/panic_on_oom /sys/kernel/uevent_helper \
    /sys/kernel/mm/ksm/run /proc/irq/default_smp_affinity /sys/power/state /proc/sys/fs/binfmt_misc/register; do
  ( [ -e $path ] && printf '' >> $path ) 2>/dev/null && echo REACHED $path
done
for path in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/interrupts /sys/firmware/acpi/tables/DSDT; do
  [ -s $path ] && [ "$(head -c 1 $path 2>/dev/null | wc -c)" = 1 ] && echo REACHED $path
done
mkdir /sys/fs/cgroup/*/sub 2>/dev/null && echo REACHED a cgroup of its own
ls /proc/1/root/etc/shadow 2>/dev/null && echo REACHED the host
grep -q '^CapInh:.0000000000000000$' /proc/self/status || echo REACHED inheritable capabilities
[ "$(ls /proc/self/fd | tr -d '\\n')" = 0123 ] || echo REACHED descriptors $(ls /proc/self/fd)
(ls /proc/1/fd > /tmp/descriptors) & wait # the shell itself holds others for a pipe or a redirection
[ "$(tr -d '\\n' < /tmp/descriptors)" = 012 ] || echo REACHED descriptors of the first process $(cat /tmp/descriptors)
[ "$(wc -l < /proc/self/cgroup)" -gt 0 ] && grep -q tidemill /proc/self/cgroup && echo REACHED the name of its control group
echo done
"""


def test_files_of_the_kernel_are_out_of_reach(arena):
    """CVE-2022-0492's release_agent, core_pattern, sysrq, the masked paths; CVE-2022-27650 and 29162; CVE-2024-21626's descriptors."""
    arena.apply(pod("files", "busybox:latest", shell(FILES)))
    printed, told = arena("files")
    assert printed.split() == ["done"], (printed, told)


@pytest.mark.parametrize("escalation,expected", [(False, "1000"), (True, "0")])
def test_setuid_in_an_image_and_a_volume(arena, probe, escalation, expected):
    """With allowPrivilegeEscalation: false, a file that somebody else made setuid runs as who started it."""
    mounts = [{"name": "v", "mountPath": "/v"}]
    name = f"setuid-{expected}"
    made = pod(name, probe, {**shell("/suid user; /v/suid user; echo end"), "volumeMounts": mounts,
                             "securityContext": {"runAsUser": 1000, "allowPrivilegeEscalation": escalation}}, volumes=[{"name": "v", "emptyDir": {}}])
    made["spec"]["initContainers"] = [{"name": "i", "image": probe, "volumeMounts": mounts, **shell("cp /suid /v/suid && chmod 4755 /v/suid")}]
    arena.apply(made)
    printed, told = arena(name)
    assert printed.split() == [expected, expected, "end"], (printed, told)


def shared(arena, name):
    """A folder of the host as the volume that two pods share."""
    folder = arena.platform.dir / name
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    return folder, [{"name": "v", "hostPath": {"path": str(folder)}}]


def test_sub_path_that_turns_into_a_link(arena):
    """CVE-2017-1002101 and CVE-2021-25741: one pod exchanges a folder of the volume for links to the root, all the time; others mount it as subPath."""
    folder, volumes = shared(arena, "swapped")
    (arena.platform.dir / MARK).write_text("of the host")
    host = str(arena.platform.dir)
    swap = f"mkdir -p d; ln -s / up; ln -s {host} host; while :; do mv -T d e; mv -T up d; mv -T d up; mv -T host d; mv -T d host; mv -T e d; done"
    arena.apply(pod("swapper", "busybox:latest", {**shell(f"cd /v; {swap}"), "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                    volumes=volumes))
    wait_for(lambda: (folder / "d").exists() or (folder / "e").exists(), "the swapper to begin")
    look = shell(f"ls -a /m; [ -e /m/{MARK} ] && echo REACHED; [ -e /m/tmp ] && [ -e /m/usr ] && echo REACHED; echo end")
    names = [f"sub-{i}" for i in range(8)]
    arena.apply(*(pod(name, "busybox:latest", {**look, "volumeMounts": [{"name": "v", "mountPath": "/m", "subPath": "d"}]}, volumes=volumes) for name in names))
    for name in names:
        printed, told = arena(name)
        assert "REACHED" not in printed, printed
        assert "end" in printed or told
    arena.platform.kubectl("-n", "escapes", "delete", "pod", "swapper", "--wait=false")


@pytest.mark.parametrize("link", ["/etc", "/proc/sys/kernel", "/dev", "../../../../../../../../tmp"])
def test_mount_within_a_shared_volume(arena, link):
    """CVE-2021-30465: the target of a second mount lies in the first volume, where somebody else has put a link."""
    name = "nested-" + link.strip("./").replace("/", "-")
    folder, volumes = shared(arena, name)
    (folder / "b").symlink_to(link)
    mounts = [{"name": "v", "mountPath": "/a"}, {"name": "w", "mountPath": "/a/b"}]
    arena.apply(pod(name, "busybox:latest", {**shell("echo started"), "volumeMounts": mounts}, volumes=[*volumes, {"name": "w", "emptyDir": {}}]))
    printed, told = arena(name)
    assert not printed and "/a/b" in told, (printed, told)
    assert os.readlink(folder / "b") == link
