# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bahdanau and Luong
#
# You build the attention that came first: a decoder that looks back at the whole source before each
# word it writes. A score compares the decoder with every source position, softmax makes weights of
# the scores, and the weights mix the source into a context. The two papers differ in the score and
# in who asks; the rest is shared, and so are the odd cases: padding, empty sources, small number
# formats. At the end you measure whether the weights found the right words.
#
# **How to work.** Write each answer in the cell that holds the function, then run the checks
# below it. A check that passes is silent. One that fails says what is wrong and where to look.
# More checks are hidden; they hold your function to other sizes and harder cases. A check is worth
# its points or nothing.
#
# **Each task is graded on its own.** Where a task uses an earlier one, its checks put our version
# under that name while they run. So a mistake costs you points once, and you can do the tasks in
# any order.
#
# **What is closed.** You are asked to write attention, so torch's own attention layers raise an
# error when your cells call them, and this library's answers (`lookback.attention`,
# `lookback.masks`, `lookback.metrics` and what builds on them) may not be used in what you hand in.
# Everything else of torch is open, `torch.softmax` too.
#
# **Letters.** A shape is written with one letter an axis: `T` target positions, which ask, `S`
# source positions, which are asked, `D` width of a decoder state, `W` width of an encoder state,
# `K` hidden units of a score, `B` batch. `*batch` stands for any number of batch axes, also none. A
# matrix is laid out as in `torch.nn.Linear`, its output width first: `W_a` of shape `(K, D)` maps
# rows of width `D` by `x @ W_a.T`. A mask is boolean: `True` means “may attend”.
#
# **House rules.** A result has the dtype of what came in. A function never writes into its
# arguments.

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
    "lookback.metrics",
    "lookback.seq2seq",
    "lookback.transformer",
)

# %% [markdown] task="masked_softmax" difficulty=1 minutes=15
# ## Weights that know what is closed
#
# Attention turns scores into weights: not negative, and 1 in sum. In a batch, short sentences are
# filled up with padding, and no weight may go there. Write
#
# ```python
# masked_softmax(scores, mask=None)
# #  scores (*batch, S)   mask boolean, broadcasts to scores   ->   weights (*batch, S)
# ```
#
# $$\alpha_j = \frac{e^{a_j}}{\sum_{k \text{ open}} e^{a_k}} \ \text{ where } j \text{ is open,}
# \qquad \alpha_j = 0 \ \text{ where it is closed}$$
#
# The sum runs over the open scores of one row, the last axis. Without a mask everything is open.
#
# ```python
# scores = torch.tensor([[1.0, 1.0, 2.0]]).log()              # e^scores = 1, 1, 2
# masked_softmax(scores)                                      # [[0.25, 0.25, 0.50]]
# masked_softmax(scores, torch.tensor([[True, False, True]])) # [[0.33, 0.00, 0.67]]
# ```
#
# A closed score has no say at all, however large it is.
#
# **Empty rows.** A row in which everything is closed becomes zeros, not NaN and not equal shares.
# It also sends no gradient back.
#
# **Large scores.** Only differences count: adding the same number to all scores of a row changes
# nothing, be it 1000 or −50000.
#
# <details><summary>Hint 1</summary>
#
# A score of −∞ has the weight $e^{-\infty} = 0$. Every number format has `float("-inf")`; $-10^9$
# does not exist in float16.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A row of nothing but −∞ has the softmax 0/0: NaN in its weights, and NaN in its slopes. Erasing
# the result afterwards mends the weights, and not always the gradient. Find the empty rows with
# `mask.any(-1, keepdim=True)`, give them any finite scores before softmax, and erase their weights
# after it.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `x.masked_fill(condition, number)` makes a new tensor. `masked_fill_`, with the underscore, writes
# into the old one.
#
# </details>


# %% answer="masked_softmax"
def masked_softmax(scores, mask=None):
    """Softmax over the open scores of each row.

    Args:
        scores: any numbers (*batch, S).
        mask: None, or boolean and broadcastable to scores; True = may attend.

    Returns:
        Weights (*batch, S): 0 where closed; a row sums to 1, or to 0 where everything is closed.
    """
    ### BEGIN SOLUTION
    if mask is None:
        return scores.softmax(-1)
    empty = ~mask.any(-1, keepdim=True)
    scores = scores.masked_fill(~mask, float("-inf"))
    # softmax of a row of -inf is NaN, forward and backward: give it any finite row, then erase it
    return scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)
    ### END SOLUTION


# %% check="masked_softmax__by_hand" points=1
exponentials = torch.tensor([[1.0, 2.0, 5.0], [4.0, 1.0, 3.0]])
scores = exponentials.log()
checks.close(
    masked_softmax(scores),
    torch.tensor([[0.125, 0.25, 0.625], [0.5, 0.125, 0.375]]),
    what="the table of weights",
    suspects={
        "softmax runs down the columns; the weights of one row share the 1": scores.softmax(0),
        "the whole table shares the 1; each row has its own": exponentials / 16,
        "the exponentials were not divided by their sum": exponentials,
        "there is no exponential: scores were divided by their sum": (
            scores / scores.sum(-1, keepdim=True)
        ),
        "the logarithm of the weights instead of the weights": scores.log_softmax(-1),
    },
    hint="the exponentials are 1, 2, 5 and 4, 1, 3; both rows sum to 8",
)

# %% check="masked_softmax__mask" points=1
exponentials = torch.tensor([[1.0, 2.0, 5.0], [4.0, 1.0, 3.0]])
scores = exponentials.log()
mask = torch.tensor([[True, True, False], [False, True, True]])
with checks.unchanged(scores=scores, mask=mask):
    weights = masked_softmax(scores, mask)
checks.close(
    weights,
    torch.tensor([[1 / 3, 2 / 3, 0.0], [0.0, 1 / 4, 3 / 4]]),
    what="the table of weights",
    suspects={
        "the mask is inverted: True means “may attend”": torch.tensor(
            [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        ),
        "the mask is ignored": exponentials / 8,
        "closed after softmax, so the open weights no longer sum to 1": exponentials * mask / 8,
        "closed scores became 0, but e⁰ is 1": torch.tensor(
            [[1 / 4, 2 / 4, 1 / 4], [1 / 5, 1 / 5, 3 / 5]]
        ),
        "the mask was added to the scores as 0 and 1; a closed score must become −∞": (
            (scores + mask.float()).softmax(-1)
        ),
    },
    hint="row 0 shares 1 : 2 between its open entries, row 1 shares 1 : 3",
)

# %% check="masked_softmax__closed" points=1
generator = torch.Generator().manual_seed(1)
scores = torch.randn(3, 5, generator=generator)
mask = torch.tensor([[1, 1, 1, 1, 0], [1, 0, 1, 0, 1], [0, 0, 1, 0, 0]]).bool()
larger = torch.where(mask, scores, scores + 1e6)
before, after = masked_softmax(scores, mask), masked_softmax(larger, mask)
checks.unmoved(
    before,
    after,
    what="the table of weights",
    when="closed scores rose by a million",
    hint="close a score before softmax, and with −∞: no smaller number is sure to be enough. "
    "NaN here? exp of a million is ∞, and ∞ · 0 is NaN",
)
checks.moved(
    before,
    masked_softmax(scores * 2, mask),
    what="the table of weights",
    when="open scores were doubled",
)

# %% check="masked_softmax__stable" points=1
generator = torch.Generator().manual_seed(2)
scores = torch.randn(2, 4, generator=generator, dtype=torch.float64)
mask = torch.tensor([[True, True, False, True], [True, False, True, True]])
for shift in (1000.0, -50_000.0):
    for told, chosen in [("without a mask", None), ("with a mask", mask)]:
        with checks.case(f"all scores shifted by {shift:g}, {told}"):
            checks.unmoved(
                masked_softmax(scores, chosen),
                masked_softmax(scores + shift, chosen),
                what="the table of weights",
                when="the same number was added to all scores of a row",
                hint="e¹⁰⁰⁰ overflows: torch.softmax takes care of it, exp does not. And a closed "
                "score of −10000 is no longer small where the open ones are smaller. Wrong in the "
                "fourth digit only? These scores are float64: something made float32 of them",
            )

# %% check="masked_softmax__empty_rows" points=1
# Hidden: rows in which everything is closed, forwards and backwards.
### BEGIN HIDDEN TESTS
from lookback.efficient.reference import masked_softmax as _reference

generator = torch.Generator().manual_seed(3)
scores = torch.randn(2, 3, 4, generator=generator).requires_grad_()
mask = torch.rand(2, 3, 4, generator=generator) < 0.5
mask[:, 0], mask[:, 2, 0] = False, True
weights = masked_softmax(scores, mask)
expected = _reference(scores, mask)
empty = ~mask.any(-1, keepdim=True)
checks.close(
    weights,
    expected,
    what="the table of weights where some rows are empty",
    suspects={
        "an empty row became equal shares; it should be zeros": torch.where(empty, 0.25, expected),
        "an empty row became NaN; it should be zeros": torch.where(empty, float("nan"), expected),
        "an empty row was opened; it should be zeros": torch.where(
            empty, scores.softmax(-1), expected
        ),
    },
    hint="find the empty rows with mask.any(-1, keepdim=True) and erase their weights",
)
checks.gradients(
    weights,
    expected,
    {"scores": scores},
    what="the table of weights where some rows are empty",
    hint="softmax of a row of −∞ has a NaN gradient, even if its result is erased afterwards: "
    "give such rows finite scores before softmax",
)
### END HIDDEN TESTS

# %% check="masked_softmax__dtypes" points=1
# Hidden: float16, bfloat16 and float64.
### BEGIN HIDDEN TESTS
from lookback.efficient.reference import masked_softmax as _reference

generator = torch.Generator().manual_seed(4)
for dtype in (torch.float16, torch.bfloat16, torch.float64):
    scores = (3 * torch.randn(3, 6, generator=generator)).to(dtype)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    with checks.case(
        f"{dtype} scores",
        "float16 ends at 65504: close a score with float('-inf'), not with −1e9; "
        "and keep every tensor in the dtype of the scores",
    ):
        checks.close(
            masked_softmax(scores, mask),
            _reference(scores.double(), mask).to(dtype),
            what="the table of weights",
            hint="every tensor made on the way needs the dtype of the scores; the last row here is "
            "empty, so it is zeros",
        )
### END HIDDEN TESTS

# %% check="masked_softmax__inputs" points=1
# Hidden: other batch shapes, masks that broadcast, views, arguments left alone.
### BEGIN HIDDEN TESTS
from lookback.efficient.reference import masked_softmax as _reference

generator = torch.Generator().manual_seed(5)
for shape, open_to in [
    ((5,), (5,)),
    ((1, 1), (1, 1)),
    ((4, 4), (4,)),
    ((2, 3, 5), (2, 1, 5)),
    ((2, 3, 5), (3, 5)),
    ((2, 4, 3, 6), (2, 1, 1, 6)),
]:
    scores = torch.randn(*shape[:-1], 2 * shape[-1], generator=generator)[..., ::2]  # a view
    mask = torch.rand(open_to, generator=generator) < 0.6
    everything = torch.ones(open_to).bool()
    for told, chosen in [(f"mask {open_to}", mask), ("no mask", None)]:
        with (
            checks.case(f"scores {shape}, {told}", "the last axis is the row; a mask broadcasts"),
            checks.unchanged(scores=scores, mask=mask),
        ):
            checks.close(
                masked_softmax(scores, chosen),
                _reference(scores, everything if chosen is None else mask),
                what="the table of weights",
                hint="if the checks above pass: is an axis counted from the front?",
            )
### END HIDDEN TESTS

# %% [markdown] task="additive_score" difficulty=2 minutes=15
# ## Bahdanau: a small network scores each pair
#
# How well does source position $j$ answer what the decoder needs now? Bahdanau et al. (2015,
# appendix A.1.2) let a small network say so. It adds a part from the decoder state $s$ and a part
# from the encoder state $h_j$, bends the sum with tanh, and weighs the result:
#
# $$e_{j} = v_a^\top \tanh(W_a\, s + U_a\, h_j)$$
#
# ```python
# additive_score(query, memory, W_a, U_a, v_a)
# #  query (*batch, T, D)   memory (*batch, S, W)
# #  W_a (K, D)   U_a (K, W)   v_a (K,)             ->   scores (*batch, T, S)
# ```
#
# `query` holds decoder states, `memory` encoder states: every query is scored with every entry of
# the memory. Their widths may differ. One query, two entries:
#
# ```python
# query  = torch.tensor([[1.0, 0.0]])
# memory = torch.tensor([[1.0], [-1.0]])
# W_a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])     # W_a s   = ( 1, 0)
# U_a = torch.tensor([[0.0], [1.0]])               # U_a h_0 = ( 0, 1)    U_a h_1 = (0, -1)
# v_a = torch.tensor([1.0, 2.0])                   # sums      ( 1, 1)    and       (1, -1)
# additive_score(query, memory, W_a, U_a, v_a)     # [[2.2848, -0.7616]]
# ```
#
# The first score is $1 \cdot \tanh 1 + 2 \cdot \tanh 1 = 3 \cdot 0.7616$, the second
# $\tanh 1 - 2 \tanh 1$.
#
# <details><summary>Hint 1</summary>
#
# Map the queries and the memory first, once each. What is left is a sum for every pair, as in a
# table: an axis `T`, an axis `S`, and the `K` hidden units behind them.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `x[..., :, None, :]` puts an axis of length 1 before the last one. Shapes `(*batch, T, 1, K)` and
# `(*batch, 1, S, K)` add up to `(*batch, T, S, K)`. A product with `v_a` takes the last axis away.
#
# </details>


# %% answer="additive_score"
def additive_score(query, memory, W_a, U_a, v_a):
    """Bahdanau's score of every query with every entry of the memory.

    Args:
        query: decoder states (*batch, T, D).
        memory: encoder states (*batch, S, W).
        W_a: weights of a query (K, D).
        U_a: weights of an entry (K, W).
        v_a: weights of the hidden units (K,).

    Returns:
        Scores (*batch, T, S).
    """
    ### BEGIN SOLUTION
    asked = query @ W_a.T  # *batch T K
    offered = memory @ U_a.T  # *batch S K
    pairs = asked[..., :, None, :] + offered[..., None, :, :]  # *batch T S K
    return pairs.tanh() @ v_a
    ### END SOLUTION


# %% check="additive_score__by_hand" points=1
query = torch.tensor([[1.0, -1.0], [0.0, 0.5]])
memory = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 1.0], [0.5, -1.0, 0.0]])
W_a, U_a = torch.tensor([[1.0, 0.0], [2.0, 1.0]]), torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.5, 0.0]])
v_a = torch.tensor([1.0, 2.0])
sums = torch.tensor(  # W_a s + U_a h for every pair, two hidden units each
    [
        [[1.0, 1.5], [-1.0, 1.0], [1.5, 0.5]],
        [[0.0, 1.0], [-2.0, 0.5], [0.5, 0.0]],
    ]
)
expected = torch.tensor([[2.5719, 0.7616, 1.8294], [1.5232, -0.0398, 0.4621]])
with checks.case(
    "two queries of width 2, three entries of width 3, K = 2, and no batch axis",
    "W (K, D) maps x (…, D) to x @ W.T (…, K); there may be no batch axis: count axes from the end",
):
    checks.close(
        additive_score(query, memory, W_a, U_a, v_a),
        expected,
        what="the table of scores",
        atol=1e-3,
        suspects={
            "tanh is missing": (sums * v_a).sum(-1),
            "the function around the sum is a sigmoid; it should be tanh": sums.sigmoid() @ v_a,
            "the function around the sum is ReLU; it should be tanh": sums.relu() @ v_a,
            "the hidden units were added up without v_a": sums.tanh().sum(-1),
            "the hidden units were averaged without v_a": sums.tanh().mean(-1),
            "v_a belongs outside tanh: bend first, then weigh": (sums * v_a).sum(-1).tanh(),
            "each hidden unit was weighed before tanh": (sums * v_a).tanh().sum(-1),
            "rows and columns are swapped: rows are queries, columns are entries": expected.T,
            "the last axis still holds the hidden units; v_a sums them up": sums.tanh() * v_a,
            "the last axis still holds the hidden units, without v_a": sums.tanh(),
            "softmax was taken already; scores come before it": expected.softmax(-1),
            "the matrix W_a is transposed": torch.tensor(
                [[-1.6858, -2.5182, -2.2724], [2.2848, 0.1626, 0.9051]]
            ),
            "tanh was taken of each part; add first, then take it once": torch.tensor(
                [[3.2091, 1.3208, 1.8226], [1.8485, -0.0398, 0.4621]]
            ),
        },
        hint="the first score is 1 · tanh(1) + 2 · tanh(1.5)",
    )

# %% check="additive_score__pairs" points=1
generator = torch.Generator().manual_seed(1)
query = torch.randn(2, 3, 4, generator=generator)
memory = torch.randn(2, 5, 6, generator=generator)
W_a, U_a = torch.randn(7, 4, generator=generator) / 2, torch.randn(7, 6, generator=generator) / 3
v_a = torch.randn(7, generator=generator)
other, moved_on = query.clone(), memory.clone()
other[:, 1] += 1.0
moved_on[:, 3] -= 1.0
with checks.case(
    "a batch of two: query (2, 3, 4), memory (2, 5, 6), K = 7", "count axes from the end"
):
    before = additive_score(query, memory, W_a, U_a, v_a)
    asked = additive_score(other, memory, W_a, U_a, v_a)
    offered = additive_score(query, moved_on, W_a, U_a, v_a)
checks.shape(
    before, (2, 3, 5), what="the table of scores of 3 queries and 5 entries in a batch of two"
)
pair = "a score belongs to one query and one entry; sum over the hidden units alone"
checks.unmoved(
    before[:, [0, 2]], asked[:, [0, 2]], what="row 0 or 2", when="query 1 changed", hint=pair
)
checks.unmoved(
    before[..., [0, 1, 2, 4]],
    offered[..., [0, 1, 2, 4]],
    what="the column of another entry",
    when="entry 3 changed",
    hint=pair,
)
checks.moved(before[:, 1], asked[:, 1], what="row 1", when="query 1 changed", hint="is W_a used?")
checks.moved(
    before[..., 3], offered[..., 3], what="column 3", when="entry 3 changed", hint="is U_a used?"
)

# %% check="additive_score__inputs" points=1
# Hidden: other batch shapes, widths and lengths, views, number formats, arguments left alone.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
for batch, T, S, D, W, K, dtype in [
    ((), 1, 4, 3, 3, 3, torch.float32),
    ((2,), 4, 4, 4, 4, 4, torch.float32),
    ((2,), 3, 1, 2, 5, 1, torch.float64),
    ((4,), 1, 6, 5, 2, 8, torch.float32),
    ((2, 3), 3, 2, 4, 6, 5, torch.float64),
    ((3,), 2, 5, 6, 4, 3, torch.bfloat16),
]:
    query = torch.randn(*batch, D, T, generator=generator).mT.to(dtype)  # a view
    memory = torch.randn(*batch, S, 2 * W, generator=generator)[..., ::2].to(dtype)
    W_a = (torch.randn(D, K, generator=generator) / 2).T.to(dtype)
    U_a = (torch.randn(K, W, generator=generator) / 2).to(dtype)
    v_a = torch.randn(K, generator=generator).to(dtype)
    rows = []
    for i in range(T):
        hidden = memory @ U_a.T + (query[..., i : i + 1, :] @ W_a.T)
        rows.append(hidden.tanh() @ v_a)
    told = f"query {tuple(query.shape)}, memory {tuple(memory.shape)}, K = {K}, {dtype}"
    with (
        checks.case(told, "any number of batch axes, also none: count axes from the end"),
        checks.unchanged(query=query, memory=memory, W_a=W_a, U_a=U_a, v_a=v_a),
    ):
        checks.close(
            additive_score(query, memory, W_a, U_a, v_a),
            torch.stack(rows, -2),
            what="the table of scores",
            hint="if the checks above pass: is an axis counted from the front, a squeeze() "
            "without its axis, a tensor made without the dtype of the query?",
            atol=0.1 if dtype == torch.bfloat16 else None,
        )
### END HIDDEN TESTS

# %% check="additive_score__gradient" points=1
# Hidden: gradients in float64.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
shapes = {"query": (2, 3, 4), "memory": (2, 5, 3), "W_a": (6, 4), "U_a": (6, 3), "v_a": (6,)}
inputs = {
    name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    for name, shape in shapes.items()
}
query, memory, W_a, U_a, v_a = inputs.values()
rows = [(memory @ U_a.T + query[:, i : i + 1] @ W_a.T).tanh() @ v_a for i in range(3)]
checks.gradients(
    additive_score(query, memory, W_a, U_a, v_a),
    torch.stack(rows, 1),
    inputs,
    what="the table of scores",
    hint="let torch follow every step: no detach, no .data, no numbers in between",
)
### END HIDDEN TESTS

# %% [markdown] task="luong_score" difficulty=2 minutes=15 builds_on="additive_score"
# ## Luong: three scores
#
# Luong et al. (2015, section 3.1) compare a decoder state $h_t$ with an encoder state $\bar h_s$ in
# three ways, from none to the most parameters:
#
# $$\mathrm{score}(h_t, \bar h_s) = \begin{cases}
# h_t^\top \bar h_s & \textit{dot} \\
# h_t^\top W_a\, \bar h_s & \textit{general} \\
# v_a^\top \tanh\big(W_a\, [h_t; \bar h_s]\big) & \textit{concat}
# \end{cases}$$
#
# where $[h_t; \bar h_s]$ is the one vector written behind the other. Write all three:
#
# ```python
# luong_score(query, memory, kind, W_a=None, v_a=None)
# #  query (*batch, T, D)   memory (*batch, S, W)   ->   scores (*batch, T, S)
# ```
#
# | `kind` | `W_a` | `v_a` | widths |
# | --- | --- | --- | --- |
# | `"dot"` | none | none | `D = W` |
# | `"general"` | `(D, W)` | none | any |
# | `"concat"` | `(K, D + W)` | `(K,)` | any |
#
# Any other kind raises a `ValueError` whose message names it.
#
# ```python
# query  = torch.tensor([[2.0, 1.0]])
# memory = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
# luong_score(query, memory, "dot")                  # [[2., 1.]]
#
# swap = torch.tensor([[0.0, 1.0], [0.0, 0.0]])      # W_a h turns (0, 1) into (1, 0)
# luong_score(query, memory, "general", swap)        # [[0., 2.]]
#
# W_a = torch.tensor([[0.0, 1.0, 1.0, 0.0]])         # adds query[1] and memory[0]
# luong_score(query, memory, "concat", W_a, torch.tensor([1.0]))   # [[0.9640, 0.7616]]
# ```
#
# The concat scores are $\tanh(1 + 1)$ and $\tanh(1 + 0)$. None of the three is divided by a root:
# scaled products came two years later.
#
# You may call your `additive_score`: while this task is checked, a correct one stands under that
# name, which takes its arguments by the same names.
#
# <details><summary>Hint 1</summary>
#
# `x.mT` swaps the last two axes, whatever stands before them. *dot* is one matrix product,
# *general* is two.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# *concat* needs no concatenation. The first `D` columns of `W_a` meet the query and the rest the
# memory, so it is the additive score with a matrix cut in two.
#
# </details>


# %% answer="luong_score"
def luong_score(query, memory, kind, W_a=None, v_a=None):
    """Luong's scores of every query with every entry of the memory.

    Args:
        query: decoder states (*batch, T, D).
        memory: encoder states (*batch, S, W).
        kind: "dot", "general" or "concat".
        W_a: weights (D, W) of general, (K, D + W) of concat.
        v_a: weights (K,) of concat.

    Returns:
        Scores (*batch, T, S).

    Raises:
        ValueError: naming a kind that is none of the three.
    """
    ### BEGIN SOLUTION
    if kind == "dot":
        return query @ memory.mT
    if kind == "general":
        return query @ W_a @ memory.mT
    if kind == "concat":
        D = query.shape[-1]
        asked, offered = query @ W_a[:, :D].T, memory @ W_a[:, D:].T
        pairs = asked[..., :, None, :] + offered[..., None, :, :]  # *batch T S K
        return pairs.tanh() @ v_a
    raise ValueError(f"unknown kind {kind!r}; choose dot, general or concat")
    ### END SOLUTION


# %% check="luong_score__dot" points=1
query = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 1.0, 1.0, 1.0]])
memory = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 2.0, 0.0, 1.0], [1.0, 1.0, -1.0, 1.0]])
expected = torch.tensor([[2.0, 1.0, 2.0], [1.0, 3.0, 1.0]])
lengths = torch.tensor([[6.0**0.5], [3.0**0.5]]) * torch.tensor([2.0**0.5, 5.0**0.5, 2.0])
with checks.case("kind 'dot', two queries and three entries of width 4", "count axes from the end"):
    checks.close(
        luong_score(query, memory, "dot"),
        expected,
        what="the table of scores",
        suspects={
            "they were divided by √D; Luong's dot product is not scaled": expected / 2,
            "rows and columns are swapped: rows are queries, columns are entries": expected.T,
            "softmax was taken already; scores come before it": expected.softmax(-1),
            "they were divided by the lengths of both vectors, which makes cosines": (
                expected / lengths
            ),
        },
        hint="entry [0, 0] is 2·1 + 1·0 + 0·1 − 1·0 = 2",
    )

# %% check="luong_score__general" points=1
query = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
memory = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, -1.0]])
W_a = torch.tensor([[1.0, 3.0], [0.0, -1.0]])
expected = torch.tensor([[2.0, 10.0, -3.0], [0.0, -2.0, 1.0]])
with checks.case(
    "kind 'general', two queries and three entries of width 2", "W_a has shape (D, W)"
):
    checks.close(
        luong_score(query, memory, "general", W_a),
        expected,
        what="the table of scores",
        suspects={
            "W_a stands the wrong way round: queries meet its rows, entries its columns": (
                torch.tensor([[5.0, -2.0, 6.0], [3.0, -2.0, 4.0]])
            ),
            "W_a is not used": torch.tensor([[2.0, 2.0, 1.0], [0.0, 2.0, -1.0]]),
            "there is a tanh; general has none": expected.tanh(),
            "rows and columns are swapped: rows are queries, columns are entries": expected.T,
            "they were divided by √D; Luong's scores are not scaled": expected / 2**0.5,
            "softmax was taken already; scores come before it": expected.softmax(-1),
        },
        hint="W_a h̄ of the first entry is (1, 0), and (2, 1) · (1, 0) = 2",
    )

# %% check="luong_score__concat" points=1
from lookback.attention import AdditiveAttention


class _Scores(AdditiveAttention):  # the library's score; its weights come from outside
    def forward(self, query, memory):
        return self.scores(query, self.keys(memory))


def _score(query, memory, W_a, U_a, v_a):
    layer = _Scores(query.shape[-1], memory.shape[-1], width=len(v_a))
    named = {"W_a.weight": W_a, "U_a.weight": U_a, "v_a.weight": v_a[None]}
    return torch.func.functional_call(layer, named, (query, memory))


query = torch.tensor([[[1.0, 0.5], [0.0, -1.0]]])
memory = torch.tensor([[[1.0, 0.0], [-1.0, 1.0], [0.0, 0.5]]])
W_a = torch.tensor([[1.0, 0.0, 0.0, 2.0], [0.0, 2.0, -1.0, 0.0]])
v_a = torch.tensor([1.0, -2.0])
sums = torch.tensor(  # W_a [h; h̄] for every pair, two hidden units each
    [
        [[1.0, 0.0], [3.0, 2.0], [2.0, 1.0]],
        [[0.0, -3.0], [2.0, -1.0], [1.0, -2.0]],
    ]
)[None]
expected = torch.tensor([[[0.7616, -0.9330, -0.5592], [1.9901, 2.4872, 2.6896]]])
with (
    checks.case(
        "kind 'concat', a batch of one, two queries and three entries of width 2",
        "W_a is (K, D + W): its first D columns meet the query, the rest the memory",
    ),
    checks.given(additive_score=_score),
):
    checks.close(
        luong_score(query, memory, "concat", W_a, v_a),
        expected,
        what="the table of scores",
        atol=1e-3,
        suspects={
            "the memory stands before the query; it is [h_t; h̄_s]": torch.tensor(
                [[[2.4872, -1.5232, 0.7616], [-0.7616, -2.9231, -2.4872]]]
            ),
            "tanh is missing": (sums * v_a).sum(-1),
            "the hidden units were added up without v_a": sums.tanh().sum(-1),
            "v_a belongs outside tanh: bend first, then weigh": (sums * v_a).sum(-1).tanh(),
            "the last axis still holds the hidden units; v_a sums them up": sums.tanh() * v_a,
            "the last axis still holds the hidden units, without v_a": sums.tanh(),
            "rows and columns are swapped: rows are queries, columns are entries": expected.mT,
            "softmax was taken already; scores come before it": expected.softmax(-1),
        },
        hint="the first pair is (1, 0.5, 1, 0): sums 1 and 0, so the score is tanh(1)",
    )

# %% check="luong_score__unknown" points=1
# Hidden: a kind that does not exist.
### BEGIN HIDDEN TESTS
query, memory = torch.ones(1, 2, 3), torch.ones(1, 4, 3)
hint = "end with raise ValueError(...), whose message holds the kind"
for kind in ("cosine", "Dot"):
    try:
        with checks.case(f"kind={kind!r}", hint):
            try:
                luong_score(query, memory, kind, torch.ones(3, 3), torch.ones(3))
            except ValueError as error:
                told = str(error)
            else:
                told = None
    except AssertionError as failure:
        raise AssertionError(f"an unknown kind must raise a ValueError; {failure}") from None
    assert told is not None, f"the unknown kind {kind!r} raised no error\n  hint: {hint}"
    assert kind in told, f"the message does not name the unknown kind {kind!r}\n  hint: {hint}"
### END HIDDEN TESTS

# %% check="luong_score__inputs" points=1
# Hidden: other batch shapes, widths and lengths, views, number formats, arguments left alone.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)


def _score(query, memory, W_a, U_a, v_a):
    return ((query @ W_a.T).unsqueeze(-2) + (memory @ U_a.T).unsqueeze(-3)).tanh() @ v_a


for batch, T, S, D, W, K, dtype in [
    ((), 1, 4, 3, 3, 2, torch.float32),
    ((2,), 4, 4, 4, 4, 4, torch.float32),
    ((2,), 3, 1, 2, 5, 1, torch.float64),
    ((2, 3), 3, 2, 4, 6, 5, torch.float64),
    ((3,), 2, 5, 6, 4, 3, torch.bfloat16),
]:
    query = torch.randn(*batch, D, T, generator=generator).mT.to(dtype)  # a view
    memory = torch.randn(*batch, S, 2 * W, generator=generator)[..., ::2].to(dtype)
    same = torch.randn(*batch, S, 2 * D, generator=generator)[..., ::2].to(dtype)
    between = (torch.randn(W, D, generator=generator) / 2).T.to(dtype)
    both = (torch.randn(K, D + W, generator=generator) / 2).to(dtype)
    v_a = torch.randn(K, generator=generator).to(dtype)
    rows = [query[..., i : i + 1, :] for i in range(T)]
    sums = [(x @ both[:, :D].T + memory @ both[:, D:].T).tanh() @ v_a for x in rows]
    for kind, source, rest, expected in [
        ("dot", same, (), torch.cat([(x * same).sum(-1, keepdim=True).mT for x in rows], -2)),
        (
            "general",
            memory,
            (between,),
            torch.einsum("...td,dw,...sw->...ts", query, between, memory),
        ),
        ("concat", memory, (both, v_a), torch.stack(sums, -2)),
    ]:
        told = f"kind {kind!r}, query {tuple(query.shape)}, memory {tuple(source.shape)}, {dtype}"
        with (
            checks.case(told, "any number of batch axes, also none: count axes from the end"),
            checks.given(additive_score=_score),
            checks.unchanged(query=query, memory=source, between=between, both=both, v_a=v_a),
        ):
            checks.close(
                luong_score(query, source, kind, *rest),
                expected,
                what="the table of scores",
                hint="if the checks above pass: is an axis counted from the front, a squeeze() "
                "without its axis, a tensor made without the dtype of the query?",
                atol=0.1 if dtype == torch.bfloat16 else None,
            )
### END HIDDEN TESTS

# %% check="luong_score__gradient" points=1
# Hidden: gradients in float64.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)


def _score(query, memory, W_a, U_a, v_a):
    return ((query @ W_a.T).unsqueeze(-2) + (memory @ U_a.T).unsqueeze(-3)).tanh() @ v_a


shapes = {"query": (2, 3, 4), "memory": (2, 5, 4), "W_a": (4, 4), "v_a": (6,), "both": (6, 8)}
leaves = {
    name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    for name, shape in shapes.items()
}
query, memory, W_a, v_a, both = leaves.values()
rows = [
    (memory @ both[:, 4:].T + query[:, i : i + 1] @ both[:, :4].T).tanh() @ v_a for i in range(3)
]
inputs = {"query": query, "memory": memory}
for kind, rest, expected in [
    ("dot", {}, query @ memory.mT),
    ("general", {"W_a": W_a}, query @ W_a @ memory.mT),
    ("concat", {"W_a": both, "v_a": v_a}, torch.stack(rows, 1)),
]:
    with checks.case(f"kind {kind!r}"), checks.given(additive_score=_score):
        checks.gradients(
            luong_score(query, memory, kind, **rest),
            expected,
            inputs | rest,
            what="the table of scores",
            hint="let torch follow every step: no detach, no .data, no numbers in between",
        )
### END HIDDEN TESTS

# %% [markdown] task="attend" difficulty=1 minutes=12 builds_on="masked_softmax"
# ## From scores to a context
#
# The scores become weights, and the weights mix the memory into one vector a query, the *context*:
#
# $$\alpha_{ts} = \operatorname{softmax}_s(e_{ts}), \qquad c_t = \sum_s \alpha_{ts}\, h_s$$
#
# ```python
# attend(scores, memory, lengths=None)
# #  scores (*batch, T, S)   memory (*batch, S, W)   lengths (*batch), whole numbers
# #  ->   context (*batch, T, W), weights (*batch, T, S)
# ```
#
# Return both, the context first. `lengths` says how many positions of each source are real: the
# first `lengths` are open, the padding behind them is closed, to every query alike. Without
# `lengths`, all positions are real.
#
# ```python
# scores = torch.zeros(1, 1, 3)                        # one sentence, one query, three positions
# memory = torch.tensor([[[3.0, 0.0], [5.0, 2.0], [100.0, 100.0]]])
# attend(scores, memory, torch.tensor([2]))            # context [[[4., 1.]]], the mean of two
#                                                      # weights [[[0.5, 0.5, 0.0]]]
# attend(scores, memory, torch.tensor([0]))            # context [[[0., 0.]]], weights all 0
# ```
#
# This is a lookup that can be differentiated: with one score far above the others, the context is
# that entry; with equal scores, the mean of all.
#
# You may call your `masked_softmax`: while this task is checked, a correct one stands under that
# name, which takes its arguments by the same names.
#
# <details><summary>Hint 1</summary>
#
# `torch.arange(S) < length` is the row of a mask for one sentence. Lengths of shape `(*batch)` need
# two axes more, for the queries and for the positions: `lengths[..., None, None]`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A weighted sum over the source for every query is one matrix product: `(T, S) @ (S, W)`.
#
# </details>


# %% answer="attend"
def attend(scores, memory, lengths=None):
    """Look the memory up by scores.

    Args:
        scores: how well each entry answers each query (*batch, T, S).
        memory: the entries (*batch, S, W).
        lengths: number of real entries of each memory (*batch), 0 to S; None where all are.

    Returns:
        The context of each query (*batch, T, W), and the weights (*batch, T, S).
    """
    ### BEGIN SOLUTION
    mask = None
    if lengths is not None:
        mask = torch.arange(scores.shape[-1]) < lengths[..., None, None]  # *batch 1 S
    weights = masked_softmax(scores, mask)
    return weights @ memory, weights
    ### END SOLUTION


# %% check="attend__by_hand" points=1


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


scores = torch.tensor([[[1.0, 1.0, 2.0], [8.0, 1.0, 1.0]]]).log()
memory = torch.tensor([[[4.0, 0.0], [0.0, 8.0], [2.0, -2.0]]])
expected = torch.tensor([[[0.25, 0.25, 0.5], [0.8, 0.1, 0.1]]])
with (
    checks.case(
        "two queries, three entries of width 2, no lengths",
        "return two tensors, the context and the weights; lengths may be None",
    ),
    checks.given(masked_softmax=_softmax),
    checks.unchanged(scores=scores, memory=memory),
):
    context, weights = attend(scores, memory)
checks.close(
    weights,
    expected,
    what="the table of weights",
    suspects={
        "the context comes first, then the weights": torch.tensor([[[2.0, 1.0], [3.4, 0.6]]]),
        "these are the scores": scores,
    },
    hint="the exponentials are 1, 1, 2 and 8, 1, 1: divide each row by its sum",
)
checks.close(
    context,
    torch.tensor([[[2.0, 1.0], [3.4, 0.6]]]),
    what="the context",
    suspects={
        "the memory was averaged without the weights": torch.tensor([[[2.0, 2.0], [2.0, 2.0]]]),
        "the scores were used as weights": torch.tensor(
            [[[1.3863, -1.3863], [8.3178, 0.0]]],
        ),
        "the weighted entries were averaged; the weights sum to 1 already": (
            torch.tensor([[[2.0, 1.0], [3.4, 0.6]]]) / 3
        ),
        "the heaviest entry alone: the context mixes all, by weight": torch.tensor(
            [[[2.0, -2.0], [4.0, 0.0]]]
        ),
    },
    atol=1e-3,
    hint="¼·(4, 0) + ¼·(0, 8) + ½·(2, −2) = (2, 1)",
)

# %% check="attend__lengths" points=1


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


scores = torch.zeros(2, 2, 4)
memory = torch.tensor([[1.0, 3.0, 8.0, 40.0], [2.0, 20.0, 200.0, 2000.0]])[..., None]
lengths = torch.tensor([3, 1])
with (
    checks.case(
        "two sentences of 3 and 1 real positions, padded to 4; two queries each",
        "the mask of a batch needs shape (B, 1, S): lengths[..., None, None]",
    ),
    checks.given(masked_softmax=_softmax),
    checks.unchanged(scores=scores, memory=memory, lengths=lengths),
):
    context, weights = attend(scores, memory, lengths)


def _rows(first, second):  # the same for both queries of a sentence
    return torch.tensor([first, second])[:, None].expand(2, 2, -1)


checks.close(
    weights,
    _rows([1 / 3, 1 / 3, 1 / 3, 0.0], [1.0, 0.0, 0.0, 0.0]),
    what="the table of weights of equal scores",
    suspects={
        "padding has weight; lengths are ignored": _rows([0.25] * 4, [0.25] * 4),
        "one position too many is open: positions count from 0": _rows(
            [0.25] * 4, [0.5, 0.5, 0.0, 0.0]
        ),
        "one position too few is open": _rows([0.5, 0.5, 0.0, 0.0], [0.0] * 4),
        "the padding is open and the sentence closed": _rows(
            [0.0, 0.0, 0.0, 1.0], [0.0, 1 / 3, 1 / 3, 1 / 3]
        ),
        "each length was used for a query; it belongs to a sentence": torch.tensor(
            [[1 / 3, 1 / 3, 1 / 3, 0.0], [1.0, 0.0, 0.0, 0.0]]
        ).expand(2, 2, 4),
        "padding was erased after softmax, so the weights no longer sum to 1": _rows(
            [0.25, 0.25, 0.25, 0.0], [0.25, 0.0, 0.0, 0.0]
        ),
    },
    hint="3 real positions share ⅓ each; where there is 1, it takes all",
)
checks.close(
    context,
    _rows([4.0], [2.0]),
    what="the context of equal scores",
    hint="the mean of 1, 3 and 8 is 4; the second sentence has only the entry 2",
)

# %% check="attend__padding" points=1
# Hidden: padding of any content and length, and sentences alone or in a batch.
### BEGIN HIDDEN TESTS


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


generator = torch.Generator().manual_seed(1)
scores, memory = (
    torch.randn(3, 2, 5, generator=generator),
    torch.randn(3, 5, 4, generator=generator),
)
lengths = torch.tensor([5, 2, 0])
more_scores = torch.cat([scores, 50 * torch.rand(3, 2, 3, generator=generator)], -1)
more_memory = torch.cat([memory, 1e3 * torch.randn(3, 3, 4, generator=generator)], 1)
with checks.given(masked_softmax=_softmax):
    context, weights = attend(scores, memory, lengths)
    padded, padded_weights = attend(more_scores, more_memory, lengths)
    alone, alone_weights = attend(scores[1:2, :, :2], memory[1:2, :2])
checks.unmoved(context, padded, what="the context", when="three positions of padding were added")
checks.close(
    padded_weights[..., 5:],
    torch.zeros(3, 2, 3),
    what="the weight of padding",
    hint="open are the first `lengths` positions of each sentence",
)
checks.close(context[1:2], alone, what="a sentence's context, beside that without a batch,")
checks.close(weights[1:2, :, :2], alone_weights, what="its table of weights")
checks.close(context[2], torch.zeros(2, 4), what="the context where the source is empty")
### END HIDDEN TESTS

# %% check="attend__inputs" points=1
# Hidden: other batch shapes and lengths, views, number formats, arguments left alone.
### BEGIN HIDDEN TESTS


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


generator = torch.Generator().manual_seed(2)
for batch, T, S, W, dtype in [
    ((), 3, 4, 2, torch.float32),
    ((4,), 4, 4, 4, torch.float32),
    ((2,), 1, 6, 3, torch.float64),
    ((3,), 5, 1, 2, torch.bfloat16),
    ((2, 3), 2, 5, 6, torch.float32),
]:
    scores = torch.randn(*batch, S, T, generator=generator).mT.to(dtype)  # a view
    memory = torch.randn(*batch, S, 2 * W, generator=generator)[..., ::2].to(dtype)
    lengths = torch.randint(0, S + 1, batch, generator=generator)
    everything = torch.full(batch, S)
    for told, chosen in [("with lengths", lengths), ("no lengths", None)]:
        real = everything if chosen is None else lengths
        mask = (torch.arange(S) < real.reshape(-1, 1)).reshape(*batch, 1, S)
        with (
            checks.case(
                f"scores {tuple(scores.shape)}, memory {tuple(memory.shape)}, {dtype}, {told}",
                "return the context and the weights; count axes from the end",
            ),
            checks.given(masked_softmax=_softmax),
            checks.unchanged(scores=scores, memory=memory, lengths=lengths),
        ):
            context, weights = attend(scores, memory, chosen)
        with checks.case(f"scores {tuple(scores.shape)}, {dtype}, {told}"):
            expected = _softmax(scores, mask)
            front = "if the checks above pass: is an axis counted from the front? Is a dtype lost?"
            checks.close(weights, expected, what="the table of weights", hint=front)
            mixed = torch.einsum("...ts,...sw->...tw", expected, memory)
            checks.close(context, mixed, what="the context", hint=front)
### END HIDDEN TESTS

# %% check="attend__gradient" points=1
# Hidden: gradients in float64, through the context and through the weights.
### BEGIN HIDDEN TESTS


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


generator = torch.Generator().manual_seed(3)
scores = torch.randn(3, 2, 5, generator=generator, dtype=torch.float64).requires_grad_()
memory = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64).requires_grad_()
mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()[:, None]
for i, name in enumerate(("context", "table of weights")):
    with checks.given(masked_softmax=_softmax):
        results = attend(scores, memory, torch.tensor([5, 2, 0]))
    expected = _softmax(scores, mask)
    checks.gradients(
        results[i],
        (expected @ memory, expected)[i],
        {"scores": scores, "memory": memory},
        what=f"the {name}",
        hint="let torch follow every step: no detach, no .data, no numbers in between",
    )
### END HIDDEN TESTS

# %% [markdown] task="attention_decoder_step" difficulty=3 minutes=25 builds_on="attend"
# ## One step of Bahdanau's decoder
#
# Before it writes word $i$, the decoder has its state $s_{i-1}$ and the word before, $y_{i-1}$. It
# looks at the source with the *old* state, and what it finds enters the *new* one (Bahdanau et al.
# 2015, section 3.1):
#
# $$\begin{aligned}
# e_{ij} &= v_a^\top \tanh(W_a\, s_{i-1} + U_a\, h_j) \\
# c_i &= \sum_j \alpha_{ij}\, h_j, \qquad \alpha_i = \operatorname{softmax}(e_i) \\
# s_i &= \tanh(W_y\, y_{i-1} + W_s\, s_{i-1} + W_c\, c_i) \\
# \mathrm{logits}_i &= W_o\, [s_i; c_i]
# \end{aligned}$$
#
# The paper's cell has gates and its output layer is larger; the order of the steps is the paper's.
# (Luong's decoder turns it round: first the new state, then the new state looks.) Two things differ
# from the chapter's page: here $W_c$ leads into the state, and $W_o$ reads state and context
# directly, the state first. Write
#
# ```python
# attention_decoder_step(y, s, memory, params, lengths=None)
# #  y (B, E)   s (B, D)   memory (B, S, W)   lengths (B,)
# #  ->   logits (B, N) of N words, new state (B, D), weights (B, S)
# ```
#
# `y` is the embedding of the word before. `params` is a dict of matrices, each laid out as in
# `torch.nn.Linear`, none with a bias:
#
# | key | shape | key | shape |
# | --- | --- | --- | --- |
# | `"W_a"` | `(K, D)` | `"W_y"` | `(D, E)` |
# | `"U_a"` | `(K, W)` | `"W_s"` | `(D, D)` |
# | `"v_a"` | `(K,)` | `"W_c"` | `(D, W)` |
# | | | `"W_o"` | `(N, D + W)` |
#
# With every width 1 and every weight 1:
#
# ```python
# params = {name: torch.ones(1, 1) for name in ("W_a", "U_a", "W_y", "W_s", "W_c")}
# params |= {"v_a": torch.ones(1), "W_o": torch.ones(1, 2)}
# y, s = torch.tensor([[1.0]]), torch.tensor([[0.0]])
# memory = torch.tensor([[[1.0], [-1.0]]])              # scores tanh(0 + 1) and tanh(0 - 1)
# attention_decoder_step(y, s, memory, params)          # weights   [[0.821, 0.179]]
#                                                       # context     0.642
#                                                       # new state [[0.9278]] = tanh(1 + 0 + 0.642)
#                                                       # logits    [[1.5698]] = 0.9278 + 0.6420
# ```
#
# You may call your `additive_score` and `attend`, and `masked_softmax` too: while this task is
# checked, correct versions stand under these names, which take the arguments by the same names.
#
# <details><summary>Hint 1</summary>
#
# `additive_score` and `attend` want an axis of queries. There is one query here: `s[:, None]` has
# shape `(B, 1, D)`. Take the axis away again from the context and the weights, with `[:, 0]`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `squeeze()` without an axis takes away every axis of length 1, also that of a batch of one.
#
# </details>


# %% answer="attention_decoder_step"
def attention_decoder_step(y, s, memory, params, lengths=None):
    """One step of a decoder in Bahdanau's order: look with the old state, then move on.

    Args:
        y: embedding of the word before (B, E).
        s: state of the decoder before this step (B, D).
        memory: encoder states (B, S, W).
        params: matrices by name: W_a, U_a, v_a of the score; W_y, W_s, W_c of the state; W_o.
        lengths: number of real positions of each source (B,); None where all are.

    Returns:
        Logits of the next word (B, N), the new state (B, D), the weights on the source (B, S).
    """
    ### BEGIN SOLUTION
    scores = additive_score(s[:, None], memory, params["W_a"], params["U_a"], params["v_a"])
    context, weights = attend(scores, memory, lengths)
    context, weights = context[:, 0], weights[:, 0]  # one query: B 1 W -> B W
    total = y @ params["W_y"].T + s @ params["W_s"].T + context @ params["W_c"].T
    new = torch.tanh(total)
    logits = torch.cat([new, context], -1) @ params["W_o"].T
    return logits, new, weights
    ### END SOLUTION


# %% check="attention_decoder_step__by_hand" points=2
from lookback.attention import AdditiveAttention
from lookback.attention.lookup import Lookup


class _Scores(AdditiveAttention):  # the library's score; its weights come from outside
    def forward(self, query, memory):
        return self.scores(query, self.keys(memory))


class _Scored(Lookup):  # the library's lookup, asked by scores
    def scores(self, query, keys):
        return query


def _score(query, memory, W_a, U_a, v_a):
    layer = _Scores(query.shape[-1], memory.shape[-1], width=len(v_a))
    named = {"W_a.weight": W_a, "U_a.weight": U_a, "v_a.weight": v_a[None]}
    return torch.func.functional_call(layer, named, (query, memory))


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


def _attend(scores, memory, lengths=None):
    from lookback.masks import padding

    mask = None if lengths is None else padding(lengths, scores.shape[-1])
    return _Scored(scores.shape[-1], memory.shape[-1])(scores, memory, mask)


y, s = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, -1.0]])
memory = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]]])
params = {
    "W_a": torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
    "U_a": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    "v_a": torch.tensor([1.0, 2.0]),
    "W_y": torch.tensor([[0.5, 0.0], [-0.5, 1.0]]),
    "W_s": torch.tensor([[0.0, 1.0], [0.5, 0.0]]),
    "W_c": torch.tensor([[1.0, 0.0], [1.0, -0.5]]),
    "W_o": torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 2.0], [1.0, -1.0, 0.0, -1.0]]),
}
with (
    checks.case(
        "a batch of one, three source positions, all widths 2, three words",
        "s[:, None] is a query of shape (B, 1, D); squeeze() takes every axis of length 1",
    ),
    checks.given(additive_score=_score, attend=_attend, masked_softmax=_softmax),
    checks.unchanged(y=y, s=s, memory=memory, **params),
):
    logits, new, weights = attention_decoder_step(y, s, memory, params)
checks.close(
    weights,
    torch.tensor([[0.1725, 0.7616, 0.0659]]),
    what="the table of weights",
    atol=1e-3,
    suspects={
        "the axis of the one query is still there": torch.tensor([[[0.1725, 0.7616, 0.0659]]]),
        "the batch axis is gone: squeeze() takes every axis of length 1": torch.tensor(
            [0.1725, 0.7616, 0.0659]
        ),
        "the new state asked, which is Luong's order; here the old state asks": torch.tensor(
            [[0.1159, 0.7006, 0.1834]]
        ),
        "the word before asked; it is the old state that asks": torch.tensor(
            [[0.1195, 0.6714, 0.2091]]
        ),
        "these are the scores": torch.tensor([[-0.0216, 1.4634, -0.9836]]),
    },
    hint="score every position with s, then softmax",
)
checks.close(
    new,
    torch.tensor([[-0.3743, -0.7343]]),
    what="the new state",
    atol=1e-3,
    suspects={
        "the old state came back": s,
        "logits and state are swapped: return logits, new state, weights": torch.tensor(
            [[-0.2677, 2.4439, -1.2291]]
        ),
        "the context does not enter it: the encoder is ignored": torch.tensor([[-0.4621, -0.2449]]),
        "the mean of the memory entered it, not the weighted sum": torch.tensor(
            [[-0.4621, -0.6351]]
        ),
        "the last entry of the memory entered it, not the context": torch.tensor(
            [[-0.9051, -0.9414]]
        ),
        "the old state is missing from it": torch.tensor([[0.5417, -0.8299]]),
        "the word before is missing from it": torch.tensor([[-0.7131, -0.4119]]),
        "tanh is missing": torch.tensor([[-0.3934, -0.9379]]),
        "the function around the sum is a sigmoid; it should be tanh": torch.tensor(
            [[0.4029, 0.2813]]
        ),
    },
    hint="the sum is W_y y + W_s s + W_c c = (-0.3934, -0.9379), with c = (0.1066, 1.5891)",
)
checks.close(
    logits,
    torch.tensor([[-0.2677, 2.4439, -1.2291]]),
    what="the table of logits",
    atol=1e-3,
    suspects={
        "the context stands before the state; it is [s_i; c_i]": torch.tensor(
            [[-0.2677, 0.1206, -0.7482]]
        ),
        "they come from the old state; the new one writes": torch.tensor(
            [[0.6066, 2.1782, -0.0891]]
        ),
        "softmax was taken: logits come before it": torch.tensor([[0.0608, 0.9159, 0.0233]]),
    },
    hint="W_o reads the new state and, behind it, the context",
)

# %% check="attention_decoder_step__source" points=1
from lookback.attention import AdditiveAttention
from lookback.attention.lookup import Lookup


class _Scores(AdditiveAttention):  # the library's score; its weights come from outside
    def forward(self, query, memory):
        return self.scores(query, self.keys(memory))


class _Scored(Lookup):  # the library's lookup, asked by scores
    def scores(self, query, keys):
        return query


def _score(query, memory, W_a, U_a, v_a):
    layer = _Scores(query.shape[-1], memory.shape[-1], width=len(v_a))
    named = {"W_a.weight": W_a, "U_a.weight": U_a, "v_a.weight": v_a[None]}
    return torch.func.functional_call(layer, named, (query, memory))


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


def _attend(scores, memory, lengths=None):
    from lookback.masks import padding

    mask = None if lengths is None else padding(lengths, scores.shape[-1])
    return _Scored(scores.shape[-1], memory.shape[-1])(scores, memory, mask)


generator = torch.Generator().manual_seed(1)
E, D, W, K, N = 3, 4, 5, 6, 7
shapes = {"W_a": (K, D), "U_a": (K, W), "v_a": (K,)}
shapes |= {"W_y": (D, E), "W_s": (D, D), "W_c": (D, W), "W_o": (N, D + W)}
params = {name: torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()}
y, s = torch.randn(2, E, generator=generator), torch.randn(2, D, generator=generator)
memory, lengths = torch.randn(2, 4, W, generator=generator), torch.tensor([4, 2])
seen, unseen = memory.clone(), memory.clone()
seen[:, 1] += 1.0
unseen[1, 2:] += 1.0
with (
    checks.case("a batch of two with 4 and 2 real positions", "hand lengths on to attend"),
    checks.given(additive_score=_score, attend=_attend, masked_softmax=_softmax),
):
    before = attention_decoder_step(y, s, memory, params, lengths)
    after = attention_decoder_step(y, s, seen, params, lengths)
    padded = attention_decoder_step(y, s, unseen, params, lengths)
for name, old, new, same in zip(
    ("logits", "new state", "weights"), before, after, padded, strict=True
):
    checks.moved(
        old,
        new,
        what=f"the {name}",
        when="an encoder state changed",
        hint="a decoder with attention depends on the encoder at every step",
    )
    checks.unmoved(
        old,
        same,
        what=f"the {name}",
        when="the padding of the second source changed",
        hint="hand lengths on to attend",
    )

# %% check="attention_decoder_step__query" points=1
# Hidden: which state asks.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
E, D, W, K, N = 4, 4, 4, 5, 6
shapes = {"W_a": (K, D), "U_a": (K, W), "v_a": (K,)}
shapes |= {"W_y": (D, E), "W_s": (D, D), "W_c": (D, W), "W_o": (N, D + W)}
params = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
y, s = torch.randn(3, E, generator=generator), torch.randn(3, D, generator=generator)
memory = torch.randn(3, 5, W, generator=generator)


def _score(query, memory, W_a, U_a, v_a):
    return ((query @ W_a.T)[..., None, :] + (memory @ U_a.T)[..., None, :, :]).tanh() @ v_a


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


def _attend(scores, memory, lengths=None):
    weights = scores.softmax(-1)
    return weights @ memory, weights


with checks.given(additive_score=_score, attend=_attend, masked_softmax=_softmax):
    before = attention_decoder_step(y, s, memory, params)
    word = attention_decoder_step(y + 1.0, s, memory, params)
    state = attention_decoder_step(y, s + 1.0, memory, params)
checks.unmoved(
    before[2],
    word[2],
    what="the table of weights",
    when="the word before changed",
    hint="the old state asks: neither the word nor the new state, which knows the word, has a say",
)
checks.moved(before[2], state[2], what="the table of weights", when="the old state changed")
checks.moved(before[1], word[1], what="the new state", when="the word before changed")
checks.moved(before[0], word[0], what="the table of logits", when="the word before changed")
### END HIDDEN TESTS

# %% check="attention_decoder_step__sizes" points=1
# Hidden: other sizes, a batch of one, several steps, arguments left alone.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)


def _score(query, memory, W_a, U_a, v_a):
    return ((query @ W_a.T)[..., None, :] + (memory @ U_a.T)[..., None, :, :]).tanh() @ v_a


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


def _attend(scores, memory, lengths=None):
    if lengths is not None:
        real = torch.arange(scores.shape[-1]) < lengths[:, None, None]
        scores = scores.masked_fill(~real, -1e9)
    weights = scores.softmax(-1)
    return weights @ memory, weights


for B, S, E, D, W, K, N in [
    (1, 1, 1, 1, 1, 1, 1),
    (1, 4, 2, 3, 5, 4, 6),
    (3, 3, 3, 3, 3, 3, 3),
    (4, 6, 5, 2, 4, 3, 8),
]:
    shapes = {"W_a": (K, D), "U_a": (K, W), "v_a": (K,)}
    shapes |= {"W_y": (D, E), "W_s": (D, D), "W_c": (D, W), "W_o": (N, D + W)}
    params = {name: torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()}
    words, state = torch.randn(3, B, E, generator=generator), torch.zeros(B, D)
    memory = torch.randn(B, S, W, generator=generator)
    lengths = torch.randint(1, S + 1, (B,), generator=generator)
    wanted = state
    for i, y in enumerate(words):
        told = f"B = {B}, S = {S}, E = {E}, D = {D}, W = {W}, K = {K}, N = {N}, step {i}"
        with (
            checks.case(
                told, "is squeeze() given its axis? Take the queries' axis away with [:, 0]"
            ),
            checks.given(additive_score=_score, attend=_attend, masked_softmax=_softmax),
            checks.unchanged(y=y, s=wanted, memory=memory, **params),
        ):
            logits, state, weights = attention_decoder_step(y, wanted, memory, params, lengths)
        a = _score(wanted[:, None], memory, params["W_a"], params["U_a"], params["v_a"])
        context, a = _attend(a, memory, lengths)
        total = y @ params["W_y"].T + wanted @ params["W_s"].T + context[:, 0] @ params["W_c"].T
        wanted = total.tanh()
        with checks.case(told):
            checks.close(weights, a[:, 0], what="the table of weights")
            checks.close(state, wanted, what="the new state")
            both = torch.cat([wanted, context[:, 0]], 1)
            checks.close(logits, both @ params["W_o"].T, what="the table of logits")
### END HIDDEN TESTS

# %% check="attention_decoder_step__gradient" points=2
# Hidden: gradients in float64: of the word, the state, the source and all parameters.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(4)


def _score(query, memory, W_a, U_a, v_a):
    return ((query @ W_a.T)[..., None, :] + (memory @ U_a.T)[..., None, :, :]).tanh() @ v_a


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


def _attend(scores, memory, lengths=None):
    weights = scores.softmax(-1)
    return weights @ memory, weights


E, D, W, K, N = 3, 4, 5, 6, 7
shapes = {"y": (2, E), "s": (2, D), "memory": (2, 3, W), "W_a": (K, D), "U_a": (K, W), "v_a": (K,)}
shapes |= {"W_y": (D, E), "W_s": (D, D), "W_c": (D, W), "W_o": (N, D + W)}
inputs = {
    name: (torch.randn(shape, generator=generator, dtype=torch.float64) / 2).requires_grad_()
    for name, shape in shapes.items()
}
y, s, memory, *_ = inputs.values()
params = {name: x for name, x in inputs.items() if name not in ("y", "s", "memory")}


def _step():
    scores = _score(s[:, None], memory, params["W_a"], params["U_a"], params["v_a"])
    context, weights = (x[:, 0] for x in _attend(scores, memory))
    new = (y @ params["W_y"].T + s @ params["W_s"].T + context @ params["W_c"].T).tanh()
    return torch.cat([new, context], 1) @ params["W_o"].T, new, weights


for i, name in enumerate(("table of logits", "new state", "table of weights")):
    with checks.given(additive_score=_score, attend=_attend, masked_softmax=_softmax):
        results = attention_decoder_step(y, s, memory, params)
    checks.gradients(
        results[i],
        _step()[i],
        inputs,
        what=f"the {name}",
        hint="let torch follow every step: no detach, no .data, no numbers in between",
    )
### END HIDDEN TESTS

# %% [markdown] task="local_window" difficulty=3 minutes=20 builds_on="masked_softmax"
# ## A window that the decoder places itself
#
# A long source need not be searched as a whole. In Luong's *local-p* (2015, section 3.2) the
# decoder first predicts a place $p_t$ in the source, a real number, then attends to a window
# around it:
#
# $$p_t = S \cdot \sigma\big(v_p^\top \tanh(W_p\, h_t)\big), \qquad
# \alpha_{ts} = \operatorname{softmax}_{|s - p_t| \le D}(e_{ts}) \cdot
# \exp\!\left(-\frac{(s - p_t)^2}{2\sigma_D^2}\right), \qquad \sigma_D = \frac{D}{2}$$
#
# The $\sigma$ in front of the bracket is the sigmoid, $\sigma_D$ is the width of the bell. The
# paper's $D$ is the reach of the window to each side, and `reach` in the code; in shapes `D` stays
# the width of a state. Positions $s$ count from 0. Write
#
# ```python
# local_window(scores, query, W_p, v_p, reach, lengths=None)
# #  scores (*batch, T, S)   query (*batch, T, D)   W_p (D, D)   v_p (D,)   lengths (*batch)
# #  ->   weights (*batch, T, S)
# ```
#
# - **Softmax inside the window.** Only positions with $|s - p_t| \le$ `reach` share the 1; all
#   others have weight 0.
# - **Then the Gaussian.** It fades what is far from $p_t$, and the result is *not* scaled back, so
#   a row sums to 1 or less.
# - **$p_t$ stays real.** Rounding it would cut the gradient, and the decoder could not learn where
#   to look.
# - **$S$ is the sentence's own length.** Where `lengths` are given, they stand for $S$ in $p_t$,
#   and padding is closed.
#
# With `v_p` = 0 the sigmoid is ½, so six positions have their window at $p_t = 3$. Equal scores and
# a reach of 2 give five weights of ⅕, each times its Gaussian with $\sigma_D = 1$:
#
# ```python
# query, W_p, v_p = torch.ones(1, 2), torch.eye(2), torch.zeros(2)
# local_window(torch.zeros(1, 6), query, W_p, v_p, 2)
# # s =   0       1       2       3       4       5
# #  [[0.0000, 0.0271, 0.1213, 0.2000, 0.1213, 0.0271]]
# ```
#
# You may call your `masked_softmax`: while this task is checked, a correct one stands under that
# name, which takes its arguments by the same names.
#
# <details><summary>Hint 1</summary>
#
# `torch.arange(S) - p[..., None]` is the table of distances, of shape `(*batch, T, S)`. From it
# come the window, by comparing, and the Gaussian.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With $\sigma_D = D/2$ the exponent $-x^2 / (2\sigma_D^2)$ is $-2\,(x/D)^2$.
#
# </details>


# %% answer="local_window"
def local_window(scores, query, W_p, v_p, reach, lengths=None):
    """Weights of Luong's local-p attention (Luong et al. 2015, eq. 9 and 10).

    Args:
        scores: how well each position answers each query (*batch, T, S).
        query: decoder states (*batch, T, D).
        W_p: weights of the place (D, D).
        v_p: weights of its hidden units (D,).
        reach: of the window to each side, in positions, at least 1; the paper's D.
        lengths: number of real positions of each source (*batch); None where all are.

    Returns:
        Weights (*batch, T, S): a softmax inside the window times a Gaussian around its centre.
    """
    ### BEGIN SOLUTION
    s = torch.arange(scores.shape[-1])
    length = scores.shape[-1] if lengths is None else lengths[..., None]  # *batch 1
    centre = length * torch.sigmoid(torch.tanh(query @ W_p.T) @ v_p)  # *batch T
    distance = s - centre[..., None]  # *batch T S
    near = distance.abs() <= reach
    if lengths is not None:
        near = near & (s < lengths[..., None, None])
    sigma = reach / 2
    gaussian = torch.exp(-(distance**2) / (2 * sigma**2))
    return masked_softmax(scores, near) * gaussian
    ### END SOLUTION


# %% check="local_window__gaussian" points=1


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


scores, query = torch.zeros(1, 9), torch.ones(1, 2)
far = torch.arange(9.0) - 4.5
near = far.abs() <= 3
bell = torch.exp(-(far**2) / 4.5)  # the reach is 3, so sigma is 1.5 and 2 sigma² is 4.5
with (
    checks.case("nine positions with equal scores, v_p = 0, reach = 3, no batch axis"),
    checks.given(masked_softmax=_softmax),
    checks.unchanged(scores=scores, query=query),
):
    weights = local_window(scores, query, torch.eye(2), torch.zeros(2), 3)
checks.close(
    weights,
    torch.tensor([[0.0, 0.0, 0.0415, 0.1011, 0.1577, 0.1577, 0.1011, 0.0415, 0.0]]),
    what="the table of weights around p = 4.5",
    atol=1e-3,
    suspects={
        "they were scaled back to the sum 1; the Gaussian comes last": (
            (bell * near / (bell * near).sum())[None]
        ),
        "there is no Gaussian, only the window; or it faded the scores, not the weights": (
            (near / 6)[None]
        ),
        "there is no window: softmax ran over all positions": (bell / 9)[None],
        "softmax ran over all positions, and the window was cut afterwards": (bell * near / 9)[
            None
        ],
        "sigma is the reach; it should be half of it": (near * torch.exp(-(far**2) / 18) / 6)[None],
        "the 2 in 2σ² is missing": (near * torch.exp(-(far**2) / 2.25) / 6)[None],
        "the distance in the Gaussian is not squared": (near * torch.exp(-far.abs() / 4.5) / 6)[
            None
        ],
        "the Gaussian was divided by σ√(2π); it is 1 at the centre": (
            (near * bell / 6 / (1.5 * (2 * torch.pi) ** 0.5))[None]
        ),
        "the centre is 4, not 4.5: is it rounded, or a share of S − 1?": torch.tensor(
            [[0.0, 0.0193, 0.0587, 0.1144, 0.1429, 0.1144, 0.0587, 0.0193, 0.0]]
        ),
        "the positions count from 1; they count from 0": torch.tensor(
            [[0.0, 0.0415, 0.1011, 0.1577, 0.1577, 0.1011, 0.0415, 0.0, 0.0]]
        ),
        "the centre is 0: the sigmoid is missing": torch.tensor(
            [[0.25, 0.2002, 0.1028, 0.0338, 0.0, 0.0, 0.0, 0.0, 0.0]]
        ),
    },
    hint="the positions 2 to 7 are in the window: ⅙ each, times exp(−(s − 4.5)² / 4.5)",
)

# %% check="local_window__lengths" points=1


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


def _bell(centre, first, last):  # equal scores: the positions first to last share 1, then fade
    s = torch.arange(10.0)
    inside = (s >= first) & (s <= last)
    return inside / inside.sum() * torch.exp(-2 * ((s - centre) / 2) ** 2)


scores, query = torch.zeros(2, 1, 10), torch.ones(2, 1, 3)
lengths = torch.tensor([10, 4])
with (
    checks.case(
        "two sentences of 10 and 4 real positions, v_p = 0, reach = 2",
        "lengths (*batch) need an axis for the queries: lengths[..., None]",
    ),
    checks.given(masked_softmax=_softmax),
    checks.unchanged(scores=scores, query=query, lengths=lengths),
):
    weights = local_window(scores, query, torch.eye(3), torch.zeros(3), 2, lengths)
checks.close(
    weights,
    torch.stack([_bell(5.0, 3, 7), _bell(2.0, 0, 3)])[:, None],
    what="the table of weights",
    suspects={
        "the centre counts the padding: S in p is the sentence's own length": torch.stack(
            [_bell(5.0, 3, 7), _bell(5.0, 3, 3)]
        )[:, None],
        "lengths are ignored": torch.stack([_bell(5.0, 3, 7), _bell(5.0, 3, 7)])[:, None],
        "padding is open: close every position from the sentence's length on": torch.stack(
            [_bell(5.0, 3, 7), _bell(2.0, 0, 4)]
        )[:, None],
        "the edge of the window is closed; |s − p| may equal the reach": torch.stack(
            [_bell(5.0, 4, 6), _bell(2.0, 1, 3)]
        )[:, None],
    },
    hint="the centres are 10 · ½ = 5 and 4 · ½ = 2; the second window holds the positions 0 to 3",
)

# %% check="local_window__centre" points=1
# Hidden: where the window is put.
### BEGIN HIDDEN TESTS
from lookback.attention import DotAttention, LocalAttention


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


generator = torch.Generator().manual_seed(1)
reference = LocalAttention(DotAttention(3, 3), window=4).double()
W_p = torch.tensor([[1.0, 0.5, 0.0], [-0.5, 1.0, 0.5], [0.0, 1.0, -1.0]], dtype=torch.float64)
v_p = torch.tensor([1.0, -0.5, 0.7], dtype=torch.float64)
with torch.no_grad():
    reference.W_p.weight.copy_(W_p)
    reference.v_p.weight.copy_(v_p[None])
    query = torch.tensor(
        [[[1.0, 2.0, -1.0], [0.5, -0.5, 1.5], [-1.0, 0.3, 0.2]]], dtype=torch.float64
    )
    scores = torch.randn(1, 3, 20, generator=generator, dtype=torch.float64)
    expected = reference.align(query, scores, None, 0)
    hidden = query @ W_p.T
    shares = {
        "tanh is missing in the centre": torch.sigmoid(hidden @ v_p),
        "W_p is not used in the centre": torch.sigmoid(query.tanh() @ v_p),
        "W_p is transposed": torch.sigmoid((query @ W_p).tanh() @ v_p),
        "v_p is not used in the centre": torch.sigmoid(hidden.tanh().sum(-1)),
        "the centre has a tanh where the sigmoid belongs": torch.tanh(hidden.tanh() @ v_p),
        "the centre lacks its sigmoid": hidden.tanh() @ v_p,
    }
    centre = 20 * torch.sigmoid(hidden.tanh() @ v_p)
    places = {told: 20 * share for told, share in shares.items()}
    places["the centre was rounded; p stays real"] = centre.round()
    places["the centre was cut to a whole number; p stays real"] = centre.floor()
    places["the centre is a share of S − 1; p is S · σ(…)"] = centre * 19 / 20
    suspects = {}
    for told, place in places.items():
        far = torch.arange(20) - place[..., None]
        wrong = _softmax(scores, far.abs() <= 4) * torch.exp(-(far**2) / 8)
        suspects[told] = wrong
    with (
        checks.case("three queries, 20 positions, reach = 4"),
        checks.given(masked_softmax=_softmax),
    ):
        weights = local_window(scores, query, W_p, v_p, 4)
checks.close(
    weights,
    expected,
    what="the table of weights of queries that look at different places",
    suspects=suspects,
    hint="p = S · sigmoid(v_p · tanh(W_p h)), a real number for each query",
)
### END HIDDEN TESTS

# %% check="local_window__gradient" points=1
# Hidden: gradients in float64: the place must be learnable.
### BEGIN HIDDEN TESTS


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


generator = torch.Generator().manual_seed(2)
shapes = {"scores": (2, 3, 8), "query": (2, 3, 4), "W_p": (4, 4), "v_p": (4,)}
inputs = {
    name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    for name, shape in shapes.items()
}
scores, query, W_p, v_p = inputs.values()
lengths = torch.tensor([8, 5])
with checks.given(masked_softmax=_softmax):
    weights = local_window(scores, query, W_p, v_p, 3, lengths)
far = torch.arange(8) - (lengths[:, None] * ((query @ W_p.T).tanh() @ v_p).sigmoid())[..., None]
real = torch.arange(8) < lengths[:, None, None]
checks.gradients(
    weights,
    _softmax(scores, (far.abs() <= 3) & real) * torch.exp(-(far**2) / 4.5),
    inputs,
    what="the table of weights",
    hint="the gradient reaches W_p and v_p through the Gaussian: is p rounded or detached?",
)
### END HIDDEN TESTS

# %% check="local_window__inputs" points=2
# Hidden: other batch shapes, lengths, reaches, padding, views, arguments left alone.
### BEGIN HIDDEN TESTS


def _softmax(scores, mask=None):
    from lookback.efficient.reference import masked_softmax as softmax

    return softmax(scores, torch.tensor(True) if mask is None else mask)


generator = torch.Generator().manual_seed(3)
for batch, T, S, D, reach, dtype in [
    ((), 1, 7, 2, 1, torch.float32),
    ((2,), 4, 5, 3, 2, torch.float32),
    ((3,), 3, 3, 3, 10, torch.float64),
    ((2,), 5, 1, 4, 1, torch.float64),
    ((2, 3), 2, 12, 4, 2.5, torch.float64),
]:
    scores = torch.randn(*batch, S, T, generator=generator).mT.to(dtype)  # a view
    query = torch.randn(*batch, T, 2 * D, generator=generator)[..., ::2].to(dtype)
    W_p = torch.randn(D, D, generator=generator).T.to(dtype)
    v_p = torch.randn(D, generator=generator).to(dtype)
    lengths = torch.randint(0, S + 1, batch, generator=generator)
    padded = torch.cat([scores, scores + 9.0], -1)
    share = ((query @ W_p.T).tanh() @ v_p).sigmoid()
    for told, source, given, real in [
        ("no lengths", scores, None, torch.full(batch, S)),
        ("with lengths", scores, lengths, lengths),
        ("with lengths and more padding", padded, lengths, lengths),
    ]:
        s = torch.arange(source.shape[-1])
        far = s - (real[..., None] * share)[..., None]
        near = (far.abs() <= reach) & (s < real[..., None, None])
        with (
            checks.case(
                f"scores {tuple(source.shape)}, reach = {reach}, {dtype}, {told}",
                "any number of batch axes, also none: count axes from the end",
            ),
            checks.given(masked_softmax=_softmax),
            checks.unchanged(scores=source, query=query, W_p=W_p, v_p=v_p, lengths=lengths),
        ):
            checks.close(
                local_window(source, query, W_p, v_p, reach, given),
                _softmax(source, near) * torch.exp(-2 * (far / reach) ** 2).to(dtype),
                what="the table of weights",
                atol=1e-4 if dtype == torch.float32 else None,
            )
### END HIDDEN TESTS

# %% [markdown] task="alignment_error_rate" difficulty=2 minutes=10
# ## Did the weights find the right words?
#
# People have marked in translated sentences which words belong together. Some links are *sure*,
# $S$; others are merely *possible*, $P$, as for a word that has no clear partner. Every sure link
# is possible too. A model's links $A$ are judged by (Och and Ney 2003)
#
# $$\text{error rate} = 1 - \frac{|A \cap S| + |A \cap P|}{|A| + |S|}$$
#
# It is 0 where every sure link was found and nothing but possible ones. Write
#
# ```python
# alignment_error_rate(links, sure, possible=None)
# #  three boolean tables (*batch, T, S)   ->   one number
# ```
#
# Entry `[t, s]` is `True` where target word `t` is linked to source word `s`. Without `possible`,
# the sure links are the only possible ones. Over a batch of sentences the four *counts* are added
# up before dividing, so that a long sentence counts for more.
#
# ```python
#                         #  the    blue   car
# sure     = torch.tensor([[True, False, False],   # la
#                          [False, False, True],   # voiture: the order turns round
#                          [False, True, False]])  # bleue
# straight = torch.eye(3).bool()                   # each word linked to the one at its place
# alignment_error_rate(sure, sure)                 # 0.0
# alignment_error_rate(straight, sure)             # 0.6667 = 1 - (1 + 1) / (3 + 3)
# ```
#
# At least one link is predicted or sure in every check. A number of Python's is as good as a tensor
# that holds one.
#
# <details><summary>Hint 1</summary>
#
# For boolean tensors `&` is the intersection, and `.sum()` counts.
#
# </details>


# %% answer="alignment_error_rate"
def alignment_error_rate(links, sure, possible=None):
    """Alignment error rate (Och and Ney 2003).

    Args:
        links: predicted links (*batch, T, S), boolean.
        sure: links that must be found (*batch, T, S), boolean.
        possible: links that may be found, the sure ones among them; sure when left out.

    Returns:
        One number for the whole batch, 0 (best) to 1.
    """
    ### BEGIN SOLUTION
    possible = sure if possible is None else possible
    found = (links & sure).sum() + (links & possible).sum()
    return 1 - (found / (links.sum() + sure.sum())).item()
    ### END SOLUTION


# %% check="alignment_error_rate__by_hand" points=1
links = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]).bool()
sure = torch.eye(3, 6).bool()
possible = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0]]).bool()
with (
    checks.case("5 predicted links, 3 sure and 6 possible ones"),
    checks.unchanged(links=links, sure=sure, possible=possible),
):
    rate = alignment_error_rate(links, sure, possible)
checks.number(
    rate,
    1 - (1 + 4) / (5 + 3),
    what="the error rate",
    suspects={
        "1 − … is missing: this is the share that is right": (1 + 4) / (5 + 3),
        "possible links are ignored": 1 - (1 + 1) / (5 + 3),
        "sure links are ignored": 1 - (4 + 4) / (5 + 6),
        "it divides by |A| + |P|; |A| + |S| is right": 1 - (1 + 4) / (5 + 6),
        "the found possible links are missing from the sum": 1 - 1 / (5 + 3),
        "the found sure links are missing from the sum": 1 - 4 / (5 + 3),
        "it divides by the predicted links alone": 1 - (1 + 4) / 5,
        "this is one minus the precision, |A ∩ P| / |A|": 1 - 4 / 5,
        "this is one minus the recall, |A ∩ S| / |S|": 1 - 1 / 3,
        "it divides by the entries of the whole table": 1 - (1 + 4) / 18,
        "this is the share of entries in which links and sure differ": 6 / 18,
        "precision and recall were averaged; add the counts, then divide once": (
            1 - (1 / 3 + 4 / 5) / 2
        ),
    },
    hint="of 5 predicted links 1 is sure and 4 are possible: 1 − (1 + 4) / (5 + 3)",
)

# %% check="alignment_error_rate__ends" points=1
sure = torch.tensor([[1, 0, 0], [0, 0, 1], [0, 1, 0]]).bool()
possible = torch.ones(3, 3).bool()
hint = "nothing found is 1, all found is 0, and possible=None means the sure links"
checks.number(
    alignment_error_rate(sure, sure), 0.0, what="the error rate of the sure links", hint=hint
)
checks.number(
    alignment_error_rate(~sure, sure),
    1.0,
    what="the error rate, possible left out, of links none of which is sure",
    suspects={"possible stood for everything; left out, it stands for the sure links": 1 - 6 / 9},
    hint=hint,
)
checks.number(
    alignment_error_rate(torch.zeros(3, 3).bool(), sure, possible),
    1.0,
    what="the error rate of no links",
    hint=hint,
)
checks.number(
    alignment_error_rate(torch.eye(3).bool(), sure),
    1 - 2 / 6,
    what="the error rate of links in straight order",
    hint="one of three links is right: 1 − (1 + 1) / (3 + 3)",
)

# %% check="alignment_error_rate__corpus" points=1
# Hidden: batches of sentences.
### BEGIN HIDDEN TESTS
links, sure = torch.zeros(2, 4, 4).bool(), torch.zeros(2, 4, 4).bool()
links[0] = sure[0] = torch.eye(4).bool()  # a long sentence, all right
sure[1, 0, 0], links[1, 0, 1] = True, True  # a short one, padded, all wrong
hint = "add the counts of all sentences, then divide once"
checks.number(
    alignment_error_rate(links, sure),
    1 - (4 + 4) / (5 + 5),
    what="the error rate of a sentence of four links and one of one",
    suspects={"the rates of the sentences were averaged; the counts are added up": 0.5},
    hint=hint,
)
checks.number(
    alignment_error_rate(links[None], sure[None]),
    1 - (4 + 4) / (5 + 5),
    what="the error rate with one batch axis more",
    hint=hint,
)
### END HIDDEN TESTS

# %% check="alignment_error_rate__random" points=1
# Hidden: other tables, against the library.
### BEGIN HIDDEN TESTS
from lookback.metrics import alignment_error_rate as _reference

generator = torch.Generator().manual_seed(1)
for shape in [(1, 1), (5, 3), (3, 7), (2, 4, 6), (2, 3, 4, 5)]:
    links, sure, extra = (torch.rand(shape, generator=generator) < x for x in (0.4, 0.3, 0.3))
    sure[..., 0, 0] = True
    for told, possible in [("possible links", sure | extra), ("no possible links", None)]:
        with (
            checks.case(f"tables of shape {shape}, {told}", "count over all axes at once"),
            checks.unchanged(links=links, sure=sure),
        ):
            checks.number(
                alignment_error_rate(links, sure, possible),
                _reference(links, sure, possible),
                what="the error rate",
            )
### END HIDDEN TESTS

# %% [markdown]
# ## All of it at once
#
# This cell has no points. Three words of a toy language are vectors, their translations ask for
# them in another order, and your functions find out which is which: the weights, the links that
# they draw, and their error rate. Then the same scores inside a window around the middle: “la”
# loses its partner, which stands outside.

# %%
source = ["the", "blue", "car"]
target = ["la", "voiture", "bleue"]
memory = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.2], [0.0, 0.2, 1.0]]])
query = 4 * torch.tensor([[[1.0, 0.1, 0.0], [0.0, 0.1, 1.0], [0.0, 1.0, 0.1]]])
scores = luong_score(query, memory, "dot")
context, weights = attend(scores, memory, torch.tensor([3]))
v_p = torch.full((3,), -0.5)  # σ of a negative number: the window lies left of the middle
windowed = local_window(scores, query, torch.eye(3), v_p, 1)
for told, table in [("attention", weights), ("in a window", windowed)]:
    print(f"{told:>12} ", *(f"{word:>6}" for word in source))
    for word, row in zip(target, table[0].tolist(), strict=True):
        print(f"{word:>12} ", *(f"{x:6.2f}" for x in row))

gold = torch.tensor([[[1, 0, 0], [0, 0, 1], [0, 1, 0]]]).bool()
for told, table in [("attention", weights), ("in a window", windowed)]:
    links = table == table.amax(-1, keepdim=True)
    print(f"error rate, {told}: {float(alignment_error_rate(links, gold)):.2f}")
