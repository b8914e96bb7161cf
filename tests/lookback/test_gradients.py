"""Jacobians against autograd, their growth against theory, starts and clipping against torch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from conftest import tolerance
from lookback.gradients import (
    clip_by_global_norm,
    gradient_norm_by_distance,
    gru_jacobian,
    identity,
    influence,
    influence_by_position,
    jacobian_products,
    lstm_jacobian,
    lyapunov_rate,
    orthogonal,
    rnn_jacobian,
    slope,
    spectral_radius,
    step_jacobian,
    weight_gradients_by_step,
    with_spectral_radius,
)
from lookback.recurrent import GRU, LSTM, RNN, gru_step, lstm_gates, lstm_step, rnn_step

PHI = ["tanh", "relu", "linear"]
double = {"dtype": torch.float64}


def weights(gates: int = 1, I: int = 2, D: int = 3) -> list[torch.Tensor]:  # noqa: E741
    shapes = ((gates * D, I), (gates * D, D), (gates * D,), (gates * D,))
    return [torch.randn(shape, **double) for shape in shapes]


@pytest.mark.parametrize("phi", PHI)
def test_the_analytic_jacobian_is_autograds_for_an_asymmetric_weight(device, phi):
    W_ih, W_hh, b_ih, b_hh = (w.to(device) for w in weights())
    x_t, h = (torch.randn(4, n, device=device, **double) for n in (2, 3))

    def step(x_t, h):
        return rnn_step(x_t, h, W_ih, W_hh, b_ih, b_hh, nonlinearity=phi)

    mine = rnn_jacobian(step(x_t, h), W_hh, nonlinearity=phi)
    for n in range(4):
        by_autograd = torch.autograd.functional.jacobian(lambda h, n=n: step(x_t[n], h), h[n])
        torch.testing.assert_close(mine[n], by_autograd)
        torch.testing.assert_close(step_jacobian(lambda h, n=n: step(x_t[n], h), h[n]), by_autograd)


def test_a_saturated_tanh_passes_nothing_and_relu_all_or_nothing():
    h_t = torch.tensor([0.0, 0.6, -1.0])
    torch.testing.assert_close(slope(h_t), torch.tensor([1.0, 0.64, 0.0]))
    torch.testing.assert_close(slope(h_t, nonlinearity="relu"), torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(slope(h_t, nonlinearity="linear"), torch.ones(3))


def test_step_jacobian_takes_any_batch_of_states():
    W = torch.randn(5, 3, **double)
    state = torch.randn(2, 4, 3, **double)
    jacobian = step_jacobian(lambda s: torch.sin(W @ s), state)
    torch.testing.assert_close(jacobian, (state @ W.T).cos()[..., None] * W)


def test_gated_jacobians_are_autograds_and_the_cells_direct_way_is_the_forget_gate():
    lstm, gru = weights(4), weights(3)
    x_t, h, c = torch.randn(2, **double), torch.randn(3, **double), torch.randn(3, **double)
    blocks = torch.autograd.functional.jacobian(lambda h, c: lstm_step(x_t, (h, c), *lstm), (h, c))
    expected = torch.cat([torch.cat(row, 1) for row in blocks])
    J = lstm_jacobian(x_t, (h, c), *lstm)
    torch.testing.assert_close(J, expected)
    torch.testing.assert_close(J[3:, 3:], lstm_gates(x_t, h, *lstm).f.diag())
    torch.testing.assert_close(
        gru_jacobian(x_t, h, *gru[:2]),
        torch.autograd.functional.jacobian(lambda h: gru_step(x_t, h, *gru[:2]), h),
    )


@pytest.mark.parametrize("phi", PHI)
def test_products_are_the_derivative_of_the_last_state_by_every_earlier_one(phi):
    W_ih, W_hh, *_ = weights()
    x, h = torch.randn(5, 2, **double), torch.randn(3, **double)

    def run(h, start):
        for x_t in x[start:]:
            h = rnn_step(x_t, h, W_ih, W_hh, nonlinearity=phi)
        return h

    states = [h]
    for x_t in x:
        states.append(rnn_step(x_t, states[-1], W_ih, W_hh, nonlinearity=phi))
    products = jacobian_products(rnn_jacobian(torch.stack(states[1:]), W_hh, nonlinearity=phi))
    for k in range(6):
        expected = torch.autograd.functional.jacobian(
            lambda h, k=k: run(h, 5 - k), states[5 - k], strict=False
        )
        torch.testing.assert_close(products[k], expected)


def test_norms_by_distance_keep_the_batch_and_start_at_the_identity():
    jacobians = torch.randn(4, 2, 3, 3, **double)
    spectral = gradient_norm_by_distance(jacobians)
    frobenius = gradient_norm_by_distance(jacobians, norm="frobenius")
    assert spectral.shape == frobenius.shape == (5, 2)
    torch.testing.assert_close(spectral[0], torch.ones(2, **double))
    torch.testing.assert_close(frobenius[0], torch.full((2,), math.sqrt(3), **double))
    whole = jacobians[3, 1] @ jacobians[2, 1] @ jacobians[1, 1] @ jacobians[0, 1]
    torch.testing.assert_close(spectral[4, 1], torch.linalg.matrix_norm(whole, 2))
    torch.testing.assert_close(frobenius[4, 1], whole.norm())


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.5])
def test_a_linear_recurrence_grows_at_its_spectral_radius(radius):
    W = with_spectral_radius(torch.randn(8, 8, **double), radius)
    rate = lyapunov_rate(W.expand(400, 8, 8), skip=100)
    torch.testing.assert_close(rate, torch.tensor(radius, **double), rtol=0.02, atol=0)


def test_an_orthogonal_recurrence_grows_at_its_gain_from_the_first_step():
    W = orthogonal(6, gain=0.9, **double)
    for skip in (0, 3):
        rate = lyapunov_rate(W.expand(10, 2, 6, 6), skip=skip)
        torch.testing.assert_close(rate, torch.full((2,), 0.9, **double))
    torch.testing.assert_close(
        gradient_norm_by_distance(W.expand(10, 6, 6)), 0.9 ** torch.arange(11.0, **double)
    )


def test_a_driven_tanh_network_vanishes_although_its_spectral_radius_is_above_one():
    W = with_spectral_radius(torch.randn(32, 32, **double), 1.5)
    h, states = torch.zeros(32, **double), []
    for _ in range(200):
        h = torch.tanh(W @ h + torch.randn(32, **double))
        states.append(h)
    rate = lyapunov_rate(rnn_jacobian(torch.stack(states), W), skip=50)
    assert 0.6 < rate < 0.97


def test_a_rate_neither_underflows_nor_hides_nan_and_a_zero_product_has_rate_zero():
    small = 1e-10 * torch.eye(2)
    rate = lyapunov_rate(small.expand(50, 2, 2))
    torch.testing.assert_close(rate, torch.tensor(1e-10), rtol=1e-4, atol=0)
    nilpotent = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert lyapunov_rate(nilpotent.expand(5, 2, 2)) == 0
    assert lyapunov_rate(torch.full((3, 2, 2), float("nan"))).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_matrix_that_is_not_finite_has_no_radius_and_leaves_its_neighbours_theirs(dtype, bad):
    W = torch.eye(16, dtype=dtype) * torch.tensor([2.0, 1.0, 4.0], dtype=dtype)[:, None, None]
    W[1] = bad  # given to LAPACK, this would end the process
    radius = spectral_radius(W)
    assert radius.dtype == dtype
    assert radius[[0, 2]].tolist() == [2.0, 4.0]
    assert radius[1].isnan()


@pytest.mark.parametrize("norm", ["spectral", "frobenius"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_by_distance_follow_a_product_until_it_overflows_and_beyond(norm, dtype):
    W = torch.tensor([1.0, 0.5, float("nan")], dtype=dtype)[:, None, None].expand(3, 2, 2)
    reach = gradient_norm_by_distance(W.expand(150, 3, 2, 2), norm=norm)
    assert reach.dtype == dtype
    doubled = 2.0 ** torch.arange(1, 60, dtype=dtype)
    torch.testing.assert_close(reach[1:60, 0], doubled, **tolerance(dtype))
    assert (reach[140:, 0] == float("inf")).all()
    torch.testing.assert_close(reach[1:, 1], torch.ones(150, dtype=dtype))
    assert reach[1:, 2].isnan().all()


def test_the_spectral_radius_is_the_largest_eigenvalue_not_the_largest_singular_value():
    W = torch.tensor([[[0.5, 100.0], [0.0, -2.0]], [[0.0, -3.0], [3.0, 0.0]]])
    torch.testing.assert_close(spectral_radius(W), torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(
        spectral_radius(with_spectral_radius(W, 0.7)), torch.tensor([0.7, 0.7])
    )


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_an_orthogonal_start_is_torchs_and_orthonormal_along_its_shorter_side(rows, columns, seed):
    mine = orthogonal(rows, columns, gain=2.0, generator=torch.Generator().manual_seed(seed))
    twin = nn.init.orthogonal_(
        torch.empty(rows, columns), gain=2.0, generator=torch.Generator().manual_seed(seed)
    )
    torch.testing.assert_close(mine, twin)
    gram = mine @ mine.T if rows <= columns else mine.T @ mine
    torch.testing.assert_close(gram, 4 * torch.eye(min(rows, columns)), rtol=1e-4, atol=1e-4)


def test_starts_follow_the_dtype_and_device_they_are_given(device):
    for start in (orthogonal(3, dtype=torch.float64, device=device), identity(3, device=device)):
        assert start.device.type == device.type
    torch.testing.assert_close(identity(3, gain=0.5), 0.5 * torch.eye(3))


@pytest.mark.parametrize("max_norm", [0.5, 1e4])
def test_clipping_gives_torchs_numbers_and_leaves_its_argument_alone(device, max_norm):
    layer = nn.LSTM(3, 4).to(device)
    layer(torch.randn(5, 2, 3, device=device))[0].square().sum().mul(50).backward()
    layer.register_parameter("unused", nn.Parameter(torch.zeros(2, device=device)))
    grads = [p.grad for p in layer.parameters()]
    before = [None if g is None else g.clone() for g in grads]

    clipped, norm = clip_by_global_norm(grads, max_norm)
    for g, b in zip(grads, before, strict=True):
        assert g is b is None or torch.equal(g, b)
    expected_norm = nn.utils.clip_grad_norm_(layer.parameters(), max_norm)
    torch.testing.assert_close(norm, expected_norm)
    for mine, p in zip(clipped, layer.parameters(), strict=True):
        assert mine is p.grad is None or torch.allclose(mine, p.grad, rtol=1e-6, atol=0)


def test_clipping_keeps_the_direction_of_all_gradients_together_and_short_ones_as_they_are():
    long, short = [torch.tensor([30.0, 0.0]), torch.tensor([40.0])], [torch.tensor([0.3])]
    clipped, norm = clip_by_global_norm(long, 5.0)
    assert norm == 50
    torch.testing.assert_close(torch.cat(clipped), torch.tensor([3.0, 0.0, 4.0]))
    assert torch.equal(clip_by_global_norm(short, 5.0)[0][0], short[0])
    assert clip_by_global_norm([torch.tensor([float("nan"), 1.0])], 1.0)[0][0].isnan().all()


def test_influence_is_the_norm_of_the_jacobian_block_of_each_example():
    layer = GRU(2, 3).double()
    x = torch.randn(2, 4, 2, **double)
    J = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x)  # B T D B T I
    reach = influence_by_position(lambda x: layer(x)[0], x, 2)
    for b in range(2):
        for i in range(4):
            torch.testing.assert_close(reach[b, i], J[b, 2, :, b, i].norm())
    torch.testing.assert_close(influence(lambda x: layer(x)[0], x, 1, 2), reach[:, 1])
    assert (reach[:, 3] == 0).all()
    assert not x.requires_grad


def test_influence_is_zero_where_the_output_ignores_the_input_and_works_without_grad_mode():
    x = torch.randn(2, 4, 3)
    assert (influence_by_position(lambda x: torch.ones(2, 4, 1), x) == 0).all()
    parameter = torch.ones(1, requires_grad=True)
    assert (influence_by_position(lambda x: parameter.expand(2, 4, 1), x) == 0).all()
    with torch.no_grad():
        reach = influence_by_position(lambda x: 3 * x, x)
    torch.testing.assert_close(reach[:, 3], torch.full((2,), 3 * math.sqrt(3)))
    assert (reach[:, :3] == 0).all()


def test_influence_of_an_rnn_falls_with_distance_as_its_product_of_jacobians():
    layer = RNN(2, 4, bias=False).double()
    with torch.no_grad():
        layer.weight_hh_l0.copy_(identity(4, gain=0.5))
        layer.weight_ih_l0.copy_(torch.eye(4, 2))
    x = 1e-4 * torch.randn(1, 6, 2, **double)  # so small that tanh is linear
    reach = influence_by_position(lambda x: layer(x)[0], x)[0]
    expected = math.sqrt(2) * 0.5 ** torch.arange(5.0, -1.0, -1.0, **double)
    torch.testing.assert_close(reach, expected, rtol=1e-5, atol=0)


def test_the_gradients_of_every_use_of_a_weight_add_up_to_its_own():
    W_ih, W_hh, b_ih, b_hh = weights()
    x, h = torch.randn(5, 4, 2, **double), torch.zeros(4, 3, **double)

    def step(x_t, h, W):
        return rnn_step(x_t, h, W_ih, W, b_ih, b_hh)

    split = weight_gradients_by_step(step, x, h, W_hh, lambda states: states[-1].square().sum())
    W = W_hh.clone().requires_grad_()
    state = h
    for x_t in x:
        state = step(x_t, state, W)
    state.square().sum().backward()
    torch.testing.assert_close(split.sum(0), W.grad, **tolerance(torch.float64))
    assert (split[0] == 0).all()  # the first state is zero, and the gradient a product with it
    assert (split[1:].abs().sum((1, 2)) > 0).all()
    early = weight_gradients_by_step(step, x, h, W_hh, lambda states: states[1].sum())
    assert (early[2:] == 0).all()


square, tall = torch.randn(3, 3), torch.randn(3, 2)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: slope(square, nonlinearity="sine"), "unknown nonlinearity 'sine'"),
        (lambda: slope(square.long()), "h_t must be floating point, got torch.int64"),
        (lambda: rnn_jacobian(square, tall), r"W_hh must be \(3, 3\) .* got \(3, 2\)"),
        (lambda: rnn_jacobian(square.sum(), tall), r"W_hh must be \(0, 0\)"),
        (lambda: step_jacobian(torch.sin, square.long()), "state must be floating point"),
        (
            lambda: lstm_jacobian(square[0], (square[0], tall[:, 0][:2]), *weights(4, 3, 3)),
            r"h and c must be one state each, \(D,\), got \(3,\) and \(2,\)",
        ),
        (
            lambda: lstm_jacobian(square[0], (square, square), *weights(4, 3, 3)),
            r"got \(3, 3\) and \(3, 3\)",
        ),
        (lambda: jacobian_products(square), r"must be \(T, …, D, D\), got \(3, 3\)"),
        (lambda: jacobian_products(tall[None]), r"got \(1, 3, 2\)"),
        (lambda: jacobian_products(square[None][:0]), "needs a Jacobian or more"),
        (lambda: jacobian_products(square[None].long()), "jacobians must be floating point"),
        (lambda: gradient_norm_by_distance(square[None], norm="max"), "unknown norm 'max'"),
        (lambda: lyapunov_rate(square[None], skip=1), "must leave some of 1 Jacobians, got 1"),
        (lambda: spectral_radius(tall), r"only a square matrix .* got \(3, 2\)"),
        (lambda: spectral_radius(square.long()), "W must be floating point"),
        (lambda: with_spectral_radius(square, -1.0), "cannot be negative, got -1.0"),
        (lambda: with_spectral_radius(torch.zeros(2, 2), 1.0), "spectral radius 0"),
        (lambda: orthogonal(0), "needs rows and columns, got 0 × 0"),
        (lambda: identity(0), "a width of at least 1, got 0"),
        (lambda: clip_by_global_norm([square], 0.0), "max_norm must be above 0, got 0.0"),
        (
            lambda: clip_by_global_norm([square, square.long()], 1.0),
            "gradients must be floating point, got torch.int64",
        ),
        (lambda: clip_by_global_norm([None, None], 1.0), "none of 2 parameters has a gradient"),
        (lambda: influence(torch.sin, square[None], 3, 0), "input 3 is out of range: there are 3"),
        (lambda: influence(torch.sin, square[None], 0, 3), "output 3 is out of range"),
        (lambda: influence(torch.sin, square[0], 0, 0), r"got torch.float32 \(3,\)"),
        (lambda: influence(torch.sin, square[0, 0], 0, 0), r"got torch.float32 \(\)"),
        (
            lambda: influence_by_position(torch.sin, square),
            r"got torch.float32 \(3, 3\)",
        ),
        (lambda: influence_by_position(LSTM(3, 2), square[None]), "must return a tensor .* tuple"),
        (
            lambda: weight_gradients_by_step(torch.add, square[:0], square, square, torch.sum),
            "an empty sequence has no gradient",
        ),
        (
            lambda: weight_gradients_by_step(torch.add, square.sum(), square, square, torch.sum),
            r"an empty sequence has no gradient: got shape \(\)",
        ),
        (
            lambda: weight_gradients_by_step(torch.add, square, square, square.long(), torch.sum),
            "W must be floating point, got torch.int64",
        ),
    ],
)
def test_probes_name_what_does_not_fit(run, message):
    with pytest.raises(ValueError, match=message):
        run()
