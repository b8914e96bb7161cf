"""Multi-head attention: several attentions side by side, each on projections of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lookback.attention.dot_product import (
    Kernel,
    attention_weights,
    check_kernel,
    checked_bias,
    merge_heads,
    scaled_dot_product_attention,
    shared_sdpa,
    split_heads,
)
from lookback.efficient.cache import Cache, SlidingCache
from lookback.efficient.grouped import repeat_heads


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2).

        head_h = Attention(X W_q,h  Y W_k,h  Y W_v,h)
        output = [head_1; …; head_H] W_o

    Self-attention where ``source`` is left out (Y = X), cross-attention where it is given. Takes
    and gives the ``state_dict`` of :class:`torch.nn.MultiheadAttention` of the same sizes; with
    fewer key-value heads or normalised queries and keys there is no such twin.

    Args:
        D: model width.
        H: number of heads; divides ``D``.
        source_width: width of the source in cross-attention; ``D`` when left out.
        kv_heads: heads of keys and values, each shared by ``H / kv_heads`` neighbouring query heads
            (Ainslie et al. 2023); ``H`` when left out, ``1`` is multi-query attention.
        bias: whether the four projections add a bias.
        dropout: share of the weights dropped in training.
        qk_norm: whether queries and keys are RMS-normalised, head by head (Henry et al. 2020).
        rotary: turns queries and keys by position in self-attention, as
            :class:`lookback.positions.Rotary` does; called with a tensor and its first position.
        kernel: as in :func:`scaled_dot_product_attention`.

    Raises:
        ValueError: if a width is below 1, ``H`` does not divide ``D`` or ``kv_heads`` not ``H``,
            the dropout is out of range, or the kernel is unknown.
    """

    def __init__(
        self,
        D: int,
        H: int,
        *,
        source_width: int | None = None,
        kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        qk_norm: bool = False,
        rotary: Callable[[Tensor, int], Tensor] | None = None,
        kernel: Kernel = "sdpa",
    ) -> None:
        super().__init__()
        kv_heads = H if kv_heads is None else kv_heads
        source_width = D if source_width is None else source_width
        if min(D, source_width) < 1:
            raise ValueError(f"widths must be at least 1, got {D} and {source_width}")
        if H < 1 or D % H:
            raise ValueError(f"width {D} is not divisible by {H} heads")
        if kv_heads < 1 or H % kv_heads:
            raise ValueError(f"{H} heads cannot share {kv_heads} heads of keys and values evenly")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        check_kernel(kernel)
        self.D, self.H, self.kv_heads, self.dropout = D, H, kv_heads, dropout
        self.rotary, self.kernel = rotary, kernel
        self.source_width = source_width
        self.kv_width = kv_heads * (D // H)
        if self.source_width == D and kv_heads == H:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * D, D))  # W_q, W_k, W_v stacked
        else:
            self.q_proj_weight = nn.Parameter(torch.empty(D, D))
            self.k_proj_weight = nn.Parameter(torch.empty(self.kv_width, self.source_width))
            self.v_proj_weight = nn.Parameter(torch.empty(self.kv_width, self.source_width))
        self.in_proj_bias = nn.Parameter(torch.empty(D + 2 * self.kv_width)) if bias else None
        self.q_norm = nn.RMSNorm(D // H, eps=1e-6) if qk_norm else None
        self.k_norm = nn.RMSNorm(D // H, eps=1e-6) if qk_norm else None
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
        bias: Float[Tensor, "..."] | None = None,
        cache: Cache | SlidingCache | None = None,
        kv: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """One attention layer.

        Args:
            x: what asks; also what is asked where ``source`` is left out.
            source: what is asked, in cross-attention.
            mask: ``(T, S)``, ``(B, T, S)`` or ``(B, H, T, S)``, or broadcastable to one of these.
            causal: close every key after its query.
            bias: added to the scores, broadcastable to ``(B, H, T, S)``.
            cache: keys and values of earlier positions, in self-attention. ``x`` continues them and
                is appended to them; ``S`` counts what the cache gives back.
            kv: :meth:`project_source` of a source, where a loop over steps has it at hand.

        Returns:
            Output of shape ``(B, T, D)``; a query with nothing to attend to gets ``out_proj``'s
            bias.

        Raises:
            ValueError: if a width, the mask or the bias does not fit, or more than one of
                ``source``, ``cache`` and ``kv`` is given. The cache is then as it was.
        """
        mask = self._per_head(mask)
        q, k, v = self._inputs(x, source, cache, kv)
        if cache is not None:
            k, v, mask = self._extend(cache, q, k, v, mask, causal, bias)
            causal = False  # the mask says which keys of the cache lie in each query's past
        dropped = self.training and self.dropout
        if self.kernel == "sdpa" and self.kv_heads < self.H and not dropped:
            mixed = shared_sdpa(q, k, v, mask, causal=causal, bias=bias)
            return self.out_proj(merge_heads(mixed))
        k, v = self._for_each_query_head(k), self._for_each_query_head(v)
        if dropped:
            weights = attention_weights(q, k, mask, causal=causal, bias=bias)
            mixed = F.dropout(weights, self.dropout) @ v
        else:
            mixed = scaled_dot_product_attention(
                q, k, v, mask, causal=causal, bias=bias, kernel=self.kernel
            )
        return self.out_proj(merge_heads(mixed))  # B H T K -> B T D

    def weights(
        self,
        x: Float[Tensor, "B T D"],
        source: Float[Tensor, "B S W"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        *,
        causal: bool = False,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "B H T S"]:
        """The weights of every head, for looking at. Args, Raises: as :meth:`forward`."""
        q, k, _ = self._inputs(x, source, None, None)
        k = self._for_each_query_head(k)
        return attention_weights(q, k, self._per_head(mask), causal=causal, bias=bias)

    def project(
        self, x: Float[Tensor, "B T D"], source: Float[Tensor, "B S W"] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(B, H, T, K)``, keys and values ``(B, kv_heads, S, K)``, before attention."""
        self._check("input", x, self.D)
        if source is None or source is x:
            self._check("source", x, self.source_width)
            if hasattr(self, "in_proj_weight"):  # one product for all three
                q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
                return self._heads(q, self.q_norm), self._heads(k, self.k_norm), self._heads(v)
            source = x
        W_q, _, _ = self._projections()
        q = F.linear(x, W_q, self._biases()[0])
        return self._heads(q, self.q_norm), *self.project_source(source)

    def project_source(self, source: Float[Tensor, "B S W"]) -> tuple[Tensor, Tensor]:
        """Keys and values ``(B, kv_heads, S, K)`` of a source: the same for every query."""
        self._check("source", source, self.source_width)
        if hasattr(self, "in_proj_weight"):  # one product for both
            bias = None if self.in_proj_bias is None else self.in_proj_bias[self.D :]
            k, v = F.linear(source, self.in_proj_weight[self.D :], bias).chunk(2, -1)
        else:
            _, W_k, W_v = self._projections()
            _, b_k, b_v = self._biases()
            k, v = F.linear(source, W_k, b_k), F.linear(source, W_v, b_v)
        return self._heads(k, self.k_norm), self._heads(v)

    def _inputs(self, x, source, cache, kv) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (``H`` heads), and the keys and values (``kv_heads``) that come with them."""
        if sum(extra is not None for extra in (source, cache, kv)) > 1:
            raise ValueError("give one of source, cache and kv: each says what is asked")
        if kv is not None:
            self._check("input", x, self.D)
            q = self._heads(F.linear(x, self._projections()[0], self._biases()[0]), self.q_norm)
            for part in kv:
                if part.ndim != 4 or part.shape[1] != self.kv_heads:
                    raise ValueError(
                        f"this layer has {self.kv_heads} heads of keys and values, got shape "
                        f"{tuple(part.shape)}"
                    )
            return q, *kv
        q, k, v = self.project(x, source)
        offset = 0 if cache is None else cache.length
        if self.rotary is not None and source is None:
            q, k = self.rotary(q, offset), self.rotary(k, offset)
        return q, k, v

    def _extend(self, cache, q, k, v, mask, causal, bias) -> tuple[Tensor, Tensor, Tensor | None]:
        """All keys and values, with the new ones, and which of them each query may see."""
        if bias is not None:  # what is refused must not have been written
            check_kernel(self.kernel, biased=True)
            checked_bias(bias, q, cache.coming(q.shape[-2]))
        return cache.extend(q, k, v, mask, causal=causal)

    def _for_each_query_head(self, x: Tensor) -> Tensor:
        """B kv_heads S K -> B H S K: query head h reads head ⌊h · kv_heads / H⌋."""
        return repeat_heads(x, self.H) if self.kv_heads < self.H else x

    def _heads(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        x = split_heads(x, x.shape[-1] * self.H // self.D)  # B T H·K -> B H T K
        return x if norm is None else norm(x)

    def _projections(self) -> tuple[Tensor, Tensor, Tensor]:
        if hasattr(self, "in_proj_weight"):
            return self.in_proj_weight.chunk(3)
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    def _biases(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if self.in_proj_bias is None:
            return None, None, None
        return self.in_proj_bias.split([self.D, self.kv_width, self.kv_width])

    @staticmethod
    def _check(name: str, x: Tensor, width: int) -> None:
        if not x.is_floating_point():
            raise ValueError(f"the {name} must be floating point, got {x.dtype}")
        if x.ndim != 3:
            raise ValueError(f"input and source need 3 axes (B, T, D), got {tuple(x.shape)}")
        if x.shape[-1] != width:
            raise ValueError(f"this layer's {name} has width {width}, got {x.shape[-1]}")

    @staticmethod
    def _per_head(mask: Tensor | None) -> Tensor | None:
        return mask.unsqueeze(1) if mask is not None and mask.ndim == 3 else mask
