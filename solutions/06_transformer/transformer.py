# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Transformer
#
# You build a Transformer around the attention of chapter 5: the norm, the two blocks, the rate and
# the loss that it is trained with, positions that turn, the draw of the next token, and the bill.
# Each answer is a few lines; the work is in the order of the steps, and in conventions of which
# there are two.
#
# **How to work.** Write each answer in the cell that holds it, then run the checks below it. A
# check that passes is silent. One that fails says what is wrong and where to look. More checks are
# hidden; they hold your code to other sizes, number formats and gradients. A check is worth its
# points or nothing.
#
# **Each task is graded on its own.** Where a task uses an earlier one, its checks put our version
# under that name while they run. So a mistake costs you points once, and you can do the tasks in
# any order.
#
# **What is open.** `MultiHeadAttention` of chapter 5 is imported in the next cell: `layer(x)` is
# self-attention, `layer(x, source)` cross-attention, `mask=` takes a boolean mask of shape `(T, S)`
# or `(B, T, S)`, or of length 1 where these have `B` or `T`, and `causal=True` closes the future.
# (Torch's layer takes query, key and value; this one takes the source once and makes both of it.)
# `lookback.attention` and `lookback.masks` are open altogether, and so is what torch has, with the
# exceptions that follow.
#
# **What is closed.** Torch's norms of layers, groups and batches, cross-entropies, Transformer
# layers and counter of operations raise an error when your cells call them. This library's answers
# (`lookback.transformer`, `lookback.positions`, `lookback.decoding`, `lookback.training`,
# `lookback.measure` and `lookback.seq2seq`) may not be used in what you hand in.
#
# **Letters.** A shape is written with one letter an axis: `B` batch, `T` tokens, `S` tokens of a
# source, `D` width of the model, `H` heads, `K` width of a query and of a key, `N` tokens of a
# vocabulary. `*batch` stands for any number of batch axes, also none. A mask is boolean: `True`
# means “may attend”.
#
# **House rules.** A result that holds numbers has the dtype of what came in: float64, float32,
# bfloat16 or float16. A function never writes into its arguments, which may be views of other
# tensors. Nothing here drops out.

# %% setup=true
import torch
from torch import nn

from lookback import checks
from lookback.attention import MultiHeadAttention

checks.ban(
    "torch.layer_norm",
    "torch.nn.LayerNorm",
    "torch.nn.functional.layer_norm",
    "torch.nn.functional.batch_norm",
    "torch.nn.functional.group_norm",
    "torch.nn.functional.instance_norm",
    "torch.nn.CrossEntropyLoss",
    "torch.nn.functional.cross_entropy",
    "torch.nn.Transformer",
    "torch.nn.TransformerEncoderLayer",
    "torch.nn.TransformerDecoderLayer",
    "torch.utils.flop_counter.FlopCounterMode",
    "lookback.decoding",
    "lookback.measure",
    "lookback.positions",
    "lookback.seq2seq",
    "lookback.training",
    "lookback.transformer",
)

# %% [markdown] task="LayerNorm" difficulty=1 minutes=10
# ## Keep every vector in range
#
# Layer normalisation (Ba et al. 2016) moves each vector to mean 0 and variance 1, by its own
# numbers and nobody else's, and then lets every feature find a scale and a place:
#
# $$y = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} \cdot w + b, \qquad
# \mu = \frac 1D \sum_j x_j, \qquad \sigma^2 = \frac 1D \sum_j (x_j - \mu)^2$$
#
# ```python
# layer = LayerNorm(D, eps=1e-5)
# layer(x)     #  (*batch, D)   ->   (*batch, D)
# ```
#
# `layer.weight` is $w$ and `layer.bias` is $b$: parameters of shape `(D,)`. The weight starts at
# 1, the bias at 0. The vector (1, 2, 3, 6) has the mean 3, the deviations (−2, −1, 0, 3) and the
# variance 14/4 = 3.5:
#
# ```python
# LayerNorm(4)(torch.tensor([1.0, 2.0, 3.0, 6.0]))            # [-1.069, -0.535, 0.000, 1.604]
# LayerNorm(4, eps=0.5)(torch.tensor([1.0, 2.0, 3.0, 6.0]))   # [-1.000, -0.500, 0.000, 1.500]
# ```
#
# - The variance divides by `D`, and `eps` stands *inside* the root: 3.5 + 0.5 = 4 has the root 2.
# - **Large numbers.** 300² is more than float16 can hold, and in float32 the difference of two
#   large squares is mostly rounding. Compute in float32 or wider, take the mean off *before* you
#   square, and give the result in the dtype of `x`, also where the parameters have another.
#
# <details><summary>Hint 1</summary>
#
# `x.mean(-1, keepdim=True)` leaves an axis of length 1, so that it can be taken off `x`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.promote_types(x.dtype, torch.float32)` is float64 for float64, and float32 for the rest.
#
# </details>


# %% answer="LayerNorm"
class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016): each vector by its own mean and variance.

    Args:
        D: width.
        eps: added to the variance, inside the root.
    """

    def __init__(self, D, eps=1e-5):
        super().__init__()
        ### BEGIN SOLUTION
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(D))
        self.bias = nn.Parameter(torch.zeros(D))
        ### END SOLUTION

    def forward(self, x):
        """Normalise x (*batch, D) along its last axis."""
        ### BEGIN SOLUTION
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # squares overflow float16
        centred = wide - wide.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        y = centred / (variance + self.eps).sqrt() * self.weight + self.bias
        return y.to(x.dtype)
        ### END SOLUTION


# %% check="LayerNorm__parameters" points=1
layer = LayerNorm(6)
state = layer.state_dict()
learned = [name for name, _ in layer.named_parameters()]
for name, start in (("weight", torch.ones(6)), ("bias", torch.zeros(6))):
    assert name in state, f"the layer has no {name}: is self.{name} an nn.Parameter?"
    assert name in learned, f"{name} is not learned: make self.{name} an nn.Parameter, not a buffer"
    checks.close(
        state[name],
        start,
        what=f"{name} of LayerNorm(6)",
        hint="the weight starts at 1 and the bias at 0, one number a feature",
    )
assert len(learned) == 2, f"the layer has the parameters {learned}; it needs weight and bias alone"

# %% check="LayerNorm__by_hand" points=1
x = torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, 8.0, 0.0, 0.0], [-1.0, 1.0, -1.0, 5.0]])
w, b = torch.tensor([1.0, 2.0, -1.0, 0.5]), torch.tensor([0.0, 0.5, 1.0, -2.0])
with (
    checks.case("three vectors of width 4, eps = 0.5", "keepdim=True leaves an axis for the mean"),
    checks.unchanged(x=x),
):
    layer = LayerNorm(4, eps=0.5)
    layer.load_state_dict({"weight": w, "bias": b}, strict=False)
    output = layer(x)
off, square = x - x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
root = (square + 0.5).sqrt()
across = x - x.mean(0)
checks.close(
    output,
    torch.tensor(
        [
            [-1.0, -0.5, 1.0, -1.25],
            [-0.5657, 3.8941, 1.5657, -2.2828],
            [-0.7845, 0.5000, 1.7845, -1.2155],
        ]
    ),
    what="the output",
    atol=2e-3,
    suspects={
        "the variance divides by D − 1; here it divides by D": (
            off / (square * 4 / 3 + 0.5).sqrt() * w + b
        ),
        "eps was added to the root; it stands inside, beside the variance": (
            off / (square.sqrt() + 0.5) * w + b
        ),
        "eps is not the one that was given": off / (square + 1e-5).sqrt() * w + b,
        "eps² stands inside the root; it is eps": off / (square + 0.25).sqrt() * w + b,
        "it is divided by the variance, not by its root": off / (square + 0.5) * w + b,
        "the mean was not taken off: this is an RMS norm": (
            x / (x.square().mean(-1, keepdim=True) + 0.5).sqrt() * w + b
        ),
        "the mean was taken off for the variance only": x / root * w + b,
        "mean and variance run over the batch; each vector has its own, along the last axis": (
            across / (x.var(0, correction=0) + 0.5).sqrt() * w + b
        ),
        "one mean and variance for all vectors; each has its own, along the last axis": (
            (x - x.mean()) / (x.var(correction=0) + 0.5).sqrt() * w + b
        ),
        "weight and bias are not used": off / root,
        "the weight is not used": off / root + b,
        "the bias is not used": off / root * w,
        "the bias was added before the weight was multiplied": (off / root + b) * w,
        "the mean deviation stands where the root of the variance should": (
            off / (off.abs().mean(-1, keepdim=True) + 0.5) * w + b
        ),
    },
    hint="(1, 2, 3, 6) has the mean 3 and the variance 14/4; with eps the root is 2",
)

# %% check="LayerNorm__own_numbers" points=1
generator = torch.Generator().manual_seed(1)
x = torch.randn(3, 4, 6, generator=generator)
neighbours = torch.cat([x[:1], 5 * torch.randn(2, 4, 6, generator=generator)])
later = torch.cat([x[:, :2], 5 * torch.randn(3, 2, 6, generator=generator)], 1)
with checks.case("x (3, 4, 6), and single vectors of it", "there may be no batch axis or several"):
    layer = LayerNorm(6)
    output, alone = layer(x), torch.stack([layer(row) for row in x[0]])
    beside, behind = layer(neighbours), layer(later)
look = "mean and variance run along the last axis, of one vector at a time"
for before, after, told in [
    (output[0], beside[0], "the other sequences of the batch changed"),
    (output[:, :2], behind[:, :2], "the tokens behind them changed"),
    (output[0], alone, "each vector came alone"),
]:
    checks.unmoved(before, after, what="the normed vectors", when=told, hint=look)

# %% check="LayerNorm__formats" points=1
# Hidden: other shapes and number formats, views, large numbers, vectors without any variance.
### BEGIN HIDDEN TESTS
from lookback.transformer import LayerNorm as _LayerNorm

generator = torch.Generator().manual_seed(2)
for shape, scale, far, dtype, told in [
    ((5,), 1.0, 0.0, torch.float32, ""),
    ((1, 8), 1.0, 0.0, torch.float64, ""),
    ((2, 3, 4, 7), 1e-3, 0.0, torch.float32, ""),
    ((3, 1), 1.0, 2.0, torch.float32, ""),
    ((4, 16), 1.0, 1000.0, torch.float32, "the mean comes off before squares are taken"),
    ((4, 16), 2.0, 0.0, torch.bfloat16, "compute in float32, then x.dtype"),
    ((4, 16), 300.0, 0.0, torch.float16, "300² overflows float16: compute in float32"),
]:
    x = (torch.randn(*shape[:-1], 2 * shape[-1], generator=generator) * scale + far).to(dtype)
    x = x[..., ::2]  # a view
    weights = {
        name: torch.randn(shape[-1], generator=generator, dtype=torch.float64)
        for name in ("weight", "bias")
    }
    reference = _LayerNorm(shape[-1]).double()
    reference.load_state_dict(weights)
    wide = dtype if dtype == torch.float64 else torch.float32
    where = f"x {shape}, {dtype}, numbers around {far:g} ± {scale:g}, parameters in {wide}"
    with checks.case(where, told), checks.unchanged(x=x):
        layer = LayerNorm(shape[-1]).to(wide)
        layer.load_state_dict(weights, strict=False)
        found = layer(x)
    with checks.case(where):
        checks.close(
            found,
            reference(x.double()).to(dtype),
            what="the output",
            hint=told,
            atol=1e-3 if far == 1000 else None,
        )
with checks.case("a vector of equal numbers"):
    checks.close(
        LayerNorm(5)(torch.full((2, 5), 7.0)),
        torch.zeros(2, 5),
        what="the output for a vector without variance",
        atol=1e-3,
        hint="0/√(0 + eps) is 0: is eps added to the variance?",
    )
### END HIDDEN TESTS

# %% check="LayerNorm__gradient" points=1
# Hidden: gradients of the input and the parameters, in float64.
### BEGIN HIDDEN TESTS
from lookback.transformer import LayerNorm as _LayerNorm

generator = torch.Generator().manual_seed(3)
x = torch.randn(2, 3, 6, generator=generator, dtype=torch.float64).requires_grad_()
layer, reference = LayerNorm(6).double(), _LayerNorm(6).double()
for module in (layer, reference):
    module.load_state_dict(
        {
            "weight": torch.linspace(-1, 2, 6, dtype=torch.float64),
            "bias": torch.linspace(1, 0, 6, dtype=torch.float64),
        },
        strict=False,
    )
checks.gradients(
    layer(x),
    reference(x),
    {"x": x},
    what="the output",
    hint="mean and variance depend on x too: no detach, no .data, no torch.no_grad()",
)
layer(x).square().sum().backward()
reference(x).square().sum().backward()
for name, wanted in reference.named_parameters():
    gradient = dict(layer.named_parameters())[name].grad
    assert gradient is not None, f"no gradient reaches {name}: is it used, and not through .data?"
    checks.close(gradient, wanted.grad, what=f"the gradient of {name}")
### END HIDDEN TESTS

# %% [markdown] task="EncoderBlock" difficulty=2 minutes=18 builds_on="LayerNorm"
# ## A block that reads
#
# A block adds to each token's vector what its attention found, then what a small network makes of
# the sum. The norm stands *before* each sublayer, inside the branch, so that a straight line of
# additions runs from the input to the output (pre-norm, Xiong et al. 2020):
#
# $$x \leftarrow x + \mathrm{attention}(\mathrm{norm}_1(x)), \qquad
# x \leftarrow x + \mathrm{ffn}(\mathrm{norm}_2(x)), \qquad
# \mathrm{ffn}(z) = \mathrm{ReLU}(z\, W_1 + b_1)\, W_2 + b_2$$
#
# ```python
# block = EncoderBlock(D, H, hidden)
# block(x, mask=None)      #  (B, T, D)   ->   (B, T, D)
# ```
#
# `mask` goes to the attention as it is; nothing else is closed. Hold five parts under these
# names, which are those of `torch.nn.TransformerEncoderLayer`, so that the checks can give your
# block known weights:
#
# | name | what |
# | --- | --- |
# | `norm1`, `norm2` | `LayerNorm(D)` |
# | `self_attn` | `MultiHeadAttention(D, H)` |
# | `linear1` | `nn.Linear(D, hidden)` |
# | `linear2` | `nn.Linear(hidden, D)` |
#
# A number to try it with: where the last weights and biases of both sublayers are 0, nothing is
# added, and the block hands `x` on as it is. A block in the order of 2017, `norm(x + sublayer(x))`,
# does not.
#
# You may call your `LayerNorm`: while this task is checked, a correct one stands under that name.
#
# <details><summary>Hint</summary>
#
# `forward` is two lines that both begin with `x = x +`. What is normed goes into the sublayer and
# is not added.
#
# </details>


# %% answer="EncoderBlock"
class EncoderBlock(nn.Module):
    """A pre-norm Transformer block: self-attention, then a feed-forward layer with ReLU.

    Args:
        D: model width.
        H: number of heads; divides D.
        hidden: width inside the feed-forward layer.
    """

    def __init__(self, D, H, hidden):
        super().__init__()
        ### BEGIN SOLUTION
        self.norm1, self.norm2 = LayerNorm(D), LayerNorm(D)
        self.self_attn = MultiHeadAttention(D, H)
        self.linear1 = nn.Linear(D, hidden)
        self.linear2 = nn.Linear(hidden, D)
        ### END SOLUTION

    def forward(self, x, mask=None):
        """Both sublayers in turn, each added to x (B, T, D); mask True = may attend."""
        ### BEGIN SOLUTION
        z = self.norm1(x)
        x = x + self.self_attn(z, mask=mask)
        z = self.norm2(x)
        return x + self.linear2(self.linear1(z).relu())
        ### END SOLUTION


# %% check="EncoderBlock__parameters" points=1
from lookback.transformer import Block as _Block
from lookback.transformer import Config as _Config
from lookback.transformer import LayerNorm as _LayerNorm

with checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)):
    state = EncoderBlock(8, 2, 12).state_dict()
wanted = _Block(_Config(D=8, H=2, hidden=12)).state_dict()
for name, numbers in wanted.items():
    part = name.partition(".")[0]
    assert name in state, f"the block has no {name}: is self.{part} what the table says?"
    checks.shape(
        state[name],
        numbers.shape,
        what=f"{name} of EncoderBlock(8, 2, 12)",
        hint="norms have width D, linear1 maps D to hidden, linear2 maps hidden to D",
    )
extra = ", ".join(name for name in state if name not in wanted)
assert not extra, f"the block has parameters that the table does not name: {extra}"

# %% check="EncoderBlock__identity" points=1
from lookback.transformer import LayerNorm as _LayerNorm

generator = torch.Generator().manual_seed(1)
x = torch.randn(2, 5, 8, generator=generator) * 3 + 1
with (
    checks.case(
        "sublayers that give 0",
        "parts have the names of the table; self-attention takes one tensor: layer(z, mask=mask)",
    ),
    checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)),
):
    block = EncoderBlock(8, 2, 12)
    state = block.state_dict()
    silent = ("self_attn.out_proj.weight", "self_attn.out_proj.bias")
    silent += ("linear2.weight", "linear2.bias")
    block.load_state_dict({n: torch.zeros_like(state[n]) for n in silent}, strict=False)
    output = block(x)
norm = _LayerNorm(8)
checks.close(
    output,
    x,
    what="the output of a block whose sublayers give 0",
    suspects={
        "x itself was normed: post-norm, or a residual that carries norm(x)": norm(x),
        "the residual is missing: x + sublayer(norm(x))": torch.zeros_like(x),
    },
    hint="it must be x, unchanged: only what enters a sublayer is normed",
)

# %% check="EncoderBlock__by_reference" points=1
from lookback.transformer import Block as _Block
from lookback.transformer import Config as _Config
from lookback.transformer import LayerNorm as _LayerNorm

reference = _Block(_Config(D=8, H=2, hidden=12, activation="relu"))
generator = torch.Generator().manual_seed(2)
numbers = reference.state_dict().items()
state = {name: torch.randn(w.shape, generator=generator) / 2 for name, w in numbers}
reference.load_state_dict(state)
x = torch.randn(3, 5, 8, generator=generator)
with (
    checks.case(
        "B = 3, T = 5, D = 8, H = 2, hidden = 12",
        "self-attention takes one tensor, and the mask by its name: layer(z, mask=mask)",
    ),
    checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)),
    checks.unchanged(x=x),
):
    block = EncoderBlock(8, 2, 12)
    block.load_state_dict(state, strict=False)
    output = block(x)
attend, ffn = reference.self_attn, reference.feed_forward
norm1, norm2 = reference.norm1, reference.norm2
linear1, linear2 = reference.linear1, reference.linear2
found = attend(norm1(x))
middle = x + found
after = norm1(x + attend(x))
behind = x + norm1(attend(x))
first = x + ffn(norm2(x))
swapped = x + attend(norm2(x))
shared = swapped + ffn(norm2(swapped))
carried = norm1(x) + found
plain = x + attend(x)
asking = x + attend(norm1(x), x)
blind = x + attend(norm1(x), causal=True)
checks.close(
    output,
    reference(x),
    what="the output",
    atol=1e-4,
    suspects={
        "post-norm: the norms stand behind the sums; they stand before the sublayers": (
            norm2(after + ffn(after))
        ),
        "the norms stand behind the sublayers; they stand before them": (
            behind + norm2(ffn(behind))
        ),
        "the residual carries norm(x); it carries x": norm2(carried) + ffn(norm2(carried)),
        "the residual around attention carries norm(x); it carries x": (
            carried + ffn(norm2(carried))
        ),
        "the residual around the feed-forward layer carries norm(x); it carries x": (
            norm2(middle) + ffn(norm2(middle))
        ),
        "there are no residuals": ffn(norm2(found)),
        "the residual around attention is missing": found + ffn(norm2(found)),
        "the residual around the feed-forward layer is missing": ffn(norm2(middle)),
        "the second residual adds the block's input, not what attention left": (
            x + ffn(norm2(middle))
        ),
        "attention and the feed-forward layer read the same x; the second reads the sum": (
            middle + ffn(norm2(x))
        ),
        "ReLU is missing between linear1 and linear2": middle + linear2(linear1(norm2(middle))),
        "GELU stands where ReLU is asked": (
            middle + linear2(nn.functional.gelu(linear1(norm2(middle))))
        ),
        "there is a ReLU behind linear2 as well": middle + ffn(norm2(middle)).relu(),
        "norm1 serves both sublayers; is norm2 used?": middle + ffn(norm1(middle)),
        "one norm serves both sublayers: norm1 and norm2 are two layers": shared,
        "norm1 and norm2 are swapped": swapped + ffn(norm1(swapped)),
        "nothing is normed before attention": plain + ffn(norm2(plain)),
        "nothing is normed before the feed-forward layer": middle + ffn(middle),
        "nothing is normed at all": plain + ffn(plain),
        "keys and values come from x without its norm": asking + ffn(norm2(asking)),
        "there is a causal mask that nobody asked for": blind + ffn(norm2(blind)),
        "the feed-forward layer comes first": first + attend(norm1(first)),
        "there is one norm too many, at the end": norm2(reference(x)),
        "the feed-forward layer is missing": middle,
        "attention is missing": x + ffn(norm2(x)),
    },
    hint="x + attention(norm1(x)), and then the same with the feed-forward layer and norm2",
)

# %% check="EncoderBlock__padding" points=1
# Hidden: a mask, sequences of different lengths, neighbours in the batch, the order of tokens.
### BEGIN HIDDEN TESTS
from lookback.transformer import LayerNorm as _LayerNorm

generator = torch.Generator().manual_seed(3)
x = torch.randn(3, 6, 8, generator=generator, dtype=torch.float64)
lengths = torch.tensor([6, 2, 4])
real = torch.arange(6) < lengths[:, None]
changed = torch.where(real[..., None], x, 7 * torch.randn(3, 6, 8, generator=generator).double())
past = torch.ones(6, 6).tril().bool()
order = torch.tensor([3, 0, 5, 1, 4, 2])
with (
    checks.case("x (3, 6, 8) in float64, a mask (3, 1, 6) of lengths 6, 2 and 4"),
    checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)),
    checks.unchanged(x=x, real=real),
):
    block = EncoderBlock(8, 2, 12).double()
    before, after = block(x, real[:, None]), block(changed, real[:, None])
    alone = [block(row[None, :n]) for row, n in zip(x, lengths.tolist(), strict=True)]
    free, closed, turned = block(x), block(x, mask=past), block(x[:, order])
    again = block(x)
checks.unmoved(
    free, again, what="the output", when="the same x came again", hint="nothing is random"
)
checks.moved(
    free, closed, what="the output", when="a mask was given", hint="is the mask handed on?"
)
for i, n in enumerate(lengths.tolist()):
    checks.unmoved(
        before[i, :n],
        after[i, :n],
        what="the output at real tokens",
        when="the padding changed",
        hint="is the mask handed on to the attention as it is?",
    )
    checks.unmoved(
        before[i, :n],
        alone[i][0],
        what="the output at real tokens",
        when="the sequence came alone, without padding",
        hint="a sequence knows nothing of its neighbours, and nothing is counted over the batch",
    )
checks.unmoved(
    free[:, order],
    turned,
    what="a token's output",
    when="the tokens changed places",
    hint="without a mask the block does not know the order: is there a mask of your own?",
)
### END HIDDEN TESTS

# %% check="EncoderBlock__sizes" points=1
# Hidden: other sizes, and bfloat16.
### BEGIN HIDDEN TESTS
from lookback.transformer import Block as _Block
from lookback.transformer import Config as _Config
from lookback.transformer import LayerNorm as _LayerNorm

generator = torch.Generator().manual_seed(4)
for B, T, D, H, hidden, dtype in [
    (1, 1, 4, 1, 16, torch.float32),
    (4, 3, 6, 3, 5, torch.float32),
    (2, 9, 12, 12, 12, torch.float64),
    (2, 5, 8, 2, 32, torch.bfloat16),
]:
    reference = _Block(_Config(D=D, H=H, hidden=hidden, activation="relu")).double()
    numbers = reference.state_dict().items()
    state = {n: torch.randn(w.shape, generator=generator) / w.shape[-1] ** 0.5 for n, w in numbers}
    reference.load_state_dict(state)
    x = torch.randn(B, D, T, generator=generator).mT.to(dtype)  # a view
    told = f"x ({B}, {T}, {D}), H = {H}, hidden = {hidden}, {dtype}"
    with (
        checks.case(told, "make no tensor of a size or a dtype of its own"),
        checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)),
    ):
        block = EncoderBlock(D, H, hidden).to(dtype)
        block.load_state_dict(state, strict=False)
        output = block(x)
    with checks.case(told):
        checks.close(
            output,
            reference(x.double()).to(dtype),
            what="the output",
            atol=0.1 if dtype == torch.bfloat16 else 1e-4,
            hint="the widths come from the arguments; every step follows the dtype of x",
        )
### END HIDDEN TESTS

# %% check="EncoderBlock__gradient" points=1
# Hidden: gradients of the input and of every parameter, in float64.
### BEGIN HIDDEN TESTS
from lookback.transformer import Block as _Block
from lookback.transformer import Config as _Config
from lookback.transformer import LayerNorm as _LayerNorm

reference = _Block(_Config(D=8, H=2, hidden=12, activation="relu")).double()
generator = torch.Generator().manual_seed(5)
numbers = reference.state_dict().items()
state = {name: torch.randn(w.shape, generator=generator) / 2 for name, w in numbers}
reference.load_state_dict(state)
x = torch.randn(2, 5, 8, generator=generator, dtype=torch.float64).requires_grad_()
mask = torch.ones(5, 5).tril().bool()
with checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)):
    block = EncoderBlock(8, 2, 12).double()
    block.load_state_dict(state, strict=False)
    for_x, for_weights = block(x, mask), block(x, mask)
checks.gradients(
    for_x,
    reference(x, mask),
    {"x": x},
    what="the output",
    hint="let torch follow every step: no detach, no .data, no torch.no_grad()",
)
for_weights.square().sum().backward()
reference(x, mask).square().sum().backward()
learned = dict(block.named_parameters())
for name, wanted in reference.named_parameters():
    gradient = learned[name].grad if name in learned else None
    assert gradient is not None, f"no gradient reaches {name}: is it used, and not through .data?"
    checks.close(gradient, wanted.grad, what=f"the gradient of {name}", rtol=1e-6, atol=1e-6)
### END HIDDEN TESTS

# %% [markdown] task="DecoderBlock" difficulty=3 minutes=20 builds_on="LayerNorm"
# ## A block that writes, and reads what it translates
#
# A decoder's token looks at the tokens written before it, then at the source, then thinks:
#
# $$x \leftarrow x + \mathrm{self}(\mathrm{norm}_1(x)), \qquad
# x \leftarrow x + \mathrm{cross}(\mathrm{norm}_2(x), \mathit{source}), \qquad
# x \leftarrow x + \mathrm{ffn}(\mathrm{norm}_3(x))$$
#
# ```python
# block = DecoderBlock(D, H, hidden)
# block(x, source, source_mask=None)      #  (B, T, D), (B, S, D)   ->   (B, T, D)
# ```
#
# - **Self-attention is causal, always**: position $t$ sees $x$ up to and including $t$.
# - **Cross-attention** takes queries from the normed $x$, keys *and* values from the source. The
#   source is what an encoder left; it was normed there and is not normed again here. Its length
#   `S` is its own. Every target position may look at all of it, or at what `source_mask` opens,
#   whose shape is `(T, S)` or `(B, T, S)`, or has length 1 where these have `B` or `T`; for padding
#   it is `(B, 1, S)`.
# - The feed-forward layer is that of the encoder's block, with ReLU.
#
# The names are those of `torch.nn.TransformerDecoderLayer`:
#
# | name | what |
# | --- | --- |
# | `norm1`, `norm2`, `norm3` | `LayerNorm(D)` |
# | `self_attn`, `multihead_attn` | `MultiHeadAttention(D, H)`: self, and cross |
# | `linear1`, `linear2` | `nn.Linear(D, hidden)`, `nn.Linear(hidden, D)` |
#
# For three target positions the first sublayer is closed as below, whatever the source; with a
# source of five tokens the second has a table of `(3, 5)`, all of it open:
#
# ```python
# # self:  [[ True, False, False],      # cross:  [[ True, True, True, True, True],
# #         [ True,  True, False],      #          [ True, True, True, True, True],
# #         [ True,  True,  True]]      #          [ True, True, True, True, True]]
# ```
#
# You may call your `LayerNorm`: while this task is checked, a correct one stands under that name.
#
# <details><summary>Hint 1</summary>
#
# Three lines that begin with `x = x +`. `MultiHeadAttention` has `causal=True`, and takes the
# source as its second argument and `mask=` beside it.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# What the target may see of itself and what it may see of the source are two different masks. The
# causal one has no business in the second sublayer.
#
# </details>


# %% answer="DecoderBlock"
class DecoderBlock(nn.Module):
    """A pre-norm Transformer block: causal self-attention, cross-attention, feed-forward layer.

    Args:
        D: model width.
        H: number of heads; divides D.
        hidden: width inside the feed-forward layer.
    """

    def __init__(self, D, H, hidden):
        super().__init__()
        ### BEGIN SOLUTION
        self.norm1, self.norm2, self.norm3 = LayerNorm(D), LayerNorm(D), LayerNorm(D)
        self.self_attn = MultiHeadAttention(D, H)
        self.multihead_attn = MultiHeadAttention(D, H)
        self.linear1 = nn.Linear(D, hidden)
        self.linear2 = nn.Linear(hidden, D)
        ### END SOLUTION

    def forward(self, x, source, source_mask=None):
        """All three sublayers in turn, each added to x (B, T, D); reads source (B, S, D)."""
        ### BEGIN SOLUTION
        z = self.norm1(x)
        x = x + self.self_attn(z, causal=True)
        z = self.norm2(x)
        x = x + self.multihead_attn(z, source, mask=source_mask)
        z = self.norm3(x)
        return x + self.linear2(self.linear1(z).relu())
        ### END SOLUTION


# %% check="DecoderBlock__parameters" points=1
from lookback.transformer import Block as _Block
from lookback.transformer import Config as _Config
from lookback.transformer import LayerNorm as _LayerNorm

with checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)):
    state = DecoderBlock(8, 2, 12).state_dict()
wanted = _Block(_Config(D=8, H=2, hidden=12), cross=True).state_dict()
for name, numbers in wanted.items():
    part = name.partition(".")[0]
    assert name in state, f"the block has no {name}: is self.{part} what the table says?"
    checks.shape(
        state[name],
        numbers.shape,
        what=f"{name} of DecoderBlock(8, 2, 12)",
        hint="norms have width D, linear1 maps D to hidden, linear2 maps hidden to D",
    )
extra = ", ".join(name for name in state if name not in wanted)
assert not extra, f"the block has parameters that the table does not name: {extra}"

# %% check="DecoderBlock__future" points=1
from lookback.transformer import LayerNorm as _LayerNorm

generator = torch.Generator().manual_seed(1)
x = torch.randn(2, 5, 8, generator=generator, dtype=torch.float64)
source = torch.randn(2, 3, 8, generator=generator, dtype=torch.float64)
with (
    checks.case(
        "x (2, 5, 8), a source (2, 3, 8), in float64",
        "the target asks, the source answers, named once: layer(z, source, mask=source_mask)",
    ),
    checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)),
    checks.unchanged(x=x, source=source),
):
    block = DecoderBlock(8, 2, 12).double()
    before = block(x, source)
    for t in range(5):
        changed = x.clone()
        changed[:, t] = torch.randn(2, 8, generator=generator, dtype=torch.float64)
        after = block(changed, source)
        checks.unmoved(
            before[:, :t],
            after[:, :t],
            what=f"the output before position {t}",
            when=f"x changed at {t}",
            hint="self-attention sees the future: hand it causal=True, or a causal mask",
        )
        for later in range(t, 5):
            checks.moved(
                before[:, later],
                after[:, later],
                what=f"the output at position {later}",
                when=f"x changed at {t}",
                hint="a position sees everything up to and including itself: is the mask off by "
                "one or inverted, or is self-attention left out?",
            )

# %% check="DecoderBlock__source" points=1
from lookback.transformer import LayerNorm as _LayerNorm

generator = torch.Generator().manual_seed(2)
for T, S in [(4, 4), (2, 5), (5, 2)]:
    x = torch.randn(2, T, 8, generator=generator, dtype=torch.float64)
    source = torch.randn(2, S, 8, generator=generator, dtype=torch.float64)
    with (
        checks.case(f"x (2, {T}, 8), a source (2, {S}, 8)", "the source has a length of its own"),
        checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)),
    ):
        block = DecoderBlock(8, 2, 12).double()
        before, turned = block(x, source), block(x, source.flip(1))
        for s in range(S):
            changed = source.clone()
            changed[:, s] = torch.randn(2, 8, generator=generator, dtype=torch.float64)
            after = block(x, changed)
            for t in range(T):
                checks.moved(
                    before[:, t],
                    after[:, t],
                    what=f"the output at position {t}",
                    when=f"the source changed at {s}",
                    hint="does cross-attention read its own sequence, or is there a causal mask on "
                    "it? Its keys and values are the source's, and all of them are open",
                )
        checks.unmoved(
            before,
            turned,
            what="the output",
            when="the tokens of the source changed places",
            hint="keys and values both come from the source, and nothing closes a part of it",
        )

# %% check="DecoderBlock__by_reference" points=1
from lookback.transformer import Block as _Block
from lookback.transformer import Config as _Config
from lookback.transformer import LayerNorm as _LayerNorm

reference = _Block(_Config(D=8, H=2, hidden=12, activation="relu"), cross=True)
generator = torch.Generator().manual_seed(3)
numbers = reference.state_dict().items()
state = {name: torch.randn(w.shape, generator=generator) / 2 for name, w in numbers}
reference.load_state_dict(state)
x, source = torch.randn(3, 4, 8, generator=generator), torch.randn(3, 6, 8, generator=generator)
with (
    checks.case(
        "x (3, 4, 8), a source (3, 6, 8), H = 2, hidden = 12",
        "the target asks, the source answers, named once: layer(z, source, mask=source_mask)",
    ),
    checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)),
):
    block = DecoderBlock(8, 2, 12)
    block.load_state_dict(state, strict=False)
    output = block(x, source)
attend, cross, ffn = reference.self_attn, reference.multihead_attn, reference.feed_forward
norm1, norm2, norm3 = reference.norm1, reference.norm2, reference.norm3
linear1, linear2 = reference.linear1, reference.linear2
own = x + attend(norm1(x), causal=True)
read = cross(norm2(own), source)
both = own + read


def _end(y):  # the feed-forward sublayer
    return y + ffn(norm3(y))


post = norm1(x + attend(x, causal=True))
post = norm2(post + cross(post, source))
early = x + cross(norm2(x), source)
swapped = own + cross(norm3(own), source)
checks.close(
    output,
    reference(x, causal=True, source=source),
    what="the output",
    atol=1e-4,
    suspects={
        "post-norm: the norms stand behind the sums; they stand before the sublayers": (
            norm3(post + ffn(post))
        ),
        "cross-attention reads its own sequence; keys and values are the source's": (
            _end(own + cross(norm2(own)))
        ),
        "the source was normed by norm2; it comes normed": (
            _end(own + cross(norm2(own), norm2(source)))
        ),
        "the queries of cross-attention are not normed": _end(own + cross(own, source)),
        "the queries of cross-attention are the block's input, not what self-attention left": (
            _end(own + cross(norm2(x), source))
        ),
        "there is a causal mask on cross-attention; all of the source is open": (
            _end(own + cross(norm2(own), source, causal=True))
        ),
        "cross-attention comes before self-attention": (
            _end(early + attend(norm1(early), causal=True))
        ),
        "the residual around cross-attention is missing": _end(read),
        "the residual around cross-attention carries norm2(x); it carries x": (
            _end(norm2(own) + read)
        ),
        "cross-attention is missing": _end(own),
        "norm2 and norm3 are swapped": swapped + ffn(norm2(swapped)),
        "norm2 serves two sublayers; is norm3 used?": both + ffn(norm2(both)),
        "norm1 serves all sublayers": ((y := own + cross(norm1(own), source)) + ffn(norm1(y))),
        "one norm serves all sublayers: norm1, norm2 and norm3 are three layers": _end(
            (y := x + attend(norm3(x), causal=True)) + cross(norm3(y), source)
        ),
        "nothing is normed before the feed-forward layer": both + ffn(both),
        "the residual around the feed-forward layer is missing": ffn(norm3(both)),
        "the feed-forward layer is missing": both,
        "ReLU is missing between linear1 and linear2": both + linear2(linear1(norm3(both))),
        "GELU stands where ReLU is asked": (
            both + linear2(nn.functional.gelu(linear1(norm3(both))))
        ),
        "a position does not see itself in self-attention: is the mask off by one?": _end(
            (y := x + attend(norm1(x), mask=torch.ones(4, 4).tril(-1).bool()))
            + cross(norm2(y), source)
        ),
        "self-attention is not causal": _end((y := x + attend(norm1(x))) + cross(norm2(y), source)),
        "self_attn and multihead_attn are swapped": _end(
            (y := x + cross(norm1(x), causal=True)) + attend(norm2(y), source)
        ),
    },
    hint="self with norm1, cross with norm2, feed-forward with norm3, each added to x",
)

# %% check="DecoderBlock__padding" points=1
# Hidden: sources of different lengths, masks of every shape, other sizes, bfloat16.
### BEGIN HIDDEN TESTS
from lookback.transformer import Block as _Block
from lookback.transformer import Config as _Config
from lookback.transformer import LayerNorm as _LayerNorm

generator = torch.Generator().manual_seed(4)
x = torch.randn(3, 4, 8, generator=generator, dtype=torch.float64)
source = torch.randn(3, 6, 8, generator=generator, dtype=torch.float64)
lengths = torch.tensor([6, 2, 4])
real = torch.arange(6) < lengths[:, None]
noise = 7 * torch.randn(3, 6, 8, generator=generator).double()
with (
    checks.case("a source (3, 6, 8) of lengths 6, 2 and 4, a source_mask (3, 1, 6)"),
    checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)),
    checks.unchanged(x=x, source=source, real=real),
):
    block = DecoderBlock(8, 2, 12).double()
    before = block(x, source, real[:, None])
    after = block(x, torch.where(real[..., None], source, noise), source_mask=real[:, None])
    alone = [block(x[i : i + 1], source[i : i + 1, :n]) for i, n in enumerate(lengths.tolist())]
checks.unmoved(
    before,
    after,
    what="the output",
    when="the padding of the source changed",
    hint="source_mask goes to cross-attention, as it is",
)
checks.unmoved(
    before,
    torch.cat(alone),
    what="the output",
    when="each pair came alone, without padding",
    hint="a sequence knows nothing of its neighbours in the batch",
)
for B, T, S, D, H, hidden, open_to, dtype in [
    (1, 1, 1, 4, 1, 16, (1, 1), torch.float32),
    (2, 3, 5, 6, 3, 5, (3, 5), torch.float32),
    (4, 5, 3, 12, 4, 12, (4, 5, 3), torch.float64),
    (2, 5, 5, 8, 2, 32, (2, 1, 5), torch.bfloat16),
]:
    reference = _Block(_Config(D=D, H=H, hidden=hidden, activation="relu"), cross=True).double()
    numbers = reference.state_dict().items()
    state = {n: torch.randn(w.shape, generator=generator) / w.shape[-1] ** 0.5 for n, w in numbers}
    reference.load_state_dict(state)
    x = torch.randn(B, D, T, generator=generator).mT.to(dtype)  # a view
    source = torch.randn(B, S, D, generator=generator).to(dtype)
    mask = torch.rand(open_to, generator=generator) < 0.6
    mask[..., 0] = True
    told = f"x ({B}, {T}, {D}), source ({B}, {S}, {D}), H = {H}, source_mask {open_to}, {dtype}"
    with (
        checks.case(told, "make no tensor of a size or a dtype of its own"),
        checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)),
    ):
        block = DecoderBlock(D, H, hidden).to(dtype)
        block.load_state_dict(state, strict=False)
        output = block(x, source, mask)
    wide = {"source": source.double(), "source_mask": mask}
    with checks.case(told):
        checks.close(
            output,
            reference(x.double(), causal=True, **wide).to(dtype),
            what="the output",
            atol=0.1 if dtype == torch.bfloat16 else 1e-4,
        )
### END HIDDEN TESTS

# %% check="DecoderBlock__gradient" points=1
# Hidden: gradients of both inputs and of every parameter, in float64.
### BEGIN HIDDEN TESTS
from lookback.transformer import Block as _Block
from lookback.transformer import Config as _Config
from lookback.transformer import LayerNorm as _LayerNorm

reference = _Block(_Config(D=8, H=2, hidden=12, activation="relu"), cross=True).double()
generator = torch.Generator().manual_seed(5)
numbers = reference.state_dict().items()
state = {name: torch.randn(w.shape, generator=generator) / 2 for name, w in numbers}
reference.load_state_dict(state)
x = torch.randn(2, 4, 8, generator=generator, dtype=torch.float64).requires_grad_()
source = torch.randn(2, 3, 8, generator=generator, dtype=torch.float64).requires_grad_()
with checks.given(LayerNorm=lambda D, eps=1e-5: _LayerNorm(D, eps=eps)):
    block = DecoderBlock(8, 2, 12).double()
    block.load_state_dict(state, strict=False)
    for_inputs, for_weights = block(x, source), block(x, source)
checks.gradients(
    for_inputs,
    reference(x, causal=True, source=source),
    {"x": x, "source": source},
    what="the output",
    hint="let torch follow every step; what the encoder left is trained through this block too",
)
for_weights.square().sum().backward()
reference(x, causal=True, source=source).square().sum().backward()
learned = dict(block.named_parameters())
for name, wanted in reference.named_parameters():
    gradient = learned[name].grad if name in learned else None
    assert gradient is not None, f"no gradient reaches {name}: is it used, and not through .data?"
    checks.close(gradient, wanted.grad, what=f"the gradient of {name}", rtol=1e-6, atol=1e-6)
### END HIDDEN TESTS

# %% [markdown] task="warmup_schedule" difficulty=1 minutes=8
# ## Start slowly
#
# The first Transformer was trained with a learning rate that rises in a straight line for `warmup`
# steps and then falls with the root of time (Vaswani et al. 2017, equation 3):
#
# $$\mathrm{rate}(t) = D^{-1/2} \cdot \min\!\left(t^{-1/2},\; t \cdot \mathrm{warmup}^{-3/2}\right),
# \qquad t = \mathrm{step} + 1$$
#
# ```python
# warmup_schedule(step, D, warmup)   # -> one number
# ```
#
# `step` counts from 0, as torch's schedulers and this course's training loop count; the paper's $t$
# counts from 1. With `D = 25` and `warmup = 9`, so that $D^{-1/2} = \tfrac 15$ and
# $\mathrm{warmup}^{-3/2} = \tfrac 1{27}$:
#
# ```python
# warmup_schedule(0, D=25, warmup=9)    # 1/5 · min(1,    1/27)   = 0.0074   the first step
# warmup_schedule(8, D=25, warmup=9)    # 1/5 · min(1/3,  9/27)   = 0.0667   the highest rate
# warmup_schedule(99, D=25, warmup=9)   # 1/5 · min(1/10, 100/27) = 0.0200
# ```
#
# <details><summary>Hint</summary>
#
# Both terms are the same where $t$ is `warmup`. Before, the second is smaller; after, the first.
#
# </details>


# %% answer="warmup_schedule"
def warmup_schedule(step, D, warmup):
    """The Transformer's learning rate (Vaswani et al. 2017, eq. 3).

    Args:
        step: steps done before this one; the first is 0.
        D: model width.
        warmup: number of steps in which the rate rises.

    Returns:
        The rate, a number.
    """
    ### BEGIN SOLUTION
    t = step + 1
    return D**-0.5 * min(t**-0.5, t * warmup**-1.5)
    ### END SOLUTION


# %% check="warmup_schedule__by_hand" points=1
wrong = {
    "the rate does not rise: the warm-up is missing": lambda t: t**-0.5 / 5,
    "the factor D^(−1/2) is missing": lambda t: min(t**-0.5, t / 27),
    "the width enters as D^(1/2); it is D^(−1/2)": lambda t: 5 * min(t**-0.5, t / 27),
    "the width enters as 1/D; it is D^(−1/2)": lambda t: min(t**-0.5, t / 27) / 25,
    "the larger of the two terms was taken; the smaller is asked": lambda t: (
        max(t**-0.5, t / 27) / 5
    ),
    "warmup has the exponent −1/2; it is −3/2": lambda t: min(t**-0.5, t / 3) / 5,
    "`D ** -1 / 2` is 1/(2·D): the exponent needs brackets": lambda t: min(t**-0.5, t / 27) / 50,
    "`warmup ** -3 / 2` is half of warmup⁻³: the exponent needs brackets": lambda t: (
        min(t**-0.5, t / 1458) / 5
    ),
    "`t ** -1 / 2` is 1/(2·t): the exponent needs brackets": lambda t: min(1 / t / 2, t / 27) / 5,
    "warmup has the exponent −2/3; it is −3/2": lambda t: min(t**-0.5, t * 9 ** (-2 / 3)) / 5,
    "warmup has the exponent −1; it is −3/2": lambda t: min(t**-0.5, t / 9) / 5,
    "the first term is 1/t; it is t^(−1/2)": lambda t: min(1 / t, t / 27) / 5,
    "the rate does not fall behind the warm-up": lambda t: min(9, t) / 27 / 5,
    "t = step: the first step is t = 1, not 0": lambda t: (
        min((t - 1 or 1e-9) ** -0.5, (t - 1) / 27) / 5
    ),
    "t = step + 2: the first step is t = 1": lambda t: min((t + 1) ** -0.5, (t + 1) / 27) / 5,
    "the two terms were added; the smaller is asked": lambda t: (t**-0.5 + t / 27) / 5,
    "the rate is divided by its highest value": lambda t: min(3 * t**-0.5, t / 9),
}
for step, rate in [(99, 0.02), (0, 0.0074074), (5, 0.0444444), (8, 0.0666667), (24, 0.04)]:
    told = f"step = {step}, D = 25, warmup = 9"
    with checks.case(told, "t = step + 1 is never 0"):
        found = warmup_schedule(step, 25, 9)
    with checks.case(told):
        checks.number(
            found,
            rate,
            what="the rate",
            suspects={why: float(f(step + 1)) for why, f in wrong.items()},
            hint="t counts from 1, step from 0",
            rtol=1e-4,
        )

# %% check="warmup_schedule__shape" points=1
rates = [float(warmup_schedule(step, 8, 10)) for step in range(40)]
falls = [rates[i + 1] / rates[i] for i in range(9, 39)]
assert max(falls) < 0.999, "the rate does not fall after the warm-up: is t^(−1/2) the other term?"
top = rates.index(max(rates))
assert top == 9, (
    f"with warmup = 10 the rate is highest at step {top}; it should be at step 9, the tenth.\n"
    "  hint: it rises until t = warmup, with t = step + 1, and falls from there on"
)
rises = [rates[i + 1] - rates[i] for i in range(9)]
assert max(rises) - min(rises) < 1e-6, "the rate does not rise in a straight line"

# %% check="warmup_schedule__settings" points=1
# Hidden: other widths and lengths of the warm-up.
### BEGIN HIDDEN TESTS
for D, warmup in [(512, 4000), (1, 1), (64, 1), (768, 7), (1024, 10_000)]:
    for t in (1, 2, warmup, warmup + 1, 10 * warmup):
        with checks.case(f"step = {t - 1}, D = {D}, warmup = {warmup}"):
            checks.number(
                warmup_schedule(t - 1, D=D, warmup=warmup),
                min(1 / t**0.5, t / warmup**1.5) / D**0.5,
                what="the rate",
                hint="every number comes from the arguments",
            )
### END HIDDEN TESTS

# %% check="warmup_schedule__ratios" points=1
# Hidden: how it falls, and how it depends on the width.
### BEGIN HIDDEN TESTS
for t in (100, 1000, 10_000):
    with checks.case(f"D = 32, warmup = 50, t = {t} and four times that"):
        checks.number(
            float(warmup_schedule(4 * t - 1, 32, 50)) / float(warmup_schedule(t - 1, 32, 50)),
            0.5,
            what="the ratio of the rates",
            suspects={
                "it falls with 1/t; it should with t^(−1/2)": 0.25,
                "it does not fall": 1.0,
                "it goes on rising": 4.0,
            },
            hint="behind the warm-up, four times as late is half as fast",
        )
with checks.case("D = 16 and D = 64, warmup = 50"):
    checks.number(
        float(warmup_schedule(20, 64, 50)) / float(warmup_schedule(20, 16, 50)),
        0.5,
        what="the ratio of the rates",
        hint="four times as wide is half as fast: D^(−1/2)",
    )
### END HIDDEN TESTS

# %% [markdown] task="label_smoothing_loss" difficulty=2 minutes=14
# ## Do not be too sure
#
# Cross-entropy asks for all the probability on the right token, which no finite logits can give.
# Label smoothing (Szegedy et al. 2016) asks for a little less: a share $\varepsilon$ of the
# target is spread over the vocabulary.
#
# There are two conventions in use. **Here $\varepsilon$ is spread over all $N$ tokens, the right
# one included**, as torch does:
#
# $$q_{tj} = (1 - \varepsilon)\,[\,j = y_t\,] + \frac{\varepsilon}{N}, \qquad
# \mathcal{L} = -\frac 1n \sum_{t \text{ real}} \, \sum_{j=1}^{N} q_{tj} \ln
# \operatorname{softmax}(z_t)_j$$
#
# So the right token has the weight $1 - \varepsilon + \varepsilon/N$ and every other
# $\varepsilon/N$; together they are 1. (The other convention spreads $\varepsilon$ over the
# $N - 1$ wrong ones.)
#
# ```python
# label_smoothing_loss(logits, targets, epsilon, pad)
# #  logits (*batch, T, N)   targets (*batch, T)   ->   one number, as a tensor
# ```
#
# With `N = 4` and `epsilon = 0.2` the right token has the weight 0.85 and the others 0.05. Where
# the model gives them the chances ½, ¼, ⅛ and ⅛, whose logarithms are −0.693, −1.386, −2.079 and
# −2.079:
#
# ```python
# logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
# label_smoothing_loss(logits, torch.tensor([0]), epsilon=0.2, pad=3)
# # 0.85 · 0.693 + 0.05 · (1.386 + 2.079 + 2.079) = 0.8664
# ```
#
# - A position whose target is `pad` is not scored: it counts neither in the sum nor in $n$, the
#   number of real tokens in the whole batch. `pad` is an ordinary token number, and as one of the
#   $N$ tokens it has its share $\varepsilon/N$ at the other positions.
# - The loss is in nats, in the dtype of `logits`. (Numbers that you make yourself, such as a mask
#   made by `.float()`, are float32, and make bfloat16 wider.) Logits of ±1000 are nothing special.
#
# At least one token is real in every check.
#
# <details><summary>Hint 1</summary>
#
# The inner sum is two numbers a position: $(1 - \varepsilon)$ times the surprise at the right
# token, and $\varepsilon$ times the *mean* surprise over all tokens.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `logits.log_softmax(-1)` never overflows. `x.gather(-1, y[..., None])` picks entry `y` of each
# row.
#
# </details>


# %% answer="label_smoothing_loss"
def label_smoothing_loss(logits, targets, epsilon, pad):
    """Mean cross-entropy with smoothed targets (Szegedy et al. 2016), in nats.

    Args:
        logits: scores of the N tokens before softmax (*batch, T, N).
        targets: the right tokens (*batch, T), or pad.
        epsilon: share that is spread over all N tokens, the right one included.
        pad: target of positions that are not scored.

    Returns:
        One number, a tensor without axes.
    """
    ### BEGIN SOLUTION
    surprise = -logits.log_softmax(-1)  # *batch T N
    right = surprise.gather(-1, targets[..., None]).squeeze(-1)
    loss = (1 - epsilon) * right + epsilon * surprise.mean(-1)
    return loss[targets != pad].mean()
    ### END SOLUTION


# %% check="label_smoothing_loss__by_hand" points=1
chances = torch.tensor([[[0.5, 0.25, 0.125, 0.125], [0.1, 0.6, 0.1, 0.2]]])
logits = chances.log() + torch.tensor([[[1.0], [-2.0]]])  # softmax takes it away
targets = torch.tensor([[1, 2]])
nats = -chances.log()
right = nats.gather(-1, targets[..., None]).squeeze(-1)
both, rest = right.mean(), (nats.sum(-1) - right).mean()  # of the right token; of the others
with (
    checks.case("two tokens, N = 4, epsilon = 0.2"),
    checks.unchanged(logits=logits, targets=targets),
):
    loss = label_smoothing_loss(logits, targets, 0.2, 0)
weights = torch.full((1, 2, 4), 0.05).scatter(-1, targets[..., None], 0.85)
entropy = -(weights * weights.log()).sum(-1).mean()
chance = chances.gather(-1, targets[..., None]).squeeze(-1)
checks.close(
    loss,
    torch.tensor(1.79965),
    what="the loss",
    atol=1e-4,
    suspects={
        "ε was spread over the N − 1 wrong tokens; here it is spread over all N": (
            0.8 * both + 0.2 / 3 * rest
        ),
        "the right token has the weight 1 − ε; its share ε/N of the smoothing is missing": (
            0.8 * both + 0.05 * rest
        ),
        "the right token has the weight 1; it is 1 − ε + ε/N": both + 0.05 * rest,
        "the weights sum to 1 + ε: the right token keeps 1, and ε/N comes on top": (
            1.05 * both + 0.05 * rest
        ),
        "there is no smoothing": both,
        "ε and 1 − ε are swapped": 0.4 * both + 0.2 * rest,
        "the smoothed part is ε times the sum over the tokens; it is ε times their mean": (
            both + 0.2 * rest
        ),
        "the chances were smoothed; the targets should be": (-(0.8 * chance + 0.05).log().mean()),
        "the entropy of the targets was taken off: KL divergence, but cross-entropy is asked": (
            0.85 * both + 0.05 * rest - entropy
        ),
        "the chances were averaged, without a logarithm": -(weights * chances).sum(-1).mean(),
        "the logits were averaged: softmax is missing": -(weights * logits).sum(-1).mean(),
        "the sign is wrong: a loss is not negative": -(0.85 * both + 0.05 * rest),
        "it is in bits; nats need the natural logarithm": (
            (0.85 * both + 0.05 * rest) / torch.tensor(2.0).log()
        ),
        "the sum was taken, not the mean": 2 * (0.85 * both + 0.05 * rest),
        "softmax ran over the positions; it runs over the tokens, the last axis": (
            -(weights * logits.log_softmax(-2)).sum(-1).mean()
        ),
        "it was divided by the number of tokens in the vocabulary as well": (
            (0.85 * both + 0.05 * rest) / 4
        ),
        "one loss for each position; their mean is asked": (weights * nats).sum(-1),
    },
    hint="the weights are 0.85 for the right token and 0.05 for each of the other three",
)

# %% check="label_smoothing_loss__padding" points=1
generator = torch.Generator().manual_seed(1)
logits = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
targets = torch.tensor([[1, 4, 2], [3, 1, 1]])
more = torch.cat([logits, 5 * torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)], 1)
padded = torch.cat([targets, torch.zeros(2, 4).long()], 1)
with checks.case("epsilon = 0.1, pad = 0"):
    before = label_smoothing_loss(logits, targets, 0.1, 0)
    after = label_smoothing_loss(more, padded, 0.1, 0)
    checks.shape(before, (), what="the loss")
    checks.unmoved(
        before,
        after,
        what="the loss",
        when="four positions of padding were added to each sentence",
        hint="both parts, the right token's and the mean over the vocabulary, leave padding out, "
        "and so does the number that divides them",
    )

# %% check="label_smoothing_loss__tokens" points=1
# Hidden: sentences of different lengths.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(2)
logits = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64) * 2
targets = torch.tensor([[1, 2, 3, 1, 2, 3], [2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
real = targets != 0
nats = logits.logsumexp(-1, keepdim=True) - logits
one_hot = torch.eye(4, dtype=torch.float64)[targets]
each = (nats * (0.7 * one_hot + 0.3 / 4)).sum(-1)
hard, soft = (nats * one_hot).sum(-1), nats.mean(-1)
without_pad = (nats * (0.7 * one_hot + 0.3 / 3))[..., 1:].sum(-1)
with checks.case("sentences of 6, 1 and 0 real tokens, N = 4, epsilon = 0.3, pad = 0"):
    checks.close(
        label_smoothing_loss(logits, targets, 0.3, 0),
        each[real].mean(),
        what="the loss",
        suspects={
            "it was divided by B · T; padding is no token": (each * real).mean(),
            "padding was counted": each.mean(),
            "the smoothed part counts padding": 0.7 * hard[real].mean() + 0.3 * soft.mean(),
            "the smoothed part is divided by the real tokens, but sums over the padding too": (
                0.7 * hard[real].mean() + 0.3 * soft.sum() / 7
            ),
            "the means of the sentences were averaged; every token counts alike": (
                (each[0].mean() + each[1, 0]) / 2
            ),
            "it was divided by the number of sentences": each[real].sum() / 3,
            "pad was left out of the vocabulary; as one of N tokens it has the share ε/N": (
                without_pad[real].mean()
            ),
            "it is NaN: a mean of each sentence divides by 0 where one is empty": torch.tensor(
                float("nan"), dtype=torch.float64
            ),
        },
        hint="the sum over all real tokens, divided by their number, here 7",
    )
### END HIDDEN TESTS

# %% check="label_smoothing_loss__formats" points=1
# Hidden: large logits; no smoothing and nothing but smoothing; other shapes and number formats.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
large = torch.tensor([[1000.0, 999.0, 0.0], [-3000.0, -2999.0, -3005.0]])
nats = torch.tensor([[0.3132617, 1.3132617, 1000.3132617], [1001.0, 0.3150784, 6.3150784]])
nats[1, 0] = 1.3150784
with checks.case("logits of ±1000", "e¹⁰⁰⁰ is ∞ and ln 0 is −∞: take log_softmax"):
    checks.close(
        label_smoothing_loss(large, torch.tensor([0, 1]), 0.3, 2),
        (0.7 * torch.stack([nats[0, 0], nats[1, 1]]) + 0.3 * nats.mean(-1)).mean(),
        what="the loss",
        hint="e¹⁰⁰⁰ is ∞ and ln 0 is −∞: take log_softmax, not the logarithm of softmax",
    )
for batch, T, N, epsilon, pad, dtype in [
    ((), 4, 3, 0.0, 1, torch.float32),
    ((3,), 1, 2, 1.0, 1, torch.float64),
    ((2, 3), 3, 6, 0.1, 5, torch.float32),
    ((2,), 5, 4, 0.25, 0, torch.bfloat16),
]:
    logits = torch.randn(*batch, N, T, generator=generator).mT.to(dtype)  # a view
    targets = torch.randint(0, N, (*batch, T), generator=generator)
    targets[..., T // 2 :] = pad
    targets[..., 0] = 0 if pad else 1
    wide = logits.double()
    nats = wide.logsumexp(-1, keepdim=True) - wide
    hard = nats.gather(-1, targets[..., None]).squeeze(-1)
    each = (1 - epsilon) * hard + epsilon * nats.mean(-1)
    with (
        checks.case(
            f"logits {tuple(logits.shape)}, {dtype}, epsilon = {epsilon}, pad = {pad}",
            "there may be no batch axis or several: count axes from the end",
        ),
        checks.unchanged(logits=logits, targets=targets),
    ):
        checks.close(
            label_smoothing_loss(logits, targets, epsilon, pad),
            each[targets != pad].mean().to(dtype),
            what="the loss",
            hint="make what you multiply by in the dtype of logits, or choose with a boolean mask",
        )
### END HIDDEN TESTS

# %% check="label_smoothing_loss__gradient" points=1
# Hidden: gradients in float64; padding sends none.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(4)
logits = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
targets = torch.tensor([[1, 4, 2, 3], [3, 0, 0, 0]])
nats = logits.logsumexp(-1, keepdim=True) - logits
smooth = 0.9 * torch.eye(5, dtype=torch.float64)[targets] + 0.1 / 5
checks.gradients(
    label_smoothing_loss(logits, targets, 0.1, 0),
    (nats * smooth).sum(-1)[targets != 0].mean(),
    {"logits": logits},
    what="the loss",
    hint="return a tensor, not a number, and let torch follow every step",
)
### END HIDDEN TESTS

# %% [markdown] task="apply_rotary" difficulty=2 minutes=16
# ## Positions that turn
#
# Rotary positions (Su et al. 2021) add nothing to the input. They turn queries and keys, pair of
# features by pair, by an angle that grows with the position:
#
# $$\begin{pmatrix} y_{2i} \\ y_{2i+1} \end{pmatrix} =
# \begin{pmatrix} \cos t\theta_i & -\sin t\theta_i \\ \sin t\theta_i & \cos t\theta_i \end{pmatrix}
# \begin{pmatrix} x_{2i} \\ x_{2i+1} \end{pmatrix}, \qquad \theta_i = \mathrm{base}^{-2i/K}$$
#
# The product of a query turned to $t$ and a key turned to $s$ then depends on $t - s$ alone.
#
# ```python
# apply_rotary(x, offset=0, base=10000.0)    #  (*batch, T, K)   ->   (*batch, T, K)
# ```
#
# `K` is even, and positions run along the axis before it: row `t` stands at position `offset + t`.
#
# There are two conventions for the pairs. **Here neighbours form a pair**, features 0 and 1, then
# 2 and 3, as in the paper. (Many programs pair feature `i` with `i + K/2`. Neither is better, but
# weights of one do not work in the other.)
#
# For `K = 4` pair 0 turns by 1 radian a position and pair 1 by $10000^{-2/4} = 0.01$, both
# anticlockwise:
#
# ```python
# x = torch.tensor([[1.0, 0.0, 1.0, 0.0]]).expand(3, 4)
# apply_rotary(x)             # [[ 1.0000,  0.0000,  1.0000,  0.0000],
#                             #  [ 0.5403,  0.8415,  1.0000,  0.0100],
#                             #  [-0.4161,  0.9093,  0.9998,  0.0200]]
# apply_rotary(x, offset=2)   # its first row is the last one above
# ```
#
# Compute the angles in float32 at least, also where `x` is bfloat16, which cannot tell position 257
# from position 256. The result has the dtype of `x`.
#
# <details><summary>Hint 1</summary>
#
# `torch.arange(0, K, 2) / K` is $2i/K$ for every pair. Positions as a column times speeds as a
# row make a table of angles of shape `(T, K/2)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `x[..., 0::2]` and `x[..., 1::2]` are the first and the second features of all pairs.
# `torch.stack([a, b], -1).flatten(-2)` lays two such tables side by side again, neighbour by
# neighbour.
#
# </details>


# %% answer="apply_rotary"
def apply_rotary(x, offset=0, base=10000.0):
    """Rotary positions (Su et al. 2021, section 3.2), neighbouring features in a pair.

    Args:
        x: queries or keys (*batch, T, K); K is even.
        offset: position of the first row.
        base: pair i turns by base^(-2i/K) radians a position.

    Returns:
        A tensor like x, every row turned to its position.
    """
    ### BEGIN SOLUTION
    T, K = x.shape[-2:]
    position = torch.arange(offset, offset + T, dtype=torch.float64)[:, None]
    speed = base ** (-torch.arange(0, K, 2, dtype=torch.float64) / K)
    angle = position * speed  # T K/2
    cos, sin = angle.cos(), angle.sin()
    first, second = x[..., 0::2].double(), x[..., 1::2].double()
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], -1)
    return turned.flatten(-2).to(x.dtype)
    ### END SOLUTION


# %% check="apply_rotary__by_hand" points=1
x = torch.tensor([[1.0, 2.0, -1.0, 3.0], [2.0, 1.0, 3.0, -1.0], [1.0, -1.0, 2.0, 2.0]])
t, pairs = torch.arange(3.0)[:, None], torch.tensor([1.0, 0.01])  # radians a position


def _turn(angle, sign=1.0):  # neighbours, by a table of angles
    a, b, s = x[:, 0::2], x[:, 1::2], sign * angle.sin()
    return torch.stack([a * angle.cos() - b * s, a * s + b * angle.cos()], -1).flatten(-2)


def _halves(angle):  # feature i with feature i + K/2
    a, b = x[:, :2], x[:, 2:]
    turned = [a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()]
    return torch.cat(turned, -1)


wide = (t * pairs).repeat_interleave(2, -1)  # an angle for every feature
tiled = (t * pairs).repeat(1, 2)
half_done = _turn(t * pairs)  # its odd columns from its own even ones
half_done[:, 1::2] = half_done[:, 0::2] * (t * pairs).sin() + x[:, 1::2] * (t * pairs).cos()
crossed = torch.stack([-x[:, 1::2], x[:, 0::2]], -1).flatten(-2)
halved = torch.cat([-x[:, 2:], x[:, :2]], -1)
with checks.case("T = 3, K = 4, no batch axis", "count axes from the end"), checks.unchanged(x=x):
    turned = apply_rotary(x)
checks.close(
    turned,
    torch.tensor(
        [
            [1.0, 2.0, -1.0, 3.0],
            [0.23913, 2.22324, 3.00985, -0.96995],
            [0.49315, 1.32544, 1.95960, 2.03960],
        ]
    ),
    what="apply_rotary(x)",
    atol=1e-4,
    suspects={
        "feature i was paired with i + K/2; here neighbours form a pair": _halves(t * pairs),
        "the pairs turn clockwise: the signs of the sines are swapped": _turn(t * pairs, -1.0),
        "the positions count from 1; the first is 0 and does not turn": _turn((t + 1) * pairs),
        "the exponent is i/K; it is 2i/K, where i counts pairs": _turn(
            t * torch.tensor([1.0, 0.1])
        ),
        "the exponent is 4i/K; it is 2i/K: arange(0, K, 2) is 2i already": _turn(
            t * torch.tensor([1.0, 1e-4])
        ),
        "all pairs turn at the same speed": _turn(t * torch.tensor([1.0, 1.0])),
        "the base is 1000; it is 10000": _turn(t * torch.tensor([1.0, 1000**-0.5])),
        "the angles were multiplied by base^(2i/K); they are divided by it": _turn(
            t * torch.tensor([1.0, 100.0])
        ),
        "the angles were taken for degrees; sin and cos take radians": _turn(
            t * pairs * torch.pi / 180
        ),
        "the angles have a factor 2π too many": _turn(t * pairs * 2 * torch.pi),
        "the angles of the features are laid out as for halves, the pairs are neighbours": (
            x * tiled.cos() + crossed * tiled.sin()
        ),
        "the angles are laid out for neighbours, but the features were paired as halves": (
            x * wide.cos() + halved * wide.sin()
        ),
        "the pairs were put back as halves: first features, then second ones": (
            _turn(t * pairs).unflatten(-1, (2, 2)).mT.flatten(-2)
        ),
        "the table of sines and cosines was added; it should turn x": (
            x + torch.stack([(t * pairs).sin(), (t * pairs).cos()], -1).flatten(-2)
        ),
        "both sines have the same sign; one of the two is negative": (
            x * wide.cos() + x.unflatten(-1, (2, 2)).flip(-1).flatten(-2) * wide.sin()
        ),
        "the second feature was made of the first already turned; both come from x": half_done,
        "x was multiplied by the cosines alone": x * wide.cos(),
        "nothing was turned": x,
    },
    hint="row 0 stays; in row 1 the pair (2, 1) turns by 1 radian and (3, −1) by 0.01",
)

# %% check="apply_rotary__distance" points=1
generator = torch.Generator().manual_seed(1)
q, k = torch.randn(2, 1, 8, generator=generator)
turned_q, turned_k = apply_rotary(q.expand(12, 8)), apply_rotary(k.expand(12, 8))
checks.close(
    turned_q.square().sum(-1),
    q.square().sum(-1).expand(12),
    what="the squared length of each turned row",
    atol=1e-3,
    hint="a rotation keeps it: the two lines of a pair have the same angle",
)
scores = turned_q @ turned_k.mT  # the same query and the same key, at all pairs of positions
checks.close(
    scores[1:, 1:],
    scores[:-1, :-1],
    what="the product of a query and a key that both moved on by one",
    atol=1e-3,
    hint="it depends on their distance alone, so angles grow in proportion to the position",
)
checks.moved(
    scores[0, 0],
    scores[0, 3],
    what="the product of a query and a key",
    when="their distance grew by three",
    hint="is the position used?",
)

# %% check="apply_rotary__offset" points=1
# Hidden: rows that begin elsewhere, far away too; other bases.
### BEGIN HIDDEN TESTS
from lookback.positions import Rotary as _Rotary

generator = torch.Generator().manual_seed(2)
x = torch.randn(2, 3, 9, 6, generator=generator)
with checks.case("x (2, 3, 9, 6), in one call and in two"):
    whole = apply_rotary(x)
    parts = torch.cat([apply_rotary(x[..., :4, :]), apply_rotary(x[..., 4:, :], offset=4)], -2)
    checks.close(
        parts,
        whole,
        what="the rows 4 to 8, turned with offset=4",
        atol=1e-4,
        suspects={
            "the offset is ignored": torch.cat([whole[..., :4, :], _Rotary(6)(x[..., 4:, :])], -2),
            "the offset has the wrong sign": torch.cat(
                [whole[..., :4, :], _Rotary(6)(x[..., 4:, :], -4)], -2
            ),
        },
        hint="row t stands at position offset + t",
    )
for offset, base in [(0, 100.0), (7, 500_000.0), (1000, 10_000.0), (2500, 2.0)]:
    with checks.case(f"x (2, 3, 9, 6), offset = {offset}, base = {base}"):
        checks.close(
            apply_rotary(x, offset=offset, base=base),
            _Rotary(6, base=base)(x, offset),
            what="apply_rotary(x)",
            atol=3e-3,
            suspects={
                "base is ignored": _Rotary(6)(x, offset),
                "the offset is ignored": _Rotary(6, base=base)(x),
            },
        )
### END HIDDEN TESTS

# %% check="apply_rotary__formats" points=1
# Hidden: other shapes and number formats, views.
### BEGIN HIDDEN TESTS
from lookback.positions import Rotary as _Rotary

generator = torch.Generator().manual_seed(3)
for shape, offset, dtype, told in [
    ((4, 2), 0, torch.float32, "count axes from the end"),
    ((1, 8), 3, torch.float64, ""),
    ((5, 3, 4), 0, torch.float32, "positions run along the last axis but one"),
    ((3, 5, 2, 6), 0, torch.float32, "positions run along the last axis but one"),
    ((2, 6, 8), 600, torch.bfloat16, "the angles need float32: bfloat16 has 8 bits"),
    ((2, 6, 8), 600, torch.float16, "the angles need float32"),
]:
    x = torch.randn(*shape[:-2], shape[-1], shape[-2], generator=generator).mT.to(dtype)
    where = f"a view x {shape}, {dtype}, offset = {offset}"
    with (
        checks.case(where, "its numbers are not in order: count axes from the end, or copy it"),
        checks.unchanged(x=x),
    ):
        found = apply_rotary(x, offset)
    with checks.case(where):
        checks.close(
            found,
            _Rotary(shape[-1])(x.double(), offset).to(dtype),
            what="apply_rotary(x)",
            hint=told,
            atol=1e-4 if dtype in (torch.float32, torch.float64) else None,
            suspects={"the result is in another dtype, and far off": x.float() * torch.nan},
        )
### END HIDDEN TESTS

# %% check="apply_rotary__gradient" points=1
# Hidden: gradients in float64.
### BEGIN HIDDEN TESTS
from lookback.positions import Rotary as _Rotary

generator = torch.Generator().manual_seed(4)
x = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64).requires_grad_()
checks.gradients(
    apply_rotary(x, offset=2),
    _Rotary(6)(x, 2),
    {"x": x},
    what="apply_rotary(x)",
    hint="let torch follow every step: no detach, no .data, no torch.no_grad()",
    atol=1e-4,
)
### END HIDDEN TESTS

# %% [markdown] task="sample" difficulty=2 minutes=18
# ## Draw the next token
#
# A language model gives logits, and somebody has to choose. Always the likeliest token is dull and
# loops; a draw from all of them is sometimes nonsense. Three settings lie between. Write
#
# ```python
# sample(logits, temperature=1.0, top_k=None, top_p=None, generator=None)
# #  logits (*batch, N)   ->   tokens (*batch,), whole numbers
# ```
#
# which draws one token for each row of logits, in these steps:
#
# 1. **Temperature** divides the logits. Below 1 the likely become likelier. `temperature=0` means
#    the likeliest token itself.
# 2. **`top_k`** keeps the `top_k` likeliest tokens (Fan et al. 2018), all where there are no
#    more. What is left is made to sum to 1.
# 3. **`top_p`** keeps, of what is left, the *smallest* set of the likeliest tokens that holds a
#    probability of *at least* `top_p` (Holtzman et al. 2020). The token that crosses the line is
#    kept, so one token always stays. What is left is made to sum to 1, and one token is drawn
#    from it.
#
# Of tokens that are equally likely, those with lower numbers stay. Each row has its own draw. All
# randomness comes from `generator`, a `torch.Generator`, so that equal generators draw equal
# tokens; where there is none, from torch's own.
#
# Five tokens with the probabilities 0.1, 0.4, 0.05, 0.3 and 0.15:
#
# | settings | token 0 | token 1 | token 2 | token 3 | token 4 |
# | --- | --- | --- | --- | --- | --- |
# | `temperature=0.5` | 0.035 | 0.561 | 0.009 | 0.316 | 0.079 |
# | `top_k=3` | 0 | 0.471 | 0 | 0.353 | 0.176 |
# | `top_p=0.6` | 0 | 0.571 | 0 | 0.429 | 0 |
# | `top_p=0.1` | 0 | 1 | 0 | 0 | 0 |
# | `top_k=3, top_p=0.8` | 0 | 0.571 | 0 | 0.429 | 0 |
#
# In the third row 0.4 is not enough, and 0.4 + 0.3 is. In the last, 0.471 + 0.353 is already 0.824;
# without step 2 it would have taken three tokens.
#
# The checks draw 20 000 tokens and compare their shares with the table. Shares scatter, mostly by
# less than 0.01; a check allows 0.025, which a right answer misses less than once in a billion
# runs.
#
# <details><summary>Hint 1</summary>
#
# `logits.sort(dim=-1, descending=True, stable=True)` gives the sorted logits and whose they are. In
# this order a cut is a comparison with `torch.arange(N)`; `gather` brings a drawn rank back to
# its token.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `p.cumsum(-1) - p` is the probability of all that is likelier than a token. The token is in the
# set where that is still less than `top_p`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `torch.multinomial(p, 1, generator=generator)` draws one index a row, for at most two axes:
# flatten the batch before, and give it back its shape afterwards.
#
# </details>


# %% answer="sample"
def sample(logits, temperature=1.0, top_k=None, top_p=None, generator=None):
    """Draw one token a row: temperature, then top-k, then top-p.

    Args:
        logits: scores of the N tokens before softmax (*batch, N).
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: keep this many of the likeliest tokens; None keeps all.
        top_p: then keep the smallest set that holds at least this probability; None keeps all.
        generator: where randomness comes from; torch's own when left out.

    Returns:
        Tokens (*batch,), int64.
    """
    ### BEGIN SOLUTION
    N = logits.shape[-1]
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    ranked, order = logits.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(N)
    if top_k is not None:
        ranked = ranked.masked_fill(rank >= top_k, float("-inf"))
    p = ranked.softmax(-1)
    if top_p is not None:
        likelier = p.cumsum(-1) - p
        p = p.masked_fill((likelier >= top_p) & (rank > 0), 0.0)
    drawn = torch.multinomial(p.reshape(-1, N), 1, generator=generator)
    drawn = drawn.reshape(*logits.shape[:-1], 1)
    return order.gather(-1, drawn).squeeze(-1)
    ### END SOLUTION


# %% check="sample__temperature" points=1
p = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
logits = p.log() + 3


def _shares(p, **settings):  # how often each token is drawn
    tokens = sample((p.log() + 3).expand(20_000, len(p)), **settings)
    checks.shape(tokens, (20_000,), what="what sample returns", hint="one token a row of logits")
    assert not tokens.is_floating_point(), f"tokens are whole numbers, not {tokens.dtype}"
    low, high = int(tokens.min()), int(tokens.max())
    assert 0 <= low <= high < len(p), f"tokens lie in 0 to {len(p) - 1}, yours in {low} to {high}"
    return torch.bincount(tokens, minlength=len(p)) / 20_000


def _whole(p):  # made to sum to 1
    return p / p.sum()


for heat, seed in [(1.0, 1), (0.5, 2), (2.5, 3)]:
    with checks.case(f"probabilities 0.1, 0.4, 0.05, 0.3, 0.15, temperature = {heat}"):
        checks.close(
            _shares(p, temperature=heat, generator=torch.Generator().manual_seed(seed)),
            _whole(p ** (1 / heat)),
            what="the shares of 20 000 tokens",
            atol=0.025,
            suspects={
                "the temperature multiplies the logits; it divides them": _whole(p**heat),
                "the likeliest token is always taken: nothing is drawn": torch.eye(5)[1],
                "the temperature is ignored; dividing the probabilities by it changes nothing": p,
                "all tokens are equally likely: do the logits enter?": torch.full((5,), 0.2),
                "the logits were drawn from as they are: softmax is missing": _whole(p.log() + 3),
                "the least likely token is preferred": _whole(p ** (-1 / heat)),
                "the logits were divided after softmax, or softmax was taken twice": (
                    (p / heat).softmax(-1)
                ),
                "the softmax was taken twice": _whole(p ** (1 / heat)).softmax(-1),
            },
            hint="softmax of the logits divided by the temperature, then a draw",
        )
with checks.case("temperature = 0", "dividing by 0 means nothing: take the likeliest token"):
    checks.close(
        sample(torch.stack([logits, -logits]), temperature=0),
        torch.tensor([1, 2]),
        what="the tokens of two rows",
        hint="temperature 0 takes the likeliest token of each row, by its number",
    )

# %% check="sample__top_k" points=1
p = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])


def _shares(p, **settings):  # how often each token is drawn
    tokens = sample((p.log() + 3).expand(20_000, len(p)), **settings)
    checks.shape(tokens, (20_000,), what="what sample returns", hint="one token a row of logits")
    return torch.bincount(tokens.long().clamp(0, len(p) - 1), minlength=len(p)) / 20_000


def _of(*weights):  # made to sum to 1
    return torch.tensor(weights) / sum(weights)


with checks.case("probabilities 0.1, 0.4, 0.05, 0.3, 0.15 and top_k = 3"):
    checks.close(
        _shares(p, top_k=3, generator=torch.Generator().manual_seed(1)),
        _of(0, 0.4, 0, 0.3, 0.15),
        what="the shares of 20 000 tokens",
        atol=0.025,
        suspects={
            "nothing was cut": p,
            "two tokens stay instead of three": _of(0, 0.4, 0, 0.3, 0),
            "four tokens stay instead of three": _of(0.1, 0.4, 0, 0.3, 0.15),
            "the least likely tokens stay": _of(0.1, 0, 0.05, 0, 0.15),
            "the first tokens stay, not the likeliest": _of(0.1, 0.4, 0.05, 0, 0),
            "the logits that were cut are 0; e⁰ is 1, and −∞ is needed": _of(
                *[1, 0.4 * 20.0855, 1, 0.3 * 20.0855, 0.15 * 20.0855]
            ),
            "the three are equally likely; they keep their proportions": _of(0, 1, 0, 1, 1),
            "the rank of a token was returned; its number is asked": _of(0.4, 0.3, 0.15, 0, 0),
            "the likeliest token is always taken": torch.eye(5)[1],
        },
        hint="tokens 1, 3 and 4 stay, in the proportion of 0.4 to 0.3 to 0.15",
    )
with checks.case("top_k = 1"):
    checks.close(
        _shares(p, top_k=1),
        torch.eye(5)[1],
        what="the shares of 20 000 tokens",
        hint="the likeliest token alone stays",
    )

# %% check="sample__top_p" points=1
p = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])


def _shares(p, **settings):  # how often each token is drawn
    tokens = sample((p.log() + 3).expand(20_000, len(p)), **settings)
    checks.shape(tokens, (20_000,), what="what sample returns", hint="one token a row of logits")
    return torch.bincount(tokens.long().clamp(0, len(p) - 1), minlength=len(p)) / 20_000


def _of(*weights):  # made to sum to 1
    return torch.tensor(weights) / sum(weights)


with checks.case(
    "probabilities 0.1, 0.4, 0.05, 0.3, 0.15 and top_p = 0.6",
    "the token that crosses the line stays",
):
    checks.close(
        _shares(p, top_p=0.6, generator=torch.Generator().manual_seed(1)),
        _of(0, 0.4, 0, 0.3, 0),
        what="the shares of 20 000 tokens",
        atol=0.025,
        suspects={
            "nothing was cut": p,
            "the token that crosses the line was dropped; it is kept": torch.eye(5)[1],
            "one token too many stays behind the one that crosses the line": _of(
                *[0, 0.4, 0, 0.3, 0.15]
            ),
            "the least likely tokens were collected, not the likeliest": _of(
                0.1, 0, 0.05, 0.3, 0.15
            ),
            "the tokens were collected in the order of their numbers": _of(0.1, 0.4, 0.05, 0.3, 0),
            "the two are equally likely; they keep their proportions": _of(0, 1, 0, 1, 0),
            "the rank of a token was returned; its number is asked": _of(0.4, 0.3, 0, 0, 0),
            "the cut was made in the sorted order, but applied to the unsorted tokens": _of(
                *[0.1, 0.4, 0, 0, 0]
            ),
            "the tokens that reach beyond the line stay, and the likeliest are cut": _of(
                *[0.1, 0, 0.05, 0, 0.15]
            ),
        },
        hint="0.4 alone is less than 0.6, 0.4 + 0.3 is enough: tokens 1 and 3 stay",
    )
for little in (0.3, 0.01):
    with checks.case(
        f"top_p = {little}", "the token that crosses the line stays, so one token always does"
    ):
        checks.close(
            _shares(p, top_p=little),
            torch.eye(5)[1],
            what="the shares of 20 000 tokens",
            hint="the likeliest token alone holds 0.4 already: it stays, and no other",
        )


# %% check="sample__together" points=1
# Hidden: the settings together, their limits, and tokens that are equally likely.
### BEGIN HIDDEN TESTS
def _shares(p, **settings):  # how often each token is drawn
    tokens = sample((p.log() + 3).expand(20_000, len(p)), **settings)
    checks.shape(tokens, (20_000,), what="what sample returns", hint="one token a row of logits")
    return torch.bincount(tokens.long().clamp(0, len(p) - 1), minlength=len(p)) / 20_000


def _of(*weights):  # made to sum to 1
    return torch.tensor(weights) / sum(weights)


p = torch.tensor([0.1, 0.4, 0.3, 0.2])
dropped = "the token that crosses the line was dropped; it is kept"
equal, all_of_it = torch.full((5,), 0.2), "the settings cut nothing"
for chances, settings, wanted, suspects in [
    (
        p,
        {"top_k": 3, "top_p": 0.75},
        _of(0, 0.4, 0.3, 0),
        {
            "top-p counts what is left after top-k, made to sum to 1": _of(0, 0.4, 0.3, 0.2),
            "top_p is ignored where there is a top_k, or the other way round": _of(
                0, 0.4, 0.3, 0.2
            ),
            dropped: _of(0, 1, 0, 0),
        },
    ),
    (
        p,
        {"temperature": 0.5, "top_p": 0.8},
        _of(0, 0.4**2, 0.3**2, 0),
        {
            "top-p was cut before the temperature": _of(0, 0.4**2, 0.3**2, 0.2**2),
            dropped: _of(0, 1, 0, 0),
        },
    ),
    (p, {"temperature": 2.0, "top_k": 2}, _of(0, 0.4**0.5, 0.3**0.5, 0), {}),
    (p, {"top_k": 9}, p, {}),
    (p, {"top_p": 1.0}, p, {}),
    (p, {"top_k": 4, "top_p": 1.0}, p, {}),
    (
        equal,
        {"top_k": 2},
        _of(1, 1, 0, 0, 0),
        {
            "of equally likely tokens all stay; exactly top_k do, those with lower numbers": equal,
            "of equally likely tokens those with lower numbers stay": _of(0, 0, 0, 1, 1),
        },
    ),
    (
        equal,
        {"top_p": 0.5},
        _of(1, 1, 1, 0, 0),
        {
            "of equally likely tokens all stay; no more than cross the line do": equal,
            "of equally likely tokens those with lower numbers stay": _of(0, 0, 1, 1, 1),
        },
    ),
]:
    given = ", ".join(f"{name} = {value}" for name, value in settings.items())
    told = f"probabilities {[round(c, 3) for c in chances.tolist()]}, {given}"
    with checks.case(told, "top_k may be larger than N, and top_p may be 1"):
        found = _shares(chances, generator=torch.Generator().manual_seed(1), **settings)
    with checks.case(told):
        checks.close(
            found,
            wanted,
            what="the shares of 20 000 tokens",
            atol=0.025,
            suspects=suspects,
            hint="temperature first, then top-k, then top-p of what is left; of equally likely "
            "tokens, those with lower numbers stay",
        )
### END HIDDEN TESTS

# %% check="sample__draws" points=1
# Hidden: batches of any shape, generators, number formats; arguments left alone.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(1)
for shape, dtype in [
    ((7,), torch.float32),
    ((1, 7), torch.float32),
    ((4, 7), torch.bfloat16),
    ((2, 3, 7), torch.float64),
    ((2, 1, 3, 7), torch.float16),
]:
    wanted = torch.randint(shape[-1], shape[:-1], generator=generator)
    logits = torch.full(shape, -40.0, dtype=dtype).scatter(-1, wanted[..., None], 20.0)
    for settings in ({}, {"temperature": 0.7, "top_k": 2}, {"top_p": 0.9}, {"temperature": 0}):
        with (
            checks.case(
                f"logits {shape}, {dtype}, {settings or 'no settings'}",
                "flatten the batch for the draw and reshape after it; one token always stays",
            ),
            checks.unchanged(logits=logits),
        ):
            checks.close(
                sample(logits, **settings),
                wanted,
                what="the tokens where one is certain",
                hint="one token for each row of logits, int64",
            )
flat = torch.zeros(64, 50)
first, again, other = (
    sample(flat, top_k=40, generator=torch.Generator().manual_seed(seed)) for seed in (2, 2, 3)
)
checks.unmoved(
    first,
    again,
    what="the tokens",
    when="they were drawn again from an equal generator",
    hint="hand the generator on to the draw",
)
checks.moved(
    first,
    other,
    what="the tokens",
    when="they were drawn from another generator",
    hint="hand the generator on to the draw, and set no seed of your own",
)
shared = torch.Generator().manual_seed(4)
checks.moved(
    sample(flat, generator=shared),
    sample(flat, generator=shared),
    what="the tokens",
    when="the same generator drew again",
    hint="a generator moves on with every draw; do not seed it",
)
checks.moved(
    sample(flat),
    sample(flat),
    what="the tokens",
    when="they were drawn again without a generator",
    hint="without a generator torch's own is used; set no seed of your own",
)
assert len(set(first.tolist())) > 5, (
    f"64 rows of 40 equally likely tokens hold only {len(set(first.tolist()))} different ones: "
    "does each row have its own draw?"
)
### END HIDDEN TESTS

# %% [markdown] task="count_parameters_and_flops" difficulty=2 minutes=16
# ## The bill, before you pay it
#
# How large is a model, and how much does one pass through it compute? Both follow from its sizes.
# Take the language model that this notebook's parts make:
#
# - an embedding of `vocabulary` tokens, each `D` wide; positions have no parameters;
# - `layers` blocks as `EncoderBlock(D, H, hidden)`, with a causal mask;
# - one more `LayerNorm(D)` at the end;
# - a head that maps `D` to `vocabulary`, *without* bias. With `tied=True` it *is* the embedding's
#   table and has no parameters of its own; it is computed all the same.
#
# `MultiHeadAttention` has four projections from `D` to `D`. They and the two linear layers of a
# block have biases.
#
# ```python
# count_parameters_and_flops(vocabulary, D, H, layers, hidden, T, B=1, tied=False)
# # -> (parameters, flops), two whole numbers
# ```
#
# `flops` are the floating-point operations of one *forward* pass over `B` sequences of `T` tokens:
#
# - **Matrix products only.** An `(m, n)` matrix times an `(n, p)` matrix counts `2·m·n·p`: a
#   multiplication and an addition for each of the `m·n·p` terms. (Some papers count the pair as
#   one.)
# - **Products of attention:** queries with keys, and weights with values, in every head. All
#   `T·T` scores count, since a mask closes scores after they were computed.
# - Looking up an embedding is no product. Biases, norms, softmax and ReLU count nothing.
#
# For `vocabulary = 10, D = 4, H = 2, layers = 1, hidden = 8, T = 3`:
#
# | part | parameters | flops |
# | --- | --- | --- |
# | embedding | 10 · 4 = 40 | 0 |
# | four projections | 4 · (4 · 4 + 4) = 80 | 4 · (2 · 3 · 4 · 4) = 384 |
# | scores, and their use | 0 | 2 · (2 · 3 · 3 · 4) = 144 |
# | feed-forward layer | (4 · 8 + 8) + (8 · 4 + 4) = 76 | 2 · (2 · 3 · 4 · 8) = 384 |
# | two norms | 2 · (4 + 4) = 16 | 0 |
# | last norm | 4 + 4 = 8 | 0 |
# | head | 4 · 10 = 40 | 2 · 3 · 4 · 10 = 240 |
# | **sum** | **260** | **1152** |
#
# <details><summary>Hint 1</summary>
#
# `H` heads of width `D/H`: the products of one head cost `2·T·T·(D/H)` each. How much do all of
# them?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Two lines for a block, one line for the rest. Then multiply what must be multiplied by `layers`,
# and what must be by `B`.
#
# </details>


# %% answer="count_parameters_and_flops"
def count_parameters_and_flops(vocabulary, D, H, layers, hidden, T, B=1, tied=False):
    """Size of a decoder-only Transformer, and operations of one forward pass.

    Args:
        vocabulary: number of tokens.
        D: model width.
        H: number of heads.
        layers: number of blocks.
        hidden: width inside the feed-forward layers.
        T: tokens of a sequence.
        B: sequences.
        tied: whether the head shares the embedding's table.

    Returns:
        (parameters, flops), two whole numbers; a multiplication and an addition are two flops.
    """
    ### BEGIN SOLUTION
    attention = 4 * (D * D + D)
    feed_forward = D * hidden + hidden + hidden * D + D
    tables = 1 if tied else 2
    parameters = layers * (attention + feed_forward + 4 * D) + 2 * D + tables * vocabulary * D
    products = 4 * T * D * D + 2 * T * T * D + 2 * T * D * hidden  # of one block
    return parameters, 2 * B * (layers * products + T * D * vocabulary)
    ### END SOLUTION


# %% check="count_parameters_and_flops__parameters" points=1
with checks.case("T = 4", "return two numbers: parameters, flops"):
    parameters, flops = count_parameters_and_flops(11, 6, H=3, layers=2, hidden=10, T=4)
checks.number(
    parameters,
    800,
    what="the number of parameters for vocabulary = 11, D = 6, H = 3, layers = 2, hidden = 10",
    rtol=1e-9,
    suspects={
        "4 · D a block is missing: the biases of attention, or the two norms": 800 - 48,
        "the biases of the feed-forward layers are missing": 800 - 32,
        "all biases of linear layers are missing": 800 - 80,
        "a block has one norm only; it has two": 800 - 24,
        "a norm has one vector only; it has a weight and a bias": 800 - 30,
        "the last norm is missing": 800 - 12,
        "all norms are missing": 800 - 60,
        "one table is missing, the embedding or the head": 800 - 66,
        "the head has no bias": 800 + 11,
        "heads have projections of full width; all heads together have them": 800 + 2 * 2 * 4 * 42,
        "there are three projections; with the output there are four": 800 - 2 * 42,
        "there is one block only: are all layers counted?": 800 - 328,
        "the feed-forward layer has one linear map only; it has two": 800 - 2 * 66,
        "everything was multiplied by layers; embedding, last norm and head are there once": 2
        * 464,
        "hidden is an argument; it need not be 4 · D": 1164,
        "12 · D² a block holds for hidden = 4 · D, and leaves out biases and norms": 24 * 36 + 132,
        "positions have no parameters": 800 + 24,
        "parameters do not depend on T": 800 * 4,
        "the two numbers are in the wrong order: parameters come first": 5520,
    },
    hint="66 for the embedding, 328 for each block, 12 for the last norm, 66 for the head",
)

# %% check="count_parameters_and_flops__flops" points=1
with checks.case("T = 4", "return two numbers: parameters, flops"):
    parameters, flops = count_parameters_and_flops(11, 6, H=3, layers=2, hidden=10, T=4)
checks.number(
    flops,
    5520,
    what="the number of operations for the same model, T = 4",
    rtol=1e-9,
    suspects={
        "a multiplication and the addition after it count as two": 5520 // 2,
        "the products of attention, scores and their use, are missing": 5520 - 768,
        "half of attention's products is missing: scores and their use, T · T each": 5520 - 384,
        "closed scores are computed all the same: all T · T count": 5520 - 384 + 96,
        "each head has products of width D/H, not of width D": 5520 + 2 * 768,
        "the heads share the scores out; each head has T · T of its own, of width D/H": (
            5520 - 768 + 256
        ),
        "the head is missing; it is a product too": 5520 - 528,
        "the head counts once: is it multiplied by layers, or a look-up counted?": 5520 + 528,
        "there are three projections; with the output there are four": 5520 - 2 * 288,
        "the projections of attention are missing": 5520 - 2 * 1152,
        "the feed-forward layer has two products": 5520 - 2 * 480,
        "there is one block only: are all layers counted?": 5520 - 2496,
        "this is a training step; one forward pass is asked": 3 * 5520,
        "all T tokens are computed, not one": 5520 // 4,
        "each parameter was counted as two operations a token; attention's products have none": (
            2 * 800 * 4
        ),
    },
    hint="2496 for each block and 528 for the head; a block has 1152 for the projections, 384 for "
    "attention's two products and 960 for the feed-forward layer",
)

# %% check="count_parameters_and_flops__measured" points=1
# Hidden: models that are built, counted and measured.
### BEGIN HIDDEN TESTS
from functools import partial

from lookback.measure import operations as _operations
from lookback.transformer import Config as _Config
from lookback.transformer import DecoderOnly as _DecoderOnly
from lookback.transformer import count_parameters as _count

for N, D, H, layers, hidden, T, B, tied in [
    (7, 8, 2, 1, 16, 5, 1, False),
    (13, 12, 4, 3, 20, 1, 1, False),
    (30, 6, 6, 2, 24, 9, 4, False),
    (17, 8, 1, 2, 5, 6, 3, True),
]:
    config = _Config(
        vocabulary=N, D=D, H=H, layers=layers, hidden=hidden, tied=tied, activation="relu"
    )
    model = _DecoderOnly(config)
    tokens = torch.zeros(B, T).long()
    sizes = f"vocabulary = {N}, D = {D}, H = {H}, layers = {layers}, hidden = {hidden}"
    with checks.case(f"{sizes}, T = {T}, B = {B}, tied = {tied}"):
        parameters, flops = count_parameters_and_flops(N, D, H, layers, hidden, T, B=B, tied=tied)
        size, work = _count(model), _operations(partial(model, tokens))
        checks.number(
            parameters,
            size,
            what="the number of parameters",
            rtol=1e-9,
            suspects={
                "a tied head has no table of its own": size + N * D if tied else -1,
                "a tied head has no table, the embedding has": size - N * D if tied else -1,
                "parameters do not depend on the number of sequences": size * B,
            },
            hint="this model was built, and its parameters were counted",
        )
        checks.number(
            flops,
            work,
            what="the number of operations",
            rtol=1e-9,
            suspects={
                "a tied head is computed all the same": work - 2 * B * T * D * N if tied else -1,
                "B sequences cost B times as much": work // B if B > 1 else -1,
                "sequences do not look at each other: scores grow with B, not with B²": (
                    work + 4 * layers * D * T * T * B * (B - 1)
                ),
            },
            hint="this model was built, and its matrix products were counted",
        )
### END HIDDEN TESTS

# %% check="count_parameters_and_flops__large" points=1
# Hidden: a large model, exactly; long sequences.
### BEGIN HIDDEN TESTS
found = count_parameters_and_flops(50_257, 12_288, 96, 96, 4 * 12_288, 2048)
with checks.case("the sizes of GPT-3: D = 12288, H = 96, layers = 96, vocabulary = 50257"):
    checks.number(
        found[0],
        96 * (12 * 12_288**2 + 13 * 12_288) + 2 * 12_288 + 2 * 50_257 * 12_288,
        what="the number of parameters",
        rtol=1e-14,
        hint="count in whole numbers: // where / would make a float, and nothing rounded",
    )
    checks.number(
        found[1],
        2 * 2048 * (96 * (12 * 12_288**2 + 2 * 2048 * 12_288) + 50_257 * 12_288),
        what="the number of operations",
        rtol=1e-14,
        hint="count in whole numbers, nothing rounded",
    )
sizes = [count_parameters_and_flops(5, 8, 2, 3, 8, T)[1] for T in (1000, 2000, 3000)]
with checks.case("T = 1000, 2000 and 3000"):
    checks.number(
        float(sizes[2]) - 2 * float(sizes[1]) + float(sizes[0]),
        4 * 3 * 8 * 2 * 1000**2,
        what="the second difference of the operations",
        rtol=1e-9,
        hint="only scores and their use grow with T²: 4·D·T² in a block, however many heads",
    )
### END HIDDEN TESTS

# %% [markdown]
# ## All of it at once
#
# This cell has no points. It makes a small language model of your parts, trains it for 60 steps
# on a sequence that repeats itself, and lets it go on from the first four tokens.

# %%
torch.manual_seed(0)
N, D, T = 7, 32, 12
embedding, norm, head = nn.Embedding(N, D), LayerNorm(D), nn.Linear(D, N, bias=False)
blocks = nn.ModuleList(EncoderBlock(D, 4, 64) for _ in range(2))
for block in blocks:
    block.self_attn.rotary = apply_rotary  # the layer turns its queries and keys with it
past = torch.ones(T, T).tril().bool()


def language_model(tokens):
    x = embedding(tokens)
    for block in blocks:
        x = block(x, past[: tokens.shape[1], : tokens.shape[1]])
    return head(norm(x))


song = torch.tensor([1, 2, 3, 4, 3, 2, 5, 6] * 4)
lines = torch.stack([song[i : i + T + 1] for i in range(16)])
weights = [w for part in (embedding, blocks, norm, head) for w in part.parameters()]
optimiser = torch.optim.Adam(weights, lr=1.0)
for step in range(60):
    optimiser.param_groups[0]["lr"] = warmup_schedule(step, D, warmup=20) / 3
    loss = label_smoothing_loss(language_model(lines[:, :-1]), lines[:, 1:], 0.05, pad=0)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
tokens = song[None, :4]
for _ in range(8):
    token = sample(language_model(tokens)[:, -1], temperature=0.5, top_k=3)
    tokens = torch.cat([tokens, token[:, None]], 1)
print(
    "loss",
    round(loss.item(), 3),
    " wrote",
    tokens[0, 4:].tolist(),
    " expected",
    song[4:12].tolist(),
)
print("parameters, flops:", count_parameters_and_flops(N, D, 4, 2, 64, T))
