"""Encoder and decoder as one model, and how it is fed while it learns."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lookback.attention.inputs import check_tokens, padding_mask
from lookback.seq2seq.decoder import Decoder, State
from lookback.seq2seq.encoder import Encoder


class Seq2Seq(nn.Module):
    """A recurrent encoder–decoder, with what attention one argument says.

    The decoder starts from the encoder's final states, layer by layer.

    Args:
        source_vocabulary: number of source tokens; None where the source is vectors.
        target_vocabulary: number of target tokens.
        input_width: width of the source vectors.
        embedding: features of a token.
        hidden: features of a state, on both sides; the width of the bottleneck.
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        layers: recurrences on top of one another, on both sides.
        bidirectional: whether the encoder reads both ways, each with half of ``hidden``.
        dropout: share dropped, in training.
        attention: None, ``"additive"``, ``"dot"``, ``"general"``, ``"concat"``, ``"local-m"`` or
            ``"local-p"``.
        order: see :class:`Decoder`.
        input_feeding: see :class:`Decoder`.
        context: see :class:`Decoder`.
        window: see :class:`Decoder`.
        tied: one matrix embeds source and target and is the output layer: source and target share
            one vocabulary, and ``embedding`` equals ``hidden``. See :class:`Decoder`.

    Raises:
        ValueError: naming the value that is out of range or unknown.
    """

    def __init__(
        self,
        source_vocabulary: int | None,
        target_vocabulary: int,
        *,
        input_width: int | None = None,
        embedding: int = 32,
        hidden: int = 64,
        cell: str = "gru",
        layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        attention: str | None = None,
        order: str | None = None,
        input_feeding: bool = False,
        context: str = "each",
        window: int = 10,
        tied: bool = False,
    ) -> None:
        super().__init__()
        if tied and source_vocabulary != target_vocabulary:
            raise ValueError(
                "tied embeddings need one vocabulary for source and target, got "
                f"{source_vocabulary} and {target_vocabulary}"
            )
        self.encoder = Encoder(
            source_vocabulary,
            input_width=input_width,
            embedding=embedding,
            hidden=hidden,
            cell=cell,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
        )
        self.decoder = Decoder(
            target_vocabulary,
            hidden,
            embedding=embedding,
            hidden=hidden,
            cell=cell,
            layers=layers,
            dropout=dropout,
            attention=attention,
            order=order,
            input_feeding=input_feeding,
            context=context,
            window=window,
            tied=tied,
        )
        if tied:
            self.encoder.embedding.weight = self.decoder.embedding.weight
            self.encoder.scale = self.decoder.scale

    def forward(
        self,
        source: Tensor,
        target: Int[Tensor, "B T"],
        source_lengths: Int[Tensor, " B"] | None = None,
        *,
        forcing: float = 1.0,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "B T V"], Float[Tensor, "B T S"] | None]:
        """Logits of the next target token at every position, and what each step looked at.

        Args:
            source: tokens ``(B, S)`` or vectors ``(B, S, input_width)``.
            target: the target shifted right (:func:`shift_right`): position ``t`` holds token
                ``t - 1``.
            source_lengths: real positions of each source; all of them when left out.
            forcing: chance that a step reads the target's token and not the model's own. 1 is
                teacher forcing (Williams & Zipser 1989), 0 runs free, between them lies scheduled
                sampling (Bengio et al. 2015), drawn anew for each row and step. The first token is
                always the target's.
            temperature: of the model's own token: 0 takes the likeliest, more draws from softmax
                of logits / temperature.
            generator: makes the draws repeatable; on the target's device.

        Returns:
            Logits ``(B, T, V)``, and weights ``(B, T, S)`` or None without attention.

        Raises:
            ValueError: if tokens, widths, lengths or batches do not fit, or ``forcing`` lies
                outside 0 to 1, or the temperature below 0.
        """
        if not 0 <= forcing <= 1:
            raise ValueError(f"forcing is a chance from 0 to 1, got {forcing}")
        if temperature < 0:
            raise ValueError(f"the temperature cannot be negative, got {temperature}")
        state = self._begin(source, source_lengths)
        if forcing == 1:
            return self.decoder(target, state)
        check_tokens(target, self.decoder.vocabulary)
        token, logits, weights = target[:, :1], [], []
        for t in range(target.shape[1]):
            if t > 0:
                own = _pick(logits[-1][:, -1].detach(), temperature, generator)
                chance = torch.rand(len(target), 1, generator=generator, device=target.device)
                token = torch.where(chance < forcing, target[:, t : t + 1], own)
            step, looked = self.decoder(token, state)
            logits.append(step)
            weights.append(looked)
        if self.decoder.attention is None:
            return torch.cat(logits, 1), None
        return torch.cat(logits, 1), torch.cat(weights, 1)

    @torch.no_grad()
    def begin(self, source: Tensor, source_lengths: Int[Tensor, " B"] | None = None) -> State:
        """The state before the first target token, for :mod:`lookback.decoding`.

        Args:
            source: tokens ``(B, S)`` or vectors ``(B, S, input_width)``; read once, here.
            source_lengths: real positions of each source.
        """
        return self._begin(source, source_lengths)

    @torch.no_grad()
    def step(self, tokens: Int[Tensor, "N T"], state: State) -> Float[Tensor, "N V"]:
        """Read the next target tokens of each row; logits of the one after them.

        Args:
            tokens: what follows on what ``state`` has seen.
            state: from :meth:`begin`; changed in place.
        """
        return self.decoder(tokens, state)[0][:, -1]

    def _begin(self, source: Tensor, lengths: Tensor | None) -> State:
        memory, final = self.encoder(source, lengths)
        return self.decoder.begin(memory, final, padding_mask(lengths, memory))


def shift_right(target: Int[Tensor, "B T"], bos: int) -> Int[Tensor, "B T"]:
    """What the decoder reads while it learns to write ``target``: BOS, then all but the last.

    Raises:
        ValueError: if the target has not 2 axes.
    """
    if target.ndim != 2:
        raise ValueError(f"targets need 2 axes (B, T), got {tuple(target.shape)}")
    start = target.new_full((len(target), 1), bos)
    return torch.cat([start, target], 1)[:, : target.shape[1]]


def _pick(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    return (logits / temperature).softmax(-1).multinomial(1, generator=generator)
