"""Every known wrong answer loses points where it should; every right one keeps them all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proctor import kill_matrix, plain, release
from proctor.answers import Misconception, RightAnswer

ROOT = Path(__file__).resolve().parents[2]
ASSIGNMENTS = release.assignments(ROOT)
FEWEST = 31, 21  # misconceptions, right answers

# one worker runs the whole matrix, with processes of its own
pytestmark = pytest.mark.xdist_group("kill_matrix")


@pytest.fixture(scope="module", params=ASSIGNMENTS)
def assignment(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def matrix(assignment) -> dict[str, dict]:
    """The whole matrix, written to ``_build/kill_matrix.json`` as well."""
    rows = kill_matrix.matrix(ROOT, assignment)
    path = ROOT / "_build" / "kill_matrix.json"
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(known | {assignment: rows}, indent=1, ensure_ascii=False), "utf-8")
    return rows


def test_the_reference_earns_everything_and_the_untouched_release_nothing(assignment):
    notebooks = kill_matrix.submissions(ROOT, assignment)
    ends = {name: notebooks[name] for name in ("reference", "untouched")}
    marks = kill_matrix.mark(ROOT, assignment, ends)
    assert not marks["reference"].lost()
    assert marks["reference"].earned == marks["untouched"].points > 0
    assert marks["untouched"].earned == 0


def test_every_misconception_is_killed_in_its_own_check_with_the_right_words(matrix):
    verdicts = {label: row["verdict"] for label, row in matrix.items() if label.startswith("wrong")}
    alive = {label: verdict for label, verdict in verdicts.items() if verdict != "killed"}
    assert not alive, json.dumps(alive, indent=1)


def test_every_right_answer_keeps_every_point(matrix):
    verdicts = {label: row["verdict"] for label, row in matrix.items() if label.startswith("right")}
    refused = {label: verdict for label, verdict in verdicts.items() if verdict != "accepted"}
    assert not refused, json.dumps(refused, indent=1)


@pytest.mark.stress
def test_chance_costs_a_right_answer_nothing(assignment):
    # each note in a cell draws all numbers of all checks anew
    released = release.released_path(ROOT, assignment).read_text("utf-8")
    reference = kill_matrix.reference_answers(ROOT, assignment)
    notebooks = {
        str(i): kill_matrix.submission(
            released, {task: f"{source}\n# {i}" for task, source in reference.items()}
        )
        for i in range(300)
    }
    marks = kill_matrix.mark(ROOT, assignment, notebooks)
    lost = {i: {c: x.message for c, x in m.lost().items()} for i, m in marks.items() if m.lost()}
    assert not lost, json.dumps(lost, indent=1, ensure_ascii=False)


def test_plain_nbgrader_gives_honest_work_the_same_points(assignment):
    honest = honest_work(assignment)
    ours = kill_matrix.mark(ROOT, assignment, honest)
    theirs = plain.autograde(ROOT, assignment, honest)
    for name in honest:
        assert {check: c.earned for check, c in ours[name].checks.items()} == {
            check: c.earned for check, c in theirs[name].checks.items()
        }, name


def honest_work(assignment: str) -> dict[str, str]:
    """Both ends of the scale; one student right in unlike ways, one mistaken throughout."""
    notebooks = kill_matrix.submissions(ROOT, assignment)
    known = kill_matrix.known_answers(ROOT, assignment)
    reference = kill_matrix.reference_answers(ROOT, assignment)
    released = release.released_path(ROOT, assignment).read_text("utf-8")
    chosen = {name: notebooks[name] for name in ("reference", "untouched")}
    for kind in (Misconception, RightAnswer):
        answers = {a.task: a.source(reference[a.task]) for a in known if isinstance(a, kind)}
        chosen[kind.__name__] = kill_matrix.submission(released, answers)
    return chosen


def test_the_known_answers_cover_every_task(assignment):
    known = kill_matrix.known_answers(ROOT, assignment)
    wrong = [answer for answer in known if isinstance(answer, Misconception)]
    right = [answer for answer in known if not isinstance(answer, Misconception)]
    fewest_wrong, fewest_right = FEWEST
    assert len(wrong) >= fewest_wrong
    assert len(right) >= fewest_right
    for task in kill_matrix.reference_answers(ROOT, assignment):
        assert len([answer for answer in right if answer.task == task]) >= 3, task
        assert len([answer for answer in wrong if answer.task == task]) >= 3, task
