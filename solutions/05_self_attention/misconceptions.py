"""Known answers to exercise 05: wrong ones with what each must be told, right ones to accept."""

from proctor.answers import Misconception, RightAnswer

_MASK = (
    Misconception(
        name="True means closed",
        task="causal_mask",
        fails="causal_mask__square",
        told="it is inverted",
        edit=(("key <= query", "key > query"),),
    ),
    Misconception(
        name="a query may not see itself",
        task="causal_mask",
        fails="causal_mask__square",
        told="the diagonal is missing",
        edit=(("key <= query", "key < query"),),
    ),
    Misconception(
        name="rows are keys",
        task="causal_mask",
        fails="causal_mask__square",
        told="rows and columns are swapped",
        edit=(("return key <= query", "return (key <= query).mT"),),
    ),
    Misconception(
        name="the mask is added to scores",
        task="causal_mask",
        fails="causal_mask__square",
        told="numbers to be added to scores",
        edit=(
            (
                "return key <= query",
                'return torch.zeros(T, S).masked_fill(key > query, float("-inf"))',
            ),
        ),
    ),
    Misconception(
        name="return forgotten",
        task="causal_mask",
        fails="causal_mask__square",
        told="is `return` missing?",
        edit=(("return key <= query", "mask = key <= query"),),
    ),
    Misconception(
        name="offset ignored",
        task="causal_mask",
        fails="causal_mask__offset",
        told="the offset is ignored",
        edit=(("[:, None] + offset", "[:, None]"),),
    ),
    Misconception(
        name="offset moves the keys",
        task="causal_mask",
        fails="causal_mask__offset",
        told="the offset has the wrong sign",
        edit=(("[:, None] + offset", "[:, None] - offset"),),
    ),
    Misconception(
        name="as many keys as queries",
        task="causal_mask",
        fails="causal_mask__lengths",
        told="S, the number of keys, is ignored",
        edit=(("S = T if S is None else S", "S = T"),),
    ),
    Misconception(
        name="no keys taken for no S",
        task="causal_mask",
        fails="causal_mask__lengths",
        told="a missing S is None",
        edit=(("S = T if S is None else S", "S = S or T"),),
    ),
    Misconception(
        name="ends aligned without being asked",
        task="causal_mask",
        fails="causal_mask__lengths",
        told="the last query was aligned with the last key",
        edit=(("[:, None] + offset", "[:, None] + (offset or S - T)"),),
    ),
    Misconception(
        name="negative offset taken for none",
        task="causal_mask",
        fails="causal_mask__cache",
        told="their rows are empty",
        edit=(("[:, None] + offset", "[:, None] + max(offset, 0)"),),
    ),
)

_ATTENTION = (
    Misconception(
        name="no scaling",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__by_hand",
        told="the scores were not divided by √K",
        edit=(("(q * q.shape[-1] ** -0.5) @ k.mT", "q @ k.mT"),),
    ),
    Misconception(
        name="scaled by the width",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__by_hand",
        told="divided by K, not by √K",
        edit=(("** -0.5", "** -1.0"),),
    ),
    Misconception(
        name="softmax over the queries",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__by_hand",
        told="softmax runs over the queries",
        edit=(("return scores.softmax(-1)", "return scores.softmax(-2)"),),
    ),
    Misconception(
        name="softmax over axis one",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__inputs",
        told="is an axis counted from the front?",
        edit=(("return scores.softmax(-1)", "return scores.softmax(1)"),),
    ),
    Misconception(
        name="mask inverted",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__mask",
        told="the mask is inverted",
        edit=(
            ("empty = ~mask.any(-1, keepdim=True)", "empty = mask.all(-1, keepdim=True)"),
            ("masked_fill(~mask,", "masked_fill(mask,"),
        ),
    ),
    Misconception(
        name="mask after softmax",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__mask",
        told="applied after softmax",
        edit=(
            ('    scores = scores.masked_fill(~mask, float("-inf"))\n', ""),
            (".softmax(-1).masked_fill(empty, 0.0)", ".softmax(-1).masked_fill(~mask, 0.0)"),
        ),
    ),
    Misconception(
        name="closed scores set to zero",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__mask",
        told="closed scores were set to 0",
        edit=(('scores.masked_fill(~mask, float("-inf"))', "scores * mask"),),
    ),
    Misconception(
        name="closed by a penalty of ten thousand",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__future",
        told="closing with too small a number",
        edit=(('scores.masked_fill(~mask, float("-inf"))', "scores + ~mask * -1e4"),),
    ),
    Misconception(
        name="exp without the maximum",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__stable",
        told="subtract each row's own maximum",
        edit=(
            (
                "return scores.softmax(-1) @ v",
                "return scores.exp() / scores.exp().sum(-1, keepdim=True) @ v",
            ),
        ),
    ),
    Misconception(
        name="empty rows not thought of",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__empty_rows",
        told="an empty row became NaN",
        edit=(
            (
                "scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)",
                "scores.softmax(-1)",
            ),
        ),
    ),
    Misconception(
        name="empty rows average everything",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__empty_rows",
        told="the average of all values",
        edit=((".softmax(-1).masked_fill(empty, 0.0)", ".softmax(-1)"),),
    ),
    Misconception(
        name="NaN wiped off afterwards",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__empty_rows",
        told="softmax of a row of −∞ has a NaN gradient",
        answer="""
def scaled_dot_product_attention(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores + torch.zeros_like(scores).masked_fill(~mask, float("-inf"))
    return scores.softmax(-1).nan_to_num(0.0) @ v
""",
    ),
    Misconception(
        name="minus a billion",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__dtypes",
        told="float16 ends at 65504",
        edit=(('float("-inf")', "-1e9"),),
    ),
    Misconception(
        name="transposed by .T",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__future",
        told="count axes from the end",
        edit=(("k.mT", "k.T"),),
    ),
    Misconception(
        name="writes into the mask",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__inputs",
        told="changed its argument mask in place",
        edit=(("masked_fill(~mask,", "masked_fill(mask.logical_not_(),"),),
    ),
    Misconception(
        name="weights detached",
        task="scaled_dot_product_attention",
        fails="scaled_dot_product_attention__gradient",
        told="is q used, and not detached?",
        edit=(("return weights @ v", "return weights.detach() @ v"),),
    ),
)

_ENTROPY = (
    Misconception(
        name="entropy in bits",
        task="attention_entropy",
        fails="attention_entropy__known",
        told="it is in bits",
        edit=(("p.log()", "p.log2()"),),
    ),
    Misconception(
        name="entropy with the wrong sign",
        task="attention_entropy",
        fails="attention_entropy__known",
        told="the sign is wrong",
        edit=(("return -(p", "return (p"),),
    ),
    Misconception(
        name="zero times log zero",
        task="attention_entropy",
        fails="attention_entropy__known",
        told="0 · ln 0 became NaN",
        edit=(("counted = weights != 0", "counted = torch.ones_like(weights).bool()"),),
    ),
    Misconception(
        name="one number for all queries",
        task="attention_entropy",
        fails="attention_entropy__known",
        told="one number for all queries",
        edit=((".sum(-1)", ".sum(-1).mean()"),),
    ),
    Misconception(
        name="share of the largest entropy",
        task="attention_entropy",
        fails="attention_entropy__known",
        told="divided by the logarithm of the number of keys",
        edit=(
            (
                ".sum(-1)",
                ".sum(-1) / torch.tensor(float(weights.shape[-1])).log()",
            ),
        ),
    ),
    Misconception(
        name="entropy ignores the mask",
        task="attention_entropy",
        fails="attention_entropy__mask",
        told="the mask is ignored",
        edit=(("counted & mask", "counted"),),
    ),
    Misconception(
        name="open weights scaled to one",
        task="attention_entropy",
        fails="attention_entropy__mask",
        told="the open weights were scaled to sum to 1",
        edit=(
            (
                "    return -(p",
                "    p = torch.where(counted, p / (p * counted).sum(-1, keepdim=True), 1.0)\n"
                "    return -(p",
            ),
        ),
    ),
    Misconception(
        name="NaN multiplied away",
        task="attention_entropy",
        fails="attention_entropy__empty_rows",
        told="0 * nan is NaN, so choose",
        answer="""
def attention_entropy(weights, mask=None):
    if mask is not None:
        weights = weights * mask
    p = torch.where(weights == 0, 1.0, weights)
    return -(p * p.log()).sum(-1)
""",
    ),
    Misconception(
        name="chosen after the logarithm",
        task="attention_entropy",
        fails="attention_entropy__gradient",
        told="choose a harmless weight before the logarithm",
        answer="""
def attention_entropy(weights, mask=None):
    products = torch.where(weights == 0, 0.0, weights * weights.log())
    if mask is not None:
        products = torch.where(mask, products, 0.0)
    return -products.sum(-1)
""",
    ),
)

_JACOBIAN = (
    Misconception(
        name="slopes on the diagonal only",
        task="softmax_jacobian",
        fails="softmax_jacobian__by_hand",
        told="the diagonal alone",
        edit=(
            (
                "torch.diag_embed(p) - p[..., :, None] * p[..., None, :]",
                "torch.diag_embed(p * (1 - p))",
            ),
        ),
    ),
    Misconception(
        name="Jacobian with the wrong sign",
        task="softmax_jacobian",
        fails="softmax_jacobian__by_hand",
        told="the sign is wrong",
        edit=(
            (
                "torch.diag_embed(p) - p[..., :, None] * p[..., None, :]",
                "p[..., :, None] * p[..., None, :] - torch.diag_embed(p)",
            ),
        ),
    ),
    Misconception(
        name="products only",
        task="softmax_jacobian",
        fails="softmax_jacobian__by_hand",
        told="diag(p) is missing",
        edit=(("torch.diag_embed(p) - p", "-p"),),
    ),
    Misconception(
        name="the formula of the diagonal everywhere",
        task="softmax_jacobian",
        fails="softmax_jacobian__by_hand",
        told="off the diagonal it is −p_i p_j",
        edit=(("torch.diag_embed(p) - p", "p[..., :, None] - p"),),
    ),
    Misconception(
        name="softmax taken again",
        task="softmax_jacobian",
        fails="softmax_jacobian__by_hand",
        told="p is the result of softmax already",
        edit=(("    return", "    p = p.softmax(-1)\n    return"),),
    ),
    Misconception(
        name="one row at a time",
        task="softmax_jacobian",
        fails="softmax_jacobian__batch",
        told="index axes from the end",
        edit=(
            (
                "torch.diag_embed(p) - p[..., :, None] * p[..., None, :]",
                "torch.diag(p) - torch.outer(p, p)",
            ),
        ),
    ),
    Misconception(
        name="products across the batch",
        task="softmax_jacobian",
        fails="softmax_jacobian__batch",
        told="its own n × n matrix",
        answer="""
def softmax_jacobian(p):
    rows = p.reshape(-1, p.shape[-1])
    products = rows.mT @ rows / len(rows)
    return torch.diag_embed(p) - products
""",
    ),
)

_HEADS = (
    Misconception(
        name="split by reshaping alone",
        task="heads",
        fails="heads__split",
        told="which mixes the tokens",
        edit=(
            (
                "    x = x.unflatten(-1, (H, x.shape[-1] // H))  # *batch T H D/H\n"
                "    return x.transpose(-2, -3)  # *batch H T D/H",
                "    *batch, T, D = x.shape\n    return x.reshape(*batch, H, T, D // H)",
            ),
        ),
    ),
    Misconception(
        name="heads interleaved",
        task="heads",
        fails="heads__split",
        told="the heads are interleaved",
        edit=(
            (
                "    x = x.unflatten(-1, (H, x.shape[-1] // H))  # *batch T H D/H\n"
                "    return x.transpose(-2, -3)",
                "    x = x.unflatten(-1, (x.shape[-1] // H, H))\n    return x.movedim(-1, -3)",
            ),
            (
                "return x.transpose(-2, -3).flatten(-2)",
                "return x.movedim(-3, -1).flatten(-2)",
            ),
        ),
    ),
    Misconception(
        name="tokens before heads",
        task="heads",
        fails="heads__split",
        told="the heads come before the tokens",
        edit=(("return x.transpose(-2, -3)  # *batch H T D/H", "return x"),),
    ),
    Misconception(
        name="merged by reshaping alone",
        task="heads",
        fails="heads__merge",
        told="merged without moving the heads",
        edit=(
            (
                "return x.transpose(-2, -3).flatten(-2)",
                "return x.reshape(*x.shape[:-3], x.shape[-2], -1)",
            ),
        ),
    ),
    Misconception(
        name="merged in the wrong order",
        task="heads",
        fails="heads__merge",
        told="the heads are interleaved",
        edit=(("return x.transpose(-2, -3).flatten(-2)", "return x.movedim(-3, -1).flatten(-2)"),),
    ),
    Misconception(
        name="view of what is not contiguous",
        task="heads",
        fails="heads__batch",
        told="use reshape or flatten where view refuses",
        edit=(
            (
                "x.unflatten(-1, (H, x.shape[-1] // H))",
                "x.view(*x.shape[:-1], H, x.shape[-1] // H).view(-1).view(*x.shape[:-1], H, -1)",
            ),
        ),
    ),
    Misconception(
        name="exactly one batch axis",
        task="heads",
        fails="heads__batch",
        told="count axes from the end",
        edit=(
            (
                "return x.transpose(-2, -3).flatten(-2)",
                "axis = 1 if x.ndim > 3 else 0\n    return x.transpose(axis, axis + 1).flatten(-2)",
            ),
        ),
    ),
)

# Written out where the mistake lies in what the layer would otherwise call.
_INLINE = """
class MultiHeadAttention(nn.Module):
    def __init__(self, D, H, source_width=None):
        super().__init__()
        source_width = D if source_width is None else source_width
        self.H = H
        self.W_q, self.W_o = nn.Linear(D, D), nn.Linear(D, D)
        self.W_k, self.W_v = nn.Linear(source_width, D), nn.Linear(source_width, D)

    def forward(self, x, source=None, mask=None):
        source = x if source is None else source
        (B, T, D), S, H = x.shape, source.shape[1], self.H
        q = self.W_q(x).view(B, T, H, D // H).transpose(1, 2)
        k = self.W_k(source).view(B, S, H, D // H).transpose(1, 2)
        v = self.W_v(source).view(B, S, H, D // H).transpose(1, 2)
        scores = q @ k.mT / (D // H) ** 0.5
        mask = torch.ones(T, S).bool() if mask is None else mask
        mask = mask[:, None] if mask.ndim == 3 else mask
        empty = ~mask.any(-1, keepdim=True)
        scores = scores.masked_fill(~mask, float("-inf")).masked_fill(empty, 0.0)
        weights = scores.softmax(-1).masked_fill(empty, 0.0)
        return self.W_o((weights @ v).transpose(1, 2).reshape(B, T, D))
"""


def _inline(*edits: tuple[str, str]) -> str:
    answer = _INLINE
    for old, new in edits:
        if answer.count(old) != 1:
            raise ValueError(f"{old!r} occurs {answer.count(old)} times in the layer written out")
        answer = answer.replace(old, new)
    return answer


_LAYER = (
    Misconception(
        name="scaled by the width of all heads",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__self_attention",
        told="scores divided by √D",
        answer=_inline(("(D // H) ** 0.5", "D**0.5")),
    ),
    Misconception(
        name="heads not scaled",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__self_attention",
        told="scores not divided by √(D/H)",
        answer=_inline((" / (D // H) ** 0.5", "")),
    ),
    Misconception(
        name="heads merged without a transpose",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__self_attention",
        told="heads merged without moving them",
        answer=_inline(("(weights @ v).transpose(1, 2)", "(weights @ v)")),
    ),
    Misconception(
        name="heads split without a transpose",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__self_attention",
        told="straight to (B, H, T, D/H)",
        answer=_inline(
            (".W_q(x).view(B, T, H, D // H).transpose(1, 2)", ".W_q(x).view(B, H, T, D // H)"),
            (
                "W_k(source).view(B, S, H, D // H).transpose(1, 2)",
                "W_k(source).view(B, H, S, D // H)",
            ),
            (
                "W_v(source).view(B, S, H, D // H).transpose(1, 2)",
                "W_v(source).view(B, H, S, D // H)",
            ),
        ),
    ),
    Misconception(
        name="no output projection",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__self_attention",
        told="W_o is missing",
        edit=(("return self.W_o(merge_heads(mixed))", "return merge_heads(mixed)"),),
    ),
    Misconception(
        name="one head of full width",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__self_attention",
        told="there is one head only",
        answer=_inline(("H = x.shape, source.shape[1], self.H", "H = x.shape, source.shape[1], 1")),
    ),
    Misconception(
        name="number and width of heads exchanged",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__self_attention",
        told="D/H heads of width H",
        answer=_inline(("source.shape[1], self.H", "source.shape[1], x.shape[2] // self.H")),
    ),
    Misconception(
        name="one projection for all three",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__self_attention",
        told="one projection serves as queries, keys and values",
        edit=(("self.W_k(source)", "self.W_q(source)"), ("self.W_v(source)", "self.W_q(source)")),
    ),
    Misconception(
        name="causal without being asked",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__self_attention",
        told="a causal mask that nobody asked for",
        edit=(
            (
                "    mixed = scaled",
                "    if mask is None:\n"
                "            mask = torch.ones(x.shape[1], source.shape[1]).tril().bool()\n"
                "        mixed = scaled",
            ),
        ),
    ),
    Misconception(
        name="time first",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__self_attention",
        told="batch and time are swapped",
        edit=(
            ("    source = x if", "    x = x.transpose(0, 1)\n        source = x if"),
            (
                "return self.W_o(merge_heads(mixed))",
                "return self.W_o(merge_heads(mixed)).transpose(0, 1)",
            ),
        ),
    ),
    Misconception(
        name="projections without bias",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__parameters",
        told="the layer has no W_q.bias",
        edit=(("self.W_q = nn.Linear(D, D)", "self.W_q = nn.Linear(D, D, bias=False)"),),
    ),
    Misconception(
        name="the source has the model's width",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__parameters",
        told="W_k and W_v map the source's width to D",
        edit=(("source_width = D if source_width is None else source_width", "source_width = D"),),
    ),
    Misconception(
        name="the source is ignored",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__cross_attention",
        told="is source ignored?",
        edit=(("source = x if source is None else source\n        q", "source = x\n        q"),),
    ),
    Misconception(
        name="values from the queries' side",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__cross_attention",
        told="keys and values both come from the source",
        edit=(("self.W_v(source)", "self.W_v(x)"),),
    ),
    Misconception(
        name="the mask is not handed on",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__masks",
        told="the mask is ignored",
        edit=(("attention(q, k, v, mask)", "attention(q, k, v)"),),
    ),
    Misconception(
        name="batch of the mask lined up with heads",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__masks",
        told="a mask with a batch axis needs an axis for the heads",
        edit=(("mask = mask.unsqueeze(1)", "mask = mask.expand(x.shape[0], *mask.shape[1:])"),),
    ),
    Misconception(
        name="every mask has a batch",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__masks",
        told="x (3, 4, 8), source (3, 5, 8), H = 2, mask (4, 5)",
        edit=(("mask is not None and mask.ndim == 3", "mask is not None"),),
    ),
    Misconception(
        name="weights used through .data",
        task="MultiHeadAttention",
        fails="MultiHeadAttention__gradient",
        told="no gradient reaches W_o.weight",
        edit=(
            (
                "self.W_o(merge_heads(mixed))",
                "merge_heads(mixed) @ self.W_o.weight.data.mT + self.W_o.bias",
            ),
        ),
    ),
)

_POSITIONS = (
    Misconception(
        name="positions from one",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__first_rows",
        told="the positions count from 1",
        edit=(("torch.arange(T)", "torch.arange(1, T + 1)"),),
    ),
    Misconception(
        name="sines first, cosines after",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__first_rows",
        told="all sines come first",
        edit=(
            (
                "torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)",
                "torch.cat([angle.sin(), angle.cos()], -1)",
            ),
        ),
    ),
    Misconception(
        name="cosine before sine",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__first_rows",
        told="sine and cosine are swapped",
        edit=(("[angle.sin(), angle.cos()]", "[angle.cos(), angle.sin()]"),),
    ),
    Misconception(
        name="exponent 4i over D",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__first_rows",
        told="the exponent is 4i/D",
        edit=(("-torch.arange(0, D, 2) / D", "-2 * torch.arange(0, D, 2) / D"),),
    ),
    Misconception(
        name="exponent i over D",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__first_rows",
        told="the exponent is i/D",
        edit=(("-torch.arange(0, D, 2) / D", "-torch.arange((D + 1) // 2) / D"),),
    ),
    Misconception(
        name="a frequency for every column",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__first_rows",
        told="the exponent differs within a pair",
        answer="""
def sinusoidal_positions(T, D):
    angle = torch.arange(T)[:, None] * 10_000.0 ** (-torch.arange(D) / D)
    even = torch.arange(D) % 2 == 0
    return torch.where(even, angle.sin(), angle.cos())
""",
    ),
    Misconception(
        name="base one thousand",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__first_rows",
        told="the base is 1000;",
        edit=(("10_000.0", "1_000.0"),),
    ),
    Misconception(
        name="angles in degrees",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__first_rows",
        told="taken for degrees",
        edit=(("position * frequency", "(position * frequency).deg2rad()"),),
    ),
    Misconception(
        name="only even widths",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__widths",
        told="one sine more than there are cosines",
        answer="""
def sinusoidal_positions(T, D):
    angle = torch.arange(T)[:, None] * 10_000.0 ** (-torch.arange(0, D, 2) / D)
    table = torch.zeros(T, D)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle.cos()
    return table
""",
    ),
    Misconception(
        name="an odd width cut from the even one",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__widths",
        told="computed for the even width above it",
        edit=(("torch.arange(0, D, 2) / D)", "torch.arange(0, D, 2) / (D + D % 2))"),),
    ),
    Misconception(
        name="a table of 512 positions",
        task="sinusoidal_positions",
        fails="sinusoidal_positions__far",
        told="shape (512, 32) but should have (2000, 32)",
        edit=(("torch.arange(T)", "torch.arange(512)[:T]"),),
    ),
)

MISCONCEPTIONS: tuple[Misconception, ...] = (
    *_MASK,
    *_ATTENTION,
    *_ENTROPY,
    *_JACOBIAN,
    *_HEADS,
    *_LAYER,
    *_POSITIONS,
)

RIGHT_ANSWERS: tuple[RightAnswer, ...] = (
    RightAnswer(
        name="one entry at a time",
        task="causal_mask",
        answer="""
def causal_mask(T, S=None, offset=0):
    if S is None:
        S = T
    mask = torch.zeros(T, S, dtype=torch.bool)
    for i in range(T):
        for j in range(S):
            mask[i, j] = j <= i + offset
    return mask
""",
    ),
    RightAnswer(
        name="lower triangle",
        task="causal_mask",
        answer="""
def causal_mask(T, S=None, offset=0):
    return torch.ones(T, T if S is None else S, dtype=torch.bool).tril(diagonal=offset)
""",
    ),
    RightAnswer(
        name="running count of keys",
        task="causal_mask",
        answer="""
def causal_mask(T, S=None, offset=0):
    ones = torch.ones(T, T if S is None else S, dtype=torch.int64)
    return ones.cumsum(1) <= torch.arange(T).reshape(-1, 1) + offset + 1
""",
    ),
    RightAnswer(
        name="slices of rows",
        task="causal_mask",
        answer="""
def causal_mask(T, S=None, offset=0):
    mask = torch.full((T, T if S is None else S), False)
    for i in range(T):
        mask[i, : max(i + offset + 1, 0)] = True
    return mask
""",
    ),
    RightAnswer(
        name="einsum and where",
        task="scaled_dot_product_attention",
        answer="""
def scaled_dot_product_attention(q, k, v, mask=None):
    scores = torch.einsum("...tk,...sk->...ts", q, k) / math.sqrt(q.shape[-1])
    if mask is None:
        mask = torch.ones((), dtype=torch.bool)
    mask = mask.expand(scores.shape)
    some = mask.any(-1, keepdim=True)
    scores = torch.where(mask | ~some, scores, -math.inf)
    weights = torch.where(some, torch.softmax(scores, -1), 0.0)
    return torch.einsum("...ts,...sv->...tv", weights, v)


import math
""",
    ),
    RightAnswer(
        name="softmax by hand",
        task="scaled_dot_product_attention",
        answer="""
def scaled_dot_product_attention(q, k, v, mask=None):
    scores = q.matmul(k.transpose(-2, -1)) * q.size(-1) ** -0.5
    if mask is not None:
        lowest = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(mask.logical_not(), lowest)
    top = scores.max(dim=-1, keepdim=True).values.detach()
    weights = torch.exp(scores - top)
    if mask is not None:
        weights = weights * mask
    total = weights.sum(dim=-1, keepdim=True)
    return (weights / torch.where(total == 0, 1.0, total)).matmul(v)
""",
    ),
    RightAnswer(
        name="logsumexp",
        task="scaled_dot_product_attention",
        answer="""
def scaled_dot_product_attention(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        open_rows = mask.any(-1, keepdim=True)
        scores = scores.masked_fill(~mask & open_rows, float("-inf"))
    weights = (scores - scores.logsumexp(-1, keepdim=True)).exp()
    return (weights if mask is None else weights * open_rows) @ v
""",
    ),
    RightAnswer(
        name="one query at a time",
        task="scaled_dot_product_attention",
        answer="""
def scaled_dot_product_attention(q, k, v, mask=None):
    batch, (T, K), S = q.shape[:-2], q.shape[-2:], k.shape[-2]
    if mask is None:
        mask = torch.ones(T, S, dtype=torch.bool)
    tables = mask.expand(*batch, T, S).reshape(-1, T, S)
    rows = []
    flat = (x.reshape(-1, *x.shape[-2:]) for x in (q, k, v))
    for queries, keys, values, table in zip(*flat, tables):
        for query, visible in zip(queries, table):
            if visible.any():
                weights = (keys[visible] @ query / K**0.5).softmax(0)
                rows.append(weights @ values[visible])
            else:
                rows.append(values.new_zeros(values.shape[-1]))
    return torch.stack(rows).reshape(*batch, T, v.shape[-1])
""",
    ),
    RightAnswer(
        name="entr",
        task="attention_entropy",
        answer="""
def attention_entropy(weights, mask=None):
    if mask is not None:
        weights = torch.where(mask, weights, torch.ones_like(weights))
    return torch.special.entr(weights).sum(dim=-1)
""",
    ),
    RightAnswer(
        name="smallest number under the logarithm",
        task="attention_entropy",
        answer="""
def attention_entropy(weights, mask=None):
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    logs = weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
    return -torch.einsum("...s,...s->...", weights, logs)
""",
    ),
    RightAnswer(
        name="one row at a time",
        task="attention_entropy",
        answer="""
def attention_entropy(weights, mask=None):
    rows = weights.reshape(-1, weights.shape[-1])
    open_to = (torch.tensor(True) if mask is None else mask).expand(weights.shape)
    entropies = []
    for row, visible in zip(rows, open_to.reshape(rows.shape)):
        p = row[visible]
        p = p[p > 0]
        entropies.append((p * (1 / p).log()).sum())
    return torch.stack(entropies).reshape(weights.shape[:-1])
""",
    ),
    RightAnswer(
        name="identity minus p",
        task="softmax_jacobian",
        answer="""
def softmax_jacobian(p):
    return p[..., None] * (torch.eye(p.shape[-1], dtype=p.dtype) - p[..., None, :])
""",
    ),
    RightAnswer(
        name="one entry at a time",
        task="softmax_jacobian",
        answer="""
def softmax_jacobian(p):
    n = p.shape[-1]
    jacobian = p.new_zeros(*p.shape, n)
    for i in range(n):
        for j in range(n):
            jacobian[..., i, j] = p[..., i] * (float(i == j) - p[..., j])
    return jacobian
""",
    ),
    RightAnswer(
        name="automatic differentiation",
        task="softmax_jacobian",
        answer="""
def softmax_jacobian(p):
    def softmax(scores):
        return scores.softmax(0)

    rows = p.reshape(-1, p.shape[-1]).log()
    matrices = [torch.autograd.functional.jacobian(softmax, row) for row in rows]
    return torch.stack(matrices).reshape(*p.shape, p.shape[-1])
""",
    ),
    RightAnswer(
        name="matrix products of columns and rows",
        task="softmax_jacobian",
        answer="""
def softmax_jacobian(p):
    column = p.unsqueeze(-1)
    outer = torch.matmul(column, column.transpose(-1, -2))
    diagonal = torch.zeros_like(outer)
    diagonal.diagonal(dim1=-2, dim2=-1).copy_(p)
    return diagonal - outer
""",
    ),
    RightAnswer(
        name="reshape and permute",
        task="heads",
        answer="""
def split_heads(x, H):
    *batch, T, D = x.shape
    n = len(batch)
    return x.reshape(*batch, T, H, D // H).permute(*range(n), n + 1, n, n + 2)


def merge_heads(x):
    *batch, H, T, K = x.shape
    n = len(batch)
    return x.permute(*range(n), n + 1, n, n + 2).reshape(*batch, T, H * K)
""",
    ),
    RightAnswer(
        name="chunks stacked and joined",
        task="heads",
        answer="""
def split_heads(x, H):
    return torch.stack(x.chunk(H, dim=-1), dim=-3)


def merge_heads(x):
    return torch.cat(x.unbind(dim=-3), dim=-1)
""",
    ),
    RightAnswer(
        name="index arithmetic",
        task="heads",
        answer="""
def split_heads(x, H):
    K = x.shape[-1] // H
    columns = torch.arange(H)[:, None] * K + torch.arange(K)
    return x[..., columns].movedim(-2, -3)


def merge_heads(x):
    H, T, K = x.shape[-3:]
    column = torch.arange(H * K)
    return x[..., column // K, :, column % K].movedim(0, -1)
""",
    ),
    RightAnswer(
        name="written out",
        task="MultiHeadAttention",
        answer=_INLINE,
    ),
    RightAnswer(
        name="one head after the other",
        task="MultiHeadAttention",
        answer="""
class MultiHeadAttention(nn.Module):
    def __init__(self, D, H, source_width=None):
        super().__init__()
        wide = source_width or D
        self.D, self.H = D, H
        for name, width in {"W_q": D, "W_k": wide, "W_v": wide, "W_o": D}.items():
            self.add_module(name, nn.Linear(width, D))

    def forward(self, x, source=None, mask=None):
        if source is None:
            source = x
        outputs = []
        for h in range(self.H):
            part = slice(h * self.D // self.H, (h + 1) * self.D // self.H)
            q, k = self.W_q(x)[..., part], self.W_k(source)[..., part]
            v = self.W_v(source)[..., part]
            outputs.append(scaled_dot_product_attention(q, k, v, mask=mask))
        return self.W_o(torch.cat(outputs, dim=-1))
""",
    ),
    RightAnswer(
        name="einsum over the layers' weights",
        task="MultiHeadAttention",
        answer="""
class MultiHeadAttention(nn.Module):
    def __init__(self, D, H, source_width=None):
        super().__init__()
        wide = D if source_width is None else source_width
        self.heads, self.width = H, D // H
        self.W_q = nn.Linear(D, D)
        self.W_k = nn.Linear(wide, D)
        self.W_v = nn.Linear(wide, D)
        self.W_o = nn.Linear(D, D)
        self.dropout = nn.Dropout(0.0)
        self.register_buffer("scale", torch.tensor(self.width**-0.5))

    def cut(self, linear, x):
        weight = linear.weight.reshape(self.heads, self.width, -1)
        bias = linear.bias.reshape(self.heads, 1, self.width)
        return torch.einsum("btd,hkd->bhtk", x, weight) + bias

    def forward(self, x, source=None, mask=None):
        y = x if source is None else source
        scores = self.scale * torch.einsum(
            "bhtk,bhsk->bhts", self.cut(self.W_q, x), self.cut(self.W_k, y)
        )
        if mask is not None:
            mask = mask.expand(x.shape[0], x.shape[1], y.shape[1])[:, None]
            scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        if mask is not None:
            weights = weights * mask
        mixed = torch.einsum("bhts,bhsk->bthk", self.dropout(weights), self.cut(self.W_v, y))
        return self.W_o(mixed.flatten(2))
""",
    ),
    RightAnswer(
        name="heads as a longer batch",
        task="MultiHeadAttention",
        answer="""
class MultiHeadAttention(nn.Module):
    def __init__(self, D, H, source_width=None):
        super().__init__()
        if source_width is None:
            source_width = D
        self.H = H
        self.W_q, self.W_o = nn.Linear(D, D), nn.Linear(D, D)
        self.W_k, self.W_v = nn.Linear(source_width, D), nn.Linear(source_width, D)

    def forward(self, x, source=None, mask=None):
        source = x if source is None else source
        B, T, D = x.shape
        q, k, v = (
            torch.cat(y.chunk(self.H, dim=-1), dim=0)
            for y in (self.W_q(x), self.W_k(source), self.W_v(source))
        )
        if mask is not None and mask.ndim == 3:
            mask = mask.expand(B, -1, -1).repeat(self.H, 1, 1)
        mixed = scaled_dot_product_attention(q, k, v, mask)
        return self.W_o(torch.cat(mixed.split(B), dim=-1))
""",
    ),
    RightAnswer(
        name="one number at a time",
        task="sinusoidal_positions",
        answer="""
import math


def sinusoidal_positions(T, D):
    table = torch.empty(T, D)
    for t in range(T):
        for j in range(D):
            angle = t / 10_000 ** ((j - j % 2) / D)
            table[t, j] = math.cos(angle) if j % 2 else math.sin(angle)
    return table
""",
    ),
    RightAnswer(
        name="slices of an empty table",
        task="sinusoidal_positions",
        answer="""
def sinusoidal_positions(T, D):
    position = torch.arange(T, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, D, 2) * (-torch.log(torch.tensor(10000.0)) / D))
    table = torch.zeros(T, D)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate[: D // 2])
    return table
""",
    ),
    RightAnswer(
        name="points on circles",
        task="sinusoidal_positions",
        answer="""
def sinusoidal_positions(T, D):
    pair = torch.arange((D + 1) // 2, dtype=torch.float64)
    angle = torch.outer(torch.arange(T, dtype=torch.float64), 10_000 ** (-2 * pair / D))
    circle = torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(circle).flip(-1).reshape(T, -1)[:, :D].float()
""",
    ),
    RightAnswer(
        name="cosine as a sine a quarter turn ahead",
        task="sinusoidal_positions",
        answer="""
def sinusoidal_positions(T, D):
    column = torch.arange(D)
    odd = column % 2
    angle = torch.arange(T)[:, None] / 10_000.0 ** ((column - odd) / D)
    return torch.sin(angle + odd * torch.pi / 2)
""",
    ),
)
