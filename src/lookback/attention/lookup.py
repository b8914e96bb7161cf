"""Attention as a lookup by a trained score: what the recurrent decoders of 2014 and 2015 share.

A query scores every entry of a memory, softmax turns the scores of a row into weights, and the
context is the weighted sum of the entries. The kinds differ in the score alone:
:mod:`lookback.attention.additive` (Bahdanau et al. 2015), :mod:`lookback.attention.luong`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lookback import masks
from lookback.efficient import reference


class Lookup(nn.Module):
    """A score, softmax over the memory, a weighted sum. Subclasses define :meth:`scores`.

    Args:
        query_width: features of a query, here the decoder's state.
        memory_width: features of an entry of the memory, here an encoder output.

    Raises:
        ValueError: if a width is below 1.
    """

    def __init__(self, query_width: int, memory_width: int) -> None:
        super().__init__()
        if query_width < 1 or memory_width < 1:
            raise ValueError(f"widths must be at least 1, got {query_width} and {memory_width}")
        self.query_width, self.memory_width = query_width, memory_width
        self.key_width = memory_width  # of what :meth:`keys` gives back

    def keys(self, memory: Float[Tensor, "B S W"]) -> Float[Tensor, "B S K"]:
        """The part of the score that hangs on the memory alone: computed once a source."""
        return memory

    def scores(
        self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S K"]
    ) -> Float[Tensor, "B T S"]:
        """How well each entry answers each query."""
        raise NotImplementedError

    def align(
        self,
        query: Float[Tensor, "B T D"],
        scores: Float[Tensor, "B T S"],
        mask: Bool[Tensor, "..."] | None,
        offset: int,
    ) -> Float[Tensor, "B T S"]:
        """From scores to weights: softmax over the open entries."""
        return scores.softmax(-1) if mask is None else reference.masked_softmax(scores, mask)

    def forward(
        self,
        query: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S W"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        keys: Float[Tensor, "B S K"] | None = None,
        offset: int = 0,
    ) -> tuple[Float[Tensor, "B T W"], Float[Tensor, "B T S"]]:
        """Look every query up in the memory.

        Args:
            query: what asks: one decoder state a target position.
            memory: what is asked, and what comes back.
            mask: True where a query may attend; broadcastable to ``(B, T, S)``.
            keys: :meth:`keys` of this memory, where a loop over steps has them at hand.
            offset: position of the first query; only :class:`LocalAttention` reads it.

        Returns:
            The context of every query, ``(B, T, W)``, and the weights, ``(B, T, S)``. A query with
            nothing to attend to gets zeros, and sends zero gradient.

        Raises:
            ValueError: if shapes or dtypes do not fit, the memory is empty, or the mask is not
                boolean or does not broadcast.
        """
        if torch.is_autocast_enabled(query.device.type):  # packed LSTMs stay in float32
            memory = memory.to(query.dtype)
        self._check(query, memory, mask)
        keys = self.keys(memory) if keys is None else keys
        wanted = (*memory.shape[:2], self.key_width)
        if tuple(keys.shape) != wanted:
            raise ValueError(f"keys of this memory have shape {wanted}, got {tuple(keys.shape)}")
        scores = self.scores(query, keys)
        weights = self.align(query, scores, mask, offset)
        return weights @ memory, weights

    def _check(self, query: Tensor, memory: Tensor, mask: Tensor | None) -> None:
        for name, x, width in (
            ("query", query, self.query_width),
            ("memory", memory, self.memory_width),
        ):
            if not x.is_floating_point():
                raise ValueError(f"the {name} must be floating point, got {x.dtype}")
            if x.ndim != 3:
                raise ValueError(f"the {name} needs 3 axes (B, T, D), got {tuple(x.shape)}")
            if x.shape[-1] != width:
                raise ValueError(f"this lookup's {name} has width {width}, got {x.shape[-1]}")
        if query.dtype != memory.dtype:
            raise ValueError(f"the query is {query.dtype} but the memory {memory.dtype}")
        if len(query) != len(memory):
            raise ValueError(f"there are {len(query)} queries' rows but {len(memory)} memories")
        if memory.shape[1] == 0:
            raise ValueError("the memory is empty: it has 0 entries")
        if mask is not None:
            masks.check(mask, (len(query), query.shape[1], memory.shape[1]))


class LocalAttention(Lookup):
    """Attention to a window around a position ``p_t`` (Luong et al. 2015, section 3.2).

    local-m (``predictive=False``): ``p_t = t``, and the weights are the softmax over the window.

    local-p (``predictive=True``): ``p_t = S · σ(v_pᵀ tanh(W_p h_t))``, a real number, and

        a_t(s) = align(h_t, h̄_s) · exp(-(s - p_t)² / (2σ²)),    σ = D / 2,

    where align is the softmax over the window. The weights are not normalised again, so a row sums
    to 1 or less; the gradient reaches ``p_t`` through the Gaussian. ``S`` is each sentence's own
    length, read off the mask, so padding moves nothing.

    Source positions count from 0. The window holds ``|s - p_t| ≤ D``. Where ``t`` outruns the
    source by more than ``D``, local-m has an empty window, and the context is zero.

    Args:
        score: the score inside the window, such as :class:`GeneralAttention`.
        window: ``D``, the reach to each side, in positions; at least 1.
        predictive: local-p if set, local-m if not.

    Raises:
        ValueError: if the window is below 1.
    """

    def __init__(self, score: Lookup, *, window: int = 10, predictive: bool = True) -> None:
        super().__init__(score.query_width, score.memory_width)
        if window < 1:
            raise ValueError(f"the window must reach at least 1 position, got {window}")
        self.score, self.window, self.key_width = score, window, score.key_width
        width = score.query_width
        self.W_p = nn.Linear(width, width, bias=False) if predictive else None
        self.v_p = nn.Linear(width, 1, bias=False) if predictive else None

    def keys(self, memory: Float[Tensor, "B S W"]) -> Float[Tensor, "B S K"]:
        """The inner score's keys."""
        return self.score.keys(memory)

    def scores(
        self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S K"]
    ) -> Float[Tensor, "B T S"]:
        """The inner score, as yet without a window."""
        return self.score.scores(query, keys)

    def align(
        self,
        query: Float[Tensor, "B T D"],
        scores: Float[Tensor, "B T S"],
        mask: Bool[Tensor, "..."] | None,
        offset: int,
    ) -> Float[Tensor, "B T S"]:
        """Softmax over the window; local-p then fades it by distance from ``p_t``."""
        S = scores.shape[-1]
        centre = self.position(query, mask, S, offset=offset)
        distance = torch.arange(S, device=scores.device) - centre[..., None]  # B T S
        near = distance.abs() <= self.window
        weights = reference.masked_softmax(scores, near if mask is None else near & mask)
        if self.W_p is None:
            return weights
        fade = torch.exp(-2 * (distance / self.window) ** 2)  # σ = D/2, so 1/(2σ²) = 2/D²
        return weights * fade.to(weights.dtype)

    def position(
        self,
        query: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "..."] | None,
        S: int,
        *,
        offset: int = 0,
    ) -> Float[Tensor, "B T"]:
        """Where each query looks: ``p_t``, in source positions.

        Args:
            query: decoder states.
            mask: as in :meth:`forward`; the last open entry of a row sets its length.
            S: padded source length, and the length of every source where there is no mask.
            offset: position of the first query.

        Returns:
            Positions of shape ``(B, T)``, in float32 at least: bfloat16 counts to 256 only.
        """
        B, T, _ = query.shape
        dtype = torch.promote_types(query.dtype, torch.float32)
        if self.W_p is None:
            t = torch.arange(offset, offset + T, device=query.device, dtype=dtype)
            return t.expand(B, T)
        share = self.v_p(torch.tanh(self.W_p(query))).squeeze(-1).to(dtype).sigmoid()  # B T
        if mask is None:
            return S * share
        count = torch.arange(1, S + 1, device=query.device)
        length = (mask.expand(B, T, S) * count).amax(-1)  # B T: one more than the last open entry
        return length * share
