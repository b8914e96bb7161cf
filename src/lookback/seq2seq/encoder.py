"""The encoder: a recurrence over the source, one state a position and one for the whole."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lookback.attention.inputs import check_tokens, check_vectors, padding_mask

CELLS = ("rnn", "gru", "lstm")


class Encoder(nn.Module):
    """A recurrent encoder (Sutskever et al. 2014), one- or two-way (Bahdanau et al. 2015, 3.2).

    The recurrence is torch.nn's, which equals :mod:`lookback.recurrent` and is faster. Two-way,
    each direction has half of ``hidden``, so that widths do not depend on the choice. Padding is
    packed away: the final state is that of each sequence's own last position.

    Args:
        vocabulary: number of tokens; None where the input is vectors.
        input_width: width of the input vectors where there is no vocabulary.
        embedding: features of a token.
        hidden: features of a state, both directions joined.
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        layers: recurrences on top of one another.
        bidirectional: whether a second recurrence reads from the end.
        dropout: share dropped of embeddings and between layers, in training.

    Raises:
        ValueError: naming the value that is out of range or unknown.
    """

    def __init__(
        self,
        vocabulary: int | None,
        *,
        input_width: int | None = None,
        embedding: int = 32,
        hidden: int = 64,
        cell: str = "gru",
        layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if (vocabulary is None) == (input_width is None):
            raise ValueError(
                "the source is either tokens (vocabulary) or vectors (input_width), got "
                f"{vocabulary} and {input_width}"
            )
        if vocabulary is not None:
            check_sizes("source", vocabulary, embedding)
        directions = 2 if bidirectional else 1
        if hidden % directions:
            raise ValueError(f"{hidden} features do not divide between {directions} directions")
        self.vocabulary, self.input_width, self.dropout = vocabulary, input_width, dropout
        self.embedding = None if vocabulary is None else nn.Embedding(vocabulary, embedding)
        self.scale = 1.0  # on embeddings; another where a decoder's are shared
        width = input_width if vocabulary is None else embedding
        self.rnn = make_rnn(cell, width, hidden // directions, layers, dropout, bidirectional)

    def forward(
        self, source: Tensor, lengths: Int[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B S W"], tuple[Float[Tensor, "L B W"], ...]]:
        """Read the source.

        Args:
            source: tokens ``(B, S)`` or vectors ``(B, S, input_width)``.
            lengths: real positions of each source, at least 1; all of them when left out.

        Returns:
            One state a position, zeros on padding, and the final states: ``(h,)``, or ``(h, c)``
            for an LSTM, with one row a layer and both directions side by side.

        Raises:
            ValueError: if the source or its lengths do not fit.
        """
        if self.embedding is None:
            check_vectors(source, self.input_width)
            x = source
        else:
            check_tokens(source, self.vocabulary)
            x = self.embedding(source) * self.scale
        padding_mask(lengths, x)  # for its errors
        x = F.dropout(x, self.dropout, self.training)
        if lengths is None or not len(x):  # torch packs no empty batch
            memory, final = self.rnn(x)
        else:
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            packed, final = self.rnn(packed)
            memory, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
        final = final if isinstance(final, tuple) else (final,)
        return memory, tuple(self._join(state) for state in final)

    def _join(self, state: Tensor) -> Tensor:
        """Both directions of each layer side by side: ``(L·2, B, W/2) -> (L, B, W)``."""
        if not self.rnn.bidirectional:
            return state
        return state.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2)  # L 2 B · -> L B 2 · -> L B W


def check_sizes(side: str, vocabulary: int, embedding: int) -> None:
    """Refuse an embedding without tokens or features.

    Raises:
        ValueError: naming both numbers.
    """
    if min(vocabulary, embedding) < 1:
        raise ValueError(
            f"the {side} needs at least 1 token of at least 1 feature, got {vocabulary} and "
            f"{embedding}"
        )


def make_rnn(
    cell: str, width: int, hidden: int, layers: int, dropout: float, bidirectional: bool = False
) -> nn.RNNBase:
    """torch's recurrence of that name.

    Raises:
        ValueError: naming the value that is out of range or unknown.
    """
    kinds = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    if cell not in kinds:
        raise ValueError(f"unknown cell {cell!r}; choose one of {', '.join(CELLS)}")
    if min(width, hidden, layers) < 1:
        raise ValueError(
            f"widths and layers must be at least 1, got width {width}, hidden {hidden} and "
            f"{layers} layers"
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
    between = dropout if layers > 1 else 0.0  # torch warns where there is no layer to drop between
    return kinds[cell](
        width, hidden, layers, dropout=between, bidirectional=bidirectional, batch_first=True
    )
