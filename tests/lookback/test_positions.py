"""Positions against their formulas, and the properties that they are used for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import tolerance
from lookback.positions import (
    SCALINGS,
    LearnedPositions,
    Rotary,
    alibi,
    alibi_slopes,
    sinusoidal,
)


@pytest.mark.parametrize(("T", "D", "offset"), [(5, 6, 0), (3, 7, 4), (1, 1, 9), (0, 4, 0)])
def test_sinusoidal_positions_are_the_sines_and_cosines_of_the_formula(device, T, D, offset):
    table = sinusoidal(T, D, offset=offset, device=device, dtype=torch.float64)
    for t in range(T):
        for i in range(D):
            angle = (t + offset) / 10_000 ** ((i - i % 2) / D)
            wave = math.cos(angle) if i % 2 else math.sin(angle)
            assert float(table[t, i]) == pytest.approx(wave, abs=1e-12)
    assert table.shape == (T, D)


def test_the_first_sinusoidal_position_alternates_zero_and_one():
    assert sinusoidal(1, 6)[0].tolist() == [0, 1, 0, 1, 0, 1]


def test_a_shift_turns_every_sinusoidal_vector_by_the_same_rotation():
    near, far = (sinusoidal(4, 8, offset=n, dtype=torch.float64) for n in (0, 50))
    torch.testing.assert_close(near @ near.mT, far @ far.mT, rtol=0, atol=1e-9)


def test_sinusoidal_positions_stay_exact_a_million_tokens_out():
    far = sinusoidal(1, 2, offset=1_000_001)
    assert float(far[0, 0]) == pytest.approx(math.sin(1_000_001), abs=1e-6)


def test_learned_positions_are_the_rows_of_their_table_and_receive_gradient():
    layer = LearnedPositions(7, 4)
    rows = layer(torch.randn(2, 3, 4), offset=2)
    assert torch.equal(rows, layer.weight[2:5])
    rows.sum().backward()
    assert layer.weight.grad.sum(1).tolist() == [0, 0, 4, 4, 4, 0, 0]


def test_learned_positions_reach_to_their_last_row_and_start_small():
    layer = LearnedPositions(500, 8)
    assert torch.equal(layer(torch.randn(500, 8)), layer.weight)
    assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert LearnedPositions(1, 1)(torch.randn(1, 1)).shape == (1, 1)


def test_any_base_above_one_and_any_factor_from_one_will_do():
    assert sinusoidal(2, 4, base=1.5).shape == (2, 4)
    x = torch.randn(3, 4)
    for scaling in ("linear", "ntk"):  # the factor is 1 unless told, and then changes nothing
        slow = Rotary(4, base=1.5, scaling=scaling)
        torch.testing.assert_close(slow(x), Rotary(4, base=1.5)(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rotary_turns_each_pair_as_a_complex_number(device, dtype):
    x = torch.randn(2, 3, 5, 6, device=device, dtype=dtype)
    turned = Rotary(6)(x, offset=3)
    pairs = torch.view_as_complex(x.double().cpu().unflatten(-1, (3, 2)).contiguous())
    position = torch.arange(3, 8, dtype=torch.float64)[:, None]
    angle = position * 10_000 ** (-torch.arange(0, 6, 2, dtype=torch.float64) / 6)
    expected = torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)
    torch.testing.assert_close(turned.double().cpu(), expected, **tolerance(dtype))
    assert turned.dtype == dtype


@pytest.mark.parametrize("scaling", SCALINGS)
@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_rotary_scores_depend_on_the_distance_alone(scaling, at, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(4, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    rotary = Rotary(8, scaling=scaling, factor=4.0, trained_length=64)
    here = rotary(q, at) @ rotary(k, at).mT
    there = rotary(q, at + shift) @ rotary(k, at + shift).mT
    torch.testing.assert_close(here, there, rtol=0, atol=1e-9)
    moved = rotary(q, at + 1) @ rotary(k, at).mT
    assert (moved - here).abs().max() > 1e-6


def test_rotary_keeps_the_length_of_every_pair_and_leaves_position_zero_alone():
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    turned = Rotary(8)(x)
    pairs, before = turned.unflatten(-1, (4, 2)), x.unflatten(-1, (4, 2))
    torch.testing.assert_close(pairs.norm(dim=-1), before.norm(dim=-1))
    assert torch.equal(turned[:, 0], x[:, 0])


def test_linear_scaling_puts_position_s_t_where_position_t_was():
    x = torch.randn(1, 6, dtype=torch.float64)
    torch.testing.assert_close(
        Rotary(6, scaling="linear", factor=4.0)(x, offset=20), Rotary(6)(x, offset=5)
    )


def test_ntk_scaling_keeps_the_fastest_pair_and_interpolates_the_slowest_in_full():
    plain, scaled = Rotary(16), Rotary(16, scaling="ntk", factor=8.0)
    ratio = plain.frequencies() / scaled.frequencies()
    assert float(ratio[0]) == pytest.approx(1)
    assert float(ratio[-1]) == pytest.approx(8)
    assert (ratio.diff() > 0).all()


def test_yarn_keeps_fast_pairs_interpolates_slow_ones_and_lengthens_both_sides():
    plain = Rotary(64)
    scaled = Rotary(64, scaling="yarn", factor=8.0, trained_length=512)
    turns = 512 * plain.frequencies() / (2 * math.pi)
    ratio = plain.frequencies() / scaled.frequencies()
    torch.testing.assert_close(ratio[turns >= 32], torch.ones_like(ratio[turns >= 32]))
    torch.testing.assert_close(ratio[turns <= 1], torch.full_like(ratio[turns <= 1], 8.0))
    between = (turns > 1) & (turns < 32)
    assert int(between.sum()) > 3
    keep = (turns[between] - 1) / 31  # from 1 turn, all interpolated, to 32, all kept
    theta = plain.frequencies()[between]
    torch.testing.assert_close(scaled.frequencies()[between], keep * theta + (1 - keep) * theta / 8)
    x = torch.randn(5, 64)
    grown = scaled(x).norm(dim=-1) / x.norm(dim=-1)
    torch.testing.assert_close(grown, torch.full_like(grown, 0.1 * math.log(8) + 1))


def test_rotary_passes_gradcheck():
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Rotary(4)(x, offset=2), (x,))


def test_alibi_slopes_are_those_of_the_papers_code_for_any_number_of_heads():
    eight = [2.0**-h for h in range(1, 9)]
    assert alibi_slopes(8).tolist() == eight
    assert alibi_slopes(1).tolist() == [2.0**-8]
    twelve = [*eight, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    torch.testing.assert_close(alibi_slopes(12), torch.tensor(twelve))
    three = [2.0**-4, 2.0**-8, 2.0**-2]  # two heads, then the first of four
    assert alibi_slopes(3).tolist() == three


def test_alibi_takes_the_slope_times_the_distance_off_each_score(device):
    bias = alibi(3, 2, 5, offset=2, device=device, dtype=torch.float64)
    slopes = alibi_slopes(3).tolist()
    for h, slope in enumerate(slopes):
        for i in range(2):
            expected = [-slope * abs(i + 2 - j) for j in range(5)]
            assert bias[h, i].tolist() == pytest.approx(expected)
    assert alibi(2, 4).shape == (2, 4, 4)


def test_alibi_in_float64_has_slopes_of_that_precision():
    found = -alibi(12, 1, 2, dtype=torch.float64)[8:, 0, 1]
    expected = torch.tensor([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sinusoidal(-1, 4), "T = -1, D = 4"),
        (lambda: sinusoidal(2, 0), "D = 0"),
        (lambda: sinusoidal(2, 4, base=1.0), "base = 1.0"),
        (lambda: LearnedPositions(0, 4), "got 0 and 4"),
        (lambda: LearnedPositions(4, 0), "got 4 and 0"),
        (lambda: LearnedPositions(4, 2)(torch.randn(3, 2), offset=2), "2 to 4 asked .* 0 to 3"),
        (lambda: LearnedPositions(4, 2)(torch.randn(3, 2), offset=-1), "-1 to 1 asked"),
        (lambda: LearnedPositions(4, 2)(torch.randn(2)), r"need shape \(…, T, 2\), got \(2,\)"),
        (lambda: LearnedPositions(4, 2)(torch.randn(3, 1)), r"\(…, T, 2\), got \(3, 1\)"),
        (
            lambda: LearnedPositions(4, 2)(torch.ones(3, 2).long()),
            "floating point, got torch.int64",
        ),
        (lambda: Rotary(5), "an even head width, got 5"),
        (lambda: Rotary(4, scaling="log"), "unknown scaling 'log'; choose one of none, linear"),
        (lambda: Rotary(4, factor=0.5), "factor ≥ 1, got 10000.0 and 0.5"),
        (lambda: Rotary(4, base=1.0), "base > 1"),
        (lambda: Rotary(2, scaling="ntk"), "at least 4, got 2"),
        (lambda: Rotary(4, scaling="yarn"), "the trained length, got None"),
        (lambda: Rotary(4, scaling="yarn", trained_length=0), "the trained length, got 0"),
        (lambda: Rotary(4)(torch.randn(3, 6)), r"need shape \(…, T, 4\), got \(3, 6\)"),
        (lambda: Rotary(4)(torch.randn(4)), r"need shape \(…, T, 4\), got \(4,\)"),
        (lambda: Rotary(4)(torch.ones(3, 4, dtype=torch.int64)), "must be floating point"),
        (lambda: alibi_slopes(0), "at least 1 head, got 0"),
        (lambda: alibi(2, -1), "T = -1 and S = -1"),
    ],
)
def test_positions_name_what_does_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()
