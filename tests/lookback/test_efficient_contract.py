"""What every way of meeting the contract has in common, whatever it computes."""

from __future__ import annotations

import pkgutil

import pytest
import torch
import torch.distributed as dist

from attention_cases import tensors
from lookback import efficient
from lookback.efficient import (
    block_sparse,
    cache,
    delta_rule,
    flash_triton,
    grouped,
    latent,
    linear,
    linear_triton,
    low_rank,
    random_features,
    reference,
    ring,
    tiled,
    window,
)
from lookback.efficient.flash_triton import INTERPRETED

T, K, V = 9, 4, 5
HALVES = [torch.bfloat16, torch.float16]


def from_latent(q, k, v, *, absorbed):
    """One latent for all three heads, with matrices that stay float32, as parameters do."""
    W_k, W_v = (torch.linspace(-1, 1, 3 * n * K, device=q.device).reshape(3, n, K) for n in (K, V))
    return latent.attention(q, k[:, 0], W_k, W_v, absorbed=absorbed)


def cached(q, k, v, *, kept):
    with torch.no_grad():
        return cache.attention(q.detach(), k.detach(), v.detach(), cache=kept())


def causal(attention, **options):
    return lambda q, k, v: attention(q, k, v, causal=True, **options)


LAYOUT = block_sparse.big_bird(T, block=4, global_blocks=0)
OMEGA = random_features.draw(16, K, generator=torch.Generator().manual_seed(0))
MEANS = low_rank.segment_means(3, T)
# with the sums that run in float32 at least, whatever autocast says
OWN_DTYPE = {
    "tiled": causal(tiled.attention, tile=4),
    "ring": causal(ring.attention, tile=4),
    "linear": linear.attention,
    "linear, chunked": causal(linear.attention, chunk=4, decay=0.9),
    "delta_rule": causal(delta_rule.attention, chunk=4),
    "linear_triton": linear_triton.attention,
    "linear_triton, chunked": causal(linear_triton.attention, chunk=16),
    "random_features": lambda q, k, v: random_features.attention(q, k, v, omega=OMEGA),
    "low_rank, nystrom": lambda q, k, v: low_rank.nystrom(q, k, v, landmarks=3),
    "low_rank, nystrom by steps": lambda q, k, v: low_rank.nystrom(
        q, k, v, landmarks=3, iterations=6
    ),
}
# as torch's own matrix products and softmax do
AS_TORCH = {
    "reference": causal(reference.attention),
    "flash_triton": causal(flash_triton.attention),
    "grouped": causal(grouped.attention),
    "latent": lambda q, k, v: from_latent(q, k, v, absorbed=True),
    "latent, expanded": lambda q, k, v: from_latent(q, k, v, absorbed=False),
    "window": causal(window.attention, width=3, sinks=1),
    "window, dilated": causal(window.attention, width=3, dilation=2),
    "block_sparse": causal(block_sparse.attention, layout=LAYOUT, block=4),
    "low_rank, linformer": lambda q, k, v: low_rank.linformer(
        q, k, v, project_k=MEANS.to(k.device)
    ),
    "cache": lambda q, k, v: cached(q, k, v, kept=lambda: cache.Cache(T)),
    "cache, sliding": lambda q, k, v: cached(q, k, v, kept=lambda: cache.SlidingCache(3)),
}
WAYS = OWN_DTYPE | AS_TORCH


@pytest.fixture(autouse=True, scope="module")
def _alone(tmp_path_factory):
    """A ring of one process."""
    place = tmp_path_factory.mktemp("ring") / "meeting"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group("gloo", init_method=f"file://{place}", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


def computed(name: str, device: torch.device, dtype=torch.float32):
    """A way by its name, and inputs for it that ask for gradients."""
    if "triton" in name:
        pytest.importorskip("triton", reason="Triton is for Linux")
        if device.type == "cpu" and not INTERPRETED:
            pytest.skip("on a GPU's machine the interpreter runs where TRITON_INTERPRET=1 asks")
    if name == "ring" and device.type != "cpu":
        pytest.skip("this ring's processes talk to one another on the CPU")
    inputs = tensors(T, T, K=K, V=V, device=device, dtype=dtype)
    return WAYS[name], [x.requires_grad_() for x in inputs]


def test_every_module_that_meets_the_contract_is_among_these():
    modules = {module.name for module in pkgutil.iter_modules(efficient.__path__)}
    assert {name.split(",")[0] for name in WAYS} == modules - {"scan"}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", WAYS)
def test_under_autocast_every_way_gives_what_it_gives_without(device, name, half):
    attention, inputs = computed(name, device)
    plain = attention(*inputs)
    with torch.autocast(device.type, dtype=half):
        out = attention(*inputs)
    close = {"rtol": 0.0, "atol": 0.0 if name in OWN_DTYPE else 0.03}
    torch.testing.assert_close(out.to(plain.dtype), plain, **close)
    assert name in AS_TORCH or out.dtype == plain.dtype
    if out.requires_grad:
        gradients = torch.autograd.grad(out.sum(), inputs, allow_unused=True)
        assert {g.dtype for g in gradients if g is not None} == {torch.float32}
        assert all(g.isfinite().all() for g in gradients if g is not None)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", WAYS)
def test_under_autocast_every_way_takes_what_layers_make_there(device, name, half):
    """Inputs in autocast's dtype, beside draws and matrices that are still float32."""
    if name.startswith("linear_triton") and half == torch.float16:
        pytest.skip("the range of float16 is too short for sums over a sequence")
    attention, inputs = computed(name, device, half)
    with torch.autocast(device.type, dtype=half):
        out = attention(*inputs)
    assert out.isfinite().all()
    if out.requires_grad:
        gradients = torch.autograd.grad(out.sum(), inputs, allow_unused=True)
        assert {g.dtype for g in gradients if g is not None} == {half}


@pytest.mark.parametrize("name", WAYS)
def test_what_is_made_follows_the_inputs_and_not_the_default_device(device, name):
    attention, inputs = computed(name, device)
    plain = attention(*inputs)
    with torch.device("meta"):
        out = attention(*inputs)
    torch.testing.assert_close(out, plain)


@pytest.mark.parametrize(
    "draw",
    [
        lambda **at: random_features.draw(5, 3, generator=seeded(), **at),
        lambda **at: random_features.draw(5, 3, orthogonal=False, generator=seeded(), **at),
        lambda **at: low_rank.gaussian(3, 5, generator=seeded(), **at),
        lambda **at: block_sparse.big_bird(40, block=4, **at),
    ],
)
def test_draws_are_the_same_whatever_the_default_device(draw):
    plain = draw()
    with torch.device("meta"):
        assert torch.equal(draw(device="cpu"), plain)
        assert draw().device.type == "meta"


def seeded() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(0)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("name", WAYS)
def test_queries_and_keys_without_a_width_are_refused(name):
    attention, (q, k, v) = computed(name, torch.device("cpu"))
    with pytest.raises(ValueError, match="width 0"):
        attention(q[..., :0], k[..., :0], v)
