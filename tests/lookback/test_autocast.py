"""Layers and models under autocast, where some tensors are halved and others are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lookback import masks, recurrent
from lookback.attention import (
    ALIGNMENTS,
    KERNELS,
    MultiHeadAttention,
    alignment,
    attention_weights,
    scaled_dot_product_attention,
)
from lookback.efficient.cache import Cache
from lookback.positions import Rotary, alibi
from lookback.seq2seq import CELLS, Encoder, Seq2Seq
from lookback.transformer import Config, DecoderOnly, EncoderDecoder, EncoderOnly
from lookback.transformer.config import POSITIONS

HALVES = [torch.bfloat16, torch.float16]
LENGTHS = torch.tensor([5, 3])


def near(found: Tensor, exact: Tensor, within: float = 0.05) -> None:
    """Three digits or so, which is what bfloat16 has."""
    torch.testing.assert_close(found.to(exact), exact, rtol=0.0, atol=within)


def assert_learns_near(learning, run, device: torch.device, half: torch.dtype) -> None:
    """Outputs and gradients under autocast are those without, to the digits that it keeps."""
    learning = list(learning.parameters()) if isinstance(learning, nn.Module) else learning
    exact = run()
    wanted = torch.autograd.grad(exact.square().mean(), learning, allow_unused=True)
    with torch.autocast(device.type, dtype=half):
        found = run()
    near(found, exact)
    gradients = torch.autograd.grad(found.float().square().mean(), learning, allow_unused=True)
    for gradient, expected in zip(gradients, wanted, strict=True):
        assert (gradient is None) == (expected is None)
        if gradient is not None:
            near(gradient, expected, 1e-3 + 0.1 * float(expected.abs().max()))


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("kernel", ["reference", "sdpa"])
def test_a_bias_in_float32_joins_scores_of_any_dtype(device, kernel, halved, half):
    inputs = [torch.randn(2, 4, 5, 8, device=device) for _ in range(3)]
    bias, mask = alibi(4, 5, device=device), masks.causal(5, device=device)
    exact = scaled_dot_product_attention(*inputs, mask, bias=bias, kernel=kernel)
    wanted = attention_weights(*inputs[:2], mask, bias=bias)
    if halved:  # as a projection under autocast leaves them
        inputs = [x.to(half) for x in inputs]
    with torch.autocast(device.type, dtype=half):
        near(scaled_dot_product_attention(*inputs, mask, bias=bias, kernel=kernel), exact)
        near(attention_weights(*inputs[:2], mask, bias=bias), wanted)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"rotary": Rotary(4)}])
def test_multi_head_attention_learns_under_autocast(device, kernel, kv_heads, options, half):
    layer = MultiHeadAttention(16, 4, kv_heads=kv_heads, kernel=kernel, **options).to(device)
    x, source = torch.randn(2, 5, 16, device=device), torch.randn(2, 7, 16, device=device)
    mask = masks.padding(LENGTHS.to(device), 5)
    assert_learns_near(layer, lambda: layer(x, mask=mask, causal=True), device, half)
    assert_learns_near(layer, lambda: layer(x, source), device, half)
    with torch.no_grad(), torch.autocast(device.type, dtype=half):
        store, exact = Cache(5), layer(x, causal=True)
        pieces = [layer(piece, cache=store, causal=True) for piece in x.split([3, 1, 1], 1)]
    near(torch.cat(pieces, 1), exact)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", ALIGNMENTS)
def test_every_lookup_learns_under_autocast_whichever_of_its_inputs_is_halved(device, name, half):
    layer = alignment(name, 8, 8, window=2).to(device)
    query, memory = torch.randn(2, 3, 8, device=device), torch.randn(2, 5, 8, device=device)
    mask = masks.padding(LENGTHS.to(device), 5)
    for one, other in ((query, memory), (query.to(half), memory), (query, memory.to(half))):
        with torch.autocast(device.type, dtype=half):
            context, weights = layer(one, other, mask)
        exact, wanted = layer(one.float(), other.float(), mask)
        near(context, exact), near(weights, wanted)
    learning = [*layer.parameters(), query.requires_grad_(), memory.requires_grad_()]
    assert_learns_near(learning, lambda: layer(query, memory, mask)[0], device, half)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("cell", [recurrent.RNN, recurrent.LSTM, recurrent.GRU])
def test_every_recurrence_learns_under_autocast(device, cell, half):
    layer = cell(3, 4, 2, bidirectional=True).to(device)
    x, lengths = torch.randn(2, 5, 3, device=device), LENGTHS.to(device)
    assert_learns_near(layer, lambda: layer(x, None, lengths)[0], device, half)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("family", [EncoderOnly, DecoderOnly, EncoderDecoder])
@pytest.mark.parametrize("choices", [{}, {"kv_heads": 2, "qk_norm": True, "activation": "swiglu"}])
def test_every_family_learns_and_writes_under_autocast(device, family, positions, choices, half):
    model = family(Config(vocabulary=11, D=16, positions=positions, **choices)).to(device)
    tokens, lengths = torch.randint(11, (2, 5), device=device), LENGTHS.to(device)
    given = {EncoderOnly: (tokens, lengths), DecoderOnly: (tokens,)}
    given = given.get(family, (tokens, tokens, lengths))
    assert_learns_near(model, lambda: model(*given), device, half)
    exact = model.maps(*given)[-1]
    with torch.autocast(device.type, dtype=half):
        found = model.maps(*given)[-1]
    if family is EncoderDecoder:
        near(found[1], exact[1])
        exact, found = exact[0], found[0]
    near(found, exact)
    if family is not EncoderOnly:
        start = () if family is DecoderOnly else (tokens, lengths)
        with torch.no_grad(), torch.autocast(device.type, dtype=half):
            state, whole = model.begin(*start, capacity=5), model(*given)
            steps = [model.step(piece, state) for piece in tokens.split([3, 1, 1], 1)]
        near(torch.stack(steps, 1), whole[:, 2:])


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", [None, *ALIGNMENTS])
@pytest.mark.parametrize(
    "choices", [{"order": "bahdanau"}, {"order": "luong"}, {"context": "once"}]
)
def test_every_score_and_cell_learns_and_writes_under_autocast(
    device, attention, cell, choices, half
):
    model = Seq2Seq(11, 11, embedding=8, hidden=8, cell=cell, attention=attention, **choices)
    skip_where_torch_has_no_kernel(model.encoder, device, half)
    model = model.to(device)
    tokens, lengths = torch.randint(11, (2, 5), device=device), LENGTHS.to(device)
    assert_learns_near(model, lambda: model(tokens, tokens, lengths)[0], device, half)
    with torch.no_grad(), torch.autocast(device.type, dtype=half):
        state, whole = model.begin(tokens, lengths), model(tokens, tokens, lengths)[0]
        steps = [model.step(piece, state) for piece in tokens.split([3, 1, 1], 1)]
        near(torch.stack(steps, 1), whole[:, 2:])
        assert model(tokens, tokens, lengths, forcing=0.0)[0].isfinite().all()


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("cell", CELLS)
def test_input_feeding_runs_under_autocast(device, cell, half):
    model = Seq2Seq(11, 11, hidden=8, cell=cell, attention="general", input_feeding=True)
    skip_where_torch_has_no_kernel(model.encoder, device, half)
    model, tokens = model.to(device), torch.randint(11, (2, 5), device=device)
    assert_learns_near(model, lambda: model(tokens, tokens)[0], device, half)


def skip_where_torch_has_no_kernel(encoder: Encoder, device: torch.device, half: torch.dtype):
    """An LSTM in float16 needs instructions that few processors have."""
    if device.type == "cpu" and half == torch.float16 and encoder.rnn.mode == "LSTM":
        pytest.skip("torch's LSTM runs in float16 on few processors")
