"""The shape of the tree: who may include whom, and the sizes at which one should stop and think."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

# The floors of ARCHITECTURE.md. A folder may include the public header of a folder on a lower floor, and its own files.
FLOORS = {
    "base": 0,
    "codec": 1, "sys": 1,
    "loop": 2, "kube": 2,
    "http": 3, "store": 3,
    "client": 4,
    "api": 5, "control": 5, "forge": 5, "registry": 5, "runtime": 5, "podnet": 5, "proxy": 5, "tsdb": 5,
    "supervisor": 6, "core": 6, "node": 6, "gateway": 6, "monitor": 6,
    "cli": 7,
}
# A static program of its own for the inside of containers: base only.
OUTSIDE = {"job": {"base"}}
GENERATED = {"kube_types.h", "kube_tables.h"}

FORBIDDEN = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|strtok|gets|atoi|atol|atoll|alloca|system|popen|strtol|strtoul|strtoll|strtoull)\s*\(")
LINE_MAX, FILE_MAX, FUNCTION_MAX = 160, 1000, 80


def sources(*suffixes):
    listed = subprocess.run(["git", "ls-files", "src", "schema", "fuzz"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [ROOT / name for name in listed if name.endswith(suffixes) and (ROOT / name).exists()]


def without_comments_and_strings(text):
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(\\.|[^"\\\n])*"|\'(\\.|[^\'\\])+\'', lambda m: "\n" * m.group(0).count("\n"), text, flags=re.S)


def test_every_folder_has_a_floor_a_readme_and_a_public_header():
    for folder in sorted(path for path in SRC.iterdir() if path.is_dir()):
        assert folder.name in FLOORS or folder.name in OUTSIDE, f"src/{folder.name}: give it a floor here and in ARCHITECTURE.md"
        assert (folder / "README.md").exists(), f"src/{folder.name} has no README.md"
        if folder.name in FLOORS:
            assert (folder / f"{folder.name}.h").exists(), f"src/{folder.name} has no {folder.name}.h"


def test_includes_respect_the_floors():
    wrong = []
    for path in sources(".c", ".h"):
        if not path.is_relative_to(SRC) or path.parent == SRC:
            continue
        folder = path.relative_to(SRC).parts[0]
        for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), flags=re.M):
            if included in GENERATED or included in ("unit.h", "faults.h"):
                continue
            other, _, name = included.rpartition("/")
            if other == folder:
                continue
            where = f"{path.relative_to(ROOT)} includes {included}"
            if folder in OUTSIDE:
                if other not in OUTSIDE[folder]:
                    wrong.append(f"{where}: src/{folder} may use {sorted(OUTSIDE[folder])} only")
            elif other not in FLOORS:
                wrong.append(f"{where}: no such folder")
            elif FLOORS[other] >= FLOORS[folder]:
                wrong.append(f"{where}: floor {FLOORS[folder]} may not use floor {FLOORS[other]}")
            elif name != f"{other}.h":
                wrong.append(f"{where}: only {other}/{other}.h is public")
    assert not wrong, "\n".join(wrong)


def test_libraries_link_only_lower_floors():
    wrong = []
    for path in sorted(SRC.glob("*/CMakeLists.txt")):
        match = re.search(r"tidemill_library\(\s*(\w+)([^)]*)\)", path.read_text())
        if not match or match.group(1) not in FLOORS:
            continue
        name, rest = match.group(1), match.group(2)
        uses = re.search(r"USES((?:\s+[a-z]+)*)", rest)
        for other in uses.group(1).split() if uses else []:
            if FLOORS.get(other, 99) >= FLOORS[name]:
                wrong.append(f"{path.relative_to(ROOT)}: {name} uses {other}")
    assert not wrong, "\n".join(wrong)


def test_no_function_is_declared_by_two_folders():
    """Libraries are static: with the same name in two of them, one silently calls the other's."""
    declared = {}
    for path in sources(".h"):
        for name in re.findall(r"^(?!static|typedef|#)\w[\w \*]*?\b\*?(\w+)\(", without_comments_and_strings(path.read_text()), re.MULTILINE):
            declared.setdefault(name, set()).add(path.parent.name)
    twice = {name: folders for name, folders in declared.items() if len(folders) > 1 and not name.startswith("__") and name != "DEFINE_CLEANUP"}
    assert not twice, twice


def test_forbidden_functions():
    wrong = []
    for path in sources(".c", ".h"):
        for number, line in enumerate(without_comments_and_strings(path.read_text()).splitlines(), 1):
            for match in FORBIDDEN.finditer(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {match.group(1)}")
    assert not wrong, "\n".join(wrong)


def test_sizes():
    wrong = []
    for path in sources(".c", ".h"):
        lines = path.read_text().splitlines()
        if len(lines) > FILE_MAX:
            wrong.append(f"{path.relative_to(ROOT)}: {len(lines)} lines, at most {FILE_MAX}")
        wrong += [f"{path.relative_to(ROOT)}:{number}: {len(line)} columns, at most {LINE_MAX}" for number, line in enumerate(lines, 1) if len(line) > LINE_MAX]
    assert not wrong, "\n".join(wrong)


def test_functions_are_short():
    names = [str(path) for path in sources(".c")]
    tags = subprocess.run(["ctags", "-f", "-", "--languages=C", "--kinds-C=f", "--fields=+ne", "--sort=no", "-L", "-"], input="\n".join(names),
                          capture_output=True, text=True, check=True).stdout
    wrong, seen = [], 0
    for tag in tags.splitlines():
        fields = dict(field.split(":", 1) for field in tag.split("\t")[3:] if ":" in field)
        if "line" not in fields or "end" not in fields:
            continue
        seen += 1
        length = int(fields["end"]) - int(fields["line"]) + 1
        if length > FUNCTION_MAX:
            wrong.append(f"{tag.split(chr(9))[1]}:{fields['line']}: {tag.split(chr(9))[0]} has {length} lines, at most {FUNCTION_MAX}")
    assert seen > 100, "ctags found hardly any function: is it universal-ctags?"
    assert not wrong, "\n".join(wrong)


def test_every_parser_has_a_fuzz_target():
    present = {path.stem for path in (ROOT / "fuzz").glob("*.c")}
    needed = {"json", "yaml", "http1", "layer", "manifest", "pipeline", "kube_decode", "protobuf", "json_patch", "strategic_merge", "apply", "selector", "custom_schema", "spdy", "websocket"}
    assert needed <= present, f"missing: {sorted(needed - present)}"


def test_platforms_of_end_to_end_tests_have_addresses_of_their_own():
    """Files run side by side: two with one number would take each other's range."""
    users = {}
    for path in (ROOT / "tests/e2e").glob("*.py"):
        for number in re.findall(r'\b(?:running|Platform)\("\w+", (\d+)\)', path.read_text()):
            assert 147 <= int(number) <= 175, f"{path.name}: {number} is not in the range that a lane has"
            users.setdefault(number, set()).add(path.name)
    assert len(users) > 10
    assert not {number: files for number, files in users.items() if len(files) > 1}


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "HACK"])
def test_no_unfinished_marks(word):
    found = [str(path.relative_to(ROOT)) for path in sources(".c", ".h") if re.search(rf"\b{word}\b", path.read_text())]
    assert not found, f"{word} in {found}: finish it, or file an issue"
