"""Beam search: the best few hypotheses, side by side."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lookback.decoding.protocol import Decoded, Model, State, check, new_tokens


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
    N, P, W = *prefix.shape, width
    start, device = int(lengths.min()), prefix.device
    logits = model.step(prefix[:, :start], state)
    V = logits.shape[-1]
    if not 0 <= eos < V or not 0 <= pad < V:
        raise ValueError(f"eos {eos} and pad {pad} must be tokens of the {V} that the model knows")
    first = torch.arange(N, device=device).repeat_interleave(W)
    state.reorder(first)
    logits = logits[first]  # N·W V
    padding = prefix.new_full((N, steps), pad)
    tokens = torch.cat([prefix, padding], 1)[:, None].repeat(1, W, 1)  # N W P+steps
    # one hypothesis a row to begin with; a slot without one has log-probability -inf
    log_prob = logits.new_full((N, W), float("-inf"), dtype=_at_least_float32(logits))
    log_prob[:, 0] = 0.0
    count = torch.zeros(N, W, dtype=torch.int64, device=device)
    done = torch.zeros(N, W, dtype=torch.bool, device=device)
    cover = _Coverage(state, coverage_penalty, N, W)

    for t in range(start, P + steps):
        dictated = (t < lengths)[:, None].expand(N, W)
        gain = logits.to(log_prob.dtype).log_softmax(-1).view(N, W, V)
        only = torch.where(dictated, tokens[:, :, t], pad)  # the one way on, where there is one
        one_way = torch.full_like(gain, float("-inf")).scatter(-1, only[..., None], 0.0)
        gain = torch.where((dictated | done)[..., None], one_way, gain)
        total = (log_prob[..., None] + gain).flatten(1)  # N W·V
        # a finished hypothesis goes before all others, so that it keeps a slot
        kept = done[..., None] & (one_way == 0)
        best = _best(total.masked_fill(kept.flatten(1), float("inf")), W)
        origin, token = best // V, best % V

        log_prob = total.gather(1, best)
        tokens = tokens.gather(1, origin[..., None].expand_as(tokens))
        tokens[:, :, t] = token
        count, done = count.gather(1, origin), done.gather(1, origin)
        writing = ~done & ~dictated
        cover.follow(state, origin, writing)
        count = count + writing
        ended = writing & ((token == eos) | (count == steps))
        done = (done | ended) & (log_prob > float("-inf"))  # an empty slot is never done
        if early_stop:
            scores = log_prob / length_normaliser(count, length_penalty) + cover.penalty()
            leader = scores.masked_fill(~done, float("-inf")).amax(1, keepdim=True)
            # more tokens can only lower log P, and the longest hypothesis divides it by most
            longest = length_normaliser(torch.full_like(count, steps), length_penalty)
            lost = done | (log_prob / longest < leader) | (log_prob == float("-inf"))
            closed = lost.all(1, keepdim=True)  # one hypothesis alone must stay: its slot is taken
            log_prob = log_prob.masked_fill(closed & ~done, float("-inf"))
        if bool((done | (log_prob == float("-inf"))).all()):
            break
        rows = (torch.arange(N, device=device)[:, None] * W + origin).flatten()
        state.reorder(rows)
        logits = model.step(token.reshape(-1, 1), state)

    return _ranked(tokens, lengths, count, log_prob, length_penalty, cover.penalty(), pad)


def length_normaliser(length: Int[Tensor, "*rows"], alpha: float) -> Float[Tensor, "*rows"]:
    """What log-probabilities are divided by, ``((5 + |Y|) / 6)^α`` (Wu et al. 2016, eq. 14).

    Log-probabilities are negative, so dividing by more ranks higher: larger ``α`` favours longer
    outputs.

    Args:
        length: tokens written, the end token counted.
        alpha: 0 turns it off; the paper uses 0.6 to 0.7.
    """
    return ((5.0 + length) / 6.0) ** alpha


class _Coverage:
    """How much attention each hypothesis has paid to each source position so far."""

    def __init__(self, state: State, beta: float, N: int, W: int) -> None:
        self.beta, self.total, self.real = beta, None, None
        if beta == 0:
            return
        weights = getattr(state, "weights", None)
        if weights is None:
            raise ValueError("coverage needs the weights of attention, but this model keeps none")
        self.total = weights.new_zeros(N, W, weights.shape[-1])
        mask = getattr(state, "mask", None)
        if mask is not None:
            self.real = mask.reshape(N, W, -1)[:, :1]  # the hypotheses of a row share its source

    def follow(self, state: State, origin: Tensor, writing: Tensor) -> None:
        """Add what the step that chose the newest tokens looked at."""
        if self.total is None:
            return
        paid = self.total + state.weights.view_as(self.total)
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


def _ranked(tokens, start, count, log_prob, alpha, penalty, pad) -> Decoded:
    """Cut prefixes off and put the best hypothesis of each row first."""
    there = log_prob != float("-inf")
    count = count.where(there, torch.zeros_like(count))
    scores = (log_prob / length_normaliser(count, alpha) + penalty).where(there, log_prob)
    order = scores.masked_fill(scores.isnan(), float("inf"))
    order = order.sort(dim=1, descending=True, stable=True).indices
    count, log_prob, scores = (x.gather(1, order) for x in (count, log_prob, scores))
    tokens = tokens.gather(1, order[..., None].expand_as(tokens))
    return Decoded(new_tokens(tokens, start[:, None], count, pad), count, log_prob, scores)


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
