"""How much of a file is kept: the bounds, the room that is left, and saved outputs in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from proctor.records import Note, Output

MiB = 2**20


@dataclass(frozen=True)
class Bounds:
    """What a file may hold; what is over a bound is left out and noted, or refuses the file.

    Args:
        size: bytes of the file.
        depth: brackets within brackets.
        values: strings, brackets and commas together.
        cells: cells of a notebook.
        source: characters of one cell.
        outputs: saved outputs that are kept of one cell.
        text: characters in them.
        image: characters of one saved image, in base64.
        images: characters of all saved images of a notebook.
    """

    size: int = 32 * MiB
    depth: int = 100
    values: int = 2_000_000
    cells: int = 2_000
    source: int = 200_000
    outputs: int = 50
    text: int = 10_000
    image: int = 1 * MiB
    images: int = 4 * MiB


DEFAULT = Bounds()


class Room:
    """How much may still be kept, and what was not."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds, self.images = bounds, bounds.images
        self.long_sources = self.left_out = 0

    def source(self, text: str) -> str:
        """The source of a cell; nothing where it is too long."""
        if len(text) <= self.bounds.source:
            return text
        self.long_sources += 1
        return ""

    def outputs(self, outputs: list[Any]) -> Iterable[Output]:
        """The saved outputs of a cell, as far as there is room for them."""
        text_room = self.bounds.text
        self.left_out += max(len(outputs) - self.bounds.outputs, 0)
        for output in outputs[: self.bounds.outputs]:
            if not isinstance(output, dict):
                continue
            kind, data = _output(output)
            if kind in ("png", "jpeg"):
                if len(data) > min(self.bounds.image, self.images):
                    self.left_out += 1
                    continue
                self.images -= len(data)
            elif not data or not text_room:
                self.left_out += bool(data)
                continue
            else:
                self.left_out += len(data) > text_room
                data = data[:text_room]
                text_room -= len(data)
            yield Output(kind, data)

    def notes(self) -> list[Note]:
        """What was left out."""
        found = []
        if self.long_sources:
            said = f"cells of more than {self.bounds.source} characters: {self.long_sources}"
            found.append(Note("an overlong cell was left out", said))
        if self.left_out:
            said = f"the feedback leaves out the rest of {self.left_out} saved outputs"
            found.append(Note("long outputs were cut", said))
        return found


_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def _output(output: dict[str, Any]) -> tuple[str, str]:
    """What is kept of an output: an image, or text without colour codes."""
    kind = output.get("output_type")
    data = output.get("data")
    data = data if isinstance(data, dict) else output  # until format 3 there was no data
    if kind in ("error", "pyerr"):
        lines = output.get("traceback")
        said = "\n".join(x for x in lines if isinstance(x, str)) if isinstance(lines, list) else ""
        said = said or f"{text_of(output.get('ename'))}: {text_of(output.get('evalue'))}"
        return "error", _ANSI.sub("", _clean(said))
    if kind == "stream":
        return "text", _ANSI.sub("", text_of(output.get("text")))
    for mime, old, name in (("image/png", "png", "png"), ("image/jpeg", "jpeg", "jpeg")):
        image = text_of(data.get(mime, data.get(old)))
        if image:
            return name, "".join(image.split())
    return "text", _ANSI.sub("", text_of(data.get("text/plain", data.get("text"))))


def text_of(value: Any) -> str:
    """A text that may be stored as a list of lines."""
    if isinstance(value, list):
        value = "".join(line for line in value if isinstance(line, str))
    return _clean(value) if isinstance(value, str) else ""


def _clean(text: str) -> str:
    """One kind of line end, and no half of a surrogate pair, which no file can hold."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
