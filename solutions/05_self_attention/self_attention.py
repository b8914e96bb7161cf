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

# %% setup=true
import torch

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
            hint="without an offset, query 0 and key 0 stand at the same position",
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


# %% check="scaled_dot_product_attention__by_hand" points=1
q = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 0.0, 0.0]])
k = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 1.0, 0.0]])
v = torch.tensor([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]])
scores = torch.tensor([[4.0, 0.0, 3.0], [2.0, 0.0, 4.0]])
with checks.case("two queries, three keys, K = 4, V = 2, and no batch axis"):
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
random = torch.Generator().manual_seed(1)
q, k, v = (torch.randn(2, n, 4, generator=random) for n in (3, 5, 5))
mask = torch.ones(3, 5).tril(1).bool()  # the last two keys of query 1, the last three of query 0
changed = k.clone(), v.clone()
changed[0][:, 3:] += 1e5  # closed, however large the score
changed[1][:, 3:] -= 7.0
before = scaled_dot_product_attention(q, k, v, mask)
after = scaled_dot_product_attention(q, *changed, mask)
what = "the outputs of the queries 0 and 1"
when = "keys and values that are closed to them changed"
checks.unmoved(
    before[:, :2],
    after[:, :2],
    what=what,
    when=when,
    hint="is the mask inverted, applied after softmax, or closing with too small a number?",
)
checks.moved(before[:, 2], after[:, 2], what="the output of query 2", when="an open key changed")

# %% check="scaled_dot_product_attention__stable" points=1
from lookback.attention import scaled_dot_product_attention as reference

random = torch.Generator().manual_seed(2)
q, k, v = (torch.randn(4, 3, generator=random, dtype=torch.float64) for _ in range(3))
q[:2, 0], q[2:, 0], k[:, 0] = 2000.0, -2000.0, 1.0  # scores near +1155, then near -1155
checks.close(
    scaled_dot_product_attention(q, k, v),
    reference(q, k, v),
    what="the output for scores near ±1155",
    hint="e¹¹⁵⁵ overflows and e⁻¹¹⁵⁵ is 0: subtract each row's own maximum before exp",
)

# %% check="scaled_dot_product_attention__empty_rows" points=1
# Hidden: queries to which every key is closed.
### BEGIN HIDDEN TESTS
from lookback.attention import scaled_dot_product_attention as reference

random = torch.Generator().manual_seed(3)
q, k, v = (torch.randn(2, n, 4, generator=random).requires_grad_() for n in (3, 5, 5))
mask = torch.rand(2, 3, 5, generator=random) < 0.6
mask[..., 0] = True
mask[0, 1] = False
mask[1] = False
output = scaled_dot_product_attention(q, k, v, mask)
wanted = reference(q, k, v, mask)
average = torch.where(mask.any(-1, keepdim=True), wanted, v.mean(-2, keepdim=True))
spoilt = wanted.masked_fill(~mask.any(-1, keepdim=True), float("nan"))
checks.close(
    output,
    wanted,
    what="the output where some queries may see no key",
    suspects={
        "an empty row became the average of all values; it should be zeros": average,
        "an empty row became NaN; it should be zeros": spoilt,
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

random = torch.Generator().manual_seed(4)
for batch, queries, keys, open_to in [
    ((), 3, 4, (3, 4)),
    ((2,), 1, 5, (2, 1, 5)),
    ((2,), 5, 1, (5, 1)),
    ((3,), 4, 6, (3, 1, 6)),
    ((2, 3), 4, 5, (2, 1, 1, 5)),
    ((2, 3), 3, 3, (3, 3)),
    ((2, 1, 2), 2, 3, (3,)),
]:
    q = torch.randn(*batch, queries, 6, generator=random)
    k = torch.randn(*batch, 6, keys, generator=random).mT  # a view, not contiguous
    v = torch.randn(*batch, keys, 2 * 7, generator=random)[..., ::2]
    mask = torch.rand(open_to, generator=random) < 0.7
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    with checks.case(shapes, "index axes from the end (-1, -2): there may be any number before"):
        checks.close(scaled_dot_product_attention(q, k, v), reference(q, k, v), what="the output")
    with (
        checks.case(f"{shapes}, mask {open_to}", "the mask broadcasts to (*batch, T, S)"),
        checks.unchanged(q=q, k=k, v=v, mask=mask),
    ):
        output = scaled_dot_product_attention(q, k, v, mask)
    with checks.case(f"{shapes}, mask {open_to}"):
        checks.close(output, reference(q, k, v, mask), what="the output")
### END HIDDEN TESTS

# %% check="scaled_dot_product_attention__dtypes" points=1
# Hidden: float64, bfloat16 and float16.
### BEGIN HIDDEN TESTS
from lookback.attention import scaled_dot_product_attention as reference

random = torch.Generator().manual_seed(5)
for dtype in (torch.float64, torch.bfloat16, torch.float16):
    q, k, v = (torch.randn(2, 4, 8, generator=random).to(dtype) for _ in range(3))
    mask = torch.ones(4, 4).tril().bool()
    mask[2] = False
    with checks.case(
        f"{dtype} inputs",
        "float16 ends at 65504: close a score with float('-inf'), not with −1e9; "
        "and keep every tensor in the dtype of q",
    ):
        output = scaled_dot_product_attention(q, k, v, mask)
    wanted = reference(q.double(), k.double(), v.double(), mask).to(dtype)
    checks.close(output, wanted, what=f"the output for {dtype} inputs")
### END HIDDEN TESTS

# %% check="scaled_dot_product_attention__gradient" points=1
# Hidden: gradients in float64.
### BEGIN HIDDEN TESTS
from lookback.attention import scaled_dot_product_attention as reference

random = torch.Generator().manual_seed(6)
inputs = {
    name: torch.randn(2, n, 5, generator=random, dtype=torch.float64).requires_grad_()
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
