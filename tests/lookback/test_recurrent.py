"""RNN, LSTM and GRU against torch's own: steps, layers, gradients, and what may not move."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from conftest import tolerance
from lookback.recurrent import (
    GRU,
    LSTM,
    RNN,
    activation,
    gru_step,
    lstm_gates,
    lstm_step,
    rnn_step,
    set_forget_bias_,
)

KINDS = {
    "tanh": (RNN, nn.RNN, {"nonlinearity": "tanh"}),
    "relu": (RNN, nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (LSTM, nn.LSTM, {}),
    "gru": (GRU, nn.GRU, {}),
}
CELLS = {
    "tanh": (nn.RNNCell, {"nonlinearity": "tanh"}),
    "relu": (nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTMCell, {}),
    "gru": (nn.GRUCell, {}),
}
EXACT = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 3e-2}


def step(kind: str, x_t, state, weights):
    """One step of any kind."""
    if kind == "lstm":
        return lstm_step(x_t, state, *weights)
    if kind == "gru":
        return gru_step(x_t, state, *weights)
    return rnn_step(x_t, state, *weights, nonlinearity=kind)


def twins(kind: str, I: int, D: int, *, dtype=torch.float64, device="cpu", **options):  # noqa: E741
    """One of our layers and torch's, with the same weights."""
    ours, theirs, extra = KINDS[kind]
    theirs = theirs(I, D, batch_first=True, **extra, **options).to(device, dtype)
    ours = ours(I, D, **extra, **options).to(device, dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def start(kind: str, shape: tuple[int, ...], *, dtype=torch.float64, device="cpu"):
    """A state that is not zero."""
    h = torch.randn(shape, dtype=dtype, device=device)
    return (h, torch.randn_like(h)) if kind == "lstm" else h


def flat(state) -> tuple[torch.Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("kind", KINDS)
def test_one_step_is_torchs_cell(device, kind, dtype, bias):
    cell, extra = CELLS[kind]
    cell = cell(3, 4, bias=bias, **extra).to(device, dtype)
    weights = tuple(cell.parameters())
    x_t = torch.randn(5, 3, device=device, dtype=dtype)
    state = start(kind, (5, 4), dtype=dtype, device=device)
    for mine, expected in zip(
        flat(step(kind, x_t, state, weights)), flat(cell(x_t, state)), strict=True
    ):
        torch.testing.assert_close(mine, expected, rtol=0, atol=EXACT[dtype])


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_takes_any_batch_axes_and_each_example_goes_its_own_way(kind):
    weights = [p.detach() for p in CELLS[kind][0](3, 4, **CELLS[kind][1]).double().parameters()]
    x_t, state = torch.randn(2, 5, 3, dtype=torch.float64), start(kind, (2, 5, 4))
    whole = flat(step(kind, x_t, state, weights))
    one_state = tuple(s[1, 3] for s in state) if kind == "lstm" else state[1, 3]
    alone = flat(step(kind, x_t[1, 3], one_state, weights))
    for mine, expected in zip(whole, alone, strict=True):
        assert mine.shape == (2, 5, 4)
        torch.testing.assert_close(mine[1, 3], expected)


def test_a_linear_step_is_the_affine_map_inside_the_others_and_tanh_is_taken_unless_told():
    x_t, h, W_ih, W_hh = (torch.randn(s) for s in ((2, 3), (2, 4), (4, 3), (4, 4)))
    torch.testing.assert_close(
        rnn_step(x_t, h, W_ih, W_hh, nonlinearity="linear"), x_t @ W_ih.T + h @ W_hh.T
    )
    torch.testing.assert_close(rnn_step(x_t, h, W_ih, W_hh), (x_t @ W_ih.T + h @ W_hh.T).tanh())
    torch.testing.assert_close(activation("relu")(torch.tensor([-1.0, 2.0])).sum().item(), 2.0)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_equals_its_torch_twin_forward_and_backward(
    device, kind, dtype, bias, num_layers, bidirectional
):
    options = {"num_layers": num_layers, "bias": bias, "bidirectional": bidirectional}
    ours, theirs = twins(kind, 3, 4, dtype=dtype, device=device, **options)
    x = torch.randn(2, 5, 3, device=device, dtype=dtype, requires_grad=True)
    state = start(kind, (ours.directions * num_layers, 2, 4), dtype=dtype, device=device)

    mine, expected = ours(x, state), theirs(x, state)
    losses = []
    for (y, end), layer in ((mine, ours), (expected, theirs)):
        loss = y.square().sum() + sum(s.sin().sum() for s in flat(end))
        losses.append(torch.autograd.grad(loss, [x, *layer.parameters()]))

    torch.testing.assert_close(mine[0], expected[0], rtol=0, atol=EXACT[dtype])
    for m, e in zip(flat(mine[1]), flat(expected[1]), strict=True):
        torch.testing.assert_close(m, e, rtol=0, atol=EXACT[dtype])
    for name, g, wanted in zip(["x", *dict(ours.named_parameters())], *losses, strict=True):
        close = tolerance(dtype) | {"msg": lambda m, n=name: f"{n}: {m}"}
        torch.testing.assert_close(g, wanted, **close)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_dict_goes_both_ways_and_one_seed_gives_the_same_start(kind):
    ours, theirs, extra = KINDS[kind]
    torch.manual_seed(7)
    mine = ours(3, 4, 2, bidirectional=True, **extra)
    torch.manual_seed(7)
    twin = theirs(3, 4, 2, bidirectional=True, **extra)
    assert list(mine.state_dict()) == list(twin.state_dict())
    for name, p in mine.state_dict().items():
        torch.testing.assert_close(p, twin.state_dict()[name], rtol=0, atol=0)
    with torch.no_grad():
        mine.weight_hh_l1.zero_()
    twin.load_state_dict(mine.state_dict())
    assert (twin.weight_hh_l1 == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_time_first_is_the_same_layer_transposed(kind):
    ours, _ = twins(kind, 3, 4)
    transposed = KINDS[kind][0](3, 4, batch_first=False, **KINDS[kind][2]).double()
    transposed.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(transposed(x.transpose(0, 1))[0].transpose(0, 1), ours(x)[0])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_do_what_a_packed_sequence_does(device, kind, bidirectional):
    ours, theirs = twins(kind, 3, 4, device=device, num_layers=2, bidirectional=bidirectional)
    x = torch.randn(4, 6, 3, device=device, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([3, 6, 1, 5])
    state = start(kind, (2 * ours.directions, 4, 4), device=device)

    y, end = ours(x, state, lengths.to(device))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, expected_end = theirs(packed, state)
    expected, _ = pad_packed_sequence(expected, batch_first=True)

    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    for m, e in zip(flat(end), flat(expected_end), strict=True):
        torch.testing.assert_close(m, e, rtol=0, atol=1e-12)
    grads = [
        torch.autograd.grad(out.square().sum() + flat(last)[-1].sum(), [x, *layer.parameters()])
        for out, last, layer in ((y, end, ours), (expected, expected_end, theirs))
    ]
    for g, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(g, wanted, **tolerance(torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_padding_holds_reaches_neither_outputs_nor_gradients(kind):
    ours, _ = twins(kind, 3, 4, bidirectional=True)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    lengths = torch.tensor([2, 5])
    poisoned = x.clone()
    poisoned[0, 2:] = float("nan")
    results = []
    for values in (x, poisoned):
        y, end = ours(values, lengths=lengths)
        results.append((y, flat(end)[0], *torch.autograd.grad(y.sum(), list(ours.parameters()))))
    for clean, dirty in zip(*results, strict=True):
        torch.testing.assert_close(dirty, clean)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_layer_makes_follows_its_input_and_not_the_default_device(kind):
    ours, _ = twins(kind, 3, 4, num_layers=2, bidirectional=True)
    x, lengths = torch.randn(2, 5, 3, dtype=torch.float64), torch.tensor([2, 5])
    expected = ours(x, lengths=lengths)
    with torch.device("meta"):
        found = ours(x, lengths=lengths)
    torch.testing.assert_close(found, expected)


def test_a_sequence_of_length_zero_keeps_its_first_state_and_shows_zeros():
    layer = GRU(3, 4)
    state = torch.randn(1, 2, 4)
    y, end = layer(torch.randn(2, 5, 3), state, torch.tensor([0, 5]))
    assert (y[0] == 0).all()
    torch.testing.assert_close(end[:, 0], state[:, 0])
    assert (end[:, 1] != state[:, 1]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_between_layers_in_training_only_and_as_torchs(kind):
    ours, theirs = twins(kind, 3, 8, num_layers=2, dropout=0.5)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    torch.manual_seed(1)
    mine = ours(x)[0]
    torch.manual_seed(1)
    # torch draws its mask over time-first activations; ours does too, so one seed gives one mask
    torch.testing.assert_close(mine, theirs(x)[0])
    assert not torch.equal(mine, ours(x)[0])
    ours.eval()
    torch.testing.assert_close(ours(x)[0], theirs.eval()(x)[0])
    single = KINDS[kind][0](3, 8, dropout=0.5, **KINDS[kind][2]).double()
    torch.testing.assert_close(single(x)[0], single(x)[0])


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 2**31))
@settings(max_examples=8, deadline=None)
def test_an_output_depends_on_the_past_only_and_backwards_on_the_future_too(kind, T, t, seed):
    t = min(t, T - 1)
    torch.manual_seed(seed)
    for bidirectional in (False, True):
        layer = KINDS[kind][0](3, 4, bidirectional=bidirectional).double()
        x = torch.randn(1, T, 3, dtype=torch.float64)
        moved = x.clone()
        moved[:, t] += 1.0
        change = (layer(moved)[0] - layer(x)[0]).abs().amax((0, 2))
        assert (change[t:] > 0).all()
        assert (change[:t] > 0).all() if bidirectional else (change[:t] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_passes_gradcheck_and_changes_no_argument(kind):
    cell, extra = CELLS[kind]
    weights = [p.detach().double().requires_grad_() for p in cell(2, 3, **extra).parameters()]
    x_t = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    state = [s.requires_grad_() for s in flat(start(kind, (2, 3)))]

    def run(x_t, *rest):
        state = rest[:2] if kind == "lstm" else rest[0]
        return step(kind, x_t, state, rest[len(flat(state)) :])

    before = [t.detach().clone() for t in (x_t, *state, *weights)]
    assert torch.autograd.gradcheck(run, (x_t, *state, *weights))
    for now, then in zip((x_t, *state, *weights), before, strict=True):
        assert torch.equal(now, then)


def test_clamped_gates_keep_overwrite_and_hide_the_cell():
    x_t, h, c = torch.randn(5, 3), torch.randn(5, 4), torch.randn(5, 4)
    W_ih, W_hh = torch.randn(16, 3), torch.randn(16, 4)
    far = torch.full((4,), 100.0)

    def clamped(i, f, o):
        """A step whose biases hold the input, forget and output gate fully open or closed."""
        bias = torch.cat([i * far, f * far, torch.zeros(4), o * far])
        return lstm_step(x_t, (h, c), W_ih, W_hh, bias)

    candidate = lstm_gates(x_t, h, W_ih, W_hh).g
    torch.testing.assert_close(clamped(-1, 1, 1)[1], c)
    torch.testing.assert_close(clamped(1, -1, 1)[1], candidate)
    torch.testing.assert_close(clamped(1, -1, 1)[0], candidate.tanh())
    torch.testing.assert_close(clamped(1, 1, -1)[0], torch.zeros(5, 4))


def test_an_update_gate_held_open_keeps_the_state_of_a_gru():
    h = torch.randn(5, 4)
    bias = torch.cat([torch.zeros(4), torch.full((4,), 100.0), torch.zeros(4)])
    kept = gru_step(torch.randn(5, 3), h, torch.randn(12, 3), torch.randn(12, 4), bias)
    torch.testing.assert_close(kept, h)


@pytest.mark.parametrize("library", [LSTM, nn.LSTM])
def test_the_forget_bias_stands_in_one_of_both_biases_and_touches_no_other_gate(library):
    torch.manual_seed(3)
    plain = library(3, 4, 2, bidirectional=True)
    torch.manual_seed(3)
    layer = library(3, 4, 2, bidirectional=True)
    set_forget_bias_(layer, 2.5)
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        given, rest = getattr(layer, f"bias_ih_{suffix}"), getattr(layer, f"bias_hh_{suffix}")
        torch.testing.assert_close(given[4:8], torch.full((4,), 2.5))
        torch.testing.assert_close(rest[4:8], torch.zeros(4))
    others = [0, 1, 2, 3, *range(8, 16)]
    for name, p in layer.named_parameters():
        rows = others if name.startswith("bias") else slice(None)
        torch.testing.assert_close(p[rows], dict(plain.named_parameters())[name][rows])


def test_an_lstm_starts_with_the_forget_bias_it_was_given():
    layer = LSTM(3, 4, forget_bias=4.0)
    gates = lstm_gates(
        torch.zeros(3), torch.zeros(4), *(p.detach() for _, p in layer.named_parameters())
    )
    torch.testing.assert_close(gates.f, torch.full((4,), 4.0).sigmoid())


def test_nan_stays_in_its_own_sequence_and_reaches_every_later_step():
    x = torch.randn(2, 5, 3)
    x[0, 2] = float("nan")
    for layer in (RNN(3, 4), LSTM(3, 4), GRU(3, 4)):
        y, _ = layer(x)
        assert y[0, 2:].isnan().all()
        assert y[0, :2].isfinite().all()
        assert y[1].isfinite().all()


def test_a_layer_says_its_sizes():
    assert repr(GRU(3, 4, 2)) == "GRU(3, 4, num_layers=2)"


class Biased(nn.Module):
    """Four numbers that bear the name of a bias, in a layer that has no width."""

    def __init__(self) -> None:
        super().__init__()
        self.bias_ih = nn.Parameter(torch.zeros(4))


x, h, W_ih, W_hh = torch.randn(2, 3), torch.randn(2, 4), torch.randn(4, 3), torch.randn(4, 4)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: rnn_step(x, h, W_ih, W_hh, nonlinearity="sine"), "unknown nonlinearity 'sine'"),
        (lambda: rnn_step(x.long(), h, W_ih, W_hh), "input must be floating point"),
        (lambda: rnn_step(x, h.long(), W_ih, W_hh), "state must be floating point"),
        (lambda: rnn_step(x.sum(), h, W_ih, W_hh), "input needs at least 1 axis"),
        (lambda: rnn_step(x, h[:1], W_ih, W_hh), r"batch axes differ: input \(2,\), state \(1,\)"),
        (
            lambda: rnn_step(x.expand(5, 2, 3), h.expand(6, 2, 4), W_ih, W_hh),
            r"batch axes differ: input \(5, 2\), state \(6, 2\)$",
        ),
        (lambda: rnn_step(x, h, W_ih.T, W_hh), r"W_ih must be \(4, 3\) .* got \(3, 4\)"),
        (lambda: rnn_step(x, h, W_ih, W_hh[:3]), r"W_hh must be \(4, 4\) .* got \(3, 4\)"),
        (lambda: rnn_step(x, h, W_ih, W_hh, h[0, :3]), r"b_ih must be \(4,\)"),
        (lambda: rnn_step(x, h, W_ih, W_hh, None, h[0, :3]), r"b_hh must be \(4,\)"),
        (lambda: lstm_step(x, (h, h), W_ih, W_hh), r"W_ih must be \(16, 3\) .* 4 blocks"),
        (lambda: lstm_step(x, (h, h[:1]), W_ih, W_hh), r"but c has shape \(1, 4\)"),
        (lambda: gru_step(x, h, W_ih, W_hh), r"W_ih must be \(12, 3\) .* 3 blocks"),
        (lambda: RNN(0, 4), "sizes must be at least 1, got input width 0"),
        (lambda: RNN(3, 0), "at least 1, got input width 3, state width 0, 1 layers"),
        (lambda: GRU(3, 4, 0), "0 layers"),
        (lambda: GRU(3, 4, 2, dropout=1.0), r"dropout must lie in \[0, 1\), got 1.0"),
        (lambda: RNN(3, 4, nonlinearity="sine"), "choose one of tanh, relu, linear"),
        (lambda: LSTM(3, 4, bias=False, forget_bias=1.0), "needs an LSTM with biases"),
        (lambda: set_forget_bias_(GRU(3, 4), 1.0), "needs an LSTM with biases, got GRU"),
        (lambda: set_forget_bias_(Biased(), 1.0), "needs an LSTM with biases, got Biased"),
        (lambda: GRU(3, 4)(x), r"input needs 3 axes \(B, T, I\), got \(2, 3\)"),
        (lambda: GRU(3, 4, batch_first=False)(x), r"3 axes \(T, B, I\)"),
        (lambda: GRU(3, 4)(x[None].long()), "input must be floating point"),
        (lambda: GRU(5, 4)(x[None]), "reads width 5, got 3"),
        (lambda: GRU(3, 4)(x[:, None][:, :0]), "an empty sequence has no state"),
        (
            lambda: GRU(3, 4)(x[None], h[None]),
            r"state must have shape \(1, 1, 4\), got \(1, 2, 4\)",
        ),
        (
            lambda: LSTM(3, 4, 2)(x[None], h[:, None]),
            r"^the state of an LSTM is a pair of tensors \(h, c\)$",
        ),
        (
            lambda: LSTM(3, 4)(x[None], (h[:1, None],) * 3),
            r"^the state of an LSTM is a pair of tensors \(h, c\)$",
        ),
        (
            lambda: LSTM(3, 4)(x[None], ((h, h), h)),
            r"^the state of an LSTM is a pair of tensors \(h, c\)$",
        ),
        (
            lambda: RNN(3, 4)(x[None], (h, h)),
            "^the state of this layer is one tensor h$",
        ),
        (
            lambda: GRU(3, 4)(x[None], (h, h)),
            "^the state of this layer is one tensor h$",
        ),
        (lambda: GRU(3, 4)(x[None], None, torch.tensor([1.0])), "lengths must be integers"),
        (lambda: GRU(3, 4)(x[None], None, torch.tensor([1, 2])), "1 sequences need lengths"),
        (lambda: GRU(3, 4)(x[None], None, torch.tensor([3])), "in 0 to 2, .* run from 3 to 3"),
    ],
)
def test_recurrence_names_what_does_not_fit(run, message):
    with pytest.raises(ValueError, match=message):
        run()
