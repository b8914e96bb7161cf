"""Attention from its equations; import every name from here.

The definition of scaled dot-product attention is :mod:`lookback.efficient.reference`.
"""

from lookback.attention.additive import AdditiveAttention
from lookback.attention.dot_product import (
    KERNELS,
    attention_weights,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from lookback.attention.lookup import LocalAttention, Lookup
from lookback.attention.luong import (
    ALIGNMENTS,
    ConcatAttention,
    DotAttention,
    GeneralAttention,
    alignment,
)
from lookback.attention.multihead import MultiHeadAttention

__all__ = [
    "ALIGNMENTS",
    "KERNELS",
    "AdditiveAttention",
    "ConcatAttention",
    "DotAttention",
    "GeneralAttention",
    "LocalAttention",
    "Lookup",
    "MultiHeadAttention",
    "alignment",
    "attention_weights",
    "merge_heads",
    "scaled_dot_product_attention",
    "split_heads",
]
