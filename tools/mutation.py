"""Change the library one place at a time and see whether a test notices (mutmut).

The settings are [tool.mutmut] in pyproject.toml. Everything happens to a copy in _build/mutation: a
run that was stopped goes on where it was; remove the folder to begin anew. Ends well where at least
90 % of the changes are killed and tests/lookback/survivors.toml has a reason for each survivor.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tests" / "lookback" / "survivors.toml"
WORK = ROOT / "_build" / "mutation"
COPIED = ("pyproject.toml", "src", "tests", "tools")
TARGET = 90  # per cent of the mutants that are killed or that no test notices; time-outs left out
MISSED = ("survived", "no tests")
INTERRUPTED = "check was interrupted by user"
KINDS = {
    "equivalent": "no input tells the two apart",
    "words": "the wording of a message, whose numbers are tested",
    "cost": "the same result for other time or memory",
    "device": "seen on a GPU only",
}


class Mutant(NamedTuple):
    """One change: where, and the lines before and after, each without their indentation."""

    function: str
    before: str
    after: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="mutants tried side by side")
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        statuses = run(parser.parse_args().jobs)
    except subprocess.CalledProcessError as error:
        print(f"mutmut stopped with status {error.returncode}; what it says stands above")
        return 1
    missed = [describe(_mutmut("show", name)) for name, s in statuses.items() if s in MISSED]
    problems, remarks = judge(statuses, missed, listed(LIST.read_text("utf-8")))
    print(*remarks, *problems, sep="\n")
    return 1 if problems else 0


def run(jobs: int) -> dict[str, str]:
    """Try every mutant that has no verdict, or was missed by tests that have changed since."""
    for name in COPIED:  # the times of files, kept, tell mutmut which have changed
        shutil.rmtree(WORK / name, ignore_errors=True)
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, WORK / name)
    mark, tests, doubtful = WORK / "tests.sha256", digest(WORK / "tests"), (INTERRUPTED,)
    if not mark.is_file() or mark.read_text() != tests:
        doubtful += MISSED
        # mutmut keeps which test reaches which function: let it look again
        (WORK / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    again = {name for name, status in results().items() if status in doubtful}
    try_all = ("run", "--max-children", str(jobs))
    _mutmut(*try_all, shown=True)
    if again := again & set(results()):
        _mutmut(*try_all, *sorted(again), shown=True)
    mark.write_text(tests)
    return results()


def results() -> dict[str, str]:
    """The verdict on every mutant there is so far, by mutmut's name of it."""
    lines = _mutmut("results", "--all", "true").splitlines()
    return dict(line.strip().rsplit(": ", 1) for line in lines if line.startswith("    "))


def describe(shown: str) -> Mutant:
    """A mutant by what it changes, from the difference that ``mutmut show`` prints."""
    head, *lines = shown.splitlines()
    name = head.removeprefix("# ").rpartition(": ")[0]
    module, _, function = name.rpartition("__mutmut_")[0].rpartition(".")
    function = function.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
    body = [line for line in lines if not line.startswith(("---", "+++"))]
    before, after = (
        " ".join(line[1:].strip() for line in body if line.startswith(sign)) for sign in "-+"
    )
    return Mutant(f"{module}.{function}", before, after)


def listed(text: str) -> dict[Mutant, str]:
    """The kind of reason for each survivor of the list.

    Raises:
        ValueError: if an entry has no reason, or one of an unknown kind.
    """
    found = {}
    for entry in tomllib.loads(text).get("survivor", []):
        where, kind = entry["function"], entry.get("kind")
        if kind not in KINDS or not entry.get("why"):
            raise ValueError(f"{where}: a survivor needs a why and a kind of {', '.join(KINDS)}")
        found |= {Mutant(where, *change): kind for change in entry["changes"]}
    return found


def judge(
    statuses: dict[str, str], missed: list[Mutant], known: dict[Mutant, str]
) -> tuple[list[str], list[str]]:
    """What is wrong, and what else there is to say."""
    count = Counter(statuses.values())
    killed, tried = count["killed"], count["killed"] + sum(count[s] for s in MISSED)
    share = 100 * killed / tried if tried else 0.0
    kinds = Counter(known[m] for m in missed if m in known)
    remarks = ["", f"{killed} of {tried} mutants killed, {share:.1f} %"]
    remarks += [f"  {count[s]} {s}" for s in sorted(count) if s != "killed"]
    remarks += [f"  {n} listed as {kind}: {KINDS[kind]}" for kind, n in sorted(kinds.items())]
    if count["not checked"] or count[INTERRUPTED]:
        return ["the run was stopped before its end: run it again, it goes on from here"], remarks
    remarks += [f"killed by now, strike it off {LIST.name}: {m}" for m in known if m not in missed]
    problems = [f"only {share:.1f} % are killed, {TARGET} % are asked for"] * (share < TARGET)
    new = [m for m in missed if m not in known]
    problems += [f"no test notices: {m.function}\n  - {m.before}\n  + {m.after}" for m in new]
    if new:
        problems += [f"write the test that does, or list them with a reason in {LIST.name}"]
    return problems, remarks


def digest(folder: Path) -> str:
    """Hash of the Python files of a folder."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.py"))}
    return hashlib.sha256(repr(files).encode()).hexdigest()


def _mutmut(*arguments: str, shown: bool = False) -> str:
    command = [Path(sys.executable).with_name("mutmut"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # a fork of torch's threads would hang
    out = None if shown else subprocess.PIPE
    done = subprocess.run(command, cwd=WORK, env=environment, check=True, stdout=out, text=True)
    return done.stdout or ""


if __name__ == "__main__":
    sys.exit(main())
