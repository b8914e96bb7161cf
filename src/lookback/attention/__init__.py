"""Attention from its equations; import every name from here.

The definition of scaled dot-product attention is :mod:`lookback.efficient.reference`.
"""

from lookback.attention.dot_product import (
    KERNELS,
    attention_weights,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from lookback.attention.multihead import MultiHeadAttention

__all__ = [
    "KERNELS",
    "MultiHeadAttention",
    "attention_weights",
    "merge_heads",
    "scaled_dot_product_attention",
    "split_heads",
]
