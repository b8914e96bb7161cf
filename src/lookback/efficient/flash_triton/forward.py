"""The forward kernel: FlashAttention-2, algorithm 1 (Dao 2023), in the paper's letters.

One program has one tile of queries ``Q_i`` and walks over the tiles of keys and values that any of
its queries may see. The scores of a tile live in registers and nowhere else. What is kept of each
row is its maximum ``m``, the sum ``l`` of ``exp(s − m)`` and the unscaled output ``o``:

    S = Q_i K_jᵀ                                    line 8
    m′ = max(m, rowmax S)                           line 9
    P = exp(S − m′),  l′ = e^(m − m′) l + rowsum P  line 9
    o′ = e^(m − m′) o + P V_j                       line 10
    O_i = o / l,  L_i = m + log l                   lines 12, 13

Against the letter of the paper, exponentials are powers of two, the one the hardware has: scores
are multiplied by ``scale · log₂ e``, once, and ``m`` and ``L`` are logarithms to base 2.
"""

# ruff: noqa: E741 - O and l are the paper's letters

from typing import no_type_check

import triton
import triton.language as tl

from lookback.efficient.flash_triton import tuning
from lookback.efficient.flash_triton.tiles import (
    dot,
    key_runs,
    load,
    open_scores,
    skipped,
    span,
    store,
)


@triton.autotune(tuning.FORWARD, key=tuning.KEY, prune_configs_by=tuning.prune("FORWARD"))
@triton.jit(do_not_specialize=["size"])
@no_type_check
def flash_forward(
    Q,  # B H T K, its last axis without gaps; so K, V
    K,  # B G S K
    V,  # B G S V
    O,  # B T H V, without gaps
    L,  # B H T
    open_keys,  # B H S, 1 where a key is open; the next two say where its zeros are:
    full,  # B H: so many keys from the first are all open
    reach,  # B H: from here on all keys are closed
    q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,  # strides
    mask_batch, mask_head,
    H, T, S,
    low, high,  # the band
    scale2,  # scale · log₂ e, positive
    size,  # how long the sequences are, roughly: read by the tuning alone
    SHARE: tl.constexpr,  # query heads to one head of keys, H / G
    WIDTH_K: tl.constexpr, WIDTH_V: tl.constexpr, PADDED_K: tl.constexpr, PADDED_V: tl.constexpr,
    LOWER: tl.constexpr, UPPER: tl.constexpr, MASK: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    # Heads one after the other, so that programs that run together share keys in the cache; of
    # each, the last tile first: under a causal mask it has the most to do.
    tiles = tl.cdiv(T, BLOCK_T)
    first = (tiles - 1 - tl.program_id(0) % tiles) * BLOCK_T
    batch = (tl.program_id(0) // tiles // H).to(tl.int64)
    head = (tl.program_id(0) // tiles % H).to(tl.int64)
    Q += batch * q_batch + head * q_head
    K += batch * k_batch + head // SHARE * k_head
    V += batch * v_batch + head // SHARE * v_head
    O += batch * T * H * WIDTH_V + head * WIDTH_V
    L += (batch * H + head) * T
    open_keys += batch * mask_batch + head * mask_head

    reached = S
    filled = S
    if MASK:
        reached = tl.load(reach + batch * H + head)
        filled = tl.load(full + batch * H + head)
    begin, full_begin, full_end, end = key_runs(
        first, T, filled, reached, low, high, LOWER, UPPER, BLOCK_T, BLOCK_S
    )

    q = load(Q, first, T, q_row, BLOCK_T, WIDTH_K, PADDED_K, True)
    o = tl.zeros([BLOCK_T, PADDED_V], tl.float32)
    l = tl.zeros([BLOCK_T], tl.float32)
    m = tl.full([BLOCK_T], float("-inf"), tl.float32)
    # Most tiles are open throughout. They have a loop of their own, without a word about masks.
    o, l, m = attend(
        o, l, m, q, K, V, open_keys, begin, full_begin, full_end, end, first, S, k_row, v_row,
        low, high, scale2, WIDTH_K, WIDTH_V, PADDED_K, PADDED_V, LOWER, UPPER, MASK,
        BLOCK_T, BLOCK_S, CUT=False
    )  # fmt: skip
    o, l, m = attend(
        o, l, m, q, K, V, open_keys, begin, full_begin, full_end, end, first, S, k_row, v_row,
        low, high, scale2, WIDTH_K, WIDTH_V, PADDED_K, PADDED_V, LOWER, UPPER, MASK,
        BLOCK_T, BLOCK_S, CUT=True
    )  # fmt: skip

    # A row that met no open key has l = 0. Its output is zero, and with L = +inf the backward
    # pass finds weights exp2(s − L) = 0 there.
    empty = l == 0
    l = tl.where(empty, 1.0, l)
    row = first + tl.arange(0, BLOCK_T)
    tl.store(L + row, tl.where(empty, float("inf"), m + tl.log2(l)), mask=row < T)
    store(o / l[:, None], O, first, T, H * WIDTH_V, BLOCK_T, WIDTH_V, PADDED_V)


@triton.jit
@no_type_check
def attend(
    o, l, m, q, K, V, open_keys, begin, full_begin, full_end, end, first, S, k_row, v_row,
    low, high, scale2,
    WIDTH_K: tl.constexpr, WIDTH_V: tl.constexpr, PADDED_K: tl.constexpr, PADDED_V: tl.constexpr,
    LOWER: tl.constexpr, UPPER: tl.constexpr, MASK: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, CUT: tl.constexpr,
):  # fmt: skip
    """Take keys into ``o``, ``l`` and ``m``: lines 6 to 11.

    Those from ``full_begin`` to ``full_end``, all open; or, with ``CUT``, those around them.
    """
    query = first + tl.arange(0, BLOCK_T)
    start, stop = span(begin, full_begin, full_end, end, CUT)
    for n in range(start, stop, BLOCK_S):
        j = n + skipped(n, full_begin, full_end, CUT)
        k = load(K, j, S, k_row, BLOCK_S, WIDTH_K, PADDED_K, CUT)
        s = dot(q, tl.trans(k), tl.zeros([BLOCK_T, BLOCK_S], tl.float32))
        if CUT:
            key = j + tl.arange(0, BLOCK_S)
            inside = key < S
            if MASK:
                inside = tl.load(open_keys + key, mask=inside, other=0) != 0
            open_ = open_scores(
                query[:, None], key[None, :], low, high, LOWER, UPPER, inside[None, :]
            )
            s = tl.where(open_, s, float("-inf"))
        m_new = tl.maximum(m, tl.max(s, 1) * scale2)
        shift = m_new
        if CUT:
            # no key so far, no maximum: −inf − (−inf) is NaN, any finite number serves
            shift = tl.where(m_new == float("-inf"), 0.0, m_new)
        p = tl.exp2(s * scale2 - shift[:, None])  # one multiply-add, one power of two a score
        fade = tl.exp2(m - shift)
        l = l * fade + tl.sum(p, 1)
        v = load(V, j, S, v_row, BLOCK_S, WIDTH_V, PADDED_V, CUT)
        o = dot(p.to(v.dtype), v, o * fade[:, None])
        m = m_new
    return o, l, m
