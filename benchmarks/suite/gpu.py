"""What is compared on a GPU, in bfloat16, and the bars to be met there.

With ``small`` the same comparisons run at tiny sizes wherever Triton's interpreter does, so that a
machine without a GPU can try every line of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lookback import measure
from lookback.efficient import flash_triton, linear, linear_triton, reference, tiled, window
from suite import models
from suite.comparison import Bar, Comparison, largest_error

PEAK = 989e12  # dense bfloat16 operations a second of an H100 or H200 (NVIDIA's data sheet)
BARS = (
    Bar("forward, 128", "Triton, forward, width 128, T 8192: cuDNN over ours", 0.75),
    Bar("forward, 64", "Triton, forward, width 64, T 8192: cuDNN over ours", 0.95),
    Bar("both passes", "Triton, forward and backward, T 8192: cuDNN over ours", 0.60),
    Bar("window", "window of 256, T 16384: compiled FlexAttention over ours", 1.0),
    Bar("linear", "chunked linear attention, T 16384: cuDNN forward over ours", 3.5),
    Bar("decoder", "decoder of 350M, a training step: x-transformers, compiled, over ours", 1.1),
    Bar("share", "decoder of 350M, a training step: share of 989 TFLOP/s", 0.45, key="share"),
    Bar("exponent, memory", "exponent of peak memory in T, both passes", 1.1, True, "exponent"),
)


def kernels(device: torch.device, small: bool) -> Iterator[Comparison]:
    """Flash attention in Triton against cuDNN's, forward, and forward with backward."""
    T = 32 if small else 8192
    for K in (16,) if small else (128, 64):
        for causal in (True, False):
            q, k, v = _inputs(device, 1 if small else 2, 2 if small else 2048 // K, T, K)
            ours = partial(flash_triton.attention, causal=causal)
            theirs = partial(_cudnn, device, causal)
            error = largest_error(ours(q, k, v), _exact(q, k, v, causal))
            named = f"width {K}, T {T}{', causal' if causal else ''}"
            work = 4 * q.numel() * T / (2 if causal else 1)
            settings = {"B": len(q), "H": q.shape[1], "T": T, "K": K, "dtype": str(q.dtype)}
            for both, passes in ((False, "forward"), (True, "forward and backward")):
                run = _both_passes if both else _forward
                wide = "forward, 128" if K == 128 or small else "forward, 64"
                yield Comparison(
                    f"flash attention, {passes}, {named}",
                    partial(run, ours, q, k, v),
                    "SDPA, cuDNN",
                    partial(run, theirs, q, k, v),
                    error,
                    bar="both passes" if both else wide,
                    settings=settings,
                    work=work * (3.5 if both else 1),
                )


def stored(device: torch.device, small: bool) -> Iterator[Comparison]:
    """What a fused kernel saves over scores in memory."""
    for T in (16,) if small else (256, 1024, 4096):
        q, k, v = _inputs(device, 1, 2 if small else 8, T, 64)
        yield Comparison(
            f"attention, fused kernel, T {T}",
            partial(_forward, F.scaled_dot_product_attention, q, k, v),
            "scores stored",
            partial(_forward, reference.attention, q, k, v),
            largest_error(F.scaled_dot_product_attention(q, k, v), _exact(q, k, v, False)),
            settings={"H": q.shape[1], "D": 64, "dtype": str(q.dtype)},
        )


def near_and_linear(device: torch.device, small: bool) -> Iterator[Comparison]:
    """A window against FlexAttention, chunked linear attention against cuDNN's exact one."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    T, width = (64, 8) if small else (16384, 256)
    q, k, v = _inputs(device, 1, 2 if small else 16, T, 16 if small else 64)
    settings = {"H": q.shape[1], "T": T, "K": q.shape[-1], "dtype": str(q.dtype)}
    block = create_block_mask(
        lambda b, h, i, j: (j <= i) & (i - j < width), None, None, T, T, device=device
    )
    flex = _compiled(flex_attention, small)
    ours = partial(flash_triton.attention, causal=True, window=width)
    exact = window.attention(q.double(), k.double(), v.double(), causal=True, width=width)
    yield Comparison(
        f"window of {width}, T {T}",
        partial(_forward, ours, q, k, v),
        "FlexAttention, compiled",
        partial(_forward, partial(flex, block_mask=block), q, k, v),
        largest_error(ours(q, k, v), exact),
        bar="window",
        settings=settings,
    )
    ours = partial(linear_triton.attention, causal=True, chunk=16 if small else 64)
    exact = linear.attention(q.double(), k.double(), v.double(), causal=True)
    yield Comparison(
        f"chunked linear, T {T}",
        partial(_forward, ours, q, k, v),
        "SDPA, cuDNN",
        partial(_forward, partial(_cudnn, device, True), q, k, v),
        largest_error(ours(q, k, v), exact),
        bar="linear",
        settings=settings,
    )


def decoder(device: torch.device, small: bool) -> Iterator[Comparison]:
    """A training step of a decoder of some 350 million parameters, compiled, under autocast."""
    size = models.Size(32, 2, 1, 50, 1, 16) if small else models.Size(1024, 16, 24, 50304, 8, 1024)
    tokens = size.tokens(device)
    ours = models.decoder(size, bias=False).to(device)
    theirs = models.x_transformer(size)
    theirs = None if theirs is None else theirs.to(device)
    with torch.no_grad():
        part = tokens[:1, :64]
        error = largest_error(ours(part), models.in_float64(ours)(part))

    def step(model) -> Callable[[], None]:
        run = models.language_step(_compiled(model, small), tokens)

        def under_autocast() -> None:
            with torch.autocast(device.type, torch.bfloat16):
                run()

        return under_autocast

    (count, *_) = models.parameters(ours)
    # six operations a parameter and token, and the products of attention, half of them masked
    attention = 6 * size.layers * size.D * size.T
    yield Comparison(
        "decoder of 350M, training step, compiled",
        step(ours),
        "x-transformers, compiled",
        None if theirs is None else step(theirs),
        error,
        bar="decoder",
        settings=vars(size) | {"parameters": models.parameters(ours, theirs)},
        work=tokens.numel() * (6 * count + attention),
    )


def memory(device: torch.device, small: bool) -> dict[str, object]:
    """Peak memory of both passes by length, and the exponent of its growth."""
    lengths = (32, 64) if small else (4096, 8192, 16384, 32768)
    found = []
    for T in lengths:
        q, k, v = _inputs(device, 1, 2 if small else 16, T, 16 if small else 64)
        ours = partial(flash_triton.attention, causal=True)
        call = partial(_both_passes, ours, q, k, v)
        call()
        found.append(measure.peak_memory(call, device=device))
    return {
        "name": "peak memory, flash attention, both passes",
        "kind": "growth",
        "bar": "exponent, memory",
        "lengths": list(lengths),
        "bytes": found,
        "exponent": measure.fitted_exponent(lengths, found),
    }


COMPARISONS = (kernels, stored, near_and_linear, decoder)


def _inputs(device: torch.device, B: int, H: int, T: int, K: int) -> tuple[Tensor, ...]:
    source = torch.Generator().manual_seed(0)
    # numpy, in which the interpreter runs, has no bfloat16 of its own worth waiting for
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    made = torch.randn(3, B, H, T, K, generator=source).to(device, dtype)
    return tuple(x.clone().requires_grad_() for x in made)


def _cudnn(device: torch.device, causal: bool, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    forced = sdpa_kernel(SDPBackend.CUDNN_ATTENTION) if device.type == "cuda" else nullcontext()
    with forced:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def _exact(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """In float64 and in tiles: T × T of it would not fit."""
    with torch.no_grad():
        return tiled.attention(q.double(), k.double(), v.double(), causal=causal)


def _forward(f: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with torch.no_grad():
        return f(q.detach(), k.detach(), v.detach())


def _both_passes(f: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor) -> None:
    out = f(q, k, v)
    torch.autograd.grad(out, (q, k, v), torch.ones_like(out))


def _compiled(f: Callable, small: bool) -> Callable:
    return f if small else torch.compile(f)
