"""The class report counts right, names what is odd, and is safe to open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from browsing import audited, opened, started
from proctor import findings, release, report
from proctor.exercise import Exercise
from proctor.records import OUTCOMES, CheckResult, Note, Record

CORPUS = Path(__file__).resolve().parent / "corpus" / "intake"


@cache
def numbers() -> Exercise:
    return Exercise.read(release.read_source(CORPUS / "exercise.py"), "00_numbers")


def record(student: str, *said: str, **changes) -> Record:
    """A record from what each check said: nothing where it passed, ``-`` where it was left out."""
    checks = []
    for part, message in zip(numbers().checks, said, strict=True):
        outcome = {"": "passed", "-": "missing"}.get(message, "failed")
        earned = part.points if outcome == "passed" else 0
        checks.append(CheckResult(part.grade_id, earned, part.points, outcome, message))
    values = {"assignment": "00_numbers", "key": student, "seed": f"seed {student}"}
    values |= {"isolation": "jail", "versions": {"proctor": "1"}, "checks": tuple(checks)}
    return Record(student=student, **values | changes)


SIGN = "the sign is lost"
CLASS = [
    record("ada", "", "", "", ""),
    record("bob", "", f"{SIGN}\nfor x = -1", "", "truncated"),
    record("cleo", f"{SIGN}\nfor x = -2", SIGN, "-", "-"),
    record("dan", "", SIGN, "", "truncated", intake=(Note("a test cell was put back", "x"),)),
    record("eve", "-", "-", "-", "-", reason="the file is empty"),
    record("finn", "", "", "", "", integrity=(Note("a banned name was used", "math.ldexp"),)),
]


def words(html: str) -> str:
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_equal_diagnoses_of_a_task_are_one_mistake_and_each_student_counts_once():
    first, second = findings.mistakes(CLASS)
    assert (first.diagnosis, first.students) == (SIGN, ("bob", "cleo", "dan"))
    assert first.checks == ("double__others", "double__small")
    assert first.lost == 2 + (1 + 2) + 2
    assert (second.diagnosis, second.students) == ("truncated", ("bob", "dan"))
    said = words(report.render(CLASS, numbers()))
    assert said.index("3 of 5 · the sign is lost") < said.index("2 of 5 · truncated")


def test_the_same_words_in_two_tasks_are_two_mistakes():
    both = [record("ada", "it is 0", "", "it is 0", "")]
    assert [m.task for m in findings.mistakes(both)] == ["double", "half"]


def test_pass_rates_count_those_who_could_be_run():
    rates = {r.grade_id: (r.passed, r.of) for r in findings.rates(CLASS)}
    assert rates == {
        "double__small": (4, 5),
        "double__others": (2, 5),
        "half__even": (4, 5),
        "half__odd": (2, 5),
    }


def test_partial_points_are_no_pass():
    half = replace(CLASS[0].checks[1], earned=1, outcome="failed")
    partly = replace(CLASS[0], checks=(CLASS[0].checks[0], half, *CLASS[0].checks[2:]))
    assert findings.rates([partly])[1].passed == 0
    assert findings.scores([partly]).shares == (5 / 6,)


def test_scores_fall_into_tenths_and_full_marks_into_the_last():
    scores = findings.scores(CLASS)
    assert scores.bins == (1, 0, 0, 2, 0, 0, 0, 0, 0, 2)
    assert scores.median == pytest.approx(2 / 6)
    assert scores.mean == pytest.approx((6 + 2 + 0 + 2 + 6) / 30)
    assert findings.scores([]).bins == (0,) * 10


def test_a_check_that_nobody_fails_or_passes_is_named():
    class_ = [record("ada", "", "no", "", ""), record("bob", "", "no", "", "x")]
    said = words(report.render(class_, numbers()))
    assert "2 checks that nobody failed" in said
    assert "Nobody passed double__others : is the check right?" in said


def test_a_check_that_gives_two_outcomes_for_one_code_is_flaky():
    steady = [record("ada", "", "", "", ""), record("ada", "", "", "", "")]
    assert findings.flaky(steady) == set()
    moved = record("ada", "", "", "", "now it fails")
    assert findings.flaky([steady[0], moved]) == {"half__odd"}
    # another seed, version or level is another run
    for change in ({"seed": "x"}, {"versions": {"proctor": "2"}}, {"isolation": "limits"}):
        assert findings.flaky([steady[0], replace(moved, **change)]) == set()
    html = report.render(CLASS, numbers(), again=[replace(CLASS[0], checks=moved.checks)])
    assert "Flaky: half__odd gave two outcomes" in words(html)


def test_repairs_integrity_notes_and_failures_are_told_by_student():
    said = words(report.render(CLASS, numbers(), odd=["readme.txt: a file"]))
    for expected in (
        "A test cell was put back: 1",
        "dan: x",
        "A banned name was used: 1",
        "finn: math.ldexp",
        "eve: the file is empty",
        "readme.txt: a file",
        "Half as much: 1",  # left unanswered, by cleo
        "6 submissions",
        "1 could not be graded",
    ):
        assert expected in said, expected


@pytest.mark.parametrize("level", ["jail", "namespaces", "landlock"])
def test_the_isolation_level_is_named_without_a_warning(level):
    said = words(report.render([replace(r, isolation=level) for r in CLASS], numbers()))
    assert f"level {level}" in said
    assert "Graded without walls" not in said


@pytest.mark.parametrize("level", ["limits", "none"])
def test_a_run_without_walls_carries_the_warning(level):
    class_ = [*CLASS[:5], replace(CLASS[5], isolation=level)]
    said = words(report.render(class_, numbers()))
    assert "Graded without walls" in said
    assert "1 of 6 submissions ran" in said
    assert "proctor doctor" in said


def test_an_empty_class_has_a_report(tmp_path):
    assert "There are no submissions yet" in words(report.render([], numbers()))
    only = words(report.render([CLASS[4]], numbers()))
    assert "1 submission " in only
    path = report.write(tmp_path / "reports" / "numbers.html", CLASS, numbers())
    assert path.read_text("utf-8") == report.render(reversed(CLASS), numbers())


texts = st.text(st.characters(), max_size=30)


@given(texts, texts, st.sampled_from(sorted(OUTCOMES)), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_any_records_make_a_report_whose_text_is_only_text(name, message, outcome, earned):
    checks = (CheckResult(f"{name}__x", earned, 1, outcome, message),)
    note = (Note(message, name),)
    one = Record("00_numbers", name, "k", "s", "limits", {}, checks, (), note, note)
    html = report.render([*CLASS, one, replace(one, reason=message)], numbers(), odd=[name])
    html.encode("utf-8")
    tags = set(re.findall(r"<([a-z0-9]+)", html))
    assert not tags & {"script", "iframe", "link", "object", "embed", "form", "base", "img"}


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[object]:
    with started(chromium) as browser:
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_is_accessible_asks_for_nothing_and_fits_a_phone(browser, tmp_path, scheme):
    attack = "<img src=x onerror=\"document.title = 'ran'\"><script>document.title = 'ran'</script>"
    hostile = record(attack, attack, "", "", "", intake=(Note(attack, attack),), isolation="limits")
    unread = replace(hostile, student=f"{attack} 2", key="2", reason=attack)
    path = report.write(
        tmp_path / "report.html", [*CLASS, hostile, unread], numbers(), odd=[attack]
    )
    tab, events = opened(browser, path, 390, scheme)
    tab.wait_for_timeout(50)
    assert events == []
    assert tab.title() == "Numbers · class report"
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.close()
    assert audited(browser, path, scheme) == ""
