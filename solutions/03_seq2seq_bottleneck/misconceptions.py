"""Known answers to exercise 03: wrong ones with what each must be told, right ones to accept."""

from proctor.answers import Misconception, RightAnswer

_SHIFT = (
    Misconception(
        name="not shifted",
        task="shift_right",
        fails="shift_right__by_hand",
        told="the decoder reads what it should write",
        edit=(("return torch.cat([start, target[..., :-1]], -1)", "return target.clone()"),),
    ),
    Misconception(
        name="rolled",
        task="shift_right",
        fails="shift_right__by_hand",
        told="the last token comes round to the front",
        edit=(("torch.cat([start, target[..., :-1]], -1)", "target.roll(1, -1)"),),
    ),
    Misconception(
        name="first word overwritten",
        task="shift_right",
        fails="shift_right__by_hand",
        told="bos took the place of the first word",
        edit=(("[start, target[..., :-1]]", "[start, target[..., 1:]]"),),
    ),
    Misconception(
        name="last word kept",
        task="shift_right",
        fails="shift_right__by_hand",
        told="one position too many",
        edit=(("[start, target[..., :-1]]", "[start, target]"),),
    ),
    Misconception(
        name="bos forgotten",
        task="shift_right",
        fails="shift_right__by_hand",
        told="bos is missing",
        edit=(("torch.cat([start, target[..., :-1]], -1)", "target[..., :-1]"),),
    ),
    Misconception(
        name="shifted to the left",
        task="shift_right",
        fails="shift_right__by_hand",
        told="it is shifted to the left",
        edit=(("[start, target[..., :-1]]", "[target[..., 1:], start]"),),
    ),
    Misconception(
        name="written into the target",
        task="shift_right",
        fails="shift_right__by_hand",
        told="changed its argument target in place",
        edit=(
            (
                "return torch.cat([start, target[..., :-1]], -1)",
                "target[..., 1:] = target[..., :-1].clone()\n"
                "    target[..., :1] = start\n"
                "    return target",
            ),
        ),
    ),
    Misconception(
        name="the end of a long target not shifted",
        task="shift_right",
        fails="shift_right__leak",
        told="the target leaks",
        edit=(
            (
                "return torch.cat([start, target[..., :-1]], -1)",
                "read = torch.cat([start, target[..., :-1]], -1)\n"
                "    return torch.where(torch.arange(read.shape[-1]) < 4, read, target)",
            ),
        ),
    ),
    Misconception(
        name="always two axes",
        task="shift_right",
        fails="shift_right__inputs",
        told="words stand along the last axis",
        answer="""
def shift_right(target, bos):
    start = torch.full((target.shape[0], 1), bos, dtype=target.dtype)
    return torch.cat([start, target[:, :-1]], 1)
""",
    ),
    Misconception(
        name="bos is always one",
        task="shift_right",
        fails="shift_right__bos",
        told="handed over as bos",
        edit=(("target[..., :1], bos)", "target[..., :1], 1)"),),
    ),
)

_LOSS = (
    Misconception(
        name="wrong sign",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__by_hand",
        told="the sign is wrong",
        edit=(("nats = -logits", "nats = logits"),),
    ),
    Misconception(
        name="sum for mean",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__by_hand",
        told="the sum was taken",
        edit=(("nats[real].mean()", "nats[real].sum()"),),
    ),
    Misconception(
        name="logits for log-probabilities",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__by_hand",
        told="softmax is missing",
        edit=(("-logits.log_softmax(-1)", "-logits"),),
    ),
    Misconception(
        name="chances without a logarithm",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__by_hand",
        told="without a logarithm",
        edit=(("-logits.log_softmax(-1)", "1 - logits.softmax(-1)"),),
    ),
    Misconception(
        name="softmax over the positions",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__by_hand",
        told="softmax ran over the positions",
        edit=(("log_softmax(-1)", "log_softmax(-2)"),),
    ),
    Misconception(
        name="loss in bits",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__by_hand",
        told="it is in bits",
        edit=(("nats[real].mean()", "nats[real].mean() / torch.tensor(2.0).log()"),),
    ),
    Misconception(
        name="a loss for each sentence",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__by_hand",
        told="one loss for each sentence",
        edit=(("nats[real].mean()", "(nats * real).sum(-1) / real.sum(-1)"),),
    ),
    Misconception(
        name="padding looked up",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__padding",
        told="put another in its place",
        edit=(("targets.masked_fill(~real, 0)", "targets"),),
    ),
    Misconception(
        name="padding counted",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__padding",
        told="padding counts neither in the sum",
        edit=(("nats[real].mean()", "nats.mean()"),),
    ),
    Misconception(
        name="divided by all positions",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__tokens",
        told="it was divided by B · T",
        edit=(("nats[real].mean()", "(nats * real).mean()"),),
    ),
    Misconception(
        name="mean of the sentences' means",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__tokens",
        told="every token counts alike",
        answer="""
def masked_cross_entropy(logits, targets, pad):
    real = targets != pad
    right = targets.masked_fill(~real, 0)
    nats = -logits.log_softmax(-1).gather(-1, right[..., None]).squeeze(-1) * real
    counts = real.sum(-1)
    return (nats.sum(-1)[counts > 0] / counts[counts > 0]).mean()
""",
    ),
    Misconception(
        name="divided by the sentences",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__tokens",
        told="divided by the number of sentences",
        edit=(("nats[real].mean()", "nats[real].sum() / max(1, targets[..., 0].numel())"),),
    ),
    Misconception(
        name="logarithm of softmax",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__stable",
        told="take log_softmax",
        edit=(("logits.log_softmax(-1)", "logits.softmax(-1).log()"),),
    ),
    Misconception(
        name="a small number inside the logarithm",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__stable",
        told="add nothing inside the logarithm",
        edit=(("logits.log_softmax(-1)", "(logits.softmax(-1) + 1e-9).log()"),),
    ),
    Misconception(
        name="a number of Python's",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__gradient",
        told="no gradient flows back from the loss",
        edit=(("nats[real].mean()", "nats.detach()[real].mean()"),),
    ),
    Misconception(
        name="always three axes",
        task="masked_cross_entropy",
        fails="masked_cross_entropy__inputs",
        told="N is the last axis",
        edit=(("log_softmax(-1)", "log_softmax(2)"),),
    ),
)

_LAST = (
    Misconception(
        name="state at minus one",
        task="last_valid_state",
        fails="last_valid_state__by_hand",
        told="which has read padding",
        answer="""
def last_valid_state(states, lengths):
    return states[..., -1, :]
""",
    ),
    Misconception(
        name="index is the length",
        task="last_valid_state",
        fails="last_valid_state__by_hand",
        told="one position too late",
        edit=(("(lengths - 1)", "lengths.clamp(max=states.shape[-2] - 1)"),),
    ),
    Misconception(
        name="one too early",
        task="last_valid_state",
        fails="last_valid_state__by_hand",
        told="one position too early",
        edit=(("(lengths - 1)", "(lengths - 2).clamp(min=0)"),),
    ),
    Misconception(
        name="all lengths of all sentences",
        task="last_valid_state",
        fails="last_valid_state__by_hand",
        told="states[:, index] takes every length",
        answer="""
def last_valid_state(states, lengths):
    return states[:, lengths - 1]
""",
    ),
    Misconception(
        name="axis of the positions kept",
        task="last_valid_state",
        fails="last_valid_state__by_hand",
        told="the axis of the positions is still there",
        edit=((".squeeze(-2)", ""),),
    ),
    Misconception(
        name="mean of the real states",
        task="last_valid_state",
        fails="last_valid_state__by_hand",
        told="the mean of the real states",
        answer="""
def last_valid_state(states, lengths):
    real = torch.arange(states.shape[-2]) < lengths[..., None]
    return (states * real[..., None]).sum(-2) / lengths[..., None]
""",
    ),
    Misconception(
        name="masked sum",
        task="last_valid_state",
        fails="last_valid_state__padding",
        told="0 · NaN is NaN",
        answer="""
def last_valid_state(states, lengths):
    here = torch.arange(states.shape[-2]) == lengths[..., None] - 1
    return (states * here[..., None]).sum(-2)
""",
    ),
    Misconception(
        name="one batch axis",
        task="last_valid_state",
        fails="last_valid_state__inputs",
        told="count axes from the end",
        answer="""
def last_valid_state(states, lengths):
    return states[torch.arange(len(states)), lengths - 1]
""",
    ),
    Misconception(
        name="states rebuilt from numbers",
        task="last_valid_state",
        fails="last_valid_state__gradient",
        told="no gradient flows back",
        edit=(("return states.gather", "return states.detach().gather"),),
    ),
)

_MODEL = (
    Misconception(
        name="batch not first",
        task="encode_decode",
        fails="encode_decode__shapes",
        told="put the batch first",
        edit=(
            ("self.encoder = nn.GRU(E, D, batch_first=True)", "self.encoder = nn.GRU(E, D)"),
            ("self.decoder = nn.GRU(E, D, batch_first=True)", "self.decoder = nn.GRU(E, D)"),
        ),
    ),
    Misconception(
        name="all states as context",
        task="encode_decode",
        fails="encode_decode__shapes",
        told="one vector of width D a sentence",
        edit=(("return states[:, -1]", "return states"),),
    ),
    Misconception(
        name="states for logits",
        task="encode_decode",
        fails="encode_decode__shapes",
        told="what decode returns has shape",
        edit=(("return self.output(states)", "return states"),),
    ),
    Misconception(
        name="dropout left on",
        task="encode_decode",
        fails="encode_decode__shapes",
        told="nothing is random, dropout neither",
        edit=(("return self.output(states)", "return self.output(nn.functional.dropout(states))"),),
    ),
    Misconception(
        name="decoder reads both ways",
        task="encode_decode",
        fails="encode_decode__future",
        told="the decoder looks ahead",
        edit=(
            (
                "self.decoder = nn.GRU(E, D, batch_first=True)",
                "self.decoder = nn.GRU(E, D, batch_first=True, bidirectional=True)",
            ),
            ("nn.Linear(D, target", "nn.Linear(2 * D, target"),
            ("context[None])", "context[None].repeat(2, 1, 1))"),
        ),
    ),
    Misconception(
        name="the mean of the target enters",
        task="encode_decode",
        fails="encode_decode__future",
        told="the decoder looks ahead",
        edit=(
            (
                "self.decoder(self.target_embedding(target_in), context[None])",
                "self.decoder(\n"
                "            self.target_embedding(target_in)\n"
                "            + self.target_embedding(target_in).mean(1, keepdim=True),\n"
                "            context[None],\n"
                "        )",
            ),
        ),
    ),
    Misconception(
        name="target not read",
        task="encode_decode",
        fails="encode_decode__future",
        told="is target_in read?",
        edit=(("self.target_embedding(target_in)", "self.target_embedding(target_in * 0)"),),
    ),
    Misconception(
        name="decoder starts from nothing",
        task="encode_decode",
        fails="encode_decode__source",
        told="the encoder is ignored",
        edit=(
            (
                "self.decoder(self.target_embedding(target_in), context[None])",
                "self.decoder(self.target_embedding(target_in))",
            ),
        ),
    ),
    Misconception(
        name="last word for the sentence",
        task="encode_decode",
        fails="encode_decode__source",
        told="the encoder reads every word",
        edit=(
            (
                "self.encoder(self.source_embedding(source))",
                "self.encoder(self.source_embedding(source[:, -1:]))",
            ),
        ),
    ),
    Misconception(
        name="bag of words",
        task="encode_decode",
        fails="encode_decode__source",
        told="did not move when the source was turned",
        edit=(
            ("self.encoder = nn.GRU(E, D, batch_first=True)", "self.encoder = nn.Linear(E, D)"),
            (
                "states, _ = self.encoder(self.source_embedding(source))",
                "states = self.encoder(self.source_embedding(source)).cumsum(1)",
            ),
        ),
    ),
    Misconception(
        name="context for the first word alone",
        task="encode_decode",
        fails="encode_decode__source",
        told="the vector of logits at position 1 did not move",
        edit=(
            (
                "states, _ = self.decoder(self.target_embedding(target_in), context[None])",
                "states, _ = self.decoder(self.target_embedding(target_in))\n"
                "        first = torch.arange(states.shape[1])[:, None] == 0\n"
                "        states = states + context[:, None] * first",
            ),
        ),
    ),
    Misconception(
        name="lengths ignored",
        task="encode_decode",
        fails="encode_decode__padding",
        told="each sentence's own last word",
        edit=(("if lengths is None:", "if True:"),),
    ),
    Misconception(
        name="two ways over the padding",
        task="encode_decode",
        fails="encode_decode__padding",
        told="each sentence's own last word",
        edit=(
            (
                "self.encoder = nn.GRU(E, D, batch_first=True)",
                "self.encoder = nn.GRU(E, D // 2, batch_first=True, bidirectional=True)",
            ),
        ),
    ),
    Misconception(
        name="mean over the batch taken off",
        task="encode_decode",
        fails="encode_decode__batch",
        told="one sentence never reads another",
        edit=(
            (
                "return self.output(states)",
                "return self.output(states - states.mean(0) if len(states) > 1 else states)",
            ),
        ),
    ),
    Misconception(
        name="source kept in the model",
        task="encode_decode",
        fails="encode_decode__bottleneck",
        told="nothing of the source is kept in self",
        edit=(
            (
                "states, _ = self.encoder(self.source_embedding(source))",
                "states, _ = self.encoder(self.source_embedding(source))\n"
                "        self.summary = states.mean(1)",
            ),
            ("return self.output(states)", "return self.output(states + self.summary[:, None])"),
        ),
    ),
    Misconception(
        name="half of the context",
        task="encode_decode",
        fails="encode_decode__bottleneck",
        told="the whole context enters the decoder",
        edit=(
            (
                "context[None])",
                "(context * (torch.arange(context.shape[1]) < context.shape[1] // 2))[None])",
            ),
        ),
    ),
    Misconception(
        name="context cut off the graph",
        task="encode_decode",
        fails="encode_decode__gradient",
        told="is nothing detached on the way?",
        edit=(("context[None])", "context.detach()[None])"),),
    ),
)

_GREEDY = (
    Misconception(
        name="bos written",
        task="greedy_decode",
        fails="greedy_decode__by_hand",
        told="bos stands in front",
        edit=(
            (
                "        logits, state = step(token, state)\n"
                "        token = logits.argmax(-1).masked_fill(done, pad)\n"
                "        written[:, t] = token\n",
                "        written[:, t] = token.masked_fill(done, pad)\n"
                "        logits, state = step(token, state)\n"
                "        done = done | (token == eos)\n"
                "        token = logits.argmax(-1)\n"
                "        continue\n",
            ),
        ),
    ),
    Misconception(
        name="bos read again and again",
        task="greedy_decode",
        fails="greedy_decode__by_hand",
        told="bos is read at every step",
        edit=(("step(token, state)", "step(torch.full((len(state),), bos), state)"),),
    ),
    Misconception(
        name="eos dropped",
        task="greedy_decode",
        fails="greedy_decode__by_hand",
        told="eos was not kept",
        edit=(("return written", "return written.masked_fill(written == eos, pad)"),),
    ),
    Misconception(
        name="writing behind the end",
        task="greedy_decode",
        fails="greedy_decode__by_hand",
        told="writing went on behind eos",
        edit=(
            (".masked_fill(done, pad)", ""),
            ("        if done.all():\n            break\n", ""),
        ),
    ),
    Misconception(
        name="table cut at the last word",
        task="greedy_decode",
        fails="greedy_decode__by_hand",
        told="it always has `steps` columns",
        edit=(("return written", "return written[:, : t + 1]"),),
    ),
    Misconception(
        name="positions as rows",
        task="greedy_decode",
        fails="greedy_decode__by_hand",
        told="positions are rows",
        edit=(("return written", "return written.T"),),
    ),
    Misconception(
        name="the least likely token",
        task="greedy_decode",
        fails="greedy_decode__by_hand",
        told="the least likely token",
        edit=(("argmax", "argmin"),),
    ),
    Misconception(
        name="batch stops at the first end",
        task="greedy_decode",
        fails="greedy_decode__ends",
        told="the batch stopped at the first eos",
        edit=(("done.all()", "done.any()"),),
    ),
    Misconception(
        name="state forgotten",
        task="greedy_decode",
        fails="greedy_decode__ends",
        told="the state was not handed on",
        edit=(("logits, state = step", "logits, _ = step"),),
    ),
    Misconception(
        name="one token too few",
        task="greedy_decode",
        fails="greedy_decode__ends",
        told="one token too few",
        edit=(("for t in range(steps):", "for t in range(steps - 1):"),),
    ),
    Misconception(
        name="an end forced on",
        task="greedy_decode",
        fails="greedy_decode__ends",
        told="a sentence that ran out of steps got an eos",
        edit=(("return written", "written[~done, -1] = eos\n    return written"),),
    ),
    Misconception(
        name="padding is always zero",
        task="greedy_decode",
        fails="greedy_decode__alone",
        told="0 stands behind the end",
        edit=(
            ("steps), pad)", "steps), 0)"),
            ("masked_fill(done, pad)", "masked_fill(done, 0)"),
        ),
    ),
    Misconception(
        name="a column of tokens fed",
        task="greedy_decode",
        fails="greedy_decode__fed",
        told="step was fed tokens of shape (2, 1)",
        edit=(("step(token, state)", "step(token[:, None], state)"),),
    ),
    Misconception(
        name="finished sentences end again",
        task="greedy_decode",
        fails="greedy_decode__calls",
        told="after 3 all sentences had ended",
        edit=(("        if done.all():\n            break\n", ""),),
    ),
)

_BEAM = (
    Misconception(
        name="worst first",
        task="beam_search",
        fails="beam_search__by_hand",
        told="the best hypothesis comes first",
        edit=(
            (
                "finished.sort(key=lambda hypothesis: -hypothesis[0])",
                "finished.sort(key=lambda hypothesis: hypothesis[0])",
            ),
        ),
    ),
    Misconception(
        name="best hypothesis alone",
        task="beam_search",
        fails="beam_search__by_hand",
        told="the best hypothesis alone",
        edit=(("torch.tensor(rows), torch", "torch.tensor(rows[:1]), torch"),),
    ),
    Misconception(
        name="greedy, whatever the width",
        task="beam_search",
        fails="beam_search__by_hand",
        told="greedy search alone",
        edit=(("extended[: width - len(finished)]", "extended[:1]"),),
    ),
    Misconception(
        name="logits added up",
        task="beam_search",
        fails="beam_search__by_hand",
        told="logits were compared",
        edit=(("logits.double().log_softmax(-1)[0]", "logits.double()[0]"),),
    ),
    Misconception(
        name="probabilities returned",
        task="beam_search",
        fails="beam_search__by_hand",
        told="these are probabilities",
        edit=(
            (
                "torch.tensor([log_prob for log_prob, _, _ in finished])",
                "torch.tensor([log_prob for log_prob, _, _ in finished]).exp()",
            ),
        ),
    ),
    Misconception(
        name="divided by the length",
        task="beam_search",
        fails="beam_search__by_hand",
        told="they were divided by the length",
        edit=(
            (
                "[log_prob for log_prob, _, _ in finished]",
                "[log_prob / len(tokens) for log_prob, tokens, _ in finished]",
            ),
        ),
    ),
    Misconception(
        name="the last token's chance alone",
        task="beam_search",
        fails="beam_search__by_hand",
        told="only the last token counts",
        edit=(("(log_prob + g, [*tokens, i]", "(g, [*tokens, i]"),),
    ),
    Misconception(
        name="tokens alone",
        task="beam_search",
        fails="beam_search__by_hand",
        told="the log-probabilities are missing",
        edit=((", torch.tensor([log_prob for log_prob, _, _ in finished])", ""),),
    ),
    Misconception(
        name="finished hypotheses extended",
        task="beam_search",
        fails="beam_search__by_hand",
        told="a finished hypothesis was extended",
        edit=(("ended = hypothesis[1][-1] == eos or t + 1 == steps", "ended = t + 1 == steps"),),
    ),
    Misconception(
        name="what is cut off is lost",
        task="beam_search",
        fails="beam_search__width_one",
        told="runs out of steps counts as it is",
        edit=(
            (
                "ended = hypothesis[1][-1] == eos or t + 1 == steps",
                "ended = hypothesis[1][-1] == eos",
            ),
        ),
    ),
    Misconception(
        name="state of the beginning",
        task="beam_search",
        fails="beam_search__width_one",
        told="the state goes on from step to step",
        edit=(("[*tokens, i], after)", "[*tokens, i], state)"),),
    ),
    Misconception(
        name="as many children a hypothesis as fit",
        task="beam_search",
        fails="beam_search__exhaustive",
        told="it finds every sentence there is",
        edit=(("enumerate(gains)]", "list(enumerate(gains))[:2]]"),),
    ),
    Misconception(
        name="states of the hypothesis in the same place",
        task="beam_search",
        fails="beam_search__library",
        told="does each extension go on from its own state",
        answer="""
def beam_search(step, state, bos, eos, width, steps, pad=0):
    finished, beams = [], [(0.0, [])]
    for t in range(steps):
        newest = torch.tensor([tokens[-1] if tokens else bos for _, tokens in beams])
        logits, state = step(newest, state[torch.arange(len(beams)).clamp(max=len(state) - 1)])
        gains = logits.log_softmax(-1).tolist()
        extended = [
            (total + gain, [*tokens, i])
            for (total, tokens), row in zip(beams, gains)
            for i, gain in enumerate(row)
        ]
        extended.sort(reverse=True)
        beams = []
        for total, tokens in extended[: width - len(finished)]:
            ended = tokens[-1] == eos or t + 1 == steps
            (finished if ended else beams).append((total, tokens))
        if not beams:
            break
    finished.sort(reverse=True)
    rows = [tokens + [pad] * (steps - len(tokens)) for _, tokens in finished]
    return torch.tensor(rows), torch.tensor([total for total, _ in finished])
""",
    ),
    Misconception(
        name="the end has to hold its place",
        task="beam_search",
        fails="beam_search__finished",
        told="a finished hypothesis lost its place to a better one",
        answer="""
def beam_search(step, state, bos, eos, width, steps, pad=0):
    beam = [(0.0, [], state)]
    for _ in range(steps):
        extended = [h for h in beam if h[1][-1:] == [eos]]
        for total, tokens, memory in beam:
            if tokens[-1:] != [eos]:
                logits, after = step(torch.tensor(tokens[-1:] or [bos]), memory)
                for token, gain in enumerate(logits[0].log_softmax(0).tolist()):
                    extended.append((total + gain, [*tokens, token], after))
        beam = sorted(extended, key=lambda h: -h[0])[:width]
    rows = [tokens + [pad] * (steps - len(tokens)) for _, tokens, _ in beam]
    return torch.tensor(rows), torch.tensor([total for total, _, _ in beam])
""",
    ),
    Misconception(
        name="the end frees a place",
        task="beam_search",
        fails="beam_search__finished",
        told="freed its place",
        edit=(
            ("extended[: width - len(finished)]", "extended[:width]"),
            ("rows = [", "finished = finished[:width]\n    rows = ["),
        ),
    ),
    Misconception(
        name="stops at the first end",
        task="beam_search",
        fails="beam_search__finished",
        told="the search stopped when the first hypothesis was finished",
        edit=(
            (
                "        if not unfinished:\n            break\n",
                "        if any(h[1][-1] == eos for h in finished):\n"
                "            finished += unfinished\n"
                "            break\n",
            ),
        ),
    ),
)

_PENALTY = (
    Misconception(
        name="penalty multiplied",
        task="length_penalty",
        fails="length_penalty__by_hand",
        told="it was multiplied",
        edit=(("log_prob / ((5", "log_prob * ((5"),),
    ),
    Misconception(
        name="divided by the length",
        task="length_penalty",
        fails="length_penalty__by_hand",
        told="without 5 and 6",
        edit=(
            ("return log_prob / ((5 + length) / 6) ** alpha", "return log_prob / length**alpha"),
        ),
    ),
    Misconception(
        name="alpha left out",
        task="length_penalty",
        fails="length_penalty__by_hand",
        told="α is missing",
        edit=(
            (
                "return log_prob / ((5 + length) / 6) ** alpha",
                "return log_prob / ((5 + length) / 6)",
            ),
        ),
    ),
    Misconception(
        name="not divided by six",
        task="length_penalty",
        fails="length_penalty__by_hand",
        told="was not divided by 6",
        edit=(
            (
                "return log_prob / ((5 + length) / 6) ** alpha",
                "return log_prob / (5 + length) ** alpha",
            ),
        ),
    ),
    Misconception(
        name="longer hypotheses fall behind",
        task="length_penalty",
        fails="length_penalty__ranks",
        told="larger α favours long ones",
        edit=(
            (
                "return log_prob / ((5 + length) / 6) ** alpha",
                "return log_prob / ((5 + length) / 6) ** -alpha",
            ),
        ),
    ),
    Misconception(
        name="numbers of Python's only",
        task="length_penalty",
        fails="length_penalty__tensors",
        told="operators take tensors too",
        edit=(
            (
                "return log_prob / ((5 + length) / 6) ** alpha",
                "return log_prob / pow((5 + int(length)) / 6, alpha)",
            ),
        ),
    ),
    Misconception(
        name="hope without growth",
        task="length_penalty",
        fails="length_penalty__stop",
        told="the hope of each is its log-probability divided",
        edit=(("length_penalty(log_prob, steps, alpha) <= best", "log_prob <= best"),),
    ),
    Misconception(
        name="first hypothesis only",
        task="length_penalty",
        fails="length_penalty__stop",
        told="should say False",
        edit=(
            (
                "bool((length_penalty(log_prob, steps, alpha) <= best).all())",
                "not len(log_prob) or bool(length_penalty(log_prob, steps, alpha)[0] <= best)",
            ),
        ),
    ),
    Misconception(
        name="stops when one is lost",
        task="length_penalty",
        fails="length_penalty__stop",
        told="should say False",
        edit=(("<= best).all())", "<= best).any() or not len(log_prob))"),),
    ),
    Misconception(
        name="maximum of nothing",
        task="length_penalty",
        fails="length_penalty__stop",
        told="it may be empty",
        edit=(
            (
                "bool((length_penalty(log_prob, steps, alpha) <= best).all())",
                "bool(length_penalty(log_prob.max(), steps, alpha) <= best)",
            ),
        ),
    ),
    Misconception(
        name="stops while it can win",
        task="length_penalty",
        fails="length_penalty__stop",
        told="can_stop says False but should say True",
        edit=(("<= best).all())", "> best).all())"),),
    ),
)

_BLEU = (
    Misconception(
        name="unclipped",
        task="clipped_precision",
        fails="clipped_precision__by_hand",
        told="matches are not clipped",
        edit=(
            (
                "(count(written) & count(right)).total()",
                "sum(k for x, k in count(written).items() if x in count(right))",
            ),
        ),
    ),
    Misconception(
        name="different words",
        task="clipped_precision",
        fails="clipped_precision__by_hand",
        told="each word counts once",
        edit=(
            (
                "(count(written) & count(right)).total()",
                "len(count(written).keys() & count(right).keys())",
            ),
        ),
    ),
    Misconception(
        name="recall for precision",
        task="clipped_precision",
        fails="clipped_precision__by_hand",
        told="which makes a recall",
        edit=(("total += count(written).total()", "total += count(right).total()"),),
    ),
    Misconception(
        name="divided by the words",
        task="clipped_precision",
        fails="clipped_precision__by_hand",
        told="divided by the number of words",
        edit=(("total += count(written).total()", "total += len(written)"),),
    ),
    Misconception(
        name="last n-gram forgotten",
        task="clipped_precision",
        fails="clipped_precision__by_hand",
        told="the last n-gram is missing",
        edit=(("len(words) - n + 1", "len(words) - n"),),
    ),
    Misconception(
        name="share for a hundred",
        task="clipped_precision",
        fails="clipped_precision__bleu",
        told="times 100 is missing",
        edit=(("return 100 * brevity", "return brevity"),),
    ),
    Misconception(
        name="no brevity penalty",
        task="clipped_precision",
        fails="clipped_precision__bleu",
        told="the brevity penalty is missing",
        edit=(("return 100 * brevity", "return 100"),),
    ),
    Misconception(
        name="brevity upside down",
        task="clipped_precision",
        fails="clipped_precision__bleu",
        told="upside down",
        edit=(("exp(1 - r / c)", "exp(1 - c / r)"),),
    ),
    Misconception(
        name="share of the length",
        task="clipped_precision",
        fails="clipped_precision__bleu",
        told="the penalty is c / r",
        edit=(("exp(1 - r / c)", "c / r"),),
    ),
    Misconception(
        name="precisions averaged",
        task="clipped_precision",
        fails="clipped_precision__bleu",
        told="the precisions were averaged",
        edit=(("exp(sum(log(p) for p in precisions) / 4)", "sum(precisions) / 4"),),
    ),
    Misconception(
        name="long texts rewarded",
        task="clipped_precision",
        fails="clipped_precision__bleu",
        told="a long text was rewarded",
        edit=(("1.0 if c >= r else exp(1 - r / c)", "exp(1 - r / c)"),),
    ),
    Misconception(
        name="mean of the sentences' precisions",
        task="clipped_precision",
        fails="clipped_precision__corpus",
        told="the precisions of the sentences were averaged",
        edit=(
            (
                "    matches = total = 0\n",
                "    shares = []\n",
            ),
            (
                "        matches += (count(written) & count(right)).total()\n"
                "        total += count(written).total()\n"
                "    return matches / total if total else 0.0",
                "        all_of_it = count(written).total()\n"
                "        shared = (count(written) & count(right)).total()\n"
                "        shares.append(shared / all_of_it if all_of_it else 0.0)\n"
                "    return sum(shares) / len(shares)",
            ),
        ),
    ),
    Misconception(
        name="corpus as one text",
        task="clipped_precision",
        fails="clipped_precision__corpus",
        told="clip sentence by sentence",
        answer="""
from collections import Counter
from math import exp, log


def clipped_precision(hypotheses, references, n):
    def count(sentences):
        return Counter(tuple(s[i : i + n]) for s in sentences for i in range(len(s) - n + 1))

    total = count(hypotheses).total()
    return (count(hypotheses) & count(references)).total() / total if total else 0.0


def bleu(hypotheses, references):
    precisions = [clipped_precision(hypotheses, references, n) for n in (1, 2, 3, 4)]
    if min(precisions) == 0:
        return 0.0
    c, r = sum(map(len, hypotheses)), sum(map(len, references))
    brevity = 1.0 if c >= r else exp(1 - r / c)
    return 100 * brevity * exp(sum(log(p) for p in precisions) / 4)
""",
    ),
    Misconception(
        name="logarithm of zero",
        task="clipped_precision",
        fails="clipped_precision__corpus",
        told="a sentence may be empty",
        edit=(("    if min(precisions) == 0:\n        return 0.0\n", ""),),
    ),
    Misconception(
        name="mean of the sentences' scores",
        task="clipped_precision",
        fails="clipped_precision__sacrebleu",
        told="the brevity penalty is of the whole corpus too",
        edit=(
            (
                "    precisions = [",
                "    if len(hypotheses) > 1:\n"
                "        pairs = zip(hypotheses, references, strict=True)\n"
                "        scores = [bleu([written], [right]) for written, right in pairs]\n"
                "        return sum(scores) / len(scores)\n"
                "    precisions = [",
            ),
        ),
    ),
    Misconception(
        name="mean of the sentences' penalties",
        task="clipped_precision",
        fails="clipped_precision__sacrebleu",
        told="the penalties of the sentences were averaged",
        answer="""
from collections import Counter
from math import exp, prod


def clipped_precision(hypotheses, references, n):
    matches = total = 0
    for words, right in zip(hypotheses, references, strict=True):
        ours, theirs = (
            Counter(tuple(x[i : i + n]) for i in range(len(x) - n + 1)) for x in (words, right)
        )
        matches, total = matches + (ours & theirs).total(), total + ours.total()
    return matches / total if total else 0.0


def bleu(hypotheses, references):
    precisions = [clipped_precision(hypotheses, references, n) for n in (1, 2, 3, 4)]
    if min(precisions) == 0:
        return 0.0
    pairs = zip(hypotheses, references, strict=True)
    penalties = [min(1.0, exp(1 - len(right) / len(words))) for words, right in pairs]
    return 100 * sum(penalties) / len(penalties) * prod(precisions) ** 0.25
""",
    ),
)

MISCONCEPTIONS: tuple[Misconception, ...] = (
    *_SHIFT,
    *_LOSS,
    *_LAST,
    *_MODEL,
    *_GREEDY,
    *_BEAM,
    *_PENALTY,
    *_BLEU,
)

_COUNTED = """
from math import exp, log


def clipped_precision(hypotheses, references, n):
    matches, total = 0, 0
    for written, right in zip(hypotheses, references):
        grams = [tuple(written[i : i + n]) for i in range(max(0, len(written) - n + 1))]
        left = [tuple(right[i : i + n]) for i in range(max(0, len(right) - n + 1))]
        total += len(grams)
        for gram in grams:
            if gram in left:
                left.remove(gram)
                matches += 1
    return matches / total if total > 0 else 0.0


def bleu(hypotheses, references):
    score = 100.0
    for n in range(1, 5):
        score *= clipped_precision(hypotheses, references, n) ** 0.25
    c = sum(len(words) for words in hypotheses)
    r = sum(len(words) for words in references)
    return score * exp(min(0.0, 1 - r / c)) if c else 0.0
"""

RIGHT_ANSWERS: tuple[RightAnswer, ...] = (
    RightAnswer(
        name="rolled and overwritten",
        task="shift_right",
        answer="""
def shift_right(target, bos):
    read = torch.roll(target, shifts=1, dims=-1)
    read[..., 0] = bos
    return read
""",
    ),
    RightAnswer(
        name="an empty table filled",
        task="shift_right",
        answer="""
def shift_right(target, bos):
    read = torch.empty_like(target)
    read[..., :1] = bos
    read[..., 1:] = target[..., :-1]
    return read
""",
    ),
    RightAnswer(
        name="padded in front",
        task="shift_right",
        answer="""
def shift_right(target, bos):
    return nn.functional.pad(target, (1, 0), value=bos)[..., : target.shape[-1]]
""",
    ),
    RightAnswer(
        name="logsumexp",
        task="masked_cross_entropy",
        answer="""
def masked_cross_entropy(logits, targets, pad):
    real = targets.ne(pad)
    right = torch.where(real, targets, torch.zeros_like(targets)).unsqueeze(-1)
    surprise = torch.logsumexp(logits, dim=-1) - torch.gather(logits, -1, right).squeeze(-1)
    return torch.where(real, surprise, 0.0).sum() / real.sum()
""",
    ),
    RightAnswer(
        name="real rows only",
        task="masked_cross_entropy",
        answer="""
def masked_cross_entropy(logits, targets, pad):
    keep = targets.reshape(-1) != pad
    rows = logits.reshape(-1, logits.shape[-1])[keep]
    right = targets.reshape(-1)[keep]
    return -torch.log_softmax(rows, dim=1)[torch.arange(len(rows)), right].mean()
""",
    ),
    RightAnswer(
        name="one-hot product",
        task="masked_cross_entropy",
        answer="""
def masked_cross_entropy(logits, targets, pad):
    one_hot = torch.arange(logits.shape[-1]) == targets.unsqueeze(-1)
    one_hot = one_hot & (targets != pad).unsqueeze(-1)
    shifted = logits - logits.amax(-1, keepdim=True).detach()
    log_p = shifted - shifted.exp().sum(-1, keepdim=True).log()
    return -(log_p * one_hot).sum() / one_hot.sum()
""",
    ),
    RightAnswer(
        name="index of every sentence",
        task="last_valid_state",
        answer="""
def last_valid_state(states, lengths):
    T, D = states.shape[-2:]
    flat = states.reshape(-1, T, D)
    picked = flat[torch.arange(len(flat)), lengths.reshape(-1) - 1]
    return picked.reshape(*states.shape[:-2], D)
""",
    ),
    RightAnswer(
        name="one sentence at a time",
        task="last_valid_state",
        answer="""
def last_valid_state(states, lengths):
    T, D = states.shape[-2:]
    rows = []
    for sentence, n in zip(states.reshape(-1, T, D), lengths.reshape(-1).tolist()):
        rows.append(sentence[:n][-1])
    return torch.stack(rows).reshape(lengths.shape + (D,))
""",
    ),
    RightAnswer(
        name="chosen by a boolean",
        task="last_valid_state",
        answer="""
def last_valid_state(states, lengths):
    here = torch.arange(1, states.shape[-2] + 1) == lengths[..., None]
    return torch.where(here[..., None], states, 0.0).sum(dim=-2)
""",
    ),
    RightAnswer(
        name="LSTM with the context at each step",
        task="encode_decode",
        answer="""
class EncoderDecoder(nn.Module):
    def __init__(self, source_vocabulary, target_vocabulary, E, D):
        super().__init__()
        self.read_words = nn.Embedding(source_vocabulary, E)
        self.written_words = nn.Embedding(target_vocabulary, E)
        self.reader = nn.LSTM(E, D, batch_first=True)
        self.writer = nn.LSTM(E + D, D, batch_first=True)
        self.head = nn.Sequential(nn.Linear(2 * D, D), nn.Tanh(), nn.Linear(D, target_vocabulary))

    def encode(self, source, lengths=None):
        if lengths is None:
            lengths = torch.full((source.shape[0],), source.shape[1])
        states, _ = self.reader(self.read_words(source))
        return last_valid_state(states, lengths=lengths)

    def decode(self, target_in, context):
        at_each = context.unsqueeze(1).expand(-1, target_in.shape[1], -1)
        states, _ = self.writer(torch.cat([self.written_words(target_in), at_each], dim=-1))
        return self.head(torch.cat([states, at_each], dim=-1))

    def forward(self, source, target_in, lengths=None):
        return self.decode(target_in, self.encode(source, lengths))
""",
    ),
    RightAnswer(
        name="packed and two-way",
        task="encode_decode",
        answer="""
from torch.nn.utils.rnn import pack_padded_sequence


class EncoderDecoder(nn.Module):
    def __init__(self, source_vocabulary, target_vocabulary, E, D):
        super().__init__()
        self.x = nn.Embedding(source_vocabulary, E)
        self.y = nn.Embedding(target_vocabulary, E)
        self.forwards_and_back = nn.GRU(E, D // 2, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(D, D)
        self.writer = nn.GRU(E, D, num_layers=2, batch_first=True)
        self.out = nn.Linear(D, target_vocabulary, bias=False)

    def encode(self, source, lengths=None):
        if lengths is None:
            lengths = torch.tensor([source.shape[1]] * len(source))
        packed = pack_padded_sequence(
            self.x(source), lengths, batch_first=True, enforce_sorted=False
        )
        _, last = self.forwards_and_back(packed)
        return torch.cat([last[0], last[1]], dim=-1)

    def decode(self, target_in, context):
        start = torch.tanh(self.bridge(context)).repeat(2, 1, 1)
        return self.out(self.writer(self.y(target_in), start)[0])

    def forward(self, source, target_in, lengths=None):
        return self.decode(target_in, self.encode(source, lengths))
""",
    ),
    RightAnswer(
        name="loops over cells",
        task="encode_decode",
        answer="""
class EncoderDecoder(nn.Module):
    def __init__(self, source_vocabulary, target_vocabulary, E, D):
        super().__init__()
        self.D = D
        self.source_words = nn.Parameter(torch.randn(source_vocabulary, E))
        self.target_words = nn.Parameter(torch.randn(target_vocabulary, E))
        self.encoder = nn.RNNCell(E, D)
        self.decoder = nn.GRUCell(E, D)
        self.logits = nn.Linear(D, target_vocabulary)

    def encode(self, source, lengths=None):
        h = self.source_words.new_zeros(source.shape[0], self.D)
        for t in range(source.shape[1]):
            new = self.encoder(self.source_words[source[:, t]], h)
            if lengths is None:
                h = new
            else:
                h = torch.where((t < lengths)[:, None], new, h)
        return h

    def decode(self, target_in, context):
        h, logits = context, []
        for t in range(target_in.shape[1]):
            h = self.decoder(self.target_words[target_in[:, t]], h)
            logits.append(self.logits(h))
        return torch.stack(logits, dim=1)

    def forward(self, source, target_in, lengths=None):
        return self.decode(target_in, self.encode(source, lengths))
""",
    ),
    RightAnswer(
        name="columns collected",
        task="greedy_decode",
        answer="""
def greedy_decode(step, state, bos, eos, steps, pad=0):
    B = state.shape[0]
    token = torch.tensor([bos] * B)
    alive = torch.ones(B, dtype=torch.bool)
    columns = []
    while len(columns) < steps and alive.any():
        logits, state = step(token, state)
        token = torch.where(alive, logits.max(dim=-1).indices, pad)
        columns.append(token)
        alive = alive & (token != eos)
    columns += [torch.full((B,), pad)] * (steps - len(columns))
    return torch.stack(columns, dim=1)
""",
    ),
    RightAnswer(
        name="ends cut afterwards",
        task="greedy_decode",
        answer="""
def greedy_decode(step, state, bos, eos, steps, pad=0):
    tokens = torch.full((len(state), steps + 1), bos)
    t = 0
    while t < steps and not (tokens[:, 1 : t + 1] == eos).any(1).all():
        logits, state = step(tokens[:, t], state)
        tokens[:, t + 1] = logits.topk(1).indices[:, 0]
        t += 1
    written = tokens[:, 1:]
    written[:, t:] = pad
    behind = (written == eos).cumsum(1) - (written == eos).long() > 0
    return written.masked_fill(behind, pad)
""",
    ),
    RightAnswer(
        name="finished sentences left out",
        task="greedy_decode",
        answer="""
def greedy_decode(step, state, bos, eos, steps, pad=0):
    written = torch.full((len(state), steps), pad)
    alive = torch.arange(len(state))
    newest = torch.full((len(state),), bos)
    for t in range(steps):
        logits, state = step(newest, state)
        newest = logits.argmax(-1)
        written[alive, t] = newest
        on = newest != eos
        alive, newest, state = alive[on], newest[on], state[on]
        if len(alive) == 0:
            break
    return written
""",
    ),
    RightAnswer(
        name="lists of tokens",
        task="greedy_decode",
        answer="""
def greedy_decode(step, state, bos, eos, steps, pad=0):
    sentences = [[] for _ in range(len(state))]
    newest = [bos] * len(sentences)
    for _ in range(steps):
        logits, state = step(torch.tensor(newest), state)
        newest = torch.argmax(logits, dim=1).tolist()
        for sentence, token in zip(sentences, newest):
            if eos not in sentence:
                sentence.append(token)
        if all(eos in sentence for sentence in sentences):
            break
    return torch.tensor([s + [pad] * (steps - len(s)) for s in sentences])
""",
    ),
    RightAnswer(
        name="all hypotheses in one call",
        task="beam_search",
        answer="""
def beam_search(step, state, bos, eos, width, steps, pad=0):
    tokens = torch.full((1, 0), pad)
    total = torch.zeros(1, dtype=torch.float64)
    newest, ends = torch.tensor([bos]), []
    for t in range(steps):
        logits, state = step(newest, state)
        scores = total[:, None] + logits.double().log_softmax(-1)
        room = min(width - len(ends), scores.numel())
        best = scores.flatten().topk(room)
        origin = best.indices // scores.shape[1]
        newest = best.indices % scores.shape[1]
        tokens = torch.cat([tokens[origin], newest[:, None]], 1)
        total, state = best.values, state[origin]
        over = (newest == eos) | (t == steps - 1)
        for row, value in zip(tokens[over].tolist(), total[over].tolist()):
            ends.append((value, row + [pad] * (steps - len(row))))
        tokens, total, state, newest = tokens[~over], total[~over], state[~over], newest[~over]
        if len(newest) == 0:
            break
    ends.sort(reverse=True)
    return torch.tensor([row for _, row in ends]), torch.tensor([value for value, _ in ends])
""",
    ),
    RightAnswer(
        name="slots with minus infinity",
        task="beam_search",
        answer="""
def beam_search(step, state, bos, eos, width, steps, pad=0):
    inf = float("inf")
    tokens = torch.full((width, steps), pad)
    value = torch.tensor([0.0] + [-inf] * (width - 1), dtype=torch.float64)
    newest = torch.full((width,), bos)
    state = state.expand(width, -1)
    done = torch.zeros(width, dtype=torch.bool)
    for t in range(steps):
        logits, state = step(newest, state)
        gains = logits.double().log_softmax(-1)
        total = value[:, None] + gains
        # a finished one has a single way on, for free, and goes before all others
        N = total.shape[1]
        total[done] = -inf
        total[done, 0] = value[done]
        rank = total.clone()
        rank[done, 0] = inf
        best = rank.flatten().sort(descending=True, stable=True).indices[:width]
        origin, token = best // N, best % N
        was = done[origin]
        value = total.flatten()[best]
        tokens, state = tokens[origin], state[origin]
        tokens[~was, t] = token[~was]
        newest = torch.where(was, newest[origin], token)
        done = was | (token == eos) & ~was
        done = done & (value > -inf)
        if (done | (value == -inf)).all():
            break
    order = value.argsort(descending=True)
    order = order[value[order] > -inf]
    return tokens[order], value[order]
""",
    ),
    RightAnswer(
        name="heap of hypotheses",
        task="beam_search",
        answer="""
import heapq


def beam_search(step, state, bos, eos, width, steps, pad=0):
    done, alive = [], [(0.0, (), state, bos)]
    while alive:
        grown = []
        for score, sentence, memory, last in alive:
            logits, memory = step(torch.tensor([last]), memory)
            log_p = torch.log_softmax(logits[0].double(), dim=0)
            for token, gain in enumerate(log_p.tolist()):
                grown.append((score + gain, sentence + (token,), memory, token))
        alive = []
        for item in heapq.nlargest(width - len(done), grown, key=lambda x: x[0]):
            if item[3] == eos or len(item[1]) == steps:
                done.append(item)
            else:
                alive.append(item)
    done = sorted(done, key=lambda x: x[0], reverse=True)
    tokens = torch.full((len(done), steps), pad)
    for row, (_, sentence, _, _) in enumerate(done):
        tokens[row, : len(sentence)] = torch.tensor(sentence)
    return tokens, torch.tensor([item[0] for item in done], dtype=torch.float64)
""",
    ),
    RightAnswer(
        name="by logarithms",
        task="length_penalty",
        answer="""
import math


def length_penalty(log_prob, length, alpha):
    length = torch.as_tensor(length, dtype=torch.float64)
    return log_prob * torch.exp(alpha * (math.log(6.0) - torch.log(length + 5.0)))


def can_stop(best, log_prob, steps, alpha):
    longest = ((5 + steps) / 6) ** alpha
    for hope in log_prob.tolist():
        if hope / longest > best:
            return False
    return True
""",
    ),
    RightAnswer(
        name="best compared as a log-probability",
        task="length_penalty",
        answer="""
def length_penalty(log_prob, length, alpha):
    penalty = (5 + length) ** alpha / 6**alpha
    return log_prob / penalty


def can_stop(best, log_prob, steps, alpha):
    if log_prob.numel() == 0:
        return True
    return (log_prob.max() <= best * ((5 + steps) / 6) ** alpha).item()
""",
    ),
    RightAnswer(
        name="a tensor that says whether",
        task="length_penalty",
        answer="""
def length_penalty(log_prob, length, alpha):
    return log_prob * (6 / (5 + length)) ** alpha


def can_stop(best, log_prob, steps, alpha):
    hopes = length_penalty(log_prob, length=steps, alpha=alpha)
    return ~(hopes > best).any()
""",
    ),
    RightAnswer(
        name="matches struck out",
        task="clipped_precision",
        answer=_COUNTED,
    ),
    RightAnswer(
        name="dicts and text",
        task="clipped_precision",
        answer="""
import math


def grams(words, n):
    counts = {}
    for i in range(len(words)):
        if i + n <= len(words):
            gram = " ".join(words[i : i + n])
            counts[gram] = counts.get(gram, 0) + 1
    return counts


def clipped_precision(hypotheses, references, n):
    top = bottom = 0
    for i in range(len(hypotheses)):
        mine, theirs = grams(hypotheses[i], n), grams(references[i], n)
        top += sum(min(k, theirs.get(gram, 0)) for gram, k in mine.items())
        bottom += sum(mine.values())
    return 0.0 if bottom == 0 else top / bottom


def bleu(hypotheses, references):
    product = math.prod(clipped_precision(hypotheses, references, n) for n in [1, 2, 3, 4])
    if product == 0:
        return 0.0
    c = len([word for words in hypotheses for word in words])
    r = len([word for words in references for word in words])
    penalty = math.exp(1 - r / c) if c < r else 1
    return 100 * penalty * product**0.25
""",
    ),
    RightAnswer(
        name="counters subtracted, logarithms in torch",
        task="clipped_precision",
        answer="""
from collections import Counter


def clipped_precision(hypotheses, references, n):
    missed = total = 0
    for written, right in zip(hypotheses, references):
        mine = Counter(zip(*(written[i:] for i in range(n))))
        missed += sum((mine - Counter(zip(*(right[i:] for i in range(n))))).values())
        total += sum(mine.values())
    return (total - missed) / total if total else 0.0


def bleu(hypotheses, references):
    p = torch.tensor(
        [clipped_precision(hypotheses, references, n) for n in range(1, 5)], dtype=torch.float64
    )
    c = torch.tensor(float(sum(len(x) for x in hypotheses)))
    r = torch.tensor(float(sum(len(x) for x in references)))
    if c == 0:
        return 0.0
    return 100 * p.log().mean().exp() * (1 - r / c).clamp(max=0.0).exp()
""",
    ),
)
