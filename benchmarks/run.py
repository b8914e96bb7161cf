"""Ours against peers, side by side in one run: ``make bench``.

Writes ``benchmarks/results/<device>.json``: one row a comparison (name, milliseconds of ours, the
peer's time over ours with its quartiles, the largest error of ours against float64, and for a bar's
rows the operations that take the time), one a fitted exponent, one a bar, each with versions,
commit, command and date. A ratio above 1: ours is faster. Ratios are what to read; milliseconds
belong to the machine and the hour. The peers live in an environment of their own
(``benchmarks/requirements.txt``), made on the first run; without a network what needs them is left
out, and the table says so.

    python benchmarks/run.py                  # on a GPU where there is one
    python benchmarks/run.py --device cpu     # some twenty minutes
    python benchmarks/run.py --gpu --smoke    # the GPU's comparisons at tiny sizes, on any machine
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch
from rich.console import Console
from rich.table import Table

from lookback import measure
from provenance import provenance, write
from suite import comparison, cpu, environment, everywhere


def rows(device: torch.device, gpu: bool, small: bool, seconds: float, console: Console):
    """Every row of a device, the bars last."""
    suite = cpu
    if gpu:
        from suite import gpu as suite
    found: list[dict] = []
    # first, on a heap that nothing has used: what is freed by others decides how memory is had
    for row in [suite.memory(device, small)] if gpu else _growth(small):
        found.append(row)
        console.print(f"{row['name']}: exponent {row['exponent']:.2f}", style="dim")
    for compared in _comparisons(suite, gpu, device, small):
        row = comparison.row(compared, device, seconds)
        if row.get("tflops") and compared.bar == "decoder":
            found.append(row | {"name": f"{row['name']}, share of the peak", "bar": "share"})
            found[-1]["share"] = row["tflops"] * 1e12 / suite.PEAK
        found.append(row)
        console.print(_line(row), style="dim")
    bars = (bar.row(found) for bar in suite.BARS)
    return found + [row for row in bars if row is not None]


def _comparisons(suite, gpu: bool, device, small: bool) -> Iterator[comparison.Comparison]:
    for compared in suite.COMPARISONS:
        yield from compared(device, small) if gpu else compared(small)
    yield from everywhere.one_matmul(device, small)
    yield from everywhere.recurrence(device, small)


def _growth(small: bool) -> Iterator[dict]:
    for name, (way, lengths) in cpu.growing(small).items():
        times = []
        for T in lengths:
            q, k, v = torch.randn(3, 1, 1, T, 64)
            with torch.no_grad():
                found = measure.seconds(partial(way, q, k, v), processor=True)
            times.append(1e3 * found.median)
        yield {
            "name": f"growth with T, {name}",
            "kind": "growth",
            "bar": f"exponent, {name}",
            "lengths": list(lengths),
            "ms": times,
            "exponent": measure.fitted_exponent(lengths, times),
        }


def table(found: list[dict], title: str) -> Table:
    """The comparisons as they are read in a terminal."""
    made = Table(title=title, title_justify="left")
    for heading in ("comparison", "peer", "ours, ms", "ratio (quartiles)", "error"):
        made.add_column(heading)
    for row in found:
        if row["kind"] != "comparison":
            continue
        error = "" if row["error"] is None else f"{row['error']:.1e}"
        made.add_row(row["name"], row["peer"], f"{row['ours_ms']:.2f}", _ratio(row), error)
    return made


def bars(found: list[dict]) -> Table:
    """The bars, each with what was found."""
    made = Table(title="bars", title_justify="left")
    for heading in ("bar", "wanted", "found", "met"):
        made.add_column(heading)
    for row in found:
        if row["kind"] == "bar":
            wanted = f"{'≤' if row['most'] else '≥'} {row['wanted']:g}"
            made.add_row(row["text"], wanted, f"{row['found']:.2f}", "yes" if row["met"] else "no")
    return made


def _ratio(row: dict) -> str:
    if row.get("missing"):
        return "peer not installed"
    low, high = row["spread"]["low"], row["spread"]["high"]
    return f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"


def _line(row: dict) -> str:
    return f"{row['name']}: {_ratio(row)}"


def _versions() -> dict[str, str]:
    found = {}
    for name in ("x-transformers", "transformers", "triton"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--gpu", action="store_true", help="the GPU's comparisons, wherever")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes; writes nothing")
    parser.add_argument("--seconds", type=float, default=6.0, help="for one comparison, about")
    parser.add_argument("--here", action="store_true", help="in this environment, peers or not")
    options = parser.parse_args()
    if not options.here:
        python = str(environment.python())
        os.execv(python, [python, __file__, *sys.argv[1:], "--here"])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device, console = torch.device(options.device), Console()
    gpu = options.gpu or device.type == "cuda"
    absent = environment.missing()
    if absent:
        console.print(f"not installed, so left out: {', '.join(absent)}")
    if device.type == "cpu" and gpu:
        os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is first imported
    seconds = 0.05 if options.smoke else options.seconds
    command = f"python benchmarks/run.py --device {device.type}"
    source = provenance(command, device)  # first: the commit may move on while this runs
    source["versions"] |= _versions()
    found = rows(device, gpu, options.smoke, seconds, console)
    console.print(table(found, f"{source['device']}: the peer's time over ours"))
    console.print(bars(found))
    if options.smoke:
        return
    name = re.sub(r"[^a-z0-9]+", "-", source["device"].lower()).strip("-")
    path = write(name, [row | source for row in found])
    console.print(f"written to {path.relative_to(environment.ROOT)}")


if __name__ == "__main__":
    main()
