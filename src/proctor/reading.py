"""From the bytes of a file to the cells in it, whatever the bytes are.

The limits hold before anything is parsed; what parses is then read leniently, field by field, since
a notebook that breaks its format in one place still holds the student's work in all others.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, field
from typing import Any

from proctor.kept import DEFAULT, Bounds, MiB, Room, text_of
from proctor.records import Note, Output


@dataclass(frozen=True)
class LooseCell:
    """A cell as it was found, its claims unchecked.

    Args:
        kind: ``code``, or what else the file says.
        source: its text, with ``\\n`` between lines.
        claims: nbgrader's metadata in it; empty where there is none.
        outputs: saved outputs, within the bounds.
    """

    kind: str
    source: str
    claims: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()

    @property
    def grade_id(self) -> str:
        """The id that the cell claims; empty where it claims none."""
        name = self.claims.get("grade_id")
        return name if isinstance(name, str) else ""


class Unreadable(ValueError):
    """There are no cells to be had; the message is for the student."""


def read(data: bytes, bounds: Bounds = DEFAULT) -> tuple[list[LooseCell], list[Note]]:
    """The cells of a file, and what had to be repaired on the way.

    Raises:
        Unreadable: if no cell can be had from it, with the reason.
    """
    notes: list[Note] = []
    if len(data) > bounds.size:
        raise Unreadable(too_large(len(data), bounds.size))
    if not data.strip(b" \t\r\n\0"):
        raise Unreadable("the file is empty")
    book = _parse(_decode(data, notes), bounds, notes)
    cells = _cells_of(book, notes)
    if len(cells) > bounds.cells:
        raise Unreadable(f"the notebook has {len(cells)} cells; at most {bounds.cells} are read")
    _note_kernel(book.get("metadata"), notes)
    room = Room(bounds)
    found = [_cell(cell, room) for cell in cells if isinstance(cell, dict)]
    if len(found) < len(cells):
        notes.append(Note("a broken cell was left out", f"{len(cells) - len(found)} of them"))
    notes += room.notes()
    return found, notes


def too_large(size: int, bound: int) -> str:
    """What a student reads whose file is over the bound."""
    return (
        f"the file has {size / MiB:.1f} MiB; at most {bound / MiB:.1f} MiB are read. "
        "Clear the outputs (Edit, Clear Outputs of All Cells), save, and hand in again"
    )


def _decode(data: bytes, notes: list[Note]) -> str:
    """The text of a file, by its byte-order mark or its zeros, as UTF-8, or as Windows wrote it."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            said = f"the file began with the mark of {encoding.upper()}"
            notes.append(Note("the encoding was repaired", said))
            return data[len(mark) :].decode(encoding, "replace")
    try:
        # a text without zeros is no UTF-16; one with them is no UTF-8 that a notebook would hold
        if b"\0" not in data:
            return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    for encoding in _by_zeros(data) or ("cp1252", "latin-1"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        said = f"the file is not UTF-8; it was read as {encoding}"
        notes.append(Note("the encoding was repaired", said))
        return text
    notes.append(Note("the encoding was repaired", "bytes that are no text were replaced"))
    return data.decode("utf-8", "replace").replace("\0", "\ufffd")


def _by_zeros(data: bytes) -> tuple[str, ...]:
    """UTF-16 or UTF-32 without a mark: where the zeros of the first characters stand."""
    head = bytes(byte != 0 for byte in data[:4])
    return {
        b"\1\0\1\0": ("utf-16-le",),
        b"\0\1\0\1": ("utf-16-be",),
        b"\1\0\0\0": ("utf-32-le",),
        b"\0\0\0\1": ("utf-32-be",),
    }.get(head, () if b"\0" not in data else ("utf-8",))


# a string (one that never ends reaches to the end of the text), a bracket or a comma
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[][{},]', re.DOTALL)


def _parse(text: str, bounds: Bounds, notes: list[Note]) -> dict[str, Any]:
    """The JSON object in a text, after a look at how deep and how long it is."""
    depth = 0
    for values, token in enumerate(_TOKEN.finditer(text), 1):
        first = token.group()[0]
        if first in "[{":
            depth += 1
            if depth > bounds.depth:
                raise Unreadable(
                    f"brackets are nested more than {bounds.depth} deep, as in no notebook"
                )
        elif first in "]}":
            depth -= 1
        if values > bounds.values:
            raise Unreadable(f"the file holds more than {bounds.values} values, as no notebook")
    repaired: set[str] = set()
    try:
        book = json.loads(
            text,
            parse_constant=lambda name: repaired.add("numbers that are none") or None,
            parse_int=lambda digits: int(digits) if len(digits) < 20 else 0,
            object_pairs_hook=lambda pairs: _object(pairs, repaired),
            strict=False,
        )
    except (ValueError, RecursionError) as error:
        raise Unreadable(_what_else(text, error)) from None
    if repaired:
        notes.append(Note("the file's JSON was repaired", ", ".join(sorted(repaired))))
    if not isinstance(book, dict):
        raise Unreadable("the file is JSON, but no notebook")
    return book


def _object(pairs: list[tuple[str, Any]], repaired: set[str]) -> dict[str, Any]:
    found = dict(pairs)  # of two equal keys the last one counts, as for every reader
    if len(found) < len(pairs):
        repaired.add("names given twice")
    return found


def _what_else(text: str, error: Exception) -> str:
    """What a file is that is no JSON."""
    start = text.lstrip()[:200].lower()
    if start.startswith("pk\x03\x04"):
        return "the file is a zip archive: unpack it and hand in the .ipynb file"
    if start.startswith(("<!doctype", "<html", "<?xml")):
        return "the file is a web page: hand in the .ipynb file (File, Download)"
    if start.startswith("%pdf"):
        return "the file is a PDF: hand in the .ipynb file"
    if re.search(r"^\s*<<<<<<< ", text[:1_000_000], re.MULTILINE):
        return "the file holds the marks of an unfinished git merge (<<<<<<<): finish the merge"
    if start.startswith("{"):
        where = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        return f"the file begins like a notebook and breaks off or is damaged{where}"
    return "the file is not a notebook (it is not JSON)"


def _cells_of(book: dict[str, Any], notes: list[Note]) -> list[Any]:
    """The cells of a notebook of any format."""
    cells = book.get("cells")
    if isinstance(cells, list):
        if book.get("nbformat") != 4:
            said = f"it calls itself {_short(book.get('nbformat'))}; it was read as format 4"
            notes.append(Note("the notebook's format was repaired", said))
        return cells
    sheets = book.get("worksheets")
    if not isinstance(sheets, list):
        raise Unreadable("the file is JSON, but no notebook: there are no cells in it")
    said = f"it has the old format {_short(book.get('nbformat'))}"
    notes.append(Note("the notebook's format was repaired", said))
    found: list[Any] = []
    for sheet in sheets:
        part = sheet.get("cells") if isinstance(sheet, dict) else None
        found += part if isinstance(part, list) else []
    return found


_PYTHON = ("python", "ipython", "conda", "xpython")
_NAMED = (("kernelspec", "language"), ("kernelspec", "name"), ("language_info", "name"))


def _note_kernel(metadata: Any, notes: list[Note]) -> None:
    """Say so where a notebook names another language than Python, at the first place it does."""
    metadata = metadata if isinstance(metadata, dict) else {}
    for part, key in [
        ("kernelspec", "language"),
        ("kernelspec", "name"),
        ("language_info", "name"),
    ]:
        holder = metadata.get(part)
        said = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(said, str) and said:
            if not said.lower().startswith(_PYTHON):
                text = f"the notebook names the kernel {_short(said)}; it was graded with Python"
                notes.append(Note("another kernel was named", text))
            return


def _cell(cell: dict[str, Any], room: Room) -> LooseCell:
    kind = cell.get("cell_type")
    metadata = cell.get("metadata")
    claims = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    value = cell["source"] if "source" in cell else cell.get("input")  # input until format 3
    outputs = cell.get("outputs")
    return LooseCell(
        kind if isinstance(kind, str) else "code",
        room.source(text_of(value)),
        claims if isinstance(claims, dict) else {},
        tuple(room.outputs(outputs)) if isinstance(outputs, list) else (),
    )


def _short(value: Any) -> str:
    return repr(value if isinstance(value, str | int | float) else type(value).__name__)[:60]
