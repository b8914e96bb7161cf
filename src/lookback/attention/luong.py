"""Luong's scores: dot, general and concat (Luong et al. 2015, section 3.1); kinds by name."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from lookback.attention.additive import AdditiveAttention
from lookback.attention.lookup import LocalAttention, Lookup

ALIGNMENTS = ("additive", "dot", "general", "concat", "local-m", "local-p")


class DotAttention(Lookup):
    """``score(h_t, h̄_s) = h_tᵀ h̄_s``: no parameters, no scale, equal widths.

    Args:
        query_width: features of a decoder state.
        memory_width: features of an encoder output; must be the same.

    Raises:
        ValueError: if the widths differ.
    """

    def __init__(self, query_width: int, memory_width: int) -> None:
        super().__init__(query_width, memory_width)
        if query_width != memory_width:
            raise ValueError(
                f"the dot score needs equal widths, got {query_width} and {memory_width}: "
                "the general score maps one to the other"
            )

    def scores(
        self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S D"]
    ) -> Float[Tensor, "B T S"]:
        """``h_tᵀ h̄_s`` of every pair, by one matrix product."""
        return query @ keys.mT


class GeneralAttention(Lookup):
    """``score(h_t, h̄_s) = h_tᵀ W_a h̄_s``: a dot product after a trained map.

    Args:
        query_width: features of a decoder state.
        memory_width: features of an encoder output.

    Raises:
        ValueError: if a width is below 1.
    """

    def __init__(self, query_width: int, memory_width: int) -> None:
        super().__init__(query_width, memory_width)
        self.key_width = query_width
        self.W_a = nn.Linear(memory_width, query_width, bias=False)

    def keys(self, memory: Float[Tensor, "B S W"]) -> Float[Tensor, "B S D"]:
        """``W_a h̄_s``, once a source."""
        return self.W_a(memory)

    def scores(
        self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S D"]
    ) -> Float[Tensor, "B T S"]:
        """``h_tᵀ (W_a h̄_s)`` of every pair, by one matrix product."""
        return query @ keys.mT


class ConcatAttention(Lookup):
    """``score(h_t, h̄_s) = v_aᵀ tanh(W_a [h_t; h̄_s])``.

    The same function as :class:`AdditiveAttention`, whose two matrices are the halves of ``W_a``.

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
        self.W_a = nn.Linear(query_width + memory_width, width, bias=False)
        self.v_a = nn.Linear(width, 1, bias=False)

    def keys(self, memory: Float[Tensor, "B S W"]) -> Float[Tensor, "B S K"]:
        """The half of ``W_a`` that reads the memory, once a source."""
        return memory @ self.W_a.weight[:, self.query_width :].mT

    def scores(
        self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S K"]
    ) -> Float[Tensor, "B T S"]:
        """``W_a [h_t; h̄_s]`` falls into two products, so no pair is ever concatenated."""
        asked = query @ self.W_a.weight[:, : self.query_width].mT
        pairs = asked[:, :, None] + keys[:, None]  # B T S K
        return self.v_a(pairs.tanh()).squeeze(-1)


def alignment(
    name: str,
    query_width: int,
    memory_width: int,
    *,
    width: int | None = None,
    window: int = 10,
    score: str = "general",
) -> Lookup:
    """The kind of attention that a name stands for.

    Args:
        name: one of ``ALIGNMENTS``.
        query_width: features of a decoder state.
        memory_width: features of an encoder output.
        width: hidden units of the additive and the concat score.
        window: reach of the local kinds, in positions to each side.
        score: the score inside the window of the local kinds.

    Raises:
        ValueError: if a name is unknown, or the widths do not suit the kind.
    """
    if name == "additive":
        return AdditiveAttention(query_width, memory_width, width=width)
    if name == "dot":
        return DotAttention(query_width, memory_width)
    if name == "general":
        return GeneralAttention(query_width, memory_width)
    if name == "concat":
        return ConcatAttention(query_width, memory_width, width=width)
    if name in ("local-m", "local-p"):
        if score.startswith("local"):
            raise ValueError(f"a window cannot hold another: score {score!r} inside {name!r}")
        inner = alignment(score, query_width, memory_width, width=width)
        return LocalAttention(inner, window=window, predictive=name == "local-p")
    raise ValueError(f"unknown attention {name!r}; choose one of {', '.join(ALIGNMENTS)}")
