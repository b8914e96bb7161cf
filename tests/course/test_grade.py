"""A folder of submissions: every odd one is named, none is lost."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

import grade
from proctor.plain import Check, Marks

KNOWN = ["05_self_attention"]


@pytest.fixture
def submitted(tmp_path: Path) -> Path:
    place = tmp_path / "submitted" / "amara" / "05_self_attention"
    place.mkdir(parents=True)
    (place / "self_attention.ipynb").write_text("{}", "utf-8")
    return tmp_path / "submitted"


def test_a_well_placed_submission_is_found(submitted):
    found, odd = grade.find(submitted, KNOWN)
    assert found == {"05_self_attention": {"amara": "{}"}}
    assert odd == []


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("bruno/", None, "bruno: the folder is empty"),
        ("bruno/5_attention/x.ipynb", b"{}", "bruno/5_attention: no such exercise; they are 05_"),
        (
            "bruno/05_self_attention/my answer.ipynb",
            b"{}",
            "self_attention.ipynb is missing; the folder holds my answer.ipynb",
        ),
        ("bruno/05_self_attention/", None, "the folder holds nothing"),
        ("bruno/05_self_attention/self_attention.ipynb", b"\xff\xfe", "not a UTF-8 file"),
        ("bruno.ipynb", b"{}", "bruno.ipynb: not a folder"),
    ],
)
def test_what_is_no_submission_is_named_and_left_where_it_lies(submitted, path, content, told):
    target = submitted / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.write_bytes(content)
    found, odd = grade.find(submitted, KNOWN)
    assert found == {"05_self_attention": {"amara": "{}"}}
    assert len(odd) == 1
    assert told in odd[0]
    assert target.exists()


def test_an_absent_folder_holds_no_submission(tmp_path):
    assert grade.find(tmp_path / "nowhere", KNOWN) == ({}, [])


def test_the_table_and_the_file_show_score_points_and_the_first_words(tmp_path):
    message = "AssertionError: the scores were not divided by √K\n  first at [0]"
    marks = {
        "amara": Marks({"attend__scale": Check(0, 2, message), "mask__square": Check(2, 2)}),
        "bruno": Marks({}, "Traceback\nNotJSONError: not JSON"),
    }
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(grade.table("05_self_attention", marks))
    shown = console.export_text()
    assert "50%" in shown
    assert "attend −2: the scores were not divided by √K" in shown
    assert "not graded: NotJSONError: not JSON" in shown

    grade.write_csv(tmp_path / "grades.csv", {"05_self_attention": marks})
    rows = list(csv.DictReader((tmp_path / "grades.csv").open(encoding="utf-8")))
    assert [row["score"] for row in rows] == ["2", "0"]
    assert rows[1]["error"]
