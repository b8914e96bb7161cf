"""The text of the pages as it is written, before anything is executed or rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator

import nbformat
import pytest
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

import book

PAGES = book.contents()
MARKDOWN = MarkdownIt().enable("table").use(dollarmath_plugin)
# a TeX command, or a dollar sign that opened or closed nothing
FORMULA = re.compile(r"\\[A-Za-z]{2,}|\$")


def prose(text: str) -> Iterator[str]:
    """Running text outside of code and formulas, that of exercises and boxes included."""
    for token in MARKDOWN.parse(text):
        if token.type == "fence" and token.info.startswith("{") and "code-cell" not in token.info:
            yield from prose(token.content)
        for child in token.children or []:
            if child.type == "text":
                yield child.content


def left_as_text(text: str) -> list[str]:
    return [line for line in prose(text) if FORMULA.search(line)]


def written(name: str) -> str:
    """All text of a page, without its code cells."""
    page = book.read_page(name)
    notebook = page.notebook
    if page.path.suffix == ".ipynb":
        notebook = nbformat.read(page.path, as_version=4)
    if notebook is None:
        return page.path.read_text("utf-8")
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


@pytest.mark.parametrize("name", PAGES)
def test_every_formula_of_a_page_is_read_as_a_formula(name):
    assert not left_as_text(written(name))


def test_a_formula_that_a_list_item_cuts_in_two_is_found():
    # a line that begins with a plus sign begins an item, also in the middle of a formula
    assert left_as_text("- a step: $h = \\tanh(W x\n  + U h)$.") != []
    assert left_as_text("- a step: $h = \\tanh(W x + U h)$, in `$HOME`.") == []
