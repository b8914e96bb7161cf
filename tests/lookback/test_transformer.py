"""Blocks and families against torch's layers, and the properties that each family promises."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch import nn

from conftest import tolerance
from lookback import masks
from lookback.transformer import (
    Block,
    Config,
    LayerNorm,
    RMSNorm,
    Stack,
)

SMALL = Config(vocabulary=11, D=12, H=3, layers=2, hidden=20, max_length=32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["layer", "layer without bias", "rms"])
def test_norms_equal_their_torch_twins_forward_and_backward(device, kind, dtype):
    if kind == "rms":
        ours, theirs = RMSNorm(7, eps=1e-5), nn.RMSNorm(7, eps=1e-5)
    else:
        bias = kind == "layer"
        ours, theirs = LayerNorm(7, bias=bias), nn.LayerNorm(7, bias=bias)
    for p in theirs.parameters():
        nn.init.normal_(p)
    ours.load_state_dict(theirs.state_dict())
    ours, exact = ours.to(device, dtype), theirs.to(device, dtype).double()
    x = (3 + 2 * torch.randn(2, 5, 7, device=device)).to(dtype).requires_grad_()
    wide = x.detach().double().requires_grad_()
    y, expected = ours(x), exact(wide)
    torch.testing.assert_close(y.double(), expected, **tolerance(dtype))
    (mine,) = torch.autograd.grad(y.sum(), x)
    (wanted,) = torch.autograd.grad(expected.sum(), wide)
    torch.testing.assert_close(mine.double(), wanted, **tolerance(dtype))


def test_layer_norm_centres_what_rms_norm_only_scales():
    x = torch.randn(4, 9) + 5
    layer, rms = LayerNorm(9)(x), RMSNorm(9)(x)
    torch.testing.assert_close(layer.mean(-1), torch.zeros(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(rms.square().mean(-1), torch.ones(4), rtol=1e-4, atol=0)
    assert (rms.mean(-1) > 0.9).all()
    big = torch.full((1, 8), 3e4, dtype=torch.float16)  # its square is beyond float16
    assert RMSNorm(8)(big).isfinite().all()


def test_a_norm_reads_one_vector_alone():
    x = torch.randn(3, 4, 6)
    for norm in (LayerNorm(6), RMSNorm(6)):
        torch.testing.assert_close(norm(x)[1:2, 2:3], norm(x[1:2, 2:3]))


def torch_layer(kind: str, pre: bool, activation: str, dtype, bias: bool = True) -> nn.Module:
    layer = nn.TransformerEncoderLayer if kind == "encoder" else nn.TransformerDecoderLayer
    made = layer(
        12, 3, 20, 0.0, activation, batch_first=True, norm_first=pre, bias=bias, dtype=dtype
    )
    for p in made.parameters():  # torch starts its biases and norms at 0 and 1: hide nothing there
        nn.init.normal_(p, std=0.3)
    return made


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("pre", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_block_with_torchs_weights_equals_torchs_layer(dtype, kind, pre, activation, bias):
    theirs = torch_layer(kind, pre, activation, dtype, bias)
    config = replace(SMALL, pre_norm=pre, activation=activation, positions="none", bias=bias)
    ours = Block(config, cross=kind == "decoder").to(dtype)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 12, dtype=dtype, requires_grad=True)
    source = torch.randn(2, 7, 12, dtype=dtype)
    own, across = torch.tensor([5, 3]), torch.tensor([7, 4])
    mask, source_mask = masks.padding(own, 5), masks.padding(across, 7)
    future = ~masks.causal(5)

    if kind == "encoder":
        y = ours(x, mask)
        expected = theirs(x, src_key_padding_mask=~mask[:, 0])
    else:
        y = ours(x, mask, causal=True, source=source, source_mask=source_mask)
        expected = theirs(
            x,
            source,
            tgt_mask=future,
            tgt_key_padding_mask=~mask[:, 0],
            memory_key_padding_mask=~source_mask[:, 0],
        )
    close = tolerance(dtype)
    torch.testing.assert_close(y, expected, **close)
    mine = torch.autograd.grad(y.square().sum(), [x, *ours.parameters()])
    wanted = torch.autograd.grad(expected.square().sum(), [x, *ours_order(theirs, ours)])
    for g, w in zip(mine, wanted, strict=True):
        atol = 16 * close["atol"] * max(1.0, float(w.abs().max()))
        torch.testing.assert_close(g, w, rtol=16 * close["rtol"], atol=atol)


def ours_order(theirs: nn.Module, ours: nn.Module) -> list[nn.Parameter]:
    named = dict(theirs.named_parameters())
    return [named[name] for name, _ in ours.named_parameters()]


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_stack_takes_the_state_dict_of_torchs_stack(kind):
    layer = torch_layer(kind, True, "gelu", torch.float64)
    norm = nn.LayerNorm(12, dtype=torch.float64)
    config = replace(SMALL, positions="none")
    x, source = torch.randn(2, 5, 12).double(), torch.randn(2, 7, 12).double()
    if kind == "encoder":
        theirs = nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)
        ours = Stack(config).double()
        ours.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(ours(x), theirs(x))
    else:
        theirs = nn.TransformerDecoder(layer, 2, norm)
        ours = Stack(config, causal=True, cross=True).double()
        ours.load_state_dict(theirs.state_dict())
        expected = theirs(x, source, tgt_mask=~masks.causal(5))
        torch.testing.assert_close(ours(x, source=source), expected)


def test_a_pre_norm_block_whose_sublayers_give_nothing_is_the_identity():
    block = Block(SMALL)
    for p in (*block.self_attn.out_proj.parameters(), *block.linear2.parameters()):
        nn.init.zeros_(p)
    x = torch.randn(2, 4, 12)
    assert torch.equal(block(x), x)
    post = Block(replace(SMALL, pre_norm=False))
    post.load_state_dict(block.state_dict())
    assert not torch.allclose(post(x), x)


def test_without_residual_connections_only_the_sublayers_output_is_left():
    block = Block(replace(SMALL, residual=False))
    nn.init.zeros_(block.linear2.weight)
    x = torch.randn(2, 4, 12)
    torch.testing.assert_close(block(x), block.linear2.bias.expand(2, 4, 12))


def test_swiglu_is_its_equation():
    block = Block(replace(SMALL, activation="swiglu"))
    x = torch.randn(2, 3, 12)
    first = x @ block.linear1.weight.mT + block.linear1.bias
    gate = x @ block.gate.weight.mT + block.gate.bias
    hidden = first * torch.sigmoid(first) * gate
    expected = hidden @ block.linear2.weight.mT + block.linear2.bias
    torch.testing.assert_close(block.feed_forward(x), expected)


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        SMALL.D = 16


VECTORS = torch.zeros(1, 2, 12)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Config(D=65), "width 65 is not divisible by 4 heads"),
        (lambda: Config(layers=0), "layers must be at least 1, got 0"),
        (lambda: Config(vocabulary=0), "vocabulary must be at least 1, got 0"),
        (lambda: Config(kv_heads=3), "4 heads cannot share 3"),
        (lambda: Config(norm="batch"), "unknown norm 'batch'; choose one of layer, rms"),
        (lambda: Config(activation="tanh"), "unknown activation 'tanh'"),
        (lambda: Config(positions="absolute"), "unknown positions 'absolute'"),
        (lambda: Config(rotary_scaling="log"), "unknown rotary_scaling 'log'"),
        (lambda: Config(vocabulary=5, input_width=5), "either tokens"),
        (lambda: Config(dropout=1.0), r"\[0, 1\), got 1.0"),
        (lambda: Config(eps=0.0), "eps must be positive, got 0.0"),
        (lambda: Config(kernel="warp"), "unknown kernel 'warp'"),
        (lambda: Config(positions="alibi", kernel=max), "takes no bias"),
        (lambda: Config(D=12, H=4, positions="rotary"), "even head width, got 3"),
        (lambda: LayerNorm(0), "at least 1, got 0"),
        (lambda: RMSNorm(0), "at least 1, got 0"),
        (lambda: RMSNorm(4)(torch.zeros(2, 3)), r"width 4, got shape \(2, 3\)"),
        (lambda: LayerNorm(4)(torch.zeros(2, 4).long()), "must be floating point"),
        (
            lambda: Block(SMALL)(torch.zeros(1, 2, 12), source=torch.zeros(1, 2, 12)),
            "reads no source",
        ),
        (lambda: Block(SMALL, cross=True)(torch.zeros(1, 2, 12)), "but none was given"),
    ],
)
def test_a_block_names_what_does_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()
