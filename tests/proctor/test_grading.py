"""One submission's way through the exercise: what it may cost, and what each check says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import nbformat
import pytest

from proctor import doctor, forkserver
from proctor.examiner import Examinee
from proctor.grading import OWN, Grader
from proctor.spending import Amount, Spending
from proctor.terms import banned_in

LEVEL = next((level for level in ("namespaces", "landlock") if level in doctor.offered()), "limits")
ENDS = "import os\nos._exit(0)"


@pytest.fixture
def grader(mini) -> Iterator[Grader]:
    """A grader in this process, which counts the candidates that it starts."""
    forkserver.warm_up()
    server = forkserver.ForkServer(banned_in(mini.exercise))
    start, server.started = server.start, 0

    def counted(*words):
        server.started += 1
        return start(*words)

    server.start = counted
    yield Grader(mini.exercise, server, mini.terms(LEVEL))
    server.close()


def with_own(data: bytes, sources: list[str]) -> bytes:
    """A submission with cells of the student's own before everything else."""
    notebook = nbformat.reads(data.decode(), as_version=4)
    notebook.cells[:0] = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.writes(notebook).encode()


def limited(grader: Grader, **limits: float) -> None:
    grader.terms = replace(grader.terms, limits=replace(grader.terms.limits, **limits))


@pytest.fixture
def ten_seconds(monkeypatch) -> None:
    """A clock that only cells which say that they are slow move on, by ten seconds."""
    now = [0.0]

    def run(self, label, source):
        now[0] += 10 * source.count("# slow")
        return really(self, label, source)

    def so_far(self, pid=None):
        return Amount(now[0] - self.__dict__.setdefault("began", now[0]), 0.0)

    really = Examinee.run
    monkeypatch.setattr(Examinee, "run", run)
    monkeypatch.setattr(Spending, "so_far", so_far)


def notes(record) -> list[str]:
    return [note.kind for note in record.integrity]


def test_own_cells_that_end_the_process_are_left_out_after_a_few(mini, grader):
    record = grader.grade("ann", with_own(mini.submission(), [ENDS] * (OWN + 4)))
    assert record.earned == 10
    assert grader.server.started == OWN + 1
    assert notes(record).count("a cell was stopped and left out") == OWN
    assert notes(record).count("cells of one's own were left out") == 1
    assert sum("left out" in cell.error for cell in record.cells) == OWN + 4


def test_a_few_own_cells_that_end_the_process_do_not_cost_the_rest(mini, grader):
    own = [ENDS] * (OWN - 1) + ["scale = 1.0"]
    answer = mini.reference["draw"].replace("n, replacement", "int(scale * n), replacement")
    assert grader.grade("ann", with_own(mini.submission({"draw": answer}), own)).earned == 10


def test_own_cells_may_take_half_of_the_time_and_checks_have_the_rest(mini, grader, ten_seconds):
    limited(grader, total_cpu=100.0)
    record = grader.grade("ann", with_own(mini.submission(), ["print(1)  # slow"] * 5))
    assert notes(record) == []
    grader.terms = replace(grader.terms, limits=replace(grader.terms.limits, total_cpu=99.0))
    record = grader.grade("ann", with_own(mini.submission(), ["print(1)  # slow"] * 8))
    assert notes(record) == ["cells of one's own were left out"]
    assert sum("half of the time" in cell.error for cell in record.cells) == 8
    assert sum(cell.printed == "1\n" for cell in record.cells) == 4
    assert record.earned == 10


def test_what_was_marked_before_the_time_was_used_up_counts(mini, grader):
    slow = "import time\n" + mini.reference["Mixer"].replace(
        "        return soft_rows",
        "        end = time.process_time() + 2.0\n"
        "        while time.process_time() < end:\n"
        "            pass\n"
        "        return soft_rows",
    )
    limited(grader, cpu=3.0, wall=60.0, total_cpu=3.9)
    record = grader.grade("ann", mini.submission({"Mixer": slow}))
    earned = {task: sum(c.earned for c in checks) for task, checks in record.tasks().items()}
    assert earned == {"soft_rows": 4, "Mixer": 3, "draw": 0}
    assert {c.outcome for c in record.tasks()["draw"]} == {"timed out"}
    assert "may take 3.9 s of CPU time" in record.tasks()["draw"][0].message
    assert notes(record) == ["a notebook used up its time"]


def test_time_that_is_used_up_in_a_second_chance_costs_nothing(mini, grader, ten_seconds):
    wrong = "def draw(p, n, generator=None):  # slow\n    return torch.zeros(n).long()\n"
    limited(grader, total_cpu=15.0)
    record = grader.grade("ann", mini.submission({"draw": wrong}))
    assert record.earned == 7
    assert {c.outcome for c in record.tasks()["draw"]} == {"failed"}
    assert notes(record) == ["a notebook used up its time"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("def draw(p, n, generator=None)\n    return 1", "SyntaxError: expected ':'"),
        ("show(1)\n\ndef draw(p, n, generator=None):\n    return 1", "NameError: name 'show'"),
    ],
)
def test_checks_of_a_cell_that_stopped_lead_with_its_own_error(mini, grader, answer, said):
    record = grader.grade("ann", mini.submission({"draw": answer}))
    for check in record.tasks()["draw"]:
        assert check.diagnosis.startswith(f"your cell stopped: {said}"), check.message
        assert "name 'draw' is not defined" in check.message
    assert record.earned == 7
