"""Additive attention: a small network scores each pair (Bahdanau et al. 2015, appendix A.1.2)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from lookback.attention.lookup import Lookup


class AdditiveAttention(Lookup):
    """Bahdanau's score, ``e_ij = v_aᵀ tanh(W_a s_{i-1} + U_a h_j)``.

    The sum inside tanh exists for every pair, so the scores cost ``B · T · S · width`` numbers of
    memory, where a dot product needs ``B · T · S``.

    Args:
        query_width: features of a decoder state.
        memory_width: features of an encoder output.
        width: hidden units of the score; ``query_width`` when left out.

    Raises:
        ValueError: if a width is below 1.
    """

    def __init__(self, query_width: int, memory_width: int, *, width: int | None = None) -> None:
        super().__init__(query_width, memory_width)
        width = query_width if width is None else width
        if width < 1:
            raise ValueError(f"the score needs at least 1 hidden unit, got {width}")
        self.key_width = width
        self.W_a = nn.Linear(query_width, width, bias=False)
        self.U_a = nn.Linear(memory_width, width, bias=False)
        self.v_a = nn.Linear(width, 1, bias=False)

    def keys(self, memory: Float[Tensor, "B S W"]) -> Float[Tensor, "B S K"]:
        """``U_a h_j``: independent of the decoder, so computed once a source."""
        return self.U_a(memory)

    def scores(
        self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S K"]
    ) -> Float[Tensor, "B T S"]:
        """``v_aᵀ tanh(W_a s + U_a h)`` of every pair."""
        pairs = self.W_a(query)[:, :, None] + keys[:, None]  # B T S K
        return self.v_a(pairs.tanh()).squeeze(-1)
