"""Loaders: every example once, padded as little as may be, in an order that a seed decides."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lookback.data.loaders import (
    Batch,
    SeededBatches,
    collate,
    pad,
    pair_loader,
    window_loader,
)
from lookback.data.vocabulary import BOS, EOS, IGNORE, PAD


def some_pairs(n: int = 200, longest: int = 30):
    lengths = torch.randint(1, longest, (n,), generator=torch.Generator().manual_seed(0)).tolist()
    return [([4 + k] * length, [4 + k] * (length // 2)) for k, length in enumerate(lengths)]


def test_padding_goes_behind_and_lengths_count_what_is_real():
    padded, lengths = pad([[5, 6], [], [7]], value=-1, length=3)
    assert padded.tolist() == [[5, 6, -1], [-1, -1, -1], [7, -1, -1]]
    assert lengths.tolist() == [2, 0, 1]
    assert pad([[5, 6], [7]])[0].tolist() == [[5, 6], [7, PAD]]
    assert pad([[], []])[0].shape == (2, 0)
    assert pad([[], []], length=1)[0].tolist() == [[PAD], [PAD]]


def test_targets_stand_one_step_ahead_of_the_decoders_input():
    batch = collate([([5, 6, 7], [8]), ([9], [10, 11])])
    assert batch.source.tolist() == [[5, 6, 7], [9, PAD, PAD]]
    assert batch.source_lengths.tolist() == [3, 1]
    assert batch.decoder_input.tolist() == [[BOS, 8, PAD], [BOS, 10, 11]]
    assert batch.target.tolist() == [[8, EOS, IGNORE], [10, 11, EOS]]


def test_a_batch_moves_whole_to_another_device(device):
    batch = collate([([5], [6])]).to(device)
    assert isinstance(batch, Batch)
    assert all(x.device.type == device.type for x in batch)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=120),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_an_epoch_holds_every_example_once_but_for_a_dropped_rest(
    lengths, size, shuffle, bucketed, drop_last
):
    batches = SeededBatches(
        lengths, size, shuffle=shuffle, bucketed=bucketed, drop_last=drop_last, seed=3
    )
    seen = list(batches)
    assert len(seen) == len(batches)
    flat = [n for batch in seen for n in batch]
    assert len(flat) == len(set(flat)) == len(lengths) - (len(lengths) % size) * drop_last
    assert sum(len(batch) < size for batch in seen) == (len(lengths) % size > 0 and not drop_last)


def test_orders_differ_from_epoch_to_epoch_and_an_epoch_can_be_repeated():
    batches = SeededBatches(range(50), 4, seed=1, bucketed=False)
    first, second = list(batches), list(batches)
    assert first != second
    again = SeededBatches(range(50), 4, seed=1, bucketed=False)
    again.set_epoch(1)
    assert list(again) == second
    assert list(SeededBatches(range(50), 4, seed=2, bucketed=False)) != first


def test_orders_do_not_depend_on_the_default_device():
    wanted = list(SeededBatches(range(50), 4, seed=1))
    with torch.device("meta"):  # where no number can be drawn
        assert list(SeededBatches(range(50), 4, seed=1)) == wanted


def test_buckets_pad_far_less_and_are_still_shuffled():
    pairs = some_pairs()

    def padding(bucketed: bool) -> float:
        loader = pair_loader(pairs, 10, bucketed=bucketed)
        return sum((batch.source == PAD).sum().item() for batch in loader)

    assert padding(True) < 0.15 * padding(False)
    lengths = [batch.source.shape[1] for batch in pair_loader(pairs, 10)]
    assert lengths != sorted(lengths)
    ordered = [b.source.shape[1] for b in pair_loader(pairs, 10, shuffle=False)]
    assert ordered == sorted(ordered)
    plain = pair_loader(pairs, 10, shuffle=False, bucketed=False)
    assert next(iter(plain)).source[:, 0].tolist() == list(range(4, 14))


def test_sources_and_targets_of_a_pair_stay_together():
    for batch in pair_loader(some_pairs(), 16):
        short = batch.target[:, 0] == EOS  # targets of no token
        assert torch.equal(batch.source[~short, 0], batch.target[~short, 0])


def test_windows_cover_the_text_with_targets_one_token_ahead():
    ids = torch.arange(23)
    loader = window_loader(ids, 5, 2, shuffle=False)
    inputs, targets = (torch.cat(x) for x in zip(*loader, strict=True))
    assert inputs.tolist() == ids[:20].view(4, 5).tolist()
    torch.testing.assert_close(targets, inputs + 1)
    shuffled = torch.cat([x for x, _ in window_loader(ids, 5, 2, seed=1)])
    assert sorted(shuffled.flatten().tolist()) == list(range(20))
    assert len(window_loader(torch.arange(21), 5, 3, drop_last=True)) == 1


def test_two_processes_of_accelerate_share_an_epoch_without_overlap():
    from accelerate.data_loader import BatchSamplerShard

    pairs = some_pairs(40)
    shards = [
        BatchSamplerShard(pair_loader(pairs, 5, seed=4).batch_sampler, 2, rank) for rank in (0, 1)
    ]
    whole = list(pair_loader(pairs, 5, seed=4).batch_sampler)
    seen = [list(shard) for shard in shards]
    assert seen[0] == whole[0::2]
    assert seen[1] == whole[1::2]


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: pad([]), "there is no sequence to pad"),
        (lambda: pad([[1, 2, 3]], length=2), "a sequence of 3 tokens does not fit into 2"),
        (lambda: collate([([1], [2]), ([], [3])]), "pair 1 of 2 has an empty source"),
        (lambda: pad([[1, 2], [1.5]]), "tokens must be integers, got torch.float32"),
        (lambda: pad([[True], [False, True]]), "tokens must be integers, got torch.bool"),
        (lambda: pair_loader([([1], [2]), ([], [3])], 1), "pair 1 of 2 has an empty source"),
        (lambda: pair_loader([], 2), "there is no example to load"),
        (lambda: pair_loader([([1], [2])], 0), "at least 1 example, got 0"),
        (lambda: window_loader(torch.arange(5), 5, 1), "5 tokens has no piece of 5"),
        (lambda: window_loader(torch.arange(5), 0, 1), "at least 1 token, got 0"),
        (lambda: window_loader(torch.rand(5), 2, 1), "one row of integers, got torch.float32"),
        (lambda: window_loader(torch.ones(5).bool(), 2, 1), "integers, got torch.bool"),
        (lambda: window_loader(torch.ones(2, 5).long(), 2, 1), r"got torch.int64 \(2, 5\)"),
    ],
)
def test_loaders_name_what_does_not_fit(run, message):
    with pytest.raises(ValueError, match=message):
        run()
