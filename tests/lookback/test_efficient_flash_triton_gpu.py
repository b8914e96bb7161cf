"""The Triton kernels as compiled for a GPU, at the sizes that they are for."""

from __future__ import annotations

import pytest
import torch

from lookback import masks
from lookback.efficient import flash_triton, reference
from lookback.efficient.grouped import repeat_heads

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or flash_triton.INTERPRETED, reason="needs a GPU"
)

# share of the norm that rounding of inputs and weights explains
SHARE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def inputs(T, S, K, V, *, H=4, G=4, dtype=torch.bfloat16):
    shapes = ((2, H, T, K), (2, G, S, K), (2, G, S, V))
    return [torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True) for shape in shapes]


def assert_near(tensors, mask=None, **options) -> None:
    """Output and gradients within rounding of the reference in float64."""
    exact = [x.detach().double().requires_grad_() for x in tensors]
    out = flash_triton.attention(*tensors, mask, **options)
    closed = options.pop("window", None)
    if closed is not None:
        near = masks.window(
            *(tensors[0].shape[-2], tensors[1].shape[-2]),
            **{"width": closed, "device": "cuda", "causal": options.pop("causal", False)},
            offset=options.get("offset", 0),
        )
        mask = near if mask is None else mask & near
    q, k, v = exact
    H = q.shape[1]
    expected = reference.attention(q, repeat_heads(k, H), repeat_heads(v, H), mask, **options)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    expected.backward(upstream.double())
    found, wanted = [out, *(x.grad for x in tensors)], [expected, *(x.grad for x in exact)]
    for x, y in zip(found, wanted, strict=True):
        assert (x.double() - y).norm() <= SHARE[x.dtype] * y.norm()


@pytest.mark.parametrize("dtype", list(SHARE))
@pytest.mark.parametrize("width", [32, 64, 80, 128])
@pytest.mark.parametrize("causal", [False, True])
def test_the_compiled_kernel_is_near_the_reference_in_float64(dtype, width, causal):
    assert_near(inputs(1024, 1024, width, width, dtype=dtype), causal=causal)


@pytest.mark.parametrize(("T", "S", "offset"), [(1, 999, 998), (333, 1200, 867), (1200, 333, 0)])
def test_lengths_differ_and_fill_no_tile(T, S, offset):
    assert_near(inputs(T, S, 64, 96), causal=True, offset=offset)


@pytest.mark.parametrize("G", [1, 2])
def test_heads_share_keys(G):
    assert_near(inputs(700, 700, 128, 128, H=8, G=G), causal=True)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("width", [1, 100, 256])
def test_a_window_closes_what_lies_outside(width, causal):
    assert_near(inputs(1500, 1500, 64, 64), causal=causal, window=width)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_is_closed(causal):
    mask = masks.padding(torch.tensor([[900], [13]], device="cuda"), 1000)
    assert_near(inputs(1000, 1000, 64, 64), mask, causal=causal)


def test_every_run_gives_the_same_bits():
    q, k, v = inputs(2048, 2048, 128, 128, H=8, G=2)
    runs = []
    for _ in range(3):
        out = flash_triton.attention(q, k, v, causal=True)
        runs.append([out, *torch.autograd.grad(out.sum(), (q, k, v))])
    for other in runs[1:]:
        assert all(torch.equal(x, y) for x, y in zip(runs[0], other, strict=True))


def test_memory_grows_with_the_length_and_not_with_its_square():
    def peak(T):
        q, k, v = inputs(T, T, 64, 64)
        flash_triton.attention(q, k, v, causal=True).sum().backward()  # tuned, warm
        del q, k, v
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        q, k, v = inputs(T, T, 64, 64)
        flash_triton.attention(q, k, v, causal=True).sum().backward()
        return torch.cuda.max_memory_allocated() - before

    assert peak(16384) < 2.2 * peak(8192)


def test_rows_lie_as_far_apart_as_64_bits_reach():
    if torch.cuda.mem_get_info()[0] < 8e9:
        pytest.skip("needs 8 GB of free memory")
    store = torch.empty(300 * 2**23, device="cuda", dtype=torch.bfloat16)
    far = store.as_strided((1, 1, 300, 64), (0, 0, 2**23, 1))
    far.copy_(torch.randn(1, 1, 300, 64))
    near = far.contiguous()
    torch.testing.assert_close(
        flash_triton.attention(far, far, far, causal=True),
        flash_triton.attention(near, near, near, causal=True),
    )
