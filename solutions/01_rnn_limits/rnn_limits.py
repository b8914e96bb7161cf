# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # RNN limits
#
# You build a recurrent network from its equation, score it, and then measure what holds it back:
# how many steps it must wait, how far a word travels inside it, how much a model without memory
# loses, and how far a convolution sees instead. Each answer is a few lines.
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
# **What is closed.** You are asked to write the recurrence and the score, so torch's own recurrent
# layers and cross-entropies raise an error when your cells call them, and this library's answers
# (`lookback.recurrent`, `lookback.metrics` and what builds on them) may not be used in what you
# hand in. Everything else of torch is open, and so is all of Python.
#
# **Letters.** A shape is written with one letter an axis: `T` steps of time, `I` width of an input,
# `D` width of the state, `N` classes, `B` batch. `*batch` stands for any number of batch axes, also
# none.

# %% setup=true
import torch

from lookback import checks

checks.ban(
    "torch.nn.RNN",
    "torch.nn.RNNCell",
    "torch.rnn_tanh",
    "torch.rnn_tanh_cell",
    "torch.nn.CrossEntropyLoss",
    "torch.nn.NLLLoss",
    "torch.nn.functional.cross_entropy",
    "torch.nn.functional.nll_loss",
    "lookback.data.copying",
    "lookback.decoding",
    "lookback.gradients",
    "lookback.metrics",
    "lookback.recurrent",
    "lookback.seq2seq",
)

# %% [markdown] task="rnn_step" difficulty=1 minutes=12
# ## One step
#
# A recurrent network reads one input at a time. It keeps a vector, its *state*, and mixes each new
# input into it (Elman 1990):
#
# $$h_t = \tanh(W_{ih}\, x_t + b_{ih} + W_{hh}\, h_{t-1} + b_{hh})$$
#
# $W_{ih}$ reads the input and $W_{hh}$ the state before. Two biases do no more than one would;
# torch has two, so we do too. Write
#
# ```python
# rnn_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None)
# #  x_t (*batch, I)   h (*batch, D)   W_ih (D, I)   W_hh (D, D)   biases (D,)   ->   (*batch, D)
# ```
#
# A bias that is `None` is left out. With $I = D = 2$, by hand:
#
# ```python
# x_t  = torch.tensor([1.0, 2.0])
# h    = torch.tensor([1.0, 0.0])
# W_ih = torch.tensor([[0.5, 0.0], [ 0.0, 0.25]])   # W_ih x_t = ( 0.5,  0.5)
# W_hh = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])    # W_hh h   = ( 0.0, -1.0)
# b_ih = torch.tensor([0.5, 0.0])                   # the sum  = ( 1.0, -0.5)
# rnn_step(x_t, h, W_ih, W_hh, b_ih)                # tanh     = ( 0.7616, -0.4621)
# ```
#
# <details><summary>Hint 1</summary>
#
# The width of `x_t` is its last axis, whatever stands before it. For a batch of rows, $W x$ for
# every row at once is `x @ W.T`: `(*batch, I) @ (I, D)` gives `(*batch, D)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Add everything first, then take `torch.tanh` once.
#
# </details>


# %% answer="rnn_step"
def rnn_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    """One step of a simple recurrent network (Elman 1990).

    Args:
        x_t: input of this step (*batch, I).
        h: state of the step before (*batch, D).
        W_ih: weights of the input (D, I).
        W_hh: weights of the state (D, D).
        b_ih, b_hh: biases (D,), or None.

    Returns:
        The new state (*batch, D).
    """
    ### BEGIN SOLUTION
    total = x_t @ W_ih.T + h @ W_hh.T
    for bias in (b_ih, b_hh):
        if bias is not None:
            total = total + bias
    return torch.tanh(total)
    ### END SOLUTION


# %% check="rnn_step__by_hand" points=2
x_t, h = torch.tensor([1.0, -1.0, 2.0]), torch.tensor([0.5, -1.0])
W_ih = torch.tensor([[0.5, 0.0, 0.25], [0.0, 0.25, -0.5]])
W_hh = torch.tensor([[0.0, 1.0], [2.0, 0.5]])
b_ih, b_hh = torch.tensor([0.25, 0.0]), torch.tensor([0.5, 0.25])
from_input, from_state = torch.tensor([1.0, -1.25]), torch.tensor([-1.0, 0.5])
total = from_input + b_ih + from_state + b_hh  # (0.75, -0.5)
with checks.case("I = 3, D = 2 and no batch axis", "W (D, I) maps x (…, I) to x @ W.T (…, D)"):
    new = rnn_step(x_t, h, W_ih, W_hh, b_ih, b_hh)
    again = rnn_step(x_t, h, W_ih, W_hh, b_ih, b_hh)
    checks.unmoved(
        new,
        again,
        what="the new state",
        when="the same step was taken a second time",
        hint="are weights drawn inside the function? Use the ones that are given",
    )
    checks.close(
        new,
        torch.tensor([0.6351, -0.4621]),
        what="the new state",
        atol=1e-3,
        suspects={
            "tanh is missing": total,
            "the function around the sum is a sigmoid; it should be tanh": total.sigmoid(),
            "the function around the sum is ReLU; it should be tanh": total.relu(),
            "the matrix W_hh is transposed": torch.tanh(total - from_state + W_hh.T @ h),
            "both biases are missing": torch.tanh(from_input + from_state),
            "b_ih is missing": torch.tanh(total - b_ih),
            "b_hh is missing": torch.tanh(total - b_hh),
            "the biases stand outside tanh": torch.tanh(from_input + from_state) + b_ih + b_hh,
            "the state before is not used": torch.tanh(from_input + b_ih),
            "the state before is added as it is, without W_hh": torch.tanh(total - from_state + h),
            "the input is not used": torch.tanh(from_state + b_hh),
            "tanh was taken of each part; add first, then take it once": (
                torch.tanh(from_input + b_ih) + torch.tanh(from_state + b_hh)
            ),
            "tanh is around the input's part alone; the state's part belongs inside too": (
                torch.tanh(from_input + b_ih) + from_state + b_hh
            ),
            "the old state was added to the new one": torch.tanh(total) + h,
        },
        hint="the sum is (0.75, -0.5): 1 and -1.25 from the input, -1 and 0.5 from the state",
    )

# %% check="rnn_step__batch" points=1
from lookback.recurrent import rnn_step as _reference

generator = torch.Generator().manual_seed(1)
x_t, h = torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)
W_ih, W_hh = torch.randn(2, 3, generator=generator), torch.randn(2, 2, generator=generator)
with checks.case("a batch of four: x_t (4, 3), h (4, 2)", "x @ W.T maps every row at once"):
    checks.close(
        rnn_step(x_t, h, W_ih, W_hh),
        _reference(x_t, h, W_ih, W_hh),
        what="the new state of a batch, without biases,",
        hint="each row takes its own step: if one row alone is right, look at the axes",
    )

# %% check="rnn_step__inputs" points=1
# Hidden: other shapes, one bias at a time, views, other number formats, arguments left alone.
### BEGIN HIDDEN TESTS
from lookback.recurrent import rnn_step as _reference

generator = torch.Generator().manual_seed(2)
for batch, wide, width, dtype in [
    ((), 1, 1, torch.float32),
    ((1,), 5, 2, torch.float32),
    ((3,), 3, 3, torch.float64),
    ((2, 3), 4, 5, torch.float32),
    ((2, 1, 2), 2, 4, torch.bfloat16),
]:
    x_t = torch.randn(*batch, 2 * wide, generator=generator)[..., ::2].to(dtype)  # a view
    h = torch.randn(width, *batch, generator=generator).movedim(0, -1).to(dtype)
    W_ih = (torch.randn(wide, width, generator=generator) / 2).to(dtype).T
    W_hh = (torch.randn(width, width, generator=generator) / 2).to(dtype)
    bias = torch.randn(width, generator=generator).to(dtype)
    for biases in [{}, {"b_ih": bias}, {"b_hh": bias}]:
        given = ", ".join(biases) or "no bias"
        told = f"x_t {tuple(x_t.shape)}, h {tuple(h.shape)}, {dtype}, {given}"
        with (
            checks.case(told, "the last axis is the width; a bias may be None"),
            checks.unchanged(x_t=x_t, h=h, W_ih=W_ih, W_hh=W_hh, bias=bias),
        ):
            new = rnn_step(x_t, h, W_ih, W_hh, **biases)
        with checks.case(told):
            checks.close(
                new,
                _reference(x_t, h, W_ih, W_hh, **biases),
                what="the new state",
                hint="each bias stands for itself: one may be None and the other not",
            )
### END HIDDEN TESTS

# %% check="rnn_step__gradient" points=1
# Hidden: gradients in float64.
### BEGIN HIDDEN TESTS
from lookback.recurrent import rnn_step as _reference

generator = torch.Generator().manual_seed(3)
shapes = {"x_t": (2, 3), "h": (2, 4), "W_ih": (4, 3), "W_hh": (4, 4), "b_ih": (4,), "b_hh": (4,)}
inputs = {
    name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    for name, shape in shapes.items()
}
checks.gradients(
    rnn_step(*inputs.values()),
    _reference(*inputs.values()),
    inputs,
    what="the new state",
    hint="let torch follow every step: no detach, no .data, no numbers in between",
)
### END HIDDEN TESTS

# %% [markdown] task="unroll" difficulty=1 minutes=15 builds_on="rnn_step"
# ## The loop over time
#
# A sequence is read by taking the same step again and again, with the same weights. Each step
# starts from the state that the one before left. Write
#
# ```python
# unroll(x, W_ih, W_hh, b_ih=None, b_hh=None, h_0=None)
# #  x (*batch, T, I)   h_0 (*batch, D)   ->   all states, (*batch, T, D)
# ```
#
# Time is the last axis but one. The result holds the state *after* each of the `T` steps: entry 0
# is $h_1$, which has read the first input; the start $h_0$ is not in it. A start that is `None` is
# zeros of the dtype of `x`.
#
# ```python
# x = torch.tensor([[1.0], [0.0], [0.0]])      # T = 3 inputs of width 1: a word, then silence
# one = torch.tensor([[1.0]])
# unroll(x, one, one)                          # [[0.7616], [0.6420], [0.5663]]
# ```
#
# The word is read once, and $\tanh(1) = 0.7616$ stays behind. Then there is only
# $\tanh(0.7616) = 0.6420$, then $\tanh(0.6420) = 0.5663$: what was read is remembered, and fades.
#
# You may call your `rnn_step`: while this task is checked, a correct one stands under that name,
# which takes its arguments by the same names.
#
# <details><summary>Hint 1</summary>
#
# `x[..., t, :]` is the input of step `t` for the whole batch.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Collect the states in a list and join them with `torch.stack(states, dim=-2)`.
#
# </details>


# %% answer="unroll"
def unroll(x, W_ih, W_hh, b_ih=None, b_hh=None, h_0=None):
    """All states of a simple recurrent network.

    Args:
        x: inputs (*batch, T, I), T at least 1.
        W_ih, W_hh, b_ih, b_hh: weights, as in rnn_step.
        h_0: state before the first step (*batch, D); zeros when left out.

    Returns:
        The state after each step (*batch, T, D).
    """
    ### BEGIN SOLUTION
    h = x.new_zeros(*x.shape[:-2], W_hh.shape[0]) if h_0 is None else h_0
    states = []
    for t in range(x.shape[-2]):
        h = rnn_step(x[..., t, :], h, W_ih, W_hh, b_ih, b_hh)
        states.append(h)
    return torch.stack(states, -2)
    ### END SOLUTION


# %% check="unroll__by_hand" points=2
from lookback.recurrent import rnn_step as _reference


def _step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    return _reference(x_t, h.expand(*x_t.shape[:-1], -1), W_ih, W_hh, b_ih, b_hh)


x, h_0 = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.25, -1.0]]), torch.tensor([0.5, -0.5])
W_ih, W_hh = torch.tensor([[0.5, -0.25], [0.25, 1.0]]), torch.tensor([[0.5, 1.0], [-0.75, 0.25]])
b_ih, b_hh = torch.tensor([0.25, -0.5]), torch.tensor([0.0, 0.25])
first, second, third = [0.3584, 0.0], [-0.0707, 0.3419], [0.7313, -0.7814]
wrong = {
    "each step starts from h_0; it should start from the state that the last one left": [
        [0.3584, 0.0], [-0.4621, 0.1244], [0.3584, -0.9338]
    ],
    "h_0 is ignored": [[0.5546, 0.4621], [0.4538, 0.3136], [0.8228, -0.8956]],
    "only the last state is there; all of them are asked for": third,
    "only the last step is there; all of them are asked for": [third],
    "h_0 is among the states; they begin after the first step": [
        [0.5, -0.5], first, second, third
    ],
    "every state comes one step late: entry 0 should have read the first input": [
        [0.5, -0.5], first, second
    ],
    "the sequence was read from its end": [[0.35, 0.8016], [-0.7635, 0.1222], [0.3584, -0.9338]],
    "the sequence was read from its end, and its end stands first": [
        [0.3584, -0.9338], [-0.7635, 0.1222], [0.35, 0.8016]
    ],
    "every step read the first input": [[0.3584, 0.0], [0.6664, 0.2272], [0.8291, 0.057]],
    "all entries are the last state: was one tensor overwritten and kept three times?": [
        third, third, third
    ],
    "the biases are not handed on": [[0.1244, 0.2449], [-0.1905, 0.6874], [0.7474, -0.553]],
    "the second bias is not handed on": [[0.3584, -0.2449], [-0.3056, 0.045], [0.4755, -0.8327]],
    "the axes are (D, T); time comes before the width": [
        [0.3584, -0.0707, 0.7313], [0.0, 0.3419, -0.7814]
    ],
}  # fmt: skip
with (
    checks.case("T = 3, I = D = 2, and no batch axis", "the loop runs over axis -2, time"),
    checks.given(rnn_step=_step),
):
    checks.close(
        unroll(x, W_ih, W_hh, b_ih, b_hh, h_0),
        torch.tensor([first, second, third]),
        what="the table of states",
        atol=1e-3,
        suspects={told: torch.tensor(states) for told, states in wrong.items()},
        hint="h = h_0, then three times h = rnn_step(x[t], h, …), and all three are kept",
    )

# %% check="unroll__memory" points=1
from lookback.recurrent import rnn_step as _reference


def _step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    return _reference(x_t, h.expand(*x_t.shape[:-1], -1), W_ih, W_hh, b_ih, b_hh)


generator = torch.Generator().manual_seed(1)
x, other = torch.randn(2, 3, 5, 4, generator=generator)
first, last = x.clone(), x.clone()
first[:, 0], last[:, 4] = other[:, 0], other[:, 4]
weights = 0.3 * torch.randn(4, 4, generator=generator), 0.9 * torch.eye(4).flip(0)
with (
    checks.case("a batch of three sequences of five steps: x (3, 5, 4)"),
    checks.given(rnn_step=_step),
):
    before, after_first, after_last = (unroll(inputs, *weights) for inputs in (x, first, last))
    checks.shape(before, (3, 5, 4), what="the table of states", hint="join the steps along axis -2")
    checks.moved(
        before[:, 4],
        after_first[:, 4],
        what="the last state",
        when="the first input changed",
        hint="is the state started again inside the loop, or does the loop run over the batch?",
    )
    checks.unmoved(
        before[:, :4],
        after_last[:, :4],
        what="a state before the last",
        when="the last input changed, which it has not read",
        hint="is the loop over axis -2, and in the order of time?",
    )

# %% check="unroll__batches" points=1
# Hidden: other batch shapes and lengths, views, no start, no biases, arguments left alone.
### BEGIN HIDDEN TESTS
from lookback.recurrent import rnn_step as _reference


def _step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    return _reference(x_t, h.expand(*x_t.shape[:-1], -1), W_ih, W_hh, b_ih, b_hh)


def _run(x, weights, h):
    states = []
    for t in range(x.shape[-2]):
        h = _step(x[..., t, :], h, *weights)
        states.append(h)
    return torch.stack(states, -2)


generator = torch.Generator().manual_seed(2)
for batch, steps, wide, width, dtype in [
    ((), 4, 3, 2, torch.float32),
    ((3,), 1, 2, 4, torch.float32),
    ((4,), 4, 4, 4, torch.float32),
    ((1,), 6, 1, 3, torch.float64),
    ((2, 3), 5, 3, 2, torch.float32),
]:
    shapes = (*batch, steps, 2 * wide), (width, wide), (width, width), (width,), (*batch, width)
    x, W_ih, W_hh, bias, h_0 = (torch.randn(n, generator=generator).to(dtype) / 2 for n in shapes)
    x, none = x[..., ::2], torch.zeros_like(h_0)
    for told, weights, start in [
        ("no bias and no h_0", (W_ih, W_hh), None),
        ("both biases and no h_0", (W_ih, W_hh, bias, bias), None),
        ("h_0 and no bias", (W_ih, W_hh), h_0),
    ]:
        told = f"x {tuple(x.shape)}, {dtype}, D = {width}, {told}"
        with (
            checks.case(told, "time is axis -2; zeros to start from take their dtype from x"),
            checks.given(rnn_step=_step),
            checks.unchanged(x=x, W_ih=W_ih, W_hh=W_hh, h_0=h_0),
        ):
            states = unroll(x, *weights, h_0=start)
        suspects = {}
        if len(batch) == 1:
            turned = _run(x.transpose(0, 1), weights, none.new_zeros(steps, width))
            suspects["batch and time are swapped: axis -2 is time"] = turned.transpose(0, 1)
        with checks.case(told):
            checks.close(
                states,
                _run(x, weights, none if start is None else h_0),
                what="the table of states",
                suspects=suspects,
                hint="without h_0 the state starts at zero",
            )
### END HIDDEN TESTS

# %% check="unroll__continued" points=1
# Hidden: the same result twice, and a sequence read in two parts.
### BEGIN HIDDEN TESTS
from lookback.recurrent import rnn_step as _reference


def _step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    return _reference(x_t, h.expand(*x_t.shape[:-1], -1), W_ih, W_hh, b_ih, b_hh)


generator = torch.Generator().manual_seed(3)
x = torch.randn(3, 7, 4, generator=generator)
weights = tuple(torch.randn(5, *n, generator=generator) / 2 for n in ((4,), (5,), (), ()))
with checks.case("x (3, 7, 4), D = 5"), checks.given(rnn_step=_step):
    whole, again = unroll(x, *weights), unroll(x, *weights)
    checks.shape(whole, (3, 7, 5), what="the states")
    checks.unmoved(
        whole,
        again,
        what="the states",
        when="the same sequence was read a second time",
        hint="nothing may be drawn at random: without h_0 the state starts at zero",
    )
    start = whole[:, 2].clone()
    with checks.unchanged(h_0=start):
        rest = unroll(x[:, 3:], *weights, h_0=start)
    checks.close(
        rest,
        whole[:, 3:],
        what="the table of steps 4 to 7, read alone with h_0 = the state after step 3,",
        hint="the state is all that a recurrent network keeps: start the loop from h_0",
    )
### END HIDDEN TESTS

# %% check="unroll__gradient" points=1
# Hidden: gradients through all steps, in float64.
### BEGIN HIDDEN TESTS
from lookback.recurrent import rnn_step as _reference


def _step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    return _reference(x_t, h.expand(*x_t.shape[:-1], -1), W_ih, W_hh, b_ih, b_hh)


generator = torch.Generator().manual_seed(4)
shapes = {"x": (2, 4, 3), "W_ih": (2, 3), "W_hh": (2, 2), "b_ih": (2,), "b_hh": (2,), "h_0": (2, 2)}
inputs = {
    name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    for name, shape in shapes.items()
}
with checks.case("x (2, 4, 3), float64"), checks.given(rnn_step=_step):
    states = unroll(**inputs)
h, steps = inputs["h_0"], []
for t in range(4):
    h = _step(inputs["x"][:, t], h, *list(inputs.values())[1:5])
    steps.append(h)
checks.gradients(
    states,
    torch.stack(steps, 1),
    inputs,
    what="the states",
    hint="the gradient runs back through every step: is a state detached between two of them?",
)
### END HIDDEN TESTS

# %% [markdown] task="perplexity" difficulty=2 minutes=15
# ## How surprised is a model?
#
# A language model gives every token that could come next a probability. Where the token that did
# come had the probability $p$, the model pays $-\ln p$ nats. The mean over all tokens is its loss,
# the *cross-entropy*, and the exponential of the mean is its *perplexity*:
#
# $$\mathrm{perplexity} = \exp\Big(\frac 1 n \sum_{\text{tokens}} -\ln p(\text{token})\Big)$$
#
# Here $n$ is the number of tokens. A perplexity of 4 says: as unsure as if four tokens were equally
# likely each time. Write
#
# ```python
# perplexity(logits, targets, ignore_index=-100)   # -> one number
# #  logits (*batch, N)   targets (*batch), integers from 0 to N-1, or ignore_index
# ```
#
# `logits` are scores *before* softmax. Sequences of different lengths lie in one table, and the
# shorter ones are filled up with *padding*: where a target equals `ignore_index` there is no token,
# so the position counts neither in the sum nor in $n$, whatever the model says there. Every token
# has the same weight, whichever sequence it stands in.
#
# ```python
# logits = torch.tensor([[0.50, 0.25, 0.125, 0.125],
#                        [0.50, 0.25, 0.125, 0.125],
#                        [0.97, 0.01, 0.010, 0.010]]).log()
# perplexity(logits, torch.tensor([0, 2, -100]))   # p = 1/2 and 1/8; the mean of ln 2 and ln 8 is
#                                                  # ln 4, so the perplexity is 4.0
# ```
#
# There is at least one token. A number of Python or a tensor that holds one are both fine.
#
# <details><summary>Hint 1</summary>
#
# `torch.log_softmax(logits, dim=-1)` gives $\ln p$ for all classes, also where $p$ itself is too
# small to be written down. The logarithm of `softmax` is −∞ there.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `scored = targets != ignore_index` is a table of booleans. `targets[scored]` and
# `logits[scored]` are the tokens in one long row, `(n,)` and `(n, N)`, whatever the batch was.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `log_p[torch.arange(n), targets]` takes one number out of each row of a table `(n, N)`.
#
# </details>


# %% answer="perplexity"
def perplexity(logits, targets, ignore_index=-100):
    """Exponential of the mean cross-entropy of a token.

    Args:
        logits: scores before softmax (*batch, N).
        targets: the right classes (*batch), or ignore_index where there is no token.
        ignore_index: target of the positions that do not count.

    Returns:
        One number.
    """
    ### BEGIN SOLUTION
    scored = targets != ignore_index
    log_p = logits[scored].log_softmax(-1)  # n N
    nats = -log_p.gather(-1, targets[scored][:, None])
    return nats.mean().exp()
    ### END SOLUTION


# %% check="perplexity__by_hand" points=2
p = torch.tensor([[1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 4] * 4])
logits = p.log() + torch.tensor([[1.0], [-2.0], [0.5]])  # softmax takes any constant away again
targets = torch.tensor([0, 2, 1])  # with the probabilities 1/2, 1/8 and 1/4
nats = torch.tensor([2.0, 8.0, 4.0]).log()
with checks.case("three tokens with the probabilities 1/2, 1/8 and 1/4"):
    checks.number(
        perplexity(logits, targets),
        4.0,
        what="the perplexity",
        suspects={
            "this is the cross-entropy; exp is missing": float(nats.mean()),
            "this is the cross-entropy in bits; exp is missing": 2.0,
            "2 was raised to a mean in nats; nats go with e": float(2 ** nats.mean()),
            "e was raised to a mean in bits; bits go with 2": float(torch.tensor(2.0).exp()),
            "the sign is wrong: it is at least 1": 0.25,
            "the sum was taken, not the mean": 64.0,
            "the mean of 1/p was taken; take the mean of −ln p first, then exp": 14 / 3,
            "the mean of p was taken; take the mean of −ln p": 24 / 7,
            "the mean runs over all classes, not over the tokens that came": float(
                (-p.log()).mean().exp()
            ),
            "the logits were used as if they were ln p; softmax is missing": float(
                (-logits[torch.arange(3), targets]).mean().exp()
            ),
            "softmax was taken, but not its logarithm": float(
                (-p[torch.arange(3), targets]).mean().exp()
            ),
        },
        hint="−ln p is ln 2, ln 8 and ln 4; their mean is ln 4",
    )

# %% check="perplexity__padding" points=1
p = torch.tensor([[1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 4, 1 / 8], [1 / 16, 7 / 8, 1 / 16]])
logits = torch.stack([p, p.flip(0)]).log()  # 2 sequences, 3 positions, 3 classes
targets = torch.tensor([[0, 0, 2], [2, -100, -100]])  # p = 1/2, 1/8, 1/16 and 1/16
nats = torch.tensor([2.0, 8.0, 16.0, 16.0]).log()
padded = -logits[1, 1:, 0]  # class 0 at the two padded positions
by_sequence = torch.stack([nats[:3].mean(), nats[3]])
with checks.case(
    "two sequences, of three tokens and of one",
    "-100 is no class: leave those positions out before you look up p",
):
    checks.number(
        perplexity(logits, targets),
        8.0,
        what="the perplexity of a padded batch",
        suspects={
            "the sum was divided by all positions, the padded ones too": float(
                (nats.sum() / 6).exp()
            ),
            "padded positions were scored, as if class 0 were due": float(
                ((nats.sum() + padded.sum()) / 6).exp()
            ),
            "padded positions were scored, as if the last class were due": float(
                ((nats.sum() - logits[1, 1:, 2].sum()) / 6).exp()
            ),
            "the mean of the sequences' perplexities; every token has the same weight": float(
                by_sequence.exp().mean()
            ),
            "the mean of the sequences' means; every token has the same weight": float(
                by_sequence.mean().exp()
            ),
            "the sum was divided by the number of sequences": float((nats.sum() / 2).exp()),
        },
        hint="four tokens with p = 1/2, 1/8, 1/16 and 1/16: the mean is 3 · ln 2",
    )

# %% check="perplexity__recut" points=1
# Hidden: the same tokens, cut into other batches.
### BEGIN HIDDEN TESTS
from lookback.metrics import perplexity as _reference

generator = torch.Generator().manual_seed(1)
logits = 2 * torch.randn(24, 5, generator=generator)
targets = torch.randint(0, 5, (24,), generator=generator)
targets[torch.tensor([4, 5, 9, 10, 11, 23])] = -100
wanted = _reference(logits, targets)
for batch in [(24,), (4, 6), (6, 4), (1, 24), (2, 3, 4), (24, 1)]:
    x, y = logits.reshape(*batch, 5), targets.reshape(batch)
    with checks.case(
        f"logits {tuple(x.shape)}, targets {tuple(y.shape)}", "boolean indexing takes any shape"
    ):
        with checks.unchanged(logits=x, targets=y):
            found = perplexity(x, y)
        checks.number(
            found,
            wanted,
            what="the perplexity of 18 tokens and 6 pads",
            hint="how tokens are cut into sequences may not matter: is there a mean of means?",
            rtol=1e-4,
        )
with checks.case("a single token"):
    checks.number(
        perplexity(logits[:1], targets[:1]), _reference(logits[:1], targets[:1]), what="it"
    )
### END HIDDEN TESTS

# %% check="perplexity__ignored" points=1
# Hidden: other values of ignore_index, and what stands in the padding.
### BEGIN HIDDEN TESTS
from lookback.metrics import perplexity as _reference

generator = torch.Generator().manual_seed(2)
for pad in (0, 3, -1, 7):
    logits = torch.randn(3, 4, 5, generator=generator)
    targets = torch.randint(0, 5, (3, 4), generator=generator)
    targets[0, 0] = (pad + 1) % 5  # at least one token
    wanted = _reference(logits, targets, ignore_index=pad)
    hint = f"every target counts but those that equal ignore_index, here {pad}"
    with checks.case(f"ignore_index={pad}, logits (3, 4, 5)"):
        found = perplexity(logits, targets, ignore_index=pad)
        checks.number(found, wanted, what="the perplexity", hint=hint)
    longer = torch.cat([logits, 1e4 * torch.randn(3, 2, 5, generator=generator)], 1)
    filled = torch.cat([targets, torch.full((3, 2), pad)], 1)
    with checks.case(f"ignore_index={pad}, and two padded positions more in each sequence"):
        checks.number(
            perplexity(longer, filled, ignore_index=pad),
            wanted,
            what="the perplexity",
            hint="padding may not change it, whatever the logits are there",
        )
### END HIDDEN TESTS

# %% check="perplexity__stable" points=1
# Hidden: a model that is very sure, and once very wrong.
### BEGIN HIDDEN TESTS
logits = torch.tensor([[0.0, -120.0, -400.0], [1000.0, 0, 0], [0, 1000.0, 0], [0, 0, -1000.0]])
with checks.case("logits up to ±1000, and one token with the probability e⁻¹²⁰"):
    checks.number(
        perplexity(logits, torch.tensor([1, 0, 1, 0])),
        2**0.25 * 1.0686475e13,
        what="the perplexity",
        suspects={
            "a probability became 0, and its logarithm −∞": float("inf"),
            "a small number was added to p, which hides how wrong the model was": float(
                torch.tensor([1e-8, 1.0, 1.0, 0.5]).log().neg().mean().exp()
            ),
        },
        hint="e⁻¹²⁰ is 0 in float32, e¹⁰⁰⁰ is ∞: take log_softmax, not the logarithm of softmax",
        rtol=1e-3,
    )
### END HIDDEN TESTS

# %% [markdown] task="sequential_steps" difficulty=2 minutes=15
# ## Waiting in line
#
# How long does a computation take if there are hands enough for everything that *can* be done at
# the same time? Only waiting counts then. A dict says what waits for what: for each value it lists
# the values that it is computed from, its *parents*. Inputs are there from the beginning and have
# an empty list. A recurrent network over three words:
#
# ```python
# rnn = {"x1": [], "x2": [], "x3": [],
#        "h1": ["x1"], "h2": ["x2", "h1"], "h3": ["x3", "h2"]}
# ```
#
# All values whose parents are known can be computed in one step, together. Write
#
# ```python
# sequential_steps(parents)   # -> the number of steps until everything is known
# ```
#
# ```python
# sequential_steps(rnn)       # 3: h1, then h2, then h3; nothing can be done side by side
#
# # A preview of attention: every output is computed from all inputs, and from nothing else.
# preview = {"x1": [], "x2": [], "x3": [],
#            "y1": ["x1", "x2", "x3"], "y2": ["x1", "x2", "x3"], "y3": ["x1", "x2", "x3"]}
# sequential_steps(preview)   # 1: all three at once
# ```
#
# A recurrent network over 1000 words takes 1000 steps, with any number of hands. Inputs alone take
# 0 steps. The dict may list its values in any order, children before parents too. No value depends
# on itself, not even by a detour. The values' names are strings, numbers or tuples.
#
# <details><summary>Hint 1</summary>
#
# A value is known one step after the *last* of its parents.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Either go round by round: collect all values whose parents are known, add them to what is known,
# count one step. Or write a function that gives the step of one value from the steps of its
# parents; let it remember what it has computed, since many values may share a parent. (Python stops
# a function that calls itself about 1000 deep. The checks stay far below that; 1000 words do not.)
#
# </details>


# %% answer="sequential_steps"
def sequential_steps(parents):
    """Steps until everything is known, if all that can be computed at the same time is.

    Args:
        parents: for each value the list of values it is computed from; an empty one for inputs.

    Returns:
        The number of steps: arrows on the longest way through the graph.
    """
    ### BEGIN SOLUTION
    known = {value for value, needed in parents.items() if not needed}
    steps = 0
    while len(known) < len(parents):
        known |= {value for value, needed in parents.items() if known.issuperset(needed)}
        steps += 1
    return steps
    ### END SOLUTION


# %% check="sequential_steps__sum" points=1
numbers = {f"x{i}": [] for i in range(8)}
one_by_one = numbers | {"s1": ["x0", "x1"]} | {f"s{i}": [f"s{i - 1}", f"x{i}"] for i in range(2, 8)}
in_pairs = numbers | {f"a{i}": [f"x{2 * i}", f"x{2 * i + 1}"] for i in range(4)}
in_pairs |= {"b0": ["a0", "a1"], "b1": ["a2", "a3"], "c": ["b0", "b1"]}
with checks.case("eight numbers added in pairs, then the sums in pairs, and so on"):
    checks.number(
        sequential_steps(in_pairs),
        3,
        what="the number of steps",
        suspects={
            "this is how many values are computed; those of one step count once": 7,
            "this is how many values there are": 15,
            "this is how many arrows there are": 14,
            "a round used what it had just computed; it has only what was known before it": 1,
            "the inputs were counted as a step; they are there from the beginning": 4,
        },
        hint="four sums, then two, then one",
    )
with checks.case("the same numbers added one by one"):
    checks.number(
        sequential_steps(one_by_one),
        7,
        what="the number of steps",
        suspects={"the inputs were counted as a step; they are there from the beginning": 8},
        hint="each sum waits for the one before",
    )

# %% check="sequential_steps__slowest" points=1
shortcut = {"x": [], "a": ["x"], "b": ["a"], "c": ["b"], "y": ["x", "c"], "z": ["y", "x"]}
shortcut |= {"v": ["x"], "w": ["x"]}
with checks.case("a chain of three with a shortcut past it, and a last value that needs little"):
    checks.number(
        sequential_steps(shortcut),
        5,
        what="the number of steps",
        suspects={
            "a value was computed before its last parent was known; it waits for all of them": 3,
            "a value waited for the parent listed last alone; it waits for all of them": 4,
            "this is the step of the value listed last; the latest of all counts": 1,
            "this is how many values are computed; those of one step count once": 7,
            "the inputs were counted as a step; they are there from the beginning": 6,
        },
        hint="a, b, c and then y wait for each other, and z waits for y",
    )
with checks.case("three inputs and nothing else"):
    checks.number(sequential_steps({"x": [], "y": [], "z": []}), 0, what="the number of steps")

# %% check="sequential_steps__any_order" points=1
# Hidden: children listed before their parents, other kinds of names, the argument left alone.
### BEGIN HIDDEN TESTS
chain = {"d": ["c"], "b": ["a"], "c": ["b", "a"], "a": ["x"], "x": []}
by_number = {4: [2, 3], 3: [1, 0], 2: [0], 1: [0], 0: []}
by_place = {("h", t): [("x", t)] + [("h", t - 1)] * (t > 0) for t in reversed(range(6))}
by_place |= {("x", t): [] for t in range(6)}
for told, graph, steps in [
    ("children listed before their parents", chain, 4),
    ("numbers as names", by_number, 3),
    ("tuples as names, the last step first", by_place, 6),
]:
    before = {name: list(needed) for name, needed in graph.items()}
    with checks.case(told, "the dict may be in any order, and every parent is a key of it"):
        found = sequential_steps(graph)
        assert graph == before, "your code changed the dict it was given: work on a copy"
        checks.number(
            found,
            steps,
            what="the number of steps",
            hint="does it rely on the order in which the dict lists its values?",
        )
### END HIDDEN TESTS

# %% check="sequential_steps__networks" points=1
# Hidden: whole networks: recurrent ones with layers, convolutions, random ones.
### BEGIN HIDDEN TESTS
for layers, steps in [(1, 9), (3, 1), (3, 8), (6, 4)]:
    graph = {}
    for layer in range(layers + 1):
        for t in range(steps):
            below = [(layer - 1, t)] if layer else []
            graph[layer, t] = below + ([(layer, t - 1)] if layer and t else [])
    with checks.case(f"a recurrent network of {layers} layers over {steps} inputs"):
        checks.number(
            sequential_steps(graph),
            layers + steps - 1,
            what="the number of steps",
            suspects={
                "layers and steps were multiplied, but layers work side by side": layers * steps
            },
            hint="layer 2 can read h1 while layer 1 computes h2",
        )
for layers, width in [(4, 3), (2, 12)]:
    graph = {(0, t): [] for t in range(12)}
    for layer in range(1, layers + 1):
        for t in range(12):
            graph[layer, t] = [(layer - 1, s) for s in range(max(0, t - width + 1), t + 1)]
    with checks.case(f"{layers} layers, each value computed from {width} of the layer below"):
        checks.number(sequential_steps(graph), layers, what="the number of steps")
generator = torch.Generator().manual_seed(1)
for _ in range(5):
    table = (torch.rand(12, 12, generator=generator) < 0.2).tril(-1)  # row i is computed from j
    names = torch.randperm(12, generator=generator).tolist()
    graph = {names[i]: [names[j] for j in table[i].nonzero()[:, 0].tolist()] for i in range(12)}
    power, steps = table.double(), 0
    while power.any():  # the k-th power counts the ways of k arrows
        power, steps = (power @ table.double()).clamp(max=1), steps + 1
    with checks.case(f"the graph {graph}"):
        checks.number(sequential_steps(graph), steps, what="the number of steps")
### END HIDDEN TESTS

# %% [markdown] task="path_length" difficulty=2 minutes=15
# ## How far a word travels
#
# To learn that a word decides what stands far behind it, something must pass from the one to the
# other, and at every arrow on the way a part may be lost. What counts is the *shortest* way. Where
# `parents` is a dict as in the last task, for each value the values that it is computed from, write
#
# ```python
# path_length(parents, start, end)   # -> arrows on the shortest way from start to end, or None
# ```
#
# Information flows from a parent to what is computed from it, never back. A value reaches itself
# over 0 arrows. Where no way leads from `start` to `end`, the answer is `None`.
#
# ```python
# rnn = {"x1": [], "x2": [], "x3": [],
#        "h1": ["x1"], "h2": ["x2", "h1"], "h3": ["x3", "h2"]}
# path_length(rnn, "x1", "h3")   # 3: x1 → h1 → h2 → h3
# path_length(rnn, "x3", "h3")   # 1
# path_length(rnn, "x3", "h1")   # None: h1 was computed before x3 was read
# ```
#
# In a recurrent network the word at place $i$ is $1 + (j - i)$ arrows away from the state at a
# later place $j$. In the preview of attention above, every input is one arrow away from every
# output.
#
# <details><summary>Hint 1</summary>
#
# The dict leads from a value to its parents. So begin at `end` and walk back.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Walk in rounds: the parents of `end` are one arrow away, *their* parents two, and so on. The round
# in which `start` turns up first is the answer. Where a round finds nothing new, there is no way.
#
# </details>


# %% answer="path_length"
def path_length(parents, start, end):
    """Arrows on the shortest way from one value to another.

    Args:
        parents: for each value the list of values it is computed from; an empty one for inputs.
        start: where the way begins.
        end: where it ends.

    Returns:
        The number of arrows, 0 where start is end; None where no way leads there.
    """
    ### BEGIN SOLUTION
    length, found, seen = 0, {end}, set()
    while found:
        if start in found:
            return length
        seen |= found
        found = {parent for value in found for parent in parents[value]} - seen
        length += 1
    return None
    ### END SOLUTION


# %% check="path_length__known" points=1
rnn = {f"x{t}": [] for t in range(1, 7)}
rnn |= {f"h{t}": [f"x{t}"] + [f"h{t - 1}"] * (t > 1) for t in range(1, 7)}
with checks.case("a recurrent network over six inputs, from x2 to h6"):
    found = path_length(rnn, "x2", "h6")
    assert found is not None, "yours is None: is `return` missing, or are start and end swapped?"
    checks.number(
        found,
        5,
        what="the length of the way",
        suspects={
            "the values on the way were counted; count the arrows between them": 6,
            "one arrow is missing: the one from x2 to h2 counts too": 4,
        },
        hint="x2 → h2 → h3 → h4 → h5 → h6",
    )
shortcut = {"x": [], "a": ["x"], "b": ["a"], "c": ["b"], "y": ["c", "b", "x"], "z": ["y"]}
with checks.case("a chain x → a → b → c → y → z with shortcuts b → y and x → y"):
    checks.number(
        path_length(shortcut, "x", "z"),
        2,
        what="the length of the way",
        suspects={
            "this is the longest way, or the first that was found; the shortest counts": 5,
            "this is not the shortest way": 4,
            "the values on the way were counted; count the arrows between them": 3,
        },
        hint="x → y → z",
    )

# %% check="path_length__no_way" points=1
rnn = {"x1": [], "x2": [], "x3": [], "h1": ["x1"], "h2": ["x2", "h1"], "h3": ["x3", "h2"]}
with checks.case("a recurrent network over three inputs", "every parent is a key of the dict"):
    checks.number(path_length(rnn, "x1", "h2"), 2, what="the way from x1 to h2")
    found = path_length(rnn, "h2", "h2")
    assert found is not None, "the way from h2 to h2 is None: a value reaches itself over 0 arrows"
    checks.number(found, 0, what="the way from h2 to h2")
    for start, end, told in [
        ("h3", "x1", "information does not flow back: are start and end swapped?"),
        ("x3", "h1", "h1 was computed before x3 was read, so nothing of x3 is in it"),
        ("x1", "x2", "both flow into h2, but a way may not go against an arrow"),
    ]:
        found = path_length(rnn, start, end)
        assert found is None, f"there is no way from {start} to {end}, but yours is {found}: {told}"

# %% check="path_length__any_order" points=1
# Hidden: any order and kind of names, many ways, the argument left alone.
### BEGIN HIDDEN TESTS
by_place = {("h", t): [("x", t)] + [("h", t - 1)] * (t > 0) for t in reversed(range(8))}
by_place |= {("x", t): [] for t in range(8)}
# ten layers in which everything flows everywhere: 4**9 ways from the bottom to the top
layers = {(n, i): [(n - 1, j) for j in range(4)] if n else [] for n in range(10) for i in range(4)}
for told, graph, start, end, length in [
    ("tuples as names, children before parents", by_place, ("x", 1), ("h", 7), 7),
    ("tuples as names, children before parents", by_place, ("h", 0), ("h", 1), 1),
    ("numbers as names, one of them 0", {2: [1], 1: [0], 0: []}, 0, 2, 2),
    ("ten layers of four values", layers, (0, 3), (9, 0), 9),
]:
    before = {name: list(needed) for name, needed in graph.items()}
    with checks.case(told):
        found = path_length(graph, start, end)
        assert graph == before, "your code changed the dict it was given: work on a copy"
        checks.number(found, length, what=f"the way from {start} to {end}")
### END HIDDEN TESTS

# %% check="path_length__shortest" points=1
# Hidden: all ways through random graphs.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(1)
tables = (torch.rand(3, 9, 9, generator=generator) < 0.35).tril(-1)  # row i is computed from j
tables[0] = torch.ones(9, 9).tril(-1).bool() & (torch.arange(9) % 3 < 2)
for table in tables:
    graph = {f"v{i}": [f"v{j}" for j in reversed(range(9)) if table[i, j]] for i in range(9)}
    lengths, power = torch.full((9, 9), -1), torch.eye(9)
    for k in range(9):  # the k-th power counts the ways of k arrows
        lengths = torch.where((power > 0) & (lengths < 0), k, lengths)
        power = (power @ table.float()).clamp(max=1)
    for i in range(9):
        for j in range(9):
            with checks.case(f"the graph {graph}"):
                found, wanted = path_length(graph, f"v{j}", f"v{i}"), int(lengths[i, j])
                if wanted >= 0:
                    checks.number(
                        found,
                        wanted,
                        what=f"the way from v{j} to v{i}",
                        hint="of all ways the shortest counts, not the first that turns up",
                    )
                else:
                    assert found is None, f"there is no way from v{j} to v{i}, but yours is {found}"
### END HIDDEN TESTS

# %% [markdown] task="copy_task_baseline" difficulty=2 minutes=10
# ## What a model without memory loses
#
# The copying task asks for nothing but memory: read a list of symbols, wait, write the list down.
# For `length = 2` and `delay = 3`, with `·` for a blank and `!` for the sign to begin:
#
# ```
# read     B A · · ! · ·
# write    · · · · · B A
# ```
#
# The list takes `length` positions, then come `delay` positions, the sign the last of them, and
# then `length` positions to write in: `delay + 2 * length` in all. Each symbol is drawn from
# `symbols` different ones, all equally likely.
#
# To know whether a network remembers anything, compare its loss with that of a model that does not:
# one that knows *where* it is, and so when a blank is due and when a symbol, but has kept *no
# symbol*. Of all such models take the best. What is its cross-entropy, in nats a position? Write
#
# ```python
# copy_task_baseline(length, delay, symbols, blanks=False)   # -> one number
# ```
#
# Without `blanks` the mean is over the positions where a symbol is due; with `blanks=True` it is
# over all positions.
#
# ```python
# copy_task_baseline(10, 20, 8)                # 2.0794
# copy_task_baseline(10, 20, 8, blanks=True)   # 0.5199
# ```
#
# <details><summary>Hint 1</summary>
#
# Where it cannot know the symbol, the best model gives each of them the same probability. Where it
# knows that a blank is due, it gives the blank the probability 1. What does it pay in each case?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# It pays $-\ln(1/8)$ at each of 10 positions and nothing at the 30 others.
#
# </details>


# %% answer="copy_task_baseline"
def copy_task_baseline(length, delay, symbols, blanks=False):
    """Loss of the best model without memory on the copying task, in nats a position.

    Args:
        length: symbols of a list.
        delay: positions from the last symbol to the sign to begin, the sign among them.
        symbols: different symbols, all equally likely.
        blanks: whether positions where a blank is due count in the mean.

    Returns:
        One number.
    """
    ### BEGIN SOLUTION
    guess = torch.tensor(float(symbols)).log()
    share = length / (delay + 2 * length) if blanks else 1.0
    return share * guess
    ### END SOLUTION


# %% check="copy_task_baseline__symbols" points=1
with checks.case("length 10, delay 20, 8 symbols"):
    checks.number(
        copy_task_baseline(10, 20, 8),
        2.0794415,
        what="the loss where a symbol is due",
        suspects={
            "it is in bits; nats need the natural logarithm": 3.0,
            "the guess is over ten classes; that a symbol is due, the model knows": 2.3025851,
            "the guess is over nine classes; that a symbol is due, the model knows": 2.1972246,
            "this is the sum over a list; the mean over its symbols is asked for": 20.794415,
            "the mean is over all positions, but blanks is False": 0.5198604,
            "this is the perplexity; the loss is its logarithm": 8.0,
            "the sign is wrong: a loss is never negative": -2.0794415,
            "this is the share of wrong guesses; the loss is −ln of a probability": 0.875,
            "this is the probability of the right symbol; the loss is −ln of it": 0.125,
        },
        hint="the right symbol has the probability 1/8 each time, and −ln(1/8) is what it costs",
    )

# %% check="copy_task_baseline__blanks" points=1
with checks.case("length 3, delay 4, 5 symbols, blanks=True"):
    checks.number(
        copy_task_baseline(3, 4, 5, blanks=True),
        0.3 * 1.6094379,
        what="the loss over all positions",
        suspects={
            "blanks is ignored": 1.6094379,
            "there are delay + 2 · length positions, since a list is read and written": (
                3 / 7 * 1.6094379
            ),
            "the positions where the list is read and written were not counted": 3 / 4 * 1.6094379,
            "it pays where the list is read, too; a blank is due there": 0.6 * 1.6094379,
            "it guesses at all positions; where a blank is due, it knows": 1.7917595,
            "a single position pays; a list has `length` symbols to write": 0.1 * 1.6094379,
            "it does not know where a symbol is due; without memory it still knows that": 1.0936996,
            "it is in bits; nats need the natural logarithm": 0.3 * 2.3219281,
            "this is the sum over a sequence; the mean over its positions is asked for": 4.8283137,
        },
        hint="3 of 10 positions cost ln 5, the others nothing",
    )

# %% check="copy_task_baseline__sizes" points=1
# Hidden: other sizes, a single symbol among them.
### BEGIN HIDDEN TESTS
from lookback.data.copying import guess as _reference

for length, delay, symbols in [(1, 1, 2), (5, 1, 1), (2, 1000, 26), (40, 3, 10)]:
    for blanks in (False, True):
        with checks.case(f"length {length}, delay {delay}, {symbols} symbols, blanks={blanks}"):
            checks.number(
                copy_task_baseline(length, delay, symbols, blanks),
                _reference(length=length, delay=delay, symbols=symbols, blanks=blanks),
                what="the loss",
                hint="a single symbol needs no guess; the delay matters only where blanks count",
            )
### END HIDDEN TESTS

# %% check="copy_task_baseline__enumerated" points=1
# Hidden: against all lists there are, counted one by one.
### BEGIN HIDDEN TESTS
from itertools import product

for length, delay, symbols in [(2, 3, 3), (3, 1, 2)]:
    lists = torch.tensor(list(product(range(1, symbols + 1), repeat=length)))
    rows = torch.cat([torch.zeros(len(lists), delay + length).long(), lists], 1)  # 0 is the blank
    losses = []
    for column in rows.T:  # the best guess without memory: how often each class is due here
        p = torch.bincount(column) / len(column)
        losses.append(-p[column].log().mean())
    losses = torch.stack(losses)
    for blanks, mean in [(False, losses[-length:].mean()), (True, losses.mean())]:
        with checks.case(f"length {length}, delay {delay}, {symbols} symbols, blanks={blanks}"):
            checks.number(
                copy_task_baseline(length, delay, symbols, blanks=blanks),
                float(mean),
                what="the loss, beside the mean over all lists there are,",
                rtol=1e-4,
            )
### END HIDDEN TESTS

# %% [markdown] task="receptive_field" difficulty=2 minutes=12
# ## How far a convolution sees
#
# A convolution needs no waiting: each output is computed from a few neighbours, all outputs at
# once. The price is that it sees only these neighbours. Layers on top of each other see farther.
# The *receptive field* of the top layer is the number of inputs from the first to the last that one
# of its outputs depends on.
#
# A layer has three numbers. Its *kernel size* $k$ says how many values it reads. Its *dilation* $d$
# says how far apart they are: with $d = 2$ it reads every second one. Its *stride* $s$ says how far
# it moves on from one output to the next: with $s = 2$ it has half as many outputs, and a step in
# the layer above is two steps here. Write
#
# ```python
# receptive_field(layers)   # -> a whole number
# #  layers: a list of (kernel_size, dilation, stride), the lowest layer first
# ```
#
# ```python
# receptive_field([(3, 1, 1)])                # 3
# receptive_field([(3, 1, 1), (3, 1, 1)])     # 5: three neighbours, each of which sees three
# receptive_field([(3, 2, 1)])                # 5: the first, the third and the fifth
# receptive_field([(2, 1, 2), (3, 1, 1)])     # 6: three values, two inputs apart, each sees two
# receptive_field([])                         # 1: without layers an output is an input
# ```
#
# <details><summary>Hint 1</summary>
#
# A layer that reads $k$ values at distance $d$ from each other adds $(k - 1)\, d$ steps to what one
# of them sees. Two posts have one gap between them.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# How long is a step of a layer, in inputs? As long as the strides of all layers *below* it,
# multiplied.
#
# </details>


# %% answer="receptive_field"
def receptive_field(layers):
    """How many neighbouring inputs one output of a stack of convolutions depends on.

    Args:
        layers: (kernel_size, dilation, stride) of each layer, the lowest first.

    Returns:
        Inputs from the first to the last that count, both included.
    """
    ### BEGIN SOLUTION
    field, step = 1, 1
    for kernel_size, dilation, stride in layers:
        field += (kernel_size - 1) * dilation * step
        step *= stride
    return field
    ### END SOLUTION


# %% check="receptive_field__plain" points=1
with checks.case("five layers of kernel size 3, and nothing else"):
    checks.number(
        receptive_field([(3, 1, 1)] * 5),
        11,
        what="the receptive field",
        suspects={
            "this is the sum of the kernel sizes; neighbours overlap, so a layer adds k − 1": 15,
            "k was added for each layer; neighbours overlap, so it is k − 1": 16,
            "the kernel sizes were multiplied; neighbours overlap, so each layer adds k − 1": 243,
            "an output without layers sees one input: begin with 1": 10,
            "this is the widest layer alone": 3,
        },
        hint="each layer adds one neighbour on the left and one on the right: 3, 5, 7, 9, 11",
    )

# %% check="receptive_field__dilated" points=1
with checks.case("kernel sizes 3, 2, 3 with dilations 1, 2, 4"):
    checks.number(
        receptive_field([(3, 1, 1), (2, 2, 1), (3, 4, 1)]),
        13,
        what="the receptive field",
        suspects={
            "the dilation is ignored": 6,
            "k · d was added for each layer; from the first to the last of k values it is "
            "(k − 1) · d": 20,
            "dilation 1 means next to each other; here it was taken for a gap of one": 18,
            "the dilations were multiplied from layer to layer; only strides are": 21,
            "an output without layers sees one input: begin with 1": 12,
        },
        hint="1 + 2·1 + 1·2 + 2·4",
    )

# %% check="receptive_field__strides" points=1
# Hidden: strides.
### BEGIN HIDDEN TESTS
for layers, expected, suspects in [
    (
        [(3, 1, 2), (3, 1, 3), (5, 1, 1)],
        1 + 2 + 2 * 2 + 4 * 6,
        {
            "the strides are ignored": 9,
            "a layer's own stride was counted; only those below it lengthen its steps": 41,
            "only a layer's own stride was counted; it is those below it that count": 15,
            "only the stride right below was counted; all strides below are multiplied": 19,
            "the strides below were added; they are multiplied": 27,
            "the layers were read from the top; the list begins with the lowest": 13,
            "n values at a stride of s span (n − 1) · s + 1 below them, not n · s": 36,
        },
    ),
    (
        [(5, 2, 3), (3, 4, 1)],
        1 + 8 + 24,
        {
            "the strides are ignored": 17,
            "a layer's own stride was counted; only those below it lengthen its steps": 49,
        },
    ),
    ([(1, 1, 4), (2, 1, 1)], 5, {"the strides are ignored": 2}),
    ([(4, 1, 4)], 4, {"a layer's own stride was counted; only those below it count": 13}),
]:
    with checks.case(f"the layers {layers}, as (kernel size, dilation, stride)"):
        checks.number(
            receptive_field(layers),
            expected,
            what="the receptive field",
            suspects=suspects,
            hint="a step of a layer is as long as all strides below it, multiplied",
        )
### END HIDDEN TESTS

# %% check="receptive_field__measured" points=1
# Hidden: against the gradient of real convolutions.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(1)
stacks = [[], [(1, 1, 1)], [(2, 5, 1)], [(2, 1, 2)] * 4]
for depth in (2, 3, 3, 4):
    sizes = torch.randint(1, 4, (depth, 3), generator=generator).tolist()
    stacks.append([tuple(size) for size in sizes])
for layers in stacks:
    before = list(layers)
    x = torch.zeros(1, 1, 400, requires_grad=True)
    y = x
    for kernel_size, dilation, stride in layers:
        weight = torch.ones(1, 1, kernel_size)
        y = torch.nn.functional.conv1d(y, weight, stride=stride, dilation=dilation)
    (gradient,) = torch.autograd.grad(y[0, 0, 0], x)
    seen = gradient[0, 0].nonzero()
    with checks.case(f"the layers {layers}, as (kernel size, dilation, stride)"):
        checks.number(
            receptive_field(layers),
            int(seen.max() - seen.min()) + 1,
            what="the receptive field, beside the inputs that move an output of real convolutions,",
        )
        assert layers == before, "your code changed the list it was given: work on a copy"
### END HIDDEN TESTS

# %% [markdown]
# ## All of it at once
#
# This cell has no points. It writes down three networks over `T` words and asks your functions
# how long each must wait, and how far the first word is from the last output. The convolutions have
# kernel size 3 and as many layers as they need to see all words. The third network is a preview:
# attention, where everything sees everything, is what the later chapters build.


# %%
def recurrent(T):
    states = {("h", t): [("x", t)] + [("h", t - 1)] * (t > 0) for t in range(T)}
    return {("x", t): [] for t in range(T)} | states, ("x", 0), ("h", T - 1)


def convolutional(T):
    layers = 1
    while receptive_field([(3, 1, 1)] * layers) < T:
        layers += 1
    graph = {}
    for layer in range(layers + 1):
        for t in range(T):
            graph[layer, t] = [(layer - 1, s) for s in range(max(0, t - 2), t + 1)] if layer else []
    return graph, (0, 0), (layers, T - 1)


def attention(T):
    outputs = {("y", t): [("x", s) for s in range(T)] for t in range(T)}
    return {("x", t): [] for t in range(T)} | outputs, ("x", 0), ("y", T - 1)


print("words   network         steps   first to last")
for T in (8, 16, 32):
    for network in (recurrent, convolutional, attention):
        graph, first, last = network(T)
        steps, length = sequential_steps(graph), path_length(graph, first, last)
        print(f"{T:5}   {network.__name__:13} {steps:7} {length:15}")
