# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # QKV self-attention
#
# You build attention from its parts: who may look at whom, how much each looks at each, several
# heads side by side, and where a token stands. Everything is a few lines of tensor code; the
# work is in getting the axes, the mask and the odd cases right.
#
# **How to work.** Write each answer in the cell that holds the function, then run the checks
# below it. A check that passes is silent. One that fails says what is wrong and where to look.
# More checks are hidden; they hold your function to other sizes, masks and number formats. A check
# is worth its points or nothing.
#
# **Each task is graded on its own.** Where a task uses an earlier one, its checks put our version
# under that name while they run. So a mistake costs you points once, and you can do the tasks in
# any order.
#
# **What is closed.** You are asked to write attention, so torch's own attention layers raise an
# error when your cells call them, and this library's answers (`lookback.attention`,
# `lookback.masks`, `lookback.positions` and what builds on them) may not be used in what you hand
# in. Everything else of torch is open.
#
# **Letters.** A shape is written with one letter an axis: `T` queries, `S` keys, `K` width of
# queries and keys, `V` width of values, `D` width of the model, `H` heads, `B` batch. `*batch`
# stands for any number of batch axes, also none. A mask is boolean: `True` means “may attend”.
#
# **House rules.** A result has the dtype of what came in: float64, float32, bfloat16 or float16. A
# function never writes into its arguments.

# %% setup=true
import torch
from torch import nn

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
    "lookback.masks",
    "lookback.positions",
    "lookback.seq2seq",
    "lookback.transformer",
)

# %% [markdown] task="causal_mask" difficulty=1 minutes=8
# ## Who may look at whom
#
# A language model may not look at the words that it has to predict. Write
#
# ```python
# causal_mask(T, S=None, offset=0)  # -> boolean tensor of shape (T, S)
# ```
#
# Query `i` stands at position `i + offset` among the keys. It may attend to its own position and
# to everything before it: entry `[i, j]` is `True` exactly where `j ≤ i + offset`. Leaving out `S`
# means as many keys as queries.
#
# ```python
# causal_mask(3)               # [[ True, False, False],
#                              #  [ True,  True, False],
#                              #  [ True,  True,  True]]
#
# causal_mask(2, 5, offset=3)  # [[ True,  True,  True,  True, False],
#                              #  [ True,  True,  True,  True,  True]]
# ```
#
# The second call is what happens when a model writes: three tokens have been read before, two
# more arrive, and their queries are at positions 3 and 4.
#
# <details><summary>Hint 1</summary>
#
# Make the query positions a column and the key positions a row. Comparing the two broadcasts to
# the whole table.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.arange(T)[:, None]` has shape `(T, 1)`.
#
# </details>


# %% answer="causal_mask"
def causal_mask(T, S=None, offset=0):
    """Which keys each query may attend to, when none may see what comes after it.

    Args:
        T: number of queries.
        S: number of keys; T when left out.
        offset: position of the first query among the keys; may be negative.

    Returns:
        Boolean tensor (T, S), True where j <= i + offset.
    """
    ### BEGIN SOLUTION
    S = T if S is None else S
    query = torch.arange(T)[:, None] + offset
    key = torch.arange(S)
    return key <= query
    ### END SOLUTION


# %% check="causal_mask__square" points=1
expected = torch.ones(4, 4).tril().bool()
checks.close(
    causal_mask(4),
    expected,
    what="causal_mask(4)",
    suspects={
        "it is inverted: True must mean “may attend”": ~expected,
        "the diagonal is missing, but each query may see its own position": expected.tril(-1),
        "rows and columns are swapped: rows are queries, columns are keys": expected.T,
        "numbers to be added to scores (0 and −∞) instead of True and False": torch.zeros(
            4, 4
        ).masked_fill(~expected, float("-inf")),
    },
    hint="row i is query i; it holds True for the keys 0 to i",
)

# %% check="causal_mask__offset" points=1
expected = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]).bool()
with checks.case("causal_mask(2, 5, offset=3)"):
    checks.close(
        causal_mask(2, 5, offset=3),
        expected,
        what="the mask",
        suspects={
            "the offset is ignored": torch.ones(2, 5).tril().bool(),
            "the offset has the wrong sign": torch.ones(2, 5).tril(-3).bool(),
            "the offset is one too large": torch.ones(2, 5).tril(4).bool(),
            "the offset is one too small": torch.ones(2, 5).tril(2).bool(),
        },
        hint="the first query stands at position 3, so it sees the keys 0 to 3",
    )

# %% check="causal_mask__lengths" points=1
# Hidden: other numbers of queries and keys.
### BEGIN HIDDEN TESTS
for queries, keys in [(1, 1), (1, 4), (4, 1), (3, 6), (6, 3), (5, 5), (3, 0)]:
    with checks.case(f"T = {queries}, S = {keys}"):
        rows = [[j <= i for j in range(keys)] for i in range(queries)]
        checks.close(
            causal_mask(queries, keys),
            torch.tensor(rows).bool().reshape(queries, keys),
            what="the mask",
            suspects={
                "the last query was aligned with the last key, but offset is 0": torch.ones(
                    queries, keys
                )
                .tril(keys - queries)
                .bool(),
                "S, the number of keys, is ignored": torch.ones(queries, queries).tril().bool(),
                "rows must be queries and columns keys": torch.ones(keys, queries).triu().bool(),
            },
            hint="without an offset, query 0 and key 0 stand at the same position"
            if keys
            else "S = 0 means no keys, and a missing S is None: ask whether S is None",
        )
### END HIDDEN TESTS

# %% check="causal_mask__cache" points=1
# Hidden: offsets as a model with a cache uses them, and negative ones.
### BEGIN HIDDEN TESTS
with checks.case("T = 1, S = 6, one call for each offset from 0 to 5"):
    rows = torch.cat([causal_mask(1, 6, offset=i) for i in range(6)])
    checks.close(
        rows,
        torch.ones(6, 6).tril().bool(),
        what="row i, asked for alone with offset i,",
        suspects={"the offset is ignored": torch.eye(6)[:1].expand(6, 6).bool()},
        hint="it must equal row i of causal_mask(6)",
    )
with checks.case("T = 3, S = 4, offset=-2"):
    expected = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
    checks.close(
        causal_mask(3, 4, offset=-2),
        expected,
        what="the mask",
        hint="queries at positions -2 and -1 come before every key: their rows are empty",
    )
with checks.case("T = 2, S = 3, offset=9"):
    checks.close(causal_mask(2, 3, offset=9), torch.ones(2, 3).bool(), what="the mask")
### END HIDDEN TESTS

# %% [markdown] task="scaled_dot_product_attention" difficulty=2 minutes=20
# ## Attention itself
#
# Each query is compared with each key, the comparison is turned into weights, and the weights
# mix the values (Vaswani et al. 2017, equation 1):
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt{K}}\right) V$$
#
# The $K$ under the root is the width of a key. Write
#
# ```python
# scaled_dot_product_attention(q, k, v, mask=None)
# #  q (*batch, T, K)   k (*batch, S, K)   v (*batch, S, V)   ->   (*batch, T, V)
# ```
#
# One query of width 4 and two keys: the dot products are 4 and 0, divided by $\sqrt 4$ they are
# 2 and 0, and the weights are $e^2/(e^2+1) = 0.881$ and $0.119$:
#
# ```python
# q = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
# k = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
# v = torch.tensor([[10.0, 0.0], [0.0, 10.0]])
# scaled_dot_product_attention(q, k, v)                                   # [[8.81, 1.19]]
# scaled_dot_product_attention(q, k, v, torch.tensor([[False, True]]))    # [[0.00, 10.0]]
# ```
#
# `mask`, where there is one, is boolean and broadcasts to `(*batch, T, S)`. A key that is closed
# to a query has no weight at all, however large its score. The open keys share the weight 1.
#
# **Empty rows.** A query to which every key is closed gets a row of zeros, not NaN and not an
# average. It also sends no gradient back. This happens: a padded sequence may be all padding.
#
# **Large scores.** Scores of ±1000 are nothing special. $e^{1000}$ is.
#
# <details><summary>Hint 1</summary>
#
# `k.mT` swaps the last two axes, whatever stands before them.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Softmax does not change when a constant is added to a row. `torch.softmax` subtracts the row's
# maximum; a softmax of your own must do it too.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Close a score with `float("-inf")`, which every number format has; $-10^9$ does not exist in
# float16. A row of nothing but −∞ has the softmax 0/0: give such rows any finite scores first and
# erase their weights afterwards.
#
# </details>


# %% answer="scaled_dot_product_attention"
def scaled_dot_product_attention(q, k, v, mask=None):
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1).

    Args:
        q: queries (*batch, T, K).
        k: keys (*batch, S, K).
        v: values (*batch, S, V).
        mask: None, or boolean and broadcastable to (*batch, T, S); True = may attend.

    Returns:
        One weighted sum of values a query, (*batch, T, V); zeros where every key is closed.
    """
    ### BEGIN SOLUTION
    scores = (q * q.shape[-1] ** -0.5) @ k.mT  # *batch T S
    if mask is None:
        return scores.softmax(-1) @ v
    empty = ~mask.any(-1, keepdim=True)
    scores = scores.masked_fill(~mask, float("-inf"))
    # softmax of a row of -inf is NaN, forward and backward: give it any finite row, then erase it
    weights = scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)
    return weights @ v
    ### END SOLUTION


# %% check="scaled_dot_product_attention__by_hand" points=2
q = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 0.0, 0.0]])
k = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 1.0, 0.0]])
v = torch.tensor([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]])
scores = torch.tensor([[4.0, 0.0, 3.0], [2.0, 0.0, 4.0]])
with (
    checks.case(
        "two queries, three keys, K = 4, V = 2, and no batch axis",
        "there may be no batch axis or several: count axes from the end (-1, -2); the root of a "
        "width, which is Python's number and no tensor, is k.shape[-1] ** 0.5",
    ),
    checks.unchanged(q=q, k=k, v=v),
):
    checks.close(
        scaled_dot_product_attention(q, k, v),
        torch.tensor([[7.4820, 2.5180], [5.7735, 4.2265]]),
        what="the output",
        atol=1e-3,
        suspects={
            "the scores were not divided by √K": scores.softmax(-1) @ v,
            "the scores were divided by K, not by √K": (scores / 4).softmax(-1) @ v,
            "the scores were multiplied by √K, not divided": (scores * 2).softmax(-1) @ v,
            "the root was taken of the values' width; √K is of the keys'": (
                (scores / 2**0.5).softmax(-1) @ v
            ),
            "softmax runs over the queries; the keys of one query share its weight": (
                (scores / 2).softmax(-2) @ v
            ),
            "there is no softmax": scores / 2 @ v,
            "the scores were divided by √K after softmax, not before": scores.softmax(-1) / 2 @ v,
            "the exponentials were not divided by their sum": (scores / 2).exp() @ v,
        },
        hint="scores q @ k.mT, divided by √4 = 2, softmax over the last axis, times v",
    )

# %% check="scaled_dot_product_attention__mask" points=1
q, k, v = torch.zeros(2, 4), torch.zeros(3, 4), torch.tensor([[6.0], [2.0], [10.0]])
mask = torch.tensor([[True, True, False], [False, False, True]])
checks.close(
    scaled_dot_product_attention(q, k, v, mask),
    torch.tensor([[4.0], [10.0]]),
    what="the output for equal scores",
    suspects={
        "the mask is inverted: True means “may attend”": torch.tensor([[10.0], [4.0]]),
        "the mask was applied after softmax, so the weights no longer sum to 1": torch.tensor(
            [[8 / 3], [10 / 3]]
        ),
        "the mask is ignored, or closed scores were set to 0; e⁰ is 1": torch.tensor(
            [[6.0], [6.0]]
        ),
        "the mask was added to the scores as 0 and 1; a closed key needs −∞": (
            mask.float().softmax(-1) @ v
        ),
    },
    hint="query 0 averages the values 6 and 2; query 1 may see the value 10 only",
)

# %% check="scaled_dot_product_attention__future" points=1
generator = torch.Generator().manual_seed(1)
q, k, v = (torch.randn(2, n, 4, generator=generator).abs() for n in (3, 5, 5))
mask = torch.ones(3, 5).tril(1).bool()  # the last two keys of query 1, the last three of query 0
changed = k.clone(), v.clone()
changed[0][:, 3:] += 1e5  # closed, however large the score
changed[1][:, 3:] -= 7.0
with checks.case("a batch of two: q (2, 3, 4), k (2, 5, 4)", "count axes from the end (-1, -2)"):
    before = scaled_dot_product_attention(q, k, v, mask)
    after = scaled_dot_product_attention(q, *changed, mask)
checks.unmoved(
    before[:, :2],
    after[:, :2],
    what="the outputs of the queries 0 and 1",
    when="keys and values that are closed to them changed",
    hint="is the mask inverted, applied after softmax, or closing with too small a number?",
)
checks.moved(before[:, 2], after[:, 2], what="the output of query 2", when="an open key changed")

# %% check="scaled_dot_product_attention__stable" points=1
generator = torch.Generator().manual_seed(2)
q, k, v = (torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(3))
k[:, 0] = 1.0
larger = q.clone()
larger[:2, 0] += 2000.0  # 1155 more for every score of the queries 0 and 1
larger[2:, 0] -= 2000.0  # 1155 less for those of 2 and 3
checks.unmoved(
    scaled_dot_product_attention(q, k, v),
    scaled_dot_product_attention(larger, k, v),
    what="the output",
    when="all scores of a query rose or fell by 1155",
    hint="e¹¹⁵⁵ overflows and e⁻¹¹⁵⁵ is 0: subtract each row's own maximum before exp",
)

# %% check="scaled_dot_product_attention__empty_rows" points=1
# Hidden: queries to which every key is closed.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
q, k, v = (torch.randn(2, n, 4, generator=generator).requires_grad_() for n in (3, 5, 5))
mask = torch.rand(2, 3, 5, generator=generator) < 0.6
mask[..., 0] = True
full = scaled_dot_product_attention(q, k, v, mask)  # no empty row yet
some = torch.tensor([[True, False, True], [False, False, False]])[..., None]
output = scaled_dot_product_attention(q, k, v, mask & some)
wanted = torch.where(some, full, 0.0)
checks.close(
    output,
    wanted,
    what="the output where some queries may see no key",
    suspects={
        "an empty row became the average of all values; it should be zeros": torch.where(
            some, full, v.mean(-2, keepdim=True)
        ),
        "an empty row became NaN; it should be zeros": torch.where(some, full, float("nan")),
    },
    hint="find the empty rows with mask.any(-1, keepdim=True) and erase their weights",
)
checks.gradients(
    output,
    wanted,
    {"q": q, "k": k, "v": v},
    what="an output with empty rows",
    hint="softmax of a row of −∞ has a NaN gradient, even if its result is erased afterwards: "
    "give such rows finite scores before softmax",
)
### END HIDDEN TESTS

# %% check="scaled_dot_product_attention__inputs" points=1
# Hidden: other batch shapes, lengths and masks; inputs that are views; arguments left alone.
### BEGIN HIDDEN TESTS
from lookback.attention import scaled_dot_product_attention as reference

generator = torch.Generator().manual_seed(4)
for batch, queries, keys, open_to in [
    ((), 3, 4, (3, 4)),
    ((2,), 1, 5, (2, 1, 5)),
    ((2,), 5, 1, (5, 1)),
    ((3,), 4, 6, (3, 1, 6)),
    ((2, 3), 4, 5, (2, 1, 1, 5)),
    ((2, 3), 3, 3, (3, 3)),
    ((2, 1, 2), 2, 3, (3,)),
]:
    q = torch.randn(*batch, queries, 6, generator=generator)
    k = torch.randn(*batch, 6, keys, generator=generator).mT  # a view, not contiguous
    v = torch.randn(*batch, keys, 2 * 7, generator=generator)[..., ::2]
    mask = torch.rand(open_to, generator=generator) < 0.7
    mask[..., 0] = True
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    for told, chosen in [(f"{shapes}, no mask", None), (f"{shapes}, mask {open_to}", mask)]:
        wanted = reference(q, k, v, chosen)
        with (
            checks.case(told, "count axes from the end (-1, -2); a mask broadcasts by itself"),
            checks.unchanged(q=q, k=k, v=v, mask=mask),
        ):
            output = scaled_dot_product_attention(q, k, v, chosen)
        with checks.case(told):
            checks.close(
                output,
                wanted,
                what="the output",
                hint="if it is right without a batch: is an axis counted from the front?",
            )
### END HIDDEN TESTS

# %% check="scaled_dot_product_attention__dtypes" points=1
# Hidden: bfloat16 and float16.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(5)
for dtype in (torch.bfloat16, torch.float16):
    q, k, v = (torch.randn(2, 4, 8, generator=generator).to(dtype) for _ in range(3))
    mask = torch.ones(4, 4).tril().bool()
    with checks.case(
        f"{dtype} inputs",
        "float16 ends at 65504: close a score with float('-inf'), not with −1e9; "
        "and keep every tensor in the dtype of q",
    ):
        output = scaled_dot_product_attention(q, k, v, mask)
    wanted = scaled_dot_product_attention(q.float(), k.float(), v.float(), mask)
    checks.close(
        output,
        wanted.to(dtype),
        what=f"the output for {dtype} inputs, beside that for float32,",
        hint="every tensor made on the way needs the dtype of q",
    )
### END HIDDEN TESTS

# %% check="scaled_dot_product_attention__gradient" points=1
# Hidden: gradients in float64.
### BEGIN HIDDEN TESTS
from lookback.attention import scaled_dot_product_attention as reference

generator = torch.Generator().manual_seed(6)
inputs = {
    name: torch.randn(2, n, 5, generator=generator, dtype=torch.float64).requires_grad_()
    for name, n in (("q", 3), ("k", 4), ("v", 4))
}
mask = torch.ones(3, 4).tril(1).bool()
checks.gradients(
    scaled_dot_product_attention(*inputs.values(), mask),
    reference(*inputs.values(), mask),
    inputs,
    what="the output",
    hint="let torch follow every step: no detach, no .data, no numbers in between",
)
### END HIDDEN TESTS

# %% [markdown] task="attention_entropy" difficulty=2 minutes=12
# ## How spread out is a query's attention?
#
# A row of weights that looks at one key has entropy 0; one that looks at $n$ keys alike has
# entropy $\ln n$. So $e^{\text{entropy}}$ says how many keys a query looks at:
#
# $$\mathrm{entropy}_t = -\sum_s w_{ts} \ln w_{ts}, \qquad 0 \ln 0 = 0$$
#
# ```python
# attention_entropy(weights, mask=None)
# #  weights (*batch, T, S)   ->   (*batch, T), in nats
# ```
#
# ```python
# attention_entropy(torch.tensor([[0.25, 0.25, 0.25, 0.25],     # [1.386,   ln 4
#                                 [0.50, 0.50, 0.00, 0.00],     #  0.693,   ln 2
#                                 [0.00, 1.00, 0.00, 0.00]]))   #  0.000]
# ```
#
# `mask`, where there is one, is the attention mask, broadcastable to `weights`: an entry that is
# closed counts as nothing, *whatever stands there*. The other weights are used as they are, not
# scaled to a new sum.
#
# ```python
# nan = float("nan")
# attention_entropy(torch.tensor([[0.50, 0.50, 0.00],
#                                 [nan, nan, nan]]),
#                   torch.tensor([[True, True, False],
#                                 [False, False, False]]))      # [0.693, 0.000]
# ```
#
# Some attention layers, torch's among them, return NaN as the weights of an empty row. Your
# function counts them as nothing, since the mask says so.
#
# People also train *with* this number, to keep attention sharp or spread. So the gradient at a
# closed entry is 0, not NaN. (At an open weight of exactly 0 it is infinite; no check looks there.)
#
# <details><summary>Hint 1</summary>
#
# `0 * nan` is NaN. Multiplying by a mask erases numbers, but not NaN: choose with `torch.where`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.where(mask, w * w.log(), 0)` is right forwards. Backwards it multiplies a gradient of 0
# with the slope of the logarithm at 0, and `0 * inf` is NaN again. Choose a harmless weight
# *before* the logarithm: 1 adds nothing, since ln 1 is 0.
#
# </details>


# %% answer="attention_entropy"
def attention_entropy(weights, mask=None):
    """Entropy of each query's weights, in nats.

    Args:
        weights: attention weights (*batch, T, S); a row sums to 1, or is empty.
        mask: None, or boolean and broadcastable to weights; False entries count as nothing.

    Returns:
        One entropy a query, (*batch, T); 0 for an empty row.
    """
    ### BEGIN SOLUTION
    counted = weights != 0
    if mask is not None:
        counted = counted & mask
    # 1 in the place of what does not count: 1 · ln 1 is 0, and so is its gradient here
    p = torch.where(counted, weights, 1.0)
    return -(p * p.log()).sum(-1)
    ### END SOLUTION


# %% check="attention_entropy__known" points=1
weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
expected = torch.tensor([4.0, 2.0, 1.0]).log()
products = torch.xlogy(weights, weights)
checks.close(
    attention_entropy(weights),
    expected,
    what="the entropy of weights spread over 4, 2 and 1 keys",
    suspects={
        "0 · ln 0 became NaN; it counts as 0": torch.tensor([1.386294, float("nan"), float("nan")]),
        "it is in bits; nats need the natural logarithm": expected / torch.tensor(2.0).log(),
        "the sign is wrong: entropy is never negative": -expected,
        "it was divided by the logarithm of the number of keys": expected / expected[0],
        "the mean over the keys was taken, not the sum": expected / 4,
        "the sum runs over the queries, not over the keys of each": -products.sum(-2),
        "one number for all queries; each query has its own": expected.mean(),
        "the sum of all queries; each query has its own": expected.sum(),
        "the result keeps an axis of length 1 for the keys": expected[:, None],
        "the products were not summed over the keys": -products,
        "exp of the entropy, the number of keys, instead of the entropy": expected.exp(),
    },
    hint="ln 4, ln 2 and ln 1",
)

# %% check="attention_entropy__mask" points=1
weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.0, 0.25, 0.25]])
mask = torch.tensor([[True, True, False, False], [True, False, False, True]])
products = -torch.xlogy(weights, weights)
kept = weights * mask / (weights * mask).sum(-1, keepdim=True)
checks.close(
    attention_entropy(weights, mask),
    (products * mask).sum(-1),
    what="the entropy with a mask",
    suspects={
        "closed entries were counted; the mask is ignored": products.sum(-1),
        "the mask is inverted: True entries count": (products * ~mask).sum(-1),
        "the open weights were scaled to sum to 1; use them as they are": (
            -torch.xlogy(kept, kept).sum(-1)
        ),
        "0 · ln 0 became NaN at a closed entry": torch.full((2,), float("nan")),
    },
    hint="row 0 counts two weights of ¼ and gives ½ ln 4",
)

# %% check="attention_entropy__empty_rows" points=1
# Hidden: empty rows, and NaN in places that are closed.
### BEGIN HIDDEN TESTS
weights = torch.tensor([[0.5, 0.5, 0.0], [float("nan")] * 3, [0.0] * 3, [0.25, float("nan"), 0.75]])
mask = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 1]]).bool()
expected = torch.tensor([0.693147, 0.0, 0.0, 0.562335])
with checks.case("NaN in closed entries"):
    checks.close(
        attention_entropy(weights, mask),
        expected,
        what="the entropy",
        hint="where it is NaN: 0 * nan is NaN, so choose with torch.where",
    )
with checks.case("rows of zeros, as our attention gives for empty rows, and no mask"):
    checks.close(
        attention_entropy(torch.tensor([[0.0, 0.0], [0.5, 0.5]])),
        torch.tensor([0.0, 0.693147]),
        what="the entropy",
    )
### END HIDDEN TESTS

# %% check="attention_entropy__shapes" points=1
# Hidden: other batch shapes, masks that broadcast, float64, arguments left alone.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(1)
for shape, open_to in [
    ((5,), None),
    ((1, 6), (6,)),
    ((3, 5), (3, 1)),
    ((2, 3, 5), (2, 1, 5)),
    ((2, 4, 3, 5), (3, 5)),
    ((2, 4, 3, 1), (2, 1, 1, 1)),
]:
    weights = torch.rand(shape, generator=generator, dtype=torch.float64).softmax(-1)
    mask = None if open_to is None else torch.rand(open_to, generator=generator) < 0.6
    expected = -torch.xlogy(weights, weights)
    expected = (expected if mask is None else expected * mask).sum(-1)
    watched = {"weights": weights} if mask is None else {"weights": weights, "mask": mask}
    with (
        checks.case(f"weights {shape}, mask {open_to}", "the mask broadcasts to the weights"),
        checks.unchanged(**watched),
    ):
        checks.close(
            attention_entropy(weights, mask),
            expected,
            what="the entropy",
            hint="if it is off by very little: is a small number added inside the logarithm?",
        )
### END HIDDEN TESTS

# %% check="attention_entropy__gradient" points=1
# Hidden: the gradient, with closed entries.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]]).bool()
scores = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
weights = (scores.softmax(-1) * mask).requires_grad_()  # closed entries are exactly 0
open_weights = torch.where(mask, weights, 1.0)
checks.gradients(
    attention_entropy(weights, mask),
    -(open_weights * open_weights.log()).sum(-1),
    {"weights": weights},
    what="the entropy",
    hint="where it is NaN: choose a harmless weight before the logarithm, not after it",
)
### END HIDDEN TESTS

# %% [markdown] task="softmax_jacobian" difficulty=2 minutes=12
# ## When softmax stops listening
#
# How much does each weight move when a score moves? For one row of scores $a$ with
# $p = \mathrm{softmax}(a)$ the answer is a matrix, the Jacobian
#
# $$J_{ij} = \frac{\partial p_i}{\partial a_j} =
# \begin{cases} p_i (1 - p_i) & i = j \\ -\,p_i\, p_j & i \ne j \end{cases}
# \qquad\text{that is}\qquad J = \mathrm{diag}(p) - p\,p^\top$$
#
# ```python
# softmax_jacobian(p)  #  p (*batch, n)   ->   (*batch, n, n)
# ```
#
# The argument is the *probabilities*: softmax has been taken already.
#
# ```python
# softmax_jacobian(torch.tensor([0.5, 0.5]))     # [[ 0.25, -0.25],
#                                                #  [-0.25,  0.25]]
# softmax_jacobian(torch.tensor([0.99, 0.01]))   # [[ 0.0099, -0.0099],
#                                                #  [-0.0099,  0.0099]]
# ```
#
# The second row of weights is nearly decided, and its Jacobian is 25 times smaller. That is why
# attention divides by $\sqrt{K}$: large scores decide softmax, and a decided softmax passes
# almost no gradient to the scores.
#
# <details><summary>Hint 1</summary>
#
# `p[..., :, None] * p[..., None, :]` holds all products $p_i p_j$, for any batch shape.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.diag` takes one vector. `torch.diag_embed` takes a batch of them; so does a product with
# `torch.eye(n)`.
#
# </details>


# %% answer="softmax_jacobian"
def softmax_jacobian(p):
    """Jacobian of softmax, from its result.

    Args:
        p: probabilities (*batch, n), the result of softmax over the last axis.

    Returns:
        J (*batch, n, n) with J[..., i, j] = dp_i / da_j, where a are the scores behind p.
    """
    ### BEGIN SOLUTION
    return torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    ### END SOLUTION


# %% check="softmax_jacobian__by_hand" points=1
p = torch.tensor([0.5, 0.25, 0.25])
products = torch.tensor([[4.0, 2.0, 2.0], [2.0, 1.0, 1.0], [2.0, 1.0, 1.0]]) / 16
diagonal = torch.tensor([[8.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]) / 16
again = p.softmax(-1)
checks.close(
    softmax_jacobian(p),
    diagonal - products,
    what="the Jacobian at p = (½, ¼, ¼)",
    suspects={
        "the diagonal alone: every weight also falls when another score rises": torch.diag(
            p * (1 - p)
        ),
        "the diagonal alone, as a vector; the Jacobian is a matrix": p * (1 - p),
        "diag(p) alone: the products p_i p_j are missing": diagonal,
        "p pᵀ alone: diag(p) is missing": products,
        "-p pᵀ alone: diag(p) is missing": -products,
        "the sign is wrong": products - diagonal,
        "the products p_i p_j were added, not subtracted": diagonal + products,
        "p_i (1 − p_j) everywhere; off the diagonal it is −p_i p_j": p[:, None] - products,
        "p_j (1 − p_i) everywhere; off the diagonal it is −p_i p_j": p[None, :] - products,
        "p was subtracted in every row, not on the diagonal": 1.0 - products,
        "1 stands on the diagonal, where p_i belongs": torch.eye(3) - products,
        "softmax was taken of p, but p is the result of softmax already": (
            torch.diag(again) - again[:, None] * again
        ),
    },
    hint="on the diagonal ½·½, ¼·¾, ¼·¾ = 0.25, 0.1875, 0.1875; beside it −p_i p_j",
)

# %% check="softmax_jacobian__rows" points=1
generator = torch.Generator().manual_seed(1)
p = torch.randn(6, generator=generator, dtype=torch.float64).softmax(-1)
zeros = torch.zeros(6, dtype=torch.float64)
jacobian = softmax_jacobian(p)
checks.shape(jacobian, (6, 6), what="the Jacobian")
checks.close(
    jacobian.sum(-1),
    zeros,
    what="the sum of each row",
    hint="raising all scores alike changes nothing, so each row sums to 0",
)
checks.close(
    jacobian.sum(-2),
    zeros,
    what="the sum of each column",
    hint="the weights always sum to 1, so what one gains the others lose",
)

# %% check="softmax_jacobian__autograd" points=1
# Hidden: against automatic differentiation, also where softmax is nearly decided.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
for n, scale in [(1, 1.0), (2, 3.0), (7, 1.0), (5, 30.0)]:
    scores = scale * torch.randn(n, generator=generator, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda a: a.softmax(-1), scores)
    with checks.case(f"{n} scores of size {scale}"):
        checks.close(softmax_jacobian(scores.softmax(-1)), expected, what="the Jacobian")
p = torch.tensor([0.0, 1.0, 0.0])
checks.close(
    softmax_jacobian(p),
    torch.zeros(3, 3),
    what="the Jacobian of a decided softmax, p = (0, 1, 0),",
    hint="no logarithm is needed, and none of p = 0 exists",
)
### END HIDDEN TESTS

# %% check="softmax_jacobian__batch" points=1
# Hidden: any number of batch axes, the argument left alone.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
for batch in [(2,), (4, 3), (2, 1, 3), (4,)]:
    p = torch.randn(4, *batch, generator=generator).softmax(0).movedim(0, -1)  # not contiguous
    rows = [torch.diag(row) - torch.outer(row, row) for row in p.reshape(-1, 4)]
    with (
        checks.case(f"p of shape {(*batch, 4)}", "index axes from the end: p[..., :, None]"),
        checks.unchanged(p=p),
    ):
        checks.close(
            softmax_jacobian(p),
            torch.stack(rows).reshape(*batch, 4, 4),
            what="the Jacobian",
            hint="each row of the batch has its own n × n matrix",
        )
### END HIDDEN TESTS

# %% [markdown] task="heads" difficulty=1 minutes=10
# ## Cutting a width into heads, and back
#
# Several small attentions side by side see more than one large one. Nothing is added for it: the
# width `D` is cut into `H` slices of `D/H` neighbouring features, and each slice becomes a batch
# entry of its own. Write both directions:
#
# ```python
# split_heads(x, H)   #  (*batch, T, D)       ->  (*batch, H, T, D/H)
# merge_heads(x)      #  (*batch, H, T, K)    ->  (*batch, T, H*K)
# ```
#
# Two tokens of width 4, two heads. Head 0 gets the first two features of *every* token:
#
# ```python
# x = torch.tensor([[0, 1, 2, 3],
#                   [4, 5, 6, 7]])
# split_heads(x, 2)                # [[[0, 1],
#                                  #   [4, 5]],
#                                  #  [[2, 3],
#                                  #   [6, 7]]]
# merge_heads(split_heads(x, 2))   # x again
# ```
#
# `H` divides `D` in every check. Both functions work for any number of batch axes and for inputs
# that are views of other tensors.
#
# <details><summary>Hint 1</summary>
#
# Reshaping reads numbers in the order of memory; it cannot move an axis. Going straight from
# `(T, D)` to `(H, T, D/H)` mixes the tokens. Cut the last axis in two first, then move the axis
# of the heads.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `x.unflatten(-1, (H, D // H))` and `x.flatten(-2)` need no other axis by name; `transpose(-2, -3)`
# swaps heads and tokens. `.view` refuses where numbers are not in order; `.reshape` copies.
#
# </details>


# %% answer="heads"
def split_heads(x, H):
    """Cut the width into heads of neighbouring features: (*batch, T, D) -> (*batch, H, T, D/H)."""
    ### BEGIN SOLUTION
    x = x.unflatten(-1, (H, x.shape[-1] // H))  # *batch T H D/H
    return x.transpose(-2, -3)  # *batch H T D/H
    ### END SOLUTION


def merge_heads(x):
    """Undo split_heads: (*batch, H, T, K) -> (*batch, T, H*K)."""
    ### BEGIN SOLUTION
    return x.transpose(-2, -3).flatten(-2)  # *batch T H K -> *batch T H·K
    ### END SOLUTION


# %% check="heads__split" points=1
x = torch.arange(24.0).reshape(3, 8)  # token t holds the numbers 8t to 8t + 7
hint = "there may be no batch axis or several: count axes from the end (-1, -2)"
with checks.case("3 tokens of width 8, H = 2 and no batch axis", hint):
    checks.close(
        split_heads(x, 2),
        torch.stack([x[:, :4], x[:, 4:]]),
        what="split_heads(x, 2)",
        suspects={
            "reshaped straight to (H, T, D/H), which mixes the tokens": x.reshape(2, 3, 4),
            "the heads are interleaved: head 0 has every second feature, not the first four": (
                torch.stack([x[:, ::2], x[:, 1::2]])
            ),
            "the axes are (T, H, D/H); the heads come before the tokens": x.reshape(3, 2, 4),
            "the axes are (H, D/H, T); the width comes last": x.reshape(3, 2, 4).permute(1, 2, 0),
            "heads of width 2 instead of 2 heads": x.reshape(3, 4, 2).transpose(0, 1),
        },
        hint="head 0 holds the features 0 to 3 of every token, head 1 the features 4 to 7",
    )

# %% check="heads__merge" points=1
heads = torch.arange(24.0).reshape(2, 3, 4)  # 2 heads, 3 tokens, width 4
hint = "there may be no batch axis or several: count axes from the end (-1, -2)"
with checks.case("2 heads, 3 tokens, head width 4 and no batch axis", hint):
    checks.close(
        merge_heads(heads),
        torch.cat([heads[0], heads[1]], -1),
        what="merge_heads(x)",
        suspects={
            "merged without moving the heads next to the width, which mixes tokens": (
                heads.reshape(3, 8)
            ),
            "the heads are interleaved; each head's features stay side by side": (
                heads.permute(1, 2, 0).reshape(3, 8)
            ),
            "the heads were added; they stand side by side": heads.sum(0),
            "the heads were averaged; they stand side by side": heads.mean(0),
            "heads and tokens were merged, instead of heads and width": heads.reshape(6, 4),
        },
        hint="token t gets head 0's four numbers for t, then head 1's",
    )

# %% check="heads__batch" points=1
# Hidden: other batch shapes and numbers of heads, tensors that are views, arguments left alone.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(1)
for batch, tokens, width, parts in [
    ((), 5, 6, 3),
    ((2,), 4, 6, 1),
    ((2,), 1, 6, 6),
    ((4,), 4, 8, 4),
    ((2, 3), 5, 9, 3),
]:
    x = torch.randn(*batch, width, tokens, generator=generator).mT  # a view, not contiguous
    expected = torch.stack(x.chunk(parts, -1), -3)
    told = f"x of shape {tuple(x.shape)} and {parts} heads"
    hint = "count axes from the end, and use reshape or flatten where view refuses"
    with checks.case(told, hint), checks.unchanged(x=x):
        checks.close(split_heads(x, parts), expected, what="split_heads(x, H)", hint=hint)
    with checks.case(told, hint), checks.unchanged(heads=expected):
        checks.close(merge_heads(expected), x, what="merge_heads of the right heads", hint=hint)
### END HIDDEN TESTS

# %% check="heads__round_trip" points=1
# Hidden: there and back, forwards and backwards.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
x = torch.randn(2, 5, 12, generator=generator, dtype=torch.float64).requires_grad_()
with checks.case("x of shape (2, 5, 12) and H = 3"):
    back = merge_heads(split_heads(x, 3))
    checks.close(back, x, what="merge_heads(split_heads(x, 3))", hint="it must equal x")
    heads = split_heads(x, 3)
    upstream = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64)
    checks.shape(heads, (2, 3, 5, 4), what="split_heads(x, 3)")
    checks.gradients(
        (heads * upstream).sum(-2),
        (torch.stack(x.chunk(3, -1), -3) * upstream).sum(-2),
        {"x": x},
        what="split_heads(x, 3)",
    )
### END HIDDEN TESTS

# %% [markdown] task="MultiHeadAttention" difficulty=3 minutes=25 builds_on="heads"
# ## Many heads, on projections of their own
#
# Queries, keys and values are three different views of the tokens, each a learned projection.
# Every head attends within its own slice; a last projection mixes what the heads found (Vaswani
# et al. 2017, section 3.2.2):
#
# $$\mathrm{head}_h = \mathrm{Attention}\big((X W_q)_h, (Y W_k)_h, (Y W_v)_h\big), \qquad
# \mathrm{output} = [\mathrm{head}_1; \dots; \mathrm{head}_H]\, W_o$$
#
# ```python
# layer = MultiHeadAttention(D, H, source_width=None)
# layer(x, source=None, mask=None)
# #  x (B, T, D)   source (B, S, source_width)   ->   (B, T, D)
# ```
#
# - **Self-attention:** `layer(x)`. Queries, keys and values come from `x`.
# - **Cross-attention:** `layer(x, source)`. Queries come from `x`, keys *and* values from `source`,
#   which has its own length, and its own width where `source_width` says so.
# - `mask` has shape `(T, S)`, or `(B, T, S)` with one table for each sequence, or has length 1
#   where these have `T` or `S` (as `(B, 1, S)` for padding). It is the same for all heads. Where it
#   closes every key to a query, the heads give zeros, and the output is the bias of `W_o`.
#
# So that the checks can give your layer known weights, hold four `nn.Linear` with biases:
#
# | name | from | to |
# | --- | --- | --- |
# | `W_q` | `D` | `D` |
# | `W_k` | `source_width`, or `D` | `D` |
# | `W_v` | `source_width`, or `D` | `D` |
# | `W_o` | `D` | `D` |
#
# With `D = 8` and `H = 4` each head has queries of width 2, so its scores are divided by
# $\sqrt{2}$. For `x` of shape `(3, 5, 8)` the weights of all heads have shape `(3, 4, 5, 5)`, and
# the output has shape `(3, 5, 8)`.
#
# You may call your `scaled_dot_product_attention`, `split_heads` and `merge_heads`: while this task
# is checked, correct versions stand under these names, which take the arguments by the same names.
#
# <details><summary>Hint 1</summary>
#
# `forward` is five steps: project, split, attend, merge, project. Write down the shape after each.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# After the split, the scores have shape `(B, H, T, S)`. A mask of shape `(B, T, S)` would line its
# batch up with the heads, with an error if you are lucky. Give it an axis of length 1 for the
# heads: `mask.unsqueeze(1)`. A mask of shape `(T, S)` needs none.
#
# </details>


# %% answer="MultiHeadAttention"
class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2), self and cross.

    Args:
        D: model width.
        H: number of heads; divides D.
        source_width: width of the source in cross-attention; D when left out.
    """

    def __init__(self, D, H, source_width=None):
        super().__init__()
        ### BEGIN SOLUTION
        source_width = D if source_width is None else source_width
        self.H = H
        self.W_q = nn.Linear(D, D)
        self.W_k = nn.Linear(source_width, D)
        self.W_v = nn.Linear(source_width, D)
        self.W_o = nn.Linear(D, D)
        ### END SOLUTION

    def forward(self, x, source=None, mask=None):
        """Attend from x (B, T, D) to source (B, S, source_width), or to x itself.

        The mask is boolean, (T, S) or (B, T, S) or broadcastable to it; True = may attend.
        Returns (B, T, D).
        """
        ### BEGIN SOLUTION
        source = x if source is None else source
        q = split_heads(self.W_q(x), self.H)  # B H T D/H
        k = split_heads(self.W_k(source), self.H)  # B H S D/H
        v = split_heads(self.W_v(source), self.H)
        if mask is not None and mask.ndim == 3:
            mask = mask.unsqueeze(1)  # B 1 T S: the same for all heads
        mixed = scaled_dot_product_attention(q, k, v, mask)
        return self.W_o(merge_heads(mixed))  # B H T D/H -> B T D
        ### END SOLUTION


# %% check="MultiHeadAttention__parameters" points=1
for wide in (8, 6):
    state = MultiHeadAttention(8, 2, source_width=wide).state_dict()
    for name, into in (("W_q", 8), ("W_k", wide), ("W_v", wide), ("W_o", 8)):
        for part, shape in (("weight", (8, into)), ("bias", (8,))):
            missing = f"the layer has no {name}.{part}: is self.{name} an nn.Linear?"
            assert f"{name}.{part}" in state, missing
            checks.shape(
                state[f"{name}.{part}"],
                shape,
                what=f"{name}.{part} of MultiHeadAttention(8, 2, source_width={wide})",
                hint="W_q and W_o map D to D; W_k and W_v map the source's width to D",
            )

# %% check="MultiHeadAttention__self_attention" points=2
from lookback.attention import merge_heads as _merge
from lookback.attention import scaled_dot_product_attention as _attend
from lookback.attention import split_heads as _split

generator = torch.Generator().manual_seed(1)
x = torch.randn(2, 5, 8, generator=generator)
state = {}
for name in ("W_q", "W_k", "W_v", "W_o"):
    state[f"{name}.weight"] = torch.randn(8, 8, generator=generator) / 2
    state[f"{name}.bias"] = torch.randn(8, generator=generator) / 2
with (
    checks.case(
        "B = 2, T = 5, D = 8, H = 4",
        "where source_width is None, W_k and W_v map from D; compare the shape after each step",
    ),
    checks.given(scaled_dot_product_attention=_attend, split_heads=_split, merge_heads=_merge),
):
    layer = MultiHeadAttention(8, 4)
    layer.load_state_dict(state, strict=False)
    output = layer(x)


def _linear(name, y):
    return y @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _out(mixed):  # from the heads to the layer's output
    return _linear("W_o", _merge(mixed))


whole = [_linear(name, x) for name in ("W_q", "W_k", "W_v")]
q, k, v = (_split(y, 4) for y in whole)
mixed = _attend(q, k, v)
scores = q @ k.mT / 2**0.5
straight = _attend(*(y.reshape(2, 4, 5, 2) for y in whole))
strangers = _attend(*(_split(y.transpose(0, 1), 4) for y in whole))
checks.close(
    output,
    _out(mixed),
    what="the output of self-attention",
    suspects={
        "scores divided by √D; a head's keys have width D/H": _out(_attend(q, k, v, scale=8**-0.5)),
        "scores divided by √H; a head's keys have width D/H": _out(_attend(q, k, v, scale=4**-0.5)),
        "scores not divided by √(D/H)": _out(_attend(q, k, v, scale=1.0)),
        "heads merged without moving them, which mixes tokens": (
            _linear("W_o", mixed.reshape(2, 5, 8))
        ),
        "width reshaped straight to (B, H, T, D/H), which mixes tokens": _out(straight),
        "width reshaped straight to (B, H, T, D/H) and straight back, which mixes tokens": (
            _linear("W_o", straight.reshape(2, 5, 8))
        ),
        "W_o is missing: the heads are merged but not mixed": _merge(mixed),
        "there is one head only: split before attending": _linear("W_o", _attend(*whole)),
        "there are D/H heads of width H, not H heads of width D/H": _out(
            _attend(*(_split(y, 2) for y in whole))
        ),
        "one projection serves as queries, keys and values": _out(_attend(q, q, q)),
        "W_q, W_k and W_v are one and the same layer": _out(_attend(v, v, v)),
        "queries and keys are swapped": _out(_attend(k, q, v)),
        "the keys serve as values: is W_v used?": _out(_attend(q, k, k)),
        "the queries serve as keys: is W_k used?": _out(_attend(q, q, v)),
        "the values are not projected: is W_v used?": _out(_attend(q, k, _split(x, 4))),
        "softmax runs over the queries, not over the keys": _out(scores.softmax(-2) @ v),
        "softmax runs over the heads, not over the keys": _out(scores.softmax(1) @ v),
        "there is a causal mask that nobody asked for": _out(_attend(q, k, v, causal=True)),
        "batch and time are swapped, so sequences attend to each other": (
            _out(strangers).transpose(0, 1)
        ),
        "x was added to the output; the residual is not part of this layer": _out(mixed) + x,
    },
    hint="project, split, attend, merge, project; compare the shape after each step",
)

# %% check="MultiHeadAttention__cross_attention" points=1
from lookback.attention import merge_heads as _merge
from lookback.attention import scaled_dot_product_attention as _attend
from lookback.attention import split_heads as _split

generator = torch.Generator().manual_seed(2)
x, other, source = torch.randn(3, 2, 5, 8, generator=generator)
with (
    checks.case("x and a source of one shape, (2, 5, 8)"),
    checks.given(scaled_dot_product_attention=_attend, split_heads=_split, merge_heads=_merge),
):
    layer = MultiHeadAttention(8, 2)
    alone, before = layer(x), layer(x, source)
    turned = layer(x, source.roll(1, dims=1))
    changed = layer(torch.cat([other[:, :1], x[:, 1:]], 1), source)
checks.moved(
    alone,
    before,
    what="the output",
    when="a source was given",
    hint="is source ignored? Keys and values come from it",
)
checks.unmoved(
    before,
    turned,
    what="the output",
    when="the tokens of the source changed places",
    hint="keys and values both come from the source, queries from x: is one taken elsewhere?",
)
checks.moved(
    before[:, 0],
    changed[:, 0],
    what="the output at position 0",
    when="x changed there",
    hint="queries come from x",
)
x, source = torch.randn(2, 3, 8, generator=generator), torch.randn(2, 7, 6, generator=generator)
with (
    checks.case("x (2, 3, 8) and a source (2, 7, 6)", "keys and values have the source's length"),
    checks.given(scaled_dot_product_attention=_attend, split_heads=_split, merge_heads=_merge),
):
    layer = MultiHeadAttention(8, 2, source_width=6)
    checks.shape(layer(x, source), (2, 3, 8), what="the output")

# %% check="MultiHeadAttention__masks" points=1
# Hidden: masks for all sequences, for each, and for padding.
### BEGIN HIDDEN TESTS
from lookback.attention import merge_heads as _merge
from lookback.attention import scaled_dot_product_attention as _attend
from lookback.attention import split_heads as _split

generator = torch.Generator().manual_seed(3)
state = {}
for name in ("W_q", "W_k", "W_v", "W_o"):
    state[f"{name}.weight"] = torch.randn(8, 8, generator=generator) / 2
    state[f"{name}.bias"] = torch.randn(8, generator=generator) / 2


def _linear(name, y):
    return y @ state[f"{name}.weight"].T + state[f"{name}.bias"]


for batch, open_to in [
    (3, (4, 5)),  # one table for all
    (3, (3, 4, 5)),  # one for each sequence
    (3, (3, 1, 5)),  # padding
    (2, (2, 4, 5)),  # as many sequences as heads
    (2, (1, 4, 5)),
    (4, (4, 5)),  # as many sequences as queries
    (1, (1, 1, 5)),
]:
    x = torch.randn(batch, 4, 8, generator=generator)
    source = torch.randn(batch, 5, 8, generator=generator)
    mask = torch.rand(open_to, generator=generator) < 0.6
    closed = torch.zeros(open_to, dtype=torch.bool)
    with (
        checks.case(
            f"x {tuple(x.shape)}, source {tuple(source.shape)}, H = 2, mask {open_to}",
            "scores have shape (B, H, T, S): a mask with a batch axis needs an axis for the heads",
        ),
        checks.given(scaled_dot_product_attention=_attend, split_heads=_split, merge_heads=_merge),
        checks.unchanged(x=x, source=source, mask=mask),
    ):
        layer = MultiHeadAttention(8, 2)
        layer.load_state_dict(state, strict=False)
        output, empty = layer(x, source, mask), layer(x, source, closed)
    named = {"W_q": x, "W_k": source, "W_v": source}
    q, k, v = (_split(_linear(name, y), 2) for name, y in named.items())
    per_head = mask.unsqueeze(-3)  # one table for all heads, whatever stands before it
    suspects = {
        "the mask is ignored": _attend(q, k, v),
        "the mask is inverted": _attend(q, k, v, ~per_head),
    }
    if open_to == (2, 4, 5):
        suspects["the mask's batch axis was taken for the heads"] = _attend(q, k, v, mask)
    with checks.case(f"x {tuple(x.shape)}, H = 2, mask {open_to}"):
        checks.close(
            output,
            _linear("W_o", _merge(_attend(q, k, v, per_head))),
            what="the output",
            suspects={told: _linear("W_o", _merge(mixed)) for told, mixed in suspects.items()},
        )
        checks.close(
            empty,
            state["W_o.bias"].expand(batch, 4, 8),
            what="the output where every key is closed",
            hint="the heads give zeros, so the output is the bias of W_o",
        )
### END HIDDEN TESTS

# %% check="MultiHeadAttention__heads" points=1
# Hidden: other numbers of heads, lengths and widths.
### BEGIN HIDDEN TESTS
from lookback.attention import merge_heads as _merge
from lookback.attention import scaled_dot_product_attention as _attend
from lookback.attention import split_heads as _split

generator = torch.Generator().manual_seed(4)
for width, parts, queries, keys, wide in [
    (8, 1, 3, 3, 8),
    (6, 6, 5, 5, 6),
    (6, 3, 1, 4, 5),
    (12, 2, 4, 1, 12),
    (10, 5, 7, 3, 4),
]:
    state = {}
    for name, into in (("W_q", width), ("W_k", wide), ("W_v", wide), ("W_o", width)):
        state[f"{name}.weight"] = torch.randn(width, into, generator=generator) / into**0.5
        state[f"{name}.bias"] = torch.randn(width, generator=generator) / 2
    x = torch.randn(2, queries, width, generator=generator)
    source = torch.randn(2, keys, wide, generator=generator)
    with (
        checks.case(f"D = {width}, H = {parts}, T = {queries}, S = {keys}, source_width = {wide}"),
        checks.given(scaled_dot_product_attention=_attend, split_heads=_split, merge_heads=_merge),
    ):
        layer = MultiHeadAttention(width, parts, wide)
        layer.load_state_dict(state, strict=False)
        output = layer(x, source)
    q, k, v = (
        _split(y @ state[f"{name}.weight"].T + state[f"{name}.bias"], parts)
        for name, y in {"W_q": x, "W_k": source, "W_v": source}.items()
    )
    with checks.case(f"D = {width}, H = {parts}, T = {queries}, S = {keys}, source_width = {wide}"):
        checks.close(
            output,
            _merge(_attend(q, k, v)) @ state["W_o.weight"].T + state["W_o.bias"],
            what="the output",
        )
### END HIDDEN TESTS

# %% check="MultiHeadAttention__symmetry" points=1
# Hidden: what self-attention may not know: the order of the tokens, the other sequences.
### BEGIN HIDDEN TESTS
from lookback.attention import merge_heads as _merge
from lookback.attention import scaled_dot_product_attention as _attend
from lookback.attention import split_heads as _split

generator = torch.Generator().manual_seed(5)
x = torch.randn(3, 6, 8, generator=generator)
order = torch.tensor([3, 0, 5, 1, 4, 2])
changed = torch.cat([torch.randn(1, 6, 8, generator=generator), x[1:]])
later = torch.cat([x[:, :4], torch.randn(3, 2, 8, generator=generator)], 1)
past = torch.ones(6, 6).tril().bool()
with checks.given(scaled_dot_product_attention=_attend, split_heads=_split, merge_heads=_merge):
    layer = MultiHeadAttention(8, 2)
    before, masked = layer(x), layer(x, mask=past)
    reordered, beside, after = layer(x[:, order]), layer(changed), layer(later, mask=past)
checks.unmoved(
    before[:, order],
    reordered,
    what="a token's output",
    when="the tokens changed places",
    hint="without a mask nothing in attention knows the order: "
    "is there a mask of your own, or were tokens mixed in a reshape?",
)
checks.unmoved(
    before[1:],
    beside[1:],
    what="the output for the sequences 1 and 2",
    when="sequence 0 changed",
    hint="attention runs along the tokens of one sequence, axis 1, never across the batch",
)
checks.unmoved(
    masked[:, :4],
    after[:, :4],
    what="the output at the positions 0 to 3",
    when="the tokens 4 and 5 changed, which a causal mask closes to them",
    hint="is the mask handed on?",
)
checks.moved(before, masked, what="the output", when="a mask was given")
### END HIDDEN TESTS

# %% check="MultiHeadAttention__gradient" points=1
# Hidden: gradients of the input, the source and the weights.
### BEGIN HIDDEN TESTS
from lookback.attention import merge_heads as _merge
from lookback.attention import scaled_dot_product_attention as _attend
from lookback.attention import split_heads as _split

generator = torch.Generator().manual_seed(6)
state = {}
for name in ("W_q", "W_k", "W_v", "W_o"):
    state[f"{name}.weight"] = torch.randn(8, 8, generator=generator) / 2
    state[f"{name}.bias"] = torch.randn(8, generator=generator) / 2
x = torch.randn(2, 4, 8, generator=generator).requires_grad_()
source = torch.randn(2, 5, 8, generator=generator).requires_grad_()
with checks.given(scaled_dot_product_attention=_attend, split_heads=_split, merge_heads=_merge):
    layer = MultiHeadAttention(8, 4)
    layer.load_state_dict(state, strict=False)
    for_inputs, for_weights = layer(x, source), layer(x, source)
    for_weights.sum(1).square().sum().backward()
found = {name: w.grad for name, w in layer.named_parameters()}
leaves = {name: w.clone().requires_grad_() for name, w in state.items()}


def _expected():
    q, k, v = (
        _split(y @ leaves[f"{name}.weight"].T + leaves[f"{name}.bias"], 4)
        for name, y in {"W_q": x, "W_k": source, "W_v": source}.items()
    )
    return _merge(_attend(q, k, v)) @ leaves["W_o.weight"].T + leaves["W_o.bias"]


checks.gradients(
    for_inputs,
    _expected(),
    {"x": x, "source": source},
    what="the output",
    hint="let torch follow every step: no detach, no .data, no numbers in between",
    atol=1e-4,
)
_expected().sum(1).square().sum().backward()
for name, leaf in leaves.items():
    gradient = found.get(name)
    assert gradient is not None, f"no gradient reaches {name}: is it used, and not through .data?"
    checks.close(gradient, leaf.grad, what=f"the gradient of {name}", rtol=1e-3, atol=1e-2)
### END HIDDEN TESTS

# %% [markdown] task="sinusoidal_positions" difficulty=2 minutes=12
# ## Where a token stands
#
# Attention without a mask treats its tokens as a set. To give them an order, a vector that says
# “this is position $t$” is added to each. The first Transformer used a fixed one (Vaswani et al.
# 2017, section 3.5): pairs of a sine and a cosine, each pair turning more slowly than the one
# before.
#
# $$P_{t,\,2i} = \sin\!\left(\frac{t}{10000^{2i/D}}\right), \qquad
# P_{t,\,2i+1} = \cos\!\left(\frac{t}{10000^{2i/D}}\right)$$
#
# ```python
# sinusoidal_positions(T, D)   # -> (T, D), float32
# ```
#
# Here $i$ counts *pairs*: columns 0 and 1 are pair 0, columns 2 and 3 are pair 1. Positions count
# from 0. For `D = 4` the two pairs turn by 1 and by $10000^{-2/4} = 0.01$ radians a step:
#
# ```python
# sinusoidal_positions(3, 4)   # [[ 0.0000,  1.0000,  0.0000,  1.0000],
#                              #  [ 0.8415,  0.5403,  0.0100,  1.0000],
#                              #  [ 0.9093, -0.4161,  0.0200,  0.9998]]
# ```
#
# Where `D` is odd, the last pair has no room for its cosine: it is left out. The exponent is still
# $2i/D$.
#
# <details><summary>Hint 1</summary>
#
# `torch.arange(0, D, 2)` is $2i$ for every pair. Positions as a column, frequencies as a row: their
# product is a table of angles of shape `(T, ⌈D/2⌉)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `P[:, 0::2]` and `P[:, 1::2]` are the even and the odd columns. For an odd `D` there is one even
# column more.
#
# </details>


# %% answer="sinusoidal_positions"
def sinusoidal_positions(T, D):
    """Sinusoidal position vectors (Vaswani et al. 2017, section 3.5).

    Args:
        T: number of positions, counted from 0.
        D: width; an odd one leaves the last cosine out.

    Returns:
        Table (T, D), float32: sines in the even columns, cosines in the odd ones.
    """
    ### BEGIN SOLUTION
    position = torch.arange(T)[:, None]
    frequency = 10_000.0 ** (-torch.arange(0, D, 2) / D)
    angle = position * frequency  # T ⌈D/2⌉
    table = torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)  # T 2·⌈D/2⌉
    return table[:, :D]
    ### END SOLUTION


# %% check="sinusoidal_positions__first_rows" points=1
t = torch.arange(3.0)[:, None]
pairs = torch.tensor([1.0, 0.01])  # radians a step
expected = torch.stack([(t * pairs).sin(), (t * pairs).cos()], -1).flatten(-2)


def _table(angles, first=torch.sin, second=torch.cos):  # the columns in their order
    return torch.stack([first(angles), second(angles)], -1).flatten(-2)


each = 10_000.0 ** (-torch.arange(4.0) / 4)  # a frequency of its own for each column
checks.close(
    sinusoidal_positions(3, 4),
    expected,
    what="sinusoidal_positions(3, 4)",
    suspects={
        "the positions count from 1; the first is 0, with the row (0, 1, 0, 1)": _table(
            (t + 1) * pairs
        ),
        "all sines come first, then all cosines; they alternate": torch.cat(
            [(t * pairs).sin(), (t * pairs).cos()], -1
        ),
        "sine and cosine are swapped: sines stand in the even columns": _table(
            t * pairs, torch.cos, torch.sin
        ),
        "the exponent is i/D; it should be 2i/D, where i counts pairs": _table(
            t * torch.tensor([1.0, 0.1])
        ),
        "the exponent is 4i/D; it is 2i/D: arange(0, D, 2) is 2i already": _table(
            t * torch.tensor([1.0, 1e-4])
        ),
        "the exponent is 2j/D with j counting columns; i counts pairs": torch.stack(
            [f(t[:, 0] * w**2) for f, w in zip([torch.sin, torch.cos] * 2, each, strict=True)], -1
        ),
        "the exponent differs within a pair; sine and cosine of a pair share 2i/D": torch.stack(
            [f(t[:, 0] * w) for f, w in zip([torch.sin, torch.cos] * 2, each, strict=True)], -1
        ),
        "the base is 1000; it should be 10000": _table(t * torch.tensor([1.0, 1000**-0.5])),
        "the base is 100000; it should be 10000": _table(t * torch.tensor([1.0, 100_000**-0.5])),
        "the base is e; it should be 10000": _table(t * torch.tensor([1.0, 0.606531])),
        "the angles were multiplied by 10000^(2i/D); they are divided by it": _table(
            t * torch.tensor([1.0, 100.0])
        ),
        "the angles were taken for degrees; sin and cos take radians": _table(
            t * pairs * torch.pi / 180
        ),
        "the positions were divided by their number": _table(t / 3 * pairs),
        "the angles have a factor 2π too many": _table(t * pairs * 2 * torch.pi),
        "all pairs turn at the same speed: does the exponent divide integers?": _table(
            t * torch.tensor([1.0, 1.0])
        ),
        "every column is a sine; the odd ones are cosines": _table(t * pairs, torch.sin, torch.sin),
    },
    hint="pair 0 turns by 1 radian a step, pair 1 by 0.01; row 0 is (0, 1, 0, 1)",
)

# %% check="sinusoidal_positions__distance" points=1
positions = sinusoidal_positions(30, 12)
checks.shape(positions, (30, 12), what="sinusoidal_positions(30, 12)")
checks.close(
    positions.square().sum(-1),
    torch.full((30,), 6.0),
    what="the squared length of each row",
    hint="sin² + cos² = 1 for each of the 6 pairs, if both have the same angle",
)
products = positions @ positions.T
checks.close(
    products[5:, 5:],
    products[:25, :25],
    what="the product of two positions, both moved on by 5,",
    atol=1e-4,
    hint="sin a sin b + cos a cos b = cos(a − b): it depends on the distance alone",
)

# %% check="sinusoidal_positions__widths" points=1
# Hidden: other widths, odd ones too, and a single position.
### BEGIN HIDDEN TESTS
for length, width in [(5, 6), (7, 16), (1, 8), (6, 2), (6, 1), (6, 3), (9, 7)]:
    rows = []
    for t in range(length):
        angles = [t / 10_000 ** (2 * (j // 2) / width) for j in range(width)]
        rows.append(torch.tensor(angles, dtype=torch.float64))
    angles = torch.stack(rows)
    even = torch.arange(width) % 2 == 0
    pairs = (width + 1) // 2
    told = f"T = {length}, D = {width}"
    with checks.case(told, "for an odd D there is one sine more than there are cosines"):
        checks.close(
            sinusoidal_positions(length, width),
            torch.where(even, angles.sin(), angles.cos()).float(),
            what="the table",
            suspects={
                "the frequencies of an odd width were computed for the even width above it": (
                    torch.stack(
                        [
                            (torch.sin if j % 2 == 0 else torch.cos)(
                                torch.arange(length) / 10_000 ** (2 * (j // 2) / (2 * pairs))
                            )
                            for j in range(width)
                        ],
                        -1,
                    )
                )
            },
        )
### END HIDDEN TESTS

# %% check="sinusoidal_positions__far" points=1
# Hidden: positions far away.
### BEGIN HIDDEN TESTS
from lookback.positions import sinusoidal

checks.close(
    sinusoidal_positions(2000, 32),
    sinusoidal(2000, 32),
    what="the table of 2000 positions",
    atol=2e-3,
    hint="make angles of floating-point numbers, and for any length",
)
### END HIDDEN TESTS

# %% [markdown]
# ## All of it at once
#
# This cell has no points. It runs your parts as one layer over twelve tokens, with positions added
# and the future closed, and prints how many keys a query looks at. Early queries have few keys to
# choose from.

# %%
torch.manual_seed(0)
tokens = torch.randn(1, 12, 32) + sinusoidal_positions(12, 32)
layer = MultiHeadAttention(32, 4)
print("output", tuple(layer(tokens, mask=causal_mask(12)).shape))

q = split_heads(layer.W_q(tokens), 4)
k = split_heads(layer.W_k(tokens), 4)
open_keys = causal_mask(12).expand(1, 4, 12, 12)
# with the identity as values the output is the weights themselves
weights = scaled_dot_product_attention(q, k, torch.eye(12).expand(1, 4, 12, 12), open_keys)
print("keys looked at, by query:", attention_entropy(weights, open_keys).exp().mean((0, 1)))
