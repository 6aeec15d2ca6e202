"""The command line itself: help, errors, JSON, completion."""

import json
import subprocess

import pytest

from conftest import TIDEMILL


def run(*args, **kwargs):
    return subprocess.run([TIDEMILL, *args], capture_output=True, text=True, **kwargs)


def test_help_teaches():
    overview = run("--help")
    assert overview.returncode == 0 and "app create" in overview.stdout
    for command in ("up", "down", "status", "app create", "pipeline logs", "apply", "logs", "image bootstrap", "kubeconfig", "version"):
        assert command in overview.stdout
        shown = run(*command.split(), "--help")
        assert shown.returncode == 0 and "Usage: tidemill " + command in shown.stdout


@pytest.mark.parametrize("args, words", [
    (["aply"], "did you mean `tidemill apply`"),
    (["app", "creat", "x"], "unknown command"),
    (["apply", "--nope"], "unknown flag --nope"),
    (["app", "create"], "missing argument"),
    (["logs", "--tail", "x", "y"], "whole number"),
    (["status", "extra"], "unexpected argument"),
    (["status", "-o", "yaml"], "text or json"),
    (["-x"], "unknown flag -x"),
])
def test_misuse_exits_with_2_and_explains(args, words):
    result = run(*args)
    assert result.returncode == 2 and words in result.stderr


def test_help_before_a_command_is_its_help():
    assert run("help", "app", "create").stdout == run("app", "create", "--help").stdout


def test_a_closed_state_folder_is_refused_before_anything_is_made(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    result = run("up", "--state", str(closed / "state"), "--run", "/run/tmclosed")
    assert result.returncode == 1 and "chmod o+x" in result.stderr
    assert not list(closed.iterdir())


def test_without_a_platform_it_says_what_to_do(tmp_path):
    result = run("status", "--run", str(tmp_path))
    assert result.returncode == 1 and "tidemill up" in result.stderr


@pytest.mark.parametrize("text, words", [("apiListen: [1]\n", "apiListen must be text"), ("apiListn: x\n", 'unknown setting "apiListn"'), ("a: [\n", "2:1"),
                                         ("podCIDR: 10.0.0.1/16\n", "pod-cidr"), ("instance: Has_Caps\n", "--instance")])
def test_a_bad_settings_file_is_told_with_its_place(tmp_path, text, words):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    result = run("up", "--config", str(path))
    assert result.returncode == 1 and words in result.stderr


def test_version_and_completion():
    assert json.loads(run("version", "-o", "json").stdout)["version"]
    script = run("completion").stdout
    check = subprocess.run(["bash", "-c", script + '\nCOMP_WORDS=(tidemill app cr); COMP_CWORD=2; _tidemill; echo "${COMPREPLY[*]}"'], capture_output=True, text=True)
    assert check.stdout.strip() == "create", check.stderr


def test_apply_reads_everything_before_it_sends_anything(platform, tmp_path):
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\n")
    (tmp_path / "b.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [\n")
    result = platform.tidemill("apply", "-f", str(tmp_path), check=False)
    assert result.returncode == 1 and "b.yaml:" in result.stderr
    assert platform.kubectl("get", "configmap", "first", check=False).returncode == 1
    (tmp_path / "b.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: second}\ndata: {a: b}\n")
    assert platform.tidemill("apply", "-f", str(tmp_path)).stdout.split() == ["configmap/first", "created", "configmap/second", "created"]
    assert "configmap/second unchanged" in platform.tidemill("apply", "-f", str(tmp_path)).stdout
    platform.kubectl("delete", "configmap", "first", "second")


def test_commands_know_the_instance_of_the_run_folder(platform):
    assert platform.tidemill("kubeconfig").stdout == (platform.state / "kubeconfig").read_text()
    assert f"127.0.0.1:{platform.git_port}" in platform.tidemill("status").stdout


def test_unknown_names_come_with_a_hint(platform):
    for args in (["app", "show", "nobody"], ["app", "delete", "nobody"], ["pipeline", "list", "nobody"], ["pipeline", "show", "999"]):
        result = platform.tidemill(*args, check=False)
        assert result.returncode == 1 and "there is no" in result.stderr and "hint:" in result.stderr, args


def test_app_shows_pods_and_pipelines(platform):
    platform.tidemill("app", "create", "shown")
    listed = {app["name"]: app for app in json.loads(platform.tidemill("app", "list", "-o", "json").stdout)["items"]}
    assert listed["shown"]["pods"] == 0 and "lastPipeline" not in listed["shown"]
    assert "No pipeline yet" in platform.tidemill("app", "show", "shown").stdout
    platform.tidemill("app", "delete", "shown")


def test_status_as_json(platform):
    status = json.loads(platform.tidemill("status", "-o", "json").stdout)
    assert status["ready"] and {role["name"] for role in status["roles"]} == {"supervisor", "core", "node", "gateway", "monitor"}
