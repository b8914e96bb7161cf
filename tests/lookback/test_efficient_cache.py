"""Attention fed token by token through a cache against attention to the whole sequence."""

from __future__ import annotations

import pytest
import torch

from conftest import tolerance
from lookback import masks
from lookback.efficient import cache, reference
from lookback.efficient.cache import Cache, SlidingCache

PIECES = [[1] * 11, [11], [4, 1, 1, 3, 2], [1, 10], [7, 1, 1, 1, 1]]


def in_pieces(q, k, v, store, pieces):
    """The outputs of one cached sequence, fed in pieces of the given lengths."""
    out, start = [], 0
    for T in pieces:
        rows = slice(start, start + T)
        out.append(cache.attention(q[..., rows, :], k[..., rows, :], v[..., rows, :], cache=store))
        start += T
    return torch.cat(out, -2)


def some_tokens(T=11, device="cpu", dtype=torch.float64, batch=(2, 3)):
    return tuple(torch.randn(*batch, T, n, device=device, dtype=dtype) for n in (4, 4, 5))


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_sequence_fed_in_pieces_gives_what_causal_attention_gives_at_once(device, dtype, pieces):
    q, k, v = some_tokens(device=device, dtype=dtype)
    cached = in_pieces(q, k, v, Cache(11), pieces)
    whole = reference.attention(q, k, v, causal=True)
    torch.testing.assert_close(cached, whole, **tolerance(dtype))


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize(("width", "sinks"), [(1, 0), (3, 0), (3, 2), (2, 5), (11, 0), (20, 3)])
def test_a_sliding_cache_gives_what_a_window_with_sinks_gives(device, width, sinks, pieces):
    q, k, v = some_tokens(device=device)
    cached = in_pieces(q, k, v, SlidingCache(width, sinks=sinks), pieces)
    mask = masks.window(11, width=width, sinks=sinks, device=device)
    torch.testing.assert_close(cached, reference.attention(q, k, v, mask))


def test_a_sliding_cache_does_not_grow_and_a_full_one_is_set_aside_at_once():
    sliding, full = SlidingCache(3, sinks=2), Cache(100)
    sizes = []
    for _ in range(20):
        q, k, v = some_tokens(T=1, dtype=torch.float32)
        cache.attention(q, k, v, cache=sliding)
        cache.attention(q, k, v, cache=full)
        sizes.append((sliding.nbytes, full.nbytes))
    token = 2 * 3 * (4 + 5) * 4  # batch 2 × 3, widths 4 and 5, four bytes
    assert set(sizes) == {(5 * token, 100 * token)}
    assert (sliding.length, full.length) == (20, 20)


@pytest.mark.parametrize("store", [Cache(20), SlidingCache(4, sinks=1)])
def test_rejected_tokens_leave_no_trace_once_cropped(store):
    q, k, v = some_tokens(T=9)
    guesses = some_tokens(T=9)
    in_pieces(*(x[..., :6, :] for x in (q, k, v)), store, [1] * 6)
    in_pieces(*(x[..., :1, :] for x in guesses), store, [1])
    store.crop(6)
    out = in_pieces(*(x[..., 6:, :] for x in (q, k, v)), store, [2, 1])
    width = 4 if isinstance(store, SlidingCache) else 9
    mask = masks.window(9, width=width, sinks=1)
    torch.testing.assert_close(out, reference.attention(q, k, v, mask)[..., 6:, :])


def test_a_reordered_cache_goes_on_from_the_chosen_rows():
    q, k, v = some_tokens()
    index = torch.tensor([1, 1])
    for store, width in ((Cache(11), 11), (SlidingCache(3), 3)):
        in_pieces(*(x[..., :8, :] for x in (q, k, v)), store, [8])
        store.reorder(index)
        chosen = [torch.cat([x[index, :, :8], x[:, :, 8:]], -2) for x in (q, k, v)]
        out = in_pieces(*(x[..., 8:, :] for x in chosen), store, [1, 2])
        whole = reference.attention(*chosen, masks.window(11, width=width))
        torch.testing.assert_close(out, whole[..., 8:, :])


def test_a_padding_mask_closes_cached_keys():
    q, k, v = some_tokens()
    mask = masks.padding(torch.tensor([[11], [7]]), 11)
    store = Cache(11)
    in_pieces(*(x[..., :10, :] for x in (q, k, v)), store, [10])
    out = cache.attention(*(x[..., 10:, :] for x in (q, k, v)), mask, cache=store)
    whole = reference.attention(q, k, v, mask, causal=True)
    torch.testing.assert_close(out, whole[..., 10:, :])


def test_what_a_full_cache_returned_earlier_is_not_changed_by_later_tokens():
    _, k, v = some_tokens()
    store = Cache(11)
    early, _, positions = store.append(k[..., :4, :], v[..., :4, :])
    store.append(k[..., 4:, :], v[..., 4:, :])
    torch.testing.assert_close(early, k[..., :4, :])
    assert positions.tolist() == [0, 1, 2, 3]


def filled(store, T=6):
    in_pieces(*some_tokens(T=T), store, [1] * T)
    return store


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Cache(0), "room for at least 1 token, got 0"),
        (lambda: SlidingCache(0), "need width ≥ 1 and sinks ≥ 0, got 0 and 0"),
        (lambda: SlidingCache(3, sinks=-1), "got 3 and -1"),
        (lambda: filled(Cache(5)), "room for 5 tokens: 5 are held, 1 more"),
        (lambda: filled(Cache(6)).crop(7), "cannot go back to 7 tokens: 6 are held"),
        (lambda: filled(Cache(6)).crop(-1), "cannot go back to -1 tokens"),
        (
            lambda: filled(SlidingCache(3)).crop(4),
            "from 6 to 4 tokens: the window would start at position 2, but all before position 3",
        ),
        (
            lambda: filled(Cache(9)).append(torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 5)),
            "holds keys in torch.float64 on cpu, got torch.float32",
        ),
        (
            lambda: filled(Cache(9)).append(*(x[:1] for x in some_tokens()[1:])),
            r"holds keys of shape \(2, 3, …, 4\), got \(1, 3, …, 4\)",
        ),
        (
            lambda: Cache(9).append(*(x.requires_grad_() for x in some_tokens(3)[1:])),
            "a cache keeps no gradient",
        ),
        (lambda: Cache(9).append(*some_tokens(0)[1:]), "no token to append"),
        (
            lambda: cache.attention(*some_tokens(2), cache=SlidingCache(3), causal=False),
            "a sliding cache is causal",
        ),
        (
            lambda: cache.attention(some_tokens(3)[0], *some_tokens(2)[1:], cache=Cache(3)),
            "3 new queries but 2 new keys",
        ),
        (
            lambda: cache.attention(*some_tokens(2), torch.ones(2, 2), cache=Cache(3)),
            "a mask must be boolean",
        ),
    ],
)
def test_a_cache_names_what_it_cannot_do(act, message):
    with pytest.raises(ValueError, match=message):
        act()


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("T", [1, 2])
@pytest.mark.parametrize("held", [2, 6])
@pytest.mark.parametrize("make", [lambda: Cache(9), lambda: SlidingCache(3, sinks=1)])
def test_a_refused_call_writes_nothing(make, held, T):
    store, twin, tokens = make(), make(), some_tokens(held)
    in_pieces(*tokens, store, [1] * held), in_pieces(*tokens, twin, [1] * held)
    mask = torch.ones(T, 20, dtype=torch.bool)
    with pytest.raises(ValueError, match="a mask of shape"):
        cache.attention(*some_tokens(T), mask, cache=store)
    if isinstance(store, SlidingCache):
        with pytest.raises(ValueError, match="a sliding cache is causal"):
            cache.attention(*some_tokens(T), cache=store, causal=False)
    assert store.length == held
    more = some_tokens(3)
    expected = in_pieces(*more, twin, [1, 2])
    torch.testing.assert_close(in_pieces(*more, store, [1, 2]), expected)


@pytest.mark.parametrize("store", [Cache(20), SlidingCache(4), SlidingCache(3, sinks=1)])
def test_a_cache_knows_how_many_keys_it_will_give_back(store):
    for T in (2, 1, 3, 1, 1, 4, 1):
        expected = store.coming(T)
        keys, _, positions = store.append(*some_tokens(T)[1:])
        assert keys.shape[-2] == len(positions) == expected


def test_a_sliding_cache_cropped_twice_refuses_what_it_no_longer_holds():
    store = filled(SlidingCache(3), T=8)
    store.crop(7)
    with pytest.raises(ValueError, match="from 7 to 6"):
        store.crop(6)
