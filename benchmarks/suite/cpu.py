"""What is compared on a CPU, and the bars to be met there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lookback.attention import MultiHeadAttention
from lookback.efficient import linear, random_features, reference, tiled, window
from suite import models
from suite.comparison import Bar, Comparison, largest_error, step

BARS = (
    Bar("layer", "multi-head attention, a training step: nn.MultiheadAttention over ours", 1.2),
    Bar("decoder, x-transformers", "decoder, a training step: x-transformers over ours", 1.1),
    Bar("decoder, GPT-2", "decoder, a training step: Hugging Face GPT-2 over ours", 1.0),
    Bar("encoder–decoder", "encoder–decoder, a training step: nn.Transformer over ours", 1.2),
    Bar("cache", "writing 256 tokens: without a cache over with one", 5.0),
    Bar("generate", "writing 256 tokens: Hugging Face generate over ours", 1.5),
    Bar("tiled, stored", "tiles in plain torch, T 4096, causal: scores stored over ours", 3.0),
    Bar("tiled, fused", "tiles in plain torch, T 4096, causal: torch's fused over ours", 0.5),
    Bar("window", "window of 256, T 8192: torch's fused, causal, over ours", 8.0),
    Bar("linear", "chunked linear attention, T 16384: torch's fused, causal, over ours", 10.0),
    *(
        Bar(f"exponent, {name}", f"exponent of time in T, {name}", 1.1, most=True, key="exponent")
        for name in ("window", "linear", "random features")
    ),
)


def layer(small: bool) -> Iterator[Comparison]:
    """A layer of ours against torch's, forward and backward, on the same weights."""
    for T in (16,) if small else (256, 512, 1024):
        for D in (32,) if small else (128, 256, 512):
            theirs = nn.MultiheadAttention(D, 8, batch_first=True)
            ours = MultiHeadAttention(D, 8)
            ours.load_state_dict(theirs.state_dict())
            x = torch.randn(4, T, D)
            yield Comparison(
                f"multi-head attention, training step, T {T}, width {D}",
                lambda ours=ours, x=x: step(ours(x), ours),
                "nn.MultiheadAttention",
                lambda theirs=theirs, x=x: step(theirs(x, x, x, need_weights=False)[0], theirs),
                largest_error(ours(x), models.in_float64(ours)(x.double())),
                bar="layer",
                settings={"B": 4, "H": 8},
            )


def whole_models(small: bool) -> Iterator[Comparison]:
    """Training steps of whole models of the same size."""
    size = models.Size(32, 2, 1, 50, 2, 8) if small else models.Size(256, 8, 4, 4096, 4, 256)
    tokens = size.tokens()
    peers = {
        "x-transformers": (models.x_transformer, {"bias": False}),
        "GPT-2": (models.gpt2, {}),
    }
    for name, (build, options) in peers.items():
        ours, theirs = models.decoder(size, **options), build(size)
        with torch.no_grad():
            error = largest_error(ours(tokens), models.in_float64(ours)(tokens))
        yield Comparison(
            f"decoder, training step, against {name}",
            models.language_step(ours, tokens),
            name,
            None if theirs is None else models.language_step(theirs, tokens),
            error,
            bar=f"decoder, {name}",
            settings=vars(size) | {"parameters": models.parameters(ours, theirs)},
        )
    D, T = (32, 8) if small else (256, 256)
    ours, theirs = models.translators(D, 8, 1 if small else 3)
    x, y = torch.randn(2, 4, T, D)
    causal = nn.Transformer.generate_square_subsequent_mask(T)

    def run(model, x: Tensor, y: Tensor) -> Tensor:
        return model.decoder(y, source=model.encoder(x))

    yield Comparison(
        "encoder–decoder, training step",
        lambda: step(run(ours, x, y), ours),
        "nn.Transformer",
        lambda: step(theirs(x, y, tgt_mask=causal, tgt_is_causal=True), theirs),
        largest_error(run(ours, x, y), run(models.in_float64(ours), x.double(), y.double())),
        bar="encoder–decoder",
        settings={"B": 4, "T": T, "D": D, "H": 8, "layers": len(ours.decoder.layers)},
    )


def writing(small: bool) -> Iterator[Comparison]:
    """Greedy decoding."""
    steps = 8 if small else 256
    size = (
        models.Size(32, 2, 1, 50, 1, 4 + steps)
        if small
        else (models.Size(256, 8, 4, 4096, 1, 4 + steps))
    )
    ours, theirs = models.decoder(size).eval(), models.gpt2(size)
    prompt = size.tokens()[:, :4]
    whole = torch.cat([prompt, models.cached(ours, prompt, steps)], 1)
    with torch.no_grad():
        state, exact = ours.begin(capacity=size.T), models.in_float64(ours)(whole)
        found = [ours.step(whole[:, t : t + 1], state) for t in range(whole.shape[1])]
    error = largest_error(torch.stack(found, 1), exact)
    write = partial(models.cached, ours, prompt, steps)
    settings = vars(size) | {"tokens": steps}
    yield Comparison(
        f"writing {steps} tokens, cached",
        write,
        "uncached",
        lambda: models.uncached(ours, prompt, steps),
        error,
        bar="cache",
        settings=settings,
    )
    if theirs is not None:
        theirs.eval()
    yield Comparison(
        f"writing {steps} tokens, against Hugging Face",
        write,
        "generate",
        None
        if theirs is None
        else lambda: theirs.generate(
            prompt, max_new_tokens=steps, min_new_tokens=steps, do_sample=False
        ),
        error,
        bar="generate",
        settings=settings,
    )


def kernels(small: bool) -> Iterator[Comparison]:
    """Ways to compute attention, forward, one head of width 64."""
    torch.manual_seed(0)
    T = 64 if small else 4096
    fused = partial(F.scaled_dot_product_attention, is_causal=True)
    stored = partial(reference.attention, causal=True)
    ours = partial(tiled.attention, causal=True)
    yield _kernel(
        f"tiles, T {T}, causal", ours, "scores stored", stored, stored, T, "tiled, stored"
    )
    yield _kernel(f"tiles, T {T}, causal, fused", ours, "SDPA", fused, stored, T, "tiled, fused")
    T = 64 if small else 8192
    near = partial(window.attention, causal=True, width=8 if small else 256)
    yield _kernel(f"window of 256, T {T}", near, "SDPA", fused, near, T, "window")
    T = 64 if small else 16384
    chunked, exact = (
        partial(linear.attention, causal=True),
        partial(linear.attention, causal=True, form="recurrent"),
    )
    yield _kernel(f"chunked linear, T {T}", chunked, "SDPA", fused, exact, T, "linear")
    for T in (16,) if small else (256, 1024, 4096):
        q, k, v = torch.randn(3, 1, 8, T, 64)
        exact = reference.attention(q.double(), k.double(), v.double())
        yield Comparison(
            f"attention, fused kernel, T {T}",
            lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v),
            "scores stored",
            lambda q=q, k=k, v=v: reference.attention(q, k, v),
            largest_error(F.scaled_dot_product_attention(q, k, v), exact),
            settings={"H": 8, "D": 64},
        )


def growing(small: bool) -> dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]]:
    """Ways whose time is to grow linearly, and the lengths to time them at."""
    lengths = (32, 64) if small else (4096, 8192, 16384, 32768)
    omega = random_features.draw(128, 64, generator=torch.Generator().manual_seed(0))
    return {
        "window": (partial(window.attention, causal=True, width=256), lengths),
        "linear": (partial(linear.attention, causal=True), lengths),
        "random features": (
            partial(random_features.attention, omega=omega, causal=True),
            lengths,
        ),
    }


COMPARISONS = (layer, whole_models, writing, kernels)


def _kernel(name, ours, peer_name, peer, exact, T: int, bar: str) -> Comparison:
    q, k, v = torch.randn(3, 1, 1, T, 64)

    def without_gradients(f):
        def call() -> Tensor:
            with torch.no_grad():
                return f(q, k, v)

        return call

    with torch.no_grad():
        error = largest_error(ours(q, k, v), exact(q.double(), k.double(), v.double()))
    calls = without_gradients(ours), peer_name, without_gradients(peer)
    return Comparison(name, *calls, error, bar=bar, settings={"T": T, "H": 1, "D": 64})
