"""Random features: unbiased for the kernel, with the stated variance; attention built on them."""

from __future__ import annotations

import pytest
import torch

from attention_cases import assert_same, mask_of, tensors
from lookback import masks
from lookback.efficient import random_features, reference
from lookback.efficient.linear import FORMS
from lookback.efficient.random_features import draw


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def few(n=3, K=4, size=0.4):
    """A few queries and keys, short enough for the variance of the estimate to be measured."""
    return [size * torch.randn(n, K, generator=seeded(s), dtype=torch.float64) for s in (1, 2)]


@pytest.mark.parametrize("orthogonal", [False, True])
def test_features_estimate_the_softmax_kernel_without_bias(orthogonal):
    q, k = few()
    runs, m, omegas = 400, 16, seeded(3)
    estimates = torch.stack(
        [
            random_features.features(q, omega) @ random_features.features(k, omega).mT
            for omega in (
                draw(m, 4, orthogonal=orthogonal, generator=omegas, dtype=q.dtype)
                for _ in range(runs)
            )
        ]
    )
    standard_error = (random_features.variance(q, k, m) / runs).sqrt()
    exact = (q @ k.mT).exp()
    assert ((estimates.mean(0) - exact).abs() < 4 * standard_error).all()
    spread = estimates.var(0) / random_features.variance(q, k, m)
    if orthogonal:
        assert spread.mean() < 0.9
    else:
        torch.testing.assert_close(spread, torch.ones_like(spread), rtol=0, atol=0.4)


def test_without_the_norm_term_the_estimate_would_be_far_off():
    q, k = few()
    omega = draw(20_000, 4, orthogonal=False, generator=seeded(0), dtype=q.dtype)
    exact = (q @ k.mT).exp()
    plain = (q @ omega.mT).exp() @ (k @ omega.mT).exp().mT / len(omega)
    ours = random_features.features(q, omega) @ random_features.features(k, omega).mT
    assert ((ours - exact).abs() / exact).max() < 0.05
    assert ((plain - exact).abs() / exact).max() > 0.1


def test_orthogonal_draws_stand_at_right_angles_and_are_as_long_as_independent_ones():
    omega = draw(2_000, 8, generator=seeded(0), dtype=torch.float64)
    one = omega[:8] / omega[:8].norm(dim=-1, keepdim=True)
    torch.testing.assert_close(one @ one.mT, torch.eye(8, dtype=torch.float64))
    assert abs(omega.square().sum(-1).mean() - 8) < 0.4  # chi-square with 8 degrees of freedom
    assert omega.mean(0).abs().max() < 0.12  # signs are as likely as their opposites
    assert draw(3, 8).shape == (3, 8)


def quadratic(q, k, v, mask, omega, *, scale, causal, offset):
    """Every weight of the estimate in a T × S matrix."""
    omega = omega.to(q.dtype)
    weights = (
        random_features.features(q * scale**0.5, omega)
        @ random_features.features(k * scale**0.5, omega).mT
    )
    if mask is not None:
        weights = weights * mask
    if causal:
        weights = weights * masks.causal(q.shape[-2], k.shape[-2], offset=offset)
    total = weights.sum(-1, keepdim=True)
    return weights @ v / torch.where(total == 0, 1, total)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["none", "padding", "all closed"])
@pytest.mark.parametrize(("causal", "offset", "scale"), [(False, 0, None), (True, 4, 0.3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_attention_by_random_features_is_its_quadratic_equation(
    device, form, kind, causal, offset, scale, dtype
):
    mask = mask_of(kind, 7, 11, device=device)
    omega = draw(16, 4, generator=seeded(0), dtype=torch.float64)
    options = {"causal": causal, "offset": offset}

    def ours(q, k, v):
        return random_features.attention(
            q, k, v, mask, **options, scale=scale, omega=omega, form=form, chunk=3
        )

    def exact(q, k, v):
        return quadratic(q, k, v, mask, omega, scale=0.5 if scale is None else scale, **options)

    assert_same(ours, exact, tensors(7, 11, device=device, dtype=dtype))


def test_the_output_stays_within_the_bound_that_the_worst_kernel_estimate_sets():
    q, k, v = tensors(12, 12, batch=())
    q, k = q / 2, k / 2
    omega = draw(2_048, 4, generator=seeded(0), dtype=q.dtype)
    exact = (q @ k.mT / 2).exp()
    estimate = (
        random_features.features(q / 2**0.5, omega) @ random_features.features(k / 2**0.5, omega).mT
    )
    delta = ((estimate - exact).abs() / exact).max()
    assert delta < 0.5
    out = random_features.attention(q, k, v, omega=omega)
    error = (out - reference.attention(q, k, v)).norm(dim=-1).max()
    assert 0 < error <= 2 * delta / (1 - delta) * v.norm(dim=-1).max()


def test_sixteen_times_the_features_leave_about_a_quarter_of_the_error():
    q, k, v = tensors(16, 16, batch=())
    q, k = q / 2, k / 2  # longer ones have estimates of so heavy a tail that an average says little
    exact = reference.attention(q, k, v)

    def error(m):
        runs = (draw(m, 4, generator=seeded(s), dtype=q.dtype) for s in range(8))
        outs = [random_features.attention(q, k, v, omega=omega) for omega in runs]
        return torch.stack([(out - exact).square().mean() for out in outs]).mean().sqrt()

    assert 2 < error(64) / error(1_024) < 8


def test_long_queries_and_keys_neither_overflow_nor_turn_into_nan():
    q, k, v = (30 * x for x in tensors(9, 9, dtype=torch.float32))
    out = random_features.attention(q, k, v, omega=draw(32, 4))
    assert out.isfinite().all()
    assert out.abs().max() <= v.abs().max() * (1 + 1e-5)


@pytest.mark.parametrize(("T", "S"), [(0, 3), (3, 0)])
def test_an_empty_sequence_gives_an_empty_or_a_zero_result(T, S):
    out = random_features.attention(*tensors(T, S, dtype=torch.float32), omega=draw(8, 4))
    assert out.shape == (2, 3, T, 5)
    assert (out == 0).all()


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda x: draw(0, 4), "m ≥ 1 draws of width K ≥ 1, got 0 and 4"),
        (lambda x: attend(x, omega=draw(8, 3)), r"draws of shape \(8, 3\) do not fit width 4"),
        (lambda x: attend(x, scale=-1.0), "positive, got -1.0"),
        (lambda x: attend(x, form="fast"), "unknown form 'fast'"),
        (lambda x: attend(x, mask=torch.ones(5, 5).bool()), "tells queries apart"),
        (lambda x: random_features.features(x.long(), draw(8, 4)), "need floating point"),
        (lambda x: random_features.variance(x, x, 0), "m ≥ 1 draws, got 0"),
    ],
)
def test_random_features_name_what_does_not_fit(act, message):
    with pytest.raises(ValueError, match=message):
        act(torch.randn(5, 4))


def attend(x, *, mask=None, scale=None, form="chunked", omega=None):
    omega = draw(8, 4) if omega is None else omega
    return random_features.attention(x, x, x, mask, scale=scale, form=form, omega=omega)
