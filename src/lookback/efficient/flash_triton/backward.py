"""The backward kernels: FlashAttention-2, algorithm 2 (Dao 2023), in the paper's letters.

The weights are computed again from the saved log-sum-exp, so nothing of size ``T · S`` was kept:

    P = exp(S − L)              line 11
    dV_j = Σ_i Pᵀ dO_i          line 12
    dP = dO_i V_jᵀ              line 13
    dS = P ∘ (dP − D_i)         line 14,  D = rowsum(dO ∘ O)  line 4
    dQ_i = Σ_j dS K_j · scale   line 15
    dK_j = Σ_i dSᵀ Q_i · scale  line 16

The paper walks over queries once and adds its shares of ``dQ`` up in memory, from many programs at
once. Here one kernel walks over keys for ``dQ`` and one over queries for ``dK`` and ``dV``. That
is seven matrix products a tile instead of five, and in return every number is written once, by one
program: with the same tiles the result is the same bits in every run.
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
    query_runs,
    skipped,
    span,
    store,
)


@triton.autotune(tuning.QUERIES, key=tuning.KEY, prune_configs_by=tuning.prune("QUERIES"))
@triton.jit(do_not_specialize=["size"])
@no_type_check
def flash_backward_queries(
    Q,  # B H T K
    K,  # B G S K
    V,  # B G S V
    O,  # B T H V, without gaps; so dO, dQ
    L,  # B H T
    dO, dQ,
    D,  # B H T, written here for the other kernel to read
    open_keys, full, reach, q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,
    mask_batch, mask_head, H, T, S, low, high, scale, scale2, size,
    SHARE: tl.constexpr, WIDTH_K: tl.constexpr, WIDTH_V: tl.constexpr, PADDED_K: tl.constexpr,
    PADDED_V: tl.constexpr, LOWER: tl.constexpr, UPPER: tl.constexpr, MASK: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    # This tile of queries and its keys: as in the forward pass.
    tiles = tl.cdiv(T, BLOCK_T)
    first = (tiles - 1 - tl.program_id(0) % tiles) * BLOCK_T
    batch = (tl.program_id(0) // tiles // H).to(tl.int64)
    head = (tl.program_id(0) // tiles % H).to(tl.int64)
    Q += batch * q_batch + head * q_head
    K += batch * k_batch + head // SHARE * k_head
    V += batch * v_batch + head // SHARE * v_head
    O += batch * T * H * WIDTH_V + head * WIDTH_V
    dO += batch * T * H * WIDTH_V + head * WIDTH_V
    dQ += batch * T * H * WIDTH_K + head * WIDTH_K
    L += (batch * H + head) * T
    D += (batch * H + head) * T
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
    do = load(dO, first, T, H * WIDTH_V, BLOCK_T, WIDTH_V, PADDED_V, True)
    o = load(O, first, T, H * WIDTH_V, BLOCK_T, WIDTH_V, PADDED_V, True)
    row = first + tl.arange(0, BLOCK_T)
    d = tl.sum(do.to(tl.float32) * o.to(tl.float32), 1)
    tl.store(D + row, d, mask=row < T)
    l = tl.load(L + row, mask=row < T, other=float("inf"))
    dq = tl.zeros([BLOCK_T, PADDED_K], tl.float32)
    dq = add_keys(
        dq, q, do, l, d, K, V, open_keys, begin, full_begin, full_end, end, first, S, k_row, v_row,
        low, high, scale2, WIDTH_K, WIDTH_V, PADDED_K, PADDED_V, LOWER, UPPER, MASK, BLOCK_T,
        BLOCK_S, False
    )  # fmt: skip
    dq = add_keys(
        dq, q, do, l, d, K, V, open_keys, begin, full_begin, full_end, end, first, S, k_row, v_row,
        low, high, scale2, WIDTH_K, WIDTH_V, PADDED_K, PADDED_V, LOWER, UPPER, MASK, BLOCK_T,
        BLOCK_S, True
    )  # fmt: skip
    store(dq * scale, dQ, first, T, H * WIDTH_K, BLOCK_T, WIDTH_K, PADDED_K)


@triton.jit
@no_type_check
def add_keys(
    dq, q, do, l, d, K, V, open_keys, begin, full_begin, full_end, end, first, S, k_row, v_row, low,
    high, scale2,
    WIDTH_K: tl.constexpr, WIDTH_V: tl.constexpr, PADDED_K: tl.constexpr, PADDED_V: tl.constexpr,
    LOWER: tl.constexpr, UPPER: tl.constexpr, MASK: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr, CUT: tl.constexpr,
):  # fmt: skip
    """Add to ``dQ_i`` what keys send back; which of them: as in the forward pass."""
    query = first + tl.arange(0, BLOCK_T)
    start, stop = span(begin, full_begin, full_end, end, CUT)
    for n in range(start, stop, BLOCK_S):
        j = n + skipped(n, full_begin, full_end, CUT)
        k = load(K, j, S, k_row, BLOCK_S, WIDTH_K, PADDED_K, CUT)
        v = load(V, j, S, v_row, BLOCK_S, WIDTH_V, PADDED_V, CUT)
        s = dot(q, tl.trans(k), tl.zeros([BLOCK_T, BLOCK_S], tl.float32))
        p = tl.exp2(s * scale2 - l[:, None])
        if CUT:
            key = j + tl.arange(0, BLOCK_S)
            inside = key < S
            if MASK:
                inside = tl.load(open_keys + key, mask=inside, other=0) != 0
            open_ = open_scores(
                query[:, None], key[None, :], low, high, LOWER, UPPER, inside[None, :]
            )
            p = tl.where(open_, p, 0.0)
        dp = dot(do, tl.trans(v), tl.zeros([BLOCK_T, BLOCK_S], tl.float32))
        ds = p * (dp - d[:, None])
        dq = dot(ds.to(k.dtype), k, dq)
    return dq


@triton.autotune(tuning.KEYS, key=tuning.KEY, prune_configs_by=tuning.prune("KEYS"))
@triton.jit(do_not_specialize=["size"])
@no_type_check
def flash_backward_keys(
    Q,  # B H T K
    K,  # B G S K
    V,  # B G S V
    L,  # B H T; so D
    D,
    dO,  # B T H V, without gaps
    dK,  # B S G K, without gaps
    dV,  # B S G V, without gaps
    open_keys, reach, q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,
    mask_batch, mask_head, H, T, S, low, high, scale, scale2, size,
    SHARE: tl.constexpr, WIDTH_K: tl.constexpr, WIDTH_V: tl.constexpr, PADDED_K: tl.constexpr,
    PADDED_V: tl.constexpr, LOWER: tl.constexpr, UPPER: tl.constexpr, MASK: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    # One tile of keys; under a causal mask the first one has the most to do.
    tiles = tl.cdiv(S, BLOCK_S)
    G = H // SHARE
    first = tl.program_id(0) % tiles * BLOCK_S
    batch = (tl.program_id(0) // tiles // G).to(tl.int64)
    group = (tl.program_id(0) // tiles % G).to(tl.int64)
    K += batch * k_batch + group * k_head
    V += batch * v_batch + group * v_head
    dK += batch * S * G * WIDTH_K + group * WIDTH_K
    dV += batch * S * G * WIDTH_V + group * WIDTH_V

    queries = T
    if MASK:
        # behind the last open key there is nothing to add up: zeros are written, no more
        queries = tl.where(first < tl.load(reach + batch * H + group * SHARE), T, 0)
    begin, full_begin, full_end, end = query_runs(
        first, queries, S, low, high, LOWER, UPPER, BLOCK_T, BLOCK_S
    )

    k = load(K, first, S, k_row, BLOCK_S, WIDTH_K, PADDED_K, True)
    v = load(V, first, S, v_row, BLOCK_S, WIDTH_V, PADDED_V, True)
    dk = tl.zeros([BLOCK_S, PADDED_K], tl.float32)
    dv = tl.zeros([BLOCK_S, PADDED_V], tl.float32)
    for h in range(0, SHARE):  # all heads that read these keys
        head = group * SHARE + h
        q_base = Q + batch * q_batch + head * q_head
        do_base = dO + batch * T * H * WIDTH_V + head * WIDTH_V
        l_base = L + (batch * H + head) * T
        d_base = D + (batch * H + head) * T
        dk, dv = add_queries(
            dk, dv, k, v, q_base, do_base, l_base, d_base, begin, full_begin, full_end, end, first,
            T, q_row, H * WIDTH_V, low, high, scale2, WIDTH_K, WIDTH_V, PADDED_K, PADDED_V, LOWER,
            UPPER, BLOCK_T, BLOCK_S, False
        )  # fmt: skip
        dk, dv = add_queries(
            dk, dv, k, v, q_base, do_base, l_base, d_base, begin, full_begin, full_end, end, first,
            T, q_row, H * WIDTH_V, low, high, scale2, WIDTH_K, WIDTH_V, PADDED_K, PADDED_V, LOWER,
            UPPER, BLOCK_T, BLOCK_S, True
        )  # fmt: skip
    if MASK:
        # A closed key has a row of its own in dK and dV. What was added up there means nothing,
        # reached no other row, and is dropped once, here, instead of at every score.
        key = first + tl.arange(0, BLOCK_S)
        open_keys += batch * mask_batch + group * SHARE * mask_head
        open_ = tl.load(open_keys + key, mask=key < S, other=0) != 0
        dk = tl.where(open_[:, None], dk, 0.0)
        dv = tl.where(open_[:, None], dv, 0.0)
    store(dk * scale, dK, first, S, G * WIDTH_K, BLOCK_S, WIDTH_K, PADDED_K)
    store(dv, dV, first, S, G * WIDTH_V, BLOCK_S, WIDTH_V, PADDED_V)


@triton.jit
@no_type_check
def add_queries(
    dk, dv, k, v, Q, dO, L, D, begin, full_begin, full_end, end, first, T, q_row, do_row, low, high,
    scale2,
    WIDTH_K: tl.constexpr, WIDTH_V: tl.constexpr, PADDED_K: tl.constexpr, PADDED_V: tl.constexpr,
    LOWER: tl.constexpr, UPPER: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    CUT: tl.constexpr,
):  # fmt: skip
    """Add to ``dK_j`` and ``dV_j`` what queries send back.

    Everything stands transposed, keys down and queries across, so that no matrix of scores has
    to be turned over for the two products that sum over queries.
    """
    key = first + tl.arange(0, BLOCK_S)
    start, stop = span(begin, full_begin, full_end, end, CUT)
    for n in range(start, stop, BLOCK_T):
        i = n + skipped(n, full_begin, full_end, CUT)
        query = i + tl.arange(0, BLOCK_T)
        q = load(Q, i, T, q_row, BLOCK_T, WIDTH_K, PADDED_K, CUT)
        do = load(dO, i, T, do_row, BLOCK_T, WIDTH_V, PADDED_V, CUT)
        if CUT:
            # queries behind the last have L = +inf and so no weight
            l = tl.load(L + query, mask=query < T, other=float("inf"))
            d = tl.load(D + query, mask=query < T, other=0.0)
        else:
            l = tl.load(L + query)
            d = tl.load(D + query)
        s = dot(k, tl.trans(q), tl.zeros([BLOCK_S, BLOCK_T], tl.float32))
        p = tl.exp2(s * scale2 - l[None, :])
        if CUT:
            open_ = open_scores(
                query[None, :], key[:, None], low, high, LOWER, UPPER, (query < T)[None, :]
            )
            p = tl.where(open_, p, 0.0)
        dv = dot(p.to(do.dtype), do, dv)
        dp = dot(v, tl.trans(do), tl.zeros([BLOCK_S, BLOCK_T], tl.float32))
        ds = p * (dp - d[None, :])
        dk = dot(ds.to(q.dtype), q, dk)
    return dk, dv
