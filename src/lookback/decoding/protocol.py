"""What decoding asks of a model, and what it gives back.

A model that writes has two methods, whatever it is made of::

    state = model.begin(...)             # before the first token; arguments are the model's own
    logits = model.step(tokens, state)   # (N, T) tokens read, (N, V) logits of the next one

and its state has one, ``state.reorder(rows)``: row ``i`` goes on from what row ``rows[i]`` held.
``step`` changes the state in place, so a state serves one decoding. :class:`Seq2Seq`,
:class:`DecoderOnly` and :class:`EncoderDecoder` follow this protocol; any other object may.

A state that keeps the last step's attention as ``weights`` ``(N, S)``, and which source positions
are real as ``mask`` ``(N, 1, S)`` or None, allows a coverage penalty in beam search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@runtime_checkable
class State(Protocol):
    """What a model keeps between steps."""

    def reorder(self, rows: Tensor) -> None:
        """Row ``i`` goes on from what row ``rows[i]`` holds; their number may change."""


@runtime_checkable
class Model(Protocol):
    """Anything that writes one token after another."""

    def step(self, tokens: Tensor, state: State) -> Tensor:
        """Read the next tokens ``(N, T)``; logits ``(N, V)`` of the one after them."""


@dataclass(frozen=True)
class Decoded:
    """What was written.

    Attributes:
        tokens: new tokens without the prefix, ``(N, L)``; from beam search ``(N, W, L)``, the best
            hypothesis first. The end token is kept, behind it stands padding.
        lengths: new tokens of each row, the end token counted.
        log_prob: natural logarithm of their probability under the model.
        scores: what rows were ranked by: ``log_prob``, in beam search after its penalties.
    """

    tokens: Int[Tensor, "*rows L"]
    lengths: Int[Tensor, "*rows"]
    log_prob: Float[Tensor, "*rows"]
    scores: Float[Tensor, "*rows"]

    def lists(self) -> list:
        """The tokens as plain lists, without padding; nested as the rows are."""
        if self.tokens.ndim == 3:
            return [
                [row[:n] for row, n in zip(rows, lengths, strict=True)]
                for rows, lengths in zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)
            ]
        return [row[:n] for row, n in zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)]


def check(model: Model, prefix: Tensor, lengths: Tensor | None, steps: int) -> Int[Tensor, " N"]:
    """Refuse what cannot be decoded; the length of each row's prefix.

    Raises:
        ValueError: if the model is in training mode, the prefix is no batch of tokens, a length
            lies outside it, or ``steps`` is below 1.
    """
    if isinstance(model, nn.Module) and model.training:
        raise ValueError("the model is in training mode, where dropout acts: call model.eval()")
    if steps < 1:
        raise ValueError(f"decoding needs at least 1 step, got {steps}")
    if prefix.is_floating_point() or prefix.dtype == torch.bool:
        raise ValueError(f"the prefix must hold integers, got {prefix.dtype}")
    if prefix.ndim != 2 or prefix.shape[0] < 1 or prefix.shape[1] < 1:
        shape = tuple(prefix.shape)
        raise ValueError(f"the prefix needs shape (N, P), at least 1 by 1, got {shape}")
    N, P = prefix.shape
    if lengths is None:
        return torch.full((N,), P, device=prefix.device)
    if lengths.is_floating_point() or lengths.dtype == torch.bool or lengths.shape != (N,):
        raise ValueError(
            f"{N} prefixes need {N} whole lengths, got {lengths.dtype} of {tuple(lengths.shape)}"
        )
    if not 1 <= int(lengths.min()) <= int(lengths.max()) <= P:
        found = f"{int(lengths.min())} to {int(lengths.max())}"
        raise ValueError(f"prefix lengths must lie in 1 to {P}, but run from {found}")
    return lengths.long()  # counts and places are computed in the dtype of lengths


def check_known(V: int, **tokens: int | None) -> None:
    """Refuse a special token that is none of the ``V`` tokens of the vocabulary.

    Raises:
        ValueError: naming the token.
    """
    for name, token in tokens.items():
        if token is not None and not 0 <= token < V:
            raise ValueError(f"{name} {token} must be a token of the {V} that the model knows")


def new_tokens(tokens: Tensor, start: Tensor, count: Tensor, pad: int) -> Tensor:
    """Cut the prefix off: row by row ``tokens[start : start + count]``, then padding."""
    L = int(count.max()) if count.numel() else 0
    place = torch.arange(L, device=tokens.device)
    index = (start[..., None] + place).clamp(max=tokens.shape[-1] - 1)  # … L
    index = index.expand(*count.shape, L)
    return tokens.gather(-1, index).masked_fill(place >= count[..., None], pad)
