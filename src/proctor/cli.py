"""The command line: grade, check, show, regrade, doctor. Every error says what to do."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from proctor.terminal import console, plain, points, show_outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Marks notebooks behind walls. Exit status 0: every submission has a record.",
)

Root = Annotated[Path, typer.Option(help="The course: it holds solutions/.")]
Submitted = Annotated[
    Path | None, typer.Option(help="Folder of STUDENT/NN_name/name.ipynb; default ROOT/submitted.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Workers side by side.")]
Isolation = Annotated[
    str | None, typer.Option(help="jail, namespaces, landlock or limits; default the strongest.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Database = Annotated[
    str | None, typer.Option(help="nbgrader's gradebook; default sqlite in ROOT/gradebook.db.")
]


@app.command()
def grade(
    assignment: str,
    submitted: Submitted = None,
    jobs: Jobs = 2,
    isolation: Isolation = None,
    as_json: AsJson = False,
    force: Annotated[bool, typer.Option(help="Mark again what has a record.")] = False,
    root: Root = Path("."),
    database: Database = None,
    gradebook: Annotated[bool, typer.Option(help="Write scores into the gradebook.")] = True,
) -> None:
    """Mark every submission of an assignment, and write grades, feedback and the class report."""
    from proctor import course as running

    place = _course(root, submitted)
    url = database or f"sqlite:///{place.root / 'gradebook.db'}"
    with _errors():
        trouble = _gradebook_trouble(url) if gradebook else ""
        if trouble:
            _say(f"The gradebook cannot be written to: {trouble}. Records are kept all the same.")
        meanwhile = _load_gradebook if gradebook and not trouble else None
        outcome = _graded(place, assignment, jobs, isolation, force, as_json, meanwhile)
        running.publish(place, outcome)
        if gradebook and not trouble:
            trouble = _write_gradebook(url, outcome)
            if trouble:
                _say(f"{trouble}. The records are kept: run this again.")
    show_outcome(place, outcome, as_json)
    bad = trouble or outcome.odd or outcome.unwritten or not outcome.records
    raise typer.Exit(1 if bad else 0)


@app.command()
def regrade(
    assignment: str,
    submitted: Submitted = None,
    jobs: Jobs = 2,
    isolation: Isolation = None,
    as_json: AsJson = False,
    write: Annotated[bool, typer.Option("--write", help="Let the new grades count.")] = False,
    root: Root = Path("."),
    database: Database = None,
) -> None:
    """Show whose grade would move with the checks as they are now; write only when told to."""
    from proctor import course as running

    place = _course(root, submitted)
    with _errors():
        outcome = _graded(place, assignment, jobs, isolation, False, as_json)
        moves = running.moved(place, outcome)
        if write:
            running.publish(place, outcome)
            trouble = _write_gradebook(
                database or f"sqlite:///{place.root / 'gradebook.db'}", outcome
            )
            if trouble:
                _say(f"{trouble}. The records are kept: run this again.")
    for sentence in outcome.unwritten:
        _say(f"not written · {sentence}")
    if as_json:
        rows = [{**vars(m), "checks": dict(m.checks)} for m in moves]
        print(json.dumps({"assignment": assignment, "written": write, "moves": rows}))
        return
    table = Table("student", "before", "after", "checks that differ", title=assignment)
    for move in moves:
        checks = ", ".join(f"{n} {a:g} → {b:g}" for n, (a, b) in move.checks.items())
        table.add_row(plain(move.student), points(move.before), points(move.after), checks)
    console.print(table if moves else f"No grade of {assignment} moves.")
    if moves and not write:
        console.print("Nothing was written; add --write to let these grades count.")


@app.command()
def check(
    notebook: Annotated[Path, typer.Argument(help="Your notebook, as you saved it.")],
    as_json: AsJson = False,
) -> None:
    """Run the visible checks of your own notebook, here and without walls."""
    from proctor import check as checking

    with _errors():
        result = checking.check(notebook)
    if as_json:
        print(json.dumps(result.as_dict()))
    else:
        console.print(result.table())
    raise typer.Exit(0 if result.passed else 1)


@app.command()
def show(student: str, assignment: str, as_json: AsJson = False, root: Root = Path(".")) -> None:
    """Show the record of one student that counts."""
    place = _course(root, None)
    with _errors():
        record = place.records.find(assignment, student)
        if record is None:
            raise ValueError(
                f"{student} has no record of {assignment}: run `proctor grade {assignment}`"
            )
    if as_json:
        print(record.to_bytes().decode("ascii"))
        return
    table = Table("check", "points", "outcome", "message", title=f"{plain(student)} · {assignment}")
    for row in record.checks:
        points = f"{row.earned:g} / {row.points:g}"
        table.add_row(plain(row.grade_id), points, row.outcome, plain(row.message))
    console.print(table)
    total = f"{record.earned:g} of {record.points:g} points, isolation level {record.isolation}"
    console.print(f"{total}. {plain(record.reason)}".strip())
    for note in (*record.intake, *record.integrity):
        console.print(f"{note.kind}: {plain(note.text)}")


@app.command(name="doctor")
def examine(as_json: AsJson = False) -> None:
    """Show what walls this machine offers, and how to get the rest."""
    from proctor import doctor

    findings = doctor.examine()
    levels = doctor.offered()
    if as_json:
        print(json.dumps({"levels": levels, "findings": [vars(f) for f in findings]}))
        raise typer.Exit(0 if levels[0] != "limits" else 1)
    table = Table("wall", "works", "found", "what to do", title="Walls on this machine")
    for finding in findings:
        table.add_row(finding.level, "yes" if finding.works else "no", finding.said, finding.mend)
    console.print(table)
    console.print(
        f"proctor grades at level {levels[0]}."
        if levels[0] != "limits"
        else "Nothing better than resource limits: proctor grades only with --isolation limits."
    )
    raise typer.Exit(0 if levels[0] != "limits" else 1)


def _course(root: Path, submitted: Path | None) -> Any:
    from proctor.course import Course

    root = root.resolve()
    return Course(root, (submitted or root / "submitted").resolve())


def _graded(
    place: Any,
    assignment: str,
    jobs: int,
    isolation: str | None,
    force: bool,
    quiet: bool,
    meanwhile: Callable[[], None] | None = None,
):
    from rich.progress import Progress

    from proctor import course as running

    bars = Progress(console=Console(stderr=True), transient=True, disable=quiet)
    others = [threading.Thread(target=meanwhile, daemon=True)] if meanwhile else []

    def told(done: int, total: int) -> None:
        bars.update(bar, completed=done, total=total)
        while others:  # the workers have been started: from now on this process mostly waits
            others.pop().start()

    with bars:
        bar = bars.add_task("grading", total=None)
        return running.grade(
            place, assignment, jobs=jobs, isolation=isolation, force=force, told=told
        )


def _gradebook_trouble(url: str) -> str:
    from proctor import database

    try:
        database.check(url, COURSE)
    except database.GradebookError as error:
        return str(error)
    return ""


def _load_gradebook() -> None:
    from proctor import gradebook

    gradebook.load()


def _write_gradebook(url: str, outcome: Any) -> str:
    """Write the scores; what went wrong, or nothing."""
    from proctor import database, gradebook

    try:
        found = outcome.records.values()
        written = gradebook.write(url, COURSE, outcome.exercise, found, outcome.timestamps)
    except database.GradebookError as error:
        return str(error)
    for note in written.notes:
        _say(note)
    return ""


def _say(sentence: str) -> None:
    print(plain(sentence), file=sys.stderr)


@contextmanager
def _errors() -> Iterator[None]:
    """Errors that a person can mend are one sentence and exit status 2."""
    from proctor.engine import EngineError
    from proctor.store import StoreError

    try:
        yield
    except (ValueError, EngineError, StoreError) as error:
        _say(str(error))
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        _say("Stopped. What was marked is kept: run the same command again to go on.")
        raise typer.Exit(130) from None


COURSE = "lookback"
