"""The comparisons of ``make bench`` at tiny sizes, those for a GPU in Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lookback.measure import fitted_exponent
from suite import cpu
from suite.comparison import Bar, Comparison, row

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = """
import json, sys
import torch
torch.set_num_threads(1)
from rich.console import Console
import run
gpu = sys.argv[1] == "gpu"
found = run.rows(torch.device("cpu"), gpu, True, 0.02, Console(file=sys.stderr))
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def found(request) -> tuple[str, list[dict]]:
    """The rows of one device at tiny sizes, made without the peers' packages."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("benchmarks", "src"))
    here = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TINY, request.param]
    ran = subprocess.run(command, env=here, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return request.param, json.loads(ran.stdout.splitlines()[-1])


def test_every_comparison_runs_and_is_near_float64(found):
    _, rows = found
    compared = [r for r in rows if r["kind"] == "comparison"]
    assert len({r["name"] for r in compared}) == len(compared)
    for r in compared:
        assert r["error"] < 1e-3, f"{r['name']} is {r['error']} from float64"
        assert r.get("missing") or 0 < r["spread"]["low"] <= r["ratio"] <= r["spread"]["high"]


def test_every_bar_that_has_its_peer_is_found(found):
    device, rows = found
    if device == "gpu":
        from suite import gpu as suite
    else:
        suite = cpu
    absent = {r["bar"] for r in rows if r.get("missing")}
    reached = {r["name"] for r in rows if r["kind"] == "bar"}
    for bar in suite.BARS:
        if bar.id not in absent and bar.id not in ("forward, 64", "share"):
            assert f"bar: {bar.id}" in reached


def test_pages_find_the_rows_that_they_name(found):
    _, rows = found
    names = {r["name"] for r in rows}
    assert {"one-matmul", "LSTM, loop in Python, T = 8", "LSTM, compiled, T = 8"} <= names
    assert "attention, fused kernel, T 16" in names


def test_a_bar_is_met_by_the_median_on_the_side_that_it_asks_for():
    rows = [{"bar": "a", "ratio": r} for r in (1.0, 1.3, 2.0)] + [{"bar": "b", "ratio": 0.1}]
    at_least, at_most = Bar("a", "text", 1.2).row(rows), Bar("a", "text", 1.2, most=True).row(rows)
    assert at_least["found"] == at_most["found"] == 1.3
    assert at_least["met"]
    assert not at_most["met"]
    assert Bar("c", "text", 1.0).row(rows) is None


def test_a_comparison_without_its_peer_times_ours_alone():
    import torch

    made = row(Comparison("x", lambda: sum(range(500)), "absent", None), torch.device("cpu"), 0.01)
    assert made["missing"]
    assert made["ours_ms"] > 0
    assert "ratio" not in made


def test_committed_results_hold_their_bars_and_their_exponents():
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        rows = [r for r in json.loads(path.read_text("utf-8")) if isinstance(r, dict)]
        for r in rows:
            if r.get("kind") == "bar":
                assert r["met"] == (
                    r["found"] <= r["wanted"] if r["most"] else r["found"] >= r["wanted"]
                )
            elif r.get("kind") == "growth":
                values = r.get("ms") or r["bytes"]
                assert fitted_exponent(r["lengths"], values) == pytest.approx(r["exponent"])
