"""Multi-head and scaled dot-product attention against torch's own, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
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

DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def some_mask(kind: str, B: int, T: int, S: int, device) -> torch.Tensor | None:
    """One mask of each kind; ``empty`` closes every key to the second query."""
    if kind == "none":
        return None
    if kind == "causal":
        return masks.causal(T, S, offset=S - T, device=device)
    if kind == "padding":
        return masks.padding(torch.arange(S - B + 1, S + 1, device=device), S)
    if kind == "window":
        return masks.window(T, S, width=3, sinks=1, causal=False, device=device)
    mask = torch.rand(B, T, S, device=device) < 0.7
    mask[:, 1] = False
    return mask


@pytest.mark.parametrize("kind", ["none", "causal", "padding", "window", "empty"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("T", "S"), [(7, 7), (5, 9), (1, 4)])
def test_attention_matches_torch_forward_and_backward(device, kernel, dtype, kind, T, S):
    if kind == "empty" and T == 1:
        T = 2
    q, k, v = (torch.randn(3, n, 8, device=device, dtype=dtype) for n in (T, S, S))
    mask = some_mask(kind, 3, T, S, device)
    ours = [x.clone().requires_grad_() for x in (q, k, v)]
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    upstream = torch.randn(3, T, 8, device=device, dtype=dtype)

    out = scaled_dot_product_attention(*ours, mask, kernel=kernel)
    expected = F.scaled_dot_product_attention(*exact, mask)
    out.backward(upstream)
    expected.backward(upstream.double())

    torch.testing.assert_close(out.double(), expected, **tolerance(dtype))
    for mine, theirs in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.grad.double(), theirs.grad, **tolerance(dtype))


def test_a_query_with_nothing_to_attend_to_returns_zeros_and_sends_no_gradient(device):
    q, k, v = (torch.randn(2, 4, 8, device=device, requires_grad=True) for _ in range(3))
    mask = torch.ones(4, 4, dtype=torch.bool, device=device)
    mask[2] = False
    for kernel in KERNELS:
        out = scaled_dot_product_attention(q, k, v, mask, kernel=kernel)
        assert (out[:, 2] == 0).all()
        grads = torch.autograd.grad(out[:, 2].sum(), (q, k, v))
        assert all((g == 0).all() for g in grads)
    assert (attention_weights(q, k, mask)[:, 2] == 0).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("offset", [0, 3])
def test_causal_attention_with_an_offset_equals_its_mask(kernel, offset):
    q, k, v = torch.randn(2, 4, 8), torch.randn(2, 7, 8), torch.randn(2, 7, 5)
    masked = scaled_dot_product_attention(q, k, v, masks.causal(4, 7, offset=offset))
    flagged = scaled_dot_product_attention(q, k, v, causal=True, offset=offset, kernel=kernel)
    torch.testing.assert_close(flagged, masked)


@pytest.mark.parametrize("kernel", KERNELS)
def test_attention_passes_gradcheck(kernel):
    q, k, v = (torch.randn(2, n, 4, dtype=torch.float64, requires_grad=True) for n in (3, 5, 5))
    mask = some_mask("empty", 2, 3, 5, "cpu")

    def attend(q, k, v):
        return scaled_dot_product_attention(q, k, v, mask, kernel=kernel)

    assert torch.autograd.gradcheck(attend, (q, k, v))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_every_row_of_weights_sums_to_one_or_is_empty(T, S, seed):
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(n, 4, generator=generator) for n in (T, S))
    mask = torch.rand(T, S, generator=generator) < 0.5
    weights = attention_weights(q, k, mask)
    torch.testing.assert_close(weights.sum(-1), mask.any(-1).float())
    assert (weights[~mask] == 0).all()


def test_scores_far_beyond_float_range_of_exp_stay_exact():
    q = torch.full((1, 2, 4), 100.0)
    k, v = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    shifted = attention_weights(q, k + 50.0)
    torch.testing.assert_close(shifted, attention_weights(q, k), rtol=1e-2, atol=1e-3)
    assert shifted.isfinite().all()
    assert scaled_dot_product_attention(q, k, v).isfinite().all()


def test_nan_in_a_query_shows_in_its_own_row_only():
    q, k, v = torch.randn(1, 3, 4), torch.randn(1, 5, 4), torch.randn(1, 5, 4)
    q[0, 1] = float("nan")
    out = scaled_dot_product_attention(q, k, v, torch.ones(3, 5, dtype=torch.bool))
    assert out[0, 1].isnan().all()
    assert out[0, [0, 2]].isfinite().all()


def test_merging_undoes_splitting_and_each_head_holds_neighbouring_features():
    x = torch.randn(2, 5, 12)
    heads = split_heads(x, 3)
    assert heads.shape == (2, 3, 5, 4)
    torch.testing.assert_close(heads[:, 1], x[:, :, 4:8])
    torch.testing.assert_close(merge_heads(heads), x)


def twins(D: int, H: int, bias: bool, source_width: int | None, dtype, device):
    theirs = nn.MultiheadAttention(
        D, H, bias=bias, kdim=source_width, vdim=source_width, batch_first=True
    ).to(device, dtype)
    ours = MultiHeadAttention(D, H, bias=bias, source_width=source_width).to(device, dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("source_width", [None, 6])
@pytest.mark.parametrize("kind", ["none", "causal", "padding", "window"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_multi_head_attention_equals_its_torch_twin(
    device, dtype, bias, source_width, kind, kernel
):
    ours, theirs = twins(8, 2, bias, source_width, dtype, device)
    ours.kernel = kernel
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 5, 8, device=device, dtype=dtype, requires_grad=True)
    source = torch.randn(3, 7, source_width or 8, device=device, dtype=dtype)
    mask = some_mask(kind, 3, 5, 7, device)
    their_mask = None if mask is None else ~mask.expand(3, 5, 7).repeat_interleave(2, 0)

    mine = ours(x, source, mask)
    expected, expected_weights = theirs(
        x, source, source, attn_mask=their_mask, average_attn_weights=False
    )
    torch.testing.assert_close(mine, expected, **tolerance(dtype))
    torch.testing.assert_close(ours.weights(x, source, mask), expected_weights, **tolerance(dtype))

    grads = torch.autograd.grad(mine.square().sum(), [x, *ours.parameters()])
    wanted = torch.autograd.grad(expected.square().sum(), [x, *theirs.parameters()])
    for (name, _), g, w in zip([("x", x), *ours.named_parameters()], grads, wanted, strict=True):
        torch.testing.assert_close(g, w, **tolerance(dtype), msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, 2e-2), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", ["none", "causal", "padding", "window", "empty"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_multi_head_attention_at_low_precision_stays_near_its_twin_in_float64(
    device, kernel, kind, dtype, share
):
    ours = MultiHeadAttention(16, 4, kernel=kernel).to(device, dtype)
    exact = nn.MultiheadAttention(16, 4, batch_first=True).to(device, torch.float64)
    exact.load_state_dict(ours.state_dict())
    x = torch.randn(3, 5, 16, device=device, dtype=dtype, requires_grad=True)
    source = torch.randn(3, 7, 16, device=device, dtype=dtype)
    mask = some_mask(kind, 3, 5, 7, device)
    their_mask = None if mask is None else ~mask.expand(3, 5, 7).repeat_interleave(4, 0)
    wide = x.detach().double().requires_grad_()

    mine = ours(x, source, mask)
    memory = source.double()
    expected, _ = exact(wide, memory, memory, attn_mask=their_mask, need_weights=False)
    grads = torch.autograd.grad(mine.double().square().sum(), [x, *ours.parameters()])
    wanted = torch.autograd.grad(expected.square().sum(), [wide, *exact.parameters()])
    for got, want in zip([mine, *grads], [expected, *wanted], strict=True):
        assert (got.double() - want).norm() <= share * (want.norm() + 1e-3)


@pytest.mark.parametrize("source_width", [None, 6])
def test_one_seed_gives_a_layer_and_its_twin_the_same_start(source_width):
    torch.manual_seed(7)
    ours = MultiHeadAttention(8, 2, source_width=source_width)
    torch.manual_seed(7)
    theirs = nn.MultiheadAttention(8, 2, kdim=source_width, vdim=source_width)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, p in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], p, rtol=0, atol=0)


def test_self_attention_is_cross_attention_with_oneself():
    layer = MultiHeadAttention(8, 4)
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(layer(x), layer(x, x.clone()))
    torch.testing.assert_close(layer(x), layer(x, x))


def test_an_empty_row_of_multi_head_attention_is_the_output_bias():
    layer = MultiHeadAttention(8, 2)
    nn.init.normal_(layer.out_proj.bias)
    mask = masks.padding(torch.tensor([4, 0]), 4)
    out = layer(torch.randn(2, 4, 8), mask=mask)
    torch.testing.assert_close(out[1], layer.out_proj.bias.expand(4, 8))


def test_dropout_acts_in_training_only():
    layer = MultiHeadAttention(8, 2, dropout=0.5)
    x = torch.randn(2, 6, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    torch.testing.assert_close(layer(x), layer(x))


def test_bidirectional_attention_is_permutation_equivariant_and_causal_is_not():
    layer = MultiHeadAttention(8, 2)
    x, order = torch.randn(1, 6, 8), torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(x)[:, order], layer(x[:, order]))
    causal = layer(x, causal=True)[:, order]
    assert (causal - layer(x[:, order], causal=True)).abs().max() > 1e-3


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MultiHeadAttention(65, 4), "width 65 is not divisible by 4 heads"),
        (lambda: MultiHeadAttention(8, 2, kernel="fast"), "unknown kernel 'fast'"),
        (lambda: MultiHeadAttention(8, 2, dropout=1.5), r"dropout must lie in \[0, 1\), got 1.5"),
        (lambda: MultiHeadAttention(8, 2)(torch.randn(1, 3, 6)), "input has width 8, got 6"),
        (
            lambda: MultiHeadAttention(8, 2)(torch.randn(3, 8)),
            r"need 3 axes \(B, T, D\), got \(3, 8\)",
        ),
        (
            lambda: MultiHeadAttention(8, 2, source_width=6)(torch.randn(1, 3, 8)),
            "source has width 6, got 8",
        ),
        (lambda: split_heads(torch.randn(2, 3, 10), 4), "width 10 is not divisible by 4 heads"),
        (lambda: split_heads(torch.randn(8), 2), r"need 2 axes \(T, D\) or more, got \(8,\)"),
        (lambda: merge_heads(torch.randn(3, 4)), r"need 3 axes \(H, T, K\) or more, got \(3, 4\)"),
    ],
)
def test_multi_head_attention_names_what_does_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.randn(2, 4, 7)}, "queries have width 7 but keys have width 8"),
        ({"k": torch.randn(2, 6, 8)}, "there are 6 keys but 5 values"),
        ({"v": torch.randn(3, 5, 8)}, "the batch axes differ"),
        ({"q": torch.randn(8)}, "needs at least 2 axes"),
        ({"q": torch.ones(2, 4, 8, dtype=torch.int64)}, "q must be floating point"),
        ({"k": torch.randn(2, 5, 8).double()}, "q is torch.float32 but k is torch.float64"),
        ({"mask": torch.ones(4, 5)}, "a mask must be boolean"),
        ({"mask": torch.ones(4, 6, dtype=torch.bool)}, "does not broadcast"),
        ({"mask": torch.ones(3, 1, 4, 5, dtype=torch.bool)}, "does not broadcast"),
    ],
)
def test_attention_names_the_inputs_that_do_not_fit(kernel, change, message, biased):
    inputs = {
        "q": torch.randn(2, 4, 8),
        "k": torch.randn(2, 5, 8),
        "v": torch.randn(2, 5, 8),
        "mask": None,
        "bias": torch.zeros(4, 5) if biased and kernel in ("reference", "sdpa") else None,
    }
    with pytest.raises(ValueError, match=message):
        scaled_dot_product_attention(**(inputs | change), kernel=kernel)


def test_an_unknown_kernel_is_named_with_the_known_ones():
    x = torch.randn(1, 2, 4)
    with pytest.raises(ValueError, match=r"unknown kernel 'warp'; .* reference, sdpa, tiled"):
        scaled_dot_product_attention(x, x, x, kernel="warp")
