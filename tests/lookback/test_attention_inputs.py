"""What a model over attention asks of its tokens, vectors and lengths, and how it refuses."""

from __future__ import annotations

import pytest
import torch

from lookback import masks
from lookback.attention.inputs import check_tokens, check_vectors, padding_mask


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (0, 3)])
def test_tokens_from_the_first_to_the_last_of_the_vocabulary_pass(device, shape, dtype):
    tokens = torch.zeros(shape, dtype=dtype, device=device)
    tokens[:, -1] = 4
    check_tokens(tokens, 5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 4), (0, 3, 4)])
def test_sequences_of_vectors_of_the_right_width_pass(device, shape, dtype):
    check_vectors(torch.zeros(shape, dtype=dtype, device=device), 4)


@pytest.mark.parametrize("axes", [(), (6,)])
def test_lengths_close_the_padding_of_tokens_and_of_vectors(device, axes):
    lengths = torch.tensor([4, 1, 3], device=device)
    found = padding_mask(lengths, torch.zeros(3, 4, *axes, device=device))
    assert torch.equal(found, masks.padding(lengths, 4))
    assert found.device.type == device.type


def test_a_batch_without_lengths_has_no_mask_and_an_empty_batch_has_an_empty_one():
    assert padding_mask(None, torch.zeros(3, 4)) is None
    assert padding_mask(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)).shape == (0, 1, 4)


X = torch.zeros(2, 3, 4)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("look", "message"),
    [
        (lambda: check_tokens(X[..., 0], 5), "^tokens must be int64 or int32, got torch.float32$"),
        (lambda: check_tokens(X[..., 0].bool(), 5), "^tokens must be .*, got torch.bool$"),
        (lambda: check_tokens(X[..., 0].byte(), 5), "^tokens must be .*, got torch.uint8$"),
        (lambda: check_tokens(X[..., 0].short(), 5), "^tokens must be .*, got torch.int16$"),
        (lambda: check_tokens(X.long(), 5), r"^tokens need 2 axes \(B, T\), got \(2, 3, 4\)$"),
        (lambda: check_tokens(X[0, 0].long(), 5), r"need 2 axes \(B, T\), got \(4,\)$"),
        (lambda: check_tokens(X[:, :0, 0].long(), 5), "^the sequence is empty: it has 0 tokens$"),
        (
            lambda: check_tokens(torch.tensor([[0, 5]]), 5),
            "^tokens run from 0 to 5, the vocabulary has 5$",
        ),
        (
            lambda: check_tokens(torch.tensor([[-1, 4]]), 5),
            "^tokens run from -1 to 4, the vocabulary has 5$",
        ),
        (lambda: check_vectors(X, 5), r"^vectors need shape \(B, T, 5\), got \(2, 3, 4\)$"),
        (lambda: check_vectors(X[0], 4), r"^vectors need shape \(B, T, 4\), got \(3, 4\)$"),
        (lambda: check_vectors(X[None], 4), r"\(B, T, 4\), got \(1, 2, 3, 4\)$"),
        (lambda: check_vectors(X.long(), 4), "^vectors must be floating point, got torch.int64$"),
        (lambda: check_vectors(X[:, :0], 4), "^the sequence is empty: it has 0 positions$"),
        (
            lambda: padding_mask(torch.tensor([1, 2, 3]), X),
            r"^there are 2 sequences but lengths of shape \(3,\)$",
        ),
        (
            lambda: padding_mask(torch.tensor([[1, 2]]), X),
            r"^there are 2 sequences but lengths of shape \(1, 2\)$",
        ),
        (
            lambda: padding_mask(torch.tensor([2, 0]), X),
            "^every sequence needs at least 1 position, got 0$",
        ),
        (lambda: padding_mask(torch.tensor([2, 4]), X), "^lengths must lie in 0 to 3, .* 2 to 4$"),
    ],
)
def test_inputs_that_do_not_fit_are_named_with_their_numbers(look, message):
    with pytest.raises(ValueError, match=message):
        look()
