"""Calls, gradients, modules, mutation and callbacks cross as if there were no boundary."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from proctor import forkserver
from proctor.examiner import Examinee, Gone, Verdict, setup_namespace
from proctor.limits import Limits, MiB

LIMITS = Limits(cpu=2, wall=5, memory=512 * MiB, frame=8 * MiB)
STUDENT = """
import torch
from torch import nn
import torch.nn.functional as F

counter = 0


def mix(x, y, scale=1.0):
    return (x @ y.mT).softmax(-1) * scale


def first(x):
    return x


def doubled(x):
    x.data.mul_(2)


def grow(items, table):
    items.append(len(items))
    table["seen"] = True


def noise(n, generator):
    return torch.randn(n, generator=generator)


def drawn(n):
    return torch.randn(n)


def detached(x):
    return x.detach() * 2


def several(x):
    return {"half": x / 2, "parts": [x + 1, (x * 3,)], "n": 3, "name": "x", "size": x.shape}


def fails(x):
    raise ValueError(f"width {x.shape[-1]} is odd")


def apply(f, x):
    return f(x) * 2


def helper(x):
    return x * 0


def uses_helper(x):
    return helper(x) + 1


class Layer(nn.Module):
    def __init__(self, D):
        super().__init__()
        self.W = nn.Linear(D, D, bias=False)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.scale = torch.tensor(2.0)
        self.label = "a layer"

    def forward(self, x):
        self.calls += 1
        x = self.W(x)
        return x * self.scale if self.training else x

    def twice(self, x):
        return self(self(x))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.b[0].weight = self.a.weight

    def forward(self, x):
        return self.b[1](self.b[0](self.a(x)))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[forkserver.ForkServer]:
    """A fork server; the level is the one that needs nothing of the machine."""
    forkserver.warm_up()
    server = forkserver.ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def candidate(server) -> Iterator[Examinee]:
    """A candidate that has run the student's cell."""
    pid, sock = server.start("limits", LIMITS)
    examinee = Examinee(pid, sock, LIMITS)
    _, error = examinee.run("answers", STUDENT)
    assert error is None, error
    yield examinee
    examinee.channel.close()
    server.stop()


SETUP = setup_namespace(["import torch\nfrom torch import nn"])


def run(candidate: Examinee, check: str) -> Verdict:
    """One check with everything of torch at hand."""
    return candidate.check(check, "check", SETUP, b"key")


def holds(candidate: Examinee, check: str) -> None:
    """Hold that a check passes."""
    verdict = run(candidate, check)
    assert verdict.passed, f"{verdict.message}\n{verdict.where}"


def test_a_call_and_its_gradients_equal_the_local_ones(candidate):
    holds(
        candidate,
        """
for dtype in (torch.float32, torch.float64):
    x = torch.randn(2, 3, 4, dtype=dtype, requires_grad=True)
    y = torch.randn(2, 5, 4, dtype=dtype, requires_grad=True)
    out, wanted = mix(x, y, scale=2.0), (x @ y.mT).softmax(-1) * 2.0
    torch.testing.assert_close(out, wanted)
    upstream = torch.randn_like(wanted)
    found = torch.autograd.grad(out, (x, y), upstream, retain_graph=True)
    again = torch.autograd.grad(out, (x, y), upstream)
    for f, a, w in zip(found, again, torch.autograd.grad(wanted, (x, y), upstream)):
        torch.testing.assert_close(f, w)
        torch.testing.assert_close(a, w)
""",
    )


def test_one_tensor_given_twice_gets_both_gradients(candidate):
    holds(
        candidate,
        """
x = torch.randn(3, 4, requires_grad=True)
(found,) = torch.autograd.grad(mix(x, x).square().sum(), x)
(wanted,) = torch.autograd.grad((x @ x.mT).softmax(-1).square().sum(), x)
torch.testing.assert_close(found, wanted)
""",
    )


def test_a_detached_result_has_no_gradient_and_an_unused_input_gets_none(candidate):
    holds(
        candidate,
        """
x, y = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
assert not detached(x).requires_grad
out = mix(x[None], y[None]) * 0 + apply(first, x)
assert apply(first, x).requires_grad
unused = apply(lambda t: t, x)
assert torch.autograd.grad(unused.sum(), (x, y), allow_unused=True)[1] is None
with torch.no_grad():
    assert not mix(torch.randn(2, 2, requires_grad=True), torch.randn(2, 2)).requires_grad
""",
    )


def test_double_backward_is_refused_and_says_so(candidate):
    verdict = run(
        candidate,
        "x = torch.randn(2, 2, requires_grad=True)\n"
        "torch.autograd.grad(mix(x, x).sum(), x, create_graph=True)",
    )
    assert "double backward does not cross" in verdict.message


def test_nested_results_arrive_with_their_gradients(candidate):
    holds(
        candidate,
        """
x = torch.randn(4, requires_grad=True)
found = several(x)
assert found["n"] == 3 and found["name"] == "x" and found["size"] == torch.Size([4])
(found["half"].sum() + found["parts"][1][0].sum()).backward()
torch.testing.assert_close(x.grad, torch.full((4,), 3.5))
""",
    )


def test_views_arrive_as_views_and_a_returned_argument_is_the_argument(candidate):
    holds(
        candidate,
        """
x = torch.randn(4, 3).T
assert first(x) is x
assert apply(lambda t: t.stride() == x.stride() and t.mT, x).shape == (4, 3)
torch.testing.assert_close(mix(x, x), (x @ x.mT).softmax(-1))
""",
    )


def test_mutation_of_arguments_shows(candidate):
    verdict = run(
        candidate,
        """
x, base, items, table = torch.ones(2), torch.ones(2, 1), [5], {}
doubled(x), doubled(base[1]), grow(items, table)
assert False, [x.tolist(), base.tolist(), items, table]
""",
    )
    assert verdict.message == "[[2.0, 2.0], [[1.0], [2.0]], [5, 1], {'seen': True}]"


def test_a_result_that_is_right_only_for_what_the_call_left_behind_is_wrong(candidate):
    more = """
def zeroed(x, items):
    x.data.zero_(), items.clear()
    return x * 0


class Zeroed(Layer):
    def forward(self, x):
        self.W.weight.data.zero_()
        return x * 0
"""
    candidate.run("more", more)
    for check in (
        "x = torch.ones(2)\nassert torch.equal(zeroed(x, []), x * 3)",
        "x, items = torch.zeros(2), [3.0]\nassert torch.equal(zeroed(x, items), x + sum(items))",
        "m, x = Zeroed(2), torch.ones(1, 2)\nassert torch.equal(m(x), x @ m.W.weight.T)",
    ):
        verdict = run(candidate, check)
        assert verdict.outcome == "failed", check
        assert verdict.message.startswith("your code writes to what it is given")
    holds(candidate, "x = torch.ones(2)\nassert torch.equal(zeroed(x, [1]), torch.zeros(2))")


def test_an_argument_changed_in_place_and_returned_is_a_result_like_another(candidate):
    candidate.run("tripled", "def tripled(x):\n    return x.mul_(3)\n")
    holds(candidate, "assert torch.equal(tripled(torch.ones(2)), torch.full((2,), 3.0))")
    verdict = run(candidate, "x = torch.ones(2)\nassert torch.equal(tripled(x), x)")
    assert verdict.message.startswith("your code writes to what it is given")


def test_the_numbers_of_a_module_that_a_check_gives_are_not_to_be_changed(candidate):
    candidate.run(
        "more", "def zeroes(layer, x):\n    layer.weight.data.zero_()\n    return layer(x)"
    )
    verdict = run(candidate, "layer, x = nn.Linear(3, 2), torch.ones(1, 3)\nzeroes(layer, x)")
    assert "weight of a module that your code was given is not to be changed" in verdict.message
    holds(
        candidate,
        "f, x = nn.Linear(3, 3), torch.ones(1, 3)\nassert torch.equal(apply(f, x), f(x) * 2)",
    )


def test_names_that_are_lent_twice_come_back_in_order(candidate):
    holds(
        candidate,
        """
x = torch.ones(1)
with __given__({"helper": lambda t: t * 5}):
    with __given__({"helper": lambda t: t * 7}):
        assert uses_helper(x) == 8
    assert uses_helper(x) == 6 and helper(x) == 5
assert uses_helper(x) == 1 and helper(x) == 0
""",
    )


def test_generators_cross_by_state_and_move_on(candidate):
    holds(
        candidate,
        """
a = noise(5, torch.Generator().manual_seed(3))
g = torch.Generator().manual_seed(3)
torch.testing.assert_close(noise(5, g), a)
assert not torch.equal(noise(5, g), a)
""",
    )


def test_the_global_generator_crosses_and_moves_on(candidate):
    holds(
        candidate,
        """
torch.manual_seed(1)
a, b = drawn(3), drawn(3)
torch.manual_seed(1)
torch.testing.assert_close(drawn(3), a)
assert not torch.equal(a, b)
torch.manual_seed(1)
torch.testing.assert_close(torch.randn(3), a)
""",
    )


def test_a_module_has_parameters_gradients_and_state(candidate):
    holds(
        candidate,
        """
layer = Layer(4)
assert [n for n, _ in layer.named_parameters()] == ["W.weight"]
assert set(layer.state_dict()) == {"W.weight", "calls"}
x = torch.randn(3, 4)
torch.testing.assert_close(layer(x), 2 * (x @ layer.W.weight.T))
assert layer.calls == 1 and layer.label == "a layer" and layer.scale == 2.0
layer(x).square().sum().backward()
weight = layer.W.weight.detach().clone().requires_grad_()
(2 * (x @ weight.T)).square().sum().backward()
torch.testing.assert_close(layer.W.weight.grad, weight.grad)
layer.eval()
torch.testing.assert_close(layer(x), x @ layer.W.weight.T)
torch.testing.assert_close(layer.twice(x), x @ layer.W.weight.T @ layer.W.weight.T)
layer.load_state_dict({"W.weight": torch.eye(4), "calls": torch.tensor(7.0)})
torch.testing.assert_close(layer(x), x)
assert layer.calls == 8 + 0
layer.double()
assert layer(x.double()).dtype == torch.float64
with torch.no_grad():
    layer.W.weight.mul_(3)
torch.testing.assert_close(layer(x.double()), 3 * x.double())
torch.testing.assert_close(layer.W(x.double()), 3 * x.double())
assert type(layer).__name__ == "Layer"
""",
    )


def test_tied_parameters_stay_tied_and_frozen_ones_frozen(candidate):
    holds(
        candidate,
        """
m = Tied()
assert m.a.weight is m.b[0].weight and len(list(m.parameters())) == 5
x = torch.randn(2, 3)
m.a.bias.requires_grad_(False)
m(x).sum().backward()
assert m.a.bias.grad is None and m.a.weight.grad is not None
twin = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
twin[1].weight = twin[0].weight
with torch.no_grad():
    for mine, theirs in zip((twin[0], twin[1], twin[2]), (m.a, m.b[0], m.b[1])):
        mine.weight.copy_(theirs.weight), mine.bias.copy_(theirs.bias)
torch.testing.assert_close(m(x), twin(x))
twin(x).sum().backward()
torch.testing.assert_close(m.a.weight.grad, twin[0].weight.grad)
""",
    )


def test_a_buffer_that_does_not_cross_stays_where_it_is_unless_it_is_of_the_state(candidate):
    cell = """
class Turned(nn.Module):
    def __init__(self, lasting):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.inner.register_buffer("turn", torch.polar(torch.ones(2), torch.arange(2.0)))
        self.register_buffer("table", torch.eye(2).to_sparse(), persistent=lasting)

    def forward(self, x):
        return (torch.complex(self.inner(x) @ self.table, x) * self.inner.turn).real
"""
    candidate.run("turned", cell)
    holds(
        candidate,
        """
m = Turned(False)
assert set(m.state_dict()) == {"inner.weight", "inner.bias", "inner.turn"}
assert m.inner.turn.dtype == torch.complex64
x = torch.randn(3, 2)
turn = torch.polar(torch.ones(2), torch.arange(2.0))
torch.testing.assert_close(m(x), (torch.complex(m.inner(x), x) * turn).real)
m(x).sum().backward()
assert m.inner.weight.grad is not None
""",
    )
    told = run(candidate, "Turned(True)").message
    assert "torch.float32 and torch.sparse_coo does not cross" in told
    assert "persistent=False" in told


SHARING = """
buffer, table, views = torch.zeros(2), torch.arange(3.0), []


def buffered(x):
    return buffer.copy_(x * 2)


def part(x):
    views.append(x[1:])
    return views[-1]


def fixed():
    return table[1:]


def cached(n):
    views.append(torch.arange(4.0))
    views[0][n] = n
    return views[0][:n]
"""


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("a = buffered(x)\nbuffered(x + 1)\nassert a.tolist() == [2, 2], 'overwritten'", "overw"),
        ("a = buffered(x)[1:]\nbuffered(x + 1)\nassert a.tolist() == [2], 'overwritten'", "overw"),
        ("a = buffered(x)\nb = buffered(x * 0)\nassert a.tolist() == b.tolist()", "work on cop"),
        ("a = part(x)\nx += 1\nassert a.tolist() == [1], 'shared'", "shared"),
        ("a = part(x)\na += 1\nassert x.tolist() == [1, 1], 'shared'", "shared"),
        ("for n in range(3):\n    assert buffered(x * n).tolist() == [2 * n] * 2", ""),
        ("with torch.no_grad():\n    assert part(x).tolist() == [1] and x.tolist() == [1, 1]", ""),
        ("a, b = fixed(), fixed()\nassert a.tolist() == b.tolist() == [1, 2]", ""),
        (
            "a, b = cached(2), cached(3)\nassert a.tolist() == [0, 1] and b.tolist() == [0, 1, 2]",
            "",
        ),
    ],
)
def test_results_that_share_memory_are_seen_to(candidate, check, message):
    candidate.run("sharing", SHARING)
    verdict = run(candidate, f"x = torch.ones(2)\n{check}")
    assert verdict.passed == (not message), verdict.message
    assert message in verdict.message


def test_a_compiled_answer_runs_without_a_compiler(candidate):
    cell = """
@torch.compile
def plain(x):
    return x * 2


@torch.compile(fullgraph=True)
def asked(x):
    return x * 3


layer = nn.Linear(2, 2)
layer.compile()
"""
    _, error = candidate.run("compiled", cell)
    assert error is None
    holds(candidate, "x = torch.ones(2)\nassert (plain(x) + asked(x)).tolist() == [5, 5]")
    holds(candidate, "assert layer(torch.ones(2)).shape == (2,)")


def test_a_callable_of_the_examiner_is_called_back_with_gradients(candidate):
    holds(
        candidate,
        """
seen = []
def square(t):
    seen.append(t.shape)
    return t.square()
x = torch.randn(3, requires_grad=True)
out = apply(square, x)
torch.testing.assert_close(out, 2 * x.square())
(g,) = torch.autograd.grad(out.sum(), x)
torch.testing.assert_close(g, 4 * x)
assert seen == [torch.Size([3])]
def stop(t):
    raise ValueError("no such width")
try:
    apply(stop, x)
except ValueError as error:
    assert "no such width" in str(error)
else:
    raise AssertionError("an error of the callable did not come back")
""",
    )


def test_a_lent_reference_stands_in_for_the_length_of_a_block(candidate):
    holds(
        candidate,
        """
x = torch.randn(3, requires_grad=True)
with __given__({"helper": lambda t: t * 5}):
    out = uses_helper(x)
    torch.testing.assert_close(out, x * 5 + 1)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], torch.full((3,), 5.0))
    torch.testing.assert_close(helper(x), x * 5)
torch.testing.assert_close(uses_helper(x), torch.ones(3))
torch.testing.assert_close(helper(x), x * 0)
""",
    )


def test_a_module_of_the_examiner_can_be_lent_as_a_class(candidate):
    candidate.run("more", "class Wrap(nn.Module):\n    def __init__(self):\n"
                  "        super().__init__()\n        self.inner = Inner(3)\n"
                  "    def forward(self, x):\n        return self.inner(x) + 1\n")  # fmt: skip
    holds(
        candidate,
        """
with __given__({"Inner": lambda D: nn.Linear(D, D)}):
    m = Wrap()
    x = torch.randn(2, 3, requires_grad=True)
    assert {n for n, _ in m.named_parameters()} == {"inner.weight", "inner.bias"}
    out = m(x)
    torch.testing.assert_close(out, x @ m.inner.weight.T + m.inner.bias + 1)
    out.sum().backward()
    torch.testing.assert_close(m.inner.bias.grad, torch.full((3,), 2.0))
""",
    )


@pytest.mark.parametrize(
    ("check", "outcome", "message"),
    [
        ("fails(torch.ones(2, 3))", "error", "ValueError: width 3 is odd"),
        ("nothing_of_this_name(1)", "error", "NameError"),
        ("assert mix(torch.ones(1, 1), torch.ones(1, 1)) == 2, 'off by one'", "failed", "off by"),
        ("mix(object())", "error", "does not cross"),
        ("Layer(2).note = 1", "error", "setting 'note' on a module"),
        ("mix.note = 1", "error", "setting 'note' on an object"),
        ("mix(torch.zeros(2**22), 1)", "error", "too much for one call"),
    ],
)
def test_what_goes_wrong_is_told(candidate, check, outcome, message):
    verdict = run(candidate, check)
    assert verdict.outcome == outcome
    assert message in verdict.message or "are too much" in verdict.message


def test_an_error_names_the_line_of_the_student(candidate):
    verdict = run(candidate, "fails(torch.ones(2, 3))")
    assert "in fails" in verdict.where
    assert "raise ValueError" in verdict.where


def test_visible_seeds_give_other_numbers_to_every_submission(candidate):
    check = "torch.manual_seed(0)\nassert not torch.equal(torch.randn(3), torch.tensor({}))"
    torch.manual_seed(0)
    plain = torch.randn(3).tolist()
    assert run(candidate, check.format(plain)).passed
    state = torch.get_rng_state()
    for key in (b"one", b"one", b"two"):
        candidate.check(
            "g = torch.Generator().manual_seed(1); seen = torch.rand(2, generator=g)\n"
            f"record({key!r}, seen.tolist())",
            "c",
            SETUP | {"record": note},
            key,
        )
    assert notes[0] == notes[1] != (b"two", notes[2][1])
    assert notes[0][1] != notes[2][1]
    assert torch.equal(state, torch.get_rng_state()), "a check changed the examiner's own numbers"


notes: list = []


def note(key, value):
    notes.append((key, value))


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("while True: pass", "cpu"),
        ("import os; os._exit(3)", "ended"),
        ("import time; time.sleep(99)", "wall"),
    ],
)
def test_a_cell_that_overruns_or_ends_is_noticed(cell, kind):
    server, limits = forkserver.ForkServer(), Limits(cpu=0.3, wall=1.0)
    pid, sock = server.start("limits", limits)
    examinee = Examinee(pid, sock, limits)
    with pytest.raises(Gone) as gone:
        examinee.run("cell", cell)
    assert gone.value.kind == kind
    examinee.channel.close()
    server.stop()
    server.close()
