"""The translation ladder from end to end: generated pairs, real ones, stopped runs, bad corpora."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path

import pytest
import torch

import translation_processes
from ladder import corpus, fit
from launch import launch
from lookback.data import multi30k, phrases
from lookback.training import read_checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, str(ROOT / "benchmarks" / "translation.py")]
LADDER = {"none", "bahdanau", "luong", "transformer"}
KINDS = LADDER | {"longer"}


def write_corpus(folder: Path) -> None:
    """200 pairs to train on and a few for the rest: French phrases under the name of German."""
    drawn = phrases.sample(240, seed=0)
    sides = {
        "en": [" ".join(p.source).capitalize() + "." for p in drawn],
        "de": [" ".join(p.target).capitalize() + "." for p in drawn],
    }
    bounds = {"train": (0, 200), "val": (200, 220), "test_2016_flickr": (220, 240)}
    for part, (first, last) in bounds.items():
        for language, lines in sides.items():
            text = "\n".join(lines[first:last]) + "\n"
            (folder / f"{part}.{language}.gz").write_bytes(gzip.compress(text.encode()))


def command(folder: Path, *options: str) -> str:
    where = ["--folder", str(folder / "runs"), "--out", str(folder / "out")]
    few = ["--seed", "0", "--epochs", "1", "--pair", "de-en"]
    return launch([*COMMAND, *few, *where, *options], cwd=folder, timeout=600)


def read(path: Path):
    return json.loads(path.read_text("utf-8"))


def check_results(folder: Path, sentences: int, kinds: set[str] = KINDS) -> None:
    rows = read(folder / "out" / "multi30k.json")
    assert {row["name"] for row in rows} == {f"de-en {kind}" for kind in kinds}
    for row in rows:
        assert row["seeds"] == [0]
        assert sum(row["sentences"]) == sentences
        for name in ("greedy bleu", "greedy token bleu", "beam bleu", "beam chrf"):
            (value,) = row[name]
            assert 0 <= value <= 100
        assert "tok:13a" in row["signatures"]["bleu"]
        assert "case:mixed" in row["signatures"]["bleu"]
        assert "tok:none" in row["signatures"]["token bleu"]
        (curve,) = row["curve"]
        assert [set(entry) for entry in curve] == [{"step", "bleu", "nats", "cpu_seconds"}]
        assert {"device", "versions", "command", "commit", "date"} <= set(row)
    shown = read(folder / "out" / "multi30k_examples.json")
    assert {"pairs", "subwords", "words to read"} <= set(shown["corpus"])
    for example in shown["examples"]:
        assert set(example["written"]) == LADDER & kinds
        assert "".join(example["pieces"]).replace("▁", " ").strip() == example["source"]


def test_one_command_trains_and_scores_every_model_on_generated_pairs_and_goes_on_where_it_was(
    tmp_path, monkeypatch
):
    write_corpus(tmp_path)
    monkeypatch.setenv("LOOKBACK_DATA", str(tmp_path))
    assert command(tmp_path, "--kind", "none").count("training") == 1
    assert command(tmp_path).count("training") == 4  # the one that is done is left alone
    check_results(tmp_path, sentences=20)
    before = (tmp_path / "out" / "multi30k.json").read_text("utf-8")
    assert "training" not in command(tmp_path)
    assert (tmp_path / "out" / "multi30k.json").read_text("utf-8") == before


@pytest.mark.skipif("LOOKBACK_DATA" not in os.environ, reason="LOOKBACK_DATA names no folder")
def test_one_command_trains_and_scores_a_model_on_200_real_pairs(tmp_path):
    command(tmp_path, "--limit", "200", "--kind", "bahdanau")
    check_results(tmp_path, sentences=200, kinds={"bahdanau"})


@pytest.mark.parametrize("kind", sorted(translation_processes.KINDS))
@pytest.mark.parametrize("stop", [2, 3, 7])
def test_a_run_that_was_stopped_gives_what_an_unbroken_one_gives(tmp_path, kind, stop):
    whole = translation_processes.run(tmp_path / "whole", kind)
    translation_processes.run(tmp_path / "parts", kind, stop_after=stop)
    parts = translation_processes.run(tmp_path / "parts", kind)
    assert parts == whole
    curves = [fit.Watch.curve(tmp_path / name) for name in ("whole", "parts")]
    for curve in curves:
        for entry in curve:
            assert entry.pop("cpu_seconds") > 0
    assert curves[0] == curves[1]
    assert len(curves[0]) == 3


@pytest.mark.parametrize("kind", sorted(translation_processes.KINDS))
def test_two_processes_give_what_one_gives(tmp_path, kind):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = [translation_processes.__file__, "several", kind]
    printed = launch([*launcher, "--nproc-per-node", "2", *script], cwd=tmp_path, timeout=200)
    several = json.loads(printed.strip().splitlines()[-1])
    one = translation_processes.run(tmp_path / "one", kind)
    assert several["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert several["weights"] == pytest.approx(one["weights"], rel=1e-4, abs=1e-3)
    for (step, value), (same, other) in zip(several["validation"], one["validation"], strict=True):
        assert step == same
        assert value == pytest.approx(other, rel=1e-6)


def test_the_weights_kept_are_those_of_the_best_epoch(tmp_path, monkeypatch):
    wanted = iter([3.0, 9.0, 5.0])
    monkeypatch.setattr(
        fit.metrics, "bleu", lambda *_: fit.metrics.Score(next(wanted), "signature", "details")
    )
    found = translation_processes.run(tmp_path)
    assert [value for _, value in found["validation"]] == [-3.0, -9.0, -5.0]
    last = read_checkpoint(tmp_path / "last.ckpt")["model"]
    best = read_checkpoint(tmp_path / "best.ckpt")["model"]
    sums = [float(x.double().abs().sum()) for x in best.values()]
    assert set(found["weights"]) <= set(sums)
    assert not torch.equal(best["decoder.W_c.weight"], last["decoder.W_c.weight"])


def checkpoints(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


def test_a_full_disk_leaves_the_last_good_checkpoint_from_which_the_run_goes_on(
    tmp_path, monkeypatch
):
    whole = translation_processes.run(tmp_path / "whole")
    translation_processes.run(tmp_path / "run", stop_after=4)
    before = checkpoints(tmp_path / "run")

    def full(content, file):
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        translation_processes.run(tmp_path / "run")
    monkeypatch.undo()
    after = checkpoints(tmp_path / "run")
    assert after == before
    assert translation_processes.run(tmp_path / "run") == whole


def test_a_checkpoint_of_other_settings_is_refused_by_what_differs(tmp_path):
    translation_processes.run(tmp_path, "bahdanau", stop_after=1)
    with pytest.raises(ValueError, match="belongs to another run"):
        translation_processes.run(tmp_path, "transformer")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A whole generated corpus in the folder that LOOKBACK_DATA names."""
    write_corpus(tmp_path)
    monkeypatch.setenv("LOOKBACK_DATA", str(tmp_path))
    return tmp_path


def test_a_corpus_is_read_in_the_direction_of_its_name(folder):
    found = corpus.read("de-en", limit=10)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [10, 10, 10]
    assert [(b, a) for a, b in corpus.read("en-de", limit=10).test] == found.test


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("val.de.gz", None, r"does not hold val\.de\.gz: set LOOKBACK_DATA to the folder"),
        ("train.en.gz", b"no gzip file", r"train\.en\.gz is damaged"),
        ("train.en.gz", gzip.compress(b"One line.\n"), r"train\.de\.gz 200, train\.en\.gz 1"),
        ("train.de.gz", gzip.compress("ü\n".encode("latin-1") * 200), r"not UTF-8: byte 0"),
    ],
    ids=["missing", "damaged", "of another length", "of another encoding"],
)
def test_a_bad_corpus_is_named_before_anything_is_trained(folder, name, content, message):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        corpus.read("de-en")


def test_without_a_network_and_a_folder_the_error_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("LOOKBACK_DATA", raising=False)
    monkeypatch.setattr(multi30k, "HOME", "http://127.0.0.1:9/")  # where nobody listens
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ConnectionError, match="set LOOKBACK_DATA to a folder that holds it"):
        corpus.read("de-en")
