"""The set-up says what is missing and finishes what was interrupted."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def setup_script(tmp_path, monkeypatch):
    """``tools/setup.py`` over an empty folder, running nothing but noting what it would."""
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "tools" / "setup.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "ROOT", str(tmp_path))
    monkeypatch.setattr(script, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(script, "READY", str(tmp_path / ".venv" / ".ready"))
    script.ran = []

    def call(command):
        script.ran.append(list(command))
        if "venv" in command:
            (tmp_path / ".venv").mkdir(exist_ok=True)
        return script.status

    script.status = 0
    monkeypatch.setattr(script.subprocess, "call", call)
    return script


def test_an_old_python_is_named_with_the_one_to_use(setup_script, monkeypatch):
    monkeypatch.setattr(setup_script.sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(
        setup_script.shutil, "which", lambda name: {"python3.12": "/opt/python3.12"}.get(name)
    )
    with pytest.raises(SystemExit, match=r"Python 3\.9(.|\n)*make PYTHON=/opt/python3\.12"):
        setup_script.main()


def test_a_missing_venv_module_is_named_with_the_package_that_brings_it(setup_script, monkeypatch):
    real = builtins.__import__

    def without_venv(name, *rest):
        if name == "ensurepip":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_venv)
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        setup_script.main()


def test_a_full_disk_stops_the_set_up_before_it_begins(setup_script, monkeypatch):
    monkeypatch.setattr(setup_script.shutil, "disk_usage", lambda _: Usage(10**10, 0, 4 * 10**8))
    with pytest.raises(SystemExit, match=r"0\.4 GB free"):
        setup_script.main()
    assert not setup_script.ran


def test_a_failed_download_says_to_run_again_and_leaves_no_ready_mark(setup_script):
    setup_script.status = 1
    with pytest.raises(SystemExit, match="Run the same command again"):
        setup_script.main()
    assert not Path(setup_script.READY).exists()


def test_a_finished_set_up_leaves_its_mark_and_installs_the_pins(setup_script):
    setup_script.main()
    assert Path(setup_script.READY).is_file()
    assert any("-r" in command for command in setup_script.ran)


def test_an_interrupted_set_up_is_finished_by_running_it_again(setup_script):
    setup_script.main()
    Path(setup_script.READY).unlink()
    setup_script.ran.clear()
    setup_script.main()
    assert Path(setup_script.READY).is_file()


def test_the_set_up_script_is_understood_by_an_old_python():
    source = (ROOT / "tools" / "setup.py").read_text()
    ast.parse(source, feature_version=(3, 6))


def test_make_alone_lists_every_job():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    run = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for job in (
        *("course", "test", "book", "exercises", "handout", "grade"),
        *("lab", "bench", "stress", "lint", "clean"),
    ):
        assert f"make {job} " in run.stdout
