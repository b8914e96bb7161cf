# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Efficient attention
#
# Full attention is five lines, and the setup cell below has them. You write what it costs too
# much to leave as it is: the same numbers in less memory, fewer pairs, sums that need no pairs at
# all, and a model that writes without reading everything again.
#
# **How to work.** Write each answer in the cell that holds the function, then run the checks
# below it. A check that passes is silent. One that fails says what is wrong and where to look.
# More checks are hidden; they hold your function to other sizes, shapes and number formats. A
# check is worth its points or nothing.
#
# **Cost counts.** In four tasks the right numbers are not enough. A check then gives your function
# a length of thousands, and measures how much memory it takes at once, how its work grows, or how
# often it calls the model. You may compute the full matrix in any task; in those checks it does
# not pass.
#
# **Each task is graded on its own.** No task needs your answer to another one. Where you call your
# `online_softmax` all the same, the checks put our version under that name while they run.
#
# **What is closed.** torch's own attention, and this library's answers (`lookback.efficient`,
# `lookback.decoding` and what builds on them), may not be used in what you hand in. Everything
# else of torch is open.
#
# **Letters.** A shape is written with one letter an axis: `T` queries, `S` keys, `K` width of
# queries and keys, `V` width of values, `H` heads of queries, `G` heads of keys and values, `B`
# batch. `*batch` stands for any number of batch axes, also none. A mask is boolean: `True` means
# “may attend”.
#
# **House rules.** A result has the dtype of what came in; new tensors take it over with
# `q.new_zeros(…)` or `torch.zeros_like(q)`. A function never writes into its arguments.

# %% setup=true
import torch
import torch.nn.functional as F

from lookback import checks

checks.ban(
    "torch.nn.functional.scaled_dot_product_attention",
    "torch.nn.functional.multi_head_attention_forward",
    "torch.nn.attention.flex_attention.flex_attention",
    "torch.nn.MultiheadAttention",
    "torch.nn.Transformer",
    "torch.nn.TransformerEncoderLayer",
    "torch.nn.TransformerDecoderLayer",
    "lookback.attention",
    "lookback.decoding",
    "lookback.efficient",
    "lookback.seq2seq",
    "lookback.transformer",
)


def attention(q, k, v, mask=None):
    """Full attention, for you to use and to compare with; each query needs an open key."""
    scores = q @ k.mT / q.shape[-1] ** 0.5  # *batch T S
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


def tiny_model(seed, words=40, width=16):
    """A language model of one attention layer, untrained, in float64, as two functions."""
    generator = torch.Generator().manual_seed(seed)
    embedding, W_q, W_k, W_v, W_o = (
        torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        for rows, columns in [(words, width), *[(width, width)] * 3, (width, words)]
    )

    def project(tokens, start):  # B n -> three of B n K
        x = embedding[tokens]
        angle = torch.arange(start, start + tokens.shape[-1], dtype=torch.float64)[:, None]
        turn = torch.polar(torch.ones_like(angle), angle)  # rotary: one turn for all pairs
        q, k = (
            torch.view_as_real(torch.view_as_complex((x @ W).unflatten(-1, (-1, 2))) * turn)
            for W in (W_q, W_k)
        )
        return q.flatten(-2) / width, k.flatten(-2), x @ W_v

    def readout(mixed):  # B n V -> B n words
        return mixed @ W_o

    return project, readout


# %% [markdown] task="online_softmax" difficulty=2 minutes=12
# ## A softmax that never sees the whole row
#
# A softmax needs the maximum of its row and the sum of its exponentials: the whole row, it seems.
# It can be had in pieces (Milakov & Gimelshein 2018). For each row three things are kept: the
# largest score so far `m`, the sum `mass` of $e^{s - m}$ ($l$ in the chapter), and the weighted sum
# `o` of values. When a tile of new scores comes, the old sums may have been scaled by a maximum
# that is too small, so they are scaled down to the new one:
#
# $$m' = \max\bigl(m, \max_j s_j\bigr) \qquad
# \mathit{mass}' = e^{m - m'} \mathit{mass} + \sum_j e^{s_j - m'} \qquad
# o' = e^{m - m'} o + \sum_j e^{s_j - m'} v_j$$
#
# ```python
# online_softmax(m, mass, o, s, v)  # -> the new (m, mass, o)
# #  m (*batch, T, 1)   mass (*batch, T, 1)   o (*batch, T, V)    what is kept of T rows
# #  s (*batch, T, n)   v (*batch, n, V)                          a tile of n scores, their values
# ```
#
# It starts at `m = -inf`, `mass = 0`, `o = 0`; at the end the output is `o / mass`. One row, scores
# $0, \ln 2$ and then $\ln 4$, values 8, 4 and then 2:
#
# ```python
# start = torch.tensor([[-torch.inf]]), torch.zeros(1, 1), torch.zeros(1, 1)
# first = online_softmax(*start, torch.tensor([[0.0, 0.6931]]), torch.tensor([[8.0], [4.0]]))
# first     # m 0.6931   mass ½ + 1 = 1.5             o ½·8 + 1·4 = 8
# online_softmax(*first, torch.tensor([[1.3863]]), torch.tensor([[2.0]]))
#           # m 1.3863   mass ½·1.5 + 1 = 1.75        o ½·8 + 1·2 = 6
# ```
#
# Output $6/1.75 = 24/7$. Check it: the weights are $\tfrac17, \tfrac27, \tfrac47$.
#
# **Closed scores** are −∞, and a row may have nothing but −∞ so far: its mass and its `o` stay 0,
# and nothing becomes NaN.
#
# <details><summary>Hint 1</summary>
#
# `s.amax(-1, keepdim=True)` has the shape of `m`; `torch.maximum` takes the larger of two.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $-\infty - (-\infty)$ is NaN. Where the new maximum is −∞, subtract any finite number instead:
# then $e^{-\infty}$ is 0, as it should be.
#
# </details>


# %% answer="online_softmax"
def online_softmax(m, mass, o, s, v):
    """One step of the softmax in pieces (Milakov & Gimelshein 2018, algorithm 3).

    Args:
        m: largest score of each row so far (*batch, T, 1); -inf where there was none.
        mass: sum of exp(score - m) so far (*batch, T, 1).
        o: sum of exp(score - m) times value so far (*batch, T, V).
        s: new scores (*batch, T, n); -inf where closed.
        v: their values (*batch, n, V).

    Returns:
        The new m, mass and o.
    """
    ### BEGIN SOLUTION
    highest = torch.maximum(m, s.amax(-1, keepdim=True))
    # a row that is empty so far has no maximum: any finite number serves
    shift = highest.masked_fill(highest == float("-inf"), 0.0)
    fade = (m - shift).exp()
    p = (s - shift).exp()
    return highest, mass * fade + p.sum(-1, keepdim=True), o * fade + p @ v
    ### END SOLUTION


# %% check="online_softmax__by_hand" points=1
ln2 = torch.tensor(2.0).log()
state = torch.tensor([[-torch.inf]] * 2), torch.zeros(2, 1), torch.zeros(2, 1)
columns = "m and mass are columns, one number a row: keepdim=True keeps the axis"
with checks.case(
    "a first tile: scores (0, ln 2) in row 0 and (0, 0) in row 1, values 8 and 4", columns
):
    state = online_softmax(
        *state, torch.tensor([[0.0, 1.0], [0.0, 0.0]]) * ln2, torch.tensor([[8.0], [4.0]])
    )
    for name, found, expected in zip(
        ("m", "mass", "o"), state, ([ln2, 0.0], [1.5, 2.0], [8.0, 12.0]), strict=True
    ):
        checks.close(
            found,
            torch.tensor(expected)[:, None],
            what=f"{name} after the first tile",
            suspects={
                "one maximum was taken for all rows; each row has its own": torch.tensor(
                    {"m": [ln2, ln2], "mass": [1.5, 1.0], "o": [8.0, 6.0]}[name]
                )[:, None],
                "the sum of the values was divided by the mass; that comes at the end, once": (
                    torch.tensor([8 / 1.5, 6.0])[:, None]
                ),
                "the exponentials were averaged, not summed": torch.tensor([0.75, 1.0])[:, None],
            },
            hint=f"m is ln 2 and 0; the exponentials of s − m are (½, 1) and (1, 1); {columns}",
        )
with checks.case("a second tile: score ln 4 in row 0 and −ln 2 in row 1, value 2", columns):
    state = online_softmax(
        torch.tensor([[ln2], [0.0]]), torch.tensor([[1.5], [2.0]]), torch.tensor([[8.0], [12.0]]),
        torch.tensor([[2.0], [-1.0]]) * ln2, torch.tensor([[2.0]]),
    )  # fmt: skip
    told = {
        "it is the maximum of this tile alone; the maximum so far counts too": {
            "m": [2 * ln2, -ln2]
        },
        "the old sums were not scaled down to the new maximum": {"mass": [2.5, 2.5], "o": [10, 13]},
        "the old sums were scaled by exp(m′ − m); it is exp(m − m′)": {
            "mass": [4.0, 2.5],
            "o": [18.0, 13.0],
        },
        "what was there before is lost": {"mass": [1.0, 0.5], "o": [2.0, 1.0]},
        "the new exponentials use the maximum of this tile, not the new m": {
            "mass": [1.75, 3.0],
            "o": [6.0, 14.0],
        },
    }
    for name, found, expected in zip(
        ("m", "mass", "o"), state, ([2 * ln2, 0.0], [1.75, 2.5], [6.0, 13.0]), strict=True
    ):
        checks.close(
            found,
            torch.tensor(expected)[:, None],
            what=f"{name} after the second tile",
            suspects={
                diagnosis: torch.tensor(wrong[name]).float()[:, None]
                for diagnosis, wrong in told.items()
                if name in wrong
            },
            hint="row 0 has a new maximum, ln 4: its old sums are halved; row 1 keeps its own, 0",
        )

# %% check="online_softmax__stable" points=1
generator = torch.Generator().manual_seed(1)
s, v = (torch.randn(*shape, generator=generator).double() for shape in [(3, 8), (8, 2)])
s = s + torch.tensor([0.0, 0, 0, 0, 1000, 1000, 2000, -1000])  # most of it comes late
expected = s.softmax(-1) @ v
state = (
    torch.full((3, 1), float("-inf")).double(),
    torch.zeros(3, 1).double(),
    torch.zeros(3, 2).double(),
)
with checks.case(
    "scores that rise by 2000 from tile to tile, two at a time, in float64",
    "m and mass are columns, one number a row: keepdim=True keeps the axis",
):
    for start in range(0, 8, 2):
        state = online_softmax(*state, s[:, start : start + 2], v[start : start + 2])
    checks.close(
        state[2] / state[1],
        expected,
        what="o / mass at the end",
        hint="exp(1000) is infinite: subtract the new maximum from the scores before exp, and "
        "scale old sums by exp(m − m′), which is at most 1",
    )

# %% check="online_softmax__order" points=1
# Hidden: any cut into tiles, any order, batch axes, other formats; arguments stay as they are.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
for batch, dtype, cuts in [
    ((), torch.float64, (1, 2, 9)),
    ((2,), torch.float32, (12,)),
    ((2, 3), torch.float64, (5, 7)),
    ((1, 2), torch.float32, (1,) * 12),
]:
    s = torch.randn(*batch, 4, 12, generator=generator).to(dtype) * 3
    v = torch.randn(*batch, 12, 5, generator=generator).to(dtype)
    s = s.sort(-1).values  # rising scores: every tile brings a new maximum
    with checks.case(
        f"batch {batch}, T = 4, tiles of {cuts} scores, V = 5, {dtype}, rising scores"
    ):
        state = (
            torch.full((*batch, 4, 1), float("-inf"), dtype=dtype),
            torch.zeros(*batch, 4, 1, dtype=dtype),
            torch.zeros(*batch, 4, 5, dtype=dtype),
        )
        for s_j, v_j in zip(s.split(cuts, -1), v.split(cuts, -2), strict=True):
            m, mass, o = state
            with checks.unchanged(m=m, mass=mass, o=o, s=s_j, v=v_j):
                state = online_softmax(*state, s_j, v_j)
        checks.close(state[0], s.amax(-1, keepdim=True), what="m at the end")
        checks.close(
            state[1], (s - s.amax(-1, keepdim=True)).exp().sum(-1, keepdim=True), what="the mass"
        )
        checks.close(state[2] / state[1], s.softmax(-1) @ v, what="o / mass at the end")
### END HIDDEN TESTS

# %% check="online_softmax__empty_rows" points=1
# Hidden: closed scores, rows with nothing open yet, rows with nothing open at all.
### BEGIN HIDDEN TESTS
inf = float("inf")
s = torch.tensor([[-inf, -inf, 1.0, -inf], [0.5, -inf, -inf, -inf], [-inf] * 4])
v = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
state = torch.full((3, 1), -inf), torch.zeros(3, 1), torch.zeros(3, 1)
for start in (0, 2):
    state = online_softmax(*state, s[:, start : start + 2], v[start : start + 2])
    with checks.case(
        f"row 0 open from score 2 on, row 1 at score 0 alone, row 2 closed; to score {start + 1}"
    ):
        seen = s[:, : start + 2]
        for name, found, expected in zip(
            ("m", "mass", "o"),
            state,
            (
                seen.amax(-1, keepdim=True),
                seen.isfinite().float().sum(-1, keepdim=True),
                seen.isfinite().float() @ v[: start + 2],
            ),
            strict=True,
        ):
            checks.close(
                found,
                expected,
                what=name,
                hint="−∞ − (−∞) is NaN: where the new maximum is −∞, subtract a finite number",
            )
### END HIDDEN TESTS

# %% [markdown] task="tiled_attention" difficulty=3 minutes=16 builds_on="online_softmax"
# ## The same numbers, without the matrix
#
# Cut the queries into tiles, and the keys. For each tile of queries go through the tiles of keys
# and keep `m`, `mass` and `o`, as in the task above; the scores of one tile are the largest thing
# in memory (Dao et al. 2022, algorithm 1).
#
# ```python
# tiled_attention(q, k, v, causal=False, tile=128)
# #  q (*batch, T, K)   k (*batch, S, K)   v (*batch, S, V)   ->   (*batch, T, V)
# ```
#
# It returns what `attention` returns. With `causal=True` query `i` sees the keys `j ≤ i`, where
# `T` and `S` may differ. The last tile may be shorter than `tile`.
#
# For 5 queries, 7 keys and `tile=3` there are 2 tiles of queries (3, 2) and 3 of keys (3, 3, 1),
# so 6 small tables of scores, at most 3 × 3. Under `causal=True` two of them are closed
# altogether: queries 0–2 see nothing of the keys 3–5, and nobody sees key 6.
#
# **Memory is measured**, for 8192 queries, as many keys and `tile=512`, with no gradient. The whole
# table of scores would have 256 MiB, a boolean mask for it 64; one tile of scores has 1. Your
# function gets 56 MiB. Keep nothing of the size `T × S`: no scores, no mask, no list of tiles.
#
# You may call your `online_softmax`; the checks put ours in its place.
#
# <details><summary>Hint 1</summary>
#
# Two loops, `for start in range(0, T, tile)` outside over queries, one inside over keys. The state
# starts anew for each tile of queries; `q[..., start : start + tile, :]` ends by itself at `T`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The mask of one tile: make the *positions* of its queries a column and those of its keys a row,
# and compare. Their numbers within the tile are not enough.
#
# </details>


# %% answer="tiled_attention"
def tiled_attention(q, k, v, causal=False, tile=128):
    """Exact attention in tiles: memory grows with T + S (Dao et al. 2022, algorithm 1).

    Args:
        q: queries (*batch, T, K).
        k: keys (*batch, S, K).
        v: values (*batch, S, V).
        causal: whether query i sees only the keys j <= i.
        tile: queries, and keys, in one tile; at least 1.

    Returns:
        What full attention returns, (*batch, T, V).
    """
    ### BEGIN SOLUTION
    T, S, scale = q.shape[-2], k.shape[-2], q.shape[-1] ** -0.5
    out = []
    for start in range(0, T, tile):
        q_i = q[..., start : start + tile, :] * scale
        rows = torch.arange(start, start + q_i.shape[-2])[:, None]
        m = q_i.new_full((*q_i.shape[:-1], 1), float("-inf"))
        mass = torch.zeros_like(m)
        o = q_i.new_zeros(*q_i.shape[:-1], v.shape[-1])
        reach = min(S, start + tile) if causal else S  # keys beyond it are closed to all rows
        for first in range(0, reach, tile):
            s = q_i @ k[..., first : first + tile, :].mT  # *batch t s
            if causal:
                columns = torch.arange(first, first + s.shape[-1])
                s = s.masked_fill(columns > rows, float("-inf"))
            highest = torch.maximum(m, s.amax(-1, keepdim=True))  # finite: every row sees key 0
            fade, p = (m - highest).exp(), (s - highest).exp()
            mass = mass * fade + p.sum(-1, keepdim=True)
            o = o * fade + p @ v[..., first : first + tile, :]
            m = highest
        out.append(o / mass)
    return torch.cat(out, -2)
    ### END SOLUTION


# %% check="tiled_attention__numbers" points=1
from lookback.efficient.tiled import online_softmax as _softmax_step

generator = torch.Generator().manual_seed(1)
q, k, v = (torch.randn(*shape, generator=generator) for shape in [(5, 4), (7, 4), (7, 2)])
k = k * torch.linspace(1, 4, 7)[:, None]  # larger scores towards the end
with (
    checks.case(
        "5 queries, 7 keys, tile=3: the last tiles are shorter",
        "give the state of a tile as many rows as the tile has, which may be fewer than `tile`",
    ),
    checks.given(online_softmax=_softmax_step),
    checks.unchanged(q=q, k=k, v=v),
):
    output = tiled_attention(q, k, v, tile=3)
pieces = [attention(q, *kv) for kv in zip(k.split(3), v.split(3), strict=True)]
weights = (q @ k.mT / 2).softmax(-1)
with checks.case("5 queries, 7 keys, tile=3: the last tiles are shorter"):
    checks.close(
        output,
        attention(q, k, v),
        what="the output",
        suspects={
            "each tile got a softmax of its own, and the results were added": sum(pieces),
            "each tile got a softmax of its own, and the results were averaged": sum(pieces) / 3,
            "only the last tile of keys counts: does the state start anew inside the inner loop?": (
                pieces[-1]
            ),
            "only the first tile of keys counts": pieces[0],
            "the last tile of keys, which is shorter, was left out": attention(q, k[:6], v[:6]),
            "the last tile of queries, which is shorter, was left out": attention(q, k, v)[:3],
            "the sums were not divided by their mass at the end": (
                ((q @ k.mT / 2) - (q @ k.mT / 2).amax(-1, keepdim=True)).exp() @ v
            ),
            "the scores were not divided by √K": (q @ k.mT).softmax(-1) @ v,
            "it is causal without being asked": attention(q, k, v, torch.ones(5, 7).tril().bool()),
            "the weights of the tiles were mixed up": weights.flip(-1) @ v,
        },
        hint="for each tile of queries: m, mass and o from −∞, 0 and 0, through all tiles of keys",
    )
i, j = torch.arange(5)[:, None], torch.arange(7)
with (
    checks.case("5 queries, 7 keys, tile=3, causal=True"),
    checks.given(online_softmax=_softmax_step),
):
    checks.close(
        tiled_attention(q, k, v, causal=True, tile=3),
        attention(q, k, v, j <= i),
        what="the output",
        suspects={
            "causal is ignored": attention(q, k, v),
            "positions were counted within the tile": attention(q, k, v, j % 3 <= i % 3),
        },
        hint="query i sees the keys j ≤ i, both counted in the whole sequence",
    )

# %% check="tiled_attention__memory" points=2
from lookback.efficient.tiled import online_softmax as _softmax_step

generator = torch.Generator().manual_seed(2)
q, k, v = (torch.randn(300, 4, generator=generator) for _ in range(3))
with (
    checks.case("300 queries and keys, tile=128", "the last tile has 44 rows"),
    checks.given(online_softmax=_softmax_step),
):
    checks.close(tiled_attention(q, k, v, tile=128), attention(q, k, v), what="the output")
q, k, v = (torch.randn(8192, 4, generator=generator) for _ in range(3))
with (
    checks.case("8192 queries and keys of width 4, tile=512"),
    checks.given(online_softmax=_softmax_step),
    torch.no_grad(),
    checks.memory(
        56,
        told="right numbers, but memory grew with T·S: 8192 × 8192 scores take 256 MiB",
        hint="only one tile of scores may be there at a time: neither the whole table nor a list "
        "of its tiles",
    ),
):
    out = tiled_attention(q, k, v, tile=512)
checks.shape(out, (8192, 4), what="the output for 8192 queries")
rows = torch.randint(8192, (16,), generator=generator)
checks.close(
    out[rows],
    attention(q[rows], k, v),
    what="the output for 8192 queries, at 16 of them,",
    hint="a long sequence gets the same numbers as a short one",
)


# %% check="tiled_attention__causal" points=1
# Hidden: the causal mask at other sizes, T above S and below; and its memory.
### BEGIN HIDDEN TESTS
from lookback.efficient.tiled import online_softmax as _softmax_step

generator = torch.Generator().manual_seed(3)
for T, S, tile in [(7, 7, 3), (5, 8, 2), (8, 5, 3), (6, 6, 6), (6, 6, 20), (4, 4, 1)]:
    q, k, v = (torch.randn(2, n, 4, generator=generator) for n in (T, S, S))
    near = torch.arange(S) - torch.arange(T)[:, None]  # j − i
    with (
        checks.case(f"causal=True, T = {T}, S = {S}, tile = {tile}"),
        checks.given(online_softmax=_softmax_step),
    ):
        checks.close(
            tiled_attention(q, k, v, causal=True, tile=tile),
            attention(q, k, v, near <= 0),
            what="the output",
            suspects={
                "causal is ignored": attention(q, k, v),
                "the last query was lined up with the last key; query i sees j ≤ i": attention(
                    q, k, v, near <= max(S - T, 0)
                ),
            },
            hint="a tile's mask compares positions in the whole sequence, not within the tile",
        )
q, k, v = (torch.randn(8192, 4, generator=generator) for _ in range(3))
with (
    checks.case("causal=True, 8192 queries and keys of width 4, tile=512"),
    checks.given(online_softmax=_softmax_step),
    torch.no_grad(),
    checks.memory(
        56,
        told="right numbers, but memory grew with T·S under causal=True",
        hint="the mask of all pairs has 64 MiB: make the mask of a tile from its positions",
    ),
):
    out = tiled_attention(q, k, v, causal=True, tile=512)
checks.shape(out, (8192, 4), what="the output for 8192 queries under causal=True")
rows = torch.randint(8192, (16,), generator=generator)
checks.close(
    out[rows],
    attention(q[rows], k, v, torch.arange(8192) <= rows[:, None]),
    what="the output for 8192 queries under causal=True, at 16 of them,",
    hint="a long sequence gets the same numbers as a short one",
)
### END HIDDEN TESTS


# %% check="tiled_attention__inputs" points=1
# Hidden: batch axes, V unlike K, strided inputs, one key, large scores, other formats.
### BEGIN HIDDEN TESTS
from lookback.efficient.tiled import online_softmax as _softmax_step

generator = torch.Generator().manual_seed(4)
for batch, T, S, V, scale, dtype in [
    ((), 1, 9, 3, 1, torch.float64),
    ((2,), 9, 1, 1, 1, torch.float32),
    ((2, 3), 5, 6, 7, 1, torch.float64),
    ((3, 1, 2), 6, 5, 4, 1, torch.float32),
    ((), 6, 9, 4, 1000, torch.float64),
    ((2,), 9, 9, 4, 1, torch.bfloat16),
]:
    q, k = (torch.randn(*batch, 4, n, generator=generator).mT.to(dtype) for n in (T, S))
    q, v = q * scale, torch.randn(*batch, S, V, generator=generator).to(dtype)
    with (
        checks.case(
            f"batch {batch}, T = {T}, S = {S}, V = {V}, {dtype}, scores of size {scale}",
            "count axes from the end; new tensors need the dtype of q and the width of v",
        ),
        checks.given(online_softmax=_softmax_step),
        checks.unchanged(q=q, k=k, v=v),
    ):
        checks.close(
            tiled_attention(q, k, v, tile=4),
            attention(q.double(), k.double(), v.double()).to(dtype),
            what="the output",
            hint="count axes from the end; new tensors need the dtype of q and the width of v",
        )
### END HIDDEN TESTS

# %% [markdown] task="attention_backward" difficulty=3 minutes=14
# ## Backwards, without having kept the weights
#
# Attention in tiles throws the weights $P$ away, and the backward pass needs them. It makes them
# again: the forward pass keeps the output $O$ and one number a row, the log-sum-exp
# $L_i = \ln \sum_j e^{s_{ij}}$ of its scores, and then
#
# $$S = \frac{Q K^\top}{\sqrt K} \qquad P = e^{S - L} \qquad
# dV = P^\top dO \qquad dP = dO\, V^\top$$
#
# $$D = \mathrm{rowsum}(dO \circ O) \qquad dS = P \circ (dP - D) \qquad
# dQ = \frac{dS\, K}{\sqrt K} \qquad dK = \frac{dS^\top Q}{\sqrt K}$$
#
# (Dao et al. 2022, algorithm 4; $\circ$ multiplies entry by entry, and the $K$ under the root is
# the width of a key.) Write it with the full matrix:
#
# ```python
# attention_backward(grad, q, k, v, out, L)  # -> dq, dk, dv
# #  grad, out (*batch, T, V)    L (*batch, T)
# #  q (*batch, T, K)   k (*batch, S, K)   v (*batch, S, V)
# ```
#
# One query of width 1 and two keys with equal scores, so $P = (\tfrac12, \tfrac12)$ and $L = \ln
# 2$:
#
# ```python
# q, k, v = torch.tensor([[0.0]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([[4.0], [0.0]])
# out, L, grad = torch.tensor([[2.0]]), torch.tensor([0.6931]), torch.tensor([[1.0]])
# attention_backward(grad, q, k, v, out, L)
# # dP = (4, 0)   D = 1·2 = 2   dS = (½·2, ½·(−2)) = (1, −1)
# # dq = 1·1 + (−1)·(−1) = 2      dk = (1·0, −1·0) = (0, 0)      dv = (½, ½)
# ```
#
# **`out` and `L` belong to the whole row**, and so does $D$. That is what makes tiles possible:
# given only *some* of the keys and values, but `out` and `L` of all, your function returns the
# gradients of those keys and values, and their part of `dq`. So no softmax over the keys at hand,
# and no automatic differentiation: both would take the part for the whole. A hidden check makes two
# such calls and joins what comes back.
#
# <details><summary>Hint 1</summary>
#
# `L` and $D$ are one number a row: `[..., None]` and `sum(-1, keepdim=True)` make columns of them.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $e^{S} / e^{L}$ is the same as $e^{S - L}$ on paper only.
#
# </details>


# %% answer="attention_backward"
def attention_backward(grad, q, k, v, out, L):
    """Gradients of attention, with its weights made again (Dao et al. 2022, algorithm 4).

    Args:
        grad: gradient of the output (*batch, T, V).
        q: queries (*batch, T, K).
        k: keys (*batch, S, K), all of them or some.
        v: their values (*batch, S, V).
        out: output over all keys there are (*batch, T, V).
        L: log-sum-exp of each row of scaled scores over all keys there are (*batch, T).

    Returns:
        Gradients of q (the part that comes from these keys), k and v, in their shapes.
    """
    ### BEGIN SOLUTION
    scale = q.shape[-1] ** -0.5
    P = (q @ k.mT * scale - L[..., None]).exp()  # *batch T S
    dv = P.mT @ grad
    dP = grad @ v.mT
    D = (grad * out).sum(-1, keepdim=True)  # *batch T 1
    dS = P * (dP - D) * scale
    return dS @ k, dS.mT @ q, dv
    ### END SOLUTION


# %% check="attention_backward__by_hand" points=1
q, k = torch.tensor([[0.0], [2.0], [0.0]]), torch.tensor([[1.0], [-1.0]])
v, grad = torch.tensor([[4.0], [0.0]]), torch.tensor([[1.0], [3.0], [2.0]])
with checks.case(
    "three queries, two keys, K = V = 1: the example, a query 2 with gradient 3, a query 0 with "
    "gradient 2",
    "L and D are one number a query: make columns of them, L[..., None] and keepdim=True",
):
    found = attention_backward(grad, q, k, v, attention(q, k, v), (q @ k.mT).logsumexp(-1))
    # row 1: P = (a, 1 − a) with a = e²/(e² + e⁻²), and dS = ±3 · a · 4 · (1 − a)
    a = torch.tensor(4.0).sigmoid()
    slope = 12 * a * (1 - a)
    expected = {
        "dq": [2.0, 2 * slope, 4.0],
        "dk": [2 * slope, -2 * slope],
        "dv": [1.5 + 3 * a, 1.5 + 3 * (1 - a)],
    }
    without_D = {"dq": [2.0, 12 * a, 4.0], "dk": [24 * a, 0.0]} | {"dv": expected["dv"]}
    without_P = {"dq": [4.0, 12.0, 8.0], "dk": [24 * (1 - a), -24 * a]} | {"dv": expected["dv"]}
    for name, gradient in zip(expected, found, strict=True):
        checks.close(
            gradient,
            torch.tensor(expected[name])[:, None],
            what=name,
            suspects={
                "the sign is wrong": -torch.tensor(expected[name])[:, None],
                "D is missing: dS = P ∘ (dP − D), not P ∘ dP": torch.tensor(without_D[name])[
                    :, None
                ],
                "P is missing: dS = P ∘ (dP − D)": torch.tensor(without_P[name])[:, None],
            },
            hint="of the first query alone: dP = (4, 0), D = 2, dS = (1, −1), dq = 2, dv = (½, ½)",
        )

# %% check="attention_backward__autograd" points=1
generator = torch.Generator().manual_seed(1)
for batch, T, S, K, V in [((), 3, 5, 4, 2), ((2, 3), 4, 3, 9, 5)]:
    q, k, v, grad = (
        torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)
        for shape in [(T, K), (S, K), (S, V), (T, V)]
    )
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    expected = torch.autograd.grad(attention(*leaves), leaves, grad)
    scores = q @ k.mT / K**0.5
    with (
        checks.case(
            f"batch {batch}, T = {T}, S = {S}, K = {K}, V = {V}, float64",
            "L and D are columns: L[..., None], keepdim=True; k.mT swaps the last two axes",
        ),
        checks.unchanged(grad=grad, q=q, k=k, v=v),
    ):
        found = attention_backward(grad, q, k, v, attention(q, k, v), scores.logsumexp(-1))
        P, dP = scores.softmax(-1), grad @ v.mT
        bare = (q @ k.mT - scores.logsumexp(-1, keepdim=True)).exp()
        # dv first: it needs P alone
        for name, gradient, wanted in zip(
            ("dv", "dk", "dq"), reversed(found), reversed(expected), strict=True
        ):
            checks.close(
                gradient,
                wanted,
                what=name,
                suspects={
                    "the factor 1/√K is missing": wanted * K**0.5,
                    "the factor 1/√K is there twice": wanted / K**0.5,
                    "L was not subtracted from the scores: P = exp(S − L)": {
                        "dv": scores.exp().mT @ grad
                    }.get(name, wanted),
                    "the scores behind P were not divided by √K": {"dv": bare.mT @ grad}.get(
                        name, wanted
                    ),
                    "D is the row's sum of dP; it is rowsum(dO ∘ O)": {
                        "dq": (P * (dP - dP.sum(-1, keepdim=True))) @ k / K**0.5,
                        "dk": (P * (dP - dP.sum(-1, keepdim=True))).mT @ q / K**0.5,
                    }.get(name, wanted),
                    "D is the row's mean of dO ∘ O; it is the sum": {
                        "dk": (P * (dP - (grad * attention(q, k, v)).mean(-1, keepdim=True))).mT
                        @ q
                        / K**0.5,
                    }.get(name, wanted),
                    "the values went in, but dV = Pᵀ dO": {"dv": P.mT @ attention(q, k, v)}.get(
                        name, wanted
                    ),
                },
                hint="compare with torch, which can differentiate attention(q, k, v), and look "
                "which of dv, dq, dk is off first",
            )

# %% check="attention_backward__part" points=1
# Hidden: some of the keys, with out and L of all: the parts must add up to the whole.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
q, k, v, grad = (
    torch.randn(*shape, generator=generator, dtype=torch.float64)
    for shape in [(3, 4), (7, 4), (7, 2), (3, 2)]
)
leaves = [x.clone().requires_grad_() for x in (q, k, v)]
expected = torch.autograd.grad(attention(*leaves), leaves, grad)
out, L = attention(q, k, v), (q @ k.mT / 2).logsumexp(-1)
with checks.case("keys 0–3 and keys 4–6 of 7 in two calls, out and L of all 7"):
    parts = [attention_backward(grad, q, k[a:b], v[a:b], out, L) for a, b in ((0, 4), (4, 7))]
    hint = (
        "P = exp(S − L) and D = rowsum(dO ∘ O) with the L and out that were given: a softmax over "
        "the keys at hand, or a D made of them, takes the part for the whole"
    )
    for i, name in ((2, "dv"), (1, "dk")):
        found = torch.cat([part[i] for part in parts])
        checks.close(found, expected[i], what=f"{name} of the two calls, joined,", hint=hint)
    checks.close(
        parts[0][0] + parts[1][0], expected[0], what="dq of the two calls, added,", hint=hint
    )
### END HIDDEN TESTS

# %% check="attention_backward__inputs" points=1
# Hidden: large scores, single queries and keys, strided inputs, float32.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
for T, S, size, dtype in [
    (4, 6, 1000, torch.float64),
    (1, 5, 1, torch.float32),
    (5, 1, 1, torch.float32),
    (3, 3, 1, torch.float64),
]:
    q, k, v, grad = (
        torch.randn(2, *shape, generator=generator).to(dtype).mT
        for shape in [(4, T), (4, S), (4, S), (4, T)]
    )
    q = q * size
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    expected = torch.autograd.grad(attention(*leaves), leaves, grad)
    with checks.case(f"T = {T}, S = {S}, K = V = 4, scores of size {size}, {dtype}"):
        L = (q @ k.mT / 2).logsumexp(-1)
        found = attention_backward(grad, q, k, v, attention(q, k, v), L)
        for name, gradient, wanted in zip(("dq", "dk", "dv"), found, expected, strict=True):
            checks.close(
                gradient,
                wanted,
                what=name,
                hint="exp(1000) is infinite: subtract L before the exponential",
                rtol=1e-4,
                atol=1e-5,
            )
### END HIDDEN TESTS

# %% [markdown] task="window_attention" difficulty=2 minutes=14
# ## Only the neighbours
#
# Query `i` sees the keys at a distance below `width`: `|i − j| < width`, its own position
# counted. With `causal=True` it sees those that are not after it: `0 ≤ i − j < width` (Beltagy et
# al. 2020).
#
# ```python
# window_attention(q, k, v, width, causal=False)
# #  q (*batch, T, K)   k (*batch, T, K)   v (*batch, T, V)   ->   (*batch, T, V)
# ```
#
# With equal scores each output is the mean of the values in the window:
#
# ```python
# zeros, v = torch.zeros(4, 1), torch.tensor([[0.0], [2.0], [4.0], [12.0]])
# window_attention(zeros, zeros, v, width=2)                # [[1.], [2.], [6.], [8.]]
# window_attention(zeros, zeros, v, width=2, causal=True)   # [[0.], [1.], [3.], [8.]]
# ```
#
# At the ends the window is cut off; the weights of what is left sum to 1. A width beyond `T` is
# full attention.
#
# **Memory and work are measured.** 8192 tokens with a width of 16 get 40 MiB: no table of all
# pairs. Then 16 times the tokens may take about 16 times the work, not 256: no going through all
# pairs in pieces either. The longest sequence has 16384 tokens, and the numbers count there too.
#
# <details><summary>Hint 1</summary>
#
# Take the queries in blocks of some tens. All keys that a block can reach lie side by side: they
# are one slice of `k`, from `width − 1` before the block to `width − 1` after it. A slice that
# starts below 0 counts from the end: `max(0, start)`. The small table of block and slice still
# needs its mask.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Or let torch make the windows: `k.unfold(-2, width, 1)` shows `k` as `T − width + 1` windows,
# without a copy. What then sticks out at the ends is padding, and has to be closed.
#
# </details>


# %% answer="window_attention"
def window_attention(q, k, v, width, causal=False):
    """Attention to keys at a distance below width, at a cost of T · width.

    Args:
        q: queries (*batch, T, K).
        k: keys (*batch, T, K).
        v: values (*batch, T, V).
        width: keys within reach on one side, the query's own position counted; at least 1.
        causal: whether keys after the query are closed.

    Returns:
        One weighted sum of values a query, (*batch, T, V).
    """
    ### BEGIN SOLUTION
    T = q.shape[-2]
    width = min(width, T)
    ahead = 0 if causal else width - 1
    block = max(width, 32)
    out = []
    for start in range(0, T, block):
        stop = min(start + block, T)
        low, high = max(start - (width - 1), 0), min(stop + ahead, T)
        distance = torch.arange(start, stop)[:, None] - torch.arange(low, high)  # i − j
        near = (distance < width) & (distance >= -ahead)
        q_i, k_i, v_i = q[..., start:stop, :], k[..., low:high, :], v[..., low:high, :]
        out.append(attention(q_i, k_i, v_i, near))
    return torch.cat(out, -2)
    ### END SOLUTION


# %% check="window_attention__by_hand" points=1
zeros, v = torch.zeros(5, 1), torch.tensor([[0.0], [2.0], [4.0], [12.0], [6.0]])
distance = torch.arange(5)[:, None] - torch.arange(5)


def _mean(near):
    return attention(zeros, zeros, v, near)


for causal in (False, True):
    past = distance >= 0 if causal else torch.ones(5, 5).bool()
    other = torch.ones(5, 5).bool() if causal else distance >= 0
    with checks.case(
        f"equal scores, values 0, 2, 4, 12, 6, width=2, causal={causal}",
        "a slice that starts below 0 counts from the end: max(0, start)",
    ):
        padded = _mean((distance.abs() < 2) & past) * (
            ((distance.abs() < 2) & past).sum(-1, keepdim=True) / (2 if causal else 3)
        )
        checks.close(
            window_attention(zeros, zeros, v, 2, causal=causal),
            _mean((distance.abs() < 2) & past),
            what="the output",
            suspects={
                "the window is one too wide: the distance is below width, not up to it": _mean(
                    (distance.abs() <= 2) & past
                ),
                "before the query it is one too wide: i − j stays below width": _mean(
                    (distance <= 2) & (distance > -2) & past
                ),
                "after the query it is one too wide: j − i stays below width": _mean(
                    (distance < 2) & (distance >= -2) & past
                ),
                "the window is one too narrow: width counts the query's own position": _mean(
                    (distance.abs() < 1) & past
                ),
                "causal is ignored" if causal else "it is causal without being asked": _mean(
                    (distance.abs() < 2) & other
                ),
                "it sees the keys after the query, not those before it": _mean(
                    (distance <= 0) & (distance > -2)
                ),
                "every key is open": _mean(torch.ones(5, 5).bool()),
                "query 0 found no key: a slice that starts below 0 counts from the end": (
                    _mean((distance.abs() < 2) & past).index_fill(0, torch.tensor([0]), 0.0)
                ),
                "padding beyond the ends got a share of the weight": padded,
                "keys from the other end come in: windows do not wrap around": torch.stack(
                    [v.roll(n, 0) for n in ((0, 1) if causal else (-1, 0, 1))]
                ).mean(0),
                "the blocks do not see beyond their own edge": _mean(
                    (distance.abs() < 2)
                    & past
                    & (torch.arange(5)[:, None] // 2 == torch.arange(5) // 2)
                ),
            },
            hint="with width 2 query 1 sees keys 0, 1 and 2, and under causal=True 0 and 1",
        )

# %% check="window_attention__cost" points=2
generator = torch.Generator().manual_seed(1)
runs = []


def _run(T):
    q, k, v = (torch.randn(T, 4, generator=generator) for _ in range(3))
    runs.append((q, k, v, window_attention(q, k, v, 16)))


with checks.case(
    "200 tokens, width=16",
    "a slice that starts below 0 counts from the end; the last block may be shorter",
):
    _run(200)
    q, k, v, out = runs[0]
    near = (torch.arange(200)[:, None] - torch.arange(200)).abs() < 16
    checks.close(out, attention(q, k, v, near), what="the output")
with (
    checks.case("8192 tokens of width 4, width=16"),
    torch.no_grad(),
    checks.memory(
        40,
        told="right numbers, but memory grew with T²: 8192 × 8192 scores take 256 MiB",
        hint="no table of all pairs, not even a mask: slice out the keys that a block can reach",
    ),
):
    _run(8192)
# the ratio at 8192 tokens, and at 16384 no more than the seconds that are ample for any right way
for T, slack, seconds in [(8192, 2.5, None), (16384, 30.0, 1.5)]:
    with checks.case(f"width=16, from 512 to {T} tokens"), torch.no_grad():
        checks.growth(
            _run,
            (512, T),
            told="right numbers in little memory, but work grew with T²",
            hint="each block of queries may look at the keys that it can reach and at no others",
            slack=slack,
            seconds=seconds,
        )
for q, k, v, out in runs:
    checks.shape(out, q.shape, what=f"the output for {len(q)} tokens")
    rows = torch.randint(len(q), (16,), generator=generator)
    checks.close(
        out[rows],
        attention(q[rows], k, v, (rows[:, None] - torch.arange(len(q))).abs() < 16),
        what=f"the output for {len(q)} tokens, at 16 of them,",
        hint="a long sequence gets the same numbers as a short one",
    )

# %% check="window_attention__edges" points=1
# Hidden: a key at distance width changes nothing, one at width − 1 does.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
for T, width, causal in [
    (60, 5, True),
    (60, 5, False),
    (90, 33, True),
    (90, 33, False),
    (40, 1, False),
]:
    q, k, v = (torch.randn(T, 4, generator=generator) for _ in range(3))
    with checks.case(f"T = {T}, width = {width}, causal = {causal}"):
        before = window_attention(q, k, v, width, causal=causal)
        for j in (0, 28, 31, T - 1):
            changed = v.clone()
            changed[j] += 100.0
            after = window_attention(q, k, changed, width, causal=causal)
            distance = torch.arange(T) - j
            open_ = (distance.abs() < width) & (distance >= 0 if causal else distance == distance)
            checks.unmoved(
                before[~open_],
                after[~open_],
                what="the output of a query",
                when=f"the value of key {j} changed, which lies outside its window",
                hint="the distance is below width on either side",
            )
            for i in (int(open_.nonzero()[0]), int(open_.nonzero()[-1])):
                checks.moved(
                    before[i],
                    after[i],
                    what=f"the output of query {i}",
                    when=f"the value of key {j} changed, which lies inside its window",
                    hint="at a distance of width − 1 a key is open, also beyond a block's edge",
                )
### END HIDDEN TESTS

# %% check="window_attention__inputs" points=1
# Hidden: batch axes, V unlike K, widths beyond T, strided inputs, large scores, gradients.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
for batch, T, V, width, causal, size in [
    ((2,), 7, 3, 3, True, 1),
    ((2, 3), 70, 5, 4, False, 1),
    ((), 1, 4, 2, True, 1),
    ((3,), 6, 1, 6, False, 1),
    ((), 9, 2, 50, False, 1),
    ((2,), 9, 2, 50, True, 1000),
]:
    q, k = (
        torch.randn(*batch, 4, T, generator=generator, dtype=torch.float64).mT for _ in range(2)
    )
    v = torch.randn(*batch, T, V, generator=generator, dtype=torch.float64)
    q = q * size
    leaves = {name: x.clone().requires_grad_() for name, x in zip("qkv", (q, k, v), strict=True)}
    distance = torch.arange(T)[:, None] - torch.arange(T)
    near = (distance.abs() < width) & (distance >= 0 if causal else distance == distance)
    with (
        checks.case(
            f"batch {batch}, T = {T}, V = {V}, width = {width}, causal = {causal}, float64",
            "count axes from the end: tokens are -2",
        ),
        checks.unchanged(q=q, k=k, v=v),
    ):
        checks.close(
            window_attention(q, k, v, width, causal=causal),
            attention(q, k, v, near),
            what="the output",
            hint="count axes from the end; at the ends of the sequence the window is cut off",
        )
        checks.gradients(
            window_attention(*leaves.values(), width, causal=causal),
            attention(*leaves.values(), near),
            leaves,
            what="the output",
        )
### END HIDDEN TESTS

# %% [markdown] task="linear_attention" difficulty=3 minutes=16
# ## One equation in three forms
#
# Replace $e^{q \cdot k}$ by a product of features $\varphi(q) \cdot \varphi(k)$ with $\varphi(x)
# = \mathrm{elu}(x) + 1$, which is positive (Katharopoulos et al. 2020). The causal output is
#
# $$o_i = \frac{\sum_{j \le i} \varphi(q_i) \cdot \varphi(k_j)\; v_j}
# {\sum_{j \le i} \varphi(q_i) \cdot \varphi(k_j)}
# = \frac{\varphi(q_i)^\top S_i}{\varphi(q_i)^\top z_i}, \qquad
# S_i = S_{i-1} + \varphi(k_i)\, v_i^\top, \quad z_i = z_{i-1} + \varphi(k_i)$$
#
# ```python
# linear_attention(q, k, v, form="chunked", chunk=64)
# #  q (*batch, T, K)   k (*batch, T, K)   v (*batch, T, V)   ->   (*batch, T, V)
# ```
#
# - `form="parallel"`: the `T × T` table of products, with zeros above the diagonal.
# - `form="recurrent"`: one token after the other, with the state $S$ (`K × V`) and $z$ (`K`).
#   There is no table at all.
# - `form="chunked"`: `chunk` tokens at a time. Inside a chunk as in parallel; what came before it
#   is in the state, which each chunk hands on to the next. The last chunk may be shorter.
#
# All three return the same. With `q = 0` and `k = 0` every feature is 1 and the output is the
# mean of the values so far; with a key of 1 that key counts twice, for $\mathrm{elu}(1) + 1 = 2$:
#
# ```python
# zeros, v = torch.zeros(3, 1), torch.tensor([[6.0], [3.0], [9.0]])
# linear_attention(zeros, zeros, v)                                      # [[6.], [4.5], [6.]]
# linear_attention(zeros, torch.tensor([[0.0], [1.0], [0.0]]), v)        # [[6.], [4.0], [5.25]]
# ```
#
# **Memory is measured**: recurrent and chunked get 8192 tokens of width 4, and 40 MiB.
#
# <details><summary>Hint 1</summary>
#
# `F.elu(x) + 1`. There is no $\sqrt K$ here and no exponential, so no maximum to subtract either.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Put a column of ones beside the values: the state then carries $S$ and $z$ together, and the last
# column of the result is what to divide by, in all three forms.
#
# </details>


# %% answer="linear_attention"
def linear_attention(q, k, v, form="chunked", chunk=64):
    """Causal linear attention with elu(x) + 1 as features (Katharopoulos et al. 2020, eq. 9).

    Args:
        q: queries (*batch, T, K).
        k: keys (*batch, T, K).
        v: values (*batch, T, V).
        form: "parallel", "recurrent" or "chunked": the same numbers at another cost.
        chunk: tokens in a chunk.

    Returns:
        One weighted sum of values a query, (*batch, T, V).
    """
    ### BEGIN SOLUTION
    q, k = F.elu(q) + 1, F.elu(k) + 1
    v = torch.cat([v, torch.ones_like(v[..., :1])], -1)  # the column of ones sums the weights
    state = k.new_zeros(*k.shape[:-2], k.shape[-1], v.shape[-1])  # *batch K V+1
    if form == "parallel":
        out = (q @ k.mT).tril() @ v
    elif form == "recurrent":
        rows = []
        for q_t, k_t, v_t in zip(q.split(1, -2), k.split(1, -2), v.split(1, -2), strict=True):
            state = state + k_t.mT @ v_t
            rows.append(q_t @ state)
        out = torch.cat(rows, -2)
    else:
        rows = []
        for q_c, k_c, v_c in zip(
            q.split(chunk, -2), k.split(chunk, -2), v.split(chunk, -2), strict=True
        ):
            rows.append((q_c @ k_c.mT).tril() @ v_c + q_c @ state)
            state = state + k_c.mT @ v_c
        out = torch.cat(rows, -2)
    return out[..., :-1] / out[..., -1:]
    ### END SOLUTION


# %% check="linear_attention__parallel" points=1
q, k = torch.tensor([[0.0], [0.0], [-1.0]]), torch.tensor([[0.0], [1.0], [-2.0]])
v = torch.tensor([[6.0], [3.0], [9.0]])
past = torch.ones(3, 3).tril()


def _linear(phi, table=past):
    weights = (phi(q) @ phi(k).mT) * table
    return weights @ v / weights.sum(-1, keepdim=True)


def _features(x):
    return F.elu(x) + 1


weights = (_features(q) @ _features(k).mT) * past
with checks.case('q = (0, 0, −1), k = (0, 1, −2), v = (6, 3, 9), form="parallel"'):
    checks.close(
        linear_attention(q, k, v, form="parallel"),
        _linear(_features),
        what="the output",
        suspects={
            "the sums of weighted values were not divided by the sums of weights": weights @ v,
            "it was divided by the number of keys, not by the sum of their weights": (
                weights @ v / past.sum(-1, keepdim=True)
            ),
            "it is not causal: later keys are summed up as well": _linear(
                _features, torch.ones(3, 3)
            ),
            "the query's own key is missing from its sum": (weights.tril(-1) @ v)
            / weights.tril(-1).sum(-1, keepdim=True),
            "the + 1 is missing: elu(x) + 1": _linear(F.elu),
            "the features are relu(x) + 1": _linear(lambda x: F.relu(x) + 1),
            "the features are exp(x); elu(x) + 1 grows like x + 1": _linear(torch.exp),
            "the features are relu(x)": _linear(F.relu),
            "there is a softmax: the weights are the products of features themselves": (
                (_features(q) @ _features(k).mT).masked_fill(past == 0, float("-inf")).softmax(-1)
                @ v
            ),
            "softmax attention came out; the weights are products of features": attention(
                q, k, v, past.bool()
            ),
            "all queries are divided by the sum of weights of the last one": (
                weights @ v / weights.sum(-1)[-1]
            ),
        },
        hint="features of k are 1, 2 and e⁻² = 0.135; query 1 weighs its keys 1 and 2",
    )

# %% check="linear_attention__forms" points=1
generator = torch.Generator().manual_seed(1)
q, k, v = (torch.randn(2, 11, n, generator=generator, dtype=torch.float64) for n in (3, 3, 2))
phi_q, phi_k = F.elu(q) + 1, F.elu(k) + 1
past = torch.ones(11, 11, dtype=torch.float64).tril()
part = torch.arange(11)[:, None] // 4 == torch.arange(11) // 4  # the same chunk of 4


def _weighted(table, over=None):
    weights = (phi_q @ phi_k.mT) * table
    mass = weights if over is None else (phi_q @ phi_k.mT) * over
    return weights @ v / mass.sum(-1, keepdim=True)


wrong = {
    "each chunk stands alone: it does not see what came before it": past * part,
    "what is inside a chunk is counted twice: the state that a chunk finds is the one before it": (
        past + past * part + part * past.mT - part * past * past.mT
    ),
    "inside a chunk later keys are seen": past + part * (1 - past),
    "inside a chunk nothing is seen: only what came before it": past * ~part,
    "each token sees only itself: is the state carried on?": torch.eye(11).double(),
    "a token does not see itself: write into the state, then read": past.tril(-1),
    "only the chunk just before is carried on, not all of them": past
    * (torch.arange(11)[:, None] // 4 - torch.arange(11) // 4 < 2),
}
for form in ("parallel", "recurrent", "chunked"):
    with checks.case(
        f'11 tokens, form="{form}", chunk=4',
        "count axes from the end; new tensors take the dtype of k; the last chunk has 3 tokens",
    ):
        checks.close(
            linear_attention(q, k, v, form=form, chunk=4),
            _weighted(past),
            what="the output",
            suspects={diagnosis: _weighted(table) for diagnosis, table in wrong.items()}
            | {
                "the sum of weights is that of the chunk alone; z is carried on like S": _weighted(
                    past, past * part
                ),
                "it was not divided by the sum of weights": ((phi_q @ phi_k.mT) * past) @ v,
                "the last chunk, which is shorter, is missing": _weighted(past)[:, :8],
            },
            hint="token 5 stands in the chunk of tokens 4–7: it sees 4 and 5 there, and 0–3 "
            "through the state",
        )

# %% check="linear_attention__state" points=1
generator = torch.Generator().manual_seed(2)
q, k, v = (torch.randn(8192, 4, generator=generator) for _ in range(3))
for form in ("recurrent", "chunked"):
    with (
        checks.case(f'8192 tokens of width 4, form="{form}"', "count axes from the end"),
        torch.no_grad(),
        checks.memory(
            40,
            told="memory grew with T²: 8192 × 8192 products take 256 MiB",
            hint="only the parallel form has the table of all pairs; this one carries a state (and "
            "counts axes from the end: there is no batch axis here)",
        ),
    ):
        out = linear_attention(q, k, v, form=form)
    checks.shape(out, (8192, 4), what=f'the output for 8192 tokens, form="{form}",')
    rows = torch.randint(8192, (16,), generator=generator)
    weights = (F.elu(q[rows].double()) + 1) @ (F.elu(k.double()) + 1).mT
    weights = weights * (torch.arange(8192) <= rows[:, None])
    checks.close(
        out[rows],
        (weights @ v.double() / weights.sum(-1, keepdim=True)).float(),
        what=f'the output for 8192 tokens, form="{form}", at 16 of them,',
        hint="a long sequence gets the same numbers as a short one",
        atol=1e-4,
    )

# %% check="linear_attention__future" points=1
# Hidden: what comes later changes nothing, in any form; constant values come back.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
q, k, v = (torch.randn(3, 70, 4, generator=generator) for _ in range(3))
later = [torch.cat([x[:, :40], torch.randn(3, 30, 4, generator=generator)], 1) for x in (q, k, v)]
for form, chunk in [
    ("parallel", 64),
    ("recurrent", 64),
    ("chunked", 64),
    ("chunked", 7),
    ("chunked", 1),
]:
    with checks.case(
        f'70 tokens, form="{form}", chunk={chunk}',
        "S is K × V and z has K numbers; the last chunk may be shorter",
    ):
        before = linear_attention(q, k, v, form=form, chunk=chunk)
        checks.unmoved(
            before[:, :40],
            linear_attention(*later, form=form, chunk=chunk)[:, :40],
            what="the output of tokens 0 to 39",
            when="later tokens changed",
        )
        checks.close(
            linear_attention(q, k, torch.ones(3, 70, 2), form=form, chunk=chunk),
            torch.ones(3, 70, 2),
            what="the output where every value is 1",
            hint="weights that sum to 1 give a constant back",
        )
### END HIDDEN TESTS

# %% check="linear_attention__inputs" points=1
# Hidden: batch axes, V unlike K, one token, float64, strided inputs, gradients.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(4)
for batch, T, K, V in [((), 1, 3, 2), ((2, 3), 9, 2, 5), ((), 6, 4, 1), ((1, 2, 2), 5, 3, 3)]:
    q, k, v = (
        torch.randn(*batch, n, T, generator=generator, dtype=torch.float64).mT for n in (K, K, V)
    )
    leaves = {name: x.clone().requires_grad_() for name, x in zip("qkv", (q, k, v), strict=True)}
    for form in ("parallel", "recurrent", "chunked"):
        weights = ((F.elu(leaves["q"]) + 1) @ (F.elu(leaves["k"]) + 1).mT).tril()
        expected = weights @ leaves["v"] / weights.sum(-1, keepdim=True)
        with (
            checks.case(
                f'batch {batch}, T = {T}, K = {K}, V = {V}, form="{form}", chunk=4, float64',
                "count axes from the end; S is K × V, and K and V differ",
            ),
            checks.unchanged(q=q, k=k, v=v),
        ):
            checks.close(
                linear_attention(q, k, v, form=form, chunk=4),
                expected.detach(),
                what="the output",
                hint="count axes from the end; new tensors need the dtype of k",
            )
            checks.gradients(
                linear_attention(*leaves.values(), form=form, chunk=4),
                expected,
                leaves,
                what="the output",
            )
### END HIDDEN TESTS

# %% [markdown] task="random_features" difficulty=2 minutes=10
# ## The softmax kernel, by chance
#
# Linear attention with elu is another function than softmax attention. Random features estimate the
# real one: for a Gaussian $\omega$
#
# $$e^{q \cdot k} = \mathbb{E}\bigl[\varphi_\omega(q)\, \varphi_\omega(k)\bigr], \qquad
# \varphi_\omega(x) = e^{\omega \cdot x - \lVert x \rVert^2 / 2}$$
#
# (Choromanski et al. 2021, lemma 1). With `m` draws, each a row of `omega`, the mean over them is
# better. Put the $1/m$ of the mean into the features, half on either side:
#
# ```python
# random_features(x, omega)   # x (*batch, T, K)   omega (m, K)   ->   (*batch, T, m)
# ```
#
# so that `random_features(q, omega) @ random_features(k, omega).mT` estimates $e^{q \cdot k}$,
# for every pair, and is right on average.
#
# ```python
# x, omega = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
# random_features(x, omega)
# # ω·x = (2, 0)   ‖x‖²/2 = 2   exp(0) = 1 and exp(−2) = 0.135   over √2: [[0.7071, 0.0957]]
# ```
#
# Nothing is divided by $\sqrt K$ here: who wants attention's scale puts it into `q` and `k`
# beforehand.
#
# The variance is known, too: $e^{2 q \cdot k}\bigl(e^{\lVert q + k \rVert^2} - 1\bigr) / m$. A
# hidden check holds your features to it.
#
# <details><summary>Hint</summary>
#
# `x @ omega.mT` has shape `(*batch, T, m)`; the norm is one number a token, so keep its axis.
# Take one exponential of the difference: $e^{\omega \cdot x}$ alone may be infinite.
#
# </details>


# %% answer="random_features"
def random_features(x, omega):
    """Positive random features of the softmax kernel (Choromanski et al. 2021, lemma 1).

    Args:
        x: queries or keys (*batch, T, K).
        omega: Gaussian draws, one a row (m, K).

    Returns:
        Features (*batch, T, m); products of two rows estimate exp(q·k) without bias.
    """
    ### BEGIN SOLUTION
    exponent = x @ omega.mT - x.square().sum(-1, keepdim=True) / 2  # *batch T m
    return exponent.exp() / omega.shape[0] ** 0.5
    ### END SOLUTION


# %% check="random_features__by_hand" points=1
x = torch.tensor([[2.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.0, 2.0]])
omega = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0], [0.5, 0.0, 3.0, -1.0]])
product = torch.tensor([[2.0, 0.0, 1.0], [1.0, 1.0, -1.5]])
square = torch.tensor([[4.0], [6.0]])
right = (product - square / 2).exp() / 3**0.5
with (
    checks.case("2 tokens, K = 4, m = 3", "‖x‖² is one number a token: keepdim=True"),
    checks.unchanged(x=x, omega=omega),
):
    checks.close(
        random_features(x, omega),
        right,
        what="the result",
        suspects={
            "the term ‖x‖²/2 is missing": product.exp() / 3**0.5,
            "‖x‖² was not halved": (product - square).exp() / 3**0.5,
            "the norm was not squared: ‖x‖²/2": (product - square.sqrt() / 2).exp() / 3**0.5,
            "‖x‖²/2 was added; it is subtracted": (product + square / 2).exp() / 3**0.5,
            "the norm of ω was taken, not that of x": (
                (product - omega.square().sum(-1) / 2).exp() / 3**0.5
            ),
            "they were not divided by √m": right * 3**0.5,
            "they were divided by m: q and k bring one √m each": right / 3**0.5,
            "they were divided by √K: the root is of m, the number of draws": right * 3**0.5 / 2,
            "ω·x was divided by √K; no scale belongs here": (
                (product / 2 - square / 2).exp() / 3**0.5
            ),
            "the largest exponent was subtracted: the estimate is then too small": (
                (product - product.amax(-1, keepdim=True)).exp() / 3**0.5
            ),
            "there is no exponential": (product - square / 2) / 3**0.5,
            "these are cosines: unbiased with sines beside them, but not positive": (
                (square / 2).exp() * product.cos() / 3**0.5
            ),
        },
        hint="token 0: ω·x = (2, 0, 1) and ‖x‖²/2 = 2, so exp(0), exp(−2), exp(−1), each over √3",
    )

# %% check="random_features__unbiased" points=1
torch.manual_seed(1)
q, k = F.normalize(torch.randn(3, 4), dim=-1) / 2, F.normalize(torch.randn(5, 4), dim=-1) / 2
omega = torch.randn(100_000, 4)
with checks.case(
    "100 000 draws, 3 queries and 5 keys of width 4", "‖x‖² is one number a token: keepdim=True"
):
    estimate = random_features(q, omega) @ random_features(k, omega).mT
product, both = q @ k.mT, (q[:, None] + k).square().sum(-1)
deviation = ((2 * product).exp() * both.expm1() / len(omega)).sqrt()
checks.shape(estimate, (3, 5), what="the estimate of exp(q·k)")
off = float(((estimate - product.exp()).abs() / deviation).max())
assert off < 7, (
    f"the estimate of exp(q·k) is off by {off:.1f} standard deviations: it is biased\n"
    "  hint: two factors exp(−‖x‖²/2), one of q and one of k, and 1/√m in each"
)

# %% check="random_features__variance" points=1
# Hidden: the variance over draws, the sign, and features that depend on nothing else.
### BEGIN HIDDEN TESTS
torch.manual_seed(2)
q, k = F.normalize(torch.randn(2, 1, 6, dtype=torch.float64), dim=-1) / 2  # ‖q + k‖ ≤ 1
omega = torch.randn(200_000, 6, dtype=torch.float64)
with checks.case("200 000 draws, one query and one key of width 6, float64"):
    left, right = random_features(q, omega), random_features(k, omega)
    checks.shape(left, (1, 200_000), what="the features of q")
assert bool((left > 0).all()), "features must be positive: one exponential each"
single = (left * right * len(omega))[0]  # one estimate a draw
expected = float((2 * q @ k.mT).exp() * (q + k).square().sum().expm1())
ratio = float(single.var()) / expected
assert 0.8 < ratio < 1.25, (
    f"the variance of one draw is {ratio:.3g} times what it should be\n"
    "  hint: exp(2 q·k) (exp(‖q + k‖²) − 1); one exponential of ω·x − ‖x‖²/2, each draw for itself"
)
checks.close(
    random_features(q, omega[:7]) * 7**0.5,
    random_features(torch.cat([q, 9 * k]), omega[:70])[:1, :7] * 70**0.5,
    what="√m times a feature, among other tokens and draws,",
    hint="a feature depends on its own token and its own draw",
)
### END HIDDEN TESTS

# %% check="random_features__inputs" points=1
# Hidden: batch axes, long vectors, one draw, strided inputs, other formats.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
for batch, T, K, m, size, dtype in [
    ((2,), 3, 4, 5, 1, torch.float64),
    ((2, 3), 4, 2, 1, 1, torch.float64),
    ((), 1, 1, 6, 1, torch.float32),
    ((), 3, 4, 8, 40, torch.float32),
    ((2,), 3, 4, 8, 1, torch.bfloat16),
]:
    x = torch.randn(*batch, K, T, generator=generator).mT.to(dtype) * size
    omega = torch.randn(K, m, generator=generator).mT.to(dtype)
    exponent = x.double() @ omega.double().mT - x.double().square().sum(-1, keepdim=True) / 2
    with (
        checks.case(f"batch {batch}, T = {T}, K = {K}, m = {m}, {dtype}, vectors of size {size}"),
        checks.unchanged(x=x, omega=omega),
    ):
        checks.close(
            random_features(x, omega),
            (exponent.exp() / m**0.5).to(dtype),
            what="the result",
            hint="where it is NaN: exp(ω·x) alone overflows; subtract ‖x‖²/2 before exp",
            rtol=5e-2 if dtype == torch.bfloat16 else 1e-4,
        )
### END HIDDEN TESTS

# %% [markdown] task="grouped_query_attention" difficulty=1 minutes=8
# ## Heads that share their keys
#
# While a model writes it must keep the keys and values of all tokens, for every head. Let `H`
# heads of queries share `G` heads of keys and values (Ainslie et al. 2023): the first `H/G` query
# heads use head 0, the next `H/G` head 1, and so on. `G = H` is what you know, `G = 1` is
# multi-query attention.
#
# ```python
# grouped_query_attention(q, k, v, mask=None)
# #  q (*batch, H, T, K)   k (*batch, G, S, K)   v (*batch, G, S, V)   ->   (*batch, H, T, V)
# ```
#
# Four query heads, two heads of one key each; with one key the output is its value:
#
# ```python
# q, k = torch.zeros(4, 1, 1), torch.zeros(2, 1, 1)
# v = torch.tensor([[[5.0]], [[7.0]]])
# grouped_query_attention(q, k, v)      # heads: 5, 5, 7, 7
# ```
#
# `mask` is boolean and broadcasts to `(*batch, H, T, S)`: it may be `(T, S)` alone, one for all
# heads. Every query has an open key.
#
# <details><summary>Hint</summary>
#
# `torch.repeat_interleave` repeats each head in place, `repeat` the whole row of heads. Without a
# copy: `q.unflatten(-3, (G, H // G))` gives the queries an axis for the group, `k.unsqueeze(-3)`
# gives the keys one to broadcast along.
#
# </details>


# %% answer="grouped_query_attention"
def grouped_query_attention(q, k, v, mask=None):
    """Attention of H query heads to G heads of keys and values (Ainslie et al. 2023).

    Args:
        q: queries (*batch, H, T, K).
        k: keys (*batch, G, S, K); G divides H.
        v: values (*batch, G, S, V).
        mask: None, or boolean and broadcastable to (*batch, H, T, S); True = may attend.

    Returns:
        One weighted sum of values a query and head, (*batch, H, T, V).
    """
    ### BEGIN SOLUTION
    share = q.shape[-3] // k.shape[-3]
    k = k.repeat_interleave(share, -3)  # *batch H S K
    v = v.repeat_interleave(share, -3)
    return attention(q, k, v, mask)
    ### END SOLUTION


# %% check="grouped_query_attention__by_hand" points=1
generator = torch.Generator().manual_seed(1)
q = torch.randn(6, 3, 4, generator=generator)
k, v = (torch.randn(2, 5, 4, generator=generator) for _ in range(2))
own = torch.tensor([0, 0, 0, 1, 1, 1])
with (
    checks.case(
        "H = 6, G = 2, T = 3, S = 5, no batch axis",
        "count the axis of heads from the end, -3; an axis for the group is needed in k and v too",
    ),
    checks.unchanged(q=q, k=k, v=v),
):
    checks.close(
        grouped_query_attention(q, k, v),
        attention(q, k[own], v[own]),
        what="the output",
        suspects={
            "the groups are repeated in the wrong order: 0, 1, 0, 1, …; it is 0, 0, …, 1, 1, …": (
                attention(q, k.repeat(3, 1, 1), v.repeat(3, 1, 1))
            ),
            "the values of the groups are in another order than their keys": attention(
                q, k[own], v.repeat(3, 1, 1)
            ),
            "all query heads use the first head of keys and values": attention(
                q, k[:1].expand(6, -1, -1), v[:1].expand(6, -1, -1)
            ),
            "the heads of keys and values were averaged": attention(
                q, k.mean(0).expand(6, -1, -1), v.mean(0).expand(6, -1, -1)
            ),
            "the groups come in reverse order": attention(q, k[own.flip(0)], v[own.flip(0)]),
            "there is one output a group: each query head has its own": attention(
                q.unflatten(0, (2, 3)).mean(1), k, v
            ),
            "the heads of the output are in another order than those of q": attention(
                q, k[own], v[own]
            )[torch.tensor([0, 3, 1, 4, 2, 5])],
        },
        hint="query heads 0–2 use head 0 of keys and values, query heads 3–5 use head 1",
    )

# %% check="grouped_query_attention__ends" points=1
generator = torch.Generator().manual_seed(2)
q = torch.randn(2, 4, 3, 8, generator=generator)
for G in (1, 2, 4):
    k, v = (torch.randn(2, G, 5, 8, generator=generator) for _ in range(2))
    own = torch.arange(4) * G // 4
    with checks.case(f"B = 2, H = 4, G = {G}", "count the axis of heads from the end: -3"):
        checks.close(
            grouped_query_attention(q, k, v),
            attention(q, k[:, own], v[:, own]),
            what="the output",
            suspects={
                "the groups are repeated in the wrong order": attention(
                    q, k.repeat(1, 4 // G, 1, 1), v.repeat(1, 4 // G, 1, 1)
                )
            },
        )

# %% check="grouped_query_attention__mask" points=1
# Hidden: masks for all heads, for each head, for each sequence.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
q = torch.randn(2, 6, 3, 4, generator=generator)
k, v = (torch.randn(2, 3, 5, 4, generator=generator) for _ in range(2))
own = torch.arange(6) // 2
for open_to in [(3, 5), (6, 3, 5), (6, 1, 5), (2, 1, 1, 5), (2, 6, 3, 5), (5,)]:
    mask = torch.rand(open_to, generator=generator) < 0.5
    mask[..., 2] = True  # every query has an open key
    with (
        checks.case(
            f"q (2, 6, 3, 4), k and v (2, 3, 5, 4), mask {open_to}",
            "the mask has the axes of q's heads, H, not those of the groups; it may have fewer "
            "axes than q, and 1 in place of H",
        ),
        checks.unchanged(mask=mask),
    ):
        checks.close(
            grouped_query_attention(q, k, v, mask),
            attention(q, k[:, own], v[:, own], mask),
            what="the output",
            suspects={
                "the mask is ignored": attention(q, k[:, own], v[:, own]),
                "the mask is inverted": attention(q, k[:, own], v[:, own], ~mask),
            },
            hint="it belongs to the query heads, so it goes on the scores of all H heads",
        )
### END HIDDEN TESTS

# %% check="grouped_query_attention__inputs" points=1
# Hidden: batch axes, V unlike K, strided inputs, float64, gradients.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(4)
for batch, H, G, T, S, V in [((), 2, 1, 1, 7, 3), ((2, 3), 4, 2, 5, 1, 6), ((3,), 6, 3, 2, 4, 1)]:
    q, k, v = (
        torch.randn(*batch, heads, width, n, generator=generator, dtype=torch.float64).mT
        for heads, n, width in [(H, T, 4), (G, S, 4), (G, S, V)]
    )
    leaves = {name: x.clone().requires_grad_() for name, x in zip("qkv", (q, k, v), strict=True)}
    own = torch.arange(H) * G // H
    expected = attention(leaves["q"], leaves["k"][..., own, :, :], leaves["v"][..., own, :, :])
    with checks.case(
        f"batch {batch}, H = {H}, G = {G}, T = {T}, S = {S}, V = {V}, float64",
        "count the axis of heads from the end: -3",
    ):
        checks.close(grouped_query_attention(q, k, v), expected.detach(), what="the output")
        checks.gradients(
            grouped_query_attention(*leaves.values()), expected, leaves, what="the output"
        )
### END HIDDEN TESTS

# %% [markdown] task="decode_with_cache" difficulty=2 minutes=15
# ## Writing without reading again
#
# A model writes one token after the other. Given the whole text each time, it would compute the
# keys and values of old tokens again and again, and they never change: keep them. You get a model
# of one attention layer as two functions.
#
# - `project(tokens, start)` takes tokens `(B, n)` and the position of the first of them, and
#   returns their `q`, `k`, `v`, each `(B, n, K)`. Queries and keys are turned by their position
#   (rotary), so `start` matters.
# - `readout(mixed)` turns outputs of attention `(B, n, K)` into logits `(B, n, words)`. The
#   logits of a token say what comes after it.
#
# ```python
# decode_with_cache(project, readout, prompt, steps)   # prompt (B, P)  ->  (B, P + steps)
# ```
#
# Write `steps` tokens after the prompt, each the one with the largest logit, and return prompt
# and new tokens. Only the newest token's logits decide, and it may see everything before it, so
# no mask is needed. `tiny_model` in the setup cell makes such a model:
#
# ```python
# project, readout = tiny_model(seed=0)
# decode_with_cache(project, readout, torch.tensor([[3, 1, 4]]), steps=4)   # shape (1, 7)
# # project is called with tokens (1, 3) at start 0, then with (1, 1) at 3, at 4, at 5
# ```
#
# The last new token is never read, so the model reads 3 + 3 tokens here.
#
# **The calls are counted.** `project` and `readout` are ours: with a prompt of `P` they may be
# given `P + steps` tokens a sequence in all. Who reads everything again each time needs some $P
# \cdot \mathit{steps} + \mathit{steps}^2 / 2$.
#
# <details><summary>Hint 1</summary>
#
# Keep two tensors, all keys and all values so far, and `torch.cat` the new ones to them.
# Attention runs from the last query to all keys: `attention(q[:, -1:], keys, values)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The position of the next token is the number of tokens that were projected before it.
#
# </details>


# %% answer="decode_with_cache"
def decode_with_cache(project, readout, prompt, steps):
    """Greedy decoding that reads every token once.

    Args:
        project: tokens (B, n) and the position of the first -> q, k, v, each (B, n, K).
        readout: outputs of attention (B, n, K) -> logits (B, n, words).
        prompt: tokens (B, P), P at least 1.
        steps: tokens to write.

    Returns:
        Prompt and new tokens (B, P + steps).
    """
    ### BEGIN SOLUTION
    text, new = prompt, prompt
    keys = values = None
    for _ in range(steps):
        start = text.shape[-1] - new.shape[-1]
        q, k, v = project(new, start)
        keys = k if keys is None else torch.cat([keys, k], -2)
        values = v if values is None else torch.cat([values, v], -2)
        logits = readout(attention(q[:, -1:], keys, values))  # B 1 words
        new = logits.argmax(-1)
        text = torch.cat([text, new], -1)
    return text
    ### END SOLUTION


# %% check="decode_with_cache__tokens" points=1
def _reading_all(model, text, steps, positions=None, window=None):
    project, readout = model
    for _ in range(steps):
        q, k, v = project(text, 0)
        if positions is not None:  # where each token is said to stand
            at = positions(text.shape[-1])
            parts = [project(text[:, i : i + 1], at[i]) for i in range(text.shape[-1])]
            q, k, v = (torch.cat(x, -2) for x in zip(*parts, strict=True))
        near = slice(None) if window is None else window(text.shape[-1])
        logits = readout(attention(q[:, -1:], k[:, near], v[:, near]))
        text = torch.cat([text, logits.argmax(-1)], -1)
    return text


generator = torch.Generator().manual_seed(1)
model = tiny_model(seed=int(torch.randint(10**6, (), generator=generator)))
prompt = torch.randint(40, (8, 4), generator=generator)  # several: a mistake may spare one
options = {"model": model, "text": prompt, "steps": 24}
expected = _reading_all(**options)
with checks.case("8 prompts of 4 tokens, 24 steps, float64"):
    checks.close(
        decode_with_cache(*model, prompt, 24),
        expected,
        what="the text",
        suspects={
            "the positions start again at 0 with every call": _reading_all(
                **options, positions=lambda n: [min(i, 3) if i < 4 else 0 for i in range(n)]
            ),
            "the positions of new tokens are one too small": _reading_all(
                **options, positions=lambda n: [i if i < 4 else i - 1 for i in range(n)]
            ),
            "the positions of new tokens are one too large": _reading_all(
                **options, positions=lambda n: [i if i < 4 else i + 1 for i in range(n)]
            ),
            "every new token is said to stand at position P": _reading_all(
                **options, positions=lambda n: [min(i, 4) for i in range(n)]
            ),
            "a new token sees only itself: the old keys and values are gone": _reading_all(
                **options, window=lambda n: slice(None) if n == 4 else slice(-1, None)
            ),
            "new tokens see the prompt and themselves, not the tokens written before": _reading_all(
                **options,
                window=lambda n: [*range(min(n, 4)), *([n - 1] if n > 4 else [])],
            ),
            "a new token does not see itself": _reading_all(
                **options, window=lambda n: slice(None) if n == 4 else slice(0, n - 1)
            ),
            "the prompt is missing: return it with the new tokens": expected[:, 4:],
            "there is one token too few": expected[:, :-1],
            "there is one token too many": _reading_all(model, prompt, 25),
        },
        hint="token for token what reading everything again would write; a step adds one token, "
        "from the logits of the newest",
    )

# %% check="decode_with_cache__cost" points=2
counted = {"project": 0, "readout": 0}
project, readout = tiny_model(seed=5)


def _counted_project(tokens, start):
    counted["project"] += tokens.shape[-1]
    return project(tokens, start)


def _counted_readout(mixed):
    counted["readout"] += mixed.shape[-2]
    return readout(mixed)


with checks.case("one prompt of 6 tokens, 30 steps"):
    text = decode_with_cache(
        _counted_project, _counted_readout, torch.tensor([[3, 1, 4, 1, 5, 9]]), 30
    )
    checks.shape(text, (1, 36), what="the text")
for name, found in counted.items():
    assert found > 0, f"{name} was never called: the model must be asked what comes next"
    assert found <= 36, (
        f"{name} was given {found} tokens where 36 are enough\n"
        "  hint: give the model what is new and keep keys and values of the rest; only the last "
        "token's output needs a readout"
    )
expected = torch.tensor([[3, 1, 4, 1, 5, 9]])
for _ in range(30):
    q, k, v = project(expected, 0)
    expected = torch.cat([expected, readout(attention(q[:, -1:], k, v)).argmax(-1)], -1)
checks.close(
    text,
    expected,
    what="the text of 36 tokens",
    hint="fewer calls, and the same tokens as without a cache",
)

# %% check="decode_with_cache__positions" points=1
# Hidden: each token is read once, at the position where it stands.
### BEGIN HIDDEN TESTS
read = {}
project, readout = tiny_model(seed=6)
twice = []


def _recorded(tokens, start):
    for n in range(tokens.shape[-1]):
        if int(start) + n in read:
            twice.append(int(start) + n)
        read[int(start) + n] = tokens[0, n].item()
    return project(tokens, start)


with checks.case("one prompt of 5 tokens, 12 steps"):
    text = decode_with_cache(_recorded, readout, torch.tensor([[2, 7, 1, 8, 2]]), 12)
    checks.shape(text, (1, 17), what="the text")
assert not twice, (
    f"position {twice[0]} was read twice\n"
    "  hint: the position of a new token is the number of tokens that were read before it"
)
stands = dict(enumerate(text[0].tolist()))
for position, token in sorted(read.items()):
    assert stands.get(position) == token, (
        f"token {token} was said to stand at position {position}, where the text has "
        f"{stands.get(position)}\n  hint: positions count from 0, over prompt and new tokens"
    )
missing = sorted(set(range(16)) - set(read))
assert not missing, f"the token at position {missing[0]} was never read"
### END HIDDEN TESTS

# %% check="decode_with_cache__batch" points=1
# Hidden: other batches, prompts and lengths; several models; the prompt stays as it is.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(7)
for B, P, steps, seed in [
    (1, 1, 12, 8),
    (3, 7, 9, 9),
    (2, 5, 1, 10),
    (2, 4, 0, 11),
    (4, 2, 16, 12),
]:
    project, readout = tiny_model(seed)
    prompt = torch.randint(40, (B, P), generator=generator)
    expected = prompt
    for _ in range(steps):
        q, k, v = project(expected, 0)
        logits = readout(attention(q[:, -1:], k, v))
        expected = torch.cat([expected, logits.argmax(-1)], -1)
    with (
        checks.case(
            f"{B} prompts of {P} tokens, {steps} steps", "tokens are (B, n), keys (B, n, K)"
        ),
        checks.unchanged(prompt=prompt),
    ):
        checks.close(
            decode_with_cache(project, readout, prompt, steps),
            expected,
            what="the text",
            suspects={"the prompt is missing": expected[:, P:]},
            hint="each sequence goes on by itself; with 0 steps the prompt comes back",
        )
### END HIDDEN TESTS

# %% [markdown] task="speculative_accept" difficulty=3 minutes=15
# ## Several tokens a step, from the same distribution
#
# A small model guesses `n` tokens, the large one reads all of them in one call and gives its own
# distribution at each place. Then you decide (Leviathan et al. 2023, algorithm 1), from the first
# guess on:
#
# - Guess $x$ is kept with probability $\min(1, p(x) / q(x))$, where $p$ is the large model's
#   distribution there and $q$ the small one's.
# - The first guess that is refused is replaced by a draw from $\max(0, p - q)$, made to sum to 1.
#   Everything after it is dropped.
# - If all are kept, one more token is drawn from the large model's distribution after the last
#   guess.
#
# ```python
# speculative_accept(guesses, p, q, generator=None)  # -> between 1 and n + 1 tokens, int64
# #  guesses (n,) tokens, guess i drawn from q[i], n may be 0   p (n + 1, words)   q (n, words)
# ```
#
# Every token is then distributed as if the large model had drawn it alone. Two guesses, three
# words:
#
# ```python
# q = torch.tensor([[0.2, 0.8, 0.0], [0.5, 0.0, 0.5]])
# p = torch.tensor([[0.1, 0.8, 0.1], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
# speculative_accept(torch.tensor([1, 2]), p, q)    # always [1, 1]
# # guess 1: p/q = 0.8/0.8, kept.  guess 2: p/q = 0/0.5, refused; max(0, p − q) = (0, ½, 0): word 1
# speculative_accept(torch.tensor([1, 0]), p, q)    # always [1, 0, 2]
# # both ratios are 1, so both are kept, and p[2] allows the word 2 alone
# ```
#
# Draw with `torch.rand` and `torch.multinomial`, and hand `generator` on to both, so that a draw
# can be repeated.
#
# <details><summary>Hint 1</summary>
#
# “With probability $r$” is `torch.rand((), generator=generator) < r`. A draw is below 1, so a
# ratio of 1 or more is kept always, and a ratio of 0 never.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `weights.multinomial(1, generator=generator)` draws in proportion to weights that need not sum
# to 1.
#
# </details>


# %% answer="speculative_accept"
def speculative_accept(guesses, p, q, generator=None):
    """Keep guesses so that the tokens follow the large model (Leviathan et al. 2023, algorithm 1).

    Args:
        guesses: tokens (n,), guess i drawn from q[i].
        p: the large model's distribution at each guess and after the last (n + 1, words).
        q: the small model's distribution at each guess (n, words).
        generator: of the draws; torch's own when None.

    Returns:
        Between 1 and n + 1 tokens.
    """
    ### BEGIN SOLUTION
    chance = torch.rand(len(guesses), generator=generator)
    for i, x in enumerate(guesses):
        if chance[i] >= p[i, x] / q[i, x]:  # refused
            rest = (p[i] - q[i]).clamp(min=0)
            return torch.cat([guesses[:i], rest.multinomial(1, generator=generator)])
    return torch.cat([guesses, p[-1].multinomial(1, generator=generator)])
    ### END SOLUTION


# %% check="speculative_accept__certain" points=1
q = torch.tensor([[0.2, 0.8, 0.0], [0.5, 0.0, 0.5], [0.3, 0.4, 0.3]])
p = torch.tensor([[0.1, 0.8, 0.1], [0.5, 0.5, 0.0], [0.3, 0.4, 0.3], [0.0, 0.0, 1.0]])
generator = torch.Generator().manual_seed(1)
for guesses, expected, told, suspects in [
    (
        [1, 2, 0],
        [1, 1],
        "guess 1 is refused, since p(2) = 0 there; max(0, p − q) = (0, ½, 0) leaves the word 1",
        {
            "the refused guess was kept": [1, 2, 0, 2],
            "the refused guess is still there, before its replacement": [1, 2, 1],
            "the guesses after a refused one were kept; they continued another text": [1, 1, 0],
            "the guesses after a refused one were kept, and one more drawn": [1, 1, 0, 2],
            "the refused guess was dropped without a replacement": [1],
            "the replacement was drawn from p; it comes from max(0, p − q)": [1, 0],
            "the replacement was drawn from |p − q|, or from q − p: it is max(0, p − q)": [1, 2],
            "the replacement is missing, and what was kept too": [1, 2],
        },
    ),
    (
        [1, 0, 1],
        [1, 0, 1, 2],
        "all three ratios are 1, and after them p allows the word 2 alone",
        {
            "all guesses were kept, so one more token is drawn from the last row of p": [1, 0, 1],
            "the extra token came from p at the last guess; it comes from the row after it": [
                1,
                0,
                1,
                1,
            ],
        },
    ),
]:
    with checks.case(f"p and q as in the example and a third guess; guesses {guesses}, 24 times"):
        for _ in range(24):
            checks.close(
                speculative_accept(torch.tensor(guesses), p, q, generator=generator),
                torch.tensor(expected),
                what="the result",
                suspects={diagnosis: torch.tensor(wrong) for diagnosis, wrong in suspects.items()},
                hint=told,
            )

# %% check="speculative_accept__distribution" points=1
torch.manual_seed(2)
p = torch.tensor([[0.55, 0.2, 0.25], [1.0, 0.0, 0.0]])
q = torch.tensor([[0.05, 0.2, 0.75]])
generator = torch.Generator().manual_seed(3)
count = torch.zeros(3)
for guess in q[0].multinomial(500, replacement=True):
    tokens = speculative_accept(guess[None], p, q, generator=generator)
    checks.shape(tokens[:1], (1,), what="result[:1]")
    count[tokens[0]] += 1
share = count / 500
kept = torch.minimum(p[0], q[0])
diagnoses = {
    "they follow the small model: was nothing refused, or is the ratio upside down? It is p/q": (
        q[0]
    ),
    "refused guesses were replaced by draws from p; it is max(0, p − q)": (
        kept + (1 - kept.sum()) * p[0]
    ),
    "refused guesses were replaced by draws from |p − q|": (
        kept + (1 - kept.sum()) * (p[0] - q[0]).abs()
    ),
    "a guess is kept or refused for certain; it is a draw, with probability p/q": torch.tensor(
        [0.8, 0.2, 0.0]
    ),
    "guesses are kept with probability p; it is p/q": torch.tensor([0.7725, 0.04, 0.1875]),
}
likely = min(diagnoses, key=lambda told: float((diagnoses[told] - share).abs().max()))
if float((diagnoses[likely] - share).abs().max()) > 0.07:
    likely = "they follow neither the large model nor the small one"
assert float((share - p[0]).abs().max()) < 0.125, (
    f"the tokens are not distributed as the large model's: {likely}\n"
    "  hint: keep a guess x with probability min(1, p(x)/q(x)), else draw from max(0, p − q)\n"
    f"  of 500 first tokens yours has {count.int().tolist()}, expected about "
    f"{(500 * p[0]).int().tolist()}"
)

# %% check="speculative_accept__several" points=1
# Hidden: each guess by its own row; many words; guesses that are certain.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(4)
words = 12
for n, refused in [(1, 0), (4, 0), (4, 2), (4, 3), (4, 4), (7, 5)]:
    guesses = torch.randint(words, (n,), generator=generator)
    after = torch.randint(words, (n + 1,), generator=generator)
    after = torch.where(after == torch.cat([guesses, guesses[:1]]), (after + 1) % words, after)
    q, p = torch.zeros(n, words), torch.zeros(n + 1, words)
    for i in range(n):
        q[i, guesses[i]] = 1.0
        p[i, guesses[i] if i != refused else after[i]] = 1.0
    p[n, after[n]] = 1.0
    with (
        checks.case(f"n = {n}, {words} words, each certain, guess {refused} of 0–{n - 1} refused"),
        checks.unchanged(guesses=guesses, p=p, q=q),
    ):
        checks.close(
            speculative_accept(guesses, p, q, generator=generator),
            torch.cat([guesses[:refused], after[refused : refused + 1]]),
            what="the result",
            hint="guess i is judged by the rows i of p and q, from the first guess on",
        )
### END HIDDEN TESTS

# %% check="speculative_accept__edges" points=1
# Hidden: no guess at all; a draw that can be repeated; the second token's distribution.
### BEGIN HIDDEN TESTS
none, p = torch.zeros(0, dtype=torch.int64), torch.tensor([[0.0, 1.0, 0.0]])
with checks.case("no guesses: p (1, 3), q (0, 3)"):
    checks.close(
        speculative_accept(none, p, torch.zeros(0, 3)),
        torch.tensor([1]),
        what="the result",
        hint="without a guess there is the one token from the last row of p",
    )
words = 50
torch.manual_seed(5)
q = torch.rand(6, words).softmax(-1)
p = torch.rand(7, words).softmax(-1)
guesses = q.multinomial(1)[:, 0]
runs = []
for _ in range(2):
    generator = torch.Generator().manual_seed(6)
    with checks.case("6 guesses, 50 words, the same generator twice", "n tokens are int64, (n,)"):
        runs.append([speculative_accept(guesses, p, q, generator=generator) for _ in range(5)])
for first, second in zip(*runs, strict=True):
    checks.shape(first[0], (), what="a token")
    checks.shape(
        second,
        first.shape,
        what="the same draw again",
        hint="hand generator on to torch.rand and to multinomial",
    )
    checks.close(second, first, what="the same draw again", hint="hand generator on to both draws")
p, q = torch.tensor([[0.5, 0.5], [0.4, 0.6], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.9, 0.1]])
generator, second = torch.Generator().manual_seed(7), []
for guess in q[1].multinomial(600, replacement=True).tolist():
    tokens = speculative_accept(torch.tensor([0, guess]), p, q, generator=generator)
    second += tokens[1:2].tolist()  # nothing where guess 0 was refused, in half of the cases
assert abs(sum(second) - 0.6 * len(second)) < 0.17 * max(1, len(second)), (
    f"of {len(second)} second tokens {sum(second)} are the word 1, but p[1] asks for about "
    f"{0.6 * len(second):.0f}\n"
    "  hint: guess 1 is judged by the rows 1 of p and q, with a draw of its own: one draw for all "
    "guesses is small wherever guess 0 was kept"
)
### END HIDDEN TESTS

# %% [markdown]
# ## Bonus: the backward pass in tiles
#
# Without points. `attention_backward` takes some of the keys at a time. So call it tile by tile,
# for tiles of queries too, add up the parts of `dq`, `dk` and `dv`, and you have the backward
# pass of attention in tiles, in memory that grows with `T + S`. Write
#
# ```python
# tiled_backward(grad, q, k, v, out, L, tile=128)  # -> dq, dk, dv
# ```
#
# and run the cell after it.

# %%
# tiled_backward goes here

# %%
if "tiled_backward" in dir():
    q, k, v, grad = (torch.randn(300, 4, dtype=torch.float64) for _ in range(4))
    L = (q @ k.mT / 2).logsumexp(-1)
    for name, found, expected in zip(
        ("dq", "dk", "dv"),
        tiled_backward(grad, q, k, v, attention(q, k, v), L),
        attention_backward(grad, q, k, v, attention(q, k, v), L),
        strict=True,
    ):
        checks.close(found, expected, what=name)

# %% [markdown]
# ## What it is worth
#
# This cell has no points. It measures what your functions save, for 2000 tokens: memory that a call
# holds at once beyond its inputs, and its operations.

# %%
from lookback import measure

torch.manual_seed(0)
q, k, v = (torch.randn(2000, 16) for _ in range(3))
for name, call in {
    "attention": lambda: attention(q, k, v),
    "tiled_attention": lambda: tiled_attention(q, k, v),
    "window_attention": lambda: window_attention(q, k, v, 64),
    "linear_attention": lambda: linear_attention(q, k, v),
}.items():
    print(
        f"{name:18} {measure.peak_memory(call) / 2**20:6.1f} MiB at once, "
        f"{measure.operations(call) / 1e6:6.1f} million operations"
    )
