"""Digits: scikit-learn's images in two parts, and patches that tile them."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from lookback.data import digits


def test_both_parts_together_are_scikit_learns_images_scaled_to_one():
    train, test = digits.load("train"), digits.load("test", dtype=torch.float64)
    assert train.images.shape == (1497, 8, 8)
    assert test.images.shape == (300, 8, 8)
    assert train.images.dtype == torch.float32
    original = load_digits()
    torch.testing.assert_close(test.images * 16, torch.tensor(original.images[::6]))
    torch.testing.assert_close(test.labels, torch.tensor(original.target[::6]))
    assert sorted([*train.labels.tolist(), *test.labels.tolist()]) == sorted(original.target)
    assert train.images.min() == 0
    assert train.images.max() == 1
    torch.testing.assert_close(train.images[0] * 16, torch.tensor(original.images[1]).float())


def test_patches_tile_the_image_row_by_row():
    image = torch.arange(24.0).view(4, 6)
    assert digits.patches(image, 2).tolist() == [
        [0, 1, 6, 7],
        [2, 3, 8, 9],
        [4, 5, 10, 11],
        [12, 13, 18, 19],
        [14, 15, 20, 21],
        [16, 17, 22, 23],
    ]
    images = torch.randn(2, 3, 8, 8)
    assert digits.patches(images, 4).shape == (2, 3, 4, 16)
    torch.testing.assert_close(digits.patches(images, 4)[1, 2], digits.patches(images[1, 2], 4))
    torch.testing.assert_close(digits.patches(images, 8), images.flatten(-2)[:, :, None])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: digits.load("validation"), "unknown part 'validation'; choose one of train, test"),
        (lambda: digits.patches(torch.ones(8, 8), 3), "3 × 3 do not tile an image of 8 × 8"),
        (lambda: digits.patches(torch.ones(8, 8), 0), "0 × 0 do not tile"),
    ],
)
def test_digits_name_what_does_not_fit(run, message):
    with pytest.raises(ValueError, match=message):
        run()
