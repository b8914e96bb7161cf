"""A check that could not cross the boundary is refused when it is released, with its line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proctor.contract import breaches
from proctor.exercise import Exercise, Part


def exercise(source: str) -> Exercise:
    """Two answers and one check."""
    answers = (
        Part("answer", "mix", "def mix(x):\n    return x\n", "def mix(x):\n"),
        Part("answer", "Layer", "class Layer(nn.Module):\n    pass\n", "class Layer(nn.Module):\n"),
    )
    return Exercise("00_x", (*answers, Part("check", "mix__it", source, source, 1.0)))


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("import inspect\nassert 'for' in inspect.getsource(mix)", 1, "inspect is imported"),
        ("from time import perf_counter\nassert mix(1)", 1, "measured from outside"),
        ("from unittest.mock import patch\nassert mix(1)", 1, "lend a reference"),
        ("x = 1\nassert torch.autograd.gradcheck(mix, x)", 2, "compare one backward"),
        ("torch.autograd.grad(mix(x), x, create_graph=True)", 1, "double backward"),
        ("layer = Layer(2)\nassert isinstance(layer, Layer)", 2, "stand-in"),
        ("layer = Layer(2)\nlayer.p = 0.5\nassert layer(1)", 2, "attribute of a student's"),
        ("layer = Layer(2)\nlayer.register_forward_hook(print)", 2, "hooks do not cross"),
        ("assert mix.__code__.co_argcount == 1", 1, "__code__"),
        ("mix = lambda x: x\nassert mix(1)", 1, "checks.given"),
        ("class Mine(Layer):\n    pass\nassert Mine()", 1, "inherits"),
        ("class Odd(torch.Tensor):\n    pass\nassert mix(Odd())", 1, "subclass of Tensor"),
        ("print(mix(1))\nassert mix(1)", 1, "silent"),
        ("assert torch.compile(mix)(1)", 1, "compiled"),
        ("mix(1)\n2", 2, "partial credit"),
        ("# only words", 1, "no test in it"),
        ("assert (", 1, "no Python"),
    ],
)
def test_a_breach_is_named_with_its_line(source, line, words):
    found = breaches(exercise(source))
    assert [b.line for b in found if words in str(b)] == [line], [str(b) for b in found]


@pytest.mark.parametrize(
    "source",
    [
        "x = torch.randn(3)\nassert isinstance(x, torch.Tensor)\nassert mix(x) is not None",
        "layer = Layer(2)\nlayer.W.weight.grad = None\nlayer.load_state_dict({})\nlayer(1)",
        "pattern = re.compile('x')\nassert pattern.match(mix('x'))",
        "with checks.given(mix=lambda x: x):\n    checks.close(Layer(2)(1), 1)",
    ],
)
def test_what_the_contract_allows_passes(source):
    assert breaches(exercise(source)) == []


def test_the_small_exercise_keeps_the_contract(mini):
    assert breaches(mini.exercise) == []
    checks = tuple(p for p in mini.exercise.parts if p.kind == "check")
    broken = replace(
        mini.exercise, parts=(*mini.exercise.answers, *checks, exercise("2").parts[-1])
    )
    assert len(breaches(broken)) == 1
