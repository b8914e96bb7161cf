"""The ledger is whole, a record says everything, and the collection keeps it all."""

from __future__ import annotations

import json

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lookback import claims, measure

HERE = "book/05_self_attention/scaling"


def some(id: str = "scale-keeps-gradients", **changes) -> claims.Measurement:
    given = {"figures": {"variance at d = 64": 63.5}, "verdict": "holds", "says": "It grows."}
    return claims.record(id, **(given | changes))


def page(*measurements: claims.Measurement) -> nbformat.NotebookNode:
    """A notebook as it lies on disk after each measurement was shown in it."""
    cells = [new_markdown_cell("text"), new_code_cell("1")]
    for measurement in measurements:
        shown = new_output("execute_result", data=measurement._repr_mimebundle_())
        cells.append(new_code_cell("claims.record(...)", outputs=[shown]))
    cells[1].outputs = [new_output("stream", name="stdout", text="1\n")]
    return nbformat.reads(nbformat.writes(new_notebook(cells=cells)), as_version=4)


def test_the_ledger_holds_63_claims_each_with_known_sources_and_chapters():
    found = claims.ledger()
    assert len(found) == 63
    for claim in found.values():
        assert set(claim.sources) <= set(claims.sources()), claim.id
        assert claim.sources, claim.id
        assert claim.chapters == tuple(sorted(claim.chapters)), claim.id
        assert set(claim.chapters) <= set(range(1, 8)), claim.id
        assert claim.statement.endswith((".", "”.")), claim.id
        assert claim.how.endswith((".", "?")), claim.id
        assert claim.statement.count("`") % 2 == claim.how.count("`") % 2 == 0, claim.id
    first = [claim.chapters[0] for claim in found.values()]
    assert first == sorted(first)


def test_a_record_shows_statement_verdict_figures_device_and_seeds():
    found = some(
        figures={"entropy / nats": claims.spread([1.0, 2.0, 3.0]), "runs": [1, 2]},
        verdict="holds in part",
        pending={"ratio on a GPU": claims.PENDING},
        seeds=range(3),
    )
    for text in (found.html(), found.text()):
        assert claims.ledger()["scale-keeps-gradients"].statement in text
        for part in ("◐", "It grows.", "entropy / nats", "2 (1 to 3 over 3 runs)", "1, 2"):
            assert part in text
        assert measure.device_name() in text
        assert "ratio on a GPU" in text
        assert "pending" in text
        assert "seeds 0, 1, 2" in text
    assert "holds in part" in found.text()
    assert "Holds in part." in found.html()


def test_a_record_keeps_every_number_as_plain_json():
    found = some(
        figures={
            "tensor": torch.tensor(2.5),
            "array": np.arange(3),
            "pair": (torch.tensor(1), 2),
            "timing": measure.Spread(2.0, 1.0, 3.0, 5),
            "flag": True,
        },
        device="NVIDIA H200",
        seeds=torch.arange(2).tolist(),
    )
    stored = json.loads(json.dumps(found._repr_mimebundle_()[claims.MIME], allow_nan=False))
    assert stored["figures"] == {
        "tensor": 2.5,
        "array": [0, 1, 2],
        "pair": [1, 2],
        "timing": {"median": 2.0, "low": 1.0, "high": 3.0, "runs": 5},
        "flag": True,
    }
    assert stored["device"] == "NVIDIA H200"
    assert stored["seeds"] == [0, 1]


def test_text_in_a_record_cannot_become_markup():
    found = some(figures={"a < b": "<b>"}, says="`x` & <script>", device="<i>")
    shown = found.html()
    assert "<script>" not in shown
    assert "<b><b>" not in shown
    assert "<i>" not in shown
    assert "<code>x</code> &amp; &lt;script&gt;" in shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0"), (12, "12"), (0.12345, "0.123"), (1234.5, "1234"), (2.5e-7, "2.50e-07")],
)
def test_a_figure_is_shown_with_three_digits(value, expected):
    assert f"<b>{expected}</b>" in some(figures={"x": value}).html()


def test_collecting_gives_one_row_a_claim_in_the_order_of_the_ledger():
    rows = claims.collect({HERE: page(some(seeds=[0]))})["claims"]
    assert [row["id"] for row in rows] == list(claims.ledger())
    row = next(row for row in rows if row["id"] == "scale-keeps-gradients")
    assert row["verdict"] == "holds"
    assert row["missing"] == []
    assert row["measurements"] == [
        {
            "page": HERE,
            "verdict": "holds",
            "says": "It grows.",
            "figures": {"variance at d = 64": 63.5},
            "pending": {},
            "device": measure.device_name(),
            "seeds": [0],
        }
    ]
    others = [row for row in rows if row["id"] != "scale-keeps-gradients"]
    assert all(row["verdict"] is None and row["missing"] == row["chapters"] for row in others)


def test_a_claim_of_two_chapters_keeps_both_measurements_and_their_common_verdict():
    early, late = "book/01_rnn_limits/line", "book/05_self_attention/where"

    def row(first: str, second: str) -> dict:
        rows = claims.collect(
            {early: page(some("path-length", verdict=first)),
             late: page(some("path-length", verdict=second))}
        )  # fmt: skip
        return next(row for row in rows["claims"] if row["id"] == "path-length")

    assert [found["page"] for found in row("holds", "holds")["measurements"]] == [early, late]
    assert row("holds", "holds")["verdict"] == "holds"
    assert row("holds", "does not hold here")["verdict"] == "holds in part"
    half = claims.collect({late: page(some("path-length"))})["claims"]
    assert next(row for row in half if row["id"] == "path-length")["missing"] == [1]


def test_collecting_refuses_what_cannot_be_right():
    with pytest.raises(ValueError, match="records the claim 'scale-keeps-gradients' twice"):
        claims.collect({HERE: page(some(), some())})
    with pytest.raises(ValueError, match="'serial-steps', a claim of chapter 1"):
        claims.collect({HERE: page(some("serial-steps"))})
    unknown = page(some())
    unknown.cells[2].outputs[0].data[claims.MIME]["id"] = "gone"
    with pytest.raises(ValueError, match="'gone', which the ledger lacks"):
        claims.collect({HERE: unknown})


def test_the_table_shows_every_claim_and_links_to_the_page_that_measured_it():
    shown = claims.table(claims.collect({HERE: page(some())}))._repr_html_()
    for id in claims.ledger():
        assert f'id="claim-{id}"' in shown
    assert '<a href="05_self_attention/scaling.html">5, scaling</a>' in shown
    assert shown.count("<td>not yet</td>") == 62
    assert "✓ holds" in shown
    assert [f"Chapter {n}<" in shown for n in range(9)] == [False, *[True] * 7, False]
    assert "Still to be measured in chapter 1 and 5." in shown


def test_the_letters_of_the_sources_are_spelled_out():
    shown = claims.letters(claims.collect({}))._repr_html_()
    for letter, name in claims.sources().items():
        assert f"<li><b>{letter}</b>: {name}</li>" in shown


def test_committed_figures_are_pending_until_they_are_there(tmp_path):
    path = tmp_path / "device.json"
    assert claims.committed(path, "loop", "ratio") == "pending"
    path.write_text('[{"name": "loop", "ratio": 41.5}]')
    assert claims.committed(path, "loop", "ratio") == 41.5
    assert claims.committed(path, "loop", "spread") == "pending"
    assert claims.committed(path, "product", "ratio") == "pending"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: some("scale-keeps-gradient"), "did you mean 'scale-keeps-gradients'?"),
        (lambda: some(verdict="hold"), "not 'hold'; did you mean 'holds'?"),
        (lambda: some(verdict="zzz"), "one of 'holds', 'holds in part', 'does not hold here'"),
        (lambda: some(figures={}), "needs a figure"),
        (lambda: some(says=" "), "needs a sentence"),
        (lambda: some(figures={"loss": float("nan")}), "'loss' is nan"),
        (lambda: some(figures={"loss": [1.0, float("inf")]}), "'loss' is inf"),
        (lambda: some(figures={"loss": None}), "'loss' is a NoneType"),
        (lambda: some(figures={"loss": {"d = 4": 1.0}}), "give a spread, or a figure a key"),
        (lambda: some(figures={" ": 1.0}), "needs a name with its unit"),
        (lambda: some(pending={"variance at d = 64": 1}), "share names"),
        (lambda: claims.spread([]), "at least one value"),
    ],
)
def test_a_record_names_what_is_wrong_with_it(call, message):
    with pytest.raises(ValueError, match=message):
        call()
