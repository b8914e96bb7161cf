"""Heads that share keys and values, or read them from one latent, against heads of their own."""

from __future__ import annotations

import pytest
import torch

from attention_cases import DTYPES, assert_same
from conftest import tolerance
from lookback.efficient import grouped, latent, reference
from lookback.efficient.cache import Cache
from lookback.measure import peak_memory


def heads(H, G, T, S, *, device="cpu", dtype=torch.float64):
    sizes = ((H, T, 4), (G, S, 4), (G, S, 5))
    return [torch.randn(2, *size, device=device, dtype=dtype) for size in sizes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("H", "G"), [(6, 6), (6, 3), (6, 2), (6, 1)])
@pytest.mark.parametrize("kind", ["none", "padding", "one a head", "causal"])
def test_grouped_heads_are_heads_of_their_own_with_keys_repeated(device, dtype, H, G, kind):
    T, S = 5, 7
    mask = {
        "none": None,
        "padding": (torch.arange(S) < torch.tensor([[4], [0]]))[:, None, None],
        "one a head": torch.rand(1, H, T, S) < 0.6,
        "causal": None,
    }[kind]
    mask = None if mask is None else mask.to(device)
    options = {"causal": kind == "causal", "offset": 2}

    def ours(q, k, v):
        return grouped.attention(q, k, v, mask, **options)

    def exact(q, k, v):
        k, v = (x.repeat_interleave(H // G, 1) for x in (k, v))
        return reference.attention(q, k, v, mask, **options)

    assert_same(ours, exact, heads(H, G, T, S, device=device, dtype=dtype))


def test_neighbouring_query_heads_share_and_distant_ones_do_not():
    q, k, v = heads(6, 2, 5, 7)
    out = grouped.attention(q, k, v)
    changed = v.clone()
    changed[:, 1] += 1
    moved = (grouped.attention(q, k, changed) != out).any(-1).any(-1).any(0)
    assert moved.tolist() == [False] * 3 + [True] * 3
    assert torch.equal(grouped.repeat_heads(k, 6)[:, 3], k[:, 1])


def test_sharing_copies_no_keys():
    q = torch.randn(1, 16, 1, 32)
    k, v = torch.randn(2, 1, 1, 512, 32)
    shared = peak_memory(lambda: grouped.attention(q, k, v))
    copied = peak_memory(
        lambda: reference.attention(q, grouped.repeat_heads(k, 16), grouped.repeat_heads(v, 16))
    )
    assert shared < k.nbytes * 4 < copied


def latents(*, T=5, S=7, H=3, device="cpu", dtype=torch.float64):
    sizes = ((2, H, T, 4), (2, S, 6), (H, 4, 6), (H, 5, 6))
    return [torch.randn(size, device=device, dtype=dtype) for size in sizes]


@pytest.mark.parametrize("absorbed", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_latent_heads_are_heads_whose_keys_and_values_are_expanded(device, absorbed, causal, dtype):
    mask = (torch.arange(7, device=device) < 5) & (torch.rand(5, 7, device=device) < 0.7)
    options = {"causal": causal, "offset": 2}

    def ours(q, c, W_k, W_v):
        return latent.attention(q, c, W_k, W_v, mask, **options, absorbed=absorbed)

    def exact(q, c, W_k, W_v):
        k, v = (torch.einsum("bsr,hkr->bhsk", c, W) for W in (W_k, W_v))
        return reference.attention(q, k, v, mask, **options)

    inputs = [x / 2 for x in latents(device=device, dtype=dtype)]
    assert_same(ours, exact, inputs)


def test_a_cache_of_latents_generates_what_expanded_heads_give_at_once():
    q, c, W_k, W_v = latents(T=7)
    store, out = Cache(7), []
    for t in range(7):
        held, _, _ = store.append(c[:, t : t + 1], c[:, t : t + 1, :0])
        out.append(latent.attention(q[:, :, t : t + 1], held, W_k, W_v))
    whole = latent.attention(q, c, W_k, W_v, causal=True, absorbed=False)
    torch.testing.assert_close(torch.cat(out, -2), whole, **tolerance(torch.float64))
    assert store.nbytes == 2 * 7 * 6 * 8  # six numbers a token, not 3 heads × (4 + 5)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: grouped.attention(*heads(6, 4, 3, 3)), "6 query heads cannot share 4 heads"),
        (lambda: grouped.attention(*heads(2, 4, 3, 3)), "2 query heads cannot share 4 heads"),
        (lambda: grouped.attention(*(x[0, 0] for x in heads(2, 2, 3, 3))), "q needs 3 axes"),
        (
            lambda: grouped.attention(*heads(4, 2, 3, 3), torch.ones(3, 4).bool()),
            r"\(3, 4\) does not broadcast to the scores' \(2, 4, 3, 3\)",
        ),
        (lambda: grouped.repeat_heads(torch.ones(3, 4), 2), "x needs 3 axes"),
        (
            lambda: latent.attention(*latents()[:2], torch.ones(3, 4, 5), torch.ones(3, 5, 6)),
            r"W_k must be \(3, 4, 6\) .* got \(3, 4, 5\)",
        ),
        (
            lambda: latent.attention(*latents()[:3], torch.ones(2, 5, 6)),
            r"W_v must be \(3, V, 6\)",
        ),
        (
            lambda: latent.attention(*latents()[:3], torch.ones(3, 5, 6)),
            "q is torch.float64 but W_v is torch.float32",
        ),
        (
            lambda: latent.attention(latents()[0][:1], *latents()[1:]),
            "the batch axes differ",
        ),
        (
            lambda: latent.attention(torch.ones(4, 4), *latents()[1:]),
            "need queries",
        ),
        (lambda: latent.expand(torch.ones(7, 5), torch.ones(3, 4, 6)), "width 5, the matrices 6"),
        (
            lambda: latent.expand(torch.ones(6), torch.ones(3, 4, 6)),
            r"need a latent .* got \(6,\) and \(3, 4, 6\)",
        ),
        (lambda: latent.expand(torch.ones(7, 6), torch.ones(6)), r"got \(7, 6\) and \(6,\)"),
        (
            lambda: latent.expand(torch.ones(7, 6).long(), torch.ones(3, 4, 6).long()),
            "one floating point dtype, got torch.int64 and torch.int64",
        ),
        (
            lambda: latent.expand(torch.ones(7, 6), torch.ones(3, 4, 6).double()),
            "got torch.float32 and torch.float64",
        ),
    ],
)
def test_shared_heads_name_what_does_not_fit(act, message):
    with pytest.raises(ValueError, match=message):
        act()
