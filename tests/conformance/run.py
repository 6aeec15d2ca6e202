#!/usr/bin/env python3
"""Kubernetes' own conformance suite against a platform made for it: what one node can show of "any pod that works there works here".

  run.py                          the tests marked [Conformance]
  run.py --focus 'sig-node.*Probing'     those whose names match
  run.py --focus sig-storage --skip 'CSI|Feature:|Disruptive'
  run.py --list                   names, and runs nothing
  run.py --keep                   leaves the platform running and says how to reach and end it

The suite's images come from container registries; here they are made of Debian's packages and of the suite's own programs, and are pushed to the platform's registry.
known.txt says which tests are not expected to pass, and why; anything else that fails makes this fail, and so does one of them that passes, but for those
whose reason begins with "race".
Needs root and what scripts/fetch-conformance builds."""

import argparse
import gzip
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
import conftest  # noqa: E402: found by the line above
import images  # noqa: E402

TOOLS = ROOT / "build/tools/conformance"
ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
REGISTRIES = "promoterE2eRegistry buildImageRegistry gcRegistry sigStorageRegistry gcEtcdRegistry dockerLibraryRegistry cloudProviderGcpRegistry".split()
# Two roots by mmdebstrap: for the suite's all-purpose image, and for its web servers.
TOOLBOX = "busybox,bash,curl,netcat-openbsd,iproute2,iperf,bind9-dnsutils,ca-certificates,procps,libcap2-bin,iputils-ping,util-linux"
SERVERS = "nginx-light,apache2,busybox,bash,perl,redis-server"
# Debian's busybox shell drops variables whose names no shell can have, such as data-1; that of upstream's image passes them on, and tests ask it by `sh -c env`.
SHELL = """
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv, char **environment) {
    if (argc == 3 && strcmp(argv[1], "-c") == 0 && strcmp(argv[2], "env") == 0)
        return execle("/bin/busybox", "env", (char *)0, environment);
    return execve("/bin/busybox", argv, environment);
}
"""
# Where upstream's server has its page: tests move it away, so that probes fail.
PAGES = [("etc/apache2/conf-enabled/suite.conf", "file", (b"ServerName localhost\n<Directory /usr/local/apache2/htdocs>\nRequire all granted\n</Directory>\n", 0o644)),
         ("etc/apache2/sites-enabled/000-default.conf", "file", (b"<VirtualHost *:80>\nDocumentRoot /usr/local/apache2/htdocs\n</VirtualHost>\n", 0o644)),
         ("usr/local/apache2/htdocs/index.html", "file", (b"<html><body><h1>It works!</h1></body></html>\n", 0o644))]
APACHE = b"#!/bin/sh\n. /etc/apache2/envvars\nmkdir -p $APACHE_RUN_DIR\nexec apache2 -DFOREGROUND\n"
USERS = b"user-defined-in-image:x:1000:1000::/:/bin/sh\n", b"user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"


def root_of(name, packages):
    """A tar with these Debian packages; made once."""
    path = TOOLS / f"{name}.tar"
    if not path.exists():
        print(f"conformance: making the root of {name}, once", flush=True)
        making = path.with_suffix(".making.tar")
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "bookworm", making], check=True)
        making.rename(path)
    return path.read_bytes()


def member(tar, name):
    with tarfile.open(tar) as archive:
        return archive.extractfile(name).read()


def shell():
    subprocess.run(["gcc", "-static", "-O2", "-s", "-x", "c", "-o", TOOLS / "sh", "-"], input=SHELL, text=True, check=True)
    return (TOOLS / "sh").read_bytes()


def program(path, name=None, mode=0o755):
    return path, "file", ((TOOLS / (name or path.rpartition("/")[2])).read_bytes(), mode)


def data_files(folder):
    return [(path.name, "file", (path.read_bytes(), 0o644)) for path in sorted((TOOLS / "files" / folder).iterdir()) if path.is_file()]


def busybox_layer(platform):
    """That of our own busybox image, plain."""
    manifest = json.loads(images.request(platform, "GET", "/v2/busybox/manifests/latest", Accept=images.MANIFEST)[1])
    data = images.request(platform, "GET", f"/v2/busybox/blobs/{manifest['layers'][0]['digest']}")[1]
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout if data[:4] == b"\x28\xb5\x2f\xfd" else data


def push_images(platform):
    def push(name, *layers, **config):
        images.push(platform, f"suite/{name}", *layers, config={"Env": ENVIRONMENT, **config}, base=None)

    platform.bootstrap("busybox:latest")
    toolbox, servers = root_of("toolbox", TOOLBOX), root_of("servers", SERVERS)
    applets = subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    with tarfile.open(TOOLS / "toolbox.tar") as archive:
        there = {pathlib.PurePath(entry.name).name for entry in archive if "bin/" in entry.name}
    links = [(f"usr/local/bin/{name}", "link", "/bin/busybox") for name in applets if name not in there]
    passwd, group = (member(TOOLS / "toolbox.tar", f"./etc/{name}") + more for name, more in zip(("passwd", "group"), USERS))
    agnhost = [toolbox, images.layer(program("agnhost"), ("agnhost-2", "link", "agnhost"), ("uploads", "dir", 0o755), *links, *data_files("porter"),
                                     ("etc/passwd", "file", (passwd, 0o644)), ("etc/group", "file", (group, 0o644)))]
    ports = {f"{port}/tcp": {} for port in (80, 8080, 8081, 9376, 5000)}
    for tag in ("2.53", "2.6"):
        push(f"agnhost:{tag}", *agnhost, Entrypoint=["/agnhost"], Cmd=["pause"], ExposedPorts=ports)
    for name in ("kitten", "nautilus"):
        push(f"{name}:1.7", *agnhost, images.layer(*data_files(name)), Entrypoint=["/agnhost"], Cmd=["test-webserver"])
    push("jessie-dnsutils:1.7", *agnhost, Cmd=["sleep", "infinity"])
    push("ipc-utils:1.3", *agnhost, Cmd=["sh"])
    push("pause:3.10", images.layer(program("pause", "agnhost")), Entrypoint=["/pause", "pause"])
    push("resource-consumer:1.13", *agnhost, images.layer(program("consumer", "resource-consumer"), program("consume-cpu")), Entrypoint=["/consumer"])

    every_applet = [(f"bin/{name}", "link", "busybox") for name in applets if name not in ("busybox", "sh")]
    small = [busybox_layer(platform), images.layer(("bin/sh", "file", (shell(), 0o755)), *every_applet)]
    push("busybox:1.36.1-1", *small, Cmd=["sh"])
    push("nonroot:1.4", *small, Cmd=["sh"], User="1234")
    push("nonewprivs:1.3", *small, images.layer(program("usr/local/bin/nnp", "nonewprivs", 0o6755)), Cmd=["nnp"])
    push("regression-issue-74839:1.2", images.layer(program("regression-issue-74839")), Entrypoint=["/regression-issue-74839"])

    for tag in ("1.14-4", "1.15-4"):
        push(f"nginx:{tag}", servers, Cmd=["nginx", "-g", "daemon off;"])
    for tag in ("2.4.38-4", "2.4.39-4"):
        push(f"httpd:{tag}", servers, images.layer(("usr/local/bin/httpd-foreground", "file", (APACHE, 0o755)), *PAGES), Cmd=["httpd-foreground"])
    push("perl:5.26", servers, Cmd=["perl"])
    push("redis:5.0.5-3", servers, Cmd=["redis-server"])


def known_failures():
    """(pattern, why) of known.txt."""
    lines = (ROOT / "tests/conformance/known.txt").read_text().splitlines()
    return [tuple(line.rsplit(" | ", 1)) for line in lines if line.strip() and not line.startswith("#")]


def suite(arguments, platform=None):
    """The suite's process: its standard output is a pipe."""
    environment, flags = dict(os.environ), []
    if platform:
        repositories = platform.dir / "repositories.yaml"
        own = f"127.0.0.1:{platform.registry_port}/suite"
        repositories.write_text("".join(f"{name}: {own}\n" for name in REGISTRIES) + "invalidRegistry: invalid.example/invalid\n")
        environment = {**platform.environment(), "KUBE_TEST_REPO_LIST": str(repositories)}
        flags = [f"--kubeconfig={environment['KUBECONFIG']}", f"--kubectl-path={conftest.KUBECTL}"]
    command = [TOOLS / "e2e.test", "--provider=local", "--num-nodes=1", "--minStartupPods=0", "--allowed-not-ready-nodes=0", *flags,
               "-ginkgo.no-color", "-ginkgo.v", "-ginkgo.timeout=6h", f"-ginkgo.focus={arguments.focus}", f"-ginkgo.skip={arguments.skip}"]
    return subprocess.Popen([*command, *(["-ginkgo.dry-run"] if arguments.list else [])], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            errors="replace", env=environment, cwd=TOOLS)


def results(process, log):
    """Yields (name, verdict, seconds) as tests end: PASSED, FAILED, SKIPPED … All that the suite says goes to `log`."""
    name = previous = ""
    for line in process.stdout:
        log.write(line)
        ended = re.match(r"[•SP] (?:\[(\w[\w ]*)\] )?\[([\d.]+) seconds\]", line)
        if ended:
            yield name, ended[1] or ("PASSED" if line.startswith("•") else "SKIPPED"), float(ended[2])
        elif previous.startswith("-----") and line.startswith("["):
            name = re.sub(r" \[[^\[\]]*\]$", "", line.strip())  # the last bracket repeats the labels
        previous = line
    process.wait()


def run(arguments, platform):
    known, wrong, counts = known_failures(), [], {}
    path = TOOLS / f"log{os.environ.get('TIDEMILL_TEST_SUFFIX', '')}.txt"
    with path.open("w") as log:
        process = suite(arguments, platform)
        for name, verdict, seconds in results(process, log):
            why = next((reason for pattern, reason in known if re.search(pattern, name)), None)
            counts[verdict] = counts.get(verdict, 0) + 1
            if verdict not in ("PASSED", "SKIPPED") and not why or verdict == "PASSED" and why and not why.startswith("race"):
                wrong.append((name, verdict, why))
            print(f"{verdict:8} {seconds:6.1f} s  {name}{f'  (known: {why})' if why else ''}", flush=True)
    print(", ".join(f"{count} {verdict.lower()}" for verdict, count in sorted(counts.items())) or "no test matches", f"- all of it is in {path}")
    for name, verdict, why in wrong:
        print(f"UNEXPECTED: {verdict.lower()}: {name}{f' (known.txt says: {why})' if why else ''}")
    return 1 if wrong or not counts else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--focus", default=r"\[Conformance\]", metavar="RE", help=r"tests whose names match (default: \[Conformance\])")
    parser.add_argument("--skip", default=r"Feature:Windows", metavar="RE", help="but not these")
    parser.add_argument("--list", action="store_true", help="print names only")
    parser.add_argument("--keep", action="store_true", help="leave the platform running")
    arguments = parser.parse_args()
    if not (TOOLS / "version").exists():
        sys.exit("conformance: the suite is missing: run scripts/fetch-conformance")
    if arguments.list:
        with (TOOLS / f"log{os.environ.get('TIDEMILL_TEST_SUFFIX', '')}.txt").open("w") as log:
            for name, verdict, _ in results(suite(arguments), log):
                if verdict == "PASSED":
                    print(name)
        return 0
    platform = conftest.Platform("suite", 147)
    try:
        platform.up()
        push_images(platform)
        return run(arguments, platform)
    finally:
        if arguments.keep:
            print(f"KUBECONFIG={platform.state}/kubeconfig; to end it: {conftest.TIDEMILL} down --all {' '.join(platform.flags)}")
        else:
            platform.destroy()


if __name__ == "__main__":
    sys.exit(main())
