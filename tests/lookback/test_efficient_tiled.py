"""Tiled attention against the whole matrix, forward and backward."""

from __future__ import annotations

import pytest
import torch

from attention_cases import DTYPES, MASKS, SHAPES, assert_same, mask_of, tensors
from lookback import masks
from lookback.efficient import reference, tiled
from lookback.measure import operations


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("T", "S"), SHAPES)
def test_tiled_attention_matches_the_reference_for_lengths_that_do_not_fill_a_tile(
    device, dtype, kind, causal, T, S
):
    mask = mask_of(kind, T, S, device=device)

    def ours(q, k, v):
        return tiled.attention(q, k, v, mask, causal=causal, tile=4)

    def exact(q, k, v):
        return reference.attention(q, k, v, mask, causal=causal)

    assert_same(ours, exact, tensors(T, S, device=device, dtype=dtype))


@pytest.mark.parametrize("offset", [-20, -3, 2, 5, 20])
@pytest.mark.parametrize("tile", [1, 3, 256])
def test_tiled_causal_attention_places_its_queries_by_the_offset(offset, tile):
    def ours(q, k, v):
        return tiled.attention(q, k, v, causal=True, offset=offset, tile=tile)

    def exact(q, k, v):
        return reference.attention(q, k, v, causal=True, offset=offset)

    assert_same(ours, exact, tensors(6, 11))


@pytest.mark.parametrize(("offset", "reach"), [(0, 20), (1, 23), (-1, 16), (-8, 0), (8, 32)])
def test_keys_in_the_future_of_a_whole_tile_are_not_computed(offset, reach):
    q, k, v = tensors(8, 8, batch=())
    found = operations(lambda: tiled.attention(q, k, v, causal=True, offset=offset, tile=2))
    # keys that the last query of each of the four tiles may see, 2 + 4 + 6 + 8 without an offset;
    # scores and weighted sums of two queries
    assert found == reach * 2 * 2 * (4 + 5)


def test_tiled_attention_takes_its_scale_and_needs_no_batch():
    def ours(q, k, v):
        return tiled.attention(q, k, v, scale=0.3, tile=2)

    assert_same(
        ours, lambda q, k, v: reference.attention(q, k, v, scale=0.3), tensors(5, 7, batch=())
    )


@pytest.mark.parametrize(("T", "S"), [(0, 3), (3, 0)])
def test_an_empty_sequence_gives_an_empty_or_a_zero_result(T, S):
    q, k, v = tensors(T, S)
    out = tiled.attention(q, k, v)
    assert out.shape == (2, 3, T, 5)
    assert (out == 0).all()


@pytest.mark.parametrize("kind", ["none", "empty rows", "padding"])
def test_tiled_attention_passes_gradcheck(kind):
    mask = mask_of(kind, 3, 5)

    def attend(q, k, v):
        return tiled.attention(q, k, v, mask, causal=True, offset=2, tile=2)

    inputs = [x.clone().requires_grad_() for x in tensors(3, 5, K=2, V=2)]
    assert torch.autograd.gradcheck(attend, inputs)


def test_scores_that_rise_from_tile_to_tile_rescale_what_is_summed_already():
    q = torch.ones(1, 1)
    k = torch.linspace(0, 300, 12)[:, None]
    v = torch.arange(12.0)[:, None]
    torch.testing.assert_close(
        tiled.attention(q, k, v, tile=3), reference.attention(q, k, v), rtol=1e-6, atol=1e-6
    )
    assert tiled.attention(q, -k, v, tile=3).isfinite().all()


def test_each_row_is_held_back_by_its_own_largest_score():
    q, k, v = torch.tensor([[1.0], [1000.0]]), torch.linspace(0, 1, 6)[:, None], torch.randn(6, 2)
    out, total = tiled.forward(q, k, v, None, causal=False, offset=0, scale=1.0, tile=2)
    torch.testing.assert_close(out, reference.attention(q, k, v, scale=1.0))
    torch.testing.assert_close(total, (q @ k.mT).logsumexp(-1))
    m, mass, o = torch.full((2, 1), float("-inf")), torch.zeros(2, 1), torch.zeros(2, 2)
    for s_j, v_j in zip((q @ k.mT).split(2, -1), v.split(2), strict=True):
        m, mass, o = tiled.online_softmax(m, mass, o, s_j, v_j)
    torch.testing.assert_close(o / mass, out)


def test_gradients_are_summed_in_float32_where_the_inputs_are_narrower():
    inputs = [x.bfloat16() for x in tensors(64, 96, batch=())]
    grad = torch.randn(64, 5).bfloat16()
    scale, options = 0.5, {"causal": False, "offset": 0, "scale": 0.5, "tile": 4}
    out, total = tiled.forward(*inputs, None, **options)
    assert out.dtype == total.dtype == torch.float32
    found = tiled.backward(grad, *inputs, total, (grad.float() * out).sum(-1), None, **options)
    exact = [x.double().requires_grad_() for x in inputs]
    reference.attention(*exact, scale=scale).backward(grad.double())
    for g, x in zip(found, exact, strict=True):
        assert g.dtype == torch.float32
        torch.testing.assert_close(g.double(), x.grad, rtol=1e-4, atol=1e-4)


def test_where_all_values_are_alike_no_query_and_no_key_matters():
    q, k = (torch.randn(n, 4, dtype=torch.bfloat16, requires_grad=True) for n in (5, 7))
    v = torch.full((7, 3), 1.0078125, dtype=torch.bfloat16)  # three of them need float32
    tiled.attention(q, k, v, tile=2).sum().backward()
    assert (q.grad == 0).all()
    assert (k.grad == 0).all()


def test_a_first_tile_that_is_wholly_closed_leaves_the_others_alone():
    q, k, v = tensors(4, 9)
    mask = torch.arange(9) >= 5
    torch.testing.assert_close(
        tiled.attention(q, k, v, mask, tile=2), reference.attention(q, k, v, mask)
    )


@pytest.mark.parametrize("kind", ["none", "empty rows", "padding"])
def test_the_plain_step_builds_up_what_the_tiled_pass_returns(kind):
    q, k, v = tensors(5, 7)
    mask = mask_of(kind, 5, 7)
    s = q @ k.mT * q.shape[-1] ** -0.5
    s = s if mask is None else s.masked_fill(~mask, float("-inf"))
    m, mass = (q.new_full((*q.shape[:-1], 1), x) for x in (float("-inf"), 0.0))
    o = q.new_zeros(*q.shape[:-1], v.shape[-1])
    for s_j, v_j in zip(s.split(3, -1), v.split(3, -2), strict=True):
        m, mass, o = tiled.online_softmax(m, mass, o, s_j, v_j)
    torch.testing.assert_close(m, s.amax(-1, keepdim=True))
    out, total = tiled.forward(q, k, v, mask, causal=False, offset=0, scale=q.shape[-1] ** -0.5)
    torch.testing.assert_close(o / mass.masked_fill(mass == 0, 1.0), out)
    torch.testing.assert_close((m + mass.log()).squeeze(-1), total)


def test_the_log_sum_exp_of_each_row_is_returned_with_the_output():
    q, k, v = tensors(5, 7)
    mask = mask_of("empty rows", 5, 7)
    options = {"causal": True, "offset": 1, "scale": 0.5}
    _, total = tiled.forward(q, k, v, mask, **options, tile=3)
    scores = (q @ k.mT * 0.5).masked_fill(~(mask & masks.causal(5, 7, offset=1)), float("-inf"))
    torch.testing.assert_close(total, scores.logsumexp(-1))


def test_nan_in_a_query_shows_in_its_own_row_only():
    q, k, v = tensors(5, 7)
    q[..., 2, :] = float("nan")
    out = tiled.attention(q, k, v, tile=2)
    assert out[..., 2, :].isnan().all()
    assert out[..., [0, 1, 3, 4], :].isfinite().all()


def test_a_second_derivative_is_refused_and_a_first_one_under_create_graph_is_not():
    q, k, v = (x.clone().requires_grad_() for x in tensors(3, 5))
    (grad,) = torch.autograd.grad(
        tiled.attention(q, k, v, tile=2).square().sum(), q, create_graph=True
    )
    (expected,) = torch.autograd.grad(reference.attention(q, k, v).square().sum(), q)
    torch.testing.assert_close(grad, expected)
    with pytest.raises(RuntimeError, match=r"^tiled .* no second derivative: .*\.attention$"):
        grad.sum().backward()


def test_autocast_changes_neither_the_result_nor_its_dtype():
    q, k, v = tensors(5, 7, dtype=torch.float32)
    plain = tiled.attention(q, k, v, tile=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = tiled.attention(q, k, v, tile=2)
    torch.testing.assert_close(cast, plain, rtol=0, atol=0)


def test_what_is_made_follows_the_inputs_and_not_the_default_device():
    inputs = [x.requires_grad_() for x in tensors(5, 7, batch=())]
    with torch.device("meta"):
        out = tiled.attention(*inputs, causal=True, offset=1, tile=2)
        grads = torch.autograd.grad(out.sum(), inputs)
    expected = reference.attention(*inputs, causal=True, offset=1)
    wanted = torch.autograd.grad(expected.sum(), inputs)
    for found, exact in zip((out, *grads), (expected, *wanted), strict=True):
        torch.testing.assert_close(found, exact)


def test_nothing_given_is_changed():
    q, k, v = tensors(5, 7)
    mask = mask_of("random", 5, 7)
    copies = [x.clone() for x in (q, k, v, mask)]
    tiled.attention(q.requires_grad_(), k, v, mask, causal=True, tile=2).sum().backward()
    for x, copy in zip((q, k, v, mask), copies, strict=True):
        assert torch.equal(x, copy)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.randn(2, 4, 7)}, "queries have width 7 but keys have width 8"),
        ({"v": torch.randn(2, 6, 8)}, "there are 5 keys but 6 values"),
        ({"mask": torch.ones(4, 5)}, "a mask must be boolean"),
        ({"mask": torch.ones(4, 6, dtype=torch.bool)}, r"\(4, 6\) does not broadcast"),
        ({"tile": 0}, "a tile needs at least 1 query and key, got 0"),
    ],
)
def test_tiled_attention_names_what_does_not_fit(change, message):
    inputs = {"q": torch.randn(2, 4, 8), "k": torch.randn(2, 5, 8), "v": torch.randn(2, 5, 8)}
    with pytest.raises(ValueError, match=message):
        tiled.attention(**(inputs | change))
