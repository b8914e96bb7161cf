"""What is banned is read from the setup cell, found under every name, and named to the student."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import lookback
from proctor import bans, walls

SDPA = "torch.nn.functional.scaled_dot_product_attention"
BANNED = (SDPA, "torch.nn.LSTM", "lookback.masks")


def test_banned_names_are_read_from_the_call_and_must_be_written_out():
    setup = f'from lookback import checks\nchecks.ban("{SDPA}", "lookback.masks")\n'
    assert bans.declared(setup) == (SDPA, "lookback.masks")
    with pytest.raises(ValueError, match="line 2: a banned name must be a plain string"):
        bans.declared("names = []\nchecks.ban(*names)")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import torch\nx = torch.nn.functional.scaled_dot_product_attention(q, k, v)", 2),
        ("import torch.nn.functional as fun\nfun.scaled_dot_product_attention(q, k, v)", 2),
        ("from torch.nn import functional\nfunctional.scaled_dot_product_attention", 2),
        ("from torch.nn.functional import scaled_dot_product_attention as f", 1),
        ("x = 1\ngetattr(F, 'scaled_dot_product_attention')", 2),
        ("layer = nn.LSTM(3, 4)", 1),
        ("import lookback.masks", 1),
        ("from lookback import masks", 1),
        ("from lookback.masks import causal", 1),
        ("import lookback.masks as m\nm.causal(3)", 1),
        ("x = 1\nnn.LSTM.forward.__doc__.strip", 2),
        ("x = 1\nnn.LSTM(3, 4).flatten_parameters().x", 2),
        ("x = 1\ngetattr(F, 'scaled_dot_product_attention').__name__", 2),
        ("from torch." + "a." * 99 + "b import c\nnn.LSTM", 2),
    ],
)
def test_a_banned_name_is_found_under_every_alias(source, line):
    found = bans.named_in(source, BANNED)
    assert found
    assert found[0][1] == line


@pytest.mark.parametrize(
    "source",
    [
        "def scaled_dot_product_attention(q, k, v):\n    return scaled_dot_product_attention",
        "nn.Linear(3, 4)\nF.softmax(x, -1)",
        "from lookback import checks",
        "masks = 3\nmasks + 1",
        "this is no python (",
        "x = '" + "torch.nn.LSTM" + "'",
    ],
)
def test_what_only_looks_like_a_banned_name_is_let_through(source):
    assert bans.named_in(source, BANNED) == []


class Counted(ast.Attribute):
    """A dot of a chain that counts how often it is looked behind."""

    looks = 0

    def __getattribute__(self, name):
        if name == "value":
            Counted.looks += 1
        return super().__getattribute__(name)


def test_a_long_chain_is_read_a_few_times_and_not_from_each_of_its_dots(monkeypatch):
    node = ast.Name("nn", ast.Load(), lineno=1)
    for name in ["LSTM", *["x"] * 2000]:
        node = Counted(node, name, ast.Load(), lineno=1)
    tree = ast.Module([ast.Expr(node)], [])
    given = SimpleNamespace(**vars(ast) | {"parse": lambda source: tree})
    monkeypatch.setattr(bans, "ast", given)
    Counted.looks = 0
    assert bans.named_in("", BANNED) == [("torch.nn.LSTM", 1)]
    assert Counted.looks < 20 * 2000


def test_files_of_banned_modules_are_known_with_their_compiled_ones():
    files = [Path(f) for f in bans.hidden_files(BANNED)]
    assert Path(lookback.__file__).parent / "masks.py" in files
    assert any(f.suffix == ".pyc" and f.name.startswith("masks.") for f in files)
    assert not any("torch" in f.parts for f in files)
    (folder,) = bans.hidden_files(["lookback.efficient"])
    assert Path(folder).is_dir()


def test_what_a_release_imports_is_known_without_what_is_banned():
    cells = ["import torch\nfrom lookback import checks, masks", "def broken(", "import json"]
    assert bans.imported_in(cells, BANNED) == ("torch", "lookback", "lookback.checks", "json")
    assert bans.library_folders(["json", "torch"]) == ()


def test_an_unknown_level_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown isolation level 'moat'; choose one of jail"):
        walls.Walls("moat")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_the_interpreter_itself_stays_readable_behind_the_walls():
    places = walls.interpreter()
    assert any(sys.prefix.startswith(place) for place in places)
    assert not any(place in ("/", "/home", "/root", "/etc") for place in places)
