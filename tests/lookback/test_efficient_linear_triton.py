"""Linear attention in Triton against plain torch in float64: interpreted, or on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch.library import opcheck

from attention_cases import tensors
from lookback import masks
from lookback.efficient import linear, linear_triton
from lookback.efficient.flash_triton import INTERPRETED

pytest.importorskip("triton", reason="Triton is for Linux")

# share of the norm that rounding explains
SHARE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
# queries, keys, offset: whole chunks of 16, parts of them, a cache, queries before any key
SHAPES = [
    (32, 32, 0),
    (37, 37, 0),
    (20, 53, 33),
    (20, 53, 7),
    (33, 20, 0),
    (19, 23, -8),
    (5, 9, -9),
]


@pytest.fixture(autouse=True)
def _runs_here(device):
    if device.type == "cpu" and not INTERPRETED:
        pytest.skip("on a GPU's machine the interpreter runs where TRITON_INTERPRET=1 asks for it")


@pytest.fixture(autouse=True)
def _poisoned():
    """Fresh memory is full of NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def inputs(T, S, *, K=16, V=16, batch=(1, 2), device, dtype=torch.float32):
    return tensors(T, S, K=K, V=V, batch=batch, device=device, dtype=dtype)


def assert_near(given, mask=None, *, decay=None, chunk=16, **options):
    """Output and gradients, that of a tensor of decays among them, near those in float64."""
    mine = [x.clone().requires_grad_() for x in given]
    exact = [x.double().requires_grad_() for x in given]
    decays = [decay, decay]
    if isinstance(decay, torch.Tensor):
        decays = [decay.clone().requires_grad_(), decay.double().requires_grad_()]
        mine.append(decays[0])
        exact.append(decays[1])
    out = linear_triton.attention(
        *mine[:3], mask, causal=True, decay=decays[0], chunk=chunk, **options
    )
    expected = linear.attention(*exact[:3], mask, causal=True, decay=decays[1], **options)
    assert out.dtype == given[0].dtype
    upstream = torch.randn_like(out)
    out.backward(upstream)
    expected.backward(upstream.double())
    share = SHARE[out.dtype]
    for x, y in zip(
        [out, *(x.grad for x in mine)], [expected, *(x.grad for x in exact)], strict=True
    ):
        assert (x.double() - y).norm() <= share * y.norm() + 1e-12


@pytest.mark.parametrize("dtype", list(SHARE))
@pytest.mark.parametrize(("T", "S", "offset"), SHAPES)
def test_the_kernels_compute_what_linear_attention_is(device, dtype, T, S, offset):
    assert_near(inputs(T, S, device=device, dtype=dtype), offset=offset)


@pytest.mark.parametrize("features", linear.FEATURES)
@pytest.mark.parametrize("normalise", [False, True])
def test_features_are_mapped_in_the_kernels_and_their_slopes_outside(device, features, normalise):
    q, k, v = inputs(21, 21, K=5, V=20, device=device)
    if features == "identity" and normalise:  # signed weights may sum to nearly nothing
        q, k = q.abs(), k.abs()
    assert_near([q, k, v], features=features, normalise=normalise, scale=0.7)


@pytest.mark.parametrize("kind", ["number", "head", "token"])
@pytest.mark.parametrize("offset", [0, 9])
def test_decay_fades_what_was_written_and_receives_its_gradient(device, kind, offset):
    decay = {
        "number": 0.9,
        "head": torch.tensor([[0.5], [1.0]], device=device),
        "token": torch.rand(1, 2, 46, device=device) * 0.5 + 0.5,
    }[kind]
    given = inputs(37, 46, K=8, V=24, device=device)
    assert_near(given, decay=decay, offset=offset)


@pytest.mark.parametrize("features", linear.FEATURES)
@pytest.mark.parametrize("where", [0, 1])
def test_a_nan_reaches_every_output_that_reads_it_and_no_other(device, features, where):
    given = inputs(37, 37, device=device)
    given[where][0, 1, 20, 3] = float("nan")
    out = linear_triton.attention(*given, causal=True, features=features, chunk=16)
    expected = linear.attention(*given, causal=True, features=features)
    assert torch.equal(out.isnan(), expected.isnan())
    assert out.isnan()[0, 1].any(-1).sum() == (1, 17)[where]


@pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("features", linear.FEATURES)
def test_the_compiled_feature_maps_keep_a_nan(features):
    given = inputs(300, 300, K=64, V=64, device="cuda", dtype=torch.bfloat16)
    given[0][0, 0, 5, 1] = given[1][0, 1, 200, 1] = float("nan")
    out = linear_triton.attention(*given, causal=True, features=features)
    expected = linear.attention(*given, causal=True, features=features)
    assert torch.equal(out.isnan(), expected.isnan())


@pytest.mark.parametrize("kind", ["padding", "a key here and there", "closed"])
def test_closed_keys_are_not_written(device, kind):
    mask = {
        "padding": masks.padding(torch.tensor([[37, 0], [16, 3]], device=device), 37),
        "a key here and there": torch.rand(2, 1, 1, 37, device=device) < 0.4,
        "closed": torch.zeros(1, 1, dtype=torch.bool, device=device),
    }[kind]
    assert_near(inputs(37, 37, batch=(2, 2), device=device), mask, decay=0.95)


@pytest.mark.parametrize("chunk", linear_triton.CHUNKS)
@pytest.mark.parametrize("batch", [(), (2,), (1, 2, 1)])
def test_neither_chunks_nor_batch_axes_change_the_result(device, chunk, batch):
    assert_near(inputs(70, 70, V=9, batch=batch, device=device), chunk=chunk, decay=0.8)


def test_a_feature_map_may_be_any_function(device):
    def both(x):
        return torch.cat([x.exp(), (-x).exp()], -1)

    assert_near(inputs(20, 20, K=12, device=device), features=both, scale=0.5)


def test_without_causal_there_are_no_chunks_and_plain_torch_serves(device):
    q, k, v = inputs(7, 9, device=device, dtype=torch.float64)
    assert torch.equal(linear_triton.attention(q, k, v), linear.attention(q, k, v))


def test_constant_values_come_back_and_a_very_fast_decay_hides_no_newest_token(device):
    q, k, v = inputs(70, 70, device=device)
    ones = torch.ones_like(v)
    torch.testing.assert_close(linear_triton.attention(q, k, ones, causal=True, decay=0.7), ones)
    torch.testing.assert_close(linear_triton.attention(q, k, v, causal=True, decay=1e-30), v)


@pytest.mark.parametrize(("T", "S"), [(0, 3), (3, 0)])
def test_an_empty_sequence_gives_an_empty_or_a_zero_result(device, T, S):
    out = linear_triton.attention(*inputs(T, S, V=5, device=device), causal=True)
    assert out.shape == (1, 2, T, 5)
    assert (out == 0).all()


def test_torch_finds_nothing_wrong_with_the_operator(device):
    q, k, v = (x.requires_grad_() for x in inputs(9, 17, device=device))
    mask = torch.rand(1, 2, 17, device=device) < 0.5
    log_decay = -torch.rand(1, 2, 17, device=device)
    given = (q, k, v, mask, log_decay.requires_grad_(), 3, 0.5, "elu", True, 16)
    opcheck(torch.ops.lookback.linear_attention.default, given)


def test_a_second_derivative_is_refused_and_a_first_one_under_create_graph_is_not(device):
    q, k, v = inputs(9, 9, device=device)
    q.requires_grad_()
    out = linear_triton.attention(q, k, v, causal=True)
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    plain = linear.attention(q, k, v, causal=True)
    torch.testing.assert_close(grad, torch.autograd.grad(plain.square().sum(), q)[0])
    with pytest.raises(RuntimeError, match="linear attention have no second derivative"):
        grad.sum().backward()


@pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("decay", [None, 0.99])
@pytest.mark.parametrize("width", [64, 128])
def test_the_compiled_kernels_are_near_plain_torch_at_real_sizes(decay, width):
    given = inputs(3000, 3000, K=width, V=width, device="cuda", dtype=torch.bfloat16)
    assert_near(given, decay=decay, chunk=64)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": "tanh"}, "unknown features 'tanh'; choose one of elu, relu, exp, identity"),
        ({"decay": 1.5}, r"decay must lie in \(0, 1\], but runs from 1.5 to 1.5"),
        ({"decay": 0.5, "offset": 2}, "known for 5 keys, .* as far as 5"),
        ({"mask": torch.ones(4, 5).bool()}, r"\(4, 5\) tells queries apart"),
        ({"q": torch.randn(2, 4, 7)}, "queries have width 7 but keys have width 8"),
        ({"chunk": 48}, "chunks of 16, 32, 64, 128 tokens, got 48"),
        (
            {n: torch.randn(2, 5, 8).half() for n in "qkv"},
            "float32 and bfloat16, got torch.float16",
        ),
        (
            {n: torch.randn(2, 5, 130) for n in "qk"},
            r"1 to 128 features and values, got 130 and 8;",
        ),
    ],
)
def test_the_kernels_name_what_they_cannot_serve(device, change, message):
    given = {"q": torch.randn(2, 4, 8), "k": torch.randn(2, 5, 8), "v": torch.randn(2, 5, 8)}
    given = {
        name: x.to(device) if isinstance(x, torch.Tensor) else x
        for name, x in (given | change).items()
    }
    with pytest.raises(ValueError, match=message):
        linear_triton.attention(**given, causal=True)


def test_where_there_is_no_gpu_they_say_so(monkeypatch):
    monkeypatch.setattr("lookback.efficient.flash_triton.INTERPRETED", False)
    x = torch.randn(2, 4, 8)
    with pytest.raises(ValueError, match=r"runs on a CUDA GPU, but q is on cpu; .*linear computes"):
        linear_triton.attention(x, x, x, causal=True)
