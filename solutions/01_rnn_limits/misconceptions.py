"""Known answers to exercise 01: wrong ones with what each must be told, right ones to accept."""

from proctor.answers import Misconception, RightAnswer

_STEP = (
    Misconception(
        name="a step is linear",
        task="rnn_step",
        fails="rnn_step__by_hand",
        told="tanh is missing",
        edit=(("return torch.tanh(total)", "return total"),),
    ),
    Misconception(
        name="state weights the other way round",
        task="rnn_step",
        fails="rnn_step__by_hand",
        told="the matrix W_hh is transposed",
        edit=(("h @ W_hh.T", "h @ W_hh"),),
    ),
    Misconception(
        name="one bias is enough",
        task="rnn_step",
        fails="rnn_step__by_hand",
        told="b_hh is missing",
        edit=(("for bias in (b_ih, b_hh):", "for bias in (b_ih,):"),),
    ),
    Misconception(
        name="tanh of each part",
        task="rnn_step",
        fails="rnn_step__by_hand",
        told="tanh was taken of each part",
        answer="""
def rnn_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    from_input, from_state = x_t @ W_ih.T, h @ W_hh.T
    if b_ih is not None:
        from_input = from_input + b_ih
    if b_hh is not None:
        from_state = from_state + b_hh
    return from_input.tanh() + from_state.tanh()
""",
    ),
    Misconception(
        name="biases after tanh",
        task="rnn_step",
        fails="rnn_step__by_hand",
        told="the biases stand outside tanh",
        edit=(
            ("total = x_t @ W_ih.T + h @ W_hh.T", "total = torch.tanh(x_t @ W_ih.T + h @ W_hh.T)"),
            ("return torch.tanh(total)", "return total"),
        ),
    ),
    Misconception(
        name="weights drawn anew at every step",
        task="rnn_step",
        fails="rnn_step__by_hand",
        told="are weights drawn inside the function?",
        answer="""
def rnn_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    D = h.shape[-1]
    read, keep = torch.nn.Linear(x_t.shape[-1], D), torch.nn.Linear(D, D)
    return torch.tanh(read(x_t) + keep(h))
""",
    ),
    Misconception(
        name="weights times a column",
        task="rnn_step",
        fails="rnn_step__batch",
        told="x @ W.T maps every row at once",
        edit=(("x_t @ W_ih.T + h @ W_hh.T", "W_ih @ x_t + W_hh @ h"),),
    ),
    Misconception(
        name="biases are always there",
        task="rnn_step",
        fails="rnn_step__batch",
        told="your code stopped on a batch of four",
        edit=(("        if bias is not None:\n            total", "        total"),),
    ),
    Misconception(
        name="the state is overwritten",
        task="rnn_step",
        fails="rnn_step__inputs",
        told="changed its argument h in place",
        edit=(("return torch.tanh(total)", "return h.copy_(torch.tanh(total))"),),
    ),
    Misconception(
        name="a state is data",
        task="rnn_step",
        fails="rnn_step__gradient",
        told="no gradient flows back from the new state",
        edit=(("return torch.tanh(total)", "return torch.tanh(total).detach()"),),
    ),
)

_LOOP = (
    Misconception(
        name="every step starts at the start",
        task="unroll",
        fails="unroll__by_hand",
        told="each step starts from h_0",
        edit=(
            ("    states = []", "    start, states = h, []"),
            ("rnn_step(x[..., t, :], h, ", "rnn_step(x[..., t, :], start, "),
        ),
    ),
    Misconception(
        name="the last state is all",
        task="unroll",
        fails="unroll__by_hand",
        told="only the last state is there",
        edit=(("return torch.stack(states, -2)", "return h"),),
    ),
    Misconception(
        name="the start is a state too",
        task="unroll",
        fails="unroll__by_hand",
        told="h_0 is among the states",
        edit=(("states = []", "states = [h]"),),
    ),
    Misconception(
        name="states kept before the step",
        task="unroll",
        fails="unroll__by_hand",
        told="every state comes one step late",
        edit=(
            ("        h = rnn_step", "        states.append(h)\n        h = rnn_step"),
            ("b_ih, b_hh)\n        states.append(h)", "b_ih, b_hh)"),
        ),
    ),
    Misconception(
        name="one tensor for all states",
        task="unroll",
        fails="unroll__by_hand",
        told="was one tensor overwritten",
        edit=(
            ("else h_0\n", "else h_0.clone()\n"),
            (
                "h = rnn_step(x[..., t, :], h, W_ih, W_hh, b_ih, b_hh)",
                "h.copy_(rnn_step(x[..., t, :], h, W_ih, W_hh, b_ih, b_hh))",
            ),
        ),
    ),
    Misconception(
        name="biases left behind",
        task="unroll",
        fails="unroll__by_hand",
        told="the biases are not handed on",
        edit=(("W_ih, W_hh, b_ih, b_hh)\n        states", "W_ih, W_hh)\n        states"),),
    ),
    Misconception(
        name="state started inside the loop",
        task="unroll",
        fails="unroll__memory",
        told="is the state started again inside the loop",
        edit=(("        h = rnn_step", "        h = torch.zeros_like(h)\n        h = rnn_step"),),
    ),
    Misconception(
        name="time comes first",
        task="unroll",
        fails="unroll__batches",
        told="batch and time are swapped",
        answer="""
def unroll(x, W_ih, W_hh, b_ih=None, b_hh=None, h_0=None):
    h = x.new_zeros(*x.shape[1:-1], len(W_hh)) if h_0 is None else h_0
    states = []
    for x_t in x:
        h = rnn_step(x_t, h, W_ih, W_hh, b_ih, b_hh)
        states.append(h)
    return torch.stack(states)
""",
    ),
    Misconception(
        name="a random start",
        task="unroll",
        fails="unroll__continued",
        told="nothing may be drawn at random",
        edit=(
            (
                "x.new_zeros(*x.shape[:-2], W_hh.shape[0])",
                "torch.randn_like(x[..., 0, :1] @ W_hh[:1])",
            ),
        ),
    ),
    Misconception(
        name="states detached from each other",
        task="unroll",
        fails="unroll__gradient",
        told="is a state detached between two of them?",
        edit=(("rnn_step(x[..., t, :], h, ", "rnn_step(x[..., t, :], h.detach(), "),),
    ),
)

_PERPLEXITY = (
    Misconception(
        name="loss for perplexity",
        task="perplexity",
        fails="perplexity__by_hand",
        told="exp is missing",
        edit=((".mean().exp()", ".mean()"),),
    ),
    Misconception(
        name="two to the power of nats",
        task="perplexity",
        fails="perplexity__by_hand",
        told="nats go with e",
        edit=((".mean().exp()", ".mean().exp2()"),),
    ),
    Misconception(
        name="logits taken for logarithms of probabilities",
        task="perplexity",
        fails="perplexity__by_hand",
        told="softmax is missing",
        edit=(("logits[scored].log_softmax(-1)", "logits[scored]"),),
    ),
    Misconception(
        name="mean of the perplexities of the tokens",
        task="perplexity",
        fails="perplexity__by_hand",
        told="the mean of 1/p was taken",
        edit=((".mean().exp()", ".exp().mean()"),),
    ),
    Misconception(
        name="padding counted as tokens",
        task="perplexity",
        fails="perplexity__padding",
        told="divided by all positions",
        edit=(("nats.mean()", "(nats.sum() / targets.numel())"),),
    ),
    Misconception(
        name="padding scored as class 0",
        task="perplexity",
        fails="perplexity__padding",
        told="as if class 0 were due",
        answer="""
def perplexity(logits, targets, ignore_index=-100):
    classes = torch.where(targets == ignore_index, 0, targets)
    nats = -logits.log_softmax(-1).gather(-1, classes[..., None])
    return nats.mean().exp()
""",
    ),
    Misconception(
        name="padding looked up",
        task="perplexity",
        fails="perplexity__padding",
        told="leave those positions out before you look up p",
        answer="""
def perplexity(logits, targets, ignore_index=-100):
    nats = -logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return nats[targets != ignore_index].mean().exp()
""",
    ),
    Misconception(
        name="mean of the means of sequences",
        task="perplexity",
        fails="perplexity__padding",
        told="the mean of the sequences' means",
        answer="""
def perplexity(logits, targets, ignore_index=-100):
    scored = targets != ignore_index
    classes = targets.masked_fill(~scored, 0)[..., None]
    nats = -logits.log_softmax(-1).gather(-1, classes)[..., 0] * scored
    return (nats.sum(-1) / scored.sum(-1)).mean().exp()
""",
    ),
    Misconception(
        name="mean of the perplexities of sequences",
        task="perplexity",
        fails="perplexity__recut",
        told="how tokens are cut into sequences may not matter",
        answer="""
def perplexity(logits, targets, ignore_index=-100):
    scored = targets != ignore_index
    classes = targets.masked_fill(~scored, 0)[..., None]
    nats = -logits.log_softmax(-1).gather(-1, classes)[..., 0] * scored
    return (nats.sum(-1) / scored.sum(-1).clamp(min=1)).exp().mean()
""",
    ),
    Misconception(
        name="padding is always -100",
        task="perplexity",
        fails="perplexity__ignored",
        told="but those that equal ignore_index",
        edit=(("targets != ignore_index", "targets != -100"),),
    ),
    Misconception(
        name="logarithm of softmax",
        task="perplexity",
        fails="perplexity__stable",
        told="a probability became 0",
        edit=((".log_softmax(-1)", ".softmax(-1).log()"),),
    ),
    Misconception(
        name="a small number added to p",
        task="perplexity",
        fails="perplexity__stable",
        told="a small number was added to p",
        edit=((".log_softmax(-1)", ".softmax(-1).add(1e-8).log()"),),
    ),
)

_WAITING = (
    Misconception(
        name="work instead of waiting",
        task="sequential_steps",
        fails="sequential_steps__sum",
        told="this is how many values are computed",
        edit=(
            (
                "        steps += 1",
                "        steps = len(parents) - list(parents.values()).count([])",
            ),
        ),
    ),
    Misconception(
        name="inputs take a step",
        task="sequential_steps",
        fails="sequential_steps__sum",
        told="the inputs were counted as a step",
        edit=(("steps = 0", "steps = 1"),),
    ),
    Misconception(
        name="a round uses its own results",
        task="sequential_steps",
        fails="sequential_steps__sum",
        told="a round used what it had just computed",
        edit=(
            (
                "        known |= {value for value, needed in parents.items() "
                "if known.issuperset(needed)}",
                "        for value, needed in parents.items():\n"
                "            if known.issuperset(needed):\n"
                "                known.add(value)",
            ),
        ),
    ),
    Misconception(
        name="one parent is enough",
        task="sequential_steps",
        fails="sequential_steps__slowest",
        told="before its last parent was known",
        edit=(("known.issuperset(needed)", "not needed or known.intersection(needed)"),),
    ),
    Misconception(
        name="the value listed last ends the work",
        task="sequential_steps",
        fails="sequential_steps__slowest",
        told="the step of the value listed last",
        answer="""
def sequential_steps(parents):
    steps = {}

    def step(value):
        if value not in steps:
            steps[value] = max([1 + step(parent) for parent in parents[value]], default=0)
        return steps[value]

    return step(list(parents)[-1])
""",
    ),
    Misconception(
        name="parents are listed first",
        task="sequential_steps",
        fails="sequential_steps__any_order",
        told="the dict may be in any order",
        answer="""
def sequential_steps(parents):
    steps = {}
    for value, needed in parents.items():
        steps[value] = max([1 + steps[parent] for parent in needed], default=0)
    return max(steps.values())
""",
    ),
    Misconception(
        name="values crossed off the list itself",
        task="sequential_steps",
        fails="sequential_steps__any_order",
        told="your code changed the dict",
        answer="""
def sequential_steps(parents):
    rounds = 0
    while parents:
        ready = [value for value, needed in parents.items() if not set(needed) & set(parents)]
        for value in ready:
            del parents[value]
        rounds += 1
    return rounds - 1
""",
    ),
)

_TRAVEL = (
    Misconception(
        name="values on the way counted",
        task="path_length",
        fails="path_length__known",
        told="the values on the way were counted",
        edit=(("length, found, seen = 0,", "length, found, seen = 1,"),),
    ),
    Misconception(
        name="the longest way",
        task="path_length",
        fails="path_length__known",
        told="this is the longest way",
        answer="""
def path_length(parents, start, end):
    if start == end:
        return 0
    ways = [path_length(parents, start, parent) for parent in parents[end]]
    ways = [way for way in ways if way is not None]
    return 1 + max(ways) if ways else None
""",
    ),
    Misconception(
        name="information flows to the parents",
        task="path_length",
        fails="path_length__known",
        told="are start and end swapped?",
        edit=(
            ("length, found, seen = 0, {end}", "length, found, seen = 0, {start}"),
            ("if start in found", "if end in found"),
        ),
    ),
    Misconception(
        name="arrows lead both ways",
        task="path_length",
        fails="path_length__no_way",
        told="information does not flow back",
        edit=(
            (
                "{parent for value in found for parent in parents[value]} - seen",
                "{\n"
                "            other\n"
                "            for other, needed in parents.items()\n"
                "            if found & set(needed) or any(other in parents[v] for v in found)\n"
                "        } - seen",
            ),
        ),
    ),
    Misconception(
        name="no way to itself",
        task="path_length",
        fails="path_length__no_way",
        told="a value reaches itself over 0 arrows",
        edit=(("length, found, seen = 0, {end}", "length, found, seen = 1, set(parents[end])"),),
    ),
    Misconception(
        name="no way is a number",
        task="path_length",
        fails="path_length__no_way",
        told="but yours is -1",
        edit=(("return None", "return -1"),),
    ),
    Misconception(
        name="the first way that turns up",
        task="path_length",
        fails="path_length__shortest",
        told="not the first that turns up",
        answer="""
def path_length(parents, start, end):
    if start == end:
        return 0
    for parent in parents[end]:
        way = path_length(parents, start, parent)
        if way is not None:
            return 1 + way
    return None
""",
    ),
)

_COPYING = (
    Misconception(
        name="loss in bits",
        task="copy_task_baseline",
        fails="copy_task_baseline__symbols",
        told="it is in bits",
        edit=((".log()", ".log2()"),),
    ),
    Misconception(
        name="a guess over all classes",
        task="copy_task_baseline",
        fails="copy_task_baseline__symbols",
        told="the guess is over ten classes",
        edit=(("float(symbols)", "float(symbols + 2)"),),
    ),
    Misconception(
        name="the sum over a list",
        task="copy_task_baseline",
        fails="copy_task_baseline__symbols",
        told="this is the sum over a list",
        edit=(("if blanks else 1.0", "if blanks else length"),),
    ),
    Misconception(
        name="blanks are never scored",
        task="copy_task_baseline",
        fails="copy_task_baseline__blanks",
        told="blanks is ignored",
        edit=(("length / (delay + 2 * length) if blanks else 1.0", "1.0"),),
    ),
    Misconception(
        name="a single symbol paid for",
        task="copy_task_baseline",
        fails="copy_task_baseline__blanks",
        told="a single position pays",
        edit=(("length / (delay + 2 * length)", "1 / (delay + 2 * length)"),),
    ),
    Misconception(
        name="lost in time as well",
        task="copy_task_baseline",
        fails="copy_task_baseline__blanks",
        told="it does not know where a symbol is due",
        edit=(
            (
                "return share * guess",
                "share = torch.tensor(share)\n"
                "    entropy = torch.special.entr(share) + torch.special.entr(1 - share)\n"
                "    return share * guess + entropy",
            ),
        ),
    ),
    Misconception(
        name="a list takes its positions once",
        task="copy_task_baseline",
        fails="copy_task_baseline__blanks",
        told="a list is read and written",
        edit=(("delay + 2 * length", "delay + length"),),
    ),
)

_FIELD = (
    Misconception(
        name="kernel sizes added",
        task="receptive_field",
        fails="receptive_field__plain",
        told="this is the sum of the kernel sizes",
        edit=(("field, step = 1, 1", "field, step = 0, 1"), ("(kernel_size - 1)", "kernel_size")),
    ),
    Misconception(
        name="kernel sizes multiplied",
        task="receptive_field",
        fails="receptive_field__plain",
        told="the kernel sizes were multiplied",
        edit=(("field += (kernel_size - 1) * dilation * step", "field *= kernel_size"),),
    ),
    Misconception(
        name="nothing to begin with",
        task="receptive_field",
        fails="receptive_field__plain",
        told="begin with 1",
        edit=(("field, step = 1, 1", "field, step = 0, 1"),),
    ),
    Misconception(
        name="dilation ignored",
        task="receptive_field",
        fails="receptive_field__dilated",
        told="the dilation is ignored",
        edit=((" * dilation * step", " * step"),),
    ),
    Misconception(
        name="strides ignored",
        task="receptive_field",
        fails="receptive_field__strides",
        told="the strides are ignored",
        edit=(("        step *= stride\n", ""),),
    ),
    Misconception(
        name="a layer's own stride counted",
        task="receptive_field",
        fails="receptive_field__strides",
        told="a layer's own stride was counted",
        edit=(
            ("        step *= stride\n", ""),
            ("        field +=", "        step *= stride\n        field +="),
        ),
    ),
    Misconception(
        name="only a layer's own stride",
        task="receptive_field",
        fails="receptive_field__strides",
        told="only a layer's own stride was counted",
        edit=(("        step *= stride\n", ""), ("dilation * step", "dilation * stride")),
    ),
    Misconception(
        name="values times the stride",
        task="receptive_field",
        fails="receptive_field__strides",
        told="span (n − 1) · s + 1 below them",
        answer="""
def receptive_field(layers):
    seen = 1
    for kernel_size, dilation, stride in reversed(layers):
        seen = seen * stride + (kernel_size - 1) * dilation
    return seen
""",
    ),
    Misconception(
        name="only the stride below",
        task="receptive_field",
        fails="receptive_field__strides",
        told="only the stride right below was counted",
        edit=(("step *= stride", "step = stride"),),
    ),
    Misconception(
        name="layers used up",
        task="receptive_field",
        fails="receptive_field__measured",
        told="your code changed the list",
        edit=(
            (
                "for kernel_size, dilation, stride in layers:\n",
                "while layers:\n        kernel_size, dilation, stride = layers.pop(0)\n",
            ),
        ),
    ),
)

MISCONCEPTIONS: tuple[Misconception, ...] = (
    *_STEP,
    *_LOOP,
    *_PERPLEXITY,
    *_WAITING,
    *_TRAVEL,
    *_COPYING,
    *_FIELD,
)

RIGHT_ANSWERS: tuple[RightAnswer, ...] = (
    RightAnswer(
        name="linear layers of torch.nn.functional",
        task="rnn_step",
        answer="""
import torch.nn.functional as F


def rnn_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    return F.linear(x_t, W_ih, b_ih).add(F.linear(h, W_hh, b_hh)).tanh()
""",
    ),
    RightAnswer(
        name="one product of everything side by side",
        task="rnn_step",
        answer="""
def rnn_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    total = torch.cat([x_t, h], dim=-1).matmul(torch.cat([W_ih, W_hh], dim=1).mT)
    zero = total.new_zeros(())
    total = total + (zero if b_ih is None else b_ih) + (zero if b_hh is None else b_hh)
    return 2 * torch.sigmoid(2 * total) - 1
""",
    ),
    RightAnswer(
        name="einsum, one feature after the other",
        task="rnn_step",
        answer="""
def rnn_step(x_t, h, W_ih, W_hh, b_ih=None, b_hh=None):
    features = []
    for d in range(len(W_hh)):
        total = torch.einsum("...i,i->...", x_t, W_ih[d])
        total = total + torch.einsum("...j,j->...", h, W_hh[d])
        total = total if b_ih is None else total + b_ih[d]
        total = total if b_hh is None else total + b_hh[d]
        features.append(total.tanh())
    return torch.stack(features, dim=-1)
""",
    ),
    RightAnswer(
        name="a table filled in",
        task="unroll",
        answer="""
def unroll(x, W_ih, W_hh, b_ih=None, b_hh=None, h_0=None):
    *batch, T, _ = x.shape
    states = torch.zeros(*batch, T, W_hh.shape[0], dtype=x.dtype)
    h = torch.zeros(W_hh.shape[0], dtype=x.dtype) if h_0 is None else h_0
    for t in range(T):
        h = rnn_step(x[..., t, :], h, W_ih=W_ih, W_hh=W_hh, b_ih=b_ih, b_hh=b_hh)
        states[..., t, :] = h
    return states
""",
    ),
    RightAnswer(
        name="all inputs projected first",
        task="unroll",
        answer="""
def unroll(x, W_ih, W_hh, b_ih=None, b_hh=None, h_0=None):
    from_inputs = x @ W_ih.mT
    for bias in (b_ih, b_hh):
        from_inputs = from_inputs if bias is None else from_inputs + bias
    states, h = [], h_0
    for from_input in from_inputs.unbind(-2):
        h = torch.tanh(from_input if h is None else from_input + h @ W_hh.mT)
        states.append(h)
    return torch.stack(states, dim=-2)
""",
    ),
    RightAnswer(
        name="accumulate",
        task="unroll",
        answer="""
from itertools import accumulate


def unroll(x, W_ih, W_hh, b_ih=None, b_hh=None, h_0=None):
    if h_0 is None:
        h_0 = (x[..., 0, :] @ W_ih.T) * 0

    def step(h, x_t):
        return rnn_step(x_t, h, W_ih, W_hh, b_ih, b_hh)

    states = list(accumulate(x.movedim(-2, 0), step, initial=h_0))
    return torch.stack(states[1:]).movedim(0, -2)
""",
    ),
    RightAnswer(
        name="the first steps first, by recursion",
        task="unroll",
        answer="""
def unroll(x, W_ih, W_hh, b_ih=None, b_hh=None, h_0=None):
    weights = W_ih, W_hh, b_ih, b_hh
    if h_0 is None:
        h_0 = x.new_zeros(x.shape[:-2] + W_hh.shape[:1])
    if x.shape[-2] == 1:
        return rnn_step(x.squeeze(-2), h_0, *weights).unsqueeze(-2)
    before = unroll(x[..., :-1, :], *weights, h_0=h_0)
    last = rnn_step(x[..., -1, :], before[..., -1, :], *weights)
    return torch.cat([before, last.unsqueeze(-2)], dim=-2)
""",
    ),
    RightAnswer(
        name="logsumexp and a table of ones",
        task="perplexity",
        answer="""
def perplexity(logits, targets, ignore_index=-100):
    scored = targets != ignore_index
    classes = torch.where(scored, targets, torch.zeros_like(targets))
    due = torch.nn.functional.one_hot(classes, logits.shape[-1])
    nats = logits.logsumexp(-1) - (due * logits).sum(-1)
    return torch.exp(nats[scored].sum() / scored.sum()).item()
""",
    ),
    RightAnswer(
        name="one token at a time in Python",
        task="perplexity",
        answer="""
import math


def perplexity(logits, targets, ignore_index=-100):
    total, count = 0.0, 0
    for row, target in zip(logits.reshape(-1, logits.shape[-1]).tolist(), targets.flatten()):
        if target == ignore_index:
            continue
        top = max(row)
        total += top + math.log(sum(math.exp(a - top) for a in row)) - row[target]
        count += 1
    return math.exp(total / count)
""",
    ),
    RightAnswer(
        name="weights of nought and one",
        task="perplexity",
        answer="""
def perplexity(logits, targets, ignore_index=-100):
    weight = (targets != ignore_index).double()
    log_p = torch.log_softmax(logits.double(), dim=-1)
    picked = log_p.gather(-1, (targets * weight).long().unsqueeze(-1)).squeeze(-1)
    return ((-picked * weight).sum() / weight.sum()).exp()
""",
    ),
    RightAnswer(
        name="recursion that remembers",
        task="sequential_steps",
        answer="""
import functools


def sequential_steps(parents):
    @functools.cache
    def step(value):
        return 1 + max(map(step, parents[value])) if parents[value] else 0

    return max(map(step, parents), default=0)
""",
    ),
    RightAnswer(
        name="powers of the table of arrows",
        task="sequential_steps",
        answer="""
def sequential_steps(parents):
    place = {value: i for i, value in enumerate(parents)}
    arrows = torch.zeros(len(place), len(place))
    for value, needed in parents.items():
        for parent in needed:
            arrows[place[value], place[parent]] = 1
    steps, ways = 0, arrows
    while ways.any():
        steps, ways = steps + 1, (ways @ arrows > 0).float()
    return torch.tensor(steps)
""",
    ),
    RightAnswer(
        name="waves from the inputs, counting what is missing",
        task="sequential_steps",
        answer="""
def sequential_steps(parents):
    missing = {value: len(set(needed)) for value, needed in parents.items()}
    children = {value: [] for value in parents}
    for value, needed in parents.items():
        for parent in set(needed):
            children[parent].append(value)
    wave, waves = [value for value, count in missing.items() if count == 0], 0
    while wave:
        following = []
        for value in wave:
            for child in children[value]:
                missing[child] -= 1
                if missing[child] == 0:
                    following.append(child)
        wave, waves = following, waves + 1
    return max(waves - 1, 0)
""",
    ),
    RightAnswer(
        name="a step for each value, raised until none rises",
        task="sequential_steps",
        answer="""
def sequential_steps(parents):
    steps = dict.fromkeys(parents, 0)
    changed = True
    while changed:
        changed = False
        for value in parents:
            needed = [steps[parent] + 1 for parent in parents[value]]
            if max(needed, default=0) > steps[value]:
                steps[value], changed = max(needed), True
    return sorted(steps.values())[-1] if steps else 0
""",
    ),
    RightAnswer(
        name="a queue along the arrows",
        task="path_length",
        answer="""
from collections import deque


def path_length(parents, start, end):
    children = {value: [c for c in parents if value in parents[c]] for value in parents}
    distance, queue = {start: 0}, deque([start])
    while queue:
        value = queue.popleft()
        for child in children[value]:
            if child not in distance:
                distance[child] = distance[value] + 1
                queue.append(child)
    return distance.get(end)
""",
    ),
    RightAnswer(
        name="the shortest way to a parent, and one more",
        task="path_length",
        answer="""
import functools
import math


def path_length(parents, start, end):
    @functools.lru_cache(maxsize=None)
    def length(value):
        if value == start:
            return 0
        return min((1 + length(parent) for parent in parents[value]), default=math.inf)

    return None if math.isinf(length(end)) else length(end)
""",
    ),
    RightAnswer(
        name="a vector pushed along the table of arrows",
        task="path_length",
        answer="""
def path_length(parents, start, end):
    names = list(parents)
    arrows = torch.tensor([[float(p in parents[v]) for p in names] for v in names])
    here = torch.tensor([float(name == start) for name in names])
    for length in range(len(names)):
        if here[names.index(end)]:
            return length
        here = (arrows @ here).clamp(max=1)
    return None
""",
    ),
    RightAnswer(
        name="the formula of Python's own numbers",
        task="copy_task_baseline",
        answer="""
import math


def copy_task_baseline(length, delay, symbols, blanks=False):
    paid = -length * math.log(1 / symbols)
    return paid / (delay + 2 * length if blanks else length)
""",
    ),
    RightAnswer(
        name="one position after the other",
        task="copy_task_baseline",
        answer="""
import math


def copy_task_baseline(length, delay, symbols, blanks=False):
    losses = []
    for position in range(2 * length + delay):
        if position >= length + delay:
            losses.append(math.log(symbols))
        elif blanks:
            losses.append(0)
    return sum(losses) / len(losses)
""",
    ),
    RightAnswer(
        name="entropy of the best guesses",
        task="copy_task_baseline",
        answer="""
def copy_task_baseline(length, delay, symbols, blanks=False):
    guesses = torch.zeros(delay + 2 * length, symbols + 1)
    guesses[: delay + length, 0] = 1.0
    guesses[delay + length :, 1:] = 1 / symbols
    entropy = torch.special.entr(guesses).sum(-1)
    return (entropy if blanks else entropy[-length:]).mean()
""",
    ),
    RightAnswer(
        name="from the top down",
        task="receptive_field",
        answer="""
def receptive_field(layers):
    seen = 1
    for kernel_size, dilation, stride in reversed(layers):
        seen = (seen - 1) * stride + (kernel_size - 1) * dilation + 1
    return seen
""",
    ),
    RightAnswer(
        name="the set of inputs itself",
        task="receptive_field",
        answer="""
def receptive_field(layers):
    places = {0}
    for kernel_size, dilation, stride in layers[::-1]:
        places = {p * stride + i * dilation for p in places for i in range(kernel_size)}
    return max(places) - min(places) + 1
""",
    ),
    RightAnswer(
        name="products of the strides below",
        task="receptive_field",
        answer="""
import math


def receptive_field(layers):
    strides = [stride for _, _, stride in layers]
    return 1 + sum(
        (k - 1) * d * math.prod(strides[:i]) for i, (k, d, _) in enumerate(layers)
    )
""",
    ),
)
