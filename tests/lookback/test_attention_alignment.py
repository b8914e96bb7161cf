"""Additive, Luong's and local attention against their equations, written out pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from conftest import tolerance
from lookback import masks
from lookback.attention import (
    ALIGNMENTS,
    AdditiveAttention,
    ConcatAttention,
    DotAttention,
    GeneralAttention,
    LocalAttention,
    Lookup,
    alignment,
)

B, T, S, DQ, DM = 2, 3, 5, 6, 6


def pair_score(layer: Lookup, query: torch.Tensor, entry: torch.Tensor) -> torch.Tensor:
    """The score of one query and one entry, as each paper writes it."""
    if isinstance(layer, AdditiveAttention):
        return layer.v_a.weight[0] @ torch.tanh(layer.W_a.weight @ query + layer.U_a.weight @ entry)
    if isinstance(layer, ConcatAttention):
        return layer.v_a.weight[0] @ torch.tanh(layer.W_a.weight @ torch.cat([query, entry]))
    if isinstance(layer, GeneralAttention):
        return query @ layer.W_a.weight @ entry
    return query @ entry


def by_hand(layer: Lookup, query, memory, lengths, offset=0):
    """Weights of one batch by loops over rows, queries and entries; padding left out altogether."""
    weights = torch.zeros(len(query), query.shape[1], memory.shape[1], dtype=query.dtype)
    local = isinstance(layer, LocalAttention)
    score = layer.score if local else layer
    for b, length in enumerate(lengths):
        for t in range(query.shape[1]):
            h, inside, centre = query[b, t], list(range(length)), None
            if local and layer.W_p is not None:
                share = layer.v_p.weight[0] @ torch.tanh(layer.W_p.weight @ h)
                centre = length * torch.sigmoid(share)
            elif local:
                centre = torch.tensor(float(t + offset))
            if local:
                inside = [s for s in inside if abs(s - centre.item()) <= layer.window]
            if not inside:
                continue
            scores = torch.stack([pair_score(score, h, memory[b, s]) for s in inside])
            for s, w in zip(inside, scores.softmax(0), strict=True):
                fade = 1.0
                if local and layer.W_p is not None:
                    sigma = layer.window / 2
                    fade = torch.exp(-((s - centre) ** 2) / (2 * sigma**2))
                weights[b, t, s] = w * fade
    return weights


@pytest.mark.parametrize("name", ALIGNMENTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_and_context_are_those_of_the_equation_pair_by_pair(device, name, dtype):
    layer = alignment(name, DQ, DM, width=4, window=2).to(device, dtype)
    query = torch.randn(B, T, DQ, device=device, dtype=dtype)
    memory = torch.randn(B, S, DM, device=device, dtype=dtype)
    lengths = torch.tensor([S, 3], device=device)
    context, weights = layer(query, memory, masks.padding(lengths, S))

    expected = by_hand(layer.double().cpu(), query.double().cpu(), memory.double().cpu(), [S, 3])
    close = tolerance(dtype) if dtype != torch.bfloat16 else {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(weights.double().cpu(), expected, **close)
    torch.testing.assert_close(context.double().cpu(), expected @ memory.double().cpu(), **close)
    assert context.dtype == weights.dtype == dtype


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_all_queries_at_once_equal_one_query_at_a_time(name):
    layer = alignment(name, DQ, DM, window=1)
    query, memory = torch.randn(B, T, DQ), torch.randn(B, S, DM)
    keys = layer.keys(memory)
    context, weights = layer(query, memory)
    for t in range(T):
        one, row = layer(query[:, t : t + 1], memory, keys=keys, offset=t)
        torch.testing.assert_close(one, context[:, t : t + 1])
        torch.testing.assert_close(row, weights[:, t : t + 1])


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_keys_at_hand_are_read_and_not_made_again(name):
    layer = alignment(name, DQ, DM, window=1)
    query, memory, other = torch.randn(B, T, DQ), torch.randn(B, S, DM), torch.randn(B, S, DM)
    weights = layer(query, memory, keys=layer.keys(other))[1]
    torch.testing.assert_close(weights, layer(query, other)[1])


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_gradients_of_query_memory_and_parameters_pass_gradcheck(name):
    layer = alignment(name, 3, 3, window=2).double()
    query = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    names = [n for n, _ in layer.named_parameters()]
    parameters = list(layer.parameters())

    def look(query, memory, *values):
        replaced = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, replaced, (query, memory))

    assert torch.autograd.gradcheck(look, (query, memory, *parameters))


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_padding_changes_neither_context_nor_the_weights_of_real_entries(name):
    layer = alignment(name, DQ, DM, window=2)
    query, memory = torch.randn(1, T, DQ), torch.randn(1, 4, DM)
    context, weights = layer(query, memory)
    padded = torch.cat([memory, torch.full((1, 3, DM), 50.0)], 1)
    again, wider = layer(query, padded, masks.padding(torch.tensor([4]), 7))
    torch.testing.assert_close(again, context)
    torch.testing.assert_close(wider[..., :4], weights)
    assert (wider[..., 4:] == 0).all()


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_a_memory_without_open_entries_gives_zero_context_and_zero_gradient(name):
    layer = alignment(name, DQ, DM)
    query, memory = torch.randn(2, T, DQ, requires_grad=True), torch.randn(2, S, DM)
    context, weights = layer(query, memory, masks.padding(torch.tensor([S, 0]), S))
    assert (context[1] == 0).all()
    assert (weights[1] == 0).all()
    grads = torch.autograd.grad(
        context[1].sum() + weights[1].sum(), [query, *layer.parameters()], allow_unused=True
    )
    assert all(g is None or (g == 0).all() for g in grads)


@given(st.sampled_from(ALIGNMENTS), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_rows_sum_to_one_unless_empty_and_local_p_to_at_most_one(name, T, S, seed):
    generator = torch.Generator().manual_seed(seed)
    layer = alignment(name, 4, 4, window=2)
    query, memory = (torch.randn(2, n, 4, generator=generator) for n in (T, S))
    mask = torch.rand(2, T, S, generator=generator) < 0.6
    weights = layer(query, memory, mask)[1]
    assert (weights[~mask] == 0).all()
    total = weights.sum(-1)
    if name == "local-p":
        assert (total <= 1 + 1e-6).all()
    else:
        open_ = mask
        if name == "local-m":
            open_ = mask & masks.window(T, S, width=3, causal=False)
        torch.testing.assert_close(total, open_.any(-1).float())


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("additive", {"W_a.weight": 5 * 3, "U_a.weight": 5 * 4, "v_a.weight": 5}),
        ("concat", {"W_a.weight": 5 * (3 + 4), "v_a.weight": 5}),
        ("general", {"W_a.weight": 3 * 4}),
        ("local-m", {"score.W_a.weight": 3 * 4}),
        ("local-p", {"score.W_a.weight": 3 * 4, "W_p.weight": 3 * 3, "v_p.weight": 3}),
    ],
)
def test_parameters_are_those_of_the_equation_and_no_bias(name, sizes):
    layer = alignment(name, 3, 4, width=5)
    assert {n: p.numel() for n, p in layer.named_parameters()} == sizes


@pytest.mark.parametrize("name", ["local-m", "local-p"])
def test_the_width_of_the_score_goes_through_a_window(name):
    inner = alignment(name, 3, 4, width=5, score="concat").score
    assert isinstance(inner, ConcatAttention)
    assert inner.W_a.weight.shape == (5, 3 + 4)


def test_concat_is_additive_attention_with_its_two_matrices_side_by_side():
    additive, concat = AdditiveAttention(4, 6, width=5), ConcatAttention(4, 6, width=5)
    concat.W_a.weight.data = torch.cat([additive.W_a.weight, additive.U_a.weight], 1).data
    concat.v_a.load_state_dict(additive.v_a.state_dict())
    query, memory = torch.randn(2, 3, 4), torch.randn(2, 5, 6)
    torch.testing.assert_close(concat(query, memory), additive(query, memory))


def test_general_with_the_identity_is_dot():
    general = GeneralAttention(4, 4)
    nn.init.eye_(general.W_a.weight)
    query, memory = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    torch.testing.assert_close(general(query, memory), DotAttention(4, 4)(query, memory))


def test_local_m_is_its_score_behind_a_window_mask():
    layer = alignment("local-m", 4, 4, window=2, score="dot")
    query, memory = torch.randn(2, 4, 4), torch.randn(2, 9, 4)
    windowed = DotAttention(4, 4)(query, memory, masks.window(4, 9, width=3, causal=False))
    torch.testing.assert_close(layer(query, memory), windowed)


def test_local_m_sees_nothing_where_the_target_outruns_the_source():
    layer = alignment("local-m", 4, 4, window=1)
    weights = layer(torch.randn(1, 5, 4), torch.randn(1, 2, 4))[1]
    assert (weights[0, :3].sum(-1) > 0.99).all()
    assert (weights[0, 3:] == 0).all()


def test_local_m_stands_at_the_positions_of_its_queries():
    layer = alignment("local-m", 4, 4)
    query = torch.randn(2, 3, 4)
    assert layer.position(query, None, 9).tolist() == [[0, 1, 2]] * 2
    assert layer.position(query, None, 9, offset=4).tolist() == [[4, 5, 6]] * 2


@pytest.mark.parametrize("name", ["local-m", "local-p"])
def test_positions_are_counted_in_float32_where_the_queries_are_bfloat16(name):
    layer = alignment(name, 4, 4).bfloat16()
    query = torch.randn(1, 3, 4).bfloat16()
    place = layer.position(query, None, 1000, offset=300)
    assert place.dtype == torch.float32
    if name == "local-m":
        assert place.tolist() == [[300, 301, 302]]  # bfloat16 knows 300 and 302 alone


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_what_a_lookup_makes_follows_its_inputs_and_not_the_default_device(name):
    layer = alignment(name, 4, 4, window=2)
    query, memory = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    mask = masks.padding(torch.tensor([5, 3]), 5)
    expected = layer(query, memory, mask)
    with torch.device("meta"):
        found = layer(query, memory, mask)
    torch.testing.assert_close(found, expected)


def test_a_window_predicts_its_place_and_reaches_ten_positions_unless_told():
    local = LocalAttention(DotAttention(4, 4))
    assert local.v_p is not None
    assert local.window == 10 == alignment("local-m", 4, 4).window


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_widths_of_one_are_enough(name):
    layer = alignment(name, 1, 1, width=1, window=1)
    context, _ = layer(torch.randn(1, 2, 1), torch.randn(1, 3, 1))
    assert context.shape == (1, 2, 1)


def test_local_p_centres_on_a_real_position_that_its_gradient_reaches():
    layer = alignment("local-p", 4, 4, window=4, score="dot")
    nn.init.zeros_(layer.v_p.weight)  # σ(0) = ½: the middle of every sentence
    query, memory = torch.randn(1, 1, 4), torch.ones(1, 7, 4)  # all entries alike
    mask = masks.padding(torch.tensor([5]), 7)
    assert float(layer.position(query, mask, 7).detach()) == 2.5
    weights = layer(query, memory, mask)[1]
    expected = [math.exp(-((s - 2.5) ** 2) / 8) / 5 for s in range(5)]
    torch.testing.assert_close(weights[0, 0, :5], torch.tensor(expected))
    (slope,) = torch.autograd.grad(weights[0, 0, 0], layer.v_p.weight)
    assert slope.abs().max() > 1e-4


def test_nan_in_one_query_shows_in_its_own_rows_only():
    query, memory = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    query[0, 1] = float("nan")
    for name in ("additive", "dot", "general", "concat"):
        context = alignment(name, 4, 4)(query, memory)[0]
        assert context[0, 1].isnan().all()
        assert context[1].isfinite().all()
        assert context[0, [0, 2]].isfinite().all()


X = torch.randn(2, 3, 4)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: alignment("soft", 4, 4), "unknown attention 'soft'; choose one of additive, dot"),
        (
            lambda: alignment("dot", 4, 6),
            "equal widths, got 4 and 6: the general score maps one to the other$",
        ),
        (lambda: alignment("additive", 0, 4), "at least 1, got 0 and 4"),
        (lambda: alignment("additive", 4, 0), "at least 1, got 4 and 0"),
        (lambda: alignment("additive", 4, 4, width=0), "1 hidden unit, got 0"),
        (lambda: alignment("concat", 4, 4, width=0), "1 hidden unit, got 0"),
        (lambda: alignment("local-p", 4, 4, window=0), "at least 1 position, got 0"),
        (lambda: alignment("local-p", 4, 4, score="local-m"), "a window cannot hold another"),
        (lambda: alignment("dot", 4, 4)(X[0], X), r"query needs 3 axes \(B, T, D\), got \(3, 4\)"),
        (lambda: alignment("dot", 4, 4)(X, X[..., :2]), "memory has width 4, got 2$"),
        (lambda: alignment("dot", 4, 4)(X, X[:1]), "2 queries' rows but 1 memories"),
        (lambda: alignment("dot", 4, 4)(X, X[:, :0]), "^the memory is empty: it has 0 entries$"),
        (lambda: alignment("dot", 4, 4)(X.long(), X), "query must be floating point"),
        (lambda: alignment("dot", 4, 4)(X, X.double()), "float32 but the memory torch.float64"),
        (lambda: alignment("dot", 4, 4)(X, X, torch.ones(3, 3)), "a mask must be boolean"),
        *(
            (
                lambda name=name, keys=keys: alignment(name, 4, 4)(X, X, keys=keys),
                rf"keys .* \(2, 3, 4\), got \({keys.shape[0]}, {keys.shape[1]}, {keys.shape[2]}\)",
            )
            for name in ALIGNMENTS
            for keys in (X[:1], X[:, :1], X[..., :1])
        ),
        (
            lambda: alignment("dot", 4, 4)(X, X, torch.ones(3, 4, dtype=torch.bool)),
            "does not broadcast",
        ),
    ],
)
def test_a_lookup_names_what_does_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()
