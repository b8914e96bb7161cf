"""Grade records: the same bytes for the same record, damage recognised, and a sound store."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctor import store
from proctor.keys import cells_text, record_key
from proctor.records import (
    OUTCOMES,
    Cell,
    CheckResult,
    Note,
    Output,
    Record,
    RecordError,
    renew,
)
from proctor.store import Records, StoreError, compare, course_secret

CELLS = (
    Cell("mask", "def mask(T):\n    return 1", (Output("text", "ok"),), "3\n"),
    Cell("", "# my own: \ud800 ⟨T⟩", (), "", "ValueError: no"),
)
CHECKS = (
    CheckResult("mask__square", 1, 1, cpu=0.25),
    CheckResult("mask__offset", 0, 2, "failed", "the offset is ignored\nT = 2", "T = 2, S = 5"),
)


def record(student="ada", key="k1", checks=CHECKS, **changes) -> Record:
    parts = {
        "assignment": "05_self_attention",
        "seed": "ab" * 32,
        "isolation": "namespaces",
        "versions": {"proctor": "1", "torch": "2"},
        "cells": CELLS,
        "intake": (Note("the encoding was repaired", "the file was UTF-16"),),
        "integrity": (Note("a banned name", "F.sdpa in line 3", "mask"),),
    }
    return Record(student=student, key=key, checks=checks, **parts | changes)


def key(**changes) -> str:
    parts = {
        "assignment": "05_self_attention",
        "student": "ada",
        "cells": CELLS,
        "steps": [("cell", 0), ("check", 0), ("check", 1), ("cell", 1)],
        "checks": [("mask__square", 1, "assert mask(2)"), ("mask__offset", 2, "assert mask(3)")],
        "versions": {"proctor": "1", "torch": "2"},
        "seed": "ab",
        "isolation": "jail",
        "limits": {"cpu": 10},
    }
    return record_key(**parts | changes)


texts = st.text(st.characters(), max_size=30)


@given(
    st.lists(st.tuples(st.integers(0, 4), texts, st.sampled_from(sorted(OUTCOMES))), max_size=4),
    st.lists(st.tuples(texts, texts, texts), max_size=3),
    texts,
)
@settings(max_examples=40, deadline=None)
def test_a_record_reads_back_equal_and_equal_records_are_equal_bytes(checks, cells, student):
    made = record(
        student,
        checks=tuple(CheckResult(f"t__{i}", n, 4.0, o, m) for i, (n, m, o) in enumerate(checks)),
        cells=tuple(Cell(a, b, (Output("error", c),)) for a, b, c in cells),
    )
    data = made.to_bytes()
    assert Record.from_bytes(data) == made
    assert Record.from_bytes(data).to_bytes() == data


@given(st.integers(0, len(record().to_bytes()) - 2), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_is_recognised(place, byte):
    data = record().to_bytes()
    changed = data[:place] + bytes([byte]) + data[place + 1 :]
    try:
        read = Record.from_bytes(changed)
    except RecordError:
        return
    assert read == record()  # white space between two values


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff",
        b"[" * 100_000,
        b"{}",
        b"null",
        b'{"format": 1}',
        b'{"format": 1, "sha256": "x", "record": NaN}',
        json.dumps({"format": 2}).encode(),
        "é".encode("latin-1"),
    ],
    ids=["empty", "binary", "deep", "object", "null", "bare", "nan", "another format", "latin-1"],
)
def test_what_is_no_record_is_refused_with_one_kind_of_error(data):
    with pytest.raises(RecordError):
        Record.from_bytes(data)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("checks", 0, "earned"), 3),
        (("checks", 0, "earned"), True),
        (("checks", 0, "earned"), 10**400),
        (("checks", 0, "outcome"), "perfect"),
        (("checks", 1, "grade_id"), "mask__square"),
        (("isolation",), "none at all"),
        (("versions",), {"torch": 2}),
        (("cells", 0, "outputs", 0, "kind"), "svg"),
        (("cells", 0, "source"), None),
        (("student",), ["ada"]),
        (("extra",), 1),
    ],
)
def test_a_record_that_says_the_impossible_is_refused_even_with_a_right_hash(where, value):
    whole = json.loads(record().to_bytes())
    target = whole["record"]
    for step in where[:-1]:
        target = target[step]
    target[where[-1]] = value
    from proctor.records import _digest

    whole["sha256"] = _digest(whole["record"])
    with pytest.raises(RecordError):
        Record.from_bytes(json.dumps(whole).encode())


def test_a_result_cannot_earn_what_is_not_there():
    for earned in (-1, 2, float("nan")):
        with pytest.raises(ValueError, match="of 1 points"):
            CheckResult("a__b", earned, 1)


def test_whatever_determines_a_grade_changes_the_key():
    changed = [
        {"assignment": "06_transformer"},
        {"student": "bob"},
        {"cells": CELLS[:1]},
        {"cells": (replace(CELLS[0], source="def mask(T):\n    return 2"), CELLS[1])},
        {"steps": [("cell", 0), ("cell", 1), ("check", 0), ("check", 1)]},
        {"checks": [("mask__square", 1, "assert mask(2)"), ("mask__offset", 2, "assert 1")]},
        {"checks": [("mask__square", 1, "assert mask(2)"), ("mask__offset", 3, "assert mask(3)")]},
        {"versions": {"proctor": "1", "torch": "3"}},
        {"seed": "ac"},
        {"isolation": "limits"},
        {"limits": {"cpu": 11}},
    ]
    keys = [key(), *(key(**change) for change in changed)]
    assert len(set(keys)) == len(keys)
    assert all(len(k) == 32 for k in keys)


def test_what_does_not_determine_a_grade_leaves_the_key():
    shown = tuple(replace(cell, outputs=(), printed="x", error="y") for cell in CELLS)
    assert key(cells=shown) == key(versions={"torch": "2", "proctor": "1"}) == key()


def test_cells_cannot_be_shifted_into_each_other():
    assert cells_text([Cell("a", "b"), Cell("c", "d")]) != cells_text([Cell("a", 'b"],["c","d')])
    assert cells_text([Cell("ab", "c")]) != cells_text([Cell("a", "bc")])


def test_a_record_found_again_shows_what_was_handed_in_last():
    newer = (replace(CELLS[0], outputs=(), printed="", error=""), CELLS[1])
    renewed = renew(record(), newer, [])
    assert renewed.cells[0].outputs == ()
    assert renewed.cells[0].printed == "3\n"
    assert renewed.intake == ()
    assert renewed.checks == record().checks


def test_points_and_tasks_are_counted():
    assert (record().earned, record().points) == (1.0, 3.0)
    assert {name: len(checks) for name, checks in record().tasks().items()} == {"mask": 2}
    assert CHECKS[1].diagnosis == "the offset is ignored"
    assert CHECKS[0].diagnosis == ""


def test_the_store_gives_back_what_was_put(tmp_path):
    kept = Records(tmp_path)
    assert kept.get("05_self_attention", "k1") is None
    kept.put(record())
    assert kept.get("05_self_attention", "k1") == record()
    assert kept.get("06_transformer", "k1") is None
    assert list(kept.all("05_self_attention")) == [record()]
    assert not list(tmp_path.glob("**/*.partial"))


@pytest.mark.parametrize("spoil", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: d[:-9]])
def test_a_damaged_record_counts_as_absent_and_is_written_again(tmp_path, spoil):
    kept = Records(tmp_path)
    path = kept.put(record())
    kept.publish([record()])
    path.write_bytes(spoil(path.read_bytes()))
    assert kept.get("05_self_attention", "k1") is None
    assert kept.current("05_self_attention") == {}
    kept.put(record())
    assert kept.find("05_self_attention", "ada") == record()


def test_a_record_under_another_name_does_not_count(tmp_path):
    kept = Records(tmp_path)
    path = kept.put(record())
    path.rename(path.with_name("k2.json"))
    assert kept.get("05_self_attention", "k2") is None


def test_a_record_counts_once_it_is_published(tmp_path):
    kept = Records(tmp_path)
    better = record(key="k2", checks=(replace(CHECKS[0]), replace(CHECKS[1], earned=2)))
    odd = record("../né e\n<b>\udcff", key="k3")
    kept.publish([record(), odd])
    kept.put(better)
    assert kept.find("05_self_attention", "ada") == record()
    kept.publish([better])
    assert kept.current("05_self_attention") == {odd.student: odd, "ada": better}
    assert len(list(kept.all("05_self_attention"))) == 3  # the past stays
    kept.withdraw("05_self_attention", "ada")
    assert list(kept.current("05_self_attention")) == [odd.student]


def test_what_would_move_is_listed_check_by_check():
    bob = record("bob", "k3")
    passed = record(key="k2", checks=(CHECKS[0], CheckResult("mask__offset", 2, 2)))
    moves = compare({"ada": record(), "bob": bob, "eve": bob}, {"ada": passed, "bob": bob})
    assert [m.student for m in moves] == ["ada", "eve"]
    assert (moves[0].before, moves[0].after, moves[0].points) == (1.0, 3.0, 3.0)
    assert moves[0].checks == {"mask__offset": (0.0, 2.0)}
    assert moves[1].after is None


def test_a_move_that_cancels_out_is_listed_too():
    swapped = (replace(CHECKS[0], earned=0), replace(CHECKS[1], earned=1))
    (move,) = compare({"ada": record()}, {"ada": record(checks=swapped)})
    assert move.before == move.after == 1.0
    assert set(move.checks) == {"mask__square", "mask__offset"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_stops_cleanly_and_leaves_the_store_sound(tmp_path, monkeypatch, step):
    kept = Records(tmp_path)
    kept.publish([record()])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, step, full)
    with pytest.raises(StoreError, match="free some space and run again"):
        kept.put(record("bob", "k2"))
    monkeypatch.undo()
    assert not list(tmp_path.glob("**/*.partial"))
    assert kept.current("05_self_attention") == {"ada": record()}
    kept.put(record("bob", "k2"))
    assert len(list(kept.all("05_self_attention"))) == 2


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "records").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="see that this folder can be written to"):
        Records(tmp_path / "records").put(record())


def test_names_cannot_lead_out_of_the_folder(tmp_path):
    for name in ("../x", "a/b", "", "..", "a\0b", "c:d", "x" * 300):
        with pytest.raises(ValueError, match="cannot be part of a file's name"):
            Records(tmp_path).path("05_self_attention", name)


def test_writers_that_are_killed_leave_no_half_record(tmp_path):
    """A process that writes without end is killed; what lies there is whole."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom proctor.records import Cell, Record\n"
        "from proctor.store import Records\n"
        "cells = (Cell('', 'x' * 200_000),)\n"
        "n = 0\n"
        "while True:\n"
        "    made = Record('05_a', 's', f'k{n % 4}', '', 'jail', {'n': str(n)}, (), cells)\n"
        "    Records(Path(sys.argv[1])).put(made)\n"
        "    n += 1\n"
        "    print(n, flush=True)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(7):
        assert run.stdout.readline()
    run.kill()
    run.wait()
    run.stdout.close()
    found = list(Records(tmp_path).all("05_a"))
    assert len(found) == len(list(tmp_path.glob("05_a/*.json"))) == 4


def test_two_writers_of_one_record_do_not_harm_each_other(tmp_path):
    kept = Records(tmp_path)
    writers = [
        threading.Thread(target=lambda n=n: kept.publish([record(versions={"n": str(n % 2)})]))
        for n in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert kept.find("05_self_attention", "ada").versions["n"] in "01"
    assert not list(tmp_path.glob("**/*.partial"))


def test_old_halves_are_swept_and_young_ones_left_to_their_writer(tmp_path):
    kept = Records(tmp_path)
    place = kept.put(record()).parent
    old, young = place / ".k1.a.partial", place / ".k1.b.partial"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    kept.sweep()
    assert not old.exists()
    assert young.exists()
    assert kept.get("05_self_attention", "k1") == record()


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("PROCTOR_SECRET", raising=False)
    first = course_secret(tmp_path / "state")
    assert len(first) >= 32
    assert course_secret(tmp_path / "state") == first
    assert (tmp_path / "state" / "secret").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["secret"]
    assert course_secret(tmp_path / "another") != first


def test_a_secret_that_is_none_is_refused_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setenv("PROCTOR_SECRET", "a secret of some length")
    assert course_secret(tmp_path) == b"a secret of some length"
    monkeypatch.setenv("PROCTOR_SECRET", "short")
    with pytest.raises(StoreError, match="PROCTOR_SECRET has 5 bytes"):
        course_secret(tmp_path)
    monkeypatch.delenv("PROCTOR_SECRET")
    course_secret(tmp_path)
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        course_secret(tmp_path)
