"""kubectl_commands.txt with each kubectl there is: output shape and exit code of every command a person uses."""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import time

import pytest

from test_kubectl_matrix import BINARIES

SCRIPT = pathlib.Path(__file__).parent / "kubectl_commands.txt"


@dataclasses.dataclass
class Step:
    line: int
    command: str  # "": a file to write
    repeat: bool = False
    file: str = ""
    code: str = "0"  # "*": any
    since: int = 0
    patterns: list = dataclasses.field(default_factory=list)
    input: str = ""


def read_steps():
    steps = []
    for number, line in enumerate(SCRIPT.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("$"):
            steps.append(Step(number, line.lstrip("$ "), repeat=line.startswith("$$")))
        elif line.startswith("write "):
            steps.append(Step(number, "", file=line.split()[1]))
        elif line.startswith("! "):
            steps[-1].code = line[2:]
        elif line.startswith("@ "):
            steps[-1].since = int(line[2:])
        elif line.startswith("< "):
            steps[-1].input += line[2:] + "\n"
        else:
            steps[-1].patterns.append(line)
    return steps


def fill(text, values):
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def find_problem(step, output, code, values):
    """What is not as expected, or None."""
    if step.code != "*" and code != int(step.code):
        return f"exit code {code}, expected {step.code}"
    at = 0
    for pattern in step.patterns:
        found = re.compile(fill(pattern, values).replace("{{", "{").replace("}}", "}"), re.M).search(output, at)
        if not found:
            return f"no {pattern!r}" + (" after what was found before" if at else "")
        at = found.start()
    return None


def run(kubectl, environment, step, values):
    # In this script a blank parts arguments, and _ within a shell's text or a schedule stands for one.
    words = [fill(word, values) for word in step.command.split()]
    words = [word.replace("_", " ") if "--schedule=" in word or index and words[index - 1] in ("-c", "echo") and "--" in words[:index] else word
             for index, word in enumerate(words)]
    result = subprocess.run([kubectl, *words], capture_output=True, text=True, input=fill(step.input, values), env=environment, timeout=120)
    return result.stdout + result.stderr, result.returncode


@pytest.mark.parametrize("minor", sorted(BINARIES))
def test_commands(platform, tiny_image, minor, tmp_path):
    values = {"ns": f"shell-{minor}", "image": tiny_image, "dir": str(tmp_path), "v": str(minor)}
    config = tmp_path / "kubeconfig"
    shutil.copy(platform.state / "kubeconfig", config)
    environment = {**platform.environment(), "KUBECONFIG": str(config), "KUBE_EDITOR": "true", "HOME": str(tmp_path)}
    problems = []
    for step in read_steps():
        if step.since > minor:
            continue
        if step.file:
            (tmp_path / step.file).write_text(fill(step.input, values))
            continue
        deadline = time.monotonic() + 30
        while True:
            output, code = run(BINARIES[minor], environment, step, values)
            problem = find_problem(step, output, code, values)
            if not problem or not step.repeat or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if problem:
            problems.append(f"{SCRIPT.name}:{step.line}: {step.command}\n    {problem}; it printed\n" + "".join(f"    | {line}\n" for line in output.splitlines()[:25]))
    assert not problems, f"{len(problems)} commands went wrong\n" + "\n".join(problems)
