"""The ledger: every statement that the course puts to the test, read from ``ledger.toml``."""

from __future__ import annotations

import difflib
import html
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

# word → symbol, so that a verdict is never told by colour alone
VERDICTS = {"holds": "✓", "holds in part": "◐", "does not hold here": "✗"}


@dataclass(frozen=True)
class Claim:
    """One statement: who says it, how it is measured, and in which chapters."""

    id: str
    statement: str
    sources: tuple[str, ...]
    how: str
    chapters: tuple[int, ...]


def ledger() -> dict[str, Claim]:
    """Every claim by its id, in reading order."""
    return {
        id: Claim(id, row["statement"], tuple(row["sources"]), row["how"], tuple(row["chapters"]))
        for id, row in _file()["claims"].items()
    }


def sources() -> dict[str, str]:
    """What each letter of a claim's sources stands for."""
    return dict(_file()["sources"])


def look_up(id: str) -> Claim:
    """The claim of this id.

    Raises:
        ValueError: naming the nearest id, if there is none.
    """
    found = ledger()
    if id not in found:
        raise ValueError(f"the ledger has no claim {id!r}{_nearest(id, found)}")
    return found[id]


def check_verdict(verdict: str) -> None:
    """Refuse a verdict that is none of the three.

    Raises:
        ValueError: naming the nearest one.
    """
    if verdict not in VERDICTS:
        known = ", ".join(repr(word) for word in VERDICTS)
        near = _nearest(verdict, VERDICTS)
        raise ValueError(f"a verdict is one of {known}, not {verdict!r}{near}")


def marked_up(text: str) -> str:
    """Text as HTML: escaped, backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return f"; did you mean {found[0]!r}?" if found else ""


@cache
def _file() -> dict:
    return tomllib.loads(resources.files("lookback").joinpath("ledger.toml").read_text("utf-8"))
