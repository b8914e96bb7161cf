"""Score biases, kernels by name, grouped heads, normalised queries, rotary hook and cache."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import tolerance
from lookback import masks
from lookback.attention import (
    KERNELS,
    MultiHeadAttention,
    attention_weights,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from lookback.attention.dot_product import shared_sdpa
from lookback.efficient import reference, window
from lookback.efficient.cache import Cache, SlidingCache
from lookback.positions import Rotary, alibi

BIASED = ("reference", "sdpa")


@pytest.mark.parametrize("kernel", BIASED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [True, False])
def test_a_bias_is_added_to_the_scaled_scores(device, kernel, dtype, causal):
    q, k, v = (torch.randn(2, 3, n, 9, device=device, dtype=dtype) for n in (4, 6, 6))
    bias = alibi(3, 4, 6, offset=2, device=device, dtype=dtype)
    mask = masks.padding(torch.tensor([6, 5], device=device), 6)[:, None]
    out = scaled_dot_product_attention(
        q, k, v, mask, causal=causal, offset=2, bias=bias, kernel=kernel
    )
    scores = q.double() @ k.double().mT / 3 + bias.double()
    closed = ~mask | ~masks.causal(4, 6, offset=2, device=device) if causal else ~mask
    expected = scores.masked_fill(closed, float("-inf")).softmax(-1) @ v.double()
    torch.testing.assert_close(out.double(), expected, **tolerance(dtype))


@pytest.mark.parametrize("kernel", BIASED)
@pytest.mark.parametrize("causal", [False, True])
def test_a_bias_needs_no_mask(kernel, causal):
    q, k, v = (torch.randn(2, n, 9) for n in (4, 6, 6))
    bias = torch.randn(4, 6)
    scores = q @ k.mT / 3 + bias
    if causal:
        scores = scores.masked_fill(~masks.causal(4, 6), float("-inf"))
    expected = scores.softmax(-1)
    torch.testing.assert_close(attention_weights(q, k, causal=causal, bias=bias), expected)
    out = scaled_dot_product_attention(q, k, v, causal=causal, bias=bias, kernel=kernel)
    torch.testing.assert_close(out, expected @ v)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize("axes", [0, 1])
def test_a_mask_or_a_bias_of_few_axes_serves_every_query(device, kernel, kv_heads, axes):
    layer = MultiHeadAttention(8, 4, kv_heads=kv_heads, kernel=kernel).to(device)
    x = torch.randn(2, 3, 8, device=device)
    mask = (
        torch.tensor([True, False, True], device=device) if axes else torch.tensor(True).to(device)
    )
    torch.testing.assert_close(layer(x, mask=mask), layer(x, mask=mask.expand(2, 3, 3)))
    if kernel in BIASED:
        bias = torch.randn(3, device=device) if axes else torch.tensor(0.5, device=device)
        for more in ({}, {"mask": mask}):
            expected = layer(x, bias=bias.expand(2, 4, 3, 3), **more)
            torch.testing.assert_close(layer(x, bias=bias, **more), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_mask_and_causality_close_together_what_each_closes(kernel, offset):
    q, k, v = torch.randn(2, 4, 8), torch.randn(2, 7, 8), torch.randn(2, 7, 5)
    mask = torch.rand(2, 4, 7) < 0.7
    both = scaled_dot_product_attention(q, k, v, mask & masks.causal(4, 7, offset=offset))
    out = scaled_dot_product_attention(q, k, v, mask, causal=True, offset=offset, kernel=kernel)
    torch.testing.assert_close(out, both)
    free = scaled_dot_product_attention(q, k, v, masks.causal(4, 7, offset=offset))
    alone = scaled_dot_product_attention(q, k, v, causal=True, offset=offset, kernel=kernel)
    torch.testing.assert_close(alone, free)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "offset": 2}])
@pytest.mark.parametrize("masked", [False, True])
def test_a_scale_of_its_own_takes_the_place_of_the_square_root(kernel, options, masked):
    q, k, v = torch.randn(2, 4, 8), torch.randn(2, 7, 8), torch.randn(2, 7, 5)
    mask = torch.rand(2, 4, 7) < 0.7 if masked else None
    scaled = q * 0.3 * 8**0.5  # what the root of the width takes away again
    expected = scaled_dot_product_attention(scaled, k, v, mask, **options)
    found = scaled_dot_product_attention(q, k, v, mask, scale=0.3, kernel=kernel, **options)
    torch.testing.assert_close(found, expected)
    weights = attention_weights(q, k, mask, scale=0.3, **options)
    torch.testing.assert_close(weights @ v, expected)
    if kernel in BIASED:
        bias = torch.randn(4, 7)
        expected = scaled_dot_product_attention(scaled, k, v, mask, bias=bias, **options)
        options = options | {"bias": bias, "kernel": kernel}
        found = scaled_dot_product_attention(q, k, v, mask, scale=0.3, **options)
        torch.testing.assert_close(found, expected)


def test_a_kernel_is_the_one_that_its_name_says():
    q, k, v = (torch.randn(2, 70, 8).requires_grad_() for _ in range(3))
    fused = scaled_dot_product_attention(q, k, v, kernel="sdpa")
    torch.testing.assert_close(fused, F.scaled_dot_product_attention(q, k, v), rtol=0, atol=0)
    plain = scaled_dot_product_attention(q, k, v, kernel="reference")
    torch.testing.assert_close(plain, reference.attention(q, k, v), rtol=0, atol=0)
    (slope,) = torch.autograd.grad(plain.square().sum(), q, create_graph=True)
    assert torch.autograd.grad(slope.sum(), k)[0].isfinite().all()
    tiles = scaled_dot_product_attention(q, k, v, kernel="tiled")
    (slope,) = torch.autograd.grad(tiles.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="tiled attention has no second derivative"):
        slope.sum().backward()


@pytest.mark.parametrize("reason", [None, "the kernel takes something else"])
def test_the_gpu_kernel_serves_what_it_does_not_refuse_and_tiles_the_rest(monkeypatch, reason):
    asked, served = [], []

    def refusal(*inputs):
        asked.append(inputs)
        return reason

    def attention(q, k, v, mask, **options):
        served.append(options)
        return torch.zeros_like(q)

    monkeypatch.setattr("lookback.efficient.flash_triton.refusal", refusal)
    monkeypatch.setattr("lookback.efficient.flash_triton.attention", attention)
    q, k, v = (torch.randn(2, n, 4) for n in (3, 5, 5))
    mask = torch.rand(3, 5) < 0.7
    out = scaled_dot_product_attention(q, k, v, mask, scale=0.3, kernel="triton")
    assert [x is y for x, y in zip(asked[0], (q, k, v, mask), strict=True)] == [True] * 4
    if reason is None:
        assert (out == 0).all()
        assert served == [{"causal": False, "offset": 0, "scale": 0.3}]
    else:
        assert not served
        torch.testing.assert_close(out, reference.attention(q, k, v, mask, scale=0.3))


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"bias": torch.randn(4, 3, 3)}])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_kernels_read_a_shared_head_as_if_it_were_repeated(options, masked):
    q, k, v = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 3, 8), torch.randn(2, 2, 3, 5)
    mask = masks.padding(torch.tensor([3, 2]), 3)[:, None] if masked else None
    whole = (x.repeat_interleave(2, 1) for x in (k, v))
    expected = scaled_dot_product_attention(q, *whole, mask, **options)
    torch.testing.assert_close(shared_sdpa(q, k, v, mask, **options), expected)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_heads_are_split_and_merged_behind_any_batch_axes(batch):
    x = torch.randn(*batch, 5, 12)
    heads = split_heads(x, 3)
    assert heads.shape == (*batch, 3, 5, 4)
    torch.testing.assert_close(heads[..., 2, :, :], x[..., 8:])
    torch.testing.assert_close(merge_heads(heads), x)


def test_each_sentence_has_its_own_mask_and_all_its_heads_share_it():
    layer = MultiHeadAttention(8, 2)
    x, mask = torch.randn(3, 5, 8), torch.rand(3, 5, 5) < 0.6
    out = layer(x, mask=mask)
    for b in range(3):
        torch.testing.assert_close(out[b : b + 1], layer(x[b : b + 1], mask=mask[b]))


@pytest.mark.parametrize("kernel", BIASED)
def test_a_bias_passes_gradcheck_and_leaves_empty_rows_zero(kernel):
    q, k, v, bias = (
        torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
        for shape in ((3, 4), (5, 4), (5, 4), (3, 5))
    )
    mask = torch.rand(3, 5) < 0.6
    mask[1] = False

    def attend(q, k, v, bias):
        return scaled_dot_product_attention(q, k, v, mask, bias=bias, kernel=kernel)

    assert (attend(q, k, v, bias)[:, 1] == 0).all()
    assert torch.autograd.gradcheck(attend, (q, k, v, bias))


def test_a_function_serves_as_kernel():
    seen = []

    def kernel(q, k, v, mask, *, causal, offset, scale):
        seen.append((causal, offset))
        return reference.attention(q, k, v, mask, causal=causal, offset=offset, scale=scale)

    layer = MultiHeadAttention(8, 2, kernel=kernel)
    x = torch.randn(2, 5, 8)
    out = layer(x, causal=True)
    assert seen == [(True, 0)]
    layer.kernel = "reference"
    torch.testing.assert_close(out, layer(x, causal=True))


def test_a_window_of_its_own_serves_as_kernel_through_partial():
    windowed = MultiHeadAttention(8, 2, kernel=partial(window.attention, width=3))
    x = torch.randn(2, 7, 8)
    plain = MultiHeadAttention(8, 2)
    plain.load_state_dict(windowed.state_dict())
    expected = plain(x, mask=masks.window(7, width=3))
    torch.testing.assert_close(windowed(x, causal=True), expected)


def test_grouped_heads_are_full_heads_whose_keys_and_values_repeat():
    grouped, full = MultiHeadAttention(12, 6, kv_heads=2), MultiHeadAttention(12, 6)

    def repeated(w):  # 2 heads of width 2 -> 6 heads: a a a b b b
        return w.unflatten(0, (2, 2)).repeat_interleave(3, 0).flatten(0, 1)

    nn.init.normal_(grouped.in_proj_bias)
    b_q, b_k, b_v = grouped.in_proj_bias.split([12, 4, 4])
    full.in_proj_weight.data = torch.cat(
        [
            grouped.q_proj_weight,
            repeated(grouped.k_proj_weight),
            repeated(grouped.v_proj_weight),
        ]
    ).data
    full.in_proj_bias.data = torch.cat([b_q, repeated(b_k), repeated(b_v)]).data
    full.out_proj.load_state_dict(grouped.out_proj.state_dict())
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(grouped(x, causal=True), full(x, causal=True))
    torch.testing.assert_close(grouped.weights(x), full.weights(x))
    assert grouped.project(x)[1].shape == (2, 2, 5, 2)


@pytest.mark.parametrize("kernel", BIASED)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_every_head_of_a_layer_adds_its_own_bias_to_its_scores(kernel, kv_heads, causal):
    layer = MultiHeadAttention(8, 4, kv_heads=kv_heads, kernel=kernel).double()
    x, bias = torch.randn(2, 5, 8).double(), torch.randn(4, 5, 5).double()
    mask = masks.padding(torch.tensor([5, 3]), 5)
    open_ = mask[:, None] & masks.causal(5) if causal else mask[:, None]
    q, k, v = layer.project(x)
    k, v = (y.repeat_interleave(4 // kv_heads, 1) for y in (k, v))
    scores = (q @ k.mT / 2**0.5 + bias).masked_fill(~open_, float("-inf"))
    expected = scores.softmax(-1)
    found = layer.weights(x, mask=mask, causal=causal, bias=bias)
    torch.testing.assert_close(found, expected)
    expected = layer.out_proj((expected @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x, mask=mask, causal=causal, bias=bias), expected)


@pytest.mark.parametrize("kernel", BIASED)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_dropout_drops_its_share_of_the_weights_and_nothing_else(kernel, kv_heads, causal):
    layer = MultiHeadAttention(8, 4, kv_heads=kv_heads, dropout=0.3, kernel=kernel)
    x, bias = torch.randn(2, 5, 8), torch.randn(4, 5, 5)
    options = {"mask": masks.padding(torch.tensor([5, 3]), 5), "causal": causal, "bias": bias}
    _, _, v = layer.project(x)
    torch.manual_seed(1)
    dropped = F.dropout(layer.weights(x, **options), 0.3)
    mixed = dropped @ v.repeat_interleave(4 // kv_heads, 1)
    torch.manual_seed(1)
    torch.testing.assert_close(
        layer(x, **options), layer.out_proj(mixed.transpose(1, 2).flatten(2))
    )


def test_fused_kernels_copy_no_shared_head_unless_weights_are_dropped(monkeypatch):
    copied = []

    def repeat(x, H):
        copied.append(H)
        return x.repeat_interleave(H // x.shape[1], 1)

    monkeypatch.setattr("lookback.attention.multihead.repeat_heads", repeat)
    x = torch.randn(2, 5, 8)
    for dropout, kv_heads, kernel, calls in [
        (0.0, 2, "sdpa", 0),  # read as they are
        (0.0, 4, "reference", 0),  # none is shared
        (0.0, 2, "reference", 2),  # keys and values, once a query head
        (0.5, 2, "sdpa", 2),
    ]:
        copied.clear()
        MultiHeadAttention(8, 4, kv_heads=kv_heads, dropout=dropout, kernel=kernel)(x)
        assert copied == [4] * calls


def test_normalised_queries_make_scores_blind_to_the_scale_of_the_input():
    normal, plain = MultiHeadAttention(8, 2, qk_norm=True), MultiHeadAttention(8, 2)
    plain.load_state_dict(normal.state_dict(), strict=False)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(
        normal.weights(100 * x), normal.weights(10 * x), rtol=1e-3, atol=1e-4
    )
    q, k, _ = plain.project(x)
    expected = attention_weights(*(F.normalize(y, dim=-1) * 2 for y in (q, k)))  # RMS 1: norm √4
    torch.testing.assert_close(normal.weights(x), expected, rtol=1e-4, atol=1e-5)


def test_a_query_of_nearly_no_length_is_not_blown_up_to_a_length_of_one():
    normal, plain = MultiHeadAttention(8, 2, qk_norm=True), MultiHeadAttention(8, 2)
    plain.load_state_dict(normal.state_dict(), strict=False)
    x = 1e-3 * torch.randn(2, 5, 8)
    q, k, _ = plain.project(x)
    small = (y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() for y in (q, k))
    torch.testing.assert_close(normal.weights(x), attention_weights(*small))


def test_the_rotary_hook_turns_queries_and_keys_but_not_values_nor_a_source():
    turned, plain = MultiHeadAttention(8, 2, rotary=Rotary(4)), MultiHeadAttention(8, 2)
    plain.load_state_dict(turned.state_dict())
    x = torch.randn(2, 5, 8)
    q, k, v = plain.project(x)
    mixed = reference.attention(Rotary(4)(q), Rotary(4)(k), v)
    expected = plain.out_proj(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(turned(x), expected)
    source = torch.randn(2, 3, 8)
    torch.testing.assert_close(turned(x, source), plain(x, source))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_attention_in_pieces_through_a_cache_equals_attention_at_once(device, kernel, kv_heads):
    layer = MultiHeadAttention(
        8, 4, kv_heads=kv_heads, qk_norm=True, rotary=Rotary(2), kernel=kernel
    ).to(device, torch.float64)
    x = torch.randn(2, 7, 8, device=device, dtype=torch.float64)
    mask = masks.padding(torch.tensor([7, 4], device=device), 7)
    whole = layer(x, mask=mask, causal=True)
    cache, pieces, end = Cache(7), [], 0
    with torch.no_grad():
        for piece in x.split([3, 1, 1, 2], 1):
            end += piece.shape[1]
            pieces.append(layer(piece, mask=mask[..., :end], causal=True, cache=cache))
    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    assert cache.nbytes == 2 * 2 * kv_heads * 7 * 2 * 8  # keys and values are kept once a group


@pytest.mark.parametrize("kernel", BIASED)
def test_a_bias_joins_the_scores_of_each_piece_through_a_cache(kernel):
    layer, cache, end = MultiHeadAttention(8, 2, kernel=kernel), Cache(5), 0
    x, bias = torch.randn(2, 5, 8), torch.randn(5, 5)
    whole, pieces = layer(x, causal=True, bias=bias), []
    with torch.no_grad():
        for piece in x.split([2, 1, 2], 1):
            start, end = end, end + piece.shape[1]
            pieces.append(layer(piece, causal=True, bias=bias[start:end, :end], cache=cache))
    torch.testing.assert_close(torch.cat(pieces, 1), whole)


@pytest.mark.parametrize("causal", [False, True])
def test_a_piece_sees_all_of_itself_in_a_cache_unless_it_is_causal(causal):
    layer = MultiHeadAttention(8, 2)
    x, cache = torch.randn(2, 5, 8), Cache(5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, causal=causal, cache=cache), layer(x, causal=causal))


def test_the_rotary_hook_is_told_the_first_position_of_each_piece():
    told = []

    def turn(x, offset):
        told.append(offset)
        return x

    layer, cache = MultiHeadAttention(8, 2, rotary=turn), Cache(5)
    with torch.no_grad():
        layer(torch.randn(2, 5, 8))
        for length in (3, 2):
            layer(torch.randn(2, length, 8), causal=True, cache=cache)
    assert told == [0, 0, 0, 0, 3, 3]  # queries, then keys


def test_a_sliding_cache_gives_attention_behind_a_window_mask():
    layer = MultiHeadAttention(8, 2, rotary=Rotary(4))
    x = torch.randn(2, 9, 8)
    whole = layer(x, mask=masks.window(9, width=3, sinks=1))
    cache = SlidingCache(3, sinks=1)
    with torch.no_grad():
        pieces = [layer(piece, causal=True, cache=cache) for piece in x.split([4, 1, 1, 3], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("kernel", BIASED)
@pytest.mark.parametrize("store", [Cache, SlidingCache])
@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ({"mask": torch.ones(3, 7, dtype=torch.bool)}, "a mask of shape"),
        ({"mask": torch.ones(3, 6)}, "a mask must be boolean"),
        ({"bias": torch.ones(3, 7)}, "a bias of shape"),
        ({"bias": torch.ones(3, 6).double()}, "the bias is torch.float64"),
    ],
)
def test_a_refused_call_leaves_the_cache_as_it_was(kernel, store, refused, message):
    layer, cache = MultiHeadAttention(8, 2, kernel=kernel), store(9)
    with torch.no_grad():
        layer(torch.randn(2, 3, 8), cache=cache, causal=True)
        with pytest.raises(ValueError, match=message):
            layer(torch.randn(2, 3, 8), cache=cache, causal=True, **refused)
    assert cache.length == 3


@pytest.mark.usefixtures("no_shape_checks")
def test_what_a_layer_cannot_do_with_a_cache_writes_nothing_into_it():
    x, cache = torch.randn(2, 3, 8), SlidingCache(9)
    with torch.no_grad(), pytest.raises(ValueError, match="a sliding cache is causal"):
        MultiHeadAttention(8, 2)(x, cache=cache)
    tiled = MultiHeadAttention(8, 2, kernel="tiled")
    with torch.no_grad(), pytest.raises(ValueError, match="takes no bias"):
        tiled(x, cache=cache, causal=True, bias=torch.zeros(3, 3))
    assert cache.length == 0


@pytest.mark.parametrize("D", [1, 6])
def test_one_head_is_attention_of_the_whole_width(D):
    layer = MultiHeadAttention(D, 1)
    x = torch.randn(2, 5, D)
    q, k, v = (x @ W.mT for W in layer.in_proj_weight.chunk(3))  # biases start at zero
    expected = layer.out_proj(scaled_dot_product_attention(q, k, v))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("source_width", [None, 6])
def test_projected_keys_and_values_stand_for_their_source(source_width, qk_norm):
    layer = MultiHeadAttention(8, 2, source_width=source_width, qk_norm=qk_norm)
    nn.init.normal_(layer.in_proj_bias)
    x, source = torch.randn(2, 3, 8), torch.randn(2, 5, source_width or 8)
    mask = masks.padding(torch.tensor([5, 2]), 5)
    kv = layer.project_source(source)
    torch.testing.assert_close(layer(x, mask=mask, kv=kv), layer(x, source, mask))


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("source_width", [None, 6])
def test_keys_and_values_of_a_source_are_its_projections_head_by_head(source_width, qk_norm):
    layer = MultiHeadAttention(8, 2, source_width=source_width, qk_norm=qk_norm)
    nn.init.normal_(layer.in_proj_bias)
    if source_width is None:
        _, W_k, W_v = layer.in_proj_weight.chunk(3)
    else:
        W_k, W_v = layer.k_proj_weight, layer.v_proj_weight
    _, b_k, b_v = layer.in_proj_bias.chunk(3)
    source = torch.randn(2, 5, source_width or 8)
    wanted = [
        (source @ W.mT + b).unflatten(-1, (2, 4)).transpose(1, 2)
        for W, b in ((W_k, b_k), (W_v, b_v))
    ]
    if qk_norm:
        wanted[0] = F.rms_norm(wanted[0], (4,), eps=1e-6)
    for found, expected in zip(layer.project_source(source), wanted, strict=True):
        torch.testing.assert_close(found, expected)


X = torch.zeros(1, 3, 8)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MultiHeadAttention(8, 0), "width 8 is not divisible by 0 heads"),
        (lambda: MultiHeadAttention(0, 4), "^widths must be at least 1, got 0 and 0$"),
        (lambda: MultiHeadAttention(-4, 4), "^widths must be at least 1, got -4 and -4$"),
        (lambda: MultiHeadAttention(8, 4, source_width=0), "at least 1, got 8 and 0$"),
        (lambda: MultiHeadAttention(8, 4, dropout=1.0), r"\[0, 1\), got 1.0"),
        (lambda: MultiHeadAttention(8, 4, dropout=-0.1), r"\[0, 1\), got -0.1"),
        (lambda: MultiHeadAttention(8, 4, kv_heads=3), "4 heads cannot share 3 heads"),
        (lambda: MultiHeadAttention(8, 4, kv_heads=0), "4 heads cannot share 0 heads"),
        (
            lambda: MultiHeadAttention(8, 2)(X, X, cache=Cache(4)),
            "^give one of source, cache and kv: each says what is asked$",
        ),
        (
            lambda: MultiHeadAttention(8, 2)(X[..., :6], kv=(X, X)),
            "^this layer's input has width 8, got 6$",
        ),
        (
            lambda: MultiHeadAttention(8, 4, kv_heads=2)(X, kv=(torch.zeros(1, 4, 3, 2),) * 2),
            r"^this layer has 2 heads of keys and values, got shape \(1, 4, 3, 2\)$",
        ),
        (
            lambda: MultiHeadAttention(8, 2)(X, kv=(torch.zeros(1, 2, 3, 4), X)),
            r"^this layer has 2 heads of keys and values, got shape \(1, 3, 8\)$",
        ),
        (
            lambda: MultiHeadAttention(8, 2).project_source(X[..., :6]),
            "^this layer's source has width 8, got 6$",
        ),
        (lambda: MultiHeadAttention(8, 2)(X.long()), "input must be floating point"),
        (lambda: MultiHeadAttention(8, 2)(X, X.long()), "source must be floating point"),
        (
            lambda: scaled_dot_product_attention(X, X, X, bias=torch.zeros(3, 4)),
            r"a bias of shape \(3, 4\) does not broadcast to \(1, 3, 3\)",
        ),
        (
            lambda: scaled_dot_product_attention(X, X, X, bias=torch.zeros(2, 3, 3), kernel="sdpa"),
            r"a bias of shape \(2, 3, 3\) does not broadcast",
        ),
        (
            lambda: shared_sdpa(X[None], X[None, ..., :7], X[None]),
            "^queries have width 8 but keys have width 7$",
        ),
        (
            lambda: shared_sdpa(X[None], X[None], X[None, :, :2]),
            "^there are 3 keys but 2 values$",
        ),
        (
            lambda: attention_weights(X, X.double(), bias=torch.zeros(3, 3)),
            "^q is torch.float32 but k is torch.float64",
        ),
        (
            lambda: attention_weights(X, X, bias=torch.zeros(3, 3).double()),
            "the bias is torch.float64 but the queries are torch.float32",
        ),
        (
            lambda: scaled_dot_product_attention(
                X, X, X, bias=torch.zeros(3, 3), kernel=reference.attention
            ),
            "takes no bias on scores; use reference or sdpa",
        ),
    ],
)
def test_what_does_not_fit_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
