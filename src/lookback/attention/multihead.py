"""Multi-head attention: several attentions side by side, each on projections of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lookback.attention.dot_product import (
    KERNELS,
    attention_weights,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from lookback.efficient import reference


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2).

        head_h = Attention(X W_q,h  Y W_k,h  Y W_v,h)
        output = [head_1; …; head_H] W_o

    Self-attention where ``source`` is left out (Y = X), cross-attention where it is given. Takes
    and gives the ``state_dict`` of :class:`torch.nn.MultiheadAttention` of the same sizes.

    Args:
        D: model width.
        H: number of heads; divides ``D``.
        source_width: width of the source in cross-attention; ``D`` when left out.
        bias: whether the four projections add a bias.
        dropout: share of the weights dropped in training.
        kernel: as in :func:`scaled_dot_product_attention`.

    Raises:
        ValueError: if ``H`` does not divide ``D``, or the kernel is unknown.
    """

    def __init__(
        self,
        D: int,
        H: int,
        *,
        source_width: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        kernel: str = "sdpa",
    ) -> None:
        super().__init__()
        if H < 1 or D % H:
            raise ValueError(f"width {D} is not divisible by {H} heads")
        if kernel not in KERNELS:
            raise ValueError(f"unknown kernel {kernel!r}; choose one of {', '.join(KERNELS)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.D, self.H, self.dropout, self.kernel = D, H, dropout, kernel
        self.source_width = D if source_width is None else source_width
        if self.source_width == D:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * D, D))  # W_q, W_k, W_v stacked
        else:
            self.q_proj_weight = nn.Parameter(torch.empty(D, D))
            self.k_proj_weight = nn.Parameter(torch.empty(D, self.source_width))
            self.v_proj_weight = nn.Parameter(torch.empty(D, self.source_width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * D)) if bias else None
        self.out_proj = nn.Linear(D, D, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights and zero biases, as torch's twin starts."""
        for name, p in self.named_parameters():
            if name.endswith("proj_weight"):
                nn.init.xavier_uniform_(p)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        source: Float[Tensor, "B S W"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "B T D"]:
        """One attention layer.

        Args:
            x: what asks; also what is asked where ``source`` is left out.
            source: what is asked, in cross-attention.
            mask: ``(T, S)``, ``(B, T, S)`` or ``(B, H, T, S)``, or broadcastable to one of these.
            causal: close every key after its query.

        Returns:
            Output of shape ``(B, T, D)``; a query with nothing to attend to gets ``out_proj``'s
            bias.

        Raises:
            ValueError: if a width or the mask does not fit.
        """
        q, k, v = self.project(x, source)
        mask = self._per_head(mask)
        if self.training and self.dropout:
            weights = reference.weights(q, k, mask, causal=causal)
            mixed = F.dropout(weights, self.dropout) @ v
        else:
            mixed = scaled_dot_product_attention(q, k, v, mask, causal=causal, kernel=self.kernel)
        return self.out_proj(merge_heads(mixed))  # B H T K -> B T D

    def weights(
        self,
        x: Float[Tensor, "B T D"],
        source: Float[Tensor, "B S W"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "B H T S"]:
        """The weights of every head, for looking at. Args, Raises: as :meth:`forward`."""
        q, k, _ = self.project(x, source)
        return attention_weights(q, k, self._per_head(mask), causal=causal)

    def project(
        self, x: Float[Tensor, "B T D"], source: Float[Tensor, "B S W"] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(B, H, T, K)``, keys and values ``(B, H, S, K)``, before attention."""
        source = x if source is None else source
        if x.ndim != 3 or source.ndim != 3:
            shapes = f"{tuple(x.shape)} and {tuple(source.shape)}"
            raise ValueError(f"input and source need 3 axes (B, T, D), got {shapes}")
        if x.shape[-1] != self.D:
            raise ValueError(f"this layer has width {self.D}, but the input {x.shape[-1]}")
        if source.shape[-1] != self.source_width:
            wide = source.shape[-1]
            raise ValueError(f"this layer's source has width {self.source_width}, got {wide}")
        if source is x and self.source_width == self.D:  # one product for all three
            q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            W_q, W_k, W_v = self._projections()
            bias = self.in_proj_bias
            b_q, b_k, b_v = (None, None, None) if bias is None else bias.chunk(3)
            q, k, v = F.linear(x, W_q, b_q), F.linear(source, W_k, b_k), F.linear(source, W_v, b_v)
        return split_heads(q, self.H), split_heads(k, self.H), split_heads(v, self.H)

    def _projections(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.source_width == self.D:
            return self.in_proj_weight.chunk(3)
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    @staticmethod
    def _per_head(mask: Tensor | None) -> Tensor | None:
        return mask.unsqueeze(1) if mask is not None and mask.ndim == 3 else mask
