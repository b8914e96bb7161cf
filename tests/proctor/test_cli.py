"""What instructors and students type: exit codes, resuming, and errors that say what to do."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from proctor import check, doctor, feedback
from proctor.cli import app

HERE = Path(__file__).parent
WRONG = "def draw(p, n, generator=None):\n    return torch.zeros(n).long()\n"


def run(*words: object):
    """One command: its exit code and what it printed."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def course(mini, tmp_path_factory) -> Path:
    """A course with the small exercise and three submissions, one of them no notebook."""
    work = {
        "ann": mini.submission(),
        "bob": mini.submission({"draw": WRONG}),
        "eve": b"not a notebook",
    }
    return hand_in(tmp_path_factory.mktemp("course"), work)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_grading_keeps_publishes_and_resumes(course):
    if "namespaces" not in doctor.offered():
        pytest.skip("this machine offers no namespaces")
    words = ("grade", "00_mini", "--root", course, "--json", "--isolation", "namespaces")
    first = run(*words)
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    earned = {row["student"]: row["earned"] for row in found["submissions"]}
    assert earned["ann"] == 10
    assert earned["bob"] < 10
    assert earned["eve"] == 0
    assert found["graded_now"] == 2
    for place in ("feedback/bob/00_mini/mini.html", "gradebook.db", "_build/reports/00_mini.html"):
        assert (course / place).is_file(), place
    assert (course / ".proctor" / "secret").stat().st_mode & 0o077 == 0

    again = run(*words)
    assert json.loads(again.stdout)["graded_now"] == 0

    shown = run("show", "bob", "00_mini", "--root", course)
    assert shown.exit_code == 0
    assert "draw__repeatable" in shown.stdout.replace("\n", "")

    source = course / "solutions" / "00_mini" / "mini.py"
    before = source.read_text()
    source.write_text(before.replace("atol=0.06", "atol=1.0"))
    moves = json.loads(run("regrade", "00_mini", "--root", course, "--json",
                           "--isolation", "namespaces").stdout)["moves"]  # fmt: skip
    assert [move["student"] for move in moves] == ["bob"]
    assert moves[0]["after"] > moves[0]["before"]
    current = json.loads(run("show", "bob", "00_mini", "--root", course, "--json").stdout)
    earned_now = sum(c["earned"] for c in current["record"]["checks"])
    assert earned_now == earned["bob"], "regrade wrote before it was told to"
    source.write_text(before)


MARKUP = (r"\[/x] [bold]a[/bold]", r"[/] \\[link=file:///etc]b", ":smile: \x1b[31mred")


def hand_in(root: Path, work: dict[str, bytes]) -> Path:
    """A course of the small exercise, with these submissions by student."""
    (root / "solutions" / "00_mini").mkdir(parents=True)
    shutil.copy(HERE / "exercise" / "mini.py", root / "solutions" / "00_mini")
    for student, data in work.items():
        folder = root / "submitted" / student / "00_mini"
        folder.mkdir(parents=True)
        (folder / "mini.ipynb").write_bytes(data)
    return root


@pytest.mark.parametrize("said", MARKUP)
def test_no_text_of_a_student_is_markup_for_the_terminal(mini, tmp_path, said):
    answer = f"def draw(p, n, generator=None):\n    raise ValueError({said!r})\n"
    name = said.replace("/", "|").replace("\x1b", "")
    root = hand_in(tmp_path, {name: mini.submission({"draw": answer}), "ann": mini.submission()})
    graded = run("grade", "00_mini", "--root", root, "--isolation", "limits", "--no-gradebook")
    assert graded.exit_code == 0, graded.output
    assert "10 / 10" in graded.output
    shown = run("show", name, "00_mini", "--root", root)
    assert shown.exit_code == 0, shown.output
    for text in (graded.output, shown.output):
        printed = "".join(c for c in text if c not in " \n│")
        assert said.replace("\x1b", "\N{REPLACEMENT CHARACTER}").replace(" ", "") in printed
        assert "\x1b" not in text


def test_a_page_that_cannot_be_made_costs_no_other_student_anything(mini, tmp_path, monkeypatch):
    root = hand_in(tmp_path, {"ann": mini.submission(), "bob": mini.submission()})

    def broken(folder, record, exercise):
        if record.student == "ann":
            raise LookupError("no such page")
        return write(folder, record, exercise)

    write = feedback.write
    monkeypatch.setattr(feedback, "write", broken)
    graded = run("grade", "00_mini", "--root", root, "--isolation", "limits", "--no-gradebook")
    assert graded.exit_code == 1
    assert "the pages of ann: LookupError: no such page" in graded.output
    assert (root / "feedback" / "bob" / "00_mini" / "mini.html").is_file()
    assert (root / "_build" / "reports" / "00_mini.html").is_file()
    assert json.loads(run("show", "ann", "00_mini", "--root", root, "--json").stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("grade", "99_none"), "00_mini"),
        (("grade", "00_mini", "--isolation", "moat"), "choose one of jail"),
        (("show", "zoe", "00_mini"), "run `proctor grade 00_mini`"),
    ],
)
def test_an_error_says_what_to_do_and_exits_with_2(course, words, said):
    result = run(*words, "--root", course)
    assert result.exit_code == 2
    assert said in result.output


def test_doctor_tries_every_wall_and_names_the_level():
    found = json.loads(run("doctor", "--json").stdout)
    assert {f["level"] for f in found["findings"]} == {
        "jail", "namespaces", "landlock", "filter", "limits",
    }  # fmt: skip
    assert found["levels"][-1] == "limits"
    assert all(f["works"] or f["mend"] for f in found["findings"])


def test_without_walls_grading_is_refused_with_the_mend(monkeypatch):
    findings = [
        doctor.Finding("jail", False, "there is no bwrap command", "install bubblewrap"),
        doctor.Finding("namespaces", False, "namespaces are refused", "allow them"),
        doctor.Finding("landlock", False, "this kernel has no Landlock", "start another"),
        doctor.Finding("limits", True, "resource limits"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    for wanted in (None, "jail"):
        with pytest.raises(ValueError, match=r"install bubblewrap.*--isolation limits"):
            doctor.choose(wanted)
    assert doctor.choose("limits") == "limits"


def test_a_student_sees_visible_checks_by_task(mini, tmp_path):
    path = tmp_path / "mini.ipynb"
    path.write_bytes(mini.submission({"draw": WRONG}))
    result = check.check(path)
    rows = {row[0]: row for row in result.rows()}
    assert rows["soft_rows"][1:3] == ("1 of 1", "2 / 2")
    assert rows["draw"][1:3] == ("0 of 1", "0 / 1")
    assert "the frequencies" in rows["draw"][3]
    assert not result.passed
    assert "<script>" not in result._repr_html_()
    assert run("check", path).exit_code == 1
    path.write_bytes(mini.submission())
    assert run("check", path).exit_code == 0
    path.write_text("{}")
    assert "no cells" in run("check", path).output


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("def draw(p, n)\n    return 1", "your cell stopped: SyntaxError: expected ':'"),
        ("sow(1)\n" + WRONG, "your cell stopped: NameError: name 'sow' is not defined\nNameError"),
        ("raise NotImplementedError", check.NOTHING),
    ],
)
def test_a_cell_that_stopped_is_told_before_what_its_checks_miss(mini, tmp_path, answer, said):
    path = tmp_path / "mini.ipynb"
    path.write_bytes(mini.submission({"draw": answer}))
    (shown,) = [c for c in check.check(path).checks if c.task == "draw"]
    assert shown.message.startswith(said)


def test_an_untouched_notebook_has_nothing_written(mini, tmp_path):
    released = {p.grade_id: p.released for p in mini.exercise.answers}
    path = tmp_path / "mini.ipynb"
    path.write_bytes(mini.submission(released))
    assert all(not c.passed for c in check.check(path).checks)
    notebook = nbformat.read(path, as_version=4)
    assert any("raise NotImplementedError" in cell.source for cell in notebook.cells)
