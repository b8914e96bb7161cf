"""Known answers to exercise 04: wrong ones with what each must be told, right ones to accept."""

from proctor.answers import Misconception, RightAnswer

_SOFTMAX = (
    Misconception(
        name="softmax down the columns",
        task="masked_softmax",
        fails="masked_softmax__by_hand",
        told="softmax runs down the columns",
        edit=(("return scores.softmax(-1)", "return scores.softmax(-2)"),),
    ),
    Misconception(
        name="one softmax for the whole table",
        task="masked_softmax",
        fails="masked_softmax__by_hand",
        told="the whole table shares the 1",
        edit=(
            (
                "return scores.softmax(-1)",
                "return scores.flatten().softmax(0).reshape(scores.shape)",
            ),
        ),
    ),
    Misconception(
        name="return forgotten",
        task="masked_softmax",
        fails="masked_softmax__by_hand",
        told="is `return` missing?",
        edit=(("return scores.softmax(-1)", "scores.softmax(-1)\n        return None"),),
    ),
    Misconception(
        name="mask inverted",
        task="masked_softmax",
        fails="masked_softmax__mask",
        told="the mask is inverted",
        edit=(
            ("empty = ~mask.any(-1, keepdim=True)", "empty = mask.all(-1, keepdim=True)"),
            ("masked_fill(~mask,", "masked_fill(mask,"),
        ),
    ),
    Misconception(
        name="mask after softmax",
        task="masked_softmax",
        fails="masked_softmax__mask",
        told="closed after softmax",
        edit=(
            ('    scores = scores.masked_fill(~mask, float("-inf"))\n', ""),
            (".softmax(-1).masked_fill(empty, 0.0)", ".softmax(-1).masked_fill(~mask, 0.0)"),
        ),
    ),
    Misconception(
        name="closed scores set to zero",
        task="masked_softmax",
        fails="masked_softmax__mask",
        told="closed scores became 0",
        edit=(('scores.masked_fill(~mask, float("-inf"))', "scores * mask"),),
    ),
    Misconception(
        name="writes into the scores",
        task="masked_softmax",
        fails="masked_softmax__mask",
        told="changed its argument scores in place",
        edit=(("scores.masked_fill(~mask,", "scores.masked_fill_(~mask,"),),
    ),
    Misconception(
        name="scaled back after softmax",
        task="masked_softmax",
        fails="masked_softmax__closed",
        told="close a score before softmax",
        answer="""
def masked_softmax(scores, mask=None):
    weights = scores.softmax(-1)
    if mask is None:
        return weights
    weights = weights * mask
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(mask.any(-1, keepdim=True), total, 1.0)
""",
    ),
    Misconception(
        name="a penalty of a thousand",
        task="masked_softmax",
        fails="masked_softmax__closed",
        told="no smaller number is sure to be enough",
        edit=(('scores.masked_fill(~mask, float("-inf"))', "scores - 1000.0 * ~mask"),),
    ),
    Misconception(
        name="closed scores set to minus ten thousand",
        task="masked_softmax",
        fails="masked_softmax__stable",
        told="-10000 is no longer small".replace("-", "−"),
        edit=(('float("-inf")', "-1e4"),),
    ),
    Misconception(
        name="exp without the maximum",
        task="masked_softmax",
        fails="masked_softmax__stable",
        told="exp does not",
        edit=(
            (
                "return scores.softmax(-1)",
                "return scores.exp() / scores.exp().sum(-1, keepdim=True)",
            ),
        ),
    ),
    Misconception(
        name="empty rows not thought of",
        task="masked_softmax",
        fails="masked_softmax__empty_rows",
        told="an empty row became NaN",
        edit=(
            (
                "scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)",
                "scores.softmax(-1)",
            ),
        ),
    ),
    Misconception(
        name="empty rows share equally",
        task="masked_softmax",
        fails="masked_softmax__empty_rows",
        told="an empty row became equal shares",
        edit=((".softmax(-1).masked_fill(empty, 0.0)", ".softmax(-1)"),),
    ),
    Misconception(
        name="NaN wiped off afterwards",
        task="masked_softmax",
        fails="masked_softmax__empty_rows",
        told="softmax of a row of −∞ has a NaN gradient",
        answer="""
def masked_softmax(scores, mask=None):
    if mask is not None:
        scores = scores + torch.zeros_like(scores).masked_fill(~mask, float("-inf"))
    return scores.softmax(-1).nan_to_num(0.0)
""",
    ),
    Misconception(
        name="minus a billion",
        task="masked_softmax",
        fails="masked_softmax__dtypes",
        told="float16 ends at 65504",
        edit=(('float("-inf")', "-1e9"),),
    ),
    Misconception(
        name="axis counted from the front",
        task="masked_softmax",
        fails="masked_softmax__inputs",
        told="the last axis is the row",
        edit=(("return scores.softmax(-1)", "return scores.softmax(1)"),),
    ),
)

_ADDITIVE = (
    Misconception(
        name="tanh left out",
        task="additive_score",
        fails="additive_score__by_hand",
        told="tanh is missing",
        edit=(("pairs.tanh()", "pairs"),),
    ),
    Misconception(
        name="bent before the sum",
        task="additive_score",
        fails="additive_score__by_hand",
        told="tanh was taken of each part",
        edit=(
            ("query @ W_a.T", "(query @ W_a.T).tanh()"),
            ("memory @ U_a.T", "(memory @ U_a.T).tanh()"),
            ("pairs.tanh()", "pairs"),
        ),
    ),
    Misconception(
        name="bent after the sum of the units",
        task="additive_score",
        fails="additive_score__by_hand",
        told="v_a belongs outside tanh",
        edit=(("pairs.tanh() @ v_a", "(pairs @ v_a).tanh()"),),
    ),
    Misconception(
        name="hidden units added up without weights",
        task="additive_score",
        fails="additive_score__by_hand",
        told="without v_a",
        edit=(("pairs.tanh() @ v_a", "pairs.tanh().sum(-1)"),),
    ),
    Misconception(
        name="hidden units not added up",
        task="additive_score",
        fails="additive_score__by_hand",
        told="v_a sums them up",
        edit=(("pairs.tanh() @ v_a", "pairs.tanh() * v_a"),),
    ),
    Misconception(
        name="matrix of the query not transposed",
        task="additive_score",
        fails="additive_score__by_hand",
        told="the matrix W_a is transposed",
        edit=(("query @ W_a.T", "query @ W_a"),),
    ),
    Misconception(
        name="entries ask queries",
        task="additive_score",
        fails="additive_score__by_hand",
        told="rows and columns are swapped",
        edit=(("return pairs.tanh() @ v_a", "return (pairs.tanh() @ v_a).mT"),),
    ),
    Misconception(
        name="weights instead of scores",
        task="additive_score",
        fails="additive_score__by_hand",
        told="softmax was taken already",
        edit=(("return pairs.tanh() @ v_a", "return (pairs.tanh() @ v_a).softmax(-1)"),),
    ),
    Misconception(
        name="no axis for the pairs",
        task="additive_score",
        fails="additive_score__pairs",
        told="your code stopped on a batch of two",
        edit=(
            (
                "asked[..., :, None, :] + offered[..., None, :, :]",
                "asked[:, None] + offered[None]",
            ),
        ),
    ),
    Misconception(
        name="batch axes counted from the front",
        task="additive_score",
        fails="additive_score__inputs",
        told="any number of batch axes",
        answer="""
def additive_score(query, memory, W_a, U_a, v_a):
    asked, offered = query @ W_a.T, memory @ U_a.T
    if query.ndim == 2:
        return (asked[:, None] + offered[None]).tanh() @ v_a
    return (asked[:, :, None] + offered[:, None]).tanh() @ v_a
""",
    ),
    Misconception(
        name="entries mapped without their gradient",
        task="additive_score",
        fails="additive_score__gradient",
        told="is memory used, and not detached?",
        edit=(("memory @ U_a.T", "memory.detach() @ U_a.T"),),
    ),
)

_LUONG = (
    Misconception(
        name="dot product scaled",
        task="luong_score",
        fails="luong_score__dot",
        told="Luong's dot product is not scaled",
        edit=(("return query @ memory.mT", "return query @ memory.mT / query.shape[-1] ** 0.5"),),
    ),
    Misconception(
        name="cosine for dot product",
        task="luong_score",
        fails="luong_score__dot",
        told="which makes cosines",
        edit=(
            (
                "return query @ memory.mT",
                "return torch.cosine_similarity(query.unsqueeze(-2), memory.unsqueeze(-3), -1)",
            ),
        ),
    ),
    Misconception(
        name="rows are entries",
        task="luong_score",
        fails="luong_score__dot",
        told="rows and columns are swapped",
        edit=(("return query @ memory.mT", "return memory @ query.mT"),),
    ),
    Misconception(
        name="general with its matrix the wrong way round",
        task="luong_score",
        fails="luong_score__general",
        told="W_a stands the wrong way round",
        edit=(("query @ W_a @ memory.mT", "query @ W_a.T @ memory.mT"),),
    ),
    Misconception(
        name="general with a tanh",
        task="luong_score",
        fails="luong_score__general",
        told="general has none",
        edit=(("query @ W_a @ memory.mT", "torch.tanh(query @ W_a @ memory.mT)"),),
    ),
    Misconception(
        name="general without its matrix",
        task="luong_score",
        fails="luong_score__general",
        told="W_a is not used",
        edit=(("query @ W_a @ memory.mT", "query @ memory.mT + 0 * W_a.sum()"),),
    ),
    Misconception(
        name="memory before query",
        task="luong_score",
        fails="luong_score__concat",
        told="the memory stands before the query",
        edit=(
            (
                "query @ W_a[:, :D].T, memory @ W_a[:, D:].T",
                "query @ W_a[:, -D:].T, memory @ W_a[:, :-D].T",
            ),
        ),
    ),
    Misconception(
        name="concat without tanh",
        task="luong_score",
        fails="luong_score__concat",
        told="tanh is missing",
        edit=(("pairs.tanh()", "pairs"),),
    ),
    Misconception(
        name="concat without the last weights",
        task="luong_score",
        fails="luong_score__concat",
        told="without v_a",
        edit=(("pairs.tanh() @ v_a", "pairs.tanh().sum(-1)"),),
    ),
    Misconception(
        name="unknown kinds taken for dot",
        task="luong_score",
        fails="luong_score__unknown",
        told="raised no error",
        edit=(
            (
                'raise ValueError(f"unknown kind {kind!r}; choose dot, general or concat")',
                "return query @ memory.transpose(-1, -2)",
            ),
        ),
    ),
    Misconception(
        name="kinds looked up in a dict",
        task="luong_score",
        fails="luong_score__unknown",
        told="an unknown kind must raise a ValueError",
        edit=(("raise ValueError(f", "raise KeyError(f"),),
    ),
    Misconception(
        name="error without the name",
        task="luong_score",
        fails="luong_score__unknown",
        told="does not name the unknown kind",
        edit=(
            (
                'f"unknown kind {kind!r}; choose dot, general or concat"',
                '"unknown kind; choose dot, general or concat"',
            ),
        ),
    ),
    Misconception(
        name="transposed by .T",
        task="luong_score",
        fails="luong_score__inputs",
        told="count axes from the end",
        edit=(("return query @ memory.mT", "return query @ memory.T"),),
    ),
    Misconception(
        name="query cut off the graph",
        task="luong_score",
        fails="luong_score__gradient",
        told="is query used, and not detached?",
        edit=(("return query @ memory.mT", "return query.detach() @ memory.mT"),),
    ),
)

_ATTEND = (
    Misconception(
        name="weights first",
        task="attend",
        fails="attend__by_hand",
        told="the context comes first",
        edit=(("return weights @ memory, weights", "return weights, weights @ memory"),),
    ),
    Misconception(
        name="context alone",
        task="attend",
        fails="attend__by_hand",
        told="return two tensors",
        edit=(("return weights @ memory, weights", "return weights @ memory"),),
    ),
    Misconception(
        name="scores mix the memory",
        task="attend",
        fails="attend__by_hand",
        told="the scores were used as weights",
        edit=(("return weights @ memory,", "return scores @ memory,"),),
    ),
    Misconception(
        name="weighted entries averaged",
        task="attend",
        fails="attend__by_hand",
        told="the weights sum to 1 already",
        edit=(("return weights @ memory,", "return weights @ memory / memory.shape[-2],"),),
    ),
    Misconception(
        name="the best entry alone",
        task="attend",
        fails="attend__by_hand",
        told="the heaviest entry alone",
        edit=(
            (
                "return weights @ memory,",
                "return (weights == weights.amax(-1, keepdim=True)).to(memory.dtype) @ memory,",
            ),
        ),
    ),
    Misconception(
        name="lengths ignored",
        task="attend",
        fails="attend__lengths",
        told="lengths are ignored",
        edit=(("masked_softmax(scores, mask)", "masked_softmax(scores)"),),
    ),
    Misconception(
        name="one position too many",
        task="attend",
        fails="attend__lengths",
        told="one position too many is open",
        edit=(("torch.arange(scores.shape[-1]) <", "torch.arange(scores.shape[-1]) <="),),
    ),
    Misconception(
        name="padding open",
        task="attend",
        fails="attend__lengths",
        told="the padding is open",
        edit=(("torch.arange(scores.shape[-1]) <", "torch.arange(scores.shape[-1]) >="),),
    ),
    Misconception(
        name="a length a query",
        task="attend",
        fails="attend__lengths",
        told="it belongs to a sentence",
        edit=(("lengths[..., None, None]", "lengths[..., None]"),),
    ),
    Misconception(
        name="padding erased after softmax",
        task="attend",
        fails="attend__lengths",
        told="padding was erased after softmax",
        edit=(
            (
                "weights = masked_softmax(scores, mask)",
                "weights = masked_softmax(scores)\n"
                "    weights = weights if mask is None else weights * mask",
            ),
        ),
    ),
    Misconception(
        name="an empty source opened",
        task="attend",
        fails="attend__padding",
        told="the context where the source is empty",
        edit=(("lengths[..., None, None]", "lengths.clamp(min=1)[..., None, None]"),),
    ),
    Misconception(
        name="lengths for one batch axis",
        task="attend",
        fails="attend__inputs",
        told="is an axis counted from the front?",
        answer="""
def attend(scores, memory, lengths=None):
    mask = None
    if lengths is not None:
        mask = torch.arange(scores.shape[-1]) < lengths.reshape(-1, 1, 1)
    weights = masked_softmax(scores, mask)
    return weights @ memory, weights
""",
    ),
    Misconception(
        name="weights handed out without their gradient",
        task="attend",
        fails="attend__gradient",
        told="no gradient flows back from the table of weights",
        edit=(("memory, weights", "memory, weights.detach()"),),
    ),
)

_STEP = (
    Misconception(
        name="the new state asks",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="the new state asked, which is Luong's order",
        edit=(
            (
                "scores = additive_score(s[:, None]",
                's_i = torch.tanh(y @ params["W_y"].T + s @ params["W_s"].T)\n'
                "    scores = additive_score(s_i[:, None]",
            ),
        ),
    ),
    Misconception(
        name="the word asks",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="the word before asked",
        edit=(("additive_score(s[:, None]", "additive_score(y[:, None]"),),
    ),
    Misconception(
        name="encoder ignored by the state",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="the encoder is ignored",
        edit=((' + context @ params["W_c"].T', ""),),
    ),
    Misconception(
        name="mean of the source",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="the mean of the memory entered it",
        edit=(("context, weights = context[:, 0]", "context, weights = memory.mean(1)"),),
    ),
    Misconception(
        name="last entry of the source",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="the last entry of the memory",
        edit=(("context, weights = context[:, 0]", "context, weights = memory[:, -1]"),),
    ),
    Misconception(
        name="state forgotten",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="the old state is missing",
        edit=((' + s @ params["W_s"].T', ""),),
    ),
    Misconception(
        name="step without tanh",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="tanh is missing",
        edit=(("torch.tanh(total)", "total"),),
    ),
    Misconception(
        name="state returned before logits",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="logits and state are swapped",
        edit=(("return logits, new, weights", "return new, logits, weights"),),
    ),
    Misconception(
        name="the old state writes",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="they come from the old state",
        edit=(("torch.cat([new, context]", "torch.cat([s, context]"),),
    ),
    Misconception(
        name="context before state",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="the context stands before the state",
        edit=(("torch.cat([new, context]", "torch.cat([context, new]"),),
    ),
    Misconception(
        name="probabilities for logits",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="logits come before it",
        edit=(("return logits, new", "return logits.softmax(-1), new"),),
    ),
    Misconception(
        name="axis of the query left standing",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="the axis of the one query is still there",
        edit=(("return logits, new, weights", "return logits, new, weights[:, None]"),),
    ),
    Misconception(
        name="squeeze without an axis",
        task="attention_decoder_step",
        fails="attention_decoder_step__by_hand",
        told="squeeze() takes every axis",
        edit=(("context[:, 0], weights[:, 0]", "context.squeeze(), weights.squeeze()"),),
    ),
    Misconception(
        name="lengths not handed on",
        task="attention_decoder_step",
        fails="attention_decoder_step__source",
        told="hand lengths on to attend",
        edit=(("attend(scores, memory, lengths)", "attend(scores, memory)"),),
    ),
    Misconception(
        name="word and state ask together",
        task="attention_decoder_step",
        fails="attention_decoder_step__query",
        told="neither the word nor the new state",
        edit=(
            (
                "additive_score(s[:, None]",
                "additive_score((s + (y.mean(-1, keepdim=True)))[:, None]",
            ),
        ),
    ),
    Misconception(
        name="one query too many axes taken away",
        task="attention_decoder_step",
        fails="attention_decoder_step__sizes",
        told="is squeeze() given its axis?",
        edit=(
            (
                "context, weights = context[:, 0], weights[:, 0]",
                "context, weights = context.squeeze(0).squeeze(-2), weights[:, 0]",
            ),
        ),
    ),
    Misconception(
        name="source detached",
        task="attention_decoder_step",
        fails="attention_decoder_step__gradient",
        told="is memory used, and not detached?",
        edit=(
            ("(s[:, None], memory,", "(s[:, None], memory.detach(),"),
            ("attend(scores, memory,", "attend(scores, memory.detach(),"),
        ),
    ),
)

_WINDOW = (
    Misconception(
        name="scaled back to one",
        task="local_window",
        fails="local_window__gaussian",
        told="scaled back to the sum 1",
        edit=(
            (
                "return masked_softmax(scores, near) * gaussian",
                "weights = masked_softmax(scores, near) * gaussian\n"
                "    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-30)",
            ),
        ),
    ),
    Misconception(
        name="window without Gaussian",
        task="local_window",
        fails="local_window__gaussian",
        told="there is no Gaussian",
        edit=(("masked_softmax(scores, near) * gaussian", "masked_softmax(scores, near)"),),
    ),
    Misconception(
        name="Gaussian on the scores",
        task="local_window",
        fails="local_window__gaussian",
        told="it faded the scores, not the weights",
        edit=(
            ("masked_softmax(scores, near) * gaussian", "masked_softmax(scores * gaussian, near)"),
        ),
    ),
    Misconception(
        name="Gaussian without window",
        task="local_window",
        fails="local_window__gaussian",
        told="there is no window",
        edit=(("near = distance.abs() <= reach", "near = torch.ones_like(distance).bool()"),),
    ),
    Misconception(
        name="window cut after softmax",
        task="local_window",
        fails="local_window__gaussian",
        told="the window was cut afterwards",
        edit=(
            (
                "return masked_softmax(scores, near) * gaussian",
                "real = None if lengths is None else s < lengths[..., None, None]\n"
                "    return masked_softmax(scores, real) * near * gaussian",
            ),
        ),
    ),
    Misconception(
        name="sigma is the reach",
        task="local_window",
        fails="local_window__gaussian",
        told="sigma is the reach",
        edit=(("sigma = reach / 2", "sigma = reach"),),
    ),
    Misconception(
        name="Gaussian without its 2",
        task="local_window",
        fails="local_window__gaussian",
        told="the 2 in 2σ² is missing",
        edit=(("(2 * sigma**2)", "sigma**2"),),
    ),
    Misconception(
        name="density of the normal distribution",
        task="local_window",
        fails="local_window__gaussian",
        told="it is 1 at the centre",
        edit=(
            (
                "return masked_softmax(scores, near) * gaussian",
                "gaussian = gaussian / (sigma * (2 * torch.pi) ** 0.5)\n"
                "    return masked_softmax(scores, near) * gaussian",
            ),
        ),
    ),
    Misconception(
        name="share of the last position",
        task="local_window",
        fails="local_window__gaussian",
        told="a share of S − 1",
        edit=(("centre = length *", "centre = (length - 1) *"),),
    ),
    Misconception(
        name="centre in the padded source",
        task="local_window",
        fails="local_window__lengths",
        told="the centre counts the padding",
        edit=(("centre = length *", "centre = scores.shape[-1] *"),),
    ),
    Misconception(
        name="window reaches into the padding",
        task="local_window",
        fails="local_window__lengths",
        told="padding is open",
        edit=(("near = near & (s < lengths[..., None, None])", "pass"),),
    ),
    Misconception(
        name="edge closed",
        task="local_window",
        fails="local_window__lengths",
        told="the edge of the window is closed",
        edit=(("distance.abs() <= reach", "distance.abs() < reach"),),
    ),
    Misconception(
        name="place rounded",
        task="local_window",
        fails="local_window__centre",
        told="the centre was rounded; p stays real",
        edit=(
            ("length * torch.sigmoid(", "torch.round(length * torch.sigmoid("),
            ("@ v_p)  #", "@ v_p))  #"),
        ),
    ),
    Misconception(
        name="place without tanh",
        task="local_window",
        fails="local_window__centre",
        told="tanh is missing in the centre",
        edit=(("torch.tanh(query @ W_p.T)", "(query @ W_p.T)"),),
    ),
    Misconception(
        name="place by a transposed matrix",
        task="local_window",
        fails="local_window__centre",
        told="W_p is transposed",
        edit=(("query @ W_p.T", "query @ W_p"),),
    ),
    Misconception(
        name="place detached",
        task="local_window",
        fails="local_window__gradient",
        told="reaches W_p and v_p through the Gaussian",
        edit=(("distance = s - centre[..., None]", "distance = s - centre.detach()[..., None]"),),
    ),
    Misconception(
        name="lengths for one batch axis",
        task="local_window",
        fails="local_window__inputs",
        told="any number of batch axes",
        edit=(("lengths[..., None]  #", "lengths[:, None]  #"),),
    ),
)

_RATE = (
    Misconception(
        name="share that is right",
        task="alignment_error_rate",
        fails="alignment_error_rate__by_hand",
        told="1 − … is missing",
        edit=(("return 1 - (found", "return (found"),),
    ),
    Misconception(
        name="sure links only",
        task="alignment_error_rate",
        fails="alignment_error_rate__by_hand",
        told="possible links are ignored",
        edit=(("(links & possible).sum()", "(links & sure).sum()"),),
    ),
    Misconception(
        name="all possible links demanded",
        task="alignment_error_rate",
        fails="alignment_error_rate__by_hand",
        told="it divides by |A| + |P|",
        edit=(("links.sum() + sure.sum()", "links.sum() + possible.sum()"),),
    ),
    Misconception(
        name="precision alone",
        task="alignment_error_rate",
        fails="alignment_error_rate__by_hand",
        told="the precision",
        edit=(
            ("(links & sure).sum() + (links", "(links"),
            ("links.sum() + sure.sum()", "links.sum()"),
        ),
    ),
    Misconception(
        name="recall alone",
        task="alignment_error_rate",
        fails="alignment_error_rate__by_hand",
        told="the recall",
        edit=(
            ("(links & sure).sum() + (links & possible).sum()", "(links & sure).sum()"),
            ("links.sum() + sure.sum()", "sure.sum()"),
        ),
    ),
    Misconception(
        name="share of entries that differ",
        task="alignment_error_rate",
        fails="alignment_error_rate__by_hand",
        told="links and sure differ",
        edit=(
            (
                "return 1 - (found / (links.sum() + sure.sum())).item()",
                "return (links != sure).double().mean().item()",
            ),
        ),
    ),
    Misconception(
        name="everything possible",
        task="alignment_error_rate",
        fails="alignment_error_rate__ends",
        told="it stands for the sure links",
        edit=(("sure if possible is None", "torch.ones_like(sure) if possible is None"),),
    ),
    Misconception(
        name="possible links not optional",
        task="alignment_error_rate",
        fails="alignment_error_rate__ends",
        told="NoneType",
        edit=(("    possible = sure if possible is None else possible\n", ""),),
    ),
    Misconception(
        name="mean of the sentences' rates",
        task="alignment_error_rate",
        fails="alignment_error_rate__corpus",
        told="the rates of the sentences were averaged",
        answer="""
def alignment_error_rate(links, sure, possible=None):
    possible = sure if possible is None else possible
    axes = (-1, -2)
    found = (links & sure).sum(axes) + (links & possible).sum(axes)
    return (1 - found / (links.sum(axes) + sure.sum(axes))).mean().item()
""",
    ),
    Misconception(
        name="a rate for each sentence",
        task="alignment_error_rate",
        fails="alignment_error_rate__corpus",
        told="should be one number",
        answer="""
def alignment_error_rate(links, sure, possible=None):
    possible = sure if possible is None else possible
    axes = (-1, -2)
    found = (links & sure).sum(axes) + (links & possible).sum(axes)
    return 1 - found / (links.sum(axes) + sure.sum(axes))
""",
    ),
    Misconception(
        name="rounded to two digits",
        task="alignment_error_rate",
        fails="alignment_error_rate__random",
        told="the error rate is not the right number",
        edit=(
            (
                "return 1 - (found / (links.sum() + sure.sum())).item()",
                "return round(1 - (found / (links.sum() + sure.sum())).item(), 2)",
            ),
        ),
    ),
    Misconception(
        name="sure links struck out in place",
        task="alignment_error_rate",
        fails="alignment_error_rate__by_hand",
        told="changed its argument links in place",
        answer="""
def alignment_error_rate(links, sure, possible=None):
    possible = sure if possible is None else possible
    total = links.sum() + sure.sum()
    found = (links & sure).sum()
    links &= possible
    return 1 - ((found + links.sum()) / total).item()
""",
    ),
)

MISCONCEPTIONS: tuple[Misconception, ...] = (
    *_SOFTMAX,
    *_ADDITIVE,
    *_LUONG,
    *_ATTEND,
    *_STEP,
    *_WINDOW,
    *_RATE,
)

RIGHT_ANSWERS: tuple[RightAnswer, ...] = (
    RightAnswer(
        name="softmax by hand",
        task="masked_softmax",
        answer="""
def masked_softmax(scores, mask=None):
    if mask is None:
        mask = torch.ones_like(scores, dtype=torch.bool)
    top = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).amax(-1, keepdim=True).detach()
    shifted = torch.where(mask, scores - top, 0.0)
    weights = torch.exp(shifted) * mask
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total == 0, torch.ones_like(total), total)
""",
    ),
    RightAnswer(
        name="lowest number and erased",
        task="masked_softmax",
        answer="""
def masked_softmax(scores, mask=None):
    if mask is None:
        return torch.nn.functional.softmax(scores, dim=-1)
    lowest = torch.finfo(scores.dtype).min
    return torch.where(mask, scores, lowest).softmax(dim=-1) * mask
""",
    ),
    RightAnswer(
        name="logsumexp",
        task="masked_softmax",
        answer="""
def masked_softmax(scores, mask=None):
    if mask is None:
        return (scores - scores.logsumexp(-1, keepdim=True)).exp()
    some = mask.any(-1, keepdim=True)
    scores = scores.masked_fill(~mask & some, float("-inf"))
    return (scores - scores.logsumexp(-1, keepdim=True)).exp() * some
""",
    ),
    RightAnswer(
        name="one row at a time",
        task="masked_softmax",
        answer="""
def masked_softmax(scores, mask=None):
    S = scores.shape[-1]
    mask = torch.tensor(True) if mask is None else mask
    rows = []
    for row, visible in zip(scores.reshape(-1, S), mask.expand(scores.shape).reshape(-1, S)):
        weights = torch.zeros_like(row)
        if visible.any():
            places = visible.nonzero()[:, 0]
            weights = weights.index_add(0, places, row[places].softmax(0))
        rows.append(weights)
    return torch.stack(rows).reshape(scores.shape)
""",
    ),
    RightAnswer(
        name="einsum",
        task="additive_score",
        answer="""
def additive_score(query, memory, W_a, U_a, v_a):
    asked = torch.einsum("...td,kd->...tk", query, W_a).unsqueeze(-2)
    offered = torch.einsum("...sw,kw->...sk", memory, U_a).unsqueeze(-3)
    return torch.einsum("...k,k->...", torch.tanh(asked + offered), v_a)
""",
    ),
    RightAnswer(
        name="one query at a time",
        task="additive_score",
        answer="""
def additive_score(query, memory, W_a, U_a, v_a):
    offered = torch.nn.functional.linear(memory, U_a)
    rows = []
    for s in query.unbind(dim=-2):
        asked = torch.nn.functional.linear(s, W_a).unsqueeze(-2)
        rows.append(torch.tanh(asked + offered).matmul(v_a))
    return torch.stack(rows, dim=-2)
""",
    ),
    RightAnswer(
        name="pairs concatenated",
        task="additive_score",
        answer="""
def additive_score(query, memory, W_a, U_a, v_a):
    T, S = query.shape[-2], memory.shape[-2]
    queries = query.unsqueeze(-2).expand(*query.shape[:-1], S, query.shape[-1])
    entries = memory.unsqueeze(-3).expand(*memory.shape[:-2], T, *memory.shape[-2:])
    weights = torch.cat([W_a, U_a], dim=1)
    hidden = torch.tanh(torch.cat([queries, entries], dim=-1) @ weights.T)
    return (hidden * v_a).sum(dim=-1)
""",
    ),
    RightAnswer(
        name="einsum for all three",
        task="luong_score",
        answer="""
def luong_score(query, memory, kind, W_a=None, v_a=None):
    if kind not in ("dot", "general", "concat"):
        raise ValueError(f"there is no score of kind {kind}")
    if kind == "dot":
        return torch.einsum("...td,...sd->...ts", query, memory)
    if kind == "general":
        return torch.einsum("...td,dw,...sw->...ts", query, W_a, memory)
    T, S = query.shape[-2], memory.shape[-2]
    queries = query.unsqueeze(-2).expand(*query.shape[:-1], S, query.shape[-1])
    entries = memory.unsqueeze(-3).expand(*memory.shape[:-2], T, *memory.shape[-2:])
    both = torch.cat([queries, entries], dim=-1)
    return torch.tanh(both @ W_a.T) @ v_a
""",
    ),
    RightAnswer(
        name="concat through additive_score",
        task="luong_score",
        answer="""
def luong_score(query, memory, kind, W_a=None, v_a=None):
    D = query.size(-1)
    if kind == "concat":
        return additive_score(query, memory, W_a=W_a[:, :D], U_a=W_a[:, D:], v_a=v_a)
    if kind not in {"dot", "general"}:
        raise ValueError(f"no kind {kind!r}")
    keys = memory if kind == "dot" else memory @ W_a.T
    return torch.matmul(query, keys.transpose(-2, -1))
""",
    ),
    RightAnswer(
        name="a dict of functions",
        task="luong_score",
        answer="""
def luong_score(query, memory, kind, W_a=None, v_a=None):
    def concat():
        asked, offered = W_a.split([query.shape[-1], memory.shape[-1]], dim=1)
        left = torch.nn.functional.linear(query, asked)
        right = torch.nn.functional.linear(memory, offered)
        return (torch.tanh(left.unsqueeze(-2) + right.unsqueeze(-3)) * v_a).sum(-1)

    kinds = {
        "dot": lambda: query.matmul(memory.transpose(-1, -2)),
        "general": lambda: query.matmul((memory @ W_a.T).transpose(-1, -2)),
        "concat": concat,
    }
    if kind in kinds:
        return kinds[kind]()
    raise ValueError("unknown: " + kind)
""",
    ),
    RightAnswer(
        name="one query at a time, by match",
        task="luong_score",
        answer="""
def luong_score(query, memory, kind, W_a=None, v_a=None):
    D = query.shape[-1]
    rows = []
    for h in query.unbind(-2):
        match kind:
            case "dot":
                row = (memory * h.unsqueeze(-2)).sum(-1)
            case "general":
                row = ((memory @ W_a.T) * h.unsqueeze(-2)).sum(-1)
            case "concat":
                row = (memory @ W_a[:, D:].T + (h @ W_a[:, :D].T).unsqueeze(-2)).tanh() @ v_a
            case _:
                raise ValueError(f"{kind}?")
        rows.append(row)
    return torch.stack(rows, dim=-2)
""",
    ),
    RightAnswer(
        name="einsum and keyword mask",
        task="attend",
        answer="""
def attend(scores, memory, lengths=None):
    *batch, T, S = scores.shape
    if lengths is None:
        weights = masked_softmax(scores)
    else:
        real = torch.arange(S).expand(*batch, T, S) < lengths.reshape(*batch, 1, 1)
        weights = masked_softmax(scores, mask=real)
    return torch.einsum("...ts,...sw->...tw", weights, memory), weights
""",
    ),
    RightAnswer(
        name="a softmax of its own",
        task="attend",
        answer="""
def attend(scores, memory, lengths=None):
    S = scores.shape[-1]
    if lengths is None:
        weights = torch.softmax(scores, dim=-1)
    else:
        position = torch.arange(1, S + 1)
        real = (position <= lengths.unsqueeze(-1)).unsqueeze(-2)
        weights = torch.softmax(scores.masked_fill(~real, torch.finfo(scores.dtype).min), -1)
        weights = weights * real
    context = (weights.unsqueeze(-1) * memory.unsqueeze(-3)).sum(dim=-2)
    return context, weights
""",
    ),
    RightAnswer(
        name="one sentence at a time, a list of two",
        task="attend",
        answer="""
def attend(scores, memory, lengths=None):
    batch, (T, S), W = scores.shape[:-2], scores.shape[-2:], memory.shape[-1]
    if lengths is None:
        lengths = torch.full(batch, S)
    contexts, weights = [], []
    for a, h, n in zip(scores.reshape(-1, T, S), memory.reshape(-1, S, W), lengths.reshape(-1)):
        row = torch.cat([a[:, :n].softmax(-1), torch.zeros(T, S - int(n), dtype=a.dtype)], -1)
        weights.append(row)
        contexts.append(row @ h)
    return [torch.stack(contexts).reshape(*batch, T, W), torch.stack(weights).reshape(*batch, T, S)]
""",
    ),
    RightAnswer(
        name="written out without earlier tasks",
        task="attention_decoder_step",
        answer="""
def attention_decoder_step(y, s, memory, params, lengths=None):
    W_a, U_a, v_a, W_y, W_s, W_c, W_o = (
        params[name] for name in ("W_a", "U_a", "v_a", "W_y", "W_s", "W_c", "W_o")
    )
    e = torch.tanh((s @ W_a.T).unsqueeze(1) + memory @ U_a.T) @ v_a
    if lengths is not None:
        e = e.masked_fill(torch.arange(e.shape[1]) >= lengths.unsqueeze(1), float("-inf"))
    alpha = torch.softmax(e, dim=1)
    c = torch.einsum("bs,bsw->bw", alpha, memory)
    s_i = torch.tanh(torch.cat([y, s, c], dim=1) @ torch.cat([W_y, W_s, W_c], dim=1).T)
    D = s.shape[1]
    return s_i @ W_o[:, :D].T + c @ W_o[:, D:].T, s_i, alpha
""",
    ),
    RightAnswer(
        name="keywords and squeeze with an axis",
        task="attention_decoder_step",
        answer="""
def attention_decoder_step(y, s, memory, params, lengths=None):
    scores = additive_score(
        query=s.unsqueeze(1),
        memory=memory,
        W_a=params["W_a"],
        U_a=params["U_a"],
        v_a=params["v_a"],
    )
    c, weights = attend(scores=scores, memory=memory, lengths=lengths)
    linear = torch.nn.functional.linear
    c = c.squeeze(1)
    state = linear(y, params["W_y"]) + linear(s, params["W_s"]) + linear(c, params["W_c"])
    state = torch.tanh(state)
    logits = linear(torch.cat((state, c), dim=1), params["W_o"])
    return logits, state, weights.squeeze(1)
""",
    ),
    RightAnswer(
        name="masked_softmax called directly",
        task="attention_decoder_step",
        answer="""
def attention_decoder_step(y, s, memory, params, lengths=None):
    mask = None
    if lengths is not None:
        mask = torch.arange(memory.shape[1]) < lengths[:, None]
    e = additive_score(s[:, None], memory, params["W_a"], params["U_a"], params["v_a"])[:, 0]
    weights = masked_softmax(e, mask)
    context = (weights[..., None] * memory).sum(1)
    total = sum(x @ params[n].T for n, x in {"W_y": y, "W_s": s, "W_c": context}.items())
    new = total.tanh()
    return torch.hstack([new, context]) @ params["W_o"].T, new, weights
""",
    ),
    RightAnswer(
        name="the axis of the query kept to the end",
        task="attention_decoder_step",
        answer="""
def attention_decoder_step(y, s, memory, params, lengths=None):
    old = s[:, None]
    scores = additive_score(old, memory, *(params[name] for name in ("W_a", "U_a", "v_a")))
    context, weights = attend(scores, memory, lengths)
    new = 0
    for name, x in (("W_y", y[:, None]), ("W_s", old), ("W_c", context)):
        new = new + torch.einsum("bqi,oi->bqo", x, params[name])
    new = new.tanh()
    logits = torch.cat([new, context], dim=2).matmul(params["W_o"].T)
    return logits[:, 0], new[:, 0], weights[:, 0]
""",
    ),
    RightAnswer(
        name="exponents subtracted inside a softmax of its own",
        task="local_window",
        answer="""
def local_window(scores, query, W_p, v_p, reach, lengths=None):
    S = scores.shape[-1]
    size = torch.tensor(float(S), dtype=scores.dtype)
    size = size if lengths is None else lengths.unsqueeze(-1).to(scores.dtype)
    p = size * torch.sigmoid(torch.einsum("...i,i->...", torch.tanh(query @ W_p.T), v_p))
    d = torch.arange(S, dtype=scores.dtype) - p.unsqueeze(-1)
    open_ = (d >= -reach) & (d <= reach)
    if lengths is not None:
        open_ = open_ & (torch.arange(S) < lengths[..., None, None])
    lowest = torch.finfo(scores.dtype).min
    weights = torch.softmax(scores.masked_fill(~open_, lowest), -1) * open_
    return weights * torch.exp(-2 * d.square() / reach**2)
""",
    ),
    RightAnswer(
        name="one query at a time",
        task="local_window",
        answer="""
def local_window(scores, query, W_p, v_p, reach, lengths=None):
    batch, (T, S) = scores.shape[:-2], scores.shape[-2:]
    if lengths is None:
        lengths = torch.full(batch, S)
    tables = []
    for table, asking, n in zip(
        scores.reshape(-1, T, S), query.reshape(-1, T, query.shape[-1]), lengths.reshape(-1)
    ):
        rows = []
        for e, h in zip(table, asking):
            p = n * torch.sigmoid(v_p @ torch.tanh(W_p @ h))
            s = torch.arange(S)
            inside = ((s - p).abs() <= reach) & (s < n)
            row = masked_softmax(e[None], inside[None])[0]
            rows.append(row * torch.exp(-0.5 * ((s - p) / (reach / 2)) ** 2))
        tables.append(torch.stack(rows))
    return torch.stack(tables).reshape(scores.shape)
""",
    ),
    RightAnswer(
        name="normal density over its peak",
        task="local_window",
        answer="""
def local_window(scores, query, W_p, v_p, reach, lengths=None):
    place = torch.arange(scores.shape[-1])
    real = torch.ones(scores.shape, dtype=torch.bool)
    count = torch.full(scores.shape[:-2], scores.shape[-1])
    if lengths is not None:
        real = real & (place < lengths[..., None, None])
        count = lengths
    hidden = torch.nn.functional.linear(query, W_p).tanh()
    p = count[..., None] * torch.sigmoid((hidden * v_p).sum(-1))
    p = p[..., None]
    real = real & (place >= p - reach) & (place <= p + reach)
    normal = torch.distributions.Normal(p, reach / 2, validate_args=False)
    fade = (normal.log_prob(place) - normal.log_prob(p)).exp()
    return masked_softmax(scores, mask=real) * fade
""",
    ),
    RightAnswer(
        name="sets of pairs",
        task="alignment_error_rate",
        answer="""
def alignment_error_rate(links, sure, possible=None):
    if possible is None:
        possible = sure
    A, S, P = ({tuple(i) for i in x.nonzero().tolist()} for x in (links, sure, possible))
    return 1 - (len(A & S) + len(A & P)) / (len(A) + len(S))
""",
    ),
    RightAnswer(
        name="a tensor of one number",
        task="alignment_error_rate",
        answer="""
def alignment_error_rate(links, sure, possible=None):
    a, s = links.float(), sure.float()
    p = s if possible is None else possible.float()
    return 1 - (a * (s + p)).sum() / (a + s).sum()
""",
    ),
    RightAnswer(
        name="errors counted",
        task="alignment_error_rate",
        answer="""
def alignment_error_rate(links, sure, possible=None):
    possible = torch.logical_or(sure, sure if possible is None else possible)
    missed = torch.count_nonzero(sure & ~links)
    wrong = torch.count_nonzero(links & ~possible)
    total = torch.count_nonzero(links) + torch.count_nonzero(sure)
    return float(missed + wrong) / float(total)
""",
    ),
)
