"""When a page is executed again, and what a failing page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import book
import library

FRONT = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
reads: [data.json]
---
"""


@pytest.fixture
def course(tmp_path: Path, monkeypatch) -> Path:
    """A course of one page in a folder of its own."""
    for module in (book, library):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(book, "BUILD", tmp_path / "_build")
    package = tmp_path / "src" / "lookback"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "near.py").write_text("from lookback import far\n")
    (package / "far.py").write_text("VALUE = 1\n")
    (package / "aside.py").write_text("VALUE = 2\n")
    (tmp_path / "requirements.txt").write_text("torch==1\n")
    (tmp_path / "data.json").write_text("1")
    write(tmp_path, "from lookback import near\n1 + 1")
    return tmp_path


def write(course: Path, code: str, prose: str = "Text.") -> None:
    cell = f"```{{code-cell}} ipython3\n{code}\n```\n"
    (course / "page.md").write_text(f"{FRONT}\n# Page\n\n{prose}\n\n{cell}")


def key(course: Path) -> str:
    return book.fingerprint(book.read_page("page"))


@pytest.mark.parametrize(
    ("file", "text", "runs_again"),
    [
        ("src/lookback/near.py", "from lookback import far\nX = 1\n", True),
        ("src/lookback/far.py", "VALUE = 3\n", True),
        ("src/lookback/aside.py", "VALUE = 3\n", False),
        ("data.json", "2", True),
        ("requirements.txt", "torch==2\n", True),
    ],
)
def test_a_page_runs_again_when_what_it_depends_on_changes(course, file, text, runs_again):
    before = key(course)
    (course / file).write_text(text)
    assert (key(course) != before) == runs_again


def test_a_page_runs_again_when_its_code_changes_but_not_its_prose(course):
    before = key(course)
    write(course, "from lookback import near\n1 + 1", prose="Other text.")
    assert key(course) == before
    write(course, "from lookback import near\n1 + 2")
    assert key(course) != before


def test_a_module_that_is_loaded_by_name_counts_as_imported(course):
    write(course, "import importlib\nimportlib.import_module('lookback.aside')")
    before = key(course)
    (course / "src/lookback/aside.py").write_text("VALUE = 3\n")
    assert key(course) != before


def test_an_executed_page_keeps_its_outputs_under_new_prose(course):
    write(course, "6 * 7")
    book.execute([book.read_page("page")], jobs=1)
    write(course, "6 * 7", prose="Other text.")
    notebook = book.with_outputs(book.read_page("page"))
    assert "Other text." in notebook.cells[0].source
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "42"


def test_an_unchanged_page_is_not_executed_again(course):
    write(course, "import random\nrandom.random()")
    book.execute([book.read_page("page")], jobs=1)
    first = (course / "_build/pages/page.ipynb").read_bytes()
    book.execute([book.read_page("page")], jobs=1)
    assert (course / "_build/pages/page.ipynb").read_bytes() == first


def test_a_failing_cell_stops_the_build_and_is_shown_with_page_cell_and_error(course):
    write(course, "1 / 0")
    with pytest.raises(book.PageError) as failure:
        book.execute([book.read_page("page")], jobs=1)
    told = str(failure.value)
    assert "page.md, code cell 1 fails" in told
    assert "1 / 0" in told
    assert "ZeroDivisionError: division by zero" in told
    assert book.stored_key(book.read_page("page")) == ""


def test_a_warning_on_a_page_stops_the_build(course):
    write(course, "import warnings\nwarnings.warn('old')")
    with pytest.raises(book.PageError, match="code cell 1 warns"):
        book.execute([book.read_page("page")], jobs=1)


def test_a_damaged_store_is_executed_again(course):
    write(course, "6 * 7")
    book.execute([book.read_page("page")], jobs=1)
    (course / "_build/pages/page.ipynb").write_text("{half")
    assert book.stored_key(book.read_page("page")) == ""
    book.execute([book.read_page("page")], jobs=1)
    stored = json.loads((course / "_build/pages/page.ipynb").read_text())
    assert stored["metadata"]["lookback"]["key"] == key(course)


def test_a_page_that_the_contents_name_but_nobody_wrote_is_named(course):
    with pytest.raises(book.PageError, match="names absent"):
        book.read_page("absent")
