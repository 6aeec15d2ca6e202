"""Helm 3 and Helm 4 with a chart that has everything (tests/e2e/chart): a release's whole life. The Helms come from scripts/fetch-helm (`make matrix`); one that is not there is
skipped, loudly."""

import json
import pathlib
import subprocess

import pytest

from conftest import ROOT, wait_for

CHART = pathlib.Path(__file__).parent / "chart"
HELMS = {major: ROOT / f"build/tools/helm-{major}" for major in (3, 4)}


class Helm:
    """One version, its releases in a namespace of its own."""

    def __init__(self, platform, major):
        self.platform, self.major, self.namespace = platform, major, f"helm{major}"
        self.environment = {**platform.environment(), **{f"HELM_{each}_HOME": str(platform.dir / f"helm{major}-{each.lower()}")
                                                         for each in ("CACHE", "CONFIG", "DATA")}}

    def __call__(self, *args, check=True, timeout=180):
        result = subprocess.run([HELMS[self.major], *args, "--namespace", self.namespace], capture_output=True, text=True, env=self.environment,
                                timeout=timeout)
        if check:
            assert result.returncode == 0, f"helm {' '.join(args)}: {result.stdout}{result.stderr}"
        return result

    def kubectl(self, *args, **more):
        return self.platform.kubectl("-n", self.namespace, *args, **more)

    def get(self, *args):
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def page(self):
        return self.platform.http(f"{self.namespace}.localhost")


@pytest.fixture(scope="module", params=sorted(HELMS), ids=lambda major: f"helm{major}")
def helm(request, platform, tiny_image):
    if not HELMS[request.param].exists():
        pytest.skip(f"NOT TESTED: Helm {request.param}; `make matrix` (scripts/fetch-helm) builds it from its Go module")
    helm = Helm(platform, request.param)
    yield helm
    platform.kubectl("delete", "namespace", helm.namespace, "--ignore-not-found", "--wait=true")
    platform.kubectl("delete", "crd", "berths.harbour.example.com", "--ignore-not-found")


def revision(helm):
    return json.loads(helm("list", "-o", "json").stdout)[0]["revision"]


def test_install(helm):
    host = f"host={helm.namespace}.localhost"
    out = helm("install", "quay", str(CHART), "--create-namespace", "--wait", "--timeout", "120s", "--set", host).stdout
    assert "STATUS: deployed" in out and "Served at" in out
    assert helm.page() == (200, "first")
    assert helm.get("statefulset", "quay-store")["status"]["readyReplicas"] == 2
    assert {claim["status"]["phase"] for claim in helm.get("pvc")["items"]} == {"Bound"}
    assert helm.get("berth", "quay")["spec"] == {"length": 5, "side": "port"}
    assert helm.get("job", "quay-before")["status"]["succeeded"] == 1
    assert helm.kubectl("get", "job", "quay-after", check=False).returncode != 0, "a hook-succeeded hook is deleted"
    assert helm("status", "quay").returncode == 0 and "kind: Berth" in helm("get", "manifest", "quay").stdout


def test_test(helm):
    out = helm("test", "quay", "--logs").stdout
    assert "it answers first" in out and "Succeeded" in out


def test_upgrade(helm):
    helm("upgrade", "quay", str(CHART), "--reuse-values", "--wait", "--timeout", "120s", "--set", "message=second,replicas=3")
    assert revision(helm) == "2"
    wait_for(lambda: helm.page() == (200, "second"), "the new page")
    assert helm.get("deployment", "quay-web")["status"]["readyReplicas"] == 3
    starts = helm.kubectl("exec", "quay-store-0", "--", "cat", "/data/starts").stdout.split()
    assert len(starts) >= 2, "the claim's content outlives the pod"


def test_failed_upgrade_is_told_and_rolled_back(helm):
    failed = helm("upgrade", "quay", str(CHART), "--reuse-values", "--timeout", "60s", "--set", "failHook=true", check=False)
    assert failed.returncode != 0 and "pre-upgrade hooks failed" in failed.stderr
    out = helm("history", "quay", "-o", "json").stdout
    assert [each["status"] for each in json.loads(out)] == ["superseded", "deployed", "failed"]
    helm("rollback", "quay", "1", "--wait", "--timeout", "120s")
    wait_for(lambda: helm.page() == (200, "first"), "the first page again")
    assert revision(helm) == "4"
    assert helm.get("deployment", "quay-web")["spec"]["replicas"] == 2


def test_drift_is_put_right(helm):
    helm.kubectl("scale", "deployment/quay-web", "--replicas=1")
    force = ["--force-conflicts"] if helm.major == 4 else []
    helm("upgrade", "quay", str(CHART), "--reset-then-reuse-values", "--wait", "--timeout", "120s", "--set", "message=third", *force)
    wait_for(lambda: helm.page() == (200, "third"), "the third page")
    assert helm("get", "values", "quay").stdout


def test_template_and_dry_run(helm):
    assert "kind: StatefulSet" in helm("template", "quay", str(CHART), "--validate").stdout
    assert "STATUS: pending-upgrade" in helm("upgrade", "quay", str(CHART), "--dry-run=server").stdout


def test_bad_manifest_is_refused_in_words(helm):
    failed = helm("install", "bad", str(CHART), "--set", "replicas=-1,host=bad.localhost", check=False)
    assert failed.returncode != 0
    assert "spec.replicas: Invalid value: -1: must be greater than or equal to 0" in failed.stderr
    helm("uninstall", "bad", "--no-hooks")


def test_uninstall(helm):
    helm("uninstall", "quay", "--wait", "--timeout", "120s")
    assert json.loads(helm("list", "-o", "json").stdout) == []
    wait_for(lambda: not helm.get("pods", "-l", "app in (quay-web,quay-store)")["items"], "the pods to go")
    assert helm.get("berth")["items"] == []
    assert helm.get("pvc")["items"], "claims of a stateful set stay"
