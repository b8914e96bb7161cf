# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The seq2seq bottleneck
#
# You build a translator that reads a sentence into one vector and writes another sentence from it:
# what it is fed while it learns, how its mistakes are counted, where its one vector comes from, how
# it writes, and how its writing is scored. Each answer is a few lines; the work is in padding, in
# ends that come at different times, and in what may not be seen.
#
# **How to work.** Write each answer in the cell that holds it, then run the checks below it. A
# check that passes is silent. One that fails says what is wrong and where to look. More checks are
# hidden; they hold your code to other sizes and harder cases. A check is worth its points or
# nothing.
#
# **Each task is graded on its own.** Where a task uses an earlier one, its checks put our version
# under that name while they run. So a mistake costs you points once, and you can do the tasks in
# any order.
#
# **What is closed.** You are asked to write the loss, the search and the score, so torch's
# cross-entropies raise an error when your cells call them, and this library's answers
# (`lookback.seq2seq`, `lookback.decoding`, `lookback.metrics`) and `sacrebleu` may not be used in
# what you hand in. Everything else of torch is open, `torch.nn.GRU` and `torch.log_softmax` too.
#
# **Letters.** A shape is written with one letter an axis: `B` batch, `S` source positions, `T`
# target positions, `N` tokens of a vocabulary, `E` width of an embedding, `D` width of a state.
# `*batch` stands for any number of batch axes, also none. Tokens are whole numbers. Three of them
# are no words: `bos` opens a sentence, `eos` ends it, `pad` fills it up.
#
# **House rules.** A result that holds numbers has the dtype of what came in. A function never
# writes into its arguments.

# %% setup=true
import torch
from torch import nn

from lookback import checks

checks.ban(
    "torch.nn.CrossEntropyLoss",
    "torch.nn.NLLLoss",
    "torch.nn.functional.cross_entropy",
    "torch.nn.functional.nll_loss",
    "lookback.decoding",
    "lookback.metrics",
    "lookback.seq2seq",
    "lookback.transformer",
    "sacrebleu",
)

# %% [markdown] task="shift_right" difficulty=1 minutes=6
# ## What the decoder reads while it learns
#
# A decoder writes one word after another, each from the words before. While it learns, it is fed
# the *right* words before, whatever it wrote itself: teacher forcing (Williams and Zipser 1989).
# So what it reads at position $t$ is what it should have written at $t - 1$, and at the start
# there is only `bos`. Write
#
# ```python
# shift_right(target, bos)   #  target (*batch, T)   ->   (*batch, T)
# ```
#
# ```python
# shift_right(torch.tensor([[5, 6, 7, 2]]), bos=1)   # [[1, 5, 6, 7]]
# ```
#
# The last token, here the end token 2, is written but never read. The word at position $t$ must not
# be read at $t$: a decoder that sees the answer learns to copy it, and nothing else.
#
# <details><summary>Hint 1</summary>
#
# `torch.cat` joins a column of `bos` and everything but the last column.
#
# </details>


# %% answer="shift_right"
def shift_right(target, bos):
    """What the decoder reads while it learns to write target: bos, then all but the last token.

    Args:
        target: tokens to be written (*batch, T), T at least 1.
        bos: the token that opens a sentence.

    Returns:
        Tokens to be read (*batch, T), of the dtype of target.
    """
    ### BEGIN SOLUTION
    start = torch.full_like(target[..., :1], bos)
    return torch.cat([start, target[..., :-1]], -1)
    ### END SOLUTION


# %% check="shift_right__by_hand" points=1
target = torch.tensor([[5, 6, 7, 2], [8, 2, 0, 0]])
with checks.unchanged(target=target):
    read = shift_right(target, bos=1)
checks.close(
    read,
    torch.tensor([[1, 5, 6, 7], [1, 8, 2, 0]]),
    what="what the decoder reads",
    suspects={
        "it is not shifted: the decoder reads what it should write": target,
        "it is shifted to the left: position t holds the token after it": torch.tensor(
            [[6, 7, 2, 1], [2, 0, 0, 1]]
        ),
        "the last token comes round to the front, where bos belongs": torch.tensor(
            [[2, 5, 6, 7], [0, 8, 2, 0]]
        ),
        "bos took the place of the first word; every word moves on by one": torch.tensor(
            [[1, 6, 7, 2], [1, 2, 0, 0]]
        ),
        "the last token is still there: one position too many": torch.tensor(
            [[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]]
        ),
        "bos is missing: one position too few": torch.tensor([[5, 6, 7], [8, 2, 0]]),
        "sentences were moved, not their words: words stand along the last axis": torch.tensor(
            [[1, 1, 1, 1], [5, 6, 7, 2]]
        ),
    },
    hint="[5, 6, 7, 2] becomes [1, 5, 6, 7]",
)

# %% check="shift_right__leak" points=1
target = torch.tensor([[3, 4, 5, 6, 7, 8]])
before, after = shift_right(target, 1), []
for t in range(6):
    changed = target.clone()
    changed[0, t] = 9
    after.append(shift_right(changed, 1))
for t in range(6):
    with checks.case(f"T = 6, t = {t}"):
        checks.unmoved(
            before[:, : t + 1],
            after[t][:, : t + 1],
            what="what is read up to position t",
            when="the word to be written at t changed",
            hint="the target leaks: position t reads the word before it",
        )
for t in range(5):
    with checks.case(f"T = 6, t = {t}"):
        checks.moved(
            before[:, t + 1],
            after[t][:, t + 1],
            what="what is read at position t + 1",
            when="the word at t changed",
        )

# %% check="shift_right__inputs" points=1
# Hidden: other batch shapes, lengths, views and number formats; arguments left alone.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(1)
for batch, T, dtype in [
    ((), 4, torch.int64),
    ((3,), 1, torch.int64),
    ((3,), 3, torch.int32),
    ((2, 4), 5, torch.int64),
]:
    target = torch.randint(2, 50, (T, *batch), generator=generator).movedim(0, -1).to(dtype)
    columns = [torch.ones(batch), *target.unbind(-1)][:T]
    with (
        checks.case(
            f"target {tuple(target.shape)}, {dtype}", "words stand along the last axis, -1"
        ),
        checks.unchanged(target=target),
    ):
        checks.close(
            shift_right(target, 1),
            torch.stack(columns, -1).to(dtype),
            what="what the decoder reads",
            hint="the result has the shape and the dtype of target",
        )
### END HIDDEN TESTS

# %% check="shift_right__bos" points=1
# Hidden: other numbers for bos.
### BEGIN HIDDEN TESTS
target = torch.tensor([[4, 2], [5, 6]])
for bos in (0, 1, 2, 97):
    with checks.case(f"bos = {bos}"):
        checks.close(
            shift_right(target, bos),
            torch.tensor([[bos, 4], [bos, 5]]),
            what="what the decoder reads",
            hint="the first token is the one that is handed over as bos",
        )
### END HIDDEN TESTS

# %% [markdown] task="masked_cross_entropy" difficulty=2 minutes=15
# ## A loss that does not count padding
#
# The decoder's logits say how likely each token is next. Its loss is the mean surprise at the right
# tokens, in nats, and padding is no token:
#
# $$\mathcal{L} = -\frac{1}{n} \sum_{t \text{ real}} \ln \operatorname{softmax}(z_t)_{y_t},
# \qquad n = \text{number of real tokens in the whole batch}$$
#
# ```python
# masked_cross_entropy(logits, targets, pad)
# #  logits (*batch, T, N)   targets (*batch, T)   ->   one number, as a tensor
# ```
#
# Two sentences, two tokens to choose from, `pad` = −100. Where both logits are 0 the surprise is
# $\ln 2 = 0.693$; where the right one is ahead by $\ln 3$, it is $\ln \tfrac 4 3 = 0.288$:
#
# ```python
# logits  = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[1.0986, 0.0], [9.0, 0.0]]])
# targets = torch.tensor([[0, 1], [0, -100]])
# masked_cross_entropy(logits, targets, pad=-100)   # 0.5580 = (0.693 + 0.693 + 0.288) / 3
# ```
#
# - **Every real token counts alike.** The sum of all real tokens is divided by their number, not by
#   `B · T`, and not sentence by sentence.
# - **`pad` is any number**: a token, as 0, or none, as −100.
# - **Large logits** are nothing special: $e^{1000}$ is.
#
# At least one token is real in every check.
#
# <details><summary>Hint 1</summary>
#
# `logits.log_softmax(-1)` holds $\ln \operatorname{softmax}$ and never overflows.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `x.gather(-1, y[..., None])` picks entry `y` of each row of `x`. It refuses −100: put any token in
# the place of padding first, with `masked_fill`, and leave these positions out of the sum.
#
# </details>


# %% answer="masked_cross_entropy"
def masked_cross_entropy(logits, targets, pad):
    """Mean cross-entropy of the real tokens, in nats.

    Args:
        logits: scores of the N tokens before softmax (*batch, T, N).
        targets: the right tokens (*batch, T), or pad.
        pad: target of positions that are not scored.

    Returns:
        One number, a tensor without axes.
    """
    ### BEGIN SOLUTION
    real = targets != pad
    right = targets.masked_fill(~real, 0)  # pad may be no token
    nats = -logits.log_softmax(-1).gather(-1, right[..., None]).squeeze(-1)
    return nats[real].mean()
    ### END SOLUTION


# %% check="masked_cross_entropy__by_hand" points=1
chances = torch.tensor(
    [[[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], [[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]]]
)
logits = chances.log() + torch.tensor([[[1.0], [-2.0]], [[0.5], [3.0]]])  # softmax takes it away
targets = torch.tensor([[0, 1], [2, 0]])
nats = torch.tensor([0.5, 0.125, 0.25, 0.1]).log().neg()
with checks.case("two sentences of two real tokens, N = 3, pad = -100"):
    loss = masked_cross_entropy(logits, targets, -100)
checks.close(
    loss,
    nats.mean(),
    what="the loss",
    suspects={
        "the sign is wrong: a loss is not negative": -nats.mean(),
        "the sum was taken, not the mean": nats.sum(),
        "the logits themselves were averaged: softmax is missing": torch.tensor(0.9904),
        "the chances of the right tokens were averaged, without a logarithm": torch.tensor(0.24375),
        "1 minus the chances, without a logarithm": 1 - torch.tensor(0.24375),
        "it is in bits; nats need the natural logarithm": nats.mean() / torch.tensor(2.0).log(),
        "softmax ran over the positions; it runs over the tokens, the last axis": torch.tensor(
            1.4218
        ),
        "one loss for each position; their mean is asked": nats.reshape(2, 2),
        "one loss for each sentence; the mean over the batch is asked": nats.reshape(2, 2).mean(-1),
    },
    hint="the right tokens have the chances 0.5, 0.125, 0.25 and 0.1",
    atol=1e-3,
)

# %% check="masked_cross_entropy__padding" points=1
generator = torch.Generator().manual_seed(1)
logits = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
targets = torch.tensor([[1, 4, 2], [3, 1, 1]])
more = torch.cat([logits, 5 * torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)], 1)
for pad in (0, -100):
    padded = torch.cat([targets, torch.full((2, 4), pad)], 1)
    with checks.case(
        f"pad = {pad}", "gather refuses a number that is no token: put another in its place"
    ):
        before = masked_cross_entropy(logits, targets, pad)
        after = masked_cross_entropy(more, padded, pad)
        checks.shape(before, (), what="the loss")
        checks.unmoved(
            before,
            after,
            what="the loss",
            when="four positions of padding were added to each sentence",
            hint="padding counts neither in the sum nor in the number that divides it",
        )

# %% check="masked_cross_entropy__tokens" points=1
# Hidden: sentences of different lengths.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
logits = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64) * 2
targets = torch.tensor([[1, 2, 3, 1, 2, 3], [2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
real = targets != 0
nats = logits.logsumexp(-1) - (logits * torch.eye(4, dtype=torch.float64)[targets]).sum(-1)
with checks.case("sentences of 6, 1 and 0 real tokens, pad = 0"):
    checks.close(
        masked_cross_entropy(logits, targets, 0),
        nats[real].mean(),
        what="the loss",
        suspects={
            "it was divided by B · T; padding is no token": (nats * real).mean(),
            "padding was counted": nats.mean(),
            "the means of the sentences were averaged; every token counts alike": (
                (nats[0].mean() + nats[1, 0]) / 2
            ),
            "it was divided by the number of sentences": nats[real].sum() / 3,
            "it is NaN: a mean of each sentence divides by 0 where one is empty": torch.tensor(
                float("nan"), dtype=torch.float64
            ),
        },
        hint="the sum over all real tokens, divided by their number, here 7",
    )
### END HIDDEN TESTS

# %% check="masked_cross_entropy__stable" points=1
# Hidden: large logits.
### BEGIN HIDDEN TESTS
logits = torch.tensor([[[1000.0, 999.0, 0.0], [-3000.0, -2999.0, -3005.0], [0.0, 0.0, 300.0]]])
targets = torch.tensor([[0, 1, 0]])
checks.close(
    masked_cross_entropy(logits, targets, -100),
    torch.tensor((0.313262 + 0.315078 + 300.0) / 3),
    what="the loss for logits of 1000, −3000 and 300",
    hint="e¹⁰⁰⁰ is ∞ and ln 0 is −∞: take log_softmax, not the logarithm of softmax, and add "
    "nothing inside the logarithm",
)
### END HIDDEN TESTS

# %% check="masked_cross_entropy__gradient" points=1
# Hidden: gradients in float64; padding sends none.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
logits = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
targets = torch.tensor([[1, 4, 2, 3], [3, 0, 0, 0]])
nats = logits.logsumexp(-1) - (logits * torch.eye(5, dtype=torch.float64)[targets]).sum(-1)
checks.gradients(
    masked_cross_entropy(logits, targets, 0),
    nats[targets != 0].mean(),
    {"logits": logits},
    what="the loss",
    hint="return a tensor, not a number, and let torch follow every step",
)
### END HIDDEN TESTS

# %% check="masked_cross_entropy__inputs" points=1
# Hidden: other batch shapes, views and number formats; arguments left alone.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(4)
for batch, T, N, pad, dtype in [
    ((), 4, 3, -1, torch.float32),
    ((3,), 1, 2, 1, torch.float64),
    ((2, 3), 3, 6, 5, torch.float32),
    ((2,), 5, 4, 0, torch.bfloat16),
]:
    logits = torch.randn(*batch, N, T, generator=generator).mT.to(dtype)  # a view
    targets = torch.randint(0, N, (*batch, T), generator=generator)
    targets[..., T // 2 :] = pad
    targets[..., 0] = 0 if pad else 1
    wide = logits.double()
    nats = wide.logsumexp(-1) - (wide * torch.eye(N + 100).double()[targets][..., :N]).sum(-1)
    with (
        checks.case(f"logits {tuple(logits.shape)}, {dtype}, pad = {pad}", "N is the last axis"),
        checks.unchanged(logits=logits, targets=targets),
    ):
        checks.close(
            masked_cross_entropy(logits, targets, pad),
            nats[targets != pad].mean().to(dtype),
            what="the loss",
            hint="the loss has the dtype of the logits; a mask of floats may have another",
        )
### END HIDDEN TESTS

# %% [markdown] task="last_valid_state" difficulty=1 minutes=8
# ## The last state that read a word
#
# The encoder's last state is all that the decoder will know of the sentence. In a batch, sentences
# are filled up with padding, and after its last real word a state has read padding. Write
#
# ```python
# last_valid_state(states, lengths)
# #  states (*batch, T, D)   lengths (*batch), each from 1 to T   ->   (*batch, D)
# ```
#
# ```python
# states = torch.tensor([[[1.0], [2.0], [3.0]],
#                        [[4.0], [5.0], [6.0]]])
# last_valid_state(states, torch.tensor([3, 1]))   # [[3.0], [4.0]]
# ```
#
# Whatever stands behind the last real position must not matter, not even NaN.
#
# <details><summary>Hint 1</summary>
#
# The state after `n` words stands at index `n - 1`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# For one batch axis, `states[torch.arange(B), index]` takes one state of each sentence, while
# `states[:, index]` takes all of `index` of every sentence. For any batch axes `gather(-2, …)`
# takes an index of shape `(*batch, 1, D)`.
#
# </details>


# %% answer="last_valid_state"
def last_valid_state(states, lengths):
    """The state after the last real position of each sequence.

    Args:
        states: one state a position (*batch, T, D).
        lengths: number of real positions of each sequence (*batch), from 1 to T.

    Returns:
        One state a sequence (*batch, D).
    """
    ### BEGIN SOLUTION
    index = (lengths - 1)[..., None, None].expand(*lengths.shape, 1, states.shape[-1])
    return states.gather(-2, index).squeeze(-2)
    ### END SOLUTION


# %% check="last_valid_state__by_hand" points=1
states = torch.arange(24.0).reshape(3, 4, 2)  # sentence b holds 8b to 8b + 7
lengths = torch.tensor([4, 2, 3])
with (
    checks.case(
        "three sentences of 4, 2 and 3 words, T = 4, D = 2",
        "after n words the state stands at index n − 1",
    ),
    checks.unchanged(states=states, lengths=lengths),
):
    last = last_valid_state(states, lengths)
checks.close(
    last,
    torch.tensor([[6.0, 7.0], [10.0, 11.0], [20.0, 21.0]]),
    what="the last state of each sentence",
    suspects={
        "it is the state at the last position, −1, which has read padding": states[:, -1],
        "it is one position too late: after n words the index is n − 1": torch.tensor(
            [[6.0, 7.0], [12.0, 13.0], [22.0, 23.0]]
        ),
        "it is one position too early": torch.tensor([[4.0, 5.0], [8.0, 9.0], [18.0, 19.0]]),
        "states[:, index] takes every length of every sentence; each has its own": states[
            :, [3, 1, 2]
        ],
        "it is the mean of the real states; the last one is asked": torch.tensor(
            [[3.0, 4.0], [9.0, 10.0], [18.0, 19.0]]
        ),
        "the axis of the positions is still there, with length 1": torch.tensor(
            [[[6.0, 7.0]], [[10.0, 11.0]], [[20.0, 21.0]]]
        ),
        "it is the first state": states[:, 0],
        "the first number of each state alone: gather takes an index of shape (*batch, 1, D)": (
            torch.tensor([[6.0], [10.0], [20.0]])
        ),
    },
    hint="after 2 words the state stands at index 1",
)

# %% check="last_valid_state__padding" points=1
generator = torch.Generator().manual_seed(1)
states = torch.randn(4, 5, 3, generator=generator)
lengths = torch.tensor([5, 1, 3, 4])
before = last_valid_state(states, lengths)
changed = states.clone()
for row, n in zip(changed, lengths, strict=True):
    row[n:] = float("nan")
checks.unmoved(
    before,
    last_valid_state(changed, lengths),
    what="the last state of each sentence",
    when="everything behind it became NaN",
    hint="pick the state by its index: 0 · NaN is NaN, so a sum with a mask does not forget it",
)
longer = torch.cat([states, torch.randn(4, 2, 3, generator=generator)], 1)
checks.unmoved(
    before,
    last_valid_state(longer, lengths),
    what="the last state of each sentence",
    when="two positions of padding were added",
    hint="count from the front: n − 1, not from the end",
)

# %% check="last_valid_state__inputs" points=1
# Hidden: other batch shapes, views and number formats; arguments left alone.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
for batch, T, D, dtype in [
    ((), 4, 3, torch.float32),
    ((1,), 1, 1, torch.float32),
    ((4,), 4, 4, torch.bfloat16),
    ((2, 3), 5, 2, torch.float64),
]:
    states = torch.randn(*batch, D, T, generator=generator).mT.to(dtype)  # a view
    lengths = torch.randint(1, T + 1, batch, generator=generator)
    rows = [x[n - 1] for x, n in zip(states.reshape(-1, T, D), lengths.reshape(-1), strict=True)]
    with (
        checks.case(
            f"states {tuple(states.shape)}, {dtype}",
            "any number of batch axes, also none: count axes from the end",
        ),
        checks.unchanged(states=states, lengths=lengths),
    ):
        checks.close(
            last_valid_state(states, lengths),
            torch.stack(rows).reshape(*batch, D),
            what="the last state of each sentence",
            hint="count axes from the end: positions are -2, widths are -1",
        )
### END HIDDEN TESTS

# %% check="last_valid_state__gradient" points=1
# Hidden: gradients in float64.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
states = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64).requires_grad_()
checks.gradients(
    last_valid_state(states, torch.tensor([2, 4, 1])),
    torch.stack([states[0, 1], states[1, 3], states[2, 0]]),
    {"states": states},
    what="the last state of each sentence",
    hint="let torch follow every step: no detach, no .data, no numbers in between",
)
### END HIDDEN TESTS

# %% [markdown] task="encode_decode" difficulty=3 minutes=25 builds_on="last_valid_state"
# ## From a sentence to a vector, and back to a sentence
#
# Two recurrences with a narrow door between them (Sutskever et al. 2014). The first reads the
# source into one vector, the *context*; the second starts from it and writes. Write the class
#
# ```python
# model = EncoderDecoder(source_vocabulary, target_vocabulary, E, D)
# model.encode(source, lengths=None)          #  (B, S)          ->  context (B, D)
# model.decode(target_in, context)            #  (B, T), (B, D)  ->  logits (B, T, N)
# model(source, target_in, lengths=None)      #  decode what was encoded  ->  (B, T, N)
# ```
#
# `source_vocabulary` and `target_vocabulary` are numbers of tokens; the latter is `N`. `E` is the
# width of the embeddings, `D` of both states and of the context; it is even, so that two directions
# can share it. `lengths` says how many positions of each source are real; without it, all are.
# `target_in` is the target shifted right, so logits at $t$ belong to word $t$.
#
# What stands inside is up to you (a GRU or an LSTM, one layer or two, the context as the first
# state or at each step). It is held to what it does:
#
# - **A bottleneck.** The context has `D` numbers a sentence, however long the sentence, and
#   `decode` sees nothing else of the source.
# - **Everything may matter.** The first word of the source and its order move the context; the
#   context moves *every* logit.
# - **No look ahead.** Logits at $t$ depend on `target_in` up to $t$.
# - **No neighbours, no padding.** A sentence gives the same alone, in a batch, and padded.
# - **Everything learns.** A loss sends a gradient to every parameter.
#
# Everything that is random is drawn once, when the model is made; there is no dropout.
#
# ```python
# model = EncoderDecoder(20, 30, E=8, D=16)
# model.encode(torch.randint(20, (3, 7))).shape                                   # (3, 16)
# model(torch.randint(20, (3, 7)), torch.randint(30, (3, 5))).shape               # (3, 5, 30)
# ```
#
# You may call your `last_valid_state`: while this task is checked, a correct one stands under that
# name, which takes its arguments by the same names.
#
# <details><summary>Hint 1</summary>
#
# Five parts are enough: two `nn.Embedding`, two `nn.GRU(E, D, batch_first=True)`, one `nn.Linear`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A GRU returns all its states `(B, T, D)` and the last one. Its first state has shape
# `(layers, B, D)`, with the layers in front even where the batch comes first: `context[None]`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The last state that a GRU returns has read the padding too. Where there are lengths, take the
# state of each sentence's own last word from all its states.
#
# </details>


# %% answer="encode_decode"
class EncoderDecoder(nn.Module):
    """A recurrent encoder–decoder with one vector between its halves (Sutskever et al. 2014).

    Args:
        source_vocabulary: number of source tokens.
        target_vocabulary: number of target tokens, N.
        E: width of the embeddings.
        D: width of the states and of the context.
    """

    def __init__(self, source_vocabulary, target_vocabulary, E, D):
        super().__init__()
        ### BEGIN SOLUTION
        self.source_embedding = nn.Embedding(source_vocabulary, E)
        self.target_embedding = nn.Embedding(target_vocabulary, E)
        self.encoder = nn.GRU(E, D, batch_first=True)
        self.decoder = nn.GRU(E, D, batch_first=True)
        self.output = nn.Linear(D, target_vocabulary)
        ### END SOLUTION

    def encode(self, source, lengths=None):
        """Read the source (B, S), of which the first lengths (B,) are real; the context (B, D)."""
        ### BEGIN SOLUTION
        states, _ = self.encoder(self.source_embedding(source))
        if lengths is None:
            return states[:, -1]
        return last_valid_state(states, lengths)
        ### END SOLUTION

    def decode(self, target_in, context):
        """Read the shifted target (B, T) from the context (B, D) on; logits (B, T, N)."""
        ### BEGIN SOLUTION
        states, _ = self.decoder(self.target_embedding(target_in), context[None])
        return self.output(states)
        ### END SOLUTION

    def forward(self, source, target_in, lengths=None):
        """Logits of the next target token at every position, (B, T, N)."""
        ### BEGIN SOLUTION
        return self.decode(target_in, self.encode(source, lengths))
        ### END SOLUTION


# %% check="encode_decode__shapes" points=1
def _last(states, lengths):  # in this check every position is real
    return states[:, -1]


model = EncoderDecoder(11, 13, 5, 8)
for S, T in [(1, 4), (4, 1), (9, 6)]:
    source, target_in = torch.zeros(3, S).long(), torch.zeros(3, T).long()
    with (
        checks.case(f"B = 3, S = {S}, T = {T}, E = 5, D = 8, N = 13", "put the batch first"),
        checks.given(last_valid_state=_last),
    ):
        context = model.encode(source)
        checks.shape(
            context,
            (3, 8),
            what="the context",
            hint="one vector of width D a sentence, however long: the last state",
        )
        checks.shape(model.decode(target_in, context), (3, T, 13), what="what decode returns")
        whole = model(source, target_in)
        checks.close(
            whole,
            model.decode(target_in, context),
            what="what the model returns, beside decode of the context,",
            hint="forward decodes what it encoded; nothing is random, dropout neither",
        )


# %% check="encode_decode__future" points=1
def _last(states, lengths):  # in this check every position is real
    return states[:, -1]


generator = torch.Generator().manual_seed(1)
model = EncoderDecoder(11, 13, 5, 8).double()
source = torch.randint(11, (2, 4), generator=generator)
target_in = torch.randint(12, (2, 5), generator=generator)
with (
    checks.case("B = 2, S = 4, T = 5, in float64", "make no tensor of a dtype of its own"),
    checks.given(last_valid_state=_last),
):
    before = model(source, target_in)
    for t in range(5):
        changed = target_in.clone()
        changed[:, t] = 12
        after = model(source, changed)
        checks.unmoved(
            before[:, :t],
            after[:, :t],
            what=f"the logits before position {t}",
            when=f"the word read at {t} changed",
            hint="the decoder looks ahead: it reads from left to right, in one direction",
        )
        checks.moved(
            before[:, t:],
            after[:, t:],
            what=f"the table of logits from position {t} on",
            when=f"the word read at {t} changed",
            hint="is target_in read? Logits at t come from the state that has read word t of it",
        )


# %% check="encode_decode__source" points=1
def _last(states, lengths):  # in this check every position is real
    return states[:, -1]


generator = torch.Generator().manual_seed(2)
model = EncoderDecoder(11, 13, 5, 8).double()
source = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
target_in = torch.randint(13, (2, 3), generator=generator)
first, turned = source.clone(), source.flip(1)
first[:, 0] = 9
with checks.case("B = 2, S = 4, T = 3, in float64"), checks.given(last_valid_state=_last):
    before, context = model(source, target_in), model.encode(source)
    for told, other in [
        ("the first source word changed", first),
        ("the source was turned", turned),
    ]:
        checks.moved(
            context,
            model.encode(other),
            what="the context",
            when=told,
            hint="the encoder reads every word, in order, and the context is its last state",
        )
        after = model(other, target_in)
        for t in range(3):
            checks.moved(
                before[:, t],
                after[:, t],
                what=f"the vector of logits at position {t}",
                when=told,
                hint="the encoder is ignored: hand the context to the decoder as its first state",
            )


# %% check="encode_decode__padding" points=1
# Hidden: sentences of different lengths, padded with anything.
### BEGIN HIDDEN TESTS
def _last(states, lengths):
    return torch.stack([x[n - 1] for x, n in zip(states, lengths, strict=True)])


generator = torch.Generator().manual_seed(3)
model = EncoderDecoder(11, 13, 5, 8).double()
source = torch.randint(11, (3, 6), generator=generator)
lengths = torch.tensor([6, 2, 4])
changed = source.clone()
changed[1, 2:], changed[2, 4:] = (changed[1, 2:] + 1) % 11, (changed[2, 4:] + 3) % 11
longer = torch.cat([source, torch.randint(11, (3, 3), generator=generator)], 1)
with (
    checks.case("B = 3, S = 6, lengths (6, 2, 4)"),
    checks.given(last_valid_state=_last),
    checks.unchanged(source=source, lengths=lengths),
):
    context = model.encode(source, lengths)
    hint = "with lengths, the context is the state of each sentence's own last word"
    for told, other in [("the padding changed", changed), ("padding was added", longer)]:
        checks.unmoved(
            context, model.encode(other, lengths), what="the context", when=told, hint=hint
        )
    for row, n in enumerate((6, 2, 4)):
        alone = model.encode(source[row : row + 1, :n])
        checks.close(
            context[row : row + 1],
            alone,
            what=f"the context of sentence {row} in a batch, beside that of it alone,",
            hint=hint,
        )
    checks.moved(
        context[0],
        model.encode(source.roll(1, 1), lengths)[0],
        what="the context",
        when="the words of the longest sentence moved on",
    )
### END HIDDEN TESTS


# %% check="encode_decode__batch" points=1
# Hidden: other sentences of the batch do not matter.
### BEGIN HIDDEN TESTS
def _last(states, lengths):
    return torch.stack([x[n - 1] for x, n in zip(states, lengths, strict=True)])


generator = torch.Generator().manual_seed(4)
model = EncoderDecoder(7, 9, 4, 6).double()
source = torch.randint(7, (5, 5), generator=generator)
target_in = torch.randint(9, (5, 5), generator=generator)
order = torch.tensor([3, 0, 4, 1, 2])
with (
    checks.case("B = S = T = 5", "with batch_first=True the first axis is the batch"),
    checks.given(last_valid_state=_last),
):
    together = model(source, target_in)
    checks.unmoved(
        together[order],
        model(source[order], target_in[order]),
        what="the logits of a sentence",
        when="the sentences of the batch changed places",
    )
    for row in range(5):
        alone = model(source[row : row + 1], target_in[row : row + 1])
        checks.close(
            together[row : row + 1],
            alone,
            what=f"the logits of sentence {row}, beside those of it alone,",
            hint="one sentence never reads another: is the batch the first axis everywhere?",
        )
### END HIDDEN TESTS


# %% check="encode_decode__bottleneck" points=1
# Hidden: decode knows nothing of the source but the context.
### BEGIN HIDDEN TESTS
def _last(states, lengths):
    return torch.stack([x[n - 1] for x, n in zip(states, lengths, strict=True)])


generator = torch.Generator().manual_seed(5)
model = EncoderDecoder(7, 9, 4, 6).double()
source, other = (torch.randint(7, (2, n), generator=generator) for n in (3, 8))
target_in = torch.randint(9, (2, 4), generator=generator)
with checks.case("B = 2, T = 4"), checks.given(last_valid_state=_last):
    context = model.encode(source)
    before = model.decode(target_in, context)
    model.encode(other)
    checks.unmoved(
        before,
        model.decode(target_in, context),
        what="what decode returns for a context",
        when="another source was encoded in between",
        hint="hand everything over in the context: nothing of the source is kept in self",
    )
    for t in range(4):
        for column in (0, 5):
            moved = context.clone()
            moved[:, column] += 0.5
            checks.moved(
                before[:, t],
                model.decode(target_in, moved)[:, t],
                what=f"the vector of logits at position {t}",
                when=f"number {column} of the context changed",
                hint="the whole context enters the decoder",
            )
### END HIDDEN TESTS


# %% check="encode_decode__gradient" points=1
# Hidden: every parameter learns.
### BEGIN HIDDEN TESTS
def _last(states, lengths):
    return torch.stack([x[n - 1] for x, n in zip(states, lengths, strict=True)])


generator = torch.Generator().manual_seed(6)
model = EncoderDecoder(5, 6, 4, 8).double()
source = torch.tensor([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
target_in = torch.tensor([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
with (
    checks.case("B = 2, S = 5, T = 6, in float64"),
    checks.given(last_valid_state=_last),
):
    logits = model(source, target_in, torch.tensor([5, 5]))
    upstream = torch.randn(2, 6, 6, generator=generator, dtype=torch.float64)
    checks.shape(logits, (2, 6, 6), what="what the model returns")
    assert logits.requires_grad, (
        "no gradient flows back from the logits: was something detached, or computed under "
        "torch.no_grad()?"
    )
    (logits * upstream).sum().backward()
found = {name: w.grad for name, w in model.named_parameters()}
assert found, "the model has no parameters: are its parts attributes of self?"
for name, gradient in found.items():
    reached = gradient is not None and bool((gradient != 0).any())
    assert reached, f"no gradient reaches {name}: is it used, and is nothing detached on the way?"
### END HIDDEN TESTS

# %% [markdown] task="greedy_decode" difficulty=2 minutes=14
# ## Writing, the likeliest word at a time
#
# Nobody feeds the right words now: the model reads what it wrote. You get the model as one
# function, which reads the newest token of every sentence and says what may come next:
#
# ```python
# logits, state = step(tokens, state)
# #  tokens (n,)   state (n, C)   ->   logits (n, N), the new state (n, C)
# ```
#
# `state` is what the model remembers, one row a sentence; hand it on, whatever is in it. Write
#
# ```python
# greedy_decode(step, state, bos, eos, steps, pad=0)
# #  state (B, C), before the first token   ->   tokens (B, steps), int64
# ```
#
# Every sentence starts by reading `bos`, takes the token with the largest logit, reads that one,
# and so on, for `steps` tokens at most. It ends with `eos`, which is kept; behind it stands `pad`.
# Each sentence ends for itself: in a batch, the others go on.
#
# ```python
# def counting(tokens, state):                # after token i comes i + 1, after 4 comes 4
#     logits = torch.eye(5)[(tokens + 1).clamp(max=4)]
#     return logits, state
#
# greedy_decode(counting, torch.zeros(1, 1), bos=1, eos=4, steps=5)   # [[2, 3, 4, 0, 0]]
# ```
#
# A call of `step` costs time. One call a step serves all sentences at once, with or without those
# that have ended, and once every sentence has ended, `step` is not called again.
#
# <details><summary>Hint 1</summary>
#
# Keep one boolean for each sentence, `done`. A sentence that is done writes `pad`, whatever the
# model says; `step` may be fed `pad` for it.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Start from a table full of `pad`, of shape `(B, steps)`, and fill column after column.
#
# </details>


# %% answer="greedy_decode"
def greedy_decode(step, state, bos, eos, steps, pad=0):
    """Write the likeliest token, again and again.

    Args:
        step: reads tokens (n,) and a state (n, C); returns logits (n, N) and the new state.
        state: of the model before the first token (B, C).
        bos: what every sentence reads first.
        eos: the token that ends a sentence.
        steps: tokens written at most.
        pad: written behind the end.

    Returns:
        Tokens (B, steps), int64: up to and with eos, then pad.
    """
    ### BEGIN SOLUTION
    written = torch.full((len(state), steps), pad)
    token = torch.full((len(state),), bos)
    done = torch.zeros(len(state), dtype=torch.bool)
    for t in range(steps):
        logits, state = step(token, state)
        token = logits.argmax(-1).masked_fill(done, pad)
        written[:, t] = token
        done = done | (token == eos)
        if done.all():
            break
    return written
    ### END SOLUTION


# %% check="greedy_decode__by_hand" points=1
follows = torch.tensor([0, 3, 2, 5, 2, 4])  # after bos = 1 comes 3, then 5, then 4, then eos = 2


def step(tokens, state):
    logits = torch.eye(6)[follows[tokens]] * 3 - 2
    return logits, state


with checks.case(
    "a chain of words, bos = 1, eos = 2, pad = 0, steps = 6",
    "step reads the newest token of each sentence, one number a row: shape (B,)",
):
    written = greedy_decode(step, torch.zeros(1, 1), 1, 2, 6)
checks.close(
    written,
    torch.tensor([[3, 5, 4, 2, 0, 0]]),
    what="what was written",
    suspects={
        "bos stands in front; it is read, not written": torch.tensor([[1, 3, 5, 4, 2, 0]]),
        "bos is read at every step; from the second on, the token before it is": torch.tensor(
            [[3, 3, 3, 3, 3, 3]]
        ),
        "eos was not kept": torch.tensor([[3, 5, 4, 0, 0, 0]]),
        "writing went on behind eos, where pad stands": torch.tensor([[3, 5, 4, 2, 2, 2]]),
        "the table ends with the last word; it always has `steps` columns": torch.tensor(
            [[3, 5, 4, 2]]
        ),
        "the batch axis is missing": torch.tensor([3, 5, 4, 2, 0, 0]),
        "positions are rows; sentences are": torch.tensor([[3], [5], [4], [2], [0], [0]]),
        "the least likely token was taken": torch.tensor([[0, 1, 0, 1, 0, 1]]),
    },
    hint="bos → 3 → 5 → 4 → eos, then padding",
)

# %% check="greedy_decode__ends" points=1
scripts = torch.tensor([[4, 2, 5, 5, 5], [3, 4, 5, 4, 3], [5, 5, 5, 2, 3]])


def step(tokens, state):  # the state counts the steps; each sentence follows its script
    sentence, t = state[:, 0], state[:, 1]
    logits = torch.eye(6)[scripts[sentence, t]]
    return logits, torch.stack([sentence, t + 1], 1)


start = torch.tensor([[0, 0], [1, 0], [2, 0]])
with (
    checks.case("three sentences that end at step 2, never, and at step 4; steps = 5"),
    checks.unchanged(state=start),
):
    written = greedy_decode(step, start, 1, 2, 5)
checks.close(
    written,
    torch.tensor([[4, 2, 0, 0, 0], [3, 4, 5, 4, 3], [5, 5, 5, 2, 0]]),
    what="what was written",
    suspects={
        "the batch stopped at the first eos; the other sentences go on": torch.tensor(
            [[4, 2, 0, 0, 0], [3, 4, 0, 0, 0], [5, 5, 0, 0, 0]]
        ),
        "the batch stopped at the first eos, and was cut there": torch.tensor(
            [[4, 2], [3, 4], [5, 5]]
        ),
        "a sentence went on behind its eos": scripts,
        "the state was not handed on: every step saw the first one": torch.tensor(
            [[4, 4, 4, 4, 4], [3, 3, 3, 3, 3], [5, 5, 5, 5, 5]]
        ),
        "eos was not kept": torch.tensor([[4, 0, 0, 0, 0], [3, 4, 5, 4, 3], [5, 5, 5, 0, 0]]),
        "one token too few: `steps` tokens may be written": torch.tensor(
            [[4, 2, 0, 0, 0], [3, 4, 5, 4, 0], [5, 5, 5, 2, 0]]
        ),
        "a sentence that ran out of steps got an eos; it has none": torch.tensor(
            [[4, 2, 0, 0, 0], [3, 4, 5, 4, 2], [5, 5, 5, 2, 0]]
        ),
    },
    hint="keep a boolean for each sentence that says whether it has ended",
)

# %% check="greedy_decode__alone" points=1
# Hidden: random models; a sentence alone and in a batch.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(1)
table = torch.randn(7, 6, 6, generator=generator)
table[..., [2, 5]] += 0.5  # so that sentences end


def step(tokens, state):
    logits = table[state[:, 0], tokens]
    return logits, (state * 3 + tokens[:, None] + 1) % 7


start = torch.arange(7)[:, None]
for bos, eos, pad, steps in [(1, 2, 0, 8), (1, 2, 4, 9), (0, 5, 1, 8), (3, 4, 3, 1)]:
    rows, zeros = [], []
    for row in start:
        tokens, token, state = [], torch.tensor([bos]), row[None]
        while len(tokens) < steps and eos not in tokens:
            logits, state = step(token, state)
            token = logits.argmax(-1)
            tokens.append(int(token))
        rows.append(tokens + [pad] * (steps - len(tokens)))
        zeros.append(tokens + [0] * (steps - len(tokens)))
    with checks.case(f"seven sentences, bos = {bos}, eos = {eos}, pad = {pad}, steps = {steps}"):
        checks.close(
            greedy_decode(step, start, bos, eos, steps, pad),
            torch.tensor(rows),
            what="what was written",
            suspects={"0 stands behind the end, where pad belongs": torch.tensor(zeros)},
            hint="a sentence in a batch gets what it gets alone",
        )
        alone = [greedy_decode(step, row[None], bos, eos, steps, pad) for row in start]
        checks.close(torch.cat(alone), torch.tensor(rows), what="what each alone has written")
### END HIDDEN TESTS

# %% check="greedy_decode__fed" points=1
# Hidden: what the model is fed.
### BEGIN HIDDEN TESTS
calls, fed = [], {0: [], 1: []}


def step(tokens, state):  # the state says which sentence a row is; the second one ends early
    calls.append((tuple(tokens.shape), tokens.dtype, len(state)))
    newest = tokens.reshape(len(state), -1)[:, -1]
    for sentence, token in zip(state[:, 0].tolist(), newest.tolist(), strict=True):
        fed[sentence].append(token)
    logits = torch.eye(7)[(newest + 1 + state[:, 0]).clamp(max=6)] - 5.0
    return logits, state


with checks.case("two sentences, bos = 1, eos = 6, steps = 4"):
    written = greedy_decode(step, torch.tensor([[0], [1]]), 1, 6, 4)
hint = "first bos, then what was just written: one token for each row of the state"
for shape, dtype, n in calls:
    assert shape == (n,), (
        f"step was fed tokens of shape {shape} but should be ({n},)\n  hint: {hint}"
    )
    assert dtype == torch.int64, f"step was fed {dtype} but should be torch.int64\n  hint: {hint}"
for sentence, wanted in enumerate([[1, 2, 3, 4], [1, 3, 5]]):  # a finished one may be fed or not
    read = fed[sentence][: 4 - sentence]
    assert read == wanted, (
        f"step was fed {read} for sentence {sentence} but should be fed {wanted}\n  hint: {hint}"
    )
checks.close(written, torch.tensor([[2, 3, 4, 5], [3, 5, 6, 0]]), what="what was written")
### END HIDDEN TESTS

# %% check="greedy_decode__calls" points=1
# Hidden: how often the model is called.
### BEGIN HIDDEN TESTS
calls = []
ends = torch.tensor([3, 1, 2])


def step(tokens, state):
    calls.append(len(tokens))
    logits = torch.eye(5)[torch.where(state[:, 1] + 1 >= ends[state[:, 0]], 2, 3)]
    return logits, torch.stack([state[:, 0], state[:, 1] + 1], 1)


with checks.case("three sentences that end at the steps 3, 1 and 2, with 50 steps allowed"):
    written = greedy_decode(step, torch.tensor([[0, 0], [1, 0], [2, 0]]), 1, 2, 50)
    expected = torch.zeros(3, 50).long()
    expected[:, :3] = torch.tensor([[3, 3, 2], [2, 0, 0], [3, 2, 0]])
    checks.close(written, expected, what="what was written")
assert len(calls) == 3, (
    f"step was called {len(calls)} times for 3 steps: after 3 all sentences had ended\n"
    "  hint: one call a step for all sentences together, and none when every sentence is done"
)
### END HIDDEN TESTS

# %% [markdown] task="beam_search" difficulty=3 minutes=25
# ## Keeping several beginnings
#
# The likeliest first word need not begin the likeliest sentence. Beam search keeps the `width` best
# beginnings, its *hypotheses*, and lets them compete (Graves 2012; Sutskever et al. 2014). A
# hypothesis is worth its log-probability: the sum of $\ln \operatorname{softmax}$ of its tokens.
# Write
#
# ```python
# beam_search(step, state, bos, eos, width, steps, pad=0)
# #  one sentence: state (1, C)
# #  ->   tokens (W, steps), int64, and log_prob (W,): the best first
# ```
#
# `step` is as in the task before; it may be called with any number of hypotheses at once, one row
# each. A round:
#
# 1. Extend every unfinished hypothesis by every token.
# 2. A finished hypothesis keeps its place, also against better extensions. The best extensions take
#    the places that are left, so that there are `width` hypotheses, or as many as there can be.
# 3. A hypothesis that wrote `eos` is finished. It is never extended.
#
# It ends when all hypotheses are finished, or after `steps` tokens; those that were cut off then
# count as they are. The result holds `W` ≤ `width` rows, ordered by log-probability. Behind `eos`
# stands `pad`.
#
# ```python
# # 0 = pad, 1 = bos, 2 = eos, 3 = a, 4 = b;  row: the token before, column: the next one
# chances = torch.tensor([[0.00, 0.00, 1.00, 0.00, 0.00],
#                         [0.00, 0.00, 0.00, 0.60, 0.40],     # bos: a .6, b .4
#                         [0.00, 0.00, 1.00, 0.00, 0.00],
#                         [0.00, 0.00, 0.40, 0.30, 0.30],     # a: the end .4, a .3, b .3
#                         [0.00, 0.00, 0.90, 0.05, 0.05]])    # b: the end .9
#
# def step(tokens, state):
#     return chances.clamp_min(1e-9).log()[tokens], state
#
# start = torch.zeros(1, 1)
# beam_search(step, start, 1, 2, width=1, steps=3)   # [[3, 2, 0]]             [ln .24]
# beam_search(step, start, 1, 2, width=2, steps=3)   # [[4, 2, 0], [3, 2, 0]]  [ln .36, ln .24]
# ```
#
# With width 1 it is greedy: a, then the end, 0.6 · 0.4. With width 2 it also tries b and finds
# 0.4 · 0.9. No check has two hypotheses that are worth the same.
#
# A wider beam need not find a better sentence: what is best at the end may have been out-competed
# on the way.
#
# <details><summary>Hint 1</summary>
#
# Two lists are enough: unfinished hypotheses, as `(log_prob, tokens, state)`, and finished ones.
# Slow and clear is fine.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The state belongs to the hypothesis: each extension goes on from the state of the one that it
# extends.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Logits are not log-probabilities. Two hypotheses compare only after `log_softmax`.
#
# </details>


# %% answer="beam_search"
def beam_search(step, state, bos, eos, width, steps, pad=0):
    """The best hypotheses of one sentence, by beam search.

    Args:
        step: reads tokens (n,) and a state (n, C); returns logits (n, N) and the new state.
        state: of the model before the first token (1, C).
        bos: what every hypothesis reads first.
        eos: the token that ends a hypothesis.
        width: hypotheses kept.
        steps: tokens written at most.
        pad: written behind the end.

    Returns:
        Tokens (W, steps), int64, and log-probabilities (W,), W <= width, the best first.
    """
    ### BEGIN SOLUTION
    finished, unfinished = [], [(0.0, [], state)]
    for t in range(steps):
        extended = []
        for log_prob, tokens, state in unfinished:
            newest = torch.tensor([tokens[-1] if tokens else bos])
            logits, after = step(newest, state)
            gains = logits.double().log_softmax(-1)[0].tolist()
            extended += [(log_prob + g, [*tokens, i], after) for i, g in enumerate(gains)]
        extended.sort(key=lambda hypothesis: -hypothesis[0])
        unfinished = []
        for hypothesis in extended[: width - len(finished)]:
            ended = hypothesis[1][-1] == eos or t + 1 == steps
            (finished if ended else unfinished).append(hypothesis)
        if not unfinished:
            break
    finished.sort(key=lambda hypothesis: -hypothesis[0])
    rows = [tokens + [pad] * (steps - len(tokens)) for _, tokens, _ in finished]
    return torch.tensor(rows), torch.tensor([log_prob for log_prob, _, _ in finished])
    ### END SOLUTION


# %% check="beam_search__by_hand" points=2
chances = torch.tensor(
    [
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.55, 0.45],
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.4, 0.35, 0.25],
        [0.0, 0.0, 0.8, 0.05, 0.15],
    ]
)
shift = torch.tensor([[0.0], [2.0], [0.0], [1.0], [-1.0]])  # softmax takes it away


def step(tokens, state):
    return (chances.clamp_min(1e-9).log() + shift)[tokens], state


with checks.case(
    "bos = 1, eos = 2, width = 2, steps = 3",
    "return two tensors: tokens (W, steps) and log-probabilities (W,)",
):
    tokens, log_prob = beam_search(step, torch.zeros(1, 1), 1, 2, 2, 3)
checks.close(
    tokens,
    torch.tensor([[4, 2, 0], [3, 2, 0]]),
    what="the table of tokens",
    suspects={
        "the order is wrong: the best hypothesis comes first": torch.tensor([[3, 2, 0], [4, 2, 0]]),
        "greedy search alone: only one hypothesis was kept": torch.tensor([[3, 2, 0]]),
        "the best hypothesis alone; all that are left come back": torch.tensor([[4, 2, 0]]),
        "a finished hypothesis was extended": torch.tensor([[4, 2, 2], [3, 2, 2]]),
        "bos stands in front; it is read, not written": torch.tensor([[1, 4, 2], [1, 3, 2]]),
        "logits were compared; only log-probabilities compare": torch.tensor(
            [[3, 2, 0], [3, 3, 2]]
        ),
        "the log-probabilities are missing: return both": torch.tensor([4, 2, 0]),
        "eos was not kept": torch.tensor([[4, 0, 0], [3, 0, 0]]),
    },
    hint="b, end: 0.45 · 0.8 = 0.36. a, end: 0.55 · 0.4 = 0.22, more than a, a: 0.19",
)
expected = torch.tensor([0.36, 0.22]).log()
checks.shape(log_prob, (2,), what="the list of log-probabilities")
checks.close(
    log_prob.to(expected.dtype),
    expected,
    what="the list of log-probabilities",
    suspects={
        "these are probabilities; their logarithm is asked": expected.exp(),
        "these are sums of logits: log_softmax is missing": expected + torch.tensor([1.0, 3.0]),
        "they were divided by the length": expected / 2,
        "they have the wrong sign: a log-probability is not positive": -expected,
        "only the last token counts; the log-probabilities of all are added": torch.tensor(
            [0.8, 0.4]
        ).log(),
    },
    atol=1e-3,
    hint="ln 0.45 + ln 0.8 = ln 0.36",
)

# %% check="beam_search__width_one" points=1
generator = torch.Generator().manual_seed(1)
table = 2 * torch.randn(7, 6, 6, generator=generator)


def step(tokens, state):
    return table[state[:, 0], tokens], (state * 3 + tokens[:, None] + 1) % 7


for row in range(7):
    steps = 6 if row % 2 else 2  # some hypotheses end, some run out of steps
    tokens, token, state = [], torch.tensor([1]), torch.tensor([[row]])
    total = 0.0
    while len(tokens) < steps and 2 not in tokens:
        logits, state = step(token, state)
        token = logits.argmax(-1)
        total += float(logits.softmax(-1).max().log())
        tokens.append(int(token))
    with checks.case(
        f"width = 1, a random model, start state {row}, bos = 1, eos = 2, steps = {steps}",
        "return two tensors; where steps run out, hypotheses count as they are",
    ):
        found, log_prob = beam_search(step, torch.tensor([[row]]), 1, 2, 1, steps)
        checks.close(
            found,
            torch.tensor([tokens + [0] * (steps - len(tokens))]),
            what="the table of tokens",
            hint="with width 1 it is greedy search: the state goes on from step to step, and a "
            "hypothesis that runs out of steps counts as it is",
        )
        checks.close(
            log_prob.float(),
            torch.tensor([total]),
            what="the list of log-probabilities",
            atol=1e-3,
            hint="the sum over all tokens, eos too; the state goes on from step to step",
        )

# %% check="beam_search__exhaustive" points=1
# Hidden: so wide that nothing is lost.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
table = torch.randn(5, 3, 3, generator=generator, dtype=torch.float64)


def step(tokens, state):
    return table[state[:, 0], tokens], (state * 2 + tokens[:, None] + 1) % 5


for steps in (1, 2, 3):
    everything, open_ones = [], [([], 0.0, torch.tensor([[3]]))]
    for t in range(steps):
        longer = []
        for tokens, total, state in open_ones:
            logits, after = step(torch.tensor([tokens[-1] if tokens else 1]), state)
            for i, gain in enumerate(logits[0].log_softmax(0).tolist()):
                ended = i == 2 or t + 1 == steps
                (everything if ended else longer).append(([*tokens, i], total + gain, after))
        open_ones = longer
    everything.sort(key=lambda x: -x[1])
    wanted = torch.tensor([tokens + [0] * (steps - len(tokens)) for tokens, _, _ in everything])
    with checks.case(f"3 tokens, steps = {steps}, width = {3**steps}", "W may be below width"):
        tokens, log_prob = beam_search(step, torch.tensor([[3]]), 1, 2, 3**steps, steps)
        checks.close(
            tokens,
            wanted,
            what="the table of tokens",
            hint="with so many places it finds every sentence there is, once, in order",
        )
        checks.close(
            log_prob.double().exp().sum(),
            torch.tensor(1.0, dtype=torch.float64),
            what="the sum of all probabilities",
            atol=1e-4,
            hint="each sentence once: all together have the probability 1",
        )
### END HIDDEN TESTS

# %% check="beam_search__library" points=1
# Hidden: random models and widths, against the library.
### BEGIN HIDDEN TESTS
from lookback.decoding import beam_search as _reference


class _State:  # what the library's search reorders
    def __init__(self, rows):
        self.rows = rows

    def reorder(self, rows):
        self.rows = self.rows[rows]


class _Model:  # the library's protocol around a step function
    def step(self, tokens, state):
        logits, state.rows = step(tokens[:, -1], state.rows)
        return logits


def step(tokens, state):
    return table[state[:, 0], tokens], (state * 3 + tokens[:, None] + 1) % 11


generator = torch.Generator().manual_seed(3)
for N, width, steps, bos, eos, pad in [
    (6, 2, 6, 1, 2, 0),
    (6, 3, 5, 1, 2, 0),
    (5, 4, 7, 0, 4, 1),
    (8, 5, 4, 3, 0, 2),
]:
    table = 1.5 * torch.randn(11, N, N, generator=generator, dtype=torch.float64)
    start = torch.tensor([[4]])
    wanted = _reference(
        _Model(),
        _State(start.clone()),
        torch.tensor([[bos]]),
        steps=steps,
        width=width,
        eos=eos,
        pad=pad,
        early_stop=False,
    )
    rows = torch.full((width, steps), pad)
    rows[:, : wanted.tokens.shape[-1]] = wanted.tokens[0]
    told = f"N = {N}, width = {width}, steps = {steps}, bos = {bos}, eos = {eos}, pad = {pad}"
    with checks.case(told, "return two tensors: tokens (W, steps) and log-probabilities (W,)"):
        with checks.unchanged(state=start):
            tokens, log_prob = beam_search(step, start, bos, eos, width, steps, pad)
        checks.close(
            tokens,
            rows,
            what="the table of tokens",
            hint="does each extension go on from its own state, and does a finished hypothesis "
            "keep its place without being extended?",
        )
        checks.close(
            log_prob.double(),
            wanted.log_prob[0],
            what="the list of log-probabilities",
            atol=1e-3,
            hint="does each extension go on from its own state, with the sum of its own tokens?",
        )
### END HIDDEN TESTS

# %% check="beam_search__finished" points=1
# Hidden: hypotheses that end early.
### BEGIN HIDDEN TESTS
# after bos: end .5, a .3, b .2;  after a or b: a .6, end .3, b .1
chances = torch.full((5, 5), 1e-9)
chances[1, 2], chances[1, 3], chances[1, 4] = 0.5, 0.3, 0.2
for row in (3, 4):
    chances[row, 3], chances[row, 2], chances[row, 4] = 0.6, 0.3, 0.1
chances[2, 3], chances[0, 3] = 0.99, 0.99  # what would follow an end or padding, if it were asked


def step(tokens, state):
    return chances.log()[tokens], state


with checks.case(
    "width = 2, a hypothesis that ends at once", "return tokens and log-probabilities"
):
    tokens, log_prob = beam_search(step, torch.zeros(1, 1), 1, 2, 2, 4)
    checks.close(
        tokens,
        torch.tensor([[2, 0, 0, 0], [3, 3, 3, 3]]),
        what="the table of tokens",
        suspects={
            "a finished hypothesis freed its place for another one": torch.tensor(
                [[2, 0, 0, 0], [3, 2, 0, 0]]
            ),
            "the search stopped when the first hypothesis was finished": torch.tensor(
                [[2, 0, 0, 0], [3, 0, 0, 0]]
            ),
        },
        hint="the finished one keeps its place, so one place is left for extensions",
    )
    checks.close(
        log_prob.double(),
        torch.tensor([0.5, 0.3 * 0.6**3], dtype=torch.float64).log(),
        what="the list of log-probabilities",
        atol=1e-3,
    )

# after bos: a .7, end .3;  after a: a .55, b .45, so that both extensions are likelier than the end
chances = torch.full((5, 5), 1e-9)
chances[1, 3], chances[1, 2], chances[3, 3], chances[3, 4] = 0.7, 0.3, 0.55, 0.45
with checks.case(
    "width = 2, two steps, a hypothesis that ends at once and is overtaken by two extensions"
):
    tokens, _ = beam_search(step, torch.zeros(1, 1), 1, 2, 2, 2)
    checks.close(
        tokens,
        torch.tensor([[3, 3], [2, 0]]),
        what="the table of tokens",
        suspects={
            "a finished hypothesis lost its place to a better one; it keeps it": torch.tensor(
                [[3, 3], [3, 4]]
            ),
        },
        hint="the finished one keeps its place, so one place is left for extensions",
    )
### END HIDDEN TESTS

# %% [markdown] task="length_penalty" difficulty=2 minutes=10
# ## Long against short
#
# Every token makes a hypothesis less likely, so a search that ranks by log-probability likes short
# sentences. Wu et al. (2016, equation 14) divide by a function of the length first:
#
# $$\mathrm{score}(Y) = \frac{\log P(Y)}{\mathrm{lp}(Y)}, \qquad
# \mathrm{lp}(Y) = \left(\frac{5 + |Y|}{6}\right)^{\alpha}$$
#
# $|Y|$ counts the tokens written, `eos` too. Log-probabilities are negative, so dividing by *more*
# ranks *higher*. Write two functions:
#
# ```python
# length_penalty(log_prob, length, alpha)      #  -> score; numbers or tensors
# can_stop(best, log_prob, steps, alpha)       #  -> True or False
# ```
#
# A search may stop early when no unfinished hypothesis can still win. `best` is the score of the
# best finished one, and `log_prob (n,)` holds the log-probabilities of the unfinished ones, as
# they are. None grows beyond `steps` tokens, and more tokens only lower its log-probability. So
# the most that one can hope for is its log-probability of today, divided as for the longest
# sentence; `can_stop` is `True` where none of these hopes is above `best`.
#
# ```python
# length_penalty(-2.0, 1, 0.6)                               # -2.0      lp(1) is 1
# length_penalty(-2.0, 7, 0.6)                               # -1.3195   = -2 / 2 ** 0.6
# can_stop(-1.2, torch.tensor([-2.0, -3.0]), 7, 0.6)         # True      -1.3195 < -1.2
# can_stop(-1.4, torch.tensor([-2.0, -3.0]), 7, 0.6)         # False     -1.3195 > -1.4
# ```
#
# <details><summary>Hint 1</summary>
#
# The hope of each unfinished hypothesis is `length_penalty(log_prob, steps, alpha)`. Where there is
# none at all, nothing can win.
#
# </details>


# %% answer="length_penalty"
def length_penalty(log_prob, length, alpha):
    """Log-probability over ((5 + length) / 6) ** alpha (Wu et al. 2016, eq. 14)."""
    ### BEGIN SOLUTION
    return log_prob / ((5 + length) / 6) ** alpha
    ### END SOLUTION


def can_stop(best, log_prob, steps, alpha):
    """Whether no unfinished hypothesis can get a score above best.

    Args:
        best: score of the best finished hypothesis.
        log_prob: log-probabilities of the unfinished ones (n,), n may be 0.
        steps: tokens that a hypothesis can have at most.
        alpha: of the length penalty.
    """
    ### BEGIN SOLUTION
    return bool((length_penalty(log_prob, steps, alpha) <= best).all())
    ### END SOLUTION


# %% check="length_penalty__by_hand" points=1
with checks.case("log-probability -6, 7 tokens, alpha = 0.5"):
    score = length_penalty(-6.0, 7, 0.5)
checks.number(
    score,
    -6 / 2**0.5,
    what="the score",
    suspects={
        "it was multiplied; dividing by more ranks a long sentence higher": -6 * 2**0.5,
        "the sign is wrong": 6 / 2**0.5,
        "it was divided by the length to the power α, without 5 and 6": -6 / 7**0.5,
        "it was divided by the length": -6 / 7,
        "α is missing": -6 / 2,
        "5 + |Y| was not divided by 6": -6 / 12**0.5,
        "the whole score was raised to α, not the length alone": -((6 / 2) ** 0.5),
        "α was multiplied, not raised to": -6 / (2 * 0.5),
        "6 + |Y| over 6: it is 5, so that one token has the penalty 1": -6 / (13 / 6) ** 0.5,
        "the penalty was subtracted": -6 - 2**0.5,
        "the penalty was added": -6 + 2**0.5,
    },
    hint="(5 + 7) / 6 = 2, so −6 / √2",
)
for length in (1, 4, 30):
    with checks.case(f"alpha = 0, {length} tokens"):
        checks.number(
            length_penalty(-6.0, length, 0.0),
            -6.0,
            what="the score",
            hint="a power of 0 is 1: the log-probability stays as it is",
        )


# %% check="length_penalty__ranks" points=1
def _penalised(log_prob, length, alpha):  # the library's, so that can_stop is judged alone
    from lookback.decoding import length_normaliser

    return log_prob / length_normaliser(length, alpha)


short, long = (-4.0, 4), (-5.0, 10)  # log-probability and tokens
ahead = []
for alpha in (0.0, 0.3, 0.6, 1.0, 2.0):
    with checks.case(f"alpha = {alpha}"):
        scores = [float(length_penalty(*hypothesis, alpha)) for hypothesis in (short, long)]
    ahead.append(scores[1] - scores[0])
assert ahead[0] < 0, "with α = 0 the likelier, shorter hypothesis ranks first, but it does not"
assert ahead[-1] > 0, (
    "with α = 2 the longer hypothesis ranks first, but it does not: larger α favours long ones\n"
    "  hint: is the penalty multiplied where it should divide?"
)
assert sorted(ahead) == ahead, (
    f"the longer hypothesis must gain on the shorter one as α grows, but it is ahead by {ahead}"
)
for best, wanted in [(-1.2, True), (-1.4, False)]:
    with (
        checks.case(f"best {best}, unfinished [-2.0, -3.0], steps = 7, alpha = 0.6"),
        checks.given(length_penalty=_penalised),
    ):
        answer = can_stop(best, torch.tensor([-2.0, -3.0]), 7, 0.6)
        assert answer is not None, "can_stop returned None: is `return` missing?"
        assert bool(answer) == wanted, (
            f"can_stop says {bool(answer)} but should say {wanted}\n"
            "  hint: the best of the hopes is −2 / 2 ** 0.6 = −1.3195"
        )

# %% check="length_penalty__tensors" points=1
# Hidden: tensors, a length for each.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(1)
for shape, alpha in [((4,), 0.6), ((2, 3), 0.7), ((), 1.3), ((3, 1), 0.0)]:
    log_prob = -20 * torch.rand(shape, generator=generator, dtype=torch.float64)
    length = torch.randint(1, 40, shape, generator=generator)
    with (
        checks.case(f"tensors of shape {shape}, alpha = {alpha}", "operators take tensors too"),
        checks.unchanged(log_prob=log_prob, length=length),
    ):
        checks.close(
            length_penalty(log_prob, length, alpha),
            log_prob / ((length.double() + 5) / 6).pow(alpha),
            what="the tensor of scores",
            atol=1e-4,
        )
### END HIDDEN TESTS


# %% check="length_penalty__stop" points=1
# Hidden: when a search may stop.
### BEGIN HIDDEN TESTS
def _lp(length, alpha):
    return ((5 + length) / 6) ** alpha


cases = [
    ("the best hope is below the best score", -1.0, [-4.0, -6.0], 10, 0.6, True),
    ("one of two can still win", -2.6, [-9.0, -4.0], 10, 0.6, False),
    ("the likeliest is not the first", -1.5, [-30.0, -9.0, -2.0], 20, 0.6, False),
    ("it could win only by growing long", -2.2, [-4.0], 10, 0.9, False),
    ("what it is worth today is above best", -3.0, [-2.0], 5, 0.6, False),
    ("nothing is unfinished", -50.0, [], 10, 0.6, True),
    ("alpha is 0 and none is likelier", -3.0, [-3.5, -4.0], 10, 0.0, True),
    ("alpha is 0 and one is likelier", -3.0, [-3.5, -2.5], 10, 0.0, False),
]
for told, best, unfinished, steps, alpha, wanted in cases:
    hopes = [x / _lp(steps, alpha) for x in unfinished]
    with (
        checks.case(
            f"best {best}, unfinished {unfinished}, steps = {steps}, alpha = {alpha}: {told}",
            "log_prob is a tensor; it may be empty",
        ),
        checks.given(length_penalty=lambda log_prob, length, alpha: log_prob / _lp(length, alpha)),
    ):
        answer = can_stop(best, torch.tensor(unfinished), steps, alpha)
        assert answer is not None, "can_stop returned None: is `return` missing?"
        assert bool(answer) == wanted, (
            f"can_stop says {bool(answer)} but should say {wanted}: {told}\n"
            "  hint: the hope of each is its log-probability divided as for `steps` tokens; it may "
            f"stop only if none is above best. The hopes are {[round(x, 3) for x in hopes]}"
        )
### END HIDDEN TESTS

# %% [markdown] task="clipped_precision" difficulty=2 minutes=15
# ## Scoring what was written
#
# BLEU asks how many of the written n-grams (runs of $n$ words) stand in the reference too
# (Papineni et al. 2002). Two traps are built in, and two remedies:
#
# - *“the the the the”* would score full marks for words. So matches are **clipped**: an n-gram
#   counts at most as often as the reference of its sentence has it.
# - One sure word would score full marks as well. So a corpus that is too short pays a **brevity
#   penalty**.
#
# $$p_n = \frac{\sum_{\text{sentences}} \text{clipped matches}}{\sum_{\text{sentences}}
# \text{written n-grams}}, \qquad
# \mathrm{BP} = \begin{cases} 1 & c \ge r \\ e^{1 - r/c} & c < r \end{cases}, \qquad
# \mathrm{BLEU} = 100 \cdot \mathrm{BP} \cdot \exp\!\Big(\tfrac14 \sum_{n=1}^{4} \ln p_n\Big)$$
#
# $c$ and $r$ are the numbers of words that all hypotheses and all references have. Every sum runs
# over the *whole corpus* before anything is divided. Write
#
# ```python
# clipped_precision(hypotheses, references, n)   #  -> p_n, a number from 0 to 1
# bleu(hypotheses, references)                   #  -> a number from 0 to 100
# ```
#
# Both arguments are lists of sentences, a sentence is a list of words, and each hypothesis has one
# reference. Where nothing was written that is long enough, $p_n$ is 0; where any $p_n$ is 0, so is
# BLEU.
#
# ```python
# written   = ["the the the the".split()]
# reference = ["the cat on the mat".split()]
# clipped_precision(written, reference, 1)    # 0.5   = 2 / 4
# clipped_precision(written, reference, 2)    # 0.0   "the the" is not in it
#
# short = ["the cat sat on the".split()]
# long  = ["the cat sat on the mat".split()]
# bleu(short, long)                           # 81.87 = 100 * exp(1 - 6/5): all right, but too short
# ```
#
# <details><summary>Hint 1</summary>
#
# The n-grams of a sentence are `tuple(words[i : i + n])` for `i` from 0 to `len(words) - n`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `collections.Counter` counts them, and `a & b` of two counters takes the smaller of both counts.
#
# </details>


# %% answer="clipped_precision"
def clipped_precision(hypotheses, references, n):
    """Share of written n-grams that stand in the reference, clipped, over a corpus.

    Args:
        hypotheses: written sentences, each a list of words.
        references: one right sentence for each.
        n: words of an n-gram.

    Returns:
        A number from 0 to 1; 0 where there is no n-gram.
    """
    ### BEGIN SOLUTION
    from collections import Counter

    def count(words):
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    matches = total = 0
    for written, right in zip(hypotheses, references, strict=True):
        matches += (count(written) & count(right)).total()
        total += count(written).total()
    return matches / total if total else 0.0
    ### END SOLUTION


def bleu(hypotheses, references):
    """Corpus BLEU with n-grams of 1 to 4 words, one reference a sentence (Papineni et al. 2002).

    Returns:
        A number from 0 to 100.
    """
    ### BEGIN SOLUTION
    from math import exp, log

    precisions = [clipped_precision(hypotheses, references, n) for n in (1, 2, 3, 4)]
    if min(precisions) == 0:
        return 0.0
    c, r = sum(map(len, hypotheses)), sum(map(len, references))
    brevity = 1.0 if c >= r else exp(1 - r / c)
    return 100 * brevity * exp(sum(log(p) for p in precisions) / 4)
    ### END SOLUTION


# %% check="clipped_precision__by_hand" points=1
text = "the cat the cat sat on the"
right = "and then the cat sat on the mat today"
with checks.case(f"“{text}” for “{right}”"):
    words = clipped_precision([text.split()], [right.split()], 1)
    pairs = clipped_precision([text.split()], [right.split()], 2)
checks.number(
    words,
    5 / 7,
    what="the precision of words",
    suspects={
        "matches are not clipped: “the” counts as often as it was written": 7 / 7,
        "each word counts once: the reference has “the” twice": 4 / 7,
        "it was divided by the words of the reference, which makes a recall": 5 / 9,
        "the last n-gram is missing: there are len(words) − n + 1": 5 / 6,
    },
    hint="clipped: the 2, cat 1, sat 1, on 1; written: 7 words",
)
checks.number(
    pairs,
    4 / 6,
    what="the precision of pairs",
    suspects={
        "matches are not clipped: “the cat” counts as often as it was written": 5 / 6,
        "it was divided by the number of words; there are 6 pairs": 4 / 7,
        "it was divided by the pairs of the reference, which makes a recall": 4 / 8,
        "the last pair is missing: 7 words have 6 pairs": 3 / 5,
    },
    hint="clipped: the cat 1, cat sat 1, sat on 1, on the 1; written: 6 pairs",
)

# %% check="clipped_precision__bleu" points=1
from math import exp

right = "the cat sat on the mat and slept"
longer = "well the cat sat on a mat and slept"


def _precision(hypotheses, references, n):
    if hypotheses == [longer.split()]:
        return (7 / 9, 5 / 8, 3 / 7, 1 / 6)[n - 1]
    return 1.0  # of a beginning of the reference: every n-gram is in it


for text, wanted in [(right, 100.0), ("the cat sat on the mat", 100 * exp(1 - 8 / 6))]:
    with (
        checks.case(f"“{text}” for “{right}”"),
        checks.given(clipped_precision=_precision),
    ):
        checks.number(
            bleu([text.split()], [right.split()]),
            wanted,
            what="BLEU",
            suspects={
                "it lies between 0 and 1; times 100 is missing": wanted / 100,
                "the brevity penalty is missing": 100.0,
                "the penalty is c / r; it should be exp(1 − r/c)": 75.0,
                "the penalty is exp(1 − c/r), upside down": 100 * exp(1 - 6 / 8),
            },
            hint="6 of 8 words, all right, give 100 · exp(1 − 8/6) = 71.65",
        )
mean = (7 / 9 * 5 / 8 * 3 / 7 * 1 / 6) ** 0.25
with (
    checks.case(f"“{longer}” for “{right}”"),
    checks.given(clipped_precision=_precision),
):
    checks.number(
        bleu([longer.split()], [right.split()]),
        100 * mean,
        what="BLEU",
        suspects={
            "the precisions were averaged; their logarithms are": 25
            * (7 / 9 + 5 / 8 + 3 / 7 + 1 / 6),
            "the logarithms were added but not divided by 4": 100 * mean**4,
            "a long text was rewarded: the brevity penalty is at most 1": 100 * mean * exp(1 / 9),
            "a long text was punished: the penalty is for short ones": 100 * mean * exp(-1 / 8),
            "only n-grams up to 3 words count": 100 * (7 / 9 * 5 / 8 * 3 / 7) ** (1 / 3),
        },
        hint="the precisions are 7/9, 5/8, 3/7 and 1/6; the fourth root of their product is 0.432",
    )

# %% check="clipped_precision__corpus" points=1
# Hidden: several sentences.
### BEGIN HIDDEN TESTS
written = [list("abcd"), ["x"], [], list("aab")]  # a letter a word
references = [list("aabc"), ["y"], list("zz"), list("bac")]
hint = "add matches and n-grams of all sentences, then divide once; clip sentence by sentence"
with checks.case("four sentences, one of them empty", "a sentence may be empty"):
    checks.number(
        clipped_precision(written, references, 1),
        5 / 8,
        what="the precision of words",
        suspects={
            "the precisions of the sentences were averaged": (3 / 4 + 0 + 0 + 2 / 3) / 4,
            "the precisions of the sentences that have words were averaged": (3 / 4 + 0 + 2 / 3)
            / 3,
            "the corpus was clipped as one text; clip sentence by sentence": 6 / 8,
        },
        hint=hint,
    )
    checks.number(
        clipped_precision(written, references, 2), 2 / 5, what="the precision of pairs", hint=hint
    )
    checks.number(
        clipped_precision(written, references, 5),
        0.0,
        what="the precision of runs of 5 words, of which there are none,",
    )
    checks.number(bleu(written, references), 0.0, what="BLEU where a precision is 0")
    checks.number(bleu([[]], [["a", "b"]]), 0.0, what="BLEU where nothing was written")
### END HIDDEN TESTS

# %% check="clipped_precision__sacrebleu" points=1
# Hidden: random corpora, against sacreBLEU.
### BEGIN HIDDEN TESTS
from math import exp

from lookback.metrics import token_bleu


def _precision(hypotheses, references, n):
    matches = total = 0
    for words, right in zip(hypotheses, references, strict=True):
        left = [tuple(right[i : i + n]) for i in range(len(right) - n + 1)]
        for i in range(len(words) - n + 1):
            total += 1
            if tuple(words[i : i + n]) in left:
                left.remove(tuple(words[i : i + n]))
                matches += 1
    return matches / total if total else 0.0


generator = torch.Generator().manual_seed(1)
for sentences, cut in [(3, 1), (5, 3), (4, 0)]:
    references, written = [], []
    for i in range(sentences):
        words = ["abcdef"[i] for i in torch.randint(6, (12,), generator=generator).tolist()]
        changed = list(words)
        changed[int(torch.randint(4, (1,), generator=generator))] = "g"
        references.append(words)
        written.append(changed[: 12 - cut * (i % 3)] if cut else [*changed, "a", "b"])
    words = [len(sentence) for sentence in written]
    with checks.case(f"{sentences} random sentences of {words} words for 12 each"):
        for n in (1, 2, 3, 4):
            checks.number(
                clipped_precision(written, references, n),
                _precision(written, references, n),
                what=f"the precision of n-grams of {n} words",
            )
        with checks.given(clipped_precision=_precision):
            score = bleu(written, references)
        own = sum(min(1, exp(1 - 12 / n)) for n in words) / sentences  # penalties one by one
        whole = min(1, exp(1 - 12 * sentences / sum(words)))
        told = "the penalties of the sentences were averaged; there is one, of the whole corpus"
        wrong = token_bleu(written, references).value * own / whole
        suspects = {told: wrong} if cut else {}
        checks.number(
            score,
            token_bleu(written, references).value,
            what="BLEU, beside sacreBLEU's,",
            suspects=suspects,
            hint="sums over the corpus first; the brevity penalty is of the whole corpus too",
        )
### END HIDDEN TESTS

# %% [markdown]
# ## All of it at once
#
# This cell has no points. A model is to write digits backwards: what it is fed, what it is punished
# for and what it writes are your functions. As the cell stands, the model has learned nothing: its
# loss is that of a guess among 13 tokens, ln 13 = 2.56, and few digits are right, by luck.
#
# Set `updates` to 1000, which takes some seconds. Then nearly all of five digits are right. Watch
# what happens to ten: the vector between the halves was never asked to hold as many.

# %%
torch.manual_seed(0)
updates = 0
pad, bos, eos = 0, 1, 2


def draw(count, length):  # digits are the tokens 3 to 12
    source = torch.randint(3, 13, (count, length))
    return source, torch.cat([source.flip(1), torch.full((count, 1), eos)], 1)


def write(model, source):  # reads everything again at each step: slow and simple
    context = model.encode(source)

    def step(tokens, state):
        read = torch.cat([state, tokens[:, None]], 1)
        return model.decode(read, context)[:, -1], read

    start = torch.zeros(len(source), 0, dtype=torch.int64)
    return greedy_decode(step, start, bos, eos, source.shape[1] + 1, pad)


def loss_of(model, source, target):
    logits = model(source, shift_right(target, bos))
    return masked_cross_entropy(logits, target, pad)


model = EncoderDecoder(13, 13, E=16, D=64)
if updates:
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(updates):
        optimizer.zero_grad()
        loss_of(model, *draw(32, 5)).backward()
        optimizer.step()

with torch.no_grad():
    print(f"the loss is {loss_of(model, *draw(100, 5)).item():.2f} nats a token")
    for length in (5, 10):
        source, target = draw(100, length)
        right = (write(model, source) == target)[:, :length].float().mean()
        print(f"{length:2d} digits: {right.item():.0%} of them right")
