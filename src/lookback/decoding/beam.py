"""Beam search: the best few hypotheses, side by side."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lookback.decoding.protocol import Decoded, Model, State, check, check_known, new_tokens


@torch.no_grad()
def beam_search(
    model: Model,
    state: State,
    prefix: Int[Tensor, "N P"],
    *,
    steps: int,
    width: int,
    eos: int,
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
    early_stop: bool = True,
    pad: int = 0,
    lengths: Int[Tensor, " N"] | None = None,
) -> Decoded:
    """Keep the ``width`` likeliest hypotheses at each step (Graves 2012; Sutskever et al. 2014).

    Each hypothesis holds one of ``width`` slots. A finished one keeps its slot; the others go to
    the likeliest extensions of the unfinished ones. The search ends when all slots are finished or
    ``steps`` tokens are written; hypotheses cut off there compete as they are. Width 1 is greedy
    search. Of equals, the better-ranked hypothesis and then the token with the lower number come
    first, so results repeat.

    Finished hypotheses are ranked by (Wu et al. 2016, eq. 14)

        log P(Y) / ((5 + |Y|) / 6)^α  +  β Σ_i log min(Σ_t a_t,i, 1)

    A wider beam may find a *worse* best score: it can lose the path that a narrow one followed.

    Args:
        model: see :mod:`lookback.decoding.protocol`.
        state: from ``model.begin``; used up.
        prefix: what each row starts from: BOS, or a prompt.
        steps: new tokens at most.
        width: hypotheses a row.
        eos: the token that ends a hypothesis; it counts in ``|Y|``.
        length_penalty: ``α`` of :func:`length_normaliser`; 0 ranks by log-probability, which
            favours short outputs.
        coverage_penalty: ``β``; above 0, source positions that attention left out cost. Needs a
            state with ``weights``.
        early_stop: close a row as soon as no unfinished hypothesis can overtake its best finished
            one, however long it grows. The best result is the same, the others may be missing.
        pad: written behind the end.
        lengths: real tokens of each prefix, where they differ; padding stands at the end.

    Returns:
        ``width`` hypotheses a row, best first; where there are fewer, length 0 and score -inf.

    Raises:
        ValueError: if the model is in training mode, an argument does not fit, or coverage is
            asked of a model that keeps no weights.
    """
    lengths = check(model, prefix, lengths, steps)
    if width < 1:
        raise ValueError(f"a beam needs a width of at least 1, got {width}")
    if length_penalty < 0 or coverage_penalty < 0:
        raise ValueError(
            f"penalties cannot be negative, got {length_penalty} and {coverage_penalty}"
        )
    N, P = prefix.shape
    start = int(lengths.min())
    logits = model.step(prefix[:, :start], state)
    V = logits.shape[-1]
    check_known(V, eos=eos, pad=pad)
    row = torch.arange(N, device=prefix.device)
    state.reorder(row.repeat_interleave(width))
    logits = logits.repeat_interleave(width, 0)  # N·W V
    cover = _Coverage(state, coverage_penalty, N, width)
    slots = _Slots(prefix, lengths, width, steps, pad, logits.dtype)
    for t in range(start, P + steps):
        origin, token = slots.extend(logits, t, eos, cover)
        if early_stop:
            slots.close(length_penalty, cover.penalty())
        if slots.over():
            break
        state.reorder((row[:, None] * width + origin).flatten())
        logits = model.step(token.reshape(-1, 1), state)
    return slots.ranked(length_penalty, cover.penalty())


def length_normaliser(length: Int[Tensor, "*rows"], alpha: float) -> Float[Tensor, "*rows"]:
    """What log-probabilities are divided by, ``((5 + |Y|) / 6)^α`` (Wu et al. 2016, eq. 14).

    Log-probabilities are negative, so dividing by more ranks higher: larger ``α`` favours longer
    outputs.

    Args:
        length: tokens written, the end token counted.
        alpha: 0 turns it off; the paper uses 0.6 to 0.7.
    """
    return ((5.0 + length) / 6.0) ** alpha


class _Slots:
    """The hypotheses of each row, ``W`` of them; an empty slot has log-probability -inf."""

    def __init__(
        self, prefix: Tensor, lengths: Tensor, W: int, steps: int, pad: int, dtype: torch.dtype
    ) -> None:
        N, device = len(prefix), prefix.device
        self.lengths, self.steps, self.pad = lengths[:, None], steps, pad
        room = torch.cat([prefix, prefix.new_full((N, steps), pad)], 1)
        self.tokens = room[:, None].repeat(1, W, 1)  # N W P+steps
        dtype = torch.promote_types(dtype, torch.float32)
        self.log_prob = torch.full((N, W), float("-inf"), dtype=dtype, device=device)
        self.log_prob[:, 0] = 0.0  # one hypothesis to begin with
        self.count = torch.zeros(N, W, dtype=torch.int64, device=device)
        self.done = torch.zeros(N, W, dtype=torch.bool, device=device)

    def extend(self, logits: Tensor, t: int, eos: int, cover: _Coverage) -> tuple[Tensor, Tensor]:
        """Fill the slots with the best extensions; which slot each grew from, and its new token."""
        (N, W), V = self.done.shape, logits.shape[-1]
        gain = logits.to(self.log_prob.dtype).log_softmax(-1).view(N, W, V)
        # inside a prefix the next token is dictated, and behind its end stands padding: both free
        dictated = (t < self.lengths).expand(N, W)
        only = torch.where(dictated, self.tokens[:, :, t], self.pad)
        one_way = torch.full_like(gain, float("-inf")).scatter(-1, only[..., None], 0.0)
        gain = torch.where((dictated | self.done)[..., None], one_way, gain)
        total = (self.log_prob[..., None] + gain).flatten(1)  # N W·V
        # a finished hypothesis goes before all others, so that it keeps its slot
        kept = self.done[..., None] & (one_way == 0)
        best = _best(total.masked_fill(kept.flatten(1), float("inf")), W)
        origin, token = best // V, best % V

        self.log_prob = total.gather(1, best)
        self.tokens = self.tokens.gather(1, origin[..., None].expand_as(self.tokens))
        self.tokens[:, :, t] = token
        count, done = self.count.gather(1, origin), self.done.gather(1, origin)
        writing = ~done & ~dictated
        self.count = count + writing
        ended = writing & ((token == eos) | (self.count == self.steps))
        self.done = (done | ended) & (self.log_prob > float("-inf"))  # an empty slot never ends
        cover.follow(origin, writing)
        return origin, token

    def close(self, alpha: float, penalty: Tensor | float) -> None:
        """Empty the open slots of rows in which none of them can win any more."""
        scores = self.log_prob / length_normaliser(self.count, alpha) + penalty
        leader = scores.masked_fill(~self.done, float("-inf")).amax(1, keepdim=True)
        # more tokens can only lower log P, and the longest hypothesis divides it by most
        longest = length_normaliser(torch.full_like(self.count, self.steps), alpha)
        lost = self.done | (self.log_prob / longest < leader) | (self.log_prob == float("-inf"))
        # all or none: emptying one slot alone would let other hypotheses grow into it
        closed = lost.all(1, keepdim=True)
        self.log_prob = self.log_prob.masked_fill(closed & ~self.done, float("-inf"))

    def over(self) -> bool:
        """Whether nothing is left to extend."""
        return bool((self.done | (self.log_prob == float("-inf"))).all())

    def ranked(self, alpha: float, penalty: Tensor | float) -> Decoded:
        """The new tokens of each hypothesis, the best of each row first."""
        there = self.log_prob != float("-inf")
        count = self.count.where(there, torch.zeros_like(self.count))
        scores = self.log_prob / length_normaliser(count, alpha) + penalty
        scores = scores.where(there, self.log_prob)
        order = _best(scores, scores.shape[1])
        count, log_prob, scores = (x.gather(1, order) for x in (count, self.log_prob, scores))
        tokens = self.tokens.gather(1, order[..., None].expand_as(self.tokens))
        return Decoded(new_tokens(tokens, self.lengths, count, self.pad), count, log_prob, scores)


class _Coverage:
    """How much attention each hypothesis has paid to each source position so far."""

    def __init__(self, state: State, beta: float, N: int, W: int) -> None:
        self.state, self.beta, self.total, self.real = state, beta, None, None
        if beta == 0:
            return
        weights = getattr(state, "weights", None)
        if weights is None:
            raise ValueError("coverage needs the weights of attention, but this model keeps none")
        self.total = weights.new_zeros(N, W, weights.shape[-1])
        mask = getattr(state, "mask", None)
        if mask is not None:
            self.real = mask.reshape(N, W, -1)[:, :1]  # the hypotheses of a row share its source

    def follow(self, origin: Tensor, writing: Tensor) -> None:
        """Add what the step that chose the newest tokens looked at."""
        if self.total is None:
            return
        paid = self.total + self.state.weights.view_as(self.total)
        old, new = (x.gather(1, origin[..., None].expand_as(x)) for x in (self.total, paid))
        self.total = torch.where(writing[..., None], new, old)

    def penalty(self) -> Tensor | float:
        """``β Σ_i log min(Σ_t a_t,i, 1)`` of each hypothesis: 0 where all was covered."""
        if self.total is None:
            return 0.0
        floor = torch.finfo(self.total.dtype).tiny  # a hard window may leave a position at 0
        logs = self.total.clamp(floor, 1.0).log()
        if self.real is not None:
            logs = logs.masked_fill(~self.real, 0.0)
        return self.beta * logs.sum(-1)


def _best(rank: Tensor, W: int) -> Tensor:
    """Indices of the ``W`` largest of each row in order; of equals, those with lower numbers.

    ``topk`` alone may return any of several equal values, and sorting everything is slow.
    """
    rank = rank.masked_fill(rank.isnan(), float("inf"))  # NaN must show, not sink
    threshold = rank.topk(W).values[:, -1:]
    tier = (rank > threshold).long() + (rank >= threshold)  # 2 surely in, 1 on the line, 0 out
    number = torch.arange(rank.shape[1], device=rank.device)
    chosen = (tier * rank.shape[1] - number).topk(W).indices.sort().values
    order = rank.gather(1, chosen).sort(dim=1, descending=True, stable=True).indices
    return chosen.gather(1, order)
