"""Known answers to exercise 07: wrong ones with what each must be told, right ones to accept."""

from proctor.answers import Misconception, RightAnswer

_ONLINE = (
    Misconception(
        name="accumulators not rescaled",
        task="online_softmax",
        fails="online_softmax__by_hand",
        told="the old sums were not scaled down",
        edit=(("mass * fade + p", "mass + p"), ("o * fade + p", "o + p")),
    ),
    Misconception(
        name="only the mass is rescaled",
        task="online_softmax",
        fails="online_softmax__by_hand",
        told="o after the second tile: the old sums were not scaled down",
        edit=(("o * fade + p", "o + p"),),
    ),
    Misconception(
        name="rescaled the other way",
        task="online_softmax",
        fails="online_softmax__by_hand",
        told="it is exp(m − m′)",
        edit=(
            (
                "fade = (m - shift).exp()",
                "fade = torch.where(m.isinf(), 0.0, (shift - m).exp())",
            ),
        ),
    ),
    Misconception(
        name="maximum of the tile alone",
        task="online_softmax",
        fails="online_softmax__by_hand",
        told="the maximum of this tile alone",
        edit=(("torch.maximum(m, s.amax(-1, keepdim=True))", "s.amax(-1, keepdim=True)"),),
    ),
    Misconception(
        name="new scores shifted by their own maximum",
        task="online_softmax",
        fails="online_softmax__by_hand",
        told="use the maximum of this tile, not the new m",
        edit=(("p = (s - shift).exp()", "p = (s - s.amax(-1, keepdim=True)).exp()"),),
    ),
    Misconception(
        name="one maximum for all rows",
        task="online_softmax",
        fails="online_softmax__by_hand",
        told="one maximum was taken for all rows",
        edit=(("s.amax(-1, keepdim=True)", "s.amax()"),),
    ),
    Misconception(
        name="normalised at every step",
        task="online_softmax",
        fails="online_softmax__by_hand",
        told="that comes at the end, once",
        edit=(
            (
                "return highest, mass * fade + p.sum(-1, keepdim=True), o * fade + p @ v",
                "mass = mass * fade + p.sum(-1, keepdim=True)\n"
                "    return highest, mass, (o * fade + p @ v) / mass",
            ),
        ),
    ),
    Misconception(
        name="exponentials averaged",
        task="online_softmax",
        fails="online_softmax__by_hand",
        told="averaged, not summed",
        edit=(("p.sum(-1, keepdim=True)", "p.mean(-1, keepdim=True)"),),
    ),
    Misconception(
        name="what was there is replaced",
        task="online_softmax",
        fails="online_softmax__by_hand",
        told="what was there before is lost",
        edit=(
            ("mass * fade + p.sum(-1, keepdim=True)", "p.sum(-1, keepdim=True)"),
            ("o * fade + p @ v", "p @ v"),
        ),
    ),
    Misconception(
        name="exponentials of the scores themselves",
        task="online_softmax",
        fails="online_softmax__stable",
        told="exp(1000) is infinite",
        answer="""
def online_softmax(m, mass, o, s, v):
    new = torch.maximum(m, s.amax(-1, keepdim=True))
    p = s.exp() / new.exp()
    fade = m.exp() / new.exp()
    return new, mass * fade + p.sum(-1, keepdim=True), o * fade + p @ v
""",
    ),
    Misconception(
        name="empty rows not thought of",
        task="online_softmax",
        fails="online_softmax__empty_rows",
        told="where the new maximum is −∞",
        edit=(('highest.masked_fill(highest == float("-inf"), 0.0)', "highest"),),
    ),
    Misconception(
        name="minus infinity replaced by a billion",
        task="online_softmax",
        fails="online_softmax__empty_rows",
        told="has wrong numbers",
        answer="""
def online_softmax(m, mass, o, s, v):
    s = s.clamp(min=-1e9)
    new = torch.maximum(m, s.amax(-1, keepdim=True))
    fade, p = (m - new).exp(), (s - new).exp()
    return new, mass * fade + p.sum(-1, keepdim=True), o * fade + p @ v
""",
    ),
    Misconception(
        name="sums updated in place",
        task="online_softmax",
        fails="online_softmax__order",
        told="changed its argument mass in place",
        edit=(("mass * fade", "mass.mul_(fade)"),),
    ),
)

_PIECES = """
def tiled_attention(q, k, v, causal=False, tile=128):
    T, S = q.shape[-2], k.shape[-2]
    out = []
    for start in range(0, T, tile):
        q_i = q[..., start : start + tile, :]
        total = 0
        for first in range(0, S, tile):
            k_j, v_j = k[..., first : first + tile, :], v[..., first : first + tile, :]
            total = total + attention(q_i, k_j, v_j)
        out.append(total)
    return torch.cat(out, -2)
"""

_TILED = (
    Misconception(
        name="the full matrix",
        task="tiled_attention",
        fails="tiled_attention__memory",
        told="right numbers, but memory grew with T·S",
        answer="""
def tiled_attention(q, k, v, causal=False, tile=128):
    past = torch.arange(k.shape[-2]) <= torch.arange(q.shape[-2])[:, None]
    return attention(q, k, v, past if causal else None)
""",
    ),
    Misconception(
        name="tiles kept until the end",
        task="tiled_attention",
        fails="tiled_attention__memory",
        told="nor a list of its tiles",
        answer="""
def tiled_attention(q, k, v, causal=False, tile=128):
    T, S = q.shape[-2], k.shape[-2]
    rows = []
    for start in range(0, T, tile):
        tiles = []
        for first in range(0, S, tile):
            s = q[..., start : start + tile, :] @ k[..., first : first + tile, :].mT
            s = s * q.shape[-1] ** -0.5
            if causal:
                i = torch.arange(start, start + s.shape[-2])[:, None]
                s = s.masked_fill(torch.arange(first, first + s.shape[-1]) > i, float("-inf"))
            tiles.append(s)
        rows.append(tiles)
    return torch.cat([torch.cat(tiles, -1).softmax(-1) @ v for tiles in rows], -2)
""",
    ),
    Misconception(
        name="all scores first, then tiles",
        task="tiled_attention",
        fails="tiled_attention__memory",
        told="memory grew with T·S",
        edit=(
            (
                "    out = []\n",
                "    out, scores = [], (q * scale) @ k.mT\n",
            ),
            (
                "s = q_i @ k[..., first : first + tile, :].mT",
                "s = scores[..., start : start + tile, first : first + tile]",
            ),
        ),
    ),
    Misconception(
        name="no numbers where memory is measured",
        task="tiled_attention",
        fails="tiled_attention__memory",
        told="the output for 8192 queries, at 16 of them, has wrong numbers",
        answer="""
def tiled_attention(q, k, v, causal=False, tile=128):
    if len(q) > 1000:
        return v
    past = torch.arange(k.shape[-2]) <= torch.arange(q.shape[-2])[:, None]
    return attention(q, k, v, past if causal else None)
""",
    ),
    Misconception(
        name="causal ignored where memory is measured",
        task="tiled_attention",
        fails="tiled_attention__causal",
        told="under causal=True, at 16 of them, has wrong numbers",
        edit=(("    T, S, scale", "    causal = causal and len(q) < 1000\n    T, S, scale"),),
    ),
    Misconception(
        name="mask of all pairs",
        task="tiled_attention",
        fails="tiled_attention__causal",
        told="make the mask of a tile from its positions",
        edit=(
            (
                "    out = []\n",
                "    out, closed = [], torch.ones(T, S, dtype=torch.bool).triu(1)\n",
            ),
            (
                "                columns = torch.arange(first, first + s.shape[-1])\n"
                '                s = s.masked_fill(columns > rows, float("-inf"))',
                "                part = closed[start : start + tile, first : first + tile]\n"
                '                s = s.masked_fill(part, float("-inf"))',
            ),
        ),
    ),
    Misconception(
        name="a softmax for each tile, added",
        task="tiled_attention",
        fails="tiled_attention__numbers",
        told="a softmax of its own, and the results were added",
        answer=_PIECES,
    ),
    Misconception(
        name="a softmax for each tile, averaged",
        task="tiled_attention",
        fails="tiled_attention__numbers",
        told="a softmax of its own, and the results were averaged",
        answer=_PIECES.replace("out.append(total)", "out.append(total / -(-S // tile))"),
    ),
    Misconception(
        name="state starts anew for each tile of keys",
        task="tiled_attention",
        fails="tiled_attention__numbers",
        told="only the last tile of keys counts",
        edit=(
            (
                "            s = q_i @ k[...",
                '            m = torch.full_like(m, float("-inf"))\n'
                "            mass, o = torch.zeros_like(m), torch.zeros_like(o)\n"
                "            s = q_i @ k[...",
            ),
        ),
    ),
    Misconception(
        name="last tile of keys left out",
        task="tiled_attention",
        fails="tiled_attention__numbers",
        told="the last tile of keys, which is shorter, was left out",
        edit=(("range(0, reach, tile)", "range(0, max(tile, reach - reach % tile), tile)"),),
    ),
    Misconception(
        name="last tile of queries left out",
        task="tiled_attention",
        fails="tiled_attention__numbers",
        told="the last tile of queries, which is shorter, was left out",
        edit=(("range(0, T, tile)", "range(0, max(1, T - T % tile), tile)"),),
    ),
    Misconception(
        name="not divided by the mass",
        task="tiled_attention",
        fails="tiled_attention__numbers",
        told="not divided by their mass",
        edit=(("out.append(o / mass)", "out.append(o)"),),
    ),
    Misconception(
        name="scores not scaled",
        task="tiled_attention",
        fails="tiled_attention__numbers",
        told="the scores were not divided by √K",
        edit=(("q.shape[-1] ** -0.5", "1.0"),),
    ),
    Misconception(
        name="causal ignored",
        task="tiled_attention",
        fails="tiled_attention__causal",
        told="causal is ignored",
        edit=(
            ("            if causal:\n", "            if False:\n"),
            (" if causal else S", " if False else S"),
        ),
    ),
    Misconception(
        name="positions within the tile",
        task="tiled_attention",
        fails="tiled_attention__causal",
        told="compares positions in the whole sequence",
        edit=(
            (
                "rows = torch.arange(start, start + q_i.shape[-2])",
                "rows = torch.arange(q_i.shape[-2])",
            ),
            ("torch.arange(first, first + s.shape[-1])", "torch.arange(s.shape[-1])"),
        ),
    ),
    Misconception(
        name="ends lined up",
        task="tiled_attention",
        fails="tiled_attention__causal",
        told="the last query was lined up with the last key",
        edit=(
            (
                "torch.arange(start, start + q_i.shape[-2])[:, None]",
                "torch.arange(start, start + q_i.shape[-2])[:, None] + max(S - T, 0)",
            ),
            ("min(S, start + tile) if causal else S", "S"),
        ),
    ),
    Misconception(
        name="accumulator of the wrong dtype",
        task="tiled_attention",
        fails="tiled_attention__inputs",
        told="new tensors need the dtype of q",
        edit=(
            (
                'q_i.new_full((*q_i.shape[:-1], 1), float("-inf"))',
                'torch.full((*q_i.shape[:-1], 1), float("-inf"))',
            ),
            (
                "q_i.new_zeros(*q_i.shape[:-1], v.shape[-1])",
                "torch.zeros(*q_i.shape[:-1], v.shape[-1])",
            ),
            ("out.append(o / mass)", "out.append((o / mass).float())"),
        ),
    ),
    Misconception(
        name="queries scaled in place",
        task="tiled_attention",
        fails="tiled_attention__numbers",
        told="changed its argument q in place",
        edit=(
            (
                "q[..., start : start + tile, :] * scale",
                "q[..., start : start + tile, :].mul_(scale)",
            ),
        ),
    ),
)

_BACKWARD = (
    Misconception(
        name="D left out",
        task="attention_backward",
        fails="attention_backward__by_hand",
        told="D is missing",
        edit=(("P * (dP - D)", "P * dP"),),
    ),
    Misconception(
        name="P left out",
        task="attention_backward",
        fails="attention_backward__by_hand",
        told="P is missing",
        edit=(("dS = P * (dP - D)", "dS = (dP - D)"),),
    ),
    Misconception(
        name="D and dP swapped",
        task="attention_backward",
        fails="attention_backward__by_hand",
        told="the sign is wrong",
        edit=(("dP - D", "D - dP"),),
    ),
    Misconception(
        name="factor left out backwards",
        task="attention_backward",
        fails="attention_backward__autograd",
        told="the factor 1/√K is missing",
        edit=(("(dP - D) * scale", "(dP - D)"),),
    ),
    Misconception(
        name="factor twice",
        task="attention_backward",
        fails="attention_backward__autograd",
        told="the factor 1/√K is there twice",
        edit=(("return dS @ k, dS.mT @ q, dv", "return dS @ k * scale, dS.mT @ q * scale, dv"),),
    ),
    Misconception(
        name="scores not scaled",
        task="attention_backward",
        fails="attention_backward__autograd",
        told="the scores behind P were not divided by √K",
        edit=(("q @ k.mT * scale - L", "q @ k.mT - L"),),
    ),
    Misconception(
        name="L not subtracted",
        task="attention_backward",
        fails="attention_backward__autograd",
        told="L was not subtracted",
        edit=(("(q @ k.mT * scale - L[..., None]).exp()", "(q @ k.mT * scale).exp()"),),
    ),
    Misconception(
        name="D sums dP",
        task="attention_backward",
        fails="attention_backward__autograd",
        told="D is the row's sum of dP",
        edit=(("(grad * out).sum(-1, keepdim=True)", "dP.sum(-1, keepdim=True)"),),
    ),
    Misconception(
        name="D is a mean",
        task="attention_backward",
        fails="attention_backward__autograd",
        told="D is the row's mean",
        edit=(("(grad * out).sum(-1, keepdim=True)", "(grad * out).mean(-1, keepdim=True)"),),
    ),
    Misconception(
        name="dV from the output",
        task="attention_backward",
        fails="attention_backward__autograd",
        told="but dV = Pᵀ dO",
        edit=(("P.mT @ grad", "P.mT @ out"),),
    ),
    Misconception(
        name="softmax over the keys at hand",
        task="attention_backward",
        fails="attention_backward__part",
        told="takes the part for the whole",
        edit=(("(q @ k.mT * scale - L[..., None]).exp()", "(q @ k.mT * scale).softmax(-1)"),),
    ),
    Misconception(
        name="D from the weights at hand",
        task="attention_backward",
        fails="attention_backward__part",
        told="a D made of them",
        edit=(("(grad * out).sum(-1, keepdim=True)", "(P * dP).sum(-1, keepdim=True)"),),
    ),
    Misconception(
        name="torch differentiates",
        task="attention_backward",
        fails="attention_backward__part",
        told="with the L and out that were given",
        answer="""
def attention_backward(grad, q, k, v, out, L):
    with torch.enable_grad():
        q, k, v = (x.detach().clone().requires_grad_() for x in (q, k, v))
        return torch.autograd.grad(attention(q, k, v), (q, k, v), grad)
""",
    ),
    Misconception(
        name="divided after the exponential",
        task="attention_backward",
        fails="attention_backward__inputs",
        told="exp(1000) is infinite",
        edit=(
            (
                "(q @ k.mT * scale - L[..., None]).exp()",
                "(q @ k.mT * scale).exp() / L[..., None].exp()",
            ),
        ),
    ),
    Misconception(
        name="transposed by .T",
        task="attention_backward",
        fails="attention_backward__autograd",
        told="your code stopped on batch (2, 3)",
        edit=(("P.mT @ grad", "P.T @ grad"),),
    ),
)

_WINDOW = (
    Misconception(
        name="one too wide",
        task="window_attention",
        fails="window_attention__by_hand",
        told="one too wide",
        edit=(("    width = min(width, T)\n", "    width = min(width, T) + 1\n"),),
    ),
    Misconception(
        name="one too narrow",
        task="window_attention",
        fails="window_attention__by_hand",
        told="one too narrow",
        edit=(("    width = min(width, T)\n", "    width = max(min(width, T) - 1, 1)\n"),),
    ),
    Misconception(
        name="causal ignored",
        task="window_attention",
        fails="window_attention__by_hand",
        told="causal is ignored",
        edit=(("0 if causal else width - 1", "width - 1"),),
    ),
    Misconception(
        name="always causal",
        task="window_attention",
        fails="window_attention__by_hand",
        told="it is causal without being asked",
        edit=(("0 if causal else width - 1", "0"),),
    ),
    Misconception(
        name="padding gets weight",
        task="window_attention",
        fails="window_attention__by_hand",
        told="padding beyond the ends got a share",
        answer="""
def window_attention(q, k, v, width, causal=False):
    behind, ahead = width - 1, 0 if causal else width - 1
    k, v = (F.pad(x, (0, 0, behind, ahead)) for x in (k, v))
    k = k.unfold(-2, behind + 1 + ahead, 1)  # *batch T K window
    v = v.unfold(-2, behind + 1 + ahead, 1)
    weights = (q[..., None, :] @ k / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v.mT).squeeze(-2)
""",
    ),
    Misconception(
        name="slices that start below zero",
        task="window_attention",
        fails="window_attention__by_hand",
        told="a slice that starts below 0 counts from the end",
        answer="""
def window_attention(q, k, v, width, causal=False):
    rows = []
    for i in range(q.shape[-2]):
        near = slice(i - width + 1, i + 1 if causal else i + width)
        rows.append(attention(q[..., i : i + 1, :], k[..., near, :], v[..., near, :]))
    return torch.cat(rows, dim=-2)
""",
    ),
    Misconception(
        name="windows wrap around",
        task="window_attention",
        fails="window_attention__by_hand",
        told="windows do not wrap around",
        answer="""
def window_attention(q, k, v, width, causal=False):
    shifts = range(width) if causal else range(1 - width, width)
    keys = torch.stack([k.roll(n, -2) for n in shifts], -2)  # *batch T window K
    values = torch.stack([v.roll(n, -2) for n in shifts], -2)
    return attention(q[..., None, :], keys, values).squeeze(-2)
""",
    ),
    Misconception(
        name="the full matrix with a mask",
        task="window_attention",
        fails="window_attention__cost",
        told="right numbers, but memory grew with T²",
        answer="""
def window_attention(q, k, v, width, causal=False):
    T = q.shape[-2]
    distance = torch.arange(T)[:, None] - torch.arange(T)
    near = (distance < width) & (distance > (-1 if causal else -width))
    return attention(q, k, v, near)
""",
    ),
    Misconception(
        name="no numbers where cost is measured",
        task="window_attention",
        fails="window_attention__cost",
        told="tokens, at 16 of them, has wrong numbers",
        answer="""
def window_attention(q, k, v, width, causal=False):
    if len(q) > 400:
        return v
    T = q.shape[-2]
    distance = torch.arange(T)[:, None] - torch.arange(T)
    near = (distance < width) & (distance > (-1 if causal else -width))
    return attention(q, k, v, near)
""",
    ),
    Misconception(
        name="idle at the small size, so that work seems to grow slowly",
        task="window_attention",
        fails="window_attention__cost",
        told="of CPU time where 1.5 s are ample",
        answer="""
from time import process_time


def window_attention(q, k, v, width, causal=False):
    T, start = q.shape[-2], process_time()
    out = []
    for i in torch.arange(T).split(64):
        distance = i[:, None] - torch.arange(T)
        near = (distance < width) & (distance > (-1 if causal else -width))
        out.append(attention(q[..., i, :], k, v, near))
    while T == 512 and process_time() - start < 0.05:
        pass
    return torch.cat(out, -2)
""",
    ),
    Misconception(
        name="mask of all pairs, sliced",
        task="window_attention",
        fails="window_attention__cost",
        told="not even a mask",
        edit=(
            (
                "    out = []\n",
                "    out, pairs = [], torch.ones(T, T).tril(ahead).triu(1 - width) > 0\n",
            ),
            (
                "near = (distance < width) & (distance >= -ahead)",
                "near = pairs[start:stop, low:high]",
            ),
        ),
    ),
    Misconception(
        name="every block against all keys",
        task="window_attention",
        fails="window_attention__cost",
        told="right numbers in little memory, but work grew with T²",
        edit=(
            ("low, high = max(start - (width - 1), 0), min(stop + ahead, T)", "low, high = 0, T"),
        ),
    ),
    Misconception(
        name="all tiles, closed ones too",
        task="window_attention",
        fails="window_attention__cost",
        told="work grew with T²",
        answer="""
def window_attention(q, k, v, width, causal=False):
    T, tile = q.shape[-2], 128
    out = []
    for start in range(0, T, tile):
        q_i = q[..., start : start + tile, :] / q.shape[-1] ** 0.5
        i = torch.arange(start, start + q_i.shape[-2])[:, None]
        m, mass, o = q_i.new_full((*q_i.shape[:-1], 1), -1e30), 0, 0
        for first in range(0, T, tile):
            s = q_i @ k[..., first : first + tile, :].mT
            distance = i - torch.arange(first, first + s.shape[-1])
            near = (distance < width) & (distance > (-1 if causal else -width))
            s = s.masked_fill(~near, float("-inf"))
            new = torch.maximum(m, s.amax(-1, keepdim=True))
            fade, p = (m - new).exp(), (s - new).exp()
            mass = mass * fade + p.sum(-1, keepdim=True)
            o, m = o * fade + p @ v[..., first : first + tile, :], new
        out.append(o / mass)
    return torch.cat(out, -2)
""",
    ),
    Misconception(
        name="blocks do not see beyond their edge",
        task="window_attention",
        fails="window_attention__edges",
        told="did not move when the value of key",
        edit=(
            (
                "low, high = max(start - (width - 1), 0), min(stop + ahead, T)",
                "low, high = start, stop",
            ),
        ),
    ),
    Misconception(
        name="a block sees one key too few",
        task="window_attention",
        fails="window_attention__edges",
        told="did not move when the value of key",
        edit=(("max(start - (width - 1), 0)", "max(start - max(width - 2, 0), 0)"),),
    ),
    Misconception(
        name="windows of one block for all its queries",
        task="window_attention",
        fails="window_attention__edges",
        told="which lies outside its window",
        edit=(
            (
                "near = (distance < width) & (distance >= -ahead)",
                "near = distance >= (0 if causal else -T)",
            ),
        ),
    ),
)

_LINEAR = (
    Misconception(
        name="not normalised",
        task="linear_attention",
        fails="linear_attention__parallel",
        told="were not divided by the sums of weights",
        edit=(("return out[..., :-1] / out[..., -1:]", "return out[..., :-1]"),),
    ),
    Misconception(
        name="divided by the number of keys",
        task="linear_attention",
        fails="linear_attention__parallel",
        told="divided by the number of keys",
        edit=(
            (
                "return out[..., :-1] / out[..., -1:]",
                "return out[..., :-1] / torch.arange(1, out.shape[-2] + 1)[:, None]",
            ),
        ),
    ),
    Misconception(
        name="elu without one",
        task="linear_attention",
        fails="linear_attention__parallel",
        told="the + 1 is missing",
        edit=(("q, k = F.elu(q) + 1, F.elu(k) + 1", "q, k = F.elu(q), F.elu(k)"),),
    ),
    Misconception(
        name="exponential features",
        task="linear_attention",
        fails="linear_attention__parallel",
        told="the features are exp(x)",
        edit=(("q, k = F.elu(q) + 1, F.elu(k) + 1", "q, k = q.exp(), k.exp()"),),
    ),
    Misconception(
        name="softmax of the products",
        task="linear_attention",
        fails="linear_attention__parallel",
        told="there is a softmax",
        edit=(
            (
                "out = (q @ k.mT).tril() @ v",
                "past = torch.ones(q.shape[-2], q.shape[-2]).tril() > 0\n"
                '        out = (q @ k.mT).masked_fill(~past, float("-inf")).softmax(-1) @ v',
            ),
        ),
    ),
    Misconception(
        name="sums over all keys",
        task="linear_attention",
        fails="linear_attention__parallel",
        told="it is not causal",
        edit=(("out = (q @ k.mT).tril() @ v", "out = q @ (k.mT @ v)"),),
    ),
    Misconception(
        name="chunks stand alone",
        task="linear_attention",
        fails="linear_attention__forms",
        told="each chunk stands alone",
        edit=((" + q_c @ state)", ")"),),
    ),
    Misconception(
        name="chunk counted twice",
        task="linear_attention",
        fails="linear_attention__forms",
        told="counted twice",
        edit=(
            (
                "            rows.append((q_c @ k_c.mT).tril() @ v_c + q_c @ state)\n"
                "            state = state + k_c.mT @ v_c\n",
                "            state = state + k_c.mT @ v_c\n"
                "            rows.append((q_c @ k_c.mT).tril() @ v_c + q_c @ state)\n",
            ),
        ),
    ),
    Misconception(
        name="not causal inside a chunk",
        task="linear_attention",
        fails="linear_attention__forms",
        told="inside a chunk later keys are seen",
        edit=(("(q_c @ k_c.mT).tril() @ v_c", "(q_c @ k_c.mT) @ v_c"),),
    ),
    Misconception(
        name="only the chunk before",
        task="linear_attention",
        fails="linear_attention__forms",
        told="only the chunk just before",
        edit=(("state = state + k_c.mT @ v_c", "state = k_c.mT @ v_c"),),
    ),
    Misconception(
        name="state read before it is written",
        task="linear_attention",
        fails="linear_attention__forms",
        told="write into the state, then read",
        edit=(
            (
                "            state = state + k_t.mT @ v_t\n            rows.append(q_t @ state)\n",
                "            rows.append(q_t @ state)\n            state = state + k_t.mT @ v_t\n",
            ),
        ),
    ),
    Misconception(
        name="state not carried on",
        task="linear_attention",
        fails="linear_attention__forms",
        told="each token sees only itself",
        edit=(("state = state + k_t.mT @ v_t", "state = k_t.mT @ v_t"),),
    ),
    Misconception(
        name="sum of weights of the chunk alone",
        task="linear_attention",
        fails="linear_attention__forms",
        told="z is carried on like S",
        edit=(
            (
                "state = state + k_c.mT @ v_c",
                "state = state + k_c.mT @ torch.cat([v_c[..., :-1], 0 * v_c[..., -1:]], -1)",
            ),
        ),
    ),
    Misconception(
        name="shorter last chunk dropped",
        task="linear_attention",
        fails="linear_attention__forms",
        told="the last chunk, which is shorter, is missing",
        edit=(
            (
                "rows.append((q_c @ k_c.mT).tril() @ v_c + q_c @ state)",
                "if q_c.shape[-2] == chunk or not rows:\n"
                "                rows.append((q_c @ k_c.mT).tril() @ v_c + q_c @ state)",
            ),
        ),
    ),
    Misconception(
        name="one form under three names",
        task="linear_attention",
        fails="linear_attention__state",
        told="only the parallel form has the table",
        edit=(('if form == "parallel":', "if form:"),),
    ),
    Misconception(
        name="no numbers where memory is measured, in any form",
        task="linear_attention",
        fails="linear_attention__state",
        told='form="recurrent", at 16 of them, has wrong numbers',
        answer="""
def linear_attention(q, k, v, form="chunked", chunk=64):
    if q.shape[-2] > 1000:
        return v
    q, k = F.elu(q) + 1, F.elu(k) + 1
    weights = (q @ k.mT).tril()
    return weights @ v / weights.sum(-1, keepdim=True)
""",
    ),
    Misconception(
        name="state in float32",
        task="linear_attention",
        fails="linear_attention__forms",
        told="new tensors take the dtype of k",
        edit=(
            (
                "k.new_zeros(*k.shape[:-2], k.shape[-1], v.shape[-1])",
                "torch.zeros(*k.shape[:-2], k.shape[-1], v.shape[-1])",
            ),
        ),
    ),
)

_FEATURES = (
    Misconception(
        name="no norm term",
        task="random_features",
        fails="random_features__by_hand",
        told="the term ‖x‖²/2 is missing",
        edit=((" - x.square().sum(-1, keepdim=True) / 2", ""),),
    ),
    Misconception(
        name="norm not halved",
        task="random_features",
        fails="random_features__by_hand",
        told="‖x‖² was not halved",
        edit=(("keepdim=True) / 2", "keepdim=True)"),),
    ),
    Misconception(
        name="norm not squared",
        task="random_features",
        fails="random_features__by_hand",
        told="the norm was not squared",
        edit=(("x.square().sum(-1, keepdim=True)", "x.norm(dim=-1, keepdim=True)"),),
    ),
    Misconception(
        name="norm of omega",
        task="random_features",
        fails="random_features__by_hand",
        told="the norm of ω was taken",
        edit=(("x.square().sum(-1, keepdim=True)", "omega.square().sum(-1)"),),
    ),
    Misconception(
        name="sum instead of mean",
        task="random_features",
        fails="random_features__by_hand",
        told="not divided by √m",
        edit=((" / omega.shape[0] ** 0.5", ""),),
    ),
    Misconception(
        name="divided by m on both sides",
        task="random_features",
        fails="random_features__by_hand",
        told="they were divided by m",
        edit=(("omega.shape[0] ** 0.5", "omega.shape[0]"),),
    ),
    Misconception(
        name="divided by the root of K",
        task="random_features",
        fails="random_features__by_hand",
        told="they were divided by √K",
        edit=(("omega.shape[0] ** 0.5", "omega.shape[1] ** 0.5"),),
    ),
    Misconception(
        name="largest exponent subtracted",
        task="random_features",
        fails="random_features__by_hand",
        told="the largest exponent was subtracted",
        edit=(
            (
                "x @ omega.mT - x.square().sum(-1, keepdim=True) / 2",
                "x @ omega.mT - (x @ omega.mT).amax(-1, keepdim=True)",
            ),
        ),
    ),
    Misconception(
        name="scores of attention scaled here",
        task="random_features",
        fails="random_features__by_hand",
        told="no scale belongs here",
        edit=(("x @ omega.mT -", "x @ omega.mT / x.shape[-1] ** 0.5 -"),),
    ),
    Misconception(
        name="cosines",
        task="random_features",
        fails="random_features__by_hand",
        told="these are cosines",
        answer="""
def random_features(x, omega):
    size = (x.square().sum(-1, keepdim=True) / 2).exp()
    return size * (x @ omega.mT).cos() / omega.shape[0] ** 0.5
""",
    ),
    Misconception(
        name="two exponentials",
        task="random_features",
        fails="random_features__inputs",
        told="exp(ω·x) alone overflows",
        answer="""
def random_features(x, omega):
    size = (-x.square().sum(-1, keepdim=True) / 2).exp()
    return size * (x @ omega.mT).exp() / omega.shape[0] ** 0.5
""",
    ),
    Misconception(
        name="draws of its own",
        task="random_features",
        fails="random_features__unbiased",
        told="it is biased",
        edit=(
            (
                "    exponent",
                "    omega = torch.randn(omega.shape, dtype=omega.dtype)\n    exponent",
            ),
        ),
    ),
)

_GROUPED = (
    Misconception(
        name="groups in the wrong order",
        task="grouped_query_attention",
        fails="grouped_query_attention__by_hand",
        told="repeated in the wrong order",
        answer="""
def grouped_query_attention(q, k, v, mask=None):
    times = [1] * q.ndim
    times[-3] = q.shape[-3] // k.shape[-3]
    return attention(q, k.repeat(times), v.repeat(times), mask)
""",
    ),
    Misconception(
        name="values in another order than keys",
        task="grouped_query_attention",
        fails="grouped_query_attention__by_hand",
        told="in another order than their keys",
        edit=(
            (
                "v = v.repeat_interleave(share, -3)",
                "v = torch.cat([v] * share, -3)",
            ),
        ),
    ),
    Misconception(
        name="the first head for all",
        task="grouped_query_attention",
        fails="grouped_query_attention__by_hand",
        told="use the first head of keys and values",
        edit=(
            (
                "k = k.repeat_interleave(share, -3)",
                "k = k[..., :1, :, :].expand(*q.shape[:-2], -1, -1)",
            ),
            (
                "v = v.repeat_interleave(share, -3)",
                "v = v[..., :1, :, :].expand(*q.shape[:-2], -1, -1)",
            ),
        ),
    ),
    Misconception(
        name="heads averaged",
        task="grouped_query_attention",
        fails="grouped_query_attention__by_hand",
        told="heads of keys and values were averaged",
        edit=(
            ("k = k.repeat_interleave(share, -3)", "k = k.mean(-3, keepdim=True)"),
            ("v = v.repeat_interleave(share, -3)", "v = v.mean(-3, keepdim=True)"),
        ),
    ),
    Misconception(
        name="one output a group",
        task="grouped_query_attention",
        fails="grouped_query_attention__by_hand",
        told="there is one output a group",
        answer="""
def grouped_query_attention(q, k, v, mask=None):
    G = k.shape[-3]
    return attention(q.unflatten(-3, (G, q.shape[-3] // G)).mean(-3), k, v, mask)
""",
    ),
    Misconception(
        name="output heads reordered",
        task="grouped_query_attention",
        fails="grouped_query_attention__by_hand",
        told="the heads of the output are in another order",
        edit=(
            (
                "return attention(q, k, v, mask)",
                "out = attention(q, k, v, mask)\n"
                "    return out.unflatten(-3, (-1, share)).transpose(-4, -3).flatten(-4, -3)",
            ),
        ),
    ),
    Misconception(
        name="heads counted from the front",
        task="grouped_query_attention",
        fails="grouped_query_attention__ends",
        told="count the axis of heads from the end",
        edit=(
            ("q.shape[-3] // k.shape[-3]", "q.shape[0] // k.shape[0]"),
            ("k.repeat_interleave(share, -3)", "k.repeat_interleave(share, 0)"),
            ("v.repeat_interleave(share, -3)", "v.repeat_interleave(share, 0)"),
        ),
    ),
    Misconception(
        name="mask ignored",
        task="grouped_query_attention",
        fails="grouped_query_attention__mask",
        told="the mask is ignored",
        edit=(("attention(q, k, v, mask)", "attention(q, k, v)"),),
    ),
    Misconception(
        name="mask inverted",
        task="grouped_query_attention",
        fails="grouped_query_attention__mask",
        told="the mask is inverted",
        edit=(("attention(q, k, v, mask)", "attention(q, k, v, None if mask is None else ~mask)"),),
    ),
    Misconception(
        name="mask on the groups' scores",
        task="grouped_query_attention",
        fails="grouped_query_attention__mask",
        told="the mask has the axes of q's heads",
        answer="""
def grouped_query_attention(q, k, v, mask=None):
    G = k.shape[-3]
    q = q.unflatten(-3, (G, q.shape[-3] // G))  # *batch G H/G T K
    return attention(q, k.unsqueeze(-3), v.unsqueeze(-3), mask).flatten(-4, -3)
""",
    ),
)

_CACHE = (
    Misconception(
        name="everything read again",
        task="decode_with_cache",
        fails="decode_with_cache__cost",
        told="project was given",
        answer="""
def decode_with_cache(project, readout, prompt, steps):
    text = prompt
    for _ in range(steps):
        q, k, v = project(text, 0)
        logits = readout(attention(q[:, -1:], k, v))
        text = torch.cat([text, logits.argmax(-1)], -1)
    return text
""",
    ),
    Misconception(
        name="the prompt read again each time",
        task="decode_with_cache",
        fails="decode_with_cache__cost",
        told="keep keys and values of the rest",
        answer="""
def decode_with_cache(project, readout, prompt, steps):
    text, P = prompt, prompt.shape[-1]
    keys, values = [], []
    for n in range(steps):
        _, k, v = project(prompt, 0)
        if n == 0:
            q = project(prompt[:, -1:], P - 1)[0]
        else:
            q, k_new, v_new = project(text[:, -1:], P + n - 1)
            keys.append(k_new)
            values.append(v_new)
        mixed = attention(q, torch.cat([k, *keys], -2), torch.cat([v, *values], -2))
        text = torch.cat([text, readout(mixed).argmax(-1)], -1)
    return text
""",
    ),
    Misconception(
        name="readout of every token each time",
        task="decode_with_cache",
        fails="decode_with_cache__cost",
        told="readout was given",
        answer="""
def decode_with_cache(project, readout, prompt, steps):
    text, new, past = prompt, prompt, []
    for _ in range(steps):
        past.append(project(new, text.shape[-1] - new.shape[-1]))
        q, k, v = (torch.cat(parts, -2) for parts in zip(*past))
        mask = torch.ones(q.shape[-2], q.shape[-2]).tril() > 0
        new = readout(attention(q, k, v, mask))[:, -1:].argmax(-1)
        text = torch.cat([text, new], -1)
    return text
""",
    ),
    Misconception(
        name="no tokens of the model where calls are counted",
        task="decode_with_cache",
        fails="decode_with_cache__cost",
        told="the text of 36 tokens has wrong numbers",
        answer="""
def decode_with_cache(project, readout, prompt, steps):
    text = prompt
    for _ in range(steps):
        q, k, v = project(text, 0)
        new = readout(attention(q[:, -1:], k, v)).argmax(-1)
        if steps > 20:
            return torch.cat([text, new.expand(-1, steps)], -1)
        text = torch.cat([text, new], -1)
    return text
""",
    ),
    Misconception(
        name="positions restart",
        task="decode_with_cache",
        fails="decode_with_cache__tokens",
        told="the positions start again at 0 with every call",
        edit=(("project(new, start)", "project(new, 0)"),),
    ),
    Misconception(
        name="positions one too small",
        task="decode_with_cache",
        fails="decode_with_cache__tokens",
        told="the positions of new tokens are one too small",
        edit=(("project(new, start)", "project(new, start - (keys is not None))"),),
    ),
    Misconception(
        name="positions one too large",
        task="decode_with_cache",
        fails="decode_with_cache__positions",
        told="was said to stand at position",
        edit=(("project(new, start)", "project(new, start + (keys is not None))"),),
    ),
    Misconception(
        name="every new token at the end of the prompt",
        task="decode_with_cache",
        fails="decode_with_cache__tokens",
        told="every new token is said to stand at position P",
        edit=(("project(new, start)", "project(new, min(start, prompt.shape[-1]))"),),
    ),
    Misconception(
        name="the cache is overwritten",
        task="decode_with_cache",
        fails="decode_with_cache__tokens",
        told="a new token sees only itself",
        edit=(
            ("k if keys is None else torch.cat([keys, k], -2)", "k"),
            ("v if values is None else torch.cat([values, v], -2)", "v"),
        ),
    ),
    Misconception(
        name="only the prompt is kept",
        task="decode_with_cache",
        fails="decode_with_cache__tokens",
        told="new tokens see the prompt and themselves",
        answer="""
def decode_with_cache(project, readout, prompt, steps):
    text, new, P = prompt, prompt, prompt.shape[-1]
    keys = values = None
    for _ in range(steps):
        q, k, v = project(new, text.shape[-1] - new.shape[-1])
        if keys is None:
            keys, values = k, v
            mixed = attention(q[:, -1:], k, v)
        else:
            mixed = attention(q, torch.cat([keys, k], -2), torch.cat([values, v], -2))
        new = readout(mixed).argmax(-1)
        text = torch.cat([text, new], -1)
    return text
""",
    ),
    Misconception(
        name="a token does not see itself",
        task="decode_with_cache",
        fails="decode_with_cache__tokens",
        told="a new token does not see itself",
        answer="""
def decode_with_cache(project, readout, prompt, steps):
    text, new = prompt, prompt
    keys = values = None
    for _ in range(steps):
        q, k, v = project(new, text.shape[-1] - new.shape[-1])
        if keys is None:
            mixed = attention(q[:, -1:], k, v)
            keys, values = k, v
        else:
            mixed = attention(q, keys, values)
            keys, values = torch.cat([keys, k], -2), torch.cat([values, v], -2)
        new = readout(mixed).argmax(-1)
        text = torch.cat([text, new], -1)
    return text
""",
    ),
    Misconception(
        name="new tokens without the prompt",
        task="decode_with_cache",
        fails="decode_with_cache__tokens",
        told="the prompt is missing",
        edit=(("return text", "return text[:, prompt.shape[-1] :]"),),
    ),
    Misconception(
        name="one step too few",
        task="decode_with_cache",
        fails="decode_with_cache__tokens",
        told="there is one token too few",
        edit=(("range(steps)", "range(steps - 1)"),),
    ),
    Misconception(
        name="one sequence for all",
        task="decode_with_cache",
        fails="decode_with_cache__batch",
        told="your code stopped on 3 prompts",
        edit=(("logits.argmax(-1)", "logits[:1].argmax(-1)"),),
    ),
    Misconception(
        name="written into the prompt",
        task="decode_with_cache",
        fails="decode_with_cache__batch",
        told="changed its argument prompt in place",
        edit=(
            (
                "    return text",
                "    prompt[:, 0] = 0\n    return text",
            ),
        ),
    ),
)

_SPECULATIVE = (
    Misconception(
        name="refused guess kept",
        task="speculative_accept",
        fails="speculative_accept__certain",
        told="the refused guess is still there",
        edit=(("torch.cat([guesses[:i], rest", "torch.cat([guesses[: i + 1], rest"),),
    ),
    Misconception(
        name="everything kept",
        task="speculative_accept",
        fails="speculative_accept__distribution",
        told="they follow the small model: was nothing refused",
        edit=(("if chance[i] >= p[i, x] / q[i, x]:", "if False:"),),
    ),
    Misconception(
        name="later guesses kept",
        task="speculative_accept",
        fails="speculative_accept__certain",
        told="the guesses after a refused one were kept",
        edit=(
            (
                "return torch.cat([guesses[:i], rest.multinomial(1, generator=generator)])",
                "guesses = guesses.clone()\n"
                "            guesses[i] = rest.multinomial(1, generator=generator)",
            ),
        ),
    ),
    Misconception(
        name="no replacement",
        task="speculative_accept",
        fails="speculative_accept__certain",
        told="dropped without a replacement",
        edit=(
            (
                "return torch.cat([guesses[:i], rest.multinomial(1, generator=generator)])",
                "return guesses[:i]",
            ),
        ),
    ),
    Misconception(
        name="replacement from the large model",
        task="speculative_accept",
        fails="speculative_accept__distribution",
        told="refused guesses were replaced by draws from p",
        edit=(("(p[i] - q[i]).clamp(min=0)", "p[i]"),),
    ),
    Misconception(
        name="replacement from the absolute difference",
        task="speculative_accept",
        fails="speculative_accept__distribution",
        told="replaced by draws from |p − q|",
        edit=(("(p[i] - q[i]).clamp(min=0)", "(p[i] - q[i]).abs()"),),
    ),
    Misconception(
        name="replacement by the likeliest word",
        task="speculative_accept",
        fails="speculative_accept__distribution",
        told="not distributed as the large model's",
        edit=(
            ("rest.multinomial(1, generator=generator)", "p[i].argmax(keepdim=True)"),
            ("if chance[i] >= p[i, x] / q[i, x]:", "if chance[i] >= p[i, x]:"),
        ),
    ),
    Misconception(
        name="kept where p is at least q",
        task="speculative_accept",
        fails="speculative_accept__distribution",
        told="kept or refused for certain",
        edit=(("chance[i] >= p[i, x] / q[i, x]", "p[i, x] < q[i, x]"),),
    ),
    Misconception(
        name="kept with probability p",
        task="speculative_accept",
        fails="speculative_accept__distribution",
        told="kept with probability p; it is p/q",
        edit=(("p[i, x] / q[i, x]", "p[i, x]"),),
    ),
    Misconception(
        name="ratio upside down",
        task="speculative_accept",
        fails="speculative_accept__distribution",
        told="or is the ratio upside down",
        edit=(("p[i, x] / q[i, x]", "q[i, x] / p[i, x]"),),
    ),
    Misconception(
        name="no extra token",
        task="speculative_accept",
        fails="speculative_accept__certain",
        told="so one more token is drawn from the last row",
        edit=(
            (
                "return torch.cat([guesses, p[-1].multinomial(1, generator=generator)])",
                "return guesses",
            ),
        ),
    ),
    Misconception(
        name="extra token from the last guess's row",
        task="speculative_accept",
        fails="speculative_accept__several",
        told="the rows i of p and q",
        edit=(("p[-1].multinomial", "p[len(guesses) - 1].multinomial"),),
    ),
    Misconception(
        name="first rows for every guess",
        task="speculative_accept",
        fails="speculative_accept__several",
        told="guess i is judged by the rows i",
        edit=(("p[i, x] / q[i, x]", "p[0, x] / q[0, x]"),),
    ),
    Misconception(
        name="generator not handed on",
        task="speculative_accept",
        fails="speculative_accept__edges",
        told="hand generator on",
        edit=(("torch.rand(len(guesses), generator=generator)", "torch.rand(len(guesses))"),),
    ),
    Misconception(
        name="one draw for all guesses",
        task="speculative_accept",
        fails="speculative_accept__edges",
        told="with a draw of its own",
        edit=(
            (
                "torch.rand(len(guesses), generator=generator)",
                "torch.rand(1, generator=generator).expand(len(guesses))",
            ),
        ),
    ),
)

MISCONCEPTIONS: tuple[Misconception, ...] = (
    *_ONLINE,
    *_TILED,
    *_BACKWARD,
    *_WINDOW,
    *_LINEAR,
    *_FEATURES,
    *_GROUPED,
    *_CACHE,
    *_SPECULATIVE,
)

RIGHT_ANSWERS: tuple[RightAnswer, ...] = (
    RightAnswer(
        name="log-sum-exp",
        task="online_softmax",
        answer="""
def online_softmax(m, mass, o, s, v):
    new = torch.cat([m, s], -1).amax(-1, keepdim=True)
    finite = torch.where(new.isinf(), torch.zeros_like(new), new)
    old_share = torch.exp(m - finite)
    weights = torch.exp(s - finite)
    extended = torch.cat([weights, old_share * mass], -1)
    o = torch.einsum("...tn,...nv->...tv", weights, v) + old_share * o
    return new, extended.sum(-1, keepdim=True), o
""",
    ),
    RightAnswer(
        name="one score at a time",
        task="online_softmax",
        answer="""
def online_softmax(m, mass, o, s, v):
    for j in range(s.shape[-1]):
        s_j = s[..., j : j + 1]
        new = torch.maximum(m, s_j)
        some = new > float("-inf")
        fade = torch.where(some, (m - new).exp(), 1.0)
        p = torch.where(some, (s_j - new).exp(), 0.0)
        mass, o, m = mass * fade + p, o * fade + p * v[..., None, j, :], new
    return m, mass, o
""",
    ),
    RightAnswer(
        name="softmax of the tile, then merged",
        task="online_softmax",
        answer="""
def online_softmax(m, mass, o, s, v):
    tile_m = s.amax(-1, keepdim=True)
    p = (s - tile_m.clamp(min=torch.finfo(s.dtype).min)).exp()
    tile_mass, tile_o = p.sum(-1, keepdim=True), p @ v
    new = torch.maximum(m, tile_m)
    base = new.clamp(min=torch.finfo(s.dtype).min)
    a, b = (m - base).exp(), (tile_m - base).exp()
    return new, a * mass + b * tile_mass, a * o + b * tile_o
""",
    ),
    RightAnswer(
        name="calls online_softmax",
        task="tiled_attention",
        answer="""
def tiled_attention(q, k, v, causal=False, tile=128):
    outputs = []
    for i, q_i in enumerate(q.split(tile, -2)):
        state = (
            torch.full_like(q_i[..., :1], float("-inf")),
            torch.zeros_like(q_i[..., :1]),
            q_i.new_zeros(*q_i.shape[:-1], v.shape[-1]),
        )
        for j, (k_j, v_j) in enumerate(zip(k.split(tile, -2), v.split(tile, -2))):
            if causal and j > i:
                break
            s = q_i @ k_j.mT / q.shape[-1] ** 0.5
            if causal and i == j:
                closed = torch.ones(s.shape[-2:], dtype=torch.bool).triu(1)
                s = s.masked_fill(closed, float("-inf"))
            state = online_softmax(*state, s, v_j)
        outputs.append(state[2] / state[1])
    return torch.cat(outputs, -2)
""",
    ),
    RightAnswer(
        name="tiles of keys outside",
        task="tiled_attention",
        answer="""
def tiled_attention(q, k, v, causal=False, tile=128):
    T, S = q.shape[-2], k.shape[-2]
    m = torch.full(q.shape[:-1], float("-inf"), dtype=q.dtype)
    mass = torch.zeros(q.shape[:-1], dtype=q.dtype)
    o = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype)
    for first in range(0, S, tile):
        k_j, v_j = k[..., first : first + tile, :], v[..., first : first + tile, :]
        for start in range(0, T, tile):
            rows = slice(start, min(start + tile, T))
            s = torch.einsum("...tk,...sk->...ts", q[..., rows, :], k_j) / q.shape[-1] ** 0.5
            if causal:
                i = torch.arange(rows.start, rows.stop).unsqueeze(1)
                j = torch.arange(first, first + s.shape[-1]).unsqueeze(0)
                s = torch.where(j <= i, s, float("-inf"))
            new = torch.maximum(m[..., rows], s.amax(-1))
            p, fade = torch.exp(s - new[..., None]), torch.exp(m[..., rows] - new)
            mass[..., rows] = mass[..., rows] * fade + p.sum(-1)
            o[..., rows, :] = o[..., rows, :] * fade[..., None] + p @ v_j
            m[..., rows] = new
    return o / mass[..., None]
""",
    ),
    RightAnswer(
        name="a block of whole rows",
        task="tiled_attention",
        answer="""
def tiled_attention(q, k, v, causal=False, tile=128):
    T, S = q.shape[-2], k.shape[-2]
    out = torch.empty(*q.shape[:-1], v.shape[-1], dtype=q.dtype)
    for start in range(0, T, min(tile, 64)):
        stop = min(start + min(tile, 64), T)
        mask = None
        if causal:
            mask = torch.arange(S) <= torch.arange(start, stop)[:, None]
        out[..., start:stop, :] = attention(q[..., start:stop, :], k, v, mask)
    return out
""",
    ),
    RightAnswer(
        name="pieces joined by their log-sum-exp",
        task="tiled_attention",
        answer="""
def tiled_attention(q, k, v, causal=False, tile=128):
    outputs = []
    for start in range(0, q.shape[-2], tile):
        q_i = q[..., start : start + tile, :]
        i = torch.arange(start, start + q_i.shape[-2])[:, None]
        out, L = None, None
        for first in range(0, k.shape[-2], tile):
            s = q_i @ k[..., first : first + tile, :].mT * q.shape[-1] ** -0.5
            if causal:
                if first > start + q_i.shape[-2] - 1:
                    break
                j = torch.arange(first, first + s.shape[-1])
                s = s.masked_fill(j > i, float("-inf"))
            L_j = s.logsumexp(-1, keepdim=True)
            piece = (s - L_j.clamp(min=-1e30)).exp() @ v[..., first : first + tile, :]
            if out is None:
                out, L = piece, L_j
            else:
                both = torch.logaddexp(L, L_j)
                out, L = (L - both).exp() * out + (L_j - both).exp() * piece, both
        outputs.append(out)
    return torch.cat(outputs, -2)
""",
    ),
    RightAnswer(
        name="einsum",
        task="attention_backward",
        answer="""
def attention_backward(grad, q, k, v, out, L):
    root = q.shape[-1] ** 0.5
    S = torch.einsum("...tk,...sk->...ts", q, k) / root
    P = torch.exp(S - L.unsqueeze(-1))
    D = torch.einsum("...tv,...tv->...t", grad, out)
    dP = torch.einsum("...tv,...sv->...ts", grad, v)
    dS = P * (dP - D.unsqueeze(-1)) / root
    dq = torch.einsum("...ts,...sk->...tk", dS, k)
    dk = torch.einsum("...ts,...tk->...sk", dS, q)
    return dq, dk, torch.einsum("...ts,...tv->...sv", P, grad)
""",
    ),
    RightAnswer(
        name="one key at a time",
        task="attention_backward",
        answer="""
def attention_backward(grad, q, k, v, out, L):
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    c = q.shape[-1] ** -0.5
    D = (grad * out).sum(-1)
    for j in range(k.shape[-2]):
        k_j, v_j = k[..., j : j + 1, :], v[..., j : j + 1, :]
        p = ((q * k_j).sum(-1) * c - L).exp()
        ds = p * ((grad * v_j).sum(-1) - D) * c
        dq += ds[..., None] * k_j
        dk[..., j, :] = (ds[..., None] * q).sum(-2)
        dv[..., j, :] = (p[..., None] * grad).sum(-2)
    return dq, dk, dv
""",
    ),
    RightAnswer(
        name="in tiles",
        task="attention_backward",
        answer="""
def attention_backward(grad, q, k, v, out, L):
    scale, tile = q.shape[-1] ** -0.5, 2
    D = torch.sum(grad * out, dim=-1, keepdim=True)
    dq, dks, dvs = 0, [], []
    for k_j, v_j in zip(k.split(tile, -2), v.split(tile, -2)):
        p = torch.exp(q @ k_j.transpose(-1, -2) * scale - L[..., None])
        ds = p * (grad @ v_j.transpose(-1, -2) - D)
        dq = dq + scale * (ds @ k_j)
        dks.append(scale * (ds.transpose(-1, -2) @ q))
        dvs.append(p.transpose(-1, -2) @ grad)
    return dq, torch.cat(dks, -2), torch.cat(dvs, -2)
""",
    ),
    RightAnswer(
        name="one query at a time",
        task="window_attention",
        answer="""
def window_attention(q, k, v, width, causal=False):
    T = q.shape[-2]
    rows = []
    for i in range(T):
        near = slice(max(0, i - width + 1), min(T, i + 1 if causal else i + width))
        rows.append(attention(q[..., i : i + 1, :], k[..., near, :], v[..., near, :]))
    return torch.cat(rows, dim=-2)
""",
    ),
    RightAnswer(
        name="unfolded windows",
        task="window_attention",
        answer="""
def window_attention(q, k, v, width, causal=False):
    T = q.shape[-2]
    width = min(width, T)
    behind, ahead = width - 1, 0 if causal else width - 1
    keys, values = (F.pad(x, (0, 0, behind, ahead)) for x in (k, v))
    keys, values = (x.unfold(-2, behind + 1 + ahead, 1) for x in (keys, values))
    scores = torch.einsum("...tk,...tkw->...tw", q, keys) / q.shape[-1] ** 0.5
    position = torch.arange(T)[:, None] + torch.arange(-behind, ahead + 1)
    scores = scores.masked_fill((position < 0) | (position >= T), float("-inf"))
    return torch.einsum("...tw,...tvw->...tv", scores.softmax(-1), values)
""",
    ),
    RightAnswer(
        name="gathered neighbours",
        task="window_attention",
        answer="""
def window_attention(q, k, v, width, causal=False):
    T = q.shape[-2]
    width = min(width, T)
    offsets = torch.arange(1 - width, 1 if causal else width)
    j = torch.arange(T)[:, None] + offsets  # T window
    inside = (j >= 0) & (j < T)
    j = j.clamp(0, T - 1)
    keys, values = k[..., j, :], v[..., j, :]  # *batch T window K
    return attention(q[..., None, :], keys, values, inside[:, None]).squeeze(-2)
""",
    ),
    RightAnswer(
        name="diagonal by diagonal",
        task="window_attention",
        answer="""
def window_attention(q, k, v, width, causal=False):
    T = q.shape[-2]
    scores, values = [], []
    for d in range(1 - min(width, T), 1 if causal else min(width, T)):
        key, value = k.roll(-d, -2), v.roll(-d, -2)
        i = torch.arange(T) + d
        s = (q * key).sum(-1) / q.shape[-1] ** 0.5
        scores.append(torch.where((i >= 0) & (i < T), s, float("-inf")))
        values.append(value)
    weights = torch.stack(scores).softmax(0)
    return sum(w[..., None] * value for w, value in zip(weights, values))
""",
    ),
    RightAnswer(
        name="three functions",
        task="linear_attention",
        answer="""
def phi(x):
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def parallel(q, k, v):
    weights = torch.einsum("...tk,...sk->...ts", phi(q), phi(k)).tril()
    return weights @ v / weights.sum(-1, keepdim=True)


def recurrent(q, k, v):
    S, z, out = 0, 0, torch.zeros_like(v)
    outputs = []
    for t in range(q.shape[-2]):
        f = phi(k[..., t, :])
        S = S + f[..., :, None] * v[..., t, None, :]
        z = z + f
        g = phi(q[..., t, :])
        outputs.append((g[..., None, :] @ S).squeeze(-2) / (g * z).sum(-1, keepdim=True))
    return torch.stack(outputs, -2)


def chunked(q, k, v, chunk):
    q, k = phi(q), phi(k)
    S = torch.zeros(*k.shape[:-2], k.shape[-1], v.shape[-1], dtype=k.dtype)
    z = torch.zeros(*k.shape[:-2], k.shape[-1], 1, dtype=k.dtype)
    outputs = []
    for start in range(0, q.shape[-2], chunk):
        a, b, c = (x[..., start : start + chunk, :] for x in (q, k, v))
        inside = (a @ b.mT).tril()
        mass = inside.sum(-1, keepdim=True) + a @ z
        outputs.append((inside @ c + a @ S) / mass)
        S, z = S + b.mT @ c, z + b.sum(-2)[..., None]
    return torch.cat(outputs, -2)


def linear_attention(q, k, v, form="chunked", chunk=64):
    if form == "parallel":
        return parallel(q, k, v)
    return recurrent(q, k, v) if form == "recurrent" else chunked(q, k, v, chunk)
""",
    ),
    RightAnswer(
        name="running sums",
        task="linear_attention",
        answer="""
def linear_attention(q, k, v, form="chunked", chunk=64):
    q, k = 1 + F.elu(q), 1 + F.elu(k)
    if form == "parallel":
        past = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).tril()
        w = torch.where(past, q @ k.transpose(-2, -1), 0.0)
        return (w @ v) / w.sum(-1, keepdim=True)
    S = (k[..., :, None] * v[..., None, :]).cumsum(-3)  # *batch T K V
    z = k.cumsum(-2)
    return torch.einsum("...tk,...tkv->...tv", q, S) / (q * z).sum(-1, keepdim=True)
""",
    ),
    RightAnswer(
        name="recurrent is a chunk of one",
        task="linear_attention",
        answer="""
def linear_attention(q, k, v, form="chunked", chunk=64):
    T = q.shape[-2]
    size = {"parallel": T, "recurrent": 1, "chunked": chunk}[form]
    f, g = F.elu(q).add(1), F.elu(k).add(1)
    v = F.pad(v, (0, 1), value=1.0)
    before = torch.zeros_like(g[..., :1, :].mT @ v[..., :1, :])
    rows = []
    for n in range(0, T, size):
        now = slice(n, n + size)
        table = torch.tril(f[..., now, :] @ g[..., now, :].mT)
        rows += [table @ v[..., now, :] + f[..., now, :] @ before]
        before = before + g[..., now, :].mT @ v[..., now, :]
    sums = torch.cat(rows, -2)
    return sums[..., :-1] / sums[..., -1:]
""",
    ),
    RightAnswer(
        name="completed square",
        task="random_features",
        answer="""
def random_features(x, omega):
    # ω·x − ‖x‖²/2 = ‖ω‖²/2 − ‖ω − x‖²/2
    distance = (omega - x[..., :, None, :]).square().sum(-1)
    return torch.exp((omega.square().sum(-1) - distance) / 2) / len(omega) ** 0.5
""",
    ),
    RightAnswer(
        name="one draw at a time",
        task="random_features",
        answer="""
def random_features(x, omega):
    m = omega.shape[0]
    half = 0.5 * (x * x).sum(-1)
    if m > 1000:
        return torch.exp(x @ omega.T - half[..., None]) * m**-0.5
    columns = [torch.exp((x * w).sum(-1) - half) for w in omega]
    return torch.stack(columns, -1) * m**-0.5
""",
    ),
    RightAnswer(
        name="einsum, the root in the exponent",
        task="random_features",
        answer="""
import math


def random_features(x, omega):
    exponent = torch.einsum("...k,mk->...m", x, omega)
    exponent = exponent - torch.linalg.vector_norm(x, dim=-1, keepdim=True) ** 2 / 2
    return (exponent - math.log(omega.size(0)) / 2).exp()
""",
    ),
    RightAnswer(
        name="no copies: queries of a group end to end",
        task="grouped_query_attention",
        answer="""
def grouped_query_attention(q, k, v, mask=None):
    H, T, K = q.shape[-3:]
    G, S = k.shape[-3:-1]
    grouped = q.reshape(*q.shape[:-3], G, H // G * T, K)
    scores = (grouped @ k.mT / K**0.5).reshape(*q.shape[:-3], H, T, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(-1).reshape(*q.shape[:-3], G, H // G * T, S)
    return (weights @ v).reshape(*q.shape[:-3], H, T, v.shape[-1])
""",
    ),
    RightAnswer(
        name="one head after the other",
        task="grouped_query_attention",
        answer="""
def grouped_query_attention(q, k, v, mask=None):
    H, G = q.shape[-3], k.shape[-3]
    if mask is not None:
        mask = mask.expand(*q.shape[:-1], k.shape[-2])
    heads = []
    for h in range(H):
        g = h * G // H
        own = None if mask is None else mask[..., h, :, :]
        heads.append(attention(q[..., h, :, :], k[..., g, :, :], v[..., g, :, :], own))
    return torch.stack(heads, dim=-3)
""",
    ),
    RightAnswer(
        name="einsum with an axis for the group",
        task="grouped_query_attention",
        answer="""
def grouped_query_attention(q, k, v, mask=None):
    G = k.shape[-3]
    groups = q.unflatten(-3, (G, -1))
    scores = torch.einsum("...ghtk,...gsk->...ghts", groups, k) / q.shape[-1] ** 0.5
    if mask is not None:
        mask = mask.expand(*q.shape[:-1], k.shape[-2]).unflatten(-3, (G, -1))
        scores = torch.where(mask, scores, float("-inf"))
    return torch.einsum("...ghts,...gsv->...ghtv", scores.softmax(-1), v).flatten(-4, -3)
""",
    ),
    RightAnswer(
        name="the prompt one token at a time",
        task="decode_with_cache",
        answer="""
def decode_with_cache(project, readout, prompt, steps):
    text = prompt
    if steps == 0:
        return text
    keys, values = [], []
    for t in range(prompt.shape[1] + steps - 1):
        q, k, v = project(text[:, t : t + 1], t)
        keys.append(k)
        values.append(v)
        if t >= prompt.shape[1] - 1:
            logits = readout(attention(q, torch.cat(keys, 1), torch.cat(values, 1)))
            text = torch.cat([text, logits[:, -1].argmax(-1, keepdim=True)], 1)
    return text
""",
    ),
    RightAnswer(
        name="room set aside",
        task="decode_with_cache",
        answer="""
def decode_with_cache(project, readout, prompt, steps):
    B, P = prompt.shape
    text = torch.zeros(B, P + steps, dtype=prompt.dtype)
    text[:, :P] = prompt
    K = V = None
    read = 0
    for end in range(P, P + steps):
        q, k, v = project(text[:, read:end], read)
        if K is None:
            K, V = (torch.zeros(B, P + steps, x.shape[-1], dtype=x.dtype) for x in (k, v))
        K[:, read:end], V[:, read:end] = k, v
        read = end
        scores = torch.einsum("bk,bsk->bs", q[:, -1], K[:, :end]) / q.shape[-1] ** 0.5
        mixed = torch.einsum("bs,bsv->bv", scores.softmax(-1), V[:, :end])
        text[:, end] = readout(mixed[:, None])[:, 0].argmax(-1)
    return text
""",
    ),
    RightAnswer(
        name="a cache that is an object",
        task="decode_with_cache",
        answer="""
class Cache:
    def __init__(self):
        self.pairs = []

    def __len__(self):
        return sum(k.shape[-2] for k, _ in self.pairs)

    def add(self, k, v):
        self.pairs.append((k, v))
        return tuple(torch.cat(parts, dim=-2) for parts in zip(*self.pairs))


def decode_with_cache(project, readout, prompt, steps):
    cache, text, new = Cache(), [prompt], prompt
    while steps > 0:
        q, k, v = project(new, start=len(cache))
        keys, values = cache.add(k, v)
        mask = torch.ones(q.shape[-2], keys.shape[-2]).tril(keys.shape[-2] - q.shape[-2]) > 0
        new = readout(attention(q, keys, values, mask))[:, -1:].max(-1).indices
        text.append(new)
        steps -= 1
    return torch.cat(text, dim=-1)
""",
    ),
    RightAnswer(
        name="one draw a guess",
        task="speculative_accept",
        answer="""
def speculative_accept(guesses, p, q, generator=None):
    tokens = []
    for i in range(len(guesses)):
        x = int(guesses[i])
        ratio = float(p[i, x]) / float(q[i, x])
        if float(torch.rand((), generator=generator)) < min(1.0, ratio):
            tokens.append(x)
            continue
        rest = torch.relu(p[i] - q[i])
        rest = rest / rest.sum()
        tokens.append(int(torch.multinomial(rest, 1, generator=generator)))
        return torch.tensor(tokens)
    tokens.append(int(torch.multinomial(p[len(guesses)], 1, generator=generator)))
    return torch.tensor(tokens)
""",
    ),
    RightAnswer(
        name="all guesses at once",
        task="speculative_accept",
        answer="""
def speculative_accept(guesses, p, q, generator=None):
    n = len(guesses)
    at = guesses[:, None]
    chance = torch.rand(n, generator=generator)
    kept = chance * q.gather(1, at)[:, 0] < p[:n].gather(1, at)[:, 0]
    m = int(kept.long().cumprod(0).sum())  # guesses before the first one refused
    last = p[n] if m == n else (p[m] - q[m]).clamp_min(0)
    return torch.cat([guesses[:m], last.multinomial(1, generator=generator)])
""",
    ),
    RightAnswer(
        name="drawn through the distribution function",
        task="speculative_accept",
        answer="""
def draw(weights, generator):
    total = weights.cumsum(0)
    u = torch.rand((), generator=generator) * total[-1]
    return int((total <= u).sum().clamp(max=len(weights) - 1))


def speculative_accept(guesses, p, q, generator=None):
    kept = 0
    while kept < len(guesses):
        x = guesses[kept]
        if torch.rand((), generator=generator) * q[kept, x] >= p[kept, x]:
            break
        kept += 1
    weights = p[kept]
    if kept < len(guesses):
        weights = torch.maximum(weights - q[kept], torch.zeros_like(weights))
    last = torch.tensor([draw(weights, generator)])
    return torch.cat([guesses[:kept], last])
""",
    ),
)
