"""Masks against their definition, entry by entry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lookback import masks

LENGTH = st.integers(0, 6)


@given(LENGTH, LENGTH, st.integers(-3, 4))
@settings(max_examples=40, deadline=None)
def test_a_causal_mask_opens_the_past_and_the_present_of_every_query(T, S, offset):
    mask = masks.causal(T, S, offset=offset)
    expected = [[j <= i + offset for j in range(S)] for i in range(T)]
    assert mask.shape == (T, S)
    assert mask.tolist() == expected


def test_a_causal_mask_without_a_source_length_is_square():
    assert torch.equal(masks.causal(4), torch.ones(4, 4).tril().bool())


@given(LENGTH, LENGTH, st.integers(1, 4), st.integers(0, 3), st.booleans(), st.integers(0, 3))
@example(T=2, S=4, width=1, sinks=1, causal=False, offset=0)  # the first key that is no sink
@settings(max_examples=60, deadline=None)
def test_a_window_holds_its_width_and_its_sinks(T, S, width, sinks, causal, offset):
    mask = masks.window(T, S, width=width, sinks=sinks, causal=causal, offset=offset)

    def open_(i: int, j: int) -> bool:
        near = abs(i + offset - j) <= width - 1 or j < sinks
        return near and (j <= i + offset or not causal)

    assert mask.tolist() == [[open_(i, j) for j in range(S)] for i in range(T)]


def test_a_causal_window_as_wide_as_the_sequence_is_the_causal_mask():
    assert torch.equal(masks.window(5, width=5), masks.causal(5))
    assert not torch.equal(masks.window(5, width=4), masks.causal(5))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_padding_mask_opens_as_many_keys_as_each_sequence_has_tokens(lengths):
    mask = masks.padding(torch.tensor(lengths), 5)
    assert mask.shape == (len(lengths), 1, 5)
    assert mask[:, 0].tolist() == [[j < n for j in range(5)] for n in lengths]


def test_a_padding_mask_keeps_the_batch_axes_of_its_lengths():
    lengths = torch.tensor([[1, 2, 3], [3, 2, 0]])
    mask = masks.padding(lengths, 3)
    assert mask.shape == (2, 3, 1, 3)
    assert torch.equal(mask.sum((-1, -2)), lengths)
    assert masks.padding(torch.zeros(0, dtype=torch.int64), 3).shape == (0, 1, 3)


def test_masks_are_made_where_they_are_asked_for(device):
    assert masks.causal(2, device=device).device.type == device.type
    assert masks.window(2, width=1, device=device).device.type == device.type
    assert masks.padding(torch.tensor([1], device=device), 2).device.type == device.type


def test_masks_are_not_made_on_a_default_device_that_is_elsewhere():
    lengths = torch.tensor([1, 3])
    expected = masks.causal(3), masks.window(3, width=2, sinks=1), masks.padding(lengths, 3)
    with torch.device("meta"):
        made = (
            masks.causal(3, device="cpu"),
            masks.window(3, width=2, sinks=1, device="cpu"),
            masks.padding(lengths, 3),
        )
    for mask, same in zip(made, expected, strict=True):
        assert torch.equal(mask, same)


@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (1, 3), (4, 3), (2, 1, 3), (2, 4, 3)])
def test_check_accepts_what_broadcasts_to_the_scores(shape):
    masks.check(torch.ones(shape, dtype=torch.bool), (2, 4, 3))


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: masks.causal(-1), "cannot be negative, got T = -1 and S = -1"),
        (lambda: masks.causal(2, -3), "got T = 2 and S = -3"),
        (lambda: masks.window(2, -3, width=1), "got T = 2 and S = -3"),
        (lambda: masks.window(2, width=0), "a width of at least 1, got 0"),
        (lambda: masks.window(2, width=1, sinks=-1), "sinks cannot be negative, got -1"),
        (lambda: masks.padding(torch.tensor([1.0]), 2), "must be integers, got torch.float32"),
        (lambda: masks.padding(torch.tensor([True]), 2), "must be integers, got torch.bool"),
        (lambda: masks.padding(torch.tensor([1, 3]), 2), "0 to 2, .* run from 1 to 3"),
        (lambda: masks.padding(torch.tensor([-1, 2]), 2), "0 to 2, .* run from -1 to 2"),
        (lambda: masks.check(torch.ones(2, 2), (2, 2)), "must be boolean .* got torch.float32"),
        (
            lambda: masks.check(torch.ones(5, 2, dtype=torch.bool), (4, 2)),
            r"\(5, 2\) does not broadcast to the scores' \(4, 2\)",
        ),
        (
            lambda: masks.check(torch.ones(3, 4, 2, dtype=torch.bool), (4, 2)),
            r"\(3, 4, 2\) does not broadcast",
        ),
        (
            lambda: masks.check(torch.ones(3, 4, 2, dtype=torch.bool), (1, 4, 2)),
            r"\(3, 4, 2\) does not broadcast",
        ),
    ],
)
def test_masks_name_what_does_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()
