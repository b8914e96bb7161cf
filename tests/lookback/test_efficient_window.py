"""Window attention against the whole matrix under the window's mask."""

from __future__ import annotations

import pytest
import torch

from attention_cases import DTYPES, MASKS, SHAPES, assert_same, mask_of, tensors
from lookback import masks
from lookback.efficient import reference, window
from lookback.measure import operations


def both(mask, near):
    return near if mask is None else mask & near


def dilated(T, S, *, width, dilation, causal, offset=0):
    """The mask of a dilated window, written out."""
    distance = torch.arange(T)[:, None] + offset - torch.arange(S)
    near = (distance % dilation == 0) & (distance.abs() < width * dilation)
    return near & (distance >= 0) if causal else near


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("T", "S"), SHAPES)
def test_window_attention_matches_the_reference_under_the_windows_mask(
    device, dtype, kind, causal, T, S
):
    mask = mask_of(kind, T, S, device=device)
    near = masks.window(T, S, width=3, sinks=2, causal=causal, device=device)

    def ours(q, k, v):
        return window.attention(q, k, v, mask, causal=causal, width=3, sinks=2, block=4)

    def exact(q, k, v):
        return reference.attention(q, k, v, both(mask, near))

    assert_same(ours, exact, tensors(T, S, device=device, dtype=dtype))


@pytest.mark.parametrize(("width", "sinks", "block"), [(1, 0, 1), (1, 0, 4), (2, 4, 3), (30, 0, 4)])
@pytest.mark.parametrize("offset", [-9, -2, 0, 3, 7, 30])
@pytest.mark.parametrize("causal", [False, True])
def test_widths_sinks_and_offsets_mean_what_they_mean_in_the_mask(
    width, sinks, block, offset, causal
):
    options = {"width": width, "sinks": sinks, "causal": causal, "offset": offset}
    near = masks.window(7, 13, **options)

    def ours(q, k, v):
        return window.attention(q, k, v, **options, scale=0.4, block=block)

    def exact(q, k, v):
        return reference.attention(q, k, v, near, scale=0.4)

    assert_same(ours, exact, tensors(7, 13))


@pytest.mark.parametrize("dilation", [2, 3, 5])
@pytest.mark.parametrize("offset", [-4, 0, 5])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["none", "padding", "keys only"])
def test_a_dilated_window_sees_every_other_key_further_away(dilation, offset, causal, kind):
    mask = mask_of(kind, 7, 12)
    options = {"width": 2, "dilation": dilation, "causal": causal, "offset": offset}

    def ours(q, k, v):
        return window.attention(q, k, v, mask, **options, block=2)

    def exact(q, k, v):
        return reference.attention(q, k, v, both(mask, dilated(7, 12, **options)))

    assert_same(ours, exact, tensors(7, 12))


def test_a_key_at_distance_width_is_out_and_one_at_distance_width_minus_one_is_in():
    q, k, v = tensors(20, 20)
    out = window.attention(q, k, v, causal=True, width=4)
    changed = v.clone()
    changed[..., 10, :] += 1
    moved = (window.attention(q, k, changed, causal=True, width=4) != out).flatten(0, 1)
    assert moved.any(0).any(-1).nonzero().flatten().tolist() == [10, 11, 12, 13]


def test_window_attention_passes_gradcheck():
    def attend(q, k, v):
        return window.attention(q, k, v, causal=True, width=2, sinks=1, block=2)

    inputs = [x.clone().requires_grad_() for x in tensors(5, 5, K=2, V=2, batch=(1,))]
    assert torch.autograd.gradcheck(attend, inputs)


def test_doubling_the_length_doubles_the_operations_of_a_window():
    def count(T):
        q, k, v = tensors(T, T, batch=(3,))
        return operations(lambda: window.attention(q, k, v, causal=True, width=32, sinks=4))

    # scores and weighted sum, 4 + 5 wide, of a block of 64, the block behind it and 4 sinks; the
    # first block has none behind, and the second has its sinks there
    assert count(512) == 2 * 64 * (8 * (64 + 64 + 4) - 64 - 2 * 4) * (4 + 5) * 3
    assert count(1024) - count(512) == 2 * 512 * (64 + 64 + 4) * (4 + 5) * 3


@pytest.mark.parametrize("causal", [False, True])
def test_the_output_moves_by_at_most_twice_the_weight_that_falls_outside(causal):
    q, k, v = tensors(40, 40, K=8)
    near = masks.window(40, width=6, sinks=1, causal=causal)
    full = reference.weights(q, k, causal=causal)
    outside = (full * ~near).sum(-1)
    out = window.attention(q, k, v, causal=causal, width=6, sinks=1)
    error = (out - full @ v).norm(dim=-1)
    bound = 2 * outside * v.norm(dim=-1).amax(-1, keepdim=True)
    assert (error <= bound + 1e-12).all()
    assert error.max() > 0.1  # it is an approximation: the bound is at work


@pytest.mark.parametrize(("T", "S"), [(0, 3), (3, 0)])
def test_an_empty_sequence_gives_an_empty_or_a_zero_result(T, S):
    out = window.attention(*tensors(T, S), width=2)
    assert out.shape == (2, 3, T, 5)
    assert (out == 0).all()


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "need width ≥ 1 and dilation ≥ 1, got 0 and 1"),
        ({"dilation": 0}, "got 2 and 0"),
        ({"sinks": -1}, "sinks cannot be negative, got -1"),
        ({"block": 0}, "a block needs at least 1 query, got 0"),
        ({"dilation": 2, "sinks": 1}, "dilation 2 takes no sinks, got 1"),
        ({"dilation": 2, "mask": torch.ones(4, 5, dtype=torch.bool)}, r"one row .* \(4, 5\)"),
        ({"mask": torch.ones(4, 6, dtype=torch.bool)}, r"\(4, 6\) does not broadcast"),
        ({"q": torch.randn(2, 4, 7)}, "queries have width 7 but keys have width 8"),
    ],
)
def test_window_attention_names_what_does_not_fit(change, message):
    inputs = {"q": torch.randn(2, 4, 8), "k": torch.randn(2, 5, 8), "v": torch.randn(2, 5, 8)}
    with pytest.raises(ValueError, match=message):
        window.attention(**({"width": 2} | inputs | change))
