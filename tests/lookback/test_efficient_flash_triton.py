"""The Triton kernels against the whole matrix in float64: interpreted, or on a GPU."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.library import opcheck

from attention_cases import assert_same, tensors
from conftest import tolerance
from launch import launch
from lookback import masks
from lookback.attention import scaled_dot_product_attention
from lookback.efficient import flash_triton, reference
from lookback.efficient.grouped import repeat_heads

triton_processes = pytest.importorskip("triton_processes", reason="Triton is for Linux")
triton, tuning = triton_processes.triton, triton_processes.tuning

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# The interpreter's tiles are 16 × 16: full ones, partly filled ones, one query, few keys
SHAPES = [(32, 32), (37, 23), (20, 53), (1, 19), (33, 5)]


@pytest.fixture(autouse=True)
def _runs_here(device):
    if device.type == "cpu" and not flash_triton.INTERPRETED:
        pytest.skip("on a GPU's machine the interpreter runs where TRITON_INTERPRET=1 asks for it")


@pytest.fixture
def tiles(monkeypatch):
    """Set the sizes of tiles of all three kernels."""

    def set_(T, S):
        config = triton.Config({"BLOCK_T": T, "BLOCK_S": S}, num_warps=4, num_stages=1)
        for kernel in triton_processes.KERNELS.values():
            monkeypatch.setattr(kernel, "configs", [config])

    return set_


@pytest.fixture
def poisoned():
    """Fresh memory that is full of NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(0).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def on(device, arguments: dict) -> dict:
    """The same arguments, tensors of the CPU moved to the device."""
    return {
        name: x.to(device) if isinstance(x, torch.Tensor) and x.device.type == "cpu" else x
        for name, x in arguments.items()
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("T", "S"), SHAPES)
def test_the_kernel_matches_the_reference_for_lengths_that_do_not_fill_a_tile(
    device, dtype, causal, T, S
):
    def ours(q, k, v):
        return flash_triton.attention(q, k, v, causal=causal)

    def exact(q, k, v):
        return reference.attention(q, k, v, causal=causal)

    assert_same(ours, exact, tensors(T, S, K=16, V=16, batch=(1, 2), device=device, dtype=dtype))


@pytest.mark.parametrize("offset", [-40, -3, 7, 16, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_places_its_queries_by_the_offset(device, dtype, offset):
    def ours(q, k, v):
        return flash_triton.attention(q, k, v, causal=True, offset=offset)

    def exact(q, k, v):
        return reference.attention(q, k, v, causal=True, offset=offset)

    assert_same(ours, exact, tensors(20, 37, K=16, batch=(1, 1), device=device, dtype=dtype))


@pytest.mark.parametrize(
    "kind",
    ["padding", "left padding", "a key here and there", "closed", "one word for all", "in strides"],
)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.usefixtures("poisoned")
def test_closed_keys_receive_nothing_and_give_nothing(device, kind, causal):
    S = 37
    mask = {
        "padding": masks.padding(torch.tensor([[S, 0], [16, 3]], device=device), S),
        "left padding": (torch.arange(S, device=device) >= 20)[None],
        "a key here and there": torch.rand(2, 1, 1, S, device=device) < 0.4,
        "closed": torch.zeros(1, 1, dtype=torch.bool, device=device),
        # what lies beside these masks in memory is not theirs
        "one word for all": torch.eye(2, S, dtype=torch.bool, device=device)[:, None, None, :1],
        "in strides": (torch.rand(2, 1, 1, 2 * S, device=device) < 0.4)[..., ::2],
    }[kind]

    def ours(q, k, v):
        return flash_triton.attention(q, k, v, mask, causal=causal)

    def exact(q, k, v):
        return reference.attention(q, k, v, mask, causal=causal)

    assert_same(ours, exact, tensors(20, S, batch=(2, 2), device=device, dtype=torch.float32))


@pytest.mark.parametrize(("width", "offset"), [(1, 0), (5, 0), (17, 21), (17, -9), (100, 0)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.usefixtures("poisoned")
def test_a_window_is_the_mask_of_a_window(device, width, offset, causal):
    near = masks.window(33, 53, width=width, causal=causal, offset=offset, device=device)

    def ours(q, k, v):
        return flash_triton.attention(q, k, v, causal=causal, offset=offset, window=width)

    def exact(q, k, v):
        return reference.attention(q, k, v, near)

    assert_same(ours, exact, tensors(33, 53, batch=(1, 1), device=device, dtype=torch.float32))


@pytest.mark.parametrize("G", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_groups_of_query_heads_share_their_keys(device, G, masked):
    mask = masks.padding(torch.tensor([29, 13], device=device), 29)[:, None] if masked else None
    q, _, _ = tensors(20, 29, K=16, batch=(2, 4), device=device, dtype=torch.float32)
    _, k, v = tensors(20, 29, K=16, batch=(2, G), device=device, dtype=torch.float32)

    def ours(q, k, v):
        return flash_triton.attention(q, k, v, mask, causal=True, offset=9)

    def exact(q, k, v):
        k, v = (repeat_heads(x, 4) for x in (k, v))
        return reference.attention(q, k, v, mask, causal=True, offset=9)

    assert_same(ours, exact, [q, k, v])


@pytest.mark.parametrize(("K", "V"), [(1, 1), (8, 33), (24, 40), (64, 128), (128, 64), (100, 100)])
@pytest.mark.usefixtures("poisoned")
def test_widths_need_not_be_powers_of_two_nor_equal(device, K, V):
    def ours(q, k, v):
        return flash_triton.attention(q, k, v, causal=True)

    def exact(q, k, v):
        return reference.attention(q, k, v, causal=True)

    inputs = tensors(21, 21, K=K, V=V, batch=(2,), device=device, dtype=torch.float32)
    assert_same(ours, exact, inputs)


@pytest.mark.parametrize(("T", "S"), [(32, 16), (16, 32), (64, 16), (16, 64)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 19])
def test_the_size_of_tiles_changes_nothing(device, tiles, T, S, causal, window):
    tiles(T, S)
    near = masks.window(75, 90, width=window or 200, causal=causal, offset=5, device=device)
    mask = torch.arange(90, device=device) < 71

    def ours(q, k, v):
        return flash_triton.attention(q, k, v, mask, causal=causal, offset=5, window=window)

    def exact(q, k, v):
        return reference.attention(q, k, v, near & mask)

    assert_same(ours, exact, tensors(75, 90, batch=(1, 1), device=device, dtype=torch.float32))


@pytest.mark.parametrize("batch", [(), (2,), (2, 1, 2)])
@pytest.mark.parametrize("scale", [None, 0.3, -0.3, 0.0])
def test_any_batch_axes_and_any_scale_do(device, batch, scale):
    def ours(q, k, v):
        return flash_triton.attention(q, k, v, scale=scale)

    def exact(q, k, v):
        return reference.attention(q, k, v, scale=scale)

    assert_same(ours, exact, tensors(5, 17, batch=batch, device=device, dtype=torch.float32))


@pytest.mark.usefixtures("poisoned")
def test_a_query_with_nothing_to_attend_to_gets_zeros_and_sends_none(device):
    q, k, v = tensors(20, 9, batch=(1, 1), device=device, dtype=torch.float32)
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    out = flash_triton.attention(q, k, v, causal=True, offset=-6)
    assert (out[..., :6, :] == 0).all()
    assert (out[..., 6:, :] != 0).all()
    gradients = torch.autograd.grad(out[..., :6, :].sum(), (q, k, v))
    assert all((g == 0).all() for g in gradients)


@pytest.mark.parametrize(("T", "S"), [(0, 3), (3, 0)])
def test_an_empty_sequence_gives_an_empty_or_a_zero_result(device, T, S):
    q, k, v = tensors(T, S, device=device, dtype=torch.float32)
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    out = flash_triton.attention(q, k, v)
    assert out.shape == (2, 3, T, 5)
    assert (out == 0).all()
    assert all((g == 0).all() for g in torch.autograd.grad(out.sum(), (q, k, v)))


def test_scores_that_rise_from_tile_to_tile_rescale_what_is_summed_already(device):
    q = torch.ones(1, 16, device=device) / 16
    k = torch.linspace(0, 300, 60, device=device)[:, None].expand(60, 16).contiguous()
    v = torch.arange(60.0, device=device)[:, None]
    expected = reference.attention(q.double(), k.double(), v.double()).float()
    torch.testing.assert_close(flash_triton.attention(q, k, v), expected, rtol=1e-5, atol=1e-5)
    assert flash_triton.attention(q, -k, v).isfinite().all()


def test_nan_in_a_query_shows_in_its_own_row_only(device):
    q, k, v = tensors(20, 23, batch=(1, 1), device=device, dtype=torch.float32)
    q[..., 2, :] = float("nan")
    for mask in (None, torch.arange(23, device=device) < 20):
        out = flash_triton.attention(q, k, v, mask)
        assert out[..., 2, :].isnan().all()
        assert out[..., torch.arange(20) != 2, :].isfinite().all()


def test_the_saved_log_sum_exp_is_that_of_the_scores_to_base_2(device):
    q, k, v = tensors(20, 23, K=16, batch=(1, 1), device=device, dtype=torch.float32)
    _, total = torch.ops.lookback.flash_attention(q, k, v, None, None, -3, 0.5)
    scores = (q.double() @ k.double().mT * 0.5).masked_fill(
        ~masks.causal(20, 23, offset=-3, device=device), float("-inf")
    )
    expected = scores.logsumexp(-1) / torch.tensor(2.0).log()
    expected[expected == float("-inf")] = float("inf")
    torch.testing.assert_close(total.double(), expected, rtol=1e-5, atol=1e-5)


def test_nothing_given_is_changed_and_any_gradient_is_taken(device):
    q, k, v = tensors(9, 17, batch=(1, 2), device=device, dtype=torch.float32)
    mask = torch.arange(17, device=device) < 9
    copies = [x.clone() for x in (q, k, v, mask)]
    out = flash_triton.attention(q.requires_grad_(), k, v, mask)
    out.sum().backward()  # a gradient whose every step is 0
    for x, copy in zip((q, k, v, mask), copies, strict=True):
        assert torch.equal(x, copy)
    exact = q.detach().double().requires_grad_()
    reference.attention(exact, k.double(), v.double(), mask).sum().backward()
    torch.testing.assert_close(q.grad.double(), exact.grad, **tolerance(torch.float32))


def test_what_comes_out_lies_in_memory_as_merging_heads_reads_it(device):
    q, k, v = tensors(9, 17, batch=(2, 3), device=device, dtype=torch.float32)
    out = flash_triton.attention(q, k, v)
    assert out.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("mask", [None, "keys"])
def test_torch_finds_nothing_wrong_with_the_operators(device, mask):
    q, k, v = tensors(9, 17, K=16, V=16, batch=(2, 2), device=device, dtype=torch.float32)
    mask = None if mask is None else torch.rand(2, 1, 17, device=device) < 0.5
    band = (mask, -5, 2, 0.3)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    opcheck(torch.ops.lookback.flash_attention.default, (*inputs, *band))
    with torch.no_grad():
        out, total = torch.ops.lookback.flash_attention(*inputs, *band)
    given = (torch.randn_like(out), *(x.detach() for x in inputs), out, total)
    opcheck(torch.ops.lookback.flash_attention_backward.default, (*given, *band))


def alone(monkeypatch, tmp_path, what: str, *, interpreted: bool) -> str:
    """Run one part of ``triton_processes.py``; return what it printed."""
    monkeypatch.setenv("TRITON_INTERPRET", "1" if interpreted else "0")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    return launch([sys.executable, triton_processes.__file__, what], cwd=tmp_path, timeout=300)


def test_a_compiler_takes_the_kernel_into_its_graph_whole(monkeypatch, tmp_path):
    assert alone(monkeypatch, tmp_path, "graph", interpreted=True).split() == ["traced"] * 2


def test_the_kernels_compile_for_the_gpus_they_are_meant_for(monkeypatch, tmp_path):
    said = alone(monkeypatch, tmp_path, "machine-code", interpreted=False)
    if said.startswith("skipped"):
        pytest.skip(said.strip())
    assert len(said.splitlines()) == 6


def test_under_autocast_inputs_take_its_dtype_as_those_of_torch_do(device):
    q, k, v = tensors(9, 17, K=16, batch=(1, 2), device=device, dtype=torch.float32)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        out = flash_triton.attention(q, k.bfloat16(), v)
    assert out.dtype == torch.bfloat16
    expected = reference.attention(q.double(), k.double(), v.double())
    torch.testing.assert_close(out.double(), expected, rtol=0.02, atol=0.02)


def test_a_second_derivative_is_refused_and_a_first_one_under_create_graph_is_not(device):
    q, k, v = tensors(3, 5, batch=(1, 1), device=device, dtype=torch.float32)
    q.requires_grad_()
    out = flash_triton.attention(q, k, v)
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    (expected,) = torch.autograd.grad(reference.attention(q, k, v).square().sum(), q)
    torch.testing.assert_close(grad, expected)
    with pytest.raises(RuntimeError, match="the attention kernel has no second derivative"):
        grad.sum().backward()


def test_chosen_by_name_it_is_used_where_it_can_be_and_tiles_in_plain_torch_elsewhere(
    device, monkeypatch
):
    used = []
    kernel = flash_triton.attention
    monkeypatch.setattr(
        flash_triton, "attention", lambda *x, **options: used.append(1) or kernel(*x, **options)
    )
    q, k, v = tensors(5, 7, device=device, dtype=torch.float32)
    row, rows = torch.ones(7, dtype=torch.bool), torch.rand(5, 7) < 0.7
    wide = torch.randn(2, 3, 7, 136, device=device)
    for expected, inputs in [
        (1, (q, k, v)),
        (1, (q, k, v, row.to(device))),
        (0, (q, k, v, rows.to(device))),
        (0, (q.double(), k.double(), v.double())),
        (0, (q, k, wide)),
    ]:
        used.clear()
        out = scaled_dot_product_attention(*inputs, kernel="triton")
        assert len(used) == expected
        torch.testing.assert_close(out, reference.attention(*inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.randn(2, 4, 7)}, "queries have width 7 but keys have width 8"),
        ({"k": torch.randn(2, 6, 8)}, "there are 6 keys but 5 values"),
        ({"v": torch.randn(1, 5, 8)}, "the batch axes differ"),
        ({"q": torch.randn(3, 4, 8)}, "3 query heads cannot share 2 heads of keys and values"),
        ({"q": torch.ones(2, 4, 8).long()}, "q must be floating point"),
        ({"mask": torch.ones(1, 5)}, "a mask must be boolean"),
        ({"mask": torch.ones(6).bool()}, r"\(6,\) does not broadcast"),
        ({"mask": torch.ones(4, 5).bool()}, r"\(4, 5\) tells queries apart; .*tiled computes"),
        (
            {"q": torch.randn(4, 4, 8), "mask": torch.ones(4, 1, 5).bool()},
            r"\(4, 1, 5\) tells apart heads that share keys",
        ),
        ({"window": 0}, "a window needs a width of at least 1, got 0"),
        ({n: torch.randn(2, 5, 8).double() for n in "qkv"}, "takes float32, .*got torch.float64"),
        ({"v": torch.randn(2, 5, 130)}, "widths of 1 to 128, values have 130; .*tiled"),
        ({n: torch.randn(2, 5, 256) for n in "qk"}, "queries and keys have 256; .*tiled"),
        ({"k": torch.randn(2, 5, 8, device="meta")}, "not all of k, v and mask"),
    ],
)
def test_the_kernel_names_what_it_cannot_serve(device, change, message):
    inputs = {"q": torch.randn(2, 4, 8), "k": torch.randn(2, 5, 8), "v": torch.randn(2, 5, 8)}
    with pytest.raises(ValueError, match=message):
        flash_triton.attention(**on(device, inputs | change))


def test_where_there_is_no_triton_or_no_gpu_or_an_old_one_it_says_so(monkeypatch):
    x = torch.randn(2, 4, 8)
    monkeypatch.setattr(flash_triton, "INTERPRETED", False)
    with pytest.raises(ValueError, match=r"runs on a CUDA GPU, but q is on cpu; .*tiled"):
        flash_triton.attention(x, x, x)
    torch.testing.assert_close(
        scaled_dot_product_attention(x, x, x, kernel="triton"), reference.attention(x, x, x)
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    on_gpu = torch.empty(2, 4, 8, device="meta")
    monkeypatch.setattr(torch.Tensor, "device", torch.device("cuda:0"))
    assert "compute capability 8.0 or later, this GPU has 7.5" in flash_triton.refusal(
        on_gpu, on_gpu, on_gpu
    )
    monkeypatch.undo()
    monkeypatch.setattr(flash_triton, "INSTALLED", False)
    with pytest.raises(ValueError, match=r"Triton is not installed \(pip install"):
        flash_triton.attention(x, x, x)


@pytest.mark.parametrize("kernel", ["FORWARD", "QUERIES", "KEYS"])
@pytest.mark.parametrize("bytes_", [2, 4])
@pytest.mark.parametrize("width", [16, 64, 128])
def test_tiles_are_kept_that_fit_a_device_and_the_data(kernel, bytes_, width):
    configs = [
        triton.Config({"BLOCK_T": t, "BLOCK_S": s}, num_warps=8, num_stages=2)
        for t, s in ((16, 32), (32, 32), (64, 64), (128, 128), (512, 512))
    ]
    q = torch.empty(1, dtype=torch.float32 if bytes_ == 4 else torch.bfloat16)
    sizes = {"Q": q, "PADDED_K": width, "PADDED_V": width}

    def kept(T, S, room):
        found = tuning.fit(configs, kernel, room=room, T=T, S=S, **sizes, H=1)
        return [(c.kwargs["BLOCK_T"], c.kwargs["BLOCK_S"]) for c in found]

    assert kept(4096, 4096, 0) == kept(1, 1, 10**6) == [(16, 32)]
    assert kept(40, 40, 10**6) == [(16, 32), (32, 32), (64, 64)][: 3 if bytes_ == 2 else 2]
    assert (512, 512) not in kept(4096, 4096, 2 * 512 * width * bytes_)
