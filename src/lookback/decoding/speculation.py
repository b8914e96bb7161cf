"""Speculative decoding: a small model guesses, the large one checks many guesses at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lookback.decoding.protocol import check, check_known
from lookback.decoding.sampling import distribution
from lookback.transformer import DecoderOnly


def accept(
    guesses: Int[Tensor, " n"],
    p: Float[Tensor, "n+1 V"],
    q: Float[Tensor, "n V"],
    *,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " m"]:
    """Keep the guesses that the large model may keep, and add one token of its own.

    Guess ``x`` is kept with probability ``min(1, p(x) / q(x))``. The first one refused is replaced
    by a draw from ``max(0, p - q)``, made to sum to 1, and all after it are dropped; where all are
    kept, one more token is drawn from the last row of ``p``. Each token is then distributed
    exactly as ``p`` (Leviathan et al. 2023, algorithm 1 and appendix A.1).

    Args:
        guesses: tokens, guess ``i`` drawn from ``q[i]``.
        p: the large model's distribution at each guess, and after the last.
        q: the small model's distribution at each guess.
        generator: makes the draws repeatable; on the guesses' device.

    Returns:
        From 1 to ``n + 1`` tokens.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    n = len(guesses) if guesses.ndim == 1 else -1
    if p.ndim != 2 or q.shape != (n, p.shape[-1]) or len(p) != n + 1:
        shapes = f"{tuple(guesses.shape)}, {tuple(p.shape)} and {tuple(q.shape)}"
        raise ValueError(f"need n guesses, n + 1 rows of p and n of q, got {shapes}")
    chance = torch.rand(n, generator=generator, device=p.device)
    for i in range(n):
        x = guesses[i]
        if not chance[i] * q[i, x] < p[i, x]:  # refused; a product, for q may be 0
            rest = (p[i] - q[i]).clamp(min=0)
            return torch.cat([guesses[:i], rest.multinomial(1, generator=generator)])
    return torch.cat([guesses, p[n].multinomial(1, generator=generator)])


@dataclass(frozen=True)
class Speculation:
    """What came of it.

    Attributes:
        tokens: new tokens, the end token included.
        calls: times that the large model ran after the prefix.
        guessed: tokens that the small model guessed.
        kept: how many of them stand in ``tokens``.
    """

    tokens: Int[Tensor, " L"]
    calls: int
    guessed: int
    kept: int


@torch.no_grad()
def speculative(
    model: DecoderOnly,
    draft: DecoderOnly,
    prefix: Int[Tensor, "1 P"],
    *,
    steps: int,
    guesses: int = 4,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    eos: int | None = None,
) -> Speculation:
    """Write with ``model`` what it would write alone, in fewer calls (Leviathan et al. 2023).

    The draft guesses a few tokens one by one; the model reads all of them in one call, and
    :func:`accept` decides. What was read beyond the first refusal is cropped from both caches.

    Args:
        model: the large model, whose distribution the output follows.
        draft: the small one, of the same vocabulary.
        prefix: one prompt; rows would keep different numbers of guesses.
        steps: new tokens at most.
        guesses: tokens guessed a call; fewer where the end is nearer than that.
        temperature: see :func:`lookback.decoding.distribution`; used for both models. 0 gives the
            tokens of greedy decoding, whatever the draft.
        top_k: see :func:`lookback.decoding.distribution`.
        top_p: see :func:`lookback.decoding.distribution`.
        generator: makes the draws repeatable.
        eos: the token that ends the text; None where none does.

    Returns:
        The tokens, and the counts that the speed-up follows from.

    Raises:
        ValueError: if a model is in training mode, the vocabularies differ, there is more than one
            prompt, or a number is out of range.
    """
    check(model, prefix, None, steps)
    check(draft, prefix, None, steps)
    if model.config.vocabulary != draft.config.vocabulary:
        sizes = f"{draft.config.vocabulary} and {model.config.vocabulary}"
        raise ValueError(f"draft and model need one vocabulary, got {sizes} tokens")
    if len(prefix) != 1:
        raise ValueError(f"speculation takes one prompt at a time, got {len(prefix)}")
    if guesses < 1:
        raise ValueError(f"the draft must guess at least 1 token, got {guesses}")
    check_known(model.config.vocabulary, eos=eos)

    def soften(logits: Tensor) -> Tensor:
        return distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)

    text = prefix[0]
    end, P = len(text) + steps, len(text)
    state, draft_state = (m.begin(capacity=end) for m in (model, draft))
    calls = guessed = kept = 0
    while len(text) < end and (eos is None or len(text) == P or int(text[-1]) != eos):
        known, q = len(text), []
        n = min(guesses, end - known - 1)  # the last token is the large model's own
        for _ in range(n):  # each reads all that the draft has not read yet
            q.append(soften(draft.step(text[None, draft_state.length :], draft_state)))
            text = torch.cat([text, q[-1][0].multinomial(1, generator=generator)])
        p = soften(model.read(text[None, state.length :], state)[0, -n - 1 :])
        new = accept(text[known:], p, torch.cat([p[:0], *q]), generator=generator)
        right = len(new) - 1
        if eos is not None and (new == eos).any():
            new = new[: int((new == eos).nonzero()[0]) + 1]
        calls, guessed, kept = calls + 1, guessed + n, kept + min(right, len(new))
        text = torch.cat([text[:known], new])
        # the newest token is never read yet: it comes first in the next call
        state.crop(min(state.length, len(text) - 1))
        draft_state.crop(min(draft_state.length, len(text) - 1))
    return Speculation(text[P:], calls, guessed, kept)
