"""Three families over the same block: encoder-only, decoder-only, encoder–decoder."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lookback.attention.inputs import padding_mask
from lookback.transformer.config import Config
from lookback.transformer.stack import Embedding, Stack, State

POOLS = ("none", "mean", "first")


class EncoderOnly(nn.Module):
    """Every token sees both sides, as in BERT (Devlin et al. 2019): for tags, classes, regression.

    Args:
        config: a vocabulary, or an ``input_width`` where the input is vectors.
        classes: outputs of the head; the vocabulary when left out.
        pool: one output a position (``"none"``), of their mean (``"mean"``; padding left out) or
            of the first (``"first"``).

    Raises:
        ValueError: if the pool is unknown, or there are neither classes nor a vocabulary.
    """

    def __init__(self, config: Config, *, classes: int | None = None, pool: str = "none") -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"unknown pool {pool!r}; choose one of {', '.join(POOLS)}")
        self.config, self.pool = config, pool
        self.embedding = Embedding(config, config.vocabulary)
        self.encoder = Stack(config)
        self.head = _head(config, config.vocabulary if classes is None else classes)
        if config.tied:
            _tie(self.head, self.embedding)

    def forward(self, x: Tensor, lengths: Int[Tensor, " B"] | None = None) -> Tensor:
        """Logits of every position, ``(B, T, classes)``, or of the sequence, ``(B, classes)``.

        Args:
            x: tokens ``(B, T)`` or vectors ``(B, T, input_width)``.
            lengths: real positions of each sequence, at least 1; all of them when left out.

        Raises:
            ValueError: if the input or its lengths do not fit.
        """
        y = self.embedding(x)
        mask = padding_mask(lengths, y)
        y = self.encoder(y, mask)
        if self.pool == "first":
            y = y[:, 0]
        elif self.pool == "mean" and mask is None:
            y = y.mean(1)
        elif self.pool == "mean":
            kept = mask.mT.to(y.dtype)  # B T 1
            y = (y * kept).sum(1) / kept.sum(1)
        return self.head(y)

    def maps(self, x: Tensor, lengths: Int[Tensor, " B"] | None = None) -> list[Tensor]:
        """The weights of attention, ``(B, H, T, T)``, block by block."""
        y = self.embedding(x)
        return [own for own, _ in self.encoder.maps(y, padding_mask(lengths, y))]


class DecoderOnly(nn.Module):
    """Every token sees the past alone, as in GPT (Radford et al. 2018): a language model.

    Padding at the end needs no mask: no real token looks that far ahead.

    Args:
        config: needs a vocabulary.

    Raises:
        ValueError: if there is no vocabulary.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.vocabulary is None:
            raise ValueError("a decoder writes tokens: give the config a vocabulary")
        self.config = config
        self.embedding = Embedding(config, config.vocabulary)
        self.decoder = Stack(config, causal=True)
        self.head = _head(config, config.vocabulary)
        if config.tied:
            _tie(self.head, self.embedding)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Logits of the next token at every position.

        Raises:
            ValueError: if the tokens do not fit.
        """
        return self.head(self.decoder(self.embedding(tokens)))

    def maps(self, tokens: Int[Tensor, "B T"]) -> list[Tensor]:
        """The weights of attention, ``(B, H, T, T)``, block by block."""
        return [own for own, _ in self.decoder.maps(self.embedding(tokens))]

    def begin(self, *, capacity: int | None = None) -> State:
        """The state before the first token, for :mod:`lookback.decoding`.

        Args:
            capacity: tokens that the cache is to hold; ``config.max_length`` when left out.
        """
        return self.decoder.begin(self.config.max_length if capacity is None else capacity)

    @torch.no_grad()
    def read(self, tokens: Int[Tensor, "N T"], state: State) -> Float[Tensor, "N T V"]:
        """Read the next tokens of each row; logits of the one after each of them.

        Args:
            tokens: what follows on what ``state`` has seen.
            state: from :meth:`begin`; changed in place.
        """
        return self.head(self.decoder(self.embedding(tokens, offset=state.length), state=state))

    @torch.no_grad()
    def step(self, tokens: Int[Tensor, "N T"], state: State) -> Float[Tensor, "N V"]:
        """Read the next tokens of each row; logits of the one after them.

        Args:
            tokens: what follows on what ``state`` has seen.
            state: from :meth:`begin`; changed in place.
        """
        y = self.decoder(self.embedding(tokens, offset=state.length), state=state)
        return self.head(y[:, -1])


class EncoderDecoder(nn.Module):
    """An encoder reads the source, a decoder writes the target and looks at both (Vaswani et al.
    2017): translation.

    With ``tied``, the output layer shares the target's embedding; without a target vocabulary of
    its own, the source shares it as well (section 3.4).

    Args:
        config: a vocabulary for both sides, or one for each, or ``input_width`` for a source of
            vectors and ``target_vocabulary``.

    Raises:
        ValueError: if a side has no vocabulary.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        V = config.vocabulary if config.target_vocabulary is None else config.target_vocabulary
        if V is None:
            raise ValueError("a decoder writes tokens: give the config a target_vocabulary")
        self.config = config
        self.source_embedding = Embedding(config, config.vocabulary)
        self.target_embedding = Embedding(config, V)
        self.encoder = Stack(config)
        self.decoder = Stack(config, causal=True, cross=True)
        self.head = _head(config, V)
        if config.tied:
            _tie(self.head, self.target_embedding)
            if config.target_vocabulary is None:
                self.source_embedding.tokens.weight = self.target_embedding.tokens.weight

    def forward(
        self,
        source: Tensor,
        target: Int[Tensor, "B T"],
        source_lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits of the next target token at every position.

        Args:
            source: tokens ``(B, S)`` or vectors ``(B, S, input_width)``.
            target: the target shifted right, so that position ``t`` holds token ``t - 1``.
            source_lengths: real positions of each source; all of them when left out.

        Raises:
            ValueError: if tokens, widths, lengths or batches do not fit.
        """
        memory, mask = self.encode(source, source_lengths)
        self._check_batch(memory, target)
        y = self.target_embedding(target)
        return self.head(self.decoder(y, source=memory, source_mask=mask))

    def encode(
        self, source: Tensor, lengths: Int[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B S D"], Bool[Tensor, "B 1 S"] | None]:
        """What the decoder reads, and which of it is real."""
        y = self.source_embedding(source)
        mask = padding_mask(lengths, y)
        return self.encoder(y, mask), mask

    def maps(
        self,
        source: Tensor,
        target: Int[Tensor, "B T"],
        source_lengths: Int[Tensor, " B"] | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """The decoder's weights of self- and of cross-attention, block by block."""
        memory, mask = self.encode(source, source_lengths)
        self._check_batch(memory, target)
        y = self.target_embedding(target)
        return self.decoder.maps(y, source=memory, source_mask=mask)

    @torch.no_grad()
    def begin(
        self,
        source: Tensor,
        source_lengths: Int[Tensor, " B"] | None = None,
        *,
        capacity: int | None = None,
    ) -> State:
        """The state before the first target token, for :mod:`lookback.decoding`.

        Args:
            source: tokens ``(B, S)`` or vectors ``(B, S, input_width)``; read once, here.
            source_lengths: real positions of each source.
            capacity: tokens that the cache is to hold; ``config.max_length`` when left out.
        """
        memory, mask = self.encode(source, source_lengths)
        capacity = self.config.max_length if capacity is None else capacity
        return self.decoder.begin(capacity, memory, mask)

    @torch.no_grad()
    def step(self, tokens: Int[Tensor, "N T"], state: State) -> Float[Tensor, "N V"]:
        """Read the next target tokens of each row; logits of the one after them.

        Args:
            tokens: what follows on what ``state`` has seen.
            state: from :meth:`begin`; changed in place.
        """
        y = self.decoder(self.target_embedding(tokens, offset=state.length), state=state)
        return self.head(y[:, -1])

    @staticmethod
    def _check_batch(memory: Tensor, target: Tensor) -> None:
        if len(memory) != len(target):
            raise ValueError(f"there are {len(memory)} sources but {len(target)} targets")


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in a model; those that two layers share are counted once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _head(config: Config, classes: int | None) -> nn.Linear:
    if classes is None or classes < 1:
        raise ValueError(f"the head needs at least 1 class, got {classes}")
    return nn.Linear(config.D, classes, bias=False)


def _tie(head: nn.Linear, embedding: Embedding) -> None:
    if head.out_features != embedding.vocabulary:
        raise ValueError(
            f"a head of {head.out_features} outputs cannot be tied to a vocabulary of "
            f"{embedding.vocabulary}"
        )
    head.weight = embedding.tokens.weight
