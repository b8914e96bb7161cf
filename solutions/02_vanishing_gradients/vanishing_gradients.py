# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Vanishing gradients
#
# A recurrent network learns from far behind only if a gradient gets there. You measure how it fades
# on the way, write the patches that keep it in bounds, and then the two gated cells that were made
# so that it fades less. Each answer is a few lines.
#
# **How to work.** Write each answer in the cell that holds the function, then run the checks
# below it. A check that passes is silent. One that fails says what is wrong and where to look.
# More checks are hidden; they hold your function to other sizes and harder cases. A check is worth
# its points or nothing.
#
# **Each task is graded on its own**, and none needs the answer to another. Do them in any order.
#
# **What is closed.** You are asked to write the cells, the clipping and the start, so torch's own
# raise an error when your cells call them, and this library's answers (`lookback.gradients`,
# `lookback.recurrent` and what builds on them) may not be used in what you hand in. Everything else
# of torch is open, `torch.linalg` and `torch.autograd` too.
#
# **Letters.** A shape is written with one letter an axis: `T` steps of time, `I` width of an input,
# `D` width of the state. `*batch` stands for any number of batch axes, also none. A gate multiplies
# entry by entry, written $\odot$; $\sigma$ is the sigmoid, `torch.sigmoid`.

# %% setup=true
import torch

from lookback import checks

checks.ban(
    "torch.nn.GRU",
    "torch.nn.GRUCell",
    "torch.nn.LSTM",
    "torch.nn.LSTMCell",
    "torch.gru",
    "torch.gru_cell",
    "torch.lstm",
    "torch.lstm_cell",
    "torch.mkldnn_rnn_layer",
    "torch.nn.init.orthogonal_",
    "torch.nn.utils.parametrizations.orthogonal",
    "torch.nn.utils.clip_grad_norm_",
    "torch.nn.utils.clip_grad.clip_grad_norm_",
    "torch.nn.utils.clip_grads_with_norm_",
    "torch.nn.utils.get_total_norm",
    "lookback.decoding",
    "lookback.gradients",
    "lookback.recurrent",
    "lookback.seq2seq",
    "lookback.training",
)

# %% [markdown] task="rnn_jacobian" difficulty=1 minutes=12
# ## One factor
#
# A simple recurrent network takes the step $h_t = \tanh(W_{ih} x_t + W_{hh} h_{t-1})$, with or
# without biases. How does the new state move when the old one is nudged? The chain rule gives one
# matrix, the Jacobian of the step (Pascanu et al. 2013, equation 5). It has two parts, the slope of
# $\tanh$ and the weights:
#
# $$J_t = \frac{\partial h_t}{\partial h_{t-1}} = \mathrm{diag}\big(1 - h_t^2\big)\, W_{hh},
# \qquad J_t[m, n] = \frac{\partial h_t[m]}{\partial h_{t-1}[n]}$$
#
# The slope of $\tanh$ where it took the value $h$ is $1 - h^2$. So the state *after* the step is
# all that is needed. Write
#
# ```python
# rnn_jacobian(h_t, W_hh)
# #  h_t (*batch, D)   W_hh (D, D)   ->   (*batch, D, D)
# ```
#
# ```python
# h_t  = torch.tensor([0.0, 0.5])      # slopes 1 and 0.75
# W_hh = torch.tensor([[1.0, 2.0],
#                      [3.0, 4.0]])
# rnn_jacobian(h_t, W_hh)              # [[1.00, 2.00],
#                                      #  [2.25, 3.00]]
# ```
#
# All states of a run, `(T, D)`, give all its Jacobians at once, `(T, D, D)`.
#
# <details><summary>Hint 1</summary>
#
# A diagonal matrix on the left multiplies whole *rows*: row $m$ of $W_{hh}$ by the slope of entry
# $m$ of the new state.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `slope[..., None]` has shape `(*batch, D, 1)`. Times `W_hh`, it broadcasts to `(*batch, D, D)`.
#
# </details>


# %% answer="rnn_jacobian"
def rnn_jacobian(h_t, W_hh):
    """Jacobian of one step of a tanh network (Pascanu et al. 2013, eq. 5).

    Args:
        h_t: states after their step (*batch, D).
        W_hh: weights of the state (D, D).

    Returns:
        J (*batch, D, D) with J[..., m, n] = dh_t[m] / dh_{t-1}[n].
    """
    ### BEGIN SOLUTION
    slope = 1 - h_t**2
    return slope[..., None] * W_hh
    ### END SOLUTION


# %% check="rnn_jacobian__by_hand" points=2
h_t, W_hh = torch.tensor([0.6, -0.8]), torch.tensor([[0.5, -1.0], [2.0, 0.25]])
slope = torch.tensor([0.64, 0.36])
with checks.case("h_t = (0.6, -0.8), D = 2"):
    checks.close(
        rnn_jacobian(h_t, W_hh),
        torch.tensor([[0.32, -0.64], [0.72, 0.09]]),
        what="the Jacobian",
        suspects={
            "the slope of tanh is left out": W_hh,
            "W_hh is left out": torch.diag(slope),
            "W_hh is transposed": slope[:, None] * W_hh.T,
            "the slopes multiply columns; each belongs to a row, an entry of the new state": (
                slope * W_hh
            ),
            "it is transposed: rows are the new state, columns the old one": slope * W_hh.T,
            "the slope is 1 − h; it should be 1 − h²": (1 - h_t)[:, None] * W_hh,
            "the slope is h²; it should be 1 − h²": (1 - slope)[:, None] * W_hh,
            "tanh was taken of h_t, but h_t is its result already": (
                (1 - h_t.tanh() ** 2)[:, None] * W_hh
            ),
            "h · (1 − h) is the slope of a sigmoid; that of tanh is 1 − h²": (
                (h_t * (1 - h_t))[:, None] * W_hh
            ),
        },
        hint="the slopes are 0.64 and 0.36; the first row is 0.64 · (0.5, -1)",
    )

# %% check="rnn_jacobian__autograd" points=1
generator = torch.Generator().manual_seed(1)
before, read = torch.randn(2, 4, generator=generator, dtype=torch.float64)
W_hh = torch.randn(4, 4, generator=generator, dtype=torch.float64)


def _step(h):
    return torch.tanh(W_hh @ h + read)


checks.close(
    rnn_jacobian(_step(before), W_hh),
    torch.autograd.functional.jacobian(_step, before),
    what="the Jacobian, beside the one that automatic differentiation finds,",
    hint="entry [m, n] says how h_t[m] follows h_(t-1)[n]; h_t is the state after the step",
)

# %% check="rnn_jacobian__batch" points=1
# Hidden: other shapes, gradients, arguments left alone.
### BEGIN HIDDEN TESTS
from lookback.gradients import rnn_jacobian as _reference

generator = torch.Generator().manual_seed(2)
for shape, dtype in [
    ((1,), torch.float32),
    ((7, 3), torch.float32),
    ((3, 3), torch.float64),
    ((4, 2, 5), torch.float64),
    ((2, 1, 3, 2), torch.bfloat16),
]:
    width = shape[-1]
    h_t = torch.randn(width, *shape[:-1], generator=generator).tanh().movedim(0, -1).to(dtype)
    W_hh = torch.randn(width, width, generator=generator).to(dtype).T
    with (
        checks.case(f"h_t {shape}, {dtype}", "count axes from the end: slope[..., None]"),
        checks.unchanged(h_t=h_t, W_hh=W_hh),
    ):
        checks.close(
            rnn_jacobian(h_t, W_hh),
            _reference(h_t, W_hh),
            what="the Jacobian",
            hint="each state of the batch has a matrix of its own, (D, D)",
        )
h_t = torch.randn(3, 4, generator=generator, dtype=torch.float64).tanh().requires_grad_()
W_hh = torch.randn(4, 4, generator=generator, dtype=torch.float64).requires_grad_()
checks.gradients(
    rnn_jacobian(h_t, W_hh),
    _reference(h_t, W_hh),
    {"h_t": h_t, "W_hh": W_hh},
    what="the Jacobian",
    hint="let torch follow: no detach, no .data",
)
### END HIDDEN TESTS

# %% check="rnn_jacobian__saturated" points=1
# Hidden: states at the ends of tanh, and in its middle.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
W_hh = 5 * torch.randn(3, 3, generator=generator)
h_t = torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, -1.0]])
kept = torch.tensor([0.0, 1.0, 0.0])[:, None] * W_hh
with checks.case("states of 1, -1 and 0, where the slope of tanh is 0, 0 and 1"):
    checks.close(
        torch.stack([rnn_jacobian(h, W_hh) for h in h_t]),
        torch.stack([torch.zeros(3, 3), W_hh, kept]),
        what="the Jacobian",
        suspects={"the slope of tanh is left out": W_hh.expand(3, 3, 3)},
        hint="a state of ±1 no longer moves, however large the weights are",
    )
### END HIDDEN TESTS

# %% [markdown] task="gradient_norm_by_distance" difficulty=2 minutes=15
# ## A product of many factors
#
# How the last state of a run follows the state $k$ steps before it is a product of $k$ Jacobians:
#
# $$\frac{\partial h_T}{\partial h_{T-k}} = J_T\, J_{T-1} \cdots J_{T-k+1}$$
#
# How much of a nudge can arrive is the largest factor by which this product stretches any vector:
# its *spectral norm*, the largest singular value. Write
#
# ```python
# gradient_norm_by_distance(jacobians)
# #  jacobians (T, *batch, D, D), in the order of time   ->   (T+1, *batch)
# ```
#
# Entry `k` is the norm at distance `k`, from 0 to `T`. At distance 0 nothing is multiplied: the
# product is the identity, and its norm is 1. The result has the dtype of `jacobians`. With $D = 1$
# a matrix is a number:
#
# ```python
# jacobians = torch.tensor([0.5, 2.0, 0.25]).reshape(3, 1, 1)   # J_1, J_2, J_3
# gradient_norm_by_distance(jacobians)                          # [1.00, 0.25, 0.50, 0.25]
# ```
#
# The walk goes back from the end: first $J_3$ alone, then $J_3 J_2$, then $J_3 J_2 J_1$.
#
# <details><summary>Hint 1</summary>
#
# Start with the identity and multiply each earlier Jacobian from the *right*.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.linalg.matrix_norm(products, ord=2)` is the largest singular value of every matrix in a
# batch. Without `ord=2` it is another norm.
#
# </details>


# %% answer="gradient_norm_by_distance"
def gradient_norm_by_distance(jacobians):
    """How much of a gradient is left k steps back: spectral norms of the products of Jacobians.

    Args:
        jacobians: J_1 ... J_T in the order of time (T, *batch, D, D), T at least 1.

    Returns:
        Norms of dh_T / dh_{T-k} for k = 0 ... T, (T+1, *batch).
    """
    ### BEGIN SOLUTION
    product = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype).expand_as(jacobians[0])
    products = [product]
    for jacobian in jacobians.flip(0):
        product = product @ jacobian
        products.append(product)
    return torch.linalg.matrix_norm(torch.stack(products), ord=2)
    ### END SOLUTION


# %% check="gradient_norm_by_distance__by_hand" points=2
J_1 = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
J_2 = torch.tensor([[0.0, -1.0], [1.0, 0.5]])
J_3 = torch.tensor([[0.5, 0.0], [1.0, 2.0]])
one = torch.eye(2)
expected = torch.tensor([1.0000, 2.2477, 2.0000, 4.4945])


def _norms(*products, order=2):
    return torch.linalg.matrix_norm(torch.stack(products), ord=order)


back = one, J_3, J_3 @ J_2, J_3 @ J_2 @ J_1
single = _norms(one, J_3, J_2, J_1)
with checks.case("three Jacobians of width 2"):
    checks.close(
        gradient_norm_by_distance(torch.stack([J_1, J_2, J_3])),
        expected,
        what="the table of norms",
        atol=1e-3,
        suspects={
            "distance 0 is missing: the identity, with norm 1": expected[1:],
            "the longest distance is missing": expected[:-1],
            "the longest distance stands first; entry k belongs to distance k": expected.flip(0),
            "the factors stand in the wrong order: the earlier step belongs on the right": _norms(
                one, J_3, J_2 @ J_3, J_1 @ J_2 @ J_3
            ),
            "the walk begins at J_1; it goes back from the end": _norms(
                one, J_1, J_2 @ J_1, J_3 @ J_2 @ J_1
            ),
            "the walk begins at J_1, with the factors in the wrong order": _norms(
                one, J_1, J_1 @ J_2, J_1 @ J_2 @ J_3
            ),
            "this is the root of the sum of squares (Frobenius), not the largest singular value": (
                _norms(*back, order="fro")
            ),
            "these are the norms of single Jacobians; they are not multiplied": single,
            "the norms were multiplied, not the matrices; that is only an upper bound": (
                single.cumprod(0)
            ),
            "the matrices were multiplied entry by entry; use @": _norms(
                one, J_3, J_3 * J_2, J_3 * J_2 * J_1
            ),
            "these are the largest eigenvalues, not the largest singular values": torch.stack(
                [torch.linalg.eigvals(p).abs().max() for p in back]
            ),
            "the products, without their norms": torch.stack(back),
        },
        hint="the norms of the identity, of J_3, of J_3 J_2 and of J_3 J_2 J_1",
    )

# %% check="gradient_norm_by_distance__rates" points=1
angle = torch.tensor(0.7)
turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
distance = torch.arange(13.0)
for rate in (0.5, 1.0, 1.5):
    with checks.case(f"12 steps that each turn the state and make it {rate} times as long"):
        checks.close(
            gradient_norm_by_distance((rate * turn).expand(12, 2, 2)),
            rate**distance,
            what="the table of norms",
            rtol=1e-4,
            hint=f"after k steps nothing has happened but k turns, and the length is {rate}^k",
        )

# %% check="gradient_norm_by_distance__batch" points=1
# Hidden: other widths, lengths and batch shapes, arguments left alone.
### BEGIN HIDDEN TESTS
from lookback.gradients import gradient_norm_by_distance as _reference

generator = torch.Generator().manual_seed(1)
for shape, dtype in [
    ((1, 3, 3), torch.float32),
    ((5, 1, 1), torch.float64),
    ((2, 2, 2), torch.float32),
    ((4, 3, 2, 2), torch.float64),
    ((3, 2, 4, 5, 5), torch.float32),
    ((6, 6, 6, 6), torch.float64),
]:
    jacobians = torch.randn(shape, generator=generator).to(dtype).mT
    told = f"jacobians {shape}, {dtype}"
    with (
        checks.case(told, "time is the first axis, the matrix the last two; keep the dtype"),
        checks.unchanged(jacobians=jacobians),
    ):
        norms = gradient_norm_by_distance(jacobians)
    with checks.case(told):
        checks.close(
            norms,
            _reference(jacobians),
            what="the table of norms",
            rtol=1e-4,
            hint="multiply along time alone; each entry of the batch has norms of its own",
        )
### END HIDDEN TESTS

# %% check="gradient_norm_by_distance__far" points=1
# Hidden: a long run of a network, beside what automatic differentiation says.
### BEGIN HIDDEN TESTS
from lookback.gradients import rnn_jacobian as _jacobian

generator = torch.Generator().manual_seed(2)
W_hh = torch.randn(4, 4, generator=generator, dtype=torch.float64) / 4
read = torch.randn(40, 4, generator=generator, dtype=torch.float64) / 2
h, states = torch.zeros(4, dtype=torch.float64), []
for row in read:
    h = torch.tanh(W_hh @ h + row)
    states.append(h)


def _from(t):  # the last state as a function of the one after step t
    def run(h):
        for row in read[t:]:
            h = torch.tanh(W_hh @ h + row)
        return h

    return run


with checks.case("a tanh network of width 4 over 40 steps"):
    norms = gradient_norm_by_distance(_jacobian(torch.stack(states), W_hh))
    checks.shape(norms, (41,), what="the table of norms")
    for distance in (1, 5, 20, 39):
        t = 40 - distance
        true = torch.autograd.functional.jacobian(_from(t), states[t - 1])
        checks.close(
            norms[distance],
            torch.linalg.matrix_norm(true, ord=2),
            what=f"the norm of dh_40/dh_{t}",
            rtol=1e-4,
            atol=0.0,
            hint="it is tiny, but it is not 0: multiply matrices, and take the norm at the end",
        )
### END HIDDEN TESTS

# %% [markdown] task="clip_by_global_norm" difficulty=2 minutes=14
# ## Not too long a step
#
# Where the factors are large, a gradient explodes, and one step along it ruins what was learned.
# The patch is to shorten it (Pascanu et al. 2013, algorithm 1). The gradients of all parameters are
# taken *together*, as one long vector. Where that is longer than `max_norm`, all of them are
# multiplied by one factor that makes it just as long:
#
# $$g \leftarrow g \cdot \min\!\left(1, \frac{\text{max\_norm}}{\|\text{all } g\|}\right)$$
#
# One factor for all keeps the direction; only the length changes. Write
#
# ```python
# clip_by_global_norm(gradients, max_norm)   # -> (list of clipped gradients, length before)
# ```
#
# ```python
# gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]    # together of length 5
# clip_by_global_norm(gradients, 1.0)    # ([[0.6, 0.0], [[0.8]]], 5.0)
# clip_by_global_norm(gradients, 9.0)    # ([[3.0, 0.0], [[4.0]]], 5.0): short enough, unchanged
# ```
#
# `gradients` is a list with one tensor a parameter, of any shapes. A parameter that was not used
# has the gradient `None`, which stays `None`. The arguments are not written to; the length may be a
# number or a tensor that holds one. Gradients that are all 0 stay 0.
#
# <details><summary>Hint 1</summary>
#
# The squared length of everything together is the sum of the squares of all entries of all tensors.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With all gradients 0 the factor would be a number divided by 0. Divide only where something has to
# be shortened, or add a tiny number to the length, as torch does ($10^{-6}$).
#
# </details>


# %% answer="clip_by_global_norm"
def clip_by_global_norm(gradients, max_norm):
    """Shorten all gradients by one factor, so that together they are at most max_norm long.

    Args:
        gradients: list of tensors of any shapes; None stays None.
        max_norm: largest length of all gradients together, above 0.

    Returns:
        The list of clipped gradients, and the length before.
    """
    ### BEGIN SOLUTION
    squares = [g.square().sum() for g in gradients if g is not None]
    length = torch.stack(squares).sum().sqrt()
    factor = (max_norm / (length + 1e-6)).clamp(max=1.0)
    return [None if g is None else g * factor for g in gradients], length
    ### END SOLUTION


# %% check="clip_by_global_norm__by_hand" points=2
gradients = [torch.tensor([3.0, -4.0]), torch.tensor([[12.0]]), torch.tensor([0.0, 50.4, 67.2])]
all_of_them = torch.cat([g.flatten() for g in gradients])  # 85 long: 5, 12 and 84 at right angles
each = torch.cat([g.flatten() * min(1.0, 17 / g.norm()) for g in gradients])
with checks.case("three tensors, 85 long together, and max_norm = 17"):
    found = clip_by_global_norm(gradients, 17.0)
    assert isinstance(found, tuple | list), f"return a list and a number, not {found}"
    assert len(found) == 2, f"return two things, a list and the length before, not {len(found)}"
    clipped, length = found
    assert isinstance(clipped, tuple | list), "the first thing to return is a list of tensors"
    assert len(clipped) == 3, f"three gradients went in, but {len(clipped)} came out"
    for got, gradient in zip(clipped, gradients, strict=True):
        checks.shape(got, gradient.shape, what="a clipped gradient")
    checks.close(
        torch.cat([g.flatten() for g in clipped]),
        all_of_them / 5,
        what="the row of all clipped numbers",
        atol=1e-3,
        suspects={
            "nothing was clipped": all_of_them,
            "each tensor was clipped by itself, which changes the direction": each,
            "each number was clipped by itself, which changes the direction": all_of_them.clamp(
                -17, 17
            ),
            "the length is missing its root: the factor is max_norm / length²": (
                all_of_them * 17 / 85**2
            ),
            "the lengths were added, 5 + 12 + 84; add their squares, then take the root": (
                all_of_them * 17 / 101
            ),
            "all numbers were added for the length, as they are; their squares count": (
                all_of_them * 17 / 136.6
            ),
            "the largest number was taken for the length": all_of_them * 17 / 67.2,
            "the gradients were made 1 long, not max_norm long": all_of_them / 85,
            "the factor is max_norm alone": all_of_them * 17,
            "the factor is upside down": all_of_them * 5,
        },
        hint="√(5² + 12² + 84²) = 85, so all numbers are multiplied by 17/85",
    )
    checks.number(
        length,
        85.0,
        what="the length before",
        suspects={
            "this is the length after clipping": 17.0,
            "its root is missing": 7225.0,
            "this is the factor": 0.2,
        },
    )

# %% check="clip_by_global_norm__short" points=1
gradients = [torch.tensor([0.3, -0.4]), torch.tensor([1.2])]
with checks.case("two tensors, 1.3 long together"):
    for max_norm in (1.4, 13.0):
        clipped, length = clip_by_global_norm(gradients, max_norm)
        checks.close(
            torch.cat([g.flatten() for g in clipped]),
            torch.tensor([0.3, -0.4, 1.2]),
            what=f"the row of all numbers with max_norm = {max_norm}",
            suspects={
                "it was made longer; gradients that are short enough stay as they are": (
                    torch.tensor([0.3, -0.4, 1.2]) * max_norm / 1.3
                )
            },
            hint="the factor is never above 1",
        )
        checks.number(length, 1.3, what="the length before")

# %% check="clip_by_global_norm__odd" points=1
# Hidden: gradients of 0 and None, a single one, a scalar.
### BEGIN HIDDEN TESTS
with checks.case("gradients that are all 0", "0 divided by 0 is NaN"):
    clipped, length = clip_by_global_norm([torch.zeros(3), torch.zeros(2, 2)], 2.0)
    checks.close(
        torch.cat([g.flatten() for g in clipped]),
        torch.zeros(7),
        what="the row of all numbers",
        hint="0 divided by 0 is NaN: divide only where something has to be shortened",
    )
    checks.number(length, 0.0, what="the length before")
gradients = [None, torch.tensor(-6.0), None, torch.tensor([[[8.0]]])]
with checks.case("the gradients None, -6, None and [[[8]]]", "leave None out of the length"):
    clipped, length = clip_by_global_norm(gradients, 5.0)
    assert len(clipped) == 4, f"four gradients went in, but {len(clipped)} came out"
    nothing = clipped[0] is None and clipped[2] is None
    assert nothing, "the gradient None of a parameter that was not used must stay None"
    checks.close(clipped[1], torch.tensor(-3.0), what="the gradient -6", atol=1e-4)
    checks.close(clipped[3], torch.tensor([[[4.0]]]), what="the gradient [[[8]]]", atol=1e-4)
    checks.number(length, 10.0, what="the length before")
### END HIDDEN TESTS

# %% check="clip_by_global_norm__direction" points=1
# Hidden: many shapes and lengths, arguments left alone.
### BEGIN HIDDEN TESTS
from lookback.gradients import clip_by_global_norm as _reference

generator = torch.Generator().manual_seed(1)
shapes = (4, 3), (5,), (), (2, 1, 3), (1,)
for scale, max_norm, dtype in [
    (1e-3, 1.0, torch.float32),
    (1.0, 0.5, torch.float64),
    (1.0, 100.0, torch.float32),
    (1e5, 2.0, torch.float32),
    (30.0, 30.0, torch.float64),
]:
    gradients = [(scale * torch.randn(s, generator=generator)).to(dtype) for s in shapes]
    told = f"five tensors of size {scale:g}, {dtype}, max_norm = {max_norm}"
    with checks.case(told), checks.unchanged(**{f"g{i}": g for i, g in enumerate(gradients)}):
        clipped, length = clip_by_global_norm(gradients, max_norm)
    wanted, before = _reference(gradients, max_norm)
    with checks.case(told):
        checks.number(length, float(before), what="the length before")
        for got, want in zip(clipped, wanted, strict=True):
            checks.close(
                got,
                want,
                what="a clipped gradient",
                rtol=1e-4,
                hint="all tensors are multiplied by one and the same factor, at most 1",
            )
### END HIDDEN TESTS

# %% [markdown] task="orthogonal_init" difficulty=2 minutes=16
# ## A start that neither shrinks nor stretches
#
# A product of Jacobians begins well if $W_{hh}$ changes no length. Such a matrix is *orthogonal*:
# its columns are 1 long and stand at right angles to each other, $W^\top W = \mathbf 1$. All its
# singular values are 1 (Saxe et al. 2014). Write
#
# ```python
# orthogonal_init(rows, columns, gain=1.0, generator=None)   # -> (rows, columns)
# ```
#
# - It is drawn *at random*: `torch.randn(..., generator=generator)` makes the numbers it is made
#   of, so that one generator in one state gives one matrix.
# - Where it is not square, only its *shorter* side can be like that: the columns of a tall matrix,
#   $W^\top W = \mathbf 1$, and the rows of a wide one, $W W^\top = \mathbf 1$.
# - `gain` multiplies the result, and so all its singular values.
# - It is drawn *evenly*: no direction is preferred, so that the average of many such matrices is 0.
#
# The usual way is the QR decomposition. `Q, R = torch.linalg.qr(A)` splits a tall matrix of random
# numbers into orthonormal columns and a triangle. It has one flaw: the signs of the columns are not
# random but chosen by the algorithm. Multiply each column of $Q$ by the sign of its entry on the
# diagonal of $R$, and every orthogonal matrix is equally likely (Mezzadri 2007).
#
# ```python
# W = orthogonal_init(3, 2, gain=5.0)
# W.T @ W                                # [[25.0,  0.0],
#                                        #  [ 0.0, 25.0]]   up to rounding
# ```
#
# <details><summary>Hint 1</summary>
#
# A wide matrix with orthonormal rows is the transpose of a tall one with orthonormal columns.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `R.diagonal().sign()` has one entry a column of `Q`, so `Q * R.diagonal().sign()` multiplies
# columns.
#
# </details>


# %% answer="orthogonal_init"
def orthogonal_init(rows, columns, gain=1.0, generator=None):
    """A random matrix whose shorter side is orthonormal, times gain (Saxe et al. 2014).

    Args:
        rows, columns: its shape.
        gain: what every singular value is.
        generator: source of randomness; torch's own when left out.

    Returns:
        W (rows, columns).
    """
    ### BEGIN SOLUTION
    A = torch.randn(max(rows, columns), min(rows, columns), generator=generator)
    Q, R = torch.linalg.qr(A)
    Q = Q * R.diagonal().sign()
    return gain * (Q if rows >= columns else Q.T)
    ### END SOLUTION


# %% check="orthogonal_init__square" points=1
with checks.case("rows = columns = 6"):
    W = orthogonal_init(6, 6)
    checks.shape(W, (6, 6), what="orthogonal_init(6, 6)")
    lengths, products = W.square().sum(0), W.T @ W
    skew = (products - torch.diag(lengths)).abs().max()
    assert skew < 1e-4 or (lengths - 1).abs().max() > 1e-4, (
        "the columns are 1 long but do not stand at right angles: scaling them is not enough, "
        f"W.T @ W holds {float(skew):.3g} beside its diagonal"
    )
    checks.close(
        products,
        torch.eye(6),
        what="W.T @ W",
        atol=1e-4,
        hint="the columns must be 1 long and at right angles, as those of Q in a QR decomposition",
    )
    assert (W - torch.eye(6)).abs().max() > 1e-3, "this is the identity; the start is to be random"

# %% check="orthogonal_init__shapes" points=1
for rows, columns, gain in [(5, 3, 2.0), (3, 5, 0.5)]:
    with checks.case(f"rows = {rows}, columns = {columns}, gain = {gain}"):
        W = orthogonal_init(rows, columns, gain=gain)
        checks.shape(
            W,
            (rows, columns),
            what="the matrix",
            hint="draw a tall one and transpose it where a wide one is asked for",
        )
        checks.close(
            W.T @ W if rows > columns else W @ W.T,
            gain**2 * torch.eye(3),
            what="the table of products of the columns" if rows > columns else "that of the rows",
            atol=1e-4,
            suspects={
                "the gain is missing; multiply by it at the end": torch.eye(3),
                "the gain was multiplied in twice": gain**4 * torch.eye(3),
                "the root of the gain was taken": gain * torch.eye(3),
                "the result was divided by the gain": gain**-2 * torch.eye(3),
            },
            hint="the shorter side is orthonormal, times the gain",
        )

# %% check="orthogonal_init__random" points=1
# Hidden: other shapes, and where the randomness comes from.
### BEGIN HIDDEN TESTS
for rows, columns in [(1, 1), (1, 4), (4, 1), (7, 7), (2, 6), (30, 20)]:
    with checks.case(f"rows = {rows}, columns = {columns}"):
        W = orthogonal_init(rows, columns)
        checks.shape(W, (rows, columns), what="the matrix")
        checks.close(
            torch.linalg.svdvals(W),
            torch.ones(min(rows, columns)),
            what="the row of singular values",
            atol=1e-4,
            hint="all are 1 where the shorter side is orthonormal",
        )
with checks.case("two matrices drawn one after the other"):
    one = orthogonal_init(5, 5)
    checks.moved(one, orthogonal_init(5, 5), what="the matrix", when="it was drawn a second time")
with checks.case("a generator, put into the same state twice"):
    first = orthogonal_init(5, 5, generator=torch.Generator().manual_seed(1))
    again = orthogonal_init(5, 5, generator=torch.Generator().manual_seed(1))
    other = orthogonal_init(5, 5, generator=torch.Generator().manual_seed(2))
    told = "hand the generator on to torch.randn"
    checks.unmoved(first, again, what="the matrix", when="its generator began again", hint=told)
    checks.moved(first, other, what="the matrix", when="the generator's state changed", hint=told)
### END HIDDEN TESTS

# %% check="orthogonal_init__even" points=1
# Hidden: whether any direction is preferred.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
for rows, columns in [(3, 3), (4, 2), (2, 4)]:
    with checks.case(f"100 matrices of {rows} rows and {columns} columns"):
        drawn = [orthogonal_init(rows, columns, generator=generator) for _ in range(100)]
        mean = torch.stack(drawn).mean(0)
        checks.shape(mean, (rows, columns), what="the matrix")
        worst = float(mean.abs().max())
        assert worst < 0.33, (
            "the matrices are not drawn evenly: an entry that should be 0 in the mean of 100 is "
            f"{worst:.2f} away from it\n  hint: the signs of Q's columns come from the algorithm; "
            "multiply them by the signs of R's diagonal"
        )
### END HIDDEN TESTS

# %% [markdown] task="truncated_bptt" difficulty=3 minutes=18
# ## Back a few steps only
#
# Training on a long sequence needs every state of it in memory, only for gradients that have faded
# long before the beginning. *Truncated backpropagation through time* cuts the sequence into chunks
# of `k` steps. The state is carried over from chunk to chunk, so that forwards nothing changes. But
# no gradient crosses from one chunk into the one before. Write
#
# ```python
# truncated_bptt(step, x, h_0, k)
# #  x (*batch, T, I)   h_0 (*batch, D)   ->   all states, (*batch, T, D)
# ```
#
# `step(x_t, h)` is any recurrent step: it takes an input `(*batch, I)` and a state and returns the
# next state. The result holds the state after each of the `T` steps. The first chunk is the steps 1
# to `k`, the second the steps `k + 1` to `2k`, and so on; the last may be shorter. Within a chunk
# gradients flow as usual, in the first one back to `h_0`. (The loop in the book starts
# from zeros and cuts them off as well; here the start keeps its gradient.)
#
# ```python
# def step(x_t, h):
#     return x_t + 0.5 * h
#
# x = torch.ones(4, 1, requires_grad=True)
# states = truncated_bptt(step, x, torch.zeros(1), k=2)   # [[1.0], [1.5], [1.75], [1.875]]
# states[3].backward()
# x.grad                                                  # [[0.0], [0.0], [0.5], [1.0]]
# ```
#
# The states are those of the full run, whose gradient would be 0.125, 0.25, 0.5 and 1.
#
# <details><summary>Hint 1</summary>
#
# `h.detach()` has the numbers of `h`, and gradients end there.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# What is cut is the state that is *handed on* from one chunk to the next. The state that is stored
# as a result keeps its gradient.
#
# </details>


# %% answer="truncated_bptt"
def truncated_bptt(step, x, h_0, k):
    """All states of a recurrence; gradients stay within chunks of k steps.

    Args:
        step: maps an input (*batch, I) and a state (*batch, D) to the next state.
        x: inputs (*batch, T, I), T at least 1.
        h_0: state before the first step (*batch, D).
        k: steps of a chunk, at least 1.

    Returns:
        The state after each step (*batch, T, D).
    """
    ### BEGIN SOLUTION
    h, states = h_0, []
    for t in range(x.shape[-2]):
        if t > 0 and t % k == 0:
            h = h.detach()
        h = step(x[..., t, :], h)
        states.append(h)
    return torch.stack(states, -2)
    ### END SOLUTION


# %% check="truncated_bptt__forward" points=1
def _step(x_t, h):
    return x_t + 0.5 * h


# state t is the sum of all x[s] and of h_0, each halved as often as it was carried
x, h_0 = torch.tensor([[4.0], [-2.0], [1.0], [3.0], [-5.0], [2.0], [1.0]]), torch.tensor([8.0])
steps = torch.arange(7)
carried = steps[:, None] - steps
halved = torch.where(carried >= 0, 0.5 ** carried.clamp(min=0), 0.0)
from_start = 0.5 ** (steps[:, None] + 1) * h_0
for k in (1, 2, 3, 7, 10):
    same = steps[:, None] // k == steps // k  # of one chunk
    whole, cut = halved @ x + from_start, torch.where(same, halved, 0.0) @ x
    with checks.case(f"T = 7, k = {k}", "the loop runs over axis -2 of x"):
        checks.close(
            truncated_bptt(_step, x, h_0, k),
            whole,
            what="the table of states",
            suspects={
                "the state was set to zero at the cuts; forwards nothing may change": (
                    cut + torch.where(steps[:, None] < k, from_start, 0.0)
                ),
                "the state was set to zero at the cuts and at the start": cut,
                "every chunk starts from h_0, not from the state that the last one left": (
                    cut + from_start[steps % k]
                ),
                "h_0 is ignored": halved @ x,
                "the last chunk is missing": whole[: 7 - 7 % k],
                "h_0 is among the states; they begin after the first step": torch.cat(
                    [h_0[None], whole]
                ),
            },
            hint="the states are those of the full run, whatever k is",
        )


# %% check="truncated_bptt__table" points=2
def _step(x_t, h):
    return x_t + 0.5 * h


steps = torch.arange(6)
back = steps[:, None] - steps  # how many steps input s lies before state t
full = torch.where(back >= 0, 0.5 ** back.clamp(min=0), 0.0)  # the whole gradient of t by s


def _cut(same):
    return torch.where(same, full, 0.0)


def _chunks(cut_before):  # steps are of one chunk where no cut lies between them
    chunk = torch.tensor([sum(t >= c for c in cut_before) for t in range(6)])
    return chunk[:, None] == chunk


x, h_0 = torch.ones(6, 1, requires_grad=True), torch.zeros(1)
with checks.case("T = 6, k = 2 and the step x_t + 0.5 · h"):
    states = truncated_bptt(_step, x, h_0, 2)
    checks.shape(states, (6, 1), what="the table of states")
    attached = "no gradient flows back from the states: only what is handed on may be cut"
    assert states.requires_grad, attached
    rows = []
    for state in states[:, 0]:
        (row,) = torch.autograd.grad(state, x, retain_graph=True, allow_unused=True)
        rows.append(torch.zeros(6) if row is None else row[:, 0])
    stored = _cut(_chunks([2, 4]))
    stored[[1, 3]] = 0.0
    every = stored.clone()
    every[5] = 0.0
    early = _cut(_chunks([1, 3, 5]))
    early[::2] = 0.0
    checks.close(
        torch.stack(rows),
        _cut(_chunks([2, 4])),
        what="the table of gradients (row t: state t, column s: input s)",
        suspects={
            "nothing was cut": full,
            "every step was cut; a chunk has k = 2 steps": _cut(_chunks(range(6))),
            "the cuts come one step late": _cut(_chunks([3, 5])),
            "the cuts come one step early": _cut(_chunks([1, 3, 5])),
            "the stored state was cut too, and the cuts come one step early": early,
            "a chunk has k + 1 steps": _cut(_chunks([3])),
            "there are k chunks; a chunk has k steps": _cut(_chunks([3])),
            "the stored state was cut too; cut only what is handed on": stored,
            "the stored state was cut too, at the end of every chunk": every,
            "each state sees its last k steps, across chunks; chunks do not overlap": _cut(
                back < 2
            ),
            "only the last chunk has gradients": _cut(_chunks([2, 4]) & (steps[:, None] >= 4)),
        },
        hint="the states 3 and 4 (rows 2 and 3) depend on the inputs 3 and 4, and on no others",
    )

# %% check="truncated_bptt__chunks" points=1
# Hidden: other lengths, chunks and batches, with a tanh network.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(1)
for batch, steps, k in [((), 5, 2), ((2,), 7, 3), ((3,), 4, 1), ((2, 2), 6, 6), ((2,), 4, 9)]:
    W = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(*batch, steps, 3, generator=generator, dtype=torch.float64).requires_grad_()
    h_0 = torch.randn(*batch, 3, generator=generator, dtype=torch.float64).requires_grad_()

    def _step(x_t, h, W=W):
        return torch.tanh(x_t + h @ W)

    h, states = h_0, []
    for t in range(steps):
        h = _step(x[..., t, :], h if t == 0 or t % k else h.detach())
        states.append(h)
    expected = torch.stack(states, -2)
    with checks.case(f"x {tuple(x.shape)}, k = {k}", "the loop runs over axis -2 of x"):
        with checks.unchanged(x=x, h_0=h_0):
            found = truncated_bptt(_step, x, h_0, k)
        checks.close(found, expected, what="the table of states")
        checks.gradients(
            found,
            expected,
            {"x": x, "h_0": h_0},
            what="the states",
            hint="cut before the steps k + 1, 2k + 1, …, and nowhere else",
        )
### END HIDDEN TESTS


# %% check="truncated_bptt__start" points=1
# Hidden: the state before the first step, and one before the first cut.
### BEGIN HIDDEN TESTS
def _step(x_t, h):
    return x_t + 0.5 * h


x, h_0 = torch.ones(5, 1), torch.ones(1, requires_grad=True)
with checks.case("T = 5, k = 2, and the gradient of the start h_0"):
    states = truncated_bptt(_step, x, h_0, 2)
    checks.shape(states, (5, 1), what="the table of states")
    assert states.requires_grad, (
        "no gradient reaches h_0: the first chunk begins with it, so it is not cut off"
    )
    rows = []
    for state in states[:, 0]:
        (row,) = torch.autograd.grad(state, h_0, retain_graph=True, allow_unused=True)
        rows.append(torch.zeros(1) if row is None else row)
    checks.close(
        torch.cat(rows),
        torch.tensor([0.5, 0.25, 0.0, 0.0, 0.0]),
        what="the row of gradients of each state by h_0",
        suspects={
            "nothing was cut": 0.5 ** torch.arange(1.0, 6),
            "no gradient reaches h_0, but the first chunk begins with it": torch.zeros(5),
        },
        hint="h_0 is carried into the steps 1 and 2, whose states therefore depend on it",
    )
### END HIDDEN TESTS

# %% [markdown] task="lstm_step" difficulty=2 minutes=14
# ## A cell with gates
#
# A long short-term memory (Hochreiter and Schmidhuber 1997) keeps two vectors: the *cell* $c$,
# which it remembers with, and the state $h$, which it shows. The way from cell to cell is nearly
# linear: the old one is multiplied by a *forget gate* $f$, and what an *input gate* $i$ lets in is
# added. No weight matrix stands in between.
#
# $$\begin{aligned}
# i, f, o &= \sigma(\dots) \qquad g = \tanh(\dots) \\
# c_t &= f \odot c_{t-1} + i \odot g \\
# h_t &= o \odot \tanh(c_t)
# \end{aligned}$$
#
# What stands for the dots is the same for all four: its own rows of
# $W_{ih}\, x_t + b_{ih} + W_{hh}\, h_{t-1} + b_{hh}$. The rows lie stacked in torch's order
# **i, f, g, o**: the first `D` rows are those of `i`. Write
#
# ```python
# lstm_step(x_t, state, W_ih, W_hh, b_ih=None, b_hh=None)   # -> (h_t, c_t)
# #  x_t (*batch, I)   state: the pair (h, c), each (*batch, D)
# #  W_ih (4D, I)   W_hh (4D, D)   biases (4D,) or None
# ```
#
# With $I = D = 1$, weights of 0 and all numbers in one bias, the gates can be read off:
#
# ```python
# nothing = torch.zeros(4, 1)
# b_ih = torch.tensor([1.0986, 0.0, 1.0, 1.0986])   # i = 0.75, f = 0.5, g = 0.7616, o = 0.75
# state = torch.tensor([0.3]), torch.tensor([2.0])  # h = 0.3, c = 2
# lstm_step(torch.tensor([1.0]), state, nothing, nothing, b_ih)
# # c = 0.5 · 2 + 0.75 · 0.7616 = 1.5712,  h = 0.75 · tanh(1.5712) = 0.6879
# ```
#
# The result is the pair `(h_t, c_t)`, in this order. A bias that is `None` is left out.
#
# <details><summary>Hint 1</summary>
#
# Take all four in one product: `x_t @ W_ih.T` has shape `(*batch, 4 * D)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `i, f, g, o = total.chunk(4, dim=-1)` cuts the last axis into four equal parts.
#
# </details>


# %% answer="lstm_step"
def lstm_step(x_t, state, W_ih, W_hh, b_ih=None, b_hh=None):
    """One step of an LSTM (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

    Args:
        x_t: input of this step (*batch, I).
        state: the pair (h, c) of the step before, each (*batch, D).
        W_ih, W_hh: weights (4D, I) and (4D, D), stacked in the order i, f, g, o.
        b_ih, b_hh: biases (4D,), or None.

    Returns:
        The new pair (h, c).
    """
    ### BEGIN SOLUTION
    h, c = state
    total = x_t @ W_ih.T + h @ W_hh.T
    for bias in (b_ih, b_hh):
        if bias is not None:
            total = total + bias
    i, f, g, o = total.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c
    ### END SOLUTION


# %% check="lstm_step__gates" points=1
x_t, h, c = torch.tensor([1.0]), torch.tensor([0.3, -0.6]), torch.tensor([2.0, -0.5])
g = torch.tensor([0.5, 0.8])
large = 40.0  # opens a gate; −40 closes it
for told, gates, cell, shown, why in [
    ("i closed, f and o open", (-large, large, large), c, c.tanh(), "the cell is kept"),
    ("i and o open, f closed", (large, -large, large), g, g.tanh(), "the cell is overwritten"),
    ("i and f open, o closed", (large, large, -large), c + g, 0 * g, "nothing is shown"),
    ("all gates open", (large, large, large), c + g, (c + g).tanh(), "the cell is added to"),
]:
    i, f, o = (torch.full((2,), value) for value in gates)
    bias = torch.cat([i, f, g.atanh(), o])
    with checks.case(f"{told}, g = (0.5, 0.8): {why}", "b_hh is None here: leave it out"):
        new = lstm_step(x_t, (h, c), torch.zeros(8, 1), torch.zeros(8, 2), bias)
        assert isinstance(new, tuple | list), f"return the pair (h_t, c_t), not {new}"
        assert len(new) == 2, f"return the pair (h_t, c_t), not {len(new)} things"
        checks.close(
            new[1],
            cell,
            what="the cell c_t",
            hint="c_t = f ⊙ c + i ⊙ g, and the rows lie in the order i, f, g, o",
        )
        checks.close(new[0], shown, what="the state h_t", hint="h_t = o ⊙ tanh(c_t)")

# %% check="lstm_step__by_hand" points=2
x_t, h, c = torch.tensor([1.0, -0.5]), torch.tensor([0.5, -0.25]), torch.tensor([1.0, -2.0])
W_ih = torch.tensor([[1.75, 1.0], [1.25, 1.25], [1.0, 0.25], [-0.5, 0.5],
                     [-0.5, 2.25], [1.0, 0.5], [-1.75, -1.0], [0.0, -1.75]])  # fmt: skip
W_hh = torch.tensor([[-0.75, -0.25], [-0.25, 0.5], [-0.5, -1.0], [1.25, 0.75],
                     [1.5, 0.75], [1.0, 0.75], [-0.25, 1.75], [0.25, -1.0]])  # fmt: skip
b_ih = torch.tensor([-0.5, -0.125, -0.875, -0.25, 0.125, -0.375, 1.0, -0.75])
b_hh = torch.tensor([0.625, -0.875, -0.375, -0.375, -0.25, -0.125, -0.625, 0.125])
wrong = {  # h_t, then c_t
    "the order of the gates is i, f, g, o, not f, i, g, o": [0.0738, -0.3279, 0.4052, -0.5538],
    "the order of the gates is i, f, g, o, not f, i, o, g": [0.0846, -0.3146, 0.3793, -0.5412],
    "the order of the gates is i, f, g, o, not i, f, o, g": [-0.0587, -0.2252, -0.2565, -0.3695],
    "the order of the gates is i, f, g, o, not i, g, f, o": [-0.0063, -0.593, -0.0326, -1.53],
    "the gates lie in blocks of D rows, but yours take every fourth": [
        0.0231, -0.5875, 0.0823, -1.4828
    ],
    "the pair is (h_t, c_t), but yours is (c_t, h_t)": [-0.2093, -0.3851, -0.0396, -0.2391],
    "the pair (h, c) was read as (c, h)": [-0.0031, -0.0751, -0.3332, -0.0814],
    "both biases are missing": [0.0196, -0.2811, 0.1405, -0.3788],
    "b_hh is missing": [0.0166, -0.2315, 0.0539, -0.3907],
    "b_ih is missing": [-0.0074, -0.2978, -0.0926, -0.392],
    "the state before is not used for the gates": [-0.0974, -0.1658, -0.3441, -0.3039],
    "1 − f was taken for the input gate; it has rows of its own": [
        -0.0162, -0.1263, -0.0845, -0.1965
    ],
    "g is a sigmoid; it should be tanh": [0.1005, -0.2137, 0.581, -0.3407],
    "g has no tanh": [-0.0849, -0.2287, -0.4752, -0.3667],
    "tanh is missing: h_t = o ⊙ tanh(c_t)": [-0.0402, -0.2508, -0.2093, -0.3851],
    "h_t shows the old cell; it should show the new one": [0.1462, -0.6279, -0.2093, -0.3851],
    "tanh belongs to what is shown; the cell itself is kept as it is": [
        -0.0396, -0.2391, -0.2063, -0.3671
    ],
    "the old cell is not used": [-0.1053, 0.1146, -0.6167, 0.1777],
}  # fmt: skip
with checks.case("I = D = 2, both biases", "W (4D, I) maps x (…, I) to x @ W.T (…, 4D)"):
    new = lstm_step(x_t, (h, c), W_ih, W_hh, b_ih, b_hh)
    assert isinstance(new, tuple | list), f"return the pair (h_t, c_t), not {new}"
    assert len(new) == 2, f"return the pair (h_t, c_t), not {len(new)} things"
    for got, name in zip(new, ("h_t", "c_t"), strict=True):
        checks.shape(got, (2,), what=name)
    checks.close(
        torch.cat([*new]),
        torch.tensor([-0.0396, -0.2391, -0.2093, -0.3851]),
        what="the row of h_t and then c_t",
        atol=2e-4,
        suspects={told: torch.tensor(row) for told, row in wrong.items()},
        hint="c_t = f ⊙ c + i ⊙ g and h_t = o ⊙ tanh(c_t)",
    )

# %% check="lstm_step__inputs" points=1
# Hidden: other shapes, one bias at a time, arguments left alone.
### BEGIN HIDDEN TESTS
from lookback.recurrent import lstm_step as _reference

generator = torch.Generator().manual_seed(1)
for batch, wide, width, dtype in [
    ((), 1, 1, torch.float32),
    ((3,), 4, 2, torch.float32),
    ((4,), 4, 4, torch.float64),
    ((2, 3), 2, 5, torch.float32),
    ((2, 1, 2), 3, 2, torch.bfloat16),
]:
    shapes = (*batch, 2 * wide), (width, *batch), (width, *batch), (wide, 4 * width)
    x_t, h, c, W_ih = (torch.randn(s, generator=generator).to(dtype) for s in shapes)
    x_t, h, c, W_ih = x_t[..., ::2], h.movedim(0, -1), c.movedim(0, -1), W_ih.T  # views
    W_hh, bias = (torch.randn(4 * width, *s, generator=generator).to(dtype) for s in ((width,), ()))
    for biases in [{}, {"b_ih": bias}, {"b_hh": bias}]:
        given = ", ".join(biases) or "no bias"
        told = f"x_t {tuple(x_t.shape)}, h and c {tuple(h.shape)}, {dtype}, {given}"
        with (
            checks.case(told, "cut the last axis into four; a bias may be None"),
            checks.unchanged(x_t=x_t, h=h, c=c, W_ih=W_ih, W_hh=W_hh, bias=bias),
        ):
            new = lstm_step(x_t, (h, c), W_ih, W_hh, **biases)
        with checks.case(told):
            wanted = _reference(x_t, (h, c), W_ih, W_hh, **biases)
            checks.close(new[0], wanted[0], what="the state h_t")
            checks.close(new[1], wanted[1], what="the cell c_t")
### END HIDDEN TESTS

# %% check="lstm_step__gradient" points=1
# Hidden: gradients in float64, over two steps.
### BEGIN HIDDEN TESTS
from lookback.recurrent import lstm_step as _reference

generator = torch.Generator().manual_seed(2)
shapes = {"x_t": (2, 3), "h": (2, 2), "c": (2, 2), "W_ih": (8, 3), "W_hh": (8, 2), "b_ih": (8,)}
inputs = {
    name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    for name, shape in {**shapes, "b_hh": (8,)}.items()
}
x_t, h, c, *weights = inputs.values()
first = lstm_step(x_t, (h, c), *weights)
checks.gradients(
    torch.cat([*lstm_step(x_t, (first[0], first[1]), *weights)]),
    torch.cat(_reference(x_t, _reference(x_t, (h, c), *weights), *weights)),
    inputs,
    what="the new state and cell, after two steps,",
    hint="let torch follow every step: no detach, no .data, no numbers in between",
)
### END HIDDEN TESTS

# %% [markdown] task="gru_step" difficulty=2 minutes=14
# ## Fewer gates
#
# The gated recurrent unit (Cho et al. 2014) has no cell of its own. An *update gate* $z$ says how
# much of the old state stays, a *reset gate* $r$ how much of it the new candidate $n$ sees:
#
# $$\begin{aligned}
# r &= \sigma(W_{ir}\, x_t + b_{ir} + W_{hr}\, h_{t-1} + b_{hr}) \\
# z &= \sigma(W_{iz}\, x_t + b_{iz} + W_{hz}\, h_{t-1} + b_{hz}) \\
# n &= \tanh\big(W_{in}\, x_t + b_{in} + r \odot (W_{hn}\, h_{t-1} + b_{hn})\big) \\
# h_t &= (1 - z) \odot n + z \odot h_{t-1}
# \end{aligned}$$
#
# This is torch's form: the reset gate acts *after* the product with $W_{hn}$ and on its bias too,
# where the paper resets the state before the product. The rows lie stacked in the order
# **r, z, n**. Write
#
# ```python
# gru_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None)   # -> h_t (*batch, D)
# #  x_t (*batch, I)   h (*batch, D)   W_ih (3D, I)   W_hh (3D, D)   biases (3D,) or None
# ```
#
# A bias that is `None` is left out. With $I = D = 1$ and weights of 0:
#
# ```python
# nothing = torch.zeros(3, 1)
# b_ih = torch.tensor([0.0, 1.0986, 1.0])    # r = 0.5, z = 0.75
# b_hh = torch.tensor([0.0, 0.0, -1.0])      # n = tanh(1 + 0.5 · (-1)) = 0.4621
# gru_step(torch.tensor([1.0]), torch.tensor([2.0]), nothing, nothing, b_ih, b_hh)
# # 0.25 · 0.4621 + 0.75 · 2 = 1.6155
# ```
#
# <details><summary>Hint 1</summary>
#
# Unlike in an LSTM, the parts from the input and from the state cannot be added first: $r$
# multiplies only the second. Keep `x_t @ W_ih.T + b_ih` and `h @ W_hh.T + b_hh` apart and cut each
# into three.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $z = 1$ keeps the old state as it is; $z = 0$ replaces it by $n$.
#
# </details>


# %% answer="gru_step"
def gru_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    """One step of a GRU (Cho et al. 2014), in the form of torch: reset after the product.

    Args:
        x_t: input of this step (*batch, I).
        h: state of the step before (*batch, D).
        W_ih, W_hh: weights (3D, I) and (3D, D), stacked in the order r, z, n.
        b_ih, b_hh: biases (3D,), or None.

    Returns:
        The new state (*batch, D).
    """
    ### BEGIN SOLUTION
    from_input, from_state = x_t @ W_ih.T, h @ W_hh.T
    if b_ih is not None:
        from_input = from_input + b_ih
    if b_hh is not None:
        from_state = from_state + b_hh
    r_x, z_x, n_x = from_input.chunk(3, -1)
    r_h, z_h, n_h = from_state.chunk(3, -1)
    r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + z * h
    ### END SOLUTION


# %% check="gru_step__gates" points=1
x_t, h = torch.tensor([1.0]), torch.tensor([0.3, -0.6])
large = 40.0  # opens a gate; −40 closes it
read, kept = torch.tensor([0.5, -1.0]), torch.tensor([0.25, 2.0])  # what n sees, and r ⊙ this
for told, r, z, expected, why in [
    ("z = 1", -large, large, h, "the old state is kept"),
    ("z = 0 and r = 0", -large, -large, read.tanh(), "it starts afresh from the input"),
    ("z = 0 and r = 1", large, -large, (read + kept).tanh(), "it is replaced by n"),
]:
    b_ih = torch.cat([torch.full((2,), r), torch.full((2,), z), read])
    b_hh = torch.cat([torch.zeros(4), kept])
    n = torch.tanh(read + (r > 0) * kept)
    with checks.case(f"{told}: {why}"):
        checks.close(
            gru_step(x_t, h, torch.zeros(6, 1), torch.zeros(6, 2), b_ih, b_hh),
            expected,
            what="the new state",
            suspects={
                "z is inverted: z = 1 keeps the old state, z = 0 takes n": n if z > 0 else h,
                "r must multiply the bias b_hn too, and nothing else": torch.tanh(read + kept),
                "r multiplies the input's part too; it belongs to the state's alone": torch.tanh(
                    (r > 0) * (read + kept)
                ),
            },
            hint="h_t = (1 − z) ⊙ n + z ⊙ h, and the rows lie in the order r, z, n",
        )

# %% check="gru_step__by_hand" points=2
x_t, h = torch.tensor([1.0, -0.5]), torch.tensor([0.5, -1.25])
W_ih = torch.tensor([[-0.5, -1.0], [-0.25, -1.25], [1.0, -0.25],
                     [-0.75, -1.0], [-1.25, 2.0], [-1.0, -0.75]])  # fmt: skip
W_hh = torch.tensor([[2.25, 1.25], [0.0, 1.0], [1.0, 1.5],
                     [-1.0, -0.75], [0.5, 0.5], [-1.0, -0.75]])  # fmt: skip
b_ih = torch.tensor([0.75, -0.75, 0.375, 1.0, 1.125, 0.125])
b_hh = torch.tensor([0.375, 0.25, 0.75, -0.5, -0.125, 1.0])
wrong = {
    "z is inverted: z = 1 keeps the old state": [-0.4861, -0.5559],
    "the order of the gates is r, z, n, not z, r, n": [0.0312, 0.0888],
    "the order of the gates is r, z, n, not r, n, z": [0.7462, -0.7216],
    "the gates lie in blocks of D rows, but yours take every third": [0.7352, 0.1513],
    "the state was reset before the product, as in the paper; here it is after": [0.1067, -0.7173],
    "r multiplies the bias b_hn too, but yours stands outside": [0.0866, -0.6549],
    "r multiplies the input's part too; it belongs to the state's alone": [0.1194, -0.7692],
    "the reset gate is not used": [0.0806, -0.5862],
    "the candidate n does not see the old state": [0.1148, -0.9864],
    "n is a sigmoid; it should be tanh": [0.4084, -0.682],
    "n has no tanh": [-0.076, -0.902],
    "both biases are missing": [-0.334, -0.8916],
    "b_hh is missing": [-0.1432, -1.0522],
    "b_ih is missing": [-0.0612, -0.5993],
    "this is the candidate n; z mixes it with the old state": [-0.8972, -0.2069],
    "the candidate was added to all of the old state": [0.236, -1.3192],
}
with checks.case("I = D = 2, both biases", "W (3D, I) maps x (…, I) to x @ W.T (…, 3D)"):
    checks.close(
        gru_step(x_t, h, W_ih, W_hh, b_ih, b_hh),
        torch.tensor([0.0889, -0.901]),
        what="the new state",
        atol=2e-4,
        suspects={told: torch.tensor(row) for told, row in wrong.items()},
        hint="n = tanh(n_x + r ⊙ n_h), where n_h = W_hn h + b_hn; then (1 − z) ⊙ n + z ⊙ h",
    )

# %% check="gru_step__inputs" points=1
# Hidden: other shapes, one bias at a time, arguments left alone.
### BEGIN HIDDEN TESTS
from lookback.recurrent import gru_step as _reference

generator = torch.Generator().manual_seed(1)
for batch, wide, width, dtype in [
    ((), 1, 1, torch.float32),
    ((3,), 4, 2, torch.float32),
    ((3,), 3, 3, torch.float64),
    ((2, 3), 2, 5, torch.float32),
    ((2, 1, 2), 3, 2, torch.bfloat16),
]:
    shapes = (*batch, 2 * wide), (width, *batch), (wide, 3 * width), (3 * width, width)
    x_t, h, W_ih, W_hh = (torch.randn(s, generator=generator).to(dtype) for s in shapes)
    x_t, h, W_ih = x_t[..., ::2], h.movedim(0, -1), W_ih.T  # views
    bias = torch.randn(3 * width, generator=generator).to(dtype)
    for biases in [{}, {"b_ih": bias}, {"b_hh": bias}]:
        given = ", ".join(biases) or "no bias"
        told = f"x_t {tuple(x_t.shape)}, h {tuple(h.shape)}, {dtype}, {given}"
        with (
            checks.case(told, "cut the last axis into three; a bias may be None"),
            checks.unchanged(x_t=x_t, h=h, W_ih=W_ih, W_hh=W_hh, bias=bias),
        ):
            new = gru_step(x_t, h, W_ih, W_hh, **biases)
        with checks.case(told):
            checks.close(new, _reference(x_t, h, W_ih, W_hh, **biases), what="the new state")
### END HIDDEN TESTS

# %% check="gru_step__gradient" points=1
# Hidden: gradients in float64, over two steps.
### BEGIN HIDDEN TESTS
from lookback.recurrent import gru_step as _reference

generator = torch.Generator().manual_seed(2)
shapes = {"x_t": (2, 3), "h": (2, 2), "W_ih": (6, 3), "W_hh": (6, 2), "b_ih": (6,), "b_hh": (6,)}
inputs = {
    name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    for name, shape in shapes.items()
}
x_t, h, *weights = inputs.values()
checks.gradients(
    gru_step(x_t, gru_step(x_t, h, *weights), *weights),
    _reference(x_t, _reference(x_t, h, *weights), *weights),
    inputs,
    what="the new state, after two steps,",
    hint="let torch follow every step: no detach, no .data, no numbers in between",
)
### END HIDDEN TESTS

# %% [markdown]
# ## All of it at once
#
# This cell has no points. It starts tanh networks of width 16 from your orthogonal matrices, reads
# 50 small random inputs, and prints how much of a gradient is left at some distances. Then it asks
# the same of the cell of an LSTM, for two biases of its forget gate.

# %%
torch.manual_seed(0)
print("what is left after     1 step   10 steps   50 steps")
for gain in (0.9, 1.0, 1.2):
    W_hh = orthogonal_init(16, 16, gain)
    h, states = torch.zeros(16), []
    for _ in range(50):
        h = torch.tanh(W_hh @ h + 0.1 * torch.randn(16))
        states.append(h)
    norms = gradient_norm_by_distance(rnn_jacobian(torch.stack(states), W_hh))
    print(f"tanh, gain {gain}       {norms[1]:9.2g}  {norms[10]:9.2g}  {norms[50]:9.2g}")

for forget in (1.0, 4.0):
    W_ih, W_hh = 0.1 * torch.randn(64, 16), orthogonal_init(64, 16, 0.1)
    bias = torch.zeros(64)
    bias[16:32] = forget
    left = []
    for steps in (1, 10, 50):
        start = torch.zeros(16, requires_grad=True)
        h, c = torch.zeros(16), start
        for _ in range(steps):
            h, c = lstm_step(0.1 * torch.randn(16), (h, c), W_ih, W_hh, bias)
        (gradient,) = torch.autograd.grad(c[0], start)
        left.append(gradient.norm())
    print(f"LSTM, forget bias {forget:.0f}  {left[0]:9.2g}  {left[1]:9.2g}  {left[2]:9.2g}")
