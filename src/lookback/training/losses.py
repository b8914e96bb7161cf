"""What a batch costs, as a sum and a count: so pieces of a batch can be added up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def token_loss(
    logits: Float[Tensor, "*batch T C"],
    targets: Int[Tensor, "*batch T"],
    *,
    ignore: int = -100,
    smoothing: float = 0.0,
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Summed cross-entropy in nats, and how many targets it counts.

    Args:
        logits: scores of ``C`` classes.
        targets: the right class of each.
        ignore: a target that is not counted (padding).
        smoothing: ``ε`` of label smoothing (Szegedy et al. 2016): the right class is asked for with
            probability ``1 - ε + ε/C``, every other with ``ε/C``.

    Raises:
        ValueError: if the shapes do not fit, logits are no floating-point numbers, targets no
            integers, a target is no class (seen on a CPU; a GPU's lookup fails by itself), or
            ``smoothing`` lies outside 0 to 1.
    """
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label smoothing is a share from 0 to 1, got {smoothing}")
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} do not fit"
        )
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating point, got {logits.dtype}")
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(f"targets must be integers, got {targets.dtype}")
    real = targets[targets != ignore] if targets.device.type == "cpu" else targets[:0]
    if real.numel() and not 0 <= int(real.min()) <= int(real.max()) < logits.shape[-1]:
        found = f"{int(real.min())} to {int(real.max())}"
        raise ValueError(f"targets run from {found}, but there are {logits.shape[-1]} classes")
    # in float32: a sum over thousands of targets has no place in the narrower dtypes
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    flat, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    summed = F.cross_entropy(
        flat, wanted.long(), ignore_index=ignore, reduction="sum", label_smoothing=smoothing
    )
    return summed, (targets != ignore).sum()
