"""The calculator on the page about inference computes what the page's own function computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from browsing import started

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "book" / "_static" / "explorer_cache.js"
PAGE = ROOT / "book" / "07_efficient_attention" / "at_inference.md"

pytestmark = pytest.mark.xdist_group("rendered")


@pytest.fixture(scope="module")
def browser(chromium):
    with started(chromium) as found:
        yield found


@pytest.fixture(scope="module")
def names():
    """What the page's cells define that need no model: the sizes, the formula, the table."""
    cells = re.findall(r"```\{code-cell\} ipython3\n(.*?)\n```", PAGE.read_text("utf-8"), re.S)
    formula = next(cell for cell in cells if "def cache_bytes" in cell).partition("\n\n\nsmall")[0]
    names: dict = {}
    exec(formula, names)
    for first in ('fields = ("layers"', "from IPython.display import HTML\n\nhead"):
        cell = next(cell for cell in cells if first in cell)
        code, found, table = cell[cell.index(first) :].partition("\nHTML(")
        exec(code, names)
        if found:
            names["table"] = eval(f"HTML({table}", names).data
    return names


@pytest.fixture
def calculator(browser, names):
    page = browser.new_page()
    page.set_content(f'{names["table"]}<div id="explorer-cache"></div>')
    page.add_script_tag(path=str(SCRIPT))
    yield page
    page.close()


def shown(page) -> float:
    """Bytes that stand behind the equals sign."""
    found = re.search(r"= ([\d.]+) (\w+)", page.inner_text("[aria-live]"))
    units = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}
    return float(found[1]) * units[found[2]]


def test_the_calculator_agrees_with_the_page_on_every_published_model(calculator, names):
    assert len(names["models"]) >= 5
    for name, sizes in names["models"].items():
        calculator.get_by_label("model").select_option(name)
        expected = names["held"](sizes, sizes["longest"])
        assert shown(calculator) == pytest.approx(expected, rel=0.006), name


def test_the_calculator_follows_every_size(calculator, names):
    calculator.get_by_label("model").select_option("GPT-3")
    for label, value in {
        "layers": 2,
        "heads of keys and values": 2,
        "width of a head": 3,
        "tokens": 5,
        "texts at a time": 7,
    }.items():
        calculator.get_by_label(label, exact=True).fill(str(value))
    calculator.get_by_label("bytes a number").select_option("4")
    assert shown(calculator) == pytest.approx(7 * names["cache_bytes"](2, 2, 3, 5, 4), rel=0.006)


def test_the_calculator_says_so_when_a_size_is_no_whole_number(calculator):
    for bad in ("0", "1.5", ""):
        calculator.get_by_label("layers").fill(bad)
        assert "whole number" in calculator.inner_text("[aria-live]")


def test_a_latent_has_no_heads_to_change(calculator):
    calculator.get_by_label("model").select_option("DeepSeek-V2")
    assert calculator.get_by_label("heads of keys and values").is_disabled()
    calculator.get_by_label("model").select_option("GPT-3")
    assert calculator.get_by_label("heads of keys and values").is_enabled()


def test_a_window_keeps_no_more_than_its_width(calculator, names):
    calculator.get_by_label("model").select_option("Mistral 7B")
    window = names["models"]["Mistral 7B"]["window"]
    before = shown(calculator)
    calculator.get_by_label("tokens", exact=True).fill(str(4 * window))
    assert shown(calculator) == before
    assert f"keeps {window:,} of" in calculator.inner_text("[aria-live]")
