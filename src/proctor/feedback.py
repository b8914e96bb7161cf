"""What a student gets back: points, what went wrong and where to look, beside their own code.

Nothing of a check's source is shown, hidden or not, and nothing that the student wrote is active:
text is escaped, images are checked, and the page's policy forbids everything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from proctor.exercise import Exercise
from proctor.files import write_whole
from proctor.page import CODE_STYLE, bar, code, count, image, page, pre, text
from proctor.records import OUTCOMES, Cell, CheckResult, Note, Output, Record

MANY = 40  # cells of their own that a student finds again here
STYLE = (
    CODE_STYLE
    + """
.score { font-size: 1.15rem; margin: .75rem 0 .35rem; }
.score strong { font-size: 2rem; line-height: 1.1; }
.state { white-space: nowrap; }
.check { border-left: .3rem solid var(--bad); }
.check h3 { display: flex; gap: .75rem; justify-content: space-between; margin: 0 0 .4rem;
  font-size: .95rem; }
.check .diagnosis { font-weight: 600; }
.check .more { white-space: pre-wrap; font-size: .9rem; margin: .35rem 0 0; }
.passed { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.25rem; }
"""
)


def render(record: Record, exercise: Exercise) -> str:
    """The page of one student.

    Args:
        record: what the submission earned.
        exercise: its titles, and which cells are the exercise's own; no source is shown of it.

    Returns:
        A whole HTML document, whatever the record holds.
    """
    title = exercise.title("") or record.assignment
    parts = [_head(record, title)]
    if record.reason:
        parts.append(
            '<section class="card stop"><h2>This could not be graded</h2>'
            f"<p>{text(record.reason)}</p></section>"
        )
    parts.append(_overview(record, exercise))
    parts.append(_notes("Please note", record.integrity))
    parts.append(_notes("Repaired in your file", record.intake))
    cells = {cell.grade_id: cell for cell in record.cells if cell.grade_id}
    for number, (task, checks) in enumerate(record.tasks().items(), 1):
        parts.append(_task(number, exercise.title(task), checks, exercise, cells.get(task)))
    parts.append(_others(record, exercise))
    return page(f"{title} · {record.student}", "\n".join(filter(None, parts)), STYLE)


def write(folder: Path, record: Record, exercise: Exercise) -> Path:
    """Write a page to ``folder/STUDENT/NN_name/name.html``, where nbgrader looks for feedback.

    Returns:
        Where it lies.

    Raises:
        ValueError: if the student's name cannot be a folder's.
        StoreError: if the place cannot be written to.
    """
    name = record.student
    if name in ("", ".", "..") or set(name) & set("/\0"):
        raise ValueError(f"{name!r} cannot be the name of a folder")
    file = f"{record.assignment.partition('_')[2] or record.assignment}.html"
    path = Path(folder) / name / record.assignment / file
    write_whole(path, render(record, exercise).encode("utf-8", "replace"))
    return path


def _head(record: Record, title: str) -> str:
    share = record.earned / record.points if record.points else 0.0
    return (
        f'<header><h1>{text(title)}</h1><p class="soft">{text(record.student)} · '
        f"{text(record.assignment)}</p>"
        f'<p class="score"><strong>{count(record.earned)}</strong> of {count(record.points)} '
        f"points</p>{bar(share)}</header>"
    )


def _overview(record: Record, exercise: Exercise) -> str:
    rows = []
    for number, (task, checks) in enumerate(record.tasks().items(), 1):
        earned, points = sum(c.earned for c in checks), sum(c.points for c in checks)
        rows.append(
            f'<tr><th scope="row"><a href="#task-{number}">{text(exercise.title(task))}</a></th>'
            f'<td class="state">{_state(checks)}</td>'
            f'<td class="number">{count(earned)} of {count(points)}</td></tr>'
        )
    return (
        '<div class="table card"><table><caption class="soft small">Points by task</caption>'
        '<thead><tr><th scope="col">Task</th><th scope="col">Checks passed</th>'
        '<th scope="col" class="number">Points</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _state(checks: Iterable[CheckResult]) -> str:
    outcomes = [check.outcome for check in checks]
    passed = outcomes.count("passed")
    if passed == len(outcomes):
        return f'<span class="good">✓ all {passed}</span>'
    if set(outcomes) == {"missing"}:
        return '<span class="soft">– not answered</span>'
    return f'<span class="bad">✗ {passed} of {len(outcomes)}</span>'


def _notes(title: str, notes: tuple[Note, ...]) -> str:
    if not notes:
        return ""
    items = "".join(
        f"<li><strong>{text(note.kind.capitalize())}:</strong> {text(note.text)}</li>"
        for note in notes
    )
    return f'<section class="card note"><h2>{title}</h2><ul>{items}</ul></section>'


def _task(
    number: int,
    title: str,
    checks: tuple[CheckResult, ...],
    exercise: Exercise,
    cell: Cell | None,
) -> str:
    earned, points = sum(c.earned for c in checks), sum(c.points for c in checks)
    lost = [check for check in checks if check.outcome != "passed"]
    passed = [check for check in checks if check.outcome == "passed"]
    body = [
        f'<section aria-labelledby="task-{number}"><h2 id="task-{number}">'
        f'{text(title)} <span class="soft number">{count(earned)} of {count(points)}'
        "</span></h2>"
    ]
    if lost and all(check.outcome == "missing" for check in lost) and not passed:
        body.append(f'<p class="card">{text(lost[0].message or OUTCOMES["missing"])}</p>')
    else:
        body += _merged(lost, exercise)
    if passed:
        items = "".join(
            f'<li><span class="good" aria-hidden="true">✓</span> {_name(c, exercise)} '
            f'<span class="soft">{count(c.points)}</span></li>'
            for c in passed
        )
        body.append(f'<h3>Passed</h3><ul class="passed small">{items}</ul>')
    if cell is not None and cell.source.strip():
        answer = _code(cell, title)
        folded = f"<details><summary>Your answer</summary>{answer}</details>"
        body.append(f"<h3>Your answer</h3>{answer}" if lost else folded)
    body.append("</section>")
    return "".join(body)


def _merged(checks: list[CheckResult], exercise: Exercise) -> list[str]:
    """A card for each thing that went wrong; checks that say the same share one."""
    groups: dict[tuple[str, str, str], list[CheckResult]] = {}
    for check in checks:
        groups.setdefault((check.outcome, check.message, check.counterexample), []).append(check)
    return [_check(group, exercise) for group in groups.values()]


def _check(checks: list[CheckResult], exercise: Exercise) -> str:
    first = checks[0]
    earned, points = sum(c.earned for c in checks), sum(c.points for c in checks)
    names = ", ".join(_name(check, exercise) for check in checks)
    more = first.message.strip().partition("\n")[2].strip("\n")
    body = (
        f'<div class="card check"><h3><span><span class="bad" aria-hidden="true">✗</span> {names}'
        f'</span><span class="number">{count(earned)} of {count(points)}</span></h3>'
        f'<p class="diagnosis">{text(first.diagnosis or OUTCOMES[first.outcome])}</p>'
    )
    if more:
        body += f'<p class="more">{text(more)}</p>'
    if first.counterexample:
        label = "Where it came from" if first.outcome == "error" else "An example"
        body += f'<p class="soft small">{label}</p>{pre(text(first.counterexample), label)}'
    return body + "</div>"


def _name(check: CheckResult, exercise: Exercise) -> str:
    part = exercise.by_name.get(check.grade_id)
    name = check.grade_id.partition("__")[2].replace("_", " ") or check.grade_id
    hidden = ' <span class="soft">(hidden check)</span>' if part and part.hidden else ""
    return text(name) + hidden


def _code(cell: Cell, title: str) -> str:
    body = pre(code(cell.source), f"Your code: {title}")
    if cell.error:
        label = "It stopped with this error when it was graded"
        body += f'<p class="small bad">{label}</p>{pre(text(cell.error), label)}'
    if cell.printed.strip():
        label = "It printed this when it was graded"
        body += f'<p class="small soft">{label}</p>{pre(text(cell.printed), label)}'
    return body + _outputs([o for o in cell.outputs if o.data.strip() != cell.printed.strip()])


def _outputs(outputs: Iterable[Output]) -> str:
    shown = []
    for output in outputs:
        if output.kind in ("png", "jpeg"):
            shown.append(image(output.kind, output.image(), "A figure saved in your notebook"))
        elif output.data.strip():
            shown.append(pre(text(output.data), "Output saved in your notebook"))
    markup = "".join(shown)
    return f"<details><summary>Saved outputs</summary>{markup}</details>" if markup else ""


def _others(record: Record, exercise: Exercise) -> str:
    """The cells that the student added; the exercise's own examples are left out."""
    given = {source.strip() for source in exercise.examples}
    cells = [c for c in record.cells if not c.grade_id and c.source.strip() not in given]
    if not cells:
        return ""
    shown = "".join(_code(cell, f"cell {number}") for number, cell in enumerate(cells[:MANY], 1))
    if len(cells) > MANY:
        shown += f'<p class="soft">{len(cells) - MANY} more are left out.</p>'
    return (
        "<section><h2>Your other cells</h2>"
        f"<details><summary>{len(cells)} that you added; they earn no points</summary>{shown}"
        "</details></section>"
    )
