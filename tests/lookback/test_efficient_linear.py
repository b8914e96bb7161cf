"""Linear attention: three forms of one equation, the delta rule, and the scan beneath them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_cases import assert_same, mask_of, tensors
from conftest import tolerance
from lookback import masks
from lookback.efficient import delta_rule, linear, reference
from lookback.efficient.scan import depth, loop, scan
from lookback.measure import operations

SHAPES = [
    (8, 8, 0),
    (7, 7, 0),
    (5, 11, 6),
    (5, 11, 2),
    (9, 4, 0),
    (6, 5, -2),
    (3, 5, -8),
    (2, 3, 9),
]


def quadratic(q, k, v, mask, *, causal, offset, features, decay=None, normalise=True):
    """The equation as it is printed, one weight at a time in a T × S matrix."""
    phi = linear.feature_map(features)
    T, S = q.shape[-2], k.shape[-2]
    weights = phi(q) @ phi(k).mT
    if mask is not None:
        weights = weights * mask
    if causal:
        weights = weights * masks.causal(T, S, offset=offset)
    if decay is not None:
        decay = torch.as_tensor(decay, dtype=q.dtype).expand(*k.shape[:-1])
        for i in range(T):
            for j in range(min(S, i + offset + 1)):
                weights[..., i, j] = weights[..., i, j] * decay[..., j + 1 : i + offset + 1].prod(
                    -1
                )
    total = weights.sum(-1, keepdim=True)
    return weights @ v / torch.where(total == 0, 1, total) if normalise else weights @ v


@pytest.mark.parametrize("form", linear.FORMS)
@pytest.mark.parametrize("kind", ["none", "padding", "keys only", "all closed"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("T", "S", "offset"), SHAPES)
def test_every_form_of_linear_attention_is_its_quadratic_equation(
    device, form, kind, causal, T, S, offset
):
    mask = mask_of(kind, T, S, device=device)
    options = {"causal": causal, "offset": offset, "features": "elu"}

    def ours(q, k, v):
        return linear.attention(q, k, v, mask, **options, form=form, chunk=3)

    def exact(q, k, v):
        return quadratic(q, k, v, mask, **options)

    assert_same(ours, exact, tensors(T, S, device=device))


@pytest.mark.parametrize("features", linear.FEATURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_three_forms_agree_for_every_feature_map_and_dtype(features, dtype):
    inputs = tensors(11, 11, dtype=dtype)
    # signed features may sum to nearly nothing: their weights are not divided by the sum
    options = {"causal": True, "features": features, "normalise": features != "identity"}
    forms = [linear.attention(*inputs, **options, form=f, chunk=4) for f in linear.FORMS]
    exact = quadratic(*(x.double() for x in inputs), None, offset=0, **options)
    for out in forms:
        assert out.dtype == dtype
        scale = exact.abs().max().clamp(min=1)
        torch.testing.assert_close(out.double() / scale, exact / scale, **tolerance(dtype))


@pytest.mark.parametrize("form", linear.FORMS)
@pytest.mark.parametrize("shape", ["number", "head", "token"])
def test_decay_fades_what_was_written_as_its_equation_says(form, shape):
    decay = {
        "number": 0.9,
        "head": torch.tensor([[0.5], [0.9], [1.0]], dtype=torch.float64),
        "token": torch.rand(2, 3, 11, dtype=torch.float64) * 0.5 + 0.5,
    }[shape]
    options = {"causal": True, "features": "elu", "decay": decay}

    def ours(q, k, v):
        return linear.attention(q, k, v, **options, offset=4, form=form, chunk=4)

    def exact(q, k, v):
        return quadratic(q, k, v, None, **options, offset=4)

    assert_same(ours, exact, tensors(7, 11))


def test_a_decay_of_each_token_receives_its_gradient():
    q, k, v = tensors(5, 5, K=2, V=2, batch=(2,))
    decay = (torch.rand(2, 5, dtype=torch.float64) * 0.5 + 0.4).requires_grad_()

    def attend(decay):
        return linear.attention(q, k, v, causal=True, decay=decay, chunk=2)

    assert torch.autograd.gradcheck(attend, (decay,))


@pytest.mark.parametrize("decay", [None, 0.98])
def test_many_chunks_carry_the_state_as_a_step_each_does(device, decay):
    T = 2 * 2 * linear.SPAN + 3  # chunks of 2 in two whole spans, and a piece of a third
    ways = (
        partial(linear.attention, causal=True, decay=decay, chunk=2, form=form)
        for form in ("chunked", "recurrent")
    )
    assert_same(*ways, tensors(T, T, device=device))


def test_a_very_fast_decay_neither_overflows_nor_hides_the_newest_token():
    q, k, v = tensors(64, 64, dtype=torch.float32)
    for form in linear.FORMS:
        out = linear.attention(q, k, v, causal=True, decay=1e-30, form=form, chunk=16)
        torch.testing.assert_close(out, v)


def test_constant_values_come_back_because_the_weights_are_normalised():
    q, k, v = tensors(9, 9)
    v = torch.ones_like(v)
    for form in linear.FORMS:
        out = linear.attention(q, k, v, causal=True, decay=0.7, form=form, chunk=4)
        torch.testing.assert_close(out, v)


def test_a_feature_map_may_be_any_function():
    q, k, v = tensors(5, 7)
    ours = linear.attention(q, k, v, features=lambda x: torch.cat([x.exp(), (-x).exp()], -1))
    weights = 2 * (q[..., :, None, :] + k[..., None, :, :]).cosh().sum(-1)
    torch.testing.assert_close(ours, weights / weights.sum(-1, keepdim=True) @ v)


@pytest.mark.parametrize("form", ["recurrent", "chunked"])
def test_doubling_the_length_doubles_the_operations(form):
    def count(T):
        q, k, v = tensors(T, T, batch=())
        return operations(lambda: linear.attention(q, k, v, causal=True, form=form, chunk=16))

    assert count(256) == 2 * count(128)


def test_linear_attention_stays_within_its_bound_of_softmax_attention():
    q, k, v = tensors(12, 12)
    weights = linear.feature_map("elu")(q) @ linear.feature_map("elu")(k).mT
    weights = weights / weights.sum(-1, keepdim=True)
    distance = (weights - reference.weights(q, k)).abs().sum(-1)
    error = (linear.attention(q, k, v) - reference.attention(q, k, v)).norm(dim=-1)
    assert (error <= distance * v.norm(dim=-1).amax(-1, keepdim=True) + 1e-12).all()
    assert error.max() > 0.1


def delta_loop(q, k, v, beta, *, offset):
    """One sequence, one number at a time: read, compare, write."""
    k = k / k.norm(dim=-1, keepdim=True)
    state = torch.zeros(k.shape[-1], v.shape[-1], dtype=k.dtype)
    states = []
    for k_t, v_t, b in zip(k, v, beta, strict=True):
        state = state + b * torch.outer(k_t, v_t - state.T @ k_t)
        states.append(state)
    nothing = 0 * (v[0] + k.sum() + q.sum())  # zero, with zero gradient
    at = [min(i + offset, len(k) - 1) for i in range(len(q))]
    reads = [states[t].T @ q_t if t >= 0 else nothing for t, q_t in zip(at, q, strict=True)]
    return torch.stack(reads)


@pytest.mark.parametrize("form", delta_rule.FORMS)
@pytest.mark.parametrize(("T", "S", "offset"), SHAPES)
def test_both_forms_of_the_delta_rule_read_compare_and_write_in_turn(device, form, T, S, offset):
    beta = torch.rand(S, dtype=torch.float64, device=device) * 2

    def ours(q, k, v):
        return delta_rule.attention(
            q, k, v, causal=True, offset=offset, beta=beta, form=form, chunk=3
        )

    def exact(q, k, v):
        return delta_loop(q, k, v, beta, offset=offset)

    assert_same(ours, exact, tensors(T, S, batch=(), device=device))


@pytest.mark.parametrize("form", delta_rule.FORMS)
def test_padding_is_not_written_and_without_causal_the_final_memory_is_read(form):
    q, k, v = tensors(4, 9)
    mask = masks.padding(torch.tensor([[9, 6, 1], [3, 5, 0]]), 9)
    out = delta_rule.attention(q, k, v, mask, form=form, chunk=4, beta=0.5, scale=2.0)
    for b, h, n in ((0, 1, 6), (1, 0, 3)):
        one = delta_loop(2 * q[b, h], k[b, h, :n], v[b, h, :n], [0.5] * n, offset=n)
        torch.testing.assert_close(out[b, h], one)
    assert (out[1, 2] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_forms_of_the_delta_rule_agree_in_narrow_dtypes(dtype):
    inputs = tensors(50, 50, K=8, dtype=dtype)
    one, other = (
        delta_rule.attention(*inputs, causal=True, form=f, chunk=16) for f in delta_rule.FORMS
    )
    assert one.dtype == other.dtype == dtype
    torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-4 if dtype == torch.float32 else 0.1)


def test_the_delta_rule_rewrites_where_a_sum_mixes_old_and_new():
    keys = F.normalize(torch.randn(100, 8, 32), dim=-1)
    codes = F.normalize(torch.randn(64, 64), dim=-1)
    old, new = torch.randint(64, (2, 100, 8))
    k, v = torch.cat([keys, keys], 1), torch.cat([codes[old], codes[new]], 1)

    def right(out):
        return ((out @ codes.T).argmax(-1) == new).float().mean()

    rewritten = delta_rule.attention(keys, k, v)
    summed = linear.attention(keys, k, v, features="identity", normalise=False)
    assert right(rewritten) > 0.95
    assert right(summed) < 0.7


def test_keys_at_right_angles_are_recalled_exactly():
    k, v = torch.eye(6), torch.randn(6, 5)
    torch.testing.assert_close(delta_rule.attention(k, k, v), v)


@given(st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_a_scan_gives_every_state_of_the_loop(T, seed):
    draw = torch.Generator().manual_seed(seed)
    b = torch.randn(T, 2, 3, generator=draw, dtype=torch.float64)
    for shape in ((T,), (T, 2), (T, 1, 3), (T, 2, 3)):
        a = torch.randn(shape, generator=draw, dtype=torch.float64)
        torch.testing.assert_close(scan(a, b), loop(a, b))
    torch.testing.assert_close(scan(b[:, 0, 0], b[:, 1, 1]), loop(b[:, 0, 0], b[:, 1, 1]))


@pytest.mark.parametrize(("T", "steps"), [(0, 0), (1, 0), (2, 1), (3, 2), (1024, 10), (1025, 11)])
def test_a_scan_waits_as_often_as_the_length_can_be_halved(T, steps):
    assert depth(T) == steps
    assert scan(torch.ones(T), torch.ones(T)).tolist() == list(range(1, T + 1))


def test_a_scan_passes_gradcheck():
    a, b = (torch.randn(5, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(scan, (a, b))


@pytest.mark.parametrize("attention", [linear.attention, delta_rule.attention])
@pytest.mark.parametrize(("T", "S"), [(0, 3), (3, 0)])
def test_an_empty_sequence_gives_an_empty_or_a_zero_result(attention, T, S):
    out = attention(*tensors(T, S), causal=True)
    assert out.shape == (2, 3, T, 5)
    assert (out == 0).all()


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": "tanh"}, "unknown features 'tanh'; choose one of elu, relu, exp, identity"),
        ({"form": "fast"}, "unknown form 'fast'; choose one of parallel, recurrent, chunked"),
        ({"chunk": 0}, "a chunk needs at least 1 token, got 0"),
        ({"decay": 0.5}, "needs causal=True"),
        ({"decay": 1.5, "causal": True}, r"decay must lie in \(0, 1\], but runs from 1.5 to 1.5"),
        ({"decay": 0.5, "causal": True, "offset": 2}, "known for 5 keys, .* as far as 5"),
        ({"decay": torch.ones(4), "causal": True}, r"decay of shape \(4,\) does not .* \(2, 5\)"),
        ({"decay": torch.ones(5).long(), "causal": True}, "decay must be floating point"),
        ({"mask": torch.ones(4, 5, dtype=torch.bool)}, r"\(4, 5\) tells queries apart"),
        ({"mask": torch.ones(1, 5)}, "a mask must be boolean"),
        ({"q": torch.randn(2, 4, 7)}, "queries have width 7 but keys have width 8"),
    ],
)
def test_linear_attention_names_what_does_not_fit(change, message):
    inputs = {"q": torch.randn(2, 4, 8), "k": torch.randn(2, 5, 8), "v": torch.randn(2, 5, 8)}
    with pytest.raises(ValueError, match=message):
        linear.attention(**(inputs | change))


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "parallel"}, "unknown form 'parallel'; choose one of recurrent, chunked"),
        ({"chunk": -1}, "a chunk needs at least 1 token, got -1"),
        ({"beta": 2.5}, "beta must lie in 0 to 2, but runs from 2.5 to 2.5"),
        ({"beta": torch.ones(3)}, r"beta of shape \(3,\) does not broadcast to \(2, 5\)"),
        ({"beta": torch.ones(5).long()}, "beta must be floating point"),
        ({"mask": torch.ones(2, 4, 5, dtype=torch.bool)}, "tells queries apart"),
        ({"v": torch.randn(2, 6, 8)}, "there are 5 keys but 6 values"),
    ],
)
def test_the_delta_rule_names_what_does_not_fit(change, message):
    inputs = {"q": torch.randn(2, 4, 8), "k": torch.randn(2, 5, 8), "v": torch.randn(2, 5, 8)}
    with pytest.raises(ValueError, match=message):
        delta_rule.attention(**(inputs | change))


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(3), torch.ones(4, 2), r"factors \(3,\) do not broadcast to terms \(4, 2\)"),
        (torch.ones(4, 2, 2), torch.ones(4, 2), "do not broadcast"),
        (torch.ones(4).long(), torch.ones(4), "a must be floating point"),
        (torch.ones(()), torch.ones(4), "a needs a time axis"),
    ],
)
def test_a_scan_names_what_does_not_fit(a, b, message):
    with pytest.raises(ValueError, match=message):
        scan(a, b)
