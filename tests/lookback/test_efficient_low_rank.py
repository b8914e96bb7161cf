"""Linformer and Nyström attention against their own matrices, and where they are exact."""

from __future__ import annotations

import pytest
import torch

from attention_cases import assert_same, mask_of, tensors
from lookback.efficient import reference
from lookback.efficient.low_rank import gaussian, linformer, nystrom, pseudo_inverse, segment_means


def softmax(q, k, closed=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return scores.softmax(-1) if closed is None else reference.masked_softmax(scores, ~closed)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("T", "S", "R"), [(7, 11, 4), (5, 5, 5), (1, 6, 1)])
def test_linformer_is_attention_to_its_projected_keys_and_values(device, dtype, T, S, R):
    E, G = (gaussian(R, S, generator=torch.Generator().manual_seed(s)).to(device) for s in (0, 1))

    def ours(q, k, v):
        return linformer(q, k, v, project_k=E.to(q.dtype), project_v=G.to(q.dtype))

    def exact(q, k, v):
        E_, G_ = (x.to(dtype).to(q.dtype) for x in (E, G))
        return softmax(q, E_ @ k) @ (G_ @ v)

    inputs = tensors(T, S, device=device, dtype=dtype)
    if dtype == torch.bfloat16:  # mixing rounds keys before they meet a query: compare the output
        error = ours(*inputs).double() - exact(*(x.double() for x in inputs))
        assert error.abs().max() < 0.1
    else:
        assert_same(ours, exact, inputs)


def test_linformer_leaves_closed_keys_out_of_every_mixture():
    q, k, v = tensors(5, 8)
    mask = mask_of("padding", 5, 8)
    E = segment_means(4, 8, dtype=torch.float64)
    out = linformer(q, k, v, mask, project_k=E)
    changed = [x + 10 * ~mask.mT for x in (k, v)]
    torch.testing.assert_close(linformer(q, *changed, mask, project_k=E), out)
    assert (out[0, 1] == 0).all()  # no key at all
    # one sequence of 4 real tokens: two whole segments of two, the others closed
    one = softmax(q[1, 0], E[:2, :4] @ k[1, 0, :4]) @ (E[:2, :4] @ v[1, 0, :4])
    torch.testing.assert_close(out[1, 0], one)


def test_one_projection_a_head_broadcasts_over_the_batch():
    q, k, v = tensors(5, 8)
    E = torch.randn(3, 4, 8, dtype=torch.float64)
    out = linformer(q, k, v, project_k=E)
    torch.testing.assert_close(out[:, 1], linformer(q[:, 1], k[:, 1], v[:, 1], project_k=E[1]))


def test_segment_means_stay_within_the_bound_that_the_scores_inside_a_segment_set():
    q, k, v = tensors(6, 12, batch=())
    k = k[::3].repeat_interleave(3, 0) + 0.1 * k
    E = segment_means(4, 12, dtype=q.dtype)
    eta = (q @ (k - (E @ k).repeat_interleave(3, 0)).mT / 2).abs().max()
    error = linformer(q, k, v, project_k=E) - reference.attention(q, k, v)
    bound = (2 * eta).expm1() * v.norm(dim=-1).max()
    assert 0 < error.norm(dim=-1).max() <= bound
    assert bound < 3 * v.norm(dim=-1).max()


def nystrom_by_hand(q, k, v, R):
    P_q, P_k = (segment_means(R, x.shape[-2], dtype=q.dtype, device=q.device) for x in (q, k))
    middle = softmax(P_q @ q, P_k @ k)
    return (softmax(q, P_k @ k) @ torch.linalg.pinv(middle) @ softmax(P_q @ q, k)) @ v


@pytest.mark.parametrize(("T", "S", "R"), [(7, 11, 3), (6, 6, 2), (9, 5, 4)])
def test_nystrom_attention_is_the_product_of_its_three_matrices(device, T, S, R):
    inputs = tensors(T, S, device=device)
    mine, theirs = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    out, expected = nystrom(*mine, landmarks=R), nystrom_by_hand(*theirs, R)
    # the inverse amplifies rounding by the condition number of the middle matrix
    torch.testing.assert_close(out, expected, rtol=1e-7, atol=1e-7)
    grads = torch.autograd.grad(out.square().sum(), mine)
    wanted = torch.autograd.grad(expected.square().sum(), theirs)
    for g, w in zip(grads, wanted, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-5)


def test_nystrom_is_exact_where_every_token_is_a_landmark():
    q, k, v = tensors(6, 6)
    exact = reference.attention(q, k, v)
    torch.testing.assert_close(nystrom(q, k, v, landmarks=6), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("iterations", [None, 24])
def test_both_are_exact_where_tokens_are_equal_inside_segments(iterations):
    q, k, v = tensors(12, 12)
    q, k = (x[..., ::3, :].repeat_interleave(3, -2) for x in (q, k))
    exact = reference.attention(q, k, v)
    close = {"rtol": 1e-6, "atol": 1e-6}
    out = nystrom(q, k, v, landmarks=4, iterations=iterations)
    torch.testing.assert_close(out, exact, **close)
    E = segment_means(4, 12, dtype=q.dtype)
    torch.testing.assert_close(linformer(q, k, v, project_k=E), exact, **close)


def test_nystrom_leaves_closed_keys_out_and_an_empty_row_zero():
    q, k, v = tensors(6, 8)
    mask = mask_of("padding", 6, 8)
    out = nystrom(q, k, v, mask, landmarks=4)
    changed = [x + 10 * ~mask.mT for x in (k, v)]
    torch.testing.assert_close(nystrom(q, *changed, mask, landmarks=4), out)
    assert (out[0, 1] == 0).all()
    # one open key is all there is to return
    torch.testing.assert_close(out[0, 2], v[0, 2, :1].expand(6, 5))


@pytest.mark.parametrize("iterations", [None, 6])
def test_a_nan_stays_in_its_own_part_of_the_batch(iterations):
    q, k, v = tensors(6, 8)
    plain = nystrom(q, k, v, landmarks=3, iterations=iterations)
    q[1, 2, 0, 0] = float("nan")
    out = nystrom(q, k, v, landmarks=3, iterations=iterations)
    assert out[1, 2].isnan().all()
    out[1, 2] = plain[1, 2]
    torch.testing.assert_close(out, plain)


def test_more_landmarks_bring_the_output_nearer_to_softmax_attention():
    q, k, v = tensors(48, 48, K=8, batch=(4,))
    exact = reference.attention(q, k, v)
    errors = [(nystrom(q, k, v, landmarks=R) - exact).norm() for R in (4, 24, 48)]
    assert errors[0] > errors[2]
    assert errors[2] < 1e-6 < errors[1]


def test_the_iterated_inverse_approaches_the_moore_penrose_inverse():
    a = torch.randn(3, 5, 5, dtype=torch.float64).softmax(-1)
    exact = torch.linalg.pinv(a)
    errors = [(pseudo_inverse(a, n) - exact).norm() for n in (0, 6, 30)]
    assert errors[0] > errors[1] > errors[2]
    torch.testing.assert_close(pseudo_inverse(a, 40), exact, rtol=1e-6, atol=1e-6)
    assert (pseudo_inverse(torch.zeros(2, 2), 3) == 0).all()


def test_segment_means_average_neighbours_as_equally_as_can_be():
    E = segment_means(3, 8)
    assert (E > 0).sum(-1).tolist() == [3, 3, 2]
    torch.testing.assert_close(E @ torch.ones(8), torch.ones(3))
    assert (E @ torch.arange(8.0)).tolist() == [1.0, 4.0, 6.5]


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda q: linformer(q, q, q, causal=True, project_k=gaussian(2, 5)), "cannot be causal"),
        (lambda q: nystrom(q, q, q, causal=True, landmarks=2), "cannot be causal"),
        (lambda q: linformer(q, q, q, project_k=gaussian(2, 6)), r"\(2, 6\) does not fit 5 keys"),
        (lambda q: linformer(q, q, q, project_k=torch.ones(3, 2, 5)), r"batch \(2,\)"),
        (lambda q: linformer(q, q, q, project_k=gaussian(2, 5).double()), "give both one dtype"),
        (
            lambda q: linformer(q, q, q, project_k=gaussian(2, 5), project_v=gaussian(3, 5)),
            "keys are mixed into 2, values into 3",
        ),
        (lambda q: nystrom(q, q, q, landmarks=6), "need 1 to 5 landmarks .* got 6"),
        (lambda q: nystrom(q, q, q, landmarks=0), "got 0"),
        (lambda q: nystrom(q, q, q, torch.ones(5, 5).bool(), landmarks=2), "tells queries apart"),
        (lambda q: segment_means(6, 5), "need 1 to 5 segments of 5 tokens, got 6"),
        (lambda q: gaussian(0, 5), "need R ≥ 1 and S ≥ 1, got 0 and 5"),
        (lambda q: pseudo_inverse(q, 2), r"need square matrices.* \(2, 5, 4\)"),
        (lambda q: pseudo_inverse(q[0, 0], 2), r"need square matrices.* \(4,\)"),
        (lambda q: pseudo_inverse(q[:, :4].long(), 2), "floating point, .* torch.int64 and 2"),
    ],
)
def test_low_rank_attention_names_what_does_not_fit(act, message):
    with pytest.raises(ValueError, match=message):
        act(torch.randn(2, 5, 4))
