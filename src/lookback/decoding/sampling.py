"""One token after another: the likeliest, or drawn at random."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lookback.decoding.protocol import Decoded, Model, State, check, check_known, new_tokens


@torch.no_grad()
def greedy(
    model: Model,
    state: State,
    prefix: Int[Tensor, "N P"],
    *,
    steps: int,
    eos: int | None = None,
    pad: int = 0,
    lengths: Int[Tensor, " N"] | None = None,
) -> Decoded:
    """The likeliest token, again and again; of equals, the one with the lower number.

    Args:
        model: see :mod:`lookback.decoding.protocol`.
        state: from ``model.begin``; used up.
        prefix: what each row starts from: BOS, or a prompt.
        steps: new tokens at most.
        eos: the token that ends a row; None where none does.
        pad: written behind the end.
        lengths: real tokens of each prefix, where they differ; padding stands at the end.

    Returns:
        The new tokens, their number and their log-probability.

    Raises:
        ValueError: if the model is in training mode, or an argument does not fit.
    """
    return _generate(
        model, state, prefix, lambda logits: logits.argmax(-1), steps, eos, pad, lengths
    )


@torch.no_grad()
def sample(
    model: Model,
    state: State,
    prefix: Int[Tensor, "N P"],
    *,
    steps: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    eos: int | None = None,
    pad: int = 0,
    lengths: Int[Tensor, " N"] | None = None,
) -> Decoded:
    """Draw each token from :func:`distribution`.

    Args:
        model: see :mod:`lookback.decoding.protocol`.
        state: from ``model.begin``; used up.
        prefix: what each row starts from: BOS, or a prompt.
        steps: new tokens at most.
        temperature: see :func:`distribution`.
        top_k: see :func:`distribution`.
        top_p: see :func:`distribution`.
        generator: makes the draws repeatable for a given batch; on the prefix's device.
        eos: the token that ends a row; None where none does.
        pad: written behind the end.
        lengths: real tokens of each prefix, where they differ; padding stands at the end.

    Returns:
        The new tokens, their number, and their log-probability under the model as it is, before
        temperature and cuts.

    Raises:
        ValueError: if the model is in training mode, or an argument does not fit.
    """

    def draw(logits: Tensor) -> Tensor:
        p = distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        return p.multinomial(1, generator=generator).squeeze(-1)

    return _generate(model, state, prefix, draw, steps, eos, pad, lengths)


def distribution(
    logits: Float[Tensor, "*batch V"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "*batch V"]:
    """What is drawn from: temperature, then top-k, then top-p, and what is left made to sum to 1.

    Args:
        logits: of the next token.
        temperature: divides the logits; 0 leaves the likeliest token alone.
        top_k: keep this many of the likeliest tokens (Fan et al. 2018).
        top_p: keep the smallest set of the likeliest tokens that holds at least this much
            probability (Holtzman et al. 2020): the token that crosses the line is kept, so however
            small ``top_p``, one token stays.

    Returns:
        Probabilities, in float32 at least; 0 for tokens that were cut. Of equally likely tokens,
        those with lower numbers stay.

    Raises:
        ValueError: if the logits are not floating point, the temperature is negative, ``top_k``
            below 1, or ``top_p`` outside ``(0, 1]``.
    """
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating point, got {logits.dtype}")
    if logits.ndim < 1 or logits.shape[-1] < 1:
        raise ValueError(f"logits need at least 1 token to choose, got {tuple(logits.shape)}")
    if temperature < 0:
        raise ValueError(f"the temperature cannot be negative, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must keep at least 1 token, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature == 0:
        top_k, temperature = 1, 1.0
    if top_p == 1:
        top_p = None  # all of them: a sum that rounds must not cut any
    # the likeliest at 0, so that no temperature, however small, makes it infinite
    logits = logits - logits.amax(-1, keepdim=True)
    logits = logits / max(temperature, torch.finfo(logits.dtype).tiny)
    if top_k is None and top_p is None:
        return logits.softmax(-1)
    ranked, order = logits.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ranked = ranked.masked_fill(_rank(ranked) >= top_k, float("-inf"))
    p = ranked.softmax(-1)
    if top_p is not None:
        before = p.cumsum(-1) - p  # probability of all that is likelier
        # the first rank always stays: rounding must not cut it
        p = p.masked_fill((before >= top_p) & (_rank(p) > 0), 0.0)
        p = p / p.sum(-1, keepdim=True)
    return torch.zeros_like(p).scatter(-1, order, p)


def _rank(x: Tensor) -> Tensor:
    return torch.arange(x.shape[-1], device=x.device)


def _generate(
    model: Model,
    state: State,
    prefix: Tensor,
    choose: Callable[[Tensor], Tensor],
    steps: int,
    eos: int | None,
    pad: int,
    lengths: Tensor | None,
) -> Decoded:
    lengths = check(model, prefix, lengths, steps)
    N, P = prefix.shape
    # Rows read their shared stretch at once; then the longer prefixes are dictated while the
    # shorter ones already write, so that no row ever holds padding and positions agree.
    start = int(lengths.min())
    logits = model.step(prefix[:, :start], state)
    check_known(logits.shape[-1], eos=eos, pad=pad)
    tokens = torch.cat([prefix, prefix.new_full((N, steps), pad)], 1)
    count, done = torch.zeros_like(lengths), torch.zeros_like(lengths, dtype=torch.bool)
    log_prob = logits.new_zeros(N, dtype=torch.promote_types(logits.dtype, torch.float32))
    for t in range(start, P + steps):
        dictated = t < lengths
        token = torch.where(dictated, tokens[:, t], choose(logits))
        token = token.masked_fill(done, pad)
        writing = ~dictated & ~done
        gain = logits.to(log_prob.dtype).log_softmax(-1).gather(-1, token[:, None]).squeeze(-1)
        log_prob = log_prob + gain.where(writing, torch.zeros_like(gain))
        tokens[:, t] = token
        count = count + writing
        done = done | (writing & (token == eos if eos is not None else False)) | (count == steps)
        if bool(done.all()):
            break
        logits = model.step(token[:, None], state)
    return Decoded(new_tokens(tokens, lengths, count, pad), count, log_prob, log_prob)
