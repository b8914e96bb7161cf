"""Mark one submission: a pure function from its bytes to a record, behind the walls.

The cells run in order, each check where it stands, as in a notebook. What a candidate does not
survive costs the question it belongs to: it is started again, the earlier cells are replayed, the
guilty one is left out. A check that failed gets a second chance in a candidate that never ran the
answers to the other tasks, so that one answer cannot spoil another.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace

from proctor import bans
from proctor.examiner import Examinee, Gone, Verdict, setup_namespace
from proctor.exercise import Exercise, Part
from proctor.forkserver import ForkServer
from proctor.intake import Submission, take_in
from proctor.magics import without_magics
from proctor.records import CheckResult, Note, Record
from proctor.terms import Terms, banned_in, unrun

NOTHING = "nothing is written here yet"
AGAIN = ("failed", "missing", "error", "crashed", "timed out", "refused", "skipped")
GONE = {
    "ended": "crashed",
    "memory": "crashed",
    "cpu": "timed out",
    "wall": "timed out",
    "refused": "refused",
}


class Grader:
    """Marks submissions of one exercise, one at a time.

    Args:
        exercise: with hidden tests.
        server: forks the candidates; it was forked itself before this process saw the exercise.
        terms: of marking.
    """

    def __init__(self, exercise: Exercise, server: ForkServer, terms: Terms) -> None:
        self.exercise, self.server, self.terms = exercise, server, terms
        self.banned = banned_in(exercise)
        self.setup = setup_namespace([part.source for part in exercise.locked])

    def grade(self, student: str, data: bytes) -> Record:
        """The record of one submission."""
        taken = take_in(data, self.exercise)
        record = unrun(self.exercise, student, self.terms, taken)
        if taken.reason:
            return record
        sitting = _Sitting(self, taken, bytes.fromhex(record.seed))
        try:
            sitting.run()
            sitting.second_chance()
        finally:
            sitting.end()
        return replace(
            record,
            checks=tuple(sitting.result(part) for part in self.exercise.checks),
            cells=tuple(sitting.cells),
            integrity=tuple(sitting.notes),
        )


class _Sitting:
    """One submission's way through the exercise; its steps are counted from 0."""

    def __init__(self, grader: Grader, taken: Submission, key: bytes) -> None:
        self.grader, self.taken, self.key = grader, taken, key
        self.exercise, self.limits = grader.exercise, grader.terms.limits
        self.cells = list(taken.cells)
        self.examinee: Examinee | None = None
        self.verdicts: dict[str, Verdict] = {}
        self.guilty: dict[int, Verdict] = {}  # by place among the cells, what its checks get
        self.refused: set[int] = set()  # of these, the ones that name what is banned
        self.overruns: dict[str, int] = {}
        self.notes: list[Note] = []
        answers = {c.grade_id: c for c in self.cells if c.grade_id}
        self.edited = {
            part.grade_id
            for part in self.exercise.answers
            if part.grade_id in answers
            and answers[part.grade_id].source.strip() != part.released.strip()
        }
        self.has_own = any(not c.grade_id for c in self.cells)
        self._refuse_banned()

    def run(self) -> None:
        """All steps in order."""
        for step, (kind, i) in enumerate(self.taken.steps):
            if kind == "check":
                part = self.exercise.checks[i]
                self.verdicts[part.grade_id] = self._check(part, step)
            elif kind == "locked" and self.examinee is not None:
                self._run_locked(i)
            elif kind == "cell" and i not in self.guilty:
                self._run_cell(step, i)

    def second_chance(self) -> None:
        """Make lost checks again without the other tasks' answers, which may have spoilt them.

        An answer that could not be run is tried again too; one that names what is banned is not.
        """
        if len(self.edited) < 2:
            return
        for task in [part.grade_id for part in self.exercise.answers]:
            parts = [part for part in self.exercise.checks if part.task == task]
            lost = [p for p in parts if self.verdicts[p.grade_id].outcome in AGAIN]
            others = {i for i, c in enumerate(self.cells) if c.grade_id not in ("", task)}
            if task not in self.edited or not lost or not others - self.guilty.keys():
                continue
            self.end()
            guilty, overruns = self.guilty, self.overruns
            blamed = {i for i in guilty if i not in self.refused and i not in others}
            self.guilty = {i: v for i, v in guilty.items() if i not in blamed}
            # one more overrun says enough
            self.overruns = {task: self.limits.overruns - 1}
            for part in lost:
                again = self._check(part, len(self.taken.steps), frozenset(others))
                if again.passed:
                    self.verdicts[part.grade_id] = again
                    said = f"{part.grade_id} passed once the answers to other tasks were left out"
                    self._note("an answer spoilt another task", said, part.grade_id)
            self.guilty, self.overruns = guilty, overruns
            self.end()

    def result(self, part: Part) -> CheckResult:
        """The outcome of one check."""
        verdict = self.verdicts.get(part.grade_id, Verdict("skipped", "it was not reached"))
        earned = part.points if verdict.passed else 0.0
        said = verdict.outcome, verdict.message, verdict.where
        return CheckResult(part.grade_id, earned, part.points, *said)

    def end(self) -> int:
        """Stop the candidate, if there is one; its exit status."""
        if self.examinee is None:
            return 0
        self.examinee.channel.close()
        self.examinee = None
        return self.grader.server.stop()

    def _run_cell(self, step: int, i: int) -> None:
        cell = self.cells[i]
        try:
            self._ready(step)
            printed, error = self.examinee.run(self._label(i), without_magics(cell.source))
        except Gone as gone:
            self._blame(i, gone)
            return
        said = ""
        if error is not None:
            lines = (f"{error['type']}: {error['message']}", error.get("where", ""))
            said = "\n".join(line for line in lines if line)
        self.cells[i] = replace(cell, printed=printed, error=said)

    def _check(self, part: Part, step: int, skip: frozenset[int] = frozenset()) -> Verdict:
        if part.task not in self.edited and not self.has_own:
            return Verdict("missing", NOTHING)
        for i, verdict in self.guilty.items():
            if self.cells[i].grade_id == part.task:
                return verdict
        if self.overruns.get(part.task, 0) >= self.limits.overruns:
            return Verdict("skipped", "earlier checks of this task overran, so it was not run")
        try:
            self._ready(step, skip)
            return self.examinee.check(part.source, part.grade_id, self.grader.setup, self.key)
        except Gone as gone:
            self.overruns[part.task] = self.overruns.get(part.task, 0) + 1
            reason = f"your code did not survive this check: {self._end(gone)}"
            return Verdict(GONE[gone.kind], reason)

    def _ready(self, step: int, skip: frozenset[int] = frozenset()) -> None:
        """A candidate in which every innocent cell before this step has run."""
        while self.examinee is None:
            pid, sock = self.grader.server.start(self.grader.terms.level, self.limits)
            self.examinee = Examinee(pid, sock, self.limits)
            for kind, i in self.taken.steps[:step]:
                if kind == "check" or (kind == "cell" and (i in self.guilty or i in skip)):
                    continue
                if kind == "locked":
                    self._run_locked(i)
                else:
                    self._replay(i)
                if self.examinee is None:
                    break

    def _replay(self, i: int) -> None:
        try:
            self.examinee.run(self._label(i), without_magics(self.cells[i].source))
        except Gone as gone:
            self._blame(i, gone)

    def _run_locked(self, number: int) -> None:
        """A locked cell is innocent: if it ends the candidate, the cell before it did that."""
        try:
            self.examinee.run("the setup", self.exercise.locked[number].source)
        except Gone as gone:
            before = self.taken.steps[: self.taken.steps.index(("locked", number))]
            ran = [i for kind, i in before if kind == "cell" and i not in self.guilty]
            if not ran:
                raise RuntimeError(f"the setup of the exercise does not run: {gone}") from None
            self._blame(ran[-1], gone)

    def _label(self, i: int) -> str:
        return self.cells[i].grade_id or f"your own cell {i + 1}"

    def _blame(self, i: int, gone: Gone) -> None:
        reason = self._end(gone)
        self._leave_out(i, GONE[gone.kind], f"this cell was stopped and left out: {reason}")
        said = f"{self._label(i)}: {reason}"
        self._note("a cell was stopped and left out", said, self.cells[i].grade_id)

    def _leave_out(self, i: int, outcome: str, reason: str) -> None:
        self.guilty[i] = Verdict(outcome, reason)
        self.cells[i] = replace(self.cells[i], error=reason)

    def _end(self, gone: Gone) -> str:
        """Why a candidate is gone; from its exit status where it ended by itself."""
        status = self.end()
        if gone.kind != "ended":
            return gone.reason
        if os.WIFSIGNALED(status):
            return f"the process was ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return "the process ended itself"

    def _note(self, kind: str, said: str, grade_id: str = "") -> None:
        self.notes.append(Note(kind, said, grade_id))

    def _refuse_banned(self) -> None:
        for i, cell in enumerate(self.cells):
            for name, line in bans.named_in(without_magics(cell.source), self.grader.banned)[:1]:
                self.refused.add(i)
                self._leave_out(i, "refused", f"line {line}: {bans.refusal(name)}")
                said = f"{self._label(i)} names {name}; it was not run"
                self._note("a banned name was used", said, cell.grade_id)
