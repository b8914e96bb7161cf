"""One measurement of one claim, as a page shows and stores it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lookback.claims.ledger import VERDICTS, check_verdict, look_up, marked_up
from lookback.measure import Spread, device_name

MIME = "application/vnd.lookback.claim+json"
PENDING = "pending"


@dataclass(frozen=True)
class Measurement:
    """What :func:`record` returns; a notebook shows it as a box and keeps every field."""

    id: str
    verdict: str
    says: str
    figures: dict
    pending: dict
    device: str
    seeds: list[int]

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            "text/html": self.html(),
            "text/plain": self.text(),
            MIME: dataclasses.asdict(self),
        }

    def html(self) -> str:
        """The box: statement, verdict, figures, device, seeds."""
        symbol = VERDICTS[self.verdict]
        where = f"Measured on {self.device}" + _seeds(self.seeds) + "."
        return (
            f'<div class="claim" data-claim="{self.id}" data-verdict="{self.verdict}">'
            f"<p><strong>Claim.</strong> {marked_up(look_up(self.id).statement)}</p>"
            f'<p><strong><span aria-hidden="true">{symbol}</span> {self.verdict.capitalize()}.'
            f"</strong> {marked_up(self.says)}</p>"
            f"{figures_html(self.figures | self.pending)}"
            f"<p><small>{marked_up(where)}</small></p></div>"
        )

    def text(self) -> str:
        """The same in plain text."""
        figures = [f"  {name}: {shown(x)}" for name, x in (self.figures | self.pending).items()]
        lines = [
            f"Claim {self.id}: {look_up(self.id).statement}",
            f"{VERDICTS[self.verdict]} {self.verdict}: {self.says}",
            *figures,
            f"Measured on {self.device}{_seeds(self.seeds)}.",
        ]
        return "\n".join(lines)


def record(
    id: str,
    *,
    figures: Mapping[str, object],
    verdict: str,
    says: str,
    pending: Mapping[str, object] | None = None,
    device: str | None = None,
    seeds: Sequence[int] | None = None,
) -> Measurement:
    """State what was measured for a claim. Make it the last line of a cell, so that it is shown.

    Args:
        id: the claim's id in the ledger.
        figures: what → number, text, list of numbers, :func:`spread` or
            :class:`lookback.measure.Spread`; the unit stands in the name.
        verdict: ``"holds"``, ``"holds in part"`` or ``"does not hold here"``.
        says: one or two sentences: what the figures say about the statement, and where it ends.
        pending: figures of another machine or of a downloaded corpus, from :func:`committed`.
        device: where it was measured; this machine's CPU when left out.
        seeds: seeds of everything random in it.

    Returns:
        The measurement.

    Raises:
        ValueError: if the id or the verdict is unknown, nothing was measured or said, or a figure
            is not finite or has no name.
    """
    look_up(id)
    check_verdict(verdict)
    if not figures:
        raise ValueError(f"the claim {id!r} needs a figure: what was measured?")
    if not says.strip():
        raise ValueError(f"the claim {id!r} needs a sentence: what do the figures say?")
    twice = set(figures) & set(pending or {})
    if twice:
        raise ValueError(f"figures and pending ones share names: {sorted(twice)}")
    return Measurement(
        id=id,
        verdict=verdict,
        says=says,
        figures={name: _plain(name, value) for name, value in figures.items()},
        pending={name: _plain(name, value) for name, value in (pending or {}).items()},
        device=device_name() if device is None else device,
        seeds=[int(seed) for seed in (seeds or [])],
    )


def spread(values: Sequence[object]) -> dict[str, float]:
    """Mean of several runs with the least and the most, as :func:`record` takes it.

    Raises:
        ValueError: if there are no values.
    """
    runs = [float(value) for value in values]
    if not runs:
        raise ValueError("a spread needs at least one value")
    return {"mean": sum(runs) / len(runs), "low": min(runs), "high": max(runs), "runs": len(runs)}


def committed(path: str | Path, name: str, field: str) -> object:
    """A figure of the committed results, or ``"pending"`` until it is there.

    Args:
        path: results of one device, a JSON list of rows, relative to the repository.
        name: of the row.
        field: of the figure in it.
    """
    path = Path(path)
    if not path.is_file():
        return PENDING
    for row in json.loads(path.read_text("utf-8")):
        if row.get("name") == name and field in row:
            return row[field]
    return PENDING


def figures_html(figures: Mapping[str, object]) -> str:
    """Figures as a list of name and value."""
    items = (f"<li>{marked_up(name)}: <b>{shown(x)}</b></li>" for name, x in figures.items())
    return f"<ul>{''.join(items)}</ul>"


def shown(value: object) -> str:
    """A figure as it is read: three significant digits, a spread with its bounds."""
    if isinstance(value, Mapping):
        middle = value.get("mean", value.get("median"))
        around = f"{shown(value['low'])} to {shown(value['high'])}"
        return f"{shown(middle)} ({around} over {value['runs']} runs)"
    if isinstance(value, list):
        return ", ".join(shown(x) for x in value)
    if isinstance(value, float):
        if value and not 1e-3 <= abs(value) < 1e5:
            return f"{value:.2e}"
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return marked_up(str(value))


def _plain(name: str, value: object) -> object:
    """A figure as JSON holds it: numbers of any library become Python's."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"a figure needs a name with its unit, got {name!r}")
    if isinstance(value, Spread):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        if not {"low", "high", "runs"} <= set(value):
            raise ValueError(f"the figure {name!r} is a mapping: give a spread, or a figure a key")
        return {key: _plain(name, part) for key, part in value.items()}
    if hasattr(value, "tolist"):  # a tensor or an array, of any rank
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(name, part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the figure {name!r} is {value}: a measurement must be finite")
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"the figure {name!r} is a {type(value).__name__}, not a number or text")
    return value


def _seeds(seeds: Sequence[int]) -> str:
    if not seeds:
        return ""
    return f", seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
