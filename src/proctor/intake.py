"""Bytes in, the student's cells or a reason out; nothing that is handed in raises.

Cells are matched with the exercise by their name, then by likeness, then by their place. The checks
and locked cells that count are always the exercise's own; of the file only the student's code is
used. Every repair is noted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proctor.exercise import Exercise, Part, checksum, defined_in, lines_of
from proctor.kept import DEFAULT, Bounds
from proctor.reading import LooseCell, Unreadable, read
from proctor.records import Cell, Note

__all__ = ["Bounds", "Exercise", "Submission", "take_in"]
LIKE = 0.6  # the share of a cell's lines that must be there for it to be recognised


@dataclass(frozen=True)
class Submission:
    """What was taken in.

    Args:
        cells: the student's code cells, in the order in which they run.
        steps: what to run in which order: ``("locked", i)``, ``("cell", i)`` or ``("check", i)``,
            where ``i`` counts ``exercise.locked``, ``cells`` and ``exercise.checks``.
        notes: what was repaired.
        reason: why nothing can be run; empty where something can.
    """

    cells: tuple[Cell, ...] = ()
    steps: tuple[tuple[str, int], ...] = ()
    notes: tuple[Note, ...] = ()
    reason: str = ""


def take_in(data: bytes, exercise: Exercise, bounds: Bounds = DEFAULT) -> Submission:
    """What a student handed in, whatever it is; the same bytes always give the same.

    Args:
        data: of the file.
        exercise: that it answers.
        bounds: that the file is held to before anything in it is believed.

    Returns:
        The student's cells among the exercise's own, or the reason why there are none.
    """
    try:
        cells, notes = read(data, bounds)
        return _Matching(cells, exercise).submission(notes)
    except Unreadable as error:
        return Submission(reason=str(error))
    except Exception as error:
        # what nobody has foreseen costs one submission, not the batch
        return Submission(reason=f"the file could not be taken in ({type(error).__name__})")


class _Matching:
    """Which cell of a file is which part of the exercise."""

    def __init__(self, cells: list[LooseCell], exercise: Exercise) -> None:
        self.cells, self.exercise = cells, exercise
        self.given: dict[str, list[int]] = {}  # places of checks and locked cells
        self.answer: dict[str, int] = {}  # place of each answer
        self.dropped: set[int] = set()
        self.strays: set[int] = set()  # places of checks that hold an answer
        self.defines = [defined_in(cell.source) for cell in cells]
        self.told: dict[str, list[tuple[str, str]]] = {}  # by kind of note: cell and sentence

    def submission(self, notes: Iterable[Note]) -> Submission:
        copies = self._by_name()
        self._given_by_likeness()
        self._answers(copies)
        if not (self.given or self.answer):
            raise Unreadable(
                f"nothing of {self.exercise.assignment} is in the notebook: was the file of "
                "another exercise handed in?"
            )
        self._answers_by_place()
        self._note_missing()
        self._note_invented()
        cells, steps = self._steps()
        return Submission(cells, steps, (*notes, *self._notes()))

    def _by_name(self) -> dict[str, list[int]]:
        """Places of the checks and locked cells by name; returned, those of the answers' copies."""
        copies: dict[str, list[int]] = {}
        for place, cell in enumerate(self.cells):
            part = self.exercise.by_name.get(cell.grade_id)
            if part is None:
                continue
            self._check_claims(cell, part)
            if part.kind == "answer":
                copies.setdefault(part.grade_id, []).append(place)
            elif self._holds_an_answer(cell, part):
                self.strays.add(place)
                said = f"an answer stood in {part.grade_id}; it was run, and the cell put back"
                self._tell("an answer stood in another cell", part.grade_id, said)
            else:
                self._take_given(place, part)
        for name, places in copies.items():
            if len(places) > 1:
                said = f"{name} was there {len(places)} times; the last edit counts"
                self._tell("a cell was there more than once", name, said)
        return copies

    def _check_claims(self, cell: LooseCell, part: Part) -> None:
        wanted = {
            "grade": part.kind == "check",
            "solution": part.kind == "answer",
            "locked": part.kind != "answer",
        }
        changed = [flag for flag, value in wanted.items() if bool(cell.claims.get(flag)) != value]
        if part.kind == "check" and cell.claims.get("points") != part.points:
            changed.append("points")
        if changed:
            said = f"{part.grade_id}: {', '.join(changed)}"
            self._tell("flags or points were restored", part.grade_id, said)
        if cell.kind != "code":
            said = f"{part.grade_id} had become a cell of another kind and is code again"
            self._tell("a cell's type was restored", part.grade_id, said)

    def _holds_an_answer(self, cell: LooseCell, part: Part) -> bool:
        """Whether a student wrote an answer where a check or a locked cell stands."""
        wanted = {name for answer in self.exercise.answers for name in answer.names}
        return bool(defined_in(cell.source, only_code=True) & wanted - defined_in(part.source))

    def _take_given(self, place: int, part: Part) -> None:
        """A check or locked cell was found: the exercise's own takes its place."""
        cell = self.cells[place]
        places = self.given.setdefault(part.grade_id, [])
        places.append(place)
        self.dropped.add(place)
        if len(places) == 2:
            said = f"{part.grade_id} was copied; it counts once"
            self._tell("a cell was there more than once", part.grade_id, said)
        if cell.source.strip() == part.released.strip():
            return
        if cell.claims.get("checksum") == checksum(cell.source, cell.claims):
            kind = "a cell of another release was replaced"
            said = "it differs from the released one"
        else:
            what = "a test cell" if part.kind == "check" else "a locked cell"
            kind, said = f"{what} was changed", "the exercise's own was run"
        self._tell(kind, part.grade_id, f"{part.grade_id}: {said}")

    def _given_by_likeness(self) -> None:
        """Checks and locked cells whose metadata was lost."""
        missing = [
            p for p in self.exercise.parts if p.kind != "answer" and p.grade_id not in self.given
        ]
        if not missing:
            return
        exact = {part.released.strip(): part for part in reversed(missing)}
        for place in self._nameless():
            cell = self.cells[place]
            part = exact.get(cell.source.strip())
            if part is None and cell.source.strip():
                part = _most_alike(cell, missing)
            if part is not None and part.grade_id not in self.given:
                self._tell("a cell was recognised without its name", part.grade_id, part.grade_id)
                self._take_given(place, part)
                missing.remove(part)

    def _answers(self, copies: dict[str, list[int]]) -> None:
        """The cell that each answer is: the last one that was edited."""
        for part in self.exercise.answers:
            named = copies.get(part.grade_id, [])
            edited = [place for place in named if self._is_edited(place, part)]
            found = edited or self._elsewhere(part, named)
            if found and not edited and found[-1] not in self.strays:
                kind = "a cell was recognised without its name"
                self._tell(kind, part.grade_id, part.grade_id)
            if found or named:
                whole = [place for place in found if self.defines[place] & part.names]
                self.answer[part.grade_id] = (whole or found or named)[-1]
                # an untouched copy that runs later would undo the answer
                untouched = {place for place in named if place not in edited}
                self.dropped |= untouched - {self.answer[part.grade_id]}

    def _elsewhere(self, part: Part, named: list[int]) -> list[int]:
        """Cells that hold an answer, though not under its name."""
        cells = range(len(self.cells))
        found = [p for p in cells if self._runs(p) and self.defines[p] & part.names]
        found = [place for place in found if place not in named]
        if not (found or named):
            found = [place for place in self._nameless() if self._is_like(place, part)]
        return [place for place in found if self._is_edited(place, part)] or found

    def _answers_by_place(self) -> None:
        """Answers that nothing speaks for but where they stand."""
        parts = self.exercise.parts
        examples = {source.strip() for source in self.exercise.examples}
        for number, part in enumerate(parts):
            if part.kind != "answer" or part.grade_id in self.answer:
                continue
            low = max(self._places(parts[:number]), default=-1)
            later = [place for place in self._places(parts[number + 1 :]) if place > low]
            for place in self._nameless():
                source = self.cells[place].source.strip()
                if low < place < min(later, default=len(self.cells)) and source not in examples:
                    self.answer[part.grade_id] = place
                    said = f"{part.grade_id} is taken to be cell {place + 1}"
                    self._tell("an answer was recognised by its place", part.grade_id, said)
                    break

    def _places(self, parts: Iterable[Part]) -> list[int]:
        """Where these parts stand, as far as they do."""
        names = [part.grade_id for part in parts]
        answers = [self.answer[name] for name in names if name in self.answer]
        return answers + [min(self.given[name]) for name in names if name in self.given]

    def _steps(self) -> tuple[tuple[Cell, ...], tuple[tuple[str, int], ...]]:
        """The student's cells as they stood, the exercise's own where they belong."""
        named: dict[int, str] = {}
        for name, place in self.answer.items():
            named.setdefault(place, name)  # two answers may stand in one cell
        places = [p for p in range(len(self.cells)) if p in named or self._runs(p)]
        cells = tuple(
            Cell(named.get(p, ""), self.cells[p].source, self.cells[p].outputs) for p in places
        )
        order = [((place, 0, 0), ("cell", i)) for i, place in enumerate(places)]
        counts = {"locked": 0, "check": 0}
        here = -1  # where the part before stands
        for number, part in enumerate(self.exercise.parts):
            if part.kind == "answer":
                here = self.answer.get(part.grade_id, here)
                continue
            if part.kind == "check":
                # after the answer that it checks, and not before where the student left it
                own = min(self.given.get(part.grade_id, [here]))
                here = max(own, self.answer.get(part.task, here))
            order.append(((here, 1, number), (part.kind, counts[part.kind])))
            counts[part.kind] += 1
        return cells, tuple(step for _, step in sorted(order))

    def _runs(self, place: int) -> bool:
        cell = self.cells[place]
        return cell.kind == "code" and place not in self.dropped and bool(cell.source.strip())

    def _nameless(self) -> list[int]:
        """Code cells that claim no part of the exercise and are none yet."""
        known, taken = self.exercise.by_name, set(self.answer.values())
        return [
            place
            for place, cell in enumerate(self.cells)
            if self._runs(place)
            and place not in taken
            and (cell.grade_id not in known or place in self.strays)
        ]

    def _is_edited(self, place: int, part: Part) -> bool:
        source = self.cells[place].source.strip()
        return bool(source) and source != part.released.strip()

    def _is_like(self, place: int, part: Part) -> bool:
        lines = lines_of(self.cells[place].source)
        return len(part.lines) > 1 and len(lines & part.lines) >= LIKE * len(part.lines)

    def _note_missing(self) -> None:
        for part in self.exercise.parts:
            name = part.grade_id
            if part.kind == "answer" and name not in self.answer:
                self._tell("an answer is missing", name, name)
            elif part.kind != "answer" and name not in self.given:
                kind = "a test cell" if part.kind == "check" else "a locked cell"
                self._tell(f"{kind} was put back", name, name)

    def _note_invented(self) -> None:
        known, taken = self.exercise.by_name, {*self.dropped, *self.answer.values()}
        for place, cell in enumerate(self.cells):
            if cell.claims.get("grade") and cell.grade_id not in known and place not in taken:
                said = f"{cell.grade_id!r:.60} is no check of this exercise and earns nothing"
                self._tell("a graded cell was invented", "", said)

    def _tell(self, kind: str, name: str, said: str) -> None:
        self.told.setdefault(kind, []).append((name, said))

    def _notes(self) -> Iterable[Note]:
        for kind, told in self.told.items():
            sentences = list(dict.fromkeys(said for _, said in told))
            shown = "; ".join(sentences[:8])
            more = f"; and {len(sentences) - 8} more" if len(sentences) > 8 else ""
            yield Note(kind, shown + more, told[0][0] if len(sentences) == 1 else "")


def _most_alike(cell: LooseCell, parts: list[Part]) -> Part | None:
    """The part that most of a cell's lines come from, if it is most of that part."""
    lines = lines_of(cell.source)
    shares = [
        (len(lines & part.lines) / len(part.lines), -number)
        for number, part in enumerate(parts)
        if len(part.lines) > 1
    ]
    share, number = max(shares, default=(0.0, 0))
    return parts[-number] if share >= LIKE else None
