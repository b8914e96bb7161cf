"""Known answers to exercise 02: wrong ones with what each must be told, right ones to accept."""

from proctor.answers import Misconception, RightAnswer

_JACOBIAN = (
    Misconception(
        name="weights the other way round",
        task="rnn_jacobian",
        fails="rnn_jacobian__by_hand",
        told="W_hh is transposed",
        edit=(("* W_hh", "* W_hh.T"),),
    ),
    Misconception(
        name="slope left out",
        task="rnn_jacobian",
        fails="rnn_jacobian__saturated",
        told="the slope of tanh is left out",
        edit=(("slope = 1 - h_t**2", "slope = torch.ones_like(h_t)"),),
    ),
    Misconception(
        name="slopes along the columns",
        task="rnn_jacobian",
        fails="rnn_jacobian__by_hand",
        told="the slopes multiply columns",
        edit=(("slope[..., None] * W_hh", "slope[..., None, :] * W_hh"),),
    ),
    Misconception(
        name="old states in the rows",
        task="rnn_jacobian",
        fails="rnn_jacobian__by_hand",
        told="it is transposed",
        edit=(("return slope[..., None] * W_hh", "return (slope[..., None] * W_hh).mT"),),
    ),
    Misconception(
        name="slope of a sigmoid",
        task="rnn_jacobian",
        fails="rnn_jacobian__by_hand",
        told="is the slope of a sigmoid",
        edit=(("1 - h_t**2", "h_t * (1 - h_t)"),),
    ),
    Misconception(
        name="tanh of the state again",
        task="rnn_jacobian",
        fails="rnn_jacobian__by_hand",
        told="h_t is its result already",
        edit=(("h_t**2", "h_t.tanh() ** 2"),),
    ),
    Misconception(
        name="one state at a time",
        task="rnn_jacobian",
        fails="rnn_jacobian__batch",
        told="each state of the batch has a matrix of its own",
        edit=(("slope[..., None] * W_hh", "torch.diag(slope) @ W_hh"),),
    ),
)

_DISTANCE = (
    Misconception(
        name="the earlier step on the left",
        task="gradient_norm_by_distance",
        fails="gradient_norm_by_distance__by_hand",
        told="the factors stand in the wrong order",
        edit=(("product @ jacobian", "jacobian @ product"),),
    ),
    Misconception(
        name="forward from the first step",
        task="gradient_norm_by_distance",
        fails="gradient_norm_by_distance__by_hand",
        told="the walk begins at J_1; it goes back from the end",
        edit=(("jacobians.flip(0)", "jacobians"), ("product @ jacobian", "jacobian @ product")),
    ),
    Misconception(
        name="Frobenius norm",
        task="gradient_norm_by_distance",
        fails="gradient_norm_by_distance__by_hand",
        told="Frobenius",
        edit=((", ord=2", ""),),
    ),
    Misconception(
        name="product of the norms",
        task="gradient_norm_by_distance",
        fails="gradient_norm_by_distance__by_hand",
        told="the norms were multiplied, not the matrices",
        answer="""
def gradient_norm_by_distance(jacobians):
    norms = torch.linalg.matrix_norm(jacobians.flip(0), ord=2)
    return torch.cat([torch.ones_like(norms[:1]), norms]).cumprod(0)
""",
    ),
    Misconception(
        name="entry by entry",
        task="gradient_norm_by_distance",
        fails="gradient_norm_by_distance__by_hand",
        told="multiplied entry by entry",
        edit=(("product @ jacobian", "jacobian if len(products) == 1 else product * jacobian"),),
    ),
    Misconception(
        name="distance begins at one",
        task="gradient_norm_by_distance",
        fails="gradient_norm_by_distance__by_hand",
        told="distance 0 is missing",
        edit=(("products = [product]", "products = []"),),
    ),
    Misconception(
        name="eigenvalues for singular values",
        task="gradient_norm_by_distance",
        fails="gradient_norm_by_distance__by_hand",
        told="the largest eigenvalues",
        edit=(
            (
                "torch.linalg.matrix_norm(torch.stack(products), ord=2)",
                "torch.linalg.eigvals(torch.stack(products)).abs().amax(-1)",
            ),
        ),
    ),
    Misconception(
        name="no batch of runs",
        task="gradient_norm_by_distance",
        fails="gradient_norm_by_distance__batch",
        told="time is the first axis",
        edit=(("    product = torch", "    T, D, D = jacobians.shape\n    product = torch"),),
    ),
    Misconception(
        name="small numbers are nothing",
        task="gradient_norm_by_distance",
        fails="gradient_norm_by_distance__far",
        told="it is tiny, but it is not 0",
        edit=(
            ("product = product @ jacobian", "product = (product @ jacobian).round(decimals=6)"),
        ),
    ),
)

_CLIPPING = (
    Misconception(
        name="every tensor by itself",
        task="clip_by_global_norm",
        fails="clip_by_global_norm__by_hand",
        told="each tensor was clipped by itself",
        answer="""
def clip_by_global_norm(gradients, max_norm):
    length = torch.cat([g.flatten() for g in gradients if g is not None]).norm()
    clipped = [
        None if g is None else g * (max_norm / (g.norm() + 1e-6)).clamp(max=1.0) for g in gradients
    ]
    return clipped, length
""",
    ),
    Misconception(
        name="every number by itself",
        task="clip_by_global_norm",
        fails="clip_by_global_norm__by_hand",
        told="each number was clipped by itself",
        edit=(("else g * factor", "else g.clamp(-max_norm, max_norm)"),),
    ),
    Misconception(
        name="root forgotten",
        task="clip_by_global_norm",
        fails="clip_by_global_norm__by_hand",
        told="the length is missing its root",
        edit=((".sum().sqrt()", ".sum()"),),
    ),
    Misconception(
        name="lengths added",
        task="clip_by_global_norm",
        fails="clip_by_global_norm__by_hand",
        told="the lengths were added",
        edit=(("g.square().sum()", "g.norm()"), (".sum().sqrt()", ".sum()")),
    ),
    Misconception(
        name="length after clipping",
        task="clip_by_global_norm",
        fails="clip_by_global_norm__by_hand",
        told="this is the length after clipping",
        edit=(("for g in gradients], length", "for g in gradients], length * factor"),),
    ),
    Misconception(
        name="always rescaled",
        task="clip_by_global_norm",
        fails="clip_by_global_norm__short",
        told="it was made longer",
        edit=((".clamp(max=1.0)", ""),),
    ),
    Misconception(
        name="nothing divided by nothing",
        task="clip_by_global_norm",
        fails="clip_by_global_norm__odd",
        told="0 divided by 0 is NaN",
        edit=(
            ("max_norm / (length + 1e-6)).clamp(max=1.0)", "length.clamp(max=max_norm) / length)"),
        ),
    ),
    Misconception(
        name="every parameter has a gradient",
        task="clip_by_global_norm",
        fails="clip_by_global_norm__odd",
        told="leave None out of the length",
        edit=((" for g in gradients if g is not None]", " for g in gradients]"),),
    ),
    Misconception(
        name="gradients clipped in place",
        task="clip_by_global_norm",
        fails="clip_by_global_norm__direction",
        told="in place",
        edit=(("else g * factor", "else g.mul_(factor)"),),
    ),
)

_START = (
    Misconception(
        name="small random numbers",
        task="orthogonal_init",
        fails="orthogonal_init__square",
        told="the columns must be 1 long and at right angles",
        edit=(("    Q = Q * R.diagonal().sign()", "    Q = A / max(rows, columns) ** 0.5"),),
    ),
    Misconception(
        name="columns one long",
        task="orthogonal_init",
        fails="orthogonal_init__square",
        told="do not stand at right angles",
        edit=(("    Q = Q * R.diagonal().sign()", "    Q = A / A.norm(dim=0)"),),
    ),
    Misconception(
        name="the identity is orthogonal too",
        task="orthogonal_init",
        fails="orthogonal_init__square",
        told="this is the identity",
        answer="""
def orthogonal_init(rows, columns, gain=1.0, generator=None):
    return gain * torch.eye(rows, columns)
""",
    ),
    Misconception(
        name="a wide matrix left tall",
        task="orthogonal_init",
        fails="orthogonal_init__shapes",
        told="the last two axes are swapped",
        edit=(("(Q if rows >= columns else Q.T)", "Q"),),
    ),
    Misconception(
        name="wide matrices forgotten",
        task="orthogonal_init",
        fails="orthogonal_init__shapes",
        told="transpose it where a wide one is asked for",
        edit=(
            ("max(rows, columns), min(rows, columns)", "rows, columns"),
            ("(Q if rows >= columns else Q.T)", "Q"),
        ),
    ),
    Misconception(
        name="gain before the decomposition",
        task="orthogonal_init",
        fails="orthogonal_init__shapes",
        told="the gain is missing",
        edit=(("torch.linalg.qr(A)", "torch.linalg.qr(gain * A)"), ("gain * (Q", "(Q")),
    ),
    Misconception(
        name="generator not handed on",
        task="orthogonal_init",
        fails="orthogonal_init__random",
        told="hand the generator on to torch.randn",
        edit=((", generator=generator)", ")"),),
    ),
    Misconception(
        name="signs as the algorithm leaves them",
        task="orthogonal_init",
        fails="orthogonal_init__even",
        told="multiply them by the signs of R's diagonal",
        edit=(("    Q = Q * R.diagonal().sign()\n", ""),),
    ),
)

_TRUNCATION = (
    Misconception(
        name="the state is zeroed at a cut",
        task="truncated_bptt",
        fails="truncated_bptt__forward",
        told="forwards nothing may change",
        edit=(("h = h.detach()", "h = torch.zeros_like(h)"),),
    ),
    Misconception(
        name="every chunk begins again",
        task="truncated_bptt",
        fails="truncated_bptt__forward",
        told="every chunk starts from h_0",
        edit=(("h = h.detach()", "h = h_0.detach()"),),
    ),
    Misconception(
        name="nothing is cut",
        task="truncated_bptt",
        fails="truncated_bptt__table",
        told="nothing was cut",
        edit=(("h = h.detach()", "h = h.clone()"),),
    ),
    Misconception(
        name="every step is cut",
        task="truncated_bptt",
        fails="truncated_bptt__table",
        told="every step was cut",
        edit=(("if t > 0 and t % k == 0", "if t > 0"),),
    ),
    Misconception(
        name="the cut comes late",
        task="truncated_bptt",
        fails="truncated_bptt__table",
        told="the cuts come one step late",
        edit=(("if t > 0 and t % k == 0", "if t > k - 1 and t % k == 1 % k"),),
    ),
    Misconception(
        name="the cut comes early",
        task="truncated_bptt",
        fails="truncated_bptt__table",
        told="the cuts come one step early",
        edit=(("t % k == 0", "(t + 1) % k == 0"),),
    ),
    Misconception(
        name="the stored state is cut",
        task="truncated_bptt",
        fails="truncated_bptt__table",
        told="the stored state was cut too",
        edit=(
            ("if t > 0 and t % k == 0", "if t < 0"),
            ("states.append(h)", "h = h if (t + 1) % k else h.detach()\n        states.append(h)"),
        ),
    ),
    Misconception(
        name="the stored state is cut, and early",
        task="truncated_bptt",
        fails="truncated_bptt__table",
        told="the stored state was cut too, and the cuts come one step early",
        edit=(
            ("if t > 0 and t % k == 0", "if t < 0"),
            ("states.append(h)", "h = h if t % k else h.detach()\n        states.append(h)"),
        ),
    ),
    Misconception(
        name="a window of k steps for each state",
        task="truncated_bptt",
        fails="truncated_bptt__table",
        told="each state sees its last k steps",
        answer="""
def truncated_bptt(step, x, h_0, k):
    trail, states = [h_0], []
    for t in range(x.shape[-2]):
        start = max(t - k + 1, 0)
        h = trail[start] if start == 0 else trail[start].detach()
        for s in range(start, t + 1):
            h = step(x[..., s, :], h)
        states.append(h)
        trail.append(h.detach())
    return torch.stack(states, -2)
""",
    ),
    Misconception(
        name="the start is cut off",
        task="truncated_bptt",
        fails="truncated_bptt__start",
        told="no gradient reaches h_0",
        edit=(("if t > 0 and t % k == 0", "if t % k == 0"),),
    ),
)

_LSTM = (
    Misconception(
        name="forget gate first",
        task="lstm_step",
        fails="lstm_step__by_hand",
        told="not f, i, g, o",
        edit=(("i, f, g, o = total", "f, i, g, o = total"),),
    ),
    Misconception(
        name="forget gate first and candidate last",
        task="lstm_step",
        fails="lstm_step__by_hand",
        told="not f, i, o, g",
        edit=(("i, f, g, o = total", "f, i, o, g = total"),),
    ),
    Misconception(
        name="candidate last",
        task="lstm_step",
        fails="lstm_step__by_hand",
        told="not i, f, o, g",
        edit=(("i, f, g, o = total", "i, f, o, g = total"),),
    ),
    Misconception(
        name="gates interleaved",
        task="lstm_step",
        fails="lstm_step__by_hand",
        told="the gates lie in blocks of D rows",
        edit=(("total.chunk(4, -1)", "total.unflatten(-1, (-1, 4)).unbind(-1)"),),
    ),
    Misconception(
        name="the cell is shown as it is",
        task="lstm_step",
        fails="lstm_step__by_hand",
        told="tanh is missing",
        edit=(("* c.tanh(), c", "* c, c"),),
    ),
    Misconception(
        name="what is not forgotten is written",
        task="lstm_step",
        fails="lstm_step__by_hand",
        told="1 − f was taken for the input gate",
        edit=(("i.sigmoid() * g", "(1 - f.sigmoid()) * g"),),
    ),
    Misconception(
        name="every gate a sigmoid",
        task="lstm_step",
        fails="lstm_step__by_hand",
        told="g is a sigmoid",
        edit=(("g.tanh()", "g.sigmoid()"),),
    ),
    Misconception(
        name="cell before state",
        task="lstm_step",
        fails="lstm_step__by_hand",
        told="yours is (c_t, h_t)",
        edit=(("return o.sigmoid() * c.tanh(), c", "return c, o.sigmoid() * c.tanh()"),),
    ),
    Misconception(
        name="only the state is returned",
        task="lstm_step",
        fails="lstm_step__gates",
        told="return the pair (h_t, c_t)",
        edit=(("c.tanh(), c", "c.tanh()"),),
    ),
    Misconception(
        name="the cell is overwritten",
        task="lstm_step",
        fails="lstm_step__inputs",
        told="changed its argument c in place",
        edit=(("c = f.sigmoid() * c + i", "c = c.mul_(f.sigmoid()) + i"),),
    ),
)

_GRU = (
    Misconception(
        name="z lets the new in",
        task="gru_step",
        fails="gru_step__gates",
        told="z is inverted",
        edit=(("(1 - z) * n + z * h", "z * n + (1 - z) * h"),),
    ),
    Misconception(
        name="reset before the product",
        task="gru_step",
        fails="gru_step__by_hand",
        told="the state was reset before the product",
        edit=(
            (
                "n = torch.tanh(n_x + r * n_h)",
                "n_h = (r * h) @ W_hh.chunk(3)[2].T\n"
                "    if b_hh is not None:\n"
                "        n_h = n_h + b_hh.chunk(3)[2]\n"
                "    n = torch.tanh(n_x + n_h)",
            ),
        ),
    ),
    Misconception(
        name="update gate first",
        task="gru_step",
        fails="gru_step__by_hand",
        told="not z, r, n",
        edit=(
            ("r_x, z_x, n_x = from_input", "z_x, r_x, n_x = from_input"),
            ("r_h, z_h, n_h = from_state", "z_h, r_h, n_h = from_state"),
        ),
    ),
    Misconception(
        name="everything added first",
        task="gru_step",
        fails="gru_step__by_hand",
        told="r multiplies the input's part too",
        edit=(("n_x + r * n_h", "r * (n_x + n_h)"),),
    ),
    Misconception(
        name="bias outside the reset gate",
        task="gru_step",
        fails="gru_step__by_hand",
        told="r multiplies the bias b_hn too",
        edit=(
            (
                "n_x + r * n_h",
                "n_x + r * (h @ W_hh.chunk(3)[2].T) + (0 if b_hh is None else b_hh.chunk(3)[2])",
            ),
        ),
    ),
    Misconception(
        name="reset gate unused",
        task="gru_step",
        fails="gru_step__by_hand",
        told="the reset gate is not used",
        edit=(("n_x + r * n_h", "n_x + n_h"),),
    ),
    Misconception(
        name="biases are always there",
        task="gru_step",
        fails="gru_step__inputs",
        told="a bias may be None",
        edit=(
            ("    if b_ih is not None:\n        from_input", "    from_input"),
            ("    if b_hh is not None:\n        from_state", "    from_state"),
        ),
    ),
    Misconception(
        name="the old state is data",
        task="gru_step",
        fails="gru_step__gradient",
        told="no detach",
        edit=(("+ z * h", "+ z * h.detach()"),),
    ),
)

MISCONCEPTIONS: tuple[Misconception, ...] = (
    *_JACOBIAN,
    *_DISTANCE,
    *_CLIPPING,
    *_START,
    *_TRUNCATION,
    *_LSTM,
    *_GRU,
)

RIGHT_ANSWERS: tuple[RightAnswer, ...] = (
    RightAnswer(
        name="a product with a diagonal matrix",
        task="rnn_jacobian",
        answer="""
def rnn_jacobian(h_t, W_hh):
    return torch.diag_embed(1 - h_t.square()) @ W_hh
""",
    ),
    RightAnswer(
        name="one row at a time",
        task="rnn_jacobian",
        answer="""
def rnn_jacobian(h_t, W_hh):
    rows = [(1 + h_t[..., m : m + 1]) * (1 - h_t[..., m : m + 1]) * w for m, w in enumerate(W_hh)]
    return torch.stack(rows, dim=-2)
""",
    ),
    RightAnswer(
        name="einsum",
        task="rnn_jacobian",
        answer="""
def rnn_jacobian(h_t, W_hh):
    return torch.einsum("...m,mn->...mn", 1 - h_t * h_t, W_hh)
""",
    ),
    RightAnswer(
        name="singular values of products in a list",
        task="gradient_norm_by_distance",
        answer="""
def gradient_norm_by_distance(jacobians):
    *batch, D, _ = jacobians.shape[1:]
    product = torch.diag(jacobians.new_ones(D)).repeat(*batch, 1, 1)
    norms = [torch.linalg.svdvals(product)[..., 0]]
    for t in range(len(jacobians) - 1, -1, -1):
        product = torch.matmul(product, jacobians[t])
        norms.append(torch.linalg.svdvals(product).amax(dim=-1))
    return torch.stack(norms)
""",
    ),
    RightAnswer(
        name="transposed products from the other side",
        task="gradient_norm_by_distance",
        answer="""
from itertools import accumulate


def gradient_norm_by_distance(jacobians):
    one = torch.eye(jacobians.shape[-1]).to(jacobians).expand(jacobians.shape[1:])
    backwards = [jacobian.mT for jacobian in reversed(list(jacobians))]
    products = accumulate(backwards, lambda product, J: J @ product, initial=one)
    return torch.stack([torch.linalg.norm(p, ord=2, dim=(-2, -1)) for p in products])
""",
    ),
    RightAnswer(
        name="a new product for every distance",
        task="gradient_norm_by_distance",
        answer="""
import functools


def gradient_norm_by_distance(jacobians):
    T = len(jacobians)
    norms = [torch.ones(jacobians.shape[1:-2], dtype=jacobians.dtype)]
    for k in range(1, T + 1):
        product = functools.reduce(lambda a, b: b @ a, jacobians[T - k :])
        norms.append(torch.linalg.svd(product).S[..., 0])
    return torch.stack(norms)
""",
    ),
    RightAnswer(
        name="one long vector",
        task="clip_by_global_norm",
        answer="""
def clip_by_global_norm(gradients, max_norm):
    length = torch.cat([g.reshape(-1) for g in gradients if g is not None]).norm()
    if length <= max_norm:
        return [None if g is None else g.clone() for g in gradients], length
    return [g if g is None else g * max_norm / length for g in gradients], length
""",
    ),
    RightAnswer(
        name="a sum of Python's numbers",
        task="clip_by_global_norm",
        answer="""
import math


def clip_by_global_norm(gradients, max_norm):
    total = 0.0
    for g in gradients:
        if g is not None:
            total += float((g.double() ** 2).sum())
    length = math.sqrt(total)
    factor = min(1.0, max_norm / length) if length > 0 else 1.0
    return tuple(None if g is None else factor * g for g in gradients), length
""",
    ),
    RightAnswer(
        name="length of the lengths",
        task="clip_by_global_norm",
        answer="""
def clip_by_global_norm(gradients, max_norm):
    lengths = [torch.linalg.vector_norm(g) for g in gradients if g is not None]
    length = torch.linalg.vector_norm(torch.stack(lengths))
    divisor = torch.clamp(length / max_norm, min=1.0)
    clipped = []
    for g in gradients:
        clipped.append(g / divisor if g is not None else None)
    return clipped, length
""",
    ),
    RightAnswer(
        name="Gram and Schmidt",
        task="orthogonal_init",
        answer="""
def orthogonal_init(rows, columns, gain=1.0, generator=None):
    tall, narrow = sorted((rows, columns), reverse=True)
    basis = []
    for vector in torch.randn(narrow, tall, generator=generator, dtype=torch.float64):
        for other in basis * 2:
            vector = vector - (vector @ other) * other
        basis.append(vector / vector.norm())
    W = gain * torch.stack(basis, dim=1).float()
    return W if rows >= columns else W.T
""",
    ),
    RightAnswer(
        name="singular vectors",
        task="orthogonal_init",
        answer="""
def orthogonal_init(rows, columns, gain=1.0, generator=None):
    A = torch.randn(rows, columns, generator=generator)
    U, _, Vh = torch.linalg.svd(A, full_matrices=False)
    return gain * U @ Vh
""",
    ),
    RightAnswer(
        name="random signs",
        task="orthogonal_init",
        answer="""
def orthogonal_init(rows, columns, gain=1.0, generator=None):
    if rows < columns:
        return orthogonal_init(columns, rows, gain, generator).mT
    Q = torch.linalg.qr(torch.randn(rows, columns, generator=generator)).Q
    signs = torch.randn(columns, generator=generator).sign()
    return Q.mul(signs).mul(gain)
""",
    ),
    RightAnswer(
        name="chunk by chunk",
        task="truncated_bptt",
        answer="""
def truncated_bptt(step, x, h_0, k):
    states, h = [], h_0
    for chunk in x.split(k, dim=-2):
        for x_t in chunk.unbind(-2):
            h = step(x_t, h)
            states.append(h)
        h = h.detach()
    return torch.stack(states, dim=-2)
""",
    ),
    RightAnswer(
        name="starts without gradients first",
        task="truncated_bptt",
        answer="""
def truncated_bptt(step, x, h_0, k):
    T = x.shape[-2]
    starts, h = [h_0], h_0
    with torch.no_grad():
        for t in range(T):
            h = step(x[..., t, :], h)
            if (t + 1) % k == 0:
                starts.append(h)
    states = []
    for t in range(T):
        h = starts[t // k] if t % k == 0 else h
        h = step(x[..., t, :], h)
        states.append(h.unsqueeze(-2))
    return torch.cat(states, dim=-2)
""",
    ),
    RightAnswer(
        name="recursion over chunks",
        task="truncated_bptt",
        answer="""
def truncated_bptt(step, x, h_0, k):
    states = [h_0]
    for x_t in x[..., :k, :].movedim(-2, 0):
        states.append(step(x_t, states[-1]))
    first = torch.stack(states[1:], dim=-2)
    if x.shape[-2] <= k:
        return first
    rest = truncated_bptt(step, x[..., k:, :], states[-1].data, k)
    return torch.cat([first, rest], dim=-2)
""",
    ),
    RightAnswer(
        name="gates one by one",
        task="lstm_step",
        answer="""
def lstm_step(x_t, state, W_ih, W_hh, b_ih=None, b_hh=None):
    h, c = state
    D = h.shape[-1]

    def part(number):
        rows = slice(number * D, (number + 1) * D)
        total = torch.einsum("...i,di->...d", x_t, W_ih[rows]) + h @ W_hh[rows].mT
        if b_ih is not None:
            total = total + b_ih[rows]
        if b_hh is not None:
            total = total + b_hh[rows]
        return total

    c_new = torch.sigmoid(part(1)) * c + torch.sigmoid(part(0)) * torch.tanh(part(2))
    return torch.sigmoid(part(3)) * torch.tanh(c_new), c_new
""",
    ),
    RightAnswer(
        name="linear layers of torch.nn.functional",
        task="lstm_step",
        answer="""
import torch.nn.functional as F


def lstm_step(x_t, state, W_ih, W_hh, b_ih=None, b_hh=None):
    total = F.linear(x_t, W_ih, b_ih) + F.linear(state[0], W_hh, b_hh)
    i, f, g, o = total.unflatten(-1, (4, -1)).unbind(-2)
    c = torch.addcmul(i.sigmoid() * g.tanh(), f.sigmoid(), state[1])
    return [o.sigmoid() * c.tanh(), c]
""",
    ),
    RightAnswer(
        name="sigmoids written as tanh",
        task="lstm_step",
        answer="""
def lstm_step(x_t, state, W_ih, W_hh, b_ih=None, b_hh=None):
    h, c = state
    both = torch.cat([x_t, h], dim=-1) @ torch.cat([W_ih, W_hh], dim=1).T
    both = both if b_ih is None else both + b_ih
    both = both if b_hh is None else both + b_hh
    D = c.shape[-1]
    i, f, g, o = both.split(D, dim=-1)
    open_gates = [(1 + torch.tanh(gate / 2)) / 2 for gate in (i, f, o)]
    c = open_gates[1] * c + open_gates[0] * torch.tanh(g)
    return open_gates[2] * torch.tanh(c), c
""",
    ),
    RightAnswer(
        name="a step from n towards the old state",
        task="gru_step",
        answer="""
import torch.nn.functional as F


def gru_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    r_x, z_x, n_x = F.linear(x_t, W_ih, b_ih).tensor_split(3, dim=-1)
    r_h, z_h, n_h = F.linear(h, W_hh, b_hh).tensor_split(3, dim=-1)
    n = (n_x + torch.sigmoid(r_x + r_h) * n_h).tanh()
    return torch.lerp(n, h, torch.sigmoid(z_x + z_h))
""",
    ),
    RightAnswer(
        name="gates one by one",
        task="gru_step",
        answer="""
def gru_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    D = h.shape[-1]
    zero = torch.zeros(3 * D, dtype=W_hh.dtype)
    b_ih = zero if b_ih is None else b_ih
    b_hh = zero if b_hh is None else b_hh
    read = [x_t @ W_ih[k * D : (k + 1) * D].T + b_ih[k * D : (k + 1) * D] for k in range(3)]
    seen = [h @ W_hh[k * D : (k + 1) * D].T + b_hh[k * D : (k + 1) * D] for k in range(3)]
    r = 1 / (1 + torch.exp(-read[0] - seen[0]))
    z = 1 / (1 + torch.exp(-read[1] - seen[1]))
    n = torch.tanh(read[2] + r * seen[2])
    return n + z * (h - n)
""",
    ),
    RightAnswer(
        name="both gates at once",
        task="gru_step",
        answer="""
def gru_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    D = W_hh.shape[1]
    read, seen = torch.matmul(x_t, W_ih.mT), torch.matmul(h, W_hh.mT)
    read = read if b_ih is None else read.add(b_ih)
    seen = seen if b_hh is None else seen.add(b_hh)
    gates = (read[..., : 2 * D] + seen[..., : 2 * D]).sigmoid()
    n = torch.tanh(read[..., 2 * D :] + gates[..., :D] * seen[..., 2 * D :])
    z = gates[..., D:]
    return torch.where(z == 1, h, n - z * n + z * h)
""",
    ),
)
