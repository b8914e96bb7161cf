"""The layout of the house: who may import whom, and what lies where."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "src" / "lookback"

# Which topics of the library a topic may import. The course's own subject points one way:
# masks ← efficient ← attention ← seq2seq, transformer ← decoding.
MAY_IMPORT = {
    "masks": set(),
    "efficient": {"masks"},
    "positions": set(),
    "attention": {"masks", "efficient", "positions"},
    "recurrent": set(),
    "gradients": {"recurrent"},
    "seq2seq": {"masks", "efficient", "attention", "recurrent"},
    "transformer": {"masks", "efficient", "attention", "positions"},
    "decoding": {"masks", "efficient", "attention", "seq2seq", "transformer"},
    "data": set(),
    "metrics": set(),
    "training": set(),
    "measure": set(),
    "plots": {"measure"},
    "checks": set(),
    "claims": {"measure"},
}


def imports(path: Path) -> set[str]:
    """Full names of what a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def topic(path: Path) -> str:
    """The topic that a file of the library belongs to: its module or its package."""
    first = path.relative_to(LIBRARY).parts[0]
    return first.removesuffix(".py")


def library_files() -> list[Path]:
    return sorted(path for path in LIBRARY.rglob("*.py") if path != LIBRARY / "__init__.py")


@pytest.mark.parametrize("path", library_files(), ids=lambda p: str(p.relative_to(LIBRARY)))
def test_the_library_imports_in_one_direction(path):
    own = topic(path)
    assert own in MAY_IMPORT, f"{own} has no place in the house yet: say what it may import"
    used = {name.split(".")[1] for name in imports(path) if name.startswith("lookback.")}
    reverse = used - MAY_IMPORT[own] - {own}
    assert not reverse, f"{own} imports {sorted(reverse)}, against the direction of the house"


@pytest.mark.parametrize(
    ("package", "stranger"), [("lookback", "proctor"), ("proctor", "lookback")]
)
def test_library_and_engine_know_nothing_of_each_other(package, stranger):
    for path in (ROOT / "src" / package).rglob("*.py"):
        used = {name for name in imports(path) if name.split(".")[0] == stranger}
        assert not used, f"{path.relative_to(ROOT)} imports {sorted(used)}"


def test_only_plots_imports_matplotlib():
    for path in library_files():
        if topic(path) != "plots":
            used = {name for name in imports(path) if name.startswith("matplotlib")}
            assert not used, f"{path.relative_to(ROOT)} imports {sorted(used)}"


def test_importing_the_library_loads_no_submodule_and_no_heavy_package():
    code = (
        "import sys, lookback\n"
        "own = [n for n in sys.modules if n.startswith('lookback.')]\n"
        "heavy = {'matplotlib', 'sklearn', 'babel', 'accelerate'} & set(sys.modules)\n"
        "print(own + sorted(heavy))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_files_of_the_library_stay_small():
    long = {p: len(p.read_text("utf-8").splitlines()) for p in library_files()}
    long = {str(p.relative_to(ROOT)): n for p, n in long.items() if n > 330}
    assert not long, f"about 300 lines is a file's size here: {long}"


def test_a_chapter_has_one_name_in_every_room():
    chapters = {path.name for path in (ROOT / "book").glob("[0-9][0-9]_*")}
    exercises = {path.name for path in (ROOT / "exercises").glob("[0-9][0-9]_*")}
    solutions = {path.name for path in (ROOT / "solutions").glob("[0-9][0-9]_*")}
    assert exercises == solutions
    assert exercises <= chapters
    for name in solutions:
        topic_name = name.partition("_")[2]
        assert (ROOT / "solutions" / name / f"{topic_name}.py").is_file()
        assert (ROOT / "solutions" / name / "misconceptions.py").is_file()
        assert (ROOT / "exercises" / name / f"{topic_name}.ipynb").is_file()


def test_requirements_are_exact_and_name_no_address():
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        requirement = line.partition(";")[0].strip()
        assert "==" in requirement, f"not pinned: {line}"
        assert "//" not in line
        assert not line.startswith("-"), f"an option, not a pin: {line}"
        assert "+" not in requirement, f"a build tag that other systems lack: {line}"
