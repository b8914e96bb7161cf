"""The class report: one page for the instructor, with everything in it.

Names and diagnoses come from students' files; they are escaped, and the page's policy stops what
else there might be (:mod:`proctor.page`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from proctor import findings
from proctor.exercise import Exercise
from proctor.files import write_whole
from proctor.findings import Mistake, Noted, Rate
from proctor.histogram import HISTOGRAM_STYLE, histogram
from proctor.page import bar, count, page, text
from proctor.records import Record

SHOWN = 12  # mistakes that are shown before the rest is folded away
WALLS = {
    "jail": "in a jail and in namespaces of their own",
    "namespaces": "in namespaces of their own",
    "landlock": "under Landlock rules",
    "limits": "under resource limits only",
    "none": "without walls",
}
WARNING = (
    "Students' code could read and write whatever the grader could, and could reach the network. "
    "Scores that were earned this way are only as honest as the code. See what this machine offers "
    "with `proctor doctor`, and grade again."
)
STYLE = """
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); gap: .75rem;
  margin: 1rem 0; padding: 0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .7rem .8rem; font-size: .9rem; line-height: 1.35; }
.tiles strong { display: block; font-size: 1.55rem; line-height: 1.25; }
.mistakes { list-style: none; padding: 0; }
.mistakes .card { margin: .6rem 0; padding: .75rem 1rem; }
.mistakes .bar { height: .4rem; margin: .5rem 0; }
.mistakes details { margin: .35rem 0 0; }
.badge { border: 1px solid currentColor; border-radius: 1rem; padding: 0 .5rem; font-size: .8rem;
  white-space: nowrap; }
.wide th, .wide td { white-space: nowrap; }
.wide thead th { white-space: normal; min-width: 5.5rem; vertical-align: bottom; }
.rate { width: 32%; min-width: 8rem; }
.rate div { display: flex; gap: .6rem; align-items: center; min-height: 1.55rem; }
.rate .number { min-width: 2.6rem; }
.none { background: var(--bad-ground); } .some { background: var(--warn-ground); }
.full { background: var(--good-ground); }
td.none, td.some, td.full { border-left: 2px solid var(--card); }
"""


def render(
    records: Iterable[Record],
    exercise: Exercise,
    *,
    odd: Sequence[str] = (),
    again: Iterable[Record] = (),
) -> str:
    """The report of one exercise.

    Args:
        records: one a student.
        exercise: that they are of.
        odd: what lay among the submissions and was none.
        again: records of further runs of the same submissions; checks that differ are flaky.

    Returns:
        A whole HTML document, whatever the records hold.
    """
    class_ = sorted(records, key=lambda record: record.student)
    title = exercise.title("") or exercise.assignment
    parts = [
        f'<header><h1>{text(title)}</h1><p class="soft">Class report · '
        f"{text(exercise.assignment)}</p></header>",
        _isolation(class_),
        _tiles(class_),
        histogram(findings.scores(class_)),
        _mistakes(findings.mistakes(class_), len(findings.run(class_)), exercise),
        _checks(findings.rates(class_, again), exercise),
        _unanswered(findings.unanswered(class_), exercise),
        _ungraded(class_, odd),
        _noted("Integrity notes", INTEGRITY, findings.integrity(class_)),
        _noted("Repairs", REPAIRS, findings.repairs(class_)),
        _students(class_, exercise),
    ]
    return page(f"{title} · class report", "\n".join(filter(None, parts)), STYLE + HISTOGRAM_STYLE)


def write(
    path: Path,
    records: Iterable[Record],
    exercise: Exercise,
    *,
    odd: Sequence[str] = (),
    again: Iterable[Record] = (),
) -> Path:
    """Write the report to a file, whole or not at all.

    Raises:
        StoreError: if the place cannot be written to.
    """
    html = render(records, exercise, odd=odd, again=again)
    write_whole(Path(path), html.encode("utf-8", "replace"))
    return Path(path)


INTEGRITY = "What a person should look at before the scores are given out."
REPAIRS = "What was put right in the files before they were graded. The students are told as well."


def _isolation(records: list[Record]) -> str:
    levels = [level for level in WALLS if any(r.isolation == level for r in records)]
    if not levels:
        return ""
    if {"limits", "none"} & set(levels):
        weak = [r for r in records if r.isolation in ("limits", "none")]
        said = f"{len(weak)} of {len(records)} submissions ran {WALLS[weak[0].isolation]}."
        return (
            '<section class="card stop"><h2>Graded without walls</h2>'
            f"<p>Isolation level <code>{text(weak[0].isolation)}</code>: {said} {text(WARNING)}"
            "</p></section>"
        )
    said = "; ".join(f"{WALLS[level]} (level {level})" for level in levels)
    return f'<p class="soft">Students’ code ran {said}.</p>'


def _tiles(records: list[Record]) -> str:
    scores = findings.scores(records)
    noted = {record.student for record in records if record.integrity}
    repaired = {record.student for record in records if record.intake}
    tiles = [
        (len(records), "submission" if len(records) == 1 else "submissions"),
        (f"{scores.median:.0%}", "median score"),
        (f"{scores.mean:.0%}", "mean score"),
        (len(records) - len(scores.shares), "could not be graded"),
        (len(repaired), "repaired"),
        (len(noted), "with integrity notes"),
    ]
    items = "".join(f"<li><strong>{number}</strong> {label}</li>" for number, label in tiles)
    return f'<ul class="tiles">{items}</ul>'


def _mistakes(found: list[Mistake], of: int, exercise: Exercise) -> str:
    if not found:
        return ""
    items = [_mistake(mistake, of, exercise) for mistake in found]
    body = f'<ol class="mistakes">{"".join(items[:SHOWN])}</ol>'
    if len(items) > SHOWN:
        body += (
            f"<details><summary>{len(items) - SHOWN} rarer ones</summary>"
            f'<ol class="mistakes">{"".join(items[SHOWN:])}</ol></details>'
        )
    return (
        "<section><h2>Mistakes, the most frequent first</h2>"
        f'<p class="soft">What students were told, of the {of} whose file could be run.</p>'
        f"{body}</section>"
    )


def _mistake(mistake: Mistake, of: int, exercise: Exercise) -> str:
    checks = ", ".join(name.partition("__")[2].replace("_", " ") or name for name in mistake.checks)
    who = len(mistake.students)
    return (
        f'<li class="card"><strong>{who} of {of}</strong> · {text(mistake.diagnosis)}'
        f'{bar(who / of)}<p class="soft small">{text(exercise.title(mistake.task))} · '
        f"{_of(len(mistake.checks), 'check')}: {text(checks)} · "
        f"{count(mistake.lost)} points lost</p>{_who(mistake.students)}</li>"
    )


def _checks(rates: list[Rate], exercise: Exercise) -> str:
    if not rates:
        return ""
    everyone = [rate for rate in rates if rate.of and rate.passed == rate.of]
    nobody = [rate for rate in rates if rate.of and not rate.passed]
    unsteady = [rate for rate in rates if rate.flaky]
    said = ""
    if everyone:
        names = ", ".join(f"<code>{text(rate.grade_id)}</code>" for rate in everyone)
        said += (
            f"<details><summary>{_of(len(everyone), 'check')} that nobody failed</summary>"
            f"<p>{names}. Either everybody has understood, or they test too little: see which "
            "known wrong answers they catch.</p></details>"
        )
    if nobody:
        names = ", ".join(f"<code>{text(rate.grade_id)}</code>" for rate in nobody)
        said += f'<p class="card note">Nobody passed {names}: is the check right?</p>'
    if unsteady:
        names = ", ".join(f"<code>{text(rate.grade_id)}</code>" for rate in unsteady)
        said += (
            f'<p class="card stop">Flaky: {names} gave two outcomes for the same code. Fix the '
            "check and grade again.</p>"
        )
    rows = "".join(_rate(rate, exercise) for rate in rates)
    return (
        f'<section><h2>Checks</h2>{said}<div class="table card" tabindex="0" role="region" '
        'aria-label="Pass rate of each check"><table><thead><tr><th scope="col">Check</th>'
        '<th scope="col" class="number">Points</th><th scope="col" class="number">Passed</th>'
        f'<th scope="col">Share</th></tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _rate(rate: Rate, exercise: Exercise) -> str:
    part = exercise.by_name.get(rate.grade_id)
    badges = ""
    if part is not None and part.hidden:
        badges += ' <span class="badge soft">hidden</span>'
    if rate.flaky:
        badges += ' <span class="badge bad">flaky</span>'
    return (
        f'<tr><th scope="row">{text(rate.grade_id)}{badges}</th>'
        f'<td class="number">{count(rate.points)}</td>'
        f'<td class="number">{rate.passed} of {rate.of}</td>'
        f'<td class="rate"><div>{bar(rate.share)}<span class="number">{rate.share:.0%}</span></div>'
        "</td></tr>"
    )


def _unanswered(found: dict[str, tuple[str, ...]], exercise: Exercise) -> str:
    if not found:
        return ""
    items = "".join(
        f"<details><summary>{text(exercise.title(task))}: {len(students)}</summary>"
        f"<p>{text(', '.join(students))}</p></details>"
        for task, students in found.items()
    )
    return f"<section><h2>Left unanswered</h2>{items}</section>"


def _ungraded(records: list[Record], odd: Sequence[str]) -> str:
    failed = [record for record in records if record.reason]
    if not (failed or odd):
        return ""
    items = "".join(f"<li>{text(r.student)}: {text(r.reason)}</li>" for r in failed)
    items += "".join(f"<li>{text(sentence)}</li>" for sentence in odd)
    return (
        '<section class="card note"><h2>Not graded</h2>'
        f"<p>These files hold nothing that could be run.</p><ul>{items}</ul></section>"
    )


def _noted(title: str, about: str, groups: list[Noted]) -> str:
    if not groups:
        return ""
    items = []
    for group in groups:
        lines = "".join(
            f"<li>{text(student)}: {text(said[:400])}</li>" for student, said in group.notes
        )
        items.append(
            f"<details><summary>{text(group.kind.capitalize())}: {len(group.students)}</summary>"
            f"<ul>{lines}</ul></details>"
        )
    return f'<section><h2>{title}</h2><p class="soft">{about}</p>{"".join(items)}</section>'


def _students(records: list[Record], exercise: Exercise) -> str:
    if not records:
        return '<p class="card">There are no submissions yet.</p>'
    tasks = list(dict.fromkeys(check.task for record in records for check in record.checks))
    head = "".join(f'<th scope="col">{text(exercise.title(task))}</th>' for task in tasks)
    rows = []
    for record in records:
        by_task = record.tasks()
        cells = "".join(_cell(by_task.get(task, ())) for task in tasks)
        share = record.earned / record.points if record.points else 0.0
        rows.append(
            f'<tr><th scope="row">{text(record.student)}</th>'
            f'<td class="number">{count(record.earned)} of {count(record.points)}</td>'
            f'<td class="number">{share:.0%}</td>{cells}</tr>'
        )
    return (
        '<section><h2>Students</h2><div class="table card wide" tabindex="0" role="region" '
        'aria-label="Points of each student by task"><table><thead><tr><th scope="col">Student</th>'
        f'<th scope="col" class="number">Points</th><th scope="col" class="number">Share</th>{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _cell(checks: Sequence) -> str:
    earned, points = sum(c.earned for c in checks), sum(c.points for c in checks)
    kind = "full" if earned == points else "some" if earned else "none"
    return f'<td class="{kind}">{count(earned)} of {count(points)}</td>'


def _who(students: Sequence[str]) -> str:
    names = text(", ".join(students))
    return f'<details class="small"><summary>Who</summary><p>{names}</p></details>'


def _of(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
