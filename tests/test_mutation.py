"""Mutation testing's verdict: what is counted, what must be listed, and what is said of it."""

from __future__ import annotations

import pytest

import mutation
from mutation import Mutant

SHOWN = """# lookback.attention.multihead.xǁMultiHeadAttentionǁ__init____mutmut_3: survived
--- src/lookback/attention/multihead.py
+++ src/lookback/attention/multihead.py
@@ -7,7 +7,7 @@
     kv_heads: int | None = None,
-    qk_norm: bool = False,
+    qk_norm: bool = True,
     kernel: Kernel = "sdpa",
 ) -> None:
"""
NORM = Mutant(
    "lookback.attention.multihead.MultiHeadAttention.__init__",
    "qk_norm: bool = False,",
    "qk_norm: bool = True,",
)
LIST = """
[[survivor]]
function = "lookback.attention.multihead.MultiHeadAttention.__init__"
kind = "equivalent"
why = "an invented reason"
changes = [["qk_norm: bool = False,", "qk_norm: bool = True,"]]
"""


def verdicts(**count: int) -> dict[str, str]:
    """So many mutants of each status, under names that do not matter."""
    return {f"{s} {i}": s.replace("_", " ") for s, n in count.items() for i in range(n)}


def test_a_mutant_is_known_by_its_function_and_the_lines_it_changes():
    assert mutation.describe(SHOWN) == NORM


def test_a_change_over_several_lines_and_a_function_of_a_module_are_told_too():
    shown = """# lookback.efficient.tiled.x__close__mutmut_12: no tests
--- src/lookback/efficient/tiled.py
+++ src/lookback/efficient/tiled.py
@@ -1,5 +1,4 @@
     if mask is not None:
-        s.masked_fill_(
-            part(mask),
+        s.masked_fill_(part(mask),
         )
"""
    found = mutation.describe(shown)
    assert found.function == "lookback.efficient.tiled._close"
    assert found.before == "s.masked_fill_( part(mask),"
    assert found.after == "s.masked_fill_(part(mask),"


def test_the_list_gives_each_change_its_kind_and_names_an_entry_without_a_reason():
    assert mutation.listed(LIST) == {NORM: "equivalent"}
    assert mutation.listed("") == {}
    for broken in (
        LIST.replace('"equivalent"', '"luck"'),
        LIST.replace("an invented reason", ""),
        LIST.replace("kind", "sort"),
    ):
        with pytest.raises(ValueError, match=r"MultiHeadAttention.__init__: .* kind of equivalent"):
            mutation.listed(broken)


def test_time_outs_count_neither_for_nor_against():
    statuses = verdicts(killed=91, survived=5, no_tests=4, timeout=100)
    problems, remarks = mutation.judge(statuses, [], {})
    assert problems == []
    assert "91 of 100 mutants killed, 91.0 %" in remarks
    assert "  100 timeout" in remarks


def test_fewer_kills_than_asked_for_are_a_problem():
    assert mutation.judge(verdicts(killed=90, survived=10), [], {})[0] == []
    problems, _ = mutation.judge(verdicts(killed=89, survived=10, no_tests=1), [], {})
    assert problems == ["only 89.0 % are killed, 90 % are asked for"]


def test_a_survivor_must_be_listed_and_is_shown_with_its_change():
    statuses = verdicts(killed=99, survived=1)
    assert mutation.judge(statuses, [NORM], {NORM: "equivalent"})[0] == []
    problems, _ = mutation.judge(statuses, [NORM], {})
    assert "__init__\n  - qk_norm: bool = False,\n  + qk_norm: bool = True," in problems[0]
    assert "survivors.toml" in problems[1]


def test_a_listed_mutant_that_is_killed_by_now_is_said_to_be():
    problems, remarks = mutation.judge(verdicts(killed=100), [], {NORM: "equivalent"})
    assert problems == []
    assert any("strike it off" in line and "qk_norm: bool = True" in line for line in remarks)


def test_a_run_that_was_stopped_says_so_before_anything_about_its_share():
    problems, _ = mutation.judge(verdicts(killed=1, survived=1, not_checked=8), [], {})
    assert problems == ["the run was stopped before its end: run it again, it goes on from here"]


def test_the_list_of_survivors_is_read_and_names_functions_that_there_are():
    for mutant in mutation.listed(mutation.LIST.read_text("utf-8")):
        module = mutant.function
        while (
            module
            and not (path := mutation.ROOT / "src" / f"{module.replace('.', '/')}.py").is_file()
        ):
            module = module.rpartition(".")[0]
        assert module, f"no module for {mutant.function}"
        name = mutant.function.rpartition(".")[2]
        assert f"def {name}(" in path.read_text("utf-8")


def test_a_digest_changes_with_a_files_text_and_with_its_name(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = mutation.digest(tmp_path)
    assert mutation.digest(tmp_path) == first
    (tmp_path / "a.py").write_text("2")
    second = mutation.digest(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, mutation.digest(tmp_path)}) == 3
