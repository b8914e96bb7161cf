"""Every failure of an exercise's assertions says what is wrong and where to look."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lookback import checks

SDPA = "torch.nn.functional.scaled_dot_product_attention"


def failure(call, *args, **options) -> str:
    """The message of a check that must fail."""
    with pytest.raises(AssertionError) as caught:
        call(*args, **options)
    return str(caught.value)


def notebook(code: str, **names: object) -> dict[str, object]:
    """Run code as a notebook's own and return its namespace."""
    namespace = {"__name__": "__main__", "torch": torch, "checks": checks} | names
    exec(code, namespace)
    return namespace


@pytest.mark.parametrize("dtype", checks.TOLERANCE)
def test_close_forgives_rounding_at_every_dtype_and_nothing_beyond(device, dtype):
    expected = torch.linspace(0.5, 2, 7, device=device).to(dtype)
    eps = torch.finfo(dtype).eps
    checks.close(expected * (1 + 2 * eps), expected, what="x")
    for wrong in (expected * (1 + 4 * checks.TOLERANCE[dtype]), expected * 1.1):
        assert "x has wrong numbers" in failure(checks.close, wrong, expected, what="x")


def test_close_reads_headline_hint_place_numbers_and_shape_in_this_order():
    expected = torch.zeros(2, 3)
    actual = expected.clone()
    actual[1, 0], actual[1, 2] = 0.25, -2.0
    message = failure(checks.close, actual, expected, what="the output", hint="look at row 1")
    assert message.splitlines() == [
        "the output has wrong numbers",
        "  hint: look at row 1",
        "  first at [1, 0]: yours 0.25, expected 0",
        "  2 of 6 numbers differ, the largest by 2; shape (2, 3)",
    ]


def test_the_first_known_mistake_that_explains_the_numbers_leads_the_message():
    expected = torch.tensor([1.0, 2.0])
    suspects = {
        "another shape": torch.ones(3),
        "the sign is wrong": -expected,
        "the sign is wrong, said again": -expected,
    }
    message = failure(checks.close, -expected, expected, what="x", suspects=suspects, hint="h")
    assert message.startswith("x: the sign is wrong\n  hint: h\n  first at [0]: yours -1")
    checks.close(expected, expected, what="x", suspects={"never": expected})


def test_a_known_mistake_of_another_shape_or_dtype_is_recognised_before_its_shape_is_reported():
    expected = torch.tensor([True, False])
    suspects = {"one number for all": torch.tensor(1.0), "numbers, not truth": expected.float() * 2}
    message = failure(checks.close, torch.tensor(1.0), expected, what="m", suspects=suspects)
    assert message == "m: one number for all\n  shape (), but should be (2,)"
    message = failure(checks.close, torch.tensor([2.0, 0]), expected, what="m", suspects=suspects)
    assert message == (
        "m: numbers, not truth\n  first at [0]: yours 2, expected True"
        "\n  1 of 2 numbers differ; shape (2,)"
    )


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        (None, "x is None: is `return` missing?"),
        (3.0, "x is a float but should be a tensor of shape (2, 3)"),
        ([[0.0]], "x is a list but should be a tensor of shape (2, 3)"),
        (torch.zeros(3, 2), "x has shape (3, 2) but should have (2, 3): the last two axes are"),
        (torch.zeros(3), "x has shape (3,) but should have (2, 3): 1 axes instead of 2"),
        (torch.zeros(2, 4), "x has shape (2, 4) but should have (2, 3)"),
        (torch.zeros(2, 3).double(), "x has dtype torch.float64 but should have torch.float32"),
        (torch.full((2, 3), float("nan")), "x holds NaN in 6 of 6 numbers"),
        (torch.zeros(2, 3).log(), "x has wrong numbers\n  first at [0, 0]: yours -inf, expected 0"),
    ],
)
def test_close_names_what_is_no_right_tensor(actual, message):
    assert failure(checks.close, actual, torch.zeros(2, 3), what="x").startswith(message)


def test_close_names_the_device(device):
    elsewhere = torch.zeros(2, device="meta")  # a device that every machine has
    message = failure(checks.close, elsewhere, torch.zeros(2, device=device), what="x")
    assert message.startswith(f"x is on meta but should be on {device}")


def test_close_takes_scalars_empty_tensors_and_expected_nan():
    nan = torch.tensor([float("nan"), 1.0])
    checks.close(nan.clone(), nan, what="x")
    assert failure(checks.close, 2 * nan, nan, what="x").startswith("x has wrong numbers")
    checks.close(torch.zeros(0, 3), torch.zeros(0, 3), what="x")
    checks.close(torch.tensor(1.0), torch.tensor(1.0), what="x")
    message = failure(checks.close, torch.tensor(2.0), torch.tensor(1.0), what="x")
    assert "first at []: yours 2, expected 1" in message
    wide = torch.tensor(1.5)
    checks.close(wide, torch.tensor(1.0), what="x", atol=0.6)


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        (None, "it is None: is `return` missing?\n  hint: h"),
        ("4", "it is a str but should be one number\n  hint: h"),
        (torch.zeros(2), "it is a Tensor of shape (2,) but should be one number\n  hint: h"),
        (5, "it is not the right number\n  hint: h\n  yours 5, expected 4"),
        (float("nan"), "it is not the right number\n  hint: h\n  yours nan, expected 4"),
        (torch.tensor([8.0]), "it: it was doubled\n  hint: h\n  yours 8, expected 4"),
    ],
)
def test_number_names_what_is_no_number_or_the_wrong_one(actual, message):
    suspects = {"never said": 4, "it was doubled": 8}
    assert failure(checks.number, actual, 4, what="it", suspects=suspects, hint="h") == message


def test_number_takes_every_kind_of_number_and_forgives_rounding():
    for right in (4, 4.0, 4.00001, torch.tensor(4), torch.tensor([[4.0]], requires_grad=True)):
        checks.number(right, 4, what="it", suspects={"the same": 4.0})
    for right in (np.int64(4), np.float32(4), np.uint8(4)):
        checks.number(right, 4, what="it")
    checks.number(float("inf"), float("inf"), what="it")
    assert "yours 4.001, expected 4" in failure(checks.number, 4.001, 4, what="it")


def test_shape_tells_a_transpose_from_another_order():
    message = failure(checks.shape, torch.zeros(4, 2, 3), (2, 3, 4), what="heads", hint="move one")
    assert message == (
        "heads has shape (4, 2, 3) but should have (2, 3, 4): the right axes in the wrong order"
        "\n  hint: move one"
    )
    checks.shape(torch.zeros(2, 3), (2, 3), what="heads")
    assert failure(checks.shape, None, (2,), what="heads") == "heads is None: is `return` missing?"


def test_gradients_names_the_input_whose_gradient_is_wrong_missing_or_nan():
    x, y = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    inputs = {"x": x, "y": y}
    checks.gradients(y * x, x * y, inputs, what="the product")
    checks.gradients(x * 2, x + x, inputs, what="twice x")  # y is used by neither
    message = failure(checks.gradients, x * y.detach(), x * y, inputs, what="the product")
    assert message.startswith("no gradient of the product reaches y: is y used, and not detached?")
    message = failure(checks.gradients, (x * y).detach(), x * y, inputs, what="the product")
    assert message.startswith("no gradient flows back from the product: was it detached")
    message = failure(checks.gradients, x * y + x.detach() * y, 2 * x * y, inputs, what="it")
    assert message.startswith("the gradient of it with respect to x has wrong numbers")
    message = failure(checks.gradients, x * y + (x - x).sqrt(), x * y, inputs, what="it")
    assert message.startswith("the gradient of it with respect to x holds NaN in 2 of 2 numbers")
    message = failure(checks.gradients, (x * y).sum(), x * y, inputs, what="it")
    assert message.startswith("it has shape () but should have (2,)")


def test_gradients_sees_what_the_gradient_of_a_plain_sum_would_hide():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    right = x.softmax(-1)  # always sums to 1
    message = failure(checks.gradients, right.detach() + 0 * x, right, {"x": x}, what="it")
    assert message.startswith("the gradient of it with respect to x has wrong numbers")


def test_gradients_leaves_the_leaves_without_gradients_of_its_own():
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    checks.gradients(x * 3, x * 3, {"x": x}, what="three times x")
    assert x.grad is None


def test_unmoved_tells_what_moved_when_and_moved_tells_what_did_not():
    before = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    after = before + torch.tensor([[0.0, 0.0], [0.0, 0.5]])
    checks.unmoved(before, before + 1e-7, what="row 0", when="the future changed")
    checks.moved(before, after, what="the output", when="the source changed")
    message = failure(
        checks.unmoved, before, after, what="row 1", when="the future changed", hint="the mask?"
    )
    assert message.splitlines() == [
        "row 1 moved when the future changed",
        "  hint: the mask?",
        "  first at [1, 1]: after 4.5, before 4",
        "  1 of 4 numbers differ, the largest by 0.5; shape (2, 2)",
    ]
    message = failure(checks.moved, before, before, what="it", when="x did", hint="ignored?")
    assert message == "it did not move when x did\n  hint: ignored?"


def test_a_result_that_became_nan_has_not_moved_but_broken():
    before, after = torch.ones(3), torch.tensor([2.0, float("nan"), 2.0])
    message = failure(checks.moved, before, after, what="it", when="x did", hint="a mask?")
    assert message == "it became NaN in 1 of 3 numbers when x did\n  hint: a mask?"
    checks.moved(torch.tensor([1, 2]), torch.tensor([1, 3]), what="it", when="x did")


@pytest.mark.parametrize("compare", [checks.unmoved, checks.moved])
def test_two_runs_that_are_no_tensors_of_one_shape_or_not_finite_are_not_compared(compare):
    x = torch.ones(2)
    assert "is None" in failure(compare, None, x, what="it", when="y")
    assert "is None" in failure(compare, x, None, what="it", when="y")
    assert "has shape (3,)" in failure(compare, x, torch.ones(3), what="it", when="y")
    nan = torch.tensor([1.0, float("nan")])
    assert "it holds NaN in 1 of 2 numbers" in failure(compare, nan, nan, what="it", when="y")


def test_unchanged_names_the_argument_that_was_written_to():
    q, mask = torch.tensor([1.0, float("nan")]), torch.tensor([True, False])
    with checks.unchanged(q=q, mask=mask):
        q.clone().add_(1)

    def write():
        with checks.unchanged(q=q, mask=mask):
            mask.logical_not_()

    message = failure(write)
    assert message.startswith("your code changed its argument mask in place\n  hint: look for +=")

    def resize():
        with checks.unchanged(q=q):
            q.resize_(1)

    assert "its argument q in place" in failure(resize)


def test_case_adds_the_inputs_to_a_failure():
    def check():
        with checks.case("T = 3, S = 5"):
            checks.shape(torch.zeros(2), (3,), what="it")

    assert failure(check) == "it has shape (2,) but should have (3,)\n  seen with T = 3, S = 5"


def test_case_turns_an_error_of_the_code_into_a_diagnosis_and_keeps_its_trace():
    with (
        pytest.raises(AssertionError) as caught,
        checks.case("two batch axes", "count axes from the end"),
    ):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    lines = str(caught.value).splitlines()
    assert lines[:2] == [
        "your code stopped on two batch axes",
        "  hint: count axes from the end",
    ]
    assert lines[2].startswith("  RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_case_lets_an_unwritten_answer_say_so_itself():
    with pytest.raises(NotImplementedError, match="write your answer"), checks.case("anything"):
        raise NotImplementedError("write your answer here")


def test_given_stands_in_for_a_notebooks_function_also_inside_its_classes_and_goes_away():
    code = """
def attend(x):
    return "theirs"

class Layer:
    def forward(self):
        return attend(1), merge(1)

layer = Layer()
with checks.given(attend=lambda x: "ours", merge=lambda x: "also ours"):
    during = layer.forward()
after = attend(1)
"""
    namespace = notebook(code)
    assert namespace["during"] == ("ours", "also ours")
    assert namespace["after"] == "theirs"
    assert "merge" not in namespace


def test_given_gives_back_the_names_after_an_error_too():
    code = """
def attend():
    return "theirs"
try:
    with checks.given(attend=None):
        raise ValueError
except ValueError:
    after = attend()
"""
    assert notebook(code)["after"] == "theirs"


def test_given_hands_the_replacements_to_a_grading_engine_that_asks_for_them():
    seen = []

    class Elsewhere:
        def __enter__(self):
            seen.append("entered")

        def __exit__(self, *error):
            seen.append("left")

    def engine(replacements):
        seen.append(replacements)
        return Elsewhere()

    code = "attend = 1\nwith checks.given(attend=2):\n    during = attend"
    namespace = notebook(code, __given__=engine)
    assert seen == [{"attend": 2}, "entered", "left"]
    assert namespace["during"] == 1


@pytest.fixture
def bans(monkeypatch):
    """What a test bans is open again after it."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", F.scaled_dot_product_attention)
    monkeypatch.setattr(nn.MultiheadAttention, "__init__", nn.MultiheadAttention.__init__)
    checks.ban(SDPA, "torch.nn.MultiheadAttention", "lookback.attention")


@pytest.mark.usefixtures("bans")
@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("torch.nn.functional.scaled_dot_product_attention(x, x, x)", SDPA),
        ("from torch.nn.functional import *\nscaled_dot_product_attention(x, x, x)", SDPA),
        ("list(map(torch.nn.functional.scaled_dot_product_attention, [x], [x], [x]))", SDPA),
        ("torch.nn.MultiheadAttention(4, 2)", "torch.nn.MultiheadAttention"),
        (
            "from torch.nn.modules.activation import MultiheadAttention as M\nM(4, 2)",
            "torch.nn.MultiheadAttention",
        ),
        (
            "class Mine(torch.nn.MultiheadAttention):\n"
            "    def __init__(self):\n        super().__init__(4, 2)\nMine()",
            "torch.nn.MultiheadAttention",
        ),
    ],
)
def test_a_banned_name_raises_in_the_notebook_and_says_why(code, name):
    with pytest.raises(RuntimeError, match=f"^{name} is banned in this exercise, because"):
        notebook(code, x=torch.zeros(1, 2, 4))


@pytest.mark.usefixtures("bans")
def test_a_banned_name_works_on_for_everyone_but_the_notebook():
    x = torch.randn(1, 2, 4)
    assert F.scaled_dot_product_attention(x, x, x).shape == (1, 2, 4)
    assert isinstance(nn.MultiheadAttention(4, 2), nn.MultiheadAttention)
    code = "import lookback.attention as a\ny = a.scaled_dot_product_attention(x, x, x, kernel=k)"
    for kernel in ("reference", "sdpa"):  # the library calls torch on the notebook's behalf
        assert notebook(code, x=x, k=kernel)["y"].shape == (1, 2, 4)


@pytest.mark.usefixtures("bans")
def test_banning_twice_is_banning_once():
    once = F.scaled_dot_product_attention
    checks.ban(SDPA)
    assert F.scaled_dot_product_attention is once


def test_a_ban_on_what_torch_does_not_have_is_refused():
    for name in ("torch.nn.functional.attend", "torch.nowhere.attend"):
        with pytest.raises(ValueError, match=f"cannot ban '{name}': torch has nothing"):
            checks.ban(name)
