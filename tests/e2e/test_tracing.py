"""Who enters a container comes into a PID namespace where somebody may trace: held at once, and scribbled over, by one that does nothing else."""

import json
import os
import pathlib
import re
import subprocess

import pytest

import images
from conftest import wait_for

# Takes over whoever comes, says what there is of it to be seen, writes nonsense into all memory that it shares, and never lets it go.
HOLDER = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void show(int pid, const char *name) {
    char path[300], to[512];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    ssize_t n = readlink(path, to, sizeof to - 1);
    if (n > 0)
        printf("%d %s %.*s\n", pid, name, (int)n, to);
}
static void scribble(int pid, int lie) {
    char path[64], line[512];
    unsigned long from, to;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "r");
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx rw-s", &from, &to) != 2 || !strstr(line, " rw-s "))
            continue;
        int words[5] = {lie, lie, lie % 17, lie, 1};
        struct iovec mine = {words, sizeof words}, theirs = {(void *)from, sizeof words};
        printf("%d scribbled %zd\n", pid, process_vm_writev(pid, &mine, 1, &theirs, 1, 0));
    }
    if (maps)
        fclose(maps);
}
int main(void) {
    static int held[PID_MAX + 1];
    int lie = 0;
    setbuf(stdout, NULL);
    for (int last = 0;;) {
        FILE *file = fopen("/proc/loadavg", "r"); /* the newest process of this namespace */
        int newest = 0;
        if (fscanf(file, "%*f %*f %*f %*s %d", &newest) != 1)
            return 1;
        fclose(file);
        last = newest > 40 ? newest - 40 : 0;
        for (int pid = last + 1; pid <= newest + 8 && pid <= PID_MAX; pid++) {
            char name[64];
            snprintf(name, sizeof name, "/proc/%d/root/HOSTMARK", pid);
            if (pid == 1 || pid == getpid() || pid == KEPT || held[pid] || ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT) < 0)
                continue;
            held[pid] = 1;
            ptrace(PTRACE_INTERRUPT, pid, 0, 0);
            waitpid(pid, NULL, __WALL);
            static const char *const names[] = {"exe", "root", "cwd", "fd/0", "fd/1", "fd/2", "fd/3", "fd/4", "fd/5", "fd/6", "fd/7", "fd/8", "fd/9", "fd/10"};
            for (int i = 0; i < 14; i++)
                show(pid, names[i]);
            if (access(name, F_OK) == 0)
                printf("%d REACHED %s\n", pid, name);
            scribble(pid, (int[]){1, -1, getpid(), pid + 1, INT_MAX}[lie++ % 5]);
        }
    }
}
"""


@pytest.fixture(scope="module")
def holder(platform, tiny_image, tmp_path_factory):
    folder = tmp_path_factory.mktemp("holder")
    mark = f"tidemill-{os.getpid()}-mark"
    (folder / "holder.c").write_text(HOLDER.replace("HOSTMARK", mark))
    subprocess.run(["cc", "-static", "-O1", "-DPID_MAX=100000", "-DKEPT=2", "-o", folder / "holder", folder / "holder.c"], check=True)
    pathlib.Path("/", mark).touch()
    try:
        yield images.push(platform, "holder", images.layer(("holder", "file", ((folder / "holder").read_bytes(), 0o755))))
    finally:
        pathlib.Path("/", mark).unlink()


def zombies(parent):
    """Ended processes that wait for it."""
    out = subprocess.run(["ps", "--ppid", str(parent), "-o", "stat="], capture_output=True, text=True, check=False).stdout
    return [line for line in out.split("\n") if line.startswith("Z")]


def is_held(platform, name):
    """Some are faster than who is after them."""
    try:
        platform.kubectl("exec", name, "-c", "victim", "--", "sleep", "0", timeout=2)
    except subprocess.TimeoutExpired:
        return True
    return False


@pytest.mark.parametrize("users", ["own", "host"])
def test_who_enters_is_held_and_the_node_goes_on(platform, holder, users):
    name = f"held-{users}"
    node = platform.pids()["node"]
    probe = {"exec": {"command": ["sleep", "0"]}, "periodSeconds": 1, "timeoutSeconds": 1}
    container = {"image": holder, "imagePullPolicy": "IfNotPresent"}
    held = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "hostUsers": users == "host", "shareProcessNamespace": True, "terminationGracePeriodSeconds": 1, "restartPolicy": "Never", "containers": [
            {**container, "name": "victim", "command": ["sleep", "100000"], "readinessProbe": probe},
            {**container, "name": "holder", "command": ["/holder"], "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}}]}}
    free = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"free-{users}"}, "spec": {
        "terminationGracePeriodSeconds": 1, "containers": [{**container, "name": "c", "command": ["sleep", "100000"]}]}}
    platform.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [held, free]}))
    platform.kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"pod/free-{users}")
    wait_for(lambda: "timed out after 1s" in platform.kubectl("get", "events", "-o", f"jsonpath={{.items[?(@.involvedObject.name=='{name}')].message}}").stdout,
             "a probe that is held to time out")
    wait_for(lambda: is_held(platform, name), "a command that is held")
    for _ in range(3):
        assert platform.kubectl("exec", f"free-{users}", "--", "echo", "free", timeout=30).stdout == "free\n"
    said = platform.kubectl("logs", name, "-c", "holder").stdout
    seen = [line.split(" ", 2) for line in said.splitlines() if line.count(" ") >= 2]
    assert "REACHED" not in said
    for _, key, value in seen:
        assert key not in ("root", "cwd") or value == "/", (key, value)
        assert not re.fullmatch("fd/[0-9]+", key) or value.startswith(("pipe:", "/dev/null", "socket:[")), (key, value)
        assert key != "exe" or value == "/bin/busybox" or (users == "host" and "tidemill-enter" in value), value
    assert any(key == "exe" for _, key, _ in seen), said
    platform.kubectl("delete", "pod", name, f"free-{users}", "--timeout=60s")
    wait_for(lambda: not zombies(node), "all that was held to be reaped")
    assert platform.pids()["node"] == node
