"""One block: self-attention, cross-attention where there is a source, feed-forward."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lookback.efficient.cache import Cache
from lookback.transformer.config import Config


class Block(nn.Module):
    """A Transformer block (Vaswani et al. 2017, section 3.1).

        pre-norm:   x + sublayer(norm(x))
        post-norm:  norm(x + sublayer(x))

    The sublayers are self-attention, cross-attention where ``cross`` is set, and the feed-forward
    layer. Parameters are named as in :class:`torch.nn.TransformerEncoderLayer` and, with
    ``cross``, :class:`torch.nn.TransformerDecoderLayer`, so that a layer norm, ReLU or GELU block
    takes and gives their ``state_dict``:

    ==================  =======================  ====================  ==========================
    ``self_attn``       self-attention           ``linear1``           into the hidden layer
    ``multihead_attn``  cross-attention          ``linear2``           out of it
    ``norm1``           of self-attention        ``gate``              SwiGLU's gate (no twin)
    ``norm2, norm3``    of the next sublayers
    ==================  =======================  ====================  ==========================

    Args:
        config: the Transformer's.
        cross: whether the block reads a source.
    """

    def __init__(self, config: Config, *, cross: bool = False) -> None:
        super().__init__()
        self.config = config
        D, hidden = config.D, config.feed_forward_width
        self.self_attn = config.attention(rotary=True)
        self.multihead_attn = config.attention(rotary=False) if cross else None
        self.linear1 = nn.Linear(D, hidden, bias=config.bias)
        self.gate = (
            nn.Linear(D, hidden, bias=config.bias) if config.activation == "swiglu" else None
        )
        self.linear2 = nn.Linear(hidden, D, bias=config.bias)
        self.norm1, self.norm2 = make_norm(config), make_norm(config)
        self.norm3 = make_norm(config) if cross else None

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        causal: bool = False,
        bias: Float[Tensor, "..."] | None = None,
        cache: Cache | None = None,
        source: Float[Tensor, "B S D"] | None = None,
        source_mask: Bool[Tensor, "..."] | None = None,
        source_kv: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """All sublayers in turn.

        Args:
            x: one vector a token.
            mask: True where self-attention may look; broadcastable to ``(B, T, T)``.
            causal: close every later token.
            bias: added to the scores of self-attention.
            cache: earlier keys and values of self-attention, which ``x`` continues.
            source: what cross-attention reads.
            source_mask: True where it may look; broadcastable to ``(B, T, S)``.
            source_kv: the source's keys and values, where a loop over steps has them at hand.

        Raises:
            ValueError: if the block reads a source and gets none, or the other way round.
        """
        given = source is not None or source_kv is not None
        if given != (self.multihead_attn is not None):
            raise ValueError(
                "this block reads no source, but one was given"
                if given
                else "this block reads a source, but none was given"
            )

        def look(x: Tensor) -> Tensor:
            return self.self_attn(x, mask=mask, causal=causal, bias=bias, cache=cache)

        def look_across(x: Tensor) -> Tensor:
            return self.multihead_attn(x, source, source_mask, kv=source_kv)

        x = self._add(x, look, self.norm1)
        if self.multihead_attn is None:
            return self._add(x, self.feed_forward, self.norm2)
        x = self._add(x, look_across, self.norm2)
        return self._add(x, self.feed_forward, self.norm3)

    def maps(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        causal: bool = False,
        bias: Float[Tensor, "..."] | None = None,
        source: Float[Tensor, "B S D"] | None = None,
        source_mask: Bool[Tensor, "..."] | None = None,
    ) -> tuple[Float[Tensor, "B H T T"], Float[Tensor, "B H T S"] | None]:
        """The weights of self- and of cross-attention, for looking at. Args: as :meth:`forward`."""
        z = self.norm1(x) if self.config.pre_norm else x
        own = self.self_attn.weights(z, mask=mask, causal=causal, bias=bias)
        if self.multihead_attn is None:
            return own, None
        x = self._add(
            x, lambda z: self.self_attn(z, mask=mask, causal=causal, bias=bias), self.norm1
        )
        z = self.norm2(x) if self.config.pre_norm else x
        return own, self.multihead_attn.weights(z, source, source_mask)

    def feed_forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Two linear maps with a slope between them, the same for every position.

        ReLU (Vaswani et al. 2017, eq. 2), GELU (Hendrycks & Gimpel 2016), or SwiGLU, whose second
        map gates the first (Shazeer 2020, eq. 6): ``(swish(x W_1) ∘ x W_gate) W_2``.
        """
        hidden = self.linear1(x)
        if self.gate is not None:
            hidden = F.silu(hidden) * self.gate(x)
        else:
            hidden = F.relu(hidden) if self.config.activation == "relu" else F.gelu(hidden)
        return self.linear2(self._drop(hidden))

    def _add(self, x: Tensor, sublayer, norm: nn.Module) -> Tensor:
        pre = self.config.pre_norm
        y = self._drop(sublayer(norm(x) if pre else x))
        if self.config.residual:
            y = x + y
        return y if pre else norm(y)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)


def make_norm(config: Config) -> nn.LayerNorm | nn.RMSNorm:
    """The norm that the config names: the function of :mod:`lookback.transformer.norms`.

    Torch's twins compute it in one pass over memory, forward and backward, where the equation takes
    one pass a line.
    """
    if config.norm == "rms":
        return nn.RMSNorm(config.D, eps=config.eps)
    return nn.LayerNorm(config.D, eps=config.eps, bias=config.bias)
