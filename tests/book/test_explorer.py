"""The explorer on the first page of chapter 05 computes what the library computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from browsing import started
from lookback.attention import attention_weights

SCRIPT = Path(__file__).parents[2] / "book" / "_static" / "explorer_attention.js"
KEYS = torch.tensor(
    [[0, 0, 0, 1], [2, 0, 0, 0], [0, 0, 2, 0], [0, 1, 0, 1], [0, 0, 0, 1], [0, 2, 0, 0]]
).double()
VALUES = torch.tensor([[0, 0], [10, 0], [0, 0], [0, 5], [0, 0], [0, 10]]).double()

pytestmark = pytest.mark.xdist_group("rendered")


@pytest.fixture(scope="module")
def browser(chromium):
    with started(chromium) as found:
        yield found


@pytest.fixture
def explorer(browser):
    page = browser.new_page()
    page.set_content('<div id="explorer-attention"></div>')
    page.add_script_tag(path=str(SCRIPT))
    yield page
    page.close()


def shown(page) -> tuple[list[float], list[float]]:
    """Weights in the table, and the two numbers of the sum below it."""
    weights = [float(text) for text in page.locator("tbody td:last-child").all_inner_texts()]
    return weights, [float(x) for x in re.findall(r"\d+\.\d+", page.inner_text("[aria-live]"))]


def expected(query, keys=KEYS, scale=0.5) -> tuple[list[float], list[float]]:
    weights = attention_weights(torch.tensor([query]).double(), keys, scale=scale)
    return weights[0].tolist(), (weights @ VALUES)[0].tolist()


def agree(found, wanted) -> bool:
    return all(a == pytest.approx(b, abs=0.006) for a, b in zip(found, wanted, strict=True))


def test_the_explorer_opens_with_the_numbers_of_the_page(explorer):
    assert agree(shown(explorer), expected([2, 2, 0, 0]))


def test_the_explorer_follows_the_arrow_keys(explorer):
    explorer.get_by_label("sat looks for a place").focus()
    for _ in range(5):
        explorer.keyboard.press("ArrowLeft")
    assert agree(shown(explorer), expected([2, -3, 0, 0]))
    explorer.get_by_label("mat is a place").focus()
    explorer.keyboard.press("Home")
    keys = KEYS.clone()
    keys[5, 1] = -4
    assert agree(shown(explorer), expected([2, -3, 0, 0], keys))


def test_the_explorer_leaves_the_division_out_when_asked(explorer):
    explorer.get_by_label("divide by √4").uncheck()
    assert agree(shown(explorer), expected([2, 2, 0, 0], scale=1.0))
