"""What is compared on every device: recurrence, and a product against a loop over positions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lookback.attention import MultiHeadAttention, scaled_dot_product_attention
from lookback.recurrent import LSTM
from suite.comparison import Comparison, largest_error

D, H = 64, 4
LENGTHS = {"cpu": (128, 512, 2048, 8192), "cuda": (16, 128, 512, 1024, 2048, 8192)}


def one_matmul(device: torch.device, small: bool) -> Iterator[Comparison]:
    """All positions in one product, and one position after the other: the same numbers."""
    T = 16 if small else 512
    q, k, v = torch.randn(3, T, 64, device=device)
    exact = scaled_dot_product_attention(q.double(), k.double(), v.double())

    def loop() -> Tensor:
        rows = [scaled_dot_product_attention(q[t : t + 1], k, v) for t in range(T)]
        return torch.cat(rows)

    yield Comparison(
        "one-matmul",
        lambda: scaled_dot_product_attention(q, k, v),
        "loop over positions",
        loop,
        largest_error(scaled_dot_product_attention(q, k, v), exact),
        settings={"T": T, "D": 64},
    )


def recurrence(device: torch.device, small: bool) -> Iterator[Comparison]:
    """A step of training: a layer of attention against an LSTM, in a loop and compiled."""
    torch.manual_seed(0)
    B = 1 if device.type == "cpu" else 8
    attention = MultiHeadAttention(D, H).to(device)
    exact = MultiHeadAttention(D, H, kernel="sdpa").double().to(device)
    exact.load_state_dict(attention.state_dict())
    rivals = {
        "LSTM, loop in Python": LSTM(D, D, batch_first=True).to(device),
        "LSTM, compiled": nn.LSTM(D, D, batch_first=True).to(device),
    }
    for T in (8,) if small else LENGTHS[device.type]:
        x = torch.randn(B, T, D, device=device)
        with torch.no_grad():
            error = largest_error(attention(x), exact(x.double()))
        for name, rival in rivals.items():
            yield Comparison(
                f"{name}, T = {T}",
                lambda x=x: _step(attention, x),
                name,
                lambda rival=rival, x=x: _step(rival, x),
                error,
                settings={"B": B, "D": D, "H": H, "T": T},
            )


def _step(layer: nn.Module, x: Tensor) -> None:
    y = layer(x)
    (y[0] if isinstance(y, tuple) else y).sum().backward()
    layer.zero_grad(set_to_none=True)
