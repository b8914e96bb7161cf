"""What a Transformer is made of, as one immutable record."""

from __future__ import annotations

from dataclasses import dataclass

from lookback.attention import MultiHeadAttention
from lookback.attention.dot_product import Kernel, check_kernel
from lookback.positions import SCALINGS, Rotary

NORMS = ("layer", "rms")
ACTIVATIONS = ("relu", "gelu", "swiglu")
POSITIONS = ("none", "sinusoidal", "learned", "rotary", "alibi")


@dataclass(frozen=True)
class Config:
    """The choices that define a Transformer.

    Args:
        vocabulary: number of tokens; None where the input is a sequence of vectors.
        target_vocabulary: tokens of the target in an encoder–decoder; None where source and target
            share one vocabulary.
        input_width: width of the input vectors (patches, frames) where there is no vocabulary.
        D: model width.
        H: heads of attention.
        kv_heads: heads of keys and values; ``H`` when left out.
        layers: blocks in a stack; an encoder–decoder has as many in each.
        hidden: width of the feed-forward layer; ``4 D`` when left out.
        norm: ``"layer"`` or ``"rms"``.
        pre_norm: normalise what enters a sublayer (Xiong et al. 2020) if set; the sum after it
            (Vaswani et al. 2017) if not.
        activation: ``"relu"``, ``"gelu"`` or ``"swiglu"``.
        positions: one of ``POSITIONS``. Sinusoidal and learned vectors are added to the input,
            rotary turns queries and keys, ALiBi lowers scores. The last two act in self-attention.
        max_length: positions that exist where they are learned, and the trained length of YaRN.
        rotary_base: see :class:`lookback.positions.Rotary`.
        rotary_scaling: see :class:`lookback.positions.Rotary`.
        rotary_factor: see :class:`lookback.positions.Rotary`.
        qk_norm: RMS-normalise queries and keys, head by head.
        residual: add each sublayer's input to its output; off only to see what that costs.
        tied: the output layer uses the embedding's weights (Press & Wolf 2017).
        dropout: share dropped of embeddings, weights of attention and sublayer outputs.
        bias: whether projections and layer norms add a bias.
        eps: added to the variance in the norms of the blocks (that of ``qk_norm`` has its own).
        kernel: which way attention is computed; see
            :func:`lookback.attention.scaled_dot_product_attention`.

    Raises:
        ValueError: naming the value that is out of range or unknown.
    """

    vocabulary: int | None = None
    target_vocabulary: int | None = None
    input_width: int | None = None
    D: int = 64
    H: int = 4
    kv_heads: int | None = None
    layers: int = 2
    hidden: int | None = None
    norm: str = "layer"
    pre_norm: bool = True
    activation: str = "gelu"
    positions: str = "sinusoidal"
    max_length: int = 512
    rotary_base: float = 10_000.0
    rotary_scaling: str = "none"
    rotary_factor: float = 1.0
    qk_norm: bool = False
    residual: bool = True
    tied: bool = False
    dropout: float = 0.0
    bias: bool = True
    eps: float = 1e-5
    kernel: Kernel = "sdpa"

    def __post_init__(self) -> None:
        for name in ("vocabulary", "target_vocabulary", "input_width", "hidden", "kv_heads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("D", "H", "layers", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, known in (
            ("norm", NORMS),
            ("activation", ACTIVATIONS),
            ("positions", POSITIONS),
            ("rotary_scaling", SCALINGS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(known)}"
                )
        if self.vocabulary is not None and self.input_width is not None:
            raise ValueError("the input is either tokens (vocabulary) or vectors (input_width)")
        if self.D % self.H:
            raise ValueError(f"width {self.D} is not divisible by {self.H} heads")
        if self.kv_heads is not None and self.H % self.kv_heads:
            raise ValueError(
                f"{self.H} heads cannot share {self.kv_heads} heads of keys and values evenly"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.eps <= 0:
            raise ValueError(f"eps must be positive, got {self.eps}")
        check_kernel(self.kernel, biased=self.positions == "alibi")
        self.rotary()  # its own errors show here, before any layer is built

    @property
    def feed_forward_width(self) -> int:
        """Hidden features of the feed-forward layer."""
        return 4 * self.D if self.hidden is None else self.hidden

    def rotary(self) -> Rotary | None:
        """The rotation of queries and keys; None where positions enter otherwise."""
        if self.positions != "rotary":
            return None
        return Rotary(
            self.D // self.H,
            base=self.rotary_base,
            scaling=self.rotary_scaling,
            factor=self.rotary_factor,
            trained_length=self.max_length,
        )

    def attention(self, *, rotary: bool) -> MultiHeadAttention:
        """One attention layer of this Transformer; ``rotary`` where it is self-attention."""
        return MultiHeadAttention(
            self.D,
            self.H,
            kv_heads=self.kv_heads,
            bias=self.bias,
            dropout=self.dropout,
            qk_norm=self.qk_norm,
            rotary=self.rotary() if rotary else None,
            kernel=self.kernel,
        )
