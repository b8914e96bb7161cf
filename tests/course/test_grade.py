"""Grading a folder from the Makefile: every exercise that was handed in, one after the other."""

from __future__ import annotations

from pathlib import Path

import grade

ROOT = Path(__file__).resolve().parents[2]


def test_only_exercises_that_somebody_handed_in_are_graded(tmp_path):
    (tmp_path / "amara" / "05_self_attention").mkdir(parents=True)
    (tmp_path / "amara" / "holiday_pictures").mkdir()
    assert grade.handed_in(tmp_path, ROOT) == ["05_self_attention"]


def test_a_folder_without_a_submission_is_still_looked_at_so_that_it_is_named(tmp_path, capfd):
    (tmp_path / "submitted" / "amara").mkdir(parents=True)
    (tmp_path / "solutions").symlink_to(ROOT / "solutions")
    status = grade.grade(
        tmp_path, tmp_path / "submitted", 1, "--no-gradebook", "--isolation", "limits"
    )
    assert status == 1
    assert "amara" in capfd.readouterr().out


def test_what_one_exercise_meets_costs_no_other_its_grades(tmp_path, monkeypatch, capfd):
    tried = []

    def app(arguments, standalone_mode):
        tried.append(arguments[1])
        if len(tried) == 1:
            raise LookupError("no such \x1b[31m thing")
        return 0

    monkeypatch.setattr(grade, "app", app)
    monkeypatch.setattr(grade, "handed_in", lambda submitted, root: ["01_a", "02_b"])
    assert grade.grade(ROOT, tmp_path, 1) == 1
    assert tried == ["01_a", "02_b"]
    said = capfd.readouterr().err
    assert "01_a: LookupError: no such" in said
    assert "\x1b" not in said


def test_trusted_work_is_graded_behind_the_best_walls_there_are():
    option, level = grade.trusted()
    assert option == "--isolation"
    assert level in ("jail", "namespaces", "landlock", "limits")
