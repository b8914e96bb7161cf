"""Known answers to an exercise: the wrong ones it must catch and the right ones it must accept.

``solutions/NN_name/misconceptions.py`` lists both, as data. Each stands for the reference
solution with one task answered differently; the kill matrix hands each in and looks at the marks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Misconception:
    """A wrong answer that students give.

    Args:
        name: what the student believes, in a few words; unique within the exercise.
        task: ``grade_id`` of the answer cell it replaces.
        fails: ``grade_id`` of a check that must take points for it.
        told: words that the message of that check must hold (case ignored).
        edit: pairs ``(reference text, wrong text)`` that turn the reference answer into this one;
            each reference text occurs in it exactly once.
        answer: the whole cell, where an edit would not be shorter.
    """

    name: str
    task: str
    fails: str
    told: str
    edit: tuple[tuple[str, str], ...] = ()
    answer: str = ""

    def source(self, reference: str) -> str:
        """The wrong answer's cell, made from the reference cell.

        Raises:
            ValueError: if an edit does not fit the reference exactly once, or neither or both of
                ``edit`` and ``answer`` are given.
        """
        if bool(self.edit) == bool(self.answer):
            raise ValueError(f"{self.name!r} needs either an edit or an answer")
        if self.answer:
            return self.answer.strip("\n")
        for old, new in self.edit:
            if reference.count(old) != 1:
                times = reference.count(old)
                raise ValueError(f"{self.name!r}: {old!r} occurs {times} times in {self.task}")
            reference = reference.replace(old, new)
        return reference


@dataclass(frozen=True)
class RightAnswer:
    """A correct answer unlike the reference: a loop, an einsum, another order of steps.

    Args:
        name: what is different about it; unique within the task.
        task: ``grade_id`` of the answer cell it replaces.
        answer: the whole cell.
    """

    name: str
    task: str
    answer: str

    def source(self, reference: str) -> str:
        """The answer's cell; the reference is not needed."""
        del reference
        return self.answer.strip("\n")
