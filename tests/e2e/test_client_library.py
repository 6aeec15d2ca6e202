"""The distribution's own client library, python3-kubernetes: create, patch, watch, pages, exec, logs, port-forward, jobs, the dynamic client. The steps are in client_script.py."""

import pathlib
import subprocess


def test_python_client(platform, tiny_image):
    platform.kubectl("create", "namespace", "library")
    script = pathlib.Path(__file__).parent / "client_script.py"
    result = subprocess.run(["/usr/bin/python3", script, "library", tiny_image], capture_output=True, text=True, env=platform.environment(), timeout=240)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr[-4000:]}"
    assert result.stdout.split() == "config_maps ok pages ok pods ok workloads ok dynamically ok".split()
    platform.kubectl("delete", "namespace", "library")
