"""From tokens to vectors, and a stack of blocks over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lookback.attention.inputs import check_tokens, check_vectors
from lookback.efficient.cache import Cache
from lookback.positions import LearnedPositions, alibi, sinusoidal
from lookback.transformer.block import Block, make_norm
from lookback.transformer.config import Config


class Embedding(nn.Module):
    """Tokens or vectors to width ``D``, with what the config adds for their position.

    Token vectors start with deviation ``1/√D`` and are multiplied by ``√D`` on the way in
    (Vaswani et al. 2017, section 3.4), so that the same weights suit a tied output layer.

    Args:
        config: the Transformer's.
        vocabulary: number of tokens; None where the input is vectors of ``config.input_width``.

    Raises:
        ValueError: if there is neither a vocabulary nor an input width.
    """

    def __init__(self, config: Config, vocabulary: int | None) -> None:
        super().__init__()
        if vocabulary is None and config.input_width is None:
            raise ValueError("the input needs a vocabulary (tokens) or an input_width (vectors)")
        self.config, self.vocabulary = config, vocabulary
        if vocabulary is None:
            self.vectors = nn.Linear(config.input_width, config.D, bias=config.bias)
        else:
            self.tokens = nn.Embedding(vocabulary, config.D)
            nn.init.normal_(self.tokens.weight, std=config.D**-0.5)
        learned = config.positions == "learned"
        self.positions = LearnedPositions(config.max_length, config.D) if learned else None
        if learned:
            nn.init.normal_(self.positions.weight)  # as large as the token vectors they join

    def forward(self, x: Tensor, *, offset: int = 0) -> Float[Tensor, "B T D"]:
        """Embed a sequence whose first position is ``offset``.

        Args:
            x: tokens ``(B, T)``, or vectors ``(B, T, input_width)``.
            offset: position of the first.

        Raises:
            ValueError: if the rank, dtype or width is another, the sequence is empty, a token lies
                outside the vocabulary, or learned positions end before the sequence does.
        """
        if self.vocabulary is None:
            check_vectors(x, self.config.input_width)
            y = self.vectors(x)
        else:
            check_tokens(x, self.vocabulary)
            y = self.tokens(x) * self.config.D**0.5
        if self.config.positions == "sinusoidal":
            y = y + sinusoidal(
                y.shape[1], self.config.D, offset=offset, device=y.device, dtype=y.dtype
            )
        elif self.positions is not None:
            y = y + self.positions(y, offset=offset)
        return F.dropout(y, self.config.dropout, self.training)


class Stack(nn.Module):
    """Blocks one after another, and the last norm where blocks normalise before their sublayers.

    An encoder is ``Stack(config)``, a decoder ``Stack(config, causal=True)``, with ``cross=True``
    where it reads an encoder's output. Takes and gives the ``state_dict`` of
    :class:`torch.nn.TransformerEncoder` or :class:`torch.nn.TransformerDecoder` over layers that
    match (see :class:`Block`).

    Args:
        config: the Transformer's.
        causal: close every later token in self-attention.
        cross: whether blocks read a source.
    """

    def __init__(self, config: Config, *, causal: bool = False, cross: bool = False) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.layers = nn.ModuleList(Block(config, cross=cross) for _ in range(config.layers))
        self.norm = make_norm(config) if config.pre_norm else None

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        source: Float[Tensor, "B S D"] | None = None,
        source_mask: Bool[Tensor, "..."] | None = None,
        state: State | None = None,
    ) -> Float[Tensor, "B T D"]:
        """All blocks in turn.

        Args:
            x: one vector a token.
            mask: True where self-attention may look; broadcastable to ``(B, T, T)``.
            source: what cross-attention reads.
            source_mask: True where it may look; broadcastable to ``(B, T, S)``.
            state: what earlier steps left, in place of ``source``; ``x`` continues it.
        """
        offset = 0 if state is None else state.length
        bias = self._bias(x, offset)
        for i, block in enumerate(self.layers):
            x = block(
                x,
                mask,
                causal=self.causal,
                bias=bias,
                cache=None if state is None else state.caches[i],
                source=source,
                source_mask=source_mask if state is None else state.source_mask,
                source_kv=None if state is None or state.source_kv is None else state.source_kv[i],
            )
        return x if self.norm is None else self.norm(x)

    def maps(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        source: Float[Tensor, "B S D"] | None = None,
        source_mask: Bool[Tensor, "..."] | None = None,
    ) -> list[tuple[Tensor, Tensor | None]]:
        """The weights of self- and of cross-attention, ``(B, H, T, S)``, block by block."""
        found, bias = [], self._bias(x, 0)
        given = {"causal": self.causal, "bias": bias, "source": source, "source_mask": source_mask}
        for block in self.layers:
            found.append(block.maps(x, mask, **given))
            x = block(x, mask, **given)
        return found

    def begin(
        self,
        capacity: int,
        source: Float[Tensor, "B S D"] | None = None,
        source_mask: Bool[Tensor, "..."] | None = None,
    ) -> State:
        """Empty caches for ``capacity`` tokens, and the source's keys and values for each block."""
        kv = None
        if source is not None:
            kv = [block.multihead_attn.project_source(source) for block in self.layers]
        return State([Cache(capacity) for _ in self.layers], kv, source_mask)

    def _bias(self, x: Tensor, offset: int) -> Tensor | None:
        if self.config.positions != "alibi":
            return None
        T = x.shape[1]
        S = offset + T
        return alibi(self.config.H, T, S, offset=offset, device=x.device, dtype=x.dtype)


@dataclass
class State:
    """What a decoder keeps from step to step; changed in place.

    Attributes:
        caches: keys and values of self-attention, one cache a block.
        source_kv: keys and values of the source, one pair a block; None without a source.
        source_mask: which of them are open.
    """

    caches: list[Cache]
    source_kv: list[tuple[Tensor, Tensor]] | None = None
    source_mask: Tensor | None = None

    @property
    def length(self) -> int:
        """Tokens seen so far."""
        return self.caches[0].length

    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Row ``i`` goes on from what row ``rows[i]`` holds; their number may change."""
        for cache in self.caches:
            cache.reorder(rows)
        if self.source_kv is not None:
            self.source_kv = [(k[rows], v[rows]) for k, v in self.source_kv]
        if self.source_mask is not None:
            self.source_mask = self.source_mask[rows]

    def crop(self, length: int) -> None:
        """Forget every token from position ``length`` on, as rejected guesses ask."""
        for cache in self.caches:
            cache.crop(length)
