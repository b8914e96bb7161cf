"""The kernels of chunked linear attention: one carries the state, one writes the outputs.

With features ``q̂ = φ(q)``, ``k̂ = φ(k)`` and ``g_ij`` for what is left of token ``j`` at token
``i``, a chunk that finds the state ``S`` and the sum of features ``z`` gives

    o_i = g_i q̂_iᵀ S + Σ_{j ≤ i in the chunk} g_ij (q̂_i · k̂_j) v_j
    t_i = g_i q̂_iᵀ z + Σ_{j ≤ i in the chunk} g_ij (q̂_i · k̂_j)

and leaves ``S′ = g S + Σ_j g_j k̂_j v_jᵀ`` and ``z′ = g z + Σ_j g_j k̂_j`` to the next. Outputs are
``o_i / t_i``. Only the second line waits for the chunk before; the first is a few small matrix
products for each chunk, all chunks at once (Yang et al. 2024, section 4; Sun et al. 2023).
"""

# ruff: noqa: E741 - O is the field's letter for outputs

from typing import no_type_check

import triton
import triton.language as tl

from lookback.efficient.flash_triton.tiles import dot, load, store
from lookback.efficient.flash_triton.tuning import INTERPRETED

KEY = ["size", "PADDED_K", "WIDTH_V", "CHUNK"]


def _configs(*sizes: tuple[int, int, int]) -> list[triton.Config]:
    """Columns of values, warps, stages."""
    if INTERPRETED:
        return [triton.Config({"BLOCK_V": 16}, num_warps=1, num_stages=1)]
    return [
        triton.Config({"BLOCK_V": width}, num_warps=warps, num_stages=stages)
        for width, warps, stages in sizes
    ]


@triton.jit
@no_type_check
def features(x, inside, FEATURES: tl.constexpr):
    """φ of a tile in float32, zero where it reaches beyond its matrix: ``φ(0)`` may be 1."""
    x = x.to(tl.float32)
    if FEATURES == "elu":
        below = tl.minimum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
        x = tl.where(x > 0, x + 1, tl.exp2(below * 1.4426950408889634))
    elif FEATURES == "relu":
        x = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    elif FEATURES == "exp":
        x = tl.exp2(x * 1.4426950408889634)
    return tl.where(inside, x, 0.0)


@triton.jit
@no_type_check
def key_features(
    K, open_keys, first, S, k_row,
    FEATURES: tl.constexpr, WIDTH_K: tl.constexpr, PADDED_K: tl.constexpr,
    CHUNK: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """φ of the keys of a chunk, zero for closed ones."""
    key = first + tl.arange(0, CHUNK)
    inside = key < S
    if MASK:
        inside = tl.load(open_keys + key, mask=inside, other=0) != 0
    k = load(K, first, S, k_row, CHUNK, WIDTH_K, PADDED_K, True)
    return features(k, inside[:, None] & (tl.arange(0, PADDED_K)[None, :] < WIDTH_K), FEATURES)


@triton.autotune(_configs((16, 4, 2), (32, 4, 2), (32, 4, 3), (64, 4, 2), (64, 8, 2)), key=KEY)
@triton.jit(do_not_specialize=["size"])
@no_type_check
def linear_states(
    K,  # B H S K, its last axis without gaps; so V
    V,  # B H S V
    log_decay,  # B H S, to base 2
    open_keys,  # B H S
    states,  # B H N K V: what each of N chunks finds, K padded
    sums,  # B H N K
    k_batch, k_head, k_row, v_batch, v_head, v_row, mask_batch, mask_head,  # strides
    H, S, N, size,
    FEATURES: tl.constexpr, WIDTH_K: tl.constexpr, WIDTH_V: tl.constexpr, PADDED_K: tl.constexpr,
    CHUNK: tl.constexpr, DECAY: tl.constexpr, MASK: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    # One program has some columns of one head's state, and goes from chunk to chunk.
    column = tl.program_id(1) * BLOCK_V
    row = tl.program_id(0).to(tl.int64)
    batch, head = row // H, row % H
    K += batch * k_batch + head * k_head
    V += batch * v_batch + head * v_head + column
    log_decay += row * S
    open_keys += batch * mask_batch + head * mask_head
    states += row * N * PADDED_K * WIDTH_V + column
    sums += row * N * PADDED_K
    state = tl.zeros([PADDED_K, BLOCK_V], tl.float32)
    z = tl.zeros([PADDED_K], tl.float32)
    for n in range(0, N):
        store(
            state, states, n * PADDED_K, (n + 1) * PADDED_K, WIDTH_V,
            PADDED_K, WIDTH_V - column, BLOCK_V
        )  # fmt: skip
        tl.store(sums + n * PADDED_K + tl.arange(0, PADDED_K), z)
        first = n * CHUNK
        k = key_features(K, open_keys, first, S, k_row, FEATURES, WIDTH_K, PADDED_K, CHUNK, MASK)
        v = load(V, first, S, v_row, CHUNK, WIDTH_V - column, BLOCK_V, True)
        if DECAY:
            key = first + tl.arange(0, CHUNK)
            each = tl.load(log_decay + key, mask=key < S, other=0.0)
            whole = tl.sum(each, 0)
            k = k * tl.exp2(whole - tl.cumsum(each, 0))[:, None]  # faded to the chunk's end
            state = state * tl.exp2(whole)
            z = z * tl.exp2(whole)
        state = dot(tl.trans(k).to(v.dtype), v, state)
        z += tl.sum(k, 0)


@triton.autotune(_configs((32, 4, 1), (64, 4, 1), (64, 8, 1), (128, 8, 1)), key=KEY)
@triton.jit(do_not_specialize=["size"])
@no_type_check
def linear_outputs(
    Q,  # B H T K, its last axis without gaps; so K, V
    K,  # B H S K
    V,  # B H S V
    log_decay, open_keys, states, sums,  # as above
    O,  # B T H V, without gaps
    total,  # B H T: the sum of weights of each query
    q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,
    mask_batch, mask_head,
    H, T, S, N, skipped,  # chunks before the first query
    offset,  # position of the first query
    scale, size,
    FEATURES: tl.constexpr, NORMALISE: tl.constexpr,
    WIDTH_K: tl.constexpr, WIDTH_V: tl.constexpr, PADDED_K: tl.constexpr,
    CHUNK: tl.constexpr, DECAY: tl.constexpr, MASK: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    # One program has one chunk of one head, and some columns of its outputs.
    column = tl.program_id(1) * BLOCK_V
    n = skipped + tl.program_id(0) % (N - skipped)
    row = (tl.program_id(0) // (N - skipped)).to(tl.int64)
    batch, head = row // H, row % H
    Q += batch * q_batch + head * q_head
    K += batch * k_batch + head * k_head
    V += batch * v_batch + head * v_head + column
    O += batch * T * H * WIDTH_V + head * WIDTH_V + column
    total += row * T
    log_decay += row * S
    open_keys += batch * mask_batch + head * mask_head
    states += row * N * PADDED_K * WIDTH_V + column
    sums += (row * N + n) * PADDED_K

    first = n * CHUNK
    place = tl.arange(0, CHUNK)
    wide = tl.arange(0, PADDED_K)
    query = first + place - offset
    asked = (query >= 0) & (query < T)
    inside = asked[:, None] & (wide[None, :] < WIDTH_K)
    start = Q + (tl.cast(first, tl.int64) - offset) * q_row
    q = tl.load(start + place[:, None] * q_row + wide[None, :], mask=inside, other=0.0)
    q = features(q.to(tl.float32) * scale, inside, FEATURES)
    k = key_features(K, open_keys, first, S, k_row, FEATURES, WIDTH_K, PADDED_K, CHUNK, MASK)
    v = load(V, first, S, v_row, CHUNK, WIDTH_V - column, BLOCK_V, True)

    # inside the chunk: every pair, as a matrix
    past = place[:, None] >= place[None, :]
    weights = dot(q.to(v.dtype), tl.trans(k.to(v.dtype)), tl.zeros([CHUNK, CHUNK], tl.float32))
    weights = tl.where(past, weights, 0.0)
    if DECAY:
        key = first + place
        kept = tl.cumsum(tl.load(log_decay + key, mask=key < S, other=0.0), 0)
        # closed before the power, which may overflow there
        fade = tl.where(past, kept[:, None] - kept[None, :], float("-inf"))
        weights = weights * tl.exp2(fade)
        q = q * tl.exp2(kept)[:, None]
    o = dot(weights.to(v.dtype), v, tl.zeros([CHUNK, BLOCK_V], tl.float32))

    # from before the chunk: the state that it finds
    state = load(
        states, n * PADDED_K, (n + 1) * PADDED_K, WIDTH_V, PADDED_K, WIDTH_V - column, BLOCK_V, True
    )
    o = dot(q.to(v.dtype), state, o)
    z = tl.load(sums + wide)
    t = tl.sum(weights, 1) + tl.sum(q * z[None, :], 1)
    if NORMALISE:
        o = o / tl.where(t == 0, 1.0, t)[:, None]
    tl.store(total + query, t, mask=asked & (column == 0))
    column_ = tl.arange(0, BLOCK_V)
    pointers = O + query.to(tl.int64)[:, None] * H * WIDTH_V + column_[None, :]
    written = asked[:, None] & (column_[None, :] < WIDTH_V - column)
    tl.store(pointers, o.to(O.dtype.element_ty), mask=written)
