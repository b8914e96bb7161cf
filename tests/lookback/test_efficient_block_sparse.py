"""Block-sparse attention against the whole matrix under its layout spread out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_cases import DTYPES, MASKS, SHAPES, assert_same, mask_of, tensors
from lookback.efficient import block_sparse, reference
from lookback.efficient.block_sparse import big_bird
from lookback.measure import operations


def both(mask, near):
    return near if mask is None else mask & near


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("T", "S"), SHAPES)
def test_block_sparse_attention_matches_the_reference_under_its_layout(
    device, dtype, kind, causal, T, S
):
    mask = mask_of(kind, T, S, device=device)
    layout = big_bird(T, S, block=2, random_blocks=1, seed=3, device=device)
    near = block_sparse.spread(layout, T, S, block=2)
    options = {"causal": causal, "offset": S - T}

    def ours(q, k, v):
        return block_sparse.attention(q, k, v, mask, **options, layout=layout, block=2)

    def exact(q, k, v):
        return reference.attention(q, k, v, both(mask, near), **options)

    assert_same(ours, exact, tensors(T, S, device=device, dtype=dtype))


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_any_layout_means_its_mask(T, S, block, seed):
    draw = torch.Generator().manual_seed(seed)
    layout = torch.rand(-(-T // block), -(-S // block), generator=draw) < 0.5
    q, k, v = tensors(T, S, batch=(2,))
    out = block_sparse.attention(q, k, v, scale=0.7, layout=layout, block=block)
    near = block_sparse.spread(layout, T, S, block=block)
    torch.testing.assert_close(out, reference.attention(q, k, v, near, scale=0.7))


def test_big_bird_opens_the_window_the_global_blocks_and_as_many_random_ones_as_asked():
    plain = big_bird(60, block=5, window=3, global_blocks=2, random_blocks=0)
    row, column = torch.arange(12)[:, None], torch.arange(12)
    expected = ((row - column).abs() <= 1) | (row < 2) | (column < 2)
    assert torch.equal(plain, expected)
    drawn = big_bird(60, block=5, window=3, global_blocks=2, random_blocks=3, seed=1)
    assert drawn[plain].all()
    assert (drawn & ~plain).sum(-1).tolist() == [0, 0] + [3] * 10


def test_a_layout_is_drawn_by_its_seed_alone():
    assert torch.equal(big_bird(900, seed=4, block=30), big_bird(900, seed=4, block=30))
    assert not torch.equal(big_bird(900, seed=4, block=30), big_bird(900, seed=5, block=30))
    before = torch.get_rng_state()
    big_bird(900)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_blocks_beyond_those_there_are_open_everything():
    assert big_bird(10, 6, block=2, window=0, global_blocks=0, random_blocks=9).all()
    assert not big_bird(10, 6, block=2, window=0, global_blocks=0, random_blocks=0).any()


def test_doubling_the_length_little_more_than_doubles_the_operations():
    def count(T):
        layout = big_bird(T, block=16, random_blocks=2)
        q, k, v = tensors(T, T, batch=())
        found = operations(lambda: block_sparse.attention(q, k, v, layout=layout, block=16))
        assert found == 2 * int(layout.sum()) * 16 * 16 * (4 + 5)
        return found

    # the one global block of queries sees twice as many keys as well: linear all the same
    assert 1.9 < count(1024) / count(512) < 2.1


def test_block_sparse_attention_passes_gradcheck():
    layout = big_bird(5, block=2, window=1, global_blocks=0)

    def attend(q, k, v):
        return block_sparse.attention(q, k, v, causal=True, layout=layout, block=2)

    inputs = [x.clone().requires_grad_() for x in tensors(5, 5, K=2, V=2, batch=(1,))]
    assert torch.autograd.gradcheck(attend, inputs)


def test_the_output_moves_by_at_most_twice_the_weight_of_the_closed_blocks():
    q, k, v = tensors(40, 40, K=8)
    layout = big_bird(40, block=4, global_blocks=1, random_blocks=1)
    full = reference.weights(q, k)
    outside = (full * ~block_sparse.spread(layout, 40, block=4)).sum(-1)
    error = (block_sparse.attention(q, k, v, layout=layout, block=4) - full @ v).norm(dim=-1)
    bound = 2 * outside * v.norm(dim=-1).amax(-1, keepdim=True)
    assert (error <= bound + 1e-12).all()
    assert error.max() > 0.1  # it is an approximation: the bound is at work


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: big_bird(-1), "T = -1"),
        (lambda: big_bird(4, block=0), "block = 0"),
        (lambda: big_bird(4, random_blocks=-2), "random_blocks = -2"),
        (lambda: big_bird(4, window=2), "its width is odd, got 2"),
        (lambda: attend(torch.ones(2, 2, dtype=torch.bool)), r"shape \(2, 3\), got \(2, 2\)"),
        (lambda: attend(torch.ones(2, 3)), "a layout must be boolean"),
        (lambda: attend(torch.ones(2, 3, dtype=torch.bool), block=0), "at least 1 token, got 0"),
        (
            lambda: attend(torch.ones(2, 3, dtype=torch.bool), mask=torch.ones(3, 5)),
            "a mask must be boolean",
        ),
        (
            lambda: block_sparse.spread(torch.ones(2, 3, dtype=torch.bool), 3, 7, block=2),
            r"shape \(2, 4\), got \(2, 3\)",
        ),
    ],
)
def test_block_sparse_attention_names_what_does_not_fit(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def attend(layout, *, mask=None, block=2):
    q, k, v = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5, 4)
    return block_sparse.attention(q, k, v, mask, layout=layout, block=block)
