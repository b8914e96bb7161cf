"""Mark one submission: a pure function from its bytes to a record, behind the walls.

The cells run in order, each check where it stands, as in a notebook. What a candidate does not
survive costs the question it belongs to: it is started again, the earlier cells are replayed, the
guilty one is left out. The checks of a task that lost points get a second chance in a candidate
that never ran the answers to the other tasks, so that one answer cannot spoil another. All of it
together has one budget; when that is used up, what was marked until then counts.
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
from proctor.spending import Spending, Spent
from proctor.terms import Terms, banned_in, unrun

NOTHING = "nothing is written here yet"
OWN = 3  # of the student's own cells: once so many were stopped, all of them are left out
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
        except Spent as spent:
            sitting.run_out(spent)
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
        self.spending = Spending(grader.server, self.limits)
        self.examinee: Examinee | None = None
        self.verdicts: dict[str, Verdict] = {}
        self.guilty: dict[int, Verdict] = {}  # by place among the cells, what its checks get
        self.refused: set[int] = set()  # of these, the ones that name what is banned
        self.overruns: dict[str, int] = {}
        self.errors: dict[int, str] = {}  # by place among the cells, what stopped them
        self.own_stopped = 0
        self.unreached = Verdict("skipped", "it was not reached")
        self.notes: list[Note] = []
        answers = {c.grade_id: c for c in self.cells if c.grade_id}
        self.edited = {
            part.grade_id
            for part in self.exercise.answers
            if part.grade_id in answers
            and answers[part.grade_id].source.strip() != part.released.strip()
        }
        self.own = {i for i, c in enumerate(self.cells) if not c.grade_id}

    def run(self) -> None:
        """All steps in order.

        Raises:
            Spent: when the submission has used up its time.
        """
        self._refuse_banned()
        for step, (kind, i) in enumerate(self.taken.steps):
            if kind == "check":
                part = self.exercise.checks[i]
                self.verdicts[part.grade_id] = self._check(part, step)
            elif kind == "locked" and self.examinee is not None:
                self._run_locked(i)
            elif kind == "cell" and i not in self.guilty:
                self._run_cell(step, i)

    def second_chance(self) -> None:
        """Mark tasks again without the other tasks' answers, which may have spoilt them.

        The better run of a task counts as a whole: an answer that is right in one half here and in
        the other half there is right nowhere. An answer that could not be run is tried again too;
        one that names what is banned is not.

        Raises:
            Spent: when the submission has used up its time.
        """
        if len(self.edited) < 2:
            return
        for task in [part.grade_id for part in self.exercise.answers]:
            parts = [part for part in self.exercise.checks if part.task == task]
            lost = {p.grade_id for p in parts if not self.verdicts[p.grade_id].passed}
            others = {i for i, c in enumerate(self.cells) if c.grade_id not in ("", task)}
            if task not in self.edited or not lost or not others - self.guilty.keys():
                continue
            self.end()
            guilty = self.guilty
            mine = {i for i in guilty if self.cells[i].grade_id == task} - self.refused
            self.guilty = {i: v for i, v in guilty.items() if i not in mine}
            self.overruns.pop(task, None)
            better = self._better(parts, frozenset(others))
            self.guilty |= guilty
            self.end()
            for name, verdict in better.items():
                if verdict.passed and name in lost:
                    said = f"{name} passed once the answers to other tasks were left out"
                    self._note("an answer spoilt another task", said, name)
            self.verdicts |= better

    def _better(self, parts: list[Part], others: frozenset[int]) -> dict[str, Verdict]:
        """The verdicts on a task without the others' answers; none where they are no better."""
        earned = sum(p.points for p in parts if self.verdicts[p.grade_id].passed)
        within_reach = sum(p.points for p in parts)
        found: dict[str, Verdict] = {}
        for part in parts:
            found[part.grade_id] = verdict = self._check(part, len(self.taken.steps), others)
            within_reach -= 0 if verdict.passed else part.points
            if within_reach <= earned:
                return {}
        return found

    def run_out(self, spent: Spent) -> None:
        """The submission has used up its time: say so of every check that was not reached."""
        reason = f"it was not reached before the time was used up: {spent}"
        self.unreached = Verdict("timed out", reason)
        self._note("a notebook used up its time", f"{spent}; what was marked until then counts")

    def result(self, part: Part) -> CheckResult:
        """The outcome of one check."""
        verdict = self.verdicts.get(part.grade_id, self.unreached)
        earned = part.points if verdict.passed else 0.0
        said = verdict.outcome, verdict.message, verdict.where
        return CheckResult(part.grade_id, earned, part.points, *said)

    def end(self) -> int:
        """Stop the candidate, if there is one; its exit status."""
        if self.examinee is None:
            return 0
        self.spending.ends(self.examinee.pid)
        self.examinee.channel.close()
        self.examinee = None
        return self.grader.server.stop()

    def _run_cell(self, step: int, i: int) -> None:
        self._ready(step)
        printed = self._execute(i)
        if i not in self.guilty:
            self.cells[i] = replace(self.cells[i], printed=printed, error=self.errors[i])

    def _execute(self, i: int) -> str:
        """Run a cell, or blame it; what it printed."""
        pid = self.examinee.pid
        self.spending.hold(pid)
        before, printed = self.spending.so_far(pid), ""
        try:
            plain = without_magics(self.cells[i].source)
            printed, error = self.examinee.run(self._label(i), plain)
        except Gone as gone:
            self._blame(i, gone)
            pid = None
        else:
            lines = (f"{error['type']}: {error['message']}", error.get("where")) if error else ()
            self.errors[i] = "\n".join(line for line in lines if line)
        if i in self.own and self.spending.count_own(before, self.spending.so_far(pid)):
            self._leave_own_out("they took half of the time that one notebook may take in all")
        return printed

    def _check(self, part: Part, step: int, skip: frozenset[int] = frozenset()) -> Verdict:
        if part.task not in self.edited and not self.own:
            return Verdict("missing", NOTHING)
        for i, verdict in self.guilty.items():
            if self.cells[i].grade_id == part.task:
                return verdict
        if self.overruns.get(part.task, 0) >= self.limits.overruns:
            return Verdict("skipped", "earlier checks of this task overran, so it was not run")
        try:
            self._ready(step, skip)
            self.spending.hold(self.examinee.pid)
            given = part.source, part.grade_id, self.grader.setup, self.key
            return self._led(part, self.examinee.check(*given))
        except Gone as gone:
            self.overruns[part.task] = self.overruns.get(part.task, 0) + 1
            reason = f"your code did not survive this check: {self._end(gone)}"
            return Verdict(GONE[gone.kind], reason)

    def _led(self, part: Part, verdict: Verdict) -> Verdict:
        """A verdict led by the error that stopped the cell of its task, if one did."""
        said = [e for i, e in self.errors.items() if e and self.cells[i].grade_id == part.task]
        if verdict.passed or not said:
            return verdict
        return replace(verdict, message=f"your cell stopped: {said[0]}\n{verdict.message}")

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
                    self._execute(i)
                if self.examinee is None:
                    break

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
        kind, name = "a cell was stopped and left out", self.cells[i].grade_id
        self._note(kind, f"{self._label(i)}: {reason}", name)
        self.own_stopped += i in self.own
        if self.own_stopped == OWN:
            self._leave_own_out(f"{OWN} of them were stopped")

    def _leave_own_out(self, why: str) -> None:
        left = self.own - self.guilty.keys()
        for i in left:
            self._leave_out(i, "skipped", f"the cells of your own were left out: {why}")
        if left:
            self._note("cells of one's own were left out", why)

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
        note = Note(kind, said, grade_id)
        if note not in self.notes:  # an attempt may show again what an earlier one did
            self.notes.append(note)

    def _refuse_banned(self) -> None:
        for i, cell in enumerate(self.cells):
            self.spending.hold()
            for name, line in bans.named_in(without_magics(cell.source), self.grader.banned)[:1]:
                self.refused.add(i)
                self._leave_out(i, "refused", f"line {line}: {bans.refusal(name)}")
                said = f"{self._label(i)} names {name}; it was not run"
                self._note("a banned name was used", said, cell.grade_id)
