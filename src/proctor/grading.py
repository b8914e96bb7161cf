"""Mark one submission: a pure function from its bytes to a record, behind the walls.

The cells run in order, each check where it stands, as in a notebook. What a candidate does not
survive costs the question it belongs to: it is started again, the earlier cells are replayed, the
guilty one is left out. A check that failed gets a second chance in a candidate that never ran the
answers to other questions, so one answer cannot spoil another.
"""

from __future__ import annotations

import os
import signal
from dataclasses import asdict, dataclass, field
from typing import Any

from proctor import bans, seeds
from proctor.examiner import Examinee, Gone, Verdict, setup_namespace
from proctor.exercise import Cell, Exercise
from proctor.forkserver import ForkServer
from proctor.intake import Intake, take_in
from proctor.limits import Limits
from proctor.matching import Step


@dataclass(frozen=True)
class Terms:
    """Under which terms submissions of one exercise are marked.

    Args:
        level: of isolation.
        secret: of the course; no student knows it.
        limits: for each candidate.
        versions: of what else decides a mark (engine, library, torch), by name.
    """

    level: str
    secret: bytes
    limits: Limits = field(default_factory=Limits)
    versions: dict[str, str] = field(default_factory=dict)


class Grader:
    """Marks submissions of one exercise, one at a time.

    Args:
        exercise: with hidden tests.
        server: forks the candidates; it was forked itself before this process saw the exercise.
        terms: of marking.
    """

    def __init__(self, exercise: Exercise, server: ForkServer, terms: Terms) -> None:
        self.exercise, self.server, self.terms = exercise, server, terms
        self.setup = setup_namespace(exercise.setup)

    def grade(self, data: bytes) -> dict[str, Any]:
        """The record of one submission, as plain data."""
        taken = take_in(data, self.exercise)
        key = seeds.key(self.terms.secret, self.exercise.assignment, taken.cells)
        sitting = _Sitting(self, taken, key)
        try:
            sitting.run()
            sitting.second_chance()
        finally:
            sitting.end()
        return {
            "assignment": self.exercise.assignment,
            "level": self.terms.level,
            "versions": self.terms.versions,
            "reason": taken.reason,
            "notes": [*taken.notes, *sitting.notes],
            "checks": [sitting.row(check) for check in self.exercise.checks],
            "cells": sitting.cells,
        }


class _Sitting:
    """One submission's way through the exercise."""

    def __init__(self, grader: Grader, taken: Intake, key: bytes) -> None:
        self.grader, self.taken, self.key = grader, taken, key
        self.limits = grader.terms.limits
        self.examinee: Examinee | None = None
        self.verdicts: dict[str, Verdict] = {}
        self.guilty: dict[int, str] = {}
        self.overruns: dict[str, int] = {}
        self.notes: list[str] = []
        self.cells: list[dict[str, Any]] = []
        self.sources = {c.id: c for c in grader.exercise.cells}
        self._refuse_banned()

    def run(self) -> None:
        """All steps in order."""
        for i, step in enumerate(self.taken.steps):
            if step.kind == "check":
                self.verdicts[step.id] = self._check(step.id, i)
            elif step.kind != "manual":
                self._run_cell(i, step)
            elif step.kind == "manual":
                self.verdicts[step.id] = Verdict(False, "marked by a person", "", "manual")

    def second_chance(self) -> None:
        """Make failed checks again without the answers to the other tasks."""
        answers = {s.id for s in self.taken.steps if s.kind == "answer" and s.touched}
        for task in dict.fromkeys(name.partition("__")[0] for name in self.verdicts):
            failed = [
                name
                for name, v in self.verdicts.items()
                if name.partition("__")[0] == task and v.kind in ("failed", "error")
            ]
            if not failed or not answers - {task} or task not in answers:
                continue
            self.end()
            skip = {s.id for s in self.taken.steps if s.kind == "answer" and s.id != task}
            for name in failed:
                again = self._check(name, len(self.taken.steps), skip)
                if again.passed:
                    self.verdicts[name] = again
                    self.notes.append(f"{name} passed once the other tasks' answers were left out")

    def row(self, check: Cell) -> dict[str, Any]:
        """The outcome of one check."""
        verdict = self.verdicts.get(check.id)
        if verdict is None:
            verdict = Verdict(False, self.taken.reason or "it was not reached", "", "not run")
        earned = check.points if verdict.passed else 0.0
        row = {"id": check.id, "task": check.task, "points": check.points, "earned": earned}
        return row | {k: v for k, v in asdict(verdict).items() if k != "passed"}

    def end(self) -> int:
        """Stop the candidate, if there is one; its exit status."""
        if self.examinee is None:
            return 0
        self.examinee.channel.close()
        self.examinee = None
        return self.grader.server.stop()

    def _run_cell(self, i: int, step: Step) -> None:
        row = {"kind": step.kind, "id": step.id, "source": step.source, "touched": step.touched}
        row |= {"printed": "", "error": None}
        if i not in self.guilty and step.source.strip():
            try:
                self._ready(i)
                row["printed"], row["error"] = self.examinee.run(step.id, step.source)
            except Gone as gone:
                self._blame(i, gone)
        if i in self.guilty:
            row["error"] = {"type": "", "message": self.guilty[i], "where": ""}
        self.cells.append(row)

    def _check(self, name: str, i: int, skip: frozenset[str] | set[str] = frozenset()) -> Verdict:
        check = self.sources[name]
        blocked = self._blocked(check)
        if blocked:
            return blocked
        try:
            self._ready(i, skip)
            return self.examinee.check(check.source, name, self.grader.setup, self.key)
        except Gone as gone:
            self.overruns[check.task] = self.overruns.get(check.task, 0) + 1
            reason = f"your code did not survive this check: {self._end(gone)}"
            return Verdict(False, reason, "", "gone")

    def _blocked(self, check: Cell) -> Verdict | None:
        """The verdict of a check that need not be run."""
        for i, step in enumerate(self.taken.steps):
            if step.kind == "answer" and step.id == check.task:
                if i in self.guilty:
                    return Verdict(False, self.guilty[i], "", "guilty")
                if not step.touched:
                    return Verdict(False, "nothing is written here yet", "", "missing")
        if self.overruns.get(check.task, 0) >= self.limits.overruns:
            return Verdict(False, "not run: earlier checks of this task overran", "", "not run")
        return None

    def _ready(self, i: int, skip: frozenset[str] | set[str] = frozenset()) -> None:
        """A candidate in which every innocent cell before step ``i`` has run."""
        while self.examinee is None:
            pid, sock = self.grader.server.start(self.grader.terms.level, self.limits)
            self.examinee = Examinee(pid, sock, self.limits)
            for j, step in enumerate(self.taken.steps[:i]):
                runs = step.kind in ("setup", "answer", "own") and step.source.strip()
                if not runs or j in self.guilty or step.id in skip:
                    continue
                try:
                    self.examinee.run(step.id, step.source)
                except Gone as gone:
                    self._blame(j, gone)
                    break

    def _blame(self, i: int, gone: Gone) -> None:
        step = self.taken.steps[i]
        self.guilty[i] = f"this cell was stopped and left out: {self._end(gone)}"
        self.notes.append(f"{step.id} was left out: {gone.reason}")

    def _end(self, gone: Gone) -> str:
        """Why a candidate is gone, from its end where it ended by itself."""
        status = self.end()
        if gone.kind != "ended":
            return gone.reason
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            return f"the process ended with {signal.Signals(number).name}"
        return "the process ended itself"

    def _refuse_banned(self) -> None:
        banned = self.grader.exercise.banned
        for i, step in enumerate(self.taken.steps):
            if step.kind in ("answer", "own"):
                for name, line in bans.named_in(step.source, banned)[:1]:
                    self.guilty[i] = f"line {line}: {bans.refusal(name)}"
                    self.notes.append(f"{step.id} names {name}, which is banned; it was not run")
