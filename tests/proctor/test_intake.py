"""Whatever is handed in is taken in or named, twice the same, and costs no honest question."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctor import intake, reading, release
from proctor.exercise import Exercise, checksum
from proctor.intake import Submission, take_in
from proctor.kept import Bounds
from proctor.magics import without_magics
from proctor.submitted import read_file, walk

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).resolve().parent / "corpus" / "intake"
CASES = tomllib.loads((CORPUS / "expected.toml").read_text("utf-8"))
BOUNDS = Bounds(size=200_000, cells=60, source=5_000)


@cache
def numbers() -> Exercise:
    """The small exercise that the corpus answers."""
    return Exercise.read(release.read_source(CORPUS / "exercise.py"), "00_numbers")


def data_of(case: str) -> bytes:
    return (CORPUS / f"{case}.submission").read_bytes()


def right() -> dict:
    """A right submission as plain data, to be spoilt."""
    return json.loads(data_of("right"))


def take(book: object, bounds: Bounds = intake.DEFAULT) -> Submission:
    return take_in(json.dumps(book).encode(), numbers(), bounds)


def marks(submission: Submission, exercise: Exercise) -> list[float]:
    """The points of each check, run in this process as the steps say: the corpus is our own."""
    earned = [0.0] * len(exercise.checks)
    names: dict = {}
    for kind, i in submission.steps:
        source = {
            "locked": lambda i=i: exercise.locked[i].source,
            "cell": lambda i=i: without_magics(submission.cells[i].source),
            "check": lambda i=i: exercise.checks[i].source,
        }[kind]()
        with contextlib.suppress(Exception, SystemExit), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, f"<{kind} {i}>", "exec"), names)
            if kind == "check":
                earned[i] = exercise.checks[i].points
    return earned


def test_every_file_of_the_corpus_says_what_becomes_of_it():
    assert {path.stem for path in CORPUS.glob("*.submission")} == set(CASES)
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES)
def test_each_case_of_the_corpus_gets_its_points_question_by_question(case):
    expected = CASES[case]
    taken = take_in(data_of(case), numbers())
    if "reason" in expected:
        assert expected["reason"] in taken.reason
        assert taken.cells == taken.steps == ()
        return
    assert taken.reason == ""
    assert marks(taken, numbers()) == expected["points"]
    assert sorted(note.kind for note in taken.notes) == expected.get("notes", [])
    assert all(note.text for note in taken.notes)


@pytest.mark.parametrize("case", CASES)
def test_the_same_bytes_are_taken_in_the_same_twice(case):
    assert take_in(data_of(case), numbers()) == take_in(data_of(case), numbers())


def test_every_check_and_locked_cell_runs_exactly_once_whatever_the_file():
    for case in CASES:
        taken = take_in(data_of(case), numbers())
        if not taken.reason:
            steps = [step for step in taken.steps if step[0] != "cell"]
            assert sorted(steps) == [*(("check", i) for i in range(4)), ("locked", 0)], case
            cells = [i for kind, i in taken.steps if kind == "cell"]
            assert cells == list(range(len(taken.cells))), case


@cache
def released() -> tuple[Exercise, str]:
    """Exercise 05, and the notebook that nbgrader's own release step makes of it."""
    from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions, ComputeChecksums

    source = release.read_source(release.source_path(ROOT, "05_self_attention"))
    exercise = Exercise.read(source, "05_self_attention")
    config = release.course_config(ROOT, ROOT)
    book = nbformat.reads(nbformat.writes(source), as_version=4)
    for step in (ClearSolutions, ClearHiddenTests, ComputeChecksums):
        book, _ = step(config=config).preprocess(book, {})
    return exercise, nbformat.writes(book)


THROUGH = (
    "syntax_error exits format3 stripped_lambda copy_wrong_first copy_for_trying missing_tests "
    "answers_alone edited_setup flipped_flags reversed magics null_in_source truncated zip_slip"
)


def test_the_engine_gives_the_same_points_behind_its_walls():
    from proctor import doctor
    from proctor.engine import Engine
    from proctor.terms import Terms

    levels = [level for level in ("namespaces", "landlock") if level in doctor.offered()]
    if not levels:
        pytest.skip("this machine offers no walls")
    work = {case: data_of(case) for case in THROUGH.split()}
    with Engine(levels[0], jobs=2) as engine:
        records = list(engine.grade(numbers(), work, Terms(levels[0], b"a secret of the tests")))
    assert len(records) == len(work)
    for record in records:
        expected = CASES[record.student]
        points = [check.earned for check in record.checks]
        assert points == expected.get("points", [0, 0, 0, 0]), record.student
        assert expected.get("reason", "") in record.reason


def test_a_released_exercise_is_taken_in_without_a_note():
    exercise, text = released()
    taken = take_in(text.encode(), exercise)
    assert (taken.reason, taken.notes) == ("", ())
    assert [c.grade_id for c in taken.cells if c.grade_id] == [p.grade_id for p in exercise.answers]
    for cell in nbformat.reads(text, as_version=4).cells:
        part = exercise.by_name.get(cell.id)
        if part is not None:
            assert cell.source == part.released
            assert checksum(cell.source, cell.metadata.nbgrader) == cell.metadata.nbgrader.checksum


def test_the_answers_keep_their_names_where_all_metadata_is_lost():
    exercise, text = released()
    book = nbformat.reads(text, as_version=4)
    for cell in book.cells:
        cell.metadata = nbformat.NotebookNode()
        part = exercise.by_name.get(cell.id)
        if part is not None and part.kind == "answer":
            cell.source = part.source
    taken = take_in(nbformat.writes(book).encode(), exercise)
    assert {c.grade_id for c in taken.cells} == {"", *(p.grade_id for p in exercise.answers)}
    assert [note.kind for note in taken.notes] == ["a cell was recognised without its name"]
    assert sum(kind == "check" for kind, _ in taken.steps) == len(exercise.checks)


def test_saved_outputs_are_kept_as_text_and_images_alone():
    book = right()
    answer = next(c for c in book["cells"] if c["id"] == "double")
    answer["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": ["a\r\n", "b"]},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE\x1b[0m: v"]},
        {"output_type": "display_data", "data": {"image/png": "iVBO\nRw0=", "text/html": "<b>"}},
        {"output_type": "execute_result", "data": {"text/html": "<script>", "text/plain": "7"}},
        {"output_type": "display_data", "data": {"text/html": "<script>alert(1)</script>"}},
    ]
    cell = next(c for c in take(book).cells if c.grade_id == "double")
    kept = [(output.kind, output.data) for output in cell.outputs]
    assert kept == [("text", "a\nb"), ("error", "E: v"), ("png", "iVBORw0="), ("text", "7")]


def test_bounds_hold_before_a_file_is_believed():
    book = right()
    filler = {"cell_type": "code", "metadata": {}, "source": "x", "outputs": []}
    big = json.dumps(book | {"x": "y" * 300_000}).encode()
    assert "0.3 MiB; at most 0.2 MiB" in take_in(big, numbers(), Bounds(size=200_000)).reason
    many = take(book | {"cells": book["cells"] + [filler] * 50}, BOUNDS)
    assert many.reason.startswith("the notebook has 61 cells")
    values = take(book | {"x": [0] * 5_000}, Bounds(values=4_000))
    assert "more than 4000 values" in values.reason
    long = take(book | {"cells": [*book["cells"], filler | {"source": "x" * 6_000}]}, BOUNDS)
    assert [note.kind for note in long.notes] == ["an overlong cell was left out"]
    assert marks(long, numbers()) == [1, 2, 1, 2]


def test_a_huge_attachment_or_image_costs_itself_alone():
    book = right()
    image = {"output_type": "display_data", "data": {"image/png": "A" * 1_100_000}}
    book["cells"][2]["attachments"] = {"a.png": {"image/png": "A" * 3_000_000}}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [image]
    taken = take(book)
    assert marks(taken, numbers()) == [1, 2, 1, 2]
    assert not any(cell.outputs for cell in taken.cells)
    assert [note.kind for note in taken.notes] == ["long outputs were cut"]


def test_of_very_many_saved_outputs_the_first_are_kept():
    book = right()
    answer = next(c for c in book["cells"] if c["id"] == "double")
    answer["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x"}] * 500
    taken = take(book)
    assert len(next(c for c in taken.cells if c.grade_id == "double").outputs) == 50
    assert [note.kind for note in taken.notes] == ["long outputs were cut"]


def test_taking_in_imports_nothing_heavy():
    code = (
        "import sys, proctor.intake, proctor.submitted, proctor.store, proctor.feedback\n"
        "print({'nbformat', 'torch', 'pygments', 'sqlalchemy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_what_nobody_foresaw_costs_one_submission_not_the_batch(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(intake, "read", fail)
    assert "MemoryError" in take_in(b"{}", numbers()).reason


# The two that follow look behind the last safety net, so that it hides nothing.


@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda t: t.encode("utf-16")))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_give_cells_or_a_reason(data):
    results = []
    for _ in range(2):
        try:
            results.append(repr(reading.read(data, BOUNDS)))
        except reading.Unreadable as error:
            results.append(str(error))
    assert results[0] == results[1] != ""


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = ("cells", "metadata", "nbgrader", "grade_id", "source", "outputs", "data", "cell_type")


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_arbitrarily_mangled_notebooks_are_taken_in_twice_the_same(data):
    book = right()
    for _ in range(data.draw(st.integers(1, 5))):
        place, inner, key = book, {}, ""
        for _ in range(data.draw(st.integers(1, 6))):
            if isinstance(place, dict) and place:
                inner, key = place, data.draw(st.sampled_from(sorted(place)))
            elif isinstance(place, list) and place:
                inner, key = place, data.draw(st.integers(0, len(place) - 1))
            else:
                break
            place = place[key]
        if isinstance(inner, list) and data.draw(st.booleans()):
            inner.insert(data.draw(st.integers(0, len(inner))), inner[key])  # a copy, a cycle never
            inner.append(data.draw(st.sampled_from(inner)))
        elif isinstance(inner, dict | list):
            inner[key] = data.draw(anything)
    text = json.dumps(book).encode()
    results = []
    for _ in range(2):
        try:
            cells, notes = reading.read(text, BOUNDS)
            results.append(intake._Matching(cells, numbers()).submission(notes))
        except reading.Unreadable as error:
            results.append(str(error))
    assert results[0] == results[1]
    if isinstance(results[0], Submission):
        checks = [i for kind, i in results[0].steps if kind == "check"]
        assert sorted(checks) == [0, 1, 2, 3]
        for cell in results[0].cells:
            cell.source.encode("utf-8")


@given(st.binary(min_size=1, max_size=20), st.integers(0, 3_000))
@settings(max_examples=100, deadline=None)
def test_a_notebook_with_bytes_written_over_it_is_taken_in_or_named(noise, place):
    data = data_of("right")
    spoilt = data[:place] + noise + data[place + len(noise) :]
    with contextlib.suppress(reading.Unreadable):
        cells, notes = reading.read(spoilt, BOUNDS)
        intake._Matching(cells, numbers()).submission(notes)
    taken = take_in(spoilt, numbers())
    assert bool(taken.reason) != bool(taken.steps)


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("%%time\n!ls\nx = 1", "\npass\nx = 1"),
        ("def f():\n    !ls\n    return 1", "def f():\n    pass\n    return 1"),
        ("%%bash\nrm -rf /", "\n"),
        ("f?\nx = 1", "pass\nx = 1"),
        ("text = '''\n%d\n!x\n'''", "text = '''\n%d\n!x\n'''"),
        ("x = (\n%time", "x = (\n%time"),
        ("a = 7 \\\n% 4", "a = 7 \\\n% 4"),
        ("!pip install a \\\n  b \\\n  c\nx = 1", "pass\n\n\nx = 1"),
        ("if x:\n    %timeit f(\\\n  x)\ny = 1", "if x:\n    pass\n\ny = 1"),
        ("t = %timeit -o f(x)\nx = 1", "t = None\nx = 1"),
        ("if x:\n  a, b['c'] =!ls \\\n  -l\n  x = 1", "if x:\n  a, b['c'] =[]\n\n  x = 1"),
        ("x =! y", "x =[]"),
        ("x = 'a %b' % c\nx = !ls", "x = 'a %b' % c\nx = []"),
        ("if x == 3:\n    y %= 2\n%time", "if x == 3:\n    y %= 2\npass"),
        (" " * 20_000 + "=" + " " * 20_000 + "(", " " * 20_000 + "=" + " " * 20_000 + "("),
    ],
)
def test_commands_of_the_notebook_are_taken_out_and_python_is_left_alone(source, plain):
    assert without_magics(source) == plain
    assert without_magics(source).count("\n") == source.count("\n")


# The folder


def hand_in(folder: Path, path: str, text: str = "{}") -> Path:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, "utf-8")
    return place


def found_in(folder: Path) -> tuple[dict, list[str]]:
    found, odd = walk(folder, ["00_numbers", "05_self_attention"])
    return {(f.student, f.assignment): f for f in found}, odd


def test_submissions_are_found_where_nbgrader_lays_them(tmp_path):
    path = hand_in(tmp_path, "ada/00_numbers/numbers.ipynb")
    hand_in(tmp_path, "ada/00_numbers/timestamp.txt", "2026-03-01 10:00:00 UTC\n")
    hand_in(tmp_path, "ada/00_numbers/.ipynb_checkpoints/numbers-checkpoint.ipynb")
    hand_in(tmp_path, ".DS_Store")
    found, odd = found_in(tmp_path)
    assert odd == []
    (ada,) = found.values()
    assert (ada.path, ada.notes, ada.read()) == (path, (), (b"{}", ""))
    assert ada.timestamp() == "2026-03-01 10:00:00 UTC"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("00_numbers/numbers (1).ipynb", "the file was called something else"),
        ("00_numbers/Numbers-Copy1.IPYNB", "the file was called something else"),
        ("00_numbers/my homework.ipynb", "the file was called something else"),
        ("00_numbers/numbers.ipynb.json", "the file was called something else"),
        ("00_numbers/00_numbers/numbers.ipynb", "the file was called something else"),
        ("0_Numbers/numbers.ipynb", "the folder was called something else"),
        ("numbers.ipynb", "the file was found in another place"),
    ],
)
def test_renamed_files_and_folders_are_found_and_noted(tmp_path, path, kind):
    hand_in(tmp_path, f"ada/{path}")
    found, odd = found_in(tmp_path)
    ada = found["ada", "00_numbers"]
    assert ada.read() == (b"{}", "")
    assert [note.kind for note in ada.notes] == [kind]
    assert odd == []


def test_of_several_notebooks_one_counts_and_the_others_are_named(tmp_path):
    hand_in(tmp_path, "ada/00_numbers/numbers.ipynb", "right")
    hand_in(tmp_path, "ada/00_numbers/numbers-Copy1.ipynb", "copy")
    hand_in(tmp_path, "bob/00_numbers/other.ipynb", "other")
    for number in (3, 1, 2):
        path = hand_in(tmp_path, f"bob/00_numbers/numbers ({number}).ipynb", str(number))
        os.utime(path, (number, number))
    found, _ = found_in(tmp_path)
    ada, bob = found["ada", "00_numbers"], found["bob", "00_numbers"]
    assert ada.read()[0] == b"right"
    assert "numbers-Copy1.ipynb" in ada.notes[0].text
    assert bob.read()[0] == b"3"
    assert "other.ipynb" in bob.notes[-1].text


def test_nothing_is_followed_moved_or_waited_for(tmp_path):
    secret = hand_in(tmp_path, "secret.txt", "the solutions")
    class_ = tmp_path / "submitted"
    for student in ("link", "pipe", "folder", "closed", "gone"):
        (class_ / student / "00_numbers").mkdir(parents=True)
    wanted = "00_numbers/numbers.ipynb"
    (class_ / "link" / wanted).symlink_to(secret)
    os.mkfifo(class_ / "pipe" / wanted)
    (class_ / "folder" / wanted).mkdir()
    hand_in(class_, f"closed/{wanted}").chmod(0)
    (class_ / "linked").mkdir()
    (class_ / "linked" / "00_numbers").symlink_to(tmp_path)
    (class_ / "all_links").symlink_to(tmp_path)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    found, odd = found_in(class_)
    said = {student: f.read()[1] for (student, _), f in found.items()}
    assert "symbolic link" in said["link"]
    assert "symbolic link" in said["linked"]
    assert said["pipe"] == "it is a pipe, not a file"
    assert said["folder"] == "it is a folder, not a file"
    assert "holds nothing" in said["gone"]
    if os.geteuid() != 0:  # whom permissions do not stop
        assert "may not be read" in said["closed"]
    assert [line.partition(":")[0] for line in odd] == ["all_links", f"link/{wanted}"]
    assert all("a symbolic link" in line for line in odd)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_device_is_no_submission():
    assert read_file(Path("/dev/zero"), 100) == (b"", "it is a device, not a file")
    assert "not there" in read_file(Path("/nowhere/at/all"), 100)[1]
    assert read_file(Path("a\0b"), 100)[1].startswith("it cannot be read")


def test_a_file_that_is_too_long_is_not_read(tmp_path):
    path = tmp_path / "numbers.ipynb"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)  # a hole of 10 GiB
    data, reason = read_file(path, 2**20)
    assert data == b""
    assert reason.startswith("the file has 10240.0 MiB; at most 1.0 MiB are read")


def test_everything_else_that_lies_there_is_named_in_one_line(tmp_path):
    hand_in(tmp_path, "readme.txt")
    hand_in(tmp_path, "ada/notes/numbers.ipynb")
    hand_in(tmp_path, "ada/essay.docx")
    (tmp_path / "bob").mkdir()
    odd_name = os.fsdecode(b"..\\..\\x\n\x1b[31m\xff")
    hand_in(tmp_path, f"{odd_name}/00_numbers/numbers.ipynb")
    found, odd = found_in(tmp_path)
    assert list(found) == [(odd_name, "00_numbers")]
    assert [line.partition(":")[0] for line in odd] == [
        "ada/essay.docx",
        "ada/notes",
        "bob",
        "readme.txt",
    ]
    assert all(line.isprintable() for line in odd)
    assert walk(tmp_path / "nowhere", ["00_numbers"])[1] == [
        f"{tmp_path / 'nowhere'}: it is not there"
    ]


def test_an_exercise_that_proctor_cannot_mark_is_refused_when_it_is_read():
    source = release.read_source(CORPUS / "exercise.py")
    twice = nbformat.from_dict(source)
    twice.cells.append(twice.cells[1])
    with pytest.raises(ValueError, match="share a name: setup"):
        Exercise.read(twice, "00_numbers")
    by_hand = release.read_source(CORPUS / "exercise.py")
    by_hand.cells[3].metadata.nbgrader.update(grade=True, points=1)
    with pytest.raises(ValueError, match="double is to be marked by hand"):
        Exercise.read(by_hand, "00_numbers")
