"""The walled-in side: it runs the student's cells, and what the examiner asks of them.

Nothing here is trusted. Student code shares this process, so it may overhear or forge every frame;
all it can forge is its own answers.
"""

from __future__ import annotations

import ast
import base64
import builtins
import io
import linecache
import random
import sys
import traceback
import types
from typing import Any

import torch

from proctor.limits import Limits
from proctor.link import Served, of
from proctor.magics import notebook_names
from proctor.peer import Peer
from proctor.results import Returned
from proctor.values import Packer
from proctor.wire import Channel, WireError


class Candidate(Peer):
    """The student's namespace behind a channel.

    Args:
        channel: to the examiner.
        limits: how much of what a cell prints is kept.
    """

    def __init__(self, channel: Channel, limits: Limits) -> None:
        words = {
            "cell": self._serve_cell,
            "attribute": self._serve_attribute,
            "begin": self._serve_begin,
        }
        super().__init__(channel, words, open_handed=True)
        self.limits = limits
        self.module = types.ModuleType("__main__")
        vars(builtins).update(notebook_names())
        torch.compile = _eager
        self.lent: dict[str, Any] = {}
        self.cells: set[str] = set()
        self.returned = Returned()
        sys.modules["__main__"] = self.module

    def run(self) -> None:
        """Serve until the examiner is done."""
        while True:
            self.serve(*self.channel.receive())

    def describe_error(self, error: BaseException) -> dict[str, str]:
        return super().describe_error(error) | {"where": self._where(error)}

    def _serve_cell(self, served: Served) -> tuple[dict, Packer]:
        """Run one cell of the notebook: what it printed, and the error that stopped it."""
        label, source = of(str, served.head.get("label")), of(str, served.head.get("source"))
        settle(served.head)
        printed = Printed(self.limits.output)
        result: dict[str, Any] = {"error": None}
        outside = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = printed
        try:
            self._execute(source, self._remember(label, source))
        except BaseException as error:
            result["error"] = self.describe_error(error)
        finally:
            sys.stdout, sys.stderr = outside
        return result | {"printed": printed.text}, self.packer()

    def _execute(self, source: str, filename: str) -> None:
        """What a notebook does with a cell: run it, and show the value it ends with."""
        tree = ast.parse(source, filename)
        shown = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            shown = ast.Expression(tree.body.pop().value)
        names = self.module.__dict__
        exec(compile(tree, filename, "exec", dont_inherit=True), names)
        if shown is not None:
            value = eval(compile(shown, filename, "eval", dont_inherit=True), names)
            if value is not None:
                print(repr(value))

    def _serve_attribute(self, served: Served) -> tuple[dict, Packer]:
        owner = served.unpacker.value(served.head.get("of"))
        value = getattr(owner, of(str, served.head.get("name")))
        packer = self.packer()
        if callable(value) and not isinstance(value, torch.nn.Module):
            return {"method": True}, packer
        return {"v": packer.value(value)}, packer

    def open(self, served: Served) -> None:
        """Put the examiner's callables under the student's names, or the student's own back."""
        super().open(served)
        names = self.module.__dict__
        for name, data in of(dict, served.head.get("given", {})).items():
            if data is None:
                old = self.lent.pop(name, _ABSENT)
                names.pop(name, None) if old is _ABSENT else names.update({name: old})
            else:
                self.lent.setdefault(name, names.get(name, _ABSENT))
                names[name] = served.unpacker.value(data)

    def _serve_begin(self, served: Served) -> tuple[dict, Packer]:
        """Before a check: forget the last one, seed every generator, and say what is defined.

        Of the names that are asked for, those that the student defined, and what they are.
        """
        self.forget(), self.returned.forget()
        seed = of(int, served.head.get("seed"))
        random.seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(seed % 2**32)
        packer, names = self.packer(), self.module.__dict__
        found = {
            name: packer.value(names[name])
            for name in of(list, served.head.get("names"))
            if name in names and not isinstance(names[name], types.ModuleType)
        }
        return {"found": found}, packer

    def _serve_call(self, served: Served) -> tuple[dict, Packer]:
        settle(served.head)
        before = torch.get_rng_state()
        result, packer = super()._serve_call(served)
        self.returned.tell(of(int, served.head["n"]), packer, served.unpacker, result)
        result["drew"] = not torch.equal(before, torch.get_rng_state())
        return result, packer

    def _remember(self, label: str, source: str) -> str:
        """The name under which errors speak of a cell, with its lines kept for them."""
        filename = f"<{label}>"
        self.cells.add(filename)
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        return filename

    def _where(self, error: BaseException) -> str:
        """The lines of the student's own cells that an error came through, the last ones."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in self.cells]
        lines = [f"{f.filename} line {f.lineno}, in {f.name}\n    {f.line}" for f in frames[-6:]]
        if isinstance(error, SyntaxError) and error.filename in self.cells:
            lines.append(f"{error.filename} line {error.lineno}\n    {(error.text or '').strip()}")
        return "\n".join(lines)


def _eager(model: Any = None, **options: Any) -> Any:
    """``torch.compile`` without its compiler, which writes and starts what it may not here."""
    return (lambda model: model) if model is None else model


class Printed(io.TextIOBase):
    """What a cell prints, up to a number of characters; the rest is dropped."""

    def __init__(self, limit: int) -> None:
        self.limit, self.text = limit, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        room = self.limit - len(self.text)
        if room > 0:
            self.text += text[:room]
            if len(text) > room:
                self.text += "\n… the rest is left out"
        return len(text)


def settle(head: dict[str, Any]) -> None:
    """Torch's settings as they are on the examiner's side, whatever student code made of them."""
    torch.set_default_dtype(getattr(torch, of(str, head.get("dtype", "float32"))))
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    if torch.get_default_device().type != "cpu":
        torch.set_default_device(None)  # "cpu" would slow down whatever makes a tensor
    torch.set_grad_enabled(True)
    if head.get("rng"):
        state = bytearray(base64.b64decode(head["rng"]))
        torch.set_rng_state(torch.frombuffer(state, dtype=torch.uint8))


def main(channel: Channel, limits: Limits) -> None:
    """Serve one examiner, then return."""
    try:
        Candidate(channel, limits).run()
    except WireError:
        return


_ABSENT = object()
